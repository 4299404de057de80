/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "devices/pl031/pl031.h"
#include "chip_rig.h"

enum { DR = 0x00, MR = 0x04, LR = 0x08, CR = 0x0c, IMSC = 0x10, RIS = 0x14, MIS = 0x18, ICR = 0x1c };

#define NS_PER_S UINT64_C(1000000000)
#define NOW_S 1700000000u

struct world {
    struct fake_clock clock;
    struct fake_wire wire;
    struct pl031 pl031;
};

static int setup(void **state)
{
    static struct world world;

    fake_clock_init(&world.clock, NOW_S);
    fake_wire_init(&world.wire);
    pl031_init(&world.pl031, &world.clock.port, &world.wire.line);
    *state = &world;
    return 0;
}

static uint32_t get(struct world *world, unsigned offset)
{
    return (uint32_t)chip_read(&world->pl031.device, offset, 4);
}

static void put(struct world *world, unsigned offset, uint32_t value)
{
    chip_write(&world->pl031.device, offset, 4, value);
}

static void pass(struct world *world, uint64_t seconds)
{
    world->clock.now_ns += seconds * NS_PER_S;
}

static void says_that_it_is_a_pl031(void **state)
{
    struct world *world = *state;
    static const uint8_t ids[8] = {0x31, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1};

    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(get(world, 0xfe0 + 4 * i), ids[i]);
    assert_int_equal(get(world, CR), 1);
}

static void counts_the_seconds_of_the_port(void **state)
{
    struct world *world = *state;

    assert_int_equal(get(world, DR), NOW_S);
    world->clock.now_ns += NS_PER_S - 1;
    assert_int_equal(get(world, DR), NOW_S);
    world->clock.now_ns++;
    assert_int_equal(get(world, DR), NOW_S + 1);
    put(world, DR, 5); /* for reading alone */
    assert_int_equal(get(world, DR), NOW_S + 1);
}

static void goes_on_from_a_time_that_was_loaded(void **state)
{
    struct world *world = *state;

    put(world, LR, 1000);
    assert_int_equal(get(world, DR), 1000);
    assert_int_equal(get(world, LR), 1000);
    pass(world, 60);
    assert_int_equal(get(world, DR), 1060);
    put(world, LR, 0xfffffffe);
    pass(world, 3);
    assert_int_equal(get(world, DR), 1);
}

static void asks_the_timer_for_the_match_and_interrupts_then(void **state)
{
    struct world *world = *state;

    put(world, MR, NOW_S + 10);
    assert_true(world->clock.alarm_ns == CLOCK_PORT_NEVER); /* masked */
    put(world, IMSC, 1);
    assert_true(world->clock.alarm_ns == (NOW_S + 10) * NS_PER_S);
    pass(world, 9);
    pl031_alarm(&world->pl031);
    assert_false(world->wire.raised);
    pass(world, 1);
    pl031_alarm(&world->pl031);
    assert_true(world->wire.raised);
    assert_int_equal(get(world, MIS), 1);
    assert_true(world->clock.alarm_ns == CLOCK_PORT_NEVER);
    put(world, ICR, 0);
    assert_true(world->wire.raised);
    put(world, ICR, 1);
    assert_false(world->wire.raised);
    assert_int_equal(get(world, RIS), 0);
}

static void a_match_that_nobody_watched_shows_in_the_raw_status(void **state)
{
    struct world *world = *state;

    put(world, MR, NOW_S + 10);
    pass(world, 3600);
    assert_int_equal(get(world, RIS), 1);
    assert_int_equal(get(world, MIS), 0);
    assert_false(world->wire.raised);
    put(world, IMSC, 1);
    assert_true(world->wire.raised);
    put(world, IMSC, 0);
    assert_false(world->wire.raised);
}

static void a_match_with_this_very_second_counts(void **state)
{
    struct world *world = *state;

    put(world, MR, NOW_S);
    assert_int_equal(get(world, RIS), 1);
    put(world, ICR, 1);
    assert_int_equal(get(world, RIS), 0); /* once */
    put(world, MR, 77);
    put(world, LR, 77);
    assert_int_equal(get(world, RIS), 1);
}

static void seconds_that_a_load_leaves_out_do_not_match(void **state)
{
    struct world *world = *state;

    put(world, MR, NOW_S + 10);
    put(world, LR, NOW_S + 20);
    assert_int_equal(get(world, RIS), 0);
    pass(world, 100);
    assert_int_equal(get(world, RIS), 0);
}

