/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Each case happens in a child: what was given up does not come back. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "platform/linux/sandbox.h"

static const int write_calls[] = {SYS_write};
static const unsigned size_requests[] = {TIOCGWINSZ};
static const struct sandbox_calls write_list = SANDBOX_CALLS(write_calls);
static const struct sandbox_calls size_list = {.requests = size_requests, .request_count = 1};
static const struct sandbox_calls *const lists[] = {&sandbox_thread_calls, &write_list, &size_list};

/* How a child that is in the sandbox ends when it does @act: its status as waitpid(2) has it. */
static int ends_with(void (*act)(void))
{
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        if (sandbox_enter(lists, ARRAY_SIZE(lists)) < 0)
            syscall(SYS_exit_group, 70);
        act();
        syscall(SYS_exit_group, 0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 70) {
        print_message("this kernel has no seccomp filters\n");
        skip();
    }
    return status;
}

static bool is_killed(int status)
{
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}

static void act_write(void)
{
    if (write(STDERR_FILENO, "", 0) != 0)
        syscall(SYS_exit_group, 1);
}

static void act_open(void)
{
    syscall(SYS_openat, -100, "/dev/null", 0);
}

static void act_fork(void)
{
    syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static void act_listed_request(void)
{
    struct winsize size;
    ioctl(STDIN_FILENO, TIOCGWINSZ, &size);
}

/* It puts characters into a terminal's input: how a process gets out of its session. */
static void act_other_request(void)
{
    ioctl(STDIN_FILENO, TIOCSTI, "x");
}

static void act_map_data(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED || munmap(page, 4096) != 0)
        syscall(SYS_exit_group, 1);
}

static void act_map_code(void)
{
    mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void makes_the_calls_that_are_listed(void **state)
{
    (void)state;
    assert_int_equal(ends_with(act_write), 0);
    assert_int_equal(ends_with(act_map_data), 0);
}

static void ends_with_a_call_that_is_not_listed(void **state)
{
    (void)state;
    assert_true(is_killed(ends_with(act_open)));
    assert_true(is_killed(ends_with(act_fork)));
}

static void tells_requests_of_ioctl_apart(void **state)
{
    (void)state;
    assert_int_equal(ends_with(act_listed_request), 0);
    assert_true(is_killed(ends_with(act_other_request)));
}

static void maps_no_memory_that_can_be_run(void **state)
{
    (void)state;
    assert_true(is_killed(ends_with(act_map_code)));
}

static void gives_up_new_privileges(void **state)
{
    (void)state;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        static const int prctl_calls[] = {SYS_prctl};
        static const struct sandbox_calls prctl_list = SANDBOX_CALLS(prctl_calls);
        const struct sandbox_calls *const with_prctl[] = {&sandbox_thread_calls, &prctl_list};
        if (sandbox_enter(with_prctl, 2) < 0)
            syscall(SYS_exit_group, 70);
        syscall(SYS_exit_group, prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 70)
        skip();
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(makes_the_calls_that_are_listed), cmocka_unit_test(ends_with_a_call_that_is_not_listed),
        cmocka_unit_test(tells_requests_of_ioctl_apart),   cmocka_unit_test(maps_no_memory_that_can_be_run),
        cmocka_unit_test(gives_up_new_privileges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
