/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "platform/linux/blk_run.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int64_t make_call(int fd, const struct blk_call *call)
{
    struct iovec one = {.iov_base = call->buffer, .iov_len = call->length};
    const struct iovec *iov = call->iov_count > 0 ? call->iov : &one;
    int iov_count = call->iov_count > 0 ? (int)call->iov_count : 1;
    int64_t r = -1;

    switch (call->kind) {
    case BLK_CALL_READ:
        r = preadv(fd, iov, iov_count, (off_t)call->offset);
        break;
    case BLK_CALL_WRITE:
        r = pwritev2(fd, iov, iov_count, (off_t)call->offset, call->flags);
        break;
    case BLK_CALL_SYNC:
        r = fdatasync(fd);
        break;
    case BLK_CALL_FALLOCATE:
        r = fallocate(fd, call->flags, (off_t)call->offset, (off_t)call->length);
        break;
    case BLK_CALL_DISCARD: {
        uint64_t range[2] = {call->offset, call->length};
        r = ioctl(fd, BLKDISCARD, range);
        break;
    }
    }
    return r < 0 ? -errno : r;
}

/* One more call for task @number or its group. */
static int64_t call_once(struct blk_merge *merge, uint16_t number, struct blk_run *run)
{
    struct blk_call call;
    blk_merge_call(merge, number, &call);
    run->calls++;
    return make_call(merge->disk->fd, &call);
}

/* A task by itself, until it is finished. */
static int finish_alone(struct blk_merge *merge, uint16_t number, struct blk_run *run)
{
    int result;
    uint16_t end;
    int64_t answer;
    do {
        end = number;
        run->continued++;
        answer = call_once(merge, number, run);
    } while (!blk_merge_answer(merge, &end, &answer, &result));
    return result;
}

void blk_run_group(struct blk_merge *merge, uint16_t number, struct blk_run *ret_run)
{
    ret_run->calls = ret_run->continued = ret_run->done_count = 0;
    int64_t answer = call_once(merge, number, ret_run);
    while (number != BLK_MERGE_END) {
        uint16_t task = number;
        int result;
        if (!blk_merge_answer(merge, &number, &answer, &result))
            result = finish_alone(merge, task, ret_run);
        ASSERT(ret_run->done_count < BLK_MERGE_PIECES);
        ret_run->done[ret_run->done_count].number = task;
        ret_run->done[ret_run->done_count++].result = result;
    }
}
