/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The fake driver, held against the text of VIRTIO 1.3, 2.7, with a device that is written out by hand. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "fake_driver.h"

#define BASE UINT64_C(0x10000)
#define SIZE 8

static _Alignas(16) uint8_t bytes[64 * 1024];
static const struct fake_memory memory = {.guest_base = BASE, .size = sizeof(bytes), .host = bytes};
static struct fake_driver driver;

static int given_driver(void **state)
{
    (void)state;
    memset(bytes, 0xee, sizeof(bytes));
    fake_driver_init(&driver, &memory, BASE + 64, SIZE, 0);
    return 0;
}

static int given_driver_with_event_index(void **state)
{
    (void)state;
    memset(bytes, 0xee, sizeof(bytes));
    fake_driver_init(&driver, &memory, BASE + 64, SIZE, VIRTIO_F_EVENT_IDX);
    return 0;
}

/* The device: gives @head back. */
static void complete(uint16_t head, uint32_t length)
{
    uint16_t index = shared_load_le16(&driver.used->index);
    driver.used->ring[index % SIZE].id = cpu_to_le32(head);
    driver.used->ring[index % SIZE].length = cpu_to_le32(length);
    shared_store_le16_release(&driver.used->index, (uint16_t)(index + 1));
}

static void set_avail_event(uint16_t index)
{
    shared_store_le16(&driver.used->ring[SIZE], index);
}

static uint16_t used_event(void)
{
    return shared_load_le16(&driver.avail->ring[SIZE]);
}

static uint16_t shown(void)
{
    return shared_load_le16(&driver.avail->index);
}

static int add_one(void)
{
    const struct fake_piece piece = {.address = BASE, .length = 1, .writable = true};
    return fake_driver_add(&driver, &piece, 1);
}

static void lays_the_three_parts_one_after_the_other_and_aligned(void **state)
{
    (void)state;
    for (uint32_t size = 1; size <= VRING_SIZE_MAX; size *= 2) {
        uint64_t least = vring_desc_bytes(size) + vring_avail_bytes(size) + vring_used_bytes(size);
        assert_in_range(fake_driver_ring_bytes(size), least, least + VRING_USED_ALIGN);
    }
    struct virtqueue_config config = fake_driver_config(&driver, VIRTIO_F_VERSION_1);
    assert_int_equal(config.size, SIZE);
    assert_int_equal(config.desc_address, BASE + 64);
    assert_true(config.avail_address >= config.desc_address + vring_desc_bytes(SIZE));
    assert_true(config.used_address >= config.avail_address + vring_avail_bytes(SIZE));
    assert_true(is_aligned(config.desc_address, VRING_DESC_ALIGN));
    assert_true(is_aligned(config.avail_address, VRING_AVAIL_ALIGN));
    assert_true(is_aligned(config.used_address, VRING_USED_ALIGN));
    assert_int_equal(config.features, VIRTIO_F_VERSION_1);
    assert_int_equal(config.base, 0);
    assert_ptr_equal(driver.desc, bytes + 64);
    assert_ptr_equal(driver.avail, bytes + (config.avail_address - BASE));
    assert_ptr_equal(driver.used, bytes + (config.used_address - BASE));
}

static void an_empty_ring_is_all_zero_and_nothing_around_it_is_touched(void **state)
{
    (void)state;
    uint64_t end = 64 + fake_driver_ring_bytes(SIZE);
    assert_int_equal(bytes[63], 0xee);
    for (uint64_t i = 64; i < end; i++)
        assert_int_equal(bytes[i], 0);
    assert_int_equal(bytes[end], 0xee);
}

static void writes_a_chain_as_2_7_5_has_it(void **state)
{
    (void)state;
    const struct fake_piece pieces[] = {
        {.address = 0x1122334455667788, .length = 16},
        {.address = BASE + 0x2000, .length = 0x01020304, .writable = true},
        {.address = BASE + 0x3000, .length = 1, .writable = true},
    };
    int head = fake_driver_add(&driver, pieces, 3);
    assert_in_range(head, 0, SIZE - 1);
    assert_int_equal(get_le16(&driver.avail->ring[0]), head);

    uint16_t index = (uint16_t)head;
    for (int i = 0; i < 3; i++) {
        const uint8_t *desc = (const uint8_t *)&driver.desc[index];
        unsigned flags = (pieces[i].writable ? 2u : 0u) | (i < 2 ? 1u : 0u);
        assert_true(get_le64(desc) == pieces[i].address);
        assert_int_equal(get_le32(desc + 8), pieces[i].length);
        assert_int_equal(get_le16(desc + 12), flags);
        index = get_le16(desc + 14);
        assert_in_range(index, 0, SIZE - 1);
    }
}

