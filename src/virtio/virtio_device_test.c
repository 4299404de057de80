/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The contract, with a device that does what each test tells it to. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "virtio/virtio_device.h"
#include "virtio/virtq_test_rig.h"

#define TEST_FEATURE (UINT64_C(1) << 3)

enum { HELD_MAX = 16 };

/* What the device does when it is called. */
enum conduct {
    COMPLETE, /* push at once */
    HOLD,     /* keep: the port is at it */
    PUT_BACK, /* unpop: not now */
    IGNORE,   /* not even look */
};

static struct {
    struct virtio_device device;
    enum conduct conduct;
    unsigned runs, wakes, starts, stops, resets;
    int run_answer; /* instead of what the ring says, when not 0 */
    int wake_answer;
    unsigned complete_on_wake;
    bool kicks_seen_in_run;
    bool offer_at_end_of_run;
    bool complete_in_stop;
    bool pop_once; /* one pop a run, as large as may be */
    struct virtq_chain *held[HELD_MAX];
    unsigned held_count;
} model;

static const struct fake_piece byte_out = {.address = RIG_DATA, .length = 1, .writable = true};

static bool offer_one(void)
{
    assert_true(fake_driver_add(&rig.driver, &byte_out, 1) >= 0);
    return fake_driver_show(&rig.driver);
}

static void offer_lie(void)
{
    fake_driver_desc(&rig.driver, 15, 0, 1, 0, 0);
    fake_driver_offer(&rig.driver, 15);
    (void)fake_driver_show(&rig.driver);
}

static void take_used(unsigned count)
{
    uint32_t head, length;
    for (unsigned i = 0; i < count; i++)
        assert_true(fake_driver_get(&rig.driver, &head, &length));
    assert_false(fake_driver_get(&rig.driver, &head, &length));
}

static int serve(struct virtqueue *queue, unsigned burst)
{
    if (model.pop_once) {
        struct virtq_chain *chains[VIRTQ_BURST_MAX];
        int count = virtqueue_pop(queue, chains, u32_min(burst, VIRTQ_BURST_MAX));
        if (count > 0 && model.conduct == PUT_BACK)
            virtqueue_unpop(queue, chains, (unsigned)count);
        else if (count > 0)
            virtqueue_push(queue, chains, (unsigned)count);
        return count < 0 ? count : 0;
    }
    for (unsigned left = burst; left > 0; left--) {
        struct virtq_chain *chain;
        int count = model.conduct == IGNORE ? 0 : virtqueue_pop(queue, &chain, 1);
        if (count <= 0)
            return count;
        if (model.conduct == PUT_BACK) {
            virtqueue_unpop(queue, &chain, 1);
            return 0;
        }
        if (model.conduct == HOLD)
            model.held[model.held_count++] = chain;
        else
            virtqueue_push(queue, &chain, 1);
    }
    return 1;
}

static int model_run(struct virtio_device *device, struct virtqueue *queue, unsigned burst)
{
    assert_ptr_equal(device, &model.device);
    model.runs++;
    model.kicks_seen_in_run = queue->kicks_on;
    int r = serve(queue, burst);
    if (model.offer_at_end_of_run) {
        model.offer_at_end_of_run = false;
        (void)offer_one();
    }
    return model.run_answer != 0 ? model.run_answer : r;
}

static int model_wake(struct virtio_device *device, struct virtqueue *queue, unsigned burst)
{
    assert_ptr_equal(device, &model.device);
    model.wakes++;
    for (; model.complete_on_wake > 0 && model.held_count > 0; model.complete_on_wake--)
        virtqueue_push(queue, &model.held[--model.held_count], 1);
    if (model.wake_answer != 0)
        return model.wake_answer;
    return serve(queue, burst);
}

static void model_start(struct virtio_device *device, struct virtqueue *queue)
{
    (void)device;
    assert_int_equal(queue->state, VIRTQUEUE_RUNNING);
    model.starts++;
}

static void model_stop(struct virtio_device *device, struct virtqueue *queue)
{
    (void)device;
    assert_int_not_equal(queue->state, VIRTQUEUE_RUNNING);
    model.stops++;
    for (; model.complete_in_stop && model.held_count > 0; model.held_count--)
        virtqueue_push(queue, &model.held[model.held_count - 1], 1);
}

static uint64_t model_features(const struct virtio_device *device)
{
    (void)device;
    return TEST_FEATURE;
}

