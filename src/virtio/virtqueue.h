/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The device's side of a virtqueue (VIRTIO 1.3, 2.6 to 2.8). The ring's layout, split or packed, is chosen at start and
 * hidden behind these calls.
 *
 * Life of a request: virtqueue_pop gives a burst of chains, private, checked and bounded. The device reads and writes
 * them, at once or much later, in any order. virtqueue_push hands each back; virtqueue_publish shows the whole
 * batch to the driver. A chain that cannot be served now goes back by virtqueue_unpop. A queue is stopped when it has
 * no chain out. With VIRTIO_F_IN_ORDER the driver sees requests in the order in which they were popped, whatever the
 * order of the pushes: one that overtook others waits in the queue, and counts as out until they are back.
 *
 * Errors: a negative errno. -EPROTO means that the guest broke the rules: the queue is broken for good, nothing more is
 * popped, chains already out may still be pushed. Everything runs on the queue's own thread; nothing blocks, allocates
 * or locks. Chains stay the queue's; the device holds them only between pop and push or unpop.
 */
#ifndef VIRTIO_VIRTQUEUE_H
#define VIRTIO_VIRTQUEUE_H

#include "memory/dirty_log.h"
#include "memory/guest_memory.h"
#include "virtio/virtio_ids.h"
#include "virtio/virtio_ring.h"
#include "virtio/virtq_arena.h"
#include "virtio/virtq_record.h"

/* The most chains one pop, and so one run, handles at a time. */
#define VIRTQ_BURST_MAX 64

/* Entries of an indirect table: may exceed the ring's size, since Linux's blk driver does that (see seg_max). */
#define VIRTQ_INDIRECT_MAX 1024

/* The first piece of the readable part, the first and the last of the writable one. */
#define VIRTQ_TRIMS_MAX 3

/*
 * One request. The device-readable part comes first, then the device-writable one (2.7.4.2); each has a cursor of its
 * own. Fields are for reading; the calls below change them. What every pop writes lies in two cache lines: one set, and
 * half a one cleared.
 */
struct virtq_chain {
    _Alignas(64) struct guest_iovec *iov;
    uint64_t *addresses;                  /* guest addresses of the pieces, for the dirty log */
    void *request;                        /* the device's own state for this request; not cleared between requests */
    const struct guest_memory *mapped_by; /* whose access table reached the pieces; NULL: there is none */
    uint32_t readable_bytes;              /* not yet taken by the readable cursor */
    uint32_t writable_bytes;              /* not yet taken by the writable cursor, the tail not counted */
    uint32_t token;                       /* names this request to ports: slot in the low 16 bits, generation above */
    uint32_t arrival;                     /* counts pops: which chain came when, for unpop */
    uint16_t head;                        /* the ring's name for it: its first descriptor; packed: its buffer id */
    uint16_t run;                         /* which run of the arena holds the pieces */
    uint16_t readable_count;              /* pieces iov[0 .. readable_count) */
    uint16_t writable_count;              /* pieces iov[readable_count .. readable_count + writable_count) */
    uint16_t write_piece;                 /* the writable cursor: piece, and write_offset bytes of it already taken */
    uint16_t ring_count;                  /* packed: descriptors of the ring that it takes */
    uint16_t record;                      /* packed: where it stands in the in-flight record */
    bool out;                             /* popped, not yet given back: a stale token finds this false */
    union {
        struct {
            uint32_t written;     /* bytes that the used entry will report */
            uint32_t read_offset; /* the readable cursor */
            uint32_t write_offset;
            uint32_t tail_offset; /* where the tail begins */
            uint32_t before_tail; /* writable bytes in front of the tail */
            uint16_t tail_piece;
            uint16_t read_piece;
            uint8_t tail_bytes; /* kept back by virtq_chain_keep_tail */
            bool tail_written;
            bool writable_given; /* a port has the writable part: it may have written any of it */
            bool resubmitted;    /* popped anew, from the in-flight record */
            bool waiting;        /* given back, and kept until those before it are: VIRTIO_F_IN_ORDER */
            uint8_t trim_count;
        };
        uint64_t cleared[4]; /* all of these, at each pop */
    };
    /* pieces that were cut for an array, as they were before */
    uint16_t trim_pieces[VIRTQ_TRIMS_MAX];
    struct guest_iovec trims[VIRTQ_TRIMS_MAX];
};
static_assert(offsetof(struct virtq_chain, cleared) == 64 || sizeof(void *) != 8, "the second cache line");

