/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * Who is at bus, device and function is two loads: a table of buses by number, and in each bus a table of functions.
 * The first is derived anew from all bridges whenever one of them changes its number.
 *
 * The BAR engine's sets become moves of the buses: first I/O, then memory; when the second is refused, the first is
 * taken back, which cannot fail, since nobody was let in between.
 *
 * An access that takes longer is waited for by function: ECAM and mechanism #1 are busy as long as any of those is.
 */
#include <assert.h>
#include <errno.h>

#include "machine/pci.h"

#define ECAM_BUS_SHIFT 20 /* PCIe 6.0, 7.2.2 */
#define ECAM_SLOT_SHIFT 12
#define MECHANISM_1_PORT 0xcf8u /* PCI Local Bus 3.0, 3.2.2.3.2: address, and data behind it */
#define MECHANISM_1_BYTES 8u
#define MECHANISM_1_DATA 4u
#define MECHANISM_1_ENABLE UINT32_C(0x80000000)
#define HOST_BRIDGE_CLASS 0x060000u

/* ---- who is where ---- */

static void number_buses(struct pci_root *root)
{
    memset(root->buses, 0, sizeof(root->buses));
    root->buses[0] = &root->bus;
    for (struct pci_bus *bus = root->bridges; bus; bus = bus->next) {
        if (bus->number != 0 && !root->buses[bus->number])
            root->buses[bus->number] = bus;
    }
}

struct pci_function *pci_root_find(const struct pci_root *root, unsigned bus, unsigned slot)
{
    if (bus >= PCI_BUSES_MAX || slot >= PCI_DEVICES_MAX * PCI_FUNCTIONS_MAX)
        return NULL;
    const struct pci_bus *found = root->buses[index_mask(bus, PCI_BUSES_MAX)];
    return found && found->linked ? found->functions[index_mask(slot, (size_t)PCI_DEVICES_MAX * PCI_FUNCTIONS_MAX)]
                                  : NULL;
}

static struct pci_function *first_from(const struct pci_bus *bus, unsigned slot)
{
    for (; slot < PCI_DEVICES_MAX * PCI_FUNCTIONS_MAX; slot++) {
        if (bus->functions[slot])
            return bus->functions[slot];
    }
    return NULL;
}

struct pci_function *pci_root_next(const struct pci_root *root, const struct pci_function *last)
{
    const struct pci_bus *bus = last ? last->bus : &root->bus;
    struct pci_function *found = first_from(bus, last ? last->slot + 1u : 0);
    while (!found) {
        bus = bus == &root->bus ? root->bridges : bus->next;
        if (!bus)
            return NULL;
        found = first_from(bus, 0);
    }
    return found;
}

void pci_root_add_bus(struct pci_root *root, struct pci_bus *bus, struct pci_function *bridge)
{
    bus->bridge = bridge;
    bus->number = 0;
    bus->linked = false;
    bus->next = NULL;
    struct pci_bus **at = &root->bridges;
    while (*at)
        at = &(*at)->next;
    *at = bus;
}

void pci_root_remove_bus(struct pci_root *root, struct pci_bus *bus)
{
    for (struct pci_bus **at = &root->bridges; *at; at = &(*at)->next) {
        if (*at == bus) {
            *at = bus->next;
            break;
        }
    }
    bus->next = NULL;
    bus->bridge = NULL;
    number_buses(root);
}

void pci_root_set_bus_number(struct pci_root *root, struct pci_bus *bus, uint8_t number)
{
    bus->number = number;
    number_buses(root);
}

/* ---- plugging in ---- */

/* Which of the root's wires the pin leads to: each bridge turns it by its device's number (PCIe 6.0, 2.2.8.1). */
static uint8_t wire_of(const struct pci_function *function)
{
    unsigned pin = pci_function_get(function, PCI_INTERRUPT_PIN, 1);
    unsigned wire = pin > 0 ? pin - 1 : 0;
    for (const struct pci_function *at = function; at; at = at->bus->bridge)
        wire += at->slot / PCI_FUNCTIONS_MAX;
    return (uint8_t)(wire % PCI_WIRES);
}

/* Function 0 says whether there are others (PCI Local Bus 3.0, 6.2.1). */
static void mark_multifunction(struct pci_bus *bus, unsigned device)
{
    unsigned count = 0;
    for (unsigned i = 0; i < PCI_FUNCTIONS_MAX; i++)
        count += bus->functions[device * PCI_FUNCTIONS_MAX + i] != NULL;
    struct pci_function *first = bus->functions[(size_t)device * PCI_FUNCTIONS_MAX];
    if (!first)
        return;
    uint32_t type = pci_function_get(first, PCI_HEADER_TYPE, 1) & ~PCI_HEADER_TYPE_MULTIFUNCTION;
    pci_function_put_initial(first, PCI_HEADER_TYPE, 1, type | (count > 1 ? PCI_HEADER_TYPE_MULTIFUNCTION : 0));
}

