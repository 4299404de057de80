/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "devices/serial/serial.h"
#include "chip_rig.h"

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR, FCR = IIR };

#define NOTHING 0x01
#define FIFOS 0xc0

struct world {
    struct fake_uart uart;
    struct fake_wire wire;
    struct serial serial;
};

static int setup(void **state)
{
    static struct world world;

    fake_uart_init(&world.uart);
    fake_wire_init(&world.wire);
    serial_init(&world.serial, &world.uart.port, &world.wire.line);
    *state = &world;
    return 0;
}

static uint8_t get(struct world *world, unsigned offset)
{
    return (uint8_t)chip_read(&world->serial.device, offset, 1);
}

static void put(struct world *world, unsigned offset, unsigned value)
{
    chip_write(&world->serial.device, offset, 1, value);
}

static size_t input(struct world *world, const char *text)
{
    return serial_input(&world->serial, (const uint8_t *)text, strlen(text));
}

static void is_as_the_data_sheet_has_it_after_power_on(void **state)
{
    struct world *world = *state;

    assert_int_equal(get(world, IER), 0);
    assert_int_equal(get(world, IIR), NOTHING);
    assert_int_equal(get(world, LCR), 0);
    assert_int_equal(get(world, MCR), 0);
    assert_int_equal(get(world, LSR), 0x60);
    assert_int_equal(get(world, MSR), 0xb0);
    assert_false(world->wire.raised);
}

static void sends_each_byte_at_once(void **state)
{
    struct world *world = *state;

    put(world, DATA, 'h');
    put(world, DATA, 'i');
    assert_int_equal(world->uart.count, 2);
    assert_memory_equal(world->uart.bytes, "hi", 2);
    assert_int_equal(get(world, LSR), 0x60);
}

static void divisor_hides_data_and_enable_while_dlab_is_set(void **state)
{
    struct world *world = *state;

    put(world, IER, 0x05);
    put(world, LCR, 0x83);
    put(world, DATA, 0x34);
    put(world, IER, 0x12);
    assert_int_equal(get(world, DATA), 0x34);
    assert_int_equal(get(world, IER), 0x12);
    put(world, LCR, 0x03);
    assert_int_equal(get(world, IER), 0x05);
    assert_int_equal(world->uart.count, 0);
    assert_int_equal(world->serial.divisor, 0x1234);
}

static void keeps_only_the_bits_that_there_are(void **state)
{
    struct world *world = *state;

    put(world, IER, 0xff);
    assert_int_equal(get(world, IER), 0x0f);
    put(world, MCR, 0xff);
    assert_int_equal(get(world, MCR), 0x1f);
    put(world, SCR, 0xa5);
    assert_int_equal(get(world, SCR), 0xa5);
    put(world, LSR, 0xff);
    put(world, MSR, 0xff);
    assert_int_equal(get(world, LSR), 0x60);
}

static void tells_of_fifos_only_while_they_are_on(void **state)
{
    struct world *world = *state;

    put(world, FCR, 0xc0); /* without bit 0 the others do not count */
    assert_int_equal(get(world, IIR), NOTHING);
    put(world, FCR, 0xc1);
    assert_int_equal(get(world, IIR), NOTHING | FIFOS);
    put(world, FCR, 0);
    assert_int_equal(get(world, IIR), NOTHING);
}

static void an_empty_transmitter_interrupts_when_that_is_enabled(void **state)
{
    struct world *world = *state;

    put(world, IER, 2);
    assert_true(world->wire.raised);
    assert_int_equal(get(world, IIR), 0x02);
    assert_false(world->wire.raised); /* to look is to answer */
    assert_int_equal(get(world, IIR), NOTHING);
    put(world, IER, 2); /* it was enabled already */
    assert_int_equal(get(world, IIR), NOTHING);
    put(world, IER, 0);
    put(world, IER, 2); /* what Linux tests for */
    assert_int_equal(get(world, IIR), 0x02);
}

