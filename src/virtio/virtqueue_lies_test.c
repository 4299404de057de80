/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Every way in which a driver can lie in a split ring: the queue breaks, and nothing else does. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "virtio/virtq_test_rig.h"

#define NEXT VRING_DESC_F_NEXT
#define WRITE VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT

#define TABLE (RIG_DATA + 0x8000)

static void given(uint32_t size)
{
    rig_build(&(struct rig_options){.size = size});
}

static void offer(uint16_t head)
{
    fake_driver_offer(&rig.driver, head);
    (void)fake_driver_show(&rig.driver);
}

static void put_entry(uint64_t table, unsigned index, uint64_t address, uint32_t length, uint16_t flags, uint16_t next)
{
    uint8_t *entry = rig_byte(table + index * 16);
    put_le64(entry, address);
    put_le32(entry + 8, length);
    put_le16(entry + 12, flags);
    put_le16(entry + 14, next);
}

/*
 * The chain is refused for @reason and no other; the arena has lost nothing; the queue answers 0 from then on, and once
 * only with an error.
 */
static void assert_broken(const char *reason)
{
    struct virtq_chain *chain;
    assert_int_equal(virtqueue_pop(&rig.queue, &chain, 1), -EPROTO);
    assert_true(rig.queue.broken);
    assert_string_equal(rig.queue.broken_reason, reason);
    assert_int_equal(virtqueue_pop(&rig.queue, &chain, 1), 0);
    assert_int_equal(rig.queue.broken_total, 1);
    assert_int_equal(rig.queue.out_count, 0);
    assert_int_equal(rig.arena.free_slot_count, rig.arena.shape.slots);
    assert_int_equal(rig.arena.free_medium_count, rig.arena.shape.medium_runs);
    assert_int_equal(rig.arena.free_long_count, rig.arena.shape.long_runs);
    assert_true(virtqueue_stop(&rig.queue));
}

static void a_chain_that_loops(void **state)
{
    (void)state;
    given(4);
    fake_driver_desc(&rig.driver, 0, RIG_DATA, 4, NEXT, 1);
    fake_driver_desc(&rig.driver, 1, RIG_DATA, 4, NEXT, 0);
    offer(0);
    assert_broken("a chain that loops");
}

static void a_descriptor_that_follows_itself(void **state)
{
    (void)state;
    given(1024);
    fake_driver_desc(&rig.driver, 7, RIG_DATA, 0, NEXT, 7);
    offer(7);
    assert_broken("a chain that loops");
}

static void a_chain_as_long_as_the_ring_is_no_lie(void **state)
{
    (void)state;
    given(4);
    for (uint16_t i = 0; i < 4; i++)
        fake_driver_desc(&rig.driver, i, RIG_DATA, 4, i < 3 ? NEXT : 0, (uint16_t)(i + 1));
    offer(0);
    assert_int_equal(rig_pop()->readable_count, 4);
}

static void a_head_outside_the_ring(void **state)
{
    (void)state;
    given(8);
    offer(8);
    assert_broken("a head outside the descriptor table");
}

static void a_next_outside_the_ring(void **state)
{
    (void)state;
    given(8);
    fake_driver_desc(&rig.driver, 0, RIG_DATA, 4, NEXT, 8);
    offer(0);
    assert_broken("a next descriptor outside the descriptor table");
}

static void a_next_outside_the_ring_is_not_looked_at_without_the_flag(void **state)
{
    (void)state;
    given(8);
    fake_driver_desc(&rig.driver, 0, RIG_DATA, 4, 0, 0xffff);
    offer(0);
    assert_int_equal(rig_pop()->readable_count, 1);
}

static void a_readable_buffer_after_a_writable_one(void **state)
{
    (void)state;
    given(8);
    fake_driver_desc(&rig.driver, 0, RIG_DATA, 4, WRITE | NEXT, 1);
    fake_driver_desc(&rig.driver, 1, RIG_DATA, 4, 0, 0);
    offer(0);
    assert_broken("a readable descriptor after a writable one");
}

