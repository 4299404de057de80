/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A request's header is copied out of guest memory once and judged; what it asks for becomes one operation of the port,
 * or one for each range. Data never passes through here: the pieces of the chain go to the port as they are. A request
 * that asks for what cannot be is answered with a status, and the guest goes on; only one that has no header or no
 * place for a status cannot be answered (-EPROTO).
 *
 * The used length (2.7.8.2) promises that so many bytes *from the beginning* of the writable part were written. The
 * status byte stands at the end (5.2.6), so it counts only when all data before it was written (virtq_chain_write_tail
 * sees to that): a read that failed reports 0, a write 1, a read that went well its data and 1.
 *
 * Limits
 *
 * A request carries less than 4 GiB (2.7.4: a chain is at most 2^32 bytes long, and the used length has 32 bits).
 * Operations that are not whole logical blocks fail, though the standard would let a driver ask for them, as QEMU has
 * it: the file below may allow nothing else.
 */
#include <errno.h>

#include "devices/blk/blk_config.h"
#include "devices/blk/blk_request.h"

static_assert((int)BLK_COUNT_READS == BLK_OP_READ && (int)BLK_COUNT_WRITES == BLK_OP_WRITE &&
                  (int)BLK_COUNT_FLUSHES == BLK_OP_FLUSH && (int)BLK_COUNT_DISCARDS == BLK_OP_DISCARD &&
                  (int)BLK_COUNT_ZEROES == BLK_OP_WRITE_ZEROES,
              "operations are counted by their number");

#define BLK_REQUEST_BYTES_MAX (UINT32_MAX - (VIRTIO_BLK_SECTOR_BYTES - 1))

static int answer(struct blk_turn *turn, struct virtq_chain *chain, uint8_t status)
{
    virtq_chain_write_tail(chain, &status);
    if (status == VIRTIO_BLK_S_IOERR)
        blk_turn_count(turn, BLK_COUNT_FAILED, 1);
    else if (status == VIRTIO_BLK_S_UNSUPP)
        blk_turn_count(turn, BLK_COUNT_UNSUPPORTED, 1);
    return BLK_ANSWERED;
}

/* Whole logical blocks, inside the disk as large as it is now? */
static bool range_is_sound(const struct blk *blk, uint64_t sector, uint64_t sectors)
{
    uint64_t capacity = atomic_load_explicit(&blk->capacity_sectors, memory_order_relaxed);
    uint64_t block_sectors = blk->options.block_bytes / VIRTIO_BLK_SECTOR_BYTES;

    return is_aligned(sector | sectors, block_sectors) && range_within(sector, sectors, capacity);
}

/* Take @ios operations and @bytes out of the limits: all or nothing. False: later. */
static bool limits_take(struct blk_turn *turn, uint64_t ios, uint64_t bytes)
{
    struct blk *blk = turn->blk;
    uint64_t now_ns = blk->port->class->now_ns(blk->port);
    uint64_t at_ns;

    if (!rate_limit_take(&blk->iops, ios, now_ns, &at_ns)) {
        turn->queue->wake_at_ns = at_ns;
        return false;
    }
    if (bytes > 0 && !rate_limit_take(&blk->bytes, bytes, now_ns, &at_ns)) {
        rate_limit_return(&blk->iops, ios);
        turn->queue->wake_at_ns = at_ns;
        return false;
    }
    return true;
}

/* May a request of @ios operations that move @bytes start now? */
static inline int admit(struct blk_turn *turn, unsigned ios, uint64_t bytes)
{
    if (ios > BLK_BATCH_MAX - turn->batch->count)
        return BLK_NO_ROOM;
    if (turn->limited && !limits_take(turn, ios, bytes))
        return BLK_NOT_SO_FAST;
    return BLK_STARTED;
}

static struct blk_request *begin(struct blk_turn *turn, struct virtq_chain *chain, enum blk_op op, unsigned ios)
{
    struct blk_request *request = chain->request;

    *request = (struct blk_request){.ios_left = (uint16_t)ios, .op = (uint8_t)op, .status = VIRTIO_BLK_S_OK};
    blk_turn_count(turn, (enum blk_counter)op, 1);
    return request;
}

/* The batch is filled only when empty, so its first operation is number 0 meanwhile. */
static struct blk_io *next_io(struct blk_turn *turn)
{
    ASSERT(turn->batch->first == 0 && turn->batch->count < BLK_BATCH_MAX);
    return &turn->ios[turn->batch->count++];
}

