/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The disk against a hostile driver and a moody port. The input is a list of steps: the driver writes anywhere in its
 * memory, rings included, offers requests well or badly made, reads and writes the configuration; the port takes what
 * it likes, completes in any order with any result, and repeats itself; queues stop and start, the size changes, time
 * passes. Held against it: the port is given only pieces of guest memory and ranges of the disk, each operation once;
 * a queue that stops has stopped when all is complete.
 */
#include <errno.h>

#include "devices/blk/blk.h"
#include "device_turns.h"
#include "fake_driver.h"
#include "fuzz_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define QUEUES 2
#define RING_SIZE 16
#define SLOTS 24
#define STEPS_MAX 400 /* keeps one input to some milliseconds */
#define IOS_MAX 2048
#define LOW_BASE UINT64_C(0x1000)
#define HIGH_BASE UINT64_C(0x100000)
#define REGION_BYTES 65536
#define CAPACITY_MAX (UINT64_C(1) << 41) /* bytes */

struct fuzz_port {
    struct blk_port port;
    struct blk_io ios[IOS_MAX];
    uint8_t queues[IOS_MAX];
    unsigned count; /* in flight */
    struct blk_completion done[IOS_MAX];
    uint8_t done_queues[IOS_MAX];
    unsigned done_count;
    unsigned room;
    bool at_once;
    uint64_t now_ns;
};

static _Alignas(4096) uint8_t low_bytes[REGION_BYTES];
static _Alignas(4096) uint8_t high_bytes[REGION_BYTES];
static _Alignas(64) uint8_t blocks[QUEUES][1 << 20];
static struct guest_memory memory;
static struct virtq_arena arenas[QUEUES];
static struct virtqueue queues[QUEUES];
static struct fake_driver drivers[QUEUES];
static struct fuzz_port port;
static struct blk blk;

static bool in_guest(const struct guest_iovec *piece)
{
    uintptr_t base = (uintptr_t)piece->base;

    return range_within(base - (uintptr_t)low_bytes, piece->length, REGION_BYTES) ||
           range_within(base - (uintptr_t)high_bytes, piece->length, REGION_BYTES);
}

static void check_io(unsigned queue, const struct blk_io *io)
{
    uint64_t bytes = 0;

    ASSERT(queue < QUEUES);
    ASSERT(virtqueue_chain(&queues[queue], (uint32_t)io->token) != NULL);
    ASSERT(is_aligned(io->offset | io->length, blk.options.block_bytes));
    ASSERT(range_within(io->offset, io->length, CAPACITY_MAX));
    ASSERT((io->length == 0) == (io->op == BLK_OP_FLUSH));
    ASSERT(!blk.options.read_only || io->op == BLK_OP_READ || io->op == BLK_OP_FLUSH);
    for (uint32_t i = 0; i < io->iov_count; i++) {
        ASSERT(in_guest(&io->iov[i]));
        bytes += io->iov[i].length;
    }
    ASSERT(bytes == (io->op == BLK_OP_READ || io->op == BLK_OP_WRITE ? io->length : 0));
}

static void finish(unsigned index, int result)
{
    struct blk_io io = port.ios[index];

    ASSERT(port.done_count < IOS_MAX);
    if (io.op == BLK_OP_READ && result == 0) {
        for (uint32_t i = 0; i < io.iov_count; i++)
            memset(io.iov[i].base, 0x5a, io.iov[i].length);
    }
    port.done_queues[port.done_count] = port.queues[index];
    port.done[port.done_count++] = (struct blk_completion){io.token, result};
    port.count--;
    port.ios[index] = port.ios[port.count];
    port.queues[index] = port.queues[port.count];
}

static unsigned port_submit(struct blk_port *self, unsigned queue, const struct blk_io *ios, unsigned count)
{
    unsigned taken = 0;
    (void)self;

    ASSERT(count > 0 && count <= BLK_BATCH_MAX);
    while (taken < count && port.count < port.room && port.done_count < IOS_MAX) {
        check_io(queue, &ios[taken]);
        port.ios[port.count] = ios[taken++];
        port.queues[port.count++] = (uint8_t)queue;
        if (port.at_once)
            finish(port.count - 1, 0);
    }
    return taken;
}

