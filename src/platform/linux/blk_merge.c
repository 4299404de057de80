/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation. Tasks of a group are linked in the order in which they lie on the disk, which is also that of
 * the submission: only one that begins where the one before it ends can join. What goes to the kernel is then one list
 * of all their pieces, in which pieces that continue each other in memory are one. A request whose own pieces do so is
 * a group of one.
 *
 * An answer is shared out from the front. Where it ends, the tasks are called again by themselves, from their
 * beginning; each still has its own iov, which nothing here changes. To read or write a second time what is through
 * already does no harm: the guest has not been told yet.
 *
 * Limits. Nothing is sorted: a guest's own scheduler does that. Space operations and flushes are never merged, nor are
 * tasks whose bytes go through a bounce buffer.
 */
#include "platform/linux/blk_merge.h"

#include <errno.h>

#include "platform/linux/queue_memory.h"

/* Room for @count objects of @size at *@bytes, which moves on. Returns where. */
static size_t room(size_t *bytes, size_t count, size_t size)
{
    size_t at = *bytes;
    *bytes = (size_t)align_up(at + count * size, QUEUE_ALIGNMENT);
    return at;
}

int blk_merge_init(struct blk_merge *merge, struct blk_disk *disk, unsigned depth)
{
    size_t bytes = 0;
    /* First what must be aligned to pages. */
    size_t bounces = room(&bytes, disk->direct ? depth : 0, BLK_BOUNCE_BYTES);
    size_t tasks = room(&bytes, depth, sizeof(struct blk_task));
    size_t links = room(&bytes, depth, sizeof(struct blk_merge_link));
    size_t freed = room(&bytes, depth, sizeof(uint16_t));
    size_t pieces = room(&bytes, depth, sizeof(merge->pieces[0]));

    *merge = (struct blk_merge){.disk = disk, .depth = (uint16_t)depth, .memory_bytes = bytes};
    uint8_t *memory = queue_reserve(bytes);
    if (memory == NULL)
        return -ENOMEM;
    merge->memory = memory;
    merge->bounces = disk->direct ? memory + bounces : NULL;
    merge->tasks = (struct blk_task *)(memory + tasks);
    merge->links = (struct blk_merge_link *)(memory + links);
    merge->freed = (uint16_t *)(memory + freed);
    merge->pieces = (struct iovec(*)[BLK_MERGE_PIECES])(memory + pieces);
    return 0;
}

void blk_merge_done(struct blk_merge *merge)
{
    queue_release(merge->memory, merge->memory_bytes);
    *merge = (struct blk_merge){.disk = NULL};
}

static bool is_transfer(const struct blk_task *task)
{
    return (task->op == BLK_OP_READ || task->op == BLK_OP_WRITE) && task->bounce == NULL;
}

/* Does @piece begin where @length bytes at @base end? */
static bool continues(const void *base, size_t length, const struct guest_iovec *piece)
{
    return (const uint8_t *)base + length == (const uint8_t *)piece->base;
}

/* Add the pieces of @task to @pieces, which have room. Returns how many there are then. */
static unsigned gather(struct iovec *pieces, unsigned count, const struct blk_task *task)
{
    for (unsigned i = 0; i < task->iov_count; i++) {
        const struct guest_iovec *piece = &task->iov[i];
        if (count > 0 && continues(pieces[count - 1].iov_base, pieces[count - 1].iov_len, piece))
            pieces[count - 1].iov_len += piece->length;
        else
            pieces[count++] = (struct iovec){.iov_base = piece->base, .iov_len = piece->length};
    }
    return count;
}

static bool has_pieces_to_join(const struct blk_task *task)
{
    for (unsigned i = 1; i < task->iov_count; i++)
        if (continues(task->iov[i - 1].base, task->iov[i - 1].length, &task->iov[i]))
            return true;
    return false;
}

/* A group that is being made. */
struct group {
    uint16_t first, last;
    uint64_t bytes;
    unsigned piece_count; /* at most; some may have become one */
};

