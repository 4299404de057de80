/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A guest's terminal on pseudo terminals, pipes, files and nothing. */
#include "platform/linux/terminal_test_rig.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void the_mode_is_raw_while_a_guest_runs_and_as_it_was_afterwards(void **state)
{
    (void)state;
    struct screen *screen = given_a_terminal();
    assert_true(is_raw(screen->slave));
    terminal_close(&screen->terminal);
    expect_mode_of_before(screen);
    finish(screen);
}

static void what_is_typed_reaches_the_guest_unchanged_and_is_not_echoed(void **state)
{
    (void)state;
    struct screen *screen = given_a_terminal();
    type(screen, "a\r\x03\x1a\x11\x13z", 7);
    expect_input(screen, "a\r\x03\x1a\x11\x13z");
    assert_false(is_readable(screen->master, 0));
    type(screen, "more", 4);
    expect_input(screen, "more");
    finish(screen);
}

static void what_the_guest_shows_is_seen(void **state)
{
    (void)state;
    struct screen *screen = given_a_terminal();
    assert_int_equal(terminal_output(&screen->terminal, "login: ", 7), 7);
    terminal_output_or_drop(&screen->terminal, "hvc0", 4);
    turn(screen);
    expect_output(screen->master, "login: hvc0");
    finish(screen);
}

static void the_escape_key_reaches_who_runs_the_guest(void **state)
{
    (void)state;
    struct screen *screen = given_a_terminal();
    type(screen,
         "1\x01x2\x01s\x01\x01\x01"
         "b\x01p",
         12);
    expect_input(screen, "12\x01");
    while (screen->key_count < 4)
        turn(screen);
    assert_int_equal(screen->keys[0], TERMINAL_QUIT);
    assert_int_equal(screen->keys[1], TERMINAL_PAUSE);
    assert_int_equal(screen->keys[2], TERMINAL_BREAK);
    assert_int_equal(screen->keys[3], TERMINAL_POWER);
    type(screen, "\x01h", 2);
    while (!is_readable(screen->master, 0))
        turn(screen);
    expect_output(screen->master, "\r\r\ntest: Ctrl-A and then\r\r\n  x  end");
    assert_int_equal(screen->key_count, 4);
    finish(screen);
}

static void the_escape_key_is_heard_though_the_guest_reads_nothing(void **state)
{
    (void)state;
    struct screen *screen = given_a_terminal();
    char line[512];
    memset(line, 'x', sizeof(line));
    for (unsigned i = 0; i < 2 * TERMINAL_INPUT_BYTES / sizeof(line); i++) {
        type(screen, line, sizeof(line));
        turn(screen);
    }
    type(screen, "\x01x", 2);
    while (screen->key_count == 0)
        turn(screen);
    assert_int_equal(screen->keys[0], TERMINAL_QUIT);
    assert_int_equal(screen->terminal.in.dropped_total, TERMINAL_INPUT_BYTES);
    finish(screen);
}

static void a_pipe_is_read_no_faster_than_the_guest_reads_and_has_no_escape(void **state)
{
    (void)state;
    struct screen *screen = given_a_screen();
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    open_on(screen, ends[0], -1);
    uint8_t bytes[10000], got[10000];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 7);
    assert_int_equal(write(ends[1], bytes, sizeof(bytes)), sizeof(bytes));
    close(ends[1]);
    while (screen->terminal.in.ring.head < TERMINAL_INPUT_BYTES)
        turn(screen);
    assert_int_equal(loop_turn(&screen->loop, 0), 0);
    assert_int_equal(screen->terminal.in.ring.head, TERMINAL_INPUT_BYTES);
    assert_int_equal(loop_timeout_ns(&screen->loop), UINT64_MAX);
    size_t count = 0;
    while (count < sizeof(got)) {
        size_t n = terminal_input(&screen->terminal, got + count, 1000);
        count += n;
        while (n == 0 && !is_readable(terminal_input_handle(&screen->terminal), 0))
            turn(screen);
    }
    assert_memory_equal(got, bytes, sizeof(bytes));
    assert_int_equal(screen->key_count, 0);
    assert_int_equal(screen->terminal.in.dropped_total, 0);
    close(ends[0]);
    finish(screen);
}

