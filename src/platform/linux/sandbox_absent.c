/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* In place of sandbox.c, where there is no libseccomp. */
#include <errno.h>

#include "platform/linux/sandbox.h"

const struct sandbox_calls sandbox_thread_calls;

bool sandbox_can(void)
{
    return false;
}

int sandbox_enter(const struct sandbox_calls *const *lists, unsigned count)
{
    (void)lists;
    (void)count;
    return -ENOSYS;
}
