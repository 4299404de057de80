/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The binding against a KVM of our own, which keeps account of what is open and mapped, remembers what it was asked,
 * and fails where it is told to: each call of a sequence in turn.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "platform/kvm/kvm_constants.h"
#include "platform/kvm/kvm_dirty.h"
#include "platform/kvm/kvm_irq.h"
#include "platform/kvm/kvm_vcpu.h"

#define RUN_BYTES 12288u
#define RING_BYTES 4096u

struct fake_kvm {
    struct kvm_system system;
    int handles;     /* open */
    int mappings;    /* there */
    int calls;       /* so far */
    int fail_at;     /* this call fails; 0: none does */
    int interrupted; /* so many ioctls are, before they do anything */
    int run_result;  /* of KVM_RUN */
    int version;     /* of the interface */
    int next_handle;
    bool has_nothing; /* no capability is there */
    uint64_t run[RUN_BYTES / 8];
    uint64_t ring[RING_BYTES / 8];
    /* what was asked last */
    struct kvm_userspace_memory_region region;
    struct kvm_ioeventfd ioeventfd;
    struct kvm_irqfd irqfd;
    struct kvm_msi msi;
    struct kvm_enable_cap enabled;
};

static struct fake_kvm *fake_of(const struct kvm_system *system)
{
    return (struct fake_kvm *)((uintptr_t)system -
                               offsetof(struct fake_kvm, system)); /* a number on the way: it is const in the table */
}

static bool fails(struct fake_kvm *fake)
{
    return ++fake->calls == fake->fail_at;
}

static int fake_new_handle(struct fake_kvm *fake)
{
    fake->handles++;
    return fake->next_handle++;
}

static int fake_open(const struct kvm_system *system, const char *path)
{
    struct fake_kvm *fake = fake_of(system);
    return strcmp(path, "/dev/kvm") != 0 ? -ENOENT : fails(fake) ? -EACCES : fake_new_handle(fake);
}

static int fake_ask(struct fake_kvm *fake, unsigned long request, void *argument)
{
    switch (request) {
    case KVM_GET_API_VERSION:
        return fake->version;
    case KVM_GET_VCPU_MMAP_SIZE:
        return RUN_BYTES;
    case KVM_CHECK_EXTENSION:
        if ((uintptr_t)argument == KVM_CAP_COALESCED_MMIO)
            return 2;
        if ((uintptr_t)argument == KVM_CAP_DIRTY_LOG_RING_ACQ_REL || (uintptr_t)argument == KVM_CAP_DIRTY_LOG_RING)
            return fake->has_nothing ? 0 : 1 << 20;
        return fake->has_nothing ? 0 : 1;
    case KVM_CREATE_VM:
    case KVM_CREATE_VCPU:
        return fake_new_handle(fake);
    case KVM_RUN:
        return fake->run_result;
    case KVM_SET_USER_MEMORY_REGION:
        memcpy(&fake->region, argument, sizeof(fake->region));
        return 0;
    case KVM_IOEVENTFD:
        memcpy(&fake->ioeventfd, argument, sizeof(fake->ioeventfd));
        return 0;
    case KVM_IRQFD:
        memcpy(&fake->irqfd, argument, sizeof(fake->irqfd));
        return 0;
    case KVM_SIGNAL_MSI:
        memcpy(&fake->msi, argument, sizeof(fake->msi));
        return 3;
    case KVM_ENABLE_CAP:
        memcpy(&fake->enabled, argument, sizeof(fake->enabled));
        return 0;
    default:
        return 0;
    }
}

static int fake_ioctl(const struct kvm_system *system, int handle, unsigned long request, void *argument)
{
    struct fake_kvm *fake = fake_of(system);
    (void)handle;
    if (fails(fake))
        return -ENOMEM;
    if (fake->interrupted > 0 && request != KVM_RUN) {
        fake->interrupted--;
        return -EINTR;
    }
    return fake_ask(fake, request, argument);
}

static int fake_map(const struct kvm_system *system, int handle, uint64_t offset, size_t bytes, void **ret_at)
{
    struct fake_kvm *fake = fake_of(system);
    (void)handle;
    if (fails(fake))
        return -ENOMEM;
    assert_int_equal(bytes, offset == 0 ? RUN_BYTES : RING_BYTES);
    fake->mappings++;
    *ret_at = offset == 0 ? fake->run : fake->ring;
    return 0;
}

