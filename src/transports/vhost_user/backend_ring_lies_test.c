/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What a ring is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "backend_rig.h"

static int set_up(void **state)
{
    *state = rig_open(2);
    return 0;
}

static int tear_down(void **state)
{
    rig_close(*state);
    return 0;
}

static void serves_one(struct rig *rig, unsigned index)
{
    rig_offer(rig, index, RIG_DATA_0);
    rig_kick(rig, index);
    assert_int_equal(rig_used(rig, index), 1);
}

/* What a ring is refused */

static void there_is_no_ring_past_the_last_one(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    struct vhost_user_vring_address address = rig_ring_address(rig, 0);
    address.index = 2;
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_NUM, 2, 16), 1);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_NUM, UINT32_MAX, 16), 1);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_BASE, 2, 0), 1);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_ENABLE, 2, 1), 1);
    assert_int_equal(rig_ack(rig, VHOST_USER_SET_VRING_ADDR, &address, sizeof(address), -1), 1);
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_VRING_KICK, 2, rig_line(rig)), 1);
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_VRING_CALL, 255, rig_line(rig)), 1);
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_VRING_ERR, 2, rig_line(rig)), 1);
    assert_int_equal(rig_handles(rig), 0);
}

static void the_base_of_no_ring_ends_the_connection(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_get_base(rig, 2), RIG_HUNG_UP);
    assert_int_equal(rig_get_base(rig, UINT32_MAX), RIG_HUNG_UP);
}

static void a_size_is_a_power_of_two_up_to_32768(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_NUM, 0, 1), 0);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_NUM, 0, 32768), 0);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_NUM, 0, 0), 1);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_NUM, 0, 3), 1);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_NUM, 0, 65536), 1);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_NUM, 0, UINT32_C(1) << 31), 1);
    assert_int_equal(rig->backend.queues[0].size, 32768);
}

/* Before the features are set it may be that of a packed ring; what no ring can have is refused all the same. */
static void a_size_for_a_packed_ring_is_refused_once_the_rings_are_split(void **state)
{
    struct rig *rig = *state;
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_PROTOCOL_FEATURES, rig->backend.protocol_features_max, -1), 0);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_NUM, 0, 13), 0);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_NUM, 0, 0), 1);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_NUM, 0, 32769), 1);
    rig_negotiate(rig);
    assert_int_equal(rig_share(rig), 0);
    assert_int_equal(rig_ring_set_address(rig, 0), 0);
    assert_int_equal(rig_ring_kick_line(rig, 0), 0);
    assert_int_equal(rig_ring_enable(rig, 0, true), 1);
    assert_string_equal(rig->backend.refused_reason, "a split ring's size is a power of two");
    assert_int_equal(rig_ring_num(rig, 0), 0);
    assert_true(rig_running(rig, 0));
}

static void a_base_has_sixteen_bits(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_BASE, 0, 65535), 0);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_BASE, 0, 65536), 1);
    assert_int_equal(rig_get_base(rig, 0), 65535);
}

static void a_base_for_a_packed_ring_is_refused_once_the_rings_are_split(void **state)
{
    struct rig *rig = *state;
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_PROTOCOL_FEATURES, rig->backend.protocol_features_max, -1), 0);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_BASE, 0, 0x80008000), 0);
    rig_negotiate(rig);
    assert_int_equal(rig_share(rig), 0);
    assert_int_equal(rig_ring_num(rig, 0), 0);
    assert_int_equal(rig_ring_set_address(rig, 0), 0);
    assert_int_equal(rig_ring_kick_line(rig, 0), 0);
    assert_int_equal(rig_ring_enable(rig, 0, true), 1);
    assert_string_equal(rig->backend.refused_reason, "the base of a split ring has 16 bits");
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_BASE, 0, 0), 0);
    assert_int_equal(rig_ring_enable(rig, 0, true), 0);
    serves_one(rig, 0);
}

static void enabled_is_one_or_zero(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_ENABLE, 0, 2), 1);
    assert_false(rig->backend.queues[0].enabled);
}

static void bits_of_a_line_s_payload_without_meaning_are_refused(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_VRING_KICK, 0x200, rig_line(rig)), 1);
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_VRING_CALL, UINT64_C(1) << 63, rig_line(rig)), 1);
    assert_int_equal(rig_handles(rig), 0);
}

static void flags_of_an_address_without_meaning_are_refused(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    struct vhost_user_vring_address address = rig_ring_address(rig, 0);
    address.flags = 2;
    assert_int_equal(rig_ack(rig, VHOST_USER_SET_VRING_ADDR, &address, sizeof(address), -1), 1);
    assert_false(rig->backend.queues[0].has_address);
}

