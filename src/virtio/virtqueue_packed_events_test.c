/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The packed layout: who wakes whom (VIRTIO 1.3, 2.8.10 and 2.8.14), the ring's log, a ring that moves. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "virtio/virtq_test_rig.h"

#define ENABLE VRING_PACKED_EVENT_ENABLE
#define DISABLE VRING_PACKED_EVENT_DISABLE
#define DESC VRING_PACKED_EVENT_DESC

static const struct fake_piece pieces[4] = {
    {.address = RIG_DATA, .length = 1, .writable = true},
    {.address = RIG_DATA + 1, .length = 1, .writable = true},
    {.address = RIG_DATA + 2, .length = 1, .writable = true},
    {.address = RIG_DATA + 3, .length = 1, .writable = true},
};

static void given(uint32_t size, bool event_idx)
{
    rig_build(&(struct rig_options){.packed = true, .size = size, .event_idx = event_idx});
}

static bool offer(unsigned descriptors)
{
    assert_true(fake_driver_add(&rig.driver, pieces, descriptors) >= 0);
    return fake_driver_show(&rig.driver);
}

/* Add and serve @count requests of @descriptors each as one batch; is the driver to be notified? */
static bool serve(unsigned count, unsigned descriptors)
{
    struct virtq_chain *chains[16];
    for (unsigned i = 0; i < count; i++)
        (void)offer(descriptors);
    assert_int_equal(virtqueue_pop(&rig.queue, chains, count), count);
    virtqueue_push(&rig.queue, chains, count);
    bool notify = virtqueue_publish(&rig.queue);
    rig_take_used(count);
    return notify;
}

static void driver_says(uint16_t flags, uint32_t position, bool wrap)
{
    rig.driver.driver_event->position = cpu_to_le16((uint16_t)VIRTQ_BASE_PACKED(position, wrap));
    rig.driver.driver_event->flags = cpu_to_le16(flags);
}

static void assert_device_says(uint16_t flags, uint32_t position, bool wrap)
{
    assert_int_equal(le16_to_cpu(rig.driver.device_event->flags), flags);
    if (flags == DESC)
        assert_int_equal(le16_to_cpu(rig.driver.device_event->position), VIRTQ_BASE_PACKED(position, wrap));
}

/* Notifications of the driver. */

static void without_the_event_index_the_flags_decide(void **state)
{
    (void)state;
    given(8, false);
    assert_true(serve(1, 1));
    driver_says(DISABLE, 0, false);
    assert_false(serve(1, 1));
    driver_says(ENABLE, 5, true);
    assert_true(serve(1, 1));
    /* DESC was not negotiated, and 3 is reserved: rather one notification too many than one too few. */
    driver_says(DESC, 1, true);
    assert_true(serve(1, 1));
    driver_says(3, 1, true);
    assert_true(serve(1, 1));
    /* The other bits are reserved. */
    driver_says(DISABLE | 0xfffc, 0, false);
    assert_false(serve(1, 1));
}

static void with_the_event_index_the_flags_still_turn_notifications_on_and_off(void **state)
{
    (void)state;
    given(8, true);
    driver_says(DISABLE, 0, false);
    assert_false(serve(1, 1)); /* the first of a life, too */
    driver_says(ENABLE, 0, false);
    assert_true(serve(1, 1));
    driver_says(3, 0, false);
    assert_true(serve(1, 1));
}

/* Place @count from the beginning of the first lap. */
static bool is_place(uint32_t size, uint32_t count, uint32_t position, bool wrap)
{
    return count % size == position && (count / size % 2 == 0) == wrap;
}

enum { SMALL = 4 };

/* A batch from place @at of two laps on, of @count requests of @length places: is it notified just when it should be?
 */
