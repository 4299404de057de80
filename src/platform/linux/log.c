/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "platform/linux/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

/* Longer lines are cut. PIPE_BUF is more, so lines of several threads do not mix. */
#define LOG_LINE_BYTES 1024

void log_line(const struct log *log, enum log_level level, const char *format, ...)
{
    char line[LOG_LINE_BYTES];
    if (!log || level > log->level)
        return;
    int head = snprintf(line, sizeof(line), "%s: ", log->name);
    if (head < 0 || (size_t)head >= sizeof(line) - 1)
        return;
    va_list arguments;
    va_start(arguments, format);
    int body = vsnprintf(line + head, sizeof(line) - (size_t)head - 1, format, arguments);
    va_end(arguments);
    if (body < 0)
        return;
    size_t length = size_min((size_t)head + (size_t)body, sizeof(line) - 2);
    line[length++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, length);
    (void)written; /* nobody to tell */
}
