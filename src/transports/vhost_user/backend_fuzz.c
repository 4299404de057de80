/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The back end's state machine against a front end without manners. The input is a list of steps: messages, raw ones of
 * any size with any descriptors and plausible ones with numbers off by a little; requests that are offered, kicked and
 * completed in between; guest memory, the log and the in-flight record written over; mappings that fail; front ends
 * that go, at any moment. What rings the front end lays, split, packed or packed in order, is a step, too.
 *
 * Held against it, after each step: every open handle and every mapping is one that the back end can name; it is busy
 * exactly while a ring is stopping; its idea of which rings run is the device's; a message is answered at most once.
 * The rig sees to the rest: nothing that a queue or request uses is unmapped, nothing is closed or unmapped twice.
 */
#include "backend_rig.h"
#include "fuzz_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define QUEUES 3
#define STEPS_MAX 200   /* keeps one input to some milliseconds */
#define OBJECTS_MAX 100 /* of the rig's; each record asked for is one more */
#define LOG_BYTES 0x10000
#define OBJECT_LINE 2
#define OBJECT_LOG 3
#define OBJECT_INFLIGHT 4
#define INFLIGHT_BYTES 0x10000

static unsigned lines_held(const struct rig *rig)
{
    unsigned count = 0;
    for (unsigned i = 0; i < QUEUES; i++)
        for (unsigned line = 0; line < 3; line++)
            count += rig->queues[i].lines[line] >= 0 ? 1 : 0;
    count += rig->backend.log_line >= 0 ? 1 : 0;
    count += rig->backend.backend_channel >= 0 ? 1 : 0;
    return count;
}

static unsigned mappings_held(const struct rig *rig)
{
    const struct vhost_user_backend *backend = &rig->backend;
    unsigned count = backend->maps[backend->current_map].region_count;
    bool pending = backend->wait == VHOST_USER_WAIT_MEMORY;
    ASSERT(pending || backend->maps[1 - backend->current_map].region_count == 0);
    count += backend->maps[1 - backend->current_map].region_count;
    count += backend->log_mappings[backend->current_log].base != NULL ? 1 : 0;
    ASSERT(backend->log_mappings[1 - backend->current_log].base == NULL);
    count += backend->inflight_mapping.base != NULL ? 1 : 0;
    return count;
}

static void check(const struct rig *rig)
{
    bool stopping = false;
    for (unsigned i = 0; i < QUEUES; i++) {
        const struct vhost_user_queue *ring = &rig->backend.queues[i];
        enum virtqueue_state state = rig->virtqueues[i].state;
        ASSERT(ring->running == (state != VIRTQUEUE_STOPPED));
        ASSERT(ring->stopping == (state == VIRTQUEUE_STOPPING));
        stopping = stopping || ring->stopping;
    }
    ASSERT(vhost_user_backend_busy(&rig->backend) == stopping);
    ASSERT(rig_handles(rig) == lines_held(rig));
    ASSERT(rig_mappings(rig) == mappings_held(rig));
}

static void drop_answers(struct rig *rig)
{
    rig->reply_count = 0;
}

/* As a server does: what cannot be followed is hung up on. What would follow in the same step is then lost. */
static void send(struct rig *rig, struct fuzz_input *input, uint32_t request, const void *payload, uint32_t size,
                 int handle)
{
    uint32_t flags = (fuzz_u8(input) & 1) != 0 ? VHOST_USER_FLAG_NEED_REPLY : 0;
    if (vhost_user_backend_busy(&rig->backend)) {
        if (handle >= 0)
            rig->port.class->close(&rig->port, handle);
        return;
    }
    if (rig_send(rig, request, flags, payload, size, handle) < 0)
        rig_disconnect(rig);
    ASSERT(rig->reply_count <= 1);
    drop_answers(rig);
}

static int any_handle(struct rig *rig, struct fuzz_input *input)
{
    return rig_handle(rig, fuzz_u8(input) % rig->object_count);
}

