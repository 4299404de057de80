/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A guest's memory as a back end sees it: regions with gaps between them, and a table that says how bytes are reached.
 *
 * A struct guest_memory is built by one thread and never changed once a queue has it: to change the map, build the
 * next one and hand that to each queue on the queue's own thread (virtqueue_exchange). Hence no function here locks,
 * and every read-only one may be called from any thread. Nothing allocates or blocks, but for what an access table's
 * map() does.
 *
 * Addresses are guest-physical bytes. No sum of two of a guest's numbers is ever formed unchecked.
 */
#ifndef MEMORY_GUEST_MEMORY_H
#define MEMORY_GUEST_MEMORY_H

#include "base/base.h"

/* KVM's classic number of user slots, and what QEMU's own back ends announce: a front end never needs more. */
#define GUEST_MEMORY_REGIONS_MAX 509

/* A piece of memory as readv(2) wants it; platform/ asserts that the shape is that of struct iovec. */
struct guest_iovec {
    void *base;
    size_t length;
};

struct guest_region {
    uint64_t guest_base;    /* guest-physical address of the first byte */
    uint64_t size;          /* bytes, not 0 */
    uint64_t frontend_base; /* what a vhost-user front end calls the first byte; 0 elsewhere */
    uint8_t *host;          /* the first byte in this process; NULL when the access table reaches it */
    uint64_t owner;         /* for whoever built the map: which mapping to undo. Not looked at here. */
};

/*
 * How memory without a linear mapping is reached: Xen foreign pages, Xen grants, an IOTLB. Chosen at run time, one a
 * guest. Calls come from the threads of the queues, several at a time; an implementation says what it locks.
 */
struct guest_access {
    const struct guest_access_class *class;
};

struct guest_access_class {
    const char *name;
    /* No piece given to map() crosses a multiple of 1 << chunk_shift. 12 to 63. */
    unsigned chunk_shift;
    /*
     * Reach @count pieces: piece i starts at guest address @addresses[i] and has @iov[i].length bytes; set each
     * @iov[i].base. All of them or none. With @write they will be written, else only read.
     * Chunks that follow each other, in one call, should lie side by side in this process too, or a ring that is
     * longer than a chunk cannot be used (guest_memory_map).
     * -EFAULT: the guest may not name these (the guest is wrong). -EAGAIN: a translation is on its way, ask again
     * after a wake. -ENOMEM: nothing more can be mapped until something is unmapped.
     */
    int (*map)(struct guest_access *access, const uint64_t *addresses, struct guest_iovec *iov, unsigned count,
               bool write);
    /* Give back what one map() reached, with the same arguments. After it the bases are not to be touched. */
    void (*unmap)(struct guest_access *access, const uint64_t *addresses, const struct guest_iovec *iov, unsigned count,
                  bool written);
};

/* What the hot path needs of a region. */
struct guest_hot_region {
    uint64_t guest_base;
    uint64_t size; /* 0: none */
    uint8_t *host;
};

struct guest_memory {
    struct guest_access *access; /* borrowed; NULL when every region has a host address */
    uint32_t region_count;
    /* The two largest linear regions again: a PC's memory below and above 4 GiB. Written by add and remove alone. */
    struct guest_hot_region hot[2];
    struct guest_region regions[GUEST_MEMORY_REGIONS_MAX]; /* sorted by guest_base, never overlapping */
};

/* Begin an empty map. @access may be NULL. */
void guest_memory_init(struct guest_memory *memory, struct guest_access *access);

/*
 * Add one region, before the map is in use.
 * -EINVAL: no bytes, no host address and no access table either, or the end (the address after the last byte) does not
 * fit into the type in guest, front-end or host addresses. A @frontend_base of 0 says that there is none. -EEXIST:
 * overlaps a region in guest addresses, or in front-end addresses where both have them. -ENOSPC:
 * GUEST_MEMORY_REGIONS_MAX are there already. The map is unchanged on failure.
 */
int guest_memory_add(struct guest_memory *memory, const struct guest_region *region);

/*
 * Take out the region that is exactly @guest_base, @size and @frontend_base, before the map is in use. -ENOENT: none.
 */
int guest_memory_remove(struct guest_memory *memory, uint64_t guest_base, uint64_t size, uint64_t frontend_base,
                        struct guest_region *ret_region);

/* The region that has @address, or NULL. */
const struct guest_region *guest_memory_find(const struct guest_memory *memory, uint64_t address);

/* For guest_memory_linear and guest_memory_pieces below: what is not in a hot region, of any length. */
void *guest_memory_linear_cold(const struct guest_memory *memory, uint64_t address, uint64_t length);
int guest_memory_pieces_cold(const struct guest_memory *memory, uint64_t address, uint64_t length, bool write,
                             struct guest_iovec *iov, uint64_t *addresses, unsigned max);
