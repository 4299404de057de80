/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What one request costs the device's side, in instructions: the blk model on the null port, or the virtqueue alone, in
 * this process, with neither thread nor socket; or what an access of the guest costs that a bus brings to its device.
 * Valgrind's callgrind counts; it is told to count inside counted_turn
 * alone, so the driver's work, which refills the ring between two turns, is left out. Says how many requests it had
 * counted; bench/count-instructions runs it and divides.
 *
 * The same binary gives the same count anywhere: what a C library would do in its own way on each machine, moving
 * bytes, is defined here.
 *
 *   instructions --list           the workloads, one a line
 *   instructions --compiler       whose code this is: gcc-12 x86_64
 *   instructions WORKLOAD
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "devices/blk/virtio_blk.h"
#include "fake_driver.h"
#include "machine/bus.h"
#include "platform/linux/blk_null.h"

#define RING_SIZE 256
#define DEPTH_MAX 32
#define REQUEST_BYTES 4096
#define TURNS_WARM_UP 100
#define TURNS 1000

/* Guest memory: each queue's share. */
#define QUEUE_BYTES 0x100000
#define HEADERS_OFFSET 0x10000
#define TABLES_OFFSET 0x20000
#define DATA_OFFSET 0x40000
#define HEADER_STRIDE 64
#define STATUS_OFFSET 16
#define TABLE_STRIDE 64

struct workload {
    const char *name;
    unsigned depth;
    unsigned queues;
    bool packed;
    bool event_idx;
    bool indirect;
    bool blk;         /* else the virtqueue alone */
    unsigned devices; /* on a bus, and no queue at all */
};

static const struct workload workloads[] = {
    {.name = "bus-access", .depth = 32, .queues = 1, .devices = 1},
    {.name = "bus-access-1000-devices", .depth = 32, .queues = 1, .devices = 1000},
    {.name = "virtqueue-split-32", .depth = 32, .queues = 1},
    {.name = "virtqueue-split-32-indirect", .depth = 32, .queues = 1, .indirect = true},
    {.name = "virtqueue-split-1", .depth = 1, .queues = 1},
    {.name = "blk-split-32", .depth = 32, .queues = 1, .blk = true},
    {.name = "blk-split-32-16-queues", .depth = 32, .queues = 16, .blk = true},
    {.name = "blk-split-32-64-queues", .depth = 32, .queues = 64, .blk = true},
    {.name = "blk-split-32-indirect", .depth = 32, .queues = 1, .blk = true, .indirect = true},
    {.name = "blk-split-32-event", .depth = 32, .queues = 1, .blk = true, .event_idx = true},
    {.name = "blk-split-1", .depth = 1, .queues = 1, .blk = true},
    {.name = "blk-split-1-event", .depth = 1, .queues = 1, .blk = true, .event_idx = true},
    {.name = "virtqueue-packed-32", .depth = 32, .packed = true, .queues = 1},
    {.name = "virtqueue-packed-32-indirect", .depth = 32, .packed = true, .queues = 1, .indirect = true},
    {.name = "virtqueue-packed-1", .depth = 1, .packed = true, .queues = 1},
    {.name = "blk-packed-32", .depth = 32, .packed = true, .queues = 1, .blk = true},
    {.name = "blk-packed-32-16-queues", .depth = 32, .packed = true, .queues = 16, .blk = true},
    {.name = "blk-packed-32-64-queues", .depth = 32, .packed = true, .queues = 64, .blk = true},
    {.name = "blk-packed-32-indirect", .depth = 32, .packed = true, .queues = 1, .blk = true, .indirect = true},
    {.name = "blk-packed-32-event", .depth = 32, .packed = true, .queues = 1, .blk = true, .event_idx = true},
    {.name = "blk-packed-1", .depth = 1, .packed = true, .queues = 1, .blk = true},
    {.name = "blk-packed-1-event", .depth = 1, .packed = true, .queues = 1, .blk = true, .event_idx = true},
};

