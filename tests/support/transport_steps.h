/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * For fuzzers of transports: what a driver, a back end and an owner do that is the same for all of them, and what has
 * to hold after each step. The fake back end holds the transport to its contract besides.
 */
#ifndef TESTS_SUPPORT_TRANSPORT_STEPS_H
#define TESTS_SUPPORT_TRANSPORT_STEPS_H

#include "fake_owner.h"
#include "fuzz_input.h"
#include "transport_driver.h"

#define TRANSPORT_STEPS 12 /* kinds of them below */

/* A bus port that counts what is bound now. */
struct counting_port {
    struct bus_port port;
    unsigned bound;
};

static inline int counting_bind(struct bus_port *port, struct bus *bus, uint64_t address,
                                const struct bus_doorbell *doorbell)
{
    (void)bus;
    (void)address;
    ASSERT(doorbell->handle >= FAKE_KICK_HANDLE && doorbell->handle < FAKE_KICK_HANDLE + FAKE_BACKEND_QUEUES);
    container_of(port, struct counting_port, port)->bound++;
    return 0;
}

static inline void counting_unbind(struct bus_port *port, struct bus *bus, uint64_t address,
                                   const struct bus_doorbell *doorbell)
{
    (void)bus;
    (void)address;
    (void)doorbell;
    ASSERT(container_of(port, struct counting_port, port)->bound > 0);
    container_of(port, struct counting_port, port)->bound--;
}

static inline int counting_map(struct bus_port *port, struct bus *bus, uint64_t address, struct bus_memory *memory)
{
    (void)port;
    (void)bus;
    (void)address;
    (void)memory;
    return 0;
}

static inline void counting_unmap(struct bus_port *port, struct bus *bus, uint64_t address, struct bus_memory *memory)
{
    (void)port;
    (void)bus;
    (void)address;
    (void)memory;
}

static inline void counting_port_init(struct counting_port *port)
{
    static const struct bus_port_class class = {counting_bind, counting_unbind, counting_map, counting_unmap};

    *port = (struct counting_port){.port.class = &class};
}

static inline void transport_finish(struct fake_backend *fake, unsigned what)
{
    if (fake->resetting)
        fake_backend_finish_reset(fake);
    else if (fake->queues[what % FAKE_BACKEND_QUEUES].state == FAKE_STOPPING)
        fake_backend_finish_stop(fake, what % FAKE_BACKEND_QUEUES);
}

static inline void transport_back_end_step(struct fake_backend *fake, uint8_t what)
{
    unsigned index = what % FAKE_BACKEND_QUEUES;

    switch (what >> 5) {
    case 0:
        fake->stops_later = (what & 1) != 0;
        fake->resets_later = (what & 2) != 0;
        break;
    case 1:
        fake->start_error = (what & 1) != 0 ? -1 : 0;
        fake->features_error = (what & 2) != 0 ? -1 : 0;
        fake->reroute_error = (what & 4) != 0 ? -1 : 0;
        break;
    case 2:
        fake_backend_break(fake);
        break;
    case 3:
        fake_backend_change_config(fake, what % FAKE_BACKEND_CONFIG_BYTES, what);
        break;
    default:
        if (fake->queues[index].state != FAKE_STOPPED && fake->queues[index].notify == -1)
            fake_backend_notify(fake, index);
        break;
    }
}

static inline void transport_step(struct virtio_control *control, struct fake_backend *fake, struct fake_owner *owner,
                                  struct transport_driver *driver, struct fuzz_input *input)
{
    static struct fake_driver ring; /* only its addresses */
    uint8_t what = fuzz_u8(input);

