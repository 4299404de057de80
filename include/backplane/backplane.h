/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * libbackplane: write a virtio device, and serve it to virtual machines. This header has what the others share.
 *
 * Errors: a function that can fail returns int, 0 or more on success and a negative errno value (-EINVAL, -ENOMEM, …)
 * on failure. Results are written through ret_ arguments, which come last and are untouched on failure. errno itself
 * means nothing afterwards.
 *
 * Handles are opaque, and owned by whoever created or opened them. A structure that the caller fills begins with its
 * size; set it to sizeof and clear what you do not use, and your program works with later versions of the library.
 *
 * The library prints nothing and starts no thread. It installs one signal handler, for SIGBUS, when a front end
 * first shares its memory: it can cut that memory off, and that must not end the process.
 */
#ifndef BACKPLANE_BACKPLANE_H
#define BACKPLANE_BACKPLANE_H

#ifdef __cplusplus
extern "C" {
#endif

#define BACKPLANE_VERSION_MAJOR 0
#define BACKPLANE_VERSION_MINOR 1
#define BACKPLANE_VERSION_PATCH 0

#define BACKPLANE_API __attribute__((visibility("default")))

/* The version of the library that runs, "0.1.0": it may be newer than the headers that a program was built with. */
BACKPLANE_API const char *backplane_version(void);

#ifdef __cplusplus
}
#endif

#endif
