/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * The queues are those of server_queue: the same threads, turns, polling and ports as under vhost-user. What a front
 * end says there by message comes here by call, from whichever thread has the lock, and is done on the queue's thread
 * before the call returns. The only answers that come later are a queue that was stopping and a queue that broke. Both
 * are told by message to the control loop, and judged there under the lock by what is true then: whether the caller
 * still waits for that stop, whether the device still needs that reset. So a message that is late means nothing.
 *
 * Nobody waits in a circle: who has the lock may wait for a queue's thread, the control loop may wait for the lock, and
 * a queue's thread waits for neither.
 *
 * Each queue's kick handle is an eventfd of ours for as long as we live, so that a doorbell is connected once. It is
 * watched from the queue's first start on, whether the queue runs or not: a guest that kicks a stopped queue costs its
 * host a wake, as any access of its would.
 *
 * Limits
 *
 * No in-flight record: a device in this process does not outlive its requests. Shared memory regions are for models to
 * come.
 */
#include "platform/linux/local_backend.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* What QEMU offers for most devices. */
#define LOCAL_QUEUE_SIZE_DEFAULT 256

struct local_queue {
    struct server_queue served;
    struct local_backend *owner;
    int kick;      /* eventfd */
    bool stopping; /* queue_stop answered -EINPROGRESS, and the listener was not called yet */
};

/* What a call wants on the queue's thread. */
struct local_task {
    struct local_queue *queue;
    const struct virtqueue_config *config;
    int notify;
    int result;
    struct server_queue_statistics *statistics;
};

static struct local_backend *local_of(const struct virtio_backend *backend)
{
    return container_of((uintptr_t)backend, struct local_backend, backend);
}

static struct virtio_device *local_device(const struct virtio_backend *backend)
{
    return local_of(backend)->options.device;
}

static struct local_queue *local_queue_at(const struct virtio_backend *backend, unsigned index)
{
    ASSERT(index < backend->queue_count);
    return &local_of(backend)->queues[index];
}

static struct virtqueue *local_ring(const struct local_queue *queue)
{
    return &queue->owner->options.device->queues[queue->served.index];
}

/* Do @function on the queue's thread; 0 or its error. */
static int local_call(struct local_task *task, void (*function)(void *task))
{
    task->result = 0;
    server_queue_call(&task->queue->served, function, task);
    return task->result;
}

/* ---- on the queue's thread ---- */

static int local_connect(struct local_queue *queue, int notify)
{
    struct server_queue *served = &queue->served;
    if (notify == served->call.handle)
        return 0;
    return server_queue_borrow_line(served, QUEUE_LINE_CALL, notify);
}

static void local_start(void *argument)
{
    struct local_task *task = argument;
    struct local_queue *queue = task->queue;
    const struct local_backend_options *options = &queue->owner->options;
    /* It could not be watched when the queue got its place. */
    if (queue->served.kick_watch.handle < 0)
        task->result = server_queue_borrow_line(&queue->served, QUEUE_LINE_KICK, queue->kick);
    if (task->result == 0)
        task->result = local_connect(queue, task->notify);
    if (task->result == 0)
        task->result = virtio_device_queue_start(options->device, queue->served.index, task->config, options->memory,
                                                 options->log_pages, NULL);
    if (task->result == 0)
        server_queue_events(&queue->served, VIRTIO_EVENT_AGAIN);
    else
        (void)local_connect(queue, -1);
}

static void local_stop(void *argument)
{
    struct local_task *task = argument;
    struct local_queue *queue = task->queue;
    unsigned events = virtio_device_queue_stop(queue->owner->options.device, queue->served.index);
    bool stopped = events & VIRTIO_EVENT_STOPPED;
    server_queue_events(&queue->served, events & ~(unsigned)VIRTIO_EVENT_STOPPED);
    if (stopped)
        (void)local_connect(queue, -1);
    else
        task->result = -EINPROGRESS;
}

static void local_reconnect(void *argument)
{
    struct local_task *task = argument;
    task->result = local_connect(task->queue, task->notify);
}

static void local_exchange(void *argument)
{
    struct local_task *task = argument;
    const struct local_backend_options *options = &task->queue->owner->options;
    struct virtqueue *ring = local_ring(task->queue);
    bool was_broken = ring->broken;
    task->result = virtqueue_exchange(ring, &ring->config, options->memory, options->log_pages);
    if (task->result == 0 || was_broken)
        return;
    atomic_store(&options->device->needs_reset, true);
    server_queue_events(&task->queue->served, VIRTIO_EVENT_NEEDS_RESET);
}

