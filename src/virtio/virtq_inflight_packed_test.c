/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The in-flight record of a packed ring ("Inflight I/O tracking" in vhost-user's text): what it holds after each step,
 * what a successor makes of it, and of one that lies. Crashes in the middle of a step:
 * virtq_inflight_packed_crash_test.
 */
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

static const struct fake_piece pieces[4] = {
    {.address = RIG_DATA, .length = 16},
    {.address = RIG_DATA + 0x100, .length = 32, .writable = true},
    {.address = RIG_DATA + 0x200, .length = 64, .writable = true},
    {.address = RIG_DATA + 0x300, .length = 128, .writable = true},
};

static void given(uint16_t position, bool odd_lap)
{
    rig_build(&(struct rig_options){
        .packed = true, .size = 8, .inflight = true, .base = position, .odd_lap = odd_lap, .event_idx = true});
}

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

static unsigned in_flight(void)
{
    unsigned count = 0;
    for (unsigned i = 0; i < 8; i++)
        count += rig.packed_record->desc[i].inflight;
    return count;
}

/* Entries of the free list, which ends outside the ring. */
static unsigned free_entries(void)
{
    unsigned count = 0;
    for (uint16_t at = rig.packed_record->free_head; at < 8; at = rig.packed_record->desc[at].next)
        assert_true(++count <= 8);
    return count;
}

static void a_new_record_is_made_ready(void **state)
{
    (void)state;
    for (unsigned lap = 0; lap < 2; lap++) {
        given(5, lap == 1);
        const struct virtq_record_packed *record = rig.packed_record;
        assert_int_equal(record->version, 1);
        assert_int_equal(record->desc_num, 8);
        assert_int_equal(record->free_head, 0);
        assert_int_equal(record->old_free_head, 0);
        assert_int_equal(record->used_index, 5);
        assert_int_equal(record->old_used_index, 5);
        assert_int_equal(record->used_wrap_counter, 1 - lap);
        assert_int_equal(record->old_used_wrap_counter, 1 - lap);
        assert_int_equal(free_entries(), 8);
        assert_int_equal(rig.queue.next_avail, 5);
    }
}

static void a_pop_copies_the_descriptors_and_records_the_order_of_coming(void **state)
{
    (void)state;
    given(6, false);
    offer(1);
    offer(3);
    struct virtq_chain *chains[2];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 2), 2);
    const struct virtq_record_packed *record = rig.packed_record;
    assert_int_equal(in_flight(), 2);
    const struct virtq_record_packed_entry *first = &record->desc[chains[0]->record];
    assert_int_equal(first->num, 1);
    assert_int_equal(first->last, chains[0]->record);
    assert_int_equal(first->counter, 0);
    assert_int_equal(first->flags, AVAIL);

    /* The second goes over the end of the ring: its marks differ, the copies are a list. */
    first = &record->desc[chains[1]->record];
    assert_int_equal(first->inflight, 1);
    assert_int_equal(first->num, 3);
    assert_int_equal(first->counter, 1);
    static const uint16_t flags[3] = {AVAIL | NEXT, USED | NEXT | WRITE, USED | WRITE};
    uint16_t at = chains[1]->record;
    for (unsigned i = 0; i < 3; i++) {
        const struct virtq_record_packed_entry *copy = &record->desc[at];
        assert_int_equal(copy->address, pieces[i].address);
        assert_int_equal(copy->length, pieces[i].length);
        assert_int_equal(copy->flags, flags[i]);
        assert_int_equal(copy->id, chains[1]->head);
        assert_int_equal(i < 2 ? first->last != at : first->last == at, 1);
        at = copy->next;
    }
    assert_int_equal(at, record->free_head);
    assert_int_equal(record->old_free_head, record->free_head);
    assert_int_equal(free_entries(), 4);
}

