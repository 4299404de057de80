/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The in-flight record of packed rings: its room, its layout, and that a successor takes up what a back end left. */
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

/* Two queues of 16: 32 + 32 * 16 bytes each, rounded up to 64. */
#define AREA_BYTES UINT64_C(576)
/* As the back end makes them: with room for 1024. */
#define MADE_BYTES UINT64_C(32832)

static const struct vhost_user_inflight two_queues = {
    .mmap_size = 2 * AREA_BYTES,
    .queue_count = 2,
    .queue_size = RIG_RING_SIZE,
};

static struct vhost_user_inflight get_inflight(struct rig *rig, uint16_t queue_size, int *ret_object)
{
    const struct vhost_user_inflight asked = {.queue_count = 2, .queue_size = queue_size};
    struct rig_reply reply;
    assert_int_equal(rig_send(rig, VHOST_USER_GET_INFLIGHT_FD, 0, &asked, sizeof(asked), -1), 0);
    assert_true(rig_take(rig, &reply));
    *ret_object = reply.object;
    return reply.message.payload.inflight;
}

static int64_t set_inflight(struct rig *rig, const struct vhost_user_inflight *given, int object)
{
    return rig_ack(rig, VHOST_USER_SET_INFLIGHT_FD, given, sizeof(*given), rig_handle(rig, object));
}

static struct virtq_record_packed *area(struct rig *rig, int object, unsigned index)
{
    return (struct virtq_record_packed *)(void *)(rig->objects[object].bytes + index * AREA_BYTES);
}

static unsigned count_inflight(const struct virtq_record_packed *record)
{
    unsigned count = 0;
    for (unsigned i = 0; i < record->desc_num; i++)
        count += record->desc[i].inflight;
    return count;
}

/* A front end with a record that nobody has used yet. Its object. */
static int begin(struct rig *rig)
{
    int object = rig_object(rig, 2 * AREA_BYTES);
    rig_negotiate(rig);
    assert_int_equal(rig_share(rig), 0);
    assert_int_equal(set_inflight(rig, &two_queues, object), 0);
    return object;
}

static void serves_one(struct rig *rig, unsigned index)
{
    rig_offer(rig, index, RIG_DATA_0);
    rig_kick(rig, index);
    assert_int_equal(rig_used(rig, index), 1);
}

/* Size and layout */

static void a_record_has_room_for_the_larger_entries_of_packed_rings(void **state)
{
    struct rig *rig = *state;
    int object;
    rig_negotiate(rig);
    struct vhost_user_inflight made = get_inflight(rig, RIG_RING_SIZE, &object);
    assert_int_equal(made.mmap_size, 2 * MADE_BYTES);
    made = get_inflight(rig, 100, &object);
    assert_int_equal(made.queue_size, 100);
    made = get_inflight(rig, 2000, &object); /* no power of two */
    assert_int_equal(made.mmap_size, 2 * (32 + 2000 * 32 + 32));
}

static void a_record_that_is_asked_for_before_the_features_has_room_for_either_layout(void **state)
{
    struct rig *rig = *state;
    uint64_t protocol_features = rig->backend.protocol_features_max;
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_PROTOCOL_FEATURES, protocol_features, -1), 0);
    for (unsigned i = 0; i < 2; i++) {
        int object;
        rig->ring_features = i == 0 ? 0 : VIRTIO_F_RING_PACKED;
        rig_lay_ring(rig, 0);
        struct vhost_user_inflight made = get_inflight(rig, RIG_RING_SIZE, &object);
        assert_int_equal(set_inflight(rig, &made, object), 0);
        rig_negotiate(rig);
        assert_int_equal(rig_share(rig), 0);
        rig_start_ring(rig, 0);
        assert_non_null(rig->virtqueues[0].inflight);
        serves_one(rig, 0);
        assert_int_equal(rig_ack(rig, VHOST_USER_RESET_DEVICE, NULL, 0, -1), 0);
    }
}

