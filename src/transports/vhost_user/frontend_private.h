/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What the files of the vhost-user front end share among themselves. Nobody else includes this. */
#ifndef TRANSPORTS_VHOST_USER_FRONTEND_PRIVATE_H
#define TRANSPORTS_VHOST_USER_FRONTEND_PRIVATE_H

#include "transports/vhost_user/frontend.h"

static inline struct vhost_user_frontend *frontend_of(struct virtio_backend *virtio)
{
    return container_of(virtio, struct vhost_user_frontend, virtio);
}

static inline const struct vhost_user_frontend *frontend_of_const(const struct virtio_backend *virtio)
{
    return (const struct vhost_user_frontend *)(const void *)((const char *)virtio -
                                                              offsetof(struct vhost_user_frontend, virtio));
}

static inline bool frontend_negotiated(const struct vhost_user_frontend *frontend, uint64_t protocol_feature)
{
    return (frontend->protocol_features & protocol_feature) != 0;
}

/* Have packed rings been negotiated? */
static inline bool frontend_packed(const struct vhost_user_frontend *frontend)
{
    return (frontend->features & VIRTIO_F_RING_PACKED) != 0;
}

/* Refuse what the owner or the driver asks for, and remember why: returns @error. */
static inline int frontend_refuse(struct vhost_user_frontend *frontend, int error, const char *reason)
{
    frontend->refused_reason = reason;
    return error;
}

/* frontend.c */

/*
 * Send @message, whose header needs request and size; @index is the queue it is about, or 0. Asks for an
 * acknowledgement where one can be had, and remembers which answer is due.
 */
void frontend_send(struct vhost_user_frontend *frontend, struct vhost_user_message *message, unsigned index);
void frontend_send_empty(struct vhost_user_frontend *frontend, uint32_t request);
void frontend_send_u64(struct vhost_user_frontend *frontend, uint32_t request, uint64_t value);

/* Without REPLY_ACK: ask for what has an answer, so that it is known when all that was sent before is done. */
void frontend_send_barrier(struct vhost_user_frontend *frontend);

/* Are so many answers due that whatever can wait should? When they come, frontend_sync is called. */
bool frontend_is_behind(const struct vhost_user_frontend *frontend);

/* The device cannot go on: tell the listener, once. Not from inside a call of the transport. */
void frontend_break(struct vhost_user_frontend *frontend, const char *reason);

/* frontend_greeting.c */

void frontend_greet(struct vhost_user_frontend *frontend);
/* The answer to a GET_* during the greeting. NULL: fine, else why the peer is of no use. */
const char *frontend_greeting_reply(struct vhost_user_frontend *frontend, const struct vhost_user_message *reply);
/* What a peer offers and a driver may choose of. */
uint64_t frontend_offered(const struct vhost_user_frontend *frontend);

/* frontend_sync.c */

/* Tell the peer whatever it has not been told yet, as far as that can be done now. */
void frontend_sync(struct vhost_user_frontend *frontend);

/* The region that has all of [@address, @address + @bytes), or NULL. */
const struct vhost_user_frontend_region *frontend_region(const struct vhost_user_frontend_region *regions,
                                                         unsigned count, uint64_t address, uint64_t bytes);
/* Does the ring of @config lie in @regions, each part in one piece? 0, -EINVAL (size, alignment), -EFAULT. */
int frontend_ring_check(struct vhost_user_frontend *frontend, const struct vhost_user_frontend_region *regions,
                        unsigned count, const struct virtqueue_config *config);

/* frontend_record.c */

/* The answer to GET_INFLIGHT_FD. NULL: fine, else how the peer lies. */
const char *frontend_record_reply(struct vhost_user_frontend *frontend, struct vhost_user_message *reply);
void frontend_record_drop(struct vhost_user_frontend *frontend);
/* Queue @index begins anew: what the record says of it is void. */
void frontend_record_void(struct vhost_user_frontend *frontend, unsigned index);
/*
 * Where queue @index stands, whose peer is gone: of a split ring the used index, of a packed one what the record says.
 * False: nobody knows.
 */
bool frontend_find_base(const struct vhost_user_frontend *frontend, unsigned index, uint32_t *ret_base);

/* frontend_config.c */

/* The answer to GET_CONFIG. NULL: fine, else why not. Calls the listener. */
const char *frontend_config_reply(struct vhost_user_frontend *frontend, const struct vhost_user_message *reply);
void frontend_config_ask(struct vhost_user_frontend *frontend);
/* Send what the driver wrote, and ask what has come of it. */
void frontend_config_sync(struct vhost_user_frontend *frontend);
void frontend_config_read(const struct virtio_backend *virtio, uint32_t offset, void *to, uint32_t size);
int frontend_config_write(struct virtio_backend *virtio, uint32_t offset, const void *from, uint32_t size);

/* frontend_device.c */

extern const struct virtio_backend_class frontend_class;

#endif
