/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Why a virtual processor came back, taken apart (api.rst 5, "The kvm_run structure").
 *
 * An exit points into the processor's shared state: it is valid until the processor runs again, on its own thread. What
 * it says of the guest is the guest's choice, and hostile: addresses, ports, sizes within the given bounds, values.
 */
#ifndef PLATFORM_KVM_KVM_EXIT_H
#define PLATFORM_KVM_KVM_EXIT_H

#include "base/base.h"

struct kvm_run;

enum kvm_cause {
    /*
     * It was asked to come back: kvm_vcpu_interrupt, a kick, or a signal. Nothing is to be answered. Also when the
     * processor is not started yet and something happened to it; run it again.
     */
    KVM_CAUSE_INTERRUPTED,
    KVM_CAUSE_MMIO,             /* access */
    KVM_CAUSE_PIO,              /* access; x86-64 */
    KVM_CAUSE_HLT,              /* x86-64 with no interrupt controller in KVM: it waits for an interrupt */
    KVM_CAUSE_SHUTDOWN,         /* x86-64: a triple fault; a PC would reset */
    KVM_CAUSE_SYSTEM_EVENT,     /* system_event */
    KVM_CAUSE_FAIL_ENTRY,       /* fail_entry: the processor refuses the guest's state */
    KVM_CAUSE_INTERNAL_ERROR,   /* internal_error: KVM gave up */
    KVM_CAUSE_DEBUG,            /* debug: a breakpoint or a step, as asked by kvm_vcpu_debug */
    KVM_CAUSE_DIRTY_RING_FULL,  /* harvest and reset before it runs again (kvm_dirty.h) */
    KVM_CAUSE_HYPERCALL,        /* hypercall: one that was asked to come here */
    KVM_CAUSE_MSR,              /* msr; x86-64, where KVM_CAP_X86_USER_SPACE_MSR is enabled */
    KVM_CAUSE_EOI,              /* eoi: x86-64 with a split interrupt controller: the guest is done with a vector */
    KVM_CAUSE_INTERRUPT_WINDOW, /* x86-64: an interrupt can be injected now, as asked */
    KVM_CAUSE_NOTIFY,           /* x86-64: no instruction boundary for longer than allowed */
    KVM_CAUSE_BUS_LOCK,         /* x86-64: the guest locked the bus */
    KVM_CAUSE_MEMORY_FAULT,     /* memory_fault: no memory could be had where the guest may expect it */
    KVM_CAUSE_NO_SYNDROME,      /* no_syndrome; arm64: an access to no memory by an instruction that is not decoded */
    KVM_CAUSE_OTHER,            /* other: a reason that is not of this list */
};

/*
 * MMIO and PIO alike. Values are @count (1 for MMIO) of @size bytes each in the guest's order, little-endian. A port's
 * size is 1, 2 or 4. An MMIO access has 1 to 8 bytes, and any of these: KVM cuts what crosses a page in two pieces.
 */
struct kvm_access {
    uint64_t address; /* or port */
    uint8_t *data;    /* size * count bytes in the shared state */
    uint32_t size;
    uint32_t count; /* more than 1: a string instruction with a repeat prefix; all go to the same port */
    bool is_write;
};

enum kvm_system_event_kind {
    KVM_SYSTEM_SHUTDOWN,
    KVM_SYSTEM_RESET,
    KVM_SYSTEM_CRASH,
    KVM_SYSTEM_WAKEUP,
    KVM_SYSTEM_SUSPEND,
    KVM_SYSTEM_OTHER,
};

struct kvm_exit {
    enum kvm_cause cause;
    union {
        struct kvm_access access;
        struct {
            enum kvm_system_event_kind kind;
            uint32_t type; /* the kernel's number */
        } system_event;
        struct {
            uint64_t reason; /* the hardware's code */
            uint32_t processor;
        } fail_entry;
        struct {
            uint32_t suberror;
            uint32_t data_count;
            const uint64_t *data;
        } internal_error;
        struct {
            uint64_t pc;        /* arm64: the address that was accessed, where that is known */
            uint64_t syndrome;  /* x86-64: DR6; arm64: ESR_EL2 */
            uint32_t exception; /* x86-64: the vector, 1 or 3 */
        } debug;
        struct {
            uint64_t number;
            uint64_t arguments[6];
            uint64_t *result; /* to be written */
        } hypercall;
        struct {
            uint32_t index;
            bool is_write;
            uint64_t *value; /* to be written for a read */
            uint8_t *error;  /* to be set to 1 for a general-protection fault */
        } msr;
        struct {
            uint8_t vector;
        } eoi;
        struct {
            uint64_t address, bytes, flags;
        } memory_fault;
        struct {
            uint64_t address, syndrome;
        } no_syndrome;
        struct {
            uint32_t reason; /* KVM_EXIT_ */
        } other;
    };
};

/*
 * Take apart what @run says. @run_bytes: of the mapping; an access whose data would lie outside is KVM_CAUSE_OTHER.
 * Cheap: MMIO and PIO are decided first.
 */
void kvm_exit_decode(struct kvm_run *run, size_t run_bytes, struct kvm_exit *ret_exit);

/* For kvm_exit_decode: the causes that differ by architecture. */
void kvm_exit_decode_debug(const struct kvm_run *run, struct kvm_exit *ret_exit);
/* A hardware's code for people, or NULL where there is nothing to say. */
const char *kvm_exit_entry_reason(uint64_t reason);

/* Value @index of an access, below its count; 0 above its size. */
static inline uint64_t kvm_access_value(const struct kvm_access *access, uint32_t index)
{
    const uint8_t *at = access->data + (size_t)index * access->size;
    switch (access->size) {
    case 1:
        return *at;
    case 2:
        return get_le16(at);
    case 4:
        return get_le32(at);
    case 8:
        return get_le64(at);
    default: { /* what was cut in pieces at the end of a page */
        uint64_t value = 0;
        for (uint32_t i = 0; i < access->size && i < 8; i++)
            value |= (uint64_t)at[i] << (8 * i);
        return value;
    }
    }
}

/* Answer a read: the guest gets it when the processor runs again. Bits of @value above the size are cut off. */
static inline void kvm_access_answer(const struct kvm_access *access, uint32_t index, uint64_t value)
{
    uint8_t *at = access->data + (size_t)index * access->size;
    switch (access->size) {
    case 1:
        *at = (uint8_t)value;
        break;
    case 2:
        put_le16(at, (uint16_t)value);
        break;
    case 4:
        put_le32(at, (uint32_t)value);
        break;
    case 8:
        put_le64(at, value);
        break;
    default:
        for (uint32_t i = 0; i < access->size && i < 8; i++)
            at[i] = (uint8_t)(value >> (8 * i));
        break;
    }
}

/* One line for people is no longer than this. */
#define KVM_EXIT_TEXT_BYTES 200
/* What happened, as a person wants to read it: "the processor refuses to enter the guest: …". For every cause. */
void kvm_exit_text(const struct kvm_exit *exit, char *text, size_t text_bytes);

#endif
