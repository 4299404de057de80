/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The virtqueue alone, with the workloads of rust-vmm's own bench of its queue, on a ring of 256: one chain of 128
 * descriptors, 128 chains of one, 128 chains of an indirect table with one entry, and 128 used entries added. The peer
 * is rust_vmm/, which times the same by the same method.
 *
 * What is timed is all that a device does to see each descriptor (pop, which checks and translates, and a look at each
 * piece), or to have them seen as used (push and publish). What gets the ring there again is not timed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "bench_rounds.h"
#include "fake_driver.h"

#define RING_SIZE 256
#define PER 128
#define MEMORY_BYTES (UINT64_C(4) << 30)
#define PIECE_ADDRESS 0x1000
#define PIECE_BYTES 0x1000
#define RING_ADDRESS 0x100000
#define TABLES_ADDRESS UINT64_C(0x30000000)
#define TURNS 4000
#define ROUNDS_DEFAULT 15

struct virtqueue_bench {
    struct guest_memory memory;
    struct fake_memory host;
    struct fake_driver driver;
    struct virtq_arena arena;
    void *arena_block; /* owned */
    struct virtqueue queue;
    struct virtq_chain *chains[PER];
    unsigned chain_count;
    uint64_t bytes; /* seen: so that no look is left out */
    bool packed;
};

struct workload {
    const char *name;
    unsigned chains; /* of PER / chains descriptors */
    bool indirect;
    bool used; /* time the giving back */
};

static const struct workload workloads[] = {
    {"one_chain", 1, false, false},
    {"chains", PER, false, false},
    {"indirect", PER, true, false},
    {"used", PER, false, true},
};

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "virtqueue_bench: %s: %s\n", what, strerror(errno));
    exit(EXIT_FAILURE);
}

static void init(struct virtqueue_bench *bench, bool packed)
{
    static const struct virtq_arena_shape shape = {.slots = 256, .medium_runs = 8, .long_runs = 1, .request_bytes = 16};
    void *host = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (host == MAP_FAILED)
        die("guest memory");
    size_t arena_bytes = (size_t)align_up(virtq_arena_bytes(&shape), 64);
    void *block = aligned_alloc(64, arena_bytes);
    if (block == NULL)
        die("the arena");
    memset(block, 0, arena_bytes);
    bench->arena_block = block;
    bench->packed = packed;
    bench->host = (struct fake_memory){.guest_base = 0, .size = MEMORY_BYTES, .host = host};
    guest_memory_init(&bench->memory, NULL);
    ASSERT(guest_memory_add(&bench->memory, &(struct guest_region){.size = MEMORY_BYTES, .host = host}) == 0);
    virtq_arena_init(&bench->arena, &shape, block);
    virtqueue_init(&bench->queue, &bench->arena);
}

static void done(struct virtqueue_bench *bench)
{
    free(bench->arena_block);
    munmap(bench->host.host, MEMORY_BYTES);
}

static void start(struct virtqueue_bench *bench)
{
    uint64_t features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC;
    features |= bench->packed ? VIRTIO_F_RING_PACKED : 0;
    fake_driver_init(&bench->driver, &bench->host, RING_ADDRESS, RING_SIZE, features);
    struct virtqueue_config config = fake_driver_config(&bench->driver, features);
    int r = virtqueue_start(&bench->queue, &config, &bench->memory, NULL, NULL);
    ASSERT(r == 0);
}

static void offer(struct virtqueue_bench *bench, const struct workload *workload)
{
    struct fake_piece pieces[PER];
    unsigned count = PER / workload->chains;
    for (unsigned i = 0; i < count; i++)
        pieces[i] = (struct fake_piece){PIECE_ADDRESS, PIECE_BYTES, false};
    for (unsigned i = 0; i < workload->chains; i++) {
        uint64_t table = TABLES_ADDRESS + i * UINT64_C(256);
        int head = workload->indirect ? fake_driver_add_indirect(&bench->driver, &bench->host, table, pieces, count)
                                      : fake_driver_add(&bench->driver, pieces, count);
        ASSERT(head >= 0);
    }
    (void)fake_driver_show(&bench->driver);
}

/* All that a device does before it knows each piece of each request. */
static __attribute__((noinline)) void walk(struct virtqueue_bench *bench)
{
    unsigned total = 0;
    uint64_t bytes = 0;
    for (;;) {
        int count = virtqueue_pop(&bench->queue, &bench->chains[total], VIRTQ_BURST_MAX);
        if (count <= 0)
            break;
        for (int i = 0; i < count; i++) {
            const struct guest_iovec *iov;
            unsigned pieces = virtq_chain_readable_iov(bench->chains[total + (unsigned)i], &iov);
            for (unsigned piece = 0; piece < pieces; piece++)
                bytes += iov[piece].length;
        }
        total += (unsigned)count;
        if (total == PER)
            break;
    }
    bench->chain_count = total;
    bench->bytes = bytes;
}