/* Task @number is a group by itself. */
static void group_begin(struct blk_merge *merge, struct group *group, uint16_t number)
{
    const struct blk_task *task = &merge->tasks[number];
    struct blk_merge_link *link = &merge->links[number];

    *group = (struct group){.first = number, .last = number, .bytes = task->length, .piece_count = task->iov_count};
    *link = (struct blk_merge_link){.next = BLK_MERGE_END};
    if (task->iov_count > 1 && task->iov_count <= BLK_MERGE_PIECES && is_transfer(task) && has_pieces_to_join(task))
        link->piece_count = (uint16_t)gather(merge->pieces[number], 0, task);
}

/* Does task @number follow in @group? Else it needs a group of its own. */
static bool group_join(struct blk_merge *merge, struct group *group, uint16_t number)
{
    const struct blk_task *task = &merge->tasks[number];
    const struct blk_task *last = &merge->tasks[group->last];
    struct blk_merge_link *first = &merge->links[group->first];

    if (task->offset != last->offset + last->length || task->op != last->op || task->flags != last->flags)
        return false;
    if (!is_transfer(task) || !is_transfer(last))
        return false;
    if (task->length > BLK_MERGE_BYTES || group->bytes > BLK_MERGE_BYTES - task->length ||
        group->piece_count + task->iov_count > BLK_MERGE_PIECES)
        return false;

    unsigned count = first->piece_count;
    if (count == 0)
        count = gather(merge->pieces[group->first], 0, &merge->tasks[group->first]);
    first->piece_count = (uint16_t)gather(merge->pieces[group->first], count, task);
    merge->links[group->last].next = number;
    merge->links[number] = (struct blk_merge_link){.next = BLK_MERGE_END, .piece_count = BLK_MERGE_PART};
    group->last = number;
    group->bytes += task->length;
    group->piece_count += task->iov_count;
    return true;
}

unsigned blk_merge_begin(struct blk_merge *merge, const struct blk_io *ios, unsigned count, uint16_t *firsts)
{
    struct group group = {.first = 0};
    unsigned groups = 0;
    for (unsigned i = 0; i < count; i++) {
        uint16_t number = merge->freed_count > 0 ? merge->freed[--merge->freed_count] : merge->fresh++;
        ASSERT(number < merge->depth);
        uint8_t *bounce = merge->bounces != NULL ? merge->bounces + (size_t)number * BLK_BOUNCE_BYTES : NULL;
        blk_task_begin(&merge->tasks[number], merge->disk, &ios[i], bounce);
        if (groups > 0 && group_join(merge, &group, number))
            continue;
        group_begin(merge, &group, number);
        firsts[groups++] = number;
    }
    return groups;
}

void blk_merge_free(struct blk_merge *merge, uint16_t number)
{
    ASSERT(merge->freed_count < merge->depth);
    merge->freed[merge->freed_count++] = number;
}

void blk_merge_call(const struct blk_merge *merge, uint16_t number, struct blk_call *ret_call)
{
    unsigned count = merge->links[number].piece_count;
    const struct iovec *pieces = merge->pieces[number];

    blk_task_call(&merge->tasks[number], merge->disk, ret_call);
    if (count == 0)
        return;
    ASSERT(count <= BLK_MERGE_PIECES);
    ret_call->iov = pieces;
    ret_call->iov_count = count > 1 ? count : 0;
    ret_call->buffer = pieces[0].iov_base;
    ret_call->length = pieces[0].iov_len;
}

uint16_t blk_merge_drop(struct blk_merge *merge, uint16_t number)
{
    uint16_t next = merge->links[number].next;
    merge->links[number] = (struct blk_merge_link){.next = BLK_MERGE_END};
    return next;
}

bool blk_merge_answer(struct blk_merge *merge, uint16_t *number, int64_t *answer, int *ret_result)
{
    struct blk_task *task = &merge->tasks[*number];
    bool alone = merge->links[*number].piece_count == 0;

    *number = blk_merge_drop(merge, *number);
    if (alone)
        return blk_task_answer(task, merge->disk, *answer, ret_result);
    if (*answer >= 0 && (uint64_t)*answer >= task->length) {
        *answer -= (int64_t)task->length;
        return blk_task_answer(task, merge->disk, (int64_t)task->length, ret_result);
    }
    if (*answer > 0)
        *answer = 0;
    blk_task_may_have_lost(task, merge->disk, *answer);
    return false;
}
