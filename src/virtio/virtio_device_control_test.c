/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What the control thread does with a device, here one of a single number: features, configuration space, saving and
 * loading (orderly transfer).
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "virtio/virtio_device.h"

#define TEST_FEATURE (UINT64_C(1) << 3)
#define FORBIDDEN_FEATURE (UINT64_C(1) << 4)
#define MODEL_TAG 1

static struct virtqueue queue;
static struct virtq_arena arena; /* never used: the queue is not started */
static struct virtio_device device;
static uint32_t value;

static int model_run(struct virtio_device *self, struct virtqueue *run_queue, unsigned burst)
{
    (void)self;
    (void)run_queue;
    (void)burst;
    return 0;
}

static uint64_t model_features(const struct virtio_device *self)
{
    (void)self;
    return TEST_FEATURE | FORBIDDEN_FEATURE;
}

static int model_set_features(struct virtio_device *self, uint64_t features)
{
    (void)self;
    return (features & FORBIDDEN_FEATURE) != 0 ? -EINVAL : 0;
}

static void model_config_read(const struct virtio_device *self, uint32_t offset, void *to, uint32_t size)
{
    assert_true(range_within(offset, size, self->class->config_bytes) && size > 0);
    memcpy(to, (const uint8_t *)&value + offset, size);
}

static int model_config_write(struct virtio_device *self, uint32_t offset, const void *from, uint32_t size)
{
    assert_true(range_within(offset, size, self->class->config_bytes));
    memcpy((uint8_t *)&value + offset, from, size);
    return 0;
}

static void model_reset(struct virtio_device *self)
{
    (void)self;
    value = 0;
}

static int model_save(const struct virtio_device *self, struct state_writer *writer)
{
    (void)self;
    return state_put(writer, MODEL_TAG, 1, &value, sizeof(value));
}

static int model_load(struct virtio_device *self, struct state_reader *reader)
{
    struct state_record record;
    int r;
    assert_int_equal(self->features, TEST_FEATURE); /* in force before the model's own state */
    while ((r = state_next(reader, &record)) > 0) {
        if (record.tag != MODEL_TAG)
            continue;
        if (record.length != sizeof(value))
            return -EBADMSG;
        memcpy(&value, record.payload, sizeof(value));
    }
    return r;
}

static const struct virtio_device_class model_class = {
    .name = "test",
    .id = 42,
    .queues_max = 1,
    .config_bytes = 4,
    .features = model_features,
    .run = model_run,
    .wake = model_run,
    .set_features = model_set_features,
    .config_read = model_config_read,
    .config_write = model_config_write,
    .reset = model_reset,
    .save = model_save,
    .load = model_load,
};

static const struct virtio_device_class bare_class = {
    .name = "bare", .id = 42, .queues_max = 1, .features = model_features, .run = model_run, .wake = model_run};

static void given(const struct virtio_device_class *class)
{
    virtqueue_init(&queue, &arena);
    virtio_device_init(&device, class, &queue, 1);
    value = 0;
}

static void features_not_offered_or_refused_change_nothing(void **state)
{
    (void)state;
    given(&model_class);
    uint64_t offered = virtio_device_features(&device);
    assert_int_equal(offered, TEST_FEATURE | FORBIDDEN_FEATURE | VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX |
                                  VIRTIO_F_INDIRECT_DESC);
    assert_int_equal(virtio_device_set_features(&device, TEST_FEATURE | VIRTIO_F_VERSION_1), 0);
    assert_int_equal(virtio_device_set_features(&device, offered << 1 | offered), -EINVAL);
    assert_int_equal(virtio_device_set_features(&device, FORBIDDEN_FEATURE), -EINVAL);
    assert_int_equal(device.features, TEST_FEATURE | VIRTIO_F_VERSION_1);
}

static void configuration_is_read_with_zeros_past_its_end(void **state)
{
    (void)state;
    given(&model_class);
    value = 0x04030201;
    uint8_t bytes[6];
    memset(bytes, 0xff, sizeof(bytes));
    virtio_device_config_read(&device, 2, bytes, 6);
    static const uint8_t expected[6] = {3, 4, 0, 0, 0, 0};
    assert_memory_equal(bytes, expected, 6);
    memset(bytes, 0xff, sizeof(bytes));
    virtio_device_config_read(&device, 4, bytes, 1);
    assert_int_equal(bytes[0], 0);
    virtio_device_config_read(&device, UINT32_MAX, bytes, 2);
    assert_int_equal(bytes[1], 0);
    virtio_device_config_read(&device, 0, bytes, 0);

    given(&bare_class);
    bytes[0] = 0xff;
    virtio_device_config_read(&device, 0, bytes, 1);
    assert_int_equal(bytes[0], 0);
}