static void local_look(void *argument)
{
    struct local_task *task = argument;
    server_queue_look(&task->queue->served, task->statistics);
}

/* The queue wants to interrupt, and has no handle for that. */
static void local_notify(struct server_queue *served)
{
    struct virtio_listener *listener = container_of(served, struct local_queue, served)->owner->backend.listener;
    listener->class->queue_notify(listener, served->index);
}

/* ---- on the control loop ---- */

static void local_told(struct server_queue *served, unsigned told)
{
    struct local_queue *queue = container_of(served, struct local_queue, served);
    struct local_backend *local = queue->owner;
    const struct local_backend_options *options = &local->options;
    struct virtio_listener *listener = local->backend.listener;
    if (options->lock)
        options->lock(options->context);
    if (told & SERVER_QUEUE_BROKEN && atomic_load(&options->device->needs_reset) && !local->told_broken) {
        local->told_broken = true;
        log_line(options->log, LOG_LEVEL_DEBUG, "queue %u is broken by the guest", served->index);
        listener->class->broken(listener);
    }
    if (told & SERVER_QUEUE_STOPPED && queue->stopping) {
        struct local_task task = {.queue = queue, .notify = -1};
        queue->stopping = false;
        (void)local_call(&task, local_reconnect); /* the handle was borrowed until now */
        listener->class->queue_stopped(listener, served->index);
    }
    if (options->unlock)
        options->unlock(options->context);
}

/* ---- the contract ---- */

static uint64_t local_features(const struct virtio_backend *backend)
{
    return virtio_device_features(local_device(backend));
}

static int local_set_features(struct virtio_backend *backend, uint64_t features)
{
    return virtio_device_set_features(local_device(backend), features);
}

static void local_config_read(const struct virtio_backend *backend, uint32_t offset, void *to, uint32_t size)
{
    virtio_device_config_read(local_device(backend), offset, to, size);
}

static int local_config_write(struct virtio_backend *backend, uint32_t offset, const void *from, uint32_t size)
{
    return virtio_device_config_write(local_device(backend), offset, from, size);
}

static uint32_t local_config_generation(const struct virtio_backend *backend)
{
    return atomic_load(&local_device(backend)->config_generation);
}

static void local_pin(const struct local_backend_options *options, struct server_queue *served)
{
    if (options->processor_count == 0)
        return;
    unsigned processor = options->processors[served->index % options->processor_count];
    int r = server_queue_pin(served, processor);
    if (r < 0)
        log_line(options->log, LOG_LEVEL_ERROR, "queue %u cannot run on processor %u: %s", served->index, processor,
                 strerror(-r));
}

/* Give the queue its thread, once. -EAGAIN, -ENOMEM: there is none. */
static int local_place(struct local_queue *queue)
{
    const struct local_backend_options *options = &queue->owner->options;
    struct server_queue *served = &queue->served;
    if (served->loop)
        return 0;
    if (!options->loop) {
        int r = server_queue_start_thread(served, options->thread_begins, options->context);
        if (r < 0)
            return r;
        local_pin(options, served);
    }
    int r = server_queue_borrow_line(served, QUEUE_LINE_KICK, queue->kick);
    ASSERT(r == 0); /* an eventfd of ours, watched later */
    server_queue_place(served, options->loop);
    return 0;
}

static int local_queue_start(struct virtio_backend *backend, unsigned index, const struct virtqueue_config *config,
                             int notify)
{
    struct local_task task = {.queue = local_queue_at(backend, index), .config = config, .notify = notify};
    ASSERT(!task.queue->stopping);
    int r = local_place(task.queue);
    return r < 0 ? r : local_call(&task, local_start);
}

static int local_queue_stop(struct virtio_backend *backend, unsigned index)
{
    struct local_task task = {.queue = local_queue_at(backend, index)};
    if (task.queue->stopping)
        return -EINPROGRESS; /* also when it has stopped meanwhile: the listener is on its way to hear of it */
    if (!task.queue->served.loop)
        return 0;
    int r = local_call(&task, local_stop);
    task.queue->stopping = r == -EINPROGRESS;
    return r;
}

static uint32_t local_queue_base(const struct virtio_backend *backend, unsigned index)
{
    return virtqueue_base(local_ring(local_queue_at(backend, index)));
}

