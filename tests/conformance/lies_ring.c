/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Lies of the guest: in the ring (VIRTIO 1.3, 2.7), and in requests to the disk (5.2.6). */
#include "devices/blk/virtio_blk.h"
#include "lies.h"

#define NEXT VRING_DESC_F_NEXT
#define WRITE VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT

static struct fake_driver *ring(struct vhost_user_client *client)
{
    return client->queues[0].driver;
}

static void *at(struct vhost_user_client *client, uint64_t offset)
{
    return client->memory.host + offset;
}

/* Descriptor @index of the ring, @offset into memory. */
static void desc(struct vhost_user_client *client, uint32_t index, uint64_t offset, uint32_t length, uint16_t flags,
                 uint16_t next)
{
    fake_driver_desc(ring(client), index, lies_address(offset), length, flags, next);
}

/* Show descriptor @head and wait for the ring to break. */
static enum outcome offer(struct vhost_user_client *client, uint16_t head)
{
    fake_driver_offer(ring(client), head);
    fake_driver_show(ring(client));
    client_kick(client, 0);
    return wait_broken(client, 0);
}

static enum outcome head_outside_the_table(struct vhost_user_client *client)
{
    return offer(client, LIES_RING_SIZE);
}

static enum outcome head_at_the_end_of_the_type(struct vhost_user_client *client)
{
    return offer(client, 0xffff);
}

static enum outcome chain_that_loops(struct vhost_user_client *client)
{
    desc(client, 0, LIES_HEADER_OFFSET, 16, NEXT, 1);
    desc(client, 1, LIES_DATA_OFFSET, 512, NEXT, 0);
    return offer(client, 0);
}

static enum outcome chain_onto_itself(struct vhost_user_client *client)
{
    desc(client, 3, LIES_HEADER_OFFSET, 16, NEXT, 3);
    return offer(client, 3);
}

static enum outcome next_outside_the_table(struct vhost_user_client *client)
{
    desc(client, 0, LIES_HEADER_OFFSET, 16, NEXT, LIES_RING_SIZE);
    return offer(client, 0);
}

static enum outcome readable_after_writable(struct vhost_user_client *client)
{
    desc(client, 0, LIES_STATUS_OFFSET, 1, NEXT | WRITE, 1);
    desc(client, 1, LIES_HEADER_OFFSET, 16, 0, 0);
    return offer(client, 0);
}

static enum outcome buffer_outside_memory(struct vhost_user_client *client)
{
    desc(client, 0, LIES_MEMORY_BYTES + 4096, 16, 0, 0);
    return offer(client, 0);
}

static enum outcome buffer_past_the_end(struct vhost_user_client *client)
{
    desc(client, 0, LIES_MEMORY_BYTES - 8, 16, 0, 0);
    return offer(client, 0);
}

static enum outcome buffer_that_wraps(struct vhost_user_client *client)
{
    fake_driver_desc(ring(client), 0, UINT64_MAX - 7, 16, 0, 0);
    return offer(client, 0);
}

static enum outcome buffer_of_four_gigabytes(struct vhost_user_client *client)
{
    desc(client, 0, LIES_DATA_OFFSET, UINT32_MAX, WRITE, 0);
    return offer(client, 0);
}

static enum outcome index_jumps(struct vhost_user_client *client)
{
    fake_driver_set_avail_index(ring(client), 0x4000);
    client_kick(client, 0);
    return wait_broken(client, 0);
}

/* An indirect table of @bytes at LIES_TABLE_OFFSET. */
static enum outcome offer_indirect(struct vhost_user_client *client, uint64_t offset, uint32_t bytes, uint16_t flags)
{
    desc(client, 0, offset, bytes, INDIRECT | flags, 1);
    return offer(client, 0);
}

static void table_entry(struct vhost_user_client *client, unsigned index, uint64_t offset, uint32_t length,
                        uint16_t flags, uint16_t next)
{
    uint8_t *entry = (uint8_t *)at(client, LIES_TABLE_OFFSET) + index * sizeof(struct vring_desc);
    put_le64(entry, lies_address(offset));
    put_le32(entry + 8, length);
    put_le16(entry + 12, flags);
    put_le16(entry + 14, next);
}

static enum outcome indirect_of_odd_length(struct vhost_user_client *client)
{
    return offer_indirect(client, LIES_TABLE_OFFSET, 24, 0);
}

static enum outcome indirect_of_no_entries(struct vhost_user_client *client)
{
    return offer_indirect(client, LIES_TABLE_OFFSET, 0, 0);
}

static enum outcome indirect_too_long(struct vhost_user_client *client)
{
    return offer_indirect(client, LIES_TABLE_OFFSET, (VIRTQ_INDIRECT_MAX + 1) * 16, 0);
}

static enum outcome indirect_outside_memory(struct vhost_user_client *client)
{
    return offer_indirect(client, LIES_MEMORY_BYTES - 16, 64, 0);
}

