/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The front end of vhost-user as a pure state machine: a device whose queues another process serves, as struct
 * virtio_backend. Messages go out through a port, answers come in by vhost_user_frontend_reply; nothing waits. What a
 * transport wants (features, queues that run) is kept apart from what the peer has been told, and the difference is
 * sent as soon as the peer is there: so a peer that goes may be followed by another, at any moment, and finds all of it
 * again.
 *
 * The peer is not trusted. An answer that is not the one that is due, or not of its form, ends the connection; the
 * device then waits for the next one, as for a peer that died. Only what no successor can mend breaks the device
 * (listener->broken): features that are gone, a ring that the peer refuses, a packed ring of which nobody knows where
 * it stood.
 *
 * Threads: one at a time, whoever holds the lock that the owner has for this.
 */
#ifndef TRANSPORTS_VHOST_USER_FRONTEND_H
#define TRANSPORTS_VHOST_USER_FRONTEND_H

#include "transports/vhost_user/message.h"
#include "virtio/virtio_backend.h"

/* Memory regions that a front end hands out: as many as KVM and other VMMs have for what can be plugged and moved. */
#define VHOST_USER_FRONTEND_REGIONS_MAX 64

/* A piece of guest memory that the peer may reach. Nothing outside of these can be used for rings or data. */
struct vhost_user_frontend_region {
    uint64_t guest_base;
    uint64_t size;   /* not 0 */
    int handle;      /* the file behind it, borrowed for as long as the region is in use */
    uint64_t offset; /* of the first byte in the file */
    uint8_t *host;   /* the first byte in this process: used rings are read here when a peer has died */
};

struct vhost_user_frontend_port {
    const struct vhost_user_frontend_port_class *class;
};

/* The port. Its functions never call back into the front end. */
struct vhost_user_frontend_port_class {
    /*
     * Send @message, whole and after those before it, with its handles, which are borrowed for the call. What does not
     * go now is kept. A connection that fails is told by vhost_user_frontend_lost afterwards.
     */
    void (*send)(struct vhost_user_frontend_port *port, const struct vhost_user_message *message);
    /* The same on the channel for the peer's requests (an answer to one). */
    void (*answer)(struct vhost_user_frontend_port *port, const struct vhost_user_message *message);
    /*
     * Make a channel for the peer's requests: ret_handle is the peer's end, the front end's to close. What comes on it
     * is told by vhost_user_frontend_request. < 0: it cannot be had, and the front end does without.
     */
    int (*open_channel)(struct vhost_user_frontend_port *port, int *ret_handle);
    void (*close)(struct vhost_user_frontend_port *port, int handle);
    /*
     * Map @bytes at @offset of @handle, as vhost_user_port_class.map; the file is the peer's, who may cut it.
     */
    int (*map)(struct vhost_user_frontend_port *port, int handle, uint64_t offset, uint64_t bytes,
               struct vhost_user_mapping *ret_mapping);
    void (*unmap)(struct vhost_user_frontend_port *port, const struct vhost_user_mapping *mapping);

    /*
     * Handles of queue @index, the port's, the same for its life: whose signal is a kick; and one whose signal makes
     * the port call listener->queue_notify (-1: it cannot, and queue_start wants a handle).
     */
    int (*kick_handle)(struct vhost_user_frontend_port *port, unsigned index);
    int (*notify_handle)(struct vhost_user_frontend_port *port, unsigned index);
    /* The handle that the peer signals when a queue is broken: the port then calls vhost_user_frontend_failed. */
    int (*error_handle)(struct vhost_user_frontend_port *port);
    void (*signal)(struct vhost_user_frontend_port *port, int handle);

    /* The connection is of no more use: close it and find another one. @reason is a constant, for people. */
    void (*hang_up)(struct vhost_user_frontend_port *port, const char *reason);
    /* The peer has introduced itself: features, queues and configuration are known. At each connection, once. */
    void (*greeted)(struct vhost_user_frontend_port *port);
    /* Everything that was sent has been answered; or the connection is gone. May be NULL. */
    void (*settled)(struct vhost_user_frontend_port *port);
    /* The device has been broken: why, a constant, for people. May be NULL. */
    void (*broken)(struct vhost_user_frontend_port *port, const char *reason);
};

