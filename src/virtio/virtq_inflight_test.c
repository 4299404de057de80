/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The in-flight record of a split ring ("Inflight I/O tracking" in vhost-user's text), and what a successor makes of
 * it.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "virtio/virtq_test_rig.h"

static const struct fake_piece byte_out = {.address = RIG_DATA, .length = 1, .writable = true};

static void given(uint16_t base)
{
    rig_build(&(struct rig_options){.size = 8, .inflight = true, .base = base});
}

static void offer_many(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        assert_true(fake_driver_add(&rig.driver, &byte_out, 1) >= 0);
    (void)fake_driver_show(&rig.driver);
}

/* The process dies with what is out; the next one knows the ring, the record, and a base that the front end guesses. */
static int successor(void)
{
    const struct virtq_arena_shape shape = rig.arena.shape;
    memset(rig.arena_block, 0, virtq_arena_bytes(&shape));
    virtq_arena_init(&rig.arena, &shape, rig.arena_block);
    virtqueue_init(&rig.queue, &rig.arena);
    /* What QEMU sends when a back end is gone: the used index. */
    rig.config.base = le16_to_cpu(rig.driver.used->index);
    return rig_start();
}

static unsigned in_flight(void)
{
    unsigned count = 0;
    for (unsigned i = 0; i < 8; i++)
        count += rig.split_record->desc[i].inflight;
    return count;
}

static void a_new_record_is_made_ready(void **state)
{
    (void)state;
    given(77);
    assert_int_equal(rig.split_record->version, 1);
    assert_int_equal(rig.split_record->desc_num, 8);
    assert_int_equal(rig.split_record->used_index, 77);
    assert_int_equal(rig.queue.next_avail, 77);
}

static void a_pop_records_the_request_and_the_order_of_coming(void **state)
{
    (void)state;
    given(0);
    offer_many(3);
    struct virtq_chain *chains[3];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 3), 3);
    assert_int_equal(in_flight(), 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(rig.split_record->desc[chains[i]->head].inflight, 1);
        assert_int_equal(rig.split_record->desc[chains[i]->head].counter, i);
    }
}

static void a_push_links_the_batch_and_publish_clears_it(void **state)
{
    (void)state;
    given(0);
    offer_many(3);
    struct virtq_chain *chains[3];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 3), 3);
    const uint16_t heads[3] = {chains[0]->head, chains[1]->head, chains[2]->head};
    virtqueue_push(&rig.queue, chains + 1, 2);
    assert_int_equal(rig.split_record->last_batch_head, heads[2]);
    assert_int_equal(rig.split_record->desc[heads[2]].next, heads[1]);
    assert_int_equal(in_flight(), 3);
    assert_int_equal(rig.split_record->used_index, 0);

    (void)virtqueue_publish(&rig.queue);
    assert_int_equal(rig.split_record->desc[heads[0]].inflight, 1);
    assert_int_equal(in_flight(), 1);
    assert_int_equal(rig.split_record->used_index, 2);
}

static void what_is_put_back_is_not_in_flight(void **state)
{
    (void)state;
    given(0);
    offer_many(2);
    struct virtq_chain *chains[2];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 2), 2);
    virtqueue_unpop(&rig.queue, chains + 1, 1);
    assert_int_equal(in_flight(), 1);
}

static void a_malformed_request_is_not_in_flight(void **state)
{
    (void)state;
    given(0);
    fake_driver_desc(&rig.driver, 0, 0, 4, 0, 0);
    fake_driver_offer(&rig.driver, 0);
    (void)fake_driver_show(&rig.driver);
    struct virtq_chain *chain;
    assert_int_equal(virtqueue_pop(&rig.queue, &chain, 1), -EPROTO);
    assert_int_equal(in_flight(), 0);
}

static void a_successor_takes_up_what_was_in_flight_oldest_first_and_then_goes_on(void **state)
{
    (void)state;
    given(0xfffd);
    offer_many(6);
    struct virtq_chain *chains[8];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 5), 5);
    const uint16_t heads[5] = {chains[0]->head, chains[1]->head, chains[2]->head, chains[3]->head, chains[4]->head};
    /* Completed out of order: the second and the last. */
    struct virtq_chain *done[2] = {chains[4], chains[1]};
    virtqueue_push(&rig.queue, done, 2);
    (void)virtqueue_publish(&rig.queue);

    assert_int_equal(successor(), 0);
    assert_true(virtqueue_pending(&rig.queue));
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 2), 2);
    assert_int_equal(chains[0]->head, heads[0]);
    assert_int_equal(chains[1]->head, heads[2]);
    assert_int_equal(virtqueue_pop(&rig.queue, chains + 2, 6), 1);
    assert_int_equal(chains[2]->head, heads[3]);
    assert_int_equal(virtqueue_pop(&rig.queue, chains + 3, 5), 1);
    assert_int_not_equal(chains[3]->head, heads[1]);
    assert_int_equal(rig.split_record->desc[chains[3]->head].counter, 4);
    assert_int_equal(virtqueue_pop(&rig.queue, chains + 4, 4), 0);
    assert_null(rig.queue.broken_reason);
    assert_int_equal(rig.queue.next_avail, (uint16_t)(0xfffd + 6));

    virtqueue_push(&rig.queue, chains, 4);
    (void)virtqueue_publish(&rig.queue);
    assert_int_equal(in_flight(), 0);
    for (unsigned i = 0; i < 6; i++) {
        uint32_t head, length;
        assert_true(fake_driver_get(&rig.driver, &head, &length));
    }
}

