/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What differs between a PC and an arm64 machine: where things are, interrupt controllers, chips, firmware tables, how
 * a kernel is entered. One implementation is compiled: vmm_board_x86.c or vmm_board_arm64.c.
 *
 * All under the machine's lock or before other threads exist, on the control thread.
 */
#ifndef VMM_VMM_BOARD_H
#define VMM_VMM_BOARD_H

#include "base/state.h"
#include "machine/machine_plan.h"
#include "vmm/vmm_memory.h"
#include "vmm/vmm_vcpu.h"

struct vmm;
struct vmm_board;

#if defined(__x86_64__)
/* A GSI is the number of the interrupt. */
#define VMM_BOARD_WIRE_BASE 0u
#else
/* GSI n is shared peripheral interrupt n, whose number (INTID) is n + 32. */
#define VMM_BOARD_WIRE_BASE 32u
#endif

/* Places, given by the board. */
struct vmm_board_places {
    struct vmm_ram_layout ram;
    uint64_t mmio_low_base, mmio_low_bytes;   /* for BARs */
    uint64_t mmio_high_base, mmio_high_bytes; /* the same above 4 GiB; no bytes: none */
    uint64_t pio_base, pio_bytes;
    uint64_t ecam_base;
    unsigned buses;
    uint64_t virtio_mmio_base, virtio_mmio_stride; /* places of devices without PCI */
    unsigned virtio_mmio_max;
    unsigned wires;        /* GSIs that are wires */
    uint32_t pci_wires[4]; /* INTA# to INTD# */
    bool has_ports;        /* port I/O, and configuration mechanism #1 */
};

/* @address_bits of the guest's physical addresses, as the host allows. */
void vmm_board_places(unsigned address_bits, struct vmm_board_places *ret_places);
/* How many bits this host's guests may have. */
int vmm_board_address_bits(const struct kvm_host *host, unsigned *ret_bits);
/* For kvm_vm_open. */
unsigned vmm_board_vm_bits(unsigned address_bits);

/* For kvm_irq_line: the number of wire @gsi. */
uint32_t vmm_board_line_number(uint32_t gsi);
/* The GSI for the virtio-mmio device at place @index. */
uint32_t vmm_board_mmio_wire(unsigned index);

/* The VM was just opened: what must be there before virtual processors. */
int vmm_board_open(struct vmm *vmm, char *error, size_t error_bytes);
/* A virtual processor was opened. */
int vmm_board_open_processor(struct vmm *vmm, struct kvm_vcpu *vcpu);
/* All were: the rest of the interrupt controllers, and the chips on their buses. */
int vmm_board_finish(struct vmm *vmm, char *error, size_t error_bytes);
void vmm_board_close(struct vmm *vmm);

/* Before the guest runs for the first time: keep what vmm_board_reset is to bring back. */
int vmm_board_power_on(struct vmm *vmm);
/* Put kernel, initrd and tables into memory, and each processor to its beginning. Also after vmm_board_reset. */
int vmm_board_load(struct vmm *vmm, char *error, size_t error_bytes);
/* Chips and interrupt controllers as after power-on. Every processor is out of the guest. */
int vmm_board_reset(struct vmm *vmm);

size_t vmm_board_serial_input(struct vmm *vmm, const uint8_t *bytes, size_t count);
int vmm_board_power_button(struct vmm *vmm);

/* The guest stood still for a while, and goes on. */
void vmm_board_resumes(struct vmm *vmm);

/* Room that the two below need. */
size_t vmm_board_state_bytes(const struct vmm *vmm);
/* Chips, interrupt controllers, and all processors. */
int vmm_board_save(struct vmm *vmm, struct state_writer *writer);
int vmm_board_restore(struct vmm *vmm, struct state_reader *reader);

#endif
