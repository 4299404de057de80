/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The other side of a virtqueue, split or packed: what a driver does, well or badly (VIRTIO 1.3, 2.7 and 2.8). Unit
 * tests, fuzzers, the conformance test, benches and the kernel-less smoke test share it, so it is pure like the code it
 * tests: no allocation, no system call, nothing but memory that is handed to it.
 *
 * Well-behaved calls (add, kick, get) keep the rules, and are the same for both layouts. The raw ones write any lie
 * into the ring, each for one layout.
 */
#ifndef TESTS_SUPPORT_FAKE_DRIVER_H
#define TESTS_SUPPORT_FAKE_DRIVER_H

#include "virtio/virtio_ring.h"
#include "virtio/virtqueue.h"

/* Some guest memory: address @guest_base is at @host, @size bytes. */
struct fake_memory {
    uint64_t guest_base;
    uint64_t size;
    uint8_t *host;
};

/* One piece of a request, by guest address. */
struct fake_piece {
    uint64_t address;
    uint32_t length;
    bool writable;
};

struct fake_driver {
    struct fake_memory memory; /* where the ring lies */
    uint32_t size;
    uint64_t desc_address, avail_address, used_address; /* packed: the ring, driver area, device area */
    bool packed;
    bool event_idx;
    /* split */
    struct vring_desc *desc;
    struct vring_avail *avail;
    struct vring_used *used;
    uint16_t next_avail;  /* our index of the available ring; packed: the next position to write */
    uint16_t shown_avail; /* what the device can see */
    uint16_t next_used;   /* what we have taken from the used ring; packed: the next position to look at */
    uint16_t seen_used;   /* the device's index as last read */
    /* packed */
    struct vring_packed_desc *ring;
    struct vring_packed_event *driver_event, *device_event;
    uint16_t avail_mark, used_mark; /* the flags that say available, and used, on this lap */
    uint16_t held_position;         /* the first descriptor that was written and not shown: its flags are kept back */
    uint16_t held_flags;
    uint32_t unshown; /* descriptors that were written and not shown */
    /* both */
    uint16_t free_head;                    /* list of free heads (packed: buffer ids), through free_next */
    uint16_t free_count;                   /* descriptors */
    uint16_t free_next[VRING_SIZE_MAX];    /* private: a device cannot disturb it */
    uint16_t chain_length[VRING_SIZE_MAX]; /* by head or id */
};

/* Bytes of guest memory that a ring of @size takes, from an address aligned to 16. */
uint64_t fake_driver_ring_bytes(uint32_t size);

/*
 * Lay an empty ring of @size at guest address @ring_address (aligned to 16) of @memory: of the layout that
 * VIRTIO_F_RING_PACKED in @features says, with event indices by VIRTIO_F_EVENT_IDX. Everything is the caller's.
 */
void fake_driver_init(struct fake_driver *driver, const struct fake_memory *memory, uint64_t ring_address,
                      uint32_t size, uint64_t features);

/* What virtqueue_start needs for this ring, which nobody has used yet. @features: those of init, and others. */
struct virtqueue_config fake_driver_config(const struct fake_driver *driver, uint64_t features);

/*
 * Add a request of @count pieces, readable ones first, as direct descriptors. Returns its head (packed: its buffer id),
 * or -1 when descriptors are short. The device sees it after fake_driver_show.
 */
int fake_driver_add(struct fake_driver *driver, const struct fake_piece *pieces, unsigned count);

/* The same with an indirect table that is written at guest address @table_address of @memory. One descriptor is used.
 */
int fake_driver_add_indirect(struct fake_driver *driver, const struct fake_memory *memory, uint64_t table_address,
                             const struct fake_piece *pieces, unsigned count);

/* Show the device what was added. Returns true when it wants a kick (2.7.10). */
bool fake_driver_show(struct fake_driver *driver);

/* Take the next used entry: true, its head and length. Frees its descriptors. */
bool fake_driver_get(struct fake_driver *driver, uint32_t *ret_head, uint32_t *ret_length);

/* Ask for an interrupt at the next used entry, or for none (2.7.7). On: true when entries came meanwhile. */
bool fake_driver_interrupts_on(struct fake_driver *driver);
void fake_driver_interrupts_off(struct fake_driver *driver);

/* Raw, packed: write the descriptor at @position as it is said. */
void fake_driver_packed_desc(struct fake_driver *driver, uint32_t position, uint64_t address, uint32_t length,
                             uint16_t id, uint16_t flags);

/* Raw, split: write descriptor @index as it is said; offer @head without looking; set the index the device sees. */
void fake_driver_desc(struct fake_driver *driver, uint32_t index, uint64_t address, uint32_t length, uint16_t flags,
                      uint16_t next);
void fake_driver_offer(struct fake_driver *driver, uint16_t head);
void fake_driver_set_avail_index(struct fake_driver *driver, uint16_t index);

#endif
