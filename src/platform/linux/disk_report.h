/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Tells the person who runs a disk of its errors, in the log: the first at once, then at most one line in a while. */
#ifndef PLATFORM_LINUX_DISK_REPORT_H
#define PLATFORM_LINUX_DISK_REPORT_H

#include "platform/linux/disk_errors.h"
#include "platform/linux/log.h"
#include "platform/linux/loop.h"

/* A guest that meets a full file system may go on trying as fast as it can. */
#define DISK_REPORT_PAUSE_NS (UINT64_C(60) * 1000000000)

struct disk_report {
    struct loop *loop;
    const struct log *log;
    const char *path;
    struct disk_errors *errors;
    uint64_t pause_ns;
    uint64_t seen; /* of the errors' total: reported, or from before */
    struct loop_message message;
    struct loop_timer timer;
};

/* Begin; everything is borrowed until disk_report_end. On @loop's thread, or before it runs. */
void disk_report_begin(struct disk_report *report, struct loop *loop, const struct log *log, const char *path,
                       struct disk_errors *errors, uint64_t pause_ns);

/* The loop runs no more; @report must outlive it. */
void disk_report_end(struct disk_report *report);

#endif