static void check_event(uint32_t at, unsigned count, unsigned length, uint32_t position, bool wrap)
{
    rig_build(&(struct rig_options){
        .packed = true, .size = SMALL, .event_idx = true, .base = (uint16_t)(at % SMALL), .odd_lap = at >= SMALL});
    assert_true(serve(1, 1)); /* the first of a life */
    driver_says(DESC, position, wrap);
    bool wanted = false;
    for (unsigned i = 0; i < count * length; i++)
        wanted = wanted || is_place(SMALL, at + 1 + i, position, wrap);
    assert_int_equal(serve(count, length), wanted);
}

/* Each place where a batch may begin, each length, each event: is it one of the batch's places? */
static void the_driver_is_notified_when_a_batch_goes_over_its_event(void **state)
{
    (void)state;
    for (uint32_t at = 0; at < 2 * SMALL; at++) {
        for (unsigned event = 0; event < 2 * SMALL; event++) {
            for (unsigned length = 1; length <= SMALL; length++) {
                check_event(at, length, 1, event % SMALL, event < SMALL);
                check_event(at, 1, length, event % SMALL, event < SMALL);
            }
        }
    }
}

static void an_event_at_a_place_that_the_ring_has_not_hurts_nobody(void **state)
{
    (void)state;
    given(5, true);
    assert_true(serve(1, 1));
    static const uint16_t positions[] = {5, 6, 9, 10, 0x7fff};
    for (unsigned i = 0; i < ARRAY_SIZE(positions); i++) {
        for (unsigned wrap = 0; wrap < 2; wrap++) {
            driver_says(DESC, positions[i], wrap == 1);
            for (unsigned j = 0; j < 3; j++)
                (void)serve(2, 1);
        }
    }
    assert_false(rig.queue.broken);
}

static void a_batch_notifies_once(void **state)
{
    (void)state;
    given(8, true);
    assert_true(serve(1, 1));
    driver_says(DESC, 2, true);
    assert_true(serve(3, 1)); /* 1, 2, 3 */
    assert_false(virtqueue_publish(&rig.queue));
    assert_false(serve(1, 1));
    driver_says(ENABLE, 0, false);
    assert_false(virtqueue_publish(&rig.queue)); /* nothing new */
}

static void a_new_life_notifies_at_once(void **state)
{
    (void)state;
    given(8, true);
    driver_says(DESC, 7, false);
    assert_true(serve(1, 1));
    assert_false(serve(1, 1));
    assert_true(virtqueue_stop(&rig.queue));
    rig.config.base = virtqueue_base(&rig.queue);
    assert_int_equal(rig_start(), 0);
    assert_true(serve(1, 1));
    assert_false(serve(1, 1));
}

/* A driver that asks as drivers do gets one for each request, and none that it did not ask for. */
static void a_driver_that_asks_for_the_next_one_is_notified_of_each(void **state)
{
    (void)state;
    for (uint32_t size = 1; size < 8; size++) {
        given(size, true);
        for (unsigned i = 0; i < 60; i++) {
            assert_false(fake_driver_interrupts_on(&rig.driver));
            assert_true(serve(1, 1));
            fake_driver_interrupts_off(&rig.driver);
            assert_false(serve(1, 1));
        }
    }
}

/* Kicks of the driver. */

static void a_life_begins_with_kicks_on(void **state)
{
    (void)state;
    for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
        rig_build(&(struct rig_options){.packed = true, .size = 8, .event_idx = event_idx == 1, .stopped = true});
        rig.driver.device_event->flags = cpu_to_le16(DISABLE);
        assert_int_equal(rig_start(), 0);
        assert_device_says(ENABLE, 0, false);
        assert_true(offer(1));
        virtqueue_kicks_off(&rig.queue);
        assert_device_says(DISABLE, 0, false);
        (void)rig_push(rig_pop());
        assert_true(virtqueue_stop(&rig.queue));
        rig.config.base = virtqueue_base(&rig.queue);
        assert_int_equal(rig_start(), 0);
        assert_device_says(ENABLE, 0, false);
        assert_false(virtqueue_kicks_on(&rig.queue));
        assert_true(offer(1));
    }
}

