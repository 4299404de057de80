/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Features, configuration space, options, saved state (VIRTIO 1.3, 5.2.3 to 5.2.5). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>

#include "devices/blk/blk_config.h"
#include "devices/blk/blk_test_rig.h"

#define WRITEBACK_AT 32
#define CACHE (VIRTIO_BLK_F_FLUSH | VIRTIO_BLK_F_CONFIG_WCE)

static struct blk_world *make(const struct blk_options *options, uint16_t queues)
{
    struct device_rig_shape shape = {.queues = queues};

    return blk_world_make(options, &shape, 0);
}

static uint64_t offered(const struct blk_options *options, uint16_t queues)
{
    struct blk_world *world = make(options, queues);
    uint64_t features = world->blk.device.class->features(&world->blk.device);

    blk_world_free(world);
    return features;
}

static struct virtio_blk_config config_of(const struct blk_options *options, uint16_t queues)
{
    struct virtio_blk_config config;
    struct blk_world *world = make(options, queues);

    memset(&config, 0xaa, sizeof(config));
    virtio_device_config_read(&world->blk.device, 0, &config, VIRTIO_BLK_CONFIG_BYTES);
    blk_world_free(world);
    return config;
}

static void offers_what_the_options_say(void **state)
{
    const uint64_t always = VIRTIO_BLK_F_SEG_MAX | VIRTIO_BLK_F_BLK_SIZE | VIRTIO_BLK_F_TOPOLOGY;
    struct blk_options options = {.size_bytes = 1 << 20, .block_bytes = 512};
    (void)state;

    assert_int_equal(offered(&options, 1), always);
    assert_int_equal(offered(&options, 2), always | VIRTIO_BLK_F_MQ);
    options.write_cache = true;
    assert_int_equal(offered(&options, 1), always | CACHE);
    options.discard = true;
    assert_int_equal(offered(&options, 1), always | CACHE | VIRTIO_BLK_F_DISCARD);
    options.write_zeroes = true;
    assert_int_equal(offered(&options, 1), always | CACHE | VIRTIO_BLK_F_DISCARD | VIRTIO_BLK_F_WRITE_ZEROES);
    options.size_max = 65536;
    options.discard = options.write_zeroes = options.write_cache = false;
    assert_int_equal(offered(&options, 1), always | VIRTIO_BLK_F_SIZE_MAX);
}

static void offers_no_change_of_a_read_only_disk(void **state)
{
    struct blk_options options = blk_world_options();
    (void)state;

    options.read_only = true;
    uint64_t features = offered(&options, 1);
    assert_true((features & VIRTIO_BLK_F_RO) != 0);
    assert_int_equal(features & (VIRTIO_BLK_F_DISCARD | VIRTIO_BLK_F_WRITE_ZEROES), 0);
    struct virtio_blk_config config = config_of(&options, 1);
    assert_int_equal(config.max_discard_seg, 0);
    assert_int_equal(config.max_write_zeroes_seg, 0);
    assert_int_equal(config.write_zeroes_may_unmap, 0);
}

