/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The installed face, used as a stranger does, with a front end and driver at the other end of a real socket. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <backplane/vhost_user.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vhost_user_client.h"

#define GUEST_BASE UINT64_C(0x100000000)
#define MEMORY_BYTES (1u << 20)
#define SEND_AT (GUEST_BASE + 0x40000)
#define ANSWER_AT (GUEST_BASE + 0x80000)
#define TIMEOUT_MS 20000
/* For what must not happen. */
#define SILENCE_MS 100
#define RING_SIZE 16
#define DEVICE_FEATURE (UINT64_C(1) << 5)

/* What the device does with a request is its first byte. */
enum order {
    ORDER_ECHO = 1,
    ORDER_HOLD,
    ORDER_LATER, /* -EAGAIN, until the device may */
    ORDER_WRONG,
    ORDER_WRONG_AFTER_WRITING,
};

struct fixture {
    char folder[64], path[96];
    struct backplane_device *device;
    struct backplane_server *server;
    struct vhost_user_client client;
    pthread_t thread;
    sem_t opened;
    int open_result;
    bool own_loop; /* poll and turn, instead of run */
    unsigned turns;
    /* the device */
    struct backplane_request *held[RING_SIZE];
    atomic_uint held_count;
    sem_t holds; /* posted for each that is held */
    sem_t asked; /* posted for each that is put back */
    atomic_bool may;
    _Atomic uint64_t chosen;
    uint8_t config[8];
    atomic_uint resets, stops;
};

static int serve(void *context, unsigned queue, struct backplane_request *request)
{
    struct fixture *fixture = context;
    uint8_t bytes[64];
    assert_int_equal(queue, 0);
    size_t readable = backplane_request_readable(request);
    size_t size = backplane_request_read(request, bytes, sizeof(bytes));
    assert_int_equal(size, readable < sizeof(bytes) ? readable : sizeof(bytes));
    *(uint64_t *)backplane_request_storage(request) = bytes[1];
    switch (size > 0 ? (enum order)bytes[0] : ORDER_WRONG) {
    case ORDER_HOLD:
        fixture->held[fixture->held_count++] = request;
        sem_post(&fixture->holds);
        return BACKPLANE_HELD;
    case ORDER_LATER:
        if (!atomic_load(&fixture->may)) {
            sem_post(&fixture->asked);
            return -EAGAIN;
        }
        break;
    case ORDER_WRONG_AFTER_WRITING:
        backplane_request_write(request, bytes, size);
        return -EPROTO;
    case ORDER_WRONG:
        return -EPROTO;
    default:
        break;
    }
    backplane_request_write(request, bytes, size);
    return BACKPLANE_SERVED;
}

static void config_read(void *context, uint32_t offset, void *to, uint32_t size)
{
    memcpy(to, ((struct fixture *)context)->config + offset, size);
}

static int config_write(void *context, uint32_t offset, const void *from, uint32_t size)
{
    if (offset != 0 || size != 1)
        return -EPERM;
    memcpy(((struct fixture *)context)->config, from, size);
    return 0;
}

static int features_chosen(void *context, uint64_t features)
{
    ((struct fixture *)context)->chosen = features;
    return 0;
}

static void queue_stop(void *context, unsigned queue)
{
    struct fixture *fixture = context;
    (void)queue;
    fixture->stops++;
    while (fixture->held_count > 0)
        backplane_request_complete(fixture->held[--fixture->held_count]);
}

static void reset(void *context)
{
    ((struct fixture *)context)->resets++;
}

static struct backplane_device_class test_class(void)
{
    return (struct backplane_device_class){
        .size = sizeof(struct backplane_device_class),
        .name = "test",
        .id = 60,
        .queue_count = 1,
        .config_bytes = 8,
        .request_bytes = sizeof(uint64_t),
        .features = DEVICE_FEATURE,
        .serve = serve,
        .config_read = config_read,
        .config_write = config_write,
        .features_chosen = features_chosen,
        .queue_stop = queue_stop,
        .reset = reset,
    };
}