static void output_that_nobody_reads_holds_up_the_console_and_not_the_serial_port(void **state)
{
    (void)state;
    struct screen *screen = given_a_screen();
    int ends[2];
    char bytes[4096];
    assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    assert_int_equal(fcntl(ends[1], F_SETFL, 0), 0); /* the shell's end: it blocks */
    open_on(screen, -1, ends[1]);
    memset(bytes, 'x', sizeof(bytes));
    size_t total = 0, n;
    while ((n = terminal_output(&screen->terminal, bytes, sizeof(bytes))) > 0) {
        total += n;
        assert_int_equal(loop_turn(&screen->loop, 0), 0);
    }
    assert_true(total >= TERMINAL_OUTPUT_BYTES + 4096);
    assert_false(is_readable(terminal_output_handle(&screen->terminal), 0));
    terminal_output_or_drop(&screen->terminal, bytes, 100);
    assert_int_equal(screen->terminal.out.dropped_total, 100);
    size_t got = 0;
    while (!is_readable(terminal_output_handle(&screen->terminal), 0)) {
        ssize_t taken = read(ends[0], bytes, sizeof(bytes));
        got += taken > 0 ? (size_t)taken : 0;
        assert_int_equal(loop_turn(&screen->loop, 0), 0);
    }
    terminal_output_rest(&screen->terminal);
    assert_false(is_readable(terminal_output_handle(&screen->terminal), 0));
    while (got < total) {
        ssize_t taken = read(ends[0], bytes, sizeof(bytes));
        got += taken > 0 ? (size_t)taken : 0;
        assert_int_equal(loop_turn(&screen->loop, 0), 0);
    }
    assert_int_equal(got, total);
    assert_int_equal(fcntl(ends[1], F_GETFL) & O_NONBLOCK, 0);
    close(ends[0]);
    close(ends[1]);
    finish(screen);
}

static void a_terminal_that_takes_nothing_for_long_loses_what_does_not_fit(void **state)
{
    (void)state;
    struct screen *screen = given_a_screen();
    int ends[2];
    char bytes[4096] = {0};
    assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    open_on(screen, -1, ends[1]);
    while (terminal_output(&screen->terminal, bytes, sizeof(bytes)) > 0)
        assert_int_equal(loop_turn(&screen->loop, 0), 0);
    uint64_t at_ns = screen->terminal.stall.at_ns;
    assert_in_range(at_ns, loop_now_ns(), loop_now_ns() + TERMINAL_STALL_NS);
    loop_timer_set(&screen->loop, &screen->terminal.stall, 1); /* so much later */
    turn(screen);
    assert_true(is_readable(terminal_output_handle(&screen->terminal), 0));
    assert_int_equal(terminal_output(&screen->terminal, bytes, sizeof(bytes)), sizeof(bytes));
    assert_int_equal(screen->terminal.out.dropped_total, sizeof(bytes));
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(read(ends[0], bytes, sizeof(bytes)), sizeof(bytes));
    turn(screen); /* it takes some again, and has all that fits */
    assert_int_equal(terminal_output(&screen->terminal, bytes, sizeof(bytes)), sizeof(bytes));
    assert_int_equal(screen->terminal.out.dropped_total, sizeof(bytes));
    close(ends[0]);
    close(ends[1]);
    finish(screen);
}

static void output_whose_reader_is_gone_is_dropped(void **state)
{
    (void)state;
    struct screen *screen = given_a_screen();
    int ends[2];
    char bytes[4096] = {0};
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    open_on(screen, -1, ends[1]);
    close(ends[0]);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(terminal_output(&screen->terminal, bytes, sizeof(bytes)), sizeof(bytes));
        assert_int_equal(loop_turn(&screen->loop, 0), 0);
    }
    assert_int_equal(screen->terminal.out.dropped_total, 100 * sizeof(bytes));
    close(ends[1]);
    finish(screen);
}

static void nothing_is_left_behind_on_the_descriptions_of_the_shell(void **state)
{
    (void)state;
    struct screen *screen = given_a_screen();
    int flags = fcntl(screen->slave, F_GETFL);
    open_on(screen, screen->slave, screen->slave);
    assert_false(screen->terminal.input.may_block);
    type(screen, "x", 1);
    expect_input(screen, "x");
    assert_int_equal(fcntl(screen->slave, F_GETFL), flags);
    terminal_close(&screen->terminal);
    assert_int_equal(fcntl(screen->slave, F_GETFL), flags);
    finish(screen);
}

static void no_input_and_no_output_are_fine(void **state)
{
    (void)state;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int closed = fcntl(null, F_DUPFD_CLOEXEC, 100);
    close(closed);
    const int handles[] = {-1, null, closed};
    for (size_t i = 0; i < ARRAY_SIZE(handles); i++) {
        struct screen *screen = given_a_screen();
        uint16_t cols, rows;
        char byte;
        open_on(screen, handles[i], handles[i]);
        for (unsigned more = 0; more < 3; more++) {
            assert_int_equal(terminal_output(&screen->terminal, "lost", 4), 4);
            assert_int_equal(loop_turn(&screen->loop, 0), 0);
        }
        assert_int_equal(terminal_input(&screen->terminal, &byte, 1), 0);
        assert_false(terminal_size(&screen->terminal, &cols, &rows));
        finish(screen);
    }
    close(null);
}

