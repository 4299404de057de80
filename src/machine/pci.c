/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A configuration space is an array of bytes with three arrays of bits beside it: what a write changes, what a 1
 * clears, what a reset leaves alone. BARs are registers of pci_bar, copied into the bytes after each write, so that a
 * read is a copy whatever it reads. What COMMAND and the power state mean for others is derived from the bytes after
 * each write (derive), never kept as a second truth.
 *
 * Limits
 *
 * A 64-bit write through ECAM, which the standard does not demand, is one write: both halves of a BAR move it once.
 */
#include "machine/pci.h"

#include <assert.h>
#include <errno.h>

#define CAPABILITIES_START 0x40u
#define CAPABILITIES_END 0x100u

/* Power management control and status, from the capability (PCI Power Management 1.2, 3.2.4). */
#define POWER_BYTES 8u
#define POWER_CONTROL 4u
#define POWER_STATE 0x3u
#define POWER_D0 0u
#define POWER_D3 3u
#define POWER_NO_SOFT_RESET 0x8u
#define POWER_VERSION 0x3u

/* PCIe capability (PCIe 6.0, 7.5.3). */
#define EXPRESS_BYTES 0x3cu
#define EXPRESS_VERSION 0x2u
#define EXPRESS_TYPE_ENDPOINT 0x0u
#define EXPRESS_TYPE_INTEGRATED 0x9u
#define EXPRESS_DEVICE_CAPABILITIES 0x04u
#define EXPRESS_ROLE_BASED_ERRORS (UINT32_C(1) << 15)
#define EXPRESS_FUNCTION_RESET (UINT32_C(1) << 28)
#define EXPRESS_DEVICE_CONTROL 0x08u
#define EXPRESS_DEVICE_CONTROL_WRITABLE 0x7fffu
#define EXPRESS_INITIATE_RESET 0x8000u
#define EXPRESS_DEVICE_STATUS 0x0au
#define EXPRESS_DEVICE_STATUS_CLEARS 0x000fu
#define EXPRESS_LINK_CAPABILITIES 0x0cu
#define EXPRESS_LINK_X1_2_5GT 0x11u
#define EXPRESS_LINK_CONTROL 0x10u
#define EXPRESS_LINK_CONTROL_WRITABLE 0x00fbu
#define EXPRESS_LINK_STATUS 0x12u

#define STATUS_WRITE_CLEARS 0xf900u
#define COMMAND_WRITABLE 0x0547u /* I/O, memory, bus master, parity, SERR, INTx disable */

/* ---- making one ---- */

/* Bytes as they are for ever, but for what a write may change. */
void pci_function_put(struct pci_function *function, unsigned offset, unsigned size, uint32_t value)
{
    ASSERT(size <= 4 && range_within(offset, size, PCI_CONFIG_KEPT));
    for (unsigned i = 0; i < size; i++)
        function->bytes[offset + i] = (uint8_t)(value >> (8 * i));
}

void pci_function_put_initial(struct pci_function *function, unsigned offset, unsigned size, uint32_t value)
{
    pci_function_put(function, offset, size, value);
    memcpy(function->initial + offset, function->bytes + offset, size);
}

uint32_t pci_function_get(const struct pci_function *function, unsigned offset, unsigned size)
{
    ASSERT(size <= 4 && range_within(offset, size, PCI_CONFIG_BYTES));
    uint32_t value = 0;
    for (unsigned i = 0; i < size && offset + i < PCI_CONFIG_KEPT; i++)
        value |= (uint32_t)function->bytes[offset + i] << (8 * i);
    return value;
}

static void set_mask(uint8_t *masks, unsigned offset, unsigned size, uint32_t mask)
{
    ASSERT(size <= 4 && range_within(offset, size, PCI_CONFIG_KEPT));
    for (unsigned i = 0; i < size; i++)
        masks[offset + i] = (uint8_t)(mask >> (8 * i));
}

void pci_function_set_writable(struct pci_function *function, unsigned offset, unsigned size, uint32_t mask)
{
    set_mask(function->writable, offset, size, mask);
}

