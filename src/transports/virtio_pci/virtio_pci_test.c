/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Capabilities and registers of virtio-pci (VIRTIO 1.3, 4.1.2 to 4.1.4), one test a clause or a lie. */
#include "transports/virtio_pci/virtio_pci_test_rig.h"

static void the_function_is_a_modern_device_4_1_2(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(rig_config_read(rig, PCI_VENDOR_ID, 2), 0x1af4);
    assert_int_equal(rig_config_read(rig, PCI_DEVICE_ID, 2), 0x1040 + VIRTIO_ID_BLOCK);
    assert_true(rig_config_read(rig, PCI_REVISION_ID, 1) >= 1);
    assert_true(rig_config_read(rig, PCI_SUBSYSTEM_ID, 2) >= 0x40);
    assert_int_equal(rig_config_read(rig, PCI_CLASS_CODE + 2, 1), 0x01);
    assert_int_equal(rig_config_read(rig, PCI_INTERRUPT_PIN, 1), 1);
}

/* Each capability of virtio that there is, by its type. */
static unsigned find(struct rig *rig, uint8_t type)
{
    for (unsigned at = rig_config_read(rig, PCI_CAPABILITIES, 1); at != 0; at = rig_config_read(rig, at + 1, 1))
        if (rig_config_read(rig, at, 1) == PCI_CAPABILITY_VENDOR && rig_config_read(rig, at + 3, 1) == type)
            return at;
    return 0;
}

static void the_structures_lie_inside_their_bar_and_apart_4_1_4(void **state)
{
    struct rig *rig = *state;
    const uint8_t types[] = {VIRTIO_PCI_CAP_COMMON_CFG, VIRTIO_PCI_CAP_NOTIFY_CFG, VIRTIO_PCI_CAP_ISR_CFG,
                             VIRTIO_PCI_CAP_DEVICE_CFG};
    uint32_t starts[ARRAY_SIZE(types)], ends[ARRAY_SIZE(types)];

    for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
        unsigned at = find(rig, types[i]);
        assert_int_not_equal(at, 0);
        assert_int_equal(rig_config_read(rig, at + 4, 1), 0);
        starts[i] = rig_config_read(rig, at + 8, 4);
        ends[i] = starts[i] + rig_config_read(rig, at + 12, 4);
        assert_true(ends[i] > starts[i] && ends[i] <= rig->pci.registers_bytes);
        assert_int_equal(starts[i] % 4, 0);
        assert_false(pci_msix_covers(&rig->pci.msix, starts[i]));
        for (unsigned j = 0; j < i; j++)
            assert_true(starts[i] >= ends[j] || ends[i] <= starts[j]);
    }
    assert_int_equal(rig_config_read(rig, find(rig, VIRTIO_PCI_CAP_COMMON_CFG) + 2, 1), 16);
    assert_int_equal(ends[0] - starts[0], 64);
    /* 4.1.4.4.1: room for 4 bytes of each queue's notification. */
    assert_int_equal(rig->driver.notify_multiplier, 4);
    assert_true(ends[1] - starts[1] >= (FAKE_BACKEND_QUEUES - 1) * 4 + 4);
    assert_int_equal(ends[3] - starts[3], FAKE_BACKEND_CONFIG_BYTES);
    assert_int_not_equal(find(rig, VIRTIO_PCI_CAP_PCI_CFG), 0);
}

static void a_device_without_configuration_space_shows_none_4_1_4_6(void **state)
{
    struct rig *rig = *state;

    rig->fake.backend.config_bytes = 0;
    rig_make(rig, NULL, RIG_VECTORS);
    assert_int_equal(find(rig, VIRTIO_PCI_CAP_DEVICE_CFG), 0);
}

static void features_are_negotiated_word_by_word(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(transport_driver_offered(&rig->driver), rig->fake.offers | VIRTIO_CONTROL_FEATURES);
    rig_write(rig, RIG_FIELD(device_feature_select), 4, 2);
    assert_int_equal(rig_read(rig, RIG_FIELD(device_feature), 4), 0);
    assert_int_equal(rig_read(rig, RIG_FIELD(device_feature_select), 4), 2);
    rig_negotiate(rig, 1 | VIRTIO_F_RING_RESET);
    assert_int_equal(rig->fake.features, VIRTIO_F_VERSION_1 | 1);
    rig_write(rig, RIG_FIELD(driver_feature_select), 4, 0);
    assert_int_equal(rig_read(rig, RIG_FIELD(driver_feature), 4), 1);
    assert_int_equal(rig_read(rig, RIG_FIELD(driver_feature_select), 4), 0);
    assert_false(transport_driver_negotiate(&rig->driver, 1));
}

