/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <assert.h>
#include <errno.h>

#include "platform/kvm/kvm_x86.h"

/* The table is handed to the kernel as it is. */
static_assert(offsetof(struct kvm_x86_cpuid, entries) == offsetof(struct kvm_cpuid2, entries), "as the kernel has it");

/* Leaf 1 (Intel SDM 2A, CPUID; AMD APM 3, appendix E). */
#define LEAF1_ECX_MONITOR (1u << 3)
#define LEAF1_ECX_VMX (1u << 5)
#define LEAF1_ECX_TSC_DEADLINE (1u << 24)
#define LEAF1_ECX_HYPERVISOR (1u << 31)
#define LEAF1_EDX_HTT (1u << 28) /* the count of processors in EBX means something */
/* Leaf 0x80000001. */
#define EXTENDED_ECX_CMP_LEGACY (1u << 1) /* several cores, and not several threads */
#define EXTENDED_ECX_SVM (1u << 2)
/* Kinds of level in leaves 0xb and 0x1f. */
#define LEVEL_THREAD 1u
#define LEVEL_CORE 2u

#define VENDOR_EBX_AMD 0x68747541u   /* "Auth" */
#define VENDOR_EBX_HYGON 0x6f677948u /* "Hygo" */

int kvm_x86_cpuid_supported(const struct kvm_host *host, struct kvm_x86_cpuid *ret_cpuid)
{
    ret_cpuid->count = KVM_X86_CPUID_MAX;
    ret_cpuid->padding = 0;
    int r = kvm_ioctl(host->system, host->handle, KVM_GET_SUPPORTED_CPUID, ret_cpuid);
    return r < 0 ? r : 0;
}

int kvm_x86_cpuid_set(struct kvm_vcpu *vcpu, const struct kvm_x86_cpuid *cpuid)
{
    return kvm_ioctl_read_only(vcpu->vm->host->system, vcpu->handle, KVM_SET_CPUID2, cpuid);
}

int kvm_x86_cpuid_get(const struct kvm_vcpu *vcpu, struct kvm_x86_cpuid *ret_cpuid)
{
    ret_cpuid->count = KVM_X86_CPUID_MAX;
    ret_cpuid->padding = 0;
    int r = kvm_ioctl(vcpu->vm->host->system, vcpu->handle, KVM_GET_CPUID2, ret_cpuid);
    return r < 0 ? r : 0;
}

struct kvm_cpuid_entry2 *kvm_x86_cpuid_find(struct kvm_x86_cpuid *cpuid, uint32_t function, uint32_t index)
{
    for (uint32_t i = 0; i < cpuid->count; i++) {
        struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];
        if (entry->function == function &&
            (entry->index == index || (entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) == 0))
            return entry;
    }
    return NULL;
}

static void cpuid_remove(struct kvm_x86_cpuid *cpuid, uint32_t function)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < cpuid->count; i++) {
        if (cpuid->entries[i].function != function)
            cpuid->entries[kept++] = cpuid->entries[i];
    }
    cpuid->count = kept;
}

/* How many low bits of an APIC ID tell @processors apart. */
static uint32_t id_bits(uint32_t processors)
{
    uint32_t bits = 0;
    while (bits < 31 && (1u << bits) < processors)
        bits++;
    return bits;
}

/* Bits @high to @low of *@word become @value. */
static void put_bits(uint32_t *word, unsigned high, unsigned low, uint32_t value)
{
    uint32_t mask = (uint32_t)(((UINT64_C(1) << (high - low + 1)) - 1) << low);
    *word = (*word & ~mask) | ((value << low) & mask);
}

static void filter_leaf1(struct kvm_cpuid_entry2 *entry, const struct kvm_x86_topology *topology, uint32_t index)
{
    put_bits(&entry->ebx, 31, 24, index);
    put_bits(&entry->ebx, 23, 16, u32_min(1u << id_bits(topology->processors), 255));
    entry->ecx &= ~(LEAF1_ECX_MONITOR | LEAF1_ECX_VMX | LEAF1_ECX_TSC_DEADLINE);
    entry->ecx |= LEAF1_ECX_HYPERVISOR | (topology->tsc_deadline ? LEAF1_ECX_TSC_DEADLINE : 0);
    entry->edx &= ~LEAF1_EDX_HTT;
    entry->edx |= topology->processors > 1 ? LEAF1_EDX_HTT : 0;
}

