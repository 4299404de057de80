/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * VIRTIO_F_IN_ORDER (VIRTIO 1.3, 2.7.9 and 2.8.8), in both layouts: the driver gets requests back in the order in which
 * it made them available, whatever the order in which the device gives them back.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "virtio/virtq_test_rig.h"

#define REQUESTS 4

static const struct fake_piece byte_out[2] = {
    {.address = RIG_DATA, .length = 8, .writable = true},
    {.address = RIG_DATA + 0x100, .length = 8, .writable = true},
};

static uint16_t heads[256]; /* of what was offered, in that order */

static void given(void **state, uint32_t size, uint16_t slots)
{
    rig_build(&(struct rig_options){.packed = rig_for_packed(state), .in_order = true, .size = size, .slots = slots});
}

static void offer(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        heads[i] = rig_offer(byte_out, 1 + i % 2);
}

static void pop(struct virtq_chain **chains, unsigned count)
{
    assert_int_equal(virtqueue_pop(&rig.queue, chains, count), count);
}

/* The driver gets heads[first .. first + count) back now, each with the bytes that @lengths says, and no other. */
static void assert_back(unsigned first, unsigned count, const uint32_t *lengths)
{
    uint32_t head, length;
    for (unsigned i = first; i < first + count; i++) {
        assert_true(fake_driver_get(&rig.driver, &head, &length));
        assert_int_equal(head, heads[i]);
        assert_int_equal(length, lengths == NULL ? 0 : lengths[i]);
    }
    rig_take_used(0);
}

/* Permutation @number of REQUESTS things. */
static void permute(unsigned number, unsigned *order)
{
    for (unsigned i = 0; i < REQUESTS; i++)
        order[i] = i;
    for (unsigned left = REQUESTS; left > 1; left--) {
        unsigned which = number % left, last = order[left - 1];
        number /= left;
        order[left - 1] = order[which];
        order[which] = last;
    }
}

static void requests_come_back_in_order_whatever_the_order_of_the_pushes(void **state)
{
    for (unsigned number = 0; number < 24; number++) {
        given(state, 8, 0);
        offer(REQUESTS);
        struct virtq_chain *chains[REQUESTS];
        pop(chains, REQUESTS);
        unsigned order[REQUESTS], shown = 0;
        bool pushed[REQUESTS] = {false};
        static const uint32_t lengths[REQUESTS] = {1, 2, 3, 4};
        permute(number, order);
        for (unsigned i = 0; i < REQUESTS; i++) {
            struct virtq_chain *chain = chains[order[i]];
            (void)virtq_chain_write(chain, "data", lengths[order[i]]);
            bool notify = rig_push(chain);
            pushed[order[i]] = true;
            unsigned ready = shown;
            while (ready < REQUESTS && pushed[ready])
                ready++;
            assert_int_equal(notify, ready > shown);
            assert_back(shown, ready - shown, lengths);
            assert_int_equal(rig.queue.out_count, REQUESTS - ready);
            shown = ready;
        }
        assert_int_equal(rig.arena.free_slot_count, rig.arena.shape.slots);
        assert_int_equal(rig.queue.pushed_total, REQUESTS);
    }
}

static void a_batch_in_any_order_is_one_batch_in_order(void **state)
{
    for (unsigned number = 0; number < 24; number++) {
        given(state, 8, 0);
        offer(REQUESTS);
        struct virtq_chain *chains[REQUESTS], *batch[REQUESTS];
        pop(chains, REQUESTS);
        unsigned order[REQUESTS];
        permute(number, order);
        for (unsigned i = 0; i < REQUESTS; i++)
            batch[i] = chains[order[i]];
        virtqueue_push(&rig.queue, batch, REQUESTS);
        rig_take_used(0);
        assert_true(virtqueue_publish(&rig.queue));
        assert_back(0, REQUESTS, NULL);
    }
}

static void more_than_a_burst_may_wait_for_one(void **state)
{
    given(state, 256, 200);
    offer(130);
    struct virtq_chain *chains[130];
    pop(chains, 64);
    pop(chains + 64, 64);
    pop(chains + 128, 2);
    for (unsigned i = 129; i > 0; i--) {
        assert_false(rig_push(chains[i]));
        rig_take_used(0);
    }
    assert_true(rig_push(chains[0]));
    assert_back(0, 130, NULL);
    assert_int_equal(rig.queue.out_count, 0);
}