/* The thread that has the server. */
static void *server_thread(void *argument)
{
    struct fixture *fixture = argument;
    fixture->open_result = backplane_server_open(fixture->device, fixture->path, &fixture->server);
    sem_post(&fixture->opened);
    if (fixture->open_result < 0)
        return NULL;
    if (!fixture->own_loop) {
        assert_int_equal(backplane_server_run(fixture->server), 0);
    } else {
        do {
            struct pollfd handle = {.fd = backplane_server_handle(fixture->server), .events = POLLIN};
            assert_true(poll(&handle, 1, backplane_server_timeout_ms(fixture->server)) >= 0);
            fixture->turns++;
        } while (backplane_server_turn(fixture->server) > 0);
    }
    backplane_server_close(fixture->server);
    return NULL;
}

static void begin_server(struct fixture *fixture)
{
    assert_int_equal(pthread_create(&fixture->thread, NULL, server_thread, fixture), 0);
    while (sem_wait(&fixture->opened) < 0)
        assert_int_equal(errno, EINTR);
    assert_int_equal(fixture->open_result, 0);
}

static void begin_client(struct fixture *fixture)
{
    struct vhost_user_client *client = &fixture->client;
    assert_int_equal(client_connect(client, fixture->path), 0);
    assert_int_equal(client_negotiate(client, UINT64_MAX, UINT64_MAX), 0);
    assert_int_equal(client_share_memory(client), 0);
    assert_int_equal(client_start_queue(client, 0, GUEST_BASE, RING_SIZE), 0);
}

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    strcpy(fixture->folder, "/tmp/backplane-library-XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    snprintf(fixture->path, sizeof(fixture->path), "%s/socket", fixture->folder);
    sem_init(&fixture->opened, 0, 0);
    sem_init(&fixture->holds, 0, 0);
    sem_init(&fixture->asked, 0, 0);
    struct backplane_device_class class = test_class();
    assert_int_equal(backplane_device_create(&class, fixture, &fixture->device), 0);
    assert_int_equal(client_init(&fixture->client, GUEST_BASE, MEMORY_BYTES, TIMEOUT_MS), 0);
    *state = fixture;
    return 0;
}

/* Ends the server too, if one was begun. */
static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    client_done(&fixture->client);
    if (fixture->server != NULL) {
        backplane_server_stop(fixture->server);
        pthread_join(fixture->thread, NULL);
    }
    struct stat status;
    assert_int_equal(stat(fixture->path, &status), -1); /* the server takes its socket with it */
    backplane_device_destroy(fixture->device);
    rmdir(fixture->folder);
    free(fixture);
    return 0;
}

static uint8_t *at(struct fixture *fixture, uint64_t address)
{
    return fixture->client.memory.host + (address - GUEST_BASE);
}

/* The pieces of request @number: two bytes to read, two to write. */
static void make_request(struct fixture *fixture, unsigned number, enum order order, struct fake_piece pieces[2])
{
    uint8_t *send = at(fixture, SEND_AT + number * 16);
    send[0] = (uint8_t)order;
    send[1] = (uint8_t)(0x80 + number);
    memset(at(fixture, ANSWER_AT + number * 16), 0, 16);
    pieces[0] = (struct fake_piece){SEND_AT + number * 16, 2, false};
    pieces[1] = (struct fake_piece){ANSWER_AT + number * 16, 2, true};
}

static int request(struct fixture *fixture, unsigned number, enum order order)
{
    struct fake_piece pieces[2];
    make_request(fixture, number, order, pieces);
    return client_request(&fixture->client, 0, pieces, 2);
}

/* Give a request to the device without waiting for it. */
static void offer(struct fixture *fixture, unsigned number, enum order order)
{
    struct fake_driver *driver = fixture->client.queues[0].driver;
    struct fake_piece pieces[2];
    make_request(fixture, number, order, pieces);
    assert_true(fake_driver_add(driver, pieces, 2) >= 0);
    if (fake_driver_show(driver))
        assert_int_equal(client_kick(&fixture->client, 0), 0);
}

