/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The queue as a device sees it, whatever the ring's layout: bursts, putting back, tokens, starving, stopping. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "virtio/virtq_test_rig.h"

static const struct fake_piece request[3] = {
    {.address = RIG_DATA, .length = 16},
    {.address = RIG_DATA + 0x1000, .length = 4096, .writable = true},
    {.address = RIG_DATA + 0x2000, .length = 1, .writable = true},
};

/* @count requests of @piece_count pieces each, 16 bytes a piece. */
static void offer_many(unsigned count, unsigned piece_count)
{
    struct fake_piece pieces[VIRTQ_LONG_RUN_PIECES];
    for (unsigned i = 0; i < piece_count; i++)
        pieces[i] = (struct fake_piece){.address = RIG_DATA + i * 16, .length = 16, .writable = true};
    for (unsigned i = 0; i < count; i++)
        assert_true(fake_driver_add(&rig.driver, pieces, piece_count) >= 0);
    (void)fake_driver_show(&rig.driver);
}

static void a_request_goes_round(void **state)
{
    rig_build(&(struct rig_options){.packed = rig_for_packed(state), .size = 16});
    memcpy(rig_byte(RIG_DATA), "sixteen bytes ok", 16);
    uint16_t head = rig_offer(request, 3);

    struct virtq_chain *chain = rig_pop();
    assert_int_equal(chain->readable_count, 1);
    assert_int_equal(chain->writable_count, 2);
    assert_int_equal(chain->readable_bytes, 16);
    assert_int_equal(chain->writable_bytes, 4097);
    char header[20];
    assert_int_equal(virtq_chain_read(chain, header, sizeof(header)), 16);
    assert_memory_equal(header, "sixteen bytes ok", 16);
    assert_int_equal(virtq_chain_keep_tail(chain, 1), 0);
    assert_int_equal(virtq_chain_write(chain, "data", 4), 4);
    virtq_chain_write_tail(chain, "\x7f");
    assert_true(rig_push(chain));

    uint32_t used_head, length;
    assert_true(fake_driver_get(&rig.driver, &used_head, &length));
    assert_int_equal(used_head, head);
    assert_int_equal(length, 4); /* 2.7.8.2: up to the gap, so without the tail */
    assert_memory_equal(rig_byte(RIG_DATA + 0x1000), "data", 4);
    assert_int_equal(*rig_byte(RIG_DATA + 0x2000), 0x7f);
    assert_true(virtqueue_stop(&rig.queue));
    assert_int_equal(virtqueue_base(&rig.queue), rig_base(rig_for_packed(state) ? 3 : 1));
}

static void a_burst_gives_no_more_than_asked_and_goes_on_where_it_ended(void **state)
{
    rig_build(&(struct rig_options){.packed = rig_for_packed(state), .size = 16});
    offer_many(10, 1);

    struct virtq_chain *chains[VIRTQ_BURST_MAX];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 4), 4);
    assert_int_equal(virtqueue_pop(&rig.queue, chains + 4, VIRTQ_BURST_MAX - 4), 6);
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 1), 0);
    assert_false(rig.queue.starved);
    assert_int_equal(rig.queue.out_count, 10);
    virtqueue_push(&rig.queue, chains, 10);
    assert_int_equal(rig.queue.popped_total, 10);
    assert_int_equal(rig.queue.pushed_total, 10);
}

static void pushed_requests_are_not_seen_before_publish(void **state)
{
    rig_build(&(struct rig_options){.packed = rig_for_packed(state), .size = 4});
    offer_many(2, 1);
    struct virtq_chain *chains[2];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 2), 2);
    virtqueue_push(&rig.queue, chains, 2);

    uint32_t head, length;
    assert_false(fake_driver_get(&rig.driver, &head, &length));
    assert_true(virtqueue_publish(&rig.queue));
    assert_true(fake_driver_get(&rig.driver, &head, &length));
    assert_true(fake_driver_get(&rig.driver, &head, &length));
    assert_false(fake_driver_get(&rig.driver, &head, &length));
}

static void publishing_nothing_asks_for_no_notification(void **state)
{
    rig_build(&(struct rig_options){.packed = rig_for_packed(state), .size = 4});
    assert_false(virtqueue_publish(&rig.queue));
}