static void a_push_links_the_batch_and_publish_clears_it(void **state)
{
    (void)state;
    given(6, false);
    offer(1);
    offer(2);
    offer(1);
    struct virtq_chain *chains[3];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 3), 3);
    const uint16_t entries[3] = {chains[0]->record, chains[1]->record, chains[2]->record};
    struct virtq_record_packed *record = rig.packed_record;
    uint16_t old_free = record->free_head;
    virtqueue_push(&rig.queue, chains + 1, 2);
    assert_int_equal(record->free_head, entries[2]);
    assert_int_equal(record->desc[entries[2]].next, entries[1]);
    assert_int_equal(record->desc[record->desc[entries[1]].last].next, old_free);
    assert_int_equal(record->old_free_head, old_free);
    assert_int_equal(in_flight(), 3);
    assert_int_equal(record->used_index, 6);

    (void)virtqueue_publish(&rig.queue);
    assert_int_equal(record->desc[entries[0]].inflight, 1);
    assert_int_equal(in_flight(), 1);
    assert_int_equal(record->old_free_head, entries[2]);
    assert_int_equal(record->used_index, 1);
    assert_int_equal(record->old_used_index, 1);
    assert_int_equal(record->used_wrap_counter, 0);
    assert_int_equal(record->old_used_wrap_counter, 0);
    assert_int_equal(free_entries(), 7);
}

static void a_direct_request_of_the_common_kind_is_recorded_too_and_a_table_is_one_entry(void **state)
{
    (void)state;
    given(0, false);
    assert_true(fake_driver_add_indirect(&rig.driver, &rig.low, TABLE, pieces, 4) >= 0);
    (void)fake_driver_show(&rig.driver);
    struct virtq_chain *chain = rig_pop();
    assert_int_equal(rig.packed_record->desc[chain->record].num, 1);
    assert_int_equal(rig.packed_record->desc[chain->record].address, TABLE);
    assert_int_equal(rig.packed_record->desc[chain->record].length, 64);
    assert_int_equal(rig.packed_record->desc[chain->record].flags, AVAIL | INDIRECT);
    assert_int_equal(successor(), 0);
    chain = rig_pop();
    assert_int_equal(chain->ring_count, 1);
    assert_int_equal(chain->readable_count, 1);
    assert_int_equal(chain->writable_count, 3);
    (void)rig_push(chain);
    rig_take_used(1);
}

static void what_is_put_back_is_not_in_flight(void **state)
{
    (void)state;
    given(0, false);
    offer(2);
    offer(3);
    struct virtq_chain *chains[2];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 2), 2);
    virtqueue_unpop(&rig.queue, chains + 1, 1);
    assert_int_equal(in_flight(), 1);
    assert_int_equal(free_entries(), 6);
    assert_int_equal(rig.packed_record->old_free_head, rig.packed_record->free_head);
    assert_int_equal(successor(), 0);
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 2), 1);
    assert_true(chains[0]->resubmitted);
    assert_int_equal(virtqueue_pop(&rig.queue, chains + 1, 1), 1);
    assert_false(chains[1]->resubmitted);
    assert_int_equal(chains[1]->ring_count, 3);
}

/* Each request takes a walk over 32768 entries: no pop makes many, and the queue does not sleep before the last. */
static void a_long_record_is_taken_up_in_short_bursts(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.packed = true, .size = 32768, .slots = 32, .inflight = true});
    for (unsigned i = 0; i < 20; i++)
        offer(1);
    struct virtq_chain *chains[32];
    uint16_t ids[20];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 20), 20);
    for (unsigned i = 0; i < 20; i++)
        ids[i] = chains[i]->head;
    assert_int_equal(successor(), 0);
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 3), 3);
    assert_false(rig.queue.pop_again); /* as many as were wanted */
    assert_int_equal(virtqueue_pop(&rig.queue, chains + 3, 29), 8);
    assert_true(virtqueue_kicks_on(&rig.queue));
    assert_int_equal(virtqueue_pop(&rig.queue, chains + 11, 21), 8);
    assert_true(virtqueue_kicks_on(&rig.queue));
    assert_int_equal(virtqueue_pop(&rig.queue, chains + 19, 13), 1);
    assert_false(virtqueue_kicks_on(&rig.queue));
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(chains[i]->head, ids[i]);
}

