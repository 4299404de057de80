/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A queue is stopped, running or stopping. Start reaches the ring and holds it mapped until the queue has stopped; the
 * layout (virtq_layout.h) knows how the ring looks, this file what holds for every one: states, the arena, chains in
 * the making, tokens. Popped chains are out; stopping waits for them, and the publication after the last one gives the
 * ring back.
 *
 * Descriptors are read once, checked, and turned into pieces in a run of the arena. The run is the slot's own until it
 * is full, then a medium, then a long one, so that a chain's pieces always lie side by side.
 *
 * Limits
 *
 * A chain has at most VIRTQ_LONG_RUN_PIECES pieces, whatever it is cut from. Generations of tokens come again after
 * 65536 starts. Requests of an in-flight record that were not yet popped anew when the queue stops stay in the record,
 * for the next start with it.
 */
#include "virtio/virtqueue.h"

#include "virtio/virtq_layout.h"

void virtqueue_init(struct virtqueue *queue, struct virtq_arena *arena)
{
    *queue = (struct virtqueue){.arena = arena, .state = VIRTQUEUE_STOPPED};
}

int virtqueue_wrong(struct virtqueue *queue, const char *reason)
{
    if (!queue->broken)
        queue->broken_reason = reason;
    return -EPROTO;
}

int virtqueue_break(struct virtqueue *queue)
{
    if (!queue->broken) {
        queue->broken = true;
        queue->broken_total++;
    }
    return -EPROTO;
}

int virtqueue_start(struct virtqueue *queue, const struct virtqueue_config *config, const struct guest_memory *memory,
                    const struct dirty_log *log, void *inflight)
{
    ASSERT(queue->state == VIRTQUEUE_STOPPED && queue->out_count == 0);
    bool packed = (config->features & VIRTIO_F_RING_PACKED) != 0;
    const struct virtq_layout *layout = packed ? &virtq_packed_layout : &virtq_split_layout;
    int r = layout->check(config);
    if (r < 0)
        return r;

    /* What a failure below leaves behind is of no consequence: the queue is stopped, and only a start reads it. */
    queue->layout = layout;
    queue->memory = memory;
    queue->log = log;
    queue->inflight = inflight;
    queue->broken = false;
    queue->broken_reason = NULL;
    queue->config = *config;
    queue->size_mask = config->size - 1;
    queue->event_idx = (config->features & VIRTIO_F_EVENT_IDX) != 0;
    queue->indirect = (config->features & VIRTIO_F_INDIRECT_DESC) != 0;
    queue->in_order = (config->features & VIRTIO_F_IN_ORDER) != 0;
    queue->resubmit_left = 0;
    queue->resubmit_head = 0;
    queue->resubmit_held = 0;
    queue->resubmit_counter = 0;
    queue->inflight_counter = 0;
    r = layout->map(queue);
    if (r < 0)
        return r;
    queue->ring_mapped = true;
    r = layout->begin(queue);
    if (r < 0) {
        layout->unmap(queue);
        queue->ring_mapped = false;
        return r;
    }

    queue->generation++;
    queue->arrivals = 0;
    queue->oldest = 0;
    queue->starved = false;
    queue->unreachable = false;
    queue->pop_again = false;
    queue->wake_again = false;
    queue->wake_at_ns = 0;
    queue->state = VIRTQUEUE_RUNNING;
    return 0;
}

int virtqueue_exchange(struct virtqueue *queue, const struct virtqueue_config *config,
                       const struct guest_memory *memory, const struct dirty_log *log)
{
    if (queue->state == VIRTQUEUE_STOPPED)
        return 0;
    if (queue->ring_mapped)
        queue->layout->unmap(queue);
    queue->ring_mapped = false;

    queue->memory = memory;
    queue->log = log;
    int r = config->size == queue->config.size ? queue->layout->check(config) : -EINVAL;
    if (r == 0) {
        queue->config.desc_address = config->desc_address;
        queue->config.avail_address = config->avail_address;
        queue->config.used_address = config->used_address;
        queue->config.used_log_address = config->used_log_address;
        queue->config.used_log = config->used_log;
        r = queue->layout->map(queue);
    }
    if (r < 0) {
        (void)virtqueue_wrong(queue, "the ring does not lie in memory any more");
        (void)virtqueue_break(queue);
        return r;
    }
    queue->ring_mapped = true;
    /* Whoever copied a ring elsewhere may have done so before we asked for kicks in the old one. */
    queue->armed_valid = false;
    return 0;
}

static void finish_stop(struct virtqueue *queue)
{
    if (queue->ring_mapped)
        queue->layout->unmap(queue);
    queue->ring_mapped = false;
    queue->wake_at_ns = 0;
    queue->wake_again = false;
    queue->starved = false;
    queue->base = queue->layout->base(queue);
    queue->state = VIRTQUEUE_STOPPED;
}

