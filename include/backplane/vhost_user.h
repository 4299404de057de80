/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Serve a device over vhost-user: QEMU, cloud-hypervisor, crosvm and others connect to a Unix socket and give the
 * device to their guest. One front end at a time; when it goes, the next one is taken.
 *
 * Two ways to run a server. The short one:
 *
 *     backplane_server_open(device, "/run/echo.sock", &server);
 *     backplane_server_run(server);                          until backplane_server_stop, from a signal handler say
 *     backplane_server_close(server);
 *
 * Inside a loop of your own:
 *
 *     struct pollfd poll_for = {.fd = backplane_server_handle(server), .events = POLLIN};
 *     poll(&poll_for, 1, backplane_server_timeout_ms(server));
 *     backplane_server_turn(server);                         also after a time-out
 *
 * Unless said otherwise, everything about a server happens on the thread that opened it. Different servers may be on
 * different threads.
 */
#ifndef BACKPLANE_VHOST_USER_H
#define BACKPLANE_VHOST_USER_H

#include <backplane/device.h>

#ifdef __cplusplus
extern "C" {
#endif

struct backplane_server;

/*
 * Serve @device, borrowed until close, at @path. A socket there that nobody serves is replaced. -EADDRINUSE: somebody
 * serves it. -ENOTSOCK: some other kind of file is there. -ENAMETOOLONG. -EBUSY: the device is being served already.
 * Others as bind(2) has them.
 */
BACKPLANE_API int backplane_server_open(struct backplane_device *device, const char *path,
                                        struct backplane_server **ret_server);

/*
 * The same on a Unix stream socket that was inherited: a listening one, or a connected one, which is served until its
 * front end goes. Takes over @handle, and closes it on failure. -ENOTSOCK, -EPROTOTYPE: it is none.
 */
BACKPLANE_API int backplane_server_adopt(struct backplane_device *device, int handle,
                                         struct backplane_server **ret_server);

/* To poll for reading; the server's, and the same until close. */
BACKPLANE_API int backplane_server_handle(const struct backplane_server *server);
/* How long poll may wait: 0 not at all, -1 until the handle is readable. */
BACKPLANE_API int backplane_server_timeout_ms(const struct backplane_server *server);
/* Do what there is to do, without waiting. 1: go on. 0: it has ended. */
BACKPLANE_API int backplane_server_turn(struct backplane_server *server);

/* Serve until it has ended: after backplane_server_stop, or when the front end of a connected socket is gone. */
BACKPLANE_API int backplane_server_run(struct backplane_server *server);

/* Send the front end away and come to an end. From any thread, and from a signal handler. */
BACKPLANE_API void backplane_server_stop(struct backplane_server *server);

/*
 * Stop, if it has not ended, and give everything back. Waits for requests that are held: complete them from another
 * thread, or from queue_stop. NULL: nothing.
 */
BACKPLANE_API void backplane_server_close(struct backplane_server *server);

/* The device's configuration space has changed: tell the driver. True when a front end could be told. */
BACKPLANE_API bool backplane_server_config_changed(struct backplane_server *server);

#ifdef __cplusplus
}
#endif

#endif
