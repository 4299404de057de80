/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "platform/kvm/kvm_x86.h"

#include <errno.h>
#include <stdalign.h>

#include "platform/kvm/kvm_constants.h"
#include "platform/kvm/kvm_irq.h"

static const struct kvm_capability capabilities[] = {
    {"USER_MEMORY", KVM_CAP_USER_MEMORY, KVM_NEEDED, "memory of ours as the guest's"},
    {"IRQCHIP", KVM_CAP_IRQCHIP, KVM_NEEDED, "interrupt controllers in the kernel"},
    {"IRQFD", KVM_CAP_IRQFD, KVM_NEEDED, "interrupts by eventfd"},
    {"IOEVENTFD", KVM_CAP_IOEVENTFD, KVM_NEEDED, "doorbells without an exit"},
    {"IRQ_ROUTING", KVM_CAP_IRQ_ROUTING, KVM_NEEDED, "message-signalled interrupts by eventfd"},
    {"SIGNAL_MSI", KVM_CAP_SIGNAL_MSI, KVM_NEEDED, "message-signalled interrupts"},
    {"IMMEDIATE_EXIT", KVM_CAP_IMMEDIATE_EXIT, KVM_NEEDED, "stopping a processor without a race"},
    {"MP_STATE", KVM_CAP_MP_STATE, KVM_NEEDED, "more than one processor"},
    {"EXT_CPUID", KVM_CAP_EXT_CPUID, KVM_NEEDED, "telling the guest what processor it has"},
    {"SET_TSS_ADDR", KVM_CAP_SET_TSS_ADDR, KVM_NEEDED, "real mode on Intel's processors"},
    {"VCPU_EVENTS", KVM_CAP_VCPU_EVENTS, KVM_NEEDED, "saving a processor"},
    {"DEBUGREGS", KVM_CAP_DEBUGREGS, KVM_NEEDED, "saving a processor"},
    {"XSAVE", KVM_CAP_XSAVE, KVM_NEEDED, "saving a processor"},
    {"XCRS", KVM_CAP_XCRS, KVM_NEEDED, "saving a processor"},
    {"ADJUST_CLOCK", KVM_CAP_ADJUST_CLOCK, KVM_NEEDED, "saving the guest's clock"},
    {"PIT2", KVM_CAP_PIT2, KVM_USED, "the timer 8254 in the kernel"},
    {"PIT_STATE2", KVM_CAP_PIT_STATE2, KVM_USED, "saving the timer 8254"},
    {"SPLIT_IRQCHIP", KVM_CAP_SPLIT_IRQCHIP, KVM_USED, "an I/O APIC outside the kernel"},
    {"TSC_DEADLINE_TIMER", KVM_CAP_TSC_DEADLINE_TIMER, KVM_USED, "a timer that costs the guest one write"},
    {"TSC_CONTROL", KVM_CAP_TSC_CONTROL, KVM_USED, "restoring on a processor of another speed"},
    {"GET_TSC_KHZ", KVM_CAP_GET_TSC_KHZ, KVM_USED, "noticing a processor of another speed"},
    {"SREGS2", KVM_CAP_SREGS2, KVM_USED, "saving a processor in 32-bit PAE mode"},
    {"XSAVE2", KVM_CAP_XSAVE2, KVM_USED, "saving wide vector and matrix registers"},
    {"KVMCLOCK_CTRL", KVM_CAP_KVMCLOCK_CTRL, KVM_USED, "no alarm of the guest's watchdogs after a pause"},
    {"READONLY_MEM", KVM_CAP_READONLY_MEM, KVM_USED, "ROM"},
    {"IOEVENTFD_ANY_LENGTH", KVM_CAP_IOEVENTFD_ANY_LENGTH, KVM_USED, "faster doorbells"},
    {"IRQFD_RESAMPLE", KVM_CAP_IRQFD_RESAMPLE, KVM_USED, "level-triggered interrupts by eventfd"},
    {"COALESCED_MMIO", KVM_CAP_COALESCED_MMIO, KVM_USED, "collecting writes"},
    {"COALESCED_PIO", KVM_CAP_COALESCED_PIO, KVM_USED, "collecting writes to ports"},
    {"MANUAL_DIRTY_LOG_PROTECT2", KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_USED, "a dirty log in small steps"},
    {"DIRTY_LOG_RING", KVM_CAP_DIRTY_LOG_RING, KVM_USED, "dirty pages as a ring"},
    {"SET_GUEST_DEBUG", KVM_CAP_SET_GUEST_DEBUG, KVM_USED, "single steps"},
    {"X86_USER_SPACE_MSR", KVM_CAP_X86_USER_SPACE_MSR, KVM_USED, "model-specific registers of our own"},
};

