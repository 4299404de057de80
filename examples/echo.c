/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A device of your own in one page: it gives back what the driver sends, and its configuration space says how many
 * bytes that were so far. Build it against the installed library, and run it:
 *
 *     cc echo.c $(pkg-config --cflags --libs backplane) -o echo
 *     ./echo /run/echo.sock
 *
 * Any vhost-user front end can drive it, for example QEMU's generic one:
 *
 *     -chardev socket,id=echo,path=/run/echo.sock
 *     -device vhost-user-device-pci,chardev=echo,virtio-id=60,num_vqs=1,config_size=8
 */
#include <backplane/vhost_user.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* No standard device has this number. */
#define ECHO_ID 60
#define ECHO_CONFIG_BYTES 8
/* The driver chooses how much it sends; this much is taken from one request. */
#define ECHO_BYTES_MAX 65536

struct echo {
    uint64_t bytes_total;
    uint8_t buffer[ECHO_BYTES_MAX];
};

static struct backplane_server *server; /* for the signal handler */

static int echo_serve(void *context, unsigned queue, struct backplane_request *request)
{
    struct echo *echo = context;
    (void)queue; /* there is one */
    size_t size = backplane_request_read(request, echo->buffer, sizeof(echo->buffer));
    if (size == 0)
        return -EPROTO; /* this device says: a request has something in it */
    echo->bytes_total += backplane_request_write(request, echo->buffer, size);
    return BACKPLANE_SERVED;
}

static void echo_config_read(void *context, uint32_t offset, void *to, uint32_t size)
{
    const struct echo *echo = context;
    uint8_t config[ECHO_CONFIG_BYTES];
    for (unsigned i = 0; i < sizeof(config); i++)
        config[i] = (uint8_t)(echo->bytes_total >> (8 * i)); /* little-endian, as the standard wants */
    memcpy(to, config + offset, size);
}

static void echo_reset(void *context)
{
    struct echo *echo = context;
    echo->bytes_total = 0;
}

static void stop(int number)
{
    (void)number;
    backplane_server_stop(server);
}

int main(int argc, char **argv)
{
    static struct echo echo;
    if (argc != 2) {
        fprintf(stderr, "usage: %s SOCKET-PATH\n", argv[0]);
        return 2;
    }

    struct backplane_device_class class = {
        .size = sizeof(class),
        .name = "echo",
        .id = ECHO_ID,
        .queue_count = 1,
        .config_bytes = ECHO_CONFIG_BYTES,
        .serve = echo_serve,
        .config_read = echo_config_read,
        .reset = echo_reset,
    };
    struct backplane_device *device;
    int r = backplane_device_create(&class, &echo, &device);
    if (r < 0) {
        fprintf(stderr, "%s: cannot make the device: %s\n", argv[0], strerror(-r));
        return 1;
    }
    r = backplane_server_open(device, argv[1], &server);
    if (r < 0) {
        fprintf(stderr, "%s: cannot serve at %s: %s\n", argv[0], argv[1], strerror(-r));
        backplane_device_destroy(device);
        return 1;
    }
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    r = backplane_server_run(server);
    backplane_server_close(server);
    backplane_device_destroy(device);
    return r < 0 ? 1 : 0;
}
