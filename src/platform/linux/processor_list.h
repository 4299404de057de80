/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Processors of this machine, as people list them: "2-5,8". */
#ifndef PLATFORM_LINUX_PROCESSOR_LIST_H
#define PLATFORM_LINUX_PROCESSOR_LIST_H

#include "base/base.h"

/* As many as a cpu_set_t of the C library has. */
#define PROCESSORS_MAX 1024

struct processor_list {
    uint16_t numbers[PROCESSORS_MAX]; /* in the order of the list, each once */
    unsigned count;
};

/*
 * Parse @text: numbers and ranges, separated by commas, in any order, none of them twice. -EINVAL, with @error saying
 * what is wrong, which repeats of @text at most one range.
 */
int processor_list_parse(const char *text, struct processor_list *ret_list, char *error, size_t error_bytes);

/* May the caller's thread run on each of them? -EINVAL: @error says on which it may not, and why. */
int processor_list_check(const struct processor_list *list, char *error, size_t error_bytes);

#endif
