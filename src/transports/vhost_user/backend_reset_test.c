/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Status, resets, and front ends that go. Every test ends in a check that nothing stayed open or mapped. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "backend_rig.h"

static uint64_t layout; /* of the rings */

static int set_up(void **state)
{
    *state = rig_open_rings(2, layout);
    return 0;
}

static int tear_down(void **state)
{
    rig_close(*state);
    return 0;
}

/* Status and resets */

static void the_status_is_kept_and_features_ok_only_after_features(void **state)
{
    struct rig *rig = *state;
    uint64_t protocol_features = rig->backend.protocol_features_max;
    assert_int_equal(rig_send(rig, VHOST_USER_SET_PROTOCOL_FEATURES, 0, &protocol_features, 8, -1), 0);
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_STATUS, 1 | 2 | 8, -1), 0);
    assert_int_equal(rig_get(rig, VHOST_USER_GET_STATUS), 1 | 2);
    rig_negotiate(rig);
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_STATUS, 1 | 2 | 8, -1), 0);
    assert_int_equal(rig_get(rig, VHOST_USER_GET_STATUS), 1 | 2 | 8);
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_STATUS, 256, -1), 1);
    assert_int_equal(rig_get(rig, VHOST_USER_GET_STATUS), 1 | 2 | 8);
    /* That one is not for the front end to set. */
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_STATUS, 1 | 64, -1), 0);
    assert_int_equal(rig_get(rig, VHOST_USER_GET_STATUS), 1);
}

static void a_broken_ring_shows_in_the_status_until_a_reset(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_STATUS, 15, -1), 0);
    rig_break(rig, 0);
    assert_int_equal(rig->queues[0].errors, 1);
    assert_int_equal(rig_get(rig, VHOST_USER_GET_STATUS), 15 | 64);
    /* QEMU adds bits to what it read. */
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_STATUS, 15 | 64, -1), 0);
    assert_int_equal(rig_get(rig, VHOST_USER_GET_STATUS), 15 | 64);
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_STATUS, 0, -1), 0);
    assert_int_equal(rig_get(rig, VHOST_USER_GET_STATUS), 0);
}

static void status_zero_stops_rings_and_keeps_their_base_and_the_model(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    rig->config[RIG_CONFIG_WRITABLE] = 9;
    rig_offer(rig, 0, RIG_DATA_0);
    rig_offer(rig, 0, RIG_DATA_0);
    rig_kick(rig, 0);
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_STATUS, 0, -1), 0);
    assert_false(rig_running(rig, 0));
    assert_false(rig_running(rig, 1));
    assert_int_equal(rig->device_resets, 0);
    assert_int_equal(rig->config[RIG_CONFIG_WRITABLE], 9);
    /* QEMU 7.2 stops a machine in this order. */
    assert_int_equal(rig_ring_enable(rig, 0, false), 0);
    assert_int_equal(rig_get_base(rig, 0), rig_base_after(rig, 2));
    assert_int_equal(rig_get_base(rig, 1), rig_base_after(rig, 0));
}

static void status_zero_waits_for_requests_in_flight(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    rig->hold = true;
    rig_offer(rig, 0, RIG_DATA_0);
    rig_kick(rig, 0);
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_STATUS, 0, -1), RIG_NO_ANSWER);
    assert_true(vhost_user_backend_busy(&rig->backend));
    rig_complete(rig, 0, 1);
    assert_false(vhost_user_backend_busy(&rig->backend));
    assert_int_equal(rig_take_u64(rig, VHOST_USER_SET_STATUS), 0);
    assert_int_equal(rig_used(rig, 0), 1);
}

static void after_status_zero_everything_must_be_said_anew(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_STATUS, 0, -1), 0);
    uint64_t features = rig->device.features | VHOST_USER_F_PROTOCOL_FEATURES;
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_FEATURES, features, -1), 0);
    assert_int_equal(rig_ring_enable(rig, 0, true), 0);
    assert_false(rig_running(rig, 0));
    rig_lay_ring(rig, 0);
    rig_start_ring(rig, 0);
    assert_true(rig_running(rig, 0));
    rig_offer(rig, 0, RIG_DATA_0);
    rig_kick(rig, 0);
    assert_int_equal(rig_used(rig, 0), 1);
}

static void reset_device_resets_the_model_and_every_base(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    rig->config[RIG_CONFIG_WRITABLE] = 9;
    rig->hold = true;
    rig_offer(rig, 1, RIG_DATA_0);
    rig_kick(rig, 1);
    assert_int_equal(rig_ack(rig, VHOST_USER_RESET_DEVICE, NULL, 0, -1), RIG_NO_ANSWER);
    assert_int_equal(rig->device_resets, 0);
    rig_complete(rig, 1, 1);
    assert_int_equal(rig_take_u64(rig, VHOST_USER_RESET_DEVICE), 0);
    assert_int_equal(rig->device_resets, 1);
    assert_int_equal(rig->config[RIG_CONFIG_WRITABLE], 0);
    assert_int_equal(rig_get_base(rig, 1), 0); /* which layout is not known any more */
    assert_int_equal(rig->device.features, 0);
}

static void reset_owner_disables_rings_and_no_more(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    rig_offer(rig, 0, RIG_DATA_0);
    rig_kick(rig, 0);
    assert_int_equal(rig_ack(rig, VHOST_USER_RESET_OWNER, NULL, 0, -1), 0);
    assert_false(rig_running(rig, 0));
    assert_int_equal(rig->device_resets, 0);
    assert_int_equal(rig_ring_enable(rig, 0, true), 0);
    assert_true(rig_running(rig, 0));
    rig_offer(rig, 0, RIG_DATA_0);
    rig_kick(rig, 0);
    assert_int_equal(rig_used(rig, 0), 2);
}

