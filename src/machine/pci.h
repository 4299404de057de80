/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Functions of PCI, and the root they are plugged into (PCI Local Bus 3.0, chapter 6; PCIe 6.0, chapter 7). A function
 * is 4 KiB of configuration space, BARs whose content is a device of the bus, capabilities that see what is read and
 * written in them, and an interrupt pin. The root is the way there: ECAM (PCIe 6.0, 7.2.2), and on x86 configuration
 * mechanism #1 (PCI Local Bus 3.0, 3.2.2.3.2).
 *
 * A function is made in four steps: pci_function_init; capabilities and BARs; pci_function_plug; and whoever assigns
 * addresses (pci_assign, a firmware, the guest) does so. Registers that nobody speaks of read 0 and keep nothing.
 *
 * Threads: one at a time, as the bus. Everything is the caller's storage, borrowed until it is unplugged.
 */
#ifndef MACHINE_PCI_H
#define MACHINE_PCI_H

#include <stdatomic.h>

#include "base/state.h"
#include "machine/bus.h"
#include "machine/irq.h"
#include "machine/pci_bar.h"

#define PCI_CONFIG_BYTES 4096u /* of a function's space */
#define PCI_CONFIG_KEPT 512u   /* of them may be something else than 0: 256, and the first extended capabilities */
#define PCI_DEVICES_MAX 32u    /* on a bus */
#define PCI_FUNCTIONS_MAX 8u   /* of a device */
#define PCI_BUSES_MAX 256u
#define PCI_WIRES 4u /* INTA# to INTD# at the root */

/* Registers of the header, and bits in them (PCIe 6.0, 7.5.1). */
enum {
    PCI_VENDOR_ID = 0x00,
    PCI_DEVICE_ID = 0x02,
    PCI_COMMAND = 0x04,
    PCI_STATUS = 0x06,
    PCI_REVISION_ID = 0x08,
    PCI_CLASS_CODE = 0x09, /* three bytes */
    PCI_CACHE_LINE_SIZE = 0x0c,
    PCI_LATENCY_TIMER = 0x0d,
    PCI_HEADER_TYPE = 0x0e,
    PCI_BAR0 = 0x10,
    PCI_SUBSYSTEM_VENDOR_ID = 0x2c,
    PCI_SUBSYSTEM_ID = 0x2e,
    PCI_ROM_ADDRESS = 0x30, /* header of type 0 */
    PCI_CAPABILITIES = 0x34,
    PCI_INTERRUPT_LINE = 0x3c,
    PCI_INTERRUPT_PIN = 0x3d,
    PCI_EXTENDED = 0x100,
};
#define PCI_COMMAND_IO 0x0001u
#define PCI_COMMAND_MEMORY 0x0002u
#define PCI_COMMAND_BUS_MASTER 0x0004u
#define PCI_COMMAND_INTX_DISABLE 0x0400u
#define PCI_STATUS_INTERRUPT 0x0008u
#define PCI_STATUS_CAPABILITIES 0x0010u
#define PCI_HEADER_TYPE_MULTIFUNCTION 0x80u

enum pci_capability_id {
    PCI_CAPABILITY_POWER = 0x01,
    PCI_CAPABILITY_MSI = 0x05,
    PCI_CAPABILITY_VENDOR = 0x09,
    PCI_CAPABILITY_EXPRESS = 0x10,
    PCI_CAPABILITY_MSIX = 0x11,
};

struct pci_bus;
struct pci_capability;
struct pci_function;
struct pci_root;

struct pci_function_class {
    const char *name;
    /*
     * As after power-on: function-level reset, reset of the bus above, loss of power, reset of the machine. Registers,
     * BARs and capabilities have been reset already. BUS_LATER: busy() until it is done. May be NULL.
     */
    enum bus_result (*reset)(struct pci_function *function);
    bool (*busy)(const struct pci_function *function); /* NULL: never */
    /* COMMAND.BUS_MASTER has changed: may the function touch memory? May be NULL. */
    void (*bus_master)(struct pci_function *function, bool on);
    /* COMMAND or the power state may have changed; registers have been loaded. May be NULL. */
    void (*changed)(struct pci_function *function);
    /* What the function has besides its configuration space and its capabilities. May be NULL. */
    int (*save)(const struct pci_function *function, struct state_writer *writer);
    int (*load)(struct pci_function *function, struct state_reader *reader);
};

/* A part of the configuration space that somebody watches: a capability, or registers of the header. */
struct pci_capability_class {
    const char *name;
    /*
     * The guest is about to read @size bytes at @offset (from the space's first byte), some of which are in the
     * capability: the bytes may be brought up to date with pci_function_put. May be NULL.
     */
    enum bus_result (*read)(struct pci_capability *capability, struct pci_function *function, unsigned offset,
                            unsigned size);
    /* It has written there; the bytes are as the masks allow. May be NULL. */
    enum bus_result (*written)(struct pci_capability *capability, struct pci_function *function, unsigned offset,
                               unsigned size);
    /* COMMAND or the power state has changed. May be NULL. */
    void (*changed)(struct pci_capability *capability, struct pci_function *function);
    /* Its bytes are as when they were added. May be NULL. */
    void (*reset)(struct pci_capability *capability, struct pci_function *function);
    /* What is not in its bytes; appends records. The bytes have been loaded before load(). May be NULL. */
    int (*save)(const struct pci_capability *capability, struct state_writer *writer);
    int (*load)(struct pci_capability *capability, struct pci_function *function, struct state_reader *reader);
};

