/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * ACPI tables (ACPI 6.5) of a machine without legacy hardware: RSDP, XSDT, FADT in the hardware-reduced model, MADT,
 * MCFG, DSDT.
 */
#ifndef MACHINE_ACPI_TABLES_H
#define MACHINE_ACPI_TABLES_H

#include "machine/machine_plan.h"

/* Enough for 64 processors and every device of a plan. */
#define ACPI_TABLES_BYTES_MAX 32768u

/*
 * Build the tables for @address of the guest, where they begin with the RSDP, into @buffer of @size. Returns how many
 * bytes they are. -ENOSPC: the buffer is too small.
 */
int acpi_tables_build(const struct machine_plan *plan, uint64_t address, uint8_t *buffer, size_t size);

#endif