static void fake_unmap(const struct kvm_system *system, void *at, size_t bytes)
{
    struct fake_kvm *fake = fake_of(system);
    assert_true(at == fake->run || at == fake->ring);
    assert_int_equal(bytes, at == fake->run ? RUN_BYTES : RING_BYTES);
    fake->mappings--;
}

static void fake_close(const struct kvm_system *system, int handle)
{
    struct fake_kvm *fake = fake_of(system);
    (void)handle;
    fake->handles--;
}

static void fake_init(struct fake_kvm *fake)
{
    *fake = (struct fake_kvm){
        .system = {fake_open, fake_ioctl, fake_map, fake_unmap, fake_close},
        .version = KVM_API_VERSION,
        .next_handle = 100,
    };
}

struct machine {
    struct fake_kvm fake;
    struct kvm_host host;
    struct kvm_vm vm;
    struct kvm_vcpu vcpu;
};

static int machine_open(struct machine *machine)
{
    int r = kvm_host_open(&machine->host, &machine->fake.system, "/dev/kvm");
    if (r == 0)
        r = kvm_vm_open(&machine->vm, &machine->host, 0);
    if (r == 0)
        r = kvm_dirty_ring_enable(&machine->vm, RING_BYTES);
    if (r == 0)
        r = kvm_vcpu_open(&machine->vcpu, &machine->vm, 0);
    return r;
}

static void machine_close(struct machine *machine)
{
    kvm_vcpu_close(&machine->vcpu);
    kvm_vm_close(&machine->vm);
    kvm_host_close(&machine->host);
    assert_int_equal(machine->fake.handles, 0);
    assert_int_equal(machine->fake.mappings, 0);
}

static int set_up(void **state)
{
    struct machine *machine = calloc(1, sizeof(*machine));
    fake_init(&machine->fake);
    *state = machine;
    return machine_open(machine);
}

static int tear_down(void **state)
{
    machine_close(*state);
    free(*state);
    return 0;
}

static void nothing_is_left_open_whichever_call_fails(void **state)
{
    (void)state;
    int last = -1;
    for (int fail_at = 1; last != 0; fail_at++) {
        struct machine machine = {0};
        fake_init(&machine.fake);
        machine.fake.fail_at = fail_at;
        last = machine_open(&machine);
        /* What was asked for a capability and failed counts as no. */
        assert_true(last == 0 || last == -ENOMEM || last == -EACCES || last == -ENOTSUP);
        assert_true(fail_at < 40);
        bool reached = machine.fake.calls >= fail_at;
        machine_close(&machine);
        if (last == 0 && reached)
            last = -1; /* it could do without that answer */
    }
}

static void another_version_of_the_interface_is_refused(void **state)
{
    (void)state;
    struct machine machine = {0};
    fake_init(&machine.fake);
    machine.fake.version = 13;
    assert_int_equal(machine_open(&machine), -EPROTO);
    machine_close(&machine);
}

static void a_signal_before_an_ioctl_begins_it_again(void **state)
{
    (void)state;
    struct machine machine = {0};
    fake_init(&machine.fake);
    machine.fake.interrupted = 3;
    assert_int_equal(machine_open(&machine), 0);
    machine_close(&machine);
}

static void what_is_not_offered_is_not_asked_for(void **state)
{
    struct machine *machine = *state;
    machine->fake.has_nothing = true;
    assert_int_equal(kvm_vm_enable(&machine->vm, KVM_CAP_IRQCHIP, NULL), -ENOTSUP);
    assert_int_equal(kvm_dirty_log_manual(&machine->vm), -ENOTSUP);
    assert_int_equal(kvm_dirty_ring_enable(&machine->vm, 4096), -ENOTSUP);
    assert_int_equal(kvm_irq_bind(&machine->vm, 5, 9, 10), -ENOTSUP);
    const struct kvm_doorbell any = {.address = 0x1000, .handle = 5};
    assert_int_equal(kvm_vm_doorbell_add(&machine->vm, &any), -ENOTSUP);
    assert_non_null(kvm_host_missing(&machine->host));
    assert_int_equal(kvm_vm_slots_max(&machine->vm), 32);
    struct kvm_vm other;
    assert_int_equal(kvm_vm_open(&other, &machine->host, 48), -ENOTSUP);
    kvm_vm_close(&other);
}

