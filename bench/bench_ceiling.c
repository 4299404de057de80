/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * The thread goes round the queues without pause, and is never kicked: it says so with the flag or, now and then, with
 * an event index that is just past. It looks at whether the driver wants a call only where the driver may sleep: a
 * driver that polls never does, and the barrier before the look costs as much as the rest of the loop.
 */
#define _GNU_SOURCE
#include "bench_ceiling.h"

#include <errno.h>
#include <sched.h>
#include <unistd.h>

/* "No kick" of the event index holds for 65535 entries (2.7.10); it is said again well before. */
#define REARM_EVERY 16384

static void no_kicks(const struct fake_driver *driver, uint16_t next)
{
    if (driver->event_idx)
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
    uint64_t one = 1;
    ssize_t written = write(queue->call, &one, sizeof(one));
    ASSERT(written == (ssize_t)sizeof(one));
}

/* Hand back what is there. */
static void copy_split(struct bench_ceiling_queue *queue, bool calls)
{
    const struct fake_driver *driver = queue->driver;
    uint16_t mask = (uint16_t)(driver->size - 1);
    uint16_t shown = shared_load_le16_acquire(&driver->avail->index);
    uint16_t first = queue->next;
    if (shown == first)
        return;
    for (uint16_t next = first; next != shown; next++) {
        uint16_t head = le16_to_cpu(driver->avail->ring[next & mask]);
        driver->used->ring[next & mask] = (struct vring_used_element){.id = cpu_to_le32(head)};
    }
    queue->next = shown;
    shared_store_le16_release(&driver->used->index, shown);
    if (first / REARM_EVERY != shown / REARM_EVERY)
        no_kicks(driver, shown);
    if (calls)
        call(queue);
}

static void *copy_loop(void *argument)
{
    struct bench_ceiling *ceiling = argument;
    while (!atomic_load_explicit(&ceiling->stop, memory_order_relaxed)) {
        for (unsigned i = 0; i < ceiling->queue_count; i++)
            copy_split(&ceiling->queues[i], ceiling->calls);
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
    atomic_init(&ceiling->stop, false);
    for (unsigned i = 0; i < ceiling->queue_count; i++)
        no_kicks(ceiling->queues[i].driver, 0);
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
