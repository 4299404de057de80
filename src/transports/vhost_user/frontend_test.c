/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The front end against a back end that is played by hand: what it says, when, and what it thinks of the answers. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "frontend_rig.h"

#define FEATURES (FRIG_FEATURE | VIRTIO_F_VERSION_1)

static int set_up(void **state)
{
    *state = frig_open_usual();
    return 0;
}

static int tear_down(void **state)
{
    frig_close(*state);
    return 0;
}

static struct virtio_backend *device(struct frig *rig)
{
    return &rig->frontend.virtio;
}

static int stop(struct frig *rig, unsigned index)
{
    return device(rig)->class->queue_stop(device(rig), index);
}

static uint32_t base_of(struct frig *rig, unsigned index)
{
    return device(rig)->class->queue_base(device(rig), index);
}

/* Connected, features chosen, the first @queues at work. */
static void run(struct frig *rig, uint64_t features, unsigned queues)
{
    frig_connect(rig);
    frig_choose(rig, features);
    for (unsigned i = 0; i < queues; i++)
        assert_int_equal(frig_start(rig, i, virtqueue_base_initial(features)), 0);
    frig_serve(rig);
    assert_int_equal(rig->broken, 0);
    for (unsigned i = 0; i < queues; i++)
        assert_true(rig->frontend.queues[i].told);
}

static void a_back_end_introduces_itself(void **state)
{
    struct frig *rig = *state;
    frig_connect(rig);
    assert_int_equal(rig->greetings, 1);
    assert_int_equal(rig->hang_ups, 0);
    assert_int_equal(device(rig)->queue_count, FRIG_QUEUES);
    assert_int_equal(device(rig)->class->features(device(rig)),
                     FRIG_FEATURE | VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_RING_PACKED);
    uint8_t config[FRIG_CONFIG_BYTES + 4];
    device(rig)->class->config_read(device(rig), 0, config, sizeof(config));
    assert_memory_equal(config, rig->config, FRIG_CONFIG_BYTES);
    assert_int_equal(config[FRIG_CONFIG_BYTES], 0);
    /* No memory before a queue needs it, and nothing that we do not know. */
    assert_int_equal(rig->sent_total[VHOST_USER_ADD_MEM_REG], 0);
    assert_int_equal(rig->last[VHOST_USER_SET_PROTOCOL_FEATURES].payload.u64,
                     FRIG_ALL_PROTOCOL_FEATURES & ~VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD);
    assert_int_equal(rig->sent_total[VHOST_USER_SET_BACKEND_REQ_FD], 1);
}

static void a_back_end_of_the_legacy_protocol_is_served(void **state)
{
    struct frig *rig = *state;
    rig->features &= ~VHOST_USER_F_PROTOCOL_FEATURES;
    rig->frontend.config_is_ours = true;
    run(rig, FEATURES, 2);
    assert_int_equal(rig->sent_total[VHOST_USER_GET_PROTOCOL_FEATURES], 0);
    assert_int_equal(rig->sent_total[VHOST_USER_SET_VRING_ENABLE], 0);
    assert_int_equal(rig->sent_total[VHOST_USER_SET_MEM_TABLE], 1);
    assert_int_equal(rig->last[VHOST_USER_SET_FEATURES].payload.u64, FEATURES);
    assert_int_equal(stop(rig, 0), -EINPROGRESS);
    frig_serve(rig);
    assert_int_equal(rig->stopped[0], 1);
}

static void packed_rings_are_offered_with_a_record_alone(void **state)
{
    struct frig *rig = *state;
    rig->protocol_features &= ~VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD;
    rig->features |= UINT64_C(1) << 24 | UINT64_C(1) << 27 | VIRTIO_F_ACCESS_PLATFORM | VIRTIO_F_RING_RESET;
    frig_connect(rig);
    assert_int_equal(device(rig)->class->features(device(rig)), FRIG_FEATURE | VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX);
}

static void fewer_queues_than_wanted_are_what_there_is(void **state)
{
    struct frig *rig = *state;
    rig->queue_count = 2;
    frig_connect(rig);
    assert_int_equal(device(rig)->queue_count, 2);
}

