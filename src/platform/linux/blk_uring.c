/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation. Each queue has a ring of its own and as many tasks as may be in flight. submit puts what
 * continues each other on the disk into groups (blk_merge.h), fills one entry for each, and enters the kernel once for
 * all; what is in memory is then already complete. reap reads the completion ring in shared memory; a task that needs
 * another call goes into the submission ring again.
 *
 * A ring is made by the queue's own thread when it first uses it: the kernel then leaves out what guards rings that
 * several threads enter (IORING_SETUP_SINGLE_ISSUER), the thread has the ring and the file by number, and a queue that
 * nobody uses costs nothing. Whether io_uring may be used is tried when the disk is opened, with a ring that is thrown
 * away. Should there be none left for a queue later, its thread makes plain calls, and waits for them: slow is better
 * than not at all.
 *
 * To wait, poll the ring's own descriptor: it is readable while the completion ring has entries, so reaping is all it
 * takes to clear it. An eventfd would cost a write in the kernel and a read here for every wake.
 *
 * So it is IORING_SETUP_COOP_TASKRUN: completions are finished by whatever system call the thread is in, without an
 * interrupt from the processor where the disk answered. IORING_SETUP_DEFER_TASKRUN does not go with polling the ring,
 * as what waits to be finished by the next io_uring_enter wakes eventfds alone, and costs more than it saves
 * (docs/decisions/0013-how-rings-are-made.md). What an older kernel does not know is left out, step by step.
 *
 * When the kernel has no memory to take entries (EAGAIN, ENOMEM), they stay in the submission ring and are offered
 * again after the next completion. Should nothing be in flight that could complete, they are taken back and fail.
 *
 * Limits. Nothing is ever cancelled: a file's I/O ends by itself, soon, and a cancelled write would reach a guest that
 * is only being stopped for migration as a disk error. Block devices are discarded by command from Linux 6.12 on;
 * earlier, holes are punched where the device can do that, and the hint is dropped elsewhere. No buffers are
 * registered, as that record says.
 */
#include "platform/linux/blk_uring.h"

#include <errno.h>
#include <liburing.h>
#include <stdio.h>

#include "platform/linux/blk_backend.h"
#include "platform/linux/blk_run.h"
#include "platform/linux/clock.h"
#include "platform/linux/queue_memory.h"

/* linux/blkdev.h, since 6.12 */
#define URING_COMMAND_DISCARD _IO(0x12, 0)

enum ring_state {
    RING_NOT_TRIED,
    RING_MADE,
    RING_REFUSED, /* the queue's thread makes plain calls */
};

/* Each entry of the submission ring is a group of tasks, so that there is one entry a task at most. */
struct blk_uring_queue {
    _Alignas(QUEUE_ALIGNMENT) struct io_uring ring;
    enum ring_state state;
    int file;           /* what entries name the disk by, with file_flags */
    uint8_t file_flags; /* IOSQE_* */
    uint16_t depth;
    uint16_t in_kernel; /* entries that it has taken and not answered */
    uint16_t finished_first, finished_count;
    struct blk_completion *finished; /* [depth], [first .. first + count) wait to be reaped */
    struct blk_merge merge;
    struct blk_disk *disk;
    unsigned age;
    _Atomic uint64_t operations, merged, blocking, calls, continued, not_entered;
};

static struct blk_uring_queue *queue_of(const struct blk_uring *uring, unsigned queue)
{
    ASSERT(queue < uring->queue_count);
    return &uring->queues[queue];
}

static struct blk_uring_queue *uring_queue(struct blk_port *port, unsigned queue)
{
    return queue_of(container_of(port, struct blk_uring, port), queue);
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

/* Put the next call of task @number, and its group, into the submission ring, which has room for every task. */
static void prepare(struct blk_uring_queue *queue, uint16_t number)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&queue->ring);
    ASSERT(sqe != NULL);
    int fd = queue->file;
    struct blk_call call;
    blk_merge_call(&queue->merge, number, &call);

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
    sqe->flags = queue->file_flags;
    io_uring_sqe_set_data64(sqe, number);
}

/* What is finished stays there until it is reaped. */
static void finish(struct blk_uring_queue *queue, uint16_t number, int result)
{
    ASSERT(queue->finished_count < queue->depth);
    if (queue->finished_first + queue->finished_count == queue->depth) {
        memmove(queue->finished, queue->finished + queue->finished_first,
                queue->finished_count * sizeof(queue->finished[0]));
        queue->finished_first = 0;
    }
    queue->finished[queue->finished_first + queue->finished_count++] =
        (struct blk_completion){.token = queue->merge.tasks[number].token, .result = result};
    blk_merge_free(&queue->merge, number);
}

