/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * One measurement of any vhost-user disk: reads of one size, so many in flight, for so many seconds, and what they cost
 * the back end in processor time. The answer is one JSON object on standard output; script/bench compares several.
 *
 * The driver is the tests' own: it refills the ring as soon as requests come back, kicks only when the device asks
 * for it, and either sleeps on the call line (--wait=event) or looks at the used ring (--wait=poll).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "devices/blk/virtio_blk.h"
#include "vhost_user_client.h"

#define GUEST_BASE UINT64_C(0x100000000)
#define RING_OFFSET 0x10000
#define HEADERS_OFFSET 0x100000
#define STATUSES_OFFSET 0x200000
#define DATA_OFFSET 0x400000
#define DEPTH_MAX 256
#define REQUEST_BYTES_MAX (1u << 20)
#define TIMEOUT_MS 30000
/* The clock is looked at once in so many turns of the loop. */
#define TURNS_PER_LOOK 64

struct bench_options {
    const char *socket_path;
    pid_t pid;
    unsigned depth;
    unsigned request_bytes;
    double seconds;
    bool poll;
};

struct bench_result {
    uint64_t requests;
    uint64_t kicks;
    uint64_t waits;
    uint64_t elapsed_ns;
    uint64_t backend_cpu_ns;
    uint64_t driver_cpu_ns;
};

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    if (clock_gettime(clock, &now) < 0)
        return 0;
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static _Noreturn void die(const char *what, int error)
{
    fprintf(stderr, "vhost_bench: %s: %s\n", what, strerror(-error));
    exit(EXIT_FAILURE);
}

/* Reads of different places, so that no cache in between makes them one. */
static void write_header(struct vhost_user_client *client, unsigned slot, uint32_t request_bytes)
{
    uint8_t *header = client->memory.host + HEADERS_OFFSET + (size_t)slot * sizeof(struct virtio_blk_header);
    put_le32(header, VIRTIO_BLK_T_IN);
    put_le32(header + 4, 0);
    put_le64(header + 8, (uint64_t)slot * request_bytes / VIRTIO_BLK_SECTOR_BYTES);
}

static void add_request(struct vhost_user_client *client, const struct bench_options *options, unsigned slot)
{
    const struct fake_piece pieces[] = {
        {GUEST_BASE + HEADERS_OFFSET + (uint64_t)slot * sizeof(struct virtio_blk_header), 16, false},
        {GUEST_BASE + DATA_OFFSET + (uint64_t)slot * options->request_bytes, options->request_bytes, true},
        {GUEST_BASE + STATUSES_OFFSET + slot, 1, true},
    };
    if (fake_driver_add(client->queues[0].driver, pieces, ARRAY_SIZE(pieces)) < 0)
        die("the ring is full", -ENOSPC);
}

static void connect_and_start(struct vhost_user_client *client, const struct bench_options *options)
{
    uint64_t bytes = DATA_OFFSET + (uint64_t)options->depth * options->request_bytes;
    int r = client_init(client, GUEST_BASE, bytes, TIMEOUT_MS);
    if (r < 0)
        die("guest memory", r);
    r = client_connect(client, options->socket_path);
    if (r < 0)
        die(options->socket_path, r);
    r = client_negotiate(
        client, VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC | VHOST_USER_F_PROTOCOL_FEATURES,
        VHOST_USER_PROTOCOL_F_CONFIG | VHOST_USER_PROTOCOL_F_REPLY_ACK | VHOST_USER_PROTOCOL_F_MQ);
    if (r < 0)
        die("negotiation", r);
    r = client_share_memory(client);
    if (r == 0)
        r = client_start_queue(client, 0, GUEST_BASE + RING_OFFSET, 1024);
    if (r < 0)
        die("start of the queue", r);
    for (unsigned slot = 0; slot < options->depth; slot++)
        write_header(client, slot, options->request_bytes);
}

/*
 * The slot of each request is found by its head: chains of three descriptors are taken and freed in the same threes,
 * but not in order.
 */
static unsigned slot_of_head[VRING_SIZE_MAX];

static void refill(struct vhost_user_client *client, const struct bench_options *options, unsigned slot)
{
    unsigned head = client->queues[0].driver->free_head;
    slot_of_head[head] = slot;
    add_request(client, options, slot);
}

static unsigned take_completions(struct vhost_user_client *client, const struct bench_options *options)
{
    unsigned slots[DEPTH_MAX], count = 0;
    uint32_t head, length;
    while (count < options->depth && fake_driver_get(client->queues[0].driver, &head, &length)) {
        unsigned slot = slot_of_head[head];
        if (length != options->request_bytes + 1 || client->memory.host[STATUSES_OFFSET + slot] != VIRTIO_BLK_S_OK)
            die("a read failed", -EIO);
        slots[count++] = slot;
    }
    for (unsigned i = 0; i < count; i++)
        refill(client, options, slots[i]);
    return count;
}