struct side {
    const struct workload *workload;
    struct guest_memory memory;
    struct fake_memory host;
    struct fake_driver *drivers; /* [queues] */
    struct virtqueue *queues;    /* [queues] */
    struct virtq_arena *arenas;  /* [queues] */
    struct blk_null null;
    struct blk blk;
    struct bus bus;
    struct bus_device *devices; /* [devices] */
    unsigned accesses;
};

/* Eight bytes at a time, so that a copy is counted for what it is. The compiler is not to see a memcpy in it. */
static void move_up(uint8_t *to, const uint8_t *from, size_t size)
{
    for (; size >= sizeof(uint64_t); size -= sizeof(uint64_t)) {
        uint64_t word;
        __builtin_memcpy(&word, from, sizeof(word));
        __builtin_memcpy(to, &word, sizeof(word));
        to += sizeof(word);
        from += sizeof(word);
        __asm__ volatile("" ::: "memory");
    }
    for (; size > 0; size--) {
        *to++ = *from++;
        __asm__ volatile("" ::: "memory");
    }
}

void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
    move_up(to, from, size);
    return to;
}

void *memmove(void *to, const void *from, size_t size)
{
    if ((uintptr_t)to - (uintptr_t)from >= size) {
        move_up(to, from, size);
        return to;
    }
    for (uint8_t *t = to; size > 0; size--) {
        t[size - 1] = ((const uint8_t *)from)[size - 1];
        __asm__ volatile("" ::: "memory");
    }
    return to;
}

void *memset(void *to, int value, size_t size)
{
    for (uint8_t *at = to; size > 0; size--) {
        *at++ = (uint8_t)value;
        __asm__ volatile("" ::: "memory");
    }
    return to;
}

static void *allocate(size_t count, size_t size)
{
    void *block = aligned_alloc(64, (size_t)align_up(count * size, 64));
    if (block == NULL) {
        perror("instructions");
        exit(EXIT_FAILURE);
    }
    memset(block, 0, count * size);
    return block;
}

static uint64_t base_of(unsigned queue)
{
    return (uint64_t)queue * QUEUE_BYTES;
}

static void start_queue(struct side *side, unsigned index, uint64_t features, size_t request_bytes)
{
    struct virtq_arena_shape shape = {.slots = 256, .medium_runs = 8, .long_runs = 1, .request_bytes = request_bytes};
    struct fake_driver *driver = &side->drivers[index];
    fake_driver_init(driver, &side->host, base_of(index), RING_SIZE, features);
    virtq_arena_init(&side->arenas[index], &shape, allocate(virtq_arena_bytes(&shape), 1));
    virtqueue_init(&side->queues[index], &side->arenas[index]);
    struct virtqueue_config config = fake_driver_config(driver, features);
    int r = side->workload->blk
                ? virtio_device_queue_start(&side->blk.device, index, &config, &side->memory, NULL, NULL)
                : virtqueue_start(&side->queues[index], &config, &side->memory, NULL, NULL);
    ASSERT(r == 0);
}

/* ---- a bus ---- */

#define DEVICE_BYTES 0x1000u

static enum bus_result device_read(struct bus_device *device, uint64_t offset, unsigned size, uint64_t *ret_value)
{
    (void)device;
    *ret_value = offset + size;
    return BUS_DONE;
}

static enum bus_result device_write(struct bus_device *device, uint64_t offset, unsigned size, uint64_t value)
{
    (void)device;
    (void)offset;
    (void)size;
    (void)value;
    return BUS_DONE;
}

static const struct bus_device_class device_class = {.name = "none", .read = device_read, .write = device_write};

static void start_bus(struct side *side, const struct workload *workload)
{
    side->workload = workload;
    side->devices = allocate(workload->devices, sizeof(*side->devices));
    bus_init(&side->bus, "mmio", NULL);
    for (unsigned i = 0; i < workload->devices; i++) {
        side->devices[i].class = &device_class;
        int r = bus_add(&side->bus, (uint64_t)(i + 1) * 2 * DEVICE_BYTES, DEVICE_BYTES, &side->devices[i]);
        ASSERT(r == 0);
    }
}

