/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Guest memory against a model that looks at one byte at a time. The input is a list of operations on a small world:
 * regions with and without a host address, at the bottom, the middle and the very top of the address space, and an
 * access table that refuses now and then. Whatever the map answers must be what walking the range byte by byte gives.
 */
#include <errno.h>

#include "fuzz_input.h"
#include "memory/guest_memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REGIONS_MAX 24
#define OPERATIONS_MAX 96 /* keeps one input below some milliseconds */
#define ARENA_BYTES 65536
#define PIECES_MAX 32
#define CHUNK_BYTES UINT64_C(4096)

/* The world. Bytes of linear regions lie in linear_bytes, at any overlap; the table has one byte for each 64 KiB. */
static uint8_t linear_bytes[ARENA_BYTES];
static uint8_t table_bytes[ARENA_BYTES];
static uint8_t pattern[ARENA_BYTES]; /* what both hold at the start of an input */
static struct guest_region model[REGIONS_MAX];
static unsigned model_count;
static struct guest_memory memory;

struct fuzz_table {
    struct guest_access access;
    unsigned refuse_in; /* maps until one is refused; 0: none is */
    int refused;        /* what the last refusal was, since begin_operation */
    size_t mapped;
};

/* Near one of four places, so that operations meet; or anything. */
static uint64_t take_address(struct fuzz_input *input)
{
    static const uint64_t places[] = {0, 0x100000, 0x7ffffffffffff000, 0xffffffffffff0000};
    uint8_t place = fuzz_u8(input);
    if (place == 255)
        return fuzz_u64(input);
    return places[place % 4] + fuzz_u16(input);
}

static uint64_t take_length(struct fuzz_input *input)
{
    uint8_t kind = fuzz_u8(input);
    if (kind == 255)
        return UINT64_MAX - fuzz_u8(input);
    if (kind >= 250)
        return (UINT64_C(1) << 63) - 128 + fuzz_u8(input);
    return kind % 4 == 0 ? fuzz_u8(input) : fuzz_u16(input) % 12289;
}

static int table_map(struct guest_access *access, const uint64_t *addresses, struct guest_iovec *iov, unsigned count,
                     bool write)
{
    struct fuzz_table *table = container_of(access, struct fuzz_table, access);
    ASSERT(count > 0);
    if (table->refuse_in > 0 && --table->refuse_in == 0) {
        table->refused = write ? -ENOMEM : -EAGAIN;
        return table->refused;
    }
    for (unsigned i = 0; i < count; i++) {
        ASSERT(iov[i].length > 0 && iov[i].base == NULL);
        ASSERT(iov[i].length <= CHUNK_BYTES - addresses[i] % CHUNK_BYTES);
        iov[i].base = &table_bytes[addresses[i] % ARENA_BYTES];
    }
    table->mapped += count;
    return 0;
}

static void table_unmap(struct guest_access *access, const uint64_t *addresses, const struct guest_iovec *iov,
                        unsigned count, bool written)
{
    struct fuzz_table *table = container_of(access, struct fuzz_table, access);
    (void)written;
    for (unsigned i = 0; i < count; i++)
        ASSERT(iov[i].base == &table_bytes[addresses[i] % ARENA_BYTES]);
    ASSERT(table->mapped >= count);
    table->mapped -= count;
}

static const struct guest_access_class table_class = {
    .name = "fuzz",
    .chunk_shift = 12,
    .map = table_map,
    .unmap = table_unmap,
};
static struct fuzz_table table = {.access.class = &table_class};

/* The model's one question: which region has the byte, and where is it? */
static const struct guest_region *model_find(uint64_t address)
{
    for (unsigned i = 0; i < model_count; i++) {
        if (address >= model[i].guest_base && address - model[i].guest_base < model[i].size)
            return &model[i];
    }
    return NULL;
}

static uint8_t *model_byte(const struct guest_region *region, uint64_t address)
{
    return region->host != NULL ? region->host + (address - region->guest_base) : &table_bytes[address % ARENA_BYTES];
}

static bool model_overlaps(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
    return a < b + b_size && b < a + a_size; /* ends that wrap were refused before */
}

static int model_add(const struct guest_region *region, bool with_table)
{
    if (region->size == 0 || region->guest_base + region->size < region->size ||
        region->frontend_base + region->size < region->size || (region->host == NULL && !with_table))
        return -EINVAL;
    for (unsigned i = 0; i < model_count; i++) {
        if (model_overlaps(model[i].guest_base, model[i].size, region->guest_base, region->size))
            return -EEXIST;
        if (model[i].frontend_base != 0 && region->frontend_base != 0 &&
            model_overlaps(model[i].frontend_base, model[i].size, region->frontend_base, region->size))
            return -EEXIST;
    }
    model[model_count++] = *region;
    return 0;
}

