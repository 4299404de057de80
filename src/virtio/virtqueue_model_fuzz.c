/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A split ring, a packed ring and a naive model of both are driven with the same operations, and must agree: which
 * requests are popped, in which order, with which pieces; which come back to the driver, in which order, with which
 * lengths; who has to be told, and when; what a successor finds after a crash; where a queue stands when it stops.
 *
 * The model knows nothing of rings: requests are numbers, and what has happened is counted. Where the standard leaves a
 * choice (a notification too many), the model demands only what must be.
 */
#include <errno.h>

#include "fake_driver.h"
#include "fuzz_input.h"
#include "virtio/virtqueue.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define GUEST_BASE UINT64_C(0x100000)
#define GUEST_BYTES 65536u
#define REGION_BYTES 16384u /* four regions of 16 KiB, apart in this process; two of them are hot */
#define TABLES (GUEST_BASE + 0x2000)
#define TABLE_BYTES 512u
#define BUFFERS_OFFSET 0x6000u
#define RING_MAX 16
#define SLOTS 7
#define PIECES_MAX 12
#define REQUESTS_MAX 2048 /* in one input */
#define STEPS_MAX 600

enum { SPLIT, PACKED, WORLDS };

struct world {
    uint8_t bytes[GUEST_BYTES / REGION_BYTES][REGION_BYTES + 4096];
    _Alignas(64) uint8_t arena_bytes[1 << 17];
    _Alignas(
        8) uint8_t record[sizeof(struct virtq_record_packed) + RING_MAX * sizeof(struct virtq_record_packed_entry)];
    struct guest_memory memory;
    struct virtq_arena arena;
    struct virtqueue queue;
    struct virtqueue_config config;
    struct fake_driver driver;
    unsigned request_of[RING_MAX];  /* by head or id: number of the request */
    struct virtq_chain *out[SLOTS]; /* popped, in the order of their coming */
    unsigned taken;                 /* used ones that its driver has seen */
    bool kicked;                    /* the driver has kicked, and the device has not looked since */
};

/* A request as the model knows it. */
struct request {
    uint32_t readable, writable; /* bytes */
    uint32_t written;
    unsigned places; /* in a packed ring */
};

static struct world worlds[WORLDS];

static struct model {
    bool event_idx, in_order, recorded;
    struct request requests[REQUESTS_MAX];
    unsigned offered, shown;  /* totals, by number: requests are offered in the order of their numbers */
    unsigned popped;          /* the next to come out of the ring */
    unsigned resubmit[SLOTS]; /* to come before that */
    unsigned resubmit_count;
    unsigned out[SLOTS]; /* numbers, parallel to world.out */
    unsigned out_count;
    unsigned last_popped;              /* how many of the last may still be put back */
    unsigned used[REQUESTS_MAX * 2];   /* numbers in the order in which they must come back */
    unsigned pushed, published, taken; /* of used: handed back, surely visible, seen by the driver */
    unsigned waiting[SLOTS];           /* in order: handed back before their turn */
    unsigned waiting_count;
    unsigned looked;       /* of shown: what a pop or kicks_on has looked at for sure, */
    unsigned maybe_looked; /* and what it may have looked at */
    unsigned armed;        /* kicks wanted from this one on */
    bool kicks_on;
    bool kicks_exact; /* it, and armed, are what both rings say */
    bool interrupts_on, interrupts_exact;
    unsigned interrupt_at; /* event index: of used */
    bool first_publication;
} model;

static const struct virtq_arena_shape shape = {.slots = SLOTS, .medium_runs = 2, .long_runs = 1, .request_bytes = 8};

#define FOR_WORLDS(world) for (struct world *world = worlds; world < worlds + WORLDS; world++)

/* ---- worlds ---- */

static void start(struct world *world, uint32_t base)
{
    world->config.base = base;
    int r = virtqueue_start(&world->queue, &world->config, &world->memory, NULL, model.recorded ? world->record : NULL);
    ASSERT(r == 0);
}

static void new_process(struct world *world)
{
    memset(world->arena_bytes, 0, virtq_arena_bytes(&shape));
    virtq_arena_init(&world->arena, &shape, world->arena_bytes);
    virtqueue_init(&world->queue, &world->arena);
}

