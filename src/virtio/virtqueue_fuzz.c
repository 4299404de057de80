/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The queue against a hostile driver and a hostile in-flight record. The input sets the ring up and then is a list of
 * steps: the driver writes anywhere in its 64 KiB, rings included, and offers chains, well made or not; the device
 * pops, moves data, holds, puts back, pushes in any order; the queue stops, starts, is exchanged; the process dies and
 * a successor starts with the record.
 *
 * Held against it: a chain lies in memory, its numbers fit together, a token finds it while it is out, and every one
 * that was popped can be given back; then the arena has everything again and the queue stops.
 */
#include <errno.h>

#include "fake_driver.h"
#include "fuzz_input.h"
#include "virtio/virtqueue.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define GUEST_BASE UINT64_C(0x10000)
#define GUEST_BYTES 65536
#define SECOND_BASE (GUEST_BASE + 49152) /* two regions of one block of bytes: not side by side in this process */
#define RING_SIZE_MAX 64
#define SLOTS 12
#define STEPS_MAX 300 /* keeps one input to some milliseconds */

static _Alignas(4096) uint8_t guest_bytes[GUEST_BYTES + 4096];
static _Alignas(64) uint8_t block[1 << 20];
static _Alignas(
    64) uint8_t record[sizeof(struct virtq_record_split) + RING_SIZE_MAX * sizeof(struct virtq_record_split_entry)];
static uint8_t log_bits[4];

static struct fuzz_world {
    struct guest_memory memory;
    struct dirty_log log;
    struct virtq_arena arena;
    struct virtqueue queue;
    struct virtqueue_config config;
    struct fake_driver driver;
    struct virtq_record_split *inflight;
    struct virtq_chain *held[SLOTS]; /* in the order of their coming */
    unsigned held_count;
    unsigned last_popped; /* how many of the last may still be put back */
} world;

static const struct virtq_arena_shape shape = {.slots = SLOTS, .medium_runs = 2, .long_runs = 1, .request_bytes = 8};

static uint8_t *guest_at(uint64_t address)
{
    /* The second region lies a page further up than the first one ends. */
    uint64_t offset = address - GUEST_BASE;
    return guest_bytes + offset + (address >= SECOND_BASE ? 4096 : 0);
}

static void check_piece(const struct guest_iovec *piece, uint64_t address)
{
    ASSERT(piece->length > 0);
    ASSERT(address >= GUEST_BASE && range_within(address - GUEST_BASE, piece->length, GUEST_BYTES));
    ASSERT(piece->base == guest_at(address));
    ASSERT(address >= SECOND_BASE || piece->length <= SECOND_BASE - address);
}

static void check_chain(const struct virtq_chain *chain)
{
    uint64_t readable = 0;
    uint64_t writable = 0;
    unsigned count = (unsigned)chain->readable_count + chain->writable_count;
    ASSERT(count <= VIRTQ_LONG_RUN_PIECES);
    for (unsigned i = 0; i < count; i++) {
        check_piece(&chain->iov[i], chain->addresses[i]);
        if (i < chain->readable_count)
            readable += chain->iov[i].length;
        else
            writable += chain->iov[i].length;
    }
    ASSERT(readable == chain->readable_bytes && writable == chain->writable_bytes);
    ASSERT(readable <= UINT32_MAX && writable <= UINT32_MAX);
    ASSERT(chain->head < world.config.size && chain->written == 0);
    ASSERT(virtqueue_chain(&world.queue, chain->token) == chain);
    *(uint64_t *)chain->request = chain->token;
}

static void pop(unsigned max)
{
    struct virtq_chain **to = &world.held[world.held_count];
    bool was_broken = world.queue.broken;
    int count = virtqueue_pop(&world.queue, to, u32_min(max, SLOTS - world.held_count));
    ASSERT(count >= 0 || (count == -EPROTO && !was_broken && world.queue.broken));
    world.last_popped = 0;
    if (count <= 0)
        return;
    for (int i = 0; i < count; i++)
        check_chain(to[i]);
    world.held_count += (unsigned)count;
    world.last_popped = (unsigned)count;
}

static void unpop(unsigned count)
{
    count = u32_min(count, world.last_popped);
    world.held_count -= count;
    world.last_popped -= count;
    virtqueue_unpop(&world.queue, &world.held[world.held_count], count);
}

