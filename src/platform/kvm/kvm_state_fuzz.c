/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A saved processor and machine in strange bytes, given to a KVM that takes everything, or refuses one call. Held
 * against it: nothing is read outside the bytes (the sanitizers see to that), and what is refused is an error.
 */
#include <errno.h>
#include <linux/kvm.h>

#include "platform/kvm/kvm_vcpu.h"
#ifdef __x86_64__
#include "platform/kvm/kvm_x86.h"
#else
#include "platform/kvm/kvm_arm64.h"
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned calls, refuse_at;
/* What a call's argument points to is read by the kernel: here, too, as far as its number says. */
static volatile uint8_t sink;

static int take_ioctl(const struct kvm_system *system, int handle, unsigned long request, void *argument)
{
    (void)system;
    (void)handle;
    if (++calls == refuse_at)
        return -EINVAL;
    if (request == KVM_CHECK_EXTENSION)
        return 1;
    size_t bytes = request >> _IOC_SIZESHIFT & _IOC_SIZEMASK;
    if ((request >> _IOC_DIRSHIFT & _IOC_WRITE) != 0) {
        for (size_t i = 0; i < bytes; i++)
            sink = ((const uint8_t *)argument)[i];
    }
#ifdef __x86_64__
    if (request == KVM_SET_MSRS)
        return (int)get_le32(argument);
#endif
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct kvm_system system = {.ioctl = take_ioctl};
    struct kvm_host host = {.system = &system, .page_bytes = 4096};
    struct kvm_vm vm = {.host = &host};
    struct kvm_vcpu vcpu = {.vm = &vm};
    if (size == 0)
        return 0;
    refuse_at = data[0]; /* 0: none */
    calls = 0;
    struct state_reader reader = {.bytes = data + 1, .size = size - 1}, again = reader;
#ifdef __x86_64__
    int r = kvm_x86_vcpu_restore(&vcpu, &reader);
    ASSERT(r <= 0);
    r = kvm_x86_vm_restore(&vm, &again);
#else
    int r = kvm_arm64_vcpu_restore(&vcpu, &reader);
    ASSERT(r <= 0);
    struct kvm_arm64_gic gic = {.vm = &vm, .version = 3, .interrupts = 64};
    r = kvm_arm64_gic_restore(&gic, &again);
#endif
    ASSERT(r <= 0);
    return 0;
}