static void a_queue_starts_with_all_its_parts(void **state)
{
    struct frig *rig = *state;
    run(rig, FEATURES, 1);
    assert_int_equal(rig->last[VHOST_USER_SET_FEATURES].payload.u64, FEATURES | VHOST_USER_F_PROTOCOL_FEATURES);
    const struct vhost_user_region *region = &rig->last[VHOST_USER_ADD_MEM_REG].payload.region.region;
    assert_int_equal(region->guest_base, FRIG_GUEST_BASE);
    assert_int_equal(region->mmap_offset, 0x2000);
    assert_int_not_equal(region->frontend_base, 0);
    const struct vhost_user_vring_address *address = &rig->last[VHOST_USER_SET_VRING_ADDR].payload.address;
    assert_int_equal(address->desc - region->frontend_base, FRIG_RING(0) - FRIG_GUEST_BASE);
    assert_int_equal(address->used - region->frontend_base, FRIG_RING(0) + 0x800 - FRIG_GUEST_BASE);
    assert_int_equal(address->flags, 0);
    assert_int_equal(rig->last[VHOST_USER_SET_VRING_KICK].handles[0], FRIG_KICK(0));
    assert_int_equal(rig->last[VHOST_USER_SET_VRING_CALL].handles[0], FRIG_CALL(0));
    assert_int_equal(rig->last[VHOST_USER_SET_VRING_ENABLE].payload.state.num, 1);
    assert_int_equal(rig->sent_total[VHOST_USER_GET_INFLIGHT_FD], 1);
    assert_int_equal(rig->sent_total[VHOST_USER_SET_INFLIGHT_FD], 1);
    assert_int_equal(rig->signals[FRIG_KICK(0)], 1);
}

static void a_ring_outside_of_the_regions_is_refused(void **state)
{
    struct frig *rig = *state;
    frig_connect(rig);
    frig_choose(rig, FEATURES);
    struct virtqueue_config config = frig_ring(rig, 0);
    config.used_address = FRIG_GUEST_BASE + FRIG_MEMORY_BYTES - 4;
    assert_int_equal(device(rig)->class->queue_start(device(rig), 0, &config, -1), -EFAULT);
    assert_non_null(rig->frontend.refused_reason);
    config = frig_ring(rig, 0);
    config.desc_address = FRIG_GUEST_BASE - 0x1000;
    assert_int_equal(device(rig)->class->queue_start(device(rig), 0, &config, -1), -EFAULT);
    config = frig_ring(rig, 0);
    config.desc_address += 8;
    assert_int_equal(device(rig)->class->queue_start(device(rig), 0, &config, -1), -EINVAL);
    config = frig_ring(rig, 0);
    config.size = 128; /* more than the most */
    assert_int_equal(device(rig)->class->queue_start(device(rig), 0, &config, -1), -EINVAL);
    frig_serve(rig);
    assert_int_equal(rig->sent_total[VHOST_USER_SET_VRING_NUM], 0);
}

static void a_stop_ends_with_the_answer_and_its_base(void **state)
{
    struct frig *rig = *state;
    run(rig, FEATURES, 2);
    rig->bases[1] = 77;
    assert_int_equal(stop(rig, 1), -EINPROGRESS);
    assert_int_equal(rig->stopped[1], 0);
    assert_int_equal(stop(rig, 1), -EINPROGRESS);
    frig_serve(rig);
    assert_int_equal(rig->stopped[1], 1);
    assert_int_equal(base_of(rig, 1), 77);
    assert_int_equal(stop(rig, 1), 0);
    assert_int_equal(frig_start(rig, 1, 77), 0);
    frig_serve(rig);
    assert_int_equal(rig->last[VHOST_USER_SET_VRING_BASE].payload.state.num, 77);
    /* Neither memory nor record is said twice. */
    assert_int_equal(rig->sent_total[VHOST_USER_ADD_MEM_REG], 1);
    assert_int_equal(rig->sent_total[VHOST_USER_SET_INFLIGHT_FD], 1);
}

static void a_reset_ends_with_the_answer(void **state)
{
    struct frig *rig = *state;
    run(rig, FEATURES, 1);
    assert_int_equal(stop(rig, 0), -EINPROGRESS);
    frig_serve(rig);
    assert_int_equal(device(rig)->class->reset(device(rig)), -EINPROGRESS);
    assert_int_equal(rig->resets, 0);
    frig_serve(rig);
    assert_int_equal(rig->resets, 1);
    assert_int_equal(rig->sent_total[VHOST_USER_RESET_DEVICE], 1);
    /* The next driver's rings get a record of their own. */
    frig_choose(rig, FEATURES);
    assert_int_equal(frig_start(rig, 0, 0), 0);
    frig_serve(rig);
    assert_int_equal(rig->sent_total[VHOST_USER_GET_INFLIGHT_FD], 2);
    assert_true(rig->frontend.queues[0].told);
}

