/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "devices/pl011/pl011.h"
#include "chip_rig.h"

enum {
    DR = 0x00,
    RSR = 0x04,
    FR = 0x18,
    ILPR = 0x20,
    IBRD = 0x24,
    FBRD = 0x28,
    LCR_H = 0x2c,
    CR = 0x30,
    IFLS = 0x34,
    IMSC = 0x38,
    RIS = 0x3c,
    MIS = 0x40,
    ICR = 0x44,
    DMACR = 0x48,
};

#define FEN 0x10
#define IDLE 0x97 /* TXFE, RXFE, DCD, DSR, CTS */
#define RX 0x10
#define TX 0x20
#define RT 0x40
#define OE 0x400

struct world {
    struct fake_uart uart;
    struct fake_wire wire;
    struct pl011 pl011;
};

static int setup(void **state)
{
    static struct world world;

    fake_uart_init(&world.uart);
    fake_wire_init(&world.wire);
    pl011_init(&world.pl011, &world.uart.port, &world.wire.line);
    *state = &world;
    return 0;
}

static uint32_t get(struct world *world, unsigned offset)
{
    return (uint32_t)chip_read(&world->pl011.device, offset, 4);
}

static void put(struct world *world, unsigned offset, unsigned value)
{
    chip_write(&world->pl011.device, offset, 4, value);
}

static size_t input(struct world *world, const char *text)
{
    return pl011_input(&world->pl011, (const uint8_t *)text, strlen(text));
}

static void says_that_it_is_a_pl011_of_revision_3(void **state)
{
    struct world *world = *state;
    static const uint8_t ids[8] = {0x11, 0x10, 0x34, 0x00, 0x0d, 0xf0, 0x05, 0xb1};

    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(get(world, 0xfe0 + 4 * i), ids[i]);
}

static void is_as_the_manual_has_it_after_power_on_but_enabled(void **state)
{
    struct world *world = *state;

    assert_int_equal(get(world, CR), 0x301);
    assert_int_equal(get(world, FR), IDLE);
    assert_int_equal(get(world, IFLS), 0x12);
    assert_int_equal(get(world, LCR_H), 0);
    assert_int_equal(get(world, IMSC), 0);
    assert_int_equal(get(world, RIS), 0);
}

static void sends_each_byte_at_once_by_accesses_of_any_width(void **state)
{
    struct world *world = *state;

    chip_write(&world->pl011.device, DR, 1, 'a');
    chip_write(&world->pl011.device, DR, 2, 'b');
    chip_write(&world->pl011.device, DR, 4, 'c');
    chip_write(&world->pl011.device, DR, 8, 'd');
    chip_write(&world->pl011.device, DR + 1, 1, 'e'); /* no register begins there */
    assert_int_equal(world->uart.count, 4);
    assert_memory_equal(world->uart.bytes, "abcd", 4);
    assert_int_equal(chip_read(&world->pl011.device, CR + 1, 1), 0x03);
}

static void keeps_only_the_bits_that_there_are(void **state)
{
    struct world *world = *state;
    static const struct {
        unsigned offset, kept;
    } registers[] = {{ILPR, 0xff}, {IBRD, 0xffff}, {FBRD, 0x3f},  {LCR_H, 0xff},
                     {CR, 0xff87}, {IFLS, 0x3f},   {IMSC, 0x7ff}, {DMACR, 0x07}};

    for (unsigned i = 0; i < ARRAY_SIZE(registers); i++) {
        put(world, registers[i].offset, 0xffffffff);
        assert_int_equal(get(world, registers[i].offset), registers[i].kept);
    }
    put(world, FR, 0xffffffff);
    put(world, RIS, 0xffffffff);
    assert_int_equal(get(world, MIS), get(world, RIS));
}

