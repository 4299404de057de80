/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A queue that looks on instead of sleeping: what it must not lose, and for whom it must have time. */
#include "platform/linux/server_test_rig.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <unistd.h>

/* Requests that meet a queue at the end of its looks. */
#define TURNS 600

static const enum server_polling modes[] = {SERVER_POLLING_ADAPTIVE, SERVER_POLLING_OFF, SERVER_POLLING_ALWAYS};

static struct fixture *given_a_server_that_polls(enum server_polling polling)
{
    return run_fixture(make_fixture_that_polls(polling, 0));
}

static struct fixture *given_a_queue_that_polls(enum server_polling polling)
{
    struct fixture *fixture = given_a_server_that_polls(polling);
    connect_client(fixture);
    start_queue(fixture);
    return fixture;
}

struct asked {
    struct fixture *fixture;
    unsigned index;
    struct server_queue_statistics statistics;
};

static void ask(void *argument)
{
    struct asked *asked = argument;
    vhost_user_server_look(&asked->fixture->server, asked->index, &asked->statistics);
}

/* As the control socket asks: on the control thread, which waits for the queue's. */
static struct server_queue_statistics statistics(struct fixture *fixture, unsigned index)
{
    struct asked asked = {.fixture = fixture, .index = index};
    loop_call(&fixture->loop, ask, &asked);
    return asked.statistics;
}

static void offer(struct fixture *fixture, unsigned index)
{
    const struct fake_piece piece = {.address = BUFFER_ADDRESS, .length = 16, .writable = true};
    struct fake_driver *driver = fixture->client.queues[index].driver;
    assert_true(fake_driver_add(driver, &piece, 1) >= 0);
    if (fake_driver_show(driver))
        assert_int_equal(client_kick(&fixture->client, index), 0);
}

/* Without being told: the driver looks at its ring. */
static void await_used(struct fixture *fixture, unsigned index)
{
    uint32_t head, length;
    for (unsigned i = 0; i < TIMEOUT_MS; i++) {
        for (unsigned looks = 0; looks < 1000; looks++) {
            if (fake_driver_get(fixture->client.queues[index].driver, &head, &length)) {
                assert_int_equal(length, 16);
                return;
            }
            sched_yield();
        }
        poll(NULL, 0, 1);
    }
    fail_msg("a request was not served");
}

/*
 * A driver that thinks for a while, each time another one, and kicks only when it is asked to: wherever the queue is
 * between looking and sleeping, it is met there.
 */
static void no_kick_is_lost_in_any_mode(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
        struct fixture *fixture = given_a_queue_that_polls(modes[i]);
        uint32_t random = 1;
        for (unsigned asked = 0; asked < TURNS; asked++) {
            random = random * 1664525u + 1013904223u;
            for (unsigned think = random >> (18 + asked % 8); think > 0; think--)
                cpu_relax();
            if (asked % 2 == 0) {
                assert_int_equal(ask_for_entropy(fixture), 16);
            } else {
                offer(fixture, 0);
                await_used(fixture, 0);
            }
        }
        struct server_queue_statistics look = statistics(fixture, 0);
        assert_int_equal(look.popped_total, TURNS);
        assert_true(look.looks_paid_total <= look.looks_total);
        finish(fixture);
    }
}

static void what_never_looks_only_sleeps(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_queue_that_polls(SERVER_POLLING_OFF);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(ask_for_entropy(fixture), 16);
    struct server_queue_statistics look = statistics(fixture, 0);
    assert_true(look.sleeps_total > 0);
    assert_int_equal(look.looks_total, 0);
    assert_int_equal(look.looked_ns, 0);
    finish(fixture);
}

static void what_always_looks_needs_no_kick_and_asks_for_none(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_queue_that_polls(SERVER_POLLING_ALWAYS);
    const struct fake_piece piece = {.address = BUFFER_ADDRESS, .length = 16, .writable = true};
    struct fake_driver *driver = fixture->client.queues[0].driver;
    for (unsigned i = 0; i < 100; i++) {
        assert_true(fake_driver_add(driver, &piece, 1) >= 0);
        bool wanted = fake_driver_show(driver); /* and not kicked */
        if (i > 0)
            assert_false(wanted);
        await_used(fixture, 0);
    }
    struct server_queue_statistics look = statistics(fixture, 0);
    assert_int_equal(look.sleeps_total, 0);
    assert_true(look.looks_paid_total > 0);
    assert_true(look.looked_ns > 0);
    finish(fixture);
}