void pci_function_set_write_clears(struct pci_function *function, unsigned offset, unsigned size, uint32_t mask)
{
    set_mask(function->write_clears, offset, size, mask);
}

void pci_function_init(struct pci_function *function, const struct pci_function_class *class,
                       const struct pci_identity *identity)
{
    ASSERT(identity->pin <= PCI_WIRES);
    memset(function, 0, sizeof(*function));
    function->class = class;
    function->capability_next = CAPABILITIES_START;
    function->extended_next = PCI_EXTENDED;
    function->bar_registers = identity->bridge ? 2 : 6;
    function->rom_register = identity->bridge ? 0x38 : PCI_ROM_ADDRESS;

    pci_function_put_initial(function, PCI_VENDOR_ID, 2, identity->vendor);
    pci_function_put_initial(function, PCI_DEVICE_ID, 2, identity->device);
    pci_function_put_initial(function, PCI_REVISION_ID, 1, identity->revision);
    pci_function_put_initial(function, PCI_CLASS_CODE, 3, identity->class_code);
    pci_function_put_initial(function, PCI_HEADER_TYPE, 1, identity->bridge);
    pci_function_put_initial(function, PCI_INTERRUPT_PIN, 1, identity->pin);
    if (!identity->bridge) {
        pci_function_put_initial(function, PCI_SUBSYSTEM_VENDOR_ID, 2, identity->subsystem_vendor);
        pci_function_put_initial(function, PCI_SUBSYSTEM_ID, 2, identity->subsystem);
    }
    pci_function_set_writable(function, PCI_COMMAND, 2, COMMAND_WRITABLE);
    pci_function_set_write_clears(function, PCI_STATUS, 2, STATUS_WRITE_CLEARS);
    pci_function_set_writable(function, PCI_CACHE_LINE_SIZE, 1, 0xff);
    pci_function_set_writable(function, PCI_INTERRUPT_LINE, 1, identity->pin ? 0xff : 0);
}

void pci_function_watch(struct pci_function *function, struct pci_capability *capability, unsigned offset,
                        unsigned size)
{
    capability->offset = (uint16_t)offset;
    capability->size = (uint16_t)size;
    struct pci_capability **at = &function->capabilities;
    while (*at)
        at = &(*at)->next;
    capability->next = NULL;
    *at = capability;
}

int pci_function_add_capability(struct pci_function *function, struct pci_capability *capability,
                                enum pci_capability_id id, const void *bytes, unsigned size)
{
    ASSERT(function->root == NULL && size >= 2);
    unsigned offset = function->capability_next;
    if (!range_within(offset, size, CAPABILITIES_END))
        return -ENOSPC;
    pci_function_put_initial(function, offset, 1, id);
    for (unsigned i = 2; bytes && i < size; i++)
        pci_function_put_initial(function, offset + i, 1, ((const uint8_t *)bytes)[i - 2]);
    unsigned link = function->capability_last ? function->capability_last + 1u : (unsigned)PCI_CAPABILITIES;
    pci_function_put_initial(function, link, 1, offset);
    pci_function_put_initial(function, PCI_STATUS, 2, PCI_STATUS_CAPABILITIES);
    function->capability_last = (uint16_t)offset;
    function->capability_next = (uint16_t)align_up(offset + size, 4);
    pci_function_watch(function, capability, offset, size);
    return 0;
}

int pci_function_add_extended(struct pci_function *function, struct pci_capability *capability, uint16_t id,
                              uint8_t version, const void *bytes, unsigned size)
{
    ASSERT(function->root == NULL && version < 16);
    unsigned offset = function->extended_next;
    if (!range_within(offset, size + 4u, PCI_CONFIG_KEPT))
        return -ENOSPC;
    pci_function_put_initial(function, offset, 4, id | (uint32_t)version << 16);
    for (unsigned i = 0; bytes && i < size; i++)
        pci_function_put_initial(function, offset + 4 + i, 1, ((const uint8_t *)bytes)[i]);
    if (function->extended_last) {
        uint32_t header = pci_function_get(function, function->extended_last, 4);
        pci_function_put_initial(function, function->extended_last, 4, header | (uint32_t)offset << 20);
    }
    function->extended_last = (uint16_t)offset;
    function->extended_next = (uint16_t)align_up(offset + 4 + size, 4);
    pci_function_watch(function, capability, offset, size + 4);
    return 0;
}

