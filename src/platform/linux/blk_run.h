/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Operations by plain system calls, made by whoever calls this, who is blocked meanwhile. */
#ifndef PLATFORM_LINUX_BLK_RUN_H
#define PLATFORM_LINUX_BLK_RUN_H

#include "platform/linux/blk_merge.h"

struct blk_run {
    unsigned calls;     /* made */
    unsigned continued; /* of them, since an earlier one was not enough */
    unsigned done_count;
    struct {
        uint16_t number;
        int result;
    } done[BLK_MERGE_PIECES]; /* a group has no more tasks than that, since each has a piece */
};

/* Do all that the group beginning with task @number is to do. */
void blk_run_group(struct blk_merge *merge, uint16_t number, struct blk_run *ret_run);

#endif
