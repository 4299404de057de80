/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation. A state is a header record, and then one record for each group of registers as KVM has it, so
 * that a later version can add groups and an older one can skip them. What is saved depends on what else was saved
 * before: KVM_GET_MP_STATE first takes in events that have arrived, so it comes first; the pending events come last.
 * What is restored depends likewise: CPUID decides which registers there are; the counter's speed comes before the
 * counter; the APIC's mode is in sregs, and so they come before the APIC; the APIC's timer mode decides what the
 * deadline register means; pending events come last, on top of everything. The order of records in the file means
 * nothing.
 *
 * Limits. State of nested guests is not saved: kvm_x86_cpuid_filter hides what they need.
 */
#include <errno.h>

#include "platform/kvm/kvm_x86.h"

#define TAG(a, b, c, d) ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

#define STATE_VERSION 1

enum {
    VCPU_HEADER = TAG('k', 'x', 'c', 'p'),
    VCPU_CPUID = TAG('c', 'p', 'i', 'd'),
    VCPU_TSC_KHZ = TAG('t', 's', 'c', 'k'),
    VCPU_STATE = TAG('m', 'p', 's', 't'),
    VCPU_REGS = TAG('r', 'e', 'g', 's'),
    VCPU_SREGS = TAG('s', 'r', 'e', 'g'),
    VCPU_SREGS2 = TAG('s', 'r', 'g', '2'),
    VCPU_XSAVE = TAG('x', 's', 'a', 'v'),
    VCPU_XCRS = TAG('x', 'c', 'r', 's'),
    VCPU_DEBUGREGS = TAG('d', 'b', 'g', 'r'),
    VCPU_LAPIC = TAG('l', 'a', 'p', 'c'),
    VCPU_MSRS = TAG('m', 's', 'r', 's'),
    VCPU_EVENTS = TAG('e', 'v', 'n', 't'),

    VM_HEADER = TAG('k', 'x', 'v', 'm'),
    VM_PIC_MASTER = TAG('p', 'i', 'c', '0'),
    VM_PIC_SLAVE = TAG('p', 'i', 'c', '1'),
    VM_IOAPIC = TAG('i', 'o', 'a', 'p'),
    VM_PIT = TAG('p', 'i', 't', '2'),
    VM_CLOCK = TAG('c', 'l', 'c', 'k'),
};

/* Numbers of model-specific registers (Intel SDM 4). */
#define MSR_TSC 0x10u
#define MSR_TSC_DEADLINE 0x6e0u
/* The local APIC's timer entry, and its mode for the deadline register (Intel SDM 3, 11.5.1). */
#define LAPIC_LVT_TIMER 0x320u
#define LAPIC_TIMER_MODE_MASK (3u << 17)
#define LAPIC_TIMER_MODE_DEADLINE (2u << 17)

#define MSR_BYTES sizeof(struct kvm_msr_entry)
#define CPUID_BYTES sizeof(struct kvm_cpuid_entry2)

static int put(struct state_writer *writer, uint32_t tag, const void *payload, size_t bytes)
{
    return state_put(writer, tag, STATE_VERSION, payload, bytes);
}

static int save_cpuid(const struct kvm_vcpu *vcpu, struct state_writer *writer)
{
    struct kvm_x86_cpuid cpuid;
    int r = kvm_x86_cpuid_get(vcpu, &cpuid);
    return r < 0 ? r : put(writer, VCPU_CPUID, cpuid.entries, cpuid.count * CPUID_BYTES);
}

static int save_xsave(const struct kvm_vcpu *vcpu, struct state_writer *writer)
{
    uint8_t area[KVM_X86_XSAVE_BYTES_MAX];
    int bytes = kvm_x86_xsave_get(vcpu, area);
    return bytes < 0 ? bytes : put(writer, VCPU_XSAVE, area, (size_t)bytes);
}

