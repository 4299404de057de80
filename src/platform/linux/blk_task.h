/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * One block operation on its way through the kernel: which call comes next, and what its answer means. The back ends
 * (blk_uring, blk_plain) only differ in how they make the calls; short transfers, calls that are not supported, and
 * durability are decided here, once.
 *
 * A task is used by one thread at a time. What tasks share (struct blk_disk) is atomic or constant.
 */
#ifndef PLATFORM_LINUX_BLK_TASK_H
#define PLATFORM_LINUX_BLK_TASK_H

#include <stdatomic.h>
#include <sys/uio.h>

#include "devices/blk/blk.h"
#include "platform/linux/disk_errors.h"
#include "platform/linux/disk_image.h"

/* Zeros are written in pieces of this size where the kernel cannot make them: large enough to be quick. */
#define BLK_ZEROS_BYTES (256u << 10)

/*
 * What an unaligned transfer takes at a time when the page cache is bypassed. A guest that sends nothing else makes a
 * queue touch this much for each request in flight, so it is small; only firmware does it on purpose, and seldom.
 */
#define BLK_BOUNCE_BYTES (32u << 10)

/* What all tasks on one image share. */
struct blk_disk {
    int fd; /* borrowed */
    bool block_device;
    bool direct; /* O_DIRECT */
    /* With it: memory must be aligned to memory_mask + 1, and no piece may end within direct_mask + 1 bytes. */
    uint32_t memory_mask, direct_mask;
    const uint8_t *zeros; /* BLK_ZEROS_BYTES that read as zero and cost no memory */
    /* Learned while running: not supported there, do not ask again. */
    _Atomic bool no_punch_hole;
    _Atomic bool no_zero_range;
    _Atomic bool no_discard_command;
    _Atomic bool no_durable_write;
    _Atomic bool
        non_blocking; /* its descriptor is O_NONBLOCK: see disk_image.c; until the kernel takes that literally */
    /*
     * The errno of the first flush that failed. The kernel reports a lost page once and forgets it, so a later flush
     * that succeeds would promise what is not true: from then on every flush fails.
     */
    _Atomic int flush_error;
    struct disk_errors errors; /* of operations that failed, for people */
};

enum blk_call_kind {
    BLK_CALL_READ,
    BLK_CALL_WRITE,
    BLK_CALL_SYNC,      /* fdatasync */
    BLK_CALL_FALLOCATE, /* flags is the mode */
    BLK_CALL_DISCARD,   /* BLKDISCARD */
};

/* One call for the kernel. READ and WRITE: iov when there are several pieces, else buffer. */
struct blk_call {
    enum blk_call_kind kind;
    int flags; /* WRITE: RWF_* */
    uint64_t offset;
    uint64_t length;
    void *buffer;
    const struct iovec *iov;
    unsigned iov_count; /* 0: buffer */
};

struct blk_task {
    uint64_t token;
    uint64_t offset;
    uint64_t length;
    uint64_t done;                 /* bytes of it that are finished */
    const struct guest_iovec *iov; /* what is left of it, iov_skip bytes into the first piece */
    uint8_t *bounce;               /* BLK_BOUNCE_BYTES that its bytes go through, since they are not aligned; or NULL */
    uint32_t iov_skip;
    uint16_t iov_count;
    uint8_t op;      /* enum blk_op */
    uint8_t flags;   /* BLK_IO_* */
    uint8_t stage;   /* private to blk_task.c */
    uint8_t retries; /* in a row, without progress */
};

/* 0, or -ENOMEM. The image's descriptor is borrowed. */
int blk_disk_init(struct blk_disk *disk, const struct disk_image *image);
void blk_disk_done(struct blk_disk *disk);

/*
 * Take over @io; what its iov points to stays the caller's. @bounce: BLK_BOUNCE_BYTES of its own until it is finished,
 * as aligned as a page; may be NULL unless the disk is direct.
 */
void blk_task_begin(struct blk_task *task, const struct blk_disk *disk, const struct blk_io *io, uint8_t *bounce);

/* What to ask the kernel now. Asking twice gives the same. */
void blk_task_call(const struct blk_task *task, const struct blk_disk *disk, struct blk_call *ret_call);

/*
 * The kernel answered @answer: bytes, 0, or a negative errno. True: the task is finished with @ret_result. False:
 * there is another call to make.
 */
bool blk_task_answer(struct blk_task *task, struct blk_disk *disk, int64_t answer, int *ret_result);

/*
 * A call that made writes of this task and others durable failed with @error, and they will be made again: a page that
 * was lost before would then be forgotten.
 */
void blk_task_may_have_lost(const struct blk_task *task, struct blk_disk *disk, int64_t error);

/* The task is given up with @error, which its disk remembers. blk_task_answer does so by itself. */
void blk_task_failed(const struct blk_task *task, struct blk_disk *disk, int error);

#endif
