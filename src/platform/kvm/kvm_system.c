/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "platform/kvm/kvm_system.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static int linux_open(const struct kvm_system *system, const char *path)
{
    (void)system;
    int handle = open(path, O_RDWR | O_CLOEXEC);
    return handle < 0 ? -errno : handle;
}

static int linux_ioctl(const struct kvm_system *system, int handle, unsigned long request, void *argument)
{
    (void)system;
    int r = ioctl(handle, request, argument);
    return r < 0 ? -errno : r;
}

static int linux_map(const struct kvm_system *system, int handle, uint64_t offset, size_t bytes, void **ret_at)
{
    (void)system;
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, handle, (off_t)offset);
    if (at == MAP_FAILED)
        return -errno;
    *ret_at = at;
    return 0;
}

static void linux_unmap(const struct kvm_system *system, void *at, size_t bytes)
{
    (void)system;
    munmap(at, bytes);
}

static void linux_close(const struct kvm_system *system, int handle)
{
    (void)system;
    close(handle);
}

const struct kvm_system kvm_system_linux = {
    .open = linux_open,
    .ioctl = linux_ioctl,
    .map = linux_map,
    .unmap = linux_unmap,
    .close = linux_close,
};

int kvm_ioctl(const struct kvm_system *system, int handle, unsigned long request, void *argument)
{
    int r;
    do
        r = system->ioctl(system, handle, request, argument);
    while (r == -EINTR);
    return r;
}

int kvm_ioctl_read_only(const struct kvm_system *system, int handle, unsigned long request, const void *argument)
{
    return kvm_ioctl(system, handle, request, (void *)(uintptr_t)argument);
}

int kvm_ioctl_number(const struct kvm_system *system, int handle, unsigned long request, unsigned long argument)
{
    return kvm_ioctl(system, handle, request, (void *)(uintptr_t)argument);
}
