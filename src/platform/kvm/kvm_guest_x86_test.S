/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Guests of kvm_exit_test.c, in long mode with 4 GiB mapped one to one. Each is copied to where guests begin, and runs
 * wherever it is. No memory is at MMIO; a report is a 32-bit write to port 0x10.
 */
#define MMIO 0x10000000
#define WINDOW_A 0x400000
#define WINDOW_B 0x600000
#define REPORT 0x10
#define HANDLER_MARK 0x1000

    .macro guest name
    .globl guest_\name
guest_\name:
    .endm
    .macro guest_end name
    .globl guest_\name\()_end
guest_\name\()_end:
    .endm

    .section .rodata
    .code64

guest mmio_writes
    mov $MMIO, %ebx
    mov $0x1122334455667788, %rax
    mov %al, (%rbx)
    mov %ax, 2(%rbx)
    mov %eax, 4(%rbx)
    mov %rax, 8(%rbx)
    mov %eax, 0xffe(%rbx)               /* across pages */
    out %eax, $REPORT
guest_end mmio_writes

guest mmio_reads
    mov $MMIO, %ebx
    xor %eax, %eax
    mov (%rbx), %al
    out %eax, $REPORT
    xor %eax, %eax
    mov (%rbx), %ax
    out %eax, $REPORT
    mov (%rbx), %eax
    out %eax, $REPORT
    mov (%rbx), %rax
    out %eax, $REPORT
    shr $32, %rax
    out %eax, $REPORT
guest_end mmio_reads

guest mmio_wide
    mov $MMIO, %ebx
    movdqu (%rbx), %xmm0
    movq %xmm0, %rax
    out %eax, $REPORT
guest_end mmio_wide

guest pio
    mov $0x20, %dx
    mov $0x44332211, %eax
    out %al, %dx
    out %ax, %dx
    out %eax, %dx
    xor %eax, %eax
    in %dx, %al
    out %eax, $REPORT
    in %dx, %ax
    out %eax, $REPORT
    in %dx, %eax
    out %eax, $REPORT
guest_end pio

guest pio_string
    lea string(%rip), %rsi
    mov $0x20, %dx
    mov $10, %ecx
    cld
    rep outsb
    mov $0x5000, %edi
    mov $8, %ecx
    rep insw
    out %eax, $REPORT
string:
    .ascii "0123456789"
guest_end pio_string

guest hlt
    hlt
guest_end hlt

guest shutdown
    lidt nothing(%rip)
    ud2
nothing:
    .short 0
    .quad 0
guest_end shutdown

guest doorbell
    mov $MMIO, %ebx
1:  movl $7, (%rbx)
    movl $8, (%rbx)
    movw $9, 0x100(%rbx)
    movl $9, 0x100(%rbx)
    mov $0x30, %dx
    mov $5, %al
    out %al, %dx
    out %eax, $REPORT
    jmp 1b
guest_end doorbell

guest coalesced
    mov $MMIO, %ebx
    movb $1, (%rbx)
    movw $2, 2(%rbx)
    movl $3, 4(%rbx)
    out %eax, $REPORT
guest_end coalesced

guest dirty
    mov $WINDOW_A, %ebx
1:  movb $1, (%rbx)
    movb $1, 0x3000(%rbx)
    movb $1, 0x41000(%rbx)
    out %eax, $REPORT
    movb $1, 0x1000(%rbx)
    out %eax, $REPORT
    jmp 1b
guest_end dirty

guest windows
1:  mov WINDOW_A, %eax
    out %eax, $REPORT
    mov WINDOW_B, %eax
    out %eax, $REPORT
    jmp 1b
guest_end windows

guest read_only
    mov $WINDOW_A, %ebx
    mov (%rbx), %eax
    out %eax, $REPORT
    movl $0x99, (%rbx)
    mov (%rbx), %eax
    out %eax, $REPORT
guest_end read_only

guest spin
    mov $WINDOW_A, %ebx
1:  lock incl (%rbx)
    jmp 1b
guest_end spin

/* Waits for interrupts; the handler is entered by the table that the rig makes. */
guest interrupts
    sti
1:  hlt
    jmp 1b
guest_end interrupts

/* Vector in a report, beside a mark; end of interrupt at the local APIC. */
guest handler
    push %rax
    push %rbx
    mov $HANDLER_MARK, %eax
    out %eax, $REPORT
    mov $0xfee000b0, %ebx
    movl $0, (%rbx)
    pop %rbx
    pop %rax
    iretq
guest_end handler

/* Registers that a snapshot has to carry. */
guest state
    mov $0x1111, %eax
    movd %eax, %xmm3
    mov $0x2222, %r12d
    mov $0xc0000102, %ecx               /* the kernel's GS base */
    mov $0x3333, %eax
    xor %edx, %edx
    wrmsr
    mov $0x4444, %eax
    mov %rax, %dr0
    out %eax, $REPORT
    movd %xmm3, %eax
    out %eax, $REPORT
    mov %r12d, %eax
    out %eax, $REPORT
    rdmsr
    out %eax, $REPORT
    mov %dr0, %rax
    out %eax, $REPORT
    sti
1:  hlt
    jmp 1b
guest_end state

    .section .note.GNU-stack, "", @progbits