static void a_record_with_room_for_split_rings_alone_is_refused(void **state)
{
    struct rig *rig = *state;
    int object = rig_object(rig, 2 * AREA_BYTES);
    struct vhost_user_inflight small = two_queues;
    small.mmap_size = 2 * UINT64_C(320);
    rig_negotiate(rig);
    assert_int_equal(set_inflight(rig, &small, object), 1);
    assert_string_equal(rig->backend.refused_reason, "a record smaller than its queues need");
    assert_int_equal(rig_mappings(rig), 0);
}

/* One that came before the features has room for split rings, or is none: without is better than not at all. */
static void packed_rings_run_without_a_record_that_turns_out_too_small(void **state)
{
    struct rig *rig = *state;
    int object = rig_object(rig, 2 * AREA_BYTES);
    struct vhost_user_inflight small = two_queues;
    uint64_t protocol_features = rig->backend.protocol_features_max;
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_PROTOCOL_FEATURES, protocol_features, -1), 0);
    small.mmap_size = 2 * UINT64_C(320);
    assert_int_equal(set_inflight(rig, &small, object), 0);
    rig_negotiate(rig);
    assert_int_equal(rig_share(rig), 0);
    rig_start_ring(rig, 0);
    assert_null(rig->virtqueues[0].inflight);
    serves_one(rig, 0);
    assert_int_equal(rig_ack(rig, VHOST_USER_RESET_DEVICE, NULL, 0, -1), 0);
}

static void a_record_of_the_other_layout_is_void_when_the_features_change(void **state)
{
    struct rig *rig = *state;
    int object;
    rig->ring_features = 0;
    rig_negotiate(rig);
    struct vhost_user_inflight made = get_inflight(rig, RIG_RING_SIZE, &object);
    assert_int_equal(set_inflight(rig, &made, object), 0);
    assert_int_equal(rig_share(rig), 0);
    for (unsigned i = 0; i < 4; i++) {
        rig->ring_features = i % 2 == 0 ? 0 : VIRTIO_F_RING_PACKED;
        rig_negotiate(rig);
        rig_lay_ring(rig, 0);
        rig_start_ring(rig, 0);
        for (unsigned k = 0; k < 5; k++)
            serves_one(rig, 0);
        assert_int_equal(rig_get_base(rig, 0), rig_base_after(rig, 5));
    }
}

/* Requests in flight */

static void requests_in_flight_stand_in_the_record_with_copies_of_their_descriptors(void **state)
{
    struct rig *rig = *state;
    int object = begin(rig);
    rig_start_ring(rig, 0);
    rig_start_ring(rig, 1);
    rig->hold = true;
    for (unsigned i = 0; i < 3; i++)
        rig_offer(rig, 1, RIG_DATA_0 + i);
    rig_kick(rig, 1);
    const struct virtq_record_packed *record = area(rig, object, 1);
    assert_int_equal(record->version, 1);
    assert_int_equal(record->desc_num, RIG_RING_SIZE);
    assert_int_equal(count_inflight(record), 3);
    assert_int_equal(count_inflight(area(rig, object, 0)), 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(record->desc[i].address, RIG_DATA_0 + i);
        assert_int_equal(record->desc[i].length, 16);
        assert_int_equal(record->desc[i].num, 1);
    }
    rig_complete(rig, 1, 2);
    assert_int_equal(count_inflight(record), 1);
    assert_int_equal(record->used_index, 2);
    assert_int_equal(record->used_wrap_counter, 1);
    rig_complete(rig, 1, 1);
    assert_int_equal(count_inflight(record), 0);
    assert_int_equal(rig_get_base(rig, 1), rig_base_after(rig, 3));
}

static void a_stopped_ring_goes_on_with_the_same_record_over_several_laps(void **state)
{
    struct rig *rig = *state;
    int object = begin(rig);
    rig_start_ring(rig, 0);
    for (uint32_t served = 1; served <= 3 * RIG_RING_SIZE; served++) {
        serves_one(rig, 0);
        int64_t base = rig_get_base(rig, 0);
        assert_int_equal(base, rig_base_after(rig, served));
        if (served % 2 == 0)
            assert_int_equal(set_inflight(rig, &two_queues, object), 0);
        assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_BASE, 0, (uint32_t)base), 0);
        assert_int_equal(rig_ring_kick_line(rig, 0), 0);
    }
    assert_int_equal(count_inflight(area(rig, object, 0)), 0);
}

