/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The in-flight record: what it looks like, what is refused, and that a successor takes up what a back end left. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "backend_rig.h"

/* Two queues of 16: 16 + 16 * 16 bytes each, rounded up to 64. */
#define AREA_BYTES UINT64_C(320)
/* As the back end makes them: with room for 1024. */
#define MADE_BYTES UINT64_C(16448)

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

static void get_inflight(struct rig *rig, uint16_t queue_count, uint16_t queue_size, uint32_t payload_bytes,
                         struct rig_reply *ret_reply)
{
    const struct vhost_user_inflight asked = {.queue_count = queue_count, .queue_size = queue_size};
    assert_int_equal(rig_send(rig, VHOST_USER_GET_INFLIGHT_FD, 0, &asked, payload_bytes, -1), 0);
    assert_true(rig_take(rig, ret_reply));
    assert_int_equal(ret_reply->message.header.request, VHOST_USER_GET_INFLIGHT_FD);
}

static int64_t set_inflight(struct rig *rig, const struct vhost_user_inflight *given, int object)
{
    return rig_ack(rig, VHOST_USER_SET_INFLIGHT_FD, given, sizeof(*given), rig_handle(rig, object));
}

static const struct vhost_user_inflight two_queues = {
    .mmap_size = 2 * AREA_BYTES,
    .queue_count = 2,
    .queue_size = RIG_RING_SIZE,
};

static struct virtq_record_split *area(struct rig *rig, int object, unsigned index)
{
    return (struct virtq_record_split *)(void *)(rig->objects[object].bytes + index * AREA_BYTES);
}

static unsigned count_inflight(const struct virtq_record_split *record)
{
    unsigned count = 0;
    for (unsigned i = 0; i < record->desc_num; i++)
        count += record->desc[i].inflight;
    return count;
}

static void an_area_is_made_for_as_many_queues_as_asked_for(void **state)
{
    struct rig *rig = *state;
    struct rig_reply reply;
    rig_negotiate(rig);
    get_inflight(rig, 2, RIG_RING_SIZE, sizeof(struct vhost_user_inflight), &reply);
    assert_int_equal(reply.message.header.size, sizeof(struct vhost_user_inflight));
    assert_int_equal(reply.message.payload.inflight.mmap_size, 2 * MADE_BYTES);
    assert_int_equal(reply.message.payload.inflight.mmap_offset, 0);
    assert_int_equal(reply.message.payload.inflight.queue_count, 2);
    assert_int_equal(reply.message.payload.inflight.queue_size, RIG_RING_SIZE);
    assert_int_not_equal(reply.object, -1);
    assert_int_equal(rig->objects[reply.object].size, 2 * MADE_BYTES);
    assert_int_equal(rig_handles(rig), 0);
    assert_int_equal(rig_mappings(rig), 0);
}

static void the_answer_has_the_size_of_the_question(void **state)
{
    struct rig *rig = *state;
    struct rig_reply reply;
    rig_negotiate(rig);
    get_inflight(rig, 1, 2048, VHOST_USER_INFLIGHT_BYTES, &reply);
    assert_int_equal(reply.message.header.size, VHOST_USER_INFLIGHT_BYTES);
    assert_int_equal(reply.message.payload.inflight.queue_size, 2048);
    assert_int_equal(reply.message.payload.inflight.mmap_size, 16 + 2048 * 16 + 48);
}

