/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A real `backplane` process for the conformance tests: started on sockets in a temporary folder, asked for its
 * statistics over its control socket, and ended by its pid. Every failure ends the test with a message.
 */
#ifndef TESTS_CONFORMANCE_DAEMON_H
#define TESTS_CONFORMANCE_DAEMON_H

#include <jansson.h>
#include <sys/types.h>

#include "vhost_user_client.h"

/* Under emulation and sanitizers everything is slow; only a hang takes this long. */
#define DAEMON_TIMEOUT_MS 60000

struct daemon {
    pid_t pid;
    char folder[64];
    char socket_path[96];
    char control_path[96];
    char disk_path[96];
};

/* Which program to test: main() sets it from its argument. */
extern const char *daemon_program;

/* A folder with an empty disk of @disk_bytes, none for 0. No process yet. */
void daemon_prepare(struct daemon *daemon, uint64_t disk_bytes);

/*
 * Start `backplane @device` with the daemon's sockets, its disk for blk, and @options (NULL-terminated, may be NULL).
 */
void daemon_start(struct daemon *daemon, const char *device, const char *const *options);

/* Fails the test unless the process is still there. */
void daemon_assert_alive(const struct daemon *daemon);

/* What it says of itself; the caller gives the object back by json_decref. */
json_t *daemon_stats(const struct daemon *daemon);

/* Ask it to end by SIGTERM and fail the test unless it exits 0: sanitizers report by the exit status too. */
void daemon_stop(struct daemon *daemon);

/* End it by SIGKILL, whatever it does at the moment: daemon_start then makes its successor. */
void daemon_kill(struct daemon *daemon);

/* Remove the folder. */
void daemon_done(struct daemon *daemon);

#endif
