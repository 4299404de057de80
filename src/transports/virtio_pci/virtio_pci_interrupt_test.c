/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Interrupts of virtio-pci: MSI-X and INTx, and what PCI does to a function (VIRTIO 1.3, 4.1.4.5, 4.1.5). */
#include "transports/virtio_pci/virtio_pci_test_rig.h"

static void set_msix(struct rig *rig, bool on)
{
    rig_config_write(rig, rig->driver.msix + 2, 2, on ? 0x8000 : 0);
}

static void vectors_are_mapped_unmapped_and_refused_4_1_5_1_2_1(void **state)
{
    struct rig *rig = *state;

    rig_negotiate(rig, 0);
    assert_int_equal(transport_driver_set_vector(&rig->driver, 0, 0), 0);
    assert_int_equal(transport_driver_set_vector(&rig->driver, 1, RIG_VECTORS - 1), RIG_VECTORS - 1);
    assert_int_equal(transport_driver_set_vector(&rig->driver, 1, RIG_VECTORS), VIRTIO_NO_VECTOR);
    assert_int_equal(transport_driver_set_vector(&rig->driver, 0, VIRTIO_NO_VECTOR), VIRTIO_NO_VECTOR);
    assert_int_equal(transport_driver_set_vector(&rig->driver, UINT16_MAX, 2), 2);
    assert_int_equal(transport_driver_set_vector(&rig->driver, UINT16_MAX, RIG_VECTORS), VIRTIO_NO_VECTOR);
}

static void without_msix_no_vector_can_be_mapped(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(rig->driver.msix, 0);
    assert_int_equal(transport_driver_set_vector(&rig->driver, 0, 0), VIRTIO_NO_VECTOR);
    assert_int_equal(transport_driver_set_vector(&rig->driver, UINT16_MAX, 0), VIRTIO_NO_VECTOR);
}

static void a_queue_interrupts_by_its_vector_4_1_5_3(void **state)
{
    struct rig *rig = *state;

    transport_driver_use_msix(&rig->driver, RIG_VECTORS);
    rig_negotiate(rig, 0);
    transport_driver_set_vector(&rig->driver, 0, 2);
    transport_driver_set_vector(&rig->driver, UINT16_MAX, 3);
    assert_true(transport_driver_set_up(&rig->driver, 0, &rig->ring));
    assert_true(transport_driver_set_up(&rig->driver, 1, &rig->ring));
    transport_driver_add_status(&rig->driver, VIRTIO_STATUS_DRIVER_OK);
    fake_backend_notify(&rig->fake, 0);
    assert_int_equal(rig->messages, 1);
    assert_int_equal(rig->last_message.address, 0xfee00000);
    assert_int_equal(rig->last_message.data, 0x42);
    fake_backend_notify(&rig->fake, 1); /* NO_VECTOR: none is delivered */
    assert_int_equal(rig->messages, 1);
    fake_backend_change_config(&rig->fake, 9, 1);
    assert_int_equal(rig->messages, 2);
    assert_int_equal(rig->last_message.data, 0x43);
    assert_false(rig->owner.raised);
    transport_driver_set_vector(&rig->driver, UINT16_MAX, VIRTIO_NO_VECTOR);
    fake_backend_change_config(&rig->fake, 9, 2);
    assert_int_equal(rig->messages, 2);
}

static void a_queue_has_the_handle_of_its_vector_and_a_new_one_when_that_changes(void **state)
{
    struct rig *rig = *state;

    rig->owner.gives_handles = true;
    transport_driver_use_msix(&rig->driver, RIG_VECTORS);
    rig_negotiate(rig, 0);
    transport_driver_set_vector(&rig->driver, 0, 2);
    assert_true(transport_driver_set_up(&rig->driver, 0, &rig->ring));
    transport_driver_add_status(&rig->driver, VIRTIO_STATUS_DRIVER_OK);
    assert_int_equal(rig->fake.queues[0].notify, FAKE_NOTIFY_HANDLE + 2);
    transport_driver_set_vector(&rig->driver, 0, 1);
    assert_int_equal(rig->fake.queues[0].notify, FAKE_NOTIFY_HANDLE + 1);
    assert_int_equal(rig->fake.queues[0].reroutes, 1);
    set_msix(rig, false);
    assert_int_equal(rig->fake.queues[0].notify, FAKE_NOTIFY_HANDLE + VIRTIO_NO_VECTOR);
    set_msix(rig, true);
    assert_int_equal(rig->fake.queues[0].notify, FAKE_NOTIFY_HANDLE + 1);
    assert_int_equal(rig->fake.queues[0].reroutes, 3);
    set_msix(rig, true);
    assert_int_equal(rig->fake.queues[0].reroutes, 3);
}

