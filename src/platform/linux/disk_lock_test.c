/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Who may use an image together: two of ours, and ours with the real qemu-io and qemu-storage-daemon, where they are
 * installed. Nothing is waited for by the clock: qemu-io answers a command once it has the image, the daemon goes into
 * the background once it has.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "platform/linux/disk_image.h"

static char error[DISK_IMAGE_ERROR_BYTES];
static char folder[64];
static char path[80];

static int make_image(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/backplane-lock-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/disk", folder);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, 1 << 20), 0);
    close(fd);
    return 0;
}

static int remove_image(void **state)
{
    (void)state;
    unlink(path);
    rmdir(folder);
    return 0;
}

static int open_image(struct disk_image *image, bool read_only)
{
    const struct disk_image_options options = {.path = path, .read_only = read_only};
    return disk_image_open(image, &options, error, sizeof(error));
}

/* Is byte @offset of the image locked by somebody? */
static bool is_held(int fd, off_t offset)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = offset, .l_len = 1};
    assert_int_equal(fcntl(fd, F_OFD_GETLK, &lock), 0);
    return lock.l_type != F_UNLCK;
}

static void says_who_is_in_the_way(void)
{
    assert_non_null(strstr(error, path));
    assert_non_null(strstr(error, "another process"));
    assert_non_null(strstr(error, "stop that one first"));
    assert_null(strchr(error, '\n'));
}

static void a_second_writer_is_refused_until_the_first_is_gone(void **state)
{
    (void)state;
    struct disk_image first;
    struct disk_image second;
    assert_int_equal(open_image(&first, false), 0);
    assert_int_equal(open_image(&second, false), -EBUSY);
    assert_int_equal(second.fd, -1);
    says_who_is_in_the_way();
    disk_image_close(&first);
    assert_int_equal(open_image(&second, false), 0);
    disk_image_close(&second);
}

/* Holds what a writer uses, until somebody is seen to try for the image. */
static void *hold_until_someone_tries(void *argument)
{
    int fd = *(int *)argument;
    int looker = open(path, O_RDONLY | O_CLOEXEC);
    while (!is_held(looker, 201))
        sched_yield();
    close(looker);
    close(fd);
    return NULL;
}

static void who_has_patience_gets_the_image_when_it_is_free(void **state)
{
    (void)state;
    struct disk_image image;
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 101, .l_len = 1};
    struct disk_image_options options = {.path = path, .lock_wait_ms = 1};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    pthread_t holder;
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    assert_int_equal(disk_image_open(&image, &options, error, sizeof(error)), -EBUSY);
    says_who_is_in_the_way();

    options.lock_wait_ms = 60000;
    assert_int_equal(pthread_create(&holder, NULL, hold_until_someone_tries, &fd), 0);
    assert_int_equal(disk_image_open(&image, &options, error, sizeof(error)), 0);
    assert_int_equal(pthread_join(holder, NULL), 0);
    assert_int_equal(open_image(&(struct disk_image){0}, false), -EBUSY); /* it does have its locks */
    disk_image_close(&image);
}

static void many_may_read_together(void **state)
{
    (void)state;
    struct disk_image readers[3];
    for (size_t i = 0; i < ARRAY_SIZE(readers); i++)
        assert_int_equal(open_image(&readers[i], true), 0);
    for (size_t i = 0; i < ARRAY_SIZE(readers); i++)
        disk_image_close(&readers[i]);
}

static void a_reader_and_a_writer_exclude_each_other(void **state)
{
    (void)state;
    struct disk_image reader;
    struct disk_image writer;
    assert_int_equal(open_image(&reader, true), 0);
    assert_int_equal(open_image(&writer, false), -EBUSY);
    says_who_is_in_the_way();
    disk_image_close(&reader);
    assert_int_equal(open_image(&writer, false), 0);
    assert_int_equal(open_image(&reader, true), -EBUSY);
    says_who_is_in_the_way();
    disk_image_close(&writer);
}