static void build(struct world *world, uint32_t size, uint64_t features)
{
    world->taken = 0;
    memset(world->bytes, 0, sizeof(world->bytes));
    memset(world->record, 0, sizeof(world->record));
    guest_memory_init(&world->memory, NULL);
    for (unsigned i = 0; i < ARRAY_SIZE(world->bytes); i++) {
        /* The first is the largest by a little: hot regions are chosen by size. */
        const struct guest_region region = {
            .guest_base = GUEST_BASE + i * REGION_BYTES, .size = REGION_BYTES, .host = world->bytes[i]};
        int r = guest_memory_add(&world->memory, &region);
        ASSERT(r == 0);
    }
    const struct fake_memory side = {GUEST_BASE, REGION_BYTES, world->bytes[0]};
    fake_driver_init(&world->driver, &side, GUEST_BASE, size, features);
    world->config = fake_driver_config(&world->driver, features);
    ASSERT(virtq_arena_bytes(&shape) <= sizeof(world->arena_bytes));
    new_process(world);
    start(world, virtqueue_base_initial(features));
}

/* A queue that starts asks anew. */
static void forget_kicks(void)
{
    model.kicks_exact = false;
    worlds[SPLIT].kicked = worlds[PACKED].kicked = true; /* whoever starts a queue looks at it at once */
}

static void begin(struct fuzz_input *input)
{
    static const uint8_t packed_sizes[] = {16, 15, 13, 9, 5, 2, 3, 1};
    uint8_t flags = fuzz_u8(input);
    uint8_t sizes = fuzz_u8(input);
    memset(&model, 0, sizeof(model));
    model.event_idx = (flags & 1) != 0;
    model.in_order = (flags & 2) != 0;
    model.recorded = (flags & 4) != 0;
    model.interrupts_on = true;
    model.interrupts_exact = !model.event_idx;
    model.first_publication = true;
    forget_kicks();
    uint64_t features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC;
    features |= model.event_idx ? VIRTIO_F_EVENT_IDX : 0;
    features |= model.in_order ? VIRTIO_F_IN_ORDER : 0;
    build(&worlds[SPLIT], 1u << (sizes & 0xf) % 5, features);
    build(&worlds[PACKED], packed_sizes[(sizes >> 4) % ARRAY_SIZE(packed_sizes)], features | VIRTIO_F_RING_PACKED);
}

/* ---- the driver ---- */

static void offer(struct fuzz_input *input)
{
    uint8_t kind = fuzz_u8(input);
    unsigned count = 1 + kind % PIECES_MAX, readable = fuzz_u8(input) % (PIECES_MAX + 1);
    bool indirect = (kind & 0x80) != 0;
    unsigned places = indirect ? 1 : count;
    if (model.offered == REQUESTS_MAX)
        return;
    FOR_WORLDS(world)
    if (world->driver.free_count < places)
        return;

    struct fake_piece pieces[PIECES_MAX];
    struct request request = {.places = places};
    for (unsigned i = 0; i < count; i++) {
        uint16_t place = fuzz_u16(input);
        uint32_t length = place & 0xff;
        pieces[i] = (struct fake_piece){
            .address = GUEST_BASE + BUFFERS_OFFSET + place % (GUEST_BYTES - BUFFERS_OFFSET - 0x100),
            .length = length,
            .writable = i >= readable,
        };
        *(pieces[i].writable ? &request.writable : &request.readable) += length;
    }
    model.requests[model.offered] = request;
    FOR_WORLDS(world)
    {
        const struct fake_memory side = {GUEST_BASE, REGION_BYTES, world->bytes[0]};
        /* A table for each head that may be out. */
        uint64_t table = TABLES + world->driver.free_head * TABLE_BYTES;
        int head = indirect ? fake_driver_add_indirect(&world->driver, &side, table, pieces, count)
                            : fake_driver_add(&world->driver, pieces, count);
        ASSERT(head >= 0);
        world->request_of[head] = model.offered;
    }
    model.offered++;
}

/* A place of a packed ring that was asked for and is past comes round again, after two laps: once too often is allowed.
 */
static bool comes_again(const struct world *world, unsigned now, unsigned event)
{
    return world == &worlds[PACKED] && model.event_idx && now > event;
}

