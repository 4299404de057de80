/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The device tree that tells an operating system on arm64 what machine it is on (Devicetree Specification 0.4, and the
 * bindings of Linux), made with libfdt. It allocates nothing.
 */
#ifndef PLATFORM_LINUX_MACHINE_FDT_H
#define PLATFORM_LINUX_MACHINE_FDT_H

#include "machine/machine_plan.h"

/* Room for every plan, with the longest command line. */
#define MACHINE_FDT_BYTES_MAX 0x10000u

struct machine_fdt_options {
    const char *cmdline;         /* borrowed; NULL: none */
    struct machine_range initrd; /* no size: there is none */
    /* Seeds for the kernel's generator of random numbers, and for where it lies (kaslr-seed); NULL: none. Borrowed. */
    const uint8_t *random;
    size_t random_bytes; /* at least 40 to be of use: 8 for the kernel's place, the rest for the generator */
};

/*
 * Build it at @bytes, aligned to 8: *ret_used bytes of @size are to be copied to the guest. -ENOSPC: no room
 * (MACHINE_FDT_BYTES_MAX is always enough); -ENOTSUP: built without libfdt.
 */
int machine_fdt_build(const struct machine_plan *plan, const struct machine_fdt_options *options, void *bytes,
                      size_t size, size_t *ret_used);

#endif
