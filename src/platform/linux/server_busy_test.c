/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Requests that are in flight while their front end stops the queue, leaves, or is sent away: a disk that is slow. */
#include "platform/linux/server_test_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/blk/blk.h"

#define DISK_BYTES (UINT64_C(1) << 20)
#define HEADER_ADDRESS BUFFER_ADDRESS
#define DATA_ADDRESS (BUFFER_ADDRESS + 0x1000)
#define STATUS_ADDRESS (BUFFER_ADDRESS + 0x2000)

/* Keeps what it is given until it is told to finish it. */
struct slow_disk {
    struct blk_port port;
    pthread_mutex_t lock;
    uint64_t tokens[16];
    unsigned held;      /* under lock, as the next two */
    unsigned finished;  /* how many of them reap may have */
    unsigned submitted; /* ever */
    bool resting;       /* its handle is to tell of what is finished; under lock, as the next two */
    bool hasty;         /* it finishes everything when it is to rest, and its handle does not tell */
    unsigned rests;     /* ever */
    int handle;         /* eventfd: some are finished */
    struct blk blk;
    struct fixture *fixture;
};

static struct slow_disk *disk_of(struct blk_port *port)
{
    return container_of(port, struct slow_disk, port);
}

static unsigned slow_submit(struct blk_port *port, unsigned queue, const struct blk_io *ios, unsigned count)
{
    struct slow_disk *disk = disk_of(port);
    (void)queue;
    pthread_mutex_lock(&disk->lock);
    for (unsigned i = 0; i < count; i++)
        disk->tokens[disk->held++] = ios[i].token;
    disk->submitted += count;
    pthread_mutex_unlock(&disk->lock);
    return count;
}

static unsigned slow_reap(struct blk_port *port, unsigned queue, struct blk_completion *completions, unsigned max)
{
    struct slow_disk *disk = disk_of(port);
    uint64_t count;
    (void)queue;
    ssize_t taken = read(disk->handle, &count, sizeof(count));
    (void)taken;
    pthread_mutex_lock(&disk->lock);
    unsigned given = disk->finished < max ? disk->finished : max;
    for (unsigned i = 0; i < given; i++)
        completions[i] = (struct blk_completion){.token = disk->tokens[i]};
    memmove(disk->tokens, disk->tokens + given, (disk->held - given) * sizeof(disk->tokens[0]));
    disk->held -= given;
    disk->finished -= given;
    disk->resting = false;
    pthread_mutex_unlock(&disk->lock);
    return given;
}

static void slow_cancel(struct blk_port *port, unsigned queue)
{
    (void)port;
    (void)queue; /* a disk ends in its own time */
}

static uint64_t slow_now_ns(struct blk_port *port)
{
    (void)port;
    return loop_now_ns();
}

static const struct blk_port_class slow_class = {
    .submit = slow_submit, .reap = slow_reap, .cancel = slow_cancel, .now_ns = slow_now_ns};

static int slow_handle(void *context, unsigned index)
{
    (void)index;
    return ((struct slow_disk *)context)->handle;
}

static void finish_requests(struct slow_disk *disk)
{
    uint64_t one = 1;
    pthread_mutex_lock(&disk->lock);
    disk->finished = disk->held;
    pthread_mutex_unlock(&disk->lock);
    assert_int_equal(write(disk->handle, &one, sizeof(one)), sizeof(one));
}

static bool slow_ready(void *context, unsigned index)
{
    struct slow_disk *disk = context;
    (void)index;
    pthread_mutex_lock(&disk->lock);
    bool ready = disk->finished > 0;
    pthread_mutex_unlock(&disk->lock);
    return ready;
}

static bool slow_rest(void *context, unsigned index)
{
    struct slow_disk *disk = context;
    (void)index;
    pthread_mutex_lock(&disk->lock);
    disk->rests++;
    disk->resting = true;
    if (disk->hasty)
        disk->finished = disk->held;
    bool ready = disk->finished > 0;
    pthread_mutex_unlock(&disk->lock);
    return ready;
}

/* As a port does that is looked at: the handle tells only where rest has asked it to. */
static void finish_quietly(struct slow_disk *disk)
{
    uint64_t one = 1;
    pthread_mutex_lock(&disk->lock);
    disk->finished = disk->held;
    bool tell = disk->resting && disk->finished > 0;
    disk->resting = false;
    if (tell)
        assert_int_equal(write(disk->handle, &one, sizeof(one)), sizeof(one));
    pthread_mutex_unlock(&disk->lock);
}

