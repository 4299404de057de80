/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What virtio-mmio and virtio-pci have in common: the device status, features, and the life of queues, from the
 * driver's registers on one side to a back end (virtio_backend.h) on the other (VIRTIO 1.3, 2.1 to 2.6, 3.1). A
 * transport embeds it, gives it the values that the driver wrote, and implements its class; whoever owns the machine
 * implements its port. It is the listener of the back end.
 *
 * Nothing here blocks. Resets, a queue's end and a pause wait for requests in flight: they begin at once, and when
 * nothing is left to wait for, the port is told (settled).
 *
 * Threads: as the back end's, one at a time (in the VMM: under the machine's lock), but for what is marked "any
 * thread".
 */
#ifndef VIRTIO_VIRTIO_CONTROL_H
#define VIRTIO_VIRTIO_CONTROL_H

#include <stdatomic.h>

#include "virtio/virtio_backend.h"

struct virtio_control;

/* The interrupt status of both transports (4.1.4.5, 4.2.2). */
#define VIRTIO_INTERRUPT_QUEUE 1
#define VIRTIO_INTERRUPT_CONFIG 2

/* No interrupt vector (4.1.5.1.2), and what a transport without vectors says. */
#define VIRTIO_NO_VECTOR 0xffff

/* The port: whoever owns the machine. */
struct virtio_control_port {
    const struct virtio_control_port_class *class;
};

struct virtio_control_port_class {
    /*
     * What is the back end to signal for queue @index, which interrupts by @vector? A handle, lent until the queue has
     * stopped or this is asked for it again: the irqfd of that vector, or one whose reader calls
     * virtio_control_queue_signalled. Or -1: the transport is to be told, which back ends with notifies_listener can
     * do, from their own threads. A line that has a level (INTx, virtio-mmio where it was asked for) can only be served
     * by one thread: without a vector the answer is then never -1, unless the control was made with one_thread.
     */
    int (*notify_handle)(struct virtio_control_port *port, unsigned index, uint16_t vector);
    /*
     * What was waited for has ended: virtio_control_is_settled is true. An access that answered BUS_LATER may go on,
     * a pause or reset that answered -EINPROGRESS is done. Not from inside the call that began it.
     */
    void (*settled)(struct virtio_control_port *port);
};

/* What the transport does in its own way. */
struct virtio_control_class {
    const char *name; /* "virtio-mmio" */
    /*
     * Interrupt the driver for queue @index. Any thread, also several at a time. @here: it is the one on which all else
     * happens, so a line's level can be set.
     */
    void (*queue_interrupt)(struct virtio_control *control, unsigned index, bool here);
    /* Configuration change notification (2.5, 2.1.2). */
    void (*config_interrupt)(struct virtio_control *control);
    /* The vector of queue @index, or VIRTIO_NO_VECTOR. */
    uint16_t (*queue_vector)(const struct virtio_control *control, unsigned index);
    /*
     * Kicks of queue @index count from now on, or do no longer: for doorbells. @live was false before the first call
     * after init.
     */
    void (*queue_live)(struct virtio_control *control, unsigned index, bool live);
    /* Queue @index has been reset: what the transport keeps for it goes back, too. May be NULL. */
    void (*queue_reset)(struct virtio_control *control, unsigned index);
    /* The device has been reset: the transport's own registers go back. */
    void (*reset)(struct virtio_control *control);
};

enum virtio_control_queue_state {
    VIRTIO_CONTROL_QUEUE_STOPPED,
    VIRTIO_CONTROL_QUEUE_RUNNING,
    VIRTIO_CONTROL_QUEUE_STOPPING,
};

/* A queue as the driver set it up. */
struct virtio_control_queue {
    uint32_t size;           /* entries; 0: the driver wrote one that no queue can have */
    uint64_t desc_address;   /* guest addresses of the three parts, as in virtqueue_config */
    uint64_t driver_address; /* available ring; packed: driver area */
    uint64_t device_address; /* used ring; packed: device area */
    bool enabled;            /* queue_enable, QueueReady */
    bool ending;             /* a reset of this queue waits until it has stopped; then it is not enabled any more */
    bool failed;             /* it could not be started: not before it is set up anew */
    bool live;               /* as the transport knows it */
    bool has_base;           /* it ran: where it is to go on is known */
    enum virtio_control_queue_state state;
    uint32_t base;
};

enum virtio_control_part { /* of a queue: which address */
                           VIRTIO_CONTROL_DESC,
                           VIRTIO_CONTROL_DRIVER,
                           VIRTIO_CONTROL_DEVICE,
};

struct virtio_control_config {
    struct virtio_backend *backend;      /* borrowed: outlives the control; nothing of it is started */
    struct virtio_control_port *port;    /* borrowed */
    struct virtio_control_queue *queues; /* borrowed: [backend->queue_count], written by init */
    uint64_t features_added;             /* of the transport: VIRTIO_CONTROL_FEATURES; or ACCESS_PLATFORM */
    uint64_t features_hidden;            /* of the back end's: not offered though it could */
    uint64_t features_required;          /* FEATURES_OK is refused without these, as it is without VERSION_1 (6.2) */
    bool one_thread;                     /* the back end calls queue_notify on the thread of all else, too */
};

/* Features that a transport carries out: offered when the owner adds them, whatever the back end says of them. */
#define VIRTIO_CONTROL_FEATURES (VIRTIO_F_NOTIFICATION_DATA | VIRTIO_F_NOTIF_CONFIG_DATA | VIRTIO_F_RING_RESET)