static void order_is_kept_for_ever(void **state)
{
    /* Slots are no power of two, places of the ring come round, and the count of arrivals wraps in a round. */
    given(state, 16, 3);
    rig.queue.arrivals = UINT32_MAX - 49;
    rig.queue.oldest = UINT32_MAX - 49;
    for (unsigned round = 0; round < 100; round++) {
        offer(3);
        struct virtq_chain *chains[3];
        pop(chains, 3);
        struct virtq_chain *first = chains[round % 3];
        chains[round % 3] = chains[2];
        (void)rig_push(first);
        virtqueue_push(&rig.queue, chains, 2);
        (void)virtqueue_publish(&rig.queue);
        assert_back(0, 3, NULL);
    }
}

static void what_is_put_back_comes_again_in_its_place(void **state)
{
    given(state, 8, 0);
    offer(4);
    struct virtq_chain *chains[4];
    pop(chains, 4);
    assert_false(rig_push(chains[1]));
    virtqueue_unpop(&rig.queue, chains + 2, 2);
    assert_int_equal(rig.queue.out_count, 2);
    assert_true(rig_push(chains[0]));
    assert_back(0, 2, NULL);
    pop(chains + 2, 2);
    assert_int_equal(chains[2]->head, heads[2]);
    assert_false(rig_push(chains[3]));
    assert_true(rig_push(chains[2]));
    assert_back(2, 2, NULL);
}

static void what_waits_keeps_its_slot(void **state)
{
    given(state, 8, 2);
    offer(3);
    struct virtq_chain *chains[3];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 3), 2);
    assert_true(rig.queue.starved);
    assert_false(rig_push(chains[1]));
    assert_int_equal(virtqueue_pop(&rig.queue, chains + 2, 1), 0);
    assert_true(rig.queue.starved);
    assert_true(rig_push(chains[0]));
    pop(chains + 2, 1);
    assert_false(rig.queue.starved);
    assert_true(rig_push(chains[2]));
    assert_back(0, 3, NULL);
}

static void a_token_is_stale_while_its_request_waits(void **state)
{
    given(state, 8, 0);
    offer(2);
    struct virtq_chain *chains[2];
    pop(chains, 2);
    const uint32_t tokens[2] = {chains[0]->token, chains[1]->token};
    assert_ptr_equal(virtqueue_chain(&rig.queue, tokens[1]), chains[1]);
    assert_false(rig_push(chains[1]));
    assert_null(virtqueue_chain(&rig.queue, tokens[1]));
    assert_ptr_equal(virtqueue_chain(&rig.queue, tokens[0]), chains[0]);
    assert_true(rig_push(chains[0]));
    assert_null(virtqueue_chain(&rig.queue, tokens[0]));
    assert_null(virtqueue_chain(&rig.queue, tokens[1]));
}

static void a_stopping_queue_waits_for_those_that_others_wait_for(void **state)
{
    given(state, 8, 0);
    offer(3);
    struct virtq_chain *chains[3];
    pop(chains, 3);
    assert_false(rig_push(chains[2]));
    assert_false(virtqueue_stop(&rig.queue));
    assert_false(rig_push(chains[1]));
    assert_int_equal(rig.queue.state, VIRTQUEUE_STOPPING);
    assert_int_equal(rig.queue.out_count, 3);
    assert_true(rig_push(chains[0]));
    assert_int_equal(rig.queue.state, VIRTQUEUE_STOPPED);
    assert_back(0, 3, NULL);
    assert_int_equal(virtqueue_base(&rig.queue), rig_base(rig_for_packed(state) ? 4 : 3));

    /* The next life counts anew. */
    rig.config.base = virtqueue_base(&rig.queue);
    assert_int_equal(rig_start(), 0);
    offer(2);
    pop(chains, 2);
    assert_false(rig_push(chains[1]));
    assert_true(rig_push(chains[0]));
    assert_back(0, 2, NULL);
}

