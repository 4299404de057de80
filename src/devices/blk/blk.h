/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * virtio-blk: a disk for the guest (VIRTIO 1.3, 5.2). Many requests in flight, completing in any order. The model knows
 * the protocol; the port knows files.
 */
#ifndef DEVICES_BLK_BLK_H
#define DEVICES_BLK_BLK_H

#include "base/rate_limit.h"
#include "devices/blk/virtio_blk.h"
#include "virtio/virtio_device.h"

#define BLK_QUEUES_MAX 64

/* Operations collected for one call of the port: those of a whole burst of plain requests. */
#define BLK_BATCH_MAX VIRTQ_BURST_MAX

enum blk_op {
    BLK_OP_READ,
    BLK_OP_WRITE,
    BLK_OP_FLUSH,
    BLK_OP_DISCARD,
    BLK_OP_WRITE_ZEROES,
};

#define BLK_IO_DURABLE 1 /* complete only once it is on stable storage: writes of a write-through disk */
#define BLK_IO_UNMAP 2   /* WRITE_ZEROES: space may be freed, as long as it reads as zeros */

/* One operation for the port. It lies inside the disk as the model knows it. */
struct blk_io {
    uint64_t token;
    enum blk_op op;
    uint32_t flags;                /* BLK_IO_* */
    uint64_t offset;               /* bytes from the disk's start, a multiple of 512 */
    uint64_t length;               /* bytes, a multiple of 512; the sum of iov for reads and writes */
    const struct guest_iovec *iov; /* guest memory, valid and unchanged until completion; never interpreted */
    uint32_t iov_count;            /* at most VIRTQ_LONG_RUN_PIECES */
};

struct blk_completion {
    uint64_t token;
    int result; /* 0: all of it is done. < 0: negative errno. The port itself goes on after short transfers. */
};

/*
 * The port: where blocks are. submit, reap and cancel of one queue are used on that queue's thread, different queues at
 * the same time. Nothing blocks.
 */
struct blk_port {
    const struct blk_port_class *class;
};

struct blk_port_class {
    /*
     * Take the first n of @count operations and return n; the others stay the caller's, to be tried after the next
     * completions. 0 only while others of this queue are in flight (or nothing would ever wake us). Order among
     * operations in flight is free. @ios are copied, but for what iov points to.
     */
    unsigned (*submit)(struct blk_port *port, unsigned queue, const struct blk_io *ios, unsigned count);
    /* Fetch up to @max completions. May give what submit has just taken. */
    unsigned (*reap)(struct blk_port *port, unsigned queue, struct blk_completion *completions, unsigned max);
    /* Hurry: the queue is stopping. Everything in flight must still complete, with -ECANCELED if need be. */
    void (*cancel)(struct blk_port *port, unsigned queue);
    uint64_t (*now_ns)(struct blk_port *port); /* a clock that never goes back; asked only with a rate limit */
};

/* What the host decides about the disk. */
struct blk_options {
    uint64_t size_bytes;                /* capacity; rounded down to whole blocks */
    uint32_t block_bytes;               /* logical block: 512 or 4096 */
    uint32_t physical_bytes;            /* physical block, if a power of two times block_bytes; else not said */
    uint32_t optimal_io_bytes;          /* for the topology; rounded down to whole blocks; 0: not said */
    uint32_t seg_max;                   /* data pieces a request may have; 0: 126 */
    uint32_t size_max;                  /* bytes a piece may have; 0: not limited, and not offered */
    uint64_t limit_iops;                /* 0: none */
    uint64_t limit_bytes_per_s;         /* 0: none */
    uint32_t discard_granularity_bytes; /* rounded up to whole blocks; 0: block_bytes */
    bool read_only;
    bool discard;      /* offer DISCARD */
    bool write_zeroes; /* offer WRITE_ZEROES */
    bool write_cache;  /* the host's answers come before data is stable: offer FLUSH and CONFIG_WCE */
    char serial[VIRTIO_BLK_ID_BYTES + 1]; /* answers GET_ID */
};

enum blk_counter {
    BLK_COUNT_READS, /* requests, in the order of enum blk_op */
    BLK_COUNT_WRITES,
    BLK_COUNT_FLUSHES,
    BLK_COUNT_DISCARDS,
    BLK_COUNT_ZEROES,
    BLK_COUNT_IDS,
    BLK_COUNT_READ_BYTES,
    BLK_COUNT_WRITE_BYTES,
    BLK_COUNT_FAILED,      /* requests that got IOERR */
    BLK_COUNT_UNSUPPORTED, /* requests that got UNSUPP */
    BLK_COUNTERS,
};

/* Two lines of 64 bytes: processors fetch them in pairs. */
#define BLK_QUEUE_ALIGNMENT 128

/* What one queue's thread writes; it shares no cache line with another's. */
struct blk_queue {
    _Alignas(BLK_QUEUE_ALIGNMENT) unsigned first; /* of blk.ios[queue], [first .. first + count) wait, in order */
    unsigned count;
    _Atomic uint64_t counters[BLK_COUNTERS]; /* written by the queue's thread, read by any */
};
static_assert(sizeof(struct blk_queue) == BLK_QUEUE_ALIGNMENT, "one queue, one pair of lines");

/* 230 KB by its last member, of which only the queues in use are ever touched: mind the stack. */
struct blk {
    struct virtio_device device;
    struct blk_port *port; /* borrowed: must outlive the device */
    struct blk_options options;
    _Atomic uint64_t capacity_sectors; /* of 512; changes by blk_resize */
    _Atomic bool writeback;            /* 5.2.6.2: the cache mode in force */
    struct rate_limit iops;
    struct rate_limit bytes;
    struct blk_queue queues[BLK_QUEUES_MAX];
    /* What each queue's thread has gathered for the port and the port has not taken yet. */
    _Alignas(BLK_QUEUE_ALIGNMENT) struct blk_io ios[BLK_QUEUES_MAX][BLK_BATCH_MAX];
};
static_assert(sizeof(struct blk_io[BLK_BATCH_MAX]) % BLK_QUEUE_ALIGNMENT == 0, "batches share no cache line");

/*
 * @queues are borrowed, initialised, and outlive the device. -EINVAL: options that no disk can have, or more than
 * BLK_QUEUES_MAX queues. What the host says about its topology is a hint: where it makes no sense, it is not passed on.
 */
int blk_init(struct blk *blk, struct virtqueue *queues, uint16_t queue_count, struct blk_port *port,
             const struct blk_options *options);

/* What virtq_arena_shape.request_bytes must be for its queues. */
size_t blk_request_bytes(void);

/*
 * The disk has another size from now on; requests past the new end fail, those in flight go on. The caller tells the
 * driver afterwards. From the control thread, at any time.
 */
void blk_resize(struct blk *blk, uint64_t size_bytes);

/* Of all queues together, since blk_init. From any thread. */
uint64_t blk_count(const struct blk *blk, enum blk_counter which);

#endif
