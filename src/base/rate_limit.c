/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A cell rate algorithm keeps one number: the time by which everything taken so far will have been earned at the set
 * rate. A request may go while that time lies less than the burst ahead of now, and moves it on by the request's own
 * cost. What a request costs does not decide when it goes: if it had to fit into what is left of the burst, small ones
 * of another thread would take every bit that is earned, and a large one would never go. A quiet time leaves the number
 * behind now, where it counts as now, so idleness saves up the burst and no more. One word of state, one
 * compare-and-swap: threads share a limit without a lock, and nothing has to tick.
 *
 * Limits
 *
 * A cost is a whole number of nanoseconds, rounded up, so the true rate never exceeds the one asked for but may stay
 * below it: by less than one nanosecond a call.
 */
#include "base/rate_limit.h"

#define NS_PER_S UINT64_C(1000000000)

static uint64_t add_saturating(uint64_t a, uint64_t b)
{
    uint64_t sum;
    return add_overflows_u64(a, b, &sum) ? UINT64_MAX : sum;
}

/* How long @units take to earn, rounded up; UINT64_MAX when that is longer than a clock can say. */
static uint64_t cost_ns(const struct rate_limit *limit, uint64_t units)
{
    uint64_t rate = limit->units_per_s;
    uint64_t whole_ns;
    if (mul_overflows_u64(units / rate, NS_PER_S, &whole_ns))
        return UINT64_MAX;
    /*
     * The part of a second: 128-bit division would be a call into the compiler's library, so at rates where the product
     * does not fit both sides lose low bits. Rounding the units up and the rate down keeps the cost from falling short.
     */
    uint64_t part = units % rate;
    while (part > UINT64_MAX / NS_PER_S) {
        part = (part >> 1) + (part & 1);
        rate >>= 1;
    }
    uint64_t part_ns = part * NS_PER_S;
    part_ns = part_ns / rate + (part_ns % rate != 0);
    return add_saturating(whole_ns, part_ns);
}

void rate_limit_init(struct rate_limit *limit, uint64_t units_per_s, uint64_t burst_ns)
{
    limit->units_per_s = units_per_s;
    limit->burst_ns = burst_ns;
    atomic_init(&limit->next_ns, 0);
}

bool rate_limit_take(struct rate_limit *limit, uint64_t units, uint64_t now_ns, uint64_t *ret_at_ns)
{
    if (limit->units_per_s == 0 || units == 0)
        return true;

    uint64_t cost = cost_ns(limit, units);
    uint64_t next = atomic_load_explicit(&limit->next_ns, memory_order_relaxed);
    for (;;) {
        uint64_t start = next <= now_ns ? now_ns : next;
        uint64_t ahead = start - now_ns;
        if (ahead > 0 && ahead >= limit->burst_ns) {
            *ret_at_ns = limit->burst_ns > 0 ? start - limit->burst_ns + 1 : start;
            return false;
        }
        /* The word is all there is to agree on; it orders nothing else. */
        if (atomic_compare_exchange_weak_explicit(&limit->next_ns, &next, add_saturating(start, cost),
                                                  memory_order_relaxed, memory_order_relaxed))
            return true;
    }
}

void rate_limit_return(struct rate_limit *limit, uint64_t units)
{
    if (limit->units_per_s == 0)
        return;

    uint64_t cost = cost_ns(limit, units);
    uint64_t next = atomic_load_explicit(&limit->next_ns, memory_order_relaxed);
    uint64_t earlier;
    do {
        earlier = next > cost ? next - cost : 0;
    } while (!atomic_compare_exchange_weak_explicit(&limit->next_ns, &next, earlier, memory_order_relaxed,
                                                    memory_order_relaxed));
}