    switch (what % TRANSPORT_STEPS) {
    case 0:
        (void)transport_driver_negotiate(driver, VIRTIO_F_VERSION_1 | (uint64_t)fuzz_u16(input) << 28);
        break;
    case 1:
        ring.size = (what & 0x80) != 0 ? fuzz_u16(input) : 16;
        ring.desc_address = fuzz_u32(input);
        (void)transport_driver_set_up(driver, what / TRANSPORT_STEPS % (FAKE_BACKEND_QUEUES + 1), &ring);
        break;
    case 2:
        transport_driver_add_status(driver, (what & 0x80) != 0 ? fuzz_u8(input) : VIRTIO_STATUS_DRIVER_OK);
        break;
    case 3:
        transport_driver_kick(driver, what / TRANSPORT_STEPS % (FAKE_BACKEND_QUEUES + 1), &ring);
        break;
    case 4:
        what = fuzz_u8(input); /* before the value: the order of arguments is the compiler's */
        transport_driver_set(driver, what % TRANSPORT_FIELDS, fuzz_u16(input));
        break;
    case 5:
        transport_finish(fake, fuzz_u8(input));
        break;
    case 6:
        transport_back_end_step(fake, fuzz_u8(input));
        break;
    case 7:
        virtio_control_pause(control);
        break;
    case 8:
        virtio_control_resume(control);
        break;
    case 9:
        virtio_control_queue_signalled(control, what % FAKE_BACKEND_QUEUES);
        (void)transport_driver_interrupts(driver);
        break;
    case 10:
        owner->gives_handles = (what & 0x80) != 0;
        if (what % 7 == 0)
            (void)virtio_control_reset(control);
        break;
    default:
        transport_driver_reset(driver);
        break;
    }
}

static inline unsigned transport_live_count(const struct virtio_control *control)
{
    unsigned count = 0;

    for (unsigned i = 0; i < FAKE_BACKEND_QUEUES; i++)
        count += control->queues[i].live;
    return count;
}

static inline void transport_check(const struct virtio_control *control, const struct fake_backend *fake)
{
    bool stopping = false;

    ASSERT((control->status & VIRTIO_STATUS_DRIVER_OK) == 0 || (control->status & VIRTIO_STATUS_FEATURES_OK) != 0);
    ASSERT((control->status & VIRTIO_STATUS_FEATURES_OK) == 0 || fake->features_set || control->resetting);
    for (unsigned i = 0; i < FAKE_BACKEND_QUEUES; i++) {
        const struct virtio_control_queue *queue = &control->queues[i];
        enum fake_queue_state state = fake->queues[i].state;
        ASSERT((queue->state == VIRTIO_CONTROL_QUEUE_RUNNING) == (state == FAKE_RUNNING));
        ASSERT((queue->state == VIRTIO_CONTROL_QUEUE_STOPPING) == (state == FAKE_STOPPING));
        stopping = stopping || state == FAKE_STOPPING;
        bool live = queue->enabled && !queue->ending && !queue->failed && !control->resetting &&
                    (control->status & (VIRTIO_STATUS_DRIVER_OK | VIRTIO_STATUS_FAILED)) == VIRTIO_STATUS_DRIVER_OK;
        ASSERT(queue->live == live);
        ASSERT(!queue->ending || state == FAKE_STOPPING || control->resetting);
        ASSERT(state != FAKE_RUNNING || (live && !control->paused && !control->cut_off));
        ASSERT(state != FAKE_STOPPED || !live || control->paused || control->cut_off);
    }
    ASSERT(virtio_control_is_settled(control) == (!control->resetting && !stopping));
}

/* Whatever state it is in, the machine can reset it, and it is as new. */
static inline void transport_end(struct virtio_control *control, struct fake_backend *fake)
{
    (void)virtio_control_reset(control);
    for (unsigned i = 0; i < FAKE_BACKEND_QUEUES; i++)
        transport_finish(fake, i);
    if (fake->resetting)
        transport_finish(fake, 0);
    ASSERT(virtio_control_is_settled(control) && control->status == 0 && control->driver_features == 0);
    ASSERT(transport_live_count(control) == 0);
}

#endif
