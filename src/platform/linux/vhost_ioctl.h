/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What of <linux/vhost.h> is used here. That header brings <linux/virtio_ring.h> along, whose structures have the names
 * of ours (virtio/virtio_ring.h), so no file can have both. The wire, nothing else.
 */
#ifndef PLATFORM_LINUX_VHOST_IOCTL_H
#define PLATFORM_LINUX_VHOST_IOCTL_H

#include <assert.h>
#include <stdint.h>
#include <sys/ioctl.h>

struct vhost_vring_state {
    uint32_t index;
    uint32_t num;
};
static_assert(sizeof(struct vhost_vring_state) == 8, "linux/vhost_types.h");

struct vhost_vring_file {
    uint32_t index;
    int32_t fd; /* -1: none */
};
static_assert(sizeof(struct vhost_vring_file) == 8, "linux/vhost_types.h");

struct vhost_vring_addr {
    uint32_t index;
    uint32_t flags;
    uint64_t desc_user_addr;
    uint64_t used_user_addr;
    uint64_t avail_user_addr;
    uint64_t log_guest_addr;
};
static_assert(sizeof(struct vhost_vring_addr) == 40, "linux/vhost_types.h");

struct vhost_memory_region {
    uint64_t guest_phys_addr;
    uint64_t memory_size;
    uint64_t userspace_addr;
    uint64_t flags_padding;
};
static_assert(sizeof(struct vhost_memory_region) == 32, "linux/vhost_types.h");

struct vhost_memory {
    uint32_t nregions;
    uint32_t padding;
    struct vhost_memory_region regions[];
};
static_assert(sizeof(struct vhost_memory) == 8, "linux/vhost_types.h");

#define VHOST_VIRTIO 0xAF
#define VHOST_GET_FEATURES _IOR(VHOST_VIRTIO, 0x00, uint64_t)
#define VHOST_SET_FEATURES _IOW(VHOST_VIRTIO, 0x00, uint64_t)
#define VHOST_SET_OWNER _IO(VHOST_VIRTIO, 0x01)
#define VHOST_SET_MEM_TABLE _IOW(VHOST_VIRTIO, 0x03, struct vhost_memory)
#define VHOST_SET_VRING_NUM _IOW(VHOST_VIRTIO, 0x10, struct vhost_vring_state)
#define VHOST_SET_VRING_ADDR _IOW(VHOST_VIRTIO, 0x11, struct vhost_vring_addr)
#define VHOST_SET_VRING_BASE _IOW(VHOST_VIRTIO, 0x12, struct vhost_vring_state)
#define VHOST_GET_VRING_BASE _IOWR(VHOST_VIRTIO, 0x12, struct vhost_vring_state)
#define VHOST_SET_VRING_KICK _IOW(VHOST_VIRTIO, 0x20, struct vhost_vring_file)
#define VHOST_SET_VRING_CALL _IOW(VHOST_VIRTIO, 0x21, struct vhost_vring_file)
#define VHOST_SET_VRING_ERR _IOW(VHOST_VIRTIO, 0x22, struct vhost_vring_file)
#define VHOST_NET_SET_BACKEND _IOW(VHOST_VIRTIO, 0x30, struct vhost_vring_file)
#define VHOST_VSOCK_SET_GUEST_CID _IOW(VHOST_VIRTIO, 0x60, uint64_t)
#define VHOST_VSOCK_SET_RUNNING _IOW(VHOST_VIRTIO, 0x61, int)

#endif
