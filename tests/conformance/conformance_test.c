/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A front end that keeps the rules, against a real daemon: every message, and every order of messages that real front
 * ends use. The lies are in lies_test.c.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon.h"
#include "devices/blk/virtio_blk.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#define GUEST_BASE UINT64_C(0x100000000)
#define MEMORY_BYTES UINT64_C(0x400000)
#define RING_OFFSET 0x1000
#define RING_SIZE 64
#define HEADER_OFFSET 0x100000
#define STATUS_OFFSET 0x180000
#define DATA_OFFSET 0x200000
/* Each queue has its own, since each has a thread of its own in the daemon: no byte is written by two. */
#define QUEUE_STRIDE 0x8000
#define DISK_BYTES UINT64_C(0x1000000)

static struct daemon target;

static const uint64_t all_features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX |
                                     VHOST_USER_F_PROTOCOL_FEATURES | VIRTIO_BLK_F_FLUSH | VIRTIO_BLK_F_DISCARD |
                                     VIRTIO_BLK_F_WRITE_ZEROES | VIRTIO_BLK_F_CONFIG_WCE | VIRTIO_BLK_F_MQ |
                                     VIRTIO_BLK_F_SEG_MAX | VIRTIO_BLK_F_BLK_SIZE;

static void join(struct vhost_user_client *client, uint64_t features, uint64_t protocol_features)
{
    daemon_assert_alive(&target);
    assert_int_equal(client_init(client, GUEST_BASE, MEMORY_BYTES, DAEMON_TIMEOUT_MS), 0);
    assert_int_equal(client_connect(client, target.socket_path), 0);
    assert_int_equal(client_negotiate(client, features, protocol_features), 0);
}

static void join_and_run(struct vhost_user_client *client, uint64_t features, uint64_t protocol_features)
{
    join(client, features, protocol_features);
    assert_int_equal(client_share_memory(client), 0);
    assert_int_equal(client_start_queue(client, 0, GUEST_BASE + RING_OFFSET, RING_SIZE), 0);
}

static uint64_t place(unsigned queue, uint64_t offset)
{
    return offset + (uint64_t)queue * QUEUE_STRIDE;
}

/* One request with @bytes at the queue's data; the status. */
static uint8_t request(struct vhost_user_client *client, unsigned queue, uint32_t type, uint64_t sector, uint32_t bytes)
{
    uint8_t *header = client->memory.host + place(queue, HEADER_OFFSET);
    uint8_t *status = client->memory.host + place(queue, STATUS_OFFSET);
    put_le32(header, type);
    put_le32(header + 4, 0);
    put_le64(header + 8, sector);
    *status = 0xff;
    struct fake_piece pieces[3] = {{GUEST_BASE + place(queue, HEADER_OFFSET), 16, false}};
    unsigned count = 1;
    bool in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
    if (bytes > 0)
        pieces[count++] = (struct fake_piece){GUEST_BASE + place(queue, DATA_OFFSET), bytes, in};
    pieces[count++] = (struct fake_piece){GUEST_BASE + place(queue, STATUS_OFFSET), 1, true};
    int used = client_request(client, queue, pieces, count);
    assert_true(used >= 1);
    return *status;
}

static void fill(struct vhost_user_client *client, unsigned queue, uint8_t seed, uint32_t bytes)
{
    uint8_t *data = client->memory.host + place(queue, DATA_OFFSET);
    for (uint32_t i = 0; i < bytes; i++)
        data[i] = (uint8_t)(seed + i * 7 + (i >> 8));
}

static void assert_filled(const struct vhost_user_client *client, unsigned queue, uint8_t seed, uint32_t bytes)
{
    const uint8_t *data = client->memory.host + place(queue, DATA_OFFSET);
    for (uint32_t i = 0; i < bytes; i++)
        assert_int_equal(data[i], (uint8_t)(seed + i * 7 + (i >> 8)));
}

