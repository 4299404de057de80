/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The split layout: where the ring may lie, indirect tables, indices that wrap, who wakes whom, the ring's log. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "virtio/virtq_test_rig.h"

#define TABLE (RIG_DATA + 0x8000)

static const struct fake_piece byte_out = {.address = RIG_DATA, .length = 1, .writable = true};

/* Add one request; does the driver want to kick? */
static bool offer_one(void)
{
    assert_true(fake_driver_add(&rig.driver, &byte_out, 1) >= 0);
    return fake_driver_show(&rig.driver);
}

/* Add and serve one request; is the driver to be notified? */
static bool serve_one(void)
{
    (void)offer_one();
    return rig_push(rig_pop());
}

static void take_used(unsigned count)
{
    uint32_t head, length;
    for (unsigned i = 0; i < count; i++)
        assert_true(fake_driver_get(&rig.driver, &head, &length));
    assert_false(fake_driver_get(&rig.driver, &head, &length));
}

static void sizes_from_1_to_32768_serve(void **state)
{
    (void)state;
    for (uint32_t size = 1; size <= VRING_SIZE_MAX; size *= 2) {
        rig_build(&(struct rig_options){.size = size, .base = (uint16_t)(0 - size)});
        for (uint32_t i = 0; i < 2 * size && i < 70000; i++) {
            assert_true(serve_one());
            take_used(1);
        }
    }
}

static int start_with(struct virtqueue_config config)
{
    rig_build(&(struct rig_options){.size = 16, .stopped = true});
    struct virtqueue_config sound = rig.config;
    rig.config = config;
    int r = rig_start();
    assert_int_equal(rig.queue.state, r == 0 ? VIRTQUEUE_RUNNING : VIRTQUEUE_STOPPED);
    if (r < 0) {
        /* A failure leaves a queue that can be started. */
        rig.config = sound;
        assert_int_equal(rig_start(), 0);
    }
    return r;
}

static struct virtqueue_config sound_config(void)
{
    rig_build(&(struct rig_options){.size = 16, .stopped = true});
    return rig.config;
}

static void sizes_that_are_no_power_of_two_are_refused(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {0, 3, 24, 32769, 65536, 0x80000000};
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct virtqueue_config config = sound_config();
        config.size = sizes[i];
        assert_int_equal(start_with(config), -EINVAL);
    }
}

static void parts_that_are_not_aligned_are_refused(void **state)
{
    (void)state;
    struct virtqueue_config config = sound_config();
    config.desc_address += 8;
    assert_int_equal(start_with(config), -EINVAL);
    config = sound_config();
    config.avail_address += 1;
    assert_int_equal(start_with(config), -EINVAL);
    config = sound_config();
    config.used_address += 2;
    assert_int_equal(start_with(config), -EINVAL);
}

static void parts_outside_memory_are_refused(void **state)
{
    (void)state;
    static const uint64_t addresses[] = {0, RIG_LOW_BASE - 16, RIG_HIGH_BASE + RIG_HIGH_BYTES - 16, UINT64_MAX - 15};
    for (unsigned i = 0; i < ARRAY_SIZE(addresses); i++) {
        struct virtqueue_config config = sound_config();
        config.desc_address = addresses[i];
        assert_int_equal(start_with(config), -EFAULT);
        config = sound_config();
        config.avail_address = addresses[i];
        assert_int_equal(start_with(config), -EFAULT);
        config = sound_config();
        config.used_address = addresses[i];
        assert_int_equal(start_with(config), -EFAULT);
    }
}