static void an_area_that_cannot_be_had_is_answered_with_size_zero(void **state)
{
    struct rig *rig = *state;
    const struct {
        uint16_t queue_count, queue_size;
    } bad[] = {{0, 16}, {3, 16}, {65535, 16}, {1, 0}, {1, 3}, {1, 65535}};
    struct rig_reply reply;
    rig_negotiate(rig);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        get_inflight(rig, bad[i].queue_count, bad[i].queue_size, sizeof(struct vhost_user_inflight), &reply);
        assert_int_equal(reply.message.header.size, sizeof(struct vhost_user_inflight));
        assert_int_equal(reply.message.payload.inflight.mmap_size, 0);
        assert_int_equal(reply.object, -1);
    }
    get_inflight(rig, 2, 32768, VHOST_USER_INFLIGHT_BYTES, &reply);
    assert_int_not_equal(reply.message.payload.inflight.mmap_size, 0);
    rig->shared_fails = true;
    get_inflight(rig, 1, 16, VHOST_USER_INFLIGHT_BYTES, &reply);
    assert_int_equal(reply.message.header.size, VHOST_USER_INFLIGHT_BYTES);
    assert_int_equal(reply.message.payload.inflight.mmap_size, 0);
    assert_non_null(rig->backend.refused_reason);
}

static void an_area_without_its_feature_is_answered_with_size_zero(void **state)
{
    struct rig *rig = *state;
    struct rig_reply reply;
    rig_negotiate_some(rig, VHOST_USER_F_PROTOCOL_FEATURES, VHOST_USER_PROTOCOL_F_REPLY_ACK);
    get_inflight(rig, 2, 16, sizeof(struct vhost_user_inflight), &reply);
    assert_int_equal(reply.message.payload.inflight.mmap_size, 0);
    int object = rig_object(rig, 2 * AREA_BYTES);
    assert_int_equal(set_inflight(rig, &two_queues, object), 1);
    assert_int_equal(rig_handles(rig), 0);
}

static void a_bad_area_is_refused(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    int object = rig_object(rig, 4 * AREA_BYTES);
    struct vhost_user_inflight given = two_queues;
    given.mmap_size--;
    assert_int_equal(set_inflight(rig, &given, object), 1);
    given = two_queues;
    given.queue_count = 3;
    assert_int_equal(set_inflight(rig, &given, object), 1);
    given = two_queues;
    given.queue_size = 17;
    assert_int_equal(set_inflight(rig, &given, object), 1);
    given = two_queues;
    given.mmap_offset = 3 * AREA_BYTES; /* past the file's end */
    assert_int_equal(set_inflight(rig, &given, object), 1);
    given = two_queues;
    given.mmap_offset = UINT64_MAX - 7;
    assert_int_equal(set_inflight(rig, &given, object), 1);
    given = two_queues;
    given.mmap_offset = 4; /* misaligned */
    assert_int_equal(set_inflight(rig, &given, object), 1);
    given = two_queues;
    given.mmap_size = UINT64_MAX;
    given.mmap_offset = 64;
    assert_int_equal(set_inflight(rig, &given, object), 1);
    assert_int_equal(rig_mappings(rig), 0);
    assert_int_equal(rig_handles(rig), 0);
    given = two_queues;
    given.mmap_offset = 2 * AREA_BYTES;
    assert_int_equal(set_inflight(rig, &given, object), 0);
}

static void an_area_of_another_version_or_size_is_refused(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    int object = rig_object(rig, 2 * AREA_BYTES);
    area(rig, object, 1)->version = 2;
    assert_int_equal(set_inflight(rig, &two_queues, object), 1);
    area(rig, object, 1)->version = 1;
    area(rig, object, 1)->desc_num = RIG_RING_SIZE + 1;
    assert_int_equal(set_inflight(rig, &two_queues, object), 1);
    assert_int_equal(rig_mappings(rig), 0);
    area(rig, object, 1)->desc_num = RIG_RING_SIZE;
    assert_int_equal(set_inflight(rig, &two_queues, object), 0);
}

static void an_area_is_replaced_only_while_no_ring_runs(void **state)
{
    struct rig *rig = *state;
    int first = rig_object(rig, 2 * AREA_BYTES), second = rig_object(rig, 2 * AREA_BYTES);
    rig_negotiate(rig);
    assert_int_equal(set_inflight(rig, &two_queues, first), 0);
    assert_int_equal(set_inflight(rig, &two_queues, second), 0);
    assert_int_equal(rig_mappings(rig), 1);
    assert_int_equal(rig_share(rig), 0);
    rig_start_ring(rig, 0);
    assert_int_equal(set_inflight(rig, &two_queues, first), 1);
    assert_int_equal(rig->backend.refused_error, -EBUSY);
    assert_int_equal(area(rig, first, 0)->version, 0);
    assert_int_equal(area(rig, second, 0)->version, 1);
}