static void files_are_read_and_written_where_the_shell_is(void **state)
{
    (void)state;
    struct screen *screen = given_a_screen();
    char from[] = "/tmp/backplane-XXXXXX", to[] = "/tmp/backplane-XXXXXX", got[32];
    int input = mkstemp(from), output = mkstemp(to);
    assert_true(input >= 0 && output >= 0);
    unlink(from);
    unlink(to);
    assert_int_equal(pwrite(input, "skipped\x01x", 9, 0), 9);
    assert_int_equal(lseek(input, 4, SEEK_SET), 4);
    assert_int_equal(write(output, "before ", 7), 7);
    open_on(screen, input, output);
    expect_input(screen, "ped\x01x");
    assert_int_equal(terminal_output(&screen->terminal, "after", 5), 5);
    terminal_close(&screen->terminal); /* it writes what is left */
    assert_int_equal(pread(output, got, sizeof(got), 0), 12);
    assert_memory_equal(got, "before after", 12);
    close(input);
    close(output);
    finish(screen);
}

static void a_change_of_the_window_is_told(void **state)
{
    (void)state;
    struct screen *screen = given_a_terminal();
    const struct winsize size = {.ws_col = 132, .ws_row = 43};
    uint16_t cols, rows;
    assert_true(terminal_size(&screen->terminal, &cols, &rows));
    assert_int_equal(cols, 80);
    assert_int_equal(rows, 25);
    assert_int_equal(ioctl(screen->master, TIOCSWINSZ, &size), 0);
    kill(getpid(), SIGWINCH);
    while (screen->resizes == 0)
        turn(screen);
    assert_int_equal(screen->cols, 132);
    assert_int_equal(screen->rows, 43);
    kill(getpid(), SIGWINCH); /* with nothing new */
    assert_int_equal(loop_turn(&screen->loop, 0), 0);
    assert_int_equal(screen->resizes, 1);
    finish(screen);
}

/* What a child does with a terminal that it has taken. */
static pid_t given_a_child(struct screen *screen, void (*act)(struct screen *screen))
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child > 0)
        return child;
    setsid();
    ioctl(screen->slave, TIOCSCTTY, 0);
    open_on(screen, screen->slave, screen->slave);
    if (!is_raw(screen->slave))
        _exit(77);
    act(screen);
    _exit(78);
}

static void be_terminated(struct screen *screen)
{
    (void)screen;
    raise(SIGTERM);
}

static void abort_now(struct screen *screen)
{
    (void)screen;
    abort();
}

static void leave(struct screen *screen)
{
    (void)screen;
    exit(3);
}

static void every_way_out_gives_the_mode_back(void **state)
{
    (void)state;
    static const struct {
        void (*act)(struct screen *screen);
        int signal, status;
    } ways[] = {{be_terminated, SIGTERM, 0}, {abort_now, SIGABRT, 0}, {leave, 0, 3}};
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
        struct screen *screen = given_a_screen();
        int status;
        pid_t child = given_a_child(screen, ways[i].act);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(WIFSIGNALED(status) ? WTERMSIG(status) : 0, ways[i].signal);
        assert_int_equal(WIFEXITED(status) ? WEXITSTATUS(status) : 0, ways[i].status);
        expect_mode_of_before(screen);
        finish(screen);
    }
}

static void serve_until_a_key(struct screen *screen)
{
    (void)terminal_output(&screen->terminal, "ready", 5);
    while (screen->key_count == 0)
        turn(screen);
    terminal_close(&screen->terminal);
    _exit(0);
}

static void a_stopped_process_leaves_the_terminal_to_the_shell(void **state)
{
    (void)state;
    struct screen *screen = given_a_screen();
    const struct winsize size = {.ws_col = 100, .ws_row = 30};
    int status;
    pid_t child = given_a_child(screen, serve_until_a_key);
    expect_output(screen->master, "ready");
    assert_true(is_raw(screen->slave));
    kill(child, SIGTSTP);
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    assert_true(WIFSTOPPED(status));
    expect_mode_of_before(screen);
    assert_int_equal(ioctl(screen->master, TIOCSWINSZ, &size), 0);
    kill(child, SIGCONT);
    expect_output(screen->master, "resized"); /* said when the mode is taken again */
    assert_true(is_raw(screen->slave));
    type(screen, "\x01x", 2);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    expect_mode_of_before(screen);
    finish(screen);
}