static void a_readable_buffer_after_a_writable_one_without_bytes(void **state)
{
    (void)state;
    given(8);
    fake_driver_desc(&rig.driver, 0, RIG_DATA, 0, WRITE | NEXT, 1);
    fake_driver_desc(&rig.driver, 1, RIG_DATA, 4, 0, 0);
    offer(0);
    assert_broken("a readable descriptor after a writable one");
}

static void buffers_outside_memory(void **state)
{
    (void)state;
    static const struct {
        uint64_t address;
        uint32_t length;
    } buffers[] = {
        {0, 1},
        {RIG_LOW_BASE - 1, 1},
        {RIG_LOW_BASE - 1, 2},
        {RIG_HIGH_BASE + RIG_HIGH_BYTES, 1},
        {RIG_HIGH_BASE + RIG_HIGH_BYTES - 1, 2},
        {RIG_HIGH_BASE, UINT32_MAX},
        {UINT64_MAX, 1},
        {UINT64_MAX, 2},
        {UINT64_MAX - 100, UINT32_MAX},
        {UINT64_C(1) << 63, 16},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(buffers); i++) {
        given(8);
        fake_driver_desc(&rig.driver, 0, RIG_DATA, 4, NEXT, 1);
        fake_driver_desc(&rig.driver, 1, buffers[i].address, buffers[i].length, WRITE, 0);
        offer(0);
        assert_broken("a buffer outside memory");
    }
}

static void a_buffer_without_bytes_may_be_anywhere(void **state)
{
    (void)state;
    given(8);
    fake_driver_desc(&rig.driver, 0, UINT64_MAX, 0, 0, 0);
    offer(0);
    assert_int_equal(rig_pop()->readable_count, 0);
}

static void an_index_that_runs_ahead_of_the_ring(void **state)
{
    (void)state;
    given(8);
    fake_driver_set_avail_index(&rig.driver, 9);
    assert_broken("an available index that jumps by more than the ring's size");
}

static void an_index_that_goes_back(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.size = 8, .base = 100});
    fake_driver_set_avail_index(&rig.driver, 99);
    assert_broken("an available index that jumps by more than the ring's size");
}

static void a_full_ring_is_no_lie(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.size = 8, .base = 0xfffe});
    for (unsigned i = 0; i < 8; i++)
        fake_driver_offer(&rig.driver, 0);
    fake_driver_desc(&rig.driver, 0, RIG_DATA, 4, 0, 0);
    (void)fake_driver_show(&rig.driver);
    struct virtq_chain *chains[9];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 9), 8);
}

static void one_head_offered_twice_is_two_requests_of_its_own(void **state)
{
    (void)state;
    given(8);
    fake_driver_desc(&rig.driver, 3, RIG_DATA, 4, 0, 0);
    offer(3);
    offer(3);
    struct virtq_chain *chains[2];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 2), 2);
    assert_ptr_not_equal(chains[0], chains[1]);
    virtqueue_push(&rig.queue, chains, 2);
    (void)virtqueue_publish(&rig.queue);
}

static void a_malformed_chain_behind_good_ones_comes_with_the_next_pop(void **state)
{
    (void)state;
    given(8);
    fake_driver_desc(&rig.driver, 0, RIG_DATA, 4, 0, 0);
    fake_driver_desc(&rig.driver, 1, 0, 4, 0, 0);
    fake_driver_offer(&rig.driver, 0);
    offer(1);
    struct virtq_chain *chains[4];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 4), 1);
    assert_false(rig.queue.broken);
    /* Who sleeps now would never see it: the driver has kicked already. */
    assert_true(virtqueue_kicks_on(&rig.queue));
    assert_false(virtqueue_kicks_on(&rig.queue));
    assert_int_equal(virtqueue_pop(&rig.queue, chains + 1, 3), -EPROTO);

    /* What is out still goes back, and the driver is told. */
    assert_true(rig_push(chains[0]));
    uint32_t head, length;
    assert_true(fake_driver_get(&rig.driver, &head, &length));
}

/* Indirect tables. */