static void a_driver_sets_up_queues_and_they_run(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(rig_read(rig, RIG_FIELD(num_queues), 2), FAKE_BACKEND_QUEUES);
    rig_work(rig, 0);
    const struct virtqueue_config *config = &rig->fake.queues[1].config;
    assert_int_equal(config->size, 64);
    assert_int_equal(config->desc_address, rig->ring.desc_address);
    assert_int_equal(config->avail_address, rig->ring.avail_address);
    assert_int_equal(config->used_address, rig->ring.used_address);
    assert_int_equal(rig_read(rig, RIG_FIELD(queue_desc), 4), (uint32_t)rig->ring.desc_address);
    assert_int_equal(rig_read(rig, RIG_FIELD(queue_desc) + 4, 4), rig->ring.desc_address >> 32);
    assert_int_equal(rig_read(rig, RIG_FIELD(queue_driver), 4), (uint32_t)rig->ring.avail_address);
    assert_int_equal(rig_read(rig, RIG_FIELD(queue_device) + 4, 4), rig->ring.used_address >> 32);
    assert_int_equal(rig_read(rig, RIG_FIELD(queue_select), 2), 1);
    assert_int_equal(rig_read(rig, RIG_FIELD(admin_queue_num), 2), 0);
}

static void a_queue_that_is_not_there_has_size_0_4_1_4_3_1(void **state)
{
    struct rig *rig = *state;

    rig_work(rig, VIRTIO_F_RING_RESET);
    rig_write(rig, RIG_FIELD(queue_select), 2, FAKE_BACKEND_QUEUES);
    assert_int_equal(rig_read(rig, RIG_FIELD(queue_size), 2), 0);
    for (uint64_t offset = RIG_FIELD(queue_size); offset < sizeof(struct virtio_pci_common_cfg); offset += 2) {
        rig_write(rig, offset, 2, 1);
        rig_write(rig, offset, 4, 1);
    }
    assert_int_equal(rig_read(rig, RIG_FIELD(queue_msix_vector), 2), VIRTIO_NO_VECTOR);
    assert_int_equal(rig_read(rig, RIG_FIELD(queue_enable), 2), 0);
    assert_int_equal(rig_read(rig, RIG_FIELD(queue_reset), 2), 0);
    rig_write(rig, RIG_FIELD(queue_select), 2, UINT16_MAX);
    assert_int_equal(rig_read(rig, RIG_FIELD(queue_size), 2), 0);
    assert_int_equal(rig_read(rig, RIG_FIELD(device_status), 1), RIG_WORKING);
}

static void a_size_is_shown_as_a_power_of_two_or_0_4_1_4_3_1(void **state)
{
    struct rig *rig = *state;

    rig_negotiate(rig, 0);
    assert_int_equal(rig_read(rig, RIG_FIELD(queue_size), 2), FAKE_BACKEND_SIZE_MAX);
    rig_write(rig, RIG_FIELD(queue_size), 2, 32);
    assert_int_equal(rig_read(rig, RIG_FIELD(queue_size), 2), 32);
    rig_write(rig, RIG_FIELD(queue_size), 2, 33);
    assert_int_equal(rig_read(rig, RIG_FIELD(queue_size), 2), 0);
    rig_write(rig, RIG_FIELD(queue_enable), 2, 1);
    assert_int_equal(rig_read(rig, RIG_FIELD(queue_enable), 2), 0);
    assert_true(rig_read(rig, RIG_FIELD(device_status), 1) & VIRTIO_STATUS_NEEDS_RESET);
}

static void a_running_queue_keeps_what_it_has(void **state)
{
    struct rig *rig = *state;

    rig_work(rig, 0);
    rig_write(rig, RIG_FIELD(queue_select), 2, 0);
    struct virtio_control_queue before = rig->queues[0];
    rig_write(rig, RIG_FIELD(queue_size), 2, 16);
    rig_write(rig, RIG_FIELD(queue_enable), 2, 1);
    rig_write(rig, RIG_FIELD(queue_enable), 2, 0); /* 4.1.4.3.2: a driver must not */
    rig_write(rig, RIG_FIELD(queue_reset), 2, 1);  /* not negotiated */
    for (uint64_t offset = RIG_FIELD(queue_desc); offset < RIG_FIELD(queue_notif_config_data); offset += 4)
        rig_write(rig, offset, 4, 0x41414141);
    assert_memory_equal(&before, &rig->queues[0], sizeof(before));
    assert_int_equal(rig->fake.queues[0].starts, 1);
}