/* What the driver reset is at its beginning again, which nothing in the ring tells: the base does. */
static void a_ring_that_is_laid_anew_is_believed_more_than_its_record(void **state)
{
    struct rig *rig = *state;
    int object;
    rig_negotiate(rig);
    assert_int_equal(rig_share(rig), 0);
    struct vhost_user_inflight made = get_inflight(rig, RIG_RING_SIZE, &object);
    assert_int_equal(set_inflight(rig, &made, object), 0);
    static const uint32_t sizes[] = {16, 16, 64, 5, 1000};
    for (unsigned life = 0; life < ARRAY_SIZE(sizes); life++) {
        rig->ring_size = sizes[life];
        rig_lay_ring(rig, 0);
        rig_start_ring(rig, 0);
        assert_non_null(rig->virtqueues[0].inflight);
        for (unsigned i = 0; i < sizes[life] + 3; i++)
            serves_one(rig, 0);
        assert_int_equal(rig_get_base(rig, 0), rig_base_after(rig, sizes[life] + 3));
    }
}

static void a_record_of_a_ring_of_another_size_is_refused(void **state)
{
    struct rig *rig = *state;
    int object = rig_object(rig, 2 * AREA_BYTES);
    area(rig, object, 0)->version = 1;
    area(rig, object, 0)->desc_num = RIG_RING_SIZE / 2;
    rig_negotiate(rig);
    assert_int_equal(rig_share(rig), 0);
    assert_int_equal(set_inflight(rig, &two_queues, object), 0);
    assert_int_equal(rig_ring_num(rig, 0), 0);
    assert_int_equal(rig_ring_set_address(rig, 0), 0);
    assert_int_equal(rig_ring_kick_line(rig, 0), 0);
    assert_int_equal(rig_ring_enable(rig, 0, true), 1);
    assert_string_equal(rig->backend.refused_reason, "a record of a ring of another size");
    rig_start_ring(rig, 1);
    serves_one(rig, 1);
}

static void a_record_of_another_version_or_size_is_refused(void **state)
{
    struct rig *rig = *state;
    int object = rig_object(rig, 2 * AREA_BYTES);
    rig_negotiate(rig);
    area(rig, object, 1)->version = 2;
    assert_int_equal(set_inflight(rig, &two_queues, object), 1);
    area(rig, object, 1)->version = 1;
    area(rig, object, 1)->desc_num = RIG_RING_SIZE + 1;
    assert_int_equal(set_inflight(rig, &two_queues, object), 1);
    assert_int_equal(rig_mappings(rig), 0);
}

/* Start ring 0 of @rig as QEMU does after its back end died: of a packed ring's base it knows only the oldest. */
static void restart(struct rig *rig)
{
    assert_int_equal(rig_ring_num(rig, 0), 0);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_BASE, 0, rig_base_after(rig, 0)), 0);
    assert_int_equal(rig_ring_set_address(rig, 0), 0);
    assert_int_equal(rig_ring_call_line(rig, 0), 0);
    assert_int_equal(rig_ring_kick_line(rig, 0), 0);
    assert_int_equal(rig_ring_enable(rig, 0, true), 0);
    rig_run(rig);
}

static struct rig *succeed(struct rig *rig, int object)
{
    struct rig *successor = rig_open_rings(2, rig->ring_features);
    rig_inherit(successor, rig);
    int copy = rig_object(successor, rig->objects[object].size);
    memcpy(successor->objects[copy].bytes, rig->objects[object].bytes, (size_t)rig->objects[object].size);
    rig_negotiate(successor);
    assert_int_equal(rig_share(successor), 0);
    assert_int_equal(set_inflight(successor, &two_queues, copy), 0);
    successor->hold = true;
    return successor;
}

