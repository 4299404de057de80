/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A virtual machine: its memory, its doorbells, and the devices that KVM makes for it.
 *
 * Threads: KVM itself serialises; any thread may call any function here, several at a time, unless it says otherwise.
 * The VM belongs to the process that made it: other processes get -EIO. None of it blocks for long; taking away memory
 * waits until no processor uses it.
 */
#ifndef PLATFORM_KVM_KVM_VM_H
#define PLATFORM_KVM_KVM_VM_H

#include "platform/kvm/kvm_host.h"

struct kvm_vm {
    const struct kvm_host *host; /* borrowed */
    int handle;
    uint32_t dirty_ring_bytes; /* of each virtual processor; 0: no rings (kvm_dirty.h) */
};

/*
 * Make a VM (4.2). @address_bits: size of the guest-physical address space where that is a choice (arm64, 32 to 52), or
 * 0 for what KVM does unasked (40 there). @host is borrowed until close. -ENOTSUP: this host cannot have so many bits.
 */
int kvm_vm_open(struct kvm_vm *vm, const struct kvm_host *host, unsigned address_bits);
/* After its virtual processors. Also of a VM that is all zeros or failed to open. Memory stays the caller's. */
void kvm_vm_close(struct kvm_vm *vm);

/* As kvm_host_check, for this VM: some answers depend on it. */
int kvm_vm_check(const struct kvm_vm *vm, unsigned capability);
/* Enable KVM_CAP_@capability (4.37); @arguments are four, or NULL for zeros. -ENOTSUP: it is not there. */
int kvm_vm_enable(const struct kvm_vm *vm, unsigned capability, const uint64_t *arguments);

/* ---- memory (4.35) */

struct kvm_slot {
    uint32_t number;  /* the caller's choice, below kvm_vm_slots_max */
    uint64_t address; /* guest-physical, whole pages of the host, as are bytes and host */
    uint64_t bytes;
    void *host;     /* borrowed until the slot is removed */
    bool read_only; /* for the guest: its writes are exits. Not to be changed afterwards */
    bool log_dirty; /* which pages the guest writes is recorded */
};

/*
 * Put memory into the guest's address space; of a number in use: move it to another address, or turn its log on or off.
 * What moves keeps its bytes and host memory, and is nowhere for a moment: a guest that uses it then sees exits.
 * -EEXIST: other memory is there. -EINVAL: no whole pages, a number too high, or another change than those.
 */
int kvm_vm_slot_set(const struct kvm_vm *vm, const struct kvm_slot *slot);
/* Take it away; the guest's next access is an exit. */
int kvm_vm_slot_remove(const struct kvm_vm *vm, uint32_t number);
/* How many slots there may be. */
unsigned kvm_vm_slots_max(const struct kvm_vm *vm);

/* ---- doorbells: writes that signal an eventfd and cause no exit (KVM_IOEVENTFD, 4.59) */

struct kvm_doorbell {
    uint64_t address;
    bool is_port;  /* port I/O; else memory-mapped */
    unsigned size; /* of the write: 1, 2, 4 or 8; 0: any */
    bool by_value; /* only writes of @value. Not with size 0 */
    uint64_t value;
    int handle; /* eventfd, borrowed: KVM keeps a reference of its own */
};

/* -EEXIST: one is there for the same writes. -ENOSPC: KVM has 1000 for each of memory-mapped and port I/O. */
int kvm_vm_doorbell_add(const struct kvm_vm *vm, const struct kvm_doorbell *doorbell);
/* The same values as it was added with. -ENOENT. */
int kvm_vm_doorbell_remove(const struct kvm_vm *vm, const struct kvm_doorbell *doorbell);

/*
 * Writes to these addresses are collected in a ring, and need no exit each (4.116); the ring is read by
 * kvm_vcpu_coalesced_pop. Its writes are older than the next exit of any kind, so empty it before an exit is served.
 */
int kvm_vm_coalesce_add(const struct kvm_vm *vm, uint64_t address, uint32_t bytes, bool is_port);
int kvm_vm_coalesce_remove(const struct kvm_vm *vm, uint64_t address, uint32_t bytes, bool is_port);

/* ---- devices that KVM makes (4.79, 4.80; Documentation/virt/kvm/devices) */

/* @type: KVM_DEV_TYPE_. The handle is the caller's, to close with kvm_device_close. -ENODEV: no such device here. */
int kvm_device_open(const struct kvm_vm *vm, uint32_t type, int *ret_handle);
void kvm_device_close(const struct kvm_vm *vm, int handle);
/* Attribute @attribute of @group. @value points to what the attribute is made of. These also work on virtual
 * processors. */
bool kvm_device_has(const struct kvm_vm *vm, int handle, uint32_t group, uint64_t attribute);
int kvm_device_set(const struct kvm_vm *vm, int handle, uint32_t group, uint64_t attribute, const void *value);
int kvm_device_get(const struct kvm_vm *vm, int handle, uint32_t group, uint64_t attribute, void *ret_value);

#endif