const struct kvm_capability *kvm_capabilities(size_t *ret_count)
{
    *ret_count = ARRAY_SIZE(capabilities);
    return capabilities;
}

/* ---- exits */

void kvm_exit_decode_debug(const struct kvm_run *run, struct kvm_exit *ret_exit)
{
    ret_exit->debug.pc = run->debug.arch.pc;
    ret_exit->debug.exception = run->debug.arch.exception;
    ret_exit->debug.syndrome = run->debug.arch.dr6;
}

const char *kvm_exit_entry_reason(uint64_t reason)
{
    switch (reason) {
    case 0x80000021: /* Intel SDM 3, 27.8 */
        return "the guest's registers make no valid state";
    case 0x80000022:
        return "a model-specific register cannot be loaded";
    case 0x80000029:
        return "a machine check";
    case UINT64_MAX: /* AMD APM 2, 15.5.1: VMEXIT_INVALID */
    case UINT32_MAX:
        return "the guest's registers make no valid state (VMEXIT_INVALID)";
    default:
        return NULL;
    }
}

/* ---- the VM */

static int vm_ioctl(const struct kvm_vm *vm, unsigned long request, void *argument)
{
    return kvm_ioctl(vm->host->system, vm->handle, request, argument);
}

int kvm_x86_reserve_pages(const struct kvm_vm *vm, uint64_t identity_map_address, uint64_t task_state_address)
{
    int r = vm_ioctl(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map_address);
    return r < 0 ? r : kvm_ioctl_number(vm->host->system, vm->handle, KVM_SET_TSS_ADDR, task_state_address);
}

int kvm_x86_irqchip_open(const struct kvm_vm *vm)
{
    return kvm_ioctl_number(vm->host->system, vm->handle, KVM_CREATE_IRQCHIP, 0);
}

int kvm_x86_irqchip_open_split(const struct kvm_vm *vm, unsigned pins)
{
    const uint64_t arguments[4] = {pins};
    return kvm_vm_enable(vm, KVM_CAP_SPLIT_IRQCHIP, arguments);
}

int kvm_x86_pit_open(const struct kvm_vm *vm, bool speaker)
{
    struct kvm_pit_config config = {.flags = speaker ? KVM_PIT_SPEAKER_DUMMY : 0};
    return kvm_vm_check(vm, KVM_CAP_PIT2) == 0 ? -ENOTSUP : vm_ioctl(vm, KVM_CREATE_PIT2, &config);
}

int kvm_routes_add_default(struct kvm_routes *routes, unsigned pins)
{
    enum { PIC_PINS = 8, LEGACY_PINS = 16, IOAPIC_PINS = 24, CASCADE = 2 };
    (void)pins; /* a PC has these, whatever else it has */
    int r = 0;
    for (uint32_t gsi = 0; gsi < IOAPIC_PINS && r == 0; gsi++) {
        if (gsi < LEGACY_PINS && gsi != CASCADE)
            r = kvm_routes_add_pin(routes, gsi, gsi < PIC_PINS ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE,
                                   gsi % PIC_PINS);
        if (r == 0)
            r = kvm_routes_add_pin(routes, gsi, KVM_IRQCHIP_IOAPIC, gsi);
    }
    return r;
}

int kvm_x86_clock_get(const struct kvm_vm *vm, struct kvm_clock_data *ret_clock)
{
    return vm_ioctl(vm, KVM_GET_CLOCK, ret_clock);
}

int kvm_x86_clock_set(const struct kvm_vm *vm, const struct kvm_clock_data *clock)
{
    /*
     * Not its real time: KVM would add how long it stood still, and the counters of the processors do not know of that.
     * What else KVM_GET_CLOCK filled in is refused here.
     */
    struct kvm_clock_data set = {.clock = clock->clock};
    return vm_ioctl(vm, KVM_SET_CLOCK, &set);
}

/* ---- registers */

static int vcpu_get(const struct kvm_vcpu *vcpu, unsigned long request, void *ret)
{
    return kvm_ioctl(vcpu->vm->host->system, vcpu->handle, request, ret);
}