static void each_byte_that_was_sent_is_an_edge(void **state)
{
    struct world *world = *state;

    put(world, IER, 2);
    assert_int_equal(world->wire.rises, 1);
    put(world, DATA, 'a'); /* without a look at IIR */
    assert_int_equal(world->wire.rises, 2);
    put(world, DATA, 'b');
    assert_int_equal(world->wire.rises, 3);
    assert_true(world->wire.raised);
}

static void what_the_port_refuses_waits_and_goes_first(void **state)
{
    struct world *world = *state;

    put(world, FCR, 1);
    put(world, IER, 2);
    world->uart.willing = 1;
    put(world, DATA, '1');
    get(world, IIR);
    put(world, DATA, '2');
    assert_int_equal(get(world, LSR), 0);
    assert_false(world->wire.raised);
    put(world, DATA, '3');
    assert_int_equal(world->uart.asked, 2); /* not again before it is ready */
    world->uart.willing = 1;
    serial_output_ready(&world->serial);
    assert_int_equal(get(world, LSR), 0);
    assert_false(world->wire.raised);
    world->uart.willing = SIZE_MAX;
    serial_output_ready(&world->serial);
    assert_int_equal(get(world, LSR), 0x60);
    assert_int_equal(get(world, IIR), 0x02 | FIFOS);
    assert_int_equal(world->uart.count, 3);
    assert_memory_equal(world->uart.bytes, "123", 3);
}

static void a_full_transmitter_loses_bytes_and_counts_them(void **state)
{
    struct world *world = *state;

    put(world, FCR, 1);
    world->uart.willing = 0;
    for (unsigned i = 0; i < 18; i++)
        put(world, DATA, 'a' + i);
    assert_int_equal(world->serial.lost_total, 2);
    world->uart.willing = SIZE_MAX;
    serial_output_ready(&world->serial);
    assert_int_equal(world->uart.count, 16);
    assert_memory_equal(world->uart.bytes, "abcdefghijklmnor", 16); /* as THR alone: the newest stays */
}

static void clearing_the_transmitter_drops_what_waits(void **state)
{
    struct world *world = *state;

    put(world, FCR, 1);
    world->uart.willing = 0;
    put(world, DATA, 'x');
    put(world, FCR, 1 | 4);
    assert_int_equal(get(world, LSR), 0x60);
    world->uart.willing = SIZE_MAX;
    serial_output_ready(&world->serial);
    assert_int_equal(world->uart.count, 0);
}

static void takes_one_byte_without_fifos_and_sixteen_with_them(void **state)
{
    struct world *world = *state;

    assert_int_equal(input(world, "ab"), 1);
    assert_int_equal(get(world, DATA), 'a');
    put(world, FCR, 1);
    assert_int_equal(input(world, "0123456789abcdefgh"), 16);
    for (unsigned i = 0; i < 16; i++) {
        assert_int_equal(get(world, LSR), 0x61);
        assert_int_equal(get(world, DATA), "0123456789abcdef"[i]);
    }
    assert_int_equal(get(world, LSR), 0x60);
}

static void tells_of_room_once_and_only_who_was_refused(void **state)
{
    struct world *world = *state;

    assert_int_equal(input(world, "a"), 1);
    get(world, DATA);
    assert_int_equal(world->uart.room_told, 0);
    assert_int_equal(input(world, "bc"), 1);
    get(world, LSR);
    assert_int_equal(world->uart.room_told, 0);
    get(world, DATA);
    assert_int_equal(world->uart.room_told, 1);
    get(world, DATA);
    assert_int_equal(world->uart.room_told, 1);
}

static void tells_of_room_when_the_fifo_is_cleared_and_at_reset(void **state)
{
    struct world *world = *state;

    input(world, "ab");
    put(world, FCR, 1); /* switches FIFOs on, which empties them */
    assert_int_equal(world->uart.room_told, 1);
    assert_int_equal(input(world, "0123456789abcdefg"), 16);
    put(world, FCR, 1 | 2);
    assert_int_equal(world->uart.room_told, 2);
    assert_int_equal(input(world, "0123456789abcdefg"), 16);
    serial_reset(&world->serial);
    assert_int_equal(world->uart.room_told, 3);
    assert_int_equal(get(world, LSR), 0x60);
}

