/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The packed half of the fake driver, held against the text of VIRTIO 1.3, 2.8, with a device that is written out by
 * hand.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "fake_driver.h"

#define BASE UINT64_C(0x10000)
#define SIZE 5 /* no power of two */

static _Alignas(16) uint8_t bytes[64 * 1024];
static const struct fake_memory memory = {.guest_base = BASE, .size = sizeof(bytes), .host = bytes};
static struct fake_driver driver;

/* The device: where it writes next, and on which lap. */
static unsigned device_place;
static bool device_wrap;

static void given(uint64_t features)
{
    memset(bytes, 0xee, sizeof(bytes));
    fake_driver_init(&driver, &memory, BASE + 64, SIZE, VIRTIO_F_RING_PACKED | features);
    device_place = 0;
    device_wrap = true;
}

static int given_driver(void **state)
{
    (void)state;
    given(0);
    return 0;
}

static int given_driver_with_event_index(void **state)
{
    (void)state;
    given(VIRTIO_F_EVENT_IDX);
    return 0;
}

/* 2.8.13: address, length, id, flags. */
static const uint8_t *desc_at(unsigned place)
{
    return bytes + 64 + place * 16;
}

static uint16_t flags_at(unsigned place)
{
    return get_le16(desc_at(place) + 14);
}

/* 2.8.14: first the driver's area, then the device's, as the driver was told. */
static uint8_t *area(uint64_t address)
{
    return bytes + (address - BASE);
}

static void device_says(uint16_t place_and_wrap, uint16_t flags)
{
    put_le16(area(driver.used_address), place_and_wrap);
    put_le16(area(driver.used_address) + 2, flags);
}

/* Bits 7 and 15 as 2.8.1 has it. */
static uint16_t available(bool wrap)
{
    return wrap ? 1u << 7 : 1u << 15;
}

static uint16_t used(bool wrap)
{
    return wrap ? 1u << 7 | 1u << 15 : 0;
}

/* The device gives back @id, which had @descriptors. */
static void complete(uint16_t id, unsigned descriptors, uint32_t length, uint16_t flags)
{
    uint8_t *desc = bytes + 64 + device_place * 16;
    put_le32(desc + 8, length);
    put_le16(desc + 12, id);
    put_le16(desc + 14, used(device_wrap) | flags);
    device_place += descriptors;
    if (device_place >= SIZE) {
        device_place -= SIZE;
        device_wrap = !device_wrap;
    }
}

static int add(unsigned count)
{
    const struct fake_piece pieces[SIZE] = {{.address = BASE, .length = 1}};
    return fake_driver_add(&driver, pieces, count);
}

static void assert_get(uint32_t id, uint32_t length)
{
    uint32_t got_id = 77, got_length = 77;
    assert_true(fake_driver_get(&driver, &got_id, &got_length));
    assert_int_equal(got_id, id);
    assert_int_equal(got_length, length);
}

static void assert_nothing(void)
{
    uint32_t id = 77, length = 77;
    assert_false(fake_driver_get(&driver, &id, &length));
    assert_int_equal(id, 77);
}

static void lays_the_three_parts_one_after_the_other_and_aligned(void **state)
{
    (void)state;
    for (uint32_t size = 1; size <= VRING_SIZE_MAX; size = size * 3 / 2 + 1)
        assert_true(fake_driver_ring_bytes(size) >= vring_packed_desc_bytes(size) + 8);
    struct virtqueue_config config = fake_driver_config(&driver, VIRTIO_F_VERSION_1 | VIRTIO_F_RING_PACKED);
    assert_int_equal(config.size, SIZE);
    assert_int_equal(config.desc_address, BASE + 64);
    assert_true(config.avail_address >= config.desc_address + SIZE * 16u);
    assert_true(config.used_address >= config.avail_address + 4);
    assert_true(is_aligned(config.avail_address, 4) && is_aligned(config.used_address, 4));
    assert_int_equal(config.base, 0x80008000); /* wrap counters begin as 1 */
}

