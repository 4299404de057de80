/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Lies about packed rings (VIRTIO 1.3, 2.8): in the ring, in the areas beside it, in what the front end says of it, and
 * in its in-flight record.
 */
#include <sys/eventfd.h>

#include "devices/blk/virtio_blk.h"
#include "lies.h"

#define NEXT VRING_DESC_F_NEXT
#define WRITE VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT
#define AVAIL VRING_PACKED_DESC_F_AVAIL
#define USED VRING_PACKED_DESC_F_USED

#define RECORD_OFFSET 0x80000
#define RECORD_BYTES 0x20000
/* Positions and wrap counters of a ring that nobody has used, and one half of them. */
#define BASE_INITIAL 0x80008000u
#define BASE_HALF_INITIAL 0x8000u

static struct fake_driver *ring(struct vhost_user_client *client)
{
    return client->queues[0].driver;
}

static void *at(struct vhost_user_client *client, uint64_t offset)
{
    return client->memory.host + offset;
}

/* Descriptor @position of the ring on its first lap, @offset into memory. */
static void desc(struct vhost_user_client *client, uint32_t position, uint64_t offset, uint32_t length, uint16_t flags)
{
    fake_driver_packed_desc(ring(client), position, lies_address(offset), length, 0, flags | AVAIL);
}

/* Kick, and wait for the ring to break. */
static enum outcome offer(struct vhost_user_client *client)
{
    client_kick(client, 0);
    return wait_broken(client, 0);
}

static enum outcome offer_one(struct vhost_user_client *client, uint64_t offset, uint32_t length, uint16_t flags)
{
    desc(client, 0, offset, length, flags);
    return offer(client);
}

/* ---- in the ring */

static enum outcome chain_without_an_end(struct vhost_user_client *client)
{
    for (uint32_t i = 0; i < LIES_RING_SIZE; i++)
        desc(client, i, LIES_DATA_OFFSET, 16, NEXT);
    return offer(client);
}

static enum outcome chain_over_a_whole_lap_and_more(struct vhost_user_client *client)
{
    /* The last one's successor is the first, which the driver has made another request of meanwhile. */
    for (uint32_t i = 1; i < LIES_RING_SIZE; i++)
        desc(client, i, LIES_DATA_OFFSET, 0, NEXT);
    return offer_one(client, LIES_DATA_OFFSET, 0, NEXT);
}

static enum outcome readable_after_writable(struct vhost_user_client *client)
{
    desc(client, 1, LIES_HEADER_OFFSET, 16, 0);
    return offer_one(client, LIES_STATUS_OFFSET, 1, NEXT | WRITE);
}

static enum outcome buffer_outside_memory(struct vhost_user_client *client)
{
    return offer_one(client, LIES_MEMORY_BYTES + 4096, 16, 0);
}

static enum outcome buffer_past_the_end(struct vhost_user_client *client)
{
    return offer_one(client, LIES_MEMORY_BYTES - 8, 16, WRITE);
}

static enum outcome buffer_that_wraps(struct vhost_user_client *client)
{
    return offer_one(client, UINT64_MAX - 7 - LIES_GUEST_BASE, 16, 0);
}

static enum outcome buffer_of_four_gigabytes(struct vhost_user_client *client)
{
    return offer_one(client, LIES_DATA_OFFSET, UINT32_MAX, WRITE);
}

static void table_entry(struct vhost_user_client *client, unsigned index, uint64_t offset, uint32_t length,
                        uint16_t flags)
{
    uint8_t *entry = (uint8_t *)at(client, LIES_TABLE_OFFSET) + index * sizeof(struct vring_packed_desc);
    put_le64(entry, lies_address(offset));
    put_le32(entry + 8, length);
    put_le16(entry + 12, 0);
    put_le16(entry + 14, flags);
}

static enum outcome table_of_odd_length(struct vhost_user_client *client)
{
    return offer_one(client, LIES_TABLE_OFFSET, 24, INDIRECT);
}

static enum outcome table_of_no_entries(struct vhost_user_client *client)
{
    return offer_one(client, LIES_TABLE_OFFSET, 0, INDIRECT);
}

static enum outcome table_too_long(struct vhost_user_client *client)
{
    return offer_one(client, LIES_TABLE_OFFSET, (VIRTQ_INDIRECT_MAX + 1) * 16, INDIRECT);
}

static enum outcome table_outside_memory(struct vhost_user_client *client)
{
    return offer_one(client, LIES_MEMORY_BYTES - 16, 64, INDIRECT);
}