int pci_function_add_power(struct pci_function *function, struct pci_capability *capability)
{
    uint8_t bytes[POWER_BYTES - 2] = {POWER_VERSION, 0, POWER_NO_SOFT_RESET};
    int r = pci_function_add_capability(function, capability, PCI_CAPABILITY_POWER, bytes, POWER_BYTES);
    if (r < 0)
        return r;
    function->power = capability->offset;
    pci_function_set_writable(function, capability->offset + POWER_CONTROL, 2, POWER_STATE);
    return 0;
}

int pci_function_add_express(struct pci_function *function, struct pci_capability *capability, bool integrated,
                             bool function_reset)
{
    uint8_t bytes[EXPRESS_BYTES] = {0};
    put_le16(bytes + 2,
             (uint16_t)(EXPRESS_VERSION | (integrated ? EXPRESS_TYPE_INTEGRATED : EXPRESS_TYPE_ENDPOINT) << 4));
    put_le32(bytes + EXPRESS_DEVICE_CAPABILITIES,
             EXPRESS_ROLE_BASED_ERRORS | (function_reset ? EXPRESS_FUNCTION_RESET : 0));
    if (!integrated) {
        put_le32(bytes + EXPRESS_LINK_CAPABILITIES, EXPRESS_LINK_X1_2_5GT);
        put_le16(bytes + EXPRESS_LINK_STATUS, EXPRESS_LINK_X1_2_5GT);
    }
    int r = pci_function_add_capability(function, capability, PCI_CAPABILITY_EXPRESS, bytes + 2, EXPRESS_BYTES);
    if (r < 0)
        return r;
    unsigned offset = capability->offset;
    function->express = capability->offset;
    pci_function_set_writable(function, offset + EXPRESS_DEVICE_CONTROL, 2,
                              EXPRESS_DEVICE_CONTROL_WRITABLE | (function_reset ? EXPRESS_INITIATE_RESET : 0));
    pci_function_set_write_clears(function, offset + EXPRESS_DEVICE_STATUS, 2, EXPRESS_DEVICE_STATUS_CLEARS);
    if (!integrated)
        pci_function_set_writable(function, offset + EXPRESS_LINK_CONTROL, 2, EXPRESS_LINK_CONTROL_WRITABLE);
    return 0;
}

/* ---- BARs ---- */

/* Which BAR's register is at @offset (a multiple of 4), or PCI_BAR_REGISTERS. */
static unsigned bar_at(const struct pci_function *function, unsigned offset)
{
    if (offset == function->rom_register)
        return PCI_BAR_ROM;
    if (offset >= PCI_BAR0 && offset < PCI_BAR0 + 4u * function->bar_registers)
        return (offset - PCI_BAR0) / 4;
    return PCI_BAR_REGISTERS;
}

static void show_bars(struct pci_function *function)
{
    for (unsigned i = 0; i < function->bar_registers; i++)
        pci_function_put(function, PCI_BAR0 + 4 * i, 4, pci_bars_read(&function->bars, i));
    pci_function_put(function, function->rom_register, 4, pci_bars_read(&function->bars, PCI_BAR_ROM));
}

int pci_function_add_bar(struct pci_function *function, unsigned index, enum pci_bar_kind kind, bool prefetchable,
                         uint64_t size, struct bus_device *content)
{
    ASSERT(function->root == NULL);
    unsigned registers = kind == PCI_BAR_MEMORY_64 ? 2 : 1;
    if (index != PCI_BAR_ROM && index + registers > function->bar_registers)
        return -EINVAL;
    int r = pci_bar_set_up(&function->bars, index, kind, prefetchable, size, content);
    if (r < 0)
        return r;
    show_bars(function);
    memcpy(function->initial + PCI_BAR0, function->bytes + PCI_BAR0, (size_t)4 * function->bar_registers);
    return 0;
}