/* The kernel answered @answer for task @number and its group. */
static void take_answer(struct blk_uring_queue *queue, uint16_t number, int64_t answer)
{
    while (number != BLK_MERGE_END) {
        uint16_t task = number;
        int result;
        if (blk_merge_answer(&queue->merge, &number, &answer, &result)) {
            finish(queue, task, result);
        } else {
            prepare(queue, task);
            count_add(&queue->continued, 1);
        }
    }
}

/*
 * Take everything in the submission ring back out of it: the kernel has not looked at it. Groups are taken apart by an
 * answer that does nothing for any of their tasks.
 */
static void take_back(struct blk_uring_queue *queue, int error)
{
    struct io_uring_sq *sq = &queue->ring.sq;
    unsigned count = io_uring_sq_ready(&queue->ring);
    sq->sqe_tail -= count;
    sq->sqe_head = sq->sqe_tail;
    io_uring_smp_store_release(sq->ktail, sq->sqe_tail);
    for (unsigned i = 0; i < count; i++) {
        uint16_t number = (uint16_t)sq->sqes[(sq->sqe_tail + i) & sq->ring_mask].user_data;
        while (number != BLK_MERGE_END) {
            uint16_t task = number;
            blk_task_failed(&queue->merge.tasks[task], queue->disk, error);
            number = blk_merge_drop(&queue->merge, task);
            finish(queue, task, error);
        }
    }
}

/* Give the kernel what is in the submission ring. */
static void push(struct blk_uring_queue *queue)
{
    while (io_uring_sq_ready(&queue->ring) > 0) {
        int r = io_uring_submit(&queue->ring);
        count_add(&queue->calls, 1);
        if (r > 0)
            queue->in_kernel += (uint16_t)r;
        if (r > 0 || r == -EINTR)
            continue;
        count_add(&queue->not_entered, 1);
        if (queue->in_kernel == 0) /* no completion would bring us back here */
            take_back(queue, r < 0 ? r : -EAGAIN);
        return;
    }
}

/* Task @number and its group go to the disk. */
static void start_group(struct blk_uring_queue *queue, uint16_t number)
{
    if (queue->state == RING_MADE) {
        prepare(queue, number);
        return;
    }
    struct blk_run run;
    blk_run_group(&queue->merge, number, &run);
    for (unsigned i = 0; i < run.done_count; i++)
        finish(queue, run.done[i].number, run.done[i].result);
    count_add(&queue->blocking, run.done_count);
    count_add(&queue->calls, run.calls);
    count_add(&queue->continued, run.continued);
}

static void make_queue_ring(struct blk_uring_queue *queue);

static unsigned uring_submit(struct blk_port *port, unsigned index, const struct blk_io *ios, unsigned count)
{
    struct blk_uring_queue *queue = uring_queue(port, index);
    if (queue->state == RING_NOT_TRIED)
        make_queue_ring(queue);
    /* What is finished keeps its place until it is reaped. */
    unsigned room = blk_merge_room(&queue->merge) - queue->finished_count;
    uint32_t taken = u32_min(u32_min(count, BLK_BATCH_MAX), room);
    uint16_t firsts[BLK_BATCH_MAX];
    unsigned groups = blk_merge_begin(&queue->merge, ios, taken, firsts);
    for (unsigned i = 0; i < groups; i++)
        start_group(queue, firsts[i]);
    count_add(&queue->operations, taken);
    count_add(&queue->merged, taken - groups);
    if (queue->state == RING_MADE)
        push(queue);
    return taken;
}

static unsigned take_finished(struct blk_uring_queue *queue, struct blk_completion *completions, unsigned max)
{
    unsigned given = u32_min(max, queue->finished_count);
    memcpy(completions, queue->finished + queue->finished_first, given * sizeof(completions[0]));
    queue->finished_count -= (uint16_t)given;
    queue->finished_first = queue->finished_count > 0 ? (uint16_t)(queue->finished_first + given) : 0;
    return given;
}