static void the_bytes_that_are_held_are_those_that_qemu_looks_at(void **state)
{
    (void)state;
    struct disk_image image;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    for (int read_only = 0; read_only < 2; read_only++) {
        assert_int_equal(open_image(&image, read_only), 0);
        for (off_t i = 0; i < 300; i++) /* 0: consistent read, 1: write */
            assert_int_equal(is_held(fd, i), i == 100 || (i == 101 && !read_only) || i == 201);
        disk_image_close(&image);
    }
    close(fd);
}

static void who_forbids_others_to_read_is_heard(void **state)
{
    (void)state;
    struct disk_image image;
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 200, .l_len = 1};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    assert_int_equal(open_image(&image, true), -EBUSY);
    assert_int_equal(open_image(&image, false), -EBUSY);
    close(fd);
}

static void without_locks_nobody_is_refused(void **state)
{
    (void)state;
    struct disk_image first;
    struct disk_image second;
    const struct disk_image_options options = {.path = path, .without_lock = true};
    assert_int_equal(open_image(&first, false), 0);
    assert_int_equal(disk_image_open(&second, &options, error, sizeof(error)), 0);
    disk_image_close(&first);
    disk_image_close(&second);
}

/* Run a shell command with the image's path for %s. Its exit status. */
static int shell(const char *format)
{
    char command[512];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* each is a literal at its caller */
    snprintf(command, sizeof(command), format, path, folder);
#pragma GCC diagnostic pop
    return system(command);
}

static void skip_without(const char *command)
{
    if (shell(command) != 0) {
        print_message("skipped: QEMU's tools are not installed\n");
        skip();
    }
}

static void qemu_may_not_write_what_we_serve(void **state)
{
    (void)state;
    skip_without("command -v qemu-io >/dev/null");
    struct disk_image image;
    assert_int_equal(open_image(&image, false), 0);
    assert_int_not_equal(shell("qemu-io -f raw -c 'write 0 512' %s >/dev/null 2>%s/log"), 0);
    assert_int_equal(shell("grep -q 'Failed to get .*\"write\" lock' %2$s/log && rm %2$s/log; : %1$s"), 0);
    disk_image_close(&image);
    assert_int_equal(shell("qemu-io -f raw -c 'write 0 512' %s >/dev/null 2>&1"), 0);
}

static void qemu_may_not_write_what_we_only_read(void **state)
{
    (void)state;
    skip_without("command -v qemu-io >/dev/null");
    struct disk_image image;
    assert_int_equal(open_image(&image, true), 0);
    assert_int_not_equal(shell("qemu-io -f raw -c 'write 0 512' %s >/dev/null 2>&1"), 0);
    assert_int_equal(shell("qemu-io -r -f raw -c 'read 0 512' %s >/dev/null 2>&1"), 0);
    disk_image_close(&image);
}

static void qemu_may_look_at_what_we_serve(void **state)
{
    (void)state;
    skip_without("command -v qemu-img >/dev/null");
    struct disk_image image;
    assert_int_equal(open_image(&image, false), 0);
    assert_int_equal(shell("qemu-img info -f raw %s >/dev/null 2>&1"), 0);
    disk_image_close(&image);
}

/* A qemu-io that has the image open until it is let go. */
struct qemu_io {
    FILE *commands, *answers;
    pid_t pid;
};

