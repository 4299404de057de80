/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * The tree is written from its root on, with libfdt's functions for sequential writing. The first one that fails (there
 * is no more room) is remembered, and the rest does nothing. Bindings are those of Linux (Documentation/devicetree/
 * bindings), named beside each node.
 *
 * A device whose back end reaches the bounce range alone has a memory-region that leads to a restricted-dma-pool
 * (bindings/reserved-memory/shared-dma-pool.yaml); of PCI the host bridge has it for all of its devices, or a function
 * on bus 0 has a node of its own.
 */
#include "platform/linux/machine_fdt.h"

#include <errno.h>
#include <libfdt.h>
#include <stdio.h>

/* Names of nodes for others. */
enum { PHANDLE_GIC = 1, PHANDLE_MSI, PHANDLE_CLOCK, PHANDLE_BOUNCE };

/* Interrupts (bindings/interrupt-controller/arm,gic.yaml): kind, number within the kind, trigger. */
#define GIC_SHARED 0u
#define GIC_PRIVATE 1u
#define GIC_PRIVATE_FIRST 16u
#define GIC_SHARED_FIRST 32u
#define GIC_V2_PROCESSORS 8u
#define TRIGGER_EDGE 1u
#define TRIGGER_LEVEL 4u

/* PL011 and PL031 want a clock with a rate; nothing here runs at it. */
#define CLOCK_HZ 24000000u

/* Private interrupts of the timers, as KVM wires them: secure, physical, virtual, hypervisor's (Arm BSA 1.0, 3.8.2). */
static const uint32_t timer_interrupts[] = {29, 30, 27, 26};

#define CELLS_MAX 160u /* interrupt-map: 16 entries of 10 */
#define NAME_BYTES 40u
#define ECAM_BUS_SHIFT 20
#define KASLR_SEED_BYTES 8u

struct machine_fdt {
    const struct machine_plan *plan;
    void *tree;
    int failed; /* libfdt's first error */
};

/* A property of cells, grown number by number. */
struct machine_fdt_cells {
    fdt32_t cells[CELLS_MAX];
    unsigned count;
};

static void machine_fdt_keep(struct machine_fdt *fdt, int result)
{
    if (fdt->failed == 0)
        fdt->failed = result;
}

static void machine_fdt_node_begin(struct machine_fdt *fdt, const char *name)
{
    machine_fdt_keep(fdt, fdt_begin_node(fdt->tree, name));
}

static void machine_fdt_node_begin_at(struct machine_fdt *fdt, const char *name, uint64_t unit)
{
    char text[NAME_BYTES];
    snprintf(text, sizeof(text), "%s@%llx", name, (unsigned long long)unit);
    machine_fdt_node_begin(fdt, text);
}

static void machine_fdt_node_end(struct machine_fdt *fdt)
{
    machine_fdt_keep(fdt, fdt_end_node(fdt->tree));
}

static void machine_fdt_put_bytes(struct machine_fdt *fdt, const char *name, const void *bytes, size_t size)
{
    machine_fdt_keep(fdt, size <= INT32_MAX ? fdt_property(fdt->tree, name, bytes, (int)size) : -FDT_ERR_NOSPACE);
}

static void machine_fdt_put_text(struct machine_fdt *fdt, const char *name, const char *text)
{
    machine_fdt_put_bytes(fdt, name, text, strlen(text) + 1);
}

static void machine_fdt_put_flag(struct machine_fdt *fdt, const char *name)
{
    machine_fdt_put_bytes(fdt, name, "", 0);
}

static void machine_fdt_put_u32(struct machine_fdt *fdt, const char *name, uint32_t value)
{
    machine_fdt_keep(fdt, fdt_property_u32(fdt->tree, name, value));
}

static void machine_fdt_put_u64(struct machine_fdt *fdt, const char *name, uint64_t value)
{
    machine_fdt_keep(fdt, fdt_property_u64(fdt->tree, name, value));
}

static void machine_fdt_cell(struct machine_fdt_cells *cells, uint32_t value)
{
    ASSERT(cells->count < ARRAY_SIZE(cells->cells));
    cells->cells[cells->count++] = cpu_to_fdt32(value);
}

