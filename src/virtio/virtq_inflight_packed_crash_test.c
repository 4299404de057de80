/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The in-flight record of a packed ring when the process dies between any two stores. Each step of a life is cut into
 * the stores that it makes, in the order that vhost-user's text asks for ("Inflight I/O tracking"). After each of them
 * a successor starts on what the ring and the record say then, and every request must come back to the driver once:
 * neither twice, nor never, nor before somebody has served it. The successor may die while it starts, too.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "virtio/virtq_test_rig.h"

#define RING_SIZE_MAX 8 /* and so of buffer ids */
#define STORES_MAX 64

/* All that outlives the process, and what the driver knows. */
struct world {
    uint8_t record[512];
    uint8_t ring[256];
    struct fake_driver driver;
};

struct store {
    void *at;
    size_t bytes;
};

/* What a call changes, store by store. */
struct step {
    struct world before, after;
    struct store stores[STORES_MAX];
    unsigned count;
};

static struct {
    size_t record_bytes, ring_bytes;
    bool served[RING_SIZE_MAX]; /* by buffer id: somebody gave it back, and the driver has not looked yet */
    struct virtq_arena arena;   /* the successor's */
    void *arena_block;
} my;

static void save(struct world *world)
{
    memcpy(world->record, rig.inflight, my.record_bytes);
    memcpy(world->ring, rig.driver.ring, my.ring_bytes);
    world->driver = rig.driver;
}

static void load(const struct world *world)
{
    memcpy(rig.inflight, world->record, my.record_bytes);
    memcpy(rig.driver.ring, world->ring, my.ring_bytes);
    rig.driver = world->driver;
}

static void given(uint32_t size)
{
    rig_build(&(struct rig_options){.packed = true, .size = size, .inflight = true});
    my.record_bytes = virtq_record_bytes(true, size);
    my.ring_bytes = fake_driver_ring_bytes(size);
    assert_true(my.record_bytes <= sizeof(((struct world *)NULL)->record) &&
                my.ring_bytes <= sizeof(((struct world *)NULL)->ring));
    size_t bytes = (size_t)align_up(virtq_arena_bytes(&rig.arena.shape), 64);
    free(my.arena_block);
    my.arena_block = aligned_alloc(64, bytes);
    assert_non_null(my.arena_block);
}

/* ---- the driver ---- */

static void offer(unsigned descriptors)
{
    struct fake_piece pieces[3];
    uint16_t id = rig.driver.free_head;
    for (unsigned i = 0; i < descriptors; i++)
        pieces[i] = (struct fake_piece){.address = RIG_DATA + id * 64u + i, .length = 1, .writable = i > 0};
    assert_int_equal(rig_offer(pieces, descriptors), id);
}

/* What the driver gets, it had asked for, and somebody has served it. */
static void take_served(void)
{
    uint32_t id, length;
    uint16_t lengths[RING_SIZE_MAX];
    for (;;) {
        memcpy(lengths, rig.driver.chain_length, sizeof(lengths));
        if (!fake_driver_get(&rig.driver, &id, &length))
            return;
        assert_true(lengths[id] > 0);
        assert_true(my.served[id]);
        my.served[id] = false;
    }
}

/* ---- the successor ---- */

static void check_is_what_was_offered(const struct virtq_chain *chain)
{
    assert_true(chain->head < rig.driver.size);
    assert_int_equal(chain->ring_count, rig.driver.chain_length[chain->head]);
    assert_int_equal(chain->readable_count + chain->writable_count, chain->ring_count);
    for (unsigned i = 0; i < chain->ring_count; i++)
        assert_ptr_equal(chain->iov[i].base, rig_byte(RIG_DATA + chain->head * 64u + i));
}

/* Serve all that there is, one by one, from the youngest or the oldest on. */
static unsigned serve_all(struct virtqueue *queue, bool youngest_first)
{
    struct virtq_chain *chains[RING_SIZE_MAX];
    int count = virtqueue_pop(queue, chains, RING_SIZE_MAX);
    assert_in_range(count, 0, RING_SIZE_MAX);
    bool resubmitted = true;
    for (int i = 0; i < count; i++) {
        check_is_what_was_offered(chains[i]);
        assert_true(resubmitted || !chains[i]->resubmitted);
        resubmitted = chains[i]->resubmitted;
    }
    for (int i = 0; i < count; i++) {
        struct virtq_chain *chain = chains[youngest_first ? count - 1 - i : i];
        my.served[chain->head] = true;
        virtqueue_push(queue, &chain, 1);
        (void)virtqueue_publish(queue);
        take_served();
    }
    return (unsigned)count;
}

