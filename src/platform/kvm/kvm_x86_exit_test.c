/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Real guests of a few instructions on the host's KVM: what only x86-64 has. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "platform/kvm/kvm_test_rig.h"
#include "platform/kvm/kvm_x86.h"

#define TEST_TIMEOUT_S 240

GUEST(mmio_wide);
GUEST(pio);
GUEST(pio_string);
GUEST(hlt);
GUEST(shutdown);
GUEST(interrupts);
GUEST(state);

#define HANDLER_MARK 0x1000u
#define MESSAGE_ADDRESS 0xfee00000u
#define VECTOR 0x41u

static void ports_of_every_size(void **state)
{
    (void)state;
    struct kvm_rig rig;
    struct kvm_exit exit;
    rig_open(&rig, 0);
    RIG_LOAD(&rig, pio);
    assert_int_equal(rig_access(&rig, KVM_CAUSE_PIO, 0x20, 1, true, &exit), 0x11);
    assert_int_equal(rig_access(&rig, KVM_CAUSE_PIO, 0x20, 2, true, &exit), 0x2211);
    assert_int_equal(rig_access(&rig, KVM_CAUSE_PIO, 0x20, 4, true, &exit), 0x44332211);
    rig_access(&rig, KVM_CAUSE_PIO, 0x20, 1, false, &exit);
    kvm_access_answer(&exit.access, 0, 0xaabbccdd);
    assert_int_equal(rig_report(&rig), 0xdd);
    rig_access(&rig, KVM_CAUSE_PIO, 0x20, 2, false, &exit);
    kvm_access_answer(&exit.access, 0, 0xaabbccdd);
    assert_int_equal(rig_report(&rig), 0xccdd);
    rig_access(&rig, KVM_CAUSE_PIO, 0x20, 4, false, &exit);
    kvm_access_answer(&exit.access, 0, 0xaabbccdd);
    assert_int_equal(rig_report(&rig), 0xaabbccdd);
    rig_close(&rig);
}

static void strings_come_with_their_count(void **state)
{
    (void)state;
    struct kvm_rig rig;
    struct kvm_exit exit;
    rig_open(&rig, 0);
    RIG_LOAD(&rig, pio_string);
    uint32_t done = 0;
    while (done < 10) {
        rig_run(&rig, KVM_CAUSE_PIO, &exit);
        assert_true(exit.access.is_write);
        assert_int_equal(exit.access.size, 1);
        for (uint32_t i = 0; i < exit.access.count; i++)
            assert_int_equal(kvm_access_value(&exit.access, i), '0' + done++);
    }
    assert_int_equal(done, 10);
    for (done = 0; done < 8;) {
        rig_run(&rig, KVM_CAUSE_PIO, &exit);
        assert_false(exit.access.is_write);
        assert_int_equal(exit.access.size, 2);
        for (uint32_t i = 0; i < exit.access.count; i++)
            kvm_access_answer(&exit.access, i, 0x100 + done++);
    }
    rig_report(&rig);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(get_le16(rig.memory + 0x5000 + (size_t)i * 2), 0x100 + i);
    rig_close(&rig);
}

static void a_wide_read_comes_in_pieces_and_is_completed(void **state)
{
    (void)state;
    struct kvm_rig rig;
    struct kvm_exit exit;
    rig_open(&rig, 0);
    RIG_LOAD(&rig, mmio_wide);
    rig_access(&rig, KVM_CAUSE_MMIO, RIG_MMIO, 8, false, &exit);
    kvm_access_answer(&exit.access, 0, 0x1234);
    assert_int_equal(kvm_vcpu_complete(&rig.vcpu, &exit), -EBUSY);
    assert_int_equal(exit.access.address, RIG_MMIO + 8);
    kvm_access_answer(&exit.access, 0, 0);
    assert_int_equal(kvm_vcpu_complete(&rig.vcpu, &exit), 0);
    struct kvm_regs regs;
    assert_int_equal(kvm_x86_regs_get(&rig.vcpu, &regs), 0);
    assert_int_equal(regs.rip, RIG_CODE + 9); /* past mov and movdqu, and no further */
    assert_int_equal(rig_report(&rig), 0x1234);
    rig_close(&rig);
}

