/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A file that is loaded into a guest: its bytes come through a port, so that they are neither mapped nor trusted.
 * Whoever loads it copies what it parses, once.
 */
#ifndef MACHINE_BOOT_IMAGE_H
#define MACHINE_BOOT_IMAGE_H

#include "memory/guest_memory.h"

struct boot_image {
    const struct boot_image_class *class;
    uint64_t size; /* bytes; it does not grow, and a read that finds it shorter fails */
};

struct boot_image_class {
    /* All of [@offset, @offset + @size), or a negative errno. The caller keeps both inside the size. May block. */
    int (*read)(struct boot_image *image, uint64_t offset, void *to, size_t size);
};

/* Bytes that a loader copies at a time where it has no place of its own for them. */
#define BOOT_IMAGE_CHUNK_BYTES 4096u

/* Read @size bytes at @offset. -EBADMSG: the image ends before; others from the port. */
int boot_image_read(struct boot_image *image, uint64_t offset, void *to, size_t size);

/*
 * Copy @size bytes at @offset of the image to @address of the guest. -EFAULT: that is not memory; -EBADMSG: the image
 * ends before; others from the port.
 */
int boot_image_load(struct boot_image *image, uint64_t offset, uint64_t size, const struct guest_memory *memory,
                    uint64_t address);

/* Is all of [@address, @address + @size) memory? */
bool boot_memory_is_there(const struct guest_memory *memory, uint64_t address, uint64_t size);

/* Zeros, likewise. */
int boot_memory_clear(const struct guest_memory *memory, uint64_t address, uint64_t size);

#endif
