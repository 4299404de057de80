/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The packed layout at start and stop: where the ring may lie, where a queue goes on. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "virtio/virtq_test_rig.h"

#define AVAIL VRING_PACKED_DESC_F_AVAIL
#define USED VRING_PACKED_DESC_F_USED

static const struct fake_piece byte_out = {.address = RIG_DATA, .length = 1, .writable = true};
static const struct fake_piece three_pieces[3] = {
    {.address = RIG_DATA, .length = 16},
    {.address = RIG_DATA + 0x100, .length = 10, .writable = true},
    {.address = RIG_DATA + 0x200, .length = 10, .writable = true},
};

static bool nothing_to_pop(void)
{
    struct virtq_chain *chain;
    return virtqueue_pop(&rig.queue, &chain, 1) == 0 && !rig.queue.broken;
}

/* Where the ring may lie (2.8, 2.8.10.1). */

static void any_size_from_1_to_32768_serves_over_laps(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {1, 2, 3, 5, 7, 8, 24, 100, 255, 256, 1000, 32767, 32768};
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        rig_build(&(struct rig_options){.packed = true, .size = sizes[i]});
        for (uint32_t j = 0; j < 5 * sizes[i] + 3 && j < 70000; j++) {
            rig_offer(&byte_out, 1);
            assert_true(rig_push(rig_pop()));
            rig_take_used(1);
        }
        assert_true(nothing_to_pop());
    }
}

static struct virtqueue_config sound_config(void)
{
    rig_build(&(struct rig_options){.packed = true, .size = 24, .stopped = true});
    return rig.config;
}

static int start_with(struct virtqueue_config config)
{
    struct virtqueue_config sound = sound_config();
    rig.config = config;
    int r = rig_start();
    assert_int_equal(rig.queue.state, r == 0 ? VIRTQUEUE_RUNNING : VIRTQUEUE_STOPPED);
    if (r < 0) {
        /* A failure leaves a queue that can be started. */
        assert_false(virtqueue_kicks_on(&rig.queue));
        rig.config = sound;
        assert_int_equal(rig_start(), 0);
    }
    return r;
}

static void sizes_that_no_ring_has_are_refused(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {0, 32769, 65536, 0x80000000, UINT32_MAX};
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct virtqueue_config config = sound_config();
        config.size = sizes[i];
        assert_int_equal(start_with(config), -EINVAL);
    }
}

static void parts_that_are_not_aligned_are_refused(void **state)
{
    (void)state;
    for (unsigned by = 1; by < 16; by++) {
        struct virtqueue_config config = sound_config();
        config.desc_address += by;
        assert_int_equal(start_with(config), -EINVAL);
        config = sound_config();
        config.avail_address += by;
        assert_int_equal(start_with(config), by % 4 == 0 ? 0 : -EINVAL);
        config = sound_config();
        config.used_address += by;
        assert_int_equal(start_with(config), by % 4 == 0 ? 0 : -EINVAL);
    }
}

static void parts_outside_memory_are_refused(void **state)
{
    (void)state;
    static const uint64_t addresses[] = {0, RIG_LOW_BASE - 16, RIG_HIGH_BASE + RIG_HIGH_BYTES, UINT64_MAX - 15};
    for (unsigned i = 0; i < ARRAY_SIZE(addresses); i++) {
        struct virtqueue_config config = sound_config();
        config.desc_address = addresses[i];
        assert_int_equal(start_with(config), -EFAULT);
        config = sound_config();
        config.avail_address = addresses[i];
        assert_int_equal(start_with(config), -EFAULT);
        config = sound_config();
        config.used_address = addresses[i];
        assert_int_equal(start_with(config), -EFAULT);
    }
}

static void the_parts_may_end_where_memory_ends(void **state)
{
    (void)state;
    uint64_t end = RIG_HIGH_BASE + RIG_HIGH_BYTES;
    struct virtqueue_config config = sound_config();
    config.desc_address = end - 24 * UINT64_C(16);
    config.avail_address = end - 4;
    assert_int_equal(start_with(config), 0);
    config.desc_address += 16;
    assert_int_equal(start_with(config), -EFAULT);
    config = sound_config();
    config.used_address = end - 4;
    assert_int_equal(start_with(config), 0);
}

