/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A machine in small for tests of PCI: two buses, a root, four wires, a taker of messages, and devices for BARs. */
#ifndef MACHINE_PCI_TEST_RIG_H
#define MACHINE_PCI_TEST_RIG_H

#include "machine/pci.h"

#define RIG_ECAM UINT64_C(0xb0000000)
#define RIG_LOW UINT64_C(0xc0000000)
#define RIG_LOW_BYTES UINT64_C(0x20000000)
#define RIG_HIGH UINT64_C(0x4000000000)
#define RIG_HIGH_BYTES UINT64_C(0x4000000000)
#define RIG_IO 0x1000u
#define RIG_IO_BYTES 0xf000u
#define RIG_MESSAGES_MAX 8

struct rig_wire {
    struct irq_line line;
    bool raised;
    unsigned changes;
};

/* What lies in a BAR: says its tag, and notes what is written. */
struct rig_device {
    struct bus_device device;
    uint32_t tag;
    uint64_t last_offset, last_value;
};

/* A function that counts what it is told. */
struct rig_function {
    struct pci_function function;
    struct rig_device content[PCI_BAR_REGISTERS];
    struct pci_capability capabilities[4];
    unsigned resets, changes, master_changes;
    bool master;
    enum bus_result reset_result;
    bool busy;
    uint32_t state; /* saved and loaded */
};

struct rig {
    struct bus mmio, pio;
    struct pci_root root;
    struct rig_wire wires[PCI_WIRES];
    struct msi_port msi;
    unsigned message_count;
    uint16_t sources[RIG_MESSAGES_MAX];
    struct msi_message messages[RIG_MESSAGES_MAX];
};

extern const struct pci_function_class rig_function_class;

void rig_start(struct rig *rig);
/* A network function of vendor 1234h and device @device with pin INTA#; not plugged in. */
void rig_function_init(struct rig_function *function, uint16_t device);
void rig_add_bar(struct rig_function *function, unsigned index, enum pci_bar_kind kind, bool prefetchable,
                 uint64_t size);

/* Through ECAM. */
uint32_t rig_read(struct rig *rig, unsigned bus, unsigned slot, unsigned offset, unsigned size);
enum bus_result rig_write(struct rig *rig, unsigned bus, unsigned slot, unsigned offset, unsigned size, uint64_t value);
/* Who answers at @address of memory, by his tag; 0: nobody. */
uint32_t rig_who(struct rig *rig, uint64_t address);

#define RIG_SLOT(device, function) ((device)*8u + (function))

#endif
