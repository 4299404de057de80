/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * How often each time occurred, in buckets that are 1/64 of their value wide: percentiles to within 1.6 %, whatever the
 * number of samples, in a fixed amount of memory.
 */
#ifndef BENCH_BENCH_HISTOGRAM_H
#define BENCH_BENCH_HISTOGRAM_H

#include <stdint.h>

#define BENCH_HISTOGRAM_PARTS 64  /* buckets for each power of two */
#define BENCH_HISTOGRAM_POWERS 40 /* up to some hours in ns */
#define BENCH_HISTOGRAM_BUCKETS (BENCH_HISTOGRAM_PARTS * BENCH_HISTOGRAM_POWERS)

struct bench_histogram {
    uint64_t total;
    uint32_t counts[BENCH_HISTOGRAM_BUCKETS];
};

void bench_histogram_add(struct bench_histogram *histogram, uint64_t value);
void bench_histogram_merge(struct bench_histogram *histogram, const struct bench_histogram *other);

/* The smallest value that is not below @part (0 to 1) of all values, as its bucket's middle. There is at least one. */
uint64_t bench_histogram_percentile(const struct bench_histogram *histogram, double part);

#endif
