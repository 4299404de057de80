/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation. Each queue has a ring of its own and as many tasks as may be in flight. submit fills one entry
 * a task and enters the kernel once for all; what is in the page cache is then already complete. reap reads the
 * completion ring in shared memory; a task that needs another call goes into the submission ring again.
 *
 * To wait, poll the ring's own descriptor: it is readable while the completion ring has entries, so reaping is all it
 * takes to clear it. An eventfd would cost a write in the kernel and a read here for every wake.
 *
 * IORING_SETUP_DEFER_TASKRUN would save a little more, but does not go with that: a completion that waits to be
 * finished by the owner's next io_uring_enter wakes neither poll nor epoll on the ring (io_req_local_work_add in the
 * kernel wakes eventfds and io_uring_enter only). IORING_SETUP_COOP_TASKRUN does: completions are finished by whatever
 * system call the thread is in, without an interrupt from the processor where the disk answered. What an older kernel
 * does not know is left out, step by step.
 *
 * When the kernel has no memory to take entries (EAGAIN, ENOMEM), they stay in the submission ring and are offered
 * again after the next completion. Should nothing be in flight that could complete, they are taken back and fail.
 *
 * Limits. Nothing is ever cancelled: a file's I/O ends by itself, soon, and a cancelled write would reach a guest that
 * is only being stopped for migration as a disk error. Block devices are discarded by command from Linux 6.12 on;
 * earlier, holes are punched where the device can do that, and the hint is dropped elsewhere.
 */
#include "platform/linux/blk_uring.h"

#include <errno.h>
#include <liburing.h>
#include <stdio.h>

#include "platform/linux/blk_backend.h"
#include "platform/linux/clock.h"
#include "platform/linux/queue_memory.h"

/* linux/blkdev.h, since 6.12 */
#define URING_COMMAND_DISCARD _IO(0x12, 0)

/* Each entry of the submission ring is a task, and there is one entry a task at most. */
struct blk_uring_queue {
    _Alignas(QUEUE_ALIGNMENT) struct io_uring ring;
    bool made;
    uint16_t depth;
    uint16_t free_count;
    uint16_t failed_count;
    uint16_t *free;                /* stack of task numbers */
    struct blk_completion *failed; /* [depth], finished without the kernel: see push */
    struct blk_task *tasks;        /* [depth] */
    struct blk_disk *disk;
    _Atomic uint64_t operations, calls, continued, not_entered;
};

static struct blk_uring_queue *uring_queue(struct blk_port *port, unsigned queue)
{
    struct blk_uring *uring = container_of(port, struct blk_uring, port);
    ASSERT(queue < uring->queue_count);
    return &uring->queues[queue];
}

static void prepare_transfer(struct io_uring_sqe *sqe, int fd, const struct blk_call *call, int one, int many)
{
    if (call->iov_count > 0) {
        io_uring_prep_rw(many, sqe, fd, call->iov, call->iov_count, call->offset);
    } else {
        /* The kernel stops a transfer below 2 GiB anyway; blk_task goes on from there. */
        uint32_t length = (uint32_t)u64_min(call->length, INT32_MAX);
        io_uring_prep_rw(one, sqe, fd, call->buffer, length, call->offset);
    }
    sqe->rw_flags = call->flags;
}

/* Put the next call of task @number into the submission ring, which has room for every task. */
static void prepare(struct blk_uring_queue *queue, uint16_t number)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&queue->ring);
    ASSERT(sqe != NULL);
    int fd = queue->disk->fd;
    struct blk_call call;
    blk_task_call(&queue->tasks[number], queue->disk, &call);

    switch (call.kind) {
    case BLK_CALL_READ:
        prepare_transfer(sqe, fd, &call, IORING_OP_READ, IORING_OP_READV);
        break;
    case BLK_CALL_WRITE:
        prepare_transfer(sqe, fd, &call, IORING_OP_WRITE, IORING_OP_WRITEV);
        break;
    case BLK_CALL_SYNC:
        io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
        break;
    case BLK_CALL_FALLOCATE:
        /* Set by hand, as the kernel has them: their types changed from liburing 2.3 (Debian 12) to 2.9 (13). */
        io_uring_prep_fallocate(sqe, fd, call.flags, 0, 0);
        sqe->off = call.offset;
        sqe->addr = call.length;
        break;
    case BLK_CALL_DISCARD:
        io_uring_prep_rw(IORING_OP_URING_CMD, sqe, fd, NULL, 0, 0);
        sqe->cmd_op = URING_COMMAND_DISCARD;
        sqe->addr = call.offset;
        sqe->addr3 = call.length;
        break;
    }
    io_uring_sqe_set_data64(sqe, number);
}

