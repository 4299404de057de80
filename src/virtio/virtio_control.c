/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A queue runs when everything says so: it is enabled, the driver has said DRIVER_OK and not FAILED, nobody paused the
 * device or cut it off from memory, and neither the queue nor the device is being reset. Whatever changes one of these
 * calls update_queue, which starts the queue or begins to stop it. A queue that is still stopping is left alone: when
 * it has stopped, the same question is asked again. So no order of events is special.
 *
 * A reset is an end of all queues, and then of the back end; each step may take its time. Until it is done the driver
 * sees the status that was there before, and what it writes is ignored (2.4: the driver waits for 0).
 *
 * Interrupts do not take this path when there is a handle for them. Where there is none, queue_notify comes from the
 * queue's thread and goes straight to the transport, which keeps the interrupt status as an atomic.
 *
 * What a driver does wrong is ignored where the standard lets it see so in a register (features, vectors, queues that
 * do not exist). A queue that it enables and that cannot be run breaks the device: DEVICE_NEEDS_RESET (2.1.1).
 *
 * Limits
 *
 * Feature bits above 63 do not exist. The status bit SUSPEND of later versions is not offered and ignored.
 */
#include "virtio/virtio_control_private.h"

#include <errno.h>

/* Feature bits that say what a transport does (6): the back end's opinion of them does not count. */
#define TRANSPORT_BITS (VIRTIO_CONTROL_FEATURES | VIRTIO_F_SR_IOV | VIRTIO_F_ADMIN_VQ)

static struct virtio_control *of_listener(struct virtio_listener *listener)
{
    return container_of(listener, struct virtio_control, listener);
}

static bool has_status(const struct virtio_control *control, uint8_t bits)
{
    return (control->status & bits) == bits;
}

bool virtio_control_has(const struct virtio_control *control, uint64_t features)
{
    return has_status(control, VIRTIO_STATUS_FEATURES_OK) && (control->driver_features & features) == features;
}

/* ---- features ---- */

uint64_t virtio_control_features(const struct virtio_control *control)
{
    uint64_t backend = control->backend->class->features(control->backend);
    return (backend & ~TRANSPORT_BITS & ~control->features_hidden) | control->features_added;
}

static uint32_t word_of(uint64_t features, uint32_t select)
{
    return select < 2 ? (uint32_t)(features >> (32 * select)) : 0;
}

uint32_t virtio_control_device_features(const struct virtio_control *control, uint32_t select)
{
    return word_of(virtio_control_features(control), select);
}

uint32_t virtio_control_driver_features(const struct virtio_control *control, uint32_t select)
{
    return word_of(control->driver_features, select);
}

void virtio_control_set_driver_features(struct virtio_control *control, uint32_t select, uint32_t value)
{
    /* 2.2: the only way to negotiate again is to reset the device. */
    if (control->resetting || has_status(control, VIRTIO_STATUS_FEATURES_OK) || select >= 2)
        return;
    unsigned shift = 32 * select;
    uint64_t others = control->driver_features & ~((uint64_t)UINT32_MAX << shift);
    control->driver_features = others | (uint64_t)value << shift;
}

bool virtio_control_accept_features(struct virtio_control *control)
{
    struct virtio_backend *backend = control->backend;
    uint64_t chosen = control->driver_features;
    uint64_t required = control->features_required | VIRTIO_F_VERSION_1;

    if ((chosen & ~virtio_control_features(control)) != 0 || (chosen & required) != required)
        return false;
    return backend->class->set_features(backend, chosen & backend->class->features(backend)) == 0;
}

/* ---- queues ---- */

static void clear_queue(struct virtio_control *control, unsigned index)
{
    struct virtio_control_queue *queue = &control->queues[index];

    ASSERT(queue->state == VIRTIO_CONTROL_QUEUE_STOPPED && !queue->live);
    *queue = (struct virtio_control_queue){.size = control->backend->queue_size_max};
    if (control->class->queue_reset != NULL)
        control->class->queue_reset(control, index);
}

static void break_device(struct virtio_control *control, const char *reason)
{
    control->broken_reason = reason;
    control->broken_total++;
    if (control->resetting || has_status(control, VIRTIO_STATUS_NEEDS_RESET))
        return;
    control->status |= VIRTIO_STATUS_NEEDS_RESET;
    if (has_status(control, VIRTIO_STATUS_DRIVER_OK))
        control->class->config_interrupt(control);
}

static bool is_live(const struct virtio_control *control, const struct virtio_control_queue *queue)
{
    return queue->enabled && !queue->ending && !queue->failed && !control->resetting &&
           has_status(control, VIRTIO_STATUS_DRIVER_OK) && !has_status(control, VIRTIO_STATUS_FAILED);
}