/* A write, or a read, of each of them in turn. */
static unsigned serve_bus(struct side *side)
{
    for (unsigned i = 0; i < side->workload->depth; i++) {
        unsigned device = side->accesses++ * 7 % side->workload->devices;
        uint64_t address = (uint64_t)(device + 1) * 2 * DEVICE_BYTES + 4u * i, value;
        enum bus_result r =
            i % 2 == 0 ? bus_read(&side->bus, address, 4, &value, NULL) : bus_write(&side->bus, address, 4, i, NULL);
        ASSERT(r == BUS_DONE);
    }
    return VIRTIO_EVENT_NOTIFY;
}

/* ---- queues ---- */

static void start(struct side *side, const struct workload *workload)
{
    uint64_t features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC;
    size_t bytes = (size_t)workload->queues * QUEUE_BYTES;
    size_t request_bytes = 16;
    features |= workload->event_idx ? VIRTIO_F_EVENT_IDX : 0;
    features |= workload->packed ? VIRTIO_F_RING_PACKED : 0;
    side->workload = workload;
    side->drivers = allocate(workload->queues, sizeof(*side->drivers));
    side->queues = allocate(workload->queues, sizeof(*side->queues));
    side->arenas = allocate(workload->queues, sizeof(*side->arenas));
    side->host = (struct fake_memory){.guest_base = 0, .size = bytes, .host = allocate(bytes, 1)};
    guest_memory_init(&side->memory, NULL);
    int r = guest_memory_add(&side->memory, &(struct guest_region){.size = bytes, .host = side->host.host});
    if (workload->blk) {
        struct blk_options options = {.size_bytes = UINT64_C(1) << 30, .block_bytes = 512, .write_cache = true};
        request_bytes = blk_request_bytes();
        r |= blk_null_open(&side->null, workload->queues, RING_SIZE);
        r |= blk_init(&side->blk, side->queues, (uint16_t)workload->queues, &side->null.port, &options);
        r |= virtio_device_set_features(&side->blk.device, features & virtio_device_features(&side->blk.device));
    }
    ASSERT(r == 0);
    for (unsigned i = 0; i < workload->queues; i++)
        start_queue(side, i, features, request_bytes);
}

/* A read of 4 KiB: header, data, status. */
static void add_request(struct side *side, unsigned queue, unsigned slot)
{
    struct fake_driver *driver = &side->drivers[queue];
    uint64_t header = base_of(queue) + HEADERS_OFFSET + (uint64_t)slot * HEADER_STRIDE;
    const struct fake_piece pieces[] = {
        {header, sizeof(struct virtio_blk_header), false},
        {base_of(queue) + DATA_OFFSET + (uint64_t)slot * REQUEST_BYTES, REQUEST_BYTES, true},
        {header + STATUS_OFFSET, 1, true},
    };
    uint8_t *host = side->host.host + header;
    put_le32(host, VIRTIO_BLK_T_IN);
    put_le64(host + 8, (uint64_t)slot * REQUEST_BYTES / VIRTIO_BLK_SECTOR_BYTES);
    host[STATUS_OFFSET] = 0xff;
    uint64_t table = base_of(queue) + TABLES_OFFSET + (uint64_t)slot * TABLE_STRIDE;
    int head = side->workload->indirect
                   ? fake_driver_add_indirect(driver, &side->host, table, pieces, ARRAY_SIZE(pieces))
                   : fake_driver_add(driver, pieces, ARRAY_SIZE(pieces));
    ASSERT(head >= 0);
}

/* Take back what the last turn has served, and offer as much again. */
static void refill(struct side *side, unsigned queue, bool first)
{
    const struct workload *workload = side->workload;
    struct fake_driver *driver = &side->drivers[queue];
    uint32_t head, length;
    if (!first) {
        for (unsigned i = 0; i < workload->depth; i++) {
            bool got = fake_driver_get(driver, &head, &length);
            ASSERT(got);
            ASSERT(!workload->blk ||
                   side->host.host[base_of(queue) + HEADERS_OFFSET + (uint64_t)i * HEADER_STRIDE + STATUS_OFFSET] ==
                       VIRTIO_BLK_S_OK);
        }
    }
    for (unsigned slot = 0; slot < workload->depth; slot++)
        add_request(side, queue, slot);
    (void)fake_driver_show(driver);
    /* As a driver that sleeps: it wants to hear of the next one. */
    bool came = fake_driver_interrupts_on(driver);
    ASSERT(!came);
}

