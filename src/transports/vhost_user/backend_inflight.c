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
 * How large an entry is depends on the rings' layout, which nothing in the memory tells: it is the one that is
 * negotiated. QEMU sets the features before it asks for a record or brings one, for this reason. A front end that does
 * so later gets memory that has room for either, and what it brings is read once the features are known. Should other
 * features come that change the layout, the rings are new ones, and the record is void.
 *
 * Front ends ask for less room than their rings need: QEMU 10 lets drivers make rings of up to 1024, and asks for a
 * record of its queue-size, by default 128. So areas are made with room for 1024 at least. A record that comes back is
 * read in the same way if it is as large as that, and else, being another back end's, with areas of what it says.
 *
 * A packed record says where its ring stands, and is right when a back end was killed, since the front end cannot know.
 * It is wrong when the ring was stopped in order, nothing being in flight, and the driver then laid a new one: of that
 * the base tells, so a record that contradicts it is void. A split ring tells in its own memory.
 *
 * Limits
 *
 * The record is exchanged only while no ring runs, since a running one writes it. Whether memory that was brought has
 * the layout of the rings cannot be told: one that has not is judged like any other nonsense.
 */
#include <errno.h>

#include "transports/vhost_user/backend_private.h"

#define INFLIGHT_AREA_ALIGN 64
/* QEMU's VIRTQUEUE_MAX_SIZE: what a driver may choose there, whatever the device was told to offer. */
#define INFLIGHT_ENTRIES_MIN 1024

static uint64_t area_bytes(bool packed, uint32_t entries)
{
    return align_up(virtq_record_bytes(packed, entries), INFLIGHT_AREA_ALIGN);
}

/* How many entries our areas have for rings that are said to be of @queue_size. */
static uint32_t area_entries(uint32_t queue_size)
{
    return queue_size < INFLIGHT_ENTRIES_MIN ? INFLIGHT_ENTRIES_MIN : queue_size;
}

/* How many entries the areas of what @mapped_bytes hold have room for: ours, or what is said; 0: neither. */
static uint32_t entries_in(bool packed, const struct vhost_user_inflight *given, uint64_t mapped_bytes)
{
    uint32_t ours = area_entries(given->queue_size);
    if (given->queue_count * area_bytes(packed, ours) <= mapped_bytes)
        return ours;
    return given->queue_count * area_bytes(packed, given->queue_size) <= mapped_bytes ? given->queue_size : 0;
}

