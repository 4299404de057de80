/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A front end that keeps the rules, against a real daemon: every message that is for one ring, and every order of them
 * that real front ends use. The device as a whole is in conformance_messages_test.c, the lies in lies_test.c.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "conformance_rig.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

static void serves_four_queues_at_once(void **state)
{
    (void)state;
    struct vhost_user_client client;
    rig_join(&client, rig_all_features, UINT64_MAX);
    assert_int_equal(client_share_memory(&client), 0);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(client_start_queue(&client, i, GUEST_BASE + 0x1000 + i * 0x4000, 128), 0);
    for (unsigned i = 0; i < 40; i++)
        rig_write_then_read(&client, i % 4, i * 16, (uint8_t)i);
    for (unsigned i = 0; i < 4; i++) {
        uint32_t base;
        assert_int_equal(client_stop_queue(&client, i, &base), 0);
        assert_int_equal(base, rig_base_after(128, 20, 3));
    }
    client_done(&client);
}

/*
 * Requests in quick succession keep the queue awake, and pauses let it sleep: if it went to sleep over a request, the
 * wait for it would end by its time limit.
 */
static void loses_no_kick_between_waking_and_sleeping(void **state)
{
    (void)state;
    struct vhost_user_client client;
    rig_join_and_run(&client, rig_all_features, UINT64_MAX);
    for (unsigned i = 0; i < 20000; i++) {
        assert_int_equal(rig_request(&client, 0, VIRTIO_BLK_T_GET_ID, 0, 20), VIRTIO_BLK_S_OK);
        if (i % 1000 < 20)
            usleep(i % 50);
    }
    client_done(&client);
}

static void stops_and_goes_on_at_the_base_it_told(void **state)
{
    (void)state;
    struct vhost_user_client client;
    rig_join_and_run(&client, rig_all_features, UINT64_MAX);
    for (unsigned i = 0; i < 70; i++)
        assert_int_equal(rig_request(&client, 0, VIRTIO_BLK_T_IN, i, 512), VIRTIO_BLK_S_OK);
    uint32_t base = 0;
    assert_int_equal(client_stop_queue(&client, 0, &base), 0);
    assert_int_equal(base, rig_base_after(RING_SIZE, 70, 3));
    assert_int_equal(client_resume_queue(&client, 0, base), 0);
    rig_write_then_read(&client, 0, 300, 77);
    client_done(&client);
}

static void answers_the_base_of_a_queue_that_never_ran(void **state)
{
    (void)state;
    struct vhost_user_client client;
    rig_join(&client, rig_all_features, UINT64_MAX);
    rig_tell_state(&client, VHOST_USER_SET_VRING_BASE, 1, 4711);
    uint32_t base = 0;
    assert_int_equal(client_stop_queue(&client, 1, &base), 0);
    assert_int_equal(base, 4711);
    client_done(&client);
}

/* One step of a ring's start, so that the order can be anything. */
static void ring_step(struct vhost_user_client *client, char step)
{
    struct vhost_user_client_queue *queue = &client->queues[0];
    uint64_t index = 0, offset = client->frontend_base - GUEST_BASE;
    struct vhost_user_vring_address address = {
        .desc = queue->driver->desc_address + offset,
        .avail = queue->driver->avail_address + offset,
        .used = queue->driver->used_address + offset,
    };
    switch (step) {
    case 'm':
        assert_int_equal(client_share_memory(client), 0);
        break;
    case 'n':
        rig_tell_state(client, VHOST_USER_SET_VRING_NUM, 0, RING_SIZE);
        break;
    case 'b':
        rig_tell_state(client, VHOST_USER_SET_VRING_BASE, 0, virtqueue_base_initial(rig_all_features));
        break;
    case 'a':
        assert_int_equal(client_call_ack(client, VHOST_USER_SET_VRING_ADDR, &address, sizeof(address), NULL, 0), 0);
        break;
    case 'k':
        assert_int_equal(client_call_ack(client, VHOST_USER_SET_VRING_KICK, &index, 8, &queue->kick, 1), 0);
        break;
    case 'c':
        assert_int_equal(client_call_ack(client, VHOST_USER_SET_VRING_CALL, &index, 8, &queue->call, 1), 0);
        break;
    default:
        rig_tell_state(client, VHOST_USER_SET_VRING_ENABLE, 0, 1);
    }
}

