/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The front end's state machine against a back end without manners, under a driver without rest. The input is a list of
 * steps: answers that are due, true, off by a little, or of any bytes; requests of the back end; connections that come
 * and go; a driver that chooses, starts, stops and resets; memory and logs that are exchanged.
 *
 * Held against it: whatever the driver began ends, at the latest with the connection; a queue that has stopped is one
 * that the peer was told to stop; nothing is leaked, closed twice or unmapped twice (the rig counts); and an honest
 * back end that comes last has a device that works, or one that was broken and says so.
 */
#include <errno.h>

#include "frontend_rig.h"
#include "fuzz_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS_MAX 200 /* keeps one input to some milliseconds */

struct world {
    struct frig *rig;
    struct fuzz_input input;
    bool resetting;
    unsigned resets;
};

static struct virtio_backend *device(struct world *world)
{
    return &world->rig->frontend.virtio;
}

static void check(struct world *world)
{
    struct frig *rig = world->rig;
    const struct vhost_user_frontend *frontend = &rig->frontend;
    ASSERT(frontend->due_count <= VHOST_USER_FRONTEND_DUE_MAX);
    for (unsigned i = 0; i < FRIG_QUEUES; i++) {
        const struct vhost_user_frontend_queue *queue = &frontend->queues[i];
        ASSERT(!queue->stopping || (queue->told && !queue->wanted));
        ASSERT(!queue->told || frontend->phase == VHOST_USER_FRONTEND_PRESENT);
        ASSERT(!queue->told || queue->wanted || queue->stopping);
    }
    ASSERT(frontend->phase != VHOST_USER_FRONTEND_AWAY || (frontend->due_count == 0 && !frontend->resetting));
    ASSERT(rig->mappings == (frontend->record_handle >= 0 ? 1 : 0));
    ASSERT(rig->broken == rig->broken_told);
    if (world->resetting && rig->resets > world->resets)
        world->resetting = false;
    ASSERT(world->resetting == frontend->resetting);
}

/* Any bytes as the answer to what is due, or to something else. */
static void reply_raw(struct world *world)
{
    struct frig *rig = world->rig;
    const struct vhost_user_frontend *frontend = &rig->frontend;
    union vhost_user_payload payload;
    uint32_t request = fuzz_u8(&world->input);
    uint32_t bytes = fuzz_u16(&world->input) % (VHOST_USER_PAYLOAD_BYTES_MAX + 1);
    if (request >= 64 && frontend->due_count > 0)
        request = frontend->due[frontend->due_first].request;
    if (frontend->phase == VHOST_USER_FRONTEND_AWAY)
        return;
    memset(&payload, 0, sizeof(payload));
    fuzz_bytes(&world->input, &payload, size_min(bytes, 64));
    frig_reply(rig, request, &payload, bytes, fuzz_u8(&world->input) % 3);
}

/* A true answer of a back end whose numbers have changed. */
static void reply_off(struct world *world)
{
    struct frig *rig = world->rig;
    uint8_t which = fuzz_u8(&world->input);
    switch (which % 8) {
    case 0:
        rig->features ^= UINT64_C(1) << fuzz_u8(&world->input) % 64;
        break;
    case 1:
        rig->protocol_features ^= UINT64_C(1) << fuzz_u8(&world->input) % 20;
        break;
    case 2:
        rig->queue_count = fuzz_u8(&world->input) % 6;
        break;
    case 3:
        rig->slots = fuzz_u8(&world->input) % 4;
        break;
    case 4:
        rig->bases[which / 8 % FRIG_QUEUES] = fuzz_u32(&world->input);
        break;
    case 5:
        rig->refuse = fuzz_u8(&world->input) % 48;
        break;
    case 6:
        rig->no_record = !rig->no_record;
        break;
    default:
        rig->config[which / 8 % FRIG_CONFIG_BYTES]++;
        break;
    }
    (void)frig_serve_one(rig);
}

static void request(struct world *world)
{
    struct vhost_user_message message = {
        .header = {.request = fuzz_u8(&world->input) % 12,
                   .flags = VHOST_USER_VERSION | (fuzz_u8(&world->input) & VHOST_USER_FLAG_NEED_REPLY)}};
    vhost_user_frontend_request(&world->rig->frontend, &message);
}

static void start_or_stop(struct world *world)
{
    struct virtio_backend *virtio = device(world);
    struct vhost_user_frontend *frontend = &world->rig->frontend;
    unsigned index = fuzz_u8(&world->input) % FRIG_QUEUES;
    if (index >= virtio->queue_count || !frontend->features_set || frontend->resetting)
        return;
    struct vhost_user_frontend_queue *queue = &frontend->queues[index];
    if (queue->wanted || queue->stopping) {
        int r = virtio->class->queue_stop(virtio, index);
        ASSERT(r == 0 || r == -EINPROGRESS);
        ASSERT((r == -EINPROGRESS) == queue->stopping);
        return;
    }
    struct virtqueue_config config = frig_ring(world->rig, index);
    config.base = virtio->class->queue_base(virtio, index);
    int r = virtio->class->queue_start(virtio, index, &config, (int)(fuzz_u8(&world->input) % 4) - 1);
    ASSERT(r == 0 || r == -EFAULT);
}

