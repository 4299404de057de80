/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "machine/bus_window.h"

#define BASE UINT64_C(0x10000)
#define PAGE UINT64_C(4096)

static struct bus bus;
static struct bus_window window;
static uint8_t first[PAGE], second[PAGE];
static struct bus_memory memories[3];

/* A page, a gap, a page that may be read alone, and one that is nowhere. */
static int setup(void **state)
{
    (void)state;
    bus_init(&bus, "mmio", NULL);
    bus_window_init(&window);
    memset(first, 0x11, sizeof(first));
    memset(second, 0x22, sizeof(second));
    memories[0] = (struct bus_memory){.offset = 0, .size = PAGE, .host = first};
    memories[1] = (struct bus_memory){.offset = 2 * PAGE, .size = PAGE, .host = second, .read_only = true};
    memories[2] = (struct bus_memory){.offset = 3 * PAGE, .size = PAGE};
    for (unsigned i = 0; i < ARRAY_SIZE(memories); i++)
        if (bus_memory_add(&bus, &window.device, &memories[i]) != 0)
            return -1;
    return bus_add(&bus, BASE, 4 * PAGE, &window.device);
}

static uint64_t get(uint64_t offset, unsigned size)
{
    uint64_t value = UINT64_MAX;

    assert_int_equal(bus_read(&bus, BASE + offset, size, &value, NULL), BUS_DONE);
    return value;
}

static void put(uint64_t offset, unsigned size, uint64_t value)
{
    assert_int_equal(bus_write(&bus, BASE + offset, size, value, NULL), BUS_DONE);
}

static void accesses_that_are_not_mapped_reach_the_memory(void **state)
{
    (void)state;
    put(8, 8, 0x8877665544332211);
    put(1, 1, 0xaa);
    assert_int_equal(get_le64(first + 8), 0x8877665544332211);
    assert_int_equal(get(8, 4), 0x44332211);
    assert_int_equal(get(0, 2), 0xaa11);
    assert_int_equal(get(PAGE - 1, 1), 0x11);
}

static void what_may_be_read_alone_is_not_written(void **state)
{
    (void)state;
    put(2 * PAGE, 4, 0);
    assert_int_equal(get(2 * PAGE, 4), 0x22222222);
}

static void what_is_no_memory_reads_0_and_keeps_nothing(void **state)
{
    const uint64_t nowhere[] = {PAGE, 2 * PAGE - 8, PAGE - 4, 3 * PAGE - 4, 3 * PAGE, 4 * PAGE - 8};

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(nowhere); i++) {
        put(nowhere[i], 8, UINT64_MAX);
        assert_int_equal(get(nowhere[i], 8), 0);
    }
    assert_int_equal(first[PAGE - 1], 0x11);
    assert_int_equal(second[PAGE - 1], 0x22);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(accesses_that_are_not_mapped_reach_the_memory, setup),
        cmocka_unit_test_setup(what_may_be_read_alone_is_not_written, setup),
        cmocka_unit_test_setup(what_is_no_memory_reads_0_and_keeps_nothing, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
