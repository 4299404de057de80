/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Where the requests of one queue live while the device has them. Pure code allocates nothing: whoever owns the queue
 * hands over one block of memory, and the arena divides it into request slots and runs of pieces. When something runs
 * out, popping stops until a request comes back; a guest cannot make it grow.
 *
 * A chain's pieces must lie side by side, since they go to readv(2) as they are. Most chains have few, some a hundred,
 * and a hostile or odd one a thousand: so each slot has a short run of its own, and two small stocks hold longer ones.
 * Every operation is O(1), a slow request holds nothing but its own run, and memory that no guest asks for is never
 * touched, so it costs nothing on a system with lazy allocation.
 *
 * Used on the queue's thread alone.
 */
#ifndef VIRTIO_VIRTQ_ARENA_H
#define VIRTIO_VIRTQ_ARENA_H

#include "memory/guest_memory.h"

/* Header, a few data pieces, status: what Linux sends for small blk requests and nearly all others. */
#define VIRTQ_SHORT_RUN_PIECES 8
/* blk's offered seg_max of 126, header and status, and a few crossings of a region's end. */
#define VIRTQ_MEDIUM_RUN_PIECES 136
/* The cap on any chain: an indirect table may have 1024 entries, as honest guests do that; also Linux's UIO_MAXIOV. */
#define VIRTQ_LONG_RUN_PIECES 1024

#define VIRTQ_SLOTS_MIN 1
#define VIRTQ_SLOTS_MAX 1024

/* A device's state for one request is aligned to this, as malloc would; and larger than the cap it is our mistake. */
#define VIRTQ_REQUEST_ALIGN 16
#define VIRTQ_REQUEST_BYTES_MAX 65536

struct virtq_chain;

struct virtq_arena_shape {
    uint16_t slots;       /* requests that may be in flight, VIRTQ_SLOTS_MIN to VIRTQ_SLOTS_MAX */
    uint16_t medium_runs; /* of VIRTQ_MEDIUM_RUN_PIECES; at least 1; more than slots are never used */
    uint16_t long_runs;   /* of VIRTQ_LONG_RUN_PIECES; at least 1, or a long chain could never be taken */
    size_t request_bytes; /* the device's own state for each request (struct virtio_device_class) */
};

struct virtq_arena {
    struct virtq_arena_shape shape;
    struct virtq_chain *chains; /* [slots] */
    uint8_t *requests;          /* [slots], each request_stride bytes */
    size_t request_stride;
    struct guest_iovec *iov; /* short runs in slot order, then medium, then long */
    uint64_t *addresses;     /* parallel to iov */
    uint16_t *order;         /* slots by arrival, for queues that give back in order: a ring of order_mask + 1 */
    uint16_t *free_slots;    /* stacks of free numbers; the last freed is the next used, while it is in the cache */
    uint16_t *free_medium;
    uint16_t *free_long;
    uint16_t order_mask;
    uint16_t free_slot_count;
    uint16_t free_medium_count;
    uint16_t free_long_count;
};

/* How many bytes virtq_arena_init needs for @shape. */
size_t virtq_arena_bytes(const struct virtq_arena_shape *shape);

/*
 * Divide @block, which stays the caller's and must outlive the arena, is aligned to 64, zeroed, and has at least
 * virtq_arena_bytes(@shape). Every slot is free afterwards.
 */
void virtq_arena_init(struct virtq_arena *arena, const struct virtq_arena_shape *shape, void *block);

#endif
