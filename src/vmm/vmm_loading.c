/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "vmm/vmm_loading.h"

int vmm_loading_open(struct vmm_loading *loading, const char *kernel, const char *initrd, char *error,
                     size_t error_bytes)
{
    *loading = (struct vmm_loading){.initrd_image = NULL};
    int r = boot_file_open(&loading->kernel, kernel, error, error_bytes);
    if (r < 0 || !initrd)
        return r;
    r = boot_file_open(&loading->initrd, initrd, error, error_bytes);
    if (r < 0)
        boot_file_close(&loading->kernel);
    else
        loading->initrd_image = &loading->initrd.image;
    return r;
}

void vmm_loading_close(struct vmm_loading *loading)
{
    boot_file_close(&loading->kernel);
    if (loading->initrd_image)
        boot_file_close(&loading->initrd);
}
