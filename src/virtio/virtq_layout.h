/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Inside the virtqueue: what a ring's layout does, and what the layouts share to build chains out of descriptors.
 * Nobody outside virtio/ includes this.
 */
#ifndef VIRTIO_VIRTQ_LAYOUT_H
#define VIRTIO_VIRTQ_LAYOUT_H

#include <errno.h>

#include "virtio/virtqueue.h"

/* Calls are for a whole burst, so that their indirection costs nothing. @count and @max are at most VIRTQ_BURST_MAX. */
struct virtq_layout {
    /* Are the sizes and alignments of @config such as the standard allows? -EINVAL. */
    int (*check)(const struct virtqueue_config *config);
    /* Reach the ring that queue->config names in queue->memory, or give it back. On failure nothing stays mapped. */
    int (*map)(struct virtqueue *queue);
    void (*unmap)(struct virtqueue *queue);
    /*
     * The ring is mapped, and a new life starts: take its indices, read the in-flight record. -EPROTO: by the record.
     * -EINVAL: the base.
     */
    int (*begin)(struct virtqueue *queue);
    /* Where it stands (virtqueue_base), nothing being out. */
    uint32_t (*base)(const struct virtqueue *queue);
    /* Has all that was pushed been shown? */
    bool (*shown)(const struct virtqueue *queue);
    /* As the calls of virtqueue.h, whose caller has checked the states. push also frees the chains. */
    int (*pop)(struct virtqueue *queue, struct virtq_chain **chains, unsigned max);
    void (*push)(struct virtqueue *queue, struct virtq_chain **chains, unsigned count);
    bool (*publish)(struct virtqueue *queue);
    /* Move back over @chain, the last one popped. Also when the ring is not mapped. */
    void (*unpop)(struct virtqueue *queue, const struct virtq_chain *chain);
    bool (*kicks_on)(struct virtqueue *queue);
    void (*kicks_off)(struct virtqueue *queue);
    bool (*pending)(const struct virtqueue *queue);
    bool (*fresh)(const struct virtqueue *queue);
};

extern const struct virtq_layout virtq_split_layout;
extern const struct virtq_layout virtq_packed_layout;

/* The guest broke the rules: nothing is popped any more. Returns -EPROTO. */
int virtqueue_break(struct virtqueue *queue);

/*
 * Reach one part of the ring: guest_memory_map, and aligned in this process too. -EFAULT, -EINVAL, or what the access
 * table says.
 */
int virtq_map_part(const struct virtqueue *queue, uint64_t address, uint64_t bytes, size_t alignment, bool write,
                   void **ret_host);

/* We wrote @bytes at guest address @base + @offset, a part of the ring: a sum that wraps is in no log. */
static inline void virtq_mark_ring(const struct virtqueue *queue, uint64_t base, uint64_t offset, uint64_t bytes)
{
    uint64_t address;
    if (queue->config.used_log && !add_overflows_u64(base, offset, &address))
        dirty_log_mark(queue->log, address, bytes);
}

/* Chain @taken of a pop could not be taken: @r. What pop is to answer. */
int virtq_pop_ended(struct virtqueue *queue, unsigned taken, int r);

/*
 * A chain while its descriptors are read. Its slot and runs are taken from the arena only as far as noted. It is meant
 * to live in registers: the hot path is inline, and the cold one gets a copy.
 */
struct virtq_build {
    struct virtqueue *queue;
    const struct guest_memory *memory; /* the queue's */
    struct guest_iovec *iov;
    uint64_t *addresses;
    uint64_t readable_bytes;
    uint64_t writable_bytes;
    uint32_t count;          /* pieces so far */
    uint32_t capacity;       /* of the run */
    uint32_t readable_count; /* valid once writing */
    uint32_t slot;           /* on top of the stack of free slots until virtq_build_end */
    uint32_t run;            /* short: the slot's own; else taken */
    bool writing;            /* a device-writable descriptor was seen */
};

/* Begin a chain. The arena has a free slot. */
static inline void virtq_build_begin(struct virtq_build *build, struct virtqueue *queue)
{
    const struct virtq_arena *arena = queue->arena;
    uint32_t slot = arena->free_slots[arena->free_slot_count - 1];
    build->queue = queue;
    build->memory = queue->memory;
    build->iov = arena->iov + (size_t)slot * VIRTQ_SHORT_RUN_PIECES;
    build->addresses = arena->addresses + (size_t)slot * VIRTQ_SHORT_RUN_PIECES;
    build->readable_bytes = 0;
    build->writable_bytes = 0;
    build->count = 0;
    build->capacity = VIRTQ_SHORT_RUN_PIECES;
    build->slot = slot;
    build->run = slot;
    build->writing = false;
}

/* For virtq_build_add: a buffer that is in more than one piece, or a run that is full. */
int virtq_build_add_cold(struct virtq_build *build, uint64_t address, uint32_t length);

/*
 * Add the buffer of one descriptor. -EPROTO: the guest is wrong. -EAGAIN: the arena or the access table has no more
 * now.
 */
