/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "machine/boot_image.h"

#include <errno.h>

int boot_image_read(struct boot_image *image, uint64_t offset, void *to, size_t size)
{
    if (!range_within(offset, size, image->size))
        return -EBADMSG;
    return size == 0 ? 0 : image->class->read(image, offset, to, size);
}

int boot_image_load(struct boot_image *image, uint64_t offset, uint64_t size, const struct guest_memory *memory,
                    uint64_t address)
{
    if (!range_within(offset, size, image->size))
        return -EBADMSG;
    if (size == 0)
        return 0;
    /* In one piece of this process it is read to its place; nobody runs there yet. */
    void *place = size <= SIZE_MAX ? guest_memory_linear(memory, address, size) : NULL;
    if (place)
        return image->class->read(image, offset, place, (size_t)size);
    uint8_t chunk[BOOT_IMAGE_CHUNK_BYTES];
    for (uint64_t done = 0; done < size;) {
        size_t bytes = (size_t)u64_min(size - done, sizeof(chunk));
        int r = image->class->read(image, offset + done, chunk, bytes);
        if (r == 0)
            r = guest_memory_write(memory, address + done, chunk, bytes);
        if (r < 0)
            return r;
        done += bytes;
    }
    return 0;
}

bool boot_memory_is_there(const struct guest_memory *memory, uint64_t address, uint64_t size)
{
    while (size > 0) {
        const struct guest_region *region = guest_memory_find(memory, address);
        if (!region)
            return false;
        uint64_t here = u64_min(region->size - (address - region->guest_base), size);
        address += here; /* at most the region's end, which fits */
        size -= here;
    }
    return true;
}

int boot_memory_clear(const struct guest_memory *memory, uint64_t address, uint64_t size)
{
    static const uint8_t zeros[BOOT_IMAGE_CHUNK_BYTES];
    for (uint64_t done = 0; done < size;) {
        size_t bytes = (size_t)u64_min(size - done, sizeof(zeros));
        int r = guest_memory_write(memory, address + done, zeros, bytes);
        if (r < 0)
            return r;
        done += bytes;
    }
    return 0;
}
