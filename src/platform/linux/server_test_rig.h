/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Around the server in a test: it runs on a thread, as in a program, and a small front end on the test's own. The
 * device is rng on a fake source, unless the test brings another one.
 */
#ifndef PLATFORM_LINUX_SERVER_TEST_RIG_H
#define PLATFORM_LINUX_SERVER_TEST_RIG_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "devices/rng/rng.h"
#include "platform/linux/vhost_user_server.h"
#include "vhost_user_client.h"

#define GUEST_BASE UINT64_C(0x100000)
#define GUEST_BYTES (UINT64_C(1) << 20)
#define RING_ADDRESS GUEST_BASE
#define RING_SIZE 64
#define BUFFER_ADDRESS (GUEST_BASE + 0x10000)

/* An answer takes microseconds; a machine under load is given half a minute. */
#define TIMEOUT_MS 30000

#define FEATURES (VHOST_USER_F_PROTOCOL_FEATURES | VIRTIO_F_VERSION_1)
#define PROTOCOL_FEATURES (VHOST_USER_PROTOCOL_F_REPLY_ACK | VHOST_USER_PROTOCOL_F_MQ)

struct fixture {
    struct entropy_source source;
    atomic_bool dry;   /* the source has nothing */
    bool found_dry;    /* by the queue's thread, when it asked last */
    atomic_bool real;  /* and its clock is the real one */
    atomic_uint asked; /* while it was dry */
    atomic_int handle; /* what tells that it has something again */
    struct rng rng;
    struct device_queues queues;
    struct loop loop;
    struct vhost_user_server server;
    struct vhost_user_client client;
    enum server_polling polling; /* set before it serves */
    char folder[32], path[64];
    unsigned ended;
    uint64_t waits;
    unsigned handles_before;
};

/* A queue or several, and a loop; then a server of @device, and a front end that is not connected. */
struct fixture *fixture_make(size_t request_bytes);
struct fixture *fixture_make_queues(size_t request_bytes, unsigned queues);
void fixture_serve(struct fixture *fixture, struct virtio_device *device, const struct server_queue_port *port,
                   bool own_threads);

/* Both, for rng. */
struct fixture *make_fixture(bool own_threads);
struct fixture *make_fixture_of_rate(bool own_threads, uint64_t bytes_per_s);
struct fixture *make_fixture_that_polls(enum server_polling polling, uint64_t bytes_per_s);

/* Let it run; first give it a place in the file system. */
void start(struct fixture *fixture);
struct fixture *run_fixture(struct fixture *fixture);
struct fixture *given_a_server(bool own_threads);

/* How many turns the loop of queue 0 had: asked on its thread, which is a turn of its own. */
uint64_t waits(struct fixture *fixture);
/* A loop with nothing to do has at most one turn for each time it is asked, and one that spins has many more. */
void expect_an_idle_loop(struct fixture *fixture);

/* loop_call: stop the server. */
void stop_server(void *argument);
/* The server's thread has ended, as it was told. */
void join_server(struct fixture *fixture);
/* The front end leaves, the server ends; everything has been given back: no descriptor more than before. */
void finish(struct fixture *fixture);

void connect_client(struct fixture *fixture);
void negotiate(struct fixture *fixture);
/* Negotiate, share memory, start the queue. */
void start_queue(struct fixture *fixture);
/* Ask rng for 16 bytes: how many came. */
int ask_for_entropy(struct fixture *fixture);
/* Connect, be served entropy, leave. */
void expect_service(struct fixture *fixture);
/* The back end hangs up. */
void expect_hang_up(struct fixture *fixture);

#endif
