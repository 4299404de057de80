/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * The ring lies in memory that the device reads and writes; what the driver must be able to trust (which descriptors
 * are free, how long each chain is) lies in struct fake_driver, where a device cannot reach it. The driver writes the
 * descriptors of a request and its entry of the available ring at once, and moves the index that the device sees in
 * fake_driver_show: so a test decides what is one burst.
 *
 * A packed ring (fake_driver_packed.c) has the same calls: what a request's first descriptor says of being available is
 * kept back until fake_driver_show.
 *
 * Limits
 *
 * A device that returns a head outside the ring fails an assertion; one that returns a head which was
 * not offered by fake_driver_add is reported to the caller as it is, since raw offers look like that too.
 */
#include "fake_driver_private.h"

/* With EVENT_IDX, "no interrupt" is an index this far ahead: no burst gets there (2.7.7). */
#define EVENT_FAR 0x8000

static uint16_t *used_event(struct fake_driver *driver)
{
    return &driver->avail->ring[driver->size];
}

static const void *avail_event(const struct fake_driver *driver)
{
    return &driver->used->ring[driver->size];
}

static uint64_t avail_offset(uint32_t size)
{
    return align_up(vring_desc_bytes(size), VRING_AVAIL_ALIGN);
}

static uint64_t used_offset(uint32_t size)
{
    return align_up(avail_offset(size) + vring_avail_bytes(size), VRING_USED_ALIGN);
}

uint64_t fake_driver_ring_bytes(uint32_t size)
{
    return used_offset(size) + vring_used_bytes(size);
}

static void *host_address(const struct fake_memory *memory, uint64_t address, uint64_t length)
{
    ASSERT(address >= memory->guest_base);
    ASSERT(range_within(address - memory->guest_base, length, memory->size));
    return memory->host + (address - memory->guest_base);
}

void fake_driver_init(struct fake_driver *driver, const struct fake_memory *memory, uint64_t ring_address,
                      uint32_t size, uint64_t features)
{
    bool packed = (features & VIRTIO_F_RING_PACKED) != 0;
    ASSERT(size > 0 && size <= VRING_SIZE_MAX && (packed || is_power_of_two(size)));
    ASSERT(is_aligned(ring_address, VRING_DESC_ALIGN));
    uint8_t *ring = host_address(memory, ring_address, fake_driver_ring_bytes(size));

    memset(ring, 0, fake_driver_ring_bytes(size));
    memset(driver, 0, sizeof(*driver));
    driver->memory = *memory;
    driver->size = size;
    driver->packed = packed;
    driver->event_idx = (features & VIRTIO_F_EVENT_IDX) != 0;
    driver->desc_address = ring_address;
    if (packed) {
        fake_driver_packed_init(driver, ring);
    } else {
        driver->avail_address = ring_address + avail_offset(size);
        driver->used_address = ring_address + used_offset(size);
        driver->desc = (void *)ring;
        driver->avail = (void *)(ring + avail_offset(size));
        driver->used = (void *)(ring + used_offset(size));
    }
    driver->free_count = (uint16_t)size;
    for (uint32_t i = 0; i < size; i++)
        driver->free_next[i] = (uint16_t)(i + 1);
}

struct virtqueue_config fake_driver_config(const struct fake_driver *driver, uint64_t features)
{
    return (struct virtqueue_config){
        .size = driver->size,
        .desc_address = driver->desc_address,
        .avail_address = driver->avail_address,
        .used_address = driver->used_address,
        .base = virtqueue_base_initial(features),
        .features = features,
    };
}

static void write_desc(struct vring_desc *desc, uint64_t address, uint32_t length, uint16_t flags, uint16_t next)
{
    *desc = (struct vring_desc){
        .address = cpu_to_le64(address),
        .length = cpu_to_le32(length),
        .flags = cpu_to_le16(flags),
        .next = cpu_to_le16(next),
    };
}

/* 2.7.4.2: what the device reads comes before what it writes. */
static void check_order(const struct fake_piece *pieces, unsigned count)
{
    ASSERT(count > 0);
    for (unsigned i = 1; i < count; i++)
        ASSERT(!pieces[i - 1].writable || pieces[i].writable);
}

uint16_t fake_driver_piece_flags(const struct fake_piece *pieces, unsigned index, unsigned count)
{
    unsigned flags = pieces[index].writable ? VRING_DESC_F_WRITE : 0;
    return (uint16_t)(index + 1 < count ? flags | VRING_DESC_F_NEXT : flags);
}

static uint16_t take_descriptor(struct fake_driver *driver)
{
    ASSERT(driver->free_count > 0);
    uint16_t index = driver->free_head;
    driver->free_head = driver->free_next[index];
    driver->free_count--;
    return index;
}

int fake_driver_add(struct fake_driver *driver, const struct fake_piece *pieces, unsigned count)
{
    check_order(pieces, count);
    if (count > driver->free_count)
        return -1;
    if (driver->packed)
        return fake_driver_packed_add(driver, pieces, count);

    /* The first @count of the free list, as they are linked already: a chain is given back in the same order. */
    uint16_t head = driver->free_head;
    uint16_t index = head;
    for (unsigned i = 0; i < count; i++) {
        ASSERT(index < driver->size);
        uint16_t next = driver->free_next[index];
        bool last = i + 1 == count;
        write_desc(&driver->desc[index], pieces[i].address, pieces[i].length, fake_driver_piece_flags(pieces, i, count),
                   last ? 0 : next);
        index = next;
    }
    driver->free_head = index;
    driver->free_count = (uint16_t)(driver->free_count - count);
    driver->chain_length[head] = (uint16_t)count;
    fake_driver_offer(driver, head);
    return head;
}