static void write_then_read(struct vhost_user_client *client, unsigned queue, uint64_t sector, uint8_t seed)
{
    fill(client, queue, seed, 8192);
    assert_int_equal(request(client, queue, VIRTIO_BLK_T_OUT, sector, 8192), VIRTIO_BLK_S_OK);
    memset(client->memory.host + place(queue, DATA_OFFSET), 0, 8192);
    assert_int_equal(request(client, queue, VIRTIO_BLK_T_IN, sector, 8192), VIRTIO_BLK_S_OK);
    assert_filled(client, queue, seed, 8192);
}

static uint64_t ask_u64(struct vhost_user_client *client, uint32_t message)
{
    struct vhost_user_message answer;
    assert_int_equal(client_call(client, message, NULL, 0, &answer), 0);
    assert_int_equal(answer.header.size, 8);
    return answer.payload.u64;
}

static void tell_state(struct vhost_user_client *client, uint32_t message, uint32_t index, uint32_t num)
{
    struct vhost_user_vring_state state = {.index = index, .num = num};
    assert_int_equal(client_call_ack(client, message, &state, sizeof(state), NULL, 0), 0);
}

static void offers_what_it_promises(void **state)
{
    (void)state;
    struct vhost_user_client client;
    join(&client, all_features, UINT64_MAX);
    const uint64_t protocol = VHOST_USER_PROTOCOL_F_MQ | VHOST_USER_PROTOCOL_F_LOG_SHMFD |
                              VHOST_USER_PROTOCOL_F_REPLY_ACK | VHOST_USER_PROTOCOL_F_BACKEND_REQ |
                              VHOST_USER_PROTOCOL_F_CONFIG | VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD |
                              VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD | VHOST_USER_PROTOCOL_F_RESET_DEVICE |
                              VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS | VHOST_USER_PROTOCOL_F_STATUS;
    assert_int_equal(client.protocol_features, protocol);
    assert_true((client.features & VIRTIO_F_VERSION_1) != 0);
    assert_true((ask_u64(&client, VHOST_USER_GET_FEATURES) & VHOST_F_LOG_ALL) != 0);
    assert_int_equal(ask_u64(&client, VHOST_USER_GET_QUEUE_NUM), 4);
    assert_true(ask_u64(&client, VHOST_USER_GET_MAX_MEM_SLOTS) >= 32);
    client_done(&client);
}

