/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Guest memory that comes and goes, and the log of dirty pages. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "backend_rig.h"

static uint64_t layout; /* of the rings */

static int set_up(void **state)
{
    *state = rig_open_rings(2, layout);
    return 0;
}

static int tear_down(void **state)
{
    rig_close(*state);
    return 0;
}

static void serves_one_at(struct rig *rig, unsigned index, uint64_t address)
{
    rig_offer(rig, index, address);
    rig_kick(rig, index);
    assert_int_equal(rig_used(rig, index), 1);
}

static const struct guest_memory *map_of(const struct rig *rig)
{
    return &rig->backend.maps[rig->backend.current_map];
}

/* Tables */

static void a_table_s_regions_are_mapped_and_its_descriptors_closed(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_share(rig), 0);
    assert_int_equal(rig_handles(rig), 0);
    assert_int_equal(rig_mappings(rig), 2);
    assert_int_equal(map_of(rig)->region_count, 2);
    uint8_t byte = 0;
    rig->objects[1].bytes[5] = 99;
    assert_int_equal(guest_memory_read(map_of(rig), RIG_GUEST_1 + 5, &byte, 1), 0);
    assert_int_equal(byte, 99);
}

static void a_new_table_replaces_the_old_one(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_share(rig), 0);
    struct vhost_user_memory_table table = {.region_count = 1, .regions = {rig_region(1)}};
    assert_int_equal(rig_set_table(rig, &table), 0);
    assert_int_equal(rig_mappings(rig), 1);
    assert_int_equal(map_of(rig)->region_count, 1);
    assert_int_equal(map_of(rig)->regions[0].guest_base, RIG_GUEST_1);
}

static void an_empty_table_takes_all_memory_away(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_share(rig), 0);
    struct vhost_user_memory_table table = {.region_count = 0};
    assert_int_equal(rig_set_table(rig, &table), 0);
    assert_int_equal(rig_mappings(rig), 0);
}

static void mmap_offset_is_where_the_region_begins_in_its_file(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    /* Not even aligned to a page. */
    struct vhost_user_memory_table table = {.region_count = 1, .regions = {rig_region(0)}};
    table.regions[0].mmap_offset = 0x1234;
    table.regions[0].size = 0x2000;
    assert_int_equal(rig_set_table(rig, &table), 0);
    rig->objects[0].bytes[0x1234 + 0x10] = 42;
    uint8_t byte = 0;
    assert_int_equal(guest_memory_read(map_of(rig), RIG_GUEST_0 + 0x10, &byte, 1), 0);
    assert_int_equal(byte, 42);
}

/* Each must be refused with everything as before. */
static void refuses_table(struct rig *rig, const struct vhost_user_memory_table *table)
{
    assert_int_equal(rig_set_table(rig, table), 1);
    assert_int_equal(rig_handles(rig), 0);
    assert_int_equal(rig_mappings(rig), 2);
    assert_int_equal(map_of(rig)->region_count, 2);
    assert_int_equal(map_of(rig)->regions[0].guest_base, RIG_GUEST_0);
    assert_int_equal(map_of(rig)->regions[1].guest_base, RIG_GUEST_1);
}

static void a_bad_table_is_refused_and_the_old_one_stays(void **state)
{
    struct rig *rig = *state;
    struct vhost_user_memory_table good, table;
    rig_negotiate(rig);
    rig_table(&good);
    assert_int_equal(rig_set_table(rig, &good), 0);

    table = good;
    table.regions[1].size = 0;
    refuses_table(rig, &table);
    table = good;
    table.regions[1].guest_base = RIG_GUEST_0 + RIG_REGION_BYTES - 1; /* overlaps by a byte */
    refuses_table(rig, &table);
    table = good;
    table.regions[1].frontend_base = RIG_FRONTEND_0 + 4096;
    refuses_table(rig, &table);
    table = good;
    table.regions[1].guest_base = UINT64_MAX - 4095; /* wraps */
    refuses_table(rig, &table);
    table = good;
    table.regions[1].frontend_base = UINT64_MAX - 4095;
    refuses_table(rig, &table);
    table = good;
    table.regions[1].mmap_offset = UINT64_MAX - 4095;
    refuses_table(rig, &table);
    table = good;
    table.regions[1].mmap_offset = 4096; /* past the file's end */
    refuses_table(rig, &table);
    table = good;
    table.regions[0].size = UINT64_MAX;
    refuses_table(rig, &table);
}