static void the_event_fields_count_as_part_of_the_rings(void **state)
{
    (void)state;
    struct virtqueue_config config = sound_config();
    config.avail_address = RIG_HIGH_BASE + RIG_HIGH_BYTES - vring_avail_bytes(16);
    assert_int_equal(start_with(config), 0);
    config = sound_config();
    config.avail_address = RIG_HIGH_BASE + RIG_HIGH_BYTES - vring_avail_bytes(16) + 2;
    assert_int_equal(start_with(config), -EFAULT);
    config = sound_config();
    config.used_address = RIG_HIGH_BASE + RIG_HIGH_BYTES - vring_used_bytes(16) - 2;
    assert_int_equal(start_with(config), 0);
    config = sound_config();
    config.used_address = RIG_HIGH_BASE + RIG_HIGH_BYTES - vring_used_bytes(16) + 2;
    assert_int_equal(start_with(config), -EFAULT);
}

static void a_part_over_regions_that_are_apart_in_this_process_is_refused(void **state)
{
    (void)state;
    struct virtqueue_config config = sound_config();
    config.desc_address = RIG_HIGH_BASE - 16;
    assert_int_equal(start_with(config), -EFAULT);
}

static void a_part_over_regions_that_continue_each_other_serves(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.size = 16, .stopped = true});
    /* The same bytes as two regions, divided in the middle of the descriptors. */
    guest_memory_init(&rig.memory, NULL);
    const struct guest_region first = {.guest_base = RIG_LOW_BASE, .size = 128, .host = rig_byte(RIG_LOW_BASE)};
    const struct guest_region second = {
        .guest_base = RIG_LOW_BASE + 128, .size = RIG_LOW_BYTES - 128, .host = rig_byte(RIG_LOW_BASE + 128)};
    assert_int_equal(guest_memory_add(&rig.memory, &first), 0);
    assert_int_equal(guest_memory_add(&rig.memory, &second), 0);
    assert_int_equal(rig_start(), 0);
    assert_true(serve_one());
}

static void a_region_that_lies_askew_in_this_process_holds_no_ring(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.size = 16, .stopped = true});
    guest_memory_init(&rig.memory, NULL);
    const struct guest_region askew = {
        .guest_base = RIG_LOW_BASE, .size = RIG_LOW_BYTES - 16, .host = rig_byte(RIG_LOW_BASE) + 1};
    assert_int_equal(guest_memory_add(&rig.memory, &askew), 0);
    assert_int_equal(rig_start(), -EINVAL);
}

static void check_table(uint64_t table, unsigned count)
{
    static struct fake_piece pieces[VIRTQ_INDIRECT_MAX];
    for (unsigned i = 0; i < count; i++)
        pieces[i] = (struct fake_piece){.address = RIG_DATA + i, .length = 1, .writable = i >= count / 2};
    assert_true(fake_driver_add_indirect(&rig.driver, &rig.low, table, pieces, count) >= 0);
    (void)fake_driver_show(&rig.driver);
    struct virtq_chain *chain = rig_pop();
    assert_int_equal(chain->readable_count, count / 2);
    assert_int_equal(chain->writable_count, count - count / 2);
    for (unsigned i = 0; i < count; i++)
        assert_ptr_equal(chain->iov[i].base, rig_byte(RIG_DATA + i));
    (void)rig_push(chain);
    take_used(1);
}

static void a_table_may_be_longer_than_the_ring(void **state)
{
    (void)state;
    static const unsigned counts[] = {1, 2, 3, 8, 9, 136, 137, VIRTQ_INDIRECT_MAX};
    rig_build(&(struct rig_options){.size = 2});
    for (unsigned i = 0; i < ARRAY_SIZE(counts); i++)
        check_table(TABLE, counts[i]);
}

static void a_table_needs_no_alignment(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.size = 4});
    for (unsigned i = 1; i < 16; i++)
        check_table(TABLE + i, 5);
}

