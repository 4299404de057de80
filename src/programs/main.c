/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The program: find the command, run it. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "platform/linux/short_text.h"
#include "programs/command.h"
#include "programs/daemon.h"

static const struct {
    const char *name;
    int (*run)(int count, char **arguments);
    const char *help;
} commands[] = {
    {"blk", command_blk, "serve a file or block device as a virtio disk"},
    {"rng", command_rng, "serve entropy"},
    {"console", command_console, "serve a console"},
    {"vm", command_vm, "run a virtual machine on KVM"},
    {"ctl", command_ctl, "ask a running device or machine"},
    {"probe", command_probe, "say what this host offers to machines"},
};

/* "blk, rng, … and probe" */
static void list_commands(char *text, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < ARRAY_SIZE(commands) && used < size; i++) {
        const char *before = i == 0 ? "" : i == ARRAY_SIZE(commands) - 1 ? " and " : ", ";
        used += (size_t)snprintf(text + used, size - used, "%s%s", before, commands[i].name);
    }
}

static void print_help(void)
{
    puts("usage: backplane COMMAND [options]\n\n"
         "Devices for virtual machines, by vhost-user.\n");
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
        printf("  %-9s%s\n", commands[i].name, commands[i].help);
    puts("\n  --help, --version\n\n"
         "`backplane COMMAND --help` lists a command's options.");
}

/* What was printed must have arrived, or the exit status would lie. */
static int finish(int status)
{
    if (fflush(stdout) != 0 || ferror(stdout))
        return daemon_complain(EXIT_FAILED, "", "cannot write to standard output");
    return status;
}

/*
 * Were one of the three standard descriptors closed, the next file to be opened would take its place: and a complaint
 * would be written to somebody's disk.
 */
static bool hold_standard_handles(void)
{
    int handle;
    do
        handle = open("/dev/null", O_RDWR);
    while (handle >= 0 && handle <= STDERR_FILENO);
    if (handle >= 0)
        close(handle);
    return handle >= 0;
}

int main(int count, char **arguments)
{
    if (!hold_standard_handles())
        return EXIT_FAILED; /* and nowhere to say so */
    char list[128];
    list_commands(list, sizeof(list));
    const char *name = count > 1 ? arguments[1] : NULL;
    if (!name)
        return daemon_complain(EXIT_WRONG_USE, "", "which command? There are %s; --help says more", list);
    if (strcmp(name, "--help") == 0 || strcmp(name, "help") == 0) {
        print_help();
        return finish(EXIT_DONE);
    }
    if (strcmp(name, "--version") == 0) {
        puts("backplane " BACKPLANE_VERSION);
        return finish(EXIT_DONE);
    }
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        if (strcmp(name, commands[i].name) == 0)
            return finish(commands[i].run(count - 2, arguments + 2));
    }
    return daemon_complain(EXIT_WRONG_USE, "", "unknown command %s; there are %s", SHORTENED(name), list);
}
