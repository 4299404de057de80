/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A daemon that is killed with requests in flight, and its successor: the front end keeps ring, memory and in-flight
 * record, and each request comes back once, done.
 *
 * When the daemon dies is up to the machine: somewhere between its first request in flight and the last. What must come
 * of it is the same wherever that is.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <unistd.h>

#include "conformance_rig.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#define LIVES 24u
#define BURST 20u
#define PIECE_BYTES (64u << 10)
#define PIECE_SECTORS (PIECE_BYTES / 512)
#define SLOT_BYTES UINT64_C(64) /* each request's header and status */

static uint8_t mark_of(unsigned index)
{
    return (uint8_t)(0x40 + index);
}

/* Each request's piece of the disk has a mark of its own. */
static void fill_disk(struct vhost_user_client *client)
{
    for (unsigned i = 0; i < BURST; i++) {
        memset(client->memory.host + DATA_OFFSET, mark_of(i), PIECE_BYTES);
        assert_int_equal(rig_request(client, 0, VIRTIO_BLK_T_OUT, i * PIECE_SECTORS, PIECE_BYTES), VIRTIO_BLK_S_OK);
    }
}

/* Read all pieces, at once. Which head (packed: id) has which is noted in @index_of_head. */
static void offer_burst(struct vhost_user_client *client, unsigned *index_of_head)
{
    for (unsigned i = 0; i < BURST; i++) {
        uint64_t header_at = HEADER_OFFSET + i * SLOT_BYTES, status_at = STATUS_OFFSET + i * SLOT_BYTES;
        uint64_t data_at = DATA_OFFSET + (uint64_t)i * PIECE_BYTES;
        uint8_t *header = client->memory.host + header_at;
        put_le32(header, VIRTIO_BLK_T_IN);
        put_le32(header + 4, 0);
        put_le64(header + 8, i * PIECE_SECTORS);
        client->memory.host[status_at] = 0xff;
        memset(client->memory.host + data_at, 0, PIECE_BYTES);
        const struct fake_piece pieces[] = {
            {GUEST_BASE + header_at, 16, false},
            {GUEST_BASE + data_at, PIECE_BYTES, true},
            {GUEST_BASE + status_at, 1, true},
        };
        int head = fake_driver_add(client->queues[0].driver, pieces, ARRAY_SIZE(pieces));
        assert_in_range(head, 0, RING_SIZE - 1);
        index_of_head[head] = i;
    }
    fake_driver_show(client->queues[0].driver);
    assert_int_equal(client_kick(client, 0), 0);
}

/* How many requests the record has in flight. */
static unsigned count_recorded(const struct rig_record *record)
{
    const struct virtq_record_packed *packed = (const void *)record->area;
    const struct virtq_record_split *split = (const void *)record->area;
    unsigned count = 0;
    for (unsigned i = 0; i < RING_SIZE; i++)
        count +=
            __atomic_load_n(rig_is_packed() ? &packed->desc[i].inflight : &split->desc[i].inflight, __ATOMIC_RELAXED);
    return count;
}

/* Take what has come back: each once, and done. How many. */
static unsigned take_used(struct vhost_user_client *client, unsigned *index_of_head, bool *done)
{
    unsigned count = 0;
    uint32_t head, length;
    for (; fake_driver_get(client->queues[0].driver, &head, &length); count++) {
        unsigned i = index_of_head[head];
        assert_true(i < BURST && !done[i]);
        done[i] = true;
        assert_int_equal(length, PIECE_BYTES + 1);
        assert_int_equal(client->memory.host[STATUS_OFFSET + i * SLOT_BYTES], VIRTIO_BLK_S_OK);
        const uint8_t *data = client->memory.host + DATA_OFFSET + (uint64_t)i * PIECE_BYTES;
        assert_int_equal(data[0], mark_of(i));
        assert_int_equal(data[PIECE_BYTES - 1], mark_of(i));
    }
    return count;
}

/* The front end finds the next daemon, with all that it has kept. */
static void reconnect(struct vhost_user_client *client, const struct rig_record *record)
{
    struct fake_driver *driver = client->queues[0].driver;
    client->queues[0].driver = NULL; /* or it would go with the connection */
    assert_int_equal(client_connect(client, rig_daemon.socket_path), 0);
    client->queues[0].driver = driver;
    assert_int_equal(client_negotiate(client, rig_all_features, UINT64_MAX), 0);
    rig_record_give(client, record);
    assert_int_equal(client_share_memory(client), 0);
    /* QEMU knows no better: the used index of a split ring, and of a packed one where it was when it last stopped. */
    uint32_t base = driver->packed ? virtqueue_base_initial(client->features) : le16_to_cpu(driver->used->index);
    assert_int_equal(client_resume_queue(client, 0, base), 0);
}

static json_int_t popped(void)
{
    json_t *stats = daemon_stats(&rig_daemon);
    const json_t *queue = json_array_get(json_object_get(stats, "queues"), 0);
    json_int_t count = json_integer_value(json_object_get(queue, "popped"));
    json_decref(stats);
    return count;
}

/* A burst; how many of it were in flight when the daemon was killed. Its successor does the rest. */
static unsigned live_and_die(struct vhost_user_client *client, const struct rig_record *record)
{
    unsigned index_of_head[RING_SIZE], taken = 0;
    bool done[BURST] = {false};
    for (unsigned i = 0; i < RING_SIZE; i++)
        index_of_head[i] = BURST;
    offer_burst(client, index_of_head);
    while (count_recorded(record) == 0 && taken < BURST)
        taken += take_used(client, index_of_head, done);
    daemon_kill(&rig_daemon);
    unsigned interrupted = count_recorded(record);
    taken += take_used(client, index_of_head, done);

    daemon_start(&rig_daemon, "blk", rig_options);
    reconnect(client, record);
    unsigned left = BURST - taken;
    while (taken < BURST) {
        taken += take_used(client, index_of_head, done);
        if (taken < BURST && !fake_driver_interrupts_on(client->queues[0].driver))
            assert_int_equal(client_wait_call(client, 0), 0);
    }
    assert_int_equal(popped(), left); /* none twice, and none that had come back */
    return interrupted;
}

static void a_successor_does_what_was_in_flight_and_no_more(void **state)
{
    (void)state;
    struct vhost_user_client client;
    struct rig_record record;
    unsigned interrupted = 0;
    rig_join(&client, rig_all_features, UINT64_MAX);
    rig_record_get(&client, &record);
    rig_record_give(&client, &record);
    assert_int_equal(client_share_memory(&client), 0);
    assert_int_equal(client_start_queue(&client, 0, GUEST_BASE + RING_OFFSET, RING_SIZE), 0);
    fill_disk(&client);
    for (unsigned life = 0; life < LIVES; life++)
        interrupted += live_and_die(&client, &record);
    fprintf(stderr, "%u daemons were killed with %u requests in flight\n", LIVES, interrupted);
    assert_true(interrupted > 0);
    uint32_t base;
    assert_int_equal(client_stop_queue(&client, 0, &base), 0);
    assert_int_equal(base, rig_base_after(RING_SIZE, BURST * (LIVES + 1), 3));
    assert_int_equal(count_recorded(&record), 0);
    rig_record_done(&record);
    client_done(&client);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_successor_does_what_was_in_flight_and_no_more),
    };
    if (!rig_arguments(argc, argv))
        return 2;
    return cmocka_run_group_tests_name("conformance-crash", tests, rig_start, rig_stop);
}
