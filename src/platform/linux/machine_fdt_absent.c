/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Built without libfdt. */
#include <errno.h>

#include "platform/linux/machine_fdt.h"

int machine_fdt_build(const struct machine_plan *plan, const struct machine_fdt_options *options, void *bytes,
                      size_t size, size_t *ret_used)
{
    (void)plan;
    (void)options;
    (void)bytes;
    (void)size;
    (void)ret_used;
    return -ENOTSUP;
}
