/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* virtio-pci with a real model, and saved and loaded with its root. */
#include "transport_flow.h"
#include "transports/virtio_pci/virtio_pci_test_rig.h"

static void begin(struct rig *rig, struct transport_flow *flow, uint64_t features)
{
    transport_flow_init(flow, (features & VIRTIO_F_RING_PACKED) != 0);
    rig_make(rig, &flow->model.backend, RIG_VECTORS);
    transport_driver_use_msix(&rig->driver, RIG_VECTORS);
    rig_negotiate(rig, features);
    transport_driver_set_vector(&rig->driver, 0, 1);
    assert_true(transport_driver_set_up(&rig->driver, 0, &flow->rig.drivers[0]));
    transport_driver_add_status(&rig->driver, VIRTIO_STATUS_DRIVER_OK);
}

static void serve(struct rig *rig, struct transport_flow *flow, uint32_t bytes)
{
    transport_flow_ask(flow, bytes);
    transport_driver_kick(&rig->driver, 0, &flow->rig.drivers[0]);
    model_backend_run(&flow->model);
}

static void entropy_flows(struct rig *rig, uint64_t features)
{
    struct transport_flow flow;

    begin(rig, &flow, features);
    for (unsigned i = 0; i < 40; i++) { /* more than the ring has */
        serve(rig, &flow, 10 + i);
        assert_int_equal(transport_flow_take(&flow), 10 + i);
        assert_int_equal(rig->messages, i + 1);
    }
    assert_int_equal(rig->last_message.data, 0x41);
    transport_driver_reset(&rig->driver);
    assert_true(transport_driver_is_reset(&rig->driver));
    transport_flow_done(&flow);
}

static void requests_flow_through_a_split_ring(void **state)
{
    entropy_flows(*state, 0);
}

static void requests_flow_through_a_packed_ring_with_notification_data(void **state)
{
    entropy_flows(*state, VIRTIO_F_RING_PACKED | VIRTIO_F_NOTIFICATION_DATA);
}

static void a_queue_that_was_reset_alone_is_driven_again_2_6_1(void **state)
{
    struct rig *rig = *state;
    struct transport_flow flow;

    begin(rig, &flow, VIRTIO_F_RING_RESET);
    serve(rig, &flow, 10);
    assert_int_equal(transport_flow_take(&flow), 10);
    rig_write(rig, RIG_FIELD(queue_select), 2, 0);
    rig_write(rig, RIG_FIELD(queue_reset), 2, 1);
    assert_int_equal(rig_read(rig, RIG_FIELD(queue_reset), 2), 0);
    /* The driver lays the ring anew. */
    struct fake_driver *driver = &flow.rig.drivers[0];
    fake_driver_init(driver, &flow.rig.low, driver->desc_address, 8, VIRTIO_F_VERSION_1);
    assert_true(transport_driver_set_up(&rig->driver, 0, driver));
    serve(rig, &flow, 20);
    assert_int_equal(transport_flow_take(&flow), 20);
    transport_flow_done(&flow);
}

static void a_paused_device_serves_what_came_meanwhile(void **state)
{
    struct rig *rig = *state;
    struct transport_flow flow;

    begin(rig, &flow, 0);
    assert_int_equal(virtio_control_pause(&rig->pci.control), 0);
    serve(rig, &flow, 10);
    assert_int_equal(transport_flow_take(&flow), -1);
    virtio_control_resume(&rig->pci.control);
    model_backend_run(&flow.model);
    assert_int_equal(transport_flow_take(&flow), 10);
    transport_flow_done(&flow);
}

static uint8_t bytes[1 << 16];

static void a_saved_device_goes_on_in_another_machine(void **state)
{
    struct rig *rig = *state;
    struct transport_flow flow;
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};

    begin(rig, &flow, 0);
    serve(rig, &flow, 10);
    assert_int_equal(transport_flow_take(&flow), 10);
    transport_flow_ask(&flow, 20);
    rig_write(rig, RIG_FIELD(queue_select), 2, 0);
    assert_int_equal(virtio_control_pause(&rig->pci.control), 0);
    assert_int_equal(pci_root_save(&rig->root, &writer), 0);

    struct transport_driver driver = rig->driver;
    struct state_reader reader = {.bytes = bytes, .size = writer.used};
    rig_make(rig, &flow.model.backend, RIG_VECTORS);
    rig->driver = driver;
    assert_int_equal(virtio_control_pause(&rig->pci.control), 0);
    assert_int_equal(pci_root_load(&rig->root, &reader), 0);
    virtio_control_resume(&rig->pci.control);
    assert_int_equal(rig->messages, 1); /* one may have been lost */
    assert_int_equal(rig_read(rig, RIG_FIELD(queue_msix_vector), 2), 1);
    assert_int_equal(rig_read(rig, RIG_FIELD(device_status), 1), RIG_WORKING);
    model_backend_run(&flow.model);
    assert_int_equal(transport_flow_take(&flow), 20);
    serve(rig, &flow, 30);
    assert_int_equal(transport_flow_take(&flow), 30);
    assert_int_equal(rig->messages, 3);
    transport_flow_done(&flow);
}

static void bad_state_is_refused(void **state)
{
    struct rig *rig = *state;
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};
    const struct pci_function_class *class = rig->pci.function.class;

    rig_work(rig, 0);
    assert_int_equal(virtio_control_pause(&rig->pci.control), 0);
    assert_int_equal(class->save(&rig->pci.function, &writer), 0);
    size_t size = writer.used;
    for (size_t room = 0; room < size; room++) {
        struct state_writer small = {.bytes = bytes, .size = room};
        assert_int_equal(class->save(&rig->pci.function, &small), -ENOSPC);
        assert_int_equal(small.used, 0);
    }
    writer.used = 0;
    assert_int_equal(class->save(&rig->pci.function, &writer), 0);
    for (size_t length = 0; length < size; length++) {
        struct state_reader reader = {.bytes = bytes, .size = length};
        fake_backend_init(&rig->fake);
        rig_make(rig, NULL, RIG_VECTORS);
        virtio_control_pause(&rig->pci.control);
        assert_int_equal(class->load(&rig->pci.function, &reader), -EBADMSG);
    }
    struct state_reader reader = {.bytes = bytes, .size = size};

    bytes[STATE_RECORD_HEADER_BYTES + 12 + 4]++; /* the first queue is of a later version */
    assert_int_equal(class->load(&rig->pci.function, &reader), -ENOTSUP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define RIG_TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
        RIG_TEST(requests_flow_through_a_split_ring),
        RIG_TEST(requests_flow_through_a_packed_ring_with_notification_data),
        RIG_TEST(a_queue_that_was_reset_alone_is_driven_again_2_6_1),
        RIG_TEST(a_paused_device_serves_what_came_meanwhile),
        RIG_TEST(a_saved_device_goes_on_in_another_machine),
        RIG_TEST(bad_state_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
