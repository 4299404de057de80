/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A chain's pieces stay as they were cut, since the dirty log and the access table need them so at the end. Cursors are
 * numbers beside them. Only when a port gets the pieces in place must the first and the last one be shortened: then the
 * chain remembers what they were (trims), and settling puts that back.
 *
 * Limits
 *
 * Each part can be given to a port once, all that is left of it. What the port wrote is not known piece by piece when
 * it fails in the middle, so the dirty log then counts the whole part as written.
 */
#include "virtio/virtq_layout.h"

size_t virtq_chain_read_cold(struct virtq_chain *chain, void *to, size_t size)
{
    size = (size_t)u64_min(size, chain->readable_bytes);
    chain->readable_bytes -= (uint32_t)size;

    uint8_t *bytes = to;
    for (size_t left = size; left > 0;) {
        const struct guest_iovec *piece = &chain->iov[chain->read_piece];
        size_t take = size_min(left, piece->length - chain->read_offset);
        shared_copy_in(bytes, (const uint8_t *)piece->base + chain->read_offset, take);
        bytes += take;
        left -= take;
        chain->read_offset += (uint32_t)take;
        if (chain->read_offset == piece->length) {
            chain->read_piece++;
            chain->read_offset = 0;
        }
    }
    return size;
}

size_t virtq_chain_write(struct virtq_chain *chain, const void *from, size_t size)
{
    size = (size_t)u64_min(size, chain->writable_bytes);
    chain->writable_bytes -= (uint32_t)size;
    chain->written += (uint32_t)size;

    const uint8_t *bytes = from;
    for (size_t left = size; left > 0;) {
        const struct guest_iovec *piece = &chain->iov[chain->write_piece];
        size_t take = size_min(left, piece->length - chain->write_offset);
        memcpy((uint8_t *)piece->base + chain->write_offset, bytes, take);
        bytes += take;
        left -= take;
        chain->write_offset += (uint32_t)take;
        if (chain->write_offset == piece->length) {
            chain->write_piece++;
            chain->write_offset = 0;
        }
    }
    return size;
}

int virtq_chain_keep_tail_cold(struct virtq_chain *chain, uint8_t bytes)
{
    if (chain->writable_bytes < bytes)
        return -EPROTO;

    /* From the end, over as many pieces as the tail has. */
    unsigned piece = (unsigned)chain->readable_count + chain->writable_count - 1;
    size_t left = bytes;
    while (chain->iov[piece].length < left) {
        left -= chain->iov[piece].length;
        piece--;
    }
    chain->tail_piece = (uint16_t)piece;
    chain->tail_offset = (uint32_t)(chain->iov[piece].length - left);
    chain->tail_bytes = bytes;
    chain->writable_bytes -= bytes;
    chain->before_tail = chain->writable_bytes;
    return 0;
}

/* Piece @index as it was cut from guest memory. */
static struct guest_iovec original_piece(const struct virtq_chain *chain, unsigned index)
{
    for (unsigned i = 0; i < chain->trim_count; i++) {
        if (chain->trim_pieces[i] == index)
            return chain->trims[i]; /* the first trim of a piece has it whole */
    }
    return chain->iov[index];
}

void virtq_chain_write_tail_cold(struct virtq_chain *chain, const void *from)
{
    ASSERT(chain->tail_bytes > 0 && !chain->tail_written);
    const uint8_t *bytes = from;
    size_t offset = chain->tail_offset;
    unsigned index = chain->tail_piece;
    for (size_t left = chain->tail_bytes; left > 0; index++) {
        struct guest_iovec piece = original_piece(chain, index);
        size_t take = size_min(left, piece.length - offset);
        memcpy((uint8_t *)piece.base + offset, bytes, take);
        bytes += take;
        left -= take;
        offset = 0;
    }
    chain->tail_written = true;
    if (chain->written == chain->before_tail)
        chain->written += chain->tail_bytes;
}

static void remember(struct virtq_chain *chain, unsigned piece)
{
    ASSERT(chain->trim_count < VIRTQ_TRIMS_MAX);
    chain->trim_pieces[chain->trim_count] = (uint16_t)piece;
    chain->trims[chain->trim_count] = chain->iov[piece];
    chain->trim_count++;
}

/* Pieces [@first, @end) without the first @offset bytes, and with @end_offset bytes (when not 0) of piece @end too. */
static unsigned give_pieces(struct virtq_chain *chain, unsigned first, uint32_t offset, unsigned end,
                            uint32_t end_offset, const struct guest_iovec **ret_iov)
{
    /* The end first: when both cut one piece, the remembered one is whole, and so is the length that the end sets. */
    if (end_offset > 0) {
        remember(chain, end);
        chain->iov[end].length = end_offset;
        end++;
    }
    if (offset > 0) {
        remember(chain, first);
        chain->iov[first].base = (uint8_t *)chain->iov[first].base + offset;
        chain->iov[first].length -= offset;
    }
    *ret_iov = &chain->iov[first];
    return end - first;
}

unsigned virtq_chain_readable_iov(struct virtq_chain *chain, const struct guest_iovec **ret_iov)
{
    *ret_iov = chain->iov;
    if (chain->readable_bytes == 0)
        return 0;
    chain->readable_bytes = 0;
    return give_pieces(chain, chain->read_piece, chain->read_offset, chain->readable_count, 0, ret_iov);
}

unsigned virtq_chain_writable_iov_cold(struct virtq_chain *chain, const struct guest_iovec **ret_iov)
{
    *ret_iov = chain->iov;
    if (chain->writable_bytes == 0)
        return 0;
    chain->writable_bytes = 0;
    chain->writable_given = true;
    bool tail = chain->tail_bytes > 0;
    unsigned end = tail ? chain->tail_piece : (unsigned)chain->readable_count + chain->writable_count;
    return give_pieces(chain, chain->write_piece, chain->write_offset, end, tail ? chain->tail_offset : 0, ret_iov);
}

static void restore_pieces(struct virtq_chain *chain)
{
    while (chain->trim_count > 0) {
        chain->trim_count--;
        chain->iov[chain->trim_pieces[chain->trim_count]] = chain->trims[chain->trim_count];
    }
}

/* Mark [@offset, …) of piece @index and those after it, @bytes in all. */
static void mark_pieces(const struct virtq_chain *chain, const struct dirty_log *log, unsigned index, size_t offset,
                        uint64_t bytes)
{
    unsigned end = (unsigned)chain->readable_count + chain->writable_count;
    for (; index < end && bytes > 0; index++) {
        uint64_t take = u64_min(bytes, chain->iov[index].length - offset);
        dirty_log_mark(log, chain->addresses[index] + offset, take);
        bytes -= take;
        offset = 0;
    }
}

void virtq_chain_settle(struct virtqueue *queue, struct virtq_chain *chain)
{
    restore_pieces(chain);
    bool written = chain->written > 0 || chain->writable_given || chain->tail_written;

    if (queue->log != NULL && written) {
        uint64_t data = chain->tail_written ? u32_min(chain->written, chain->before_tail) : chain->written;
        mark_pieces(chain, queue->log, chain->readable_count, 0, chain->writable_given ? UINT64_MAX : data);
        if (chain->tail_written)
            mark_pieces(chain, queue->log, chain->tail_piece, chain->tail_offset, chain->tail_bytes);
    }
    if (chain->mapped_by != NULL) {
        unsigned first = chain->readable_count;
        guest_memory_release(chain->mapped_by, chain->iov, chain->addresses, first, false);
        guest_memory_release(chain->mapped_by, chain->iov + first, chain->addresses + first, chain->writable_count,
                             written);
    }
}
