/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* backplane console: docs/man/backplane-console.1 is the reference. */
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <termios.h>
#include <unistd.h>

#include "devices/console/console.h"
#include "platform/linux/console_terminal.h"
#include "platform/linux/short_text.h"
#include "programs/command.h"
#include "programs/daemon.h"

/* Linux's console writes 16 bytes at a time, and waits for each; ports take pages. */
static const struct virtq_arena_shape console_shape = {.slots = 64, .medium_runs = 4, .long_runs = 2};

enum console_place {
    CONSOLE_STDIO,
    CONSOLE_PTY,
    CONSOLE_FILE,
};
static const char *const console_places[] = {"stdio", "pty", "file", NULL};

struct console_command {
    struct terminal_options where;
    struct terminal terminal;
    struct console_terminal port;
    struct console console;
    struct device_queues queues;
    bool failed, linked;
    int input, output, other; /* what where says; the other end of a pseudo terminal, kept open. Owned; -1 */
};

static json_t *console_statistics(void *context)
{
    struct console_command *command = context;
    struct console *console = &command->console;
    pthread_mutex_lock(&command->terminal.lock);
    uint64_t dropped = command->terminal.out.dropped_total;
    pthread_mutex_unlock(&command->terminal.lock);
    return json_pack("{s:I, s:I, s:I, s:I}", "input_bytes", (json_int_t)atomic_load(&console->input_bytes_total),
                     "output_bytes", (json_int_t)atomic_load(&console->output_bytes_total), "emergency_bytes",
                     (json_int_t)atomic_load(&console->emergency_bytes_total), "dropped_bytes", (json_int_t)dropped);
}

static void console_key(void *context, enum terminal_key key)
{
    (void)context;
    if (key == TERMINAL_QUIT)
        raise(SIGTERM); /* which comes by descriptor, and ends us in order */
}

static void console_begin(void *context, struct loop *loop, const struct log *log)
{
    struct console_command *command = context;
    command->where.loop = loop;
    int r = terminal_open(&command->terminal, &command->where);
    if (r == 0)
        return;
    log_line(log, LOG_LEVEL_ERROR, "cannot use the console: %s", strerror(-r));
    command->failed = true;
    loop_stop(loop);
}

static void console_end(void *context)
{
    terminal_close(&((struct console_command *)context)->terminal);
}

static int console_serve(const struct daemon_options *options, struct console_command *command)
{
    struct virtq_arena_shape shape = console_shape;
    const struct console_options none = {.has_size = false};
    shape.request_bytes = console_request_bytes();
    if (device_queues_open(&command->queues, CONSOLE_QUEUES, &shape) < 0)
        return daemon_complain(EXIT_FAILED, "console", "out of memory");
    console_terminal_init(&command->port, &command->terminal);
    console_init(&command->console, command->queues.queues, &command->port.port, &none);
    struct daemon_device device = {
        .name = "console",
        .device = &command->console.device,
        .queues = &command->queues,
        .own_threads = false, /* a person types: one loop has time for all of it */
        .statistics = console_statistics,
        .begin = console_begin,
        .end = console_end,
        .context = command,
    };
    console_terminal_queue_port(&command->port, &device.queue_port);
    int status = daemon_run(options, &device);
    device_queues_close(&command->queues);
    return command->failed ? EXIT_FAILED : status;
}

static int console_complain(const char *what, const char *path)
{
    return daemon_complain(EXIT_FAILED, "console", "cannot %s%s%s: %s", what, *path ? " " : "", SHORTENED(path),
                           strerror(errno));
}

/* A pseudo terminal, whose name @path gets as a symbolic link. */
static int console_open_pty(struct console_command *command, const char *path)
{
    struct termios raw;
    int ends[2];
    if (openpty(&ends[0], &ends[1], NULL, NULL, NULL) < 0)
        return console_complain("make a pseudo terminal", "");
    command->input = ends[0];
    command->other = ends[1]; /* open, so that its users may come and go */
    command->output = fcntl(ends[0], F_DUPFD_CLOEXEC, 3);
    char name[64];
    if (command->output < 0 || fcntl(ends[0], F_SETFL, O_RDWR | O_NONBLOCK) < 0 || tcgetattr(ends[1], &raw) < 0 ||
        ttyname_r(ends[1], name, sizeof(name)) != 0)
        return console_complain("use a pseudo terminal", "");
    cfmakeraw(&raw);
    tcsetattr(ends[1], TCSANOW, &raw);
    if (path && symlink(name, path) < 0)
        return console_complain("make a link at", path);
    command->linked = path != NULL;
    printf("%s\n", name);
    return fflush(stdout) == 0 ? -1 : console_complain("write to standard output", "");
}

/* -1 to go on, or the status to exit with. */
static int console_open(struct console_command *command, enum console_place place, const char *path)
{
    command->where.escape = place == CONSOLE_STDIO ? TERMINAL_ESCAPE_DEFAULT : TERMINAL_ESCAPE_NONE;
    command->where.keep_mode = place != CONSOLE_STDIO;
    if (place == CONSOLE_STDIO) {
        command->input = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
        command->output = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
        return command->input < 0 || command->output < 0 ? console_complain("use standard input and output", "") : -1;
    }
    if (place == CONSOLE_PTY)
        return console_open_pty(command, path);
    command->output = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
    return command->output < 0 ? console_complain("write to", path) : -1;
}

static void console_close(const struct console_command *command, const char *path)
{
    const int handles[] = {command->input, command->output, command->other};
    for (size_t i = 0; i < ARRAY_SIZE(handles); i++) {
        if (handles[i] >= 0)
            close(handles[i]);
    }
    if (command->linked && path)
        unlink(path);
}

int command_console(int count, char **arguments)
{
    struct daemon_options options = {.log_level = LOG_LEVEL_ERROR};
    struct console_command command = {.input = -1, .output = -1, .other = -1};
    const char *path = NULL;
    uint64_t place = CONSOLE_STDIO;
    struct option table[] = {
        option_choice("backend", &place, console_places, "PLACE",
                      "where the console is: stdio (the default), pty or file"),
        option_text("console-path", &path, "PATH", "the file; or a link to the pseudo terminal"),
        DAEMON_OPTION_ROWS(&options),
    };
    if (options_ask(arguments, count, "print-capabilities")) {
        puts("{\"type\": \"console\", \"features\": []}");
        return EXIT_DONE;
    }
    int status = daemon_parse("console",
                              "usage: backplane console [options] --socket-path=PATH | --fd=N\n\n"
                              "Serve a console to a virtual machine.\n\n",
                              table, ARRAY_SIZE(table), arguments, count, &options);
    if (status >= 0)
        return status;
    if (place == CONSOLE_FILE && !path)
        return daemon_complain(EXIT_WRONG_USE, "console", "which file? Give --console-path=PATH");
    if (place == CONSOLE_STDIO && path)
        return daemon_complain(EXIT_WRONG_USE, "console", "--console-path needs --backend=pty or --backend=file");
    daemon_take_signals();
    terminal_take_signals();
    status = console_open(&command, (enum console_place)place, path);
    command.where.input = command.input;
    command.where.output = command.output;
    command.where.name = "backplane console";
    command.where.key = console_key;
    command.where.context = &command;
    if (status < 0)
        status = console_serve(&options, &command);
    console_close(&command, path);
    return status;
}
