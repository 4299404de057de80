/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "platform/linux/sandbox.h"

#include <errno.h>
#include <seccomp.h>
#include <sys/syscall.h>

static const int thread_calls[] = {
    SYS_futex,          SYS_clock_gettime,
    SYS_getpid,         SYS_gettid,
    SYS_tgkill,                           /* abort(3), and waking a thread that hangs */
    SYS_rt_sigprocmask, SYS_rt_sigaction, /* abort(3) */
    SYS_rt_sigreturn,   SYS_restart_syscall,
    SYS_sched_yield,    SYS_madvise, /* the C library gives a thread's stack back; sanitizers do more */
    SYS_mmap,                        /* without PROT_EXEC: see sandbox_add_mmap */
    SYS_munmap,         SYS_brk,
    SYS_exit,           SYS_exit_group,
};

const struct sandbox_calls sandbox_thread_calls = SANDBOX_CALLS(thread_calls);

bool sandbox_can(void)
{
    return true;
}

/* PROT_EXEC: memory that can be run is what an intruder would need next. */
static int sandbox_add(scmp_filter_ctx filter, int call)
{
    if (call == SYS_mmap || call == SYS_mprotect)
        return seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 1, SCMP_A2(SCMP_CMP_MASKED_EQ, 4 /* PROT_EXEC */, 0));
    return seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 0);
}

static int sandbox_add_list(scmp_filter_ctx filter, const struct sandbox_calls *list)
{
    int r = 0;
    for (unsigned i = 0; i < list->call_count && r == 0; i++)
        r = sandbox_add(filter, list->calls[i]);
    for (unsigned i = 0; i < list->request_count && r == 0; i++)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SYS_ioctl, 1,
                             SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, list->requests[i]));
    return r;
}

int sandbox_enter(const struct sandbox_calls *const *lists, unsigned count)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (!filter)
        return -ENOMEM;
    int r = 0;
    for (unsigned i = 0; i < count && r == 0; i++)
        r = sandbox_add_list(filter, lists[i]);
    if (r == 0)
        r = seccomp_load(filter);
    seccomp_release(filter);
    /* What it says of a kernel without filters depends on its version. */
    return r == -EINVAL || r == -ECANCELED || r == -EOPNOTSUPP ? -ENOSYS : r;
}
