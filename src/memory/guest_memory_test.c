/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "memory/guest_memory.h"

#define PAGE UINT64_C(4096)

static struct guest_memory memory;
static uint8_t bytes[16 * 4096];

static int add(uint64_t guest_base, uint64_t size, uint64_t frontend_base, uint8_t *host)
{
    const struct guest_region region = {
        .guest_base = guest_base,
        .size = size,
        .frontend_base = frontend_base,
        .host = host,
        .owner = guest_base ^ 0x5a,
    };
    return guest_memory_add(&memory, &region);
}

/*
 * Given: A is 4 pages at 1 MiB; B 2 pages, goes on after A in guest and host; C 1 page, goes on after B in the guest
 * but not in the host; a gap; D 1 page; E 1 page, goes on after D in the host but not in the guest.
 */
#define A_BASE UINT64_C(0x100000)
#define B_BASE (A_BASE + 4 * PAGE)
#define C_BASE (B_BASE + 2 * PAGE)
#define C_END (C_BASE + PAGE)
#define D_BASE UINT64_C(0x8000000000)
#define E_BASE (D_BASE + 2 * PAGE)
#define FRONTEND_A UINT64_C(0x7f0000000000)

static int given_regions(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i ^ i >> 8);
    guest_memory_init(&memory, NULL);
    /* Added out of order. */
    assert_int_equal(add(C_BASE, PAGE, FRONTEND_A + 6 * PAGE, bytes + 8 * PAGE), 0);
    assert_int_equal(add(A_BASE, 4 * PAGE, FRONTEND_A, bytes), 0);
    assert_int_equal(add(E_BASE, PAGE, 0, bytes + 13 * PAGE), 0);
    assert_int_equal(add(B_BASE, 2 * PAGE, FRONTEND_A + 4 * PAGE, bytes + 4 * PAGE), 0);
    assert_int_equal(add(D_BASE, PAGE, FRONTEND_A + 16 * PAGE, bytes + 12 * PAGE), 0);
    return 0;
}

static void an_empty_map_has_nothing(void **state)
{
    (void)state;
    guest_memory_init(&memory, NULL);
    struct guest_iovec iov;
    uint64_t address;
    uint8_t byte = 0;
    assert_null(guest_memory_find(&memory, 0));
    assert_null(guest_memory_linear(&memory, 0, 1));
    assert_int_equal(guest_memory_pieces(&memory, 0, 1, false, &iov, &address, 1), -EFAULT);
    assert_int_equal(guest_memory_pieces(&memory, 0, 0, false, &iov, &address, 1), 0);
    assert_int_equal(guest_memory_from_frontend(&memory, 0, 1, &address), -EFAULT);
    assert_int_equal(guest_memory_read(&memory, 0, &byte, 1), -EFAULT);
    assert_int_equal(guest_memory_write(&memory, 0, &byte, 1), -EFAULT);
    assert_int_equal(guest_memory_read(&memory, 0, &byte, 0), 0);
}

static void keeps_regions_in_order_of_their_addresses(void **state)
{
    (void)state;
    assert_int_equal(memory.region_count, 5);
    const uint64_t bases[] = {A_BASE, B_BASE, C_BASE, D_BASE, E_BASE};
    for (size_t i = 0; i < 5; i++)
        assert_true(memory.regions[i].guest_base == bases[i]);
}

static void finds_the_region_of_its_first_and_last_byte_and_none_in_a_gap(void **state)
{
    (void)state;
    assert_ptr_equal(guest_memory_find(&memory, A_BASE), &memory.regions[0]);
    assert_ptr_equal(guest_memory_find(&memory, B_BASE - 1), &memory.regions[0]);
    assert_ptr_equal(guest_memory_find(&memory, B_BASE), &memory.regions[1]);
    assert_ptr_equal(guest_memory_find(&memory, C_END - 1), &memory.regions[2]);
    assert_ptr_equal(guest_memory_find(&memory, E_BASE + PAGE - 1), &memory.regions[4]);
    assert_null(guest_memory_find(&memory, 0));
    assert_null(guest_memory_find(&memory, A_BASE - 1));
    assert_null(guest_memory_find(&memory, C_END));
    assert_null(guest_memory_find(&memory, D_BASE - 1));
    assert_null(guest_memory_find(&memory, D_BASE + PAGE));
    assert_null(guest_memory_find(&memory, E_BASE + PAGE));
    assert_null(guest_memory_find(&memory, UINT64_MAX));
}