static unsigned port_reap(struct blk_port *self, unsigned queue, struct blk_completion *completions, unsigned max)
{
    unsigned given = 0;
    (void)self;

    for (unsigned i = 0; i < port.done_count && given < max;) {
        if (port.done_queues[i] != queue) {
            i++;
            continue;
        }
        completions[given++] = port.done[i];
        port.done_count--;
        port.done[i] = port.done[port.done_count];
        port.done_queues[i] = port.done_queues[port.done_count];
    }
    return given;
}

static void port_cancel(struct blk_port *self, unsigned queue)
{
    (void)self;
    (void)queue;
}

static uint64_t port_now_ns(struct blk_port *self)
{
    (void)self;
    return port.now_ns;
}

static const struct blk_port_class port_class = {
    .submit = port_submit,
    .reap = port_reap,
    .cancel = port_cancel,
    .now_ns = port_now_ns,
};

static uint8_t *at(uint16_t where)
{
    return where & 0x8000 ? &high_bytes[where & 0x7fff] : &low_bytes[where & 0x7fff];
}

static uint64_t address_of(uint16_t where)
{
    return where & 0x8000 ? HIGH_BASE + (where & 0x7fff) : LOW_BASE + (where & 0x7fff);
}

static void start_queue(unsigned index)
{
    struct virtqueue_config config = fake_driver_config(&drivers[index], blk.device.features);

    config.base = virtqueue_base(&queues[index]);
    int r = virtio_device_queue_start(&blk.device, index, &config, &memory, NULL, NULL);
    /* What was loaded may be no base of this ring. */
    if (r < 0) {
        config.base = virtqueue_base_initial(config.features);
        r = virtio_device_queue_start(&blk.device, index, &config, &memory, NULL, NULL);
    }
    ASSERT(r == 0);
}

/* Complete everything until @index has stopped: more turns than there can be operations would mean that it hangs. */
static void stop_queue(unsigned index)
{
    unsigned events = virtio_device_queue_stop(&blk.device, index);

    port.room = IOS_MAX;
    for (unsigned turn = 0; (events & VIRTIO_EVENT_STOPPED) == 0; turn++) {
        ASSERT(turn < IOS_MAX);
        while (port.count > 0)
            finish(0, -ECANCELED);
        for (unsigned i = 0; i < QUEUES; i++) {
            unsigned got = virtio_device_wake(&blk.device, i, VIRTIO_BURST_DEFAULT);
            events |= i == index ? got : 0;
        }
    }
    ASSERT(queues[index].state == VIRTQUEUE_STOPPED);
}