static void starts_a_ring_in_any_order(void **state)
{
    (void)state;
    /* QEMU; QEMU after a reconnect; libblkio and rust-vmm; SPDK's driver; enabled first; kick line before all */
    static const char *const orders[] = {"mnbacke", "mcnbake", "mnabcke", "mnbakce", "emnback", "knbacem", "ekcabnm"};
    for (unsigned i = 0; i < ARRAY_SIZE(orders); i++) {
        struct vhost_user_client client;
        static struct fake_driver driver;
        rig_join(&client, rig_all_features, UINT64_MAX);
        fake_driver_init(&driver, &client.memory, GUEST_BASE + RING_OFFSET, RING_SIZE, rig_all_features);
        client.queues[0].driver = &driver;
        client.queues[0].kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        client.queues[0].call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        for (const char *step = orders[i]; *step != '\0'; step++)
            ring_step(&client, *step);
        rig_write_then_read(&client, 0, 50, (uint8_t)i);
        client.queues[0].driver = NULL;
        client_done(&client);
    }
}

static void polls_a_ring_whose_front_end_does_not_kick(void **state)
{
    (void)state;
    struct vhost_user_client client;
    rig_join_and_run(&client, rig_all_features, UINT64_MAX);
    uint64_t payload = VHOST_USER_VRING_NO_FD;
    assert_int_equal(client_call_ack(&client, VHOST_USER_SET_VRING_KICK, &payload, 8, NULL, 0), 0);
    close(client.queues[0].kick);
    client.queues[0].kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); /* nobody reads this one */
    for (unsigned i = 0; i < 8; i++)
        rig_write_then_read(&client, 0, i * 16, (uint8_t)(i + 1));
    client_done(&client);
}

static void signals_the_call_line_it_was_given_last(void **state)
{
    (void)state;
    struct vhost_user_client client;
    rig_join_and_run(&client, rig_all_features, UINT64_MAX);
    rig_write_then_read(&client, 0, 1, 1);
    int old = client.queues[0].call;
    uint64_t index = 0, count;
    client.queues[0].call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_int_equal(client_call_ack(&client, VHOST_USER_SET_VRING_CALL, &index, 8, &client.queues[0].call, 1), 0);
    while (read(old, &count, sizeof(count)) > 0)
        ;
    rig_write_then_read(&client, 0, 2, 2);
    assert_int_equal(read(old, &count, sizeof(count)), -1);
    close(old);
    client_done(&client);
}

static void goes_on_after_being_disabled_and_enabled(void **state)
{
    (void)state;
    struct vhost_user_client client;
    rig_join_and_run(&client, rig_all_features, UINT64_MAX);
    for (unsigned i = 0; i < 10; i++) {
        rig_write_then_read(&client, 0, i, (uint8_t)i);
        rig_tell_state(&client, VHOST_USER_SET_VRING_ENABLE, 0, 0);
        rig_tell_state(&client, VHOST_USER_SET_VRING_ENABLE, 0, 1);
    }
    client_done(&client);
}

