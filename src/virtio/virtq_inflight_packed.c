/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A packed ring's descriptors are written over when requests come back out of order, so the record has copies of them.
 * Its entries are in one of two kinds of list: the descriptors of a request in flight, and the free ones. A request's
 * copies are taken from the front of the free list, and only the store to old_free_head makes that so for a successor;
 * a request that comes back goes to the front again, which counts once the ring shows it: both by the same four numbers
 * and their old values (free_head, used_index, used_wrap_counter). A successor that finds them different asks the ring
 * whether the batch had been shown, takes the new numbers or the old ones, and forgets whatever is marked in the free
 * list.
 *
 * As for the split ring's record, the processor's own order of stores suffices, and compiler barriers keep it.
 *
 * Limits
 *
 * The text's lists have one front, so a request must not be taken while a batch is pushed and not shown: the layout
 * shows it first. To find the next of n recorded requests takes a walk over the record, n walks in all; what a pop may
 * spend on them is bounded (virtq_recorded_max). A front end that writes into the record while it is in use harms its
 * own requests only: indices are masked, walks are bounded.
 */
#include "virtio/virtq_inflight_packed.h"

#include <errno.h>

#include "virtio/virtq_inflight.h"
#include "virtio/virtq_packed.h"

static struct virtq_record_packed *record_of(const struct virtqueue *queue)
{
    return queue->inflight;
}

/* Entry @index of the record, whatever a stranger made of the number. */
static struct virtq_record_packed_entry *entry_at(const struct virtqueue *queue, uint16_t index)
{
    return &record_of(queue)->desc[index_mask(index, queue->config.size)];
}

static uint16_t load16(const uint16_t *at)
{
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}

static void make_ready(struct virtqueue *queue)
{
    struct virtq_record_packed *record = record_of(queue);
    record->desc_num = (uint16_t)queue->config.size;
    for (uint32_t i = 0; i < queue->config.size; i++)
        record->desc[i].next = (uint16_t)(i + 1);
    record->free_head = 0;
    record->old_free_head = 0;
    record->used_index = queue->next_used;
    record->old_used_index = queue->next_used;
    record->used_wrap_counter = queue->used_mark != 0;
    record->old_used_wrap_counter = queue->used_mark != 0;
    compiler_barrier();
    record->version = VIRTQ_RECORD_VERSION;
}

/* A batch was being shown when the predecessor died: was it? Then the new numbers hold, else the old ones. -EPROTO. */
static int settle_batch(struct virtqueue *queue)
{
    struct virtq_record_packed *record = record_of(queue);
    uint16_t used = load16(&record->used_index), old_used = load16(&record->old_used_index);
    uint8_t wrap = __atomic_load_n(&record->used_wrap_counter, __ATOMIC_RELAXED);
    uint8_t old_wrap = __atomic_load_n(&record->old_used_wrap_counter, __ATOMIC_RELAXED);
    if (used >= queue->config.size || old_used >= queue->config.size || wrap > 1 || old_wrap > 1)
        return -EPROTO;

    bool shown = false;
    if (used != old_used || wrap != old_wrap) {
        /* After a batch was shown the free heads are made equal first: the ring may have gone on since. */
        bool cleared = load16(&record->free_head) == load16(&record->old_free_head);
        uint16_t flags = shared_load_le16(&queue->ring[index_mask(old_used, queue->config.size)].flags);
        shown = cleared || (flags & PACKED_MARKS) != (old_wrap ? VRING_PACKED_DESC_F_AVAIL : VRING_PACKED_DESC_F_USED);
    }
    if (shown) {
        record->old_free_head = load16(&record->free_head);
        compiler_barrier();
        record->old_used_index = used;
        record->old_used_wrap_counter = wrap;
    } else {
        record->used_index = used = old_used;
        record->used_wrap_counter = wrap = old_wrap;
        compiler_barrier();
        record->free_head = load16(&record->old_free_head);
    }
    compiler_barrier();
    queue->next_used = used;
    queue->used_mark = wrap ? PACKED_MARKS : 0;
    return 0;
}

