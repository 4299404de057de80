/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A rate limit that needs neither sleep nor timer of its own: the generic cell rate algorithm, one atomic word. Queues
 * on several threads share one limit without a lock.
 */
#ifndef BASE_RATE_LIMIT_H
#define BASE_RATE_LIMIT_H

#include <stdatomic.h>

#include "base/base.h"

struct rate_limit {
    uint64_t units_per_s;     /* 0: no limit */
    uint64_t burst_ns;        /* how far it may run ahead after a quiet time */
    _Atomic uint64_t next_ns; /* when the units taken so far will have been earned */
};

/* @units_per_s 0: none. A burst of @burst_ns worth of units is let through after a quiet time. */
void rate_limit_init(struct rate_limit *limit, uint64_t units_per_s, uint64_t burst_ns);

/*
 * May @units go now? True takes them. False takes nothing and sets @ret_at_ns to when to ask again (> @now_ns). As long
 * as the burst is not used up a request goes, however large, and is paid for afterwards: so a large one neither waits
 * for ever nor starves among small ones, and what runs ahead is at most the burst and one request.
 */
bool rate_limit_take(struct rate_limit *limit, uint64_t units, uint64_t now_ns, uint64_t *ret_at_ns);

/* Give back @units that were taken and not used. */
void rate_limit_return(struct rate_limit *limit, uint64_t units);

#endif
