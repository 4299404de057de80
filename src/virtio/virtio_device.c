/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * One call into the model, then one look at the queue: publish what was pushed, see whether the queue broke or stopped,
 * and whether there is more to do. All answers leave as a set of events, so that no caller is ever entered again from
 * below.
 *
 * Kicks are off while the model serves. When it says that nothing is left, they are turned on, and the ring is looked
 * at once more, since a request may have come in between. A queue that stopped popping for want of room keeps them off:
 * a completion wakes it.
 *
 * A model that ends a wake for its burst gets the next run as a wake, since only it knows that something is left at its
 * port; also while the queue is stopping or broken, when there is nothing to run.
 *
 * Limits
 *
 * A queue for which a translation is pending, or memory could not be mapped, is not looked at again until somebody
 * wakes it: who implements such an access table owes it the wake.
 */
#include "virtio/virtio_device.h"

#include <errno.h>

#include "virtio/virtq_layout.h"

/* The ring's own features (6) that every device has. */
#define RING_FEATURES (VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1)

static struct virtqueue *queue_at(struct virtio_device *device, unsigned index)
{
    ASSERT(index < device->queue_count);
    return &device->queues[index];
}

static void assert_all_stopped(const struct virtio_device *device)
{
    for (unsigned i = 0; i < device->queue_count; i++)
        ASSERT(device->queues[i].state == VIRTQUEUE_STOPPED);
}

void virtio_device_init(struct virtio_device *device, const struct virtio_device_class *class, struct virtqueue *queues,
                        uint16_t queue_count)
{
    ASSERT(queue_count <= class->queues_max);
    device->class = class;
    device->queues = queues;
    device->queue_count = queue_count;
    device->features = 0;
    device->offers_packed = false;
    device->offers_in_order = false;
    atomic_init(&device->config_generation, 0);
    atomic_init(&device->needs_reset, false);
}

uint64_t virtio_device_features(const struct virtio_device *device)
{
    uint64_t some =
        (device->offers_packed ? VIRTIO_F_RING_PACKED : 0) | (device->offers_in_order ? VIRTIO_F_IN_ORDER : 0);
    return RING_FEATURES | some | (device->class->features != NULL ? device->class->features(device) : 0);
}

/* Every queue stands where a ring of the layout that @features ask for begins. */
static void begin_rings_anew(struct virtio_device *device, uint64_t features)
{
    for (unsigned i = 0; i < device->queue_count; i++)
        virtqueue_set_base(&device->queues[i], virtqueue_base_initial(features));
}

int virtio_device_set_features(struct virtio_device *device, uint64_t features)
{
    assert_all_stopped(device);
    if ((features & ~virtio_device_features(device)) != 0)
        return -EINVAL;
    if (device->class->set_features != NULL) {
        int r = device->class->set_features(device, features);
        if (r < 0)
            return r;
    }
    /* A place in a ring of the other layout means nothing: those rings are gone. */
    if (((features ^ device->features) & VIRTIO_F_RING_PACKED) != 0)
        begin_rings_anew(device, features);
    device->features = features;
    return 0;
}

int virtio_device_queue_start(struct virtio_device *device, unsigned index, const struct virtqueue_config *config,
                              const struct guest_memory *memory, const struct dirty_log *log, void *inflight)
{
    struct virtqueue *queue = queue_at(device, index);
    int r = virtqueue_start(queue, config, memory, log, inflight);
    if (r < 0)
        return r;
    if (device->class->queue_start != NULL)
        device->class->queue_start(device, queue);
    return 0;
}

/* What a call of the model has led to. @was_broken: before the call. @r: its answer. */
static unsigned settle(struct virtio_device *device, struct virtqueue *queue, bool was_broken, int r)
{
    unsigned events = 0;
    enum virtqueue_state before = queue->state;

    /* What was pushed before things went wrong counts. */
    if (virtqueue_publish(queue))
        events |= VIRTIO_EVENT_NOTIFY;
    if (r < 0)
        (void)virtqueue_break(queue);
    if (queue->broken && !was_broken) {
        atomic_store(&device->needs_reset, true);
        events |= VIRTIO_EVENT_NEEDS_RESET;
    }
    if (queue->state == VIRTQUEUE_STOPPED)
        return before == VIRTQUEUE_STOPPED ? events : events | VIRTIO_EVENT_STOPPED;
    return events;
}