bool virtqueue_stop(struct virtqueue *queue)
{
    if (queue->state == VIRTQUEUE_STOPPED)
        return true;
    queue->state = VIRTQUEUE_STOPPING;
    if (queue->out_count > 0 || (queue->ring_mapped && !queue->layout->shown(queue)))
        return false;
    finish_stop(queue);
    return true;
}

uint32_t virtqueue_base(const struct virtqueue *queue)
{
    ASSERT(queue->state == VIRTQUEUE_STOPPED);
    return queue->base;
}

void virtqueue_set_base(struct virtqueue *queue, uint32_t base)
{
    ASSERT(queue->state == VIRTQUEUE_STOPPED);
    queue->base = base;
}

static void push_now(struct virtqueue *queue, struct virtq_chain **chains, unsigned count)
{
    if (queue->ring_mapped) {
        queue->layout->push(queue, chains, count);
        return;
    }
    for (unsigned i = 0; i < count; i++)
        virtq_give_back(queue, chains[i]);
}

/* Which slot came when: a ring of slots, by arrival. As many are out at most as there are slots. */
static uint16_t *order_at(const struct virtqueue *queue, uint32_t arrival)
{
    return &queue->arena->order[arrival & queue->arena->order_mask];
}

static void note_order(struct virtqueue *queue, struct virtq_chain **chains, int count)
{
    for (int i = 0; i < count; i++)
        *order_at(queue, chains[i]->arrival) = (uint16_t)chains[i]->token;
}

/* 2.7.9, 2.8.8: let @chains wait, and hand over those before which none is missing. */
static void push_in_order(struct virtqueue *queue, struct virtq_chain **chains, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        ASSERT(chains[i]->out);
        chains[i]->out = false;
        chains[i]->waiting = true;
    }
    for (;;) {
        struct virtq_chain *ready[VIRTQ_BURST_MAX];
        unsigned ready_count = 0;
        while (ready_count < VIRTQ_BURST_MAX && queue->oldest != queue->arrivals) {
            struct virtq_chain *chain = &queue->arena->chains[*order_at(queue, queue->oldest)];
            if (!chain->waiting)
                break;
            chain->waiting = false;
            chain->out = true;
            ready[ready_count++] = chain;
            queue->oldest++;
        }
        if (ready_count == 0)
            return;
        push_now(queue, ready, ready_count);
    }
}

int virtqueue_pop(struct virtqueue *queue, struct virtq_chain **chains, unsigned max)
{
    ASSERT(max <= VIRTQ_BURST_MAX);
    queue->starved = false;
    queue->unreachable = false;
    queue->pop_again = false;
    if (queue->state != VIRTQUEUE_RUNNING || queue->broken)
        return 0;
    int count = queue->layout->pop(queue, chains, max);
    if (count > 0)
        queue->popped_total += (unsigned)count;
    if (queue->in_order)
        note_order(queue, chains, count);
    return count;
}

int virtq_pop_ended(struct virtqueue *queue, unsigned taken, int r)
{
    if (r != -EPROTO) {
        queue->starved = true;
        queue->unreachable = r == -EAGAIN;
    } else {
        if (taken == 0)
            return virtqueue_break(queue);
        queue->starved = false;
        queue->pop_again = true;
    }
    return (int)taken;
}

void virtqueue_unpop(struct virtqueue *queue, struct virtq_chain **chains, unsigned count)
{
    /* It is the device that stops here, and that will come again: why the pop had ended is no reason to hurry. */
    if (count > 0) {
        queue->starved = false;
        queue->pop_again = false;
    }
    while (count > 0) {
        struct virtq_chain *chain = chains[--count];
        /* Only the last popped ones, and in their order, or the ring would skip or repeat a request. */
        ASSERT(chain->out && chain->arrival == queue->arrivals - 1);
        ASSERT(chain->written == 0);
        queue->arrivals--;
        queue->popped_total--;
        chain->writable_given = false; /* given, and not used */
        queue->layout->unpop(queue, chain);
        virtq_give_back(queue, chain);
    }
}

void virtqueue_push(struct virtqueue *queue, struct virtq_chain **chains, unsigned count)
{
    queue->pushed_total += count;
    if (queue->in_order)
        push_in_order(queue, chains, count);
    else
        push_now(queue, chains, count);
}

bool virtqueue_publish(struct virtqueue *queue)
{
    bool notify = queue->ring_mapped && queue->layout->publish(queue);
    if (queue->state == VIRTQUEUE_STOPPING && queue->out_count == 0)
        finish_stop(queue);
    return notify;
}

