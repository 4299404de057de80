/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Save and load of what transports share. */
#include "virtio/virtio_control_test_rig.h"

#define ROOM 4096

static uint8_t bytes[ROOM];

static size_t save(struct rig *rig)
{
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};

    assert_int_equal(virtio_control_pause(&rig->control), 0);
    assert_int_equal(virtio_control_save(&rig->control, &writer), 0);
    return writer.used;
}

static int load(struct rig *rig, size_t size)
{
    struct state_reader reader = {.bytes = bytes, .size = size};

    rig_make(rig, VIRTIO_F_RING_RESET, 0, 0);
    virtio_control_pause(&rig->control);
    return virtio_control_load(&rig->control, &reader);
}

static size_t save_one_at_work(struct rig *rig)
{
    rig_work(rig);
    rig->fake.queues[0].base = 5;
    rig->fake.config[2] = 0x77;
    return save(rig);
}

/* The record number @number in the bytes; its payload. */
static uint8_t *record(unsigned number)
{
    uint8_t *at = bytes;

    for (unsigned i = 0; i < number; i++)
        at += STATE_RECORD_HEADER_BYTES + get_le32(at + 8);
    return at;
}

static void a_loaded_device_goes_on_where_the_saved_one_was(void **state)
{
    struct rig *rig = *state;
    size_t size = save_one_at_work(rig);

    assert_int_equal(load(rig, size), 0);
    assert_int_equal(rig->control.status, RIG_WORKING);
    assert_true(virtio_control_has(&rig->control, VIRTIO_F_VERSION_1 | VIRTIO_F_RING_RESET));
    assert_int_equal(rig->fake.features, VIRTIO_F_VERSION_1);
    assert_int_equal(rig->fake.config[2], 0x77);
    assert_int_equal(rig->fake.status, RIG_WORKING);
    assert_true(rig->live[0] && rig->live[1] && !rig->live[2]);
    assert_int_equal(rig->fake.queues[0].starts, 0);
    virtio_control_resume(&rig->control);
    assert_int_equal(rig->fake.queues[0].config.base, 5);
    assert_int_equal(rig->fake.queues[1].config.desc_address, 0x100020000);
    assert_int_equal(rig->fake.queues[1].config.size, 128);
    /* An interrupt may have been lost on the way. */
    assert_int_equal(rig->queue_interrupts[0], 1);
    assert_int_equal(rig->queue_interrupts[2], 0);
    virtio_control_pause(&rig->control);
    virtio_control_resume(&rig->control);
    assert_int_equal(rig->queue_interrupts[0], 1);
}

static void what_a_driver_can_see_is_what_it_saw(void **state)
{
    struct rig *rig = *state;

    rig_work(rig);
    atomic_store(&rig->control.interrupt_status, VIRTIO_INTERRUPT_CONFIG);
    fake_backend_change_config(&rig->fake, 9, 1);
    uint32_t generation = virtio_control_config_generation(&rig->control);
    fake_backend_break(&rig->fake);
    size_t size = save(rig);
    assert_int_equal(load(rig, size), 0);
    assert_int_equal(atomic_load(&rig->control.interrupt_status), VIRTIO_INTERRUPT_CONFIG);
    assert_int_equal(virtio_control_config_generation(&rig->control), generation);
    assert_int_equal(rig->control.status, RIG_WORKING | VIRTIO_STATUS_NEEDS_RESET);
}

static void a_device_that_nobody_drives_is_saved_and_loaded(void **state)
{
    struct rig *rig = *state;
    size_t size = save(rig);

    assert_int_equal(load(rig, size), 0);
    assert_int_equal(rig->control.status, 0);
    assert_false(rig->fake.features_set);
    virtio_control_resume(&rig->control);
    rig_work(rig);
    assert_int_equal(rig->fake.queues[0].state, FAKE_RUNNING);
}

static void a_reset_after_a_load_is_a_new_beginning(void **state)
{
    struct rig *rig = *state;
    size_t size = save_one_at_work(rig);

    assert_int_equal(load(rig, size), 0);
    virtio_control_set_status(&rig->control, 0);
    rig_work(rig);
    virtio_control_resume(&rig->control);
    assert_int_equal(rig->queue_interrupts[0], 0);
    assert_int_equal(rig->fake.queues[0].config.base, 0);
}

static void a_back_end_works_with_the_features_of_the_queues_whatever_its_bytes_say(void **state)
{
    struct rig *rig = *state;
    size_t size = save_one_at_work(rig);

    put_le64(bytes + size - 8, VIRTIO_F_VERSION_1 | VIRTIO_F_RING_PACKED);
    assert_int_equal(load(rig, size), 0);
    assert_int_equal(rig->fake.features, VIRTIO_F_VERSION_1);
}