/* The next request that the device gives back: its length, or -ETIMEDOUT. */
static int64_t next_used(struct fixture *fixture)
{
    struct fake_driver *driver = fixture->client.queues[0].driver;
    uint32_t head, length;
    while (!fake_driver_get(driver, &head, &length)) {
        int r = fake_driver_interrupts_on(driver) ? 0 : client_wait_call(&fixture->client, 0);
        if (r < 0)
            return r;
    }
    return length;
}

static void wait_for(sem_t *semaphore)
{
    while (sem_wait(semaphore) < 0)
        assert_int_equal(errno, EINTR);
}

static void serves_requests_and_gives_them_back_with_what_was_written(void **state)
{
    struct fixture *fixture = *state;
    begin_server(fixture);
    begin_client(fixture);
    for (unsigned i = 0; i < 3 * RING_SIZE; i++) {
        assert_int_equal(request(fixture, i % 8, ORDER_ECHO), 2);
        assert_memory_equal(at(fixture, ANSWER_AT + i % 8 * 16), at(fixture, SEND_AT + i % 8 * 16), 2);
    }
}

static void serves_inside_a_poll_loop_of_the_program(void **state)
{
    struct fixture *fixture = *state;
    fixture->own_loop = true;
    begin_server(fixture);
    begin_client(fixture);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(request(fixture, 0, ORDER_ECHO), 2);
    client_disconnect(&fixture->client);
    backplane_server_stop(fixture->server);
    pthread_join(fixture->thread, NULL);
    fixture->server = NULL;
    assert_true(fixture->turns > 0);
    assert_true(fixture->turns < 2000); /* it sleeps between requests */
}

static void a_held_request_is_completed_from_another_thread(void **state)
{
    struct fixture *fixture = *state;
    begin_server(fixture);
    begin_client(fixture);
    offer(fixture, 0, ORDER_HOLD);
    wait_for(&fixture->holds);
    assert_int_equal(request(fixture, 1, ORDER_ECHO), 2); /* overtakes it */
    struct backplane_request *held = fixture->held[--fixture->held_count];
    assert_int_equal(*(uint64_t *)backplane_request_storage(held), 0x80);
    assert_int_equal(backplane_request_writable(held), 2);
    assert_int_equal(backplane_request_write(held, "!", 1), 1);
    backplane_request_complete(held);
    assert_int_equal(next_used(fixture), 1);
    assert_int_equal(*at(fixture, ANSWER_AT), '!');
}

static void held_requests_come_back_in_the_order_of_completion(void **state)
{
    struct fixture *fixture = *state;
    begin_server(fixture);
    begin_client(fixture);
    for (unsigned i = 0; i < 4; i++) {
        offer(fixture, i, ORDER_HOLD);
        wait_for(&fixture->holds);
    }
    fixture->held_count = 0;
    static const unsigned order[] = {2, 0, 3, 1};
    for (unsigned i = 0; i < 4; i++) {
        backplane_request_write(fixture->held[order[i]], "abcd", i % 2 + 1);
        backplane_request_complete(fixture->held[order[i]]);
        assert_int_equal(next_used(fixture), i % 2 + 1);
    }
}

static void a_request_that_cannot_be_served_now_is_given_again_after_a_wake(void **state)
{
    struct fixture *fixture = *state;
    begin_server(fixture);
    begin_client(fixture);
    offer(fixture, 0, ORDER_LATER);
    wait_for(&fixture->asked);
    fixture->client.timeout_ms = SILENCE_MS;
    assert_int_equal(next_used(fixture), -ETIMEDOUT);
    int again = 0;
    while (sem_trywait(&fixture->asked) == 0)
        again++;
    assert_in_range(again, 0, 2); /* for the arming of kicks, not in a loop */
    fixture->client.timeout_ms = TIMEOUT_MS;
    atomic_store(&fixture->may, true);
    backplane_device_wake(fixture->device, 0);
    assert_int_equal(next_used(fixture), 2);
}

static void a_request_put_back_keeps_its_place(void **state)
{
    struct fixture *fixture = *state;
    begin_server(fixture);
    begin_client(fixture);
    offer(fixture, 0, ORDER_LATER);
    wait_for(&fixture->asked);
    offer(fixture, 1, ORDER_ECHO);
    wait_for(&fixture->asked); /* the kick made it ask again, and the second one waits behind */
    atomic_store(&fixture->may, true);
    backplane_device_wake(fixture->device, 0);
    assert_int_equal(next_used(fixture), 2);
    assert_int_equal(at(fixture, ANSWER_AT)[1], 0x80);
    assert_int_equal(next_used(fixture), 2);
    assert_int_equal(at(fixture, ANSWER_AT + 16)[1], 0x81);
}

