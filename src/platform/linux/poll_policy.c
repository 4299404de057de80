/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * Credit bounds what looks may cost. Every sleep earns a share of its price; a look pays for its time, and is paid back
 * the price of the sleep that it saved when it found something. So however work arrives, looks never cost more than the
 * sleeps that were saved, plus the share, plus POLL_CREDIT_NS_MAX once. The share is the whole price while looks are
 * worth their while, and halves with each that was not: by then the cost is 1/64 of that of sleeping.
 *
 * Reach says how long to look. A sleep tells when a look would have met the next work: no later than the sleep took,
 * since that includes our own waking. A look that met it tells more exactly, and reach comes down slowly, so that one
 * early arrival among late ones does not end it. Work that comes too late for any look makes it 0, and then nothing is
 * looked for until a sleep is short again.
 */
#include "platform/linux/poll_policy.h"

void poll_policy_init(struct poll_policy *policy)
{
    *policy = (struct poll_policy){.price_ns = POLL_PRICE_NS_FIRST, .credit_ns = POLL_CREDIT_NS_MAX};
}

uint32_t poll_policy_look_ns(const struct poll_policy *policy)
{
    if (policy->reach_ns == 0)
        return 0;
    /* Up to the price of a sleep a look costs less than twice what the best choice would have, whatever comes. */
    uint32_t look_ns = policy->reach_ns > policy->price_ns ? policy->reach_ns : policy->price_ns;
    return policy->credit_ns >= look_ns ? look_ns : 0;
}

static void earn(struct poll_policy *policy, uint32_t more_ns)
{
    policy->credit_ns = u32_min(policy->credit_ns + more_ns, POLL_CREDIT_NS_MAX);
}

static void pay(struct poll_policy *policy, uint64_t cost_ns)
{
    policy->credit_ns -= (uint32_t)u64_min(cost_ns, policy->credit_ns);
}

void poll_policy_looked(struct poll_policy *policy, uint64_t looked_ns, bool found)
{
    bool worth = found && looked_ns <= (uint64_t)policy->price_ns * POLL_WORTH_PRICES;
    if (worth && policy->share_shift > 0)
        policy->share_shift--;
    if (!worth && policy->share_shift < POLL_SHARE_SHIFT_MAX)
        policy->share_shift++;
    if (!found) {
        pay(policy, looked_ns);
        return;
    }
    if (looked_ns > policy->price_ns)
        pay(policy, looked_ns - policy->price_ns);
    else
        earn(policy, policy->price_ns - (uint32_t)looked_ns);
    uint32_t twice_ns = (uint32_t)u64_min(looked_ns * 2, POLL_LOOK_NS_MAX);
    uint32_t lower_ns = policy->reach_ns - policy->reach_ns / 8;
    policy->reach_ns = twice_ns > lower_ns ? twice_ns : lower_ns;
}

bool poll_policy_wants_price(struct poll_policy *policy)
{
    if (policy->samples < POLL_SAMPLES_FIRST)
        return true;
    policy->unmeasured = (uint8_t)((policy->unmeasured + 1) % POLL_SAMPLE_EVERY);
    return policy->unmeasured == 0;
}

void poll_policy_price(struct poll_policy *policy, uint64_t spent_ns)
{
    uint32_t price_ns = (uint32_t)u64_min(spent_ns, POLL_PRICE_NS_MAX);
    if (price_ns < POLL_PRICE_NS_MIN)
        price_ns = POLL_PRICE_NS_MIN;
    if (policy->samples < POLL_SAMPLES_FIRST)
        policy->samples++;
    /* A mean over the first samples, then one that follows slowly. */
    int32_t difference = (int32_t)price_ns - (int32_t)policy->price_ns;
    policy->price_ns = (uint32_t)((int32_t)policy->price_ns + difference / policy->samples);
}

void poll_policy_slept(struct poll_policy *policy, uint64_t slept_ns)
{
    earn(policy, policy->price_ns >> policy->share_shift);
    if (slept_ns > POLL_LOOK_NS_MAX) {
        policy->reach_ns = 0;
        return;
    }
    /* After a look in vain the sleep is short, since it began late: that alone must not make the next look short. */
    uint32_t half_ns = policy->reach_ns / 2;
    policy->reach_ns = slept_ns > half_ns ? (uint32_t)slept_ns : half_ns;
    if (policy->reach_ns == 0)
        policy->reach_ns = 1;
}
