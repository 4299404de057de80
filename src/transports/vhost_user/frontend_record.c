/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Where a queue stands whose peer is gone, and the in-flight record, which tells ("Inflight I/O tracking").
 *
 * Theory of operation
 *
 * The record is made by the first peer, for the layout of the rings that was negotiated before it was asked, and kept
 * here: each later peer gets it before any queue starts. It goes with a reset of the device, or when the layout
 * changes: the rings are new ones then.
 *
 * A split ring needs no record to be found again, since the peer counts what it gives back in the used ring; with one
 * it will also know what it had taken out of order. A packed ring says nothing; but its record has where the used part
 * ends. The areas of the queues lie one after the other, and all are as long: so it is with all back ends that there
 * are, and an area that is not for a ring of the queue's size is not believed.
 *
 * A queue that was stopped without a peer leaves requests behind in the record. If it then begins as a new ring, its
 * area is cleared.
 *
 * Limits
 *
 * A queue that goes on at base 0 after such a stop is taken for a new one. That is right unless it had gone through
 * exactly 65536 requests, and out of order.
 */
#include "transports/vhost_user/frontend_private.h"
#include "virtio/virtq_record.h"

/* Room for 64 packed rings of the largest size twice over: nobody needs more. */
#define FRONTEND_RECORD_BYTES_MAX (UINT64_C(256) << 20)

const char *frontend_record_reply(struct vhost_user_frontend *frontend, struct vhost_user_message *reply)
{
    const struct vhost_user_inflight *given = &reply->payload.inflight;
    uint64_t end;
    frontend->record_due = false;
    frontend->without_record = true;
    if (reply->handle_count == 0)
        return NULL;
    if (given->mmap_size == 0 || given->mmap_size > FRONTEND_RECORD_BYTES_MAX ||
        add_overflows_u64(given->mmap_offset, given->mmap_size, &end))
        return "GET_INFLIGHT_FD: memory of a size that no record has";
    /* Stopped or reset meanwhile: the next queue's start asks again. */
    if (frontend->record_handle >= 0 || !frontend->features_set) {
        frontend->without_record = false;
        return NULL;
    }
    struct vhost_user_mapping mapping;
    if (frontend->port->class->map(frontend->port, reply->handles[0], given->mmap_offset, given->mmap_size, &mapping) <
        0)
        return "GET_INFLIGHT_FD: memory that cannot be mapped";
    frontend->record_mapping = mapping;
    frontend->record_handle = reply->handles[0];
    reply->handles[0] = -1;
    frontend->record = *given;
    frontend->record.padding = 0;
    /* Some leave these as they like in the answer: they are what was asked for. */
    frontend->record.queue_count = frontend->virtio.queue_count;
    frontend->record.queue_size = (uint16_t)frontend->virtio.queue_size_max;
    frontend->record_packed = frontend_packed(frontend);
    frontend->without_record = false;
    return NULL;
}

void frontend_record_drop(struct vhost_user_frontend *frontend)
{
    if (frontend->record_handle < 0)
        return;
    frontend->port->class->unmap(frontend->port, &frontend->record_mapping);
    frontend->port->class->close(frontend->port, frontend->record_handle);
    frontend->record_mapping = (struct vhost_user_mapping){0};
    frontend->record_handle = -1;
    frontend->told_record = false;
}

/* The area of queue @index and ret_bytes of it, or NULL. */
static uint8_t *record_area(const struct vhost_user_frontend *frontend, unsigned index, uint64_t *ret_bytes)
{
    uint64_t stride;
    if (frontend->record_handle < 0 || index >= frontend->record.queue_count)
        return NULL;
    stride = frontend->record.mmap_size / frontend->record.queue_count;
    if (stride < sizeof(struct virtq_record_packed) || !is_aligned(stride, sizeof(uint64_t)) ||
        !is_aligned(frontend->record.mmap_offset, sizeof(uint64_t)))
        return NULL;
    *ret_bytes = stride;
    return frontend->record_mapping.base + index * stride;
}

void frontend_record_void(struct vhost_user_frontend *frontend, unsigned index)
{
    uint64_t bytes;
    uint8_t *area = record_area(frontend, index, &bytes);
    if (area != NULL)
        memset(area, 0, (size_t)bytes);
}

/* Of a packed ring with a record that somebody has laid out. */
static bool base_from_record(const struct vhost_user_frontend *frontend, unsigned index, uint32_t *ret_base)
{
    const struct virtqueue_config *config = &frontend->queues[index].config;
    uint64_t bytes;
    const uint8_t *area = record_area(frontend, index, &bytes);
    if (area == NULL || !frontend->record_packed || bytes < virtq_record_bytes(true, config->size))
        return false;
    /* The file is the peer's, who may write at any time: copied once, then judged. */
    struct virtq_record_packed record;
    shared_copy_in(&record, area, sizeof(record));
    if (record.version == 0) { /* the peer never came so far as to look at the ring */
        *ret_base = config->base;
        return true;
    }
    if (record.version != VIRTQ_RECORD_VERSION || record.desc_num != config->size || record.used_index >= config->size)
        return false;
    uint32_t half = VIRTQ_BASE_PACKED(record.used_index, record.used_wrap_counter != 0);
    *ret_base = half << 16 | half;
    return true;
}

bool frontend_find_base(const struct vhost_user_frontend *frontend, unsigned index, uint32_t *ret_base)
{
    const struct virtqueue_config *config = &frontend->queues[index].config;
    if (frontend_packed(frontend))
        return base_from_record(frontend, index, ret_base);
    uint64_t address = config->used_address + offsetof(struct vring_used, index);
    const struct vhost_user_frontend_region *region =
        frontend_region(frontend->regions, frontend->region_count, address, sizeof(uint16_t));
    if (region == NULL || region->host == NULL)
        return false;
    *ret_base = shared_load_le16(region->host + (address - region->guest_base));
    return true;
}
