/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * virtio-console against a hostile driver and a terminal that is full, slow and silent at times. The input is a list of
 * steps: the driver writes anywhere in its memory, rings included, offers chains, writes the configuration; a queue
 * stops, the device is saved and loaded. Held against it: the port is never asked for more than a piece, a queue stops
 * at once, none is run again for nothing, and a turn puts out no more than its share.
 */
#include <errno.h>

#include "devices/console/console.h"
#include "fake_driver.h"
#include "fuzz_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RING_SIZE 16
#define STEPS_MAX 300 /* keeps one input to some milliseconds */
#define TURNS_MAX 32  /* a chain may list one page many times: more than so much of it is nothing new */
#define TURN_BYTES 65536
#define GUEST_BASE UINT64_C(0x1000)
#define RING_BYTES 4096
#define GUEST_BYTES 32768

static _Alignas(4096) uint8_t guest_bytes[GUEST_BYTES];
static _Alignas(64) uint8_t blocks[CONSOLE_QUEUES][1 << 18];
static struct guest_memory memory;
static struct virtq_arena arenas[CONSOLE_QUEUES];
static struct virtqueue queues[CONSOLE_QUEUES];
static struct fake_driver drivers[CONSOLE_QUEUES];
static struct console console;

static struct fuzz_terminal {
    struct console_port port;
    uint8_t output_mood, input_mood; /* 0: all; 1: nothing now; else so many bytes at once */
    uint64_t taken, given;
    bool resting[CONSOLE_QUEUES];
} terminal;

static int moved(uint8_t mood, size_t size)
{
    ASSERT(size > 0 && size <= CONSOLE_PIECE_BYTES);
    return mood == 1 ? -EAGAIN : (int)(mood == 0 ? size : size_min(size, mood));
}

static int terminal_output(struct console_port *port, const void *bytes, size_t size)
{
    uint8_t copy[CONSOLE_PIECE_BYTES];
    int r = moved(terminal.output_mood, size);

    (void)port;
    memcpy(copy, bytes, size);
    terminal.resting[VIRTIO_CONSOLE_TRANSMITQ] = false;
    terminal.taken += r > 0 ? (uint64_t)r : 0;
    return r;
}

static int terminal_input(struct console_port *port, void *bytes, size_t size)
{
    int r = moved(terminal.input_mood, size);

    (void)port;
    terminal.resting[VIRTIO_CONSOLE_RECEIVEQ] = false;
    if (r > 0)
        memset(bytes, 0x5a, (size_t)r);
    terminal.given += r > 0 ? (uint64_t)r : 0;
    return r;
}

static void terminal_rest(struct console_port *port, unsigned index)
{
    (void)port;
    terminal.resting[index] = true;
}

static void terminal_emergency(struct console_port *port, uint8_t byte)
{
    (void)port;
    (void)byte;
}

static const struct console_port_class terminal_class = {
    .output = terminal_output, .input = terminal_input, .rest = terminal_rest, .emergency = terminal_emergency};

static void start(unsigned index)
{
    struct virtqueue_config config = fake_driver_config(&drivers[index], console.device.features);

    config.base = virtqueue_base(&queues[index]);
    virtio_device_queue_start(&console.device, index, &config, &memory, NULL, NULL);
}

/* Nothing is ever in flight, and nothing is waited for then. */
static void stop(unsigned index)
{
    bool ran = queues[index].state != VIRTQUEUE_STOPPED;
    unsigned events = virtio_device_queue_stop(&console.device, index);
    ASSERT((events & VIRTIO_EVENT_STOPPED) != 0);
    ASSERT(!ran || terminal.resting[index]);
}

static void begin(struct fuzz_input *input)
{
    const struct virtq_arena_shape shape = {
        .slots = 8, .medium_runs = 2, .long_runs = 1, .request_bytes = console_request_bytes()};
    const struct fake_memory guest = {GUEST_BASE, GUEST_BYTES, guest_bytes};
    const struct console_options options = {.has_size = true, .cols = 80, .rows = 25};
    uint8_t flags = fuzz_u8(input);
    uint64_t features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | (flags & 1 ? VIRTIO_F_EVENT_IDX : 0) |
                        (flags & 2 ? VIRTIO_F_RING_PACKED : 0) | (flags & 4 ? VIRTIO_F_IN_ORDER : 0);

    memset(guest_bytes, 0, sizeof(guest_bytes));
    guest_memory_init(&memory, NULL);
    guest_memory_add(&memory, &(struct guest_region){GUEST_BASE, GUEST_BYTES, GUEST_BASE, guest_bytes, 0});
    ASSERT(virtq_arena_bytes(&shape) <= sizeof(blocks[0]));
    terminal = (struct fuzz_terminal){.port.class = &terminal_class};
    for (unsigned i = 0; i < CONSOLE_QUEUES; i++) {
        memset(blocks[i], 0, virtq_arena_bytes(&shape));
        virtq_arena_init(&arenas[i], &shape, blocks[i]);
        virtqueue_init(&queues[i], &arenas[i]);
        fake_driver_init(&drivers[i], &guest, GUEST_BASE + i * (uint64_t)RING_BYTES, RING_SIZE, features);
    }
    console_init(&console, queues, &terminal.port, &options);
    console.device.offers_packed = true;
    int r = virtio_device_set_features(&console.device, features);
    ASSERT(r == 0);
    for (unsigned i = 0; i < CONSOLE_QUEUES; i++)
        start(i);
}