static void a_table_may_follow_direct_descriptors(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.size = 4});
    const struct fake_piece pieces[2] = {{.address = RIG_DATA + 0x200, .length = 20},
                                         {.address = RIG_DATA + 0x300, .length = 30, .writable = true}};
    int head = fake_driver_add_indirect(&rig.driver, &rig.low, TABLE, pieces, 2);
    assert_true(head >= 0);
    /* WRITE says nothing where a descriptor refers to a table (2.7.5.3.2). */
    fake_driver_desc(&rig.driver, 3, TABLE, 32, VRING_DESC_F_INDIRECT | VRING_DESC_F_WRITE, 0);
    fake_driver_desc(&rig.driver, (uint32_t)head, RIG_DATA, 10, VRING_DESC_F_NEXT, 3);
    (void)fake_driver_show(&rig.driver);
    struct virtq_chain *chain = rig_pop();
    assert_int_equal(chain->readable_count, 2);
    assert_int_equal(chain->readable_bytes, 30);
    assert_int_equal(chain->writable_bytes, 30);
}

static void a_table_may_lie_over_two_regions(void **state)
{
    (void)state;
    /* 100 entries, of which one lies half in each region: more than are fetched at a time. */
    rig_build(&(struct rig_options){.size = 4});
    uint64_t table = RIG_HIGH_BASE - 60 * 16 - 8;
    for (unsigned i = 0; i < 100; i++) {
        struct vring_desc desc = {
            .address = cpu_to_le64(RIG_DATA + i),
            .length = cpu_to_le32(1),
            .flags = cpu_to_le16(i < 99 ? VRING_DESC_F_NEXT : 0),
            .next = cpu_to_le16((uint16_t)(i + 1)),
        };
        assert_int_equal(guest_memory_write(&rig.memory, table + i * 16, &desc, 16), 0);
    }
    fake_driver_desc(&rig.driver, 0, table, 1600, VRING_DESC_F_INDIRECT, 0);
    fake_driver_offer(&rig.driver, 0);
    (void)fake_driver_show(&rig.driver);
    struct virtq_chain *chain = rig_pop();
    assert_int_equal(chain->readable_count, 100);
    for (unsigned i = 0; i < 100; i++)
        assert_ptr_equal(chain->iov[i].base, rig_byte(RIG_DATA + i));
}

static void entries_of_a_table_may_be_in_any_order(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.size = 4});
    /* Backwards, over two regions: each step may need a fetch of its own. */
    uint64_t table = RIG_HIGH_BASE - 20 * 16 - 8;
    static const uint8_t order[4] = {0, 39, 35, 2};
    for (unsigned i = 0; i < 4; i++) {
        struct vring_desc desc = {
            .address = cpu_to_le64(RIG_DATA + i),
            .length = cpu_to_le32(1),
            .flags = cpu_to_le16(i < 3 ? VRING_DESC_F_NEXT : 0),
            .next = cpu_to_le16(i < 3 ? order[i + 1] : 0),
        };
        assert_int_equal(guest_memory_write(&rig.memory, table + order[i] * 16u, &desc, 16), 0);
    }
    fake_driver_desc(&rig.driver, 0, table, 640, VRING_DESC_F_INDIRECT, 0);
    fake_driver_offer(&rig.driver, 0);
    (void)fake_driver_show(&rig.driver);
    struct virtq_chain *chain = rig_pop();
    assert_int_equal(chain->readable_count, 4);
    for (unsigned i = 0; i < 4; i++)
        assert_ptr_equal(chain->iov[i].base, rig_byte(RIG_DATA + i));
}

/* Notifications of the driver (2.7.7). */

static void without_the_event_index_the_flag_decides(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.size = 8});
    assert_true(serve_one());
    fake_driver_interrupts_off(&rig.driver);
    assert_false(serve_one());
    assert_true(fake_driver_interrupts_on(&rig.driver));
    assert_true(serve_one());
}

static void with_the_event_index_the_flag_is_ignored(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.size = 8, .event_idx = true});
    rig.driver.avail->flags = cpu_to_le16(VRING_AVAIL_F_NO_INTERRUPT);
    assert_true(serve_one());
}

static void the_driver_is_notified_when_the_index_passes_its_event(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.size = 16, .event_idx = true, .base = 0xfffc});
    assert_true(serve_one()); /* the first of a life, whatever the event says */
    take_used(1);
    /* At 0xfffd now: asks for the fourth from here, which is behind the wrap. */
    rig.driver.avail->ring[16] = cpu_to_le16(0x0000);
    assert_false(serve_one());
    assert_false(serve_one());
    assert_false(serve_one());
    assert_true(serve_one());
    assert_false(serve_one());
}

