/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <assert.h>

#include "platform/kvm/kvm_arm64.h"
#include "platform/kvm/kvm_whole_guest.h"

#define CODE 0x1000u
#define USER_CODE 0x1800u
#define HANDLERS 0x2000u /* a table of 16, 128 bytes each */
#define HANDLER_BYTES 0x80u
#define SYSTEM_CALL 8u     /* of them: synchronous, from level 0 in 64 bits */
#define TABLES 0x4000u     /* level 1, level 2: a page each */
#define NOWHERE 0x200000u  /* no memory is there */
#define REPORT (0x4bu + 2) /* what the system call adds up */

/* 4 KiB pages, 39 bits of address: the tables begin at level 1. MAIR: 0 is memory, 1 is a device. */
static const uint32_t kernel_code[] = {
    0xd2801fe0, /* mov x0, #0xff */
    0xd518a200, /* msr mair_el1, x0 */
    0xd286a320, /* mov x0, #0x3519 */
    0xf2a01000, /* movk x0, #0x80, lsl #16 */
    0xd5182040, /* msr tcr_el1, x0 */
    0xd2880000, /* mov x0, #TABLES */
    0xd5182000, /* msr ttbr0_el1, x0 */
    0xd2840000, /* mov x0, #HANDLERS */
    0xd518c000, /* msr vbar_el1, x0 */
    0xd2a00600, /* mov x0, #0x300000: vectors, at every level */
    0xd5181040, /* msr cpacr_el1, x0 */
    0xd5033fdf, /* isb */
    0xd5381000, /* mrs x0, sctlr_el1 */
    0xb2400000, /* orr x0, x0, #1: the MMU */
    0xd5181000, /* msr sctlr_el1, x0 */
    0xd5033fdf, /* isb */
    0x4f000420, /* movi v0.4s, #1 */
    0x4ea08400, /* add v0.4s, v0.4s, v0.4s */
    0x0e043c01, /* mov w1, v0.s[0] */
    0xd2830000, /* mov x0, #USER_CODE */
    0xd5184020, /* msr elr_el1, x0 */
    0xd2807800, /* mov x0, #0x3c0: level 0, no interrupts */
    0xd5184000, /* msr spsr_el1, x0 */
    0xd69f03e0, /* eret */
};
static const uint32_t user_code[] = {
    0xd4000001, /* svc #0 */
    0x14000000, /* b . */
};
static const uint32_t system_call[] = {
    0xd2a00400, /* mov x0, #NOWHERE */
    0x11012c22, /* add w2, w1, #0x4b */
    0xb9000002, /* str w2, [x0] */
    0x14000000, /* b . */
};
static const uint32_t other_handler[] = {
    0xd2a00400, /* mov x0, #NOWHERE */
    0xb900001f, /* str wzr, [x0] */
    0x14000000, /* b . */
};
static_assert(sizeof(kernel_code) <= USER_CODE - CODE, "the kernel's code ends where the user's begins");

static void fill_memory(uint8_t *memory)
{
    memcpy(memory + CODE, kernel_code, sizeof(kernel_code));
    memcpy(memory + USER_CODE, user_code, sizeof(user_code));
    for (unsigned i = 0; i < 16; i++)
        memcpy(memory + HANDLERS + i * HANDLER_BYTES, other_handler, sizeof(other_handler));
    memcpy(memory + HANDLERS + SYSTEM_CALL * HANDLER_BYTES, system_call, sizeof(system_call));
    /*
     * One to one: a table; 2 MiB of memory that both levels read and execute (what level 0 may write, level 1 may not
     * execute); 2 MiB of a device, for level 1 alone. Accessed, inner shareable.
     */
    put_le64(memory + TABLES, (TABLES + 0x1000) | 3);
    put_le64(memory + TABLES + 0x1000, 0x7c1);
    put_le64(memory + TABLES + 0x1008, UINT64_C(0x60000000000000) | NOWHERE | 0x705);
}

int kvm_whole_guest_prepare(struct kvm_vcpu *vcpu, uint8_t *memory)
{
    fill_memory(memory);
    int r = kvm_arm64_vcpu_init(vcpu, KVM_ARM64_PSCI);
    return r < 0 ? r : kvm_arm64_reg_set_u64(vcpu, kvm_arm64_reg_pc, CODE);
}

const char *kvm_whole_guest_judge(const uint8_t *memory, const struct kvm_exit *exit)
{
    (void)memory;
    if (exit->cause != KVM_CAUSE_MMIO || !exit->access.is_write || exit->access.address != NOWHERE)
        return "it cannot run a Linux kernel: code at exception level 1 fails";
    if (kvm_access_value(&exit->access, 0) != REPORT)
        return "it cannot run a Linux program: system calls from exception level 0 fail";
    return NULL;
}
