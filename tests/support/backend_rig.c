/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#define _GNU_SOURCE
#include "backend_rig.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE_BYTES 4096
/* The most an object of the rig can be: GET_INFLIGHT_FD makes the largest. */
#define OBJECT_BYTES_MAX (UINT64_C(64) << 20)
/* What the device writes into each request, and how much of it: a hostile one may have gigabytes. */
#define FILL 0x5a
#define FILL_BYTES_MAX (64u << 10)

static struct rig *rig_of(struct vhost_user_port *port)
{
    return container_of(port, struct rig, port);
}

static bool handle_is_open(const struct rig *rig, int handle)
{
    return handle >= 0 && handle < rig->handle_count && rig->handle_open[handle];
}

/* The port */

static int port_map(struct vhost_user_port *port, int handle, uint64_t offset, uint64_t bytes,
                    struct vhost_user_mapping *ret_mapping)
{
    struct rig *rig = rig_of(port);
    ASSERT(rig->on_queue < 0);
    ASSERT(handle_is_open(rig, handle));
    ASSERT(bytes > 0 && bytes <= UINT64_MAX - offset);
    const struct rig_object *object = &rig->objects[rig->handle_object[handle]];
    if (object->bytes == NULL)
        return -EINVAL;
    if (!range_within(offset, bytes, object->size))
        return -ENXIO;
    if (rig->maps_left == 0)
        return -ENOMEM;
    if (rig->maps_left > 0)
        rig->maps_left--;
    for (unsigned i = 0; i < RIG_MAPPINGS_MAX; i++) {
        struct rig_mapping *mapping = &rig->mappings[i];
        if (mapping->mapped)
            continue;
        uint64_t first = align_down(offset, PAGE_BYTES);
        size_t pages_bytes = (size_t)align_up(offset + bytes - first, PAGE_BYTES);
        uint8_t *pages = mmap(NULL, pages_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, object->file, (off_t)first);
        ASSERT(pages != MAP_FAILED);
        *mapping = (struct rig_mapping){
            .mapped = true,
            .base = pages + (offset - first),
            .bytes = bytes,
            .pages = pages,
            .pages_bytes = pages_bytes,
        };
        *ret_mapping = (struct vhost_user_mapping){.base = mapping->base, .bytes = bytes, .owner = i + 1};
        return 0;
    }
    return -ENOMEM;
}

static bool mapping_has(const struct rig_mapping *mapping, const void *address)
{
    const uint8_t *byte = address;
    return byte >= mapping->base && byte < mapping->base + mapping->bytes;
}

/* Nobody may point into what is to go: not a queue with its map, ring, log or record, nor a request that is out. */
static void assert_unused(const struct rig *rig, const struct rig_mapping *mapping)
{
    for (unsigned i = 0; i < rig->device.queue_count; i++) {
        const struct virtqueue *queue = &rig->virtqueues[i];
        if (queue->state == VIRTQUEUE_STOPPED)
            continue;
        ASSERT(queue->log == NULL || !mapping_has(mapping, queue->log->bits));
        ASSERT(queue->inflight == NULL || !mapping_has(mapping, queue->inflight));
        if (queue->ring_mapped) {
            ASSERT(!mapping_has(mapping, queue->desc) && !mapping_has(mapping, queue->avail));
            ASSERT(!mapping_has(mapping, queue->used) && !mapping_has(mapping, queue->ring));
            ASSERT(!mapping_has(mapping, queue->driver_event) && !mapping_has(mapping, queue->device_event));
        }
        for (uint32_t r = 0; r < queue->memory->region_count; r++)
            ASSERT(!mapping_has(mapping, queue->memory->regions[r].host));
        for (unsigned h = 0; h < rig->queues[i].held_count; h++) {
            const struct virtq_chain *chain = rig->queues[i].held[h];
            for (unsigned p = 0; p < (unsigned)chain->readable_count + chain->writable_count; p++)
                ASSERT(!mapping_has(mapping, chain->iov[p].base));
        }
    }
}

static void port_unmap(struct vhost_user_port *port, const struct vhost_user_mapping *mapping)
{
    struct rig *rig = rig_of(port);
    ASSERT(rig->on_queue < 0);
    ASSERT(mapping->owner >= 1 && mapping->owner <= RIG_MAPPINGS_MAX);
    struct rig_mapping *ours = &rig->mappings[mapping->owner - 1];
    ASSERT(ours->mapped && ours->base == mapping->base && ours->bytes == mapping->bytes);
    assert_unused(rig, ours);
    ours->mapped = false;
    ASSERT(munmap(ours->pages, ours->pages_bytes) == 0);
}