static void show(void)
{
    unsigned before = model.shown;
    model.shown = model.offered;
    bool must = model.kicks_exact && model.kicks_on && before < model.shown &&
                (!model.event_idx || (before <= model.armed && model.armed < model.shown));
    FOR_WORLDS(world)
    {
        bool kick = fake_driver_show(&world->driver);
        ASSERT(kick || !must);
        ASSERT(!kick || before < model.shown);
        ASSERT(kick == must || !model.kicks_exact || comes_again(world, before, model.armed));
        world->kicked = world->kicked || kick;
    }
}

/* Everything the driver can see, in the order in which it must be. */
static unsigned take_used(struct world *world)
{
    uint32_t head, length;
    unsigned taken = world->taken;
    while (fake_driver_get(&world->driver, &head, &length)) {
        ASSERT(taken < model.pushed);
        unsigned number = model.used[taken++];
        ASSERT(world->request_of[head] == number);
        ASSERT(length == model.requests[number].written);
    }
    ASSERT(taken >= model.published);
    world->taken = taken;
    return taken;
}

static void get(void)
{
    unsigned split = take_used(&worlds[SPLIT]);
    unsigned packed = take_used(&worlds[PACKED]);
    /* A packed ring with a record shows what was pushed before it pops. */
    ASSERT(model.recorded ? packed >= split : packed == split);
    if (packed > split) {
        (void)virtqueue_publish(&worlds[SPLIT].queue);
        split = take_used(&worlds[SPLIT]);
        ASSERT(split >= packed);
        (void)virtqueue_publish(&worlds[PACKED].queue);
        packed = take_used(&worlds[PACKED]);
        ASSERT(split == packed && split == model.pushed);
        model.published = model.pushed;
        model.first_publication = false;
    }
    model.taken = split;
}

static void interrupts(bool on)
{
    FOR_WORLDS(world)
    {
        if (!on) {
            fake_driver_interrupts_off(&world->driver);
            continue;
        }
        bool more = fake_driver_interrupts_on(&world->driver);
        ASSERT(more || model.published == model.taken);
        ASSERT(!more || model.pushed > model.taken);
    }
    model.interrupts_on = on;
    model.interrupts_exact = true;
    model.interrupt_at = model.taken;
}

/* ---- the device ---- */

/* Number of the @index'th request that pop must give next, or -1. */
static int expected(unsigned index)
{
    if (model.resubmit_count > 0)
        return index < model.resubmit_count ? (int)model.resubmit[index] : -1;
    return model.popped + index < model.shown ? (int)(model.popped + index) : -1;
}

static void check_chain(const struct world *world, const struct virtq_chain *chain, unsigned number)
{
    const struct request *request = &model.requests[number];
    ASSERT(world->request_of[chain->head] == number);
    ASSERT(chain->readable_bytes == request->readable && chain->writable_bytes == request->writable);
    ASSERT(virtqueue_chain((struct virtqueue *)(uintptr_t)&world->queue, chain->token) == chain);
    uint64_t total = 0;
    for (unsigned i = 0; i < (unsigned)chain->readable_count + chain->writable_count; i++) {
        uint64_t offset = chain->addresses[i] - GUEST_BASE;
        ASSERT(range_within(offset, chain->iov[i].length, GUEST_BYTES));
        ASSERT(chain->iov[i].base == &world->bytes[offset / REGION_BYTES][offset % REGION_BYTES]);
        total += chain->iov[i].length;
    }
    ASSERT(total == (uint64_t)request->readable + request->writable);
}

static void pop(unsigned max)
{
    int counts[WORLDS];
    max = u32_min(max, SLOTS - model.out_count);
    FOR_WORLDS(world)
    {
        int count = virtqueue_pop(&world->queue, &world->out[model.out_count], max);
        ASSERT(count >= 0);
        for (int i = 0; i < count; i++) {
            ASSERT(expected((unsigned)i) >= 0);
            check_chain(world, world->out[model.out_count + (unsigned)i], (unsigned)expected((unsigned)i));
        }
        counts[world - worlds] = count;
    }
    ASSERT(counts[SPLIT] == counts[PACKED]);
    ASSERT(worlds[SPLIT].queue.starved == worlds[PACKED].queue.starved);
    unsigned count = (unsigned)counts[SPLIT];
    /* Fewer than asked for: the ring is empty, the record is, or the arena. */
    ASSERT(count == max || expected(count) < 0 || worlds[SPLIT].queue.starved);
    for (unsigned i = 0; i < count; i++)
        model.out[model.out_count++] = (unsigned)expected(i);
    if (model.resubmit_count > 0) {
        model.resubmit_count -= count;
        memmove(model.resubmit, model.resubmit + count, model.resubmit_count * sizeof(model.resubmit[0]));
    } else {
        model.popped += count;
        if (model.looked < model.popped)
            model.looked = model.popped;
        model.maybe_looked = model.shown;
        if (count < max && !worlds[SPLIT].queue.starved) {
            model.looked = model.shown;
            worlds[SPLIT].kicked = worlds[PACKED].kicked = false;
        }
    }
    model.last_popped = count;
}