static void begin(struct fuzz_input *input)
{
    struct virtq_arena_shape shape = {
        .slots = SLOTS, .medium_runs = 2, .long_runs = 1, .request_bytes = blk_request_bytes()};
    uint8_t flags = fuzz_u8(input);
    uint8_t limits = fuzz_u8(input);
    struct blk_options options = {
        .size_bytes = fuzz_u32(input) * UINT64_C(512),
        .block_bytes = flags & 1 ? 4096 : 512,
        .read_only = (flags & 2) != 0,
        .discard = (flags & 4) != 0,
        .write_zeroes = (flags & 8) != 0,
        .write_cache = (flags & 16) != 0,
        .limit_iops = limits & 1 ? 20 : 0,
        .limit_bytes_per_s = limits & 2 ? 1 << 20 : 0,
        .serial = "fuzz",
    };
    struct fake_memory low = {LOW_BASE, REGION_BYTES, low_bytes};
    uint64_t ring = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | (flags & 64 ? VIRTIO_F_EVENT_IDX : 0) |
                    (limits & 4 ? VIRTIO_F_RING_PACKED : 0) | (limits & 8 ? VIRTIO_F_IN_ORDER : 0);

    memset(low_bytes, 0, sizeof(low_bytes));
    memset(high_bytes, 0, sizeof(high_bytes));
    guest_memory_init(&memory, NULL);
    guest_memory_add(&memory, &(struct guest_region){LOW_BASE, REGION_BYTES, LOW_BASE, low_bytes, 0});
    guest_memory_add(&memory, &(struct guest_region){HIGH_BASE, REGION_BYTES, HIGH_BASE, high_bytes, 0});
    ASSERT(virtq_arena_bytes(&shape) <= sizeof(blocks[0]));
    port = (struct fuzz_port){.port.class = &port_class, .room = IOS_MAX, .now_ns = 1, .at_once = (flags & 32) != 0};
    for (unsigned i = 0; i < QUEUES; i++) {
        memset(blocks[i], 0, virtq_arena_bytes(&shape));
        virtq_arena_init(&arenas[i], &shape, blocks[i]);
        virtqueue_init(&queues[i], &arenas[i]);
        fake_driver_init(&drivers[i], &low, LOW_BASE + i * 1024, RING_SIZE, ring);
    }
    int r = blk_init(&blk, queues, QUEUES, &port.port, &options);
    ASSERT(r == 0);
    blk.device.offers_in_order = true;
    uint64_t wanted = flags & 128 ? fuzz_u64(input) : ~UINT64_C(0);
    const uint64_t chosen = VIRTIO_F_EVENT_IDX | VIRTIO_F_RING_PACKED | VIRTIO_F_IN_ORDER;
    uint64_t features = virtio_device_features(&blk.device) & ~chosen & wanted;
    r = virtio_device_set_features(&blk.device, features | ring);
    ASSERT(r == 0);
    for (unsigned i = 0; i < QUEUES; i++)
        start_queue(i);
}

/* A request whose parts are where they should be, with contents that may not be. */
static void offer(struct fuzz_input *input, unsigned queue)
{
    static const uint32_t types[] = {VIRTIO_BLK_T_IN,     VIRTIO_BLK_T_OUT,     VIRTIO_BLK_T_FLUSH,
                                     VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES};
    uint8_t kind = fuzz_u8(input);
    uint16_t header_at = fuzz_u16(input) & 0xbff0;
    uint16_t data_at = fuzz_u16(input) & 0xbfff;
    uint32_t length = (uint32_t)fuzz_u8(input) * (kind & 64 ? 512 : 16);
    struct virtio_blk_header header = {
        .type = cpu_to_le32(kind % 8 < ARRAY_SIZE(types) ? types[kind % 8] : kind),
        .sector = cpu_to_le64(kind & 32 ? fuzz_u64(input) : fuzz_u8(input)),
    };
    bool reads = kind % 8 == 1 || kind % 8 == 4 || kind % 8 == 5;
    struct fake_piece pieces[] = {
        {address_of(header_at), sizeof(header), false},
        {address_of(data_at), length / 2, !reads},
        {address_of(data_at), length - length / 2, !reads},
        {address_of(fuzz_u16(input) & 0xbfff), 1, true},
    };

    memcpy(at(header_at), &header, sizeof(header));
    if (kind & 128)
        fake_driver_add_indirect(&drivers[queue], &drivers[queue].memory, LOW_BASE + 2048 + kind, pieces, 4);
    else
        fake_driver_add(&drivers[queue], pieces, 4);
}

static void access_config(struct fuzz_input *input)
{
    uint8_t bytes[300];
    uint32_t offset = fuzz_u8(input) < 250 ? fuzz_u8(input) : fuzz_u32(input);
    uint32_t size = fuzz_u16(input) % sizeof(bytes);

    if (fuzz_u8(input) & 1) {
        fuzz_bytes(input, bytes, size);
        virtio_device_config_write(&blk.device, offset, bytes, size);
    } else {
        virtio_device_config_read(&blk.device, offset, bytes, size);
    }
}

