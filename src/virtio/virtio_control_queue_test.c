/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Queues: set-up, when they run, queue reset, pause, notifications (VIRTIO 1.3, 2.6, 3.1, 4.1.4.3, 4.2.2). */
#include "virtio/virtio_control_test_rig.h"

static const struct fake_backend_queue *fake_queue(const struct rig *rig, unsigned index)
{
    return &rig->fake.queues[index];
}

static void a_queue_runs_from_driver_ok_on_and_not_before_2_1_2(void **state)
{
    struct rig *rig = *state;

    rig_negotiate(rig, VIRTIO_F_VERSION_1);
    rig_enable(rig, 0, 64);
    assert_true(rig->queues[0].enabled);
    assert_int_equal(fake_queue(rig, 0)->starts, 0);
    virtio_control_queue_kick(&rig->control, 0);
    assert_int_equal(fake_queue(rig, 0)->kicks, 0);
    virtio_control_set_status(&rig->control, RIG_WORKING);
    assert_int_equal(fake_queue(rig, 0)->state, FAKE_RUNNING);
    assert_true(rig->live[0]);
    assert_int_equal(fake_queue(rig, 1)->starts, 0);
    virtio_control_queue_kick(&rig->control, 0);
    assert_int_equal(fake_queue(rig, 0)->kicks, 1);
}

static void the_back_end_gets_what_the_driver_wrote(void **state)
{
    struct rig *rig = *state;

    rig_work(rig);
    const struct virtqueue_config *config = &fake_queue(rig, 1)->config;
    assert_int_equal(config->size, 128);
    assert_int_equal(config->desc_address, 0x100020000);
    assert_int_equal(config->avail_address, 0x200040000);
    assert_int_equal(config->used_address, 0x300060000);
    assert_int_equal(config->features, VIRTIO_F_VERSION_1);
    assert_int_equal(config->base, 0);
}

static void a_packed_queue_begins_where_packed_rings_do_2_8_1(void **state)
{
    struct rig *rig = *state;

    rig_negotiate(rig, VIRTIO_F_VERSION_1 | VIRTIO_F_RING_PACKED);
    rig_enable(rig, 0, 100); /* no power of two: 2.8.10.1 allows it */
    virtio_control_set_status(&rig->control, RIG_WORKING);
    assert_int_equal(fake_queue(rig, 0)->config.base, virtqueue_base_initial(VIRTIO_F_RING_PACKED));
    assert_int_equal(fake_queue(rig, 0)->config.size, 100);
}

static void a_queue_enabled_after_driver_ok_runs_at_once(void **state)
{
    struct rig *rig = *state;

    rig_work(rig);
    rig_enable(rig, 2, 256);
    assert_int_equal(fake_queue(rig, 2)->state, FAKE_RUNNING);
}

static void enabling_twice_is_enabling_once(void **state)
{
    struct rig *rig = *state;

    rig_work(rig);
    virtio_control_queue_enable(&rig->control, 0);
    assert_int_equal(fake_queue(rig, 0)->starts, 1);
    assert_false(rig->control.status & VIRTIO_STATUS_NEEDS_RESET);
}

static void an_enabled_queue_keeps_size_and_addresses(void **state)
{
    struct rig *rig = *state;
    struct virtio_control_queue before;

    rig_work(rig);
    before = rig->queues[0];
    virtio_control_queue_set_size(&rig->control, 0, 32);
    for (int part = VIRTIO_CONTROL_DESC; part <= VIRTIO_CONTROL_DEVICE; part++) {
        virtio_control_queue_set_address(&rig->control, 0, (enum virtio_control_part)part, false, 7);
        virtio_control_queue_set_address(&rig->control, 0, (enum virtio_control_part)part, true, 7);
    }
    assert_memory_equal(&before, &rig->queues[0], sizeof(before));
}