static void a_table_whose_second_mapping_fails_is_undone(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_share(rig), 0);
    rig->maps_left = 1;
    assert_int_equal(rig_share(rig), 1);
    assert_int_equal(rig->backend.refused_error, -ENOMEM);
    assert_int_equal(rig_handles(rig), 0);
    assert_int_equal(rig_mappings(rig), 2);
}

static void a_descriptor_that_is_no_memory_is_refused(void **state)
{
    struct rig *rig = *state;
    const struct vhost_user_region region = rig_region(0);
    rig_negotiate(rig);
    assert_int_equal(rig_ack_region(rig, VHOST_USER_ADD_MEM_REG, &region, rig_line(rig)), 1);
    assert_int_equal(rig_handles(rig), 0);
}

static void a_table_under_running_rings_lets_them_go_on(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    serves_one_at(rig, 0, RIG_DATA_1);
    assert_int_equal(rig_share(rig), 0);
    assert_true(rig_running(rig, 0));
    assert_true(rig_running(rig, 1));
    serves_one_at(rig, 0, RIG_DATA_1);
    serves_one_at(rig, 1, RIG_DATA_0);
    assert_int_equal(rig_get_base(rig, 0), rig_base_after(rig, 2));
}

static void a_table_waits_for_requests_in_flight_before_it_unmaps(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    rig->hold = true;
    rig_offer(rig, 0, RIG_DATA_1);
    rig_offer(rig, 1, RIG_DATA_0);
    rig_kick(rig, 0);
    rig_kick(rig, 1);
    assert_int_equal(rig_share(rig), RIG_NO_ANSWER);
    assert_int_equal(rig->backend.wait, VHOST_USER_WAIT_MEMORY);
    rig_complete(rig, 0, 1);
    assert_int_equal(rig->reply_count, 0);
    assert_int_equal(rig_mappings(rig), 4);
    rig_complete(rig, 1, 1);
    assert_int_equal(rig_take_u64(rig, VHOST_USER_SET_MEM_TABLE), 0);
    assert_int_equal(rig_mappings(rig), 2);
    rig->hold = false;
    assert_int_equal(rig_used(rig, 0), 1);
    serves_one_at(rig, 0, RIG_DATA_1);
}

static void a_table_without_a_running_ring_is_refused_and_the_ring_goes_on(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    rig->hold = true;
    rig_offer(rig, 0, RIG_DATA_1);
    rig_kick(rig, 0);
    struct vhost_user_memory_table table = {.region_count = 1, .regions = {rig_region(1)}};
    assert_int_equal(rig_set_table(rig, &table), 1); /* at once: nothing was stopped */
    assert_int_equal(rig->backend.refused_error, -EFAULT);
    assert_true(rig_running(rig, 0));
    assert_int_equal(rig_mappings(rig), 2);
    rig_complete(rig, 0, 1);
    assert_int_equal(rig_used(rig, 0), 1);
    rig->hold = false;
    serves_one_at(rig, 0, RIG_DATA_0);
}

/* Slots */

static void an_added_region_is_there_for_the_next_request_without_stopping_any(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    const struct vhost_user_region first = rig_region(0), second = rig_region(1);
    assert_int_equal(rig_ack_region(rig, VHOST_USER_ADD_MEM_REG, &first, rig_handle(rig, 0)), 0);
    rig_start_ring(rig, 0);
    rig->hold = true;
    rig_offer(rig, 0, RIG_DATA_0);
    rig_kick(rig, 0);
    /* Acknowledged though a request is out. */
    assert_int_equal(rig_ack_region(rig, VHOST_USER_ADD_MEM_REG, &second, rig_handle(rig, 1)), 0);
    assert_int_equal(rig_handles(rig), 3);
    assert_int_equal(rig->backend.maps[1 - rig->backend.current_map].region_count, 0);
    rig_complete(rig, 0, 1);
    assert_int_equal(rig_used(rig, 0), 1);
    rig->hold = false;
    serves_one_at(rig, 0, RIG_DATA_1);
    assert_int_equal(rig->objects[1].bytes[0], 0x5a);
}