static void a_driver_that_breaks_the_rules_stops_its_queue_until_the_reset(void **state)
{
    struct fixture *fixture = *state;
    begin_server(fixture);
    begin_client(fixture);
    offer(fixture, 0, ORDER_WRONG);
    fixture->client.timeout_ms = SILENCE_MS;
    assert_int_equal(next_used(fixture), -ETIMEDOUT);
    fixture->client.timeout_ms = TIMEOUT_MS;
    client_disconnect(&fixture->client);
    begin_client(fixture);
    assert_int_equal(request(fixture, 1, ORDER_ECHO), 2);
}

static void what_was_written_before_a_breach_is_not_taken_back(void **state)
{
    struct fixture *fixture = *state;
    begin_server(fixture);
    begin_client(fixture);
    assert_int_equal(request(fixture, 0, ORDER_WRONG_AFTER_WRITING), 2);
    offer(fixture, 1, ORDER_ECHO);
    fixture->client.timeout_ms = SILENCE_MS;
    assert_int_equal(next_used(fixture), -ETIMEDOUT);
}

static void a_queue_with_held_requests_stops_when_they_are_complete(void **state)
{
    struct fixture *fixture = *state;
    uint32_t base;
    begin_server(fixture);
    begin_client(fixture);
    offer(fixture, 0, ORDER_HOLD);
    offer(fixture, 1, ORDER_HOLD);
    wait_for(&fixture->holds);
    wait_for(&fixture->holds);
    assert_int_equal(client_stop_queue(&fixture->client, 0, &base), 0);
    assert_int_equal(base, 2);
    assert_int_equal(fixture->stops, 1);
    assert_int_equal(fixture->held_count, 0);
}

static void rings_are_of_the_kinds_that_the_device_offers(void **state)
{
    (void)state;
    static const struct {
        uint32_t rings;
        uint64_t features;
    } kinds[] = {
        {0, 0},
        {BACKPLANE_RINGS_PACKED, VIRTIO_F_RING_PACKED},
        {BACKPLANE_RINGS_IN_ORDER, VIRTIO_F_IN_ORDER},
        {BACKPLANE_RINGS_PACKED | BACKPLANE_RINGS_IN_ORDER, VIRTIO_F_RING_PACKED | VIRTIO_F_IN_ORDER},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
        struct fixture *fixture;
        struct backplane_device_class class = test_class();
        class.rings = kinds[i].rings;
        assert_int_equal(set_up((void **)&fixture), 0);
        backplane_device_destroy(fixture->device);
        assert_int_equal(backplane_device_create(&class, fixture, &fixture->device), 0);
        begin_server(fixture);
        begin_client(fixture);
        assert_int_equal(fixture->client.features & (VIRTIO_F_RING_PACKED | VIRTIO_F_IN_ORDER), kinds[i].features);
        for (unsigned turn = 0; turn < 3 * RING_SIZE; turn++)
            assert_int_equal(request(fixture, turn % RING_SIZE, ORDER_ECHO), 2);
        assert_int_equal(tear_down((void **)&fixture), 0);
    }
    struct backplane_device_class class = test_class();
    struct backplane_device *device;
    class.rings = 4;
    assert_int_equal(backplane_device_create(&class, NULL, &device), -EINVAL);
}

static void configuration_and_features_reach_the_device(void **state)
{
    struct fixture *fixture = *state;
    uint8_t bytes[8];
    memcpy(fixture->config, "12345678", 8);
    begin_server(fixture);
    begin_client(fixture);
    assert_int_equal(client_get_config(&fixture->client, 2, 4, bytes), 0);
    assert_memory_equal(bytes, "3456", 4);
    assert_int_equal(fixture->chosen, DEVICE_FEATURE);
    client_disconnect(&fixture->client);
    begin_client(fixture); /* the first one has been cleared away by now */
    assert_true(fixture->resets >= 1);
}

