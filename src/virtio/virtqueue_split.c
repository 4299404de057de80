/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The split layout (VIRTIO 1.3, 2.7).
 *
 * Theory of operation
 *
 * next_avail and next_used are our own; the driver's numbers are read, checked and never trusted to stay. A pop reads
 * the heads of a burst first and asks the cache for their descriptors, then reads each chain: in the hope that it is of
 * the common kind, and when it is not, from its head again, by code that knows every kind. Either reading copies a
 * descriptor once, into registers, and looks at the copy alone.
 *
 * Order. The driver's index is loaded with acquire, so what it had written before (entries, descriptors, data) is seen
 * (2.7.13). Our index is stored with release. Going to sleep and asking for an interrupt are the same race from two
 * sides: each stores its index, passes a full barrier, and loads the other's wish (2.7.7.2, 2.7.10); a weaker one would
 * let the load go first, on x86 too.
 *
 * Limits
 *
 * Each part of the ring must be one piece of this process.
 */
#include <stdalign.h>

#include "virtio/virtq_inflight.h"
#include "virtio/virtq_layout.h"

static inline const void *used_event(const struct virtqueue *queue)
{
    return &queue->avail->ring[queue->config.size];
}

static inline void *avail_event(const struct virtqueue *queue)
{
    return &queue->used->ring[queue->config.size];
}

/* We wrote [@offset, @offset + @bytes) of the used ring. */
static void mark_used(const struct virtqueue *queue, uint64_t offset, uint64_t bytes)
{
    virtq_mark_ring(queue, queue->config.used_log_address, offset, bytes);
}

static int split_check(const struct virtqueue_config *config)
{
    if (!is_power_of_two(config->size) || config->size > VRING_SIZE_MAX)
        return -EINVAL;
    if (!is_aligned(config->desc_address, VRING_DESC_ALIGN) || !is_aligned(config->avail_address, VRING_AVAIL_ALIGN) ||
        !is_aligned(config->used_address, VRING_USED_ALIGN))
        return -EINVAL;
    return 0;
}

static void split_unmap(struct virtqueue *queue)
{
    const struct virtqueue_config *config = &queue->config;
    const struct guest_memory *memory = queue->memory;
    guest_memory_unmap(memory, config->desc_address, vring_desc_bytes(config->size), queue->desc, false);
    guest_memory_unmap(memory, config->avail_address, vring_avail_bytes(config->size), queue->avail, false);
    guest_memory_unmap(memory, config->used_address, vring_used_bytes(config->size), queue->used, true);
    queue->desc = NULL;
    queue->avail = NULL;
    queue->used = NULL;
}

static int split_map(struct virtqueue *queue)
{
    const struct virtqueue_config *config = &queue->config;
    uint64_t desc_bytes = vring_desc_bytes(config->size);
    uint64_t avail_bytes = vring_avail_bytes(config->size);
    void *desc, *avail, *used;

    int r = virtq_map_part(queue, config->desc_address, desc_bytes, alignof(struct vring_desc), false, &desc);
    if (r < 0)
        return r;
    r = virtq_map_part(queue, config->avail_address, avail_bytes, alignof(struct vring_avail), false, &avail);
    if (r < 0)
        goto unmap_desc;
    r = virtq_map_part(queue, config->used_address, vring_used_bytes(config->size), alignof(struct vring_used), true,
                       &used);
    if (r < 0)
        goto unmap_avail;

    queue->desc = desc;
    queue->avail = avail;
    queue->used = used;
    return 0;

unmap_avail:
    guest_memory_unmap(queue->memory, config->avail_address, avail_bytes, avail, false);
unmap_desc:
    guest_memory_unmap(queue->memory, config->desc_address, desc_bytes, desc, false);
    return r;
}

/* 2.7.5: one descriptor, copied by two loads. @desc is in guest memory, aligned. */
static inline struct vring_desc load_desc(const struct vring_desc *desc)
{
    uint64_t address = shared_load_le64(&desc->address);
    uint64_t rest = shared_load_le64(&desc->length);
    return (struct vring_desc){
        .address = address,
        .length = (uint32_t)rest,
        .flags = (uint16_t)(rest >> 32),
        .next = (uint16_t)(rest >> 48),
    };
}

