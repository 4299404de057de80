/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The packed layout: how requests are taken (VIRTIO 1.3, 2.8.5 to 2.8.7).
 *
 * Theory of operation
 *
 * A descriptor is copied by two loads, once the flags of a request's first one have said that it is available. A
 * request is read in the hope that it is of the common kind, and when it is not, anew by code that knows every kind, as
 * in the split layout. With an in-flight record each descriptor is copied there as it is read, so such queues take the
 * second way always.
 *
 * A driver that makes a place available which it has not got back lies: held counts the places that are with us, and no
 * request may need more than there are left.
 *
 * Limits
 *
 * Flags of a request's descriptors after the first are not held against its lap (2.8.17 forbids drivers what that would
 * find).
 */
#include "virtio/virtq_inflight_packed.h"
#include "virtio/virtq_packed.h"

static uint32_t step_back(const struct virtqueue *queue, uint32_t position, uint32_t count, uint16_t *mark)
{
    if (position < count) {
        position += queue->config.size;
        *mark ^= PACKED_MARKS;
    }
    return position - count;
}

static inline struct virtq_packed_desc unpack(uint64_t address, uint64_t rest)
{
    return (struct virtq_packed_desc){
        .address = address,
        .length = (uint32_t)rest,
        .id = (uint16_t)(rest >> 32),
        .flags = (uint16_t)(rest >> 48),
    };
}

/* 2.8.7: the whole of a request is in a table at @address. */
static int read_table(struct virtq_build *build, uint64_t address, uint32_t bytes)
{
    struct virtqueue *queue = build->queue;
    struct virtq_table table;
    int r = virtq_table_open(&table, build, address, bytes);
    if (r < 0)
        return r;
    for (uint32_t index = 0; index < table.count; index++) {
        struct vring_packed_desc desc;
        r = virtq_table_entry(&table, index, &desc);
        if (r == -EPROTO)
            return virtqueue_wrong(queue, "an indirect table outside memory");
        if (r < 0)
            return r;
        /* Flags other than WRITE, and the id, are reserved and ignored. */
        bool writable = (le16_to_cpu(desc.flags) & VRING_DESC_F_WRITE) != 0;
        r = virtq_build_add(build, le64_to_cpu(desc.address), le32_to_cpu(desc.length), writable);
        if (r < 0)
            return r;
    }
    return 0;
}

/* One descriptor of a request, @first or not. Returns 1 when another one follows, 0 after the last. */
static int read_desc(struct virtq_build *build, const struct virtq_packed_desc *desc, bool first)
{
    struct virtqueue *queue = build->queue;
    if ((desc->flags & VRING_DESC_F_INDIRECT) != 0) {
        if (!queue->indirect)
            return virtqueue_wrong(queue, "an indirect descriptor that was not negotiated");
        if (!first || (desc->flags & VRING_DESC_F_NEXT) != 0) /* 2.8.19 */
            return virtqueue_wrong(queue, "an indirect descriptor with a next one");
        return read_table(build, desc->address, desc->length);
    }
    int r = virtq_build_add(build, desc->address, desc->length, (desc->flags & VRING_DESC_F_WRITE) != 0);
    return r < 0 ? r : (desc->flags & VRING_DESC_F_NEXT) != 0;
}

/* What is not known of a request before it has been read. */
struct packed_request {
    uint32_t count; /* places in the ring */
    uint16_t id;
    uint16_t record;
};

/* The request at next_avail, whose first descriptor's second half is @rest. Errors as for virtq_build_add. */
static int read_ring(struct virtq_build *build, uint64_t rest, struct packed_request *request)
{
    struct virtqueue *queue = build->queue;
    bool recorded = queue->inflight != NULL;
    uint32_t left = queue->config.size - queue->held;
    uint32_t position = queue->next_avail;
    request->count = 0;
    for (;;) {
        struct virtq_packed_desc desc = unpack(shared_load_le64(&queue->ring[position].address), rest);
        if (request->count == left)
            return virtqueue_wrong(queue, "more descriptors than the ring has");
        int r = read_desc(build, &desc, request->count == 0);
        if (r < 0)
            return r;
        if (recorded)
            virtq_inflight_packed_add(queue, request->record, &desc, r == 0);
        request->count++;
        if (r == 0) {
            request->id = desc.id; /* 2.8.6: of the last in the list */
            return 0;
        }
        if (++position == queue->config.size)
            position = 0;
        rest = shared_load_le64(&queue->ring[position].length);
    }
}

