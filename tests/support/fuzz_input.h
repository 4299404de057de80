/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A fuzzer's bytes as a stream of numbers: when they run out, everything is 0. */
#ifndef TESTS_SUPPORT_FUZZ_INPUT_H
#define TESTS_SUPPORT_FUZZ_INPUT_H

#include "base/base.h"

struct fuzz_input {
    const uint8_t *bytes;
    size_t left;
};

static inline uint8_t fuzz_u8(struct fuzz_input *input)
{
    if (input->left == 0)
        return 0;
    input->left--;
    return *input->bytes++;
}

static inline uint16_t fuzz_u16(struct fuzz_input *input)
{
    uint16_t low = fuzz_u8(input);
    return (uint16_t)(low | (uint16_t)fuzz_u8(input) << 8);
}

static inline uint32_t fuzz_u32(struct fuzz_input *input)
{
    uint32_t low = fuzz_u16(input);
    return low | (uint32_t)fuzz_u16(input) << 16;
}

static inline uint64_t fuzz_u64(struct fuzz_input *input)
{
    uint64_t low = fuzz_u32(input);
    return low | (uint64_t)fuzz_u32(input) << 32;
}

/* Fill @to with the next @size bytes. */
static inline void fuzz_bytes(struct fuzz_input *input, void *to, size_t size)
{
    size_t count = size_min(size, input->left);

    memset(to, 0, size);
    memcpy(to, input->bytes, count);
    input->bytes += count;
    input->left -= count;
}

#endif
