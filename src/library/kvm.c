/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* include/backplane/kvm.h over the binding in platform/kvm. */
#include <backplane/kvm.h>
#include <errno.h>
#include <stdlib.h>

#include "library/kvm_entry.h"
#include "platform/kvm/kvm_whole.h"

struct backplane_kvm {
    struct kvm_host host;
};

struct backplane_vm {
    struct kvm_vm vm;
};

struct backplane_vcpu {
    struct kvm_vcpu vcpu;
    char text[KVM_EXIT_TEXT_BYTES];
};

/* What callers of the first version have. */
#define EXIT_BYTES_MIN sizeof(struct backplane_exit)

int backplane_kvm_open(const char *path, struct backplane_kvm **ret_kvm)
{
    struct backplane_kvm *kvm = calloc(1, sizeof(*kvm));
    if (!kvm)
        return -ENOMEM;
    int r = kvm_host_open(&kvm->host, NULL, path ? path : KVM_HOST_PATH);
    if (r < 0) {
        free(kvm);
        return r;
    }
    *ret_kvm = kvm;
    return 0;
}

void backplane_kvm_close(struct backplane_kvm *kvm)
{
    if (kvm)
        kvm_host_close(&kvm->host);
    free(kvm);
}

int backplane_kvm_try(const struct backplane_kvm *kvm, char *reason, size_t reason_bytes)
{
    return kvm_whole_try(&kvm->host, reason, reason_bytes);
}

int backplane_vm_create(const struct backplane_kvm *kvm, struct backplane_vm **ret_vm)
{
    struct backplane_vm *vm = calloc(1, sizeof(*vm));
    if (!vm)
        return -ENOMEM;
    int r = kvm_vm_open(&vm->vm, &kvm->host, 0);
    if (r < 0) {
        free(vm);
        return r;
    }
    *ret_vm = vm;
    return 0;
}

void backplane_vm_destroy(struct backplane_vm *vm)
{
    if (vm)
        kvm_vm_close(&vm->vm);
    free(vm);
}

int backplane_vm_handle(const struct backplane_vm *vm)
{
    return vm->vm.handle;
}

int backplane_vm_memory_set(struct backplane_vm *vm, uint32_t slot, uint64_t address, void *host, uint64_t bytes,
                            uint32_t flags)
{
    if (flags & ~(uint32_t)(BACKPLANE_MEMORY_READ_ONLY | BACKPLANE_MEMORY_LOG))
        return -EINVAL;
    const struct kvm_slot set = {
        .number = slot,
        .address = address,
        .bytes = bytes,
        .host = host,
        .read_only = (flags & BACKPLANE_MEMORY_READ_ONLY) != 0,
        .log_dirty = (flags & BACKPLANE_MEMORY_LOG) != 0,
    };
    return kvm_vm_slot_set(&vm->vm, &set);
}

int backplane_vm_memory_remove(struct backplane_vm *vm, uint32_t slot)
{
    return kvm_vm_slot_remove(&vm->vm, slot);
}

int backplane_vm_doorbell_add(struct backplane_vm *vm, uint64_t address, unsigned bytes, int eventfd)
{
    const struct kvm_doorbell doorbell = {.address = address, .size = bytes, .handle = eventfd};
    return kvm_vm_doorbell_add(&vm->vm, &doorbell);
}

int backplane_vm_doorbell_remove(struct backplane_vm *vm, uint64_t address, unsigned bytes, int eventfd)
{
    const struct kvm_doorbell doorbell = {.address = address, .size = bytes, .handle = eventfd};
    return kvm_vm_doorbell_remove(&vm->vm, &doorbell);
}

int backplane_vcpu_create(struct backplane_vm *vm, unsigned index, uint64_t entry, struct backplane_vcpu **ret_vcpu)
{
    struct backplane_vcpu *vcpu = calloc(1, sizeof(*vcpu));
    if (!vcpu)
        return -ENOMEM;
    int r = kvm_vcpu_open(&vcpu->vcpu, &vm->vm, index);
    if (r == 0)
        r = library_kvm_entry(&vcpu->vcpu, entry);
    if (r < 0) {
        backplane_vcpu_destroy(vcpu);
        return r;
    }
    *ret_vcpu = vcpu;
    return 0;
}

void backplane_vcpu_destroy(struct backplane_vcpu *vcpu)
{
    if (vcpu)
        kvm_vcpu_close(&vcpu->vcpu);
    free(vcpu);
}

int backplane_vcpu_handle(const struct backplane_vcpu *vcpu)
{
    return vcpu->vcpu.handle;
}

static enum backplane_exit_cause outer_cause(const struct kvm_exit *exit)
{
    switch (exit->cause) {
    case KVM_CAUSE_INTERRUPTED:
        return BACKPLANE_EXIT_INTERRUPTED;
    case KVM_CAUSE_MMIO:
        return BACKPLANE_EXIT_MEMORY;
    case KVM_CAUSE_PIO:
        return BACKPLANE_EXIT_PORT;
    case KVM_CAUSE_HLT:
        return BACKPLANE_EXIT_HALT;
    case KVM_CAUSE_SHUTDOWN:
        return BACKPLANE_EXIT_RESET;
    case KVM_CAUSE_SYSTEM_EVENT:
        return exit->system_event.kind == KVM_SYSTEM_SHUTDOWN ? BACKPLANE_EXIT_OFF
               : exit->system_event.kind == KVM_SYSTEM_RESET  ? BACKPLANE_EXIT_RESET
                                                              : BACKPLANE_EXIT_OTHER;
    default:
        return BACKPLANE_EXIT_OTHER;
    }
}

int backplane_vcpu_run(struct backplane_vcpu *vcpu, struct backplane_exit *exit)
{
    if (exit->size < EXIT_BYTES_MIN)
        return -EINVAL;
    struct kvm_exit inner;
    int r = kvm_vcpu_run(&vcpu->vcpu, &inner);
    if (r < 0)
        return r;
    exit->cause = outer_cause(&inner);
    exit->text = vcpu->text;
    if (exit->cause == BACKPLANE_EXIT_MEMORY || exit->cause == BACKPLANE_EXIT_PORT) {
        exit->is_write = inner.access.is_write;
        exit->bytes = inner.access.size;
        exit->count = inner.access.count;
        exit->address = inner.access.address;
        exit->data = inner.access.data;
        exit->text = exit->cause == BACKPLANE_EXIT_PORT ? "an access to a port" : "an access where no memory is";
    } else {
        kvm_exit_text(&inner, vcpu->text, sizeof(vcpu->text));
    }
    return 0;
}

void backplane_vcpu_interrupt(struct backplane_vcpu *vcpu)
{
    kvm_vcpu_interrupt(&vcpu->vcpu);
}
