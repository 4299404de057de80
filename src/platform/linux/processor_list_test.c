/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "platform/linux/processor_list.h"

#define ERROR_BYTES 256

static void expect_list(const char *text, const uint16_t *numbers, unsigned count)
{
    char error[ERROR_BYTES];
    struct processor_list list;
    assert_int_equal(processor_list_parse(text, &list, error, sizeof(error)), 0);
    assert_int_equal(list.count, count);
    assert_memory_equal(list.numbers, numbers, count * sizeof(*numbers));
}

static void numbers_and_ranges_keep_their_order(void **state)
{
    (void)state;
    expect_list("0", (const uint16_t[]){0}, 1);
    expect_list("2-5,8", (const uint16_t[]){2, 3, 4, 5, 8}, 5);
    expect_list("8,2-3,0", (const uint16_t[]){8, 2, 3, 0}, 4);
    expect_list("7-7", (const uint16_t[]){7}, 1);
    expect_list("1023", (const uint16_t[]){1023}, 1);
}

static void every_processor_there_can_be_fits(void **state)
{
    (void)state;
    char error[ERROR_BYTES];
    struct processor_list list;
    assert_int_equal(processor_list_parse("0-1023", &list, error, sizeof(error)), 0);
    assert_int_equal(list.count, PROCESSORS_MAX);
    assert_int_equal(list.numbers[PROCESSORS_MAX - 1], 1023);
}

static void what_is_no_list_is_refused_and_leaves_the_old_one(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } wrong[] = {
        {"", "give numbers"},
        {"x", "give numbers"},
        {"1,", "give numbers"},
        {",1", "give numbers"},
        {"1-", "give numbers"},
        {"-1", "give numbers"},
        {"1 2", "give numbers"},
        {"1-2-3", "give numbers"},
        {"0x1", "give numbers"},
        {"1,,2", "give numbers"},
        {"5-2", "5-2 is no range"},
        {"1,5000-3,7", "5000-3 is no range"},
        {"00005000-3", "00005000-3 is no range"},
        {"1024", "below 1024"},
        {"0-99999999999999999999", "below 1024"},
        {"4294967297", "below 1024"},
        {"3,1-4", "3 is named twice"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        char error[ERROR_BYTES] = "";
        struct processor_list list = {.count = 77};
        assert_int_equal(processor_list_parse(wrong[i].text, &list, error, sizeof(error)), -EINVAL);
        assert_non_null(strstr(error, wrong[i].says));
        assert_int_equal(list.count, 77);
    }
}

static void a_processor_that_we_may_use_is_fine_and_others_are_not(void **state)
{
    (void)state;
    char error[ERROR_BYTES] = "";
    cpu_set_t allowed, one;
    unsigned mine = 0;
    assert_int_equal(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
    while (!CPU_ISSET(mine, &allowed))
        mine++;
    struct processor_list list = {.numbers = {(uint16_t)mine}, .count = 1};
    assert_int_equal(processor_list_check(&list, error, sizeof(error)), 0);

    list.numbers[0] = PROCESSORS_MAX - 1;
    assert_int_equal(processor_list_check(&list, error, sizeof(error)), -EINVAL);
    assert_non_null(strstr(error, "processor 1023"));

    if (CPU_COUNT(&allowed) < 2)
        return; /* none that is there and can be taken away */
    CPU_ZERO(&one);
    CPU_SET(mine, &one);
    unsigned other = mine + 1;
    while (!CPU_ISSET(other, &allowed))
        other++;
    list.numbers[0] = (uint16_t)other;
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
    int r = processor_list_check(&list, error, sizeof(error));
    assert_int_equal(sched_setaffinity(0, sizeof(allowed), &allowed), 0);
    assert_int_equal(r, -EINVAL);
    assert_non_null(strstr(error, "not allowed"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_and_ranges_keep_their_order),
        cmocka_unit_test(every_processor_there_can_be_fits),
        cmocka_unit_test(what_is_no_list_is_refused_and_leaves_the_old_one),
        cmocka_unit_test(a_processor_that_we_may_use_is_fine_and_others_are_not),
    };
    return cmocka_run_group_tests_name("processor_list", tests, NULL, NULL);
}
