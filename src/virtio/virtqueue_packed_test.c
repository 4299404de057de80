/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The packed layout: wrap counters, what a descriptor says when it comes and when it goes back, indirect tables.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "virtio/virtq_test_rig.h"

#define AVAIL VRING_PACKED_DESC_F_AVAIL
#define USED VRING_PACKED_DESC_F_USED
#define NEXT VRING_DESC_F_NEXT
#define WRITE VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT

#define TABLE (RIG_DATA + 0x8000)

static const struct fake_piece byte_out = {.address = RIG_DATA, .length = 1, .writable = true};
static const struct fake_piece pieces_in_out[8] = {
    {.address = RIG_DATA, .length = 16},
    {.address = RIG_DATA + 0x100, .length = 10, .writable = true},
    {.address = RIG_DATA + 0x200, .length = 10, .writable = true},
    {.address = RIG_DATA + 0x300, .length = 10, .writable = true},
    {.address = RIG_DATA + 0x400, .length = 10, .writable = true},
    {.address = RIG_DATA + 0x500, .length = 10, .writable = true},
    {.address = RIG_DATA + 0x600, .length = 10, .writable = true},
    {.address = RIG_DATA + 0x700, .length = 10, .writable = true},
};

static void given(uint32_t size)
{
    rig_build(&(struct rig_options){.packed = true, .size = size});
}

static void given_at(uint32_t size, uint16_t position, bool odd_lap)
{
    rig_build(&(struct rig_options){.packed = true, .size = size, .base = position, .odd_lap = odd_lap});
}

/* What stands at a place of the ring, flags without knowing what they mean. */
static void assert_desc(uint32_t position, uint16_t id, uint16_t flags, uint32_t length)
{
    const struct vring_packed_desc *desc = &rig.driver.ring[position];
    assert_int_equal(le16_to_cpu(desc->id), id);
    assert_int_equal(le16_to_cpu(desc->flags), flags);
    assert_int_equal(le32_to_cpu(desc->length), length);
}

static bool nothing_to_pop(void)
{
    struct virtq_chain *chain;
    return virtqueue_pop(&rig.queue, &chain, 1) == 0 && !rig.queue.broken;
}

/* What is available (2.8.1): the AVAIL bit is as the driver's wrap counter, and the USED bit is not. */

static void only_the_mark_of_the_lap_makes_a_descriptor_available(void **state)
{
    (void)state;
    static const uint16_t marks[] = {0, AVAIL, USED, AVAIL | USED};
    for (unsigned lap = 0; lap < 2; lap++) {
        for (unsigned i = 0; i < ARRAY_SIZE(marks); i++) {
            given_at(5, 2, lap == 1);
            fake_driver_packed_desc(&rig.driver, 2, RIG_DATA, 4, 3, marks[i]);
            bool available = marks[i] == (lap == 0 ? AVAIL : USED);
            assert_int_equal(virtqueue_pending(&rig.queue), available);
            assert_int_equal(virtqueue_fresh(&rig.queue), available);
            struct virtq_chain *chain;
            assert_int_equal(virtqueue_pop(&rig.queue, &chain, 1), available ? 1 : 0);
        }
    }
}

static void the_marks_turn_with_each_lap(void **state)
{
    (void)state;
    given(3);
    for (unsigned i = 0; i < 12; i++) {
        bool odd = i / 3 % 2 == 1;
        uint16_t wrong = odd ? AVAIL : USED;
        fake_driver_packed_desc(&rig.driver, i % 3, RIG_DATA, 4, 1, wrong);
        assert_true(nothing_to_pop());
        fake_driver_packed_desc(&rig.driver, i % 3, RIG_DATA, 4, 1, odd ? USED : AVAIL);
        (void)rig_push(rig_pop());
        assert_desc(i % 3, 1, odd ? 0 : AVAIL | USED, 0);
    }
}

static void a_request_over_the_end_of_the_ring_is_one_request(void **state)
{
    (void)state;
    for (uint16_t position = 0; position < 7; position++) {
        for (unsigned lap = 0; lap < 2; lap++) {
            given_at(7, position, lap == 1);
            rig_offer(pieces_in_out, 5);
            struct virtq_chain *chain = rig_pop();
            assert_int_equal(chain->readable_bytes, 16);
            assert_int_equal(chain->writable_bytes, 40);
            assert_int_equal(chain->ring_count, 5);
            for (unsigned i = 0; i < 5; i++)
                assert_ptr_equal(chain->iov[i].base, rig_byte(pieces_in_out[i].address));
            assert_true(nothing_to_pop());
            (void)rig_push(chain);
            rig_take_used(1);
            rig_offer(pieces_in_out, 7);
            (void)rig_push(rig_pop());
            rig_take_used(1);
        }
    }
}