static void start_successor(struct virtqueue *queue)
{
    const struct virtq_arena_shape shape = rig.arena.shape;
    struct virtqueue_config config = rig.config;
    memset(my.arena_block, 0, virtq_arena_bytes(&shape));
    virtq_arena_init(&my.arena, &shape, my.arena_block);
    virtqueue_init(queue, &my.arena);
    config.base = virtqueue_base_initial(config.features); /* nobody knows it */
    assert_int_equal(virtqueue_start(queue, &config, &rig.memory, NULL, rig.inflight), 0);
}

static void check_successor(bool youngest_first)
{
    struct virtqueue queue;
    start_successor(&queue);
    take_served();
    while (serve_all(&queue, youngest_first) > 0)
        ;
    assert_false(queue.broken);
    assert_int_equal(rig.driver.free_count, rig.driver.size);
    for (unsigned i = 0; i < rig.driver.size; i++)
        assert_int_equal(rig.packed_record->desc[i].inflight, 0);
    /* And life goes on, over a lap. */
    for (unsigned i = 0; i < 5; i++) {
        offer(3);
        assert_int_equal(serve_all(&queue, false), 1);
    }
    assert_int_equal(rig.driver.free_count, rig.driver.size);
    assert_true(virtqueue_stop(&queue));
}

/* ---- deaths ---- */

static void begin_step(struct step *step)
{
    save(&step->before);
    step->count = 0;
}

static void will_store(struct step *step, void *at, size_t bytes)
{
    assert_true(step->count < STORES_MAX);
    step->stores[step->count++] = (struct store){at, bytes};
}

#define WILL_STORE(step, field) will_store(step, &(field), sizeof(field))

/* Where a store's bytes are in what was saved. */
static const void *saved(const struct world *world, const struct store *store)
{
    const uint8_t *at = store->at, *record = rig.inflight, *ring = (const uint8_t *)rig.driver.ring;
    if (at >= record && at < record + my.record_bytes)
        return world->record + (at - record);
    return world->ring + (at - ring);
}

/*
 * @step has been made. Go back, and make it store by store; before and after each of them the process dies. Store
 * number
 * @shows is the one after which the driver sees what was @served.
 */
static void end_step(struct step *step, unsigned shows, const bool *served, void (*after_death)(const bool *served))
{
    static const bool none[RING_SIZE_MAX];
    save(&step->after);
    load(&step->before);
    for (unsigned i = 0; i <= step->count; i++) {
        after_death(i > shows ? served : none);
        if (i < step->count)
            memcpy(step->stores[i].at, saved(&step->after, &step->stores[i]), step->stores[i].bytes);
    }
    /* These were all the stores that there are. */
    assert_memory_equal(rig.inflight, step->after.record, my.record_bytes);
    assert_memory_equal(rig.driver.ring, step->after.ring, my.ring_bytes);
    load(&step->after);
    memset(my.served, 0, sizeof(my.served));
}

/* A successor serves what there is, in either order; what it changes is undone. */
static void live_on(const bool *served)
{
    static struct world now;
    save(&now);
    for (unsigned order = 0; order < 2; order++) {
        memcpy(my.served, served, sizeof(my.served));
        check_successor(order == 1);
        load(&now);
    }
}

static const bool *served_before;

static void live_on_after_two_deaths(const bool *served)
{
    (void)served;
    live_on(served_before);
}

/* A successor dies at each store of its start, and another one comes; what they change is undone. */
static void die_again(const bool *served)
{
    static struct world now;
    static struct step start;
    struct virtq_record_packed *record = rig.packed_record;
    struct virtqueue queue;
    save(&now);
    begin_step(&start);
    start_successor(&queue);
    /* Of a batch that was not shown, or of one that was: the other's fields do not change. */
    WILL_STORE(&start, record->used_index);
    WILL_STORE(&start, record->used_wrap_counter);
    WILL_STORE(&start, record->free_head);
    WILL_STORE(&start, record->old_free_head);
    WILL_STORE(&start, record->old_used_index);
    WILL_STORE(&start, record->old_used_wrap_counter);
    for (unsigned i = 0; i < rig.driver.size; i++)
        WILL_STORE(&start, record->desc[i].inflight);
    for (unsigned i = 0; i < rig.driver.size; i++)
        WILL_STORE(&start, rig.driver.ring[i].flags);
    WILL_STORE(&start, *rig.driver.device_event);
    served_before = served;
    end_step(&start, UINT32_MAX, served, live_on_after_two_deaths);
    load(&now);
}

static void die(const bool *served)
{
    live_on(served);
    die_again(served);
}

/* ---- the life that ends ---- */

static struct step life;
static const bool none_served[RING_SIZE_MAX];

