/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * run and wake are one and the same: hand the port what it has not taken yet, fetch what it has completed, and as long
 * as it keeps up pop another burst. A burst is judged (blk_request.c) into an array of operations, the batch, which
 * goes to the port in one call; what the port completes at once is pushed in the same turn. Requests complete in any
 * order. A token is the chain's, so a completion that belongs to no request any more is recognised and dropped.
 *
 * When the port takes only a part of the batch, the rest stays there, in order, and nothing is popped until it is
 * gone. Its requests are in flight as far as the queue is concerned, so a queue that stops waits for them too.
 *
 * What the rate limit does not let through goes back to the ring, and queue->wake_at_ns says when to come again.
 *
 * Limits
 *
 * Reads, writes and flushes in flight are not ordered against each other, as 5.2.6 has it: a driver that wants order
 * waits. Cancelling is the port's business; a request that was cancelled tells the driver IOERR.
 */
#include <errno.h>

#include "devices/blk/blk_config.h"
#include "devices/blk/blk_request.h"

/* Completions fetched at a time: a burst's worth. */
#define BLK_REAP_MAX VIRTQ_BURST_MAX

/* How far a quiet disk may run ahead of its rate limit: below what people notice, above a burst's worth of work. */
#define BLK_LIMIT_BURST_NS UINT64_C(100000000)

static void turn_begin(struct blk_turn *turn, struct blk *blk, struct virtqueue *queue)
{
    unsigned index = (unsigned)(queue - blk->device.queues);

    ASSERT(index < blk->device.queue_count);
    *turn = (struct blk_turn){
        .blk = blk,
        .queue = queue,
        .batch = &blk->queues[index],
        .ios = blk->ios[index],
        .index = index,
        .durable_flags = blk_is_write_through(blk) ? BLK_IO_DURABLE : 0,
        .limited = blk->options.limit_iops != 0 || blk->options.limit_bytes_per_s != 0,
    };
}

/* Hand the batch to the port. Returns how many operations it took. */
static unsigned submit(struct blk_turn *turn)
{
    struct blk_queue *batch = turn->batch;
    struct blk_port *port = turn->blk->port;

    if (batch->count == 0)
        return 0;
    unsigned taken = port->class->submit(port, turn->index, &turn->ios[batch->first], batch->count);
    ASSERT(taken <= batch->count);
    batch->count -= taken;
    batch->first = batch->count > 0 ? batch->first + taken : 0;
    return taken;
}

/* Fetch all that the port has completed and push what is finished by it. Returns how many completions there were. */
static unsigned reap(struct blk_turn *turn)
{
    struct blk_completion completions[BLK_REAP_MAX];
    struct virtq_chain *done[BLK_REAP_MAX];
    struct blk_port *port = turn->blk->port;
    unsigned total = 0;
    unsigned fetched;

    do {
        fetched = port->class->reap(port, turn->index, completions, BLK_REAP_MAX);
        ASSERT(fetched <= BLK_REAP_MAX);
        unsigned done_count = 0;
        for (unsigned i = 0; i < fetched; i++) {
            uint64_t token = completions[i].token;
            struct virtq_chain *chain = token <= UINT32_MAX ? virtqueue_chain(turn->queue, (uint32_t)token) : NULL;
            if (chain != NULL && blk_request_complete(turn, chain, completions[i].result))
                done[done_count++] = chain;
        }
        if (done_count > 0)
            virtqueue_push(turn->queue, done, done_count);
        total += fetched;
    } while (fetched == BLK_REAP_MAX);
    return total;
}

/* Submit and reap until the port has taken the whole batch, or neither moves: then a wake comes. */
static void settle(struct blk_turn *turn)
{
    unsigned moved;

    do {
        moved = submit(turn);
        moved += reap(turn);
    } while (turn->batch->count > 0 && moved > 0);
}

/* Judge a burst. Returns the verdict that ended it; *ret_used says how many were not put back. */
static int start_burst(struct blk_turn *turn, struct virtq_chain **chains, unsigned chain_count, unsigned *ret_used)
{
    struct virtq_chain *answered[VIRTQ_BURST_MAX];
    unsigned answered_count = 0;
    int verdict = BLK_STARTED;
    unsigned i;

    /* Headers were written by another processor: let them come while the first ones are judged. */
    for (i = 0; i < chain_count; i++)
        __builtin_prefetch(chains[i]->iov->base);
    for (i = 0; i < chain_count; i++) {
        verdict = blk_request_start(turn, chains[i]);
        if (verdict == BLK_ANSWERED)
            answered[answered_count++] = chains[i];
        else if (verdict != BLK_STARTED)
            break;
    }
    if (i < chain_count)
        virtqueue_unpop(turn->queue, &chains[i], chain_count - i);
    if (answered_count > 0)
        virtqueue_push(turn->queue, answered, answered_count);
    *ret_used = i;
    return verdict;
}