static void without_interrupts_hlt_is_an_exit(void **state)
{
    (void)state;
    struct kvm_rig rig;
    struct kvm_exit exit;
    rig_open(&rig, 0);
    RIG_LOAD(&rig, hlt);
    rig_run(&rig, KVM_CAUSE_HLT, &exit);
    rig_close(&rig);
}

static void a_triple_fault_is_a_shutdown(void **state)
{
    (void)state;
    struct kvm_rig rig;
    struct kvm_exit exit;
    rig_open(&rig, 0);
    RIG_LOAD(&rig, shutdown);
    rig_run(&rig, KVM_CAUSE_SHUTDOWN, &exit);
    rig_close(&rig);
}

static void a_step_is_one_instruction(void **state)
{
    (void)state;
    struct kvm_rig rig;
    struct kvm_exit exit;
    rig_open(&rig, 0);
    RIG_LOAD(&rig, mmio_wide);
    assert_int_equal(kvm_vcpu_debug_step(&rig.vcpu, true), 0);
    rig_run(&rig, KVM_CAUSE_DEBUG, &exit);
    assert_int_equal(exit.debug.pc, RIG_CODE + 5);
    assert_int_equal(exit.debug.exception, 1);
    assert_int_equal(kvm_vcpu_debug_step(&rig.vcpu, false), 0);
    rig_access(&rig, KVM_CAUSE_MMIO, RIG_MMIO, 8, false, &exit);
    rig_close(&rig);
}

static void a_message_reaches_the_guest(void **state)
{
    (void)state;
    struct kvm_rig rig;
    rig_open(&rig, RIG_INTERRUPTS);
    RIG_LOAD(&rig, interrupts);
    assert_int_equal(kvm_irq_message(&rig.vm, MESSAGE_ADDRESS, VECTOR, NULL), 1);
    assert_int_equal(rig_report(&rig), HANDLER_MARK);
    assert_int_equal(kvm_irq_message(&rig.vm, MESSAGE_ADDRESS, VECTOR, NULL), 1);
    assert_int_equal(rig_report(&rig), HANDLER_MARK); /* after its end of interrupt */
    rig_close(&rig);
}

static void ring(int handle)
{
    const uint64_t one = 1;
    assert_int_equal(write(handle, &one, sizeof(one)), sizeof(one));
}

static void an_eventfd_raises_what_its_gsi_is_routed_to(void **state)
{
    (void)state;
    struct kvm_rig rig;
    rig_open(&rig, RIG_INTERRUPTS);
    RIG_LOAD(&rig, interrupts);
    struct kvm_routes *routes = calloc(1, sizeof(*routes));
    assert_non_null(routes);
    kvm_routes_init(routes);
    assert_int_equal(kvm_routes_add_default(routes, 24), 0);
    assert_int_equal(kvm_routes_set_message(routes, 24, MESSAGE_ADDRESS, VECTOR, NULL), 0);
    assert_int_equal(kvm_routes_commit(&rig.vm, routes), 0);
    int handle = eventfd(0, EFD_CLOEXEC);
    assert_int_equal(kvm_irq_bind(&rig.vm, 24, handle, -1), 0);
    assert_int_equal(kvm_irq_bind(&rig.vm, 24, handle, -1), -EBUSY);
    ring(handle);
    assert_int_equal(rig_report(&rig), HANDLER_MARK);

    /* Routed to nothing it raises nothing; the direct message shows that the guest would have heard. */
    kvm_routes_remove(routes, 24);
    assert_int_equal(kvm_routes_commit(&rig.vm, routes), 0);
    ring(handle);
    struct kvm_exit exit;
    kvm_vcpu_interrupt(&rig.vcpu);
    rig_run(&rig, KVM_CAUSE_INTERRUPTED, &exit);
    struct kvm_lapic_state lapic;
    assert_int_equal(kvm_x86_lapic_get(&rig.vcpu, &lapic), 0);
    assert_int_equal(get_le32(lapic.regs + 0x200 + 0x20), 0); /* no vector 0x40 to 0x5f is requested */
    assert_int_equal(kvm_irq_unbind(&rig.vm, 24, handle), 0);
    close(handle);
    free(routes);
    rig_close(&rig);
}