static enum outcome table_that_wraps(struct vhost_user_client *client)
{
    return offer_one(client, UINT64_MAX - 15 - LIES_GUEST_BASE, 32, INDIRECT);
}

static enum outcome table_with_a_next(struct vhost_user_client *client)
{
    return offer_one(client, LIES_TABLE_OFFSET, 32, INDIRECT | NEXT);
}

static enum outcome table_behind_a_descriptor(struct vhost_user_client *client)
{
    desc(client, 1, LIES_TABLE_OFFSET, 32, INDIRECT);
    return offer_one(client, LIES_HEADER_OFFSET, 16, NEXT);
}

static enum outcome table_with_readable_after_writable(struct vhost_user_client *client)
{
    table_entry(client, 0, LIES_STATUS_OFFSET, 1, WRITE);
    table_entry(client, 1, LIES_HEADER_OFFSET, 16, 0);
    return offer_one(client, LIES_TABLE_OFFSET, 32, INDIRECT);
}

static enum outcome table_of_buffers_outside_memory(struct vhost_user_client *client)
{
    table_entry(client, 0, LIES_MEMORY_BYTES + 16, 16, 0);
    return offer_one(client, LIES_TABLE_OFFSET, 16, INDIRECT);
}

static enum outcome request_without_status(struct vhost_user_client *client)
{
    return offer_one(client, LIES_HEADER_OFFSET, 16, 0);
}

static enum outcome request_with_half_a_header(struct vhost_user_client *client)
{
    desc(client, 1, LIES_STATUS_OFFSET, 1, WRITE);
    return offer_one(client, LIES_HEADER_OFFSET, 15, NEXT);
}

static enum outcome request_of_empty_descriptors(struct vhost_user_client *client)
{
    desc(client, 1, LIES_STATUS_OFFSET, 0, WRITE);
    return offer_one(client, LIES_HEADER_OFFSET, 0, NEXT);
}

/* ---- what does the device no harm: an honest read afterwards, at the same place of the ring */

static enum outcome read_sector(struct vhost_user_client *client)
{
    const struct fake_piece pieces[] = {
        {lies_address(LIES_HEADER_OFFSET), 16, false},
        {lies_address(LIES_DATA_OFFSET), 512, true},
        {lies_address(LIES_STATUS_OFFSET), 1, true},
    };
    memset(at(client, LIES_HEADER_OFFSET), 0, 16);
    uint8_t *status = at(client, LIES_STATUS_OFFSET);
    *status = 0xff;
    if (client_request(client, 0, pieces, ARRAY_SIZE(pieces)) != 513)
        return OUTCOME_NONE;
    return *status == VIRTIO_BLK_S_OK ? OUTCOME_SERVED : OUTCOME_BAD_STATUS;
}

/* A descriptor with @marks, which do not make it available on the first lap, and whose buffer would break the ring. */
static enum outcome not_available(struct vhost_user_client *client, uint16_t marks)
{
    fake_driver_packed_desc(ring(client), 0, UINT64_MAX, 16, 0, marks);
    client_kick(client, 0);
    return read_sector(client);
}

static enum outcome descriptor_of_the_lap_after(struct vhost_user_client *client)
{
    return not_available(client, USED);
}

static enum outcome descriptor_that_says_it_is_used(struct vhost_user_client *client)
{
    return not_available(client, AVAIL | USED);
}

/* Two requests by the name of @id, which no driver has; both come back by it. */
static enum outcome requests_named(struct vhost_user_client *client, uint16_t id)
{
    struct fake_driver *driver = ring(client);
    memset(at(client, LIES_HEADER_OFFSET), 0, 16);
    for (uint32_t i = 0; i < 2; i++) {
        fake_driver_packed_desc(driver, 3 * i, lies_address(LIES_HEADER_OFFSET), 16, id, AVAIL | NEXT);
        fake_driver_packed_desc(driver, 3 * i + 1, lies_address(LIES_DATA_OFFSET), 512, id, AVAIL | NEXT | WRITE);
        fake_driver_packed_desc(driver, 3 * i + 2, lies_address(LIES_STATUS_OFFSET), 1, id, AVAIL | WRITE);
    }
    client_kick(client, 0);
    for (uint32_t i = 0; i < 2; i++) {
        while ((shared_load_le16_acquire(&driver->ring[3 * i].flags) & USED) == 0)
            if (client_wait_call(client, 0) < 0)
                return OUTCOME_NONE;
        if (le16_to_cpu(driver->ring[3 * i].id) != id)
            return OUTCOME_NONE;
    }
    return OUTCOME_SERVED;
}

