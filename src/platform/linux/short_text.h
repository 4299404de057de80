/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What a person gave, in a message about it: a path may have thousands of characters, and the advice comes after it. */
#ifndef PLATFORM_LINUX_SHORT_TEXT_H
#define PLATFORM_LINUX_SHORT_TEXT_H

#include "base/base.h"

/* Shown whole up to here: longer than any path of a socket, and three of them fit into a line. */
#define SHORT_TEXT_MAX 140

struct short_text {
    char bytes[SHORT_TEXT_MAX + 1];
};

/* @text itself, or its beginning and its end in @room. */
static inline const char *short_text_make(struct short_text *room, const char *text)
{
    static const char gap[] = "[...]";
    const size_t side = (SHORT_TEXT_MAX - (sizeof(gap) - 1)) / 2;
    size_t length = strlen(text);
    if (length <= SHORT_TEXT_MAX)
        return text;
    memcpy(room->bytes, text, side);
    memcpy(room->bytes + side, gap, sizeof(gap) - 1);
    memcpy(room->bytes + side + sizeof(gap) - 1, text + length - side, side + 1);
    return room->bytes;
}

/* For an argument of printf: good until the block ends. */
#define SHORTENED(text) short_text_make(&(struct short_text){{0}}, (text))

#endif
