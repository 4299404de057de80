/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Which engine serves: chosen, refused by the system, or none at all. The refusal is a real one: a seccomp filter in a
 * process of its own, as containers have it.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "platform/linux/blk_test_support.h"

static char error[DISK_IMAGE_ERROR_BYTES];

static int make_image(void **state)
{
    (void)state;
    fixture = (struct fixture){.image.fd = -1};
    make_file(fixture.path, sizeof(fixture.path), DISK_BYTES);
    const struct disk_image_options options = {.path = fixture.path};
    return disk_image_open(&fixture.image, &options, error, sizeof(error));
}

static int remove_image(void **state)
{
    (void)state;
    disk_image_close(&fixture.image);
    unlink(fixture.path);
    return 0;
}

static int open_engine(enum blk_engine engine)
{
    const struct blk_backend_options options = {
        .engine = engine, .image = &fixture.image, .queues = 1, .depth = 4, .workers = 0};
    error[0] = '\0';
    return blk_backend_open(&fixture.backend, &options, error, sizeof(error));
}

/* From now on, for this process, system call @number (or @other) answers @answer. False: seccomp is not to be had. */
static bool forbid(uint32_t number, uint32_t other, uint32_t answer)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, other, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | answer),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = ARRAY_SIZE(filter), .filter = filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* Run @function in a process of its own. It answers 0, which step went wrong, or 77 when it cannot be tried here. */
static void in_a_child(int (*function)(void))
{
    fflush(NULL); /* or the child would write it again */
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        end_child(function());
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        print_message("skipped: this system has no seccomp filters, no io_uring, or no O_DIRECT\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

static int write_and_read_back(void)
{
    uint8_t data[BLOCK];
    uint8_t back[BLOCK];
    fill(data, sizeof(data), 1);
    if (transfer(BLK_OP_WRITE, 0, 0, data, sizeof(data)) != 0 || transfer(BLK_OP_READ, 0, 0, back, sizeof(back)) != 0)
        return -EIO;
    return memcmp(data, back, sizeof(data)) == 0 ? 0 : -EBADMSG;
}

static int try_where_io_uring_is_forbidden(void)
{
    if (!forbid(__NR_io_uring_setup, __NR_io_uring_setup, EPERM))
        return 77;
    if (open_engine(BLK_ENGINE_URING) >= 0 || strncmp(error, "cannot use io_uring: ", 21) != 0)
        return 1;
    if (open_engine(BLK_ENGINE_AUTO) != 0)
        return 2;
    if (fixture.backend.engine != BLK_ENGINE_PLAIN || fixture.backend.note[0] == '\0')
        return 3;
    if (write_and_read_back() != 0)
        return 4;
    blk_backend_close(&fixture.backend);
    return 0;
}

static void where_io_uring_is_forbidden_threads_serve_and_the_reason_is_told(void **state)
{
    (void)state;
    in_a_child(try_where_io_uring_is_forbidden);
}

/* A kernel that is out of memory takes nothing, and nothing is in flight that could wake us later. */
static int try_where_io_uring_takes_nothing(void)
{
    const struct blk_io ios[2] = {{.token = 5, .op = BLK_OP_FLUSH}, {.token = 6, .op = BLK_OP_FLUSH}};
    struct blk_completion completions[8];
    struct blk_backend_counters counters;
    if (open_engine(BLK_ENGINE_URING) < 0 || !forbid(__NR_io_uring_enter, __NR_io_uring_enter, EAGAIN))
        return 77;
    for (unsigned round = 0; round < 8; round++) { /* more rounds than there are slots to lose */
        if (submit(0, ios, 2) != 2)
            return 1;
        unsigned count = reap(0, completions, 1);
        count += reap(0, completions + count, 7);
        if (count != 2 || completions[0].token + completions[1].token != 11)
            return 2;
        if (completions[0].result != -EAGAIN || completions[1].result != -EAGAIN)
            return 3;
    }
    blk_backend_count(&fixture.backend, &counters);
    if (counters.not_entered != 8)
        return 4;
    /* Those that wait to be reaped keep their slots. */
    for (unsigned i = 0; i < 3; i++)
        if (submit(0, ios, 2) != (i < 2 ? 2 : 0))
            return 5;
    return reap(0, completions, 8) == 4 ? 0 : 6;
}

static void what_the_kernel_cannot_take_fails_instead_of_hanging(void **state)
{
    (void)state;
    in_a_child(try_where_io_uring_takes_nothing);
}

/* Once a disk is open, its queues need what nobody else must have taken: without it they wait for the disk themselves.
 */
static void a_queue_for_which_no_ring_is_left_is_served_all_the_same(void **state)
{
    (void)state;
    struct rlimit before;
    struct blk_backend_counters counters;
    if (open_engine(BLK_ENGINE_URING) < 0) {
        print_message("skipped: %s\n", error);
        skip();
    }
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    const struct rlimit none = {.rlim_cur = 0, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int handle = blk_backend_handle(&fixture.backend, 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(handle, -1);

    assert_int_equal(write_and_read_back(), 0);
    static uint8_t data[4][BLOCK];
    const struct guest_iovec iov[4] = {{data[3], BLOCK}, {data[2], BLOCK}, {data[1], BLOCK}, {data[0], BLOCK}};
    struct blk_completion completions[4];
    struct blk_io ios[4];
    for (unsigned i = 0; i < 4; i++)
        ios[i] = (struct blk_io){
            .token = i, .op = BLK_OP_READ, .offset = i * BLOCK, .length = BLOCK, .iov = &iov[i], .iov_count = 1};
    for (unsigned round = 0; round < 3; round++) {
        assert_int_equal(submit(0, ios, 4), 4);
        assert_true(blk_backend_ready(&fixture.backend, 0));
        assert_int_equal(submit(0, ios, 1), 0); /* all places are taken until they are reaped */
        assert_int_equal(reap(0, completions, 3), 3);
        assert_int_equal(submit(0, ios, 1), 1);
        assert_int_equal(reap(0, completions, 4), 2);
        assert_false(blk_backend_rest(&fixture.backend, 0));
    }
    blk_backend_count(&fixture.backend, &counters);
    assert_int_equal(counters.operations, 2 + 3 * 5);
    assert_int_equal(counters.blocking, 2 + 3 * 5);
    assert_int_equal(counters.merged, 3 * 3);
    blk_backend_close(&fixture.backend);
}

static void queues_that_nobody_uses_have_no_ring(void **state)
{
    (void)state;
    const struct blk_backend_options options = {
        .engine = BLK_ENGINE_URING, .image = &fixture.image, .queues = BLK_QUEUES_MAX, .depth = 256};
    int lowest = dup(0);
    close(lowest);
    if (blk_backend_open(&fixture.backend, &options, error, sizeof(error)) < 0) {
        print_message("skipped: %s\n", error);
        skip();
    }
    int still_lowest = dup(0);
    close(still_lowest);
    assert_int_equal(still_lowest, lowest);
    assert_int_equal(blk_backend_handle(&fixture.backend, 5), lowest);
    blk_backend_close(&fixture.backend);
}

static uint8_t *lost_page;

static void mend_lost_page(int number)
{
    (void)number;
    if (mmap(lost_page, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
        _exit(1);
}

/* Its bytes are copied here, so its memory is missed here, on whatever thread that is. */
static int try_unaligned_memory_that_was_taken_away(enum blk_engine engine)
{
    struct sigaction action = {.sa_handler = mend_lost_page};
    const struct disk_image_options options = {.path = fixture.path, .direct = DISK_DIRECT_ON, .without_lock = true};
    disk_image_close(&fixture.image);
    if (disk_image_open(&fixture.image, &options, error, sizeof(error)) < 0 || open_engine(engine) < 0)
        return 77;
    int memory = memfd_create("guest", MFD_CLOEXEC);
    if (memory < 0 || ftruncate(memory, BLOCK) < 0 || sigaction(SIGBUS, &action, NULL) < 0)
        return 1;
    lost_page = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    if (lost_page == MAP_FAILED || ftruncate(memory, 0) < 0)
        return 2;
    if (transfer(BLK_OP_WRITE, 0, 0, lost_page + 1, 512) != 0)
        return 3;
    blk_backend_close(&fixture.backend);
    return 0;
}

static int try_it_on_the_queues_thread(void)
{
    return try_unaligned_memory_that_was_taken_away(BLK_ENGINE_URING);
}

static int try_it_on_a_worker(void)
{
    return try_unaligned_memory_that_was_taken_away(BLK_ENGINE_PLAIN);
}

static void unaligned_memory_that_was_taken_away_is_survived(void **state)
{
    (void)state;
    in_a_child(try_it_on_the_queues_thread);
    in_a_child(try_it_on_a_worker);
}

static int try_where_no_thread_can_be_started(void)
{
    if (!forbid(__NR_clone, __NR_clone3, EAGAIN))
        return 77;
    if (open_engine(BLK_ENGINE_PLAIN) != 0)
        return 1;
    return write_and_read_back() == 0 ? 0 : 2;
}

static void where_no_thread_can_be_started_requests_are_served_all_the_same(void **state)
{
    (void)state;
    in_a_child(try_where_no_thread_can_be_started);
}

static void auto_takes_io_uring_where_there_is_one(void **state)
{
    (void)state;
    bool there = open_engine(BLK_ENGINE_URING) == 0;
    if (there)
        blk_backend_close(&fixture.backend);
    assert_int_equal(open_engine(BLK_ENGINE_AUTO), 0);
    assert_int_equal(fixture.backend.engine, there ? BLK_ENGINE_URING : BLK_ENGINE_PLAIN);
    assert_int_equal(fixture.backend.note[0] == '\0', there);
    blk_backend_close(&fixture.backend);
}

static void options_that_no_disk_has_are_refused(void **state)
{
    (void)state;
    struct blk_backend_options options = {.engine = BLK_ENGINE_PLAIN, .image = &fixture.image, .queues = 1, .depth = 1};
    options.queues = 0;
    assert_int_equal(blk_backend_open(&fixture.backend, &options, error, sizeof(error)), -EINVAL);
    options.queues = BLK_QUEUES_MAX + 1;
    assert_int_equal(blk_backend_open(&fixture.backend, &options, error, sizeof(error)), -EINVAL);
    options.queues = 1;
    options.depth = VIRTQ_SLOTS_MAX + 1;
    assert_int_equal(blk_backend_open(&fixture.backend, &options, error, sizeof(error)), -EINVAL);
    options.depth = 1;
    options.workers = BLK_PLAIN_WORKERS_MAX + 1;
    assert_int_equal(blk_backend_open(&fixture.backend, &options, error, sizeof(error)), -EINVAL);
    options.workers = 0;
    options.image = NULL;
    assert_int_equal(blk_backend_open(&fixture.backend, &options, error, sizeof(error)), -EINVAL);
    assert_true(error[0] != '\0');
}

static void an_engine_without_descriptors_left_says_so_and_leaves_nothing_behind(void **state)
{
    (void)state;
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    /* The lowest free number is the last that may be used: two queues need two. */
    int lowest = dup(0);
    close(lowest);
    const struct rlimit limit = {.rlim_cur = (rlim_t)lowest + 1, .rlim_max = before.rlim_max};
    const struct blk_backend_options options = {
        .engine = BLK_ENGINE_PLAIN, .image = &fixture.image, .queues = 2, .depth = 1};

    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    int r = blk_backend_open(&fixture.backend, &options, error, sizeof(error));
    int again = dup(0);
    if (again >= 0)
        close(again);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(r, -EMFILE);
    assert_int_equal(again, lowest);
    assert_non_null(strstr(error, "Too many open files"));
}

static void the_null_disk_completes_at_once_and_touches_nothing(void **state)
{
    (void)state;
    const struct blk_backend_options options = {.engine = BLK_ENGINE_NULL, .queues = 2, .depth = 3};
    assert_int_equal(blk_backend_open(&fixture.backend, &options, error, sizeof(error)), 0);
    assert_int_equal(blk_backend_handle(&fixture.backend, 0), -1);

    uint8_t data[16] = "untouched";
    const struct guest_iovec iov = {data, sizeof(data)};
    struct blk_completion completions[8];
    for (unsigned round = 0; round < 10; round++) {
        struct blk_io ios[8];
        for (unsigned i = 0; i < 8; i++)
            ios[i] = (struct blk_io){
                .token = round * 100 + i, .op = BLK_OP_READ, .length = sizeof(data), .iov = &iov, .iov_count = 1};
        unsigned taken = submit(1, ios, 8);
        assert_in_range(taken, 3, 7);
        assert_int_equal(submit(1, ios, 8), 0);
        assert_int_equal(reap(0, completions, 8), 0);
        assert_int_equal(reap(1, completions, 2), 2);
        assert_int_equal(reap(1, completions + 2, 6), taken - 2);
        for (unsigned i = 0; i < taken; i++) {
            assert_int_equal(completions[i].token, round * 100 + i);
            assert_int_equal(completions[i].result, 0);
        }
    }
    assert_string_equal((char *)data, "untouched");
    blk_backend_close(&fixture.backend);
}

/* One thread a queue, all at once: what ThreadSanitizer is to look at. */
static void *drive_queue(void *argument)
{
    unsigned queue = *(unsigned *)argument;
    uint8_t data[8][512];
    struct guest_iovec iov[8];
    struct blk_io ios[8];
    for (unsigned i = 0; i < 8; i++) {
        fill(data[i], 512, queue * 8 + i);
        iov[i] = (struct guest_iovec){data[i], 512};
        ios[i] = (struct blk_io){.token = i,
                                 .op = i == 7 ? BLK_OP_FLUSH : BLK_OP_WRITE,
                                 .offset = (uint64_t)(queue * 8 + i) * 512,
                                 .length = i == 7 ? 0 : 512,
                                 .iov = &iov[i],
                                 .iov_count = 1};
    }
    for (unsigned round = 0; round < 20; round++) {
        unsigned left = 0;
        for (unsigned taken = 0; taken < 8 || left > 0;) {
            struct blk_completion completions[8];
            unsigned now = submit(queue, ios + taken, 8 - taken);
            taken += now;
            left += now;
            unsigned given = reap(queue, completions, 8);
            left -= given;
            for (unsigned i = 0; i < given; i++)
                if (completions[i].result != 0)
                    return argument;
            if (given == 0 && left > 0 && !is_readable(queue, TIMEOUT_MS))
                return argument;
        }
    }
    return NULL;
}

static void drive_queues_of(enum blk_engine engine)
{
    enum { QUEUES = 4 };
    pthread_t drivers[QUEUES];
    unsigned numbers[QUEUES];
    struct blk_backend_counters counters;
    const struct blk_backend_options options = {
        .engine = engine, .image = &fixture.image, .queues = QUEUES, .depth = 4, .workers = 3};
    if (blk_backend_open(&fixture.backend, &options, error, sizeof(error)) < 0) {
        print_message("skipped: %s\n", error);
        skip();
    }
    for (unsigned i = 0; i < QUEUES; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&drivers[i], NULL, drive_queue, &numbers[i]), 0);
    }
    blk_backend_count(&fixture.backend, &counters); /* while they run */
    for (unsigned i = 0; i < QUEUES; i++) {
        void *failed;
        assert_int_equal(pthread_join(drivers[i], &failed), 0);
        assert_null(failed);
    }
    blk_backend_count(&fixture.backend, &counters);
    assert_int_equal(counters.operations, QUEUES * 20 * 8);
    blk_backend_close(&fixture.backend);
}

static void queues_run_on_threads_of_their_own_with_io_uring(void **state)
{
    (void)state;
    drive_queues_of(BLK_ENGINE_URING);
}

static void queues_run_on_threads_of_their_own_with_threads(void **state)
{
    (void)state;
    drive_queues_of(BLK_ENGINE_PLAIN);
}

static void closing_waits_for_threads_that_are_at_work(void **state)
{
    (void)state;
    static uint8_t data[4][1u << 20];
    struct guest_iovec iov[4];
    struct blk_io ios[4];
    assert_int_equal(open_engine(BLK_ENGINE_PLAIN), 0);
    for (unsigned i = 0; i < 4; i++) {
        fill(data[i], sizeof(data[i]), i);
        iov[i] = (struct guest_iovec){data[i], sizeof(data[i])};
        ios[i] = (struct blk_io){.token = i,
                                 .op = BLK_OP_WRITE,
                                 .offset = (uint64_t)i * sizeof(data[i]),
                                 .length = sizeof(data[i]),
                                 .iov = &iov[i],
                                 .iov_count = 1};
    }
    assert_int_equal(submit(0, ios, 4), 4);
    blk_backend_close(&fixture.backend);
    for (unsigned i = 0; i < 4; i++) {
        static uint8_t back[1u << 20];
        assert_int_equal(pread(fixture.image.fd, back, sizeof(back), (off_t)ios[i].offset), sizeof(back));
        assert_memory_equal(back, data[i], sizeof(back));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(where_io_uring_is_forbidden_threads_serve_and_the_reason_is_told, make_image,
                                        remove_image),
        cmocka_unit_test_setup_teardown(what_the_kernel_cannot_take_fails_instead_of_hanging, make_image, remove_image),
        cmocka_unit_test_setup_teardown(a_queue_for_which_no_ring_is_left_is_served_all_the_same, make_image,
                                        remove_image),
        cmocka_unit_test_setup_teardown(queues_that_nobody_uses_have_no_ring, make_image, remove_image),
        cmocka_unit_test_setup_teardown(unaligned_memory_that_was_taken_away_is_survived, make_image, remove_image),
        cmocka_unit_test_setup_teardown(where_no_thread_can_be_started_requests_are_served_all_the_same, make_image,
                                        remove_image),
        cmocka_unit_test_setup_teardown(auto_takes_io_uring_where_there_is_one, make_image, remove_image),
        cmocka_unit_test_setup_teardown(options_that_no_disk_has_are_refused, make_image, remove_image),
        cmocka_unit_test_setup_teardown(an_engine_without_descriptors_left_says_so_and_leaves_nothing_behind,
                                        make_image, remove_image),
        cmocka_unit_test(the_null_disk_completes_at_once_and_touches_nothing),
        cmocka_unit_test_setup_teardown(queues_run_on_threads_of_their_own_with_io_uring, make_image, remove_image),
        cmocka_unit_test_setup_teardown(queues_run_on_threads_of_their_own_with_threads, make_image, remove_image),
        cmocka_unit_test_setup_teardown(closing_waits_for_threads_that_are_at_work, make_image, remove_image),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