static void a_slot_says_what_it_is(void **state)
{
    struct machine *machine = *state;
    static _Alignas(65536) uint8_t memory[65536];
    const struct kvm_slot slot = {.number = 7,
                                  .address = 0x100000,
                                  .bytes = sizeof(memory),
                                  .host = memory,
                                  .read_only = true,
                                  .log_dirty = true};
    assert_int_equal(kvm_vm_slot_set(&machine->vm, &slot), 0);
    assert_int_equal(machine->fake.region.slot, 7);
    assert_int_equal(machine->fake.region.flags, KVM_MEM_READONLY | KVM_MEM_LOG_DIRTY_PAGES);
    assert_int_equal(machine->fake.region.guest_phys_addr, 0x100000);
    assert_int_equal(machine->fake.region.userspace_addr, (uintptr_t)memory);
    assert_int_equal(kvm_vm_slot_remove(&machine->vm, 7), 0);
    assert_int_equal(machine->fake.region.memory_size, 0);
}

static void a_doorbell_says_what_it_is(void **state)
{
    struct machine *machine = *state;
    struct kvm_doorbell doorbell = {
        .address = 0x30, .is_port = true, .size = 2, .by_value = true, .value = 9, .handle = 5};
    assert_int_equal(kvm_vm_doorbell_add(&machine->vm, &doorbell), 0);
    assert_int_equal(machine->fake.ioeventfd.flags, KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DATAMATCH);
    assert_int_equal(machine->fake.ioeventfd.len, 2);
    assert_int_equal(machine->fake.ioeventfd.datamatch, 9);
    doorbell.size = 0;
    assert_int_equal(kvm_vm_doorbell_add(&machine->vm, &doorbell), -EINVAL);
    doorbell.by_value = false;
    assert_int_equal(kvm_vm_doorbell_remove(&machine->vm, &doorbell), 0);
    assert_int_equal(machine->fake.ioeventfd.flags, KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DEASSIGN);
}

static void interrupts_say_what_they_are(void **state)
{
    struct machine *machine = *state;
    const uint32_t device = 0x18;
    assert_int_equal(kvm_irq_message(&machine->vm, UINT64_C(0x1fee00000), 0x41, &device), 1);
    assert_int_equal(machine->fake.msi.address_lo, 0xfee00000);
    assert_int_equal(machine->fake.msi.address_hi, 1);
    assert_int_equal(machine->fake.msi.flags, KVM_MSI_VALID_DEVID);
    assert_int_equal(machine->fake.msi.devid, 0x18);
    assert_int_equal(kvm_irq_bind(&machine->vm, 5, 9, 10), 0);
    assert_int_equal(machine->fake.irqfd.flags, KVM_IRQFD_FLAG_RESAMPLE);
    assert_int_equal(machine->fake.irqfd.resamplefd, 10);
    assert_int_equal(kvm_irq_unbind(&machine->vm, 5, 9), 0);
    assert_int_equal(machine->fake.irqfd.flags, KVM_IRQFD_FLAG_DEASSIGN);
}

static void a_route_is_replaced_and_removed(void **state)
{
    (void)state;
    struct kvm_routes *routes = calloc(1, sizeof(*routes));
    kvm_routes_init(routes);
    assert_int_equal(kvm_routes_add_pin(routes, 5, 0, 5), 0);
    assert_int_equal(kvm_routes_add_pin(routes, 5, 2, 5), 0);
    assert_int_equal(kvm_routes_add_pin(routes, 6, 0, 6), 0);
    assert_int_equal(routes->count, 3);
    assert_int_equal(kvm_routes_set_message(routes, 5, 0xfee00000, 1, NULL), 0);
    assert_int_equal(routes->count, 2);
    assert_true(kvm_routes_has(routes, 6));
    kvm_routes_remove(routes, 5);
    assert_false(kvm_routes_has(routes, 5));
    while (routes->count < KVM_ROUTES_MAX)
        assert_int_equal(kvm_routes_set_message(routes, 100 + routes->count, 0xfee00000, 1, NULL), 0);
    assert_int_equal(kvm_routes_set_message(routes, 99, 0xfee00000, 1, NULL), -ENOSPC);
    assert_int_equal(kvm_routes_add_pin(routes, 99, 0, 1), -ENOSPC);
    assert_int_equal(kvm_routes_set_message(routes, 6, 0xfee00000, 1, NULL), 0); /* in place of another */
    free(routes);
}