static void a_size_that_no_queue_can_have_is_shown_as_0_and_breaks_when_enabled(void **state)
{
    struct rig *rig = *state;
    const uint32_t sizes[] = {0, 3, FAKE_BACKEND_SIZE_MAX + 1, 2 * FAKE_BACKEND_SIZE_MAX, UINT32_MAX};

    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        rig_negotiate(rig, VIRTIO_F_VERSION_1);
        rig_enable(rig, 0, sizes[i]);
        assert_int_equal(rig->queues[0].size, 0);
        assert_false(rig->queues[0].enabled);
        assert_true(rig->control.status & VIRTIO_STATUS_NEEDS_RESET);
        virtio_control_set_status(&rig->control, 0);
        assert_int_equal(rig->queues[0].size, FAKE_BACKEND_SIZE_MAX);
    }
    assert_int_equal(fake_queue(rig, 0)->starts, 0);
}

static void a_queue_that_cannot_be_started_breaks_the_device_once(void **state)
{
    struct rig *rig = *state;

    rig_negotiate(rig, VIRTIO_F_VERSION_1);
    rig_enable(rig, 0, 64);
    rig->fake.start_error = -EFAULT;
    virtio_control_set_status(&rig->control, RIG_WORKING);
    assert_int_equal(rig->control.status, RIG_WORKING | VIRTIO_STATUS_NEEDS_RESET);
    assert_int_equal(rig->config_interrupts, 1);
    assert_false(rig->live[0]);
    /* Nor is it tried behind the driver's back. */
    rig->fake.start_error = 0;
    assert_int_equal(virtio_control_pause(&rig->control), 0);
    virtio_control_resume(&rig->control);
    assert_int_equal(fake_queue(rig, 0)->starts, 0);
    virtio_control_set_status(&rig->control, 0);
    rig_work(rig);
    assert_int_equal(fake_queue(rig, 0)->state, FAKE_RUNNING);
}

static void queues_that_do_not_exist_are_ignored(void **state)
{
    struct rig *rig = *state;
    const uint32_t absent[] = {FAKE_BACKEND_QUEUES, 0xffff, 0x10000, UINT32_MAX};

    rig_work(rig);
    for (unsigned i = 0; i < ARRAY_SIZE(absent); i++) {
        assert_null(virtio_control_queue(&rig->control, absent[i]));
        virtio_control_queue_set_size(&rig->control, absent[i], 64);
        virtio_control_queue_set_address(&rig->control, absent[i], VIRTIO_CONTROL_DESC, false, 1);
        virtio_control_queue_enable(&rig->control, absent[i]);
        virtio_control_queue_kick(&rig->control, absent[i]);
        virtio_control_queue_reroute(&rig->control, absent[i]);
        virtio_control_queue_reset(&rig->control, absent[i]);
        virtio_control_queue_disable(&rig->control, absent[i]);
    }
    assert_int_equal(rig->control.status, RIG_WORKING);
    assert_int_equal(fake_queue(rig, 0)->kicks, 0);
}

static void a_queue_reset_waits_and_leaves_the_queue_as_new_2_6_1(void **state)
{
    struct rig *rig = *state;

    rig_work(rig);
    rig->fake.stops_later = true;
    virtio_control_queue_reset(&rig->control, 0);
    assert_true(rig->queues[0].ending);
    assert_true(rig->queues[0].enabled); /* 4.1.4.3.1: both show 0 when it is done */
    assert_false(rig->live[0]);
    assert_false(virtio_control_is_settled(&rig->control));
    virtio_control_queue_kick(&rig->control, 0);
    virtio_control_queue_enable(&rig->control, 0);
    assert_int_equal(fake_queue(rig, 0)->kicks, 0);
    fake_backend_finish_stop(&rig->fake, 0);
    assert_false(rig->queues[0].ending);
    assert_false(rig->queues[0].enabled);
    assert_int_equal(rig->queues[0].size, FAKE_BACKEND_SIZE_MAX);
    assert_int_equal(rig->queues[0].desc_address, 0);
    assert_int_equal(rig->owner.settled, 1);
    assert_int_equal(rig->queue_resets, 1);
    assert_int_equal(fake_queue(rig, 1)->state, FAKE_RUNNING);
}

static void a_queue_begins_anew_after_its_reset(void **state)
{
    struct rig *rig = *state;

    rig_work(rig);
    rig->fake.queues[0].base = 17;
    virtio_control_queue_reset(&rig->control, 0);
    rig_enable(rig, 0, 32);
    assert_int_equal(fake_queue(rig, 0)->config.base, 0);
    assert_int_equal(fake_queue(rig, 0)->config.size, 32);
    assert_int_equal(fake_queue(rig, 0)->starts, 2);
}

