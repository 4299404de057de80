/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "platform/linux/terminal_escape.h"

static enum terminal_key terminal_key_of(uint8_t byte)
{
    switch (byte) {
    case 'x':
        return TERMINAL_QUIT;
    case 's':
        return TERMINAL_PAUSE;
    case 'p':
        return TERMINAL_POWER;
    case 'b':
        return TERMINAL_BREAK;
    case 'h':
    case '?':
        return TERMINAL_HELP;
    default:
        return TERMINAL_NO_KEY;
    }
}

bool terminal_escape_typed(struct terminal_escape *escape, uint8_t byte, uint8_t *ret_byte, enum terminal_key *ret_key)
{
    *ret_key = TERMINAL_NO_KEY;
    if (!escape->pending) {
        escape->pending = byte == escape->key;
        *ret_byte = byte;
        return !escape->pending;
    }
    escape->pending = false;
    if (byte == 'a' || byte == escape->key) {
        *ret_byte = (uint8_t)escape->key;
        return true;
    }
    *ret_key = terminal_key_of(byte);
    return false;
}