static void model_reset(struct virtio_device *device)
{
    (void)device;
    model.resets++;
}

static const struct virtio_device_class model_class = {
    .name = "test",
    .id = 42,
    .queues_max = 1,
    .features = model_features,
    .run = model_run,
    .wake = model_wake,
    .queue_start = model_start,
    .queue_stop = model_stop,
    .reset = model_reset,
};

static void given_stopped(void)
{
    rig_build(&(struct rig_options){.size = 16, .slots = 4, .event_idx = true, .stopped = true});
    memset(&model, 0, sizeof(model));
    virtio_device_init(&model.device, &model_class, &rig.queue, 1);
}

static void given(enum conduct conduct)
{
    given_stopped();
    model.conduct = conduct;
    assert_int_equal(virtio_device_queue_start(&model.device, 0, &rig.config, &rig.memory, NULL, NULL), 0);
    assert_int_equal(model.starts, 1);
    assert_int_equal(virtio_device_run(&model.device, 0, 8), 0);
}

static unsigned run(unsigned burst)
{
    return virtio_device_run(&model.device, 0, burst);
}

static unsigned wake(unsigned burst)
{
    return virtio_device_wake(&model.device, 0, burst);
}

static void a_kick_is_served_and_the_driver_notified_once(void **state)
{
    (void)state;
    given(COMPLETE);
    assert_true(offer_one());
    (void)offer_one();
    assert_int_equal(run(8), VIRTIO_EVENT_NOTIFY);
    take_used(2);
    assert_int_equal(run(8), 0);
}

static void kicks_are_off_while_serving_and_on_afterwards(void **state)
{
    (void)state;
    given(COMPLETE);
    (void)offer_one();
    (void)run(8);
    assert_false(model.kicks_seen_in_run);
    assert_true(rig.queue.kicks_on);
    assert_true(offer_one());
}

static void a_request_that_comes_just_before_sleep_is_not_lost(void **state)
{
    (void)state;
    given(COMPLETE);
    (void)offer_one();
    model.offer_at_end_of_run = true;
    assert_int_equal(run(8), VIRTIO_EVENT_NOTIFY | VIRTIO_EVENT_AGAIN);
    assert_int_equal(run(8) & VIRTIO_EVENT_AGAIN, 0);
    take_used(2);
}

static void an_attended_queue_asks_for_no_kick_until_it_rests(void **state)
{
    (void)state;
    given(COMPLETE);
    assert_int_equal(virtio_device_rest(&model.device, 0), 0);
    assert_true(rig.queue.kicks_on);
    assert_true(offer_one());
    rig.queue.attended = true;
    assert_int_equal(virtio_device_run(&model.device, 0, 64), VIRTIO_EVENT_NOTIFY);
    assert_false(rig.queue.kicks_on);
    assert_false(offer_one());
    assert_int_equal(virtio_device_run(&model.device, 0, 64) & ~(unsigned)VIRTIO_EVENT_NOTIFY, 0);
    rig.queue.attended = false;
    assert_int_equal(virtio_device_rest(&model.device, 0), 0);
    assert_true(offer_one());
}

static void what_comes_to_an_attended_queue_before_it_rests_is_not_lost(void **state)
{
    (void)state;
    given(COMPLETE);
    (void)offer_one();
    rig.queue.attended = true;
    virtio_device_run(&model.device, 0, 64);
    assert_false(virtqueue_fresh(&rig.queue));
    assert_false(offer_one()); /* so nobody will kick for it */
    assert_true(virtqueue_fresh(&rig.queue));
    rig.queue.attended = false;
    assert_int_equal(virtio_device_rest(&model.device, 0), VIRTIO_EVENT_AGAIN);
}

static void what_a_pop_left_behind_is_met_again_by_an_attended_queue(void **state)
{
    (void)state;
    given(COMPLETE);
    model.pop_once = true;
    (void)offer_one();
    offer_lie();
    rig.queue.attended = true;
    assert_int_equal(virtio_device_run(&model.device, 0, 64), VIRTIO_EVENT_NOTIFY | VIRTIO_EVENT_AGAIN);
    assert_int_equal(virtio_device_run(&model.device, 0, 64), VIRTIO_EVENT_NEEDS_RESET);
}

