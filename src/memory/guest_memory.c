/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * Regions lie in one array, sorted by guest address; a look-up is a binary search, and nearly all are answered before
 * it, in the header, by the two largest linear regions. Ranges are walked region by region: at each step the rest of
 * the range begins at an address that was found in a region, and is cut at that region's end, so no end of a range is
 * ever computed from what a guest said. A region's own end is safe to compute, since guest_memory_add refused those
 * where it does not fit.
 *
 * Limits
 *
 * Whoever changes a map while another thread reads it breaks it: maps are exchanged whole, not edited. Adding and
 * removing moves the regions behind, which no guest can make happen often. Pieces that the access table reached go
 * back to it by what the map says about their address, hence the condition on guest_memory_release.
 */
#include "memory/guest_memory.h"

#include <errno.h>

/* How many pieces guest_memory_read and _write map at a time: what a 64 KiB transfer needs, and small on the stack. */
#define COPY_PIECES_MAX 17

static uint64_t region_end(const struct guest_region *region)
{
    return region->guest_base + region->size;
}

/* Of the regions, how many begin at or below @address: the last of these is the only one that can have it. */
static uint32_t regions_up_to(const struct guest_memory *memory, uint64_t address)
{
    uint32_t low = 0;
    uint32_t high = memory->region_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (memory->regions[middle].guest_base <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool ranges_overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
    return a < b ? b - a < a_size : a - b < b_size;
}

static void choose_hot_regions(struct guest_memory *memory)
{
    memset(memory->hot, 0, sizeof(memory->hot));
    for (uint32_t i = 0; i < memory->region_count; i++) {
        const struct guest_region *region = &memory->regions[i];
        if (region->host == NULL || region->size <= memory->hot[1].size)
            continue;
        memory->hot[1] = (struct guest_hot_region){
            .guest_base = region->guest_base,
            .size = region->size,
            .host = region->host,
        };
        if (region->size > memory->hot[0].size) {
            struct guest_hot_region larger = memory->hot[1];
            memory->hot[1] = memory->hot[0];
            memory->hot[0] = larger;
        }
    }
}

void guest_memory_init(struct guest_memory *memory, struct guest_access *access)
{
    ASSERT(access == NULL || (access->class->chunk_shift >= 12 && access->class->chunk_shift <= 63));
    memory->access = access;
    memory->region_count = 0;
    choose_hot_regions(memory);
}

int guest_memory_add(struct guest_memory *memory, const struct guest_region *region)
{
    uint64_t end;
    if (region->size == 0 || add_overflows_u64(region->guest_base, region->size, &end) ||
        add_overflows_u64(region->frontend_base, region->size, &end))
        return -EINVAL;
    if (region->host == NULL ? memory->access == NULL : region->size > UINTPTR_MAX - (uintptr_t)region->host)
        return -EINVAL;

    for (uint32_t i = 0; i < memory->region_count; i++) {
        const struct guest_region *other = &memory->regions[i];
        if (ranges_overlap(region->guest_base, region->size, other->guest_base, other->size))
            return -EEXIST;
        if (region->frontend_base != 0 && other->frontend_base != 0 &&
            ranges_overlap(region->frontend_base, region->size, other->frontend_base, other->size))
            return -EEXIST;
    }
    if (memory->region_count == GUEST_MEMORY_REGIONS_MAX)
        return -ENOSPC;

    uint32_t at = regions_up_to(memory, region->guest_base);
    memmove(&memory->regions[at + 1], &memory->regions[at], (memory->region_count - at) * sizeof(*region));
    memory->regions[at] = *region;
    memory->region_count++;
    choose_hot_regions(memory);
    return 0;
}

int guest_memory_remove(struct guest_memory *memory, uint64_t guest_base, uint64_t size, uint64_t frontend_base,
                        struct guest_region *ret_region)
{
    uint32_t after = regions_up_to(memory, guest_base);
    if (after == 0)
        return -ENOENT;
    struct guest_region *region = &memory->regions[after - 1];
    if (region->guest_base != guest_base || region->size != size || region->frontend_base != frontend_base)
        return -ENOENT;

    *ret_region = *region;
    memmove(region, region + 1, (memory->region_count - after) * sizeof(*region));
    memory->region_count--;
    choose_hot_regions(memory);
    return 0;
}

const struct guest_region *guest_memory_find(const struct guest_memory *memory, uint64_t address)
{
    uint32_t after = regions_up_to(memory, address);
    if (after == 0)
        return NULL;
    const struct guest_region *region = &memory->regions[after - 1];
    return address - region->guest_base < region->size ? region : NULL;
}

/* The region that begins where @region ends, or NULL. */
static const struct guest_region *region_next(const struct guest_memory *memory, const struct guest_region *region)
{
    const struct guest_region *next = region + 1;
    if (next == memory->regions + memory->region_count || next->guest_base != region_end(region))
        return NULL;
    return next;
}

void *guest_memory_linear_cold(const struct guest_memory *memory, uint64_t address, uint64_t length)
{
    const struct guest_region *region = guest_memory_find(memory, address);
    if (region == NULL || region->host == NULL || length == 0)
        return NULL;

    uint64_t offset = index_mask(address - region->guest_base, region->size);
    uint8_t *host = region->host + offset;
    uint64_t here = region->size - offset;
    while (length > here) {
        length -= here;
        const struct guest_region *next = region_next(memory, region);
        if (next == NULL || next->host != region->host + region->size)
            return NULL;
        region = next;
        here = region->size;
    }
    return host;
}

int guest_memory_from_frontend(const struct guest_memory *memory, uint64_t frontend_address, uint64_t length,
                               uint64_t *ret_address)
{
    const struct guest_region *region = NULL;
    for (uint32_t i = 0; i < memory->region_count && region == NULL; i++) {
        const struct guest_region *candidate = &memory->regions[i];
        if (candidate->frontend_base != 0 && frontend_address - candidate->frontend_base < candidate->size)
            region = candidate;
    }
    if (region == NULL)
        return -EFAULT;

    uint64_t offset = frontend_address - region->frontend_base;
    uint64_t address = region->guest_base + offset;
    uint64_t here = region->size - offset;
    while (length > here) {
        length -= here;
        const struct guest_region *next = region_next(memory, region);
        if (next == NULL || next->frontend_base != region->frontend_base + region->size)
            return -EFAULT;
        region = next;
        here = region->size;
    }
    *ret_address = address;
    return 0;
}

/* Was this piece reached through the access table? */
static bool piece_is_mapped(const struct guest_memory *memory, uint64_t address, const void *base)
{
    const struct guest_region *region = guest_memory_find(memory, address);
    return region == NULL || region->host == NULL || region->host + (address - region->guest_base) != base;
}

/*
 * Cut a range, but reach nothing yet: linear pieces are ready, the others have no base. Returns how many; sets
 * @ret_linear when there is nothing but linear ones.
 */
static int cut(const struct guest_memory *memory, uint64_t address, uint64_t length, struct guest_iovec *iov,
               uint64_t *addresses, unsigned max, bool *ret_linear)
{
    unsigned count = 0;
    bool linear = true;
    const struct guest_region *region = guest_memory_find(memory, address);

    while (length > 0) {
        if (region == NULL)
            return -EFAULT;
        uint64_t offset = index_mask(address - region->guest_base, region->size);
        uint64_t take = u64_min(length, region->size - offset);
        uint8_t *host = NULL;
        if (region->host != NULL) {
            host = region->host + offset;
        } else {
            uint64_t chunk = UINT64_C(1) << memory->access->class->chunk_shift;
            take = u64_min(take, chunk - (address & (chunk - 1)));
            linear = false;
        }

        struct guest_iovec *last = count > 0 ? &iov[count - 1] : NULL;
        if (host != NULL && last != NULL && last->base != NULL && (uint8_t *)last->base + last->length == host) {
            last->length += (size_t)take;
        } else {
            if (count == max)
                return -E2BIG;
            iov[count] = (struct guest_iovec){.base = host, .length = (size_t)take};
            addresses[count] = address;
            count++;
        }
        length -= take;
        address += take; /* at most the region's end */
        if (address == region_end(region))
            region = region_next(memory, region);
    }
    *ret_linear = linear;
    return (int)count;
}

/* The end of the run of pieces from @from that have a base, or that have none. */
static unsigned run_end(const struct guest_iovec *iov, unsigned from, unsigned count)
{
    unsigned end = from + 1;
    while (end < count && (iov[end].base == NULL) == (iov[from].base == NULL))
        end++;
    return end;
}

int guest_memory_pieces_cold(const struct guest_memory *memory, uint64_t address, uint64_t length, bool write,
                             struct guest_iovec *iov, uint64_t *addresses, unsigned max)
{
    bool linear;
    int count = cut(memory, address, length, iov, addresses, max, &linear);
    if (count <= 0 || linear)
        return count;

    /* One map() for each run of pieces that need it: nearly always one in all. */
    struct guest_access *access = memory->access;
    unsigned end;
    for (unsigned i = 0; i < (unsigned)count; i = end) {
        end = run_end(iov, i, (unsigned)count);
        if (iov[i].base != NULL)
            continue;
        int r = access->class->map(access, &addresses[i], &iov[i], end - i, write);
        if (r < 0) {
            guest_memory_release_cold(memory, iov, addresses, i, false);
            return r;
        }
    }
    return count;
}

void guest_memory_release_cold(const struct guest_memory *memory, const struct guest_iovec *iov,
                               const uint64_t *addresses, unsigned count, bool written)
{
    struct guest_access *access = memory->access;
    unsigned end;
    for (unsigned i = 0; i < count; i = end) {
        end = i + 1;
        if (!piece_is_mapped(memory, addresses[i], iov[i].base))
            continue;
        while (end < count && piece_is_mapped(memory, addresses[end], iov[end].base))
            end++;
        access->class->unmap(access, &addresses[i], &iov[i], end - i, written);
    }
}

int guest_memory_map(const struct guest_memory *memory, uint64_t address, uint64_t length, bool write, void **ret_host)
{
    struct guest_iovec iov[GUEST_MEMORY_MAP_PIECES_MAX];
    uint64_t addresses[GUEST_MEMORY_MAP_PIECES_MAX];
    int count = guest_memory_pieces(memory, address, length, write, iov, addresses, GUEST_MEMORY_MAP_PIECES_MAX);
    if (count < 0)
        return count;
    if (count == 0)
        return -EFAULT;
    for (unsigned i = 1; i < (unsigned)count; i++) {
        if (iov[i].base != (uint8_t *)iov[i - 1].base + iov[i - 1].length) {
            guest_memory_release(memory, iov, addresses, (unsigned)count, false);
            return -EFAULT;
        }
    }
    *ret_host = iov[0].base;
    return 0;
}

void guest_memory_unmap(const struct guest_memory *memory, uint64_t address, uint64_t length, void *host, bool written)
{
    if (memory->access == NULL)
        return;

    /* The same cuts as map made, with the bases that it found side by side. */
    struct guest_iovec iov[GUEST_MEMORY_MAP_PIECES_MAX];
    uint64_t addresses[GUEST_MEMORY_MAP_PIECES_MAX];
    bool linear;
    int count = cut(memory, address, length, iov, addresses, GUEST_MEMORY_MAP_PIECES_MAX, &linear);
    ASSERT(count > 0);
    if (linear)
        return;
    uint8_t *base = host;
    for (unsigned i = 0; i < (unsigned)count; i++) {
        iov[i].base = base;
        base += iov[i].length;
    }
    guest_memory_release(memory, iov, addresses, (unsigned)count, written);
}

/* How much of @length one round of copying takes: whole chunks, so that pieces never run out for want of room. */
static size_t round_bytes(const struct guest_memory *memory, uint64_t address, size_t length)
{
    const struct guest_region *region = guest_memory_find(memory, address);
    if (region == NULL)
        return length; /* it will be refused */
    uint64_t most = region->size - (address - region->guest_base);
    if (region->host == NULL) {
        unsigned shift = memory->access->class->chunk_shift;
        if (shift < 32)
            most = u64_min(most, (uint64_t)(COPY_PIECES_MAX - 1) << shift);
    }
    return (size_t)u64_min(length, most);
}

int guest_memory_read(const struct guest_memory *memory, uint64_t address, void *to, size_t length)
{
    uint8_t *bytes = to;
    while (length > 0) {
        struct guest_iovec iov[COPY_PIECES_MAX];
        uint64_t addresses[COPY_PIECES_MAX];
        size_t size = round_bytes(memory, address, length);
        int count = guest_memory_pieces(memory, address, size, false, iov, addresses, COPY_PIECES_MAX);
        if (count < 0)
            return count;
        for (unsigned i = 0; i < (unsigned)count; i++) {
            shared_copy_in(bytes, iov[i].base, iov[i].length);
            bytes += iov[i].length;
        }
        guest_memory_release(memory, iov, addresses, (unsigned)count, false);
        address += size;
        length -= size;
    }
    return 0;
}

int guest_memory_write(const struct guest_memory *memory, uint64_t address, const void *from, size_t length)
{
    const uint8_t *bytes = from;
    while (length > 0) {
        struct guest_iovec iov[COPY_PIECES_MAX];
        uint64_t addresses[COPY_PIECES_MAX];
        size_t size = round_bytes(memory, address, length);
        int count = guest_memory_pieces(memory, address, size, true, iov, addresses, COPY_PIECES_MAX);
        if (count < 0)
            return count;
        for (unsigned i = 0; i < (unsigned)count; i++) {
            memcpy(iov[i].base, bytes, iov[i].length);
            bytes += iov[i].length;
        }
        guest_memory_release(memory, iov, addresses, (unsigned)count, true);
        address += size;
        length -= size;
    }
    return 0;
}
