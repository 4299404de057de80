/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation. Each queue has tasks, a ring of task numbers that wait for a worker, each the first of a group
 * that goes to the disk as one (blk_merge.h), and a ring of those done.
 * One mutex guards both rings; workers make no system call of I/O under it. A worker is started when work comes and
 * none is idle, up to the limit, and then stays: idle, it sleeps and costs a few pages.
 *
 * The eventfd is readable exactly while the ring of done tasks is not empty. The worker that makes it so writes it, the
 * reap that empties it reads it, both under the mutex, so no wake is lost and none is left over.
 *
 * Limits. A task keeps its worker until it is done, so one huge discard delays what waits behind it when all others
 * are busy too. Nothing is cancelled: see blk_uring.c. Without even one thread, I/O is done by the caller, under the
 * mutex, which nobody else wants then; it is blocked meanwhile, and slow is better than not at all.
 */
#include "platform/linux/blk_plain.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "platform/linux/blk_backend.h"
#include "platform/linux/blk_run.h"
#include "platform/linux/clock.h"
#include "platform/linux/queue_memory.h"

/* Workers call nothing deep, and nothing large is on their stack. Sanitizers and the C library need some of it. */
#define WORKER_STACK_BYTES (256u << 10)

/* A first-in first-out ring of task numbers, with room for all. */
struct number_ring {
    uint16_t *numbers; /* [depth] */
    uint16_t first;
    uint16_t count;
};

struct blk_plain_queue {
    _Alignas(QUEUE_ALIGNMENT) pthread_mutex_t mutex;
    pthread_cond_t work; /* waiting is not empty, or stop */
    struct number_ring waiting, done;
    bool stop;
    bool made;
    uint16_t depth;
    unsigned worker_count, worker_max, idle;
    pthread_t workers[BLK_PLAIN_WORKERS_MAX];
    const cpu_set_t *processors; /* where they may run; NULL: where the queue's thread may */
    int event;                   /* eventfd, -1: none */
    int *results;                /* by task number */
    void *memory;                /* of the rings and results */

    /* the queue's own thread alone; but that workers read some of it */
    _Alignas(QUEUE_ALIGNMENT) struct blk_merge merge;
    _Atomic uint64_t operations, merged;
    /* several threads */
    _Alignas(QUEUE_ALIGNMENT) _Atomic unsigned done_count; /* done.count, for a look without the mutex */
    _Atomic uint64_t calls, continued;
};

static void number_put(struct number_ring *ring, uint16_t depth, uint16_t number)
{
    ASSERT(ring->count < depth);
    unsigned at = (unsigned)ring->first + ring->count;
    ring->numbers[at < depth ? at : at - depth] = number;
    ring->count++;
}

static uint16_t number_take(struct number_ring *ring, uint16_t depth)
{
    ASSERT(ring->count > 0);
    uint16_t number = ring->numbers[ring->first];
    ring->first = ring->first + 1 < depth ? (uint16_t)(ring->first + 1) : 0;
    ring->count--;
    return number;
}

static struct blk_plain_queue *plain_queue(const struct blk_plain *plain, unsigned queue)
{
    ASSERT(queue < plain->queue_count);
    return &plain->queues[queue];
}

/* With the mutex. */
static void put_done(struct blk_plain_queue *queue, uint16_t number, int result)
{
    queue->results[number] = result;
    number_put(&queue->done, queue->depth, number);
    atomic_store_explicit(&queue->done_count, queue->done.count, memory_order_release);
    if (queue->done.count == 1) {
        /* Cannot fail or block: the counter goes from 0 to 1. */
        ssize_t n = write(queue->event, &(uint64_t){1}, sizeof(uint64_t));
        ASSERT(n == sizeof(uint64_t));
    }
}

/* Without the mutex; but that a caller without any worker has it. */
static void run_group(struct blk_plain_queue *queue, uint16_t number, struct blk_run *ret_run)
{
    blk_run_group(&queue->merge, number, ret_run);
    atomic_fetch_add_explicit(&queue->calls, ret_run->calls, memory_order_relaxed);
    atomic_fetch_add_explicit(&queue->continued, ret_run->continued, memory_order_relaxed);
}

/* With the mutex. */
static void put_group(struct blk_plain_queue *queue, const struct blk_run *run)
{
    for (unsigned i = 0; i < run->done_count; i++)
        put_done(queue, run->done[i].number, run->done[i].result);
}