/* The second request comes back first, so that its used descriptor lies over the first request's. */
static void complete_second(struct rig *rig)
{
    struct virtq_chain **held = rig->queues[0].held;
    struct virtq_chain *first = held[0];
    held[0] = held[1];
    held[1] = first;
    rig_complete(rig, 0, 1);
}

/* At every place of the ring, so that all of it wraps at some time. */
static void a_successor_takes_up_what_its_predecessor_had_in_flight(void **state)
{
    (void)state;
    for (unsigned before = 0; before <= 2 * RIG_RING_SIZE; before++) {
        struct rig *rig = rig_open_rings(2, VIRTIO_F_RING_PACKED);
        int object = begin(rig);
        rig_start_ring(rig, 0);
        for (unsigned i = 0; i < before; i++)
            serves_one(rig, 0);
        rig->hold = true;
        for (unsigned i = 0; i < 4; i++)
            rig_offer(rig, 0, RIG_DATA_1 + 4096 * i);
        rig_kick(rig, 0);
        complete_second(rig);
        assert_int_equal(rig_used(rig, 0), 1);
        rig_offer(rig, 0, RIG_DATA_1 + 4096 * 4); /* and one that it never saw */

        struct rig *successor = succeed(rig, object);
        restart(successor);
        assert_true(successor->queues[0].notified > 0);
        static const unsigned expected[] = {0, 2, 3, 4};
        assert_int_equal(successor->queues[0].held_count, 4);
        for (unsigned i = 0; i < 4; i++)
            assert_int_equal(successor->queues[0].held[i]->addresses[0], RIG_DATA_1 + 4096 * expected[i]);
        rig_complete(successor, 0, 4);
        assert_int_equal(rig_used(successor, 0), 4);
        assert_int_equal(rig_get_base(successor, 0), rig_base_after(successor, before + 5));
        rig_close(successor);
        rig_close(rig);
    }
}

/* Nothing was in flight, and still the record alone knows where the ring stands. */
static void a_successor_goes_on_where_its_predecessor_was_with_nothing_in_flight(void **state)
{
    struct rig *rig = *state;
    int object = begin(rig);
    rig_start_ring(rig, 0);
    for (unsigned i = 0; i < RIG_RING_SIZE + 7; i++)
        serves_one(rig, 0);
    struct rig *successor = succeed(rig, object);
    restart(successor);
    successor->hold = false;
    for (unsigned i = 0; i < 2 * RIG_RING_SIZE; i++)
        serves_one(successor, 0);
    rig_close(successor);
}

static void a_successor_keeps_the_order_where_it_is_negotiated(void **state)
{
    (void)state;
    struct rig *rig = rig_open_rings(2, VIRTIO_F_RING_PACKED | VIRTIO_F_IN_ORDER);
    int object = begin(rig);
    rig_start_ring(rig, 0);
    rig->hold = true;
    for (unsigned i = 0; i < 3; i++)
        rig_offer(rig, 0, RIG_DATA_1 + 4096 * i);
    rig_kick(rig, 0);
    complete_second(rig); /* waits for the first, and dies with it */
    assert_int_equal(rig_used(rig, 0), 0);

    struct rig *successor = succeed(rig, object);
    restart(successor);
    assert_int_equal(successor->queues[0].held_count, 3);
    complete_second(successor);
    assert_int_equal(rig_used(successor, 0), 0);
    rig_complete(successor, 0, 2);
    uint32_t id, length;
    for (unsigned i = 0; i < 3; i++) {
        assert_true(fake_driver_get(&successor->queues[0].driver, &id, &length));
        assert_int_equal(id, i);
    }
    rig_close(successor);
    rig_close(rig);
}

static void a_reset_of_the_device_voids_the_record(void **state)
{
    struct rig *rig = *state;
    int object = begin(rig);
    rig_start_ring(rig, 0);
    for (unsigned i = 0; i < 7; i++)
        serves_one(rig, 0);
    assert_int_equal(rig_ack(rig, VHOST_USER_RESET_DEVICE, NULL, 0, -1), 0);
    assert_int_equal(area(rig, object, 0)->version, 0);
    rig_negotiate(rig);
    rig_lay_ring(rig, 0);
    rig_start_ring(rig, 0);
    serves_one(rig, 0);
    assert_int_equal(rig_get_base(rig, 0), rig_base_after(rig, 1));
}