/* IN and OUT: the data is all that stands between header and status. */
static int start_transfer(struct blk_turn *turn, struct virtq_chain *chain, enum blk_op op, uint64_t sector)
{
    bool reads = op == BLK_OP_READ;
    uint64_t bytes = reads ? chain->writable_bytes : chain->readable_bytes;

    if (bytes % VIRTIO_BLK_SECTOR_BYTES != 0 || bytes > BLK_REQUEST_BYTES_MAX)
        return answer(turn, chain, VIRTIO_BLK_S_IOERR);
    if (!range_is_sound(turn->blk, sector, bytes / VIRTIO_BLK_SECTOR_BYTES))
        return answer(turn, chain, VIRTIO_BLK_S_IOERR);
    if (bytes == 0)
        return answer(turn, chain, VIRTIO_BLK_S_OK);
    int verdict = admit(turn, 1, bytes);
    if (verdict != BLK_STARTED)
        return verdict;

    begin(turn, chain, op, 1)->bytes = (uint32_t)bytes;
    struct blk_io *io = next_io(turn);
    io->token = chain->token;
    io->op = op;
    io->flags = reads ? 0 : turn->durable_flags;
    io->offset = sector * VIRTIO_BLK_SECTOR_BYTES;
    io->length = bytes;
    io->iov_count = reads ? virtq_chain_writable_iov(chain, &io->iov) : virtq_chain_readable_iov(chain, &io->iov);
    return BLK_STARTED;
}

static int start_flush(struct blk_turn *turn, struct virtq_chain *chain)
{
    int verdict = admit(turn, 1, 0);
    if (verdict != BLK_STARTED)
        return verdict;
    begin(turn, chain, BLK_OP_FLUSH, 1);
    *next_io(turn) = (struct blk_io){.token = chain->token, .op = BLK_OP_FLUSH};
    return BLK_STARTED;
}

static int answer_id(struct blk_turn *turn, struct virtq_chain *chain)
{
    /* 5.2.6: padded with zeros, no terminator when all 20 are used. A shorter buffer gets what it holds. */
    virtq_chain_write(chain, turn->blk->options.serial, VIRTIO_BLK_ID_BYTES);
    blk_turn_count(turn, BLK_COUNT_IDS, 1);
    return answer(turn, chain, VIRTIO_BLK_S_OK);
}

/* The status that @ranges deserve before any of them is touched; counts the operations they need and their bytes. */
static uint8_t judge_ranges(const struct blk *blk, enum blk_op op, const struct virtio_blk_range *ranges,
                            unsigned count, unsigned *ret_ios, uint64_t *ret_bytes)
{
    uint32_t flags_known = op == BLK_OP_WRITE_ZEROES ? VIRTIO_BLK_RANGE_UNMAP : 0;
    uint32_t sectors_max = op == BLK_OP_WRITE_ZEROES ? BLK_WRITE_ZEROES_SECTORS_MAX : BLK_DISCARD_SECTORS_MAX;
    unsigned ios = 0;
    uint64_t bytes = 0;

    /* 5.2.6.2: any unknown flag, and unmap with DISCARD, is UNSUPP, whatever else is wrong. */
    for (unsigned i = 0; i < count; i++) {
        if ((le32_to_cpu(ranges[i].flags) & ~flags_known) != 0)
            return VIRTIO_BLK_S_UNSUPP;
    }
    for (unsigned i = 0; i < count; i++) {
        uint32_t sectors = le32_to_cpu(ranges[i].num_sectors);
        if (sectors > sectors_max || !range_is_sound(blk, le64_to_cpu(ranges[i].sector), sectors))
            return VIRTIO_BLK_S_IOERR;
        ios += sectors != 0;
        bytes += (uint64_t)sectors * VIRTIO_BLK_SECTOR_BYTES;
    }
    *ret_ios = ios;
    *ret_bytes = bytes;
    return VIRTIO_BLK_S_OK;
}

