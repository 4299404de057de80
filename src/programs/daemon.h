/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What the commands that serve a device have in common: options, attachment, signals, control socket, life and end. */
#ifndef PROGRAMS_DAEMON_H
#define PROGRAMS_DAEMON_H

#include <jansson.h>

#include "platform/linux/control_socket.h"
#include "platform/linux/processor_list.h"
#include "platform/linux/vhost_user_server.h"
#include "programs/options.h"

struct daemon_options {
    const char *socket_path;
    uint64_t handle; /* --fd */
    bool handle_given;
    const char *control_path;
    uint64_t log_level; /* enum log_level */
    uint64_t polling;   /* enum server_polling */
    const char *cpu_affinity;
    struct processor_list processors; /* of cpu_affinity */
    /* asked for without looking at anything else; here for the help text */
    bool print_capabilities, help;
};

/* Rows for the table of a command's options. */
#define DAEMON_OPTION_ROWS(options)                                                                                    \
    option_text("socket-path", &(options)->socket_path, "PATH", "listen there for front ends, one after the other"),   \
        option_number("fd", &(options)->handle, 0, INT32_MAX, "serve at inherited socket N, connected or listening"),  \
        option_text("control-path", &(options)->control_path, "PATH", "listen there for `backplane ctl`"),             \
        option_choice("log-level", &(options)->log_level, daemon_log_levels, "LEVEL",                                  \
                      "error (the default), info or debug, on standard error"),                                        \
        option_choice("polling", &(options)->polling, daemon_pollings, "MODE",                                         \
                      "adaptive (the default), off or always: look on before sleeping"),                               \
        option_text("cpu-affinity", &(options)->cpu_affinity, "LIST",                                                  \
                    "processors for the threads of queues, like 2-5,8"),                                               \
        option_flag("print-capabilities", &(options)->print_capabilities,                                              \
                    "print what this command can do, as JSON, and exit"),                                              \
        option_flag("help", &(options)->help, "print this text and exit")

extern const char *const daemon_log_levels[];
extern const char *const daemon_pollings[];

/* The device to serve, and how to talk about it. Everything is borrowed. */
struct daemon_device {
    const char *name; /* of the command: "blk" */
    struct virtio_device *device;
    struct device_queues *queues;
    struct server_queue_port queue_port;
    bool own_threads;
    /* What the device itself counts, a new object; NULL: no memory. */
    json_t *(*statistics)(void *context);
    /*
     * Take over the host's new size: > 0, the driver is to be told; 0, nothing has changed; < 0, @error says why not.
     * NULL: a device that has no size. @ret_bytes on success.
     */
    int (*resize)(void *context, bool may_shrink, uint64_t *ret_bytes, char *error, size_t error_bytes);
    /* The loop is about to run, and runs no more: for what the device has to tell its person. NULL: nothing. */
    void (*begin)(void *context, struct loop *loop, const struct log *log);
    void (*end)(void *context);
    void *context;
};

struct daemon {
    const struct daemon_options *options;
    const struct daemon_device *device;
    char title[32]; /* "backplane blk" */
    struct log log;
    struct loop loop;
    struct loop_watch signal_watch;
    struct control_socket control;
    bool controlled;
    struct vhost_user_server server;
    bool stopping;
};

/* One line on standard error: "backplane @name: …". Returns @status, for an exit. */
__attribute__((format(printf, 3, 4))) int daemon_complain(int status, const char *name, const char *format, ...);

/*
 * Parse @arguments by @table; answers --help with @usage. Returns -1 to go on, or the status to exit with.
 */
int daemon_parse(const char *name, const char *usage, struct option *table, size_t count, char **arguments,
                 int argument_count, struct daemon_options *options);

/* Before any thread is made: signals that end us come by descriptor, and a closed pipe ends nobody. */
void daemon_take_signals(void);

/* Serve until told to stop; the exit status. Problems have been said. */
int daemon_run(const struct daemon_options *options, const struct daemon_device *device);

/* Begin to stop: queues finish, then daemon_run returns. */
void daemon_stop(struct daemon *daemon);

/* Answers a line of the control socket: control_socket.h. @context is the daemon. */
char *daemon_answer(void *context, struct control_later *later, const char *line, size_t length);

#endif
