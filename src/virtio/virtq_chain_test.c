/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Chains: cursors, tails, pieces in place, buffers over several regions. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "virtio/virtq_test_rig.h"

#define R(at, bytes)                                                                                                   \
    {                                                                                                                  \
        .address = RIG_DATA + (at), .length = (bytes)                                                                  \
    }
#define W(at, bytes)                                                                                                   \
    {                                                                                                                  \
        .address = RIG_DATA + (at), .length = (bytes), .writable = true                                                \
    }

static struct virtq_chain *chain_of(void **state, const struct fake_piece *pieces, unsigned count)
{
    rig_build(&(struct rig_options){.packed = rig_for_packed(state), .size = 64});
    rig_offer(pieces, count);
    return rig_pop();
}

static void fill(uint64_t at, const char *text)
{
    memcpy(rig_byte(RIG_DATA + at), text, strlen(text));
}

static uint32_t used_length(struct virtq_chain *chain)
{
    (void)rig_push(chain);
    uint32_t head, length;
    assert_true(fake_driver_get(&rig.driver, &head, &length));
    return length;
}

static void reading_goes_over_the_borders_of_pieces(void **state)
{
    const struct fake_piece pieces[] = {R(0, 3), R(0x100, 1), R(0x200, 4)};
    struct virtq_chain *chain = chain_of(state, pieces, 3);
    fill(0, "abc");
    fill(0x100, "d");
    fill(0x200, "efgh");

    char text[5 + 100] = "";
    assert_int_equal(virtq_chain_read(chain, text, 2), 2);
    assert_int_equal(virtq_chain_read(chain, text + 2, 3), 3);
    assert_int_equal(chain->readable_bytes, 3);
    assert_int_equal(virtq_chain_read(chain, text + 5, 100), 3);
    assert_string_equal(text, "abcdefgh");
    assert_int_equal(virtq_chain_read(chain, text, 1), 0);
}

static void writing_goes_over_the_borders_of_pieces_and_is_counted(void **state)
{
    const struct fake_piece pieces[] = {R(0, 3), W(0x100, 1), W(0x200, 4)};
    struct virtq_chain *chain = chain_of(state, pieces, 3);
    assert_int_equal(virtq_chain_write(chain, "xy", 2), 2);
    assert_int_equal(chain->writable_bytes, 3);
    assert_int_equal(virtq_chain_write(chain, "z12345", 6), 3);
    assert_int_equal(virtq_chain_write(chain, "!", 1), 0);
    assert_int_equal(chain->written, 5);
    assert_memory_equal(rig_byte(RIG_DATA + 0x100), "x", 1);
    assert_memory_equal(rig_byte(RIG_DATA + 0x200), "yz12\0", 5);
    assert_int_equal(used_length(chain), 5);
}

static void a_chain_without_bytes_reads_and_writes_nothing(void **state)
{
    const struct fake_piece pieces[] = {R(0, 0), W(0, 0)};
    struct virtq_chain *chain = chain_of(state, pieces, 2);
    const struct guest_iovec *iov;
    char byte;
    assert_int_equal(chain->readable_count + chain->writable_count, 0);
    assert_int_equal(virtq_chain_read(chain, &byte, 1), 0);
    assert_int_equal(virtq_chain_write(chain, "x", 1), 0);
    assert_int_equal(virtq_chain_readable_iov(chain, &iov), 0);
    assert_int_equal(virtq_chain_writable_iov(chain, &iov), 0);
    assert_int_equal(virtq_chain_keep_tail(chain, 1), -EPROTO);
    assert_int_equal(used_length(chain), 0);
}

static void descriptors_without_bytes_are_skipped_and_keep_their_side(void **state)
{
    const struct fake_piece pieces[] = {R(0, 0), R(0, 5), R(9, 0), W(0x100, 0), W(0x100, 6), W(0x200, 0)};
    struct virtq_chain *chain = chain_of(state, pieces, 6);
    assert_int_equal(chain->readable_count, 1);
    assert_int_equal(chain->writable_count, 1);
    assert_int_equal(chain->readable_bytes, 5);
    assert_int_equal(chain->writable_bytes, 6);
}

