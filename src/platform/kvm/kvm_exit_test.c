/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Real guests of a few instructions on the host's KVM: what is the same on every architecture. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "platform/kvm/kvm_dirty.h"
#include "platform/kvm/kvm_test_rig.h"
#include "platform/kvm/kvm_whole.h"

/* A test whose guest hangs is ended by the kernel; far more than the slowest emulation takes. */
#define TEST_TIMEOUT_S 240

GUEST(mmio_writes);
GUEST(mmio_reads);
GUEST(doorbell);
GUEST(coalesced);
GUEST(dirty);
GUEST(windows);
GUEST(read_only);
GUEST(spin);

#define WINDOW_BYTES (512u << 10)

static void every_needed_capability_is_there(void **state)
{
    (void)state;
    struct kvm_host host;
    assert_int_equal(kvm_host_open(&host, NULL, KVM_HOST_PATH), 0);
    assert_null(kvm_host_missing(&host));
    kvm_host_close(&host);
}

static void writes_of_every_size_arrive(void **state)
{
    (void)state;
    struct kvm_rig rig;
    struct kvm_exit exit;
    rig_open(&rig, 0);
    RIG_LOAD(&rig, mmio_writes);
    assert_int_equal(rig_access(&rig, KVM_CAUSE_MMIO, RIG_MMIO, 1, true, &exit), 0x88);
    assert_int_equal(rig_access(&rig, KVM_CAUSE_MMIO, RIG_MMIO + 2, 2, true, &exit), 0x7788);
    assert_int_equal(rig_access(&rig, KVM_CAUSE_MMIO, RIG_MMIO + 4, 4, true, &exit), 0x55667788);
    assert_int_equal(rig_access(&rig, KVM_CAUSE_MMIO, RIG_MMIO + 8, 8, true, &exit), 0x1122334455667788);
#ifdef __x86_64__
    /* What crosses a page comes in two pieces. */
    assert_int_equal(rig_access(&rig, KVM_CAUSE_MMIO, RIG_MMIO + 0xffe, 2, true, &exit), 0x7788);
    assert_int_equal(rig_access(&rig, KVM_CAUSE_MMIO, RIG_MMIO + 0x1000, 2, true, &exit), 0x5566);
#endif
    assert_int_equal(rig_report(&rig), 0x55667788);
    rig_close(&rig);
}

static void reads_of_every_size_get_their_answer(void **state)
{
    (void)state;
    struct kvm_rig rig;
    struct kvm_exit exit;
    rig_open(&rig, 0);
    RIG_LOAD(&rig, mmio_reads);
    for (uint32_t size = 1; size <= 8; size *= 2) {
        uint64_t mask = size == 8 ? UINT64_MAX : (UINT64_C(1) << (8 * size)) - 1;
        rig_access(&rig, KVM_CAUSE_MMIO, RIG_MMIO, size, false, &exit);
        kvm_access_answer(&exit.access, 0, 0xf1f2f3f4f5f6f7f8);
        assert_int_equal(rig_report(&rig), (uint32_t)(0xf1f2f3f4f5f6f7f8 & mask));
    }
    assert_int_equal(rig_report(&rig), 0xf1f2f3f4);
    rig_close(&rig);
}

static int doorbell_handle(void)
{
    int handle = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_true(handle >= 0);
    return handle;
}