static inline __attribute__((always_inline)) int virtq_build_add(struct virtq_build *build, uint64_t address,
                                                                 uint32_t length, bool writable)
{
    if (writable) {
        if (!build->writing) {
            build->writing = true;
            build->readable_count = build->count;
        }
        build->writable_bytes += length;
    } else {
        if (build->writing)
            return virtqueue_wrong(build->queue, "a readable descriptor after a writable one"); /* 2.7.4.2 */
        build->readable_bytes += length;
    }
    if (length == 0)
        return 0; /* allowed, and nothing to reach */

    void *host = guest_memory_linear_hot(build->memory, address, length);
    if (host == NULL || build->count == build->capacity) {
        struct virtq_build copy = *build;
        int r = virtq_build_add_cold(&copy, address, length);
        *build = copy;
        return r;
    }
    build->iov[build->count] = (struct guest_iovec){.base = host, .length = length};
    build->addresses[build->count] = address;
    build->count++;
    return 0;
}

/* Give back what the build has taken. */
void virtq_build_fail(struct virtq_build *build);

/* 2.7.4: no more than 2^32 bytes in a chain; and the used length has 32 bits. */
static inline bool virtq_build_too_long(const struct virtq_build *build)
{
    return ((build->readable_bytes | build->writable_bytes) >> 32) != 0;
}

/* The chain is whole: it takes the slot and is out. */
static inline struct virtq_chain *virtq_build_end(struct virtq_build *build, uint16_t head)
{
    struct virtqueue *queue = build->queue;
    struct virtq_arena *arena = queue->arena;
    struct virtq_chain *chain = &arena->chains[build->slot];
    uint32_t readable_count = build->writing ? build->readable_count : build->count;

    chain->iov = build->iov;
    chain->addresses = build->addresses;
    chain->request = arena->requests + build->slot * arena->request_stride;
    chain->readable_bytes = build->readable_bytes;
    chain->writable_bytes = build->writable_bytes;
    chain->written = 0;
    chain->token = (uint32_t)queue->generation << 16 | build->slot;
    chain->head = head;
    chain->run = (uint16_t)build->run;
    chain->readable_count = (uint16_t)readable_count;
    chain->writable_count = (uint16_t)(build->count - readable_count);
    chain->arrival = queue->arrivals++;
    chain->read_offset = 0;
    chain->write_offset = 0;
    chain->read_piece = 0;
    chain->write_piece = (uint16_t)readable_count;
    chain->tail_bytes = 0;
    chain->tail_written = false;
    chain->writable_given = false;
    chain->resubmitted = false;
    chain->waiting = false;
    chain->out = true;
    chain->trim_count = 0;
    chain->mapped_by = queue->memory->access != NULL ? queue->memory : NULL;
    arena->free_slot_count--;
    queue->out_count++;
    return chain;
}

/*
 * An indirect table while it is walked. It may have any alignment. An entry has 16 bytes in both layouts, and begins
 * with the address.
 */
#define VIRTQ_TABLE_ENTRY_BYTES 16

/* Entries fetched at a time from a table that is not in one piece: each fetch may be a mapping or a hypercall. */
#define VIRTQ_TABLE_GROUP_MAX 32

struct virtq_table {
    const struct guest_memory *memory;
    const uint8_t *host; /* NULL: not in one linear piece, entries are fetched in groups */
    uint64_t address;
    uint32_t count;
    uint32_t group_first;
    uint32_t group_count;
    uint8_t group[VIRTQ_TABLE_GROUP_MAX][VIRTQ_TABLE_ENTRY_BYTES];
};

/* Judge a table of @bytes at @address (2.7.5.3, 2.8.7). -EPROTO. */
int virtq_table_open(struct virtq_table *table, struct virtq_build *build, uint64_t address, uint32_t bytes);
/* For virtq_table_entry: of a table that is not linear. */
int virtq_table_entry_cold(struct virtq_table *table, uint32_t index, void *to);

/* Copy out entry @index, which is in the table. -EPROTO: it is not in memory. -EAGAIN: from the access table. */
static inline int virtq_table_entry(struct virtq_table *table, uint32_t index, void *to)
{
    if (table->host == NULL)
        return virtq_table_entry_cold(table, index, to);
    size_t masked = index_mask(index, table->count);
    shared_copy_in(to, table->host + masked * VIRTQ_TABLE_ENTRY_BYTES, VIRTQ_TABLE_ENTRY_BYTES);
    return 0;
}

/* For virtq_give_back and virtq_build_fail: a run that is not the slot's own. */
void virtq_free_run(struct virtq_arena *arena, uint16_t run);

/* For virtq_give_back: mark what was written in the dirty log, give mapped pieces back. */
void virtq_chain_settle(struct virtqueue *queue, struct virtq_chain *chain);

/* @chain is the queue's no more: settle and free it. */
static inline void virtq_give_back(struct virtqueue *queue, struct virtq_chain *chain)
{
    ASSERT(chain->out);
    struct virtq_arena *arena = queue->arena;
    uint16_t slot = (uint16_t)chain->token;
    if (queue->log != NULL || chain->mapped_by != NULL)
        virtq_chain_settle(queue, chain);
    if (chain->run != slot)
        virtq_free_run(arena, chain->run);
    chain->out = false;
    arena->free_slots[arena->free_slot_count++] = slot;
    queue->out_count--;
}

#endif
