/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Base address registers of PCI functions (PCI Local Bus 3.0, 6.2.5; PCIe 6.0, 7.5.1.2.1): what the guest reads and
 * writes there, and where each BAR answers as a consequence. A library of its own: it knows neither configuration space
 * nor bus, and tells its port who goes where.
 *
 * A BAR wants a place when its decoder is on (COMMAND; for an expansion ROM its enable bit, too) and its address is not
 * 0. It gets the place when that lies in one window of the host, and of the bridge it is behind, and nobody else is
 * there. Who is there stays: a newcomer that overlaps him waits, answers nowhere, and gets the place when it becomes
 * free; of several who wait, the one that has waited longest. A fixed device is refused to us by the port, and is
 * waited for likewise (pci_bar_engine_retry). Registers never show any of this: they read as they were written.
 *
 * What one write, or one batch, changes is applied at once: two BARs may swap. Where the port refuses the whole, what
 * has to leave leaves, and each newcomer is tried by itself; those refused wait. A BAR is never at an address that its
 * register does not name.
 *
 * Threads: one at a time. Everything is the caller's storage.
 */
#ifndef MACHINE_PCI_BAR_H
#define MACHINE_PCI_BAR_H

#include "base/base.h"
#include "base/state.h"

enum pci_bar_space { PCI_BAR_MEMORY, PCI_BAR_IO };

enum pci_bar_kind {
    PCI_BAR_NONE,
    PCI_BAR_MEMORY_32,
    PCI_BAR_MEMORY_64, /* takes the next register, too */
    PCI_BAR_PORTS,     /* of I/O */
    PCI_BAR_EXPANSION_ROM,
    PCI_BAR_UPPER_HALF, /* of the one before it */
};

#define PCI_BAR_ROM 6       /* index of the expansion ROM; the others are 0 to 5 */
#define PCI_BAR_REGISTERS 7 /* of a function */

struct pci_bars;

struct pci_bar {
    enum pci_bar_kind kind;
    bool prefetchable;
    uint64_t size; /* a power of two */
    void *content; /* borrowed; for the port */

    uint64_t address; /* as the guest wrote it, masked */
    bool rom_enabled;

    uint64_t wanted; /* where it is to be now; 0: nowhere */
    uint64_t since;  /* when it came to want that: smaller is earlier */
    bool claims;     /* restored: it was there before everybody who waits */
    bool placed;     /* the port has it at base */
    uint64_t base;
    bool planned; /* within one change: it will be at wanted */
};

/* What lets addresses through. */
struct pci_bar_window {
    enum pci_bar_space space;
    uint64_t base, size;
};

#define PCI_BAR_WINDOWS_MAX 8  /* of the host: below and above 4 GiB, I/O, each perhaps in two pieces */
#define PCI_BAR_GATE_WINDOWS 3 /* of a bridge: I/O, memory, prefetchable memory */

/* A bridge's windows (PCIe 6.0, 7.5.1.3): what is behind it answers only in them. */
struct pci_bar_gate {
    unsigned count;
    struct pci_bar_window windows[PCI_BAR_GATE_WINDOWS];
};

/* All of one function. Zeroed before pci_bar_set_up. */
struct pci_bars {
    struct pci_bar bars[PCI_BAR_REGISTERS];
    bool memory_decode, io_decode;
    const struct pci_bar_gate *gate; /* borrowed; NULL: on the root bus */
    struct pci_bar_engine *engine;   /* NULL: not plugged in */
    struct pci_bars *next;
};

/* One step of a set: @bar goes to @base, or away. */
struct pci_bar_move {
    struct pci_bar *bar;
    uint64_t base;
    bool placed;
};

struct pci_bar_port {
    const struct pci_bar_port_class *class;
};

struct pci_bar_port_class {
    /*
     * All of @moves at once, or none. A set of nothing but departures is never refused. Any error: it cannot be done
     * now, since a fixed device is there (-EEXIST), or what follows the BAR (memory slots) cannot.
     */
    int (*apply)(struct pci_bar_port *port, const struct pci_bar_move *moves, unsigned count);
};

