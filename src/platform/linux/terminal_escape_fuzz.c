/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Whatever is typed, each byte either reaches the guest or is part of a pair that began with the escape; two escapes
 * make one, and no guest's byte is invented. Held against a second reading of the same bytes, in pairs.
 */
#include "fuzz_input.h"
#include "platform/linux/terminal_escape.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What the pair's second byte leaves for the guest; -1: nothing. */
static int second_of_pair(int key, uint8_t byte, enum terminal_key asked)
{
    if (byte == 'a' || byte == key)
        return key;
    ASSERT((asked != TERMINAL_NO_KEY) == (byte != 0 && strchr("xspbh?", byte) != NULL));
    return -1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    struct terminal_escape escape = {.key = (int)(fuzz_u16(&input) % 257) - 1};
    bool second = false;

    while (input.left > 0) {
        uint8_t typed = fuzz_u8(&input), byte = 0;
        enum terminal_key asked;
        int expected = typed == escape.key ? -1 : typed;
        bool passed = terminal_escape_typed(&escape, typed, &byte, &asked);
        if (second)
            expected = second_of_pair(escape.key, typed, asked);
        else
            ASSERT(asked == TERMINAL_NO_KEY);
        ASSERT(passed == (expected >= 0) && (!passed || byte == expected));
        second = !second && typed == escape.key;
    }
    return 0;
}