enum vhost_user_frontend_phase {
    VHOST_USER_FRONTEND_AWAY,     /* no connection */
    VHOST_USER_FRONTEND_GREETING, /* features and the like are being asked for */
    VHOST_USER_FRONTEND_PRESENT,  /* the peer does what it is told */
};

/*
 * Answers that are due. A queue's start and stop have 9; regions and what the owner does by hand come on top. What a
 * guest can ask for without end (features, status, configuration, interrupts) is sent only while few are due.
 */
#define VHOST_USER_FRONTEND_DUE_MAX 2048

struct vhost_user_frontend_due {
    uint8_t request;
    uint8_t index;       /* of the queue */
    bool is_acknowledge; /* by REPLY_ACK */
};

struct vhost_user_frontend_queue {
    bool wanted;   /* the transport started it, and has not stopped it */
    bool told;     /* the peer has it, and may serve it */
    bool stopping; /* GET_VRING_BASE is due */
    bool resumed;  /* a peer before this one had it: where it stands is found in its memory or in the record */
    bool orphaned; /* it was stopped without a peer: the record may have requests that nobody will take up */
    struct virtqueue_config config;
    int notify;      /* borrowed; -1: the listener */
    int told_notify; /* the handle that the peer has */
    uint32_t base;   /* of a stopped queue */
};

struct vhost_user_frontend_log {
    int handle;      /* borrowed while the log is on; -1: off */
    uint64_t offset; /* in the file */
    uint64_t bytes;
};

/* A bit for each byte of a configuration space. */
struct vhost_user_frontend_bytes {
    uint64_t bits[VHOST_USER_CONFIG_BYTES_MAX / 64];
};

struct vhost_user_frontend {
    struct virtio_backend virtio; /* the device */
    struct vhost_user_frontend_port *port;
    enum vhost_user_frontend_phase phase;
    bool isolated;
    bool greeted;   /* at least once */
    bool asked_all; /* of the greeting */
    /* the peer's */
    uint64_t peer_features; /* vhost's own bits included */
    uint64_t protocol_features;
    uint64_t memory_slots;
    uint64_t peer_queues; /* 0: it did not say */
    /* what is wanted */
    uint64_t offered;  /* to the driver */
    uint64_t features; /* the driver's choice */
    bool features_set;
    uint8_t status;
    bool is_broken;
    bool resetting;
    struct vhost_user_frontend_region regions[VHOST_USER_FRONTEND_REGIONS_MAX];
    unsigned region_count;
    struct vhost_user_frontend_log log;
    struct vhost_user_frontend_queue queues[VHOST_USER_QUEUES_MAX];
    /* what the peer has been told */
    uint64_t told_features; /* 0: nothing */
    uint8_t told_status;
    bool told_record;
    bool told_log; /* the log that is on */
    struct vhost_user_frontend_region told_regions[VHOST_USER_FRONTEND_REGIONS_MAX];
    unsigned told_region_count;
    /* the in-flight record, kept from peer to peer */
    bool record_due;     /* it was asked for */
    bool without_record; /* this peer has none for us */
    bool record_packed;  /* of rings of which layout */
    int record_handle;   /* owned; -1: none */
    struct vhost_user_inflight record;
    struct vhost_user_mapping record_mapping;
    bool config_is_ours; /* no peer is asked for the configuration space */
    /* it, as it was last heard of, */
    uint8_t config[VHOST_USER_CONFIG_BYTES_MAX];
    struct vhost_user_frontend_bytes config_written; /* what the driver wrote since its reset, */
    struct vhost_user_frontend_bytes config_unsent;  /* and what of that the peer has not been told */
    bool config_due;                                 /* the peer was asked for it */
    bool config_stale;                               /* it is to be asked */
    uint32_t config_generation;
    /* answers that are due, oldest first: a ring */
    struct vhost_user_frontend_due due[VHOST_USER_FRONTEND_DUE_MAX];
    uint32_t due_first, due_count;
    uint32_t unanswered;                                      /* messages since the last one that has an answer */
    uint64_t answers_total;                                   /* for whoever sees to it that answers come */
    uint64_t lost_total;                                      /* connections */
    const char *broken_reason, *lost_reason, *refused_reason; /* the last ones; constants, for people */
};