/* How often it was rung since it was asked last. */
static uint64_t rings(int handle)
{
    uint64_t count;
    return read(handle, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

/* The guest writes 7 and 8 to MMIO (32 bits), 9 to MMIO + 0x100 (16 and 32 bits), and, on x86-64, 5 to port 0x30. */
static void doorbells_ring_and_cause_no_exit(void **state)
{
    (void)state;
    struct kvm_rig rig;
    struct kvm_exit exit;
    rig_open(&rig, 0);
    RIG_LOAD(&rig, doorbell);
    const struct kvm_doorbell by_value = {
        .address = RIG_MMIO, .size = 4, .by_value = true, .value = 7, .handle = doorbell_handle()};
    const struct kvm_doorbell any = {.address = RIG_MMIO + 0x100, .size = 0, .handle = doorbell_handle()};
    assert_int_equal(kvm_vm_doorbell_add(&rig.vm, &by_value), 0);
    assert_int_equal(kvm_vm_doorbell_add(&rig.vm, &by_value), -EEXIST);
    assert_int_equal(kvm_vm_doorbell_add(&rig.vm, &any), 0);
    assert_int_equal(rig_access(&rig, KVM_CAUSE_MMIO, RIG_MMIO, 4, true, &exit), 8);
#ifdef __x86_64__
    const struct kvm_doorbell port = {.address = 0x30, .is_port = true, .size = 1, .handle = doorbell_handle()};
    assert_int_equal(kvm_vm_doorbell_add(&rig.vm, &port), 0);
#endif
    rig_report(&rig);
    assert_int_equal(rings(by_value.handle), 1);
    assert_int_equal(rings(any.handle), 2);
#ifdef __x86_64__
    assert_int_equal(rings(port.handle), 1);
    assert_int_equal(kvm_vm_doorbell_remove(&rig.vm, &port), 0);
    close(port.handle);
#endif
    /* Once removed, writes are exits again. */
    assert_int_equal(kvm_vm_doorbell_remove(&rig.vm, &by_value), 0);
    assert_int_equal(kvm_vm_doorbell_remove(&rig.vm, &by_value), -ENOENT);
    assert_int_equal(kvm_vm_doorbell_remove(&rig.vm, &any), 0);
    assert_int_equal(rig_access(&rig, KVM_CAUSE_MMIO, RIG_MMIO, 4, true, &exit), 7);
    assert_int_equal(rings(by_value.handle), 0);
    close(by_value.handle);
    close(any.handle);
    rig_close(&rig);
}

static void collected_writes_come_out_in_order(void **state)
{
    (void)state;
    struct kvm_rig rig;
    struct kvm_coalesced_write write;
    rig_open(&rig, 0);
    RIG_LOAD(&rig, coalesced);
    assert_false(kvm_vcpu_coalesced_pop(&rig.vcpu, &write));
    assert_int_equal(kvm_vm_coalesce_add(&rig.vm, RIG_MMIO, 0x1000, false), 0);
    rig_report(&rig);
    for (uint32_t i = 0; i < 3; i++) {
        static const uint32_t offsets[] = {0, 2, 4};
        assert_true(kvm_vcpu_coalesced_pop(&rig.vcpu, &write));
        assert_int_equal(write.address, RIG_MMIO + offsets[i]);
        assert_int_equal(write.size, 1u << i);
        assert_int_equal(write.value, i + 1);
        assert_false(write.is_port);
    }
    assert_false(kvm_vcpu_coalesced_pop(&rig.vcpu, &write));
    assert_int_equal(kvm_vm_coalesce_remove(&rig.vm, RIG_MMIO, 0x1000, false), 0);
    RIG_LOAD(&rig, coalesced);
    struct kvm_exit exit;
    assert_int_equal(rig_access(&rig, KVM_CAUSE_MMIO, RIG_MMIO, 1, true, &exit), 1);
    rig_close(&rig);
}

/* The guest writes pages 0, 3 and 65 of the window, reports, writes page 1, and reports. */
static void the_log_has_the_pages_that_were_written(void **state)
{
    (void)state;
    struct kvm_rig rig;
    rig_open(&rig, 0);
    RIG_LOAD(&rig, dirty);
    uint8_t *window = rig_memory(WINDOW_BYTES);
    const struct kvm_slot slot = {
        .number = 1, .address = RIG_WINDOW_A, .bytes = WINDOW_BYTES, .host = window, .log_dirty = true};
    assert_int_equal(kvm_vm_slot_set(&rig.vm, &slot), 0);
    uint64_t bits[2];
    assert_int_equal(kvm_dirty_log_bytes(WINDOW_BYTES, 4096), sizeof(bits));
    rig_report(&rig);
    assert_int_equal(kvm_dirty_log_get(&rig.vm, 1, bits), 0);
    assert_int_equal(bits[0], 9);
    assert_int_equal(bits[1], 2);
    rig_report(&rig);
    assert_int_equal(kvm_dirty_log_get(&rig.vm, 1, bits), 0);
    assert_int_equal(bits[0], 2);
    assert_int_equal(bits[1], 0);
    assert_int_equal(kvm_dirty_log_get(&rig.vm, 0, bits), -ENOENT);
    rig_close(&rig);
    rig_memory_free(window, WINDOW_BYTES);
}

static void a_manual_log_forgets_what_it_is_told_to(void **state)
{
    (void)state;
    struct kvm_rig rig;
    rig_open(&rig, 0);
    RIG_LOAD(&rig, dirty);
    assert_int_equal(kvm_dirty_log_manual(&rig.vm), 0);
    uint8_t *window = rig_memory(WINDOW_BYTES);
    const struct kvm_slot slot = {
        .number = 1, .address = RIG_WINDOW_A, .bytes = WINDOW_BYTES, .host = window, .log_dirty = true};
    assert_int_equal(kvm_vm_slot_set(&rig.vm, &slot), 0);
    uint64_t bits[2], forget[1] = {1};
    rig_report(&rig);
    assert_int_equal(kvm_dirty_log_get(&rig.vm, 1, bits), 0);
    assert_int_equal(bits[0], 9);
    assert_int_equal(kvm_dirty_log_clear(&rig.vm, 1, 0, 64, forget), 0);
    assert_int_equal(kvm_dirty_log_get(&rig.vm, 1, bits), 0);
    assert_int_equal(bits[0], 8);
    assert_int_equal(bits[1], 2);
    rig_close(&rig);
    rig_memory_free(window, WINDOW_BYTES);
}

static bool has_rings(void)
{
    struct kvm_host host;
    struct kvm_vm vm;
    assert_int_equal(kvm_host_open(&host, NULL, KVM_HOST_PATH), 0);
    assert_int_equal(kvm_vm_open(&vm, &host, 0), 0);
    int r = kvm_dirty_ring_enable(&vm, 65536);
    kvm_vm_close(&vm);
    kvm_host_close(&host);
    return r != -ENOTSUP;
}

static void the_ring_has_the_pages_that_were_written(void **state)
{
    (void)state;
    if (!has_rings()) {
        print_message("this KVM has no dirty ring\n");
        skip();
    }
    struct kvm_rig rig;
    rig_open(&rig, RIG_DIRTY_RING);
    RIG_LOAD(&rig, dirty);
    uint8_t *window = rig_memory(WINDOW_BYTES);
    const struct kvm_slot slot = {
        .number = 1, .address = RIG_WINDOW_A, .bytes = WINDOW_BYTES, .host = window, .log_dirty = true};
    assert_int_equal(kvm_vm_slot_set(&rig.vm, &slot), 0);
    uint32_t number;
    uint64_t page;
    assert_false(kvm_dirty_ring_pop(&rig.vcpu, &number, &page));
    static const uint64_t first[] = {0, 3, 0x41};
    rig_report(&rig);
    for (size_t i = 0; i < ARRAY_SIZE(first); i++) {
        assert_true(kvm_dirty_ring_pop(&rig.vcpu, &number, &page));
        assert_int_equal(number & 0xffff, 1);
        assert_int_equal(page, first[i]);
    }
    assert_false(kvm_dirty_ring_pop(&rig.vcpu, &number, &page));
    assert_int_equal(kvm_dirty_ring_reset(&rig.vm), 3);
    rig_report(&rig);
    assert_true(kvm_dirty_ring_pop(&rig.vcpu, &number, &page));
    assert_int_equal(page, 1);
    /* What was reset is seen again. */
    rig_report(&rig);
    assert_true(kvm_dirty_ring_pop(&rig.vcpu, &number, &page));
    assert_int_equal(page, 0);
    rig_close(&rig);
    rig_memory_free(window, WINDOW_BYTES);
}

static void a_slot_that_moves_takes_its_bytes_along(void **state)
{
    (void)state;
    struct kvm_rig rig;
    struct kvm_exit exit;
    rig_open(&rig, 0);
    RIG_LOAD(&rig, windows);
    uint8_t *window = rig_memory(WINDOW_BYTES);
    put_le32(window, 0xabcd);
    struct kvm_slot slot = {.number = 1, .address = RIG_WINDOW_A, .bytes = WINDOW_BYTES, .host = window};
    assert_int_equal(kvm_vm_slot_set(&rig.vm, &slot), 0);
    assert_int_equal(rig_report(&rig), 0xabcd);
    rig_access(&rig, KVM_CAUSE_MMIO, RIG_WINDOW_B, 4, false, &exit);
    kvm_access_answer(&exit.access, 0, 1);
    assert_int_equal(rig_report(&rig), 1);

    slot.address = RIG_WINDOW_B;
    assert_int_equal(kvm_vm_slot_set(&rig.vm, &slot), 0);
    rig_access(&rig, KVM_CAUSE_MMIO, RIG_WINDOW_A, 4, false, &exit);
    kvm_access_answer(&exit.access, 0, 2);
    assert_int_equal(rig_report(&rig), 2);
    assert_int_equal(rig_report(&rig), 0xabcd);

    assert_int_equal(kvm_vm_slot_remove(&rig.vm, 1), 0);
    rig_access(&rig, KVM_CAUSE_MMIO, RIG_WINDOW_A, 4, false, &exit);
    rig_report(&rig);
    rig_access(&rig, KVM_CAUSE_MMIO, RIG_WINDOW_B, 4, false, &exit);
    rig_close(&rig);
    rig_memory_free(window, WINDOW_BYTES);
}

static void slots_that_overlap_or_are_no_pages_are_refused(void **state)
{
    (void)state;
    struct kvm_rig rig;
    rig_open(&rig, 0);
    uint8_t *window = rig_memory(WINDOW_BYTES);
    struct kvm_slot slot = {.number = 1, .address = RIG_MEMORY_BYTES - 4096, .bytes = WINDOW_BYTES, .host = window};
    assert_int_equal(kvm_vm_slot_set(&rig.vm, &slot), -EEXIST);
    slot.address = RIG_WINDOW_A + 1;
    assert_int_equal(kvm_vm_slot_set(&rig.vm, &slot), -EINVAL);
    slot.address = RIG_WINDOW_A;
    slot.number = kvm_vm_slots_max(&rig.vm);
    assert_int_equal(kvm_vm_slot_set(&rig.vm, &slot), -EINVAL);
    rig_close(&rig);
    rig_memory_free(window, WINDOW_BYTES);
}

static void writes_to_a_read_only_slot_are_exits(void **state)
{
    (void)state;
    struct kvm_rig rig;
    struct kvm_exit exit;
    rig_open(&rig, 0);
    RIG_LOAD(&rig, read_only);
    uint8_t *window = rig_memory(WINDOW_BYTES);
    put_le32(window, 0x77);
    const struct kvm_slot slot = {
        .number = 1, .address = RIG_WINDOW_A, .bytes = WINDOW_BYTES, .host = window, .read_only = true};
    assert_int_equal(kvm_vm_slot_set(&rig.vm, &slot), 0);
    assert_int_equal(rig_report(&rig), 0x77);
    assert_int_equal(rig_access(&rig, KVM_CAUSE_MMIO, RIG_WINDOW_A, 4, true, &exit), 0x99);
    assert_int_equal(rig_report(&rig), 0x77);
    rig_close(&rig);
    rig_memory_free(window, WINDOW_BYTES);
}

static void asked_before_it_runs_it_comes_back_at_once(void **state)
{
    (void)state;
    struct kvm_rig rig;
    struct kvm_exit exit;
    rig_open(&rig, 0);
    RIG_LOAD(&rig, mmio_reads);
    kvm_vcpu_interrupt(&rig.vcpu);
    rig_run(&rig, KVM_CAUSE_INTERRUPTED, &exit);
    rig_access(&rig, KVM_CAUSE_MMIO, RIG_MMIO, 1, false, &exit); /* once only */
    kvm_access_answer(&exit.access, 0, 0x42);
    assert_int_equal(kvm_vcpu_complete(&rig.vcpu, &exit), 0);
    assert_int_equal(rig_report(&rig), 0x42); /* the answer was not lost */
    rig_close(&rig);
}

struct kicked {
    struct kvm_rig *rig;
    pthread_t thread;
    uint32_t *counter;
};

static void *kick_once_it_runs(void *context)
{
    struct kicked *kicked = context;
    while (__atomic_load_n(kicked->counter, __ATOMIC_RELAXED) == 0)
        cpu_relax();
    assert_int_equal(kvm_vcpu_kick(&kicked->rig->vcpu, kicked->thread, SIGUSR1), 0);
    return NULL;
}

static void a_kick_ends_a_guest_that_never_exits(void **state)
{
    (void)state;
    struct kvm_rig rig;
    struct kvm_exit exit;
    rig_open(&rig, 0);
    RIG_LOAD(&rig, spin);
    uint8_t *window = rig_memory(WINDOW_BYTES);
    const struct kvm_slot slot = {.number = 1, .address = RIG_WINDOW_A, .bytes = WINDOW_BYTES, .host = window};
    assert_int_equal(kvm_vm_slot_set(&rig.vm, &slot), 0);
    assert_int_equal(kvm_kick_prepare(SIGUSR1), 0);
    struct kicked kicked = {&rig, pthread_self(), (uint32_t *)(void *)window};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, kick_once_it_runs, &kicked), 0);
    rig_run(&rig, KVM_CAUSE_INTERRUPTED, &exit);
    pthread_join(thread, NULL);
    rig_close(&rig);
    rig_memory_free(window, WINDOW_BYTES);
}

