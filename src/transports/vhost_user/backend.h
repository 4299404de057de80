/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The back end of vhost-user as a pure state machine: messages and handles go in, answers come out through a port. One
 * object serves one device to one front end after the other.
 *
 * Front-end messages are handled one at a time. Some must wait for queues to stop, since asynchronous I/O may still
 * write guest memory: GET_VRING_BASE, memory that is taken away, resets, a front end that is gone. Then the call
 * returns, vhost_user_backend_busy() is true, no further message may be given, and the rest happens inside
 * vhost_user_backend_queue_stopped(). Changes that need no such wait are made between two runs, on the queue's thread
 * (port call_on_queue).
 *
 * Threads: every function here is called from the control thread. Handles and mappings have one owner, and are closed
 * and undone on every failure path.
 */
#ifndef TRANSPORTS_VHOST_USER_BACKEND_H
#define TRANSPORTS_VHOST_USER_BACKEND_H

#include "transports/vhost_user/message.h"
#include "virtio/queue_line.h"
#include "virtio/virtio_device.h"

/* The port: what the state machine needs of the world. */
struct vhost_user_port {
    const struct vhost_user_port_class *class;
};

struct vhost_user_port_class {
    /*
     * Map @bytes at @offset of @handle, shared, readable and writable; any alignment of @offset. The handle stays the
     * caller's. -EINVAL, -EACCES, -ENOMEM, …: nothing is mapped. A file shorter than @offset + @bytes is -ENXIO.
     */
    int (*map)(struct vhost_user_port *port, int handle, uint64_t offset, uint64_t bytes,
               struct vhost_user_mapping *ret_mapping);
    void (*unmap)(struct vhost_user_port *port, const struct vhost_user_mapping *mapping);
    void (*close)(struct vhost_user_port *port, int handle);
    /* A new zeroed shared-memory object; the caller owns ret_handle. -ENOMEM, … */
    int (*shared_memory)(struct vhost_user_port *port, uint64_t bytes, int *ret_handle);

    /*
     * Send an answer, whole, @handle (or -1) attached but still the caller's. An error: the front end is gone, which
     * the reader will find out too.
     */
    int (*reply)(struct vhost_user_port *port, const struct vhost_user_message *message, int handle);
    /* Send a back-end request on @channel. -EAGAIN: it would block; the caller drops it. */
    int (*request)(struct vhost_user_port *port, int channel, const struct vhost_user_message *message);

    /*
     * Call @function(@argument) on the thread of queue @index, between two runs, and return when it has returned.
     * Bounded by the length of one run.
     */
    void (*call_on_queue)(struct vhost_user_port *port, unsigned index, void (*function)(void *argument),
                          void *argument);

    /*
     * The following are made on the queue's thread, from inside call_on_queue.
     *
     * Queue @index has another line; the handle is the port's to close from now on, also the one it had before.
     * -1: none. A KICK line is watched from now on whether the queue runs or not: a kick is remembered.
     */
    void (*set_line)(struct vhost_user_port *port, unsigned index, enum queue_line line, int handle);
    /* Is the queue to be looked at without kicks (front end that polls: VHOST_USER_VRING_NO_FD)? */
    void (*set_polled)(struct vhost_user_port *port, unsigned index, bool polled);
    /* Act on events that a virtio_device_* call of queue @index answered; 0 with AGAIN means: run it soon. */
    void (*events)(struct vhost_user_port *port, unsigned index, unsigned events);
};

enum vhost_user_wait {
    VHOST_USER_WAIT_NONE,
    VHOST_USER_WAIT_VRING_BASE,  /* GET_VRING_BASE: then answer */
    VHOST_USER_WAIT_MEMORY,      /* SET_MEM_TABLE, REM_MEM_REG: then exchange, restart, acknowledge */
    VHOST_USER_WAIT_RESET,       /* RESET_DEVICE, RESET_OWNER, SET_STATUS 0: then reset, acknowledge */
    VHOST_USER_WAIT_RECONFIGURE, /* anything else that stops queues to change them: then go on */
    VHOST_USER_WAIT_DISCONNECT,  /* the front end is gone: then give everything back */
};