static void reset(struct world *world)
{
    struct vhost_user_frontend *frontend = &world->rig->frontend;
    if (frontend->resetting)
        return;
    for (unsigned i = 0; i < FRIG_QUEUES; i++)
        if (frontend->queues[i].wanted || frontend->queues[i].stopping)
            return;
    world->resets = world->rig->resets;
    int r = device(world)->class->reset(device(world));
    ASSERT(r == 0 || r == -EINPROGRESS);
    world->resetting = r == -EINPROGRESS;
}

static void choose(struct world *world)
{
    struct vhost_user_frontend *frontend = &world->rig->frontend;
    if (frontend->resetting)
        return;
    for (unsigned i = 0; i < FRIG_QUEUES; i++)
        if (frontend->queues[i].wanted || frontend->queues[i].stopping)
            return;
    uint64_t all = device(world)->class->features(device(world));
    uint64_t some = fuzz_u8(&world->input) % 2 != 0 ? all : all & ~VIRTIO_F_RING_PACKED;
    ASSERT(device(world)->class->set_features(device(world), some) == 0);
}

static void owner(struct world *world)
{
    struct vhost_user_frontend *frontend = &world->rig->frontend;
    struct vhost_user_frontend_region regions[3] = {
        world->rig->region, {.guest_base = 0x1000, .size = 0x1000, .handle = 7}, {.size = 0x1000, .handle = 8}};
    const struct vhost_user_frontend_log log = {.handle = fuzz_u8(&world->input) % 2 - 1, .bytes = 4096};
    if (fuzz_u8(&world->input) % 2 == 0)
        (void)vhost_user_frontend_set_memory(frontend, regions, fuzz_u8(&world->input) % 4);
    else
        (void)vhost_user_frontend_set_log(frontend, &log);
}

static void configuration(struct world *world)
{
    uint8_t bytes[24];
    uint32_t offset = fuzz_u8(&world->input) % 24, size = fuzz_u8(&world->input) % 24;
    fuzz_bytes(&world->input, bytes, 4);
    (void)device(world)->class->config_write(device(world), offset, bytes, u32_min(size, 4));
    device(world)->class->config_read(device(world), offset, bytes, size);
}

static void step(struct world *world)
{
    struct frig *rig = world->rig;
    switch (fuzz_u8(&world->input) % 14) {
    case 0:
        if (rig->frontend.phase == VHOST_USER_FRONTEND_AWAY)
            vhost_user_frontend_connected(&rig->frontend);
        break;
    case 1:
        vhost_user_frontend_lost(&rig->frontend, "fuzzed");
        break;
    case 2:
        reply_raw(world);
        break;
    case 3:
        reply_off(world);
        break;
    case 4:
        request(world);
        break;
    case 5:
        start_or_stop(world);
        break;
    case 6:
        reset(world);
        break;
    case 7:
        choose(world);
        break;
    case 8:
        owner(world);
        break;
    case 9:
        configuration(world);
        break;
    case 10:
        device(world)->class->status_changed(device(world), (uint8_t)(fuzz_u8(&world->input) | 1));
        break;
    case 11:
        fuzz_bytes(&world->input, rig->record, 64);
        put_le16(rig->memory + (FRIG_RING(0) + 0x802 - FRIG_GUEST_BASE), fuzz_u16(&world->input));
        break;
    case 12:
        vhost_user_frontend_failed(&rig->frontend);
        break;
    default:
        for (unsigned left = fuzz_u8(&world->input) % 32; left > 0 && frig_serve_one(rig); left--)
            continue;
        break;
    }
}

/* Everything ends, and an honest back end has a device that works. */
static void last_of_all(struct world *world)
{
    struct frig *rig = world->rig;
    vhost_user_frontend_lost(&rig->frontend, "fuzzed");
    for (unsigned i = 0; i < FRIG_QUEUES; i++) {
        ASSERT(!rig->frontend.queues[i].stopping);
        if (rig->frontend.queues[i].wanted)
            ASSERT(device(world)->class->queue_stop(device(world), i) == 0);
    }
    ASSERT(device(world)->class->reset(device(world)) == 0);
    const struct vhost_user_frontend_log none = {.handle = -1};
    ASSERT(vhost_user_frontend_set_log(&rig->frontend, &none) == 0);
    rig->features = VIRTIO_F_VERSION_1 | VHOST_USER_F_PROTOCOL_FEATURES;
    rig->protocol_features = FRIG_ALL_PROTOCOL_FEATURES;
    rig->queue_count = FRIG_QUEUES;
    rig->slots = 32;
    rig->refuse = 0;
    ASSERT(vhost_user_frontend_set_memory(&rig->frontend, &rig->region, 1) == 0);
    frig_connect(rig);
    ASSERT(rig->frontend.phase == VHOST_USER_FRONTEND_PRESENT);
    frig_choose(rig, VIRTIO_F_VERSION_1);
    ASSERT(frig_start(rig, 0, 0) == 0);
    frig_serve(rig);
    ASSERT(rig->frontend.queues[0].told && !rig->frontend.is_broken);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world world = {.rig = frig_open_usual(), .input = {.bytes = data, .left = size}};
    for (unsigned i = 0; i < STEPS_MAX && world.input.left > 0; i++) {
        step(&world);
        check(&world);
    }
    last_of_all(&world);
    frig_close(world.rig);
    return 0;
}