struct virtio_control {
    const struct virtio_control_class *class;
    struct virtio_listener listener; /* of the back end */
    struct virtio_backend *backend;
    struct virtio_control_port *port;
    struct virtio_control_queue *queues;
    uint64_t features_added, features_hidden, features_required;
    bool one_thread;
    uint8_t status;           /* as the driver reads it */
    uint64_t driver_features; /* as the driver writes them; the choice, once FEATURES_OK is set */
    bool resetting;           /* the whole device; the status is what it was, until that is done */
    bool resetting_backend;   /* its queues have stopped, and it has been told */
    bool paused;
    bool cut_off;               /* from memory, by the transport */
    bool notify_all;            /* interrupts may have been lost with the machine that was saved: one each at resume */
    uint32_t config_generation; /* as the driver sees it */
    uint32_t config_seen;       /* the back end's, when it was last looked at */
    /* Events that the driver has not acknowledged; any thread. The transport's to set and clear, reset clears it. */
    _Atomic uint32_t interrupt_status;
    /* counted, for people */
    _Atomic uint64_t interrupts_total; /* that went through the transport; not those by handle */
    uint64_t kicks_total;              /* that came as exits; not those by doorbell */
    uint64_t resets_total;
    uint64_t broken_total;
    const char *broken_reason; /* in plain words, a constant; NULL before the first */
};

/* Becomes the listener of the back end. The device is as after a reset. */
void virtio_control_init(struct virtio_control *control, const struct virtio_control_class *class,
                         const struct virtio_control_config *config);

/* For whoever owns the machine. */

/* Is there nothing that waits? False: port->settled is going to be called. */
bool virtio_control_is_settled(const struct virtio_control *control);
/*
 * Reset by the machine (it reboots, the device is taken away): as by the driver. 0: done. -EINPROGRESS: settled comes.
 */
int virtio_control_reset(struct virtio_control *control);
/*
 * All queues stop and none starts until resume: for a snapshot. The driver sees nothing of it. 0: it is so.
 * -EINPROGRESS: settled comes. resume may come before that.
 */
int virtio_control_pause(struct virtio_control *control);
void virtio_control_resume(struct virtio_control *control);
/* The handle for a queue without vector was signalled. Drops it when that queue is none any more. */
void virtio_control_queue_signalled(struct virtio_control *control, unsigned index);

/*
 * Everything the driver can see of the part that transports share, and the back end's own state. Paused and settled.
 * save: -ENOSPC, -ENOTSUP (the back end cannot). load: into one that has just been made, and paused; -EBADMSG: the
 * bytes make no sense. -ENOTSUP: a newer version wrote them, or the back end cannot. -EINVAL: they belong to another
 * device. After a failed load only a reset helps. Transports call these from their own save and load.
 */
#define VIRTIO_STATE_CONTROL                                                                                           \
    0x004c5443u /* first: device id u16, queues u16, status u8, 0 u8, 0 u16,                                           \
                   features u64, config_generation u32, interrupt_status u32 */
#define VIRTIO_STATE_CONTROL_QUEUE                                                                                     \
    0x00514c43u                          /* one a queue: index u16, bits u16 (1 enabled, 2 failed, 4 has a             \
                                            base), size u32, base u32, addresses 3 * u64 */
#define VIRTIO_STATE_BACKEND 0x004e4542u /* last: the back end's records */
int virtio_control_save(const struct virtio_control *control, struct state_writer *writer);
int virtio_control_load(struct virtio_control *control, struct state_reader *reader);

/* For the transport: what the driver does. While the device is reset, all of it but reading is ignored. */

/* Bits @select * 32 and up of what is on offer; of what the driver chose. 0 where there are none. */
uint64_t virtio_control_features(const struct virtio_control *control);
uint32_t virtio_control_device_features(const struct virtio_control *control, uint32_t select);
uint32_t virtio_control_driver_features(const struct virtio_control *control, uint32_t select);
void virtio_control_set_driver_features(struct virtio_control *control, uint32_t select, uint32_t value);
/* Were all of these bits negotiated? */
bool virtio_control_has(const struct virtio_control *control, uint64_t features);

/* The driver writes the status. 0 begins a reset: then virtio_control_is_settled says whether it is done. */
void virtio_control_set_status(struct virtio_control *control, uint8_t status);

/* NULL: there is no such queue. The calls below ignore one. */
const struct virtio_control_queue *virtio_control_queue(const struct virtio_control *control, uint32_t index);
void virtio_control_queue_set_size(struct virtio_control *control, uint32_t index, uint32_t size);
void virtio_control_queue_set_address(struct virtio_control *control, uint32_t index, enum virtio_control_part part,
                                      bool upper_half, uint32_t value);
void virtio_control_queue_enable(struct virtio_control *control, uint32_t index);
/* Queue reset (2.6.1): everything about it is as after a reset of the device. queue->ending until that is done. */
void virtio_control_queue_reset(struct virtio_control *control, uint32_t index);
/* QueueReady 0: an enabled queue is reset. */
void virtio_control_queue_disable(struct virtio_control *control, uint32_t index);
void virtio_control_queue_kick(struct virtio_control *control, uint32_t index);
/* Its vector is another one, or interrupts take another way: a running queue's back end is told where to signal. */
void virtio_control_queue_reroute(struct virtio_control *control, uint32_t index);

/* The device may not touch memory (a PCI function that is no bus master): queues stop, and go on when it may again. */
void virtio_control_cut_off(struct virtio_control *control, bool cut_off);

/* The configuration space; what lies outside it reads as 0 and is not written. */
void virtio_control_config_read(struct virtio_control *control, uint64_t offset, void *to, uint32_t size);
void virtio_control_config_write(struct virtio_control *control, uint64_t offset, const void *from, uint32_t size);
uint32_t virtio_control_config_generation(struct virtio_control *control);

#endif
