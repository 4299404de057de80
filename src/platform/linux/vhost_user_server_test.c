/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The server on a thread, as in a program; a small front end on the test's own. The device is rng on a fake source. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/rng/rng.h"
#include "platform/linux/vhost_user_server.h"
#include "vhost_user_client.h"

#define GUEST_BASE UINT64_C(0x100000)
#define GUEST_BYTES (UINT64_C(1) << 20)
#define RING_ADDRESS GUEST_BASE
#define RING_SIZE 64
#define BUFFER_ADDRESS (GUEST_BASE + 0x10000)

/* An answer takes microseconds; a machine under load is given half a minute. */
#define TIMEOUT_MS 30000

#define FEATURES (VHOST_USER_F_PROTOCOL_FEATURES | VIRTIO_F_VERSION_1)
#define PROTOCOL_FEATURES (VHOST_USER_PROTOCOL_F_REPLY_ACK | VHOST_USER_PROTOCOL_F_MQ)

struct fixture {
    struct entropy_source source;
    atomic_bool dry;   /* the source has nothing */
    atomic_bool real;  /* and its clock is the real one */
    atomic_uint asked; /* while it was dry */
    atomic_int handle; /* what tells that it has something again */
    struct rng rng;
    struct device_queues queues;
    struct loop loop;
    struct vhost_user_server server;
    struct vhost_user_client client;
    char folder[32], path[64];
    unsigned ended;
    uint64_t waits;
    unsigned handles_before;
};

static int all_sevens(struct entropy_source *source, void *buffer, size_t size)
{
    struct fixture *fixture = container_of(source, struct fixture, source);
    if (atomic_load(&fixture->dry)) {
        atomic_fetch_add(&fixture->asked, 1);
        return -EAGAIN;
    }
    memset(buffer, 7, size);
    return (int)size;
}

static uint64_t source_now_ns(struct entropy_source *source)
{
    const struct fixture *fixture = container_of(source, struct fixture, source);
    return atomic_load(&fixture->real) ? loop_now_ns() : 0;
}

static const struct entropy_source_class source_class = {.read = all_sevens, .now_ns = source_now_ns};

/* A handle only while the source is dry, as files of entropy have it. */
static int source_handle(void *context, unsigned index)
{
    const struct fixture *fixture = context;
    assert_int_equal(index, 0);
    return atomic_load(&fixture->dry) ? atomic_load(&fixture->handle) : -1;
}

static unsigned open_handles(void)
{
    unsigned count = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static void ended(void *context)
{
    struct fixture *fixture = context;
    fixture->ended++;
    loop_stop(&fixture->loop);
}

static struct fixture *make_fixture_of_rate(bool own_threads, uint64_t bytes_per_s)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    fixture->handles_before = open_handles();
    fixture->source.class = &source_class;
    const struct virtq_arena_shape shape = {
        .slots = 16, .medium_runs = 1, .long_runs = 1, .request_bytes = rng_request_bytes()};
    assert_int_equal(device_queues_open(&fixture->queues, 1, &shape), 0);
    fixture->handle = -1;
    rng_init(&fixture->rng, fixture->queues.queues, &fixture->source, bytes_per_s);
    assert_int_equal(loop_init(&fixture->loop), 0);
    const struct vhost_user_server_options options = {
        .loop = &fixture->loop,
        .device = &fixture->rng.device,
        .queues = &fixture->queues,
        .own_threads = own_threads,
        .queue_port = {.handle = source_handle, .handle_changes = true, .context = fixture},
        .ended = ended,
        .context = fixture,
    };
    assert_int_equal(vhost_user_server_init(&fixture->server, &options), 0);
    assert_int_equal(client_init(&fixture->client, GUEST_BASE, GUEST_BYTES, TIMEOUT_MS), 0);
    return fixture;
}

static struct fixture *make_fixture(bool own_threads)
{
    return make_fixture_of_rate(own_threads, 0);
}

static void start(struct fixture *fixture)
{
    assert_int_equal(loop_start_thread(&fixture->loop, "server"), 0);
}

/* Give it a place in the file system, and let it run. */
static struct fixture *run_fixture(struct fixture *fixture)
{
    strcpy(fixture->folder, "/tmp/backplane-XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    snprintf(fixture->path, sizeof(fixture->path), "%s/socket", fixture->folder);
    struct unix_listener listener;
    assert_int_equal(unix_listener_open(&listener, fixture->path, 0700), 0);
    assert_int_equal(vhost_user_server_listen(&fixture->server, &listener), 0);
    start(fixture);
    return fixture;
}

static struct fixture *given_a_server(bool own_threads)
{
    return run_fixture(make_fixture(own_threads));
}

static int given_a_connection(struct fixture *fixture)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    fixture->client.socket = ends[0];
    return ends[1];
}

