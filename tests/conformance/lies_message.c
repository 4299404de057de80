/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Lies in messages: framing, sizes, features, indices, configuration. */
#define _GNU_SOURCE
#include <sys/eventfd.h>
#include <unistd.h>

#include "lies.h"

static enum outcome send_header(struct vhost_user_client *client, uint32_t request, uint32_t flags, uint32_t size)
{
    struct vhost_user_header header = {.request = request, .flags = flags, .size = size};
    client_send_bytes(client, &header, sizeof(header), NULL, 0);
    return wait_hung_up(client);
}

static enum outcome version_zero(struct vhost_user_client *client)
{
    return send_header(client, VHOST_USER_GET_FEATURES, 0, 0);
}

static enum outcome version_three(struct vhost_user_client *client)
{
    return send_header(client, VHOST_USER_GET_FEATURES, 3, 0);
}

static enum outcome reply_flag(struct vhost_user_client *client)
{
    return send_header(client, VHOST_USER_GET_FEATURES, VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY, 0);
}

static enum outcome payload_without_end(struct vhost_user_client *client)
{
    return send_header(client, VHOST_USER_SET_FEATURES, VHOST_USER_VERSION, 0x7fffffff);
}

static enum outcome payload_one_too_long(struct vhost_user_client *client)
{
    return send_header(client, VHOST_USER_SET_CONFIG, VHOST_USER_VERSION, VHOST_USER_PAYLOAD_BYTES_MAX + 1);
}

static enum outcome half_a_header(struct vhost_user_client *client)
{
    client_send_bytes(client, "\1\0\0\0\1", 5, NULL, 0);
    client_disconnect(client);
    return OUTCOME_VANISHED;
}

static enum outcome half_a_payload(struct vhost_user_client *client)
{
    struct vhost_user_header header = {VHOST_USER_SET_FEATURES, VHOST_USER_VERSION, 8};
    uint8_t bytes[sizeof(header) + 3] = {0};
    memcpy(bytes, &header, sizeof(header));
    client_send_bytes(client, bytes, sizeof(bytes), NULL, 0);
    client_disconnect(client);
    return OUTCOME_VANISHED;
}

static enum outcome noise(struct vhost_user_client *client)
{
    uint8_t bytes[64];
    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 73 + 29);
    client_send_bytes(client, bytes, sizeof(bytes), NULL, 0);
    return wait_hung_up(client);
}

static enum outcome too_many_handles(struct vhost_user_client *client)
{
    int handles[32];
    for (unsigned i = 0; i < ARRAY_SIZE(handles); i++)
        handles[i] = client->memory_handle;
    struct vhost_user_header header = {VHOST_USER_GET_FEATURES, VHOST_USER_VERSION, 0};
    client_send_bytes(client, &header, sizeof(header), handles, ARRAY_SIZE(handles));
    return wait_hung_up(client);
}

static enum outcome handle_where_none_belongs(struct vhost_user_client *client)
{
    uint64_t features = client->features;
    return tell(client, VHOST_USER_SET_FEATURES, &features, sizeof(features), &client->memory_handle, 1);
}

static enum outcome unknown_request(struct vhost_user_client *client)
{
    return tell(client, 200, NULL, 0, NULL, 0);
}

static enum outcome request_zero(struct vhost_user_client *client)
{
    return tell(client, 0, NULL, 0, NULL, 0);
}

static enum outcome postcopy(struct vhost_user_client *client)
{
    return tell(client, VHOST_USER_POSTCOPY_LISTEN, NULL, 0, NULL, 0);
}

static enum outcome iotlb(struct vhost_user_client *client)
{
    uint8_t payload[32] = {0};
    return tell(client, VHOST_USER_IOTLB_MSG, payload, sizeof(payload), NULL, 0);
}

static enum outcome features_of_four_bytes(struct vhost_user_client *client)
{
    uint32_t features = 0;
    return tell(client, VHOST_USER_SET_FEATURES, &features, sizeof(features), NULL, 0);
}

