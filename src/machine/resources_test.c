/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "machine/resources.h"

#define RANGES 4

static struct resource_range ranges[RANGES];
static struct resource_space space;

static int set_up(void **state)
{
    (void)state;
    resource_space_init(&space, RESOURCE_MMIO_LOW, ranges, RANGES);
    assert_int_equal(resource_window_add(&space, 0x10000, 0x10000), 0);
    return 0;
}

static uint64_t find(uint64_t size, uint64_t alignment)
{
    uint64_t base = 0;
    return resource_find(&space, size, alignment, 0, UINT64_MAX, "x", &base) == 0 ? base : 0;
}

static void a_demanded_range_is_taken_once(void **state)
{
    (void)state;
    assert_int_equal(resource_take(&space, 0x12000, 0x1000, "clock"), 0);
    assert_int_equal(resource_take(&space, 0x12fff, 2, "disk"), -EEXIST);
    assert_string_equal(resource_conflict(&space, 0x12fff, 2)->owner, "clock");
    assert_null(resource_conflict(&space, 0x13000, 0x1000));
    assert_null(resource_conflict(&space, 0x13000, 0));
    assert_int_equal(resource_take(&space, 0x13000, 0x1000, "disk"), 0);
    assert_int_equal(resource_release(&space, 0x12000), 0);
    assert_int_equal(resource_release(&space, 0x12000), -ENOENT);
    assert_int_equal(resource_release(&space, 0x13800), -ENOENT);
    assert_int_equal(resource_take(&space, 0x11000, 0x2000, "disk"), 0);
}

static void nothing_is_given_out_outside_a_window(void **state)
{
    (void)state;
    assert_int_equal(resource_take(&space, 0xffff, 1, "x"), -ERANGE);
    assert_int_equal(resource_take(&space, 0x1f000, 0x1001, "x"), -ERANGE);
    assert_int_equal(resource_take(&space, 0x10000, 0, "x"), -EINVAL);
    assert_int_equal(resource_take(&space, UINT64_MAX, 2, "x"), -EINVAL);
    /* two windows side by side are still two */
    assert_int_equal(resource_window_add(&space, 0x20000, 0x1000), 0);
    assert_int_equal(resource_take(&space, 0x1f000, 0x2000, "x"), -ERANGE);
    assert_int_equal(resource_take(&space, 0x1f000, 0x1000, "x"), 0);
}

static void windows_are_sound_and_apart(void **state)
{
    (void)state;
    assert_int_equal(resource_window_add(&space, 0x1ffff, 0x1000), -EEXIST);
    assert_int_equal(resource_window_add(&space, 0, 0), -EINVAL);
    assert_int_equal(resource_window_add(&space, UINT64_MAX - 1, 2), -EINVAL);
    for (unsigned i = 1; i < RESOURCE_WINDOWS_MAX; i++)
        assert_int_equal(resource_window_add(&space, 0x100000 * (uint64_t)(RESOURCE_WINDOWS_MAX - i), 0x1000), 0);
    assert_int_equal(resource_window_add(&space, 0, 1), -ENOSPC);
    for (unsigned i = 1; i < RESOURCE_WINDOWS_MAX; i++)
        assert_true(space.windows[i - 1].base < space.windows[i].base);
    assert_int_equal(resource_free_total(&space), 0x10000 + 7 * 0x1000);
}

static void the_lowest_place_that_fits_is_found(void **state)
{
    (void)state;
    assert_int_equal(resource_take(&space, 0x10800, 0x800, "x"), 0);
    assert_int_equal(find(0x1000, 0x1000), 0x11000);
    assert_int_equal(find(0x100, 0), 0x10000);
    assert_int_equal(find(0x800, 0x100), 0x12000); /* 0x700 are left below */
    assert_int_equal(resource_free_total(&space), 0x10000 - 0x800 - 0x1000 - 0x100 - 0x800);
    assert_int_equal(find(1, 1), 0); /* no room to note it */
}

