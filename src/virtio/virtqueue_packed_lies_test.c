/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Every way in which a driver can lie in a packed ring: the queue breaks, and nothing else does. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "virtio/virtq_test_rig.h"

#define AVAIL VRING_PACKED_DESC_F_AVAIL
#define USED VRING_PACKED_DESC_F_USED
#define NEXT VRING_DESC_F_NEXT
#define WRITE VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT

#define TABLE (RIG_DATA + 0x8000)

static void given(uint32_t size)
{
    rig_build(&(struct rig_options){.packed = true, .size = size});
}

static void put(uint32_t position, uint64_t address, uint32_t length, uint16_t flags)
{
    fake_driver_packed_desc(&rig.driver, position, address, length, (uint16_t)(0x100 + position), flags | AVAIL);
}

static void put_entry(uint64_t table, unsigned index, uint64_t address, uint32_t length, uint16_t flags)
{
    uint8_t *entry = rig_byte(table + index * 16);
    put_le64(entry, address);
    put_le32(entry + 8, length);
    put_le16(entry + 12, 0);
    put_le16(entry + 14, flags);
}

/*
 * The chain is refused for @reason and no other; the arena has lost nothing; nothing was given back; the queue answers
 * 0 from then on, and once only with an error.
 */
static void assert_broken(const char *reason)
{
    struct virtq_chain *chain;
    uint16_t next_avail = rig.queue.next_avail;
    uint32_t held = rig.queue.held;
    assert_int_equal(virtqueue_pop(&rig.queue, &chain, 1), -EPROTO);
    assert_true(rig.queue.broken);
    assert_string_equal(rig.queue.broken_reason, reason);
    assert_int_equal(virtqueue_pop(&rig.queue, &chain, 1), 0);
    assert_int_equal(rig.queue.broken_total, 1);
    assert_int_equal(rig.queue.next_avail, next_avail);
    assert_int_equal(rig.queue.held, held);
    assert_int_equal(rig.arena.free_slot_count + rig.queue.out_count, rig.arena.shape.slots);
    assert_int_equal(rig.arena.free_medium_count, rig.arena.shape.medium_runs);
    assert_int_equal(rig.arena.free_long_count, rig.arena.shape.long_runs);
    assert_int_equal(virtqueue_stop(&rig.queue), rig.queue.out_count == 0);
}

static void a_list_that_never_ends(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {1, 2, 7, 8, 300};
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        given(sizes[i]);
        for (uint32_t j = 0; j < sizes[i]; j++)
            put(j, RIG_DATA, 4, NEXT);
        assert_broken("more descriptors than the ring has");
        /* Without bytes a list costs no pieces: it is bounded all the same. */
        given(sizes[i]);
        for (uint32_t j = 0; j < sizes[i]; j++)
            put(j, UINT64_MAX, 0, NEXT);
        assert_broken("more descriptors than the ring has");
    }
}

/* What is out has places of the ring, until it is given back. */
static void a_list_into_places_that_are_out(void **state)
{
    (void)state;
    given(4);
    put(0, RIG_DATA, 4, NEXT);
    put(1, RIG_DATA, 4, WRITE);
    struct virtq_chain *chain = rig_pop();
    put(2, RIG_DATA, 4, NEXT);
    put(3, RIG_DATA, 4, NEXT);
    assert_broken("more descriptors than the ring has");
    assert_int_equal(chain->readable_bytes, 4);
    assert_int_equal(chain->writable_bytes, 4);
    assert_true(rig_push(chain));
    assert_int_equal(le16_to_cpu(rig.driver.ring[0].id), 0x101);
    assert_int_equal(rig.queue.state, VIRTQUEUE_STOPPED);
}

static void a_place_that_is_made_available_again_while_it_is_out(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.packed = true, .size = 2, .slots = 4});
    put(0, RIG_DATA, 4, 0);
    put(1, RIG_DATA, 4, 0);
    struct virtq_chain *chains[2];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 2), 2);
    fake_driver_packed_desc(&rig.driver, 0, RIG_DATA, 4, 0, USED); /* of the next lap */
    assert_broken("more descriptors than the ring has");
    virtqueue_push(&rig.queue, chains, 2);
    (void)virtqueue_publish(&rig.queue);
    assert_int_equal(rig.queue.state, VIRTQUEUE_STOPPED);
}