struct vhost_user_queue {
    bool has_size, has_address;
    bool has_base;    /* said, or known from a stop; else the ring begins where new ones do */
    bool base_laid;   /* the base is one of rings of a known layout: */
    bool base_packed; /* this one */
    bool record_done; /* stopped in order with nothing left in its in-flight record: the base counts, not the record */
    bool kick_set;    /* a kick line, or polled: the ring may start (Ring states) */
    bool polled;
    bool enabled;
    bool running;  /* virtio_device_queue_start succeeded, and it has not stopped since */
    bool stopping; /* virtio_device_queue_stop was called, and has not finished */
    bool broken;   /* the guest broke the rules on it: it does not start by itself again */
    uint32_t size;
    uint32_t base;                           /* as virtqueue_base, or as the front end said it */
    struct vhost_user_vring_address address; /* as the front end said it */
};

struct vhost_user_backend {
    struct vhost_user_port *port;   /* borrowed */
    struct virtio_device *device;   /* borrowed */
    uint64_t features;              /* SET_FEATURES, as it was said: vhost's own bits included */
    uint64_t protocol_features;     /* negotiated */
    uint64_t protocol_features_max; /* offered */
    bool owned;
    bool features_set; /* no ring starts before */
    uint8_t status;    /* SET_STATUS */
    struct vhost_user_queue queues[VHOST_USER_QUEUES_MAX];
    /* Two maps: queues use one while the next is built. */
    struct guest_memory maps[2];
    unsigned current_map;
    /* Two logs, likewise. */
    struct dirty_log logs[2];
    struct vhost_user_mapping log_mappings[2];
    unsigned current_log;
    int log_line;        /* SET_LOG_FD, owned */
    int backend_channel; /* SET_BACKEND_REQ_FD, owned */
    struct vhost_user_mapping inflight_mapping;
    uint16_t inflight_queue_count;
    uint16_t inflight_queue_size; /* as it was said */
    bool inflight_has_layout;     /* features have been set since it came: its areas are of the rings' layout, */
    bool inflight_packed;         /* which is this */
    /* the message whose effect waits for queues */
    enum vhost_user_wait wait;
    struct vhost_user_message waiting;
    /* for statistics and logs: what was refused, and why */
    uint64_t messages_total;
    uint64_t refused_total;
    uint32_t refused_request;
    int refused_error;
    const char *refused_reason; /* in plain words, a constant; NULL before the first */
    const char *wrong_reason;   /* what is wrong with the message in hand, refused or not */
};

/*
 * @port and @device are borrowed and outlive the back end; the device's queues are initialised and stopped. The object
 * is some 50 KiB: not for a stack.
 */
void vhost_user_backend_init(struct vhost_user_backend *backend, struct vhost_user_port *port,
                             struct virtio_device *device);

/*
 * Handle one message of the front end, whose header vhost_user_header_check has passed. Takes the message's handles,
 * whatever happens. 0: served, refused with an answer, or now busy. -EPROTO, -EBADMSG: the front end cannot be talked
 * to any longer and is to be disconnected.
 */
int vhost_user_backend_message(struct vhost_user_backend *backend, struct vhost_user_message *message);

/* Must the next message wait? */
bool vhost_user_backend_busy(const struct vhost_user_backend *backend);

/* Queue @index answered VIRTIO_EVENT_STOPPED. Results as for a message. */
int vhost_user_backend_queue_stopped(struct vhost_user_backend *backend, unsigned index);

/* Queue @index answered VIRTIO_EVENT_NEEDS_RESET. (The port signals its error line itself.) */
void vhost_user_backend_queue_broken(struct vhost_user_backend *backend, unsigned index);

/*
 * The device changed its configuration space. Tells the front end where it can be told (BACKEND_REQ and CONFIG):
 * returns true when it was.
 */
bool vhost_user_backend_config_changed(struct vhost_user_backend *backend);

/*
 * The front end is gone, or is to go. Queues stop, then handles and mappings are given back and everything is as after
 * init. Also while busy. Done at once, or once vhost_user_backend_busy() is false again.
 */
void vhost_user_backend_disconnect(struct vhost_user_backend *backend);

#endif
