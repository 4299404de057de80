/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * The thread that meets an error writes nothing: it posts a message to the loop, once. The loop writes the line, and
 * sets a timer; until that has expired errors are only counted. When it expires with none counted, the next error
 * posts again. So no timer runs on a disk that works.
 *
 * Limits
 *
 * Standard error that is not read must not hold up the loop, which answers front ends: a line for which there is no
 * room waits for the next time, with the errors counted further.
 */
#include "platform/linux/disk_report.h"

#include <poll.h>
#include <unistd.h>

#include "platform/linux/short_text.h"

/* A pipe says so with room for PIPE_BUF bytes, and a line is shorter: it is taken whole, without waiting. */
static bool disk_report_may_write(void)
{
    struct pollfd standard_error = {.fd = STDERR_FILENO, .events = POLLOUT};
    return poll(&standard_error, 1, 0) > 0;
}

static void disk_report_write(struct disk_report *report)
{
    struct disk_error last;
    uint64_t total;
    char text[DISK_ERROR_TEXT_BYTES];
    if (!disk_report_may_write() || disk_errors_last(report->errors, &total, &last) < 0)
        return;
    disk_error_print(&last, text, sizeof(text));
    uint64_t count = total - report->seen;
    report->seen = total;
    const char *advice = last.op == BLK_OP_FLUSH ? "; flushes fail until the daemon is started anew" : "";
    if (count == 1)
        log_line(report->log, LOG_LEVEL_ERROR, "%s: %s%s", SHORTENED(report->path), text, advice);
    else
        log_line(report->log, LOG_LEVEL_ERROR, "%s: %s%s (the last of %llu errors)", SHORTENED(report->path), text,
                 advice, (unsigned long long)count);
}

static void disk_report_turn(struct disk_report *report)
{
    disk_report_write(report);
    loop_timer_set(report->loop, &report->timer, loop_now_ns() + report->pause_ns);
}

static void disk_report_deliver(struct loop_message *message)
{
    disk_report_turn(container_of(message, struct disk_report, message));
}

static void disk_report_expired(struct loop_timer *timer)
{
    struct disk_report *report = container_of(timer, struct disk_report, timer);
    if (!disk_errors_rest(report->errors, report->seen))
        disk_report_turn(report);
}

static void disk_report_tell(void *context)
{
    struct disk_report *report = context;
    loop_post(report->loop, &report->message);
}

void disk_report_begin(struct disk_report *report, struct loop *loop, const struct log *log, const char *path,
                       struct disk_errors *errors, uint64_t pause_ns)
{
    *report = (struct disk_report){
        .loop = loop,
        .log = log,
        .path = path,
        .errors = errors,
        .pause_ns = pause_ns,
        .message.deliver = disk_report_deliver,
        .timer.expired = disk_report_expired,
    };
    disk_errors_watch(errors, disk_report_tell, report);
}

void disk_report_end(struct disk_report *report)
{
    disk_errors_watch(report->errors, NULL, NULL);
    loop_timer_set(report->loop, &report->timer, 0);
}