static void answers_configuration_in_the_size_that_was_asked_for(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {1, 8, 36, 60, 64, 100, 256};
    struct vhost_user_client client;
    join(&client, all_features, UINT64_MAX);
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
    join(&client, all_features, UINT64_MAX);
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
    join_and_run(&client, all_features, UINT64_MAX);
    write_then_read(&client, 0, 100, 11);
    assert_int_equal(request(&client, 0, VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_OK);
    client_done(&client);
    for (unsigned i = 0; i < 50; i++) {
        join_and_run(&client, all_features, UINT64_MAX);
        assert_int_equal(request(&client, 0, VIRTIO_BLK_T_IN, 100, 8192), VIRTIO_BLK_S_OK);
        assert_filled(&client, 0, 11, 8192);
        client_done(&client);
    }
}

static void serves_a_front_end_that_knows_no_protocol_features(void **state)
{
    (void)state;
    struct vhost_user_client client;
    join_and_run(&client, VIRTIO_F_VERSION_1, 0);
    write_then_read(&client, 0, 7, 3);
    client_done(&client);
}

/* MQ, REPLY_ACK, CONFIG and CONFIGURE_MEM_SLOTS, and no in-flight record: what libblkio asks for. */
static void serves_with_the_features_of_libblkio(void **state)
{
    (void)state;
    struct vhost_user_client client;
    join_and_run(&client, all_features,
                 VHOST_USER_PROTOCOL_F_MQ | VHOST_USER_PROTOCOL_F_REPLY_ACK | VHOST_USER_PROTOCOL_F_CONFIG |
                     VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS);
    write_then_read(&client, 0, 9, 5);
    client_done(&client);
}

static void serves_four_queues_at_once(void **state)
{
    (void)state;
    struct vhost_user_client client;
    join(&client, all_features, UINT64_MAX);
    assert_int_equal(client_share_memory(&client), 0);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(client_start_queue(&client, i, GUEST_BASE + 0x1000 + i * 0x4000, 128), 0);
    for (unsigned i = 0; i < 40; i++)
        write_then_read(&client, i % 4, i * 16, (uint8_t)i);
    for (unsigned i = 0; i < 4; i++) {
        uint16_t base;
        assert_int_equal(client_stop_queue(&client, i, &base), 0);
        assert_int_equal(base, 20);
    }
    client_done(&client);
}

static void stops_and_goes_on_at_the_base_it_told(void **state)
{
    (void)state;
    struct vhost_user_client client;
    join_and_run(&client, all_features, UINT64_MAX);
    for (unsigned i = 0; i < 70; i++)
        assert_int_equal(request(&client, 0, VIRTIO_BLK_T_IN, i, 512), VIRTIO_BLK_S_OK);
    uint16_t base = 0;
    assert_int_equal(client_stop_queue(&client, 0, &base), 0);
    assert_int_equal(base, 70);
    tell_state(&client, VHOST_USER_SET_VRING_BASE, 0, base);
    uint64_t index = 0;
    assert_int_equal(
        client_call_ack(&client, VHOST_USER_SET_VRING_KICK, &index, sizeof(index), &client.queues[0].kick, 1), 0);
    assert_int_equal(
        client_call_ack(&client, VHOST_USER_SET_VRING_CALL, &index, sizeof(index), &client.queues[0].call, 1), 0);
    tell_state(&client, VHOST_USER_SET_VRING_ENABLE, 0, 1);
    write_then_read(&client, 0, 300, 77);
    client_done(&client);
}

static void answers_the_base_of_a_queue_that_never_ran(void **state)
{
    (void)state;
    struct vhost_user_client client;
    join(&client, all_features, UINT64_MAX);
    tell_state(&client, VHOST_USER_SET_VRING_BASE, 1, 4711);
    uint16_t base = 0;
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
        tell_state(client, VHOST_USER_SET_VRING_NUM, 0, RING_SIZE);
        break;
    case 'b':
        tell_state(client, VHOST_USER_SET_VRING_BASE, 0, 0);
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
        tell_state(client, VHOST_USER_SET_VRING_ENABLE, 0, 1);
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
        join(&client, all_features, UINT64_MAX);
        fake_driver_init(&driver, &client.memory, GUEST_BASE + RING_OFFSET, RING_SIZE, true);
        client.queues[0].driver = &driver;
        client.queues[0].kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        client.queues[0].call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        for (const char *step = orders[i]; *step != '\0'; step++)
            ring_step(&client, *step);
        write_then_read(&client, 0, 50, (uint8_t)i);
        client.queues[0].driver = NULL;
        client_done(&client);
    }
}

static void polls_a_ring_whose_front_end_does_not_kick(void **state)
{
    (void)state;
    struct vhost_user_client client;
    join_and_run(&client, all_features, UINT64_MAX);
    uint64_t payload = VHOST_USER_VRING_NO_FD;
    assert_int_equal(client_call_ack(&client, VHOST_USER_SET_VRING_KICK, &payload, 8, NULL, 0), 0);
    close(client.queues[0].kick);
    client.queues[0].kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); /* nobody reads this one */
    for (unsigned i = 0; i < 8; i++)
        write_then_read(&client, 0, i * 16, (uint8_t)(i + 1));
    client_done(&client);
}

static void signals_the_call_line_it_was_given_last(void **state)
{
    (void)state;
    struct vhost_user_client client;
    join_and_run(&client, all_features, UINT64_MAX);
    write_then_read(&client, 0, 1, 1);
    int old = client.queues[0].call;
    uint64_t index = 0, count;
    client.queues[0].call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_int_equal(client_call_ack(&client, VHOST_USER_SET_VRING_CALL, &index, 8, &client.queues[0].call, 1), 0);
    while (read(old, &count, sizeof(count)) > 0)
        ;
    write_then_read(&client, 0, 2, 2);
    assert_int_equal(read(old, &count, sizeof(count)), -1);
    close(old);
    client_done(&client);
}