static unsigned submitted(struct slow_disk *disk)
{
    pthread_mutex_lock(&disk->lock);
    unsigned count = disk->submitted;
    pthread_mutex_unlock(&disk->lock);
    return count;
}

static struct slow_disk *given_a_disk(bool own_threads, enum server_polling polling, struct server_queue_port port)
{
    struct slow_disk *disk = calloc(1, sizeof(*disk));
    assert_non_null(disk);
    pthread_mutex_init(&disk->lock, NULL);
    disk->port.class = &slow_class;
    disk->handle = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    disk->fixture = fixture_make(blk_request_bytes());
    disk->fixture->polling = polling;
    const struct blk_options options = {.size_bytes = DISK_BYTES, .block_bytes = 512, .physical_bytes = 512};
    assert_int_equal(blk_init(&disk->blk, disk->fixture->queues.queues, 1, &disk->port, &options), 0);
    port.handle = slow_handle;
    port.context = disk;
    fixture_serve(disk->fixture, &disk->blk.device, &port, own_threads);
    run_fixture(disk->fixture);
    return disk;
}

static struct slow_disk *given_a_slow_disk(bool own_threads)
{
    return given_a_disk(own_threads, SERVER_POLLING_ADAPTIVE, (struct server_queue_port){.context = NULL});
}

/* One that says by itself whether it has something, and is told when it has to call. */
static struct slow_disk *given_a_disk_that_is_looked_at(enum server_polling polling)
{
    return given_a_disk(true, polling, (struct server_queue_port){.ready = slow_ready, .rest = slow_rest});
}

static void end(struct slow_disk *disk)
{
    finish(disk->fixture);
    close(disk->handle);
    pthread_mutex_destroy(&disk->lock);
    free(disk);
}

/* A front end whose read is with the disk. */
static void given_a_read_in_flight(struct slow_disk *disk)
{
    struct vhost_user_client *client = &disk->fixture->client;
    const struct virtio_blk_header header = {.type = VIRTIO_BLK_T_IN};
    const struct fake_piece pieces[] = {
        {HEADER_ADDRESS, sizeof(header), false}, {DATA_ADDRESS, 512, true}, {STATUS_ADDRESS, 1, true}};
    connect_client(disk->fixture);
    start_queue(disk->fixture);
    memcpy(client->memory.host + (HEADER_ADDRESS - GUEST_BASE), &header, sizeof(header));
    unsigned before = submitted(disk);
    assert_true(fake_driver_add(client->queues[0].driver, pieces, ARRAY_SIZE(pieces)) >= 0);
    fake_driver_show(client->queues[0].driver);
    assert_int_equal(client_kick(client, 0), 0);
    while (submitted(disk) == before)
        sched_yield();
}

static bool anything_to_hear(const struct fixture *fixture)
{
    struct pollfd look = {.fd = fixture->client.socket, .events = POLLIN};
    return poll(&look, 1, 0) == 1;
}

static void ask_for_the_base(struct fixture *fixture)
{
    const struct vhost_user_vring_state state = {.index = 0};
    assert_int_equal(client_send(&fixture->client, VHOST_USER_GET_VRING_BASE, 0, &state, sizeof(state), NULL, 0), 0);
}

static void look_at_state(void *argument)
{
    struct fixture *fixture = argument;
    fixture->waits = fixture->server.state; /* a turn of the loop, and what the server is up to */
}

/* What the server has read so far has had its effect. */
static unsigned server_state(struct fixture *fixture)
{
    for (unsigned i = 0; i < 10; i++)
        loop_call(&fixture->loop, look_at_state, fixture);
    return (unsigned)fixture->waits;
}

static void the_base_of_a_queue_is_told_when_its_last_request_is_back(void **state)
{
    (void)state;
    for (unsigned threads = 0; threads < 2; threads++) {
        struct slow_disk *disk = given_a_slow_disk(threads == 1);
        struct vhost_user_message answer;
        given_a_read_in_flight(disk);
        ask_for_the_base(disk->fixture);
        /* What comes next has to wait too. */
        assert_int_equal(client_send(&disk->fixture->client, VHOST_USER_GET_FEATURES, 0, NULL, 0, NULL, 0), 0);
        assert_int_equal(server_state(disk->fixture), VHOST_USER_SERVER_CONNECTED);
        assert_false(anything_to_hear(disk->fixture));
        finish_requests(disk);
        assert_int_equal(client_receive(&disk->fixture->client, VHOST_USER_GET_VRING_BASE, &answer), 0);
        assert_int_equal(answer.payload.state.num, 1);
        assert_int_equal(client_receive(&disk->fixture->client, VHOST_USER_GET_FEATURES, &answer), 0);
        end(disk);
    }
}

