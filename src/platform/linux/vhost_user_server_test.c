/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Connections, messages, descriptors and memory of front ends. */
#include "platform/linux/server_test_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static int given_a_connection(struct fixture *fixture)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    fixture->client.socket = ends[0];
    return ends[1];
}

static void serves_one_front_end_after_the_other(void **state)
{
    (void)state;
    for (unsigned threads = 0; threads < 2; threads++) {
        struct fixture *fixture = given_a_server(threads == 1);
        for (unsigned i = 0; i < 20; i++)
            expect_service(fixture);
        finish(fixture);
    }
}

static void ends_when_the_front_end_of_a_connected_socket_is_gone(void **state)
{
    (void)state;
    struct fixture *fixture = make_fixture(true);
    assert_int_equal(vhost_user_server_adopt(&fixture->server, given_a_connection(fixture)), 0);
    start(fixture);
    start_queue(fixture);
    assert_int_equal(ask_for_entropy(fixture), 16);
    finish(fixture);
}

static void adopts_a_listening_socket_and_leaves_its_file_alone(void **state)
{
    (void)state;
    struct fixture *fixture = make_fixture(false);
    char folder[] = "/tmp/backplane-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/socket", folder);
    struct unix_listener listener;
    assert_int_equal(unix_listener_open(&listener, path, 0700), 0);
    assert_int_equal(vhost_user_server_adopt(&fixture->server, listener.handle), 0);
    start(fixture);
    assert_int_equal(client_connect(&fixture->client, path), 0);
    start_queue(fixture);
    assert_int_equal(ask_for_entropy(fixture), 16);
    loop_call(&fixture->loop, stop_server, fixture);
    finish(fixture);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

static void refuses_to_adopt_what_is_no_stream_socket(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_server(false);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(vhost_user_server_adopt(&fixture->server, ends[0]), -ENOTSOCK);
    close(ends[1]);
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
    assert_int_equal(vhost_user_server_adopt(&fixture->server, ends[0]), -EPROTOTYPE);
    close(ends[1]);
    assert_int_equal(vhost_user_server_adopt(&fixture->server, 1000000), -EBADF);
    finish(fixture);
}

static void refuses_to_adopt_a_socket_that_nobody_is_or_will_be_at(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_server(false);
    int handle = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(vhost_user_server_adopt(&fixture->server, handle), -ENOTCONN);
    assert_int_equal(fcntl(handle, F_GETFD), -1); /* closed */
    finish(fixture);
}

static void understands_a_message_that_comes_byte_by_byte(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_server(false);
    connect_client(fixture);
    negotiate(fixture);
    struct {
        struct vhost_user_header header;
        uint64_t features;
    } __attribute__((packed))
    message = {{VHOST_USER_SET_FEATURES, VHOST_USER_VERSION | VHOST_USER_FLAG_NEED_REPLY, 8}, FEATURES};
    for (size_t i = 0; i < sizeof(message); i++)
        assert_int_equal(client_send_bytes(&fixture->client, (uint8_t *)&message + i, 1, NULL, 0), 0);
    struct vhost_user_message answer;
    assert_int_equal(client_receive(&fixture->client, VHOST_USER_SET_FEATURES, &answer), 0);
    assert_int_equal(answer.payload.u64, 0);
    finish(fixture);
}

#ifndef TEST_IN_USER_EMULATION /* QEMU loses the descriptors that it cuts off, and leaves them open */
static void hangs_up_on_more_descriptors_than_a_message_has_and_closes_them(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_server(false);
    for (unsigned count = 9; count <= 64; count += 55) {
        int handles[64];
        connect_client(fixture);
        for (unsigned i = 0; i < count; i++)
            handles[i] = STDIN_FILENO;
        client_send(&fixture->client, VHOST_USER_GET_FEATURES, 0, NULL, 0, handles, count);
        expect_hang_up(fixture);
    }
    /* Eight with the header and one more with the payload: each read had room for its own. */
    int eight[8] = {0};
    const struct vhost_user_header header = {VHOST_USER_SET_FEATURES, VHOST_USER_VERSION, 8};
    uint64_t features = FEATURES;
    connect_client(fixture);
    assert_int_equal(client_send_bytes(&fixture->client, &header, sizeof(header), eight, 8), 0);
    assert_int_equal(client_send_bytes(&fixture->client, &features, sizeof(features), eight, 1), 0);
    expect_hang_up(fixture);
    expect_service(fixture);
    finish(fixture);
}

