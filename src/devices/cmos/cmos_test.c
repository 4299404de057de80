/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "devices/cmos/cmos.h"
#include "devices/cmos/cmos_time.h"
#include "chip_rig.h"

enum {
    SECONDS,
    SECONDS_ALARM,
    MINUTES,
    MINUTES_ALARM,
    HOURS,
    HOURS_ALARM,
    WEEKDAY,
    DAY,
    MONTH,
    YEAR,
    A,
    B,
    C,
    D,
};

#define NS_PER_S UINT64_C(1000000000)
#define NOW_S 1709214896u /* Thursday, 29 February 2024, 13:54:56 UTC */

struct world {
    struct fake_clock clock;
    struct fake_wire wire;
    struct cmos cmos;
};

static int setup(void **state)
{
    static struct world world;

    fake_clock_init(&world.clock, NOW_S);
    fake_wire_init(&world.wire);
    cmos_init(&world.cmos, &world.clock.port, &world.wire.line);
    *state = &world;
    return 0;
}

static uint8_t get(struct world *world, unsigned index)
{
    chip_write(&world->cmos.device, 0, 1, index);
    return (uint8_t)chip_read(&world->cmos.device, 1, 1);
}

static void put(struct world *world, unsigned index, unsigned value)
{
    chip_write(&world->cmos.device, 0, 2, index | value << 8); /* both ports at once, as outw does */
}

static void pass(struct world *world, uint64_t seconds)
{
    world->clock.now_ns += seconds * NS_PER_S;
}

static void expect_time(struct world *world, const uint8_t expected[8])
{
    static const uint8_t registers[8] = {CMOS_CENTURY, YEAR, MONTH, DAY, WEEKDAY, HOURS, MINUTES, SECONDS};

    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(get(world, registers[i]), expected[i]);
}

static void tells_the_time_in_bcd_and_24_hours(void **state)
{
    struct world *world = *state;

    expect_time(world, (const uint8_t[8]){0x20, 0x24, 0x02, 0x29, 5, 0x13, 0x54, 0x56});
    pass(world, 4);
    expect_time(world, (const uint8_t[8]){0x20, 0x24, 0x02, 0x29, 5, 0x13, 0x55, 0x00});
    pass(world, UINT64_C(10) * 3600 + 5 * 60);
    expect_time(world, (const uint8_t[8]){0x20, 0x24, 0x03, 0x01, 6, 0x00, 0x00, 0x00});
}

static void tells_the_time_in_binary_and_12_hours(void **state)
{
    struct world *world = *state;

    put(world, B, 0x06);
    expect_time(world, (const uint8_t[8]){20, 24, 2, 29, 5, 13, 54, 56});
    put(world, B, 0x04);
    assert_int_equal(get(world, HOURS), 0x81);
    put(world, B, 0x00);
    assert_int_equal(get(world, HOURS), 0x81);
    pass(world, UINT64_C(11) * 3600);
    assert_int_equal(get(world, HOURS), 0x12); /* midnight */
    pass(world, UINT64_C(12) * 3600);
    assert_int_equal(get(world, HOURS), 0x92); /* noon */
}

static void is_as_a_pc_has_it_after_power_on(void **state)
{
    struct world *world = *state;

    assert_int_equal(get(world, A), 0x26);
    assert_int_equal(get(world, B), 0x02);
    assert_int_equal(get(world, C), 0x00);
    assert_int_equal(get(world, D), 0x80);
    put(world, C, 0xff);
    put(world, D, 0x00);
    assert_int_equal(get(world, C), 0x00);
    assert_int_equal(get(world, D), 0x80);
    put(world, A, 0xff);
    assert_int_equal(get(world, A), 0x7f);
    assert_int_equal(chip_read(&world->cmos.device, 0, 1), 0xff);
}

static void keeps_its_memory_also_behind_the_bit_that_masks_nmi(void **state)
{
    struct world *world = *state;

    for (unsigned i = 0x0e; i < 0x80; i++)
        if (i != CMOS_CENTURY)
            put(world, i | 0x80, 0xff ^ i);
    for (unsigned i = 0x0e; i < 0x80; i++)
        if (i != CMOS_CENTURY)
            assert_int_equal(get(world, i), 0xff ^ i);
}

