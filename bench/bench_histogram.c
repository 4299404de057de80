/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "bench_histogram.h"

#include <math.h>

/* log2 of BENCH_HISTOGRAM_PARTS */
#define PARTS_SHIFT 6

/* Values below PARTS have a bucket each; above, the six bits behind the leading one choose within its power of two. */
static unsigned bucket_of(uint64_t value)
{
    if (value < BENCH_HISTOGRAM_PARTS)
        return (unsigned)value;
    unsigned shift = 63 - (unsigned)__builtin_clzll(value) - PARTS_SHIFT;
    uint64_t bucket = (uint64_t)(shift + 1) * BENCH_HISTOGRAM_PARTS + ((value >> shift) - BENCH_HISTOGRAM_PARTS);
    return bucket < BENCH_HISTOGRAM_BUCKETS ? (unsigned)bucket : BENCH_HISTOGRAM_BUCKETS - 1;
}

static uint64_t middle_of(unsigned bucket)
{
    if (bucket < BENCH_HISTOGRAM_PARTS)
        return bucket;
    unsigned shift = bucket / BENCH_HISTOGRAM_PARTS - 1;
    uint64_t first = (uint64_t)(bucket % BENCH_HISTOGRAM_PARTS + BENCH_HISTOGRAM_PARTS) << shift;
    return first + (UINT64_C(1) << shift) / 2;
}

void bench_histogram_add(struct bench_histogram *histogram, uint64_t value)
{
    histogram->counts[bucket_of(value)]++;
    histogram->total++;
}

void bench_histogram_merge(struct bench_histogram *histogram, const struct bench_histogram *other)
{
    for (unsigned i = 0; i < BENCH_HISTOGRAM_BUCKETS; i++)
        histogram->counts[i] += other->counts[i];
    histogram->total += other->total;
}

uint64_t bench_histogram_percentile(const struct bench_histogram *histogram, double part)
{
    uint64_t wanted = (uint64_t)ceil(part * (double)histogram->total);
    uint64_t seen = 0;
    unsigned last = 0;
    for (unsigned i = 0; i < BENCH_HISTOGRAM_BUCKETS; i++) {
        if (histogram->counts[i] == 0)
            continue;
        last = i;
        seen += histogram->counts[i];
        if (seen >= wanted)
            break;
    }
    return middle_of(last);
}
