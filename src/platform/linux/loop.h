/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * One epoll loop for one thread: handles to watch, timers, tasks that take turns, and calls from other threads. With
 * nothing to do it blocks for good: no tick, no time-out.
 *
 * Watches, timers, tasks and messages are embedded in what they serve, and borrowed: they must be unwatched, disarmed
 * or dropped before they go. Nothing is allocated after loop_init. Unless said otherwise, functions are for the loop's
 * own thread: the one that called loop_init, or the one that loop_start_thread made. Results are 0 or a negative errno.
 */
#ifndef PLATFORM_LINUX_LOOP_H
#define PLATFORM_LINUX_LOOP_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>

#include "base/base.h"
#include "platform/linux/sandbox.h"

/* What a thread that runs a loop asks of the kernel, lines and streams that it serves included (line.h, log.h). */
extern const struct sandbox_calls loop_system_calls;

/* What a watch asks for; LOOP_HANGUP is told whether asked for or not. */
#define LOOP_READABLE 1u
#define LOOP_WRITABLE 2u
#define LOOP_HANGUP 4u /* the other side is gone, or the handle is in error */
#define LOOP_EDGE 8u   /* tell each arrival once, though nobody takes away what arrived */

struct loop_watch {
    int handle; /* borrowed; -1: not watched */
    void (*ready)(struct loop_watch *watch, unsigned events);
};

/* A handle that is watched by nobody yet. */
#define LOOP_WATCH_NONE                                                                                                \
    {                                                                                                                  \
        .handle = -1                                                                                                   \
    }

struct loop_timer {
    void (*expired)(struct loop_timer *timer);
    uint64_t at_ns; /* 0: not armed */
    struct loop_timer *next;
};

struct loop_task {
    void (*run)(struct loop_task *task);
    struct loop_task *next;
    uint64_t round; /* in which it was queued */
    bool queued;
};

/* A note from another thread. */
struct loop_message {
    void (*deliver)(struct loop_message *message);
    struct loop_message *next;
    bool queued;
};

/* Handles looked at between two waits; the others stay ready. Small: thread stacks are. */
#define LOOP_EVENTS_MAX 16

struct loop {
    int epoll_handle;
    int wake_handle; /* eventfd: messages came, or loop_stop */
    struct epoll_event events[LOOP_EVENTS_MAX];
    int event_next, event_count; /* of events: what is still to be told */
    struct loop_timer *timers;   /* armed ones, the earliest first */
    struct loop_timer *due;      /* expired ones that are still to be told */
    struct loop_task *tasks;     /* in order of arrival */
    struct loop_task *tasks_last;
    uint64_t round;       /* of tasks */
    uint64_t waits_total; /* times it went to wait: an idle loop's does not grow */
    bool threaded;        /* made by loop_start_thread: to be joined */
    bool measures;        /* the next wait's processor time is wanted */
    uint64_t measured_ns; /* of the last one that was measured; 0: told already */
    atomic_bool called;   /* messages came, or loop_stop: for tasks that look on instead of waiting */
    atomic_bool stopping;
    pthread_t owner; /* set before the loop is shared */
    pthread_mutex_t lock;
    pthread_cond_t answered;       /* a loop_call has returned */
    struct loop_message *messages; /* under lock, in order of arrival */
    struct loop_message *messages_last;
};

int loop_init(struct loop *loop);
/* Of a loop that is not running. A thread that was started is stopped and joined first. From any other thread. */
void loop_done(struct loop *loop);

/* Serve until loop_stop. 0, or what epoll failed with. */
int loop_run(struct loop *loop);
/*
 * For whoever has a loop of his own, in which this one's epoll_handle is polled for reading: one turn, which waits for
 * something to do up to @wait_ns_max; and how long to poll, 0 being not at all and UINT64_MAX until it is readable.
 */
int loop_turn(struct loop *loop, uint64_t wait_ns_max);
uint64_t loop_timeout_ns(const struct loop *loop);
/* Serve on a new thread, small in stack, from now until loop_stop or loop_done. -EAGAIN, -ENOMEM: no thread. */
int loop_start_thread(struct loop *loop, const char *name);
/* From any thread, and from inside. */
void loop_stop(struct loop *loop);
/*
 * Let the thread run on @processor alone. For the one who started it. -EINVAL: there is no such processor, or none that
 * this process may use.
 */
int loop_pin_thread(struct loop *loop, unsigned processor);

/*
 * For a task that keeps its loop from waiting, to look for work that comes without a handle: has another thread
 * something to say, so that the task must return? Cheap: no system call.
 */
static inline bool loop_called(struct loop *loop)
{
    return atomic_load_explicit(&loop->called, memory_order_relaxed);
}

/*
 * Measure what processor time the next wait costs this thread, from going to sleep until it runs again; and ask what it
 * was, once: 0 when nothing was measured.
 */
void loop_measure_wait(struct loop *loop);
uint64_t loop_measured_wait(struct loop *loop);

/*
 * Call @ready whenever @handle has any of @events. -EPERM: this kind of file cannot be waited for. -EEXIST: it is
 * watched already.
 */
int loop_watch(struct loop *loop, struct loop_watch *watch, int handle, unsigned events,
               void (*ready)(struct loop_watch *watch, unsigned events));
int loop_watch_change(struct loop *loop, struct loop_watch *watch, unsigned events);
/* Before the handle is closed. Nothing is told any more, not even what has come already. One not watched: nothing. */
void loop_unwatch(struct loop *loop, struct loop_watch *watch);

/* Call timer->expired once at @at_ns of loop_now_ns, or soon after; 0 disarms. */
void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t at_ns);
/* CLOCK_MONOTONIC. From any thread. */
uint64_t loop_now_ns(void);

/* Run @task after everything that is ready now has had its turn. Queued already: nothing. */
void loop_task_queue(struct loop *loop, struct loop_task *task);
void loop_task_drop(struct loop *loop, struct loop_task *task);

/* Deliver @message on the loop's thread; posted already and not yet delivered: once. From any thread, never blocks. */
void loop_post(struct loop *loop, struct loop_message *message);
/* Posted and not yet delivered: it never is. Nobody posts it any more. */
void loop_unpost(struct loop *loop, struct loop_message *message);

/*
 * Run @function(@argument) on the loop's thread and return when it has returned; at once when already there. From any
 * thread, with a loop or without; two loops must not call each other at the same time, and the caller holds no lock
 * that the loop's thread may want. The loop is running, or is the caller's own.
 */
void loop_call(struct loop *loop, void (*function)(void *argument), void *argument);

#endif
