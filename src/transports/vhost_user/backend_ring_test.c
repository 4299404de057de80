/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* When rings start, how they change while they run, and how they stop. */
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

static void serves_one(struct rig *rig, unsigned index)
{
    rig_offer(rig, index, RIG_DATA_0);
    rig_kick(rig, index);
    assert_int_equal(rig_used(rig, index), 1);
}

/* Start */

enum step { STEP_FEATURES, STEP_MEMORY, STEP_NUM, STEP_ADDRESS, STEP_KICK, STEP_ENABLE, STEPS };

static void take_step(struct rig *rig, enum step step, uint64_t features)
{
    switch (step) {
    case STEP_FEATURES:
        assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_FEATURES, features, -1), 0);
        break;
    case STEP_MEMORY:
        assert_int_equal(rig_share(rig), 0);
        break;
    case STEP_NUM:
        assert_int_equal(rig_ring_num(rig, 0), 0);
        break;
    case STEP_ADDRESS:
        assert_int_equal(rig_ring_set_address(rig, 0), 0);
        break;
    case STEP_KICK:
        assert_int_equal(rig_ring_kick_line(rig, 0), 0);
        break;
    case STEP_ENABLE:
    default:
        assert_int_equal(rig_ring_enable(rig, 0, true), 0);
        break;
    }
}

static void start_in_order(const enum step *order)
{
    struct rig *rig = rig_open_rings(1, layout);
    uint64_t protocol_features = rig->backend.protocol_features_max;
    uint64_t features = VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VHOST_USER_F_PROTOCOL_FEATURES | layout;
    assert_int_equal(rig_send(rig, VHOST_USER_SET_PROTOCOL_FEATURES, 0, &protocol_features, 8, -1), 0);
    for (unsigned i = 0; i < STEPS; i++) {
        assert_false(rig_running(rig, 0));
        take_step(rig, order[i], features);
    }
    assert_true(rig_running(rig, 0));
    serves_one(rig, 0);
    rig_close(rig);
}

/* Every order that there is: 720. */
static void permute(enum step *order, unsigned from)
{
    if (from == STEPS) {
        start_in_order(order);
        return;
    }
    for (unsigned i = from; i < STEPS; i++) {
        enum step kept = order[from];
        order[from] = order[i];
        order[i] = kept;
        permute(order, from + 1);
        order[i] = order[from];
        order[from] = kept;
    }
}

static void a_ring_starts_with_its_last_part_in_whatever_order_they_come(void **state)
{
    (void)state;
    enum step order[STEPS] = {STEP_FEATURES, STEP_MEMORY, STEP_NUM, STEP_ADDRESS, STEP_KICK, STEP_ENABLE};
    permute(order, 0);
}

static void qemu_s_order_is_served(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    assert_true(rig_running(rig, 0));
    assert_true(rig_running(rig, 1));
    serves_one(rig, 0);
    serves_one(rig, 1);
    assert_int_equal(rig->queues[0].notified, 1);
}

static void libblkio_s_order_is_served(void **state)
{
    struct rig *rig = *state;
    const uint64_t protocol_features = VHOST_USER_PROTOCOL_F_MQ | VHOST_USER_PROTOCOL_F_REPLY_ACK |
                                       VHOST_USER_PROTOCOL_F_CONFIG | VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS;
    const uint64_t features = VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VHOST_USER_F_PROTOCOL_FEATURES | layout;
    const struct vhost_user_region region = rig_region(0);
    assert_int_equal(rig_send(rig, VHOST_USER_SET_OWNER, 0, NULL, 0, -1), 0);
    assert_int_equal(rig_send(rig, VHOST_USER_SET_FEATURES, 0, &features, 8, -1), 0);
    assert_int_equal(rig_send(rig, VHOST_USER_SET_PROTOCOL_FEATURES, 0, &protocol_features, 8, -1), 0);
    /* From here on it sets need_reply on everything, queries too. */
    assert_int_equal(rig_get(rig, VHOST_USER_GET_QUEUE_NUM), 2);
    assert_int_equal(rig_get(rig, VHOST_USER_GET_MAX_MEM_SLOTS), 509);
    assert_int_equal(rig_ack_region(rig, VHOST_USER_ADD_MEM_REG, &region, rig_handle(rig, 0)), 0);
    assert_int_equal(rig_ring_num(rig, 0), 0);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_BASE, 0, virtqueue_base_initial(layout)), 0);
    assert_int_equal(rig_ring_set_address(rig, 0), 0);
    assert_int_equal(rig_ring_kick_line(rig, 0), 0);
    assert_int_equal(rig_ring_call_line(rig, 0), 0);
    assert_int_equal(rig_ring_enable(rig, 0, true), 0);
    serves_one(rig, 0);
    /* It sends the descriptor along when memory goes, too. */
    assert_int_equal(rig_ack_region(rig, VHOST_USER_REM_MEM_REG, &region, rig_handle(rig, 0)), 0);
    assert_int_equal(rig_mappings(rig), 0);
}

