/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A machine on KVM: memory, virtual processors, a board with the chips that Linux expects, and virtio devices on it.
 *
 * Life: create, add devices, start; then the guest runs on threads of its own, and everything else happens on the
 * control loop: options->loop, which the caller runs. All functions are for that loop's thread. What takes time (a
 * pause waits for processors and for I/O in flight) ends with a call of the caller's, never from inside the function
 * that began it.
 *
 * The guest can end itself (power-off, reset, crash), and nothing else of this process.
 */
#ifndef VMM_VMM_H
#define VMM_VMM_H

#include "platform/linux/log.h"
#include "platform/linux/loop.h"
#include "virtio/virtio_backend.h"

/* GICv2 has no more than 8; the x86 board numbers its local APICs in 8 bits. */
#define VMM_PROCESSORS_MAX 64

/* One line that says what is wrong, and what to do. */
#define VMM_ERROR_BYTES 512

/* How a guest's life ended. */
enum vmm_end {
    VMM_END_POWER_OFF, /* it switched itself off */
    VMM_END_RESET,     /* it reset itself, and options->reset_ends */
    VMM_END_CRASH,     /* it cannot go on: a triple fault, an instruction that KVM cannot do, a crash it reported */
    VMM_END_QUIT,      /* vmm_quit */
    VMM_END_FAILED,    /* the host failed it */
};

struct vmm_options {
    struct loop *loop;     /* borrowed, like everything here, until destroy */
    const struct log *log; /* NULL: nothing is said */
    const char *kvm_path;  /* NULL: /dev/kvm */
    const char *kernel;    /* vmlinux, bzImage; arm64: Image */
    const char *initrd;    /* NULL: none */
    const char *cmdline;   /* NULL: the board's console alone */
    uint64_t memory_bytes;
    uint64_t huge_page_bytes; /* 0: pages as they come */
    uint64_t bounce_bytes;    /* 0: back ends in other processes are given all memory; else a bounce range alone */
    unsigned processors;
    unsigned gic_version; /* arm64: 2 or 3; 0: the best there is */
    unsigned pci_slots;   /* root ports for hot plug */
    bool memory_prealloc;
    bool reset_ends; /* a guest that resets itself ends; else it starts anew */
    bool sandbox;    /* threads of processors may make the system calls they need, and no others */
    /* The serial port's output, on a processor's thread, the machine's lock held. NULL: nobody listens. */
    void (*serial_output)(void *context, const uint8_t *bytes, size_t count);
    /* The serial port has room for input again: vmm_serial_input. NULL. On a processor's thread, the lock held. */
    void (*serial_room)(void *context);
    /* The guest's life has ended; @text says how, for people. On the control loop; not to be destroyed from there. */
    void (*ended)(void *context, enum vmm_end how, const char *text);
    void *context;
};

struct vmm;

enum vmm_state {
    VMM_CREATED,
    VMM_RUNNING,
    VMM_PAUSED,
    VMM_CHANGING, /* pausing, resetting or ending */
    VMM_ENDED,
};

/* Make a machine that does not run yet. NULL with @error filled, and *ret_error as errno has it. */
struct vmm *vmm_create(const struct vmm_options *options, int *ret_error, char *error, size_t error_bytes);
/* After ended, or before start. Devices are closed, the latest first. */
void vmm_destroy(struct vmm *vmm);

/* Load the kernel, assign addresses, and let the guest run. Once. */
int vmm_start(struct vmm *vmm, char *error, size_t error_bytes);
enum vmm_state vmm_state(const struct vmm *vmm);

/*
 * Hold the guest: processors leave it, queues stop once their I/O is done, and @done is called. -EBUSY: something else
 * is going on; -EALREADY: it is paused.
 */
int vmm_pause(struct vmm *vmm, void (*done)(void *context, int result), void *context);
/* -EINVAL: it is not paused. */
int vmm_resume(struct vmm *vmm);
/* End it as if its plug were pulled, once I/O in flight is done; ended follows. Of one that was started. */
void vmm_quit(struct vmm *vmm);
/* Press the power button; a guest that listens switches itself off. -ENOTSUP: this board has none. */
int vmm_power_button(struct vmm *vmm);

