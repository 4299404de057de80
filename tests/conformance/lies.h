/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Lies a front end or a guest can tell, each a function that tells exactly one to a real daemon and returns what came
 * of it. The runner compares that with what must come of it, checks that the daemon lives and serves the next front
 * end, and takes the daemon's own reason from its statistics, which tells the code paths apart.
 */
#ifndef TESTS_CONFORMANCE_LIES_H
#define TESTS_CONFORMANCE_LIES_H

#include "vhost_user_client.h"

enum outcome {
    OUTCOME_NONE,
    OUTCOME_REFUSED,    /* acknowledged as failed; the connection goes on */
    OUTCOME_HUNG_UP,    /* the back end closed the connection */
    OUTCOME_BROKEN,     /* the queue's error line was signalled; the connection goes on */
    OUTCOME_EMPTY,      /* an answer that says "no": length or size zero */
    OUTCOME_BAD_STATUS, /* the request completed with a status other than OK */
    OUTCOME_SERVED,     /* taken, with no harm done */
    OUTCOME_VANISHED,   /* we hung up ourselves */
};

/* How far the honest part goes before the lie. */
enum stage {
    STAGE_CONNECTED,
    STAGE_NEGOTIATED,
    STAGE_MEMORY,  /* the one region is shared */
    STAGE_RUNNING, /* queue 0 runs */
};

struct lie {
    const char *name;
    enum stage stage;
    enum outcome expected;
    enum outcome (*tell)(struct vhost_user_client *client);
};

/* The honest part of packed_lies negotiates packed rings. */
extern const struct lie message_lies[], memory_lies[], ring_lies[], packed_lies[], device_lies[];
extern const unsigned message_lie_count, memory_lie_count, ring_lie_count, packed_lie_count, device_lie_count;

/* Where things lie in the client's memory, as offsets from its guest base. */
#define LIES_GUEST_BASE UINT64_C(0x40000000)
#define LIES_MEMORY_BYTES UINT64_C(0x200000)
#define LIES_RING_OFFSET 0x1000
#define LIES_RING_SIZE 64
#define LIES_HEADER_OFFSET 0x20000
#define LIES_DATA_OFFSET 0x30000
#define LIES_STATUS_OFFSET 0x50000
#define LIES_TABLE_OFFSET 0x60000

static inline uint64_t lies_address(uint64_t offset)
{
    return LIES_GUEST_BASE + offset;
}

/* The message with a demand for acknowledgement, and what came of it. */
enum outcome tell(struct vhost_user_client *client, uint32_t request, const void *payload, uint32_t size,
                  const int *handles, unsigned handle_count);

/* Wait for the queue's error line, while the connection must go on. */
enum outcome wait_broken(struct vhost_user_client *client, unsigned index);

/* Wait until the back end hangs up. */
enum outcome wait_hung_up(struct vhost_user_client *client);

#endif
