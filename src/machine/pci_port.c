/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * The registers are the state. What follows from them is derived after every write: the number of the bus behind the
 * port, the windows of its gate, whether the link is up (the slot is occupied and has power), and whether the port
 * interrupts. A change of link or presence is noted in SLOT_STATUS for the guest, when it happens while the guest runs.
 *
 * Commands complete at once, and the port says that it does not report it (No Command Completed Support).
 *
 * Limits
 *
 * One device behind a port, number 0, and no bridge: no switches. A port that is no bus master does not hold back what
 * comes from behind it. The slot's power is not limited, there is no latch and no interlock.
 */
#include "machine/pci_port.h"

#include <errno.h>

#define BRIDGE_CLASS 0x060400u

/* Header of type 1 (PCIe 6.0, 7.5.1.3). */
enum {
    PRIMARY_BUS = 0x18,
    SECONDARY_BUS = 0x19,
    SUBORDINATE_BUS = 0x1a,
    IO_BASE = 0x1c,
    IO_LIMIT = 0x1d,
    SECONDARY_STATUS = 0x1e,
    MEMORY_BASE = 0x20,
    MEMORY_LIMIT = 0x22,
    PREFETCHABLE_BASE = 0x24,
    PREFETCHABLE_LIMIT = 0x26,
    PREFETCHABLE_BASE_UPPER = 0x28,
    PREFETCHABLE_LIMIT_UPPER = 0x2c,
    BRIDGE_CONTROL = 0x3e,
    HEADER_END = 0x40,
};
#define PREFETCHABLE_64 0x1u
#define BRIDGE_CONTROL_WRITABLE 0x0047u /* parity, SERR, ISA, reset */
#define BRIDGE_CONTROL_RESET 0x0040u

/* PCIe capability of a root port with a slot (7.5.3). */
#define EXPRESS_BYTES 0x3cu
enum {
    EXPRESS_FLAGS = 0x02,
    DEVICE_CAPABILITIES = 0x04,
    DEVICE_CONTROL = 0x08,
    DEVICE_STATUS = 0x0a,
    LINK_CAPABILITIES = 0x0c,
    LINK_CONTROL = 0x10,
    LINK_STATUS = 0x12,
    SLOT_CAPABILITIES = 0x14,
    SLOT_CONTROL = 0x18,
    SLOT_STATUS = 0x1a,
    ROOT_CONTROL = 0x1c,
    ROOT_STATUS = 0x20,
    LINK_CAPABILITIES_2 = 0x2c,
    LINK_CONTROL_2 = 0x30,
};
#define FLAGS_VERSION_2 0x0002u
#define FLAGS_ROOT_PORT 0x0040u
#define FLAGS_SLOT 0x0100u
#define ROLE_BASED_ERRORS (UINT32_C(1) << 15)
#define LINK_X1_2_5GT 0x0011u
#define LINK_SURPRISE_DOWN (UINT32_C(1) << 19)
#define LINK_ACTIVE_REPORTING (UINT32_C(1) << 20)
#define LINK_ACTIVE 0x2000u
#define LINK_SPEEDS_2_5GT 0x0002u

/* Slot capabilities (7.5.3.9). */
#define SLOT_BUTTON UINT32_C(0x0001)
#define SLOT_POWER_CONTROLLER UINT32_C(0x0002)
#define SLOT_ATTENTION_INDICATOR UINT32_C(0x0008)
#define SLOT_POWER_INDICATOR UINT32_C(0x0010)
#define SLOT_SURPRISE UINT32_C(0x0020)
#define SLOT_HOT_PLUG UINT32_C(0x0040)
#define SLOT_NO_COMMAND_COMPLETED (UINT32_C(1) << 18)
#define SLOT_NUMBER_SHIFT 19

