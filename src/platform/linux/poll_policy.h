/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * How long a queue with nothing to do looks on before it goes to sleep: docs/polling.md has the arithmetic, and
 * docs/decisions/0009-adaptive-polling.md the reasons. It has no clock: it is told what was measured, and answers. One
 * for each queue, on the queue's thread.
 */
#ifndef PLATFORM_LINUX_POLL_POLICY_H
#define PLATFORM_LINUX_POLL_POLICY_H

#include "base/base.h"

/* The longest look. Work that comes later than this after the queue went idle is worth a sleep on every machine. */
#define POLL_LOOK_NS_MAX 200000u

/* What may be looked away at most before it was earned, and what may be saved up: two of the longest looks. */
#define POLL_CREDIT_NS_MAX (2 * POLL_LOOK_NS_MAX)

/* After looks in vain a sleep earns 1/2, 1/4, … of its price; never less than 1/64, or a look would never come again.
 */
#define POLL_SHARE_SHIFT_MAX 6u

/*
 * The price of a sleep and the wake that ends it, in processor time of this thread: a guess to begin with, and the
 * bounds of what is believed. A microsecond or two on bare metal, ten in a virtual machine.
 */
#define POLL_PRICE_NS_FIRST 2000u
#define POLL_PRICE_NS_MIN 500u
#define POLL_PRICE_NS_MAX 50000u

/* A look is worth its while up to so many prices: to wake us costs the driver about what waking costs us. */
#define POLL_WORTH_PRICES 2u

/* The first sleeps are all measured, then one in so many: to measure costs two system calls. */
#define POLL_SAMPLES_FIRST 8u
#define POLL_SAMPLE_EVERY 32u

struct poll_policy {
    uint32_t price_ns;  /* of a sleep, as measured lately */
    uint32_t reach_ns;  /* looking for this long would have met the work that came lately; 0: it came too late */
    uint32_t credit_ns; /* what looks may cost now */
    uint8_t share_shift;
    uint8_t samples;    /* of the price, up to POLL_SAMPLES_FIRST */
    uint8_t unmeasured; /* sleeps since the last sample */
};

void poll_policy_init(struct poll_policy *policy);

/* Nothing is left to do: look for so many ns before sleeping; 0: sleep at once. */
uint32_t poll_policy_look_ns(const struct poll_policy *policy);

/* A look took @looked_ns, and @found says whether there was something in the end. */
void poll_policy_looked(struct poll_policy *policy, uint64_t looked_ns, bool found);

/* Going to sleep: should this one's price be measured? */
bool poll_policy_wants_price(struct poll_policy *policy);
/* It was, and this thread spent @spent_ns on it. */
void poll_policy_price(struct poll_policy *policy, uint64_t spent_ns);

/* A sleep is over: work came @slept_ns after it had begun. */
void poll_policy_slept(struct poll_policy *policy, uint64_t slept_ns);

#endif
