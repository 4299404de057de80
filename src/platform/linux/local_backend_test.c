/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A device in this process, driven as a transport does. */
#include "platform/linux/local_test_rig.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void kicks_and_notifications_go_by_handles(void **state)
{
    (void)state;
    struct machine *machine = plug(given_rng());
    assert_int_equal(machine->backend->device_id, VIRTIO_ID_ENTROPY);
    assert_int_equal(start(machine, 0, machine->call), 0);
    for (unsigned i = 0; i < 10; i++)
        expect_service(machine, machine->call);
    assert_int_equal(machine->bytes[BUFFER_ADDRESS - GUEST_BASE], 7);
    assert_false(is_signalled(machine->notified));
    finish(machine);
}

static void without_a_handle_the_listener_is_told(void **state)
{
    (void)state;
    struct machine *machine = plug(given_rng());
    assert_int_equal(start(machine, 0, -1), 0);
    offer_buffer(machine, BUFFER_ADDRESS);
    machine->backend->class->queue_kick(machine->backend, 0);
    expect_signal(machine->notified);
    expect_used(machine, 16);
    finish(machine);
}

static void notify_by(struct machine *machine, int handle)
{
    pthread_mutex_lock(&machine->lock);
    assert_int_equal(machine->backend->class->queue_notify_by(machine->backend, 0, handle), 0);
    pthread_mutex_unlock(&machine->lock);
}

static void notifications_go_where_they_were_sent_last(void **state)
{
    (void)state;
    struct machine *machine = plug(given_rng());
    int other = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_int_equal(start(machine, 0, machine->call), 0);
    expect_service(machine, machine->call);
    notify_by(machine, other);
    expect_service(machine, other);
    notify_by(machine, -1);
    close(other); /* it was borrowed until then */
    expect_service(machine, machine->notified);
    notify_by(machine, machine->call);
    assert_false(is_signalled(machine->call)); /* nothing was missed: the listener has heard it */
    expect_service(machine, machine->call);
    finish(machine);
}

static void a_handle_that_cannot_be_signalled_is_refused(void **state)
{
    (void)state;
    struct machine *machine = plug(given_rng());
    char path[] = "/tmp/backplane-XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    unlink(path);
    assert_int_equal(start(machine, 0, file), -EPERM);
    close(file);
    assert_int_equal(start(machine, 0, machine->call), 0);
    expect_service(machine, machine->call);
    finish(machine);
}

static void a_ring_that_is_not_there_is_refused(void **state)
{
    (void)state;
    struct machine *machine = plug(given_rng());
    struct virtqueue_config config = fake_driver_config(&machine->driver, VIRTIO_F_VERSION_1);
    config.desc_address = MORE_BASE;
    pthread_mutex_lock(&machine->lock);
    assert_int_equal(machine->backend->class->queue_start(machine->backend, 0, &config, machine->call), -EFAULT);
    pthread_mutex_unlock(&machine->lock);
    assert_int_equal(stop(machine), 0);
    assert_int_equal(start(machine, 0, machine->call), 0);
    expect_service(machine, machine->call);
    finish(machine);
}

/* The disk has a read that it keeps. */
static void given_a_read_in_flight(struct machine *machine)
{
    unsigned before = atomic_load(&machine->disk.submitted);
    offer_read(machine);
    kick(machine);
    while (atomic_load(&machine->disk.submitted) == before)
        sched_yield();
}

static void a_stop_waits_for_what_is_in_flight_and_is_told_once(void **state)
{
    (void)state;
    struct machine *machine = plug(given_disk());
    assert_int_equal(start(machine, 0, machine->call), 0);
    given_a_read_in_flight(machine);
    assert_int_equal(stop(machine), -EINPROGRESS);
    assert_int_equal(stop(machine), -EINPROGRESS);
    settle(machine);
    expect_stopped(machine, 0);
    finish_requests(machine);
    expect_stopped(machine, 1);
    expect_signal(machine->call); /* the last one is not lost */
    expect_used(machine, 513);
    assert_int_equal(machine->backend->class->queue_base(machine->backend, 0), 1);
    assert_int_equal(stop(machine), 0);
    settle(machine);
    expect_stopped(machine, 1);
    finish(machine);
}