static void goes_on_after_being_disabled_and_enabled(void **state)
{
    (void)state;
    struct vhost_user_client client;
    join_and_run(&client, all_features, UINT64_MAX);
    for (unsigned i = 0; i < 10; i++) {
        write_then_read(&client, 0, i, (uint8_t)i);
        tell_state(&client, VHOST_USER_SET_VRING_ENABLE, 0, 0);
        tell_state(&client, VHOST_USER_SET_VRING_ENABLE, 0, 1);
    }
    client_done(&client);
}

static void takes_memory_slots_at_run_time(void **state)
{
    (void)state;
    struct vhost_user_client client;
    join_and_run(&client, all_features, UINT64_MAX);
    struct vhost_user_single_region slot = {.region = {.guest_base = GUEST_BASE + UINT64_C(0x80000000),
                                                       .size = 0x10000,
                                                       .frontend_base = UINT64_C(0x7eff00000000)}};
    int handle = memfd_create("slot", MFD_CLOEXEC);
    assert_int_equal(ftruncate(handle, 0x10000), 0);
    uint8_t *host = mmap(NULL, 0x10000, PROT_READ | PROT_WRITE, MAP_SHARED, handle, 0);
    assert_true(host != MAP_FAILED);
    write_then_read(&client, 0, 0, 99);
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
    join_and_run(&client, all_features, UINT64_MAX & ~VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS);
    for (unsigned i = 0; i < 20; i++) {
        write_then_read(&client, 0, i * 8, (uint8_t)(i * 3));
        assert_int_equal(client_share_memory(&client), 0);
    }
    client_done(&client);
}

static void logs_what_it_writes(void **state)
{
    (void)state;
    struct vhost_user_client client;
    join_and_run(&client, all_features, UINT64_MAX);
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
    assert_int_equal(request(&client, 0, VIRTIO_BLK_T_IN, 0, 4096), VIRTIO_BLK_S_OK);
    uint64_t written[] = {GUEST_BASE + DATA_OFFSET, GUEST_BASE + STATUS_OFFSET, driver->used_address};
    for (unsigned i = 0; i < ARRAY_SIZE(written); i++)
        assert_true((bits[written[i] / 4096 / 8] >> (written[i] / 4096 % 8) & 1) != 0);
    uint64_t unwritten = GUEST_BASE + HEADER_OFFSET;
    assert_true((bits[unwritten / 4096 / 8] >> (unwritten / 4096 % 8) & 1) == 0);
    /* and no more once logging is off */
    assert_int_equal(client_call_ack(&client, VHOST_USER_SET_FEATURES, &client.features, 8, NULL, 0), 0);
    memset(bits, 0, log_bytes);
    assert_int_equal(request(&client, 0, VIRTIO_BLK_T_IN, 0, 4096), VIRTIO_BLK_S_OK);
    assert_true((bits[written[0] / 4096 / 8] >> (written[0] / 4096 % 8) & 1) == 0);
    munmap(bits, log_bytes);
    close(handle);
    client_done(&client);
}

static void keeps_the_inflight_record_right(void **state)
{
    (void)state;
    struct vhost_user_client client;
    join(&client, all_features, UINT64_MAX);
    struct vhost_user_inflight ask = {.queue_count = 4, .queue_size = RING_SIZE};
    struct vhost_user_message answer;
    assert_int_equal(client_call(&client, VHOST_USER_GET_INFLIGHT_FD, &ask, VHOST_USER_INFLIGHT_BYTES, &answer), 0);
    assert_int_equal(answer.handle_count, 1);
    struct vhost_user_inflight got = answer.payload.inflight;
    assert_true(got.mmap_size >= 4 * (16 + 16 * RING_SIZE));
    uint8_t *record = mmap(NULL, got.mmap_size + got.mmap_offset, PROT_READ, MAP_SHARED, answer.handles[0], 0);
    assert_true(record != MAP_FAILED);
    got.queue_count = 4;
    got.queue_size = RING_SIZE;
    assert_int_equal(
        client_call_ack(&client, VHOST_USER_SET_INFLIGHT_FD, &got, VHOST_USER_INFLIGHT_BYTES, answer.handles, 1), 0);
    close(answer.handles[0]);
    assert_int_equal(client_share_memory(&client), 0);
    assert_int_equal(client_start_queue(&client, 0, GUEST_BASE + RING_OFFSET, RING_SIZE), 0);
    for (unsigned i = 0; i < 5; i++)
        write_then_read(&client, 0, i, (uint8_t)i);
    uint16_t base;
    assert_int_equal(client_stop_queue(&client, 0, &base), 0);
    const struct virtq_inflight *queue = (const void *)(record + got.mmap_offset);
    assert_int_equal(queue->version, 1);
    assert_int_equal(queue->desc_num, RING_SIZE);
    assert_int_equal(queue->used_index, 10);
    uint64_t counters = 0;
    for (unsigned i = 0; i < RING_SIZE; i++) {
        assert_int_equal(queue->desc[i].inflight, 0);
        counters += queue->desc[i].counter;
    }
    assert_true(counters > 0);
    munmap(record, got.mmap_size + got.mmap_offset);
    client_done(&client);
}