static int notify_handle(struct virtio_control *control, unsigned index)
{
    return control->port->class->notify_handle(control->port, index, control->class->queue_vector(control, index));
}

static int start_queue(struct virtio_control *control, unsigned index)
{
    struct virtio_control_queue *queue = &control->queues[index];
    struct virtio_backend *backend = control->backend;
    struct virtqueue_config config = {
        .size = queue->size,
        .desc_address = queue->desc_address,
        .avail_address = queue->driver_address,
        .used_address = queue->device_address,
        .used_log_address = queue->device_address,
        .used_log = true,
        .base = queue->has_base ? queue->base : virtqueue_base_initial(control->driver_features),
        .features = control->driver_features & backend->class->features(backend),
    };

    int r = backend->class->queue_start(backend, index, &config, notify_handle(control, index));
    if (r < 0)
        return r;
    queue->state = VIRTIO_CONTROL_QUEUE_RUNNING;
    return 0;
}

static void stopped(struct virtio_control *control, unsigned index)
{
    struct virtio_control_queue *queue = &control->queues[index];

    queue->state = VIRTIO_CONTROL_QUEUE_STOPPED;
    queue->base = control->backend->class->queue_base(control->backend, index);
    queue->has_base = true;
}

static void stop_queue(struct virtio_control *control, unsigned index)
{
    int r = control->backend->class->queue_stop(control->backend, index);

    ASSERT(r == 0 || r == -EINPROGRESS);
    if (r == 0)
        stopped(control, index);
    else
        control->queues[index].state = VIRTIO_CONTROL_QUEUE_STOPPING;
}

/* Bring queue @index to where it is to be, as far as that goes without waiting. */
static void update_queue(struct virtio_control *control, unsigned index)
{
    struct virtio_control_queue *queue = &control->queues[index];
    bool live = is_live(control, queue);
    bool runs = live && !control->paused && !control->cut_off;

    if (!runs && queue->state == VIRTIO_CONTROL_QUEUE_RUNNING)
        stop_queue(control, index);
    if (runs && queue->state == VIRTIO_CONTROL_QUEUE_STOPPED && start_queue(control, index) < 0) {
        queue->failed = true;
        live = false;
        break_device(control, "a queue was enabled that cannot be run");
    }
    if (live != queue->live) {
        queue->live = live;
        control->class->queue_live(control, index, live);
    }
    if (queue->ending && !control->resetting && queue->state == VIRTIO_CONTROL_QUEUE_STOPPED)
        clear_queue(control, index);
}

void virtio_control_update_queues(struct virtio_control *control)
{
    for (unsigned i = 0; i < control->backend->queue_count; i++)
        update_queue(control, i);
}

/* The queue that the driver may set up now, or NULL. */
static struct virtio_control_queue *queue_for_set_up(struct virtio_control *control, uint32_t index)
{
    if (control->resetting || index >= control->backend->queue_count)
        return NULL;
    struct virtio_control_queue *queue = &control->queues[index_mask(index, control->backend->queue_count)];
    return queue->enabled ? NULL : queue;
}

const struct virtio_control_queue *virtio_control_queue(const struct virtio_control *control, uint32_t index)
{
    if (index >= control->backend->queue_count)
        return NULL;
    return &control->queues[index_mask(index, control->backend->queue_count)];
}

bool virtio_control_size_fits(const struct virtio_control *control, uint32_t size)
{
    bool packed = virtio_control_has(control, VIRTIO_F_RING_PACKED);
    return size > 0 && size <= control->backend->queue_size_max && (packed || is_power_of_two(size));
}

void virtio_control_queue_set_size(struct virtio_control *control, uint32_t index, uint32_t size)
{
    struct virtio_control_queue *queue = queue_for_set_up(control, index);

    if (queue != NULL)
        queue->size = virtio_control_size_fits(control, size) ? size : 0;
}

void virtio_control_queue_set_address(struct virtio_control *control, uint32_t index, enum virtio_control_part part,
                                      bool upper_half, uint32_t value)
{
    struct virtio_control_queue *queue = queue_for_set_up(control, index);

    if (queue == NULL)
        return;
    uint64_t *address = part == VIRTIO_CONTROL_DESC     ? &queue->desc_address
                        : part == VIRTIO_CONTROL_DRIVER ? &queue->driver_address
                                                        : &queue->device_address;
    if (upper_half)
        *address = (*address & UINT32_MAX) | (uint64_t)value << 32;
    else
        *address = (*address & ~(uint64_t)UINT32_MAX) | value;
}

