/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * Windows and ranges are sorted arrays of pieces that never overlap, so every question is one walk along them. The
 * search for a free place goes from candidate to candidate: the lowest aligned number in a window, and whenever a range
 * is in the way, the first aligned number behind it.
 *
 * Limits
 *
 * All functions look at all ranges. The last number, 2^64 - 1, is never given out: ends are exclusive.
 */
#include "machine/resources.h"

#include <assert.h>
#include <errno.h>

#define STATE_VERSION 1

const char *resource_kind_name(enum resource_kind kind)
{
    static const char *const names[] = {
        [RESOURCE_RAM] = "RAM",
        [RESOURCE_MMIO_LOW] = "MMIO below 4 GiB",
        [RESOURCE_MMIO_HIGH] = "MMIO above 4 GiB",
        [RESOURCE_PIO] = "I/O ports",
        [RESOURCE_IRQ] = "interrupts",
        [RESOURCE_PCI] = "PCI slots",
        [RESOURCE_MEMORY_SLOT] = "memory slots",
    };
    static_assert(ARRAY_SIZE(names) == RESOURCE_KINDS, "each has a name");
    ASSERT(kind < RESOURCE_KINDS);
    return names[kind];
}

void resource_space_init(struct resource_space *space, enum resource_kind kind, struct resource_range *ranges,
                         uint32_t count_max)
{
    *space = (struct resource_space){.kind = kind, .ranges = ranges, .count_max = count_max};
}

static bool is_sound(uint64_t base, uint64_t size)
{
    uint64_t end;
    return size > 0 && !add_overflows_u64(base, size, &end);
}

/* Both are sound. */
static bool overlap(uint64_t base, uint64_t size, uint64_t other_base, uint64_t other_size)
{
    return base < other_base + other_size && other_base < base + size;
}

/* ---- windows ---- */

int resource_window_add(struct resource_space *space, uint64_t base, uint64_t size)
{
    if (!is_sound(base, size))
        return -EINVAL;
    unsigned at = 0;
    for (unsigned i = 0; i < space->window_count; i++) {
        if (overlap(base, size, space->windows[i].base, space->windows[i].size))
            return -EEXIST;
        at += space->windows[i].base < base;
    }
    if (space->window_count == RESOURCE_WINDOWS_MAX)
        return -ENOSPC;
    memmove(&space->windows[at + 1], &space->windows[at], (space->window_count - at) * sizeof(space->windows[0]));
    space->windows[at] = (struct resource_window){.base = base, .size = size};
    space->window_count++;
    return 0;
}

static bool is_in_a_window(const struct resource_space *space, uint64_t base, uint64_t size)
{
    for (unsigned i = 0; i < space->window_count; i++) {
        const struct resource_window *window = &space->windows[i];
        if (base >= window->base && range_within(base - window->base, size, window->size))
            return true;
    }
    return false;
}

/* ---- ranges ---- */

const struct resource_range *resource_conflict(const struct resource_space *space, uint64_t base, uint64_t size)
{
    if (!is_sound(base, size))
        return NULL;
    for (uint32_t i = 0; i < space->count; i++) {
        if (overlap(base, size, space->ranges[i].base, space->ranges[i].size))
            return &space->ranges[i];
    }
    return NULL;
}

static void name(struct resource_range *range, const char *owner)
{
    memset(range->owner, 0, sizeof(range->owner));
    for (unsigned i = 0; i < RESOURCE_OWNER_BYTES - 1 && owner[i] != 0; i++)
        range->owner[i] = owner[i];
}

int resource_take(struct resource_space *space, uint64_t base, uint64_t size, const char *owner)
{
    if (!is_sound(base, size))
        return -EINVAL;
    if (!is_in_a_window(space, base, size))
        return -ERANGE;
    if (resource_conflict(space, base, size))
        return -EEXIST;
    if (space->count == space->count_max)
        return -ENOSPC;
    uint32_t at = 0;
    while (at < space->count && space->ranges[at].base < base)
        at++;
    memmove(&space->ranges[at + 1], &space->ranges[at], (space->count - at) * sizeof(space->ranges[0]));
    space->ranges[at] = (struct resource_range){.base = base, .size = size};
    name(&space->ranges[at], owner);
    space->count++;
    return 0;
}

/* The lowest free base in @window that is @min at least; false: there is none. @size is not 0. */
static bool find_in(const struct resource_space *space, const struct resource_window *window, uint64_t size,
                    uint64_t alignment, uint64_t min, uint64_t *ret_base)
{
    uint64_t candidate = min > window->base ? min : window->base;
    for (;;) {
        uint64_t aligned = align_up(candidate, alignment);
        if (aligned < candidate || aligned - window->base > window->size ||
            !range_within(aligned - window->base, size, window->size))
            return false;
        const struct resource_range *in_the_way = resource_conflict(space, aligned, size);
        if (!in_the_way) {
            *ret_base = aligned;
            return true;
        }
        candidate = in_the_way->base + in_the_way->size;
    }
}

int resource_find(struct resource_space *space, uint64_t size, uint64_t alignment, uint64_t min, uint64_t max,
                  const char *owner, uint64_t *ret_base)
{
    alignment = alignment == 0 ? 1 : alignment;
    if (size == 0 || !is_power_of_two(alignment) || min > max)
        return -EINVAL;
    for (unsigned i = 0; i < space->window_count; i++) {
        uint64_t base;
        if (!find_in(space, &space->windows[i], size, alignment, min, &base))
            continue;
        if (base > max || size - 1 > max - base)
            return -ENOSPC; /* what comes behind is higher still */
        int r = resource_take(space, base, size, owner);
        if (r == 0)
            *ret_base = base;
        return r;
    }
    return -ENOSPC;
}