static void without_protocol_features_a_ring_starts_enabled(void **state)
{
    struct rig *rig = *state;
    const uint64_t features = VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | layout;
    assert_int_equal(rig_send(rig, VHOST_USER_SET_FEATURES, 0, &features, 8, -1), 0);
    assert_int_equal(rig_share(rig), RIG_NO_ANSWER);
    assert_int_equal(rig_ring_num(rig, 0), RIG_NO_ANSWER);
    assert_int_equal(rig_ring_set_address(rig, 0), RIG_NO_ANSWER);
    assert_false(rig_running(rig, 0));
    assert_int_equal(rig_ring_kick_line(rig, 0), RIG_NO_ANSWER);
    assert_true(rig_running(rig, 0));
    serves_one(rig, 0);
}

static void requests_from_before_the_start_are_served_without_a_kick(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_share(rig), 0);
    rig_offer(rig, 0, RIG_DATA_0);
    rig_start_ring(rig, 0);
    assert_int_equal(rig_used(rig, 0), 1);
}

static void a_kick_before_the_ring_is_set_up_does_nothing(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_ring_kick_line(rig, 0), 0);
    rig_kick(rig, 0);
    assert_false(rig_running(rig, 0));
}

static void a_ring_without_kick_line_is_polled(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_share(rig), 0);
    assert_int_equal(rig_ring_num(rig, 0), 0);
    assert_int_equal(rig_ring_set_address(rig, 0), 0);
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_VRING_KICK, 0 | VHOST_USER_VRING_NO_FD, -1), 0);
    assert_int_equal(rig_ring_enable(rig, 0, true), 0);
    assert_true(rig->queues[0].polled);
    rig_offer(rig, 0, RIG_DATA_0);
    rig_run(rig);
    assert_int_equal(rig_used(rig, 0), 1);
    /* A line that comes later ends the polling. */
    assert_int_equal(rig_ring_kick_line(rig, 0), 0);
    assert_false(rig->queues[0].polled);
    serves_one(rig, 0);
}

static void a_base_other_than_zero_is_where_a_ring_goes_on(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_share(rig), 0);
    /* Two requests that a predecessor has had. */
    rig_offer(rig, 0, RIG_DATA_0);
    rig_offer(rig, 0, RIG_DATA_0);
    assert_int_equal(rig_ring_num(rig, 0), 0);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_BASE, 0, rig_base_after(rig, 2)), 0);
    if (layout == 0)
        put_le16(&rig->queues[0].driver.used->index, 2);
    assert_int_equal(rig_ring_set_address(rig, 0), 0);
    assert_int_equal(rig_ring_kick_line(rig, 0), 0);
    assert_int_equal(rig_ring_enable(rig, 0, true), 0);
    rig_run(rig);
    assert_int_equal(rig->virtqueues[0].popped_total, 0);
    rig_offer(rig, 0, RIG_DATA_0);
    rig_kick(rig, 0);
    assert_int_equal(rig->virtqueues[0].popped_total, 1);
}

static void a_ring_whose_base_nobody_said_begins_where_new_ones_do(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_share(rig), 0);
    assert_int_equal(rig_get_base(rig, 0), virtqueue_base_initial(layout));
    assert_int_equal(rig_ring_num(rig, 0), 0);
    assert_int_equal(rig_ring_set_address(rig, 0), 0);
    assert_int_equal(rig_ring_kick_line(rig, 0), 0);
    assert_int_equal(rig_ring_enable(rig, 0, true), 0);
    serves_one(rig, 0);
}