void guest_memory_release_cold(const struct guest_memory *memory, const struct guest_iovec *iov,
                               const uint64_t *addresses, unsigned count, bool written);

/* The host address of a range that lies in one of the hot regions, else NULL; also for @length 0. */
static inline void *guest_memory_linear_hot(const struct guest_memory *memory, uint64_t address, uint64_t length)
{
    const struct guest_hot_region *region = &memory->hot[0];
    uint64_t offset = address - region->guest_base; /* wraps to a large number below the region */
    /* A length of 0 wraps too, and is refused with the ones that are too long. */
    if (__builtin_expect(offset >= region->size || length - 1 >= region->size - offset, false)) {
        region = &memory->hot[1];
        offset = address - region->guest_base;
        if (offset >= region->size || length - 1 >= region->size - offset)
            return NULL;
    }
    return region->host + index_mask(offset, region->size);
}

/*
 * The host address of [@address, @address + @length), or NULL unless all of it is there, linearly mapped, and one
 * piece in this process too: a range may go on from a region into the next only when that continues it in guest
 * *and* host addresses. @length 0 asks for nothing and gives NULL.
 */
static inline void *guest_memory_linear(const struct guest_memory *memory, uint64_t address, uint64_t length)
{
    void *host = guest_memory_linear_hot(memory, address, length);
    return host != NULL ? host : guest_memory_linear_cold(memory, address, length);
}

/*
 * The guest address of front-end address @frontend_address when [it, it + @length) lies in one region or in regions
 * that continue each other in both; -EFAULT otherwise. Regions without a front-end address are not looked at. Not fast:
 * for set-up.
 */
int guest_memory_from_frontend(const struct guest_memory *memory, uint64_t frontend_address, uint64_t length,
                               uint64_t *ret_address);

/*
 * Cut [@address, @address + @length) into pieces as they lie in this process, ready for use; without a linear mapping
 * pieces end at chunks and have been mapped through the access table. Returns how many (0 when @length is 0).
 * -EFAULT: some byte is outside the memory, or the access table says so. -E2BIG: more than @max pieces. -EAGAIN,
 * -ENOMEM: from the access table. On failure nothing stays mapped. On success guest_memory_release() must follow, with
 * the same arrays.
 */
static inline int guest_memory_pieces(const struct guest_memory *memory, uint64_t address, uint64_t length, bool write,
                                      struct guest_iovec *iov, uint64_t *addresses, unsigned max)
{
    void *host = guest_memory_linear_hot(memory, address, length);
    if (host == NULL || max == 0)
        return guest_memory_pieces_cold(memory, address, length, write, iov, addresses, max);
    iov[0] = (struct guest_iovec){.base = host, .length = (size_t)length};
    addresses[0] = address;
    return 1;
}

/*
 * Undo guest_memory_pieces: unmap what the access table had mapped. Nothing to do for linear pieces. @memory may be a
 * later map with the same access table, as long as the linear regions that pieces came from are still in it.
 */
static inline void guest_memory_release(const struct guest_memory *memory, const struct guest_iovec *iov,
                                        const uint64_t *addresses, unsigned count, bool written)
{
    if (memory->access != NULL)
        guest_memory_release_cold(memory, iov, addresses, count, written);
}

/*
 * The most pieces that guest_memory_map hands to an access table: the longest descriptor table, 512 KiB, in chunks of
 * 4 KiB, and one more since it may begin inside a chunk.
 */
#define GUEST_MEMORY_MAP_PIECES_MAX 129

/*
 * Reach [@address, @address + @length) for long, and as one piece of this process: a part of a ring. Through an access
 * table every chunk of it goes into one map() call, and the table must lay them side by side.
 * -EFAULT: some byte is outside the memory, @length is 0, or it is not one piece. -E2BIG: more than
 * GUEST_MEMORY_MAP_PIECES_MAX chunks. -EAGAIN, -ENOMEM: from the access table. On failure nothing stays mapped. On
 * success guest_memory_unmap() must follow, with the same arguments.
 */
int guest_memory_map(const struct guest_memory *memory, uint64_t address, uint64_t length, bool write, void **ret_host);
void guest_memory_unmap(const struct guest_memory *memory, uint64_t address, uint64_t length, void *host, bool written);

/*
 * Copy @length bytes out of, or into, guest memory. -EFAULT when some byte is outside: then how many bytes were
 * copied is not known. -EAGAIN, -ENOMEM as above.
 */
int guest_memory_read(const struct guest_memory *memory, uint64_t address, void *to, size_t length);
int guest_memory_write(const struct guest_memory *memory, uint64_t address, const void *from, size_t length);

#endif