static unsigned uring_reap(struct blk_port *port, unsigned index, struct blk_completion *completions, unsigned max)
{
    enum { BATCH = 64 };
    struct blk_uring_queue *queue = uring_queue(port, index);
    if (queue->state == RING_MADE && queue->in_kernel > 0) {
        struct io_uring_cqe *cqes[BATCH];
        unsigned count = io_uring_peek_batch_cqe(&queue->ring, cqes, u32_min(BATCH, max));
        for (unsigned i = 0; i < count; i++)
            take_answer(queue, (uint16_t)cqes[i]->user_data, cqes[i]->res);
        io_uring_cq_advance(&queue->ring, count);
        queue->in_kernel -= (uint16_t)count;
        push(queue);
    }
    return take_finished(queue, completions, max);
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

static int make_ring(struct io_uring *ring, unsigned depth, unsigned age)
{
    static const unsigned flags[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
            IORING_SETUP_SUBMIT_ALL,                                                     /* Linux 6.0 */
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL, /* 5.19 */
        IORING_SETUP_SUBMIT_ALL,                                                         /* 5.18 */
        0,
    };
    static_assert(ARRAY_SIZE(flags) == BLK_URING_AGES, "one age, one set of flags");
    int r = -EINVAL;
    for (size_t i = age; i < ARRAY_SIZE(flags) && r == -EINVAL; i++) {
        struct io_uring_params parameters = {.flags = flags[i]};
        r = io_uring_queue_init_params(depth, ring, &parameters);
    }
    return r;
}

/* On the queue's thread. */
static void make_queue_ring(struct blk_uring_queue *queue)
{
    queue->state = RING_REFUSED;
    if (make_ring(&queue->ring, queue->depth, queue->age) < 0)
        return;
    queue->state = RING_MADE;
    /* Both save the kernel's look-ups and are not missed where they fail: before 5.18, and for a queue without a
     * thread. */
    (void)io_uring_register_ring_fd(&queue->ring);
    queue->file = queue->disk->fd;
    if (io_uring_register_files(&queue->ring, &queue->disk->fd, 1) == 0) {
        queue->file = 0;
        queue->file_flags = IOSQE_FIXED_FILE;
    }
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

/* May io_uring be used here? */
static int try_io_uring(unsigned depth, unsigned age)
{
    struct io_uring ring;
    int r = make_ring(&ring, depth, age);
    if (r < 0)
        return r;
    r = check_operations(&ring);
    io_uring_queue_exit(&ring);
    return r;
}

static size_t finished_bytes(unsigned depth)
{
    return depth * sizeof(struct blk_completion);
}

static int make_queue(struct blk_uring_queue *queue, struct blk_disk *disk, unsigned depth, unsigned age)
{
    queue->disk = disk;
    queue->depth = (uint16_t)depth;
    queue->age = age;
    queue->finished = queue_reserve(finished_bytes(depth));
    return queue->finished != NULL ? blk_merge_init(&queue->merge, disk, depth) : -ENOMEM;
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

int blk_uring_open(struct blk_uring *uring, const struct blk_uring_options *options, char *error, size_t error_bytes)
{
    ASSERT(options->age < BLK_URING_AGES);
    *uring = (struct blk_uring){.port.class = &uring_class};
    int r = blk_disk_init(&uring->disk, options->image);
    if (r == 0)
        r = try_io_uring(options->depth, options->age);
    if (r == 0) {
        uring->queues = queue_memory(options->queues, sizeof(uring->queues[0]));
        r = uring->queues == NULL ? -ENOMEM : 0;
    }
    while (r == 0 && uring->queue_count < options->queues)
        r = make_queue(&uring->queues[uring->queue_count++], &uring->disk, options->depth, options->age);
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
        if (queue->state == RING_MADE)
            io_uring_queue_exit(&queue->ring);
        queue_release(queue->finished, finished_bytes(queue->depth));
        blk_merge_done(&queue->merge);
    }
    free(uring->queues);
    blk_disk_done(&uring->disk);
    uring->queues = NULL;
    uring->queue_count = 0;
}

int blk_uring_handle(struct blk_uring *uring, unsigned index)
{
    struct blk_uring_queue *queue = queue_of(uring, index);
    if (queue->state == RING_NOT_TRIED)
        make_queue_ring(queue);
    return queue->state == RING_MADE ? queue->ring.ring_fd : -1;
}

bool blk_uring_ready(const struct blk_uring *uring, unsigned index)
{
    const struct blk_uring_queue *queue = queue_of(uring, index);
    if (queue->finished_count > 0)
        return true;
    if (queue->in_kernel == 0)
        return false;
    /* The second: completions that the kernel would finish if we entered it, which reap does. */
    return io_uring_cq_ready(&queue->ring) > 0 ||
           (IO_URING_READ_ONCE(*queue->ring.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

bool blk_uring_rest(struct blk_uring *uring, unsigned index)
{
    return blk_uring_ready(uring, index); /* the ring's descriptor always tells */
}

void blk_uring_count(const struct blk_uring *uring, struct blk_backend_counters *ret_counters)
{
    *ret_counters = (struct blk_backend_counters){0};
    for (unsigned i = 0; i < uring->queue_count; i++) {
        const struct blk_uring_queue *queue = &uring->queues[i];
        ret_counters->operations += count_get(&queue->operations);
        ret_counters->merged += count_get(&queue->merged);
        ret_counters->blocking += count_get(&queue->blocking);
        ret_counters->calls += count_get(&queue->calls);
        ret_counters->continued += count_get(&queue->continued);
        ret_counters->not_entered += count_get(&queue->not_entered);
    }
}
