/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Another front end at our disk: libblkio's virtio-blk-vhost-user driver. usage: libblkio_check SOCKET
 *
 * Writes blocks that say where they belong, in an order that mixes them, over all queues with many requests in flight;
 * flushes; reads them back from other queues; writes zeroes over some and discards others, and looks again. Prints one
 * line and exits 0 when all was as it should be. It alters what is on the disk.
 */
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <blkio.h> /* after <signal.h> and <time.h>, whose types it uses */

#define QUEUES 4
#define BLOCK_BYTES 4096u
#define BLOCKS 4096u /* 16 MiB of the disk */
#define DEPTH 32u    /* requests in flight on each queue */
/* An odd factor visits every block once, in an order that is not the disk's. */
#define STRIDE 1103u
#define ZEROED_BLOCKS 256u    /* from the first on */
#define DISCARDED_BLOCKS 256u /* from there on */

static struct blkio *blkio;
static uint8_t *buffers; /* QUEUES * DEPTH blocks of memory shared with the disk */

static void fail(const char *what)
{
    fprintf(stderr, "libblkio_check: %s: %s\n", what, blkio_get_error_msg());
    exit(1);
}

static void wrong(const char *what, uint64_t block)
{
    fprintf(stderr, "libblkio_check: block %llu %s\n", (unsigned long long)block, what);
    exit(1);
}

static void fill(uint8_t *buffer, uint64_t block)
{
    for (unsigned i = 0; i < BLOCK_BYTES / 8; i++) {
        uint64_t word = block * 0x9e3779b97f4a7c15u + i;
        memcpy(buffer + i * 8, &word, 8);
    }
}

static void check(const uint8_t *buffer, uint64_t block, uint64_t first_kept)
{
    uint8_t expected[BLOCK_BYTES] = {0};
    if (block >= first_kept)
        fill(expected, block);
    if (memcmp(buffer, expected, BLOCK_BYTES) != 0)
        wrong(block >= first_kept ? "lost its content" : "is not zeroes", block);
}

static struct blkioq *queue_of(unsigned index)
{
    struct blkioq *queue = blkio_get_queue(blkio, (int)index);
    if (queue == NULL)
        fail("a queue is missing");
    return queue;
}

/* One request that has to succeed, alone on its queue. */
static void finish_one(struct blkioq *queue, const char *what)
{
    struct blkio_completion completion;
    if (blkioq_do_io(queue, &completion, 1, 1, NULL) != 1)
        fail(what);
    if (completion.ret != 0)
        wrong(what, 0);
}

static void connect_to(const char *path)
{
    struct blkio_mem_region region;
    uint64_t bytes;
    if (blkio_create("virtio-blk-vhost-user", &blkio) != 0 || blkio_set_str(blkio, "path", path) != 0)
        fail("the driver cannot be had");
    if (blkio_connect(blkio) != 0)
        fail("connect");
    if (blkio_set_int(blkio, "num-queues", QUEUES) != 0 || blkio_start(blkio) != 0)
        fail("start");
    if (blkio_get_uint64(blkio, "capacity", &bytes) != 0 || bytes < (uint64_t)BLOCKS * BLOCK_BYTES)
        fail("the disk is too small");
    if (blkio_alloc_mem_region(blkio, &region, (size_t)QUEUES * DEPTH * BLOCK_BYTES) != 0 ||
        blkio_map_mem_region(blkio, &region) != 0)
        fail("memory");
    buffers = region.addr;
}

/*
 * Write or read every block. Queue q has the blocks whose place in the order is q modulo QUEUES, shifted by @shift, so
 * that what one queue has written another reads.
 */
static void pass(bool writes, unsigned shift, uint64_t first_kept)
{
    for (unsigned start = 0; start < BLOCKS; start += QUEUES * DEPTH) {
        for (unsigned i = 0; i < QUEUES * DEPTH; i++) {
            uint64_t block = (uint64_t)(start + i) * STRIDE % BLOCKS;
            uint8_t *buffer = buffers + (size_t)i * BLOCK_BYTES;
            struct blkioq *queue = queue_of((i + shift) % QUEUES);
            if (writes) {
                fill(buffer, block);
                blkioq_write(queue, block * BLOCK_BYTES, buffer, BLOCK_BYTES, buffer, 0);
            } else {
                memset(buffer, 0xee, BLOCK_BYTES);
                blkioq_read(queue, block * BLOCK_BYTES, buffer, BLOCK_BYTES, buffer, 0);
            }
        }
        for (unsigned q = 0; q < QUEUES; q++) { /* all of them on their way before one is waited for */
            if (blkioq_do_io(queue_of(q), NULL, 0, 0, NULL) < 0)
                fail("submit");
        }
        for (unsigned q = 0; q < QUEUES; q++) {
            struct blkio_completion completions[DEPTH];
            if (blkioq_do_io(queue_of(q), completions, DEPTH, DEPTH, NULL) != DEPTH)
                fail("complete");
            for (unsigned i = 0; i < DEPTH; i++) {
                uint64_t place = (uint64_t)((uint8_t *)completions[i].user_data - buffers) / BLOCK_BYTES;
                uint64_t block = (start + place) * STRIDE % BLOCKS;
                if (completions[i].ret != 0)
                    wrong(writes ? "cannot be written" : "cannot be read", block);
                if (!writes)
                    check(completions[i].user_data, block, first_kept);
            }
        }
    }
    blkioq_flush(queue_of(0), NULL, 0);
    finish_one(queue_of(0), "flush");
}

int main(int argument_count, char **arguments)
{
    if (argument_count != 2) {
        fprintf(stderr, "usage: libblkio_check SOCKET\n");
        return 2;
    }
    connect_to(arguments[1]);
    pass(true, 0, 0);
    pass(false, 1, 0);

    struct blkioq *queue = queue_of(2);
    blkioq_write_zeroes(queue, 0, (uint64_t)ZEROED_BLOCKS * BLOCK_BYTES, NULL, BLKIO_REQ_NO_UNMAP);
    finish_one(queue, "write zeroes");
    blkioq_discard(queue, (uint64_t)ZEROED_BLOCKS * BLOCK_BYTES, (uint64_t)DISCARDED_BLOCKS * BLOCK_BYTES, NULL, 0);
    finish_one(queue, "discard");
    pass(false, 3, ZEROED_BLOCKS + DISCARDED_BLOCKS);

    blkio_destroy(&blkio);
    printf("%u blocks written, read and checked over %d queues\n", BLOCKS, QUEUES);
    return 0;
}
