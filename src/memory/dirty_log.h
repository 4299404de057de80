/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The log of pages a back end wrote, in vhost-user's format ("Migration" in the protocol's text): page n of 4 KiB is
 * bit n % 8 of byte n / 8. The front end reads and clears the bits at the same time, so they are set atomically.
 * A page is marked after the device's write to it is complete, or a copy in between would be missed.
 */
#ifndef MEMORY_DIRTY_LOG_H
#define MEMORY_DIRTY_LOG_H

#include "base/base.h"

#define DIRTY_LOG_PAGE_BYTES 4096

struct dirty_log {
    uint8_t *bits;       /* borrowed; shared with the front end */
    uint64_t size_bytes; /* of bits */
};

/*
 * Mark every page that [@address, @address + @length) touches. Pages past the log's end are left out: the front end
 * chose its size. @log may be NULL (nothing is logged). From any thread; never blocks.
 */
void dirty_log_mark(const struct dirty_log *log, uint64_t address, uint64_t length);

#endif