/* Disconnection */

static void a_front_end_that_goes_leaves_nothing_behind(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    assert_int_equal(rig_ack(rig, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, rig_line(rig)), 0);
    assert_int_equal(rig_ack(rig, VHOST_USER_SET_LOG_FD, NULL, 0, rig_line(rig)), 0);
    rig_disconnect(rig);
    assert_false(vhost_user_backend_busy(&rig->backend));
    assert_int_equal(rig_handles(rig), 0);
    assert_int_equal(rig_mappings(rig), 0);
    assert_int_equal(rig->device_resets, 1);
    assert_int_equal(rig->device.features, 0);
    assert_int_equal(rig->backend.protocol_features, 0);
}

static void the_next_front_end_finds_everything_as_the_first_did(void **state)
{
    struct rig *rig = *state;
    for (unsigned i = 0; i < 3; i++) {
        rig_lay_ring(rig, 0);
        rig_lay_ring(rig, 1);
        rig_start(rig);
        rig_offer(rig, 0, RIG_DATA_1);
        rig_kick(rig, 0);
        assert_int_equal(rig_used(rig, 0), 1);
        rig_disconnect(rig);
    }
}

static void a_disconnection_waits_for_requests_in_flight(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    rig->hold = true;
    rig_offer(rig, 0, RIG_DATA_0);
    rig_offer(rig, 0, RIG_DATA_1);
    rig_kick(rig, 0);
    rig_disconnect(rig);
    rig_disconnect(rig); /* said twice is said once */
    assert_true(vhost_user_backend_busy(&rig->backend));
    assert_int_equal(rig_mappings(rig), 2);
    rig_complete(rig, 0, 1);
    assert_true(vhost_user_backend_busy(&rig->backend));
    rig_complete(rig, 0, 1);
    assert_false(vhost_user_backend_busy(&rig->backend));
    assert_int_equal(rig_mappings(rig), 0);
    assert_int_equal(rig->reply_count, 0);
}

static void a_disconnection_replaces_any_wait_and_nothing_is_answered(void **state)
{
    struct rig *rig = *state;
    const struct vhost_user_vring_state base = {.index = 0};
    const struct vhost_user_single_region single = {.region = rig_region(1)};
    const uint64_t zero = 0;
    const struct {
        uint32_t request;
        const void *payload;
        uint32_t size;
    } waits[] = {
        {VHOST_USER_GET_VRING_BASE, &base, sizeof(base)},
        {VHOST_USER_RESET_DEVICE, NULL, 0},
        {VHOST_USER_RESET_OWNER, NULL, 0},
        {VHOST_USER_SET_STATUS, &zero, sizeof(zero)},
        {VHOST_USER_SET_VRING_ENABLE, &base, sizeof(base)},
        {VHOST_USER_REM_MEM_REG, &single, sizeof(single)},
    };
    for (size_t i = 0; i < ARRAY_SIZE(waits); i++) {
        rig_lay_ring(rig, 0);
        rig_lay_ring(rig, 1);
        rig->hold = false;
        rig_start(rig);
        rig->hold = true;
        rig_offer(rig, 0, RIG_DATA_0);
        rig_kick(rig, 0);
        assert_int_equal(
            rig_send(rig, waits[i].request, VHOST_USER_FLAG_NEED_REPLY, waits[i].payload, waits[i].size, -1), 0);
        assert_true(vhost_user_backend_busy(&rig->backend));
        rig_disconnect(rig);
        assert_true(vhost_user_backend_busy(&rig->backend));
        rig_complete(rig, 0, 1);
        assert_false(vhost_user_backend_busy(&rig->backend));
        assert_int_equal(rig->reply_count, 0);
        assert_int_equal(rig_mappings(rig), 0);
        assert_int_equal(rig_handles(rig), 0);
    }
}

static void a_disconnection_during_a_new_table_unmaps_both(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    rig->hold = true;
    rig_offer(rig, 0, RIG_DATA_0);
    rig_kick(rig, 0);
    assert_int_equal(rig_share(rig), RIG_NO_ANSWER);
    assert_int_equal(rig_mappings(rig), 4);
    rig_disconnect(rig);
    assert_int_equal(rig_mappings(rig), 2);
    rig_complete(rig, 0, 1);
    assert_int_equal(rig_mappings(rig), 0);
}

static void an_echo_of_a_stop_is_ignored(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    assert_int_equal(vhost_user_backend_queue_stopped(&rig->backend, 0), 0);
    assert_true(rig_running(rig, 0));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    layout = rig_layout(argc, argv);
    const struct CMUnitTest tests[] = {
        TEST(the_status_is_kept_and_features_ok_only_after_features),
        TEST(a_broken_ring_shows_in_the_status_until_a_reset),
        TEST(status_zero_stops_rings_and_keeps_their_base_and_the_model),
        TEST(status_zero_waits_for_requests_in_flight),
        TEST(after_status_zero_everything_must_be_said_anew),
        TEST(reset_device_resets_the_model_and_every_base),
        TEST(reset_owner_disables_rings_and_no_more),
        TEST(a_front_end_that_goes_leaves_nothing_behind),
        TEST(the_next_front_end_finds_everything_as_the_first_did),
        TEST(a_disconnection_waits_for_requests_in_flight),
        TEST(a_disconnection_replaces_any_wait_and_nothing_is_answered),
        TEST(a_disconnection_during_a_new_table_unmaps_both),
        TEST(an_echo_of_a_stop_is_ignored),
    };
    return cmocka_run_group_tests_name("backend_reset", tests, NULL, NULL);
}
