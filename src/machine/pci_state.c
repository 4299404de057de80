/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A function's record has records inside: its registers; for each capability with state of its own, that; the state of
 * its class. Of the registers only those bits are loaded that a guest can change: what a function is, it is by how it
 * was made, and a state of another one is refused.
 *
 * The engine is held until all functions are there, so that BARs go to where they were in one step.
 */
#include <assert.h>
#include <errno.h>

#include "machine/pci.h"

#define STATE_VERSION 1
#define REGISTERS_TAG 0x48494350  /* "PCIH" */
#define CAPABILITY_TAG 0x43494350 /* "PCIC": two bytes of offset, then records */
#define CLASS_TAG 0x44494350      /* "PCID" */

/* Registers: where it is, what it is, bytes, BARs. */
enum {
    AT_BUS = 0, /* 0: the root's; else 1 and the bridge's slot on the root bus */
    AT_SLOT = 2,
    AT_INTX = 3,
    AT_IDENTITY = 4, /* vendor and device */
    AT_LAYOUT = 8,   /* where capabilities end */
    AT_BYTES = 12,
    AT_BARS = AT_BYTES + PCI_CONFIG_KEPT,
    REGISTERS_BYTES = AT_BARS + PCI_BARS_STATE_BYTES,
};

static uint16_t bus_of(const struct pci_function *function)
{
    return function->bus->bridge ? (uint16_t)(1 + function->bus->bridge->slot) : 0;
}

static uint32_t layout_of(const struct pci_function *function)
{
    return function->capability_next | (uint32_t)function->extended_next << 16;
}

/* ---- save ---- */

static int save_capability(const struct pci_capability *capability, struct state_writer *writer)
{
    size_t mark;
    uint8_t offset[2];
    int r = state_begin(writer, CAPABILITY_TAG, STATE_VERSION, &mark);
    if (r < 0)
        return r;
    put_le16(offset, capability->offset);
    r = state_append(writer, offset, sizeof(offset));
    if (r == 0)
        r = capability->class->save(capability, writer);
    return state_end(writer, mark, r);
}

static int save_inside(const struct pci_function *function, struct state_writer *writer)
{
    uint8_t bytes[REGISTERS_BYTES];
    put_le16(bytes + AT_BUS, bus_of(function));
    bytes[AT_SLOT] = function->slot;
    bytes[AT_INTX] = function->intx;
    put_le32(bytes + AT_IDENTITY, pci_function_get(function, PCI_VENDOR_ID, 4));
    put_le32(bytes + AT_LAYOUT, layout_of(function));
    memcpy(bytes + AT_BYTES, function->bytes, PCI_CONFIG_KEPT);
    pci_bars_save(&function->bars, bytes + AT_BARS);
    int r = state_put(writer, REGISTERS_TAG, STATE_VERSION, bytes, sizeof(bytes));
    for (const struct pci_capability *c = function->capabilities; c && r == 0; c = c->next) {
        if (c->class && c->class->save)
            r = save_capability(c, writer);
    }
    if (r < 0 || !function->class->save)
        return r;
    size_t mark;
    r = state_begin(writer, CLASS_TAG, STATE_VERSION, &mark);
    return r < 0 ? r : state_end(writer, mark, function->class->save(function, writer));
}

int pci_root_save(const struct pci_root *root, struct state_writer *writer)
{
    size_t begin = writer->used, mark;
    uint8_t address[4];
    put_le32(address, root->address);
    int r = state_put(writer, PCI_ROOT_STATE_TAG, STATE_VERSION, address, sizeof(address));
    for (const struct pci_function *function = NULL; r == 0 && (function = pci_root_next(root, function));) {
        r = state_begin(writer, PCI_FUNCTION_STATE_TAG, STATE_VERSION, &mark);
        if (r == 0)
            r = state_end(writer, mark, save_inside(function, writer));
    }
    if (r < 0)
        writer->used = begin;
    return r;
}

/* ---- load ---- */