static void a_ring_larger_than_its_record_runs_without(void **state)
{
    struct rig *rig = *state;
    int object = rig_object(rig, 2 * AREA_BYTES);
    struct vhost_user_inflight small = two_queues;
    small.queue_size = RIG_RING_SIZE / 2;
    rig_negotiate(rig);
    assert_int_equal(rig_share(rig), 0);
    assert_int_equal(set_inflight(rig, &small, object), 0);
    rig_start_ring(rig, 0);
    assert_true(rig_running(rig, 0));
    assert_null(rig->virtqueues[0].inflight);
    assert_int_equal(area(rig, object, 0)->version, 0);
}

static void a_record_that_was_asked_for_too_small_has_room_all_the_same(void **state)
{
    struct rig *rig = *state;
    struct rig_reply reply;
    rig_negotiate(rig);
    assert_int_equal(rig_share(rig), 0);
    get_inflight(rig, 2, RIG_RING_SIZE / 4, sizeof(struct vhost_user_inflight), &reply);
    assert_int_equal(set_inflight(rig, &reply.message.payload.inflight, reply.object), 0);
    rig_start_ring(rig, 0);
    rig_start_ring(rig, 1);
    rig->hold = true;
    for (unsigned i = 0; i < RIG_RING_SIZE; i++)
        rig_offer(rig, 1, RIG_DATA_0);
    rig_kick(rig, 1);
    const struct virtq_record_split *record = (void *)(rig->objects[reply.object].bytes + MADE_BYTES);
    assert_int_equal(record->desc_num, RIG_RING_SIZE);
    assert_int_equal(count_inflight(record), RIG_RING_SIZE);
}

static void a_queue_past_the_record_runs_without(void **state)
{
    struct rig *rig = *state;
    int object = rig_object(rig, 2 * AREA_BYTES);
    struct vhost_user_inflight one = two_queues;
    one.queue_count = 1;
    rig_negotiate(rig);
    assert_int_equal(rig_share(rig), 0);
    assert_int_equal(set_inflight(rig, &one, object), 0);
    rig_start_ring(rig, 0);
    rig_start_ring(rig, 1);
    assert_non_null(rig->virtqueues[0].inflight);
    assert_null(rig->virtqueues[1].inflight);
}

static void requests_in_flight_stand_in_the_record(void **state)
{
    struct rig *rig = *state;
    int object = rig_object(rig, 2 * AREA_BYTES);
    rig_negotiate(rig);
    assert_int_equal(rig_share(rig), 0);
    assert_int_equal(set_inflight(rig, &two_queues, object), 0);
    rig_start_ring(rig, 0);
    rig_start_ring(rig, 1);
    rig->hold = true;
    for (unsigned i = 0; i < 3; i++)
        rig_offer(rig, 1, RIG_DATA_0);
    rig_kick(rig, 1);
    assert_int_equal(area(rig, object, 1)->version, 1);
    assert_int_equal(area(rig, object, 1)->desc_num, RIG_RING_SIZE);
    assert_int_equal(count_inflight(area(rig, object, 1)), 3);
    assert_int_equal(count_inflight(area(rig, object, 0)), 0);
    rig_complete(rig, 1, 2);
    assert_int_equal(count_inflight(area(rig, object, 1)), 1);
    assert_int_equal(area(rig, object, 1)->used_index, 2);
    rig_complete(rig, 1, 1);
    assert_int_equal(count_inflight(area(rig, object, 1)), 0);
    assert_int_equal(rig_get_base(rig, 1), 3);
}

