/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* backplane rng: docs/man/backplane-rng.1 is the reference. */
#include <stdio.h>

#include "devices/rng/rng.h"
#include "platform/linux/entropy_file.h"
#include "programs/command.h"
#include "programs/daemon.h"

/* A guest asks for one buffer at a time, or two; chains of many pieces are odd but legal. */
static const struct virtq_arena_shape rng_shape = {.slots = 64, .medium_runs = 4, .long_runs = 2};

struct rng_command {
    struct entropy_file file;
    struct rng rng;
    struct device_queues queues;
};

static int rng_handle(void *context, unsigned index)
{
    const struct rng_command *command = context;
    (void)index;
    return entropy_file_handle(&command->file);
}

static json_t *rng_statistics(void *context)
{
    struct rng *rng = &((struct rng_command *)context)->rng;
    return json_pack("{s:I, s:I, s:I}", "bytes", (json_int_t)atomic_load(&rng->bytes_total), "requests",
                     (json_int_t)atomic_load(&rng->requests_total), "source_errors",
                     (json_int_t)atomic_load(&rng->source_errors_total));
}

static int rng_serve(const struct daemon_options *options, const char *source, uint64_t rate_bytes_per_s, bool packed)
{
    char error[OPTIONS_ERROR_BYTES];
    struct rng_command command;
    if (entropy_file_open(&command.file, source, error, sizeof(error)) < 0)
        return daemon_complain(EXIT_FAILED, "rng", "%s", error);

    struct virtq_arena_shape shape = rng_shape;
    shape.request_bytes = rng_request_bytes();
    int status = EXIT_FAILED;
    if (device_queues_open(&command.queues, 1, &shape) < 0) {
        daemon_complain(0, "rng", "out of memory");
    } else {
        rng_init(&command.rng, command.queues.queues, &command.file.source, rate_bytes_per_s);
        command.rng.device.offers_packed = packed;
        const struct daemon_device device = {
            .name = "rng",
            .device = &command.rng.device,
            .queues = &command.queues,
            /* A generator may take its time over a read: that must not keep the control socket waiting. */
            .own_threads = true,
            .queue_port = {.handle = rng_handle, .handle_changes = true, .context = &command},
            .statistics = rng_statistics,
            .context = &command,
        };
        status = daemon_run(options, &device);
        device_queues_close(&command.queues);
    }
    entropy_file_close(&command.file);
    return status;
}

int command_rng(int count, char **arguments)
{
    struct daemon_options options = {.log_level = LOG_LEVEL_ERROR};
    const char *source = ENTROPY_FILE_DEFAULT;
    uint64_t rate_bytes_per_s = 0;
    bool packed = false;
    struct option table[] = {
        option_text("source", &source, "PATH", "where entropy comes from: " ENTROPY_FILE_DEFAULT " unless given"),
        option_bytes("rate-bytes-per-s", &rate_bytes_per_s, 1, INT64_MAX, "give the guest no more than this"),
        option_flag("packed-ring", &packed, "offer it; QEMU's guests then do not survive a new daemon"),
        DAEMON_OPTION_ROWS(&options),
    };
    if (options_ask(arguments, count, "print-capabilities")) {
        puts("{\"type\": \"rng\", \"features\": []}");
        return EXIT_DONE;
    }
    int status = daemon_parse("rng",
                              "usage: backplane rng [options] --socket-path=PATH | --fd=N\n\n"
                              "Serve entropy to a virtual machine.\n\n",
                              table, ARRAY_SIZE(table), arguments, count, &options);
    if (status >= 0)
        return status;
    daemon_take_signals();
    return rng_serve(&options, source, rate_bytes_per_s, packed);
}
