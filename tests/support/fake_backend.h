/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A back end without a device: it remembers what a transport told it, and takes as long over stops and resets as a test
 * wants. It holds the transport to the contract of virtio_backend.h: a call that must not come ends the program.
 */
#ifndef TESTS_SUPPORT_FAKE_BACKEND_H
#define TESTS_SUPPORT_FAKE_BACKEND_H

#include "virtio/virtio_backend.h"

#define FAKE_BACKEND_QUEUES 3
#define FAKE_BACKEND_SIZE_MAX 256
#define FAKE_BACKEND_CONFIG_BYTES 24

/* Handles, as integers: FAKE_KICK_HANDLE + index for kicks, FAKE_NOTIFY_HANDLE + vector for what the owner gives. */
#define FAKE_KICK_HANDLE 1000
#define FAKE_NOTIFY_HANDLE 2000

enum fake_queue_state { FAKE_STOPPED, FAKE_RUNNING, FAKE_STOPPING };

struct fake_backend_queue {
    enum fake_queue_state state;
    struct virtqueue_config config; /* of the last start */
    int notify;                     /* the handle, or -1; -2: none was ever given */
    uint32_t base;                  /* what queue_base says */
    unsigned starts, stops, kicks, reroutes;
};

struct fake_backend {
    struct virtio_backend backend;
    /* what the test decides */
    uint64_t offers;
    bool stops_later, resets_later; /* until fake_backend_finish_stop, _finish_reset */
    int start_error, features_error, reroute_error;
    int save_error;
    bool has_kick_handles;
    uint32_t generation;
    uint8_t config[FAKE_BACKEND_CONFIG_BYTES]; /* the first 8 bytes may be written */
    unsigned region_count;
    struct virtio_shared_region regions[5];
    /* what came */
    struct fake_backend_queue queues[FAKE_BACKEND_QUEUES];
    uint64_t features;
    bool features_set;
    uint8_t status;
    bool resetting;
    unsigned resets, config_writes;
};

/* Offers VERSION_1 and the ring's features; stops and resets at once; has kick handles. */
void fake_backend_init(struct fake_backend *fake);

/* A stop, or a reset, that waited is done. */
void fake_backend_finish_stop(struct fake_backend *fake, unsigned index);
void fake_backend_finish_reset(struct fake_backend *fake);

/* Queue @index wants to interrupt, and has no handle. */
void fake_backend_notify(struct fake_backend *fake, unsigned index);
void fake_backend_break(struct fake_backend *fake);
/* The host changes byte @offset of the configuration space, and says so. */
void fake_backend_change_config(struct fake_backend *fake, unsigned offset, uint8_t value);

#endif
