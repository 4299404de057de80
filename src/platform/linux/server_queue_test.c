/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A queue's lines, turns, timer and port. */
#include "platform/linux/server_test_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

static void hangs_up_on_a_kick_line_that_notifies_nobody(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_server(true);
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    uint64_t index = 0;
    connect_client(fixture);
    negotiate(fixture);
    client_send(&fixture->client, VHOST_USER_SET_VRING_KICK, 0, &index, sizeof(index), &file, 1);
    close(file);
    expect_hang_up(fixture);
    expect_service(fixture);
    finish(fixture);
}

static void set_line(struct fixture *fixture, uint32_t request, uint64_t index, int handle)
{
    assert_int_equal(client_call_ack(&fixture->client, request, &index, sizeof(index), &handle, handle >= 0 ? 1 : 0),
                     0);
}

static void wait_until_used(struct fixture *fixture)
{
    uint32_t head, length;
    for (unsigned i = 0; i < TIMEOUT_MS && !fake_driver_get(fixture->client.queues[0].driver, &head, &length); i++)
        usleep(1000);
    assert_int_equal(length, 16);
}

static void offer_buffer(struct fixture *fixture)
{
    const struct fake_piece piece = {.address = BUFFER_ADDRESS, .length = 16, .writable = true};
    struct fake_driver *driver = fixture->client.queues[0].driver;
    assert_true(fake_driver_add(driver, &piece, 1) >= 0);
    fake_driver_show(driver);
}

static void looks_at_a_ring_that_has_no_kick_line(void **state)
{
    (void)state;
    for (unsigned threads = 0; threads < 2; threads++) {
        struct fixture *fixture = given_a_server(threads == 1);
        connect_client(fixture);
        start_queue(fixture);
        set_line(fixture, VHOST_USER_SET_VRING_KICK, VHOST_USER_VRING_NO_FD, -1);
        for (unsigned i = 0; i < 10; i++) {
            offer_buffer(fixture);
            wait_until_used(fixture);
        }
        finish(fixture);
    }
}

static void kick_a_dry_source(struct fixture *fixture, int handle)
{
    connect_client(fixture);
    start_queue(fixture);
    atomic_store(&fixture->handle, handle);
    atomic_store(&fixture->dry, true);
    offer_buffer(fixture);
    assert_int_equal(client_kick(&fixture->client, 0), 0);
    while (atomic_load(&fixture->asked) == 0)
        (void)waits(fixture);
}

static void a_dry_source_is_waited_for_and_not_asked_again_and_again(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_server(true);
    int handle = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    uint64_t one = 1;
    kick_a_dry_source(fixture, handle);
    expect_an_idle_loop(fixture);
    assert_in_range(atomic_load(&fixture->asked), 1, 2); /* by the start of the ring too, if the buffer was there */
    atomic_store(&fixture->dry, false);
    assert_int_equal(write(handle, &one, sizeof(one)), sizeof(one));
    wait_until_used(fixture);
    expect_an_idle_loop(fixture); /* though the handle stays readable */
    close(handle);
    finish(fixture);
}

static void a_dry_source_that_cannot_be_waited_for_is_asked_again(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_server(true);
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    kick_a_dry_source(fixture, file);
    atomic_store(&fixture->dry, false);
    wait_until_used(fixture);
    (void)waits(fixture); /* the queue's thread has done with it */
    close(file);
    finish(fixture);
}

struct timer_look {
    struct server_queue *queue;
    uint64_t at_ns;
};

static void look_at_the_timer(void *argument)
{
    struct timer_look *look = argument;
    look->at_ns = look->queue->timer.at_ns;
}

static void a_source_that_is_dry_no_more_is_not_asked_again(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_server(true);
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    struct timer_look look = {.queue = &fixture->server.server_queues[0]};
    kick_a_dry_source(fixture, file);
    server_queue_call(look.queue, look_at_the_timer, &look);
    assert_true(look.at_ns != 0);
    atomic_store(&fixture->dry, false);
    wait_until_used(fixture);
    server_queue_call(look.queue, look_at_the_timer, &look);
    assert_int_equal(look.at_ns, 0);
    close(file);
    finish(fixture);
}