static void a_place_is_found_between_two_numbers(void **state)
{
    (void)state;
    uint64_t base = 7;
    assert_int_equal(resource_find(&space, 0x1000, 1, 0x10001, 0x11000, "x", &base), 0);
    assert_int_equal(base, 0x10001);
    base = 7;
    assert_int_equal(resource_find(&space, 0x1000, 1, 0x11001, 0x11fff, "x", &base), -ENOSPC);
    assert_int_equal(resource_find(&space, 0x1000, 0x1000, 0, 0x10fff, "x", &base), -ENOSPC);
    assert_int_equal(resource_find(&space, 0x20000, 1, 0, UINT64_MAX, "x", &base), -ENOSPC);
    assert_int_equal(resource_find(&space, 1, 1, 5, 4, "x", &base), -EINVAL);
    assert_int_equal(resource_find(&space, 0, 1, 0, 4, "x", &base), -EINVAL);
    assert_int_equal(resource_find(&space, 1, 3, 0, 4, "x", &base), -EINVAL);
    assert_int_equal(resource_find(&space, UINT64_MAX, UINT64_C(1) << 63, 0, UINT64_MAX, "x", &base), -ENOSPC);
    assert_int_equal(base, 7);
    /* the second window, when the first has no room */
    assert_int_equal(resource_window_add(&space, 0x100000, 0x40000), 0);
    assert_int_equal(resource_find(&space, 0x20000, 0x20000, 0, UINT64_MAX, "x", &base), 0);
    assert_int_equal(base, 0x100000);
}

static void the_last_numbers_below_the_end_can_be_given_out(void **state)
{
    (void)state;
    assert_int_equal(resource_window_add(&space, UINT64_MAX - 0x1000, 0x1000), 0);
    assert_int_equal(resource_take(&space, UINT64_MAX - 1, 1, "x"), 0);
    uint64_t base;
    assert_int_equal(resource_find(&space, 0x800, 0x800, UINT64_MAX - 0xfff, UINT64_MAX, "x", &base), 0);
    assert_int_equal(base, UINT64_MAX - 0xfff);
    assert_int_equal(resource_find(&space, 0x800, 0x800, UINT64_MAX - 0x7ff, UINT64_MAX, "x", &base), -ENOSPC);
}

static void a_long_name_is_cut(void **state)
{
    (void)state;
    assert_int_equal(resource_take(&space, 0x10000, 1, "a name that is far longer than a name should be"), 0);
    assert_string_equal(ranges[0].owner, "a name that is far longer than ");
    for (unsigned kind = 0; kind < RESOURCE_KINDS; kind++)
        assert_non_null(resource_kind_name(kind));
}

/* ---- state ---- */

static struct resource_range all_ranges[RESOURCE_KINDS][RANGES];

static void build(struct resources *resources)
{
    for (unsigned kind = 0; kind < RESOURCE_KINDS; kind++)
        resource_space_init(&resources->spaces[kind], kind, all_ranges[kind], RANGES);
}

static void a_saved_machine_has_the_same_owners_again(void **state)
{
    (void)state;
    static struct resources first;
    static uint8_t bytes[4096], again[4096];
    build(&first);
    for (unsigned kind = 0; kind < RESOURCE_KINDS; kind++) {
        assert_int_equal(resource_window_add(&first.spaces[kind], 100, 100), 0);
        assert_int_equal(resource_window_add(&first.spaces[kind], 0, 50), 0);
        assert_int_equal(resource_take(&first.spaces[kind], 110 + kind, 10, resource_kind_name(kind)), 0);
        assert_int_equal(resource_take(&first.spaces[kind], 5, 3, "other"), 0);
    }
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};
    assert_int_equal(resources_save(&first, &writer), 0);
    struct state_reader reader = {.bytes = bytes, .size = writer.used};
    struct state_record record;
    assert_int_equal(state_next(&reader, &record), 1);
    memset(all_ranges, 0, sizeof(all_ranges));
    build(&first);
    assert_int_equal(resources_load(&first, &record), 0);
    struct state_writer second = {.bytes = again, .size = sizeof(again)};
    assert_int_equal(resources_save(&first, &second), 0);
    assert_int_equal(second.used, writer.used);
    assert_memory_equal(again, bytes, writer.used);
    assert_string_equal(resource_conflict(&first.spaces[RESOURCE_PIO], 113, 1)->owner, "I/O ports");
    /* no room: nothing is written */
    for (size_t size = 0; size < writer.used; size++) {
        struct state_writer small = {.bytes = again, .size = size};
        assert_int_equal(resources_save(&first, &small), -ENOSPC);
        assert_int_equal(small.used, 0);
    }
}