static void do_add(struct fuzz_input *input)
{
    if (model_count == REGIONS_MAX)
        return;
    struct guest_region region = {.guest_base = take_address(input), .size = take_length(input)};
    region.frontend_base = take_address(input);
    uint16_t where = fuzz_u16(input);
    /* Linear ones stay inside the arena, where every byte they name can be touched. */
    if (where % 4 != 0 && region.size <= ARENA_BYTES)
        region.host = &linear_bytes[where % (ARENA_BYTES - region.size + 1)];
    int expected = model_add(&region, memory.access != NULL);
    ASSERT(guest_memory_add(&memory, &region) == expected);
}

static void do_remove(struct fuzz_input *input)
{
    uint8_t which = fuzz_u8(input);
    uint8_t lie = fuzz_u8(input);
    struct guest_region removed;
    if (model_count == 0) {
        ASSERT(guest_memory_remove(&memory, which, lie, 0, &removed) == -ENOENT);
        return;
    }
    struct guest_region *region = &model[which % model_count];
    int r = guest_memory_remove(&memory, region->guest_base + (lie == 1), region->size + (lie == 2),
                                region->frontend_base ^ (lie == 3), &removed);
    if (lie >= 1 && lie <= 3) {
        ASSERT(r == -ENOENT);
        return;
    }
    ASSERT(r == 0);
    ASSERT(memcmp(&removed, region, sizeof(removed)) == 0);
    *region = model[--model_count];
}

static void do_find(struct fuzz_input *input)
{
    uint64_t address = take_address(input);
    const struct guest_region *expected = model_find(address);
    const struct guest_region *found = guest_memory_find(&memory, address);
    ASSERT((found == NULL) == (expected == NULL));
    ASSERT(found == NULL || memcmp(found, expected, sizeof(*found)) == 0);
}

/* How many bytes from @address on are there, up to @length; with @linear, in one linear piece of the host. */
static uint64_t model_reach(uint64_t address, uint64_t length, bool linear)
{
    const uint8_t *first = NULL;
    uint64_t i;
    for (i = 0; i < length && address + i >= address; i++) {
        const struct guest_region *region = model_find(address + i);
        if (region == NULL || (linear && region->host == NULL))
            break;
        if (i == 0)
            first = model_byte(region, address);
        if (linear && model_byte(region, address + i) != first + i)
            break;
    }
    return i;
}

/* The length of a range: a great one only where it soon meets an end, since the model walks by bytes. */
static uint64_t take_range_length(struct fuzz_input *input)
{
    uint64_t length = take_length(input);
    for (unsigned i = 0; i < model_count; i++) {
        if (model[i].size > ARENA_BYTES)
            length %= 12289;
    }
    return length;
}

static void do_linear(struct fuzz_input *input)
{
    uint64_t address = take_address(input), length = take_range_length(input);
    void *host = guest_memory_linear(&memory, address, length);
    if (length == 0 || model_reach(address, length, true) < length)
        ASSERT(host == NULL);
    else
        ASSERT(host == model_byte(model_find(address), address));
}

/* What guest_memory_pieces should return, a byte at a time. */
static int model_pieces(uint64_t address, uint64_t length, unsigned max)
{
    const struct guest_region *last = NULL;
    unsigned count = 0;
    for (uint64_t i = 0; i < length; i++) {
        uint64_t at = address + i;
        const struct guest_region *region = at >= address ? model_find(at) : NULL;
        if (region == NULL)
            return -EFAULT;
        bool goes_on = last != NULL && (last->host == NULL) == (region->host == NULL);
        if (goes_on && region->host == NULL)
            goes_on = last == region && at % CHUNK_BYTES != 0;
        else if (goes_on)
            goes_on = model_byte(last, at - 1) + 1 == model_byte(region, at);
        if (!goes_on && count++ == max)
            return -E2BIG;
        last = region;
    }
    return (int)count;
}

static void do_pieces(struct fuzz_input *input)
{
    uint64_t address = take_address(input), length = take_range_length(input);
    unsigned max = fuzz_u8(input) % (PIECES_MAX + 1);
    bool write = fuzz_u8(input) & 1;
    struct guest_iovec iov[PIECES_MAX];
    uint64_t addresses[PIECES_MAX];
    int count = guest_memory_pieces(&memory, address, length, write, iov, addresses, max);
    if (table.refused != 0) {
        ASSERT(count == table.refused);
        return;
    }
    ASSERT(count == model_pieces(address, length, max));
    uint64_t at = address;
    for (int i = 0; i < count; i++) {
        ASSERT(addresses[i] == at);
        ASSERT(iov[i].length > 0);
        for (size_t j = 0; j < iov[i].length; j++, at++)
            ASSERT((uint8_t *)iov[i].base + j == model_byte(model_find(at), at));
    }
    ASSERT(count < 0 || at == address + length);
    if (count > 0)
        guest_memory_release(&memory, iov, addresses, (unsigned)count, write);
}