static void hangs_up_on_a_memory_table_with_one_descriptor_too_many(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_server(false);
    struct vhost_user_memory_table table = {.region_count = VHOST_USER_TABLE_REGIONS_MAX};
    int handles[VHOST_USER_TABLE_REGIONS_MAX + 1];
    for (unsigned i = 0; i <= VHOST_USER_TABLE_REGIONS_MAX; i++)
        handles[i] = fixture->client.memory_handle;
    for (unsigned i = 0; i < VHOST_USER_TABLE_REGIONS_MAX; i++)
        table.regions[i] =
            (struct vhost_user_region){GUEST_BASE + 4096 * i, 4096, fixture->client.frontend_base + 4096 * i, 4096 * i};
    connect_client(fixture);
    negotiate(fixture);
    assert_int_equal(client_call_ack(&fixture->client, VHOST_USER_SET_MEM_TABLE, &table, sizeof(table), handles,
                                     VHOST_USER_TABLE_REGIONS_MAX),
                     0);
    client_send(&fixture->client, VHOST_USER_SET_MEM_TABLE, 0, &table, sizeof(table), handles,
                VHOST_USER_TABLE_REGIONS_MAX + 1);
    expect_hang_up(fixture);
    finish(fixture);
}
#endif

static void closes_descriptors_of_a_message_that_never_became_whole(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_server(false);
    const struct vhost_user_header header = {VHOST_USER_SET_MEM_TABLE, VHOST_USER_VERSION, 40};
    connect_client(fixture);
    assert_int_equal(client_send_bytes(&fixture->client, &header, sizeof(header), &fixture->client.memory_handle, 1),
                     0);
    client_disconnect(&fixture->client);
    expect_service(fixture);
    finish(fixture); /* which counts descriptors */
}

static void hangs_up_on_what_is_no_message(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_server(false);
    const struct vhost_user_header wrong[] = {
        {VHOST_USER_GET_FEATURES, 0, 0},                                          /* version 0 */
        {VHOST_USER_GET_FEATURES, 3, 0},                                          /* version 3 */
        {VHOST_USER_SET_CONFIG, VHOST_USER_VERSION, 1000000},                     /* too long */
        {VHOST_USER_SET_CONFIG, VHOST_USER_VERSION, 0xffffffffu},                 /* far too long */
        {VHOST_USER_GET_FEATURES, VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY, 0}, /* an answer */
    };
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        connect_client(fixture);
        assert_int_equal(client_send_bytes(&fixture->client, &wrong[i], sizeof(wrong[i]), NULL, 0), 0);
        expect_hang_up(fixture);
    }
    expect_service(fixture);
    finish(fixture);
}

static void survives_a_front_end_that_cuts_off_its_memory(void **state)
{
    (void)state;
    for (unsigned threads = 0; threads < 2; threads++) {
        struct fixture *fixture = given_a_server(threads == 1);
        connect_client(fixture);
        start_queue(fixture);
        assert_int_equal(ask_for_entropy(fixture), 16);
        assert_int_equal(ftruncate(fixture->client.memory_handle, 0), 0);
        assert_int_equal(client_kick(&fixture->client, 0), 0);
        expect_hang_up(fixture);
        client_disconnect(&fixture->client);
        assert_int_equal(ftruncate(fixture->client.memory_handle, (off_t)GUEST_BYTES), 0);
        expect_service(fixture);
        finish(fixture);
    }
}

static void refuses_memory_that_its_file_does_not_have(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_server(false);
    connect_client(fixture);
    negotiate(fixture);
    struct vhost_user_memory_table table = {
        .region_count = 1, .regions = {{GUEST_BASE, GUEST_BYTES, fixture->client.frontend_base, 4096}}};
    assert_int_equal(
        client_call_ack(&fixture->client, VHOST_USER_SET_MEM_TABLE, &table, 40, &fixture->client.memory_handle, 1), 1);
    table.regions[0].size -= 4096;
    assert_int_equal(
        client_call_ack(&fixture->client, VHOST_USER_SET_MEM_TABLE, &table, 40, &fixture->client.memory_handle, 1), 0);
    finish(fixture);
}