static int save_sregs(const struct kvm_vcpu *vcpu, struct state_writer *writer)
{
    struct kvm_sregs2 sregs2;
    int r = kvm_x86_sregs2_get(vcpu, &sregs2);
    if (r != -ENOTSUP)
        return r < 0 ? r : put(writer, VCPU_SREGS2, &sregs2, sizeof(sregs2));
    struct kvm_sregs sregs;
    r = kvm_x86_sregs_get(vcpu, &sregs);
    return r < 0 ? r : put(writer, VCPU_SREGS, &sregs, sizeof(sregs));
}

/*
 * The deadline register reads as 0 once its timer has expired, also when the interrupt has not reached the APIC's
 * registers yet: a guest without a tick would wait for it for ever. A deadline that is over fires at once, and one
 * interrupt too many does no harm.
 */
static void mend_deadline(struct kvm_msr_entry *entries, unsigned count, const struct kvm_lapic_state *lapic)
{
    uint32_t timer = get_le32(lapic->regs + LAPIC_LVT_TIMER);
    struct kvm_msr_entry *deadline = NULL;
    const struct kvm_msr_entry *tsc = NULL;
    for (unsigned i = 0; i < count; i++) {
        if (entries[i].index == MSR_TSC)
            tsc = &entries[i];
        if (entries[i].index == MSR_TSC_DEADLINE)
            deadline = &entries[i];
    }
    if (tsc && deadline && deadline->data == 0 && (timer & LAPIC_TIMER_MODE_MASK) == LAPIC_TIMER_MODE_DEADLINE)
        deadline->data = tsc->data;
}

static int save_msrs(const struct kvm_vcpu *vcpu, const struct kvm_x86_msr_list *msrs,
                     const struct kvm_lapic_state *lapic, struct state_writer *writer)
{
    struct kvm_msr_entry entries[KVM_X86_MSRS_MAX];
    unsigned kept = 0;
    for (unsigned next = 0; next < msrs->count;) {
        unsigned wanted = msrs->count - next;
        for (unsigned i = 0; i < wanted; i++)
            entries[kept + i] = (struct kvm_msr_entry){.index = msrs->indices[next + i]};
        int came = kvm_x86_msrs_get(vcpu, entries + kept, wanted);
        if (came < 0)
            return came;
        kept += (unsigned)came;
        next += (unsigned)came + 1; /* the one that cannot be read is not there */
    }
    mend_deadline(entries, kept, lapic);
    return put(writer, VCPU_MSRS, entries, kept * MSR_BYTES);
}

static int save_tsc_khz(const struct kvm_vcpu *vcpu, struct state_writer *writer)
{
    int khz = kvm_x86_tsc_khz_get(vcpu);
    if (khz <= 0)
        return khz == -ENOTSUP || khz == -EIO ? 0 : khz; /* -EIO: this host's counter is not steady */
    const uint32_t value = (uint32_t)khz;
    return put(writer, VCPU_TSC_KHZ, &value, sizeof(value));
}

/* Groups of one size, read by one ioctl. */
static int save_plain(const struct kvm_vcpu *vcpu, struct state_writer *writer)
{
    struct kvm_regs regs;
    struct kvm_xcrs xcrs;
    struct kvm_debugregs debugregs;
    int r = kvm_x86_regs_get(vcpu, &regs);
    if (r == 0)
        r = put(writer, VCPU_REGS, &regs, sizeof(regs));
    if (r == 0)
        r = kvm_x86_xcrs_get(vcpu, &xcrs);
    if (r == 0)
        r = put(writer, VCPU_XCRS, &xcrs, sizeof(xcrs));
    if (r == 0)
        r = kvm_x86_debugregs_get(vcpu, &debugregs);
    if (r == 0)
        r = put(writer, VCPU_DEBUGREGS, &debugregs, sizeof(debugregs));
    return r;
}

