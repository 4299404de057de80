/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What is special in packed rings: their bases, sizes and areas, and where they are logged. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "backend_rig.h"

static int set_up(void **state)
{
    *state = rig_open_rings(2, VIRTIO_F_RING_PACKED);
    return 0;
}

static int tear_down(void **state)
{
    rig_close(*state);
    return 0;
}

#define LOG_BYTES 0x10000

static void serves_one(struct rig *rig, unsigned index)
{
    rig_offer(rig, index, RIG_DATA_0);
    rig_kick(rig, index);
    assert_int_equal(rig_used(rig, index), 1);
}

/* All of a ring but its base. What the last message was answered. */
static int64_t complete_ring(struct rig *rig, const struct vhost_user_vring_address *address)
{
    assert_int_equal(rig_ring_num(rig, 0), 0);
    assert_int_equal(rig_ack(rig, VHOST_USER_SET_VRING_ADDR, address, sizeof(*address), -1), 0);
    assert_int_equal(rig_ring_kick_line(rig, 0), 0);
    int64_t r = rig_ring_enable(rig, 0, true);
    assert_int_equal(rig_running(rig, 0), r == 0);
    return r;
}

/* The same, and back to where it can be tried anew. */
static int64_t try_ring(struct rig *rig, const struct vhost_user_vring_address *address)
{
    int64_t r = complete_ring(rig, address);
    (void)rig_get_base(rig, 0);
    assert_int_equal(rig_ring_enable(rig, 0, false), 0);
    return r;
}

static int64_t try_base(struct rig *rig, uint32_t base)
{
    const struct vhost_user_vring_address address = rig_ring_address(rig, 0);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_BASE, 0, base), 0);
    return try_ring(rig, &address);
}

static void share(struct rig *rig)
{
    rig_negotiate(rig);
    assert_int_equal(rig_share(rig), 0);
}

/* Sizes */

static void a_packed_ring_has_any_size_up_to_32768(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_NUM, 0, 32768), 0);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_NUM, 0, 0), 1);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_NUM, 0, 32769), 1);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_NUM, 0, UINT32_MAX), 1);
    assert_string_equal(rig->backend.refused_reason, "a ring has 1 to 32768 entries");
    assert_int_equal(rig_share(rig), 0);
    static const uint32_t sizes[] = {1, 2, 3, 13, 100, 255};
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        rig->ring_size = sizes[i];
        rig_lay_ring(rig, 0);
        rig_start_ring(rig, 0);
        for (uint32_t served = 0; served < 2 * sizes[i] + 1; served++)
            serves_one(rig, 0);
        assert_int_equal(rig_get_base(rig, 0), rig_base_after(rig, 2 * sizes[i] + 1));
    }
}

static void the_size_may_come_before_the_features(void **state)
{
    struct rig *rig = *state;
    uint64_t protocol_features = rig->backend.protocol_features_max;
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_PROTOCOL_FEATURES, protocol_features, -1), 0);
    rig->ring_size = 13;
    rig_lay_ring(rig, 0);
    assert_int_equal(rig_ring_num(rig, 0), 0);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_BASE, 0, rig_base_after(rig, 0)), 0);
    assert_int_equal(rig_ring_set_address(rig, 0), 0);
    assert_int_equal(rig_ring_kick_line(rig, 0), 0);
    assert_int_equal(rig_ring_enable(rig, 0, true), 0);
    share(rig);
    assert_true(rig_running(rig, 0));
    serves_one(rig, 0);
}

/* Bases */

/* DPDK sends the lower half alone: then nothing is in flight. */
static void a_base_of_one_half_stands_for_both(void **state)
{
    struct rig *rig = *state;
    share(rig);
    const struct vhost_user_vring_address address = rig_ring_address(rig, 0);
    for (uint32_t served = 0; served < 3 * RIG_RING_SIZE; served++) {
        uint32_t half = rig_base_after(rig, served) & UINT16_MAX;
        assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_BASE, 0, half), 0);
        assert_int_equal(complete_ring(rig, &address), 0);
        serves_one(rig, 0);
        assert_int_equal(rig_get_base(rig, 0), rig_base_after(rig, served + 1));
        assert_int_equal(rig_ring_enable(rig, 0, false), 0);
    }
}

/* 0 in all 32 bits is the beginning of a second lap. */
static void a_base_of_zero_has_wrap_counters_of_zero(void **state)
{
    struct rig *rig = *state;
    share(rig);
    rig_start_ring(rig, 0);
    for (unsigned i = 0; i < RIG_RING_SIZE; i++)
        serves_one(rig, 0);
    assert_int_equal(rig_get_base(rig, 0), 0);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_BASE, 0, 0), 0);
    assert_int_equal(rig_ring_kick_line(rig, 0), 0);
    serves_one(rig, 0);
}