static void a_rate_limit_is_kept_by_a_timer(void **state)
{
    (void)state;
    struct fixture *fixture = make_fixture_of_rate(true, 1600);
    atomic_store(&fixture->real, true);
    run_fixture(fixture);
    connect_client(fixture);
    start_queue(fixture);
    /* After a burst of 10, each has to wait for the timer: nobody kicks again for it. */
    for (unsigned asked = 0; asked < 30; asked++)
        assert_int_equal(ask_for_entropy(fixture), 16);
    finish(fixture);
}

static void leaves_no_kick_behind_for_the_front_end_to_find(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_server(true);
    uint64_t count;
    uint32_t base;
    connect_client(fixture);
    start_queue(fixture);
    assert_int_equal(ask_for_entropy(fixture), 16);
    int kick = fixture->client.queues[0].kick;
    assert_int_equal(client_kick(&fixture->client, 0), 0);
    assert_int_equal(client_stop_queue(&fixture->client, 0, &base), 0);
    assert_int_equal(fcntl(kick, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(read(kick, &count, sizeof(count)), -1);
    assert_int_equal(errno, EAGAIN);
    finish(fixture);
}

static void a_call_line_that_comes_late_hears_of_what_was_before(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_server(true);
    connect_client(fixture);
    start_queue(fixture);
    set_line(fixture, VHOST_USER_SET_VRING_CALL, VHOST_USER_VRING_NO_FD, -1);
    offer_buffer(fixture);
    assert_int_equal(client_kick(&fixture->client, 0), 0);
    wait_until_used(fixture);
    int call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    uint64_t count;
    set_line(fixture, VHOST_USER_SET_VRING_CALL, 0, call);
    assert_int_equal(read(call, &count, sizeof(count)), sizeof(count));
    close(call);
    finish(fixture);
}

static void takes_pipes_as_lines(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_server(true);
    int kick[2], call[2];
    char bytes[8] = {1};
    connect_client(fixture);
    start_queue(fixture);
    assert_int_equal(pipe2(kick, O_CLOEXEC), 0);
    assert_int_equal(pipe2(call, O_CLOEXEC), 0);
    set_line(fixture, VHOST_USER_SET_VRING_KICK, 0, kick[0]);
    set_line(fixture, VHOST_USER_SET_VRING_CALL, 0, call[1]);
    for (unsigned i = 0; i < 3; i++) {
        offer_buffer(fixture);
        assert_int_equal(write(kick[1], bytes, sizeof(bytes)), sizeof(bytes));
        assert_int_equal(read(call[0], bytes, sizeof(bytes)), sizeof(bytes));
        wait_until_used(fixture);
    }
    /* Nobody at the other ends any more: no kick comes, no call arrives, and nothing else happens. */
    close(kick[1]);
    close(call[0]);
    expect_an_idle_loop(fixture);
    uint32_t base;
    assert_int_equal(client_stop_queue(&fixture->client, 0, &base), 0);
    assert_int_equal(base, 3);
    close(kick[0]);
    close(call[1]);
    finish(fixture);
}

static void a_call_line_that_is_full_holds_up_nothing(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_server(true);
    uint64_t most = UINT64_MAX - 1;
    int call = eventfd(0, EFD_CLOEXEC); /* one that blocks */
    assert_int_equal(write(call, &most, sizeof(most)), sizeof(most));
    connect_client(fixture);
    start_queue(fixture);
    set_line(fixture, VHOST_USER_SET_VRING_CALL, 0, call);
    for (unsigned i = 0; i < 3; i++) {
        offer_buffer(fixture);
        assert_int_equal(client_kick(&fixture->client, 0), 0);
        wait_until_used(fixture);
    }
    close(call);
    finish(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hangs_up_on_a_kick_line_that_notifies_nobody),
        cmocka_unit_test(looks_at_a_ring_that_has_no_kick_line),
        cmocka_unit_test(a_dry_source_is_waited_for_and_not_asked_again_and_again),
        cmocka_unit_test(a_dry_source_that_cannot_be_waited_for_is_asked_again),
        cmocka_unit_test(a_source_that_is_dry_no_more_is_not_asked_again),
        cmocka_unit_test(a_rate_limit_is_kept_by_a_timer),
        cmocka_unit_test(leaves_no_kick_behind_for_the_front_end_to_find),
        cmocka_unit_test(a_call_line_that_comes_late_hears_of_what_was_before),
        cmocka_unit_test(takes_pipes_as_lines),
        cmocka_unit_test(a_call_line_that_is_full_holds_up_nothing),
    };
    return cmocka_run_group_tests_name("server_queue", tests, NULL, NULL);
}
