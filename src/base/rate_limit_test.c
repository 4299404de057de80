/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#define _POSIX_C_SOURCE 200809L /* barriers */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>

#include "base/rate_limit.h"

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)
#define START (5 * NS_PER_S) /* any time but 0 */

/* 1000 units a second, each worth a millisecond; 100 at once after a quiet time. */
static struct rate_limit given_limit(void)
{
    struct rate_limit limit;
    rate_limit_init(&limit, 1000, 100 * NS_PER_MS);
    return limit;
}

static uint64_t take_ones_until_refused(struct rate_limit *limit, uint64_t now_ns, uint64_t *ret_at_ns)
{
    uint64_t taken = 0;
    while (rate_limit_take(limit, 1, now_ns, ret_at_ns))
        taken++;
    return taken;
}

static void lets_everything_through_without_a_limit(void **state)
{
    (void)state;
    struct rate_limit limit;
    rate_limit_init(&limit, 0, 0);
    uint64_t at = 42;
    for (int i = 0; i < 1000; i++)
        assert_true(rate_limit_take(&limit, UINT64_MAX, START, &at));
    rate_limit_return(&limit, UINT64_MAX);
    assert_int_equal(at, 42);
}

static void lets_the_burst_go_at_once_and_no_more(void **state)
{
    (void)state;
    struct rate_limit limit = given_limit();
    uint64_t at = 0;
    assert_int_equal(take_ones_until_refused(&limit, START, &at), 100);
    assert_int_equal(at, START + 1);
}

static void takes_a_whole_burst_in_one_request(void **state)
{
    (void)state;
    struct rate_limit limit = given_limit();
    uint64_t at = 0;
    assert_true(rate_limit_take(&limit, 100, START, &at));
    assert_int_equal(at, 0);
    assert_false(rate_limit_take(&limit, 1, START, &at));
    assert_int_equal(at, START + 1);
}

static void lets_a_request_go_at_the_time_it_named_and_not_before(void **state)
{
    (void)state;
    struct rate_limit limit = given_limit();
    uint64_t at = 0;
    assert_true(rate_limit_take(&limit, 130, START, &at));
    assert_false(rate_limit_take(&limit, 30, START, &at));
    assert_int_equal(at, START + 30 * NS_PER_MS + 1);
    uint64_t again = 0;
    assert_false(rate_limit_take(&limit, 30, at - 1, &again));
    assert_int_equal(again, at);
    assert_true(rate_limit_take(&limit, 30, at, &again));
}

static void refusing_takes_nothing(void **state)
{
    (void)state;
    struct rate_limit limit = given_limit();
    uint64_t at = 0;
    take_ones_until_refused(&limit, START, &at);
    for (int i = 0; i < 50; i++)
        assert_false(rate_limit_take(&limit, 60, START, &at));
    assert_true(rate_limit_take(&limit, 60, START + 60 * NS_PER_MS, &at));
}

static void a_long_quiet_time_saves_up_the_burst_and_no_more(void **state)
{
    (void)state;
    struct rate_limit limit = given_limit();
    uint64_t at = 0;
    take_ones_until_refused(&limit, START, &at);
    assert_int_equal(take_ones_until_refused(&limit, START + 3600 * NS_PER_S, &at), 100);
}

static void a_request_greater_than_the_burst_goes_at_once_and_is_paid_for(void **state)
{
    (void)state;
    struct rate_limit limit = given_limit();
    uint64_t at = 0;
    assert_true(rate_limit_take(&limit, 1, START, &at));
    assert_true(rate_limit_take(&limit, 1000, START, &at));
    /* 1001 units are a second and a millisecond; the burst lets the next one go a tenth of a second before that. */
    assert_false(rate_limit_take(&limit, 1, START, &at));
    assert_int_equal(at, START + NS_PER_S + NS_PER_MS - 100 * NS_PER_MS + 1);
    assert_true(rate_limit_take(&limit, 1, at, &at));
}

