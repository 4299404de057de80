/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The registers of virtio-mmio (VIRTIO 1.3, 4.2), one test a clause or a lie. */
#include "transports/virtio_mmio/virtio_mmio_test_rig.h"

static void the_registers_say_what_it_is_4_2_2_1(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(rig_read(rig, 0x000), 0x74726976);
    assert_int_equal(rig_read(rig, 0x004), 2);
    assert_int_equal(rig_read(rig, 0x008), VIRTIO_ID_BLOCK);
    assert_int_not_equal(rig_read(rig, 0x00c), 0);
    assert_int_equal(rig_read(rig, 0x070), 0);
    assert_int_equal(rig_read(rig, 0x060), 0);
}

static void features_are_negotiated_word_by_word(void **state)
{
    struct rig *rig = *state;
    uint64_t added = VIRTIO_F_NOTIFICATION_DATA | VIRTIO_F_RING_RESET; /* NOTIF_CONFIG_DATA is for PCI */

    assert_int_equal(transport_driver_offered(&rig->driver), rig->fake.offers | added);
    rig_write(rig, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
    assert_int_equal(rig_read(rig, VIRTIO_MMIO_DEVICE_FEATURES), 0);
    assert_true(transport_driver_negotiate(&rig->driver, VIRTIO_F_VERSION_1 | VIRTIO_F_RING_RESET | 1));
    assert_int_equal(rig->fake.features, VIRTIO_F_VERSION_1 | 1);
    assert_false(transport_driver_negotiate(&rig->driver, 1));
}

static void a_driver_sets_up_queues_and_they_run(void **state)
{
    struct rig *rig = *state;

    rig_work(rig, 0);
    const struct virtqueue_config *config = &rig->fake.queues[1].config;
    assert_int_equal(config->size, 64);
    assert_int_equal(config->desc_address, rig->ring.desc_address);
    assert_int_equal(config->avail_address, rig->ring.avail_address);
    assert_int_equal(config->used_address, rig->ring.used_address);
    assert_int_equal(rig->fake.queues[2].starts, 0);
}

static void a_queue_that_is_not_there_has_size_0_and_is_never_ready(void **state)
{
    struct rig *rig = *state;

    rig_work(rig, VIRTIO_F_RING_RESET);
    rig_write(rig, VIRTIO_MMIO_QUEUE_SEL, FAKE_BACKEND_QUEUES);
    assert_int_equal(rig_read(rig, VIRTIO_MMIO_QUEUE_SIZE_MAX), 0);
    rig_write(rig, VIRTIO_MMIO_QUEUE_SIZE, 64);
    rig_write(rig, VIRTIO_MMIO_QUEUE_READY, 1);
    rig_write(rig, VIRTIO_MMIO_QUEUE_RESET, 1);
    assert_int_equal(rig_read(rig, VIRTIO_MMIO_QUEUE_READY), 0);
    assert_int_equal(rig_read(rig, VIRTIO_MMIO_QUEUE_RESET), 0);
    rig_write(rig, VIRTIO_MMIO_QUEUE_SEL, UINT32_MAX);
    assert_int_equal(rig_read(rig, VIRTIO_MMIO_QUEUE_SIZE_MAX), 0);
    rig_write(rig, VIRTIO_MMIO_QUEUE_SEL, 0x10000); /* not queue 0 */
    assert_int_equal(rig_read(rig, VIRTIO_MMIO_QUEUE_SIZE_MAX), 0);
    assert_int_equal(rig_read(rig, VIRTIO_MMIO_STATUS), RIG_WORKING);
}

static void a_running_queue_keeps_what_it_has_4_2_2_2(void **state)
{
    struct rig *rig = *state;

    rig_work(rig, 0);
    rig_write(rig, VIRTIO_MMIO_QUEUE_SEL, 0);
    struct virtio_control_queue before = rig->queues[0];
    for (uint32_t offset = VIRTIO_MMIO_QUEUE_DESC_LOW; offset <= VIRTIO_MMIO_QUEUE_DEVICE_HIGH; offset += 4)
        rig_write(rig, offset, 0x41414141);
    rig_write(rig, VIRTIO_MMIO_QUEUE_SIZE, 32);
    rig_write(rig, VIRTIO_MMIO_QUEUE_READY, 1);
    rig_write(rig, VIRTIO_MMIO_QUEUE_READY, 2); /* neither 0 nor 1 */
    assert_memory_equal(&before, &rig->queues[0], sizeof(before));
    assert_int_equal(rig->fake.queues[0].starts, 1);
}

static void registers_answer_aligned_accesses_of_32_bits_and_no_others_4_2_2_2(void **state)
{
    struct rig *rig = *state;

    for (unsigned size = 1; size <= 8; size *= 2) {
        if (size == 4)
            continue;
        assert_int_equal(transport_driver_read(&rig->driver, RIG_BASE, size), 0);
        transport_driver_write(&rig->driver, RIG_BASE + VIRTIO_MMIO_STATUS, size, VIRTIO_STATUS_ACKNOWLEDGE);
    }
    for (unsigned offset = 1; offset < 4; offset++) {
        assert_int_equal(transport_driver_read(&rig->driver, RIG_BASE + offset, 4), 0);
        transport_driver_write(&rig->driver, RIG_BASE + VIRTIO_MMIO_STATUS + offset, 4, VIRTIO_STATUS_ACKNOWLEDGE);
    }
    assert_int_equal(rig_read(rig, VIRTIO_MMIO_STATUS), 0);
}

static void what_is_only_written_reads_0_and_what_is_only_read_is_not_written(void **state)
{
    struct rig *rig = *state;

    rig_work(rig, 0);
    for (uint32_t offset = 0; offset < VIRTIO_MMIO_CONFIG; offset += 4) {
        if (offset == VIRTIO_MMIO_STATUS || offset == VIRTIO_MMIO_QUEUE_READY || offset == VIRTIO_MMIO_QUEUE_NOTIFY)
            continue;
        uint32_t before = rig_read(rig, offset);
        rig_write(rig, VIRTIO_MMIO_QUEUE_SEL, 0);
        rig_write(rig, offset, 0);
        assert_int_equal(rig_read(rig, offset),
                         offset == VIRTIO_MMIO_DEVICE_FEATURES ? (uint32_t)rig->fake.offers : before);
    }
    assert_int_equal(rig_read(rig, VIRTIO_MMIO_QUEUE_SEL), 0);
    assert_int_equal(rig_read(rig, VIRTIO_MMIO_STATUS), RIG_WORKING);
}

static void a_status_of_more_than_8_bits_is_none(void **state)
{
    struct rig *rig = *state;

    rig_work(rig, 0);
    rig_write(rig, VIRTIO_MMIO_STATUS, 0x100); /* no reset */
    assert_int_equal(rig_read(rig, VIRTIO_MMIO_STATUS), RIG_WORKING);
    assert_int_equal(rig->fake.resets, 1);
}

static void the_configuration_space_is_read_and_written_in_any_width(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(transport_driver_read(&rig->driver, rig->driver.config + 3, 1), 0x13);
    assert_int_equal(transport_driver_read(&rig->driver, rig->driver.config + 8, 8), 0x1f1e1d1c1b1a1918);
    transport_driver_write(&rig->driver, rig->driver.config + 2, 2, 0xbeef);
    assert_int_equal(transport_driver_read(&rig->driver, rig->driver.config, 8), 0x17161514beef1110);
    /* What is not there, up to the device's last byte. */
    transport_driver_write(&rig->driver, rig->driver.config + FAKE_BACKEND_CONFIG_BYTES, 4, 1);
    assert_int_equal(transport_driver_read(&rig->driver, rig->driver.config + FAKE_BACKEND_CONFIG_BYTES, 4), 0);
    assert_int_equal(transport_driver_read(&rig->driver, RIG_BASE + VIRTIO_MMIO_BYTES - 8, 8), 0);
    assert_int_equal(rig->fake.config_writes, 1);
}

static void the_generation_shows_that_the_configuration_has_changed_4_2_2_1(void **state)
{
    struct rig *rig = *state;
    uint32_t before = transport_driver_get(&rig->driver, TRANSPORT_GENERATION);

    assert_int_equal(transport_driver_get(&rig->driver, TRANSPORT_GENERATION), before);
    fake_backend_change_config(&rig->fake, 9, 1);
    assert_int_not_equal(transport_driver_get(&rig->driver, TRANSPORT_GENERATION), before);
}

static void a_reset_clears_everything_a_driver_has_written_4_2_2_1(void **state)
{
    struct rig *rig = *state;

    rig_work(rig, 0);
    fake_backend_notify(&rig->fake, 0);
    rig_write(rig, VIRTIO_MMIO_QUEUE_SEL, 1);
    rig_write(rig, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    transport_driver_reset(&rig->driver);
    assert_true(transport_driver_is_reset(&rig->driver));
    assert_int_equal(rig->driver.later, 0);
    assert_int_equal(rig_read(rig, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    assert_int_equal(rig->mmio.queue_select, 0);
    assert_int_equal(rig->mmio.device_features_select, 0);
    for (uint32_t i = 0; i < FAKE_BACKEND_QUEUES; i++) {
        rig_write(rig, VIRTIO_MMIO_QUEUE_SEL, i);
        assert_int_equal(rig_read(rig, VIRTIO_MMIO_QUEUE_READY), 0);
    }
    assert_int_equal(rig->port.bound, 0);
}

static void a_reset_that_waits_keeps_the_processor_until_it_is_done(void **state)
{
    struct rig *rig = *state;

    rig_work(rig, 0);
    rig->fake.stops_later = true;
    transport_driver_reset(&rig->driver);
    assert_int_equal(rig->driver.later, 1);
    assert_true(bus_device_busy(&rig->mmio.device));
    assert_int_equal(rig_read(rig, VIRTIO_MMIO_STATUS), RIG_WORKING); /* another processor looks */
    fake_backend_finish_stop(&rig->fake, 0);
    fake_backend_finish_stop(&rig->fake, 1);
    assert_false(bus_device_busy(&rig->mmio.device));
    assert_int_equal(rig->owner.settled, 1);
    assert_true(transport_driver_is_reset(&rig->driver));
}

static void a_queue_that_is_taken_away_is_so_when_the_write_is_done_4_2_2_2(void **state)
{
    struct rig *rig = *state;

    rig_work(rig, 0);
    rig->fake.stops_later = true;
    rig_write(rig, VIRTIO_MMIO_QUEUE_SEL, 1);
    rig_write(rig, VIRTIO_MMIO_QUEUE_READY, 0);
    assert_int_equal(rig->driver.later, 1);
    assert_int_equal(rig_read(rig, VIRTIO_MMIO_QUEUE_READY), 1);
    assert_int_equal(rig_read(rig, VIRTIO_MMIO_QUEUE_RESET), 0); /* RING_RESET was not negotiated */
    fake_backend_finish_stop(&rig->fake, 1);
    assert_false(bus_device_busy(&rig->mmio.device));
    assert_int_equal(rig_read(rig, VIRTIO_MMIO_QUEUE_READY), 0);
    assert_true(transport_driver_set_up(&rig->driver, 1, &rig->ring));
    assert_int_equal(rig->fake.queues[1].starts, 2);
}

static void a_queue_reset_shows_1_until_it_is_done_4_2_2_1(void **state)
{
    struct rig *rig = *state;

    rig_work(rig, VIRTIO_F_RING_RESET);
    rig->fake.stops_later = true;
    rig_write(rig, VIRTIO_MMIO_QUEUE_SEL, 0);
    rig_write(rig, VIRTIO_MMIO_QUEUE_RESET, 2); /* not 1 */
    assert_int_equal(rig->fake.queues[0].stops, 0);
    rig_write(rig, VIRTIO_MMIO_QUEUE_RESET, 1);
    assert_int_equal(rig->driver.later, 0);
    assert_int_equal(rig_read(rig, VIRTIO_MMIO_QUEUE_RESET), 1);
    fake_backend_finish_stop(&rig->fake, 0);
    assert_int_equal(rig_read(rig, VIRTIO_MMIO_QUEUE_RESET), 0);
    assert_int_equal(rig_read(rig, VIRTIO_MMIO_QUEUE_READY), 0);
    assert_true(transport_driver_set_up(&rig->driver, 0, &rig->ring));
    assert_int_equal(rig_read(rig, VIRTIO_MMIO_QUEUE_RESET), 0);
}

static void a_queue_reset_that_was_not_negotiated_is_none(void **state)
{
    struct rig *rig = *state;

    rig_work(rig, 0);
    rig_write(rig, VIRTIO_MMIO_QUEUE_SEL, 0);
    rig_write(rig, VIRTIO_MMIO_QUEUE_RESET, 1);
    assert_int_equal(rig->fake.queues[0].stops, 0);
}

static void a_kick_is_a_write_of_the_queues_index_4_2_3_3(void **state)
{
    struct rig *rig = *state;

    rig_work(rig, 0);
    transport_driver_kick(&rig->driver, 1, &rig->ring);
    assert_int_equal(rig->fake.queues[1].kicks, 1);
    rig_write(rig, VIRTIO_MMIO_QUEUE_NOTIFY, 2); /* not enabled */
    rig_write(rig, VIRTIO_MMIO_QUEUE_NOTIFY, FAKE_BACKEND_QUEUES);
    rig_write(rig, VIRTIO_MMIO_QUEUE_NOTIFY, 0x10001); /* an index has 16 bits, and no more */
    assert_int_equal(rig->fake.queues[1].kicks, 1);
    assert_int_equal(rig->fake.queues[2].kicks, 0);
}

static void a_kick_with_data_has_the_index_in_its_lower_half_4_2_3_3(void **state)
{
    struct rig *rig = *state;

    rig_work(rig, VIRTIO_F_NOTIFICATION_DATA);
    assert_int_equal(rig->port.bound, 0); /* the value differs each time */
    rig->ring.next_avail = 0x8123;
    transport_driver_kick(&rig->driver, 1, &rig->ring);
    assert_int_equal(rig->fake.queues[1].kicks, 1);
}

static void each_running_queue_has_a_doorbell_by_value(void **state)
{
    struct rig *rig = *state;

    assert_true(transport_driver_negotiate(&rig->driver, VIRTIO_F_VERSION_1));
    assert_true(transport_driver_set_up(&rig->driver, 1, &rig->ring));
    assert_int_equal(rig->port.bound, 0); /* 3.1.1: there is no kick before DRIVER_OK */
    transport_driver_add_status(&rig->driver, VIRTIO_STATUS_DRIVER_OK);
    assert_int_equal(rig->port.bound, 1);
    assert_int_equal(rig->port.last_address, RIG_BASE + 0x50);
    assert_int_equal(rig->port.last_size, 4);
    assert_int_equal(rig->port.last_value, 1);
    assert_int_equal(rig->port.last_handle, FAKE_KICK_HANDLE + 1);
    rig_write(rig, VIRTIO_MMIO_QUEUE_SEL, 1);
    rig_write(rig, VIRTIO_MMIO_QUEUE_READY, 0);
    assert_int_equal(rig->port.bound, 0);
}

static void a_port_without_room_and_a_back_end_without_handles_leave_exits(void **state)
{
    struct rig *rig = *state;

    rig->port.room = 0;
    rig_work(rig, 0);
    transport_driver_kick(&rig->driver, 0, &rig->ring);
    assert_int_equal(rig->fake.queues[0].kicks, 1);
    transport_driver_reset(&rig->driver);
    rig->port.room = 3;
    rig->fake.has_kick_handles = false;
    rig_work(rig, 0);
    assert_int_equal(rig->port.bound, 0);
    transport_driver_kick(&rig->driver, 0, &rig->ring);
    assert_int_equal(rig->fake.queues[0].kicks, 2);
}

static void each_event_is_an_edge_and_a_bit_until_it_is_acknowledged_4_2_2_1(void **state)
{
    struct rig *rig = *state;

    rig_work(rig, 0);
    fake_backend_notify(&rig->fake, 0);
    fake_backend_notify(&rig->fake, 1);
    assert_int_equal(rig->owner.pulses, 2);
    assert_int_equal(rig_read(rig, VIRTIO_MMIO_INTERRUPT_STATUS), 1);
    fake_backend_change_config(&rig->fake, 9, 1);
    assert_int_equal(rig->owner.pulses, 3);
    assert_int_equal(rig_read(rig, VIRTIO_MMIO_INTERRUPT_STATUS), 3);
    rig_write(rig, VIRTIO_MMIO_INTERRUPT_ACK, 1);
    assert_int_equal(rig_read(rig, VIRTIO_MMIO_INTERRUPT_STATUS), 2);
    rig_write(rig, VIRTIO_MMIO_INTERRUPT_ACK, UINT32_MAX); /* bits that are none */
    assert_int_equal(rig_read(rig, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    assert_false(rig->owner.raised);
}

static void a_level_is_raised_while_a_bit_is_set_4_2_3_4(void **state)
{
    struct rig *rig = *state;

    rig->owner.gives_handles = true;
    rig_work(rig, 0);
    virtio_control_queue_signalled(&rig->mmio.control, 0);
    assert_true(rig->owner.raised);
    assert_int_equal(rig->owner.pulses, 0);
    fake_backend_break(&rig->fake);
    rig_write(rig, VIRTIO_MMIO_INTERRUPT_ACK, 1);
    assert_true(rig->owner.raised);
    assert_int_equal(transport_driver_interrupts(&rig->driver), 2);
    assert_false(rig->owner.raised);
    virtio_control_queue_signalled(&rig->mmio.control, 0);
    transport_driver_reset(&rig->driver);
    assert_false(rig->owner.raised);
}

static void a_broken_device_says_so_and_interrupts(void **state)
{
    struct rig *rig = *state;

    rig_work(rig, 0);
    fake_backend_break(&rig->fake);
    assert_int_equal(rig_read(rig, VIRTIO_MMIO_STATUS), RIG_WORKING | VIRTIO_STATUS_NEEDS_RESET);
    assert_int_equal(transport_driver_interrupts(&rig->driver), VIRTIO_INTERRUPT_CONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define RIG_TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
        RIG_TEST(the_registers_say_what_it_is_4_2_2_1),
        RIG_TEST(features_are_negotiated_word_by_word),
        RIG_TEST(a_driver_sets_up_queues_and_they_run),
        RIG_TEST(a_queue_that_is_not_there_has_size_0_and_is_never_ready),
        RIG_TEST(a_running_queue_keeps_what_it_has_4_2_2_2),
        RIG_TEST(registers_answer_aligned_accesses_of_32_bits_and_no_others_4_2_2_2),
        RIG_TEST(what_is_only_written_reads_0_and_what_is_only_read_is_not_written),
        RIG_TEST(a_status_of_more_than_8_bits_is_none),
        RIG_TEST(the_configuration_space_is_read_and_written_in_any_width),
        RIG_TEST(the_generation_shows_that_the_configuration_has_changed_4_2_2_1),
        RIG_TEST(a_reset_clears_everything_a_driver_has_written_4_2_2_1),
        RIG_TEST(a_reset_that_waits_keeps_the_processor_until_it_is_done),
        RIG_TEST(a_queue_that_is_taken_away_is_so_when_the_write_is_done_4_2_2_2),
        RIG_TEST(a_queue_reset_shows_1_until_it_is_done_4_2_2_1),
        RIG_TEST(a_queue_reset_that_was_not_negotiated_is_none),
        RIG_TEST(a_kick_is_a_write_of_the_queues_index_4_2_3_3),
        RIG_TEST(a_kick_with_data_has_the_index_in_its_lower_half_4_2_3_3),
        RIG_TEST(each_running_queue_has_a_doorbell_by_value),
        RIG_TEST(a_port_without_room_and_a_back_end_without_handles_leave_exits),
        RIG_TEST(each_event_is_an_edge_and_a_bit_until_it_is_acknowledged_4_2_2_1),
        cmocka_unit_test_setup_teardown(a_level_is_raised_while_a_bit_is_set_4_2_3_4, rig_setup_level, rig_teardown),
        RIG_TEST(a_broken_device_says_so_and_interrupts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
