/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A front end that keeps the rules, against a real daemon: every message that is for the device as a whole, and every
 * set of features that real front ends use. The rings are in conformance_rings_test.c, the lies in lies_test.c.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "conformance_rig.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

static void offers_what_it_promises(void **state)
{
    (void)state;
    struct vhost_user_client client;
    rig_join(&client, rig_all_features, UINT64_MAX);
    const uint64_t protocol = VHOST_USER_PROTOCOL_F_MQ | VHOST_USER_PROTOCOL_F_LOG_SHMFD |
                              VHOST_USER_PROTOCOL_F_REPLY_ACK | VHOST_USER_PROTOCOL_F_BACKEND_REQ |
                              VHOST_USER_PROTOCOL_F_CONFIG | VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD |
                              VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD | VHOST_USER_PROTOCOL_F_RESET_DEVICE |
                              VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS | VHOST_USER_PROTOCOL_F_STATUS;
    assert_int_equal(client.protocol_features, protocol);
    assert_true((client.features & VIRTIO_F_VERSION_1) != 0);
    assert_true((rig_ask_u64(&client, VHOST_USER_GET_FEATURES) & VHOST_F_LOG_ALL) != 0);
    assert_int_equal(rig_ask_u64(&client, VHOST_USER_GET_QUEUE_NUM), 4);
    assert_true(rig_ask_u64(&client, VHOST_USER_GET_MAX_MEM_SLOTS) >= 32);
    client_done(&client);
}

/* docs/decisions/0010-ring-features-on-offer.md: an eventfd carries no data, and front ends reset no ring of ours. */
static void offers_of_the_ring_s_features_those_that_front_ends_can_keep(void **state)
{
    (void)state;
    struct vhost_user_client client;
    rig_join(&client, rig_all_features, UINT64_MAX);
    const uint64_t ring = UINT64_C(0xfffffff) << 24; /* 24 to 51: reserved for queues and negotiation (6) */
    const uint64_t vhost = VHOST_F_LOG_ALL | VHOST_USER_F_PROTOCOL_FEATURES;
    uint64_t offered = rig_ask_u64(&client, VHOST_USER_GET_FEATURES) & ring & ~vhost;
    assert_int_equal(offered, VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1 | VIRTIO_F_RING_PACKED |
                                  VIRTIO_F_IN_ORDER);
    assert_int_equal(offered & (VIRTIO_F_NOTIFICATION_DATA | VIRTIO_F_RING_RESET), 0);
    client_done(&client);
}

static void answers_configuration_in_the_size_that_was_asked_for(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {1, 8, 36, 60, 64, 100, 256};
    struct vhost_user_client client;
    rig_join(&client, rig_all_features, UINT64_MAX);
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        uint8_t bytes[VHOST_USER_CONFIG_BYTES_MAX];
        memset(bytes, 0xee, sizeof(bytes));
        assert_int_equal(client_get_config(&client, 0, sizes[i], bytes), 0);
        if (sizes[i] >= 8)
            assert_int_equal(get_le64(bytes), DISK_BYTES / 512);
        if (sizes[i] == 256)
            assert_int_equal(bytes[255], 0);
    }
    client_done(&client);
}

static void writes_configuration_that_may_be_written(void **state)
{
    (void)state;
    struct vhost_user_client client;
    rig_join(&client, rig_all_features, UINT64_MAX);
    struct vhost_user_config config = {.offset = offsetof(struct virtio_blk_config, writeback), .size = 1};
    uint8_t writeback = 0xff;
    assert_int_equal(client_call_ack(&client, VHOST_USER_SET_CONFIG, &config, 13, NULL, 0), 0);
    assert_int_equal(client_get_config(&client, config.offset, 1, &writeback), 0);
    assert_int_equal(writeback, 0);
    client_done(&client);
}