/* 2.7.5.3: the rest of the chain is in a table at @address. */
static int read_table(struct virtq_build *build, uint64_t address, uint32_t bytes)
{
    struct virtqueue *queue = build->queue;
    struct virtq_table table;
    int r = virtq_table_open(&table, build, address, bytes);
    if (r < 0)
        return r;
    uint32_t index = 0;
    /* No entry is visited twice in a sound table: one step more is a loop. */
    for (uint32_t left = table.count; left > 0; left--) {
        struct vring_desc desc;
        r = virtq_table_entry(&table, index, &desc);
        if (r == -EPROTO)
            return virtqueue_wrong(queue, "an indirect table outside memory");
        if (r < 0)
            return r;
        uint16_t flags = le16_to_cpu(desc.flags);
        if ((flags & VRING_DESC_F_INDIRECT) != 0)
            return virtqueue_wrong(queue, "an indirect table in an indirect table"); /* 2.7.5.3.1 */
        r = virtq_build_add(build, le64_to_cpu(desc.address), le32_to_cpu(desc.length),
                            (flags & VRING_DESC_F_WRITE) != 0);
        if (r < 0)
            return r;
        if ((flags & VRING_DESC_F_NEXT) == 0)
            return 0;
        index = le16_to_cpu(desc.next);
        if (index >= table.count)
            return virtqueue_wrong(queue, "a next descriptor outside its indirect table");
    }
    return virtqueue_wrong(queue, "an indirect table whose chain loops");
}

/* Read the chain that begins at descriptor @head. Errors as for virtq_build_add. */
static int read_chain(struct virtq_build *build, uint32_t head)
{
    struct virtqueue *queue = build->queue;
    uint32_t size = queue->config.size;
    uint32_t index = head;
    for (uint32_t left = size; left > 0; left--) {
        if (index >= size)
            return virtqueue_wrong(queue, left == size ? "a head outside the descriptor table"
                                                       : "a next descriptor outside the descriptor table");
        struct vring_desc desc = load_desc(&queue->desc[index & queue->size_mask]); /* also when mispredicted */
        if ((desc.flags & VRING_DESC_F_INDIRECT) != 0) {
            /* 2.7.5.3.1: only where negotiated, and only at the end. 2.7.5.3.2: WRITE says nothing here. */
            if (!queue->indirect)
                return virtqueue_wrong(queue, "an indirect descriptor that was not negotiated");
            if ((desc.flags & VRING_DESC_F_NEXT) != 0)
                return virtqueue_wrong(queue, "an indirect descriptor with a next one");
            return read_table(build, desc.address, desc.length);
        }
        int r = virtq_build_add(build, desc.address, desc.length, (desc.flags & VRING_DESC_F_WRITE) != 0);
        if (r < 0)
            return r;
        if ((desc.flags & VRING_DESC_F_NEXT) == 0)
            return 0;
        index = desc.next;
    }
    return virtqueue_wrong(queue, "a chain that loops"); /* more steps than descriptors */
}

/* A chain of any kind, or what is wrong with it. Errors as for virtq_build_add, with nothing taken. */
static int take_any(struct virtqueue *queue, uint32_t head, struct virtq_chain **ret_chain)
{
    struct virtq_build build;
    virtq_build_begin(&build, queue);
    int r = read_chain(&build, head);
    if (r == 0 && virtq_build_too_long(&build))
        r = virtqueue_wrong(queue, "a chain of 4 GiB or more");
    if (r < 0) {
        virtq_build_fail(&build);
        return r;
    }
    *ret_chain = virtq_build_end(&build, (uint16_t)head);
    return 0;
}

/* A chain of the common kind, direct or all in one table; NULL: it is none. */
static inline __attribute__((always_inline)) struct virtq_chain *take_plain(struct virtqueue *queue, uint32_t head)
{
    const struct guest_memory *memory = queue->memory;
    const uint8_t *table = (const uint8_t *)queue->desc;
    uint32_t size = queue->config.size;
    uint32_t index = head;
    bool indirect = queue->indirect;
    struct virtq_plain plain;
    virtq_plain_begin(&plain, queue);
    for (;;) {
        if (index >= size)
            return NULL;
        const uint8_t *at = table + index_mask(index, size) * sizeof(struct vring_desc);
        uint64_t address = shared_load_le64_unaligned(at);
        uint64_t rest = shared_load_le64_unaligned(at + sizeof(address));
        uint32_t length = (uint32_t)rest, flags = (uint32_t)(rest >> 32);
        if ((flags & VRING_DESC_F_INDIRECT) != 0) {
            /* Not twice, and not at the end of direct ones. */
            if (!indirect || plain.count > 0 || (flags & VRING_DESC_F_NEXT) != 0)
                return NULL;
            table = virtq_plain_table(memory, address, length, &size);
            if (table == NULL)
                return NULL;
            indirect = false;
            index = 0;
            continue;
        }
        if (!virtq_plain_add(&plain, memory, address, length, (flags & VRING_DESC_F_WRITE) != 0))
            return NULL;
        if ((flags & VRING_DESC_F_NEXT) == 0)
            return virtq_plain_end(&plain, queue, (uint16_t)head);
        index = (uint32_t)(rest >> 48);
    }
}