static enum outcome ids_outside_the_ring(struct vhost_user_client *client)
{
    return requests_named(client, 0xffff);
}

static enum outcome one_id_twice(struct vhost_user_client *client)
{
    return requests_named(client, 7);
}

/* The wish for interrupts is nonsense; the first one comes all the same. */
static enum outcome serves_with_driver_area(struct vhost_user_client *client, uint16_t position, uint16_t flags)
{
    struct fake_driver *driver = ring(client);
    desc(client, 0, LIES_HEADER_OFFSET, 16, NEXT);
    desc(client, 1, LIES_DATA_OFFSET, 512, NEXT | WRITE);
    desc(client, 2, LIES_STATUS_OFFSET, 1, WRITE);
    memset(at(client, LIES_HEADER_OFFSET), 0, 16);
    shared_store_le32(driver->driver_event, position | (uint32_t)flags << 16);
    client_kick(client, 0);
    if (client_wait_call(client, 0) < 0)
        return OUTCOME_NONE;
    return (shared_load_le16_acquire(&driver->ring[0].flags) & USED) != 0 ? OUTCOME_SERVED : OUTCOME_NONE;
}

static enum outcome driver_area_with_a_place_past_the_end(struct vhost_user_client *client)
{
    return serves_with_driver_area(client, 0x7fff, VRING_PACKED_EVENT_DESC);
}

static enum outcome driver_area_with_reserved_flags(struct vhost_user_client *client)
{
    return serves_with_driver_area(client, 0xffff, 0xffff);
}

static enum outcome device_area_written_over(struct vhost_user_client *client)
{
    enum outcome outcome = read_sector(client);
    shared_store_le32(ring(client)->device_event, 0xffffffff);
    return outcome == OUTCOME_SERVED ? read_sector(client) : outcome;
}

/* ---- what the front end says of the ring */

struct placed {
    uint32_t size, base;
    uint64_t desc, avail, used;
};

static const struct placed honest = {LIES_RING_SIZE, BASE_INITIAL, 0x1000, 0x2000, 0x3000};

/* Queue 0 as @placed says; it breaks, or the message that completes it is refused. */
static enum outcome place(struct vhost_user_client *client, const struct placed *placed)
{
    uint64_t none = VHOST_USER_VRING_NO_FD, line = 0;
    struct vhost_user_vring_state state = {.num = placed->size};
    struct vhost_user_vring_address address = {
        .desc = client->frontend_base + placed->desc,
        .avail = client->frontend_base + placed->avail,
        .used = client->frontend_base + placed->used,
    };
    int handle = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    client->queues[0].error = handle;
    tell(client, VHOST_USER_SET_VRING_ERR, &line, sizeof(line), &handle, 1);
    enum outcome outcome = tell(client, VHOST_USER_SET_VRING_NUM, &state, sizeof(state), NULL, 0);
    state.num = placed->base;
    if (outcome == OUTCOME_SERVED)
        outcome = tell(client, VHOST_USER_SET_VRING_BASE, &state, sizeof(state), NULL, 0);
    if (outcome == OUTCOME_SERVED)
        outcome = tell(client, VHOST_USER_SET_VRING_ADDR, &address, sizeof(address), NULL, 0);
    state.num = 1;
    if (outcome == OUTCOME_SERVED)
        outcome = tell(client, VHOST_USER_SET_VRING_ENABLE, &state, sizeof(state), NULL, 0);
    if (outcome == OUTCOME_SERVED)
        outcome = tell(client, VHOST_USER_SET_VRING_KICK, &none, sizeof(none), NULL, 0);
    return outcome == OUTCOME_SERVED ? wait_broken(client, 0) : outcome;
}

static enum outcome size_of_none(struct vhost_user_client *client)
{
    struct placed placed = honest;
    placed.size = 0;
    return place(client, &placed);
}

static enum outcome size_past_the_largest(struct vhost_user_client *client)
{
    struct placed placed = honest;
    placed.size = VRING_SIZE_MAX + 1;
    return place(client, &placed);
}

static enum outcome base_past_the_end(struct vhost_user_client *client)
{
    struct placed placed = honest;
    placed.base = BASE_INITIAL | LIES_RING_SIZE;
    return place(client, &placed);
}