/* A line on the control socket, and the line that answers it. */
static void control(const char *command, char *answer, size_t answer_bytes)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, target.control_path, strlen(target.control_path));
    int handle = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(handle, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_true(send(handle, command, strlen(command), MSG_NOSIGNAL) > 0);
    FILE *stream = fdopen(handle, "r");
    assert_non_null(fgets(answer, (int)answer_bytes, stream));
    fclose(stream);
}

static void tells_of_a_new_size(void **state)
{
    (void)state;
    struct vhost_user_client client;
    char answer[512];
    join_and_run(&client, all_features, UINT64_MAX);
    assert_int_equal(truncate(target.disk_path, (off_t)DISK_BYTES * 2), 0);
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
    assert_int_equal(request(&client, 0, VIRTIO_BLK_T_IN, DISK_BYTES * 2 / 512 - 1, 512), VIRTIO_BLK_S_OK);
    client_done(&client);
}

static void resets_the_device(void **state)
{
    (void)state;
    struct vhost_user_client client;
    join_and_run(&client, all_features, UINT64_MAX);
    write_then_read(&client, 0, 4, 44);
    assert_int_equal(client_call_ack(&client, VHOST_USER_RESET_DEVICE, NULL, 0, NULL, 0), 0);
    /* A new life: the driver's features are forgotten with the old one. */
    assert_int_equal(client_call_ack(&client, VHOST_USER_SET_FEATURES, &client.features, 8, NULL, 0), 0);
    assert_int_equal(client_start_queue(&client, 0, GUEST_BASE + RING_OFFSET, RING_SIZE), 0);
    write_then_read(&client, 0, 5, 55);
    client_done(&client);
}

/* What the protocol recommends, where it is not ignored: and nothing else is forgotten. */
static void disables_all_rings_at_reset_owner(void **state)
{
    (void)state;
    struct vhost_user_client client;
    join_and_run(&client, all_features, UINT64_MAX);
    write_then_read(&client, 0, 4, 44);
    assert_int_equal(client_call_ack(&client, VHOST_USER_RESET_OWNER, NULL, 0, NULL, 0), 0);
    json_t *stats = daemon_stats(&target);
    const json_t *queue = json_array_get(json_object_get(stats, "queues"), 0);
    assert_true(json_is_false(json_object_get(queue, "running")));
    json_decref(stats);
    tell_state(&client, VHOST_USER_SET_VRING_ENABLE, 0, 1);
    write_then_read(&client, 0, 5, 55);
    client_done(&client);
}

static void keeps_the_status_and_resets_at_zero(void **state)
{
    (void)state;
    struct vhost_user_client client;
    join_and_run(&client, all_features, UINT64_MAX);
    uint64_t status = VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK;
    assert_int_equal(client_call_ack(&client, VHOST_USER_SET_STATUS, &status, 8, NULL, 0), 0);
    assert_int_equal(ask_u64(&client, VHOST_USER_GET_STATUS), status);
    status = 0;
    assert_int_equal(client_call_ack(&client, VHOST_USER_SET_STATUS, &status, 8, NULL, 0), 0);
    assert_int_equal(ask_u64(&client, VHOST_USER_GET_STATUS), 0);
    client_done(&client);
}