static enum outcome features_of_no_bytes(struct vhost_user_client *client)
{
    return tell(client, VHOST_USER_SET_FEATURES, NULL, 0, NULL, 0);
}

static enum outcome ring_size_of_four_bytes(struct vhost_user_client *client)
{
    uint32_t index = 0;
    return tell(client, VHOST_USER_SET_VRING_NUM, &index, sizeof(index), NULL, 0);
}

static enum outcome ring_address_cut_short(struct vhost_user_client *client)
{
    struct vhost_user_vring_address address = {0};
    return tell(client, VHOST_USER_SET_VRING_ADDR, &address, sizeof(address) - 1, NULL, 0);
}

static enum outcome features_not_offered(struct vhost_user_client *client)
{
    uint64_t features = client->features | UINT64_C(1) << 60;
    return tell(client, VHOST_USER_SET_FEATURES, &features, sizeof(features), NULL, 0);
}

static enum outcome protocol_features_not_offered(struct vhost_user_client *client)
{
    uint64_t features = UINT64_C(1) << 63 | client->protocol_features;
    return tell(client, VHOST_USER_SET_PROTOCOL_FEATURES, &features, sizeof(features), NULL, 0);
}

static enum outcome features_changed_under_a_running_ring(struct vhost_user_client *client)
{
    uint64_t features = client->features & ~VIRTIO_F_EVENT_IDX;
    return tell(client, VHOST_USER_SET_FEATURES, &features, sizeof(features), NULL, 0);
}

static enum outcome status_of_four_bytes(struct vhost_user_client *client)
{
    uint32_t status = 1;
    return tell(client, VHOST_USER_SET_STATUS, &status, sizeof(status), NULL, 0);
}

static enum outcome status_past_a_byte(struct vhost_user_client *client)
{
    uint64_t status = 0x1ff;
    return tell(client, VHOST_USER_SET_STATUS, &status, sizeof(status), NULL, 0);
}

static enum outcome set_state(struct vhost_user_client *client, uint32_t request, uint32_t index, uint32_t num)
{
    struct vhost_user_vring_state state = {.index = index, .num = num};
    return tell(client, request, &state, sizeof(state), NULL, 0);
}

static enum outcome size_of_queue_that_is_not_there(struct vhost_user_client *client)
{
    return set_state(client, VHOST_USER_SET_VRING_NUM, 200, 64);
}

static enum outcome size_of_queue_past_all_bytes(struct vhost_user_client *client)
{
    return set_state(client, VHOST_USER_SET_VRING_NUM, UINT32_MAX, 64);
}

static enum outcome base_of_queue_that_is_not_there(struct vhost_user_client *client)
{
    return set_state(client, VHOST_USER_SET_VRING_BASE, 200, 0);
}

static enum outcome address_of_queue_that_is_not_there(struct vhost_user_client *client)
{
    struct vhost_user_vring_address address = {.index = 200};
    return tell(client, VHOST_USER_SET_VRING_ADDR, &address, sizeof(address), NULL, 0);
}

static enum outcome enable_of_queue_that_is_not_there(struct vhost_user_client *client)
{
    return set_state(client, VHOST_USER_SET_VRING_ENABLE, 200, 1);
}

static enum outcome stop_of_queue_that_is_not_there(struct vhost_user_client *client)
{
    struct vhost_user_vring_state state = {.index = 200};
    client_send(client, VHOST_USER_GET_VRING_BASE, 0, &state, sizeof(state), NULL, 0);
    return wait_hung_up(client);
}

static enum outcome size_no_power_of_two(struct vhost_user_client *client)
{
    return set_state(client, VHOST_USER_SET_VRING_NUM, 0, 100);
}

static enum outcome size_zero(struct vhost_user_client *client)
{
    return set_state(client, VHOST_USER_SET_VRING_NUM, 0, 0);
}

