/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Prints how fast the processor's time stamp counter runs, in kHz, against the clock that nobody adjusts.
 *
 * An emulated machine sees the host's counter, and measures its speed against an emulated timer: on a busy host it is
 * wrong by a factor, and so are all of its clocks then. It is told this number instead.
 *
 * Each reading of the clock is taken between two of the counter, and the closest of many pairs counts, since the
 * process can be interrupted between them.
 */
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

#define MEASURE_NS 100000000ull /* 100 ms: an error of a microsecond at each end is 20 parts in a million */
#define READINGS 100

struct moment {
    uint64_t clock_ns, counter;
};

static struct moment moment_now(void)
{
    struct moment best = {0};
    uint64_t best_width = UINT64_MAX;
    for (unsigned i = 0; i < READINGS; i++) {
        struct timespec now;
        uint64_t before = __rdtsc();
        clock_gettime(CLOCK_MONOTONIC_RAW, &now);
        uint64_t width = __rdtsc() - before;
        if (width < best_width) {
            best_width = width;
            best.clock_ns = (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
            best.counter = before + width / 2;
        }
    }
    return best;
}

int main(void)
{
    const struct moment begin = moment_now();
    struct moment end;
    do {
        end = moment_now();
    } while (end.clock_ns - begin.clock_ns < MEASURE_NS);
    printf("%.0f\n", (double)(end.counter - begin.counter) * 1e6 / (double)(end.clock_ns - begin.clock_ns));
    return 0;
}