static void requests_of_any_length_go_round_over_laps_in_any_order(void **state)
{
    (void)state;
    for (uint32_t size = 8; size < 14; size++) {
        given(size);
        for (unsigned round = 0; round < 200; round++) {
            unsigned first = 1 + round % 4, second = 1 + round / 4 % 4;
            struct virtq_chain *chains[2];
            uint16_t ids[2] = {rig_offer(pieces_in_out, first), rig_offer(pieces_in_out, second)};
            assert_int_equal(virtqueue_pop(&rig.queue, chains, 2), 2);
            assert_int_equal(chains[0]->head, ids[0]);
            assert_int_equal(chains[0]->ring_count, first);
            assert_int_equal(chains[1]->head, ids[1]);
            assert_int_equal(chains[1]->ring_count, second);
            struct virtq_chain *order[2] = {chains[round % 2], chains[1 - round % 2]};
            virtqueue_push(&rig.queue, order, 2);
            (void)virtqueue_publish(&rig.queue);
            uint32_t id, length;
            for (unsigned i = 0; i < 2; i++) {
                assert_true(fake_driver_get(&rig.driver, &id, &length));
                assert_int_equal(id, ids[(round + i) % 2]);
            }
            rig_take_used(0);
        }
    }
}

static void the_buffer_id_is_that_of_the_last_descriptor(void **state)
{
    (void)state;
    given(8);
    fake_driver_packed_desc(&rig.driver, 1, RIG_DATA, 4, 0x2222, AVAIL | NEXT);
    fake_driver_packed_desc(&rig.driver, 2, RIG_DATA, 4, 0xfffe, AVAIL); /* any 16 bits: 2.8.6 bounds no id */
    fake_driver_packed_desc(&rig.driver, 0, RIG_DATA, 4, 0x1111, AVAIL | NEXT);
    struct virtq_chain *chain = rig_pop();
    assert_int_equal(chain->head, 0xfffe);
    (void)rig_push(chain);
    assert_desc(0, 0xfffe, AVAIL | USED, 0);
}

/* 2.8.17 lets a driver set the bits of a list's other descriptors in any order, as long as the first comes last. */
static void only_the_first_descriptor_of_a_list_makes_it_available(void **state)
{
    (void)state;
    given(4);
    fake_driver_packed_desc(&rig.driver, 1, RIG_DATA, 4, 1, AVAIL);
    fake_driver_packed_desc(&rig.driver, 2, RIG_DATA, 4, 2, AVAIL);
    assert_true(nothing_to_pop());
    fake_driver_packed_desc(&rig.driver, 0, RIG_DATA, 4, 1, AVAIL | NEXT);
    struct virtq_chain *chains[4];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 4), 2);
    assert_int_equal(chains[0]->ring_count, 2);
    assert_int_equal(chains[1]->ring_count, 1);
}

static void a_list_as_long_as_the_ring_is_no_lie(void **state)
{
    (void)state;
    given_at(8, 3, false);
    uint16_t id = rig_offer(pieces_in_out, 8);
    struct virtq_chain *chain = rig_pop();
    assert_int_equal(chain->ring_count, 8);
    assert_int_equal(chain->writable_count, 7);
    assert_true(nothing_to_pop());
    (void)rig_push(chain);
    rig_take_used(1);
    assert_desc(3, id, AVAIL | USED, 0);
}

static void requests_longer_than_a_short_run_are_read_the_long_way(void **state)
{
    (void)state;
    given(100);
    struct fake_piece pieces[60];
    for (unsigned i = 0; i < 60; i++)
        pieces[i] = (struct fake_piece){.address = RIG_DATA + i * 32, .length = 32, .writable = i >= 30};
    for (unsigned round = 0; round < 7; round++) {
        rig_offer(pieces, 60);
        struct virtq_chain *chain = rig_pop();
        assert_int_equal(chain->readable_count, 30);
        assert_int_equal(chain->writable_count, 30);
        for (unsigned i = 0; i < 60; i++)
            assert_ptr_equal(chain->iov[i].base, rig_byte(RIG_DATA + i * 32));
        (void)rig_push(chain);
        rig_take_used(1);
    }
}

