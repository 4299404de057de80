/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <assert.h>
#include <errno.h>

#include "platform/kvm/kvm_whole_guest.h"
#include "platform/kvm/kvm_x86.h"

#define CODE 0x1000u
#define VECTORS 0x2000u /* two addends, then room for the sum */
#define TABLES 0x4000u  /* PML4, page directory pointers, page directory: a page each */
#define STACK 0x8000u
#define PORT 0x10u
#define PORT_VALUE 0x4bu
#define USER_CODE (CODE + 0x40u)
#define SYSCALL_ENTRY (CODE + 0x80u)
#define KERNEL_SELECTOR 0x08u
#define USER_SELECTOR_BASE 0x10u /* sysretq: code at base + 16, stack at base + 8 */

#define MSR_STAR 0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_SFMASK 0xc0000084u

static const uint8_t kernel_code[] = {
    0xf3, 0x0f, 0x6f, 0x04, 0x25, 0x00, 0x20, 0x00, 0x00, /* movdqu VECTORS, %xmm0 */
    0xf3, 0x0f, 0x6f, 0x0c, 0x25, 0x10, 0x20, 0x00, 0x00, /* movdqu VECTORS + 16, %xmm1 */
    0x66, 0x0f, 0xfe, 0xc1,                               /* paddd %xmm1, %xmm0 */
    0xf3, 0x0f, 0x7f, 0x04, 0x25, 0x20, 0x20, 0x00, 0x00, /* movdqu %xmm0, VECTORS + 32 */
    0xb9, 0x40, 0x10, 0x00, 0x00,                         /* mov $USER_CODE, %ecx */
    0x41, 0xbb, 0x02, 0x00, 0x00, 0x00,                   /* mov $2, %r11d: flags */
    0x48, 0x0f, 0x07,                                     /* sysretq */
};
static const uint8_t user_code[] = {0x0f, 0x05}; /* syscall */
static const uint8_t syscall_entry[] = {
    0xb0, PORT_VALUE, /* mov $PORT_VALUE, %al */
    0xe6, PORT,       /* out %al, $PORT */
    0xf4,             /* hlt */
};
static_assert(sizeof(kernel_code) <= USER_CODE - CODE, "the kernel's code ends where the user's begins");

static void fill_memory(uint8_t *memory)
{
    memcpy(memory + CODE, kernel_code, sizeof(kernel_code));
    memcpy(memory + USER_CODE, user_code, sizeof(user_code));
    memcpy(memory + SYSCALL_ENTRY, syscall_entry, sizeof(syscall_entry));
    static const uint32_t addends[8] = {1, 2, 3, 0xffffffff, 10, 20, 30, 2};
    memcpy(memory + VECTORS, addends, sizeof(addends));
    /* The first 2 MiB one to one, open to level 3: present, writable, user. */
    put_le64(memory + TABLES, (TABLES + 0x1000u) | 7);
    put_le64(memory + TABLES + 0x1000, (TABLES + 0x2000u) | 7);
    put_le64(memory + TABLES + 0x2000, 0x87);
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

/* The guest may use what the host's processor has, or else long mode and SSE are refused. */
static int set_cpuid(struct kvm_vcpu *vcpu)
{
    struct kvm_x86_cpuid cpuid;
    int r = kvm_x86_cpuid_supported(vcpu->vm->host, &cpuid);
    return r < 0 ? r : kvm_x86_cpuid_set(vcpu, &cpuid);
}

static int set_sregs(struct kvm_vcpu *vcpu)
{
    struct kvm_sregs sregs;
    int r = kvm_x86_sregs_get(vcpu, &sregs);
    if (r < 0)
        return r;
    sregs.cs = segment(KERNEL_SELECTOR, 11, true);
    sregs.ss = sregs.ds = sregs.es = sregs.fs = sregs.gs = segment(USER_SELECTOR_BASE, 3, false);
    sregs.cr0 = 0x80050033; /* paging, protection, numeric errors, monitor coprocessor; no emulated maths */
    sregs.cr4 = 0x620;      /* physical address extension, SSE and its exceptions */
    sregs.efer = 0x500 | 1; /* long mode, enabled and active; syscall */
    sregs.cr3 = TABLES;
    return kvm_x86_sregs_set(vcpu, &sregs);
}

int kvm_whole_guest_prepare(struct kvm_vcpu *vcpu, uint8_t *memory)
{
    fill_memory(memory);
    int r = set_cpuid(vcpu);
    if (r == 0)
        r = set_sregs(vcpu);
    if (r < 0)
        return r;
    static const struct kvm_msr_entry msrs[] = {
        {.index = MSR_STAR, .data = (uint64_t)USER_SELECTOR_BASE << 48 | (uint64_t)KERNEL_SELECTOR << 32},
        {.index = MSR_LSTAR, .data = SYSCALL_ENTRY},
        {.index = MSR_SFMASK, .data = 0},
    };
    r = kvm_x86_msrs_set(vcpu, msrs, ARRAY_SIZE(msrs));
    if (r != (int)ARRAY_SIZE(msrs))
        return r < 0 ? r : -EINVAL;
    const struct kvm_regs regs = {.rip = CODE, .rflags = 2, .rsp = STACK};
    return kvm_x86_regs_set(vcpu, &regs);
}

const char *kvm_whole_guest_judge(const uint8_t *memory, const struct kvm_exit *exit)
{
    static const uint32_t sum[4] = {11, 22, 33, 1};
    if (memcmp(memory + VECTORS + 32, sum, sizeof(sum)) != 0)
        return "it cannot run a Linux kernel: vector instructions at privilege level 0 fail";
    if (exit->cause != KVM_CAUSE_PIO || !exit->access.is_write || exit->access.address != PORT ||
        kvm_access_value(&exit->access, 0) != PORT_VALUE)
        return "it cannot run a Linux program: system calls from privilege level 3 fail";
    return NULL;
}
