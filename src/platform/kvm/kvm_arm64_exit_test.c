/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Real guests of a few instructions on the host's KVM: what only arm64 has. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "platform/kvm/kvm_arm64_test_rig.h"

#define TEST_TIMEOUT_S 240
#define HANDLER_MARK 0x1000u

GUEST(interrupts);
GUEST(power_off);
GUEST(reset);
GUEST(state);

static void the_guest_powers_itself_off(void **state)
{
    (void)state;
    struct kvm_rig rig;
    struct kvm_exit exit;
    rig_open(&rig, 0);
    RIG_LOAD(&rig, power_off);
    rig_run(&rig, KVM_CAUSE_SYSTEM_EVENT, &exit);
    assert_int_equal(exit.system_event.kind, KVM_SYSTEM_SHUTDOWN);
    rig_close(&rig);
}

static void the_guest_resets_itself(void **state)
{
    (void)state;
    struct kvm_rig rig;
    struct kvm_exit exit;
    rig_open(&rig, 0);
    RIG_LOAD(&rig, reset);
    rig_run(&rig, KVM_CAUSE_SYSTEM_EVENT, &exit);
    assert_int_equal(exit.system_event.kind, KVM_SYSTEM_RESET);
    rig_close(&rig);
}

static void a_processor_that_was_not_initialised_does_not_run(void **state)
{
    (void)state;
    struct kvm_host host;
    struct kvm_vm vm;
    struct kvm_vcpu vcpu;
    struct kvm_exit exit;
    assert_int_equal(kvm_host_open(&host, NULL, KVM_HOST_PATH), 0);
    assert_int_equal(kvm_vm_open(&vm, &host, 0), 0);
    assert_int_equal(kvm_vcpu_open(&vcpu, &vm, 0), 0);
    assert_int_equal(kvm_vcpu_run(&vcpu, &exit), -ENOEXEC);
    kvm_vcpu_close(&vcpu);
    kvm_vm_close(&vm);
    kvm_host_close(&host);
}

static void addresses_have_as_many_bits_as_were_asked_for(void **state)
{
    (void)state;
    struct kvm_host host;
    struct kvm_vm vm;
    assert_int_equal(kvm_host_open(&host, NULL, KVM_HOST_PATH), 0);
    int bits = kvm_host_check(&host, KVM_CAP_ARM_VM_IPA_SIZE);
    assert_true(bits >= 32);
    assert_int_equal(kvm_vm_open(&vm, &host, (unsigned)bits), 0);
    kvm_vm_close(&vm);
    assert_int_equal(kvm_vm_open(&vm, &host, (unsigned)bits + 1), -ENOTSUP);
    kvm_vm_close(&vm);
    kvm_host_close(&host);
}

static void a_wire_reaches_the_guest(void **state)
{
    (void)state;
    struct kvm_rig rig;
    struct kvm_arm64_gic gic;
    rig_open(&rig, RIG_INTERRUPTS);
    RIG_LOAD(&rig, interrupts);
    rig_gic_open(&rig, &gic);
    rig_gic_enable(&gic);
    print_message("GICv%u\n", gic.version);
    uint32_t number = kvm_arm64_irq_number(KVM_ARM64_IRQ_SHARED, 0, RIG_INTERRUPT);
    assert_int_equal(kvm_irq_line(&rig.vm, number, true), 0);
    assert_int_equal(rig_report(&rig), HANDLER_MARK + RIG_INTERRUPT);
    kvm_arm64_gic_close(&gic);
    rig_close(&rig);
}

static void an_eventfd_raises_what_its_gsi_is_routed_to(void **state)
{
    (void)state;
    struct kvm_rig rig;
    struct kvm_arm64_gic gic;
    rig_open(&rig, RIG_INTERRUPTS);
    RIG_LOAD(&rig, interrupts);
    rig_gic_open(&rig, &gic);
    rig_gic_enable(&gic);
    struct kvm_routes *routes = calloc(1, sizeof(*routes));
    kvm_routes_init(routes);
    assert_int_equal(kvm_routes_add_pin(routes, 5, 0, RIG_INTERRUPT - 32), 0);
    assert_int_equal(kvm_routes_commit(&rig.vm, routes), 0);
    int handle = eventfd(0, EFD_CLOEXEC);
    assert_int_equal(kvm_irq_bind(&rig.vm, 5, handle, -1), 0);
    const uint64_t one = 1;
    assert_int_equal(write(handle, &one, sizeof(one)), sizeof(one));
    assert_int_equal(rig_report(&rig), HANDLER_MARK + RIG_INTERRUPT);
    assert_int_equal(kvm_irq_unbind(&rig.vm, 5, handle), 0);
    close(handle);
    free(routes);
    kvm_arm64_gic_close(&gic);
    rig_close(&rig);
}