static void translates_inside_each_region(void **state)
{
    (void)state;
    assert_ptr_equal(guest_memory_linear(&memory, A_BASE, 1), bytes);
    assert_ptr_equal(guest_memory_linear(&memory, A_BASE, 4 * PAGE), bytes);
    assert_ptr_equal(guest_memory_linear(&memory, A_BASE + 5, 4 * PAGE - 5), bytes + 5);
    assert_ptr_equal(guest_memory_linear(&memory, B_BASE - 1, 1), bytes + 4 * PAGE - 1);
    assert_ptr_equal(guest_memory_linear(&memory, B_BASE + 1, 2 * PAGE - 1), bytes + 4 * PAGE + 1);
    assert_ptr_equal(guest_memory_linear(&memory, C_BASE, PAGE), bytes + 8 * PAGE);
    assert_ptr_equal(guest_memory_linear(&memory, D_BASE + 7, PAGE - 7), bytes + 12 * PAGE + 7);
    assert_ptr_equal(guest_memory_linear(&memory, E_BASE, PAGE), bytes + 13 * PAGE);
}

static void goes_on_into_a_region_that_continues_in_guest_and_host(void **state)
{
    (void)state;
    assert_ptr_equal(guest_memory_linear(&memory, A_BASE, 6 * PAGE), bytes);
    assert_ptr_equal(guest_memory_linear(&memory, B_BASE - 1, 2), bytes + 4 * PAGE - 1);
}

static void refuses_what_goes_on_elsewhere_in_the_host(void **state)
{
    (void)state;
    assert_null(guest_memory_linear(&memory, C_BASE - 1, 2));
    assert_null(guest_memory_linear(&memory, A_BASE, 7 * PAGE));
}

static void refuses_what_goes_on_elsewhere_in_the_guest(void **state)
{
    (void)state;
    /* The byte after D lies in this process right before E. The guest was given neither it nor a way to E. */
    assert_null(guest_memory_linear(&memory, D_BASE + PAGE - 1, 2));
    assert_null(guest_memory_linear(&memory, D_BASE, 2 * PAGE));
    assert_null(guest_memory_linear(&memory, D_BASE, 3 * PAGE));
}

static void refuses_what_crosses_into_a_gap(void **state)
{
    (void)state;
    assert_null(guest_memory_linear(&memory, A_BASE - 1, 2));
    assert_null(guest_memory_linear(&memory, C_END - 1, 2));
    assert_null(guest_memory_linear(&memory, C_END, 1));
    assert_null(guest_memory_linear(&memory, E_BASE + PAGE - 1, 2));
}

static void refuses_lengths_that_wrap(void **state)
{
    (void)state;
    const uint64_t starts[] = {0, A_BASE, A_BASE + 1, B_BASE, C_BASE, D_BASE, E_BASE + PAGE - 1, UINT64_MAX};
    struct guest_iovec iov[8];
    uint64_t addresses[8];
    for (size_t i = 0; i < ARRAY_SIZE(starts); i++) {
        const uint64_t lengths[] = {UINT64_MAX, UINT64_MAX - starts[i], 0 - starts[i], UINT64_MAX - starts[i] + 2};
        for (size_t j = 0; j < ARRAY_SIZE(lengths); j++) {
            if (lengths[j] == 0 || (lengths[j] == 1 && starts[i] != UINT64_MAX))
                continue;
            assert_null(guest_memory_linear(&memory, starts[i], lengths[j]));
            assert_int_equal(guest_memory_pieces(&memory, starts[i], lengths[j], true, iov, addresses, 8), -EFAULT);
        }
    }
}

static void asking_for_no_bytes_gives_nothing(void **state)
{
    (void)state;
    struct guest_iovec iov = {.base = &memory, .length = 9};
    uint64_t address = 7;
    assert_null(guest_memory_linear(&memory, A_BASE, 0));
    assert_null(guest_memory_linear(&memory, C_END, 0));
    assert_int_equal(guest_memory_pieces(&memory, A_BASE, 0, true, &iov, &address, 1), 0);
    assert_int_equal(guest_memory_pieces(&memory, 12345, 0, true, &iov, &address, 0), 0);
    assert_ptr_equal(iov.base, &memory);
    assert_int_equal(address, 7);
}

