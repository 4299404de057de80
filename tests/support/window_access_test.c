/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The guarded guest itself, and guest memory through it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "window_access.h"

#define PAGE UINT64_C(4096)
#define BASE UINT64_C(0x40000000)
#define PAGES 64

static struct window_access window;
static struct guest_memory memory;
static struct guest_iovec iov[PAGES];
static uint64_t addresses[PAGES];
static uint8_t copy[PAGES * 4096];

static void fill_guest(void)
{
    for (uint64_t i = 0; i < PAGES * PAGE; i++)
        window.guest_side[i] = (uint8_t)(i ^ i >> 8 ^ i >> 13);
}

static int given_window(void **state)
{
    (void)state;
    window_access_open(&window, BASE, PAGES * PAGE, WINDOW_SIDE_BY_SIDE);
    window_access_memory(&window, &memory);
    fill_guest();
    return 0;
}

static int given_scattered_window(void **state)
{
    (void)state;
    window_access_open(&window, BASE, PAGES * PAGE, WINDOW_SCATTERED);
    window_access_memory(&window, &memory);
    fill_guest();
    return 0;
}

static int nothing_leaked(void **state)
{
    (void)state;
    if (window_access_mapped(&window) != 0)
        return -1;
    window_access_close(&window);
    return 0;
}

static void nothing_can_be_touched_before_it_is_mapped(void **state)
{
    (void)state;
    for (uint64_t page = 0; page < PAGES; page++) {
        assert_false(window_access_readable(&window, BASE + page * PAGE));
        assert_false(window_access_writable(&window, BASE + page * PAGE));
    }
    assert_null(guest_memory_linear(&memory, BASE, 1));
    assert_null(guest_memory_linear(&memory, BASE + 5, 1));
}

static void only_what_is_mapped_can_be_touched_and_only_as_it_was_asked_for(void **state)
{
    (void)state;
    assert_int_equal(guest_memory_pieces(&memory, BASE + PAGE + 7, 9, false, iov, addresses, 1), 1);
    assert_int_equal(guest_memory_pieces(&memory, BASE + 3 * PAGE, PAGE, true, iov + 1, addresses + 1, 1), 1);
    assert_memory_equal(iov[0].base, window_access_guest(&window, BASE + PAGE + 7), 9);
    assert_true(window_access_readable(&window, BASE + PAGE));
    assert_false(window_access_writable(&window, BASE + PAGE));
    assert_true(window_access_writable(&window, BASE + 3 * PAGE));
    assert_false(window_access_readable(&window, BASE));
    assert_false(window_access_readable(&window, BASE + 2 * PAGE));
    assert_false(window_access_readable(&window, BASE + 4 * PAGE));

    memset(iov[1].base, 0xa5, PAGE);
    assert_int_equal(*window_access_guest(&window, BASE + 4 * PAGE - 1), 0xa5);
    guest_memory_release(&memory, iov, addresses, 1, false);
    guest_memory_release(&memory, iov + 1, addresses + 1, 1, true);
    assert_false(window_access_readable(&window, BASE + PAGE));
    assert_false(window_access_readable(&window, BASE + 3 * PAGE));
}

static void a_page_stays_open_until_its_last_mapping_goes(void **state)
{
    (void)state;
    assert_int_equal(guest_memory_pieces(&memory, BASE, 16, false, iov, addresses, 1), 1);
    assert_int_equal(guest_memory_pieces(&memory, BASE + 16, 16, true, iov + 1, addresses + 1, 1), 1);
    assert_int_equal(window_access_mapped(&window), 2);
    guest_memory_release(&memory, iov + 1, addresses + 1, 1, true);
    assert_true(window_access_readable(&window, BASE));
    assert_false(window_access_writable(&window, BASE));
    guest_memory_release(&memory, iov, addresses, 1, false);
    assert_false(window_access_readable(&window, BASE));
}

static void cuts_pieces_at_chunks(void **state)
{
    (void)state;
    assert_int_equal(guest_memory_pieces(&memory, BASE + PAGE - 3, PAGE + 8, false, iov, addresses, PAGES), 3);
    assert_int_equal(iov[0].length, 3);
    assert_int_equal(iov[1].length, PAGE);
    assert_int_equal(iov[2].length, 5);
    assert_int_equal(addresses[0], BASE + PAGE - 3);
    assert_int_equal(addresses[1], BASE + PAGE);
    assert_int_equal(addresses[2], BASE + 2 * PAGE);
    assert_int_equal(window.maps_total, 1);
    for (int i = 0; i < 3; i++)
        assert_memory_equal(iov[i].base, window_access_guest(&window, addresses[i]), iov[i].length);
    guest_memory_release(&memory, iov, addresses, 3, false);
    assert_int_equal(window.unmaps_total, 1);
}