static void keeps_data_over_front_ends(void **state)
{
    (void)state;
    struct vhost_user_client client;
    rig_join_and_run(&client, rig_all_features, UINT64_MAX);
    rig_write_then_read(&client, 0, 100, 11);
    assert_int_equal(rig_request(&client, 0, VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_OK);
    client_done(&client);
    for (unsigned i = 0; i < 50; i++) {
        rig_join_and_run(&client, rig_all_features, UINT64_MAX);
        assert_int_equal(rig_request(&client, 0, VIRTIO_BLK_T_IN, 100, 8192), VIRTIO_BLK_S_OK);
        rig_assert_filled(&client, 0, 11, 8192);
        client_done(&client);
    }
}

static void serves_a_front_end_that_knows_no_protocol_features(void **state)
{
    (void)state;
    struct vhost_user_client client;
    rig_join_and_run(&client, VIRTIO_F_VERSION_1, 0);
    rig_write_then_read(&client, 0, 7, 3);
    client_done(&client);
}

/* MQ, REPLY_ACK, CONFIG and CONFIGURE_MEM_SLOTS, and no in-flight record: what libblkio asks for. */
static void serves_with_the_features_of_libblkio(void **state)
{
    (void)state;
    struct vhost_user_client client;
    rig_join_and_run(&client, rig_all_features,
                     VHOST_USER_PROTOCOL_F_MQ | VHOST_USER_PROTOCOL_F_REPLY_ACK | VHOST_USER_PROTOCOL_F_CONFIG |
                         VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS);
    rig_write_then_read(&client, 0, 9, 5);
    client_done(&client);
}

static void takes_memory_slots_at_run_time(void **state)
{
    (void)state;
    struct vhost_user_client client;
    rig_join_and_run(&client, rig_all_features, UINT64_MAX);
    struct vhost_user_single_region slot = {.region = {.guest_base = GUEST_BASE + UINT64_C(0x80000000),
                                                       .size = 0x10000,
                                                       .frontend_base = UINT64_C(0x7eff00000000)}};
    int handle = memfd_create("slot", MFD_CLOEXEC);
    assert_int_equal(ftruncate(handle, 0x10000), 0);
    uint8_t *host = mmap(NULL, 0x10000, PROT_READ | PROT_WRITE, MAP_SHARED, handle, 0);
    assert_true(host != MAP_FAILED);
    rig_write_then_read(&client, 0, 0, 99);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(client_call_ack(&client, VHOST_USER_ADD_MEM_REG, &slot, sizeof(slot), &handle, 1), 0);
        memset(host, 0, 8192);
        const struct fake_piece pieces[] = {{GUEST_BASE + HEADER_OFFSET, 16, false},
                                            {slot.region.guest_base, 8192, true},
                                            {GUEST_BASE + STATUS_OFFSET, 1, true}};
        memset(client.memory.host + HEADER_OFFSET, 0, 16);
        assert_int_equal(client_request(&client, 0, pieces, 3), 8193);
        assert_memory_equal(host, client.memory.host + DATA_OFFSET, 8192);
        assert_int_equal(client_call_ack(&client, VHOST_USER_REM_MEM_REG, &slot, sizeof(slot), NULL, 0), 0);
    }
    munmap(host, 0x10000);
    close(handle);
    client_done(&client);
}

static void replaces_the_whole_table_under_running_rings(void **state)
{
    (void)state;
    struct vhost_user_client client;
    rig_join_and_run(&client, rig_all_features, UINT64_MAX & ~VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS);
    for (unsigned i = 0; i < 20; i++) {
        rig_write_then_read(&client, 0, i * 8, (uint8_t)(i * 3));
        assert_int_equal(client_share_memory(&client), 0);
    }
    client_done(&client);
}

/* A line on the control socket, and the line that answers it. */
static void control(const char *command, char *answer, size_t answer_bytes)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, rig_daemon.control_path, strlen(rig_daemon.control_path));
    int handle = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(handle, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_true(send(handle, command, strlen(command), MSG_NOSIGNAL) > 0);
    FILE *stream = fdopen(handle, "r");
    assert_non_null(fgets(answer, (int)answer_bytes, stream));
    fclose(stream);
}

static void names_the_last_error_of_the_disk(void **state)
{
    (void)state;
    struct vhost_user_client client;
    rig_join_and_run(&client, rig_all_features, UINT64_MAX);
    assert_int_equal(truncate(rig_daemon.disk_path, 8192), 0); /* it shrinks under us */
    put_le32(client.memory.host + HEADER_OFFSET, VIRTIO_BLK_T_IN);
    put_le64(client.memory.host + HEADER_OFFSET + 8, 16);
    const struct fake_piece pieces[] = {{GUEST_BASE + HEADER_OFFSET, 16, false},
                                        {GUEST_BASE + DATA_OFFSET, 512, true},
                                        {GUEST_BASE + STATUS_OFFSET, 1, true}};
    assert_true(client_request(&client, 0, pieces, ARRAY_SIZE(pieces)) >= 0);
    assert_int_equal(client.memory.host[STATUS_OFFSET], VIRTIO_BLK_S_IOERR);
    assert_int_equal(truncate(rig_daemon.disk_path, (off_t)DISK_BYTES), 0);
    json_t *stats = daemon_stats(&rig_daemon);
    const char *text = json_string_value(json_object_get(json_object_get(stats, "blk"), "last_error"));
    assert_string_equal(text != NULL ? text : "", "read at 8192: Input/output error");
    json_decref(stats);
    client_done(&client);
}

