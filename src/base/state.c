/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "base/state.h"

#include <errno.h>

int state_put(struct state_writer *writer, uint32_t tag, uint16_t version, const void *payload, size_t length)
{
    size_t room = writer->size - writer->used;
    ASSERT(length <= STATE_RECORD_BYTES_MAX);
    if (room < STATE_RECORD_HEADER_BYTES || length > room - STATE_RECORD_HEADER_BYTES)
        return -ENOSPC;

    uint8_t *header = writer->bytes + writer->used;
    put_le32(header, tag);
    put_le16(header + 4, version);
    put_le16(header + 6, 0);
    put_le32(header + 8, (uint32_t)length);
    if (length > 0)
        memcpy(header + STATE_RECORD_HEADER_BYTES, payload, length);
    writer->used += STATE_RECORD_HEADER_BYTES + length;
    return 0;
}

int state_begin(struct state_writer *writer, uint32_t tag, uint16_t version, size_t *ret_mark)
{
    size_t mark = writer->used;
    int r = state_put(writer, tag, version, NULL, 0);
    if (r == 0)
        *ret_mark = mark;
    return r;
}

int state_append(struct state_writer *writer, const void *bytes, size_t length)
{
    if (length > writer->size - writer->used)
        return -ENOSPC;
    if (length > 0)
        memcpy(writer->bytes + writer->used, bytes, length);
    writer->used += length;
    return 0;
}

int state_end(struct state_writer *writer, size_t mark, int result)
{
    size_t length = writer->used - mark - STATE_RECORD_HEADER_BYTES;
    if (result == 0 && length > STATE_RECORD_BYTES_MAX)
        result = -ENOSPC;
    if (result == 0)
        put_le32(writer->bytes + mark + 8, (uint32_t)length);
    else
        writer->used = mark;
    return result;
}

int state_next(struct state_reader *reader, struct state_record *ret_record)
{
    size_t left = reader->size - reader->used;
    if (left == 0)
        return 0;
    if (left < STATE_RECORD_HEADER_BYTES)
        return -EBADMSG;

    const uint8_t *header = reader->bytes + reader->used;
    uint32_t length = get_le32(header + 8);
    if (get_le16(header + 6) != 0 || length > STATE_RECORD_BYTES_MAX || length > left - STATE_RECORD_HEADER_BYTES)
        return -EBADMSG;
    *ret_record = (struct state_record){
        .tag = get_le32(header),
        .version = get_le16(header + 4),
        .length = length,
        .payload = header + STATE_RECORD_HEADER_BYTES,
    };
    reader->used += STATE_RECORD_HEADER_BYTES + length;
    return 1;
}