static void kicks_are_asked_for_by_the_flags(void **state)
{
    (void)state;
    given(8, false);
    assert_true(offer(1));
    virtqueue_kicks_off(&rig.queue);
    assert_device_says(DISABLE, 0, false);
    assert_false(offer(1));
    /* One that was not kicked for has come meanwhile. */
    assert_true(virtqueue_kicks_on(&rig.queue));
    assert_device_says(ENABLE, 0, false);
    assert_true(offer(2));
    struct virtq_chain *chains[3];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 3), 3);
    virtqueue_kicks_off(&rig.queue);
    assert_false(virtqueue_kicks_on(&rig.queue));
}

static void kicks_are_asked_for_by_the_place_of_the_next_descriptor(void **state)
{
    (void)state;
    /* Of 7 places, 2 a request: every place and both wrap counters come up. */
    given(7, true);
    uint32_t place = 0;
    for (unsigned i = 0; i < 30; i++) {
        assert_false(virtqueue_kicks_on(&rig.queue));
        assert_device_says(DESC, place % 7, place / 7 % 2 == 0);
        assert_true(offer(2));
        assert_false(offer(1)); /* asked for once */
        virtqueue_kicks_off(&rig.queue);
        assert_device_says(DISABLE, 0, false);
        assert_false(offer(1));
        struct virtq_chain *chains[3];
        assert_int_equal(virtqueue_pop(&rig.queue, chains, 3), 3);
        virtqueue_push(&rig.queue, chains, 3);
        (void)virtqueue_publish(&rig.queue);
        rig_take_used(3);
        place += 4;
    }
}

static void what_comes_before_the_wish_is_seen_is_told(void **state)
{
    (void)state;
    for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
        given(5, event_idx == 1);
        for (unsigned i = 0; i < 23; i++) {
            virtqueue_kicks_off(&rig.queue);
            assert_false(offer(1));
            assert_true(virtqueue_fresh(&rig.queue));
            assert_true(virtqueue_kicks_on(&rig.queue));
            (void)rig_push(rig_pop());
            assert_false(virtqueue_fresh(&rig.queue));
            rig_take_used(1);
            assert_false(virtqueue_kicks_on(&rig.queue));
            assert_true(offer(1));
            (void)rig_push(rig_pop());
            rig_take_used(1);
        }
    }
}

static void what_was_seen_and_put_back_does_not_keep_the_device_awake(void **state)
{
    (void)state;
    for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
        for (uint16_t at = 0; at < 8; at++) {
            rig_build(&(struct rig_options){.packed = true, .size = 8, .event_idx = event_idx == 1, .base = at});
            (void)offer(1);
            (void)offer(2);
            virtqueue_kicks_off(&rig.queue);
            struct virtq_chain *chains[2];
            assert_int_equal(virtqueue_pop(&rig.queue, chains, 2), 2);
            virtqueue_unpop(&rig.queue, chains, 2);
            assert_false(virtqueue_fresh(&rig.queue));
            assert_true(virtqueue_pending(&rig.queue));
            assert_false(virtqueue_kicks_on(&rig.queue));
            /* A later one is kicked for all the same. */
            assert_true(offer(3));
            assert_true(virtqueue_fresh(&rig.queue));
            /* The first alone again: what lies behind it was seen. */
            virtqueue_kicks_off(&rig.queue);
            assert_int_equal(virtqueue_pop(&rig.queue, chains, 1), 1);
            assert_true(virtqueue_kicks_on(&rig.queue));
            assert_int_equal(virtqueue_pop(&rig.queue, chains + 1, 1), 1);
            (void)rig_pop();
            assert_false(virtqueue_fresh(&rig.queue));
            assert_false(virtqueue_pending(&rig.queue));
            assert_false(virtqueue_kicks_on(&rig.queue));
            assert_true(offer(1));
        }
    }
}

