/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation. Tokens wait in a ring until reap takes them, in order. head and tail run freely; the ring's
 * size is a power of two.
 */
#include "platform/linux/blk_null.h"

#include <errno.h>
#include <stdlib.h>

#include "platform/linux/blk_backend.h"
#include "platform/linux/clock.h"
#include "platform/linux/queue_memory.h"

struct blk_null_queue {
    _Alignas(QUEUE_ALIGNMENT) uint64_t *tokens; /* [depth] */
    uint32_t depth;                             /* a power of two */
    uint32_t head, tail;
    _Atomic uint64_t operations;
};

static struct blk_null_queue *null_queue(struct blk_port *port, unsigned queue)
{
    struct blk_null *null = container_of(port, struct blk_null, port);
    ASSERT(queue < null->queue_count);
    return &null->queues[queue];
}

static unsigned null_submit(struct blk_port *port, unsigned index, const struct blk_io *ios, unsigned count)
{
    struct blk_null_queue *queue = null_queue(port, index);
    uint32_t taken = u32_min(count, queue->depth - (queue->head - queue->tail));
    for (uint32_t i = 0; i < taken; i++)
        queue->tokens[(queue->head + i) & (queue->depth - 1)] = ios[i].token;
    queue->head += taken;
    count_add(&queue->operations, taken);
    return taken;
}

static unsigned null_reap(struct blk_port *port, unsigned index, struct blk_completion *completions, unsigned max)
{
    struct blk_null_queue *queue = null_queue(port, index);
    uint32_t given = u32_min(max, queue->head - queue->tail);
    for (uint32_t i = 0; i < given; i++) {
        completions[i].token = queue->tokens[(queue->tail + i) & (queue->depth - 1)];
        completions[i].result = 0;
    }
    queue->tail += given;
    return given;
}

static void null_cancel(struct blk_port *port, unsigned index)
{
    (void)port;
    (void)index; /* everything is done already */
}

static uint64_t null_now_ns(struct blk_port *port)
{
    (void)port;
    return clock_now_ns();
}

static const struct blk_port_class null_class = {
    .submit = null_submit,
    .reap = null_reap,
    .cancel = null_cancel,
    .now_ns = null_now_ns,
};

int blk_null_open(struct blk_null *null, unsigned queues, unsigned depth)
{
    uint32_t slots = 1;
    while (slots < depth)
        slots *= 2;

    *null = (struct blk_null){.port.class = &null_class};
    null->queues = queue_memory(queues, sizeof(struct blk_null_queue));
    if (null->queues == NULL)
        return -ENOMEM;
    for (; null->queue_count < queues; null->queue_count++) {
        struct blk_null_queue *queue = &null->queues[null->queue_count];
        queue->depth = slots;
        queue->tokens = queue_memory_untouched(slots, sizeof(uint64_t));
        if (queue->tokens == NULL) {
            blk_null_close(null);
            return -ENOMEM;
        }
    }
    return 0;
}

void blk_null_close(struct blk_null *null)
{
    for (unsigned i = 0; i < null->queue_count; i++)
        free(null->queues[i].tokens);
    free(null->queues);
    *null = (struct blk_null){0};
}

bool blk_null_ready(const struct blk_null *null, unsigned queue)
{
    ASSERT(queue < null->queue_count);
    return null->queues[queue].head != null->queues[queue].tail;
}

void blk_null_count(const struct blk_null *null, struct blk_backend_counters *ret_counters)
{
    *ret_counters = (struct blk_backend_counters){0};
    for (unsigned i = 0; i < null->queue_count; i++)
        ret_counters->operations += count_get(&null->queues[i].operations);
}