/* Give one back, whichever; its request's own bytes are still there. */
static void push(unsigned which)
{
    if (world.held_count == 0)
        return;
    which %= world.held_count;
    struct virtq_chain *chain = world.held[which];
    ASSERT(*(uint64_t *)chain->request == chain->token);
    uint32_t token = chain->token;
    virtqueue_push(&world.queue, &chain, 1);
    ASSERT(virtqueue_chain(&world.queue, token) == NULL);
    world.held_count--;
    memmove(&world.held[which], &world.held[which + 1], (world.held_count - which) * sizeof(*world.held));
    world.last_popped = 0;
}

/* Move data as a device does: a header, a tail kept for a status, the rest in place. */
static void use(struct fuzz_input *input)
{
    uint8_t bytes[256];
    if (world.held_count == 0)
        return;
    struct virtq_chain *chain = world.held[fuzz_u8(input) % world.held_count];
    uint8_t plan = fuzz_u8(input);
    world.last_popped = 0;
    (void)virtq_chain_read(chain, bytes, plan & 0x1f);
    bool fresh = chain->tail_bytes == 0 && !chain->writable_given && chain->written == 0;
    bool tail = (plan & 0x20) != 0 && fresh && virtq_chain_keep_tail(chain, (uint8_t)(1 + (plan & 7))) == 0;
    memset(bytes, plan, sizeof(bytes));
    if ((plan & 0x40) != 0)
        (void)virtq_chain_write(chain, bytes, fuzz_u8(input));
    if ((plan & 0x80) != 0) {
        const struct guest_iovec *iov;
        unsigned count = virtq_chain_readable_iov(chain, &iov);
        for (unsigned i = 0; i < count; i++)
            ASSERT(iov[i].length > 0 && *(volatile const uint8_t *)iov[i].base <= 255);
        count = virtq_chain_writable_iov(chain, &iov);
        uint64_t total = 0;
        for (unsigned i = 0; i < count; i++) {
            ASSERT(iov[i].length > 0);
            /* One page listed a thousand times is not worth a thousand pages of work. */
            memset(iov[i].base, plan, size_min(iov[i].length, 16));
            ((uint8_t *)iov[i].base)[iov[i].length - 1] = plan;
            total += iov[i].length;
        }
        virtq_chain_wrote(chain, (uint32_t)total);
    }
    if (tail)
        virtq_chain_write_tail(chain, bytes);
}

static bool started(void)
{
    int r = virtqueue_start(&world.queue, &world.config, &world.memory, &world.log, world.inflight);
    ASSERT(r == 0 || (world.inflight != NULL && r == -EPROTO));
    return r == 0;
}

/* Everything that is out goes back; then the arena is whole and the queue stops. */
static void stop(void)
{
    (void)virtqueue_stop(&world.queue);
    while (world.held_count > 0)
        push(0);
    (void)virtqueue_publish(&world.queue);
    ASSERT(world.queue.state == VIRTQUEUE_STOPPED && world.queue.out_count == 0);
    ASSERT(world.arena.free_slot_count == shape.slots);
    ASSERT(world.arena.free_medium_count == shape.medium_runs);
    ASSERT(world.arena.free_long_count == shape.long_runs);
    world.last_popped = 0;
}

/* What is out dies with the process. */
static void die(void)
{
    memset(block, 0, virtq_arena_bytes(&shape));
    virtq_arena_init(&world.arena, &shape, block);
    virtqueue_init(&world.queue, &world.arena);
    world.held_count = 0;
    world.last_popped = 0;
}

static void start_again(void)
{
    world.config.base = virtqueue_base(&world.queue);
    if (started())
        return;
    memset(record, 0, sizeof(record));
    bool clean = started();
    ASSERT(clean);
}

static void offer(struct fuzz_input *input)
{
    struct fake_piece pieces[12];
    uint8_t kind = fuzz_u8(input);
    unsigned count = 1 + kind % 12u;
    unsigned readable = fuzz_u8(input) % 13u;
    for (unsigned i = 0; i < count; i++)
        pieces[i] = (struct fake_piece){GUEST_BASE + fuzz_u16(input), fuzz_u16(input) & 0x1fff, i >= readable};
    if ((kind & 0x80) == 0) {
        (void)fake_driver_add(&world.driver, pieces, count);
    } else {
        struct fake_memory first = {GUEST_BASE, SECOND_BASE - GUEST_BASE, guest_bytes};
        (void)fake_driver_add_indirect(&world.driver, &first, GUEST_BASE + 0x4000 + kind, pieces, count);
    }
}

