/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "platform/linux/blk_backend.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/syscall.h>

static int refuse(char *error, size_t error_bytes, const char *what)
{
    snprintf(error, error_bytes, "%s", what);
    return -EINVAL;
}

static int check_options(const struct blk_backend_options *options, char *error, size_t error_bytes)
{
    if (options->queues == 0 || options->queues > BLK_QUEUES_MAX)
        return refuse(error, error_bytes, "a disk has 1 to 64 queues");
    if (options->depth == 0 || options->depth > VIRTQ_SLOTS_MAX)
        return refuse(error, error_bytes, "a queue has 1 to 1024 requests in flight");
    if (options->workers > BLK_PLAIN_WORKERS_MAX)
        return refuse(error, error_bytes, "a queue has at most 16 threads");
    if (options->engine != BLK_ENGINE_NULL && (options->image == NULL || options->image->fd < 0))
        return refuse(error, error_bytes, "a disk needs an image");
    return 0;
}

static int open_plain(struct blk_backend *backend, const struct blk_backend_options *options, char *error,
                      size_t error_bytes)
{
    unsigned workers = options->workers != 0 ? options->workers : BLK_PLAIN_WORKERS_DEFAULT;
    backend->engine = BLK_ENGINE_PLAIN;
    backend->port = &backend->with.plain.port;
    return blk_plain_open(&backend->with.plain, options->image, options->queues, options->depth, workers, error,
                          error_bytes);
}

static int open_null(struct blk_backend *backend, const struct blk_backend_options *options, char *error,
                     size_t error_bytes)
{
    backend->engine = BLK_ENGINE_NULL;
    backend->port = &backend->with.null.port;
    int r = blk_null_open(&backend->with.null, options->queues, options->depth);
    if (r < 0)
        snprintf(error, error_bytes, "cannot set up the disk's queues: %s", strerror(-r));
    return r;
}

int blk_backend_open(struct blk_backend *backend, const struct blk_backend_options *options, char *error,
                     size_t error_bytes)
{
    int r = check_options(options, error, error_bytes);
    if (r < 0)
        return r;
    *backend = (struct blk_backend){.engine = options->engine};
    if (options->engine == BLK_ENGINE_NULL)
        return open_null(backend, options, error, error_bytes);
    if (options->engine == BLK_ENGINE_PLAIN)
        return open_plain(backend, options, error, error_bytes);

    char reason[BLK_URING_ERROR_BYTES];
    backend->engine = BLK_ENGINE_URING;
    backend->port = &backend->with.uring.port;
    const struct blk_uring_options uring = {
        .image = options->image, .queues = options->queues, .depth = options->depth, .age = options->uring_age};
    r = blk_uring_open(&backend->with.uring, &uring, reason, sizeof(reason));
    if (r == 0)
        return 0;
    if (options->engine == BLK_ENGINE_URING) {
        snprintf(error, error_bytes, "cannot use io_uring: %s", reason);
        return r;
    }
    memcpy(backend->note, reason, sizeof(reason));
    return open_plain(backend, options, error, error_bytes);
}

void blk_backend_close(struct blk_backend *backend)
{
    switch (backend->engine) {
    case BLK_ENGINE_URING:
        blk_uring_close(&backend->with.uring);
        break;
    case BLK_ENGINE_PLAIN:
        blk_plain_close(&backend->with.plain);
        break;
    case BLK_ENGINE_NULL:
        blk_null_close(&backend->with.null);
        break;
    case BLK_ENGINE_AUTO:
        break; /* never opened */
    }
    backend->engine = BLK_ENGINE_AUTO;
    backend->port = NULL;
}

int blk_backend_handle(struct blk_backend *backend, unsigned queue)
{
    switch (backend->engine) {
    case BLK_ENGINE_URING:
        return blk_uring_handle(&backend->with.uring, queue);
    case BLK_ENGINE_PLAIN:
        return blk_plain_handle(&backend->with.plain, queue);
    default:
        return -1;
    }
}

