/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The console device on a terminal: its port, and what its queues' threads watch. */
#ifndef PLATFORM_LINUX_CONSOLE_TERMINAL_H
#define PLATFORM_LINUX_CONSOLE_TERMINAL_H

#include "devices/console/console.h"
#include "platform/linux/server_queue.h"
#include "platform/linux/terminal.h"

struct console_terminal {
    struct console_port port;  /* for console_init */
    struct terminal *terminal; /* borrowed; open while a queue runs */
};

void console_terminal_init(struct console_terminal *console, struct terminal *terminal);

/* For the back end that runs the queues; its context is @console. */
void console_terminal_queue_port(struct console_terminal *console, struct server_queue_port *ret_port);

#endif