static void stop_server(void *argument)
{
    struct fixture *fixture = argument;
    if (fixture->server.state != VHOST_USER_SERVER_ENDED)
        vhost_user_server_stop(&fixture->server);
}

/* Everything has been given back: no descriptor more than before. */
static void finish(struct fixture *fixture)
{
    client_done(&fixture->client);
    if (fixture->folder[0] != '\0') {
        loop_call(&fixture->loop, stop_server, fixture);
    }
    pthread_join(fixture->loop.owner, NULL);
    fixture->loop.threaded = false;
    fixture->loop.owner = pthread_self();
    assert_int_equal(fixture->ended, 1);
    vhost_user_server_done(&fixture->server);
    loop_done(&fixture->loop);
    device_queues_close(&fixture->queues);
    if (fixture->folder[0] != '\0') {
        assert_int_equal(access(fixture->path, F_OK), -1);
        assert_int_equal(rmdir(fixture->folder), 0);
    }
    assert_int_equal(open_handles(), fixture->handles_before);
    free(fixture);
}

static void connect_client(struct fixture *fixture)
{
    assert_int_equal(client_connect(&fixture->client, fixture->path), 0);
}

static void negotiate(struct fixture *fixture)
{
    assert_int_equal(client_negotiate(&fixture->client, FEATURES, PROTOCOL_FEATURES), 0);
}

static void start_queue(struct fixture *fixture)
{
    negotiate(fixture);
    assert_int_equal(client_share_memory(&fixture->client), 0);
    assert_int_equal(client_start_queue(&fixture->client, 0, RING_ADDRESS, RING_SIZE), 0);
}

static int ask_for_entropy(struct fixture *fixture)
{
    const struct fake_piece piece = {.address = BUFFER_ADDRESS, .length = 16, .writable = true};
    return client_request(&fixture->client, 0, &piece, 1);
}

static void expect_service(struct fixture *fixture)
{
    connect_client(fixture);
    start_queue(fixture);
    assert_int_equal(ask_for_entropy(fixture), 16);
    client_disconnect(&fixture->client);
}

