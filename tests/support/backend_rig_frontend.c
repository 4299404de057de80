/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The front end's side of the rig: messages, set-up, drivers. The port and the device are in backend_rig.c. */
#include "backend_rig.h"

#include <stdlib.h>

int rig_send_handles(struct rig *rig, uint32_t request, uint32_t flags, const void *payload, uint32_t size,
                     const int *handles, unsigned handle_count)
{
    /* Exactly as large as a reader would make it, so that a sanitizer sees a read past the payload's end. */
    struct vhost_user_message *message = calloc(1, sizeof(*message));
    ASSERT(message != NULL);
    ASSERT(size <= VHOST_USER_PAYLOAD_BYTES_MAX && handle_count <= VHOST_USER_HANDLES_MAX);
    message->header = (struct vhost_user_header){
        .request = request,
        .flags = VHOST_USER_VERSION | flags,
        .size = size,
    };
    if (size > 0)
        memcpy(&message->payload, payload, size);
    /* What lies behind the payload is another message's. */
    memset(message->payload.bytes + size, 0xa5, sizeof(message->payload.bytes) - size);
    message->handle_count = handle_count;
    for (unsigned i = 0; i < handle_count; i++)
        message->handles[i] = handles[i];
    int r = vhost_user_header_check(&message->header);
    ASSERT(r == (int)size);
    r = vhost_user_backend_message(&rig->backend, message);
    for (unsigned i = 0; i < handle_count; i++)
        ASSERT(message->handles[i] == -1);
    free(message);
    return r;
}

int rig_send(struct rig *rig, uint32_t request, uint32_t flags, const void *payload, uint32_t size, int handle)
{
    return rig_send_handles(rig, request, flags, payload, size, &handle, handle == -1 ? 0 : 1);
}

bool rig_take(struct rig *rig, struct rig_reply *ret_reply)
{
    if (rig->reply_count == 0)
        return false;
    *ret_reply = rig->replies[0];
    rig->reply_count--;
    memmove(rig->replies, rig->replies + 1, rig->reply_count * sizeof(*rig->replies));
    return true;
}

int64_t rig_take_u64(struct rig *rig, uint32_t request)
{
    struct rig_reply reply;
    if (!rig_take(rig, &reply))
        return RIG_NO_ANSWER;
    ASSERT(reply.message.header.request == request);
    ASSERT(reply.message.header.size == sizeof(uint64_t) && reply.object == -1);
    return (int64_t)reply.message.payload.u64;
}

int64_t rig_ack(struct rig *rig, uint32_t request, const void *payload, uint32_t size, int handle)
{
    ASSERT(rig->reply_count == 0);
    if (rig_send(rig, request, VHOST_USER_FLAG_NEED_REPLY, payload, size, handle) < 0)
        return RIG_HUNG_UP;
    ASSERT(rig->reply_count <= 1);
    return rig_take_u64(rig, request);
}

int64_t rig_ack_u64(struct rig *rig, uint32_t request, uint64_t value, int handle)
{
    return rig_ack(rig, request, &value, sizeof(value), handle);
}

int64_t rig_ack_state(struct rig *rig, uint32_t request, uint32_t index, uint32_t num)
{
    const struct vhost_user_vring_state state = {.index = index, .num = num};
    return rig_ack(rig, request, &state, sizeof(state), -1);
}

int64_t rig_ack_region(struct rig *rig, uint32_t request, const struct vhost_user_region *region, int handle)
{
    const struct vhost_user_single_region single = {.region = *region};
    return rig_ack(rig, request, &single, sizeof(single), handle);
}

int64_t rig_get(struct rig *rig, uint32_t request)
{
    return rig_ack(rig, request, NULL, 0, -1);
}

/* Set-up */

void rig_negotiate_some(struct rig *rig, uint64_t features, uint64_t protocol_features)
{
    ASSERT(rig_send(rig, VHOST_USER_SET_OWNER, 0, NULL, 0, -1) == 0);
    ASSERT(rig_send(rig, VHOST_USER_SET_PROTOCOL_FEATURES, 0, &protocol_features, 8, -1) == 0);
    ASSERT(rig_send(rig, VHOST_USER_SET_FEATURES, 0, &features, 8, -1) == 0);
    ASSERT(rig->backend.features == features);
    ASSERT(rig->backend.protocol_features == protocol_features);
}

void rig_negotiate(struct rig *rig)
{
    int64_t features = rig_get(rig, VHOST_USER_GET_FEATURES);
    int64_t protocol_features = rig_get(rig, VHOST_USER_GET_PROTOCOL_FEATURES);
    ASSERT(features > 0 && protocol_features > 0);
    rig_negotiate_some(rig, (uint64_t)features & ~(RIG_FEATURE_RIVAL | VHOST_F_LOG_ALL), (uint64_t)protocol_features);
}

struct vhost_user_region rig_region(unsigned object)
{
    return (struct vhost_user_region){
        .guest_base = object == 0 ? RIG_GUEST_0 : RIG_GUEST_1,
        .size = RIG_REGION_BYTES,
        .frontend_base = object == 0 ? RIG_FRONTEND_0 : RIG_FRONTEND_1,
    };
}

void rig_table(struct vhost_user_memory_table *ret_table)
{
    *ret_table = (struct vhost_user_memory_table){.region_count = 2};
    ret_table->regions[0] = rig_region(0);
    ret_table->regions[1] = rig_region(1);
}

