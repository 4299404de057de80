/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The in-flight record ("Inflight I/O tracking"): memory that the front end keeps while back ends come and go.
 *
 * Theory of operation
 *
 * GET_INFLIGHT_FD makes zeroed shared memory with one area a queue, and gives it away; it is used from the moment the
 * front end hands it back, or hands back what it had from our predecessor, by SET_INFLIGHT_FD. Areas lie one after the
 * other, each beginning at a multiple of 64 bytes, so that queues share no cache line. An area whose version is 0 has
 * never been used: the queue that starts with it makes it ready. Any other must be of our version and fit its place.
 * What an area says of requests is judged by virtqueue_start, which reads it. A reset of the device voids it: the
 * heads in it name other requests, or none, in the ring that the driver lays out then.
 *
 * Front ends ask for less room than their rings need: QEMU 10 lets drivers make rings of up to 1024, and asks for a
 * record of its queue-size, by default 128. So areas are made with room for 1024 at least. A record that comes back is
 * read in the same way if it is as large as that, and else, being another back end's, with areas of what it says.
 *
 * Limits
 *
 * The record is exchanged only while no ring runs, since a running one writes it. Split rings only.
 */
#include <errno.h>

#include "transports/vhost_user/backend_private.h"

#define INFLIGHT_AREA_ALIGN 64
/* QueueRegionSplit.version: 0 is memory that nobody laid out. */
#define INFLIGHT_VERSION 1
/* QEMU's VIRTQUEUE_MAX_SIZE: what a driver may choose there, whatever the device was told to offer. */
#define INFLIGHT_ENTRIES_MIN 1024

static uint64_t area_bytes(uint32_t entries)
{
    uint64_t bytes = sizeof(struct virtq_record_split) + (uint64_t)entries * sizeof(struct virtq_record_split_entry);
    return align_up(bytes, INFLIGHT_AREA_ALIGN);
}

/* How many entries our areas have for rings that are said to be of @queue_size. */
static uint32_t area_entries(uint32_t queue_size)
{
    return queue_size < INFLIGHT_ENTRIES_MIN ? INFLIGHT_ENTRIES_MIN : queue_size;
}

/* Both numbers are bounded here, so nothing computed from them can be large: at most 64 queues of some 512 KiB. */
static int check_shape(struct vhost_user_backend *backend, const struct vhost_user_inflight *inflight)
{
    if (inflight->queue_count == 0 || inflight->queue_count > backend->device->queue_count)
        return backend_wrong(backend, -EINVAL, "a record for queues that are not there");
    if (!is_power_of_two(inflight->queue_size) || inflight->queue_size > VRING_SIZE_MAX)
        return backend_wrong(backend, -EINVAL, "a record for rings of a size that no ring has");
    return 0;
}

int backend_get_inflight(struct vhost_user_backend *backend, struct vhost_user_message *message)
{
    struct vhost_user_message reply = {.header = message->header};
    const struct vhost_user_inflight *asked = &message->payload.inflight;
    int r = check_shape(backend, asked);
    if (r < 0)
        return r;

    uint64_t bytes = asked->queue_count * area_bytes(area_entries(asked->queue_size));
    int handle;
    r = backend->port->class->shared_memory(backend->port, bytes, &handle);
    if (r < 0)
        return backend_wrong(backend, r, "no memory to be had for a record");

    reply.payload.inflight = (struct vhost_user_inflight){
        .mmap_size = bytes,
        .queue_count = asked->queue_count,
        .queue_size = asked->queue_size,
    };
    backend_reply(backend, &reply, handle);
    backend->port->class->close(backend->port, handle);
    return BACKEND_ANSWERED;
}

/* The front end may write here at any time: what is found here is found again, or not, by virtqueue_start. */
static int check_area(const struct virtq_record_split *area, uint32_t entries)
{
    uint16_t version = __atomic_load_n(&area->version, __ATOMIC_RELAXED);
    uint16_t desc_num = __atomic_load_n(&area->desc_num, __ATOMIC_RELAXED);
    if (version == 0)
        return 0;
    return version == INFLIGHT_VERSION && desc_num <= entries ? 0 : -EINVAL;
}

static struct virtq_record_split *area_at(const struct vhost_user_mapping *mapping, unsigned index, uint32_t entries)
{
    return (struct virtq_record_split *)(void *)(mapping->base + index * area_bytes(entries));
}

int backend_set_inflight(struct vhost_user_backend *backend, struct vhost_user_message *message)
{
    const struct vhost_user_inflight *given = &message->payload.inflight;
    int r = check_shape(backend, given);
    if (r < 0)
        return r;
    if (backend_any_running(backend))
        return backend_wrong(backend, -EBUSY, "a record while a ring runs");

    uint32_t entries = area_entries(given->queue_size);
    if (given->mmap_size < given->queue_count * area_bytes(entries))
        entries = given->queue_size;
    uint64_t bytes = given->queue_count * area_bytes(entries);
    uint64_t end;
    if (given->mmap_size < bytes || add_overflows_u64(given->mmap_offset, given->mmap_size, &end))
        return backend_wrong(backend, -EINVAL, "a record smaller than its queues need");
    /* The areas hold integers of 8 bytes. */
    if (!is_aligned(given->mmap_offset, sizeof(uint64_t)))
        return backend_wrong(backend, -EINVAL, "a record that is not aligned to 8 bytes");

    struct vhost_user_mapping mapping;
    r = backend->port->class->map(backend->port, message->handles[0], given->mmap_offset, bytes, &mapping);
    if (r < 0)
        return backend_wrong(backend, r,
                             r == -ENXIO ? "a record past the end of its file" : "a record cannot be mapped");
    for (unsigned i = 0; i < given->queue_count && r == 0; i++)
        r = check_area(area_at(&mapping, i, entries), entries);
    if (r < 0) {
        backend->port->class->unmap(backend->port, &mapping);
        return backend_wrong(backend, r, "a record of another version or size");
    }

    backend_inflight_done(backend);
    backend->inflight_mapping = mapping;
    backend->inflight_queue_count = given->queue_count;
    backend->inflight_entries = entries;
    return 0;
}

struct virtq_record_split *backend_inflight(const struct vhost_user_backend *backend, unsigned index)
{
    if (backend->inflight_mapping.base == NULL || index >= backend->inflight_queue_count)
        return NULL;
    return area_at(&backend->inflight_mapping, index, backend->inflight_entries);
}

void backend_inflight_forget(struct vhost_user_backend *backend)
{
    ASSERT(!backend_any_running(backend));
    for (unsigned i = 0; i < backend->inflight_queue_count; i++) {
        struct virtq_record_split *area = area_at(&backend->inflight_mapping, i, backend->inflight_entries);
        /* One that nobody laid out has no pages yet, and needs none. */
        if (__atomic_load_n(&area->version, __ATOMIC_RELAXED) != 0)
            memset(area, 0, (size_t)area_bytes(backend->inflight_entries));
    }
}

void backend_inflight_done(struct vhost_user_backend *backend)
{
    if (backend->inflight_mapping.base == NULL)
        return;
    backend->port->class->unmap(backend->port, &backend->inflight_mapping);
    backend->inflight_mapping = (struct vhost_user_mapping){0};
    backend->inflight_queue_count = 0;
    backend->inflight_entries = 0;
}