static void a_tail_stays_out_of_the_cursors_way(void **state)
{
    const struct fake_piece pieces[] = {W(0, 4), W(0x100, 4)};
    struct virtq_chain *chain = chain_of(state, pieces, 2);
    assert_int_equal(virtq_chain_keep_tail(chain, 2), 0);
    assert_int_equal(chain->writable_bytes, 6);
    assert_int_equal(virtq_chain_write(chain, "abcdefgh", 8), 6);
    virtq_chain_write_tail(chain, "\1\2");
    assert_memory_equal(rig_byte(RIG_DATA), "abcd", 4);
    assert_memory_equal(rig_byte(RIG_DATA + 0x100), "ef\1\2", 4);
    assert_int_equal(used_length(chain), 8);
}

static void a_tail_may_lie_in_several_pieces(void **state)
{
    const struct fake_piece pieces[] = {W(0, 4), W(0x100, 1), W(0x200, 1), W(0x300, 2)};
    struct virtq_chain *chain = chain_of(state, pieces, 4);
    const struct guest_iovec *iov;
    assert_int_equal(virtq_chain_keep_tail(chain, 5), 0);
    assert_int_equal(chain->writable_bytes, 3);
    assert_int_equal(virtq_chain_writable_iov(chain, &iov), 1);
    assert_int_equal(iov[0].length, 3);
    virtq_chain_write_tail(chain, "12345");
    assert_memory_equal(rig_byte(RIG_DATA), "\0\0\0001", 4);
    assert_memory_equal(rig_byte(RIG_DATA + 0x100), "2", 1);
    assert_memory_equal(rig_byte(RIG_DATA + 0x200), "3", 1);
    assert_memory_equal(rig_byte(RIG_DATA + 0x300), "45", 2);
}

static void a_tail_may_be_the_whole_part(void **state)
{
    const struct fake_piece pieces[] = {R(0, 16), W(0x100, 1)};
    struct virtq_chain *chain = chain_of(state, pieces, 2);
    const struct guest_iovec *iov;
    assert_int_equal(virtq_chain_keep_tail(chain, 1), 0);
    assert_int_equal(virtq_chain_writable_iov(chain, &iov), 0);
    virtq_chain_write_tail(chain, "s");
    assert_int_equal(*rig_byte(RIG_DATA + 0x100), 's');
    assert_int_equal(used_length(chain), 1);
}

static void a_tail_longer_than_the_part_is_the_guests_fault(void **state)
{
    const struct fake_piece pieces[] = {R(0, 16), W(0x100, 3)};
    struct virtq_chain *chain = chain_of(state, pieces, 2);
    assert_int_equal(virtq_chain_keep_tail(chain, 4), -EPROTO);
    assert_int_equal(chain->writable_bytes, 3);
}

static void pieces_are_given_in_place_from_the_cursor_on(void **state)
{
    const struct fake_piece pieces[] = {R(0, 20), R(0x100, 7), W(0x200, 10), W(0x300, 10), W(0x400, 5)};
    struct virtq_chain *chain = chain_of(state, pieces, 5);
    char header[16];
    const struct guest_iovec *iov;
    assert_int_equal(virtq_chain_read(chain, header, 16), 16);
    assert_int_equal(virtq_chain_readable_iov(chain, &iov), 2);
    assert_ptr_equal(iov[0].base, rig_byte(RIG_DATA + 16));
    assert_int_equal(iov[0].length, 4);
    assert_ptr_equal(iov[1].base, rig_byte(RIG_DATA + 0x100));
    assert_int_equal(iov[1].length, 7);
    assert_int_equal(virtq_chain_read(chain, header, 1), 0);
    assert_int_equal(virtq_chain_readable_iov(chain, &iov), 0);

    assert_int_equal(virtq_chain_keep_tail(chain, 3), 0);
    assert_int_equal(virtq_chain_write(chain, "0123456789A", 11), 11);
    assert_int_equal(virtq_chain_writable_iov(chain, &iov), 2);
    assert_ptr_equal(iov[0].base, rig_byte(RIG_DATA + 0x301));
    assert_int_equal(iov[0].length, 9);
    assert_ptr_equal(iov[1].base, rig_byte(RIG_DATA + 0x400));
    assert_int_equal(iov[1].length, 2);
    assert_int_equal(virtq_chain_write(chain, "!", 1), 0);
    const struct guest_iovec *rest;
    assert_int_equal(virtq_chain_writable_iov(chain, &rest), 0);
    virtq_chain_wrote(chain, 4);
    virtq_chain_write_tail(chain, "end");
    assert_memory_equal(rig_byte(RIG_DATA + 0x402), "end", 3);
    /* 2.7.8.2: up to the gap that the port left, so without the tail. */
    assert_int_equal(used_length(chain), 11 + 4);
}

