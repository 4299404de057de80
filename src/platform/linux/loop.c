/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A turn is: wait, tell the watches, tell the timers, run the tasks that were queued when their round began. The wait
 * lasts until something happens: for ever without timers, not at all with tasks waiting. Timers go by the wait's own
 * time-out (epoll_pwait2, in nanoseconds), so that arming one costs no system call.
 *
 * A handler may unwatch anything, itself included: what epoll has said about it and was not told yet is struck out.
 *
 * Other threads reach a loop by a list under a mutex; only the first message of a batch writes the eventfd.
 * loop_call is such a message with someone waiting for it. The thread that is waited for may be inside a write to a
 * line that a hostile front end keeps from being written (see line.h): after LOOP_STUCK_NS it is interrupted by a
 * signal whose handler does nothing, until it answers.
 *
 * Limits
 *
 * LOOP_EVENTS_MAX handles a turn. Timers are a sorted list: meant for a handful. Without epoll_pwait2 (before Linux
 * 5.11) timers are late by up to 1 ms.
 */
#include "platform/linux/loop.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Stacks hold a burst of pointers and a kilobyte of entropy at most; sanitizers want several times that. */
#define LOOP_STACK_BYTES (256u << 10)

/* A turn takes well under this unless the thread hangs in a system call. */
#define LOOP_STUCK_NS 200000000u
#define LOOP_STUCK_SIGNAL SIGURG

#define NS_PER_S 1000000000u

static const int loop_calls[] = {
    SYS_epoll_pwait,
#ifdef SYS_epoll_pwait2
    SYS_epoll_pwait2,
#endif
#ifdef SYS_epoll_wait
    SYS_epoll_wait,
#endif
    SYS_epoll_ctl,
#ifdef SYS_poll
    SYS_poll,
#endif
    SYS_ppoll,        SYS_read, SYS_write, SYS_writev, SYS_close, SYS_fcntl,
#ifdef SYS_newfstatat
    SYS_newfstatat, /* fstat(2) of some C libraries */
#endif
    SYS_fstat,
};
const struct sandbox_calls loop_system_calls = SANDBOX_CALLS(loop_calls);

struct loop_call_message {
    struct loop_message message;
    struct loop *loop;
    void (*function)(void *argument);
    void *argument;
    bool answered; /* under the loop's lock */
};

static uint32_t loop_epoll_events(unsigned events)
{
    uint32_t epoll_events = 0;
    if (events & LOOP_READABLE)
        epoll_events |= EPOLLIN | EPOLLRDHUP;
    if (events & LOOP_WRITABLE)
        epoll_events |= EPOLLOUT;
    if (events & LOOP_EDGE)
        epoll_events |= EPOLLET;
    return epoll_events;
}

static unsigned loop_told_events(uint32_t epoll_events)
{
    unsigned events = 0;
    if (epoll_events & (EPOLLIN | EPOLLRDHUP))
        events |= LOOP_READABLE;
    if (epoll_events & EPOLLOUT)
        events |= LOOP_WRITABLE;
    if (epoll_events & (EPOLLHUP | EPOLLERR))
        events |= LOOP_HANGUP;
    return events;
}

int loop_init(struct loop *loop)
{
    *loop = (struct loop){.epoll_handle = -1, .wake_handle = -1, .owner = pthread_self()};
    pthread_mutex_init(&loop->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&loop->answered, &attributes);
    pthread_condattr_destroy(&attributes);

    int r = 0;
    loop->epoll_handle = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_handle < 0)
        r = -errno;
    if (r == 0) {
        loop->wake_handle = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (loop->wake_handle < 0)
            r = -errno;
    }
    if (r == 0) {
        /* No watch: the loop's own. */
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
        if (epoll_ctl(loop->epoll_handle, EPOLL_CTL_ADD, loop->wake_handle, &event) < 0)
            r = -errno;
    }
    if (r < 0)
        loop_done(loop);
    return r;
}