/* A device that does not even look is told once, not for ever; and of a later one again. */
static void what_is_not_looked_at_is_told_once(void **state)
{
    (void)state;
    for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
        for (uint16_t at = 0; at < 5; at++) {
            rig_build(&(struct rig_options){.packed = true, .size = 5, .event_idx = event_idx == 1, .base = at});
            virtqueue_kicks_off(&rig.queue);
            (void)offer(1);
            (void)offer(2);
            assert_true(virtqueue_kicks_on(&rig.queue));
            virtqueue_kicks_off(&rig.queue);
            assert_false(virtqueue_kicks_on(&rig.queue));
            assert_true(offer(1));
            virtqueue_kicks_off(&rig.queue);
            assert_true(virtqueue_kicks_on(&rig.queue));
            virtqueue_kicks_off(&rig.queue);
            assert_false(virtqueue_kicks_on(&rig.queue));
            assert_true(offer(1));
            struct virtq_chain *chains[5];
            assert_int_equal(virtqueue_pop(&rig.queue, chains, 5), 4);
            virtqueue_push(&rig.queue, chains, 4);
            (void)virtqueue_publish(&rig.queue);
            rig_take_used(4);
            assert_false(virtqueue_kicks_on(&rig.queue));
            assert_true(offer(1));
        }
    }
}

/* The ring's log (VHOST_VRING_F_LOG). 256 descriptors are a page; the areas lie in the fifth. */

static bool page_marked(unsigned page)
{
    return rig_marked(RIG_RING + page * UINT64_C(4096));
}

static void given_logged(uint16_t base, bool event_idx)
{
    rig_build(&(struct rig_options){
        .packed = true, .size = 1024, .log = true, .base = base, .event_idx = event_idx, .slots = 8});
}

static void each_used_descriptor_is_marked_at_its_own_place_once_it_is_stored(void **state)
{
    (void)state;
    given_logged(1022, false);
    const struct fake_piece readable[512] = {{.address = RIG_DATA, .length = 1}};
    static const unsigned counts[] = {2, 254, 2, 255};
    struct virtq_chain *chains[4];
    for (unsigned i = 0; i < ARRAY_SIZE(counts); i++)
        rig_offer(readable, counts[i]);
    /* A long one waits for the run of the other: places 1022, 0, 254, 256. */
    for (unsigned i = 0; i < ARRAY_SIZE(counts); i++)
        chains[i] = rig_pop();
    rig_clear_log();
    virtqueue_push(&rig.queue, chains, 4);
    /* The first is not in the ring yet: a log that is read and cleared now must not have it, nor lose it. */
    assert_false(page_marked(3));
    assert_true(page_marked(0));
    assert_true(page_marked(1));
    assert_false(page_marked(2));
    rig_clear_log();
    (void)virtqueue_publish(&rig.queue);
    assert_true(page_marked(3));
    assert_false(page_marked(0));
    assert_false(page_marked(1));
}

static void the_device_area_is_marked_at_the_address_given(void **state)
{
    (void)state;
    for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
        rig_build(&(struct rig_options){
            .packed = true, .size = 16, .log = true, .event_idx = event_idx == 1, .stopped = true});
        /* Four bytes that end a page. */
        rig.config.used_log_address = 0x30ffc;
        assert_int_equal(rig_start(), 0);
        assert_true(rig_marked(0x30000));
        assert_false(rig_marked(0x31000));
        rig_clear_log();
        virtqueue_kicks_off(&rig.queue);
        assert_true(rig_marked(0x30000));
        rig_clear_log();
        virtqueue_kicks_off(&rig.queue); /* off already: nothing is written */
        assert_false(rig_marked(0x30000));
        (void)virtqueue_kicks_on(&rig.queue);
        assert_true(rig_marked(0x30000));
        assert_false(rig_marked(0x31000));
        rig_clear_log();
        (void)virtqueue_kicks_on(&rig.queue); /* on already */
        assert_false(rig_marked(0x30000));
        assert_false(page_marked(0));
    }
}

