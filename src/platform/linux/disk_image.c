/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation. The order matters: look before opening (to open a tape or a FIFO has effects), open, look again
 * at what was really opened, lock, and only then read, since a file that another process is writing says nothing.
 *
 * O_DIRECT comes last, since what is read before is not aligned. It is set on the one descriptor there is: locks belong
 * to an open file, and what is in flight on it keeps them after we are killed, which a second one would not. The kernel
 * says what must be aligned (STATX_DIOALIGN, Linux 6.1); else it is taken to be the blocks of the device below, else
 * 4096.
 *
 * A file in memory (tmpfs) has nobody to wait for, but io_uring does not know: it hands such reads and writes to
 * threads of the kernel, each, which doubles what they cost. For an O_NONBLOCK descriptor it makes them at once, writes
 * only with O_DIRECT too, which tmpfs has (since 6.6) and which changes nothing else there.
 * docs/decisions/0012-past-the-page-cache.md has figures.
 *
 * Limits. Without O_DIRECT the host's page cache is used, and FLUSH empties it. Formats are told by magic numbers; a
 * guest that writes one to the start of its raw disk makes that disk refused at the next start.
 */
#include "platform/linux/disk_image.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "platform/linux/clock.h"
#include "platform/linux/disk_format.h"
#include "platform/linux/disk_lock.h"
#include "platform/linux/short_text.h"

#define SECTOR_BYTES 512
#define PAGE_BYTES 4096

/* Between two tries for the locks: short for people, long for a processor. */
#define LOCK_PAUSE_NS 10000000

/* A block size that nobody has: whatever says more is not believed. */
#define BLOCK_BYTES_MAX (1u << 20)

__attribute__((format(printf, 4, 5))) static int fail(int result, char *error, size_t error_bytes, const char *format,
                                                      ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error, error_bytes, format, arguments);
    va_end(arguments);
    return result;
}

static int fail_open(int result, const struct disk_image_options *options, char *error, size_t error_bytes)
{
    const char *path = SHORTENED(options->path);
    const char *reason = strerror(-result);

    switch (result) {
    case -ENOENT:
        return fail(result, error, error_bytes,
                    "cannot open %s: %s: check the path, or make a disk there: truncate -s 10G %s", path, reason, path);
    case -EACCES:
    case -EPERM:
        return fail(result, error, error_bytes, "cannot open %s for reading%s: %s: run as a user who may%s", path,
                    options->read_only ? "" : " and writing", reason,
                    options->read_only ? "" : ", or serve it read-only (--read-only)");
    case -EROFS:
        return fail(result, error, error_bytes, "cannot open %s for writing: %s: serve it read-only (--read-only)",
                    path, reason);
    case -ETXTBSY:
    case -EBUSY:
        return fail(result, error, error_bytes, "cannot open %s: %s: unmount it or stop whoever uses it", path, reason);
    default:
        return fail(result, error, error_bytes, "cannot open %s: %s", path, reason);
    }
}

static const char *kind_name(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR:
        return "a directory";
    case S_IFCHR:
        return "a character device";
    case S_IFIFO:
        return "a FIFO";
    case S_IFSOCK:
        return "a socket";
    default:
        return "something else";
    }
}

static int check_kind(const struct stat *status, const char *path, char *error, size_t error_bytes)
{
    if (S_ISREG(status->st_mode) || S_ISBLK(status->st_mode))
        return 0;
    return fail(-ENOTBLK, error, error_bytes, "cannot use %s as a disk: it is %s: give a file or a block device",
                SHORTENED(path), kind_name(status->st_mode));
}

