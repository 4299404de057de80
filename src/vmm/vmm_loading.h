/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The files that a machine begins with. */
#ifndef VMM_VMM_LOADING_H
#define VMM_VMM_LOADING_H

#include "platform/linux/boot_file.h"

struct vmm_loading {
    struct boot_file kernel, initrd;
    struct boot_image *initrd_image; /* NULL: there is none */
};

/* Errors are boot_file_open's, with @error filled. @initrd may be NULL. */
int vmm_loading_open(struct vmm_loading *loading, const char *kernel, const char *initrd, char *error,
                     size_t error_bytes);
void vmm_loading_close(struct vmm_loading *loading);

#endif