/* For the calls below: whatever does not lie in one piece as it was cut. */
size_t virtq_chain_read_cold(struct virtq_chain *chain, void *to, size_t size);
int virtq_chain_keep_tail_cold(struct virtq_chain *chain, uint8_t bytes);
void virtq_chain_write_tail_cold(struct virtq_chain *chain, const void *from);
unsigned virtq_chain_writable_iov_cold(struct virtq_chain *chain, const struct guest_iovec **ret_iov);

/* Copy out the next bytes of the readable part; fewer than @size only at its end. Each byte is read once. */
static inline size_t virtq_chain_read(struct virtq_chain *chain, void *to, size_t size)
{
    if (size - 1 >= chain->readable_bytes || chain->read_offset != 0 || size > chain->iov[chain->read_piece].length)
        return virtq_chain_read_cold(chain, to, size);
    const struct guest_iovec *piece = &chain->iov[chain->read_piece];
    shared_copy_in(to, piece->base, size);
    chain->readable_bytes -= (uint32_t)size;
    if (size == piece->length)
        chain->read_piece++;
    else
        chain->read_offset = (uint32_t)size;
    return size;
}

/* Copy into the next bytes of the writable part; fewer than @size only at its end. Adds to chain->written. */
size_t virtq_chain_write(struct virtq_chain *chain, const void *from, size_t size);

/*
 * Keep the last @bytes (1 to 255) of the writable part out of the cursor's way, for a status that follows the data
 * (5.2.6). Before any other use of the writable part, once. -EPROTO: the part is shorter.
 */
static inline int virtq_chain_keep_tail(struct virtq_chain *chain, uint8_t bytes)
{
    unsigned piece = (unsigned)chain->readable_count + chain->writable_count - 1;
    ASSERT(bytes > 0 && chain->tail_bytes == 0);
    ASSERT(chain->written == 0 && !chain->writable_given);
    if (chain->writable_bytes < bytes || chain->iov[piece].length < bytes)
        return virtq_chain_keep_tail_cold(chain, bytes);
    chain->tail_piece = (uint16_t)piece;
    chain->tail_offset = (uint32_t)(chain->iov[piece].length - bytes);
    chain->tail_bytes = bytes;
    chain->writable_bytes -= bytes;
    chain->before_tail = chain->writable_bytes;
    /* It is written when the request is done: its cache line is another processor's until then. */
    __builtin_prefetch((uint8_t *)chain->iov[piece].base + chain->tail_offset, 1);
    return 0;
}

/*
 * Fill the tail that was kept, after all else. It adds to chain->written only when everything in front of it was
 * written: the used length promises bytes from the beginning of the writable part, without a gap (2.7.8.2).
 */
static inline void virtq_chain_write_tail(struct virtq_chain *chain, const void *from)
{
    if (chain->tail_bytes != 1 || chain->trim_count > 0 || chain->tail_written) {
        virtq_chain_write_tail_cold(chain, from);
        return;
    }
    ((uint8_t *)chain->iov[chain->tail_piece].base)[chain->tail_offset] = *(const uint8_t *)from;
    chain->tail_written = true;
    if (chain->written == chain->before_tail)
        chain->written++;
}

/*
 * All that the cursor has not taken, in place, as an array for a port; it is never interpreted. The cursor moves to
 * the end. The array is the chain's own, and valid until push or unpop. Returns the number of pieces.
 */
