/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The clock of a PC: Motorola MC146818A (data sheet of 1984) with 114 bytes of memory, behind an index port and a data
 * port (0x70 and 0x71); the century stands in byte 0x32, as PCs have it.
 *
 * The time is the port's, UTC. A guest that sets it changes nothing but the distance between the two.
 *
 * The interrupt is a level (irq_line_set): high from an event until register C is read. IRQ 8 of a PC takes its rise.
 *
 * Threads: one at a time, under the machine's lock. Nothing blocks.
 */
#ifndef DEVICES_CMOS_CMOS_H
#define DEVICES_CMOS_CMOS_H

#include "base/state.h"
#include "machine/bus.h"
#include "machine/clock_port.h"
#include "machine/irq.h"

#define CMOS_BYTES 2       /* of the bus: index, data */
#define CMOS_CENTURY 0x32  /* for the FADT */
#define CMOS_RAM_BYTES 128 /* registers included */

#define CMOS_STATE_TAG 0x534f4d43u /* "CMOS" */
#define CMOS_STATE_BYTES_MAX 192   /* of its record, header included */

struct cmos {
    struct bus_device device;
    struct clock_port *clock; /* borrowed */
    struct irq_line *irq;     /* borrowed */

    uint8_t index;
    uint8_t ram[CMOS_RAM_BYTES]; /* the registers of time: as set while the clock stands (register B, SET) */
    int64_t offset_s;            /* what the guest's time is ahead of the port's */
    int64_t seen_s;              /* the guest's second up to which the flags of register C are known */
};

/* @clock and @irq are borrowed and outlive the chip; @irq may be NULL. The guest's time is the port's. */
void cmos_init(struct cmos *cmos, struct clock_port *clock, struct irq_line *irq);
/* The pin RESET: no interrupt is enabled or pending; time and memory stay. */
void cmos_reset(struct cmos *cmos);
/* The time asked of clock_port's set_alarm has come. */
void cmos_alarm(struct cmos *cmos);

/* Append one record. -ENOSPC. */
int cmos_save(const struct cmos *cmos, struct state_writer *writer);
/* Take over the record with CMOS_STATE_TAG. -ENOTSUP: of a newer version; -EBADMSG: no such record; nothing changed. */
int cmos_load(struct cmos *cmos, const struct state_record *record);

#endif
