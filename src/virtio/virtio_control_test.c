/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Status, features, the configuration space, resets of the device (VIRTIO 1.3, 2.1 to 2.5, 3.1). */
#include "virtio/virtio_control_test_rig.h"

static uint8_t status(const struct rig *rig)
{
    return rig->control.status;
}

static void a_new_device_has_status_0_and_a_reset_brings_it_back(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(status(rig), 0);
    rig_work(rig);
    assert_int_equal(status(rig), RIG_WORKING);
    virtio_control_set_status(&rig->control, 0);
    assert_int_equal(status(rig), 0);
    assert_int_equal(rig->fake.resets, 1);
    assert_int_equal(rig->resets, 1);
    assert_int_equal(virtio_control_driver_features(&rig->control, 1), 0);
}

static void a_driver_cannot_clear_a_status_bit_2_1_1(void **state)
{
    struct rig *rig = *state;

    rig_work(rig);
    virtio_control_set_status(&rig->control, VIRTIO_STATUS_ACKNOWLEDGE);
    assert_int_equal(status(rig), RIG_WORKING);
    assert_int_equal(rig->fake.queues[0].state, FAKE_RUNNING);
}

static void a_driver_cannot_set_bits_that_are_the_devices_or_nobodys(void **state)
{
    struct rig *rig = *state;

    virtio_control_set_status(&rig->control, VIRTIO_STATUS_NEEDS_RESET | 0x30 | VIRTIO_STATUS_ACKNOWLEDGE);
    assert_int_equal(status(rig), VIRTIO_STATUS_ACKNOWLEDGE);
    virtio_control_set_status(&rig->control, 0x30);
    assert_int_equal(status(rig), VIRTIO_STATUS_ACKNOWLEDGE);
}

static void features_ok_stays_clear_without_version_1(void **state)
{
    struct rig *rig = *state;

    rig_negotiate(rig, VIRTIO_F_EVENT_IDX);
    assert_int_equal(status(rig), VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER);
    assert_false(rig->fake.features_set);
}

static void features_ok_stays_clear_for_what_was_not_offered_2_2_1(void **state)
{
    struct rig *rig = *state;

    rig_negotiate(rig, VIRTIO_F_VERSION_1 | 2);
    assert_false(status(rig) & VIRTIO_STATUS_FEATURES_OK);
    /* A driver may think again. */
    virtio_control_set_driver_features(&rig->control, 0, 1);
    virtio_control_set_status(&rig->control, RIG_READY);
    assert_int_equal(status(rig), RIG_READY);
    assert_int_equal(rig->fake.features, VIRTIO_F_VERSION_1 | 1);
}

static void features_ok_stays_clear_when_the_back_end_refuses(void **state)
{
    struct rig *rig = *state;

    rig->fake.features_error = -EINVAL;
    rig_negotiate(rig, VIRTIO_F_VERSION_1);
    assert_false(status(rig) & VIRTIO_STATUS_FEATURES_OK);
}

static void features_ok_stays_clear_without_what_the_owner_requires(void **state)
{
    struct rig *rig = *state;

    rig_make(rig, VIRTIO_F_ACCESS_PLATFORM, 0, VIRTIO_F_ACCESS_PLATFORM);
    rig_negotiate(rig, VIRTIO_F_VERSION_1);
    assert_false(status(rig) & VIRTIO_STATUS_FEATURES_OK);
    rig_negotiate(rig, VIRTIO_F_VERSION_1 | VIRTIO_F_ACCESS_PLATFORM);
    assert_true(status(rig) & VIRTIO_STATUS_FEATURES_OK);
    assert_int_equal(rig->fake.features, VIRTIO_F_VERSION_1); /* the bit is not the back end's */
}

