/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What the files of the vhost-user back end share among themselves. Nobody else includes this. */
#ifndef TRANSPORTS_VHOST_USER_BACKEND_PRIVATE_H
#define TRANSPORTS_VHOST_USER_BACKEND_PRIVATE_H

#include "transports/vhost_user/backend.h"

/*
 * What a handler of a message returns: 0, done: acknowledge where that is asked for. BACKEND_ANSWERED: the answer is
 * out, or comes when the wait is over. A negative errno: refused, and nothing has changed.
 */
#define BACKEND_ANSWERED 1

/* backend.c */

/* Refuse, and remember why: returns @error. @reason is a constant, for people. */
int backend_wrong(struct vhost_user_backend *backend, int error, const char *reason);

static inline bool backend_negotiated(const struct vhost_user_backend *backend, uint64_t protocol_feature)
{
    return (backend->protocol_features & protocol_feature) != 0;
}

/* Send @message as an answer; its header needs request and size. @handle stays the caller's. */
void backend_reply(struct vhost_user_backend *backend, struct vhost_user_message *message, int handle);
void backend_reply_u64(struct vhost_user_backend *backend, uint32_t request, uint64_t value);

/* Take over the handle of @message, which is there. */
int backend_take_handle(struct vhost_user_message *message, unsigned position);

/* Close the handle at *@handle, if any. */
void backend_close(struct vhost_user_backend *backend, int *handle);

/*
 * Stop ring @index, or all of them (BACKEND_ALL_RINGS), and do what @wait says once they have stopped: at once when
 * nothing is in flight. Always BACKEND_ANSWERED.
 */
#define BACKEND_ALL_RINGS UINT32_MAX
int backend_wait_begin(struct vhost_user_backend *backend, enum vhost_user_wait wait,
                       const struct vhost_user_message *message, uint32_t index);

/* backend_ring.c */

/* The log that queues write to now, or NULL. */
const struct dirty_log *backend_log(const struct vhost_user_backend *backend);

/* Start ring @index when everything it needs is there and it does not run. < 0: it was tried in vain. */
int backend_ring_start(struct vhost_user_backend *backend, unsigned index);
/* The same for every ring, after a change that failed for none of them in particular. */
void backend_rings_start(struct vhost_user_backend *backend);

/* Begin to stop a running ring. */
void backend_ring_stop(struct vhost_user_backend *backend, unsigned index);
/* It has stopped: remember where. */
void backend_ring_stopped(struct vhost_user_backend *backend, unsigned index);

/* Where stopped ring @index stands: what GET_VRING_BASE answers. */
uint32_t backend_ring_base(const struct vhost_user_backend *backend, unsigned index);

/* Features have been set, and no ring runs: a base in rings of the other layout is void. */
void backend_rings_features(struct vhost_user_backend *backend);

/* Ask the queue of running ring @index whether it is broken. */
void backend_ring_look(struct vhost_user_backend *backend, unsigned index);

/* Have packed rings been negotiated? */
static inline bool backend_packed(const struct vhost_user_backend *backend)
{
    return (backend->features & VIRTIO_F_RING_PACKED) != 0;
}

bool backend_any_running(const struct vhost_user_backend *backend);
bool backend_any_stopping(const struct vhost_user_backend *backend);

/* Do all running rings lie in @memory? 0 or -EFAULT. */
int backend_rings_fit(struct vhost_user_backend *backend, const struct guest_memory *memory);

/* Every running ring goes on with the current map and log, between two runs. */
void backend_rings_exchange(struct vhost_user_backend *backend);

/* A stopped ring forgets its kick and, where asked, its other lines too: the port closes them. */
void backend_ring_drop_lines(struct vhost_user_backend *backend, unsigned index, bool call, bool error);

int backend_set_vring_num(struct vhost_user_backend *backend, struct vhost_user_message *message);
int backend_set_vring_address(struct vhost_user_backend *backend, struct vhost_user_message *message);
int backend_set_vring_base(struct vhost_user_backend *backend, struct vhost_user_message *message);
int backend_get_vring_base(struct vhost_user_backend *backend, struct vhost_user_message *message);
int backend_set_vring_line(struct vhost_user_backend *backend, struct vhost_user_message *message);
int backend_set_vring_enable(struct vhost_user_backend *backend, struct vhost_user_message *message);

/* backend_memory.c */

int backend_set_mem_table(struct vhost_user_backend *backend, struct vhost_user_message *message);
int backend_add_mem_region(struct vhost_user_backend *backend, struct vhost_user_message *message);
int backend_remove_mem_region(struct vhost_user_backend *backend, struct vhost_user_message *message);
/* All rings have stopped: make the waiting change. Or: the front end went meanwhile, forget it. */
void backend_memory_finish(struct vhost_user_backend *backend);
void backend_memory_abandon(struct vhost_user_backend *backend);
/* Unmap everything. No ring runs. */
void backend_memory_done(struct vhost_user_backend *backend);

int backend_set_log_base(struct vhost_user_backend *backend, struct vhost_user_message *message);
int backend_set_log_line(struct vhost_user_backend *backend, struct vhost_user_message *message);
void backend_log_done(struct vhost_user_backend *backend);

/* backend_inflight.c */

int backend_get_inflight(struct vhost_user_backend *backend, struct vhost_user_message *message);
int backend_set_inflight(struct vhost_user_backend *backend, struct vhost_user_message *message);
/* Features have been set, and no ring runs: a record of rings of the other layout is void. */
void backend_inflight_features(struct vhost_user_backend *backend);
/*
 * The record for ring @index, which is about to start as @config says; NULL: there is none, or it has no room for the
 * ring. -EINVAL: it is of a ring of another size.
 */
int backend_inflight(struct vhost_user_backend *backend, unsigned index, const struct virtqueue_config *config,
                     void **ret_record);
/* The device is reset, and no ring runs: what the record says was in flight is no more. */
void backend_inflight_forget(struct vhost_user_backend *backend);
void backend_inflight_done(struct vhost_user_backend *backend);

#endif
