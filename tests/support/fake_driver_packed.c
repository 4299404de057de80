/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * Descriptors are written one after the other, with the flags that make them available at once, but for the first of a
 * batch: a device looks at positions in order, so it sees none of the batch before fake_driver_packed_show stores that
 * one's flags (2.8.6). A buffer id is free until its used descriptor has come; how many descriptors it had is noted
 * by id, out of the device's reach.
 *
 * Limits
 *
 * A device that uses an id outside the ring's size fails an assertion; one that uses an id that is not out is reported
 * as it is, and counts as one descriptor.
 */
#include "fake_driver_private.h"

#define PACKED_MARKS (VRING_PACKED_DESC_F_AVAIL | VRING_PACKED_DESC_F_USED)

void fake_driver_packed_init(struct fake_driver *driver, uint8_t *ring)
{
    uint64_t events = vring_packed_desc_bytes(driver->size);
    driver->ring = (void *)ring;
    driver->driver_event = (void *)(ring + events);
    driver->device_event = (void *)(ring + events + sizeof(struct vring_packed_event));
    driver->avail_address = driver->desc_address + events;
    driver->used_address = driver->desc_address + events + sizeof(struct vring_packed_event);
    driver->avail_mark = VRING_PACKED_DESC_F_AVAIL; /* 2.8.1: both wrap counters begin as 1 */
    driver->used_mark = PACKED_MARKS;
}

static void put_desc(struct fake_driver *driver, uint64_t address, uint32_t length, uint16_t id, uint16_t flags)
{
    uint16_t position = driver->next_avail;
    struct vring_packed_desc *desc = &driver->ring[position];
    desc->address = cpu_to_le64(address);
    desc->length = cpu_to_le32(length);
    desc->id = cpu_to_le16(id);
    if (driver->unshown == 0) {
        driver->held_position = position;
        driver->held_flags = flags | driver->avail_mark;
    } else {
        shared_store_le16(&desc->flags, flags | driver->avail_mark);
    }
    driver->unshown++;
    driver->free_count--;
    if (++driver->next_avail == driver->size) {
        driver->next_avail = 0;
        driver->avail_mark ^= PACKED_MARKS;
    }
}

static uint16_t take_id(struct fake_driver *driver, unsigned descriptors)
{
    uint16_t id = driver->free_head;
    driver->free_head = driver->free_next[id];
    driver->chain_length[id] = (uint16_t)descriptors;
    return id;
}

int fake_driver_packed_add(struct fake_driver *driver, const struct fake_piece *pieces, unsigned count)
{
    uint16_t id = take_id(driver, count);
    for (unsigned i = 0; i < count; i++)
        put_desc(driver, pieces[i].address, pieces[i].length, id, fake_driver_piece_flags(pieces, i, count));
    return id;
}

int fake_driver_packed_add_indirect(struct fake_driver *driver, uint8_t *table, uint64_t table_address,
                                    const struct fake_piece *pieces, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        /* By way of a copy: nothing says that a table is aligned. 2.8.7: WRITE alone is valid there. */
        struct vring_packed_desc desc = {
            .address = cpu_to_le64(pieces[i].address),
            .length = cpu_to_le32(pieces[i].length),
            .flags = cpu_to_le16(pieces[i].writable ? VRING_DESC_F_WRITE : 0),
        };
        memcpy(table + i * sizeof(desc), &desc, sizeof(desc));
    }
    uint16_t id = take_id(driver, 1);
    put_desc(driver, table_address, count * (uint32_t)sizeof(struct vring_packed_desc), id, VRING_DESC_F_INDIRECT);
    return id;
}

/* 2.8.10: has the device asked to hear of the @count descriptors that were just made available? */
static bool wants_kick(const struct fake_driver *driver, uint32_t count)
{
    uint32_t event = shared_load_le32(driver->device_event);
    uint16_t flags = (uint16_t)(event >> 16) & 3;
    if (flags != VRING_PACKED_EVENT_DESC || !driver->event_idx)
        return flags != VRING_PACKED_EVENT_DISABLE;
    int32_t position = (int32_t)(event & 0x7fff);
    bool event_wrap = (event >> VRING_PACKED_WRAP_BIT & 1) != 0;
    if (event_wrap != (driver->avail_mark == VRING_PACKED_DESC_F_AVAIL))
        position -= (int32_t)driver->size;
    int32_t ago = (int32_t)driver->next_avail - position; /* descriptors from there on */
    return ago > 0 && ago <= (int32_t)count;
}

bool fake_driver_packed_show(struct fake_driver *driver)
{
    uint32_t count = driver->unshown;
    driver->unshown = 0;
    if (count > 0)
        shared_store_le16_release(&driver->ring[driver->held_position].flags, driver->held_flags);
    full_barrier(); /* as in the split ring: seen before we look at the wish */
    return count > 0 && wants_kick(driver, count);
}

static bool is_used(const struct fake_driver *driver)
{
    uint16_t flags = shared_load_le16_acquire(&driver->ring[driver->next_used].flags);
    return (flags & PACKED_MARKS) == driver->used_mark;
}

bool fake_driver_packed_get(struct fake_driver *driver, uint32_t *ret_head, uint32_t *ret_length)
{
    /* All free: what is there was never made available by this driver, or not on this lap. */
    if (driver->free_count == driver->size || !is_used(driver))
        return false;
    const struct vring_packed_desc *desc = &driver->ring[driver->next_used];
    uint16_t id = le16_to_cpu(desc->id);
    ASSERT(id < driver->size);
    *ret_head = id;
    *ret_length = (le16_to_cpu(desc->flags) & VRING_DESC_F_WRITE) != 0 ? le32_to_cpu(desc->length) : 0;

    uint32_t count = driver->chain_length[id];
    if (count > 0) {
        driver->chain_length[id] = 0;
        driver->free_next[id] = driver->free_head;
        driver->free_head = id;
        driver->free_count = (uint16_t)(driver->free_count + count);
    }
    uint32_t next = driver->next_used + (count > 0 ? count : 1);
    if (next >= driver->size) {
        next -= driver->size;
        driver->used_mark ^= PACKED_MARKS;
    }
    driver->next_used = (uint16_t)next;
    return true;
}

bool fake_driver_packed_interrupts_on(struct fake_driver *driver)
{
    uint32_t wrap = driver->used_mark != 0;
    if (driver->event_idx)
        shared_store_le32(driver->driver_event,
                          driver->next_used | wrap << VRING_PACKED_WRAP_BIT | (uint32_t)VRING_PACKED_EVENT_DESC << 16);
    else
        shared_store_le32(driver->driver_event, (uint32_t)VRING_PACKED_EVENT_ENABLE << 16);
    full_barrier(); /* the device may publish at this moment: either it sees the wish, or we see the descriptor */
    return driver->free_count < driver->size && is_used(driver);
}

void fake_driver_packed_interrupts_off(struct fake_driver *driver)
{
    shared_store_le32(driver->driver_event, (uint32_t)VRING_PACKED_EVENT_DISABLE << 16);
}

void fake_driver_packed_desc(struct fake_driver *driver, uint32_t position, uint64_t address, uint32_t length,
                             uint16_t id, uint16_t flags)
{
    ASSERT(driver->packed && position < driver->size);
    driver->ring[position] = (struct vring_packed_desc){
        .address = cpu_to_le64(address),
        .length = cpu_to_le32(length),
        .id = cpu_to_le16(id),
        .flags = cpu_to_le16(flags),
    };
}