/*
 * Caches: leaf 4 of Intel, 0x8000001d of AMD, in one form. Bits 7 to 5 of EAX are the level; the third is everybody's,
 * the others each core's own.
 */
static void filter_cache(struct kvm_cpuid_entry2 *entry, const struct kvm_x86_topology *topology, bool is_intel)
{
    if ((entry->eax & 0x1f) == 0)
        return; /* no more caches */
    bool shared = ((entry->eax >> 5) & 7) >= 3;
    put_bits(&entry->eax, 25, 14, shared ? u32_min((1u << id_bits(topology->processors)) - 1, 0xfff) : 0);
    if (is_intel)
        put_bits(&entry->eax, 31, 26, u32_min((1u << id_bits(topology->processors)) - 1, 0x3f));
}

static void filter_extended(struct kvm_cpuid_entry2 *entry, const struct kvm_x86_topology *topology, uint32_t index,
                            bool is_amd)
{
    switch (entry->function) {
    case 0x80000001:
        entry->ecx &= ~(EXTENDED_ECX_SVM | EXTENDED_ECX_CMP_LEGACY);
        entry->ecx |= is_amd && topology->processors > 1 ? EXTENDED_ECX_CMP_LEGACY : 0;
        break;
    case 0x80000008:
        if (topology->address_bits != 0)
            put_bits(&entry->eax, 7, 0, u32_min(topology->address_bits, entry->eax & 0xff));
        put_bits(&entry->eax, 23, 16, 0); /* the guest has one limit, the one above */
        if (is_amd) {
            put_bits(&entry->ecx, 7, 0, u32_min(topology->processors - 1, 255));
            put_bits(&entry->ecx, 15, 12, id_bits(topology->processors));
        }
        break;
    case 0x8000001d:
        filter_cache(entry, topology, false);
        break;
    case 0x8000001e:
        entry->eax = index;
        put_bits(&entry->ebx, 15, 0, index & 0xff); /* its core, with one thread */
        put_bits(&entry->ecx, 10, 0, 0);            /* node 0 of one */
        break;
    default:
        break;
    }
}

static void cpuid_add(struct kvm_x86_cpuid *cpuid, const struct kvm_cpuid_entry2 *entry)
{
    if (cpuid->count < KVM_X86_CPUID_MAX)
        cpuid->entries[cpuid->count++] = *entry;
}

/* The extended topology: threads, cores, and an end. KVM offers the leaf without levels. */
static void add_topology(struct kvm_x86_cpuid *cpuid, uint32_t function, const struct kvm_x86_topology *topology,
                         uint32_t index)
{
    const struct kvm_cpuid_entry2 levels[] = {
        {.eax = 0, .ebx = 1, .ecx = LEVEL_THREAD << 8},
        {.eax = id_bits(topology->processors), .ebx = topology->processors, .ecx = 1 | LEVEL_CORE << 8},
        {.ecx = 2},
    };
    cpuid_remove(cpuid, function);
    for (uint32_t i = 0; i < ARRAY_SIZE(levels); i++) {
        struct kvm_cpuid_entry2 entry = levels[i];
        entry.function = function;
        entry.index = i;
        entry.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
        entry.edx = index;
        cpuid_add(cpuid, &entry);
    }
}

void kvm_x86_cpuid_filter(struct kvm_x86_cpuid *cpuid, const struct kvm_x86_topology *topology, uint32_t index)
{
    const struct kvm_cpuid_entry2 *first = kvm_x86_cpuid_find(cpuid, 0, 0);
    uint32_t leaf_max = first ? first->eax : 0;
    bool is_amd = first && (first->ebx == VENDOR_EBX_AMD || first->ebx == VENDOR_EBX_HYGON);
    for (uint32_t i = 0; i < cpuid->count; i++) {
        struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];
        if (entry->function == 1)
            filter_leaf1(entry, topology, index);
        else if (entry->function == 4)
            filter_cache(entry, topology, true);
        else
            filter_extended(entry, topology, index, is_amd);
    }
    cpuid_remove(cpuid, 0x8000000a); /* what SVM can do */
    if (leaf_max >= 0xb)
        add_topology(cpuid, 0xb, topology, index);
    if (leaf_max >= 0x1f)
        add_topology(cpuid, 0x1f, topology, index);
}
