/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * Ranges are kept sorted in an array, and their bases once more in an array of their own, which the search runs over:
 * twelve steps without a branch, always the same twelve, since unused bases are all ones and the array's size is a
 * power of two. Two cache lines more or less are all that a thousand devices cost.
 *
 * A change is made in the table first, where it can be found wrong without anybody noticing. Then the port is told:
 * everything that leaves is unbound and unmapped before anything that comes is mapped, since two devices may swap, and
 * memory slots must never overlap.
 *
 * Limits
 *
 * Adding, removing and moving look at all ranges; they are rare.
 */
#include "machine/bus.h"

#include <assert.h>
#include <errno.h>

static_assert((BUS_RANGES_MAX & (BUS_RANGES_MAX - 1)) == 0, "the search halves it");

void bus_init(struct bus *bus, const char *name, struct bus_port *port)
{
    memset(bus, 0, sizeof(*bus));
    bus->name = name;
    bus->port = port;
    for (uint32_t i = 0; i < BUS_RANGES_MAX; i++)
        bus->bases[i] = UINT64_MAX;
}

/* ---- the table ---- */

/* Index of the last range that begins at or before @address; 0 when none does. */
static inline uint32_t search(const struct bus *bus, uint64_t address)
{
    uint32_t at = 0;
    for (uint32_t step = BUS_RANGES_MAX / 2; step > 0; step /= 2)
        at += step & -(uint32_t)(bus->bases[at + step] <= address);
    return at;
}

const struct bus_range *bus_find(const struct bus *bus, uint64_t address)
{
    /* No end wraps, so that an address before the base is further off than any size. */
    const struct bus_range *range = &bus->ranges[search(bus, address)];
    return address - range->base < range->size ? range : NULL;
}

const struct bus_range *bus_place_of(const struct bus *bus, const struct bus_device *device)
{
    for (uint32_t i = 0; i < bus->count; i++) {
        if (bus->ranges[i].device == device)
            return &bus->ranges[i];
    }
    return NULL;
}

static void take_out(struct bus *bus, const struct bus_range *range)
{
    uint32_t at = (uint32_t)(range - bus->ranges);
    uint32_t behind = bus->count - at - 1;
    memmove(&bus->ranges[at], &bus->ranges[at + 1], behind * sizeof(bus->ranges[0]));
    memmove(&bus->bases[at], &bus->bases[at + 1], behind * sizeof(bus->bases[0]));
    bus->count--;
    bus->ranges[bus->count] = (struct bus_range){0};
    bus->bases[bus->count] = UINT64_MAX;
}

static int put_in(struct bus *bus, uint64_t base, uint64_t size, struct bus_device *device)
{
    uint64_t end;
    if (size == 0 || add_overflows_u64(base, size, &end))
        return -EINVAL;
    for (const struct bus_memory *memory = device->memories; memory; memory = memory->next) {
        if (!range_within(memory->offset, memory->size, size))
            return -EINVAL;
    }
    if (bus->count == BUS_RANGES_MAX)
        return -ENOSPC;
    uint32_t at = search(bus, base);
    const struct bus_range *before = &bus->ranges[at];
    if (at < bus->count && before->base <= base) {
        if (base - before->base < before->size)
            return -EEXIST;
        at++;
    }
    if (at < bus->count && bus->bases[at] < end)
        return -EEXIST;
    memmove(&bus->ranges[at + 1], &bus->ranges[at], (bus->count - at) * sizeof(bus->ranges[0]));
    memmove(&bus->bases[at + 1], &bus->bases[at], (bus->count - at) * sizeof(bus->bases[0]));
    bus->ranges[at] = (struct bus_range){.base = base, .size = size, .device = device};
    bus->bases[at] = base;
    bus->count++;
    return 0;
}

/* ---- the port ---- */

static void bind(struct bus *bus, uint64_t base, struct bus_doorbell *doorbell)
{
    if (bus->port)
        doorbell->bound = bus->port->class->bind(bus->port, bus, base + doorbell->offset, doorbell) == 0;
}

static void unbind(struct bus *bus, uint64_t base, struct bus_doorbell *doorbell)
{
    if (doorbell->bound)
        bus->port->class->unbind(bus->port, bus, base + doorbell->offset, doorbell);
    doorbell->bound = false;
}

static int map(struct bus *bus, uint64_t base, struct bus_memory *memory)
{
    if (!bus->port)
        return 0;
    int r = bus->port->class->map(bus->port, bus, base + memory->offset, memory);
    memory->bound = r == 0;
    return r;
}

static void unmap(struct bus *bus, uint64_t base, struct bus_memory *memory)
{
    if (memory->bound)
        bus->port->class->unmap(bus->port, bus, base + memory->offset, memory);
    memory->bound = false;
}

/* Nothing of @device is bound any more. */
static void detach(struct bus *bus, uint64_t base, struct bus_device *device)
{
    for (struct bus_doorbell *doorbell = device->doorbells; doorbell; doorbell = doorbell->next)
        unbind(bus, base, doorbell);
    for (struct bus_memory *memory = device->memories; memory; memory = memory->next)
        unmap(bus, base, memory);
}