/* Slot control and status (7.5.3.10, 7.5.3.11): the enables have the places of their events but for the last. */
#define CONTROL_WRITABLE 0x17ffu
#define CONTROL_INTERRUPT 0x0020u
#define CONTROL_INDICATORS_OFF 0x03c0u
#define CONTROL_POWER_OFF 0x0400u
#define CONTROL_LINK_CHANGED 0x1000u
#define STATUS_BUTTON 0x0001u
#define STATUS_PRESENCE_CHANGED 0x0008u
#define STATUS_PRESENT 0x0040u
#define STATUS_LINK_CHANGED 0x0100u
#define STATUS_EVENTS_SAME 0x001fu
#define STATUS_CLEARS 0x011fu

#define STATE_TAG 0x54524f50 /* "PORT" */
#define STATE_VERSION 1

static uint32_t get(const struct pci_port *port, unsigned offset, unsigned size)
{
    return pci_function_get(&port->function, offset, size);
}

static uint32_t get_express(const struct pci_port *port, unsigned offset, unsigned size)
{
    return get(port, port->express.offset + offset, size);
}

static void put_express(struct pci_port *port, unsigned offset, unsigned size, uint32_t value)
{
    pci_function_put(&port->function, port->express.offset + offset, size, value);
}

bool pci_port_is_occupied(const struct pci_port *port)
{
    return port->bus.functions[0] != NULL;
}

bool pci_port_has_power(const struct pci_port *port)
{
    return port->powered;
}

/* ---- the guest is told ---- */

static void interrupt(struct pci_port *port)
{
    uint32_t control = get_express(port, SLOT_CONTROL, 2), status = get_express(port, SLOT_STATUS, 2);
    bool event = (control & status & STATUS_EVENTS_SAME) != 0 ||
                 ((control & CONTROL_LINK_CHANGED) != 0 && (status & STATUS_LINK_CHANGED) != 0);
    bool notifies = (control & CONTROL_INTERRUPT) != 0 && event;
    bool begins = notifies && !port->notifies;
    port->notifies = notifies;
    if (pci_msi_is_enabled(&port->msi)) {
        pci_function_set_intx(&port->function, false);
        if (begins)
            pci_msi_send(&port->msi); /* an edge (6.7.3.4) */
    } else {
        pci_function_set_intx(&port->function, notifies);
    }
}

static void tell(struct pci_port *port, uint32_t events)
{
    put_express(port, SLOT_STATUS, 2, get_express(port, SLOT_STATUS, 2) | events);
    interrupt(port);
}

/* ---- what registers mean ---- */

static void open_windows(struct pci_port *port)
{
    struct pci_bar_window windows[PCI_BAR_GATE_WINDOWS];
    unsigned count = 0;
    uint32_t command = get(port, PCI_COMMAND, 2);
    uint64_t bases[PCI_BAR_GATE_WINDOWS] = {
        (get(port, IO_BASE, 1) & 0xf0) << 8,
        (get(port, MEMORY_BASE, 2) & 0xfff0) << 16,
        (get(port, PREFETCHABLE_BASE, 2) & 0xfff0) << 16 | (uint64_t)get(port, PREFETCHABLE_BASE_UPPER, 4) << 32,
    };
    uint64_t limits[PCI_BAR_GATE_WINDOWS] = {
        (get(port, IO_LIMIT, 1) & 0xf0) << 8 | 0xfff,
        (get(port, MEMORY_LIMIT, 2) & 0xfff0) << 16 | 0xfffff,
        ((get(port, PREFETCHABLE_LIMIT, 2) & 0xfff0) << 16 | 0xfffff) | (uint64_t)get(port, PREFETCHABLE_LIMIT_UPPER, 4)
                                                                            << 32,
    };
    for (unsigned i = 0; i < PCI_BAR_GATE_WINDOWS; i++) {
        bool on = (command & (i == 0 ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY)) != 0;
        /* A base above the limit is a closed window (7.5.1.3.8). The last byte of all is in none. */
        if (on && port->bus.linked && bases[i] <= limits[i])
            windows[count++] = (struct pci_bar_window){.space = i == 0 ? PCI_BAR_IO : PCI_BAR_MEMORY,
                                                       .base = bases[i],
                                                       .size = limits[i] - bases[i] + (limits[i] != UINT64_MAX)};
    }
    pci_bar_gate_set(&port->function.root->engine, &port->bus.gate, windows, count);
}