static void a_signal_that_only_the_guest_lets_through_ends_it_and_stays(void **state)
{
    (void)state;
    struct kvm_rig rig;
    struct kvm_exit exit;
    rig_open(&rig, 0);
    RIG_LOAD(&rig, spin);
    uint8_t *window = rig_memory(WINDOW_BYTES);
    const struct kvm_slot slot = {.number = 1, .address = RIG_WINDOW_A, .bytes = WINDOW_BYTES, .host = window};
    assert_int_equal(kvm_vm_slot_set(&rig.vm, &slot), 0);
    sigset_t mine, before, none;
    sigemptyset(&none);
    sigemptyset(&mine);
    sigaddset(&mine, SIGUSR2); /* without a handler it would end the process */
    pthread_sigmask(SIG_BLOCK, &mine, &before);
    assert_int_equal(kvm_vcpu_set_signals(&rig.vcpu, &none), 0);
    assert_int_equal(pthread_kill(pthread_self(), SIGUSR2), 0);
    rig_run(&rig, KVM_CAUSE_INTERRUPTED, &exit);
    const struct timespec now = {0};
    assert_int_equal(sigtimedwait(&mine, NULL, &now), SIGUSR2);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    rig_close(&rig);
    rig_memory_free(window, WINDOW_BYTES);
}

