/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A device of the bus that is nothing but memory (a shared memory region of virtio, 2.10): what the guest does there
 * causes no exit where the bus's port can map it, and is served here where it cannot. Between its pieces of memory, and
 * where a piece is nowhere in this process, it reads as 0 and keeps nothing.
 *
 * Threads: as the bus.
 */
#ifndef MACHINE_BUS_WINDOW_H
#define MACHINE_BUS_WINDOW_H

#include "machine/bus.h"

struct bus_window {
    struct bus_device device; /* add it to a bus, or make it the content of a BAR; its memories by bus_memory_add */
};

void bus_window_init(struct bus_window *window);

#endif