static void transport_bits_are_the_owners_and_no_back_ends(void **state)
{
    struct rig *rig = *state;
    uint64_t transport = VIRTIO_F_NOTIFICATION_DATA | VIRTIO_F_NOTIF_CONFIG_DATA | VIRTIO_F_RING_RESET |
                         VIRTIO_F_SR_IOV | VIRTIO_F_ADMIN_VQ;

    rig->fake.offers |= transport;
    assert_int_equal(virtio_control_features(&rig->control) & transport, 0);
    rig_make(rig, VIRTIO_F_RING_RESET, VIRTIO_F_RING_PACKED, 0);
    assert_int_equal(virtio_control_features(&rig->control) & transport, VIRTIO_F_RING_RESET);
    assert_int_equal(virtio_control_features(&rig->control) & VIRTIO_F_RING_PACKED, 0);
}

static void features_are_shown_in_words_and_zeros_behind(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(virtio_control_device_features(&rig->control, 0), (uint32_t)rig->fake.offers);
    assert_int_equal(virtio_control_device_features(&rig->control, 1), rig->fake.offers >> 32);
    assert_int_equal(virtio_control_device_features(&rig->control, 2), 0);
    assert_int_equal(virtio_control_device_features(&rig->control, UINT32_MAX), 0);
    virtio_control_set_driver_features(&rig->control, 2, 7);
    virtio_control_set_driver_features(&rig->control, UINT32_MAX, 7);
    assert_int_equal(rig->control.driver_features, 0);
}

static void features_are_fixed_once_features_ok_is_set(void **state)
{
    struct rig *rig = *state;

    rig_negotiate(rig, VIRTIO_F_VERSION_1);
    virtio_control_set_driver_features(&rig->control, 0, 1);
    assert_int_equal(virtio_control_driver_features(&rig->control, 0), 0);
    assert_false(virtio_control_has(&rig->control, 1));
}

static void nothing_counts_as_negotiated_before_features_ok(void **state)
{
    struct rig *rig = *state;

    virtio_control_set_driver_features(&rig->control, 1, (uint32_t)(VIRTIO_F_VERSION_1 >> 32));
    assert_false(virtio_control_has(&rig->control, VIRTIO_F_VERSION_1));
}

static void driver_ok_without_features_ok_is_ignored_3_1_1(void **state)
{
    struct rig *rig = *state;

    rig_enable(rig, 0, 64);
    virtio_control_set_status(&rig->control, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER_OK);
    assert_int_equal(status(rig), VIRTIO_STATUS_ACKNOWLEDGE);
    assert_int_equal(rig->fake.queues[0].starts, 0);
}

static void driver_ok_falls_with_features_that_are_refused_in_the_same_write(void **state)
{
    struct rig *rig = *state;

    virtio_control_set_status(&rig->control, RIG_WORKING);
    assert_int_equal(status(rig), VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER);
}

static void a_driver_that_has_failed_is_served_no_more_until_a_reset(void **state)
{
    struct rig *rig = *state;

    rig_work(rig);
    virtio_control_set_status(&rig->control, RIG_WORKING | VIRTIO_STATUS_FAILED);
    assert_int_equal(rig->fake.queues[0].state, FAKE_STOPPED);
    assert_false(rig->live[0]);
    rig_enable(rig, 2, 64);
    assert_int_equal(rig->fake.queues[2].starts, 0);
    virtio_control_set_status(&rig->control, 0);
    rig_work(rig);
    assert_int_equal(rig->fake.queues[0].state, FAKE_RUNNING);
}

static void the_back_end_hears_of_each_status(void **state)
{
    struct rig *rig = *state;

    rig_work(rig);
    assert_int_equal(rig->fake.status, RIG_WORKING);
    virtio_control_set_status(&rig->control, RIG_WORKING | VIRTIO_STATUS_FAILED);
    assert_int_equal(rig->fake.status, RIG_WORKING | VIRTIO_STATUS_FAILED);
}

static void a_broken_device_interrupts_once_after_driver_ok_2_1_2(void **state)
{
    struct rig *rig = *state;

    rig_negotiate(rig, VIRTIO_F_VERSION_1);
    fake_backend_break(&rig->fake);
    assert_true(status(rig) & VIRTIO_STATUS_NEEDS_RESET);
    assert_int_equal(rig->config_interrupts, 0);
    virtio_control_set_status(&rig->control, 0);
    assert_int_equal(status(rig), 0);

    rig_work(rig);
    fake_backend_break(&rig->fake);
    fake_backend_break(&rig->fake);
    assert_int_equal(status(rig), RIG_WORKING | VIRTIO_STATUS_NEEDS_RESET);
    assert_int_equal(rig->config_interrupts, 1);
}

