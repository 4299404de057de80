/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The assertion handler of tests, benches and programs on a host. */
#include <stdio.h>
#include <stdlib.h>

#include "base/base.h"

_Noreturn void backplane_assert_failed(const char *condition, const char *file, unsigned line)
{
    fprintf(stderr, "backplane: assertion failed: %s (%s:%u)\n", condition, file, line);
    abort();
}
