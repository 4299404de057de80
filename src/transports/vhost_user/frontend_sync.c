/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * frontend_sync() goes through all that a peer must know, in the order in which it must know it: what the driver wrote
 * to the configuration, features, memory, the log, the in-flight record, the queues, where they notify, the status.
 * Each step sends what differs from what was told. It is called whenever something may have changed, and after each
 * answer; most calls find nothing to do.
 *
 * Memory goes out only with the first queue that needs it: what a firmware or the owner does to the map before costs
 * no message. With CONFIGURE_MEM_SLOTS regions come and go one by one, and else the whole table is sent anew.
 *
 * A queue's parts go out in the order that back ends know from QEMU, but for the call line, which here comes before the
 * kick line: one that runs as soon as it can be kicked would find nobody to interrupt.
 */
#include <errno.h>

#include "transports/vhost_user/frontend_private.h"

/* Added to guest addresses to make front-end addresses: above all of the former that there are, below the sign. */
#define FRONTEND_ADDRESS_OFFSET (UINT64_C(1) << 62)

const struct vhost_user_frontend_region *frontend_region(const struct vhost_user_frontend_region *regions,
                                                         unsigned count, uint64_t address, uint64_t bytes)
{
    for (unsigned i = 0; i < count; i++)
        if (address >= regions[i].guest_base && range_within(address - regions[i].guest_base, bytes, regions[i].size))
            return &regions[i];
    return NULL;
}

struct ring_part {
    uint64_t address;
    uint32_t bytes;
    uint32_t alignment;
};

int frontend_ring_check(struct vhost_user_frontend *frontend, const struct vhost_user_frontend_region *regions,
                        unsigned count, const struct virtqueue_config *config)
{
    bool packed = frontend_packed(frontend);
    uint32_t size = config->size;
    if (size == 0 || size > frontend->virtio.queue_size_max || (!packed && !is_power_of_two(size)))
        return frontend_refuse(frontend, -EINVAL, "a ring of a size that no ring has here");
    uint32_t event = (uint32_t)sizeof(struct vring_packed_event), avail_align = VRING_AVAIL_ALIGN;
    uint32_t used_align = VRING_USED_ALIGN;
    if (packed)
        avail_align = used_align = VRING_PACKED_EVENT_ALIGN;
    const struct ring_part parts[] = {
        {config->desc_address, packed ? vring_packed_desc_bytes(size) : vring_desc_bytes(size), VRING_DESC_ALIGN},
        {config->avail_address, packed ? event : vring_avail_bytes(size), avail_align},
        {config->used_address, packed ? event : vring_used_bytes(size), used_align},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(parts); i++) {
        if (!is_aligned(parts[i].address, parts[i].alignment))
            return frontend_refuse(frontend, -EINVAL, "a ring that is not aligned");
        if (frontend_region(regions, count, parts[i].address, parts[i].bytes) == NULL)
            return frontend_refuse(frontend, -EFAULT, "a ring outside of the memory that the back end may reach");
    }
    return 0;
}

static bool same_region(const struct vhost_user_frontend_region *a, const struct vhost_user_frontend_region *b)
{
    return a->guest_base == b->guest_base && a->size == b->size && a->handle == b->handle && a->offset == b->offset;
}

static bool has_region(const struct vhost_user_frontend_region *regions, unsigned count,
                       const struct vhost_user_frontend_region *region)
{
    for (unsigned i = 0; i < count; i++)
        if (same_region(&regions[i], region))
            return true;
    return false;
}

static struct vhost_user_region wire_region(const struct vhost_user_frontend_region *region)
{
    return (struct vhost_user_region){
        .guest_base = region->guest_base,
        .size = region->size,
        .frontend_base = region->guest_base + FRONTEND_ADDRESS_OFFSET,
        .mmap_offset = region->offset,
    };
}

static void send_region(struct vhost_user_frontend *frontend, uint32_t request,
                        const struct vhost_user_frontend_region *region)
{
    struct vhost_user_message message = {
        .header = {.request = request, .size = sizeof(struct vhost_user_single_region)},
        .payload.region.region = wire_region(region),
        /* "no file descriptors SHOULD be passed" with REM_MEM_REG */
        .handle_count = request == VHOST_USER_ADD_MEM_REG ? 1 : 0,
        .handles = {region->handle},
    };
    frontend_send(frontend, &message, 0);
}

