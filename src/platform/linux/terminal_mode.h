/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A terminal's mode while a guest has it, and the way back. The way back must be found by signal handlers and by
 * exit(3), so there is one for the process.
 */
#ifndef PLATFORM_LINUX_TERMINAL_MODE_H
#define PLATFORM_LINUX_TERMINAL_MODE_H

#include "base/base.h"

/* Do we have the terminal @handle, or has the shell put us into the background? */
bool terminal_mode_is_ours(int handle);

/*
 * Put the terminal @handle, which stays open until terminal_mode_end, into raw mode: no line editing, no echo, no keys
 * that send signals; what is written is still brought into lines. Again after terminal_mode_give_back: the mode to give
 * back is what it is then. Errors are tcsetattr's.
 */
int terminal_mode_take(int handle);
/* The mode as it was found. From anywhere, signal handlers too; not taken: nothing. */
void terminal_mode_give_back(void);
/* Give back, and forget the terminal. */
void terminal_mode_end(void);

#endif
