/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "platform/kvm/kvm_test_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "platform/kvm/kvm_dirty.h"
#include "platform/kvm/kvm_whole.h"

#define RIG_DIRTY_RING_BYTES 65536

void *rig_memory(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    return memory;
}

void rig_memory_free(void *memory, size_t bytes)
{
    munmap(memory, bytes);
}

void rig_open(struct kvm_rig *rig, unsigned flags)
{
    *rig = (struct kvm_rig){0};
    assert_int_equal(kvm_host_open(&rig->host, NULL, KVM_HOST_PATH), 0);
    assert_int_equal(kvm_vm_open(&rig->vm, &rig->host, 0), 0);
    rig->memory = rig_memory(RIG_MEMORY_BYTES);
    const struct kvm_slot slot = {.bytes = RIG_MEMORY_BYTES, .host = rig->memory};
    assert_int_equal(kvm_vm_slot_set(&rig->vm, &slot), 0);
    if (flags & RIG_DIRTY_RING)
        assert_int_equal(kvm_dirty_ring_enable(&rig->vm, RIG_DIRTY_RING_BYTES), 0);
    rig_arch_vm(rig, flags);
    assert_int_equal(kvm_vcpu_open(&rig->vcpu, &rig->vm, 0), 0);
    rig_arch_vcpu(rig, flags);
}

void rig_close(struct kvm_rig *rig)
{
    kvm_vcpu_close(&rig->vcpu);
    kvm_vm_close(&rig->vm);
    kvm_host_close(&rig->host);
    rig_memory_free(rig->memory, RIG_MEMORY_BYTES);
}

void rig_load(struct kvm_rig *rig, const uint8_t *guest, const uint8_t *guest_end)
{
    memcpy(rig->memory + RIG_CODE, guest, (size_t)(guest_end - guest));
    rig_arch_load(rig);
}

void rig_run(struct kvm_rig *rig, enum kvm_cause cause, struct kvm_exit *ret_exit)
{
    assert_int_equal(kvm_vcpu_run(&rig->vcpu, ret_exit), 0);
    if (ret_exit->cause != cause) {
        char text[KVM_EXIT_TEXT_BYTES];
        kvm_exit_text(ret_exit, text, sizeof(text));
        print_error("an exit of another cause: %s\n", text);
    }
    assert_int_equal(ret_exit->cause, cause);
}

uint64_t rig_access(struct kvm_rig *rig, enum kvm_cause cause, uint64_t address, uint32_t size, bool is_write,
                    struct kvm_exit *ret_exit)
{
    rig_run(rig, cause, ret_exit);
    assert_int_equal(ret_exit->access.address, address);
    assert_int_equal(ret_exit->access.size, size);
    assert_int_equal(ret_exit->access.count, 1);
    assert_int_equal(ret_exit->access.is_write, is_write);
    return is_write ? kvm_access_value(&ret_exit->access, 0) : 0;
}

uint32_t rig_report(struct kvm_rig *rig)
{
    struct kvm_exit exit;
    assert_int_equal(kvm_vcpu_run(&rig->vcpu, &exit), 0);
    if (!rig_is_report(&exit)) {
        char text[KVM_EXIT_TEXT_BYTES];
        kvm_exit_text(&exit, text, sizeof(text));
        fail_msg("no report: %s", text);
    }
    return (uint32_t)kvm_access_value(&exit.access, 0);
}

bool rig_skip(void)
{
    struct kvm_host host;
    int r = kvm_host_open(&host, NULL, KVM_HOST_PATH);
    if (r < 0) {
        char reason[KVM_WHOLE_REASON_BYTES];
        kvm_whole_open_reason(KVM_HOST_PATH, r, reason, sizeof(reason));
        printf("1..0 # SKIP %s\n", reason);
        return true;
    }
    kvm_host_close(&host);
    return false;
}
