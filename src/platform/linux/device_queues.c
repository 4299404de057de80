/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "platform/linux/device_queues.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "platform/linux/queue_memory.h"

struct device_arena {
    _Alignas(QUEUE_ALIGNMENT) struct virtq_arena arena;
};
static_assert(sizeof(struct virtqueue) % 64 == 0, "virtqueues of different threads share no cache line: pad it");

int device_queues_open(struct device_queues *queues, unsigned count, const struct virtq_arena_shape *shape)
{
    /* Whole pages, so that queues on different threads share none. */
    size_t stride = (size_t)align_up(virtq_arena_bytes(shape), (uint64_t)sysconf(_SC_PAGESIZE));
    *queues = (struct device_queues){.count = count, .shape = *shape, .stride = stride};
    queues->queues = queue_memory(count, sizeof(*queues->queues));
    queues->arenas = queue_memory(count, sizeof(*queues->arenas));
    queues->prepared = calloc(count, sizeof(*queues->prepared));
    void *memory =
        mmap(NULL, stride * count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    queues->memory = memory == MAP_FAILED ? NULL : memory;
    if (!queues->queues || !queues->arenas || !queues->prepared || !queues->memory) {
        device_queues_close(queues);
        return -ENOMEM;
    }
    for (unsigned i = 0; i < count; i++)
        virtqueue_init(&queues->queues[i], &queues->arenas[i].arena);
    return 0;
}

void device_queues_close(struct device_queues *queues)
{
    if (queues->memory)
        munmap(queues->memory, queues->stride * queues->count);
    free(queues->prepared);
    free(queues->arenas);
    free(queues->queues);
    *queues = (struct device_queues){.count = 0};
}

void device_queues_prepare(struct device_queues *queues, unsigned index)
{
    ASSERT(index < queues->count);
    if (queues->prepared[index])
        return;
    virtq_arena_init(&queues->arenas[index].arena, &queues->shape, queues->memory + index * queues->stride);
    queues->prepared[index] = true;
}