static void refuses_a_region_without_bytes(void **state)
{
    (void)state;
    assert_int_equal(add(0, 0, 0, bytes), -EINVAL);
}

static void refuses_a_region_that_no_one_can_reach(void **state)
{
    (void)state;
    assert_int_equal(add(0, PAGE, 0, NULL), -EINVAL);
}

static void refuses_a_region_whose_end_wraps(void **state)
{
    (void)state;
    struct guest_memory before = memory;
    assert_int_equal(add(UINT64_MAX - PAGE + 2, PAGE, 0, bytes), -EINVAL);
    assert_int_equal(add(UINT64_MAX, 1, 0, bytes), -EINVAL);
    assert_int_equal(add(1, UINT64_MAX, 0, bytes), -EINVAL);
    assert_int_equal(add(0, PAGE, UINT64_MAX - PAGE + 2, bytes), -EINVAL);
    assert_int_equal(add(0, PAGE, UINT64_MAX, bytes), -EINVAL);
    assert_int_equal(add(0, PAGE, 0, (uint8_t *)(UINTPTR_MAX - PAGE + 1)), -EINVAL);
    assert_memory_equal(&before, &memory, sizeof(memory));
    /* The highest addresses whose end can be said are good ones. */
    assert_int_equal(add(UINT64_MAX - PAGE, PAGE, UINT64_MAX - PAGE, bytes), 0);
    assert_ptr_equal(guest_memory_linear(&memory, UINT64_MAX - 1, 1), bytes + PAGE - 1);
    assert_null(guest_memory_linear(&memory, UINT64_MAX - 1, 2));
    assert_null(guest_memory_linear(&memory, UINT64_MAX, 1));
}

static void refuses_a_region_that_overlaps_in_guest_addresses(void **state)
{
    (void)state;
    struct guest_memory before = memory;
    assert_int_equal(add(A_BASE, 4 * PAGE, 0, bytes), -EEXIST);
    assert_int_equal(add(A_BASE - PAGE, PAGE + 1, 0, bytes), -EEXIST);
    assert_int_equal(add(A_BASE + PAGE, PAGE, 0, bytes), -EEXIST);
    assert_int_equal(add(C_END - 1, PAGE, 0, bytes), -EEXIST);
    assert_int_equal(add(0, UINT64_C(1) << 45, 0, bytes), -EEXIST);
    assert_memory_equal(&before, &memory, sizeof(memory));
    assert_int_equal(add(A_BASE - PAGE, PAGE, 0, bytes), 0);
    assert_int_equal(add(C_END, PAGE, 0, bytes), 0);
}

static void refuses_a_region_that_overlaps_in_front_end_addresses(void **state)
{
    (void)state;
    struct guest_memory before = memory;
    assert_int_equal(add(0, PAGE, FRONTEND_A, bytes), -EEXIST);
    assert_int_equal(add(0, PAGE, FRONTEND_A - PAGE + 1, bytes), -EEXIST);
    assert_int_equal(add(0, PAGE, FRONTEND_A + 7 * PAGE - 1, bytes), -EEXIST);
    assert_memory_equal(&before, &memory, sizeof(memory));
    assert_int_equal(add(0, PAGE, FRONTEND_A + 7 * PAGE, bytes), 0);
}

static void regions_without_front_end_addresses_do_not_overlap_in_them(void **state)
{
    (void)state;
    /* One that has them at the very bottom, and ones that do not, before it and after it. */
    assert_int_equal(add(4 * PAGE, PAGE, 16, bytes), 0);
    assert_int_equal(add(0, PAGE, 0, bytes), 0);
    assert_int_equal(add(2 * PAGE, PAGE, 0, bytes), 0);
}

