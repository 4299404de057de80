/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "transports/vhost_user/message.h"

static struct vhost_user_header header(uint32_t flags, uint32_t size)
{
    return (struct vhost_user_header){.request = VHOST_USER_SET_OWNER, .flags = flags, .size = size};
}

static int check_header(uint32_t flags, uint32_t size)
{
    struct vhost_user_header h = header(flags, size);
    return vhost_user_header_check(&h);
}

static struct vhost_user_message message(uint32_t request, uint32_t size, unsigned handle_count)
{
    return (struct vhost_user_message){
        .header = {.request = request, .flags = VHOST_USER_VERSION, .size = size},
        .handle_count = handle_count,
    };
}

static int check(uint32_t request, uint32_t size, unsigned handle_count)
{
    struct vhost_user_message m = message(request, size, handle_count);
    return vhost_user_message_check(&m);
}

static void a_header_says_how_much_payload_follows(void **state)
{
    (void)state;
    assert_int_equal(check_header(VHOST_USER_VERSION, 0), 0);
    assert_int_equal(check_header(VHOST_USER_VERSION, 8), 8);
    assert_int_equal(check_header(VHOST_USER_VERSION | VHOST_USER_FLAG_NEED_REPLY, 40), 40);
}

static void a_header_of_another_version_is_refused(void **state)
{
    (void)state;
    assert_int_equal(check_header(0, 0), -EPROTO);
    assert_int_equal(check_header(2, 0), -EPROTO);
    assert_int_equal(check_header(3, 0), -EPROTO);
}

static void an_answer_where_a_request_belongs_is_refused(void **state)
{
    (void)state;
    assert_int_equal(check_header(VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY, 0), -EPROTO);
}

static void a_payload_larger_than_any_message_is_refused(void **state)
{
    (void)state;
    assert_int_equal(check_header(VHOST_USER_VERSION, VHOST_USER_PAYLOAD_BYTES_MAX), VHOST_USER_PAYLOAD_BYTES_MAX);
    assert_int_equal(check_header(VHOST_USER_VERSION, VHOST_USER_PAYLOAD_BYTES_MAX + 1), -EMSGSIZE);
    assert_int_equal(check_header(VHOST_USER_VERSION, UINT32_MAX), -EMSGSIZE);
}

struct shape {
    uint32_t request;
    uint32_t size;
    unsigned handle_count;
};

/* Types whose payload and descriptors have one shape, whatever the payload says. */
static const struct shape fixed_shapes[] = {
    {VHOST_USER_GET_FEATURES, 0, 0},
    {VHOST_USER_SET_FEATURES, 8, 0},
    {VHOST_USER_SET_OWNER, 0, 0},
    {VHOST_USER_RESET_OWNER, 0, 0},
    {VHOST_USER_SET_VRING_NUM, 8, 0},
    {VHOST_USER_SET_VRING_ADDR, 40, 0},
    {VHOST_USER_SET_VRING_BASE, 8, 0},
    {VHOST_USER_GET_VRING_BASE, 8, 0},
    {VHOST_USER_GET_PROTOCOL_FEATURES, 0, 0},
    {VHOST_USER_SET_PROTOCOL_FEATURES, 8, 0},
    {VHOST_USER_GET_QUEUE_NUM, 0, 0},
    {VHOST_USER_SET_VRING_ENABLE, 8, 0},
    {VHOST_USER_SET_BACKEND_REQ_FD, 0, 1},
    {VHOST_USER_RESET_DEVICE, 0, 0},
    {VHOST_USER_GET_MAX_MEM_SLOTS, 0, 0},
    {VHOST_USER_ADD_MEM_REG, 40, 1},
    {VHOST_USER_SET_STATUS, 8, 0},
    {VHOST_USER_GET_STATUS, 0, 0},
};

