/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Between the files of boot_x86. */
#ifndef MACHINE_BOOT_X86_PRIVATE_H
#define MACHINE_BOOT_X86_PRIVATE_H

#include "machine/boot_x86.h"

/* Places of what the loader hands over, in usable memory that a kernel takes over early. */
#define BOOT_X86_GDT 0x1000u
#define BOOT_X86_START_INFO 0x2000u
#define BOOT_X86_MEMORY_MAP 0x3000u
#define BOOT_X86_MODULES 0x4000u
#define BOOT_X86_PAGE_TABLES 0x5000u /* six pages */
#define BOOT_X86_ZERO_PAGE 0x10000u
#define BOOT_X86_CMDLINE 0x20000u

/* Entries of a memory map (E820; ACPI 6.5, 15). */
enum boot_x86_memory_type { BOOT_X86_RAM = 1, BOOT_X86_RESERVED = 2 };

struct boot_x86_memory {
    uint64_t base, size;
    uint32_t type;
};
#define BOOT_X86_MEMORY_MAX (MACHINE_RAM_RANGES_MAX + 4)

/* RAM with the holes that every PC has below 1 MiB, ECAM reserved. Returns how many. */
unsigned boot_x86_memory_map(const struct machine_plan *plan, struct boot_x86_memory *ret_map);

/* What was found in a kernel file. */
struct boot_x86_kernel {
    bool has_pvh;
    uint32_t pvh_entry;
    uint64_t entry; /* 64-bit */
    uint64_t end;   /* the address after the last byte that it uses at first */
    /* Of a bzImage's setup header: */
    uint8_t setup[0x9f]; /* from 0x1f1 of the file on; in the zero page, too, its place ends at 0x290 */
    unsigned setup_bytes;
    uint64_t initrd_max;  /* the last address an initrd may use */
    uint32_t cmdline_max; /* bytes, the end included */
};

int boot_x86_load_elf(const struct boot_x86_request *request, struct boot_x86_kernel *ret_kernel,
                      const char **ret_reason);
int boot_x86_load_bzimage(const struct boot_x86_request *request, struct boot_x86_kernel *ret_kernel,
                          const char **ret_reason);
/* Does the file begin as one of them does? */
bool boot_x86_is_elf(struct boot_image *image);
bool boot_x86_is_bzimage(struct boot_image *image);

#endif