static enum outcome size_past_the_standard(struct vhost_user_client *client)
{
    return set_state(client, VHOST_USER_SET_VRING_NUM, 0, 65536);
}

static enum outcome size_under_a_running_ring(struct vhost_user_client *client)
{
    return set_state(client, VHOST_USER_SET_VRING_NUM, 0, 32);
}

static enum outcome base_under_a_running_ring(struct vhost_user_client *client)
{
    return set_state(client, VHOST_USER_SET_VRING_BASE, 0, 7);
}

static enum outcome base_past_sixteen_bits(struct vhost_user_client *client)
{
    return set_state(client, VHOST_USER_SET_VRING_BASE, 0, 65536);
}

static enum outcome enable_neither_on_nor_off(struct vhost_user_client *client)
{
    return set_state(client, VHOST_USER_SET_VRING_ENABLE, 0, 2);
}

static enum outcome kick_line_of_queue_that_is_not_there(struct vhost_user_client *client)
{
    uint64_t payload = 250;
    int handle = eventfd(0, EFD_CLOEXEC);
    enum outcome outcome = tell(client, VHOST_USER_SET_VRING_KICK, &payload, sizeof(payload), &handle, 1);
    close(handle);
    return outcome;
}

static enum outcome kick_line_without_handle(struct vhost_user_client *client)
{
    uint64_t payload = 0;
    return tell(client, VHOST_USER_SET_VRING_KICK, &payload, sizeof(payload), NULL, 0);
}

static enum outcome kick_line_that_promises_none_and_brings_one(struct vhost_user_client *client)
{
    uint64_t payload = VHOST_USER_VRING_NO_FD;
    int handle = eventfd(0, EFD_CLOEXEC);
    enum outcome outcome = tell(client, VHOST_USER_SET_VRING_KICK, &payload, sizeof(payload), &handle, 1);
    close(handle);
    return outcome;
}

static enum outcome line_flags_unknown(struct vhost_user_client *client)
{
    uint64_t payload = 0x8000;
    int handle = eventfd(0, EFD_CLOEXEC);
    enum outcome outcome = tell(client, VHOST_USER_SET_VRING_CALL, &payload, sizeof(payload), &handle, 1);
    close(handle);
    return outcome;
}

/* GET_CONFIG of @asked bytes at @offset, with @size bytes of payload in all. */
static enum outcome get_config(struct vhost_user_client *client, uint32_t offset, uint32_t asked, uint32_t size)
{
    struct vhost_user_config config = {.offset = offset, .size = asked};
    struct vhost_user_message answer;
    int r = client_call(client, VHOST_USER_GET_CONFIG, &config, size, &answer);
    if (r < 0)
        return OUTCOME_HUNG_UP;
    return answer.header.size == 0 ? OUTCOME_EMPTY : OUTCOME_SERVED;
}

static enum outcome config_read_far_outside(struct vhost_user_client *client)
{
    return get_config(client, 0x7fffffff, 8, 12 + 8);
}

static enum outcome config_read_that_wraps(struct vhost_user_client *client)
{
    return get_config(client, 0xfffffffc, 8, 12 + 8);
}

static enum outcome config_read_size_contradicts_payload(struct vhost_user_client *client)
{
    return get_config(client, 0, 64, 12 + 8);
}

static enum outcome config_read_of_nothing(struct vhost_user_client *client)
{
    return get_config(client, 0, 0, 12);
}

static enum outcome set_config(struct vhost_user_client *client, uint32_t offset, uint32_t asked, uint32_t bytes)
{
    struct vhost_user_config config = {.offset = offset, .size = asked};
    return tell(client, VHOST_USER_SET_CONFIG, &config, 12 + bytes, NULL, 0);
}

static enum outcome config_write_to_the_capacity(struct vhost_user_client *client)
{
    return set_config(client, 0, 8, 8);
}

static enum outcome config_write_outside(struct vhost_user_client *client)
{
    return set_config(client, 250, 16, 16);
}

