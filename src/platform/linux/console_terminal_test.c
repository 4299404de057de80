/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A guest's console on a pseudo terminal: driver, model, port, terminal. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <unistd.h>

#include "device_rig.h"
#include "platform/linux/console_terminal.h"

#define RECEIVE VIRTIO_CONSOLE_RECEIVEQ
#define TRANSMIT VIRTIO_CONSOLE_TRANSMITQ
#define TURN_NS UINT64_C(30000000000)

struct guest {
    int master, slave;
    struct loop loop;
    struct terminal terminal;
    struct console_terminal port;
    struct server_queue_port queue_port;
    struct console console;
    struct device_rig rig;
};

static int setup(void **state)
{
    static struct guest guest;
    const struct device_rig_shape shape = {.queues = CONSOLE_QUEUES, .request_bytes = console_request_bytes()};
    const struct console_options options = {.has_size = false};
    assert_int_equal(openpty(&guest.master, &guest.slave, NULL, NULL, NULL), 0);
    assert_int_equal(loop_init(&guest.loop), 0);
    const struct terminal_options where = {.loop = &guest.loop,
                                           .input = guest.slave,
                                           .output = guest.slave,
                                           .escape = TERMINAL_ESCAPE_NONE,
                                           .name = "test"};
    assert_int_equal(terminal_open(&guest.terminal, &where), 0);
    console_terminal_init(&guest.port, &guest.terminal);
    console_terminal_queue_port(&guest.port, &guest.queue_port);
    device_rig_init(&guest.rig, &shape);
    console_init(&guest.console, guest.rig.queues, &guest.port.port, &options);
    device_rig_attach(&guest.rig, &guest.console.device, 0);
    *state = &guest;
    return 0;
}

static int teardown(void **state)
{
    struct guest *guest = *state;
    for (unsigned i = 0; i < CONSOLE_QUEUES; i++)
        virtio_device_queue_stop(&guest->console.device, i);
    device_rig_done(&guest->rig);
    terminal_close(&guest->terminal);
    loop_done(&guest->loop);
    close(guest->master);
    close(guest->slave);
    return 0;
}

static bool is_told(struct guest *guest, unsigned index)
{
    struct pollfd look = {.fd = guest->queue_port.handle(guest->queue_port.context, index), .events = POLLIN};
    return poll(&look, 1, 0) == 1;
}

static void add(struct guest *guest, unsigned index, uint64_t address, uint32_t length)
{
    const struct fake_piece piece = {address, length, index == RECEIVE};
    assert_true(fake_driver_add(&guest->rig.drivers[index], &piece, 1) >= 0);
}

static void what_is_typed_wakes_the_guest_once_it_has_room(void **state)
{
    struct guest *guest = *state;
    uint64_t address = device_rig_high(&guest->rig, 16);
    uint32_t head, length;
    assert_int_equal(write(guest->master, "ls", 2), 2);
    while (guest->terminal.in.ring.head < 2)
        assert_int_equal(loop_turn(&guest->loop, TURN_NS), 0);
    assert_false(is_told(guest, RECEIVE)); /* the guest has not asked */
    add(guest, RECEIVE, address, 16);
    add(guest, RECEIVE, address, 16);
    device_rig_run(&guest->rig, RECEIVE);
    assert_true(fake_driver_get(&guest->rig.drivers[RECEIVE], &head, &length));
    assert_int_equal(length, 2);
    assert_memory_equal(device_rig_host(&guest->rig, address), "ls", 2);
    assert_int_equal(write(guest->master, "\r", 1), 1); /* its second buffer waits for this */
    while (!is_told(guest, RECEIVE))
        assert_int_equal(loop_turn(&guest->loop, TURN_NS), 0);
    device_rig_wake(&guest->rig, RECEIVE);
    assert_false(is_told(guest, RECEIVE));
    assert_true(fake_driver_get(&guest->rig.drivers[RECEIVE], &head, &length));
    assert_memory_equal(device_rig_host(&guest->rig, address), "\r", 1);
}

static void a_queue_that_stops_is_woken_by_nothing(void **state)
{
    struct guest *guest = *state;
    add(guest, RECEIVE, device_rig_high(&guest->rig, 16), 16);
    device_rig_run(&guest->rig, RECEIVE);
    virtio_device_queue_stop(&guest->console.device, RECEIVE);
    assert_int_equal(write(guest->master, "x", 1), 1);
    while (guest->terminal.in.ring.head < 1)
        assert_int_equal(loop_turn(&guest->loop, TURN_NS), 0);
    assert_false(is_told(guest, RECEIVE));
}

static void a_request_waits_for_the_terminal_and_loses_nothing(void **state)
{
    struct guest *guest = *state;
    uint32_t bytes = TERMINAL_OUTPUT_BYTES + 1000, head, length;
    uint64_t address = device_rig_high(&guest->rig, bytes);
    uint8_t *shown = device_rig_host(&guest->rig, address);
    for (uint32_t i = 0; i < bytes; i++)
        shown[i] = (uint8_t)('a' + i % 26);
    add(guest, TRANSMIT, address, bytes);
    while (device_rig_run(&guest->rig, TRANSMIT) & VIRTIO_EVENT_AGAIN)
        ;
    assert_false(fake_driver_get(&guest->rig.drivers[TRANSMIT], &head, &length));
    assert_false(is_told(guest, TRANSMIT));
    while (!is_told(guest, TRANSMIT))
        assert_int_equal(loop_turn(&guest->loop, TURN_NS), 0);
    for (uint32_t i = 0; i < bytes;) {
        struct pollfd look = {.fd = guest->master, .events = POLLIN};
        uint8_t got[4096];
        device_rig_wake(&guest->rig, TRANSMIT);
        assert_int_equal(loop_turn(&guest->loop, 0), 0);
        if (poll(&look, 1, 0) == 0)
            continue;
        ssize_t n = read(guest->master, got, sizeof(got));
        assert_true(n > 0);
        for (ssize_t k = 0; k < n; k++, i++)
            assert_int_equal(got[k], 'a' + i % 26);
    }
    assert_true(fake_driver_get(&guest->rig.drivers[TRANSMIT], &head, &length));
}

static void an_emergency_write_is_seen(void **state)
{
    struct guest *guest = *state;
    uint8_t byte = '!', got = 0;
    assert_int_equal(virtio_device_config_write(&guest->console.device, 8, &byte, 1), 0);
    assert_int_equal(loop_turn(&guest->loop, TURN_NS), 0);
    assert_int_equal(read(guest->master, &got, 1), 1);
    assert_int_equal(got, '!');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_typed_wakes_the_guest_once_it_has_room, setup, teardown),
        cmocka_unit_test_setup_teardown(a_queue_that_stops_is_woken_by_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_request_waits_for_the_terminal_and_loses_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(an_emergency_write_is_seen, setup, teardown),
    };
    signal(SIGPIPE, SIG_IGN);
    terminal_take_signals();
    return cmocka_run_group_tests_name("console_terminal", tests, NULL, NULL);
}
