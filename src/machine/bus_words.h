/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A device of 32-bit registers, as PrimeCells are on their peripheral bus, which knows whole words alone. A narrower
 * read gives its part of the word; a narrower write at the register's own address writes zeros above, and one in the
 * middle of a register is lost. A wider access is one of the first register.
 */
#ifndef MACHINE_BUS_WORDS_H
#define MACHINE_BUS_WORDS_H

#include "machine/bus.h"

static inline enum bus_result bus_words_read(struct bus_device *device, uint64_t offset, uint64_t *ret_value,
                                             uint32_t (*read)(struct bus_device *, uint64_t))
{
    *ret_value = read(device, align_down(offset, 4)) >> 8 * (offset % 4);
    return BUS_DONE;
}

static inline enum bus_result bus_words_write(struct bus_device *device, uint64_t offset, uint64_t value,
                                              void (*write)(struct bus_device *, uint64_t, uint32_t))
{
    if (is_aligned(offset, 4))
        write(device, offset, (uint32_t)value);
    return BUS_DONE;
}

#endif