int kvm_x86_vcpu_save(struct kvm_vcpu *vcpu, const struct kvm_x86_msr_list *msrs, struct state_writer *writer)
{
    uint32_t state;
    int r = put(writer, VCPU_HEADER, NULL, 0);
    if (r == 0)
        r = kvm_vcpu_get_state(vcpu, &state);
    if (r == 0)
        r = put(writer, VCPU_STATE, &state, sizeof(state));
    if (r == 0)
        r = save_cpuid(vcpu, writer);
    if (r == 0)
        r = save_tsc_khz(vcpu, writer);
    if (r == 0)
        r = save_sregs(vcpu, writer);
    if (r == 0)
        r = save_plain(vcpu, writer);
    if (r == 0)
        r = save_xsave(vcpu, writer);
    struct kvm_lapic_state lapic;
    if (r == 0)
        r = kvm_x86_lapic_get(vcpu, &lapic);
    if (r == 0)
        r = put(writer, VCPU_LAPIC, &lapic, sizeof(lapic));
    if (r == 0)
        r = save_msrs(vcpu, msrs, &lapic, writer);
    struct kvm_vcpu_events events;
    if (r == 0)
        r = kvm_x86_events_get(vcpu, &events);
    return r < 0 ? r : put(writer, VCPU_EVENTS, &events, sizeof(events));
}

/* ---- back */

/* Where a record with @tag begins, from the front; its payload is NULL when it is not there. -EBADMSG: no records. */
static int find(const struct state_reader *from, uint32_t tag, struct state_record *ret_record)
{
    struct state_reader reader = {.bytes = from->bytes, .size = from->size, .used = from->used};
    *ret_record = (struct state_record){0};
    struct state_record record;
    int r;
    while ((r = state_next(&reader, &record)) > 0) {
        if (record.tag != tag)
            continue;
        if (record.version > STATE_VERSION)
            return -EBADMSG;
        *ret_record = record;
        return 1;
    }
    return r;
}

/* A record of exactly @bytes to @to: 1; 0: there is none. */
static int take(const struct state_reader *reader, uint32_t tag, void *to, size_t bytes)
{
    struct state_record record;
    int r = find(reader, tag, &record);
    if (r <= 0)
        return r;
    if (record.length != bytes)
        return -EBADMSG;
    memcpy(to, record.payload, bytes);
    return 1;
}

/* The same of one without which there is no state. 0 on success. */
static int need(const struct state_reader *reader, uint32_t tag, void *to, size_t bytes)
{
    int r = take(reader, tag, to, bytes);
    return r == 0 ? -EBADMSG : r < 0 ? r : 0;
}

static int restore_cpuid(struct kvm_vcpu *vcpu, const struct state_reader *reader)
{
    struct state_record record;
    int r = find(reader, VCPU_CPUID, &record);
    if (r <= 0)
        return r;
    if (record.length % CPUID_BYTES != 0 || record.length > KVM_X86_CPUID_MAX * CPUID_BYTES)
        return -EBADMSG;
    struct kvm_x86_cpuid cpuid = {.count = (uint32_t)(record.length / CPUID_BYTES)};
    memcpy(cpuid.entries, record.payload, record.length);
    return kvm_x86_cpuid_set(vcpu, &cpuid);
}

static int restore_tsc_khz(struct kvm_vcpu *vcpu, const struct state_reader *reader)
{
    uint32_t khz;
    int r = take(reader, VCPU_TSC_KHZ, &khz, sizeof(khz));
    if (r <= 0)
        return r;
    return kvm_x86_tsc_khz_get(vcpu) == (int)khz ? 0 : kvm_x86_tsc_khz_set(vcpu, khz);
}