static void a_piece_that_is_cut_at_both_ends_keeps_its_tail(void **state)
{
    const struct fake_piece pieces[] = {W(0, 100)};
    struct virtq_chain *chain = chain_of(state, pieces, 1);
    const struct guest_iovec *iov;
    assert_int_equal(virtq_chain_keep_tail(chain, 1), 0);
    assert_int_equal(virtq_chain_write(chain, "0123456789", 10), 10);
    assert_int_equal(virtq_chain_writable_iov(chain, &iov), 1);
    assert_ptr_equal(iov[0].base, rig_byte(RIG_DATA + 10));
    assert_int_equal(iov[0].length, 89);
    virtq_chain_write_tail(chain, "!");
    assert_int_equal(*rig_byte(RIG_DATA + 99), '!');
    assert_int_equal(*rig_byte(RIG_DATA + 98), 0);
}

static void nothing_of_a_request_is_left_for_the_next_one_in_its_place(void **state)
{
    rig_build(&(struct rig_options){.packed = rig_for_packed(state), .size = 8, .slots = 1});
    const struct fake_piece pieces[] = {R(0, 20), R(0x100, 7), W(0x200, 10), W(0x300, 5)};
    struct virtq_chain *first = NULL;
    for (unsigned round = 0; round < 3; round++) {
        memset(rig_byte(RIG_DATA + 0x200), 0, 0x200);
        rig_offer(pieces, 4);
        struct virtq_chain *chain = rig_pop();
        assert_true(first == NULL || chain == first);
        first = chain;
        assert_int_equal(chain->readable_bytes, 27);
        assert_int_equal(chain->writable_bytes, 15);
        assert_int_equal(chain->written, 0);
        uint8_t bytes[27];
        const struct guest_iovec *iov;
        memset(rig_byte(RIG_DATA), (int)round, 20);
        memset(rig_byte(RIG_DATA + 0x100), (int)round, 7);
        assert_int_equal(virtq_chain_read(chain, bytes, 22), 22);
        for (unsigned i = 0; i < 22; i++)
            assert_int_equal(bytes[i], round);
        assert_int_equal(virtq_chain_readable_iov(chain, &iov), 1);
        assert_ptr_equal(iov[0].base, rig_byte(RIG_DATA + 0x102));
        assert_int_equal(virtq_chain_keep_tail(chain, 2), 0);
        assert_int_equal(virtq_chain_write(chain, "abcdefghijk", 11), 11);
        assert_int_equal(virtq_chain_writable_iov(chain, &iov), 1);
        assert_int_equal(iov[0].length, 2);
        virtq_chain_wrote(chain, 2);
        virtq_chain_write_tail(chain, "yz");
        assert_memory_equal(rig_byte(RIG_DATA + 0x200), "abcdefghij", 10);
        assert_memory_equal(rig_byte(RIG_DATA + 0x300), "k\0\0yz", 5);
        assert_int_equal(used_length(chain), 15);
    }
}

static void a_buffer_over_two_regions_is_two_pieces(void **state)
{
    const struct fake_piece pieces[] = {{.address = RIG_HIGH_BASE - 5, .length = 12, .writable = true}};
    struct virtq_chain *chain = chain_of(state, pieces, 1);
    assert_int_equal(chain->writable_count, 2);
    assert_int_equal(chain->writable_bytes, 12);
    assert_int_equal(virtq_chain_write(chain, "twelve bytes", 12), 12);
    assert_memory_equal(rig_byte(RIG_HIGH_BASE - 5), "twelv", 5);
    assert_memory_equal(rig_byte(RIG_HIGH_BASE), "e bytes", 7);
    assert_int_equal(used_length(chain), 12);
}

