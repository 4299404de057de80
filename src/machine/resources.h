/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Who has what: guest-physical addresses for RAM and for devices, I/O ports, interrupt numbers, slots on the PCI bus,
 * memory slots of the hypervisor. One struct resource_space is one kind of number. It has windows, which may be given
 * out, and ranges, which have been, each with its owner's name, so that a message can say who is in the way.
 *
 * Nothing is given out outside a window, and nothing twice. A place may be demanded or left to the space, which takes
 * the lowest that fits: the same requests in the same order give the same machine.
 *
 * Threads: one at a time. Everything is the caller's storage, with fixed caps.
 */
#ifndef MACHINE_RESOURCES_H
#define MACHINE_RESOURCES_H

#include "base/base.h"
#include "base/state.h"

enum resource_kind {
    RESOURCE_RAM,         /* guest-physical bytes with memory behind them */
    RESOURCE_MMIO_LOW,    /* guest-physical bytes below 4 GiB, for devices */
    RESOURCE_MMIO_HIGH,   /* and above */
    RESOURCE_PIO,         /* I/O ports */
    RESOURCE_IRQ,         /* global system interrupts; shared peripheral interrupts on Arm */
    RESOURCE_PCI,         /* bus << 8 | device << 3 | function */
    RESOURCE_MEMORY_SLOT, /* of the hypervisor */
    RESOURCE_KINDS
};

#define RESOURCE_OWNER_BYTES 32 /* with the 0; a longer name is cut */
#define RESOURCE_WINDOWS_MAX 8

struct resource_range {
    uint64_t base, size;
    char owner[RESOURCE_OWNER_BYTES];
};

struct resource_window {
    uint64_t base, size;
};

struct resource_space {
    enum resource_kind kind;
    unsigned window_count;
    struct resource_window windows[RESOURCE_WINDOWS_MAX]; /* sorted, never overlapping */
    uint32_t count, count_max;
    struct resource_range *ranges; /* [count_max], borrowed; sorted, never overlapping */
};

/* All of a machine. */
struct resources {
    struct resource_space spaces[RESOURCE_KINDS];
};

/* "RAM", "MMIO below 4 GiB", … */
const char *resource_kind_name(enum resource_kind kind);

/* @ranges has room for @count_max and is borrowed. */
void resource_space_init(struct resource_space *space, enum resource_kind kind, struct resource_range *ranges,
                         uint32_t count_max);

/*
 * What may be given out. -EINVAL: empty, or its end does not fit into 64 bits; -EEXIST: it overlaps another window;
 * -ENOSPC: RESOURCE_WINDOWS_MAX.
 */
int resource_window_add(struct resource_space *space, uint64_t base, uint64_t size);

/*
 * Exactly this range. -EINVAL: empty, or its end does not fit; -ERANGE: not in one window; -EEXIST: somebody is there
 * (resource_conflict says who); -ENOSPC: no room to note it.
 */
int resource_take(struct resource_space *space, uint64_t base, uint64_t size, const char *owner);

/*
 * The lowest free range of @size at a multiple of @alignment (a power of two; 0 is 1) with all its bytes in @min to
 * @max. -EINVAL: empty, or the alignment is none; -ENOSPC: there is none, or no room to note it.
 */
int resource_find(struct resource_space *space, uint64_t size, uint64_t alignment, uint64_t min, uint64_t max,
                  const char *owner, uint64_t *ret_base);

/* Give back the range that begins at @base. -ENOENT: none does. */
int resource_release(struct resource_space *space, uint64_t base);

/* The first range that shares a byte with this one, or NULL. */
const struct resource_range *resource_conflict(const struct resource_space *space, uint64_t base, uint64_t size);

/* How much of the windows is not given out. */
uint64_t resource_free_total(const struct resource_space *space);

/*
 * One record for all spaces: windows and ranges. Load replaces both, and changes nothing on failure. -EBADMSG: no
 * consistent state; -ENOSPC: a space has more ranges than there is room; -ENOTSUP: of a newer version.
 */
#define RESOURCES_STATE_TAG 0x53455352 /* "RSES" */
int resources_save(const struct resources *resources, struct state_writer *writer);
int resources_load(struct resources *resources, const struct state_record *record);

#endif
