/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The guest's RAM: files without a name (memfd), mapped here, in which every range of the guest's memory lies. What a
 * back end in another process may reach is a range of its own file, so that its descriptor gives away nothing else.
 */
#ifndef VMM_VMM_MEMORY_H
#define VMM_VMM_MEMORY_H

#include "machine/machine_plan.h"
#include "memory/guest_memory.h"

/* Below and above the hole for devices, and a bounce range. */
#define VMM_RAM_RANGES_MAX 3

/* Which part of the machine's address space may be RAM: a property of the machine. */
struct vmm_ram_layout {
    uint64_t base;      /* where RAM begins */
    uint64_t hole_base; /* devices are from here */
    uint64_t hole_end;  /* to here; RAM that does not fit below goes on there. The same as hole_base: there is none */
    uint64_t limit;     /* guest-physical addresses end here */
};

struct vmm_memory_options {
    uint64_t bytes;
    uint64_t page_bytes; /* 0: pages as they come; else huge pages of this size (hugetlb) */
    uint64_t
        bounce_bytes; /* 0: none; else so much of @bytes, at the end of the RAM below the hole, is the bounce range */
    bool prealloc;    /* take the pages now: who has too little memory learns it before the guest runs */
};

struct vmm_ram_range {
    uint64_t guest_base, size;
    uint64_t offset; /* in the file */
    int handle;      /* of the file, borrowed from struct vmm_memory */
    uint8_t *host;
    bool bounce;
};

struct vmm_memory {
    uint64_t bytes;
    int handle;        /* the file of all RAM but the bounce range */
    int bounce_handle; /* -1: there is none */
    uint8_t *host, *bounce_host;
    uint64_t host_bytes, bounce_bytes;
    unsigned range_count;
    struct vmm_ram_range ranges[VMM_RAM_RANGES_MAX]; /* by address */
    struct guest_memory map;                         /* all of them */
};

/*
 * Make and map the RAM. -EINVAL: no bytes, not whole pages, or more than the layout has room for; -ENOMEM, …: from the
 * system. @error then has one line that says what to do. The object is some 20 KiB: not for a stack.
 */
int vmm_memory_open(struct vmm_memory *memory, const struct vmm_ram_layout *layout,
                    const struct vmm_memory_options *options, char *error, size_t error_bytes);
/* No virtual processor and no queue touches it any more. A half-made one is fine. */
void vmm_memory_close(struct vmm_memory *memory);

/*
 * Forget what the guest has written, for a machine that starts anew: pages go back to the system, and read as zeros.
 * Mappings that others have of the files see the same.
 */
int vmm_memory_clear(struct vmm_memory *memory);

/* Say in @plan what RAM there is. */
void vmm_memory_plan(const struct vmm_memory *memory, struct machine_plan *plan);

#endif