static enum outcome indirect_with_next(struct vhost_user_client *client)
{
    return offer_indirect(client, LIES_TABLE_OFFSET, 32, NEXT);
}

static enum outcome indirect_in_indirect(struct vhost_user_client *client)
{
    table_entry(client, 0, LIES_TABLE_OFFSET, 16, INDIRECT, 0);
    return offer_indirect(client, LIES_TABLE_OFFSET, 16, 0);
}

static enum outcome indirect_that_loops(struct vhost_user_client *client)
{
    table_entry(client, 0, LIES_HEADER_OFFSET, 16, NEXT, 1);
    table_entry(client, 1, LIES_DATA_OFFSET, 16, NEXT, 0);
    return offer_indirect(client, LIES_TABLE_OFFSET, 32, 0);
}

static enum outcome indirect_next_outside(struct vhost_user_client *client)
{
    table_entry(client, 0, LIES_HEADER_OFFSET, 16, NEXT, 2);
    return offer_indirect(client, LIES_TABLE_OFFSET, 32, 0);
}

static enum outcome request_without_status(struct vhost_user_client *client)
{
    desc(client, 0, LIES_HEADER_OFFSET, 16, 0, 0);
    return offer(client, 0);
}

static enum outcome request_with_half_a_header(struct vhost_user_client *client)
{
    desc(client, 0, LIES_HEADER_OFFSET, 15, NEXT, 1);
    desc(client, 1, LIES_STATUS_OFFSET, 1, WRITE, 0);
    return offer(client, 0);
}

static enum outcome request_of_empty_descriptors(struct vhost_user_client *client)
{
    desc(client, 0, LIES_HEADER_OFFSET, 0, NEXT, 1);
    desc(client, 1, LIES_STATUS_OFFSET, 0, WRITE, 0);
    return offer(client, 0);
}

const struct lie ring_lies[] = {
    {"a head outside the table", STAGE_RUNNING, OUTCOME_BROKEN, head_outside_the_table},
    {"a head of 65535", STAGE_RUNNING, OUTCOME_BROKEN, head_at_the_end_of_the_type},
    {"a chain that loops", STAGE_RUNNING, OUTCOME_BROKEN, chain_that_loops},
    {"a descriptor chained onto itself", STAGE_RUNNING, OUTCOME_BROKEN, chain_onto_itself},
    {"a next outside the table", STAGE_RUNNING, OUTCOME_BROKEN, next_outside_the_table},
    {"a readable descriptor after a writable one", STAGE_RUNNING, OUTCOME_BROKEN, readable_after_writable},
    {"a buffer outside memory", STAGE_RUNNING, OUTCOME_BROKEN, buffer_outside_memory},
    {"a buffer past the end of memory", STAGE_RUNNING, OUTCOME_BROKEN, buffer_past_the_end},
    {"a buffer that wraps", STAGE_RUNNING, OUTCOME_BROKEN, buffer_that_wraps},
    {"a buffer of 4 GiB", STAGE_RUNNING, OUTCOME_BROKEN, buffer_of_four_gigabytes},
    {"an index that jumps by 16384", STAGE_RUNNING, OUTCOME_BROKEN, index_jumps},
    {"an indirect table of 24 bytes", STAGE_RUNNING, OUTCOME_BROKEN, indirect_of_odd_length},
    {"an indirect table of no entries", STAGE_RUNNING, OUTCOME_BROKEN, indirect_of_no_entries},
    {"an indirect table of 1025 entries", STAGE_RUNNING, OUTCOME_BROKEN, indirect_too_long},
    {"an indirect table outside memory", STAGE_RUNNING, OUTCOME_BROKEN, indirect_outside_memory},
    {"an indirect descriptor with a next", STAGE_RUNNING, OUTCOME_BROKEN, indirect_with_next},
    {"an indirect table in an indirect table", STAGE_RUNNING, OUTCOME_BROKEN, indirect_in_indirect},
    {"an indirect table that loops", STAGE_RUNNING, OUTCOME_BROKEN, indirect_that_loops},
    {"a next outside its indirect table", STAGE_RUNNING, OUTCOME_BROKEN, indirect_next_outside},
    {"a disk request without a status byte", STAGE_RUNNING, OUTCOME_BROKEN, request_without_status},
    {"a disk request with half a header", STAGE_RUNNING, OUTCOME_BROKEN, request_with_half_a_header},
    {"a disk request of empty descriptors", STAGE_RUNNING, OUTCOME_BROKEN, request_of_empty_descriptors},
};
const unsigned ring_lie_count = ARRAY_SIZE(ring_lies);

