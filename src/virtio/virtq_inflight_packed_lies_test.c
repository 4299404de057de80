/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The in-flight record of a packed ring, when a stranger has written it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "virtio/virtq_test_rig.h"

#define AVAIL VRING_PACKED_DESC_F_AVAIL
#define NEXT VRING_DESC_F_NEXT
#define INDIRECT VRING_DESC_F_INDIRECT

static const struct fake_piece pieces[4] = {
    {.address = RIG_DATA, .length = 16},
    {.address = RIG_DATA + 0x100, .length = 32, .writable = true},
    {.address = RIG_DATA + 0x200, .length = 64, .writable = true},
    {.address = RIG_DATA + 0x300, .length = 128, .writable = true},
};

static void offer(unsigned descriptors)
{
    rig_offer(pieces, descriptors);
}

/* The process dies with what is out; the next one knows the ring, the record, and a base that the front end guesses. */
static int successor(void)
{
    const struct virtq_arena_shape shape = rig.arena.shape;
    memset(rig.arena_block, 0, virtq_arena_bytes(&shape));
    virtq_arena_init(&rig.arena, &shape, rig.arena_block);
    virtqueue_init(&rig.queue, &rig.arena);
    rig.config.base = virtqueue_base_initial(rig.config.features);
    return rig_start();
}

/* What the record may say is a stranger's word. */

/* Of four requests two are given back, and the successor meets what @spoil has made of the record. */
static void after(void (*spoil)(struct virtq_record_packed *record))
{
    rig_build(&(struct rig_options){.packed = true, .size = 8, .inflight = true});
    offer(1);
    offer(2);
    offer(1);
    offer(3);
    struct virtq_chain *chains[4];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 4), 4);
    virtqueue_push(&rig.queue, chains + 2, 1);
    (void)virtqueue_publish(&rig.queue);
    spoil(rig.packed_record);
}

static void refused_for(const char *reason, void (*spoil)(struct virtq_record_packed *record))
{
    after(spoil);
    assert_int_equal(successor(), -EPROTO);
    assert_string_equal(rig.queue.broken_reason, reason);
    assert_int_equal(rig.queue.state, VIRTQUEUE_STOPPED);
    assert_false(virtqueue_kicks_on(&rig.queue));
    assert_false(virtqueue_publish(&rig.queue));
    /* And can start without it. */
    free(rig.inflight);
    rig.inflight = NULL;
    assert_int_equal(rig_start(), 0);
    assert_null(rig.queue.broken_reason);
}

/* The entry of the oldest request in flight, which has one descriptor; the next one has two. */
#define OLDEST 0
#define SECOND 1

static void spoil_version(struct virtq_record_packed *record)
{
    record->version = 2;
}

static void spoil_size(struct virtq_record_packed *record)
{
    record->desc_num = 7;
}

static void spoil_used_index(struct virtq_record_packed *record)
{
    record->used_index = 8;
}

static void spoil_old_used_index(struct virtq_record_packed *record)
{
    record->old_used_index = 0xffff;
}

static void spoil_wrap(struct virtq_record_packed *record)
{
    record->used_wrap_counter = 2;
}

static void spoil_old_wrap(struct virtq_record_packed *record)
{
    record->old_used_wrap_counter = 0xff;
}

static void spoil_flag(struct virtq_record_packed *record)
{
    record->desc[SECOND].inflight = 2;
}

static void spoil_counter(struct virtq_record_packed *record)
{
    record->desc[OLDEST].counter = UINT64_MAX;
}

static void spoil_no_descriptors(struct virtq_record_packed *record)
{
    record->desc[SECOND].num = 0;
}

static void spoil_descriptors(struct virtq_record_packed *record)
{
    record->desc[SECOND].num = 5; /* 1 + 5 + 3 */
}

static void a_record_of_another_kind_or_ring_is_refused(void **state)
{
    (void)state;
    refused_for("an in-flight record of an unknown version", spoil_version);
    refused_for("an in-flight record of another ring", spoil_size);
    refused_for("an in-flight record of another ring", spoil_used_index);
    refused_for("an in-flight record of another ring", spoil_old_used_index);
    refused_for("an in-flight record of another ring", spoil_wrap);
    refused_for("an in-flight record of another ring", spoil_old_wrap);
}

static void entries_that_cannot_be_are_refused(void **state)
{
    (void)state;
    refused_for("an in-flight record with impossible entries", spoil_flag);
    refused_for("an in-flight record with impossible entries", spoil_counter);
    refused_for("an in-flight record with impossible entries", spoil_no_descriptors);
    refused_for("an in-flight record with impossible entries", spoil_descriptors);
}

static void broken_at_the_first_pop_for(const char *reason, void (*spoil)(struct virtq_record_packed *record))
{
    after(spoil);
    assert_int_equal(successor(), 0);
    struct virtq_chain *chain;
    assert_int_equal(virtqueue_pop(&rig.queue, &chain, 1), -EPROTO);
    assert_string_equal(rig.queue.broken_reason, reason);
    assert_int_equal(virtqueue_pop(&rig.queue, &chain, 1), 0);
    assert_int_equal(rig.arena.free_slot_count, rig.arena.shape.slots);
    assert_true(virtqueue_stop(&rig.queue));
}