int pci_function_plug(struct pci_root *root, struct pci_bus *bus, unsigned device, unsigned number,
                      struct pci_function *function)
{
    ASSERT(function->root == NULL);
    if (device >= PCI_DEVICES_MAX || number >= PCI_FUNCTIONS_MAX || (bus->bridge && device > 0))
        return -EINVAL;
    unsigned slot = device * PCI_FUNCTIONS_MAX + number;
    if (bus->functions[slot])
        return -EEXIST;
    bus->functions[slot] = function;
    function->root = root;
    function->bus = bus;
    function->slot = (uint8_t)slot;
    function->wire = wire_of(function);
    mark_multifunction(bus, device);
    pci_bars_add(&root->engine, &function->bars, bus->bridge ? &bus->gate : NULL);
    pci_function_refresh(function);
    return 0;
}

static void forget_waiting(struct pci_root *root, struct pci_function *function)
{
    for (struct pci_function **at = &root->waiting; *at; at = &(*at)->waiting_next) {
        if (*at == function) {
            *at = function->waiting_next;
            break;
        }
    }
    function->waiting = false;
    function->waiting_next = NULL;
}

void pci_function_unplug(struct pci_function *function)
{
    struct pci_root *root = function->root;
    if (!root)
        return;
    pci_bars_remove(&function->bars);
    pci_function_set_intx(function, false);
    forget_waiting(root, function);
    function->bus->functions[function->slot] = NULL;
    mark_multifunction(function->bus, function->slot / PCI_FUNCTIONS_MAX);
    function->root = NULL;
    function->bus = NULL;
}

/* ---- accesses ---- */

static bool any_busy(const struct pci_root *root)
{
    for (const struct pci_function *function = root->waiting; function; function = function->waiting_next) {
        if (pci_function_busy(function))
            return true;
    }
    return false;
}

/* Whoever is not busy any more is waited for no more. */
static void wait_for(struct pci_root *root, struct pci_function *function)
{
    for (struct pci_function **at = &root->waiting; *at;) {
        struct pci_function *other = *at;
        if (pci_function_busy(other)) {
            at = &other->waiting_next;
            continue;
        }
        *at = other->waiting_next;
        other->waiting = false;
        other->waiting_next = NULL;
    }
    if (function->waiting)
        return;
    function->waiting = true;
    function->waiting_next = root->waiting;
    root->waiting = function;
}

static enum bus_result root_read(struct pci_root *root, unsigned bus, unsigned slot, unsigned offset, unsigned size,
                                 uint64_t *ret_value)
{
    struct pci_function *function = pci_root_find(root, bus, slot);
    *ret_value = UINT64_MAX; /* nobody there is no error (PCIe 6.0, 2.3.2) */
    if (!function)
        return BUS_DONE;
    enum bus_result result = pci_function_read(function, offset, size, ret_value);
    if (result != BUS_LATER)
        return BUS_DONE;
    wait_for(root, function);
    return result;
}

static enum bus_result root_write(struct pci_root *root, unsigned bus, unsigned slot, unsigned offset, unsigned size,
                                  uint64_t value)
{
    struct pci_function *function = pci_root_find(root, bus, slot);
    if (!function || pci_function_write(function, offset, size, value) != BUS_LATER)
        return BUS_DONE;
    wait_for(root, function);
    return BUS_LATER;
}

static enum bus_result ecam_read(struct bus_device *device, uint64_t offset, unsigned size, uint64_t *ret_value)
{
    struct pci_root *root = container_of(device, struct pci_root, ecam);
    return root_read(root, (unsigned)(offset >> ECAM_BUS_SHIFT), (unsigned)(offset >> ECAM_SLOT_SHIFT) & 0xff,
                     (unsigned)offset & (PCI_CONFIG_BYTES - 1), size, ret_value);
}

static enum bus_result ecam_write(struct bus_device *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct pci_root *root = container_of(device, struct pci_root, ecam);
    return root_write(root, (unsigned)(offset >> ECAM_BUS_SHIFT), (unsigned)(offset >> ECAM_SLOT_SHIFT) & 0xff,
                      (unsigned)offset & (PCI_CONFIG_BYTES - 1), size, value);
}

static bool ecam_busy(const struct bus_device *device)
{
    return any_busy(container_of((uintptr_t)device, const struct pci_root, ecam));
}

static const struct bus_device_class ecam_class = {
    .name = "PCI configuration space",
    .read = ecam_read,
    .write = ecam_write,
    .busy = ecam_busy,
};

/* The register that an access of the data port means; false: none. */
static bool mechanism_1_means(const struct pci_root *root, uint64_t offset, unsigned size, unsigned *ret_register)
{
    if (!(root->address & MECHANISM_1_ENABLE) || offset < MECHANISM_1_DATA || size > 4)
        return false;
    *ret_register = (root->address & 0xfc) + ((unsigned)offset & 3);
    return true;
}

static enum bus_result mechanism_1_read(struct bus_device *device, uint64_t offset, unsigned size, uint64_t *ret_value)
{
    struct pci_root *root = container_of(device, struct pci_root, mechanism_1);
    unsigned at;
    *ret_value = UINT64_MAX;
    if (offset == 0 && size == 4)
        *ret_value = root->address;
    else if (mechanism_1_means(root, offset, size, &at))
        return root_read(root, root->address >> 16 & 0xff, root->address >> 8 & 0xff, at, size, ret_value);
    return BUS_DONE;
}

