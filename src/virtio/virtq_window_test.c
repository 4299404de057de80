/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The queue over memory that must be mapped before it is touched: nothing outside the windows is touched (or the test
 * dies), everything mapped is given back, and a mapping that is not to be had now is waited for.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "virtio/virtq_test_rig.h"
#include "window_access.h"

#define BASE UINT64_C(0x40000000)
#define SIZE UINT64_C(0x100000)
#define DATA (BASE + 0x40000)
#define TABLE (BASE + 0x20000)

static struct {
    struct window_access window;
    struct guest_memory memory;
    struct fake_memory side;
    struct fake_driver driver;
    struct virtq_arena arena;
    struct virtqueue queue;
    struct virtqueue_config config;
    void *block;
    bool open;
} my;

static void prepare(void **state, enum window_layout layout, uint32_t size)
{
    uint64_t features = VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC;
    if (rig_for_packed(state))
        features |= VIRTIO_F_RING_PACKED;
    window_access_open(&my.window, BASE, SIZE, layout);
    my.open = true;
    window_access_memory(&my.window, &my.memory);
    my.side = (struct fake_memory){.guest_base = BASE, .size = SIZE, .host = my.window.guest_side};
    fake_driver_init(&my.driver, &my.side, BASE, size, features);
    my.config = fake_driver_config(&my.driver, features);

    const struct virtq_arena_shape shape = {.slots = 8, .medium_runs = 1, .long_runs = 1};
    size_t bytes = (size_t)align_up(virtq_arena_bytes(&shape), 4096);
    my.block = aligned_alloc(4096, bytes);
    assert_non_null(my.block);
    memset(my.block, 0, bytes);
    virtq_arena_init(&my.arena, &shape, my.block);
    virtqueue_init(&my.queue, &my.arena);
}

static int start(void)
{
    return virtqueue_start(&my.queue, &my.config, &my.memory, NULL, NULL);
}

static void given(void **state, uint32_t size)
{
    prepare(state, WINDOW_SIDE_BY_SIDE, size);
    assert_int_equal(start(), 0);
}

/* Whatever a test left out goes back, the queue stops, and then nothing is mapped. */
static int teardown(void **state)
{
    (void)state;
    for (unsigned i = 0; i < my.arena.shape.slots; i++) {
        struct virtq_chain *chain = &my.arena.chains[i];
        if (chain->out)
            virtqueue_push(&my.queue, &chain, 1);
    }
    (void)virtqueue_publish(&my.queue);
    (void)virtqueue_stop(&my.queue);
    if (my.open)
        window_access_close(&my.window);
    free(my.block);
    memset(&my, 0, sizeof(my));
    return 0;
}

static struct virtq_chain *pop(void)
{
    struct virtq_chain *chain = NULL;
    assert_int_equal(virtqueue_pop(&my.queue, &chain, 1), 1);
    return chain;
}

static void the_ring_is_mapped_for_the_queues_life(void **state)
{
    prepare(state, WINDOW_SIDE_BY_SIDE, 1024);
    assert_int_equal(start(), 0);
    assert_true(window_access_readable(&my.window, my.config.desc_address));
    assert_true(window_access_readable(&my.window, my.config.avail_address));
    assert_int_equal(window_access_writable(&my.window, my.config.desc_address), rig_for_packed(state));
    assert_true(window_access_writable(&my.window, my.config.used_address + (rig_for_packed(state) ? 0 : 8000)));
    assert_true(virtqueue_stop(&my.queue));
    assert_int_equal(window_access_mapped(&my.window), 0);
}

static void a_ring_whose_pages_are_scattered_is_refused_and_not_kept(void **state)
{
    prepare(state, WINDOW_SCATTERED, 1024);
    assert_int_equal(start(), -EFAULT);
    assert_int_equal(window_access_mapped(&my.window), 0);
}