/* A request that a predecessor had popped: its descriptors are in the record. */
static int read_record(struct virtq_build *build, struct packed_request *request)
{
    struct virtqueue *queue = build->queue;
    uint16_t entry = request->record;
    for (uint32_t i = 0; i < request->count; i++) {
        struct virtq_packed_desc desc = virtq_inflight_packed_desc(queue, &entry);
        int r = read_desc(build, &desc, i == 0);
        if (r < 0)
            return r;
        if ((r > 0) != (i + 1 < request->count))
            return virtqueue_wrong(queue, "an in-flight record whose descriptors do not fit together");
        request->id = desc.id;
    }
    return 0;
}

/* @r: how reading went. The chain, or nothing taken. */
static int end_chain(struct virtq_build *build, int r, const struct packed_request *request,
                     struct virtq_chain **ret_chain)
{
    if (r == 0 && virtq_build_too_long(build))
        r = virtqueue_wrong(build->queue, "a chain of 4 GiB or more");
    if (r < 0) {
        virtq_build_fail(build);
        return r;
    }
    struct virtq_chain *chain = virtq_build_end(build, request->id);
    chain->ring_count = (uint16_t)request->count;
    chain->record = request->record;
    *ret_chain = chain;
    return 0;
}

/* The chain at next_avail is out: go on behind it. */
static inline void pass(struct virtqueue *queue, uint32_t count)
{
    queue->held += count;
    queue->next_avail = (uint16_t)step_on(queue, queue->next_avail, count, &queue->avail_mark);
    if (queue->seen > 0)
        queue->seen -= (uint16_t)u32_min(queue->seen, count);
}

/* A chain of any kind, or what is wrong with it. Errors as for virtq_build_add, with nothing taken. */
static int take_any(struct virtqueue *queue, uint64_t rest, struct virtq_chain **ret_chain)
{
    struct packed_request request = {.count = 0};
    struct virtq_build build;
    bool recorded = queue->inflight != NULL;
    if (recorded)
        request.record = virtq_inflight_packed_take_begin(queue);
    virtq_build_begin(&build, queue);
    int r = end_chain(&build, read_ring(&build, rest, &request), &request, ret_chain);
    if (r < 0) {
        if (recorded)
            virtq_inflight_packed_undo(queue, request.record);
        return r;
    }
    if (recorded)
        virtq_inflight_packed_take(queue);
    pass(queue, request.count);
    return 0;
}

/* A whole table into @plain; false: it is none of the common ones. */
static inline bool read_plain_table(struct virtq_plain *plain, const struct guest_memory *memory, uint64_t address,
                                    uint32_t bytes)
{
    uint32_t count;
    const uint8_t *table = virtq_plain_table(memory, address, bytes, &count);
    if (table == NULL || count > VIRTQ_SHORT_RUN_PIECES)
        return false;
    for (uint32_t i = 0; i < count; i++, table += VIRTQ_TABLE_ENTRY_BYTES) {
        uint64_t buffer = shared_load_le64_unaligned(table);
        uint64_t rest = shared_load_le64_unaligned(table + sizeof(buffer));
        if (!virtq_plain_add(plain, memory, buffer, (uint32_t)rest, (rest >> 48 & VRING_DESC_F_WRITE) != 0))
            return false;
    }
    return true;
}