static void the_device_sees_nothing_before_it_is_shown(void **state)
{
    (void)state;
    add_one();
    add_one();
    assert_int_equal(shown(), 0);
    assert_true(fake_driver_show(&driver));
    assert_int_equal(shown(), 2);
}

static void writes_an_indirect_table_at_any_address(void **state)
{
    (void)state;
    const struct fake_piece pieces[] = {
        {.address = BASE + 0x2000, .length = 16},
        {.address = BASE + 0x3000, .length = 512, .writable = true},
    };
    int head = fake_driver_add_indirect(&driver, &memory, BASE + 0x4001, pieces, 2);
    const uint8_t *desc = (const uint8_t *)&driver.desc[head];
    assert_int_equal(get_le64(desc), BASE + 0x4001);
    assert_int_equal(get_le32(desc + 8), 32);
    assert_int_equal(get_le16(desc + 12), VRING_DESC_F_INDIRECT);
    const uint8_t *table = bytes + 0x4001;
    assert_int_equal(get_le64(table), BASE + 0x2000);
    assert_int_equal(get_le16(table + 12), VRING_DESC_F_NEXT);
    assert_int_equal(get_le16(table + 14), 1);
    assert_int_equal(get_le64(table + 16), BASE + 0x3000);
    assert_int_equal(get_le32(table + 24), 512);
    assert_int_equal(get_le16(table + 28), VRING_DESC_F_WRITE);
    assert_int_equal(driver.free_count, SIZE - 1);
}

static void adds_nothing_when_descriptors_are_short(void **state)
{
    (void)state;
    const struct fake_piece pieces[SIZE] = {{.address = BASE, .length = 1}};
    assert_true(fake_driver_add(&driver, pieces, SIZE - 1) >= 0);
    assert_int_equal(fake_driver_add(&driver, pieces, 2), -1);
    assert_int_equal(driver.next_avail, 1);
    assert_true(fake_driver_add(&driver, pieces, 1) >= 0);
    assert_int_equal(fake_driver_add(&driver, pieces, 1), -1);
    assert_int_equal(fake_driver_add_indirect(&driver, &memory, BASE + 0x4000, pieces, 2), -1);
}

static void takes_used_entries_in_their_order_and_frees_their_chains(void **state)
{
    (void)state;
    const struct fake_piece pieces[3] = {{.address = BASE, .length = 1}};
    uint32_t head = 77, length = 77;
    int first = fake_driver_add(&driver, pieces, 3);
    int second = fake_driver_add(&driver, pieces, 2);
    fake_driver_show(&driver);
    assert_false(fake_driver_get(&driver, &head, &length));
    assert_int_equal(head, 77);

    complete((uint16_t)second, 5);
    complete((uint16_t)first, 0);
    assert_true(fake_driver_get(&driver, &head, &length));
    assert_int_equal(head, second);
    assert_int_equal(length, 5);
    assert_int_equal(driver.free_count, SIZE - 3);
    assert_true(fake_driver_get(&driver, &head, &length));
    assert_int_equal(head, first);
    assert_int_equal(driver.free_count, SIZE);
    assert_false(fake_driver_get(&driver, &head, &length));
}

/* The descriptors of a chain, as a set; each is in it once. */
static unsigned chain_descriptors(uint16_t head, unsigned count)
{
    unsigned set = 0;
    for (unsigned i = 0; i < count; i++) {
        assert_in_range(head, 0, SIZE - 1);
        assert_int_equal(set & 1u << head, 0);
        set |= 1u << head;
        head = get_le16(&driver.desc[head].next);
    }
    return set;
}