/* As Linux does it: SET and the divider's reset, registers, and both back. */
static void set_time(struct world *world, const uint8_t bytes[7])
{
    static const uint8_t registers[7] = {CMOS_CENTURY, YEAR, MONTH, DAY, HOURS, MINUTES, SECONDS};

    put(world, B, 0x82);
    put(world, A, 0x76);
    for (unsigned i = 0; i < 7; i++)
        put(world, registers[i], bytes[i]);
    pass(world, 5); /* it stands */
    put(world, B, 0x02);
    pass(world, 5);
    assert_int_equal(get(world, SECONDS), bytes[6]);
    put(world, A, 0x26);
}

static void goes_on_from_a_time_that_was_set(void **state)
{
    struct world *world = *state;

    set_time(world, (const uint8_t[7]){0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x58});
    expect_time(world, (const uint8_t[8]){0x19, 0x99, 0x12, 0x31, 6, 0x23, 0x59, 0x58});
    pass(world, 2);
    expect_time(world, (const uint8_t[8]){0x20, 0x00, 0x01, 0x01, 7, 0x00, 0x00, 0x00});
}

static void a_register_written_while_it_runs_counts_at_once(void **state)
{
    struct world *world = *state;

    put(world, HOURS, 0x20);
    pass(world, 4);
    expect_time(world, (const uint8_t[8]){0x20, 0x24, 0x02, 0x29, 5, 0x20, 0x55, 0x00});
}

static void a_time_that_no_calendar_has_becomes_the_nearest(void **state)
{
    struct world *world = *state;

    put(world, B, 0x82);
    put(world, CMOS_CENTURY, 0x20);
    put(world, YEAR, 0x23);
    put(world, MONTH, 0x02);
    put(world, DAY, 0x31);
    put(world, HOURS, 0xff);
    put(world, MINUTES, 0x75);
    put(world, SECONDS, 0x60);
    assert_int_equal(get(world, HOURS), 0xff); /* memory while it stands */
    put(world, B, 0x02);
    expect_time(world, (const uint8_t[8]){0x20, 0x23, 0x02, 0x28, 3, 0x23, 0x59, 0x59});
    set_time(world, (const uint8_t[7]){0xff, 0xff, 0xff, 0x00, 0, 0, 0});
    expect_time(world, (const uint8_t[8]){0x99, 0x99, 0x12, 0x01, 4, 0, 0, 0});
}

static void an_update_shows_only_in_the_last_244_us_of_a_second(void **state)
{
    struct world *world = *state;

    assert_int_equal(get(world, A), 0x26);
    world->clock.now_ns += NS_PER_S - 244001;
    assert_int_equal(get(world, A), 0x26);
    world->clock.now_ns++;
    assert_int_equal(get(world, A), 0xa6);
    put(world, B, 0x82);
    assert_int_equal(get(world, A), 0x26); /* never while it stands */
    put(world, B, 0x02);
    world->clock.now_ns += 244000;
    assert_int_equal(get(world, A), 0x26);
}

static void the_flag_of_updates_is_set_each_second_and_cleared_by_a_look(void **state)
{
    struct world *world = *state;

    assert_int_equal(get(world, C), 0);
    pass(world, 1);
    assert_int_equal(get(world, C), 0x10);
    assert_int_equal(get(world, C), 0);
    assert_false(world->wire.raised);
    put(world, B, 0x82);
    pass(world, 10);
    assert_int_equal(get(world, C), 0); /* it stands */
}

static void an_interrupt_for_updates_comes_with_the_next_second(void **state)
{
    struct world *world = *state;

    world->clock.now_ns += 123;
    put(world, B, 0x12);
    assert_true(world->clock.alarm_ns == (NOW_S + 1) * NS_PER_S);
    cmos_alarm(&world->cmos); /* too early */
    assert_false(world->wire.raised);
    pass(world, 1);
    cmos_alarm(&world->cmos);
    assert_true(world->wire.raised);
    assert_true(world->clock.alarm_ns == CLOCK_PORT_NEVER); /* nothing more before it is answered */
    assert_int_equal(get(world, C), 0x90);
    assert_false(world->wire.raised);
    assert_true(world->clock.alarm_ns == (NOW_S + 2) * NS_PER_S);
    put(world, B, 0x82); /* SET clears the enable */
    assert_int_equal(get(world, B), 0x82);
    put(world, B, 0x92);
    assert_int_equal(get(world, B), 0x92);
    assert_true(world->clock.alarm_ns == CLOCK_PORT_NEVER);
}

