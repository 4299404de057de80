/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Inside the virtqueue: the in-flight record of a packed ring ("Inflight I/O tracking" in vhost-user's text). Every
 * call is for a queue that has a record. Nobody outside virtio/ includes this.
 */
#ifndef VIRTIO_VIRTQ_INFLIGHT_PACKED_H
#define VIRTIO_VIRTQ_INFLIGHT_PACKED_H

#include "virtio/virtqueue.h"

/* One descriptor of the ring, copied. */
struct virtq_packed_desc {
    uint64_t address;
    uint32_t length;
    uint16_t id;
    uint16_t flags;
};

/*
 * A life begins; next_used and used_mark are what the base says. Make a new record ready, or find out from it what is
 * in flight: then next_used, next_avail, their marks, held and resubmit_left are set by it. -EPROTO: it contradicts
 * itself.
 */
int virtq_inflight_packed_begin(struct virtqueue *queue);

/*
 * A chain is being taken: begin gives the entry that will name it, add stores one descriptor after the other, @last
 * with the last one, and then take makes it last; or undo forgets it. Nothing that was pushed may be unshown.
 */
uint16_t virtq_inflight_packed_take_begin(struct virtqueue *queue);
void virtq_inflight_packed_add(struct virtqueue *queue, uint16_t entry, const struct virtq_packed_desc *desc,
                               bool last);
void virtq_inflight_packed_take(struct virtqueue *queue);
void virtq_inflight_packed_undo(struct virtqueue *queue, uint16_t entry);

/* The chain at @entry goes back into the ring, unserved. Nothing that was pushed may be unshown. */
void virtq_inflight_packed_unpop(struct virtqueue *queue, uint16_t entry);

/* It has been given back, and is part of the batch that is shown next. */
void virtq_inflight_packed_push(struct virtqueue *queue, uint16_t entry);

/* Around the store that shows a batch of @count chains, next_used being behind it already. */
void virtq_inflight_packed_show_begin(struct virtqueue *queue);
void virtq_inflight_packed_show_end(struct virtqueue *queue, uint32_t count);

/*
 * The recorded request that is to be popped next, while queue->resubmit_left is not 0: its entry, and how many
 * descriptors it has. False: there is none, contrary to what there was. virtq_inflight_packed_desc gives the
 * descriptors in turn: *@entry names the first, and moves on.
 */
bool virtq_inflight_packed_next(const struct virtqueue *queue, uint16_t *ret_entry, uint32_t *ret_count);
struct virtq_packed_desc virtq_inflight_packed_desc(const struct virtqueue *queue, uint16_t *entry);
void virtq_inflight_packed_taken(struct virtqueue *queue, uint16_t entry, uint32_t count);
void virtq_inflight_packed_put_back(struct virtqueue *queue, uint16_t entry, uint32_t count);

#endif