/* Write one 32-bit register of the I/O APIC's table, through its state. */
static void set_ioapic_entry(struct kvm_rig *rig, unsigned pin, uint64_t entry)
{
    struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
    assert_int_equal(kvm_ioctl(rig->host.system, rig->vm.handle, KVM_GET_IRQCHIP, &chip), 0);
    chip.chip.ioapic.redirtbl[pin].bits = entry;
    assert_int_equal(kvm_ioctl(rig->host.system, rig->vm.handle, KVM_SET_IRQCHIP, &chip), 0);
}

static void a_level_is_lowered_by_the_guest_and_told(void **state)
{
    (void)state;
    struct kvm_rig rig;
    rig_open(&rig, RIG_INTERRUPTS);
    RIG_LOAD(&rig, interrupts);
    set_ioapic_entry(&rig, 20, VECTOR | 1u << 15); /* level-triggered, to processor 0 */
    int handle = eventfd(0, EFD_CLOEXEC), resample = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_int_equal(kvm_irq_bind(&rig.vm, 20, handle, resample), 0);
    uint64_t count = 0;
    ring(handle);
    assert_int_equal(rig_report(&rig), HANDLER_MARK);
    assert_int_equal(read(resample, &count, sizeof(count)), -1);
    /* The handler's end of interrupt is told; something else makes the guest come back after it. */
    assert_int_equal(kvm_irq_message(&rig.vm, MESSAGE_ADDRESS, VECTOR + 1, NULL), 1);
    assert_int_equal(rig_report(&rig), HANDLER_MARK);
    assert_int_equal(read(resample, &count, sizeof(count)), sizeof(count));
    assert_int_equal(count, 1);
    ring(handle); /* it is still wanted */
    assert_int_equal(rig_report(&rig), HANDLER_MARK);
    assert_int_equal(kvm_irq_unbind(&rig.vm, 20, handle), 0);
    close(handle);
    close(resample);
    rig_close(&rig);
}

static void a_wire_reaches_the_guest(void **state)
{
    (void)state;
    struct kvm_rig rig;
    rig_open(&rig, RIG_INTERRUPTS);
    RIG_LOAD(&rig, interrupts);
    set_ioapic_entry(&rig, 20, VECTOR);
    assert_int_equal(kvm_irq_line(&rig.vm, 20, true), 0);
    assert_int_equal(rig_report(&rig), HANDLER_MARK);
    assert_int_equal(kvm_irq_line(&rig.vm, 20, false), 0);
    rig_close(&rig);
}

static void the_timer_and_a_split_controller_can_be_made(void **state)
{
    (void)state;
    struct kvm_rig rig;
    rig_open(&rig, RIG_INTERRUPTS);
    assert_int_equal(kvm_x86_pit_open(&rig.vm, true), 0);
    rig_close(&rig);
    struct kvm_host host;
    struct kvm_vm vm;
    assert_int_equal(kvm_host_open(&host, NULL, KVM_HOST_PATH), 0);
    assert_int_equal(kvm_vm_open(&vm, &host, 0), 0);
    assert_int_equal(kvm_x86_irqchip_open_split(&vm, 24), 0);
    kvm_vm_close(&vm);
    kvm_host_close(&host);
}