static int64_t start_at(struct rig *rig, const struct vhost_user_vring_address *address)
{
    assert_int_equal(rig_ring_num(rig, 0), 0);
    assert_int_equal(rig_ack(rig, VHOST_USER_SET_VRING_ADDR, address, sizeof(*address), -1), 0);
    assert_int_equal(rig_ring_kick_line(rig, 0), 0);
    int64_t r = rig_ring_enable(rig, 0, true);
    assert_int_equal(rig_running(rig, 0), r == 0);
    /* Back to where it can be tried anew. */
    (void)rig_get_base(rig, 0);
    assert_int_equal(rig_ring_enable(rig, 0, false), 0);
    return r;
}

static void a_ring_outside_memory_does_not_start_and_the_front_end_hears_of_it(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_share(rig), 0);
    const struct vhost_user_vring_address good = rig_ring_address(rig, 0);
    struct vhost_user_vring_address address = good;
    assert_int_equal(start_at(rig, &address), 0);
    address.desc = RIG_FRONTEND_0 - 16;
    assert_int_equal(start_at(rig, &address), 1);
    address = good;
    address.avail = RIG_FRONTEND_0 + RIG_REGION_BYTES - 2; /* begins in memory and ends outside */
    assert_int_equal(start_at(rig, &address), 1);
    address = good;
    address.used = UINT64_MAX - 3; /* wraps */
    assert_int_equal(start_at(rig, &address), 1);
    address = good;
    address.desc = RIG_GUEST_0; /* a guest address is none of the front end */
    assert_int_equal(start_at(rig, &address), 1);
}

static void a_ring_in_two_mappings_that_do_not_meet_here_does_not_start(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    /* Side by side for guest and front end, the border amid the descriptor table; but in this process apart. */
    const uint64_t border = RIG_RING(0) + 64 - RIG_GUEST_0;
    struct vhost_user_memory_table table = {.region_count = 2, .regions = {rig_region(0), rig_region(0)}};
    table.regions[0].size = border;
    table.regions[1].size = 0x20000;
    table.regions[1].guest_base += border;
    table.regions[1].frontend_base += border;
    assert_int_equal(rig_set_table(rig, &table), 0);
    const struct guest_memory *map = &rig->backend.maps[rig->backend.current_map];
    assert_ptr_not_equal(map->regions[1].host, map->regions[0].host + border);
    const struct vhost_user_vring_address address = rig_ring_address(rig, 0);
    assert_int_equal(start_at(rig, &address), 1);
    assert_int_equal(rig->backend.refused_error, -EFAULT);
}

static void a_misaligned_ring_does_not_start(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_share(rig), 0);
    const struct vhost_user_vring_address good = rig_ring_address(rig, 0);
    struct vhost_user_vring_address address = good;
    address.desc += 8;
    assert_int_equal(start_at(rig, &address), 1);
    address = good;
    address.avail += 1;
    assert_int_equal(start_at(rig, &address), 1);
    address = good;
    address.used += 2;
    assert_int_equal(start_at(rig, &address), 1);
}

static void a_ring_whose_memory_comes_last_starts_then(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    const struct vhost_user_region first = rig_region(1), second = rig_region(0);
    assert_int_equal(rig_ack_region(rig, VHOST_USER_ADD_MEM_REG, &first, rig_handle(rig, 1)), 0);
    assert_int_equal(rig_ring_num(rig, 0), 0);
    assert_int_equal(rig_ring_set_address(rig, 0), 0);
    assert_int_equal(rig_ring_kick_line(rig, 0), 0);
    assert_int_equal(rig_ring_enable(rig, 0, true), 1);
    assert_false(rig_running(rig, 0));
    assert_int_equal(rig_ack_region(rig, VHOST_USER_ADD_MEM_REG, &second, rig_handle(rig, 0)), 0);
    assert_true(rig_running(rig, 0));
    serves_one(rig, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(there_is_no_ring_past_the_last_one),
        TEST(the_base_of_no_ring_ends_the_connection),
        TEST(a_size_is_a_power_of_two_up_to_32768),
        TEST(a_size_for_a_packed_ring_is_refused_once_the_rings_are_split),
        TEST(a_base_has_sixteen_bits),
        TEST(a_base_for_a_packed_ring_is_refused_once_the_rings_are_split),
        TEST(enabled_is_one_or_zero),
        TEST(bits_of_a_line_s_payload_without_meaning_are_refused),
        TEST(flags_of_an_address_without_meaning_are_refused),
        TEST(a_ring_outside_memory_does_not_start_and_the_front_end_hears_of_it),
        TEST(a_ring_in_two_mappings_that_do_not_meet_here_does_not_start),
        TEST(a_misaligned_ring_does_not_start),
        TEST(a_ring_whose_memory_comes_last_starts_then),
    };
    return cmocka_run_group_tests_name("backend_ring_lies", tests, NULL, NULL);
}
