/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The five system calls that KVM's interface is made of, as a table: real ones by default, and others where a test
 * wants to see what a failure of each leads to.
 *
 * Results are 0 or more, or a negative errno value. Any thread, several at a time; what blocks is the ioctl KVM_RUN.
 */
#ifndef PLATFORM_KVM_KVM_SYSTEM_H
#define PLATFORM_KVM_KVM_SYSTEM_H

#include "base/base.h"

struct kvm_system {
    int (*open)(const struct kvm_system *system, const char *path);
    int (*ioctl)(const struct kvm_system *system, int handle, unsigned long request, void *argument);
    /* @bytes of @handle from @offset, shared, to read and write. */
    int (*map)(const struct kvm_system *system, int handle, uint64_t offset, size_t bytes, void **ret_at);
    void (*unmap)(const struct kvm_system *system, void *at, size_t bytes);
    void (*close)(const struct kvm_system *system, int handle);
};

/* The real ones. */
extern const struct kvm_system kvm_system_linux;

/* An ioctl with a pointer, begun again when a signal came before it did anything. Not for KVM_RUN. */
int kvm_ioctl(const struct kvm_system *system, int handle, unsigned long request, void *argument);
/* The same for those that only read what is there, and for those that take a number. */
int kvm_ioctl_read_only(const struct kvm_system *system, int handle, unsigned long request, const void *argument);
int kvm_ioctl_number(const struct kvm_system *system, int handle, unsigned long request, unsigned long argument);

#endif
