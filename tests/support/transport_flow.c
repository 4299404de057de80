/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <errno.h>

#include "transport_flow.h"

static int source_read(struct entropy_source *source, void *buffer, size_t size)
{
    struct transport_flow *flow = container_of(source, struct transport_flow, source);
    uint8_t *bytes = buffer;

    if (flow->dry)
        return -EAGAIN;
    for (size_t i = 0; i < size; i++)
        bytes[i] = ++flow->next;
    return (int)size;
}

static uint64_t source_now_ns(struct entropy_source *source)
{
    (void)source;
    return 1;
}

static const struct entropy_source_class source_class = {.read = source_read, .now_ns = source_now_ns};

void transport_flow_init(struct transport_flow *flow, bool packed)
{
    struct device_rig_shape shape = {.packed = packed, .ring_size = 16, .request_bytes = rng_request_bytes()};

    *flow = (struct transport_flow){.source.class = &source_class};
    device_rig_init(&flow->rig, &shape);
    rng_init(&flow->rng, flow->rig.queues, &flow->source, 0);
    flow->rng.device.offers_packed = packed;
    model_backend_init(&flow->model, &flow->rng.device, flow->rig.map, 64);
}

void transport_flow_done(struct transport_flow *flow)
{
    device_rig_done(&flow->rig);
}

void transport_flow_ask(struct transport_flow *flow, uint32_t bytes)
{
    flow->address = device_rig_high(&flow->rig, bytes);
    struct fake_piece piece = {.address = flow->address, .length = bytes, .writable = true};

    int head = fake_driver_add(&flow->rig.drivers[0], &piece, 1);
    ASSERT(head >= 0);
    (void)fake_driver_show(&flow->rig.drivers[0]);
}

int transport_flow_take(struct transport_flow *flow)
{
    uint32_t head, length;

    if (!fake_driver_get(&flow->rig.drivers[0], &head, &length))
        return -1;
    const uint8_t *bytes = device_rig_host(&flow->rig, flow->address);
    ASSERT(length > 0 && bytes[length - 1] == flow->next);
    return (int)length;
}