static void maps_memory_at_any_offset_of_its_file(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_server(false);
    struct vhost_user_client *client = &fixture->client;
    connect_client(fixture);
    negotiate(fixture);
    /* What the front end calls the first byte lies 0x1230 bytes into the file. */
    struct vhost_user_memory_table table = {
        .region_count = 1,
        .regions = {{GUEST_BASE + 0x1230, GUEST_BYTES - 0x1230, client->frontend_base + 0x1230, 0x1230}}};
    assert_int_equal(client_call_ack(client, VHOST_USER_SET_MEM_TABLE, &table, 40, &client->memory_handle, 1), 0);
    assert_int_equal(client_start_queue(client, 0, RING_ADDRESS + 0x8000, RING_SIZE), 0);
    assert_int_equal(ask_for_entropy(fixture), 16);
    assert_int_equal(client->memory.host[BUFFER_ADDRESS - GUEST_BASE + 15], 7);
    finish(fixture);
}

static void look_at_sending(void *argument)
{
    struct fixture *fixture = argument;
    fixture->waits = vhost_user_channel_sending(&fixture->server.channel);
}

/* Does an answer wait for room? Then the server reads no further until somebody listens. Asking is a turn for it. */
static bool server_sending(struct fixture *fixture)
{
    loop_call(&fixture->loop, look_at_sending, fixture);
    return fixture->waits != 0;
}

static void keeps_an_answer_that_the_front_end_does_not_take_yet(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_server(false);
    const struct vhost_user_header ask = {VHOST_USER_GET_FEATURES, VHOST_USER_VERSION, 0};
    unsigned asked = 0, answered = 0;
    connect_client(fixture);
    /* Ask without listening until both directions are full: then the server has stopped reading. */
    assert_int_equal(fcntl(fixture->client.socket, F_SETFL, O_NONBLOCK), 0);
    while (!server_sending(fixture)) {
        if (send(fixture->client.socket, &ask, sizeof(ask), MSG_NOSIGNAL) == sizeof(ask))
            asked++;
        else
            assert_int_equal(errno, EAGAIN);
    }
    for (; answered < asked; answered++) {
        struct vhost_user_message answer;
        assert_int_equal(client_receive(&fixture->client, VHOST_USER_GET_FEATURES, &answer), 0);
        assert_int_equal(answer.header.size, 8);
    }
    assert_true(asked > 100);
    finish(fixture);
}

/* Send @size bytes of @ask again and again, until the server has stopped reading. */
static void ask_until_full(struct fixture *fixture, const void *ask, size_t size)
{
    assert_int_equal(fcntl(fixture->client.socket, F_SETFL, O_NONBLOCK), 0);
    while (!server_sending(fixture)) {
        if (send(fixture->client.socket, ask, size, MSG_NOSIGNAL) < 0)
            assert_int_equal(errno, EAGAIN);
    }
}

static void goes_on_when_the_front_end_leaves_with_answers_waiting(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_server(false);
    const struct vhost_user_header ask = {VHOST_USER_GET_FEATURES, VHOST_USER_VERSION, 0};
    connect_client(fixture);
    ask_until_full(fixture, &ask, sizeof(ask));
    client_disconnect(&fixture->client);
    expect_service(fixture);
    finish(fixture);
}

static void closes_the_descriptor_of_an_answer_that_was_never_taken(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_server(false);
    struct {
        struct vhost_user_header header;
        uint8_t payload[VHOST_USER_INFLIGHT_BYTES];
    } ask = {.header = {VHOST_USER_GET_INFLIGHT_FD, VHOST_USER_VERSION, VHOST_USER_INFLIGHT_BYTES}};
    struct vhost_user_inflight inflight = {.queue_count = 1, .queue_size = RING_SIZE};
    memcpy(ask.payload, &inflight, sizeof(ask.payload));
    connect_client(fixture);
    assert_int_equal(client_negotiate(&fixture->client, FEATURES, VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD), 0);
    ask_until_full(fixture, &ask, sizeof(ask));
    client_disconnect(&fixture->client);
    expect_service(fixture);
    finish(fixture);
}