int resource_release(struct resource_space *space, uint64_t base)
{
    for (uint32_t i = 0; i < space->count; i++) {
        if (space->ranges[i].base != base)
            continue;
        memmove(&space->ranges[i], &space->ranges[i + 1], (space->count - i - 1) * sizeof(space->ranges[0]));
        space->count--;
        return 0;
    }
    return -ENOENT;
}

uint64_t resource_free_total(const struct resource_space *space)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < space->window_count; i++)
        total += space->windows[i].size;
    for (uint32_t i = 0; i < space->count; i++)
        total -= space->ranges[i].size;
    return total;
}

/* ---- state ---- */

/* Of each space: its number of windows and of ranges, 4 bytes each; then those, as below. */
enum { COUNTS_BYTES = 8, WINDOW_BYTES = 16, RANGE_BYTES = 16 + RESOURCE_OWNER_BYTES };

static int append_space(const struct resource_space *space, struct state_writer *writer)
{
    uint8_t bytes[RANGE_BYTES];
    put_le32(bytes, space->window_count);
    put_le32(bytes + 4, space->count);
    int r = state_append(writer, bytes, COUNTS_BYTES);
    for (unsigned i = 0; i < space->window_count && r == 0; i++) {
        put_le64(bytes, space->windows[i].base);
        put_le64(bytes + 8, space->windows[i].size);
        r = state_append(writer, bytes, WINDOW_BYTES);
    }
    for (uint32_t i = 0; i < space->count && r == 0; i++) {
        put_le64(bytes, space->ranges[i].base);
        put_le64(bytes + 8, space->ranges[i].size);
        memcpy(bytes + 16, space->ranges[i].owner, RESOURCE_OWNER_BYTES);
        r = state_append(writer, bytes, RANGE_BYTES);
    }
    return r;
}

int resources_save(const struct resources *resources, struct state_writer *writer)
{
    size_t mark;
    int r = state_begin(writer, RESOURCES_STATE_TAG, STATE_VERSION, &mark);
    if (r < 0)
        return r;
    for (unsigned i = 0; i < RESOURCE_KINDS && r == 0; i++)
        r = append_space(&resources->spaces[i], writer);
    return state_end(writer, mark, r);
}

/* The next @size bytes of @record behind *@at, or NULL. */
static const uint8_t *take_bytes(const struct state_record *record, size_t *at, size_t size)
{
    if (!range_within(*at, size, record->length))
        return NULL;
    const uint8_t *bytes = record->payload + *at;
    *at += size;
    return bytes;
}

/* Sorted, sound, apart: the windows first, and then each range in one of them. */
static int read_windows(struct resource_space *space, const struct state_record *record, size_t *at, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *bytes = take_bytes(record, at, WINDOW_BYTES);
        if (!bytes || resource_window_add(space, get_le64(bytes), get_le64(bytes + 8)) < 0)
            return -EBADMSG;
    }
    return 0;
}

static int judge_ranges(const struct resource_space *space, const struct state_record *record, size_t *at,
                        uint32_t count)
{
    uint64_t end = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *bytes = take_bytes(record, at, RANGE_BYTES);
        if (!bytes || bytes[RANGE_BYTES - 1] != 0)
            return -EBADMSG;
        uint64_t base = get_le64(bytes), size = get_le64(bytes + 8);
        if (!is_sound(base, size) || base < end || !is_in_a_window(space, base, size))
            return -EBADMSG;
        end = base + size;
    }
    return 0;
}

/* Read one space into @space, whose ranges are not touched; *@ret_ranges: where they are in the record. */
static int read_space(struct resource_space *space, const struct state_record *record, size_t *at, size_t *ret_ranges)
{
    const uint8_t *bytes = take_bytes(record, at, COUNTS_BYTES);
    if (!bytes)
        return -EBADMSG;
    uint32_t windows = get_le32(bytes), ranges = get_le32(bytes + 4);
    if (windows > RESOURCE_WINDOWS_MAX)
        return -EBADMSG;
    if (ranges > space->count_max)
        return -ENOSPC;
    space->window_count = 0;
    int r = read_windows(space, record, at, windows);
    *ret_ranges = *at;
    if (r == 0)
        r = judge_ranges(space, record, at, ranges);
    space->count = ranges;
    return r;
}

static void fill(struct resource_space *space, const uint8_t *bytes)
{
    for (uint32_t i = 0; i < space->count; i++, bytes += RANGE_BYTES) {
        struct resource_range *range = &space->ranges[i];
        range->base = get_le64(bytes);
        range->size = get_le64(bytes + 8);
        memcpy(range->owner, bytes + 16, RESOURCE_OWNER_BYTES);
    }
}

int resources_load(struct resources *resources, const struct state_record *record)
{
    if (record->tag != RESOURCES_STATE_TAG)
        return -EBADMSG;
    if (record->version > STATE_VERSION)
        return -ENOTSUP;
    struct resources loaded = *resources;
    size_t at = 0, ranges_at[RESOURCE_KINDS];
    for (unsigned i = 0; i < RESOURCE_KINDS; i++) {
        int r = read_space(&loaded.spaces[i], record, &at, &ranges_at[i]);
        if (r < 0)
            return r;
    }
    if (at != record->length)
        return -EBADMSG;
    *resources = loaded;
    for (unsigned i = 0; i < RESOURCE_KINDS; i++)
        fill(&resources->spaces[i], record->payload + ranges_at[i]);
    return 0;
}