static void what_always_looks_answers_the_control_thread_and_stops_when_told(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_queue_that_polls(SERVER_POLLING_ALWAYS);
    for (unsigned round = 0; round < 3; round++) {
        uint32_t base;
        offer(fixture, 0);
        await_used(fixture, 0);
        for (unsigned i = 0; i < 100; i++)
            assert_true(statistics(fixture, 0).running);
        assert_int_equal(client_stop_queue(&fixture->client, 0, &base), 0);
        assert_int_equal(base, 1);
        assert_false(statistics(fixture, 0).running);
        expect_an_idle_loop(fixture);
        client_disconnect(&fixture->client);
        connect_client(fixture);
        start_queue(fixture);
    }
    finish(fixture);
}

static void nobody_is_looked_for_when_the_front_end_is_gone(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
        struct fixture *fixture = given_a_queue_that_polls(modes[i]);
        for (unsigned round = 0; round < 3; round++) {
            assert_int_equal(ask_for_entropy(fixture), 16);
            client_disconnect(&fixture->client);
            connect_client(fixture); /* taken when the last one has been seen off */
            negotiate(fixture);
            expect_an_idle_loop(fixture);
            client_disconnect(&fixture->client);
            connect_client(fixture);
            start_queue(fixture);
        }
        finish(fixture);
    }
}

static void a_rate_limit_is_kept_in_every_mode(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
        struct fixture *fixture = make_fixture_that_polls(modes[i], 1600);
        atomic_store(&fixture->real, true);
        run_fixture(fixture);
        connect_client(fixture);
        start_queue(fixture);
        uint64_t began_ns = loop_now_ns();
        /* The first ten at once; then each has to wait, and nobody kicks again for it. */
        for (unsigned asked = 0; asked < 30; asked++) {
            offer(fixture, 0);
            await_used(fixture, 0);
        }
        assert_true(loop_now_ns() - began_ns >= UINT64_C(19) * 10000000);
        finish(fixture);
    }
}

static void a_source_that_has_nothing_is_waited_for_in_every_mode(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
        struct fixture *fixture = given_a_queue_that_polls(modes[i]);
        int pipe_ends[2];
        assert_int_equal(pipe2(pipe_ends, O_CLOEXEC | O_NONBLOCK), 0);
        atomic_store(&fixture->handle, pipe_ends[0]);
        atomic_store(&fixture->dry, true);
        offer(fixture, 0);
        while (atomic_load(&fixture->asked) == 0)
            (void)waits(fixture);
        for (unsigned turns = 0; turns < 100; turns++)
            (void)waits(fixture);
        assert_in_range(atomic_load(&fixture->asked), 1, 2); /* not again and again; by the start of the ring too */
        assert_int_equal(write(pipe_ends[1], "x", 1), 1);
        atomic_store(&fixture->dry, false);
        await_used(fixture, 0);
        (void)statistics(fixture, 0); /* it has let go of the handle */
        close(pipe_ends[0]);
        close(pipe_ends[1]);
        finish(fixture);
    }
}

