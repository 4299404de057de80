/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * One measurement of any vhost-user disk: requests of one kind and size, so many in flight, for so many seconds, and
 * what they cost the back end in processor time. With --ceiling the other side is a copy loop in this process: what
 * the driver can do at best. The answer is one JSON object on standard output; script/bench compares several.
 *
 * The driver is the tests' own (fake_driver, vhost_user_client). Each queue has a thread; the first one's is the main
 * thread, which also reads the back end's clocks, right before and after its own measured time.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>

#include "bench_ceiling.h"
#include "bench_options.h"
#include "bench_queue.h"
#include "devices/blk/virtio_blk.h"
#include "vhost_user_client.h"

#define GUEST_BASE UINT64_C(0x100000000)

struct bench {
    struct bench_options options;
    struct vhost_user_client client;
    struct bench_ceiling ceiling;
    struct bench_queue *queues; /* [options.queues], allocated */
    uint64_t start_ns;          /* of the warm-up */
    /* of the back end, in the first queue's measured time */
    uint64_t backend_cpu_ns;
    uint64_t backend_wakes;
};

static_assert(BENCH_QUEUES_MAX <= CLIENT_QUEUES_MAX, "the client has a place for each queue");

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    if (clock_gettime(clock, &now) < 0)
        bench_die("the processor clock", -errno);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static _Noreturn void lacks(const char *what)
{
    fprintf(stderr, "vhost_bench: the back end %s\n", what);
    exit(BENCH_EXIT_LACKS);
}

/* How often the thread whose status is at @path has gone to sleep. */
static uint64_t sleeps_of(const char *path)
{
    FILE *file = fopen(path, "re");
    unsigned long long count = 0;
    char line[256];
    if (file == NULL)
        return 0; /* the thread has ended */
    while (fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "voluntary_ctxt_switches: %llu", &count) == 1)
            break;
    }
    fclose(file);
    return count;
}

/* How often threads of process @pid have gone to sleep: each wake ends in that. */
static uint64_t count_wakes(pid_t pid)
{
    char path[64 + 256];
    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    DIR *folder = opendir(path);
    if (folder == NULL)
        bench_die(path, -errno);
    uint64_t total = 0;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "/proc/%d/task/%s/status", (int)pid, entry->d_name);
        total += sleeps_of(path);
    }
    closedir(folder);
    return total;
}

static void negotiate(struct bench *bench)
{
    const struct bench_options *options = &bench->options;
    struct vhost_user_client *client = &bench->client;
    uint64_t features = VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC | VIRTIO_BLK_F_RO |
                        VHOST_USER_F_PROTOCOL_FEATURES;
    if (options->packed)
        features |= VIRTIO_F_RING_PACKED;
    if (options->queues > 1)
        features |= VIRTIO_BLK_F_MQ;
    int r = client_negotiate(client, features,
                             VHOST_USER_PROTOCOL_F_CONFIG | VHOST_USER_PROTOCOL_F_REPLY_ACK | VHOST_USER_PROTOCOL_F_MQ);
    if (r < 0)
        bench_die("negotiation", r);
    if (options->packed && (client->features & VIRTIO_F_RING_PACKED) == 0)
        lacks("does not offer packed rings");
    if (bench_op_writes(options->op) && (client->features & VIRTIO_BLK_F_RO) != 0)
        lacks("offers a read-only disk");
    if (options->queues == 1)
        return;
    struct vhost_user_message answer = {0};
    if ((client->protocol_features & VHOST_USER_PROTOCOL_F_MQ) != 0) {
        r = client_call(client, VHOST_USER_GET_QUEUE_NUM, NULL, 0, &answer);
        if (r < 0)
            bench_die("the number of queues", r);
    }
    if (answer.payload.u64 < options->queues)
        lacks("has fewer queues");
}

static void connect_backend(struct bench *bench)
{
    struct vhost_user_client *client = &bench->client;
    if (kill(bench->options.pid, 0) < 0 && errno == ESRCH)
        bench_die("the process that --pid names", -ESRCH);
    int r = client_connect(client, bench->options.socket_path);
    if (r < 0)
        bench_die(bench->options.socket_path, r);
    negotiate(bench);
    r = client_share_memory(client);
    if (r < 0)
        bench_die("the sharing of memory", r);
}

