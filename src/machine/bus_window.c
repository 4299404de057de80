/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "machine/bus_window.h"

/* The piece of memory that has all of the access, or NULL. */
static const struct bus_memory *memory_at(const struct bus_device *device, uint64_t offset, unsigned size)
{
    for (const struct bus_memory *memory = device->memories; memory != NULL; memory = memory->next)
        if (offset >= memory->offset && range_within(offset - memory->offset, size, memory->size))
            return memory->host != NULL ? memory : NULL;
    return NULL;
}

static enum bus_result window_read(struct bus_device *device, uint64_t offset, unsigned size, uint64_t *ret_value)
{
    const struct bus_memory *memory = memory_at(device, offset, size);
    uint8_t bytes[8] = {0};

    if (memory != NULL) {
        shared_copy_in(bytes, memory->host + (offset - memory->offset), size);
        *ret_value = get_le64(bytes);
    }
    return BUS_DONE;
}

static enum bus_result window_write(struct bus_device *device, uint64_t offset, unsigned size, uint64_t value)
{
    const struct bus_memory *memory = memory_at(device, offset, size);
    uint8_t bytes[8];

    if (memory != NULL && !memory->read_only) {
        put_le64(bytes, value);
        memcpy(memory->host + (offset - memory->offset), bytes, size);
    }
    return BUS_DONE;
}

static const struct bus_device_class window_class = {.name = "memory", .read = window_read, .write = window_write};

void bus_window_init(struct bus_window *window)
{
    *window = (struct bus_window){.device.class = &window_class};
}