/* The back end hangs up. */
static void expect_hang_up(struct fixture *fixture)
{
    struct vhost_user_message message;
    assert_int_equal(client_receive(&fixture->client, VHOST_USER_GET_FEATURES, &message), -ECONNRESET);
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

static void hangs_up_on_a_kick_line_that_notifies_nobody(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_server(true);
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    uint64_t index = 0;
    connect_client(fixture);
    negotiate(fixture);
    client_send(&fixture->client, VHOST_USER_SET_VRING_KICK, 0, &index, sizeof(index), &file, 1);
    close(file);
    expect_hang_up(fixture);
    expect_service(fixture);
    finish(fixture);
}

static void set_line(struct fixture *fixture, uint32_t request, uint64_t index, int handle)
{
    assert_int_equal(client_call_ack(&fixture->client, request, &index, sizeof(index), &handle, handle >= 0 ? 1 : 0),
                     0);
}

static void wait_until_used(struct fixture *fixture)
{
    uint32_t head, length;
    for (unsigned i = 0; i < TIMEOUT_MS && !fake_driver_get(fixture->client.queues[0].driver, &head, &length); i++)
        usleep(1000);
    assert_int_equal(length, 16);
}

static void offer_buffer(struct fixture *fixture)
{
    const struct fake_piece piece = {.address = BUFFER_ADDRESS, .length = 16, .writable = true};
    struct fake_driver *driver = fixture->client.queues[0].driver;
    assert_true(fake_driver_add(driver, &piece, 1) >= 0);
    fake_driver_show(driver);
}

static void looks_at_a_ring_that_has_no_kick_line(void **state)
{
    (void)state;
    for (unsigned threads = 0; threads < 2; threads++) {
        struct fixture *fixture = given_a_server(threads == 1);
        connect_client(fixture);
        start_queue(fixture);
        set_line(fixture, VHOST_USER_SET_VRING_KICK, VHOST_USER_VRING_NO_FD, -1);
        for (unsigned i = 0; i < 10; i++) {
            offer_buffer(fixture);
            wait_until_used(fixture);
        }
        finish(fixture);
    }
}

/* How many turns the queue's loop had: read on its thread. */
static void count_waits(void *argument)
{
    struct fixture *fixture = argument;
    fixture->waits = fixture->server.server_queues[0].loop->waits_total;
}

static uint64_t waits(struct fixture *fixture)
{
    server_queue_call(&fixture->server.server_queues[0], count_waits, fixture);
    return fixture->waits;
}

/* A loop with nothing to do has at most one turn for each time it is asked, and one that spins has many more. */
static void expect_an_idle_loop(struct fixture *fixture)
{
    uint64_t before = waits(fixture);
    for (unsigned i = 0; i < 100; i++)
        (void)waits(fixture);
    assert_in_range(waits(fixture) - before, 1, 101); /* fewer when two questions met in one turn */
}

static void kick_a_dry_source(struct fixture *fixture, int handle)
{
    connect_client(fixture);
    start_queue(fixture);
    atomic_store(&fixture->handle, handle);
    atomic_store(&fixture->dry, true);
    offer_buffer(fixture);
    assert_int_equal(client_kick(&fixture->client, 0), 0);
    while (atomic_load(&fixture->asked) == 0)
        (void)waits(fixture);
}

static void a_dry_source_is_waited_for_and_not_asked_again_and_again(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_server(true);
    int handle = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    uint64_t one = 1;
    kick_a_dry_source(fixture, handle);
    expect_an_idle_loop(fixture);
    assert_in_range(atomic_load(&fixture->asked), 1, 2); /* by the start of the ring too, if the buffer was there */
    atomic_store(&fixture->dry, false);
    assert_int_equal(write(handle, &one, sizeof(one)), sizeof(one));
    wait_until_used(fixture);
    expect_an_idle_loop(fixture); /* though the handle stays readable */
    close(handle);
    finish(fixture);
}

static void a_dry_source_that_cannot_be_waited_for_is_asked_again(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_server(true);
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    kick_a_dry_source(fixture, file);
    atomic_store(&fixture->dry, false);
    wait_until_used(fixture);
    close(file);
    finish(fixture);
}

static void a_rate_limit_is_kept_by_a_timer(void **state)
{
    (void)state;
    struct fixture *fixture = make_fixture_of_rate(true, 1600);
    atomic_store(&fixture->real, true);
    run_fixture(fixture);
    connect_client(fixture);
    start_queue(fixture);
    /* After a burst of 10, each has to wait for the timer: nobody kicks again for it. */
    for (unsigned asked = 0; asked < 30; asked++)
        assert_int_equal(ask_for_entropy(fixture), 16);
    finish(fixture);
}

static void leaves_no_kick_behind_for_the_front_end_to_find(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_server(true);
    uint64_t count;
    uint16_t base;
    connect_client(fixture);
    start_queue(fixture);
    assert_int_equal(ask_for_entropy(fixture), 16);
    int kick = fixture->client.queues[0].kick;
    assert_int_equal(client_kick(&fixture->client, 0), 0);
    assert_int_equal(client_stop_queue(&fixture->client, 0, &base), 0);
    assert_int_equal(fcntl(kick, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(read(kick, &count, sizeof(count)), -1);
    assert_int_equal(errno, EAGAIN);
    finish(fixture);
}

static void takes_pipes_as_lines(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_server(true);
    int kick[2], call[2];
    char bytes[8] = {1};
    connect_client(fixture);
    start_queue(fixture);
    assert_int_equal(pipe2(kick, O_CLOEXEC), 0);
    assert_int_equal(pipe2(call, O_CLOEXEC), 0);
    set_line(fixture, VHOST_USER_SET_VRING_KICK, 0, kick[0]);
    set_line(fixture, VHOST_USER_SET_VRING_CALL, 0, call[1]);
    for (unsigned i = 0; i < 3; i++) {
        offer_buffer(fixture);
        assert_int_equal(write(kick[1], bytes, sizeof(bytes)), sizeof(bytes));
        assert_int_equal(read(call[0], bytes, sizeof(bytes)), sizeof(bytes));
        wait_until_used(fixture);
    }
    /* Nobody at the other ends any more: no kick comes, no call arrives, and nothing else happens. */
    close(kick[1]);
    close(call[0]);
    uint16_t base;
    assert_int_equal(client_stop_queue(&fixture->client, 0, &base), 0);
    assert_int_equal(base, 3);
    close(kick[0]);
    close(call[1]);
    finish(fixture);
}

static void a_call_line_that_is_full_holds_up_nothing(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_server(true);
    uint64_t most = UINT64_MAX - 1;
    int call = eventfd(0, EFD_CLOEXEC); /* one that blocks */
    assert_int_equal(write(call, &most, sizeof(most)), sizeof(most));
    connect_client(fixture);
    start_queue(fixture);
    set_line(fixture, VHOST_USER_SET_VRING_CALL, 0, call);
    for (unsigned i = 0; i < 3; i++) {
        offer_buffer(fixture);
        assert_int_equal(client_kick(&fixture->client, 0), 0);
        wait_until_used(fixture);
    }
    close(call);
    finish(fixture);
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
    for (unsigned full = 0; full < 20;) {
        if (send(fixture->client.socket, &ask, sizeof(ask), MSG_NOSIGNAL) == sizeof(ask)) {
            asked++;
        } else {
            assert_int_equal(errno, EAGAIN);
            full++;
            usleep(1000);
        }
    }
    for (; answered < asked; answered++) {
        struct vhost_user_message answer;
        assert_int_equal(client_receive(&fixture->client, VHOST_USER_GET_FEATURES, &answer), 0);
        assert_int_equal(answer.header.size, 8);
    }
    assert_true(asked > 100);
    finish(fixture);
}

static void goes_on_when_the_front_end_leaves_with_answers_waiting(void **state)
{
    (void)state;
    struct fixture *fixture = given_a_server(false);
    const struct vhost_user_header ask = {VHOST_USER_GET_FEATURES, VHOST_USER_VERSION, 0};
    connect_client(fixture);
    assert_int_equal(fcntl(fixture->client.socket, F_SETFL, O_NONBLOCK), 0);
    for (unsigned full = 0; full < 20;) {
        if (send(fixture->client.socket, &ask, sizeof(ask), MSG_NOSIGNAL) < 0) {
            full++;
            usleep(1000);
        }
    }
    client_disconnect(&fixture->client);
    expect_service(fixture);
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
    pthread_join(fixture->loop.owner, NULL);
    expect_hang_up(fixture);
    fixture->loop.threaded = false;
    fixture->loop.owner = pthread_self();
    assert_int_equal(fixture->ended, 1);
    client_done(&fixture->client);
    vhost_user_server_done(&fixture->server);
    loop_done(&fixture->loop);
    device_queues_close(&fixture->queues);
    assert_int_equal(rmdir(fixture->folder), 0);
    free(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(serves_one_front_end_after_the_other),
        cmocka_unit_test(ends_when_the_front_end_of_a_connected_socket_is_gone),
        cmocka_unit_test(adopts_a_listening_socket_and_leaves_its_file_alone),
        cmocka_unit_test(refuses_to_adopt_what_is_no_stream_socket),
        cmocka_unit_test(understands_a_message_that_comes_byte_by_byte),
#ifndef TEST_IN_USER_EMULATION
        cmocka_unit_test(hangs_up_on_more_descriptors_than_a_message_has_and_closes_them),
#endif
        cmocka_unit_test(closes_descriptors_of_a_message_that_never_became_whole),
        cmocka_unit_test(hangs_up_on_what_is_no_message),
        cmocka_unit_test(survives_a_front_end_that_cuts_off_its_memory),
        cmocka_unit_test(refuses_memory_that_its_file_does_not_have),
        cmocka_unit_test(maps_memory_at_any_offset_of_its_file),
        cmocka_unit_test(hangs_up_on_a_kick_line_that_notifies_nobody),
        cmocka_unit_test(looks_at_a_ring_that_has_no_kick_line),
        cmocka_unit_test(a_dry_source_is_waited_for_and_not_asked_again_and_again),
        cmocka_unit_test(a_dry_source_that_cannot_be_waited_for_is_asked_again),
        cmocka_unit_test(a_rate_limit_is_kept_by_a_timer),
        cmocka_unit_test(leaves_no_kick_behind_for_the_front_end_to_find),
        cmocka_unit_test(takes_pipes_as_lines),
        cmocka_unit_test(a_call_line_that_is_full_holds_up_nothing),
        cmocka_unit_test(keeps_an_answer_that_the_front_end_does_not_take_yet),
        cmocka_unit_test(goes_on_when_the_front_end_leaves_with_answers_waiting),
        cmocka_unit_test(the_next_front_end_waits_for_its_turn),
        cmocka_unit_test(stops_under_a_front_end_that_is_connected),
    };
    return cmocka_run_group_tests_name("vhost_user_server", tests, NULL, NULL);
}