static void a_stop_that_was_not_heard_of_yet_is_still_under_way(void **state)
{
    (void)state;
    struct machine *machine = plug(given_disk());
    struct server_queue_statistics look;
    assert_int_equal(start(machine, 0, machine->call), 0);
    given_a_read_in_flight(machine);
    assert_int_equal(stop(machine), -EINPROGRESS);
    pthread_mutex_lock(&machine->lock);
    finish_requests(machine);
    expect_signal(machine->call);
    do
        local_backend_look(&machine->local, 0, &look);
    while (look.in_flight > 0);
    /* It has stopped; the control loop waits for the lock to say so. */
    assert_int_equal(machine->backend->class->queue_stop(machine->backend, 0), -EINPROGRESS);
    pthread_mutex_unlock(&machine->lock);
    expect_stopped(machine, 1);
    finish(machine);
}

static void a_queue_goes_on_where_it_stopped(void **state)
{
    (void)state;
    struct machine *machine = plug(given_rng());
    uint32_t base = 0;
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(start(machine, base, i % 2 == 0 ? machine->call : -1), 0);
        expect_service(machine, i % 2 == 0 ? machine->call : machine->notified);
        assert_int_equal(stop(machine), 0);
        base = machine->backend->class->queue_base(machine->backend, 0);
        assert_int_equal(base, i + 1);
    }
    assert_int_equal(atomic_load(&machine->begun), 1); /* one thread for all of them */
    settle(machine);
    expect_stopped(machine, 0);
    finish(machine);
}

static void a_stopped_queue_touches_nothing_though_it_is_kicked(void **state)
{
    (void)state;
    struct machine *machine = plug(given_rng());
    struct server_queue_statistics look;
    assert_int_equal(start(machine, 0, machine->call), 0);
    assert_int_equal(stop(machine), 0);
    offer_buffer(machine, BUFFER_ADDRESS);
    kick(machine);
    pthread_mutex_lock(&machine->lock);
    local_backend_look(&machine->local, 0, &look);
    pthread_mutex_unlock(&machine->lock);
    assert_false(look.running);
    assert_int_equal(look.popped_total, 0);
    assert_int_equal(start(machine, 0, machine->call), 0); /* what was offered meanwhile is served */
    expect_signal(machine->call);
    expect_used(machine, 16);
    finish(machine);
}

static void a_reset_leaves_the_device_as_new(void **state)
{
    (void)state;
    struct machine *machine = plug(given_rng());
    const struct virtio_backend_class *class = machine->backend->class;
    assert_int_equal(class->features(machine->backend), virtio_device_features(&machine->rng.device));
    for (unsigned i = 0; i < 100; i++) {
        pthread_mutex_lock(&machine->lock);
        assert_int_equal(class->set_features(machine->backend, VIRTIO_F_VERSION_1), 0);
        assert_int_equal(class->set_features(machine->backend, UINT64_C(1) << 63), -EINVAL);
        pthread_mutex_unlock(&machine->lock);
        assert_int_equal(start(machine, 0, machine->call), 0);
        expect_service(machine, machine->call);
        assert_int_equal(stop(machine), 0);
        kick(machine); /* a guest may do so at any time */
        assert_int_equal(reset(machine), 0);
        assert_int_equal(machine->rng.device.features, 0);
        assert_int_equal(class->queue_base(machine->backend, 0), 0);
        lay_ring(machine);
    }
    finish(machine);
}

