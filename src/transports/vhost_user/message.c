/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "transports/vhost_user/message.h"

#include <errno.h>

/* A payload that ends with as many elements as its head says: judged apart, by the code below. */
#define CONFIG_HEAD_BYTES offsetof(struct vhost_user_config, bytes)
#define TABLE_HEAD_BYTES offsetof(struct vhost_user_memory_table, regions)

struct request_rule {
    const char *name; /* NULL: no such request */
    uint16_t size_min, size_max;
    uint8_t handles_min, handles_max;
    bool served;
    bool has_reply;
};

/* Requests served: sizes and descriptors as the protocol's text has them under "Front-end message types". */
#define SERVED(name_, min_, max_, handles_min_, handles_max_, has_reply_)                                              \
    {                                                                                                                  \
        .name = (name_), .size_min = (min_), .size_max = (max_), .handles_min = (handles_min_),                        \
        .handles_max = (handles_max_), .served = true, .has_reply = (has_reply_)                                       \
    }
/* Known, for their name and for whether somebody waits for an answer, but none that we offer. */
#define KNOWN(name_, has_reply_)                                                                                       \
    {                                                                                                                  \
        .name = (name_), .has_reply = (has_reply_)                                                                     \
    }

static const struct request_rule rules[] = {
    [VHOST_USER_GET_FEATURES] = SERVED("GET_FEATURES", 0, 0, 0, 0, true),
    [VHOST_USER_SET_FEATURES] = SERVED("SET_FEATURES", 8, 8, 0, 0, false),
    [VHOST_USER_SET_OWNER] = SERVED("SET_OWNER", 0, 0, 0, 0, false),
    [VHOST_USER_RESET_OWNER] = SERVED("RESET_OWNER", 0, 0, 0, 0, false),
    [VHOST_USER_SET_MEM_TABLE] = SERVED("SET_MEM_TABLE", TABLE_HEAD_BYTES, sizeof(struct vhost_user_memory_table), 0,
                                        VHOST_USER_TABLE_REGIONS_MAX, false),
    /* Answered by the protocol itself only once LOG_SHMFD is negotiated; without it an address of 8 bytes comes. */
    [VHOST_USER_SET_LOG_BASE] = SERVED("SET_LOG_BASE", 8, sizeof(struct vhost_user_log), 0, 1, false),
    /* Said to have no payload; front ends that carry over the u64 of the ioctl are understood. */
    [VHOST_USER_SET_LOG_FD] = SERVED("SET_LOG_FD", 0, 8, 1, 1, false),
    [VHOST_USER_SET_VRING_NUM] = SERVED("SET_VRING_NUM", 8, 8, 0, 0, false),
    [VHOST_USER_SET_VRING_ADDR] = SERVED("SET_VRING_ADDR", 40, 40, 0, 0, false),
    [VHOST_USER_SET_VRING_BASE] = SERVED("SET_VRING_BASE", 8, 8, 0, 0, false),
    [VHOST_USER_GET_VRING_BASE] = SERVED("GET_VRING_BASE", 8, 8, 0, 0, true),
    [VHOST_USER_SET_VRING_KICK] = SERVED("SET_VRING_KICK", 8, 8, 0, 1, false),
    [VHOST_USER_SET_VRING_CALL] = SERVED("SET_VRING_CALL", 8, 8, 0, 1, false),
    [VHOST_USER_SET_VRING_ERR] = SERVED("SET_VRING_ERR", 8, 8, 0, 1, false),
    [VHOST_USER_GET_PROTOCOL_FEATURES] = SERVED("GET_PROTOCOL_FEATURES", 0, 0, 0, 0, true),
    [VHOST_USER_SET_PROTOCOL_FEATURES] = SERVED("SET_PROTOCOL_FEATURES", 8, 8, 0, 0, false),
    [VHOST_USER_GET_QUEUE_NUM] = SERVED("GET_QUEUE_NUM", 0, 0, 0, 0, true),
    [VHOST_USER_SET_VRING_ENABLE] = SERVED("SET_VRING_ENABLE", 8, 8, 0, 0, false),
    [VHOST_USER_SEND_RARP] = KNOWN("SEND_RARP", false),
    [VHOST_USER_NET_SET_MTU] = KNOWN("NET_SET_MTU", false),
    [VHOST_USER_SET_BACKEND_REQ_FD] = SERVED("SET_BACKEND_REQ_FD", 0, 0, 1, 1, false),
    [VHOST_USER_IOTLB_MSG] = KNOWN("IOTLB_MSG", true),
    [VHOST_USER_SET_VRING_ENDIAN] = KNOWN("SET_VRING_ENDIAN", false),
    [VHOST_USER_GET_CONFIG] =
        SERVED("GET_CONFIG", CONFIG_HEAD_BYTES, CONFIG_HEAD_BYTES + VHOST_USER_CONFIG_BYTES_MAX, 0, 0, true),
    [VHOST_USER_SET_CONFIG] =
        SERVED("SET_CONFIG", CONFIG_HEAD_BYTES, CONFIG_HEAD_BYTES + VHOST_USER_CONFIG_BYTES_MAX, 0, 0, false),
    [VHOST_USER_CREATE_CRYPTO_SESSION] = KNOWN("CREATE_CRYPTO_SESSION", true),
    [VHOST_USER_CLOSE_CRYPTO_SESSION] = KNOWN("CLOSE_CRYPTO_SESSION", false),
    [VHOST_USER_POSTCOPY_ADVISE] = KNOWN("POSTCOPY_ADVISE", true),
    [VHOST_USER_POSTCOPY_LISTEN] = KNOWN("POSTCOPY_LISTEN", false),
    [VHOST_USER_POSTCOPY_END] = KNOWN("POSTCOPY_END", true),
    [VHOST_USER_GET_INFLIGHT_FD] =
        SERVED("GET_INFLIGHT_FD", VHOST_USER_INFLIGHT_BYTES, sizeof(struct vhost_user_inflight), 0, 0, true),
    [VHOST_USER_SET_INFLIGHT_FD] =
        SERVED("SET_INFLIGHT_FD", VHOST_USER_INFLIGHT_BYTES, sizeof(struct vhost_user_inflight), 1, 1, false),
    [VHOST_USER_GPU_SET_SOCKET] = KNOWN("GPU_SET_SOCKET", false),
    [VHOST_USER_RESET_DEVICE] = SERVED("RESET_DEVICE", 0, 0, 0, 0, false),
    [VHOST_USER_VRING_KICK] = KNOWN("VRING_KICK", false),
    [VHOST_USER_GET_MAX_MEM_SLOTS] = SERVED("GET_MAX_MEM_SLOTS", 0, 0, 0, 0, true),
    [VHOST_USER_ADD_MEM_REG] = SERVED("ADD_MEM_REG", 40, 40, 1, 1, false),
    /* No descriptor should come; one is accepted and closed, since known front ends send it. */
    [VHOST_USER_REM_MEM_REG] = SERVED("REM_MEM_REG", 40, 40, 0, 1, false),
    [VHOST_USER_SET_STATUS] = SERVED("SET_STATUS", 8, 8, 0, 0, false),
    [VHOST_USER_GET_STATUS] = SERVED("GET_STATUS", 0, 0, 0, 0, true),
    [VHOST_USER_GET_SHARED_OBJECT] = KNOWN("GET_SHARED_OBJECT", true),
    [VHOST_USER_SET_DEVICE_STATE_FD] = KNOWN("SET_DEVICE_STATE_FD", true),
    [VHOST_USER_CHECK_DEVICE_STATE] = KNOWN("CHECK_DEVICE_STATE", true),
    [VHOST_USER_GET_SHMEM_CONFIG] = KNOWN("GET_SHMEM_CONFIG", true),
};

