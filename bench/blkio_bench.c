/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A second driver: libblkio's virtio-blk-vhost-user. usage: blkio_bench SOCKET PID DEPTH SECONDS
 *
 * Reads of 4 KiB, DEPTH in flight on one queue, each sent again as it comes back, to places that differ. Waits in
 * libblkio, which sleeps on the call line. Prints one JSON object: what vhost_bench prints, as far as libblkio knows.
 *
 * Debian has libblkio without its own bench, so this is ours; the ring's driver is wholly libblkio's.
 */
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>

#include <blkio.h> /* after <signal.h> and <time.h>, whose types it uses */

#define BLOCK_BYTES 4096u
#define DEPTH_MAX 256u
#define PATIENCE_S 30
/* An odd factor visits every block once, in an order that is not the disk's. */
#define STRIDE 1103u

struct bench {
    struct blkioq *queue;
    uint8_t *buffers;
    uint64_t blocks;
    uint64_t next;
    uint64_t done;
    unsigned depth;
};

static _Noreturn void fail(const char *what, const char *why)
{
    fprintf(stderr, "blkio_bench: %s: %s\n", what, why);
    exit(EXIT_FAILURE);
}

static void check(int r, const char *what)
{
    if (r < 0)
        fail(what, blkio_get_error_msg());
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    if (clock_gettime(clock, &now) < 0)
        fail("clock", "cannot be read");
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static unsigned number(const char *text, const char *what, unsigned max)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (*text == '\0' || *end != '\0' || value < 1 || value > max)
        fail(what, "no such number");
    return (unsigned)value;
}

static struct blkio *open_disk(const char *path, struct bench *bench)
{
    struct blkio *blkio;
    struct blkio_mem_region region;
    uint64_t bytes;
    check(blkio_create("virtio-blk-vhost-user", &blkio), "driver");
    check(blkio_set_str(blkio, "path", path), "path");
    check(blkio_connect(blkio), "connect");
    check(blkio_set_int(blkio, "num-queues", 1), "num-queues");
    check(blkio_start(blkio), "start");
    check(blkio_get_uint64(blkio, "capacity", &bytes), "capacity");
    check(blkio_alloc_mem_region(blkio, &region, (size_t)bench->depth * BLOCK_BYTES), "memory");
    check(blkio_map_mem_region(blkio, &region), "mapping");
    bench->buffers = region.addr;
    bench->blocks = bytes / BLOCK_BYTES;
    if (bench->blocks == 0)
        fail("disk", "smaller than one block");
    bench->queue = blkio_get_queue(blkio, 0);
    return blkio;
}

static void ask(struct bench *bench, uintptr_t slot)
{
    uint64_t block = bench->next++ * STRIDE % bench->blocks;
    blkioq_read(bench->queue, block * BLOCK_BYTES, bench->buffers + slot * BLOCK_BYTES, BLOCK_BYTES, (void *)slot, 0);
}

static void run_until(struct bench *bench, uint64_t deadline_ns)
{
    struct blkio_completion completions[DEPTH_MAX];
    struct timespec patience = {.tv_sec = PATIENCE_S};
    do {
        int count = blkioq_do_io(bench->queue, completions, 1, (int)bench->depth, &patience);
        check(count, "I/O");
        for (int i = 0; i < count; i++) {
            if (completions[i].ret != 0)
                fail("a read failed", strerror(-completions[i].ret));
            ask(bench, (uintptr_t)completions[i].user_data);
        }
        bench->done += (uint64_t)count;
    } while (clock_ns(CLOCK_MONOTONIC) < deadline_ns);
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: blkio_bench SOCKET PID DEPTH SECONDS\n");
        return 2;
    }
    struct bench bench = {.depth = number(argv[3], "depth", DEPTH_MAX)};
    clockid_t backend;
    if (clock_getcpuclockid((pid_t)number(argv[2], "pid", INT32_MAX), &backend) != 0)
        fail("pid", "no such process");
    double seconds = strtod(argv[4], NULL);
    if (!(seconds > 0 && seconds < 3600))
        fail("seconds", "no such number");

    struct blkio *blkio = open_disk(argv[1], &bench);
    for (uintptr_t slot = 0; slot < bench.depth; slot++)
        ask(&bench, slot);
    run_until(&bench, clock_ns(CLOCK_MONOTONIC) + (uint64_t)(seconds * 1e8)); /* a tenth, to warm up */

    uint64_t began_ns = clock_ns(CLOCK_MONOTONIC), before = bench.done;
    uint64_t backend_ns = clock_ns(backend), driver_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    run_until(&bench, began_ns + (uint64_t)(seconds * 1e9));
    double elapsed = (double)(clock_ns(CLOCK_MONOTONIC) - began_ns), requests = (double)(bench.done - before);
    backend_ns = clock_ns(backend) - backend_ns;
    driver_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - driver_ns;
    printf("{\"requests\":%.0f,\"seconds\":%.6f,\"iops\":%.0f,\"backend_cpu_ns_per_request\":%.1f,"
           "\"driver_cpu_ns_per_request\":%.1f}\n",
           requests, elapsed / 1e9, requests * 1e9 / elapsed, (double)backend_ns / requests,
           (double)driver_ns / requests);
    blkio_destroy(&blkio);
    return EXIT_SUCCESS;
}