/* A table as long as may be, every entry the next one's fellow. */
static void offer_long_table(struct fuzz_input *input)
{
    uint64_t table = GUEST_BASE + 0x8000 + (fuzz_u8(input) & 0x3f);
    unsigned count = 1 + fuzz_u16(input) % 1100u;
    uint16_t length = fuzz_u8(input);
    for (unsigned i = 0; i < count && i < 1000; i++) {
        struct vring_desc desc = {
            .address = cpu_to_le64(GUEST_BASE + 0xbffe + i % 4),
            .length = cpu_to_le32(length & 3),
            .flags = cpu_to_le16(i + 1 < count ? VRING_DESC_F_NEXT : 0),
            .next = cpu_to_le16((uint16_t)(i + 1)),
        };
        memcpy(guest_bytes + (table - GUEST_BASE) + i * sizeof(desc), &desc, sizeof(desc));
    }
    fake_driver_desc(&world.driver, 0, table, count * 16, VRING_DESC_F_INDIRECT, 0);
    fake_driver_offer(&world.driver, 0);
}

static void scribble(struct fuzz_input *input)
{
    /* Half of it into the rings, which come first. */
    uint16_t where = fuzz_u16(input);
    where = (where & 1) != 0 ? where >> 1 & 0x7ff : where;
    fuzz_bytes(input, &guest_bytes[where], fuzz_u8(input) & 0x3f);
}

static void step(struct fuzz_input *input)
{
    uint8_t code = fuzz_u8(input);
    switch (code % 16) {
    case 0:
        scribble(input);
        break;
    case 1:
    case 2:
        offer(input);
        break;
    case 3:
        offer_long_table(input);
        break;
    case 4:
        (void)fake_driver_show(&world.driver);
        break;
    case 5:
        fake_driver_offer(&world.driver, fuzz_u8(input));
        break;
    case 6:
    case 7:
        (void)fake_driver_show(&world.driver);
        pop(code >> 4);
        break;
    case 8:
        use(input);
        break;
    case 9:
        push(code >> 4);
        break;
    case 10:
        (void)virtqueue_publish(&world.queue);
        break;
    case 11:
        unpop(code >> 4);
        break;
    case 12:
        if ((code & 0x10) != 0)
            (void)virtqueue_kicks_on(&world.queue);
        else
            virtqueue_kicks_off(&world.queue);
        (void)virtqueue_pending(&world.queue);
        break;
    case 13:
        if (world.inflight != NULL && (code & 0x10) != 0)
            fuzz_bytes(input, &record[fuzz_u16(input) % sizeof(record)], 1);
        else
            (void)virtqueue_exchange(&world.queue, &world.config, &world.memory, &world.log);
        break;
    case 14:
        stop();
        start_again();
        break;
    case 15:
        die();
        start_again();
        break;
    }
}

static void begin(struct fuzz_input *input)
{
    uint8_t flags = fuzz_u8(input);
    uint32_t size = 1u << flags % 7u;
    bool event_idx = (flags & 0x40) != 0;

    memset(&world, 0, sizeof(world));
    memset(guest_bytes, 0, sizeof(guest_bytes));
    memset(record, 0, sizeof(record));
    world.log = (struct dirty_log){.bits = log_bits, .size_bytes = sizeof(log_bits)};
    const struct guest_region first = {
        .guest_base = GUEST_BASE, .size = SECOND_BASE - GUEST_BASE, .host = guest_at(GUEST_BASE)};
    const struct guest_region second = {
        .guest_base = SECOND_BASE, .size = GUEST_BASE + GUEST_BYTES - SECOND_BASE, .host = guest_at(SECOND_BASE)};
    guest_memory_init(&world.memory, NULL);
    int r = guest_memory_add(&world.memory, &first);
    ASSERT(r == 0);
    r = guest_memory_add(&world.memory, &second);
    ASSERT(r == 0);

    ASSERT(virtq_arena_bytes(&shape) <= sizeof(block));
    die();
    struct fake_memory side = {GUEST_BASE, SECOND_BASE - GUEST_BASE, guest_bytes};
    uint64_t features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | (event_idx ? VIRTIO_F_EVENT_IDX : 0);
    fake_driver_init(&world.driver, &side, GUEST_BASE, size, features);
    world.config = fake_driver_config(&world.driver, features);
    world.config.used_log = true;
    world.config.used_log_address = world.config.used_address;
    if ((flags & 0x80) != 0)
        world.inflight = (struct virtq_record_split *)(void *)record;
    start_again();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    begin(&input);
    for (unsigned i = 0; i < STEPS_MAX && input.left > 0; i++)
        step(&input);
    stop();
    return 0;
}