/* Open the descriptor and nothing more. Returns it. */
static int open_path(const struct disk_image_options *options, struct stat *ret_status, char *error, size_t error_bytes)
{
    struct stat status = {0};
    if (stat(options->path, &status) < 0)
        return fail_open(-errno, options, error, error_bytes);
    int r = check_kind(&status, options->path, error, error_bytes);
    if (r < 0)
        return r;

    /* O_NONBLOCK: should it have become a FIFO since, this does not hang. */
    int access = options->read_only ? O_RDONLY : O_RDWR;
    int fd = open(options->path, access | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return fail_open(-errno, options, error, error_bytes);
    if (fstat(fd, &status) < 0)
        r = fail_open(-errno, options, error, error_bytes);
    else
        r = check_kind(&status, options->path, error, error_bytes);
    /* io_uring may take O_NONBLOCK literally and answer EAGAIN for whatever is not in the page cache. */
    if (r == 0 && fcntl(fd, F_SETFL, 0) < 0)
        r = fail_open(-errno, options, error, error_bytes);
    if (r < 0) {
        close(fd);
        return r;
    }
    *ret_status = status;
    return fd;
}

/* -EBUSY only after lock_wait_ms. Between tries the locks are given up, not to be in the way of whoever has them. */
static int lock_patiently(int fd, const struct disk_image_options *options)
{
    uint64_t deadline_ns = clock_now_ns() + (uint64_t)options->lock_wait_ms * 1000000;
    for (;;) {
        int r = disk_lock(fd, options->read_only);
        if (r != -EBUSY || clock_now_ns() >= deadline_ns)
            return r;
        disk_unlock(fd);
        (void)nanosleep(&(struct timespec){.tv_nsec = LOCK_PAUSE_NS}, NULL);
    }
}

static int lock_image(int fd, const struct disk_image_options *options, char *error, size_t error_bytes)
{
    int r = lock_patiently(fd, options);
    if (r == 0)
        return 0;
    if (r == -EBUSY && options->read_only)
        return fail(r, error, error_bytes,
                    "cannot lock %s: another process (a virtual machine?) may write to it: stop that one first",
                    SHORTENED(options->path));
    if (r == -EBUSY)
        return fail(r, error, error_bytes,
                    "cannot lock %s for writing: another process (a virtual machine?) is using it: stop that one "
                    "first, or let both use it read-only (--read-only)",
                    SHORTENED(options->path));
    return fail(-ENOLCK, error, error_bytes,
                "cannot lock %s: %s: its file system has no locks: put the image on one that has",
                SHORTENED(options->path), strerror(-r));
}

/* As many bytes as there are, up to @size; what cannot be read has no magic number. */
static size_t read_some(int fd, void *buffer, size_t size, uint64_t offset)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = pread(fd, (uint8_t *)buffer + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    return done;
}

static int check_format(const struct disk_image *image, const char *path, char *error, size_t error_bytes)
{
    uint8_t head[DISK_FORMAT_HEAD_BYTES];
    uint8_t tail[DISK_FORMAT_TAIL_BYTES];
    size_t head_bytes = read_some(image->fd, head, sizeof(head), 0);
    size_t tail_bytes = 0;
    if (image->size_bytes >= sizeof(tail))
        tail_bytes = read_some(image->fd, tail, sizeof(tail), image->size_bytes - sizeof(tail));

    const struct disk_format *format = disk_format_detect(head, head_bytes, tail, tail_bytes, image->size_bytes);
    if (format == NULL)
        return 0;
    path = SHORTENED(path);
    return fail(-EMEDIUMTYPE, error, error_bytes,
                "cannot use %s as a disk: it is a %s image and only raw ones are served: convert it: "
                "qemu-img convert -f %s -O raw %s %s.raw",
                path, format->title, format->qemu_name, path, path);
}

/* One number of the block layer's, from sysfs; 0 when it is not to be had. */
static uint64_t read_queue_limit(dev_t device, const char *name)
{
    /* A partition has no queue of its own: its disk is one level up. */
    static const char *const places[] = {"queue", "../queue"};
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        char path[128];
        snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s/%s", major(device), minor(device), places[i], name);
        FILE *file = fopen(path, "re");
        if (file == NULL)
            continue;
        char line[32];
        char *end = line;
        unsigned long long value = fgets(line, sizeof(line), file) != NULL ? strtoull(line, &end, 10) : 0;
        fclose(file);
        if (end != line)
            return value;
    }
    return 0;
}

