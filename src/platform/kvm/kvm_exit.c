/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "platform/kvm/kvm_exit.h"

#include <inttypes.h>
#include <stdio.h>

#include "platform/kvm/kvm_constants.h"

/* Those of KVM_INTERNAL_ERROR_* (api.rst 5), in their order; 0 is not used. */
static const char *const suberrors[] = {
    "no reason given",
    "an instruction that KVM cannot emulate",
    "an exception while another one was delivered, with both in hardware's hands",
    "an exit of the hardware while an event was delivered",
    "an exit of the hardware that KVM does not expect",
};

static void decode_io(struct kvm_run *run, size_t run_bytes, struct kvm_exit *exit)
{
    uint64_t bytes = (uint64_t)run->io.size * run->io.count;
    if (run->io.size == 0 || !range_within(run->io.data_offset, bytes, run_bytes)) {
        exit->cause = KVM_CAUSE_OTHER;
        exit->other.reason = KVM_EXIT_IO;
        return;
    }
    exit->cause = KVM_CAUSE_PIO;
    exit->access = (struct kvm_access){
        .address = run->io.port,
        .data = (uint8_t *)run + run->io.data_offset,
        .size = run->io.size,
        .count = run->io.count,
        .is_write = run->io.direction == KVM_EXIT_IO_OUT,
    };
}

static enum kvm_system_event_kind system_event_kind(uint32_t type)
{
    switch (type) {
    case KVM_SYSTEM_EVENT_SHUTDOWN:
        return KVM_SYSTEM_SHUTDOWN;
    case KVM_SYSTEM_EVENT_RESET:
        return KVM_SYSTEM_RESET;
    case KVM_SYSTEM_EVENT_CRASH:
        return KVM_SYSTEM_CRASH;
    case KVM_SYSTEM_EVENT_WAKEUP:
        return KVM_SYSTEM_WAKEUP;
    case KVM_SYSTEM_EVENT_SUSPEND:
        return KVM_SYSTEM_SUSPEND;
    default:
        return KVM_SYSTEM_OTHER;
    }
}

static void decode_msr(struct kvm_run *run, struct kvm_exit *exit, bool is_write)
{
    exit->cause = KVM_CAUSE_MSR;
    exit->msr.index = run->msr.index;
    exit->msr.is_write = is_write;
    exit->msr.value = (uint64_t *)&run->msr.data;
    exit->msr.error = &run->msr.error;
}

static void decode_memory_fault(const struct kvm_run *run, struct kvm_exit *exit)
{
    struct kvm_memory_fault_words fault;
    memcpy(&fault, &run->mmio, sizeof(fault));
    exit->cause = KVM_CAUSE_MEMORY_FAULT;
    exit->memory_fault.address = fault.address;
    exit->memory_fault.bytes = fault.bytes;
    exit->memory_fault.flags = fault.flags;
}

/* The causes with something to say. False: it is none of them. */
static bool decode_with_data(struct kvm_run *run, struct kvm_exit *exit)
{
    switch (run->exit_reason) {
    case KVM_EXIT_SYSTEM_EVENT:
        exit->cause = KVM_CAUSE_SYSTEM_EVENT;
        exit->system_event.type = run->system_event.type;
        exit->system_event.kind = system_event_kind(run->system_event.type);
        return true;
    case KVM_EXIT_FAIL_ENTRY:
        exit->cause = KVM_CAUSE_FAIL_ENTRY;
        exit->fail_entry.reason = run->fail_entry.hardware_entry_failure_reason;
        exit->fail_entry.processor = run->fail_entry.cpu;
        return true;
    case KVM_EXIT_INTERNAL_ERROR:
        exit->cause = KVM_CAUSE_INTERNAL_ERROR;
        exit->internal_error.suberror = run->internal.suberror;
        exit->internal_error.data_count = u32_min(run->internal.ndata, ARRAY_SIZE(run->internal.data));
        exit->internal_error.data = (const uint64_t *)run->internal.data;
        return true;
    case KVM_EXIT_DEBUG:
        exit->cause = KVM_CAUSE_DEBUG;
        kvm_exit_decode_debug(run, exit);
        return true;
    case KVM_EXIT_HYPERCALL:
        exit->cause = KVM_CAUSE_HYPERCALL;
        exit->hypercall.number = run->hypercall.nr;
        memcpy(exit->hypercall.arguments, run->hypercall.args, sizeof(exit->hypercall.arguments));
        exit->hypercall.result = (uint64_t *)&run->hypercall.ret;
        return true;
    case KVM_EXIT_X86_RDMSR:
    case KVM_EXIT_X86_WRMSR:
        decode_msr(run, exit, run->exit_reason == KVM_EXIT_X86_WRMSR);
        return true;
    case KVM_EXIT_IOAPIC_EOI:
        exit->cause = KVM_CAUSE_EOI;
        exit->eoi.vector = run->eoi.vector;
        return true;
    case KVM_EXIT_MEMORY_FAULT:
        decode_memory_fault(run, exit);
        return true;
    case KVM_EXIT_ARM_NISV:
        exit->cause = KVM_CAUSE_NO_SYNDROME;
        exit->no_syndrome.address = run->arm_nisv.fault_ipa;
        exit->no_syndrome.syndrome = run->arm_nisv.esr_iss;
        return true;
    default:
        return false;
    }
}

