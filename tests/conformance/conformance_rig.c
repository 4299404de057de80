/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "conformance_rig.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

struct daemon rig_daemon;

const char *const rig_options[] = {"--queues=4", "--in-order", NULL};

uint64_t rig_all_features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX |
                            VHOST_USER_F_PROTOCOL_FEATURES | VIRTIO_BLK_F_FLUSH | VIRTIO_BLK_F_DISCARD |
                            VIRTIO_BLK_F_WRITE_ZEROES | VIRTIO_BLK_F_CONFIG_WCE | VIRTIO_BLK_F_MQ |
                            VIRTIO_BLK_F_SEG_MAX | VIRTIO_BLK_F_BLK_SIZE;

void rig_join(struct vhost_user_client *client, uint64_t features, uint64_t protocol_features)
{
    daemon_assert_alive(&rig_daemon);
    assert_int_equal(client_init(client, GUEST_BASE, MEMORY_BYTES, DAEMON_TIMEOUT_MS), 0);
    assert_int_equal(client_connect(client, rig_daemon.socket_path), 0);
    assert_int_equal(client_negotiate(client, features, protocol_features), 0);
}

void rig_join_and_run(struct vhost_user_client *client, uint64_t features, uint64_t protocol_features)
{
    rig_join(client, features, protocol_features);
    assert_int_equal(client_share_memory(client), 0);
    assert_int_equal(client_start_queue(client, 0, GUEST_BASE + RING_OFFSET, RING_SIZE), 0);
}

static uint64_t place(unsigned queue, uint64_t offset)
{
    return offset + (uint64_t)queue * QUEUE_STRIDE;
}

uint8_t rig_request(struct vhost_user_client *client, unsigned queue, uint32_t type, uint64_t sector, uint32_t bytes)
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

void rig_assert_filled(const struct vhost_user_client *client, unsigned queue, uint8_t seed, uint32_t bytes)
{
    const uint8_t *data = client->memory.host + place(queue, DATA_OFFSET);
    for (uint32_t i = 0; i < bytes; i++)
        assert_int_equal(data[i], (uint8_t)(seed + i * 7 + (i >> 8)));
}

void rig_write_then_read(struct vhost_user_client *client, unsigned queue, uint64_t sector, uint8_t seed)
{
    fill(client, queue, seed, 8192);
    assert_int_equal(rig_request(client, queue, VIRTIO_BLK_T_OUT, sector, 8192), VIRTIO_BLK_S_OK);
    memset(client->memory.host + place(queue, DATA_OFFSET), 0, 8192);
    assert_int_equal(rig_request(client, queue, VIRTIO_BLK_T_IN, sector, 8192), VIRTIO_BLK_S_OK);
    rig_assert_filled(client, queue, seed, 8192);
}

uint64_t rig_ask_u64(struct vhost_user_client *client, uint32_t message)
{
    struct vhost_user_message answer;
    assert_int_equal(client_call(client, message, NULL, 0, &answer), 0);
    assert_int_equal(answer.header.size, 8);
    return answer.payload.u64;
}

void rig_tell_state(struct vhost_user_client *client, uint32_t message, uint32_t index, uint32_t num)
{
    struct vhost_user_vring_state state = {.index = index, .num = num};
    assert_int_equal(client_call_ack(client, message, &state, sizeof(state), NULL, 0), 0);
}

void rig_record_get(struct vhost_user_client *client, struct rig_record *record)
{
    const struct vhost_user_inflight ask = {.queue_count = 4, .queue_size = RING_SIZE};
    struct vhost_user_message answer;
    assert_int_equal(client_call(client, VHOST_USER_GET_INFLIGHT_FD, &ask, VHOST_USER_INFLIGHT_BYTES, &answer), 0);
    assert_int_equal(answer.handle_count, 1);
    record->said = answer.payload.inflight;
    record->said.queue_count = 4;
    record->said.queue_size = RING_SIZE;
    record->handle = answer.handles[0];
    size_t bytes = record->said.mmap_size + record->said.mmap_offset;
    record->mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, record->handle, 0);
    assert_true(record->mapped != MAP_FAILED);
    record->area = record->mapped + record->said.mmap_offset;
}

void rig_record_give(struct vhost_user_client *client, const struct rig_record *record)
{
    assert_int_equal(client_call_ack(client, VHOST_USER_SET_INFLIGHT_FD, &record->said, VHOST_USER_INFLIGHT_BYTES,
                                     &record->handle, 1),
                     0);
}

void rig_record_done(struct rig_record *record)
{
    munmap(record->mapped, record->said.mmap_size + record->said.mmap_offset);
    close(record->handle);
}

bool rig_is_packed(void)
{
    return (rig_all_features & VIRTIO_F_RING_PACKED) != 0;
}

uint32_t rig_base_after(uint32_t size, uint32_t requests, uint32_t descriptors)
{
    if (!rig_is_packed())
        return requests & UINT16_MAX;
    uint32_t served = requests * descriptors;
    uint32_t half = VIRTQ_BASE_PACKED(served % size, served / size % 2 == 0);
    return half << 16 | half;
}

bool rig_arguments(int argc, char **argv)
{
    static const struct {
        const char *name;
        uint64_t features;
    } layouts[] = {
        {"split", 0},
        {"packed", VIRTIO_F_RING_PACKED},
        {"in-order", VIRTIO_F_RING_PACKED | VIRTIO_F_IN_ORDER},
    };
    unsigned layout = 0;
    while (argc == 3 && layout < ARRAY_SIZE(layouts) && strcmp(argv[2], layouts[layout].name) != 0)
        layout++;
    if (argc != 3 || layout == ARRAY_SIZE(layouts)) {
        fprintf(stderr, "usage: %s PROGRAM split|packed|in-order\n", argv[0]);
        return false;
    }
    rig_all_features |= layouts[layout].features;
    daemon_program = argv[1];
    cmocka_set_test_filter(getenv("CMOCKA_TEST_FILTER")); /* to look at one alone */
    return true;
}

int rig_start(void **state)
{
    (void)state;
    daemon_prepare(&rig_daemon, DISK_BYTES);
    daemon_start(&rig_daemon, "blk", rig_options);
    return 0;
}

int rig_stop(void **state)
{
    (void)state;
    daemon_stop(&rig_daemon);
    daemon_done(&rig_daemon);
    return 0;
}