static void a_message_of_the_right_shape_passes(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(fixed_shapes); i++) {
        const struct shape *shape = &fixed_shapes[i];
        assert_int_equal(check(shape->request, shape->size, shape->handle_count), 0);
    }
}

static void a_payload_a_byte_short_or_long_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(fixed_shapes); i++) {
        const struct shape *shape = &fixed_shapes[i];
        assert_int_equal(check(shape->request, shape->size + 1, shape->handle_count), -EBADMSG);
        if (shape->size > 0)
            assert_int_equal(check(shape->request, shape->size - 1, shape->handle_count), -EBADMSG);
    }
}

static void a_descriptor_too_many_or_few_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(fixed_shapes); i++) {
        const struct shape *shape = &fixed_shapes[i];
        assert_int_equal(check(shape->request, shape->size, shape->handle_count + 1), -EBADMSG);
        if (shape->handle_count > 0)
            assert_int_equal(check(shape->request, shape->size, shape->handle_count - 1), -EBADMSG);
    }
}

static int check_table(uint32_t region_count, uint32_t size, unsigned handle_count)
{
    struct vhost_user_message m = message(VHOST_USER_SET_MEM_TABLE, size, handle_count);
    m.payload.table.region_count = region_count;
    return vhost_user_message_check(&m);
}

static void a_memory_table_has_a_region_and_a_descriptor_for_each_of_its_count(void **state)
{
    (void)state;
    assert_int_equal(check_table(0, 8, 0), 0);
    assert_int_equal(check_table(1, 40, 1), 0);
    assert_int_equal(check_table(8, 264, 8), 0);
    assert_int_equal(check_table(2, 40, 2), -EBADMSG);
    assert_int_equal(check_table(2, 72, 1), -EBADMSG);
    assert_int_equal(check_table(1, 72, 1), -EBADMSG);
    assert_int_equal(check_table(1, 40, 0), -EBADMSG);
    assert_int_equal(check_table(9, 264, 8), -EBADMSG);
    /* 8 + 32 * count wraps around to 8 */
    assert_int_equal(check_table(UINT32_C(1) << 27, 8, 0), -EBADMSG);
    assert_int_equal(check_table(0, 7, 0), -EBADMSG);
}

static int check_line(uint32_t request, uint64_t value, unsigned handle_count)
{
    struct vhost_user_message m = message(request, 8, handle_count);
    m.payload.u64 = value;
    return vhost_user_message_check(&m);
}

static void a_ring_line_comes_with_a_descriptor_or_says_that_it_has_none(void **state)
{
    (void)state;
    const uint32_t requests[] = {VHOST_USER_SET_VRING_KICK, VHOST_USER_SET_VRING_CALL, VHOST_USER_SET_VRING_ERR};
    for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
        assert_int_equal(check_line(requests[i], 3, 1), 0);
        assert_int_equal(check_line(requests[i], 3 | VHOST_USER_VRING_NO_FD, 0), 0);
        assert_int_equal(check_line(requests[i], 3, 0), -EBADMSG);
        assert_int_equal(check_line(requests[i], 3 | VHOST_USER_VRING_NO_FD, 1), -EBADMSG);
        assert_int_equal(check_line(requests[i], 3, 2), -EBADMSG);
        assert_int_equal(check(requests[i], 4, 1), -EBADMSG);
    }
}

static int check_set_config(uint32_t said, uint32_t size)
{
    struct vhost_user_message m = message(VHOST_USER_SET_CONFIG, size, 0);
    m.payload.config.size = said;
    return vhost_user_message_check(&m);
}

static void the_bytes_of_set_config_are_as_many_as_it_says(void **state)
{
    (void)state;
    assert_int_equal(check_set_config(1, 13), 0);
    assert_int_equal(check_set_config(256, 268), 0);
    assert_int_equal(check_set_config(2, 13), -EBADMSG);
    assert_int_equal(check_set_config(0, 13), -EBADMSG);
    assert_int_equal(check_set_config(UINT32_MAX, 11), -EBADMSG);
    assert_int_equal(check_set_config(257, 269), -EBADMSG);
}