static void a_device_is_served_once_at_a_time(void **state)
{
    struct fixture *fixture = *state;
    struct backplane_server *second = NULL;
    begin_server(fixture);
    assert_int_equal(backplane_server_open(fixture->device, "/tmp/nowhere", &second), -EBUSY);
    assert_null(second);
}

static void a_place_that_cannot_be_listened_at_is_refused_by_name(void **state)
{
    struct fixture *fixture = *state;
    struct backplane_server *server = NULL;
    assert_int_equal(backplane_server_open(fixture->device, fixture->folder, &server), -ENOTSOCK);
    assert_int_equal(backplane_server_open(fixture->device, "/tmp/no/such/folder/socket", &server), -ENOENT);
    assert_int_equal(backplane_server_adopt(fixture->device, open("/dev/null", O_RDONLY | O_CLOEXEC), &server),
                     -ENOTSOCK);
    assert_null(server);
    /* And the device is free again. */
    assert_int_equal(backplane_server_open(fixture->device, fixture->path, &server), 0);
    backplane_server_close(server);
}

static void a_class_that_makes_no_sense_is_refused(void **state)
{
    (void)state;
    struct backplane_device *device = NULL;
    struct backplane_device_class class;
#define REFUSED(field, value)                                                                                          \
    class = test_class();                                                                                              \
    class.field = value;                                                                                               \
    assert_int_equal(backplane_device_create(&class, NULL, &device), -EINVAL)
    REFUSED(size, 8);
    REFUSED(serve, NULL);
    REFUSED(queue_count, 0);
    REFUSED(queue_count, BACKPLANE_QUEUES_MAX + 1);
    REFUSED(requests_max, BACKPLANE_REQUESTS_MAX + 1);
    REFUSED(config_bytes, 257);
    REFUSED(request_bytes, 1u << 20);
    assert_null(device);
}

static void a_class_of_an_older_version_is_understood(void **state)
{
    (void)state;
    struct backplane_device *device;
    struct backplane_device_class class = test_class();
    class.size = offsetof(struct backplane_device_class, config_write);
    assert_int_equal(backplane_device_create(&class, NULL, &device), 0);
    backplane_device_destroy(device);
    backplane_device_destroy(NULL);
}

static void the_version_is_that_of_the_headers(void **state)
{
    (void)state;
    char version[32];
    snprintf(version, sizeof(version), "%d.%d.%d", BACKPLANE_VERSION_MAJOR, BACKPLANE_VERSION_MINOR,
             BACKPLANE_VERSION_PATCH);
    assert_string_equal(backplane_version(), version);
    assert_string_equal(backplane_version(), BACKPLANE_PROJECT_VERSION); /* and of the build */
}

int main(void)
{
#define SERVED_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        SERVED_TEST(serves_requests_and_gives_them_back_with_what_was_written),
        SERVED_TEST(serves_inside_a_poll_loop_of_the_program),
        SERVED_TEST(a_held_request_is_completed_from_another_thread),
        SERVED_TEST(held_requests_come_back_in_the_order_of_completion),
        SERVED_TEST(a_request_that_cannot_be_served_now_is_given_again_after_a_wake),
        SERVED_TEST(a_request_put_back_keeps_its_place),
        SERVED_TEST(a_driver_that_breaks_the_rules_stops_its_queue_until_the_reset),
        SERVED_TEST(what_was_written_before_a_breach_is_not_taken_back),
        SERVED_TEST(a_queue_with_held_requests_stops_when_they_are_complete),
        cmocka_unit_test(rings_are_of_the_kinds_that_the_device_offers),
        SERVED_TEST(configuration_and_features_reach_the_device),
        SERVED_TEST(a_device_is_served_once_at_a_time),
        SERVED_TEST(a_place_that_cannot_be_listened_at_is_refused_by_name),
        cmocka_unit_test(a_class_that_makes_no_sense_is_refused),
        cmocka_unit_test(a_class_of_an_older_version_is_understood),
        cmocka_unit_test(the_version_is_that_of_the_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