void loop_done(struct loop *loop)
{
    if (loop->threaded) {
        loop_stop(loop);
        pthread_join(loop->owner, NULL);
        loop->threaded = false;
    }
    if (loop->wake_handle >= 0)
        close(loop->wake_handle);
    if (loop->epoll_handle >= 0)
        close(loop->epoll_handle);
    loop->wake_handle = -1;
    loop->epoll_handle = -1;
    pthread_cond_destroy(&loop->answered);
    pthread_mutex_destroy(&loop->lock);
}

uint64_t loop_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* Wait up to @timeout_ns; UINT64_MAX: for ever. */
static int loop_wait(struct loop *loop, uint64_t timeout_ns)
{
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / NS_PER_S), .tv_nsec = (long)(timeout_ns % NS_PER_S)};
    if (timeout_ns == 0 || timeout_ns == UINT64_MAX)
        return epoll_wait(loop->epoll_handle, loop->events, LOOP_EVENTS_MAX, timeout_ns == 0 ? 0 : -1);
#ifdef SYS_epoll_pwait2
    int count = (int)syscall(SYS_epoll_pwait2, loop->epoll_handle, loop->events, LOOP_EVENTS_MAX, &timeout, NULL, 0);
    /* EPERM: a container's filter from before that call. */
    if (count >= 0 || (errno != ENOSYS && errno != EPERM))
        return count;
#endif
    /* Rounded up, or it would spin through the last millisecond. */
    uint64_t timeout_ms = u64_min((timeout_ns + 999999) / 1000000, 1u << 30);
    return epoll_wait(loop->epoll_handle, loop->events, LOOP_EVENTS_MAX, (int)timeout_ms);
}

uint64_t loop_timeout_ns(const struct loop *loop)
{
    if (loop->tasks)
        return 0;
    if (!loop->timers)
        return UINT64_MAX;
    uint64_t now_ns = loop_now_ns();
    return loop->timers->at_ns > now_ns ? loop->timers->at_ns - now_ns : 0;
}

static void loop_tell_messages(struct loop *loop)
{
    uint64_t count;
    ssize_t taken = read(loop->wake_handle, &count, sizeof(count));
    (void)taken; /* nothing in it: the messages came with an earlier wake */

    pthread_mutex_lock(&loop->lock);
    atomic_store(&loop->called, false); /* whoever posts sets it within the lock */
    while (loop->messages) {
        struct loop_message *message = loop->messages;
        loop->messages = message->next;
        message->queued = false;
        pthread_mutex_unlock(&loop->lock);
        message->deliver(message);
        pthread_mutex_lock(&loop->lock);
    }
    pthread_mutex_unlock(&loop->lock);
}

static void loop_tell_watches(struct loop *loop)
{
    for (loop->event_next = 0; loop->event_next < loop->event_count;) {
        const struct epoll_event *event = &loop->events[loop->event_next++];
        struct loop_watch *watch = event->data.ptr;
        if (event->events == 0)
            continue; /* struck out by loop_unwatch */
        if (watch)
            watch->ready(watch, loop_told_events(event->events));
        else
            loop_tell_messages(loop);
    }
    loop->event_count = 0;
}

static void loop_tell_timers(struct loop *loop)
{
    if (!loop->timers)
        return;
    /* Those due now: one that arms itself anew for the past waits for the next turn, so that nobody starves. */
    uint64_t now_ns = loop_now_ns();
    struct loop_timer **end = &loop->timers;
    while (*end && (*end)->at_ns <= now_ns)
        end = &(*end)->next;
    loop->due = loop->timers;
    loop->timers = *end;
    *(end == &loop->timers ? &loop->due : end) = NULL;
    while (loop->due) {
        struct loop_timer *timer = loop->due;
        loop->due = timer->next;
        timer->at_ns = 0;
        timer->expired(timer);
    }
}

static void loop_run_tasks(struct loop *loop)
{
    /* Those queued from here on, by tasks of this round, belong to the next one. */
    uint64_t round = loop->round++;
    while (loop->tasks && loop->tasks->round <= round) {
        struct loop_task *task = loop->tasks;
        loop_task_drop(loop, task);
        task->run(task);
    }
}

static uint64_t loop_thread_time_ns(void)
{
    struct timespec spent = {0};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
    return (uint64_t)spent.tv_sec * NS_PER_S + (uint64_t)spent.tv_nsec;
}

