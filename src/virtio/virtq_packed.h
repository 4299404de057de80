/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Inside the packed layout: what its two halves share, taking (virtq_packed_pop.c) and the rest (virtqueue_packed.c).
 */
#ifndef VIRTIO_VIRTQ_PACKED_H
#define VIRTIO_VIRTQ_PACKED_H

#include "virtio/virtq_layout.h"

/* The bits of a descriptor's flags that say whose it is; which value says what turns with each lap (2.8.1). */
#define PACKED_MARKS (VRING_PACKED_DESC_F_AVAIL | VRING_PACKED_DESC_F_USED)

/* Is the place at @position, whose lap has @mark, available? */
static inline bool is_available(const struct virtqueue *queue, uint32_t position, uint16_t mark)
{
    return (shared_load_le16_acquire(&queue->ring[position].flags) & PACKED_MARKS) == mark;
}

/* @position and its mark, @count places further on. */
static inline uint32_t step_on(const struct virtqueue *queue, uint32_t position, uint32_t count, uint16_t *mark)
{
    position += count;
    if (position >= queue->config.size) {
        position -= queue->config.size;
        *mark ^= PACKED_MARKS;
    }
    return position;
}

/* As struct virtq_layout has them. */
int virtq_packed_pop(struct virtqueue *queue, struct virtq_chain **chains, unsigned max);
void virtq_packed_unpop(struct virtqueue *queue, const struct virtq_chain *chain);

/* Let the driver see what was pushed. Whether it is to be told is for a later publication. */
void virtq_packed_show(struct virtqueue *queue);

#endif