static void get_config_may_bring_room_for_the_answer_or_only_its_head(void **state)
{
    (void)state;
    assert_int_equal(check(VHOST_USER_GET_CONFIG, 12, 0), 0);
    assert_int_equal(check(VHOST_USER_GET_CONFIG, 268, 0), 0);
    assert_int_equal(check(VHOST_USER_GET_CONFIG, 11, 0), -EBADMSG);
    assert_int_equal(check(VHOST_USER_GET_CONFIG, 269, 0), -EBADMSG);
    assert_int_equal(check(VHOST_USER_GET_CONFIG, 12, 1), -EBADMSG);
}

static void an_inflight_description_is_understood_with_and_without_padding(void **state)
{
    (void)state;
    assert_int_equal(check(VHOST_USER_GET_INFLIGHT_FD, 20, 0), 0);
    assert_int_equal(check(VHOST_USER_GET_INFLIGHT_FD, 24, 0), 0);
    assert_int_equal(check(VHOST_USER_GET_INFLIGHT_FD, 22, 0), -EBADMSG);
    assert_int_equal(check(VHOST_USER_GET_INFLIGHT_FD, 24, 1), -EBADMSG);
    assert_int_equal(check(VHOST_USER_SET_INFLIGHT_FD, 20, 1), 0);
    assert_int_equal(check(VHOST_USER_SET_INFLIGHT_FD, 24, 1), 0);
    assert_int_equal(check(VHOST_USER_SET_INFLIGHT_FD, 24, 0), -EBADMSG);
    assert_int_equal(check(VHOST_USER_SET_INFLIGHT_FD, 19, 1), -EBADMSG);
}

static void a_log_is_an_address_or_an_area_with_its_descriptor(void **state)
{
    (void)state;
    assert_int_equal(check(VHOST_USER_SET_LOG_BASE, 8, 0), 0);
    assert_int_equal(check(VHOST_USER_SET_LOG_BASE, 16, 1), 0);
    assert_int_equal(check(VHOST_USER_SET_LOG_BASE, 12, 1), -EBADMSG);
    assert_int_equal(check(VHOST_USER_SET_LOG_BASE, 0, 1), -EBADMSG);
    assert_int_equal(check(VHOST_USER_SET_LOG_BASE, 16, 2), -EBADMSG);
    assert_int_equal(check(VHOST_USER_SET_LOG_FD, 0, 1), 0);
    assert_int_equal(check(VHOST_USER_SET_LOG_FD, 8, 1), 0);
    assert_int_equal(check(VHOST_USER_SET_LOG_FD, 4, 1), -EBADMSG);
    assert_int_equal(check(VHOST_USER_SET_LOG_FD, 0, 0), -EBADMSG);
}

static void removed_memory_may_come_with_a_descriptor_since_front_ends_send_it(void **state)
{
    (void)state;
    assert_int_equal(check(VHOST_USER_REM_MEM_REG, 40, 0), 0);
    assert_int_equal(check(VHOST_USER_REM_MEM_REG, 40, 1), 0);
    assert_int_equal(check(VHOST_USER_REM_MEM_REG, 40, 2), -EBADMSG);
    assert_int_equal(check(VHOST_USER_REM_MEM_REG, 32, 0), -EBADMSG);
}

static void a_type_not_served_is_told_from_a_bad_message(void **state)
{
    (void)state;
    assert_int_equal(check(0, 0, 0), -EOPNOTSUPP);
    assert_int_equal(check(VHOST_USER_SEND_RARP, 8, 0), -EOPNOTSUPP);
    assert_int_equal(check(VHOST_USER_IOTLB_MSG, 26, 0), -EOPNOTSUPP);
    assert_int_equal(check(VHOST_USER_POSTCOPY_ADVISE, 0, 0), -EOPNOTSUPP);
    assert_int_equal(check(VHOST_USER_GET_SHMEM_CONFIG, 0, 0), -EOPNOTSUPP);
    assert_int_equal(check(VHOST_USER_GET_SHMEM_CONFIG + 1, 0, 0), -EOPNOTSUPP);
    assert_int_equal(check(UINT32_MAX, 0, 0), -EOPNOTSUPP);
}