static void shows_its_options_in_the_configuration(void **state)
{
    struct blk_options options = blk_world_options();
    (void)state;

    options.size_bytes = (UINT64_C(5) << 40) + 1023;
    options.block_bytes = 512;
    options.physical_bytes = 4096;
    options.optimal_io_bytes = 65536;
    options.seg_max = 254;
    options.size_max = 1 << 20;
    options.discard_granularity_bytes = 65536;
    struct virtio_blk_config config = config_of(&options, 3);
    assert_true(le64_to_cpu(config.capacity) == (UINT64_C(5) << 31) + 1); /* rounded down to sectors */
    assert_int_equal(le32_to_cpu(config.size_max), 1 << 20);
    assert_int_equal(le32_to_cpu(config.seg_max), 254);
    assert_int_equal(le32_to_cpu(config.blk_size), 512);
    assert_int_equal(config.topology.physical_block_exp, 3);
    assert_int_equal(config.topology.alignment_offset, 0);
    assert_int_equal(le16_to_cpu(config.topology.min_io_size), 8);
    assert_int_equal(le32_to_cpu(config.topology.opt_io_size), 128);
    assert_int_equal(config.writeback, 1);
    assert_int_equal(le16_to_cpu(config.num_queues), 3);
    assert_int_equal(le32_to_cpu(config.max_discard_sectors), BLK_DISCARD_SECTORS_MAX);
    assert_int_equal(le32_to_cpu(config.max_discard_seg), 16);
    assert_int_equal(le32_to_cpu(config.discard_sector_alignment), 128);
    assert_int_equal(le32_to_cpu(config.max_write_zeroes_sectors), BLK_WRITE_ZEROES_SECTORS_MAX);
    assert_int_equal(le32_to_cpu(config.max_write_zeroes_seg), 16);
    assert_int_equal(config.write_zeroes_may_unmap, 1);
    /* 5.2.5.2: padding is 0 */
    assert_int_equal(config.unused0, 0);
    assert_memory_equal(config.unused1, "\0\0\0", 3);
}

static void fills_in_what_the_options_leave_open(void **state)
{
    struct blk_options options = {.size_bytes = 1 << 20, .block_bytes = 4096, .discard = true};
    (void)state;

    struct virtio_blk_config config = config_of(&options, 1);
    assert_int_equal(le32_to_cpu(config.seg_max), 126);
    assert_int_equal(config.topology.physical_block_exp, 0);
    assert_int_equal(le16_to_cpu(config.topology.min_io_size), 1);
    assert_int_equal(le32_to_cpu(config.discard_sector_alignment), 8);
    assert_int_equal(config.writeback, 0);
    assert_int_equal(config.write_zeroes_may_unmap, 0);
    assert_int_equal(config.max_write_zeroes_seg, 0);
}

static void gives_each_part_of_the_configuration_and_zeros_past_its_end(void **state)
{
    struct blk_world *world = *state;
    uint8_t whole[VIRTIO_BLK_CONFIG_BYTES];
    uint8_t part[80];

    virtio_device_config_read(&world->blk.device, 0, whole, sizeof(whole));
    for (uint32_t offset = 0; offset < 70; offset++) {
        for (uint32_t size = 0; size <= sizeof(part) - offset; size++) {
            memset(part, 0xaa, sizeof(part));
            virtio_device_config_read(&world->blk.device, offset, part, size);
            for (uint32_t i = 0; i < sizeof(part); i++) {
                uint8_t expected = i >= size ? 0xaa : offset + i < sizeof(whole) ? whole[offset + i] : 0;
                assert_int_equal(part[i], expected);
            }
        }
    }
}

static void shows_a_new_size_with_a_new_generation(void **state)
{
    struct blk_world *world = *state;
    uint32_t generation = atomic_load(&world->blk.device.config_generation);
    uint8_t capacity[8];

    blk_resize(&world->blk, 3 * 512 + 511);
    virtio_device_config_read(&world->blk.device, 0, capacity, 8);
    assert_int_equal(get_le64(capacity), 3);
    assert_int_equal(atomic_load(&world->blk.device.config_generation), generation + 1);
}

static int write_config(struct blk_world *world, uint32_t offset, uint8_t value, uint32_t size)
{
    uint8_t bytes[VIRTIO_BLK_CONFIG_BYTES + 8] = {value};

    return virtio_device_config_write(&world->blk.device, offset, bytes, size);
}

static uint8_t writeback(struct blk_world *world)
{
    uint8_t byte;

    virtio_device_config_read(&world->blk.device, WRITEBACK_AT, &byte, 1);
    return byte;
}