static void a_broken_queue_is_told_once_and_mended_by_a_reset(void **state)
{
    (void)state;
    struct machine *machine = plug(given_rng());
    for (unsigned i = 1; i <= 2; i++) {
        assert_int_equal(start(machine, 0, machine->call), 0);
        offer_a_lie(machine);
        kick(machine);
        expect_broken(machine, i);
        kick(machine);
        assert_int_equal(stop(machine), 0);
        settle(machine);
        expect_broken(machine, i);
        assert_int_equal(reset(machine), 0);
        lay_ring(machine);
        assert_int_equal(start(machine, 0, machine->call), 0);
        expect_service(machine, machine->call);
        assert_int_equal(stop(machine), 0);
        assert_int_equal(reset(machine), 0);
        lay_ring(machine);
    }
    finish(machine);
}

static void what_was_broken_before_a_reset_is_not_told_after_it(void **state)
{
    (void)state;
    struct machine *machine = plug(given_rng());
    const struct virtio_backend_class *class = machine->backend->class;
    struct server_queue_statistics look;
    assert_int_equal(start(machine, 0, machine->call), 0);
    offer_a_lie(machine);
    pthread_mutex_lock(&machine->lock); /* the control loop cannot say it meanwhile */
    kick(machine);
    do
        local_backend_look(&machine->local, 0, &look);
    while (!look.broken);
    assert_int_equal(class->queue_stop(machine->backend, 0), 0);
    assert_int_equal(class->reset(machine->backend), 0);
    pthread_mutex_unlock(&machine->lock);
    settle(machine);
    expect_broken(machine, 0);
    finish(machine);
}

static void set_memory(struct machine *machine, const struct guest_memory *memory)
{
    pthread_mutex_lock(&machine->lock);
    local_backend_set_memory(&machine->local, memory, NULL);
    pthread_mutex_unlock(&machine->lock);
}

static void a_running_queue_finds_memory_that_came_later(void **state)
{
    (void)state;
    struct machine *machine = plug(given_rng());
    const struct guest_region more = {.guest_base = MORE_BASE, .size = MORE_BYTES, .host = machine->more_bytes};
    assert_int_equal(start(machine, 0, machine->call), 0);
    expect_service(machine, machine->call);
    machine->maps[1] = machine->maps[0];
    assert_int_equal(guest_memory_add(&machine->maps[1], &more), 0);
    set_memory(machine, &machine->maps[1]);
    memset(&machine->maps[0], 0xff, sizeof(machine->maps[0])); /* nobody reads that one any more */
    offer_buffer(machine, MORE_BASE);
    kick(machine);
    expect_signal(machine->call);
    expect_used(machine, 16);
    assert_int_equal(machine->more_bytes[15], 7);
    finish(machine);
}

static void requests_in_flight_outlive_an_exchange_of_memory(void **state)
{
    (void)state;
    struct machine *machine = plug(given_disk());
    assert_int_equal(start(machine, 0, machine->call), 0);
    given_a_read_in_flight(machine);
    machine->maps[1] = machine->maps[0];
    set_memory(machine, &machine->maps[1]);
    memset(&machine->maps[0], 0xff, sizeof(machine->maps[0]));
    finish_requests(machine);
    expect_signal(machine->call);
    expect_used(machine, 513);
    finish(machine);
}

static void a_ring_that_is_taken_away_breaks_its_queue(void **state)
{
    (void)state;
    struct machine *machine = plug(given_rng());
    assert_int_equal(start(machine, 0, machine->call), 0);
    set_memory(machine, &machine->maps[1]); /* which has nothing in it */
    expect_broken(machine, 1);
    assert_int_equal(stop(machine), 0);
    set_memory(machine, &machine->maps[0]);
    assert_int_equal(reset(machine), 0);
    lay_ring(machine);
    assert_int_equal(start(machine, 0, machine->call), 0);
    expect_service(machine, machine->call);
    finish(machine);
}

