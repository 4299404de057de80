/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The entropy device against a hostile driver and a source that dries up, fails and comes back. The input is a list of
 * steps: the driver writes anywhere in its memory, rings included, and offers chains; time passes; the queue stops.
 * Held against it: the source is never asked for more than the cap, nor before its time after an error, a queue stops
 * at once, and none is run again for nothing.
 */
#include <errno.h>

#include "devices/rng/rng.h"
#include "device_turns.h"
#include "fake_driver.h"
#include "fuzz_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RING_SIZE 16
#define SLOTS 12
#define STEPS_MAX 400 /* keeps one input to some milliseconds */
#define GUEST_BASE UINT64_C(0x1000)
#define GUEST_BYTES 32768
#define SECOND_NS UINT64_C(1000000000)

static _Alignas(4096) uint8_t guest_bytes[GUEST_BYTES];
static _Alignas(64) uint8_t block[1 << 20];
static struct guest_memory memory;
static struct virtq_arena arena;
static struct virtqueue queue;
static struct fake_driver driver;
static struct rng rng;

static struct fuzz_source {
    struct entropy_source source;
    uint8_t mood; /* 0: gives all; 1: dry; 2: fails; else so many bytes at once */
    uint64_t now_ns;
    uint64_t failed_at_ns; /* 0: not */
} source;

static int source_read(struct entropy_source *self, void *buffer, size_t size)
{
    (void)self;
    ASSERT(size > 0 && size <= RNG_REQUEST_BYTES_MAX);
    ASSERT(source.failed_at_ns == 0 || source.now_ns >= source.failed_at_ns + SECOND_NS);
    source.failed_at_ns = 0;
    if (source.mood == 1)
        return -EAGAIN;
    if (source.mood == 2) {
        source.failed_at_ns = source.now_ns;
        return -EIO;
    }
    size_t count = source.mood == 0 ? size : size_min(size, source.mood);
    memset(buffer, 0x5a, count);
    return (int)count;
}

static uint64_t source_now_ns(struct entropy_source *self)
{
    (void)self;
    return source.now_ns;
}

static const struct entropy_source_class source_class = {.read = source_read, .now_ns = source_now_ns};

static void start(void)
{
    struct virtqueue_config config = fake_driver_config(&driver, rng.device.features);

    config.base = virtqueue_base(&queue);
    virtio_device_queue_start(&rng.device, 0, &config, &memory, NULL, NULL);
}

/* Nothing is ever in flight. */
static void stop(void)
{
    unsigned events = virtio_device_queue_stop(&rng.device, 0);
    ASSERT((events & VIRTIO_EVENT_STOPPED) != 0);
}

static void begin(struct fuzz_input *input)
{
    struct virtq_arena_shape shape = {
        .slots = SLOTS, .medium_runs = 2, .long_runs = 1, .request_bytes = rng_request_bytes()};
    struct fake_memory guest = {GUEST_BASE, GUEST_BYTES, guest_bytes};
    uint8_t flags = fuzz_u8(input);

    memset(guest_bytes, 0, sizeof(guest_bytes));
    guest_memory_init(&memory, NULL);
    guest_memory_add(&memory, &(struct guest_region){GUEST_BASE, GUEST_BYTES, GUEST_BASE, guest_bytes, 0});
    ASSERT(virtq_arena_bytes(&shape) <= sizeof(block));
    memset(block, 0, virtq_arena_bytes(&shape));
    virtq_arena_init(&arena, &shape, block);
    virtqueue_init(&queue, &arena);
    uint64_t features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | (flags & 1 ? VIRTIO_F_EVENT_IDX : 0) |
                        (flags & 4 ? VIRTIO_F_RING_PACKED : 0) | (flags & 8 ? VIRTIO_F_IN_ORDER : 0);
    fake_driver_init(&driver, &guest, GUEST_BASE, RING_SIZE, features);
    source = (struct fuzz_source){.source.class = &source_class, .now_ns = 1};
    rng_init(&rng, &queue, &source.source, flags & 2 ? 1000 : 0);
    rng.device.offers_packed = true;
    int r = virtio_device_set_features(&rng.device, features);
    ASSERT(r == 0);
    start();
}

static void offer(struct fuzz_input *input)
{
    struct fake_piece pieces[3];
    uint8_t kind = fuzz_u8(input);

    for (unsigned i = 0; i < ARRAY_SIZE(pieces); i++)
        pieces[i] = (struct fake_piece){GUEST_BASE + fuzz_u16(input) % GUEST_BYTES, fuzz_u16(input) & 0x7ff,
                                        i > 0 || (kind & 1) != 0};
    if (kind & 2)
        fake_driver_add_indirect(&driver, &driver.memory, GUEST_BASE + 1024 + kind, pieces, 3);
    else
        fake_driver_add(&driver, pieces, 1 + kind % 3u);
}

static void step(struct fuzz_input *input)
{
    uint8_t code = fuzz_u8(input);
    uint16_t where;
    unsigned burst;
    uint32_t head, length;

    switch (code % 8) {
    case 0:
        where = fuzz_u16(input) & 0x7eff;
        fuzz_bytes(input, &guest_bytes[where], fuzz_u8(input));
        break;
    case 1:
        offer(input);
        break;
    case 2:
        fake_driver_show(&driver);
        burst = 1u + fuzz_u8(input);
        device_take_turns(&rng.device, 0, burst, virtio_device_run(&rng.device, 0, burst));
        break;
    case 3:
        burst = 1u + fuzz_u8(input);
        device_take_turns(&rng.device, 0, burst, virtio_device_wake(&rng.device, 0, burst));
        break;
    case 4:
        source.mood = fuzz_u8(input);
        break;
    case 5:
        source.now_ns += fuzz_u32(input);
        break;
    case 6:
        stop();
        if (code & 64) {
            source.failed_at_ns = 0; /* a reset forgets */
            uint64_t features = rng.device.features;
            virtio_device_reset(&rng.device);
            virtio_device_set_features(&rng.device, features);
        }
        start();
        break;
    case 7:
        if ((code & 64) != 0 && driver.packed) {
            where = fuzz_u8(input);
            fake_driver_packed_desc(&driver, where % RING_SIZE, GUEST_BASE + fuzz_u16(input), fuzz_u16(input), where,
                                    fuzz_u16(input));
        } else if ((code & 64) != 0) {
            fake_driver_offer(&driver, fuzz_u8(input));
        } else if (driver_can_get(&driver)) {
            fake_driver_get(&driver, &head, &length);
        }
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