/* One disk request with @bytes of data (readable for OUT and ranges); the status that came is judged. */
static enum outcome request(struct vhost_user_client *client, uint32_t type, uint64_t sector, uint32_t bytes)
{
    uint8_t *header = at(client, LIES_HEADER_OFFSET), *status = at(client, LIES_STATUS_OFFSET);
    bool in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
    put_le32(header, type);
    put_le32(header + 4, 0);
    put_le64(header + 8, sector);
    *status = 0xff;
    struct fake_piece pieces[3] = {{lies_address(LIES_HEADER_OFFSET), 16, false}};
    unsigned count = 1;
    if (bytes > 0)
        pieces[count++] = (struct fake_piece){lies_address(LIES_DATA_OFFSET), bytes, in};
    pieces[count++] = (struct fake_piece){lies_address(LIES_STATUS_OFFSET), 1, true};
    if (client_request(client, 0, pieces, count) < 0)
        return OUTCOME_NONE;
    if (*status == VIRTIO_BLK_S_OK)
        return OUTCOME_SERVED;
    return *status == VIRTIO_BLK_S_IOERR || *status == VIRTIO_BLK_S_UNSUPP ? OUTCOME_BAD_STATUS : OUTCOME_NONE;
}

/* A DISCARD or WRITE_ZEROES of one range. */
static enum outcome range(struct vhost_user_client *client, uint32_t type, uint64_t sector, uint32_t sectors,
                          uint32_t flags, uint32_t bytes)
{
    uint8_t *data = at(client, LIES_DATA_OFFSET);
    memset(data, 0, 4096);
    put_le64(data, sector);
    put_le32(data + 8, sectors);
    put_le32(data + 12, flags);
    return request(client, type, 0, bytes);
}

static enum outcome read_past_the_end(struct vhost_user_client *client)
{
    return request(client, VIRTIO_BLK_T_IN, UINT64_C(1) << 40, 512);
}

static enum outcome read_over_the_end(struct vhost_user_client *client)
{
    return request(client, VIRTIO_BLK_T_IN, LIES_MEMORY_BYTES / 512 - 1, 1024);
}

static enum outcome write_that_wraps(struct vhost_user_client *client)
{
    return request(client, VIRTIO_BLK_T_OUT, UINT64_MAX, 512);
}

static enum outcome read_of_odd_length(struct vhost_user_client *client)
{
    return request(client, VIRTIO_BLK_T_IN, 0, 700);
}

static enum outcome type_unknown(struct vhost_user_client *client)
{
    return request(client, 0x7777, 0, 512);
}

static enum outcome discard_past_the_end(struct vhost_user_client *client)
{
    return range(client, VIRTIO_BLK_T_DISCARD, UINT64_C(1) << 50, 8, 0, 16);
}

static enum outcome discard_with_unknown_flags(struct vhost_user_client *client)
{
    return range(client, VIRTIO_BLK_T_DISCARD, 0, 8, 0x80, 16);
}

static enum outcome discard_of_half_a_range(struct vhost_user_client *client)
{
    return range(client, VIRTIO_BLK_T_DISCARD, 0, 8, 0, 8);
}

static enum outcome discard_of_too_many_ranges(struct vhost_user_client *client)
{
    return range(client, VIRTIO_BLK_T_DISCARD, 0, 8, 0, 4096);
}

static enum outcome zeroes_that_wrap(struct vhost_user_client *client)
{
    return range(client, VIRTIO_BLK_T_WRITE_ZEROES, UINT64_MAX - 3, 8, 0, 16);
}

static enum outcome zeroes_of_everything(struct vhost_user_client *client)
{
    return range(client, VIRTIO_BLK_T_WRITE_ZEROES, 0, UINT32_MAX, 0, 16);
}

const struct lie device_lies[] = {
    {"a read far past the disk's end", STAGE_RUNNING, OUTCOME_BAD_STATUS, read_past_the_end},
    {"a read over the disk's end", STAGE_RUNNING, OUTCOME_BAD_STATUS, read_over_the_end},
    {"a write whose sector wraps", STAGE_RUNNING, OUTCOME_BAD_STATUS, write_that_wraps},
    {"a read of 700 bytes", STAGE_RUNNING, OUTCOME_BAD_STATUS, read_of_odd_length},
    {"a request of an unknown type", STAGE_RUNNING, OUTCOME_BAD_STATUS, type_unknown},
    {"a discard past the disk's end", STAGE_RUNNING, OUTCOME_BAD_STATUS, discard_past_the_end},
    {"a discard with unknown flags", STAGE_RUNNING, OUTCOME_BAD_STATUS, discard_with_unknown_flags},
    {"a discard of half a range", STAGE_RUNNING, OUTCOME_BAD_STATUS, discard_of_half_a_range},
    {"a discard of too many ranges", STAGE_RUNNING, OUTCOME_BAD_STATUS, discard_of_too_many_ranges},
    {"zeroes whose sector wraps", STAGE_RUNNING, OUTCOME_BAD_STATUS, zeroes_that_wrap},
    {"zeroes over more than the disk", STAGE_RUNNING, OUTCOME_BAD_STATUS, zeroes_of_everything},
};
const unsigned device_lie_count = ARRAY_SIZE(device_lies);