static void offer_table(uint32_t bytes)
{
    fake_driver_desc(&rig.driver, 0, TABLE, bytes, INDIRECT, 0);
    offer(0);
}

static void a_table_without_the_feature(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.size = 8, .no_indirect = true});
    put_entry(TABLE, 0, RIG_DATA, 4, 0, 0);
    offer_table(16);
    assert_broken("an indirect descriptor that was not negotiated");
}

static void a_table_that_goes_on_in_the_ring(void **state)
{
    (void)state;
    given(8);
    put_entry(TABLE, 0, RIG_DATA, 4, 0, 0);
    fake_driver_desc(&rig.driver, 0, TABLE, 16, INDIRECT | NEXT, 1);
    fake_driver_desc(&rig.driver, 1, RIG_DATA, 4, 0, 0);
    offer(0);
    assert_broken("an indirect descriptor with a next one");
}

static void a_table_in_a_table(void **state)
{
    (void)state;
    given(8);
    put_entry(TABLE, 0, TABLE + 0x100, 16, INDIRECT, 0);
    put_entry(TABLE + 0x100, 0, RIG_DATA, 4, 0, 0);
    offer_table(16);
    assert_broken("an indirect table in an indirect table");
}

static void a_table_of_a_bad_length(void **state)
{
    (void)state;
    static const uint32_t odd[] = {0, 1, 15, 17, 16 * 1024 + 15, UINT32_MAX};
    for (unsigned i = 0; i < ARRAY_SIZE(odd); i++) {
        given(8);
        put_entry(TABLE, 0, RIG_DATA, 4, 0, 0);
        offer_table(odd[i]);
        assert_broken("an indirect table that is not made of descriptors");
    }
    static const uint32_t large[] = {16 * 1024 + 16, 16 * 65536, 0xfffffff0};
    for (unsigned i = 0; i < ARRAY_SIZE(large); i++) {
        given(8);
        put_entry(TABLE, 0, RIG_DATA, 4, 0, 0);
        offer_table(large[i]);
        assert_broken("an indirect table of more than 1024 descriptors");
    }
}

static void a_table_outside_memory(void **state)
{
    (void)state;
    static const uint64_t addresses[] = {0, RIG_LOW_BASE - 16, RIG_HIGH_BASE + RIG_HIGH_BYTES - 16, UINT64_MAX - 15,
                                         UINT64_MAX - 31};
    for (unsigned i = 0; i < ARRAY_SIZE(addresses); i++) {
        given(8);
        put_entry(RIG_HIGH_BASE + RIG_HIGH_BYTES - 16, 0, RIG_DATA, 4, NEXT, 1);
        fake_driver_desc(&rig.driver, 0, addresses[i], 32, INDIRECT, 0);
        offer(0);
        assert_broken(addresses[i] > UINT64_MAX - 32 ? "an indirect table whose address wraps"
                                                     : "an indirect table outside memory");
    }
}

static void a_table_whose_next_is_outside_it(void **state)
{
    (void)state;
    given(8);
    put_entry(TABLE, 0, RIG_DATA, 4, NEXT, 2);
    put_entry(TABLE, 1, RIG_DATA, 4, 0, 0);
    put_entry(TABLE, 2, RIG_DATA, 4, 0, 0);
    offer_table(32);
    assert_broken("a next descriptor outside its indirect table");
}

static void a_table_that_loops(void **state)
{
    (void)state;
    given(8);
    put_entry(TABLE, 0, RIG_DATA, 0, NEXT, 1);
    put_entry(TABLE, 1, RIG_DATA, 0, NEXT, 0);
    offer_table(32);
    assert_broken("an indirect table whose chain loops");
}

static void a_readable_buffer_in_a_table_after_a_writable_one_in_the_ring(void **state)
{
    (void)state;
    given(8);
    put_entry(TABLE, 0, RIG_DATA, 4, 0, 0);
    fake_driver_desc(&rig.driver, 0, RIG_DATA, 4, WRITE | NEXT, 1);
    fake_driver_desc(&rig.driver, 1, TABLE, 16, INDIRECT, 0);
    offer(0);
    assert_broken("a readable descriptor after a writable one");
}