/* What goes back (2.8.3 to 2.8.5). */

static void a_used_descriptor_stands_at_the_first_place_of_what_is_given_back(void **state)
{
    (void)state;
    given(8);
    uint16_t first = rig_offer(pieces_in_out, 3), second = rig_offer(pieces_in_out, 2);
    struct virtq_chain *chains[2];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 2), 2);
    struct vring_packed_desc before[8];
    memcpy(before, rig.driver.ring, sizeof(before));
    /* The second first: at place 0, and 2 places are skipped; then the first, at 2, and 3 are skipped. */
    (void)virtq_chain_write(chains[1], "abc", 3);
    (void)rig_push(chains[1]);
    assert_desc(0, second, AVAIL | USED | WRITE, 3);
    (void)rig_push(chains[0]);
    assert_desc(2, first, AVAIL | USED, 0);
    assert_int_equal(rig.queue.next_used, 5);
    /* No other place was written, and no address. */
    for (unsigned i = 0; i < 8; i++) {
        if (i != 0 && i != 2)
            assert_memory_equal(&before[i], &rig.driver.ring[i], sizeof(before[i]));
        assert_true(before[i].address == rig.driver.ring[i].address);
    }
}

static void the_write_flag_says_that_the_length_holds(void **state)
{
    (void)state;
    given(4);
    rig_offer(&byte_out, 1);
    (void)rig_push(rig_pop());
    assert_desc(0, 0, AVAIL | USED, 0); /* 2.8.3: nothing was written */
    rig_take_used(1);
    uint16_t id = rig_offer(&byte_out, 1);
    struct virtq_chain *chain = rig_pop();
    assert_int_equal(virtq_chain_write(chain, "x", 1), 1);
    (void)rig_push(chain);
    assert_desc(1, id, AVAIL | USED | WRITE, 1);
}

static void nothing_of_a_batch_is_visible_before_it_is_published(void **state)
{
    (void)state;
    given_at(6, 4, false);
    for (unsigned i = 0; i < 4; i++)
        rig_offer(&byte_out, 1);
    struct virtq_chain *chains[4];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 4), 4);
    struct vring_packed_desc first = rig.driver.ring[4];
    virtqueue_push(&rig.queue, chains, 2);
    virtqueue_push(&rig.queue, chains + 2, 1);
    assert_memory_equal(&first, &rig.driver.ring[4], sizeof(first));
    rig_take_used(0);
    assert_true(virtqueue_publish(&rig.queue));
    rig_take_used(3);
    /* The next batch begins where that one ended, over the wrap. */
    virtqueue_push(&rig.queue, chains + 3, 1);
    rig_take_used(0);
    assert_true(virtqueue_publish(&rig.queue));
    rig_take_used(1);
    assert_desc(0, 2, 0, 0);
}

static void places_that_are_skipped_come_round_as_the_drivers(void **state)
{
    (void)state;
    given(4);
    rig_offer(pieces_in_out, 3);
    (void)rig_push(rig_pop());
    rig_take_used(1);
    /* Places 1 and 2 still say available of the lap that is over: they are not taken again. */
    assert_true(nothing_to_pop());
    rig_offer(&byte_out, 1);
    (void)rig_push(rig_pop());
    assert_true(nothing_to_pop());
    rig_take_used(1);
    rig_offer(pieces_in_out, 4);
    assert_int_equal(rig_pop()->ring_count, 4);
}

/* Indirect tables (2.8.7). */

static void check_table(uint64_t table, unsigned count)
{
    static struct fake_piece pieces[VIRTQ_INDIRECT_MAX];
    for (unsigned i = 0; i < count; i++)
        pieces[i] = (struct fake_piece){.address = RIG_DATA + i, .length = 1, .writable = i >= count / 2};
    int id = fake_driver_add_indirect(&rig.driver, &rig.low, table, pieces, count);
    assert_true(id >= 0);
    (void)fake_driver_show(&rig.driver);
    struct virtq_chain *chain = rig_pop();
    assert_int_equal(chain->head, id);
    assert_int_equal(chain->ring_count, 1);
    assert_int_equal(chain->readable_count, count / 2);
    assert_int_equal(chain->writable_count, count - count / 2);
    for (unsigned i = 0; i < count; i++)
        assert_ptr_equal(chain->iov[i].base, rig_byte(RIG_DATA + i));
    (void)rig_push(chain);
    rig_take_used(1);
}

