/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * Three pools (I/O, memory below 4 GiB, above) are windows with a mark that only goes up. Whatever is placed is a power
 * of two or a multiple of its alignment, and the largest alignment goes first; so nothing is lost between two of them
 * but for the first step up.
 *
 * What is behind a bridge is measured first, then the bridge's windows are placed among the root bus's BARs like BARs
 * of their own, and then what is behind is placed in them, by the same walk.
 *
 * Limits
 *
 * One level of bridges, as pci_port has. Below 4 GiB is what a window lies in that begins there.
 */
#include "machine/pci_assign.h"

#include <errno.h>

#define FOUR_GIB (UINT64_C(1) << 32)
#define MEMORY_UNIT UINT64_C(0x100000) /* of a bridge's windows (PCIe 6.0, 7.5.1.3.8) */
#define IO_UNIT UINT64_C(0x1000)
#define BRIDGE_HEADER 1u

/* Header of type 1. */
enum {
    SECONDARY_BUS = 0x19,
    SUBORDINATE_BUS = 0x1a,
    IO_BASE = 0x1c,
    MEMORY_BASE = 0x20,
    PREFETCHABLE_BASE = 0x24,
    PREFETCHABLE_BASE_UPPER = 0x28,
    PREFETCHABLE_LIMIT_UPPER = 0x2c
};

enum pool { POOL_IO, POOL_LOW, POOL_HIGH, POOLS };

/* A window and how much of it is given out. */
struct area {
    uint64_t next, end; /* [next, end) is free */
};

struct work {
    struct pci_root *root;
    const struct pci_assign_options *options;
    struct area areas[POOLS][PCI_BAR_WINDOWS_MAX];
    unsigned area_count[POOLS];
    int result;
};

/* ---- pools ---- */

static void find_areas(struct work *work)
{
    const struct pci_bar_engine *engine = &work->root->engine;
    for (unsigned i = 0; i < engine->window_count; i++) {
        const struct pci_bar_window *window = &engine->windows[i];
        enum pool pool = window->space == PCI_BAR_IO ? POOL_IO : window->base < FOUR_GIB ? POOL_LOW : POOL_HIGH;
        uint64_t end = window->base + window->size;
        if (pool == POOL_LOW)
            end = u64_min(end, FOUR_GIB);
        /* 0 is no address of a BAR. */
        work->areas[pool][work->area_count[pool]++] = (struct area){window->base == 0 ? 1 : window->base, end};
    }
}

static bool take(struct area *area, uint64_t size, uint64_t alignment, uint64_t *ret_base)
{
    uint64_t base = align_up(area->next, alignment);
    if (base < area->next || base > area->end || size > area->end - base)
        return false;
    area->next = base + size;
    *ret_base = base;
    return true;
}

static bool take_from(struct work *work, enum pool pool, uint64_t size, uint64_t alignment, uint64_t *ret_base)
{
    for (unsigned i = 0; i < work->area_count[pool]; i++) {
        if (take(&work->areas[pool][i], size, alignment, ret_base))
            return true;
    }
    return false;
}

/* ---- what is there ---- */

static bool is_bridge(const struct pci_function *function)
{
    return (pci_function_get(function, PCI_HEADER_TYPE, 1) & ~PCI_HEADER_TYPE_MULTIFUNCTION) == BRIDGE_HEADER;
}

static struct pci_bus *bus_behind(const struct pci_root *root, const struct pci_function *bridge)
{
    struct pci_bus *bus = root->bridges;
    while (bus && bus->bridge != bridge)
        bus = bus->next;
    return bus;
}

static bool is_assigned(const struct pci_bar *bar)
{
    return bar->kind == PCI_BAR_MEMORY_32 || bar->kind == PCI_BAR_MEMORY_64 || bar->kind == PCI_BAR_PORTS;
}

/* Where @bar goes first. */
static enum pool pool_of(const struct work *work, const struct pci_bar *bar)
{
    if (bar->kind == PCI_BAR_PORTS)
        return POOL_IO;
    return bar->kind == PCI_BAR_MEMORY_64 && bar->prefetchable && work->area_count[POOL_HIGH] > 0 ? POOL_HIGH
                                                                                                  : POOL_LOW;
}

