/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A disk under test: the model on a rig, and a fake port whose disk is memory and whose operations complete when, and
 * as, the test says.
 */
#ifndef DEVICES_BLK_BLK_TEST_RIG_H
#define DEVICES_BLK_BLK_TEST_RIG_H

#include "device_rig.h"
#include "devices/blk/blk.h"

#define FAKE_DISK_BYTES (UINT32_C(2) << 20)
#define FAKE_DISK_SECTORS (FAKE_DISK_BYTES / 512)
#define FAKE_DISK_IOS_MAX 1024

#define UNWRITTEN 0xee /* what fills a request's writable bytes before the device has them */

struct fake_io {
    struct blk_io io;
    unsigned queue;
};

struct fake_disk {
    struct blk_port port;
    uint8_t *bytes;
    /* how it behaves */
    bool at_once;      /* operations complete within submit */
    unsigned take_max; /* the most one submit takes */
    unsigned room;     /* the most in flight */
    int result;        /* what completes at once completes with */
    /* in flight, in the order taken; and done, to be reaped */
    struct fake_io ios[FAKE_DISK_IOS_MAX];
    unsigned io_count;
    struct fake_io done[FAKE_DISK_IOS_MAX];
    int done_results[FAKE_DISK_IOS_MAX];
    unsigned done_count;
    /* seen */
    unsigned submits;
    unsigned cancels;
    unsigned cancelled_queue;
    unsigned clock_reads;
    uint64_t now_ns;
};

struct blk_world {
    struct device_rig rig;
    struct fake_disk disk;
    struct blk blk;
};

/* One request as the driver made it. */
struct fake_request {
    unsigned queue;
    int head;
    uint64_t header;
    uint64_t data;
    uint32_t length;
    uint64_t status;
};

/* An ordinary disk of FAKE_DISK_BYTES: everything on offer. */
struct blk_options blk_world_options(void);

/* @features: 0 takes all that is on offer. */
struct blk_world *blk_world_make(const struct blk_options *options, const struct device_rig_shape *shape,
                                 uint64_t features);
void blk_world_free(struct blk_world *world);

/* For cmocka: a world with all defaults. */
int blk_world_setup(void **state);
int blk_world_teardown(void **state);

/* Offer a request of @length data bytes: readable ones for OUT, DISCARD and WRITE_ZEROES, else writable ones. */
struct fake_request offer(struct blk_world *world, uint32_t type, uint64_t sector, uint32_t length);
struct fake_request offer_on(struct blk_world *world, unsigned queue, uint32_t type, uint64_t sector, uint32_t length);

/* DISCARD or WRITE_ZEROES of @count ranges. */
struct fake_request offer_ranges(struct blk_world *world, uint32_t type, const struct virtio_blk_range *ranges,
                                 unsigned count);

/* A header of @type and @sector in memory that is not in a chain yet. */
uint64_t put_header(struct blk_world *world, uint32_t type, uint64_t sector);

/* Kick queue 0, or wake it. Returns events. */
unsigned run(struct blk_world *world);
unsigned wake(struct blk_world *world);

/* Complete the operation that was taken as number @index of those in flight; then wake its queue. */
unsigned complete(struct blk_world *world, unsigned index, int result);
/* The same without the wake. */
void finish_io(struct fake_disk *disk, unsigned index, int result);
/* Complete all that is in flight, until nothing is. */
void complete_all(struct blk_world *world);

uint8_t *data_of(struct blk_world *world, const struct fake_request *request);
uint8_t status_of(struct blk_world *world, const struct fake_request *request);

/* The next used entry of the request's queue is @request's, with @status and @length. */
void assert_used(struct blk_world *world, const struct fake_request *request, uint8_t status, uint32_t length);
void assert_nothing_used(struct blk_world *world);

#endif