static void a_bad_region_is_refused_and_the_map_stays(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    struct vhost_user_region region = rig_region(1);
    assert_int_equal(rig_ack_region(rig, VHOST_USER_ADD_MEM_REG, &region, rig_handle(rig, 1)), 1);
    assert_int_equal(rig->backend.refused_error, -EEXIST);
    region.guest_base = UINT64_C(0x80000000);
    assert_int_equal(rig_ack_region(rig, VHOST_USER_ADD_MEM_REG, &region, rig_handle(rig, 1)), 1);
    region.frontend_base = UINT64_C(0x7f8000000000);
    region.mmap_offset = UINT64_MAX;
    assert_int_equal(rig_ack_region(rig, VHOST_USER_ADD_MEM_REG, &region, rig_handle(rig, 1)), 1);
    region.mmap_offset = 0;
    region.size = 0;
    assert_int_equal(rig_ack_region(rig, VHOST_USER_ADD_MEM_REG, &region, rig_handle(rig, 1)), 1);
    assert_int_equal(rig_mappings(rig), 2);
    assert_int_equal(rig_handles(rig), 6);
    serves_one_at(rig, 0, RIG_DATA_1);
}

static void as_many_regions_as_were_promised_fit_and_no_more(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    for (unsigned i = 0; i <= GUEST_MEMORY_REGIONS_MAX; i++) {
        const struct vhost_user_region region = {
            .guest_base = UINT64_C(0x10000) * i,
            .size = 4096,
            .frontend_base = RIG_FRONTEND_0 + UINT64_C(0x10000) * i,
        };
        bool fits = i < GUEST_MEMORY_REGIONS_MAX;
        assert_int_equal(rig_ack_region(rig, VHOST_USER_ADD_MEM_REG, &region, rig_handle(rig, 0)), fits ? 0 : 1);
    }
    assert_int_equal(rig->backend.refused_error, -ENOSPC);
    assert_int_equal(rig_mappings(rig), GUEST_MEMORY_REGIONS_MAX);
}

static void a_removed_region_is_unmapped_when_no_request_is_out(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    const struct vhost_user_region region = rig_region(1);
    rig->hold = true;
    rig_offer(rig, 0, RIG_DATA_1);
    rig_kick(rig, 0);
    assert_int_equal(rig_ack_region(rig, VHOST_USER_REM_MEM_REG, &region, -1), RIG_NO_ANSWER);
    assert_int_equal(rig_mappings(rig), 2);
    rig_complete(rig, 0, 1);
    assert_int_equal(rig_take_u64(rig, VHOST_USER_REM_MEM_REG), 0);
    assert_int_equal(rig_mappings(rig), 1);
    assert_true(rig_running(rig, 0));
    assert_int_equal(rig_used(rig, 0), 1);
    /* The driver may name it no longer. */
    rig->hold = false;
    rig_offer(rig, 0, RIG_DATA_1);
    rig_kick(rig, 0);
    assert_int_equal(rig->queues[0].errors, 1);
    serves_one_at(rig, 1, RIG_DATA_0);
}

static void a_region_is_removed_by_both_addresses_and_its_size_whatever_its_offset(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_share(rig), 0);
    const struct vhost_user_region good = rig_region(1);
    struct vhost_user_region region = good;
    region.size -= 1;
    assert_int_equal(rig_ack_region(rig, VHOST_USER_REM_MEM_REG, &region, -1), 1);
    region = good;
    region.guest_base += 1;
    assert_int_equal(rig_ack_region(rig, VHOST_USER_REM_MEM_REG, &region, -1), 1);
    region = good;
    region.frontend_base -= 1;
    assert_int_equal(rig_ack_region(rig, VHOST_USER_REM_MEM_REG, &region, -1), 1);
    assert_int_equal(rig->backend.refused_error, -ENOENT);
    assert_int_equal(rig_mappings(rig), 2);
    region = good;
    region.mmap_offset = 12345;
    assert_int_equal(rig_ack_region(rig, VHOST_USER_REM_MEM_REG, &region, -1), 0);
    assert_int_equal(rig_mappings(rig), 1);
    assert_int_equal(rig_ack_region(rig, VHOST_USER_REM_MEM_REG, &region, -1), 1);
}

static void a_descriptor_that_comes_with_removed_memory_is_closed_unused(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_share(rig), 0);
    const struct vhost_user_region region = rig_region(1);
    rig->maps_left = 0;
    assert_int_equal(rig_ack_region(rig, VHOST_USER_REM_MEM_REG, &region, rig_handle(rig, 1)), 0);
    assert_int_equal(rig_handles(rig), 0);
}

