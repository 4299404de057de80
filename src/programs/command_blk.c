/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* backplane blk: docs/man/backplane-blk.1 is the reference. */
#include <stdio.h>
#include <unistd.h>

#include "platform/linux/disk_device.h"
#include "platform/linux/short_text.h"
#include "programs/command.h"
#include "programs/daemon.h"

/*
 * A front end that wants more queues than there are refuses to start, and one queue for each virtual processor is
 * QEMU's default; queues that nobody uses cost next to nothing.
 */
#define BLK_QUEUES_DEFAULT 16

#define BLK_SIZE_MAX_MIN 4096 /* a page: drivers cannot split further */

struct blk_command {
    struct daemon_options daemon;
    const char *path;
    bool read_only;
    const char *serial;
    uint64_t queues, depth;
    uint64_t null_bytes;
    uint64_t limit_iops, limit_bytes_per_s;
    uint64_t block_size; /* which of blk_block_sizes */
    uint64_t seg_max, size_max;
    uint64_t engine; /* which of blk_engines */
    uint64_t direct; /* which of blk_directs */
    bool in_order;

    struct disk_device disk;
};

/* The order of enum blk_engine. */
static const char *const blk_engines[] = {"auto", "uring", "plain", NULL};
static_assert(BLK_ENGINE_AUTO == 0 && BLK_ENGINE_URING == 1 && BLK_ENGINE_PLAIN == 2, "order of blk_engines");

static const char *const blk_directs[] = {"auto", "off", "on", NULL};
static const enum disk_direct blk_direct_meanings[] = {DISK_DIRECT_AUTO, DISK_DIRECT_OFF, DISK_DIRECT_ON};

static const char *const blk_block_sizes[] = {"auto", "512", "4096", NULL};

static void blk_begin(void *context, struct loop *loop, const struct log *log)
{
    struct blk_command *command = context;
    disk_device_report_begin(&command->disk, loop, log);
}

static void blk_end(void *context)
{
    struct blk_command *command = context;
    disk_device_report_end(&command->disk);
}

/* "write at 12582912: No space left on device"; null before the first. */
static json_t *blk_last_error(struct disk_device *disk)
{
    char text[DISK_ERROR_TEXT_BYTES];
    struct disk_error last;
    uint64_t total;
    struct disk_errors *errors = blk_backend_errors(&disk->backend);
    if (!errors || disk_errors_last(errors, &total, &last) < 0)
        return json_null();
    disk_error_print(&last, text, sizeof(text));
    return json_string(text);
}

static const struct {
    const char *name;
    enum blk_counter counter;
} blk_counter_names[] = {
    {"reads", BLK_COUNT_READS},         {"read_bytes", BLK_COUNT_READ_BYTES},
    {"writes", BLK_COUNT_WRITES},       {"write_bytes", BLK_COUNT_WRITE_BYTES},
    {"flushes", BLK_COUNT_FLUSHES},     {"discards", BLK_COUNT_DISCARDS},
    {"write_zeroes", BLK_COUNT_ZEROES}, {"ids", BLK_COUNT_IDS},
    {"failed", BLK_COUNT_FAILED},       {"unsupported", BLK_COUNT_UNSUPPORTED},
};

static json_t *blk_statistics(void *context)
{
    struct disk_device *disk = &((struct blk_command *)context)->disk;
    struct blk_backend_counters host;
    blk_backend_count(&disk->backend, &host);
    json_t *answer =
        json_pack("{s:s, s:I, s:b, s:b}", "engine", blk_engine_name(disk->backend.engine), "size_bytes",
                  (json_int_t)(atomic_load(&disk->blk.capacity_sectors) * VIRTIO_BLK_SECTOR_BYTES), "read_only",
                  disk->blk.options.read_only, "writeback", (bool)atomic_load(&disk->blk.writeback));
    for (size_t i = 0; i < ARRAY_SIZE(blk_counter_names); i++)
        json_object_set_new(answer, blk_counter_names[i].name,
                            json_integer((json_int_t)blk_count(&disk->blk, blk_counter_names[i].counter)));
    json_object_set_new(answer, "direct", json_boolean(disk->image.direct));
    json_object_set_new(answer, "host_operations", json_integer((json_int_t)host.operations));
    json_object_set_new(answer, "host_merged", json_integer((json_int_t)host.merged));
    json_object_set_new(answer, "host_blocking", json_integer((json_int_t)host.blocking));
    json_object_set_new(answer, "host_calls", json_integer((json_int_t)host.calls));
    json_object_set_new(answer, "last_error", blk_last_error(disk));
    return answer;
}

static int blk_resize_command(void *context, bool may_shrink, uint64_t *ret_bytes, char *error, size_t error_bytes)
{
    struct blk_command *command = context;
    return disk_device_resize(&command->disk, may_shrink, ret_bytes, error, error_bytes);
}

static int blk_serve(struct blk_command *command)
{
    struct daemon_device device = {
        .name = "blk",
        .device = &command->disk.blk.device,
        .queues = &command->disk.queues,
        .own_threads = true,
        .statistics = blk_statistics,
        .resize = blk_resize_command,
        .begin = blk_begin,
        .end = blk_end,
        .context = command,
    };
    disk_device_queue_port(&command->disk, &device.queue_port);
    return daemon_run(&command->daemon, &device);
}