static void an_alarm_comes_at_its_time_of_day(void **state)
{
    struct world *world = *state;

    put(world, HOURS_ALARM, 0x14);
    put(world, MINUTES_ALARM, 0x00);
    put(world, SECONDS_ALARM, 0x10);
    put(world, B, 0x22);
    assert_true(world->clock.alarm_ns == (NOW_S + 4 + 5 * 60 + 10) * NS_PER_S);
    pass(world, 5 * 60 + 13);
    cmos_alarm(&world->cmos);
    assert_false(world->wire.raised);
    pass(world, 1);
    cmos_alarm(&world->cmos);
    assert_true(world->wire.raised);
    assert_int_equal(get(world, C), 0xb0);
    assert_true(world->clock.alarm_ns == (NOW_S + 4 + 5 * 60 + 10 + 86400) * NS_PER_S);
}

static void an_alarm_may_be_for_any_hour_minute_or_second(void **state)
{
    struct world *world = *state;

    put(world, HOURS_ALARM, 0xc0);
    put(world, MINUTES_ALARM, 0x54);
    put(world, SECONDS_ALARM, 0x10);
    put(world, B, 0x22);
    assert_true(world->clock.alarm_ns == (NOW_S - 46 + 3600) * NS_PER_S);
    put(world, MINUTES_ALARM, 0xff);
    assert_true(world->clock.alarm_ns == (NOW_S + 14) * NS_PER_S);
    put(world, SECONDS_ALARM, 0xff);
    assert_true(world->clock.alarm_ns == (NOW_S + 1) * NS_PER_S);
    put(world, SECONDS_ALARM, 0x60); /* no second is called that */
    assert_true(world->clock.alarm_ns == CLOCK_PORT_NEVER);
}

static void an_alarm_that_nobody_enabled_shows_as_a_flag(void **state)
{
    struct world *world = *state;

    put(world, HOURS_ALARM, 0x14);
    pass(world, 300);
    assert_int_equal(get(world, C), 0x10); /* 13:59:56 */
    pass(world, 86400);
    assert_int_equal(get(world, C), 0x30);
    assert_false(world->wire.raised);
}

static void enabling_what_has_happened_interrupts_at_once(void **state)
{
    struct world *world = *state;

    pass(world, 1);
    put(world, B, 0x12);
    assert_true(world->wire.raised);
    put(world, B, 0x02);
    assert_false(world->wire.raised);
}

static void a_clock_that_jumps_back_sets_no_flag(void **state)
{
    struct world *world = *state;

    world->clock.now_ns -= 100 * NS_PER_S;
    assert_int_equal(get(world, C), 0);
    pass(world, 1);
    assert_int_equal(get(world, C), 0x10);
}

static void without_a_timer_the_flags_work_all_the_same(void **state)
{
    struct world *world = *state;

    fake_clock_init_silent(&world->clock, NOW_S);
    put(world, B, 0x12);
    pass(world, 1);
    assert_int_equal(get(world, C), 0x90);
}

static void reset_disables_interrupts_and_keeps_time_and_memory(void **state)
{
    struct world *world = *state;

    put(world, HOURS, 0x20);
    put(world, 0x40, 0x99);
    put(world, B, 0x7a);
    pass(world, 1);
    cmos_alarm(&world->cmos);
    assert_true(world->wire.raised);
    cmos_reset(&world->cmos);
    assert_false(world->wire.raised);
    assert_int_equal(get(world, B), 0x02);
    assert_int_equal(get(world, C), 0x00);
    assert_int_equal(get(world, HOURS), 0x20);
    assert_int_equal(get(world, 0x40), 0x99);
    assert_true(world->clock.alarm_ns == CLOCK_PORT_NEVER);
}

static void goes_on_from_saved_state(void **state)
{
    struct world *world = *state;
    uint8_t bytes[CMOS_STATE_BYTES_MAX];
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};

    put(world, HOURS, 0x20);
    put(world, 0x40, 0x99);
    put(world, HOURS_ALARM, 0xff);
    put(world, MINUTES_ALARM, 0x55);
    put(world, B, 0x22);
    get(world, 0x40);
    assert_int_equal(cmos_save(&world->cmos, &writer), 0);
    struct state_record record = chip_record(bytes, writer.used);
    assert_int_equal(record.tag, CMOS_STATE_TAG);

    setup(state);
    assert_int_equal(cmos_load(&world->cmos, &record), 0);
    assert_int_equal(chip_read(&world->cmos.device, 1, 1), 0x99);
    assert_true(world->clock.alarm_ns == (NOW_S + 4) * NS_PER_S);
    setup(state);
    pass(world, 10);
    assert_int_equal(cmos_load(&world->cmos, &record), 0);
    assert_true(world->wire.raised); /* it came while nobody ran */
    expect_time(world, (const uint8_t[8]){0x20, 0x24, 0x02, 0x29, 5, 0x20, 0x55, 0x06});
}

