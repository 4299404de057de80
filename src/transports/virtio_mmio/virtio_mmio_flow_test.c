/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* virtio-mmio with a real model, with shared memory, and saved and loaded. */
#include "transport_flow.h"
#include "transports/virtio_mmio/virtio_mmio_test_rig.h"

#define PAGE UINT64_C(4096)
#define SHARED_BASE UINT64_C(0x4000000000)

static void entropy_flows(struct rig *rig, bool packed)
{
    struct transport_flow flow;
    uint64_t features = packed ? VIRTIO_F_RING_PACKED : 0;

    transport_flow_init(&flow, packed);
    rig_make(rig, &flow.model.backend, false);
    /* Twice, with a reset in between. */
    assert_true(transport_driver_negotiate(&rig->driver, VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | features));
    assert_true(transport_driver_set_up(&rig->driver, 0, &flow.rig.drivers[0]));
    transport_flow_ask(&flow, 100); /* before DRIVER_OK */
    transport_driver_kick(&rig->driver, 0, &flow.rig.drivers[0]);
    model_backend_run(&flow.model);
    assert_int_equal(transport_flow_take(&flow), -1);
    transport_driver_add_status(&rig->driver, VIRTIO_STATUS_DRIVER_OK);
    model_backend_run(&flow.model);
    assert_int_equal(transport_driver_interrupts(&rig->driver), VIRTIO_INTERRUPT_QUEUE);
    assert_int_equal(transport_flow_take(&flow), 100);
    for (unsigned i = 0; i < 40; i++) { /* more than the ring has */
        transport_flow_ask(&flow, 10 + i);
        transport_driver_kick(&rig->driver, 0, &flow.rig.drivers[0]);
        model_backend_run(&flow.model);
        assert_int_equal(transport_flow_take(&flow), 10 + i);
    }
    assert_int_equal(rig->owner.pulses, 41);
    transport_driver_reset(&rig->driver);
    assert_true(transport_driver_is_reset(&rig->driver));
    transport_flow_done(&flow);
}

static void requests_flow_through_a_split_ring(void **state)
{
    entropy_flows(*state, false);
}

static void requests_flow_through_a_packed_ring(void **state)
{
    entropy_flows(*state, true);
}

static void a_ring_outside_memory_breaks_the_device(void **state)
{
    struct rig *rig = *state;
    struct transport_flow flow;

    transport_flow_init(&flow, false);
    rig_make(rig, &flow.model.backend, false);
    assert_true(transport_driver_negotiate(&rig->driver, VIRTIO_F_VERSION_1));
    rig->ring.size = 64;
    assert_true(transport_driver_set_up(&rig->driver, 0, &rig->ring));
    transport_driver_add_status(&rig->driver, VIRTIO_STATUS_DRIVER_OK);
    assert_int_equal(rig_read(rig, VIRTIO_MMIO_STATUS), RIG_WORKING | VIRTIO_STATUS_NEEDS_RESET);
    assert_int_equal(transport_driver_interrupts(&rig->driver), VIRTIO_INTERRUPT_CONFIG);
    transport_flow_done(&flow);
}

static void a_driver_that_breaks_the_rules_in_the_ring_breaks_the_device(void **state)
{
    struct rig *rig = *state;
    struct transport_flow flow;

    transport_flow_init(&flow, false);
    rig_make(rig, &flow.model.backend, false);
    assert_true(transport_driver_negotiate(&rig->driver, VIRTIO_F_VERSION_1));
    assert_true(transport_driver_set_up(&rig->driver, 0, &flow.rig.drivers[0]));
    transport_driver_add_status(&rig->driver, VIRTIO_STATUS_DRIVER_OK);
    fake_driver_offer(&flow.rig.drivers[0], 999);
    (void)fake_driver_show(&flow.rig.drivers[0]);
    transport_driver_kick(&rig->driver, 0, &flow.rig.drivers[0]);
    model_backend_run(&flow.model);
    assert_int_equal(rig_read(rig, VIRTIO_MMIO_STATUS), RIG_WORKING | VIRTIO_STATUS_NEEDS_RESET);
    transport_flow_done(&flow);
}

