/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A run pops a burst and gives each chain to serve. What was served is pushed; what is held stays out; what is to be
 * asked again goes back to the ring with everything behind it, so that order is kept. The queue's thread is the only
 * one that touches the ring.
 *
 * A held request may be completed on any thread. It then waits in its queue's list, and an eventfd, which is the port's
 * handle of that queue, makes the loop wake the queue, where the list is pushed. A queue cannot stop before that, so a
 * request that is held always has its chain.
 *
 * Limits
 *
 * One indirect call and one copy of the data a request: who needs more speed writes a model inside the tree.
 */
#include "library/device.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Enough to keep any host busy; small enough that a device costs little memory. */
#define REQUESTS_DEFAULT 128
/* Requests with more than 8 pieces, and with more than 136, that may be in flight at a time. */
#define MEDIUM_RUNS 16
#define LONG_RUNS 2
/* What a message of vhost-user can carry. */
#define CONFIG_BYTES_MAX 256
/* Storage that a device may ask for in each request. */
#define REQUEST_BYTES_MAX 65536

static struct backplane_device *device_of(struct virtio_device *device)
{
    return container_of(device, struct backplane_device, device);
}

static const struct backplane_device *device_of_const(const struct virtio_device *device)
{
    return (const struct backplane_device *)(const void *)((const char *)device -
                                                           offsetof(struct backplane_device, device));
}

/* One chain: as serve answers. */
static int device_serve_one(struct backplane_device *device, unsigned index, struct virtq_chain *chain)
{
    struct backplane_request *request = chain->request;
    request->device = device;
    request->chain = chain;
    request->queue = (uint16_t)index;
    request->held = true; /* before serve: it may be completed while serve has not returned yet */
    int r = device->class.serve(device->context, index, request);
    ASSERT(r <= BACKPLANE_HELD);
    return r;
}

static int device_run(struct virtio_device *virtio, struct virtqueue *queue, unsigned burst)
{
    struct backplane_device *device = device_of(virtio);
    unsigned index = (unsigned)(queue - virtio->queues);
    struct virtq_chain *chains[VIRTQ_BURST_MAX];

    while (burst > 0) {
        int popped = virtqueue_pop(queue, chains, u32_min(burst, VIRTQ_BURST_MAX));
        if (popped <= 0)
            return popped;
        unsigned count = (unsigned)popped;
        unsigned at = 0;
        int r = 0;
        for (; at < count; at++) {
            r = device_serve_one(device, index, chains[at]);
            if (r < 0)
                break;
            if (r == BACKPLANE_SERVED)
                virtqueue_push(queue, &chains[at], 1);
        }
        if (r >= 0) {
            burst -= count;
            continue;
        }
        /* Not now, or never. A request that was written to cannot go back: only a device that gives up does that. */
        if (chains[at]->written > 0) {
            ASSERT(r != -EAGAIN);
            virtqueue_push(queue, &chains[at], 1);
            at++;
        }
        virtqueue_unpop(queue, &chains[at], count - at);
        return r == -EAGAIN ? 0 : -EPROTO;
    }
    return 1;
}

static int device_wake(struct virtio_device *virtio, struct virtqueue *queue, unsigned burst)
{
    struct backplane_device *device = device_of(virtio);
    struct backplane_device_queue *side = &device->sides[queue - virtio->queues];
    uint64_t events;
    ssize_t taken = read(side->handle, &events, sizeof(events));
    (void)taken; /* nothing in it: it is the ring that wakes us */

    pthread_mutex_lock(&side->lock);
    struct backplane_request *request = side->completed;
    side->completed = NULL;
    pthread_mutex_unlock(&side->lock);

    /* The oldest first. */
    struct backplane_request *oldest = NULL;
    while (request != NULL) {
        struct backplane_request *next = request->next;
        request->next = oldest;
        oldest = request;
        request = next;
    }
    while (oldest != NULL) {
        struct backplane_request *next = oldest->next; /* the request is the driver's again after the push */
        virtqueue_push(queue, &oldest->chain, 1);
        oldest = next;
    }
    return device_run(virtio, queue, burst);
}

static uint64_t device_features(const struct virtio_device *virtio)
{
    return device_of_const(virtio)->class.features;
}

static int device_set_features(struct virtio_device *virtio, uint64_t features)
{
    struct backplane_device *device = device_of(virtio);
    if (device->class.features_chosen == NULL)
        return 0;
    return device->class.features_chosen(device->context, features & device->class.features) < 0 ? -EINVAL : 0;
}

static void device_config_read(const struct virtio_device *virtio, uint32_t offset, void *to, uint32_t size)
{
    const struct backplane_device *device = device_of_const(virtio);
    memset(to, 0, size);
    if (device->class.config_read != NULL)
        device->class.config_read(device->context, offset, to, size);
}

static int device_config_write(struct virtio_device *virtio, uint32_t offset, const void *from, uint32_t size)
{
    struct backplane_device *device = device_of(virtio);
    return device->class.config_write(device->context, offset, from, size) < 0 ? -EPERM : 0;
}

static void device_queue_stop(struct virtio_device *virtio, struct virtqueue *queue)
{
    struct backplane_device *device = device_of(virtio);
    if (device->class.queue_stop != NULL)
        device->class.queue_stop(device->context, (unsigned)(queue - virtio->queues));
}