/* Requests that a predecessor had popped and not completed: they are in the record, not in the available ring. */
static int pop_recorded(struct virtqueue *queue, struct virtq_chain **chains, unsigned max)
{
    unsigned taken = 0, most = virtq_recorded_max(queue, max);
    while (taken < most && queue->resubmit_left > 0) {
        if (queue->arena->free_slot_count == 0) {
            queue->starved = true;
            return (int)taken;
        }
        uint16_t head;
        uint64_t counter;
        if (!virtq_inflight_next(queue, &head, &counter))
            return virtq_pop_ended(queue, taken, virtqueue_wrong(queue, "an in-flight record that changes under us"));
        int r = take_any(queue, head, &chains[taken]);
        if (r < 0)
            return virtq_pop_ended(queue, taken, r);
        chains[taken]->resubmitted = true;
        virtq_inflight_taken(queue, head, counter);
        taken++;
    }
    queue->pop_again = most < max && queue->resubmit_left > 0;
    return (int)taken;
}

static int split_pop(struct virtqueue *queue, struct virtq_chain **chains, unsigned max)
{
    if (queue->resubmit_left > 0)
        return pop_recorded(queue, chains, max);

    uint32_t available = (uint16_t)(queue->avail_seen - queue->next_avail);
    if (available < max) {
        queue->avail_seen = shared_load_le16_acquire(&queue->avail->index);
        available = (uint16_t)(queue->avail_seen - queue->next_avail);
    }
    /* 2.7.13.3.1: the driver cannot have made more available than the ring has entries. */
    if (available > queue->config.size) {
        (void)virtqueue_wrong(queue, "an available index that jumps by more than the ring's size");
        return virtqueue_break(queue);
    }

    unsigned count = u32_min(available, max);
    if (count > queue->arena->free_slot_count) {
        count = queue->arena->free_slot_count;
        queue->starved = true;
    }
    uint16_t heads[VIRTQ_BURST_MAX];
    for (unsigned i = 0; i < count; i++) {
        heads[i] = shared_load_le16(&queue->avail->ring[(queue->next_avail + i) & queue->size_mask]);
        __builtin_prefetch(&queue->desc[heads[i] & queue->size_mask]);
    }

    for (unsigned i = 0; i < count; i++) {
        chains[i] = take_plain(queue, heads[i]);
        if (chains[i] == NULL) {
            int r = take_any(queue, heads[i], &chains[i]);
            if (r < 0)
                return virtq_pop_ended(queue, i, r);
        }
        queue->next_avail++;
        if (queue->inflight != NULL)
            virtq_inflight_pop(queue, heads[i]);
    }
    return (int)count;
}

static void split_unpop(struct virtqueue *queue, const struct virtq_chain *chain)
{
    if (chain->resubmitted) {
        virtq_inflight_put_back(queue, chain->head);
        return;
    }
    queue->next_avail--;
    if (queue->inflight != NULL)
        virtq_inflight_unpop(queue, chain->head);
}

static void split_push(struct virtqueue *queue, struct virtq_chain **chains, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct virtq_chain *chain = chains[i];
        struct vring_used_element *element = &queue->used->ring[queue->next_used & queue->size_mask];
        element->id = cpu_to_le32(chain->head);
        element->length = cpu_to_le32(chain->written);
        queue->next_used++;
        if (queue->inflight != NULL)
            virtq_inflight_push(queue, chain->head);
        virtq_give_back(queue, chain);
    }
}

static void mark_batch(const struct virtqueue *queue, uint16_t old, uint16_t new)
{
    uint32_t size = queue->config.size;
    uint32_t count = u32_min((uint16_t)(new - old), size);
    uint32_t first = old & queue->size_mask;
    uint32_t before_wrap = u32_min(count, size - first);
    mark_used(queue, offsetof(struct vring_used, ring) + (uint64_t)first * sizeof(struct vring_used_element),
              (uint64_t)before_wrap * sizeof(struct vring_used_element));
    mark_used(queue, offsetof(struct vring_used, ring),
              (uint64_t)(count - before_wrap) * sizeof(struct vring_used_element));
}

