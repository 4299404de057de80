/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Negotiation, answers, configuration, status, resets. Every test ends in a check that nothing stayed open or mapped.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "backend_rig.h"

static const uint64_t all_protocol_features =
    VHOST_USER_PROTOCOL_F_MQ | VHOST_USER_PROTOCOL_F_LOG_SHMFD | VHOST_USER_PROTOCOL_F_REPLY_ACK |
    VHOST_USER_PROTOCOL_F_BACKEND_REQ | VHOST_USER_PROTOCOL_F_CONFIG | VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD |
    VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD | VHOST_USER_PROTOCOL_F_RESET_DEVICE |
    VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS | VHOST_USER_PROTOCOL_F_STATUS;

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

/* Negotiation */

static void features_on_offer_are_the_device_s_the_ring_s_and_vhost_s_own(void **state)
{
    struct rig *rig = *state;
    uint64_t expected = RIG_FEATURE | RIG_FEATURE_RIVAL | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX |
                        VIRTIO_F_VERSION_1 | VHOST_F_LOG_ALL | VHOST_USER_F_PROTOCOL_FEATURES;
    assert_int_equal(rig_get(rig, VHOST_USER_GET_FEATURES), expected | VIRTIO_F_RING_PACKED | VIRTIO_F_IN_ORDER);
    rig->device.offers_packed = false;
    rig->device.offers_in_order = false;
    assert_int_equal(rig_get(rig, VHOST_USER_GET_FEATURES), expected);
}

static void all_ten_protocol_features_are_on_offer(void **state)
{
    struct rig *rig = *state;
    assert_int_equal(rig_get(rig, VHOST_USER_GET_PROTOCOL_FEATURES), all_protocol_features);
}

static void config_is_not_on_offer_for_a_device_without_configuration_space(void **state)
{
    struct rig *rig = *state;
    const struct virtio_device_class *class = rig->device.class;
    struct virtio_device_class without = *class;
    without.config_bytes = 0;
    rig->device.class = &without;
    vhost_user_backend_init(&rig->backend, &rig->port, &rig->device);
    rig->device.class = class;
    assert_int_equal(rig_get(rig, VHOST_USER_GET_PROTOCOL_FEATURES),
                     all_protocol_features & ~VHOST_USER_PROTOCOL_F_CONFIG);
}

static void the_driver_s_features_reach_the_device_without_vhost_s_own(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig->device.features,
                     RIG_FEATURE | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1);
}

static void features_not_on_offer_are_refused_and_change_nothing(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    uint64_t before = rig->device.features;
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_FEATURES, UINT64_C(1) << 40, -1), 1);
    assert_int_equal(rig->device.features, before);
    assert_int_equal(rig->backend.refused_request, VHOST_USER_SET_FEATURES);
    assert_int_equal(rig->backend.refused_error, -EINVAL);
}

static void features_that_the_device_refuses_are_refused(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_FEATURES, RIG_FEATURE | RIG_FEATURE_RIVAL, -1), 1);
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_FEATURES, RIG_FEATURE_RIVAL, -1), 0);
}

static void features_may_be_said_anew_while_rings_run_but_not_changed(void **state)
{
    struct rig *rig = *state;
    rig_start(rig);
    uint64_t features = rig->backend.features;
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_FEATURES, features, -1), 0);
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_FEATURES, features & ~VIRTIO_F_EVENT_IDX, -1), 1);
    assert_int_equal(rig->backend.refused_error, -EBUSY);
    assert_int_equal(rig->backend.features, features);
    assert_true(rig_running(rig, 0));
}

static void protocol_features_not_on_offer_are_refused(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_PROTOCOL_FEATURES, UINT64_C(1) << 8, -1), 1);
    assert_int_equal(rig->backend.protocol_features, all_protocol_features);
}

static void queue_number_and_memory_slots_are_told(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_get(rig, VHOST_USER_GET_QUEUE_NUM), 2);
    assert_int_equal(rig_get(rig, VHOST_USER_GET_MAX_MEM_SLOTS), GUEST_MEMORY_REGIONS_MAX);
}

/* Answers */

static void need_reply_without_reply_ack_is_not_answered(void **state)
{
    struct rig *rig = *state;
    rig_negotiate_some(rig, VHOST_USER_F_PROTOCOL_FEATURES, VHOST_USER_PROTOCOL_F_MQ);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_NUM, 0, 16), RIG_NO_ANSWER);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_NUM, 0, 17), RIG_NO_ANSWER);
}

static void without_need_reply_nothing_is_answered(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    const struct vhost_user_vring_state good = {.num = 16}, bad = {.num = 17};
    assert_int_equal(rig_send(rig, VHOST_USER_SET_VRING_NUM, 0, &good, sizeof(good), -1), 0);
    assert_int_equal(rig_send(rig, VHOST_USER_SET_VRING_NUM, 0, &bad, sizeof(bad), -1), 0);
    assert_int_equal(rig->reply_count, 0);
    assert_int_equal(rig->backend.queues[0].size, 16);
    assert_int_equal(rig->backend.refused_total, 1);
}

