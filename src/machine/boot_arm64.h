/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * How a kernel is entered on arm64 without firmware (Documentation/arch/arm64/booting.rst of Linux): an Image at the
 * bottom of RAM, behind it room for the device tree, behind that the initrd. The kernel file is a stranger's: whatever
 * it says, nothing outside the guest's memory is touched.
 *
 * The device tree names the place of the initrd, so it comes last: load, build it (struct boot_arm64_entry says for
 * which places), and put it to @dtb.
 */
#ifndef MACHINE_BOOT_ARM64_H
#define MACHINE_BOOT_ARM64_H

#include "machine/boot_image.h"
#include "machine/machine_plan.h"

/* A device tree is no larger (booting.rst, 2), and Linux reads no more of a command line (COMMAND_LINE_SIZE). */
#define BOOT_ARM64_DTB_BYTES_MAX (UINT64_C(2) << 20)
#define BOOT_ARM64_CMDLINE_BYTES_MAX 2048u

/* PSTATE at the entry: EL1 with its own stack pointer, D, A, I and F masked (booting.rst, 4; SPSR_EL1's layout). */
#define BOOT_ARM64_PSTATE UINT64_C(0x3c5)

/* The first processor's registers, and what the device tree must say; the others wait for PSCI's CPU_ON. */
struct boot_arm64_entry {
    uint64_t pc;
    uint64_t x0;     /* where the device tree goes: [x0, x0 + BOOT_ARM64_DTB_BYTES_MAX) is free for it. x1 to x3: 0 */
    uint64_t pstate; /* BOOT_ARM64_PSTATE */
    struct machine_range initrd; /* no size: there is none */
};

struct boot_arm64_request {
    const struct guest_memory *memory;
    const struct machine_plan *plan; /* RAM, and the bounce range, which stays free */
    struct boot_image *kernel;
    struct boot_image *initrd; /* NULL: none */
};

/*
 * Load, and say how to enter. On failure *ret_reason is a constant for people: what is wrong, and what to do.
 * -EBADMSG: no kernel for this machine; -ENOSPC: too little memory; others as of the images' port.
 */
int boot_arm64_load(const struct boot_arm64_request *request, struct boot_arm64_entry *ret_entry,
                    const char **ret_reason);

#endif