static void a_stop_with_some_put_back_ends_before_them(void **state)
{
    given(state, 8, 0);
    offer(3);
    struct virtq_chain *chains[3];
    pop(chains, 3);
    assert_false(rig_push(chains[1]));
    assert_false(virtqueue_stop(&rig.queue));
    virtqueue_unpop(&rig.queue, chains + 2, 1);
    assert_true(rig_push(chains[0]));
    assert_int_equal(rig.queue.state, VIRTQUEUE_STOPPED);
    assert_back(0, 2, NULL);
    rig.config.base = virtqueue_base(&rig.queue);
    assert_int_equal(rig_start(), 0);
    assert_int_equal(rig_pop()->head, heads[2]);
}

static void requests_of_a_predecessor_come_back_in_order_too(void **state)
{
    rig_build(&(struct rig_options){.packed = rig_for_packed(state), .in_order = true, .inflight = true, .size = 8});
    offer(4);
    struct virtq_chain *chains[4];
    pop(chains, 4);
    assert_true(rig_push(chains[0]));
    assert_back(0, 1, NULL);
    assert_false(rig_push(chains[2])); /* waits, so it is in flight when the process dies */

    const struct virtq_arena_shape shape = rig.arena.shape;
    memset(rig.arena_block, 0, virtq_arena_bytes(&shape));
    virtq_arena_init(&rig.arena, &shape, rig.arena_block);
    virtqueue_init(&rig.queue, &rig.arena);
    assert_int_equal(rig_start(), 0);
    heads[4] = rig_offer(byte_out, 1);
    struct virtq_chain *again[4];
    pop(again, 3);
    pop(again + 3, 1);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(again[i]->head, heads[i + 1]);
    assert_true(again[2]->resubmitted && !again[3]->resubmitted);
    assert_false(rig_push(again[3]));
    assert_false(rig_push(again[1]));
    assert_true(rig_push(again[0]));
    assert_back(1, 2, NULL);
    assert_true(rig_push(again[2]));
    assert_back(3, 2, NULL);
}

static void what_waits_comes_back_after_a_failed_exchange(void **state)
{
    given(state, 8, 0);
    offer(3);
    struct virtq_chain *chains[3];
    pop(chains, 3);
    assert_false(rig_push(chains[1]));
    static struct guest_memory empty;
    guest_memory_init(&empty, NULL);
    assert_int_equal(virtqueue_exchange(&rig.queue, &rig.config, &empty, NULL), -EFAULT);
    assert_int_equal(rig.queue.out_count, 3);
    assert_false(virtqueue_stop(&rig.queue));
    assert_false(rig_push(chains[2]));
    assert_false(rig_push(chains[0]));
    assert_int_equal(rig.queue.state, VIRTQUEUE_STOPPED);
    assert_int_equal(rig.arena.free_slot_count, rig.arena.shape.slots);
    rig_take_used(0);
}

static void what_waits_comes_back_after_a_break(void **state)
{
    given(state, 8, 0);
    offer(2);
    struct virtq_chain *chains[2], *other;
    pop(chains, 2);
    assert_false(rig_push(chains[1]));
    const struct fake_piece outside = {.address = 0, .length = 1};
    rig_offer(&outside, 1);
    assert_int_equal(virtqueue_pop(&rig.queue, &other, 1), -EPROTO);
    assert_true(rig_push(chains[0]));
    assert_back(0, 2, NULL);
    assert_true(virtqueue_stop(&rig.queue));
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
        BOTH(requests_come_back_in_order_whatever_the_order_of_the_pushes),
        BOTH(a_batch_in_any_order_is_one_batch_in_order),
        BOTH(more_than_a_burst_may_wait_for_one),
        BOTH(order_is_kept_for_ever),
        BOTH(what_is_put_back_comes_again_in_its_place),
        BOTH(what_waits_keeps_its_slot),
        BOTH(a_token_is_stale_while_its_request_waits),
        BOTH(a_stopping_queue_waits_for_those_that_others_wait_for),
        BOTH(a_stop_with_some_put_back_ends_before_them),
        BOTH(requests_of_a_predecessor_come_back_in_order_too),
        BOTH(what_waits_comes_back_after_a_failed_exchange),
        BOTH(what_waits_comes_back_after_a_break),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
