/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A vhost-user front end on a port that remembers, and a back end in front of it that is played by hand: it answers as
 * it should, or as the test says. For unit tests of the front end and its fuzz harness.
 */
#ifndef TESTS_SUPPORT_FRONTEND_RIG_H
#define TESTS_SUPPORT_FRONTEND_RIG_H

#include "transports/vhost_user/frontend.h"
#include "virtio/virtq_record.h"

#define FRIG_MESSAGES_MAX 4096
#define FRIG_QUEUES 4
#define FRIG_MEMORY_BYTES 0x100000
#define FRIG_GUEST_BASE UINT64_C(0x80000000)
#define FRIG_CONFIG_BYTES 16
#define FRIG_RECORD_BYTES 0x10000
#define FRIG_RING(n) (FRIG_GUEST_BASE + 0x1000 * ((n) + 1))
#define FRIG_RING_SIZE 16

#define FRIG_FEATURE (UINT64_C(1) << 5)
#define FRIG_ALL_PROTOCOL_FEATURES                                                                                     \
    (VHOST_USER_PROTOCOL_F_MQ | VHOST_USER_PROTOCOL_F_LOG_SHMFD | VHOST_USER_PROTOCOL_F_REPLY_ACK |                    \
     VHOST_USER_PROTOCOL_F_BACKEND_REQ | VHOST_USER_PROTOCOL_F_CONFIG | VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD |        \
     VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD | VHOST_USER_PROTOCOL_F_RESET_DEVICE |                                       \
     VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS | VHOST_USER_PROTOCOL_F_STATUS)

/* Handles of the rig: lines that live as long as it does, and those that are made, each of which must be closed. */
#define FRIG_KICK(n) (100 + (n))
#define FRIG_CALL(n) (200 + (n))
#define FRIG_ERROR 300
#define FRIG_MEMORY 301
#define FRIG_MADE 1000 /* and above */
#define FRIG_MADE_MAX 4096

struct frig {
    struct vhost_user_frontend_port port;
    struct virtio_listener listener;
    struct vhost_user_frontend frontend;
    struct vhost_user_frontend_region region;
    uint8_t *memory; /* FRIG_MEMORY_BYTES */
    uint8_t *record; /* FRIG_RECORD_BYTES: whatever handle is mapped */
    bool map_fails, channel_fails;
    bool no_notify_handles;
    /* what was sent and not answered yet */
    struct vhost_user_message messages[FRIG_MESSAGES_MAX];
    unsigned message_count, message_next;
    unsigned sent_total[64]; /* by request */
    struct vhost_user_message last[64];
    struct vhost_user_message last_answer; /* on the channel */
    unsigned answer_count;
    bool made_open[FRIG_MADE_MAX];
    int made_count;
    int mappings;
    unsigned signals[512]; /* by handle, below FRIG_MADE */
    unsigned hang_ups, greetings, settled, broken;
    const char *hang_up_reason;
    /* what the listener was told */
    unsigned stopped[FRIG_QUEUES], resets, configs, broken_told;
    /* the back end */
    uint64_t features, protocol_features, queue_count, slots;
    uint8_t config[FRIG_CONFIG_BYTES];
    uint32_t bases[FRIG_QUEUES];
    uint32_t refuse; /* this request, by its acknowledgement */
    bool no_record;  /* GET_INFLIGHT_FD is refused */
    bool no_config;
};

/* Allocated, with a back end that can do everything. Not connected. @queue_count and the rest as in the config. */
struct frig *frig_open(const struct vhost_user_frontend_config *config);
/* As most tests want it: FRIG_QUEUES queues, FRIG_CONFIG_BYTES of configuration, one region. */
struct frig *frig_open_usual(void);
/* Checks that everything was given back. */
void frig_close(struct frig *rig);

/* Connect, and let the back end answer until it has nothing to say. */
void frig_connect(struct frig *rig);
void frig_serve(struct frig *rig);
/* Answer the oldest message that wants an answer; false: there is none. */
bool frig_serve_one(struct frig *rig);
/* An answer as it is said. Handles: as many made ones. */
void frig_reply(struct frig *rig, uint32_t request, const void *payload, uint32_t size, unsigned handle_count);
void frig_reply_u64(struct frig *rig, uint32_t request, uint64_t value);

/* The driver chooses @features, and starts queue @index at @base; laid out in the rig's memory. */
void frig_choose(struct frig *rig, uint64_t features);
int frig_start(struct frig *rig, unsigned index, uint32_t base);
struct virtqueue_config frig_ring(const struct frig *rig, unsigned index);
void frig_set_used(struct frig *rig, unsigned index, uint16_t used);

#endif
