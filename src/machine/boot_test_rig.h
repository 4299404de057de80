/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Around a loader in a test or a harness: files in memory, and a guest's RAM in two pieces of this process. */
#ifndef MACHINE_BOOT_TEST_RIG_H
#define MACHINE_BOOT_TEST_RIG_H

#include <errno.h>
#include <stdlib.h>

#include "machine/boot_image.h"

struct rig_image {
    struct boot_image image;
    const uint8_t *bytes;
    size_t there;       /* bytes that can be read; image.size may say more */
    uint64_t breaks_at; /* reads that touch this byte fail with -EIO; UINT64_MAX: none */
    unsigned reads, bytes_read;
};

static int rig_image_read(struct boot_image *image, uint64_t offset, void *to, size_t size)
{
    struct rig_image *rig = container_of(image, struct rig_image, image);
    ASSERT(size > 0 && range_within(offset, size, image->size));
    rig->reads++;
    rig->bytes_read += (unsigned)size;
    if (rig->breaks_at >= offset && rig->breaks_at - offset < size)
        return -EIO;
    ASSERT(range_within(offset, size, rig->there));
    memcpy(to, rig->bytes + offset, size);
    return 0;
}

static const struct boot_image_class rig_image_class = {.read = rig_image_read};

static inline void rig_image_init(struct rig_image *rig, const void *bytes, size_t size)
{
    *rig = (struct rig_image){
        .image = {.class = &rig_image_class, .size = size}, .bytes = bytes, .there = size, .breaks_at = UINT64_MAX};
}

struct rig_ram {
    struct guest_memory memory;
    uint8_t *pieces[2];
};

/* RAM of @bytes from @base on; the second half lies elsewhere in this process. */
static inline void rig_ram_open(struct rig_ram *ram, uint64_t base, size_t bytes)
{
    guest_memory_init(&ram->memory, NULL);
    for (unsigned i = 0; i < 2; i++) {
        ram->pieces[i] = calloc(1, bytes / 2);
        ASSERT(ram->pieces[i]);
        const struct guest_region region = {
            .guest_base = base + i * (bytes / 2), .size = bytes / 2, .host = ram->pieces[i]};
        int r = guest_memory_add(&ram->memory, &region);
        ASSERT(r == 0);
    }
}

static inline void rig_ram_close(struct rig_ram *ram)
{
    free(ram->pieces[0]);
    free(ram->pieces[1]);
}

#endif
