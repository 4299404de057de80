/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Is /dev/kvm a whole one, on which a stock Linux guest boots? Prints one line and exits 0 for yes, 1 for no.
 *
 * Theory of operation. Some hosts offer a KVM without hardware help, where exits and interrupts work but much code does
 * not. Processor flags do not tell, so this looks at behaviour: on x86-64 a guest of ten instructions adds two vectors
 * at privilege level 0, goes to level 3 by sysret, comes back by syscall, and reports through a port. That is what
 * every Linux does in its first second. Elsewhere a virtual CPU that can be made is taken for a whole one.
 *
 * Limits. A guest that hangs is ended by an alarm, and answers no.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* Ten instructions take microseconds; whoever needs so long does not run them. */
#define GUEST_TIMEOUT_S 10

static int no(const char *reason)
{
    printf("/dev/kvm is not whole: %s\n", reason);
    return 1;
}

static int no_errno(const char *what)
{
    printf("/dev/kvm is not whole: %s: %s\n", what, strerror(errno));
    return 1;
}

static void on_alarm(int signal_number)
{
    static const char text[] = "/dev/kvm is not whole: its guest hangs\n";
    ssize_t written = write(STDOUT_FILENO, text, sizeof(text) - 1);
    (void)signal_number;
    (void)written;
    _exit(1);
}

struct machine {
    int vm, vcpu;
    struct kvm_run *run;
};

#ifdef __x86_64__

#define MEMORY_BYTES (64u << 10)
#define CODE 0x1000u
#define VECTORS 0x2000u /* two addends, then room for the sum */
#define TABLES 0x4000u  /* PML4, page directory pointers, page directory: a page each */
#define PORT 0x10u
#define PORT_VALUE 0x4bu
#define USER_CODE (CODE + 0x40u)
#define SYSCALL_ENTRY (CODE + 0x80u)
#define KERNEL_SELECTOR 0x08u
#define USER_SELECTOR_BASE 0x10u /* sysretq: code at base + 16, stack at base + 8 */

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
_Static_assert(sizeof(kernel_code) <= USER_CODE - CODE, "the kernel's code ends where the user's begins");

static void fill_memory(uint8_t *memory)
{
    memcpy(memory + CODE, kernel_code, sizeof(kernel_code));
    memcpy(memory + USER_CODE, user_code, sizeof(user_code));
    memcpy(memory + SYSCALL_ENTRY, syscall_entry, sizeof(syscall_entry));
    static const uint32_t addends[8] = {1, 2, 3, 0xffffffff, 10, 20, 30, 2};
    memcpy(memory + VECTORS, addends, sizeof(addends));
    /* The first 2 MiB one to one, open to level 3: present, writable, user. */
    const uint64_t entries[3] = {(TABLES + 0x1000u) | 7, (TABLES + 0x2000u) | 7, 0x87};
    for (unsigned i = 0; i < 3; i++)
        memcpy(memory + TABLES + i * 0x1000u, &entries[i], sizeof(entries[i]));
}

static struct kvm_segment segment(uint16_t selector, uint8_t type, bool is_code)
{
    return (struct kvm_segment){.limit = 0xffffffff,
                                .selector = selector,
                                .type = type,
                                .present = 1,
                                .s = 1,
                                .g = 1,
                                .l = is_code,
                                .db = !is_code};
}

/* The guest may use what the host's processor has, or else long mode and SSE are refused. */
static int set_cpuid(int kvm, int vcpu)
{
    enum { ENTRIES = 256 };
    struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + ENTRIES * sizeof(cpuid->entries[0]));
    if (cpuid == NULL)
        return -1;
    cpuid->nent = ENTRIES;
    int r = ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid);
    if (r == 0)
        r = ioctl(vcpu, KVM_SET_CPUID2, cpuid);
    free(cpuid);
    return r;
}