/* ---- bridges ---- */

/* What the window of a bridge has to hold: @size bytes, of which the largest BAR wants @alignment. */
struct need {
    uint64_t size, alignment;
};

static struct need need_of(const struct work *work, const struct pci_bus *bus, enum pool pool)
{
    const struct pci_assign_options *options = work->options;
    uint64_t unit = pool == POOL_IO ? IO_UNIT : MEMORY_UNIT;
    uint64_t reserve = pool == POOL_IO    ? options->reserve_io * IO_UNIT
                       : pool == POOL_LOW ? options->reserve_memory * MEMORY_UNIT
                                          : options->reserve_prefetchable * MEMORY_UNIT;
    struct need need = {.alignment = unit};
    if (work->area_count[pool] == 0)
        reserve = 0;
    for (unsigned i = 0; i < PCI_FUNCTIONS_MAX; i++) {
        for (unsigned b = 0; bus->functions[i] && b < PCI_BAR_ROM; b++) {
            const struct pci_bar *bar = &bus->functions[i]->bars.bars[b];
            if (!is_assigned(bar) || pool_of(work, bar) != pool)
                continue;
            need.size += bar->size;
            if (bar->size > need.alignment)
                need.alignment = bar->size;
        }
    }
    need.size = align_up(need.size > reserve ? need.size : reserve, unit);
    return need;
}

static void write(struct pci_function *function, unsigned offset, unsigned size, uint64_t value)
{
    (void)pci_function_write(function, offset, size, value);
}

/* The bridge's window of @pool is [@base, @base + @size); @size 0 closes it, the base above the limit. */
static void write_window(struct pci_function *bridge, enum pool pool, uint64_t base, uint64_t size)
{
    uint64_t limit = base + size - 1;
    if (pool == POOL_IO) {
        write(bridge, IO_BASE, 2, size == 0 ? 0x00f0 : (base >> 8 & 0xf0) | (limit >> 8 & 0xf0) << 8);
    } else if (pool == POOL_LOW) {
        write(bridge, MEMORY_BASE, 4, size == 0 ? 0x0000fff0 : (base >> 16 & 0xfff0) | (limit >> 16 & 0xfff0) << 16);
    } else {
        write(bridge, PREFETCHABLE_BASE_UPPER, 4, size == 0 ? 0 : base >> 32);
        write(bridge, PREFETCHABLE_LIMIT_UPPER, 4, size == 0 ? 0 : limit >> 32);
        write(bridge, PREFETCHABLE_BASE, 4,
              size == 0 ? 0x0000fff0 : (base >> 16 & 0xfff0) | (limit >> 16 & 0xfff0) << 16);
    }
}

static bool place_in(struct area *area, struct pci_function *function, unsigned index)
{
    const struct pci_bar *bar = &function->bars.bars[index];
    uint64_t base;
    if (!take(area, bar->size, bar->size, &base))
        return false;
    write(function, PCI_BAR0 + 4 * index, bar->kind == PCI_BAR_MEMORY_64 ? 8 : 4, base);
    return true;
}

/* Largest first: with it, a window of need_of's size is enough. */
static void fill_window(struct work *work, const struct pci_bus *bus, enum pool pool, struct area area)
{
    for (uint64_t size = UINT64_C(1) << 62; size > 0; size /= 2) {
        for (unsigned i = 0; i < PCI_FUNCTIONS_MAX; i++) {
            for (unsigned b = 0; bus->functions[i] && b < PCI_BAR_ROM; b++) {
                const struct pci_bar *bar = &bus->functions[i]->bars.bars[b];
                if (is_assigned(bar) && bar->size == size && pool_of(work, bar) == pool &&
                    !place_in(&area, bus->functions[i], b))
                    work->result = -ENOSPC;
            }
        }
    }
}

