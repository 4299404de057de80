/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The rng model serves the fake driver with no kernel and no C library under them: the very archives that the daemon
 * links. Each test prints one line; the last line and the exit status say how it ended.
 *
 * SMOKE_PLANT makes an image that must fail, so that the runner is known to notice: 1, the source hands out one wrong
 * byte; 2, an instruction that the processor refuses; 3, an assertion that does not hold.
 */
#include <errno.h>

#include "devices/rng/rng.h"
#include "fake_driver.h"
#include "machine.h"

#ifndef SMOKE_PLANT
#define SMOKE_PLANT 0
#endif

#define LOW_BASE UINT64_C(0x10000) /* the ring */
#define HIGH_BASE UINT64_C(0x100000000)
#define HIGH_BYTES 65536 /* the buffers */
#define RING_SIZE 16
#define FEATURES (VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX)
#define UNTOUCHED 0xee

static _Alignas(4096) uint8_t low_bytes[16384];
static _Alignas(4096) uint8_t high_bytes[HIGH_BYTES];
static _Alignas(64) uint8_t arena_block[256 * 1024];
static const struct fake_memory low = {.guest_base = LOW_BASE, .size = sizeof(low_bytes), .host = low_bytes};
static const struct fake_memory high = {.guest_base = HIGH_BASE, .size = HIGH_BYTES, .host = high_bytes};

/* Entropy that can be foretold: each byte is the one before it and 7. */
struct counter_source {
    struct entropy_source source;
    uint64_t given;
    uint64_t left; /* bytes until it is dry */
};

static int counter_read(struct entropy_source *source, void *buffer, size_t size)
{
    struct counter_source *counter = container_of(source, struct counter_source, source);
    uint8_t *bytes = buffer;
    if (counter->left == 0)
        return -EAGAIN;
    size_t count = (size_t)u64_min(size, counter->left);
    for (size_t i = 0; i < count; i++)
        bytes[i] = (uint8_t)((counter->given + i) * 7);
    if (SMOKE_PLANT == 1 && counter->given == 0)
        bytes[0] ^= 1;
    counter->given += count;
    counter->left -= count;
    return (int)count;
}

static uint64_t counter_now_ns(struct entropy_source *source)
{
    return container_of(source, struct counter_source, source)->given;
}

static const struct entropy_source_class counter_class = {.read = counter_read, .now_ns = counter_now_ns};

static struct guest_memory memory;
static struct virtq_arena arena;
static struct virtqueue queue;
static struct fake_driver driver;
static struct counter_source source;
static struct rng rng;
static uint64_t checked; /* bytes of the source that the guest has been seen to get */
static const char *failed_check;
static unsigned failed_line;

/* Ends the test that is running; the first one that fails is told. */
#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            failed_check = #condition;                                                                                 \
            failed_line = __LINE__;                                                                                    \
            return;                                                                                                    \
        }                                                                                                              \
    } while (0)

static void start_queue(void)
{
    fake_driver_init(&driver, &low, LOW_BASE, RING_SIZE, VIRTIO_F_EVENT_IDX);
    struct virtqueue_config config = fake_driver_config(&driver, FEATURES);
    CHECK(virtio_device_set_features(&rng.device, FEATURES) == 0);
    CHECK(virtio_device_queue_start(&rng.device, 0, &config, &memory, NULL, NULL) == 0);
    memset(high_bytes, UNTOUCHED, sizeof(high_bytes));
}

static void begins(void)
{
    const struct guest_region regions[] = {
        {.guest_base = low.guest_base, .size = low.size, .host = low.host},
        {.guest_base = high.guest_base, .size = high.size, .host = high.host},
    };
    guest_memory_init(&memory, NULL);
    for (size_t i = 0; i < ARRAY_SIZE(regions); i++)
        CHECK(guest_memory_add(&memory, &regions[i]) == 0);

    const struct virtq_arena_shape shape = {
        .slots = 32,
        .medium_runs = 2,
        .long_runs = 1,
        .request_bytes = rng_request_bytes(),
    };
    CHECK(virtq_arena_bytes(&shape) <= sizeof(arena_block));
    virtq_arena_init(&arena, &shape, arena_block);
    virtqueue_init(&queue, &arena);
    source = (struct counter_source){.source.class = &counter_class, .left = UINT64_MAX};
    rng_init(&rng, &queue, &source.source, 0);
    start_queue();
}

static struct fake_piece buffer(uint64_t offset, uint32_t length)
{
    return (struct fake_piece){.address = HIGH_BASE + offset, .length = length, .writable = true};
}

/* Are these the next bytes of the source? */
static bool is_next(uint64_t offset, uint64_t length)
{
    for (uint64_t i = 0; i < length; i++, checked++) {
        if (high_bytes[offset + i] != (uint8_t)(checked * 7))
            return false;
    }
    return true;
}