static void logs_what_it_writes(void **state)
{
    (void)state;
    struct vhost_user_client client;
    rig_join_and_run(&client, rig_all_features, UINT64_MAX);
    size_t log_bytes = (GUEST_BASE + MEMORY_BYTES) / 4096 / 8;
    int handle = memfd_create("log", MFD_CLOEXEC);
    assert_int_equal(ftruncate(handle, (off_t)log_bytes), 0);
    uint8_t *bits = mmap(NULL, log_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, handle, 0);
    assert_true(bits != MAP_FAILED);
    struct vhost_user_log log = {.size = log_bytes};
    struct vhost_user_message answer;
    assert_int_equal(client_send(&client, VHOST_USER_SET_LOG_BASE, 0, &log, sizeof(log), &handle, 1), 0);
    assert_int_equal(client_receive(&client, VHOST_USER_SET_LOG_BASE, &answer), 0);
    /* a line for it is taken, and replaced; the protocol leaves it to the back end whether to use it */
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(client_call_ack(&client, VHOST_USER_SET_LOG_FD, NULL, 0, &client.queues[0].error, 1), 0);
    uint64_t features = client.features | VHOST_F_LOG_ALL;
    assert_int_equal(client_call_ack(&client, VHOST_USER_SET_FEATURES, &features, 8, NULL, 0), 0);
    uint64_t offset = client.frontend_base - GUEST_BASE;
    const struct fake_driver *driver = client.queues[0].driver;
    struct vhost_user_vring_address address = {.flags = VHOST_USER_VRING_F_LOG,
                                               .desc = driver->desc_address + offset,
                                               .avail = driver->avail_address + offset,
                                               .used = driver->used_address + offset,
                                               .log = driver->used_address};
    assert_int_equal(client_call_ack(&client, VHOST_USER_SET_VRING_ADDR, &address, sizeof(address), NULL, 0), 0);
    assert_int_equal(rig_request(&client, 0, VIRTIO_BLK_T_IN, 0, 4096), VIRTIO_BLK_S_OK);
    uint64_t written[] = {GUEST_BASE + DATA_OFFSET, GUEST_BASE + STATUS_OFFSET, driver->used_address};
    for (unsigned i = 0; i < ARRAY_SIZE(written); i++)
        assert_true((bits[written[i] / 4096 / 8] >> (written[i] / 4096 % 8) & 1) != 0);
    uint64_t unwritten = GUEST_BASE + HEADER_OFFSET;
    assert_true((bits[unwritten / 4096 / 8] >> (unwritten / 4096 % 8) & 1) == 0);
    /* and no more once logging is off */
    assert_int_equal(client_call_ack(&client, VHOST_USER_SET_FEATURES, &client.features, 8, NULL, 0), 0);
    memset(bits, 0, log_bytes);
    assert_int_equal(rig_request(&client, 0, VIRTIO_BLK_T_IN, 0, 4096), VIRTIO_BLK_S_OK);
    assert_true((bits[written[0] / 4096 / 8] >> (written[0] / 4096 % 8) & 1) == 0);
    munmap(bits, log_bytes);
    close(handle);
    client_done(&client);
}

/* After @requests of three descriptors each, none in flight. */
static void assert_split_record(const struct virtq_record_split *record, unsigned requests)
{
    assert_int_equal(record->version, 1);
    assert_int_equal(record->desc_num, RING_SIZE);
    assert_int_equal(record->used_index, requests);
    uint64_t counters = 0;
    for (unsigned i = 0; i < RING_SIZE; i++) {
        assert_int_equal(record->desc[i].inflight, 0);
        counters += record->desc[i].counter;
    }
    assert_true(counters > 0);
}

static void assert_packed_record(const struct virtq_record_packed *record, unsigned requests)
{
    assert_int_equal(record->version, 1);
    assert_int_equal(record->desc_num, RING_SIZE);
    assert_int_equal(record->used_index, requests * 3 % RING_SIZE);
    assert_int_equal(record->used_wrap_counter, requests * 3 / RING_SIZE % 2 == 0);
    assert_int_equal(record->old_used_index, record->used_index);
    assert_int_equal(record->old_used_wrap_counter, record->used_wrap_counter);
    assert_int_equal(record->old_free_head, record->free_head);
    for (unsigned i = 0; i < RING_SIZE; i++)
        assert_int_equal(record->desc[i].inflight, 0);
    /* The last request's copies are at the front of the free list. */
    const struct virtq_record_packed_entry *last = &record->desc[record->free_head];
    assert_int_equal(last->num, 3);
    assert_int_equal(last->address, GUEST_BASE + HEADER_OFFSET);
    assert_int_equal(last->counter, requests - 1);
}

static void keeps_the_inflight_record_right(void **state)
{
    (void)state;
    struct vhost_user_client client;
    rig_join(&client, rig_all_features, UINT64_MAX);
    struct rig_record record;
    rig_record_get(&client, &record);
    assert_true(record.said.mmap_size >= 4 * virtq_record_bytes(rig_is_packed(), RING_SIZE));
    rig_record_give(&client, &record);
    assert_int_equal(client_share_memory(&client), 0);
    assert_int_equal(client_start_queue(&client, 0, GUEST_BASE + RING_OFFSET, RING_SIZE), 0);
    for (unsigned i = 0; i < 15; i++)
        rig_write_then_read(&client, 0, i, (uint8_t)i);
    uint32_t base;
    assert_int_equal(client_stop_queue(&client, 0, &base), 0);
    if (rig_is_packed())
        assert_packed_record((const void *)record.area, 30);
    else
        assert_split_record((const void *)record.area, 30);
    rig_record_done(&record);
    client_done(&client);
}

/*
 * What a front end must send for VIRTIO_F_RING_RESET (VIRTIO 1.3, 2.6.1), which is why it works although it is not
 * offered: one ring is stopped, and comes back at another place and of another size, while the others run on.
 */
