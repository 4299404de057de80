/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Every lie of lies.h against one running daemon, each in a connection of its own, each followed by an honest front end
 * that must be served. At the end the daemon's own reasons are counted: so many different ones tell that so many
 * different code paths were met.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon.h"
#include "devices/blk/virtio_blk.h"
#include "lies.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

/* What the issue of this test asks for at least; there are more, and the count is printed. */
#define DISTINCT_REASONS_MIN 90
#define LIES_MAX 256
/* From GET_FEATURES to GET_VRING_BASE: fewer would mean that not each was tried. */
#define MESSAGES_OF_A_LIFE 15

static struct daemon target;
static char *reasons[LIES_MAX];
static unsigned reason_count;

static const uint64_t all_features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX |
                                     VHOST_USER_F_PROTOCOL_FEATURES | VIRTIO_BLK_F_FLUSH | VIRTIO_BLK_F_DISCARD |
                                     VIRTIO_BLK_F_WRITE_ZEROES | VIRTIO_BLK_F_CONFIG_WCE;

enum outcome tell(struct vhost_user_client *client, uint32_t request, const void *payload, uint32_t size,
                  const int *handles, unsigned handle_count)
{
    int64_t r = client_call_ack(client, request, payload, size, handles, handle_count);
    if (r < 0)
        return r == -ECONNRESET ? OUTCOME_HUNG_UP : OUTCOME_NONE;
    return r == 0 ? OUTCOME_SERVED : OUTCOME_REFUSED;
}

enum outcome wait_broken(struct vhost_user_client *client, unsigned index)
{
    struct pollfd entry = {.fd = client->queues[index].error, .events = POLLIN};
    if (poll(&entry, 1, client->timeout_ms) != 1)
        return OUTCOME_NONE;
    struct vhost_user_message answer;
    return client_call(client, VHOST_USER_GET_FEATURES, NULL, 0, &answer) == 0 ? OUTCOME_BROKEN : OUTCOME_HUNG_UP;
}

enum outcome wait_hung_up(struct vhost_user_client *client)
{
    struct pollfd entry = {.fd = client->socket, .events = POLLIN};
    for (;;) {
        char byte;
        if (poll(&entry, 1, client->timeout_ms) != 1)
            return OUTCOME_NONE;
        ssize_t got = recv(client->socket, &byte, 1, 0);
        if (got == 0 || (got < 0 && errno == ECONNRESET))
            return OUTCOME_HUNG_UP;
    }
}

/* The honest part up to @stage. */
static int advance(struct vhost_user_client *client, enum stage stage, uint64_t ring_features)
{
    int r = 0;
    if (stage >= STAGE_NEGOTIATED)
        r = client_negotiate(client, all_features | ring_features, UINT64_MAX);
    if (r == 0 && stage >= STAGE_MEMORY)
        r = client_share_memory(client);
    if (r == 0 && stage >= STAGE_RUNNING)
        r = client_start_queue(client, 0, lies_address(LIES_RING_OFFSET), LIES_RING_SIZE);
    return r;
}

static void prepare(struct vhost_user_client *client, enum stage stage, uint64_t ring_features)
{
    daemon_assert_alive(&target);
    assert_int_equal(client_init(client, LIES_GUEST_BASE, LIES_MEMORY_BYTES, DAEMON_TIMEOUT_MS), 0);
    assert_int_equal(client_connect(client, target.socket_path), 0);
    assert_int_equal(advance(client, stage, ring_features), 0);
}

/* One read of the first sector by a front end that keeps the rules. */
static void assert_serves_the_next(void)
{
    struct vhost_user_client client;
    prepare(&client, STAGE_RUNNING, 0);
    memset(client.memory.host + LIES_HEADER_OFFSET, 0, 16);
    client.memory.host[LIES_STATUS_OFFSET] = 0xff;
    const struct fake_piece pieces[] = {
        {lies_address(LIES_HEADER_OFFSET), 16, false},
        {lies_address(LIES_DATA_OFFSET), 512, true},
        {lies_address(LIES_STATUS_OFFSET), 1, true},
    };
    assert_int_equal(client_request(&client, 0, pieces, ARRAY_SIZE(pieces)), 513);
    assert_int_equal(client.memory.host[LIES_STATUS_OFFSET], VIRTIO_BLK_S_OK);
    client_done(&client);
}

/* Why the daemon says it refused, hung up or broke the queue; the caller frees it. NULL where there is no reason. */
static char *daemon_reason(enum outcome outcome)
{
    json_t *stats = daemon_stats(&target);
    const char *text = NULL;
    if (outcome == OUTCOME_REFUSED || outcome == OUTCOME_HUNG_UP || outcome == OUTCOME_EMPTY)
        text = json_string_value(json_object_get(stats, "last_refused"));
    else if (outcome == OUTCOME_BROKEN)
        text = json_string_value(json_object_get(json_array_get(json_object_get(stats, "queues"), 0), "broken_reason"));
    char *reason = text != NULL ? strdup(text) : NULL;
    json_decref(stats);
    return reason;
}