/* Bring everything up to date; whether the link has changed. */
static bool derive(struct pci_port *port)
{
    struct pci_root *root = port->function.root;
    if (!root)
        return false;
    bool was_linked = port->bus.linked;
    uint32_t link = get_express(port, LINK_STATUS, 2) & ~LINK_ACTIVE;
    uint32_t status = get_express(port, SLOT_STATUS, 2) & ~STATUS_PRESENT;
    port->bus.linked = pci_port_is_occupied(port) && port->powered;
    put_express(port, LINK_STATUS, 2, link | (port->bus.linked ? LINK_ACTIVE : 0));
    put_express(port, SLOT_STATUS, 2, status | (pci_port_is_occupied(port) ? STATUS_PRESENT : 0));
    if (port->bus.number != get(port, SECONDARY_BUS, 1))
        pci_root_set_bus_number(root, &port->bus, (uint8_t)get(port, SECONDARY_BUS, 1));
    open_windows(port);
    return port->bus.linked != was_linked;
}

/* All functions of the device, 0 last. */
static enum bus_result reset_behind(struct pci_port *port, bool power)
{
    enum bus_result result = BUS_DONE;
    for (unsigned i = PCI_FUNCTIONS_MAX; i-- > 0;) {
        struct pci_function *function = port->bus.functions[i];
        if (function && pci_function_reset(function, power) == BUS_LATER)
            result = BUS_LATER;
    }
    return result;
}

static bool port_busy(const struct pci_function *function)
{
    const struct pci_port *port = container_of((uintptr_t)function, const struct pci_port, function);
    for (unsigned i = 0; i < PCI_FUNCTIONS_MAX; i++) {
        if (port->bus.functions[i] && pci_function_busy(port->bus.functions[i]))
            return true;
    }
    return false;
}

/* ---- the guest's writes ---- */

static enum bus_result header_written(struct pci_capability *header, struct pci_function *function, unsigned offset,
                                      unsigned size)
{
    struct pci_port *port = container_of(header, struct pci_port, header);
    (void)function;
    (void)offset;
    (void)size;
    (void)derive(port);
    bool resetting = (get(port, BRIDGE_CONTROL, 2) & BRIDGE_CONTROL_RESET) != 0;
    bool begins = resetting && !port->resetting;
    port->resetting = resetting;
    return begins ? reset_behind(port, false) : BUS_DONE;
}

static const struct pci_capability_class header_class = {.name = "bridge header", .written = header_written};

static enum bus_result express_written(struct pci_capability *express, struct pci_function *function, unsigned offset,
                                       unsigned size)
{
    struct pci_port *port = container_of(express, struct pci_port, express);
    (void)function;
    (void)offset;
    (void)size;
    enum bus_result result = BUS_DONE;
    bool had_power = port->powered;
    port->powered = !(get_express(port, SLOT_CONTROL, 2) & CONTROL_POWER_OFF);
    if (derive(port))
        tell(port, STATUS_LINK_CHANGED);
    else
        interrupt(port);
    if (had_power && !port->powered) {
        result = reset_behind(port, true);
        const struct pci_port_options *options = &port->options;
        if (port->requested && pci_port_is_occupied(port) && options->listener)
            options->listener->class->ejected(options->listener, port);
        port->requested = false;
    }
    return result;
}

static const struct pci_capability_class express_class = {.name = "root port", .written = express_written};

/* COMMAND says whether the windows are open, and whether there may be messages. */
static void port_changed(struct pci_function *function)
{
    struct pci_port *port = container_of(function, struct pci_port, function);
    if (function->root)
        (void)derive(port);
}