static void requests_come_back_in_any_order(void **state)
{
    rig_build(&(struct rig_options){.packed = rig_for_packed(state), .size = 8});
    offer_many(3, 1);
    struct virtq_chain *chains[3];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 3), 3);
    struct virtq_chain *order[3] = {chains[2], chains[0], chains[1]};
    const uint16_t heads[3] = {order[0]->head, order[1]->head, order[2]->head};
    virtqueue_push(&rig.queue, order, 3);
    (void)virtqueue_publish(&rig.queue);

    for (unsigned i = 0; i < 3; i++) {
        uint32_t head, length;
        assert_true(fake_driver_get(&rig.driver, &head, &length));
        assert_int_equal(head, heads[i]);
    }
}

static void what_is_put_back_comes_again_in_order(void **state)
{
    rig_build(&(struct rig_options){.packed = rig_for_packed(state), .size = 8});
    offer_many(5, 1);
    struct virtq_chain *chains[5];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 4), 4);
    const uint16_t third = chains[2]->head;
    const uint16_t fourth = chains[3]->head;

    virtqueue_unpop(&rig.queue, chains + 2, 2);
    assert_int_equal(rig.queue.out_count, 2);
    assert_true(virtqueue_pending(&rig.queue));
    struct virtq_chain *again[3];
    assert_int_equal(virtqueue_pop(&rig.queue, again, 3), 3);
    assert_int_equal(again[0]->head, third);
    assert_int_equal(again[1]->head, fourth);
    assert_int_equal(rig.queue.popped_total, 5);
}

static void what_was_put_back_is_left_for_the_next_life(void **state)
{
    rig_build(&(struct rig_options){.packed = rig_for_packed(state), .size = 8});
    offer_many(3, 1);
    struct virtq_chain *chains[3];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 3), 3);
    virtqueue_unpop(&rig.queue, chains + 1, 2);
    virtqueue_push(&rig.queue, chains, 1);
    (void)virtqueue_publish(&rig.queue);
    assert_true(virtqueue_stop(&rig.queue));
    assert_int_equal(virtqueue_base(&rig.queue), rig_base(1));

    rig.config.base = virtqueue_base(&rig.queue);
    assert_int_equal(rig_start(), 0);
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 3), 2);
}

static void popping_stops_when_the_slots_are_out_and_goes_on_after_a_push(void **state)
{
    rig_build(&(struct rig_options){.packed = rig_for_packed(state), .size = 16, .slots = 3});
    offer_many(5, 1);
    struct virtq_chain *chains[8];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 8), 3);
    assert_true(rig.queue.starved);
    assert_int_equal(virtqueue_pop(&rig.queue, chains + 3, 5), 0);
    assert_true(rig.queue.starved);

    assert_true(rig_push(chains[1]));
    assert_int_equal(virtqueue_pop(&rig.queue, chains + 3, 5), 1);
    virtqueue_push(&rig.queue, chains, 1);
    virtqueue_push(&rig.queue, chains + 2, 2);
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 8), 1);
    assert_false(rig.queue.starved);
}

static void an_empty_ring_is_not_starving(void **state)
{
    rig_build(&(struct rig_options){.packed = rig_for_packed(state), .size = 16, .slots = 1});
    offer_many(1, 1);
    struct virtq_chain *chains[2];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 2), 1);
    assert_int_equal(virtqueue_pop(&rig.queue, chains + 1, 1), 0);
    assert_false(rig.queue.starved);
}

static void a_long_chain_waits_for_the_long_run(void **state)
{
    rig_build(&(struct rig_options){.packed = rig_for_packed(state), .size = 1024});
    offer_many(2, 200);
    struct virtq_chain *chains[2];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 2), 1);
    assert_true(rig.queue.starved && !rig.queue.unreachable);
    assert_false(rig.queue.broken);
    /* The medium run it had on the way was given back. */
    assert_int_equal(rig.arena.free_medium_count, 2);

    assert_true(rig_push(chains[0]));
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 2), 1);
    assert_int_equal(chains[0]->writable_count, 200);
    assert_true(rig_push(chains[0]));
    assert_int_equal(rig.arena.free_long_count, 1);
}