struct pci_capability {
    const struct pci_capability_class *class; /* NULL: nobody watches */
    uint16_t offset, size;                    /* in the configuration space */
    struct pci_capability *next;
};

struct pci_function {
    const struct pci_function_class *class;
    struct pci_root *root; /* NULL: not plugged in */
    struct pci_bus *bus;
    uint8_t slot; /* device << 3 | function */

    uint8_t bytes[PCI_CONFIG_KEPT];
    uint8_t initial[PCI_CONFIG_KEPT];        /* what a reset makes of them */
    uint8_t writable[PCI_CONFIG_KEPT];       /* bits that a write changes, */
    uint8_t write_clears[PCI_CONFIG_KEPT];   /* and those that a write of 1 clears */
    uint8_t sticky[PCI_CONFIG_KEPT];         /* bits that only a reset of the machine touches */
    uint16_t capability_next, extended_next; /* where the next one goes */
    uint16_t capability_last, extended_last; /* whose link is the last */
    uint16_t power, express;                 /* offsets of these; 0: none */
    struct pci_capability *capabilities;

    struct pci_bars bars;
    uint8_t bar_registers; /* in the header: 6; a bridge has 2 */
    uint8_t rom_register;  /* offset */

    bool bus_master;                   /* as the class was told last */
    bool intx;                         /* the function wants to interrupt */
    bool wire_raised;                  /* its share of the wire */
    uint8_t wire;                      /* of the root */
    struct pci_function *waiting_next; /* an access to it answered BUS_LATER */
    bool waiting;
};

struct pci_identity {
    uint16_t vendor, device, subsystem_vendor, subsystem;
    uint32_t class_code; /* 24 bits: base class, subclass, programming interface */
    uint8_t revision;
    uint8_t pin; /* 0: none; 1: INTA#, … */
    bool bridge; /* header of type 1 */
};

/* Zeroes it. @class is borrowed. */
void pci_function_init(struct pci_function *function, const struct pci_function_class *class,
                       const struct pci_identity *identity);

/*
 * Append a capability of @size bytes, id and link included (PCI Local Bus 3.0, 6.7); or @bytes behind id and link,
 * which may be NULL for zeros. Its offset is in @capability, which is borrowed. -ENOSPC: no room.
 */
int pci_function_add_capability(struct pci_function *function, struct pci_capability *capability,
                                enum pci_capability_id id, const void *bytes, unsigned size);
/* An extended one (PCIe 6.0, 7.6): @bytes behind its four bytes of header. */
int pci_function_add_extended(struct pci_function *function, struct pci_capability *capability, uint16_t id,
                              uint8_t version, const void *bytes, unsigned size);
/* Before it is plugged in: bits of the @size (1, 2, 4) bytes at @offset that the guest may write, or clears by 1. */
void pci_function_set_writable(struct pci_function *function, unsigned offset, unsigned size, uint32_t mask);
void pci_function_set_write_clears(struct pci_function *function, unsigned offset, unsigned size, uint32_t mask);

/* Watch @size bytes at @offset of the header. */
void pci_function_watch(struct pci_function *function, struct pci_capability *capability, unsigned offset,
                        unsigned size);

/*
 * Power management (PCI Power Management 1.2): D0, and D3hot, in which neither BARs answer nor messages go out. The way
 * back to D0 resets nothing.
 */
int pci_function_add_power(struct pci_function *function, struct pci_capability *capability);
/*
 * The PCIe capability (PCIe 6.0, 7.5.3) of an endpoint, behind a root port or (@integrated) on the root bus;
 * @function_reset: with function-level reset (6.6.2).
 */
int pci_function_add_express(struct pci_function *function, struct pci_capability *capability, bool integrated,
                             bool function_reset);

/* BAR @index: @content (borrowed) answers in it, and moves with it. Errors are pci_bar_set_up's. */
int pci_function_add_bar(struct pci_function *function, unsigned index, enum pci_bar_kind kind, bool prefetchable,
                         uint64_t size, struct bus_device *content);

/* What the space holds, without any effect; @size is 1, 2 or 4. */
uint32_t pci_function_get(const struct pci_function *function, unsigned offset, unsigned size);
/* Set it, whatever the masks are. Not for BARs. */
void pci_function_put(struct pci_function *function, unsigned offset, unsigned size, uint32_t value);
/* The same, and it is what a reset leads to: while the function is being made. */
void pci_function_put_initial(struct pci_function *function, unsigned offset, unsigned size, uint32_t value);