static void one_buffer_id_twice_is_two_requests_of_their_own(void **state)
{
    (void)state;
    given(4);
    fake_driver_packed_desc(&rig.driver, 0, RIG_DATA, 4, 3, AVAIL);
    fake_driver_packed_desc(&rig.driver, 1, RIG_DATA, 4, 3, AVAIL);
    struct virtq_chain *chains[2];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 2), 2);
    assert_ptr_not_equal(chains[0], chains[1]);
    virtqueue_push(&rig.queue, chains, 2);
    (void)virtqueue_publish(&rig.queue);
    assert_int_equal(le16_to_cpu(rig.driver.ring[1].id), 3);
}

static void reserved_flags_are_ignored(void **state)
{
    (void)state;
    given(4);
    put(0, RIG_DATA, 4, (uint16_t)(NEXT | 0x7f78));
    put(1, RIG_DATA, 8, (uint16_t)(WRITE | 0x7f78));
    struct virtq_chain *chain = rig_pop();
    assert_int_equal(chain->readable_bytes, 4);
    assert_int_equal(chain->writable_bytes, 8);
    (void)rig_push(chain);
    assert_int_equal(le16_to_cpu(rig.driver.ring[0].flags), AVAIL | USED);
}

static void a_readable_buffer_after_a_writable_one(void **state)
{
    (void)state;
    for (uint32_t bytes = 0; bytes < 2; bytes++) {
        given(8);
        put(0, RIG_DATA, bytes, WRITE | NEXT);
        put(1, RIG_DATA, 4, 0);
        assert_broken("a readable descriptor after a writable one");
        given(8);
        put(0, RIG_DATA, 4, WRITE | NEXT);
        put(1, RIG_DATA, bytes, 0);
        assert_broken("a readable descriptor after a writable one");
    }
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
        put(0, RIG_DATA, 4, NEXT);
        put(1, buffers[i].address, buffers[i].length, WRITE);
        assert_broken("a buffer outside memory");
    }
}

static void a_buffer_without_bytes_may_be_anywhere(void **state)
{
    (void)state;
    given(8);
    put(0, UINT64_MAX, 0, 0);
    assert_int_equal(rig_pop()->readable_count, 0);
}

static void a_malformed_chain_behind_good_ones_comes_with_the_next_pop(void **state)
{
    (void)state;
    given(8);
    put(0, RIG_DATA, 4, 0);
    put(1, 0, 4, 0);
    struct virtq_chain *chains[4];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 4), 1);
    assert_false(rig.queue.broken);
    /* Who sleeps now would never see it: the driver has kicked already. */
    assert_true(virtqueue_kicks_on(&rig.queue));
    assert_int_equal(virtqueue_pop(&rig.queue, chains + 1, 3), -EPROTO);

    /* What is out still goes back, and the driver is told. */
    assert_true(rig_push(chains[0]));
    assert_int_equal(le16_to_cpu(rig.driver.ring[0].flags), AVAIL | USED);
    assert_int_equal(le16_to_cpu(rig.driver.ring[1].flags), AVAIL);
}

/* Indirect tables. */

static void a_table_without_the_feature(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.packed = true, .size = 8, .no_indirect = true});
    put_entry(TABLE, 0, RIG_DATA, 4, 0);
    put(0, TABLE, 16, INDIRECT);
    assert_broken("an indirect descriptor that was not negotiated");
}

static void a_table_in_a_list(void **state)
{
    (void)state;
    given(8);
    put_entry(TABLE, 0, RIG_DATA, 4, 0);
    put(0, TABLE, 16, INDIRECT | NEXT);
    put(1, RIG_DATA, 4, 0);
    assert_broken("an indirect descriptor with a next one");
    given(8);
    put_entry(TABLE, 0, RIG_DATA, 4, 0);
    put(0, RIG_DATA, 4, NEXT);
    put(1, TABLE, 16, INDIRECT);
    assert_broken("an indirect descriptor with a next one");
}