/* More than a queue serves at a time: what lies behind the first ones must not look like news for ever. */
static void a_source_that_has_nothing_is_not_asked_again_for_what_it_left_in_the_ring(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
        struct fixture *fixture = given_a_queue_that_polls(modes[i]);
        /* A driver and a queue that are both awake: an adaptive queue looks then. */
        for (unsigned turn = 0; turn < 50; turn++) {
            offer(fixture, 0);
            await_used(fixture, 0);
        }
        atomic_store(&fixture->dry, true);
        struct fake_driver *driver = fixture->client.queues[0].driver;
        const struct fake_piece piece = {.address = BUFFER_ADDRESS, .length = 16, .writable = true};
        /* In two steps: what the second one brings is behind more than the queue takes at a time. */
        for (unsigned step = 1; step <= 2; step++) {
            while (driver->free_count > RING_SIZE - step * RING_SIZE / 2)
                assert_true(fake_driver_add(driver, &piece, 1) >= 0);
            if (fake_driver_show(driver))
                assert_int_equal(client_kick(&fixture->client, 0), 0);
            while (atomic_load(&fixture->asked) == 0)
                (void)waits(fixture);
        }
        for (unsigned turns = 0; turns < 300; turns++)
            (void)waits(fixture);
        assert_in_range(atomic_load(&fixture->asked), 1, 8);
        finish(fixture);
    }
}

static void a_ring_without_a_kick_line_is_served_in_every_mode(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
        struct fixture *fixture = given_a_queue_that_polls(modes[i]);
        uint64_t index = VHOST_USER_VRING_NO_FD;
        assert_int_equal(client_call_ack(&fixture->client, VHOST_USER_SET_VRING_KICK, &index, sizeof(index), NULL, 0),
                         0);
        const struct fake_piece piece = {.address = BUFFER_ADDRESS, .length = 16, .writable = true};
        for (unsigned asked = 0; asked < 100; asked++) {
            struct fake_driver *driver = fixture->client.queues[0].driver;
            assert_true(fake_driver_add(driver, &piece, 1) >= 0);
            fake_driver_show(driver);
            await_used(fixture, 0);
        }
        finish(fixture);
    }
}

/* ---- two queues, the first of which never has enough ---- */

static atomic_ullong greedy_runs;

static int greedy_run(struct virtio_device *device, struct virtqueue *queue, unsigned burst)
{
    if (queue == &device->queues[0]) {
        atomic_fetch_add(&greedy_runs, 1);
        return 1;
    }
    struct virtq_chain *chains[VIRTQ_BURST_MAX];
    static const uint8_t answer[16];
    int count = virtqueue_pop(queue, chains, u32_min(burst, VIRTQ_BURST_MAX));
    for (int i = 0; i < count; i++)
        (void)virtq_chain_write(chains[i], answer, sizeof(answer));
    virtqueue_push(queue, chains, count > 0 ? (unsigned)count : 0);
    return count < 0 ? count : 0;
}

static const struct virtio_device_class greedy_class = {
    .name = "greedy", .id = VIRTIO_ID_ENTROPY, .queues_max = 2, .run = greedy_run, .wake = greedy_run};

static void a_queue_that_never_has_enough_leaves_time_for_others(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2 * ARRAY_SIZE(modes); i++) {
        struct virtio_device device;
        struct fixture *fixture = fixture_make_queues(1, 2);
        fixture->polling = modes[i / 2];
        virtio_device_init(&device, &greedy_class, fixture->queues.queues, 2);
        fixture_serve(fixture, &device, &(struct server_queue_port){.context = NULL}, i % 2 == 1);
        run_fixture(fixture);
        connect_client(fixture);
        start_queue(fixture);
        uint64_t ring_address = RING_ADDRESS + align_up(fake_driver_ring_bytes(RING_SIZE), 16);
        assert_int_equal(client_start_queue(&fixture->client, 1, ring_address, RING_SIZE), 0);
        assert_int_equal(client_kick(&fixture->client, 0), 0);
        while (atomic_load(&greedy_runs) < 1000)
            sched_yield();
        for (unsigned asked = 0; asked < 100; asked++) {
            offer(fixture, 1);
            await_used(fixture, 1);
            assert_true(statistics(fixture, 0).running);
        }
        atomic_store(&greedy_runs, 0);
        finish(fixture);
    }
}

/* ---- a port that has something whenever it is to rest, and a driver that kicks just then ---- */

static struct {
    struct fixture *fixture;
    struct virtq_chain *held[4];
    unsigned held_count, rests; /* on the queue's thread */
    atomic_uint offered;        /* 2: the driver is the queue's thread's; 3: it is the test's again */
} busy;