static void the_ring_is_logged_only_where_asked(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.packed = true, .size = 16, .log = true, .stopped = true});
    rig.config.used_log = false;
    assert_int_equal(rig_start(), 0);
    (void)serve(2, 1);
    assert_false(page_marked(0));
    /* From a migration's begin on. */
    rig.config.used_log = true;
    assert_int_equal(virtqueue_exchange(&rig.queue, &rig.config, &rig.memory, &rig.log), 0);
    (void)serve(1, 1);
    assert_true(page_marked(0));
    assert_int_equal(virtqueue_exchange(&rig.queue, &rig.config, &rig.memory, NULL), 0);
    rig_clear_log();
    (void)serve(2, 1);
    virtqueue_kicks_off(&rig.queue);
    assert_false(page_marked(0));
}

static void a_log_address_that_wraps_marks_nothing(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.packed = true, .size = 16, .log = true, .stopped = true});
    rig.config.used_log_address = UINT64_MAX - 3;
    assert_int_equal(rig_start(), 0);
    virtqueue_kicks_off(&rig.queue);
    for (unsigned i = 0; i < RIG_LOG_BYTES; i++)
        assert_int_equal(rig.log_bits[i], 0);
}

/* A ring that moves. */

static void a_ring_that_has_moved_is_asked_for_kicks_anew(void **state)
{
    (void)state;
    given(8, true);
    (void)offer(1);
    struct virtq_chain *chain = rig_pop();
    assert_false(virtqueue_kicks_on(&rig.queue));
    uint32_t ring_as_copied;
    memcpy(&ring_as_copied, rig.driver.device_event, sizeof(ring_as_copied));
    rig_move_ring(RIG_DATA + 0x10000);
    /* It had been copied before the device asked for kicks in the old place. */
    memset(rig.driver.device_event, 0, sizeof(*rig.driver.device_event));
    rig.driver.device_event->flags = cpu_to_le16(DISABLE);
    assert_int_equal(virtqueue_exchange(&rig.queue, &rig.config, &rig.memory, NULL), 0);
    assert_false(virtqueue_kicks_on(&rig.queue));
    assert_memory_equal(&ring_as_copied, rig.driver.device_event, sizeof(ring_as_copied));
    assert_true(offer(1));
    (void)rig_push(chain);
    rig_take_used(1);
}

static void a_ring_that_has_moved_goes_on_in_its_lap(void **state)
{
    (void)state;
    given(5, false);
    for (unsigned i = 0; i < 13; i++) {
        (void)offer(2);
        (void)offer(1);
        struct virtq_chain *chains[2];
        assert_int_equal(virtqueue_pop(&rig.queue, chains, 2), 2);
        (void)rig_push(chains[1]);
        rig_move_ring(i % 2 == 0 ? RIG_DATA + 0x10000 : RIG_RING);
        assert_int_equal(virtqueue_exchange(&rig.queue, &rig.config, &rig.memory, NULL), 0);
        (void)rig_push(chains[0]);
        rig_take_used(2);
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
        TEST(without_the_event_index_the_flags_decide),
        TEST(with_the_event_index_the_flags_still_turn_notifications_on_and_off),
        TEST(the_driver_is_notified_when_a_batch_goes_over_its_event),
        TEST(an_event_at_a_place_that_the_ring_has_not_hurts_nobody),
        TEST(a_batch_notifies_once),
        TEST(a_new_life_notifies_at_once),
        TEST(a_driver_that_asks_for_the_next_one_is_notified_of_each),
        TEST(a_life_begins_with_kicks_on),
        TEST(kicks_are_asked_for_by_the_flags),
        TEST(kicks_are_asked_for_by_the_place_of_the_next_descriptor),
        TEST(what_comes_before_the_wish_is_seen_is_told),
        TEST(what_was_seen_and_put_back_does_not_keep_the_device_awake),
        TEST(what_is_not_looked_at_is_told_once),
        TEST(each_used_descriptor_is_marked_at_its_own_place_once_it_is_stored),
        TEST(the_device_area_is_marked_at_the_address_given),
        TEST(the_ring_is_logged_only_where_asked),
        TEST(a_log_address_that_wraps_marks_nothing),
        TEST(a_ring_that_has_moved_is_asked_for_kicks_anew),
        TEST(a_ring_that_has_moved_goes_on_in_its_lap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