static void lets_the_driver_write_the_cache_mode_and_nothing_else(void **state)
{
    struct blk_world *world = *state;
    struct virtio_blk_config before, after;

    virtio_device_config_read(&world->blk.device, 0, &before, VIRTIO_BLK_CONFIG_BYTES);
    for (uint32_t offset = 0; offset < VIRTIO_BLK_CONFIG_BYTES; offset++) {
        for (uint32_t size = 0; size <= VIRTIO_BLK_CONFIG_BYTES - offset; size++) {
            if (offset != WRITEBACK_AT || size != 1)
                assert_int_equal(write_config(world, offset, 0, size), -EPERM);
        }
    }
    assert_int_equal(write_config(world, VIRTIO_BLK_CONFIG_BYTES, 0, 1), -EINVAL);
    assert_int_equal(write_config(world, UINT32_MAX, 0, 2), -EINVAL);
    virtio_device_config_read(&world->blk.device, 0, &after, VIRTIO_BLK_CONFIG_BYTES);
    assert_memory_equal(&before, &after, VIRTIO_BLK_CONFIG_BYTES);

    assert_int_equal(write_config(world, WRITEBACK_AT, 0, 1), 0);
    assert_int_equal(writeback(world), 0);
    assert_int_equal(write_config(world, WRITEBACK_AT, 1, 1), 0);
    assert_int_equal(writeback(world), 1);
    assert_int_equal(write_config(world, WRITEBACK_AT, 2, 1), -EINVAL);
    assert_int_equal(writeback(world), 1);
}

static void lets_no_driver_switch_the_cache_that_did_not_ask_to(void **state)
{
    struct blk_options options = blk_world_options();
    struct device_rig_shape shape = {0};
    (void)state;

    struct blk_world *world = blk_world_make(&options, &shape, VIRTIO_BLK_F_FLUSH);
    assert_int_equal(write_config(world, WRITEBACK_AT, 0, 1), -EPERM);
    blk_world_free(world);
    options.write_cache = false;
    world = blk_world_make(&options, &shape, 0);
    assert_int_equal(write_config(world, WRITEBACK_AT, 1, 1), -EPERM);
    virtio_device_queue_stop(&world->blk.device, 0);
    virtio_device_reset(&world->blk.device);
    assert_int_equal(write_config(world, WRITEBACK_AT, 1, 1), -EPERM); /* nor before it said anything */
    blk_world_free(world);
}

/* vhost-user hands over the driver's features only when the driver is up; the byte may be written before. */
static void takes_the_cache_mode_before_it_knows_the_drivers_features(void **state)
{
    struct blk_world *world = *state;

    virtio_device_queue_stop(&world->blk.device, 0);
    virtio_device_reset(&world->blk.device);
    assert_int_equal(write_config(world, WRITEBACK_AT, 0, 1), 0);
    assert_int_equal(virtio_device_set_features(&world->blk.device, VIRTIO_F_VERSION_1 | CACHE), 0);
    assert_int_equal(writeback(world), 0);
    assert_true(blk_is_write_through(&world->blk));
}

static void is_write_back_again_after_a_reset(void **state)
{
    struct blk_world *world = *state;

    write_config(world, WRITEBACK_AT, 0, 1);
    virtio_device_queue_stop(&world->blk.device, 0);
    virtio_device_reset(&world->blk.device);
    assert_int_equal(writeback(world), 1);
}

static void keeps_the_disks_size_over_a_reset(void **state)
{
    struct blk_world *world = *state;
    uint8_t capacity[8];

    blk_resize(&world->blk, 512 * 99);
    virtio_device_queue_stop(&world->blk.device, 0);
    virtio_device_reset(&world->blk.device);
    virtio_device_config_read(&world->blk.device, 0, capacity, 8);
    assert_int_equal(get_le64(capacity), 99);
}