static void many_buffers_over_two_regions_outgrow_the_short_run(void **state)
{
    struct fake_piece pieces[40];
    for (unsigned i = 0; i < 40; i++)
        pieces[i] = (struct fake_piece){.address = RIG_HIGH_BASE - 1, .length = 2, .writable = i >= 20};
    struct virtq_chain *chain = chain_of(state, pieces, 40);
    assert_int_equal(chain->readable_count, 40);
    assert_int_equal(chain->writable_count, 40);
    for (unsigned i = 0; i < 80; i++)
        assert_ptr_equal(chain->iov[i].base, rig_byte(i % 2 == 0 ? RIG_HIGH_BASE - 1 : RIG_HIGH_BASE));
    (void)rig_push(chain);
    assert_int_equal(rig.arena.free_medium_count, 2);
}

/* Pages that are marked, of the eight from RIG_DATA on, as bits. */
static unsigned marked_pages(void)
{
    unsigned bits = 0;
    for (unsigned i = 0; i < 8; i++)
        bits |= (rig_marked(RIG_DATA + i * 4096) ? 1u : 0u) << i;
    return bits;
}

static struct virtq_chain *logged_chain(void **state, const struct fake_piece *pieces, unsigned count)
{
    rig_build(&(struct rig_options){.packed = rig_for_packed(state), .size = 16, .log = true});
    rig_offer(pieces, count);
    struct virtq_chain *chain = rig_pop();
    rig_clear_log();
    return chain;
}

static void only_what_was_written_is_marked_and_only_when_it_comes_back(void **state)
{
    const struct fake_piece pieces[] = {R(0, 16), W(0x1000, 0x1000), W(0x2000, 0x2000), W(0x4000, 1)};
    struct virtq_chain *chain = logged_chain(state, pieces, 4);
    static const uint8_t data[0x1001] = {1};
    assert_int_equal(virtq_chain_keep_tail(chain, 1), 0);
    assert_int_equal(virtq_chain_write(chain, data, sizeof(data)), sizeof(data));
    virtq_chain_write_tail(chain, "s");
    assert_int_equal(marked_pages(), 0);
    virtqueue_push(&rig.queue, &chain, 1);
    /* Data over the first and one byte of the second piece, and the tail; not the second page of the second. */
    assert_int_equal(marked_pages(), 1u << 1 | 1u << 2 | 1u << 4);
}

static void a_status_alone_marks_no_data(void **state)
{
    const struct fake_piece pieces[] = {R(0, 16), W(0x1000, 0x1000), W(0x3000, 1)};
    struct virtq_chain *chain = logged_chain(state, pieces, 3);
    assert_int_equal(virtq_chain_keep_tail(chain, 1), 0);
    virtq_chain_write_tail(chain, "s");
    virtqueue_push(&rig.queue, &chain, 1);
    assert_int_equal(marked_pages(), 1u << 3);
}

static void what_a_port_had_in_place_counts_as_written(void **state)
{
    const struct fake_piece pieces[] = {R(0, 16), W(0x1000, 0x2000), W(0x5000, 1)};
    struct virtq_chain *chain = logged_chain(state, pieces, 3);
    const struct guest_iovec *iov;
    assert_int_equal(virtq_chain_keep_tail(chain, 1), 0);
    assert_int_equal(virtq_chain_writable_iov(chain, &iov), 1);
    virtqueue_push(&rig.queue, &chain, 1);
    assert_int_equal(marked_pages() & 0xf, 1u << 1 | 1u << 2);
}

