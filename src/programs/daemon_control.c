/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The commands of the control socket. Each line is a JSON object with "command"; each answer is one with "ok", and
 * "error" when that is false. docs/man/backplane-ctl.1 is the reference.
 */
#include <errno.h>

#include "programs/control_json.h"
#include "programs/daemon.h"

static const char *daemon_state_name(const struct vhost_user_server *server)
{
    switch (server->state) {
    case VHOST_USER_SERVER_WAITING:
        return "waiting";
    case VHOST_USER_SERVER_CONNECTED:
        return "connected";
    case VHOST_USER_SERVER_LEAVING:
        return "leaving";
    default:
        return "ended";
    }
}

static json_t *daemon_queue_object(unsigned index, const struct server_queue_statistics *look)
{
    return json_pack("{s:i, s:b, s:b, s:I, s:I, s:I, s:I, s:s?, s:I, s:I, s:I, s:I, s:I}", "index", (int)index,
                     "running", look->running, "broken", look->broken, "in_flight", (json_int_t)look->in_flight,
                     "popped", (json_int_t)look->popped_total, "pushed", (json_int_t)look->pushed_total, "times_broken",
                     (json_int_t)look->broken_total, "broken_reason", look->broken_reason, "sleeps",
                     (json_int_t)look->sleeps_total, "looks", (json_int_t)look->looks_total, "looks_paid",
                     (json_int_t)look->looks_paid_total, "looked_ns", (json_int_t)look->looked_ns, "sleep_price_ns",
                     (json_int_t)look->sleep_price_ns);
}

/* The queues that a front end has ever used. */
static json_t *daemon_queue_statistics(struct daemon *daemon)
{
    json_t *list = json_array();
    for (unsigned i = 0; list && i < daemon->server.queue_count; i++) {
        struct server_queue_statistics look;
        if (!daemon->server.server_queues[i].loop)
            continue;
        vhost_user_server_look(&daemon->server, i, &look);
        json_array_append_new(list, daemon_queue_object(i, &look));
    }
    return list;
}

/*
 * "SET_MEM_TABLE: a region overlaps another", of the last message that was refused, or "header: not version 1", of the
 * last front end whose messages could not be followed; null before the first.
 */
static json_t *daemon_last_refused(const struct vhost_user_server *server)
{
    const struct vhost_user_backend *backend = &server->backend;
    if (server->refused_reason)
        return json_string(server->refused_reason);
    if (!backend->refused_reason)
        return json_null();
    return json_sprintf("%s: %s", vhost_user_request_name(backend->refused_request), backend->refused_reason);
}

static json_t *daemon_statistics(struct daemon *daemon, const json_t *command)
{
    const struct vhost_user_server *server = &daemon->server;
    (void)command;
    json_t *own = daemon->device->statistics(daemon->device->context);
    return json_pack("{s:b, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:o, s:o, s:o}", "ok", 1, "device", daemon->device->name,
                     "polling", daemon_pollings[daemon->options->polling], "state", daemon_state_name(server),
                     "front_ends", (json_int_t)server->connections_total, "front_ends_refused",
                     (json_int_t)server->refused_total, "messages", (json_int_t)server->backend.messages_total,
                     "messages_refused", (json_int_t)server->backend.refused_total, "last_refused",
                     daemon_last_refused(server), daemon->device->name, own ? own : json_null(), "queues",
                     daemon_queue_statistics(daemon));
}

static json_t *daemon_resize(struct daemon *daemon, const json_t *command)
{
    char error[OPTIONS_ERROR_BYTES];
    uint64_t bytes;
    if (!daemon->device->resize)
        return control_json_refuse("this device has no size");
    bool may_shrink = json_is_true(json_object_get(command, "shrink"));
    int r = daemon->device->resize(daemon->device->context, may_shrink, &bytes, error, sizeof(error));
    if (r < 0)
        return control_json_refuse(error);
    bool told = r > 0 && vhost_user_server_config_changed(&daemon->server);
    return json_pack("{s:b, s:I, s:b, s:b}", "ok", 1, "size_bytes", (json_int_t)bytes, "changed", r > 0,
                     "front_end_told", told);
}

static json_t *daemon_quit(struct daemon *daemon, const json_t *command)
{
    (void)command;
    daemon_stop(daemon);
    return json_pack("{s:b}", "ok", 1);
}

static const struct {
    const char *name;
    json_t *(*serve)(struct daemon *daemon, const json_t *command);
} daemon_commands[] = {
    {"stats", daemon_statistics},
    {"resize", daemon_resize},
    {"quit", daemon_quit},
};

char *daemon_answer(void *context, struct control_later *later, const char *line, size_t length)
{
    struct daemon *daemon = context;
    json_t *answer = NULL, *command = control_json_command(line, length, &answer);
    (void)later;
    if (!command)
        return control_json_line(answer);
    const char *name = json_string_value(json_object_get(command, "command"));
    size_t i = 0;
    while (i < ARRAY_SIZE(daemon_commands) && (!name || strcmp(name, daemon_commands[i].name) != 0))
        i++;
    if (i == ARRAY_SIZE(daemon_commands))
        answer = control_json_refuse("unknown command; there are stats, resize and quit");
    else
        answer = daemon_commands[i].serve(daemon, command);
    json_decref(command);
    return control_json_line(answer);
}