static void a_used_up_burst_asks_to_run_again(void **state)
{
    (void)state;
    given(COMPLETE);
    for (unsigned i = 0; i < 5; i++)
        (void)offer_one();
    assert_int_equal(run(3), VIRTIO_EVENT_NOTIFY | VIRTIO_EVENT_AGAIN);
    take_used(3);
    assert_int_equal(run(3) & VIRTIO_EVENT_AGAIN, 0);
    take_used(2);
}

static void a_device_that_puts_back_does_not_spin(void **state)
{
    (void)state;
    given(PUT_BACK);
    (void)offer_one();
    assert_int_equal(run(8), 0);
    assert_true(offer_one());
    assert_int_equal(run(8), 0);
    model.conduct = COMPLETE;
    (void)wake(8);
    take_used(2);
}

/* One that pops as many as it gets, and serves none of them now: a rate limit, a source that is dry. */
static void a_device_that_puts_a_burst_back_does_not_spin_for_what_ended_the_pop(void **state)
{
    (void)state;
    for (unsigned lie = 0; lie < 2; lie++) {
        given(PUT_BACK);
        model.pop_once = true;
        /* The pop ends for want of a fifth slot, or before a chain that is malformed. */
        for (unsigned i = 0; i < (lie == 1 ? 2 : 6); i++)
            (void)offer_one();
        if (lie == 1)
            offer_lie();
        assert_int_equal(run(16), 0);
        assert_int_equal(wake(16), 0);
        model.conduct = COMPLETE;
        assert_true((wake(16) & VIRTIO_EVENT_NOTIFY) != 0);
    }
}

static void a_device_that_does_not_look_spins_no_more_than_once_a_request(void **state)
{
    (void)state;
    given(IGNORE);
    (void)offer_one();
    assert_int_equal(run(8), 0);
    model.offer_at_end_of_run = true;
    unsigned events = run(8);
    for (unsigned i = 0; i < 2 && events != 0; i++)
        events = run(8);
    assert_int_equal(events, 0);
}

static void a_starved_queue_waits_for_a_wake(void **state)
{
    (void)state;
    given(HOLD);
    for (unsigned i = 0; i < 6; i++)
        (void)offer_one();
    assert_int_equal(run(16), 0);
    assert_int_equal(model.held_count, 4);
    assert_false(rig.queue.kicks_on);

    model.complete_on_wake = 2;
    assert_int_equal(wake(16), VIRTIO_EVENT_NOTIFY);
    assert_int_equal(model.held_count, 4);
    model.complete_on_wake = 4;
    (void)wake(16);
    take_used(6);
    assert_true(rig.queue.kicks_on);
    assert_true(offer_one());
}

static void a_queue_that_starved_on_what_is_back_already_runs_again(void **state)
{
    (void)state;
    given(COMPLETE);
    model.pop_once = true;
    for (unsigned i = 0; i < 6; i++)
        (void)offer_one();
    /* Four slots: the fifth is left, and there is nobody to wake us. */
    assert_int_equal(run(16), VIRTIO_EVENT_NOTIFY | VIRTIO_EVENT_AGAIN);
    assert_int_equal(run(16) & VIRTIO_EVENT_AGAIN, 0);
    take_used(6);
}

static void a_queue_whose_memory_is_out_of_reach_does_not_spin(void **state)
{
    (void)state;
    given(COMPLETE);
    rig.queue.starved = true;
    rig.queue.unreachable = true;
    model.conduct = IGNORE;
    (void)offer_one();
    assert_int_equal(run(16), 0);
}

static void a_wake_that_pops_asks_for_the_next_kick(void **state)
{
    (void)state;
    given(COMPLETE);
    (void)offer_one();
    (void)wake(8);
    take_used(1);
    assert_true(offer_one());
}

static void a_wake_with_more_to_do_goes_on_with_the_next_run(void **state)
{
    (void)state;
    given(HOLD);
    for (unsigned i = 0; i < 3; i++)
        (void)offer_one();
    (void)run(8);
    model.complete_on_wake = 1;
    model.wake_answer = 1;
    assert_int_equal(wake(8), VIRTIO_EVENT_NOTIFY | VIRTIO_EVENT_AGAIN);
    model.complete_on_wake = 1;
    assert_int_equal(run(8), VIRTIO_EVENT_AGAIN); /* the driver asked to hear of the first only */
    model.complete_on_wake = 1;
    model.wake_answer = 0;
    (void)run(8);
    assert_int_equal(model.wakes, 3);
    assert_int_equal(model.held_count, 0);
    take_used(3);
    (void)run(8);
    assert_int_equal(model.wakes, 3);
}

