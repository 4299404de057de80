/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "vmm/vmm_clock.h"

#include <time.h>

#include "vmm/vmm_private.h"

#define NS_PER_S UINT64_C(1000000000)

static uint64_t vmm_clock_now_ns(struct clock_port *port)
{
    struct timespec now;
    (void)port;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static void vmm_clock_set_alarm(struct clock_port *port, uint64_t at_ns)
{
    struct vmm_clock *clock = container_of(port, struct vmm_clock, port);
    if (clock->at_ns == at_ns)
        return;
    clock->at_ns = at_ns;
    loop_post(clock->vmm->options.loop, &clock->message);
}

static const struct clock_port_class vmm_clock_class = {.now_ns = vmm_clock_now_ns, .set_alarm = vmm_clock_set_alarm};

/* The host's clock may have jumped since, or the alarm be another one: look again. */
static void vmm_clock_arm(struct vmm_clock *clock)
{
    uint64_t now_ns = vmm_clock_now_ns(&clock->port), at_ns = 0;
    if (clock->at_ns != CLOCK_PORT_NEVER)
        at_ns = loop_now_ns() + (clock->at_ns > now_ns ? clock->at_ns - now_ns : 0) + 1;
    loop_timer_set(clock->vmm->options.loop, &clock->timer, at_ns);
}

static void vmm_clock_deliver(struct loop_message *message)
{
    struct vmm_clock *clock = container_of(message, struct vmm_clock, message);
    vmm_lock(clock->vmm);
    vmm_clock_arm(clock);
    vmm_unlock(clock->vmm);
}

static void vmm_clock_expired(struct loop_timer *timer)
{
    struct vmm_clock *clock = container_of(timer, struct vmm_clock, timer);
    vmm_lock(clock->vmm);
    if (clock->at_ns <= vmm_clock_now_ns(&clock->port)) {
        clock->at_ns = CLOCK_PORT_NEVER;
        clock->alarm(clock);
    } else {
        vmm_clock_arm(clock);
    }
    vmm_unlock(clock->vmm);
}

void vmm_clock_init(struct vmm_clock *clock, struct vmm *vmm, void (*alarm)(struct vmm_clock *clock))
{
    *clock = (struct vmm_clock){
        .port.class = &vmm_clock_class,
        .vmm = vmm,
        .alarm = alarm,
        .at_ns = CLOCK_PORT_NEVER,
        .message.deliver = vmm_clock_deliver,
        .timer.expired = vmm_clock_expired,
    };
}

void vmm_clock_done(struct vmm_clock *clock)
{
    if (!clock->vmm)
        return;
    loop_unpost(clock->vmm->options.loop, &clock->message);
    loop_timer_set(clock->vmm->options.loop, &clock->timer, 0);
}