/* Limits of a chain. */

static void more_pieces_than_any_chain_may_have(void **state)
{
    (void)state;
    given(8);
    /* A direct descriptor and a table as long as may be: one piece too many. */
    for (unsigned i = 0; i < 1024; i++)
        put_entry(TABLE, i, RIG_DATA, 4, i < 1023 ? NEXT : 0, (uint16_t)(i + 1));
    fake_driver_desc(&rig.driver, 0, RIG_DATA, 4, NEXT, 1);
    fake_driver_desc(&rig.driver, 1, TABLE, 16 * 1024, INDIRECT, 0);
    offer(0);
    assert_broken("a chain of more pieces than any driver needs");
}

static void pieces_that_regions_multiply_are_bounded_too(void **state)
{
    (void)state;
    given(8);
    for (unsigned i = 0; i < 600; i++)
        put_entry(TABLE, i, RIG_HIGH_BASE - 1, 2, i < 599 ? NEXT : 0, (uint16_t)(i + 1));
    offer_table(16 * 600);
    assert_broken("a chain of more pieces than any driver needs");
}

static void a_side_of_4_gib_or_more(void **state)
{
    (void)state;
    /* A region so large is not at hand, and not needed: no buffer is touched. */
    const struct guest_region huge = {
        .guest_base = UINT64_C(1) << 40, .size = UINT64_C(1) << 33, .host = (uint8_t *)(uintptr_t)4096};
    static const uint16_t flags[] = {0, WRITE};
    for (unsigned i = 0; i < 4; i++) {
        rig_build(&(struct rig_options){.size = 8, .stopped = true});
        assert_int_equal(guest_memory_add(&rig.memory, &huge), 0);
        assert_int_equal(rig_start(), 0);
        uint16_t side = flags[i & 1];
        bool too_long = i >= 2;
        fake_driver_desc(&rig.driver, 0, huge.guest_base, UINT32_MAX, (uint16_t)(side | NEXT), 1);
        fake_driver_desc(&rig.driver, 1, huge.guest_base, too_long ? 1 : 0, side, 0);
        offer(0);
        if (too_long) {
            /* 2.7.4; and the used length, of 32 bits, could not say how much was written. */
            assert_broken("a chain of 4 GiB or more");
        } else {
            struct virtq_chain *chain = rig_pop();
            assert_int_equal(chain->readable_bytes + chain->writable_bytes, UINT32_MAX);
        }
    }
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
        TEST(a_chain_that_loops),
        TEST(a_descriptor_that_follows_itself),
        TEST(a_chain_as_long_as_the_ring_is_no_lie),
        TEST(a_head_outside_the_ring),
        TEST(a_next_outside_the_ring),
        TEST(a_next_outside_the_ring_is_not_looked_at_without_the_flag),
        TEST(a_readable_buffer_after_a_writable_one),
        TEST(a_readable_buffer_after_a_writable_one_without_bytes),
        TEST(buffers_outside_memory),
        TEST(a_buffer_without_bytes_may_be_anywhere),
        TEST(an_index_that_runs_ahead_of_the_ring),
        TEST(an_index_that_goes_back),
        TEST(a_full_ring_is_no_lie),
        TEST(one_head_offered_twice_is_two_requests_of_its_own),
        TEST(a_malformed_chain_behind_good_ones_comes_with_the_next_pop),
        TEST(a_table_without_the_feature),
        TEST(a_table_that_goes_on_in_the_ring),
        TEST(a_table_in_a_table),
        TEST(a_table_of_a_bad_length),
        TEST(a_table_outside_memory),
        TEST(a_table_whose_next_is_outside_it),
        TEST(a_table_that_loops),
        TEST(a_readable_buffer_in_a_table_after_a_writable_one_in_the_ring),
        TEST(more_pieces_than_any_chain_may_have),
        TEST(pieces_that_regions_multiply_are_bounded_too),
        TEST(a_side_of_4_gib_or_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