/* ---- exits */

static struct kvm_run *run_of(struct machine *machine)
{
    return machine->vcpu.run;
}

static void a_run_that_was_interrupted_clears_the_request(void **state)
{
    struct machine *machine = *state;
    struct kvm_exit exit;
    kvm_vcpu_interrupt(&machine->vcpu);
    assert_int_equal(run_of(machine)->immediate_exit, 1);
    machine->fake.run_result = -EINTR;
    assert_int_equal(kvm_vcpu_run(&machine->vcpu, &exit), 0);
    assert_int_equal(exit.cause, KVM_CAUSE_INTERRUPTED);
    assert_int_equal(run_of(machine)->immediate_exit, 0);
    machine->fake.run_result = -EAGAIN;
    assert_int_equal(kvm_vcpu_run(&machine->vcpu, &exit), 0);
    assert_int_equal(exit.cause, KVM_CAUSE_INTERRUPTED);
}

static void a_run_that_cannot_be_is_an_error(void **state)
{
    struct machine *machine = *state;
    struct kvm_exit exit;
    machine->fake.run_result = -ENXIO;
    assert_int_equal(kvm_vcpu_run(&machine->vcpu, &exit), -ENXIO);
    machine->fake.run_result = -EFAULT;
    run_of(machine)->exit_reason = KVM_EXIT_UNKNOWN;
    assert_int_equal(kvm_vcpu_run(&machine->vcpu, &exit), -EFAULT);
    run_of(machine)->exit_reason = KVM_EXIT_MEMORY_FAULT;
    const struct kvm_memory_fault_words fault = {.flags = 8, .address = 0x5000, .bytes = 4096};
    memcpy(&run_of(machine)->mmio, &fault, sizeof(fault));
    assert_int_equal(kvm_vcpu_run(&machine->vcpu, &exit), 0);
    assert_int_equal(exit.cause, KVM_CAUSE_MEMORY_FAULT);
    assert_int_equal(exit.memory_fault.address, 0x5000);
}

static void an_access_outside_the_shared_state_is_none(void **state)
{
    struct machine *machine = *state;
    struct kvm_exit exit;
    struct kvm_run *run = run_of(machine);
    run->exit_reason = KVM_EXIT_MMIO;
    run->mmio.len = 9;
    assert_int_equal(kvm_vcpu_run(&machine->vcpu, &exit), 0);
    assert_int_equal(exit.cause, KVM_CAUSE_OTHER);
    run->mmio.len = 0;
    assert_int_equal(kvm_vcpu_run(&machine->vcpu, &exit), 0);
    assert_int_equal(exit.cause, KVM_CAUSE_OTHER);
    run->exit_reason = KVM_EXIT_IO;
    run->io.size = 4;
    run->io.count = 2;
    run->io.data_offset = RUN_BYTES - 7;
    assert_int_equal(kvm_vcpu_run(&machine->vcpu, &exit), 0);
    assert_int_equal(exit.cause, KVM_CAUSE_OTHER);
    run->io.data_offset = RUN_BYTES - 8;
    assert_int_equal(kvm_vcpu_run(&machine->vcpu, &exit), 0);
    assert_int_equal(exit.cause, KVM_CAUSE_PIO);
    assert_int_equal(exit.access.count, 2);
}

static void an_odd_size_has_a_value_too(void **state)
{
    struct machine *machine = *state;
    struct kvm_exit exit;
    struct kvm_run *run = run_of(machine);
    run->exit_reason = KVM_EXIT_MMIO;
    run->mmio.len = 3;
    memcpy(run->mmio.data, "\x11\x22\x33\x44", 4);
    assert_int_equal(kvm_vcpu_run(&machine->vcpu, &exit), 0);
    assert_int_equal(kvm_access_value(&exit.access, 0), 0x332211);
    kvm_access_answer(&exit.access, 0, 0xaabbccdd);
    assert_memory_equal(run->mmio.data, "\xdd\xcc\xbb\x44", 4);
}

