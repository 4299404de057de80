/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A request is a slot: a header, a status byte and a piece of data at fixed places. A slot is in flight (its head is in
 * the ring) or idle, in a list in the order of return. A turn of the loop takes what has come back, gives new requests
 * to the slots that are due, shows them, and kicks if the device asks for it. When nothing came and nothing went, an
 * event-driven driver asks for an interrupt, looks once more, and sleeps on the call line.
 *
 * The clock is read where a time is needed: for the deadline once in some turns, for each turn where there is a gap,
 * and for the requests whose latency is sampled. These are all where that costs nothing beside the work (with a gap, or
 * one request at a time that is slept for), and one in SAMPLE_RARELY where it would: two looks at the clock take as
 * long as a whole request of the fastest back ends.
 *
 * Limits
 *
 * A gap shorter than SPIN_BELOW_NS is spun away, since a timer is not that exact. The status is made wrong before each
 * request, so that a back end that does not write it is found out; the length of the used entry is not judged, since
 * honest back ends differ in it.
 */
#define _GNU_SOURCE
#include "bench_queue.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "devices/blk/virtio_blk.h"

#define TURNS_PER_LOOK 64
#define SAMPLE_RARELY 64
#define SPIN_BELOW_NS 50000
#define TIMEOUT_NS (UINT64_C(1000000) * BENCH_TIMEOUT_MS)
/* "No interrupt" of the event index holds for 32768 entries (2.7.7); it is said again well before. */
#define REARM_EVERY 8192
#define RING_SIZE_MIN 256
#define STATUS_NONE 0xff
#define PAGE_BYTES 4096

_Noreturn void bench_die(const char *what, int error)
{
    fprintf(stderr, "vhost_bench: %s: %s\n", what, strerror(-error));
    exit(BENCH_EXIT_FAILED);
}

uint64_t bench_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint32_t bench_ring_size(const struct bench_options *options)
{
    uint32_t size = RING_SIZE_MIN;
    while (size < options->depth * BENCH_PIECES)
        size *= 2;
    return size;
}

uint64_t bench_queue_bytes(const struct bench_options *options)
{
    return align_up(BENCH_DATA_OFFSET + (uint64_t)options->depth * options->request_bytes, PAGE_BYTES);
}

void bench_queue_forget(struct bench_queue *queue)
{
    queue->counts = (struct bench_counts){0};
    memset(&queue->histogram, 0, sizeof(queue->histogram));
}

/* The same sequence in every run (xorshift, 64 bits): good enough to spread over a disk. */
static uint64_t random_block(struct bench_queue *queue)
{
    queue->random ^= queue->random << 13;
    queue->random ^= queue->random >> 7;
    queue->random ^= queue->random << 17;
    return queue->random % queue->block_count;
}

static uint64_t next_offset(struct bench_queue *queue)
{
    uint64_t block = queue->next_block;
    if (bench_op_random(queue->options->op))
        block = random_block(queue);
    else
        queue->next_block = block + 1 < queue->block_count ? block + 1 : 0;
    return (queue->first_block + block) * queue->options->request_bytes;
}

/* What of a slot's request is the same each time. */
static void prepare(struct bench_queue *queue, unsigned slot)
{
    const struct bench_options *options = queue->options;
    bool writes = bench_op_writes(options->op);
    uint64_t address = queue->slots_address + slot * sizeof(struct bench_slot);
    uint64_t data = queue->data_address + (uint64_t)slot * options->request_bytes;
    struct fake_piece *pieces = queue->pieces[slot];
    pieces[0] = (struct fake_piece){address, sizeof(queue->slots->header), false};
    pieces[1] = (struct fake_piece){data, options->request_bytes, !writes};
    pieces[2] = (struct fake_piece){address + offsetof(struct bench_slot, status), 1, true};
    put_le32(queue->slots[slot].header, writes ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN);
    put_le32(queue->slots[slot].header + 4, 0);
}

void bench_queue_init(struct bench_queue *queue, const struct bench_options *options, unsigned index,
                      struct fake_driver *driver, const struct fake_memory *memory, uint64_t base)
{
    uint64_t blocks = options->disk_bytes / options->request_bytes / options->queues;
    memset(queue, 0, sizeof(*queue));
    queue->options = options;
    queue->driver = driver;
    queue->slots_address = base + BENCH_SLOTS_OFFSET;
    queue->data_address = base + BENCH_DATA_OFFSET;
    queue->slots = (void *)(memory->host + (queue->slots_address - memory->guest_base));
    queue->status_checked = !options->ceiling;
    queue->first_block = index * blocks;
    queue->block_count = blocks;
    queue->random = index + 1;
    queue->rearm_left = REARM_EVERY;
    queue->sample_every = options->gap_ns > 0 || (options->depth == 1 && !options->poll) ? 1 : SAMPLE_RARELY;
    queue->sample_left = 1;
    for (unsigned slot = 0; slot < options->depth; slot++) {
        prepare(queue, slot);
        queue->idle[slot] = (uint16_t)slot;
    }
    queue->idle_count = options->depth;
    fake_driver_interrupts_off(driver);
}

static void add_request(struct bench_queue *queue, unsigned slot)
{
    put_le64(queue->slots[slot].header + 8, next_offset(queue) / VIRTIO_BLK_SECTOR_BYTES);
    queue->slots[slot].status = STATUS_NONE;
    int head = fake_driver_add(queue->driver, queue->pieces[slot], BENCH_PIECES);
    if (head < 0)
        bench_die("the ring is full", -ENOSPC);
    queue->slot_of_head[head] = (uint16_t)slot;
    queue->unshown++;
}