static void raw(struct rig *rig, struct fuzz_input *input, unsigned index)
{
    (void)index;
    union vhost_user_payload payload;
    int handles[VHOST_USER_HANDLES_MAX];
    uint32_t request = fuzz_u8(input) % 50;
    uint32_t flags = (fuzz_u8(input) & 1) != 0 ? VHOST_USER_FLAG_NEED_REPLY : 0;
    uint32_t size = fuzz_u16(input) % (VHOST_USER_PAYLOAD_BYTES_MAX + 1);
    unsigned handle_count = fuzz_u8(input) % (VHOST_USER_HANDLES_MAX + 1);
    for (unsigned i = 0; i < handle_count; i++)
        handles[i] = any_handle(rig, input);
    fuzz_bytes(input, &payload, size);
    if (rig_send_handles(rig, request, flags, &payload, size, handles, handle_count) < 0)
        rig_disconnect(rig);
    ASSERT(rig->reply_count <= 1);
    drop_answers(rig);
}

/* Numbers that are good but for what the input adds. */
static uint64_t off_by(struct fuzz_input *input, uint64_t good)
{
    uint8_t choice = fuzz_u8(input);
    if (choice < 200)
        return good;
    return choice < 220 ? fuzz_u64(input) : good + (uint64_t)(int64_t)(int8_t)fuzz_u8(input);
}

static struct vhost_user_region some_region(struct fuzz_input *input)
{
    /* Whole objects, or pages of one at places side by side. */
    uint8_t choice = fuzz_u8(input);
    struct vhost_user_region region = rig_region(choice & 1);
    if ((choice & 2) != 0) {
        uint64_t part = region.size / 4 * ((choice >> 2) & 3);
        region.guest_base += part;
        region.frontend_base += part;
        region.mmap_offset = part;
        region.size /= 4;
    }
    region.guest_base = off_by(input, region.guest_base);
    region.size = off_by(input, region.size);
    region.frontend_base = off_by(input, region.frontend_base);
    region.mmap_offset = off_by(input, region.mmap_offset);
    return region;
}

static void table(struct rig *rig, struct fuzz_input *input, unsigned index)
{
    (void)index;
    struct vhost_user_memory_table sent = {.region_count = fuzz_u8(input) % 4};
    int handles[VHOST_USER_HANDLES_MAX];
    for (uint32_t i = 0; i < sent.region_count; i++) {
        sent.regions[i] = i == 0 && (fuzz_u8(input) & 3) != 0 ? rig_region(0) : some_region(input);
        handles[i] = rig_handle(rig, sent.regions[i].guest_base >= RIG_GUEST_1 ? 1 : 0);
    }
    uint32_t flags = (fuzz_u8(input) & 1) != 0 ? VHOST_USER_FLAG_NEED_REPLY : 0;
    uint32_t size = 8 + sent.region_count * (uint32_t)sizeof(struct vhost_user_region);
    if (rig_send_handles(rig, VHOST_USER_SET_MEM_TABLE, flags, &sent, size, handles, sent.region_count) < 0)
        rig_disconnect(rig);
    drop_answers(rig);
}

static void one_region(struct rig *rig, struct fuzz_input *input, bool add)
{
    struct vhost_user_single_region single = {.region = some_region(input)};
    int handle = rig_handle(rig, single.region.guest_base >= RIG_GUEST_1 ? 1 : 0);
    send(rig, input, add ? VHOST_USER_ADD_MEM_REG : VHOST_USER_REM_MEM_REG, &single, sizeof(single), handle);
}

static void log_message(struct rig *rig, struct fuzz_input *input, unsigned index)
{
    (void)index;
    struct vhost_user_log log = {.size = off_by(input, LOG_BYTES), .offset = off_by(input, 0)};
    if ((fuzz_u8(input) & 7) == 0)
        send(rig, input, VHOST_USER_SET_LOG_FD, NULL, 0, rig_line(rig));
    else
        send(rig, input, VHOST_USER_SET_LOG_BASE, &log, sizeof(log), rig_handle(rig, OBJECT_LOG));
}