static void a_table_may_be_longer_than_the_ring(void **state)
{
    (void)state;
    static const unsigned counts[] = {1, 2, 3, 8, 9, 136, 137, VIRTQ_INDIRECT_MAX};
    given(3);
    for (unsigned i = 0; i < ARRAY_SIZE(counts); i++)
        check_table(TABLE, counts[i]);
}

static void a_table_needs_no_alignment(void **state)
{
    (void)state;
    given(3);
    for (unsigned i = 1; i < 16; i++)
        check_table(TABLE + i, 5 + i);
}

static void put_entry(uint64_t table, unsigned index, uint64_t address, uint32_t length, uint16_t flags)
{
    uint8_t entry[16];
    put_le64(entry, address);
    put_le32(entry + 8, length);
    put_le16(entry + 12, (uint16_t)(0xa000 + index)); /* the id is reserved */
    put_le16(entry + 14, flags);
    assert_int_equal(guest_memory_write(&rig.memory, table + index * UINT64_C(16), entry, sizeof(entry)), 0);
}

static void offer_table(uint64_t table, unsigned count, uint16_t flags)
{
    fake_driver_packed_desc(&rig.driver, 0, table, count * 16, 7, AVAIL | INDIRECT | flags);
}

static void of_an_entrys_flags_only_write_counts(void **state)
{
    (void)state;
    static const unsigned counts[] = {2, 20}; /* the common kind, and the other */
    for (unsigned i = 0; i < ARRAY_SIZE(counts); i++) {
        given(8);
        for (unsigned j = 0; j < counts[i]; j++)
            put_entry(TABLE, j, RIG_DATA + j * 8, 8, j < counts[i] / 2 ? (uint16_t)~WRITE : UINT16_MAX);
        offer_table(TABLE, counts[i], WRITE); /* nor does WRITE of the descriptor that names the table */
        struct virtq_chain *chain = rig_pop();
        assert_int_equal(chain->readable_count, counts[i] / 2);
        assert_int_equal(chain->writable_count, counts[i] / 2);
        assert_int_equal(chain->head, 7);
        for (unsigned j = 0; j < counts[i]; j++)
            assert_ptr_equal(chain->iov[j].base, rig_byte(RIG_DATA + j * 8));
    }
}

static void a_table_may_lie_over_two_regions(void **state)
{
    (void)state;
    given(4);
    /* 100 entries, of which one lies half in each region: more than are fetched at a time. */
    uint64_t table = RIG_HIGH_BASE - 60 * 16 - 8;
    for (unsigned i = 0; i < 100; i++)
        put_entry(table, i, RIG_DATA + i, 1, i < 50 ? 0 : WRITE);
    offer_table(table, 100, 0);
    struct virtq_chain *chain = rig_pop();
    assert_int_equal(chain->readable_count, 50);
    assert_int_equal(chain->writable_count, 50);
    for (unsigned i = 0; i < 100; i++)
        assert_ptr_equal(chain->iov[i].base, rig_byte(RIG_DATA + i));
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
        TEST(only_the_mark_of_the_lap_makes_a_descriptor_available),
        TEST(the_marks_turn_with_each_lap),
        TEST(a_request_over_the_end_of_the_ring_is_one_request),
        TEST(requests_of_any_length_go_round_over_laps_in_any_order),
        TEST(the_buffer_id_is_that_of_the_last_descriptor),
        TEST(only_the_first_descriptor_of_a_list_makes_it_available),
        TEST(a_list_as_long_as_the_ring_is_no_lie),
        TEST(requests_longer_than_a_short_run_are_read_the_long_way),
        TEST(a_used_descriptor_stands_at_the_first_place_of_what_is_given_back),
        TEST(the_write_flag_says_that_the_length_holds),
        TEST(nothing_of_a_batch_is_visible_before_it_is_published),
        TEST(places_that_are_skipped_come_round_as_the_drivers),
        TEST(a_table_may_be_longer_than_the_ring),
        TEST(a_table_needs_no_alignment),
        TEST(of_an_entrys_flags_only_write_counts),
        TEST(a_table_may_lie_over_two_regions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