unsigned virtq_chain_readable_iov(struct virtq_chain *chain, const struct guest_iovec **ret_iov);
static inline unsigned virtq_chain_writable_iov(struct virtq_chain *chain, const struct guest_iovec **ret_iov)
{
    if (chain->write_offset != 0 || chain->tail_bytes == 0 || chain->tail_offset != 0 || chain->writable_bytes == 0)
        return virtq_chain_writable_iov_cold(chain, ret_iov);
    chain->writable_bytes = 0;
    chain->writable_given = true;
    *ret_iov = &chain->iov[chain->write_piece];
    return (unsigned)(chain->tail_piece - chain->write_piece);
}

/* A port filled @bytes of what virtq_chain_writable_iov gave: count them as written. */
static inline void virtq_chain_wrote(struct virtq_chain *chain, uint32_t bytes)
{
    ASSERT(chain->writable_given || bytes == 0);
    ASSERT(bytes <= UINT32_MAX - chain->written);
    chain->written += bytes;
}

enum virtqueue_state {
    VIRTQUEUE_STOPPED,  /* no chain out, none will be */
    VIRTQUEUE_RUNNING,  /* chains come and go */
    VIRTQUEUE_STOPPING, /* none is popped any more; some are still out */
};

struct virtqueue_config {
    uint32_t size;             /* entries: 1 to VRING_SIZE_MAX; of a split ring, a power of two */
    uint64_t desc_address;     /* guest addresses of the three parts: descriptors, */
    uint64_t avail_address;    /* available ring (packed: driver area), */
    uint64_t used_address;     /* used ring (packed: device area) */
    uint64_t used_log_address; /* where writes to the part at used_address are logged */
    bool used_log;             /* log writes to the ring at all (VHOST_VRING_F_LOG) */
    uint32_t base;             /* where to go on: see virtqueue_base */
    uint64_t features;         /* negotiated: RING_PACKED, INDIRECT_DESC, EVENT_IDX, IN_ORDER, … */
};

/*
 * Where a queue stands in its ring. Split: the next entry of the available ring, 16 bits. Packed, as vhost-user's
 * SET_VRING_BASE has it: the position of the next descriptor to take (15 bits) and its wrap counter, above them the
 * same for the next one to give back.
 */
#define VIRTQ_BASE_PACKED(position, wrap) ((uint32_t)(position) | (uint32_t)((wrap) ? 1 : 0) << VRING_PACKED_WRAP_BIT)

/* The base of a ring that nobody has used yet (2.8.1: wrap counters begin as 1). */
static inline uint32_t virtqueue_base_initial(uint64_t features)
{
    return (features & VIRTIO_F_RING_PACKED) != 0 ? VIRTQ_BASE_PACKED(0, true) << 16 | VIRTQ_BASE_PACKED(0, true) : 0;
}

struct virtq_layout;

