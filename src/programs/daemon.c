/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * The main thread runs the loop of the control thread: front end, control socket, signals, and queues for which no
 * thread is to be had. SIGTERM, SIGINT and SIGHUP begin an orderly end: no request is popped any more, those in flight
 * finish, then the program ends with status 0. A second signal does not wait.
 */
#include "programs/daemon.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "platform/linux/short_text.h"

/* Who may open the control socket may stop the device: the owner alone. */
#define DAEMON_CONTROL_MODE 0600
/* The umask decides about front ends, as it does for QEMU's own sockets. */
#define DAEMON_SOCKET_MODE 0777

const char *const daemon_log_levels[] = {"error", "info", "debug", NULL};

/* The order of enum server_polling. */
const char *const daemon_pollings[] = {"adaptive", "off", "always", NULL};
static_assert(SERVER_POLLING_ADAPTIVE == 0 && SERVER_POLLING_OFF == 1 && SERVER_POLLING_ALWAYS == 2,
              "order of daemon_pollings");

int daemon_complain(int status, const char *name, const char *format, ...)
{
    char text[OPTIONS_ERROR_BYTES * 2];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    fprintf(stderr, "backplane%s%s: %s\n", *name ? " " : "", name, text);
    return status;
}

static int daemon_take_processors(const char *name, struct daemon_options *options)
{
    char error[OPTIONS_ERROR_BYTES];
    const char *text = SHORTENED(options->cpu_affinity);
    if (processor_list_parse(options->cpu_affinity, &options->processors, error, sizeof(error)) < 0)
        return daemon_complain(EXIT_WRONG_USE, name, "--cpu-affinity=%s: %s", text, error);
    if (processor_list_check(&options->processors, error, sizeof(error)) < 0)
        return daemon_complain(EXIT_FAILED, name, "--cpu-affinity=%s: %s", text, error);
    return -1;
}

static int daemon_check(const char *name, struct option *table, size_t count, struct daemon_options *options)
{
    for (size_t i = 0; i < count; i++) {
        if (table[i].value.number == &options->handle)
            options->handle_given = table[i].given;
    }
    if (options->socket_path && options->handle_given)
        return daemon_complain(EXIT_WRONG_USE, name, "--socket-path and --fd are both given; choose one");
    if (!options->socket_path && !options->handle_given)
        return daemon_complain(EXIT_WRONG_USE, name, "where is the front end? Give --socket-path=PATH or --fd=N");
    if (options->socket_path && options->control_path && strcmp(options->socket_path, options->control_path) == 0)
        return daemon_complain(EXIT_WRONG_USE, name, "--socket-path and --control-path are the same; choose another");
    /* Before anything is opened that could get this number. */
    if (options->handle_given && fcntl((int)options->handle, F_GETFD) < 0)
        return daemon_complain(EXIT_FAILED, name, "cannot serve at --fd=%llu: %s; hand a Unix stream socket down",
                               (unsigned long long)options->handle, strerror(errno));
    return options->cpu_affinity ? daemon_take_processors(name, options) : -1;
}

int daemon_parse(const char *name, const char *usage, struct option *table, size_t count, char **arguments,
                 int argument_count, struct daemon_options *options)
{
    char error[OPTIONS_ERROR_BYTES];
    if (options_ask(arguments, argument_count, "help")) {
        fputs(usage, stdout);
        options_print(table, count);
        return EXIT_DONE;
    }
    if (options_parse(table, count, arguments, argument_count, NULL, 0, error, sizeof(error)) < 0)
        return daemon_complain(EXIT_WRONG_USE, name, "%s", error);
    return daemon_check(name, table, count, options);
}

static void daemon_signal_set(sigset_t *ret_signals)
{
    sigemptyset(ret_signals);
    sigaddset(ret_signals, SIGTERM);
    sigaddset(ret_signals, SIGINT);
    /* Who starts us by nohup wants us to stay. */
    struct sigaction hangup;
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN)
        sigaddset(ret_signals, SIGHUP);
}

void daemon_take_signals(void)
{
    sigset_t signals;
    daemon_signal_set(&signals);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
}

void daemon_stop(struct daemon *daemon)
{
    if (daemon->stopping)
        return;
    daemon->stopping = true;
    vhost_user_server_stop(&daemon->server);
}

static void daemon_signalled(struct loop_watch *watch, unsigned events)
{
    struct daemon *daemon = container_of(watch, struct daemon, signal_watch);
    struct signalfd_siginfo information;
    (void)events;
    if (read(watch->handle, &information, sizeof(information)) != sizeof(information))
        return;
    if (daemon->stopping) {
        log_line(&daemon->log, LOG_LEVEL_ERROR, "stopped before all requests had finished");
        _exit(EXIT_FAILED);
    }
    daemon_stop(daemon);
}