static void unpop(unsigned count)
{
    count = u32_min(count, model.last_popped);
    /* What came out of a record goes back there; the two kinds never come in one pop. */
    bool again = count > 0 && worlds[SPLIT].out[model.out_count - 1]->resubmitted;
    model.out_count -= count;
    model.last_popped -= count;
    FOR_WORLDS(world)
    virtqueue_unpop(&world->queue, &world->out[model.out_count], count);
    if (again) {
        memmove(model.resubmit + count, model.resubmit, model.resubmit_count * sizeof(model.resubmit[0]));
        memcpy(model.resubmit, model.out + model.out_count, count * sizeof(model.resubmit[0]));
        model.resubmit_count += count;
    } else {
        model.popped -= count;
    }
}

/* Request @number is back: it, and what had waited for it, is to be seen by the driver in this order. */
static void model_push(unsigned number)
{
    if (!model.in_order) {
        model.used[model.pushed++] = number;
        return;
    }
    model.waiting[model.waiting_count++] = number;
    /* Numbers come out of the ring in order, so the smallest that is out or waiting is the next. */
    for (;;) {
        unsigned smallest = UINT32_MAX, where = 0;
        for (unsigned i = 0; i < model.out_count; i++)
            smallest = u32_min(smallest, model.out[i]);
        for (unsigned i = 0; i < model.waiting_count; i++)
            if (model.waiting[i] < smallest)
                smallest = model.waiting[where = i];
        if (model.waiting_count == 0 || model.waiting[where] != smallest)
            return;
        model.used[model.pushed++] = smallest;
        model.waiting[where] = model.waiting[--model.waiting_count];
    }
}

static void push(unsigned which, uint32_t written)
{
    if (model.out_count == 0)
        return;
    which %= model.out_count;
    unsigned number = model.out[which];
    FOR_WORLDS(world)
    {
        struct virtq_chain *chain = world->out[which];
        static const uint8_t zeros[PIECES_MAX * 256];
        uint32_t token = chain->token;
        model.requests[number].written = (uint32_t)virtq_chain_write(chain, zeros, written);
        virtqueue_push(&world->queue, &chain, 1);
        ASSERT(virtqueue_chain(&world->queue, token) == NULL);
        memmove(&world->out[which], &world->out[which + 1], (model.out_count - which - 1) * sizeof(world->out[0]));
    }
    memmove(&model.out[which], &model.out[which + 1], (model.out_count - which - 1) * sizeof(model.out[0]));
    model.out_count--;
    model.last_popped = 0;
    model_push(number);
}

static void publish(void)
{
    unsigned before = model.published;
    model.published = model.pushed;
    bool moved = before < model.pushed;
    bool must = moved && model.interrupts_on && model.interrupts_exact &&
                (!model.event_idx || (before <= model.interrupt_at && model.interrupt_at < model.pushed));
    FOR_WORLDS(world)
    {
        bool notify = virtqueue_publish(&world->queue);
        ASSERT(notify || !must);
        ASSERT(!notify || moved);
        /* The first one is told in any case, since nobody knows what the driver had asked a predecessor for. */
        ASSERT(notify == must || !model.interrupts_exact || model.first_publication ||
               comes_again(world, before, model.interrupt_at));
    }
    if (moved)
        model.first_publication = false;
}