static int loop_wait_measured(struct loop *loop, uint64_t timeout_ns)
{
    loop->measures = false;
    uint64_t before_ns = loop_thread_time_ns();
    int count = loop_wait(loop, timeout_ns);
    int error = errno;
    loop->measured_ns = loop_thread_time_ns() - before_ns;
    errno = error;
    return count;
}

int loop_turn(struct loop *loop, uint64_t wait_ns_max)
{
    uint64_t timeout_ns = u64_min(loop_timeout_ns(loop), wait_ns_max);
    loop->waits_total++;
    loop->event_count =
        loop->measures && timeout_ns > 0 ? loop_wait_measured(loop, timeout_ns) : loop_wait(loop, timeout_ns);
    if (loop->event_count < 0) {
        loop->event_count = 0;
        if (errno != EINTR)
            return -errno;
    }
    loop_tell_watches(loop);
    loop_tell_timers(loop);
    loop_run_tasks(loop);
    return 0;
}

int loop_run(struct loop *loop)
{
    int r = 0;
    while (r == 0 && !atomic_load(&loop->stopping))
        r = loop_turn(loop, UINT64_MAX);
    return r;
}

static void loop_stuck_signal(int number)
{
    (void)number; /* it has interrupted: that was all */
}

static void *loop_thread(void *argument)
{
    struct loop *loop = argument;
    int r = loop_run(loop);
    ASSERT(r == 0); /* epoll on handles of our own */
    return NULL;
}

int loop_start_thread(struct loop *loop, const char *name)
{
    ASSERT(!loop->threaded);
    struct sigaction action = {.sa_handler = loop_stuck_signal}; /* no SA_RESTART: system calls are to return */
    sigaction(LOOP_STUCK_SIGNAL, &action, NULL);

    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, LOOP_STACK_BYTES);
    /* The new thread does not read owner; who calls the loop later has it from us. */
    pthread_t owner = loop->owner;
    int r = -pthread_create(&loop->owner, &attributes, loop_thread, loop);
    pthread_attr_destroy(&attributes);
    if (r < 0) {
        loop->owner = owner;
        return r;
    }
    pthread_setname_np(loop->owner, name);
    loop->threaded = true;
    return 0;
}

static void loop_wake(struct loop *loop)
{
    uint64_t one = 1;
    /* EAGAIN: it is awake as it can be. */
    ssize_t written = write(loop->wake_handle, &one, sizeof(one));
    (void)written;
}

void loop_stop(struct loop *loop)
{
    atomic_store(&loop->stopping, true);
    atomic_store(&loop->called, true);
    loop_wake(loop);
}

int loop_pin_thread(struct loop *loop, unsigned processor)
{
    cpu_set_t set;
    ASSERT(loop->threaded);
    if (processor >= CPU_SETSIZE)
        return -EINVAL;
    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    return -pthread_setaffinity_np(loop->owner, sizeof(set), &set);
}

void loop_measure_wait(struct loop *loop)
{
    loop->measures = true;
}

uint64_t loop_measured_wait(struct loop *loop)
{
    uint64_t measured_ns = loop->measured_ns;
    loop->measured_ns = 0;
    return measured_ns;
}

int loop_watch(struct loop *loop, struct loop_watch *watch, int handle, unsigned events,
               void (*ready)(struct loop_watch *watch, unsigned events))
{
    ASSERT(handle >= 0);
    struct epoll_event event = {.events = loop_epoll_events(events), .data.ptr = watch};
    if (epoll_ctl(loop->epoll_handle, EPOLL_CTL_ADD, handle, &event) < 0)
        return -errno;
    watch->handle = handle;
    watch->ready = ready;
    return 0;
}

int loop_watch_change(struct loop *loop, struct loop_watch *watch, unsigned events)
{
    ASSERT(watch->handle >= 0);
    struct epoll_event event = {.events = loop_epoll_events(events), .data.ptr = watch};
    return epoll_ctl(loop->epoll_handle, EPOLL_CTL_MOD, watch->handle, &event) < 0 ? -errno : 0;
}

