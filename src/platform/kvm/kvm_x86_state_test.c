/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* CPUID as a guest shall see it, and saved processors that are wrong, against a KVM that remembers what it was asked.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "platform/kvm/kvm_x86.h"

#define CALLS_MAX 128
#define MSR_ODD 0x1234u /* one that this KVM refuses */

static struct {
    unsigned long sets[CALLS_MAX]; /* what was written, in order; KVM_SET_MSRS of the deadline as 1 */
    unsigned count;
    uint64_t odd_value; /* of MSR_ODD, when it is read */
} fake;

static int fake_msrs(unsigned long request, uint8_t *argument)
{
    uint32_t count = get_le32(argument);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *entry = argument + 8 + (size_t)i * sizeof(struct kvm_msr_entry);
        if (request == KVM_GET_MSRS)
            put_le64(entry + 8, get_le32(entry) == MSR_ODD ? fake.odd_value : get_le32(entry));
        else if (get_le32(entry) == MSR_ODD)
            return (int)i;
    }
    return (int)count;
}

static int fake_ioctl(const struct kvm_system *system, int handle, unsigned long request, void *argument)
{
    (void)system;
    (void)handle;
    switch (request) {
    case KVM_CHECK_EXTENSION:
        return (uintptr_t)argument == KVM_CAP_XSAVE2 ? 4096 : 1;
    case KVM_GET_TSC_KHZ:
        return 2000000;
    case KVM_GET_CPUID2:
        put_le32(argument, 1);
        return 0;
    case KVM_GET_MSRS:
    case KVM_SET_MSRS:
        if (request == KVM_SET_MSRS && fake.count < CALLS_MAX)
            fake.sets[fake.count++] = get_le32((uint8_t *)argument + 8) == 0x6e0 ? 1 : request;
        return fake_msrs(request, argument);
    default:
        break;
    }
    size_t bytes = request >> _IOC_SIZESHIFT & _IOC_SIZEMASK;
    if ((request >> _IOC_DIRSHIFT & _IOC_READ) != 0)
        memset(argument, 0, request == KVM_GET_XSAVE2 ? 4096 : bytes);
    else if (fake.count < CALLS_MAX)
        fake.sets[fake.count++] = request;
    return 0;
}

static const struct kvm_system system_fake = {.ioctl = fake_ioctl};
static const struct kvm_host host = {.system = &system_fake, .page_bytes = 4096};
static const struct kvm_vm vm = {.host = &host};
static struct kvm_vcpu vcpu = {.vm = &vm};
static uint8_t bytes[KVM_X86_VCPU_STATE_BYTES_MAX];

static const struct kvm_x86_msr_list msrs = {.count = 3, .indices = {0x10, 0x6e0, MSR_ODD}};

/* Save the fake's processor; the state's size. */
static size_t save(void)
{
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};
    memset(&fake.sets, 0, sizeof(fake.sets));
    assert_int_equal(kvm_x86_vcpu_save(&vcpu, &msrs, &writer), 0);
    fake.count = 0;
    return writer.used;
}

static int restore(size_t size)
{
    struct state_reader reader = {.bytes = bytes, .size = size};
    return kvm_x86_vcpu_restore(&vcpu, &reader);
}

static unsigned place_of(unsigned long request)
{
    for (unsigned i = 0; i < fake.count; i++) {
        if (fake.sets[i] == request)
            return i;
    }
    fail_msg("request 0x%lx was not made", request);
    return 0;
}

static void groups_are_restored_in_the_order_that_kvm_needs(void **state)
{
    (void)state;
    fake.odd_value = 0;
    assert_int_equal(restore(save()), 0);
    assert_int_equal(place_of(KVM_SET_CPUID2), 0);
    assert_true(place_of(KVM_SET_SREGS2) < place_of(KVM_SET_LAPIC));
    assert_true(place_of(KVM_SET_LAPIC) < place_of(1)); /* the deadline after the timer's mode */
    assert_true(place_of(KVM_SET_MSRS) < place_of(1));
    assert_int_equal(place_of(KVM_SET_VCPU_EVENTS), fake.count - 1);
}

static void a_register_that_this_host_lacks_matters_only_if_it_was_used(void **state)
{
    (void)state;
    fake.odd_value = 0;
    assert_int_equal(restore(save()), 0);
    fake.odd_value = 5;
    assert_int_equal(restore(save()), -EINVAL);
}

