/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The tasks of one queue. Operations that continue each other on the disk are a group: one vectored transfer, which is
 * taken apart again when it is answered. For the engines (blk_uring, blk_plain).
 *
 * Tasks are begun and freed on the queue's thread. A group is called and answered on any one thread.
 */
#ifndef PLATFORM_LINUX_BLK_MERGE_H
#define PLATFORM_LINUX_BLK_MERGE_H

#include "platform/linux/blk_task.h"

/*
 * Bytes and pieces of one merged transfer. What merging saves is the kernel's work for each request, a microsecond or
 * two, which is nothing beside the copying of 128 KiB, and nobody waits long for that. It is also what 32 requests of a
 * page make, with a piece or two each.
 */
#define BLK_MERGE_BYTES (128u << 10)
#define BLK_MERGE_PIECES 64

#define BLK_MERGE_END UINT16_MAX

/* In the place of piece_count: a task that is not the first of its group. */
#define BLK_MERGE_PART UINT16_MAX

struct blk_merge_link {
    uint16_t next;        /* the task that follows in the group, or BLK_MERGE_END */
    uint16_t piece_count; /* in pieces[], of a group's first task; 0: its own iov is what goes to the kernel */
};

struct blk_merge {
    struct blk_disk *disk;                    /* borrowed */
    struct blk_task *tasks;                   /* [depth], by task number */
    struct blk_merge_link *links;             /* [depth] */
    struct iovec (*pieces)[BLK_MERGE_PIECES]; /* [depth], by the number of a group's first task */
    uint8_t *bounces;                         /* [depth][BLK_BOUNCE_BYTES]; NULL: not needed */
    uint16_t *freed;                          /* [depth], a stack of numbers that are free again */
    uint16_t freed_count;
    uint16_t fresh; /* this number and all above have never been used */
    uint16_t depth;
    uint8_t *memory;
    size_t memory_bytes;
};

/* 0, or -ENOMEM. No memory is touched before it is needed. */
int blk_merge_init(struct blk_merge *merge, struct blk_disk *disk, unsigned depth);
void blk_merge_done(struct blk_merge *merge);

/* How many tasks are free. */
static inline unsigned blk_merge_room(const struct blk_merge *merge)
{
    return (unsigned)merge->freed_count + (unsigned)(merge->depth - merge->fresh);
}

/*
 * Begin a task for each of @ios, at most BLK_BATCH_MAX, for which there is room. Returns the number of groups; the
 * number of the first task of each is in @firsts.
 */
unsigned blk_merge_begin(struct blk_merge *merge, const struct blk_io *ios, unsigned count, uint16_t *firsts);
/* Task @number is finished. */
void blk_merge_free(struct blk_merge *merge, uint16_t number);

/* The call for the group that begins with task @number. */
void blk_merge_call(const struct blk_merge *merge, uint16_t number, struct blk_call *ret_call);

/*
 * The kernel answered @answer to the call of the group that begins with task @number. The group is taken apart: tasks
 * whose bytes are all through are finished, the others are to be called again, each by itself, so that exactly those
 * fail that cannot be done. Asked once for each task of the group, in order:
 *
 *     while (number != BLK_MERGE_END) {
 *         uint16_t task = number;
 *         finished = blk_merge_answer(merge, &number, &answer, &result);
 *         …
 *     }
 *
 * True: that task is finished with @ret_result. False: it has another call to make, which blk_merge_call gives.
 */
bool blk_merge_answer(struct blk_merge *merge, uint16_t *number, int64_t *answer, int *ret_result);

/* The call of the group was not made: take task @number off its front. Returns the next, or BLK_MERGE_END. */
uint16_t blk_merge_drop(struct blk_merge *merge, uint16_t number);

#endif
