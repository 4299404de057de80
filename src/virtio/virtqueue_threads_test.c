/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A driver and a device on two threads, each asleep unless the other wakes it by a flag (2.7.7, 2.7.10, 2.8.10): no
 * wake-up is lost, and what one wrote before showing an index the other reads after seeing it. Built with TSan it also
 * proves that nothing but the rings' own indices, flags and events is raced for.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

#include "virtio/virtio_device.h"
#include "virtio/virtq_test_rig.h"

#define REQUESTS 100000u
/* A lost wake-up shows as a sleep without end: this is the end. Far longer than a slow machine needs. */
#define PATIENCE_S 20

static struct {
    struct virtio_device device;
    _Atomic bool kick, call, quit;
    _Atomic bool lost;
    _Atomic unsigned device_sleeps;
    unsigned driver_sleeps;
    uint32_t batch; /* requests in flight at most */
    uint32_t requests;
    bool looks_on; /* the device looks for a while before it sleeps, with kicks off */
} both;

static bool late(const struct timespec *begin)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec - begin->tv_sec > PATIENCE_S;
}

/* Sleep until *@flag. False: it never came. */
static bool sleep_until(_Atomic bool *flag)
{
    struct timespec begin;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    unsigned tries = 0;
    while (!atomic_load(flag) || !atomic_exchange(flag, false)) {
        /* Awake for a moment, so that the two meet at the turning point more often. */
        if (++tries % 256 != 0)
            continue;
        if (atomic_load(&both.lost))
            return false;
        if (late(&begin)) {
            atomic_store(&both.lost, true);
            return false;
        }
        sched_yield();
    }
    return true;
}

/* Answer each request of four bytes with their complement. */
static int echo_run(struct virtio_device *device, struct virtqueue *queue, unsigned burst)
{
    (void)device;
    while (burst > 0) {
        struct virtq_chain *chains[8];
        int count = virtqueue_pop(queue, chains, u32_min(burst, 8));
        if (count <= 0)
            return count;
        for (int i = 0; i < count; i++) {
            uint32_t value = 0;
            (void)virtq_chain_read(chains[i], &value, sizeof(value));
            value = ~value;
            (void)virtq_chain_write(chains[i], &value, sizeof(value));
        }
        virtqueue_push(queue, chains, (unsigned)count);
        burst -= (unsigned)count;
    }
    return 1;
}

static const struct virtio_device_class echo_class = {
    .name = "echo", .queues_max = 1, .run = echo_run, .wake = echo_run};

/*
 * Look for a while, longer or shorter each time so that its end meets every step of the driver, and then turn kicks on.
 * Something to do: AGAIN.
 */
static unsigned look_on(unsigned *turn)
{
    unsigned looks = ++*turn * 2654435761u >> 22;
    while (looks-- > 0)
        if (virtqueue_fresh(&rig.queue))
            return VIRTIO_EVENT_AGAIN;
    rig.queue.attended = false;
    return virtio_device_rest(&both.device, 0);
}

static void *device_thread(void *argument)
{
    unsigned turn = 0;
    (void)argument;
    for (;;) {
        rig.queue.attended = both.looks_on;
        unsigned events = virtio_device_run(&both.device, 0, 16);
        if (both.looks_on && (events & VIRTIO_EVENT_AGAIN) == 0)
            events |= look_on(&turn);
        if ((events & VIRTIO_EVENT_NOTIFY) != 0)
            atomic_store(&both.call, true);
        if ((events & VIRTIO_EVENT_AGAIN) != 0)
            continue;
        if (atomic_load(&both.quit))
            return NULL;
        atomic_fetch_add(&both.device_sleeps, 1);
        if (!sleep_until(&both.kick))
            return NULL;
    }
}

static uint64_t slot_address(uint32_t request)
{
    return RIG_DATA + request % both.batch * 8;
}

static void offer(uint32_t request)
{
    const struct fake_piece pieces[2] = {
        {.address = slot_address(request), .length = 4},
        {.address = slot_address(request) + 4, .length = 4, .writable = true},
    };
    memcpy(rig_byte(pieces[0].address), &request, 4);
    assert_true(fake_driver_add(&rig.driver, pieces, 2) >= 0);
}

/* Keep up to a batch in flight; sleep when nothing is back. Answers are checked in ring order, which the device keeps.
 */