static void lie_is_met(const struct lie *lie, uint64_t ring_features)
{
    struct vhost_user_client client;
    prepare(&client, lie->stage, ring_features);
    enum outcome outcome = lie->tell(&client);
    char *reason = daemon_reason(outcome);
    if (outcome != lie->expected) {
        client_done(&client); /* or it would keep the next front ends waiting */
        fail_msg("expected outcome %d, got %d (%s)", (int)lie->expected, (int)outcome, reason != NULL ? reason : "");
    }
    if (outcome == OUTCOME_REFUSED || outcome == OUTCOME_BROKEN || outcome == OUTCOME_EMPTY)
        assert_non_null(reason);
    if (reason != NULL)
        reasons[reason_count++] = reason;
    client_done(&client);
    daemon_assert_alive(&target);
    assert_serves_the_next();
}

static void lie_of_split_rings_is_met(void **state)
{
    lie_is_met(*state, 0);
}

static void lie_of_packed_rings_is_met(void **state)
{
    lie_is_met(*state, VIRTIO_F_RING_PACKED);
}

static int compare_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void lies_reach_many_code_paths(void **state)
{
    (void)state;
    qsort(reasons, reason_count, sizeof(reasons[0]), compare_text);
    unsigned distinct = 0;
    for (unsigned i = 0; i < reason_count; i++) {
        if (i == 0 || strcmp(reasons[i], reasons[i - 1]) != 0)
            distinct++;
    }
    for (unsigned i = 0; i < reason_count; i++)
        free(reasons[i]);
    fprintf(stderr, "%u lies with a reason, %u different reasons\n", reason_count, distinct);
    reason_count = 0;
    assert_true(distinct >= DISTINCT_REASONS_MIN);
}

/* Start a queue and stop it again, but be gone after @messages. True: there were not so many. */
static bool lives_to_the_end(unsigned messages, bool in_half)
{
    struct vhost_user_client client;
    uint32_t base;
    assert_int_equal(client_init(&client, LIES_GUEST_BASE, LIES_MEMORY_BYTES, DAEMON_TIMEOUT_MS), 0);
    client.vanish_after = messages;
    client.vanish_in_half = in_half;
    assert_int_equal(client_connect(&client, target.socket_path), 0);
    int r = advance(&client, STAGE_RUNNING, 0);
    if (r == 0)
        r = client_stop_queue(&client, 0, &base);
    assert_true(r == 0 || r == -ECONNRESET);
    client_done(&client);
    return r == 0;
}

/* After every message of an honest start and stop, and in the middle of each: the daemon is ready for the next. */
static void serves_on_when_the_front_end_vanishes_at_each_message(void **state)
{
    (void)state;
    for (unsigned half = 0; half < 2; half++) {
        unsigned messages = 1;
        while (!lives_to_the_end(messages, half != 0)) {
            daemon_assert_alive(&target);
            assert_serves_the_next();
            messages++;
        }
        assert_int_equal(messages - 1, MESSAGES_OF_A_LIFE);
    }
}

static void serves_on_when_the_front_end_vanishes_with_requests_in_flight(void **state)
{
    (void)state;
    for (unsigned requests = 1; requests <= 16; requests++) {
        struct vhost_user_client client;
        prepare(&client, STAGE_RUNNING, requests % 2 == 0 ? VIRTIO_F_RING_PACKED : 0);
        memset(client.memory.host + LIES_HEADER_OFFSET, 0, 16);
        for (unsigned i = 0; i < requests; i++) {
            const struct fake_piece pieces[] = {
                {lies_address(LIES_HEADER_OFFSET), 16, false},
                {lies_address(LIES_DATA_OFFSET), 4096, true},
                {lies_address(LIES_STATUS_OFFSET), 1, true},
            };
            assert_true(fake_driver_add(client.queues[0].driver, pieces, ARRAY_SIZE(pieces)) >= 0);
        }
        fake_driver_show(client.queues[0].driver);
        client_kick(&client, 0);
        client_done(&client);
    }
    daemon_assert_alive(&target);
    assert_serves_the_next();
}

static int start(void **state)
{
    (void)state;
    daemon_prepare(&target, LIES_MEMORY_BYTES);
    daemon_start(&target, "blk", NULL);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    daemon_stop(&target);
    daemon_done(&target);
    return 0;
}

static unsigned add_lies(struct CMUnitTest *tests, unsigned count, const struct lie *lies, unsigned lie_count,
                         CMUnitTestFunction is_met)
{
    for (unsigned i = 0; i < lie_count; i++) {
        assert_true(count < LIES_MAX);
        tests[count++] = (struct CMUnitTest){
            .name = lies[i].name, .test_func = is_met, .initial_state = (void *)(uintptr_t)&lies[i]};
    }
    return count;
}

int main(int argc, char **argv)
{
    static struct CMUnitTest tests[LIES_MAX + 3];
    if (argc != 2) {
        fprintf(stderr, "usage: %s PROGRAM\n", argv[0]);
        return 2;
    }
    daemon_program = argv[1];
    unsigned count = add_lies(tests, 0, message_lies, message_lie_count, lie_of_split_rings_is_met);
    count = add_lies(tests, count, memory_lies, memory_lie_count, lie_of_split_rings_is_met);
    count = add_lies(tests, count, ring_lies, ring_lie_count, lie_of_split_rings_is_met);
    count = add_lies(tests, count, packed_lies, packed_lie_count, lie_of_packed_rings_is_met);
    count = add_lies(tests, count, device_lies, device_lie_count, lie_of_split_rings_is_met);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(serves_on_when_the_front_end_vanishes_at_each_message);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(serves_on_when_the_front_end_vanishes_with_requests_in_flight);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(lies_reach_many_code_paths);
    return _cmocka_run_group_tests("lies", tests, count, start, stop);
}