/* A machine is saved in the middle of a program with an interrupt on its way, and another one goes on. */
static void a_restored_processor_goes_on_where_the_saved_one_stood(void **state)
{
    (void)state;
    static struct kvm_arm64_reg_list list;
    static uint8_t vcpu_bytes[KVM_ARM64_VCPU_STATE_BYTES_MAX], gic_bytes[KVM_ARM64_GIC_STATE_BYTES_MAX(1)];
    struct state_writer vcpu_state = {.bytes = vcpu_bytes, .size = sizeof(vcpu_bytes)};
    struct state_writer gic_state = {.bytes = gic_bytes, .size = sizeof(gic_bytes)};
    struct kvm_rig rig, next;
    struct kvm_arm64_gic gic, next_gic;
    struct kvm_exit exit;
    uint64_t affinity;
    rig_open(&rig, RIG_INTERRUPTS);
    RIG_LOAD(&rig, state);
    rig_gic_open(&rig, &gic);
    rig_gic_enable(&gic);
    assert_int_equal(rig_report(&rig), 0x4444);
    uint32_t number = kvm_arm64_irq_number(KVM_ARM64_IRQ_SHARED, 0, RIG_INTERRUPT);
    assert_int_equal(kvm_irq_line(&rig.vm, number, true), 0);
    assert_int_equal(kvm_vcpu_complete(&rig.vcpu, &exit), 0);
    assert_int_equal(kvm_arm64_vcpu_affinity(&rig.vcpu, &affinity), 0);
    assert_int_equal(kvm_arm64_vcpu_save(&rig.vcpu, &list, &vcpu_state), 0);
    assert_int_equal(kvm_arm64_gic_save(&gic, &affinity, &gic_state), 0);
    print_message("state: %zu bytes of a processor, %zu of the GIC\n", vcpu_state.used, gic_state.used);

    rig_open(&next, RIG_INTERRUPTS);
    rig_gic_open(&next, &next_gic);
    memcpy(next.memory, rig.memory, RIG_MEMORY_BYTES);
    kvm_arm64_gic_close(&gic);
    rig_close(&rig);
    struct state_reader vcpu_reader = {.bytes = vcpu_bytes, .size = vcpu_state.used};
    struct state_reader gic_reader = {.bytes = gic_bytes, .size = gic_state.used};
    assert_int_equal(kvm_arm64_vcpu_restore(&next.vcpu, &vcpu_reader), 0);
    assert_int_equal(kvm_arm64_gic_restore(&next_gic, &gic_reader), 0);
    assert_int_equal(rig_report(&next), 0x1111);
    assert_int_equal(rig_report(&next), 0x2222);
    assert_int_equal(rig_report(&next), 0x3333);
    assert_int_equal(rig_report(&next), HANDLER_MARK + RIG_INTERRUPT);
    kvm_arm64_gic_close(&next_gic);
    rig_close(&next);
}

/* Registers of the ITS, and what a guest writes to use it (GIC architecture, 12.19). */
enum { GITS_CTLR = 0, GITS_CBASER = 0x80, GITS_BASER = 0x100 };
#define GITS_ENABLED 1u
#define GITS_VALID (1ull << 63)

static void its_set(const struct kvm_arm64_gic *gic, uint64_t offset, uint64_t value)
{
    assert_int_equal(kvm_device_set(gic->vm, gic->its_handle, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, offset, &value), 0);
}

static uint64_t its_get(const struct kvm_arm64_gic *gic, uint64_t offset)
{
    uint64_t value = 0;
    assert_int_equal(kvm_device_get(gic->vm, gic->its_handle, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, offset, &value), 0);
    return value;
}

static void a_gic_can_have_an_its(void **state)
{
    (void)state;
    struct kvm_rig rig;
    struct kvm_arm64_gic gic;
    rig_open(&rig, RIG_INTERRUPTS);
    const struct kvm_arm64_gic_config config = {
        .version = 3,
        .interrupts = 256,
        .processors = 1,
        .distributor = 0x08000000,
        .redistributors = 0x080a0000,
        .its = 0x08080000,
    };
    if (!kvm_arm64_gic_possible(&rig.vm, 3)) {
        rig_close(&rig);
        print_message("this KVM has no GICv3\n");
        skip();
    }
    assert_int_equal(kvm_arm64_gic_open(&gic, &rig.vm, &config), 0);
    static uint8_t bytes[KVM_ARM64_GIC_STATE_BYTES_MAX(1)];
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};
    uint64_t affinity;
    assert_int_equal(kvm_arm64_vcpu_affinity(&rig.vcpu, &affinity), 0);
    assert_int_equal(kvm_arm64_gic_save(&gic, &affinity, &writer), 0);
    struct kvm_rig next;
    struct kvm_arm64_gic next_gic;
    rig_open(&next, RIG_INTERRUPTS);
    assert_int_equal(kvm_arm64_gic_open(&next_gic, &next.vm, &config), 0);
    struct state_reader reader = {.bytes = bytes, .size = writer.used};
    assert_int_equal(kvm_arm64_gic_restore(&next_gic, &reader), 0);
    kvm_arm64_gic_close(&next_gic);
    rig_close(&next);

    /* A guest has given it tables and a queue of commands, and enabled it; then the machine is reset. */
    its_set(&gic, GITS_BASER, GITS_VALID);
    its_set(&gic, GITS_BASER + 8, GITS_VALID);
    its_set(&gic, GITS_CBASER, GITS_VALID);
    its_set(&gic, GITS_CTLR, GITS_ENABLED);
    assert_int_equal(its_get(&gic, GITS_CTLR) & GITS_ENABLED, GITS_ENABLED);
    reader = (struct state_reader){.bytes = bytes, .size = writer.used};
    assert_int_equal(kvm_arm64_gic_restore(&gic, &reader), 0);
    assert_int_equal(its_get(&gic, GITS_CTLR) & GITS_ENABLED, 0);
    kvm_arm64_gic_close(&gic);
    rig_close(&rig);
}

int main(void)
{
    if (rig_skip())
        return 0;
    alarm(TEST_TIMEOUT_S);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_guest_powers_itself_off),
        cmocka_unit_test(the_guest_resets_itself),
        cmocka_unit_test(a_processor_that_was_not_initialised_does_not_run),
        cmocka_unit_test(addresses_have_as_many_bits_as_were_asked_for),
        cmocka_unit_test(a_wire_reaches_the_guest),
        cmocka_unit_test(an_eventfd_raises_what_its_gsi_is_routed_to),
        cmocka_unit_test(a_restored_processor_goes_on_where_the_saved_one_stood),
        cmocka_unit_test(a_gic_can_have_an_its),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