static int set_msrs(int vcpu)
{
    static const struct kvm_msr_entry entries[] = {
        {.index = 0xc0000081, .data = (uint64_t)USER_SELECTOR_BASE << 48 | (uint64_t)KERNEL_SELECTOR << 32}, /* STAR */
        {.index = 0xc0000082, .data = SYSCALL_ENTRY},                                                        /* LSTAR */
        {.index = 0xc0000084, .data = 0}, /* SFMASK */
    };
    const unsigned count = sizeof(entries) / sizeof(entries[0]);
    struct kvm_msrs *msrs = calloc(1, sizeof(*msrs) + sizeof(entries));
    if (msrs == NULL)
        return -1;
    msrs->nmsrs = count;
    memcpy(msrs->entries, entries, sizeof(entries));
    int r = ioctl(vcpu, KVM_SET_MSRS, msrs);
    free(msrs);
    return r == (int)count ? 0 : -1;
}

static int set_registers(int vcpu)
{
    struct kvm_sregs sregs;
    if (ioctl(vcpu, KVM_GET_SREGS, &sregs) != 0)
        return -1;
    sregs.cs = segment(KERNEL_SELECTOR, 11, true);
    sregs.ss = sregs.ds = sregs.es = sregs.fs = sregs.gs = segment(USER_SELECTOR_BASE, 3, false);
    sregs.cr0 = 0x80050033; /* paging, protection, numeric errors, monitor coprocessor; no emulated maths */
    sregs.cr4 = 0x620;      /* physical address extension, SSE and its exceptions */
    sregs.efer = 0x500 | 1; /* long mode, enabled and active; syscall */
    sregs.cr3 = TABLES;
    if (ioctl(vcpu, KVM_SET_SREGS, &sregs) != 0)
        return -1;
    if (set_msrs(vcpu) != 0)
        return -1;
    struct kvm_regs regs = {.rip = CODE, .rflags = 2, .rsp = 0x8000};
    return ioctl(vcpu, KVM_SET_REGS, &regs);
}

static int run_guest(int kvm, struct machine *machine)
{
    uint8_t *memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return no_errno("no memory for its guest");
    fill_memory(memory);
    struct kvm_userspace_memory_region region = {.memory_size = MEMORY_BYTES, .userspace_addr = (uintptr_t)memory};
    if (ioctl(machine->vm, KVM_SET_USER_MEMORY_REGION, &region) != 0)
        return no_errno("it takes no guest memory");
    if (set_cpuid(kvm, machine->vcpu) != 0 || set_registers(machine->vcpu) != 0)
        return no_errno("it refuses a CPU in long mode");

    int r;
    do {
        r = ioctl(machine->vcpu, KVM_RUN, NULL);
    } while (r != 0 && errno == EINTR);
    if (r != 0)
        return no_errno("its guest does not run");

    static const uint32_t sum[4] = {11, 22, 33, 1};
    bool added = memcmp(memory + VECTORS + 32, sum, sizeof(sum)) == 0;
    struct kvm_run *run = machine->run;
    bool reported = run->exit_reason == KVM_EXIT_IO && run->io.port == PORT &&
                    *((uint8_t *)run + run->io.data_offset) == PORT_VALUE;
    if (!added)
        return no("it cannot run a Linux kernel: vector instructions at privilege level 0 fail");
    if (!reported)
        return no("it cannot run a Linux program: system calls from privilege level 3 fail");
    return 0;
}

#else

static int run_guest(int kvm, struct machine *machine)
{
    (void)kvm;
    (void)machine;
    return 0;
}

#endif

int main(void)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm < 0) {
        printf("/dev/kvm cannot be opened: %s\n", strerror(errno));
        return 1;
    }
    if (ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
        return no("it speaks another version of the interface");

    signal(SIGALRM, on_alarm);
    alarm(GUEST_TIMEOUT_S);
    struct machine machine = {.vm = ioctl(kvm, KVM_CREATE_VM, 0)};
    if (machine.vm < 0)
        return no_errno("it makes no virtual machine");
    machine.vcpu = ioctl(machine.vm, KVM_CREATE_VCPU, 0);
    if (machine.vcpu < 0)
        return no_errno("it makes no virtual CPU");
    int run_bytes = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (run_bytes < (int)sizeof(struct kvm_run))
        return no_errno("it does not share a virtual CPU's state");
    machine.run = mmap(NULL, (size_t)run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, machine.vcpu, 0);
    if (machine.run == MAP_FAILED)
        return no_errno("it does not share a virtual CPU's state");

    int r = run_guest(kvm, &machine);
    if (r == 0)
        printf("/dev/kvm is whole\n");
    return r;
}
