/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#define _POSIX_C_SOURCE 200809L /* barriers */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>

#include "memory/dirty_log.h"

#define PAGE UINT64_C(4096)
#define LOG_BYTES 6
#define GUARD_BYTES 8

static uint8_t bytes[GUARD_BYTES + LOG_BYTES + GUARD_BYTES];
static const struct dirty_log log_of_48_pages = {.bits = bytes + GUARD_BYTES, .size_bytes = LOG_BYTES};

static bool is_marked(uint64_t page)
{
    return (bytes[GUARD_BYTES + page / 8] >> page % 8 & 1) != 0;
}

/* Mark, then compare every page of the log and the bytes around it with what @first to @last would be. */
static void check_marks(uint64_t address, uint64_t length, uint64_t first, uint64_t last)
{
    memset(bytes, 0, sizeof(bytes));
    dirty_log_mark(&log_of_48_pages, address, length);
    for (uint64_t page = 0; page < LOG_BYTES * 8; page++)
        assert_int_equal(is_marked(page), page >= first && page <= last);
    for (size_t i = 0; i < GUARD_BYTES; i++) {
        assert_int_equal(bytes[i], 0);
        assert_int_equal(bytes[GUARD_BYTES + LOG_BYTES + i], 0);
    }
}

static void marks_every_page_that_a_range_touches_and_no_other(void **state)
{
    (void)state;
    for (uint64_t first = 0; first < 48; first++) {
        for (uint64_t last = first; last < 48; last++) {
            check_marks(first * PAGE, (last - first + 1) * PAGE, first, last);
            /* From the last byte of the first page to the first byte of the last one. */
            if (last > first)
                check_marks(first * PAGE + PAGE - 1, (last - first - 1) * PAGE + 2, first, last);
        }
    }
}

static void a_single_byte_marks_its_page(void **state)
{
    (void)state;
    check_marks(0, 1, 0, 0);
    check_marks(PAGE - 1, 1, 0, 0);
    check_marks(PAGE, 1, 1, 1);
    check_marks(47 * PAGE + 4095, 1, 47, 47);
}

static void no_bytes_mark_nothing(void **state)
{
    (void)state;
    check_marks(0, 0, 1, 0);
    check_marks(5 * PAGE, 0, 1, 0);
    check_marks(UINT64_MAX, 0, 1, 0);
}

static void leaves_out_pages_past_the_end_of_the_log(void **state)
{
    (void)state;
    check_marks(47 * PAGE, 2 * PAGE, 47, 47);
    check_marks(40 * PAGE, 100 * PAGE, 40, 47);
    check_marks(3 * PAGE, 1000 * PAGE, 3, 47);
    check_marks(48 * PAGE, PAGE, 1, 0);
    check_marks(1000 * PAGE, UINT64_C(1) << 40, 1, 0);
    check_marks(UINT64_MAX, 1, 1, 0);
}

static void a_range_past_the_last_address_does_not_begin_anew_at_zero(void **state)
{
    (void)state;
    check_marks(UINT64_MAX - 10, 5000, 1, 0);
    check_marks(40 * PAGE, UINT64_MAX, 40, 47);
    check_marks(0, UINT64_MAX, 0, 47);
    check_marks(1, UINT64_MAX, 0, 47);
}

static void without_a_log_nothing_happens(void **state)
{
    (void)state;
    dirty_log_mark(NULL, 0, PAGE);
    const struct dirty_log empty = {.bits = bytes, .size_bytes = 0};
    memset(bytes, 0, sizeof(bytes));
    dirty_log_mark(&empty, 0, PAGE);
    assert_int_equal(bytes[0], 0);
}

static void keeps_the_marks_that_are_there(void **state)
{
    (void)state;
    memset(bytes, 0, sizeof(bytes));
    dirty_log_mark(&log_of_48_pages, 3 * PAGE, PAGE);
    dirty_log_mark(&log_of_48_pages, 5 * PAGE, 6 * PAGE);
    dirty_log_mark(&log_of_48_pages, 4 * PAGE, 1);
    assert_int_equal(bytes[GUARD_BYTES], 0xf8);
    assert_int_equal(bytes[GUARD_BYTES + 1], 0x07);
}

#define SHARED_BYTES 131072 /* long enough that the threads meet */

static uint8_t shared_bits[SHARED_BYTES];

static pthread_barrier_t all_here;

struct marker {
    uint64_t first_page;
};

/* Every second page, so that both threads change each byte. */
static void *mark_every_second(void *argument)
{
    const struct marker *marker = argument;
    const struct dirty_log log = {.bits = shared_bits, .size_bytes = SHARED_BYTES};
    pthread_barrier_wait(&all_here);
    for (uint64_t page = marker->first_page; page < SHARED_BYTES * 8; page += 2)
        dirty_log_mark(&log, page * PAGE, PAGE);
    return NULL;
}

static void two_threads_lose_no_mark_of_each_other(void **state)
{
    (void)state;
    struct marker markers[2] = {{0}, {1}};
    pthread_t threads[2];
    memset(shared_bits, 0, sizeof(shared_bits));
    assert_int_equal(pthread_barrier_init(&all_here, NULL, 2), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, mark_every_second, &markers[i]), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(pthread_barrier_destroy(&all_here), 0);
    for (size_t i = 0; i < SHARED_BYTES; i++)
        assert_int_equal(shared_bits[i], 0xff);
}

/* The front end: takes the marks while the device sets them. */
static void *take_marks(void *argument)
{
    uint8_t *taken = argument;
    pthread_barrier_wait(&all_here);
    for (int round = 0; round < 10; round++) {
        for (size_t i = 0; i < SHARED_BYTES; i++)
            taken[i] |= __atomic_exchange_n(&shared_bits[i], 0, __ATOMIC_ACQ_REL);
    }
    return NULL;
}

static void a_front_end_that_takes_marks_meanwhile_gets_each(void **state)
{
    (void)state;
    static uint8_t taken[SHARED_BYTES];
    struct marker markers[2] = {{0}, {1}};
    pthread_t threads[3];
    memset(shared_bits, 0, sizeof(shared_bits));
    assert_int_equal(pthread_barrier_init(&all_here, NULL, 3), 0);
    assert_int_equal(pthread_create(&threads[0], NULL, take_marks, taken), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[1 + i], NULL, mark_every_second, &markers[i]), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(pthread_barrier_destroy(&all_here), 0);
    for (size_t i = 0; i < SHARED_BYTES; i++)
        assert_int_equal(taken[i] | shared_bits[i], 0xff);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(marks_every_page_that_a_range_touches_and_no_other),
        cmocka_unit_test(a_single_byte_marks_its_page),
        cmocka_unit_test(no_bytes_mark_nothing),
        cmocka_unit_test(leaves_out_pages_past_the_end_of_the_log),
        cmocka_unit_test(a_range_past_the_last_address_does_not_begin_anew_at_zero),
        cmocka_unit_test(without_a_log_nothing_happens),
        cmocka_unit_test(keeps_the_marks_that_are_there),
        cmocka_unit_test(two_threads_lose_no_mark_of_each_other),
        cmocka_unit_test(a_front_end_that_takes_marks_meanwhile_gets_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