void loop_unwatch(struct loop *loop, struct loop_watch *watch)
{
    if (watch->handle < 0)
        return;
    epoll_ctl(loop->epoll_handle, EPOLL_CTL_DEL, watch->handle, NULL);
    watch->handle = -1;
    for (int i = loop->event_next; i < loop->event_count; i++) {
        if (loop->events[i].data.ptr == watch)
            loop->events[i].events = 0;
    }
}

void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t at_ns)
{
    if (timer->at_ns == at_ns)
        return;
    if (timer->at_ns != 0) {
        struct loop_timer **link = &loop->timers;
        while (*link && *link != timer)
            link = &(*link)->next;
        for (link = *link ? link : &loop->due; *link != timer;)
            link = &(*link)->next;
        *link = timer->next;
    }
    timer->at_ns = at_ns;
    if (at_ns == 0)
        return;
    struct loop_timer **link = &loop->timers;
    while (*link && (*link)->at_ns <= at_ns)
        link = &(*link)->next;
    timer->next = *link;
    *link = timer;
}

void loop_task_queue(struct loop *loop, struct loop_task *task)
{
    if (task->queued)
        return;
    task->queued = true;
    task->round = loop->round;
    task->next = NULL;
    if (loop->tasks)
        loop->tasks_last->next = task;
    else
        loop->tasks = task;
    loop->tasks_last = task;
}

void loop_task_drop(struct loop *loop, struct loop_task *task)
{
    if (!task->queued)
        return;
    struct loop_task *before = NULL;
    struct loop_task **link = &loop->tasks;
    while (*link != task) {
        before = *link;
        link = &before->next;
    }
    *link = task->next;
    if (loop->tasks_last == task)
        loop->tasks_last = before;
    task->queued = false;
}

void loop_post(struct loop *loop, struct loop_message *message)
{
    pthread_mutex_lock(&loop->lock);
    bool first = !loop->messages;
    if (!message->queued) {
        message->queued = true;
        message->next = NULL;
        if (first)
            loop->messages = message;
        else
            loop->messages_last->next = message;
        loop->messages_last = message;
    }
    /* Inside the lock: the loop may be gone as soon as it has the last message that keeps it. */
    if (first) {
        atomic_store(&loop->called, true);
        loop_wake(loop);
    }
    pthread_mutex_unlock(&loop->lock);
}

void loop_unpost(struct loop *loop, struct loop_message *message)
{
    pthread_mutex_lock(&loop->lock);
    struct loop_message *before = NULL;
    struct loop_message **link = &loop->messages;
    while (*link && *link != message) {
        before = *link;
        link = &before->next;
    }
    if (*link) {
        *link = message->next;
        if (loop->messages_last == message)
            loop->messages_last = before;
        message->queued = false;
    }
    pthread_mutex_unlock(&loop->lock);
}

static void loop_call_deliver(struct loop_message *message)
{
    struct loop_call_message *call = container_of(message, struct loop_call_message, message);
    struct loop *loop = call->loop;
    call->function(call->argument);
    pthread_mutex_lock(&loop->lock);
    call->answered = true;
    pthread_cond_broadcast(&loop->answered);
    pthread_mutex_unlock(&loop->lock);
}

void loop_call(struct loop *loop, void (*function)(void *argument), void *argument)
{
    if (pthread_equal(loop->owner, pthread_self())) {
        function(argument);
        return;
    }
    struct loop_call_message call = {
        .message.deliver = loop_call_deliver, .loop = loop, .function = function, .argument = argument};
    loop_post(loop, &call.message);

    pthread_mutex_lock(&loop->lock);
    while (!call.answered) {
        uint64_t until_ns = loop_now_ns() + LOOP_STUCK_NS;
        struct timespec until = {.tv_sec = (time_t)(until_ns / NS_PER_S), .tv_nsec = (long)(until_ns % NS_PER_S)};
        if (pthread_cond_timedwait(&loop->answered, &loop->lock, &until) == ETIMEDOUT && !call.answered)
            pthread_kill(loop->owner, LOOP_STUCK_SIGNAL);
    }
    pthread_mutex_unlock(&loop->lock);
}