static void port_close(struct vhost_user_port *port, int handle)
{
    struct rig *rig = rig_of(port);
    ASSERT(handle_is_open(rig, handle));
    rig->handle_open[handle] = false;
}

static int port_shared_memory(struct vhost_user_port *port, uint64_t bytes, int *ret_handle)
{
    struct rig *rig = rig_of(port);
    ASSERT(bytes > 0 && bytes <= OBJECT_BYTES_MAX);
    if (rig->shared_fails || rig->object_count == RIG_OBJECTS_MAX)
        return -ENOMEM;
    *ret_handle = rig_handle(rig, rig_object(rig, bytes));
    return 0;
}

static int port_reply(struct vhost_user_port *port, const struct vhost_user_message *message, int handle)
{
    struct rig *rig = rig_of(port);
    ASSERT(rig->on_queue < 0);
    ASSERT(message->header.flags == (VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY));
    ASSERT(message->header.size <= VHOST_USER_PAYLOAD_BYTES_MAX);
    ASSERT(handle == -1 || handle_is_open(rig, handle));
    ASSERT(rig->reply_count < RIG_REPLIES_MAX);
    struct rig_reply *reply = &rig->replies[rig->reply_count++];
    reply->message = *message;
    reply->object = handle == -1 ? -1 : rig->handle_object[handle];
    return 0;
}

static int port_request(struct vhost_user_port *port, int channel, const struct vhost_user_message *message)
{
    struct rig *rig = rig_of(port);
    ASSERT(handle_is_open(rig, channel));
    if (rig->request_fails)
        return -EAGAIN;
    rig->request_count++;
    rig->last_request = *message;
    rig->last_request_object = rig->handle_object[channel];
    return 0;
}

static void port_call_on_queue(struct vhost_user_port *port, unsigned index, void (*function)(void *argument),
                               void *argument)
{
    struct rig *rig = rig_of(port);
    ASSERT(rig->on_queue < 0 && index < rig->device.queue_count);
    rig->on_queue = (int)index;
    function(argument);
    rig->on_queue = -1;
}

static void port_set_line(struct vhost_user_port *port, unsigned index, enum queue_line line, int handle)
{
    struct rig *rig = rig_of(port);
    ASSERT(rig->on_queue == (int)index);
    ASSERT(handle == -1 || handle_is_open(rig, handle));
    int *ours = &rig->queues[index].lines[line];
    if (*ours >= 0)
        port_close(port, *ours);
    *ours = handle;
}

static void port_set_polled(struct vhost_user_port *port, unsigned index, bool polled)
{
    struct rig *rig = rig_of(port);
    ASSERT(rig->on_queue == (int)index);
    rig->queues[index].polled = polled;
}

static void signal_lines(struct rig_queue *queue, unsigned events)
{
    if ((events & VIRTIO_EVENT_NOTIFY) != 0 && queue->lines[QUEUE_LINE_CALL] >= 0)
        queue->notified++;
    if ((events & VIRTIO_EVENT_NEEDS_RESET) != 0 && queue->lines[QUEUE_LINE_ERROR] >= 0)
        queue->errors++;
    if ((events & VIRTIO_EVENT_AGAIN) != 0)
        queue->again = true;
}

static void port_events(struct vhost_user_port *port, unsigned index, unsigned events)
{
    struct rig *rig = rig_of(port);
    ASSERT(rig->on_queue == (int)index);
    /* The back end keeps to itself what stopped at once. */
    ASSERT((events & VIRTIO_EVENT_STOPPED) == 0);
    signal_lines(&rig->queues[index], events);
}

static const struct vhost_user_port_class port_class = {
    .map = port_map,
    .unmap = port_unmap,
    .close = port_close,
    .shared_memory = port_shared_memory,
    .reply = port_reply,
    .request = port_request,
    .call_on_queue = port_call_on_queue,
    .set_line = port_set_line,
    .set_polled = port_set_polled,
    .events = port_events,
};

/* The device */

static struct rig *rig_of_device(struct virtio_device *device)
{
    return container_of(device, struct rig, device);
}

static uint64_t device_features(const struct virtio_device *device)
{
    (void)device;
    return RIG_FEATURE | RIG_FEATURE_RIVAL;
}