static void a_clock_that_jumps_back_matches_nothing(void **state)
{
    struct world *world = *state;

    put(world, MR, NOW_S - 5);
    world->clock.now_ns -= 10 * NS_PER_S;
    assert_int_equal(get(world, DR), NOW_S - 10);
    assert_int_equal(get(world, RIS), 0);
    pass(world, 5);
    assert_int_equal(get(world, RIS), 1);
}

static void a_match_in_the_past_is_a_whole_round_ahead(void **state)
{
    struct world *world = *state;

    put(world, IMSC, 1);
    put(world, MR, NOW_S - 1);
    assert_true(world->clock.alarm_ns == (NOW_S + UINT64_C(0xffffffff)) * NS_PER_S);
}

static void without_a_timer_the_status_works_all_the_same(void **state)
{
    struct world *world = *state;

    fake_clock_init_silent(&world->clock, NOW_S);
    put(world, IMSC, 1);
    put(world, MR, NOW_S + 1);
    pass(world, 1);
    assert_int_equal(get(world, MIS), 1);
    assert_true(world->wire.raised);
    assert_true(world->clock.alarm_ns == CLOCK_PORT_NEVER);
}

static void reset_keeps_the_time(void **state)
{
    struct world *world = *state;

    put(world, LR, 1000);
    put(world, IMSC, 1);
    put(world, MR, 1000);
    assert_true(world->wire.raised);
    pl031_reset(&world->pl031);
    assert_false(world->wire.raised);
    assert_int_equal(get(world, IMSC), 0);
    assert_int_equal(get(world, MR), 0);
    assert_int_equal(get(world, DR), 1000);
    assert_true(world->clock.alarm_ns == CLOCK_PORT_NEVER);
}

static void goes_on_from_saved_state(void **state)
{
    struct world *world = *state;
    uint8_t bytes[PL031_STATE_BYTES_MAX];
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};

    put(world, LR, 1000);
    put(world, MR, 1050);
    put(world, IMSC, 1);
    assert_int_equal(pl031_save(&world->pl031, &writer), 0);
    struct state_record record = chip_record(bytes, writer.used);
    assert_int_equal(record.tag, PL031_STATE_TAG);

    setup(state);
    assert_int_equal(pl031_load(&world->pl031, &record), 0);
    assert_true(world->clock.alarm_ns == (NOW_S + 50) * NS_PER_S);
    setup(state);
    pass(world, 100);
    assert_int_equal(pl031_load(&world->pl031, &record), 0);
    assert_true(world->wire.raised); /* it came while nobody ran */
    assert_int_equal(get(world, DR), 1100);
    assert_int_equal(get(world, LR), 1000);
    assert_int_equal(get(world, MR), 1050);

    bytes[STATE_RECORD_HEADER_BYTES + 16] = 2;
    assert_int_equal(pl031_load(&world->pl031, &record), -EBADMSG);
    bytes[STATE_RECORD_HEADER_BYTES + 16] = 1;
    bytes[STATE_RECORD_HEADER_BYTES + 17] = 2;
    assert_int_equal(pl031_load(&world->pl031, &record), -EBADMSG);
    record.version++;
    assert_int_equal(pl031_load(&world->pl031, &record), -ENOTSUP);
    record.version--;
    record.length--;
    assert_int_equal(pl031_load(&world->pl031, &record), -EBADMSG);
    writer = (struct state_writer){.bytes = bytes, .size = 20};
    assert_int_equal(pl031_save(&world->pl031, &writer), -ENOSPC);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, setup)
    const struct CMUnitTest tests[] = {
        TEST(says_that_it_is_a_pl031),
        TEST(counts_the_seconds_of_the_port),
        TEST(goes_on_from_a_time_that_was_loaded),
        TEST(asks_the_timer_for_the_match_and_interrupts_then),
        TEST(a_match_that_nobody_watched_shows_in_the_raw_status),
        TEST(a_match_with_this_very_second_counts),
        TEST(seconds_that_a_load_leaves_out_do_not_match),
        TEST(a_clock_that_jumps_back_matches_nothing),
        TEST(a_match_in_the_past_is_a_whole_round_ahead),
        TEST(without_a_timer_the_status_works_all_the_same),
        TEST(reset_keeps_the_time),
        TEST(goes_on_from_saved_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