static enum outcome config_write_size_contradicts_payload(struct vhost_user_client *client)
{
    return set_config(client, 32, 200, 1);
}

/* REPLY_ACK alone, so that everything else is used without having been asked for. */
static enum outcome ungated_memory_slot(struct vhost_user_client *client)
{
    uint64_t only = VHOST_USER_PROTOCOL_F_REPLY_ACK;
    client_call_ack(client, VHOST_USER_SET_PROTOCOL_FEATURES, &only, sizeof(only), NULL, 0);
    struct vhost_user_single_region single = {
        .region = {LIES_GUEST_BASE, client->memory.size, client->frontend_base, 0}};
    return tell(client, VHOST_USER_ADD_MEM_REG, &single, sizeof(single), &client->memory_handle, 1);
}

static enum outcome ungated_config_write(struct vhost_user_client *client)
{
    uint64_t only = VHOST_USER_PROTOCOL_F_REPLY_ACK;
    client_call_ack(client, VHOST_USER_SET_PROTOCOL_FEATURES, &only, sizeof(only), NULL, 0);
    return set_config(client, 32, 1, 1);
}

static enum outcome ungated_reset(struct vhost_user_client *client)
{
    uint64_t only = VHOST_USER_PROTOCOL_F_REPLY_ACK;
    client_call_ack(client, VHOST_USER_SET_PROTOCOL_FEATURES, &only, sizeof(only), NULL, 0);
    return tell(client, VHOST_USER_RESET_DEVICE, NULL, 0, NULL, 0);
}