/* Five laps of the ring, stopped after each request: the wrap counters go along. */
static void a_ring_goes_on_at_the_base_it_told_wherever_it_stops(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    for (uint32_t served = 1; served <= 5 * RIG_RING_SIZE; served++) {
        serves_one(rig, 0);
        int64_t base = rig_get_base(rig, 0);
        assert_int_equal(base, rig_base_after(rig, served));
        if (served % 3 == 0) /* a front end that says nothing means the same */
            assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_BASE, 0, (uint32_t)base), 0);
        assert_int_equal(rig_ring_call_line(rig, 0), 0);
        assert_int_equal(rig_ring_kick_line(rig, 0), 0);
    }
}

/*
 * What a front end does for VIRTIO_F_RING_RESET (VIRTIO 1.3, 2.6.1): one ring stops, and comes back as a new one, of
 * another size and at another place, while the other ring runs on.
 */
static void one_ring_is_laid_anew_while_the_others_run_on(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    rig->hold = true;
    rig_offer(rig, 1, RIG_DATA_0);
    rig_kick(rig, 1);
    for (unsigned life = 1; life <= 4; life++) {
        rig->hold = false;
        for (unsigned i = 0; i < life * 3; i++)
            serves_one(rig, 0);
        assert_int_equal(rig_get_base(rig, 0), rig_base_after(rig, life * 3));
        rig->ring_size = 16u << life;
        rig_lay_ring(rig, 0);
        rig_move_ring(rig, 0, life * 0x4000);
        rig_start_ring(rig, 0);
        assert_int_equal(rig->virtqueues[0].config.size, 16u << life);
        assert_int_equal(rig->queues[1].held_count, 1);
    }
    for (unsigned i = 0; i < 3 * rig->ring_size; i++)
        serves_one(rig, 0);
    rig_complete(rig, 1, 1);
    assert_int_equal(rig_used(rig, 1), 1);
    serves_one(rig, 1);
}

/* Changes while a ring runs */

static void size_and_base_of_a_running_ring_cannot_change(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_NUM, 0, 8), 1);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_BASE, 0, 1), 1);
    assert_int_equal(rig->backend.refused_error, -EBUSY);
    serves_one(rig, 0);
}

static void a_running_ring_goes_on_at_other_addresses(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    serves_one(rig, 0);
    /* The same ring at another place, as a front end does that moves it. */
    rig_move_ring(rig, 0, 0x8000);
    rig_offer(rig, 0, RIG_DATA_0); /* there without a kick */
    assert_int_equal(rig_ring_set_address(rig, 0), 0);
    assert_true(rig_running(rig, 0));
    rig_run(rig);
    assert_int_equal(rig_used(rig, 0), 1);
    assert_int_equal(rig_share(rig), 0); /* stops it, and starts it where it is now */
    serves_one(rig, 0);
}

static void a_bad_address_leaves_a_running_ring_where_it_was(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    struct vhost_user_vring_address address = rig_ring_address(rig, 0);
    address.used = 4;
    assert_int_equal(rig_ack(rig, VHOST_USER_SET_VRING_ADDR, &address, sizeof(address), -1), 1);
    assert_true(rig_running(rig, 0));
    assert_int_equal(rig->queues[0].errors, 0);
    serves_one(rig, 0);
    assert_int_equal(rig_share(rig), 0); /* what is remembered is the good one */
    assert_true(rig_running(rig, 0));
}

static void a_new_kick_line_takes_the_place_of_the_old_and_loses_no_request(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    unsigned handles = rig_handles(rig);
    rig_offer(rig, 0, RIG_DATA_0); /* its kick went to the old line */
    assert_int_equal(rig_ring_kick_line(rig, 0), 0);
    rig_run(rig);
    assert_int_equal(rig_used(rig, 0), 1);
    assert_int_equal(rig_handles(rig), handles);
}

static void a_new_call_line_is_signalled_since_an_interrupt_may_be_lost(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    unsigned handles = rig_handles(rig);
    assert_int_equal(rig->queues[0].notified, 0);
    assert_int_equal(rig_ring_call_line(rig, 0), 0);
    assert_int_equal(rig->queues[0].notified, 1);
    assert_int_equal(rig_handles(rig), handles);
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_VRING_CALL, 0 | VHOST_USER_VRING_NO_FD, -1), 0);
    assert_int_equal(rig->queues[0].notified, 1);
    assert_int_equal(rig_handles(rig), handles - 1);
    serves_one(rig, 0);
}