static void cuts_pieces_at_larger_chunks_when_the_table_has_those(void **state)
{
    (void)state;
    /* A table of its own that says 1 MiB; it is never called, since the room is too small. */
    const struct guest_access_class class = {.name = "large", .chunk_shift = 20};
    struct guest_access access = {.class = &class};
    guest_memory_init(&memory, &access);
    const struct guest_region region = {.guest_base = 0, .size = 16 << 20};
    assert_int_equal(guest_memory_add(&memory, &region), 0);
    assert_int_equal(guest_memory_pieces(&memory, (1 << 20) - 1, (1 << 20) + 2, false, iov, addresses, 2), -E2BIG);
    assert_int_equal(iov[0].length, 1);
    assert_int_equal(iov[1].length, 1 << 20);
}

static void all_pieces_are_mapped_or_none(void **state)
{
    (void)state;
    /* A second region that the table does not have: the first pieces are good, the last one is refused. */
    const struct guest_region region = {.guest_base = BASE + PAGES * PAGE, .size = PAGE};
    assert_int_equal(guest_memory_add(&memory, &region), 0);
    assert_int_equal(guest_memory_pieces(&memory, BASE + (PAGES - 2) * PAGE, 3 * PAGE, true, iov, addresses, 8),
                     -EFAULT);
    assert_int_equal(window_access_mapped(&window), 0);
    assert_false(window_access_readable(&window, BASE + (PAGES - 2) * PAGE));
    /* Outside the memory, or too many: it does not come to mapping. */
    assert_int_equal(guest_memory_pieces(&memory, BASE + PAGES * PAGE, PAGE + 1, true, iov, addresses, 8), -EFAULT);
    assert_int_equal(guest_memory_pieces(&memory, BASE, 4 * PAGE, true, iov, addresses, 3), -E2BIG);
    assert_int_equal(window.maps_total, 0);
}

static void a_refusal_in_the_middle_gives_back_what_came_before(void **state)
{
    (void)state;
    /* Window, linear, window: two calls of map(), and the second one has no room. */
    static uint8_t linear[4096];
    guest_memory_init(&memory, &window.access);
    const struct guest_region regions[] = {
        {.guest_base = BASE, .size = PAGE},
        {.guest_base = BASE + PAGE, .size = PAGE, .host = linear},
        {.guest_base = BASE + 2 * PAGE, .size = 4 * PAGE},
    };
    for (size_t i = 0; i < ARRAY_SIZE(regions); i++)
        assert_int_equal(guest_memory_add(&memory, &regions[i]), 0);
    window.mapping_max = 2;
    assert_int_equal(guest_memory_pieces(&memory, BASE, 4 * PAGE, true, iov, addresses, 8), -ENOMEM);
    assert_int_equal(window_access_mapped(&window), 0);
    assert_int_equal(window.maps_total, 1);
    assert_int_equal(window.unmaps_total, 1);

    window.mapping_max = 3;
    assert_int_equal(guest_memory_pieces(&memory, BASE, 4 * PAGE, true, iov, addresses, 8), 4);
    assert_ptr_equal(iov[1].base, linear);
    assert_int_equal(window_access_mapped(&window), 3);
    guest_memory_release(&memory, iov, addresses, 4, true);
}

static void hands_on_what_the_table_answers_and_goes_on_afterwards(void **state)
{
    (void)state;
    window_access_refuse(&window, -EAGAIN, 2);
    assert_int_equal(guest_memory_pieces(&memory, BASE, 16, false, iov, addresses, 1), -EAGAIN);
    assert_int_equal(guest_memory_read(&memory, BASE, copy, 16), -EAGAIN);
    assert_int_equal(guest_memory_read(&memory, BASE, copy, 16), 0);
    window_access_refuse(&window, -ENOMEM, 1);
    assert_int_equal(guest_memory_write(&memory, BASE, copy, 16), -ENOMEM);
    assert_int_equal(guest_memory_write(&memory, BASE, copy, 16), 0);
}