static int restore_sregs(struct kvm_vcpu *vcpu, const struct state_reader *reader)
{
    struct kvm_sregs2 sregs2;
    int r = take(reader, VCPU_SREGS2, &sregs2, sizeof(sregs2));
    if (r != 0)
        return r < 0 ? r : kvm_x86_sregs2_set(vcpu, &sregs2);
    struct kvm_sregs sregs;
    r = need(reader, VCPU_SREGS, &sregs, sizeof(sregs));
    return r < 0 ? r : kvm_x86_sregs_set(vcpu, &sregs);
}

static int restore_xsave(struct kvm_vcpu *vcpu, const struct state_reader *reader)
{
    struct state_record record;
    int r = find(reader, VCPU_XSAVE, &record);
    if (r <= 0)
        return r == 0 ? -EBADMSG : r;
    uint8_t area[KVM_X86_XSAVE_BYTES_MAX] = {0};
    if (record.length > sizeof(area))
        return -EBADMSG;
    memcpy(area, record.payload, record.length);
    return kvm_x86_xsave_set(vcpu, area, sizeof(area));
}

/*
 * All but the deadline, or the deadline alone. One that cannot be set and is 0 is one that this host does not have, and
 * that the guest did not use.
 */
static int restore_msrs(struct kvm_vcpu *vcpu, const struct state_reader *reader, bool deadline)
{
    struct state_record record;
    int r = find(reader, VCPU_MSRS, &record);
    if (r <= 0)
        return r == 0 ? -EBADMSG : r;
    if (record.length % MSR_BYTES != 0 || record.length > KVM_X86_MSRS_MAX * MSR_BYTES)
        return -EBADMSG;
    struct kvm_msr_entry entries[KVM_X86_MSRS_MAX];
    unsigned count = 0;
    for (size_t at = 0; at < record.length; at += MSR_BYTES) {
        memcpy(&entries[count], record.payload + at, MSR_BYTES);
        if ((entries[count].index == MSR_TSC_DEADLINE) == deadline)
            count++;
    }
    for (unsigned next = 0; next < count;) {
        int done = kvm_x86_msrs_set(vcpu, entries + next, count - next);
        if (done < 0)
            return done;
        next += (unsigned)done;
        if (next < count && entries[next].data != 0)
            return -EINVAL;
        next++;
    }
    return 0;
}

static int restore_plain(struct kvm_vcpu *vcpu, const struct state_reader *reader)
{
    struct kvm_regs regs;
    struct kvm_xcrs xcrs;
    struct kvm_debugregs debugregs;
    int r = need(reader, VCPU_REGS, &regs, sizeof(regs));
    if (r == 0)
        r = kvm_x86_regs_set(vcpu, &regs);
    if (r == 0)
        r = need(reader, VCPU_XCRS, &xcrs, sizeof(xcrs));
    if (r == 0)
        r = kvm_x86_xcrs_set(vcpu, &xcrs);
    if (r == 0)
        r = need(reader, VCPU_DEBUGREGS, &debugregs, sizeof(debugregs));
    return r < 0 ? r : kvm_x86_debugregs_set(vcpu, &debugregs);
}

/* The parts whose order among themselves is the theory above. */
static int restore_rest(struct kvm_vcpu *vcpu, const struct state_reader *reader)
{
    struct kvm_lapic_state lapic;
    uint32_t state;
    struct kvm_vcpu_events events;
    int r = need(reader, VCPU_LAPIC, &lapic, sizeof(lapic));
    if (r == 0)
        r = restore_msrs(vcpu, reader, false);
    if (r == 0)
        r = kvm_x86_lapic_set(vcpu, &lapic);
    if (r == 0)
        r = restore_msrs(vcpu, reader, true);
    if (r == 0)
        r = need(reader, VCPU_STATE, &state, sizeof(state));
    if (r == 0)
        r = kvm_vcpu_set_state(vcpu, state);
    if (r == 0)
        r = need(reader, VCPU_EVENTS, &events, sizeof(events));
    return r < 0 ? r : kvm_x86_events_set(vcpu, &events);
}

