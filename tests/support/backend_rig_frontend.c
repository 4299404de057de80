/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The front end's side of the rig: messages, set-up, drivers. The port and the device are in backend_rig.c. */
#include "backend_rig.h"

#include <stdio.h>
#include <stdlib.h>

uint64_t rig_layout(int argc, char **argv)
{
    static const struct {
        const char *name;
        uint64_t features;
    } layouts[] = {
        {"split", 0},
        {"packed", VIRTIO_F_RING_PACKED},
        {"in-order", VIRTIO_F_RING_PACKED | VIRTIO_F_IN_ORDER},
    };
    for (unsigned i = 0; argc == 2 && i < ARRAY_SIZE(layouts); i++)
        if (strcmp(argv[1], layouts[i].name) == 0)
            return layouts[i].features;
    fprintf(stderr, "usage: %s split|packed|in-order\n", argv[0]);
    exit(2);
}

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
    uint64_t not_taken = (VIRTIO_F_RING_PACKED | VIRTIO_F_IN_ORDER) & ~rig->ring_features;
    not_taken |= RIG_FEATURE_RIVAL | VHOST_F_LOG_ALL;
    rig_negotiate_some(rig, (uint64_t)features & ~not_taken, (uint64_t)protocol_features);
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
    fake_driver_init(&rig->queues[index].driver, &memory, RIG_RING(index), rig->ring_size,
                     VIRTIO_F_EVENT_IDX | rig->ring_features);
}

/* Where the ring lies in this process follows from its addresses. */
static void find_ring(struct fake_driver *driver)
{
    uint8_t *base = driver->memory.host - driver->memory.guest_base;
    void *desc = base + driver->desc_address, *avail = base + driver->avail_address,
         *used = base + driver->used_address;
    if (driver->packed) {
        driver->ring = desc;
        driver->driver_event = avail;
        driver->device_event = used;
    } else {
        driver->desc = desc;
        driver->avail = avail;
        driver->used = used;
    }
}

void rig_move_ring(struct rig *rig, unsigned index, uint64_t move)
{
    struct fake_driver *driver = &rig->queues[index].driver;
    uint8_t *ring = rig->objects[0].bytes + (driver->desc_address - RIG_GUEST_0);
    memcpy(ring + move, ring, (size_t)fake_driver_ring_bytes(driver->size));
    driver->desc_address += move;
    driver->avail_address += move;
    driver->used_address += move;
    find_ring(driver);
}

void rig_inherit(struct rig *to, const struct rig *from)
{
    ASSERT(to->device.queue_count == from->device.queue_count);
    memcpy(to->objects[0].bytes, from->objects[0].bytes, RIG_REGION_BYTES);
    memcpy(to->objects[1].bytes, from->objects[1].bytes, RIG_REGION_BYTES);
    for (unsigned i = 0; i < to->device.queue_count; i++) {
        struct fake_driver *driver = &to->queues[i].driver;
        *driver = from->queues[i].driver;
        driver->memory.host = to->objects[0].bytes;
        find_ring(driver);
    }
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
    return rig_ack_state(rig, VHOST_USER_SET_VRING_NUM, index, rig->queues[index].driver.size);
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
    ASSERT(rig_ack_state(rig, VHOST_USER_SET_VRING_BASE, index, virtqueue_base_initial(rig->ring_features)) == 0);
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

uint32_t rig_base_after(const struct rig *rig, uint32_t descriptors)
{
    if ((rig->ring_features & VIRTIO_F_RING_PACKED) == 0)
        return descriptors & UINT16_MAX;
    uint32_t half = VIRTQ_BASE_PACKED(descriptors % rig->ring_size, descriptors / rig->ring_size % 2 == 0);
    return half << 16 | half;
}

void rig_offer(struct rig *rig, unsigned index, uint64_t address)
{
    const struct fake_piece piece = {.address = address, .length = 16, .writable = true};
    ASSERT(fake_driver_add(&rig->queues[index].driver, &piece, 1) >= 0);
    (void)fake_driver_show(&rig->queues[index].driver);
}

void rig_offer_broken(struct rig *rig, unsigned index)
{
    struct fake_driver *driver = &rig->queues[index].driver;
    if (driver->packed) {
        uint16_t flags = driver->avail_mark | VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT;
        fake_driver_packed_desc(driver, driver->next_avail, RIG_DATA_0, 16, 0, flags);
    } else {
        fake_driver_desc(driver, 0, RIG_DATA_0, 16, VRING_DESC_F_NEXT, 0);
        fake_driver_offer(driver, 0);
        (void)fake_driver_show(driver);
    }
}

void rig_break(struct rig *rig, unsigned index)
{
    rig_offer_broken(rig, index);
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