static enum outcome half_a_base_past_the_end(struct vhost_user_client *client)
{
    struct placed placed = honest;
    placed.base = BASE_HALF_INITIAL | LIES_RING_SIZE;
    return place(client, &placed);
}

static enum outcome base_with_more_in_flight_than_there_is(struct vhost_user_client *client)
{
    struct placed placed = honest;
    placed.base = BASE_INITIAL | 2u << 16 | 1;
    return place(client, &placed);
}

static enum outcome descriptors_unaligned(struct vhost_user_client *client)
{
    struct placed placed = honest;
    placed.desc += 8;
    return place(client, &placed);
}

static enum outcome descriptors_past_the_end(struct vhost_user_client *client)
{
    struct placed placed = honest;
    placed.desc = client->memory.size - 16;
    return place(client, &placed);
}

static enum outcome driver_area_unaligned(struct vhost_user_client *client)
{
    struct placed placed = honest;
    placed.avail += 2;
    return place(client, &placed);
}

static enum outcome driver_area_past_the_end(struct vhost_user_client *client)
{
    struct placed placed = honest;
    placed.avail = client->memory.size - 2;
    return place(client, &placed);
}

static enum outcome device_area_unaligned(struct vhost_user_client *client)
{
    struct placed placed = honest;
    placed.used += 1;
    return place(client, &placed);
}

static enum outcome device_area_past_the_end(struct vhost_user_client *client)
{
    struct placed placed = honest;
    placed.used = client->memory.size;
    return place(client, &placed);
}

static enum outcome features(struct vhost_user_client *client, uint64_t value)
{
    return tell(client, VHOST_USER_SET_FEATURES, &value, sizeof(value), NULL, 0);
}

static enum outcome ring_reset_taken_unasked(struct vhost_user_client *client)
{
    return features(client, client->features | VIRTIO_F_RING_RESET);
}

static enum outcome notification_data_taken_unasked(struct vhost_user_client *client)
{
    return features(client, client->features | VIRTIO_F_NOTIFICATION_DATA);
}

static enum outcome layout_changed_under_a_running_ring(struct vhost_user_client *client)
{
    return features(client, client->features & ~VIRTIO_F_RING_PACKED);
}

/* ---- the in-flight record */

/* One with a request in flight whose descriptor is in entry 3; a lie is told by changing it. */
static struct virtq_record_packed *record(struct vhost_user_client *client)
{
    struct virtq_record_packed *record = at(client, RECORD_OFFSET);
    *record = (struct virtq_record_packed){
        .version = VIRTQ_RECORD_VERSION,
        .desc_num = LIES_RING_SIZE,
        .free_head = LIES_RING_SIZE,
        .old_free_head = LIES_RING_SIZE,
        .used_wrap_counter = 1,
        .old_used_wrap_counter = 1,
    };
    record->desc[3] = (struct virtq_record_packed_entry){
        .inflight = 1,
        .last = 3,
        .num = 1,
        .counter = 5,
        .length = 16,
        .address = lies_address(LIES_HEADER_OFFSET),
    };
    return record;
}

static enum outcome give_record(struct vhost_user_client *client, uint64_t bytes)
{
    const struct vhost_user_inflight given = {
        .mmap_size = bytes, .mmap_offset = RECORD_OFFSET, .queue_count = 1, .queue_size = LIES_RING_SIZE};
    enum outcome outcome =
        tell(client, VHOST_USER_SET_INFLIGHT_FD, &given, VHOST_USER_INFLIGHT_BYTES, &client->memory_handle, 1);
    return outcome == OUTCOME_SERVED ? place(client, &honest) : outcome;
}

static enum outcome record_with_room_for_a_split_ring(struct vhost_user_client *client)
{
    (void)record(client);
    return give_record(client, 16 + 16 * LIES_RING_SIZE);
}

static enum outcome record_of_another_version(struct vhost_user_client *client)
{
    record(client)->version = 2;
    return give_record(client, RECORD_BYTES);
}

static enum outcome record_of_a_larger_ring(struct vhost_user_client *client)
{
    record(client)->desc_num = 2000;
    return give_record(client, RECORD_BYTES);
}

static enum outcome record_of_a_smaller_ring(struct vhost_user_client *client)
{
    record(client)->desc_num = LIES_RING_SIZE / 2;
    return give_record(client, RECORD_BYTES);
}

static enum outcome record_neither_in_flight_nor_not(struct vhost_user_client *client)
{
    record(client)->desc[3].inflight = 9;
    return give_record(client, RECORD_BYTES);
}