static void a_batch_that_passes_the_event_notifies_once(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.size = 16, .event_idx = true, .base = 0xfffe});
    assert_true(serve_one());
    rig.driver.avail->ring[16] = cpu_to_le16(1);
    for (unsigned i = 0; i < 5; i++)
        (void)offer_one();
    struct virtq_chain *chains[5];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 5), 5);
    virtqueue_push(&rig.queue, chains, 5); /* 0xffff .. 3 */
    assert_true(virtqueue_publish(&rig.queue));
    assert_false(virtqueue_publish(&rig.queue));
    assert_false(serve_one());
}

static void a_new_life_notifies_at_once(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.size = 16, .event_idx = true});
    rig.driver.avail->ring[16] = cpu_to_le16(0x8000);
    assert_true(serve_one());
    assert_false(serve_one());
    assert_true(virtqueue_stop(&rig.queue));
    rig.config.base = virtqueue_base(&rig.queue);
    assert_int_equal(rig_start(), 0);
    assert_true(serve_one());
}

/* Kicks of the driver (2.7.10). */

static void kicks_are_asked_for_by_the_flag(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.size = 16});
    assert_true(offer_one());
    virtqueue_kicks_off(&rig.queue);
    assert_false(offer_one());
    /* One that was not kicked for has come meanwhile. */
    assert_true(virtqueue_kicks_on(&rig.queue));
    assert_true(offer_one());
    struct virtq_chain *chains[3];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 3), 3);
    virtqueue_kicks_off(&rig.queue);
    assert_false(virtqueue_kicks_on(&rig.queue));
}

static void kicks_are_asked_for_by_the_event_index(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.size = 16, .event_idx = true, .base = 0xfffe});
    struct virtq_chain *chains[16];
    assert_false(virtqueue_kicks_on(&rig.queue));
    assert_true(offer_one());
    virtqueue_kicks_off(&rig.queue);
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 16), 1);
    assert_false(offer_one());
    assert_false(offer_one());
    assert_true(virtqueue_kicks_on(&rig.queue));
    assert_int_equal(virtqueue_pop(&rig.queue, chains + 1, 15), 2);
    assert_false(virtqueue_kicks_on(&rig.queue));
    assert_true(offer_one());
    /* Asked for once: the second does not kick again. */
    assert_false(offer_one());
    assert_int_equal(rig.driver.used->flags, 0);
}

static void what_was_seen_and_put_back_does_not_keep_the_device_awake(void **state)
{
    (void)state;
    for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
        rig_build(&(struct rig_options){.size = 16, .event_idx = event_idx == 1});
        (void)offer_one();
        virtqueue_kicks_off(&rig.queue);
        struct virtq_chain *chain = rig_pop();
        virtqueue_unpop(&rig.queue, &chain, 1);
        assert_false(virtqueue_kicks_on(&rig.queue));
        /* A later one is kicked for all the same. */
        assert_true(offer_one());
        virtqueue_kicks_off(&rig.queue);
        /* A device that does not even look is told once, not for ever. */
        (void)virtqueue_kicks_on(&rig.queue);
        virtqueue_kicks_off(&rig.queue);
        assert_false(virtqueue_kicks_on(&rig.queue));
    }
}