/* Memory, and doorbells unless that failed: then nothing is bound. */
static int attach(struct bus *bus, uint64_t base, struct bus_device *device)
{
    for (struct bus_memory *memory = device->memories; memory; memory = memory->next) {
        int r = map(bus, base, memory);
        if (r < 0) {
            detach(bus, base, device);
            return r;
        }
    }
    for (struct bus_doorbell *doorbell = device->doorbells; doorbell; doorbell = doorbell->next)
        bind(bus, base, doorbell);
    return 0;
}

/* As attach, but what the port refuses is only left out. */
static void attach_again(struct bus *bus, uint64_t base, struct bus_device *device)
{
    for (struct bus_memory *memory = device->memories; memory; memory = memory->next)
        (void)map(bus, base, memory);
    for (struct bus_doorbell *doorbell = device->doorbells; doorbell; doorbell = doorbell->next)
        bind(bus, base, doorbell);
}

/* ---- changes ---- */

int bus_add(struct bus *bus, uint64_t base, uint64_t size, struct bus_device *device)
{
    if (size == 0)
        return -EINVAL;
    if (bus_place_of(bus, device))
        return -EEXIST;
    struct bus_move move = {.device = device, .base = base, .size = size};
    return bus_move(bus, &move, 1);
}

int bus_remove(struct bus *bus, const struct bus_device *device)
{
    const struct bus_range *range = bus_place_of(bus, device);
    if (!range)
        return -ENOENT;
    detach(bus, range->base, range->device);
    take_out(bus, range);
    return 0;
}

/* A step that changes nothing is none. */
static bool goes(const struct bus_move *move)
{
    return move->base != move->before.base || move->size != move->before.size;
}

/* The first @placed steps are in the table at their new places: all go back to where they were. */
static void put_back(struct bus *bus, const struct bus_move *moves, unsigned count, unsigned placed)
{
    for (unsigned i = 0; i < placed; i++) {
        if (goes(&moves[i]) && moves[i].size > 0)
            take_out(bus, bus_place_of(bus, moves[i].device));
    }
    for (unsigned i = 0; i < count; i++) {
        if (!goes(&moves[i]) || moves[i].before.size == 0)
            continue;
        int r = put_in(bus, moves[i].before.base, moves[i].before.size, moves[i].device);
        ASSERT(r == 0);
    }
}

/* Change the table alone. */
static int rearrange(struct bus *bus, struct bus_move *moves, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        const struct bus_range *range = bus_place_of(bus, moves[i].device);
        moves[i].before = range ? *range : (struct bus_range){0};
        if (moves[i].size == 0)
            moves[i].base = 0;
    }
    for (unsigned i = 0; i < count; i++) {
        if (goes(&moves[i]) && moves[i].before.size > 0)
            take_out(bus, bus_place_of(bus, moves[i].device));
    }
    for (unsigned i = 0; i < count; i++) {
        if (!goes(&moves[i]) || moves[i].size == 0)
            continue;
        int r = put_in(bus, moves[i].base, moves[i].size, moves[i].device);
        if (r < 0) {
            put_back(bus, moves, count, i);
            return r;
        }
    }
    return 0;
}

int bus_move(struct bus *bus, struct bus_move *moves, unsigned count)
{
    int r = rearrange(bus, moves, count);
    if (r < 0)
        return r;
    for (unsigned i = 0; i < count; i++) {
        if (goes(&moves[i]) && moves[i].before.size > 0)
            detach(bus, moves[i].before.base, moves[i].device);
    }
    unsigned attached = 0;
    for (; attached < count && r == 0; attached++) {
        if (goes(&moves[attached]) && moves[attached].size > 0)
            r = attach(bus, moves[attached].base, moves[attached].device);
    }
    if (r == 0)
        return 0;
    for (unsigned i = 0; i < attached; i++) {
        if (goes(&moves[i]) && moves[i].size > 0)
            detach(bus, moves[i].base, moves[i].device);
    }
    put_back(bus, moves, count, count);
    for (unsigned i = 0; i < count; i++) {
        if (goes(&moves[i]) && moves[i].before.size > 0)
            attach_again(bus, moves[i].before.base, moves[i].device);
    }
    return r;
}

void bus_doorbell_add(struct bus *bus, struct bus_device *device, struct bus_doorbell *doorbell)
{
    doorbell->bound = false;
    doorbell->next = device->doorbells;
    device->doorbells = doorbell;
    const struct bus_range *range = bus_place_of(bus, device);
    if (range)
        bind(bus, range->base, doorbell);
}

void bus_doorbell_remove(struct bus *bus, struct bus_device *device, struct bus_doorbell *doorbell)
{
    struct bus_doorbell **at = &device->doorbells;
    while (*at && *at != doorbell)
        at = &(*at)->next;
    if (!*at)
        return;
    const struct bus_range *range = bus_place_of(bus, device);
    if (range)
        unbind(bus, range->base, doorbell);
    *at = doorbell->next;
    doorbell->next = NULL;
}