static void a_base_past_the_end_of_the_ring_is_refused(void **state)
{
    struct rig *rig = *state;
    share(rig);
    assert_int_equal(try_base(rig, 0x80008000), 0);
    assert_int_equal(try_base(rig, 0x800f800f), 0);
    static const uint32_t bad[] = {0x80108010, 0x8010, 0x7fff, 0x80008010, 0x80108000, 0xffffffff};
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(try_base(rig, bad[i]), 1);
        assert_string_equal(rig->backend.refused_reason, "a base past the end of the ring");
    }
}

static void a_base_with_more_in_flight_than_the_ring_has_is_refused(void **state)
{
    struct rig *rig = *state;
    share(rig);
    assert_int_equal(try_base(rig, 0x80028005), 0); /* three */
    assert_int_equal(try_base(rig, 0x80050005), 0); /* all sixteen */
    assert_int_equal(try_base(rig, 0x800e0001), 0);
    static const uint32_t bad[] = {0x80058002, 0x80010005, 0x00058006};
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(try_base(rig, bad[i]), 1);
        assert_string_equal(rig->backend.refused_reason, "a base with more in flight than the ring has");
    }
}

/* QEMU 7.2 does so when a machine pauses: status 0 first, then it asks for the base. */
static void a_base_survives_status_zero_in_the_middle_of_a_lap(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    for (unsigned i = 0; i < RIG_RING_SIZE + 5; i++)
        serves_one(rig, 0);
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_STATUS, 0, -1), 0);
    int64_t base = rig_get_base(rig, 0);
    assert_int_equal(base, 0x00050005);
    rig_negotiate(rig);
    assert_int_equal(rig_ring_num(rig, 0), 0);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_BASE, 0, (uint32_t)base), 0);
    assert_int_equal(rig_ring_set_address(rig, 0), 0);
    assert_int_equal(rig_ring_kick_line(rig, 0), 0);
    assert_int_equal(rig_ring_enable(rig, 0, true), 0);
    serves_one(rig, 0);
}

static void after_a_reset_of_the_device_rings_begin_anew_with_wrap_counters_of_one(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    for (unsigned i = 0; i < RIG_RING_SIZE + 5; i++)
        serves_one(rig, 0);
    assert_int_equal(rig_ack(rig, VHOST_USER_RESET_DEVICE, NULL, 0, -1), 0);
    rig_negotiate(rig);
    assert_int_equal(rig_get_base(rig, 0), 0x80008000);
    rig_lay_ring(rig, 0);
    const struct vhost_user_vring_address address = rig_ring_address(rig, 0);
    assert_int_equal(complete_ring(rig, &address), 0); /* no base is said */
    serves_one(rig, 0);
}

/* The firmware drives a disk with a split ring, and then the system with a packed one. */
static void the_layout_changes_with_the_features(void **state)
{
    struct rig *rig = *state;
    for (unsigned i = 0; i < 4; i++) {
        rig->ring_features = i % 2 == 0 ? 0 : VIRTIO_F_RING_PACKED;
        rig_lay_ring(rig, 0);
        rig_lay_ring(rig, 1);
        rig_start(rig);
        serves_one(rig, 0);
        serves_one(rig, 1);
        assert_int_equal(rig_get_base(rig, 0), rig_base_after(rig, 1));
        assert_int_equal(rig_get_base(rig, 1), rig_base_after(rig, 1));
    }
    rig_start_ring(rig, 1);
    uint64_t split = rig->backend.features & ~VIRTIO_F_RING_PACKED;
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_FEATURES, split, -1), 1);
    assert_int_equal(rig->backend.refused_error, -EBUSY);
}

/* Neither a reset of the device nor SET_VRING_BASE: as after status 0 of a firmware's driver. */
static void a_base_of_the_other_layout_is_forgotten(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    for (unsigned i = 0; i < 4; i++) {
        for (unsigned served = 0; served < 5; served++)
            serves_one(rig, 0);
        assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_STATUS, 0, -1), 0);
        assert_int_equal(rig_get_base(rig, 0), rig_base_after(rig, 5));
        rig->ring_features ^= VIRTIO_F_RING_PACKED;
        rig_lay_ring(rig, 0);
        rig_negotiate(rig);
        assert_int_equal(rig_get_base(rig, 0), rig_base_after(rig, 0));
        const struct vhost_user_vring_address address = rig_ring_address(rig, 0);
        assert_int_equal(complete_ring(rig, &address), 0);
        assert_true(rig_running(rig, 0));
    }
    serves_one(rig, 0);
}

/* Then it is of the layout to come, whatever the rings before it were. */
static void a_base_that_comes_before_the_features_is_kept(void **state)
{
    struct rig *rig = *state;
    rig->ring_features = 0;
    rig_lay_ring(rig, 0);
    rig_lay_ring(rig, 1);
    rig_start(rig);
    serves_one(rig, 0);
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_STATUS, 0, -1), 0);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_BASE, 0, 0x80038003), 0);
    rig->ring_features = VIRTIO_F_RING_PACKED;
    rig_negotiate(rig);
    assert_int_equal(rig_get_base(rig, 0), 0x80038003);
    /* The same features once more say nothing new. */
    rig_negotiate(rig);
    assert_int_equal(rig_get_base(rig, 0), 0x80038003);
    /* Now it is a packed ring's. */
    rig->ring_features = 0;
    rig_negotiate(rig);
    assert_int_equal(rig_get_base(rig, 0), 0);
}

