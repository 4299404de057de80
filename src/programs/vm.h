/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* `backplane vm`: what its files share. docs/man/backplane-vm.1 is the reference. */
#ifndef PROGRAMS_VM_H
#define PROGRAMS_VM_H

#include <jansson.h>

#include "platform/linux/control_socket.h"
#include "platform/linux/terminal.h"
#include "programs/daemon.h"
#include "vmm/vmm.h"

/* Exit statuses beyond those of every command: how the guest ended. */
#define EXIT_GUEST_RESET 3   /* it reset itself, and --on-reset=exit */
#define EXIT_GUEST_CRASHED 4 /* it cannot go on */

#define VM_DEVICES_MAX 32 /* of each kind on the command line */

enum vm_console { VM_CONSOLE_SERIAL, VM_CONSOLE_VIRTIO, VM_CONSOLE_OFF };

struct vm_options {
    const char *kernel, *initrd, *cmdline, *restore, *control_path, *hugepages;
    uint64_t memory_bytes, processors, slots, log_level;
    uint64_t console;       /* enum vm_console */
    uint64_t transport;     /* which of vm_transports */
    uint64_t on_reset;      /* which of vm_on_resets */
    uint64_t polling;       /* enum server_polling */
    uint64_t gic;           /* which of vm_gics */
    uint64_t vsock_cid;     /* 0: none */
    uint64_t isolate_bytes; /* 0: back ends are given all memory */
    uint64_t sandbox;       /* which of vm_ons */
    struct option_list disks, read_only_disks, vhost_users, taps;
    bool rng, paused, prealloc, help;
};

struct vm {
    const struct vm_options *options;
    struct log log;
    struct loop loop;
    struct loop_watch signal_watch;
    struct control_socket control;
    bool controlled;
    struct terminal terminal;
    bool has_terminal;
    struct loop_watch input_watch; /* of the terminal, for the serial port */
    bool serial_full;              /* it took less than it was given: serial_room tells */
    struct loop_message serial_room;
    uint8_t input[256]; /* typed, and not taken yet */
    size_t input_count;
    struct vm_device *console; /* the virtio console; NULL: none */
    struct vmm *machine;
    bool started, ended;
    enum vmm_end end;
    struct control_later waiting; /* for a pause, a snapshot, a device that leaves */
};

/* ---- vm_device.c: devices, from the command line and from the control socket. 0 or negative, @error filled. ---- */

int vm_add_disk(struct vm *vm, const char *name, const char *path, bool read_only, enum vmm_transport transport,
                char *error, size_t error_bytes);
int vm_add_rng(struct vm *vm, const char *name, enum vmm_transport transport, char *error, size_t error_bytes);
/* @type: "blk", "rng", "fs", …; @path: where its back end listens. */
int vm_add_vhost_user(struct vm *vm, const char *name, const char *type, const char *path, enum vmm_transport transport,
                      char *error, size_t error_bytes);
/* Served by the kernel: a socket device for the guest numbered @cid; a network card on the tap called @tap. */
int vm_add_vsock(struct vm *vm, const char *name, uint64_t cid, enum vmm_transport transport, char *error,
                 size_t error_bytes);
int vm_add_tap(struct vm *vm, const char *name, const char *tap, enum vmm_transport transport, char *error,
               size_t error_bytes);
int vm_add_console(struct vm *vm, enum vmm_transport transport, char *error, size_t error_bytes);
void vm_console_resized(struct vm *vm, uint16_t cols, uint16_t rows);
/* Take over the size of a disk's file: as disk_device_resize. */
int vm_resize_disk(struct vm *vm, const char *name, bool may_shrink, uint64_t *ret_bytes, char *error,
                   size_t error_bytes);
/* "blk", … */
const char *vm_device_type(const struct vmm_device *device);

/* ---- vm_control.c: commands of the control socket ---- */

/* As control_socket_open's answer; @context is the vm. */
char *vm_answer(void *context, struct control_later *later, const char *line, size_t length);

/* ---- command_vm.c ---- */

/* Hold the guest, or let it go on; what a person asks for by key. */
void vm_toggle_pause(struct vm *vm);

#endif