static void a_record_that_contradicts_itself_breaks_its_ring_alone(void **state)
{
    (void)state;
    const struct virtq_record_packed good = {
        .version = 1, .desc_num = RIG_RING_SIZE, .used_wrap_counter = 1, .old_used_wrap_counter = 1};
    for (unsigned lie = 0; lie < 8; lie++) {
        struct rig *rig = rig_open_rings(2, VIRTIO_F_RING_PACKED);
        int object = rig_object(rig, 2 * AREA_BYTES);
        struct virtq_record_packed *record = area(rig, object, 0);
        *record = good;
        record->desc[3].num = 1;
        record->desc[3].inflight = lie == 0 ? 2 : 1;
        record->free_head = record->old_free_head = lie == 1 ? 0 : RIG_RING_SIZE;
        record->used_index = record->old_used_index = lie == 2 ? RIG_RING_SIZE : 0;
        record->used_wrap_counter = record->old_used_wrap_counter = lie == 3 ? 2 : 1;
        record->desc[3].num = lie == 4 ? 0 : lie == 5 ? RIG_RING_SIZE + 1 : 1;
        record->desc[3].counter = lie == 6 ? UINT64_MAX : 1;
        record->desc[3].flags = lie == 7 ? VRING_DESC_F_NEXT : VRING_DESC_F_WRITE;
        record->desc[3].address = RIG_DATA_0;
        record->desc[3].length = 16;
        rig_negotiate(rig);
        assert_int_equal(rig_share(rig), 0);
        assert_int_equal(set_inflight(rig, &two_queues, object), 0);
        assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_VRING_ERR, 0, rig_line(rig)), 0);
        assert_int_equal(rig_ring_num(rig, 0), 0);
        assert_int_equal(rig_ring_set_address(rig, 0), 0);
        assert_int_equal(rig_ring_kick_line(rig, 0), 0);
        int64_t answer = rig_ring_enable(rig, 0, true);
        rig_run(rig);
        if (lie == 1) { /* no lie: its free list is short, and it is served */
            assert_int_equal(answer, 0);
            assert_int_equal(rig->queues[0].errors, 0);
        } else {
            assert_int_equal(rig->queues[0].errors, 1);
            assert_int_equal(rig_get(rig, VHOST_USER_GET_STATUS), VIRTIO_STATUS_NEEDS_RESET);
        }
        rig_start_ring(rig, 1);
        serves_one(rig, 1);
        rig_close(rig);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_record_has_room_for_the_larger_entries_of_packed_rings),
        TEST(a_record_that_is_asked_for_before_the_features_has_room_for_either_layout),
        TEST(a_record_with_room_for_split_rings_alone_is_refused),
        TEST(packed_rings_run_without_a_record_that_turns_out_too_small),
        TEST(a_record_of_the_other_layout_is_void_when_the_features_change),
        TEST(requests_in_flight_stand_in_the_record_with_copies_of_their_descriptors),
        TEST(a_stopped_ring_goes_on_with_the_same_record_over_several_laps),
        TEST(a_ring_that_is_laid_anew_is_believed_more_than_its_record),
        TEST(a_record_of_a_ring_of_another_size_is_refused),
        TEST(a_record_of_another_version_or_size_is_refused),
        TEST(a_successor_takes_up_what_its_predecessor_had_in_flight),
        TEST(a_successor_goes_on_where_its_predecessor_was_with_nothing_in_flight),
        TEST(a_successor_keeps_the_order_where_it_is_negotiated),
        TEST(a_reset_of_the_device_voids_the_record),
        TEST(a_record_that_contradicts_itself_breaks_its_ring_alone),
    };
    return cmocka_run_group_tests_name("backend_inflight_packed", tests, NULL, NULL);
}