static unsigned serve_virtqueue(struct virtqueue *queue)
{
    struct virtq_chain *chains[VIRTQ_BURST_MAX];
    virtqueue_kicks_off(queue);
    int count = virtqueue_pop(queue, chains, VIRTQ_BURST_MAX);
    for (int i = 0; i < count; i++) {
        const struct guest_iovec *iov;
        (void)virtq_chain_readable_iov(chains[i], &iov);
        (void)virtq_chain_writable_iov(chains[i], &iov);
        virtq_chain_wrote(chains[i], REQUEST_BYTES + 1);
    }
    virtqueue_push(queue, chains, (unsigned)count);
    bool notify = virtqueue_publish(queue);
    return virtqueue_kicks_on(queue) ? 2 : notify;
}

static unsigned serve(struct side *side, unsigned queue)
{
    if (side->workload->devices > 0)
        return serve_bus(side);
    return side->workload->blk ? virtio_device_run(&side->blk.device, queue, VIRTIO_BURST_DEFAULT)
                               : serve_virtqueue(&side->queues[queue]);
}

#ifdef PLANTED_WORK
/* So that a test can see that more work is found out. */
static volatile unsigned planted;
#endif

/* Its name is known to bench/count-instructions. */
unsigned counted_turn(struct side *side, unsigned queue);

unsigned counted_turn(struct side *side, unsigned queue)
{
#ifdef PLANTED_WORK
    for (unsigned i = 0; i < PLANTED_WORK * side->workload->depth; i++)
        planted++;
#endif
    unsigned events = serve(side, queue);
    __asm__ volatile("" ::: "memory"); /* no jump out of this function instead of a call */
    return events;
}

/* Called where the compiler cannot see what: it makes no copy of another name. */
static unsigned (*volatile const counted)(struct side *, unsigned) = counted_turn;

static void run(struct side *side)
{
    unsigned queues = side->workload->queues;
    for (unsigned turn = 0; turn < TURNS_WARM_UP + TURNS; turn++) {
        unsigned queue = turn % queues;
        if (side->workload->devices == 0)
            refill(side, queue, turn < queues);
        unsigned events = turn < TURNS_WARM_UP ? serve(side, queue) : counted(side, queue);
        ASSERT(events == VIRTIO_EVENT_NOTIFY);
    }
    printf("%u\n", TURNS * side->workload->depth);
}

/* Whose code this is: counts of one compiler say nothing about another's. */
#if defined(__clang__)
#define COMPILER "clang"
#define COMPILER_MAJOR __clang_major__
#else
#define COMPILER "gcc"
#define COMPILER_MAJOR __GNUC__
#endif
#if defined(__x86_64__)
#define ARCHITECTURE "x86_64"
#elif defined(__aarch64__)
#define ARCHITECTURE "aarch64"
#else
#define ARCHITECTURE "other"
#endif

int main(int argc, char **argv)
{
    static struct side side;
    const char *argument = argc == 2 ? argv[1] : "";
    if (strcmp(argument, "--compiler") == 0) {
        printf("%s-%d %s\n", COMPILER, COMPILER_MAJOR, ARCHITECTURE);
        return EXIT_SUCCESS;
    }
    bool list = strcmp(argument, "--list") == 0;
    for (unsigned i = 0; i < ARRAY_SIZE(workloads); i++) {
        if (list)
            puts(workloads[i].name);
        if (strcmp(argument, workloads[i].name) != 0)
            continue;
        if (workloads[i].devices > 0)
            start_bus(&side, &workloads[i]);
        else
            start(&side, &workloads[i]);
        run(&side);
        return EXIT_SUCCESS;
    }
    if (list)
        return EXIT_SUCCESS;
    fprintf(stderr, "usage: instructions --list | --compiler | WORKLOAD\n");
    return 2;
}