static void every_descriptor_can_be_used_again_and_again(void **state)
{
    (void)state;
    const struct fake_piece pieces[SIZE] = {{.address = BASE, .length = 1}};
    /* Past where the 16-bit indices wrap. */
    for (unsigned round = 0; round < 70000; round++) {
        unsigned count = 1 + round % SIZE;
        int head = fake_driver_add(&driver, pieces, count);
        assert_true(head >= 0);
        chain_descriptors((uint16_t)head, count);
        fake_driver_show(&driver);
        assert_int_equal(shown(), (uint16_t)(round + 1));
        assert_int_equal(get_le16(&driver.avail->ring[round % SIZE]), head);
        complete((uint16_t)head, round);
        uint32_t used_head, length;
        assert_true(fake_driver_get(&driver, &used_head, &length));
        assert_int_equal(used_head, head);
        assert_int_equal(length, round);
        assert_int_equal(driver.free_count, SIZE);
    }
}

static void the_free_list_is_out_of_the_device_s_reach(void **state)
{
    (void)state;
    const struct fake_piece pieces[4] = {{.address = BASE, .length = 1}};
    int head = fake_driver_add(&driver, pieces, 4);
    fake_driver_show(&driver);
    memset(driver.desc, 0xff, vring_desc_bytes(SIZE));
    complete((uint16_t)head, 0);
    uint32_t used_head, length;
    assert_true(fake_driver_get(&driver, &used_head, &length));
    assert_true(fake_driver_add(&driver, pieces, 4) >= 0);
    assert_true(fake_driver_add(&driver, pieces, 4) >= 0);
}

static void kicks_unless_the_device_asked_not_to(void **state)
{
    (void)state;
    assert_false(fake_driver_show(&driver)); /* nothing new */
    add_one();
    assert_true(fake_driver_show(&driver));
    assert_false(fake_driver_show(&driver));
    shared_store_le16(&driver.used->flags, VRING_USED_F_NO_NOTIFY);
    add_one();
    assert_false(fake_driver_show(&driver));
}

static void with_event_index_kicks_when_the_index_passes_the_event(void **state)
{
    (void)state;
    assert_false(fake_driver_show(&driver));
    set_avail_event(1);
    add_one(); /* entry 0 */
    assert_false(fake_driver_show(&driver));
    add_one(); /* entry 1: the one waited for */
    assert_true(fake_driver_show(&driver));
    add_one();
    assert_false(fake_driver_show(&driver));
    set_avail_event(4);
    add_one(); /* 3, 4 and 5 at once */
    add_one();
    add_one();
    assert_true(fake_driver_show(&driver));
    /* The flag has no meaning any more (2.7.10). */
    set_avail_event(6);
    shared_store_le16(&driver.used->flags, VRING_USED_F_NO_NOTIFY);
    add_one();
    assert_true(fake_driver_show(&driver));
}

static void the_event_index_wraps_with_the_ring_index(void **state)
{
    (void)state;
    driver.next_avail = driver.shown_avail = 0xfffe;
    set_avail_event(0);
    add_one();
    add_one();
    assert_false(fake_driver_show(&driver)); /* 0xfffe and 0xffff */
    add_one();
    assert_true(fake_driver_show(&driver)); /* 0 */
    assert_int_equal(shown(), 1);
}

static void asks_for_interrupts_by_the_flag(void **state)
{
    (void)state;
    fake_driver_interrupts_off(&driver);
    assert_int_equal(get_le16(&driver.avail->flags), VRING_AVAIL_F_NO_INTERRUPT);
    assert_false(fake_driver_interrupts_on(&driver));
    assert_int_equal(get_le16(&driver.avail->flags), 0);
    fake_driver_interrupts_off(&driver);
    int head = add_one();
    fake_driver_show(&driver);
    complete((uint16_t)head, 0);
    assert_true(fake_driver_interrupts_on(&driver)); /* one came meanwhile */
}

static void asks_for_interrupts_by_the_event_index(void **state)
{
    (void)state;
    int head = add_one();
    fake_driver_show(&driver);
    assert_false(fake_driver_interrupts_on(&driver));
    assert_int_equal(used_event(), 0);
    complete((uint16_t)head, 0);
    assert_true(fake_driver_interrupts_on(&driver));
    uint32_t used_head, length;
    assert_true(fake_driver_get(&driver, &used_head, &length));
    assert_false(fake_driver_interrupts_on(&driver));
    assert_int_equal(used_event(), 1);
    fake_driver_interrupts_off(&driver);
    /* 2.7.7.2: no burst of this ring reaches it, whatever the device had signalled before. */
    assert_in_range((uint16_t)(used_event() - 1), VRING_SIZE_MAX - 1, UINT16_MAX - SIZE);
}