static void configuration_is_written_only_inside_and_where_allowed(void **state)
{
    (void)state;
    given(&model_class);
    uint8_t byte = 9;
    assert_int_equal(virtio_device_config_write(&device, 3, &byte, 1), 0);
    assert_int_equal(value, 0x09000000);
    assert_int_equal(virtio_device_config_write(&device, 4, &byte, 1), -EINVAL);
    assert_int_equal(virtio_device_config_write(&device, 3, &byte, 2), -EINVAL);
    assert_int_equal(virtio_device_config_write(&device, UINT32_MAX, &byte, UINT32_MAX), -EINVAL);
    struct virtio_device_class read_only = model_class;
    read_only.config_write = NULL;
    device.class = &read_only;
    assert_int_equal(virtio_device_config_write(&device, 0, &byte, 1), -EPERM);
}

static uint8_t saved[256];

/* A device with state of every kind, saved. Returns how many bytes. */
static size_t save(void)
{
    given(&model_class);
    virtqueue_set_base(&queue, 0x80020002);
    assert_int_equal(virtio_device_set_features(&device, TEST_FEATURE), 0);
    value = 0xcafe;
    atomic_store(&device.config_generation, 7);
    atomic_store(&device.needs_reset, true);
    struct state_writer writer = {.bytes = saved, .size = sizeof(saved)};
    assert_int_equal(virtio_device_save(&device, &writer), 0);
    return writer.used;
}

static int load(const uint8_t *bytes, size_t size)
{
    struct state_reader reader = {.bytes = bytes, .size = size};
    return virtio_device_load(&device, &reader);
}

static void what_is_saved_is_loaded(void **state)
{
    (void)state;
    size_t size = save();
    given(&model_class);
    assert_int_equal(load(saved, size), 0);
    assert_int_equal(device.features, TEST_FEATURE);
    assert_int_equal(value, 0xcafe);
    assert_int_equal(atomic_load(&device.config_generation), 7);
    assert_true(atomic_load(&device.needs_reset));
    assert_int_equal(virtqueue_base(&queue), 0x80020002);
}

static void a_device_without_state_of_its_own_saves_its_queues(void **state)
{
    (void)state;
    given(&bare_class);
    virtqueue_set_base(&queue, 99);
    struct state_writer writer = {.bytes = saved, .size = sizeof(saved)};
    assert_int_equal(virtio_device_save(&device, &writer), 0);
    virtio_device_reset(&device);
    assert_int_equal(load(saved, writer.used), 0);
    assert_int_equal(virtqueue_base(&queue), 99);
}

static void a_queue_that_an_earlier_version_saved_goes_on_in_its_ring(void **state)
{
    (void)state;
    given(&bare_class);
    struct state_writer writer = {.bytes = saved, .size = sizeof(saved)};
    assert_int_equal(virtio_device_save(&device, &writer), 0);
    /* Version 1 of the queue's record: index u16, base u16. */
    static const uint8_t payload[4] = {0, 0, 0x34, 0x12};
    writer.used -= 12 + 6;
    assert_int_equal(state_put(&writer, VIRTIO_STATE_QUEUE, 1, payload, sizeof(payload)), 0);
    assert_int_equal(load(saved, writer.used), 0);
    assert_int_equal(virtqueue_base(&queue), 0x1234);
}

static const uint32_t packed_begins = 0x80008000;

static void given_packed(void)
{
    given(&bare_class);
    device.offers_packed = true;
    assert_int_equal(virtio_device_set_features(&device, VIRTIO_F_RING_PACKED), 0);
}

static void rings_of_another_layout_begin_anew(void **state)
{
    (void)state;
    given_packed();
    assert_int_equal(virtqueue_base(&queue), packed_begins);
    virtqueue_set_base(&queue, 0x00050005);
    /* Other features, and the same layout: the ring is the one it was. */
    assert_int_equal(virtio_device_set_features(&device, VIRTIO_F_RING_PACKED | VIRTIO_F_VERSION_1), 0);
    assert_int_equal(virtqueue_base(&queue), 0x00050005);
    /* Features that are refused change nothing. */
    assert_int_equal(virtio_device_set_features(&device, VIRTIO_F_IN_ORDER), -EINVAL);
    assert_int_equal(virtqueue_base(&queue), 0x00050005);
    assert_int_equal(virtio_device_set_features(&device, VIRTIO_F_VERSION_1), 0);
    assert_int_equal(virtqueue_base(&queue), 0);
    virtqueue_set_base(&queue, 5);
    assert_int_equal(virtio_device_set_features(&device, 0), 0);
    assert_int_equal(virtqueue_base(&queue), 5);
    assert_int_equal(virtio_device_set_features(&device, VIRTIO_F_RING_PACKED), 0);
    assert_int_equal(virtqueue_base(&queue), packed_begins);
    virtqueue_set_base(&queue, 0x00050005);
    virtio_device_reset(&device);
    assert_int_equal(virtqueue_base(&queue), 0);
}

