/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The histogram: percentiles are where they should be, to within a bucket. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "bench_histogram.h"

static struct bench_histogram histogram, other;

static int clear(void **state)
{
    (void)state;
    memset(&histogram, 0, sizeof(histogram));
    memset(&other, 0, sizeof(other));
    return 0;
}

/* @value is within 1/64 of @wanted. */
static void assert_near(uint64_t value, uint64_t wanted)
{
    assert_in_range(value, wanted - wanted / 64, wanted + wanted / 64);
}

static void one_value_is_every_percentile(void **state)
{
    (void)state;
    static const uint64_t values[] = {0, 1, 63, 64, 65, 127, 128, 1000, 22600, 1000000000};
    for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        clear(NULL);
        bench_histogram_add(&histogram, values[i]);
        assert_near(bench_histogram_percentile(&histogram, 0.5), values[i]);
        assert_near(bench_histogram_percentile(&histogram, 0.999), values[i]);
    }
}

static void percentiles_divide_the_values(void **state)
{
    (void)state;
    for (uint64_t value = 1; value <= 10000; value++)
        bench_histogram_add(&histogram, value);
    assert_near(bench_histogram_percentile(&histogram, 0.5), 5000);
    assert_near(bench_histogram_percentile(&histogram, 0.99), 9900);
    assert_near(bench_histogram_percentile(&histogram, 0.999), 9990);
    assert_near(bench_histogram_percentile(&histogram, 1), 10000);
}

static void one_slow_value_in_a_thousand_is_seen_by_the_last_percentile_alone(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 9980; i++)
        bench_histogram_add(&histogram, 400);
    for (unsigned i = 0; i < 20; i++)
        bench_histogram_add(&histogram, 5000000);
    assert_near(bench_histogram_percentile(&histogram, 0.99), 400);
    assert_near(bench_histogram_percentile(&histogram, 0.999), 5000000);
}

static void what_is_larger_than_the_last_bucket_is_in_it(void **state)
{
    (void)state;
    bench_histogram_add(&histogram, UINT64_MAX);
    assert_true(bench_histogram_percentile(&histogram, 0.5) > UINT64_C(1) << 40);
}

static void two_histograms_add_up(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 10; i++) {
        bench_histogram_add(&histogram, 100);
        bench_histogram_add(&other, 100000);
    }
    bench_histogram_merge(&histogram, &other);
    assert_int_equal(histogram.total, 20);
    assert_near(bench_histogram_percentile(&histogram, 0.5), 100);
    assert_near(bench_histogram_percentile(&histogram, 0.51), 100000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(one_value_is_every_percentile, clear),
        cmocka_unit_test_setup(percentiles_divide_the_values, clear),
        cmocka_unit_test_setup(one_slow_value_in_a_thousand_is_seen_by_the_last_percentile_alone, clear),
        cmocka_unit_test_setup(what_is_larger_than_the_last_bucket_is_in_it, clear),
        cmocka_unit_test_setup(two_histograms_add_up, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
