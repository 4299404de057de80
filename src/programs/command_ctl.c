/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* backplane ctl: docs/man/backplane-ctl.1 is the reference. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "platform/linux/short_text.h"
#include "platform/linux/unix_socket.h"
#include "programs/command.h"
#include "programs/daemon.h"

/* A device answers between two turns; one that has not by then hangs. */
#define CTL_TIMEOUT_MS 30000

/* Far more than the statistics of 64 queues. */
#define CTL_ANSWER_BYTES_MAX (1u << 20)

/* Of devices; of machines. */
static const char *const ctl_commands[] = {"stats",  "resize",   "quit",       "status",        "pause",
                                           "resume", "snapshot", "device-add", "device-remove", "power-button"};

/* A command may have as many. */
#define CTL_WORDS_MAX 10

static int ctl_send(int handle, const json_t *command)
{
    char *text = json_dumps(command, JSON_COMPACT);
    if (!text)
        return -ENOMEM;
    size_t bytes = strlen(text);
    text[bytes] = '\n'; /* in place of the terminator: what follows is not looked at */
    ssize_t sent = send(handle, text, bytes + 1, MSG_NOSIGNAL);
    int r = sent == (ssize_t)bytes + 1 ? 0 : sent < 0 ? -errno : -EPIPE;
    free(text);
    return r;
}

/* Receive one line to @answer, terminated. */
static int ctl_receive(int handle, char *answer, size_t size)
{
    size_t received = 0;
    while (received < size - 1) {
        ssize_t count = recv(handle, answer + received, size - 1 - received, 0);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return count == 0 ? -ECONNRESET : errno == EAGAIN ? -ETIMEDOUT : -errno;
        received += (size_t)count;
        if (answer[received - 1] == '\n') {
            answer[received - 1] = '\0';
            return 0;
        }
    }
    return -EMSGSIZE;
}

static void ctl_print_value(const char *name, const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_STRING:
        printf("%s %s\n", name, json_string_value(value));
        break;
    case JSON_INTEGER:
        printf("%s %lld\n", name, (long long)json_integer_value(value));
        break;
    case JSON_REAL:
        printf("%s %g\n", name, json_real_value(value));
        break;
    default:
        printf("%s %s\n", name, json_is_true(value) ? "yes" : json_is_false(value) ? "no" : "-");
        break;
    }
}

static void ctl_print_object(json_t *object, const char *prefix);

/* "queues.0.popped 12": a line a value, easy for eyes and for grep. */
static void ctl_print(json_t *value, const char *name)
{
    char prefix[128];
    if (json_is_object(value)) {
        snprintf(prefix, sizeof(prefix), "%s.", name);
        ctl_print_object(value, prefix);
    } else if (json_is_array(value)) {
        for (size_t i = 0; i < json_array_size(value); i++) {
            snprintf(prefix, sizeof(prefix), "%s.%zu", name, i);
            ctl_print(json_array_get(value, i), prefix);
        }
    } else {
        ctl_print_value(name, value);
    }
}

static void ctl_print_object(json_t *object, const char *prefix)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        char name[128];
        if (*prefix == '\0' && strcmp(key, "ok") == 0)
            continue; /* the exit status says it */
        snprintf(name, sizeof(name), "%s%s", prefix, key);
        ctl_print(value, name);
    }
}

static int ctl_show(const char *text, bool as_json)
{
    json_error_t error;
    json_t *answer = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(answer)) {
        json_decref(answer);
        return daemon_complain(EXIT_FAILED, "ctl", "the answer is none that this version understands");
    }
    int status = EXIT_DONE;
    if (as_json)
        puts(text);
    else if (json_is_true(json_object_get(answer, "ok")))
        ctl_print_object(answer, "");
    if (!json_is_true(json_object_get(answer, "ok"))) {
        const char *reason = json_string_value(json_object_get(answer, "error"));
        status = daemon_complain(EXIT_FAILED, "ctl", "refused: %s", reason ? reason : "no reason given");
    }
    json_decref(answer);
    return status;
}

static const char *ctl_no_answer(int error)
{
    switch (error) {
    case -ECONNRESET:
    case -EPIPE:
        return "it hangs up; is it the --control-path of a device, and not its --socket-path?";
    case -ETIMEDOUT:
        return "Connection timed out; the device hangs, or serves somebody else there: see whether it still runs";
    case -EMSGSIZE:
        return "what comes is too long; is it the --control-path of a device?";
    default:
        return strerror(-error);
    }
}