/* The rule of @request, or NULL when there is no such request. */
static const struct request_rule *rule_of(uint32_t request)
{
    if (request >= ARRAY_SIZE(rules))
        return NULL;
    const struct request_rule *rule = &rules[index_mask(request, ARRAY_SIZE(rules))];
    return rule->name != NULL ? rule : NULL;
}

int vhost_user_header_check(const struct vhost_user_header *header)
{
    if ((header->flags & VHOST_USER_FLAG_VERSION_MASK) != VHOST_USER_VERSION)
        return -EPROTO;
    if ((header->flags & VHOST_USER_FLAG_REPLY) != 0)
        return -EPROTO;
    if (header->size > VHOST_USER_PAYLOAD_BYTES_MAX)
        return -EMSGSIZE;
    return (int)header->size;
}

/* What the general rule cannot say: lengths and descriptors that depend on the payload. */
static int check_payload(const struct vhost_user_message *message)
{
    const union vhost_user_payload *payload = &message->payload;
    uint32_t size = message->header.size;

    switch (message->header.request) {
    case VHOST_USER_SET_MEM_TABLE: {
        uint32_t count = payload->table.region_count;
        if (count > VHOST_USER_TABLE_REGIONS_MAX)
            return -EBADMSG;
        if (size != TABLE_HEAD_BYTES + count * sizeof(struct vhost_user_region) || message->handle_count != count)
            return -EBADMSG;
        return 0;
    }
    case VHOST_USER_SET_LOG_BASE:
    case VHOST_USER_SET_LOG_FD:
        return size % 8 == 0 ? 0 : -EBADMSG;
    case VHOST_USER_SET_VRING_KICK:
    case VHOST_USER_SET_VRING_CALL:
    case VHOST_USER_SET_VRING_ERR: {
        bool without = (payload->u64 & VHOST_USER_VRING_NO_FD) != 0;
        return without == (message->handle_count == 0) ? 0 : -EBADMSG;
    }
    case VHOST_USER_SET_CONFIG:
        return size - CONFIG_HEAD_BYTES == payload->config.size ? 0 : -EBADMSG;
    case VHOST_USER_GET_INFLIGHT_FD:
    case VHOST_USER_SET_INFLIGHT_FD:
        return size == VHOST_USER_INFLIGHT_BYTES || size == sizeof(struct vhost_user_inflight) ? 0 : -EBADMSG;
    default:
        return 0;
    }
}

