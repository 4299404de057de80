/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A small machine for the tests of the vhost-user link: a loop on a thread of its own, a lock, guest memory, and the
 * driver's side of queues. The test is the virtual processor: it calls the device with the lock held.
 */
#ifndef TESTS_CONFORMANCE_LINK_BED_H
#define TESTS_CONFORMANCE_LINK_BED_H

#include <pthread.h>

#include "devices/blk/virtio_blk.h"
#include "fake_driver.h"
#include "platform/linux/vhost_user_link.h"

#define BED_TIMEOUT_MS 60000
#define BED_GUEST_BASE UINT64_C(0)
#define BED_MEMORY_BYTES UINT64_C(0x800000)
#define BED_QUEUES 4
#define BED_RING_SIZE 64
/* What queue n has: a ring, and BED_SLOTS places for requests. */
#define BED_RING(n) (UINT64_C(0x10000) * ((n) + 1))
#define BED_SLOTS 16
#define BED_SLOT_BYTES 0x4000
#define BED_SLOT(n, slot) (UINT64_C(0x100000) * ((n) + 1) + (slot)*BED_SLOT_BYTES)
#define BED_DATA_BYTES 0x2000
#define BED_DATA_OFFSET 0x1000

struct bed {
    struct loop loop;
    pthread_mutex_t lock;
    struct virtio_listener listener;
    struct vhost_user_link link;
    char problem[VHOST_USER_LINK_PROBLEM_BYTES];
    int memory_handle;
    struct fake_memory memory;
    struct vhost_user_frontend_region region;
    struct fake_driver drivers[BED_QUEUES];
    uint64_t features;
    int events;                   /* an eventfd that each call of the listener signals */
    int notifies[BED_QUEUES];     /* eventfds for the driver's interrupts */
    bool by_listener[BED_QUEUES]; /* the driver is interrupted by listener->queue_notify */
    /* told by the listener, under the lock */
    unsigned stopped[BED_QUEUES], broken, resets, configs;
    /* requests that are out: which slot has head h */
    uint8_t slot_of_head[BED_QUEUES][VRING_SIZE_MAX];
    bool slot_busy[BED_QUEUES][BED_SLOTS];
};

/* A loop, memory, no device. Fails the test that runs where something is missing, as all of these. */
void bed_open(struct bed *bed);
void bed_close(struct bed *bed);

/* Open the link, on the loop's thread: what vhost_user_link_open answers. */
int bed_link(struct bed *bed, const struct vhost_user_link_options *options);
/* Options as most tests want them, for a disk at @path. */
struct vhost_user_link_options bed_options(struct bed *bed, const char *path);
void bed_unlink(struct bed *bed);

void bed_lock(struct bed *bed);
void bed_unlock(struct bed *bed);
struct virtio_backend *bed_device(struct bed *bed);

/* Wait until @condition(@bed, @argument), which is asked with the lock held, after each call of the listener. */
void bed_wait(struct bed *bed, bool (*condition)(const struct bed *bed, unsigned argument), unsigned argument);

/* The driver takes of @features what is on offer; it lays the ring of queue @index anew and starts it. */
void bed_choose(struct bed *bed, uint64_t features);
void bed_start(struct bed *bed, unsigned index);
/* Goes on with its ring at @base. */
void bed_resume(struct bed *bed, unsigned index, uint32_t base);
/* Stops, and waits for it; the base. */
uint32_t bed_stop(struct bed *bed, unsigned index);

/* Wait for an interrupt of queue @index. */
void bed_wait_notify(struct bed *bed, unsigned index);

/* Requests on a disk: offer one at @sector in a free slot, with data of @seed when it writes; kick. */
void bed_offer(struct bed *bed, unsigned index, uint32_t type, uint64_t sector, uint8_t seed);
/* Take what has come back, each with a good status; reads have the data of @seed. How many. */
unsigned bed_take(struct bed *bed, unsigned index, uint8_t seed);
/* Take until @count have come, with interrupts. */
void bed_take_all(struct bed *bed, unsigned index, unsigned count, uint8_t seed);
/* One write and one read of the same data. */
void bed_write_then_read(struct bed *bed, unsigned index, uint64_t sector, uint8_t seed);

#endif