/* What is marked in the free list was not taken for good, or has been shown. */
static void clear_free_list(struct virtqueue *queue)
{
    uint32_t index = load16(&record_of(queue)->free_head);
    for (uint32_t left = queue->config.size; left > 0 && index < queue->config.size; left--) {
        struct virtq_record_packed_entry *entry = entry_at(queue, (uint16_t)index);
        entry->inflight = 0;
        index = load16(&entry->next);
    }
}

/* How many requests and descriptors are in flight, and the counter that follows theirs. -EPROTO. */
static int count_recorded(struct virtqueue *queue)
{
    const struct virtq_record_packed *record = record_of(queue);
    uint32_t requests = 0, descriptors = 0;
    uint64_t next_counter = 0;
    for (uint32_t i = 0; i < queue->config.size; i++) {
        const struct virtq_record_packed_entry *entry = &record->desc[i];
        uint8_t flag = __atomic_load_n(&entry->inflight, __ATOMIC_RELAXED);
        uint64_t counter = __atomic_load_n(&entry->counter, __ATOMIC_RELAXED);
        uint16_t num = load16(&entry->num);
        if (flag == 0)
            continue;
        if (flag != 1 || counter == UINT64_MAX || num == 0 || num > queue->config.size - descriptors)
            return -EPROTO;
        requests++;
        descriptors += num;
        if (counter >= next_counter)
            next_counter = counter + 1;
    }
    queue->resubmit_left = requests;
    queue->resubmit_held = descriptors;
    queue->held = descriptors;
    queue->inflight_counter = next_counter;
    return 0;
}

int virtq_inflight_packed_begin(struct virtqueue *queue)
{
    uint16_t version = load16(&record_of(queue)->version);
    if (version == 0) {
        make_ready(queue);
        return 0;
    }
    if (version != VIRTQ_RECORD_VERSION)
        return virtqueue_wrong(queue, "an in-flight record of an unknown version");
    if (load16(&record_of(queue)->desc_num) != (uint16_t)queue->config.size || settle_batch(queue) < 0)
        return virtqueue_wrong(queue, "an in-flight record of another ring");
    clear_free_list(queue);
    if (count_recorded(queue) < 0)
        return virtqueue_wrong(queue, "an in-flight record with impossible entries");

    uint32_t next = queue->next_used + queue->held;
    bool wrap = queue->used_mark != 0;
    if (next >= queue->config.size) {
        next -= queue->config.size;
        wrap = !wrap;
    }
    queue->next_avail = (uint16_t)next;
    queue->avail_mark = wrap ? VRING_PACKED_DESC_F_AVAIL : VRING_PACKED_DESC_F_USED;
    return 0;
}

uint16_t virtq_inflight_packed_take_begin(struct virtqueue *queue)
{
    uint16_t index = load16(&record_of(queue)->free_head);
    struct virtq_record_packed_entry *entry = entry_at(queue, index);
    entry->num = 0;
    entry->counter = queue->inflight_counter++;
    compiler_barrier();
    entry->inflight = 1;
    compiler_barrier();
    return index;
}

void virtq_inflight_packed_add(struct virtqueue *queue, uint16_t entry, const struct virtq_packed_desc *desc, bool last)
{
    struct virtq_record_packed *record = record_of(queue);
    struct virtq_record_packed_entry *first = entry_at(queue, entry);
    uint16_t index = load16(&record->free_head);
    struct virtq_record_packed_entry *copy = entry_at(queue, index);
    if (last)
        first->last = index;
    first->num++;
    copy->address = desc->address;
    copy->length = desc->length;
    copy->flags = desc->flags;
    copy->id = desc->id;
    record->free_head = load16(&copy->next);
}

void virtq_inflight_packed_take(struct virtqueue *queue)
{
    struct virtq_record_packed *record = record_of(queue);
    compiler_barrier();
    record->old_free_head = load16(&record->free_head);
    compiler_barrier();
}

void virtq_inflight_packed_undo(struct virtqueue *queue, uint16_t entry)
{
    struct virtq_record_packed *record = record_of(queue);
    record->free_head = load16(&record->old_free_head);
    entry_at(queue, entry)->inflight = 0;
    queue->inflight_counter--;
}