static enum bus_result port_reset(struct pci_function *function)
{
    struct pci_port *port = container_of(function, struct pci_port, function);
    port->powered = true;
    port->requested = port->resetting = port->notifies = false;
    (void)derive(port);
    return BUS_DONE;
}

static int port_save(const struct pci_function *function, struct state_writer *writer)
{
    const struct pci_port *port = container_of((uintptr_t)function, const struct pci_port, function);
    const uint8_t bytes[2] = {port->requested, port->notifies};
    return state_put(writer, STATE_TAG, STATE_VERSION, bytes, sizeof(bytes));
}

static int port_load(struct pci_function *function, struct state_reader *reader)
{
    struct pci_port *port = container_of(function, struct pci_port, function);
    struct state_record record;
    if (state_next(reader, &record) != 1 || record.tag != STATE_TAG || record.length != 2)
        return -EBADMSG;
    if (record.version > STATE_VERSION)
        return -ENOTSUP;
    port->requested = record.payload[0] != 0;
    port->notifies = record.payload[1] != 0; /* that edge has been sent */
    port->resetting = (get(port, BRIDGE_CONTROL, 2) & BRIDGE_CONTROL_RESET) != 0;
    port->powered = !(get_express(port, SLOT_CONTROL, 2) & CONTROL_POWER_OFF);
    (void)derive(port);
    interrupt(port);
    return 0;
}

static const struct pci_function_class port_class = {
    .name = "root port",
    .reset = port_reset,
    .busy = port_busy,
    .changed = port_changed,
    .save = port_save,
    .load = port_load,
};

/* ---- making one ---- */

static void init_header(struct pci_function *function)
{
    pci_function_set_writable(function, PRIMARY_BUS, 3, 0xffffff);
    pci_function_set_writable(function, IO_BASE, 2, 0xf0f0);
    pci_function_set_write_clears(function, SECONDARY_STATUS, 2, 0xf900);
    pci_function_set_writable(function, MEMORY_BASE, 4, 0xfff0fff0);
    pci_function_put_initial(function, PREFETCHABLE_BASE, 4, PREFETCHABLE_64 | PREFETCHABLE_64 << 16);
    pci_function_set_writable(function, PREFETCHABLE_BASE, 4, 0xfff0fff0);
    pci_function_set_writable(function, PREFETCHABLE_BASE_UPPER, 4, 0xffffffff);
    pci_function_set_writable(function, PREFETCHABLE_LIMIT_UPPER, 4, 0xffffffff);
    pci_function_set_writable(function, BRIDGE_CONTROL, 2, BRIDGE_CONTROL_WRITABLE);
}

static int init_express(struct pci_port *port, const struct pci_port_options *options)
{
    struct pci_function *function = &port->function;
    uint8_t bytes[EXPRESS_BYTES] = {0};
    put_le16(bytes + EXPRESS_FLAGS, FLAGS_VERSION_2 | FLAGS_ROOT_PORT | FLAGS_SLOT);
    put_le32(bytes + DEVICE_CAPABILITIES, ROLE_BASED_ERRORS);
    put_le32(bytes + LINK_CAPABILITIES,
             LINK_X1_2_5GT | LINK_SURPRISE_DOWN | LINK_ACTIVE_REPORTING | (uint32_t)options->port_number << 24);
    put_le16(bytes + LINK_STATUS, LINK_X1_2_5GT);
    put_le32(bytes + SLOT_CAPABILITIES,
             SLOT_BUTTON | SLOT_POWER_CONTROLLER | SLOT_ATTENTION_INDICATOR | SLOT_POWER_INDICATOR | SLOT_SURPRISE |
                 SLOT_HOT_PLUG | SLOT_NO_COMMAND_COMPLETED | (uint32_t)options->slot_number << SLOT_NUMBER_SHIFT);
    put_le16(bytes + SLOT_CONTROL, CONTROL_INDICATORS_OFF);
    put_le32(bytes + LINK_CAPABILITIES_2, LINK_SPEEDS_2_5GT);
    put_le16(bytes + LINK_CONTROL_2, 1); /* target speed */
    int r = pci_function_add_capability(function, &port->express, PCI_CAPABILITY_EXPRESS, bytes + 2, EXPRESS_BYTES);
    if (r < 0)
        return r;
    unsigned offset = port->express.offset;
    pci_function_set_writable(function, offset + DEVICE_CONTROL, 2, 0x7fff);
    pci_function_set_write_clears(function, offset + DEVICE_STATUS, 2, 0x000f);
    pci_function_set_writable(function, offset + LINK_CONTROL, 2, 0x00db); /* never disabled, nothing to retrain */
    pci_function_set_writable(function, offset + SLOT_CONTROL, 2, CONTROL_WRITABLE);
    pci_function_set_write_clears(function, offset + SLOT_STATUS, 2, STATUS_CLEARS);
    pci_function_set_writable(function, offset + ROOT_CONTROL, 2, 0x000f);
    return 0;
}

