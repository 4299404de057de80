/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "bench_rounds.h"

#include <stdlib.h>

/* Enough for the mean to stand, short enough for nobody to wait. */
#define LOOKS 100000

double bench_clock_cost_ns(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < LOOKS; i++) {
        uint64_t before = bench_now_ns();
        sum += bench_now_ns() - before;
    }
    return (double)sum / LOOKS;
}

static int compare_whole(const void *left, const void *right)
{
    const uint64_t *a = left, *b = right;
    return (*a > *b) - (*a < *b);
}

uint64_t bench_median(uint64_t *values, unsigned count)
{
    qsort(values, count, sizeof(values[0]), compare_whole);
    return values[count / 2];
}

static int compare(const void *left, const void *right)
{
    const double *a = left, *b = right;
    return (*a > *b) - (*a < *b);
}

double bench_rounds_median(struct bench_rounds *rounds)
{
    qsort(rounds->ns, rounds->count, sizeof(rounds->ns[0]), compare);
    return rounds->ns[rounds->count / 2];
}