static void a_reset_without_reset_device_says_status_zero(void **state)
{
    struct frig *rig = *state;
    rig->protocol_features &= ~VHOST_USER_PROTOCOL_F_RESET_DEVICE;
    run(rig, FEATURES, 0);
    device(rig)->class->status_changed(device(rig), VIRTIO_STATUS_DRIVER);
    /* Its acknowledgement is not that of the reset. */
    assert_int_equal(device(rig)->class->reset(device(rig)), -EINPROGRESS);
    assert_true(frig_serve_one(rig));
    assert_int_equal(rig->resets, 0);
    frig_serve(rig);
    assert_int_equal(rig->resets, 1);
    assert_int_equal(rig->last[VHOST_USER_SET_STATUS].payload.u64, 0);
}

static void a_reset_nobody_needs_to_hear_of_is_done_at_once(void **state)
{
    struct frig *rig = *state;
    assert_int_equal(device(rig)->class->reset(device(rig)), 0);
    frig_connect(rig);
    assert_int_equal(device(rig)->class->reset(device(rig)), 0);
    assert_int_equal(rig->sent_total[VHOST_USER_RESET_DEVICE], 0);
}

static void what_the_driver_writes_is_read_and_told_at_once(void **state)
{
    struct frig *rig = *state;
    uint8_t byte = 0xee;
    run(rig, FEATURES, 0);
    assert_int_equal(device(rig)->class->config_write(device(rig), 3, &byte, 1), 0);
    byte = 0;
    device(rig)->class->config_read(device(rig), 3, &byte, 1);
    assert_int_equal(byte, 0xee);
    frig_serve(rig);
    assert_int_equal(rig->config[3], 0xee);
    assert_int_equal(rig->configs, 0); /* the driver's own doing */
    assert_int_equal(device(rig)->class->config_write(device(rig), FRIG_CONFIG_BYTES, &byte, 1), -EINVAL);
}

static void a_configuration_of_ours_is_nobody_elses(void **state)
{
    (void)state;
    static const uint8_t space[4] = {1, 2, 3, 4};
    const struct vhost_user_frontend_config config = {
        .device_id = VIRTIO_ID_FS, .queue_count = 2, .queue_size_max = 64, .config_bytes = 4, .config_space = space};
    struct frig *rig = frig_open(&config);
    frig_connect(rig);
    assert_int_equal(rig->sent_total[VHOST_USER_GET_CONFIG], 0);
    assert_int_equal(rig->last[VHOST_USER_SET_PROTOCOL_FEATURES].payload.u64 & VHOST_USER_PROTOCOL_F_CONFIG, 0);
    uint8_t bytes[4];
    device(rig)->class->config_read(device(rig), 0, bytes, 4);
    assert_memory_equal(bytes, space, 4);
    assert_int_equal(device(rig)->class->config_write(device(rig), 0, bytes, 4), -EPERM);
    frig_close(rig);
}

static void a_peer_without_the_configuration_is_of_no_use(void **state)
{
    struct frig *rig = *state;
    rig->protocol_features &= ~VHOST_USER_PROTOCOL_F_CONFIG;
    frig_connect(rig);
    assert_int_equal(rig->greetings, 0);
    assert_int_equal(rig->hang_ups, 1);
}

static void a_write_that_is_refused_is_seen_to_have_failed(void **state)
{
    struct frig *rig = *state;
    uint8_t byte = 0xee;
    rig->refuse = VHOST_USER_SET_CONFIG;
    run(rig, FEATURES, 0);
    assert_int_equal(device(rig)->class->config_write(device(rig), 3, &byte, 1), 0);
    frig_serve(rig);
    device(rig)->class->config_read(device(rig), 3, &byte, 1);
    assert_int_equal(byte, 0x43);
    assert_int_equal(rig->hang_ups, 0);
}

static void ask_config_change(struct frig *rig, uint32_t request)
{
    struct vhost_user_message message = {
        .header = {.request = request, .flags = VHOST_USER_VERSION | VHOST_USER_FLAG_NEED_REPLY}};
    vhost_user_frontend_request(&rig->frontend, &message);
}