/* 2.7.7.2: does the driver want to hear that our index has moved from @old to @new? */
static bool wants_notification(struct virtqueue *queue, uint16_t new)
{
    uint16_t old = queue->signalled_used;
    bool valid = queue->signalled_valid;
    queue->signalled_used = new;
    queue->signalled_valid = true;

    /* The index must be seen before we look at the wish. */
    full_barrier();
    if (!queue->event_idx)
        return (shared_load_le16(&queue->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT) == 0;
    uint16_t event = shared_load_le16(used_event(queue));
    return !valid || (uint16_t)(new - event - 1) < (uint16_t)(new - old);
}

static bool split_publish(struct virtqueue *queue)
{
    uint16_t old = queue->published_used;
    uint16_t new = queue->next_used;
    if (old == new)
        return false;

    shared_store_le16_release(&queue->used->index, new);
    queue->published_used = new;
    if (queue->log != NULL) {
        mark_batch(queue, old, new);
        mark_used(queue, offsetof(struct vring_used, index), sizeof(queue->used->index));
    }
    if (queue->inflight != NULL)
        virtq_inflight_shown(queue, (uint16_t)(new - old), new);
    return wants_notification(queue, new);
}

static bool split_fresh(const struct virtqueue *queue)
{
    return shared_load_le16_acquire(&queue->avail->index) != queue->avail_seen;
}

static bool split_fresh_once(struct virtqueue *queue)
{
    uint16_t index = shared_load_le16_acquire(&queue->avail->index);
    bool came = index != queue->avail_seen;
    queue->avail_seen = index; /* judged by the next pop */
    return came;
}

static bool split_kicks_on(struct virtqueue *queue)
{
    if (queue->pop_again) {
        queue->pop_again = false;
        return true;
    }
    if (queue->event_idx) {
        /* Asked for at just this index already: whatever has come since has been, or will be, kicked for. */
        if (queue->armed_valid && queue->armed_event == queue->avail_seen) {
            queue->kicks_on = true;
            return false;
        }
        shared_store_le16(avail_event(queue), queue->avail_seen);
        queue->armed_event = queue->avail_seen;
        queue->armed_valid = true;
        mark_used(queue, vring_used_bytes(queue->config.size) - sizeof(uint16_t), sizeof(uint16_t));
    } else {
        if (queue->kicks_on)
            return false;
        shared_store_le16(&queue->used->flags, 0);
        mark_used(queue, offsetof(struct vring_used, flags), sizeof(uint16_t));
    }
    queue->kicks_on = true;

    full_barrier(); /* the wish must be seen before we look at the index a last time */
    return split_fresh_once(queue);
}

static void split_kicks_off(struct virtqueue *queue)
{
    if (!queue->event_idx) {
        if (queue->kicks_on) {
            shared_store_le16(&queue->used->flags, VRING_USED_F_NO_NOTIFY);
            mark_used(queue, offsetof(struct vring_used, flags), sizeof(uint16_t));
        }
    } else if (queue->kicks_on && queue->armed_valid && queue->armed_event == queue->avail_seen &&
               !split_fresh(queue)) {
        /* The driver has not come to the event yet. One that is past stays so: we do not move it on (2.7.10). */
        shared_store_le16(avail_event(queue), (uint16_t)(queue->avail_seen - 1));
        mark_used(queue, vring_used_bytes(queue->config.size) - sizeof(uint16_t), sizeof(uint16_t));
        queue->armed_valid = false;
    }
    queue->kicks_on = false;
}

static bool split_pending(const struct virtqueue *queue)
{
    return queue->resubmit_left > 0 || shared_load_le16_acquire(&queue->avail->index) != queue->next_avail;
}

static int split_begin(struct virtqueue *queue)
{
    uint16_t used_index = shared_load_le16(&queue->used->index);
    queue->next_avail = (uint16_t)queue->config.base;
    if (queue->inflight != NULL) {
        int r = virtq_inflight_begin(queue, used_index);
        if (r < 0)
            return r;
    }
    queue->avail_seen = queue->next_avail;
    queue->next_used = used_index;
    queue->published_used = used_index;
    queue->signalled_valid = false;
    queue->armed_valid = false;
    /* 2.7.10.1: always 0 with the event index. Without it, kicks are on until a run turns them off. */
    queue->kicks_on = !queue->event_idx;
    shared_store_le16(&queue->used->flags, 0);
    mark_used(queue, offsetof(struct vring_used, flags), sizeof(uint16_t));
    return 0;
}

static uint32_t split_base(const struct virtqueue *queue)
{
    return queue->next_avail;
}

static bool split_shown(const struct virtqueue *queue)
{
    return queue->next_used == queue->published_used;
}

const struct virtq_layout virtq_split_layout = {
    .check = split_check,
    .map = split_map,
    .unmap = split_unmap,
    .begin = split_begin,
    .base = split_base,
    .shown = split_shown,
    .pop = split_pop,
    .push = split_push,
    .publish = split_publish,
    .unpop = split_unpop,
    .kicks_on = split_kicks_on,
    .kicks_off = split_kicks_off,
    .pending = split_pending,
    .fresh = split_fresh,
    .fresh_once = split_fresh_once,
};
