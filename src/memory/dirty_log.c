/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "memory/dirty_log.h"

/*
 * Release: whoever clears the bit and then copies the page finds what the device wrote before it was marked. A bit that
 * is set already is set again all the same: to look first would need a full barrier after the device's write, or the
 * front end could clear the bit and copy the page in between.
 */
static void mark_byte(uint8_t *byte, uint8_t pages)
{
    __atomic_fetch_or(byte, pages, __ATOMIC_RELEASE);
}

void dirty_log_mark(const struct dirty_log *log, uint64_t address, uint64_t length)
{
    if (log == NULL || length == 0)
        return;

    uint64_t last_address;
    if (add_overflows_u64(address, length - 1, &last_address))
        last_address = UINT64_MAX;
    uint64_t first = address / DIRTY_LOG_PAGE_BYTES;
    uint64_t last = last_address / DIRTY_LOG_PAGE_BYTES;
    if (first / 8 >= log->size_bytes)
        return;

    uint8_t *byte = &log->bits[first / 8];
    uint8_t head = (uint8_t)(0xff << first % 8);
    uint8_t tail = (uint8_t)(0xff >> (7 - last % 8));
    if (last / 8 == first / 8) {
        mark_byte(byte, head & tail);
        return;
    }
    bool cut = last / 8 >= log->size_bytes;
    uint8_t *last_byte = &log->bits[cut ? log->size_bytes - 1 : last / 8];
    if (cut)
        tail = 0xff;
    if (byte == last_byte) {
        mark_byte(byte, head);
        return;
    }
    mark_byte(byte, head);
    for (byte++; byte < last_byte; byte++)
        mark_byte(byte, 0xff);
    mark_byte(last_byte, tail);
}