bool virtqueue_kicks_on(struct virtqueue *queue)
{
    return queue->ring_mapped && queue->layout->kicks_on(queue);
}

void virtqueue_kicks_off(struct virtqueue *queue)
{
    if (queue->ring_mapped)
        queue->layout->kicks_off(queue);
}

bool virtqueue_pending(struct virtqueue *queue)
{
    return queue->ring_mapped && queue->layout->pending(queue);
}

bool virtqueue_fresh(const struct virtqueue *queue)
{
    return queue->ring_mapped && queue->layout->fresh(queue);
}

bool virtqueue_fresh_once(struct virtqueue *queue)
{
    return queue->ring_mapped && queue->layout->fresh_once(queue);
}

int virtq_map_part(const struct virtqueue *queue, uint64_t address, uint64_t bytes, size_t alignment, bool write,
                   void **ret_host)
{
    void *host;
    int r = guest_memory_map(queue->memory, address, bytes, write, &host);
    if (r == -E2BIG)
        return -EFAULT;
    if (r < 0)
        return r;
    /* A region may lie askew in this process, which the guest's address does not show. */
    if (!is_aligned((uintptr_t)host, alignment)) {
        guest_memory_unmap(queue->memory, address, bytes, host, false);
        return -EINVAL;
    }
    *ret_host = host;
    return 0;
}

/* Where the run @run begins among the arena's pieces, and how many it has. */
static size_t run_offset(const struct virtq_arena *arena, uint16_t run, uint32_t *ret_capacity)
{
    size_t medium = (size_t)arena->shape.slots * VIRTQ_SHORT_RUN_PIECES;
    size_t number = (size_t)run - arena->shape.slots;
    if (number < arena->shape.medium_runs) {
        *ret_capacity = VIRTQ_MEDIUM_RUN_PIECES;
        return medium + number * VIRTQ_MEDIUM_RUN_PIECES;
    }
    *ret_capacity = VIRTQ_LONG_RUN_PIECES;
    return medium + (size_t)arena->shape.medium_runs * VIRTQ_MEDIUM_RUN_PIECES +
           (number - arena->shape.medium_runs) * VIRTQ_LONG_RUN_PIECES;
}

void virtq_free_run(struct virtq_arena *arena, uint16_t run)
{
    uint16_t number = (uint16_t)(run - arena->shape.slots);
    if (number < arena->shape.medium_runs)
        arena->free_medium[arena->free_medium_count++] = number;
    else
        arena->free_long[arena->free_long_count++] = (uint16_t)(number - arena->shape.medium_runs);
}

/* Move the pieces to a longer run. -EPROTO: there is no longer one. -ENOBUFS: they are all taken. */
static int promote(struct virtq_build *build)
{
    struct virtq_arena *arena = build->queue->arena;
    uint16_t first_long = (uint16_t)(arena->shape.slots + arena->shape.medium_runs);
    uint16_t run;
    if (build->run == build->slot) {
        if (arena->free_medium_count == 0)
            return -ENOBUFS;
        run = (uint16_t)(arena->shape.slots + arena->free_medium[--arena->free_medium_count]);
    } else if (build->run < first_long) {
        if (arena->free_long_count == 0)
            return -ENOBUFS;
        run = (uint16_t)(first_long + arena->free_long[--arena->free_long_count]);
    } else {
        return virtqueue_wrong(build->queue, "a chain of more pieces than any driver needs");
    }

    size_t at = run_offset(arena, run, &build->capacity);
    memcpy(arena->iov + at, build->iov, build->count * sizeof(*build->iov));
    memcpy(arena->addresses + at, build->addresses, build->count * sizeof(*build->addresses));
    if (build->run != build->slot)
        virtq_free_run(arena, (uint16_t)build->run);
    build->iov = arena->iov + at;
    build->addresses = arena->addresses + at;
    build->run = run;
    return 0;
}

int virtq_build_add_cold(struct virtq_build *build, uint64_t address, uint32_t length)
{
    for (;;) {
        int count = guest_memory_pieces(build->memory, address, length, build->writing, build->iov + build->count,
                                        build->addresses + build->count, build->capacity - build->count);
        if (count >= 0) {
            build->count += (unsigned)count;
            return 0;
        }
        if (count == -EFAULT)
            return virtqueue_wrong(build->queue, "a buffer outside memory");
        if (count != -E2BIG)
            return -EAGAIN;
        int r = promote(build);
        if (r < 0)
            return r;
    }
}

void virtq_build_fail(struct virtq_build *build)
{
    struct virtqueue *queue = build->queue;
    guest_memory_release(build->memory, build->iov, build->addresses, build->count, false);
    if (build->run != build->slot)
        virtq_free_run(queue->arena, (uint16_t)build->run);
}