static void a_ring_whose_memory_is_taken_away_waits_for_it_and_goes_on(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    serves_one_at(rig, 0, RIG_DATA_0);
    /* QEMU does this when a region is split: away with the old one, then the new ones, under a running device. */
    const struct vhost_user_region whole = rig_region(0);
    assert_int_equal(rig_ack_region(rig, VHOST_USER_REM_MEM_REG, &whole, -1), 0);
    assert_false(rig_running(rig, 0));
    assert_false(rig_running(rig, 1));
    rig_offer(rig, 0, RIG_DATA_0);
    rig_kick(rig, 0);
    assert_int_equal(rig_ring_call_line(rig, 0), 0);
    struct vhost_user_region low = whole, high = whole;
    low.size = 0x80000;
    high.size -= 0x80000;
    high.guest_base += 0x80000;
    high.frontend_base += 0x80000;
    high.mmap_offset += 0x80000;
    assert_int_equal(rig_ack_region(rig, VHOST_USER_ADD_MEM_REG, &high, rig_handle(rig, 0)), 0);
    assert_false(rig_running(rig, 0));
    assert_int_equal(rig_ack_region(rig, VHOST_USER_ADD_MEM_REG, &low, rig_handle(rig, 0)), 0);
    assert_true(rig_running(rig, 0));
    assert_true(rig_running(rig, 1));
    rig_run(rig);
    assert_int_equal(rig_used(rig, 0), 1);
    assert_int_equal(rig_get_base(rig, 0), rig_base_after(rig, 2));
}

static void memory_under_a_broken_ring_can_go_and_come(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    /* One request is out when the guest breaks the rules. */
    rig->hold = true;
    rig_offer(rig, 0, RIG_DATA_1);
    rig_kick(rig, 0);
    rig_offer(rig, 0, UINT64_MAX);
    rig_kick(rig, 0);
    assert_int_equal(rig->queues[0].errors, 1);
    const struct vhost_user_region region = {
        .guest_base = UINT64_C(0x90000000),
        .size = RIG_REGION_BYTES,
        .frontend_base = UINT64_C(0x7f9000000000),
    };
    assert_int_equal(rig_ack_region(rig, VHOST_USER_ADD_MEM_REG, &region, rig_handle(rig, 1)), 0);
    assert_int_equal(rig_share(rig), RIG_NO_ANSWER);
    rig_complete(rig, 0, 1);
    assert_int_equal(rig_take_u64(rig, VHOST_USER_SET_MEM_TABLE), 0);
    assert_int_equal(rig_mappings(rig), 2);
    assert_int_equal(rig->queues[0].errors, 1); /* told once */
}

static void a_table_need_not_have_a_broken_ring(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_share(rig), 0);
    rig_start_ring(rig, 0);
    rig_break(rig, 0);
    struct vhost_user_memory_table table = {.region_count = 1, .regions = {rig_region(1)}};
    assert_int_equal(rig_set_table(rig, &table), 0);
    assert_false(rig_running(rig, 0));
}

/* Log */

#define LOG_BYTES 0x10000 /* guest addresses up to 2 GiB */

static bool is_logged(const uint8_t *log, uint64_t address)
{
    uint64_t page = address / DIRTY_LOG_PAGE_BYTES;
    return (log[page / 8] & 1u << page % 8) != 0;
}

static int64_t set_log(struct rig *rig, int object, uint64_t size, uint64_t offset)
{
    const struct vhost_user_log log = {.size = size, .offset = offset};
    return rig_ack(rig, VHOST_USER_SET_LOG_BASE, &log, sizeof(log), rig_handle(rig, object));
}

static int64_t set_log_all(struct rig *rig, bool on)
{
    uint64_t features = rig->backend.features & ~VHOST_F_LOG_ALL;
    return rig_ack_u64(rig, VHOST_USER_SET_FEATURES, features | (on ? VHOST_F_LOG_ALL : 0), -1);
}

static int64_t set_ring_log(struct rig *rig, unsigned index, bool on, uint64_t log_address)
{
    struct vhost_user_vring_address address = rig_ring_address(rig, index);
    address.flags = on ? VHOST_USER_VRING_F_LOG : 0;
    address.log = log_address;
    return rig_ack(rig, VHOST_USER_SET_VRING_ADDR, &address, sizeof(address), -1);
}