static void every_order_is_acknowledged_once_when_asked(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_ack(rig, VHOST_USER_SET_OWNER, NULL, 0, -1), 0);
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_PROTOCOL_FEATURES, all_protocol_features, -1), 0);
    assert_int_equal(rig_share(rig), 0);
    assert_int_equal(rig_ack(rig, VHOST_USER_SET_LOG_FD, NULL, 0, rig_line(rig)), 0);
    assert_int_equal(rig_ring_num(rig, 0), 0);
    assert_int_equal(rig_ack_state(rig, VHOST_USER_SET_VRING_BASE, 0, 0), 0);
    assert_int_equal(rig_ring_set_address(rig, 0), 0);
    assert_int_equal(rig_ring_kick_line(rig, 0), 0);
    assert_int_equal(rig_ring_call_line(rig, 0), 0);
    assert_int_equal(rig_ring_enable(rig, 0, true), 0);
    assert_int_equal(rig_ack(rig, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, rig_line(rig)), 0);
    assert_int_equal(rig_ack(rig, VHOST_USER_RESET_DEVICE, NULL, 0, -1), 0);
    assert_int_equal(rig_ack(rig, VHOST_USER_RESET_OWNER, NULL, 0, -1), 0);
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_STATUS, 1, -1), 0);
    assert_int_equal(rig->backend.refused_total, 0);
}

static void an_unknown_order_is_refused_when_asked_and_else_passed_over(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_ack_u64(rig, 999, 0, -1), 1);
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SEND_RARP, 0, rig_line(rig)), 1);
    assert_int_equal(rig_send(rig, 999, 0, NULL, 0, rig_line(rig)), 0);
    assert_int_equal(rig->reply_count, 0);
    assert_int_equal(rig_handles(rig), 0);
    assert_int_equal(rig->backend.refused_total, 3);
    assert_int_equal(rig->backend.refused_error, -EOPNOTSUPP);
}

static void a_query_that_is_not_served_ends_the_connection(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_send(rig, VHOST_USER_POSTCOPY_ADVISE, 0, NULL, 0, -1), -EPROTO);
    assert_int_equal(rig_send(rig, VHOST_USER_GET_SHARED_OBJECT, 0, NULL, 0, -1), -EPROTO);
}

static void a_query_not_served_whose_answer_is_a_number_gets_one(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_send(rig, VHOST_USER_IOTLB_MSG, 0, NULL, 0, -1), 0);
    assert_int_equal(rig_take_u64(rig, VHOST_USER_IOTLB_MSG), 1);
    assert_int_equal(rig_get(rig, VHOST_USER_CHECK_DEVICE_STATE), 1);
}

static void what_was_not_negotiated_is_refused(void **state)
{
    struct rig *rig = *state;
    const struct vhost_user_region region = rig_region(0);
    rig_negotiate_some(rig, VHOST_USER_F_PROTOCOL_FEATURES, VHOST_USER_PROTOCOL_F_REPLY_ACK);
    assert_int_equal(rig_ack(rig, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, rig_line(rig)), 1);
    assert_int_equal(rig_ack(rig, VHOST_USER_RESET_DEVICE, NULL, 0, -1), 1);
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_STATUS, 1, -1), 1);
    assert_int_equal(rig_ack_region(rig, VHOST_USER_ADD_MEM_REG, &region, rig_handle(rig, 0)), 1);
    assert_int_equal(rig_ack_region(rig, VHOST_USER_REM_MEM_REG, &region, -1), 1);
    assert_int_equal(rig_ack_u64(rig, VHOST_USER_SET_LOG_BASE, 0, -1), 1);
    assert_int_equal(rig->device_resets, 0);
    assert_int_equal(rig_handles(rig), 0);
}

static void a_query_that_was_not_negotiated_ends_the_connection(void **state)
{
    struct rig *rig = *state;
    rig_negotiate_some(rig, VHOST_USER_F_PROTOCOL_FEATURES, VHOST_USER_PROTOCOL_F_REPLY_ACK);
    assert_int_equal(rig_get(rig, VHOST_USER_GET_STATUS), RIG_HUNG_UP);
    assert_int_equal(rig_get(rig, VHOST_USER_GET_MAX_MEM_SLOTS), RIG_HUNG_UP);
}

