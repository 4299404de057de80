/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "virtio/virtq_test_rig.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdlib.h>
#include <cmocka.h>

struct rig rig;

static uint8_t *low_bytes, *high_bytes;

/* No byte more than asked for, so that a sanitizer sees the first one behind. */
static void *zeroed(size_t bytes)
{
    void *block = aligned_alloc(64, (size_t)align_up(bytes, 64));
    assert_non_null(block);
    memset(block, 0, bytes);
    return block;
}

static void build_memory(void)
{
    low_bytes = zeroed(RIG_LOW_BYTES);
    high_bytes = zeroed(RIG_HIGH_BYTES);
    guest_memory_init(&rig.memory, NULL);
    const struct guest_region low = {.guest_base = RIG_LOW_BASE, .size = RIG_LOW_BYTES, .host = low_bytes};
    const struct guest_region high = {.guest_base = RIG_HIGH_BASE, .size = RIG_HIGH_BYTES, .host = high_bytes};
    assert_int_equal(guest_memory_add(&rig.memory, &low), 0);
    assert_int_equal(guest_memory_add(&rig.memory, &high), 0);
    rig.low = (struct fake_memory){.guest_base = RIG_LOW_BASE, .size = RIG_LOW_BYTES, .host = low_bytes};
}

static void move_ring(uint16_t base)
{
    rig.driver.next_avail = base;
    rig.driver.next_used = base;
    rig.driver.seen_used = base;
    fake_driver_set_avail_index(&rig.driver, base);
    rig.driver.used->index = cpu_to_le16(base);
}

/* Used descriptors of this lap before @base, and of the one before from there on (2.8.1). */
static void move_packed_ring(uint16_t base, bool wrap)
{
    uint16_t avail = wrap ? VRING_PACKED_DESC_F_AVAIL : VRING_PACKED_DESC_F_USED;
    uint16_t used = wrap ? VRING_PACKED_DESC_F_AVAIL | VRING_PACKED_DESC_F_USED : 0;
    rig.driver.next_avail = base;
    rig.driver.next_used = base;
    rig.driver.avail_mark = avail;
    rig.driver.used_mark = used;
    for (uint32_t i = 0; i < rig.driver.size; i++) {
        uint16_t flags = i < base ? used : used ^ (VRING_PACKED_DESC_F_AVAIL | VRING_PACKED_DESC_F_USED);
        rig.driver.ring[i].flags = cpu_to_le16(flags);
    }
}

static uint64_t rig_features(const struct rig_options *options)
{
    uint64_t features = VIRTIO_F_VERSION_1;
    if (!options->no_indirect)
        features |= VIRTIO_F_INDIRECT_DESC;
    if (options->event_idx)
        features |= VIRTIO_F_EVENT_IDX;
    if (options->packed)
        features |= VIRTIO_F_RING_PACKED;
    if (options->in_order)
        features |= VIRTIO_F_IN_ORDER;
    return features;
}

void rig_build(const struct rig_options *options)
{
    rig_done();
    uint32_t size = options->size != 0 ? options->size : 16;
    build_memory();
    uint64_t features = rig_features(options);
    fake_driver_init(&rig.driver, &rig.low, RIG_RING, size, features);
    if (options->packed)
        move_packed_ring(options->base, !options->odd_lap);
    else
        move_ring(options->base);

    const struct virtq_arena_shape shape = {
        .slots = options->slots != 0 ? options->slots : (uint16_t)u32_min(size, VIRTQ_SLOTS_MAX),
        .medium_runs = 2,
        .long_runs = 1,
        .request_bytes = 24,
    };
    rig.arena_block = zeroed(virtq_arena_bytes(&shape));
    virtq_arena_init(&rig.arena, &shape, rig.arena_block);
    virtqueue_init(&rig.queue, &rig.arena);

    rig.config = fake_driver_config(&rig.driver, features);
    rig.config.base = options->base;
    if (options->packed)
        rig.config.base = VIRTQ_BASE_PACKED(options->base, !options->odd_lap) * 0x10001u;
    if (options->log) {
        rig.log = (struct dirty_log){.bits = rig.log_bits, .size_bytes = RIG_LOG_BYTES};
        rig.config.used_log = true;
        rig.config.used_log_address = rig.driver.used_address;
    }
    if (options->inflight)
        rig.inflight = calloc(1, virtq_record_bytes(options->packed, size));
    if (!options->stopped)
        assert_int_equal(rig_start(), 0);
}

void rig_done(void)
{
    free(low_bytes);
    free(high_bytes);
    free(rig.arena_block);
    free(rig.inflight);
    low_bytes = NULL;
    high_bytes = NULL;
    memset(&rig, 0, sizeof(rig));
}

int rig_start(void)
{
    return virtqueue_start(&rig.queue, &rig.config, &rig.memory, rig.log.bits != NULL ? &rig.log : NULL, rig.inflight);
}

uint8_t *rig_byte(uint64_t address)
{
    if (address >= RIG_HIGH_BASE)
        return high_bytes + (address - RIG_HIGH_BASE);
    return low_bytes + (address - RIG_LOW_BASE);
}

uint16_t rig_offer(const struct fake_piece *pieces, unsigned count)
{
    int head = fake_driver_add(&rig.driver, pieces, count);
    assert_true(head >= 0);
    (void)fake_driver_show(&rig.driver);
    return (uint16_t)head;
}

struct virtq_chain *rig_pop(void)
{
    struct virtq_chain *chain = NULL;
    assert_int_equal(virtqueue_pop(&rig.queue, &chain, 1), 1);
    return chain;
}

bool rig_push(struct virtq_chain *chain)
{
    virtqueue_push(&rig.queue, &chain, 1);
    return virtqueue_publish(&rig.queue);
}

void rig_take_used(unsigned count)
{
    uint32_t head, length;
    for (unsigned i = 0; i < count; i++)
        assert_true(fake_driver_get(&rig.driver, &head, &length));
    assert_false(fake_driver_get(&rig.driver, &head, &length));
}

uint32_t rig_base(uint32_t places)
{
    if (!rig.driver.packed)
        return places;
    bool wrap = places / rig.driver.size % 2 == 0;
    return VIRTQ_BASE_PACKED(places % rig.driver.size, wrap) * 0x10001u;
}

void rig_move_ring(uint64_t address)
{
    uint64_t bytes = fake_driver_ring_bytes(rig.driver.size);
    uint64_t old = rig.config.desc_address;
    memcpy(rig_byte(address), rig_byte(old), bytes);
    memset(rig_byte(old), 0xff, bytes);
    rig.config.desc_address = address;
    rig.config.avail_address += address - old;
    rig.config.used_address += address - old;
    void *desc = rig_byte(rig.config.desc_address);
    void *avail = rig_byte(rig.config.avail_address);
    void *used = rig_byte(rig.config.used_address);
    if (rig.driver.packed) {
        rig.driver.ring = desc;
        rig.driver.driver_event = avail;
        rig.driver.device_event = used;
    } else {
        rig.driver.desc = desc;
        rig.driver.avail = avail;
        rig.driver.used = used;
    }
}

bool rig_marked(uint64_t address)
{
    uint64_t page = address / DIRTY_LOG_PAGE_BYTES;
    assert_true(page / 8 < RIG_LOG_BYTES);
    return (rig.log_bits[page / 8] >> page % 8 & 1) != 0;
}

void rig_clear_log(void)
{
    memset(rig.log_bits, 0, sizeof(rig.log_bits));
}