static void a_table_of_a_bad_length(void **state)
{
    (void)state;
    static const uint32_t odd[] = {0, 1, 15, 17, 16 * 1024 + 15, UINT32_MAX};
    for (unsigned i = 0; i < ARRAY_SIZE(odd); i++) {
        given(8);
        put_entry(TABLE, 0, RIG_DATA, 4, 0);
        put(0, TABLE, odd[i], INDIRECT);
        assert_broken("an indirect table that is not made of descriptors");
    }
    static const uint32_t large[] = {16 * 1024 + 16, 16 * 65536, 0xfffffff0};
    for (unsigned i = 0; i < ARRAY_SIZE(large); i++) {
        given(8);
        put_entry(TABLE, 0, RIG_DATA, 4, 0);
        put(0, TABLE, large[i], INDIRECT);
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
        put(0, addresses[i], 32, INDIRECT);
        assert_broken(addresses[i] > UINT64_MAX - 32 ? "an indirect table whose address wraps"
                                                     : "an indirect table outside memory");
    }
}

static void a_table_of_buffers_that_may_not_be(void **state)
{
    (void)state;
    given(8);
    put_entry(TABLE, 0, RIG_DATA, 4, WRITE);
    put_entry(TABLE, 1, RIG_DATA, 4, 0);
    put(0, TABLE, 32, INDIRECT);
    assert_broken("a readable descriptor after a writable one");
    given(8);
    put_entry(TABLE, 0, RIG_DATA, 4, 0);
    put_entry(TABLE, 1, RIG_HIGH_BASE + RIG_HIGH_BYTES, 4, 0);
    put(0, TABLE, 32, INDIRECT);
    assert_broken("a buffer outside memory");
}

static void a_table_is_no_table_of_tables(void **state)
{
    (void)state;
    given(8);
    /* 2.8.7: flags other than WRITE are ignored in a table, so these are buffers. */
    put_entry(TABLE, 0, TABLE + 0x100, 16, INDIRECT | NEXT);
    put_entry(TABLE + 0x100, 0, 0, 4, 0);
    put(0, TABLE, 16, INDIRECT);
    struct virtq_chain *chain = rig_pop();
    assert_int_equal(chain->readable_count, 1);
    assert_ptr_equal(chain->iov[0].base, rig_byte(TABLE + 0x100));
}

/* Limits of a chain. */

static void more_pieces_than_any_chain_may_have(void **state)
{
    (void)state;
    given(8);
    for (unsigned i = 0; i < 600; i++)
        put_entry(TABLE, i, RIG_HIGH_BASE - 1, 2, 0);
    put(0, TABLE, 16 * 600, INDIRECT);
    assert_broken("a chain of more pieces than any driver needs");
    given(2000);
    for (unsigned i = 0; i <= 1024; i++)
        put(i, RIG_DATA, 1, i < 1024 ? NEXT : 0);
    assert_broken("a chain of more pieces than any driver needs");
}

static void a_side_of_4_gib_or_more(void **state)
{
    (void)state;
    /* A region so large is not at hand, and not needed: no buffer is touched. */
    const struct guest_region huge = {
        .guest_base = UINT64_C(1) << 40, .size = UINT64_C(1) << 33, .host = (uint8_t *)(uintptr_t)4096};
    static const uint16_t flags[] = {0, WRITE};
    for (unsigned i = 0; i < 8; i++) {
        rig_build(&(struct rig_options){.packed = true, .size = 8, .stopped = true});
        assert_int_equal(guest_memory_add(&rig.memory, &huge), 0);
        assert_int_equal(rig_start(), 0);
        uint16_t side = flags[i & 1];
        uint32_t more = (i & 2) != 0 ? 1 : 0;
        if (i < 4) {
            put(0, huge.guest_base, UINT32_MAX, side | NEXT);
            put(1, huge.guest_base, more, side);
        } else {
            put_entry(TABLE, 0, huge.guest_base, UINT32_MAX, side);
            put_entry(TABLE, 1, huge.guest_base, more, side);
            put(0, TABLE, 32, INDIRECT);
        }
        if (more > 0) {
            assert_broken("a chain of 4 GiB or more");
        } else {
            struct virtq_chain *chain = rig_pop();
            assert_int_equal(chain->readable_bytes + chain->writable_bytes, UINT32_MAX);
        }
    }
}