static void a_ring_that_cannot_be_mapped_leaves_nothing_mapped(void **state)
{
    static const int errors[] = {-EAGAIN, -ENOMEM, -EFAULT};
    prepare(state, WINDOW_SIDE_BY_SIDE, 1024);
    for (unsigned i = 0; i < ARRAY_SIZE(errors); i++) {
        window_access_refuse(&my.window, errors[i], 1);
        assert_int_equal(start(), errors[i]);
        assert_int_equal(window_access_mapped(&my.window), 0);
    }
    /* The descriptors fit, what follows does not. */
    for (unsigned room = 4; room < 6; room++) {
        my.window.mapping_max = room;
        assert_int_equal(start(), -ENOMEM);
        assert_int_equal(window_access_mapped(&my.window), 0);
    }
    my.window.mapping_max = 0;
    assert_int_equal(start(), 0);
}

static void a_chain_is_mapped_while_it_is_out_and_for_no_more_than_it_says(void **state)
{
    given(state, 16);
    size_t ring = window_access_mapped(&my.window);
    const struct fake_piece pieces[] = {{.address = DATA, .length = 16},
                                        {.address = DATA + 0x1000, .length = 0x2000, .writable = true},
                                        {.address = DATA + 0x5fff, .length = 1, .writable = true}};
    memcpy(window_access_guest(&my.window, DATA), "sixteen bytes ok", 16);
    assert_true(fake_driver_add(&my.driver, pieces, 3) >= 0);
    (void)fake_driver_show(&my.driver);
    struct virtq_chain *chain = pop();
    assert_int_equal(chain->writable_count, 3);
    assert_true(window_access_readable(&my.window, DATA));
    assert_false(window_access_writable(&my.window, DATA));
    assert_false(window_access_readable(&my.window, DATA + 0x3000));

    char header[16];
    assert_int_equal(virtq_chain_keep_tail(chain, 1), 0);
    assert_int_equal(virtq_chain_read(chain, header, 16), 16);
    assert_memory_equal(header, "sixteen bytes ok", 16);
    assert_int_equal(virtq_chain_write(chain, "x", 1), 1);
    const struct guest_iovec *iov;
    assert_int_equal(virtq_chain_writable_iov(chain, &iov), 2);
    memset(iov[1].base, 'y', iov[1].length);
    virtq_chain_write_tail(chain, "s");
    virtqueue_push(&my.queue, &chain, 1);
    assert_int_equal(window_access_mapped(&my.window), ring);
    assert_int_equal(*window_access_guest(&my.window, DATA + 0x1000), 'x');
    assert_int_equal(*window_access_guest(&my.window, DATA + 0x2fff), 'y');
    assert_int_equal(*window_access_guest(&my.window, DATA + 0x5fff), 's');
    (void)virtqueue_publish(&my.queue);
    assert_true(virtqueue_stop(&my.queue));
    assert_int_equal(window_access_mapped(&my.window), 0);
}

static void offer_table(unsigned count)
{
    static struct fake_piece pieces[VIRTQ_INDIRECT_MAX];
    for (unsigned i = 0; i < count; i++)
        pieces[i] = (struct fake_piece){.address = DATA + i * 0x80, .length = 0x80, .writable = i >= count / 2};
    assert_true(fake_driver_add_indirect(&my.driver, &my.side, TABLE + 0xff8, pieces, count) >= 0);
    (void)fake_driver_show(&my.driver);
}

static void a_table_is_mapped_only_while_it_is_read(void **state)
{
    given(state, 16);
    size_t ring = window_access_mapped(&my.window);
    offer_table(300);
    struct virtq_chain *chain = pop();
    assert_int_equal(chain->readable_count + chain->writable_count, 300);
    assert_false(window_access_readable(&my.window, TABLE + 0xff8));
    virtqueue_unpop(&my.queue, &chain, 1);
    assert_int_equal(window_access_mapped(&my.window), ring);
    chain = pop();
    virtqueue_push(&my.queue, &chain, 1);
    assert_int_equal(window_access_mapped(&my.window), ring);
}