static void a_wake_with_more_to_do_goes_on_while_stopping(void **state)
{
    (void)state;
    given(HOLD);
    (void)offer_one();
    (void)offer_one();
    (void)run(8);
    assert_int_equal(virtio_device_queue_stop(&model.device, 0), 0);
    model.complete_on_wake = 1;
    model.wake_answer = 1;
    assert_int_equal(wake(8), VIRTIO_EVENT_NOTIFY | VIRTIO_EVENT_AGAIN);
    model.complete_on_wake = 1;
    model.wake_answer = 0;
    assert_int_equal(run(8) & ~(unsigned)VIRTIO_EVENT_NOTIFY, VIRTIO_EVENT_STOPPED);
    assert_int_equal(model.runs, 2);
}

static void a_time_to_wake_is_forgotten_at_each_run_and_wake(void **state)
{
    (void)state;
    given(COMPLETE);
    rig.queue.wake_at_ns = 5;
    (void)run(8);
    assert_int_equal(rig.queue.wake_at_ns, 0);
    rig.queue.wake_at_ns = 5;
    (void)wake(8);
    assert_int_equal(rig.queue.wake_at_ns, 0);
    rig.queue.wake_at_ns = 5;
    assert_int_equal(virtio_device_queue_stop(&model.device, 0), VIRTIO_EVENT_STOPPED);
    assert_int_equal(rig.queue.wake_at_ns, 0);
}

static void a_lie_is_told_once_and_costs_no_request_before_it(void **state)
{
    (void)state;
    given(COMPLETE);
    (void)offer_one();
    offer_lie();
    assert_int_equal(run(8), VIRTIO_EVENT_NOTIFY | VIRTIO_EVENT_NEEDS_RESET);
    take_used(1);
    assert_true(atomic_load(&model.device.needs_reset));
    assert_int_equal(run(8), 0);
    assert_int_equal(model.runs, 2);
    assert_int_equal(wake(8), 0);
}

static void a_lie_that_the_device_finds_breaks_the_queue_too(void **state)
{
    (void)state;
    given(COMPLETE);
    (void)offer_one();
    model.run_answer = -EPROTO;
    assert_int_equal(run(8), VIRTIO_EVENT_NOTIFY | VIRTIO_EVENT_NEEDS_RESET);
    assert_true(rig.queue.broken);
    assert_int_equal(rig.queue.broken_total, 1);
    take_used(1);
}

static void a_lie_that_a_wake_meets_is_told(void **state)
{
    (void)state;
    given(COMPLETE);
    offer_lie();
    assert_int_equal(wake(8), VIRTIO_EVENT_NEEDS_RESET);
    assert_int_equal(wake(8), 0);
}

static void a_broken_queue_still_completes_and_stops(void **state)
{
    (void)state;
    given(HOLD);
    (void)offer_one();
    (void)offer_one();
    offer_lie();
    assert_int_equal(run(8), VIRTIO_EVENT_NEEDS_RESET);
    model.complete_on_wake = 1;
    assert_int_equal(wake(8), VIRTIO_EVENT_NOTIFY);
    assert_int_equal(virtio_device_queue_stop(&model.device, 0), 0);
    model.complete_on_wake = 1;
    assert_int_equal(wake(8) & ~(unsigned)VIRTIO_EVENT_NOTIFY, VIRTIO_EVENT_STOPPED);
    take_used(2);
}

static void a_queue_that_cannot_start_is_not_announced(void **state)
{
    (void)state;
    given_stopped();
    rig.config.size = 3;
    assert_int_equal(virtio_device_queue_start(&model.device, 0, &rig.config, &rig.memory, NULL, NULL), -EINVAL);
    assert_int_equal(model.starts, 0);
    assert_int_equal(run(8), 0);
}

static void an_idle_queue_stops_at_once(void **state)
{
    (void)state;
    given(COMPLETE);
    assert_int_equal(virtio_device_queue_stop(&model.device, 0), VIRTIO_EVENT_STOPPED);
    assert_int_equal(model.stops, 1);
    assert_int_equal(virtio_device_queue_stop(&model.device, 0), VIRTIO_EVENT_STOPPED);
    assert_int_equal(model.stops, 1);
    assert_int_equal(run(8), 0);
    assert_int_equal(wake(8), 0);
    assert_int_equal(model.runs + model.wakes, 1);
}