static void wait_for_state(struct fixture *fixture, unsigned wanted)
{
    while (server_state(fixture) != wanted)
        poll(NULL, 0, 1);
}

static void the_next_front_end_waits_for_requests_of_the_last_one(void **state)
{
    (void)state;
    for (unsigned threads = 0; threads < 2; threads++) {
        struct slow_disk *disk = given_a_slow_disk(threads == 1);
        struct vhost_user_message answer;
        given_a_read_in_flight(disk);
        connect_client(disk->fixture); /* the last one has left thereby */
        assert_int_equal(client_send(&disk->fixture->client, VHOST_USER_GET_FEATURES, 0, NULL, 0, NULL, 0), 0);
        wait_for_state(disk->fixture, VHOST_USER_SERVER_LEAVING);
        assert_false(anything_to_hear(disk->fixture));
        finish_requests(disk);
        assert_int_equal(client_receive(&disk->fixture->client, VHOST_USER_GET_FEATURES, &answer), 0);
        end(disk);
    }
}

static void a_front_end_that_leaves_while_it_waits_for_the_base_is_forgotten(void **state)
{
    (void)state;
    struct slow_disk *disk = given_a_slow_disk(true);
    given_a_read_in_flight(disk);
    ask_for_the_base(disk->fixture);
    (void)server_state(disk->fixture);
    client_disconnect(&disk->fixture->client);
    wait_for_state(disk->fixture, VHOST_USER_SERVER_LEAVING);
    finish_requests(disk);
    wait_for_state(disk->fixture, VHOST_USER_SERVER_WAITING);
    given_a_read_in_flight(disk);
    finish_requests(disk);
    assert_int_equal(client_wait_call(&disk->fixture->client, 0), 0);
    end(disk);
}

static void an_orderly_end_waits_for_requests_in_flight(void **state)
{
    (void)state;
    for (unsigned threads = 0; threads < 2; threads++) {
        struct slow_disk *disk = given_a_slow_disk(threads == 1);
        given_a_read_in_flight(disk);
        loop_call(&disk->fixture->loop, stop_server, disk->fixture);
        assert_int_equal(server_state(disk->fixture), VHOST_USER_SERVER_LEAVING);
        finish_requests(disk);
        join_server(disk->fixture);
        end(disk);
    }
}

static void memory_that_is_cut_off_under_a_request_is_survived(void **state)
{
    (void)state;
    for (unsigned threads = 0; threads < 2; threads++) {
        struct slow_disk *disk = given_a_slow_disk(threads == 1);
        struct fixture *fixture = disk->fixture;
        given_a_read_in_flight(disk);
        assert_int_equal(ftruncate(fixture->client.memory_handle, 0), 0);
        finish_requests(disk); /* status and used ring have nowhere to go */
        expect_hang_up(fixture);
        assert_int_equal(ftruncate(fixture->client.memory_handle, (off_t)GUEST_BYTES), 0);
        given_a_read_in_flight(disk);
        finish_requests(disk);
        assert_int_equal(client_wait_call(&fixture->client, 0), 0);
        end(disk);
    }
}

static unsigned rests(struct slow_disk *disk)
{
    pthread_mutex_lock(&disk->lock);
    unsigned count = disk->rests;
    pthread_mutex_unlock(&disk->lock);
    return count;
}

/* The read is back in the ring: a call may be one of before. */
static void await_the_read(struct slow_disk *disk)
{
    uint32_t head, length = 0;
    struct fake_driver *driver = disk->fixture->client.queues[0].driver;
    for (unsigned i = 0; i < TIMEOUT_MS && !fake_driver_get(driver, &head, &length); i++)
        poll(NULL, 0, 1);
    assert_int_equal(length, 513);
}