static void a_disabled_uart_keeps_bytes_until_it_is_enabled(void **state)
{
    struct world *world = *state;

    put(world, LCR_H, FEN);
    put(world, CR, 0x300);
    put(world, DR, '1');
    put(world, DR, '2');
    assert_int_equal(world->uart.count, 0);
    assert_int_equal(get(world, FR), 0x1f); /* BUSY, RXFE */
    assert_int_equal(input(world, "x"), 0);
    put(world, CR, 0x301);
    assert_int_equal(world->uart.count, 2);
    assert_int_equal(world->uart.room_told, 1);
    assert_int_equal(get(world, FR), IDLE);
}

static void what_the_port_refuses_waits_and_goes_first(void **state)
{
    struct world *world = *state;

    put(world, LCR_H, FEN);
    put(world, IMSC, TX);
    world->uart.willing = 0;
    for (unsigned i = 0; i < 33; i++)
        put(world, DR, 'A' + i);
    assert_int_equal(world->uart.asked, 1);
    assert_int_equal(world->pl011.lost_total, 1);
    assert_int_equal(get(world, FR) & 0xa8, 0x28); /* TXFF, BUSY, not TXFE */
    assert_false(world->wire.raised);
    world->uart.willing = 15;
    pl011_output_ready(&world->pl011);
    assert_false(world->wire.raised); /* 17 are left */
    world->uart.willing = 1;
    pl011_output_ready(&world->pl011);
    assert_true(world->wire.raised);
    put(world, DR, 'z');
    assert_false(world->wire.raised);
    world->uart.willing = SIZE_MAX;
    pl011_output_ready(&world->pl011);
    assert_int_equal(world->uart.count, 33);
    assert_memory_equal(world->uart.bytes, "ABCDEFGHIJ", 10);
    assert_int_equal(get(world, FR), IDLE);
}

static void no_interrupt_of_the_transmitter_before_a_byte_has_left(void **state)
{
    struct world *world = *state;

    put(world, IMSC, TX);
    assert_false(world->wire.raised); /* a transition, not a level */
    put(world, DR, 'a');
    assert_true(world->wire.raised);
    assert_int_equal(get(world, MIS), TX);
    put(world, ICR, TX);
    assert_false(world->wire.raised);
    assert_int_equal(get(world, RIS), 0);
}

static void takes_one_byte_without_fifos_and_thirty_two_with_them(void **state)
{
    struct world *world = *state;

    assert_int_equal(input(world, "ab"), 1);
    assert_int_equal(get(world, FR) & 0x50, 0x40);
    assert_int_equal(get(world, DR), 'a');
    assert_int_equal(world->uart.room_told, 1);
    put(world, LCR_H, FEN);
    assert_int_equal(input(world, "0123456789abcdef0123456789abcdefgh"), 32);
    assert_int_equal(get(world, FR) & 0x50, 0x40);
    for (unsigned i = 0; i < 32; i++)
        assert_int_equal(get(world, DR), "0123456789abcdef"[i % 16]);
    assert_int_equal(get(world, FR) & 0x50, 0x10);
    assert_int_equal(world->uart.room_told, 2);
}

static void received_data_interrupts_at_the_trigger_and_as_time_out(void **state)
{
    struct world *world = *state;

    put(world, LCR_H, FEN);
    put(world, IFLS, 0); /* 4 bytes */
    put(world, IMSC, RX | RT);
    input(world, "abc");
    assert_int_equal(get(world, MIS), RT);
    input(world, "d");
    assert_int_equal(get(world, MIS), RX | RT);
    get(world, DR);
    assert_int_equal(get(world, MIS), RT);
    get(world, DR);
    get(world, DR);
    assert_true(world->wire.raised);
    get(world, DR);
    assert_false(world->wire.raised);
}

static void without_fifos_a_byte_is_an_interrupt_until_it_is_read(void **state)
{
    struct world *world = *state;

    put(world, IMSC, RX | RT);
    input(world, "a");
    assert_int_equal(get(world, MIS), RX);
    get(world, DR);
    assert_false(world->wire.raised);
}