int vhost_user_message_check(const struct vhost_user_message *message)
{
    const struct request_rule *rule = rule_of(message->header.request);
    if (rule == NULL || !rule->served)
        return -EOPNOTSUPP;
    if (message->header.size < rule->size_min || message->header.size > rule->size_max)
        return -EBADMSG;
    if (message->handle_count < rule->handles_min || message->handle_count > rule->handles_max)
        return -EBADMSG;
    return check_payload(message);
}

int vhost_user_reply_header_check(const struct vhost_user_header *header)
{
    if ((header->flags & VHOST_USER_FLAG_VERSION_MASK) != VHOST_USER_VERSION)
        return -EPROTO;
    if ((header->flags & VHOST_USER_FLAG_REPLY) == 0)
        return -EPROTO;
    if (header->size > VHOST_USER_PAYLOAD_BYTES_MAX)
        return -EMSGSIZE;
    return (int)header->size;
}

/* An answer of the request's own. */
static int check_own_reply(const struct vhost_user_message *reply)
{
    uint32_t size = reply->header.size;
    switch (reply->header.request) {
    case VHOST_USER_GET_VRING_BASE:
        return size == sizeof(struct vhost_user_vring_state) ? 0 : -EBADMSG;
    case VHOST_USER_GET_CONFIG:
        /* A refusal has no payload, or one that says so. */
        if (size == 0)
            return 0;
        if (size < CONFIG_HEAD_BYTES)
            return -EBADMSG;
        return size - CONFIG_HEAD_BYTES == reply->payload.config.size || reply->payload.config.size == 0 ? 0 : -EBADMSG;
    case VHOST_USER_GET_INFLIGHT_FD:
        if (size != VHOST_USER_INFLIGHT_BYTES && size != sizeof(struct vhost_user_inflight))
            return -EBADMSG;
        /* A refusal has a size of zero. */
        return reply->handle_count == 1 || (reply->handle_count == 0 && reply->payload.inflight.mmap_size == 0)
                   ? 0
                   : -EBADMSG;
    case VHOST_USER_SET_LOG_BASE:
        /* The text has no payload for it; back ends send a number, or back what came. */
        return size <= sizeof(struct vhost_user_log) ? 0 : -EBADMSG;
    default:
        return size == sizeof(uint64_t) ? 0 : -EBADMSG;
    }
}

int vhost_user_reply_check(const struct vhost_user_message *reply, uint32_t request, bool is_acknowledge)
{
    if (reply->header.request != request)
        return -EPROTO;
    if (reply->handle_count > 0 && (is_acknowledge || request != VHOST_USER_GET_INFLIGHT_FD))
        return -EBADMSG;
    if (is_acknowledge)
        return reply->header.size == sizeof(uint64_t) ? 0 : -EBADMSG;
    return check_own_reply(reply);
}

bool vhost_user_has_reply(uint32_t request)
{
    const struct request_rule *rule = rule_of(request);
    return rule != NULL && rule->has_reply;
}

const char *vhost_user_request_name(uint32_t request)
{
    const struct request_rule *rule = rule_of(request);
    return rule != NULL ? rule->name : "unknown";
}