struct vhost_user_frontend_config {
    uint16_t device_id;
    uint16_t queue_count; /* the most wanted, up to VHOST_USER_QUEUES_MAX; 0: as many as the first peer has */
    uint32_t queue_size_max;
    uint32_t config_bytes; /* of the configuration space; peers may refuse any number but the one they have */
    /* The space itself, copied, where it is not the peer's to know (a file system's tag); NULL: the peer is asked. */
    const void *config_space;
    /*
     * Offer VIRTIO_F_ACCESS_PLATFORM, so that the driver goes through the DMA interface of its system and uses only
     * the memory meant for that. The peer, which sees plain guest addresses, is not told.
     */
    bool isolated;
};

/*
 * @port is borrowed. No connection. virtio.queue_count is known with the first port->greeted. The object is some 20
 * KiB: not for a stack.
 */
void vhost_user_frontend_init(struct vhost_user_frontend *frontend, struct vhost_user_frontend_port *port,
                              const struct vhost_user_frontend_config *config);
/* Give back what is owned. No connection, or one that the port is about to close. */
void vhost_user_frontend_done(struct vhost_user_frontend *frontend);

/* There is a connection: introduce ourselves. Not while there is one already. */
void vhost_user_frontend_connected(struct vhost_user_frontend *frontend);

/*
 * The connection is gone, or is to go (@reason, a constant): port->hang_up is called, queues that were stopping have
 * stopped, those that run wait for the next peer. Without a connection: nothing. Calls the listener.
 */
void vhost_user_frontend_lost(struct vhost_user_frontend *frontend, const char *reason);

/* There is no connection, and will be none any more: breaks the device (@reason, a constant). Calls the listener. */
void vhost_user_frontend_abandon(struct vhost_user_frontend *frontend, const char *reason);

/*
 * An answer has come, of which nothing but vhost_user_header_check has been judged (with the reply flag); or a request
 * of the peer on its channel. Takes the handles. May end in vhost_user_frontend_lost. Calls the listener.
 */
void vhost_user_frontend_reply(struct vhost_user_frontend *frontend, struct vhost_user_message *message);
void vhost_user_frontend_request(struct vhost_user_frontend *frontend, struct vhost_user_message *message);

/* The peer signalled port->error_handle: the driver broke the rules on some queue. Calls the listener. */
void vhost_user_frontend_failed(struct vhost_user_frontend *frontend);

/*
 * The peer is to reach these regions, and no others: copied, their handles borrowed. At any time. 0: said, or to be
 * said; the peer may use what was there before until port->settled. -EINVAL: a region of no bytes, that wraps, or that
 * overlaps another. -ENOSPC: more than fit, here or at the peer. -EBUSY: a queue that runs does not lie in them.
 * Nothing is changed then.
 */
int vhost_user_frontend_set_memory(struct vhost_user_frontend *frontend,
                                   const struct vhost_user_frontend_region *regions, unsigned count);

/*
 * Log what the peer writes to guest memory (a bit for each page of 4 KiB, from guest address 0 on), or no longer. The
 * peer does so from port->settled on. -EOPNOTSUPP: the peer that is there cannot.
 */
int vhost_user_frontend_set_log(struct vhost_user_frontend *frontend, const struct vhost_user_frontend_log *log);

/* Are answers due? */
static inline bool vhost_user_frontend_waits(const struct vhost_user_frontend *frontend)
{
    return frontend->due_count > 0;
}

#endif