static void a_state_that_cannot_be_is_refused_and_changes_nothing(void **state)
{
    (void)state;
    static struct resources machine;
    static uint8_t bytes[4096];
    build(&machine);
    struct resource_space *ram = &machine.spaces[RESOURCE_RAM];
    assert_int_equal(resource_window_add(ram, 100, 100), 0);
    assert_int_equal(resource_take(ram, 110, 10, "a"), 0);
    assert_int_equal(resource_take(ram, 130, 10, "b"), 0);
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};
    assert_int_equal(resources_save(&machine, &writer), 0);
    uint8_t *payload = bytes + STATE_RECORD_HEADER_BYTES;
    uint32_t length = (uint32_t)(writer.used - STATE_RECORD_HEADER_BYTES);
    struct state_record good = {.tag = RESOURCES_STATE_TAG, .version = 1, .length = length, .payload = payload};
    struct state_record other = good, newer = good;
    other.tag++;
    newer.version++;
    assert_int_equal(resources_load(&machine, &other), -EBADMSG);
    assert_int_equal(resources_load(&machine, &newer), -ENOTSUP);
    for (uint32_t cut = 0; cut < length; cut++) {
        struct state_record shorter = good;
        shorter.length = cut;
        assert_int_equal(resources_load(&machine, &shorter), -EBADMSG);
    }
    /* 0: windows, 4: ranges, 8: window, 24: range a, 72: range b */
    static const struct {
        unsigned at;
        uint8_t value;
        int error;
    } lies[] = {
        {0, RESOURCE_WINDOWS_MAX + 1, -EBADMSG},
        {4, RANGES + 1, -ENOSPC},
        {4, 3, -EBADMSG},
        {4, 1, -EBADMSG},
        {16, 0, -EBADMSG},
        {24, 99, -EBADMSG},
        {24, 140, -EBADMSG},
        {32, 0, -EBADMSG},
        {32, 21, -EBADMSG},
        {72, 195, -EBADMSG},
        {71, 'x', -EBADMSG},
        {79, 0xff, -EBADMSG},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
        uint8_t kept = payload[lies[i].at];
        payload[lies[i].at] = lies[i].value;
        assert_int_equal(resources_load(&machine, &good), lies[i].error);
        payload[lies[i].at] = kept;
        assert_int_equal(ram->count, 2);
        assert_string_equal(resource_conflict(ram, 130, 1)->owner, "b");
    }
    assert_int_equal(resources_load(&machine, &good), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_demanded_range_is_taken_once, set_up),
        cmocka_unit_test_setup(nothing_is_given_out_outside_a_window, set_up),
        cmocka_unit_test_setup(windows_are_sound_and_apart, set_up),
        cmocka_unit_test_setup(the_lowest_place_that_fits_is_found, set_up),
        cmocka_unit_test_setup(a_place_is_found_between_two_numbers, set_up),
        cmocka_unit_test_setup(the_last_numbers_below_the_end_can_be_given_out, set_up),
        cmocka_unit_test_setup(a_long_name_is_cut, set_up),
        cmocka_unit_test(a_saved_machine_has_the_same_owners_again),
        cmocka_unit_test(a_state_that_cannot_be_is_refused_and_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