static void a_migration_turns_the_log_on_and_off_under_running_rings(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    const uint64_t used_address = rig->queues[0].driver.used_address;
    int object = rig_object(rig, LOG_BYTES);
    uint8_t *log = rig->objects[object].bytes;
    serves_one_at(rig, 0, RIG_DATA_1);
    /* QEMU's vhost_migration_log */
    assert_int_equal(set_log(rig, object, LOG_BYTES, 0), 0);
    serves_one_at(rig, 0, RIG_DATA_1);
    assert_false(is_logged(log, RIG_DATA_1));
    assert_int_equal(set_log_all(rig, true), 0);
    serves_one_at(rig, 0, RIG_DATA_1);
    assert_true(is_logged(log, RIG_DATA_1));
    assert_false(is_logged(log, RIG_DATA_1 + DIRTY_LOG_PAGE_BYTES));
    assert_false(is_logged(log, used_address));
    assert_int_equal(set_ring_log(rig, 0, true, used_address), 0);
    serves_one_at(rig, 0, RIG_DATA_1);
    assert_true(is_logged(log, used_address));
    assert_true(rig_running(rig, 0));

    memset(log, 0, LOG_BYTES);
    assert_int_equal(set_log_all(rig, false), 0);
    assert_int_equal(set_ring_log(rig, 0, false, used_address), 0);
    serves_one_at(rig, 0, RIG_DATA_1);
    assert_false(is_logged(log, RIG_DATA_1));
    assert_false(is_logged(log, used_address));
}

static void a_ring_that_starts_with_the_log_on_is_logged(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_share(rig), 0);
    int object = rig_object(rig, LOG_BYTES);
    assert_int_equal(set_log_all(rig, true), 0);
    rig_start_ring(rig, 0);
    assert_int_equal(set_log(rig, object, LOG_BYTES, 0), 0);
    serves_one_at(rig, 0, RIG_DATA_1);
    assert_true(is_logged(rig->objects[object].bytes, RIG_DATA_1));
    rig_start_ring(rig, 1);
    serves_one_at(rig, 1, RIG_DATA_1 + 0x4000);
    assert_true(is_logged(rig->objects[object].bytes, RIG_DATA_1 + 0x4000));
}

static void the_used_ring_is_logged_where_the_front_end_says(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    int object = rig_object(rig, LOG_BYTES);
    const uint64_t elsewhere = UINT64_C(0x7000000); /* in no region */
    assert_int_equal(set_log_all(rig, true), 0);
    assert_int_equal(set_log(rig, object, LOG_BYTES, 0), 0);
    assert_int_equal(set_ring_log(rig, 0, true, elsewhere), 0);
    serves_one_at(rig, 0, RIG_DATA_1);
    assert_true(is_logged(rig->objects[object].bytes, elsewhere));
    /* A packed ring's descriptors, in the same page as the device area, are logged where they are. */
    assert_int_equal(is_logged(rig->objects[object].bytes, rig->queues[0].driver.used_address), layout != 0);
}

static void a_request_is_logged_in_the_log_that_is_current_when_it_completes(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    int first = rig_object(rig, LOG_BYTES), second = rig_object(rig, LOG_BYTES);
    assert_int_equal(set_log_all(rig, true), 0);
    assert_int_equal(set_log(rig, first, LOG_BYTES, 0), 0);
    rig->hold = true;
    rig_offer(rig, 0, RIG_DATA_1);
    rig_kick(rig, 0);
    unsigned mappings = rig_mappings(rig);
    assert_int_equal(set_log(rig, second, LOG_BYTES, 0), 0);
    assert_int_equal(rig_mappings(rig), mappings);
    rig_complete(rig, 0, 1);
    assert_false(is_logged(rig->objects[first].bytes, RIG_DATA_1));
    assert_true(is_logged(rig->objects[second].bytes, RIG_DATA_1));
}

static void a_page_past_the_end_of_the_log_is_left_out(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    int object = rig_object(rig, LOG_BYTES);
    assert_int_equal(set_log_all(rig, true), 0);
    assert_int_equal(set_log(rig, object, 4, 64), 0);
    serves_one_at(rig, 0, RIG_DATA_1);
    serves_one_at(rig, 0, RIG_GUEST_0 + 0x1000);
    for (unsigned i = 0; i < LOG_BYTES; i++)
        assert_int_equal(rig->objects[object].bytes[i], i == 64 ? 2 : 0);
}

static void a_log_that_cannot_be_had_is_refused_and_the_old_one_stays(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    int object = rig_object(rig, LOG_BYTES);
    assert_int_equal(set_log_all(rig, true), 0);
    assert_int_equal(set_log(rig, object, LOG_BYTES, 0), 0);
    unsigned handles = rig_handles(rig);
    assert_int_equal(set_log(rig, object, 0, 0), 1);
    assert_int_equal(set_log(rig, object, LOG_BYTES, 1), 1);
    assert_int_equal(set_log(rig, object, UINT64_MAX, 4096), 1);
    uint64_t address = 0;
    assert_int_equal(rig_ack(rig, VHOST_USER_SET_LOG_BASE, &address, sizeof(address), -1), 1);
    assert_int_equal(rig_mappings(rig), 3);
    assert_int_equal(rig_handles(rig), handles);
    serves_one_at(rig, 0, RIG_DATA_1);
    assert_true(is_logged(rig->objects[object].bytes, RIG_DATA_1));
}