/* The new place may have been copied before the device asked for kicks in the old one. */
static void a_ring_that_has_moved_is_asked_for_kicks_anew(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.size = 8, .event_idx = true});
    uint64_t bytes = fake_driver_ring_bytes(8);
    uint64_t elsewhere = RIG_DATA + 0x10000;
    (void)offer_one();
    memcpy(rig_byte(elsewhere), rig_byte(RIG_RING), bytes);
    struct virtq_chain *chain = rig_pop();
    assert_false(virtqueue_kicks_on(&rig.queue));

    rig.config.desc_address += elsewhere - RIG_RING;
    rig.config.avail_address += elsewhere - RIG_RING;
    rig.config.used_address += elsewhere - RIG_RING;
    assert_int_equal(virtqueue_exchange(&rig.queue, &rig.config, &rig.memory, NULL), 0);
    rig.driver.desc = (void *)rig_byte(rig.config.desc_address);
    rig.driver.avail = (void *)rig_byte(rig.config.avail_address);
    rig.driver.used = (void *)rig_byte(rig.config.used_address);
    assert_false(virtqueue_kicks_on(&rig.queue));
    assert_true(offer_one());
    virtqueue_push(&rig.queue, &chain, 1);
}

static void a_new_life_asks_for_kicks_anew(void **state)
{
    (void)state;
    for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
        rig_build(&(struct rig_options){.size = 16, .event_idx = event_idx == 1});
        virtqueue_kicks_off(&rig.queue);
        assert_true(virtqueue_stop(&rig.queue));
        rig.config.base = 0;
        rig.driver.used->ring[16].id = cpu_to_le32(0x8000); /* avail_event */
        assert_int_equal(rig_start(), 0);
        assert_false(virtqueue_kicks_on(&rig.queue));
        assert_true(offer_one());
    }
}

/* The log of the used ring (VHOST_VRING_F_LOG). */

static void writes_of_the_used_ring_are_logged_at_the_address_given(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.size = 1024, .log = true, .event_idx = true, .stopped = true, .base = 1023});
    /* Pages 16 and up: the ring has 8 KiB and a little more. */
    rig.config.used_log_address = 0x10000;
    assert_int_equal(rig_start(), 0);
    rig_clear_log();

    (void)serve_one(); /* the last entry: bytes 8188 to 8195; and the index */
    assert_true(rig_marked(0x10000));
    assert_true(rig_marked(0x11000));
    assert_true(rig_marked(0x12000));
    rig_clear_log();
    (void)serve_one(); /* the first entry */
    assert_true(rig_marked(0x10000));
    assert_false(rig_marked(0x11000));
    assert_false(rig_marked(0x12000));
    rig_clear_log();
    (void)virtqueue_kicks_on(&rig.queue); /* avail_event: bytes 8196 and 8197 */
    assert_false(rig_marked(0x10000));
    assert_true(rig_marked(0x12000));
}

static void flags_that_ask_for_kicks_are_logged(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.size = 16, .log = true, .stopped = true});
    rig.config.used_log_address = 0x10000;
    assert_int_equal(rig_start(), 0);
    assert_true(rig_marked(0x10000));
    rig_clear_log();
    virtqueue_kicks_off(&rig.queue);
    assert_true(rig_marked(0x10000));
    rig_clear_log();
    (void)virtqueue_kicks_on(&rig.queue);
    assert_true(rig_marked(0x10000));
    rig_clear_log();
    (void)virtqueue_kicks_on(&rig.queue); /* on already: nothing is written */
    assert_false(rig_marked(0x10000));
}

static void the_event_lies_right_behind_the_last_entry(void **state)
{
    (void)state;
    /* Two bytes in front of a page: the next ones are not ours to mark. */
    rig_build(&(struct rig_options){.size = 16, .event_idx = true, .log = true, .stopped = true});
    rig.config.used_log_address = 0x11000 - vring_used_bytes(16);
    assert_int_equal(rig_start(), 0);
    rig_clear_log();
    (void)virtqueue_kicks_on(&rig.queue);
    assert_true(rig_marked(0x10000));
    assert_false(rig_marked(0x11000));
}