/* The sum of both sides may be more: it is each that must fit. */
static void two_sides_of_less_than_4_gib_each(void **state)
{
    (void)state;
    const struct guest_region huge = {
        .guest_base = UINT64_C(1) << 40, .size = UINT64_C(1) << 33, .host = (uint8_t *)(uintptr_t)4096};
    rig_build(&(struct rig_options){.packed = true, .size = 8, .stopped = true});
    assert_int_equal(guest_memory_add(&rig.memory, &huge), 0);
    assert_int_equal(rig_start(), 0);
    put(0, huge.guest_base, UINT32_MAX, NEXT);
    put(1, huge.guest_base, UINT32_MAX, WRITE);
    struct virtq_chain *chain = rig_pop();
    assert_int_equal(chain->readable_bytes, UINT32_MAX);
    assert_int_equal(chain->writable_bytes, UINT32_MAX);
}

/* A driver that changes its mind: it writes whenever the queue asks for the memory of a buffer. */

#define SHIFTY_BASE (UINT64_C(1) << 32)

static uint8_t shifty_bytes[4096];
static unsigned shifty_calls;
static void (*change_mind)(unsigned call);

static int shifty_map(struct guest_access *access, const uint64_t *addresses, struct guest_iovec *iov, unsigned count,
                      bool write)
{
    (void)access;
    (void)write;
    for (unsigned i = 0; i < count; i++)
        iov[i].base = shifty_bytes + (addresses[i] - SHIFTY_BASE);
    change_mind(shifty_calls++);
    return 0;
}

static void shifty_unmap(struct guest_access *access, const uint64_t *addresses, const struct guest_iovec *iov,
                         unsigned count, bool written)
{
    (void)access;
    (void)addresses;
    (void)iov;
    (void)count;
    (void)written;
}

static const struct guest_access_class shifty_class = {
    .name = "shifty", .chunk_shift = 12, .map = shifty_map, .unmap = shifty_unmap};
static struct guest_access shifty_access = {.class = &shifty_class};

static void given_shifty(void (*change)(unsigned call))
{
    rig_build(&(struct rig_options){.packed = true, .size = 8, .stopped = true});
    const struct guest_region shifty = {.guest_base = SHIFTY_BASE, .size = sizeof(shifty_bytes)};
    rig.memory.access = &shifty_access;
    assert_int_equal(guest_memory_add(&rig.memory, &shifty), 0);
    assert_int_equal(rig_start(), 0);
    shifty_calls = 0;
    change_mind = change;
}

static void spoil_what_was_read(unsigned call)
{
    for (unsigned i = 0; i <= call; i++)
        fake_driver_packed_desc(&rig.driver, i, 0, UINT32_MAX, 0xdead, (uint16_t)~AVAIL);
}

static void what_was_read_is_not_read_again(void **state)
{
    (void)state;
    given_shifty(spoil_what_was_read);
    put(0, SHIFTY_BASE, 4, NEXT);
    put(1, SHIFTY_BASE + 4, 8, NEXT | WRITE);
    put(2, SHIFTY_BASE + 12, 16, WRITE);
    struct virtq_chain *chain = rig_pop();
    assert_int_equal(shifty_calls, 3);
    assert_int_equal(chain->readable_bytes, 4);
    assert_int_equal(chain->writable_bytes, 24);
    assert_int_equal(chain->ring_count, 3);
    assert_int_equal(chain->head, 0x102);
    (void)rig_push(chain);
    assert_int_equal(le16_to_cpu(rig.driver.ring[0].flags), AVAIL | USED);
    assert_int_equal(le16_to_cpu(rig.driver.ring[0].id), 0x102);
}

