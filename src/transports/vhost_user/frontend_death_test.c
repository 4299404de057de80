/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Back ends that die, in every state, and their successors. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "frontend_rig.h"

#define FEATURES (FRIG_FEATURE | VIRTIO_F_VERSION_1)
#define PACKED (FEATURES | VIRTIO_F_RING_PACKED)

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

static void die(struct frig *rig)
{
    vhost_user_frontend_lost(&rig->frontend, "the back end was killed");
}

static void a_successor_is_told_everything_again(void **state)
{
    struct frig *rig = *state;
    uint8_t byte = 0xee;
    run(rig, FEATURES, 2);
    device(rig)->class->status_changed(device(rig), 0xf);
    assert_int_equal(device(rig)->class->config_write(device(rig), 3, &byte, 1), 0);
    frig_serve(rig);
    frig_set_used(rig, 0, 5);
    frig_set_used(rig, 1, 9);
    die(rig);
    assert_int_equal(rig->hang_ups, 1);
    assert_int_equal(rig->broken, 0);
    rig->config[3] = 0x43; /* as in the beginning */
    rig->last[VHOST_USER_SET_STATUS].payload.u64 = 0;
    memset(rig->signals, 0, sizeof(rig->signals));
    frig_connect(rig);
    assert_int_equal(rig->greetings, 2);
    assert_int_equal(rig->config[3], 0xee);
    assert_int_equal(rig->configs, 0);
    assert_int_equal(rig->sent_total[VHOST_USER_GET_INFLIGHT_FD], 1); /* the record is the one there was */
    assert_int_equal(rig->sent_total[VHOST_USER_SET_INFLIGHT_FD], 2);
    assert_int_equal(rig->last[VHOST_USER_SET_VRING_BASE].payload.state.num, 9);
    assert_int_equal(rig->last[VHOST_USER_SET_STATUS].payload.u64, 0xf);
    for (unsigned i = 0; i < 2; i++) {
        assert_true(rig->frontend.queues[i].told);
        assert_int_equal(rig->signals[FRIG_KICK(i)], 1);
        assert_int_equal(rig->signals[FRIG_CALL(i)], 1);
    }
}

static void a_back_end_may_die_in_every_state(void **state)
{
    struct frig *rig = *state;
    /* After each number of answers, until one life reaches the end without dying. */
    unsigned answers = 0;
    for (bool done = false; !done; answers++) {
        vhost_user_frontend_connected(&rig->frontend);
        if (!rig->frontend.features_set && rig->greetings > 0)
            frig_choose(rig, FEATURES);
        for (unsigned i = 0; i < 2 && rig->frontend.features_set; i++)
            if (!rig->frontend.queues[i].wanted)
                assert_int_equal(frig_start(rig, i, 0), 0);
        done = true;
        for (unsigned i = 0; i < answers && done; i++)
            done = frig_serve_one(rig);
        done = !done && rig->frontend.queues[1].told;
        die(rig);
        assert_int_equal(rig->broken, 0);
    }
    assert_true(answers > 20);
    frig_connect(rig);
    assert_true(rig->frontend.queues[0].told && rig->frontend.queues[1].told);
}

static void a_stop_under_way_ends_with_the_connection(void **state)
{
    struct frig *rig = *state;
    run(rig, FEATURES, 1);
    assert_int_equal(stop(rig, 0), -EINPROGRESS);
    frig_set_used(rig, 0, 12);
    die(rig);
    assert_int_equal(rig->stopped[0], 1);
    assert_int_equal(base_of(rig, 0), 12);
}

static void a_stop_without_a_back_end_is_done_at_once(void **state)
{
    struct frig *rig = *state;
    run(rig, FEATURES, 1);
    frig_set_used(rig, 0, 12);
    die(rig);
    assert_int_equal(stop(rig, 0), 0);
    assert_int_equal(base_of(rig, 0), 12);
    assert_int_equal(rig->stopped[0], 0);
    /* Paused and resumed while nobody was there: where it was, with its record. */
    rig->record[16] = 1;
    assert_int_equal(frig_start(rig, 0, 12), 0);
    frig_connect(rig);
    assert_int_equal(rig->last[VHOST_USER_SET_VRING_BASE].payload.state.num, 12);
    assert_int_equal(rig->record[16], 1);
}

static void a_new_ring_finds_nothing_in_the_record(void **state)
{
    struct frig *rig = *state;
    run(rig, FEATURES, 1);
    frig_set_used(rig, 0, 12);
    die(rig);
    assert_int_equal(stop(rig, 0), 0);
    rig->record[16] = 1;
    assert_int_equal(frig_start(rig, 0, 0), 0);
    assert_int_equal(rig->record[16], 0);
}

static void a_reset_under_way_ends_with_the_connection(void **state)
{
    struct frig *rig = *state;
    run(rig, FEATURES, 0);
    assert_int_equal(device(rig)->class->reset(device(rig)), -EINPROGRESS);
    die(rig);
    assert_int_equal(rig->resets, 1);
    frig_connect(rig);
    assert_int_equal(rig->frontend.features, 0);
}

static void a_queue_may_start_while_nobody_is_there(void **state)
{
    struct frig *rig = *state;
    run(rig, FEATURES, 0);
    die(rig);
    assert_int_equal(frig_start(rig, 0, 3), 0);
    frig_connect(rig);
    assert_true(rig->frontend.queues[0].told);
    assert_int_equal(rig->last[VHOST_USER_SET_VRING_BASE].payload.state.num, 3);
}