/* The part of a write that falls on the register at @at; the write is @size bytes at @offset. */
static uint32_t merge(uint32_t old, unsigned at, unsigned offset, unsigned size, uint64_t value)
{
    for (unsigned i = 0; i < 4; i++) {
        unsigned byte = at + i - offset; /* wraps for bytes before the write */
        if (byte < size)
            old = (old & ~(UINT32_C(0xff) << (8 * i))) | (uint32_t)(value >> (8 * byte) & 0xff) << (8 * i);
    }
    return old;
}

static void write_bars(struct pci_function *function, unsigned offset, unsigned size, uint64_t value)
{
    if (function->bars.engine)
        pci_bar_engine_hold(function->bars.engine);
    bool some = false;
    for (unsigned at = offset & ~3u; at < offset + size; at += 4) {
        unsigned index = bar_at(function, at);
        if (index == PCI_BAR_REGISTERS)
            continue;
        pci_bars_write(&function->bars, index, merge(pci_bars_read(&function->bars, index), at, offset, size, value));
        some = true;
    }
    if (some)
        show_bars(function);
    if (function->bars.engine)
        pci_bar_engine_release(function->bars.engine);
}

/* ---- what registers mean ---- */

static bool is_on(const struct pci_function *function)
{
    return !function->power ||
           (pci_function_get(function, function->power + POWER_CONTROL, 2) & POWER_STATE) == POWER_D0;
}

static void drive_wire(struct pci_function *function)
{
    bool disabled = (pci_function_get(function, PCI_COMMAND, 2) & PCI_COMMAND_INTX_DISABLE) != 0;
    bool raised = function->intx && !disabled && function->root && pci_function_get(function, PCI_INTERRUPT_PIN, 1);
    if (raised == function->wire_raised)
        return;
    function->wire_raised = raised;
    struct pci_root *root = function->root;
    ASSERT(root); /* a function is unplugged with its wire released */
    uint32_t *level = &root->wire_levels[function->wire];
    *level += raised ? 1u : (uint32_t)-1;
    irq_line_set(root->options.wires[function->wire], *level > 0);
}

/* Let everybody know what COMMAND and the power state say now. */
static void derive(struct pci_function *function)
{
    uint32_t command = pci_function_get(function, PCI_COMMAND, 2);
    bool on = is_on(function);
    pci_bars_decode(&function->bars, on && (command & PCI_COMMAND_MEMORY) != 0, on && (command & PCI_COMMAND_IO) != 0);
    drive_wire(function);
    bool bus_master = on && (command & PCI_COMMAND_BUS_MASTER) != 0;
    bool changed = bus_master != function->bus_master;
    function->bus_master = bus_master;
    if (changed && function->class->bus_master)
        function->class->bus_master(function, bus_master);
    for (struct pci_capability *c = function->capabilities; c; c = c->next) {
        if (c->class && c->class->changed)
            c->class->changed(c, function);
    }
    if (function->class->changed)
        function->class->changed(function);
}

void pci_function_set_intx(struct pci_function *function, bool wanted)
{
    function->intx = wanted;
    uint32_t status = pci_function_get(function, PCI_STATUS, 2) & ~PCI_STATUS_INTERRUPT;
    pci_function_put(function, PCI_STATUS, 2, status | (wanted ? PCI_STATUS_INTERRUPT : 0));
    if (function->root)
        drive_wire(function);
}

void pci_function_refresh(struct pci_function *function)
{
    show_bars(function);
    derive(function);
}

/* ---- accesses ---- */

static bool touches(const struct pci_capability *capability, unsigned offset, unsigned size)
{
    return offset < capability->offset + (unsigned)capability->size && capability->offset < offset + size;
}

static bool is_access(unsigned offset, unsigned size)
{
    return is_power_of_two(size) && size <= 8 && range_within(offset, size, PCI_CONFIG_BYTES);
}

enum bus_result pci_function_read(struct pci_function *function, unsigned offset, unsigned size, uint64_t *ret_value)
{
    if (!is_access(offset, size))
        return BUS_NOBODY;
    enum bus_result result = BUS_DONE;
    for (struct pci_capability *c = function->capabilities; c; c = c->next) {
        if (c->class && c->class->read && touches(c, offset, size) &&
            c->class->read(c, function, offset, size) == BUS_LATER)
            result = BUS_LATER;
    }
    uint64_t value = 0;
    for (unsigned i = 0; i < size && offset + i < PCI_CONFIG_KEPT; i++)
        value |= (uint64_t)function->bytes[offset + i] << (8 * i);
    *ret_value = value;
    return result;
}