const struct lie message_lies[] = {
    {"a header of version 0", STAGE_CONNECTED, OUTCOME_HUNG_UP, version_zero},
    {"a header of version 3", STAGE_CONNECTED, OUTCOME_HUNG_UP, version_three},
    {"a request marked as a reply", STAGE_CONNECTED, OUTCOME_HUNG_UP, reply_flag},
    {"a payload of 2 GiB", STAGE_CONNECTED, OUTCOME_HUNG_UP, payload_without_end},
    {"a payload one byte too long", STAGE_CONNECTED, OUTCOME_HUNG_UP, payload_one_too_long},
    {"half a header, then gone", STAGE_CONNECTED, OUTCOME_VANISHED, half_a_header},
    {"half a payload, then gone", STAGE_CONNECTED, OUTCOME_VANISHED, half_a_payload},
    {"64 bytes of noise", STAGE_CONNECTED, OUTCOME_HUNG_UP, noise},
    {"32 descriptors at once", STAGE_CONNECTED, OUTCOME_HUNG_UP, too_many_handles},
    {"a descriptor where none belongs", STAGE_NEGOTIATED, OUTCOME_REFUSED, handle_where_none_belongs},
    {"a request nobody knows", STAGE_NEGOTIATED, OUTCOME_REFUSED, unknown_request},
    {"request number 0", STAGE_NEGOTIATED, OUTCOME_REFUSED, request_zero},
    {"postcopy, which is not on offer", STAGE_NEGOTIATED, OUTCOME_REFUSED, postcopy},
    {"an IOTLB message, which is not on offer", STAGE_NEGOTIATED, OUTCOME_REFUSED, iotlb},
    {"features of four bytes", STAGE_NEGOTIATED, OUTCOME_REFUSED, features_of_four_bytes},
    {"features of no bytes", STAGE_NEGOTIATED, OUTCOME_REFUSED, features_of_no_bytes},
    {"a ring size of four bytes", STAGE_NEGOTIATED, OUTCOME_REFUSED, ring_size_of_four_bytes},
    {"a ring address one byte short", STAGE_NEGOTIATED, OUTCOME_REFUSED, ring_address_cut_short},
    {"features that were not offered", STAGE_NEGOTIATED, OUTCOME_REFUSED, features_not_offered},
    {"protocol features that were not offered", STAGE_NEGOTIATED, OUTCOME_REFUSED, protocol_features_not_offered},
    {"other features under a running ring", STAGE_RUNNING, OUTCOME_REFUSED, features_changed_under_a_running_ring},
    {"a status of four bytes", STAGE_NEGOTIATED, OUTCOME_REFUSED, status_of_four_bytes},
    {"a status past one byte", STAGE_NEGOTIATED, OUTCOME_REFUSED, status_past_a_byte},
    {"the size of queue 200", STAGE_NEGOTIATED, OUTCOME_REFUSED, size_of_queue_that_is_not_there},
    {"the size of queue 4294967295", STAGE_NEGOTIATED, OUTCOME_REFUSED, size_of_queue_past_all_bytes},
    {"the base of queue 200", STAGE_NEGOTIATED, OUTCOME_REFUSED, base_of_queue_that_is_not_there},
    {"the address of queue 200", STAGE_NEGOTIATED, OUTCOME_REFUSED, address_of_queue_that_is_not_there},
    {"queue 200 enabled", STAGE_NEGOTIATED, OUTCOME_REFUSED, enable_of_queue_that_is_not_there},
    {"queue 200 stopped", STAGE_NEGOTIATED, OUTCOME_HUNG_UP, stop_of_queue_that_is_not_there},
    {"a ring of 100 entries", STAGE_NEGOTIATED, OUTCOME_REFUSED, size_no_power_of_two},
    {"a ring of 0 entries", STAGE_NEGOTIATED, OUTCOME_REFUSED, size_zero},
    {"a ring of 65536 entries", STAGE_NEGOTIATED, OUTCOME_REFUSED, size_past_the_standard},
    {"another size under a running ring", STAGE_RUNNING, OUTCOME_REFUSED, size_under_a_running_ring},
    {"another base under a running ring", STAGE_RUNNING, OUTCOME_REFUSED, base_under_a_running_ring},
    {"a base past 16 bits", STAGE_NEGOTIATED, OUTCOME_REFUSED, base_past_sixteen_bits},
    {"a ring neither on nor off", STAGE_NEGOTIATED, OUTCOME_REFUSED, enable_neither_on_nor_off},
    {"the kick line of queue 250", STAGE_NEGOTIATED, OUTCOME_REFUSED, kick_line_of_queue_that_is_not_there},
    {"a kick line without a descriptor", STAGE_NEGOTIATED, OUTCOME_REFUSED, kick_line_without_handle},
    {"no kick line, with a descriptor", STAGE_NEGOTIATED, OUTCOME_REFUSED, kick_line_that_promises_none_and_brings_one},
    {"a call line with unknown flags", STAGE_NEGOTIATED, OUTCOME_REFUSED, line_flags_unknown},
    {"configuration read at 2 GiB", STAGE_NEGOTIATED, OUTCOME_EMPTY, config_read_far_outside},
    {"configuration read that wraps", STAGE_NEGOTIATED, OUTCOME_EMPTY, config_read_that_wraps},
    {"configuration read larger than its message", STAGE_NEGOTIATED, OUTCOME_EMPTY,
     config_read_size_contradicts_payload},
    {"configuration read of nothing", STAGE_NEGOTIATED, OUTCOME_EMPTY, config_read_of_nothing},
    {"the capacity written", STAGE_NEGOTIATED, OUTCOME_REFUSED, config_write_to_the_capacity},
    {"configuration written outside", STAGE_NEGOTIATED, OUTCOME_REFUSED, config_write_outside},
    {"configuration write larger than its message", STAGE_NEGOTIATED, OUTCOME_REFUSED,
     config_write_size_contradicts_payload},
    {"a memory slot that was not negotiated", STAGE_NEGOTIATED, OUTCOME_REFUSED, ungated_memory_slot},
    {"a configuration write that was not negotiated", STAGE_NEGOTIATED, OUTCOME_REFUSED, ungated_config_write},
    {"a reset that was not negotiated", STAGE_NEGOTIATED, OUTCOME_REFUSED, ungated_reset},
};
const unsigned message_lie_count = ARRAY_SIZE(message_lies);