/* A ring and lines for queue @index, as client_start_queue makes them, with nobody to tell. */
static void make_ring(struct bench *bench, unsigned index, uint64_t base)
{
    struct vhost_user_client_queue *queue = &bench->client.queues[index];
    uint64_t features = VIRTIO_F_EVENT_IDX | (bench->options.packed ? VIRTIO_F_RING_PACKED : 0);
    queue->driver = malloc(sizeof(*queue->driver));
    queue->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    queue->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (queue->driver == NULL || queue->kick < 0 || queue->call < 0)
        bench_die("a queue", -errno);
    fake_driver_init(queue->driver, &bench->client.memory, base + BENCH_RING_OFFSET, bench_ring_size(&bench->options),
                     features);
    bench->ceiling.queues[index] = (struct bench_ceiling_queue){.driver = queue->driver, .call = queue->call};
}

static void start(struct bench *bench)
{
    const struct bench_options *options = &bench->options;
    struct vhost_user_client *client = &bench->client;
    uint64_t queue_bytes = bench_queue_bytes(options);
    int r = client_init(client, GUEST_BASE, options->queues * queue_bytes, BENCH_TIMEOUT_MS);
    if (r < 0)
        bench_die("guest memory", r);
    if (!options->ceiling)
        connect_backend(bench);
    bench->queues = calloc(options->queues, sizeof(*bench->queues));
    if (bench->queues == NULL)
        bench_die("queues", -ENOMEM);
    for (unsigned i = 0; i < options->queues; i++) {
        uint64_t base = GUEST_BASE + i * queue_bytes;
        if (options->ceiling)
            make_ring(bench, i, base);
        else
            r = client_start_queue(client, i, base + BENCH_RING_OFFSET, bench_ring_size(options));
        if (r < 0)
            bench_die("start of a queue", r);
        bench_queue_init(&bench->queues[i], options, i, client->queues[i].driver, &client->memory, base);
        bench->queues[i].kick = client->queues[i].kick;
        bench->queues[i].call = client->queues[i].call;
    }
    if (options->ceiling) {
        bench->ceiling.queue_count = options->queues;
        r = bench_ceiling_start(&bench->ceiling, options);
        if (r < 0)
            bench_die("the copy loop", r);
    }
}

static void bind_driver(const struct bench_options *options, unsigned index)
{
    if (options->processor_count == 0)
        return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((unsigned)options->processors[index % options->processor_count], &set);
    if (sched_setaffinity(0, sizeof(set), &set) < 0)
        bench_die("a processor for the driver", -errno);
}

static clockid_t backend_clock(const struct bench *bench)
{
    if (bench->options.ceiling)
        return bench->ceiling.cpu;
    clockid_t clock;
    int error = clock_getcpuclockid(bench->options.pid, &clock);
    if (error != 0)
        bench_die("the back end's processor clock", -error);
    return clock;
}

/* Warm up, then measure, queue @index on this thread. */
static void drive(struct bench *bench, unsigned index)
{
    const struct bench_options *options = &bench->options;
    struct bench_queue *queue = &bench->queues[index];
    bool counts_backend = index == 0, counts_wakes = counts_backend && !options->ceiling;
    clockid_t backend = backend_clock(bench);
    uint64_t measured_ns = bench->start_ns + (uint64_t)(options->warm_up_seconds * 1e9);

    bind_driver(options, index);
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL); /* gaps are to be as long as was asked */
    bench_queue_run(queue, measured_ns);
    bench_queue_forget(queue);
    uint64_t wakes = counts_wakes ? count_wakes(options->pid) : 0;
    uint64_t began_ns = bench_clock_ns();
    uint64_t backend_ns = counts_backend ? clock_ns(backend) : 0;
    uint64_t driver_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    bench_queue_run(queue, began_ns + (uint64_t)(options->seconds * 1e9));
    queue->counts.driver_cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - driver_ns;
    if (counts_backend)
        bench->backend_cpu_ns = clock_ns(backend) - backend_ns;
    queue->counts.elapsed_ns = bench_clock_ns() - began_ns;
    if (counts_wakes)
        bench->backend_wakes = count_wakes(options->pid) - wakes;
}

struct drive_argument {
    struct bench *bench;
    unsigned index;
};