static void ring_state(struct rig *rig, struct fuzz_input *input, unsigned index)
{
    static const uint32_t requests[] = {VHOST_USER_SET_VRING_NUM, VHOST_USER_SET_VRING_BASE,
                                        VHOST_USER_SET_VRING_ENABLE};
    unsigned which = fuzz_u8(input) % ARRAY_SIZE(requests);
    const struct fake_driver *driver = &rig->queues[index].driver;
    uint32_t base = driver->packed ? VIRTQ_BASE_PACKED(driver->next_used, driver->used_mark != 0) : driver->next_used;
    const uint32_t good[] = {RIG_RING_SIZE, base, fuzz_u8(input) & 1u};
    const struct vhost_user_vring_state state = {
        .index = index,
        .num = (uint32_t)off_by(input, good[which]),
    };
    send(rig, input, requests[which], &state, sizeof(state), -1);
}

static void ring_address(struct rig *rig, struct fuzz_input *input, unsigned index)
{
    struct vhost_user_vring_address address = rig_ring_address(rig, index);
    address.flags = fuzz_u8(input) & 1;
    address.desc = off_by(input, address.desc);
    address.used = off_by(input, address.used);
    address.avail = off_by(input, address.avail);
    address.log = off_by(input, address.log);
    send(rig, input, VHOST_USER_SET_VRING_ADDR, &address, sizeof(address), -1);
}

static void ring_line(struct rig *rig, struct fuzz_input *input, unsigned index)
{
    uint8_t choice = fuzz_u8(input);
    uint64_t value = index | ((choice & 4) != 0 ? VHOST_USER_VRING_NO_FD : 0);
    send(rig, input, VHOST_USER_SET_VRING_KICK + (choice & 3u) % 3, &value, sizeof(value),
         (choice & 4) != 0 ? -1 : rig_line(rig));
}

/* All of a ring at once, so that inputs soon have running ones; each message may be refused or end the connection. */
static void start_ring(struct rig *rig, struct fuzz_input *input, unsigned index)
{
    const uint64_t value = index;
    const struct vhost_user_vring_state state = {.index = index, .num = RIG_RING_SIZE};
    const struct vhost_user_vring_state base = {.index = index, .num = virtqueue_base_initial(rig->ring_features)};
    const struct vhost_user_vring_state enable = {.index = index, .num = 1};
    const struct vhost_user_vring_address address = rig_ring_address(rig, index);
    if (!rig->backend.queues[index].running)
        rig_lay_ring(rig, index);
    send(rig, input, VHOST_USER_SET_VRING_NUM, &state, sizeof(state), -1);
    send(rig, input, VHOST_USER_SET_VRING_BASE, &base, sizeof(base), -1);
    send(rig, input, VHOST_USER_SET_VRING_ADDR, &address, sizeof(address), -1);
    send(rig, input, VHOST_USER_SET_VRING_CALL, &value, sizeof(value), rig_line(rig));
    send(rig, input, VHOST_USER_SET_VRING_KICK, &value, sizeof(value), rig_line(rig));
    send(rig, input, VHOST_USER_SET_VRING_ENABLE, &enable, sizeof(enable), -1);
}

static void inflight(struct rig *rig, struct fuzz_input *input, unsigned index)
{
    (void)index;
    struct vhost_user_inflight area = {
        .mmap_size = off_by(input, INFLIGHT_BYTES),
        .mmap_offset = off_by(input, 0),
        .queue_count = (uint16_t)off_by(input, QUEUES),
        .queue_size = (uint16_t)off_by(input, RIG_RING_SIZE),
    };
    if ((fuzz_u8(input) & 3) != 0)
        send(rig, input, VHOST_USER_SET_INFLIGHT_FD, &area, sizeof(area), rig_handle(rig, OBJECT_INFLIGHT));
    else if (rig->object_count < OBJECTS_MAX)
        send(rig, input, VHOST_USER_GET_INFLIGHT_FD, &area, VHOST_USER_INFLIGHT_BYTES, -1);
}