static void a_queue_that_is_not_enabled_can_be_reset_and_is_not_changed_by_disabling(void **state)
{
    struct rig *rig = *state;

    rig_negotiate(rig, VIRTIO_F_VERSION_1 | VIRTIO_F_RING_RESET);
    virtio_control_queue_set_size(&rig->control, 0, 32);
    virtio_control_queue_disable(&rig->control, 0);
    assert_int_equal(rig->queues[0].size, 32);
    virtio_control_queue_reset(&rig->control, 0);
    assert_int_equal(rig->queues[0].size, FAKE_BACKEND_SIZE_MAX);
    assert_true(virtio_control_is_settled(&rig->control));
}

static void a_device_reset_takes_over_a_queue_reset(void **state)
{
    struct rig *rig = *state;

    rig_work(rig);
    rig->fake.stops_later = true;
    virtio_control_queue_reset(&rig->control, 0);
    virtio_control_set_status(&rig->control, 0);
    fake_backend_finish_stop(&rig->fake, 0);
    assert_int_equal(rig->fake.resets, 0);
    fake_backend_finish_stop(&rig->fake, 1);
    assert_int_equal(rig->fake.resets, 1);
    assert_int_equal(rig->control.status, 0);
    assert_false(rig->queues[0].ending);
}

static void a_pause_stops_queues_and_resume_goes_on_where_they_were(void **state)
{
    struct rig *rig = *state;

    rig_work(rig);
    rig->fake.stops_later = true;
    assert_int_equal(virtio_control_pause(&rig->control), -EINPROGRESS);
    rig->fake.queues[0].base = 5;
    fake_backend_finish_stop(&rig->fake, 0);
    assert_int_equal(rig->owner.settled, 0);
    fake_backend_finish_stop(&rig->fake, 1);
    assert_int_equal(rig->owner.settled, 1);
    assert_true(rig->live[0]); /* kicks are collected */
    assert_int_equal(rig->control.status, RIG_WORKING);
    virtio_control_queue_kick(&rig->control, 0);
    assert_int_equal(fake_queue(rig, 0)->kicks, 0);
    virtio_control_resume(&rig->control);
    assert_int_equal(fake_queue(rig, 0)->state, FAKE_RUNNING);
    assert_int_equal(fake_queue(rig, 0)->config.base, 5);
    assert_int_equal(rig->queue_interrupts[0], 0);
}

static void a_resume_may_come_before_the_queues_have_stopped(void **state)
{
    struct rig *rig = *state;

    rig_work(rig);
    rig->fake.stops_later = true;
    virtio_control_pause(&rig->control);
    virtio_control_resume(&rig->control);
    assert_int_equal(fake_queue(rig, 0)->state, FAKE_STOPPING);
    fake_backend_finish_stop(&rig->fake, 0);
    assert_int_equal(fake_queue(rig, 0)->state, FAKE_RUNNING);
    fake_backend_finish_stop(&rig->fake, 1);
    assert_true(virtio_control_is_settled(&rig->control));
}

static void a_paused_device_can_be_reset_and_set_up_and_starts_with_resume(void **state)
{
    struct rig *rig = *state;

    rig_work(rig);
    assert_int_equal(virtio_control_pause(&rig->control), 0);
    virtio_control_set_status(&rig->control, 0);
    assert_int_equal(rig->control.status, 0);
    rig_work(rig);
    assert_int_equal(fake_queue(rig, 0)->starts, 1);
    virtio_control_resume(&rig->control);
    assert_int_equal(fake_queue(rig, 0)->starts, 2);
    assert_int_equal(fake_queue(rig, 0)->config.base, 0);
}

static void a_device_cut_off_from_memory_runs_no_queue(void **state)
{
    struct rig *rig = *state;

    virtio_control_cut_off(&rig->control, true);
    rig_work(rig);
    assert_int_equal(fake_queue(rig, 0)->starts, 0);
    virtio_control_cut_off(&rig->control, false);
    assert_int_equal(fake_queue(rig, 0)->state, FAKE_RUNNING);
    virtio_control_cut_off(&rig->control, true);
    assert_int_equal(fake_queue(rig, 0)->state, FAKE_STOPPED);
    assert_true(rig->live[0]);
}