static void spoil_with_a_next(struct virtq_record_packed *record)
{
    record->desc[OLDEST].flags |= NEXT;
}

static void spoil_with_no_next(struct virtq_record_packed *record)
{
    record->desc[OLDEST].inflight = 0;
    record->desc[SECOND].flags = AVAIL;
}

static void spoil_with_a_loop(struct virtq_record_packed *record)
{
    record->desc[OLDEST].inflight = 0;
    record->desc[SECOND].next = SECOND;
}

static void spoil_with_a_link_out_of_the_record(struct virtq_record_packed *record)
{
    record->desc[OLDEST].inflight = 0;
    record->desc[SECOND].next = 0xffff;
}

static void spoil_address(struct virtq_record_packed *record)
{
    record->desc[OLDEST].address = 0;
}

static void spoil_table(struct virtq_record_packed *record)
{
    record->desc[OLDEST].flags = AVAIL | INDIRECT;
    record->desc[OLDEST].length = 17;
}

static void lists_that_do_not_fit_together_break_the_queue(void **state)
{
    (void)state;
    broken_at_the_first_pop_for("an in-flight record whose descriptors do not fit together", spoil_with_a_next);
    broken_at_the_first_pop_for("an in-flight record whose descriptors do not fit together", spoil_with_no_next);
    broken_at_the_first_pop_for("an in-flight record whose descriptors do not fit together", spoil_with_a_loop);
}

static void a_link_out_of_the_record_stays_in_it(void **state)
{
    (void)state;
    after(spoil_with_a_link_out_of_the_record);
    assert_int_equal(successor(), 0);
    struct virtq_chain *chain = rig_pop();
    assert_int_equal(chain->readable_count, 2);
    for (unsigned i = 0; i < 2; i++)
        assert_ptr_equal(chain->iov[i].base, rig_byte(RIG_DATA));
}

static void copies_are_judged_as_descriptors_are(void **state)
{
    (void)state;
    broken_at_the_first_pop_for("a buffer outside memory", spoil_address);
    broken_at_the_first_pop_for("an indirect table that is not made of descriptors", spoil_table);
}

static void spoil_free_list(struct virtq_record_packed *record)
{
    record->desc[record->free_head].next = record->free_head;
}

static void spoil_free_heads(struct virtq_record_packed *record)
{
    record->free_head = record->old_free_head = 0x1234;
}

/* Only the guest of whoever wrote the record is harmed: nothing outside it is touched, and nothing never ends. */
static void a_free_list_that_loops_or_leads_astray_hurts_nobody_else(void **state)
{
    (void)state;
    static void (*const spoils[])(struct virtq_record_packed * record) = {spoil_free_list, spoil_free_heads};
    for (unsigned i = 0; i < ARRAY_SIZE(spoils); i++) {
        after(spoils[i]);
        assert_int_equal(successor(), 0);
        struct virtq_chain *chains[8];
        int count = virtqueue_pop(&rig.queue, chains, 8);
        assert_int_equal(count, 3);
        virtqueue_push(&rig.queue, chains, 3);
        (void)virtqueue_publish(&rig.queue);
        rig_take_used(4);
        for (unsigned j = 0; j < 20; j++) {
            offer(1 + j % 4);
            (void)rig_push(rig_pop());
            rig_take_used(1);
        }
    }
}

static void spoil_nothing(struct virtq_record_packed *record)
{
    (void)record;
}

static void a_record_that_changes_under_us_breaks_the_queue_and_no_more(void **state)
{
    (void)state;
    static const uint8_t changes[] = {0, 0xff};
    for (unsigned i = 0; i < ARRAY_SIZE(changes); i++) {
        after(spoil_nothing);
        assert_int_equal(successor(), 0);
        struct virtq_chain *chain = rig_pop(), *other;
        memset(rig.inflight, changes[i], virtq_record_bytes(true, 8));
        assert_int_equal(virtqueue_pop(&rig.queue, &other, 1), -EPROTO);
        assert_string_equal(rig.queue.broken_reason, "an in-flight record that changes under us");
        (void)rig_push(chain);
        rig_take_used(2);
    }
    /* More descriptors than were counted when this life began. */
    after(spoil_nothing);
    assert_int_equal(successor(), 0);
    rig.packed_record->desc[OLDEST].num = 7;
    struct virtq_chain *chain;
    assert_int_equal(virtqueue_pop(&rig.queue, &chain, 1), -EPROTO);
    assert_string_equal(rig.queue.broken_reason, "an in-flight record that changes under us");
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
        TEST(a_record_of_another_kind_or_ring_is_refused),
        TEST(entries_that_cannot_be_are_refused),
        TEST(lists_that_do_not_fit_together_break_the_queue),
        TEST(a_link_out_of_the_record_stays_in_it),
        TEST(copies_are_judged_as_descriptors_are),
        TEST(a_free_list_that_loops_or_leads_astray_hurts_nobody_else),
        TEST(a_record_that_changes_under_us_breaks_the_queue_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