static void a_reset_waits_for_every_queue_and_then_for_the_back_end(void **state)
{
    struct rig *rig = *state;

    rig_work(rig);
    rig->fake.stops_later = true;
    rig->fake.resets_later = true;
    virtio_control_set_status(&rig->control, 0);
    assert_int_equal(status(rig), RIG_WORKING); /* 2.4: 0 says that it is done */
    assert_false(virtio_control_is_settled(&rig->control));
    fake_backend_finish_stop(&rig->fake, 1);
    assert_int_equal(rig->fake.resets, 0);
    fake_backend_finish_stop(&rig->fake, 0);
    assert_int_equal(rig->fake.resets, 1);
    assert_int_equal(status(rig), RIG_WORKING);
    assert_int_equal(rig->owner.settled, 0);
    fake_backend_finish_reset(&rig->fake);
    assert_int_equal(status(rig), 0);
    assert_true(virtio_control_is_settled(&rig->control));
    assert_int_equal(rig->owner.settled, 1);
}

static void a_reset_in_a_reset_is_the_same_one(void **state)
{
    struct rig *rig = *state;

    rig_work(rig);
    rig->fake.resets_later = true;
    virtio_control_set_status(&rig->control, 0);
    virtio_control_set_status(&rig->control, 0);
    assert_int_equal(virtio_control_reset(&rig->control), -EINPROGRESS);
    assert_int_equal(rig->fake.resets, 1);
    fake_backend_finish_reset(&rig->fake);
    assert_int_equal(status(rig), 0);
    assert_int_equal(rig->control.resets_total, 1);
}

static void what_a_driver_does_during_a_reset_is_ignored(void **state)
{
    struct rig *rig = *state;

    rig_work(rig);
    rig->fake.resets_later = true;
    virtio_control_set_status(&rig->control, 0);
    virtio_control_set_status(&rig->control, RIG_WORKING | VIRTIO_STATUS_FAILED);
    virtio_control_set_driver_features(&rig->control, 0, 1);
    virtio_control_queue_set_size(&rig->control, 2, 16);
    virtio_control_queue_set_address(&rig->control, 2, VIRTIO_CONTROL_DESC, false, 0x1000);
    virtio_control_queue_enable(&rig->control, 2);
    virtio_control_queue_reset(&rig->control, 0);
    virtio_control_queue_kick(&rig->control, 0);
    virtio_control_config_write(&rig->control, 0, "x", 1);
    fake_backend_break(&rig->fake);
    fake_backend_finish_reset(&rig->fake);
    assert_int_equal(status(rig), 0);
    assert_int_equal(rig->control.driver_features, 0);
    assert_int_equal(rig->queues[2].size, FAKE_BACKEND_SIZE_MAX);
    assert_int_equal(rig->queues[2].desc_address, 0);
    assert_false(rig->queues[2].enabled);
    assert_int_equal(rig->fake.queues[0].kicks, 0);
    assert_int_equal(rig->fake.config_writes, 0);
}

static void the_configuration_space_can_be_read_before_features_ok_2_5(void **state)
{
    struct rig *rig = *state;
    uint8_t bytes[4];

    virtio_control_config_read(&rig->control, 4, bytes, sizeof(bytes));
    assert_memory_equal(bytes, rig->fake.config + 4, 4);
}

static void what_lies_beyond_the_configuration_space_reads_0_and_is_not_written(void **state)
{
    struct rig *rig = *state;
    uint8_t bytes[4];

    virtio_control_config_read(&rig->control, FAKE_BACKEND_CONFIG_BYTES - 2, bytes, sizeof(bytes));
    assert_int_equal(bytes[1], rig->fake.config[FAKE_BACKEND_CONFIG_BYTES - 1]);
    assert_int_equal(bytes[2], 0);
    virtio_control_config_read(&rig->control, UINT64_MAX, bytes, sizeof(bytes));
    assert_int_equal(bytes[0], 0);
    virtio_control_config_write(&rig->control, FAKE_BACKEND_CONFIG_BYTES - 1, "xy", 2);
    virtio_control_config_write(&rig->control, UINT64_MAX, "xy", 2);
    assert_int_equal(rig->fake.config_writes, 0);
    virtio_control_config_write(&rig->control, 6, "xy", 2);
    assert_int_equal(rig->fake.config_writes, 1);
    virtio_control_config_write(&rig->control, 8, "x", 1); /* not a field to write */
    assert_int_equal(rig->fake.config[8], 0x18);
}