static void what_comes_back_just_before_sleeping_is_taken(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        enum server_polling polling = i == 0 ? SERVER_POLLING_ADAPTIVE : SERVER_POLLING_OFF;
        struct slow_disk *disk = given_a_disk_that_is_looked_at(polling);
        disk->hasty = true;
        given_a_read_in_flight(disk);
        await_the_read(disk); /* its handle has told of nothing */
        assert_true(rests(disk) > 0);
        end(disk);
    }
}

static void a_queue_that_sleeps_on_a_request_has_told_the_port_so_and_waits(void **state)
{
    (void)state;
    struct slow_disk *disk = given_a_disk_that_is_looked_at(SERVER_POLLING_OFF);
    given_a_read_in_flight(disk);
    while (rests(disk) == 0)
        sched_yield();
    expect_an_idle_loop(disk->fixture);
    finish_quietly(disk);
    await_the_read(disk);
    end(disk);
}

static void what_always_looks_finds_what_no_handle_tells_and_stops_with_it(void **state)
{
    (void)state;
    struct slow_disk *disk = given_a_disk_that_is_looked_at(SERVER_POLLING_ALWAYS);
    given_a_read_in_flight(disk);
    assert_int_equal(rests(disk), 0);
    finish_quietly(disk);
    await_the_read(disk);
    given_a_read_in_flight(disk);
    ask_for_the_base(disk->fixture);
    assert_int_equal(server_state(disk->fixture), VHOST_USER_SERVER_CONNECTED);
    /* It is stopping, so it sleeps, and the handle has to tell. */
    while (rests(disk) == 0)
        sched_yield();
    finish_quietly(disk);
    struct vhost_user_message answer;
    assert_int_equal(client_receive(&disk->fixture->client, VHOST_USER_GET_VRING_BASE, &answer), 0);
    end(disk);
}

static atomic_bool finisher_quits;

/* Finishes what there is, later each time, so that it meets every step of the queue's. */
static void *finisher(void *argument)
{
    struct slow_disk *disk = argument;
    for (uint32_t random = 1; !atomic_load(&finisher_quits); random = random * 1664525u + 1013904223u) {
        for (unsigned wait = random >> 20; wait > 0; wait--)
            cpu_relax();
        finish_quietly(disk);
        if (random >> 28 == 0)
            sched_yield();
    }
    return NULL;
}

static void no_completion_is_lost_between_looking_and_sleeping(void **state)
{
    (void)state;
    static const enum server_polling modes[] = {SERVER_POLLING_ADAPTIVE, SERVER_POLLING_OFF, SERVER_POLLING_ALWAYS};
    for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
        struct slow_disk *disk = given_a_disk_that_is_looked_at(modes[i]);
        struct vhost_user_client *client = &disk->fixture->client;
        const struct virtio_blk_header header = {.type = VIRTIO_BLK_T_IN};
        const struct fake_piece pieces[] = {
            {HEADER_ADDRESS, sizeof(header), false}, {DATA_ADDRESS, 512, true}, {STATUS_ADDRESS, 1, true}};
        pthread_t thread;
        connect_client(disk->fixture);
        start_queue(disk->fixture);
        memcpy(client->memory.host + (HEADER_ADDRESS - GUEST_BASE), &header, sizeof(header));
        atomic_store(&finisher_quits, false);
        assert_int_equal(pthread_create(&thread, NULL, finisher, disk), 0);
        for (unsigned asked = 0; asked < 500; asked++)
            assert_int_equal(client_request(client, 0, pieces, ARRAY_SIZE(pieces)), 513);
        atomic_store(&finisher_quits, true);
        assert_int_equal(pthread_join(thread, NULL), 0);
        end(disk);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_base_of_a_queue_is_told_when_its_last_request_is_back),
        cmocka_unit_test(the_next_front_end_waits_for_requests_of_the_last_one),
        cmocka_unit_test(a_front_end_that_leaves_while_it_waits_for_the_base_is_forgotten),
        cmocka_unit_test(an_orderly_end_waits_for_requests_in_flight),
        cmocka_unit_test(memory_that_is_cut_off_under_a_request_is_survived),
        cmocka_unit_test(what_comes_back_just_before_sleeping_is_taken),
        cmocka_unit_test(a_queue_that_sleeps_on_a_request_has_told_the_port_so_and_waits),
        cmocka_unit_test(what_always_looks_finds_what_no_handle_tells_and_stops_with_it),
        cmocka_unit_test(no_completion_is_lost_between_looking_and_sleeping),
    };
    return cmocka_run_group_tests_name("server_busy", tests, NULL, NULL);
}
