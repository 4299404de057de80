/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What vhost_bench is asked to measure. */
#ifndef BENCH_BENCH_OPTIONS_H
#define BENCH_BENCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Three descriptors each fit a ring of 1024, which every back end takes. */
#define BENCH_DEPTH_MAX 256
#define BENCH_QUEUES_MAX 64
#define BENCH_REQUEST_BYTES_MAX (1u << 20)

/* Exit statuses: as everywhere, and one for a back end that has not got what was asked for. */
#define BENCH_EXIT_FAILED 1
#define BENCH_EXIT_USAGE 2
#define BENCH_EXIT_LACKS 3

enum bench_op { BENCH_READ, BENCH_WRITE, BENCH_RANDREAD, BENCH_RANDWRITE };

struct bench_options {
    const char *socket_path; /* NULL with ceiling */
    pid_t pid;
    bool ceiling;           /* the other side is a copy loop in this process */
    int ceiling_processor;  /* -1: wherever */
    unsigned ceiling_batch; /* requests that the copy loop waits for */
    int processors[BENCH_QUEUES_MAX];
    unsigned processor_count; /* 0: wherever */
    bool packed;
    bool poll; /* look at the used ring instead of waiting for the call line */
    unsigned depth;
    unsigned burst; /* show so many requests at a time; 0: as they come */
    unsigned queues;
    uint32_t request_bytes;
    enum bench_op op;
    uint64_t disk_bytes;
    uint64_t gap_ns; /* between a completion and the request that takes its place */
    double seconds;
    double warm_up_seconds;
};

/* Ends the program with BENCH_EXIT_USAGE and a word on standard error if it cannot be. */
struct bench_options bench_options_parse(int argc, char **argv);

const char *bench_op_name(enum bench_op op);

static inline bool bench_op_writes(enum bench_op op)
{
    return op == BENCH_WRITE || op == BENCH_RANDWRITE;
}

static inline bool bench_op_random(enum bench_op op)
{
    return op == BENCH_RANDREAD || op == BENCH_RANDWRITE;
}

#endif
