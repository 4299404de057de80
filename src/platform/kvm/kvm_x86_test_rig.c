/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "platform/kvm/kvm_test_rig.h"
#include "platform/kvm/kvm_x86.h"

#define GDT 0x1000u
#define IDT 0x2000u
#define HANDLER 0x4000u
#define STACK 0xa000u
#define TABLES 0x10000u /* PML4, page directory pointers, four page directories */
#define REPORT_PORT 0x10

GUEST(handler);

void rig_arch_vm(struct kvm_rig *rig, unsigned flags)
{
    assert_int_equal(kvm_x86_reserve_pages(&rig->vm, KVM_X86_IDENTITY_MAP_ADDRESS, KVM_X86_TASK_STATE_ADDRESS), 0);
    if (flags & RIG_INTERRUPTS)
        assert_int_equal(kvm_x86_irqchip_open(&rig->vm), 0);
}

static void fill_tables(uint8_t *memory)
{
    put_le64(memory + TABLES, (TABLES + 0x1000) | 3);
    for (unsigned i = 0; i < 4; i++) {
        uint32_t directory = TABLES + 0x2000 + i * 0x1000;
        put_le64(memory + TABLES + 0x1000 + (size_t)i * 8, directory | 3);
        for (uint64_t j = 0; j < 512; j++) /* 2 MiB each; present, writable */
            put_le64(memory + directory + j * 8, (i * 512 + j) << 21 | 0x83);
    }
    put_le64(memory + GDT + 8, UINT64_C(0xaf9b000000ffff));
    put_le64(memory + GDT + 16, UINT64_C(0xcf93000000ffff));
    for (uint32_t vector = 32; vector < 256; vector++) {
        put_le64(memory + IDT + (size_t)vector * 16, HANDLER | 8u << 16 | UINT64_C(0x8e00) << 32);
        put_le64(memory + IDT + (size_t)vector * 16 + 8, 0);
    }
    memcpy(memory + HANDLER, guest_handler, (size_t)(guest_handler_end - guest_handler));
}

static struct kvm_segment segment(uint16_t selector, uint8_t type, bool is_code)
{
    return (struct kvm_segment){
        .limit = 0xffffffff,
        .selector = selector,
        .type = type,
        .present = 1,
        .s = 1,
        .g = 1,
        .l = is_code,
        .db = !is_code,
    };
}

void rig_arch_vcpu(struct kvm_rig *rig, unsigned flags)
{
    fill_tables(rig->memory);
    struct kvm_x86_cpuid cpuid;
    assert_int_equal(kvm_x86_cpuid_supported(&rig->host, &cpuid), 0);
    const struct kvm_x86_topology topology = {
        .processors = 1,
        .tsc_deadline = kvm_host_check(&rig->host, KVM_CAP_TSC_DEADLINE_TIMER) != 0,
    };
    kvm_x86_cpuid_filter(&cpuid, &topology, 0);
    assert_int_equal(kvm_x86_cpuid_set(&rig->vcpu, &cpuid), 0);

    struct kvm_sregs sregs;
    assert_int_equal(kvm_x86_sregs_get(&rig->vcpu, &sregs), 0);
    sregs.cs = segment(8, 11, true);
    sregs.ss = sregs.ds = sregs.es = sregs.fs = sregs.gs = segment(16, 3, false);
    sregs.gdt.base = GDT;
    sregs.gdt.limit = 23;
    sregs.idt.base = IDT;
    sregs.idt.limit = 256 * 16 - 1;
    sregs.cr0 = 0x80050033;
    sregs.cr4 = 0x620;
    sregs.efer = 0x500;
    sregs.cr3 = TABLES;
    assert_int_equal(kvm_x86_sregs_set(&rig->vcpu, &sregs), 0);
    if (flags & RIG_INTERRUPTS) {
        struct kvm_lapic_state lapic;
        assert_int_equal(kvm_x86_lapic_get(&rig->vcpu, &lapic), 0);
        put_le32(lapic.regs + 0xf0, 0x1ff); /* spurious vector; enabled */
        assert_int_equal(kvm_x86_lapic_set(&rig->vcpu, &lapic), 0);
    }
}

void rig_arch_load(struct kvm_rig *rig)
{
    const struct kvm_regs regs = {.rip = RIG_CODE, .rflags = 2, .rsp = STACK};
    assert_int_equal(kvm_x86_regs_set(&rig->vcpu, &regs), 0);
}

bool rig_is_report(const struct kvm_exit *exit)
{
    return exit->cause == KVM_CAUSE_PIO && exit->access.is_write && exit->access.address == REPORT_PORT &&
           exit->access.size == 4;
}