static void a_request_that_was_taken_up_and_put_back_comes_again_first(void **state)
{
    (void)state;
    given(0);
    offer_many(3);
    struct virtq_chain *chains[3];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 3), 3);
    const uint16_t heads[3] = {chains[0]->head, chains[1]->head, chains[2]->head};
    assert_int_equal(successor(), 0);
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 3), 3);
    virtqueue_unpop(&rig.queue, chains + 1, 2);
    assert_int_equal(in_flight(), 3);
    assert_int_equal(virtqueue_pop(&rig.queue, chains + 1, 2), 2);
    assert_int_equal(chains[1]->head, heads[1]);
    assert_int_equal(chains[2]->head, heads[2]);
    assert_false(virtqueue_pending(&rig.queue));
}

/* Each request takes a walk over 32768 entries: no pop makes many, and the queue does not sleep before the last. */
static void a_long_record_is_taken_up_in_short_bursts(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.size = 32768, .slots = 32, .inflight = true});
    offer_many(20);
    struct virtq_chain *chains[32];
    uint16_t heads[20];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 20), 20);
    for (unsigned i = 0; i < 20; i++)
        heads[i] = chains[i]->head;
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
        assert_int_equal(chains[i]->head, heads[i]);
}

static void requests_with_one_counter_are_each_taken_up_once(void **state)
{
    (void)state;
    given(0);
    offer_many(3);
    struct virtq_chain *chains[4];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 3), 3);
    for (unsigned i = 0; i < 3; i++)
        rig.split_record->desc[chains[i]->head].counter = 9;
    assert_int_equal(successor(), 0);
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 4), 3);
    assert_true(chains[0]->head < chains[1]->head && chains[1]->head < chains[2]->head);
    assert_int_equal(virtqueue_pop(&rig.queue, chains + 3, 1), 0);
}

static void taking_up_waits_for_slots(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.size = 8, .inflight = true});
    offer_many(5);
    struct virtq_chain *chains[8];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 5), 5);
    rig.arena.shape.slots = 2;
    assert_int_equal(successor(), 0);
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 8), 2);
    assert_true(rig.queue.starved);
    assert_true(rig_push(chains[0]));
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 8), 1);
}

/* Killed between two stores of a publication: the record's index tells. */

static void a_batch_that_was_shown_and_not_cleared_is_cleared(void **state)
{
    (void)state;
    given(0xffff);
    offer_many(4);
    struct virtq_chain *chains[4];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 4), 4);
    const uint16_t last = chains[3]->head;
    virtqueue_push(&rig.queue, chains, 3);
    rig.driver.used->index = cpu_to_le16(2); /* shown, and then killed */
    assert_int_equal(in_flight(), 4);

    assert_int_equal(successor(), 0);
    assert_int_equal(rig.split_record->used_index, 2);
    assert_int_equal(in_flight(), 1);
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 4), 1);
    assert_int_equal(chains[0]->head, last);
    assert_int_equal(rig.queue.next_avail, 3);
}

static void a_batch_that_was_half_cleared_is_cleared(void **state)
{
    (void)state;
    given(0);
    offer_many(4);
    struct virtq_chain *chains[4];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 4), 4);
    rig.split_record->desc[chains[1]->head].inflight = 0;
    virtqueue_push(&rig.queue, chains, 3);
    rig.driver.used->index = cpu_to_le16(3);
    assert_int_equal(successor(), 0);
    assert_int_equal(in_flight(), 1);
}

static void a_batch_that_was_linked_and_not_shown_is_taken_up(void **state)
{
    (void)state;
    given(0);
    offer_many(3);
    struct virtq_chain *chains[3];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 3), 3);
    virtqueue_push(&rig.queue, chains, 2);
    assert_int_equal(successor(), 0);
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 3), 3);
    virtqueue_push(&rig.queue, chains, 3);
    (void)virtqueue_publish(&rig.queue);
    assert_int_equal(in_flight(), 0);
    assert_int_equal(rig.split_record->used_index, 3);
}

static void a_ring_that_began_anew_is_no_contradiction(void **state)
{
    (void)state;
    given(500);
    offer_many(1);
    (void)rig_push(rig_pop());
    assert_true(virtqueue_stop(&rig.queue));
    fake_driver_init(&rig.driver, &rig.low, RIG_RING, 8, 0);
    assert_int_equal(successor(), 0);
    assert_int_equal(rig.queue.next_avail, 0);
    assert_int_equal(rig.split_record->used_index, 0);
    offer_many(1);
    assert_true(rig_push(rig_pop()));
}

