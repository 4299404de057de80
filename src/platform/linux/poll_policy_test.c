/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The policy's arithmetic, on a clock that is a number. A driver is played by how long after the queue went idle its
 * next request comes when the queue looks on; when it sleeps, waking takes longer by WAKE_NS.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "platform/linux/poll_policy.h"

#define PRICE_NS 8000u
#define WAKE_NS 25000u
/* Never while we look: the driver shares our processor. When we sleep it needs so long. */
#define NOT_WHILE_LOOKING UINT64_MAX
#define SHARED_GAP_NS 6000u

struct played {
    struct poll_policy policy;
    uint64_t requests, sleeps, looks, found;
    uint64_t looked_ns, longest_ns;
};

static struct played given_a_policy(void)
{
    struct played played = {.requests = 0};
    poll_policy_init(&played.policy);
    for (unsigned i = 0; i < POLL_SAMPLES_FIRST; i++)
        poll_policy_price(&played.policy, PRICE_NS);
    assert_int_equal(played.policy.price_ns, PRICE_NS);
    return played;
}

static void sleep_for(struct played *played, uint64_t slept_ns)
{
    played->sleeps++;
    poll_policy_slept(&played->policy, slept_ns);
}

/* One request that comes @gap_ns after the one before it was served. */
static void request(struct played *played, uint64_t gap_ns)
{
    uint32_t look_ns = poll_policy_look_ns(&played->policy);
    uint64_t left_ns = gap_ns == NOT_WHILE_LOOKING ? SHARED_GAP_NS : gap_ns + WAKE_NS;
    played->requests++;
    if (look_ns > 0) {
        bool found = gap_ns <= look_ns;
        uint64_t looked_ns = found ? gap_ns : look_ns;
        played->looks++;
        played->found += found;
        played->looked_ns += looked_ns;
        if (looked_ns > played->longest_ns)
            played->longest_ns = looked_ns;
        poll_policy_looked(&played->policy, looked_ns, found);
        if (found)
            return;
        if (gap_ns != NOT_WHILE_LOOKING)
            left_ns -= look_ns;
    }
    sleep_for(played, left_ns);
}

static void requests(struct played *played, unsigned count, uint64_t gap_ns)
{
    while (count-- > 0)
        request(played, gap_ns);
}

/* What it all cost, and what it would have cost to sleep each time. */
static uint64_t cost_ns(const struct played *played)
{
    return played->looked_ns + played->sleeps * PRICE_NS;
}

static uint64_t event_driven_ns(const struct played *played)
{
    return played->requests * PRICE_NS;
}

static void what_never_slept_for_a_short_while_does_not_look(void **state)
{
    (void)state;
    struct played played = given_a_policy();
    assert_int_equal(poll_policy_look_ns(&played.policy), 0);
    sleep_for(&played, POLL_LOOK_NS_MAX + 1);
    assert_int_equal(poll_policy_look_ns(&played.policy), 0);
    sleep_for(&played, POLL_LOOK_NS_MAX);
    assert_int_equal(poll_policy_look_ns(&played.policy), POLL_LOOK_NS_MAX);
    sleep_for(&played, POLL_LOOK_NS_MAX + 1);
    assert_int_equal(poll_policy_look_ns(&played.policy), 0);
}

static void a_look_lasts_as_long_as_the_sleep_did_and_at_least_its_price(void **state)
{
    (void)state;
    struct played played = given_a_policy();
    sleep_for(&played, 60000);
    assert_int_equal(poll_policy_look_ns(&played.policy), 60000);
    sleep_for(&played, 20000);
    assert_int_equal(poll_policy_look_ns(&played.policy), 30000); /* not less than half of the last one */
    for (unsigned i = 0; i < 10; i++)
        sleep_for(&played, 0);
    assert_int_equal(poll_policy_look_ns(&played.policy), PRICE_NS);
}

static void the_length_of_looks_follows_what_they_find(void **state)
{
    (void)state;
    struct played played = given_a_policy();
    sleep_for(&played, 100000);
    request(&played, 1000);
    assert_int_equal(poll_policy_look_ns(&played.policy), 100000 - 100000 / 8);
    requests(&played, 40, 1000);
    assert_int_equal(poll_policy_look_ns(&played.policy), PRICE_NS);
    request(&played, 7000);
    assert_int_equal(poll_policy_look_ns(&played.policy), 14000);
    assert_int_equal(played.sleeps, 1);
}