static void intx_is_the_or_of_the_isr_which_reading_clears_4_1_4_5_1(void **state)
{
    struct rig *rig = *state;

    rig_work(rig, 0);
    assert_false(rig->owner.raised);
    fake_backend_notify(&rig->fake, 0);
    assert_true(rig->owner.raised);
    assert_true(rig_config_read(rig, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
    fake_backend_change_config(&rig->fake, 9, 1);
    /* Another width does not read it. */
    assert_int_equal(transport_driver_read(&rig->driver, rig->driver.isr, 4), 0);
    assert_int_equal(transport_driver_read(&rig->driver, rig->driver.isr + 1, 1), 0);
    assert_true(rig->owner.raised);
    transport_driver_write(&rig->driver, rig->driver.isr, 1, 0);
    assert_int_equal(transport_driver_interrupts(&rig->driver), 3);
    assert_false(rig->owner.raised);
    assert_false(rig_config_read(rig, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
    assert_int_equal(transport_driver_interrupts(&rig->driver), 0);
    virtio_control_queue_signalled(&rig->pci.control, 1);
    assert_true(rig->owner.raised);
    transport_driver_reset(&rig->driver);
    assert_false(rig->owner.raised);
    assert_int_equal(transport_driver_interrupts(&rig->driver), 0);
}

static void a_queues_thread_leaves_the_wire_to_the_machines(void **state)
{
    struct rig *rig = *state;

    rig_work(rig, 0);
    rig->pci.control.one_thread = false;
    fake_backend_notify(&rig->fake, 0);
    assert_false(rig->owner.raised);
    assert_int_equal(transport_driver_interrupts(&rig->driver), 1);
}

static void msix_takes_over_from_the_wire_and_back(void **state)
{
    struct rig *rig = *state;

    rig_work(rig, 0);
    fake_backend_notify(&rig->fake, 0);
    assert_true(rig->owner.raised);
    transport_driver_use_msix(&rig->driver, RIG_VECTORS);
    assert_false(rig->owner.raised);
    fake_backend_break(&rig->fake); /* 4.1.4.5.1: the bit is set all the same */
    assert_int_equal(rig->messages, 0);
    set_msix(rig, false);
    assert_true(rig->owner.raised);
    assert_int_equal(transport_driver_interrupts(&rig->driver), 3);
}

static void a_function_begins_without_reach_of_memory(void **state)
{
    struct rig *rig = *state;
    struct virtio_pci_config config = {
        .control = {.backend = &rig->fake.backend, .port = &rig->owner.port, .queues = rig->queues},
        .queues = rig->pci_queues,
        .bus = &rig->bus,
        .shared_page_bytes = RIG_PAGE,
    };

    assert_int_equal(virtio_pci_init(&rig->pci, &config), 0);
    assert_true(rig->pci.control.cut_off);
}

static void a_function_that_is_no_bus_master_touches_no_memory(void **state)
{
    struct rig *rig = *state;

    rig_config_write(rig, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    rig_work(rig, 0);
    assert_int_equal(rig->fake.queues[0].starts, 0);
    rig_config_write(rig, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_BUS_MASTER);
    assert_int_equal(rig->fake.queues[0].state, FAKE_RUNNING);
    rig_config_write(rig, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    assert_int_equal(rig->fake.queues[0].state, FAKE_STOPPED);
    assert_int_equal(rig_read(rig, RIG_FIELD(device_status), 1), RIG_WORKING);
}

static void a_function_level_reset_is_one_of_the_device(void **state)
{
    struct rig *rig = *state;

    transport_driver_use_msix(&rig->driver, RIG_VECTORS);
    rig_work(rig, 0);
    rig->fake.stops_later = true;
    unsigned control = rig->pci.express.offset + 8u;
    assert_int_equal(pci_function_write(&rig->pci.function, control, 2, 0x8000), BUS_LATER);
    assert_true(pci_function_busy(&rig->pci.function));
    fake_backend_finish_stop(&rig->fake, 0);
    fake_backend_finish_stop(&rig->fake, 1);
    assert_false(pci_function_busy(&rig->pci.function));
    assert_int_equal(rig->pci.control.status, 0);
    assert_int_equal(rig->fake.resets, 2); /* the first by rig_work's driver */
    assert_int_equal(rig->bound, 0);
    /* And it can be driven again. */
    rig->fake.stops_later = false;
    assert_true(transport_driver_find_pci(&rig->driver, &rig->bus, &rig->pci.function, RIG_BARS));
    rig_work(rig, 0);
    assert_int_equal(rig->fake.queues[0].state, FAKE_RUNNING);
}

static uint8_t shared_bytes[3 * RIG_PAGE];

static void shared_memory_is_a_capability_and_a_bar_4_1_4_7(void **state)
{
    struct rig *rig = *state;

    rig->fake.region_count = 1;
    rig->fake.regions[0] = (struct virtio_shared_region){.id = 5, .size = 3 * RIG_PAGE, .host = shared_bytes};
    rig_make(rig, NULL, RIG_VECTORS);
    assert_int_equal(rig->driver.shared_id, 5);
    assert_int_equal(rig->driver.shared_bytes, 3 * RIG_PAGE);
    assert_int_equal(rig->mapped, 1);
    assert_int_not_equal(rig->pci.express.offset, 0);
    transport_driver_write(&rig->driver, rig->driver.shared + 2 * RIG_PAGE, 4, 0x1234);
    assert_int_equal(get_le32(shared_bytes + 2 * RIG_PAGE), 0x1234);
    /* Through the window, too. */
    rig_config_write(rig, rig->driver.window + 4, 1, 2);
    rig_config_write(rig, rig->driver.window + 8, 4, 2 * RIG_PAGE);
    rig_config_write(rig, rig->driver.window + 12, 4, 2);
    assert_int_equal(rig_config_read(rig, rig->driver.window + 16, 2), 0x1234);
}

static void several_regions_lie_apart_and_need_the_room_of_express(void **state)
{
    struct rig *rig = *state;

    rig->fake.region_count = 2;
    rig->fake.regions[0] = (struct virtio_shared_region){.id = 1, .size = 100, .host = shared_bytes};
    rig->fake.regions[1] = (struct virtio_shared_region){.id = 2, .size = UINT64_C(6) << 30};
    rig_make(rig, NULL, RIG_VECTORS);
    assert_int_equal(rig->driver.shared_id, 2);
    assert_int_equal(rig->driver.shared_bytes, UINT64_C(6) << 30);
    assert_int_equal(rig->mapped, 1); /* the other is nowhere yet */
    assert_int_equal(rig->pci.function.express, 0);
    assert_int_equal(transport_driver_read(&rig->driver, rig->driver.shared, 8), 0);
}

static void too_many_regions_or_vectors_are_refused(void **state)
{
    struct rig *rig = *state;
    struct virtio_pci_config config = {
        .control = {.backend = &rig->fake.backend, .port = &rig->owner.port, .queues = rig->queues},
        .queues = rig->pci_queues,
        .bus = &rig->bus,
        .vectors = rig->vectors,
        .vector_count = PCI_MSIX_VECTORS_MAX + 1,
        .shared_page_bytes = RIG_PAGE,
    };

    assert_int_equal(virtio_pci_init(&rig->pci, &config), -EINVAL);
    config.vector_count = 0;
    rig->fake.region_count = VIRTIO_PCI_SHARED_MAX + 1;
    for (unsigned i = 0; i < rig->fake.region_count; i++)
        rig->fake.regions[i] = (struct virtio_shared_region){.id = (uint8_t)i, .size = 1};
    assert_int_equal(virtio_pci_init(&rig->pci, &config), -ENOSPC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define RIG_TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
        RIG_TEST(vectors_are_mapped_unmapped_and_refused_4_1_5_1_2_1),
        cmocka_unit_test_setup_teardown(without_msix_no_vector_can_be_mapped, rig_setup_intx, rig_teardown),
        RIG_TEST(a_queue_interrupts_by_its_vector_4_1_5_3),
        RIG_TEST(a_queue_has_the_handle_of_its_vector_and_a_new_one_when_that_changes),
        RIG_TEST(intx_is_the_or_of_the_isr_which_reading_clears_4_1_4_5_1),
        RIG_TEST(a_queues_thread_leaves_the_wire_to_the_machines),
        RIG_TEST(msix_takes_over_from_the_wire_and_back),
        RIG_TEST(a_function_begins_without_reach_of_memory),
        RIG_TEST(a_function_that_is_no_bus_master_touches_no_memory),
        RIG_TEST(a_function_level_reset_is_one_of_the_device),
        RIG_TEST(shared_memory_is_a_capability_and_a_bar_4_1_4_7),
        RIG_TEST(several_regions_lie_apart_and_need_the_room_of_express),
        RIG_TEST(too_many_regions_or_vectors_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