static void an_empty_ring_is_all_zero_and_nothing_around_it_is_touched(void **state)
{
    (void)state;
    size_t end = 64 + fake_driver_ring_bytes(SIZE);
    for (size_t i = 0; i < 64; i++)
        assert_int_equal(bytes[i], 0xee);
    for (size_t i = 64; i < end; i++)
        assert_int_equal(bytes[i], 0);
    assert_int_equal(bytes[end], 0xee);
    assert_nothing();
}

static void writes_a_list_as_2_8_6_has_it(void **state)
{
    (void)state;
    const struct fake_piece pieces[] = {
        {.address = 0x1122334455667788, .length = 16},
        {.address = BASE + 0x2000, .length = 0x01020304, .writable = true},
        {.address = BASE + 0x3000, .length = 1, .writable = true},
    };
    int id = fake_driver_add(&driver, pieces, 3);
    assert_in_range(id, 0, SIZE - 1);
    (void)fake_driver_show(&driver);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(get_le64(desc_at(i)) == pieces[i].address);
        assert_int_equal(get_le32(desc_at(i) + 8), pieces[i].length);
        assert_int_equal(get_le16(desc_at(i) + 12), id);
        assert_int_equal(flags_at(i), available(true) | (pieces[i].writable ? 2u : 0u) | (i < 2 ? 1u : 0u));
    }
    assert_int_equal(flags_at(3), 0);
    assert_int_equal(driver.free_count, SIZE - 3);
}

static void the_device_sees_nothing_before_it_is_shown(void **state)
{
    (void)state;
    int first = add(2);
    int second = add(1);
    assert_int_not_equal(first, second);
    assert_int_equal(flags_at(0), 0); /* it looks at places in order, so it does not come to the others */
    assert_true(fake_driver_show(&driver));
    assert_int_equal(flags_at(0), available(true) | 1u);
    assert_int_equal(flags_at(1), available(true));
    assert_int_equal(flags_at(2), available(true));
    assert_false(fake_driver_show(&driver));
}

static void writes_an_indirect_table_at_any_address(void **state)
{
    (void)state;
    const struct fake_piece pieces[] = {
        {.address = BASE + 0x2000, .length = 16},
        {.address = BASE + 0x3000, .length = 512, .writable = true},
    };
    int id = fake_driver_add_indirect(&driver, &memory, BASE + 0x4001, pieces, 2);
    (void)fake_driver_show(&driver);
    assert_int_equal(get_le64(desc_at(0)), BASE + 0x4001);
    assert_int_equal(get_le32(desc_at(0) + 8), 32);
    assert_int_equal(get_le16(desc_at(0) + 12), id);
    assert_int_equal(flags_at(0), available(true) | 4u);
    const uint8_t *table = bytes + 0x4001;
    for (unsigned i = 0; i < 2; i++) {
        assert_true(get_le64(table + i * 16) == pieces[i].address);
        assert_int_equal(get_le32(table + i * 16 + 8), pieces[i].length);
        assert_int_equal(get_le16(table + i * 16 + 14), pieces[i].writable ? 2 : 0); /* 2.8.7: nothing else */
    }
    assert_int_equal(driver.free_count, SIZE - 1);
}

static void adds_nothing_when_descriptors_are_short(void **state)
{
    (void)state;
    const struct fake_piece piece = {.address = BASE, .length = 1};
    assert_true(add(SIZE - 1) >= 0);
    assert_int_equal(add(2), -1);
    assert_true(add(1) >= 0);
    assert_int_equal(add(1), -1);
    assert_int_equal(fake_driver_add_indirect(&driver, &memory, BASE + 0x4000, &piece, 1), -1);
}