static uint32_t sane_block_bytes(uint64_t bytes, uint32_t otherwise)
{
    return bytes >= SECTOR_BYTES && bytes <= BLOCK_BYTES_MAX && is_power_of_two(bytes) ? (uint32_t)bytes : otherwise;
}

static void measure_block_device(struct disk_image *image, dev_t device)
{
    int logical = 0;
    unsigned physical = 0;
    unsigned optimal = 0;
    int read_only = 0;

    if (ioctl(image->fd, BLKSSZGET, &logical) < 0 || logical < 0)
        logical = 0;
    if (ioctl(image->fd, BLKPBSZGET, &physical) < 0)
        physical = 0;
    if (ioctl(image->fd, BLKIOOPT, &optimal) < 0)
        optimal = 0;
    image->logical_block_bytes = sane_block_bytes((uint64_t)logical, SECTOR_BYTES);
    image->physical_block_bytes = sane_block_bytes(physical, image->logical_block_bytes);
    image->optimal_io_bytes = optimal;
    image->discard = read_queue_limit(device, "discard_max_bytes") > 0;
    uint64_t granularity = read_queue_limit(device, "discard_granularity");
    image->discard_granularity_bytes = sane_block_bytes(granularity, image->logical_block_bytes);
    if (ioctl(image->fd, BLKROGET, &read_only) == 0 && read_only)
        image->read_only = true;
    if (image->read_only)
        image->discard = false;
}

static void measure_file(struct disk_image *image, const struct stat *status)
{
    image->logical_block_bytes = SECTOR_BYTES;
    image->physical_block_bytes = sane_block_bytes((uint64_t)status->st_blksize, PAGE_BYTES);
    image->discard_granularity_bytes = image->physical_block_bytes;
    if (image->read_only)
        return;
    /* To punch a hole past the end, keeping the size, changes nothing and tells whether it works here. */
    uint64_t past_end = align_up((uint64_t)status->st_size, image->physical_block_bytes);
    image->discard = range_within(past_end, image->physical_block_bytes, INT64_MAX) &&
                     fallocate(image->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)past_end,
                               (off_t)image->physical_block_bytes) == 0;
}

static int measure(struct disk_image *image, const struct stat *status, const struct disk_image_options *options,
                   char *error, size_t error_bytes)
{
    image->block_device = S_ISBLK(status->st_mode);
    uint64_t size = 0; /* -O3 does not see that a failure leaves before it is used */
    int r = disk_image_refresh_size(image, &size);
    if (r < 0)
        return fail(r, error, error_bytes, "cannot find out the size of %s: %s", SHORTENED(options->path),
                    strerror(-r));
    r = check_format(image, options->path, error, error_bytes);
    if (r < 0)
        return r;
    if (size < SECTOR_BYTES)
        return fail(-ENODATA, error, error_bytes,
                    "cannot use %s as a disk: it has %llu bytes, less than one sector: make it larger: truncate -s 10G "
                    "%s",
                    SHORTENED(options->path), (unsigned long long)size, SHORTENED(options->path));
    if (image->block_device)
        measure_block_device(image, status->st_rdev);
    else
        measure_file(image, status);
    if (image->read_only && !options->read_only)
        return fail(-EACCES, error, error_bytes,
                    "cannot write to %s: the device is set read-only: serve it read-only (--read-only), or "
                    "blockdev --setrw %s",
                    SHORTENED(options->path), SHORTENED(options->path));
    return 0;
}

static bool is_in_memory(int fd)
{
    struct statfs system;
    return fstatfs(fd, &system) == 0 && system.f_type == TMPFS_MAGIC;
}

static int set_flags(int fd, int more)
{
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 || fcntl(fd, F_SETFL, flags | more) < 0 ? -errno : 0;
}