static void chains_of_medium_length_wait_for_a_medium_run(void **state)
{
    rig_build(&(struct rig_options){.packed = rig_for_packed(state), .size = 64});
    offer_many(3, 20);
    struct virtq_chain *chains[3];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 3), 2);
    assert_true(rig.queue.starved && !rig.queue.unreachable);
    /* The medium runs lie behind all short ones, and apart. */
    const struct guest_iovec *medium = rig.arena.iov + (size_t)rig.arena.shape.slots * VIRTQ_SHORT_RUN_PIECES;
    assert_ptr_equal(chains[0]->iov, medium);
    assert_ptr_equal(chains[1]->iov, medium + VIRTQ_MEDIUM_RUN_PIECES);
    assert_true(rig_push(chains[0]));
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 3), 1);
    assert_false(rig.queue.starved);
}

static void runs_grow_with_a_chain_and_are_given_back(void **state)
{
    (void)state;
    static const unsigned counts[] = {VIRTQ_SHORT_RUN_PIECES, VIRTQ_SHORT_RUN_PIECES + 1, VIRTQ_MEDIUM_RUN_PIECES,
                                      VIRTQ_MEDIUM_RUN_PIECES + 1, VIRTQ_LONG_RUN_PIECES};
    rig_build(&(struct rig_options){.size = 1024, .slots = 4});
    for (unsigned i = 0; i < ARRAY_SIZE(counts); i++) {
        offer_many(1, counts[i]);
        struct virtq_chain *chain = rig_pop();
        assert_int_equal(chain->writable_count, counts[i]);
        /* Pieces and their addresses lie in parallel, or two chains could share some. */
        assert_int_equal(chain->addresses - rig.arena.addresses, chain->iov - rig.arena.iov);
        for (unsigned j = 0; j < counts[i]; j++) {
            assert_ptr_equal(chain->iov[j].base, rig_byte(RIG_DATA + j * 16));
            assert_int_equal(chain->iov[j].length, 16);
            assert_int_equal(chain->addresses[j], RIG_DATA + j * 16);
        }
        (void)rig_push(chain);
        uint32_t head, length;
        assert_true(fake_driver_get(&rig.driver, &head, &length));
        assert_int_equal(rig.arena.free_medium_count, 2);
        assert_int_equal(rig.arena.free_long_count, 1);
        assert_int_equal(rig.arena.free_slot_count, 4);
    }
}

static void a_token_names_its_request_until_it_is_back(void **state)
{
    rig_build(&(struct rig_options){.packed = rig_for_packed(state), .size = 8});
    offer_many(2, 1);
    struct virtq_chain *chains[2];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 2), 2);
    const uint32_t first = chains[0]->token;
    const uint32_t second = chains[1]->token;
    assert_int_not_equal(first, second);
    assert_ptr_equal(virtqueue_chain(&rig.queue, first), chains[0]);
    (void)rig_push(chains[0]);
    assert_null(virtqueue_chain(&rig.queue, first));
    assert_ptr_equal(virtqueue_chain(&rig.queue, second), chains[1]);
    assert_null(virtqueue_chain(&rig.queue, (second & 0xffff0000) | 1000));
}

static void a_token_of_an_earlier_life_is_stale(void **state)
{
    rig_build(&(struct rig_options){.packed = rig_for_packed(state), .size = 8});
    offer_many(2, 1);
    struct virtq_chain *chain = rig_pop();
    const uint32_t token = chain->token;
    (void)rig_push(chain);
    assert_true(virtqueue_stop(&rig.queue));
    rig.config.base = rig_base(1);
    assert_int_equal(rig_start(), 0);

    chain = rig_pop();
    assert_int_equal((uint16_t)chain->token, (uint16_t)token);
    assert_null(virtqueue_chain(&rig.queue, token));
    assert_ptr_equal(virtqueue_chain(&rig.queue, chain->token), chain);
}