static struct qemu_io hold_by_qemu_io(const char *option)
{
    int down[2];
    int up[2];
    assert_int_equal(pipe2(down, O_CLOEXEC), 0);
    assert_int_equal(pipe2(up, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(down[0], 0);
        dup2(up[1], 1);
        execlp("qemu-io", "qemu-io", option, "-f", "raw", path, (char *)NULL);
        _exit(127);
    }
    close(down[0]);
    close(up[1]);
    struct qemu_io holder = {.commands = fdopen(down[1], "w"), .answers = fdopen(up[0], "r"), .pid = pid};
    /* An answer means that it has the image. */
    fputs("length\n", holder.commands);
    fflush(holder.commands);
    char line[128] = "";
    while (strstr(line, "1 MiB") == NULL)
        assert_non_null(fgets(line, sizeof(line), holder.answers));
    return holder;
}

static void let_go(struct qemu_io *holder)
{
    fclose(holder->commands); /* it ends with its input */
    while (fgetc(holder->answers) != EOF)
        ;
    fclose(holder->answers);
    assert_int_equal(waitpid(holder->pid, NULL, 0), holder->pid);
}

static void we_may_not_touch_what_qemu_writes(void **state)
{
    (void)state;
    skip_without("command -v qemu-io >/dev/null");
    struct disk_image image;
    struct qemu_io holder = hold_by_qemu_io("--cache=writeback");
    assert_int_equal(open_image(&image, false), -EBUSY);
    says_who_is_in_the_way();
    assert_int_equal(open_image(&image, true), -EBUSY);
    says_who_is_in_the_way();
    let_go(&holder);
    assert_int_equal(open_image(&image, false), 0);
    disk_image_close(&image);
}

static void we_may_read_what_qemu_reads(void **state)
{
    (void)state;
    skip_without("command -v qemu-io >/dev/null");
    struct disk_image image;
    struct qemu_io holder = hold_by_qemu_io("-r");
    assert_int_equal(open_image(&image, true), 0);
    disk_image_close(&image);
    let_go(&holder);
}

static pid_t storage_daemon(void)
{
    long pid = 0;
    if (shell("cd %2$s && qemu-storage-daemon --daemonize --pidfile pid --blockdev file,node-name=disk,filename=%1$s "
              "--export vhost-user-blk,id=disk,node-name=disk,writable=on,addr.type=unix,addr.path=%2$s/socket "
              ">/dev/null 2>&1") != 0)
        return -1;
    char pid_path[80];
    snprintf(pid_path, sizeof(pid_path), "%s/pid", folder);
    FILE *file = fopen(pid_path, "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%ld", &pid), 1);
    fclose(file);
    return (pid_t)pid;
}

static void we_may_not_write_what_a_storage_daemon_exports(void **state)
{
    (void)state;
    skip_without("command -v qemu-storage-daemon >/dev/null");
    struct disk_image image;
    pid_t daemon = storage_daemon();
    assert_true(daemon > 0);
    int process = (int)syscall(SYS_pidfd_open, daemon, 0);
    int r = open_image(&image, false);
    kill(daemon, SIGTERM);
    if (process >= 0) { /* it is not our child, so this is how to hear of its end */
        struct pollfd poll_fd = {.fd = process, .events = POLLIN};
        assert_int_equal(poll(&poll_fd, 1, 20000), 1);
        close(process);
    }
    shell("rm -f %2$s/pid %2$s/socket; : %1$s");
    assert_int_equal(r, -EBUSY);
    says_who_is_in_the_way();
    assert_int_equal(open_image(&image, false), 0);
    disk_image_close(&image);
}

#define HERE(test) cmocka_unit_test_setup_teardown(test, make_image, remove_image)

int main(void)
{
    const struct CMUnitTest tests[] = {
        HERE(a_second_writer_is_refused_until_the_first_is_gone),
        HERE(who_has_patience_gets_the_image_when_it_is_free),
        HERE(many_may_read_together),
        HERE(a_reader_and_a_writer_exclude_each_other),
        HERE(the_bytes_that_are_held_are_those_that_qemu_looks_at),
        HERE(who_forbids_others_to_read_is_heard),
        HERE(without_locks_nobody_is_refused),
        HERE(qemu_may_not_write_what_we_serve),
        HERE(qemu_may_not_write_what_we_only_read),
        HERE(qemu_may_look_at_what_we_serve),
        HERE(we_may_not_touch_what_qemu_writes),
        HERE(we_may_read_what_qemu_reads),
        HERE(we_may_not_write_what_a_storage_daemon_exports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