/* Two queues share a limit: one has an endless stream of small requests, the other a large one, and asks last. */
static void a_large_request_does_not_starve_among_small_ones(void **state)
{
    (void)state;
    struct rate_limit limit = given_limit();
    uint64_t at = 0, small_at, large_at;
    take_ones_until_refused(&limit, START, &at);
    assert_false(rate_limit_take(&limit, 1, START, &small_at));
    assert_false(rate_limit_take(&limit, 5000, START, &large_at));
    assert_int_equal(small_at, large_at);
    /* Whoever is there first at that moment goes, and then it is the large one's turn to be early. */
    assert_true(rate_limit_take(&limit, 1, small_at, &at));
    assert_false(rate_limit_take(&limit, 5000, large_at, &large_at));
    assert_true(rate_limit_take(&limit, 5000, large_at, &at));
}

static void with_no_burst_requests_go_one_after_the_other(void **state)
{
    (void)state;
    struct rate_limit limit;
    rate_limit_init(&limit, 1000, 0);
    uint64_t at = 0;
    assert_true(rate_limit_take(&limit, 1, START, &at));
    assert_false(rate_limit_take(&limit, 1, START, &at));
    assert_int_equal(at, START + NS_PER_MS);
    assert_true(rate_limit_take(&limit, 1, at, &at));
}

static void what_is_given_back_can_be_taken_again(void **state)
{
    (void)state;
    struct rate_limit limit = given_limit();
    uint64_t at = 0;
    assert_true(rate_limit_take(&limit, 100, START, &at));
    rate_limit_return(&limit, 40);
    assert_true(rate_limit_take(&limit, 40, START, &at));
    assert_false(rate_limit_take(&limit, 1, START, &at));
    rate_limit_return(&limit, 100);
    assert_true(rate_limit_take(&limit, 100, START, &at));
}

static void giving_back_too_much_saves_up_nothing(void **state)
{
    (void)state;
    struct rate_limit limit = given_limit();
    uint64_t at = 0;
    rate_limit_return(&limit, UINT64_MAX);
    rate_limit_return(&limit, 1000);
    assert_int_equal(take_ones_until_refused(&limit, START, &at), 100);
}

static void an_odd_rate_gives_back_exactly_what_it_took(void **state)
{
    (void)state;
    struct rate_limit limit;
    rate_limit_init(&limit, 7, NS_PER_S);
    uint64_t at = 0;
    assert_true(rate_limit_take(&limit, 1, START, &at));
    uint64_t before = limit.next_ns;
    for (uint64_t units = 1; units < 6; units++) {
        assert_true(rate_limit_take(&limit, units, START, &at));
        rate_limit_return(&limit, units);
        assert_int_equal(limit.next_ns, before);
    }
}

static void never_goes_faster_than_the_rate(void **state)
{
    (void)state;
    const uint64_t rates[] = {7, 999, 1000003, 5000000000};
    for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
        struct rate_limit limit;
        rate_limit_init(&limit, rates[i], NS_PER_S / 4);
        uint64_t now = START, taken = 0, dice = 1;
        uint64_t ahead_max = rates[i] / 4 + rates[i] / 5 + 1; /* the burst, and one request */
        while (now < START + 10 * NS_PER_S) {
            dice = dice * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            uint64_t units = 1 + (dice >> 33) % (rates[i] / 5 + 1);
            uint64_t at = 0;
            if (rate_limit_take(&limit, units, now, &at)) {
                taken += units;
            } else {
                assert_true(at > now);
                now = at;
            }
            uint64_t elapsed = now - START;
            assert_true(taken <=
                        ahead_max + elapsed / NS_PER_S * rates[i] + elapsed % NS_PER_S * rates[i] / NS_PER_S + 1);
        }
        /* And it does reach the rate, but for what rounding costs. */
        assert_true(taken >= rates[i] * 98 / 10);
    }
}