static void fills_requests_of_every_length_in_their_order(void)
{
    static const uint32_t lengths[] = {1, 2, 63, 64, 1023, 1024, 1025, 4096};
    int heads[ARRAY_SIZE(lengths)];
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        struct fake_piece piece = buffer(i * 4096, lengths[i]);
        heads[i] = fake_driver_add(&driver, &piece, 1);
        CHECK(heads[i] >= 0);
    }
    CHECK(!fake_driver_interrupts_on(&driver));
    CHECK(fake_driver_show(&driver));
    CHECK(virtio_device_run(&rng.device, 0, 64) == VIRTIO_EVENT_NOTIFY);
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        uint32_t head, length;
        CHECK(fake_driver_get(&driver, &head, &length));
        CHECK(head == (uint32_t)heads[i]);
        CHECK(length == u32_min(lengths[i], RNG_REQUEST_BYTES_MAX));
        CHECK(is_next(i * 4096, length));
        CHECK(high_bytes[i * 4096 + length] == UNTOUCHED);
    }
    CHECK(!virtqueue_pending(&queue));
}

static void fills_an_indirect_chain_of_many_pieces(void)
{
    struct fake_piece pieces[32];
    for (unsigned i = 0; i < ARRAY_SIZE(pieces); i++)
        pieces[i] = buffer(i * 100, 10);
    CHECK(fake_driver_add_indirect(&driver, &high, HIGH_BASE + 32768, pieces, ARRAY_SIZE(pieces)) >= 0);
    fake_driver_show(&driver);
    virtio_device_run(&rng.device, 0, 64);
    uint32_t head, length;
    CHECK(fake_driver_get(&driver, &head, &length));
    CHECK(length == 320);
    for (unsigned i = 0; i < ARRAY_SIZE(pieces); i++)
        CHECK(is_next(i * 100, 10));
}

static void keeps_a_request_while_the_source_is_dry(void)
{
    struct fake_piece piece = buffer(0, 100);
    uint32_t head, length;
    source.left = 0;
    CHECK(fake_driver_add(&driver, &piece, 1) >= 0);
    fake_driver_show(&driver);
    CHECK(virtio_device_run(&rng.device, 0, 64) == 0);
    CHECK(!fake_driver_get(&driver, &head, &length));
    source.left = UINT64_MAX;
    CHECK((virtio_device_wake(&rng.device, 0, 64) & VIRTIO_EVENT_NEEDS_RESET) == 0);
    CHECK(fake_driver_get(&driver, &head, &length));
    CHECK(length == 100);
    CHECK(is_next(0, 100));
}

static void goes_on_past_where_the_ring_index_wraps(void)
{
    for (unsigned round = 0; round < 70000 / RING_SIZE; round++) {
        uint32_t head, length;
        for (unsigned i = 0; i < RING_SIZE; i++) {
            struct fake_piece piece = buffer(i * 8, 8);
            CHECK(fake_driver_add(&driver, &piece, 1) >= 0);
        }
        fake_driver_show(&driver);
        virtio_device_run(&rng.device, 0, 64);
        for (unsigned i = 0; i < RING_SIZE; i++) {
            CHECK(fake_driver_get(&driver, &head, &length));
            CHECK(length == 8);
        }
        CHECK(!fake_driver_get(&driver, &head, &length));
        CHECK(is_next(0, RING_SIZE * 8));
    }
}

static void a_chain_that_never_ends_needs_a_reset_and_serves_again(void)
{
    fake_driver_desc(&driver, 0, HIGH_BASE, 8, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 1);
    fake_driver_desc(&driver, 1, HIGH_BASE, 8, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 0);
    fake_driver_offer(&driver, 0);
    fake_driver_show(&driver);
    CHECK((virtio_device_run(&rng.device, 0, 64) & VIRTIO_EVENT_NEEDS_RESET) != 0);
    CHECK(atomic_load(&rng.device.needs_reset));
    CHECK((virtio_device_queue_stop(&rng.device, 0) & VIRTIO_EVENT_STOPPED) != 0);
    virtio_device_reset(&rng.device);
    CHECK(!atomic_load(&rng.device.needs_reset));
    start_queue();
    if (failed_check == NULL)
        fills_requests_of_every_length_in_their_order();
}

static void planted(void)
{
    if (SMOKE_PLANT == 2)
        __asm__ volatile("ud2");
    ASSERT(SMOKE_PLANT != 3);
}

static const struct {
    const char *name;
    void (*run)(void);
} tests[] = {
    {"begins", begins},
    {"planted", planted},
    {"fills_requests_of_every_length_in_their_order", fills_requests_of_every_length_in_their_order},
    {"fills_an_indirect_chain_of_many_pieces", fills_an_indirect_chain_of_many_pieces},
    {"keeps_a_request_while_the_source_is_dry", keeps_a_request_while_the_source_is_dry},
    {"goes_on_past_where_the_ring_index_wraps", goes_on_past_where_the_ring_index_wraps},
    {"a_chain_that_never_ends_needs_a_reset_and_serves_again", a_chain_that_never_ends_needs_a_reset_and_serves_again},
};

_Noreturn void smoke_main(void);

_Noreturn void smoke_main(void)
{
    machine_init();
    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        tests[i].run();
        if (failed_check != NULL) {
            print("smoke: FAIL ");
            print(tests[i].name);
            print(": ");
            print(failed_check);
            print(" in line ");
            print_number(failed_line);
            print("\n");
            machine_exit(false);
        }
        print("smoke: ok ");
        print(tests[i].name);
        print("\n");
    }
    print("smoke: PASS ");
    print_number(ARRAY_SIZE(tests));
    print("\n");
    machine_exit(true);
}
