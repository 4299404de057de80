/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "platform/linux/boot_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "platform/linux/short_text.h"

static int boot_file_read(struct boot_image *image, uint64_t offset, void *to, size_t size)
{
    struct boot_file *file = container_of(image, struct boot_file, image);
    uint8_t *place = to;
    while (size > 0) {
        ssize_t n = pread(file->handle, place, size_min(size, INT_MAX), (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -ENODATA; /* it has become shorter */
        place += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return 0;
}

static const struct boot_image_class boot_file_class = {.read = boot_file_read};

int boot_file_open(struct boot_file *file, const char *path, char *error, size_t error_bytes)
{
    struct stat status = {0};
    /* Not to wait for the other end of a pipe, which is refused anyway. */
    int handle = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int r = handle < 0 || fstat(handle, &status) < 0 ? -errno : 0;
    if (r < 0) {
        snprintf(error, error_bytes, "cannot open %s: %s", SHORTENED(path), strerror(-r));
    } else if (!S_ISREG(status.st_mode)) {
        snprintf(error, error_bytes, "%s is no regular file: give one", SHORTENED(path));
        r = -EINVAL;
    }
    if (r < 0) {
        if (handle >= 0)
            close(handle);
        return r;
    }
    *file =
        (struct boot_file){.image = {.class = &boot_file_class, .size = (uint64_t)status.st_size}, .handle = handle};
    return 0;
}

void boot_file_close(struct boot_file *file)
{
    close(file->handle);
}