static void a_device_that_was_saved_goes_on_elsewhere(void **state)
{
    (void)state;
    struct machine *first = plug(given_rng());
    struct machine *second = plug(given_rng());
    uint8_t bytes[256];
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};
    assert_int_equal(first->backend->class->set_features(first->backend, VIRTIO_F_VERSION_1), 0);
    assert_int_equal(start(first, 0, first->call), 0);
    expect_service(first, first->call);
    assert_int_equal(stop(first), 0);
    assert_int_equal(first->backend->class->save(first->backend, &writer), 0);
    struct state_reader reader = {.bytes = bytes, .size = writer.used};
    assert_int_equal(second->backend->class->load(second->backend, &reader), 0);
    assert_int_equal(second->rng.device.features, VIRTIO_F_VERSION_1);
    assert_int_equal(second->backend->class->queue_base(second->backend, 0), 1);
    finish(second);
    finish(first);
}

static void a_change_of_the_configuration_reaches_the_listener(void **state)
{
    (void)state;
    struct machine *machine = plug(given_disk());
    const struct virtio_backend_class *class = machine->backend->class;
    uint32_t generation = class->config_generation(machine->backend);
    uint64_t sectors = 0;
    uint8_t byte = 1;
    pthread_mutex_lock(&machine->lock);
    blk_resize(&machine->disk.blk, 4096);
    local_backend_config_changed(&machine->local);
    class->config_read(machine->backend, 0, &sectors, sizeof(sectors));
    assert_int_equal(class->config_write(machine->backend, 0, &byte, 1), -EPERM);
    assert_int_equal(class->config_write(machine->backend, machine->backend->config_bytes, &byte, 1), -EINVAL);
    pthread_mutex_unlock(&machine->lock);
    assert_int_equal(le64_to_cpu(sectors), 8);
    assert_int_not_equal(class->config_generation(machine->backend), generation);
    assert_int_equal(machine->changed, 1);
    finish(machine);
}

static void threads_are_made_when_a_queue_starts_or_all_at_once(void **state)
{
    (void)state;
    struct machine *machine = plug(given_rng());
    assert_int_equal(atomic_load(&machine->begun), 0);
    assert_int_equal(start(machine, 0, machine->call), 0);
    assert_int_equal(atomic_load(&machine->begun), 1);
    finish(machine);

    machine = given_rng();
    machine->options.threads_at_once = true;
    plug(machine);
    assert_int_equal(atomic_load(&machine->begun), 1);
    assert_int_equal(start(machine, 0, machine->call), 0);
    expect_service(machine, machine->call);
    assert_int_equal(atomic_load(&machine->begun), 1);
    finish(machine);
}

static void queues_may_share_a_loop(void **state)
{
    (void)state;
    struct loop shared;
    assert_int_equal(loop_init(&shared), 0);
    assert_int_equal(loop_start_thread(&shared, "shared"), 0);
    struct machine *machine = given_rng();
    machine->options.loop = &shared;
    plug(machine);
    assert_int_equal(start(machine, 0, machine->call), 0);
    expect_service(machine, machine->call);
    assert_int_equal(atomic_load(&machine->begun), 0);
    finish(machine);
    loop_done(&shared);
}

static void what_a_queue_had_to_tell_goes_with_it(void **state)
{
    (void)state;
    struct machine *machine = given_rng();
    struct server_queue_statistics look;
    assert_int_equal(local_backend_open(&machine->local, &machine->options), 0);
    machine->backend = &machine->local.backend;
    machine->backend->listener = &machine->listener;
    assert_int_equal(start(machine, 0, machine->call), 0);
    offer_a_lie(machine);
    kick(machine);
    do
        local_backend_look(&machine->local, 0, &look);
    while (!look.broken);
    assert_int_equal(stop(machine), 0);
    local_backend_close(&machine->local);
    local_backend_close(&machine->local);
    assert_int_equal(loop_turn(&machine->control, 0), 0); /* the note was on its way there */
    expect_broken(machine, 0);
    finish(machine);
}