static void each_trigger_is_its_share_of_the_fifo(void **state)
{
    struct world *world = *state;
    static const uint8_t levels[8] = {4, 8, 16, 24, 28, 28, 28, 28};

    put(world, LCR_H, FEN);
    for (unsigned i = 0; i < 8; i++) {
        put(world, IFLS, i << 3);
        for (unsigned count = 1; count < levels[i]; count++)
            input(world, "x");
        assert_int_equal(get(world, RIS) & RX, 0);
        input(world, "x");
        assert_int_equal(get(world, RIS) & RX, RX);
        while (!(get(world, FR) & 0x10))
            get(world, DR);
    }
}

static void switching_fifos_empties_them(void **state)
{
    struct world *world = *state;

    put(world, LCR_H, FEN);
    world->uart.willing = 0;
    put(world, DR, 'x');
    input(world, "0123456789abcdef0123456789abcdef+");
    put(world, LCR_H, 0);
    assert_int_equal(get(world, FR), IDLE);
    assert_int_equal(get(world, RIS), 0);
    assert_int_equal(world->uart.room_told, 1);
    world->uart.willing = SIZE_MAX;
    put(world, DR, 'y');
    assert_int_equal(world->uart.bytes[0], 'y');
}

static void loopback_brings_back_bytes_and_tells_of_overrun(void **state)
{
    struct world *world = *state;

    put(world, CR, 0x381);
    assert_int_equal(input(world, "x"), 0);
    put(world, DR, 'a');
    put(world, DR, 'b');
    assert_int_equal(world->uart.count, 0);
    assert_int_equal(get(world, RIS) & OE, OE);
    assert_int_equal(get(world, RSR), 0x08);
    assert_int_equal(get(world, DR), 'a' | 0x800); /* what was there stays */
    put(world, RSR, 0);
    assert_int_equal(get(world, RSR), 0);
    put(world, DR, 'c');
    assert_int_equal(get(world, DR), 'c');
    put(world, CR, 0x301);
    assert_int_equal(world->uart.room_told, 1);
}

static void loopback_ties_modem_outputs_to_inputs(void **state)
{
    struct world *world = *state;

    put(world, CR, 0x381);
    assert_int_equal(get(world, FR) & 0x107, 0);
    assert_int_equal(get(world, RIS), 0x0e);
    put(world, ICR, 0x0f);
    static const struct {
        unsigned cr, fr, ris;
    } lines[] = {{0x400, 0x02, 0x08}, {0x800, 0x01, 0x02}, {0x1000, 0x04, 0x04}, {0x2000, 0x100, 0x01}};
    for (unsigned i = 0; i < ARRAY_SIZE(lines); i++) {
        put(world, CR, 0x381 | lines[i].cr);
        assert_int_equal(get(world, FR) & 0x107, lines[i].fr);
        assert_int_equal(get(world, RIS), lines[i].ris);
        put(world, CR, 0x381);
        put(world, ICR, 0x0f);
    }
}

static void reset_is_power_on_but_for_who_waits(void **state)
{
    struct world *world = *state;

    put(world, IMSC, RX);
    put(world, IBRD, 13);
    assert_int_equal(input(world, "ab"), 1);
    assert_true(world->wire.raised);
    pl011_reset(&world->pl011);
    assert_false(world->wire.raised);
    assert_int_equal(get(world, IBRD), 0);
    assert_int_equal(get(world, FR), IDLE);
    assert_int_equal(world->uart.room_told, 1);
}

