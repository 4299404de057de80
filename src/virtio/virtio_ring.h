/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Virtqueues as they lie in guest memory, little-endian (VIRTIO 1.3, 2.7 and 2.8). The wire, nothing else. */
#ifndef VIRTIO_VIRTIO_RING_H
#define VIRTIO_VIRTIO_RING_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

/* 2.7, 2.8: a queue has at most so many entries; a split one, a power of two. */
#define VRING_SIZE_MAX 32768

/* 2.7.5, the descriptor table */
#define VRING_DESC_F_NEXT 1
#define VRING_DESC_F_WRITE 2
#define VRING_DESC_F_INDIRECT 4

struct vring_desc {
    uint64_t address;
    uint32_t length;
    uint16_t flags;
    uint16_t next;
};
static_assert(sizeof(struct vring_desc) == 16, "VIRTIO 1.3, 2.7");

/* 2.7.6, the available ring: the driver writes it. After ring[size] stands used_event (2.7.7). */
#define VRING_AVAIL_F_NO_INTERRUPT 1

struct vring_avail {
    uint16_t flags;
    uint16_t index;
    uint16_t ring[];
};
static_assert(offsetof(struct vring_avail, ring) == 4, "VIRTIO 1.3, 2.7.6");

/* 2.7.8, the used ring: the device writes it. After ring[size] stands avail_event (2.7.10). */
#define VRING_USED_F_NO_NOTIFY 1

struct vring_used_element {
    uint32_t id;
    uint32_t length;
};
static_assert(sizeof(struct vring_used_element) == 8, "VIRTIO 1.3, 2.7.8");

struct vring_used {
    uint16_t flags;
    uint16_t index;
    struct vring_used_element ring[];
};
static_assert(offsetof(struct vring_used, ring) == 4, "VIRTIO 1.3, 2.7.8");

/* 2.7: alignment and size of the three parts, the event fields included. @size is at most VRING_SIZE_MAX. */
#define VRING_DESC_ALIGN 16
#define VRING_AVAIL_ALIGN 2
#define VRING_USED_ALIGN 4

static inline uint32_t vring_desc_bytes(uint32_t size)
{
    return size * (uint32_t)sizeof(struct vring_desc);
}

static inline uint32_t vring_avail_bytes(uint32_t size)
{
    return 4 + 2 * size + 2;
}

static inline uint32_t vring_used_bytes(uint32_t size)
{
    return 4 + 8 * size + 2;
}

/* 2.8.13, the descriptors of a packed ring: what the driver offers and what the device gives back. */
#define VRING_PACKED_DESC_F_AVAIL 0x80
#define VRING_PACKED_DESC_F_USED 0x8000

struct vring_packed_desc {
    uint64_t address;
    uint32_t length;
    uint16_t id;
    uint16_t flags;
};
static_assert(sizeof(struct vring_packed_desc) == 16, "VIRTIO 1.3, 2.8.13");

/* 2.8.14, event suppression: the driver area is read by the device, the device area by the driver. */
#define VRING_PACKED_EVENT_ENABLE 0
#define VRING_PACKED_EVENT_DISABLE 1
#define VRING_PACKED_EVENT_DESC 2

struct vring_packed_event {
    uint16_t position; /* in the ring; the wrap counter is bit 15 */
    uint16_t flags;
};
static_assert(sizeof(struct vring_packed_event) == 4, "VIRTIO 1.3, 2.8.14");

#define VRING_PACKED_WRAP_BIT 15

/* 2.8.10.1: alignment of the ring and of the two areas. */
#define VRING_PACKED_DESC_ALIGN 16
#define VRING_PACKED_EVENT_ALIGN 4

static inline uint32_t vring_packed_desc_bytes(uint32_t size)
{
    return size * (uint32_t)sizeof(struct vring_packed_desc);
}

#endif