static void removes_exactly_the_region_that_is_named(void **state)
{
    (void)state;
    struct guest_region region = {.size = 77};
    assert_int_equal(guest_memory_remove(&memory, B_BASE, PAGE, FRONTEND_A + 4 * PAGE, &region), -ENOENT);
    assert_int_equal(guest_memory_remove(&memory, B_BASE, 2 * PAGE, FRONTEND_A, &region), -ENOENT);
    assert_int_equal(guest_memory_remove(&memory, B_BASE + 1, 2 * PAGE, FRONTEND_A + 4 * PAGE, &region), -ENOENT);
    assert_int_equal(guest_memory_remove(&memory, 0, PAGE, 0, &region), -ENOENT);
    assert_int_equal(guest_memory_remove(&memory, UINT64_MAX, PAGE, 0, &region), -ENOENT);
    assert_int_equal(region.size, 77);
    assert_int_equal(memory.region_count, 5);

    assert_int_equal(guest_memory_remove(&memory, B_BASE, 2 * PAGE, FRONTEND_A + 4 * PAGE, &region), 0);
    assert_int_equal(region.guest_base, B_BASE);
    assert_int_equal(region.owner, B_BASE ^ 0x5a);
    assert_int_equal(memory.region_count, 4);
    assert_null(guest_memory_find(&memory, B_BASE));
    assert_null(guest_memory_linear(&memory, B_BASE - 1, 2));
    assert_ptr_equal(guest_memory_linear(&memory, A_BASE, 4 * PAGE), bytes);
    assert_ptr_equal(guest_memory_linear(&memory, C_BASE, PAGE), bytes + 8 * PAGE);
    assert_int_equal(guest_memory_remove(&memory, B_BASE, 2 * PAGE, FRONTEND_A + 4 * PAGE, &region), -ENOENT);
    assert_int_equal(add(B_BASE, PAGE, FRONTEND_A + 4 * PAGE, bytes), 0);
}

static void the_largest_region_can_go_and_is_then_not_found_any_more(void **state)
{
    (void)state;
    struct guest_region region;
    assert_int_equal(guest_memory_remove(&memory, A_BASE, 4 * PAGE, FRONTEND_A, &region), 0);
    assert_null(guest_memory_linear(&memory, A_BASE, 1));
    assert_ptr_equal(guest_memory_linear(&memory, B_BASE, 1), bytes + 4 * PAGE);
    assert_int_equal(guest_memory_remove(&memory, B_BASE, 2 * PAGE, FRONTEND_A + 4 * PAGE, &region), 0);
    assert_null(guest_memory_linear(&memory, B_BASE, 1));
    assert_int_equal(guest_memory_remove(&memory, C_BASE, PAGE, FRONTEND_A + 6 * PAGE, &region), 0);
    assert_int_equal(guest_memory_remove(&memory, D_BASE, PAGE, FRONTEND_A + 16 * PAGE, &region), 0);
    assert_int_equal(guest_memory_remove(&memory, E_BASE, PAGE, 0, &region), 0);
    assert_int_equal(memory.region_count, 0);
    assert_null(guest_memory_linear(&memory, E_BASE, 1));
}

static void a_range_does_not_go_on_into_a_region_that_was_the_last_and_is_gone(void **state)
{
    (void)state;
    struct guest_region region;
    uint64_t address;
    guest_memory_init(&memory, NULL);
    assert_int_equal(add(A_BASE, PAGE, FRONTEND_A, bytes), 0);
    assert_int_equal(add(A_BASE + PAGE, PAGE, FRONTEND_A + PAGE, bytes + PAGE), 0);
    assert_ptr_equal(guest_memory_linear(&memory, A_BASE, 2 * PAGE), bytes);
    assert_int_equal(guest_memory_remove(&memory, A_BASE + PAGE, PAGE, FRONTEND_A + PAGE, &region), 0);
    assert_null(guest_memory_linear(&memory, A_BASE, 2 * PAGE));
    assert_int_equal(guest_memory_from_frontend(&memory, FRONTEND_A, 2 * PAGE, &address), -EFAULT);
}

static void the_two_largest_regions_are_found_without_a_search(void **state)
{
    (void)state;
    assert_ptr_equal(guest_memory_linear_hot(&memory, A_BASE, 4 * PAGE), bytes);
    assert_ptr_equal(guest_memory_linear_hot(&memory, B_BASE, 2 * PAGE), bytes + 4 * PAGE);
    assert_null(guest_memory_linear_hot(&memory, C_BASE, 1));
    assert_null(guest_memory_linear_hot(&memory, A_BASE, 4 * PAGE + 1));
    assert_int_equal(add(0, 5 * PAGE, 0, bytes), 0);
    assert_ptr_equal(guest_memory_linear_hot(&memory, 0, 5 * PAGE), bytes);
    assert_ptr_equal(guest_memory_linear_hot(&memory, A_BASE, 4 * PAGE), bytes);
    assert_null(guest_memory_linear_hot(&memory, B_BASE, 1));
}