static void daemon_ended(void *context)
{
    struct daemon *daemon = context;
    loop_stop(&daemon->loop);
}

static int daemon_watch_signals(struct daemon *daemon)
{
    sigset_t signals;
    daemon_signal_set(&signals);
    int handle = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    int r =
        handle < 0 ? -errno : loop_watch(&daemon->loop, &daemon->signal_watch, handle, LOOP_READABLE, daemon_signalled);
    if (r < 0)
        daemon_complain(0, daemon->device->name, "cannot wait for signals: %s", strerror(-r));
    return r;
}

static int daemon_open_listener(struct daemon *daemon, const char *path, mode_t mode, struct unix_listener *listener)
{
    int r = unix_listener_open(listener, path, mode);
    if (r < 0)
        daemon_complain(0, daemon->device->name, "cannot listen at %s: %s", SHORTENED(path), unix_listener_problem(r));
    return r;
}

static int daemon_open_control(struct daemon *daemon)
{
    struct unix_listener listener;
    if (!daemon->options->control_path)
        return 0;
    int r = daemon_open_listener(daemon, daemon->options->control_path, DAEMON_CONTROL_MODE, &listener);
    if (r < 0)
        return r;
    daemon->controlled = true;
    r = control_socket_open(&daemon->control, &daemon->loop, &listener, daemon_answer, daemon);
    if (r < 0)
        daemon_complain(0, daemon->device->name, "cannot watch the control socket: %s", strerror(-r));
    return r;
}

static int daemon_attach(struct daemon *daemon)
{
    struct unix_listener listener;
    const struct daemon_options *options = daemon->options;
    int r;
    if (options->socket_path) {
        r = daemon_open_listener(daemon, options->socket_path, DAEMON_SOCKET_MODE, &listener);
        if (r == 0)
            r = vhost_user_server_listen(&daemon->server, &listener);
        return r;
    }
    r = vhost_user_server_adopt(&daemon->server, (int)options->handle);
    if (r < 0)
        daemon_complain(0, daemon->device->name, "cannot serve at --fd=%llu: %s; %s",
                        (unsigned long long)options->handle, strerror(-r),
                        r == -ENOTCONN ? "hand it down connected or listening" : "it must be a Unix stream socket");
    return r;
}

static int daemon_open_server(struct daemon *daemon)
{
    const struct vhost_user_server_options options = {
        .loop = &daemon->loop,
        .device = daemon->device->device,
        .queues = daemon->device->queues,
        .log = &daemon->log,
        .own_threads = daemon->device->own_threads,
        .polling = (enum server_polling)daemon->options->polling,
        .processors = daemon->options->processors.numbers,
        .processor_count = daemon->options->processors.count,
        .queue_port = daemon->device->queue_port,
        .ended = daemon_ended,
        .context = daemon,
    };
    int r = vhost_user_server_init(&daemon->server, &options);
    if (r < 0)
        daemon_complain(0, daemon->device->name, "cannot make a server: %s", strerror(-r));
    return r;
}

static int daemon_serve(struct daemon *daemon)
{
    int r = daemon_open_server(daemon);
    if (r < 0)
        return r;
    r = daemon_open_control(daemon);
    if (r == 0)
        r = daemon_attach(daemon);
    if (r == 0) {
        if (daemon->device->begin)
            daemon->device->begin(daemon->device->context, &daemon->loop, &daemon->log);
        r = loop_run(&daemon->loop);
        if (r < 0)
            daemon_complain(0, daemon->device->name, "cannot wait for events: %s", strerror(-r));
        if (daemon->device->end)
            daemon->device->end(daemon->device->context);
    }
    if (daemon->controlled)
        control_socket_close(&daemon->control);
    vhost_user_server_done(&daemon->server);
    return r;
}

int daemon_run(const struct daemon_options *options, const struct daemon_device *device)
{
    struct daemon *daemon = calloc(1, sizeof(*daemon));
    if (!daemon)
        return daemon_complain(EXIT_FAILED, device->name, "out of memory");
    daemon->options = options;
    daemon->device = device;
    daemon->signal_watch = (struct loop_watch)LOOP_WATCH_NONE;
    snprintf(daemon->title, sizeof(daemon->title), "backplane %s", device->name);
    daemon->log = (struct log){.name = daemon->title, .level = (enum log_level)options->log_level};

    int r = loop_init(&daemon->loop);
    if (r < 0) {
        daemon_complain(0, device->name, "cannot make an event loop: %s", strerror(-r));
        free(daemon);
        return EXIT_FAILED;
    }
    r = daemon_watch_signals(daemon);
    if (r == 0)
        r = daemon_serve(daemon);
    if (daemon->signal_watch.handle >= 0)
        close(daemon->signal_watch.handle);
    loop_done(&daemon->loop);
    free(daemon);
    return r < 0 ? EXIT_FAILED : EXIT_DONE;
}