static void a_disabled_ring_is_not_served_and_goes_on_where_it_was(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    serves_one(rig, 0);
    assert_int_equal(rig_ring_enable(rig, 0, false), 0);
    assert_false(rig_running(rig, 0));
    rig_offer(rig, 0, RIG_DATA_0);
    rig_kick(rig, 0);
    assert_int_equal(rig_used(rig, 0), 0);
    assert_int_equal(rig_ring_enable(rig, 0, true), 0);
    rig_run(rig);
    assert_int_equal(rig_used(rig, 0), 1);
    assert_int_equal(rig_get_base(rig, 0), rig_base_after(rig, 2));
}

static void disabling_waits_for_requests_in_flight_and_only_of_that_ring(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    rig->hold = true;
    rig_offer(rig, 0, RIG_DATA_0);
    rig_offer(rig, 1, RIG_DATA_0);
    rig_kick(rig, 0);
    rig_kick(rig, 1);
    assert_int_equal(rig_ring_enable(rig, 0, false), RIG_NO_ANSWER);
    assert_int_equal(rig->backend.wait, VHOST_USER_WAIT_RECONFIGURE);
    rig_complete(rig, 0, 1);
    assert_int_equal(rig_take_u64(rig, VHOST_USER_SET_VRING_ENABLE), 0);
    assert_true(rig_running(rig, 1));
    assert_int_equal(rig_used(rig, 0), 1);
    rig_complete(rig, 1, 1);
    assert_int_equal(rig_used(rig, 1), 1);
}

/* Stop */

static void the_base_of_a_ring_that_never_started_is_the_one_it_was_given(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_get_base(rig, 0), rig_base_after(rig, 0));
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_BASE, 0, rig_base_after(rig, 27)), 0);
    assert_int_equal(rig_get_base(rig, 0), rig_base_after(rig, 27));
}

static void get_vring_base_stops_the_ring_and_drops_kick_and_call(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    serves_one(rig, 0);
    serves_one(rig, 0);
    unsigned handles = rig_handles(rig);
    assert_int_equal(rig_get_base(rig, 0), rig_base_after(rig, 2));
    assert_false(rig_running(rig, 0));
    assert_true(rig_running(rig, 1));
    assert_int_equal(rig_handles(rig), handles - 2);
    assert_int_equal(rig->queues[0].lines[QUEUE_LINE_KICK], -1);
    assert_int_equal(rig->queues[0].lines[QUEUE_LINE_CALL], -1);
    /* QEMU sets this one only once. */
    assert_int_not_equal(rig->queues[0].lines[QUEUE_LINE_ERROR], -1);
    /* Stopped until the next kick line. */
    assert_int_equal(rig_ring_enable(rig, 0, true), 0);
    assert_false(rig_running(rig, 0));
    assert_int_equal(rig_get_base(rig, 0), rig_base_after(rig, 2));
    assert_int_equal(rig_ring_kick_line(rig, 0), 0);
    assert_true(rig_running(rig, 0));
    serves_one(rig, 0);
}

static void get_vring_base_is_answered_when_the_last_request_is_back(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    rig->hold = true;
    for (unsigned i = 0; i < 3; i++)
        rig_offer(rig, 0, RIG_DATA_0);
    rig_kick(rig, 0);
    assert_int_equal(rig->queues[0].held_count, 3);
    assert_int_equal(rig_get_base(rig, 0), RIG_NO_ANSWER);
    assert_true(vhost_user_backend_busy(&rig->backend));
    /* What comes now is for the next life. */
    rig_offer(rig, 0, RIG_DATA_0);
    rig_kick(rig, 0);
    rig_complete(rig, 0, 2);
    assert_int_equal(rig->reply_count, 0);
    rig_complete(rig, 0, 1);
    assert_false(vhost_user_backend_busy(&rig->backend));
    struct rig_reply reply;
    assert_true(rig_take(rig, &reply));
    assert_int_equal(reply.message.header.request, VHOST_USER_GET_VRING_BASE);
    assert_int_equal(reply.message.payload.state.index, 0);
    assert_int_equal(reply.message.payload.state.num, rig_base_after(rig, 3));
    assert_int_equal(rig_used(rig, 0), 3);
}

