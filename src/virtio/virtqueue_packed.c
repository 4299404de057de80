/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The packed layout (VIRTIO 1.3, 2.8).
 *
 * Theory of operation
 *
 * One ring of descriptors: the driver makes them available in order, and the device writes used ones over those that it
 * has taken, in the order in which requests come back. Both sides know by two flag bits, whose meaning turns with each
 * lap, which is which; avail_mark and used_mark are what they must be on the lap at hand. A request takes ring_count
 * places and is given back in one descriptor, behind which as many places are skipped.
 *
 * How requests are taken is in virtq_packed_pop.c. Of a batch that is given back, the first descriptor is kept in this
 * process until the batch is published: the driver looks at places in order, and sees none of it before.
 *
 * Order. The flags of a request's first descriptor are loaded with acquire, so the others and the data are seen
 * (2.8.6). The descriptor that shows a batch is stored with release. Sleeping and notifications are as in the split
 * ring, with the event suppression areas in place of indices (2.8.10).
 *
 * Limits
 *
 * The ring and the areas must each be one piece of this process.
 */
#include <stdalign.h>

#include "virtio/virtq_inflight_packed.h"
#include "virtio/virtq_packed.h"

#define PACKED_POSITION_MASK ((1u << VRING_PACKED_WRAP_BIT) - 1)

static uint16_t avail_mark(bool wrap)
{
    return wrap ? VRING_PACKED_DESC_F_AVAIL : VRING_PACKED_DESC_F_USED;
}

static uint16_t used_mark(bool wrap)
{
    return wrap ? PACKED_MARKS : 0;
}

static int packed_check(const struct virtqueue_config *config)
{
    if (config->size == 0 || config->size > VRING_SIZE_MAX)
        return -EINVAL;
    if (!is_aligned(config->desc_address, VRING_PACKED_DESC_ALIGN) ||
        !is_aligned(config->avail_address, VRING_PACKED_EVENT_ALIGN) ||
        !is_aligned(config->used_address, VRING_PACKED_EVENT_ALIGN))
        return -EINVAL;
    return 0;
}

static void packed_unmap(struct virtqueue *queue)
{
    const struct virtqueue_config *config = &queue->config;
    const struct guest_memory *memory = queue->memory;
    uint32_t event_bytes = sizeof(struct vring_packed_event);
    guest_memory_unmap(memory, config->desc_address, vring_packed_desc_bytes(config->size), queue->ring, true);
    guest_memory_unmap(memory, config->avail_address, event_bytes, queue->driver_event, false);
    guest_memory_unmap(memory, config->used_address, event_bytes, queue->device_event, true);
    queue->ring = NULL;
    queue->driver_event = NULL;
    queue->device_event = NULL;
}

static int packed_map(struct virtqueue *queue)
{
    const struct virtqueue_config *config = &queue->config;
    uint64_t ring_bytes = vring_packed_desc_bytes(config->size);
    uint64_t event_bytes = sizeof(struct vring_packed_event);
    void *ring, *driver_event, *device_event;

    int r = virtq_map_part(queue, config->desc_address, ring_bytes, alignof(struct vring_packed_desc), true, &ring);
    if (r < 0)
        return r;
    r = virtq_map_part(queue, config->avail_address, event_bytes, VRING_PACKED_EVENT_ALIGN, false, &driver_event);
    if (r < 0)
        goto undo_ring;
    r = virtq_map_part(queue, config->used_address, event_bytes, VRING_PACKED_EVENT_ALIGN, true, &device_event);
    if (r < 0)
        goto undo_driver;
    queue->ring = ring;
    queue->driver_event = driver_event;
    queue->device_event = device_event;
    return 0;

undo_driver:
    guest_memory_unmap(queue->memory, config->avail_address, event_bytes, driver_event, false);
undo_ring:
    guest_memory_unmap(queue->memory, config->desc_address, ring_bytes, ring, false);
    return r;
}

/* We wrote the first four bytes of the device area. */
static void store_device_event(const struct virtqueue *queue, uint32_t position, uint32_t flags)
{
    shared_store_le32(queue->device_event, position | flags << 16);
    virtq_mark_ring(queue, queue->config.used_log_address, 0, sizeof(struct vring_packed_event));
}

/* We wrote the descriptor at @position: after the store, or a log that is read in between loses it. */
static void mark_desc(const struct virtqueue *queue, uint32_t position)
{
    if (queue->log != NULL)
        virtq_mark_ring(queue, queue->config.desc_address, (uint64_t)position * sizeof(struct vring_packed_desc),
                        sizeof(struct vring_packed_desc));
}