static void a_changed_configuration_is_fetched_and_announced(void **state)
{
    struct frig *rig = *state;
    run(rig, FEATURES, 1);
    uint32_t generation = device(rig)->class->config_generation(device(rig));
    rig->config[0] = 0x99;
    ask_config_change(rig, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
    assert_int_equal(rig->last_answer.payload.u64, 0);
    frig_serve(rig);
    assert_int_equal(rig->configs, 1);
    assert_int_not_equal(device(rig)->class->config_generation(device(rig)), generation);
    uint8_t byte;
    device(rig)->class->config_read(device(rig), 0, &byte, 1);
    assert_int_equal(byte, 0x99);
    /* What we do not serve is refused, and nothing else happens. */
    ask_config_change(rig, VHOST_USER_BACKEND_VRING_HOST_NOTIFIER_MSG);
    assert_int_not_equal(rig->last_answer.payload.u64, 0);
    assert_int_equal(rig->hang_ups, 0);
}

static void a_flood_of_changes_asks_one_question_at_a_time(void **state)
{
    struct frig *rig = *state;
    run(rig, FEATURES, 1);
    unsigned before = rig->sent_total[VHOST_USER_GET_CONFIG];
    for (unsigned i = 0; i < 1000; i++)
        ask_config_change(rig, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
    assert_int_equal(rig->sent_total[VHOST_USER_GET_CONFIG], before + 1);
    frig_serve(rig);
    assert_int_equal(rig->sent_total[VHOST_USER_GET_CONFIG], before + 2);
}

static void a_guest_that_never_rests_does_not_fill_the_pipe(void **state)
{
    struct frig *rig = *state;
    run(rig, FEATURES, 1);
    for (unsigned i = 0; i < 100000; i++) {
        uint8_t byte = (uint8_t)i;
        assert_int_equal(device(rig)->class->config_write(device(rig), i % FRIG_CONFIG_BYTES, &byte, 1), 0);
        device(rig)->class->status_changed(device(rig), (uint8_t)(i % 2 + 1));
        assert_int_equal(device(rig)->class->queue_notify_by(device(rig), 0, (int)(i % 8)), 0);
    }
    assert_true(rig->message_count < 1500);
    frig_serve(rig);
    assert_int_equal(rig->hang_ups, 0);
    assert_int_equal(rig->config[99999 % FRIG_CONFIG_BYTES], 99999 & 0xff);
    assert_int_equal(rig->last[VHOST_USER_SET_STATUS].payload.u64, 2);
    assert_int_equal(rig->last[VHOST_USER_SET_VRING_CALL].handles[0], 7);
}

static void a_guest_is_held_back_without_acknowledgements_too(void **state)
{
    struct frig *rig = *state;
    rig->protocol_features &= ~VHOST_USER_PROTOCOL_F_REPLY_ACK;
    run(rig, FEATURES, 1);
    for (unsigned i = 0; i < 100000; i++)
        assert_int_equal(device(rig)->class->queue_notify_by(device(rig), 0, (int)(i % 8)), 0);
    assert_true(rig->message_count < 1500);
    frig_serve(rig);
    assert_int_equal(rig->last[VHOST_USER_SET_VRING_CALL].handles[0], 7);
}

static void another_interrupt_is_told_and_signalled_once(void **state)
{
    struct frig *rig = *state;
    run(rig, FEATURES, 1);
    assert_int_equal(device(rig)->class->queue_notify_by(device(rig), 0, 5), 0);
    assert_int_equal(rig->last[VHOST_USER_SET_VRING_CALL].handles[0], 5);
    assert_int_equal(rig->signals[5], 1);
    frig_serve(rig);
    assert_int_equal(device(rig)->class->queue_notify_by(device(rig), 0, 5), 0);
    assert_int_equal(rig->signals[5], 1);
}

/* Memory and log */

static void memory_is_exchanged_piece_by_piece_while_queues_run(void **state)
{
    struct frig *rig = *state;
    run(rig, FEATURES, 1);
    struct vhost_user_frontend_region regions[2] = {
        rig->region, {.guest_base = 0, .size = 0x10000, .handle = FRIG_MEMORY, .offset = 0, .host = rig->memory}};
    unsigned settled = rig->settled;
    assert_int_equal(vhost_user_frontend_set_memory(&rig->frontend, regions, 2), 0);
    assert_int_equal(rig->settled, settled);
    assert_int_equal(rig->sent_total[VHOST_USER_ADD_MEM_REG], 2);
    frig_serve(rig);
    assert_true(rig->settled > settled);
    assert_int_equal(vhost_user_frontend_set_memory(&rig->frontend, regions, 1), 0);
    frig_serve(rig);
    assert_int_equal(rig->sent_total[VHOST_USER_REM_MEM_REG], 1);
    assert_int_equal(rig->last[VHOST_USER_REM_MEM_REG].payload.region.region.guest_base, 0);
    assert_int_equal(rig->sent_total[VHOST_USER_SET_MEM_TABLE], 0);
}

static void memory_that_a_queue_needs_stays(void **state)
{
    struct frig *rig = *state;
    run(rig, FEATURES, 1);
    struct vhost_user_frontend_region other = rig->region;
    other.guest_base += 0x4000;
    assert_int_equal(vhost_user_frontend_set_memory(&rig->frontend, &other, 1), -EBUSY);
    assert_int_equal(vhost_user_frontend_set_memory(&rig->frontend, &other, 0), -EBUSY);
    struct vhost_user_frontend_region wrong[2] = {rig->region, other};
    assert_int_equal(vhost_user_frontend_set_memory(&rig->frontend, wrong, 2), -EINVAL);
    wrong[1] = (struct vhost_user_frontend_region){.guest_base = UINT64_MAX - 5, .size = 10};
    assert_int_equal(vhost_user_frontend_set_memory(&rig->frontend, wrong, 2), -EINVAL);
    rig->slots = 1;
    frig_serve(rig);
    assert_int_equal(rig->sent_total[VHOST_USER_ADD_MEM_REG], 1);
}

static void without_slots_memory_is_a_table(void **state)
{
    struct frig *rig = *state;
    rig->protocol_features &= ~VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS;
    run(rig, FEATURES, 1);
    assert_int_equal(rig->sent_total[VHOST_USER_SET_MEM_TABLE], 1);
    struct vhost_user_frontend_region regions[9];
    for (unsigned i = 0; i < 9; i++)
        regions[i] = (struct vhost_user_frontend_region){.guest_base = i * 0x1000, .size = 0x1000, .handle = 7};
    regions[0] = rig->region;
    assert_int_equal(vhost_user_frontend_set_memory(&rig->frontend, regions, 9), -ENOSPC);
    assert_int_equal(vhost_user_frontend_set_memory(&rig->frontend, regions, 8), 0);
    frig_serve(rig);
    assert_int_equal(rig->last[VHOST_USER_SET_MEM_TABLE].payload.table.region_count, 8);
}

static void a_bounce_region_alone_is_enough(void **state)
{
    struct frig *rig = *state;
    rig->frontend.isolated = true;
    frig_connect(rig);
    assert_true((device(rig)->class->features(device(rig)) & VIRTIO_F_ACCESS_PLATFORM) != 0);
    frig_choose(rig, FEATURES | VIRTIO_F_ACCESS_PLATFORM);
    assert_int_equal(frig_start(rig, 0, 0), 0);
    frig_serve(rig);
    assert_true(rig->frontend.queues[0].told);
    /* One region, and a back end that is not told of what it need not know. */
    assert_int_equal(rig->sent_total[VHOST_USER_ADD_MEM_REG], 1);
    assert_int_equal(rig->last[VHOST_USER_SET_FEATURES].payload.u64, FEATURES | VHOST_USER_F_PROTOCOL_FEATURES);
}

static void a_log_comes_and_goes_under_a_running_queue(void **state)
{
    struct frig *rig = *state;
    run(rig, FEATURES, 1);
    const struct vhost_user_frontend_log log = {.handle = 9, .offset = 0, .bytes = 4096}, none = {.handle = -1};
    assert_int_equal(vhost_user_frontend_set_log(&rig->frontend, &log), 0);
    frig_serve(rig);
    assert_int_equal(rig->last[VHOST_USER_SET_LOG_BASE].handles[0], 9);
    assert_true((rig->last[VHOST_USER_SET_FEATURES].payload.u64 & VHOST_F_LOG_ALL) != 0);
    assert_int_equal(rig->last[VHOST_USER_SET_VRING_ADDR].payload.address.flags, VHOST_USER_VRING_F_LOG);
    assert_int_equal(rig->last[VHOST_USER_SET_VRING_ADDR].payload.address.log, FRIG_RING(0) + 0x800);
    assert_int_equal(vhost_user_frontend_set_log(&rig->frontend, &none), 0);
    frig_serve(rig);
    assert_true((rig->last[VHOST_USER_SET_FEATURES].payload.u64 & VHOST_F_LOG_ALL) == 0);
    assert_int_equal(rig->last[VHOST_USER_SET_VRING_ADDR].payload.address.flags, 0);
    assert_int_equal(rig->hang_ups, 0);
}

static void a_back_end_that_cannot_log_is_not_asked_to(void **state)
{
    struct frig *rig = *state;
    rig->features &= ~VHOST_F_LOG_ALL;
    run(rig, FEATURES, 1);
    const struct vhost_user_frontend_log log = {.handle = 9, .bytes = 4096};
    assert_int_equal(vhost_user_frontend_set_log(&rig->frontend, &log), -EOPNOTSUPP);
}

static void what_the_driver_breaks_is_told(void **state)
{
    struct frig *rig = *state;
    vhost_user_frontend_failed(&rig->frontend);
    assert_int_equal(rig->broken_told, 0);
    run(rig, FEATURES, 1);
    vhost_user_frontend_failed(&rig->frontend);
    vhost_user_frontend_failed(&rig->frontend);
    assert_int_equal(rig->broken_told, 1);
}

static void refusals_have_their_consequences(void **state)
{
    (void)state;
    static const struct {
        uint32_t request;
        unsigned broken, hang_ups;
    } cases[] = {
        {VHOST_USER_SET_VRING_ADDR, 1, 0},     {VHOST_USER_SET_VRING_ENABLE, 1, 0}, {VHOST_USER_SET_VRING_NUM, 1, 0},
        {VHOST_USER_SET_FEATURES, 1, 0},       {VHOST_USER_SET_INFLIGHT_FD, 1, 0},  {VHOST_USER_ADD_MEM_REG, 0, 1},
        {VHOST_USER_SET_VRING_ERR, 0, 0},      {VHOST_USER_SET_OWNER, 0, 1},        {VHOST_USER_SET_STATUS, 0, 0},
        {VHOST_USER_SET_BACKEND_REQ_FD, 0, 0},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct frig *rig = frig_open_usual();
        rig->refuse = cases[i].request;
        frig_connect(rig);
        if (rig->hang_ups == 0) {
            frig_choose(rig, FEATURES);
            assert_int_equal(frig_start(rig, 0, 0), 0);
            device(rig)->class->status_changed(device(rig), 0xf);
            frig_serve(rig);
        }
        assert_int_equal(rig->broken_told, cases[i].broken);
        assert_int_equal(rig->hang_ups, cases[i].hang_ups);
        frig_close(rig);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        TEST(a_back_end_introduces_itself),
        TEST(a_back_end_of_the_legacy_protocol_is_served),
        TEST(packed_rings_are_offered_with_a_record_alone),
        TEST(fewer_queues_than_wanted_are_what_there_is),
        TEST(a_queue_starts_with_all_its_parts),
        TEST(a_ring_outside_of_the_regions_is_refused),
        TEST(a_stop_ends_with_the_answer_and_its_base),
        TEST(a_reset_ends_with_the_answer),
        TEST(a_reset_without_reset_device_says_status_zero),
        TEST(a_reset_nobody_needs_to_hear_of_is_done_at_once),
        TEST(what_the_driver_writes_is_read_and_told_at_once),
        cmocka_unit_test(a_configuration_of_ours_is_nobody_elses),
        TEST(a_peer_without_the_configuration_is_of_no_use),
        TEST(a_write_that_is_refused_is_seen_to_have_failed),
        TEST(a_changed_configuration_is_fetched_and_announced),
        TEST(a_flood_of_changes_asks_one_question_at_a_time),
        TEST(a_guest_that_never_rests_does_not_fill_the_pipe),
        TEST(a_guest_is_held_back_without_acknowledgements_too),
        TEST(another_interrupt_is_told_and_signalled_once),
        TEST(memory_is_exchanged_piece_by_piece_while_queues_run),
        TEST(memory_that_a_queue_needs_stays),
        TEST(without_slots_memory_is_a_table),
        TEST(a_bounce_region_alone_is_enough),
        TEST(a_log_comes_and_goes_under_a_running_queue),
        TEST(a_back_end_that_cannot_log_is_not_asked_to),
        TEST(what_the_driver_breaks_is_told),
        cmocka_unit_test(refusals_have_their_consequences),
    };
    return cmocka_run_group_tests_name("vhost_user_frontend", tests, NULL, NULL);
}