static enum outcome record_of_no_descriptors(struct vhost_user_client *client)
{
    record(client)->desc[3].num = 0;
    return give_record(client, RECORD_BYTES);
}

static enum outcome record_of_more_descriptors_than_there_are(struct vhost_user_client *client)
{
    record(client)->desc[3].num = LIES_RING_SIZE + 1;
    return give_record(client, RECORD_BYTES);
}

static enum outcome record_with_the_last_counter(struct vhost_user_client *client)
{
    record(client)->desc[3].counter = UINT64_MAX;
    return give_record(client, RECORD_BYTES);
}

static enum outcome record_with_a_position_past_the_end(struct vhost_user_client *client)
{
    record(client)->used_index = LIES_RING_SIZE;
    return give_record(client, RECORD_BYTES);
}

static enum outcome record_with_a_wrap_counter_of_two(struct vhost_user_client *client)
{
    record(client)->old_used_wrap_counter = 2;
    return give_record(client, RECORD_BYTES);
}

static enum outcome record_of_a_chain_that_goes_on(struct vhost_user_client *client)
{
    record(client)->desc[3].flags = NEXT;
    return give_record(client, RECORD_BYTES);
}

static enum outcome record_of_a_chain_that_ends_early(struct vhost_user_client *client)
{
    record(client)->desc[3].num = 2;
    return give_record(client, RECORD_BYTES);
}

static enum outcome record_of_a_buffer_outside_memory(struct vhost_user_client *client)
{
    record(client)->desc[3].address = 0;
    return give_record(client, RECORD_BYTES);
}