static void complete_one(struct fuzz_input *input)
{
    static const int results[] = {0, 0, -EIO, -ENOSPC, -EOPNOTSUPP, -ECANCELED};
    unsigned which = fuzz_u8(input);

    if (port.count > 0)
        finish(which % port.count, results[fuzz_u8(input) % ARRAY_SIZE(results)]);
}

/* A completion that nothing in flight has: its generation is of no life yet, or it has bits no token has. */
static void complete_stale(struct fuzz_input *input, unsigned queue)
{
    uint64_t token = fuzz_u64(input);

    if (token <= UINT32_MAX && virtqueue_chain(&queues[queue], (uint32_t)token) != NULL)
        return;
    if (port.done_count < IOS_MAX) {
        port.done_queues[port.done_count] = (uint8_t)queue;
        port.done[port.done_count++] = (struct blk_completion){token, -EIO};
    }
}

/* Every queue is stopped. The state comes back as it was, or with a byte that somebody changed. */
static void save_and_load(struct fuzz_input *input)
{
    uint8_t bytes[256];
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};
    uint64_t features = blk.device.features;
    int r = virtio_device_save(&blk.device, &writer);
    ASSERT(r == 0);

    uint8_t change = fuzz_u8(input);
    bytes[fuzz_u8(input) % writer.used] ^= change;
    struct state_reader reader = {.bytes = bytes, .size = writer.used};
    r = virtio_device_load(&blk.device, &reader);
    ASSERT(r == 0 || change != 0);
    r = virtio_device_set_features(&blk.device, features);
    ASSERT(r == 0);
}

static void restart(struct fuzz_input *input, unsigned queue, bool all)
{
    for (unsigned i = 0; i < QUEUES; i++) {
        if (i == queue || all)
            stop_queue(i);
    }
    if (all)
        save_and_load(input);
    for (unsigned i = 0; i < QUEUES; i++) {
        if (i == queue || all)
            start_queue(i);
    }
}

static void step(struct fuzz_input *input)
{
    uint8_t code = fuzz_u8(input);
    unsigned queue = code >> 7;
    uint32_t head, length;
    uint16_t where;
    unsigned burst;

    switch (code & 15) {
    case 0:
        where = fuzz_u16(input) & 0xbfff;
        fuzz_bytes(input, at(where), fuzz_u8(input));
        break;
    case 1:
    case 2:
    case 3:
        offer(input, queue);
        break;
    case 4:
    case 5:
        fake_driver_show(&drivers[queue]);
        burst = 1u + fuzz_u8(input);
        device_take_turns(&blk.device, queue, burst, virtio_device_run(&blk.device, queue, burst));
        break;
    case 6:
        burst = 1u + fuzz_u8(input);
        device_take_turns(&blk.device, queue, burst, virtio_device_wake(&blk.device, queue, burst));
        break;
    case 7:
        complete_one(input);
        break;
    case 8:
        complete_stale(input, queue);
        break;
    case 9:
        access_config(input);
        break;
    case 10:
        blk_resize(&blk, fuzz_u32(input) * UINT64_C(512));
        break;
    case 11:
        /* At least one: the contract is that nothing is refused while nothing is in flight. */
        port.room = 1u + fuzz_u8(input);
        break;
    case 12:
        port.now_ns += fuzz_u32(input);
        break;
    case 13:
        restart(input, queue, (code & 64) != 0);
        break;
    case 14:
        if (drivers[queue].packed) {
            where = fuzz_u8(input);
            fake_driver_packed_desc(&drivers[queue], where % RING_SIZE, address_of(fuzz_u16(input)), fuzz_u16(input),
                                    where, fuzz_u16(input));
        } else {
            fake_driver_offer(&drivers[queue], fuzz_u8(input));
        }
        break;
    case 15:
        if (driver_can_get(&drivers[queue]))
            fake_driver_get(&drivers[queue], &head, &length);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};

    begin(&input);
    for (unsigned i = 0; i < STEPS_MAX && input.left > 0; i++)
        step(&input);
    for (unsigned i = 0; i < QUEUES; i++)
        stop_queue(i);
    return 0;
}