/* One call, and what the loop makes of its answers: each turn but one in a row gets somewhere. */
static void take_turns(unsigned index, unsigned burst, bool wakes)
{
    const struct virtqueue *queue = &queues[index];
    unsigned idle = 0, events = VIRTIO_EVENT_AGAIN;

    for (unsigned turn = 0; turn < TURNS_MAX && (events & VIRTIO_EVENT_AGAIN) != 0; turn++) {
        uint64_t pushed = queue->pushed_total;
        uint64_t bytes = terminal.taken + terminal.given;
        ASSERT(idle <= 2); /* the first turn, and one when requests came while the last one was served */
        events = wakes && turn == 0 ? virtio_device_wake(&console.device, index, burst)
                                    : virtio_device_run(&console.device, index, burst);
        ASSERT(index != VIRTIO_CONSOLE_TRANSMITQ || terminal.taken + terminal.given - bytes <= TURN_BYTES);
        bool idled = queue->pushed_total == pushed && terminal.taken + terminal.given == bytes;
        idle = idled ? idle + 1 : 0;
    }
}

static void offer(struct fuzz_input *input, uint8_t code)
{
    struct fake_driver *driver = &drivers[code & 8 ? 1 : 0];
    struct fake_piece pieces[3];

    for (unsigned i = 0; i < ARRAY_SIZE(pieces); i++)
        pieces[i] = (struct fake_piece){GUEST_BASE + fuzz_u16(input) % GUEST_BYTES, fuzz_u16(input),
                                        (code & 16) != 0 || (code & 32 && i > 0)};
    if (code & 64)
        fake_driver_add_indirect(driver, &driver->memory, GUEST_BASE + 2 * RING_BYTES + code, pieces, 3);
    else
        fake_driver_add(driver, pieces, 1 + code % 3u);
}

static void save_and_load(void)
{
    uint8_t bytes[512];
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};

    for (unsigned i = 0; i < CONSOLE_QUEUES; i++)
        stop(i);
    int r = virtio_device_save(&console.device, &writer);
    ASSERT(r == 0);
    struct state_reader reader = {.bytes = bytes, .size = writer.used};
    r = virtio_device_load(&console.device, &reader);
    ASSERT(r == 0);
    for (unsigned i = 0; i < CONSOLE_QUEUES; i++)
        start(i);
}

static void step(struct fuzz_input *input)
{
    uint8_t code = fuzz_u8(input);
    unsigned index = code & 8 ? 1 : 0;
    uint8_t bytes[16];
    uint16_t where;

    switch (code % 8) {
    case 0:
        where = fuzz_u16(input) % (GUEST_BYTES - UINT8_MAX);
        fuzz_bytes(input, &guest_bytes[where], fuzz_u8(input));
        break;
    case 1:
        offer(input, code);
        break;
    case 2:
        fake_driver_show(&drivers[index]);
        take_turns(index, 1u + fuzz_u8(input), false);
        break;
    case 3:
        take_turns(index, 1u + fuzz_u8(input), true);
        break;
    case 4:
        terminal.output_mood = fuzz_u8(input);
        terminal.input_mood = fuzz_u8(input);
        break;
    case 5:
        stop(index);
        if (code & 16)
            virtqueue_set_base(&queues[index], virtqueue_base_initial(console.device.features));
        start(index);
        break;
    case 6:
        save_and_load();
        break;
    case 7:
        where = fuzz_u8(input);
        fuzz_bytes(input, bytes, sizeof(bytes));
        virtio_device_config_write(&console.device, where, bytes, code % sizeof(bytes));
        virtio_device_config_read(&console.device, where, bytes, code % sizeof(bytes));
        console_resize(&console, fuzz_u8(input), 25);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};

    begin(&input);
    for (unsigned i = 0; i < STEPS_MAX && input.left > 0; i++)
        step(&input);
    for (unsigned i = 0; i < CONSOLE_QUEUES; i++)
        stop(i);
    return 0;
}