static void goes_on_from_saved_state(void **state)
{
    struct world *world = *state;
    uint8_t bytes[PL011_STATE_BYTES_MAX];
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};

    put(world, LCR_H, 0x70);
    put(world, IBRD, 0x1234);
    put(world, FBRD, 0x21);
    put(world, IFLS, 0x09);
    put(world, IMSC, RX | RT);
    input(world, "in");
    world->uart.willing = 0;
    put(world, DR, 'o');
    put(world, DR, 'p');
    assert_int_equal(pl011_save(&world->pl011, &writer), 0);
    struct state_record record = chip_record(bytes, writer.used);
    assert_int_equal(record.tag, PL011_STATE_TAG);

    setup(state);
    assert_int_equal(pl011_load(&world->pl011, &record), 0);
    assert_int_equal(world->uart.count, 2); /* a port that is willing gets what waited */
    assert_memory_equal(world->uart.bytes, "op", 2);
    assert_true(world->wire.raised);
    assert_int_equal(get(world, DR), 'i');
    assert_int_equal(get(world, DR), 'n');
    assert_false(world->wire.raised);
    assert_int_equal(get(world, LCR_H), 0x70);
    assert_int_equal(get(world, IBRD), 0x1234);
    assert_int_equal(get(world, FBRD), 0x21);
    assert_int_equal(get(world, IFLS), 0x09);
    assert_int_equal(get(world, IMSC), RX | RT);
}

static void refuses_state_that_is_none(void **state)
{
    struct world *world = *state;
    uint8_t bytes[PL011_STATE_BYTES_MAX];
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};

    assert_int_equal(pl011_save(&world->pl011, &writer), 0);
    struct state_record record = chip_record(bytes, writer.used);
    uint8_t *payload = bytes + STATE_RECORD_HEADER_BYTES;
    static const struct {
        uint8_t offset, value;
    } lies[] = {{0, 0x08}, {5, 0x08}, {7, 0x08}, {8, 0x40}, {10, 0x40}, {11, 0x08}, {13, 2}, {14, 2}, {16, 2}, {49, 2}};
    for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
        uint8_t truth = payload[lies[i].offset];
        payload[lies[i].offset] = lies[i].value;
        assert_int_equal(pl011_load(&world->pl011, &record), -EBADMSG);
        payload[lies[i].offset] = truth;
    }
    payload[9] = FEN;
    payload[16] = 33; /* of 32 */
    assert_int_equal(pl011_load(&world->pl011, &record), -EBADMSG);
    payload[9] = payload[16] = 0;
    record.length--;
    assert_int_equal(pl011_load(&world->pl011, &record), -EBADMSG);
    record.length++;
    record.version++;
    assert_int_equal(pl011_load(&world->pl011, &record), -ENOTSUP);
    record.version--;
    assert_int_equal(pl011_load(&world->pl011, &record), 0);
    writer = (struct state_writer){.bytes = bytes, .size = 20};
    assert_int_equal(pl011_save(&world->pl011, &writer), -ENOSPC);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, setup)
    const struct CMUnitTest tests[] = {
        TEST(says_that_it_is_a_pl011_of_revision_3),
        TEST(is_as_the_manual_has_it_after_power_on_but_enabled),
        TEST(sends_each_byte_at_once_by_accesses_of_any_width),
        TEST(keeps_only_the_bits_that_there_are),
        TEST(a_disabled_uart_keeps_bytes_until_it_is_enabled),
        TEST(what_the_port_refuses_waits_and_goes_first),
        TEST(no_interrupt_of_the_transmitter_before_a_byte_has_left),
        TEST(takes_one_byte_without_fifos_and_thirty_two_with_them),
        TEST(received_data_interrupts_at_the_trigger_and_as_time_out),
        TEST(without_fifos_a_byte_is_an_interrupt_until_it_is_read),
        TEST(each_trigger_is_its_share_of_the_fifo),
        TEST(switching_fifos_empties_them),
        TEST(loopback_brings_back_bytes_and_tells_of_overrun),
        TEST(loopback_ties_modem_outputs_to_inputs),
        TEST(reset_is_power_on_but_for_who_waits),
        TEST(goes_on_from_saved_state),
        TEST(refuses_state_that_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