static void decode_rest(struct kvm_run *run, struct kvm_exit *exit)
{
    if (decode_with_data(run, exit))
        return;
    static const struct {
        uint32_t reason;
        enum kvm_cause cause;
    } plain[] = {
        {KVM_EXIT_HLT, KVM_CAUSE_HLT},
        {KVM_EXIT_SHUTDOWN, KVM_CAUSE_SHUTDOWN},
        {KVM_EXIT_INTR, KVM_CAUSE_INTERRUPTED},
        {KVM_EXIT_DIRTY_RING_FULL, KVM_CAUSE_DIRTY_RING_FULL},
        {KVM_EXIT_IRQ_WINDOW_OPEN, KVM_CAUSE_INTERRUPT_WINDOW},
        {KVM_EXIT_NOTIFY, KVM_CAUSE_NOTIFY},
        {KVM_EXIT_X86_BUS_LOCK, KVM_CAUSE_BUS_LOCK},
    };
    for (size_t i = 0; i < ARRAY_SIZE(plain); i++) {
        if (plain[i].reason == run->exit_reason) {
            exit->cause = plain[i].cause;
            return;
        }
    }
    exit->cause = KVM_CAUSE_OTHER;
    exit->other.reason = run->exit_reason;
}

void kvm_exit_decode(struct kvm_run *run, size_t run_bytes, struct kvm_exit *ret_exit)
{
    if (run->exit_reason == KVM_EXIT_MMIO && run->mmio.len - 1 < sizeof(run->mmio.data)) {
        ret_exit->cause = KVM_CAUSE_MMIO;
        ret_exit->access = (struct kvm_access){
            .address = run->mmio.phys_addr,
            .data = run->mmio.data,
            .size = run->mmio.len,
            .count = 1,
            .is_write = run->mmio.is_write != 0,
        };
    } else if (run->exit_reason == KVM_EXIT_IO) {
        decode_io(run, run_bytes, ret_exit);
    } else {
        decode_rest(run, ret_exit);
    }
}

static void text_access(const struct kvm_access *access, const char *kind, char *text, size_t text_bytes)
{
    snprintf(text, text_bytes, "%s of %" PRIu32 " bytes %s %s 0x%" PRIx64, access->is_write ? "a write" : "a read",
             access->size, access->is_write ? "to" : "from", kind, access->address);
}

static const char *text_plain(enum kvm_cause cause)
{
    switch (cause) {
    case KVM_CAUSE_INTERRUPTED:
        return "the processor was asked to come back";
    case KVM_CAUSE_HLT:
        return "the guest waits for an interrupt that nobody can send";
    case KVM_CAUSE_SHUTDOWN:
        return "the guest shut its processor down: a triple fault";
    case KVM_CAUSE_DIRTY_RING_FULL:
        return "the ring of dirty pages is full";
    case KVM_CAUSE_INTERRUPT_WINDOW:
        return "the guest can take an interrupt";
    case KVM_CAUSE_NOTIFY:
        return "the guest found a way to keep its processor from every interrupt";
    case KVM_CAUSE_BUS_LOCK:
        return "the guest locked the bus";
    default:
        return NULL;
    }
}