static void shows_needs_reset_in_the_status(void **state)
{
    (void)state;
    struct vhost_user_client client;
    join_and_run(&client, all_features, UINT64_MAX);
    fake_driver_offer(client.queues[0].driver, RING_SIZE);
    fake_driver_show(client.queues[0].driver);
    client_kick(&client, 0);
    struct pollfd entry = {.fd = client.queues[0].error, .events = POLLIN};
    assert_int_equal(poll(&entry, 1, DAEMON_TIMEOUT_MS), 1);
    /* the error line is signalled on the queue's thread; the control thread learns of it by message */
    while ((ask_u64(&client, VHOST_USER_GET_STATUS) & VIRTIO_STATUS_NEEDS_RESET) == 0)
        ;
    uint16_t base;
    assert_int_equal(client_stop_queue(&client, 0, &base), 0);
    client_done(&client);
}

/* The second front end waits in the backlog until the first is gone. */
static void serves_one_front_end_after_the_other(void **state)
{
    (void)state;
    struct vhost_user_client first, second;
    join_and_run(&first, all_features, UINT64_MAX);
    assert_int_equal(client_init(&second, GUEST_BASE, MEMORY_BYTES, DAEMON_TIMEOUT_MS), 0);
    assert_int_equal(client_connect(&second, target.socket_path), 0);
    write_then_read(&first, 0, 4, 44);
    assert_int_equal(client_send(&second, VHOST_USER_GET_FEATURES, 0, NULL, 0, NULL, 0), 0);
    write_then_read(&first, 0, 8, 45);
    client_done(&first);
    struct vhost_user_message answer;
    assert_int_equal(client_receive(&second, VHOST_USER_GET_FEATURES, &answer), 0);
    client_done(&second);
}

static int start(void **state)
{
    static const char *const options[] = {"--queues=4", NULL};
    (void)state;
    daemon_prepare(&target, DISK_BYTES);
    daemon_start(&target, "blk", options);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    daemon_stop(&target);
    daemon_done(&target);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(offers_what_it_promises),
        cmocka_unit_test(answers_configuration_in_the_size_that_was_asked_for),
        cmocka_unit_test(writes_configuration_that_may_be_written),
        cmocka_unit_test(keeps_data_over_front_ends),
        cmocka_unit_test(serves_a_front_end_that_knows_no_protocol_features),
        cmocka_unit_test(serves_with_the_features_of_libblkio),
        cmocka_unit_test(serves_four_queues_at_once),
        cmocka_unit_test(stops_and_goes_on_at_the_base_it_told),
        cmocka_unit_test(answers_the_base_of_a_queue_that_never_ran),
        cmocka_unit_test(starts_a_ring_in_any_order),
        cmocka_unit_test(polls_a_ring_whose_front_end_does_not_kick),
        cmocka_unit_test(signals_the_call_line_it_was_given_last),
        cmocka_unit_test(goes_on_after_being_disabled_and_enabled),
        cmocka_unit_test(takes_memory_slots_at_run_time),
        cmocka_unit_test(replaces_the_whole_table_under_running_rings),
        cmocka_unit_test(logs_what_it_writes),
        cmocka_unit_test(keeps_the_inflight_record_right),
        cmocka_unit_test(resets_the_device),
        cmocka_unit_test(disables_all_rings_at_reset_owner),
        cmocka_unit_test(keeps_the_status_and_resets_at_zero),
        cmocka_unit_test(shows_needs_reset_in_the_status),
        cmocka_unit_test(serves_one_front_end_after_the_other),
        cmocka_unit_test(tells_of_a_new_size), /* last: the disk has another size afterwards */
    };
    if (argc != 2) {
        fprintf(stderr, "usage: %s PROGRAM\n", argv[0]);
        return 2;
    }
    daemon_program = argv[1];
    cmocka_set_test_filter(getenv("CMOCKA_TEST_FILTER")); /* to look at one alone */
    return cmocka_run_group_tests_name("conformance", tests, start, stop);
}
