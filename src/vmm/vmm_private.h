/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The inside of a machine, for the files of this folder. */
#ifndef VMM_VMM_PRIVATE_H
#define VMM_VMM_PRIVATE_H

#include <stdatomic.h>

#include "machine/pci_assign.h"
#include "machine/pci_port.h"
#include "vmm/vmm.h"
#include "vmm/vmm_board.h"
#include "vmm/vmm_bus_port.h"
#include "vmm/vmm_irq.h"

/* Ranges a machine gives out: BARs of 255 devices and what the board has. */
#define VMM_RANGES_MAX 1024

/* The root, its ports, and what is not a device of ours. */
#define VMM_PCI_STATE_BYTES (256u << 10)

/* What a virtual processor's thread tells the control loop. */
#define VMM_EVENT_PARKED 1u /* the last one has parked */
#define VMM_EVENT_POWER_OFF 2u
#define VMM_EVENT_RESET 4u
#define VMM_EVENT_CRASH 8u    /* vmm->end_text says more */
#define VMM_EVENT_FAILED 16u  /* likewise */
#define VMM_EVENT_SETTLED 32u /* a device has finished something */
#define VMM_EVENT_EJECTED 64u /* the guest lets a device in a slot go */

/* What the machine is on its way to; a later one of this list overrides an earlier one. */
enum vmm_goal {
    VMM_GOAL_NONE,
    VMM_GOAL_PAUSE,
    VMM_GOAL_RESET,
    VMM_GOAL_END,
};

/* Where on that way it is. */
enum vmm_step {
    VMM_STEP_NONE,
    VMM_STEP_PARKING,  /* processors leave the guest */
    VMM_STEP_SETTLING, /* devices stop or are reset */
};

struct vmm {
    struct vmm_options options;
    struct vmm_board_places places;
    /* The machine's lock: buses and all that hangs on them, the fields from here to the empty line, devices. */
    pthread_mutex_t lock;
    pthread_cond_t settled;  /* an access that answered BUS_LATER may be done */
    pthread_cond_t unparked; /* park_wanted has become false, or stopping true */
    unsigned parked_count;
    bool stopping; /* processors' threads are to end */
    unsigned events;
    char end_text[VMM_ERROR_BYTES];

    atomic_bool park_wanted;
    struct kvm_host host;
    struct kvm_vm vm;
    struct vmm_memory memory;
    struct bus *mmio, *pio;
    struct vmm_bus_port bus_port;
    struct resources resources;
    struct resource_range *ranges[RESOURCE_KINDS];
    struct vmm_irqs irqs;
    struct vmm_line pci_lines[PCI_WIRES];
    struct pci_root *pci;
    struct pci_assign_options assign;
    struct vmm_slot *slots; /* [options.pci_slots] */
    struct pci_port_listener slot_listener;
    struct vmm_board *board;
    struct vmm_vcpu *vcpus;     /* [options.processors] */
    unsigned mmio_count;        /* virtio-mmio places taken */
    struct vmm_device *devices; /* the latest first */
    struct vmm_device *gone;    /* to be buried */

    /* the control loop's own */
    enum vmm_state state;
    enum vmm_goal goal;
    enum vmm_step step;
    enum vmm_end end;
    struct loop_message attend;
    void (*pause_done)(void *context, int result);
    void *pause_context;
    bool restored; /* the processors have their state already */
    uint64_t resets_total, pauses_total;
};

/* A root port, and who is in it. */
struct vmm_slot {
    struct pci_port port;
    struct vmm_device *device;
};

/* Tell the control loop. The lock is held; any thread. @text for VMM_EVENT_CRASH and FAILED, else NULL. */
void vmm_tell(struct vmm *vmm, unsigned events, const char *text);

/* ---- devices (vmm_device.c); the lock is held, on the control loop's thread ---- */

/* Every device begins to pause, or to be reset. Then vmm_devices_settled. */
void vmm_devices_pause(struct vmm *vmm);
void vmm_devices_reset(struct vmm *vmm);
bool vmm_devices_settled(const struct vmm *vmm);
void vmm_devices_resume(struct vmm *vmm);
/* Those that were to go, and that the guest has let go, are taken out; those that have settled then are set aside. */
void vmm_devices_attend(struct vmm *vmm);
/* What was set aside is closed, and whoever waits for that is told. The lock is not held. */
void vmm_devices_bury(struct vmm *vmm);
/* All go; no other thread is there. The lock is not held. */
void vmm_devices_close(struct vmm *vmm);
/* Fill @plan's list of devices that no bus finds. */
void vmm_devices_plan(const struct vmm *vmm, struct machine_plan *plan);
size_t vmm_devices_state_bytes(const struct vmm *vmm);
int vmm_devices_save(struct vmm *vmm, struct state_writer *writer);
int vmm_devices_load(struct vmm *vmm, struct state_reader *reader);

#endif