/* ---- giving back ---- */

static void packed_push(struct virtqueue *queue, struct virtq_chain **chains, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct virtq_chain *chain = chains[i];
        uint32_t position = queue->next_used;
        uint16_t written = chain->written > 0 ? VRING_DESC_F_WRITE : 0; /* 2.8.3 */
        uint64_t rest = (uint64_t)(queue->used_mark | written) << 48 | (uint64_t)chain->head << 32 | chain->written;
        if (queue->unshown == 0) {
            queue->first_unshown = (uint16_t)position;
            queue->first_rest = rest;
        } else {
            shared_store_le64(&queue->ring[position].length, rest);
            mark_desc(queue, position);
        }
        queue->next_used = (uint16_t)step_on(queue, position, chain->ring_count, &queue->used_mark);
        queue->unshown += chain->ring_count;
        queue->unshown_chains++;
        queue->held -= chain->ring_count;
        if (queue->inflight != NULL)
            virtq_inflight_packed_push(queue, chain->record);
        virtq_give_back(queue, chain);
    }
}

void virtq_packed_show(struct virtqueue *queue)
{
    if (queue->unshown == 0)
        return;
    if (queue->inflight != NULL)
        virtq_inflight_packed_show_begin(queue);
    struct vring_packed_desc *first = &queue->ring[queue->first_unshown];
    first->length = cpu_to_le32((uint32_t)queue->first_rest);
    first->id = cpu_to_le16((uint16_t)(queue->first_rest >> 32));
    shared_store_le16_release(&first->flags, (uint16_t)(queue->first_rest >> 48));
    mark_desc(queue, queue->first_unshown);
    if (queue->inflight != NULL)
        virtq_inflight_packed_show_end(queue, queue->unshown_chains);
    queue->unsignalled += queue->unshown;
    queue->unshown = 0;
    queue->unshown_chains = 0;
}

/* 2.8.10: does the driver want to hear of the last @count places that were given back? */
static bool wants_notification(struct virtqueue *queue, uint32_t count)
{
    bool valid = queue->signalled_valid;
    queue->signalled_valid = true;
    full_barrier(); /* they must be seen before we look at the wish */
    uint32_t event = shared_load_le32(queue->driver_event);
    uint32_t flags = event >> 16 & 3;
    if (flags != VRING_PACKED_EVENT_DESC || !queue->event_idx)
        return flags != VRING_PACKED_EVENT_DISABLE;

    /* How far the place that the driver named lies behind the next one to give back; of the other lap, one lap more. */
    uint32_t position = event & PACKED_POSITION_MASK;
    bool same_lap = (event >> VRING_PACKED_WRAP_BIT & 1) == (queue->used_mark != 0);
    uint32_t next = queue->next_used + (same_lap ? 0 : queue->config.size);
    return !valid || (position < next && next - position <= count);
}

static bool packed_publish(struct virtqueue *queue)
{
    virtq_packed_show(queue);
    uint32_t count = queue->unsignalled;
    if (count == 0)
        return false;
    queue->unsignalled = 0;
    return wants_notification(queue, count);
}

static bool packed_shown(const struct virtqueue *queue)
{
    return queue->unshown == 0 && queue->unsignalled == 0;
}

/* ---- sleeping ---- */

/* The first place that no pop has looked at, and its mark. */
static uint32_t fresh_position(const struct virtqueue *queue, uint16_t *ret_mark)
{
    *ret_mark = queue->avail_mark;
    return step_on(queue, queue->next_avail, queue->seen, ret_mark);
}

/*
 * Is anything available from @position on, which no pop has looked at? It counts as looked at from now on, so that this
 * is said once: whoever does not pop it has it to remember.
 */
static bool note_seen(struct virtqueue *queue, uint32_t position, uint16_t mark)
{
    uint32_t left = queue->config.size - queue->held - u32_min(queue->seen, queue->config.size - queue->held);
    uint32_t count = 0;
    for (; count < left && is_available(queue, position, mark); count++)
        position = step_on(queue, position, 1, &mark);
    queue->seen = (uint16_t)(queue->seen + count);
    return count > 0;
}