bool blk_backend_ready(const struct blk_backend *backend, unsigned queue)
{
    switch (backend->engine) {
    case BLK_ENGINE_URING:
        return blk_uring_ready(&backend->with.uring, queue);
    case BLK_ENGINE_PLAIN:
        return blk_plain_ready(&backend->with.plain, queue);
    case BLK_ENGINE_NULL:
        return blk_null_ready(&backend->with.null, queue);
    case BLK_ENGINE_AUTO:
        break; /* never opened */
    }
    return false;
}

bool blk_backend_rest(struct blk_backend *backend, unsigned queue)
{
    if (backend->engine == BLK_ENGINE_URING)
        return blk_uring_rest(&backend->with.uring, queue);
    return blk_backend_ready(backend, queue); /* their handles tell always */
}

void blk_backend_count(const struct blk_backend *backend, struct blk_backend_counters *ret_counters)
{
    switch (backend->engine) {
    case BLK_ENGINE_URING:
        blk_uring_count(&backend->with.uring, ret_counters);
        return;
    case BLK_ENGINE_PLAIN:
        blk_plain_count(&backend->with.plain, ret_counters);
        return;
    case BLK_ENGINE_NULL:
        blk_null_count(&backend->with.null, ret_counters);
        return;
    case BLK_ENGINE_AUTO:
        *ret_counters = (struct blk_backend_counters){0};
        return;
    }
}

struct disk_errors *blk_backend_errors(struct blk_backend *backend)
{
    switch (backend->engine) {
    case BLK_ENGINE_URING:
        return &backend->with.uring.disk.errors;
    case BLK_ENGINE_PLAIN:
        return &backend->with.plain.disk.errors;
    default:
        return NULL;
    }
}

const char *blk_engine_name(enum blk_engine engine)
{
    static const char *const names[] = {
        [BLK_ENGINE_AUTO] = "auto",
        [BLK_ENGINE_URING] = "io_uring",
        [BLK_ENGINE_PLAIN] = "threads",
        [BLK_ENGINE_NULL] = "null",
    };
    return names[engine];
}

/* blk_run.c: what a queue does by itself when the engine has no room, or no such operation. */
#define BLK_RUN_CALLS                                                                                                  \
    SYS_preadv, SYS_pwritev, SYS_preadv2, SYS_pwritev2, SYS_pread64, SYS_pwrite64, SYS_fdatasync, SYS_fallocate
static const unsigned blk_run_requests[] = {BLKDISCARD, BLKZEROOUT};

static const int blk_uring_calls[] = {
    BLK_RUN_CALLS, SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register, SYS_eventfd2, SYS_mprotect,
};
static const struct sandbox_calls blk_uring_list = {
    .calls = blk_uring_calls,
    .call_count = ARRAY_SIZE(blk_uring_calls),
    .requests = blk_run_requests,
    .request_count = ARRAY_SIZE(blk_run_requests),
};

/* Workers are made by the queue's thread, as they are wanted. */
static const int blk_plain_calls[] = {
    BLK_RUN_CALLS, SYS_clone, SYS_set_robust_list, SYS_mprotect, SYS_prctl, SYS_sched_getaffinity,
#ifdef SYS_clone3
    SYS_clone3,
#endif
#ifdef SYS_rseq
    SYS_rseq,
#endif
};
static const struct sandbox_calls blk_plain_list = {
    .calls = blk_plain_calls,
    .call_count = ARRAY_SIZE(blk_plain_calls),
    .requests = blk_run_requests,
    .request_count = ARRAY_SIZE(blk_run_requests),
};

static const struct sandbox_calls blk_null_list;

const struct sandbox_calls *blk_backend_system_calls(enum blk_engine engine)
{
    switch (engine) {
    case BLK_ENGINE_URING:
        return &blk_uring_list;
    case BLK_ENGINE_PLAIN:
        return &blk_plain_list;
    default:
        return &blk_null_list;
    }
}