static void send_table(struct vhost_user_frontend *frontend)
{
    struct vhost_user_message message = {
        .header = {.request = VHOST_USER_SET_MEM_TABLE},
        .payload.table.region_count = frontend->region_count,
        .handle_count = frontend->region_count,
    };
    ASSERT(frontend->region_count <= VHOST_USER_TABLE_REGIONS_MAX);
    message.header.size = (uint32_t)(offsetof(struct vhost_user_memory_table, regions) +
                                     frontend->region_count * sizeof(struct vhost_user_region));
    for (unsigned i = 0; i < frontend->region_count; i++) {
        message.payload.table.regions[i] = wire_region(&frontend->regions[i]);
        message.handles[i] = frontend->regions[i].handle;
    }
    frontend_send(frontend, &message, 0);
}

static void sync_memory(struct vhost_user_frontend *frontend)
{
    bool same = frontend->told_region_count == frontend->region_count;
    for (unsigned i = 0; i < frontend->region_count && same; i++)
        same = has_region(frontend->told_regions, frontend->told_region_count, &frontend->regions[i]);
    if (same)
        return;
    if (!frontend_negotiated(frontend, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS)) {
        send_table(frontend);
    } else {
        for (unsigned i = 0; i < frontend->told_region_count; i++)
            if (!has_region(frontend->regions, frontend->region_count, &frontend->told_regions[i]))
                send_region(frontend, VHOST_USER_REM_MEM_REG, &frontend->told_regions[i]);
        for (unsigned i = 0; i < frontend->region_count; i++)
            if (!has_region(frontend->told_regions, frontend->told_region_count, &frontend->regions[i]))
                send_region(frontend, VHOST_USER_ADD_MEM_REG, &frontend->regions[i]);
    }
    memcpy(frontend->told_regions, frontend->regions, sizeof(frontend->regions));
    frontend->told_region_count = frontend->region_count;
    frontend_send_barrier(frontend);
}

static void send_address(struct vhost_user_frontend *frontend, unsigned index)
{
    const struct virtqueue_config *config = &frontend->queues[index].config;
    struct vhost_user_message message = {
        .header = {.request = VHOST_USER_SET_VRING_ADDR, .size = sizeof(struct vhost_user_vring_address)},
        .payload.address =
            {
                .index = index,
                .flags = frontend->log.handle >= 0 ? VHOST_USER_VRING_F_LOG : 0,
                .desc = config->desc_address + FRONTEND_ADDRESS_OFFSET,
                .used = config->used_address + FRONTEND_ADDRESS_OFFSET,
                .avail = config->avail_address + FRONTEND_ADDRESS_OFFSET,
                .log = config->used_address,
            },
    };
    frontend_send(frontend, &message, index);
}

static void sync_log_base(struct vhost_user_frontend *frontend)
{
    if (frontend->log.handle < 0 || frontend->told_log)
        return;
    struct vhost_user_message message = {
        .header = {.request = VHOST_USER_SET_LOG_BASE, .size = sizeof(struct vhost_user_log)},
        .payload.log = {.size = frontend->log.bytes, .offset = frontend->log.offset},
        .handle_count = 1,
        .handles = {frontend->log.handle},
    };
    frontend_send(frontend, &message, 0);
    frontend->told_log = true;
}

static void sync_features(struct vhost_user_frontend *frontend)
{
    uint64_t features = frontend->features;
    if (frontend->isolated)
        features &= ~VIRTIO_F_ACCESS_PLATFORM;
    features |= frontend->peer_features & VHOST_USER_F_PROTOCOL_FEATURES;
    if (frontend->log.handle >= 0)
        features |= VHOST_F_LOG_ALL;
    if (features == frontend->told_features)
        return;
    bool log_changes = ((features ^ frontend->told_features) & VHOST_F_LOG_ALL) != 0;
    frontend_send_u64(frontend, VHOST_USER_SET_FEATURES, features);
    frontend->told_features = features;
    if (!log_changes)
        return;
    for (unsigned i = 0; i < frontend->virtio.queue_count; i++)
        if (frontend->queues[i].told && !frontend->queues[i].stopping)
            send_address(frontend, i);
    frontend_send_barrier(frontend);
}