static void fields_answer_accesses_of_their_size_and_no_others_4_1_3_1(void **state)
{
    struct rig *rig = *state;

    rig_negotiate(rig, 0);
    for (unsigned size = 1; size <= 8; size *= 2) {
        if (size != 4)
            assert_int_equal(rig_read(rig, RIG_FIELD(driver_feature), size), 0);
        if (size != 2) {
            assert_int_equal(rig_read(rig, RIG_FIELD(num_queues), size), 0);
            rig_write(rig, RIG_FIELD(queue_enable), size, 1);
        }
        if (size != 1) {
            assert_int_equal(rig_read(rig, RIG_FIELD(device_status), size), 0);
            rig_write(rig, RIG_FIELD(device_status), size, 0);
        }
    }
    assert_int_equal(rig_read(rig, RIG_FIELD(queue_desc) + 2, 4), 0);
    assert_int_equal(rig_read(rig, RIG_FIELD(queue_select) + 1, 2), 0);
    assert_int_equal(rig_read(rig, sizeof(struct virtio_pci_common_cfg), 4), 0);
    assert_int_equal(rig_read(rig, RIG_FIELD(queue_enable), 2), 0);
    assert_true(rig_read(rig, RIG_FIELD(device_status), 1) & VIRTIO_STATUS_FEATURES_OK);
}

static void what_is_read_only_stays_4_1_4_3_2(void **state)
{
    struct rig *rig = *state;

    rig_work(rig, 0);
    rig_write(rig, RIG_FIELD(num_queues), 2, 9);
    rig_write(rig, RIG_FIELD(config_generation), 1, 9);
    rig_write(rig, RIG_FIELD(queue_notify_off), 2, 9);
    rig_write(rig, RIG_FIELD(queue_notif_config_data), 2, 9);
    rig_write(rig, RIG_FIELD(device_feature), 4, 9);
    assert_int_equal(rig_read(rig, RIG_FIELD(num_queues), 2), FAKE_BACKEND_QUEUES);
    assert_int_equal(rig_read(rig, RIG_FIELD(config_generation), 1), 0);
    assert_int_equal(rig_read(rig, RIG_FIELD(queue_notify_off), 2), 1);
    assert_int_equal(rig_read(rig, RIG_FIELD(device_feature), 4), (uint32_t)rig->fake.offers);
}

static void the_configuration_space_is_read_and_written_in_any_width(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(transport_driver_read(&rig->driver, rig->driver.config + 8, 8), 0x1f1e1d1c1b1a1918);
    transport_driver_write(&rig->driver, rig->driver.config + 3, 1, 0x77);
    assert_int_equal(rig->fake.config[3], 0x77);
    transport_driver_write(&rig->driver, rig->driver.config + FAKE_BACKEND_CONFIG_BYTES, 4, 1);
    assert_int_equal(transport_driver_read(&rig->driver, rig->driver.config + FAKE_BACKEND_CONFIG_BYTES, 4), 0);
    uint64_t before = rig_read(rig, RIG_FIELD(config_generation), 1);
    fake_backend_change_config(&rig->fake, 9, 1);
    assert_int_not_equal(rig_read(rig, RIG_FIELD(config_generation), 1), before);
}

static void a_reset_shows_0_when_it_is_done_4_1_4_3_1(void **state)
{
    struct rig *rig = *state;

    rig_work(rig, 0);
    transport_driver_set_vector(&rig->driver, 0, 1);
    transport_driver_set_vector(&rig->driver, UINT16_MAX, 2);
    rig->fake.stops_later = true;
    transport_driver_reset(&rig->driver);
    assert_int_equal(rig->driver.later, 0); /* the driver polls */
    assert_false(transport_driver_is_reset(&rig->driver));
    fake_backend_finish_stop(&rig->fake, 0);
    fake_backend_finish_stop(&rig->fake, 1);
    assert_true(transport_driver_is_reset(&rig->driver));
    assert_int_equal(rig_read(rig, RIG_FIELD(queue_select), 2), 0);
    assert_int_equal(rig_read(rig, RIG_FIELD(queue_enable), 2), 0);
    assert_int_equal(rig_read(rig, RIG_FIELD(queue_msix_vector), 2), VIRTIO_NO_VECTOR);
    assert_int_equal(rig_read(rig, RIG_FIELD(config_msix_vector), 2), VIRTIO_NO_VECTOR);
    assert_int_equal(rig->bound, 0);
}