static void *worker(void *argument)
{
    struct blk_plain_queue *queue = argument;
    struct blk_run run;

    pthread_mutex_lock(&queue->mutex);
    for (;;) {
        while (queue->waiting.count == 0 && !queue->stop) {
            queue->idle++;
            pthread_cond_wait(&queue->work, &queue->mutex);
            queue->idle--;
        }
        if (queue->waiting.count == 0)
            break;
        uint16_t number = number_take(&queue->waiting, queue->depth);
        pthread_mutex_unlock(&queue->mutex);
        run_group(queue, number, &run);
        pthread_mutex_lock(&queue->mutex);
        put_group(queue, &run);
    }
    pthread_mutex_unlock(&queue->mutex);
    return NULL;
}

/* With the mutex: start one more worker, if it may and can be. */
static bool start_worker(struct blk_plain_queue *queue)
{
    if (queue->worker_count == queue->worker_max)
        return false;

    pthread_attr_t attributes;
    sigset_t all, before;
    if (pthread_attr_init(&attributes) != 0)
        return false;
    size_t least = (size_t)sysconf(_SC_THREAD_STACK_MIN);
    pthread_attr_setstacksize(&attributes, least > WORKER_STACK_BYTES ? least : WORKER_STACK_BYTES);
    /* Signals are for the program's own threads; but memory that a front end took away is met here, too. */
    sigfillset(&all);
    sigdelset(&all, SIGBUS);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = pthread_create(&queue->workers[queue->worker_count], &attributes, worker, queue);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (r != 0)
        return false;
    /* It begins where we may run, and would wait there for a queue that looks on. If it may not leave, it stays. */
    if (queue->processors != NULL)
        pthread_setaffinity_np(queue->workers[queue->worker_count], sizeof(*queue->processors), queue->processors);
    pthread_setname_np(queue->workers[queue->worker_count], "disk-worker");
    queue->worker_count++;
    return true;
}

/* With the mutex: see that somebody takes what waits. */
static void rouse_workers(struct blk_plain_queue *queue)
{
    for (unsigned i = 0; i < u32_min(queue->waiting.count, queue->idle); i++)
        pthread_cond_signal(&queue->work);
    for (unsigned missing = queue->waiting.count; missing > queue->idle; missing--)
        if (!start_worker(queue))
            break;
    while (queue->worker_count == 0 && queue->waiting.count > 0) {
        struct blk_run run;
        run_group(queue, number_take(&queue->waiting, queue->depth), &run);
        put_group(queue, &run);
    }
}

static unsigned plain_submit(struct blk_port *port, unsigned index, const struct blk_io *ios, unsigned count)
{
    struct blk_plain_queue *queue = plain_queue(container_of(port, struct blk_plain, port), index);
    uint32_t taken = u32_min(u32_min(count, BLK_BATCH_MAX), blk_merge_room(&queue->merge));
    if (taken == 0)
        return 0;

    uint16_t firsts[BLK_BATCH_MAX];
    unsigned groups = blk_merge_begin(&queue->merge, ios, taken, firsts);
    pthread_mutex_lock(&queue->mutex);
    for (unsigned i = 0; i < groups; i++)
        number_put(&queue->waiting, queue->depth, firsts[i]);
    rouse_workers(queue);
    pthread_mutex_unlock(&queue->mutex);
    count_add(&queue->operations, taken);
    count_add(&queue->merged, taken - groups);
    return taken;
}

static unsigned plain_reap(struct blk_port *port, unsigned index, struct blk_completion *completions, unsigned max)
{
    struct blk_plain_queue *queue = plain_queue(container_of(port, struct blk_plain, port), index);
    if (max == 0 || atomic_load_explicit(&queue->done_count, memory_order_acquire) == 0)
        return 0;

    pthread_mutex_lock(&queue->mutex);
    unsigned given = 0;
    while (given < max && queue->done.count > 0) {
        uint16_t number = number_take(&queue->done, queue->depth);
        completions[given].token = queue->merge.tasks[number].token;
        completions[given].result = queue->results[number];
        given++;
        blk_merge_free(&queue->merge, number);
    }
    atomic_store_explicit(&queue->done_count, queue->done.count, memory_order_release);
    if (queue->done.count == 0 && given > 0) {
        uint64_t count;
        ssize_t n = read(queue->event, &count, sizeof(count));
        ASSERT(n == sizeof(count));
    }
    pthread_mutex_unlock(&queue->mutex);
    return given;
}