static void the_marks_turn_when_the_ring_comes_round(void **state)
{
    (void)state;
    unsigned place = 0;
    bool wrap = true;
    for (unsigned round = 0; round < 60; round++) {
        unsigned count = 1 + round % SIZE;
        int id = add(count);
        (void)fake_driver_show(&driver);
        for (unsigned i = 0; i < count; i++) {
            assert_int_equal(flags_at(place) & (1u << 7 | 1u << 15), available(wrap));
            if (++place == SIZE) {
                place = 0;
                wrap = !wrap;
            }
        }
        assert_nothing();
        complete((uint16_t)id, count, round, 2);
        assert_get((uint32_t)id, round);
        assert_nothing();
        assert_int_equal(driver.free_count, SIZE);
    }
}

static void takes_used_descriptors_in_the_device_s_order_and_skips_their_lists(void **state)
{
    (void)state;
    int first = add(3);
    int second = add(2);
    (void)fake_driver_show(&driver);
    assert_nothing();
    complete((uint16_t)second, 2, 5, 2);
    assert_get((uint32_t)second, 5);
    assert_int_equal(driver.free_count, 2);
    /* Place 1 is skipped, whatever it says: the next one is place 2. */
    assert_nothing();
    complete((uint16_t)first, 3, 9, 2);
    assert_get((uint32_t)first, 9);
    assert_int_equal(driver.free_count, SIZE);
    assert_nothing();
}

static void a_length_counts_only_with_the_write_flag(void **state)
{
    (void)state;
    int id = add(1);
    (void)fake_driver_show(&driver);
    complete((uint16_t)id, 1, 1234, 0); /* 2.8.3: the device wrote nothing */
    assert_get((uint32_t)id, 0);
}

static void an_id_that_comes_back_twice_frees_its_descriptors_once(void **state)
{
    (void)state;
    int id = add(2), other = add(1);
    (void)fake_driver_show(&driver);
    complete((uint16_t)id, 2, 0, 0);
    assert_get((uint32_t)id, 0);
    complete((uint16_t)id, 1, 0, 0);
    assert_get((uint32_t)id, 0);
    assert_int_equal(driver.free_count, SIZE - 1);
    assert_int_not_equal(add(1), other);
}

static void what_the_device_writes_over_is_known_all_the_same(void **state)
{
    (void)state;
    int id = add(4);
    (void)fake_driver_show(&driver);
    memset(bytes + 64, 0x5a, SIZE * 16u);
    complete((uint16_t)id, 4, 0, 0);
    assert_get((uint32_t)id, 0);
    assert_int_equal(driver.free_count, SIZE);
    assert_true(add(SIZE) >= 0);
}

static void kicks_by_the_flags(void **state)
{
    (void)state;
    static const struct {
        uint16_t flags;
        bool kick;
    } cases[] = {{0, true}, {1, false}, {2, true}, {3, true}};
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        device_says(3, cases[i].flags);
        (void)add(1);
        assert_int_equal(fake_driver_show(&driver), cases[i].kick);
        assert_false(fake_driver_show(&driver));
    }
}

/* Every batch from every place against every event. */
static void with_event_index_kicks_when_a_batch_goes_over_the_event(void **state)
{
    (void)state;
    for (unsigned at = 0; at < 2 * SIZE; at++) {
        for (unsigned count = 1; count <= SIZE; count++) {
            for (unsigned event = 0; event < 2 * SIZE; event++) {
                given(VIRTIO_F_EVENT_IDX);
                for (unsigned i = 0; i < at; i++) {
                    int id = add(1);
                    (void)fake_driver_show(&driver);
                    complete((uint16_t)id, 1, 0, 0);
                    assert_get((uint32_t)id, 0);
                }
                device_says((uint16_t)(event % SIZE | (event < SIZE ? 1u << 15 : 0)), 2);
                bool over = false;
                for (unsigned i = at; i < at + count; i++)
                    over = over || i % (2 * SIZE) == event;
                (void)add(count);
                assert_int_equal(fake_driver_show(&driver), over);
            }
        }
    }
    given(VIRTIO_F_EVENT_IDX);
    device_says(0, 1);
    (void)add(1);
    assert_false(fake_driver_show(&driver));
    device_says(0, 0);
    (void)add(1);
    assert_true(fake_driver_show(&driver));
}

