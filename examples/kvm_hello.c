/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A virtual machine in one page: its guest prints a line, a byte at a time, to where a machine of its kind has a serial
 * port, asks for a number and prints it, and says that it is done. Build it against the installed library, and run it:
 *
 *     cc kvm_hello.c $(pkg-config --cflags --libs backplane) -o kvm_hello
 *     ./kvm_hello
 */
#include <backplane/kvm.h>
#include <stdio.h>
#include <string.h>

/* The guest's memory is at its address 0, and the guest at its beginning. Whole pages, whatever size they have here. */
#define MEMORY_BYTES 65536
static _Alignas(MEMORY_BYTES) unsigned char memory[MEMORY_BYTES];
#define TEXT_AT 0x80

#if defined(__x86_64__)

/* Real mode: 16 bits. Ports are I/O ports. */
#define SERIAL 0x3f8 /* write: a byte to print */
#define NUMBER 0x510 /* read: a digit */
#define DONE 0x600   /* write: the end */
#define CAUSE BACKPLANE_EXIT_PORT
static const unsigned char guest[] = {
    0xbe, 0x80, 0x00, /*       mov  $TEXT_AT, %si */
    0xba, 0xf8, 0x03, /*       mov  $SERIAL, %dx */
    0xac,             /* next: lodsb */
    0x84, 0xc0,       /*       test %al, %al */
    0x74, 0x03,       /*       jz   ask */
    0xee,             /*       out  %al, %dx */
    0xeb, 0xf8,       /*       jmp  next */
    0xba, 0x10, 0x05, /* ask:  mov  $NUMBER, %dx */
    0xec,             /*       in   %dx, %al */
    0xba, 0xf8, 0x03, /*       mov  $SERIAL, %dx */
    0xee,             /*       out  %al, %dx */
    0xb0, 0x0a,       /*       mov  $'\n', %al */
    0xee,             /*       out  %al, %dx */
    0xba, 0x00, 0x06, /*       mov  $DONE, %dx */
    0xee,             /*       out  %al, %dx */
};

#elif defined(__aarch64__)

/* Exception level 1, MMU off. Registers of devices are addresses where no memory is. */
#define SERIAL 0x9000000
#define NUMBER 0x9000004
#define DONE 0x9000008
#define CAUSE BACKPLANE_EXIT_MEMORY
static const unsigned int guest[] = {
    0xd2801000, /*       mov  x0, #TEXT_AT */
    0xd2a12001, /*       mov  x1, #SERIAL */
    0x39400002, /* next: ldrb w2, [x0] */
    0x91000400, /*       add  x0, x0, #1 */
    0x34000062, /*       cbz  w2, ask */
    0x39000022, /*       strb w2, [x1] */
    0x17fffffc, /*       b    next */
    0x39401022, /* ask:  ldrb w2, [x1, #4] */
    0x39000022, /*       strb w2, [x1] */
    0x52800142, /*       mov  w2, #'\n' */
    0x39000022, /*       strb w2, [x1] */
    0x39002022, /*       strb w2, [x1, #8] */
};

#else
#error "this example has a guest for x86-64 and one for arm64"
#endif

static const char text[] = "Hello from a guest. The answer divided by six is ";

static int fail(const char *what, int error)
{
    fprintf(stderr, "kvm_hello: %s: %s\n", what, strerror(-error));
    return 1;
}

/* One exit: 0 to go on, 1 when the guest is done, below 0 when it did what it should not. */
static int serve(const struct backplane_exit *exit)
{
    if (exit->cause == BACKPLANE_EXIT_INTERRUPTED)
        return 0;
    if (exit->cause != CAUSE || exit->bytes != 1) {
        fprintf(stderr, "kvm_hello: not expected of this guest: %s\n", exit->text);
        return -1;
    }
    if (exit->is_write && exit->address == DONE)
        return 1;
    for (unsigned i = 0; i < exit->count; i++) {
        if (!exit->is_write)
            exit->data[i] = exit->address == NUMBER ? '7' : 0xff;
        else if (exit->address == SERIAL)
            putchar(exit->data[i]);
    }
    return 0;
}

static int run(struct backplane_vcpu *vcpu)
{
    for (;;) {
        struct backplane_exit exit = {.size = sizeof(exit)};
        int r = backplane_vcpu_run(vcpu, &exit);
        if (r < 0)
            return fail("the guest cannot be run", r);
        r = serve(&exit);
        if (r != 0)
            return r < 0 ? 1 : 0;
    }
}

int main(void)
{
    struct backplane_kvm *kvm;
    struct backplane_vm *vm = NULL;
    struct backplane_vcpu *vcpu = NULL;
    int r = backplane_kvm_open(NULL, &kvm);
    if (r < 0)
        return fail("cannot open /dev/kvm", r);

    int status = 1;
    memcpy(memory, guest, sizeof(guest));
    memcpy(memory + TEXT_AT, text, sizeof(text));

    r = backplane_vm_create(kvm, &vm);
    if (r == 0)
        r = backplane_vm_memory_set(vm, 0, 0, memory, MEMORY_BYTES, 0);
    if (r == 0)
        r = backplane_vcpu_create(vm, 0, 0, &vcpu);
    if (r < 0)
        fail("cannot make the machine", r);
    else
        status = run(vcpu);

    backplane_vcpu_destroy(vcpu);
    backplane_vm_destroy(vm);
    backplane_kvm_close(kvm);
    return status;
}