static void a_successor_that_lacks_a_feature_breaks_the_device(void **state)
{
    struct frig *rig = *state;
    run(rig, FEATURES, 1);
    die(rig);
    rig->features &= ~FRIG_FEATURE;
    frig_connect(rig);
    assert_int_equal(rig->broken_told, 1);
    assert_false(rig->frontend.queues[0].told);
    /* On offer is what was, until the driver begins anew. */
    assert_true((device(rig)->class->features(device(rig)) & FRIG_FEATURE) != 0);
    assert_int_equal(stop(rig, 0), 0);
    assert_int_equal(device(rig)->class->reset(device(rig)), 0);
    assert_true((device(rig)->class->features(device(rig)) & FRIG_FEATURE) == 0);
    frig_choose(rig, VIRTIO_F_VERSION_1);
    assert_int_equal(frig_start(rig, 0, 0), 0);
    frig_serve(rig);
    assert_true(rig->frontend.queues[0].told);
}

static void a_successor_with_fewer_queues_breaks_the_device(void **state)
{
    struct frig *rig = *state;
    run(rig, FEATURES, 1);
    die(rig);
    rig->queue_count = 1;
    frig_connect(rig);
    assert_int_equal(rig->broken_told, 1);
}

static struct virtq_record_packed *packed_area(struct frig *rig, unsigned index)
{
    return (void *)(rig->record + index * (FRIG_RECORD_BYTES / FRIG_QUEUES));
}

static void a_packed_ring_goes_on_where_its_record_says(void **state)
{
    struct frig *rig = *state;
    run(rig, PACKED, 2);
    *packed_area(rig, 1) =
        (struct virtq_record_packed){.version = 1, .desc_num = FRIG_RING_SIZE, .used_index = 6, .used_wrap_counter = 0};
    die(rig);
    assert_int_equal(rig->broken, 0);
    frig_connect(rig);
    assert_int_equal(rig->last[VHOST_USER_SET_VRING_BASE].payload.state.num, 0x00060006);
}

static void a_packed_ring_of_a_dead_back_end_without_a_record_is_lost(void **state)
{
    struct frig *rig = *state;
    rig->no_record = true; /* on offer, and then refused */
    run(rig, PACKED, 1);
    die(rig);
    assert_int_equal(rig->broken_told, 1);
    frig_connect(rig);
    assert_false(rig->frontend.queues[0].told);
    assert_int_equal(stop(rig, 0), 0);
    (void)device(rig)->class->reset(device(rig));
    frig_serve(rig);
    frig_choose(rig, PACKED);
    assert_int_equal(frig_start(rig, 0, virtqueue_base_initial(PACKED)), 0);
    frig_serve(rig);
    assert_true(rig->frontend.queues[0].told);
}

static void a_packed_record_that_lies_is_not_believed(void **state)
{
    struct frig *rig = *state;
    run(rig, PACKED, 1);
    *packed_area(rig, 0) =
        (struct virtq_record_packed){.version = 1, .desc_num = FRIG_RING_SIZE, .used_index = FRIG_RING_SIZE};
    die(rig);
    assert_int_equal(rig->broken_told, 1);
}

static void a_split_ring_needs_no_record(void **state)
{
    struct frig *rig = *state;
    rig->no_record = true;
    run(rig, FEATURES, 1);
    frig_set_used(rig, 0, 65535);
    die(rig);
    frig_connect(rig);
    assert_int_equal(rig->last[VHOST_USER_SET_VRING_BASE].payload.state.num, 65535);
    assert_int_equal(rig->sent_total[VHOST_USER_SET_INFLIGHT_FD], 0);
}

static void a_record_does_not_outlive_a_back_end_that_keeps_none(void **state)
{
    struct frig *rig = *state;
    run(rig, FEATURES, 1);
    die(rig);
    rig->protocol_features &= ~VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD;
    frig_connect(rig);
    assert_true(rig->frontend.queues[0].told);
    die(rig);
    rig->protocol_features = FRIG_ALL_PROTOCOL_FEATURES;
    frig_connect(rig);
    assert_int_equal(rig->sent_total[VHOST_USER_GET_INFLIGHT_FD], 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        TEST(a_successor_is_told_everything_again),
        TEST(a_back_end_may_die_in_every_state),
        TEST(a_stop_under_way_ends_with_the_connection),
        TEST(a_stop_without_a_back_end_is_done_at_once),
        TEST(a_new_ring_finds_nothing_in_the_record),
        TEST(a_reset_under_way_ends_with_the_connection),
        TEST(a_queue_may_start_while_nobody_is_there),
        TEST(a_successor_that_lacks_a_feature_breaks_the_device),
        TEST(a_successor_with_fewer_queues_breaks_the_device),
        TEST(a_packed_ring_goes_on_where_its_record_says),
        TEST(a_packed_ring_of_a_dead_back_end_without_a_record_is_lost),
        TEST(a_packed_record_that_lies_is_not_believed),
        TEST(a_split_ring_needs_no_record),
        TEST(a_record_does_not_outlive_a_back_end_that_keeps_none),
    };
    return cmocka_run_group_tests_name("vhost_user_frontend_death", tests, NULL, NULL);
}