static void a_malformed_order_is_refused_when_asked_and_else_ends_the_connection(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    uint64_t value = 0;
    assert_int_equal(rig_ack(rig, VHOST_USER_SET_FEATURES, &value, 7, rig_line(rig)), 1);
    assert_int_equal(rig->backend.refused_error, -EBADMSG);
    assert_int_equal(rig_send(rig, VHOST_USER_SET_FEATURES, 0, &value, 7, rig_line(rig)), -EBADMSG);
    assert_int_equal(rig_handles(rig), 0);
}

static void too_many_descriptors_are_all_closed(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    int handles[VHOST_USER_HANDLES_MAX];
    for (unsigned i = 0; i < VHOST_USER_HANDLES_MAX; i++)
        handles[i] = rig_line(rig);
    assert_int_equal(rig_send_handles(rig, VHOST_USER_SET_LOG_FD, VHOST_USER_FLAG_NEED_REPLY, NULL, 0, handles,
                                      VHOST_USER_HANDLES_MAX),
                     0);
    assert_int_equal(rig_take_u64(rig, VHOST_USER_SET_LOG_FD), 1);
    assert_int_equal(rig_handles(rig), 0);
}

/* Configuration space */

static bool get_config(struct rig *rig, uint32_t offset, uint32_t size, uint32_t payload_bytes,
                       struct rig_reply *ret_reply)
{
    const struct vhost_user_config config = {.offset = offset, .size = size};
    assert_int_equal(rig_send(rig, VHOST_USER_GET_CONFIG, 0, &config, payload_bytes, -1), 0);
    bool answered = rig_take(rig, ret_reply);
    assert_true(answered);
    assert_int_equal(ret_reply->message.header.request, VHOST_USER_GET_CONFIG);
    return ret_reply->message.header.size != 0;
}

static void configuration_is_answered_in_the_size_that_was_asked_for(void **state)
{
    struct rig *rig = *state;
    struct rig_reply reply;
    rig_negotiate(rig);
    assert_true(get_config(rig, 4, 8, 12 + 8, &reply));
    assert_int_equal(reply.message.header.size, 12 + 8);
    assert_int_equal(reply.message.payload.config.offset, 4);
    assert_int_equal(reply.message.payload.config.size, 8);
    assert_memory_equal(reply.message.payload.config.bytes, rig->config + 4, 8);
}

static void configuration_past_the_device_s_space_is_zero(void **state)
{
    struct rig *rig = *state;
    struct rig_reply reply;
    rig_negotiate(rig);
    assert_true(get_config(rig, 0, 256, 12 + 256, &reply));
    assert_int_equal(reply.message.header.size, 12 + 256);
    assert_memory_equal(reply.message.payload.config.bytes, rig->config, RIG_CONFIG_BYTES);
    for (unsigned i = RIG_CONFIG_BYTES; i < 256; i++)
        assert_int_equal(reply.message.payload.config.bytes[i], 0);
}

static void configuration_may_be_asked_for_by_the_head_alone(void **state)
{
    struct rig *rig = *state;
    struct rig_reply reply;
    rig_negotiate(rig);
    assert_true(get_config(rig, 0, 60, 12, &reply));
    assert_int_equal(reply.message.header.size, 12 + 60);
}

static void configuration_that_cannot_be_given_is_answered_with_length_zero(void **state)
{
    struct rig *rig = *state;
    struct rig_reply reply;
    rig_negotiate(rig);
    assert_false(get_config(rig, 0, 0, 12, &reply));
    assert_false(get_config(rig, 0, 257, 12, &reply));
    assert_false(get_config(rig, 256, 1, 12 + 1, &reply));
    assert_false(get_config(rig, UINT32_MAX, 2, 12 + 2, &reply));
    assert_false(get_config(rig, 0, 8, 12 + 4, &reply));
    assert_false(get_config(rig, 0, 8, 4, &reply));
    assert_true(get_config(rig, 255, 1, 12 + 1, &reply));
}

static void configuration_without_its_feature_is_answered_with_length_zero(void **state)
{
    struct rig *rig = *state;
    struct rig_reply reply;
    rig_negotiate_some(rig, VHOST_USER_F_PROTOCOL_FEATURES, VHOST_USER_PROTOCOL_F_REPLY_ACK);
    assert_false(get_config(rig, 0, 8, 12 + 8, &reply));
}

static int64_t set_config(struct rig *rig, uint32_t offset, uint32_t size, uint32_t flags, uint8_t byte)
{
    struct vhost_user_config config = {.offset = offset, .size = size, .flags = flags};
    memset(config.bytes, byte, sizeof(config.bytes));
    return rig_ack(rig, VHOST_USER_SET_CONFIG, &config, 12 + size, -1);
}