static void received_data_interrupts_by_level_or_as_time_out(void **state)
{
    struct world *world = *state;

    put(world, FCR, 0x81); /* 8 bytes */
    put(world, IER, 1);
    input(world, "1234567");
    assert_true(world->wire.raised);
    assert_int_equal(get(world, IIR), 0x0c | FIFOS);
    input(world, "8");
    assert_int_equal(get(world, IIR), 0x04 | FIFOS);
    get(world, DATA);
    assert_int_equal(get(world, IIR), 0x0c | FIFOS);
    for (unsigned i = 0; i < 7; i++)
        get(world, DATA);
    assert_int_equal(get(world, IIR), NOTHING | FIFOS);
    assert_false(world->wire.raised);
}

static void reports_the_most_urgent_interrupt_first(void **state)
{
    struct world *world = *state;

    put(world, MCR, 0x10); /* loop: modem lines change */
    put(world, IER, 0x0f);
    put(world, DATA, 'a');
    put(world, DATA, 'b'); /* overrun */
    assert_int_equal(get(world, IIR), 0x06);
    assert_int_equal(get(world, LSR), 0x63);
    assert_int_equal(get(world, IIR), 0x04);
    assert_int_equal(get(world, DATA), 'b');
    assert_int_equal(get(world, IIR), 0x02);
    assert_int_equal(get(world, IIR), 0x00);
    assert_true(world->wire.raised);
    get(world, MSR);
    assert_int_equal(get(world, IIR), NOTHING);
    assert_false(world->wire.raised);
}

static void loopback_ties_modem_control_to_modem_status(void **state)
{
    struct world *world = *state;

    put(world, MCR, 0x1a); /* what Linux tests for */
    assert_int_equal(get(world, MSR) & 0xf0, 0x90);
    put(world, MCR, 0x1f);
    assert_int_equal(get(world, MSR), 0xf2); /* DSR has changed; a rise of RI is none */
    put(world, MCR, 0x10);
    assert_int_equal(get(world, MSR), 0x0f);
    assert_int_equal(get(world, MSR), 0x00);
    put(world, MCR, 0x00);
    assert_int_equal(get(world, MSR), 0xbb);
}

static void loopback_keeps_bytes_inside_and_the_outside_out(void **state)
{
    struct world *world = *state;

    put(world, FCR, 1);
    put(world, MCR, 0x10);
    assert_int_equal(input(world, "x"), 0);
    put(world, DATA, 'y');
    assert_int_equal(world->uart.count, 0);
    assert_int_equal(get(world, DATA), 'y');
    assert_int_equal(world->uart.room_told, 0);
    put(world, MCR, 0);
    assert_int_equal(world->uart.room_told, 1);
}

static void a_full_fifo_in_loopback_keeps_what_it_has(void **state)
{
    struct world *world = *state;

    put(world, FCR, 1);
    put(world, MCR, 0x10);
    for (unsigned i = 0; i < 17; i++)
        put(world, DATA, 'a' + i);
    assert_int_equal(get(world, LSR), 0x63);
    assert_int_equal(get(world, LSR), 0x61);
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(get(world, DATA), 'a' + i);
}

static void an_access_of_two_bytes_is_two_registers(void **state)
{
    struct world *world = *state;

    chip_write(&world->serial.device, MCR, 2, 0x1b);
    assert_int_equal(chip_read(&world->serial.device, LCR, 4), 0xb0601b00); /* LCR, MCR, LSR, MSR */
}

static void reset_keeps_rate_and_scratch(void **state)
{
    struct world *world = *state;

    put(world, LCR, 0x80);
    put(world, DATA, 1);
    put(world, LCR, 0);
    put(world, SCR, 0x77);
    put(world, IER, 0x0f);
    put(world, FCR, 0xc1);
    assert_true(world->wire.raised);
    serial_reset(&world->serial);
    assert_false(world->wire.raised);
    assert_int_equal(get(world, IER), 0);
    assert_int_equal(get(world, IIR), NOTHING);
    assert_int_equal(get(world, SCR), 0x77);
    assert_int_equal(world->serial.divisor, 1);
}