static void machine_fdt_cell_u64(struct machine_fdt_cells *cells, uint64_t value)
{
    machine_fdt_cell(cells, (uint32_t)(value >> 32));
    machine_fdt_cell(cells, (uint32_t)value);
}

static void machine_fdt_cell_range(struct machine_fdt_cells *cells, const struct machine_range *range)
{
    machine_fdt_cell_u64(cells, range->base);
    machine_fdt_cell_u64(cells, range->size);
}

/* @number as the GIC counts; of GICv2 a private one also says which processors have it. */
static void machine_fdt_cell_interrupt(struct machine_fdt_cells *cells, const struct machine_plan *plan,
                                       uint32_t number, uint32_t trigger)
{
    bool is_shared = number >= GIC_SHARED_FIRST;
    if (!is_shared && plan->gic == MACHINE_GIC_V2)
        trigger |= ((1u << u32_min(plan->processor_count, GIC_V2_PROCESSORS)) - 1) << 8;
    machine_fdt_cell(cells, is_shared ? GIC_SHARED : GIC_PRIVATE);
    machine_fdt_cell(cells, number - (is_shared ? GIC_SHARED_FIRST : GIC_PRIVATE_FIRST));
    machine_fdt_cell(cells, trigger);
}

static void machine_fdt_put_cells(struct machine_fdt *fdt, const char *name, const struct machine_fdt_cells *cells)
{
    machine_fdt_put_bytes(fdt, name, cells->cells, cells->count * sizeof(cells->cells[0]));
}

static void machine_fdt_put_range(struct machine_fdt *fdt, const char *name, const struct machine_range *range)
{
    struct machine_fdt_cells cells = {.count = 0};
    machine_fdt_cell_range(&cells, range);
    machine_fdt_put_cells(fdt, name, &cells);
}

static void machine_fdt_put_interrupt(struct machine_fdt *fdt, uint32_t number, uint32_t trigger)
{
    struct machine_fdt_cells cells = {.count = 0};
    machine_fdt_cell_interrupt(&cells, fdt->plan, number, trigger);
    machine_fdt_put_cells(fdt, "interrupts", &cells);
}

/* ---- processors, memory, timer */

/* bindings/arm/cpus.yaml, psci.yaml. Affinity 3 is in the first cell. */
static void machine_fdt_put_processors(struct machine_fdt *fdt)
{
    static const char psci[] = "arm,psci-1.0\0arm,psci-0.2";
    const struct machine_plan *plan = fdt->plan;
    machine_fdt_node_begin(fdt, "cpus");
    machine_fdt_put_u32(fdt, "#address-cells", 2);
    machine_fdt_put_u32(fdt, "#size-cells", 0);
    for (unsigned i = 0; i < plan->processor_count; i++) {
        machine_fdt_node_begin_at(fdt, "cpu", plan->processor_ids[i]);
        machine_fdt_put_text(fdt, "device_type", "cpu");
        machine_fdt_put_text(fdt, "compatible", "arm,armv8");
        machine_fdt_put_text(fdt, "enable-method", "psci");
        machine_fdt_put_u64(fdt, "reg", plan->processor_ids[i]);
        machine_fdt_node_end(fdt);
    }
    machine_fdt_node_end(fdt);
    machine_fdt_node_begin(fdt, "psci");
    machine_fdt_put_bytes(fdt, "compatible", psci, sizeof(psci));
    machine_fdt_put_text(fdt, "method", "hvc");
    machine_fdt_node_end(fdt);
}

