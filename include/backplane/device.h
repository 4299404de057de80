/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A virtio device of your own (VIRTIO 1.3): a table of callbacks. The library does the rings, the guest's memory and
 * the transport; the device sees one request at a time, as bytes to read and room to write.
 *
 * All callbacks of a device are made on one thread: the one that turns or runs its server (vhost_user.h). They must not
 * block, or every queue waits. A request that takes longer is held, and completed later, from any thread.
 *
 * Everything in a request was written by a guest, which may be hostile: what you read is a private copy of bytes that
 * may have any value. Judge the copy.
 */
#ifndef BACKPLANE_DEVICE_H
#define BACKPLANE_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <backplane/backplane.h>

#ifdef __cplusplus
extern "C" {
#endif

struct backplane_device;
struct backplane_request;

/* What serve answers. A negative value: -EAGAIN or -EPROTO, see there. */
enum backplane_served {
    BACKPLANE_SERVED = 0, /* done: the driver gets it back */
    BACKPLANE_HELD = 1,   /* the device keeps it, and calls backplane_request_complete later */
};

/*
 * What a device may offer of its rings beside what the library offers for every one. Both are choices of the driver.
 */
enum backplane_rings {
    /*
     * VIRTIO_F_RING_PACKED (VIRTIO 1.3, 2.8). A front end that keeps no in-flight record for a device of this kind
     * cannot tell where the driver was in such a ring when the process that served it ended: the driver must be reset
     * then. QEMU keeps one for disks, and none behind its generic vhost-user device, which hands on whatever is
     * offered.
     */
    BACKPLANE_RINGS_PACKED = 1,
    /* VIRTIO_F_IN_ORDER (2.7.9): a request that is complete waits for those before it that are held. */
    BACKPLANE_RINGS_IN_ORDER = 2,
};

/* The most queues a device may have, and the most requests in flight on each. */
#define BACKPLANE_QUEUES_MAX 64
#define BACKPLANE_REQUESTS_MAX 1024

/* Callbacks get the context of backplane_device_create. Those that may be NULL say so. */
struct backplane_device_class {
    size_t size;            /* sizeof(struct backplane_device_class) */
    const char *name;       /* for people */
    uint16_t id;            /* device ID (VIRTIO 1.3, 5) */
    uint16_t queue_count;   /* 1 to BACKPLANE_QUEUES_MAX */
    uint16_t requests_max;  /* in flight on each queue; 0: 128 */
    uint32_t config_bytes;  /* size of the configuration space, at most 256 */
    uint32_t request_bytes; /* storage of the device in each request: backplane_request_storage */
    uint64_t features;      /* device-type feature bits to offer; the ring's own are the library's */

    /*
     * Serve one request of @queue. Returns BACKPLANE_SERVED, BACKPLANE_HELD, or
     * -EAGAIN: not now; nothing has been written. The request goes back into its ring, and is given again after
     * backplane_device_wake.
     * -EPROTO: the driver broke the rules of this device. The queue stops until the driver resets it. Any other
     * negative value means the same.
     */
    int (*serve)(void *context, unsigned queue, struct backplane_request *request);

    /* Copy @size bytes of the configuration space from @offset, both inside it. NULL: it reads as zeros. */
    void (*config_read)(void *context, uint32_t offset, void *to, uint32_t size);
    /* The driver writes there. -EPERM: it may not. NULL: it may nowhere. */
    int (*config_write)(void *context, uint32_t offset, const void *from, uint32_t size);
    /* The driver's choice among what was offered. -EINVAL refuses a combination. May be NULL. */
    int (*features_chosen)(void *context, uint64_t features);
    /* @queue begins to stop: complete what is held soon, since everybody waits for it. May be NULL if nothing is held.
     */
    void (*queue_stop)(void *context, unsigned queue);
    /* Every queue has stopped; back to how the device began. May be NULL. */
    void (*reset)(void *context);
    uint32_t rings; /* enum backplane_rings, or-ed */
};

/*
 * Make a device. @class is copied, @context is borrowed and given to each callback. -EINVAL: a number out of bounds, or
 * no serve, rings of an unknown kind. -ENOMEM.
 */
BACKPLANE_API int backplane_device_create(const struct backplane_device_class *device_class, void *context,
                                          struct backplane_device **ret_device);
/* After its server has been closed. NULL: nothing. */
BACKPLANE_API void backplane_device_destroy(struct backplane_device *device);

/* serve answered -EAGAIN for @queue, and may now be asked again. From any thread while the device exists. */
BACKPLANE_API void backplane_device_wake(struct backplane_device *device, unsigned queue);

/*
 * A request, inside serve or while it is held. Bytes that the driver gave come first to last, and room for its answer
 * likewise; each has a cursor. Not from two threads at the same time.
 */

/* How many bytes are left to read, and how much room is left to write. */
BACKPLANE_API size_t backplane_request_readable(const struct backplane_request *request);
BACKPLANE_API size_t backplane_request_writable(const struct backplane_request *request);

/* Copy the next bytes out, or in; fewer than @size only at the end. Returns how many. */
BACKPLANE_API size_t backplane_request_read(struct backplane_request *request, void *to, size_t size);
BACKPLANE_API size_t backplane_request_write(struct backplane_request *request, const void *from, size_t size);

/* class.request_bytes of the device's own, aligned for any type; not cleared between requests. */
BACKPLANE_API void *backplane_request_storage(struct backplane_request *request);

/* A held request is done. It is not to be touched afterwards. From any thread. */
BACKPLANE_API void backplane_request_complete(struct backplane_request *request);

#ifdef __cplusplus
}
#endif

#endif