static void an_index_that_is_taken_is_refused(void **state)
{
    (void)state;
    struct kvm_rig rig;
    struct kvm_vcpu again;
    rig_open(&rig, 0);
    assert_int_equal(kvm_vcpu_open(&again, &rig.vm, 0), -EEXIST);
    kvm_vcpu_close(&again); /* of one that failed */
    rig_close(&rig);
}

static void a_trial_answers_with_a_reason_or_without(void **state)
{
    (void)state;
    char reason[KVM_WHOLE_REASON_BYTES] = "";
    int whole = kvm_whole_try_path(KVM_HOST_PATH, reason, sizeof(reason));
    print_message("whole: %d %s\n", whole, reason);
    assert_int_equal(whole, reason[0] == '\0');
}

int main(void)
{
    if (rig_skip())
        return 0;
    alarm(TEST_TIMEOUT_S);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_needed_capability_is_there),
        cmocka_unit_test(writes_of_every_size_arrive),
        cmocka_unit_test(reads_of_every_size_get_their_answer),
        cmocka_unit_test(doorbells_ring_and_cause_no_exit),
        cmocka_unit_test(collected_writes_come_out_in_order),
        cmocka_unit_test(the_log_has_the_pages_that_were_written),
        cmocka_unit_test(a_manual_log_forgets_what_it_is_told_to),
        cmocka_unit_test(the_ring_has_the_pages_that_were_written),
        cmocka_unit_test(a_slot_that_moves_takes_its_bytes_along),
        cmocka_unit_test(slots_that_overlap_or_are_no_pages_are_refused),
        cmocka_unit_test(writes_to_a_read_only_slot_are_exits),
        cmocka_unit_test(asked_before_it_runs_it_comes_back_at_once),
        cmocka_unit_test(a_kick_ends_a_guest_that_never_exits),
        cmocka_unit_test(a_signal_that_only_the_guest_lets_through_ends_it_and_stays),
        cmocka_unit_test(an_index_that_is_taken_is_refused),
        cmocka_unit_test(a_trial_answers_with_a_reason_or_without),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