static void a_queue_reset_shows_1_until_it_is_done_4_1_4_3_1(void **state)
{
    struct rig *rig = *state;

    rig_work(rig, VIRTIO_F_RING_RESET);
    transport_driver_set_vector(&rig->driver, 0, 1);
    rig->fake.stops_later = true;
    rig_write(rig, RIG_FIELD(queue_reset), 2, 0);
    assert_int_equal(rig->fake.queues[0].stops, 0);
    rig_write(rig, RIG_FIELD(queue_reset), 2, 1);
    assert_int_equal(rig_read(rig, RIG_FIELD(queue_reset), 2), 1);
    assert_int_equal(rig_read(rig, RIG_FIELD(queue_enable), 2), 1);
    assert_int_equal(rig->bound, 1);
    fake_backend_finish_stop(&rig->fake, 0);
    assert_int_equal(rig_read(rig, RIG_FIELD(queue_reset), 2), 0);
    assert_int_equal(rig_read(rig, RIG_FIELD(queue_enable), 2), 0);
    assert_int_equal(rig_read(rig, RIG_FIELD(queue_size), 2), FAKE_BACKEND_SIZE_MAX);
    assert_int_equal(rig_read(rig, RIG_FIELD(queue_msix_vector), 2), VIRTIO_NO_VECTOR);
    assert_true(transport_driver_set_up(&rig->driver, 0, &rig->ring));
    assert_int_equal(rig->fake.queues[0].starts, 2);
    assert_int_equal(rig->bound, 2);
}

static void a_kick_is_a_write_at_the_queues_address_4_1_5_2(void **state)
{
    struct rig *rig = *state;
    const uint64_t kinds[] = {0, VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_NOTIF_CONFIG_DATA,
                              VIRTIO_F_NOTIFICATION_DATA | VIRTIO_F_NOTIF_CONFIG_DATA};

    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
        rig_work(rig, kinds[i]);
        bool named = (kinds[i] & VIRTIO_F_NOTIF_CONFIG_DATA) != 0;
        assert_int_equal(rig_read(rig, RIG_FIELD(queue_notif_config_data), 2), named ? 1 : 0);
        transport_driver_kick(&rig->driver, 1, &rig->ring);
        assert_int_equal(rig->fake.queues[1].kicks, i + 1);
    }
    transport_driver_write(&rig->driver, rig->driver.notify + 8, 2, 2); /* not enabled */
    transport_driver_write(&rig->driver, rig->driver.notify + UINT64_C(4) * FAKE_BACKEND_QUEUES, 2, 0); /* not there */
    transport_driver_write(&rig->driver, rig->driver.notify + 4 + 2, 2, 1); /* between two */
    assert_int_equal(rig->fake.queues[1].kicks, ARRAY_SIZE(kinds));
    assert_int_equal(rig->fake.queues[0].kicks + rig->fake.queues[2].kicks, 0);
    assert_int_equal(transport_driver_read(&rig->driver, rig->driver.notify, 4), 0);
}

static void doorbells_are_each_queues_address_and_follow_the_bar(void **state)
{
    struct rig *rig = *state;

    rig_work(rig, 0);
    assert_int_equal(rig->bound, 2);
    assert_int_equal(rig->last_address, rig->driver.notify + 4);
    assert_int_equal(rig->last_handle, FAKE_KICK_HANDLE + 1);
    assert_int_equal(rig->last_size, 0);
    uint64_t offset = rig->driver.notify - RIG_BARS;
    rig_config_write(rig, PCI_BAR0, 4, (uint32_t)(RIG_BARS + 0x100000));
    assert_int_equal(rig->bound, 2);
    assert_int_equal(rig->last_address & ~UINT64_C(7), (RIG_BARS + 0x100000 + offset) & ~UINT64_C(7));
    rig_config_write(rig, PCI_COMMAND, 2, 0);
    assert_int_equal(rig->bound, 0);
}

/* Set the window of 4.1.4.9. */
static void aim(struct rig *rig, uint8_t bar, uint32_t offset, uint32_t length)
{
    rig_config_write(rig, rig->driver.window + 4, 1, bar);
    rig_config_write(rig, rig->driver.window + 8, 4, offset);
    rig_config_write(rig, rig->driver.window + 12, 4, length);
}

