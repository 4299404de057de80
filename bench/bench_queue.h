/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * One queue, driven: a fixed number of disk requests in flight, each taken up again as soon as it has come back, or
 * after a gap. What is on the other side does not matter here: a vhost-user back end, or a copy loop.
 *
 * A queue is driven by one thread. A failure ends the program: there is nothing to measure then.
 */
#ifndef BENCH_BENCH_QUEUE_H
#define BENCH_BENCH_QUEUE_H

#include "bench_histogram.h"
#include "bench_options.h"
#include "fake_driver.h"

#define BENCH_TIMEOUT_MS 30000

/* Where a queue's parts are in its share of guest memory. */
#define BENCH_RING_OFFSET 0x0
#define BENCH_SLOTS_OFFSET 0x20000
#define BENCH_DATA_OFFSET 0x40000

/* Beside its data, so that header and status come and go in one cache line, as with drivers of operating systems. */
struct bench_slot {
    _Alignas(64) uint8_t header[16];
    uint8_t status;
};

/* Header, data, status. */
#define BENCH_PIECES 3

struct bench_counts {
    uint64_t requests;
    uint64_t kicks;
    uint64_t waits;
    uint64_t elapsed_ns;
    uint64_t driver_cpu_ns;
};

struct bench_queue {
    const struct bench_options *options; /* borrowed */
    struct fake_driver *driver;          /* borrowed */
    struct bench_slot *slots;            /* [depth], in guest memory */
    uint64_t slots_address;
    uint64_t data_address;
    int kick, call;      /* eventfds, borrowed */
    bool status_checked; /* a copy loop writes none */
    struct fake_piece pieces[BENCH_DEPTH_MAX][BENCH_PIECES];
    /* which place of the disk is next */
    uint64_t first_block, block_count, next_block;
    uint64_t random;
    /* slots that have nothing in flight, in the order in which they came back */
    uint32_t idle_first, idle_count;
    uint16_t idle[BENCH_DEPTH_MAX];
    uint64_t due_ns[BENCH_DEPTH_MAX]; /* with a gap: when slot i may go again */
    /* latency: every sample_every-th request, from its being shown to its being seen */
    uint32_t sample_every, sample_left;
    uint64_t shown_ns[BENCH_DEPTH_MAX]; /* 0: this one is not sampled */
    uint32_t unshown;                   /* added, not yet shown */
    uint16_t rearm_left;                /* completions until interrupts are turned off once more */
    uint16_t slot_of_head[VRING_SIZE_MAX];
    struct bench_counts counts;
    struct bench_histogram histogram;
};

/* Entries of the ring for @options. */
uint32_t bench_ring_size(const struct bench_options *options);

/* Guest memory that each queue needs, a multiple of 4 KiB. */
uint64_t bench_queue_bytes(const struct bench_options *options);

/*
 * Queue number @index: its @driver has an empty ring, its share of @memory begins at guest address @base. The caller's
 * @queue is zeroed here.
 */
void bench_queue_init(struct bench_queue *queue, const struct bench_options *options, unsigned index,
                      struct fake_driver *driver, const struct fake_memory *memory, uint64_t base);

/*
 * Drive until the monotonic clock says @deadline_ns and something has been counted; the first time with nothing in
 * flight.
 */
void bench_queue_run(struct bench_queue *queue, uint64_t deadline_ns);

/* Forget what has been counted so far. */
void bench_queue_forget(struct bench_queue *queue);

uint64_t bench_clock_ns(void);

/* Ends the program: @what failed with the negative errno @error. */
_Noreturn void bench_die(const char *what, int error);

#endif
