/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Power of a hardware-reduced ACPI machine: the sleep control, sleep status and reset registers (ACPI 6.5, 4.8.3.7 and
 * 4.8.3.6), and a power button behind a Generic Event Device (5.6.9). Four byte registers in memory:
 *
 *   0  sleep control   written: SLP_EN (bit 5) with SLP_TYPx (bits 2 to 4) = ACPI_POWER_OFF_TYPE powers off
 *   1  sleep status    reads as 0: the machine never slept, so it never woke (WAK_STS, bit 7)
 *   2  reset           written: ACPI_POWER_RESET_VALUE resets the machine
 *   3  event status    bit 0: the power button was pressed; a 1 that is written clears its bit
 *
 * The interrupt is edge-triggered (irq_line_pulse): one pulse for each press. For arm64 there is nothing here: PSCI
 * powers it off and resets it.
 *
 * Threads: one at a time, under the machine's lock. Nothing blocks.
 */
#ifndef DEVICES_ACPI_POWER_ACPI_POWER_H
#define DEVICES_ACPI_POWER_ACPI_POWER_H

#include "base/state.h"
#include "machine/bus.h"
#include "machine/irq.h"

#define ACPI_POWER_BYTES 4 /* of the bus */

/* Offsets, and what the tables tell of them: FADT, \_S5, and the event device's _EVT. */
#define ACPI_POWER_SLEEP_CONTROL 0
#define ACPI_POWER_SLEEP_STATUS 1
#define ACPI_POWER_RESET 2
#define ACPI_POWER_EVENT_STATUS 3
#define ACPI_POWER_OFF_TYPE 5
#define ACPI_POWER_RESET_VALUE 1
#define ACPI_POWER_EVENT_BUTTON (1u << 0)

#define ACPI_POWER_STATE_TAG 0x52574f50u /* "POWR" */
#define ACPI_POWER_STATE_BYTES_MAX 16    /* of its record, header included */

/* The port. From inside a write of the guest: must not block, nor call the device. */
struct acpi_power_port {
    const struct acpi_power_port_class *class;
};

struct acpi_power_port_class {
    /* The guest goes on until whoever owns the machine stops it. */
    void (*power_off)(struct acpi_power_port *port);
    void (*reset)(struct acpi_power_port *port);
};

struct acpi_power {
    struct bus_device device;
    struct acpi_power_port *port; /* borrowed */
    struct irq_line *irq;         /* borrowed */
    uint8_t events;
};

/* @port and @irq are borrowed and outlive the device; @irq may be NULL, and a button is then never noticed. */
void acpi_power_init(struct acpi_power *power, struct acpi_power_port *port, struct irq_line *irq);
void acpi_power_reset(struct acpi_power *power);

/* Press the power button: the guest's system is asked to shut down. */
void acpi_power_press(struct acpi_power *power);

/* Append one record. -ENOSPC. */
int acpi_power_save(const struct acpi_power *power, struct state_writer *writer);
/*
 * Take over the record with ACPI_POWER_STATE_TAG; a press that is not yet answered is announced once more. -ENOTSUP: of
 * a newer version; -EBADMSG: no such record; nothing changed.
 */
int acpi_power_load(struct acpi_power *power, const struct state_record *record);

#endif