void virtio_control_queue_enable(struct virtio_control *control, uint32_t index)
{
    struct virtio_control_queue *queue = queue_for_set_up(control, index);

    if (queue == NULL)
        return;
    if (queue->size == 0) {
        break_device(control, "a queue was enabled with a size that no queue can have");
        return;
    }
    queue->enabled = true;
    update_queue(control, index);
}

void virtio_control_queue_reset(struct virtio_control *control, uint32_t index)
{
    if (control->resetting || virtio_control_queue(control, index) == NULL)
        return;
    index = (uint32_t)index_mask(index, control->backend->queue_count);
    control->queues[index].ending = true;
    update_queue(control, index);
}

void virtio_control_queue_disable(struct virtio_control *control, uint32_t index)
{
    const struct virtio_control_queue *queue = virtio_control_queue(control, index);

    if (queue != NULL && queue->enabled)
        virtio_control_queue_reset(control, index);
}

void virtio_control_queue_kick(struct virtio_control *control, uint32_t index)
{
    const struct virtio_control_queue *queue = virtio_control_queue(control, index);

    /* A paused one is looked at when it goes on. */
    if (queue == NULL || !queue->live)
        return;
    control->kicks_total++;
    if (queue->state == VIRTIO_CONTROL_QUEUE_RUNNING)
        control->backend->class->queue_kick(control->backend, (unsigned)(queue - control->queues));
}

void virtio_control_queue_reroute(struct virtio_control *control, uint32_t index)
{
    const struct virtio_control_queue *queue = virtio_control_queue(control, index);

    if (queue == NULL || queue->state == VIRTIO_CONTROL_QUEUE_STOPPED)
        return;
    unsigned at = (unsigned)(queue - control->queues);
    if (control->backend->class->queue_notify_by(control->backend, at, notify_handle(control, at)) < 0)
        break_device(control, "the back end cannot interrupt in another way");
}

/* ---- resets ---- */

static bool some_queue_is(const struct virtio_control *control, enum virtio_control_queue_state state)
{
    for (unsigned i = 0; i < control->backend->queue_count; i++)
        if (control->queues[i].state == state)
            return true;
    return false;
}

static void finish_reset(struct virtio_control *control)
{
    for (unsigned i = 0; i < control->backend->queue_count; i++)
        clear_queue(control, i);
    control->status = 0;
    control->driver_features = 0;
    control->notify_all = false;
    control->resetting = false;
    control->resetting_backend = false;
    atomic_store(&control->interrupt_status, 0);
    control->class->reset(control);
}

static void go_on_with_reset(struct virtio_control *control)
{
    if (!control->resetting || control->resetting_backend || some_queue_is(control, VIRTIO_CONTROL_QUEUE_STOPPING))
        return;
    control->resetting_backend = true;
    int r = control->backend->class->reset(control->backend);
    ASSERT(r == 0 || r == -EINPROGRESS);
    if (r == 0)
        finish_reset(control);
}

int virtio_control_reset(struct virtio_control *control)
{
    if (!control->resetting) {
        control->resetting = true;
        control->resets_total++;
        virtio_control_update_queues(control);
        go_on_with_reset(control);
    }
    return control->resetting ? -EINPROGRESS : 0;
}

bool virtio_control_is_settled(const struct virtio_control *control)
{
    /* A queue that ends is stopping, or has ended. */
    return !control->resetting && !some_queue_is(control, VIRTIO_CONTROL_QUEUE_STOPPING);
}

/* ---- status ---- */

void virtio_control_set_status(struct virtio_control *control, uint8_t status)
{
    uint8_t before = control->status;

    if (status == 0) {
        (void)virtio_control_reset(control);
        return;
    }
    if (control->resetting)
        return;
    /* 2.1.1: the driver must not clear a bit, so what is missing is still set. NEEDS_RESET is not its to set. */
    uint8_t fresh = (uint8_t)(status & VIRTIO_CONTROL_DRIVER_BITS & ~before);
    if ((fresh & VIRTIO_STATUS_FEATURES_OK) != 0 && !virtio_control_accept_features(control))
        fresh &= (uint8_t)~VIRTIO_STATUS_FEATURES_OK;
    /* 3.1.1: what has not been negotiated cannot be driven. */
    if (((before | fresh) & VIRTIO_STATUS_FEATURES_OK) == 0)
        fresh &= (uint8_t)~VIRTIO_STATUS_DRIVER_OK;
    if (fresh == 0)
        return;

    control->status |= fresh;
    virtio_control_update_queues(control);
    if (control->backend->class->status_changed != NULL)
        control->backend->class->status_changed(control->backend, control->status);
}

/* ---- the configuration space ---- */

/*
 * 4.1.4.3.1: pci has 8 bits for the generation, so it grows when the driver looks, not with each change: many changes
 * between two looks cannot make it come round.
 */