static void a_ring_over_regions_that_are_apart_in_this_process_is_refused(void **state)
{
    (void)state;
    struct virtqueue_config config = sound_config();
    config.desc_address = RIG_HIGH_BASE - 16;
    assert_int_equal(start_with(config), -EFAULT);
}

static void a_ring_over_regions_that_continue_each_other_serves(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.packed = true, .size = 16, .stopped = true});
    guest_memory_init(&rig.memory, NULL);
    const struct guest_region first = {.guest_base = RIG_LOW_BASE, .size = 128, .host = rig_byte(RIG_LOW_BASE)};
    const struct guest_region second = {
        .guest_base = RIG_LOW_BASE + 128, .size = RIG_LOW_BYTES - 128, .host = rig_byte(RIG_LOW_BASE + 128)};
    assert_int_equal(guest_memory_add(&rig.memory, &first), 0);
    assert_int_equal(guest_memory_add(&rig.memory, &second), 0);
    assert_int_equal(rig_start(), 0);
    for (unsigned i = 0; i < 20; i++) {
        rig_offer(&byte_out, 1);
        assert_true(rig_push(rig_pop()));
        rig_take_used(1);
    }
}

static void a_region_that_lies_askew_in_this_process_holds_no_ring(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.packed = true, .size = 16, .stopped = true});
    guest_memory_init(&rig.memory, NULL);
    const struct guest_region askew = {
        .guest_base = RIG_LOW_BASE, .size = RIG_LOW_BYTES - 16, .host = rig_byte(RIG_LOW_BASE) + 1};
    assert_int_equal(guest_memory_add(&rig.memory, &askew), 0);
    assert_int_equal(rig_start(), -EINVAL);
}

/* Where a queue goes on. */

static void a_life_goes_on_where_the_last_one_stopped(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.packed = true, .size = 5});
    for (unsigned i = 0; i < 40; i++) {
        rig_offer(three_pieces, 1 + i % 3);
        (void)rig_push(rig_pop());
        assert_true(virtqueue_stop(&rig.queue));
        rig.config.base = virtqueue_base(&rig.queue);
        assert_int_equal(rig_start(), 0);
        rig_take_used(1);
        assert_true(nothing_to_pop());
    }
    /* 13 times 1 + 2 + 3, and 1: position 4 of an odd lap. */
    assert_int_equal(rig.config.base, VIRTQ_BASE_PACKED(4, false) * 0x10001u);
}

static void a_base_says_both_places_and_both_wrap_counters(void **state)
{
    (void)state;
    static const struct {
        uint16_t avail, used;
        bool avail_wrap, used_wrap;
        uint32_t held;
    } bases[] = {
        {0, 0, true, true, 0},   {0, 0, false, false, 0}, {4, 4, false, false, 0}, {4, 1, true, true, 3},
        {4, 0, false, false, 4}, {1, 4, false, true, 2},  {0, 4, true, false, 1},  {3, 3, true, false, 5},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(bases); i++) {
        rig_build(&(struct rig_options){.packed = true, .size = 5, .stopped = true});
        rig.config.base = VIRTQ_BASE_PACKED(bases[i].avail, bases[i].avail_wrap) |
                          VIRTQ_BASE_PACKED(bases[i].used, bases[i].used_wrap) << 16;
        assert_int_equal(rig_start(), 0);
        assert_int_equal(rig.queue.held, bases[i].held);
        if (bases[i].held < 5) {
            /* What was in flight then has places still, so the driver has so many fewer. */
            fake_driver_packed_desc(&rig.driver, bases[i].avail, RIG_DATA, 4, 9, bases[i].avail_wrap ? AVAIL : USED);
            (void)rig_push(rig_pop());
            const struct vring_packed_desc *used = &rig.driver.ring[bases[i].used];
            assert_int_equal(le16_to_cpu(used->id), 9);
            assert_int_equal(le16_to_cpu(used->flags), bases[i].used_wrap ? AVAIL | USED : 0);
        }
        virtqueue_kicks_off(&rig.queue);
        assert_true(virtqueue_stop(&rig.queue));
        if (bases[i].held == 5)
            assert_int_equal(virtqueue_base(&rig.queue), rig.config.base);
    }
}

