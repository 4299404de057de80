/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * One queue of a served device on its thread: its lines, its turns, its timer. Once it has been placed on a loop, all
 * of it belongs to that loop's thread; before, to its owner: whoever calls these functions, one thread at a time.
 */
#ifndef PLATFORM_LINUX_SERVER_QUEUE_H
#define PLATFORM_LINUX_SERVER_QUEUE_H

#include "platform/linux/device_queues.h"
#include "platform/linux/line.h"
#include "platform/linux/loop.h"
#include "platform/linux/poll_policy.h"
#include "virtio/queue_line.h"
#include "virtio/virtio_device.h"

struct server_queue;

/* What a queue with a thread of its own does when nothing is left to do. Without one it sleeps. */
enum server_polling {
    SERVER_POLLING_ADAPTIVE, /* look on for as long as that pays, then sleep: poll_policy.h */
    SERVER_POLLING_OFF,      /* sleep */
    SERVER_POLLING_ALWAYS,   /* look on for as long as the queue runs */
};

/* What a queue needs of its device's port. */
struct server_queue_port {
    /*
     * The handle to watch for what the port has for queue @index, or -1. Asked on the queue's thread. NULL: none for
     * any queue.
     */
    int (*handle)(void *context, unsigned index);
    /*
     * Ask after each run, not once. Then handle() tells what the last call of the model has found, not how things are
     * now: if it says -1 since something has come meanwhile, nobody asks for that, and its wake is lost.
     */
    bool handle_changes;
    /*
     * Has the port something for queue @index right now? Cheap: no system call. On the queue's thread. NULL: only its
     * handle tells.
     */
    bool (*ready)(void *context, unsigned index);
    /*
     * The queue's thread is about to sleep on handle(): from now on it tells. True: something is there already, wake
     * instead of sleeping. NULL: nothing need be done.
     */
    bool (*rest)(void *context, unsigned index);
    void *context; /* borrowed */
};

/* What a queue tells the control thread. */
#define SERVER_QUEUE_STOPPED 1u  /* it was stopping and has stopped */
#define SERVER_QUEUE_BROKEN 2u   /* the guest broke the rules */
#define SERVER_QUEUE_UNUSABLE 4u /* a line cannot be watched */

struct server_queue_statistics {
    bool running;
    bool broken;
    uint32_t in_flight;
    uint64_t popped_total, pushed_total, broken_total;
    const char *broken_reason; /* a constant; NULL: it did not break since it started */
    uint64_t looks_total, looks_paid_total, looked_ns, sleeps_total;
    uint32_t sleep_price_ns; /* 0: not measured yet */
};

/* What the next turn is for. */
enum server_queue_next {
    SERVER_QUEUE_LOOK, /* see whether there is something to do */
    SERVER_QUEUE_RUN,
    SERVER_QUEUE_WAKE,
};

struct server_queue {
    unsigned index;
    struct virtio_device *device;
    struct device_queues *queues;
    const struct server_queue_port *port; /* borrowed */
    struct loop *loop;                    /* NULL: not placed yet */
    struct loop *control;                 /* where to tell */
    struct loop *own_loop;                /* allocated; NULL: it has no thread of its own */
    struct line kick, call, error;
    struct loop_watch kick_watch;
    struct loop_watch port_watch; /* completions, entropy */
    bool port_deaf;               /* it has a handle that cannot be watched */
    struct loop_timer timer;
    struct loop_task turn; /* another one, after the others had theirs */
    enum server_queue_next next;
    bool port_waits; /* the port had something when it was to rest: the next turn is a wake */
    bool asleep;
    unsigned pending_events; /* that came before it was placed */
    bool polled;
    uint64_t poll_at_ns, poll_pause_ns, polled_popped;
    /* looking on instead of sleeping */
    enum server_polling polling;
    struct poll_policy policy;
    uint64_t slept_at_ns; /* when it went to sleep; 0: it did not, or nobody wants to know */
    uint32_t piece_ns;    /* what LOOKS_PER_PIECE looks take */
    uint64_t looks_total, looks_paid_total, looked_ns, sleeps_total;
    /* Notify the driver while there is no CALL line, on the queue's thread. NULL: that is not done. */
    void (*notify)(struct server_queue *queue);
    /* to the control thread */
    struct loop_message message;
    atomic_uint told; /* SERVER_QUEUE_* */
    void (*tell)(struct server_queue *queue, unsigned told);
};

/* @tell is called on the @control loop. Everything is borrowed. */
void server_queue_init(struct server_queue *queue, unsigned index, struct virtio_device *device,
                       struct device_queues *queues, const struct server_queue_port *port, enum server_polling polling,
                       struct loop *control, void (*tell)(struct server_queue *queue, unsigned told));
/*
 * The device's queue has stopped. Its thread ends, its lines are closed, and nothing is told any more. On the control
 * loop's thread, or when that loop runs no more.
 */
void server_queue_done(struct server_queue *queue);

/*
 * Make a thread for it, which calls @begins first unless that is NULL. -EAGAIN, -ENOMEM: none is to be had. Then it may
 * be pinned: errors are loop_pin_thread's, and it runs anywhere.
 */
int server_queue_start_thread(struct server_queue *queue, void (*begins)(void *context), void *context);
int server_queue_pin(struct server_queue *queue, unsigned processor);
/* Give it its place to run, once: its thread if it has one, else @loop. */
void server_queue_place(struct server_queue *queue, struct loop *loop);
/* Is there a reason to place it? */
bool server_queue_wants_place(const struct server_queue *queue);

/* Call on its thread; before it has one, here. */
void server_queue_call(struct server_queue *queue, void (*function)(void *argument), void *argument);

/*
 * The following on its thread, by server_queue_call.
 *
 * It has another line, and owns @handle from now on; -1: none. The one it had is closed. A KICK line is watched from
 * now on whether the queue runs or not: a kick is remembered.
 */
void server_queue_set_line(struct server_queue *queue, enum queue_line which, int handle);
/* The same with a handle that stays the caller's, and open until the queue has another line. Errors are line_borrow's,
 * and loop_watch's for a KICK line. */
int server_queue_borrow_line(struct server_queue *queue, enum queue_line which, int handle);
/* Is it to be looked at without kicks? */
void server_queue_set_polled(struct server_queue *queue, bool polled);
/* Act on events that a virtio_device_* call of the queue answered; 0 with AGAIN means: run it soon. */
void server_queue_events(struct server_queue *queue, unsigned events);
void server_queue_close_lines(struct server_queue *queue);
void server_queue_look(const struct server_queue *queue, struct server_queue_statistics *ret_statistics);

#endif