static void copies_the_whole_window_in_and_out(void **state)
{
    (void)state;
    /* More than one round of mapping, at both ends inside a page. */
    assert_int_equal(guest_memory_read(&memory, BASE + 5, copy, PAGES * PAGE - 10), 0);
    assert_memory_equal(copy, window_access_guest(&window, BASE + 5), PAGES * PAGE - 10);
    for (uint64_t i = 0; i < PAGES * PAGE; i++)
        copy[i] = (uint8_t)(i * 11 >> 3);
    uint8_t first = *window_access_guest(&window, BASE), last = window.guest_side[PAGES * PAGE - 1];
    assert_int_equal(guest_memory_write(&memory, BASE + 1, copy, PAGES * PAGE - 2), 0);
    assert_memory_equal(copy, window_access_guest(&window, BASE + 1), PAGES * PAGE - 2);
    assert_int_equal(*window_access_guest(&window, BASE), first);
    assert_int_equal(window.guest_side[PAGES * PAGE - 1], last);
    assert_int_equal(guest_memory_read(&memory, BASE + 1, copy, PAGES * PAGE), -EFAULT);
}

static void a_copy_out_needs_no_more_than_the_right_to_read(void **state)
{
    (void)state;
    assert_int_equal(guest_memory_pieces(&memory, BASE, PAGE, false, iov, addresses, 1), 1);
    assert_int_equal(guest_memory_read(&memory, BASE, copy, 2 * PAGE), 0);
    assert_false(window_access_writable(&window, BASE));
    guest_memory_release(&memory, iov, addresses, 1, false);
}

static void a_later_map_gives_back_what_an_earlier_one_reached(void **state)
{
    (void)state;
    assert_int_equal(guest_memory_pieces(&memory, BASE + 10, 2 * PAGE, true, iov, addresses, 8), 3);
    guest_memory_init(&memory, &window.access); /* the region is gone */
    guest_memory_release(&memory, iov, addresses, 3, true);
    assert_int_equal(window_access_mapped(&window), 0);
}

static void maps_a_ring_of_many_pages_for_its_life(void **state)
{
    (void)state;
    void *host = NULL;
    assert_int_equal(guest_memory_map(&memory, BASE + 16, 40 * PAGE, true, &host), 0);
    assert_memory_equal(host, window_access_guest(&window, BASE + 16), 40 * PAGE);
    assert_int_equal(window_access_mapped(&window), 41);
    assert_int_equal(window.maps_total, 1);
    guest_memory_unmap(&memory, BASE + 16, 40 * PAGE, host, true);
    assert_int_equal(window_access_mapped(&window), 0);
}

static void refuses_a_ring_whose_pages_are_scattered(void **state)
{
    (void)state;
    void *host = NULL;
    assert_int_equal(guest_memory_map(&memory, BASE + 16, PAGE, false, &host), -EFAULT);
    assert_int_equal(window_access_mapped(&window), 0);
    assert_null(host);
    assert_int_equal(guest_memory_map(&memory, BASE + 16, PAGE - 16, false, &host), 0);
    guest_memory_unmap(&memory, BASE + 16, PAGE - 16, host, false);
}

static void copies_through_scattered_pages(void **state)
{
    (void)state;
    assert_int_equal(guest_memory_read(&memory, BASE + 5, copy, PAGES * PAGE - 10), 0);
    assert_memory_equal(copy, window_access_guest(&window, BASE + 5), PAGES * PAGE - 10);
    assert_int_equal(guest_memory_pieces(&memory, BASE, 3 * PAGE, true, iov, addresses, 8), 3);
    assert_true(iov[1].base < iov[0].base);
    guest_memory_release(&memory, iov, addresses, 3, true);
}

#define WINDOW_TEST(test) cmocka_unit_test_setup_teardown(test, given_window, nothing_leaked)
#define SCATTERED_TEST(test) cmocka_unit_test_setup_teardown(test, given_scattered_window, nothing_leaked)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WINDOW_TEST(nothing_can_be_touched_before_it_is_mapped),
        WINDOW_TEST(only_what_is_mapped_can_be_touched_and_only_as_it_was_asked_for),
        WINDOW_TEST(a_page_stays_open_until_its_last_mapping_goes),
        WINDOW_TEST(cuts_pieces_at_chunks),
        WINDOW_TEST(cuts_pieces_at_larger_chunks_when_the_table_has_those),
        WINDOW_TEST(all_pieces_are_mapped_or_none),
        WINDOW_TEST(a_refusal_in_the_middle_gives_back_what_came_before),
        WINDOW_TEST(hands_on_what_the_table_answers_and_goes_on_afterwards),
        WINDOW_TEST(copies_the_whole_window_in_and_out),
        WINDOW_TEST(a_copy_out_needs_no_more_than_the_right_to_read),
        WINDOW_TEST(a_later_map_gives_back_what_an_earlier_one_reached),
        WINDOW_TEST(maps_a_ring_of_many_pages_for_its_life),
        SCATTERED_TEST(refuses_a_ring_whose_pages_are_scattered),
        SCATTERED_TEST(copies_through_scattered_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