static void bases_that_no_ring_can_have_are_refused(void **state)
{
    (void)state;
    static const uint32_t bases[] = {
        VIRTQ_BASE_PACKED(5, true) << 16 | VIRTQ_BASE_PACKED(5, true),
        VIRTQ_BASE_PACKED(0, true) << 16 | VIRTQ_BASE_PACKED(5, true),
        VIRTQ_BASE_PACKED(5, true) << 16 | VIRTQ_BASE_PACKED(0, false),
        VIRTQ_BASE_PACKED(0, true) << 16 | VIRTQ_BASE_PACKED(0x7fff, true),
        UINT32_MAX,
        /* Given back what was not taken, or more taken than the ring has. */
        VIRTQ_BASE_PACKED(3, true) << 16 | VIRTQ_BASE_PACKED(2, true),
        VIRTQ_BASE_PACKED(3, false) << 16 | VIRTQ_BASE_PACKED(2, false),
        VIRTQ_BASE_PACKED(2, true) << 16 | VIRTQ_BASE_PACKED(3, false),
        VIRTQ_BASE_PACKED(2, false) << 16 | VIRTQ_BASE_PACKED(3, true),
    };
    for (unsigned i = 0; i < ARRAY_SIZE(bases); i++) {
        rig_build(&(struct rig_options){.packed = true, .size = 5, .stopped = true});
        rig.config.base = bases[i];
        assert_int_equal(rig_start(), -EINVAL);
        assert_int_equal(rig.queue.state, VIRTQUEUE_STOPPED);
        rig.config.base = virtqueue_base_initial(rig.config.features);
        assert_int_equal(rig_start(), 0);
    }
}

static void a_ring_that_nobody_has_used_begins_at_place_0_of_wrap_1(void **state)
{
    (void)state;
    assert_int_equal(virtqueue_base_initial(VIRTIO_F_RING_PACKED | VIRTIO_F_VERSION_1), 0x80008000);
    assert_int_equal(virtqueue_base_initial(VIRTIO_F_VERSION_1), 0);
}

/* What was put back is the driver's until it is popped again: nothing of the ring is written. */
static void putting_back_goes_over_the_wrap_and_counts_places(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.packed = true, .size = 5, .base = 3, .odd_lap = true});
    struct virtq_chain *chains[3];
    rig_offer(three_pieces, 1);
    rig_offer(three_pieces, 3);
    rig_offer(three_pieces, 1);
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 3), 3);
    assert_int_equal(rig.queue.held, 5);
    virtqueue_unpop(&rig.queue, chains, 3);
    assert_int_equal(rig.queue.held, 0);
    assert_int_equal(rig.queue.next_avail, 3);
    assert_true(virtqueue_pending(&rig.queue));
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 2), 2);
    assert_int_equal(chains[1]->ring_count, 3);
    virtqueue_unpop(&rig.queue, chains + 1, 1);
    (void)rig_push(chains[0]);
    assert_true(virtqueue_stop(&rig.queue));
    assert_int_equal(virtqueue_base(&rig.queue), VIRTQ_BASE_PACKED(4, false) * 0x10001u);
    rig.config.base = virtqueue_base(&rig.queue);
    assert_int_equal(rig_start(), 0);
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 3), 2);
    assert_int_equal(chains[0]->ring_count, 3);
    virtqueue_push(&rig.queue, chains, 2);
    (void)virtqueue_publish(&rig.queue);
    rig_take_used(3);
}

static int teardown(void **state)
{
    (void)state;
    rig_done();
    return 0;
}

#define TEST(name) cmocka_unit_test_teardown(name, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(any_size_from_1_to_32768_serves_over_laps),
        TEST(sizes_that_no_ring_has_are_refused),
        TEST(parts_that_are_not_aligned_are_refused),
        TEST(parts_outside_memory_are_refused),
        TEST(the_parts_may_end_where_memory_ends),
        TEST(a_ring_over_regions_that_are_apart_in_this_process_is_refused),
        TEST(a_ring_over_regions_that_continue_each_other_serves),
        TEST(a_region_that_lies_askew_in_this_process_holds_no_ring),
        TEST(a_life_goes_on_where_the_last_one_stopped),
        TEST(a_base_says_both_places_and_both_wrap_counters),
        TEST(bases_that_no_ring_can_have_are_refused),
        TEST(a_ring_that_nobody_has_used_begins_at_place_0_of_wrap_1),
        TEST(putting_back_goes_over_the_wrap_and_counts_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