static void a_malformed_request_is_not_in_flight_and_takes_no_entries(void **state)
{
    (void)state;
    given(0, false);
    fake_driver_packed_desc(&rig.driver, 0, RIG_DATA, 4, 0, AVAIL | NEXT);
    fake_driver_packed_desc(&rig.driver, 1, RIG_DATA, 4, 0, AVAIL | NEXT);
    fake_driver_packed_desc(&rig.driver, 2, 0, 4, 0, AVAIL);
    struct virtq_chain *chain;
    assert_int_equal(virtqueue_pop(&rig.queue, &chain, 1), -EPROTO);
    assert_int_equal(in_flight(), 0);
    assert_int_equal(free_entries(), 8);
    assert_int_equal(rig.queue.inflight_counter, 0);
}

/* The text's lists have one front: what was pushed is shown before a request is taken or put back. */
static void a_pop_shows_what_was_pushed_and_publish_still_notifies_of_it(void **state)
{
    (void)state;
    given(0, false);
    offer(1);
    struct virtq_chain *chain = rig_pop();
    (void)rig_push(chain); /* the first of a life notifies whatever is asked for */
    rig_take_used(1);
    offer(1);
    offer(2);
    chain = rig_pop();
    virtqueue_push(&rig.queue, &chain, 1);
    assert_int_equal(in_flight(), 1);
    assert_false(fake_driver_interrupts_on(&rig.driver));
    chain = rig_pop();
    assert_true(fake_driver_interrupts_on(&rig.driver));
    assert_int_equal(in_flight(), 1);
    assert_false(virtqueue_stop(&rig.queue));
    assert_true(virtqueue_publish(&rig.queue));
    rig_take_used(1);
    virtqueue_unpop(&rig.queue, &chain, 1);
    (void)virtqueue_publish(&rig.queue);
    assert_int_equal(rig.queue.state, VIRTQUEUE_STOPPED);
}

static void an_unpop_shows_what_was_pushed(void **state)
{
    (void)state;
    given(7, false);
    offer(1);
    offer(2);
    struct virtq_chain *chains[2];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 2), 2);
    virtqueue_push(&rig.queue, chains, 1);
    rig_take_used(0);
    virtqueue_unpop(&rig.queue, chains + 1, 1);
    rig_take_used(1);
    assert_int_equal(in_flight(), 0);
    assert_int_equal(free_entries(), 8);
    assert_true(virtqueue_publish(&rig.queue));
    assert_false(virtqueue_publish(&rig.queue));
}

/* Whoever stops now would take back the ring before the driver hears of what a pop has shown. */
static void a_stop_waits_for_the_notification_of_what_a_pop_has_shown(void **state)
{
    (void)state;
    given(0, false);
    offer(1);
    struct virtq_chain *chain = rig_pop();
    virtqueue_push(&rig.queue, &chain, 1);
    assert_int_equal(virtqueue_pop(&rig.queue, &chain, 1), 0);
    rig_take_used(1);
    assert_false(virtqueue_stop(&rig.queue));
    assert_true(virtqueue_publish(&rig.queue));
    assert_int_equal(rig.queue.state, VIRTQUEUE_STOPPED);
}

static void what_was_pushed_is_not_shown_in_a_ring_that_is_gone(void **state)
{
    (void)state;
    given(0, false);
    offer(1);
    offer(2);
    struct virtq_chain *chains[2];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 2), 2);
    virtqueue_push(&rig.queue, chains, 1);
    static struct guest_memory empty;
    guest_memory_init(&empty, NULL);
    assert_int_equal(virtqueue_exchange(&rig.queue, &rig.config, &empty, NULL), -EFAULT);
    virtqueue_unpop(&rig.queue, chains + 1, 1);
    assert_true(virtqueue_stop(&rig.queue));
    rig_take_used(0);
}

static void a_queue_whose_ring_is_gone_puts_back_and_shows_nothing(void **state)
{
    (void)state;
    given(0, false);
    offer(1);
    offer(2);
    struct virtq_chain *chains[2];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 2), 2);
    static struct guest_memory empty;
    guest_memory_init(&empty, NULL);
    assert_int_equal(virtqueue_exchange(&rig.queue, &rig.config, &empty, NULL), -EFAULT);
    virtqueue_unpop(&rig.queue, chains + 1, 1);
    assert_int_equal(in_flight(), 1);
    virtqueue_push(&rig.queue, chains, 1);
    assert_false(virtqueue_publish(&rig.queue));
    assert_true(virtqueue_stop(&rig.queue));
    /* Nothing was given back, and the record says so. */
    assert_int_equal(in_flight(), 1);
    rig_take_used(0);
    assert_int_equal(rig_start(), 0);
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 1), 1);
    assert_true(chains[0]->resubmitted);
    assert_int_equal(chains[0]->ring_count, 1);
}