static void machine_fdt_put_memory(struct machine_fdt *fdt)
{
    const struct machine_plan *plan = fdt->plan;
    for (unsigned i = 0; i < plan->ram_count; i++) {
        machine_fdt_node_begin_at(fdt, "memory", plan->ram[i].base);
        machine_fdt_put_text(fdt, "device_type", "memory");
        machine_fdt_put_range(fdt, "reg", &plan->ram[i]);
        machine_fdt_node_end(fdt);
    }
    if (plan->bounce.size == 0)
        return;
    machine_fdt_node_begin(fdt, "reserved-memory");
    machine_fdt_put_u32(fdt, "#address-cells", 2);
    machine_fdt_put_u32(fdt, "#size-cells", 2);
    machine_fdt_put_flag(fdt, "ranges");
    machine_fdt_node_begin_at(fdt, "restricted-dma-pool", plan->bounce.base);
    machine_fdt_put_text(fdt, "compatible", "restricted-dma-pool");
    machine_fdt_put_range(fdt, "reg", &plan->bounce);
    machine_fdt_put_u32(fdt, "phandle", PHANDLE_BOUNCE);
    machine_fdt_node_end(fdt);
    machine_fdt_node_end(fdt);
}

static void machine_fdt_put_bounces(struct machine_fdt *fdt, bool bounces)
{
    if (bounces && fdt->plan->bounce.size > 0)
        machine_fdt_put_u32(fdt, "memory-region", PHANDLE_BOUNCE);
}

/* bindings/timer/arm,arch_timer.yaml */
static void machine_fdt_put_timer(struct machine_fdt *fdt)
{
    struct machine_fdt_cells cells = {.count = 0};
    for (size_t i = 0; i < ARRAY_SIZE(timer_interrupts); i++)
        machine_fdt_cell_interrupt(&cells, fdt->plan, timer_interrupts[i], TRIGGER_LEVEL);
    machine_fdt_node_begin(fdt, "timer");
    machine_fdt_put_text(fdt, "compatible", "arm,armv8-timer");
    machine_fdt_put_cells(fdt, "interrupts", &cells);
    machine_fdt_put_flag(fdt, "always-on");
    machine_fdt_node_end(fdt);
}

/* ---- interrupt controller */

/* arm,gic-v3.yaml: ITS; arm,gic.yaml: v2m frame. Below the controller's own node. */
static bool machine_fdt_put_messages(struct machine_fdt *fdt)
{
    const struct machine_plan *plan = fdt->plan;
    bool is_v3 = plan->gic == MACHINE_GIC_V3;
    const struct machine_range *range = is_v3 ? &plan->gic_its : &plan->gic_frame;
    if (range->size == 0)
        return false;
    machine_fdt_node_begin_at(fdt, is_v3 ? "msi-controller" : "v2m", range->base);
    machine_fdt_put_text(fdt, "compatible", is_v3 ? "arm,gic-v3-its" : "arm,gic-v2m-frame");
    machine_fdt_put_flag(fdt, "msi-controller");
    machine_fdt_put_range(fdt, "reg", range);
    if (is_v3) {
        machine_fdt_put_u32(fdt, "#msi-cells", 1);
    } else {
        machine_fdt_put_u32(fdt, "arm,msi-base-spi", plan->gic_frame_first);
        machine_fdt_put_u32(fdt, "arm,msi-num-spis", plan->gic_frame_count);
    }
    machine_fdt_put_u32(fdt, "phandle", PHANDLE_MSI);
    machine_fdt_node_end(fdt);
    return true;
}

/* Returns whether there are message-signalled interrupts. */
static bool machine_fdt_put_gic(struct machine_fdt *fdt)
{
    const struct machine_plan *plan = fdt->plan;
    bool is_v3 = plan->gic == MACHINE_GIC_V3;
    struct machine_fdt_cells reg = {.count = 0};
    machine_fdt_cell_range(&reg, &plan->gic_distributor);
    machine_fdt_cell_range(&reg, is_v3 ? &plan->gic_redistributors : &plan->gic_processor);
    machine_fdt_node_begin_at(fdt, "interrupt-controller", plan->gic_distributor.base);
    machine_fdt_put_text(fdt, "compatible", is_v3 ? "arm,gic-v3" : "arm,cortex-a15-gic");
    machine_fdt_put_cells(fdt, "reg", &reg);
    machine_fdt_put_u32(fdt, "#interrupt-cells", 3);
    machine_fdt_put_flag(fdt, "interrupt-controller");
    machine_fdt_put_u32(fdt, "#address-cells", 2);
    machine_fdt_put_u32(fdt, "#size-cells", 2);
    machine_fdt_put_flag(fdt, "ranges");
    machine_fdt_put_u32(fdt, "phandle", PHANDLE_GIC);
    bool has_messages = machine_fdt_put_messages(fdt);
    machine_fdt_node_end(fdt);
    return has_messages;
}

