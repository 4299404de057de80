/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What a running program tells the person who started it: lines on standard error, by level. From any thread. */
#ifndef PLATFORM_LINUX_LOG_H
#define PLATFORM_LINUX_LOG_H

#include "base/base.h"

enum log_level {
    LOG_LEVEL_ERROR, /* of the host: something does not work */
    LOG_LEVEL_INFO,  /* front ends that come and go */
    LOG_LEVEL_DEBUG, /* what guests and front ends did wrong: they must not be able to fill a disk with it */
};

struct log {
    const char *name; /* each line's beginning: "backplane blk" */
    enum log_level level;
};

/* One line, ended here. Nothing when @level is above the log's. @log may be NULL: nothing. */
__attribute__((format(printf, 3, 4))) void log_line(const struct log *log, enum log_level level, const char *format,
                                                    ...);

#endif
