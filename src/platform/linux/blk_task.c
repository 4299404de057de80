/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation. A task is in a stage; each stage is one kind of call. Reads and writes repeat theirs until all
 * bytes are through. Space operations go down a ladder until a rung holds:
 *
 *   DISCARD                 block device: BLKDISCARD, then PUNCH_HOLE; file: PUNCH_HOLE; then nothing at all, which
 *                           is a success: VIRTIO 1.3, 5.2.6.2 lets a device ignore what is only a hint
 *   WRITE_ZEROES, UNMAP     PUNCH_HOLE, which reads as zeros everywhere; then as without UNMAP
 *   WRITE_ZEROES            ZERO_RANGE, which keeps space reserved; then zeros written piece by piece
 *
 * A durable task ends with its data on stable storage: by RWF_DSYNC on each write, or fdatasync as a last stage.
 *
 * Past the page cache (O_DIRECT) the kernel takes only memory and lengths that are aligned, and a guest may have
 * others: then the bytes go through a buffer of the task's own, so much at a time as that holds. The page cache would
 * take them, too, but may not be used beside O_DIRECT on the same page: a page that one request reads in, to change a
 * part of it, would later be written over what the other has put on the disk meanwhile.
 *
 * A file in memory is opened O_NONBLOCK (disk_image.c). Should a kernel answer EAGAIN for that reason, it is taken off.
 *
 * Limits. A piece of a guest's memory is below 4 GiB, as descriptors have 32 bits for it.
 */
#include "platform/linux/blk_task.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>

/* EAGAIN and EINTR again and again, with no byte done in between, are an error after all. */
#define RETRIES_MAX 100

enum stage {
    STAGE_TRANSFER,
    STAGE_SYNC,
    STAGE_DISCARD,
    STAGE_PUNCH_DISCARD,
    STAGE_PUNCH_ZEROES,
    STAGE_ZERO_RANGE,
    STAGE_WRITE_ZEROS,
};

/* Guest pieces go to the kernel as they are. */
static_assert(sizeof(struct guest_iovec) == sizeof(struct iovec), "size of struct iovec");
static_assert(offsetof(struct guest_iovec, base) == offsetof(struct iovec, iov_base), "iov_base");
static_assert(offsetof(struct guest_iovec, length) == offsetof(struct iovec, iov_len), "iov_len");
static_assert(sizeof(struct blk_task) <= 64, "one task, one cache line");
static_assert(VIRTQ_LONG_RUN_PIECES <= 1024, "UIO_MAXIOV");