static int serve(struct blk_turn *turn, unsigned burst)
{
    struct virtq_chain *chains[VIRTQ_BURST_MAX];

    settle(turn);
    while (turn->batch->count == 0) {
        if (burst == 0)
            return 1;
        int popped = virtqueue_pop(turn->queue, chains, u32_min(burst, VIRTQ_BURST_MAX));
        if (popped <= 0)
            return popped;
        unsigned used;
        int verdict = start_burst(turn, chains, (unsigned)popped, &used);
        burst -= used;
        settle(turn);
        if (verdict < 0)
            return verdict;
        if (verdict == BLK_NOT_SO_FAST)
            return 0;
    }
    return 0; /* the port is full; its completions wake us */
}

static int blk_serve(struct virtio_device *device, struct virtqueue *queue, unsigned burst)
{
    struct blk_turn turn;

    turn_begin(&turn, container_of(device, struct blk, device), queue);
    queue->wake_at_ns = 0;
    return serve(&turn, burst);
}

static void blk_queue_start(struct virtio_device *device, struct virtqueue *queue)
{
    struct blk *blk = container_of(device, struct blk, device);
    struct blk_queue *batch = &blk->queues[queue - device->queues];

    /* A request whose operations wait in the batch is out, and a queue with chains out has not stopped. */
    ASSERT(batch->count == 0);
}

static void blk_queue_stop(struct virtio_device *device, struct virtqueue *queue)
{
    struct blk *blk = container_of(device, struct blk, device);

    queue->wake_at_ns = 0;
    blk->port->class->cancel(blk->port, (unsigned)(queue - device->queues));
}

static const struct virtio_device_class blk_class = {
    .name = "blk",
    .id = VIRTIO_ID_BLOCK,
    .queues_max = BLK_QUEUES_MAX,
    .config_bytes = VIRTIO_BLK_CONFIG_BYTES,
    .request_bytes = sizeof(struct blk_request),
    .features = blk_features,
    .run = blk_serve,
    .wake = blk_serve,
    .queue_start = blk_queue_start,
    .queue_stop = blk_queue_stop,
    .set_features = blk_set_features,
    .config_read = blk_config_read,
    .config_write = blk_config_write,
    .reset = blk_reset,
    .save = blk_save,
    .load = blk_load,
};

/* A part of a block at the end could be neither read nor written, so it is not shown. */
static uint64_t whole_block_sectors(const struct blk_options *options, uint64_t size_bytes)
{
    return align_down(size_bytes, options->block_bytes) / VIRTIO_BLK_SECTOR_BYTES;
}

int blk_init(struct blk *blk, struct virtqueue *queues, uint16_t queue_count, struct blk_port *port,
             const struct blk_options *options)
{
    struct blk_options checked = *options;

    if (queue_count == 0 || queue_count > BLK_QUEUES_MAX)
        return -EINVAL;
    int r = blk_options_check(&checked);
    if (r < 0)
        return r;

    virtio_device_init(&blk->device, &blk_class, queues, queue_count);
    blk->device.offers_packed = true; /* front ends keep an in-flight record for disks */
    blk->port = port;
    blk->options = checked;
    atomic_init(&blk->capacity_sectors, whole_block_sectors(&checked, checked.size_bytes));
    atomic_init(&blk->writeback, checked.write_cache);
    rate_limit_init(&blk->iops, checked.limit_iops, BLK_LIMIT_BURST_NS);
    rate_limit_init(&blk->bytes, checked.limit_bytes_per_s, BLK_LIMIT_BURST_NS);
    memset(blk->queues, 0, sizeof(blk->queues));
    return 0;
}

size_t blk_request_bytes(void)
{
    return sizeof(struct blk_request);
}

void blk_resize(struct blk *blk, uint64_t size_bytes)
{
    uint64_t sectors = whole_block_sectors(&blk->options, size_bytes);

    atomic_store_explicit(&blk->capacity_sectors, sectors, memory_order_relaxed);
    atomic_fetch_add_explicit(&blk->device.config_generation, 1, memory_order_release);
}

uint64_t blk_count(const struct blk *blk, enum blk_counter which)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < blk->device.queue_count; i++)
        sum += atomic_load_explicit(&blk->queues[i].counters[which], memory_order_relaxed);
    return sum;
}
