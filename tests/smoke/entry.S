/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The way in, for x86-64: Xen's PVH boot ABI (xen/include/public/arch-x86/hvm/start_info.h), which QEMU's -kernel
 * speaks too. The processor is in 32-bit protected mode without paging; the note says where to begin. From here to C:
 * zeroed .bss, the first GiB mapped to itself, long mode, SSE (compilers use it for copies), a stack, and stubs that
 * turn every exception into a report.
 */
#define XEN_ELFNOTE_PHYS32_ENTRY 18

#define CR0_PE_MP_ET_NE_WP_PG 0x80010033 /* and not EM, not TS: SSE traps with them */
#define CR4_PAE_OSFXSR_OSXMMEXCPT 0x620
#define MSR_EFER 0xc0000080
#define EFER_LME 0x100

#define PAGE_PRESENT_WRITABLE 0x3
#define PAGE_LARGE 0x80

#define SEGMENT_CODE 0x08
#define SEGMENT_DATA 0x10

    .section .note.Xen, "a", @note
    .balign 4
    .long 4 /* bytes of the name */
    .long 8 /* bytes of what follows the name */
    .long XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad entry32

    .text
    .code32
    .global entry32
entry32:
    cli
    cld
    movl $bss_begin, %edi
    movl $bss_end, %ecx
    subl %edi, %ecx
    xorl %eax, %eax
    rep stosb

    movl $page_level4, %eax
    movl %eax, %cr3
    movl %cr4, %eax
    orl $CR4_PAE_OSFXSR_OSXMMEXCPT, %eax
    movl %eax, %cr4
    movl $MSR_EFER, %ecx
    rdmsr
    orl $EFER_LME, %eax
    wrmsr
    movl $CR0_PE_MP_ET_NE_WP_PG, %eax
    movl %eax, %cr0
    lgdt gdt_pointer
    ljmp $SEGMENT_CODE, $entry64

    .code64
entry64:
    movl $SEGMENT_DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %eax, %fs
    movl %eax, %gs
    movl $stack_end, %esp
    call smoke_main
stop:
    hlt
    jmp stop

/* Some exceptions push an error code below the vector, some do not: the report needs neither it nor a way back. */
trap:
    movq (%rsp), %rdi
    andq $-16, %rsp
    call smoke_trap
    jmp stop

    .balign 16
    .global trap_stubs
trap_stubs: /* each takes 16 bytes */
    .set vector, 0
    .rept 32
    .balign 16
    pushq $vector
    jmp trap
    .set vector, vector + 1
    .endr

    .data
    .balign 8
gdt:
    .quad 0
    .quad 0x00af9a000000ffff /* code: present, long mode */
    .quad 0x00cf92000000ffff /* data: present, writable */
gdt_pointer:
    .word . - gdt - 1
    .long gdt

    .balign 4096
page_level4:
    .quad page_level3 + PAGE_PRESENT_WRITABLE
    .fill 511, 8, 0
page_level3:
    .quad page_level2 + PAGE_PRESENT_WRITABLE
    .fill 511, 8, 0
page_level2:
    .set address, 0
    .rept 512
    .quad address + PAGE_PRESENT_WRITABLE + PAGE_LARGE
    .set address, address + 0x200000
    .endr

    .bss
    .balign 16
    .skip 65536
stack_end:

    .section .note.GNU-stack, "", @progbits