static int vcpu_set(const struct kvm_vcpu *vcpu, unsigned long request, const void *value)
{
    return kvm_ioctl_read_only(vcpu->vm->host->system, vcpu->handle, request, value);
}

int kvm_x86_regs_get(const struct kvm_vcpu *vcpu, struct kvm_regs *ret_regs)
{
    return vcpu_get(vcpu, KVM_GET_REGS, ret_regs);
}

int kvm_x86_regs_set(struct kvm_vcpu *vcpu, const struct kvm_regs *regs)
{
    return vcpu_set(vcpu, KVM_SET_REGS, regs);
}

int kvm_x86_sregs_get(const struct kvm_vcpu *vcpu, struct kvm_sregs *ret_sregs)
{
    return vcpu_get(vcpu, KVM_GET_SREGS, ret_sregs);
}

int kvm_x86_sregs_set(struct kvm_vcpu *vcpu, const struct kvm_sregs *sregs)
{
    return vcpu_set(vcpu, KVM_SET_SREGS, sregs);
}

int kvm_x86_sregs2_get(const struct kvm_vcpu *vcpu, struct kvm_sregs2 *ret_sregs)
{
    return kvm_vm_check(vcpu->vm, KVM_CAP_SREGS2) == 0 ? -ENOTSUP : vcpu_get(vcpu, KVM_GET_SREGS2, ret_sregs);
}

int kvm_x86_sregs2_set(struct kvm_vcpu *vcpu, const struct kvm_sregs2 *sregs)
{
    return kvm_vm_check(vcpu->vm, KVM_CAP_SREGS2) == 0 ? -ENOTSUP : vcpu_set(vcpu, KVM_SET_SREGS2, sregs);
}

int kvm_x86_fpu_get(const struct kvm_vcpu *vcpu, struct kvm_fpu *ret_fpu)
{
    return vcpu_get(vcpu, KVM_GET_FPU, ret_fpu);
}

int kvm_x86_fpu_set(struct kvm_vcpu *vcpu, const struct kvm_fpu *fpu)
{
    return vcpu_set(vcpu, KVM_SET_FPU, fpu);
}

int kvm_x86_xsave_bytes(const struct kvm_vm *vm)
{
    int bytes = kvm_vm_check(vm, KVM_CAP_XSAVE2);
    if (bytes < (int)sizeof(struct kvm_xsave))
        return (int)sizeof(struct kvm_xsave);
    return bytes > KVM_X86_XSAVE_BYTES_MAX ? -E2BIG : bytes;
}

int kvm_x86_xsave_get(const struct kvm_vcpu *vcpu, void *area)
{
    int bytes = kvm_x86_xsave_bytes(vcpu->vm);
    if (bytes < 0)
        return bytes;
    bool wide = kvm_vm_check(vcpu->vm, KVM_CAP_XSAVE2) != 0;
    int r = vcpu_get(vcpu, wide ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, area);
    return r < 0 ? r : bytes;
}

int kvm_x86_xsave_set(struct kvm_vcpu *vcpu, const void *area, size_t bytes)
{
    /* KVM reads as many as it has itself; fewer than that would be read past their end. */
    int wanted = kvm_x86_xsave_bytes(vcpu->vm);
    if (wanted < 0)
        return wanted;
    return bytes < (size_t)wanted ? -EINVAL : vcpu_set(vcpu, KVM_SET_XSAVE, area);
}

int kvm_x86_xcrs_get(const struct kvm_vcpu *vcpu, struct kvm_xcrs *ret_xcrs)
{
    return vcpu_get(vcpu, KVM_GET_XCRS, ret_xcrs);
}

int kvm_x86_xcrs_set(struct kvm_vcpu *vcpu, const struct kvm_xcrs *xcrs)
{
    return vcpu_set(vcpu, KVM_SET_XCRS, xcrs);
}

int kvm_x86_debugregs_get(const struct kvm_vcpu *vcpu, struct kvm_debugregs *ret_debugregs)
{
    return vcpu_get(vcpu, KVM_GET_DEBUGREGS, ret_debugregs);
}

int kvm_x86_debugregs_set(struct kvm_vcpu *vcpu, const struct kvm_debugregs *debugregs)
{
    return vcpu_set(vcpu, KVM_SET_DEBUGREGS, debugregs);
}