static void a_packed_queue_that_was_never_used_is_saved_where_it_begins(void **state)
{
    (void)state;
    given_packed();
    struct state_writer writer = {.bytes = saved, .size = sizeof(saved)};
    assert_int_equal(virtio_device_save(&device, &writer), 0);
    given(&bare_class);
    device.offers_packed = true;
    assert_int_equal(load(saved, writer.used), 0);
    assert_int_equal(device.features, VIRTIO_F_RING_PACKED);
    assert_int_equal(virtqueue_base(&queue), packed_begins);

    /* One of which nothing was saved begins there, too; one that was used goes on. */
    assert_int_equal(load(saved, 12 + 20), 0);
    assert_int_equal(virtqueue_base(&queue), packed_begins);
    virtqueue_set_base(&queue, 0x00038004);
    writer.used = 0;
    assert_int_equal(virtio_device_save(&device, &writer), 0);
    assert_int_equal(load(saved, writer.used), 0);
    assert_int_equal(virtqueue_base(&queue), 0x00038004);
}

static void saving_without_room_writes_nothing(void **state)
{
    (void)state;
    size_t size = save();
    for (size_t room = 0; room < size; room++) {
        struct state_writer writer = {.bytes = saved, .size = room};
        assert_int_equal(virtio_device_save(&device, &writer), -ENOSPC);
        assert_int_equal(writer.used, 0);
    }
}

/* Loading @size bytes of saved fails with @error, and leaves a device as after reset. */
static void assert_refused(size_t size, int error)
{
    given(&model_class);
    assert_int_equal(load(saved, size), error);
    assert_int_equal(device.features, 0);
    assert_int_equal(value, 0);
    assert_false(atomic_load(&device.needs_reset));
    assert_int_equal(virtqueue_base(&queue), 0);
}

static void bytes_that_are_cut_off_are_refused(void **state)
{
    (void)state;
    const size_t device_bytes = 12 + 20;
    const size_t queue_bytes = 12 + 6;
    size_t size = save();
    for (size_t cut = 0; cut < size; cut++) {
        /* Whole records are a state, if a poor one. */
        if (cut != device_bytes && cut != device_bytes + queue_bytes)
            assert_refused(cut, -EBADMSG);
    }
}

static void states_that_are_not_ours_are_refused(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint8_t value;
        int error;
    } lies[] = {
        {0, 'X', -EBADMSG},         /* another record first */
        {4, 2, -ENOTSUP},           /* a newer device record */
        {8, 19, -EBADMSG},          /* a device record that is too short */
        {12, 43, -EINVAL},          /* another kind of device */
        {14, 2, -EINVAL},           /* more queues */
        {16, 0x01, -EINVAL},        /* a feature that is not on offer */
        {16, 0x10, -EINVAL},        /* one that the model refuses */
        {28, 2, -EBADMSG},          /* needs_reset that is no flag */
        {36, 3, -ENOTSUP},          /* a newer queue record */
        {36, 1, -EBADMSG},          /* one of version 1 that is too long for that */
        {44, 1, -EBADMSG},          /* a queue that is not there */
        {54, 2, -ENOTSUP},          /* a newer model record */
        {50 + 12 + 8, 3, -EBADMSG}, /* inside it: a record cut off */
    };
    size_t size = save();
    static uint8_t sound[sizeof(saved)];
    memcpy(sound, saved, sizeof(sound));
    for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
        memcpy(saved, sound, sizeof(saved));
        saved[lies[i].at] = lies[i].value;
        assert_refused(size, lies[i].error);
    }
}

static void records_of_a_later_time_are_skipped(void **state)
{
    (void)state;
    size_t size = save();
    struct state_writer writer = {.bytes = saved, .size = sizeof(saved), .used = size};
    assert_int_equal(state_put(&writer, 0x12345678, 9, "later", 5), 0);
    given(&model_class);
    assert_int_equal(load(saved, writer.used), 0);
    assert_int_equal(value, 0xcafe);
}

static void a_second_device_record_is_refused(void **state)
{
    (void)state;
    size_t size = save();
    memcpy(saved + size, saved, 32);
    assert_refused(size + 32, -EBADMSG);
}

static void state_of_a_model_that_has_none_is_refused(void **state)
{
    (void)state;
    size_t size = save();
    given(&bare_class);
    assert_int_equal(load(saved, size), -EBADMSG);
    assert_int_equal(device.features, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(features_not_offered_or_refused_change_nothing),
        cmocka_unit_test(configuration_is_read_with_zeros_past_its_end),
        cmocka_unit_test(configuration_is_written_only_inside_and_where_allowed),
        cmocka_unit_test(what_is_saved_is_loaded),
        cmocka_unit_test(a_device_without_state_of_its_own_saves_its_queues),
        cmocka_unit_test(a_queue_that_an_earlier_version_saved_goes_on_in_its_ring),
        cmocka_unit_test(rings_of_another_layout_begin_anew),
        cmocka_unit_test(a_packed_queue_that_was_never_used_is_saved_where_it_begins),
        cmocka_unit_test(saving_without_room_writes_nothing),
        cmocka_unit_test(bytes_that_are_cut_off_are_refused),
        cmocka_unit_test(states_that_are_not_ours_are_refused),
        cmocka_unit_test(records_of_a_later_time_are_skipped),
        cmocka_unit_test(a_second_device_record_is_refused),
        cmocka_unit_test(state_of_a_model_that_has_none_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
