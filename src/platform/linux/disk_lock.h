/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Image locks that QEMU, qemu-img, qemu-io and qemu-storage-daemon understand.
 *
 * QEMU knows a handful of permissions on an image, numbered from 0. Who uses permission p holds a shared lock on byte
 * 100 + p; who does not want others to use it holds a shared lock on byte 200 + p. To find out whether somebody is in
 * the way, one takes one's own locks first and then asks whether an exclusive lock on the opposite byte would be
 * granted. Locks belong to the open file description (F_OFD_SETLK), not to the process, so they go when the last copy
 * of the descriptor, and the last I/O in flight on it, is gone.
 *
 * We behave as a disk of a QEMU machine does: read consistently, write unless read-only, and let nobody else write.
 * So many may read, one may write alone, and programs that merely look, like qemu-img info, are let in.
 */
#ifndef PLATFORM_LINUX_DISK_LOCK_H
#define PLATFORM_LINUX_DISK_LOCK_H

#include "base/base.h"

/*
 * Lock the image that @fd is open on. -EBUSY: another process uses it in a way that excludes us. -EINVAL, -ENOLCK,
 * -EOPNOTSUPP, …: locks do not work there. On failure some locks may be held until @fd is closed.
 */
int disk_lock(int fd, bool read_only);

/* Give up all locks on the image, as closing @fd does. */
void disk_unlock(int fd);

#endif
