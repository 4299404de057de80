/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What the tests of the blk ports share: one image with one back end on it, and calls that wait for completion. All of
 * it fails the running cmocka test when the host does not do what it should.
 */
#ifndef PLATFORM_LINUX_BLK_TEST_SUPPORT_H
#define PLATFORM_LINUX_BLK_TEST_SUPPORT_H

#include "platform/linux/blk_backend.h"

#define DISK_BYTES (8u << 20)
#define DEPTH 64
#define BLOCK 4096u
/* Nothing here takes a second; a machine that is busy may. */
#define TIMEOUT_MS 20000

/* How a disk is reached. */
struct variant {
    enum blk_engine engine;
    enum disk_direct direct;
    unsigned uring_age;
};

struct fixture {
    struct variant variant;
    char path[64];
    struct disk_image image;
    struct blk_backend backend;
    bool skipped;
    char error[DISK_IMAGE_ERROR_BYTES];
};

extern struct fixture fixture;

/* A new file of @size, its name in @path. */
void make_file(char *path, size_t path_bytes, uint64_t size);

/* Open the fixture's image and back end. False: io_uring or O_DIRECT is refused here, fixture.error says why. */
bool open_backend(const struct variant *variant, const char *path);
void close_backend(void);

/* For cmocka: a file, and the variant that *state points to on it. */
int set_up(void **state);
int tear_down(void **state);
void skip_if_refused(void);

unsigned submit(unsigned queue, const struct blk_io *ios, unsigned count);
unsigned reap(unsigned queue, struct blk_completion *completions, unsigned max);

/*
 * Does the queue's handle become readable in time? By epoll, as the program does it: that hears of nothing but wakes,
 * whereas poll looks once more when its time is over, and so hides that one was lost.
 */
bool is_readable(unsigned queue, int timeout_ms);

/* Wait until @count operations have completed; their results by token. */
void wait_for(unsigned queue, unsigned count, int *results);

/* One operation on queue 0, waited for: its result. */
int run(const struct blk_io *io);
int transfer(enum blk_op op, uint32_t flags, uint64_t offset, void *buffer, size_t length);
int space(enum blk_op op, uint32_t flags, uint64_t offset, uint64_t length);

/* Bytes that differ from place to place and from seed to seed, and are seldom 0. */
void fill(uint8_t *bytes, size_t length, unsigned seed);

/* What the file of the image has, as another process sees it: up to @length bytes; how many. */
size_t look(void *buffer, size_t length, uint64_t offset);

/* What the image takes on its file system, in units of 512 bytes, once everything is written out. */
uint64_t blocks_used(int fd);

/*
 * End a child process of a test: orderly, so that its coverage counts, but not with AddressSanitizer, which would look
 * for what the parent still needs, and cannot where system calls are forbidden.
 */
_Noreturn void end_child(int status);

/* A test for one variant, for both engines, or for all that this kernel has. */
#define ON(engine, test)                                                                                               \
    {                                                                                                                  \
#test " (" #engine ")", test, set_up, tear_down, &(engine)                                                     \
    }
#define ON_BOTH(test) ON(io_uring, test), ON(threads, test)
#define ON_EACH(test)                                                                                                  \
    ON_BOTH(test), ON(io_uring_direct, test), ON(threads_direct, test), ON(io_uring_of_5_19, test),                    \
        ON(io_uring_of_5_18, test), ON(io_uring_of_5_6, test)

extern struct variant io_uring, threads, io_uring_direct, threads_direct;
extern struct variant io_uring_of_5_19, io_uring_of_5_18, io_uring_of_5_6;

#endif