int bus_memory_add(struct bus *bus, struct bus_device *device, struct bus_memory *memory)
{
    memory->bound = false;
    const struct bus_range *range = bus_place_of(bus, device);
    if (range) {
        if (!range_within(memory->offset, memory->size, range->size))
            return -EINVAL;
        int r = map(bus, range->base, memory);
        if (r < 0)
            return r;
    }
    memory->next = device->memories;
    device->memories = memory;
    return 0;
}

void bus_memory_remove(struct bus *bus, struct bus_device *device, struct bus_memory *memory)
{
    struct bus_memory **at = &device->memories;
    while (*at && *at != memory)
        at = &(*at)->next;
    if (!*at)
        return;
    const struct bus_range *range = bus_place_of(bus, device);
    if (range)
        unmap(bus, range->base, memory);
    *at = memory->next;
    memory->next = NULL;
}

/* ---- accesses ---- */

static uint64_t ones(unsigned size)
{
    return UINT64_MAX >> (64 - 8 * size);
}

static enum bus_result nobody(struct bus *bus, uint64_t address)
{
    bus->nobody_total++;
    bus->nobody_last_address = address;
    return BUS_NOBODY;
}

/* Who answers @size bytes at @address. The offset stays inside the device even where the processor guesses wrongly. */
static inline struct bus_device *answerer(struct bus *bus, uint64_t address, unsigned size, uint64_t *ret_offset)
{
    bus->accesses_total++;
    const struct bus_range *range = bus_find(bus, address);
    if (!range || size > range->size - (address - range->base))
        return NULL;
    *ret_offset = index_mask((size_t)(address - range->base), (size_t)range->size);
    return range->device;
}

/* The largest piece of an access that devices know. */
static unsigned piece_of(unsigned size)
{
    return size >= 4 ? 4 : size >= 2 ? 2 : 1;
}

static enum bus_result read_one(struct bus *bus, uint64_t address, unsigned size, uint64_t *ret_value,
                                struct bus_device **ret_device)
{
    uint64_t offset, value = 0;
    struct bus_device *device = answerer(bus, address, size, &offset);
    enum bus_result result = device ? device->class->read(device, offset, size, &value) : BUS_NOBODY;
    *ret_value = (result == BUS_NOBODY ? UINT64_MAX : value) & ones(size);
    if (ret_device)
        *ret_device = device;
    return result == BUS_NOBODY ? nobody(bus, address) : result;
}

static enum bus_result write_one(struct bus *bus, uint64_t address, unsigned size, uint64_t value,
                                 struct bus_device **ret_device)
{
    uint64_t offset;
    struct bus_device *device = answerer(bus, address, size, &offset);
    enum bus_result result = device ? device->class->write(device, offset, size, value & ones(size)) : BUS_NOBODY;
    if (ret_device)
        *ret_device = device;
    return result == BUS_NOBODY ? nobody(bus, address) : result;
}

/* In pieces: waits as long as any of them; somebody is there if he is for any of them. */
static enum bus_result join(enum bus_result a, enum bus_result b)
{
    if (a == BUS_LATER || b == BUS_LATER)
        return BUS_LATER;
    return a == BUS_DONE || b == BUS_DONE ? BUS_DONE : BUS_NOBODY;
}

enum bus_result bus_read(struct bus *bus, uint64_t address, unsigned size, uint64_t *ret_value,
                         struct bus_device **ret_device)
{
    ASSERT(size >= 1 && size <= 8);
    if (is_power_of_two(size))
        return read_one(bus, address, size, ret_value, ret_device);
    enum bus_result result = BUS_NOBODY;
    struct bus_device *who = NULL;
    *ret_value = 0;
    for (unsigned at = 0, piece; at < size; at += piece) {
        piece = piece_of(size - at);
        uint64_t value;
        struct bus_device *device;
        enum bus_result r = read_one(bus, address + at, piece, &value, &device);
        *ret_value |= value << (8 * at);
        if (!who || r == BUS_LATER)
            who = device;
        result = join(result, r);
    }
    if (ret_device)
        *ret_device = who;
    return result;
}

enum bus_result bus_write(struct bus *bus, uint64_t address, unsigned size, uint64_t value,
                          struct bus_device **ret_device)
{
    ASSERT(size >= 1 && size <= 8);
    if (is_power_of_two(size))
        return write_one(bus, address, size, value, ret_device);
    enum bus_result result = BUS_NOBODY;
    struct bus_device *who = NULL;
    for (unsigned at = 0, piece; at < size; at += piece) {
        piece = piece_of(size - at);
        struct bus_device *device;
        enum bus_result r = write_one(bus, address + at, piece, value >> (8 * at), &device);
        if (!who || r == BUS_LATER)
            who = device;
        result = join(result, r);
    }
    if (ret_device)
        *ret_device = who;
    return result;
}