static void a_driver_that_is_quick_is_looked_for_every_time(void **state)
{
    (void)state;
    struct played played = given_a_policy();
    requests(&played, 100000, 500);
    assert_int_equal(played.sleeps, 1); /* the first, from which it learned */
    assert_int_equal(played.found, 99999);
    assert_true(cost_ns(&played) < event_driven_ns(&played) / 10);
}

/*
 * A driver that sleeps too: its answer to the first look takes as long as waking it does, far more than the price. From
 * then on both are awake.
 */
static void a_driver_that_has_to_be_woken_first_is_met(void **state)
{
    (void)state;
    struct played played = given_a_policy();
    request(&played, 30000);
    request(&played, 30000);
    requests(&played, 1000, 500);
    assert_int_equal(played.sleeps, 1);
    assert_int_equal(played.policy.share_shift, 0);
}

static void one_request_a_millisecond_costs_no_look(void **state)
{
    (void)state;
    struct played played = given_a_policy();
    requests(&played, 10000, 1000000);
    assert_int_equal(played.looks, 0);
    requests(&played, 100, 500);
    requests(&played, 10000, 1000000);
    assert_in_range(played.looked_ns, 1, 100 * 500 + POLL_LOOK_NS_MAX); /* one look after the busy time */
}

static void a_driver_on_our_own_processor_costs_a_sixty_fourth(void **state)
{
    (void)state;
    struct played played = given_a_policy();
    requests(&played, 10000, NOT_WHILE_LOOKING);
    uint64_t learning_ns = played.looked_ns;
    assert_true(learning_ns <= POLL_CREDIT_NS_MAX + 10000 * PRICE_NS / 16);
    assert_int_equal(played.policy.share_shift, POLL_SHARE_SHIFT_MAX);
    requests(&played, 100000, NOT_WHILE_LOOKING);
    uint64_t vain_ns = played.looked_ns - learning_ns;
    assert_true(vain_ns > 0); /* or it would not notice that the driver has moved */
    assert_true(vain_ns <= UINT64_C(100000) * PRICE_NS / 64 + PRICE_NS);
}

static void it_notices_that_the_driver_has_moved_to_another_processor(void **state)
{
    (void)state;
    struct played played = given_a_policy();
    requests(&played, 10000, NOT_WHILE_LOOKING);
    uint64_t before = played.sleeps;
    requests(&played, 10000, 500);
    /* So many sleeps earn the longest look there can be after such sleeps, at a sixty-fourth each. */
    assert_in_range(played.sleeps - before, 1, 64 * (WAKE_NS + 500) / PRICE_NS + 1);
    assert_int_equal(played.policy.share_shift, 0);
}

/* A look that is met after five prices costs more than the sleep did, for both sides: it is not what looks are for. */
static void a_driver_that_thinks_for_longer_than_a_sleep_costs_is_left_alone(void **state)
{
    (void)state;
    struct played played = given_a_policy();
    requests(&played, 1000, 5 * PRICE_NS);
    assert_int_equal(played.policy.share_shift, POLL_SHARE_SHIFT_MAX);
    uint64_t before_ns = cost_ns(&played);
    requests(&played, 100000, 5 * PRICE_NS);
    assert_true(cost_ns(&played) - before_ns <= UINT64_C(100000) * PRICE_NS * 65 / 64 + POLL_LOOK_NS_MAX);
}

static void bursts_with_pauses_between_cost_less_than_sleeping(void **state)
{
    (void)state;
    struct played played = given_a_policy();
    for (unsigned i = 0; i < 1000; i++) {
        requests(&played, 20, 1000);
        request(&played, 10000000);
    }
    assert_true(cost_ns(&played) < event_driven_ns(&played) * 2 / 3);
    assert_true(played.sleeps <= 1000 * 2 + 1); /* at the pause, and the one that shows that it is over */
}

static uint32_t random_state;

static uint32_t random_below(uint32_t limit)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)random_state * limit) >> 32);
}

/* Gaps from nothing to 2^18 ns, each power of two as likely; now and then the driver shares our processor. */
static uint64_t random_gap_ns(void)
{
    if (random_below(8) == 0)
        return NOT_WHILE_LOOKING;
    return random_below(1u << random_below(19));
}