static void carries_the_cache_mode_over_in_its_saved_state(void **state)
{
    struct blk_world *world = *state;
    struct blk_options options = blk_world_options();
    uint8_t bytes[512];
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};

    write_config(world, WRITEBACK_AT, 0, 1);
    virtio_device_queue_stop(&world->blk.device, 0);
    assert_int_equal(virtio_device_save(&world->blk.device, &writer), 0);

    struct blk_world *other = make(&options, 1);
    virtio_device_queue_stop(&other->blk.device, 0);
    struct state_reader reader = {.bytes = bytes, .size = writer.used};
    assert_int_equal(virtio_device_load(&other->blk.device, &reader), 0);
    assert_int_equal(writeback(other), 0);
    assert_true(blk_is_write_through(&other->blk));
    blk_world_free(other);
}

/* A newer version of us may have written more, and we can do without it. */
static void passes_over_records_it_does_not_know(void **state)
{
    struct blk_world *world = *state;
    const uint8_t payload = 0;
    uint8_t bytes[64];
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};

    assert_int_equal(state_put(&writer, 1, 77, &payload, 1), 0);
    assert_int_equal(state_put(&writer, UINT32_C(0x636b6c62), 1, &payload, 1), 0);
    struct state_reader reader = {.bytes = bytes, .size = writer.used};
    assert_int_equal(blk_load(&world->blk.device, &reader), 0);
    assert_int_equal(writeback(world), 0);
}

static int load(struct blk_world *world, uint16_t version, uint8_t value, uint32_t length)
{
    const uint8_t payload[4] = {value};
    uint8_t bytes[64];
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};

    assert_int_equal(state_put(&writer, UINT32_C(0x636b6c62), version, payload, length), 0);
    struct state_reader reader = {.bytes = bytes, .size = writer.used};
    return blk_load(&world->blk.device, &reader);
}

static void refuses_saved_state_that_makes_no_sense(void **state)
{
    struct blk_world *world = *state;

    assert_int_equal(load(world, 1, 0, 1), 0);
    assert_int_equal(writeback(world), 0);
    assert_int_equal(load(world, 1, 2, 1), -EBADMSG);
    assert_int_equal(load(world, 1, 1, 0), -EBADMSG);
    assert_int_equal(load(world, 1, 1, 2), -EBADMSG);
    assert_int_equal(load(world, 2, 1, 1), -ENOTSUP);
    assert_int_equal(writeback(world), 0);

    struct blk_options options = blk_world_options();
    options.write_cache = false;
    struct blk_world *other = make(&options, 1);
    assert_int_equal(load(other, 1, 1, 1), -EINVAL); /* no driver of this disk can flush */
    assert_int_equal(writeback(other), 0);
    assert_int_equal(load(other, 1, 0, 1), 0);
    blk_world_free(other);

    uint8_t torn[5] = {0};
    struct state_reader reader = {.bytes = torn, .size = sizeof(torn)};
    assert_int_equal(blk_load(&world->blk.device, &reader), -EBADMSG);
    uint8_t none = 0;
    struct state_writer writer = {.bytes = &none, .size = 1};
    assert_int_equal(blk_save(&world->blk.device, &writer), -ENOSPC);
}

static int init(const struct blk_options *options, uint16_t queues)
{
    static struct blk_port port;
    static struct virtqueue all[BLK_QUEUES_MAX + 1];
    struct blk *blk = aligned_alloc(64, sizeof(*blk));
    assert_non_null(blk);
    int r = blk_init(blk, all, queues, &port, options);

    free(blk);
    return r;
}

static void refuses_options_that_no_disk_can_have(void **state)
{
    const struct blk_options good = blk_world_options();
    struct blk_options options = good;
    (void)state;

    assert_int_equal(init(&good, 0), -EINVAL);
    assert_int_equal(init(&good, 1), 0);
    assert_int_equal(init(&good, BLK_QUEUES_MAX), 0);
    assert_int_equal(init(&good, BLK_QUEUES_MAX + 1), -EINVAL);
    const uint32_t block_sizes[] = {0, 1, 256, 1024, 2048, 8192};
    for (unsigned i = 0; i < ARRAY_SIZE(block_sizes); i++) {
        options.block_bytes = block_sizes[i];
        assert_int_equal(init(&options, 1), -EINVAL);
    }
    options = good;
    options.seg_max = 1022;
    assert_int_equal(init(&options, 1), 0);
    options.seg_max = 1023;
    assert_int_equal(init(&options, 1), -EINVAL);
    options = good;
    options.size_max = 511;
    assert_int_equal(init(&options, 1), -EINVAL);
}