static void a_stopped_ring_goes_on_with_the_same_record(void **state)
{
    struct rig *rig = *state;
    int object = rig_object(rig, 2 * AREA_BYTES);
    rig_negotiate(rig);
    assert_int_equal(rig_share(rig), 0);
    for (uint16_t life = 0; life < 3; life++) {
        assert_int_equal(set_inflight(rig, &two_queues, object), 0);
        assert_int_equal(rig_ring_num(rig, 0), 0);
        assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_BASE, 0, life), 0);
        assert_int_equal(rig_ring_set_address(rig, 0), 0);
        assert_int_equal(rig_ring_kick_line(rig, 0), 0);
        assert_int_equal(rig_ring_enable(rig, 0, true), 0);
        rig_offer(rig, 0, RIG_DATA_0);
        rig_kick(rig, 0);
        assert_int_equal(rig_used(rig, 0), 1);
        assert_int_equal(rig_get_base(rig, 0), life + 1);
    }
}

/* Give @to the memory, the rings and the record of @from, as a front end does that outlives its back end. */
static void inherit(struct rig *to, const struct rig *from, const struct vhost_user_inflight *record, int object)
{
    rig_inherit(to, from);
    int copy = rig_object(to, from->objects[object].size);
    memcpy(to->objects[copy].bytes, from->objects[object].bytes, from->objects[object].size);
    rig_negotiate(to);
    assert_int_equal(rig_share(to), 0);
    assert_int_equal(set_inflight(to, record, copy), 0);
}

static void a_successor_takes_up_what_its_predecessor_had_in_flight(void **state)
{
    struct rig *rig = *state;
    struct rig_reply reply;
    rig_negotiate(rig);
    assert_int_equal(rig_share(rig), 0);
    get_inflight(rig, 2, RIG_RING_SIZE, sizeof(struct vhost_user_inflight), &reply);
    int object = reply.object;
    assert_int_equal(set_inflight(rig, &reply.message.payload.inflight, object), 0);
    rig_start_ring(rig, 0);
    rig_start_ring(rig, 1);
    rig->hold = true;
    for (unsigned i = 0; i < 4; i++)
        rig_offer(rig, 0, RIG_DATA_1 + 4096 * i);
    rig_kick(rig, 0);
    rig_complete(rig, 0, 1);
    assert_int_equal(rig_used(rig, 0), 1);
    rig_offer(rig, 0, RIG_DATA_1 + 4096 * 4); /* and one that it never saw */

    /* Killed here. What the front end has is memory, ring and record; of the base it knows what was used. */
    struct rig *successor = rig_open(2);
    inherit(successor, rig, &reply.message.payload.inflight, object);
    successor->hold = true;
    assert_int_equal(rig_ring_num(successor, 0), 0);
    assert_int_equal(rig_ack_state(successor, VHOST_USER_SET_VRING_BASE, 0, 1), 0);
    assert_int_equal(rig_ring_set_address(successor, 0), 0);
    assert_int_equal(rig_ring_call_line(successor, 0), 0);
    assert_int_equal(rig_ring_kick_line(successor, 0), 0);
    assert_int_equal(rig_ring_enable(successor, 0, true), 0);
    rig_run(successor);
    /* The interrupt for the used entry may have died with the predecessor. */
    assert_true(successor->queues[0].notified > 0);
    /* Three popped anew in their order, and then the new one. */
    assert_int_equal(successor->queues[0].held_count, 4);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(successor->queues[0].held[i]->addresses[0], RIG_DATA_1 + 4096 * (i + 1));
    rig_complete(successor, 0, 4);
    assert_int_equal(rig_used(successor, 0), 4);
    assert_int_equal(rig_get_base(successor, 0), 5);
    rig_close(successor);
}