static void every_request_has_room_of_its_own_for_the_device(void **state)
{
    rig_build(&(struct rig_options){.packed = rig_for_packed(state), .size = 8});
    offer_many(8, 1);
    struct virtq_chain *chains[8];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 8), 8);
    for (unsigned i = 0; i < 8; i++)
        memset(chains[i]->request, (int)i, 24);
    for (unsigned i = 0; i < 8; i++) {
        const uint8_t *bytes = chains[i]->request;
        assert_true(bytes[0] == i && bytes[23] == i);
        assert_true(is_aligned((uintptr_t)bytes, VIRTQ_REQUEST_ALIGN));
    }
}

static void a_stopping_queue_pops_nothing_and_stops_after_the_last_request(void **state)
{
    rig_build(&(struct rig_options){.packed = rig_for_packed(state), .size = 8});
    offer_many(3, 1);
    struct virtq_chain *chains[3];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 2), 2);
    assert_false(virtqueue_stop(&rig.queue));
    assert_int_equal(rig.queue.state, VIRTQUEUE_STOPPING);
    assert_int_equal(virtqueue_pop(&rig.queue, chains + 2, 1), 0);

    (void)rig_push(chains[1]);
    assert_int_equal(rig.queue.state, VIRTQUEUE_STOPPING);
    virtqueue_push(&rig.queue, chains, 1);
    assert_int_equal(rig.queue.state, VIRTQUEUE_STOPPING);
    assert_true(virtqueue_publish(&rig.queue));
    assert_int_equal(rig.queue.state, VIRTQUEUE_STOPPED);
    assert_int_equal(virtqueue_base(&rig.queue), rig_base(2));
    uint32_t head, length;
    assert_true(fake_driver_get(&rig.driver, &head, &length));
    assert_true(fake_driver_get(&rig.driver, &head, &length));
}

static void putting_the_last_request_back_stops_a_stopping_queue(void **state)
{
    rig_build(&(struct rig_options){.packed = rig_for_packed(state), .size = 8});
    offer_many(1, 1);
    struct virtq_chain *chain = rig_pop();
    assert_false(virtqueue_stop(&rig.queue));
    virtqueue_unpop(&rig.queue, &chain, 1);
    assert_false(virtqueue_publish(&rig.queue));
    assert_int_equal(rig.queue.state, VIRTQUEUE_STOPPED);
    assert_int_equal(virtqueue_base(&rig.queue), rig_base(0));
}

static void stopping_does_not_forget_what_was_not_published(void **state)
{
    rig_build(&(struct rig_options){.packed = rig_for_packed(state), .size = 8});
    offer_many(1, 1);
    struct virtq_chain *chain = rig_pop();
    virtqueue_push(&rig.queue, &chain, 1);
    assert_false(virtqueue_stop(&rig.queue));
    assert_true(virtqueue_publish(&rig.queue));
    assert_int_equal(rig.queue.state, VIRTQUEUE_STOPPED);
    uint32_t head, length;
    assert_true(fake_driver_get(&rig.driver, &head, &length));
}

static void a_stopped_queue_answers_and_touches_nothing(void **state)
{
    rig_build(&(struct rig_options){.packed = rig_for_packed(state), .size = 8});
    offer_many(1, 1);
    assert_true(virtqueue_stop(&rig.queue));
    assert_true(virtqueue_stop(&rig.queue));
    struct virtq_chain *chain;
    assert_int_equal(virtqueue_pop(&rig.queue, &chain, 1), 0);
    assert_false(virtqueue_publish(&rig.queue));
    assert_false(virtqueue_kicks_on(&rig.queue));
    virtqueue_kicks_off(&rig.queue);
    assert_false(virtqueue_pending(&rig.queue));
    assert_int_equal(virtqueue_exchange(&rig.queue, &rig.config, &rig.memory, NULL), 0);
    assert_int_equal(rig.queue.state, VIRTQUEUE_STOPPED);
}

static void a_chain_that_is_out_outlives_an_exchange_of_the_map(void **state)
{
    rig_build(&(struct rig_options){.packed = rig_for_packed(state), .size = 8});
    rig_offer(request, 3);
    struct virtq_chain *chain = rig_pop();

    static struct guest_memory other;
    other = rig.memory;
    memset(&rig.memory, 0, sizeof(rig.memory));
    assert_int_equal(virtqueue_exchange(&rig.queue, &rig.config, &other, NULL), 0);
    assert_int_equal(virtq_chain_write(chain, "x", 1), 1);
    assert_true(rig_push(chain));
    uint32_t head, length;
    assert_true(fake_driver_get(&rig.driver, &head, &length));
    assert_int_equal(*rig_byte(RIG_DATA + 0x1000), 'x');
    rig_offer(request, 3);
    (void)rig_pop();
}