struct processor {
    pthread_t thread;
    struct machine *machine;
    atomic_bool *over;
};

static void *touch_registers(void *argument)
{
    struct processor *processor = argument;
    struct machine *machine = processor->machine;
    const struct virtio_backend_class *class = machine->backend->class;
    struct server_queue_statistics look;
    uint8_t bytes[64];
    while (!atomic_load(processor->over)) {
        pthread_mutex_lock(&machine->lock);
        class->config_read(machine->backend, 0, bytes, sizeof(bytes));
        local_backend_look(&machine->local, 0, &look);
        if (look.running)
            local_backend_set_memory(&machine->local, machine->options.memory, NULL);
        pthread_mutex_unlock(&machine->lock);
        class->queue_kick(machine->backend, 0);
        kick(machine);
        sched_yield();
    }
    return NULL;
}

static void processors_may_do_all_this_at_the_same_time(void **state)
{
    (void)state;
    struct machine *machine = plug(given_disk());
    struct processor processors[2];
    atomic_bool over = false;
    unsigned waited = 0;
    assert_int_equal(start(machine, 0, machine->call), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(processors); i++) {
        processors[i] = (struct processor){.machine = machine, .over = &over};
        assert_int_equal(pthread_create(&processors[i].thread, NULL, touch_registers, &processors[i]), 0);
    }
    for (unsigned i = 0; i < 100; i++) {
        given_a_read_in_flight(machine);
        assert_int_equal(stop(machine), -EINPROGRESS);
        finish_requests(machine);
        expect_stopped(machine, ++waited);
        expect_used(machine, 513);
        uint32_t base = machine->backend->class->queue_base(machine->backend, 0);
        if (i % 10 == 9) {
            assert_int_equal(reset(machine), 0);
            lay_ring(machine);
            base = 0;
        }
        assert_int_equal(start(machine, base, i % 2 == 0 ? machine->call : -1), 0);
    }
    atomic_store(&over, true);
    for (unsigned i = 0; i < ARRAY_SIZE(processors); i++)
        pthread_join(processors[i].thread, NULL);
    assert_int_equal(machine->broken, 0);
    finish(machine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kicks_and_notifications_go_by_handles),
        cmocka_unit_test(without_a_handle_the_listener_is_told),
        cmocka_unit_test(notifications_go_where_they_were_sent_last),
        cmocka_unit_test(a_handle_that_cannot_be_signalled_is_refused),
        cmocka_unit_test(a_ring_that_is_not_there_is_refused),
        cmocka_unit_test(a_stop_waits_for_what_is_in_flight_and_is_told_once),
        cmocka_unit_test(a_stop_that_was_not_heard_of_yet_is_still_under_way),
        cmocka_unit_test(a_queue_goes_on_where_it_stopped),
        cmocka_unit_test(a_stopped_queue_touches_nothing_though_it_is_kicked),
        cmocka_unit_test(a_reset_leaves_the_device_as_new),
        cmocka_unit_test(a_broken_queue_is_told_once_and_mended_by_a_reset),
        cmocka_unit_test(what_was_broken_before_a_reset_is_not_told_after_it),
        cmocka_unit_test(a_running_queue_finds_memory_that_came_later),
        cmocka_unit_test(requests_in_flight_outlive_an_exchange_of_memory),
        cmocka_unit_test(a_ring_that_is_taken_away_breaks_its_queue),
        cmocka_unit_test(a_device_that_was_saved_goes_on_elsewhere),
        cmocka_unit_test(a_change_of_the_configuration_reaches_the_listener),
        cmocka_unit_test(threads_are_made_when_a_queue_starts_or_all_at_once),
        cmocka_unit_test(queues_may_share_a_loop),
        cmocka_unit_test(what_a_queue_had_to_tell_goes_with_it),
        cmocka_unit_test(processors_may_do_all_this_at_the_same_time),
    };
    return cmocka_run_group_tests_name("local_backend", tests, NULL, NULL);
}
