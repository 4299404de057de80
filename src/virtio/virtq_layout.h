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
    bool (*fresh_once)(struct virtqueue *queue);
};

/* A descriptor of an indirect table, in both layouts; it begins with the address and the length. */
#define VIRTQ_TABLE_ENTRY_BYTES 16

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

/*
 * How many of the @max chains of a pop may come from the in-flight record: to find each takes a walk over all of it,
 * and a pop looks at VIRTQ_WALK_MAX entries at most. That is a full burst for rings of up to 4096 entries.
 */
#define VIRTQ_WALK_MAX (VIRTQ_BURST_MAX * 4096u)
static_assert(VIRTQ_WALK_MAX >= VRING_SIZE_MAX, "a pop finds one request at least");

static inline unsigned virtq_recorded_max(const struct virtqueue *queue, unsigned max)
{
    return u32_min(max, VIRTQ_WALK_MAX / queue->config.size);
}

/* Chain @taken of a pop could not be taken: @r. What pop is to answer. */
int virtq_pop_ended(struct virtqueue *queue, unsigned taken, int r);

/*
 * A chain while its descriptors are read, whatever they say. Its slot and runs are taken from the arena only as far as
 * noted.
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
 * Add the buffer of one descriptor. -EPROTO: the guest is wrong. -EAGAIN, -ENOBUFS: the access table or the arena has
 * no more now.
 */
static inline int virtq_build_add(struct virtq_build *build, uint64_t address, uint32_t length, bool writable)
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
    if (host == NULL || build->count == build->capacity)
        return virtq_build_add_cold(build, address, length);
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

/* What a chain that was read has in it. */
struct virtq_read {
    struct guest_iovec *iov;
    uint64_t *addresses;
    uint32_t readable_bytes, writable_bytes;
    uint32_t readable_count, writable_count;
    uint32_t slot; /* on top of the stack of free slots */
    uint32_t run;
};

/* The chain is whole: it takes the slot and is out. */
static inline struct virtq_chain *virtq_read_end(struct virtqueue *queue, const struct virtq_read *read, uint16_t head)
{
    struct virtq_arena *arena = queue->arena;
    struct virtq_chain *chain = &arena->chains[read->slot];

    chain->iov = read->iov;
    chain->addresses = read->addresses;
    chain->request = arena->requests + read->slot * arena->request_stride;
    chain->mapped_by = queue->memory->access != NULL ? queue->memory : NULL;
    chain->readable_bytes = read->readable_bytes;
    chain->writable_bytes = read->writable_bytes;
    chain->token = (uint32_t)queue->generation << 16 | read->slot;
    chain->arrival = queue->arrivals++;
    chain->head = head;
    chain->run = (uint16_t)read->run;
    chain->readable_count = (uint16_t)read->readable_count;
    chain->writable_count = (uint16_t)read->writable_count;
    chain->write_piece = (uint16_t)read->readable_count;
    chain->out = true;
    memset(chain->cleared, 0, sizeof(chain->cleared));
    arena->free_slot_count--;
    queue->out_count++;
    return chain;
}

/* The same after a build. */
static inline struct virtq_chain *virtq_build_end(const struct virtq_build *build, uint16_t head)
{
    uint32_t readable_count = build->writing ? build->readable_count : build->count;
    const struct virtq_read read = {
        .iov = build->iov,
        .addresses = build->addresses,
        .readable_bytes = (uint32_t)build->readable_bytes,
        .writable_bytes = (uint32_t)build->writable_bytes,
        .readable_count = readable_count,
        .writable_count = build->count - readable_count,
        .slot = build->slot,
        .run = build->run,
    };
    return virtq_read_end(build->queue, &read, head);
}

/*
 * The common chain: few descriptors, each with a buffer in one of the hot regions. A layout first reads a chain in the
 * hope that it is of that kind; whatever is unusual or wrong makes it begin anew with a struct virtq_build, which
 * decides. Nothing that the first reading saw is used then. It takes nothing before virtq_plain_end, and fits into
 * registers.
 */
struct virtq_plain {
    struct guest_iovec *iov;
    uint64_t *addresses;
    uint64_t readable_bytes, total_bytes;
    uint32_t slot;
    uint32_t count;
    uint32_t readable_count;
};

/* The arena has a free slot. */
static inline void virtq_plain_begin(struct virtq_plain *plain, const struct virtqueue *queue)
{
    const struct virtq_arena *arena = queue->arena;
    uint32_t slot = arena->free_slots[arena->free_slot_count - 1];
    plain->iov = arena->iov + (size_t)slot * VIRTQ_SHORT_RUN_PIECES;
    plain->addresses = arena->addresses + (size_t)slot * VIRTQ_SHORT_RUN_PIECES;
    plain->readable_bytes = 0;
    plain->total_bytes = 0;
    plain->slot = slot;
    plain->count = 0;
    plain->readable_count = 0;
}

/* Add the buffer of one descriptor. False: this is none of the common ones. */
static inline __attribute__((always_inline)) bool virtq_plain_add(struct virtq_plain *plain,
                                                                  const struct guest_memory *memory, uint64_t address,
                                                                  uint32_t length, bool writable)
{
    void *host = guest_memory_linear_hot(memory, address, length); /* NULL for no bytes, too */
    if (host == NULL || plain->count == VIRTQ_SHORT_RUN_PIECES)
        return false;
    plain->iov[plain->count] = (struct guest_iovec){.base = host, .length = length};
    plain->addresses[plain->count] = address;
    plain->total_bytes += length;
    if (!writable) {
        if (plain->readable_count != plain->count)
            return false; /* a readable one after a writable one */
        plain->readable_count++;
        plain->readable_bytes = plain->total_bytes;
    }
    plain->count++;
    return true;
}

/* An indirect table in one hot region: where it is, and how many entries it has. NULL: it is none of the common ones.
 */
static inline const uint8_t *virtq_plain_table(const struct guest_memory *memory, uint64_t address, uint32_t bytes,
                                               uint32_t *ret_count)
{
    if (bytes % VIRTQ_TABLE_ENTRY_BYTES != 0 || bytes > VIRTQ_INDIRECT_MAX * VIRTQ_TABLE_ENTRY_BYTES)
        return NULL;
    *ret_count = bytes / VIRTQ_TABLE_ENTRY_BYTES;
    return guest_memory_linear_hot(memory, address, bytes); /* NULL for an empty one, too */
}

/* The chain, or NULL: it is too long (2.7.4) for the common ones. */
static inline struct virtq_chain *virtq_plain_end(const struct virtq_plain *plain, struct virtqueue *queue,
                                                  uint16_t head)
{
    if (plain->total_bytes > UINT32_MAX)
        return NULL;
    const struct virtq_read read = {
        .iov = plain->iov,
        .addresses = plain->addresses,
        .readable_bytes = (uint32_t)plain->readable_bytes,
        .writable_bytes = (uint32_t)(plain->total_bytes - plain->readable_bytes),
        .readable_count = plain->readable_count,
        .writable_count = plain->count - plain->readable_count,
        .slot = plain->slot,
        .run = plain->slot,
    };
    return virtq_read_end(queue, &read, head);
}

/* Entries fetched at a time from a table that is not in one piece: each fetch may be a mapping or a hypercall. */
#define VIRTQ_TABLE_GROUP_MAX 32

/* An indirect table while it is walked. It may have any alignment. */
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
