/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A device's saved state as bytes: records of {tag u32, version u16, reserved u16, length u32, payload}, little-endian.
 * A reader skips tags it does not know and refuses versions that are newer than its own, so old and new understand each
 * other as far as they can. Used for orderly transfer: after all queues have stopped.
 */
#ifndef BASE_STATE_H
#define BASE_STATE_H

#include "base/base.h"

#define STATE_RECORD_HEADER_BYTES 12
/* A record larger than this is no state of ours. */
#define STATE_RECORD_BYTES_MAX (1u << 20)

struct state_writer {
    uint8_t *bytes; /* borrowed */
    size_t size;    /* room */
    size_t used;
};

/* Append a record. -ENOSPC: no room; nothing is written. */
int state_put(struct state_writer *writer, uint32_t tag, uint16_t version, const void *payload, size_t length);

/*
 * A record whose payload comes in pieces, or is records itself: begin, append and put, end. @result of state_end is
 * what came of the pieces; unless it is 0, or the payload is larger than STATE_RECORD_BYTES_MAX (-ENOSPC), the whole
 * record is taken back. Answers @result, or that.
 */
int state_begin(struct state_writer *writer, uint32_t tag, uint16_t version, size_t *ret_mark);
int state_append(struct state_writer *writer, const void *bytes, size_t length);
int state_end(struct state_writer *writer, size_t mark, int result);

struct state_reader {
    const uint8_t *bytes; /* borrowed */
    size_t size;
    size_t used;
};

struct state_record {
    uint32_t tag;
    uint16_t version;
    uint32_t length;
    const uint8_t *payload; /* in the reader's bytes */
};

/* The next record: 1, or 0 at the end, or -EBADMSG when the bytes are no records. */
int state_next(struct state_reader *reader, struct state_record *ret_record);

#endif
