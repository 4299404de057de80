/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A device of byte registers: an access of more bytes is that many accesses, the lowest first, as a PC's bridge does.
 */
#ifndef MACHINE_BUS_BYTES_H
#define MACHINE_BUS_BYTES_H

#include "machine/bus.h"

static inline enum bus_result bus_bytes_read(struct bus_device *device, uint64_t offset, unsigned size,
                                             uint64_t *ret_value, uint8_t (*read)(struct bus_device *, uint64_t))
{
    for (unsigned i = 0; i < size; i++)
        *ret_value |= (uint64_t)read(device, offset + i) << 8 * i;
    return BUS_DONE;
}

static inline enum bus_result bus_bytes_write(struct bus_device *device, uint64_t offset, unsigned size, uint64_t value,
                                              void (*write)(struct bus_device *, uint64_t, uint8_t))
{
    for (unsigned i = 0; i < size; i++)
        write(device, offset + i, (uint8_t)(value >> 8 * i));
    return BUS_DONE;
}

#endif