static enum bus_result mechanism_1_write(struct bus_device *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct pci_root *root = container_of(device, struct pci_root, mechanism_1);
    unsigned at;
    if (offset == 0 && size == 4)
        root->address = (uint32_t)value & UINT32_C(0x80fffffc);
    else if (mechanism_1_means(root, offset, size, &at))
        return root_write(root, root->address >> 16 & 0xff, root->address >> 8 & 0xff, at, size, value);
    return BUS_DONE;
}

static bool mechanism_1_busy(const struct bus_device *device)
{
    return any_busy(container_of((uintptr_t)device, const struct pci_root, mechanism_1));
}

static const struct bus_device_class mechanism_1_class = {
    .name = "PCI configuration mechanism #1",
    .read = mechanism_1_read,
    .write = mechanism_1_write,
    .busy = mechanism_1_busy,
};

/* ---- BARs ---- */

/* The moves of one space as moves of its bus. */
static unsigned translate(struct pci_root *root, bool io, const struct pci_bar_move *moves, unsigned count)
{
    unsigned used = 0;
    for (unsigned i = 0; i < count; i++) {
        const struct pci_bar *bar = moves[i].bar;
        if ((bar->kind == PCI_BAR_PORTS) == io && bar->content)
            root->moves[used++] = (struct bus_move){
                .device = bar->content, .base = moves[i].base, .size = moves[i].placed ? bar->size : 0};
    }
    return used;
}

static int apply(struct pci_bar_port *port, const struct pci_bar_move *moves, unsigned count)
{
    struct pci_root *root = container_of(port, struct pci_root, bar_port);
    unsigned ports = root->options.pio ? translate(root, true, moves, count) : 0;
    int r = ports > 0 ? bus_move(root->options.pio, root->moves, ports) : 0;
    if (r < 0)
        return r;
    unsigned memories = translate(root, false, moves, count);
    r = memories > 0 ? bus_move(root->options.mmio, root->moves, memories) : 0;
    if (r == 0 || ports == 0)
        return r;
    for (unsigned i = 0, used = 0; i < count; i++) {
        const struct pci_bar *bar = moves[i].bar;
        if (bar->kind == PCI_BAR_PORTS && bar->content)
            root->moves[used++] =
                (struct bus_move){.device = bar->content, .base = bar->base, .size = bar->placed ? bar->size : 0};
    }
    int back = bus_move(root->options.pio, root->moves, ports);
    ASSERT(back == 0);
    return r;
}

static const struct pci_bar_port_class bar_port_class = {.apply = apply};

/* ---- the root itself ---- */

static const struct pci_function_class host_bridge_class = {.name = "host bridge"};

int pci_root_init(struct pci_root *root, const struct pci_root_options *options)
{
    ASSERT(options->buses >= 1 && options->buses <= PCI_BUSES_MAX);
    memset(root, 0, sizeof(*root));
    root->options = *options;
    root->bus.linked = true;
    root->bar_port.class = &bar_port_class;
    root->ecam.class = &ecam_class;
    root->mechanism_1.class = &mechanism_1_class;
    pci_bar_engine_init(&root->engine, &root->bar_port);
    number_buses(root);
    int r = bus_add(options->mmio, options->ecam_base, (uint64_t)options->buses << ECAM_BUS_SHIFT, &root->ecam);
    if (r < 0)
        return r;
    if (options->pio && options->mechanism_1)
        r = bus_add(options->pio, MECHANISM_1_PORT, MECHANISM_1_BYTES, &root->mechanism_1);
    if (r < 0) {
        (void)bus_remove(options->mmio, &root->ecam);
        return r;
    }
    const struct pci_identity identity = {
        .vendor = options->host_bridge_vendor,
        .device = options->host_bridge_device,
        .class_code = HOST_BRIDGE_CLASS,
    };
    pci_function_init(&root->host_bridge, &host_bridge_class, &identity);
    r = pci_function_plug(root, &root->bus, 0, 0, &root->host_bridge);
    ASSERT(r == 0);
    return 0;
}

void pci_root_done(struct pci_root *root)
{
    if (!root->options.mmio)
        return;
    pci_function_unplug(&root->host_bridge);
    (void)bus_remove(root->options.mmio, &root->ecam);
    if (root->options.pio)
        (void)bus_remove(root->options.pio, &root->mechanism_1);
    root->options.mmio = NULL;
}

enum bus_result pci_root_reset(struct pci_root *root)
{
    enum bus_result result = BUS_DONE;
    pci_bar_engine_hold(&root->engine);
    root->address = 0;
    for (struct pci_function *function = NULL; (function = pci_root_next(root, function));) {
        if (pci_function_reset(function, true) != BUS_LATER)
            continue;
        wait_for(root, function);
        result = BUS_LATER;
    }
    pci_bar_engine_release(&root->engine);
    return result;
}

bool pci_root_busy(const struct pci_root *root)
{
    return any_busy(root);
}