static void get_vring_base_is_answered_once_even_when_need_reply_is_set(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    const struct vhost_user_vring_state base = {.index = 1};
    assert_int_equal(rig_send(rig, VHOST_USER_GET_VRING_BASE, VHOST_USER_FLAG_NEED_REPLY, &base, sizeof(base), -1), 0);
    assert_int_equal(rig->reply_count, 1);
    assert_int_equal(rig->replies[0].message.header.size, sizeof(base));
}

static void a_broken_ring_does_not_come_back_by_itself(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    rig_break(rig, 0);
    assert_int_equal(rig_share(rig), 0); /* stops and starts all */
    assert_false(rig_running(rig, 0));
    assert_true(rig_running(rig, 1));
    assert_int_equal(rig_ring_enable(rig, 0, true), 0);
    assert_false(rig_running(rig, 0));
    assert_int_equal(rig_get_base(rig, 0), rig_base_after(rig, 0));
    rig_lay_ring(rig, 0);
    rig_start_ring(rig, 0);
    assert_true(rig_running(rig, 0));
    serves_one(rig, 0);
}

static void a_ring_that_broke_unnoticed_does_not_come_back_either(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    /* The table comes before the news from the queue's thread. */
    rig_offer_broken(rig, 0);
    assert_int_equal(virtio_device_run(&rig->device, 0, 1), VIRTIO_EVENT_NEEDS_RESET);
    assert_int_equal(rig_share(rig), 0);
    assert_false(rig_running(rig, 0));
    assert_true(rig_running(rig, 1));
}

static void late_news_of_a_broken_ring_do_not_count_against_its_next_life(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    vhost_user_backend_queue_broken(&rig->backend, 0);
    assert_int_equal(rig_share(rig), 0);
    assert_true(rig_running(rig, 0));
    assert_int_equal(rig_get_base(rig, 0), rig_base_after(rig, 0));
    vhost_user_backend_queue_broken(&rig->backend, 0);
    assert_int_equal(rig_ring_kick_line(rig, 0), 0);
    assert_true(rig_running(rig, 0));
}

static void a_broken_ring_can_be_stopped(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    rig_break(rig, 0);
    assert_int_equal(rig_get_base(rig, 0), rig_base_after(rig, 0));
    assert_int_equal(rig_get(rig, VHOST_USER_GET_STATUS) & 64, 64);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    layout = rig_layout(argc, argv);
    const struct CMUnitTest tests[] = {
        TEST(a_ring_starts_with_its_last_part_in_whatever_order_they_come),
        TEST(qemu_s_order_is_served),
        TEST(libblkio_s_order_is_served),
        TEST(without_protocol_features_a_ring_starts_enabled),
        TEST(requests_from_before_the_start_are_served_without_a_kick),
        TEST(a_kick_before_the_ring_is_set_up_does_nothing),
        TEST(a_ring_without_kick_line_is_polled),
        TEST(a_base_other_than_zero_is_where_a_ring_goes_on),
        TEST(a_ring_whose_base_nobody_said_begins_where_new_ones_do),
        TEST(a_ring_goes_on_at_the_base_it_told_wherever_it_stops),
        TEST(one_ring_is_laid_anew_while_the_others_run_on),
        TEST(size_and_base_of_a_running_ring_cannot_change),
        TEST(a_running_ring_goes_on_at_other_addresses),
        TEST(a_bad_address_leaves_a_running_ring_where_it_was),
        TEST(a_new_kick_line_takes_the_place_of_the_old_and_loses_no_request),
        TEST(a_new_call_line_is_signalled_since_an_interrupt_may_be_lost),
        TEST(a_disabled_ring_is_not_served_and_goes_on_where_it_was),
        TEST(disabling_waits_for_requests_in_flight_and_only_of_that_ring),
        TEST(the_base_of_a_ring_that_never_started_is_the_one_it_was_given),
        TEST(get_vring_base_stops_the_ring_and_drops_kick_and_call),
        TEST(get_vring_base_is_answered_when_the_last_request_is_back),
        TEST(get_vring_base_is_answered_once_even_when_need_reply_is_set),
        TEST(a_broken_ring_does_not_come_back_by_itself),
        TEST(a_ring_that_broke_unnoticed_does_not_come_back_either),
        TEST(late_news_of_a_broken_ring_do_not_count_against_its_next_life),
        TEST(a_broken_ring_can_be_stopped),
    };
    return cmocka_run_group_tests_name("backend_ring", tests, NULL, NULL);
}