static void a_saved_device_goes_on_in_another_machine(void **state)
{
    struct rig *rig = *state;
    struct transport_flow flow;
    uint8_t bytes[2048];
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};

    transport_flow_init(&flow, false);
    rig_make(rig, &flow.model.backend, false);
    assert_true(transport_driver_negotiate(&rig->driver, VIRTIO_F_VERSION_1));
    assert_true(transport_driver_set_up(&rig->driver, 0, &flow.rig.drivers[0]));
    transport_driver_add_status(&rig->driver, VIRTIO_STATUS_DRIVER_OK);
    transport_flow_ask(&flow, 10);
    transport_driver_kick(&rig->driver, 0, &flow.rig.drivers[0]);
    model_backend_run(&flow.model);
    assert_int_equal(transport_flow_take(&flow), 10);
    transport_flow_ask(&flow, 20); /* the kick is lost */
    rig_write(rig, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    assert_int_equal(virtio_control_pause(&rig->mmio.control), 0);
    assert_int_equal(virtio_mmio_save(&rig->mmio, &writer), 0);

    struct state_reader reader = {.bytes = bytes, .size = writer.used};
    rig_make(rig, &flow.model.backend, false);
    assert_int_equal(virtio_control_pause(&rig->mmio.control), 0);
    assert_int_equal(virtio_mmio_load(&rig->mmio, &reader), 0);
    virtio_control_resume(&rig->mmio.control);
    assert_int_equal(rig_read(rig, VIRTIO_MMIO_DEVICE_FEATURES), virtio_control_features(&rig->mmio.control) >> 32);
    assert_int_equal(rig_read(rig, VIRTIO_MMIO_INTERRUPT_STATUS), 1);
    model_backend_run(&flow.model);
    assert_int_equal(transport_flow_take(&flow), 20);
    transport_flow_done(&flow);
}

static void bad_state_is_refused(void **state)
{
    struct rig *rig = *state;
    uint8_t bytes[1024];

    rig_work(rig, 0);
    assert_int_equal(virtio_control_pause(&rig->mmio.control), 0);
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};
    assert_int_equal(virtio_mmio_save(&rig->mmio, &writer), 0);
    for (size_t room = 0; room < writer.used; room++) {
        struct state_writer small = {.bytes = bytes, .size = room};
        struct state_reader reader = {.bytes = bytes, .size = room};
        assert_int_equal(virtio_mmio_save(&rig->mmio, &small), -ENOSPC);
        assert_int_equal(small.used, 0);
        rig_make(rig, NULL, false);
        virtio_control_pause(&rig->mmio.control);
        assert_int_equal(virtio_mmio_load(&rig->mmio, &reader), -EBADMSG);
        rig_make(rig, NULL, false);
        rig_work(rig, 0);
        virtio_control_pause(&rig->mmio.control);
        struct state_writer whole = {.bytes = bytes, .size = sizeof(bytes)};
        assert_int_equal(virtio_mmio_save(&rig->mmio, &whole), 0);
    }
    struct state_reader reader = {.bytes = bytes, .size = writer.used};
    bytes[4]++; /* of a later version */
    rig_make(rig, NULL, false);
    virtio_control_pause(&rig->mmio.control);
    assert_int_equal(virtio_mmio_load(&rig->mmio, &reader), -ENOTSUP);
}

static uint8_t first[2 * PAGE], second[PAGE];

static void shared(struct fake_backend *fake)
{
    fake->region_count = 2;
    fake->regions[0] = (struct virtio_shared_region){.id = 7, .size = 2 * PAGE, .host = first};
    fake->regions[1] = (struct virtio_shared_region){.id = 1, .size = PAGE - 8, .host = second};
}

static uint64_t shared_register(struct rig *rig, uint32_t low)
{
    return rig_read(rig, low) | (uint64_t)rig_read(rig, low + 4) << 32;
}