struct virtqueue {
    /* set by virtqueue_init */
    struct virtq_arena *arena; /* borrowed */
    /* set at start */
    const struct virtq_layout *layout;
    const struct guest_memory *memory; /* borrowed; exchanged by virtqueue_exchange */
    const struct dirty_log *log;       /* borrowed; NULL: nothing is logged */
    void *inflight;                    /* borrowed (virtq_record.h); NULL: no record is kept */
    uint32_t size_mask;                /* split */
    bool event_idx;
    bool indirect;
    bool in_order;
    bool ring_mapped; /* the pointers below are valid; false when stopped, and when virtqueue_exchange has failed */
    /* the ring in this process: split */
    struct vring_desc *desc;
    struct vring_avail *avail;
    struct vring_used *used;
    /* packed */
    struct vring_packed_desc *ring;
    struct vring_packed_event *driver_event, *device_event;
    /* progress; packed: positions in the ring */
    uint16_t next_avail;     /* next entry of the available ring to pop */
    uint16_t next_used;      /* next entry of the used ring to fill */
    uint16_t avail_seen;     /* split: the driver's index as last read */
    uint16_t published_used; /* split: what the driver has been shown */
    uint16_t signalled_used; /* split: published_used at the last publication, for event index (2.7.7.2) */
    uint16_t armed_event;    /* the event that stands in the ring: an index; packed: position and wrap counter */
    uint16_t avail_mark;     /* packed: the AVAIL and USED bits of a descriptor to take on this lap */
    uint16_t used_mark;      /* packed: and of one to give back */
    uint16_t seen;           /* packed: places from next_avail on that were looked at and are left in the ring */
    uint16_t first_unshown;  /* packed: position of the first descriptor that was given back and not shown */
    uint64_t first_rest;     /* packed: its length, id and flags, which make the batch visible */
    uint32_t held;           /* packed: descriptors taken and not given back */
    uint32_t unshown;        /* packed: descriptors given back that the driver does not see yet */
    uint32_t unsignalled;    /* packed: descriptors shown since a notification was last thought of */
    uint32_t unshown_chains; /* packed */
    bool signalled_valid;
    bool armed_valid;
    bool kicks_on; /* the driver is asked to kick */
    /* state */
    bool broken;      /* the guest broke the rules */
    bool starved;     /* the last pop stopped for want of arena or of a translation, not of requests */
    bool unreachable; /* it was for want of a translation, or the access table had no more */
    bool pop_again;   /* the last pop ended early (bad chain or long record): more is there, whatever the index says */
    uint16_t generation; /* of tokens; grows with each start */
    enum virtqueue_state state;
    uint32_t arrivals;
    uint32_t oldest;    /* in order: the arrival of the first chain that the driver waits for */
    uint32_t out_count; /* chains out, or waiting for others */
    uint32_t base;      /* of a stopped queue */
    /* in-flight record: chains to be popped anew after a start, oldest first; the next has at least this counter and,
     * with it, at least this head */
    uint32_t resubmit_left;
    uint32_t resubmit_head;
    uint32_t resubmit_held; /* packed: descriptors of those that are left */
    uint64_t resubmit_counter;
    uint64_t inflight_counter; /* for the next new request */
    struct virtqueue_config config;
    /* for virtio_device: the burst ended a wake, so the next run goes on with it */
    bool wake_again;
    /* for the platform: when to call virtio_device_wake though nothing else happens; 0: never. CLOCK of the port. */
    uint64_t wake_at_ns;
    /*
     * By the platform: it looks at the ring by itself for a while, so virtio_device_run leaves kicks off. Whoever
     * clears it calls virtio_device_rest before sleeping.
     */
    bool attended;
    /* counted since init, for statistics */
    uint64_t popped_total;
    uint64_t pushed_total;
    uint64_t broken_total;
    const char *broken_reason; /* what the guest did, in plain words, a constant; NULL: nothing since the start */
};

/* Make a stopped queue. @arena is borrowed and belongs to this queue alone. */
void virtqueue_init(struct virtqueue *queue, struct virtq_arena *arena);

/*
 * Begin to run. A split ring's used index is taken from the ring. @log and @inflight may be NULL.
 * -EINVAL: the size or an alignment is none that 2.7 or 2.8 allows, or a packed ring's base lies outside it. -EFAULT: a
 * part of the ring is not in memory, or not in one piece of this process. -EPROTO: the in-flight record contradicts
 * itself.
 * -EAGAIN, -ENOMEM: from the access table. The queue stays stopped on failure. Calling it on a queue that is not
 * stopped is our error.
 *
 * @inflight has room for config->size entries of the layout's record (virtq_record_bytes). A version of 0 says that it
 * is new: it is then made ready, and config->base holds. Else what the record says was in flight is popped again first,
 * oldest first, and the queue goes on after as many requests as are used or in flight, whatever config->base says: a
 * front end whose back end died does not know where that was.
 */
int virtqueue_start(struct virtqueue *queue, const struct virtqueue_config *config, const struct guest_memory *memory,
                    const struct dirty_log *log, void *inflight);

