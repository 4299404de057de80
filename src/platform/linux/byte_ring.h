/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Bytes that one side puts in and the other takes out, in order. Whoever shares one between threads locks. */
#ifndef PLATFORM_LINUX_BYTE_RING_H
#define PLATFORM_LINUX_BYTE_RING_H

#include "base/base.h"

struct byte_ring {
    uint8_t *bytes; /* borrowed: [size] */
    uint32_t size;  /* a power of two */
    uint32_t head;  /* counts bytes put in, */
    uint32_t tail;  /* and taken out: both wrap */
};

static inline uint32_t byte_ring_used(const struct byte_ring *ring)
{
    return ring->head - ring->tail;
}

static inline uint32_t byte_ring_room(const struct byte_ring *ring)
{
    return ring->size - byte_ring_used(ring);
}

/* Put in the first of @size bytes, as many as there is room for: how many. */
static inline size_t byte_ring_put(struct byte_ring *ring, const void *from, size_t size)
{
    size_t count = size_min(size, byte_ring_room(ring));
    uint32_t at = ring->head & (ring->size - 1);
    size_t first = size_min(count, ring->size - at);
    memcpy(ring->bytes + at, from, first);
    memcpy(ring->bytes, (const uint8_t *)from + first, count - first);
    ring->head += (uint32_t)count;
    return count;
}

/* What comes out next and lies in one piece: how many bytes, 0 when it is empty. byte_ring_drop takes them. */
static inline size_t byte_ring_peek(const struct byte_ring *ring, const uint8_t **ret_bytes)
{
    uint32_t at = ring->tail & (ring->size - 1);
    *ret_bytes = ring->bytes + at;
    return u32_min(byte_ring_used(ring), ring->size - at);
}

static inline void byte_ring_drop(struct byte_ring *ring, size_t count)
{
    ASSERT(count <= byte_ring_used(ring));
    ring->tail += (uint32_t)count;
}

/* Take up to @size bytes out: how many. */
static inline size_t byte_ring_take(struct byte_ring *ring, void *to, size_t size)
{
    size_t taken = 0;
    while (taken < size) {
        const uint8_t *bytes;
        size_t count = size_min(byte_ring_peek(ring, &bytes), size - taken);
        if (count == 0)
            break;
        memcpy((uint8_t *)to + taken, bytes, count);
        byte_ring_drop(ring, count);
        taken += count;
    }
    return taken;
}

#endif
