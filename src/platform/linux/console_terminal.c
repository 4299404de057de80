/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "platform/linux/console_terminal.h"

#include <errno.h>

static struct terminal *terminal_of(struct console_port *port)
{
    return container_of(port, struct console_terminal, port)->terminal;
}

static int console_terminal_output(struct console_port *port, const void *bytes, size_t size)
{
    size_t taken = terminal_output(terminal_of(port), bytes, size);
    return taken > 0 ? (int)taken : -EAGAIN;
}

static int console_terminal_input(struct console_port *port, void *bytes, size_t size)
{
    size_t given = terminal_input(terminal_of(port), bytes, size);
    return given > 0 ? (int)given : -EAGAIN;
}

static void console_terminal_rest(struct console_port *port, unsigned index)
{
    if (index == VIRTIO_CONSOLE_TRANSMITQ)
        terminal_output_rest(terminal_of(port));
    else
        terminal_input_rest(terminal_of(port));
}

static void console_terminal_emergency(struct console_port *port, uint8_t byte)
{
    terminal_output_or_drop(terminal_of(port), &byte, 1);
}

static const struct console_port_class console_terminal_class = {
    .output = console_terminal_output,
    .input = console_terminal_input,
    .rest = console_terminal_rest,
    .emergency = console_terminal_emergency,
};

void console_terminal_init(struct console_terminal *console, struct terminal *terminal)
{
    *console = (struct console_terminal){.port.class = &console_terminal_class, .terminal = terminal};
}

static int console_terminal_handle(void *context, unsigned index)
{
    const struct console_terminal *console = context;
    return index == VIRTIO_CONSOLE_TRANSMITQ ? terminal_output_handle(console->terminal)
                                             : terminal_input_handle(console->terminal);
}

void console_terminal_queue_port(struct console_terminal *console, struct server_queue_port *ret_port)
{
    *ret_port = (struct server_queue_port){.handle = console_terminal_handle, .context = console};
}
