/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What every layer leans on: assertions that stay on, checked arithmetic, byte order of the wire, and access to
 * memory that a stranger writes at the same time. No function here allocates, blocks or calls the system.
 */
#ifndef BASE_BASE_H
#define BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The one way out of a program error of ours. A program or kernel-less image supplies it; it must not return. */
_Noreturn void backplane_assert_failed(const char *condition, const char *file, unsigned line);

/* Holds in every build. Never on what a guest or front end chose; @condition has no side effect. */
#define ASSERT(condition) ((condition) ? (void)0 : backplane_assert_failed(#condition, __FILE__, __LINE__))

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* The structure of @type whose field @member is at @pointer. */
#define container_of(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

static inline size_t size_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline uint32_t u32_min(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static inline uint64_t u64_min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Each: true when the true result does not fit; @ret is then untouched by us and not to be read. */
static inline bool add_overflows_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
    return __builtin_add_overflow(a, b, ret);
}

static inline bool mul_overflows_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
    return __builtin_mul_overflow(a, b, ret);
}

/* Does [@start, @start + @length) lie in [0, @limit)? No sum is formed, so nothing can wrap. */
static inline bool range_within(uint64_t start, uint64_t length, uint64_t limit)
{
    return start <= limit && length <= limit - start;
}

static inline bool is_power_of_two(uint64_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

/* @alignment is a power of two. Rounding up wraps to 0 past the end of the type, as addresses do. */
static inline uint64_t align_down(uint64_t value, uint64_t alignment)
{
    return value & ~(alignment - 1);
}

static inline uint64_t align_up(uint64_t value, uint64_t alignment)
{
    return (value + alignment - 1) & ~(alignment - 1);
}

static inline bool is_aligned(uint64_t value, uint64_t alignment)
{
    return (value & (alignment - 1)) == 0;
}

/* What index_mask does, in plain C: for processors without a version of their own. @size is at most SIZE_MAX / 2. */
static inline size_t index_mask_portable(size_t index, size_t size)
{
    size_t outside = (index | (size - 1 - index)) >> (sizeof(size_t) * 8 - 1); /* 1: index >= size */
    return index & (outside - 1);
}

/*
 * @index when it is below @size, else 0, without a branch to speculate past: for tables indexed by a number that a
 * guest chose, after the check that decides the answer. @size is not 0.
 */
static inline size_t index_mask(size_t index, size_t size)
{
#if defined(__x86_64__)
    /* cmp sets carry when index < size; sbb turns carry into all ones. */
    size_t mask;
    __asm__("cmp %2, %1; sbb %0, %0" : "=r"(mask) : "r"(index), "r"(size) : "cc");
    return index & mask;
#elif defined(__aarch64__)
    size_t mask;
    __asm__ volatile("cmp %1, %2; sbc %0, xzr, xzr; hint #20" : "=r"(mask) : "r"(index), "r"(size) : "cc");
    return index & mask;
#else
    return index_mask_portable(index, size);
#endif
}

/* Little-endian values at any alignment, in memory that is ours. */
static inline uint16_t get_le16(const void *bytes)
{
    const uint8_t *b = bytes;
    return (uint16_t)(b[0] | (uint16_t)b[1] << 8);
}

static inline uint32_t get_le32(const void *bytes)
{
    const uint8_t *b = bytes;
    return (uint32_t)get_le16(b) | (uint32_t)get_le16(b + 2) << 16;
}

static inline uint64_t get_le64(const void *bytes)
{
    const uint8_t *b = bytes;
    return (uint64_t)get_le32(b) | (uint64_t)get_le32(b + 4) << 32;
}

static inline void put_le16(void *bytes, uint16_t value)
{
    uint8_t *b = bytes;
    b[0] = (uint8_t)value;
    b[1] = (uint8_t)(value >> 8);
}

static inline void put_le32(void *bytes, uint32_t value)
{
    put_le16(bytes, (uint16_t)value);
    put_le16((uint8_t *)bytes + 2, (uint16_t)(value >> 16));
}

static inline void put_le64(void *bytes, uint64_t value)
{
    put_le32(bytes, (uint32_t)value);
    put_le32((uint8_t *)bytes + 4, (uint32_t)(value >> 32));
}

/* The same from and to the processor's own order, for fields already copied out as integers. */
static inline uint16_t le16_to_cpu(uint16_t value)
{
    return get_le16(&value);
}

static inline uint32_t le32_to_cpu(uint32_t value)
{
    return get_le32(&value);
}

static inline uint64_t le64_to_cpu(uint64_t value)
{
    return get_le64(&value);
}

static inline uint16_t cpu_to_le16(uint16_t value)
{
    return le16_to_cpu(value);
}

static inline uint32_t cpu_to_le32(uint32_t value)
{
    return le32_to_cpu(value);
}

static inline uint64_t cpu_to_le64(uint64_t value)
{
    return le64_to_cpu(value);
}

/*
 * Memory that another party writes while we read: each of these is exactly one access of that width, which the
 * compiler may neither split, repeat nor leave out. @at is naturally aligned. Values are little-endian in memory.
 */
static inline uint16_t shared_load_le16(const void *at)
{
    return le16_to_cpu(__atomic_load_n((const uint16_t *)at, __ATOMIC_RELAXED));
}

/* What the other side wrote before it stored this value is visible afterwards. */
static inline uint16_t shared_load_le16_acquire(const void *at)
{
    return le16_to_cpu(__atomic_load_n((const uint16_t *)at, __ATOMIC_ACQUIRE));
}

static inline uint64_t shared_load_le64(const void *at)
{
    return le64_to_cpu(__atomic_load_n((const uint64_t *)at, __ATOMIC_RELAXED));
}

static inline uint32_t shared_load_le32(const void *at)
{
    return le32_to_cpu(__atomic_load_n((const uint32_t *)at, __ATOMIC_RELAXED));
}

static inline void shared_store_le16(void *at, uint16_t value)
{
    __atomic_store_n((uint16_t *)at, cpu_to_le16(value), __ATOMIC_RELAXED);
}

/* What we wrote before is visible to whoever sees this value. */
static inline void shared_store_le16_release(void *at, uint16_t value)
{
    __atomic_store_n((uint16_t *)at, cpu_to_le16(value), __ATOMIC_RELEASE);
}

static inline void shared_store_le32(void *at, uint32_t value)
{
    __atomic_store_n((uint32_t *)at, cpu_to_le32(value), __ATOMIC_RELAXED);
}

static inline void shared_store_le64(void *at, uint64_t value)
{
    __atomic_store_n((uint64_t *)at, cpu_to_le64(value), __ATOMIC_RELAXED);
}

/*
 * Copy out of memory that another party writes at the same time. The copy is all there is from here on: the compiler
 * may not go back to the source for a value that has been checked in the copy.
 */
static inline void shared_copy_in(void *to, const void *from, size_t size)
{
    memcpy(to, from, size);
    __asm__ volatile("" ::: "memory");
}

/* One little-endian value at any alignment: what it was when it was read, however often it is used afterwards. */
static inline uint64_t shared_load_le64_unaligned(const void *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof(value));
    __asm__("" : "+r"(value)); /* from here on it comes out of a register */
    return le64_to_cpu(value);
}

/* In a loop that waits for another processor's store: spares the memory bus and the sibling thread. */
static inline void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Orders our earlier store before our later load, as seen by the other side: needed to go to sleep safely. */
static inline void full_barrier(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

#endif