static void asks_for_interrupts_by_the_flags(void **state)
{
    (void)state;
    const uint8_t *mine = area(driver.avail_address);
    fake_driver_interrupts_off(&driver);
    assert_int_equal(get_le16(mine + 2), 1);
    assert_false(fake_driver_interrupts_on(&driver));
    assert_int_equal(get_le16(mine + 2), 0);
    int id = add(1);
    (void)fake_driver_show(&driver);
    assert_false(fake_driver_interrupts_on(&driver));
    complete((uint16_t)id, 1, 0, 0);
    assert_true(fake_driver_interrupts_on(&driver)); /* one came meanwhile */
}

static void asks_for_interrupts_by_the_place_of_the_next_used_descriptor(void **state)
{
    (void)state;
    const uint8_t *mine = area(driver.avail_address);
    for (unsigned i = 0; i < 23; i++) {
        int id = add(1);
        (void)fake_driver_show(&driver);
        assert_false(fake_driver_interrupts_on(&driver));
        assert_int_equal(get_le16(mine), i % SIZE | (i / SIZE % 2 == 0 ? 1u << 15 : 0));
        assert_int_equal(get_le16(mine + 2), 2);
        complete((uint16_t)id, 1, 0, 0);
        assert_true(fake_driver_interrupts_on(&driver));
        assert_get((uint32_t)id, 0);
    }
    fake_driver_interrupts_off(&driver);
    assert_int_equal(get_le16(mine + 2), 1);
}

static void tells_any_lie_it_is_asked_to(void **state)
{
    (void)state;
    fake_driver_packed_desc(&driver, 3, UINT64_MAX, UINT32_MAX, 0xabcd, 0xfffe);
    assert_true(get_le64(desc_at(3)) == UINT64_MAX);
    assert_int_equal(get_le32(desc_at(3) + 8), UINT32_MAX);
    assert_int_equal(get_le16(desc_at(3) + 12), 0xabcd);
    assert_int_equal(flags_at(3), 0xfffe);
    assert_int_equal(driver.free_count, SIZE);
}

#define GIVEN(test) cmocka_unit_test_setup(test, given_driver)
#define GIVEN_EVENT_INDEX(test) cmocka_unit_test_setup(test, given_driver_with_event_index)

int main(void)
{
    const struct CMUnitTest tests[] = {
        GIVEN(lays_the_three_parts_one_after_the_other_and_aligned),
        GIVEN(an_empty_ring_is_all_zero_and_nothing_around_it_is_touched),
        GIVEN(writes_a_list_as_2_8_6_has_it),
        GIVEN(the_device_sees_nothing_before_it_is_shown),
        GIVEN(writes_an_indirect_table_at_any_address),
        GIVEN(adds_nothing_when_descriptors_are_short),
        GIVEN(the_marks_turn_when_the_ring_comes_round),
        GIVEN(takes_used_descriptors_in_the_device_s_order_and_skips_their_lists),
        GIVEN(a_length_counts_only_with_the_write_flag),
        GIVEN(an_id_that_comes_back_twice_frees_its_descriptors_once),
        GIVEN(what_the_device_writes_over_is_known_all_the_same),
        GIVEN(kicks_by_the_flags),
        GIVEN_EVENT_INDEX(with_event_index_kicks_when_a_batch_goes_over_the_event),
        GIVEN(asks_for_interrupts_by_the_flags),
        GIVEN_EVENT_INDEX(asks_for_interrupts_by_the_place_of_the_next_used_descriptor),
        GIVEN(tells_any_lie_it_is_asked_to),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