static void every_cause_has_a_text(void **state)
{
    struct machine *machine = *state;
    struct kvm_run *run = run_of(machine);
    for (uint32_t reason = 0; reason < 64; reason++) {
        struct kvm_exit exit;
        char text[KVM_EXIT_TEXT_BYTES] = "";
        memset(&run->mmio, 0, 256);
        run->exit_reason = reason;
        kvm_exit_decode(run, RUN_BYTES, &exit);
        kvm_exit_text(&exit, text, sizeof(text));
        assert_true(strlen(text) > 10);
    }
    run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
    run->internal.suberror = KVM_INTERNAL_ERROR_EMULATION;
    run->internal.ndata = 1000; /* more than there are */
    run->internal.data[0] = 0xabc;
    struct kvm_exit exit;
    char text[KVM_EXIT_TEXT_BYTES] = "";
    kvm_exit_decode(run, RUN_BYTES, &exit);
    assert_int_equal(exit.internal_error.data_count, 16);
    kvm_exit_text(&exit, text, sizeof(text));
    assert_non_null(strstr(text, "cannot emulate (0xabc"));
    kvm_exit_text(&exit, text, 8);
    assert_string_equal(text, "KVM gav");
}

/* ---- rings */

static void the_ring_of_writes_wraps(void **state)
{
    struct machine *machine = *state;
    struct kvm_coalesced_mmio_ring *ring = machine->vcpu.coalesced;
    struct kvm_coalesced_write write;
    assert_ptr_equal(ring, (uint8_t *)machine->vcpu.run + 8192);
    ring->first = machine->vcpu.coalesced_max - 1;
    ring->last = 0;
    ring->coalesced_mmio[ring->first] = (struct kvm_coalesced_mmio){.phys_addr = 0x99, .len = 1, .data = {1, 2}};
    assert_true(kvm_vcpu_coalesced_pop(&machine->vcpu, &write));
    assert_int_equal(write.address, 0x99);
    assert_int_equal(write.value, 1);
    assert_int_equal(ring->first, 0);
    assert_false(kvm_vcpu_coalesced_pop(&machine->vcpu, &write));
}

static void the_ring_of_pages_wraps_and_hands_entries_back(void **state)
{
    struct machine *machine = *state;
    struct kvm_dirty_gfn *ring = machine->vcpu.dirty;
    uint32_t slot, count = machine->vcpu.dirty_count;
    uint64_t page;
    assert_int_equal(count, RING_BYTES / sizeof(*ring));
    for (uint32_t i = 0; i < count * 2; i++) {
        assert_false(kvm_dirty_ring_pop(&machine->vcpu, &slot, &page));
        ring[i % count] = (struct kvm_dirty_gfn){.flags = KVM_DIRTY_GFN_F_DIRTY, .slot = 3, .offset = i};
        assert_true(kvm_dirty_ring_pop(&machine->vcpu, &slot, &page));
        assert_int_equal(slot, 3);
        assert_int_equal(page, i);
        assert_int_equal(ring[i % count].flags, KVM_DIRTY_GFN_F_RESET);
    }
    assert_int_equal(kvm_dirty_ring_enable(&machine->vm, 5000), -EINVAL);
    assert_int_equal(kvm_dirty_ring_enable(&machine->vm, 1u << 30), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_left_open_whichever_call_fails),
        cmocka_unit_test(another_version_of_the_interface_is_refused),
        cmocka_unit_test(a_signal_before_an_ioctl_begins_it_again),
        cmocka_unit_test_setup_teardown(what_is_not_offered_is_not_asked_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_slot_says_what_it_is, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_doorbell_says_what_it_is, set_up, tear_down),
        cmocka_unit_test_setup_teardown(interrupts_say_what_they_are, set_up, tear_down),
        cmocka_unit_test(a_route_is_replaced_and_removed),
        cmocka_unit_test_setup_teardown(a_run_that_was_interrupted_clears_the_request, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_run_that_cannot_be_is_an_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_access_outside_the_shared_state_is_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_odd_size_has_a_value_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_cause_has_a_text, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_ring_of_writes_wraps, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_ring_of_pages_wraps_and_hands_entries_back, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