static void lengthen_the_list(unsigned call)
{
    put((call + 1) % 8, SHIFTY_BASE, 1, NEXT);
}

static void a_list_that_grows_while_it_is_read_is_bounded(void **state)
{
    (void)state;
    given_shifty(lengthen_the_list);
    put(0, SHIFTY_BASE, 4, NEXT);
    put(1, SHIFTY_BASE, 4, 0);
    assert_broken("more descriptors than the ring has");
    assert_int_equal(shifty_calls, 8);
}

static void turn_the_next_into_a_table(unsigned call)
{
    put(call + 1, TABLE, 16, INDIRECT);
}

static void a_descriptor_that_becomes_a_table_while_its_list_is_read(void **state)
{
    (void)state;
    given_shifty(turn_the_next_into_a_table);
    put(0, SHIFTY_BASE, 4, NEXT);
    put(1, SHIFTY_BASE, 4, 0);
    assert_broken("an indirect descriptor with a next one");
}

/* Limits of virtqueue_packed.c: the marks of a list's other descriptors are not looked at. */
static void marks_of_another_lap_behind_the_first_are_not_held_against_a_list(void **state)
{
    (void)state;
    static const uint16_t marks[] = {0, AVAIL, USED, AVAIL | USED};
    for (unsigned i = 0; i < ARRAY_SIZE(marks); i++) {
        given(8);
        put(0, RIG_DATA, 4, NEXT);
        fake_driver_packed_desc(&rig.driver, 1, RIG_DATA, 4, 5, marks[i]);
        struct virtq_chain *chain = rig_pop();
        assert_int_equal(chain->ring_count, 2);
        assert_int_equal(chain->head, 5);
    }
}

static void a_driver_that_writes_over_what_is_out_changes_nothing_of_it(void **state)
{
    (void)state;
    given(4);
    put(0, RIG_DATA, 4, NEXT);
    put(1, RIG_DATA + 4, 8, WRITE);
    struct virtq_chain *chain = rig_pop();
    memset(rig.driver.ring, 0xff, vring_packed_desc_bytes(4));
    assert_int_equal(virtq_chain_write(chain, "12345678", 8), 8);
    (void)rig_push(chain);
    assert_int_equal(le16_to_cpu(rig.driver.ring[0].id), 0x101);
    assert_int_equal(le16_to_cpu(rig.driver.ring[0].flags), AVAIL | USED | WRITE);
    assert_int_equal(le32_to_cpu(rig.driver.ring[0].length), 8);
    assert_memory_equal(rig_byte(RIG_DATA + 4), "12345678", 8);
    struct virtq_chain *other;
    assert_int_equal(virtqueue_pop(&rig.queue, &other, 1), 0);
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
        TEST(a_list_that_never_ends),
        TEST(a_list_into_places_that_are_out),
        TEST(a_place_that_is_made_available_again_while_it_is_out),
        TEST(one_buffer_id_twice_is_two_requests_of_their_own),
        TEST(reserved_flags_are_ignored),
        TEST(a_readable_buffer_after_a_writable_one),
        TEST(buffers_outside_memory),
        TEST(a_buffer_without_bytes_may_be_anywhere),
        TEST(a_malformed_chain_behind_good_ones_comes_with_the_next_pop),
        TEST(a_table_without_the_feature),
        TEST(a_table_in_a_list),
        TEST(a_table_of_a_bad_length),
        TEST(a_table_outside_memory),
        TEST(a_table_of_buffers_that_may_not_be),
        TEST(a_table_is_no_table_of_tables),
        TEST(more_pieces_than_any_chain_may_have),
        TEST(a_side_of_4_gib_or_more),
        TEST(two_sides_of_less_than_4_gib_each),
        TEST(what_was_read_is_not_read_again),
        TEST(a_list_that_grows_while_it_is_read_is_bounded),
        TEST(a_descriptor_that_becomes_a_table_while_its_list_is_read),
        TEST(marks_of_another_lap_behind_the_first_are_not_held_against_a_list),
        TEST(a_driver_that_writes_over_what_is_out_changes_nothing_of_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
