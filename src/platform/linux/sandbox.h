/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What a thread may still ask of the kernel (seccomp). The calls are listed beside the code that makes them, as
 * struct sandbox_calls; a thread that begins its work names the lists it needs and can do nothing else from then on.
 * A call outside them ends the process: code that makes it is not ours any more.
 *
 * Threads that a sandboxed thread makes have its limits, too, so it makes none.
 */
#ifndef PLATFORM_LINUX_SANDBOX_H
#define PLATFORM_LINUX_SANDBOX_H

#include "base/base.h"

struct sandbox_calls {
    const int *calls; /* SYS_* */
    unsigned call_count;
    const unsigned *requests; /* of ioctl(2): these alone */
    unsigned request_count;
};

/* A list from arrays; either may be empty. */
#define SANDBOX_CALLS(array)                                                                                           \
    {                                                                                                                  \
        .calls = (array), .call_count = ARRAY_SIZE(array)                                                              \
    }

/* What every thread of a C program needs: locks, the clock, leaving, the allocator giving memory back. */
extern const struct sandbox_calls sandbox_thread_calls;

/* Was this program built with libseccomp? */
bool sandbox_can(void);

/*
 * Let the calling thread make the calls of @count lists, and no others, for the rest of its life; new privileges are
 * given up with that (PR_SET_NO_NEW_PRIVS). -ENOSYS: built without libseccomp, or the kernel has no seccomp filters.
 * -ENOMEM. On failure the thread is as before.
 */
int sandbox_enter(const struct sandbox_calls *const *lists, unsigned count);

#endif