/* ---- chips */

/* bindings/serial/pl011.yaml, rtc/arm,pl031.yaml, and the clock that both want. */
static void machine_fdt_put_chips(struct machine_fdt *fdt)
{
    static const char serial[] = "arm,pl011\0arm,primecell", serial_clocks[] = "uartclk\0apb_pclk";
    static const char rtc[] = "arm,pl031\0arm,primecell";
    const struct machine_plan *plan = fdt->plan;
    struct machine_fdt_cells clocks = {.count = 0};
    machine_fdt_node_begin(fdt, "apb-clock");
    machine_fdt_put_text(fdt, "compatible", "fixed-clock");
    machine_fdt_put_u32(fdt, "#clock-cells", 0);
    machine_fdt_put_u32(fdt, "clock-frequency", CLOCK_HZ);
    machine_fdt_put_u32(fdt, "phandle", PHANDLE_CLOCK);
    machine_fdt_node_end(fdt);
    if (plan->serial.size > 0) {
        machine_fdt_cell(&clocks, PHANDLE_CLOCK);
        machine_fdt_cell(&clocks, PHANDLE_CLOCK);
        machine_fdt_node_begin_at(fdt, "serial", plan->serial.base);
        machine_fdt_put_bytes(fdt, "compatible", serial, sizeof(serial));
        machine_fdt_put_range(fdt, "reg", &plan->serial);
        machine_fdt_put_interrupt(fdt, plan->serial_irq, TRIGGER_LEVEL);
        machine_fdt_put_cells(fdt, "clocks", &clocks);
        machine_fdt_put_bytes(fdt, "clock-names", serial_clocks, sizeof(serial_clocks));
        machine_fdt_node_end(fdt);
    }
    if (plan->rtc.size > 0) {
        machine_fdt_node_begin_at(fdt, "rtc", plan->rtc.base);
        machine_fdt_put_bytes(fdt, "compatible", rtc, sizeof(rtc));
        machine_fdt_put_range(fdt, "reg", &plan->rtc);
        machine_fdt_put_interrupt(fdt, plan->rtc_irq, TRIGGER_LEVEL);
        machine_fdt_put_u32(fdt, "clocks", PHANDLE_CLOCK);
        machine_fdt_put_text(fdt, "clock-names", "apb_pclk");
        machine_fdt_node_end(fdt);
    }
    if (plan->panic.size > 0) { /* drivers/misc/pvpanic/pvpanic-mmio.c */
        machine_fdt_node_begin_at(fdt, "pvpanic", plan->panic.base);
        machine_fdt_put_text(fdt, "compatible", "qemu,pvpanic-mmio");
        machine_fdt_put_range(fdt, "reg", &plan->panic);
        machine_fdt_node_end(fdt);
    }
}

/* bindings/virtio/mmio.yaml */
static void machine_fdt_put_virtio_mmio(struct machine_fdt *fdt)
{
    for (unsigned i = 0; i < fdt->plan->virtio_mmio_count; i++) {
        const struct machine_virtio_mmio *each = &fdt->plan->virtio_mmio[i];
        const struct machine_range range = {.base = each->base, .size = each->size};
        machine_fdt_node_begin_at(fdt, "virtio_mmio", each->base);
        machine_fdt_put_text(fdt, "compatible", "virtio,mmio");
        machine_fdt_put_range(fdt, "reg", &range);
        machine_fdt_put_interrupt(fdt, each->irq, TRIGGER_EDGE);
        machine_fdt_put_flag(fdt, "dma-coherent");
        machine_fdt_put_bounces(fdt, each->bounces);
        machine_fdt_node_end(fdt);
    }
}