/* Give the serial port input; returns how many bytes it had room for. */
size_t vmm_serial_input(struct vmm *vmm, const uint8_t *bytes, size_t count);

/*
 * The machine's lock, for hooks of back ends: whoever calls a back end, or is called by one, holds it
 * (docs/decisions/0014-one-lock-for-the-machine.md). @argument is the machine. From any thread.
 */
void vmm_lock(void *argument);
void vmm_unlock(void *argument);

/* ---- devices ---- */

enum vmm_transport {
    VMM_TRANSPORT_PCI,  /* a function on the root bus */
    VMM_TRANSPORT_SLOT, /* one behind a root port, which can be plugged while the guest runs */
    VMM_TRANSPORT_MMIO, /* registers at a fixed place; before start alone */
};

struct vmm_device;

struct vmm_device_options {
    const char *name; /* unique: for people and for vmm_device_find; copied */
    enum vmm_transport transport;
    struct virtio_backend *backend; /* taken over once it is added: close is called when it goes */
    bool isolated;                  /* it reaches the bounce range alone: its driver is told to use that */
    /* Give the back end back: every queue has stopped and no thread of the machine knows it. Under no lock. */
    void (*close)(void *context);
    void *context;
};

/*
 * Plug a device in. While the guest runs: into a free slot. -EEXIST: that name is taken; -ENOSPC: no place is free;
 * -EINVAL: this transport cannot now. The back end is the caller's still, on failure.
 */
int vmm_device_add(struct vmm *vmm, const struct vmm_device_options *options, struct vmm_device **ret_device,
                   char *error, size_t error_bytes);
struct vmm_device *vmm_device_find(struct vmm *vmm, const char *name);
/*
 * Ask the guest to let a device in a slot go; with @force it is taken out at once. @done is called when it is gone.
 * -EINVAL: it is not in a slot; -EBUSY: this is going on already.
 */
int vmm_device_remove(struct vmm *vmm, struct vmm_device *device, bool force, void (*done)(void *context, int result),
                      void *context);

/* For people: each device in turn, NULL first. */
struct vmm_device *vmm_device_next(struct vmm *vmm, struct vmm_device *device);
const char *vmm_device_name(const struct vmm_device *device);
void *vmm_device_context(const struct vmm_device *device);
/* Where it is: "pci 0000:00:03.0", "mmio 0xf0000000". */
void vmm_device_place(const struct vmm_device *device, char *text, size_t text_bytes);

/* The guest's memory, as queues in this process and back ends elsewhere are to see it. Borrowed. */
const struct guest_memory *vmm_guest_memory(const struct vmm *vmm);

struct vmm_memory_range {
    uint64_t guest_base, size;
    uint64_t offset; /* in the file */
    int handle;      /* borrowed */
    uint8_t *host;   /* the first byte in this process */
};
/*
 * What a back end in another process is to be given: all ranges, or the bounce range alone where there is one. Returns
 * how many, at most VMM_RAM_RANGES_MAX.
 */
unsigned vmm_shared_ranges(const struct vmm *vmm, struct vmm_memory_range *ret_ranges);

/* ---- snapshots ---- */

/*
 * Write the whole machine to @handle, a file. It is paused. Blocks while it writes. The devices are not in it but for
 * what the guest can see of them: who restores adds the same ones first.
 */
int vmm_save(struct vmm *vmm, int handle, char *error, size_t error_bytes);
/*
 * In place of vmm_start: the same options and devices as when it was saved. The machine is paused then; vmm_resume.
 * After a failure only destroy helps.
 */
int vmm_restore(struct vmm *vmm, int handle, char *error, size_t error_bytes);

/* ---- for people ---- */

struct vmm_statistics {
    uint64_t exits_total, mmio_total, pio_total, interrupted_total, nobody_total;
    uint64_t resets_total, pauses_total;
};
void vmm_look(struct vmm *vmm, struct vmm_statistics *ret_statistics);

#endif
