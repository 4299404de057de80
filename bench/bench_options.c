/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#define _GNU_SOURCE
#include "bench_options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR_BYTES 512
#define HOUR_S 3600

static const char usage[] =
    "usage: vhost_bench --socket-path=PATH --pid=PID [OPTION...]    measure the back end at PATH, process PID\n"
    "       vhost_bench --ceiling [--ceiling-processor=N] [--ceiling-batch=1] [OPTION...]    the driver itself\n"
    "  --ring=split|packed  --wait=event|poll  --depth=32  --burst=N  --queues=1  --processors=N,N,...\n"
    "  --op=read|write|randread|randwrite  --request-bytes=4096  --disk-bytes=1073741824  --gap-ns=0\n"
    "  --seconds=1  --warm-up-seconds=0.1\n";

static const char *const op_names[] = {
    [BENCH_READ] = "read",
    [BENCH_WRITE] = "write",
    [BENCH_RANDREAD] = "randread",
    [BENCH_RANDWRITE] = "randwrite",
};

const char *bench_op_name(enum bench_op op)
{
    return op_names[op];
}

static _Noreturn void wrong(const char *format, ...) __attribute__((format(printf, 1, 2)));

static _Noreturn void wrong(const char *format, ...)
{
    va_list arguments;
    fputs("vhost_bench: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(BENCH_EXIT_USAGE);
}

static uint64_t number(const char *name, const char *text, uint64_t min, uint64_t max)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 || value < min || value > max)
        wrong("--%s=%s: not a number from %llu to %llu", name, text, (unsigned long long)min, (unsigned long long)max);
    return value;
}

static double duration(const char *name, const char *text, double min)
{
    char *end;
    double value = strtod(text, &end);
    if (*text == '\0' || *end != '\0' || !isfinite(value) || value < min || value > HOUR_S)
        wrong("--%s=%s: not a number of seconds from %g to %d", name, text, min, HOUR_S);
    return value;
}

/* Which of @count names @text is. */
static unsigned choice(const char *name, const char *text, const char *const *names, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(text, names[i]) == 0)
            return i;
    }
    wrong("--%s=%s: no such choice", name, text);
}

static int processor(const char *name, const char *text)
{
    return (int)number(name, text, 0, CPU_SETSIZE - 1);
}

static void processors(struct bench_options *options, const char *name, char *list)
{
    char *rest = NULL;
    options->processor_count = 0;
    for (char *item = strtok_r(list, ",", &rest); item != NULL; item = strtok_r(NULL, ",", &rest)) {
        if (options->processor_count == BENCH_QUEUES_MAX)
            wrong("--%s: more than %d", name, BENCH_QUEUES_MAX);
        options->processors[options->processor_count++] = processor(name, item);
    }
    if (options->processor_count == 0)
        wrong("--%s: names no processor", name);
}

static void check(const struct bench_options *options)
{
    if (!options->ceiling && (options->socket_path == NULL || options->pid == 0)) {
        fputs(usage, stderr);
        exit(BENCH_EXIT_USAGE);
    }
    if (options->ceiling && options->socket_path != NULL)
        wrong("--ceiling and --socket-path exclude each other");
    if (options->request_bytes % SECTOR_BYTES != 0)
        wrong("--request-bytes=%u: not a multiple of %d", options->request_bytes, SECTOR_BYTES);
    if (options->disk_bytes / options->queues < options->request_bytes)
        wrong("--disk-bytes=%llu: less than one request for each queue", (unsigned long long)options->disk_bytes);
    if (options->ceiling_batch > options->depth)
        wrong("--ceiling-batch=%u: more than the depth of %u", options->ceiling_batch, options->depth);
    if (options->burst > options->depth)
        wrong("--burst=%u: more than the depth of %u", options->burst, options->depth);
}

enum option_name {
    OPTION_SOCKET_PATH,
    OPTION_PID,
    OPTION_CEILING,
    OPTION_CEILING_PROCESSOR,
    OPTION_CEILING_BATCH,
    OPTION_PROCESSORS,
    OPTION_RING,
    OPTION_WAIT,
    OPTION_DEPTH,
    OPTION_BURST,
    OPTION_QUEUES,
    OPTION_OP,
    OPTION_REQUEST_BYTES,
    OPTION_DISK_BYTES,
    OPTION_GAP_NS,
    OPTION_SECONDS,
    OPTION_WARM_UP_SECONDS,
};