static void no_room_or_a_back_end_that_cannot_is_said_and_nothing_written(void **state)
{
    struct rig *rig = *state;
    size_t size = save_one_at_work(rig);

    for (size_t room = 0; room < size; room++) {
        struct state_writer writer = {.bytes = bytes, .size = room};
        assert_int_equal(virtio_control_save(&rig->control, &writer), -ENOSPC);
        assert_int_equal(writer.used, 0);
    }
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};
    rig->fake.save_error = -ENOTSUP;
    assert_int_equal(virtio_control_save(&rig->control, &writer), -ENOTSUP);
    assert_int_equal(writer.used, 0);
}

static void state_that_ends_early_is_refused(void **state)
{
    struct rig *rig = *state;
    size_t size = save_one_at_work(rig);

    for (size_t i = 0; i < size; i++)
        assert_int_equal(load(rig, i), -EBADMSG);
}

static void state_of_another_device_is_refused(void **state)
{
    struct rig *rig = *state;
    size_t size = save_one_at_work(rig);
    uint8_t *control = record(0) + STATE_RECORD_HEADER_BYTES;

    control[0] = VIRTIO_ID_NET;
    assert_int_equal(load(rig, size), -EINVAL);
    control[0] = VIRTIO_ID_BLOCK;
    control[2]++;
    assert_int_equal(load(rig, size), -EINVAL);
    control[2]--;
    put_le64(control + 8, VIRTIO_F_VERSION_1 | VIRTIO_F_ADMIN_VQ);
    assert_int_equal(load(rig, size), -EINVAL);
    put_le64(control + 8, 0);
    assert_int_equal(load(rig, size), -EINVAL);
}

static void state_that_makes_no_sense_is_refused(void **state)
{
    struct rig *rig = *state;
    size_t size = save_one_at_work(rig);
    uint8_t *control = record(0) + STATE_RECORD_HEADER_BYTES;
    uint8_t *queue = record(1) + STATE_RECORD_HEADER_BYTES;
    struct {
        uint8_t *at;
        uint8_t value;
    } lies[] = {
        {control + 4, 0x20},                                                /* a status bit that is none */
        {control + 4, VIRTIO_STATUS_DRIVER_OK | VIRTIO_STATUS_ACKNOWLEDGE}, /* without FEATURES_OK */
        {control + 20, 4},                                                  /* an event that is none */
        {queue, FAKE_BACKEND_QUEUES},                                       /* a queue that is none */
        {queue + 4, 3},                                                     /* a size that is none */
        {queue + 4, 0},                                                     /* no size, and enabled */
        {queue + 6, 1},                                                     /* a size beyond what there is */
        {record(0), 'x'},                                                   /* ours does not come first */
    };

    for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
        uint8_t was = *lies[i].at;
        *lies[i].at = lies[i].value;
        assert_int_equal(load(rig, size), -EBADMSG);
        *lies[i].at = was;
    }
    assert_int_equal(load(rig, size), 0);
}

static void newer_records_are_refused_and_unknown_ones_skipped(void **state)
{
    struct rig *rig = *state;
    size_t size = save_one_at_work(rig);

    for (unsigned i = 0; i < 2 + FAKE_BACKEND_QUEUES; i++) {
        record(i)[4]++;
        assert_int_equal(load(rig, size), -ENOTSUP);
        record(i)[4]--;
    }
    record(3)[0] ^= 0x80; /* the last queue's tag: it was as new */
    assert_int_equal(load(rig, size), 0);
}

static void the_back_ends_record_is_the_last_and_there_once(void **state)
{
    struct rig *rig = *state;
    size_t size = save_one_at_work(rig);
    uint8_t *last = record(1 + FAKE_BACKEND_QUEUES);
    size_t length = (size_t)(bytes + size - last);

    memcpy(bytes + size, last, length);
    assert_int_equal(load(rig, size + length), -EBADMSG);
    assert_int_equal(load(rig, size - length), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define RIG_TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup_ring_reset, rig_teardown)
        RIG_TEST(a_loaded_device_goes_on_where_the_saved_one_was),
        RIG_TEST(what_a_driver_can_see_is_what_it_saw),
        RIG_TEST(a_device_that_nobody_drives_is_saved_and_loaded),
        RIG_TEST(a_reset_after_a_load_is_a_new_beginning),
        RIG_TEST(a_back_end_works_with_the_features_of_the_queues_whatever_its_bytes_say),
        RIG_TEST(no_room_or_a_back_end_that_cannot_is_said_and_nothing_written),
        RIG_TEST(state_that_ends_early_is_refused),
        RIG_TEST(state_of_another_device_is_refused),
        RIG_TEST(state_that_makes_no_sense_is_refused),
        RIG_TEST(newer_records_are_refused_and_unknown_ones_skipped),
        RIG_TEST(the_back_ends_record_is_the_last_and_there_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
