/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * virtio-mmio against a driver without manners and a back end that takes its time. The input is a list of steps: any
 * access to any register, what a driver does in whatever order, stops and resets that end when they like, pauses, state
 * that is saved, damaged and loaded. Held against it, after each step: what transport_check says; a doorbell for each
 * live queue and no other; a line whose level is the interrupt status. At the end a reset always helps.
 */
#include "transport_steps.h"
#include "transports/virtio_mmio/virtio_mmio.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS_MAX 300 /* keeps one input to some milliseconds */
#define BASE UINT64_C(0x10000)
#define STATE_BYTES 1024

static struct world {
    struct counting_port port;
    struct bus bus;
    struct fake_backend fake;
    struct fake_owner owner;
    struct virtio_mmio mmio;
    struct virtio_control_queue queues[FAKE_BACKEND_QUEUES];
    struct bus_doorbell doorbells[FAKE_BACKEND_QUEUES];
    struct transport_driver driver;
    bool level;
} world;

static void make(void)
{
    struct virtio_mmio_config config = {
        .control =
            {
                .backend = &world.fake.backend,
                .port = &world.owner.port,
                .queues = world.queues,
                .features_added = VIRTIO_CONTROL_FEATURES,
                .one_thread = true,
            },
        .doorbells = world.doorbells,
        .bus = &world.bus,
        .line = &world.owner.line,
        .level = world.level,
    };

    counting_port_init(&world.port);
    bus_init(&world.bus, "mmio", &world.port.port);
    fake_backend_init(&world.fake);
    fake_owner_init(&world.owner);
    virtio_mmio_init(&world.mmio, &config);
    int r = bus_add(&world.bus, BASE, VIRTIO_MMIO_BYTES, &world.mmio.device);
    ASSERT(r == 0);
    bool found = transport_driver_find_mmio(&world.driver, &world.bus, BASE);
    ASSERT(found);
}

/* The machine is saved and loaded, with some of the bytes damaged; one that cannot be loaded is reset. */
static void save_and_load(struct fuzz_input *input)
{
    static uint8_t bytes[STATE_BYTES];
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};
    uint8_t damages = fuzz_u8(input) & 3;

    virtio_control_pause(&world.mmio.control);
    if (!virtio_control_is_settled(&world.mmio.control))
        return;
    int r = virtio_mmio_save(&world.mmio, &writer);
    ASSERT(r == 0);
    for (unsigned i = 0; i < damages; i++) {
        size_t at = fuzz_u16(input) % writer.used;
        bytes[at] ^= fuzz_u8(input);
    }
    make();
    virtio_control_pause(&world.mmio.control);
    struct state_reader reader = {.bytes = bytes, .size = writer.used};
    r = virtio_mmio_load(&world.mmio, &reader);
    ASSERT(r == 0 || damages > 0);
    if (r < 0)
        (void)virtio_control_reset(&world.mmio.control);
}

static void step(struct fuzz_input *input)
{
    uint8_t code = fuzz_u8(input);
    uint64_t address = BASE + (code & 0x80 ? fuzz_u16(input) % (VIRTIO_MMIO_BYTES + 8) : fuzz_u8(input) * 4u);
    unsigned size = (code & 0x40) != 0 ? 1u << fuzz_u8(input) % 4 : 4;

    switch (code & 7) {
    case 0:
    case 1:
        transport_driver_write(&world.driver, address, size, fuzz_u32(input));
        break;
    case 2:
        (void)transport_driver_read(&world.driver, address, size);
        break;
    case 3:
        save_and_load(input);
        break;
    default:
        transport_step(&world.mmio.control, &world.fake, &world.owner, &world.driver, input);
        break;
    }
}

static void check(void)
{
    const struct virtio_control *control = &world.mmio.control;
    bool by_value = !virtio_control_has(control, VIRTIO_F_NOTIFICATION_DATA);

    transport_check(control, &world.fake);
    ASSERT(world.port.bound == (by_value ? transport_live_count(control) : 0));
    ASSERT(world.owner.raised == (world.level && atomic_load(&control->interrupt_status) != 0));
    ASSERT(bus_device_busy(&world.mmio.device) == !virtio_control_is_settled(control));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};

    world.level = (fuzz_u8(&input) & 1) != 0;
    make();
    for (unsigned i = 0; i < STEPS_MAX && input.left > 0; i++) {
        step(&input);
        check();
    }
    transport_end(&world.mmio.control, &world.fake);
    check();
    return 0;
}