/* A host's disk may say the oddest things about itself, and is a disk all the same. */
static void passes_no_hint_on_that_makes_no_sense(void **state)
{
    const uint32_t odd[] = {0, 1, 512, 4095, 3 * 4096, UINT32_MAX};
    struct blk_options options = blk_world_options();
    (void)state;

    options.block_bytes = 4096;
    for (unsigned i = 0; i < ARRAY_SIZE(odd); i++) {
        options.physical_bytes = odd[i];
        options.optimal_io_bytes = 4 * 4096 + 512;
        options.discard_granularity_bytes = odd[i];
        struct virtio_blk_config config = config_of(&options, 1);
        assert_int_equal(config.topology.physical_block_exp, 0);
        assert_int_equal(le16_to_cpu(config.topology.min_io_size), 1);
        assert_int_equal(le32_to_cpu(config.topology.opt_io_size), 4);
        assert_int_equal(le32_to_cpu(config.discard_sector_alignment), odd[i] == 3 * 4096 ? 24 : 8);
    }
}

/* A part of a block at the end could be neither read nor written. */
static void shows_whole_blocks_only(void **state)
{
    struct blk_options options = blk_world_options();
    uint8_t capacity[8];
    (void)state;

    options.block_bytes = 4096;
    options.size_bytes = 10 * 4096 + 4095;
    struct blk_world *world = make(&options, 1);
    virtio_device_config_read(&world->blk.device, 0, capacity, 8);
    assert_int_equal(get_le64(capacity), 80);
    blk_resize(&world->blk, 11 * 4096 - 512);
    virtio_device_config_read(&world->blk.device, 0, capacity, 8);
    assert_int_equal(get_le64(capacity), 80);
    blk_world_free(world);
}

static void serves_a_disk_without_any_sector(void **state)
{
    struct blk_options options = blk_world_options();
    (void)state;

    options.size_bytes = 511;
    struct blk_world *world = make(&options, 1);
    struct fake_request request = offer(world, VIRTIO_BLK_T_IN, 0, 512);
    run(world);
    assert_used(world, &request, VIRTIO_BLK_S_IOERR, 0);
    blk_world_free(world);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, blk_world_setup, blk_world_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(offers_what_the_options_say),
        cmocka_unit_test(offers_no_change_of_a_read_only_disk),
        cmocka_unit_test(shows_its_options_in_the_configuration),
        cmocka_unit_test(fills_in_what_the_options_leave_open),
        TEST(gives_each_part_of_the_configuration_and_zeros_past_its_end),
        TEST(shows_a_new_size_with_a_new_generation),
        TEST(lets_the_driver_write_the_cache_mode_and_nothing_else),
        cmocka_unit_test(lets_no_driver_switch_the_cache_that_did_not_ask_to),
        TEST(takes_the_cache_mode_before_it_knows_the_drivers_features),
        TEST(is_write_back_again_after_a_reset),
        TEST(keeps_the_disks_size_over_a_reset),
        TEST(carries_the_cache_mode_over_in_its_saved_state),
        TEST(passes_over_records_it_does_not_know),
        TEST(refuses_saved_state_that_makes_no_sense),
        cmocka_unit_test(refuses_options_that_no_disk_can_have),
        cmocka_unit_test(passes_no_hint_on_that_makes_no_sense),
        cmocka_unit_test(shows_whole_blocks_only),
        cmocka_unit_test(serves_a_disk_without_any_sector),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
