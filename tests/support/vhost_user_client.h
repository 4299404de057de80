/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A vhost-user front end in small, for tests and benches: it drives any back end, ours or another, over its socket.
 * Well-behaved calls do what QEMU does; the raw ones send any bytes with any descriptors.
 *
 * Blocking, on the caller's thread; every wait ends after timeout_ms with -ETIMEDOUT. Results are 0 or a negative
 * errno.
 */
#ifndef TESTS_SUPPORT_VHOST_USER_CLIENT_H
#define TESTS_SUPPORT_VHOST_USER_CLIENT_H

#include "fake_driver.h"
#include "transports/vhost_user/message.h"

#define CLIENT_QUEUES_MAX 64

struct vhost_user_client_queue {
    struct fake_driver *driver; /* allocated */
    int kick, call, error;      /* eventfds; -1 none */
};

struct vhost_user_client {
    int socket; /* -1: not connected */
    int timeout_ms;
    uint64_t features;          /* offered by the back end */
    uint64_t protocol_features; /* negotiated */
    /*
     * For a front end that dies: the connection is closed as soon as so many messages have been sent, the last one
     * whole or its first half; what is called then answers -ECONNRESET. 0: it lives.
     */
    unsigned vanish_after, messages_sent;
    bool vanish_in_half;
    /* one region of shared memory: guest and front-end addresses are chosen to differ */
    int memory_handle;
    struct fake_memory memory;
    uint64_t frontend_base;
    int backend_channel; /* our end of SET_BACKEND_REQ_FD; -1 none */
    struct vhost_user_client_queue queues[CLIENT_QUEUES_MAX];
};

/* Make @client with @memory_bytes of shared guest memory at guest address @guest_base. Connects to nothing yet. */
int client_init(struct vhost_user_client *client, uint64_t guest_base, uint64_t memory_bytes, int timeout_ms);
void client_done(struct vhost_user_client *client);

/* Connect to the socket at @path, waiting for it to appear; or hang up. */
int client_connect(struct vhost_user_client *client, const char *path);
void client_disconnect(struct vhost_user_client *client);

/*
 * Negotiate: owner, features (those offered of @features; the rings' layout is among them), protocol features (those
 * offered of @protocol_features).
 */
int client_negotiate(struct vhost_user_client *client, uint64_t features, uint64_t protocol_features);

/* SET_MEM_TABLE, or ADD_MEM_REG where negotiated, for the one region. */
int client_share_memory(struct vhost_user_client *client);

/* Make a ring of @size at @ring_address, eventfds, and start queue @index, enabled. */
int client_start_queue(struct vhost_user_client *client, unsigned index, uint64_t ring_address, uint32_t size);

/* Start queue @index, whose driver has its ring, with new eventfds at @base. */
int client_resume_queue(struct vhost_user_client *client, unsigned index, uint32_t base);

/* GET_VRING_BASE: stops the queue. */
int client_stop_queue(struct vhost_user_client *client, unsigned index, uint32_t *ret_base);

int client_kick(struct vhost_user_client *client, unsigned index);
/* Wait for the call eventfd, and clear it. */
int client_wait_call(struct vhost_user_client *client, unsigned index);
/* Add one request, show, kick if wanted, wait until it is used. Returns its used length or a negative errno. */
int client_request(struct vhost_user_client *client, unsigned index, const struct fake_piece *pieces, unsigned count);

int client_get_config(struct vhost_user_client *client, uint32_t offset, uint32_t size, void *to);

/*
 * Raw. Send a message with @handle_count descriptors; receive an answer to @request into @ret_message (handles in it
 * are then the caller's). client_call does both; client_call_ack sends with need_reply and gives the u64 answered
 * (0: done), or < 0 when none came. -ECONNRESET: the back end hung up.
 */
int client_send(struct vhost_user_client *client, uint32_t request, uint32_t flags, const void *payload, uint32_t size,
                const int *handles, unsigned handle_count);
int client_receive(struct vhost_user_client *client, uint32_t request, struct vhost_user_message *ret_message);
int client_call(struct vhost_user_client *client, uint32_t request, const void *payload, uint32_t size,
                struct vhost_user_message *ret_message);
int64_t client_call_ack(struct vhost_user_client *client, uint32_t request, const void *payload, uint32_t size,
                        const int *handles, unsigned handle_count);
/* Bytes as they are, for what is no message at all. */
int client_send_bytes(struct vhost_user_client *client, const void *bytes, size_t size, const int *handles,
                      unsigned handle_count);

#endif