/* A chain of the common kind, direct or all in one table; NULL: it is none. There is no record to be kept. */
static inline struct virtq_chain *take_plain(struct virtqueue *queue, uint64_t rest)
{
    const struct guest_memory *memory = queue->memory;
    uint32_t left = queue->config.size - queue->held;
    uint32_t position = queue->next_avail;
    struct virtq_plain plain;
    virtq_plain_begin(&plain, queue);
    for (uint32_t count = 1; count <= left; count++) {
        uint64_t address = shared_load_le64(&queue->ring[position].address);
        uint32_t length = (uint32_t)rest, flags = (uint32_t)(rest >> 48);
        if ((flags & VRING_DESC_F_INDIRECT) != 0) {
            if (!queue->indirect || count > 1 || (flags & VRING_DESC_F_NEXT) != 0 ||
                !read_plain_table(&plain, memory, address, length))
                return NULL;
        } else if (!virtq_plain_add(&plain, memory, address, length, (flags & VRING_DESC_F_WRITE) != 0)) {
            return NULL;
        }
        if ((flags & VRING_DESC_F_NEXT) == 0) {
            struct virtq_chain *chain = virtq_plain_end(&plain, queue, (uint16_t)(rest >> 32));
            if (chain == NULL)
                return NULL;
            chain->ring_count = (uint16_t)count;
            pass(queue, count);
            return chain;
        }
        if (++position == queue->config.size)
            position = 0;
        rest = shared_load_le64(&queue->ring[position].length);
    }
    return NULL;
}

static int pop_recorded(struct virtqueue *queue, struct virtq_chain **chains, unsigned max)
{
    unsigned taken = 0, most = virtq_recorded_max(queue, max);
    while (taken < most && queue->resubmit_left > 0) {
        if (queue->arena->free_slot_count == 0) {
            queue->starved = true;
            return (int)taken;
        }
        struct packed_request request;
        if (!virtq_inflight_packed_next(queue, &request.record, &request.count))
            return virtq_pop_ended(queue, taken, virtqueue_wrong(queue, "an in-flight record that changes under us"));
        struct virtq_build build;
        virtq_build_begin(&build, queue);
        int r = end_chain(&build, read_record(&build, &request), &request, &chains[taken]);
        if (r < 0)
            return virtq_pop_ended(queue, taken, r);
        chains[taken]->resubmitted = true;
        virtq_inflight_packed_taken(queue, request.record, request.count);
        taken++;
    }
    queue->pop_again = most < max && queue->resubmit_left > 0;
    return (int)taken;
}

int virtq_packed_pop(struct virtqueue *queue, struct virtq_chain **chains, unsigned max)
{
    /* The record's lists have one front: see virtq_inflight_packed.c. */
    if (queue->inflight != NULL)
        virtq_packed_show(queue);
    if (queue->resubmit_left > 0)
        return pop_recorded(queue, chains, max);

    for (unsigned taken = 0; taken < max; taken++) {
        if (!is_available(queue, queue->next_avail, queue->avail_mark))
            return (int)taken;
        uint64_t rest = shared_load_le64(&queue->ring[queue->next_avail].length);
        if (queue->arena->free_slot_count == 0) {
            queue->starved = true;
            return (int)taken;
        }
        chains[taken] = queue->inflight == NULL ? take_plain(queue, rest) : NULL;
        if (chains[taken] == NULL) {
            int r = take_any(queue, rest, &chains[taken]);
            if (r < 0)
                return virtq_pop_ended(queue, taken, r);
        }
    }
    return (int)max;
}

void virtq_packed_unpop(struct virtqueue *queue, const struct virtq_chain *chain)
{
    uint32_t count = chain->ring_count;
    if (queue->inflight != NULL && queue->ring_mapped)
        virtq_packed_show(queue);
    if (chain->resubmitted) {
        virtq_inflight_packed_put_back(queue, chain->record, count);
        return;
    }
    queue->held -= count;
    queue->next_avail = (uint16_t)step_back(queue, queue->next_avail, count, &queue->avail_mark);
    queue->seen = (uint16_t)(queue->seen + count);
    if (queue->inflight != NULL)
        virtq_inflight_packed_unpop(queue, chain->record);
}
