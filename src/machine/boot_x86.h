/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * How a kernel is entered on x86-64 without firmware: by the PVH protocol (Xen's docs/misc/pvh; vmlinux with the note
 * XEN_ELFNOTE_PHYS32_ENTRY) or by the 64-bit boot protocol of Linux (Documentation/arch/x86/boot.rst; bzImage, and
 * vmlinux without that note). The kernel file is a stranger's: whatever it says, nothing outside the guest's memory is
 * touched.
 */
#ifndef MACHINE_BOOT_X86_H
#define MACHINE_BOOT_X86_H

#include "machine/boot_image.h"
#include "machine/machine_plan.h"

/* What the loader keeps for itself in the first megabyte; firmware tables are at BOOT_X86_TABLES on. */
#define BOOT_X86_LOW_END UINT64_C(0x9fc00)    /* a PC's usable memory ends here, */
#define BOOT_X86_TABLES UINT64_C(0xe0000)     /* a BIOS and its tables are here, */
#define BOOT_X86_HIGH_BASE UINT64_C(0x100000) /* and it goes on here */

/* Linux reads no more of it than this (COMMAND_LINE_SIZE), the end included. */
#define BOOT_X86_CMDLINE_BYTES_MAX 2048u

enum boot_x86_mode {
    BOOT_X86_PROTECTED_32, /* PVH: flat segments, paging off */
    BOOT_X86_LONG_64,      /* the first 4 GiB mapped to themselves */
};

/* A segment register, as the descriptor has it (Intel SDM 3, 3.4.5). */
struct boot_x86_segment {
    uint16_t selector;
    uint8_t type; /* code or data, 4 bits */
    bool big;     /* D/B */
    bool wide;    /* L */
    bool system;  /* a task state, not code or data */
    uint32_t limit;
};

/* The first processor's registers; the others wait for it. What is not here is 0. */
struct boot_x86_entry {
    enum boot_x86_mode mode;
    uint64_t rip, rbx, rsi, rsp;
    uint64_t cr0, cr3, cr4, efer;
    uint64_t gdt_base;
    uint16_t gdt_limit;
    struct boot_x86_segment code, data, task;
};

struct boot_x86_request {
    const struct guest_memory *memory;
    const struct machine_plan *plan; /* RAM */
    struct boot_image *kernel;
    struct boot_image *initrd; /* NULL: none */
    const char *cmdline;
    uint64_t acpi_root; /* of the RSDP; 0: no tables */
};

/*
 * Load, and say how to enter. On failure *ret_reason is a constant for people: what is wrong, and what to do.
 * -EBADMSG: no kernel for this machine; -E2BIG: the command line is too long; -ENOSPC: too little memory; others as of
 * the images' port.
 */
int boot_x86_load(const struct boot_x86_request *request, struct boot_x86_entry *ret_entry, const char **ret_reason);

#endif
