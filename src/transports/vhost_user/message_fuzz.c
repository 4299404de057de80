/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The codec against bytes of any kind. The input is a header as it comes from the socket, a byte that says how many
 * descriptors came along, and what follows as payload. Held against it: a header that passes asks for no more than a
 * message can hold; a message that passes has exactly the bytes and descriptors that its payload speaks of, so that no
 * handler can read what was not sent.
 */
#include <errno.h>
#include <stdlib.h>

#include "transports/vhost_user/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_accepted(const struct vhost_user_message *message)
{
    const union vhost_user_payload *payload = &message->payload;
    uint32_t bytes = message->header.size;

    switch (message->header.request) {
    case VHOST_USER_SET_MEM_TABLE:
        ASSERT(payload->table.region_count <= VHOST_USER_TABLE_REGIONS_MAX);
        ASSERT(bytes == 8 + payload->table.region_count * sizeof(struct vhost_user_region));
        ASSERT(message->handle_count == payload->table.region_count);
        break;
    case VHOST_USER_SET_CONFIG:
        ASSERT(payload->config.size <= VHOST_USER_CONFIG_BYTES_MAX && bytes == 12 + payload->config.size);
        break;
    case VHOST_USER_SET_VRING_KICK:
    case VHOST_USER_SET_VRING_CALL:
    case VHOST_USER_SET_VRING_ERR:
        ASSERT(bytes == 8);
        ASSERT(message->handle_count == ((payload->u64 & VHOST_USER_VRING_NO_FD) != 0 ? 0 : 1));
        break;
    case VHOST_USER_ADD_MEM_REG:
        ASSERT(bytes == sizeof(struct vhost_user_single_region) && message->handle_count == 1);
        break;
    case VHOST_USER_SET_INFLIGHT_FD:
        ASSERT(bytes >= VHOST_USER_INFLIGHT_BYTES && message->handle_count == 1);
        break;
    default:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vhost_user_header header;
    if (size < sizeof(header) + 1)
        return 0;
    memcpy(&header, data, sizeof(header));
    unsigned handle_count = data[sizeof(header)] % (VHOST_USER_HANDLES_MAX + 1);
    data += sizeof(header) + 1;
    size -= sizeof(header) + 1;

    const char *name = vhost_user_request_name(header.request);
    ASSERT(name != NULL && name[0] != '\0');
    int r = vhost_user_header_check(&header);
    ASSERT(r == -EPROTO || r == -EMSGSIZE || (r == (int)header.size && r <= (int)VHOST_USER_PAYLOAD_BYTES_MAX));
    if (r < 0)
        return 0;

    /* Fresh memory, so that what was not sent is unknown to a memory sanitizer too. */
    struct vhost_user_message *message = malloc(sizeof(*message));
    ASSERT(message != NULL);
    message->header = header;
    message->handle_count = handle_count;
    memset(message->payload.bytes, 0xa5, sizeof(message->payload.bytes));
    memcpy(message->payload.bytes, data, size_min(size, header.size));
    r = vhost_user_message_check(message);
    ASSERT(r == 0 || r == -EOPNOTSUPP || r == -EBADMSG);
    if (r == 0) {
        ASSERT(strcmp(name, "unknown") != 0);
        check_accepted(message);
    }
    (void)vhost_user_has_reply(header.request);
    free(message);
    return 0;
}