/* Successors. */

static void a_successor_takes_up_what_was_in_flight_oldest_first_and_then_goes_on(void **state)
{
    (void)state;
    given(5, false);
    offer(1);
    offer(2);
    offer(1);
    offer(3);
    struct virtq_chain *chains[4];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 3), 3);
    const uint16_t ids[3] = {chains[0]->head, chains[1]->head, chains[2]->head};
    /* Completed out of order: places of the ring are written over. */
    (void)rig_push(chains[2]);
    rig_take_used(1);
    offer(1);

    assert_int_equal(successor(), 0);
    assert_true(virtqueue_pending(&rig.queue));
    assert_int_equal(rig.queue.held, 3);
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 1), 1);
    assert_int_equal(chains[0]->head, ids[0]);
    assert_int_equal(virtqueue_pop(&rig.queue, chains + 1, 3), 1);
    assert_int_equal(chains[1]->head, ids[1]);
    assert_int_equal(chains[1]->ring_count, 2);
    assert_int_equal(chains[1]->readable_bytes, 16);
    assert_int_equal(chains[1]->writable_bytes, 32);
    assert_true(chains[1]->resubmitted);
    assert_int_equal(virtqueue_pop(&rig.queue, chains + 2, 2), 2);
    assert_false(chains[2]->resubmitted);
    assert_int_equal(chains[2]->ring_count, 3);
    assert_int_equal(rig.packed_record->desc[chains[2]->record].counter, 2); /* after those that are left */
    struct virtq_chain *other;
    assert_int_equal(virtqueue_pop(&rig.queue, &other, 1), 0);
    assert_null(rig.queue.broken_reason);

    virtqueue_push(&rig.queue, chains, 4);
    (void)virtqueue_publish(&rig.queue);
    assert_int_equal(in_flight(), 0);
    rig_take_used(4);
    assert_true(virtqueue_stop(&rig.queue));
    assert_int_equal(virtqueue_base(&rig.queue), VIRTQ_BASE_PACKED(5, false) * 0x10001u);
}

static void a_request_that_was_taken_up_and_put_back_comes_again_first(void **state)
{
    (void)state;
    given(0, false);
    offer(1);
    offer(2);
    offer(3);
    struct virtq_chain *chains[3];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 3), 3);
    const uint16_t ids[3] = {chains[0]->head, chains[1]->head, chains[2]->head};
    assert_int_equal(successor(), 0);
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 3), 3);
    virtqueue_unpop(&rig.queue, chains + 1, 2);
    assert_int_equal(in_flight(), 3);
    assert_int_equal(rig.queue.held, 6);
    assert_true(virtqueue_pending(&rig.queue));
    assert_int_equal(virtqueue_pop(&rig.queue, chains + 1, 2), 2);
    assert_int_equal(chains[1]->head, ids[1]);
    assert_int_equal(chains[2]->head, ids[2]);
    assert_false(virtqueue_pending(&rig.queue));
}

static void requests_with_one_counter_are_each_taken_up_once(void **state)
{
    (void)state;
    given(0, false);
    for (unsigned i = 0; i < 3; i++)
        offer(1);
    struct virtq_chain *chains[4];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 3), 3);
    for (unsigned i = 0; i < 3; i++)
        rig.packed_record->desc[chains[i]->record].counter = 9;
    assert_int_equal(successor(), 0);
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 2), 2);
    virtqueue_unpop(&rig.queue, chains + 1, 1);
    assert_int_equal(virtqueue_pop(&rig.queue, chains + 1, 3), 2);
    assert_true(chains[0]->head < chains[1]->head && chains[1]->head < chains[2]->head);
    assert_int_equal(virtqueue_pop(&rig.queue, chains + 3, 1), 0);
}