static void take(struct bench_options *options, enum option_name option, const char *name, char *text)
{
    static const char *const rings[] = {"split", "packed"}, *const waits[] = {"event", "poll"};
    switch (option) {
    case OPTION_SOCKET_PATH:
        options->socket_path = text;
        break;
    case OPTION_PID:
        options->pid = (pid_t)number(name, text, 1, INT32_MAX);
        break;
    case OPTION_CEILING:
        options->ceiling = true;
        break;
    case OPTION_CEILING_PROCESSOR:
        options->ceiling_processor = processor(name, text);
        break;
    case OPTION_CEILING_BATCH:
        options->ceiling_batch = (unsigned)number(name, text, 1, BENCH_DEPTH_MAX);
        break;
    case OPTION_PROCESSORS:
        processors(options, name, text);
        break;
    case OPTION_RING:
        options->packed = choice(name, text, rings, 2) == 1;
        break;
    case OPTION_WAIT:
        options->poll = choice(name, text, waits, 2) == 1;
        break;
    case OPTION_DEPTH:
        options->depth = (unsigned)number(name, text, 1, BENCH_DEPTH_MAX);
        break;
    case OPTION_BURST:
        options->burst = (unsigned)number(name, text, 1, BENCH_DEPTH_MAX);
        break;
    case OPTION_QUEUES:
        options->queues = (unsigned)number(name, text, 1, BENCH_QUEUES_MAX);
        break;
    case OPTION_OP:
        options->op = (enum bench_op)choice(name, text, op_names, sizeof(op_names) / sizeof(op_names[0]));
        break;
    case OPTION_REQUEST_BYTES:
        options->request_bytes = (uint32_t)number(name, text, SECTOR_BYTES, BENCH_REQUEST_BYTES_MAX);
        break;
    case OPTION_DISK_BYTES:
        options->disk_bytes = number(name, text, SECTOR_BYTES, INT64_MAX);
        break;
    case OPTION_GAP_NS:
        options->gap_ns = number(name, text, 0, UINT64_C(60000000000));
        break;
    case OPTION_SECONDS:
        options->seconds = duration(name, text, 0.001);
        break;
    case OPTION_WARM_UP_SECONDS:
        options->warm_up_seconds = duration(name, text, 0);
        break;
    }
}

struct bench_options bench_options_parse(int argc, char **argv)
{
    static const struct option names[] = {
        [OPTION_SOCKET_PATH] = {"socket-path", required_argument, NULL, 0},
        [OPTION_PID] = {"pid", required_argument, NULL, 0},
        [OPTION_CEILING] = {"ceiling", no_argument, NULL, 0},
        [OPTION_CEILING_PROCESSOR] = {"ceiling-processor", required_argument, NULL, 0},
        [OPTION_CEILING_BATCH] = {"ceiling-batch", required_argument, NULL, 0},
        [OPTION_PROCESSORS] = {"processors", required_argument, NULL, 0},
        [OPTION_RING] = {"ring", required_argument, NULL, 0},
        [OPTION_WAIT] = {"wait", required_argument, NULL, 0},
        [OPTION_DEPTH] = {"depth", required_argument, NULL, 0},
        [OPTION_BURST] = {"burst", required_argument, NULL, 0},
        [OPTION_QUEUES] = {"queues", required_argument, NULL, 0},
        [OPTION_OP] = {"op", required_argument, NULL, 0},
        [OPTION_REQUEST_BYTES] = {"request-bytes", required_argument, NULL, 0},
        [OPTION_DISK_BYTES] = {"disk-bytes", required_argument, NULL, 0},
        [OPTION_GAP_NS] = {"gap-ns", required_argument, NULL, 0},
        [OPTION_SECONDS] = {"seconds", required_argument, NULL, 0},
        [OPTION_WARM_UP_SECONDS] = {"warm-up-seconds", required_argument, NULL, 0},
        {NULL, 0, NULL, 0},
    };
    struct bench_options options = {
        .ceiling_processor = -1,
        .ceiling_batch = 1,
        .depth = 32,
        .queues = 1,
        .request_bytes = 4096,
        .disk_bytes = UINT64_C(1) << 30,
        .seconds = 1,
        .warm_up_seconds = -1,
    };
    int index, r;
    while ((r = getopt_long(argc, argv, "", names, &index)) != -1) {
        if (r != 0)
            exit(BENCH_EXIT_USAGE);
        take(&options, (enum option_name)index, names[index].name, optarg);
    }
    if (optind < argc)
        wrong("%s: not an option", argv[optind]);
    if (options.warm_up_seconds < 0)
        options.warm_up_seconds = options.seconds / 10;
    check(&options);
    return options;
}