static void configuration(struct rig *rig, struct fuzz_input *input, unsigned index)
{
    (void)index;
    struct vhost_user_config config = {
        .offset = (uint32_t)off_by(input, RIG_CONFIG_WRITABLE),
        .size = fuzz_u8(input),
        .flags = fuzz_u8(input) & 3,
    };
    fuzz_bytes(input, config.bytes, config.size);
    uint32_t request = (fuzz_u8(input) & 1) != 0 ? VHOST_USER_GET_CONFIG : VHOST_USER_SET_CONFIG;
    send(rig, input, request, &config, 12 + config.size, -1);
    if ((fuzz_u8(input) & 7) == 0)
        send(rig, input, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, rig_line(rig));
    (void)vhost_user_backend_config_changed(&rig->backend);
}

static void status(struct rig *rig, struct fuzz_input *input, unsigned index)
{
    (void)index;
    uint64_t value = fuzz_u8(input) & 0x1f;
    switch (fuzz_u8(input) & 7) {
    case 0:
        send(rig, input, VHOST_USER_RESET_DEVICE, NULL, 0, -1);
        break;
    case 1:
        send(rig, input, VHOST_USER_RESET_OWNER, NULL, 0, -1);
        break;
    case 2:
        send(rig, input, VHOST_USER_GET_STATUS, NULL, 0, -1);
        break;
    default:
        send(rig, input, VHOST_USER_SET_STATUS, &value, sizeof(value), -1);
        break;
    }
}

static void negotiate(struct rig *rig, struct fuzz_input *input, unsigned index)
{
    (void)index;
    uint64_t protocol_features = rig->backend.protocol_features_max;
    const uint64_t choices = VIRTIO_F_RING_PACKED | VIRTIO_F_IN_ORDER;
    uint64_t features = virtio_device_features(&rig->device) & ~(RIG_FEATURE_RIVAL | (choices & ~rig->ring_features));
    features |= VHOST_USER_F_PROTOCOL_FEATURES;
    protocol_features &= off_by(input, UINT64_MAX);
    send(rig, input, VHOST_USER_SET_PROTOCOL_FEATURES, &protocol_features, 8, -1);
    send(rig, input, VHOST_USER_SET_FEATURES, &features, 8, -1);
}

static void features(struct rig *rig, struct fuzz_input *input, unsigned index)
{
    (void)index;
    uint8_t choice = fuzz_u8(input);
    uint64_t sent = rig->device.features;
    sent |= (choice & 1) != 0 ? VHOST_F_LOG_ALL : 0;
    sent |= (choice & 6) != 0 ? VHOST_USER_F_PROTOCOL_FEATURES : 0;
    sent = off_by(input, sent);
    send(rig, input, VHOST_USER_SET_FEATURES, &sent, sizeof(sent), -1);
}

static void offer(struct rig *rig, struct fuzz_input *input, unsigned index)
{
    struct fake_driver *driver = &rig->queues[index].driver;
    struct fake_piece pieces[4];
    unsigned count = 1 + fuzz_u8(input) % ARRAY_SIZE(pieces);
    for (unsigned i = 0; i < count; i++) {
        uint64_t base = (fuzz_u8(input) & 1) != 0 ? RIG_DATA_0 : RIG_DATA_1;
        pieces[i] = (struct fake_piece){
            .address = off_by(input, base + fuzz_u16(input)),
            .length = fuzz_u16(input) & 0xfff,
            .writable = i + 1 == count,
        };
    }
    if ((fuzz_u8(input) & 15) == 0) {
        uint32_t place = fuzz_u8(input) % RIG_RING_SIZE;
        uint64_t address = fuzz_u64(input);
        uint32_t length = fuzz_u32(input);
        uint16_t first = fuzz_u16(input), second = fuzz_u16(input);
        if (driver->packed) {
            fake_driver_packed_desc(driver, place, address, length, second, first);
        } else {
            fake_driver_desc(driver, place, address, length, first, second);
            fake_driver_offer(driver, fuzz_u16(input));
        }
    } else {
        (void)fake_driver_add(driver, pieces, count);
    }
    (void)fake_driver_show(driver);
}

