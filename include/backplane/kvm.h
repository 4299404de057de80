/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A virtual machine on the host's KVM, for x86-64 and arm64: memory, processors, and their exits. A thin layer: what it
 * leaves out can be asked of KVM by its handles, with <linux/kvm.h>.
 *
 * A machine is made in this order: backplane_kvm_open, backplane_vm_create, memory, processors. A processor belongs to
 * the thread that runs it; everything else may be called by any thread. Nothing is allocated while a processor runs.
 *
 * What an exit says was chosen by a guest, which may be hostile: addresses, ports and values.
 */
#ifndef BACKPLANE_KVM_H
#define BACKPLANE_KVM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <backplane/backplane.h>

#ifdef __cplusplus
extern "C" {
#endif

struct backplane_kvm;
struct backplane_vm;
struct backplane_vcpu;

/*
 * Open KVM at @path; NULL: /dev/kvm. -ENOENT, -EACCES, … as open(2) has them; -EPROTO: another version of its
 * interface. -ENOMEM.
 */
BACKPLANE_API int backplane_kvm_open(const char *path, struct backplane_kvm **ret_kvm);
/* After its machines. NULL: nothing. */
BACKPLANE_API void backplane_kvm_close(struct backplane_kvm *kvm);
/*
 * Is it a whole one, on which a stock Linux guest boots? A guest of a few instructions is run to see. 1: it is. 0: it
 * is not, and @reason says why not. Blocks up to ten seconds when that guest hangs.
 */
BACKPLANE_API int backplane_kvm_try(const struct backplane_kvm *kvm, char *reason, size_t reason_bytes);

/* Make a machine. @kvm is borrowed until it is destroyed. */
BACKPLANE_API int backplane_vm_create(const struct backplane_kvm *kvm, struct backplane_vm **ret_vm);
/* After its processors. NULL: nothing. Its memory stays the caller's. */
BACKPLANE_API void backplane_vm_destroy(struct backplane_vm *vm);
/* The VM's file descriptor, borrowed: for ioctls that this library has no function for. */
BACKPLANE_API int backplane_vm_handle(const struct backplane_vm *vm);

enum backplane_memory {
    BACKPLANE_MEMORY_READ_ONLY = 1, /* for the guest: its writes are exits */
    BACKPLANE_MEMORY_LOG = 2,       /* which pages the guest writes is recorded (KVM_GET_DIRTY_LOG) */
};
/*
 * Put @bytes of memory at @host, borrowed until removed, to guest-physical @address; all are whole pages. @slot is a
 * number of the caller's choice, from 0; one in use is moved to @address. -EEXIST: other memory is there. -EINVAL.
 */
BACKPLANE_API int backplane_vm_memory_set(struct backplane_vm *vm, uint32_t slot, uint64_t address, void *host,
                                          uint64_t bytes, uint32_t flags);
BACKPLANE_API int backplane_vm_memory_remove(struct backplane_vm *vm, uint32_t slot);

/*
 * Writes of @bytes (1, 2, 4, 8; 0: any) at guest-physical @address signal @eventfd, which is borrowed, and cause no
 * exit. -EEXIST, -ENOENT.
 */
BACKPLANE_API int backplane_vm_doorbell_add(struct backplane_vm *vm, uint64_t address, unsigned bytes, int eventfd);
BACKPLANE_API int backplane_vm_doorbell_remove(struct backplane_vm *vm, uint64_t address, unsigned bytes, int eventfd);

/*
 * Make processor @index, which will begin at @entry: x86-64 in real mode with segments of base 0, so below 64 KiB;
 * arm64 at exception level 1 with its MMU off. @vm is borrowed until it is destroyed. -EEXIST, -EINVAL, -ENOMEM.
 */
BACKPLANE_API int backplane_vcpu_create(struct backplane_vm *vm, unsigned index, uint64_t entry,
                                        struct backplane_vcpu **ret_vcpu);
/* Not while it runs. NULL: nothing. */
BACKPLANE_API void backplane_vcpu_destroy(struct backplane_vcpu *vcpu);
/* The processor's file descriptor, borrowed: for its registers, say. */
BACKPLANE_API int backplane_vcpu_handle(const struct backplane_vcpu *vcpu);

enum backplane_exit_cause {
    BACKPLANE_EXIT_INTERRUPTED, /* backplane_vcpu_interrupt, or a signal */
    BACKPLANE_EXIT_MEMORY,      /* an access where no memory is: address, bytes, … below */
    BACKPLANE_EXIT_PORT,        /* x86-64: the same of a port */
    BACKPLANE_EXIT_HALT,        /* x86-64: it waits for an interrupt */
    BACKPLANE_EXIT_OFF,         /* the guest powered itself off (arm64: PSCI) */
    BACKPLANE_EXIT_RESET,       /* the guest wants a reset; x86-64: a triple fault */
    BACKPLANE_EXIT_OTHER,       /* the text says what */
};

struct backplane_exit {
    size_t size; /* sizeof(struct backplane_exit), set by the caller */
    enum backplane_exit_cause cause;
    /* Of an access: @count values of @bytes each at @data, little-endian; a read is answered by writing there. */
    bool is_write;
    uint32_t bytes; /* 1 to 8 */
    uint32_t count; /* more than 1: a string of port accesses */
    uint64_t address;
    uint8_t *data;    /* valid until it runs again */
    const char *text; /* what happened, for people; likewise */
};

/*
 * Run the guest until something is to be done: 0 with @exit filled. Blocks. The processor has to be run again for the
 * guest to see what a read was answered. -errno: it cannot be run.
 */
BACKPLANE_API int backplane_vcpu_run(struct backplane_vcpu *vcpu, struct backplane_exit *exit);
/*
 * The next run, or the one about to begin, ends at once. From any thread and signal handlers. A guest that runs already
 * goes on: send a signal to its thread besides, one with a handler that does nothing.
 */
BACKPLANE_API void backplane_vcpu_interrupt(struct backplane_vcpu *vcpu);

#ifdef __cplusplus
}
#endif

#endif
