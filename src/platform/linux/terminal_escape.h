/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What is typed, split into bytes for the guest and keys for the one who runs it. Pure. */
#ifndef PLATFORM_LINUX_TERMINAL_ESCAPE_H
#define PLATFORM_LINUX_TERMINAL_ESCAPE_H

#include "base/base.h"

#define TERMINAL_ESCAPE_DEFAULT 0x01 /* Ctrl-A */
#define TERMINAL_ESCAPE_NONE (-1)

enum terminal_key {
    TERMINAL_NO_KEY,
    TERMINAL_QUIT,
    TERMINAL_PAUSE,
    TERMINAL_POWER,
    TERMINAL_BREAK,
    TERMINAL_HELP,
};

struct terminal_escape {
    int key;      /* its byte; TERMINAL_ESCAPE_NONE */
    bool pending; /* it came, and nothing since */
};

/*
 * A byte was typed. True: *ret_byte is for the guest. False: nothing is; and *ret_key says what was asked for, which is
 * TERMINAL_NO_KEY after the escape itself and after a key that means nothing.
 */
bool terminal_escape_typed(struct terminal_escape *escape, uint8_t byte, uint8_t *ret_byte, enum terminal_key *ret_key);

#endif