static void taking_up_waits_for_slots(void **state)
{
    (void)state;
    given(0, false);
    for (unsigned i = 0; i < 5; i++)
        offer(1);
    struct virtq_chain *chains[8];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 5), 5);
    rig.arena.shape.slots = 2;
    assert_int_equal(successor(), 0);
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 8), 2);
    assert_true(rig.queue.starved);
    assert_true(rig_push(chains[0]));
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 8), 1);
}

static void what_was_not_taken_up_before_a_stop_is_left_for_the_next_life(void **state)
{
    (void)state;
    given(4, true);
    offer(3);
    offer(2);
    struct virtq_chain *chains[2];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 2), 2);
    const uint16_t second = chains[1]->head;
    assert_int_equal(successor(), 0);
    (void)rig_push(rig_pop());
    assert_true(virtqueue_stop(&rig.queue));
    rig_take_used(1);
    assert_int_equal(in_flight(), 1);
    assert_int_equal(rig_start(), 0);
    struct virtq_chain *chain = rig_pop();
    assert_int_equal(chain->head, second);
    (void)rig_push(chain);
    rig_take_used(1);
}

/* What stands behind the first of a batch that was never shown would be seen as soon as its place is next. */
static void what_was_pushed_and_not_shown_is_available_again(void **state)
{
    (void)state;
    for (uint16_t at = 0; at < 8; at++) {
        rig_build(&(struct rig_options){
            .packed = true, .size = 8, .inflight = true, .base = at, .odd_lap = at % 2 == 1, .log = true});
        for (unsigned i = 0; i < 4; i++)
            offer(1 + i % 2);
        struct virtq_chain *chains[4];
        assert_int_equal(virtqueue_pop(&rig.queue, chains, 4), 4);
        virtqueue_push(&rig.queue, chains, 4);
        rig_take_used(0);
        rig_clear_log();
        assert_int_equal(successor(), 0);
        assert_true(rig_marked(RIG_RING));
        assert_int_equal(virtqueue_pop(&rig.queue, chains, 4), 4);
        for (unsigned i = 0; i < 4; i++) {
            rig_take_used(0);
            (void)rig_push(chains[i]);
            rig_take_used(1);
        }
        assert_int_equal(in_flight(), 0);
    }
}

static void an_orderly_end_leaves_a_record_that_says_where_the_next_life_goes_on(void **state)
{
    (void)state;
    given(0, false);
    for (unsigned i = 0; i < 11; i++) {
        offer(3);
        (void)rig_push(rig_pop());
        rig_take_used(1);
        assert_true(virtqueue_stop(&rig.queue));
        uint32_t base = virtqueue_base(&rig.queue);
        assert_int_equal(base, rig_base(3 * (i + 1)));
        assert_int_equal(successor(), 0);
        assert_true(virtqueue_stop(&rig.queue));
        assert_int_equal(virtqueue_base(&rig.queue), base);
        assert_int_equal(successor(), 0);
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
        TEST(a_new_record_is_made_ready),
        TEST(a_pop_copies_the_descriptors_and_records_the_order_of_coming),
        TEST(a_push_links_the_batch_and_publish_clears_it),
        TEST(a_direct_request_of_the_common_kind_is_recorded_too_and_a_table_is_one_entry),
        TEST(what_is_put_back_is_not_in_flight),
        TEST(a_long_record_is_taken_up_in_short_bursts),
        TEST(a_malformed_request_is_not_in_flight_and_takes_no_entries),
        TEST(a_pop_shows_what_was_pushed_and_publish_still_notifies_of_it),
        TEST(an_unpop_shows_what_was_pushed),
        TEST(a_stop_waits_for_the_notification_of_what_a_pop_has_shown),
        TEST(what_was_pushed_is_not_shown_in_a_ring_that_is_gone),
        TEST(a_queue_whose_ring_is_gone_puts_back_and_shows_nothing),
        TEST(a_successor_takes_up_what_was_in_flight_oldest_first_and_then_goes_on),
        TEST(a_request_that_was_taken_up_and_put_back_comes_again_first),
        TEST(requests_with_one_counter_are_each_taken_up_once),
        TEST(taking_up_waits_for_slots),
        TEST(what_was_not_taken_up_before_a_stop_is_left_for_the_next_life),
        TEST(what_was_pushed_and_not_shown_is_available_again),
        TEST(an_orderly_end_leaves_a_record_that_says_where_the_next_life_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
