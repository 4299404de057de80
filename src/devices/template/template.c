/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A burst of chains is popped; each message is copied out of guest memory once and given to the sink. When the sink has
 * no room, the message in hand and those behind it go back to the ring, and the sink wakes us: nothing is lost, and the
 * order stays.
 *
 * Limits
 *
 * At most TEMPLATE_MESSAGE_BYTES_MAX of a message arrive. What the device may write in a chain is left alone.
 */
#include <errno.h>

#include "devices/template/template.h"

/* 0, or -EAGAIN: @chain is to be put back. */
static int deliver(struct template *template, struct virtq_chain *chain)
{
    uint8_t message[TEMPLATE_MESSAGE_BYTES_MAX];
    size_t size = virtq_chain_read(chain, message, sizeof(message));

    int r = template->sink->class->take(template->sink, message, size);
    ASSERT(r == 0 || r == -EAGAIN);
    return r;
}

static int template_serve(struct virtio_device *device, struct virtqueue *queue, unsigned burst)
{
    struct template *template = container_of(device, struct template, device);
    struct virtq_chain *chains[VIRTQ_BURST_MAX];

    while (burst > 0) {
        int popped = virtqueue_pop(queue, chains, u32_min(burst, VIRTQ_BURST_MAX));
        if (popped <= 0)
            return popped;
        unsigned count = (unsigned)popped;
        unsigned delivered = 0;
        while (delivered < count && deliver(template, chains[delivered]) == 0)
            delivered++;
        if (delivered < count)
            virtqueue_unpop(queue, &chains[delivered], count - delivered);
        virtqueue_push(queue, chains, delivered);
        atomic_fetch_add_explicit(&template->messages_total, delivered, memory_order_relaxed);
        if (delivered < count)
            return 0; /* the sink wakes us */
        burst -= count;
    }
    return 1;
}

static uint64_t template_features(const struct virtio_device *device)
{
    (void)device;
    return 0;
}

static void template_config_read(const struct virtio_device *device, uint32_t offset, void *to, uint32_t size)
{
    const struct virtio_template_config config = {.message_bytes_max = cpu_to_le32(TEMPLATE_MESSAGE_BYTES_MAX)};

    (void)device;
    ASSERT(range_within(offset, size, sizeof(config)));
    memcpy(to, (const uint8_t *)&config + offset, size);
}

static const struct virtio_device_class template_class = {
    .name = "template",
    .id = VIRTIO_ID_TEMPLATE,
    .queues_max = 1,
    .config_bytes = sizeof(struct virtio_template_config),
    .features = template_features,
    .run = template_serve,
    .wake = template_serve,
    .config_read = template_config_read,
};

void template_init(struct template *template, struct virtqueue *queue, struct template_sink *sink)
{
    *template = (struct template){.sink = sink};
    virtio_device_init(&template->device, &template_class, queue, 1);
    template->device.offers_in_order = true; /* no message overtakes another */
}

size_t template_request_bytes(void)
{
    return 0;
}
