/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Rings ("Ring states"): what the front end says of each, when it starts, and how it stops.
 *
 * Theory of operation
 *
 * Messages only fill in what a ring needs: features, size, addresses, memory, a kick line (or polling), enabled. Front
 * ends send them in different orders, so after each message that may have been the last one the ring is tried, and
 * starts when nothing is missing. It starts with the kick line instead of with the first kick on it, and is looked at
 * once as if kicked: docs/decisions/0006-ring-start.md says why.
 *
 * A running ring's lines, addresses, map and log are exchanged between two runs, on its own thread. All else needs it
 * stopped. A ring that is disabled is stopped here, and goes on at the same place when it is enabled: a device that
 * cannot discard requests has no processing "without causing any side effects". So both states look the same to a
 * driver, which is told of neither.
 *
 * A ring whose guest broke the rules stays as it is, running in vain, until the front end takes its base or resets the
 * device; when something else stops it before, it is not started again.
 *
 * Limits
 *
 * In-band notifications are not offered. Size and base of a running ring cannot be changed. Of a packed ring's base the
 * upper half may be missing, and then equals the lower: so a base whose upper half is truly 0 (what is given back
 * stands at the ring's beginning, wrap counter 0) while requests are in flight cannot be said. GET_VRING_BASE waits for
 * all of them; those that it may leave behind stand in the record, which then counts.
 */
#include <errno.h>

#include "transports/vhost_user/backend_private.h"

/* A packed ring's base: position and wrap counter, of what is taken and, above, of what is given back. */
#define PACKED_BASE_HALF_BITS 16
#define PACKED_BASE_HALF_MASK UINT16_MAX
#define PACKED_BASE_POSITION_MASK ((1u << VRING_PACKED_WRAP_BIT) - 1)

/* A piece of work on a queue's thread. Which fields count depends on the function. */
struct queue_task {
    struct vhost_user_backend *backend;
    unsigned index;
    const struct virtqueue_config *config;
    const struct guest_memory *memory;
    const struct dirty_log *log;
    void *inflight;
    enum queue_line line;
    int handle;
    bool polled;
    bool drop_call, drop_error;
    unsigned events;
    int result;
    bool broken;
};

static void on_queue(struct queue_task *task, void (*function)(void *argument))
{
    struct vhost_user_port *port = task->backend->port;
    port->class->call_on_queue(port, task->index, function, task);
}

static void raise_events(const struct queue_task *task, unsigned events)
{
    struct vhost_user_port *port = task->backend->port;
    if (events != 0)
        port->class->events(port, task->index, events);
}

/* The queue can go on no longer, and it was not the device that found out. */
static void break_queue(const struct queue_task *task)
{
    atomic_store(&task->backend->device->needs_reset, true);
    raise_events(task, VIRTIO_EVENT_NEEDS_RESET);
}

static void start_on_queue(void *argument)
{
    struct queue_task *task = argument;
    task->result = virtio_device_queue_start(task->backend->device, task->index, task->config, task->memory, task->log,
                                             task->inflight);
    if (task->result == -EPROTO)
        break_queue(task);
    if (task->result < 0)
        return;
    /*
     * Requests may be there that nobody will kick for. With a record a predecessor may have died between showing
     * used entries and the interrupt: one too many costs nothing, one missing hangs the guest.
     */
    raise_events(task, VIRTIO_EVENT_AGAIN | (task->inflight != NULL ? VIRTIO_EVENT_NOTIFY : 0));
}

static void stop_on_queue(void *argument)
{
    struct queue_task *task = argument;
    task->events = virtio_device_queue_stop(task->backend->device, task->index);
    raise_events(task, task->events & ~(unsigned)VIRTIO_EVENT_STOPPED);
}

/* Also for a broken queue: what it still has out is pushed with the map and log that are current then. */
static void exchange_on_queue(void *argument)
{
    struct queue_task *task = argument;
    struct virtqueue *queue = &task->backend->device->queues[task->index];
    bool was_broken = queue->broken;
    struct virtqueue_config config = task->config != NULL ? *task->config : queue->config;
    int r = virtqueue_exchange(queue, &config, task->memory, task->log);
    if (r < 0 && !was_broken)
        break_queue(task);
    if (r == 0 && task->config != NULL)
        raise_events(task, VIRTIO_EVENT_AGAIN);
}

static void look_on_queue(void *argument)
{
    struct queue_task *task = argument;
    task->broken = task->backend->device->queues[task->index].broken;
}

static void set_line_on_queue(void *argument)
{
    struct queue_task *task = argument;
    struct vhost_user_port *port = task->backend->port;
    port->class->set_line(port, task->index, task->line, task->handle);
    if (task->line == QUEUE_LINE_KICK)
        port->class->set_polled(port, task->index, task->polled);
    raise_events(task, task->events);
}

static void drop_lines_on_queue(void *argument)
{
    struct queue_task *task = argument;
    struct vhost_user_port *port = task->backend->port;
    port->class->set_line(port, task->index, QUEUE_LINE_KICK, -1);
    port->class->set_polled(port, task->index, false);
    if (task->drop_call)
        port->class->set_line(port, task->index, QUEUE_LINE_CALL, -1);
    if (task->drop_error)
        port->class->set_line(port, task->index, QUEUE_LINE_ERROR, -1);
}

/* Ring @index, or NULL when there is none. */
static struct vhost_user_queue *ring_at(struct vhost_user_backend *backend, uint64_t index)
{
    if (index >= backend->device->queue_count)
        return NULL;
    return &backend->queues[index_mask((size_t)index, VHOST_USER_QUEUES_MAX)];
}

const struct dirty_log *backend_log(const struct vhost_user_backend *backend)
{
    const struct dirty_log *log = &backend->logs[backend->current_log];
    return (backend->features & VHOST_F_LOG_ALL) != 0 && log->bits != NULL ? log : NULL;
}

static int no_such_queue(struct vhost_user_backend *backend)
{
    return backend_wrong(backend, -EINVAL, "no such queue");
}

/* What to say of a part of a ring that cannot be used. */
struct ring_reasons {
    const char *outside;
    const char *unaligned;
};

static const struct ring_reasons desc_reasons = {"the descriptors do not lie in one piece of memory",
                                                 "the descriptors are not aligned to 16"};
static const struct ring_reasons avail_reasons = {"the available ring does not lie in one piece of memory",
                                                  "the available ring is not aligned to 2"};
static const struct ring_reasons used_reasons = {"the used ring does not lie in one piece of memory",
                                                 "the used ring is not aligned to 4"};
static const struct ring_reasons driver_area_reasons = {"the driver area does not lie in one piece of memory",
                                                        "the driver area is not aligned to 4"};
static const struct ring_reasons device_area_reasons = {"the device area does not lie in one piece of memory",
                                                        "the device area is not aligned to 4"};

/* One of the three parts of a ring. */
struct ring_part {
    uint32_t bytes, alignment;
    const struct ring_reasons *reasons;
};

/* The parts of a ring of @size (2.7, 2.8.10.1). */
struct ring_shape {
    struct ring_part desc, avail, used;
};

static struct ring_shape ring_shape(bool packed, uint32_t size)
{
    const uint32_t event_bytes = sizeof(struct vring_packed_event);
    if (packed)
        return (struct ring_shape){
            .desc = {vring_packed_desc_bytes(size), VRING_PACKED_DESC_ALIGN, &desc_reasons},
            .avail = {event_bytes, VRING_PACKED_EVENT_ALIGN, &driver_area_reasons},
            .used = {event_bytes, VRING_PACKED_EVENT_ALIGN, &device_area_reasons},
        };
    return (struct ring_shape){
        .desc = {vring_desc_bytes(size), VRING_DESC_ALIGN, &desc_reasons},
        .avail = {vring_avail_bytes(size), VRING_AVAIL_ALIGN, &avail_reasons},
        .used = {vring_used_bytes(size), VRING_USED_ALIGN, &used_reasons},
    };
}

/* A part of the ring: in memory, in one piece, aligned. */
static int find_part(struct vhost_user_backend *backend, const struct guest_memory *memory, uint64_t frontend_address,
                     const struct ring_part *part, uint64_t *ret_address)
{
    uint64_t address;
    int r = guest_memory_from_frontend(memory, frontend_address, part->bytes, &address);
    if (r < 0)
        return backend_wrong(backend, r, part->reasons->outside);
    if (!is_aligned(address, part->alignment))
        return backend_wrong(backend, -EINVAL, part->reasons->unaligned);
    if (guest_memory_linear(memory, address, part->bytes) == NULL)
        return backend_wrong(backend, -EFAULT, part->reasons->outside);
    *ret_address = address;
    return 0;
}

/* Can a ring of the layout that was negotiated have @size entries? */
static int check_size(struct vhost_user_backend *backend, uint32_t size)
{
    if (size == 0 || size > VRING_SIZE_MAX)
        return backend_wrong(backend, -EINVAL, "a ring has 1 to 32768 entries");
    if (!backend_packed(backend) && !is_power_of_two(size))
        return backend_wrong(backend, -EINVAL, "a split ring's size is a power of two");
    return 0;
}

uint32_t backend_ring_base(const struct vhost_user_backend *backend, unsigned index)
{
    const struct vhost_user_queue *ring = &backend->queues[index];
    return ring->has_base ? ring->base : virtqueue_base_initial(backend->features);
}

void backend_rings_features(struct vhost_user_backend *backend)
{
    bool packed = backend_packed(backend);
    for (unsigned i = 0; i < backend->device->queue_count; i++) {
        struct vhost_user_queue *ring = &backend->queues[i];
        if (ring->base_laid && ring->base_packed != packed)
            ring->has_base = false;
        ring->base_laid = ring->has_base;
        ring->base_packed = packed;
    }
}

/*
 * The base of a ring of @size. A packed one's has two halves; front ends that know one send nothing in the other
 * (DPDK), and mean that nothing is in flight.
 */
static int find_base(struct vhost_user_backend *backend, const struct vhost_user_queue *ring, uint32_t *ret_base)
{
    uint32_t base = backend_ring_base(backend, (unsigned)(ring - backend->queues));
    if (!backend_packed(backend)) {
        if (base > UINT16_MAX)
            return backend_wrong(backend, -EINVAL, "the base of a split ring has 16 bits");
        *ret_base = base;
        return 0;
    }
    if (base >> PACKED_BASE_HALF_BITS == 0)
        base |= base << PACKED_BASE_HALF_BITS;
    uint32_t avail = base & PACKED_BASE_HALF_MASK, used = base >> PACKED_BASE_HALF_BITS;
    uint32_t avail_position = avail & PACKED_BASE_POSITION_MASK, used_position = used & PACKED_BASE_POSITION_MASK;
    if (avail_position >= ring->size || used_position >= ring->size)
        return backend_wrong(backend, -EINVAL, "a base past the end of the ring");
    bool same_lap = ((avail ^ used) & ~PACKED_BASE_POSITION_MASK) == 0;
    if (same_lap ? avail_position < used_position : avail_position > used_position)
        return backend_wrong(backend, -EINVAL, "a base with more in flight than the ring has");
    *ret_base = base;
    return 0;
}

/* What virtqueue_start needs, for a ring of @size at @said in @memory. */
static int ring_config(struct vhost_user_backend *backend, const struct guest_memory *memory,
                       const struct vhost_user_queue *ring, const struct vhost_user_vring_address *said,
                       struct virtqueue_config *ret_config)
{
    struct virtqueue_config config = {
        .size = ring->size,
        .used_log_address = said->log,
        .used_log = (said->flags & VHOST_USER_VRING_F_LOG) != 0,
        .features = backend->device->features,
    };
    const struct ring_shape shape = ring_shape(backend_packed(backend), ring->size);
    int r = find_part(backend, memory, said->desc, &shape.desc, &config.desc_address);
    if (r < 0)
        return r;
    r = find_part(backend, memory, said->avail, &shape.avail, &config.avail_address);
    if (r < 0)
        return r;
    r = find_part(backend, memory, said->used, &shape.used, &config.used_address);
    if (r < 0)
        return r;
    *ret_config = config;
    return 0;
}

static bool ring_is_complete(const struct vhost_user_backend *backend, const struct vhost_user_queue *ring)
{
    return backend->features_set && ring->has_size && ring->has_address && ring->kick_set && ring->enabled &&
           !ring->broken && backend->maps[backend->current_map].region_count > 0;
}

int backend_ring_start(struct vhost_user_backend *backend, unsigned index)
{
    struct vhost_user_queue *ring = &backend->queues[index];
    if (ring->running || !ring_is_complete(backend, ring))
        return 0;

    const struct guest_memory *memory = &backend->maps[backend->current_map];
    struct virtqueue_config config;
    void *inflight;
    int r = check_size(backend, ring->size);
    if (r == 0)
        r = ring_config(backend, memory, ring, &ring->address, &config);
    if (r == 0)
        r = find_base(backend, ring, &config.base);
    if (r == 0)
        r = backend_inflight(backend, index, &config, &inflight);
    if (r < 0)
        return r;

    struct queue_task task = {
        .backend = backend,
        .index = index,
        .config = &config,
        .memory = memory,
        .log = backend_log(backend),
        .inflight = inflight,
    };
    on_queue(&task, start_on_queue);
    if (task.result < 0) {
        ring->broken = task.result == -EPROTO;
        const char *reason = backend->device->queues[index].broken_reason;
        return backend_wrong(backend, task.result, reason != NULL ? reason : "the ring cannot be mapped");
    }
    ring->running = true;
    ring->record_done = false;
    return 0;
}

void backend_rings_start(struct vhost_user_backend *backend)
{
    for (unsigned i = 0; i < backend->device->queue_count; i++)
        (void)backend_ring_start(backend, i);
}

void backend_ring_stop(struct vhost_user_backend *backend, unsigned index)
{
    struct vhost_user_queue *ring = &backend->queues[index];
    ASSERT(ring->running && !ring->stopping);

    struct queue_task task = {.backend = backend, .index = index};
    ring->stopping = true;
    on_queue(&task, stop_on_queue);
    if ((task.events & VIRTIO_EVENT_STOPPED) != 0)
        backend_ring_stopped(backend, index);
}

void backend_ring_stopped(struct vhost_user_backend *backend, unsigned index)
{
    struct vhost_user_queue *ring = &backend->queues[index];
    const struct virtqueue *queue = &backend->device->queues[index];
    ASSERT(ring->stopping);
    ring->stopping = false;
    ring->running = false;
    /* The queue's thread does not touch it any more. */
    ring->broken = queue->broken;
    ring->base = virtqueue_base(queue);
    ring->has_base = true;
    ring->base_laid = true;
    ring->base_packed = backend_packed(backend);
    ring->record_done = queue->resubmit_left == 0;
}

void backend_ring_look(struct vhost_user_backend *backend, unsigned index)
{
    struct queue_task task = {.backend = backend, .index = index};
    on_queue(&task, look_on_queue);
    backend->queues[index].broken = task.broken;
}

bool backend_any_running(const struct vhost_user_backend *backend)
{
    for (unsigned i = 0; i < backend->device->queue_count; i++)
        if (backend->queues[i].running)
            return true;
    return false;
}

bool backend_any_stopping(const struct vhost_user_backend *backend)
{
    for (unsigned i = 0; i < backend->device->queue_count; i++)
        if (backend->queues[i].stopping)
            return true;
    return false;
}

int backend_rings_fit(struct vhost_user_backend *backend, const struct guest_memory *memory)
{
    for (unsigned i = 0; i < backend->device->queue_count; i++) {
        const struct vhost_user_queue *ring = &backend->queues[i];
        struct virtqueue_config config;
        if (!ring->running || ring->broken)
            continue;
        if (ring_config(backend, memory, ring, &ring->address, &config) < 0)
            return backend_wrong(backend, -EFAULT, "a running ring does not lie in the new table");
    }
    return 0;
}

void backend_rings_exchange(struct vhost_user_backend *backend)
{
    for (unsigned i = 0; i < backend->device->queue_count; i++) {
        if (!backend->queues[i].running)
            continue;
        struct queue_task task = {
            .backend = backend,
            .index = i,
            .memory = &backend->maps[backend->current_map],
            .log = backend_log(backend),
        };
        on_queue(&task, exchange_on_queue);
    }
}

void backend_ring_drop_lines(struct vhost_user_backend *backend, unsigned index, bool call, bool error)
{
    struct vhost_user_queue *ring = &backend->queues[index];
    struct queue_task task = {.backend = backend, .index = index, .drop_call = call, .drop_error = error};
    ring->kick_set = false;
    ring->polled = false;
    on_queue(&task, drop_lines_on_queue);
}

int backend_set_vring_num(struct vhost_user_backend *backend, struct vhost_user_message *message)
{
    const struct vhost_user_vring_state *state = &message->payload.state;
    struct vhost_user_queue *ring = ring_at(backend, state->index);
    if (ring == NULL)
        return no_such_queue(backend);
    if (ring->running)
        return backend_wrong(backend, -EBUSY, "another size while the ring runs");
    /* Before the features are set it may be a size of either layout; the ring's start judges it again. */
    int r = check_size(backend, state->num);
    if (r < 0 && (backend->features_set || state->num == 0 || state->num > VRING_SIZE_MAX))
        return r;
    ring->size = state->num;
    ring->has_size = true;
    return backend_ring_start(backend, state->index);
}

int backend_set_vring_base(struct vhost_user_backend *backend, struct vhost_user_message *message)
{
    const struct vhost_user_vring_state *state = &message->payload.state;
    struct vhost_user_queue *ring = ring_at(backend, state->index);
    if (ring == NULL)
        return no_such_queue(backend);
    if (ring->running)
        return backend_wrong(backend, -EBUSY, "another base while the ring runs");
    /* What a base may be depends on features and size, which may come later: the start judges the rest. */
    if (backend->features_set && !backend_packed(backend) && state->num > UINT16_MAX)
        return backend_wrong(backend, -EINVAL, "the base of a split ring has 16 bits");
    ring->base = state->num;
    ring->has_base = true;
    /* Said before the features it is of whichever layout they bring. */
    ring->base_laid = backend->features_set;
    ring->base_packed = backend_packed(backend);
    return 0;
}

int backend_set_vring_address(struct vhost_user_backend *backend, struct vhost_user_message *message)
{
    const struct vhost_user_vring_address *address = &message->payload.address;
    struct vhost_user_queue *ring = ring_at(backend, address->index);
    if (ring == NULL)
        return no_such_queue(backend);
    if ((address->flags & ~VHOST_USER_VRING_F_LOG) != 0)
        return backend_wrong(backend, -EINVAL, "unknown flags");
    if (!ring->running) {
        ring->address = *address;
        ring->has_address = true;
        return backend_ring_start(backend, address->index);
    }

    /* Judged before the queue sees it: a bad address leaves the ring where it was. */
    struct virtqueue_config config;
    const struct guest_memory *memory = &backend->maps[backend->current_map];
    int r = ring_config(backend, memory, ring, address, &config);
    if (r < 0)
        return r;
    struct queue_task task = {
        .backend = backend,
        .index = address->index,
        .config = &config,
        .memory = memory,
        .log = backend_log(backend),
    };
    ring->address = *address;
    on_queue(&task, exchange_on_queue);
    return 0;
}

int backend_get_vring_base(struct vhost_user_backend *backend, struct vhost_user_message *message)
{
    const struct vhost_user_vring_state *state = &message->payload.state;
    if (ring_at(backend, state->index) == NULL)
        return no_such_queue(backend);
    return backend_wait_begin(backend, VHOST_USER_WAIT_VRING_BASE, message, state->index);
}

int backend_set_vring_line(struct vhost_user_backend *backend, struct vhost_user_message *message)
{
    uint64_t value = message->payload.u64;
    uint64_t index = value & VHOST_USER_VRING_INDEX_MASK;
    bool without = (value & VHOST_USER_VRING_NO_FD) != 0;
    struct vhost_user_queue *ring = ring_at(backend, index);
    if (ring == NULL)
        return no_such_queue(backend);
    if ((value & ~(VHOST_USER_VRING_INDEX_MASK | VHOST_USER_VRING_NO_FD)) != 0)
        return backend_wrong(backend, -EINVAL, "unknown flags");

    struct queue_task task = {
        .backend = backend,
        .index = (unsigned)index,
        .handle = without ? -1 : backend_take_handle(message, 0),
        .polled = without,
    };
    switch (message->header.request) {
    case VHOST_USER_SET_VRING_KICK:
        task.line = QUEUE_LINE_KICK;
        /* A kick on the line it had may be lost. */
        task.events = ring->running ? VIRTIO_EVENT_AGAIN : 0;
        ring->kick_set = true;
        ring->polled = without;
        break;
    case VHOST_USER_SET_VRING_CALL:
        task.line = QUEUE_LINE_CALL;
        /* So may an interrupt: this is how QEMU masks and unmasks, and what follows a reconnection. */
        task.events = ring->running && !without ? VIRTIO_EVENT_NOTIFY : 0;
        break;
    default:
        task.line = QUEUE_LINE_ERROR;
        break;
    }
    on_queue(&task, set_line_on_queue);
    return task.line == QUEUE_LINE_KICK ? backend_ring_start(backend, (unsigned)index) : 0;
}

int backend_set_vring_enable(struct vhost_user_backend *backend, struct vhost_user_message *message)
{
    const struct vhost_user_vring_state *state = &message->payload.state;
    struct vhost_user_queue *ring = ring_at(backend, state->index);
    if (ring == NULL)
        return no_such_queue(backend);
    if (state->num > 1)
        return backend_wrong(backend, -EINVAL, "a ring is on or off, 1 or 0");
    ring->enabled = state->num == 1;
    if (ring->enabled)
        return backend_ring_start(backend, state->index);
    if (!ring->running)
        return 0;
    return backend_wait_begin(backend, VHOST_USER_WAIT_RECONFIGURE, message, state->index);
}