/* ---- PCI (IEEE 1275 PCI Bus Binding 2.1, 2.2.1.1 and 2.2.5; bindings/pci/host-generic-pci.yaml) */

#define PCI_PORTS 0x01000000u
#define PCI_MEMORY_32 0x02000000u
#define PCI_MEMORY_64 0x03000000u
#define PCI_DEVICE_SHIFT 11
#define PCI_DEVICES 32u
#define PCI_PINS 4u

static void machine_fdt_cell_window(struct machine_fdt_cells *cells, uint32_t space, const struct machine_range *range,
                                    uint64_t where)
{
    if (range->size == 0)
        return;
    machine_fdt_cell(cells, space);
    machine_fdt_cell_u64(cells, range->base);
    machine_fdt_cell_u64(cells, where);
    machine_fdt_cell_u64(cells, range->size);
}

/* Devices that are 4 apart share their wires, so that the mask leaves 2 bits of the device's number. */
static void machine_fdt_put_interrupt_map(struct machine_fdt *fdt)
{
    struct machine_fdt_cells map = {.count = 0}, mask = {.count = 0};
    for (uint32_t device = 0; device < PCI_PINS; device++) {
        for (uint32_t pin = 0; pin < PCI_PINS; pin++) {
            machine_fdt_cell(&map, device << PCI_DEVICE_SHIFT);
            machine_fdt_cell_u64(&map, 0);
            machine_fdt_cell(&map, pin + 1);
            machine_fdt_cell(&map, PHANDLE_GIC);
            machine_fdt_cell_u64(&map, 0); /* of the controller, which has #address-cells */
            machine_fdt_cell_interrupt(&map, fdt->plan, fdt->plan->pci.wires[(device + pin) % PCI_PINS], TRIGGER_LEVEL);
        }
    }
    machine_fdt_cell(&mask, (PCI_PINS - 1) << PCI_DEVICE_SHIFT);
    machine_fdt_cell_u64(&mask, 0);
    machine_fdt_cell(&mask, 7);
    machine_fdt_put_cells(fdt, "interrupt-map", &map);
    machine_fdt_put_cells(fdt, "interrupt-map-mask", &mask);
}

static void machine_fdt_put_pci_device(struct machine_fdt *fdt, uint32_t device)
{
    struct machine_fdt_cells reg = {.count = 0};
    machine_fdt_cell(&reg, device << PCI_DEVICE_SHIFT);
    machine_fdt_cell_u64(&reg, 0);
    machine_fdt_cell_u64(&reg, 0);
    machine_fdt_node_begin_at(fdt, "device", device);
    machine_fdt_put_cells(fdt, "reg", &reg);
    machine_fdt_put_bounces(fdt, true);
    machine_fdt_node_end(fdt);
}

static void machine_fdt_put_pci(struct machine_fdt *fdt, bool has_messages)
{
    const struct machine_pci *pci = &fdt->plan->pci;
    struct machine_fdt_cells buses = {.count = 0}, ranges = {.count = 0}, messages = {.count = 0};
    if (pci->ecam.size == 0)
        return;
    machine_fdt_cell(&buses, 0);
    machine_fdt_cell(&buses, (uint32_t)(pci->ecam.size >> ECAM_BUS_SHIFT) - 1);
    machine_fdt_cell_window(&ranges, PCI_PORTS, &pci->ports, pci->ports_base);
    machine_fdt_cell_window(&ranges, PCI_MEMORY_32, &pci->memory_low, pci->memory_low.base);
    machine_fdt_cell_window(&ranges, PCI_MEMORY_64, &pci->memory_high, pci->memory_high.base);
    machine_fdt_cell(&messages, 0); /* requester IDs from 0 on are device IDs from 0 on, 65536 of them */
    machine_fdt_cell(&messages, PHANDLE_MSI);
    machine_fdt_cell(&messages, 0);
    machine_fdt_cell(&messages, 0x10000);
    machine_fdt_node_begin_at(fdt, "pcie", pci->ecam.base);
    machine_fdt_put_text(fdt, "compatible", "pci-host-ecam-generic");
    machine_fdt_put_text(fdt, "device_type", "pci");
    machine_fdt_put_u32(fdt, "#address-cells", 3);
    machine_fdt_put_u32(fdt, "#size-cells", 2);
    machine_fdt_put_u32(fdt, "#interrupt-cells", 1);
    machine_fdt_put_u32(fdt, "linux,pci-domain", 0);
    machine_fdt_put_cells(fdt, "bus-range", &buses);
    machine_fdt_put_range(fdt, "reg", &pci->ecam);
    machine_fdt_put_cells(fdt, "ranges", &ranges);
    machine_fdt_put_flag(fdt, "dma-coherent");
    machine_fdt_put_interrupt_map(fdt);
    if (has_messages)
        machine_fdt_put_cells(fdt, "msi-map", &messages);
    machine_fdt_put_bounces(fdt, pci->all_bounce);
    for (uint32_t device = 0; device < PCI_DEVICES && !pci->all_bounce && fdt->plan->bounce.size > 0; device++) {
        if (pci->bounces >> device & 1)
            machine_fdt_put_pci_device(fdt, device);
    }
    machine_fdt_node_end(fdt);
}