static void sample_begin(struct bench_queue *queue, unsigned slot)
{
    queue->shown_ns[slot] = 0;
    if (--queue->sample_left > 0)
        return;
    queue->sample_left = queue->sample_every;
    queue->shown_ns[slot] = bench_clock_ns();
}

/* Requests for idle slots that are due. Returns how many. */
static unsigned refill(struct bench_queue *queue, uint64_t now_ns)
{
    unsigned count = 0;
    while (queue->idle_count > 0) {
        unsigned slot = queue->idle[queue->idle_first];
        if (queue->due_ns[slot] > now_ns)
            break;
        queue->idle_first = (queue->idle_first + 1) % BENCH_DEPTH_MAX;
        queue->idle_count--;
        sample_begin(queue, slot);
        add_request(queue, slot);
        count++;
    }
    return count;
}

static void kick(struct bench_queue *queue)
{
    uint64_t one = 1;
    queue->counts.kicks++;
    if (write(queue->kick, &one, sizeof(one)) != (ssize_t)sizeof(one))
        bench_die("kick", -errno);
}

static void show(struct bench_queue *queue)
{
    if (queue->unshown == 0 || queue->unshown < queue->options->burst)
        return;
    queue->unshown = 0;
    if (fake_driver_show(queue->driver))
        kick(queue);
}

/* What has come back. Returns how many. */
static unsigned take_completions(struct bench_queue *queue)
{
    unsigned count = 0;
    uint32_t head, length;
    uint64_t seen_ns = 0;
    while (count < queue->options->depth && fake_driver_get(queue->driver, &head, &length)) {
        unsigned slot = queue->slot_of_head[head];
        if (queue->status_checked && queue->slots[slot].status != VIRTIO_BLK_S_OK)
            bench_die("a request came back without success", -EIO);
        if (queue->shown_ns[slot] != 0 || queue->options->gap_ns > 0) {
            if (seen_ns == 0)
                seen_ns = bench_clock_ns();
            if (queue->shown_ns[slot] != 0)
                bench_histogram_add(&queue->histogram, seen_ns - queue->shown_ns[slot]);
            queue->due_ns[slot] = queue->options->gap_ns > 0 ? seen_ns + queue->options->gap_ns : 0;
        }
        queue->idle[(queue->idle_first + queue->idle_count) % BENCH_DEPTH_MAX] = (uint16_t)slot;
        queue->idle_count++;
        count++;
    }
    queue->counts.requests += count;
    if (count >= queue->rearm_left) {
        fake_driver_interrupts_off(queue->driver);
        queue->rearm_left = REARM_EVERY;
    } else {
        queue->rearm_left = (uint16_t)(queue->rearm_left - count);
    }
    return count;
}

/* Sleep until the call line is written, or until @until_ns (0: as long as a sound back end may take). */
static void wait_call(struct bench_queue *queue, uint64_t until_ns)
{
    struct pollfd entry = {.fd = queue->call, .events = POLLIN};
    uint64_t now_ns = bench_clock_ns();
    uint64_t left_ns = TIMEOUT_NS;
    if (until_ns != 0)
        left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
    struct timespec left = {.tv_sec = (time_t)(left_ns / 1000000000), .tv_nsec = (long)(left_ns % 1000000000)};
    int r = ppoll(&entry, 1, &left, NULL);
    if (r < 0 && errno != EINTR)
        bench_die("wait", -errno);
    if (r == 0 && until_ns == 0)
        bench_die("no request came back", -ETIMEDOUT);
    uint64_t count;
    if (r > 0 && read(queue->call, &count, sizeof(count)) < 0 && errno != EAGAIN)
        bench_die("call line", -errno);
}

/* Nothing came and nothing went: sleep, if this driver does. */
static void rest(struct bench_queue *queue)
{
    const struct bench_options *options = queue->options;
    if (options->poll) {
        cpu_relax();
        return;
    }
    bool waiting = queue->idle_count > 0; /* for the end of a gap */
    if (waiting && options->gap_ns < SPIN_BELOW_NS)
        return;
    uint64_t until_ns = waiting ? queue->due_ns[queue->idle[queue->idle_first]] : 0;
    if (queue->idle_count + queue->unshown < options->depth) {
        if (fake_driver_interrupts_on(queue->driver))
            return;
        queue->counts.waits++;
    }
    wait_call(queue, until_ns);
    fake_driver_interrupts_off(queue->driver);
}

void bench_queue_run(struct bench_queue *queue, uint64_t deadline_ns)
{
    const struct bench_options *options = queue->options;
    bool timed = options->gap_ns > 0 || !options->poll;
    uint64_t now_ns = bench_clock_ns();
    for (unsigned turn = 0;; turn++) {
        unsigned count = take_completions(queue);
        if (timed || turn % TURNS_PER_LOOK == 0)
            now_ns = bench_clock_ns();
        count += refill(queue, now_ns);
        show(queue);
        /* A machine so busy that nothing came back in time is given more of it. */
        if (now_ns >= deadline_ns && (queue->counts.requests > 0 || now_ns - deadline_ns >= TIMEOUT_NS))
            return;
        if (count == 0)
            rest(queue);
    }
}
