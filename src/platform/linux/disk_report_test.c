/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What the person reads on standard error, which is a pipe here. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "platform/linux/disk_report.h"

#define HOUR_NS (UINT64_C(3600) * 1000000000)

static struct loop loop;
static struct disk_errors errors;
static struct disk_report report;
static const struct log test_log = {.name = "backplane blk", .level = LOG_LEVEL_ERROR};
static int standard_error, pipe_ends[2];

static int set_up(void **state)
{
    (void)state;
    disk_errors_init(&errors);
    standard_error = dup(STDERR_FILENO);
    return pipe2(pipe_ends, O_CLOEXEC | O_NONBLOCK) < 0 || loop_init(&loop) < 0;
}

static int tear_down(void **state)
{
    (void)state;
    disk_report_end(&report);
    loop_done(&loop);
    disk_errors_done(&errors);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    close(standard_error);
    return 0;
}

static void begin(uint64_t pause_ns)
{
    disk_report_begin(&report, &loop, &test_log, "/disk.img", &errors, pause_ns);
}

/* One turn of the loop, with the pipe as standard error: cmocka's own words go elsewhere. */
static void turn(void)
{
    dup2(pipe_ends[1], STDERR_FILENO);
    int r = loop_turn(&loop, 0);
    dup2(standard_error, STDERR_FILENO);
    assert_true(r >= 0);
}

static void assert_said(const char *expected)
{
    char said[1024] = "";
    ssize_t count = read(pipe_ends[0], said, sizeof(said) - 1);
    if (count < 0)
        assert_int_equal(errno, EAGAIN);
    assert_string_equal(said, expected);
}

static void fail_write(uint64_t offset, int error)
{
    disk_errors_add(&errors, &(struct disk_error){BLK_OP_WRITE, offset, error});
}

static void the_first_error_is_told_at_once_and_the_others_wait_for_their_time(void **state)
{
    (void)state;
    begin(HOUR_NS);
    fail_write(12582912, -ENOSPC);
    turn();
    assert_said("backplane blk: /disk.img: write at 12582912: No space left on device\n");
    for (unsigned i = 0; i < 100; i++) {
        fail_write(i, -EIO);
        turn();
    }
    assert_said("");
}

static void what_was_counted_meanwhile_is_told_in_one_line_when_the_time_has_come(void **state)
{
    (void)state;
    begin(1);
    fail_write(0, -ENOSPC);
    turn();
    assert_said("backplane blk: /disk.img: write at 0: No space left on device\n");
    fail_write(512, -ENOSPC);
    disk_errors_add(&errors, &(struct disk_error){BLK_OP_FLUSH, 0, -EIO});
    turn();
    assert_said(
        "backplane blk: /disk.img: flush: Input/output error; flushes fail until the daemon is started anew (the "
        "last of 2 errors)\n");
}

static void when_no_more_come_the_loop_has_no_timer_and_the_next_one_is_told_at_once(void **state)
{
    (void)state;
    begin(1);
    assert_true(loop_timeout_ns(&loop) == UINT64_MAX);
    fail_write(0, -ENOSPC);
    turn();
    turn();
    assert_true(loop_timeout_ns(&loop) == UINT64_MAX);
    assert_said("backplane blk: /disk.img: write at 0: No space left on device\n");
    fail_write(4096, -EIO);
    turn();
    assert_said("backplane blk: /disk.img: write at 4096: Input/output error\n");
}

static void a_line_for_which_there_is_no_room_comes_later_and_holds_up_nobody(void **state)
{
    (void)state;
    static char filler[4096], taken[1 << 20];
    begin(1);
    while (write(pipe_ends[1], filler, sizeof(filler)) > 0)
        ;
    /* From here on a write would wait for ever. */
    assert_int_equal(fcntl(pipe_ends[1], F_SETFL, 0), 0);
    fail_write(0, -ENOSPC);
    turn();
    while (read(pipe_ends[0], taken, sizeof(taken)) > 0)
        ;
    fail_write(512, -ENOSPC);
    turn();
    assert_said("backplane blk: /disk.img: write at 512: No space left on device (the last of 2 errors)\n");
}

static void memory_that_the_front_end_took_away_is_remembered_and_not_told(void **state)
{
    (void)state;
    uint64_t total;
    struct disk_error last;
    begin(HOUR_NS);
    assert_int_equal(disk_errors_last(&errors, &total, &last), -ENOENT);
    fail_write(0, -EFAULT);
    turn();
    assert_said("");
    assert_int_equal(disk_errors_last(&errors, &total, &last), 0);
    assert_int_equal(total, 0);
    assert_int_equal(last.error, -EFAULT);
}

static void every_operation_has_a_name(void **state)
{
    (void)state;
    static const char *const texts[] = {
        [BLK_OP_READ] = "read at 512: Input/output error",
        [BLK_OP_WRITE] = "write at 512: Input/output error",
        [BLK_OP_FLUSH] = "flush: Input/output error",
        [BLK_OP_DISCARD] = "discard at 512: Input/output error",
        [BLK_OP_WRITE_ZEROES] = "write of zeroes at 512: Input/output error",
    };
    char text[DISK_ERROR_TEXT_BYTES];
    begin(HOUR_NS);
    for (unsigned op = 0; op < ARRAY_SIZE(texts); op++) {
        disk_error_print(&(struct disk_error){(enum blk_op)op, 512, -EIO}, text, sizeof(text));
        assert_string_equal(text, texts[op]);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_first_error_is_told_at_once_and_the_others_wait_for_their_time),
        TEST(what_was_counted_meanwhile_is_told_in_one_line_when_the_time_has_come),
        TEST(when_no_more_come_the_loop_has_no_timer_and_the_next_one_is_told_at_once),
        TEST(a_line_for_which_there_is_no_room_comes_later_and_holds_up_nobody),
        TEST(memory_that_the_front_end_took_away_is_remembered_and_not_told),
        TEST(every_operation_has_a_name),
    };
    return cmocka_run_group_tests_name("disk_report", tests, NULL, NULL);
}