/* DISCARD and WRITE_ZEROES: the data is an array of ranges, each of which is one operation. */
static int start_ranges(struct blk_turn *turn, struct virtq_chain *chain, enum blk_op op)
{
    struct virtio_blk_range ranges[BLK_RANGES_MAX];
    size_t bytes = chain->readable_bytes <= sizeof(ranges) ? (size_t)chain->readable_bytes : 0;
    unsigned count = (unsigned)(bytes / sizeof(ranges[0]));
    unsigned ios = 0;
    uint64_t moved = 0;

    if (count == 0 || bytes % sizeof(ranges[0]) != 0)
        return answer(turn, chain, VIRTIO_BLK_S_IOERR);
    size_t copied = virtq_chain_read(chain, ranges, bytes);
    ASSERT(copied == bytes);
    uint8_t status = judge_ranges(turn->blk, op, ranges, count, &ios, &moved);
    if (status != VIRTIO_BLK_S_OK || ios == 0)
        return answer(turn, chain, status);
    /* Zeros may have to be written, so they count as bytes; freeing space does not. */
    int verdict = admit(turn, ios, op == BLK_OP_WRITE_ZEROES ? moved : 0);
    if (verdict != BLK_STARTED)
        return verdict;

    begin(turn, chain, op, ios);
    for (unsigned i = 0; i < count; i++) {
        if (ranges[i].num_sectors == 0)
            continue;
        bool unmap = (le32_to_cpu(ranges[i].flags) & VIRTIO_BLK_RANGE_UNMAP) != 0 && turn->blk->options.discard;
        *next_io(turn) = (struct blk_io){
            .token = chain->token,
            .op = op,
            .flags = turn->durable_flags | (unmap ? BLK_IO_UNMAP : 0),
            .offset = le64_to_cpu(ranges[i].sector) * VIRTIO_BLK_SECTOR_BYTES,
            .length = (uint64_t)le32_to_cpu(ranges[i].num_sectors) * VIRTIO_BLK_SECTOR_BYTES,
        };
    }
    return BLK_STARTED;
}

/* A request that changes the disk: IOERR where nothing may (5.2.6.2), UNSUPP where the driver did not take @feature. */
static int start_change(struct blk_turn *turn, struct virtq_chain *chain, enum blk_op op, uint64_t feature)
{
    if (turn->blk->options.read_only)
        return answer(turn, chain, VIRTIO_BLK_S_IOERR);
    if ((turn->blk->device.features & feature) == 0)
        return answer(turn, chain, VIRTIO_BLK_S_UNSUPP);
    return start_ranges(turn, chain, op);
}

int blk_request_start(struct blk_turn *turn, struct virtq_chain *chain)
{
    struct virtio_blk_header header;

    if (virtq_chain_read(chain, &header, sizeof(header)) != sizeof(header))
        return virtqueue_wrong(turn->queue, "a disk request without a whole header");
    if (virtq_chain_keep_tail(chain, 1) < 0)
        return virtqueue_wrong(turn->queue, "a disk request without room for its status");

    switch (le32_to_cpu(header.type)) {
    case VIRTIO_BLK_T_IN:
        return start_transfer(turn, chain, BLK_OP_READ, le64_to_cpu(header.sector));
    case VIRTIO_BLK_T_OUT:
        if (turn->blk->options.read_only)
            return answer(turn, chain, VIRTIO_BLK_S_IOERR);
        return start_transfer(turn, chain, BLK_OP_WRITE, le64_to_cpu(header.sector));
    case VIRTIO_BLK_T_FLUSH:
        return start_flush(turn, chain);
    case VIRTIO_BLK_T_GET_ID:
        return answer_id(turn, chain);
    case VIRTIO_BLK_T_DISCARD:
        return start_change(turn, chain, BLK_OP_DISCARD, VIRTIO_BLK_F_DISCARD);
    case VIRTIO_BLK_T_WRITE_ZEROES:
        return start_change(turn, chain, BLK_OP_WRITE_ZEROES, VIRTIO_BLK_F_WRITE_ZEROES);
    default:
        return answer(turn, chain, VIRTIO_BLK_S_UNSUPP);
    }
}

bool blk_request_complete(struct blk_turn *turn, struct virtq_chain *chain, int result)
{
    struct blk_request *request = chain->request;

    ASSERT(request->ios_left > 0);
    ASSERT(result <= 0);
    if (result == -EOPNOTSUPP && request->status == VIRTIO_BLK_S_OK)
        request->status = VIRTIO_BLK_S_UNSUPP; /* the file below cannot do that: the driver may stop asking */
    else if (result < 0 && result != -EOPNOTSUPP)
        request->status = VIRTIO_BLK_S_IOERR;
    if (--request->ios_left > 0)
        return false;

    if (request->status == VIRTIO_BLK_S_OK && request->op == BLK_OP_READ) {
        virtq_chain_wrote(chain, request->bytes);
        blk_turn_count(turn, BLK_COUNT_READ_BYTES, request->bytes);
    } else if (request->status == VIRTIO_BLK_S_OK) {
        blk_turn_count(turn, BLK_COUNT_WRITE_BYTES, request->bytes);
    }
    answer(turn, chain, request->status);
    return true;
}
