/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * The thread goes round the queues without pause, and is never kicked: it says so with the flag or, now and then, with
 * an event index that is just past. It looks at whether the driver wants a call only where the driver may sleep: a
 * driver that polls never does, and the barrier before the look costs as much as the rest of the loop.
 *
 * A loop that hands back each request at once is not the fastest: with small batches the lines of the indices travel
 * more often. So it can be told to wait for a batch; which one is best, trying shows.
 */
#define _GNU_SOURCE
#include "bench_ceiling.h"

#include <errno.h>
#include <sched.h>
#include <unistd.h>

#include "bench_queue.h"

/* "No kick" of the event index holds for 65535 entries (2.7.10); it is said again well before. */
#define REARM_EVERY 16384
/* Looks at a ring that has something, but no batch: some microseconds, longer than a driver takes to fill one up. */
#define LOOKS_MAX 500
#define PACKED_MARKS (VRING_PACKED_DESC_F_AVAIL | VRING_PACKED_DESC_F_USED)

static void write_call(const struct bench_ceiling_queue *queue)
{
    uint64_t one = 1;
    ssize_t written = write(queue->call, &one, sizeof(one));
    ASSERT(written == (ssize_t)sizeof(one));
}

static void no_kicks(const struct fake_driver *driver, uint16_t next)
{
    if (driver->packed)
        shared_store_le32(driver->device_event, (uint32_t)VRING_PACKED_EVENT_DISABLE << 16);
    else if (driver->event_idx)
        shared_store_le16(&driver->used->ring[driver->size], (uint16_t)(next - 1));
    else
        shared_store_le16(&driver->used->flags, VRING_USED_F_NO_NOTIFY);
}

static void call(struct bench_ceiling_queue *queue)
{
    const struct fake_driver *driver = queue->driver;
    uint16_t old = queue->called;
    queue->called = queue->next;
    full_barrier();
    if (driver->event_idx) {
        uint16_t event = shared_load_le16(&driver->avail->ring[driver->size]);
        if ((uint16_t)(queue->next - event - 1) >= (uint16_t)(queue->next - old))
            return;
    } else if ((shared_load_le16(&driver->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT) != 0) {
        return;
    }
    write_call(queue);
}

/*
 * Wait for a batch, but not for ever: the driver may have no more to offer. True: look no further. @available: at least
 * one is there; @enough: a batch is.
 */
static bool waits(struct bench_ceiling_queue *queue, bool available, bool enough)
{
    if (available && (enough || ++queue->looks > LOOKS_MAX)) {
        queue->looks = 0;
        return false;
    }
    cpu_relax();
    return true;
}

/* Has the driver made the descriptor available that is @ahead of the next one? */
static bool packed_available(const struct bench_ceiling_queue *queue, uint32_t ahead)
{
    uint32_t position = queue->next + ahead;
    uint16_t mark = queue->avail_mark;
    if (position >= queue->driver->size) {
        position -= queue->driver->size;
        mark ^= PACKED_MARKS;
    }
    return (shared_load_le16_acquire(&queue->driver->ring[position].flags) & PACKED_MARKS) == mark;
}

/*
 * Packed: hand back what is there, in place. The first used entry of a batch is shown last, as the first available one
 * was. A call is made whenever one is not forbidden: the driver asks only when it is about to sleep.
 */
static void copy_packed(struct bench_ceiling_queue *queue, const struct bench_ceiling *ceiling)
{
    const struct fake_driver *driver = queue->driver;
    if (waits(queue, packed_available(queue, 0), packed_available(queue, (ceiling->batch - 1) * BENCH_PIECES)))
        return;
    struct vring_packed_desc *first = &driver->ring[queue->next];
    uint16_t first_mark = queue->avail_mark == VRING_PACKED_DESC_F_AVAIL ? PACKED_MARKS : 0;
    do {
        struct vring_packed_desc *used = &driver->ring[queue->next];
        uint16_t used_mark = queue->avail_mark == VRING_PACKED_DESC_F_AVAIL ? PACKED_MARKS : 0;
        uint16_t id, flags;
        do {
            const struct vring_packed_desc *last = &driver->ring[queue->next];
            flags = shared_load_le16(&last->flags);
            id = last->id;
            if (++queue->next == driver->size) {
                queue->next = 0;
                queue->avail_mark ^= PACKED_MARKS;
            }
        } while ((flags & VRING_DESC_F_NEXT) != 0);
        used->id = id;
        used->length = 0;
        if (used != first)
            shared_store_le16_release(&used->flags, used_mark);
    } while (packed_available(queue, 0));
    shared_store_le16_release(&first->flags, first_mark);
    if (!ceiling->calls)
        return;
    full_barrier();
    if ((shared_load_le32(driver->driver_event) >> 16 & 3) != VRING_PACKED_EVENT_DISABLE)
        write_call(queue);
}

/* Split: hand back what is there. */
static void copy_split(struct bench_ceiling_queue *queue, const struct bench_ceiling *ceiling)
{
    const struct fake_driver *driver = queue->driver;
    uint16_t mask = (uint16_t)(driver->size - 1);
    uint16_t shown = shared_load_le16_acquire(&driver->avail->index);
    uint16_t first = queue->next;
    if (waits(queue, shown != first, (uint16_t)(shown - first) >= ceiling->batch))
        return;
    for (uint16_t next = first; next != shown; next++) {
        uint16_t head = le16_to_cpu(driver->avail->ring[next & mask]);
        driver->used->ring[next & mask] = (struct vring_used_element){.id = cpu_to_le32(head)};
    }
    queue->next = shown;
    shared_store_le16_release(&driver->used->index, shown);
    if (first / REARM_EVERY != shown / REARM_EVERY)
        no_kicks(driver, shown);
    if (ceiling->calls)
        call(queue);
}

static void *copy_loop(void *argument)
{
    struct bench_ceiling *ceiling = argument;
    while (!atomic_load_explicit(&ceiling->stop, memory_order_relaxed)) {
        for (unsigned i = 0; i < ceiling->queue_count; i++) {
            struct bench_ceiling_queue *queue = &ceiling->queues[i];
            if (queue->driver->packed)
                copy_packed(queue, ceiling);
            else
                copy_split(queue, ceiling);
        }
    }
    return NULL;
}

int bench_ceiling_start(struct bench_ceiling *ceiling, const struct bench_options *options)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    if (options->ceiling_processor >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((unsigned)options->ceiling_processor, &set);
        pthread_attr_setaffinity_np(&attributes, sizeof(set), &set);
    }
    ceiling->calls = !options->poll;
    ceiling->batch = options->ceiling_batch;
    atomic_init(&ceiling->stop, false);
    for (unsigned i = 0; i < ceiling->queue_count; i++) {
        ceiling->queues[i].avail_mark = VRING_PACKED_DESC_F_AVAIL; /* 2.8.1: the first lap */
        no_kicks(ceiling->queues[i].driver, 0);
    }
    int error = pthread_create(&ceiling->thread, &attributes, copy_loop, ceiling);
    pthread_attr_destroy(&attributes);
    if (error != 0)
        return -error;
    return -pthread_getcpuclockid(ceiling->thread, &ceiling->cpu);
}

void bench_ceiling_stop(struct bench_ceiling *ceiling)
{
    atomic_store_explicit(&ceiling->stop, true, memory_order_relaxed);
    pthread_join(ceiling->thread, NULL);
}