static void a_record_that_contradicts_itself_breaks_its_ring_alone(void **state)
{
    struct rig *rig = *state;
    int object = rig_object(rig, 2 * AREA_BYTES);
    struct virtq_record_split *record = area(rig, object, 0);
    record->version = 1;
    record->desc_num = RIG_RING_SIZE;
    record->used_index = 40; /* more used since than the ring is long, with one in flight */
    record->desc[3].inflight = 1;
    rig_negotiate(rig);
    assert_int_equal(rig_share(rig), 0);
    assert_int_equal(set_inflight(rig, &two_queues, object), 0);
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_VRING_ERR, 0, rig_line(rig)), 0);
    assert_int_equal(rig_ring_num(rig, 0), 0);
    assert_int_equal(rig_ring_set_address(rig, 0), 0);
    assert_int_equal(rig_ring_kick_line(rig, 0), 0);
    assert_int_equal(rig_ring_enable(rig, 0, true), 1);
    assert_int_equal(rig->queues[0].errors, 1);
    assert_int_equal(rig_get(rig, VHOST_USER_GET_STATUS), 64);
    rig_start_ring(rig, 1);
    assert_true(rig_running(rig, 1));

    /* It is not tried again by itself, and told again, with each change that lets rings go on. */
    assert_int_equal(rig_share(rig), 0);
    assert_true(rig_running(rig, 1));
    assert_false(rig_running(rig, 0));
    assert_int_equal(rig->queues[0].errors, 1);
}

/* Heads of before name other requests, or none, in the ring that the driver lays out then. */
static void a_reset_of_the_device_voids_the_record(void **state)
{
    struct rig *rig = *state;
    int object = rig_object(rig, 2 * AREA_BYTES);
    struct virtq_record_split *record = area(rig, object, 0);
    record->version = 1;
    record->desc_num = RIG_RING_SIZE;
    record->desc[3].inflight = 1;
    rig_negotiate(rig);
    assert_int_equal(rig_share(rig), 0);
    assert_int_equal(set_inflight(rig, &two_queues, object), 0);
    /* The recorded request loops, so it breaks the ring and is never done. */
    fake_driver_desc(&rig->queues[0].driver, 3, RIG_DATA_0, 1, VRING_DESC_F_NEXT, 3);
    rig_start_ring(rig, 0);
    rig_run(rig);
    assert_true(rig->virtqueues[0].broken);
    assert_int_equal(count_inflight(record), 1);
    assert_int_equal(rig_ack(rig, VHOST_USER_RESET_DEVICE, NULL, 0, -1), 0);
    assert_int_equal(count_inflight(record), 0);

    rig_negotiate(rig);
    rig_lay_ring(rig, 0);
    rig_start_ring(rig, 0);
    rig_offer(rig, 0, RIG_DATA_0);
    rig_kick(rig, 0);
    assert_int_equal(rig_used(rig, 0), 1);
    assert_int_equal(rig->virtqueues[0].popped_total, 1);
    assert_int_equal(rig_get_base(rig, 0), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_area_is_made_for_as_many_queues_as_asked_for),
        TEST(the_answer_has_the_size_of_the_question),
        TEST(an_area_that_cannot_be_had_is_answered_with_size_zero),
        TEST(an_area_without_its_feature_is_answered_with_size_zero),
        TEST(a_bad_area_is_refused),
        TEST(an_area_of_another_version_or_size_is_refused),
        TEST(an_area_is_replaced_only_while_no_ring_runs),
        TEST(a_ring_larger_than_its_record_runs_without),
        TEST(a_record_that_was_asked_for_too_small_has_room_all_the_same),
        TEST(a_queue_past_the_record_runs_without),
        TEST(requests_in_flight_stand_in_the_record),
        TEST(a_stopped_ring_goes_on_with_the_same_record),
        TEST(a_successor_takes_up_what_its_predecessor_had_in_flight),
        TEST(a_record_that_contradicts_itself_breaks_its_ring_alone),
        TEST(a_reset_of_the_device_voids_the_record),
    };
    return cmocka_run_group_tests_name("backend_inflight", tests, NULL, NULL);
}
