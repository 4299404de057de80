/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * What the guest writes is copied out piece by piece and handed to the port. When that takes no more, the request in
 * hand and those behind it go back to the ring, and the console remembers how much of the first has been shown
 * (console->sent): it begins there when the port has room again. So no request is ever out between two calls, a queue
 * stops at once, and nothing is shown twice, not even across a stop or a save.
 *
 * The port is asked for input only with a buffer of the guest in hand. A guest that offers none, or a queue that stops,
 * is told to the port (rest), so that nobody is woken for input that nobody takes.
 *
 * Limits
 *
 * CONSOLE_TURN_BYTES a call; the loop comes back for the rest. One buffer of input has at most CONSOLE_PIECE_BYTES. A
 * guest that changes a request while it waits for room sees the new one go on where the old one was. So does one that
 * resets the transmit queue alone (VIRTIO_F_RING_RESET), if the queue stood at its beginning.
 */
#include "devices/console/console.h"

#include <errno.h>

/* What one call puts out at most: a chain may have 4 GiB. As much as a pipe holds. */
#define CONSOLE_TURN_BYTES 65536u

#define CONSOLE_STATE_SENT 0x00544e53u /* sent u32, sent_base u32 */
#define CONSOLE_STATE_VERSION 1
#define CONSOLE_STATE_BYTES 8

static const struct console *console_const_of(const struct virtio_device *device)
{
    return (const struct console *)(const void *)((const char *)device - offsetof(struct console, device));
}

static struct console *console_of(struct virtio_device *device)
{
    return container_of(device, struct console, device);
}

static unsigned console_index(const struct virtio_device *device, const struct virtqueue *queue)
{
    return (unsigned)(queue - device->queues);
}

static void console_rest(struct console *console, unsigned index)
{
    if (console->port->class->rest != NULL)
        console->port->class->rest(console->port, index);
}

/* Put out @size bytes at @from, in the guest's memory. 0, or 1 with @left used up, or -EAGAIN. */
static int put_out_piece(struct console *console, const uint8_t *from, size_t size, uint32_t *left)
{
    uint8_t bytes[CONSOLE_PIECE_BYTES];

    while (size > 0) {
        if (*left == 0)
            return 1;
        size_t wanted = size_min(size_min(size, sizeof(bytes)), *left);
        shared_copy_in(bytes, from, wanted);
        int taken = console->port->class->output(console->port, bytes, wanted);
        if (taken == -EAGAIN)
            return -EAGAIN;
        ASSERT(taken > 0 && (size_t)taken <= wanted);
        from += taken;
        size -= (size_t)taken;
        *left -= (uint32_t)taken;
        console->sent += (uint32_t)taken;
        atomic_fetch_add_explicit(&console->output_bytes_total, (uint64_t)taken, memory_order_relaxed);
    }
    return 0;
}

/* Put out what is left of one request. As put_out_piece. */
static int put_out(struct console *console, struct virtq_chain *chain, uint32_t *left)
{
    const struct guest_iovec *iov;
    unsigned count = virtq_chain_readable_iov(chain, &iov);
    size_t skip = console->sent;
    int r = 0;

    for (unsigned i = 0; i < count && r == 0; i++) {
        size_t skipped = size_min(skip, iov[i].length);
        skip -= skipped;
        r = put_out_piece(console, (const uint8_t *)iov[i].base + skipped, iov[i].length - skipped, left);
    }
    if (r == 0)
        console->sent = 0;
    return r;
}

static int transmit(struct console *console, struct virtqueue *queue, unsigned burst)
{
    struct virtq_chain *chains[VIRTQ_BURST_MAX];
    uint32_t left = CONSOLE_TURN_BYTES;

    while (burst > 0) {
        int popped = virtqueue_pop(queue, chains, u32_min(burst, VIRTQ_BURST_MAX));
        if (popped <= 0) {
            console_rest(console, VIRTIO_CONSOLE_TRANSMITQ);
            return popped;
        }
        unsigned count = (unsigned)popped;
        unsigned done = 0;
        int r = 0;
        while (done < count && (r = put_out(console, chains[done], &left)) == 0)
            done++;
        if (done < count)
            virtqueue_unpop(queue, &chains[done], count - done);
        virtqueue_push(queue, chains, done);
        if (r != 0)
            return r > 0 ? 1 : 0; /* come back for the rest; or the port wakes us */
        burst -= count;
    }
    return 1;
}

/* Fill one buffer of the guest. 0, or -EAGAIN with @chain untouched. */
static int fill(struct console *console, struct virtq_chain *chain)
{
    uint8_t bytes[CONSOLE_PIECE_BYTES];
    size_t wanted = size_min(chain->writable_bytes, sizeof(bytes));

    if (wanted == 0)
        return 0;
    int given = console->port->class->input(console->port, bytes, wanted);
    if (given == -EAGAIN)
        return -EAGAIN;
    ASSERT(given > 0 && (size_t)given <= wanted);
    virtq_chain_write(chain, bytes, (size_t)given);
    atomic_fetch_add_explicit(&console->input_bytes_total, (uint64_t)given, memory_order_relaxed);
    return 0;
}

