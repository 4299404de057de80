/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A device whose queues the kernel serves (Linux, uapi/linux/vhost.h): a network card on a tap, or a socket between
 * guest and host (virtio 5.1, 5.10). The kernel moves the data; configuration and features are kept here.
 *
 * Every call ends at once, stopping too. Threads: the owner's lock, as for any struct virtio_backend;
 * listener->queue_notify comes on the loop's thread, without the lock. Open and close are for the loop's thread.
 */
#ifndef PLATFORM_LINUX_VHOST_KERNEL_H
#define PLATFORM_LINUX_VHOST_KERNEL_H

#include "platform/linux/loop.h"
#include "platform/linux/sandbox.h"
#include "virtio/virtio_backend.h"

/* What whoever calls the device (a thread of the guest) asks of the kernel. */
extern const struct sandbox_calls vhost_kernel_system_calls;

/* What of the system it calls: the tests have another. Results as ioctl(2), errors as negative errno values. */
struct vhost_kernel_port {
    const struct vhost_kernel_port_class *class;
};

struct vhost_kernel_port_class {
    int (*open)(struct vhost_kernel_port *port, const char *path);
    int (*control)(struct vhost_kernel_port *port, int handle, unsigned long request, void *argument);
};

/* A piece of guest memory. All of it must be in this process: the kernel reaches it by our addresses. */
struct vhost_kernel_region {
    uint64_t guest_base;
    uint64_t size;
    uint8_t *host;
};

/* As many as the kernel takes by default (max_mem_regions). */
#define VHOST_KERNEL_REGIONS_MAX 64
#define VHOST_KERNEL_QUEUES_MAX 3
#define VHOST_KERNEL_CONFIG_BYTES_MAX 16

struct vhost_kernel_options {
    uint16_t device_id; /* VIRTIO_ID_NET or VIRTIO_ID_VSOCK */
    /* net */
    int tap;        /* a tap made with IFF_VNET_HDR | IFF_NO_PI, taken over in any case; one queue pair */
    uint8_t mac[6]; /* all zero: none, the driver chooses */
    uint16_t mtu;   /* 0: none is said */
    /* vsock */
    uint64_t guest_cid;                        /* 3 to 2^32 - 2 */
    uint32_t queue_size_max;                   /* 0: 256 */
    const struct vhost_kernel_region *regions; /* copied; may also come later: vhost_kernel_set_memory */
    unsigned region_count;
    struct loop *loop; /* borrowed: for queues that notify the listener, and for errors; NULL: nothing of that */
    void (*lock)(void *argument); /* the owner's lock, taken before listener->broken; NULL: nobody else calls */
    void (*unlock)(void *argument);
    void *lock_argument;
    struct vhost_kernel_port *port; /* borrowed; NULL: the system itself */
};

struct vhost_kernel_queue {
    struct virtqueue_config config;
    bool running;
    int kick;   /* eventfd */
    int call;   /* eventfd that is watched for the listener; -1: not made yet */
    int notify; /* as queue_start had it */
    uint32_t base;
    struct loop_watch watch;
    struct vhost_kernel *device;
};

struct vhost_kernel {
    struct virtio_backend virtio;        /* the device */
    struct vhost_kernel_options options; /* as open was told */
    int error_handle;                    /* the kernel signals that a queue is broken */
    struct loop_watch error_watch;
    int handle; /* /dev/vhost-net, /dev/vhost-vsock */
    int tap;
    bool vsock_runs;
    bool features_set;
    uint64_t offered, features;
    uint64_t kernel_features;
    const char *refused_reason; /* why the last call was refused, a constant, for people */
    uint8_t config[VHOST_KERNEL_CONFIG_BYTES_MAX];
    struct vhost_kernel_region regions[VHOST_KERNEL_REGIONS_MAX];
    unsigned region_count;
    struct vhost_kernel_queue queues[VHOST_KERNEL_QUEUES_MAX];
};

/*
 * -ENOENT, -EACCES, …: there is no such kernel device, or it is not for us. -EADDRINUSE: another guest has this CID.
 * -EINVAL: a tap without the header, a CID that no guest may have. Nothing is open then.
 */
int vhost_kernel_open(struct vhost_kernel *device, const struct vhost_kernel_options *options);
/* Queues stop. A zeroed one: nothing. */
void vhost_kernel_close(struct vhost_kernel *device);

/*
 * The kernel is to reach these regions and no others; at any time, also while queues run. -EINVAL, -ENOSPC as said by
 * the kernel; -EBUSY: a queue that runs does not lie in them.
 */
int vhost_kernel_set_memory(struct vhost_kernel *device, const struct vhost_kernel_region *regions, unsigned count);

#endif