/* ---- what the kernel is told (Devicetree Specification 0.4, 3.6; dt-schema's chosen.yaml) */

static void machine_fdt_put_chosen(struct machine_fdt *fdt, const struct machine_fdt_options *options)
{
    char path[NAME_BYTES];
    machine_fdt_node_begin(fdt, "chosen");
    if (fdt->plan->serial.size > 0) {
        snprintf(path, sizeof(path), "/serial@%llx", (unsigned long long)fdt->plan->serial.base);
        machine_fdt_put_text(fdt, "stdout-path", path);
    }
    if (options->cmdline)
        machine_fdt_put_text(fdt, "bootargs", options->cmdline);
    if (options->initrd.size > 0) {
        machine_fdt_put_u64(fdt, "linux,initrd-start", options->initrd.base);
        machine_fdt_put_u64(fdt, "linux,initrd-end", options->initrd.base + options->initrd.size);
    }
    if (options->random && options->random_bytes > KASLR_SEED_BYTES) {
        machine_fdt_put_bytes(fdt, "kaslr-seed", options->random, KASLR_SEED_BYTES);
        machine_fdt_put_bytes(fdt, "rng-seed", options->random + KASLR_SEED_BYTES,
                              options->random_bytes - KASLR_SEED_BYTES);
    }
    machine_fdt_node_end(fdt);
}

int machine_fdt_build(const struct machine_plan *plan, const struct machine_fdt_options *options, void *bytes,
                      size_t size, size_t *ret_used)
{
    struct machine_fdt fdt = {.plan = plan, .tree = bytes};
    if (size > INT32_MAX)
        size = INT32_MAX;
    machine_fdt_keep(&fdt, fdt_create(bytes, (int)size));
    machine_fdt_keep(&fdt, fdt_finish_reservemap(bytes));
    machine_fdt_node_begin(&fdt, "");
    machine_fdt_put_text(&fdt, "compatible", "linux,dummy-virt");
    machine_fdt_put_text(&fdt, "model", "backplane");
    machine_fdt_put_u32(&fdt, "#address-cells", 2);
    machine_fdt_put_u32(&fdt, "#size-cells", 2);
    machine_fdt_put_u32(&fdt, "interrupt-parent", PHANDLE_GIC);
    machine_fdt_put_chosen(&fdt, options);
    machine_fdt_put_memory(&fdt);
    machine_fdt_put_processors(&fdt);
    machine_fdt_put_timer(&fdt);
    bool has_messages = machine_fdt_put_gic(&fdt);
    machine_fdt_put_chips(&fdt);
    machine_fdt_put_virtio_mmio(&fdt);
    machine_fdt_put_pci(&fdt, has_messages);
    machine_fdt_node_end(&fdt);
    machine_fdt_keep(&fdt, fdt_finish(bytes));
    if (fdt.failed != 0)
        return -ENOSPC;
    *ret_used = fdt_totalsize(bytes);
    return 0;
}