/* What the record may say is a stranger's word. */

static void a_successor_refuses(void (*spoil)(void))
{
    given(0);
    offer_many(4);
    struct virtq_chain *chains[4];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 4), 4);
    virtqueue_push(&rig.queue, chains, 2);
    rig.driver.used->index = cpu_to_le16(2);
    spoil();
    assert_int_equal(successor(), -EPROTO);
    assert_non_null(rig.queue.broken_reason);
    assert_int_equal(rig.queue.state, VIRTQUEUE_STOPPED);
    assert_false(virtqueue_kicks_on(&rig.queue));
    assert_false(virtqueue_publish(&rig.queue));
    /* And can start without it. */
    free(rig.inflight);
    rig.inflight = NULL;
    assert_int_equal(rig_start(), 0);
    assert_null(rig.queue.broken_reason);
}

static void spoil_version(void)
{
    rig.split_record->version = 2;
}

static void a_version_that_is_not_known_is_refused(void **state)
{
    (void)state;
    a_successor_refuses(spoil_version);
}

static void spoil_flag(void)
{
    rig.split_record->desc[7].inflight = 2;
}

static void a_flag_that_is_none_is_refused(void **state)
{
    (void)state;
    a_successor_refuses(spoil_flag);
}

static void spoil_counter(void)
{
    rig.split_record->desc[2].counter = UINT64_MAX;
}

static void a_counter_that_nothing_can_follow_is_refused(void **state)
{
    (void)state;
    a_successor_refuses(spoil_counter);
}

static void spoil_batch_head(void)
{
    rig.split_record->last_batch_head = 8;
}

static void a_batch_that_begins_outside_the_ring_is_refused(void **state)
{
    (void)state;
    a_successor_refuses(spoil_batch_head);
}

static void spoil_batch_link(void)
{
    rig.split_record->desc[rig.split_record->last_batch_head].next = 0xffff;
}

static void a_batch_that_goes_outside_the_ring_is_refused(void **state)
{
    (void)state;
    a_successor_refuses(spoil_batch_link);
}

static void spoil_used_index(void)
{
    rig.split_record->used_index = 3;
}

static void a_batch_longer_than_the_ring_is_refused(void **state)
{
    (void)state;
    a_successor_refuses(spoil_used_index);
}

static void a_record_that_changes_under_us_breaks_the_queue_and_no_more(void **state)
{
    (void)state;
    given(0);
    offer_many(3);
    struct virtq_chain *chains[3];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 3), 3);
    assert_int_equal(successor(), 0);
    struct virtq_chain *chain = rig_pop();
    memset(rig.inflight, 0xff, sizeof(*rig.split_record) + 8 * sizeof(struct virtq_record_split_entry));
    struct virtq_chain *other;
    assert_int_equal(virtqueue_pop(&rig.queue, &other, 1), -EPROTO);
    (void)rig_push(chain);
    uint32_t head, length;
    assert_true(fake_driver_get(&rig.driver, &head, &length));
}

static void a_request_that_became_malformed_meanwhile_breaks_the_queue(void **state)
{
    (void)state;
    given(0);
    offer_many(1);
    const uint16_t head = rig_pop()->head;
    fake_driver_desc(&rig.driver, head, 0, 4, 0, 0);
    assert_int_equal(successor(), 0);
    struct virtq_chain *chain;
    assert_int_equal(virtqueue_pop(&rig.queue, &chain, 1), -EPROTO);
    assert_int_equal(virtqueue_pop(&rig.queue, &chain, 1), 0);
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
        TEST(a_pop_records_the_request_and_the_order_of_coming),
        TEST(a_push_links_the_batch_and_publish_clears_it),
        TEST(what_is_put_back_is_not_in_flight),
        TEST(a_malformed_request_is_not_in_flight),
        TEST(a_successor_takes_up_what_was_in_flight_oldest_first_and_then_goes_on),
        TEST(a_request_that_was_taken_up_and_put_back_comes_again_first),
        TEST(a_long_record_is_taken_up_in_short_bursts),
        TEST(requests_with_one_counter_are_each_taken_up_once),
        TEST(taking_up_waits_for_slots),
        TEST(a_batch_that_was_shown_and_not_cleared_is_cleared),
        TEST(a_batch_that_was_half_cleared_is_cleared),
        TEST(a_batch_that_was_linked_and_not_shown_is_taken_up),
        TEST(a_ring_that_began_anew_is_no_contradiction),
        TEST(a_version_that_is_not_known_is_refused),
        TEST(a_flag_that_is_none_is_refused),
        TEST(a_counter_that_nothing_can_follow_is_refused),
        TEST(a_batch_that_begins_outside_the_ring_is_refused),
        TEST(a_batch_that_goes_outside_the_ring_is_refused),
        TEST(a_batch_longer_than_the_ring_is_refused),
        TEST(a_record_that_changes_under_us_breaks_the_queue_and_no_more),
        TEST(a_request_that_became_malformed_meanwhile_breaks_the_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
