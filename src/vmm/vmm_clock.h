/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The time of clock chips: the host's, and alarms by a timer of the control loop. set_alarm comes from threads of
 * processors, which may not touch the loop's timers, and is passed on by message.
 */
#ifndef VMM_VMM_CLOCK_H
#define VMM_VMM_CLOCK_H

#include "machine/clock_port.h"
#include "platform/linux/loop.h"

struct vmm;

struct vmm_clock {
    struct clock_port port;
    struct vmm *vmm;
    void (*alarm)(struct vmm_clock *clock); /* the machine's lock is held */
    uint64_t at_ns;                         /* UTC; under the machine's lock */
    struct loop_message message;
    struct loop_timer timer;
};

void vmm_clock_init(struct vmm_clock *clock, struct vmm *vmm, void (*alarm)(struct vmm_clock *clock));
/* No processor runs any more. On the control loop's thread; one of zeros is fine. */
void vmm_clock_done(struct vmm_clock *clock);

#endif