static void the_greatest_numbers_do_not_overflow(void **state)
{
    (void)state;
    struct rate_limit limit;
    uint64_t at = 0;
    /* A second's worth, at the greatest rate there is: rounded by the bits that do not fit, and never downwards. */
    rate_limit_init(&limit, UINT64_MAX, 0);
    assert_true(rate_limit_take(&limit, UINT64_MAX - 1, START, &at));
    assert_false(rate_limit_take(&limit, 1, START, &at));
    assert_in_range(at, START + NS_PER_S, START + NS_PER_S + 2);
    assert_true(rate_limit_take(&limit, UINT64_MAX, at, &at));

    /* Five hundred years at a unit a second; the clock is not that long, so the debt is just never paid. */
    rate_limit_init(&limit, 1, NS_PER_S);
    assert_true(rate_limit_take(&limit, UINT64_MAX, START, &at));
    assert_false(rate_limit_take(&limit, 1, START, &at));
    assert_true(at > START);
    assert_false(rate_limit_take(&limit, UINT64_MAX, START + NS_PER_S, &at));
    assert_true(at > START + NS_PER_S);

    /* Here the product's low 64 bits would be 0. */
    rate_limit_init(&limit, 1, 0);
    assert_true(rate_limit_take(&limit, UINT64_C(1) << 63, START, &at));
    assert_false(rate_limit_take(&limit, 1, START + NS_PER_S, &at));

    /* A burst longer than the clock is no limit on what goes at once. */
    rate_limit_init(&limit, UINT64_MAX / 3, UINT64_MAX);
    for (int i = 0; i < 100; i++)
        assert_true(rate_limit_take(&limit, UINT64_MAX / 2, UINT64_MAX - 1, &at));
}

static void nothing_costs_nothing(void **state)
{
    (void)state;
    struct rate_limit limit = given_limit();
    uint64_t at = 0;
    assert_true(rate_limit_take(&limit, 5000, START, &at)); /* in debt, far beyond the burst */
    assert_true(rate_limit_take(&limit, 0, START, &at));
    assert_int_equal(at, 0);
}

#define THREAD_BURST 1000000 /* long enough that the threads meet */

struct taker {
    struct rate_limit *limit;
    pthread_barrier_t *both_here;
    uint64_t taken;
};

static void *take_all(void *argument)
{
    struct taker *taker = argument;
    uint64_t at;
    pthread_barrier_wait(taker->both_here);
    taker->taken = take_ones_until_refused(taker->limit, START, &at);
    return NULL;
}

static void two_threads_together_take_the_burst_and_no_more(void **state)
{
    (void)state;
    /* The clock stands still, so what may be taken is known exactly, whoever takes it. */
    struct rate_limit limit;
    rate_limit_init(&limit, NS_PER_MS, THREAD_BURST * UINT64_C(1000));
    pthread_barrier_t both_here;
    struct taker takers[2] = {{.limit = &limit, .both_here = &both_here}, {.limit = &limit, .both_here = &both_here}};
    pthread_t threads[2];
    assert_int_equal(pthread_barrier_init(&both_here, NULL, 2), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_all, &takers[i]), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(pthread_barrier_destroy(&both_here), 0);
    assert_int_equal(takers[0].taken + takers[1].taken, THREAD_BURST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lets_everything_through_without_a_limit),
        cmocka_unit_test(lets_the_burst_go_at_once_and_no_more),
        cmocka_unit_test(takes_a_whole_burst_in_one_request),
        cmocka_unit_test(lets_a_request_go_at_the_time_it_named_and_not_before),
        cmocka_unit_test(refusing_takes_nothing),
        cmocka_unit_test(a_long_quiet_time_saves_up_the_burst_and_no_more),
        cmocka_unit_test(a_request_greater_than_the_burst_goes_at_once_and_is_paid_for),
        cmocka_unit_test(a_large_request_does_not_starve_among_small_ones),
        cmocka_unit_test(with_no_burst_requests_go_one_after_the_other),
        cmocka_unit_test(what_is_given_back_can_be_taken_again),
        cmocka_unit_test(giving_back_too_much_saves_up_nothing),
        cmocka_unit_test(an_odd_rate_gives_back_exactly_what_it_took),
        cmocka_unit_test(never_goes_faster_than_the_rate),
        cmocka_unit_test(the_greatest_numbers_do_not_overflow),
        cmocka_unit_test(nothing_costs_nothing),
        cmocka_unit_test(two_threads_together_take_the_burst_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