/* The model says that nothing is left to do. Go to sleep, unless there is: then true. */
static bool look_again(struct virtqueue *queue)
{
    if (queue->state != VIRTQUEUE_RUNNING || queue->broken)
        return false;
    /* What was out when the arena ran dry is what wakes us; if all of it is back already, nothing will. */
    if (queue->starved)
        return queue->out_count == 0 && !queue->unreachable;
    if (!queue->attended)
        return virtqueue_kicks_on(queue);
    /* Who looks at the ring sees what comes, and not what a pop left behind. Said once, as by kicks_on. */
    bool again = queue->pop_again;
    queue->pop_again = false;
    return again;
}

static unsigned wake(struct virtio_device *device, struct virtqueue *queue, unsigned burst)
{
    bool was_broken = queue->broken;
    queue->wake_again = false;
    queue->wake_at_ns = 0;
    int r = device->class->wake(device, queue, burst);
    unsigned events = settle(device, queue, was_broken, r);
    if (queue->state == VIRTQUEUE_STOPPED)
        return events;
    if (r > 0) {
        queue->wake_again = true;
        return events | VIRTIO_EVENT_AGAIN;
    }
    return look_again(queue) ? events | VIRTIO_EVENT_AGAIN : events;
}

unsigned virtio_device_run(struct virtio_device *device, unsigned index, unsigned burst)
{
    ASSERT(burst > 0);
    struct virtqueue *queue = queue_at(device, index);
    if (queue->state == VIRTQUEUE_STOPPED)
        return 0;

    unsigned events = 0;
    if (queue->wake_again) {
        events = wake(device, queue, burst);
        if ((events & VIRTIO_EVENT_AGAIN) != 0)
            return events;
    }
    if (queue->state != VIRTQUEUE_RUNNING || queue->broken)
        return events;

    queue->wake_at_ns = 0;
    virtqueue_kicks_off(queue);
    int r = device->class->run(device, queue, burst);
    events |= settle(device, queue, false, r);
    if (queue->broken)
        return events;
    return r > 0 || look_again(queue) ? events | VIRTIO_EVENT_AGAIN : events;
}

unsigned virtio_device_rest(struct virtio_device *device, unsigned index)
{
    struct virtqueue *queue = queue_at(device, index);
    ASSERT(!queue->attended);
    return look_again(queue) ? VIRTIO_EVENT_AGAIN : 0;
}

unsigned virtio_device_wake(struct virtio_device *device, unsigned index, unsigned burst)
{
    ASSERT(burst > 0);
    struct virtqueue *queue = queue_at(device, index);
    return queue->state == VIRTQUEUE_STOPPED ? 0 : wake(device, queue, burst);
}

unsigned virtio_device_queue_stop(struct virtio_device *device, unsigned index)
{
    struct virtqueue *queue = queue_at(device, index);
    if (queue->state == VIRTQUEUE_STOPPED)
        return VIRTIO_EVENT_STOPPED;
    if (queue->state == VIRTQUEUE_STOPPING)
        return 0;

    bool stopped = virtqueue_stop(queue);
    if (device->class->queue_stop != NULL)
        device->class->queue_stop(device, queue);
    return stopped ? VIRTIO_EVENT_STOPPED : settle(device, queue, queue->broken, 0);
}

void virtio_device_config_read(const struct virtio_device *device, uint32_t offset, void *to, uint32_t size)
{
    uint32_t space = device->class->config_bytes;
    uint32_t inside = offset < space ? u32_min(size, space - offset) : 0;
    if (inside > 0)
        device->class->config_read(device, offset, to, inside);
    memset((uint8_t *)to + inside, 0, size - inside);
}

int virtio_device_config_write(struct virtio_device *device, uint32_t offset, const void *from, uint32_t size)
{
    if (!range_within(offset, size, device->class->config_bytes))
        return -EINVAL;
    if (device->class->config_write == NULL)
        return -EPERM;
    return device->class->config_write(device, offset, from, size);
}

void virtio_device_reset(struct virtio_device *device)
{
    assert_all_stopped(device);
    device->features = 0;
    atomic_store(&device->needs_reset, false);
    for (unsigned i = 0; i < device->queue_count; i++)
        device->queues[i].broken = false;
    begin_rings_anew(device, device->features);
    if (device->class->reset != NULL)
        device->class->reset(device);
}

#define DEVICE_RECORD_VERSION 1
#define DEVICE_RECORD_BYTES 20
#define QUEUE_RECORD_VERSION 2
#define QUEUE_RECORD_BYTES 6
#define QUEUE_RECORD_BYTES_1 4 /* of version 1 */
#define MODEL_RECORD_VERSION 1