static void goes_on_from_saved_state(void **state)
{
    struct world *world = *state;
    uint8_t bytes[SERIAL_STATE_BYTES_MAX];
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};

    put(world, LCR, 0x80);
    put(world, IER, 0x43);
    put(world, LCR, 0x1b);
    put(world, FCR, 0xc1);
    put(world, IER, 0x03);
    put(world, SCR, 0x99);
    input(world, "in");
    world->uart.willing = 0;
    put(world, DATA, 'o');
    put(world, DATA, 'p');
    assert_int_equal(serial_save(&world->serial, &writer), 0);
    struct state_record record = chip_record(bytes, writer.used);
    assert_int_equal(record.tag, SERIAL_STATE_TAG);

    setup(state);
    assert_int_equal(serial_load(&world->serial, &record), 0);
    assert_int_equal(world->uart.count, 2); /* a port that is willing gets what waited */
    assert_memory_equal(world->uart.bytes, "op", 2);
    assert_true(world->wire.raised);
    assert_int_equal(get(world, IIR), 0x0c | FIFOS);
    assert_int_equal(get(world, DATA), 'i');
    assert_int_equal(get(world, DATA), 'n');
    assert_int_equal(get(world, LCR), 0x1b);
    assert_int_equal(get(world, IER), 0x03);
    assert_int_equal(get(world, SCR), 0x99);
    assert_int_equal(world->serial.divisor, 0x430c);
}

static void refuses_state_that_is_none(void **state)
{
    struct world *world = *state;
    uint8_t bytes[SERIAL_STATE_BYTES_MAX];
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};

    assert_int_equal(serial_save(&world->serial, &writer), 0);
    struct state_record record = chip_record(bytes, writer.used);
    uint8_t *payload = bytes + STATE_RECORD_HEADER_BYTES;
    static const struct {
        uint8_t offset, value;
    } lies[] = {{0, 0x10}, {1, 0x03}, {1, 0x40}, {3, 0x20}, {5, 0x10}, {6, 2}, {7, 2}, {12, 2}, {29, 2}, {29, 255}};
    for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
        uint8_t truth = payload[lies[i].offset];
        payload[lies[i].offset] = lies[i].value;
        assert_int_equal(serial_load(&world->serial, &record), -EBADMSG);
        payload[lies[i].offset] = truth;
    }
    record.length--;
    assert_int_equal(serial_load(&world->serial, &record), -EBADMSG);
    record.length++;
    record.version++;
    assert_int_equal(serial_load(&world->serial, &record), -ENOTSUP);
    record.version--;
    assert_int_equal(serial_load(&world->serial, &record), 0);
    writer = (struct state_writer){.bytes = bytes, .size = 20};
    assert_int_equal(serial_save(&world->serial, &writer), -ENOSPC);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, setup)
    const struct CMUnitTest tests[] = {
        TEST(is_as_the_data_sheet_has_it_after_power_on),
        TEST(sends_each_byte_at_once),
        TEST(divisor_hides_data_and_enable_while_dlab_is_set),
        TEST(keeps_only_the_bits_that_there_are),
        TEST(tells_of_fifos_only_while_they_are_on),
        TEST(an_empty_transmitter_interrupts_when_that_is_enabled),
        TEST(each_byte_that_was_sent_is_an_edge),
        TEST(what_the_port_refuses_waits_and_goes_first),
        TEST(a_full_transmitter_loses_bytes_and_counts_them),
        TEST(clearing_the_transmitter_drops_what_waits),
        TEST(takes_one_byte_without_fifos_and_sixteen_with_them),
        TEST(tells_of_room_once_and_only_who_was_refused),
        TEST(tells_of_room_when_the_fifo_is_cleared_and_at_reset),
        TEST(received_data_interrupts_by_level_or_as_time_out),
        TEST(reports_the_most_urgent_interrupt_first),
        TEST(loopback_ties_modem_control_to_modem_status),
        TEST(loopback_keeps_bytes_inside_and_the_outside_out),
        TEST(a_full_fifo_in_loopback_keeps_what_it_has),
        TEST(an_access_of_two_bytes_is_two_registers),
        TEST(reset_keeps_rate_and_scratch),
        TEST(goes_on_from_saved_state),
        TEST(refuses_state_that_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