static struct virtq_chain *step_pop(void)
{
    struct virtq_record_packed *record = rig.packed_record;
    begin_step(&life);
    uint16_t first = record->free_head;
    struct virtq_chain *chain = rig_pop();
    assert_int_equal(chain->record, first);
    WILL_STORE(&life, record->desc[first].counter);
    WILL_STORE(&life, record->desc[first].inflight);
    uint16_t at = first;
    for (unsigned i = 0; i < chain->ring_count; i++) {
        if (i + 1u == chain->ring_count)
            WILL_STORE(&life, record->desc[first].last);
        WILL_STORE(&life, record->desc[first].num);
        WILL_STORE(&life, record->desc[at].address);
        WILL_STORE(&life, record->desc[at].length);
        WILL_STORE(&life, record->desc[at].flags);
        WILL_STORE(&life, record->desc[at].id);
        at = record->desc[at].next;
    }
    WILL_STORE(&life, record->free_head);
    WILL_STORE(&life, record->old_free_head);
    end_step(&life, UINT32_MAX, none_served, die);
    return chain;
}

static void step_unpop(struct virtq_chain *chain)
{
    struct virtq_record_packed *record = rig.packed_record;
    begin_step(&life);
    uint16_t first = chain->record;
    virtqueue_unpop(&rig.queue, &chain, 1);
    WILL_STORE(&life, record->desc[record->desc[first].last].next);
    WILL_STORE(&life, record->free_head);
    WILL_STORE(&life, record->old_free_head);
    WILL_STORE(&life, record->desc[first].inflight);
    end_step(&life, UINT32_MAX, none_served, die);
}

/* A batch: pushed, then shown. */
static void step_push_and_publish(struct virtq_chain **chains, unsigned count)
{
    struct virtq_record_packed *record = rig.packed_record;
    bool served[RING_SIZE_MAX] = {false};
    uint16_t entries[4];
    uint16_t first_place = rig.queue.next_used;
    for (unsigned i = 0; i < count; i++) {
        begin_step(&life);
        uint16_t place = rig.queue.next_used;
        entries[i] = chains[i]->record;
        served[chains[i]->head] = true;
        virtqueue_push(&rig.queue, &chains[i], 1);
        if (i > 0)
            will_store(&life, &rig.driver.ring[place].length, 8);
        WILL_STORE(&life, record->desc[record->desc[entries[i]].last].next);
        WILL_STORE(&life, record->free_head);
        end_step(&life, UINT32_MAX, none_served, die);
    }
    begin_step(&life);
    (void)virtqueue_publish(&rig.queue);
    WILL_STORE(&life, record->used_index);
    WILL_STORE(&life, record->used_wrap_counter);
    will_store(&life, &rig.driver.ring[first_place].length, 8);
    for (unsigned i = count; i > 0; i--)
        WILL_STORE(&life, record->desc[entries[i - 1]].inflight);
    WILL_STORE(&life, record->old_free_head);
    WILL_STORE(&life, record->old_used_index);
    WILL_STORE(&life, record->old_used_wrap_counter);
    end_step(&life, 2, served, die);
    memcpy(my.served, served, sizeof(served));
    take_served();
}

static void whenever_the_process_dies_every_request_comes_back_once(void **state)
{
    (void)state;
    for (uint32_t size = 6; size <= RING_SIZE_MAX; size++) {
        given(size);
        for (unsigned round = 0; round < 12; round++) {
            struct virtq_chain *chains[4];
            offer(1 + round % 3);
            offer(1);
            offer(2);
            for (unsigned i = 0; i < 3; i++)
                chains[i] = step_pop();
            step_unpop(chains[2]);
            struct virtq_chain *batch[2] = {chains[1], chains[0]};
            step_push_and_publish(batch, 2);
            offer(3);
            chains[2] = step_pop();
            chains[3] = step_pop();
            step_push_and_publish(chains + 3, 1);
            step_push_and_publish(chains + 2, 1);
        }
        assert_int_equal(rig.driver.free_count, size);
    }
}

/* All of the ring in one batch: its end is its beginning, a lap on. */
static void a_batch_of_the_whole_ring_comes_back_once_too(void **state)
{
    (void)state;
    given(6);
    for (unsigned round = 0; round < 3; round++) {
        struct virtq_chain *chains[3];
        for (unsigned i = 0; i < 3; i++) {
            offer(1 + i);
            chains[i] = step_pop();
        }
        step_push_and_publish(chains, 3);
        offer(1 + round);
        chains[0] = step_pop();
        step_push_and_publish(chains, 1);
    }
}

static int teardown(void **state)
{
    (void)state;
    free(my.arena_block);
    my.arena_block = NULL;
    rig_done();
    return 0;
}

#define TEST(name) cmocka_unit_test_teardown(name, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(whenever_the_process_dies_every_request_comes_back_once),
        TEST(a_batch_of_the_whole_ring_comes_back_once_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
