/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Around a local back end in a test: guest memory, a driver, a transport that notes what it is told, and a control loop
 * on a thread of its own. The test's thread is a virtual processor: it takes the lock for each call. The device is rng
 * on a fake source, or blk on a disk that keeps what it is given.
 */
#ifndef PLATFORM_LINUX_LOCAL_TEST_RIG_H
#define PLATFORM_LINUX_LOCAL_TEST_RIG_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "devices/blk/blk.h"
#include "devices/rng/rng.h"
#include "fake_driver.h"
#include "platform/linux/local_backend.h"

#define GUEST_BASE UINT64_C(0x100000)
#define GUEST_BYTES (UINT64_C(1) << 20)
#define MORE_BASE UINT64_C(0x10000000) /* memory that comes later */
#define MORE_BYTES UINT64_C(0x10000)
#define RING_SIZE 64
#define HEADER_ADDRESS (GUEST_BASE + 0x10000)
#define BUFFER_ADDRESS (GUEST_BASE + 0x11000)
#define STATUS_ADDRESS (GUEST_BASE + 0x12000)

/* An answer takes microseconds; a machine under load is given half a minute. */
#define TIMEOUT_MS 30000

struct slow_disk {
    struct blk_port port;
    pthread_mutex_t lock;
    uint64_t tokens[16];
    unsigned held;         /* under lock, as the next */
    unsigned finished;     /* how many of them reap may have */
    atomic_uint submitted; /* ever */
    int handle;            /* eventfd: some are finished */
    struct blk blk;
};

struct machine {
    pthread_mutex_t lock;
    pthread_cond_t told;
    struct loop control;
    uint8_t *bytes, *more_bytes;
    struct guest_memory maps[2];
    struct fake_driver driver;
    struct entropy_source source;
    struct rng rng;
    struct slow_disk disk;
    struct device_queues queues;
    struct local_backend_options options;
    struct local_backend local;
    struct virtio_backend *backend;
    /* of the transport */
    struct virtio_listener listener;
    int call;                          /* eventfd that it gives to queues */
    int notified;                      /* eventfd: queue_notify was called */
    unsigned stopped, broken, changed; /* under lock */
    atomic_uint begun;                 /* threads */
};

/* The device is there, and no back end yet: options may be changed. */
struct machine *given_rng(void);
struct machine *given_disk(void);
/* Open the back end, and let the control loop run. */
struct machine *plug(struct machine *machine);
void finish(struct machine *machine);

/* Calls of the contract, under the lock. */
int start(struct machine *machine, uint32_t base, int notify);
int stop(struct machine *machine);
int reset(struct machine *machine);
/* Wait until queue_stopped, or broken, has been called so often. */
void expect_stopped(struct machine *machine, unsigned times);
void expect_broken(struct machine *machine, unsigned times);
/* The control loop has delivered what was posted until now. */
void settle(struct machine *machine);

/* The driver and its ring as new. */
void lay_ring(struct machine *machine);
/* Offer what the device takes: 16 bytes for entropy at @address, a read of the disk. */
void offer_buffer(struct machine *machine, uint64_t address);
void offer_read(struct machine *machine);
/* An index of the available ring that no driver may have. */
void offer_a_lie(struct machine *machine);
/* By the handle, as a doorbell does. */
void kick(struct machine *machine);
/* Somebody signals @handle: take it. */
void expect_signal(int handle);
bool is_signalled(int handle);
/* The next used entry is there and has so many bytes. */
void expect_used(struct machine *machine, uint32_t length);
/* Offer, kick, be notified at @handle, and find it done. */
void expect_service(struct machine *machine, int handle);

/* All that the disk holds is done now. */
void finish_requests(struct machine *machine);

#endif