static void text_system_event(const struct kvm_exit *exit, char *text, size_t text_bytes)
{
    static const char *const kinds[] = {
        [KVM_SYSTEM_SHUTDOWN] = "powered itself off",   [KVM_SYSTEM_RESET] = "resets itself",
        [KVM_SYSTEM_CRASH] = "says that it crashed",    [KVM_SYSTEM_WAKEUP] = "woke up",
        [KVM_SYSTEM_SUSPEND] = "wants to be suspended",
    };
    if (exit->system_event.kind == KVM_SYSTEM_OTHER)
        snprintf(text, text_bytes, "the guest made system event %" PRIu32, exit->system_event.type);
    else
        snprintf(text, text_bytes, "the guest %s", kinds[exit->system_event.kind]);
}

static void text_fail_entry(const struct kvm_exit *exit, char *text, size_t text_bytes)
{
    const char *reason = kvm_exit_entry_reason(exit->fail_entry.reason);
    snprintf(text, text_bytes, "the processor refuses to enter the guest: code 0x%" PRIx64 "%s%s",
             exit->fail_entry.reason, reason ? ", " : "", reason ? reason : "");
}

static void text_internal_error(const struct kvm_exit *exit, char *text, size_t text_bytes)
{
    uint32_t suberror = exit->internal_error.suberror;
    int used = suberror < ARRAY_SIZE(suberrors)
                   ? snprintf(text, text_bytes, "KVM gave up: %s", suberrors[suberror])
                   : snprintf(text, text_bytes, "KVM gave up: suberror %" PRIu32, suberror);
    for (uint32_t i = 0; i < exit->internal_error.data_count && i < 4; i++) {
        if (used >= 0 && (size_t)used < text_bytes)
            used += snprintf(text + used, text_bytes - (size_t)used, "%s0x%" PRIx64, i == 0 ? " (" : " ",
                             exit->internal_error.data[i]);
    }
    if (exit->internal_error.data_count > 0 && used >= 0 && (size_t)used < text_bytes)
        snprintf(text + used, text_bytes - (size_t)used, ")");
}

void kvm_exit_text(const struct kvm_exit *exit, char *text, size_t text_bytes)
{
    const char *plain = text_plain(exit->cause);
    if (plain) {
        snprintf(text, text_bytes, "%s", plain);
        return;
    }
    switch (exit->cause) {
    case KVM_CAUSE_MMIO:
        text_access(&exit->access, "address", text, text_bytes);
        break;
    case KVM_CAUSE_PIO:
        text_access(&exit->access, "port", text, text_bytes);
        break;
    case KVM_CAUSE_SYSTEM_EVENT:
        text_system_event(exit, text, text_bytes);
        break;
    case KVM_CAUSE_FAIL_ENTRY:
        text_fail_entry(exit, text, text_bytes);
        break;
    case KVM_CAUSE_INTERNAL_ERROR:
        text_internal_error(exit, text, text_bytes);
        break;
    case KVM_CAUSE_DEBUG:
        snprintf(text, text_bytes, "a breakpoint or step, at 0x%" PRIx64, exit->debug.pc);
        break;
    case KVM_CAUSE_HYPERCALL:
        snprintf(text, text_bytes, "hypercall %" PRIu64, exit->hypercall.number);
        break;
    case KVM_CAUSE_MSR:
        snprintf(text, text_bytes, "a %s of model-specific register 0x%" PRIx32, exit->msr.is_write ? "write" : "read",
                 exit->msr.index);
        break;
    case KVM_CAUSE_EOI:
        snprintf(text, text_bytes, "the guest ended interrupt vector %u", exit->eoi.vector);
        break;
    case KVM_CAUSE_MEMORY_FAULT:
        snprintf(text, text_bytes, "no memory could be had for the guest at address 0x%" PRIx64,
                 exit->memory_fault.address);
        break;
    case KVM_CAUSE_NO_SYNDROME:
        snprintf(text, text_bytes,
                 "the guest accesses address 0x%" PRIx64 ", where no memory is, by an instruction that is not decoded",
                 exit->no_syndrome.address);
        break;
    default:
        snprintf(text, text_bytes, "KVM's exit reason %" PRIu32 ", which nobody asked for", exit->other.reason);
        break;
    }
}