/* What O_DIRECT wants aligned there. False: the kernel says that there is none. */
static bool find_alignment(struct disk_image *image, const struct stat *status, bool in_memory)
{
    if (in_memory) {
        image->direct_memory_bytes = 1;
        image->direct_block_bytes = SECTOR_BYTES;
        return true;
    }
#ifdef STATX_DIOALIGN
    struct statx said;
    if (statx(image->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &said) == 0 && said.stx_mask & STATX_DIOALIGN) {
        image->direct_memory_bytes = said.stx_dio_mem_align;
        image->direct_block_bytes = said.stx_dio_offset_align;
        return said.stx_dio_offset_align != 0;
    }
#endif
    uint64_t below = read_queue_limit(image->block_device ? status->st_rdev : status->st_dev, "logical_block_size");
    image->direct_block_bytes = sane_block_bytes(below, PAGE_BYTES);
    image->direct_memory_bytes = image->direct_block_bytes;
    return true;
}

static int fail_direct(const struct disk_image_options *options, const char *why, char *error, size_t error_bytes)
{
    return fail(-EOPNOTSUPP, error, error_bytes,
                "cannot use %s past the page cache: %s: leave --direct=on out, or put the image elsewhere",
                SHORTENED(options->path), why);
}

static int make_direct(struct disk_image *image, const struct stat *status, const struct disk_image_options *options,
                       bool in_memory, char *error, size_t error_bytes)
{
    bool tried = options->direct == DISK_DIRECT_ON ||
                 (options->direct == DISK_DIRECT_AUTO && (image->block_device || in_memory));
    if (!tried)
        return 0;
    const char *why = NULL;
    int r = find_alignment(image, status, in_memory) ? 0 : -EINVAL;
    image->direct_block_bytes = sane_block_bytes(image->direct_block_bytes, SECTOR_BYTES);
    if (r == 0 && (image->direct_block_bytes > PAGE_BYTES || image->direct_memory_bytes > PAGE_BYTES))
        why = "O_DIRECT wants more than 4096 bytes at a time there";
    else if (r == 0)
        r = set_flags(image->fd, O_DIRECT);
    if (r < 0)
        why = r == -EINVAL ? "there is no O_DIRECT" : strerror(-r);
    image->direct = why == NULL;
    if (why != NULL)
        return options->direct == DISK_DIRECT_ON ? fail_direct(options, why, error, error_bytes) : 0;
    if (image->logical_block_bytes < image->direct_block_bytes)
        image->logical_block_bytes = image->direct_block_bytes;
    if (image->physical_block_bytes < image->logical_block_bytes)
        image->physical_block_bytes = image->logical_block_bytes;
    return 0;
}

int disk_image_open(struct disk_image *image, const struct disk_image_options *options, char *error, size_t error_bytes)
{
    *image = (struct disk_image){.fd = -1, .read_only = options->read_only};

    struct stat status = {0};
    int fd = open_path(options, &status, error, error_bytes);
    if (fd < 0)
        return fd;
    image->fd = fd;
    int r = 0;
    if (!options->without_lock)
        r = lock_image(fd, options, error, error_bytes);
    if (r == 0)
        r = measure(image, &status, options, error, error_bytes);
    bool in_memory = !image->block_device && is_in_memory(fd);
    if (r == 0)
        r = make_direct(image, &status, options, in_memory, error, error_bytes);
    if (r == 0 && in_memory)
        image->non_blocking = set_flags(fd, O_NONBLOCK) == 0;
    if (r < 0)
        disk_image_close(image);
    return r;
}

void disk_image_close(struct disk_image *image)
{
    if (image->fd >= 0)
        close(image->fd);
    image->fd = -1;
}

int disk_image_refresh_size(struct disk_image *image, uint64_t *ret_size_bytes)
{
    uint64_t size;
    if (image->block_device) {
        if (ioctl(image->fd, BLKGETSIZE64, &size) < 0)
            return -errno;
    } else {
        struct stat status;
        if (fstat(image->fd, &status) < 0)
            return -errno;
        size = (uint64_t)status.st_size;
    }
    image->size_bytes = size;
    *ret_size_bytes = size;
    return 0;
}