static void the_generation_changes_when_a_driver_reads_what_has_changed_4_1_4_3_1(void **state)
{
    struct rig *rig = *state;
    uint32_t before = virtio_control_config_generation(&rig->control);
    uint8_t byte;

    virtio_control_config_read(&rig->control, 0, &byte, 1);
    assert_int_equal(virtio_control_config_generation(&rig->control), before);
    /* So often that 8 bits would come round. */
    for (unsigned i = 0; i < 256; i++)
        fake_backend_change_config(&rig->fake, 1, (uint8_t)i);
    virtio_control_config_read(&rig->control, 1, &byte, 1);
    uint32_t after = virtio_control_config_generation(&rig->control);
    assert_int_not_equal((uint8_t)after, (uint8_t)before);
    virtio_control_config_read(&rig->control, 1, &byte, 1);
    assert_int_equal(virtio_control_config_generation(&rig->control), after);
}

static void a_change_of_the_configuration_interrupts_a_driver_and_nobody_else(void **state)
{
    struct rig *rig = *state;

    fake_backend_change_config(&rig->fake, 1, 1);
    assert_int_equal(rig->config_interrupts, 0);
    rig_work(rig);
    fake_backend_change_config(&rig->fake, 1, 2);
    assert_int_equal(rig->config_interrupts, 1);
    rig->fake.resets_later = true;
    virtio_control_set_status(&rig->control, 0);
    fake_backend_change_config(&rig->fake, 1, 3);
    assert_int_equal(rig->config_interrupts, 1);
    fake_backend_finish_reset(&rig->fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define RIG_TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
        RIG_TEST(a_new_device_has_status_0_and_a_reset_brings_it_back),
        RIG_TEST(a_driver_cannot_clear_a_status_bit_2_1_1),
        RIG_TEST(a_driver_cannot_set_bits_that_are_the_devices_or_nobodys),
        RIG_TEST(features_ok_stays_clear_without_version_1),
        RIG_TEST(features_ok_stays_clear_for_what_was_not_offered_2_2_1),
        RIG_TEST(features_ok_stays_clear_when_the_back_end_refuses),
        RIG_TEST(features_ok_stays_clear_without_what_the_owner_requires),
        RIG_TEST(transport_bits_are_the_owners_and_no_back_ends),
        RIG_TEST(features_are_shown_in_words_and_zeros_behind),
        RIG_TEST(features_are_fixed_once_features_ok_is_set),
        RIG_TEST(nothing_counts_as_negotiated_before_features_ok),
        RIG_TEST(driver_ok_without_features_ok_is_ignored_3_1_1),
        RIG_TEST(driver_ok_falls_with_features_that_are_refused_in_the_same_write),
        RIG_TEST(a_driver_that_has_failed_is_served_no_more_until_a_reset),
        RIG_TEST(the_back_end_hears_of_each_status),
        RIG_TEST(a_broken_device_interrupts_once_after_driver_ok_2_1_2),
        RIG_TEST(a_reset_waits_for_every_queue_and_then_for_the_back_end),
        RIG_TEST(a_reset_in_a_reset_is_the_same_one),
        RIG_TEST(what_a_driver_does_during_a_reset_is_ignored),
        RIG_TEST(the_configuration_space_can_be_read_before_features_ok_2_5),
        RIG_TEST(what_lies_beyond_the_configuration_space_reads_0_and_is_not_written),
        RIG_TEST(the_generation_changes_when_a_driver_reads_what_has_changed_4_1_4_3_1),
        RIG_TEST(a_change_of_the_configuration_interrupts_a_driver_and_nobody_else),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