int pci_port_init(struct pci_port *port, const struct pci_port_options *options)
{
    const struct pci_identity identity = {
        .vendor = options->vendor,
        .device = options->device,
        .class_code = BRIDGE_CLASS,
        .pin = options->pin,
        .bridge = true,
    };
    memset(port, 0, sizeof(*port));
    port->options = *options;
    port->header.class = &header_class;
    port->express.class = &express_class;
    port->powered = true;
    pci_function_init(&port->function, &port_class, &identity);
    init_header(&port->function);
    pci_function_watch(&port->function, &port->header, PRIMARY_BUS, HEADER_END - PRIMARY_BUS);
    int r = init_express(port, options);
    return r < 0 ? r : pci_msi_init(&port->msi, &port->function);
}

int pci_port_connect(struct pci_port *port, struct pci_root *root, unsigned device, unsigned number)
{
    int r = pci_function_plug(root, &root->bus, device, number, &port->function);
    if (r < 0)
        return r;
    pci_root_add_bus(root, &port->bus, &port->function);
    (void)derive(port);
    return 0;
}

void pci_port_disconnect(struct pci_port *port)
{
    struct pci_root *root = port->function.root;
    if (!root)
        return;
    ASSERT(!pci_port_is_occupied(port));
    pci_root_remove_bus(root, &port->bus);
    pci_function_unplug(&port->function);
}

/* ---- the slot ---- */

int pci_port_plug(struct pci_port *port, unsigned number, struct pci_function *function, bool hot)
{
    ASSERT(port->function.root);
    if (pci_port_is_occupied(port))
        return -EBUSY;
    int r = pci_function_plug(port->function.root, &port->bus, 0, number, function);
    if (r < 0 || number > 0)
        return r;
    port->requested = false;
    bool link_changed = derive(port);
    /*
     * An empty slot without power has no link that comes up, and whoever has a button to wait for may wait for nothing
     * else (pciehp does not even ask for changes of presence): the button is pressed, too, as by whoever plugs it in.
     */
    if (hot)
        tell(port,
             STATUS_PRESENCE_CHANGED | (link_changed ? STATUS_LINK_CHANGED : 0) | (port->powered ? 0 : STATUS_BUTTON));
    return 0;
}

int pci_port_unplug_request(struct pci_port *port)
{
    if (!pci_port_is_occupied(port))
        return -ENOENT;
    if (!port->powered)
        return -EALREADY;
    port->requested = true;
    tell(port, STATUS_BUTTON);
    return 0;
}

int pci_port_unplug(struct pci_port *port)
{
    if (!pci_port_is_occupied(port))
        return -ENOENT;
    for (unsigned i = 0; i < PCI_FUNCTIONS_MAX; i++) {
        if (port->bus.functions[i])
            pci_function_unplug(port->bus.functions[i]);
    }
    port->requested = false;
    bool link_changed = derive(port);
    tell(port, STATUS_PRESENCE_CHANGED | (link_changed ? STATUS_LINK_CHANGED : 0));
    return 0;
}