static int local_queue_notify_by(struct virtio_backend *backend, unsigned index, int notify)
{
    struct local_task task = {.queue = local_queue_at(backend, index), .notify = notify};
    return task.queue->served.loop ? local_call(&task, local_reconnect) : 0;
}

static void local_queue_kick(struct virtio_backend *backend, unsigned index)
{
    uint64_t one = 1;
    ssize_t written = write(local_queue_at(backend, index)->kick, &one, sizeof(one));
    (void)written; /* full: it is signalled as it can be */
}

static int local_queue_kick_handle(struct virtio_backend *backend, unsigned index)
{
    return local_queue_at(backend, index)->kick;
}

static int local_reset(struct virtio_backend *backend)
{
    struct local_backend *local = local_of(backend);
    virtio_device_reset(local->options.device);
    local->told_broken = false;
    return 0;
}

static int local_save(const struct virtio_backend *backend, struct state_writer *writer)
{
    return virtio_device_save(local_device(backend), writer);
}

static int local_load(struct virtio_backend *backend, struct state_reader *reader)
{
    return virtio_device_load(local_device(backend), reader);
}

static const struct virtio_backend_class local_class = {
    .name = "local",
    .features = local_features,
    .set_features = local_set_features,
    .config_read = local_config_read,
    .config_write = local_config_write,
    .config_generation = local_config_generation,
    .queue_start = local_queue_start,
    .queue_stop = local_queue_stop,
    .queue_base = local_queue_base,
    .queue_notify_by = local_queue_notify_by,
    .queue_kick = local_queue_kick,
    .queue_kick_handle = local_queue_kick_handle,
    .reset = local_reset,
    .save = local_save,
    .load = local_load,
};

/* ---- what the machine does to the device ---- */

void local_backend_set_memory(struct local_backend *local, const struct guest_memory *memory,
                              const struct dirty_log *log_pages)
{
    local->options.memory = memory;
    local->options.log_pages = log_pages;
    for (unsigned i = 0; i < local->backend.queue_count; i++) {
        struct local_task task = {.queue = &local->queues[i]};
        if (task.queue->served.loop)
            (void)local_call(&task, local_exchange);
    }
}

void local_backend_config_changed(struct local_backend *local)
{
    struct virtio_listener *listener = local->backend.listener;
    if (listener)
        listener->class->config_changed(listener);
}

void local_backend_look(struct local_backend *local, unsigned index, struct server_queue_statistics *ret_statistics)
{
    struct local_task task = {.queue = local_queue_at(&local->backend, index), .statistics = ret_statistics};
    (void)local_call(&task, local_look);
}

/* ---- life ---- */

static int local_queue_open(struct local_queue *queue)
{
    queue->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (queue->kick < 0)
        return -errno;
    return queue->owner->options.threads_at_once ? local_place(queue) : 0;
}

int local_backend_open(struct local_backend *local, const struct local_backend_options *options)
{
    struct virtio_device *device = options->device;
    uint16_t count = device->queue_count;
    *local = (struct local_backend){
        .backend =
            {
                .class = &local_class,
                .device_id = device->class->id,
                .queue_count = count,
                .queue_size_max = options->queue_size_max ? options->queue_size_max : LOCAL_QUEUE_SIZE_DEFAULT,
                .config_bytes = device->class->config_bytes,
                .notifies_listener = true,
            },
        .options = *options,
        .queues = calloc(count, sizeof(*local->queues)),
    };
    if (!local->queues)
        return -ENOMEM;
    for (unsigned i = 0; i < count; i++) {
        struct local_queue *queue = &local->queues[i];
        *queue = (struct local_queue){.owner = local, .kick = -1};
        server_queue_init(&queue->served, i, device, options->queues, &local->options.queue_port, options->polling,
                          options->control, local_told);
        queue->served.notify = local_notify;
    }
    int r = 0;
    for (unsigned i = 0; i < count && r == 0; i++)
        r = local_queue_open(&local->queues[i]);
    if (r < 0)
        local_backend_close(local);
    return r;
}

void local_backend_close(struct local_backend *local)
{
    if (!local->queues)
        return;
    for (unsigned i = 0; i < local->backend.queue_count; i++) {
        struct local_queue *queue = &local->queues[i];
        ASSERT(!queue->stopping);
        server_queue_done(&queue->served);
        if (queue->kick >= 0)
            close(queue->kick);
    }
    free(local->queues);
    local->queues = NULL;
}