/* Both numbers are bounded here, so nothing computed from them can be large: at most 64 queues of some 1 MiB. */
static int check_shape(struct vhost_user_backend *backend, const struct vhost_user_inflight *inflight)
{
    if (inflight->queue_count == 0 || inflight->queue_count > backend->device->queue_count)
        return backend_wrong(backend, -EINVAL, "a record for queues that are not there");
    /* A packed ring may have any size. */
    bool any_size = !backend->features_set || backend_packed(backend);
    if (inflight->queue_size == 0 || inflight->queue_size > VRING_SIZE_MAX ||
        (!any_size && !is_power_of_two(inflight->queue_size)))
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

    bool packed = !backend->features_set || backend_packed(backend);
    uint64_t bytes = asked->queue_count * area_bytes(packed, area_entries(asked->queue_size));
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

static void *area_at(const struct vhost_user_mapping *mapping, bool packed, unsigned index, uint32_t entries)
{
    return mapping->base + index * area_bytes(packed, entries);
}

/* In both layouts version and desc_num stand at the same place. */
static uint16_t area_version(const void *area)
{
    static_assert(offsetof(struct virtq_record_split, version) == offsetof(struct virtq_record_packed, version),
                  "vhost-user, QueueRegionSplit and QueueRegionPacked");
    return __atomic_load_n(&((const struct virtq_record_split *)area)->version, __ATOMIC_RELAXED);
}

static uint16_t area_desc_num(const void *area)
{
    static_assert(offsetof(struct virtq_record_split, desc_num) == offsetof(struct virtq_record_packed, desc_num),
                  "vhost-user, QueueRegionSplit and QueueRegionPacked");
    return __atomic_load_n(&((const struct virtq_record_split *)area)->desc_num, __ATOMIC_RELAXED);
}

/* The front end may write here at any time: what is found here is found again, or not, by virtqueue_start. */
static int check_area(const void *area, uint32_t entries)
{
    uint16_t version = area_version(area);
    if (version == 0)
        return 0;
    return version == VIRTQ_RECORD_VERSION && area_desc_num(area) <= entries ? 0 : -EINVAL;
}

int backend_set_inflight(struct vhost_user_backend *backend, struct vhost_user_message *message)
{
    const struct vhost_user_inflight *given = &message->payload.inflight;
    int r = check_shape(backend, given);
    if (r < 0)
        return r;
    if (backend_any_running(backend))
        return backend_wrong(backend, -EBUSY, "a record while a ring runs");

    /* As much as areas for the larger layout can take; before the features are known it is enough for the smaller. */
    bool packed = backend_packed(backend);
    uint64_t bytes = u64_min(given->mmap_size, given->queue_count * area_bytes(true, area_entries(given->queue_size)));
    uint32_t entries = entries_in(packed, given, bytes);
    uint64_t end;
    if (entries == 0 || add_overflows_u64(given->mmap_offset, given->mmap_size, &end))
        return backend_wrong(backend, -EINVAL, "a record smaller than its queues need");
    /* The areas hold integers of 8 bytes. */
    if (!is_aligned(given->mmap_offset, sizeof(uint64_t)))
        return backend_wrong(backend, -EINVAL, "a record that is not aligned to 8 bytes");

    struct vhost_user_mapping mapping;
    r = backend->port->class->map(backend->port, message->handles[0], given->mmap_offset, bytes, &mapping);
    if (r < 0)
        return backend_wrong(backend, r,
                             r == -ENXIO ? "a record past the end of its file" : "a record cannot be mapped");
    for (unsigned i = 0; i < given->queue_count && r == 0 && backend->features_set; i++)
        r = check_area(area_at(&mapping, packed, i, entries), entries);
    if (r < 0) {
        backend->port->class->unmap(backend->port, &mapping);
        return backend_wrong(backend, r, "a record of another version or size");
    }

    backend_inflight_done(backend);
    backend->inflight_mapping = mapping;
    backend->inflight_queue_count = given->queue_count;
    backend->inflight_queue_size = given->queue_size;
    backend->inflight_has_layout = backend->features_set;
    backend->inflight_packed = packed;
    for (unsigned i = 0; i < backend->device->queue_count; i++)
        backend->queues[i].record_done = false;
    return 0;
}

/* How many entries each area of the record in use has. */
static uint32_t inflight_entries(const struct vhost_user_backend *backend)
{
    const struct vhost_user_inflight given = {
        .queue_count = backend->inflight_queue_count,
        .queue_size = backend->inflight_queue_size,
    };
    return entries_in(backend->inflight_packed, &given, backend->inflight_mapping.bytes);
}

static void *inflight_area(const struct vhost_user_backend *backend, unsigned index)
{
    return area_at(&backend->inflight_mapping, backend->inflight_packed, index, inflight_entries(backend));
}

static void forget_area(struct vhost_user_backend *backend, unsigned index)
{
    void *area = inflight_area(backend, index);
    /* One that nobody laid out has no pages yet, and needs none. */
    if (area_version(area) != 0)
        memset(area, 0, (size_t)area_bytes(backend->inflight_packed, inflight_entries(backend)));
}

void backend_inflight_forget(struct vhost_user_backend *backend)
{
    ASSERT(!backend_any_running(backend));
    /* Before any features its layout is not known, and no ring has used it here. */
    if (backend->inflight_mapping.base == NULL || !backend->inflight_has_layout || inflight_entries(backend) == 0)
        return;
    for (unsigned i = 0; i < backend->inflight_queue_count; i++)
        forget_area(backend, i);
}

void backend_inflight_features(struct vhost_user_backend *backend)
{
    bool packed = backend_packed(backend);
    if (backend->inflight_has_layout && backend->inflight_packed != packed)
        backend_inflight_forget(backend);
    backend->inflight_has_layout = true;
    backend->inflight_packed = packed;
}

/* Does a packed record in which nothing is in flight say of the ring what @config does? */
static bool agrees(const struct virtq_record_packed *record, const struct virtqueue_config *config)
{
    uint16_t used = __atomic_load_n(&record->used_index, __ATOMIC_RELAXED);
    bool wrap = __atomic_load_n(&record->used_wrap_counter, __ATOMIC_RELAXED) != 0;
    return area_desc_num(record) == config->size && VIRTQ_BASE_PACKED(used, wrap) == config->base >> 16;
}

int backend_inflight(struct vhost_user_backend *backend, unsigned index, const struct virtqueue_config *config,
                     void **ret_record)
{
    *ret_record = NULL;
    if (backend->inflight_mapping.base == NULL || index >= backend->inflight_queue_count)
        return 0;
    /* There may be no room for this ring: better served without than not at all. */
    uint32_t entries = inflight_entries(backend);
    if (config->size > entries)
        return 0;
    void *area = inflight_area(backend, index);
    if (check_area(area, entries) < 0)
        return backend_wrong(backend, -EINVAL, "a record of another version or size");
    if (backend->inflight_packed && area_version(area) != 0) {
        if (backend->queues[index].record_done && !agrees(area, config))
            forget_area(backend, index);
        else if (area_desc_num(area) != config->size)
            return backend_wrong(backend, -EINVAL, "a record of a ring of another size");
    }
    *ret_record = area;
    return 0;
}

void backend_inflight_done(struct vhost_user_backend *backend)
{
    if (backend->inflight_mapping.base == NULL)
        return;
    backend->port->class->unmap(backend->port, &backend->inflight_mapping);
    backend->inflight_mapping = (struct vhost_user_mapping){0};
    backend->inflight_queue_count = 0;
    backend->inflight_queue_size = 0;
    backend->inflight_has_layout = false;
    backend->inflight_packed = false;
}