const struct lie packed_lies[] = {
    {"packed: a chain without an end", STAGE_RUNNING, OUTCOME_BROKEN, chain_without_an_end},
    {"packed: a chain of more than a lap", STAGE_RUNNING, OUTCOME_BROKEN, chain_over_a_whole_lap_and_more},
    {"packed: a readable descriptor after a writable one", STAGE_RUNNING, OUTCOME_BROKEN, readable_after_writable},
    {"packed: a buffer outside memory", STAGE_RUNNING, OUTCOME_BROKEN, buffer_outside_memory},
    {"packed: a buffer past the end of memory", STAGE_RUNNING, OUTCOME_BROKEN, buffer_past_the_end},
    {"packed: a buffer that wraps", STAGE_RUNNING, OUTCOME_BROKEN, buffer_that_wraps},
    {"packed: a buffer of 4 GiB", STAGE_RUNNING, OUTCOME_BROKEN, buffer_of_four_gigabytes},
    {"packed: a table of 24 bytes", STAGE_RUNNING, OUTCOME_BROKEN, table_of_odd_length},
    {"packed: a table of no entries", STAGE_RUNNING, OUTCOME_BROKEN, table_of_no_entries},
    {"packed: a table of 1025 entries", STAGE_RUNNING, OUTCOME_BROKEN, table_too_long},
    {"packed: a table outside memory", STAGE_RUNNING, OUTCOME_BROKEN, table_outside_memory},
    {"packed: a table that wraps", STAGE_RUNNING, OUTCOME_BROKEN, table_that_wraps},
    {"packed: a table with a next", STAGE_RUNNING, OUTCOME_BROKEN, table_with_a_next},
    {"packed: a table behind a descriptor", STAGE_RUNNING, OUTCOME_BROKEN, table_behind_a_descriptor},
    {"packed: a table with a readable entry after a writable one", STAGE_RUNNING, OUTCOME_BROKEN,
     table_with_readable_after_writable},
    {"packed: a table of buffers outside memory", STAGE_RUNNING, OUTCOME_BROKEN, table_of_buffers_outside_memory},
    {"packed: a disk request without a status byte", STAGE_RUNNING, OUTCOME_BROKEN, request_without_status},
    {"packed: a disk request with half a header", STAGE_RUNNING, OUTCOME_BROKEN, request_with_half_a_header},
    {"packed: a disk request of empty descriptors", STAGE_RUNNING, OUTCOME_BROKEN, request_of_empty_descriptors},
    {"packed: a descriptor of the lap after", STAGE_RUNNING, OUTCOME_SERVED, descriptor_of_the_lap_after},
    {"packed: a descriptor that says it is used", STAGE_RUNNING, OUTCOME_SERVED, descriptor_that_says_it_is_used},
    {"packed: ids outside the ring", STAGE_RUNNING, OUTCOME_SERVED, ids_outside_the_ring},
    {"packed: one id for two requests", STAGE_RUNNING, OUTCOME_SERVED, one_id_twice},
    {"packed: a driver area that names a place past the end", STAGE_RUNNING, OUTCOME_SERVED,
     driver_area_with_a_place_past_the_end},
    {"packed: a driver area with reserved flags", STAGE_RUNNING, OUTCOME_SERVED, driver_area_with_reserved_flags},
    {"packed: a device area that the driver writes", STAGE_RUNNING, OUTCOME_SERVED, device_area_written_over},
    {"packed: a ring of no descriptors", STAGE_MEMORY, OUTCOME_REFUSED, size_of_none},
    {"packed: a ring of 32769 descriptors", STAGE_MEMORY, OUTCOME_REFUSED, size_past_the_largest},
    {"packed: a base past the end of the ring", STAGE_MEMORY, OUTCOME_REFUSED, base_past_the_end},
    {"packed: half a base past the end of the ring", STAGE_MEMORY, OUTCOME_REFUSED, half_a_base_past_the_end},
    {"packed: a base with more in flight than the ring has", STAGE_MEMORY, OUTCOME_REFUSED,
     base_with_more_in_flight_than_there_is},
    {"packed: descriptors not aligned to 16", STAGE_MEMORY, OUTCOME_REFUSED, descriptors_unaligned},
    {"packed: descriptors past the end of memory", STAGE_MEMORY, OUTCOME_REFUSED, descriptors_past_the_end},
    {"packed: a driver area not aligned to 4", STAGE_MEMORY, OUTCOME_REFUSED, driver_area_unaligned},
    {"packed: a driver area past the end of memory", STAGE_MEMORY, OUTCOME_REFUSED, driver_area_past_the_end},
    {"packed: a device area not aligned to 4", STAGE_MEMORY, OUTCOME_REFUSED, device_area_unaligned},
    {"packed: a device area past the end of memory", STAGE_MEMORY, OUTCOME_REFUSED, device_area_past_the_end},
    {"RING_RESET taken though it is not on offer", STAGE_NEGOTIATED, OUTCOME_REFUSED, ring_reset_taken_unasked},
    {"NOTIFICATION_DATA taken though it is not on offer", STAGE_NEGOTIATED, OUTCOME_REFUSED,
     notification_data_taken_unasked},
    {"the layout changed under a running ring", STAGE_RUNNING, OUTCOME_REFUSED, layout_changed_under_a_running_ring},
    {"packed: a record with room for a split ring", STAGE_MEMORY, OUTCOME_REFUSED, record_with_room_for_a_split_ring},
    {"packed: a record of another version", STAGE_MEMORY, OUTCOME_REFUSED, record_of_another_version},
    {"packed: a record of a larger ring", STAGE_MEMORY, OUTCOME_REFUSED, record_of_a_larger_ring},
    {"packed: a record of a smaller ring", STAGE_MEMORY, OUTCOME_REFUSED, record_of_a_smaller_ring},
    {"packed: a recorded request neither in flight nor not", STAGE_MEMORY, OUTCOME_REFUSED,
     record_neither_in_flight_nor_not},
    {"packed: a recorded request of no descriptors", STAGE_MEMORY, OUTCOME_REFUSED, record_of_no_descriptors},
    {"packed: a recorded request of more descriptors than there are", STAGE_MEMORY, OUTCOME_REFUSED,
     record_of_more_descriptors_than_there_are},
    {"packed: a recorded request with the last counter", STAGE_MEMORY, OUTCOME_REFUSED, record_with_the_last_counter},
    {"packed: a record with a position past the end", STAGE_MEMORY, OUTCOME_REFUSED,
     record_with_a_position_past_the_end},
    {"packed: a record with a wrap counter of two", STAGE_MEMORY, OUTCOME_REFUSED, record_with_a_wrap_counter_of_two},
    {"packed: a recorded chain that goes on", STAGE_MEMORY, OUTCOME_BROKEN, record_of_a_chain_that_goes_on},
    {"packed: a recorded chain that ends early", STAGE_MEMORY, OUTCOME_BROKEN, record_of_a_chain_that_ends_early},
    {"packed: a recorded buffer outside memory", STAGE_MEMORY, OUTCOME_BROKEN, record_of_a_buffer_outside_memory},
};
const unsigned packed_lie_count = ARRAY_SIZE(packed_lies);