/* Region n comes from object n; those past the second from object 1. */
int64_t rig_set_table(struct rig *rig, const struct vhost_user_memory_table *table)
{
    int handles[VHOST_USER_HANDLES_MAX];
    uint32_t size = 8 + table->region_count * (uint32_t)sizeof(struct vhost_user_region);
    for (uint32_t i = 0; i < table->region_count; i++)
        handles[i] = rig_handle(rig, i == 0 ? 0 : 1);
    if (rig_send_handles(rig, VHOST_USER_SET_MEM_TABLE, VHOST_USER_FLAG_NEED_REPLY, table, size, handles,
                         table->region_count) < 0)
        return RIG_HUNG_UP;
    return rig_take_u64(rig, VHOST_USER_SET_MEM_TABLE);
}

int64_t rig_share(struct rig *rig)
{
    struct vhost_user_memory_table table;
    rig_table(&table);
    return rig_set_table(rig, &table);
}

void rig_lay_ring(struct rig *rig, unsigned index)
{
    const struct fake_memory memory = {
        .guest_base = RIG_GUEST_0,
        .size = RIG_REGION_BYTES,
        .host = rig->objects[0].bytes,
    };
    fake_driver_init(&rig->queues[index].driver, &memory, RIG_RING(index), RIG_RING_SIZE, VIRTIO_F_EVENT_IDX);
}

struct vhost_user_vring_address rig_ring_address(const struct rig *rig, unsigned index)
{
    const struct fake_driver *driver = &rig->queues[index].driver;
    return (struct vhost_user_vring_address){
        .index = index,
        .desc = driver->desc_address - RIG_GUEST_0 + RIG_FRONTEND_0,
        .used = driver->used_address - RIG_GUEST_0 + RIG_FRONTEND_0,
        .avail = driver->avail_address - RIG_GUEST_0 + RIG_FRONTEND_0,
        .log = driver->used_address,
    };
}

int64_t rig_ring_num(struct rig *rig, unsigned index)
{
    return rig_ack_state(rig, VHOST_USER_SET_VRING_NUM, index, RIG_RING_SIZE);
}

int64_t rig_ring_set_address(struct rig *rig, unsigned index)
{
    const struct vhost_user_vring_address address = rig_ring_address(rig, index);
    return rig_ack(rig, VHOST_USER_SET_VRING_ADDR, &address, sizeof(address), -1);
}

int64_t rig_ring_kick_line(struct rig *rig, unsigned index)
{
    return rig_ack_u64(rig, VHOST_USER_SET_VRING_KICK, index, rig_line(rig));
}

int64_t rig_ring_call_line(struct rig *rig, unsigned index)
{
    return rig_ack_u64(rig, VHOST_USER_SET_VRING_CALL, index, rig_line(rig));
}

int64_t rig_ring_enable(struct rig *rig, unsigned index, bool on)
{
    return rig_ack_state(rig, VHOST_USER_SET_VRING_ENABLE, index, on ? 1 : 0);
}

void rig_start_ring(struct rig *rig, unsigned index)
{
    /* vhost_virtqueue_init, then vhost_dev_start */
    ASSERT(rig_ring_call_line(rig, index) == 0);
    ASSERT(rig_ack_u64(rig, VHOST_USER_SET_VRING_ERR, index, rig_line(rig)) == 0);
    ASSERT(rig_ring_num(rig, index) == 0);
    ASSERT(rig_ack_state(rig, VHOST_USER_SET_VRING_BASE, index, 0) == 0);
    ASSERT(rig_ring_set_address(rig, index) == 0);
    ASSERT(rig_ring_kick_line(rig, index) == 0);
    ASSERT(rig_ring_enable(rig, index, true) == 0);
    rig_run(rig);
}

void rig_start(struct rig *rig)
{
    rig_negotiate(rig);
    ASSERT(rig_share(rig) == 0);
    for (unsigned i = 0; i < rig->device.queue_count; i++)
        rig_start_ring(rig, i);
}

int64_t rig_get_base(struct rig *rig, unsigned index)
{
    const struct vhost_user_vring_state state = {.index = index};
    struct rig_reply reply;
    if (rig_send(rig, VHOST_USER_GET_VRING_BASE, 0, &state, sizeof(state), -1) < 0)
        return RIG_HUNG_UP;
    if (!rig_take(rig, &reply))
        return RIG_NO_ANSWER;
    ASSERT(reply.message.header.request == VHOST_USER_GET_VRING_BASE);
    ASSERT(reply.message.header.size == sizeof(state) && reply.message.payload.state.index == index);
    return reply.message.payload.state.num;
}

void rig_offer(struct rig *rig, unsigned index, uint64_t address)
{
    const struct fake_piece piece = {.address = address, .length = 16, .writable = true};
    ASSERT(fake_driver_add(&rig->queues[index].driver, &piece, 1) >= 0);
    (void)fake_driver_show(&rig->queues[index].driver);
}

void rig_break(struct rig *rig, unsigned index)
{
    struct fake_driver *driver = &rig->queues[index].driver;
    fake_driver_desc(driver, 0, RIG_DATA_0, 16, VRING_DESC_F_NEXT, 0);
    fake_driver_offer(driver, 0);
    (void)fake_driver_show(driver);
    rig_kick(rig, index);
}

unsigned rig_used(struct rig *rig, unsigned index)
{
    unsigned count = 0;
    uint32_t head, length;
    while (fake_driver_get(&rig->queues[index].driver, &head, &length))
        count++;
    return count;
}

bool rig_running(const struct rig *rig, unsigned index)
{
    bool running = rig->backend.queues[index].running;
    ASSERT(running == (rig->virtqueues[index].state != VIRTQUEUE_STOPPED));
    return running;
}
