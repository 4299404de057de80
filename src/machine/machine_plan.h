/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What a guest is told of the machine it finds itself in: the one description from which ACPI tables and the device
 * tree are made. Addresses are guest-physical, sizes are bytes, interrupts are global system interrupts (x86-64), or
 * interrupt numbers of the GIC (arm64, private ones included: INTID).
 *
 * Whoever assembles the machine fills it; nothing here changes it.
 */
#ifndef MACHINE_MACHINE_PLAN_H
#define MACHINE_MACHINE_PLAN_H

#include "base/base.h"

#define MACHINE_PROCESSORS_MAX 64
#define MACHINE_RAM_RANGES_MAX 4
#define MACHINE_VIRTIO_MMIO_MAX 32

struct machine_range {
    uint64_t base, size; /* no size: it is not there */
};

struct machine_virtio_mmio {
    uint64_t base, size;
    uint32_t irq; /* edge-triggered, active high */
    bool bounces; /* its driver must use the bounce range (restricted DMA pool) */
};

/* PCI Express, by ECAM; segment 0, from bus 0. */
struct machine_pci {
    struct machine_range ecam;                           /* 1 MiB for each bus; none: there is no PCI */
    struct machine_range memory_low, memory_high, ports; /* windows; ports: in port space (x86) */
    uint64_t ports_base;                                 /* arm64: where the ports' window is in memory */
    uint32_t wires[4]; /* interrupts of INTA# to INTD#: level-triggered, active high */
    /* A device whose driver must use the bounce range: bit n for device n on bus 0. */
    uint32_t bounces;
    bool all_bounce; /* every device behind it must */
};

enum machine_gic {
    MACHINE_GIC_V2 = 2,
    MACHINE_GIC_V3 = 3,
};

struct machine_plan {
    unsigned processor_count;
    uint64_t processor_ids[MACHINE_PROCESSORS_MAX]; /* x86-64: APIC IDs; arm64: MPIDR affinity */
    unsigned ram_count;
    struct machine_range ram[MACHINE_RAM_RANGES_MAX]; /* by address; the bounce range is part of them */
    struct machine_range bounce;                      /* inside RAM: a restricted DMA pool */
    struct machine_pci pci;
    unsigned virtio_mmio_count;
    struct machine_virtio_mmio virtio_mmio[MACHINE_VIRTIO_MMIO_MAX];

    struct machine_range serial; /* x86-64: ports of a 16550A; arm64: a PL011 */
    uint32_t serial_irq;
    struct machine_range rtc; /* x86-64: ports of an MC146818; arm64: a PL031 */
    uint32_t rtc_irq;
    struct machine_range panic; /* pvpanic, MMIO: one byte; none: it is not there */

    /* x86-64 */
    struct machine_range power; /* MMIO: sleep control, sleep status, reset, event status (devices/acpi_power) */
    uint32_t power_irq;         /* of its event status; 0: there is no power button */
    uint64_t io_apic, local_apic;
    bool has_i8042;

    /* arm64 */
    enum machine_gic gic;
    struct machine_range gic_distributor;
    struct machine_range gic_redistributors;   /* version 3 */
    struct machine_range gic_processor;        /* version 2: interface of the processors */
    struct machine_range gic_its;              /* version 3: messages; none: it is not there */
    struct machine_range gic_frame;            /* version 2: GICv2m, messages */
    uint32_t gic_frame_first, gic_frame_count; /* interrupts that it raises */
};

#endif
