/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * virtio-console: a terminal for the guest (VIRTIO 1.3, 5.3). One port with two queues: what the guest writes goes to
 * the world as fast as that takes it, and what comes from there is asked for only while the guest has room.
 */
#ifndef DEVICES_CONSOLE_CONSOLE_H
#define DEVICES_CONSOLE_CONSOLE_H

#include "devices/console/virtio_console.h"
#include "virtio/virtio_device.h"

#define CONSOLE_QUEUES 2 /* VIRTIO_CONSOLE_RECEIVEQ, VIRTIO_CONSOLE_TRANSMITQ */

/* What one call of the port takes or gives at most. */
#define CONSOLE_PIECE_BYTES 4096

/*
 * The port: where the terminal is. input is used on the receive queue's thread, output on the transmit queue's,
 * emergency on the control thread, all at the same time. Nothing blocks.
 */
struct console_port {
    const struct console_port_class *class;
};

struct console_port_class {
    /*
     * Take the first n of @size bytes (1 to CONSOLE_PIECE_BYTES) and return n, 1 or more. -EAGAIN: no room now; wake
     * the transmit queue when there is. A world that is gone takes everything and drops it: a guest that waits for ever
     * for its console helps nobody.
     */
    int (*output)(struct console_port *port, const void *bytes, size_t size);
    /*
     * Give 1 to @size bytes (at most CONSOLE_PIECE_BYTES) and return how many. -EAGAIN: nothing now; wake the receive
     * queue when there is, which may be never.
     */
    int (*input)(struct console_port *port, void *bytes, size_t size);
    /*
     * Queue @index has nothing to ask for: no wake is wanted before it calls again, however much there is. On that
     * queue's thread. May be NULL.
     */
    void (*rest)(struct console_port *port, unsigned index);
    /* Show @byte as well as that can be done at once (5.3.4, emerg_wr). NULL: the feature is not offered. */
    void (*emergency)(struct console_port *port, uint8_t byte);
};

struct console_options {
    bool has_size; /* offer VIRTIO_CONSOLE_F_SIZE */
    uint16_t cols, rows;
};

struct console {
    struct virtio_device device;
    struct console_port *port; /* borrowed: must outlive the device */
    bool has_size;
    _Atomic uint32_t size; /* cols in the low half, rows above */
    /* of the transmit queue, on its thread: of the request that comes next so many bytes have been put out already */
    uint32_t sent;
    uint32_t sent_base; /* where in the ring that request is, while the queue is stopped */
    /* counted, for statistics; each written on its queue's thread, the last on the control thread */
    _Atomic uint64_t input_bytes_total;
    _Atomic uint64_t output_bytes_total;
    _Atomic uint64_t emergency_bytes_total;
};

/* @queues [CONSOLE_QUEUES] are borrowed, initialised, and outlive the device. */
void console_init(struct console *console, struct virtqueue *queues, struct console_port *port,
                  const struct console_options *options);

/*
 * The terminal has another size now. True: the driver is to be told (VIRTIO 1.3, 2.5); false: it is what it was, or no
 * size is offered. On the control thread.
 */
bool console_resize(struct console *console, uint16_t cols, uint16_t rows);

/* What virtq_arena_shape.request_bytes must be for its queues. */
size_t console_request_bytes(void);

#endif
