/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Short pieces of work timed one by one, with what prepares each of them left out: the clock is read right before and
 * right after, and what reading it costs by itself is taken off. A round is the median of many such turns, so that one
 * in which the system took the processor away does not count; what is reported is the median of the rounds, and how far
 * they lie apart.
 */
#ifndef BENCH_BENCH_ROUNDS_H
#define BENCH_BENCH_ROUNDS_H

#include <stdint.h>
#include <time.h>

#define BENCH_ROUNDS_MAX 1000

struct bench_rounds {
    double ns[BENCH_ROUNDS_MAX];
    unsigned count;
};

static inline uint64_t bench_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* What two looks at the clock with nothing between them say, on average. */
double bench_clock_cost_ns(void);

/* The middle of @count values; sorts them. */
uint64_t bench_median(uint64_t *values, unsigned count);
double bench_rounds_median(struct bench_rounds *rounds);

#endif