static int save_model(const struct virtio_device *device, struct state_writer *writer)
{
    /* The model's records are the payload of one, so that its tags are its own. Written in place, then measured. */
    uint8_t *header = writer->bytes + writer->used;
    int r = state_put(writer, VIRTIO_STATE_MODEL, MODEL_RECORD_VERSION, NULL, 0);
    if (r < 0)
        return r;
    struct state_writer inner = {
        .bytes = writer->bytes + writer->used,
        .size = size_min(writer->size - writer->used, STATE_RECORD_BYTES_MAX),
    };
    r = device->class->save(device, &inner);
    if (r < 0)
        return r;
    put_le32(header + 8, (uint32_t)inner.used);
    writer->used += inner.used;
    return 0;
}

static int save_records(const struct virtio_device *device, struct state_writer *writer)
{
    uint8_t record[DEVICE_RECORD_BYTES];
    put_le16(record, device->class->id);
    put_le16(record + 2, device->queue_count);
    put_le64(record + 4, device->features);
    put_le32(record + 12, atomic_load(&device->config_generation));
    put_le32(record + 16, atomic_load(&device->needs_reset) ? 1 : 0);
    int r = state_put(writer, VIRTIO_STATE_DEVICE, DEVICE_RECORD_VERSION, record, sizeof(record));
    for (uint16_t i = 0; i < device->queue_count && r == 0; i++) {
        uint8_t queue_record[QUEUE_RECORD_BYTES];
        put_le16(queue_record, i);
        put_le32(queue_record + 2, virtqueue_base(&device->queues[i]));
        r = state_put(writer, VIRTIO_STATE_QUEUE, QUEUE_RECORD_VERSION, queue_record, sizeof(queue_record));
    }
    if (r == 0 && device->class->save != NULL)
        r = save_model(device, writer);
    return r;
}

int virtio_device_save(const struct virtio_device *device, struct state_writer *writer)
{
    assert_all_stopped(device);
    size_t used = writer->used;
    int r = save_records(device, writer);
    if (r < 0)
        writer->used = used;
    return r;
}

static int load_device(struct virtio_device *device, const struct state_record *record)
{
    if (record->length != DEVICE_RECORD_BYTES)
        return -EBADMSG;
    uint32_t needs_reset = get_le32(record->payload + 16);
    if (needs_reset > 1)
        return -EBADMSG;
    if (get_le16(record->payload) != device->class->id || get_le16(record->payload + 2) != device->queue_count)
        return -EINVAL;
    int r = virtio_device_set_features(device, get_le64(record->payload + 4));
    if (r < 0)
        return r;
    atomic_store(&device->config_generation, get_le32(record->payload + 12));
    atomic_store(&device->needs_reset, needs_reset == 1);
    return 0;
}

static int load_queue(struct virtio_device *device, const struct state_record *record)
{
    uint32_t bytes = record->version < 2 ? QUEUE_RECORD_BYTES_1 : QUEUE_RECORD_BYTES;
    if (record->length != bytes || get_le16(record->payload) >= device->queue_count)
        return -EBADMSG;
    uint32_t base = record->version < 2 ? get_le16(record->payload + 2) : get_le32(record->payload + 2);
    virtqueue_set_base(&device->queues[get_le16(record->payload)], base);
    return 0;
}

static int load_model(struct virtio_device *device, const struct state_record *record)
{
    if (device->class->load == NULL)
        return -EBADMSG; /* a device of this kind saves none */
    struct state_reader inner = {.bytes = record->payload, .size = record->length};
    return device->class->load(device, &inner);
}

static int load_records(struct virtio_device *device, struct state_reader *reader)
{
    static const struct {
        uint32_t tag;
        uint16_t version;
        int (*load)(struct virtio_device *device, const struct state_record *record);
    } kinds[] = {
        {VIRTIO_STATE_DEVICE, DEVICE_RECORD_VERSION, load_device},
        {VIRTIO_STATE_QUEUE, QUEUE_RECORD_VERSION, load_queue},
        {VIRTIO_STATE_MODEL, MODEL_RECORD_VERSION, load_model},
    };
    struct state_record record;
    bool first = true;
    int r;
    while ((r = state_next(reader, &record)) > 0) {
        /* The device's own record comes first, once: the others are read with its features in force. */
        if (first != (record.tag == VIRTIO_STATE_DEVICE))
            return -EBADMSG;
        first = false;
        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
            if (kinds[i].tag != record.tag)
                continue;
            if (record.version > kinds[i].version)
                return -ENOTSUP;
            r = kinds[i].load(device, &record);
            if (r < 0)
                return r;
        }
    }
    return r == 0 && first ? -EBADMSG : r;
}

int virtio_device_load(struct virtio_device *device, struct state_reader *reader)
{
    virtio_device_reset(device);
    int r = load_records(device, reader);
    if (r < 0)
        virtio_device_reset(device);
    return r;
}