/* Areas */

static void each_part_of_a_packed_ring_must_lie_in_memory_and_be_aligned(void **state)
{
    struct rig *rig = *state;
    share(rig);
    const struct vhost_user_vring_address good = rig_ring_address(rig, 0);
    const uint64_t end = RIG_FRONTEND_0 + RIG_REGION_BYTES;
    const struct {
        uint64_t desc, avail, used;
        const char *reason;
    } bad[] = {
        {good.desc + 8, good.avail, good.used, "the descriptors are not aligned to 16"},
        {end - 240, good.avail, good.used, "the descriptors do not lie in one piece of memory"},
        {good.desc, good.avail + 2, good.used, "the driver area is not aligned to 4"},
        {good.desc, end - 2, good.used, "the driver area does not lie in one piece of memory"},
        {good.desc, good.avail, good.used + 2, "the device area is not aligned to 4"},
        {good.desc, good.avail, UINT64_MAX - 3, "the device area does not lie in one piece of memory"},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        struct vhost_user_vring_address address = good;
        address.desc = bad[i].desc;
        address.avail = bad[i].avail;
        address.used = bad[i].used;
        assert_int_equal(try_ring(rig, &address), 1);
        assert_string_equal(rig->backend.refused_reason, bad[i].reason);
    }
    /* An event area is 4 bytes: it may be the last thing that there is. */
    struct vhost_user_vring_address address = good;
    address.avail = end - 4;
    address.used = end - 8;
    assert_int_equal(try_ring(rig, &address), 0);
}

static bool is_logged(const struct rig *rig, int object, uint64_t address)
{
    uint64_t page = address / DIRTY_LOG_PAGE_BYTES;
    return (rig->objects[object].bytes[page / 8] & 1u << page % 8) != 0;
}

/* The device area at the front end's log address, descriptors and data at their own. */
static void descriptors_are_logged_where_they_are_and_the_device_area_where_the_front_end_says(void **state)
{
    struct rig *rig = *state;
    share(rig);
    int object = rig_object(rig, LOG_BYTES);
    const struct vhost_user_log log = {.size = LOG_BYTES};
    uint64_t features = rig->backend.features | VHOST_F_LOG_ALL;
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_FEATURES, features, -1), 0);
    assert_int_equal(rig_ack(rig, VHOST_USER_SET_LOG_BASE, &log, sizeof(log), rig_handle(rig, object)), 0);
    struct vhost_user_vring_address address = rig_ring_address(rig, 0);
    const uint64_t area = RIG_RING(0) + 0x4000, elsewhere = UINT64_C(0x7000000);
    address.used = area - RIG_GUEST_0 + RIG_FRONTEND_0;
    address.flags = VHOST_USER_VRING_F_LOG;
    address.log = elsewhere;
    assert_int_equal(complete_ring(rig, &address), 0);
    rig->queues[0].driver.device_event = (void *)(rig->objects[0].bytes + (area - RIG_GUEST_0));
    memset(rig->objects[object].bytes, 0, LOG_BYTES);
    rig_offer(rig, 0, RIG_DATA_1);
    rig_kick(rig, 0);
    assert_int_equal(rig_used(rig, 0), 1);
    assert_true(is_logged(rig, object, RIG_RING(0)));
    assert_true(is_logged(rig, object, RIG_DATA_1));
    assert_true(is_logged(rig, object, elsewhere));
    assert_false(is_logged(rig, object, area));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_packed_ring_has_any_size_up_to_32768),
        TEST(the_size_may_come_before_the_features),
        TEST(a_base_of_one_half_stands_for_both),
        TEST(a_base_of_zero_has_wrap_counters_of_zero),
        TEST(a_base_past_the_end_of_the_ring_is_refused),
        TEST(a_base_with_more_in_flight_than_the_ring_has_is_refused),
        TEST(a_base_survives_status_zero_in_the_middle_of_a_lap),
        TEST(after_a_reset_of_the_device_rings_begin_anew_with_wrap_counters_of_one),
        TEST(the_layout_changes_with_the_features),
        TEST(a_base_of_the_other_layout_is_forgotten),
        TEST(a_base_that_comes_before_the_features_is_kept),
        TEST(each_part_of_a_packed_ring_must_lie_in_memory_and_be_aligned),
        TEST(descriptors_are_logged_where_they_are_and_the_device_area_where_the_front_end_says),
    };
    return cmocka_run_group_tests_name("backend_packed", tests, NULL, NULL);
}