static int device_set_features(struct virtio_device *device, uint64_t features)
{
    (void)device;
    return (features & RIG_FEATURE) != 0 && (features & RIG_FEATURE_RIVAL) != 0 ? -EINVAL : 0;
}

static void complete(struct virtqueue *queue, struct virtq_chain *chain)
{
    uint8_t fill[256];
    memset(fill, FILL, sizeof(fill));
    for (unsigned left = FILL_BYTES_MAX / sizeof(fill); left > 0; left--)
        if (virtq_chain_write(chain, fill, sizeof(fill)) < sizeof(fill))
            break;
    virtqueue_push(queue, &chain, 1);
}

static int device_run(struct virtio_device *device, struct virtqueue *queue, unsigned burst)
{
    struct rig *rig = rig_of_device(device);
    struct rig_queue *ours = &rig->queues[queue - rig->virtqueues];
    for (; burst > 0; burst--) {
        struct virtq_chain *chain;
        int r = virtqueue_pop(queue, &chain, 1);
        if (r <= 0)
            return r;
        if (rig->hold) {
            ASSERT(ours->held_count < RIG_SLOTS);
            ours->held[ours->held_count++] = chain;
        } else {
            complete(queue, chain);
        }
    }
    return 1;
}

static int device_wake(struct virtio_device *device, struct virtqueue *queue, unsigned burst)
{
    struct rig *rig = rig_of_device(device);
    struct rig_queue *ours = &rig->queues[queue - rig->virtqueues];
    /* rig_complete says how many by the burst. */
    ASSERT(burst <= ours->held_count);
    for (unsigned i = 0; i < burst; i++)
        complete(queue, ours->held[i]);
    ours->held_count -= burst;
    memmove(ours->held, ours->held + burst, ours->held_count * sizeof(*ours->held));
    return 0;
}

static void device_config_read(const struct virtio_device *device, uint32_t offset, void *to, uint32_t size)
{
    const struct rig *rig = (const struct rig *)(const void *)((const char *)device - offsetof(struct rig, device));
    memcpy(to, rig->config + offset, size);
}

static int device_config_write(struct virtio_device *device, uint32_t offset, const void *from, uint32_t size)
{
    struct rig *rig = rig_of_device(device);
    if (offset != RIG_CONFIG_WRITABLE || size != 1)
        return -EPERM;
    memcpy(rig->config + offset, from, size);
    return 0;
}

static void device_reset(struct virtio_device *device)
{
    struct rig *rig = rig_of_device(device);
    rig->device_resets++;
    rig->config[RIG_CONFIG_WRITABLE] = 0;
}

static const struct virtio_device_class device_class = {
    .name = "test",
    .id = 0x3f,
    .queues_max = RIG_QUEUES_MAX,
    .config_bytes = RIG_CONFIG_BYTES,
    .features = device_features,
    .run = device_run,
    .wake = device_wake,
    .set_features = device_set_features,
    .config_read = device_config_read,
    .config_write = device_config_write,
    .reset = device_reset,
};

/* Life */

static void *allocate(size_t bytes)
{
    size_t rounded = (size_t)align_up(bytes, PAGE_BYTES);
    void *block = aligned_alloc(PAGE_BYTES, rounded);
    ASSERT(block != NULL);
    memset(block, 0, rounded);
    return block;
}

int rig_object(struct rig *rig, uint64_t bytes)
{
    ASSERT(rig->object_count < RIG_OBJECTS_MAX && bytes <= OBJECT_BYTES_MAX);
    int object = rig->object_count++;
    rig->objects[object].size = bytes;
    if (bytes == 0)
        return object;
    int file = memfd_create("rig", MFD_CLOEXEC);
    ASSERT(file >= 0);
    ASSERT(ftruncate(file, (off_t)bytes) == 0);
    void *mapped = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    ASSERT(mapped != MAP_FAILED);
    rig->objects[object].file = file;
    rig->objects[object].bytes = mapped;
    return object;
}

int rig_handle(struct rig *rig, int object)
{
    ASSERT(rig->handle_count < RIG_HANDLES_MAX);
    int handle = rig->handle_count++;
    rig->handle_open[handle] = true;
    rig->handle_object[handle] = object;
    return handle;
}

int rig_line(struct rig *rig)
{
    /* One object serves all lines: it cannot be mapped. */
    return rig_handle(rig, 2);
}

struct rig *rig_open(unsigned queue_count)
{
    return rig_open_rings(queue_count, 0);
}