/* Bursts as a device's own. */
static __attribute__((noinline)) void give_back(struct virtqueue_bench *bench)
{
    for (unsigned at = 0; at < bench->chain_count; at += VIRTQ_BURST_MAX)
        virtqueue_push(&bench->queue, &bench->chains[at], u32_min(bench->chain_count - at, VIRTQ_BURST_MAX));
    (void)virtqueue_publish(&bench->queue);
}

static void take_used(struct virtqueue_bench *bench)
{
    uint32_t head, length;
    for (unsigned i = 0; i < bench->chain_count; i++)
        ASSERT(fake_driver_get(&bench->driver, &head, &length));
    ASSERT(!fake_driver_get(&bench->driver, &head, &length));
}

/* One time through the ring. Returns the ns of what is measured. */
static uint64_t turn(struct virtqueue_bench *bench, const struct workload *workload)
{
    offer(bench, workload);
    uint64_t before_walk = bench_now_ns();
    walk(bench);
    uint64_t after_walk = bench_now_ns();
    ASSERT(bench->chain_count == workload->chains && bench->bytes == (uint64_t)PER * PIECE_BYTES);
    uint64_t before_return = bench_now_ns();
    give_back(bench);
    uint64_t after_return = bench_now_ns();
    take_used(bench);
    return workload->used ? after_return - before_return : after_walk - before_walk;
}

static void measure(struct virtqueue_bench *bench, const struct workload *workload, unsigned rounds,
                    struct bench_rounds *ret_rounds)
{
    static uint64_t turns[TURNS];
    double clock_ns = bench_clock_cost_ns();
    start(bench);
    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned i = 0; i < TURNS; i++)
            turns[i] = turn(bench, workload);
        ret_rounds->ns[round] = (double)bench_median(turns, TURNS) - clock_ns;
    }
    ret_rounds->count = rounds;
    ASSERT(virtqueue_stop(&bench->queue));
}

static void print_one(const struct workload *workload, struct bench_rounds *rounds, bool json, bool last)
{
    double median = bench_rounds_median(rounds);
    double min = rounds->ns[0], max = rounds->ns[rounds->count - 1];
    if (json)
        printf("\"%s\":{\"ns\":%.1f,\"min\":%.1f,\"max\":%.1f,\"spread\":%.3f}%s", workload->name, median, min, max,
               (max - min) / median, last ? "}}\n" : ",");
    else
        printf("%-10s %8.1f ns for %d, %.1f to %.1f\n", workload->name, median, PER, min, max);
}

static _Noreturn void usage(void)
{
    fprintf(stderr, "usage: virtqueue_bench [--ring=split|packed] [--rounds=%d] [--json]\n", ROUNDS_DEFAULT);
    exit(2);
}

static unsigned long number(const char *text)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0')
        usage();
    return value;
}

int main(int argc, char **argv)
{
    static const struct option names[] = {
        {"ring", required_argument, NULL, 'r'},
        {"rounds", required_argument, NULL, 'n'},
        {"json", no_argument, NULL, 'j'},
        {NULL, 0, NULL, 0},
    };
    static struct virtqueue_bench bench;
    static struct bench_rounds rounds;
    bool json = false, packed = false;
    unsigned long round_count = ROUNDS_DEFAULT;
    for (int name; (name = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        if (name == 'r' && (strcmp(optarg, "split") == 0 || strcmp(optarg, "packed") == 0))
            packed = optarg[0] == 'p';
        else if (name == 'n')
            round_count = number(optarg);
        else if (name == 'j')
            json = true;
        else
            usage();
    }
    if (optind < argc || round_count < 1 || round_count > BENCH_ROUNDS_MAX)
        usage();

    init(&bench, packed);
    if (json)
        printf("{\"subject\":\"backplane\",\"ring\":\"%s\",\"per\":%d,\"rounds\":%lu,\"workloads\":{",
               packed ? "packed" : "split", PER, round_count);
    for (unsigned i = 0; i < ARRAY_SIZE(workloads); i++) {
        measure(&bench, &workloads[i], (unsigned)round_count, &rounds);
        print_one(&workloads[i], &rounds, json, i + 1 == ARRAY_SIZE(workloads));
    }
    done(&bench);
    return EXIT_SUCCESS;
}