int fake_driver_add_indirect(struct fake_driver *driver, const struct fake_memory *memory, uint64_t table_address,
                             const struct fake_piece *pieces, unsigned count)
{
    check_order(pieces, count);
    if (driver->free_count == 0)
        return -1;

    uint32_t table_bytes = count * (uint32_t)sizeof(struct vring_desc);
    uint8_t *table = host_address(memory, table_address, table_bytes);
    if (driver->packed)
        return fake_driver_packed_add_indirect(driver, table, table_address, pieces, count);
    for (unsigned i = 0; i < count; i++) {
        /* By way of a copy: 2.7.5.3 asks for no alignment of the table. */
        struct vring_desc desc;
        write_desc(&desc, pieces[i].address, pieces[i].length, fake_driver_piece_flags(pieces, i, count),
                   (uint16_t)(i + 1 < count ? i + 1 : 0));
        memcpy(table + i * sizeof(desc), &desc, sizeof(desc));
    }
    uint16_t head = take_descriptor(driver);
    write_desc(&driver->desc[head], table_address, table_bytes, VRING_DESC_F_INDIRECT, 0);
    driver->chain_length[head] = 1;
    fake_driver_offer(driver, head);
    return head;
}

bool fake_driver_show(struct fake_driver *driver)
{
    if (driver->packed)
        return fake_driver_packed_show(driver);
    uint16_t old = driver->shown_avail;
    uint16_t new = driver->next_avail;
    driver->shown_avail = new;
    shared_store_le16_release(&driver->avail->index, new);
    /* The device may go to sleep at this moment: either it sees the index, or we see that it wants a kick. */
    full_barrier();
    if (new == old)
        return false;
    if (driver->event_idx) {
        uint16_t event = shared_load_le16(avail_event(driver));
        return (uint16_t)(new - event - 1) < (uint16_t)(new - old);
    }
    return (shared_load_le16(&driver->used->flags) & VRING_USED_F_NO_NOTIFY) == 0;
}

bool fake_driver_get(struct fake_driver *driver, uint32_t *ret_head, uint32_t *ret_length)
{
    if (driver->packed)
        return fake_driver_packed_get(driver, ret_head, ret_length);
    /* The index is in a line that the device writes: it is looked at when all that it said has been taken. */
    if (driver->seen_used == driver->next_used)
        driver->seen_used = shared_load_le16_acquire(&driver->used->index);
    if (driver->seen_used == driver->next_used)
        return false;

    const struct vring_used_element *element = &driver->used->ring[driver->next_used & (driver->size - 1)];
    uint32_t head = le32_to_cpu(element->id);
    ASSERT(head < driver->size);
    driver->next_used++;

    uint16_t count = driver->chain_length[head];
    driver->chain_length[head] = 0;
    if (count > 0) {
        uint16_t last = (uint16_t)head;
        for (uint16_t i = 1; i < count; i++)
            last = driver->free_next[last];
        driver->free_next[last] = driver->free_head;
        driver->free_head = (uint16_t)head;
        driver->free_count = (uint16_t)(driver->free_count + count);
    }
    *ret_head = head;
    *ret_length = le32_to_cpu(element->length);
    return true;
}

bool fake_driver_interrupts_on(struct fake_driver *driver)
{
    if (driver->packed)
        return fake_driver_packed_interrupts_on(driver);
    if (driver->event_idx)
        shared_store_le16(used_event(driver), driver->next_used);
    else
        shared_store_le16(&driver->avail->flags, 0);
    /* The device may publish at this moment: either it sees the wish, or we see the entry. */
    full_barrier();
    return shared_load_le16_acquire(&driver->used->index) != driver->next_used;
}

void fake_driver_interrupts_off(struct fake_driver *driver)
{
    if (driver->packed) {
        fake_driver_packed_interrupts_off(driver);
    } else if (driver->event_idx) {
        uint16_t used = shared_load_le16(&driver->used->index);
        shared_store_le16(used_event(driver), (uint16_t)(used + EVENT_FAR));
    } else {
        shared_store_le16(&driver->avail->flags, VRING_AVAIL_F_NO_INTERRUPT);
    }
}

void fake_driver_desc(struct fake_driver *driver, uint32_t index, uint64_t address, uint32_t length, uint16_t flags,
                      uint16_t next)
{
    ASSERT(!driver->packed && index < driver->size);
    write_desc(&driver->desc[index], address, length, flags, next);
}

void fake_driver_offer(struct fake_driver *driver, uint16_t head)
{
    driver->avail->ring[driver->next_avail & (driver->size - 1)] = cpu_to_le16(head);
    driver->next_avail++;
}

void fake_driver_set_avail_index(struct fake_driver *driver, uint16_t index)
{
    driver->shown_avail = index;
    shared_store_le16_release(&driver->avail->index, index);
}
