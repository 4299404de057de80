/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* How an assertion of ours ends a program on Linux: a line, and a core. */
#include <stdio.h>
#include <stdlib.h>

#include "base/base.h"

_Noreturn void backplane_assert_failed(const char *condition, const char *file, unsigned line)
{
    fprintf(stderr, "backplane: assertion failed: %s (%s:%u): this is an error of the program, please report it\n",
            condition, file, line);
    abort();
}