static void linear_pieces_go_back_though_their_region_is_gone(void **state)
{
    (void)state;
    struct guest_region region;
    struct guest_iovec iov;
    uint64_t address;
    assert_int_equal(guest_memory_pieces(&memory, E_BASE, PAGE, true, &iov, &address, 1), 1);
    assert_int_equal(guest_memory_remove(&memory, E_BASE, PAGE, 0, &region), 0);
    guest_memory_release(&memory, &iov, &address, 1, true);
}

static void a_full_table_refuses_one_more_and_still_finds_all(void **state)
{
    (void)state;
    guest_memory_init(&memory, NULL);
    /* A shuffle: 197 and 509 have no common divisor. */
    for (uint64_t i = 0; i < GUEST_MEMORY_REGIONS_MAX; i++) {
        uint64_t n = i * 197 % GUEST_MEMORY_REGIONS_MAX;
        assert_int_equal(add(n * 64, 32, 0, bytes + n * 32), 0);
    }
    assert_int_equal(add(UINT64_C(1) << 40, 32, 0, bytes), -ENOSPC);
    for (uint64_t n = 0; n < GUEST_MEMORY_REGIONS_MAX; n++) {
        assert_ptr_equal(guest_memory_linear(&memory, n * 64, 32), bytes + n * 32);
        assert_ptr_equal(guest_memory_linear(&memory, n * 64 + 31, 1), bytes + n * 32 + 31);
        assert_null(guest_memory_linear(&memory, n * 64 + 31, 2));
        assert_null(guest_memory_linear(&memory, n * 64 + 32, 1));
    }
    struct guest_region region;
    assert_int_equal(guest_memory_remove(&memory, 64 * 508, 32, 0, &region), 0);
    assert_int_equal(add(UINT64_C(1) << 40, 32, 0, bytes), 0);
}

static void cuts_pieces_where_the_host_does_not_go_on(void **state)
{
    (void)state;
    struct guest_iovec iov[3];
    uint64_t addresses[3];
    /* A and B are one piece, C another. */
    assert_int_equal(guest_memory_pieces(&memory, A_BASE + 10, 7 * PAGE - 20, true, iov, addresses, 3), 2);
    assert_ptr_equal(iov[0].base, bytes + 10);
    assert_int_equal(iov[0].length, 6 * PAGE - 10);
    assert_int_equal(addresses[0], A_BASE + 10);
    assert_ptr_equal(iov[1].base, bytes + 8 * PAGE);
    assert_int_equal(iov[1].length, PAGE - 10);
    assert_int_equal(addresses[1], C_BASE);
    guest_memory_release(&memory, iov, addresses, 2, true);
    assert_int_equal(guest_memory_pieces(&memory, A_BASE, 6 * PAGE, true, iov, addresses, 1), 1);
    assert_int_equal(iov[0].length, 6 * PAGE);
}

static void refuses_more_pieces_than_there_is_room_for(void **state)
{
    (void)state;
    struct guest_iovec iov[2];
    uint64_t addresses[2];
    assert_int_equal(guest_memory_pieces(&memory, A_BASE, 7 * PAGE, true, iov, addresses, 1), -E2BIG);
    assert_int_equal(guest_memory_pieces(&memory, A_BASE, 1, true, iov, addresses, 0), -E2BIG);
    assert_int_equal(guest_memory_pieces(&memory, A_BASE, 7 * PAGE, true, iov, addresses, 2), 2);
}

static void refuses_pieces_of_which_one_byte_is_outside(void **state)
{
    (void)state;
    struct guest_iovec iov[8];
    uint64_t addresses[8];
    assert_int_equal(guest_memory_pieces(&memory, A_BASE, 7 * PAGE + 1, true, iov, addresses, 8), -EFAULT);
    assert_int_equal(guest_memory_pieces(&memory, D_BASE + PAGE - 1, 2, true, iov, addresses, 8), -EFAULT);
    assert_int_equal(guest_memory_pieces(&memory, D_BASE, 3 * PAGE, true, iov, addresses, 8), -EFAULT);
    assert_int_equal(guest_memory_pieces(&memory, A_BASE - 1, 2, true, iov, addresses, 8), -EFAULT);
    assert_int_equal(guest_memory_pieces(&memory, C_END, 1, true, iov, addresses, 8), -EFAULT);
}