static void device_reset(struct virtio_device *virtio)
{
    struct backplane_device *device = device_of(virtio);
    if (device->class.reset != NULL)
        device->class.reset(device->context);
}

int device_port_handle(void *context, unsigned index)
{
    const struct backplane_device *device = context;
    return device->sides[index].handle;
}

/* A class that is fit for use, made of what a program gave, which may be of an older or newer version. */
static int device_take_class(const struct backplane_device_class *from, struct backplane_device_class *ret_class)
{
    struct backplane_device_class class = {.size = 0};
    if (from->size < offsetof(struct backplane_device_class, config_read))
        return -EINVAL; /* not even serve */
    memcpy(&class, from, size_min(from->size, sizeof(class)));
    if (class.serve == NULL || class.queue_count < 1 || class.queue_count > BACKPLANE_QUEUES_MAX)
        return -EINVAL;
    if (class.requests_max > BACKPLANE_REQUESTS_MAX || class.request_bytes > REQUEST_BYTES_MAX)
        return -EINVAL;
    if (class.config_bytes > CONFIG_BYTES_MAX)
        return -EINVAL;
    if ((class.rings & ~(uint32_t)(BACKPLANE_RINGS_PACKED | BACKPLANE_RINGS_IN_ORDER)) != 0)
        return -EINVAL;
    if (class.requests_max == 0)
        class.requests_max = REQUESTS_DEFAULT;
    *ret_class = class;
    return 0;
}

static int device_open_sides(struct backplane_device *device)
{
    for (unsigned i = 0; i < device->class.queue_count; i++) {
        struct backplane_device_queue *side = &device->sides[i];
        side->handle = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (side->handle < 0)
            return -errno;
        pthread_mutex_init(&side->lock, NULL);
        device->side_count++;
    }
    return 0;
}

int backplane_device_create(const struct backplane_device_class *device_class, void *context,
                            struct backplane_device **ret_device)
{
    struct backplane_device_class class;
    int r = device_take_class(device_class, &class);
    if (r < 0)
        return r;
    struct backplane_device *device = calloc(1, sizeof(*device));
    if (device == NULL)
        return -ENOMEM;
    device->class = class;
    device->context = context;
    device->device_class = (struct virtio_device_class){
        .name = class.name != NULL ? class.name : "device",
        .id = class.id,
        .queues_max = class.queue_count,
        .config_bytes = class.config_bytes,
        .request_bytes = sizeof(struct backplane_request) + class.request_bytes,
        .features = device_features,
        .run = device_run,
        .wake = device_wake,
        .queue_stop = device_queue_stop,
        .set_features = device_set_features,
        .config_read = device_config_read,
        .config_write = class.config_write != NULL ? device_config_write : NULL,
        .reset = device_reset,
    };
    struct virtq_arena_shape shape = {
        .slots = class.requests_max,
        .medium_runs = (uint16_t)u32_min(class.requests_max, MEDIUM_RUNS),
        .long_runs = LONG_RUNS,
        .request_bytes = device->device_class.request_bytes,
    };
    r = device_queues_open(&device->queues, class.queue_count, &shape);
    if (r == 0)
        r = device_open_sides(device);
    if (r < 0) {
        backplane_device_destroy(device);
        return r;
    }
    virtio_device_init(&device->device, &device->device_class, device->queues.queues, class.queue_count);
    device->device.offers_packed = (class.rings & BACKPLANE_RINGS_PACKED) != 0;
    device->device.offers_in_order = (class.rings & BACKPLANE_RINGS_IN_ORDER) != 0;
    *ret_device = device;
    return 0;
}

void backplane_device_destroy(struct backplane_device *device)
{
    if (device == NULL)
        return;
    ASSERT(!device->served);
    for (unsigned i = 0; i < device->side_count; i++) {
        close(device->sides[i].handle);
        pthread_mutex_destroy(&device->sides[i].lock);
    }
    device_queues_close(&device->queues);
    free(device);
}

static void side_signal(const struct backplane_device_queue *side)
{
    uint64_t one = 1;
    ssize_t written = write(side->handle, &one, sizeof(one));
    (void)written; /* full: it is signalled */
}

void backplane_device_wake(struct backplane_device *device, unsigned queue)
{
    ASSERT(queue < device->class.queue_count);
    side_signal(&device->sides[queue]);
}

size_t backplane_request_readable(const struct backplane_request *request)
{
    return (size_t)request->chain->readable_bytes;
}

size_t backplane_request_writable(const struct backplane_request *request)
{
    return (size_t)request->chain->writable_bytes;
}

size_t backplane_request_read(struct backplane_request *request, void *to, size_t size)
{
    return virtq_chain_read(request->chain, to, size);
}

size_t backplane_request_write(struct backplane_request *request, const void *from, size_t size)
{
    return virtq_chain_write(request->chain, from, size);
}

void *backplane_request_storage(struct backplane_request *request)
{
    return request->storage;
}

void backplane_request_complete(struct backplane_request *request)
{
    struct backplane_device_queue *side = &request->device->sides[request->queue];
    pthread_mutex_lock(&side->lock);
    ASSERT(request->held); /* completed twice, or never held */
    request->held = false;
    request->next = side->completed;
    side->completed = request;
    /* Inside the lock: the device may be gone as soon as it has its last request back. */
    side_signal(side);
    pthread_mutex_unlock(&side->lock);
}