static void a_translation_that_is_on_its_way_starves_the_pop_at_whatever_piece(void **state)
{
    given(state, 16);
    size_t ring = window_access_mapped(&my.window);
    offer_table(20);
    static const int errors[] = {-EAGAIN, -ENOMEM};
    for (unsigned i = 0; i < 2; i++) {
        struct virtq_chain *chain;
        window_access_refuse(&my.window, errors[i], 1);
        assert_int_equal(virtqueue_pop(&my.queue, &chain, 1), 0);
        assert_true(my.queue.starved && my.queue.unreachable);
        assert_int_equal(window_access_mapped(&my.window), ring);
        assert_int_equal(my.arena.free_slot_count, 8);
        assert_int_equal(my.arena.free_medium_count, 1);
    }
    /* Room for some pieces and not for all: each prefix is undone. */
    for (size_t room = 1; room < 20; room++) {
        struct virtq_chain *chain;
        my.window.mapping_max = ring + room;
        assert_int_equal(virtqueue_pop(&my.queue, &chain, 1), 0);
        assert_true(my.queue.starved);
        assert_int_equal(window_access_mapped(&my.window), ring);
        assert_int_equal(my.arena.free_medium_count, 1);
    }
    my.window.mapping_max = 0;
    (void)pop();
    assert_false(my.queue.starved || my.queue.unreachable);
}

static void an_address_that_may_not_be_named_breaks_the_queue_and_leaves_nothing_mapped(void **state)
{
    given(state, 16);
    size_t ring = window_access_mapped(&my.window);
    const struct fake_piece pieces[] = {{.address = DATA, .length = 16},
                                        {.address = DATA + 0x1000, .length = 0x2000, .writable = true},
                                        {.address = BASE + SIZE - 1, .length = 2, .writable = true}};
    assert_true(fake_driver_add(&my.driver, pieces, 3) >= 0);
    (void)fake_driver_show(&my.driver);
    struct virtq_chain *chain;
    assert_int_equal(virtqueue_pop(&my.queue, &chain, 1), -EPROTO);
    assert_int_equal(window_access_mapped(&my.window), ring);
}

static void an_exchange_maps_the_ring_anew_and_chains_go_back_to_the_old_table(void **state)
{
    given(state, 16);
    offer_table(20);
    struct virtq_chain *chain = pop();
    static struct guest_memory next;
    window_access_memory(&my.window, &next);
    assert_int_equal(virtqueue_exchange(&my.queue, &my.config, &next, NULL), 0);
    virtqueue_push(&my.queue, &chain, 1);
    (void)virtqueue_publish(&my.queue);
    uint32_t head, length;
    assert_true(fake_driver_get(&my.driver, &head, &length));
    assert_true(virtqueue_stop(&my.queue));
    assert_int_equal(window_access_mapped(&my.window), 0);
}

static void a_failed_exchange_leaves_no_ring_mapped(void **state)
{
    given(state, 16);
    offer_table(2);
    struct virtq_chain *chain = pop();
    window_access_refuse(&my.window, -EFAULT, 1);
    assert_int_equal(virtqueue_exchange(&my.queue, &my.config, &my.memory, NULL), -EFAULT);
    virtqueue_push(&my.queue, &chain, 1);
    assert_int_equal(window_access_mapped(&my.window), 0);
    (void)virtqueue_publish(&my.queue);
    assert_true(virtqueue_stop(&my.queue));
}

#define BOTH(name) RIG_BOTH_LAYOUTS(name, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(the_ring_is_mapped_for_the_queues_life),
        BOTH(a_ring_whose_pages_are_scattered_is_refused_and_not_kept),
        BOTH(a_ring_that_cannot_be_mapped_leaves_nothing_mapped),
        BOTH(a_chain_is_mapped_while_it_is_out_and_for_no_more_than_it_says),
        BOTH(a_table_is_mapped_only_while_it_is_read),
        BOTH(a_translation_that_is_on_its_way_starves_the_pop_at_whatever_piece),
        BOTH(an_address_that_may_not_be_named_breaks_the_queue_and_leaves_nothing_mapped),
        BOTH(an_exchange_maps_the_ring_anew_and_chains_go_back_to_the_old_table),
        BOTH(a_failed_exchange_leaves_no_ring_mapped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
