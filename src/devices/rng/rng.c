/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A burst of chains is popped and filled one after the other; whatever stops us, the chain in hand and those behind it
 * go back to the ring, so requests complete in ring order and none is lost. What stops us: the source has nothing now
 * (it wakes us), the rate limit (queue->wake_at_ns), or an error of the source. After an error the source is asked
 * again only a second later, however often the guest kicks.
 *
 * Entropy goes through a buffer of ours: the source may block on, or copy from, nothing a guest can change.
 *
 * Limits
 *
 * At most RNG_REQUEST_BYTES_MAX a request; the driver asks again for more (5.4.6.2 allows less than the buffer). Parts
 * of a chain that the device may only read are against 5.4.6.1 and are passed over. A chain without room comes back
 * empty.
 */
#include <errno.h>

#include "devices/rng/rng.h"

/* One read of the source, and so one burst of the limit: a quiet guest gets so much at once. */
#define RNG_RATE_BURST_NS UINT64_C(100000000)

/* A source that fails is asked again at this pace: no busy loop, and no guest waits long once it is back. */
#define RNG_RETRY_NS UINT64_C(1000000000)

/* Fill one request. 0, or < 0 with @chain untouched and the source's units given back. */
static int fill(struct rng *rng, struct virtqueue *queue, struct virtq_chain *chain)
{
    uint8_t bytes[RNG_REQUEST_BYTES_MAX];
    struct entropy_source *source = rng->source;
    size_t wanted = (size_t)u64_min(chain->writable_bytes, sizeof(bytes));
    bool limited = rng->rate.units_per_s != 0;
    uint64_t at_ns;

    if (wanted == 0)
        return 0;
    if (limited && !rate_limit_take(&rng->rate, wanted, source->class->now_ns(source), &at_ns)) {
        queue->wake_at_ns = at_ns;
        return -EAGAIN;
    }
    int filled = source->class->read(source, bytes, wanted);
    ASSERT(filled != 0 && filled <= (int)wanted);
    size_t used = filled > 0 ? (size_t)filled : 0;
    if (limited)
        rate_limit_return(&rng->rate, wanted - used);
    if (filled < 0)
        return filled;
    virtq_chain_write(chain, bytes, used);
    atomic_fetch_add_explicit(&rng->bytes_total, used, memory_order_relaxed);
    return 0;
}

/* The source failed a short while ago: is it still too early to ask? Then a wake is ordered. */
static bool must_wait(struct rng *rng, struct virtqueue *queue)
{
    if (rng->retry_at_ns == 0)
        return false;
    if (rng->source->class->now_ns(rng->source) < rng->retry_at_ns) {
        queue->wake_at_ns = rng->retry_at_ns;
        return true;
    }
    rng->retry_at_ns = 0;
    return false;
}

static void source_failed(struct rng *rng, struct virtqueue *queue)
{
    atomic_fetch_add_explicit(&rng->source_errors_total, 1, memory_order_relaxed);
    rng->retry_at_ns = rng->source->class->now_ns(rng->source) + RNG_RETRY_NS;
    queue->wake_at_ns = rng->retry_at_ns;
}

static int rng_serve(struct virtio_device *device, struct virtqueue *queue, unsigned burst)
{
    struct rng *rng = container_of(device, struct rng, device);
    struct virtq_chain *chains[VIRTQ_BURST_MAX];

    queue->wake_at_ns = 0;
    if (must_wait(rng, queue))
        return 0;
    while (burst > 0) {
        int popped = virtqueue_pop(queue, chains, u32_min(burst, VIRTQ_BURST_MAX));
        if (popped <= 0)
            return popped;
        unsigned count = (unsigned)popped;
        unsigned filled = 0;
        int r = 0;
        while (filled < count && (r = fill(rng, queue, chains[filled])) == 0)
            filled++;
        if (filled < count)
            virtqueue_unpop(queue, &chains[filled], count - filled);
        virtqueue_push(queue, chains, filled);
        atomic_fetch_add_explicit(&rng->requests_total, filled, memory_order_relaxed);
        if (r < 0) {
            if (r != -EAGAIN)
                source_failed(rng, queue);
            return 0;
        }
        burst -= count;
    }
    return 1;
}

static uint64_t rng_features(const struct virtio_device *device)
{
    (void)device; /* 5.4.3: none */
    return 0;
}

static void rng_queue_stop(struct virtio_device *device, struct virtqueue *queue)
{
    (void)device; /* nothing is ever in flight */
    queue->wake_at_ns = 0;
}

static void rng_reset(struct virtio_device *device)
{
    container_of(device, struct rng, device)->retry_at_ns = 0;
}

static const struct virtio_device_class rng_class = {
    .name = "rng",
    .id = VIRTIO_ID_ENTROPY,
    .queues_max = 1,
    .features = rng_features,
    .run = rng_serve,
    .wake = rng_serve,
    .queue_stop = rng_queue_stop,
    .reset = rng_reset,
};

void rng_init(struct rng *rng, struct virtqueue *queue, struct entropy_source *source, uint64_t rate_bytes_per_s)
{
    *rng = (struct rng){.source = source};
    virtio_device_init(&rng->device, &rng_class, queue, 1);
    rng->device.offers_in_order = true; /* no request overtakes another */
    rate_limit_init(&rng->rate, rate_bytes_per_s, RNG_RATE_BURST_NS);
}

size_t rng_request_bytes(void)
{
    return 0;
}
