/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * vhost-user on the wire (QEMU's docs/interop/vhost-user): numbers, payloads, and the checks that need nothing but the
 * bytes. All fields are in the machine's own byte order. File descriptors are handles: opaque integers, each with one
 * owner; -1 is none.
 */
#ifndef TRANSPORTS_VHOST_USER_MESSAGE_H
#define TRANSPORTS_VHOST_USER_MESSAGE_H

#include <assert.h>

#include "base/base.h"

/* The index in SET_VRING_KICK has 8 bits; no device of ours has more queues than blk. */
#define VHOST_USER_QUEUES_MAX 64

enum vhost_user_request {
    VHOST_USER_GET_FEATURES = 1,
    VHOST_USER_SET_FEATURES = 2,
    VHOST_USER_SET_OWNER = 3,
    VHOST_USER_RESET_OWNER = 4,
    VHOST_USER_SET_MEM_TABLE = 5,
    VHOST_USER_SET_LOG_BASE = 6,
    VHOST_USER_SET_LOG_FD = 7,
    VHOST_USER_SET_VRING_NUM = 8,
    VHOST_USER_SET_VRING_ADDR = 9,
    VHOST_USER_SET_VRING_BASE = 10,
    VHOST_USER_GET_VRING_BASE = 11,
    VHOST_USER_SET_VRING_KICK = 12,
    VHOST_USER_SET_VRING_CALL = 13,
    VHOST_USER_SET_VRING_ERR = 14,
    VHOST_USER_GET_PROTOCOL_FEATURES = 15,
    VHOST_USER_SET_PROTOCOL_FEATURES = 16,
    VHOST_USER_GET_QUEUE_NUM = 17,
    VHOST_USER_SET_VRING_ENABLE = 18,
    VHOST_USER_SEND_RARP = 19,
    VHOST_USER_NET_SET_MTU = 20,
    VHOST_USER_SET_BACKEND_REQ_FD = 21,
    VHOST_USER_IOTLB_MSG = 22,
    VHOST_USER_SET_VRING_ENDIAN = 23,
    VHOST_USER_GET_CONFIG = 24,
    VHOST_USER_SET_CONFIG = 25,
    VHOST_USER_CREATE_CRYPTO_SESSION = 26,
    VHOST_USER_CLOSE_CRYPTO_SESSION = 27,
    VHOST_USER_POSTCOPY_ADVISE = 28,
    VHOST_USER_POSTCOPY_LISTEN = 29,
    VHOST_USER_POSTCOPY_END = 30,
    VHOST_USER_GET_INFLIGHT_FD = 31,
    VHOST_USER_SET_INFLIGHT_FD = 32,
    VHOST_USER_GPU_SET_SOCKET = 33,
    VHOST_USER_RESET_DEVICE = 34,
    VHOST_USER_VRING_KICK = 35,
    VHOST_USER_GET_MAX_MEM_SLOTS = 36,
    VHOST_USER_ADD_MEM_REG = 37,
    VHOST_USER_REM_MEM_REG = 38,
    VHOST_USER_SET_STATUS = 39,
    VHOST_USER_GET_STATUS = 40,
    VHOST_USER_GET_SHARED_OBJECT = 41,
    VHOST_USER_SET_DEVICE_STATE_FD = 42,
    VHOST_USER_CHECK_DEVICE_STATE = 43,
    VHOST_USER_GET_SHMEM_CONFIG = 44,
};

/* What a back end asks of the front end, on the channel of SET_BACKEND_REQ_FD. */
enum vhost_user_backend_request {
    VHOST_USER_BACKEND_IOTLB_MSG = 1,
    VHOST_USER_BACKEND_CONFIG_CHANGE_MSG = 2,
    VHOST_USER_BACKEND_VRING_HOST_NOTIFIER_MSG = 3,
};

/* Feature bits that belong to vhost, in GET_FEATURES and SET_FEATURES. */
#define VHOST_F_LOG_ALL (UINT64_C(1) << 26)
#define VHOST_USER_F_PROTOCOL_FEATURES (UINT64_C(1) << 30)

#define VHOST_USER_PROTOCOL_F_MQ (UINT64_C(1) << 0)
#define VHOST_USER_PROTOCOL_F_LOG_SHMFD (UINT64_C(1) << 1)
#define VHOST_USER_PROTOCOL_F_REPLY_ACK (UINT64_C(1) << 3)
#define VHOST_USER_PROTOCOL_F_BACKEND_REQ (UINT64_C(1) << 5)
#define VHOST_USER_PROTOCOL_F_CONFIG (UINT64_C(1) << 9)
#define VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD (UINT64_C(1) << 10)
#define VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD (UINT64_C(1) << 12)
#define VHOST_USER_PROTOCOL_F_RESET_DEVICE (UINT64_C(1) << 13)
#define VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS (UINT64_C(1) << 15)
#define VHOST_USER_PROTOCOL_F_STATUS (UINT64_C(1) << 16)

#define VHOST_USER_VERSION 1
#define VHOST_USER_FLAG_VERSION_MASK 3u
#define VHOST_USER_FLAG_REPLY 4u
#define VHOST_USER_FLAG_NEED_REPLY 8u

struct vhost_user_header {
    uint32_t request;
    uint32_t flags;
    uint32_t size; /* of the payload */
};
static_assert(sizeof(struct vhost_user_header) == 12, "vhost-user, Header");
#define VHOST_USER_HEADER_BYTES 12

/* SET_VRING_KICK, CALL, ERR, and the area's u64: index, and "no descriptor comes with this". */
#define VHOST_USER_VRING_INDEX_MASK UINT64_C(0xff)
#define VHOST_USER_VRING_NO_FD UINT64_C(0x100)

struct vhost_user_vring_state {
    uint32_t index;
    uint32_t num;
};
static_assert(sizeof(struct vhost_user_vring_state) == 8, "vhost-user, vring state");

#define VHOST_USER_VRING_F_LOG 1u

struct vhost_user_vring_address {
    uint32_t index;
    uint32_t flags;
    uint64_t desc; /* front-end addresses */
    uint64_t used;
    uint64_t avail;
    uint64_t log; /* guest address for logging the used ring */
};
static_assert(sizeof(struct vhost_user_vring_address) == 40, "vhost-user, vring address");

struct vhost_user_region {
    uint64_t guest_base;
    uint64_t size;
    uint64_t frontend_base;
    uint64_t mmap_offset;
};
static_assert(sizeof(struct vhost_user_region) == 32, "vhost-user, memory region");

/* SET_MEM_TABLE carries at most this many, each with one descriptor. */
#define VHOST_USER_TABLE_REGIONS_MAX 8

struct vhost_user_memory_table {
    uint32_t region_count;
    uint32_t padding;
    struct vhost_user_region regions[VHOST_USER_TABLE_REGIONS_MAX]; /* region_count of them on the wire */
};
static_assert(sizeof(struct vhost_user_memory_table) == 264, "vhost-user, memory regions");

struct vhost_user_single_region {
    uint64_t padding;
    struct vhost_user_region region;
};
static_assert(sizeof(struct vhost_user_single_region) == 40, "vhost-user, single memory region");

struct vhost_user_log {
    uint64_t size;
    uint64_t offset;
};
static_assert(sizeof(struct vhost_user_log) == 16, "vhost-user, log");

#define VHOST_USER_CONFIG_BYTES_MAX 256

struct vhost_user_config {
    uint32_t offset;
    uint32_t size;
    uint32_t flags;
    uint8_t bytes[VHOST_USER_CONFIG_BYTES_MAX]; /* size of them on the wire */
};
static_assert(offsetof(struct vhost_user_config, bytes) == 12, "vhost-user, config space");

struct vhost_user_inflight {
    uint64_t mmap_size;
    uint64_t mmap_offset;
    uint16_t queue_count;
    uint16_t queue_size;
    uint32_t padding; /* C's own; front ends send 20 or 24 bytes */
};
static_assert(sizeof(struct vhost_user_inflight) == 24, "vhost-user, inflight");
#define VHOST_USER_INFLIGHT_BYTES 20

union vhost_user_payload {
    uint64_t u64;
    struct vhost_user_vring_state state;
    struct vhost_user_vring_address address;
    struct vhost_user_memory_table table;
    struct vhost_user_single_region region;
    struct vhost_user_log log;
    struct vhost_user_config config;
    struct vhost_user_inflight inflight;
    uint8_t bytes[sizeof(struct vhost_user_config)];
};

/* A payload is never larger: what a header may ask us to read. */
#define VHOST_USER_PAYLOAD_BYTES_MAX sizeof(struct vhost_user_config)
/* Descriptors that one message may bring. */
#define VHOST_USER_HANDLES_MAX VHOST_USER_TABLE_REGIONS_MAX

struct vhost_user_message {
    struct vhost_user_header header;
    union vhost_user_payload payload; /* header.size bytes are valid */
    unsigned handle_count;
    int handles[VHOST_USER_HANDLES_MAX]; /* owned by whoever holds the message; -1 once taken */
};

/* Memory of the other side, mapped by a port. @base and @bytes are what was asked for; the port may have mapped more
 * around it. */
struct vhost_user_mapping {
    uint8_t *base;
    uint64_t bytes;
    uint64_t owner; /* the port's own: which mapping to undo */
};

/*
 * Judge a header as it came: returns how many bytes of payload follow. -EPROTO: not version 1, or a reply where a
 * request belongs. -EMSGSIZE: more than any message has. The stream cannot be followed after either.
 */
int vhost_user_header_check(const struct vhost_user_header *header);

/*
 * Judge a whole message against its type: size of the payload and number of handles. 0: fine. -EOPNOTSUPP: a type that
 * is unknown or not served here. -EBADMSG: the size or the number of descriptors is wrong.
 */
int vhost_user_message_check(const struct vhost_user_message *message);

/* The same two for answers, as a front end gets them: the header of one, */
int vhost_user_reply_header_check(const struct vhost_user_header *header);
/*
 * and the whole of one to @request, its acknowledgement by REPLY_ACK or the answer of its own. 0: fine, which a refusal
 * in due form is too. -EPROTO: it answers something else. -EBADMSG: the size or the number of descriptors is wrong.
 */
int vhost_user_reply_check(const struct vhost_user_message *reply, uint32_t request, bool is_acknowledge);

/* Does the protocol itself demand an answer to this type, REPLY_ACK or not? */
bool vhost_user_has_reply(uint32_t request);

/* "GET_FEATURES"; "unknown" for others. For logs and errors. */
const char *vhost_user_request_name(uint32_t request);

#endif
