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
 * A descriptor is copied by two loads, once the flags of a request's first one have said that it is available. A
 * request is read in the hope that it is of the common kind, and when it is not, anew by code that knows every kind, as
 * in the split layout. Of a batch that is given back, the first descriptor is kept in this process until the batch is
 * published: the driver looks at places in order, and sees none of it before.
 *
 * Order. The flags of a request's first descriptor are loaded with acquire, so the others and the data are seen
 * (2.8.6). The descriptor that shows a batch is stored with release. Sleeping and notifications are as in the split
 * ring, with the event suppression areas in place of indices (2.8.10).
 *
 * A driver that makes a place available which it has not got back lies: held counts the places that are with us, and no
 * request may need more than there are left.
 *
 * Limits
 *
 * The ring and the areas must each be one piece of this process. Flags of a request's descriptors after the first are
 * not held against its lap (2.8.17 forbids drivers what that would find).
 */
#include <stdalign.h>

#include "virtio/virtq_inflight_packed.h"
#include "virtio/virtq_layout.h"

#define PACKED_MARKS (VRING_PACKED_DESC_F_AVAIL | VRING_PACKED_DESC_F_USED)
#define PACKED_POSITION_MASK ((1u << VRING_PACKED_WRAP_BIT) - 1)

static uint16_t avail_mark(bool wrap)
{
    return wrap ? VRING_PACKED_DESC_F_AVAIL : VRING_PACKED_DESC_F_USED;
}

static uint16_t used_mark(bool wrap)
{
    return wrap ? PACKED_MARKS : 0;
}

/* Is the place at @position, whose lap has @mark, available? */
static inline bool is_available(const struct virtqueue *queue, uint32_t position, uint16_t mark)
{
    return (shared_load_le16_acquire(&queue->ring[position].flags) & PACKED_MARKS) == mark;
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

/* ---- taking ---- */

/* @position and its mark, @count places further on. */
static inline uint32_t step_on(const struct virtqueue *queue, uint32_t position, uint32_t count, uint16_t *mark)
{
    position += count;
    if (position >= queue->config.size) {
        position -= queue->config.size;
        *mark ^= PACKED_MARKS;
    }
    return position;
}

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
    unsigned taken = 0;
    while (taken < max && queue->resubmit_left > 0) {
        if (queue->arena->free_slot_count == 0) {
            queue->starved = true;
            break;
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
    return (int)taken;
}

static void show(struct virtqueue *queue);

static int packed_pop(struct virtqueue *queue, struct virtq_chain **chains, unsigned max)
{
    /* The record's lists have one front: see virtq_inflight_packed.c. */
    if (queue->inflight != NULL)
        show(queue);
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

static void packed_unpop(struct virtqueue *queue, const struct virtq_chain *chain)
{
    uint32_t count = chain->ring_count;
    if (queue->inflight != NULL && queue->ring_mapped)
        show(queue);
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

/* Let the driver see what was pushed. */
static void show(struct virtqueue *queue)
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
    show(queue);
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
    .pop = packed_pop,
    .push = packed_push,
    .publish = packed_publish,
    .unpop = packed_unpop,
    .kicks_on = packed_kicks_on,
    .kicks_off = packed_kicks_off,
    .pending = packed_pending,
    .fresh = packed_fresh,
};
