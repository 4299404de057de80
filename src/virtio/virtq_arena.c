/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * One block, divided once: chains, the device's requests, pieces with their guest addresses, and three stacks of free
 * numbers. A run is named by one number: the slot's own short run has the slot's number, the medium runs follow, then
 * the long ones. Taking and giving back are in virtq_layout.h, inline.
 *
 * Limits
 *
 * Only the stacks are written here. Chains, requests and pieces are first touched by the requests that use them, lowest
 * slots first, so what a guest never needs never becomes resident.
 */
#include "virtio/virtq_arena.h"

#include "virtio/virtqueue.h"

/* Each part starts on a cache line of its own. */
#define PART_ALIGN 64

struct arena_layout {
    size_t chains, requests, iov, addresses, order, free_slots, free_medium, free_long;
    size_t request_stride;
    size_t bytes;
};

static size_t pieces_in(const struct virtq_arena_shape *shape)
{
    return (size_t)shape->slots * VIRTQ_SHORT_RUN_PIECES + (size_t)shape->medium_runs * VIRTQ_MEDIUM_RUN_PIECES +
           (size_t)shape->long_runs * VIRTQ_LONG_RUN_PIECES;
}

static size_t part(struct arena_layout *layout, size_t bytes)
{
    size_t at = layout->bytes;
    layout->bytes = (size_t)align_up(at + bytes, PART_ALIGN);
    return at;
}

/* A power of two: places go round by a mask. */
static uint32_t order_places(const struct virtq_arena_shape *shape)
{
    uint32_t places = 1;
    while (places < shape->slots)
        places *= 2;
    return places;
}

static struct arena_layout arena_layout(const struct virtq_arena_shape *shape)
{
    ASSERT(shape->slots >= VIRTQ_SLOTS_MIN && shape->slots <= VIRTQ_SLOTS_MAX);
    ASSERT(shape->medium_runs >= 1 && shape->medium_runs <= VIRTQ_SLOTS_MAX);
    ASSERT(shape->long_runs >= 1 && shape->long_runs <= VIRTQ_SLOTS_MAX);
    ASSERT(shape->request_bytes <= VIRTQ_REQUEST_BYTES_MAX);

    struct arena_layout layout = {.bytes = 0};
    layout.request_stride = (size_t)align_up(shape->request_bytes, VIRTQ_REQUEST_ALIGN);
    layout.chains = part(&layout, shape->slots * sizeof(struct virtq_chain));
    layout.requests = part(&layout, shape->slots * layout.request_stride);
    layout.iov = part(&layout, pieces_in(shape) * sizeof(struct guest_iovec));
    layout.addresses = part(&layout, pieces_in(shape) * sizeof(uint64_t));
    layout.order = part(&layout, order_places(shape) * sizeof(uint16_t));
    layout.free_slots = part(&layout, shape->slots * sizeof(uint16_t));
    layout.free_medium = part(&layout, shape->medium_runs * sizeof(uint16_t));
    layout.free_long = part(&layout, shape->long_runs * sizeof(uint16_t));
    return layout;
}

size_t virtq_arena_bytes(const struct virtq_arena_shape *shape)
{
    return arena_layout(shape).bytes;
}

/* The lowest number on top. */
static void fill_stack(uint16_t *stack, uint16_t count)
{
    for (uint16_t i = 0; i < count; i++)
        stack[i] = (uint16_t)(count - 1 - i);
}

void virtq_arena_init(struct virtq_arena *arena, const struct virtq_arena_shape *shape, void *block)
{
    ASSERT(is_aligned((uintptr_t)block, PART_ALIGN));
    struct arena_layout layout = arena_layout(shape);
    uint8_t *bytes = block;

    *arena = (struct virtq_arena){
        .shape = *shape,
        .chains = (void *)(bytes + layout.chains),
        .requests = bytes + layout.requests,
        .request_stride = layout.request_stride,
        .iov = (void *)(bytes + layout.iov),
        .addresses = (void *)(bytes + layout.addresses),
        .order = (void *)(bytes + layout.order),
        .order_mask = (uint16_t)(order_places(shape) - 1),
        .free_slots = (void *)(bytes + layout.free_slots),
        .free_medium = (void *)(bytes + layout.free_medium),
        .free_long = (void *)(bytes + layout.free_long),
        .free_slot_count = shape->slots,
        .free_medium_count = shape->medium_runs,
        .free_long_count = shape->long_runs,
    };
    fill_stack(arena->free_slots, shape->slots);
    fill_stack(arena->free_medium, shape->medium_runs);
    fill_stack(arena->free_long, shape->long_runs);
}
