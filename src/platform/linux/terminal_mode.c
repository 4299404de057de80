/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * While the mode is ours, signals that would end the process by default have a handler that gives the mode back and
 * lets the signal do what it does; those that somebody handles or ignores are left alone, since their way out is his.
 * exit(3) gives it back, too.
 *
 * Limits
 *
 * What a process cannot see leaves the terminal as it is: SIGKILL, and the end that a seccomp filter makes. `stty sane`
 * helps then.
 */
#include "platform/linux/terminal_mode.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

static const int ending_signals[] = {
    SIGHUP,  SIGINT,  SIGQUIT, SIGILL,  SIGTRAP, SIGABRT, SIGBUS,  SIGFPE,  SIGSEGV,
    SIGPIPE, SIGALRM, SIGTERM, SIGUSR1, SIGUSR2, SIGSYS,  SIGXCPU, SIGXFSZ,
};

/* For handlers, which get no argument of ours: saved and handle are written before taken says that they may be read. */
static struct {
    atomic_bool taken;
    int handle;
    struct termios saved;
    bool at_exit;                             /* registered */
    bool handled[ARRAY_SIZE(ending_signals)]; /* by us */
} mode;

bool terminal_mode_is_ours(int handle)
{
    pid_t group = tcgetpgrp(handle);
    return group < 0 || group == getpgrp(); /* < 0: it is not our controlling terminal, and knows no background */
}

/* Now, and also from the background, where it would stop us. */
static int terminal_mode_set(int handle, const struct termios *to)
{
    sigset_t stop, before;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTTOU);
    pthread_sigmask(SIG_BLOCK, &stop, &before);
    int r;
    do
        r = tcsetattr(handle, TCSANOW, to) < 0 ? -errno : 0;
    while (r == -EINTR);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return r;
}

void terminal_mode_give_back(void)
{
    int error = errno;
    if (atomic_exchange(&mode.taken, false))
        (void)terminal_mode_set(mode.handle, &mode.saved);
    errno = error;
}

static void terminal_mode_signalled(int number)
{
    terminal_mode_give_back();
    raise(number); /* SA_RESETHAND: it ends us when this returns */
}

static void terminal_mode_catch(void)
{
    struct sigaction action = {.sa_handler = terminal_mode_signalled, .sa_flags = (int)SA_RESETHAND}, now;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < ARRAY_SIZE(ending_signals); i++) {
        if (mode.handled[i] || sigaction(ending_signals[i], NULL, &now) < 0 || now.sa_handler != SIG_DFL)
            continue;
        mode.handled[i] = sigaction(ending_signals[i], &action, NULL) == 0;
    }
    if (!mode.at_exit)
        mode.at_exit = atexit(terminal_mode_give_back) == 0;
}

int terminal_mode_take(int handle)
{
    struct termios raw;
    if (atomic_load(&mode.taken))
        return 0;
    if (tcgetattr(handle, &mode.saved) < 0)
        return -errno;
    raw = mode.saved;
    raw.c_iflag &= ~(tcflag_t)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    raw.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
    raw.c_cflag = (raw.c_cflag & ~(tcflag_t)(CSIZE | PARENB)) | CS8;
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    mode.handle = handle;
    terminal_mode_catch();
    atomic_store(&mode.taken, true); /* first: a signal in between gives back what is there */
    int r = terminal_mode_set(handle, &raw);
    if (r < 0)
        terminal_mode_end();
    return r;
}

void terminal_mode_end(void)
{
    terminal_mode_give_back();
    for (size_t i = 0; i < ARRAY_SIZE(ending_signals); i++) {
        struct sigaction now;
        if (mode.handled[i] && sigaction(ending_signals[i], NULL, &now) == 0 &&
            now.sa_handler == terminal_mode_signalled)
            signal(ending_signals[i], SIG_DFL);
        mode.handled[i] = false;
    }
}