/* False: not before the peer has answered. */
static bool sync_record(struct vhost_user_frontend *frontend)
{
    if (frontend->told_record)
        return true;
    if (!frontend_negotiated(frontend, VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD) || frontend->without_record) {
        frontend_record_drop(frontend); /* a peer's that was there before: this one will not keep it up */
        return true;
    }
    if (frontend->record_due)
        return false;
    struct vhost_user_message message = {
        .header = {.request = VHOST_USER_SET_INFLIGHT_FD, .size = sizeof(struct vhost_user_inflight)},
        .payload.inflight = frontend->record,
        .handle_count = 1,
        .handles = {frontend->record_handle},
    };
    if (frontend->record_handle >= 0) {
        frontend_send(frontend, &message, 0);
        frontend->told_record = true;
        return true;
    }
    message.header.request = VHOST_USER_GET_INFLIGHT_FD;
    message.handle_count = 0;
    message.payload.inflight = (struct vhost_user_inflight){
        .queue_count = frontend->virtio.queue_count,
        .queue_size = (uint16_t)frontend->virtio.queue_size_max,
    };
    frontend->record_due = true;
    frontend_send(frontend, &message, 0);
    return false;
}

static void send_state(struct vhost_user_frontend *frontend, uint32_t request, unsigned index, uint32_t num)
{
    struct vhost_user_message message = {
        .header = {.request = request, .size = sizeof(struct vhost_user_vring_state)},
        .payload.state = {.index = index, .num = num},
    };
    frontend_send(frontend, &message, index);
}

static void send_line(struct vhost_user_frontend *frontend, uint32_t request, unsigned index, int handle)
{
    struct vhost_user_message message = {
        .header = {.request = request, .size = sizeof(uint64_t)},
        .payload.u64 = index,
        .handle_count = 1,
        .handles = {handle},
    };
    if (handle >= 0)
        frontend_send(frontend, &message, index);
}

/* The handle that the peer is to signal for the driver. */
static int notify_handle(const struct vhost_user_frontend *frontend, unsigned index)
{
    int notify = frontend->queues[index].notify;
    return notify >= 0 ? notify : frontend->port->class->notify_handle(frontend->port, index);
}

/* Interrupt the driver, who looks into the ring then: one too many does no harm. */
static void notify_driver(struct vhost_user_frontend *frontend, unsigned index)
{
    frontend->port->class->signal(frontend->port, notify_handle(frontend, index));
}

static void start_queue(struct vhost_user_frontend *frontend, unsigned index)
{
    struct vhost_user_frontend_queue *queue = &frontend->queues[index];
    struct vhost_user_frontend_port *port = frontend->port;
    uint32_t base = queue->config.base;
    if (queue->resumed && !frontend_find_base(frontend, index, &base)) {
        frontend_break(frontend, "the back end is gone, and where it stood in its ring cannot be known");
        return;
    }
    send_state(frontend, VHOST_USER_SET_VRING_NUM, index, queue->config.size);
    send_state(frontend, VHOST_USER_SET_VRING_BASE, index, base);
    send_address(frontend, index);
    send_line(frontend, VHOST_USER_SET_VRING_ERR, index, port->class->error_handle(port));
    send_line(frontend, VHOST_USER_SET_VRING_CALL, index, notify_handle(frontend, index));
    send_line(frontend, VHOST_USER_SET_VRING_KICK, index, port->class->kick_handle(port, index));
    if ((frontend->told_features & VHOST_USER_F_PROTOCOL_FEATURES) != 0)
        send_state(frontend, VHOST_USER_SET_VRING_ENABLE, index, 1);
    queue->told = true;
    queue->told_notify = queue->notify;
    /* The ring may have requests already: of before a pause, or whose kick was the last peer's. */
    port->class->signal(port, port->class->kick_handle(port, index));
    if (queue->resumed)
        notify_driver(frontend, index);
    queue->resumed = false;
}

static void sync_notify(struct vhost_user_frontend *frontend, unsigned index)
{
    struct vhost_user_frontend_queue *queue = &frontend->queues[index];
    if (queue->notify == queue->told_notify || queue->stopping)
        return;
    queue->told_notify = queue->notify;
    send_line(frontend, VHOST_USER_SET_VRING_CALL, index, notify_handle(frontend, index));
    /* The peer may have signalled the old one meanwhile, which leads nowhere any more. */
    notify_driver(frontend, index);
}

