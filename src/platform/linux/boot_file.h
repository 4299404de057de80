/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A kernel or an initrd on disk, as the loaders in machine/ see it. Calls block; any thread, one at a time. */
#ifndef PLATFORM_LINUX_BOOT_FILE_H
#define PLATFORM_LINUX_BOOT_FILE_H

#include "machine/boot_image.h"

/* Room for one line about what is wrong. */
#define BOOT_FILE_ERROR_BYTES 320u

struct boot_file {
    struct boot_image image;
    int handle; /* owned */
};

/*
 * Open the regular file at @path. A negative errno with @error filled: that of open(2), or -EINVAL: it is no regular
 * file. Its size is what it is now: a read that finds it shorter is -ENODATA.
 */
int boot_file_open(struct boot_file *file, const char *path, char *error, size_t error_bytes);
void boot_file_close(struct boot_file *file);

#endif