static void a_state_with_a_part_missing_is_none(void **state)
{
    (void)state;
    fake.odd_value = 0;
    size_t size = save(), at = 0;
    assert_int_equal(restore(0), -EBADMSG);
    while (at < size) {
        size_t next = at + STATE_RECORD_HEADER_BYTES + get_le32(bytes + at + 8);
        assert_int_equal(restore(next - 1), -EBADMSG); /* cut inside a record */
        if (next < size)
            assert_int_equal(restore(next), -EBADMSG); /* and behind one */
        at = next;
    }
}

static void a_record_of_a_later_version_is_refused(void **state)
{
    (void)state;
    size_t size = save();
    put_le16(bytes + 4, 2);
    assert_int_equal(restore(size), -EBADMSG);
}

static void a_state_without_room_is_not_saved(void **state)
{
    (void)state;
    size_t size = save();
    for (size_t room = 0; room < size; room += 97) {
        struct state_writer writer = {.bytes = bytes, .size = room};
        assert_int_equal(kvm_x86_vcpu_save(&vcpu, &msrs, &writer), -ENOSPC);
    }
}

static void a_guest_sees_its_own_topology(void **state)
{
    (void)state;
    static struct kvm_x86_cpuid cpuid;
    static const struct kvm_cpuid_entry2 entries[] = {
        {.function = 0, .eax = 0x1f, .ebx = 0x68747541},
        {.function = 1, .ebx = 0xff100800, .ecx = 1u << 3 | 1u << 5 | 1u << 24 | 1u << 21},
        {.function = 4, .index = 3, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 0xfc000000 | 3 << 5 | 3},
        {.function = 0xb, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX},
        {.function = 0x40000000, .ebx = 0x4b4d564b},
        {.function = 0x80000001, .ecx = 1u << 2},
        {.function = 0x80000008, .eax = 0x3030},
        {.function = 0x8000000a, .eax = 1},
        {.function = 0x8000001e, .eax = 99, .ebx = 0xffff},
    };
    memcpy(cpuid.entries, entries, sizeof(entries));
    cpuid.count = ARRAY_SIZE(entries);
    const struct kvm_x86_topology topology = {.processors = 5, .tsc_deadline = true, .address_bits = 40};
    kvm_x86_cpuid_filter(&cpuid, &topology, 3);
    const struct kvm_cpuid_entry2 *entry = kvm_x86_cpuid_find(&cpuid, 1, 0);
    assert_int_equal(entry->ebx, 3u << 24 | 8u << 16 | 0x0800);
    assert_int_equal(entry->ecx, 1u << 31 | 1u << 24 | 1u << 21); /* no MONITOR, no VMX; on a hypervisor */
    assert_int_equal(entry->edx, 1u << 28);
    assert_int_equal(kvm_x86_cpuid_find(&cpuid, 4, 3)->eax, 7u << 26 | 7u << 14 | 3 << 5 | 3);
    for (uint32_t function = 0xb; function <= 0x1f; function += 0x14) {
        entry = kvm_x86_cpuid_find(&cpuid, function, 1);
        assert_int_equal(entry->eax, 3);
        assert_int_equal(entry->ebx, 5);
        assert_int_equal(entry->ecx, 0x201);
        assert_int_equal(entry->edx, 3);
    }
    assert_int_equal(kvm_x86_cpuid_find(&cpuid, 0x40000000, 0)->ebx, 0x4b4d564b);
    assert_int_equal(kvm_x86_cpuid_find(&cpuid, 0x80000001, 0)->ecx, 2); /* cores; no SVM */
    assert_int_equal(kvm_x86_cpuid_find(&cpuid, 0x80000008, 0)->eax, 0x3028);
    assert_int_equal(kvm_x86_cpuid_find(&cpuid, 0x80000008, 0)->ecx, 0x3004);
    assert_null(kvm_x86_cpuid_find(&cpuid, 0x8000000a, 0));
    assert_int_equal(kvm_x86_cpuid_find(&cpuid, 0x8000001e, 0)->eax, 3);
    assert_int_equal(kvm_x86_cpuid_find(&cpuid, 0x8000001e, 0)->ebx, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_are_restored_in_the_order_that_kvm_needs),
        cmocka_unit_test(a_register_that_this_host_lacks_matters_only_if_it_was_used),
        cmocka_unit_test(a_state_with_a_part_missing_is_none),
        cmocka_unit_test(a_record_of_a_later_version_is_refused),
        cmocka_unit_test(a_state_without_room_is_not_saved),
        cmocka_unit_test(a_guest_sees_its_own_topology),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
