/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The clock for rate limits: it never goes back. */
#ifndef PLATFORM_LINUX_CLOCK_H
#define PLATFORM_LINUX_CLOCK_H

#include <stdint.h>

uint64_t clock_now_ns(void);

#endif
