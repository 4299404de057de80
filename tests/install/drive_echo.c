/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Drives examples/echo.c over its socket, as a front end with a driver behind it: drive_echo SOCKET-PATH. Prints TAP.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vhost_user_client.h"

#define GUEST_BASE UINT64_C(0x40000000)
#define MEMORY_BYTES (1u << 20)
#define RING_OFFSET 0
#define SEND_OFFSET 0x20000
#define ANSWER_OFFSET 0x40000
#define TIMEOUT_MS 20000
#define PIECE_BYTES 5000

static unsigned number, failed;

static void result(bool good, const char *name)
{
    number++;
    failed += good ? 0 : 1;
    printf("%sok %u - %s\n", good ? "" : "not ", number, name);
}

static uint64_t config_of(struct vhost_user_client *client)
{
    uint8_t bytes[8] = {0};
    return client_get_config(client, 0, sizeof(bytes), bytes) < 0 ? UINT64_MAX : get_le64(bytes);
}

/* Send @count pieces of PIECE_BYTES and want them back. */
static bool echoes(struct vhost_user_client *client, unsigned count, uint8_t seed)
{
    struct fake_piece pieces[4];
    uint8_t *send = client->memory.host + SEND_OFFSET;
    uint8_t *answer = client->memory.host + ANSWER_OFFSET;
    uint32_t bytes = count * PIECE_BYTES;
    for (uint32_t i = 0; i < bytes; i++)
        send[i] = (uint8_t)(i * 7 + seed);
    memset(answer, 0, bytes);
    for (unsigned i = 0; i < count; i++) {
        uint64_t offset = (uint64_t)i * PIECE_BYTES;
        pieces[i] = (struct fake_piece){GUEST_BASE + SEND_OFFSET + offset, PIECE_BYTES, false};
        pieces[count + i] = (struct fake_piece){GUEST_BASE + ANSWER_OFFSET + offset, PIECE_BYTES, true};
    }
    return client_request(client, 0, pieces, 2 * count) == (int)bytes && memcmp(send, answer, bytes) == 0;
}

static bool begin(struct vhost_user_client *client, const char *path)
{
    return client_connect(client, path) == 0 && client_negotiate(client, UINT64_MAX, UINT64_MAX) == 0 &&
           client_share_memory(client) == 0 && client_start_queue(client, 0, GUEST_BASE + RING_OFFSET, 16) == 0;
}

int main(int argc, char **argv)
{
    static struct vhost_user_client client;
    if (argc != 2 || client_init(&client, GUEST_BASE, MEMORY_BYTES, TIMEOUT_MS) < 0)
        return 2;
    printf("1..7\n");

    result(begin(&client, argv[1]), "a front end sets the example's queue up");
    bool good = true;
    for (uint8_t i = 0; i < 40; i++)
        good = good && echoes(&client, 1 + i % 2, i);
    result(good, "the example gives back what was sent");
    result(config_of(&client) == 20 * PIECE_BYTES + 20 * 2 * PIECE_BYTES, "its configuration space counts the bytes");
    uint32_t base;
    result(client_stop_queue(&client, 0, &base) == 0 && base == 40, "its queue stops where it stood");
    client_disconnect(&client);

    result(begin(&client, argv[1]) && echoes(&client, 1, 99), "the next front end is served as well");
    result(config_of(&client) == PIECE_BYTES, "and finds the device reset");
    struct fake_piece empty = {GUEST_BASE + ANSWER_OFFSET, 8, true};
    client.timeout_ms = 300;
    result(client_request(&client, 0, &empty, 1) == -ETIMEDOUT,
           "a driver that breaks the device's rules gets no answer");
    client_disconnect(&client);
    client_done(&client);
    return failed == 0 ? 0 : 1;
}