/*
 * Between two runs: go on with another map, log or ring addresses; chains that are out keep the pieces they have, so
 * what they were cut from must stay mapped until they are back (and the old map itself, where it has an access table).
 * Of @config only the addresses and the log of the used ring count; another size is -EINVAL. On failure (as for start)
 * the queue is broken and the old map may go: chains can still be pushed, but the driver is not shown them. A stopped
 * queue has nothing to exchange: 0.
 */
int virtqueue_exchange(struct virtqueue *queue, const struct virtqueue_config *config,
                       const struct guest_memory *memory, const struct dirty_log *log);

/*
 * Begin to stop: nothing is popped any more. Returns true when it is stopped already, no chain being out and nothing
 * unpublished. Else the virtqueue_publish that follows the last push or unpop stops it (queue->state says so).
 */
bool virtqueue_stop(struct virtqueue *queue);

/* Where a next life goes on in the ring: what GET_VRING_BASE reports. For a stopped queue. */
uint32_t virtqueue_base(const struct virtqueue *queue);

/* A stopped queue is to go on there: what was saved, or virtqueue_base_initial after a reset. */
void virtqueue_set_base(struct virtqueue *queue, uint32_t base);

/*
 * Take up to @max (at most VIRTQ_BURST_MAX) requests. Returns how many; 0 when the ring is empty, or the arena is, or
 * a translation is pending (then queue->starved). -EPROTO when the first one is malformed: a malformed one behind good
 * ones ends the burst, and is met again by the next pop; a long in-flight record is taken up in shorter bursts. So
 * fewer than @max do not mean that the ring is empty: virtqueue_kicks_on says whether there is more. -EPROTO comes
 * once: from then on the queue is broken and gives 0, as does one that is stopping or stopped.
 */
int virtqueue_pop(struct virtqueue *queue, struct virtq_chain **chains, unsigned max);

/*
 * Put back @count chains, the last that were popped and in their order, none of them written to: the next pop gives
 * them again. When that is, is for the device to know: that more could not be popped is forgotten with it.
 */
void virtqueue_unpop(struct virtqueue *queue, struct virtq_chain **chains, unsigned count);

/* Hand back @count chains with chain->written each. The driver sees them after virtqueue_publish. */
void virtqueue_push(struct virtqueue *queue, struct virtq_chain **chains, unsigned count);

/* Show the driver all that was pushed. Returns true when it wants a notification now (2.7.7, 2.8.10). */
bool virtqueue_publish(struct virtqueue *queue);

/* The chain of @token, or NULL when that request belongs to an earlier life or is back already. */
static inline struct virtq_chain *virtqueue_chain(struct virtqueue *queue, uint32_t token)
{
    uint16_t slot = (uint16_t)token;
    if (slot >= queue->arena->shape.slots)
        return NULL;
    struct virtq_chain *chain = &queue->arena->chains[slot];
    return chain->out && chain->token == token ? chain : NULL;
}

/*
 * Ask the driver to kick, or ask it not to (a hint: 2.7.10). Turning it on returns true when requests came that no pop
 * has seen: look again instead of sleeping. It says so once: requests that were seen and left in the ring, by a pop
 * with a small @max or by unpop, are for the device to remember.
 */
bool virtqueue_kicks_on(struct virtqueue *queue);
void virtqueue_kicks_off(struct virtqueue *queue);

/*
 * The guest broke the rules: remember how, for people, and return -EPROTO. @reason is a constant. For models, whose run
 * hands the error on; what it means for the queue is up to virtio_device_run.
 */
int virtqueue_wrong(struct virtqueue *queue, const char *reason);

/* Is there anything to pop? Reads the driver's index. */
bool virtqueue_pending(struct virtqueue *queue);

/* Has the driver offered anything that no pop has looked at yet? Cheap: for whoever looks on instead of sleeping. */
bool virtqueue_fresh(const struct virtqueue *queue);

/*
 * The same, and says so once: what is there now counts as looked at. After a run that took nothing, since a device may
 * leave in the ring what it cannot serve. True: run once more.
 */
bool virtqueue_fresh_once(struct virtqueue *queue);

#endif