static void lays_one_ring_anew_while_the_others_run_on(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {128, 8, 1024, 64};
    struct vhost_user_client client;
    rig_join(&client, rig_all_features, UINT64_MAX);
    struct rig_record record;
    rig_record_get(&client, &record);
    rig_record_give(&client, &record);
    assert_int_equal(client_share_memory(&client), 0);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(client_start_queue(&client, i, GUEST_BASE + RING_OFFSET + i * 0x8000, RING_SIZE), 0);
    for (unsigned life = 0; life < ARRAY_SIZE(sizes); life++) {
        uint32_t base;
        rig_write_then_read(&client, 0, life, (uint8_t)life);
        rig_write_then_read(&client, 1, life + 50, (uint8_t)life);
        assert_int_equal(client_stop_queue(&client, 0, &base), 0);
        uint64_t address = GUEST_BASE + RING_OFFSET + (life + 2) * UINT64_C(0x8000);
        assert_int_equal(client_start_queue(&client, 0, address, sizes[life]), 0);
        for (unsigned i = 0; i < 7; i++) {
            rig_write_then_read(&client, 0, i, (uint8_t)(life + i));
            rig_write_then_read(&client, 1, i + 50, (uint8_t)(life + i));
        }
    }
    rig_record_done(&record);
    client_done(&client);
}

/* What the protocol recommends, where it is not ignored: and nothing else is forgotten. */
static void disables_all_rings_at_reset_owner(void **state)
{
    (void)state;
    struct vhost_user_client client;
    rig_join_and_run(&client, rig_all_features, UINT64_MAX);
    rig_write_then_read(&client, 0, 4, 44);
    assert_int_equal(client_call_ack(&client, VHOST_USER_RESET_OWNER, NULL, 0, NULL, 0), 0);
    json_t *stats = daemon_stats(&rig_daemon);
    const json_t *queue = json_array_get(json_object_get(stats, "queues"), 0);
    assert_true(json_is_false(json_object_get(queue, "running")));
    json_decref(stats);
    rig_tell_state(&client, VHOST_USER_SET_VRING_ENABLE, 0, 1);
    rig_write_then_read(&client, 0, 5, 55);
    client_done(&client);
}

static void shows_needs_reset_in_the_status(void **state)
{
    (void)state;
    struct vhost_user_client client;
    rig_join_and_run(&client, rig_all_features, UINT64_MAX);
    struct fake_driver *driver = client.queues[0].driver;
    if (driver->packed) { /* a table outside memory */
        fake_driver_packed_desc(driver, 0, 0, 16, 0, VRING_PACKED_DESC_F_AVAIL | VRING_DESC_F_INDIRECT);
    } else {
        fake_driver_offer(driver, RING_SIZE);
        fake_driver_show(driver);
    }
    client_kick(&client, 0);
    struct pollfd entry = {.fd = client.queues[0].error, .events = POLLIN};
    assert_int_equal(poll(&entry, 1, DAEMON_TIMEOUT_MS), 1);
    /* the error line is signalled on the queue's thread; the control thread learns of it by message */
    while ((rig_ask_u64(&client, VHOST_USER_GET_STATUS) & VIRTIO_STATUS_NEEDS_RESET) == 0)
        ;
    uint32_t base;
    assert_int_equal(client_stop_queue(&client, 0, &base), 0);
    client_done(&client);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(serves_four_queues_at_once),
        cmocka_unit_test(loses_no_kick_between_waking_and_sleeping),
        cmocka_unit_test(stops_and_goes_on_at_the_base_it_told),
        cmocka_unit_test(answers_the_base_of_a_queue_that_never_ran),
        cmocka_unit_test(starts_a_ring_in_any_order),
        cmocka_unit_test(polls_a_ring_whose_front_end_does_not_kick),
        cmocka_unit_test(signals_the_call_line_it_was_given_last),
        cmocka_unit_test(goes_on_after_being_disabled_and_enabled),
        cmocka_unit_test(logs_what_it_writes),
        cmocka_unit_test(keeps_the_inflight_record_right),
        cmocka_unit_test(lays_one_ring_anew_while_the_others_run_on),
        cmocka_unit_test(disables_all_rings_at_reset_owner),
        cmocka_unit_test(shows_needs_reset_in_the_status),
    };
    if (!rig_arguments(argc, argv))
        return 2;
    return cmocka_run_group_tests_name("conformance-rings", tests, rig_start, rig_stop);
}