uint32_t virtio_control_config_generation(struct virtio_control *control)
{
    uint32_t now = control->backend->class->config_generation(control->backend);

    if (now != control->config_seen) {
        control->config_seen = now;
        control->config_generation++;
    }
    return control->config_generation;
}

void virtio_control_config_read(struct virtio_control *control, uint64_t offset, void *to, uint32_t size)
{
    uint32_t bytes = control->backend->config_bytes;

    memset(to, 0, size);
    if (offset >= bytes)
        return;
    (void)virtio_control_config_generation(control);
    control->backend->class->config_read(control->backend, (uint32_t)offset, to,
                                         u32_min(size, bytes - (uint32_t)offset));
}

void virtio_control_config_write(struct virtio_control *control, uint64_t offset, const void *from, uint32_t size)
{
    if (control->resetting || !range_within(offset, size, control->backend->config_bytes))
        return;
    /* What may not be written stays as it is: the driver reads it back. */
    (void)control->backend->class->config_write(control->backend, (uint32_t)offset, from, size);
}

/* ---- the owner ---- */

int virtio_control_pause(struct virtio_control *control)
{
    control->paused = true;
    virtio_control_update_queues(control);
    return virtio_control_is_settled(control) ? 0 : -EINPROGRESS;
}

void virtio_control_resume(struct virtio_control *control)
{
    control->paused = false;
    virtio_control_update_queues(control);
    if (!control->notify_all)
        return;
    control->notify_all = false;
    for (unsigned i = 0; i < control->backend->queue_count; i++)
        if (control->queues[i].live)
            control->class->queue_interrupt(control, i, true);
}

void virtio_control_cut_off(struct virtio_control *control, bool cut_off)
{
    control->cut_off = cut_off;
    virtio_control_update_queues(control);
}

static void queue_interrupt(struct virtio_control *control, unsigned index, bool here)
{
    atomic_fetch_add_explicit(&control->interrupts_total, 1, memory_order_relaxed);
    control->class->queue_interrupt(control, index, here);
}

void virtio_control_queue_signalled(struct virtio_control *control, unsigned index)
{
    ASSERT(index < control->backend->queue_count);
    /* The signal may be older than a reset (2.4.1); of a queue that is paused it counts. */
    if (control->queues[index].live)
        queue_interrupt(control, index, true);
}

/* ---- the listener ---- */

static void on_queue_notify(struct virtio_listener *listener, unsigned index)
{
    struct virtio_control *control = of_listener(listener);

    queue_interrupt(control, index, control->one_thread);
}

static void tell_if_settled(struct virtio_control *control)
{
    if (virtio_control_is_settled(control))
        control->port->class->settled(control->port);
}

static void on_queue_stopped(struct virtio_listener *listener, unsigned index)
{
    struct virtio_control *control = of_listener(listener);

    ASSERT(control->queues[index].state == VIRTIO_CONTROL_QUEUE_STOPPING);
    stopped(control, index);
    update_queue(control, index);
    go_on_with_reset(control);
    tell_if_settled(control);
}

static void on_reset_done(struct virtio_listener *listener)
{
    struct virtio_control *control = of_listener(listener);

    ASSERT(control->resetting_backend);
    finish_reset(control);
    tell_if_settled(control);
}

static void on_broken(struct virtio_listener *listener)
{
    break_device(of_listener(listener), "the device met what it cannot go on from");
}

static void on_config_changed(struct virtio_listener *listener)
{
    struct virtio_control *control = of_listener(listener);

    /* Before that nobody has read anything that could have changed. */
    if (!control->resetting && has_status(control, VIRTIO_STATUS_DRIVER))
        control->class->config_interrupt(control);
}

static const struct virtio_listener_class listener_class = {
    .queue_notify = on_queue_notify,
    .queue_stopped = on_queue_stopped,
    .broken = on_broken,
    .reset_done = on_reset_done,
    .config_changed = on_config_changed,
};

void virtio_control_init(struct virtio_control *control, const struct virtio_control_class *class,
                         const struct virtio_control_config *config)
{
    *control = (struct virtio_control){
        .class = class,
        .listener.class = &listener_class,
        .backend = config->backend,
        .port = config->port,
        .queues = config->queues,
        .features_added = config->features_added,
        .features_hidden = config->features_hidden,
        .features_required = config->features_required,
        .one_thread = config->one_thread,
        .config_seen = config->backend->class->config_generation(config->backend),
    };
    atomic_init(&control->interrupt_status, 0);
    atomic_init(&control->interrupts_total, 0);
    for (unsigned i = 0; i < config->backend->queue_count; i++)
        control->queues[i] = (struct virtio_control_queue){.size = config->backend->queue_size_max};
    config->backend->listener = &control->listener;
}