static void in_the_background_the_terminal_is_the_shells(void **state)
{
    (void)state;
    struct screen *screen = given_a_screen();
    int status;
    pid_t shell = fork();
    if (shell == 0) {
        setsid();
        ioctl(screen->slave, TIOCSCTTY, 0);
        pid_t job = fork();
        if (job == 0) {
            setpgid(0, 0);
            open_on(screen, screen->slave, screen->slave);
            if (loop_turn(&screen->loop, 0) < 0 || is_raw(screen->slave))
                _exit(1);
            terminal_close(&screen->terminal);
            _exit(0);
        }
        _exit(waitpid(job, &status, WUNTRACED) == job && WIFEXITED(status) ? WEXITSTATUS(status) : 2);
    }
    assert_int_equal(waitpid(shell, &status, 0), shell);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    expect_mode_of_before(screen);
    finish(screen);
}

#define STREAM_BYTES 300000u

static void *write_all(void *argument)
{
    struct terminal *terminal = argument;
    for (uint32_t i = 0; i < STREAM_BYTES;) {
        uint8_t bytes[100];
        size_t count = size_min(sizeof(bytes), STREAM_BYTES - i);
        for (size_t k = 0; k < count; k++)
            bytes[k] = (uint8_t)((i + k) * 13);
        size_t n = terminal_output(terminal, bytes, count);
        i += (uint32_t)n;
        if (n == 0 && !is_readable(terminal_output_handle(terminal), TIMEOUT_MS))
            break;
    }
    return NULL;
}

static void open_on_loop(void *argument)
{
    struct screen *screen = argument;
    open_on(screen, -1, screen->slave);
}

static void close_on_loop(void *argument)
{
    terminal_close(&((struct screen *)argument)->terminal);
}

static void guests_threads_write_while_the_loop_shows(void **state)
{
    (void)state;
    struct screen *screen = given_a_screen();
    int ends[2];
    pthread_t writer;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    close(screen->slave);
    screen->slave = ends[1];
    assert_int_equal(loop_start_thread(&screen->loop, "loop"), 0);
    loop_call(&screen->loop, open_on_loop, screen);
    assert_int_equal(pthread_create(&writer, NULL, write_all, &screen->terminal), 0);
    for (uint32_t i = 0; i < STREAM_BYTES;) {
        uint8_t bytes[4096];
        assert_true(is_readable(ends[0], TIMEOUT_MS));
        ssize_t n = read(ends[0], bytes, sizeof(bytes));
        assert_true(n > 0);
        for (ssize_t k = 0; k < n; k++, i++)
            assert_int_equal(bytes[k], (uint8_t)(i * 13));
    }
    pthread_join(writer, NULL);
    loop_call(&screen->loop, close_on_loop, screen);
    close(ends[0]);
    finish(screen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_mode_is_raw_while_a_guest_runs_and_as_it_was_afterwards),
        cmocka_unit_test(what_is_typed_reaches_the_guest_unchanged_and_is_not_echoed),
        cmocka_unit_test(what_the_guest_shows_is_seen),
        cmocka_unit_test(the_escape_key_reaches_who_runs_the_guest),
        cmocka_unit_test(the_escape_key_is_heard_though_the_guest_reads_nothing),
        cmocka_unit_test(a_pipe_is_read_no_faster_than_the_guest_reads_and_has_no_escape),
        cmocka_unit_test(output_that_nobody_reads_holds_up_the_console_and_not_the_serial_port),
        cmocka_unit_test(a_terminal_that_takes_nothing_for_long_loses_what_does_not_fit),
        cmocka_unit_test(output_whose_reader_is_gone_is_dropped),
        cmocka_unit_test(nothing_is_left_behind_on_the_descriptions_of_the_shell),
        cmocka_unit_test(no_input_and_no_output_are_fine),
        cmocka_unit_test(files_are_read_and_written_where_the_shell_is),
        cmocka_unit_test(a_change_of_the_window_is_told),
        cmocka_unit_test(every_way_out_gives_the_mode_back),
        cmocka_unit_test(a_stopped_process_leaves_the_terminal_to_the_shell),
        cmocka_unit_test(in_the_background_the_terminal_is_the_shells),
        cmocka_unit_test(guests_threads_write_while_the_loop_shows),
    };
    signal(SIGPIPE, SIG_IGN);
    terminal_take_signals();
    return cmocka_run_group_tests_name("terminal", tests, NULL, NULL);
}
