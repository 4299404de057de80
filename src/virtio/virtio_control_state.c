/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Save and load of what transports share. */
#include <errno.h>

#include "virtio/virtio_control_private.h"

#define CONTROL_RECORD_VERSION 1
#define CONTROL_RECORD_BYTES 24
#define QUEUE_RECORD_VERSION 1
#define QUEUE_RECORD_BYTES 36
#define BACKEND_RECORD_VERSION 1

/* Bits of a queue's record. */
#define QUEUE_ENABLED 1
#define QUEUE_FAILED 2
#define QUEUE_HAS_BASE 4

static int save_queue(const struct virtio_control *control, uint16_t index, struct state_writer *writer)
{
    const struct virtio_control_queue *queue = &control->queues[index];
    uint8_t record[QUEUE_RECORD_BYTES];

    put_le16(record, index);
    put_le16(record + 2, (uint16_t)((queue->enabled ? QUEUE_ENABLED : 0) | (queue->failed ? QUEUE_FAILED : 0) |
                                    (queue->has_base ? QUEUE_HAS_BASE : 0)));
    put_le32(record + 4, queue->size);
    put_le32(record + 8, queue->base);
    put_le64(record + 12, queue->desc_address);
    put_le64(record + 20, queue->driver_address);
    put_le64(record + 28, queue->device_address);
    return state_put(writer, VIRTIO_STATE_CONTROL_QUEUE, QUEUE_RECORD_VERSION, record, sizeof(record));
}

/* The back end's records are the payload of one, so that its tags are its own. */
static int save_backend(const struct virtio_control *control, struct state_writer *writer)
{
    size_t mark;

    int r = state_begin(writer, VIRTIO_STATE_BACKEND, BACKEND_RECORD_VERSION, &mark);
    return r < 0 ? r : state_end(writer, mark, control->backend->class->save(control->backend, writer));
}

static int save_records(const struct virtio_control *control, struct state_writer *writer)
{
    uint8_t record[CONTROL_RECORD_BYTES] = {0};

    put_le16(record, control->backend->device_id);
    put_le16(record + 2, control->backend->queue_count);
    record[4] = control->status;
    put_le64(record + 8, control->driver_features);
    put_le32(record + 16, control->config_generation);
    put_le32(record + 20, atomic_load(&control->interrupt_status));
    int r = state_put(writer, VIRTIO_STATE_CONTROL, CONTROL_RECORD_VERSION, record, sizeof(record));
    for (uint16_t i = 0; i < control->backend->queue_count && r == 0; i++)
        r = save_queue(control, i, writer);
    return r < 0 ? r : save_backend(control, writer);
}

int virtio_control_save(const struct virtio_control *control, struct state_writer *writer)
{
    ASSERT(control->paused && virtio_control_is_settled(control));
    if (control->backend->class->save == NULL || control->backend->class->load == NULL)
        return -ENOTSUP;
    size_t used = writer->used;
    int r = save_records(control, writer);
    if (r < 0)
        writer->used = used;
    return r;
}

static int load_control(struct virtio_control *control, const struct state_record *record)
{
    const uint8_t *bytes = record->payload;

    if (record->length != CONTROL_RECORD_BYTES)
        return -EBADMSG;
    if (get_le16(bytes) != control->backend->device_id || get_le16(bytes + 2) != control->backend->queue_count)
        return -EINVAL;
    uint8_t status = bytes[4];
    uint8_t known = VIRTIO_CONTROL_DRIVER_BITS | VIRTIO_STATUS_NEEDS_RESET;
    bool negotiated = (status & VIRTIO_STATUS_FEATURES_OK) != 0;
    uint32_t interrupts = get_le32(bytes + 20);
    if ((status & ~known) != 0 || ((status & VIRTIO_STATUS_DRIVER_OK) != 0 && !negotiated) ||
        (interrupts & ~(uint32_t)(VIRTIO_INTERRUPT_QUEUE | VIRTIO_INTERRUPT_CONFIG)) != 0)
        return -EBADMSG;
    control->driver_features = get_le64(bytes + 8);
    if (negotiated && !virtio_control_accept_features(control))
        return -EINVAL;
    control->status = status;
    control->config_generation = get_le32(bytes + 16);
    atomic_store(&control->interrupt_status, interrupts);
    return 0;
}

static int load_queue(struct virtio_control *control, const struct state_record *record)
{
    const uint8_t *bytes = record->payload;

    if (record->length != QUEUE_RECORD_BYTES || get_le16(bytes) >= control->backend->queue_count)
        return -EBADMSG;
    uint16_t bits = get_le16(bytes + 2);
    uint32_t size = get_le32(bytes + 4);
    bool enabled = (bits & QUEUE_ENABLED) != 0;
    if (!virtio_control_size_fits(control, size) && (size != 0 || enabled))
        return -EBADMSG;
    control->queues[get_le16(bytes)] = (struct virtio_control_queue){
        .enabled = enabled,
        .failed = (bits & QUEUE_FAILED) != 0,
        .has_base = (bits & QUEUE_HAS_BASE) != 0,
        .size = size,
        .base = get_le32(bytes + 8),
        .desc_address = get_le64(bytes + 12),
        .driver_address = get_le64(bytes + 20),
        .device_address = get_le64(bytes + 28),
    };
    return 0;
}

static int load_backend(struct virtio_control *control, const struct state_record *record)
{
    struct state_reader inner = {.bytes = record->payload, .size = record->length};
    int r = control->backend->class->load(control->backend, &inner);

    if (r < 0 || (control->status & VIRTIO_STATUS_FEATURES_OK) == 0)
        return r;
    /* The queues run with the features of our record, whatever the back end's bytes say. */
    return virtio_control_accept_features(control) ? 0 : -EINVAL;
}

static int load_records(struct virtio_control *control, struct state_reader *reader)
{
    static const struct {
        uint32_t tag;
        uint16_t version;
        int (*load)(struct virtio_control *control, const struct state_record *record);
    } kinds[] = {
        {VIRTIO_STATE_CONTROL, CONTROL_RECORD_VERSION, load_control},
        {VIRTIO_STATE_CONTROL_QUEUE, QUEUE_RECORD_VERSION, load_queue},
        {VIRTIO_STATE_BACKEND, BACKEND_RECORD_VERSION, load_backend},
    };
    struct state_record record;
    bool first = true, last = false;
    int r;

    while ((r = state_next(reader, &record)) > 0) {
        /* Ours comes first, once: the others are read with its features in force. The back end's is the last. */
        if (first != (record.tag == VIRTIO_STATE_CONTROL) || last)
            return -EBADMSG;
        first = false;
        last = record.tag == VIRTIO_STATE_BACKEND;
        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
            if (kinds[i].tag != record.tag)
                continue;
            if (record.version > kinds[i].version)
                return -ENOTSUP;
            r = kinds[i].load(control, &record);
            if (r < 0)
                return r;
        }
    }
    return r == 0 && !last ? -EBADMSG : r;
}

int virtio_control_load(struct virtio_control *control, struct state_reader *reader)
{
    ASSERT(control->paused && virtio_control_is_settled(control) && control->status == 0);
    if (control->backend->class->save == NULL || control->backend->class->load == NULL)
        return -ENOTSUP;
    int r = load_records(control, reader);
    if (r < 0)
        return r;
    control->config_seen = control->backend->class->config_generation(control->backend);
    control->notify_all = true;
    virtio_control_update_queues(control);
    if (control->status != 0 && control->backend->class->status_changed != NULL)
        control->backend->class->status_changed(control->backend, control->status);
    return 0;
}