static void a_ring_can_move_while_the_queue_runs(void **state)
{
    rig_build(&(struct rig_options){.packed = rig_for_packed(state), .size = 8});
    rig_offer(request, 3);
    assert_true(rig_push(rig_pop()));

    /* As a front end does that copies a ring elsewhere: the indices go on. */
    rig_move_ring(RIG_DATA + 0x10000);
    assert_int_equal(virtqueue_exchange(&rig.queue, &rig.config, &rig.memory, NULL), 0);

    uint32_t head, length;
    assert_true(fake_driver_get(&rig.driver, &head, &length));
    rig_offer(request, 3);
    assert_true(rig_push(rig_pop()));
    assert_true(fake_driver_get(&rig.driver, &head, &length));
    assert_int_equal(*rig_byte(RIG_RING), 0xff);
}

static void after_a_failed_exchange_chains_come_back_and_the_ring_is_not_touched(void **state)
{
    rig_build(&(struct rig_options){.packed = rig_for_packed(state), .size = 8});
    offer_many(2, 1);
    struct virtq_chain *chains[2];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 2), 2);

    static struct guest_memory empty;
    guest_memory_init(&empty, NULL);
    uint8_t ring[1024];
    assert_true(fake_driver_ring_bytes(8) <= sizeof(ring));
    memcpy(ring, rig_byte(RIG_RING), fake_driver_ring_bytes(8));
    assert_int_equal(virtqueue_exchange(&rig.queue, &rig.config, &empty, NULL), -EFAULT);
    assert_true(rig.queue.broken);
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 1), 0);
    virtqueue_push(&rig.queue, chains, 2);
    assert_false(virtqueue_publish(&rig.queue));
    assert_memory_equal(ring, rig_byte(RIG_RING), fake_driver_ring_bytes(8));
    assert_true(virtqueue_stop(&rig.queue));
    assert_int_equal(rig_start(), 0);
    assert_false(rig.queue.broken);
}

static void an_exchange_cannot_change_the_size(void **state)
{
    rig_build(&(struct rig_options){.packed = rig_for_packed(state), .size = 8});
    rig.config.size = 16;
    assert_int_equal(virtqueue_exchange(&rig.queue, &rig.config, &rig.memory, NULL), -EINVAL);
    assert_true(rig.queue.broken);
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
        BOTH(a_request_goes_round),
        BOTH(a_burst_gives_no_more_than_asked_and_goes_on_where_it_ended),
        BOTH(pushed_requests_are_not_seen_before_publish),
        BOTH(publishing_nothing_asks_for_no_notification),
        BOTH(requests_come_back_in_any_order),
        BOTH(what_is_put_back_comes_again_in_order),
        BOTH(what_was_put_back_is_left_for_the_next_life),
        BOTH(popping_stops_when_the_slots_are_out_and_goes_on_after_a_push),
        BOTH(an_empty_ring_is_not_starving),
        BOTH(a_long_chain_waits_for_the_long_run),
        BOTH(chains_of_medium_length_wait_for_a_medium_run),
        BOTH(runs_grow_with_a_chain_and_are_given_back),
        BOTH(a_token_names_its_request_until_it_is_back),
        BOTH(a_token_of_an_earlier_life_is_stale),
        BOTH(every_request_has_room_of_its_own_for_the_device),
        BOTH(a_stopping_queue_pops_nothing_and_stops_after_the_last_request),
        BOTH(putting_the_last_request_back_stops_a_stopping_queue),
        BOTH(stopping_does_not_forget_what_was_not_published),
        BOTH(a_stopped_queue_answers_and_touches_nothing),
        BOTH(a_chain_that_is_out_outlives_an_exchange_of_the_map),
        BOTH(a_ring_can_move_while_the_queue_runs),
        BOTH(after_a_failed_exchange_chains_come_back_and_the_ring_is_not_touched),
        BOTH(an_exchange_cannot_change_the_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