static int ctl_ask(const char *path, const json_t *command, bool as_json)
{
    int handle = unix_socket_connect(path, CTL_TIMEOUT_MS);
    const char *shown = SHORTENED(path);
    if (handle == -EAGAIN)
        return daemon_complain(EXIT_FAILED, "ctl", "no answer from %s: %s", shown, ctl_no_answer(-ETIMEDOUT));
    if (handle < 0)
        return daemon_complain(EXIT_FAILED, "ctl", "cannot connect to %s: %s", shown, unix_socket_problem(handle));

    int status = EXIT_FAILED;
    char *answer = malloc(CTL_ANSWER_BYTES_MAX);
    int r = answer ? ctl_send(handle, command) : -ENOMEM;
    if (r == 0)
        r = ctl_receive(handle, answer, CTL_ANSWER_BYTES_MAX);
    if (r < 0)
        daemon_complain(0, "ctl", "no answer from %s: %s", shown, ctl_no_answer(r));
    else
        status = ctl_show(answer, as_json);
    free(answer);
    close(handle);
    return status;
}

/* NAME=VALUE: a text, or a truth when VALUE is true or false. */
static int ctl_add_word(json_t *command, const char *word)
{
    char name[32];
    const char *equals = strchr(word, '=');
    if (!equals || equals == word || (size_t)(equals - word) >= sizeof(name))
        return -EINVAL;
    memcpy(name, word, (size_t)(equals - word));
    name[equals - word] = '\0';
    json_t *value = strcmp(equals + 1, "true") == 0    ? json_true()
                    : strcmp(equals + 1, "false") == 0 ? json_false()
                                                       : json_string(equals + 1);
    return json_object_set_new(command, name, value) == 0 ? 0 : -EILSEQ;
}

int command_ctl(int count, char **arguments)
{
    char error[OPTIONS_ERROR_BYTES];
    bool as_json = false, shrink = false, help = false;
    struct option table[] = {
        option_flag("json", &as_json, "print the answer as it came"),
        option_flag("shrink", &shrink, "resize: also to a smaller size"),
        option_flag("help", &help, "print this text and exit"),
    };
    if (options_ask(arguments, count, "help")) {
        fputs(
            "usage: backplane ctl PATH COMMAND [NAME=VALUE ...] [options]\n\n"
            "Ask the device or machine whose --control-path is PATH. Devices: stats, resize, quit. Machines: status,\n"
            "pause, resume, snapshot, device-add, device-remove, resize, power-button, quit.\n\n",
            stdout);
        options_print(table, ARRAY_SIZE(table));
        return EXIT_DONE;
    }
    const char *words[CTL_WORDS_MAX];
    int word_count =
        options_parse(table, ARRAY_SIZE(table), arguments, count, words, ARRAY_SIZE(words), error, sizeof(error));
    if (word_count < 0)
        return daemon_complain(EXIT_WRONG_USE, "ctl", "%s", error);
    if (word_count < 2)
        return daemon_complain(EXIT_WRONG_USE, "ctl", "give the control socket and a command: PATH stats|resize|quit");
    bool known = false;
    for (size_t i = 0; i < ARRAY_SIZE(ctl_commands); i++)
        known = known || strcmp(words[1], ctl_commands[i]) == 0;
    if (!known)
        return daemon_complain(EXIT_WRONG_USE, "ctl",
                               "unknown command %s; devices have stats, resize and quit, machines also status, pause, "
                               "resume, snapshot, device-add, device-remove and power-button",
                               SHORTENED(words[1]));

    json_t *command = json_pack("{s:s}", "command", words[1]);
    for (int i = 2; command && i < word_count; i++) {
        int r = ctl_add_word(command, words[i]);
        if (r < 0) {
            json_decref(command);
            return r == -EINVAL
                       ? daemon_complain(EXIT_WRONG_USE, "ctl", "\"%s\" is not understood; give it as NAME=VALUE",
                                         SHORTENED(words[i]))
                       : daemon_complain(EXIT_FAILED, "ctl", "%s: it is no text in UTF-8", SHORTENED(words[i]));
        }
    }
    if (command && shrink)
        json_object_set_new(command, "shrink", json_true());
    int status = command ? ctl_ask(words[0], command, as_json) : daemon_complain(EXIT_FAILED, "ctl", "out of memory");
    json_decref(command);
    return status;
}
