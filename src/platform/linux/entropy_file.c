/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "platform/linux/entropy_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "platform/linux/clock.h"
#include "platform/linux/short_text.h"

static int entropy_read(struct entropy_source *source, void *buffer, size_t size)
{
    struct entropy_file *file = container_of(source, struct entropy_file, source);
    ssize_t n = read(file->fd, buffer, size_min(size, INT_MAX));
    if (n > 0) {
        file->dry = false;
        return (int)n;
    }
    if (n == 0)
        return -ENODATA; /* the end of a file: it will not grow entropy */
    /* Interrupted: the device waits in spite of O_NONBLOCK, and somebody else waits for this thread. Later again. */
    if (errno != EAGAIN && errno != EINTR)
        return -errno;
    file->dry = true;
    return -EAGAIN;
}

static uint64_t entropy_now_ns(struct entropy_source *source)
{
    (void)source;
    return clock_now_ns();
}

static const struct entropy_source_class entropy_file_class = {
    .read = entropy_read,
    .now_ns = entropy_now_ns,
};

static int fail(int result, char *error, size_t error_bytes, const char *path, const char *why, const char *advice)
{
    snprintf(error, error_bytes, "cannot use %s as a source of entropy: %s%s", SHORTENED(path), why, advice);
    return result;
}

static int fail_open(int result, char *error, size_t error_bytes, const char *path)
{
    const char *advice = "";
    if (result == -ENOENT || result == -ENOTDIR || result == -ENXIO)
        advice = ": try " ENTROPY_FILE_DEFAULT;
    else if (result == -EACCES || result == -EPERM)
        advice = ": run as a user who may read it, or try " ENTROPY_FILE_DEFAULT;
    return fail(result, error, error_bytes, path, strerror(-result), advice);
}

static int check_kind(mode_t mode, char *error, size_t error_bytes, const char *path)
{
    if (S_ISCHR(mode) || S_ISFIFO(mode) || S_ISREG(mode))
        return 0;
    const char *kind = S_ISDIR(mode) ? "it is a directory" : S_ISBLK(mode) ? "it is a disk" : "it is a socket";
    return fail(-EINVAL, error, error_bytes, path, kind, ": try " ENTROPY_FILE_DEFAULT);
}

int entropy_file_open(struct entropy_file *file, const char *path, char *error, size_t error_bytes)
{
    *file = (struct entropy_file){.source.class = &entropy_file_class, .fd = -1};

    struct stat status;
    if (stat(path, &status) < 0)
        return fail_open(-errno, error, error_bytes, path);
    int r = check_kind(status.st_mode, error, error_bytes, path);
    if (r < 0)
        return r;
    /* A FIFO that we could write to as well never ends: its writers may come and go. */
    int access = S_ISFIFO(status.st_mode) ? O_RDWR : O_RDONLY;
    int fd = open(path, access | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return fail_open(-errno, error, error_bytes, path);
    if (fstat(fd, &status) < 0)
        r = fail_open(-errno, error, error_bytes, path);
    else
        r = check_kind(status.st_mode, error, error_bytes, path);
    if (r < 0) {
        close(fd);
        return r;
    }
    file->fd = fd;
    return 0;
}

void entropy_file_close(struct entropy_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
}

int entropy_file_handle(const struct entropy_file *file)
{
    return file->dry ? file->fd : -1;
}