static void look_at_retry(void *argument)
{
    struct fixture *fixture = argument;
    fixture->waits = fixture->server.retry.at_ns;
}

static uint64_t server_retry_ns(struct fixture *fixture)
{
    loop_call(&fixture->loop, look_at_retry, fixture);
    return fixture->waits;
}

static void a_front_end_that_finds_no_descriptor_left_is_accepted_later(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_server(false);
    struct vhost_user_message answer;
    struct rlimit before, tight;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    tight = before;
    int lowest = dup(STDERR_FILENO);
    close(lowest);
    tight.rlim_cur = (rlim_t)lowest + 1; /* one more, which the front end takes */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    int connected = client_connect(&fixture->client, fixture->path);
    while (connected == 0 && server_retry_ns(fixture) == 0)
        ; /* each call is a turn of the server's */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(connected, 0);
    assert_int_equal(client_send(&fixture->client, VHOST_USER_GET_FEATURES, 0, NULL, 0, NULL, 0), 0);
    assert_int_equal(client_receive(&fixture->client, VHOST_USER_GET_FEATURES, &answer), 0);
    finish(fixture);
}

static void the_next_front_end_waits_for_its_turn(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_server(false);
    struct vhost_user_client second;
    struct vhost_user_message answer;
    assert_int_equal(client_init(&second, GUEST_BASE, GUEST_BYTES, TIMEOUT_MS), 0);
    connect_client(fixture);
    start_queue(fixture);
    assert_int_equal(client_connect(&second, fixture->path), 0);
    assert_int_equal(client_send(&second, VHOST_USER_GET_FEATURES, 0, NULL, 0, NULL, 0), 0);
    assert_int_equal(ask_for_entropy(fixture), 16);
    client_disconnect(&fixture->client);
    assert_int_equal(client_receive(&second, VHOST_USER_GET_FEATURES, &answer), 0);
    client_done(&second);
    finish(fixture);
}

static void stops_under_a_front_end_that_is_connected(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_server(true);
    connect_client(fixture);
    start_queue(fixture);
    assert_int_equal(ask_for_entropy(fixture), 16);
    loop_call(&fixture->loop, stop_server, fixture);
    join_server(fixture);
    expect_hang_up(fixture);
    finish(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(serves_one_front_end_after_the_other),
        cmocka_unit_test(ends_when_the_front_end_of_a_connected_socket_is_gone),
        cmocka_unit_test(adopts_a_listening_socket_and_leaves_its_file_alone),
        cmocka_unit_test(refuses_to_adopt_what_is_no_stream_socket),
        cmocka_unit_test(refuses_to_adopt_a_socket_that_nobody_is_or_will_be_at),
        cmocka_unit_test(understands_a_message_that_comes_byte_by_byte),
#ifndef TEST_IN_USER_EMULATION
        cmocka_unit_test(hangs_up_on_more_descriptors_than_a_message_has_and_closes_them),
        cmocka_unit_test(hangs_up_on_a_memory_table_with_one_descriptor_too_many),
#endif
        cmocka_unit_test(closes_descriptors_of_a_message_that_never_became_whole),
        cmocka_unit_test(hangs_up_on_what_is_no_message),
        cmocka_unit_test(survives_a_front_end_that_cuts_off_its_memory),
        cmocka_unit_test(refuses_memory_that_its_file_does_not_have),
        cmocka_unit_test(maps_memory_at_any_offset_of_its_file),
        cmocka_unit_test(keeps_an_answer_that_the_front_end_does_not_take_yet),
        cmocka_unit_test(goes_on_when_the_front_end_leaves_with_answers_waiting),
        cmocka_unit_test(closes_the_descriptor_of_an_answer_that_was_never_taken),
        cmocka_unit_test(a_front_end_that_finds_no_descriptor_left_is_accepted_later),
        cmocka_unit_test(the_next_front_end_waits_for_its_turn),
        cmocka_unit_test(stops_under_a_front_end_that_is_connected),
    };
    return cmocka_run_group_tests_name("vhost_user_server", tests, NULL, NULL);
}