static int blk_open_and_serve(struct blk_command *command)
{
    static const uint32_t block_sizes[] = {0, VIRTIO_BLK_SECTOR_BYTES, 4096};
    char error[DISK_DEVICE_ERROR_BYTES] = "";
    const struct disk_device_options options = {
        .path = command->path,
        .null_bytes = command->null_bytes,
        .serial = command->serial,
        .queues = (unsigned)command->queues,
        .depth = (unsigned)command->depth,
        .block_bytes = block_sizes[command->block_size],
        .seg_max = (uint32_t)command->seg_max,
        .size_max = (uint32_t)command->size_max,
        .limit_iops = command->limit_iops,
        .limit_bytes_per_s = command->limit_bytes_per_s,
        .engine = (enum blk_engine)command->engine,
        .direct = blk_direct_meanings[command->direct],
        .read_only = command->read_only,
        .in_order = command->in_order,
    };
    if (disk_device_open(&command->disk, &options, error, sizeof(error)) < 0)
        return daemon_complain(EXIT_FAILED, "blk", "%s", error);
    if (command->disk.backend.note[0] != '\0') {
        const struct log log = {.name = "backplane blk", .level = (enum log_level)command->daemon.log_level};
        log_line(&log, LOG_LEVEL_INFO, "io_uring is not used: %s", command->disk.backend.note);
    }
    int status = blk_serve(command);
    disk_device_close(&command->disk);
    return status;
}

static int blk_check(const struct blk_command *command)
{
    if (!command->path && command->null_bytes == 0)
        return daemon_complain(EXIT_WRONG_USE, "blk", "which disk? Give --blk-file=PATH");
    if (command->path && command->null_bytes != 0)
        return daemon_complain(EXIT_WRONG_USE, "blk", "--blk-file and --blk-null are both given; choose one");
    if (command->serial && strlen(command->serial) > VIRTIO_BLK_ID_BYTES)
        return daemon_complain(EXIT_WRONG_USE, "blk", "--serial=%s: give at most %d characters",
                               SHORTENED(command->serial), VIRTIO_BLK_ID_BYTES);
    if (command->size_max != 0 && command->size_max % VIRTIO_BLK_SECTOR_BYTES != 0)
        return daemon_complain(EXIT_WRONG_USE, "blk", "--size-max=%llu: give a multiple of %d",
                               (unsigned long long)command->size_max, VIRTIO_BLK_SECTOR_BYTES);
    return -1;
}

static uint64_t blk_queues_default(void)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    return processors > BLK_QUEUES_DEFAULT ? u64_min((uint64_t)processors, BLK_QUEUES_MAX) : BLK_QUEUES_DEFAULT;
}

int command_blk(int count, char **arguments)
{
    struct blk_command command = {
        .daemon.log_level = LOG_LEVEL_ERROR, .queues = blk_queues_default(), .depth = DISK_DEPTH_DEFAULT};
    struct option table[] = {
        option_text("blk-file", &command.path, "PATH", "the raw image or block device to serve"),
        option_flag("read-only", &command.read_only, "let nobody write"),
        option_text("serial", &command.serial, "TEXT", "the serial number a guest finds, up to 20 characters"),
        option_number("queues", &command.queues, 1, BLK_QUEUES_MAX,
                      "the most queues a front end may use: 16, or more on larger hosts"),
        option_number("queue-depth", &command.depth, 1, VIRTQ_SLOTS_MAX,
                      "requests in flight for each queue: 256 unless given"),
        option_choice("engine", &command.engine, blk_engines, "ENGINE", "auto (the default), uring or plain"),
        option_choice("direct", &command.direct, blk_directs, "MODE",
                      "past the host's page cache: auto (the default: block devices are), off or on"),
        option_choice("block-size", &command.block_size, blk_block_sizes, "BYTES",
                      "the disk's logical block: auto (the default), 512 or 4096"),
        option_number("seg-max", &command.seg_max, 1, VIRTQ_INDIRECT_MAX - 2,
                      "pieces a request may have: 126 unless given"),
        option_bytes("size-max", &command.size_max, BLK_SIZE_MAX_MIN, UINT32_MAX,
                     "bytes a piece may have: no limit unless given"),
        option_number("limit-iops", &command.limit_iops, 1, UINT32_MAX, "requests a second, all queues together"),
        option_bytes("limit-bytes-per-s", &command.limit_bytes_per_s, VIRTIO_BLK_SECTOR_BYTES, INT64_MAX,
                     "bytes read and written a second, all queues together"),
        option_flag("in-order", &command.in_order, "offer to complete requests in their order, which slows fast ones"),
        option_bytes("blk-null", &command.null_bytes, VIRTIO_BLK_SECTOR_BYTES, INT64_MAX,
                     "instead of a file, a disk that does nothing, for measurement"),
        DAEMON_OPTION_ROWS(&command.daemon),
    };
    if (options_ask(arguments, count, "print-capabilities")) {
        puts("{\"type\": \"block\", \"features\": [\"read-only\", \"blk-file\"]}");
        return EXIT_DONE;
    }
    int status = daemon_parse("blk",
                              "usage: backplane blk --blk-file=PATH [options] --socket-path=PATH | --fd=N\n\n"
                              "Serve a disk to a virtual machine.\n\n",
                              table, ARRAY_SIZE(table), arguments, count, &command.daemon);
    if (status >= 0)
        return status;
    status = blk_check(&command);
    if (status >= 0)
        return status;
    daemon_take_signals();
    return blk_open_and_serve(&command);
}