static void *drive_thread(void *argument)
{
    const struct drive_argument *of = argument;
    drive(of->bench, of->index);
    return NULL;
}

static void drive_all(struct bench *bench)
{
    struct drive_argument arguments[BENCH_QUEUES_MAX];
    pthread_t threads[BENCH_QUEUES_MAX];
    bench->start_ns = bench_clock_ns();
    for (unsigned i = 1; i < bench->options.queues; i++) {
        arguments[i] = (struct drive_argument){bench, i};
        int error = pthread_create(&threads[i], NULL, drive_thread, &arguments[i]);
        if (error != 0)
            bench_die("a thread for a queue", -error);
    }
    drive(bench, 0);
    for (unsigned i = 1; i < bench->options.queues; i++)
        pthread_join(threads[i], NULL);
}

static double per(double requests, uint64_t count)
{
    return count > 0 ? requests / (double)count : 0;
}

static void print_latency(const struct bench_histogram *histogram)
{
    static const struct {
        const char *name;
        double part;
    } percentiles[] = {{"p50", 0.5}, {"p99", 0.99}, {"p999", 0.999}};
    for (unsigned i = 0; i < ARRAY_SIZE(percentiles); i++) {
        printf("\"latency_ns_%s\":", percentiles[i].name);
        if (histogram->total == 0)
            printf("null,");
        else
            printf("%llu,", (unsigned long long)bench_histogram_percentile(histogram, percentiles[i].part));
    }
    printf("\"latency_samples\":%llu,", (unsigned long long)histogram->total);
}

static void print_asked(const struct bench_options *options)
{
    printf("\"target\":\"%s\",\"ring\":\"%s\",\"wait\":\"%s\",\"depth\":%u,\"burst\":%u,\"queues\":%u,\"op\":\"%s\",",
           options->ceiling ? "ceiling" : "backend", options->packed ? "packed" : "split",
           options->poll ? "poll" : "event", options->depth, options->burst, options->queues,
           bench_op_name(options->op));
    printf("\"request_bytes\":%u,\"disk_bytes\":%llu,\"gap_ns\":%llu,\"ceiling_batch\":%u}\n", options->request_bytes,
           (unsigned long long)options->disk_bytes, (unsigned long long)options->gap_ns, options->ceiling_batch);
}

static void print(const struct bench *bench)
{
    struct bench_histogram *histogram = &bench->queues[0].histogram;
    struct bench_counts sum = {0};
    double iops = 0;
    for (unsigned i = 0; i < bench->options.queues; i++) {
        const struct bench_counts *counts = &bench->queues[i].counts;
        sum.requests += counts->requests;
        sum.kicks += counts->kicks;
        sum.waits += counts->waits;
        sum.driver_cpu_ns += counts->driver_cpu_ns;
        iops += (double)counts->requests * 1e9 / (double)counts->elapsed_ns;
        if (i > 0)
            bench_histogram_merge(histogram, &bench->queues[i].histogram);
    }
    if (sum.requests == 0)
        bench_die("no request came back in the measured time", -EIO);
    /* The back end's time is of the first queue's span; the other queues' spans differ from it by microseconds. */
    double seconds = (double)bench->queues[0].counts.elapsed_ns / 1e9, requests = (double)sum.requests;
    printf("{\"requests\":%llu,\"seconds\":%.6f,\"iops\":%.0f,\"backend_cpu_ns_per_request\":%.2f,"
           "\"driver_cpu_ns_per_request\":%.2f,\"requests_per_kick\":%.2f,\"requests_per_wait\":%.2f,",
           (unsigned long long)sum.requests, seconds, iops, (double)bench->backend_cpu_ns / (iops * seconds),
           (double)sum.driver_cpu_ns / requests, per(requests, sum.kicks), per(requests, sum.waits));
    print_latency(histogram);
    printf("\"backend_wakes\":%llu,", (unsigned long long)bench->backend_wakes);
    print_asked(&bench->options);
}

int main(int argc, char **argv)
{
    static struct bench bench;
    bench.options = bench_options_parse(argc, argv);
    start(&bench);
    drive_all(&bench);
    if (bench.options.ceiling)
        bench_ceiling_stop(&bench.ceiling);
    client_done(&bench.client);
    print(&bench);
    free(bench.queues);
    return EXIT_SUCCESS;
}