static void plain_cancel(struct blk_port *port, unsigned index)
{
    (void)port;
    (void)index; /* see Limits */
}

static uint64_t plain_now_ns(struct blk_port *port)
{
    (void)port;
    return clock_now_ns();
}

static const struct blk_port_class plain_class = {
    .submit = plain_submit,
    .reap = plain_reap,
    .cancel = plain_cancel,
    .now_ns = plain_now_ns,
};

static size_t ring_bytes(unsigned depth)
{
    return depth * (2 * sizeof(uint16_t) + sizeof(int));
}

static int make_queue(struct blk_plain *plain, struct blk_plain_queue *queue, unsigned depth, unsigned workers)
{
    pthread_mutex_init(&queue->mutex, NULL);
    pthread_cond_init(&queue->work, NULL);
    queue->depth = (uint16_t)depth;
    queue->worker_max = workers;
    queue->processors = plain->processors_known ? &plain->processors : NULL;
    queue->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (queue->event < 0)
        return -errno;
    queue->memory = queue_reserve(ring_bytes(depth));
    if (queue->memory == NULL)
        return -ENOMEM;
    queue->results = queue->memory;
    queue->waiting.numbers = (uint16_t *)(queue->results + depth);
    queue->done.numbers = queue->waiting.numbers + depth;
    return blk_merge_init(&queue->merge, &plain->disk, depth);
}

int blk_plain_open(struct blk_plain *plain, const struct disk_image *image, unsigned queues, unsigned depth,
                   unsigned workers, char *error, size_t error_bytes)
{
    ASSERT(workers >= 1 && workers <= BLK_PLAIN_WORKERS_MAX);
    *plain = (struct blk_plain){.port.class = &plain_class};
    /* Fails where there are more processors than a set has: then they run where their queue does. */
    plain->processors_known = sched_getaffinity(0, sizeof(plain->processors), &plain->processors) == 0;
    int r = blk_disk_init(&plain->disk, image);
    if (r == 0) {
        plain->queues = queue_memory(queues, sizeof(plain->queues[0]));
        r = plain->queues == NULL ? -ENOMEM : 0;
    }
    while (r == 0 && plain->queue_count < queues)
        r = make_queue(plain, &plain->queues[plain->queue_count++], depth, workers);
    if (r < 0) {
        snprintf(error, error_bytes, "cannot set up the disk's queues: %s", strerror(-r));
        blk_plain_close(plain);
    }
    return r;
}

static void close_queue(struct blk_plain_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    queue->stop = true;
    pthread_cond_broadcast(&queue->work);
    pthread_mutex_unlock(&queue->mutex);
    for (unsigned i = 0; i < queue->worker_count; i++)
        pthread_join(queue->workers[i], NULL);
    pthread_cond_destroy(&queue->work);
    pthread_mutex_destroy(&queue->mutex);
    if (queue->event >= 0)
        close(queue->event);
    queue_release(queue->memory, ring_bytes(queue->depth));
    blk_merge_done(&queue->merge);
}

void blk_plain_close(struct blk_plain *plain)
{
    for (unsigned i = 0; i < plain->queue_count; i++)
        close_queue(&plain->queues[i]);
    free(plain->queues);
    blk_disk_done(&plain->disk);
    plain->queues = NULL;
    plain->queue_count = 0;
}

int blk_plain_handle(const struct blk_plain *plain, unsigned queue)
{
    return plain_queue(plain, queue)->event;
}

void blk_plain_count(const struct blk_plain *plain, struct blk_backend_counters *ret_counters)
{
    *ret_counters = (struct blk_backend_counters){0};
    for (unsigned i = 0; i < plain->queue_count; i++) {
        const struct blk_plain_queue *queue = &plain->queues[i];
        ret_counters->operations += count_get(&queue->operations);
        ret_counters->merged += count_get(&queue->merged);
        ret_counters->calls += count_get(&queue->calls);
        ret_counters->continued += count_get(&queue->continued);
    }
}

bool blk_plain_ready(const struct blk_plain *plain, unsigned queue)
{
    return atomic_load_explicit(&plain_queue(plain, queue)->done_count, memory_order_acquire) > 0;
}
