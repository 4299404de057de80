/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Guests of kvm_exit_test.c, at exception level 1 with the MMU off. Each is copied to where guests begin. No memory is
 * at MMIO; a report is a 32-bit write to REPORT, whose address is in x9.
 */
#define MMIO 0x10000000
#define WINDOW_A 0x400000
#define WINDOW_B 0x600000
#define REPORT 0x11000000
#define HANDLER_MARK 0x1000

    .macro guest name
    .globl guest_\name
    .balign 4
guest_\name:
    mov x8, #MMIO
    mov x9, #REPORT
    .endm
    .macro guest_end name
    .globl guest_\name\()_end
guest_\name\()_end:
    .endm

    .section .rodata

guest mmio_writes
    movz x0, #0x7788
    movk x0, #0x5566, lsl #16
    movk x0, #0x3344, lsl #32
    movk x0, #0x1122, lsl #48
    strb w0, [x8]
    strh w0, [x8, #2]
    str w0, [x8, #4]
    str x0, [x8, #8]
    str w0, [x9]
guest_end mmio_writes

guest mmio_reads
    ldrb w0, [x8]
    str w0, [x9]
    ldrh w0, [x8]
    str w0, [x9]
    ldr w0, [x8]
    str w0, [x9]
    ldr x0, [x8]
    str w0, [x9]
    lsr x0, x0, #32
    str w0, [x9]
guest_end mmio_reads

guest doorbell
1:  mov w0, #7
    str w0, [x8]
    mov w0, #8
    str w0, [x8]
    mov w0, #9
    strh w0, [x8, #0x100]
    str w0, [x8, #0x100]
    str w0, [x9]
    b 1b
guest_end doorbell

guest coalesced
    mov w0, #1
    strb w0, [x8]
    mov w0, #2
    strh w0, [x8, #2]
    mov w0, #3
    str w0, [x8, #4]
    str w0, [x9]
guest_end coalesced

guest dirty
    mov x1, #WINDOW_A
    mov x2, #(WINDOW_A + 0x3000) & 0xffff
    movk x2, #(WINDOW_A + 0x3000) >> 16, lsl #16
    mov x3, #(WINDOW_A + 0x41000) & 0xffff
    movk x3, #(WINDOW_A + 0x41000) >> 16, lsl #16
    add x4, x1, #0x1000
1:  strb w0, [x1]
    strb w0, [x2]
    strb w0, [x3]
    str w0, [x9]
    strb w0, [x4]
    str w0, [x9]
    b 1b
guest_end dirty

guest windows
    mov x1, #WINDOW_A
    mov x2, #WINDOW_B
1:  ldr w0, [x1]
    str w0, [x9]
    ldr w0, [x2]
    str w0, [x9]
    b 1b
guest_end windows

guest read_only
    mov x1, #WINDOW_A
    ldr w0, [x1]
    str w0, [x9]
    mov w0, #0x99
    str w0, [x1]
    ldr w0, [x1]
    str w0, [x9]
guest_end read_only

guest spin
    mov x1, #WINDOW_A
1:  ldr w0, [x1]
    add w0, w0, #1
    str w0, [x1]
    b 1b
guest_end spin

/* Waits for interrupts; the vector table is at 0x2000. */
guest interrupts
    mov x0, #0x2000
    msr vbar_el1, x0
    isb
    msr daifclr, #2
1:  wfi
    b 1b
guest_end interrupts

/* Entered by the rig's vector table with GICv3's system registers; the interrupt's number in the report. */
guest handler
    mrs x0, s3_0_c12_c12_0              /* ICC_IAR1_EL1 */
    add w1, w0, #HANDLER_MARK
    str w1, [x9]
    msr s3_0_c12_c12_1, x0              /* ICC_EOIR1_EL1 */
    eret
guest_end handler

/* The same with GICv2's processor interface. */
guest handler_v2
    mov x7, #0x08010000
    ldr w0, [x7, #0xc]
    add w1, w0, #HANDLER_MARK
    str w1, [x9]
    str w0, [x7, #0x10]
    eret
guest_end handler_v2

/* Registers that a snapshot has to carry, then interrupts. */
guest state
    mov x0, #0x300000
    msr cpacr_el1, x0
    mov x0, #0x2000
    msr vbar_el1, x0
    isb
    mov w0, #0x1111
    fmov s3, w0
    mov w12, #0x2222
    mov x0, #0x3333
    msr tpidr_el1, x0
    mov w0, #0x4444
    str w0, [x9]
    fmov w0, s3
    str w0, [x9]
    str w12, [x9]
    mrs x0, tpidr_el1
    str w0, [x9]
    msr daifclr, #2
1:  wfi
    b 1b
guest_end state

/* SYSTEM_OFF and SYSTEM_RESET of PSCI 0.2. */
guest power_off
    mov w0, #0x0008
    movk w0, #0x8400, lsl #16
    hvc #0
guest_end power_off

guest reset
    mov w0, #0x0009
    movk w0, #0x8400, lsl #16
    hvc #0
guest_end reset

    .section .note.GNU-stack, "", %progbits