int blk_disk_init(struct blk_disk *disk, const struct disk_image *image)
{
    *disk = (struct blk_disk){.fd = image->fd, .block_device = image->block_device, .direct = image->direct};
    if (image->direct) {
        disk->memory_mask = image->direct_memory_bytes - 1;
        disk->direct_mask = disk->memory_mask | (image->direct_block_bytes - 1);
        ASSERT(disk->direct_mask < BLK_BOUNCE_BYTES);
    }
    atomic_init(&disk->non_blocking, image->non_blocking);
    /* Never written, so all of it is the kernel's one page of zeros. */
    void *zeros = mmap(NULL, BLK_ZEROS_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (zeros == MAP_FAILED)
        return -errno;
    disk->zeros = zeros;
    disk_errors_init(&disk->errors);
    return 0;
}

void blk_disk_done(struct blk_disk *disk)
{
    if (disk->zeros == NULL)
        return;
    munmap((void *)(uintptr_t)disk->zeros, BLK_ZEROS_BYTES);
    disk->zeros = NULL;
    disk_errors_done(&disk->errors);
}

static bool known(const _Atomic bool *flag)
{
    return atomic_load_explicit(flag, memory_order_relaxed);
}

static void learn(_Atomic bool *flag)
{
    atomic_store_explicit(flag, true, memory_order_relaxed);
}

/* The first rung to try, skipping those known not to hold. */
static enum stage zeroes_stage(const struct blk_disk *disk, bool unmap)
{
    if (unmap && !known(&disk->no_punch_hole))
        return STAGE_PUNCH_ZEROES;
    return known(&disk->no_zero_range) ? STAGE_WRITE_ZEROS : STAGE_ZERO_RANGE;
}

static enum stage first_stage(const struct blk_disk *disk, const struct blk_io *io)
{
    switch (io->op) {
    case BLK_OP_READ:
    case BLK_OP_WRITE:
        return STAGE_TRANSFER;
    case BLK_OP_FLUSH:
        return STAGE_SYNC;
    case BLK_OP_DISCARD:
        return disk->block_device && !known(&disk->no_discard_command) ? STAGE_DISCARD : STAGE_PUNCH_DISCARD;
    case BLK_OP_WRITE_ZEROES:
        return zeroes_stage(disk, io->flags & BLK_IO_UNMAP);
    }
    backplane_assert_failed("op is one of enum blk_op", __FILE__, __LINE__);
}

static bool is_unaligned(const struct blk_disk *disk, const struct blk_io *io)
{
    uint64_t bases = 0, lengths = 0;
    for (uint32_t i = 0; i < io->iov_count; i++) {
        bases |= (uintptr_t)io->iov[i].base;
        lengths |= io->iov[i].length;
    }
    return (bases & disk->memory_mask) != 0 || (lengths & disk->direct_mask) != 0;
}

void blk_task_begin(struct blk_task *task, const struct blk_disk *disk, const struct blk_io *io, uint8_t *bounce)
{
    ASSERT(io->iov_count <= VIRTQ_LONG_RUN_PIECES);
    ASSERT(bounce != NULL || !disk->direct);
    *task = (struct blk_task){
        .token = io->token,
        .offset = io->offset,
        .length = io->length,
        .iov = io->iov,
        .bounce = disk->direct && is_unaligned(disk, io) ? bounce : NULL,
        .iov_count = (uint16_t)io->iov_count,
        .op = (uint8_t)io->op,
        .flags = (uint8_t)io->flags,
        .stage = (uint8_t)first_stage(disk, io),
    };
}

static int durable_flag(const struct blk_task *task, const struct blk_disk *disk)
{
    return (task->flags & BLK_IO_DURABLE) && !known(&disk->no_durable_write) ? RWF_DSYNC : 0;
}

/* Copy @bytes between the bounce buffer and the pieces, from where the task stands. */
static void bounce_copy(const struct blk_task *task, uint64_t bytes)
{
    const struct guest_iovec *piece = task->iov;
    size_t skip = task->iov_skip;
    for (uint64_t done = 0; done < bytes; piece++) {
        size_t now = (size_t)u64_min(piece->length - skip, bytes - done);
        uint8_t *guest = (uint8_t *)piece->base + skip;
        if (task->op == BLK_OP_READ)
            memcpy(guest, task->bounce + done, now);
        else
            memcpy(task->bounce + done, guest, now);
        done += now;
        skip = 0;
    }
}

static void transfer_call(const struct blk_task *task, const struct blk_disk *disk, struct blk_call *call)
{
    call->kind = task->op == BLK_OP_READ ? BLK_CALL_READ : BLK_CALL_WRITE;
    if (task->op != BLK_OP_READ)
        call->flags = durable_flag(task, disk);
    if (task->bounce != NULL) {
        call->buffer = task->bounce;
        call->length = u64_min(task->length - task->done, BLK_BOUNCE_BYTES);
        if (task->op != BLK_OP_READ)
            bounce_copy(task, call->length);
        return;
    }
    if (task->iov_skip == 0 && task->iov_count > 1) {
        call->iov = (const struct iovec *)task->iov;
        call->iov_count = task->iov_count;
        return;
    }
    /* One piece, or the rest of one that was cut; the pieces after it come with the next call. */
    if (task->iov_count > 0) {
        call->buffer = (uint8_t *)task->iov->base + task->iov_skip;
        call->length = task->iov->length - task->iov_skip;
    }
}

void blk_task_call(const struct blk_task *task, const struct blk_disk *disk, struct blk_call *ret_call)
{
    *ret_call = (struct blk_call){.offset = task->offset + task->done, .length = task->length - task->done};
    switch ((enum stage)task->stage) {
    case STAGE_TRANSFER:
        transfer_call(task, disk, ret_call);
        return;
    case STAGE_SYNC:
        ret_call->kind = BLK_CALL_SYNC;
        return;
    case STAGE_DISCARD:
        ret_call->kind = BLK_CALL_DISCARD;
        return;
    case STAGE_PUNCH_DISCARD:
    case STAGE_PUNCH_ZEROES:
        ret_call->kind = BLK_CALL_FALLOCATE;
        ret_call->flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
        return;
    case STAGE_ZERO_RANGE:
        ret_call->kind = BLK_CALL_FALLOCATE;
        ret_call->flags = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
        return;
    case STAGE_WRITE_ZEROS:
        ret_call->kind = BLK_CALL_WRITE;
        ret_call->buffer = (void *)(uintptr_t)disk->zeros;
        ret_call->length = u64_min(ret_call->length, BLK_ZEROS_BYTES);
        return;
    }
}

static bool finish(int result, int *ret_result)
{
    *ret_result = result;
    return true;
}

static bool go_on(struct blk_task *task, enum stage stage)
{
    task->stage = (uint8_t)stage;
    task->retries = 0;
    return false;
}

/* All bytes are done, or given back: what is left is to make that last. */
static bool finish_space(struct blk_task *task, int *ret_result)
{
    if (task->flags & BLK_IO_DURABLE)
        return go_on(task, STAGE_SYNC);
    return finish(0, ret_result);
}

static bool not_supported(int64_t answer)
{
    return answer == -EOPNOTSUPP || answer == -ENOSYS || answer == -ENOTTY || answer == -ENODEV || answer == -EINVAL;
}

/* Step over @bytes of the pieces. */
static void advance(struct blk_task *task, uint64_t bytes)
{
    task->done += bytes;
    task->retries = 0;
    while (bytes > 0) {
        ASSERT(task->iov_count > 0);
        uint64_t left = task->iov->length - task->iov_skip;
        if (bytes < left) {
            task->iov_skip += (uint32_t)bytes;
            return;
        }
        bytes -= left;
        task->iov++;
        task->iov_count--;
        task->iov_skip = 0;
    }
}

static void remember_flush_error(struct blk_disk *disk, int error)
{
    int expected = 0;
    atomic_compare_exchange_strong(&disk->flush_error, &expected, error);
}

void blk_task_may_have_lost(const struct blk_task *task, struct blk_disk *disk, int64_t error)
{
    /* It may have been told of pages that an earlier write had lost: no flush will hear of them again. */
    if (task->op == BLK_OP_WRITE && (task->flags & BLK_IO_DURABLE) && error == -EIO)
        remember_flush_error(disk, -EIO);
}

static bool transfer_failed(struct blk_task *task, struct blk_disk *disk, int error, int *ret_result)
{
    bool durable = task->op == BLK_OP_WRITE && (task->flags & BLK_IO_DURABLE);
    if (durable && error == -EOPNOTSUPP && !known(&disk->no_durable_write)) {
        learn(&disk->no_durable_write);
        return go_on(task, STAGE_TRANSFER);
    }
    blk_task_may_have_lost(task, disk, error);
    return finish(error, ret_result);
}

static bool transfer_answer(struct blk_task *task, struct blk_disk *disk, int64_t answer, int *ret_result)
{
    if (answer < 0)
        return transfer_failed(task, disk, (int)answer, ret_result);
    uint64_t left = task->length - task->done;
    uint64_t bytes = (uint64_t)answer;
    ASSERT(bytes <= left);
    if (task->bounce != NULL && task->op == BLK_OP_READ)
        bounce_copy(task, bytes);
    if (bytes < left) {
        /* What ends within a block is made again from the block's start: O_DIRECT cannot go on in between. */
        bytes &= ~(uint64_t)disk->direct_mask;
        /* The file is shorter than the disk: it shrank under us. To make up zeros would hide the loss. */
        if (bytes == 0)
            return finish(task->op == BLK_OP_READ ? -EIO : -ENOSPC, ret_result);
        advance(task, bytes);
        return false;
    }
    bool durable = task->op == BLK_OP_WRITE && (task->flags & BLK_IO_DURABLE);
    if (durable && known(&disk->no_durable_write))
        return go_on(task, STAGE_SYNC);
    return finish(0, ret_result);
}

static bool sync_answer(struct blk_disk *disk, int64_t answer, int *ret_result)
{
    if (answer < 0)
        remember_flush_error(disk, (int)answer);
    return finish(atomic_load(&disk->flush_error), ret_result);
}

static bool space_answer(struct blk_task *task, struct blk_disk *disk, int64_t answer, int *ret_result)
{
    bool refused = not_supported(answer) && task->length > 0;
    if (!refused)
        return answer < 0 && task->length > 0 ? finish((int)answer, ret_result) : finish_space(task, ret_result);

    /* EINVAL may be about these very numbers: go down a rung for them, but do not conclude anything for others. */
    bool for_good = answer != -EINVAL;
    switch ((enum stage)task->stage) {
    case STAGE_DISCARD:
        if (for_good)
            learn(&disk->no_discard_command);
        return go_on(task, STAGE_PUNCH_DISCARD);
    case STAGE_PUNCH_DISCARD:
        return finish(0, ret_result);
    case STAGE_PUNCH_ZEROES:
        if (for_good)
            learn(&disk->no_punch_hole);
        return go_on(task, known(&disk->no_zero_range) ? STAGE_WRITE_ZEROS : STAGE_ZERO_RANGE);
    case STAGE_ZERO_RANGE:
        if (for_good)
            learn(&disk->no_zero_range);
        return go_on(task, STAGE_WRITE_ZEROS);
    default:
        backplane_assert_failed("the stage is one of space operations", __FILE__, __LINE__);
    }
}

static bool zeros_answer(struct blk_task *task, const struct blk_disk *disk, int64_t answer, int *ret_result)
{
    if (answer < 0)
        return finish((int)answer, ret_result);
    uint64_t left = u64_min(task->length - task->done, BLK_ZEROS_BYTES);
    uint64_t bytes = (uint64_t)answer < left ? (uint64_t)answer & ~(uint64_t)disk->direct_mask : left;
    if (bytes == 0)
        return finish(-ENOSPC, ret_result);
    task->done += bytes;
    task->retries = 0;
    return task->done == task->length ? finish_space(task, ret_result) : false;
}

/* This kernel takes O_NONBLOCK literally, and would not wait for anything. */
static void wait_from_now_on(struct blk_disk *disk)
{
    if (!atomic_exchange(&disk->non_blocking, false))
        return;
    int flags = fcntl(disk->fd, F_GETFL);
    if (flags >= 0)
        (void)fcntl(disk->fd, F_SETFL, flags & ~O_NONBLOCK);
}

static bool stage_answer(struct blk_task *task, struct blk_disk *disk, int64_t answer, int *ret_result)
{
    if (answer == -EAGAIN && known(&disk->non_blocking))
        wait_from_now_on(disk);
    if ((answer == -EAGAIN || answer == -EINTR) && task->retries < RETRIES_MAX) {
        task->retries++;
        return false;
    }
    switch ((enum stage)task->stage) {
    case STAGE_TRANSFER:
        return transfer_answer(task, disk, answer, ret_result);
    case STAGE_SYNC:
        return sync_answer(disk, answer, ret_result);
    case STAGE_WRITE_ZEROS:
        return zeros_answer(task, disk, answer, ret_result);
    default:
        return space_answer(task, disk, answer, ret_result);
    }
}

void blk_task_failed(const struct blk_task *task, struct blk_disk *disk, int error)
{
    const struct disk_error record = {.op = (enum blk_op)task->op, .offset = task->offset + task->done, .error = error};
    disk_errors_add(&disk->errors, &record);
}

bool blk_task_answer(struct blk_task *task, struct blk_disk *disk, int64_t answer, int *ret_result)
{
    if (!stage_answer(task, disk, answer, ret_result))
        return false;
    if (*ret_result < 0)
        blk_task_failed(task, disk, *ret_result);
    return true;
}
