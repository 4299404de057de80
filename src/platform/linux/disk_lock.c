/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "platform/linux/disk_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* QEMU's numbers; they are a protocol between programs and cannot change. */
#define LOCK_USED_BASE 100
#define LOCK_UNSHARED_BASE 200

enum {
    PERMISSION_CONSISTENT_READ = 0,
    PERMISSION_WRITE = 1,
};

/* Hold a shared lock on the byte @offset. */
static int lock_byte(int fd, off_t offset)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = offset, .l_len = 1};
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
        return 0;
    /* Somebody has an exclusive lock there. QEMU never does, but a program that fences would. */
    return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
}

/* Does nobody else hold the byte @offset? */
static int test_byte(int fd, off_t offset)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = offset, .l_len = 1};
    if (fcntl(fd, F_OFD_GETLK, &lock) < 0)
        return -errno;
    return lock.l_type == F_UNLCK ? 0 : -EBUSY;
}

void disk_unlock(int fd)
{
    struct flock all = {.l_type = F_UNLCK, .l_whence = SEEK_SET}; /* length 0: to the end */
    (void)fcntl(fd, F_OFD_SETLK, &all);
}

int disk_lock(int fd, bool read_only)
{
    /* First hold, then ask: of two who start at the same time at least one sees the other. */
    int r = lock_byte(fd, LOCK_USED_BASE + PERMISSION_CONSISTENT_READ);
    if (r == 0 && !read_only)
        r = lock_byte(fd, LOCK_USED_BASE + PERMISSION_WRITE);
    if (r == 0)
        r = lock_byte(fd, LOCK_UNSHARED_BASE + PERMISSION_WRITE);

    if (r == 0)
        r = test_byte(fd, LOCK_UNSHARED_BASE + PERMISSION_CONSISTENT_READ);
    if (r == 0 && !read_only)
        r = test_byte(fd, LOCK_UNSHARED_BASE + PERMISSION_WRITE);
    if (r == 0)
        r = test_byte(fd, LOCK_USED_BASE + PERMISSION_WRITE);
    return r;
}