static void a_queue_gets_the_handle_of_its_vector_and_another_when_that_changes(void **state)
{
    struct rig *rig = *state;

    rig->owner.gives_handles = true;
    rig_work(rig);
    assert_int_equal(fake_queue(rig, 1)->notify, FAKE_NOTIFY_HANDLE + 1);
    rig->vectors[1] = 9;
    virtio_control_queue_reroute(&rig->control, 1);
    assert_int_equal(fake_queue(rig, 1)->notify, FAKE_NOTIFY_HANDLE + 9);
    virtio_control_queue_reroute(&rig->control, 2); /* it does not run */
    assert_int_equal(fake_queue(rig, 2)->reroutes, 0);
    rig->fake.reroute_error = -EIO;
    virtio_control_queue_reroute(&rig->control, 1);
    assert_true(rig->control.status & VIRTIO_STATUS_NEEDS_RESET);
}

static void a_back_end_without_a_handle_interrupts_through_the_transport(void **state)
{
    struct rig *rig = *state;

    rig_work(rig);
    fake_backend_notify(&rig->fake, 1);
    assert_int_equal(rig->queue_interrupts[1], 1);
    assert_int_equal(rig->interrupts_here, 0); /* it is a queue's thread */
    rig->control.one_thread = true;
    fake_backend_notify(&rig->fake, 1);
    assert_int_equal(rig->interrupts_here, 1);
}

static void a_signal_counts_while_the_queue_is_one_even_when_paused(void **state)
{
    struct rig *rig = *state;

    virtio_control_queue_signalled(&rig->control, 0);
    assert_int_equal(rig->queue_interrupts[0], 0);
    rig_work(rig);
    virtio_control_queue_signalled(&rig->control, 0);
    virtio_control_pause(&rig->control);
    virtio_control_queue_signalled(&rig->control, 0);
    assert_int_equal(rig->queue_interrupts[0], 2);
    assert_int_equal(rig->interrupts_here, 2);
    virtio_control_set_status(&rig->control, 0);
    virtio_control_queue_signalled(&rig->control, 0); /* 2.4.1 */
    assert_int_equal(rig->queue_interrupts[0], 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define RIG_TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
#define RESET_TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup_ring_reset, rig_teardown)
        RIG_TEST(a_queue_runs_from_driver_ok_on_and_not_before_2_1_2),
        RIG_TEST(the_back_end_gets_what_the_driver_wrote),
        RIG_TEST(a_packed_queue_begins_where_packed_rings_do_2_8_1),
        RIG_TEST(a_queue_enabled_after_driver_ok_runs_at_once),
        RIG_TEST(enabling_twice_is_enabling_once),
        RIG_TEST(an_enabled_queue_keeps_size_and_addresses),
        RIG_TEST(a_size_that_no_queue_can_have_is_shown_as_0_and_breaks_when_enabled),
        RIG_TEST(a_queue_that_cannot_be_started_breaks_the_device_once),
        RIG_TEST(queues_that_do_not_exist_are_ignored),
        RESET_TEST(a_queue_reset_waits_and_leaves_the_queue_as_new_2_6_1),
        RESET_TEST(a_queue_begins_anew_after_its_reset),
        RESET_TEST(a_queue_that_is_not_enabled_can_be_reset_and_is_not_changed_by_disabling),
        RESET_TEST(a_device_reset_takes_over_a_queue_reset),
        RIG_TEST(a_pause_stops_queues_and_resume_goes_on_where_they_were),
        RIG_TEST(a_resume_may_come_before_the_queues_have_stopped),
        RIG_TEST(a_paused_device_can_be_reset_and_set_up_and_starts_with_resume),
        RIG_TEST(a_device_cut_off_from_memory_runs_no_queue),
        RIG_TEST(a_queue_gets_the_handle_of_its_vector_and_another_when_that_changes),
        RIG_TEST(a_back_end_without_a_handle_interrupts_through_the_transport),
        RIG_TEST(a_signal_counts_while_the_queue_is_one_even_when_paused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