static void copies_across_regions(void **state)
{
    (void)state;
    static uint8_t copy[7 * 4096], back[7 * 4096];
    assert_int_equal(guest_memory_read(&memory, A_BASE + 1, copy, 7 * PAGE - 2), 0);
    assert_memory_equal(copy, bytes + 1, 6 * PAGE - 1);
    assert_memory_equal(copy + 6 * PAGE - 1, bytes + 8 * PAGE, PAGE - 1);

    for (size_t i = 0; i < sizeof(copy); i++)
        copy[i] = (uint8_t)(i * 7);
    uint8_t before = bytes[0], after_b = bytes[6 * PAGE], after_c = bytes[9 * PAGE - 1];
    assert_int_equal(guest_memory_write(&memory, A_BASE + 1, copy, 7 * PAGE - 2), 0);
    assert_int_equal(guest_memory_read(&memory, A_BASE + 1, back, 7 * PAGE - 2), 0);
    assert_memory_equal(copy, back, 7 * PAGE - 2);
    assert_int_equal(bytes[0], before);
    assert_int_equal(bytes[6 * PAGE], after_b);
    assert_int_equal(bytes[9 * PAGE - 1], after_c);
}

static void copies_refuse_what_is_outside(void **state)
{
    (void)state;
    uint8_t copy[2] = {0};
    assert_int_equal(guest_memory_read(&memory, C_END - 1, copy, 2), -EFAULT);
    assert_int_equal(guest_memory_write(&memory, C_END - 1, copy, 2), -EFAULT);
    assert_int_equal(guest_memory_read(&memory, A_BASE - 1, copy, 2), -EFAULT);
    assert_int_equal(guest_memory_read(&memory, D_BASE + PAGE - 1, copy, 2), -EFAULT);
    assert_int_equal(guest_memory_read(&memory, UINT64_MAX, copy, 2), -EFAULT);
}

static void a_range_may_go_on_through_many_regions(void **state)
{
    (void)state;
    guest_memory_init(&memory, NULL);
    /* Three in a row in guest and host, then one that goes on in the guest alone. */
    for (uint64_t i = 0; i < 3; i++)
        assert_int_equal(add(i * PAGE, PAGE, 0, bytes + i * PAGE), 0);
    assert_int_equal(add(3 * PAGE, PAGE, 0, bytes + 4 * PAGE), 0);
    assert_ptr_equal(guest_memory_linear(&memory, 1, 3 * PAGE - 1), bytes + 1);
    assert_null(guest_memory_linear(&memory, 1, 3 * PAGE));
    assert_null(guest_memory_linear(&memory, PAGE, 3 * PAGE));
    assert_ptr_equal(guest_memory_linear(&memory, PAGE, 2 * PAGE), bytes + PAGE);
    static uint8_t copy[4 * 4096];
    assert_int_equal(guest_memory_read(&memory, 0, copy, sizeof(copy)), 0);
    assert_memory_equal(copy, bytes, 3 * PAGE);
    assert_memory_equal(copy + 3 * PAGE, bytes + 4 * PAGE, PAGE);
}

static void maps_a_ring_that_is_one_piece_and_refuses_one_that_is_not(void **state)
{
    (void)state;
    void *host = NULL;
    assert_int_equal(guest_memory_map(&memory, A_BASE + 16, 6 * PAGE - 16, true, &host), 0);
    assert_ptr_equal(host, bytes + 16);
    guest_memory_unmap(&memory, A_BASE + 16, 6 * PAGE - 16, host, true);
    host = NULL;
    assert_int_equal(guest_memory_map(&memory, A_BASE, 7 * PAGE, true, &host), -EFAULT);
    assert_int_equal(guest_memory_map(&memory, C_BASE, PAGE + 1, true, &host), -EFAULT);
    assert_int_equal(guest_memory_map(&memory, A_BASE, 0, true, &host), -EFAULT);
    assert_null(host);
}

static void translates_front_end_addresses(void **state)
{
    (void)state;
    uint64_t address = 0;
    assert_int_equal(guest_memory_from_frontend(&memory, FRONTEND_A, 1, &address), 0);
    assert_int_equal(address, A_BASE);
    assert_int_equal(guest_memory_from_frontend(&memory, FRONTEND_A + 16 * PAGE + 5, PAGE - 5, &address), 0);
    assert_int_equal(address, D_BASE + 5);
    /* A, B and C go on in the guest and in the front end; where they are in this process does not matter. */
    assert_int_equal(guest_memory_from_frontend(&memory, FRONTEND_A + 9, 7 * PAGE - 9, &address), 0);
    assert_int_equal(address, A_BASE + 9);
}