static bool drive(void)
{
    uint32_t offered = 0, done = 0;
    while (done < both.requests) {
        while (offered < both.requests && offered - done < both.batch && rig.driver.free_count >= 2)
            offer(offered++);
        if (fake_driver_show(&rig.driver))
            atomic_store(&both.kick, true);

        fake_driver_interrupts_off(&rig.driver);
        uint32_t before = done;
        uint32_t head, length, answer;
        do {
            while (fake_driver_get(&rig.driver, &head, &length)) {
                memcpy(&answer, rig_byte(slot_address(done) + 4), 4);
                if (answer != ~done || length != 4)
                    return false;
                done++;
            }
        } while (done == before && fake_driver_interrupts_on(&rig.driver));
        if (done == before) {
            both.driver_sleeps++;
            if (!sleep_until(&both.call))
                return false;
        }
    }
    return true;
}

static void play_with(const struct rig_options *options, uint32_t batch, bool looks_on)
{
    rig_build(options);
    memset(&both, 0, sizeof(both));
    both.batch = batch;
    both.looks_on = looks_on;
    both.requests = looks_on ? REQUESTS / 4 : REQUESTS;
    virtio_device_init(&both.device, &echo_class, &rig.queue, 1);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, device_thread, NULL), 0);
    bool sound = drive();
    atomic_store(&both.quit, true);
    atomic_store(&both.kick, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_false(atomic_load(&both.lost));
    assert_true(sound);
    assert_false(rig.queue.broken);
    assert_true(virtqueue_stop(&rig.queue));
    if (!options->packed)
        assert_int_equal(virtqueue_base(&rig.queue), (uint16_t)both.requests);
    assert_int_equal(rig.queue.popped_total, both.requests);
}

static void play(const struct rig_options *options, uint32_t batch)
{
    play_with(options, batch, false);
}

static void no_wake_up_is_lost_with_the_event_index(void **state)
{
    (void)state;
    play(&(struct rig_options){.size = 64, .event_idx = true}, 16);
}

static void no_wake_up_is_lost_with_flags(void **state)
{
    (void)state;
    play(&(struct rig_options){.size = 64}, 16);
}

static void no_wake_up_is_lost_one_request_at_a_time(void **state)
{
    (void)state;
    play(&(struct rig_options){.size = 64, .event_idx = true}, 1);
}

static void no_wake_up_is_lost_in_a_packed_ring_with_the_event_index(void **state)
{
    (void)state;
    /* No power of two, and no multiple of a request's two places: they wrap at every point. */
    play(&(struct rig_options){.size = 63, .packed = true, .event_idx = true}, 16);
}

static void no_wake_up_is_lost_in_a_packed_ring_with_flags(void **state)
{
    (void)state;
    play(&(struct rig_options){.size = 63, .packed = true}, 16);
}

static void no_wake_up_is_lost_in_a_packed_ring_one_request_at_a_time(void **state)
{
    (void)state;
    play(&(struct rig_options){.size = 5, .packed = true, .event_idx = true}, 1);
}

static void no_wake_up_is_lost_where_looking_on_ends(void **state)
{
    (void)state;
    play_with(&(struct rig_options){.size = 64, .event_idx = true}, 16, true);
    rig_done();
    play_with(&(struct rig_options){.size = 64}, 16, true);
    rig_done();
    play_with(&(struct rig_options){.size = 64, .event_idx = true}, 1, true);
}

static void no_wake_up_is_lost_where_looking_on_at_a_packed_ring_ends(void **state)
{
    (void)state;
    play_with(&(struct rig_options){.size = 63, .packed = true, .event_idx = true}, 16, true);
    rig_done();
    play_with(&(struct rig_options){.size = 63, .packed = true}, 16, true);
    rig_done();
    play_with(&(struct rig_options){.size = 5, .packed = true, .event_idx = true}, 1, true);
}

static int teardown(void **state)
{
    (void)state;
    rig_done();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(no_wake_up_is_lost_with_the_event_index, teardown),
        cmocka_unit_test_teardown(no_wake_up_is_lost_with_flags, teardown),
        cmocka_unit_test_teardown(no_wake_up_is_lost_one_request_at_a_time, teardown),
        cmocka_unit_test_teardown(no_wake_up_is_lost_in_a_packed_ring_with_the_event_index, teardown),
        cmocka_unit_test_teardown(no_wake_up_is_lost_in_a_packed_ring_with_flags, teardown),
        cmocka_unit_test_teardown(no_wake_up_is_lost_in_a_packed_ring_one_request_at_a_time, teardown),
        cmocka_unit_test_teardown(no_wake_up_is_lost_where_looking_on_ends, teardown),
        cmocka_unit_test_teardown(no_wake_up_is_lost_where_looking_on_at_a_packed_ring_ends, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
