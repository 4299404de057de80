/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "platform/linux/server_test_rig.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int all_sevens(struct entropy_source *source, void *buffer, size_t size)
{
    struct fixture *fixture = container_of(source, struct fixture, source);
    fixture->found_dry = atomic_load(&fixture->dry);
    if (fixture->found_dry) {
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

/* A handle only while the source has been found dry, as files of entropy have it. */
static int source_handle(void *context, unsigned index)
{
    const struct fixture *fixture = context;
    assert_int_equal(index, 0);
    return fixture->found_dry ? atomic_load(&fixture->handle) : -1;
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

/* Mappings of a front end's memory in this process. */
static unsigned guest_mappings(void)
{
    char line[512];
    unsigned count = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps))
        count += strstr(line, "memfd:") != NULL;
    fclose(maps);
    return count;
}

static void ended(void *context)
{
    struct fixture *fixture = context;
    fixture->ended++;
    loop_stop(&fixture->loop);
}

struct fixture *fixture_make(size_t request_bytes)
{
    return fixture_make_queues(request_bytes, 1);
}

struct fixture *fixture_make_queues(size_t request_bytes, unsigned queues)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    fixture->handles_before = open_handles();
    fixture->handle = -1;
    fixture->source.class = &source_class;
    const struct virtq_arena_shape shape = {
        .slots = 16, .medium_runs = 1, .long_runs = 1, .request_bytes = request_bytes};
    assert_int_equal(device_queues_open(&fixture->queues, queues, &shape), 0);
    assert_int_equal(loop_init(&fixture->loop), 0);
    return fixture;
}

void fixture_serve(struct fixture *fixture, struct virtio_device *device, const struct server_queue_port *port,
                   bool own_threads)
{
    const struct vhost_user_server_options options = {
        .loop = &fixture->loop,
        .device = device,
        .queues = &fixture->queues,
        .own_threads = own_threads,
        .polling = fixture->polling,
        .queue_port = *port,
        .ended = ended,
        .context = fixture,
    };
    assert_int_equal(vhost_user_server_init(&fixture->server, &options), 0);
    assert_int_equal(client_init(&fixture->client, GUEST_BASE, GUEST_BYTES, TIMEOUT_MS), 0);
}

static struct fixture *make_rng_fixture(enum server_polling polling, bool own_threads, uint64_t bytes_per_s)
{
    struct fixture *fixture = fixture_make(rng_request_bytes());
    fixture->polling = polling;
    rng_init(&fixture->rng, fixture->queues.queues, &fixture->source, bytes_per_s);
    const struct server_queue_port port = {.handle = source_handle, .handle_changes = true, .context = fixture};
    fixture_serve(fixture, &fixture->rng.device, &port, own_threads);
    return fixture;
}

struct fixture *make_fixture_of_rate(bool own_threads, uint64_t bytes_per_s)
{
    return make_rng_fixture(SERVER_POLLING_ADAPTIVE, own_threads, bytes_per_s);
}

struct fixture *make_fixture_that_polls(enum server_polling polling, uint64_t bytes_per_s)
{
    return make_rng_fixture(polling, true, bytes_per_s);
}

struct fixture *make_fixture(bool own_threads)
{
    return make_fixture_of_rate(own_threads, 0);
}

void start(struct fixture *fixture)
{
    assert_int_equal(loop_start_thread(&fixture->loop, "server"), 0);
}

struct fixture *run_fixture(struct fixture *fixture)
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

struct fixture *given_a_server(bool own_threads)
{
    return run_fixture(make_fixture(own_threads));
}

static void count_waits(void *argument)
{
    struct fixture *fixture = argument;
    fixture->waits = fixture->server.server_queues[0].loop->waits_total;
}

uint64_t waits(struct fixture *fixture)
{
    server_queue_call(&fixture->server.server_queues[0], count_waits, fixture);
    return fixture->waits;
}

void expect_an_idle_loop(struct fixture *fixture)
{
    uint64_t before = waits(fixture);
    for (unsigned i = 0; i < 100; i++)
        (void)waits(fixture);
    /* One for each question; fewer when two met in one turn, and then one more for the wake that was left over. */
    assert_true(waits(fixture) - before <= 102);
}

void stop_server(void *argument)
{
    struct fixture *fixture = argument;
    if (fixture->server.state != VHOST_USER_SERVER_ENDED)
        vhost_user_server_stop(&fixture->server);
}

void join_server(struct fixture *fixture)
{
    pthread_join(fixture->loop.owner, NULL);
    fixture->loop.threaded = false;
    fixture->loop.owner = pthread_self();
    assert_int_equal(fixture->ended, 1);
}

void finish(struct fixture *fixture)
{
    client_done(&fixture->client);
    if (fixture->folder[0] != '\0' && fixture->loop.threaded)
        loop_call(&fixture->loop, stop_server, fixture);
    if (fixture->loop.threaded)
        join_server(fixture);
    vhost_user_server_done(&fixture->server);
    loop_done(&fixture->loop);
    device_queues_close(&fixture->queues);
    if (fixture->folder[0] != '\0') {
        assert_int_equal(access(fixture->path, F_OK), -1);
        assert_int_equal(rmdir(fixture->folder), 0);
    }
    assert_int_equal(guest_mappings(), 0);
    assert_int_equal(open_handles(), fixture->handles_before);
    free(fixture);
}

void connect_client(struct fixture *fixture)
{
    assert_int_equal(client_connect(&fixture->client, fixture->path), 0);
}

void negotiate(struct fixture *fixture)
{
    assert_int_equal(client_negotiate(&fixture->client, FEATURES, PROTOCOL_FEATURES), 0);
}

void start_queue(struct fixture *fixture)
{
    negotiate(fixture);
    assert_int_equal(client_share_memory(&fixture->client), 0);
    assert_int_equal(client_start_queue(&fixture->client, 0, RING_ADDRESS, RING_SIZE), 0);
}

int ask_for_entropy(struct fixture *fixture)
{
    const struct fake_piece piece = {.address = BUFFER_ADDRESS, .length = 16, .writable = true};
    return client_request(&fixture->client, 0, &piece, 1);
}

void expect_service(struct fixture *fixture)
{
    connect_client(fixture);
    start_queue(fixture);
    assert_int_equal(ask_for_entropy(fixture), 16);
    client_disconnect(&fixture->client);
}

void expect_hang_up(struct fixture *fixture)
{
    struct vhost_user_message message;
    assert_int_equal(client_receive(&fixture->client, VHOST_USER_GET_FEATURES, &message), -ECONNRESET);
}