static void show(struct vhost_user_client *client, struct bench_result *result)
{
    if (!fake_driver_show(client->queues[0].driver))
        return;
    result->kicks++;
    int r = client_kick(client, 0);
    if (r < 0)
        die("kick", r);
}

static void run_until(struct vhost_user_client *client, const struct bench_options *options, uint64_t deadline_ns,
                      struct bench_result *result)
{
    struct fake_driver *driver = client->queues[0].driver;
    for (unsigned turn = 0;; turn++) {
        unsigned count = take_completions(client, options);
        result->requests += count;
        if (count > 0)
            show(client, result);
        if ((turn % TURNS_PER_LOOK == 0 || !options->poll) && clock_ns(CLOCK_MONOTONIC) >= deadline_ns)
            return;
        if (count > 0 || options->poll || fake_driver_interrupts_on(driver))
            continue;
        result->waits++;
        int r = client_wait_call(client, 0);
        if (r < 0)
            die("no request came back", r);
        fake_driver_interrupts_off(driver);
    }
}

static struct bench_result measure(struct vhost_user_client *client, const struct bench_options *options)
{
    struct bench_result warm_up = {0}, result = {0};
    clockid_t backend;
    int r = clock_getcpuclockid(options->pid, &backend);
    if (r != 0)
        die("the back end's processor clock", -r);
    for (unsigned slot = 0; slot < options->depth; slot++)
        refill(client, options, slot);
    fake_driver_interrupts_off(client->queues[0].driver);
    show(client, &warm_up);
    run_until(client, options, clock_ns(CLOCK_MONOTONIC) + (uint64_t)(options->seconds * 1e8), &warm_up);
    uint64_t began_ns = clock_ns(CLOCK_MONOTONIC);
    uint64_t backend_ns = clock_ns(backend), driver_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    run_until(client, options, began_ns + (uint64_t)(options->seconds * 1e9), &result);
    result.elapsed_ns = clock_ns(CLOCK_MONOTONIC) - began_ns;
    result.backend_cpu_ns = clock_ns(backend) - backend_ns;
    result.driver_cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - driver_ns;
    return result;
}

static unsigned number(const char *text, unsigned min, unsigned max)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (*text == '\0' || *end != '\0' || value < min || value > max) {
        fprintf(stderr, "vhost_bench: %s is no number from %u to %u\n", text, min, max);
        exit(2);
    }
    return (unsigned)value;
}

static struct bench_options parse(int argc, char **argv)
{
    static const struct option names[] = {
        {"socket-path", required_argument, NULL, 's'},
        {"pid", required_argument, NULL, 'p'},
        {"depth", required_argument, NULL, 'd'},
        {"request-bytes", required_argument, NULL, 'b'},
        {"seconds", required_argument, NULL, 't'},
        {"wait", required_argument, NULL, 'w'},
        {NULL, 0, NULL, 0},
    };
    struct bench_options options = {.depth = 32, .request_bytes = 4096, .seconds = 1};
    for (int name; (name = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        switch (name) {
        case 's':
            options.socket_path = optarg;
            break;
        case 'p':
            options.pid = (pid_t)number(optarg, 1, INT32_MAX);
            break;
        case 'd':
            options.depth = number(optarg, 1, DEPTH_MAX);
            break;
        case 'b':
            options.request_bytes = number(optarg, 512, REQUEST_BYTES_MAX);
            break;
        case 't':
            options.seconds = number(optarg, 1, 3600);
            break;
        case 'w':
            options.poll = strcmp(optarg, "poll") == 0;
            break;
        default:
            exit(2);
        }
    }
    if (options.socket_path == NULL || options.pid == 0) {
        fprintf(stderr, "usage: vhost_bench --socket-path=PATH --pid=PID [--depth=32] [--request-bytes=4096] "
                        "[--seconds=1] [--wait=event|poll]\n");
        exit(2);
    }
    return options;
}

int main(int argc, char **argv)
{
    struct bench_options options = parse(argc, argv);
    struct vhost_user_client client;
    connect_and_start(&client, &options);
    struct bench_result result = measure(&client, &options);
    client_done(&client);
    double seconds = (double)result.elapsed_ns / 1e9, requests = (double)result.requests;
    if (result.requests == 0)
        die("no request came back", -EIO);
    printf("{\"requests\":%llu,\"seconds\":%.6f,\"iops\":%.0f,\"backend_cpu_ns_per_request\":%.1f,"
           "\"driver_cpu_ns_per_request\":%.1f,\"requests_per_kick\":%.2f,\"requests_per_wait\":%.2f}\n",
           (unsigned long long)result.requests, seconds, requests / seconds, (double)result.backend_cpu_ns / requests,
           (double)result.driver_cpu_ns / requests, result.kicks > 0 ? requests / (double)result.kicks : 0,
           result.waits > 0 ? requests / (double)result.waits : 0);
    return EXIT_SUCCESS;
}