/* Moves in one set: a function with all its BARs swapped with another; a bridge opened before eight functions. A larger
 * change goes step by step. */
#define PCI_BAR_MOVES_MAX 128

struct pci_bar_engine {
    struct pci_bar_port *port;
    struct pci_bars *functions; /* in the order of their coming */
    unsigned window_count;
    struct pci_bar_window windows[PCI_BAR_WINDOWS_MAX];
    unsigned held;  /* depth of pci_bar_engine_hold */
    uint64_t clock; /* of pci_bar.since */
    struct pci_bar_move moves[PCI_BAR_MOVES_MAX];
    /* counted, for people */
    uint64_t moves_total;
    uint64_t refused_total; /* sets that the port refused */
};

/* @port is borrowed. */
void pci_bar_engine_init(struct pci_bar_engine *engine, struct pci_bar_port *port);
/* The host lets this through. -EINVAL: empty, or wraps; -ENOSPC: PCI_BAR_WINDOWS_MAX. */
int pci_bar_engine_add_window(struct pci_bar_engine *engine, const struct pci_bar_window *window);
/* Between these, nothing is applied; at the last release everything is. They nest. */
void pci_bar_engine_hold(struct pci_bar_engine *engine);
void pci_bar_engine_release(struct pci_bar_engine *engine);
/* Something besides BARs has made room: try those who wait. */
void pci_bar_engine_retry(struct pci_bar_engine *engine);

/*
 * Before it is plugged in: register @index is a BAR of @size. -EINVAL: no power of two, or too small or large for its
 * kind (memory: 16 bytes at least, below 4 GiB for 32 bits; ports: 4 to 65,536; ROM: 2 KiB to 16 MiB, at PCI_BAR_ROM
 * and nowhere else), or @index has no room for it. -EEXIST: taken.
 */
int pci_bar_set_up(struct pci_bars *bars, unsigned index, enum pci_bar_kind kind, bool prefetchable, uint64_t size,
                   void *content);

/* Plug a function in behind @gate; it begins with what its registers say. Both are borrowed. */
void pci_bars_add(struct pci_bar_engine *engine, struct pci_bars *bars, const struct pci_bar_gate *gate);
/* Its BARs answer nowhere from now on; the registers stay. */
void pci_bars_remove(struct pci_bars *bars);

/* Register @index, as 32 bits; PCI_BAR_ROM is the expansion ROM's. What is none reads 0 and keeps nothing. */
uint32_t pci_bars_read(const struct pci_bars *bars, unsigned index);
void pci_bars_write(struct pci_bars *bars, unsigned index, uint32_t value);
/* COMMAND.MEM and COMMAND.IO. */
void pci_bars_decode(struct pci_bars *bars, bool memory, bool io);
/* As after power-on: decoders off, addresses 0. */
void pci_bars_reset(struct pci_bars *bars);
/* Put BAR @index at @address, as a firmware writes its halves. */
void pci_bars_set_address(struct pci_bars *bars, unsigned index, uint64_t address);

/* The bridge's windows are others now. */
void pci_bar_gate_set(struct pci_bar_engine *engine, struct pci_bar_gate *gate, const struct pci_bar_window *windows,
                      unsigned count);

/* Bytes of a function's state; they go into the record of whoever owns it. */
#define PCI_BARS_STATE_BYTES (PCI_BAR_REGISTERS * 24 + 8)
void pci_bars_save(const struct pci_bars *bars, uint8_t to[PCI_BARS_STATE_BYTES]);
/*
 * Plugged in, with the same BARs as when it was saved. Hold the engine around all functions of a machine: who was at a
 * place then has it again. -EBADMSG: no state of these BARs; nothing has changed.
 */
int pci_bars_load(struct pci_bars *bars, const uint8_t from[PCI_BARS_STATE_BYTES]);

#endif