static void refuses_state_that_is_none(void **state)
{
    struct world *world = *state;
    uint8_t bytes[CMOS_STATE_BYTES_MAX];
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};

    assert_int_equal(cmos_save(&world->cmos, &writer), 0);
    struct state_record record = chip_record(bytes, writer.used);
    uint8_t *payload = bytes + STATE_RECORD_HEADER_BYTES;
    static const struct {
        uint8_t offset, value;
    } lies[] = {{0, 0x80}, {10, 1}, {11, 0x80}, {18, 1}, {19, 0x7f}, {30, 0x80}};
    for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
        uint8_t truth = payload[lies[i].offset];
        payload[lies[i].offset] = lies[i].value;
        assert_int_equal(cmos_load(&world->cmos, &record), -EBADMSG);
        payload[lies[i].offset] = truth;
    }
    record.length--;
    assert_int_equal(cmos_load(&world->cmos, &record), -EBADMSG);
    record.length++;
    record.version++;
    assert_int_equal(cmos_load(&world->cmos, &record), -ENOTSUP);
    record.version--;
    assert_int_equal(cmos_load(&world->cmos, &record), 0);
    writer = (struct state_writer){.bytes = bytes, .size = 20};
    assert_int_equal(cmos_save(&world->cmos, &writer), -ENOSPC);
}

/* Day by day beside the rules of the calendar, from 1 January of the year 0, a Saturday. */
static void every_day_of_the_calendar_comes_back(void **state)
{
    static const uint8_t lengths[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int64_t seconds = INT64_C(-62167219200);
    unsigned weekday = 7;

    (void)state;
    for (unsigned year = 0; year < 10000; year++) {
        bool leap = year % 400 == 0 || (year % 4 == 0 && year % 100 != 0);
        for (unsigned month = 1; month <= 12; month++) {
            for (unsigned day = 1; day <= lengths[month - 1] + (leap && month == 2 ? 1u : 0u); day++) {
                struct cmos_time time = cmos_time_from_seconds(seconds + 86399);
                if (time.year != year || time.month != month || time.day != day || time.weekday != weekday ||
                    time.hour != 23 || time.minute != 59 || time.second != 59)
                    fail_msg("%04u-%02u-%02u", year, month, day);
                if (cmos_time_to_seconds(&time) != seconds + 86399)
                    fail_msg("back from %04u-%02u-%02u", year, month, day);
                seconds += 86400;
                weekday = weekday % 7 + 1;
            }
        }
    }
}

static void hours_come_back_in_every_form(void **state)
{
    (void)state;
    for (unsigned form = 0; form < 4; form++)
        for (unsigned hour = 0; hour < 24; hour++)
            assert_int_equal(cmos_time_decode_hour(cmos_time_encode_hour(hour, form & 1, form & 2), form & 1, form & 2),
                             hour);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, setup)
    const struct CMUnitTest tests[] = {
        TEST(tells_the_time_in_bcd_and_24_hours),
        TEST(tells_the_time_in_binary_and_12_hours),
        TEST(is_as_a_pc_has_it_after_power_on),
        TEST(keeps_its_memory_also_behind_the_bit_that_masks_nmi),
        TEST(goes_on_from_a_time_that_was_set),
        TEST(a_register_written_while_it_runs_counts_at_once),
        TEST(a_time_that_no_calendar_has_becomes_the_nearest),
        TEST(an_update_shows_only_in_the_last_244_us_of_a_second),
        TEST(the_flag_of_updates_is_set_each_second_and_cleared_by_a_look),
        TEST(an_interrupt_for_updates_comes_with_the_next_second),
        TEST(an_alarm_comes_at_its_time_of_day),
        TEST(an_alarm_may_be_for_any_hour_minute_or_second),
        TEST(an_alarm_that_nobody_enabled_shows_as_a_flag),
        TEST(enabling_what_has_happened_interrupts_at_once),
        TEST(a_clock_that_jumps_back_sets_no_flag),
        TEST(without_a_timer_the_flags_work_all_the_same),
        TEST(reset_disables_interrupts_and_keeps_time_and_memory),
        TEST(goes_on_from_saved_state),
        TEST(refuses_state_that_is_none),
        TEST(every_day_of_the_calendar_comes_back),
        TEST(hours_come_back_in_every_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