/* A machine is saved in the middle of a program with a message on its way, and another one goes on. */
static void a_restored_processor_goes_on_where_the_saved_one_stood(void **state)
{
    (void)state;
    static struct kvm_x86_msr_list msrs;
    static uint8_t vcpu_bytes[KVM_X86_VCPU_STATE_BYTES_MAX], vm_bytes[KVM_X86_VM_STATE_BYTES_MAX];
    struct state_writer vcpu_state = {.bytes = vcpu_bytes, .size = sizeof(vcpu_bytes)};
    struct state_writer vm_state = {.bytes = vm_bytes, .size = sizeof(vm_bytes)};
    struct kvm_rig rig, next;
    struct kvm_exit exit;
    rig_open(&rig, RIG_INTERRUPTS);
    assert_int_equal(kvm_x86_pit_open(&rig.vm, true), 0);
    RIG_LOAD(&rig, state);
    assert_int_equal(rig_report(&rig), 0x4444);
    assert_int_equal(kvm_irq_message(&rig.vm, MESSAGE_ADDRESS, VECTOR, NULL), 1);
    assert_int_equal(kvm_vcpu_complete(&rig.vcpu, &exit), 0);
    assert_int_equal(kvm_x86_msr_list(&rig.host, &msrs), 0);
    assert_int_equal(kvm_x86_vcpu_save(&rig.vcpu, &msrs, &vcpu_state), 0);
    assert_int_equal(kvm_x86_vm_save(&rig.vm, &vm_state), 0);
    print_message("state: %zu bytes of a processor, %zu of the VM\n", vcpu_state.used, vm_state.used);

    rig_open(&next, RIG_INTERRUPTS);
    assert_int_equal(kvm_x86_pit_open(&next.vm, true), 0);
    memcpy(next.memory, rig.memory, RIG_MEMORY_BYTES);
    rig_close(&rig);
    struct state_reader vcpu_reader = {.bytes = vcpu_bytes, .size = vcpu_state.used};
    struct state_reader vm_reader = {.bytes = vm_bytes, .size = vm_state.used};
    assert_int_equal(kvm_x86_vm_restore(&next.vm, &vm_reader), 0);
    assert_int_equal(kvm_x86_vcpu_restore(&next.vcpu, &vcpu_reader), 0);
    assert_int_equal(rig_report(&next), 0x1111);
    assert_int_equal(rig_report(&next), 0x2222);
    assert_int_equal(rig_report(&next), 0x3333);
    assert_int_equal(rig_report(&next), 0x4444);
    assert_int_equal(rig_report(&next), HANDLER_MARK);
    rig_close(&next);
}

static void the_clock_goes_on_from_where_it_is_set(void **state)
{
    (void)state;
    struct kvm_rig rig;
    rig_open(&rig, RIG_INTERRUPTS);
    const struct kvm_clock_data set = {.clock = UINT64_C(1000000000000)};
    struct kvm_clock_data now = {0};
    assert_int_equal(kvm_x86_clock_set(&rig.vm, &set), 0);
    assert_int_equal(kvm_x86_clock_get(&rig.vm, &now), 0);
    assert_true(now.clock >= set.clock && now.clock - set.clock < UINT64_C(600000000000));
    assert_int_equal(kvm_x86_clock_was_paused(&rig.vcpu), 0);
    assert_true(kvm_x86_tsc_khz_get(&rig.vcpu) > 0);
    rig_close(&rig);
}

int main(void)
{
    if (rig_skip())
        return 0;
    alarm(TEST_TIMEOUT_S);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ports_of_every_size),
        cmocka_unit_test(strings_come_with_their_count),
        cmocka_unit_test(a_wide_read_comes_in_pieces_and_is_completed),
        cmocka_unit_test(without_interrupts_hlt_is_an_exit),
        cmocka_unit_test(a_triple_fault_is_a_shutdown),
        cmocka_unit_test(a_step_is_one_instruction),
        cmocka_unit_test(a_message_reaches_the_guest),
        cmocka_unit_test(an_eventfd_raises_what_its_gsi_is_routed_to),
        cmocka_unit_test(a_level_is_lowered_by_the_guest_and_told),
        cmocka_unit_test(a_wire_reaches_the_guest),
        cmocka_unit_test(the_timer_and_a_split_controller_can_be_made),
        cmocka_unit_test(a_restored_processor_goes_on_where_the_saved_one_stood),
        cmocka_unit_test(the_clock_goes_on_from_where_it_is_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
