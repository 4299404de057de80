/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What decides whether an image is served is its guest's to write. The input's first two bytes say how many bytes there
 * are before the head ends and the tail begins; each part is a block of its own, so that a byte read past it is seen.
 */
#include <stdlib.h>

#include "platform/linux/disk_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t *copy(const uint8_t *bytes, size_t count)
{
    uint8_t *block = malloc(count > 0 ? count : 1);
    ASSERT(block != NULL);
    memcpy(block, bytes, count);
    return block;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    size_t head_bytes = size_min(size_min(get_le16(data), DISK_FORMAT_HEAD_BYTES), size - 2);
    size_t tail_bytes = size_min(size - 2 - head_bytes, DISK_FORMAT_TAIL_BYTES);
    uint8_t *head = copy(data + 2, head_bytes);
    uint8_t *tail = copy(data + 2 + head_bytes, tail_bytes);

    const struct disk_format *format = disk_format_detect(head, head_bytes, tail, tail_bytes, size);
    if (format != NULL)
        ASSERT(format->title[0] != '\0' && format->qemu_name[0] != '\0');
    /* No format is told by nothing. */
    ASSERT(disk_format_detect(head, 0, tail, 0, size) == NULL);
    free(head);
    free(tail);
    return 0;
}
