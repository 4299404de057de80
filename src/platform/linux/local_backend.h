/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A device in this process, as a transport sees it (virtio/virtio_backend.h): a model whose queues run on threads of
 * their own. The way past the transport is open: a kick is the signal of an eventfd (ioeventfd), a notification that of
 * whatever handle the transport gave at the queue's start (irqfd).
 *
 * Threads: the functions of the contract come from any thread, one at a time: under the lock of options. They wait for
 * a queue's thread at most as long as one run takes, and for no other; a queue's thread never takes the lock. What
 * comes later (queue_stopped, broken) is found out on the control loop, which takes the lock and calls the listener.
 * queue_notify alone comes on a queue's thread, without the lock.
 */
#ifndef PLATFORM_LINUX_LOCAL_BACKEND_H
#define PLATFORM_LINUX_LOCAL_BACKEND_H

#include "platform/linux/log.h"
#include "platform/linux/server_queue.h"
#include "virtio/virtio_backend.h"

/* Everything is borrowed until local_backend_close. */
struct local_backend_options {
    struct virtio_device *device; /* its queues stopped */
    struct device_queues *queues; /* the device's */
    const struct log *log;        /* NULL: nothing is said */
    uint32_t queue_size_max;      /* entries, a power of two up to VRING_SIZE_MAX; 0: 256 */
    enum server_polling polling;  /* of queues with a thread of their own */
    const uint16_t *processors;   /* the thread of queue i runs on processors[i % processor_count]; none: anywhere */
    unsigned processor_count;
    struct server_queue_port queue_port;
    /*
     * NULL: each queue gets a thread when it is first started. Else all run on this loop, for devices of which little
     * is wanted; what runs there never waits for the lock, so it is not @control.
     */
    struct loop *loop;
    /*
     * Make the threads now, not when a queue is first started, which is on a processor's thread of the guest: a new
     * thread has its maker's system call filter, processors and signal mask.
     */
    bool threads_at_once;
    /* Called on each queue's new thread before it serves anything: to confine it. NULL: nothing. */
    void (*thread_begins)(void *context);
    struct loop *control;
    /* Around calls of the listener on the control loop. NULL, both: whoever calls the contract is on that loop. */
    void (*lock)(void *context);
    void (*unlock)(void *context);
    void *context;
    const struct guest_memory *memory; /* exchanged by local_backend_set_memory */
    const struct dirty_log *log_pages; /* likewise; NULL: nothing is logged */
};

struct local_queue;

struct local_backend {
    struct virtio_backend backend; /* for a transport */
    struct local_backend_options options;
    struct local_queue *queues; /* [backend.queue_count] */
    bool told_broken;           /* since the last reset */
};

/*
 * -ENOMEM, -EMFILE, … and with threads_at_once -EAGAIN: no thread. The object is not to be moved until it is closed.
 */
int local_backend_open(struct local_backend *backend, const struct local_backend_options *options);
/*
 * Every queue is stopped. Threads end, handles are closed, and no call of the listener is on its way. On the control
 * loop's thread, or when that loop runs no more; the lock may be held. A closed one is fine.
 */
void local_backend_close(struct local_backend *backend);

/*
 * Guest memory has changed: every running queue goes on with @memory and @log_pages from its next run on; when this
 * returns, none reads the old ones. What was taken away must still be mapped until requests that point there are back:
 * who takes memory away stops the queues first. A queue whose ring is not in @memory breaks, which the listener is told
 * soon. As a function of the contract.
 */
void local_backend_set_memory(struct local_backend *backend, const struct guest_memory *memory,
                              const struct dirty_log *log_pages);

/* The model's configuration space has been changed by the host: tells the listener. As a function of the contract. */
void local_backend_config_changed(struct local_backend *backend);

/* For people. As a function of the contract. */
void local_backend_look(struct local_backend *backend, unsigned index, struct server_queue_statistics *ret_statistics);

#endif
