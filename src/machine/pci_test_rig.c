/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "machine/pci_test_rig.h"

#include <errno.h>

#define STATE_TAG 0x52494721

static void wire_set(struct irq_line *line, bool raised)
{
    struct rig_wire *wire = container_of(line, struct rig_wire, line);
    wire->raised = raised;
    wire->changes++;
}

static const struct irq_line_class wire_class = {.set = wire_set};

static void take_message(struct msi_port *port, uint16_t source, const struct msi_message *message)
{
    struct rig *rig = container_of(port, struct rig, msi);
    if (rig->message_count < RIG_MESSAGES_MAX) {
        rig->sources[rig->message_count] = source;
        rig->messages[rig->message_count] = *message;
    }
    rig->message_count++;
}

static const struct msi_port_class msi_class = {.send = take_message};

static enum bus_result content_read(struct bus_device *device, uint64_t offset, unsigned size, uint64_t *ret_value)
{
    struct rig_device *content = container_of(device, struct rig_device, device);
    (void)size;
    content->last_offset = offset;
    *ret_value = content->tag;
    return BUS_DONE;
}

static enum bus_result content_write(struct bus_device *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct rig_device *content = container_of(device, struct rig_device, device);
    (void)size;
    content->last_offset = offset;
    content->last_value = value;
    return BUS_DONE;
}

static const struct bus_device_class content_class = {.name = "content", .read = content_read, .write = content_write};

static enum bus_result function_reset(struct pci_function *function)
{
    struct rig_function *rig = container_of(function, struct rig_function, function);
    rig->resets++;
    return rig->reset_result;
}

static bool function_busy(const struct pci_function *function)
{
    return container_of((uintptr_t)function, const struct rig_function, function)->busy;
}

static void function_master(struct pci_function *function, bool on)
{
    struct rig_function *rig = container_of(function, struct rig_function, function);
    rig->master = on;
    rig->master_changes++;
}

static void function_changed(struct pci_function *function)
{
    container_of(function, struct rig_function, function)->changes++;
}

static int function_save(const struct pci_function *function, struct state_writer *writer)
{
    const struct rig_function *rig = container_of((uintptr_t)function, const struct rig_function, function);
    return state_put(writer, STATE_TAG, 1, &rig->state, sizeof(rig->state));
}

static int function_load(struct pci_function *function, struct state_reader *reader)
{
    struct rig_function *rig = container_of(function, struct rig_function, function);
    struct state_record record;
    if (state_next(reader, &record) != 1 || record.tag != STATE_TAG || record.length != sizeof(rig->state))
        return -EBADMSG;
    memcpy(&rig->state, record.payload, sizeof(rig->state));
    return 0;
}

const struct pci_function_class rig_function_class = {
    .name = "rig",
    .reset = function_reset,
    .busy = function_busy,
    .bus_master = function_master,
    .changed = function_changed,
    .save = function_save,
    .load = function_load,
};

void rig_start(struct rig *rig)
{
    memset(rig, 0, sizeof(*rig));
    bus_init(&rig->mmio, "mmio", NULL);
    bus_init(&rig->pio, "pio", NULL);
    rig->msi.class = &msi_class;
    struct pci_root_options options = {
        .mmio = &rig->mmio,
        .pio = &rig->pio,
        .ecam_base = RIG_ECAM,
        .buses = 256,
        .mechanism_1 = true,
        .msi = &rig->msi,
        .host_bridge_vendor = 0x1234,
        .host_bridge_device = 0x0001,
    };
    for (unsigned i = 0; i < PCI_WIRES; i++) {
        rig->wires[i].line.class = &wire_class;
        options.wires[i] = &rig->wires[i].line;
    }
    int r = pci_root_init(&rig->root, &options);
    const struct pci_bar_window windows[] = {{PCI_BAR_MEMORY, RIG_LOW, RIG_LOW_BYTES},
                                             {PCI_BAR_MEMORY, RIG_HIGH, RIG_HIGH_BYTES},
                                             {PCI_BAR_IO, RIG_IO, RIG_IO_BYTES}};
    for (unsigned i = 0; i < ARRAY_SIZE(windows); i++)
        r |= pci_bar_engine_add_window(&rig->root.engine, &windows[i]);
    ASSERT(r == 0);
}

void rig_function_init(struct rig_function *function, uint16_t device)
{
    memset(function, 0, sizeof(*function));
    const struct pci_identity identity = {
        .vendor = 0x1234,
        .device = device,
        .subsystem_vendor = 0x1234,
        .subsystem = 0x0100,
        .class_code = 0x020000,
        .revision = 1,
        .pin = 1,
    };
    pci_function_init(&function->function, &rig_function_class, &identity);
}

void rig_add_bar(struct rig_function *function, unsigned index, enum pci_bar_kind kind, bool prefetchable,
                 uint64_t size)
{
    struct rig_device *content = &function->content[index];
    content->device.class = &content_class;
    content->tag = pci_function_get(&function->function, PCI_DEVICE_ID, 2) << 8 | index;
    int r = pci_function_add_bar(&function->function, index, kind, prefetchable, size, &content->device);
    ASSERT(r == 0);
}

static uint64_t ecam(unsigned bus, unsigned slot, unsigned offset)
{
    return RIG_ECAM + ((uint64_t)bus << 20 | slot << 12 | offset);
}

uint32_t rig_read(struct rig *rig, unsigned bus, unsigned slot, unsigned offset, unsigned size)
{
    uint64_t value;
    (void)bus_read(&rig->mmio, ecam(bus, slot, offset), size, &value, NULL);
    return (uint32_t)value;
}

enum bus_result rig_write(struct rig *rig, unsigned bus, unsigned slot, unsigned offset, unsigned size, uint64_t value)
{
    return bus_write(&rig->mmio, ecam(bus, slot, offset), size, value, NULL);
}

uint32_t rig_who(struct rig *rig, uint64_t address)
{
    uint64_t value;
    return bus_read(&rig->mmio, address, 4, &value, NULL) == BUS_DONE ? (uint32_t)value : 0;
}