static void tells_any_lie_it_is_asked_to(void **state)
{
    (void)state;
    fake_driver_desc(&driver, 3, UINT64_MAX, UINT32_MAX, 0xffff, 0xabcd);
    assert_true(driver.desc[3].address == UINT64_MAX);
    assert_int_equal(driver.desc[3].length, UINT32_MAX);
    assert_int_equal(driver.desc[3].flags, 0xffff);
    assert_int_equal(get_le16(&driver.desc[3].next), 0xabcd);
    fake_driver_offer(&driver, 9999);
    assert_int_equal(get_le16(&driver.avail->ring[0]), 9999);
    assert_int_equal(shown(), 0);
    fake_driver_set_avail_index(&driver, 0x8001);
    assert_int_equal(shown(), 0x8001);
}

static void a_request_that_comes_back_twice_frees_its_descriptors_once(void **state)
{
    (void)state;
    uint32_t head, length;
    int added = add_one();
    fake_driver_show(&driver);
    for (int i = 0; i < 2; i++) {
        complete((uint16_t)added, 0);
        assert_true(fake_driver_get(&driver, &head, &length));
        assert_int_equal(head, added);
        assert_int_equal(driver.free_count, SIZE);
    }
}

static void two_chains_share_no_descriptor(void **state)
{
    (void)state;
    const struct fake_piece pieces[SIZE] = {{.address = BASE, .length = 1}};
    uint32_t used_head, length;
    /* Out of order, so that the free list is not in order any more. */
    int heads[3];
    for (int i = 0; i < 3; i++)
        heads[i] = fake_driver_add(&driver, pieces, 2);
    fake_driver_show(&driver);
    complete((uint16_t)heads[1], 0);
    complete((uint16_t)heads[0], 0);
    assert_true(fake_driver_get(&driver, &used_head, &length));
    assert_true(fake_driver_get(&driver, &used_head, &length));
    unsigned kept = chain_descriptors((uint16_t)heads[2], 2);
    unsigned first = chain_descriptors((uint16_t)fake_driver_add(&driver, pieces, 3), 3);
    unsigned second = chain_descriptors((uint16_t)fake_driver_add(&driver, pieces, 3), 3);
    assert_int_equal(kept | first | second, 0xff);
    assert_int_equal(driver.free_count, 0);
}

static void a_head_that_was_only_offered_frees_nothing(void **state)
{
    (void)state;
    fake_driver_offer(&driver, 5);
    fake_driver_show(&driver);
    complete(5, 0);
    uint32_t head, length;
    assert_true(fake_driver_get(&driver, &head, &length));
    assert_int_equal(head, 5);
    assert_int_equal(driver.free_count, SIZE);
}

#define GIVEN(test) cmocka_unit_test_setup(test, given_driver)
#define GIVEN_EVENT_INDEX(test) cmocka_unit_test_setup(test, given_driver_with_event_index)

int main(void)
{
    const struct CMUnitTest tests[] = {
        GIVEN(lays_the_three_parts_one_after_the_other_and_aligned),
        GIVEN(an_empty_ring_is_all_zero_and_nothing_around_it_is_touched),
        GIVEN(writes_a_chain_as_2_7_5_has_it),
        GIVEN(the_device_sees_nothing_before_it_is_shown),
        GIVEN(writes_an_indirect_table_at_any_address),
        GIVEN(adds_nothing_when_descriptors_are_short),
        GIVEN(takes_used_entries_in_their_order_and_frees_their_chains),
        GIVEN(a_request_that_comes_back_twice_frees_its_descriptors_once),
        GIVEN(two_chains_share_no_descriptor),
        GIVEN(every_descriptor_can_be_used_again_and_again),
        GIVEN(the_free_list_is_out_of_the_device_s_reach),
        GIVEN(kicks_unless_the_device_asked_not_to),
        GIVEN_EVENT_INDEX(with_event_index_kicks_when_the_index_passes_the_event),
        GIVEN_EVENT_INDEX(the_event_index_wraps_with_the_ring_index),
        GIVEN(asks_for_interrupts_by_the_flag),
        GIVEN_EVENT_INDEX(asks_for_interrupts_by_the_event_index),
        GIVEN(tells_any_lie_it_is_asked_to),
        GIVEN(a_head_that_was_only_offered_frees_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