/* The list of @entry comes to the front of the free list. */
static void put_in_front(struct virtqueue *queue, uint16_t entry)
{
    struct virtq_record_packed *record = record_of(queue);
    entry_at(queue, load16(&entry_at(queue, entry)->last))->next = load16(&record->free_head);
    compiler_barrier();
    record->free_head = entry;
}

void virtq_inflight_packed_unpop(struct virtqueue *queue, uint16_t entry)
{
    struct virtq_record_packed *record = record_of(queue);
    put_in_front(queue, entry);
    compiler_barrier();
    record->old_free_head = entry;
    compiler_barrier();
    entry_at(queue, entry)->inflight = 0;
}

void virtq_inflight_packed_push(struct virtqueue *queue, uint16_t entry)
{
    put_in_front(queue, entry);
    compiler_barrier();
}

void virtq_inflight_packed_show_begin(struct virtqueue *queue)
{
    struct virtq_record_packed *record = record_of(queue);
    compiler_barrier();
    record->used_index = queue->next_used;
    record->used_wrap_counter = queue->used_mark != 0;
    compiler_barrier();
}

void virtq_inflight_packed_show_end(struct virtqueue *queue, uint32_t count)
{
    struct virtq_record_packed *record = record_of(queue);
    compiler_barrier();
    uint16_t index = load16(&record->free_head);
    for (; count > 0; count--) {
        struct virtq_record_packed_entry *entry = entry_at(queue, index);
        entry->inflight = 0;
        index = load16(&entry_at(queue, load16(&entry->last))->next);
    }
    compiler_barrier();
    record->old_free_head = load16(&record->free_head);
    compiler_barrier();
    record->old_used_index = queue->next_used;
    record->old_used_wrap_counter = queue->used_mark != 0;
    compiler_barrier();
}

bool virtq_inflight_packed_next(const struct virtqueue *queue, uint16_t *ret_entry, uint32_t *ret_count)
{
    const struct virtq_record_packed *record = record_of(queue);
    bool found = false;
    uint32_t best_index = 0;
    uint64_t best = 0;
    for (uint32_t i = 0; i < queue->config.size; i++) {
        const struct virtq_record_packed_entry *entry = &record->desc[i];
        if (__atomic_load_n(&entry->inflight, __ATOMIC_RELAXED) != 1)
            continue;
        uint64_t counter = __atomic_load_n(&entry->counter, __ATOMIC_RELAXED);
        if (counter < queue->resubmit_counter || (counter == queue->resubmit_counter && i < queue->resubmit_head))
            continue;
        if (!found || counter < best) {
            found = true;
            best = counter;
            best_index = i;
        }
    }
    uint32_t count = load16(&record->desc[best_index].num);
    *ret_entry = (uint16_t)best_index;
    *ret_count = count;
    /* As many in all as were counted when this life began, whatever has been written since. */
    return found && count > 0 && count <= queue->resubmit_held;
}

struct virtq_packed_desc virtq_inflight_packed_desc(const struct virtqueue *queue, uint16_t *entry)
{
    const struct virtq_record_packed_entry *at = entry_at(queue, *entry);
    *entry = load16(&at->next);
    return (struct virtq_packed_desc){
        .address = __atomic_load_n(&at->address, __ATOMIC_RELAXED),
        .length = __atomic_load_n(&at->length, __ATOMIC_RELAXED),
        .id = load16(&at->id),
        .flags = load16(&at->flags),
    };
}

void virtq_inflight_packed_taken(struct virtqueue *queue, uint16_t entry, uint32_t count)
{
    queue->resubmit_counter = __atomic_load_n(&entry_at(queue, entry)->counter, __ATOMIC_RELAXED);
    queue->resubmit_head = entry + 1u;
    queue->resubmit_left--;
    queue->resubmit_held -= count;
}

void virtq_inflight_packed_put_back(struct virtqueue *queue, uint16_t entry, uint32_t count)
{
    queue->resubmit_counter = __atomic_load_n(&entry_at(queue, entry)->counter, __ATOMIC_RELAXED);
    queue->resubmit_head = entry;
    queue->resubmit_left++;
    queue->resubmit_held += count;
}
