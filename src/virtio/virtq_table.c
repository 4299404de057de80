/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A table in one linear piece is read where it lies, an entry at a time, each once. One that is reached through an
 * access table, or lies across regions, is fetched in groups of entries into private memory.
 */
#include "virtio/virtq_layout.h"

int virtq_table_open(struct virtq_table *table, struct virtq_build *build, uint64_t address, uint32_t bytes)
{
    struct virtqueue *queue = build->queue;
    uint64_t end;
    if (bytes == 0 || bytes % VIRTQ_TABLE_ENTRY_BYTES != 0)
        return virtqueue_wrong(queue, "an indirect table that is not made of descriptors");
    if (bytes / VIRTQ_TABLE_ENTRY_BYTES > VIRTQ_INDIRECT_MAX)
        return virtqueue_wrong(queue, "an indirect table of more than 1024 descriptors");
    if (add_overflows_u64(address, bytes, &end))
        return virtqueue_wrong(queue, "an indirect table whose address wraps");
    table->memory = build->memory;
    table->host = guest_memory_linear(build->memory, address, bytes);
    table->address = address;
    table->count = bytes / VIRTQ_TABLE_ENTRY_BYTES;
    table->group_first = 0;
    table->group_count = 0;
    return 0;
}

int virtq_table_entry_cold(struct virtq_table *table, uint32_t index, void *to)
{
    if (index - table->group_first >= table->group_count) {
        uint32_t count = u32_min(table->count - index, VIRTQ_TABLE_GROUP_MAX);
        int r = guest_memory_read(table->memory, table->address + (uint64_t)index * VIRTQ_TABLE_ENTRY_BYTES,
                                  table->group, (size_t)count * VIRTQ_TABLE_ENTRY_BYTES);
        if (r < 0)
            return r == -EFAULT ? -EPROTO : -EAGAIN;
        table->group_first = index;
        table->group_count = count;
    }
    memcpy(to, table->group[index_mask(index - table->group_first, table->group_count)], VIRTQ_TABLE_ENTRY_BYTES);
    return 0;
}
