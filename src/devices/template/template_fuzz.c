/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * virtio-template against a hostile driver and a sink that is full at times. The input is a list of steps: the driver
 * writes anywhere in its memory, the ring included, offers chains, reads and writes the configuration; the queue stops.
 */
#include <errno.h>

#include "devices/template/template.h"
#include "device_turns.h"
#include "fake_driver.h"
#include "fuzz_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RING_SIZE 16
#define STEPS_MAX 200 /* keeps one input to some milliseconds */
#define GUEST_BASE UINT64_C(0x1000)
#define GUEST_BYTES 16384

static _Alignas(4096) uint8_t guest_bytes[GUEST_BYTES];
static _Alignas(64) uint8_t block[1 << 18];
static struct guest_memory memory;
static struct virtq_arena arena;
static struct virtqueue queue;
static struct fake_driver driver;
static struct template template;

static struct fuzz_sink {
    struct template_sink sink;
    bool full;
} sink;

static int sink_take(struct template_sink *self, const void *message, size_t size)
{
    uint8_t copy[TEMPLATE_MESSAGE_BYTES_MAX];

    (void)self;
    ASSERT(size <= sizeof(copy));
    memcpy(copy, message, size);
    return sink.full ? -EAGAIN : 0;
}

static const struct template_sink_class sink_class = {.take = sink_take};

static void start(void)
{
    struct virtqueue_config config = fake_driver_config(&driver, template.device.features);

    config.base = virtqueue_base(&queue);
    virtio_device_queue_start(&template.device, 0, &config, &memory, NULL, NULL);
}

/* Nothing is ever in flight. */
static void stop(void)
{
    unsigned events = virtio_device_queue_stop(&template.device, 0);
    ASSERT((events & VIRTIO_EVENT_STOPPED) != 0);
}

static void begin(struct fuzz_input *input)
{
    struct virtq_arena_shape shape = {
        .slots = 8, .medium_runs = 2, .long_runs = 1, .request_bytes = template_request_bytes()};
    struct fake_memory guest = {GUEST_BASE, GUEST_BYTES, guest_bytes};
    uint8_t flags = fuzz_u8(input);
    uint64_t features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | (flags & 1 ? VIRTIO_F_EVENT_IDX : 0) |
                        (flags & 2 ? VIRTIO_F_RING_PACKED : 0) | (flags & 4 ? VIRTIO_F_IN_ORDER : 0);

    memset(guest_bytes, 0, sizeof(guest_bytes));
    guest_memory_init(&memory, NULL);
    guest_memory_add(&memory, &(struct guest_region){GUEST_BASE, GUEST_BYTES, GUEST_BASE, guest_bytes, 0});
    ASSERT(virtq_arena_bytes(&shape) <= sizeof(block));
    memset(block, 0, virtq_arena_bytes(&shape));
    virtq_arena_init(&arena, &shape, block);
    virtqueue_init(&queue, &arena);
    fake_driver_init(&driver, &guest, GUEST_BASE, RING_SIZE, features);
    sink = (struct fuzz_sink){.sink.class = &sink_class};
    template_init(&template, &queue, &sink.sink);
    template.device.offers_packed = true;
    int r = virtio_device_set_features(&template.device, features);
    ASSERT(r == 0);
    start();
}

static void step(struct fuzz_input *input)
{
    uint8_t code = fuzz_u8(input);
    uint8_t bytes[16];
    uint16_t where;
    unsigned burst;
    struct fake_piece piece;

    switch (code % 8) {
    case 0:
        where = fuzz_u16(input) % (GUEST_BYTES - UINT8_MAX);
        fuzz_bytes(input, &guest_bytes[where], fuzz_u8(input));
        break;
    case 1:
        piece = (struct fake_piece){GUEST_BASE + fuzz_u16(input), fuzz_u16(input), (code & 64) != 0};
        fake_driver_add(&driver, &piece, 1);
        break;
    case 2:
        if (driver.packed) {
            where = fuzz_u8(input);
            fake_driver_packed_desc(&driver, where % RING_SIZE, GUEST_BASE + fuzz_u16(input), fuzz_u16(input), where,
                                    fuzz_u16(input));
        } else {
            fake_driver_offer(&driver, fuzz_u8(input));
        }
        break;
    case 3:
        fake_driver_show(&driver);
        burst = 1u + fuzz_u8(input);
        device_take_turns(&template.device, 0, burst, virtio_device_run(&template.device, 0, burst));
        break;
    case 4:
        burst = 1u + fuzz_u8(input);
        device_take_turns(&template.device, 0, burst, virtio_device_wake(&template.device, 0, burst));
        break;
    case 5:
        sink.full = !sink.full;
        break;
    case 6:
        stop();
        start();
        break;
    case 7:
        where = fuzz_u16(input);
        fuzz_bytes(input, bytes, sizeof(bytes));
        virtio_device_config_write(&template.device, where, bytes, code % sizeof(bytes));
        virtio_device_config_read(&template.device, where, bytes, code % sizeof(bytes));
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};

    begin(&input);
    for (unsigned i = 0; i < STEPS_MAX && input.left > 0; i++)
        step(&input);
    stop();
    return 0;
}