/* The front end writes what it shares, at any time. */
static void write_anywhere(struct rig *rig, struct fuzz_input *input, unsigned index)
{
    (void)index;
    uint8_t choice = fuzz_u8(input);
    uint8_t bytes[8];
    const struct rig_object *object = &rig->objects[(choice & 3) == 3 ? OBJECT_INFLIGHT : 0];
    uint64_t at = (choice & 3) == 3 ? 0 : RIG_RING(choice % QUEUES);
    at += fuzz_u16(input) % 0x400;
    fuzz_bytes(input, bytes, sizeof(bytes));
    memcpy(object->bytes + at, bytes, sizeof(bytes));
}

/* The answer may come now; never more than one. */
static void complete(struct rig *rig, struct fuzz_input *input, unsigned index)
{
    unsigned held = rig->queues[index].held_count;
    if (held == 0)
        return;
    rig_complete(rig, index, 1 + fuzz_u8(input) % held);
    ASSERT(rig->reply_count <= 1);
    drop_answers(rig);
}

static void add_region(struct rig *rig, struct fuzz_input *input, unsigned index)
{
    (void)index;
    one_region(rig, input, true);
}

static void remove_region(struct rig *rig, struct fuzz_input *input, unsigned index)
{
    (void)index;
    one_region(rig, input, false);
}

static void get_base(struct rig *rig, struct fuzz_input *input, unsigned index)
{
    const struct vhost_user_vring_state state = {.index = index};
    send(rig, input, VHOST_USER_GET_VRING_BASE, &state, sizeof(state), -1);
}

static void kick(struct rig *rig, struct fuzz_input *input, unsigned index)
{
    (void)input;
    rig_kick(rig, index);
}

static void run(struct rig *rig, struct fuzz_input *input, unsigned index)
{
    (void)input;
    (void)index;
    rig_run(rig);
}

/* What the host does: mappings that fail, a device that keeps its requests or not. */
static void change_world(struct rig *rig, struct fuzz_input *input, unsigned index)
{
    uint8_t maps = fuzz_u8(input);
    (void)index;
    rig->maps_left = maps < 4 ? maps : -1;
    rig->shared_fails = (fuzz_u8(input) & 7) == 7;
    rig->hold = (fuzz_u8(input) & 1) != 0;
}

/* The next rings are of another layout; those that lie there stay. The features follow when they are negotiated. */
static void change_layout(struct rig *rig, struct fuzz_input *input, unsigned index)
{
    static const uint64_t layouts[] = {0, VIRTIO_F_RING_PACKED, VIRTIO_F_RING_PACKED | VIRTIO_F_IN_ORDER,
                                       VIRTIO_F_IN_ORDER};
    (void)index;
    rig->ring_features = layouts[fuzz_u8(input) % ARRAY_SIZE(layouts)];
}

static void disconnect(struct rig *rig, struct fuzz_input *input, unsigned index)
{
    (void)index;
    if ((fuzz_u8(input) & 1) != 0) /* not too often */
        rig_disconnect(rig);
}

/* The first ones are messages, which no busy back end may be given. The seeds in fuzz/corpus count on the order. */
#define MESSAGE_STEPS 15
static void (*const steps[])(struct rig *rig, struct fuzz_input *input, unsigned index) = {
    raw,          negotiate, features,       table,        add_region, remove_region, log_message,   ring_state,
    ring_address, ring_line, start_ring,     get_base,     inflight,   configuration, status,        offer,
    kick,         complete,  write_anywhere, change_world, disconnect, run,           change_layout,
};

static void take_step(struct rig *rig, struct fuzz_input *input)
{
    unsigned step = fuzz_u8(input) % ARRAY_SIZE(steps);
    unsigned index = fuzz_u8(input) % QUEUES;
    if (step < MESSAGE_STEPS && vhost_user_backend_busy(&rig->backend))
        complete(rig, input, index);
    else
        steps[step](rig, input, index);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.bytes = data, .left = size};
    struct rig *rig = rig_open(QUEUES);
    ASSERT(rig_object(rig, LOG_BYTES) == OBJECT_LOG);
    ASSERT(rig_object(rig, INFLIGHT_BYTES) == OBJECT_INFLIGHT);
    rig->hold = true;
    for (unsigned i = 0; i < STEPS_MAX && input.left > 0; i++) {
        take_step(rig, &input);
        check(rig);
    }
    rig_close(rig);
    return 0;
}
