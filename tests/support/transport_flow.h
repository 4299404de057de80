/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * An entropy device with its guest memory and ring behind a model_backend, so that requests flow through a transport
 * (VIRTIO 1.3, 5.4). The source counts upwards, and dries up when a test says so.
 */
#ifndef TESTS_SUPPORT_TRANSPORT_FLOW_H
#define TESTS_SUPPORT_TRANSPORT_FLOW_H

#include "device_rig.h"
#include "devices/rng/rng.h"
#include "model_backend.h"

struct transport_flow {
    struct device_rig rig;
    struct entropy_source source;
    bool dry;
    uint8_t next;
    struct rng rng;
    struct model_backend model;
    uint64_t address; /* of the last request's buffer */
};

void transport_flow_init(struct transport_flow *flow, bool packed);
void transport_flow_done(struct transport_flow *flow);
/* The driver asks for @bytes: the device can see it, and is not told. */
void transport_flow_ask(struct transport_flow *flow, uint32_t bytes);
/* Bytes of the next request that came back, or -1; those of the last one asked for are right, or the program ends. */
int transport_flow_take(struct transport_flow *flow);

#endif