static int holding_run(struct virtio_device *device, struct virtqueue *queue, unsigned burst)
{
    (void)device;
    (void)burst;
    int count = virtqueue_pop(queue, &busy.held[busy.held_count], 2);
    busy.held_count += count > 0 ? (unsigned)count : 0;
    return count < 0 ? count : 0;
}

/* Gives back the oldest, and takes nothing new: that is for run. */
static int holding_wake(struct virtio_device *device, struct virtqueue *queue, unsigned burst)
{
    static const uint8_t answer[16];
    (void)device;
    (void)burst;
    if (busy.held_count == 0)
        return 0;
    (void)virtq_chain_write(busy.held[0], answer, sizeof(answer));
    virtqueue_push(queue, busy.held, 1);
    busy.held_count--;
    memmove(busy.held, busy.held + 1, busy.held_count * sizeof(busy.held[0]));
    return 0;
}

static bool holding_rest(void *context, unsigned index)
{
    (void)context;
    /* The kick came after that store: what is loaded is known, but not to whoever looks for races. */
    if (++busy.rests >= 2 && atomic_load(&busy.offered) == 2) {
        /* In a turn: the kick is there before the next one, which is queued already. */
        const struct fake_piece piece = {.address = BUFFER_ADDRESS, .length = 16, .writable = true};
        struct fake_driver *driver = busy.fixture->client.queues[index].driver;
        fake_driver_add(driver, &piece, 1);
        if (fake_driver_show(driver))
            client_kick(&busy.fixture->client, index);
        atomic_store(&busy.offered, 3);
    }
    return true;
}

static const struct virtio_device_class holding_class = {
    .name = "holding", .id = VIRTIO_ID_ENTROPY, .queues_max = 1, .run = holding_run, .wake = holding_wake};

static void a_kick_that_comes_while_a_wake_is_due_is_served_too(void **state)
{
    (void)state;
    const struct fake_piece piece = {.address = BUFFER_ADDRESS, .length = 16, .writable = true};
    struct virtio_device device;
    struct fixture *fixture = fixture_make(1);
    busy.fixture = fixture;
    fixture->polling = SERVER_POLLING_OFF;
    virtio_device_init(&device, &holding_class, fixture->queues.queues, 1);
    fixture_serve(fixture, &device, &(struct server_queue_port){.rest = holding_rest}, true);
    run_fixture(fixture);
    connect_client(fixture);
    start_queue(fixture);
    (void)statistics(fixture, 0); /* it has started, and has seen nothing */
    struct fake_driver *driver = fixture->client.queues[0].driver;
    assert_true(fake_driver_add(driver, &piece, 1) >= 0);
    assert_true(fake_driver_add(driver, &piece, 1) >= 0);
    assert_true(fake_driver_show(driver));
    atomic_store(&busy.offered, 2);
    assert_int_equal(client_kick(&fixture->client, 0), 0);
    while (atomic_load(&busy.offered) < 3)
        sched_yield();
    for (unsigned i = 0; i < 3; i++)
        await_used(fixture, 0);
    finish(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_kick_is_lost_in_any_mode),
        cmocka_unit_test(what_never_looks_only_sleeps),
        cmocka_unit_test(what_always_looks_needs_no_kick_and_asks_for_none),
        cmocka_unit_test(what_always_looks_answers_the_control_thread_and_stops_when_told),
        cmocka_unit_test(nobody_is_looked_for_when_the_front_end_is_gone),
        cmocka_unit_test(a_rate_limit_is_kept_in_every_mode),
        cmocka_unit_test(a_source_that_has_nothing_is_waited_for_in_every_mode),
        cmocka_unit_test(a_source_that_has_nothing_is_not_asked_again_for_what_it_left_in_the_ring),
        cmocka_unit_test(a_ring_without_a_kick_line_is_served_in_every_mode),
        cmocka_unit_test(a_queue_that_never_has_enough_leaves_time_for_others),
        cmocka_unit_test(a_kick_that_comes_while_a_wake_is_due_is_served_too),
    };
    return cmocka_run_group_tests_name("server_polling", tests, NULL, NULL);
}