static void do_read(struct fuzz_input *input)
{
    static uint8_t copy[ARENA_BYTES];
    uint64_t address = take_address(input);
    size_t length = (size_t)(take_length(input) % (ARENA_BYTES + 1));
    int r = guest_memory_read(&memory, address, copy, length);
    if (table.refused != 0) {
        ASSERT(r == table.refused);
        return;
    }
    ASSERT(r == (model_reach(address, length, false) == length ? 0 : -EFAULT));
    for (uint64_t i = 0; i < length && r == 0; i++)
        ASSERT(copy[i] == *model_byte(model_find(address + i), address + i));
}

static void do_write(struct fuzz_input *input)
{
    static uint8_t copy[ARENA_BYTES];
    uint64_t address = take_address(input);
    size_t length = (size_t)(take_length(input) % (ARENA_BYTES + 1));
    memset(copy, fuzz_u8(input), length);
    int r = guest_memory_write(&memory, address, copy, length);
    if (table.refused != 0) {
        ASSERT(r == table.refused);
        return;
    }
    ASSERT(r == (model_reach(address, length, false) == length ? 0 : -EFAULT));
    for (uint64_t i = 0; i < length && r == 0; i++)
        ASSERT(*model_byte(model_find(address + i), address + i) == copy[i]);
}

static void do_from_frontend(struct fuzz_input *input)
{
    uint64_t address = take_address(input), length = take_range_length(input), found = 0;
    int r = guest_memory_from_frontend(&memory, address, length, &found);
    uint64_t first = 0;
    bool good = true;
    for (uint64_t i = 0; good && (i < length || i == 0); i++) {
        const struct guest_region *region = NULL;
        for (unsigned n = 0; n < model_count && region == NULL; n++) {
            if (model[n].frontend_base != 0 && address + i >= address && address + i >= model[n].frontend_base &&
                address + i - model[n].frontend_base < model[n].size)
                region = &model[n];
        }
        uint64_t here = region != NULL ? region->guest_base + (address + i - region->frontend_base) : 0;
        first = i == 0 ? here : first;
        good = region != NULL && here == first + i;
    }
    ASSERT(r == (good ? 0 : -EFAULT));
    ASSERT(!good || found == first);
}

static void do_map(struct fuzz_input *input)
{
    uint64_t address = take_address(input), length = take_range_length(input);
    bool write = fuzz_u8(input) & 1;
    void *host = NULL;
    int r = guest_memory_map(&memory, address, length, write, &host);
    if (table.refused != 0) {
        ASSERT(r == table.refused);
        return;
    }
    int count = model_pieces(address, length, GUEST_MEMORY_MAP_PIECES_MAX);
    bool one_piece = count > 0;
    const uint8_t *first = one_piece ? model_byte(model_find(address), address) : NULL;
    for (uint64_t i = 0; i < length && one_piece; i++)
        one_piece = model_byte(model_find(address + i), address + i) == first + i;
    ASSERT(r == (one_piece ? 0 : count < 0 ? count : -EFAULT));
    if (r == 0) {
        ASSERT(host == first);
        guest_memory_unmap(&memory, address, length, host, write);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const operations[])(struct fuzz_input *) = {
        do_add, do_add, do_remove, do_find, do_linear, do_pieces, do_read, do_write, do_from_frontend, do_map,
    };
    struct fuzz_input input = {.bytes = data, .left = size};
    if (pattern[1] == 0) {
        for (size_t i = 0; i < ARENA_BYTES; i++)
            pattern[i] = (uint8_t)(i * 5 + (i >> 8) + 1);
    }
    memcpy(linear_bytes, pattern, ARENA_BYTES);
    memcpy(table_bytes, pattern, ARENA_BYTES);
    model_count = 0;
    table.mapped = 0;
    guest_memory_init(&memory, fuzz_u8(&input) & 1 ? &table.access : NULL);
    for (int i = 0; i < OPERATIONS_MAX && input.left > 0; i++) {
        uint8_t operation = fuzz_u8(&input);
        table.refuse_in = operation >> 4;
        table.refused = 0;
        operations[operation % 16 % ARRAY_SIZE(operations)](&input);
        ASSERT(table.mapped == 0);
        ASSERT(memory.region_count == model_count);
    }
    return 0;
}
