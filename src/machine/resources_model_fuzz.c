/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A resource space and a naive model of it are driven with the same operations, and must agree. The model is one owner
 * for each of 256 numbers, and looks at every number for every answer. Then the input is loaded as a state: whatever is
 * accepted is consistent, and is saved as it was.
 */
#include <errno.h>

#include "fuzz_input.h"
#include "machine/resources.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NUMBERS 256
#define RANGES 12
#define STEPS_MAX 400

enum { OUTSIDE = -1, FREE = 0 };

static struct resource_range ranges[RESOURCE_KINDS][RANGES];
static struct resources resources;

static struct model {
    int owner[NUMBERS];     /* OUTSIDE, FREE, or the range's own number */
    int window_of[NUMBERS]; /* which window; 0: none */
    int windows, takes;
    unsigned count;
} model;

static bool model_fits(unsigned base, unsigned size)
{
    for (unsigned i = base; i < base + size; i++) {
        if (i >= NUMBERS || model.window_of[i] == 0 || model.window_of[i] != model.window_of[base])
            return false;
    }
    return true;
}

static bool model_is_free(unsigned base, unsigned size)
{
    for (unsigned i = base; i < base + size && i < NUMBERS; i++) {
        if (model.owner[i] > FREE)
            return false;
    }
    return true;
}

static void model_note(unsigned base, unsigned size)
{
    model.takes++;
    model.count++;
    for (unsigned i = base; i < base + size; i++)
        model.owner[i] = model.takes;
}

static int model_take(unsigned base, unsigned size)
{
    if (size == 0)
        return -EINVAL;
    if (!model_fits(base, size))
        return -ERANGE;
    if (!model_is_free(base, size))
        return -EEXIST;
    if (model.count == RANGES)
        return -ENOSPC;
    model_note(base, size);
    return 0;
}

static int model_find(unsigned size, unsigned alignment, unsigned min, unsigned max, unsigned *ret_base)
{
    if (size == 0 || min > max)
        return -EINVAL;
    for (unsigned base = min; base < NUMBERS && base + size - 1 <= max; base++) {
        if (base % alignment != 0 || !model_fits(base, size) || !model_is_free(base, size))
            continue;
        if (model.count == RANGES)
            return -ENOSPC;
        model_note(base, size);
        *ret_base = base;
        return 0;
    }
    return -ENOSPC;
}

static int model_release(unsigned base)
{
    int owner = model.owner[base];
    if (owner <= FREE || (base > 0 && model.owner[base - 1] == owner))
        return -ENOENT;
    for (unsigned i = base; i < NUMBERS && model.owner[i] == owner; i++)
        model.owner[i] = FREE;
    model.count--;
    return 0;
}

static int model_window(unsigned base, unsigned size)
{
    if (size == 0)
        return -EINVAL;
    for (unsigned i = base; i < base + size; i++) {
        if (i >= NUMBERS || model.window_of[i] != 0)
            return -EEXIST;
    }
    if (model.windows == RESOURCE_WINDOWS_MAX)
        return -ENOSPC;
    model.windows++;
    for (unsigned i = base; i < base + size; i++) {
        model.window_of[i] = model.windows;
        model.owner[i] = FREE;
    }
    return 0;
}

static void compare(const struct resource_space *space)
{
    uint64_t left = 0;
    for (unsigned i = 0; i < NUMBERS; i++) {
        const struct resource_range *range = resource_conflict(space, i, 1);
        ASSERT((range != NULL) == (model.owner[i] > FREE));
        left += model.owner[i] == FREE;
    }
    ASSERT(left == resource_free_total(space) && space->count == model.count);
    for (uint32_t i = 1; i < space->count; i++)
        ASSERT(space->ranges[i - 1].base + space->ranges[i - 1].size <= space->ranges[i].base);
}

static void step(struct resource_space *space, struct fuzz_input *input)
{
    uint8_t what = fuzz_u8(input);
    unsigned base = fuzz_u8(input), size = fuzz_u8(input) % 40, alignment = 1u << (what >> 3 & 7);
    int r, expected;
    if (what % 8 == 0) {
        size = u32_min(size, NUMBERS - base);
        r = resource_window_add(space, base, size);
        expected = model_window(base, size);
    } else if (what % 8 < 3) {
        r = resource_take(space, base, size, "fuzz");
        expected = model_take(base, size);
    } else if (what % 8 < 6) {
        unsigned max = fuzz_u8(input), model_base = 0;
        uint64_t found = 0;
        r = resource_find(space, size, alignment, base, max, "fuzz", &found);
        expected = model_find(size, alignment, base, max, &model_base);
        ASSERT(found == model_base);
    } else {
        r = resource_release(space, base);
        expected = model_release(base);
    }
    ASSERT(r == expected);
}

static void start(void)
{
    for (unsigned kind = 0; kind < RESOURCE_KINDS; kind++)
        resource_space_init(&resources.spaces[kind], kind, ranges[kind], RANGES);
}

static void load(const uint8_t *data, size_t size)
{
    static uint8_t bytes[16384];
    struct state_record record = {.tag = RESOURCES_STATE_TAG, .version = 1, .length = (uint32_t)size, .payload = data};
    start();
    if (size > 8192 || resources_load(&resources, &record) < 0)
        return;
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};
    int r = resources_save(&resources, &writer);
    ASSERT(r == 0);
    for (unsigned kind = 0; kind < RESOURCE_KINDS; kind++) {
        struct resource_space *space = &resources.spaces[kind];
        while (space->count > 0) {
            struct resource_range range = space->ranges[0];
            ASSERT(resource_conflict(space, range.base, range.size) == &space->ranges[0]);
            r = resource_release(space, range.base);
            ASSERT(r == 0);
        }
        (void)resource_free_total(space);
    }
    struct state_reader reader = {.bytes = bytes, .size = writer.used};
    r = state_next(&reader, &record);
    ASSERT(r == 1);
    r = resources_load(&resources, &record);
    ASSERT(r == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.bytes = data, .left = size};
    start();
    memset(&model, 0, sizeof(model));
    for (unsigned i = 0; i < NUMBERS; i++)
        model.owner[i] = OUTSIDE;
    struct resource_space *space = &resources.spaces[RESOURCE_IRQ];
    for (unsigned i = 0; i < STEPS_MAX && input.left > 0; i++) {
        step(space, &input);
        compare(space);
    }
    load(data, size);
    return 0;
}