static void set_log_base_is_always_answered_with_shared_memory_and_else_only_when_asked(void **state)
{
    struct rig *rig = *state;
    const struct vhost_user_log log = {.size = LOG_BYTES};
    int object = rig_object(rig, LOG_BYTES);
    rig_negotiate(rig);
    assert_int_equal(rig_send(rig, VHOST_USER_SET_LOG_BASE, 0, &log, sizeof(log), rig_handle(rig, object)), 0);
    assert_int_equal(rig_take_u64(rig, VHOST_USER_SET_LOG_BASE), 0);
    assert_int_equal(rig_send(rig, VHOST_USER_SET_LOG_BASE, 0, &log, sizeof(log), -1), 0);
    assert_int_equal(rig_take_u64(rig, VHOST_USER_SET_LOG_BASE), 1);
    rig_disconnect(rig);
    rig_negotiate_some(rig, VHOST_USER_F_PROTOCOL_FEATURES, VHOST_USER_PROTOCOL_F_REPLY_ACK);
    assert_int_equal(rig_send(rig, VHOST_USER_SET_LOG_BASE, 0, &log, sizeof(log), -1), 0);
    assert_int_equal(rig->reply_count, 0);
    assert_int_equal(rig_ack(rig, VHOST_USER_SET_LOG_BASE, &log, sizeof(log), -1), 1);
}

static void the_log_s_line_is_kept_until_another_comes_or_the_end(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_ack(rig, VHOST_USER_SET_LOG_FD, NULL, 0, rig_line(rig)), 0);
    assert_int_equal(rig_ack(rig, VHOST_USER_SET_LOG_FD, NULL, 0, rig_line(rig)), 0);
    assert_int_equal(rig_handles(rig), 1);
    rig_disconnect(rig);
    assert_int_equal(rig_handles(rig), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    layout = rig_layout(argc, argv);
    const struct CMUnitTest tests[] = {
        TEST(a_table_s_regions_are_mapped_and_its_descriptors_closed),
        TEST(a_new_table_replaces_the_old_one),
        TEST(an_empty_table_takes_all_memory_away),
        TEST(mmap_offset_is_where_the_region_begins_in_its_file),
        TEST(a_bad_table_is_refused_and_the_old_one_stays),
        TEST(a_table_whose_second_mapping_fails_is_undone),
        TEST(a_descriptor_that_is_no_memory_is_refused),
        TEST(a_table_under_running_rings_lets_them_go_on),
        TEST(a_table_waits_for_requests_in_flight_before_it_unmaps),
        TEST(a_table_without_a_running_ring_is_refused_and_the_ring_goes_on),
        TEST(an_added_region_is_there_for_the_next_request_without_stopping_any),
        TEST(a_bad_region_is_refused_and_the_map_stays),
        TEST(as_many_regions_as_were_promised_fit_and_no_more),
        TEST(a_removed_region_is_unmapped_when_no_request_is_out),
        TEST(a_region_is_removed_by_both_addresses_and_its_size_whatever_its_offset),
        TEST(a_descriptor_that_comes_with_removed_memory_is_closed_unused),
        TEST(a_ring_whose_memory_is_taken_away_waits_for_it_and_goes_on),
        TEST(memory_under_a_broken_ring_can_go_and_come),
        TEST(a_table_need_not_have_a_broken_ring),
        TEST(a_migration_turns_the_log_on_and_off_under_running_rings),
        TEST(a_ring_that_starts_with_the_log_on_is_logged),
        TEST(the_used_ring_is_logged_where_the_front_end_says),
        TEST(a_request_is_logged_in_the_log_that_is_current_when_it_completes),
        TEST(a_page_past_the_end_of_the_log_is_left_out),
        TEST(a_log_that_cannot_be_had_is_refused_and_the_old_one_stays),
        TEST(set_log_base_is_always_answered_with_shared_memory_and_else_only_when_asked),
        TEST(the_log_s_line_is_kept_until_another_comes_or_the_end),
    };
    return cmocka_run_group_tests_name("backend_memory", tests, NULL, NULL);
}