static void place_window(struct work *work, struct pci_function *bridge, enum pool pool, uint64_t alignment)
{
    struct pci_bus *bus = bus_behind(work->root, bridge);
    struct need need = need_of(work, bus, pool);
    uint64_t base;
    if (need.alignment != alignment || need.size == 0)
        return;
    if (!take_from(work, pool, need.size, need.alignment, &base)) {
        work->result = -ENOSPC;
        return;
    }
    write_window(bridge, pool, base, need.size);
    fill_window(work, bus, pool, (struct area){base, base + need.size});
}

static void number_bridges(struct work *work)
{
    unsigned next = 1;
    for (struct pci_bus *bus = work->root->bridges; bus; bus = bus->next) {
        for (enum pool pool = 0; pool < POOLS; pool++)
            write_window(bus->bridge, pool, 0, 0);
        unsigned number = next < work->root->options.buses ? next : 0;
        write(bus->bridge, SECONDARY_BUS, 1, number);
        write(bus->bridge, SUBORDINATE_BUS, 1, number);
        if (number == 0)
            work->result = -ENOSPC;
        next++;
    }
}

/* ---- the root bus ---- */

static void place_bar(struct work *work, struct pci_function *function, unsigned index)
{
    const struct pci_bar *bar = &function->bars.bars[index];
    enum pool pool = pool_of(work, bar);
    uint64_t base;
    bool placed = take_from(work, pool, bar->size, bar->size, &base);
    if (!placed && bar->kind == PCI_BAR_MEMORY_64)
        placed = take_from(work, pool == POOL_LOW ? POOL_HIGH : POOL_LOW, bar->size, bar->size, &base);
    if (placed)
        write(function, PCI_BAR0 + 4 * index, bar->kind == PCI_BAR_MEMORY_64 ? 8 : 4, base);
    else
        work->result = -ENOSPC;
}

static void place_all(struct work *work)
{
    for (uint64_t alignment = UINT64_C(1) << 62; alignment > 0; alignment /= 2) {
        for (struct pci_function *function = NULL; (function = pci_root_next(work->root, function));) {
            if (function->bus != &work->root->bus)
                continue;
            for (unsigned b = 0; b < function->bar_registers; b++) {
                if (is_assigned(&function->bars.bars[b]) && function->bars.bars[b].size == alignment)
                    place_bar(work, function, b);
            }
            for (enum pool pool = 0; pool < POOLS && is_bridge(function); pool++)
                place_window(work, function, pool, alignment);
        }
    }
}

/* ---- switching on ---- */

/* Has everything @function decodes in this space an address? */
static bool is_placed(const struct pci_function *function, bool io, bool *ret_any)
{
    *ret_any = false;
    for (unsigned b = 0; b < PCI_BAR_ROM; b++) {
        const struct pci_bar *bar = &function->bars.bars[b];
        if (!is_assigned(bar) || (bar->kind == PCI_BAR_PORTS) != io)
            continue;
        *ret_any = true;
        if (bar->address == 0)
            return false;
    }
    return true;
}

static void switch_on(struct work *work, struct pci_function *function)
{
    uint32_t command = pci_function_get(function, PCI_COMMAND, 2);
    bool any;
    if (is_bridge(function))
        command |= PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_BUS_MASTER;
    if (is_placed(function, true, &any) && any)
        command |= PCI_COMMAND_IO;
    if (is_placed(function, false, &any) && any)
        command |= PCI_COMMAND_MEMORY;
    write(function, PCI_COMMAND, 2, command);
    if (pci_function_get(function, PCI_INTERRUPT_PIN, 1) != 0)
        write(function, PCI_INTERRUPT_LINE, 1, work->options->lines[function->wire]);
}

int pci_assign(struct pci_root *root, const struct pci_assign_options *options)
{
    struct work work = {.root = root, .options = options};
    find_areas(&work);
    pci_bar_engine_hold(&root->engine);
    for (struct pci_function *function = NULL; (function = pci_root_next(root, function));) {
        for (unsigned b = 0; b < function->bar_registers; b++)
            write(function, PCI_BAR0 + 4 * b, 4, 0);
    }
    number_bridges(&work);
    place_all(&work);
    for (struct pci_function *function = NULL; (function = pci_root_next(root, function));)
        switch_on(&work, function);
    pci_bar_engine_release(&root->engine);
    return work.result;
}
