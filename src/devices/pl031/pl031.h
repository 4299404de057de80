/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The clock of arm64 machines: Arm PrimeCell Real Time Clock (PL031), r1p3 (technical reference manual, DDI 0224C): a
 * counter of seconds since 1970 in 32 bits, and a match register with an interrupt.
 *
 * The time is the port's. A guest that sets it changes nothing but the distance between the two.
 *
 * The interrupt is RTCINTR, a level: high while RTCMIS is not 0.
 *
 * Threads: one at a time, under the machine's lock. Nothing blocks.
 */
#ifndef DEVICES_PL031_PL031_H
#define DEVICES_PL031_PL031_H

#include "base/state.h"
#include "machine/bus.h"
#include "machine/clock_port.h"
#include "machine/irq.h"

#define PL031_BYTES 0x1000 /* of the bus */

#define PL031_STATE_TAG 0x31334c50u /* "PL31" */
#define PL031_STATE_BYTES_MAX 64    /* of its record, header included */

struct pl031 {
    struct bus_device device;
    struct clock_port *clock; /* borrowed */
    struct irq_line *irq;     /* borrowed */

    uint32_t offset_s; /* what the counter is ahead of the port's seconds, modulo 2^32 */
    uint32_t load, match;
    uint32_t seen_s; /* the counter up to which RTCRIS is known */
    bool masked_in;  /* RTCIMSC: the interrupt is let through */
    bool raw;        /* RTCRIS */
};

/* @clock and @irq are borrowed and outlive the chip; @irq may be NULL. The counter is the port's time. */
void pl031_init(struct pl031 *pl031, struct clock_port *clock, struct irq_line *irq);
/* No interrupt is enabled or pending; the time stays, as if a battery kept it. */
void pl031_reset(struct pl031 *pl031);
/* The time asked of clock_port's set_alarm has come. */
void pl031_alarm(struct pl031 *pl031);

/* Append one record. -ENOSPC. */
int pl031_save(const struct pl031 *pl031, struct state_writer *writer);
/* Take over the record with PL031_STATE_TAG. -ENOTSUP: of a newer version; -EBADMSG: no such record; nothing changed.
 */
int pl031_load(struct pl031 *pl031, const struct state_record *record);

#endif