static void pieces_that_were_cut_are_marked_whole(void **state)
{
    const struct fake_piece pieces[] = {W(0, 0x2001)};
    struct virtq_chain *chain = logged_chain(state, pieces, 1);
    static const uint8_t data[0x1000] = {1};
    const struct guest_iovec *iov;
    assert_int_equal(virtq_chain_keep_tail(chain, 1), 0);
    assert_int_equal(virtq_chain_write(chain, data, sizeof(data)), sizeof(data));
    assert_int_equal(virtq_chain_writable_iov(chain, &iov), 1);
    virtq_chain_wrote(chain, 0x1000);
    virtq_chain_write_tail(chain, "s");
    virtqueue_push(&rig.queue, &chain, 1);
    assert_int_equal(marked_pages(), 7);
}

static void a_tail_in_several_pieces_marks_no_page_between_them(void **state)
{
    const struct fake_piece pieces[] = {W(0xffe, 2), W(0x4000, 3)};
    struct virtq_chain *chain = logged_chain(state, pieces, 2);
    assert_int_equal(virtq_chain_keep_tail(chain, 4), 0);
    virtq_chain_write_tail(chain, "tail");
    virtqueue_push(&rig.queue, &chain, 1);
    assert_int_equal(marked_pages(), 1u << 0 | 1u << 4);
}

static void pieces_of_a_request_that_is_gone_are_not_marked(void **state)
{
    rig_build(&(struct rig_options){.packed = rig_for_packed(state), .size = 16, .slots = 1, .log = true});
    const struct fake_piece longer[] = {W(0, 1), W(0x1000, 1), W(0x2000, 1), W(0x3000, 1)};
    rig_offer(longer, 4);
    (void)rig_push(rig_pop());
    rig_clear_log();
    rig_offer(longer, 2);
    struct virtq_chain *chain = rig_pop();
    const struct guest_iovec *iov;
    assert_int_equal(virtq_chain_writable_iov(chain, &iov), 2);
    virtqueue_push(&rig.queue, &chain, 1);
    assert_int_equal(marked_pages(), 3);
}

static void readable_parts_and_requests_put_back_are_not_marked(void **state)
{
    const struct fake_piece pieces[] = {R(0, 0x1000), W(0x1000, 0x1000)};
    struct virtq_chain *chain = logged_chain(state, pieces, 2);
    const struct guest_iovec *iov;
    assert_int_equal(virtq_chain_writable_iov(chain, &iov), 1);
    virtqueue_unpop(&rig.queue, &chain, 1);
    assert_int_equal(marked_pages(), 0);
    chain = rig_pop();
    char byte;
    assert_int_equal(virtq_chain_read(chain, &byte, 1), 1);
    virtqueue_push(&rig.queue, &chain, 1);
    assert_int_equal(marked_pages(), 0);
}

static int teardown(void **state)
{
    (void)state;
    rig_done();
    return 0;
}

#define BOTH(name) RIG_BOTH_LAYOUTS(name, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(reading_goes_over_the_borders_of_pieces),
        BOTH(writing_goes_over_the_borders_of_pieces_and_is_counted),
        BOTH(a_chain_without_bytes_reads_and_writes_nothing),
        BOTH(descriptors_without_bytes_are_skipped_and_keep_their_side),
        BOTH(a_tail_stays_out_of_the_cursors_way),
        BOTH(a_tail_may_lie_in_several_pieces),
        BOTH(a_tail_may_be_the_whole_part),
        BOTH(a_tail_longer_than_the_part_is_the_guests_fault),
        BOTH(pieces_are_given_in_place_from_the_cursor_on),
        BOTH(a_piece_that_is_cut_at_both_ends_keeps_its_tail),
        BOTH(nothing_of_a_request_is_left_for_the_next_one_in_its_place),
        BOTH(a_buffer_over_two_regions_is_two_pieces),
        BOTH(many_buffers_over_two_regions_outgrow_the_short_run),
        BOTH(only_what_was_written_is_marked_and_only_when_it_comes_back),
        BOTH(a_status_alone_marks_no_data),
        BOTH(what_a_port_had_in_place_counts_as_written),
        BOTH(pieces_that_were_cut_are_marked_whole),
        BOTH(a_tail_in_several_pieces_marks_no_page_between_them),
        BOTH(pieces_of_a_request_that_is_gone_are_not_marked),
        BOTH(readable_parts_and_requests_put_back_are_not_marked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