static void a_driver_writes_only_what_the_device_allows(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(set_config(rig, RIG_CONFIG_WRITABLE, 1, 0, 7), 0);
    assert_int_equal(rig->config[RIG_CONFIG_WRITABLE], 7);
    assert_int_equal(set_config(rig, 0, 1, 0, 7), 1);
    assert_int_equal(rig->config[0], 0x80);
    assert_int_equal(set_config(rig, RIG_CONFIG_BYTES, 1, 0, 7), 1);
    assert_int_equal(set_config(rig, UINT32_MAX, 1, 0, 7), 1);
    assert_int_equal(set_config(rig, RIG_CONFIG_WRITABLE, 0, 0, 7), 1);
    assert_int_equal(set_config(rig, RIG_CONFIG_WRITABLE, 1, 2, 7), 1);
}

static void a_migration_may_say_read_only_fields_that_are_as_here(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(set_config(rig, 0, 1, 1, 0x80), 0);
    assert_int_equal(set_config(rig, 0, 1, 1, 0x81), 1);
    assert_int_equal(set_config(rig, 0, 1, 0, 0x80), 1);
    assert_int_equal(set_config(rig, RIG_CONFIG_WRITABLE, 1, 1, 3), 0);
    assert_int_equal(rig->config[RIG_CONFIG_WRITABLE], 3);
}

/* The back end's own channel */

static void a_changed_configuration_is_told_on_the_channel(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_false(vhost_user_backend_config_changed(&rig->backend));
    int object = rig_object(rig, 0);
    assert_int_equal(rig_ack(rig, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, rig_handle(rig, object)), 0);
    assert_true(vhost_user_backend_config_changed(&rig->backend));
    assert_int_equal(rig->request_count, 1);
    assert_int_equal(rig->last_request_object, object);
    assert_int_equal(rig->last_request.header.request, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
    assert_int_equal(rig->last_request.header.flags, VHOST_USER_VERSION);
    assert_int_equal(rig->last_request.header.size, 0);
    rig->request_fails = true;
    assert_false(vhost_user_backend_config_changed(&rig->backend));
}

static void a_changed_configuration_is_not_told_to_who_did_not_negotiate_it(void **state)
{
    struct rig *rig = *state;
    rig_negotiate_some(rig, VHOST_USER_F_PROTOCOL_FEATURES,
                       VHOST_USER_PROTOCOL_F_REPLY_ACK | VHOST_USER_PROTOCOL_F_BACKEND_REQ);
    assert_int_equal(rig_ack(rig, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, rig_line(rig)), 0);
    assert_false(vhost_user_backend_config_changed(&rig->backend));
}

static void a_second_channel_replaces_the_first(void **state)
{
    struct rig *rig = *state;
    rig_negotiate(rig);
    assert_int_equal(rig_ack(rig, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, rig_line(rig)), 0);
    assert_int_equal(rig_ack(rig, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, rig_line(rig)), 0);
    assert_int_equal(rig_handles(rig), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(features_on_offer_are_the_device_s_the_ring_s_and_vhost_s_own),
        TEST(all_ten_protocol_features_are_on_offer),
        TEST(config_is_not_on_offer_for_a_device_without_configuration_space),
        TEST(the_driver_s_features_reach_the_device_without_vhost_s_own),
        TEST(features_not_on_offer_are_refused_and_change_nothing),
        TEST(features_that_the_device_refuses_are_refused),
        TEST(features_may_be_said_anew_while_rings_run_but_not_changed),
        TEST(protocol_features_not_on_offer_are_refused),
        TEST(queue_number_and_memory_slots_are_told),
        TEST(need_reply_without_reply_ack_is_not_answered),
        TEST(without_need_reply_nothing_is_answered),
        TEST(every_order_is_acknowledged_once_when_asked),
        TEST(an_unknown_order_is_refused_when_asked_and_else_passed_over),
        TEST(a_query_that_is_not_served_ends_the_connection),
        TEST(a_query_not_served_whose_answer_is_a_number_gets_one),
        TEST(what_was_not_negotiated_is_refused),
        TEST(a_query_that_was_not_negotiated_ends_the_connection),
        TEST(a_malformed_order_is_refused_when_asked_and_else_ends_the_connection),
        TEST(too_many_descriptors_are_all_closed),
        TEST(configuration_is_answered_in_the_size_that_was_asked_for),
        TEST(configuration_past_the_device_s_space_is_zero),
        TEST(configuration_may_be_asked_for_by_the_head_alone),
        TEST(configuration_that_cannot_be_given_is_answered_with_length_zero),
        TEST(configuration_without_its_feature_is_answered_with_length_zero),
        TEST(a_driver_writes_only_what_the_device_allows),
        TEST(a_migration_may_say_read_only_fields_that_are_as_here),
        TEST(a_changed_configuration_is_told_on_the_channel),
        TEST(a_changed_configuration_is_not_told_to_who_did_not_negotiate_it),
        TEST(a_second_channel_replaces_the_first),
    };
    return cmocka_run_group_tests_name("backend", tests, NULL, NULL);
}