static bool packed_kicks_on(struct virtqueue *queue)
{
    if (queue->pop_again) {
        queue->pop_again = false;
        return true;
    }
    uint16_t mark;
    uint32_t position = fresh_position(queue, &mark);
    if (queue->event_idx) {
        uint16_t event = (uint16_t)VIRTQ_BASE_PACKED(position, mark == VRING_PACKED_DESC_F_AVAIL);
        /* Asked for at just this place already: whatever has come since has been, or will be, kicked for. */
        if (queue->kicks_on && queue->armed_valid && queue->armed_event == event)
            return false;
        store_device_event(queue, event, VRING_PACKED_EVENT_DESC);
        queue->armed_event = event;
        queue->armed_valid = true;
    } else {
        if (queue->kicks_on)
            return false;
        store_device_event(queue, 0, VRING_PACKED_EVENT_ENABLE);
    }
    queue->kicks_on = true;
    full_barrier(); /* the wish must be seen before we look a last time */
    return note_seen(queue, position, mark);
}

static void packed_kicks_off(struct virtqueue *queue)
{
    /* Also with the event index: a place comes round again after two laps, an index of 16 bits does not so soon. */
    if (queue->kicks_on)
        store_device_event(queue, 0, VRING_PACKED_EVENT_DISABLE);
    queue->kicks_on = false;
}

static bool packed_pending(const struct virtqueue *queue)
{
    return queue->resubmit_left > 0 || is_available(queue, queue->next_avail, queue->avail_mark);
}

static bool packed_fresh(const struct virtqueue *queue)
{
    uint16_t mark;
    uint32_t position = fresh_position(queue, &mark);
    return is_available(queue, position, mark);
}

static bool packed_fresh_once(struct virtqueue *queue)
{
    uint16_t mark;
    uint32_t position = fresh_position(queue, &mark);
    return note_seen(queue, position, mark);
}

/* ---- life ---- */

/*
 * A predecessor that died may have given back descriptors behind one that it did not come to show. Nobody sees them
 * yet, but the driver would, as soon as we give back the one before: they are made available again, as the driver had
 * them.
 */
static void take_back_unshown(struct virtqueue *queue)
{
    uint32_t position = queue->next_used;
    uint16_t mark = queue->used_mark;
    for (uint32_t left = queue->held; left > 0; left--) {
        uint16_t *flags = &queue->ring[position].flags;
        if ((shared_load_le16(flags) & PACKED_MARKS) == mark) {
            shared_store_le16(flags, avail_mark(mark != 0));
            mark_desc(queue, position);
        }
        position = step_on(queue, position, 1, &mark);
    }
}

static int packed_begin(struct virtqueue *queue)
{
    uint32_t size = queue->config.size;
    uint32_t avail = queue->config.base & PACKED_POSITION_MASK;
    uint32_t used = queue->config.base >> 16 & PACKED_POSITION_MASK;
    bool avail_wrap = (queue->config.base >> VRING_PACKED_WRAP_BIT & 1) != 0;
    bool used_wrap = queue->config.base >> 31 != 0;
    if (avail >= size || used >= size)
        return -EINVAL;
    /* What lies between the two is in flight: no more than the ring has. */
    if (avail_wrap == used_wrap ? avail < used : avail > used)
        return -EINVAL;

    queue->next_avail = (uint16_t)avail;
    queue->next_used = (uint16_t)used;
    queue->avail_mark = avail_mark(avail_wrap);
    queue->used_mark = used_mark(used_wrap);
    queue->held = avail_wrap == used_wrap ? avail - used : size - used + avail;
    queue->seen = 0;
    queue->unshown = 0;
    queue->unshown_chains = 0;
    queue->unsignalled = 0;
    if (queue->inflight != NULL) {
        int r = virtq_inflight_packed_begin(queue);
        if (r < 0)
            return r;
        take_back_unshown(queue);
    }
    queue->signalled_valid = false;
    queue->armed_valid = false;
    /* Kicks are on until a run turns them off. */
    queue->kicks_on = true;
    store_device_event(queue, 0, VRING_PACKED_EVENT_ENABLE);
    return 0;
}

static uint32_t packed_base(const struct virtqueue *queue)
{
    return VIRTQ_BASE_PACKED(queue->next_avail, queue->avail_mark == VRING_PACKED_DESC_F_AVAIL) |
           VIRTQ_BASE_PACKED(queue->next_used, queue->used_mark != 0) << 16;
}

const struct virtq_layout virtq_packed_layout = {
    .check = packed_check,
    .map = packed_map,
    .unmap = packed_unmap,
    .begin = packed_begin,
    .base = packed_base,
    .shown = packed_shown,
    .pop = virtq_packed_pop,
    .push = packed_push,
    .publish = packed_publish,
    .unpop = virtq_packed_unpop,
    .kicks_on = packed_kicks_on,
    .kicks_off = packed_kicks_off,
    .pending = packed_pending,
    .fresh = packed_fresh,
    .fresh_once = packed_fresh_once,
};
