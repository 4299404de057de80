/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Memory of one queue that shares no cache line with another's, and counters that one thread writes. */
#ifndef PLATFORM_LINUX_QUEUE_MEMORY_H
#define PLATFORM_LINUX_QUEUE_MEMORY_H

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/base.h"

/* Two lines of 64 bytes: processors fetch lines in pairs. */
#define QUEUE_ALIGNMENT 128

/*
 * @count objects of @size, for free(). NULL: no memory. Neither number is a guest's. Nothing is written there, so that
 * a queue that is never used costs no pages.
 */
static inline void *queue_memory_untouched(size_t count, size_t size)
{
    return aligned_alloc(QUEUE_ALIGNMENT, (size_t)align_up(count * size, QUEUE_ALIGNMENT));
}

/* As queue_memory_untouched, but zeroed. */
static inline void *queue_memory(size_t count, size_t size)
{
    void *memory = queue_memory_untouched(count, size);
    if (memory != NULL)
        memset(memory, 0, count * size);
    return memory;
}

/*
 * Whole pages of zeros, for queue_release: a queue that is never used touches not one of them, as it would with malloc,
 * which writes beside each object. NULL: no memory.
 */
static inline void *queue_reserve(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static inline void queue_release(void *memory, size_t bytes)
{
    if (memory != NULL)
        munmap(memory, bytes);
}

/* One thread adds, any may look: no locked instruction is needed. */
static inline void count_add(_Atomic uint64_t *counter, uint64_t amount)
{
    uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, value + amount, memory_order_relaxed);
}

static inline uint64_t count_get(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

#endif