static void stopping_waits_for_what_is_out_and_runs_nothing(void **state)
{
    (void)state;
    given(HOLD);
    (void)offer_one();
    (void)run(8);
    (void)offer_one();
    assert_int_equal(virtio_device_queue_stop(&model.device, 0), 0);
    assert_int_equal(virtio_device_queue_stop(&model.device, 0), 0);
    assert_int_equal(model.stops, 1);
    assert_int_equal(run(8), 0);
    assert_int_equal(model.runs, 2);
    assert_int_equal(wake(8), 0);
    model.complete_on_wake = 1;
    assert_int_equal(wake(8), VIRTIO_EVENT_NOTIFY | VIRTIO_EVENT_STOPPED);
    assert_int_equal(virtqueue_base(&rig.queue), 1);
}

static void what_completes_while_stop_is_called_stops_the_queue(void **state)
{
    (void)state;
    given(HOLD);
    (void)offer_one();
    (void)run(8);
    model.complete_in_stop = true;
    assert_int_equal(virtio_device_queue_stop(&model.device, 0), VIRTIO_EVENT_NOTIFY | VIRTIO_EVENT_STOPPED);
    take_used(1);
}

static void reset_forgets_the_lie_and_the_place_in_the_ring(void **state)
{
    (void)state;
    given(COMPLETE);
    assert_int_equal(virtio_device_queue_stop(&model.device, 0), VIRTIO_EVENT_STOPPED);
    assert_int_equal(virtio_device_set_features(&model.device, TEST_FEATURE), 0);
    rig.config.base = 0;
    assert_int_equal(virtio_device_queue_start(&model.device, 0, &rig.config, &rig.memory, NULL, NULL), 0);
    (void)offer_one();
    offer_lie();
    (void)run(8);
    assert_int_equal(virtio_device_queue_stop(&model.device, 0), VIRTIO_EVENT_STOPPED);
    assert_int_equal(virtqueue_base(&rig.queue), 1);

    virtio_device_reset(&model.device);
    assert_int_equal(model.resets, 1);
    assert_int_equal(model.device.features, 0);
    assert_false(atomic_load(&model.device.needs_reset));
    assert_false(rig.queue.broken);
    assert_int_equal(virtqueue_base(&rig.queue), 0);
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
        TEST(a_kick_is_served_and_the_driver_notified_once),
        TEST(kicks_are_off_while_serving_and_on_afterwards),
        TEST(an_attended_queue_asks_for_no_kick_until_it_rests),
        TEST(what_comes_to_an_attended_queue_before_it_rests_is_not_lost),
        TEST(what_a_pop_left_behind_is_met_again_by_an_attended_queue),
        TEST(a_request_that_comes_just_before_sleep_is_not_lost),
        TEST(a_used_up_burst_asks_to_run_again),
        TEST(a_device_that_puts_back_does_not_spin),
        TEST(a_device_that_puts_a_burst_back_does_not_spin_for_what_ended_the_pop),
        TEST(a_device_that_does_not_look_spins_no_more_than_once_a_request),
        TEST(a_starved_queue_waits_for_a_wake),
        TEST(a_queue_that_starved_on_what_is_back_already_runs_again),
        TEST(a_queue_whose_memory_is_out_of_reach_does_not_spin),
        TEST(a_wake_that_pops_asks_for_the_next_kick),
        TEST(a_wake_with_more_to_do_goes_on_with_the_next_run),
        TEST(a_wake_with_more_to_do_goes_on_while_stopping),
        TEST(a_time_to_wake_is_forgotten_at_each_run_and_wake),
        TEST(a_lie_is_told_once_and_costs_no_request_before_it),
        TEST(a_lie_that_the_device_finds_breaks_the_queue_too),
        TEST(a_lie_that_a_wake_meets_is_told),
        TEST(a_broken_queue_still_completes_and_stops),
        TEST(a_queue_that_cannot_start_is_not_announced),
        TEST(an_idle_queue_stops_at_once),
        TEST(stopping_waits_for_what_is_out_and_runs_nothing),
        TEST(what_completes_while_stop_is_called_stops_the_queue),
        TEST(reset_forgets_the_lie_and_the_place_in_the_ring),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
