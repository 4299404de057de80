/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Descriptions of machines with everything in them, for tests of what is made from one. */
#ifndef TESTS_SUPPORT_PLAN_RIG_H
#define TESTS_SUPPORT_PLAN_RIG_H

#include "machine/machine_plan.h"

static inline void plan_rig_virtio_mmio(struct machine_plan *plan, uint64_t base, uint32_t irq, unsigned count)
{
    plan->virtio_mmio_count = count;
    for (unsigned i = 0; i < count; i++) {
        plan->virtio_mmio[i] =
            (struct machine_virtio_mmio){.base = base + i * 0x1000, .size = 0x1000, .irq = irq + i, .bounces = i == 1};
    }
}

static inline struct machine_plan plan_rig_x86(unsigned processors)
{
    struct machine_plan plan = {
        .processor_count = processors,
        .ram_count = 2,
        .ram = {{.base = 0, .size = 0xc0000000}, {.base = UINT64_C(1) << 32, .size = UINT64_C(1) << 30}},
        .pci =
            {
                .ecam = {.base = 0xe0000000, .size = 0x10000000},
                .memory_low = {.base = 0xc0000000, .size = 0x20000000},
                .memory_high = {.base = UINT64_C(1) << 38, .size = UINT64_C(1) << 36},
                .ports = {.base = 0x1000, .size = 0xf000},
                .wires = {16, 17, 18, 19},
            },
        .serial = {.base = 0x3f8, .size = 8},
        .serial_irq = 4,
        .rtc = {.base = 0x70, .size = 2},
        .rtc_irq = 8,
        .panic = {.base = 0xf0200000, .size = 1},
        .power = {.base = 0xf0100000, .size = 4},
        .power_irq = 9,
        .io_apic = 0xfec00000,
        .local_apic = 0xfee00000,
        .has_i8042 = true,
    };
    for (unsigned i = 0; i < processors; i++)
        plan.processor_ids[i] = i;
    plan_rig_virtio_mmio(&plan, 0xf0000000, 5, 3);
    return plan;
}

static inline struct machine_plan plan_rig_arm64(enum machine_gic gic, unsigned processors)
{
    struct machine_plan plan = {
        .processor_count = processors,
        .ram_count = 1,
        .ram = {{.base = 0x40000000, .size = 0x10000000}},
        .bounce = {.base = 0x4f000000, .size = 0x1000000},
        .pci =
            {
                .ecam = {.base = 0x20000000, .size = 0x10000000},
                .memory_low = {.base = 0x10000000, .size = 0x10000000},
                .memory_high = {.base = UINT64_C(1) << 38, .size = UINT64_C(1) << 36},
                .ports = {.base = 0, .size = 0x10000},
                .ports_base = 0x0f000000,
                .wires = {35, 36, 37, 38},
                .bounces = 1u << 3,
            },
        .serial = {.base = 0x09000000, .size = 0x1000},
        .serial_irq = 33,
        .rtc = {.base = 0x09010000, .size = 0x1000},
        .rtc_irq = 34,
        .panic = {.base = 0x09020000, .size = 1},
        .gic = gic,
        .gic_distributor = {.base = 0x08000000, .size = 0x10000},
        .gic_redistributors = {.base = 0x080a0000, .size = 0x20000 * processors},
        .gic_processor = {.base = 0x08010000, .size = 0x2000},
        .gic_its = {.base = 0x08080000, .size = 0x20000},
        .gic_frame = {.base = 0x08020000, .size = 0x1000},
        .gic_frame_first = 96,
        .gic_frame_count = 32,
    };
    for (unsigned i = 0; i < processors; i++)
        plan.processor_ids[i] = i % 16 | (uint64_t)(i / 16) << 8;
    plan_rig_virtio_mmio(&plan, 0x0a000000, 48, 3);
    return plan;
}

#endif
