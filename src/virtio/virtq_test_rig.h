/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * For the tests of this folder: guest memory in two linear regions with a gap, a fake driver whose ring lies in the
 * first, an arena and a queue. A test asks for what it needs with struct rig_options and gets one rig at a time.
 */
#ifndef VIRTIO_VIRTQ_TEST_RIG_H
#define VIRTIO_VIRTQ_TEST_RIG_H

#include "fake_driver.h"
#include "virtio/virtqueue.h"

#define RIG_LOW_BASE UINT64_C(0x10000)
#define RIG_LOW_BYTES UINT64_C(0x200000)
#define RIG_RING RIG_LOW_BASE
/* Buffers and tables begin here: behind the longest ring. */
#define RIG_DATA (RIG_LOW_BASE + UINT64_C(0x100000))
/* Adjacent in guest addresses, not in this process. */
#define RIG_HIGH_BASE (RIG_LOW_BASE + RIG_LOW_BYTES)
#define RIG_HIGH_BYTES UINT64_C(0x10000)
#define RIG_LOG_BYTES 64

struct rig_options {
    uint32_t size;  /* 0: 16 */
    uint16_t slots; /* 0: as many as the ring has, at most VIRTQ_SLOTS_MAX */
    uint16_t base;  /* where to start, and the ring is as if it had been used so far; packed: a position */
    bool packed;
    bool odd_lap; /* packed: a lap whose wrap counter is 0 */
    bool in_order;
    bool event_idx;
    bool no_indirect;
    bool log;
    bool inflight;
    bool stopped; /* do not start */
};

struct rig {
    struct guest_memory memory;
    struct fake_memory low;
    struct fake_driver driver;
    struct virtq_arena arena;
    struct virtqueue queue;
    struct virtqueue_config config;
    struct dirty_log log;
    union {
        void *inflight; /* NULL: none */
        struct virtq_record_split *split_record;
        struct virtq_record_packed *packed_record;
    };
    void *arena_block;
    uint8_t log_bits[RIG_LOG_BYTES];
};

extern struct rig rig;

/* Build the rig; undoes the one before. Ends the test when something cannot be made. */
void rig_build(const struct rig_options *options);
void rig_done(void);

/* Start (again) with the configuration at hand. */
int rig_start(void);

/* The byte at guest address @address. */
uint8_t *rig_byte(uint64_t address);

/* Offer one chain of @count pieces and show it. Returns its head. */
uint16_t rig_offer(const struct fake_piece *pieces, unsigned count);

/* Pop exactly one chain, or end the test. */
struct virtq_chain *rig_pop(void);

/* Push and publish one chain. */
bool rig_push(struct virtq_chain *chain);

/* The driver gets exactly @count requests back now. */
void rig_take_used(unsigned count);

/* What virtqueue_base says of a ring that began at 0, after @places of the available ring (packed: descriptors). */
uint32_t rig_base(uint32_t places);

/* The ring, as it is, goes on at @address; config and driver say so. What was there before is all ones. */
void rig_move_ring(uint64_t address);

/* Is the page of guest address @address marked? Forgets nothing. */
bool rig_marked(uint64_t address);
void rig_clear_log(void);

/* In a table of tests: @test for each layout. rig_for_packed tells it which one it is. */
#define RIG_BOTH_LAYOUTS(test, teardown)                                                                               \
    RIG_LAYOUT(test, "_split", teardown, NULL), RIG_LAYOUT(test, "_packed", teardown, &rig)
#define RIG_LAYOUT(test, suffix, teardown, layout)                                                                     \
    {                                                                                                                  \
        .name = #test suffix, .test_func = (test), .teardown_func = (teardown), .initial_state = (layout)              \
    }

static inline bool rig_for_packed(void **state)
{
    return *state != NULL;
}

#endif