static void release(struct blk_uring_queue *queue, uint16_t number)
{
    queue->free[queue->free_count++] = number;
}

/* Take everything in the submission ring back out of it: the kernel has not looked at it. */
static void take_back(struct blk_uring_queue *queue, int error)
{
    struct io_uring_sq *sq = &queue->ring.sq;
    unsigned count = io_uring_sq_ready(&queue->ring);
    for (unsigned i = 0; i < count; i++) {
        unsigned at = (sq->sqe_tail - count + i) & sq->ring_mask;
        uint16_t number = (uint16_t)sq->sqes[at].user_data;
        queue->failed[queue->failed_count++] =
            (struct blk_completion){.token = queue->tasks[number].token, .result = error};
        blk_task_failed(&queue->tasks[number], queue->disk, error);
        release(queue, number);
    }
    sq->sqe_tail -= count;
    sq->sqe_head = sq->sqe_tail;
    io_uring_smp_store_release(sq->ktail, sq->sqe_tail);
}

/* Give the kernel what is in the submission ring. */
static void push(struct blk_uring_queue *queue)
{
    while (io_uring_sq_ready(&queue->ring) > 0) {
        int r = io_uring_submit(&queue->ring);
        count_add(&queue->calls, 1);
        if (r > 0 || r == -EINTR)
            continue;
        count_add(&queue->not_entered, 1);
        unsigned waiting = io_uring_sq_ready(&queue->ring);
        unsigned taken = (unsigned)queue->depth - queue->free_count;
        if (taken == waiting) /* none is with the kernel, whose completion would bring us back here */
            take_back(queue, r < 0 ? r : -EAGAIN);
        return;
    }
}

static unsigned uring_submit(struct blk_port *port, unsigned index, const struct blk_io *ios, unsigned count)
{
    struct blk_uring_queue *queue = uring_queue(port, index);
    /* A failed one keeps its place in failed[] until it is reaped. */
    uint32_t taken = u32_min(count, (uint32_t)(queue->free_count - queue->failed_count));
    for (uint32_t i = 0; i < taken; i++) {
        uint16_t number = queue->free[--queue->free_count];
        blk_task_begin(&queue->tasks[number], queue->disk, &ios[i]);
        prepare(queue, number);
    }
    count_add(&queue->operations, taken);
    push(queue);
    return taken;
}

static unsigned reap_failed(struct blk_uring_queue *queue, struct blk_completion *completions, unsigned max)
{
    unsigned given = 0;
    while (given < max && queue->failed_count > 0)
        completions[given++] = queue->failed[--queue->failed_count];
    return given;
}

static unsigned uring_reap(struct blk_port *port, unsigned index, struct blk_completion *completions, unsigned max)
{
    enum { BATCH = 64 };
    struct blk_uring_queue *queue = uring_queue(port, index);
    unsigned given = reap_failed(queue, completions, max);

    while (given < max) {
        struct io_uring_cqe *cqes[BATCH];
        unsigned count = io_uring_peek_batch_cqe(&queue->ring, cqes, u32_min(BATCH, max - given));
        if (count == 0)
            break;
        for (unsigned i = 0; i < count; i++) {
            uint16_t number = (uint16_t)cqes[i]->user_data;
            struct blk_task *task = &queue->tasks[number];
            int result;
            if (!blk_task_answer(task, queue->disk, cqes[i]->res, &result)) {
                prepare(queue, number);
                count_add(&queue->continued, 1);
                continue;
            }
            completions[given++] = (struct blk_completion){.token = task->token, .result = result};
            release(queue, number);
        }
        io_uring_cq_advance(&queue->ring, count);
    }
    push(queue);
    return given + reap_failed(queue, completions + given, max - given);
}

static void uring_cancel(struct blk_port *port, unsigned index)
{
    (void)port;
    (void)index; /* see Limits */
}

static uint64_t uring_now_ns(struct blk_port *port)
{
    (void)port;
    return clock_now_ns();
}

static const struct blk_port_class uring_class = {
    .submit = uring_submit,
    .reap = uring_reap,
    .cancel = uring_cancel,
    .now_ns = uring_now_ns,
};