static void kicks(bool on)
{
    bool came_anywhere = false, unseen = model.maybe_looked < model.shown;
    FOR_WORLDS(world)
    {
        if (!on) {
            virtqueue_kicks_off(&world->queue);
            continue;
        }
        bool came = virtqueue_kicks_on(&world->queue);
        ASSERT(came || !unseen || world->kicked);    /* what nobody has looked at must be told, here or by a kick */
        ASSERT(!came || model.looked < model.shown); /* once */
        came_anywhere = came_anywhere || came;
    }
    if (!on) {
        /* With the event index a split ring says nothing, and may be kicked once more. */
        model.kicks_exact = !model.event_idx;
        model.armed = UINT32_MAX;
        model.kicks_on = false;
    } else if (came_anywhere) {
        /* The device is to look again before it relies on kicks. */
        model.looked = model.maybe_looked = model.shown;
        model.kicks_exact = false;
        model.kicks_on = true;
    } else if (model.looked == model.shown && !worlds[SPLIT].kicked && !worlds[PACKED].kicked) {
        model.armed = model.shown;
        model.kicks_exact = true;
        model.kicks_on = true;
    } else {
        model.kicks_exact = false; /* a kick is on its way: the device is to look before it asks again */
    }
}

/* ---- lives ---- */

static void stop_and_start(void)
{
    while (model.out_count > 0)
        push(0, 3);
    publish();
    get();
    uint32_t places = 0;
    for (unsigned i = 0; i < model.popped; i++)
        places += model.requests[i].places;
    FOR_WORLDS(world)
    {
        (void)virtqueue_stop(&world->queue);
        (void)virtqueue_publish(&world->queue);
        ASSERT(world->queue.state == VIRTQUEUE_STOPPED);
        ASSERT(world->arena.free_slot_count == SLOTS && world->arena.free_medium_count == 2);
        uint32_t base = virtqueue_base(&world->queue), size = world->config.size;
        if (world == &worlds[SPLIT])
            ASSERT(model.resubmit_count > 0 || base == (uint16_t)model.popped);
        else
            ASSERT(model.resubmit_count > 0 ||
                   base == VIRTQ_BASE_PACKED(places % size, places / size % 2 == 0) * 0x10001u);
        start(world, base);
    }
    model.looked = model.maybe_looked = model.popped;
    model.last_popped = 0;
    model.first_publication = true;
    forget_kicks();
}

/* The process dies. With a record, a successor pops again what the driver has not seen back. */
static void crash(void)
{
    if (!model.recorded)
        return;
    get();
    unsigned lost[SLOTS * 2], count = 0;
    for (unsigned i = 0; i < model.resubmit_count; i++)
        lost[count++] = model.resubmit[i];
    for (unsigned i = 0; i < model.out_count; i++)
        lost[count++] = model.out[i];
    for (unsigned i = 0; i < model.waiting_count; i++)
        lost[count++] = model.waiting[i];
    for (unsigned i = model.taken; i < model.pushed; i++)
        lost[count++] = model.used[i];
    ASSERT(count <= ARRAY_SIZE(lost));
    for (unsigned i = 0; i < count; i++)
        for (unsigned j = i + 1; j < count; j++)
            if (lost[j] < lost[i]) {
                unsigned number = lost[i];
                lost[i] = lost[j];
                lost[j] = number;
            }
    ASSERT(count <= SLOTS);
    memcpy(model.resubmit, lost, count * sizeof(lost[0]));
    model.resubmit_count = count;
    model.out_count = 0;
    model.waiting_count = 0;
    model.pushed = model.published = model.taken;
    model.looked = model.maybe_looked = model.popped;
    model.last_popped = 0;
    model.first_publication = true;
    forget_kicks();
    FOR_WORLDS(world)
    {
        new_process(world);
        start(world, world->config.base); /* an old one: the record knows better */
        ASSERT(world->queue.resubmit_left == count);
    }
}

static void step(struct fuzz_input *input)
{
    uint8_t code = fuzz_u8(input);
    switch (code & 0xf) {
    case 0:
    case 1:
    case 2:
        offer(input);
        break;
    case 3:
        show();
        break;
    case 4:
    case 5:
        pop(code >> 4);
        break;
    case 6:
        unpop(code >> 4 & 7);
        break;
    case 7:
    case 8:
        push(code >> 4, fuzz_u8(input));
        break;
    case 9:
    case 10:
        publish();
        break;
    case 11:
        get();
        break;
    case 12:
        interrupts((code & 0x10) != 0);
        break;
    case 13:
        kicks((code & 0x10) != 0);
        break;
    case 14:
        stop_and_start();
        break;
    default:
        crash();
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    begin(&input);
    for (unsigned i = 0; i < STEPS_MAX && input.left > 0; i++)
        step(&input);
    stop_and_start();
    return 0;
}
