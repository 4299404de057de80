/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#define _GNU_SOURCE
#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#define DAEMON_ARGUMENTS_MAX 32

const char *daemon_program;

void daemon_prepare(struct daemon *daemon, uint64_t disk_bytes)
{
    *daemon = (struct daemon){.folder = "/tmp/backplane-test-XXXXXX"};
    assert_non_null(mkdtemp(daemon->folder));
    snprintf(daemon->socket_path, sizeof(daemon->socket_path), "%s/vhost.sock", daemon->folder);
    snprintf(daemon->control_path, sizeof(daemon->control_path), "%s/control.sock", daemon->folder);
    if (disk_bytes == 0)
        return;
    snprintf(daemon->disk_path, sizeof(daemon->disk_path), "%s/disk.img", daemon->folder);
    int handle = open(daemon->disk_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(handle >= 0);
    assert_int_equal(ftruncate(handle, (off_t)disk_bytes), 0);
    close(handle);
}

void daemon_start(struct daemon *daemon, const char *device, const char *const *options)
{
    char socket_option[128], control_option[128], disk_option[128];
    const char *arguments[DAEMON_ARGUMENTS_MAX] = {daemon_program, device, socket_option, control_option};
    unsigned count = 4;
    snprintf(socket_option, sizeof(socket_option), "--socket-path=%s", daemon->socket_path);
    snprintf(control_option, sizeof(control_option), "--control-path=%s", daemon->control_path);
    if (daemon->disk_path[0] != '\0') {
        snprintf(disk_option, sizeof(disk_option), "--blk-file=%s", daemon->disk_path);
        arguments[count++] = disk_option;
    }
    for (; options != NULL && *options != NULL; options++) {
        assert_true(count < DAEMON_ARGUMENTS_MAX - 1);
        arguments[count++] = *options;
    }
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that is ended leaves nothing behind */
        execv(daemon_program, (char *const *)(uintptr_t)arguments);
        _exit(127);
    }
    daemon->pid = pid;
}

void daemon_assert_alive(const struct daemon *daemon)
{
    int status;
    if (waitpid(daemon->pid, &status, WNOHANG) != 0)
        fail_msg("the daemon has ended (wait status 0x%x)", (unsigned)status);
}

static int connect_control(const struct daemon *daemon)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, daemon->control_path, strlen(daemon->control_path));
    for (int waited_ms = 0; waited_ms < DAEMON_TIMEOUT_MS; waited_ms += 5) {
        int handle = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(handle >= 0);
        if (connect(handle, (struct sockaddr *)&address, sizeof(address)) == 0)
            return handle;
        close(handle);
        daemon_assert_alive(daemon);
        poll(NULL, 0, 5);
    }
    fail_msg("nobody answers on the control socket");
    return -1;
}

json_t *daemon_stats(const struct daemon *daemon)
{
    static const char command[] = "{\"command\":\"stats\"}\n";
    int handle = connect_control(daemon);
    assert_int_equal(send(handle, command, sizeof(command) - 1, MSG_NOSIGNAL), sizeof(command) - 1);
    FILE *stream = fdopen(handle, "r");
    assert_non_null(stream);
    char *line = NULL;
    size_t room = 0;
    if (getline(&line, &room, stream) <= 0)
        fail_msg("the control socket answers nothing to stats");
    json_error_t error;
    json_t *stats = json_loads(line, 0, &error);
    if (stats == NULL)
        fail_msg("stats are no JSON: %s", error.text);
    free(line);
    fclose(stream);
    return stats;
}

void daemon_stop(struct daemon *daemon)
{
    int status;
    assert_int_equal(kill(daemon->pid, SIGTERM), 0);
    assert_int_equal(waitpid(daemon->pid, &status, 0), daemon->pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("the daemon did not end in order (wait status 0x%x)", (unsigned)status);
    daemon->pid = 0;
}

void daemon_kill(struct daemon *daemon)
{
    int status;
    assert_int_equal(kill(daemon->pid, SIGKILL), 0);
    assert_int_equal(waitpid(daemon->pid, &status, 0), daemon->pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    daemon->pid = 0;
}

void daemon_done(struct daemon *daemon)
{
    unlink(daemon->socket_path);
    unlink(daemon->control_path);
    if (daemon->disk_path[0] != '\0')
        unlink(daemon->disk_path);
    rmdir(daemon->folder);
}