static int restore(struct kvm_vcpu *vcpu, struct state_reader *reader, bool is_new)
{
    struct state_record header;
    int r = find(reader, VCPU_HEADER, &header);
    if (r <= 0)
        return r == 0 ? -EBADMSG : r;
    r = is_new ? restore_cpuid(vcpu, reader) : 0;
    if (r == 0 && is_new)
        r = restore_tsc_khz(vcpu, reader);
    if (r == 0)
        r = restore_sregs(vcpu, reader);
    if (r == 0)
        r = restore_xsave(vcpu, reader);
    if (r == 0)
        r = restore_plain(vcpu, reader);
    if (r == 0)
        r = restore_rest(vcpu, reader);
    if (r == 0)
        reader->used = reader->size;
    return r;
}

int kvm_x86_vcpu_restore(struct kvm_vcpu *vcpu, struct state_reader *reader)
{
    return restore(vcpu, reader, true);
}

int kvm_x86_vcpu_reset(struct kvm_vcpu *vcpu, struct state_reader *reader)
{
    return restore(vcpu, reader, false);
}

/* ---- the VM */

static const struct {
    uint32_t tag, chip;
} chips[] = {
    {VM_PIC_MASTER, KVM_IRQCHIP_PIC_MASTER},
    {VM_PIC_SLAVE, KVM_IRQCHIP_PIC_SLAVE},
    {VM_IOAPIC, KVM_IRQCHIP_IOAPIC},
};

static int vm_ioctl(const struct kvm_vm *vm, unsigned long request, void *argument)
{
    return kvm_ioctl(vm->host->system, vm->handle, request, argument);
}

int kvm_x86_vm_save(const struct kvm_vm *vm, struct state_writer *writer)
{
    int r = put(writer, VM_HEADER, NULL, 0);
    for (size_t i = 0; i < ARRAY_SIZE(chips) && r == 0; i++) {
        struct kvm_irqchip chip = {.chip_id = chips[i].chip};
        r = vm_ioctl(vm, KVM_GET_IRQCHIP, &chip);
        if (r == -ENXIO) { /* the controllers are outside */
            r = 0;
            break;
        }
        if (r == 0)
            r = put(writer, chips[i].tag, &chip, sizeof(chip));
    }
    if (r < 0)
        return r;
    struct kvm_pit_state2 pit = {0};
    r = vm_ioctl(vm, KVM_GET_PIT2, &pit);
    if (r != -ENXIO && (r < 0 || (r = put(writer, VM_PIT, &pit, sizeof(pit))) < 0))
        return r;
    struct kvm_clock_data clock = {0};
    r = kvm_x86_clock_get(vm, &clock);
    return r < 0 ? r : put(writer, VM_CLOCK, &clock, sizeof(clock));
}

int kvm_x86_vm_restore(const struct kvm_vm *vm, struct state_reader *reader)
{
    struct state_record header;
    int r = find(reader, VM_HEADER, &header);
    if (r <= 0)
        return r == 0 ? -EBADMSG : r;
    for (size_t i = 0; i < ARRAY_SIZE(chips); i++) {
        struct kvm_irqchip chip;
        r = take(reader, chips[i].tag, &chip, sizeof(chip));
        if (r > 0)
            r = chip.chip_id == chips[i].chip ? vm_ioctl(vm, KVM_SET_IRQCHIP, &chip) : -EBADMSG;
        if (r < 0)
            return r;
    }
    struct kvm_pit_state2 pit;
    r = take(reader, VM_PIT, &pit, sizeof(pit));
    if (r > 0)
        r = vm_ioctl(vm, KVM_SET_PIT2, &pit);
    if (r < 0)
        return r;
    struct kvm_clock_data clock;
    r = need(reader, VM_CLOCK, &clock, sizeof(clock));
    if (r == 0)
        r = kvm_x86_clock_set(vm, &clock);
    if (r == 0)
        reader->used = reader->size;
    return r;
}