static void refuses_front_end_addresses_that_are_nowhere(void **state)
{
    (void)state;
    uint64_t address = 99;
    assert_int_equal(guest_memory_from_frontend(&memory, FRONTEND_A - 1, 1, &address), -EFAULT);
    assert_int_equal(guest_memory_from_frontend(&memory, FRONTEND_A + 7 * PAGE, 1, &address), -EFAULT);
    assert_int_equal(guest_memory_from_frontend(&memory, FRONTEND_A, 7 * PAGE + 1, &address), -EFAULT);
    assert_int_equal(guest_memory_from_frontend(&memory, FRONTEND_A + 16 * PAGE, PAGE + 1, &address), -EFAULT);
    assert_int_equal(guest_memory_from_frontend(&memory, FRONTEND_A + 1, UINT64_MAX, &address), -EFAULT);
    assert_int_equal(guest_memory_from_frontend(&memory, UINT64_MAX, 2, &address), -EFAULT);
    /* E has no front-end address: 0 is not one. */
    assert_int_equal(guest_memory_from_frontend(&memory, 0, 1, &address), -EFAULT);
    assert_int_equal(address, 99);
}

static void a_front_end_range_must_go_on_in_the_guest_too(void **state)
{
    (void)state;
    uint64_t address = 99;
    guest_memory_init(&memory, NULL);
    assert_int_equal(add(PAGE, PAGE, FRONTEND_A, bytes), 0);
    assert_int_equal(add(3 * PAGE, PAGE, FRONTEND_A + PAGE, bytes + PAGE), 0);
    assert_int_equal(add(4 * PAGE, PAGE, FRONTEND_A + 3 * PAGE, bytes + 2 * PAGE), 0);
    assert_int_equal(guest_memory_from_frontend(&memory, FRONTEND_A + PAGE - 1, 2, &address), -EFAULT);
    assert_int_equal(guest_memory_from_frontend(&memory, FRONTEND_A + 2 * PAGE - 1, 2, &address), -EFAULT);
    assert_int_equal(address, 99);
}

#define GIVEN(test) cmocka_unit_test_setup(test, given_regions)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_map_has_nothing),
        GIVEN(keeps_regions_in_order_of_their_addresses),
        GIVEN(finds_the_region_of_its_first_and_last_byte_and_none_in_a_gap),
        GIVEN(translates_inside_each_region),
        GIVEN(goes_on_into_a_region_that_continues_in_guest_and_host),
        GIVEN(refuses_what_goes_on_elsewhere_in_the_host),
        GIVEN(refuses_what_goes_on_elsewhere_in_the_guest),
        GIVEN(refuses_what_crosses_into_a_gap),
        GIVEN(refuses_lengths_that_wrap),
        GIVEN(asking_for_no_bytes_gives_nothing),
        GIVEN(refuses_a_region_without_bytes),
        GIVEN(refuses_a_region_that_no_one_can_reach),
        GIVEN(refuses_a_region_whose_end_wraps),
        GIVEN(refuses_a_region_that_overlaps_in_guest_addresses),
        GIVEN(refuses_a_region_that_overlaps_in_front_end_addresses),
        GIVEN(regions_without_front_end_addresses_do_not_overlap_in_them),
        GIVEN(removes_exactly_the_region_that_is_named),
        GIVEN(the_largest_region_can_go_and_is_then_not_found_any_more),
        cmocka_unit_test(a_range_does_not_go_on_into_a_region_that_was_the_last_and_is_gone),
        GIVEN(the_two_largest_regions_are_found_without_a_search),
        GIVEN(linear_pieces_go_back_though_their_region_is_gone),
        cmocka_unit_test(a_full_table_refuses_one_more_and_still_finds_all),
        GIVEN(cuts_pieces_where_the_host_does_not_go_on),
        GIVEN(refuses_more_pieces_than_there_is_room_for),
        GIVEN(refuses_pieces_of_which_one_byte_is_outside),
        GIVEN(copies_across_regions),
        GIVEN(copies_refuse_what_is_outside),
        GIVEN(a_range_may_go_on_through_many_regions),
        GIVEN(maps_a_ring_that_is_one_piece_and_refuses_one_that_is_not),
        GIVEN(translates_front_end_addresses),
        GIVEN(refuses_front_end_addresses_that_are_nowhere),
        GIVEN(a_front_end_range_must_go_on_in_the_guest_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