int kvm_x86_lapic_get(const struct kvm_vcpu *vcpu, struct kvm_lapic_state *ret_lapic)
{
    return vcpu_get(vcpu, KVM_GET_LAPIC, ret_lapic);
}

int kvm_x86_lapic_set(struct kvm_vcpu *vcpu, const struct kvm_lapic_state *lapic)
{
    return vcpu_set(vcpu, KVM_SET_LAPIC, lapic);
}

int kvm_x86_events_get(const struct kvm_vcpu *vcpu, struct kvm_vcpu_events *ret_events)
{
    return vcpu_get(vcpu, KVM_GET_VCPU_EVENTS, ret_events);
}

int kvm_x86_events_set(struct kvm_vcpu *vcpu, const struct kvm_vcpu_events *events)
{
    return vcpu_set(vcpu, KVM_SET_VCPU_EVENTS, events);
}

int kvm_x86_tsc_khz_get(const struct kvm_vcpu *vcpu)
{
    if (kvm_vm_check(vcpu->vm, KVM_CAP_GET_TSC_KHZ) == 0)
        return -ENOTSUP;
    return vcpu_get(vcpu, KVM_GET_TSC_KHZ, NULL);
}

int kvm_x86_tsc_khz_set(struct kvm_vcpu *vcpu, uint32_t khz)
{
    /* Without scaling KVM takes a frequency that is near the processor's own; leave that to it, and its -EINVAL. */
    int r = kvm_ioctl_number(vcpu->vm->host->system, vcpu->handle, KVM_SET_TSC_KHZ, khz);
    return r == -EINVAL && kvm_vm_check(vcpu->vm, KVM_CAP_TSC_CONTROL) == 0 ? -ENOTSUP : r;
}

int kvm_x86_clock_was_paused(struct kvm_vcpu *vcpu)
{
    if (kvm_vm_check(vcpu->vm, KVM_CAP_KVMCLOCK_CTRL) == 0)
        return -ENOTSUP;
    int r = vcpu_set(vcpu, KVM_KVMCLOCK_CTRL, NULL);
    return r == -EINVAL ? 0 : r; /* the guest does not use that clock */
}

int kvm_x86_nmi(struct kvm_vcpu *vcpu)
{
    return vcpu_set(vcpu, KVM_NMI, NULL);
}

int kvm_x86_msr_list(const struct kvm_host *host, struct kvm_x86_msr_list *ret_list)
{
    ret_list->count = KVM_X86_MSRS_MAX;
    int r = kvm_ioctl(host->system, host->handle, KVM_GET_MSR_INDEX_LIST, ret_list);
    return r < 0 ? r : 0;
}

/* struct kvm_msrs with room for a few: what is on the stack at a time. */
#define MSRS_AT_ONCE 64u
struct kvm_msrs_chunk {
    uint32_t count;
    uint32_t padding;
    struct kvm_msr_entry entries[MSRS_AT_ONCE];
};

int kvm_x86_msrs_get(const struct kvm_vcpu *vcpu, struct kvm_msr_entry *entries, unsigned count)
{
    unsigned done = 0;
    while (done < count) {
        struct kvm_msrs_chunk chunk = {.count = u32_min(count - done, MSRS_AT_ONCE)};
        memcpy(chunk.entries, entries + done, chunk.count * sizeof(*entries));
        int r = vcpu_get(vcpu, KVM_GET_MSRS, &chunk);
        if (r < 0)
            return r;
        unsigned came = u32_min((uint32_t)r, chunk.count);
        memcpy(entries + done, chunk.entries, came * sizeof(*entries));
        done += came;
        if (came < chunk.count)
            break;
    }
    return (int)done;
}

int kvm_x86_msrs_set(struct kvm_vcpu *vcpu, const struct kvm_msr_entry *entries, unsigned count)
{
    unsigned done = 0;
    while (done < count) {
        struct kvm_msrs_chunk chunk = {.count = u32_min(count - done, MSRS_AT_ONCE)};
        memcpy(chunk.entries, entries + done, chunk.count * sizeof(*entries));
        int r = vcpu_get(vcpu, KVM_SET_MSRS, &chunk);
        if (r < 0)
            return r;
        done += u32_min((uint32_t)r, chunk.count);
        if ((uint32_t)r < chunk.count)
            break;
    }
    return (int)done;
}
