/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The in-flight record of a ring ("Inflight I/O tracking" in vhost-user's text), in memory shared with the front end,
 * so that a successor knows which requests had been popped and not completed. Native byte order. The wire, nothing
 * else.
 */
#ifndef VIRTIO_VIRTQ_RECORD_H
#define VIRTIO_VIRTQ_RECORD_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The version of the records below; 0 is memory that nobody laid out. In both it stands after 8 bytes of features. */
#define VIRTQ_RECORD_VERSION 1

/* Split: an entry for each descriptor of the table, used by heads. */
struct virtq_record_split_entry {
    uint8_t inflight;
    uint8_t padding[5];
    uint16_t next;
    uint64_t counter;
};
static_assert(sizeof(struct virtq_record_split_entry) == 16, "vhost-user, DescStateSplit");

struct virtq_record_split {
    uint64_t features;
    uint16_t version;
    uint16_t desc_num;
    uint16_t last_batch_head;
    uint16_t used_index;
    struct virtq_record_split_entry desc[];
};
static_assert(sizeof(struct virtq_record_split) == 16, "vhost-user, QueueRegionSplit");

/* Packed: copies of descriptors, whose places in the ring are soon written over. A request's copies are a list. */
struct virtq_record_packed_entry {
    uint8_t inflight; /* of the list's first, as are last, num and counter */
    uint8_t padding;
    uint16_t next;
    uint16_t last;
    uint16_t num;
    uint64_t counter;
    uint16_t id;
    uint16_t flags;
    uint32_t length;
    uint64_t address;
};
static_assert(sizeof(struct virtq_record_packed_entry) == 32, "vhost-user, DescStatePacked");

struct virtq_record_packed {
    uint64_t features;
    uint16_t version;
    uint16_t desc_num;
    uint16_t free_head; /* of the list of free entries */
    uint16_t old_free_head;
    uint16_t used_index; /* position in the ring */
    uint16_t old_used_index;
    uint8_t used_wrap_counter;
    uint8_t old_used_wrap_counter;
    uint8_t padding[7];
    struct virtq_record_packed_entry desc[];
};
static_assert(offsetof(struct virtq_record_packed, desc) == 32, "vhost-user, QueueRegionPacked");

/* Of a record for a ring of @entries. */
static inline uint64_t virtq_record_bytes(bool packed, uint32_t entries)
{
    if (packed)
        return sizeof(struct virtq_record_packed) + (uint64_t)entries * sizeof(struct virtq_record_packed_entry);
    return sizeof(struct virtq_record_split) + (uint64_t)entries * sizeof(struct virtq_record_split_entry);
}

#endif