static void tells_of_a_new_size(void **state)
{
    (void)state;
    struct vhost_user_client client;
    char answer[512];
    rig_join_and_run(&client, rig_all_features, UINT64_MAX);
    assert_int_equal(truncate(rig_daemon.disk_path, (off_t)DISK_BYTES * 2), 0);
    control("{\"command\":\"resize\"}\n", answer, sizeof(answer));
    assert_null(strstr(answer, "error"));
    struct vhost_user_header change = {0};
    struct pollfd entry = {.fd = client.backend_channel, .events = POLLIN};
    assert_int_equal(poll(&entry, 1, DAEMON_TIMEOUT_MS), 1);
    assert_int_equal(recv(client.backend_channel, &change, sizeof(change), MSG_WAITALL), sizeof(change));
    assert_int_equal(change.request, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
    uint8_t capacity[8];
    assert_int_equal(client_get_config(&client, 0, 8, capacity), 0);
    assert_int_equal(get_le64(capacity), DISK_BYTES * 2 / 512);
    assert_int_equal(rig_request(&client, 0, VIRTIO_BLK_T_IN, DISK_BYTES * 2 / 512 - 1, 512), VIRTIO_BLK_S_OK);
    client_done(&client);
}

static void resets_the_device(void **state)
{
    (void)state;
    struct vhost_user_client client;
    rig_join_and_run(&client, rig_all_features, UINT64_MAX);
    rig_write_then_read(&client, 0, 4, 44);
    assert_int_equal(client_call_ack(&client, VHOST_USER_RESET_DEVICE, NULL, 0, NULL, 0), 0);
    /* A new life: the driver's features are forgotten with the old one. */
    assert_int_equal(client_call_ack(&client, VHOST_USER_SET_FEATURES, &client.features, 8, NULL, 0), 0);
    assert_int_equal(client_start_queue(&client, 0, GUEST_BASE + RING_OFFSET, RING_SIZE), 0);
    rig_write_then_read(&client, 0, 5, 55);
    client_done(&client);
}

static void keeps_the_status_and_resets_at_zero(void **state)
{
    (void)state;
    struct vhost_user_client client;
    rig_join_and_run(&client, rig_all_features, UINT64_MAX);
    uint64_t status = VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK;
    assert_int_equal(client_call_ack(&client, VHOST_USER_SET_STATUS, &status, 8, NULL, 0), 0);
    assert_int_equal(rig_ask_u64(&client, VHOST_USER_GET_STATUS), status);
    status = 0;
    assert_int_equal(client_call_ack(&client, VHOST_USER_SET_STATUS, &status, 8, NULL, 0), 0);
    assert_int_equal(rig_ask_u64(&client, VHOST_USER_GET_STATUS), 0);
    client_done(&client);
}

/* The second front end waits in the backlog until the first is gone. */
static void serves_one_front_end_after_the_other(void **state)
{
    (void)state;
    struct vhost_user_client first, second;
    rig_join_and_run(&first, rig_all_features, UINT64_MAX);
    assert_int_equal(client_init(&second, GUEST_BASE, MEMORY_BYTES, DAEMON_TIMEOUT_MS), 0);
    assert_int_equal(client_connect(&second, rig_daemon.socket_path), 0);
    rig_write_then_read(&first, 0, 4, 44);
    assert_int_equal(client_send(&second, VHOST_USER_GET_FEATURES, 0, NULL, 0, NULL, 0), 0);
    rig_write_then_read(&first, 0, 8, 45);
    client_done(&first);
    struct vhost_user_message answer;
    assert_int_equal(client_receive(&second, VHOST_USER_GET_FEATURES, &answer), 0);
    client_done(&second);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(offers_what_it_promises),
        cmocka_unit_test(offers_of_the_ring_s_features_those_that_front_ends_can_keep),
        cmocka_unit_test(answers_configuration_in_the_size_that_was_asked_for),
        cmocka_unit_test(writes_configuration_that_may_be_written),
        cmocka_unit_test(keeps_data_over_front_ends),
        cmocka_unit_test(serves_a_front_end_that_knows_no_protocol_features),
        cmocka_unit_test(serves_with_the_features_of_libblkio),
        cmocka_unit_test(takes_memory_slots_at_run_time),
        cmocka_unit_test(replaces_the_whole_table_under_running_rings),
        cmocka_unit_test(resets_the_device),
        cmocka_unit_test(keeps_the_status_and_resets_at_zero),
        cmocka_unit_test(serves_one_front_end_after_the_other),
        cmocka_unit_test(names_the_last_error_of_the_disk),
        cmocka_unit_test(tells_of_a_new_size), /* last: the disk has another size afterwards */
    };
    if (!rig_arguments(argc, argv))
        return 2;
    return cmocka_run_group_tests_name("conformance-messages", tests, rig_start, rig_stop);
}
