/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "platform/linux/processor_list.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static_assert(PROCESSORS_MAX <= CPU_SETSIZE, "every number fits into a set");

__attribute__((format(printf, 3, 4))) static int list_fail(char *error, size_t error_bytes, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error, error_bytes, format, arguments);
    va_end(arguments);
    return -EINVAL;
}

/* Take a number off the front of *@text. -EINVAL: there is none; one that is too large comes out as PROCESSORS_MAX. */
static int list_number(const char **text, unsigned *ret_number)
{
    const char *at = *text;
    unsigned number = 0;
    for (; *at >= '0' && *at <= '9'; at++)
        number = u32_min(number * 10 + (unsigned)(*at - '0'), PROCESSORS_MAX);
    if (at == *text)
        return -EINVAL;
    *text = at;
    *ret_number = number;
    return 0;
}

int processor_list_parse(const char *text, struct processor_list *ret_list, char *error, size_t error_bytes)
{
    struct processor_list list = {.count = 0};
    cpu_set_t seen;
    CPU_ZERO(&seen);
    for (;; text++) {
        const char *begin = text;
        unsigned first = 0;
        int r = list_number(&text, &first);
        unsigned last = first;
        if (r == 0 && *text == '-') {
            text++;
            r = list_number(&text, &last);
        }
        if (r < 0 || (*text != ',' && *text != '\0'))
            return list_fail(error, error_bytes, "give numbers of processors, like 2-5,8");
        if (last < first)
            return list_fail(error, error_bytes, "%.*s is no range; give the smaller number first", (int)(text - begin),
                             begin);
        if (last >= PROCESSORS_MAX)
            return list_fail(error, error_bytes, "give processors below %u", PROCESSORS_MAX);
        for (unsigned number = first; number <= last; number++) {
            if (CPU_ISSET(number, &seen))
                return list_fail(error, error_bytes, "processor %u is named twice; name it once", number);
            CPU_SET(number, &seen);
            list.numbers[list.count++] = (uint16_t)number;
        }
        if (*text == '\0')
            break;
    }
    *ret_list = list;
    return 0;
}

int processor_list_check(const struct processor_list *list, char *error, size_t error_bytes)
{
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0)
        return list_fail(error, error_bytes, "cannot find out which processors are allowed: %s", strerror(errno));
    long there = sysconf(_SC_NPROCESSORS_CONF);
    for (unsigned i = 0; i < list->count; i++) {
        unsigned number = list->numbers[i];
        if (there > 0 && number >= (unsigned long)there)
            return list_fail(error, error_bytes, "there is no processor %u; this machine has 0 to %ld", number,
                             there - 1);
        if (!CPU_ISSET(number, &allowed))
            return list_fail(error, error_bytes,
                             "processor %u is offline or not allowed; `taskset -cp $$` lists those that are", number);
    }
    return 0;
}