static void whatever_comes_costs_at_most_twice_what_sleeping_does(void **state)
{
    (void)state;
    for (random_state = 1; random_state < 50; random_state++) {
        uint32_t seed = random_state;
        struct played played = given_a_policy();
        for (unsigned i = 0; i < 20000; i++) {
            uint64_t gap_ns = random_gap_ns();
            requests(&played, 1 + random_below(50), gap_ns);
            assert_true(cost_ns(&played) <= 2 * event_driven_ns(&played) + POLL_CREDIT_NS_MAX);
        }
        assert_true(played.longest_ns <= POLL_LOOK_NS_MAX);
        assert_true(played.looks > 0);
        random_state = seed;
    }
}

static void a_look_that_was_interrupted_for_long_costs_no_more_than_there_is(void **state)
{
    (void)state;
    struct played played = given_a_policy();
    sleep_for(&played, 1000);
    poll_policy_looked(&played.policy, UINT64_C(1) << 40, true); /* somebody else had our processor */
    assert_int_equal(played.policy.credit_ns, 0);
    assert_int_equal(poll_policy_look_ns(&played.policy), 0);
    sleep_for(&played, UINT64_C(1) << 40);
    sleep_for(&played, 1000);
    assert_int_equal(played.policy.credit_ns, PRICE_NS / 2 * 2);
    assert_int_equal(poll_policy_look_ns(&played.policy), PRICE_NS);
}

static void the_price_is_the_mean_of_the_first_samples_and_follows_slowly(void **state)
{
    (void)state;
    struct poll_policy policy;
    poll_policy_init(&policy);
    poll_policy_price(&policy, 4000);
    assert_int_equal(policy.price_ns, 4000);
    poll_policy_price(&policy, 8000);
    assert_int_equal(policy.price_ns, 6000);
    for (unsigned i = 2; i < POLL_SAMPLES_FIRST; i++)
        poll_policy_price(&policy, 6000);
    poll_policy_price(&policy, 14000);
    assert_int_equal(policy.price_ns, 7000);
}

static void a_price_that_cannot_be_is_not_believed(void **state)
{
    (void)state;
    struct poll_policy policy;
    poll_policy_init(&policy);
    poll_policy_price(&policy, UINT64_MAX);
    assert_int_equal(policy.price_ns, POLL_PRICE_NS_MAX);
    poll_policy_init(&policy);
    poll_policy_price(&policy, 1);
    assert_int_equal(policy.price_ns, POLL_PRICE_NS_MIN);
}

static void the_price_is_measured_at_first_and_now_and_then(void **state)
{
    (void)state;
    struct poll_policy policy;
    poll_policy_init(&policy);
    for (unsigned i = 0; i < POLL_SAMPLES_FIRST; i++) {
        assert_true(poll_policy_wants_price(&policy));
        poll_policy_price(&policy, PRICE_NS);
    }
    unsigned wanted = 0;
    for (unsigned i = 0; i < 10 * POLL_SAMPLE_EVERY; i++)
        wanted += poll_policy_wants_price(&policy);
    assert_int_equal(wanted, 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_never_slept_for_a_short_while_does_not_look),
        cmocka_unit_test(a_look_lasts_as_long_as_the_sleep_did_and_at_least_its_price),
        cmocka_unit_test(the_length_of_looks_follows_what_they_find),
        cmocka_unit_test(a_driver_that_is_quick_is_looked_for_every_time),
        cmocka_unit_test(a_driver_that_has_to_be_woken_first_is_met),
        cmocka_unit_test(one_request_a_millisecond_costs_no_look),
        cmocka_unit_test(a_driver_on_our_own_processor_costs_a_sixty_fourth),
        cmocka_unit_test(it_notices_that_the_driver_has_moved_to_another_processor),
        cmocka_unit_test(a_driver_that_thinks_for_longer_than_a_sleep_costs_is_left_alone),
        cmocka_unit_test(bursts_with_pauses_between_cost_less_than_sleeping),
        cmocka_unit_test(whatever_comes_costs_at_most_twice_what_sleeping_does),
        cmocka_unit_test(a_look_that_was_interrupted_for_long_costs_no_more_than_there_is),
        cmocka_unit_test(the_price_is_the_mean_of_the_first_samples_and_follows_slowly),
        cmocka_unit_test(a_price_that_cannot_be_is_not_believed),
        cmocka_unit_test(the_price_is_measured_at_first_and_now_and_then),
    };
    return cmocka_run_group_tests_name("poll_policy", tests, NULL, NULL);
}