static void the_window_reaches_the_bar_through_configuration_space_4_1_4_9(void **state)
{
    struct rig *rig = *state;
    unsigned data = rig->driver.window + 16;

    rig_config_write(rig, PCI_COMMAND, 2, 0); /* it needs no BAR to be placed */
    aim(rig, 0, RIG_FIELD(num_queues), 2);
    assert_int_equal(rig_config_read(rig, data, 2), FAKE_BACKEND_QUEUES);
    aim(rig, 0, RIG_FIELD(device_status), 1);
    rig_config_write(rig, data, 4, 0xffffff00 | VIRTIO_STATUS_ACKNOWLEDGE);
    assert_int_equal(rig->pci.control.status, VIRTIO_STATUS_ACKNOWLEDGE);
    assert_int_equal(rig_config_read(rig, data, 1), VIRTIO_STATUS_ACKNOWLEDGE);
    aim(rig, 0, RIG_FIELD(driver_feature_select), 4);
    rig_config_write(rig, data, 4, 0x12345678);
    assert_int_equal(rig->pci.driver_feature_select, 0x12345678);
}

static void a_window_that_is_aimed_badly_does_nothing_4_1_4_9_1(void **state)
{
    struct rig *rig = *state;
    unsigned data = rig->driver.window + 16;
    const struct {
        uint8_t bar;
        uint32_t offset, length;
    } lies[] = {
        {0, RIG_FIELD(device_status), 0},
        {0, RIG_FIELD(device_status), 3},
        {0, RIG_FIELD(device_status), 8},
        {0, RIG_FIELD(device_status), UINT32_MAX},
        {0, 1, 2},
        {0, UINT32_MAX - 3, 4},
        {0, (uint32_t)rig->pci.registers_bytes, 1},
        {1, RIG_FIELD(device_status), 1},
        {2, 0, 4}, /* no shared memory here */
        {5, RIG_FIELD(device_status), 1},
        {6, RIG_FIELD(device_status), 1},
        {255, RIG_FIELD(device_status), 1},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
        aim(rig, lies[i].bar, lies[i].offset, lies[i].length);
        rig_config_write(rig, data, 4, VIRTIO_STATUS_ACKNOWLEDGE);
        assert_int_equal(rig_config_read(rig, data, 4), VIRTIO_STATUS_ACKNOWLEDGE); /* the bytes themselves */
    }
    assert_int_equal(rig->pci.control.status, 0);
}

static void the_rest_of_the_capabilities_cannot_be_written(void **state)
{
    struct rig *rig = *state;
    unsigned common = find(rig, VIRTIO_PCI_CAP_COMMON_CFG);

    for (unsigned offset = 0; offset < 16; offset += 4) {
        uint32_t before = rig_config_read(rig, common + offset, 4);
        rig_config_write(rig, common + offset, 4, ~before);
        assert_int_equal(rig_config_read(rig, common + offset, 4), before);
    }
    uint32_t before = rig_config_read(rig, rig->driver.window, 4);
    rig_config_write(rig, rig->driver.window, 4, ~before);
    assert_int_equal(rig_config_read(rig, rig->driver.window, 4), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define RIG_TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
        RIG_TEST(the_function_is_a_modern_device_4_1_2),
        RIG_TEST(the_structures_lie_inside_their_bar_and_apart_4_1_4),
        RIG_TEST(a_device_without_configuration_space_shows_none_4_1_4_6),
        RIG_TEST(features_are_negotiated_word_by_word),
        RIG_TEST(a_driver_sets_up_queues_and_they_run),
        RIG_TEST(a_queue_that_is_not_there_has_size_0_4_1_4_3_1),
        RIG_TEST(a_size_is_shown_as_a_power_of_two_or_0_4_1_4_3_1),
        RIG_TEST(a_running_queue_keeps_what_it_has),
        RIG_TEST(fields_answer_accesses_of_their_size_and_no_others_4_1_3_1),
        RIG_TEST(what_is_read_only_stays_4_1_4_3_2),
        RIG_TEST(the_configuration_space_is_read_and_written_in_any_width),
        RIG_TEST(a_reset_shows_0_when_it_is_done_4_1_4_3_1),
        RIG_TEST(a_queue_reset_shows_1_until_it_is_done_4_1_4_3_1),
        RIG_TEST(a_kick_is_a_write_at_the_queues_address_4_1_5_2),
        RIG_TEST(doorbells_are_each_queues_address_and_follow_the_bar),
        RIG_TEST(the_window_reaches_the_bar_through_configuration_space_4_1_4_9),
        RIG_TEST(a_window_that_is_aimed_badly_does_nothing_4_1_4_9_1),
        RIG_TEST(the_rest_of_the_capabilities_cannot_be_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