/* An access of the guest: @size is 1, 2 or 4 (8 through ECAM), at any alignment inside the 4 KiB. */
enum bus_result pci_function_read(struct pci_function *function, unsigned offset, unsigned size, uint64_t *ret_value);
enum bus_result pci_function_write(struct pci_function *function, unsigned offset, unsigned size, uint64_t value);

/* Want an interrupt by the pin, or no more: STATUS.INTERRUPT, and the wire unless COMMAND.INTX_DISABLE. */
void pci_function_set_intx(struct pci_function *function, bool wanted);
/* COMMAND.BUS_MASTER, in D0: may it touch memory, and send messages? */
static inline bool pci_function_is_bus_master(const struct pci_function *function)
{
    return function->bus_master;
}
/* Bus, device, function: who a message comes from. */
uint16_t pci_function_id(const struct pci_function *function);
/* Bytes were set with pci_function_put that mean something to others (COMMAND, power): let them know. */
void pci_function_refresh(struct pci_function *function);
/* @machine: the whole machine is reset; else what sticks, sticks. */
enum bus_result pci_function_reset(struct pci_function *function, bool machine);
bool pci_function_busy(const struct pci_function *function);

/* ---- the root ---- */

struct pci_bus {
    _Atomic uint8_t number;      /* as the bridge's registers have it now; 0 behind a bridge: none */
    struct pci_function *bridge; /* NULL: the root bus */
    struct pci_bar_gate gate;
    struct pci_function *functions[PCI_DEVICES_MAX * PCI_FUNCTIONS_MAX];
    struct pci_bus *next; /* of the root's; in the order of their coming */
    bool linked;          /* what is behind the bridge can be reached */
};

struct pci_root_options {
    struct bus *mmio, *pio; /* borrowed; pio NULL: no I/O ports and no mechanism #1 */
    uint64_t ecam_base;
    unsigned buses; /* that ECAM covers: 1 to 256; each is 1 MiB */
    bool mechanism_1;
    struct irq_line *wires[PCI_WIRES]; /* borrowed; NULL: none. A function's is (device + pin) % 4 */
    struct msi_port *msi;              /* borrowed; for functions that send by themselves */
    uint16_t host_bridge_vendor, host_bridge_device;
};

struct pci_root {
    struct pci_bus bus; /* number 0 */
    struct pci_bus *buses[PCI_BUSES_MAX];
    struct pci_bus *bridges; /* all behind bridges */
    struct pci_bar_engine engine;
    struct pci_bar_port bar_port;
    struct pci_root_options options;
    struct pci_function host_bridge;
    struct bus_device ecam, mechanism_1;
    uint32_t address; /* of mechanism #1 */
    uint32_t wire_levels[PCI_WIRES];
    struct pci_function *waiting;
    struct bus_move moves[PCI_BAR_MOVES_MAX];
};

/*
 * Zeroes it, and places ECAM and mechanism #1 on their buses. Errors are bus_add's; the windows are added afterwards,
 * with pci_bar_engine_add_window(&root->engine, …). The object is 20 KiB.
 */
int pci_root_init(struct pci_root *root, const struct pci_root_options *options);
/* Take ECAM and mechanism #1 off; no function is plugged in any more but the host bridge. */
void pci_root_done(struct pci_root *root);

/*
 * Plug @function in as @device.@number of @bus (the root's, or that of a port: see pci_port_plug for hot plug).
 * -EEXIST: taken; -EINVAL: no such place.
 */
int pci_function_plug(struct pci_root *root, struct pci_bus *bus, unsigned device, unsigned number,
                      struct pci_function *function);
/* Its BARs answer no more, its wire is released. The objects are the owner's again. */
void pci_function_unplug(struct pci_function *function);

/* Who is there, or NULL. */
struct pci_function *pci_root_find(const struct pci_root *root, unsigned bus, unsigned slot);

/* The bus behind @bridge, which is plugged in. It has no number yet. */
void pci_root_add_bus(struct pci_root *root, struct pci_bus *bus, struct pci_function *bridge);
void pci_root_remove_bus(struct pci_root *root, struct pci_bus *bus);
/* Its number is another one; 0: none. Of two with the same number, the first to come answers. */
void pci_root_set_bus_number(struct pci_root *root, struct pci_bus *bus, uint8_t number);

/* In the order of their places; @last NULL: the first. NULL: no more. Behind bridges, too. */
struct pci_function *pci_root_next(const struct pci_root *root, const struct pci_function *last);

/* Reset of the machine: every function. BUS_LATER: some are busy (pci_root_busy). */
enum bus_result pci_root_reset(struct pci_root *root);
bool pci_root_busy(const struct pci_root *root);

/*
 * Everything plugged in: one record for the root and one for each function, with its capabilities' and its class's
 * inside. Load expects the same functions in the same places, and applies all BARs at once. -EBADMSG: other functions,
 * or no state; the root is then to be reset.
 */
#define PCI_ROOT_STATE_TAG 0x52494350     /* "PCIR" */
#define PCI_FUNCTION_STATE_TAG 0x46494350 /* "PCIF" */
int pci_root_save(const struct pci_root *root, struct state_writer *writer);
int pci_root_load(struct pci_root *root, struct state_reader *reader);

#endif
