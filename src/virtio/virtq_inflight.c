/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * The record is for a successor after this process was killed at any instruction. The processor keeps its own stores in
 * order for whoever looks after its death, so compiler barriers suffice. A pop sets inflight; a push links the request
 * into the batch; a publication shows the index, and only then clears inflight along the batch, and copies the index
 * into the record. Between the last two the indices differ, and the successor clears the batch again.
 *
 * What was in flight is popped anew in the order of the counters. The place in that order is a counter and a head, not
 * a list: there is no memory for one, and the record is a stranger's.
 *
 * Limits
 *
 * To find the next of n recorded requests takes a walk over the record, n walks in all: start-up after a crash, at most
 * 32768 entries each. What a pop may spend on them is bounded (virtq_recorded_max). A front end that writes into the
 * record while it is in use harms its own requests only: links and heads are checked, walks are bounded.
 */
#include "virtio/virtq_inflight.h"

#include <errno.h>

/* Clear a batch. Done twice it does no harm, which is what a crash in the middle of it needs. -EPROTO: bad links. */
static int clear_batch(struct virtq_record_split *inflight, uint32_t size, uint16_t count, uint16_t used_index)
{
    uint32_t head = __atomic_load_n(&inflight->last_batch_head, __ATOMIC_RELAXED);
    for (uint32_t left = count; left > 0; left--) {
        if (head >= size)
            return -EPROTO;
        struct virtq_record_split_entry *desc = &inflight->desc[index_mask(head, size)];
        desc->inflight = 0;
        head = __atomic_load_n(&desc->next, __ATOMIC_RELAXED);
    }
    compiler_barrier();
    inflight->used_index = used_index;
    return 0;
}

void virtq_inflight_shown(struct virtqueue *queue, uint16_t count, uint16_t used_index)
{
    compiler_barrier();
    /* A record that the front end has spoilt meanwhile serves nobody; requests go on. */
    (void)clear_batch(queue->inflight, queue->config.size, count, used_index);
}

/* Count what the record says is in flight, and find the counter that follows theirs. -EPROTO: it is no record. */
static int count_recorded(const struct virtq_record_split *inflight, uint32_t size, uint32_t *ret_count,
                          uint64_t *ret_counter)
{
    uint32_t count = 0;
    uint64_t next_counter = 0;
    for (uint32_t head = 0; head < size; head++) {
        uint8_t flag = __atomic_load_n(&inflight->desc[head].inflight, __ATOMIC_RELAXED);
        uint64_t counter = __atomic_load_n(&inflight->desc[head].counter, __ATOMIC_RELAXED);
        if (flag == 0)
            continue;
        if (flag != 1 || counter == UINT64_MAX)
            return -EPROTO;
        count++;
        if (counter >= next_counter)
            next_counter = counter + 1;
    }
    *ret_count = count;
    *ret_counter = next_counter;
    return 0;
}

static void make_ready(struct virtq_record_split *inflight, uint32_t size, uint16_t used_index)
{
    inflight->desc_num = (uint16_t)size;
    inflight->last_batch_head = 0;
    inflight->used_index = used_index;
    compiler_barrier();
    inflight->version = VIRTQ_RECORD_VERSION;
}

int virtq_inflight_begin(struct virtqueue *queue, uint16_t used_index)
{
    struct virtq_record_split *inflight = queue->inflight;
    uint32_t size = queue->config.size;
    uint16_t version = __atomic_load_n(&inflight->version, __ATOMIC_RELAXED);
    if (version == 0) {
        make_ready(inflight, size, used_index);
        return 0;
    }
    if (version != VIRTQ_RECORD_VERSION)
        return virtqueue_wrong(queue, "an in-flight record of an unknown version");

    uint32_t count;
    uint64_t counter;
    int r = count_recorded(inflight, size, &count, &counter);
    if (r < 0)
        return virtqueue_wrong(queue, "an in-flight record with impossible entries");
    uint16_t batch = (uint16_t)(used_index - __atomic_load_n(&inflight->used_index, __ATOMIC_RELAXED));
    if (count == 0) {
        /* Nothing to take up. A driver that began its ring anew shows here as an index that does not fit. */
        make_ready(inflight, size, used_index);
    } else if (batch != 0) {
        if (batch > size)
            return virtqueue_wrong(queue, "an in-flight record of another ring");
        r = clear_batch(inflight, size, batch, used_index);
        if (r == 0)
            r = count_recorded(inflight, size, &count, &counter);
        if (r < 0)
            return virtqueue_wrong(queue, "an in-flight record whose last batch makes no sense");
    }
    queue->resubmit_left = count;
    queue->inflight_counter = counter;
    queue->next_avail = (uint16_t)(used_index + count);
    return 0;
}

bool virtq_inflight_next(const struct virtqueue *queue, uint16_t *ret_head, uint64_t *ret_counter)
{
    bool found = false;
    uint32_t best_head = 0;
    uint64_t best = 0;
    for (uint32_t head = 0; head < queue->config.size; head++) {
        const struct virtq_record_split_entry *desc = &virtq_inflight_record(queue)->desc[head];
        if (__atomic_load_n(&desc->inflight, __ATOMIC_RELAXED) != 1)
            continue;
        uint64_t counter = __atomic_load_n(&desc->counter, __ATOMIC_RELAXED);
        if (counter < queue->resubmit_counter || (counter == queue->resubmit_counter && head < queue->resubmit_head))
            continue;
        if (!found || counter < best) {
            found = true;
            best = counter;
            best_head = head;
        }
    }
    *ret_head = (uint16_t)best_head;
    *ret_counter = best;
    return found;
}

void virtq_inflight_taken(struct virtqueue *queue, uint16_t head, uint64_t counter)
{
    queue->resubmit_counter = counter;
    queue->resubmit_head = head + 1u;
    queue->resubmit_left--;
}

void virtq_inflight_put_back(struct virtqueue *queue, uint16_t head)
{
    queue->resubmit_counter = __atomic_load_n(&virtq_inflight_record(queue)->desc[head].counter, __ATOMIC_RELAXED);
    queue->resubmit_head = head;
    queue->resubmit_left++;
}