struct rig *rig_open_rings(unsigned queue_count, uint64_t ring_features)
{
    ASSERT(queue_count >= 1 && queue_count <= RIG_QUEUES_MAX);
    /* Large, and mostly never touched. */
    struct rig *rig = calloc(1, sizeof(*rig));
    ASSERT(rig != NULL);
    const struct virtq_arena_shape shape = {.slots = RIG_SLOTS, .medium_runs = 2, .long_runs = 1};
    rig->port.class = &port_class;
    rig->ring_features = ring_features;
    rig->ring_size = RIG_RING_SIZE;
    rig->on_queue = -1;
    rig->maps_left = -1;
    (void)rig_object(rig, RIG_REGION_BYTES);
    (void)rig_object(rig, RIG_REGION_BYTES);
    (void)rig_object(rig, 0);
    for (unsigned i = 0; i < RIG_CONFIG_BYTES; i++)
        rig->config[i] = (uint8_t)(0x80 + i);
    for (unsigned i = 0; i < queue_count; i++) {
        rig->arena_blocks[i] = allocate(virtq_arena_bytes(&shape));
        virtq_arena_init(&rig->arenas[i], &shape, rig->arena_blocks[i]);
        virtqueue_init(&rig->virtqueues[i], &rig->arenas[i]);
        for (unsigned line = 0; line < 3; line++)
            rig->queues[i].lines[line] = -1;
        rig_lay_ring(rig, i);
    }
    virtio_device_init(&rig->device, &device_class, rig->virtqueues, (uint16_t)queue_count);
    rig->device.offers_packed = true;
    rig->device.offers_in_order = true;
    vhost_user_backend_init(&rig->backend, &rig->port, &rig->device);
    return rig;
}

void rig_disconnect(struct rig *rig)
{
    vhost_user_backend_disconnect(&rig->backend);
}

unsigned rig_handles(const struct rig *rig)
{
    unsigned count = 0;
    for (int i = 0; i < rig->handle_count; i++)
        count += rig->handle_open[i] ? 1 : 0;
    return count;
}

unsigned rig_mappings(const struct rig *rig)
{
    unsigned count = 0;
    for (unsigned i = 0; i < RIG_MAPPINGS_MAX; i++)
        count += rig->mappings[i].mapped ? 1 : 0;
    return count;
}

void rig_close(struct rig *rig)
{
    rig_disconnect(rig);
    for (unsigned i = 0; i < rig->device.queue_count; i++)
        rig_complete(rig, i, rig->queues[i].held_count);
    ASSERT(!vhost_user_backend_busy(&rig->backend));
    ASSERT(rig_handles(rig) == 0);
    ASSERT(rig_mappings(rig) == 0);
    for (unsigned i = 0; i < rig->device.queue_count; i++) {
        ASSERT(rig->virtqueues[i].state == VIRTQUEUE_STOPPED);
        free(rig->arena_blocks[i]);
    }
    for (int i = 0; i < rig->object_count; i++) {
        if (rig->objects[i].bytes == NULL)
            continue;
        ASSERT(munmap(rig->objects[i].bytes, (size_t)rig->objects[i].size) == 0);
        close(rig->objects[i].file);
    }
    free(rig);
}

/* What a server does with the events of a run or wake. */
static void act(struct rig *rig, unsigned index, unsigned events)
{
    signal_lines(&rig->queues[index], events);
    if ((events & VIRTIO_EVENT_NEEDS_RESET) != 0)
        vhost_user_backend_queue_broken(&rig->backend, index);
    if ((events & VIRTIO_EVENT_STOPPED) != 0)
        ASSERT(vhost_user_backend_queue_stopped(&rig->backend, index) == 0);
}

void rig_run(struct rig *rig)
{
    bool again;
    do {
        again = false;
        for (unsigned i = 0; i < rig->device.queue_count; i++) {
            if (!rig->queues[i].again && !rig->queues[i].polled)
                continue;
            rig->queues[i].again = false;
            act(rig, i, virtio_device_run(&rig->device, i, VIRTQ_BURST_MAX));
            again = again || rig->queues[i].again;
        }
    } while (again);
}

void rig_kick(struct rig *rig, unsigned index)
{
    if (rig->queues[index].lines[QUEUE_LINE_KICK] >= 0)
        rig->queues[index].again = true;
    rig_run(rig);
}

void rig_complete(struct rig *rig, unsigned index, unsigned count)
{
    ASSERT(count <= rig->queues[index].held_count);
    if (count == 0)
        return;
    act(rig, index, virtio_device_wake(&rig->device, index, count));
}