static struct pci_function *find(const struct pci_root *root, unsigned bus, unsigned slot)
{
    for (struct pci_function *function = NULL; (function = pci_root_next(root, function));) {
        if (bus_of(function) == bus && function->slot == slot)
            return function;
    }
    return NULL;
}

static int load_registers(struct pci_root *root, const struct state_record *record, struct pci_function **ret_function)
{
    const uint8_t *from = record->payload;
    if (record->tag != REGISTERS_TAG || record->length != REGISTERS_BYTES)
        return -EBADMSG;
    struct pci_function *function = find(root, get_le16(from + AT_BUS), from[AT_SLOT]);
    if (!function || get_le32(from + AT_IDENTITY) != pci_function_get(function, PCI_VENDOR_ID, 4) ||
        get_le32(from + AT_LAYOUT) != layout_of(function) || from[AT_INTX] > 1)
        return -EBADMSG;
    int r = pci_bars_load(&function->bars, from + AT_BARS);
    if (r < 0)
        return r;
    for (unsigned i = 0; i < PCI_CONFIG_KEPT; i++) {
        uint8_t loaded = function->writable[i] | function->write_clears[i];
        function->bytes[i] = (uint8_t)((function->bytes[i] & ~loaded) | (from[AT_BYTES + i] & loaded));
    }
    pci_function_set_intx(function, from[AT_INTX] != 0);
    *ret_function = function;
    return 0;
}

static int load_capability(struct pci_function *function, const struct state_record *record)
{
    if (record->length < 2)
        return -EBADMSG;
    struct state_reader reader = {.bytes = record->payload + 2, .size = record->length - 2};
    for (struct pci_capability *c = function->capabilities; c; c = c->next) {
        if (c->offset == get_le16(record->payload) && c->class && c->class->load)
            return c->class->load(c, function, &reader);
    }
    return -EBADMSG;
}

static int load_function(struct pci_root *root, const struct state_record *outer)
{
    struct state_reader reader = {.bytes = outer->payload, .size = outer->length};
    struct state_record record;
    struct pci_function *function;
    int r = state_next(&reader, &record);
    if (r <= 0)
        return -EBADMSG;
    if (record.version > STATE_VERSION)
        return -ENOTSUP;
    r = load_registers(root, &record, &function);
    if (r < 0)
        return r;
    pci_function_refresh(function);
    while ((r = state_next(&reader, &record)) > 0) {
        struct state_reader inner = {.bytes = record.payload, .size = record.length};
        if (record.version > STATE_VERSION)
            return -ENOTSUP;
        if (record.tag == CAPABILITY_TAG)
            r = load_capability(function, &record);
        else if (record.tag == CLASS_TAG && function->class->load)
            r = function->class->load(function, &inner);
        else
            return -EBADMSG;
        if (r < 0)
            return r;
    }
    return r;
}

static int load_all(struct pci_root *root, struct state_reader *reader)
{
    struct state_record record;
    unsigned loaded = 0, expected = 0;
    bool head = false;
    int r;
    for (const struct pci_function *function = NULL; (function = pci_root_next(root, function));)
        expected++;
    while ((r = state_next(reader, &record)) > 0) {
        if (record.tag != PCI_ROOT_STATE_TAG && record.tag != PCI_FUNCTION_STATE_TAG)
            continue;
        if (record.version > STATE_VERSION)
            return -ENOTSUP;
        if (record.tag == PCI_ROOT_STATE_TAG) {
            if (record.length != 4)
                return -EBADMSG;
            root->address = get_le32(record.payload) & UINT32_C(0x80fffffc);
            head = true;
            continue;
        }
        r = load_function(root, &record);
        if (r < 0)
            return r;
        loaded++;
    }
    return r < 0 ? r : head && loaded == expected ? 0 : -EBADMSG;
}

int pci_root_load(struct pci_root *root, struct state_reader *reader)
{
    pci_bar_engine_hold(&root->engine);
    int r = load_all(root, reader);
    pci_bar_engine_release(&root->engine);
    return r;
}