static void sync_queues(struct vhost_user_frontend *frontend)
{
    for (unsigned i = 0; i < frontend->virtio.queue_count && !frontend_is_behind(frontend); i++) {
        if (frontend->queues[i].told)
            sync_notify(frontend, i);
        else if (frontend->queues[i].wanted && !frontend->is_broken)
            start_queue(frontend, i);
    }
}

static void sync_status(struct vhost_user_frontend *frontend)
{
    if (frontend->status == 0 || frontend->status == frontend->told_status ||
        !frontend_negotiated(frontend, VHOST_USER_PROTOCOL_F_STATUS))
        return;
    frontend->told_status = frontend->status;
    frontend_send_u64(frontend, VHOST_USER_SET_STATUS, frontend->status);
}

static bool any_queue(const struct vhost_user_frontend *frontend)
{
    for (unsigned i = 0; i < frontend->virtio.queue_count; i++)
        if (frontend->queues[i].wanted || frontend->queues[i].told)
            return true;
    return false;
}

void frontend_sync(struct vhost_user_frontend *frontend)
{
    if (frontend->phase != VHOST_USER_FRONTEND_PRESENT || frontend->resetting || frontend_is_behind(frontend))
        return;
    frontend_config_sync(frontend);
    /* A peer that lacks what the driver uses is told nothing of it. */
    if (frontend->features_set && (frontend->told_features != 0 || !frontend->is_broken)) {
        sync_log_base(frontend);
        sync_features(frontend);
        if (frontend->told_region_count > 0 || any_queue(frontend))
            sync_memory(frontend);
        if (any_queue(frontend) && sync_record(frontend))
            sync_queues(frontend);
    }
    sync_status(frontend);
}

/* No region empty, wrapping, or over another: 0 or -EINVAL. */
static int check_regions(struct vhost_user_frontend *frontend, const struct vhost_user_frontend_region *regions,
                         unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t end;
        if (regions[i].size == 0 || !range_within(regions[i].guest_base, regions[i].size, FRONTEND_ADDRESS_OFFSET) ||
            add_overflows_u64(regions[i].offset, regions[i].size, &end))
            return frontend_refuse(frontend, -EINVAL, "a region of no bytes, or past the end of all addresses");
        for (unsigned j = 0; j < i; j++) {
            uint64_t a = regions[i].guest_base, b = regions[j].guest_base;
            if (a < b ? b - a < regions[i].size : a - b < regions[j].size)
                return frontend_refuse(frontend, -EINVAL, "a region that overlaps another");
        }
    }
    return 0;
}

int vhost_user_frontend_set_memory(struct vhost_user_frontend *frontend,
                                   const struct vhost_user_frontend_region *regions, unsigned count)
{
    bool present = frontend->phase == VHOST_USER_FRONTEND_PRESENT;
    if (count > VHOST_USER_FRONTEND_REGIONS_MAX || (present && count > frontend->memory_slots))
        return frontend_refuse(frontend, -ENOSPC, "more memory regions than the back end takes");
    int r = check_regions(frontend, regions, count);
    if (r < 0)
        return r;
    for (unsigned i = 0; i < frontend->virtio.queue_count; i++) {
        const struct vhost_user_frontend_queue *queue = &frontend->queues[i];
        if (queue->wanted && frontend_ring_check(frontend, regions, count, &queue->config) < 0)
            return frontend_refuse(frontend, -EBUSY, "a queue that runs does not lie in the regions");
    }
    memcpy(frontend->regions, regions, count * sizeof(regions[0]));
    frontend->region_count = count;
    frontend_sync(frontend);
    return 0;
}

int vhost_user_frontend_set_log(struct vhost_user_frontend *frontend, const struct vhost_user_frontend_log *log)
{
    bool can = frontend_negotiated(frontend, VHOST_USER_PROTOCOL_F_LOG_SHMFD) &&
               (frontend->peer_features & VHOST_F_LOG_ALL) != 0;
    if (log->handle >= 0 && frontend->phase == VHOST_USER_FRONTEND_PRESENT && !can)
        return frontend_refuse(frontend, -EOPNOTSUPP, "the back end cannot log what it writes");
    frontend->log = *log;
    frontend->told_log = false;
    frontend_sync(frontend);
    return 0;
}