/* A write of D1 or D2, which we do not have, changes nothing (PCI Power Management 1.2, 3.2.4). */
static void judge_power(struct pci_function *function, uint32_t before)
{
    uint32_t at = function->power + POWER_CONTROL;
    uint32_t now = pci_function_get(function, at, 2);
    if ((now & POWER_STATE) != POWER_D0 && (now & POWER_STATE) != POWER_D3)
        pci_function_put(function, at, 2, (now & ~POWER_STATE) | (before & POWER_STATE));
}

/* Has the guest asked for a function-level reset? The bit always reads 0. */
static bool takes_reset(struct pci_function *function)
{
    if (!function->express)
        return false;
    unsigned at = function->express + EXPRESS_DEVICE_CONTROL;
    uint32_t control = pci_function_get(function, at, 2);
    pci_function_put(function, at, 2, control & ~EXPRESS_INITIATE_RESET);
    return (control & EXPRESS_INITIATE_RESET) != 0;
}

static void store(struct pci_function *function, unsigned offset, unsigned size, uint64_t value)
{
    for (unsigned i = 0; i < size && offset + i < PCI_CONFIG_KEPT; i++) {
        unsigned at = offset + i;
        uint8_t written = (uint8_t)(value >> (8 * i));
        uint8_t kept = (uint8_t)((function->bytes[at] & ~function->writable[at]) | (written & function->writable[at]));
        function->bytes[at] = (uint8_t)(kept & ~(written & function->write_clears[at]));
    }
}

enum bus_result pci_function_write(struct pci_function *function, unsigned offset, unsigned size, uint64_t value)
{
    if (!is_access(offset, size))
        return BUS_NOBODY;
    uint32_t power = function->power ? pci_function_get(function, function->power + POWER_CONTROL, 2) : 0;
    store(function, offset, size, value);
    write_bars(function, offset, size, value);
    if (function->power)
        judge_power(function, power);
    bool commands = offset < PCI_COMMAND + 2 && offset + size > PCI_COMMAND;
    bool powers = function->power && power != pci_function_get(function, function->power + POWER_CONTROL, 2);
    if (commands || powers)
        derive(function);
    enum bus_result result = BUS_DONE;
    for (struct pci_capability *c = function->capabilities; c; c = c->next) {
        if (c->class && c->class->written && touches(c, offset, size) &&
            c->class->written(c, function, offset, size) == BUS_LATER)
            result = BUS_LATER;
    }
    if (takes_reset(function) && pci_function_reset(function, false) == BUS_LATER)
        result = BUS_LATER;
    return result;
}

/* ---- reset ---- */

enum bus_result pci_function_reset(struct pci_function *function, bool machine)
{
    struct pci_bar_engine *engine = function->bars.engine;
    if (engine)
        pci_bar_engine_hold(engine);
    for (unsigned i = 0; i < PCI_CONFIG_KEPT; i++) {
        uint8_t sticky = machine ? 0 : function->sticky[i];
        function->bytes[i] = (uint8_t)((function->initial[i] & ~sticky) | (function->bytes[i] & sticky));
    }
    pci_bars_reset(&function->bars);
    pci_function_set_intx(function, false);
    for (struct pci_capability *c = function->capabilities; c; c = c->next) {
        if (c->class && c->class->reset)
            c->class->reset(c, function);
    }
    pci_function_refresh(function);
    if (engine)
        pci_bar_engine_release(engine);
    return function->class->reset ? function->class->reset(function) : BUS_DONE;
}

bool pci_function_busy(const struct pci_function *function)
{
    return function->class->busy && function->class->busy(function);
}

uint16_t pci_function_id(const struct pci_function *function)
{
    unsigned bus = function->bus ? function->bus->number : 0;
    return (uint16_t)(bus << 8 | function->slot);
}
