/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A front end that keeps the rules, for the conformance tests: their daemon, and requests on its disk. Everything in
 * here fails the test that runs when the daemon does not answer as it should.
 */
#ifndef TESTS_CONFORMANCE_CONFORMANCE_RIG_H
#define TESTS_CONFORMANCE_CONFORMANCE_RIG_H

#include "daemon.h"
#include "devices/blk/virtio_blk.h"

#define GUEST_BASE UINT64_C(0x100000000)
#define MEMORY_BYTES UINT64_C(0x400000)
#define RING_OFFSET 0x1000
#define RING_SIZE 64
#define HEADER_OFFSET 0x100000
#define STATUS_OFFSET 0x180000
#define DATA_OFFSET 0x200000
/* Each queue has its own, since each has a thread of its own in the daemon: no byte is written by two. */
#define QUEUE_STRIDE 0x8000
#define DISK_BYTES UINT64_C(0x1000000)

/* The daemon of all tests of a program, which lives from rig_start to rig_stop. */
extern struct daemon rig_daemon;

/* The options it is started with. */
extern const char *const rig_options[];

/* What a driver that knows all of the disk accepts, of the ring's layouts the one that the program is told to test. */
extern uint64_t rig_all_features;

/* Is that the packed one? */
bool rig_is_packed(void);

/* The base of a ring of @size that has served @requests of @descriptors each. */
uint32_t rig_base_after(uint32_t size, uint32_t requests, uint32_t descriptors);

/* Connected and negotiated; then also with shared memory and queue 0 running. Ended by client_done. */
void rig_join(struct vhost_user_client *client, uint64_t features, uint64_t protocol_features);
void rig_join_and_run(struct vhost_user_client *client, uint64_t features, uint64_t protocol_features);

/* One request with @bytes at the queue's data; the status. */
uint8_t rig_request(struct vhost_user_client *client, unsigned queue, uint32_t type, uint64_t sector, uint32_t bytes);

/* The queue's data are what @seed says. */
void rig_assert_filled(const struct vhost_user_client *client, unsigned queue, uint8_t seed, uint32_t bytes);
void rig_write_then_read(struct vhost_user_client *client, unsigned queue, uint64_t sector, uint8_t seed);

/* A message that is answered with a number, and one that is acknowledged. */
uint64_t rig_ask_u64(struct vhost_user_client *client, uint32_t message);
void rig_tell_state(struct vhost_user_client *client, uint32_t message, uint32_t index, uint32_t num);

/* A record of requests in flight, as the front end keeps it while back ends come and go. */
struct rig_record {
    struct vhost_user_inflight said;
    int handle;
    uint8_t *mapped;
    uint8_t *area; /* of queue 0 */
};

/* GET_INFLIGHT_FD for four queues of RING_SIZE; SET_INFLIGHT_FD; and forget it. */
void rig_record_get(struct vhost_user_client *client, struct rig_record *record);
void rig_record_give(struct vhost_user_client *client, const struct rig_record *record);
void rig_record_done(struct rig_record *record);

/*
 * The command line of each program: PROGRAM split|packed|in-order; in-order is packed, too. False when it is wrong,
 * which has been said then.
 */
bool rig_arguments(int argc, char **argv);

/* Set-up and teardown of a group of tests. */
int rig_start(void **state);
int rig_stop(void **state);

#endif