static void the_protocol_demands_answers_to_queries_and_not_to_orders(void **state)
{
    (void)state;
    assert_true(vhost_user_has_reply(VHOST_USER_GET_FEATURES));
    assert_true(vhost_user_has_reply(VHOST_USER_GET_VRING_BASE));
    assert_true(vhost_user_has_reply(VHOST_USER_GET_CONFIG));
    assert_true(vhost_user_has_reply(VHOST_USER_GET_INFLIGHT_FD));
    assert_true(vhost_user_has_reply(VHOST_USER_GET_STATUS));
    assert_true(vhost_user_has_reply(VHOST_USER_POSTCOPY_ADVISE));
    assert_false(vhost_user_has_reply(VHOST_USER_SET_FEATURES));
    assert_false(vhost_user_has_reply(VHOST_USER_SET_MEM_TABLE));
    assert_false(vhost_user_has_reply(VHOST_USER_ADD_MEM_REG));
    assert_false(vhost_user_has_reply(0));
    assert_false(vhost_user_has_reply(UINT32_MAX));
}

static void requests_have_the_names_of_the_protocol(void **state)
{
    (void)state;
    assert_string_equal(vhost_user_request_name(VHOST_USER_GET_FEATURES), "GET_FEATURES");
    assert_string_equal(vhost_user_request_name(VHOST_USER_SET_INFLIGHT_FD), "SET_INFLIGHT_FD");
    assert_string_equal(vhost_user_request_name(VHOST_USER_GET_SHMEM_CONFIG), "GET_SHMEM_CONFIG");
    assert_string_equal(vhost_user_request_name(0), "unknown");
    assert_string_equal(vhost_user_request_name(45), "unknown");
    for (uint32_t request = VHOST_USER_GET_FEATURES; request <= VHOST_USER_GET_SHMEM_CONFIG; request++)
        assert_string_not_equal(vhost_user_request_name(request), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_header_says_how_much_payload_follows),
        cmocka_unit_test(a_header_of_another_version_is_refused),
        cmocka_unit_test(an_answer_where_a_request_belongs_is_refused),
        cmocka_unit_test(a_payload_larger_than_any_message_is_refused),
        cmocka_unit_test(a_message_of_the_right_shape_passes),
        cmocka_unit_test(a_payload_a_byte_short_or_long_is_refused),
        cmocka_unit_test(a_descriptor_too_many_or_few_is_refused),
        cmocka_unit_test(a_memory_table_has_a_region_and_a_descriptor_for_each_of_its_count),
        cmocka_unit_test(a_ring_line_comes_with_a_descriptor_or_says_that_it_has_none),
        cmocka_unit_test(the_bytes_of_set_config_are_as_many_as_it_says),
        cmocka_unit_test(get_config_may_bring_room_for_the_answer_or_only_its_head),
        cmocka_unit_test(an_inflight_description_is_understood_with_and_without_padding),
        cmocka_unit_test(a_log_is_an_address_or_an_area_with_its_descriptor),
        cmocka_unit_test(removed_memory_may_come_with_a_descriptor_since_front_ends_send_it),
        cmocka_unit_test(a_type_not_served_is_told_from_a_bad_message),
        cmocka_unit_test(the_protocol_demands_answers_to_queries_and_not_to_orders),
        cmocka_unit_test(requests_have_the_names_of_the_protocol),
    };
    return cmocka_run_group_tests_name("message", tests, NULL, NULL);
}