static int make_ring(struct io_uring *ring, unsigned depth)
{
    static const unsigned flags[] = {
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL, /* Linux 5.19 */
        IORING_SETUP_SUBMIT_ALL,                                                         /* 5.18 */
        0,
    };
    int r = -EINVAL;
    for (size_t i = 0; i < ARRAY_SIZE(flags) && r == -EINVAL; i++) {
        struct io_uring_params parameters = {.flags = flags[i]};
        r = io_uring_queue_init_params(depth, ring, &parameters);
    }
    return r;
}

/* Does this kernel know all we need? -ENOSYS: no. */
static int check_operations(struct io_uring *ring)
{
    static const int needed[] = {IORING_OP_READ,   IORING_OP_READV, IORING_OP_WRITE,
                                 IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE};
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    if (probe == NULL)
        return -ENOSYS; /* 5.6, as are READ and WRITE */
    int r = 0;
    for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
        if (!io_uring_opcode_supported(probe, needed[i]))
            r = -ENOSYS;
    io_uring_free_probe(probe);
    return r;
}

static int make_queue(struct blk_uring_queue *queue, struct blk_disk *disk, unsigned depth)
{
    queue->disk = disk;
    queue->depth = (uint16_t)depth;
    queue->free = queue_memory(depth, sizeof(queue->free[0]));
    queue->failed = queue_memory_untouched(depth, sizeof(queue->failed[0]));
    queue->tasks = queue_memory_untouched(depth, sizeof(queue->tasks[0]));
    if (queue->free == NULL || queue->failed == NULL || queue->tasks == NULL)
        return -ENOMEM;
    while (queue->free_count < depth) {
        queue->free[queue->free_count] = (uint16_t)(depth - 1 - queue->free_count);
        queue->free_count++;
    }
    int r = make_ring(&queue->ring, depth);
    if (r < 0)
        return r;
    queue->made = true;
    return check_operations(&queue->ring);
}

static const char *explain(int error)
{
    switch (error) {
    case -ENOSYS:
        return "this kernel (or sandbox) has no io_uring, or one from before Linux 5.6";
    case -EPERM:
    case -EACCES:
        return "forbidden: by the sysctl kernel.io_uring_disabled, a seccomp filter or a security module";
    case -ENOMEM:
        return "not enough memory, or the limit of locked memory (ulimit -l) is too low";
    case -EMFILE:
        return "too many open files: raise ulimit -n";
    default:
        return strerror(-error);
    }
}

int blk_uring_open(struct blk_uring *uring, const struct disk_image *image, unsigned queues, unsigned depth,
                   char *error, size_t error_bytes)
{
    *uring = (struct blk_uring){.port.class = &uring_class};
    int r = blk_disk_init(&uring->disk, image->fd, image->block_device);
    if (r == 0) {
        uring->queues = queue_memory(queues, sizeof(uring->queues[0]));
        r = uring->queues == NULL ? -ENOMEM : 0;
    }
    while (r == 0 && uring->queue_count < queues)
        r = make_queue(&uring->queues[uring->queue_count++], &uring->disk, depth);
    if (r < 0) {
        snprintf(error, error_bytes, "%s", explain(r));
        blk_uring_close(uring);
    }
    return r;
}

void blk_uring_close(struct blk_uring *uring)
{
    for (unsigned i = 0; i < uring->queue_count; i++) {
        struct blk_uring_queue *queue = &uring->queues[i];
        if (queue->made)
            io_uring_queue_exit(&queue->ring);
        free(queue->free);
        free(queue->failed);
        free(queue->tasks);
    }
    free(uring->queues);
    blk_disk_done(&uring->disk);
    uring->queues = NULL;
    uring->queue_count = 0;
}

int blk_uring_handle(const struct blk_uring *uring, unsigned queue)
{
    ASSERT(queue < uring->queue_count);
    return uring->queues[queue].ring.ring_fd;
}

void blk_uring_count(const struct blk_uring *uring, struct blk_backend_counters *ret_counters)
{
    *ret_counters = (struct blk_backend_counters){0};
    for (unsigned i = 0; i < uring->queue_count; i++) {
        const struct blk_uring_queue *queue = &uring->queues[i];
        ret_counters->operations += count_get(&queue->operations);
        ret_counters->calls += count_get(&queue->calls);
        ret_counters->continued += count_get(&queue->continued);
        ret_counters->not_entered += count_get(&queue->not_entered);
    }
}