/* Make it again, on the fake back end as it is now. */
static void make_shared(struct rig *rig)
{
    struct virtio_mmio_config config = {
        .control = {.backend = &rig->fake.backend, .port = &rig->owner.port, .queues = rig->queues},
        .doorbells = rig->doorbells,
        .bus = &rig->bus,
        .line = &rig->owner.line,
    };

    shared(&rig->fake);
    assert_int_equal(bus_remove(&rig->bus, &rig->mmio.device), 0);
    virtio_mmio_init(&rig->mmio, &config);
    assert_int_equal(bus_add(&rig->bus, RIG_BASE, VIRTIO_MMIO_BYTES, &rig->mmio.device), 0);
}

static void shared_memory_regions_are_where_the_registers_say_2_10(void **state)
{
    struct rig *rig = *state;

    make_shared(rig);
    assert_int_equal(virtio_mmio_shared_bytes(&rig->mmio, PAGE), 3 * PAGE);
    rig_write(rig, VIRTIO_MMIO_SHM_SEL, 1);
    assert_int_equal(shared_register(rig, VIRTIO_MMIO_SHM_LEN_LOW), UINT64_MAX);
    assert_int_equal(virtio_mmio_place_shared(&rig->mmio, SHARED_BASE, PAGE), 0);
    assert_int_equal(rig->port.mapped, 2);
    assert_int_equal(shared_register(rig, VIRTIO_MMIO_SHM_LEN_LOW), PAGE - 8);
    assert_int_equal(shared_register(rig, VIRTIO_MMIO_SHM_BASE_LOW), SHARED_BASE + 2 * PAGE);
    rig_write(rig, VIRTIO_MMIO_SHM_SEL, 7);
    assert_int_equal(shared_register(rig, VIRTIO_MMIO_SHM_LEN_LOW), 2 * PAGE);
    assert_int_equal(shared_register(rig, VIRTIO_MMIO_SHM_BASE_LOW), SHARED_BASE);
    rig_write(rig, VIRTIO_MMIO_SHM_SEL, 0);
    assert_int_equal(shared_register(rig, VIRTIO_MMIO_SHM_LEN_LOW), UINT64_MAX);
    assert_int_equal(shared_register(rig, VIRTIO_MMIO_SHM_BASE_LOW), UINT64_MAX);
    /* What the port has not mapped is reached all the same. */
    transport_driver_write(&rig->driver, SHARED_BASE + 2 * PAGE + 4, 4, 0x11223344);
    assert_int_equal(get_le32(second + 4), 0x11223344);
    assert_int_equal(transport_driver_read(&rig->driver, SHARED_BASE + 2 * PAGE + 4, 2), 0x3344);
    virtio_mmio_remove_shared(&rig->mmio);
    assert_int_equal(rig->port.mapped, 0);
    assert_int_equal(shared_register(rig, VIRTIO_MMIO_SHM_LEN_LOW), UINT64_MAX);
}

static void shared_memory_that_cannot_be_placed_is_not_there(void **state)
{
    struct rig *rig = *state;

    make_shared(rig);
    assert_int_equal(virtio_mmio_place_shared(&rig->mmio, RIG_BASE, PAGE), -EEXIST);
    rig->port.refuses_memory = true;
    assert_int_equal(virtio_mmio_place_shared(&rig->mmio, SHARED_BASE, PAGE), -ENOSPC);
    assert_null(bus_find(&rig->bus, SHARED_BASE));
    rig_write(rig, VIRTIO_MMIO_SHM_SEL, 7);
    assert_int_equal(shared_register(rig, VIRTIO_MMIO_SHM_LEN_LOW), UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define RIG_TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
        RIG_TEST(requests_flow_through_a_split_ring),
        RIG_TEST(requests_flow_through_a_packed_ring),
        RIG_TEST(a_ring_outside_memory_breaks_the_device),
        RIG_TEST(a_driver_that_breaks_the_rules_in_the_ring_breaks_the_device),
        RIG_TEST(a_saved_device_goes_on_in_another_machine),
        RIG_TEST(bad_state_is_refused),
        RIG_TEST(shared_memory_regions_are_where_the_registers_say_2_10),
        RIG_TEST(shared_memory_that_cannot_be_placed_is_not_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