static int receive(struct console *console, struct virtqueue *queue, unsigned burst)
{
    struct virtq_chain *chains[VIRTQ_BURST_MAX];

    while (burst > 0) {
        int popped = virtqueue_pop(queue, chains, u32_min(burst, VIRTQ_BURST_MAX));
        if (popped <= 0) {
            console_rest(console, VIRTIO_CONSOLE_RECEIVEQ);
            return popped;
        }
        unsigned count = (unsigned)popped;
        unsigned filled = 0;
        while (filled < count && fill(console, chains[filled]) == 0)
            filled++;
        if (filled < count)
            virtqueue_unpop(queue, &chains[filled], count - filled);
        virtqueue_push(queue, chains, filled);
        if (filled < count)
            return 0;
        burst -= count;
    }
    return 1;
}

static int console_serve(struct virtio_device *device, struct virtqueue *queue, unsigned burst)
{
    struct console *console = console_of(device);

    return console_index(device, queue) == VIRTIO_CONSOLE_TRANSMITQ ? transmit(console, queue, burst)
                                                                    : receive(console, queue, burst);
}

static void console_queue_start(struct virtio_device *device, struct virtqueue *queue)
{
    struct console *console = console_of(device);

    /* Another place in the ring is another request. */
    if (console_index(device, queue) == VIRTIO_CONSOLE_TRANSMITQ && queue->config.base != console->sent_base)
        console->sent = 0;
}

static void console_queue_stop(struct virtio_device *device, struct virtqueue *queue)
{
    struct console *console = console_of(device);
    unsigned index = console_index(device, queue);

    ASSERT(queue->state == VIRTQUEUE_STOPPED); /* nothing is ever in flight */
    if (index == VIRTIO_CONSOLE_TRANSMITQ)
        console->sent_base = virtqueue_base(queue);
    console_rest(console, index);
}

static uint64_t console_features(const struct virtio_device *device)
{
    const struct console *console = console_const_of(device);

    return (console->has_size ? VIRTIO_CONSOLE_F_SIZE : 0) |
           (console->port->class->emergency != NULL ? VIRTIO_CONSOLE_F_EMERG_WRITE : 0);
}

static void console_config_read(const struct virtio_device *device, uint32_t offset, void *to, uint32_t size)
{
    uint8_t config[sizeof(struct virtio_console_config)] = {0};

    put_le32(config, atomic_load_explicit(&console_const_of(device)->size, memory_order_relaxed));
    memcpy(to, config + offset, size);
}

/* 5.3.4: emerg_wr may be written before anything else was said; the low byte is the character. */
static int console_config_write(struct virtio_device *device, uint32_t offset, const void *from, uint32_t size)
{
    struct console *console = console_of(device);

    if (offset != offsetof(struct virtio_console_config, emerg_wr) || size == 0 ||
        console->port->class->emergency == NULL)
        return -EPERM;
    console->port->class->emergency(console->port, *(const uint8_t *)from);
    atomic_fetch_add_explicit(&console->emergency_bytes_total, 1, memory_order_relaxed);
    return 0;
}

static void console_reset(struct virtio_device *device)
{
    console_of(device)->sent = 0;
}

static int console_save(const struct virtio_device *device, struct state_writer *writer)
{
    const struct console *console = console_const_of(device);
    uint8_t record[CONSOLE_STATE_BYTES];

    put_le32(record, console->sent);
    put_le32(record + 4, console->sent_base);
    return state_put(writer, CONSOLE_STATE_SENT, CONSOLE_STATE_VERSION, record, sizeof(record));
}

static int console_load(struct virtio_device *device, struct state_reader *reader)
{
    struct console *console = console_of(device);
    struct state_record record;
    int r;

    while ((r = state_next(reader, &record)) > 0) {
        if (record.tag != CONSOLE_STATE_SENT)
            continue;
        if (record.version > CONSOLE_STATE_VERSION)
            return -ENOTSUP;
        if (record.length != CONSOLE_STATE_BYTES)
            return -EBADMSG;
        console->sent = get_le32(record.payload);
        console->sent_base = get_le32(record.payload + 4);
    }
    return r;
}

static const struct virtio_device_class console_class = {
    .name = "console",
    .id = VIRTIO_ID_CONSOLE,
    .queues_max = CONSOLE_QUEUES,
    .config_bytes = sizeof(struct virtio_console_config),
    .features = console_features,
    .run = console_serve,
    .wake = console_serve,
    .queue_start = console_queue_start,
    .queue_stop = console_queue_stop,
    .config_read = console_config_read,
    .config_write = console_config_write,
    .reset = console_reset,
    .save = console_save,
    .load = console_load,
};

static uint32_t console_size(uint16_t cols, uint16_t rows)
{
    return cols | (uint32_t)rows << 16;
}

void console_init(struct console *console, struct virtqueue *queues, struct console_port *port,
                  const struct console_options *options)
{
    *console = (struct console){.port = port, .has_size = options->has_size};
    virtio_device_init(&console->device, &console_class, queues, CONSOLE_QUEUES);
    console->device.offers_in_order = true; /* no request overtakes another */
    if (options->has_size)
        atomic_init(&console->size, console_size(options->cols, options->rows));
}

bool console_resize(struct console *console, uint16_t cols, uint16_t rows)
{
    uint32_t size = console_size(cols, rows);

    if (!console->has_size || atomic_exchange_explicit(&console->size, size, memory_order_relaxed) == size)
        return false;
    atomic_fetch_add(&console->device.config_generation, 1);
    return true;
}

size_t console_request_bytes(void)
{
    return 0;
}