static void a_batch_over_the_wrap_is_logged_whole(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.size = 1024, .log = true, .stopped = true, .base = 1022});
    /* Flags and index end a page, so that the first entries are not marked along with them. */
    rig.config.used_log_address = 0x10ffc;
    assert_int_equal(rig_start(), 0);
    for (unsigned i = 0; i < 4; i++)
        (void)offer_one();
    struct virtq_chain *chains[4];
    assert_int_equal(virtqueue_pop(&rig.queue, chains, 4), 4);
    rig_clear_log();
    virtqueue_push(&rig.queue, chains, 4);
    assert_false(rig_marked(0x10000));
    (void)virtqueue_publish(&rig.queue);
    assert_true(rig_marked(0x10000)); /* the index */
    assert_true(rig_marked(0x11000)); /* the first two entries */
    assert_true(rig_marked(0x12000)); /* the last two */
    assert_false(rig_marked(0x13000));
}

static void the_used_ring_is_logged_only_where_asked(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.size = 16, .log = true, .stopped = true});
    rig.config.used_log = false;
    assert_int_equal(rig_start(), 0);
    (void)serve_one();
    assert_false(rig_marked(rig.config.used_log_address));
    /* From a migration's begin on. */
    rig.config.used_log = true;
    assert_int_equal(virtqueue_exchange(&rig.queue, &rig.config, &rig.memory, &rig.log), 0);
    (void)serve_one();
    assert_true(rig_marked(rig.config.used_log_address));
    rig.config.used_log_address = 0x1000;
    assert_int_equal(virtqueue_exchange(&rig.queue, &rig.config, &rig.memory, &rig.log), 0);
    (void)serve_one();
    assert_true(rig_marked(0x1000));
}

static void a_log_address_that_wraps_marks_nothing(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.size = 16, .log = true, .stopped = true});
    rig.config.used_log_address = UINT64_MAX - 3;
    assert_int_equal(rig_start(), 0);
    rig_clear_log();
    struct fake_piece readable = {.address = RIG_DATA, .length = 1};
    rig_offer(&readable, 1);
    (void)rig_push(rig_pop());
    for (unsigned i = 0; i < RIG_LOG_BYTES; i++)
        assert_int_equal(rig.log_bits[i], 0);
}

static int teardown(void **state)
{
    (void)state;
    rig_done();
    return 0;
}

#define TEST(name) cmocka_unit_test_teardown(name, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(sizes_from_1_to_32768_serve),
        TEST(sizes_that_are_no_power_of_two_are_refused),
        TEST(parts_that_are_not_aligned_are_refused),
        TEST(parts_outside_memory_are_refused),
        TEST(the_event_fields_count_as_part_of_the_rings),
        TEST(a_part_over_regions_that_are_apart_in_this_process_is_refused),
        TEST(a_part_over_regions_that_continue_each_other_serves),
        TEST(a_region_that_lies_askew_in_this_process_holds_no_ring),
        TEST(a_table_may_be_longer_than_the_ring),
        TEST(a_table_needs_no_alignment),
        TEST(a_table_may_follow_direct_descriptors),
        TEST(a_table_may_lie_over_two_regions),
        TEST(entries_of_a_table_may_be_in_any_order),
        TEST(without_the_event_index_the_flag_decides),
        TEST(with_the_event_index_the_flag_is_ignored),
        TEST(the_driver_is_notified_when_the_index_passes_its_event),
        TEST(a_batch_that_passes_the_event_notifies_once),
        TEST(a_new_life_notifies_at_once),
        TEST(kicks_are_asked_for_by_the_flag),
        TEST(kicks_are_asked_for_by_the_event_index),
        TEST(what_was_seen_and_put_back_does_not_keep_the_device_awake),
        TEST(a_ring_that_has_moved_is_asked_for_kicks_anew),
        TEST(a_new_life_asks_for_kicks_anew),
        TEST(writes_of_the_used_ring_are_logged_at_the_address_given),
        TEST(flags_that_ask_for_kicks_are_logged),
        TEST(the_event_lies_right_behind_the_last_entry),
        TEST(a_batch_over_the_wrap_is_logged_whole),
        TEST(the_used_ring_is_logged_only_where_asked),
        TEST(a_log_address_that_wraps_marks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
