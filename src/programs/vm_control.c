/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The commands of a machine's control socket. Each line is a JSON object with "command"; each answer is one with "ok",
 * and "error" when that is false. docs/man/backplane-vm.1 is the reference.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "platform/linux/short_text.h"
#include "programs/control_json.h"
#include "programs/vm.h"

static const char *vm_state_name(enum vmm_state state)
{
    switch (state) {
    case VMM_CREATED:
        return "created";
    case VMM_RUNNING:
        return "running";
    case VMM_PAUSED:
        return "paused";
    case VMM_CHANGING:
        return "changing";
    default:
        return "ended";
    }
}

static json_t *vm_device_list(struct vm *vm)
{
    json_t *list = json_array();
    for (struct vmm_device *device = vmm_device_next(vm->machine, NULL); list && device;
         device = vmm_device_next(vm->machine, device)) {
        char place[64];
        vmm_device_place(device, place, sizeof(place));
        json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "name", vmm_device_name(device), "type",
                                              vm_device_type(device), "place", place));
    }
    return list;
}

static json_t *vm_status(struct vm *vm, const json_t *command, struct control_later *later)
{
    struct vmm_statistics look;
    (void)command;
    (void)later;
    vmm_look(vm->machine, &look);
    return json_pack("{s:b, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "ok", 1, "state",
                     vm_state_name(vmm_state(vm->machine)), "cpus", (json_int_t)vm->options->processors, "memory_bytes",
                     (json_int_t)vm->options->memory_bytes, "exits", (json_int_t)look.exits_total, "mmio_exits",
                     (json_int_t)look.mmio_total, "pio_exits", (json_int_t)look.pio_total, "unclaimed_accesses",
                     (json_int_t)look.nobody_total, "resets", (json_int_t)look.resets_total, "pauses",
                     (json_int_t)look.pauses_total, "devices", vm_device_list(vm));
}

/* ---- what takes its time: one at a time */

static void vm_answer_later(struct vm *vm, json_t *answer)
{
    control_socket_answer(&vm->waiting, control_json_line(answer));
}

/* NULL: the answer is owed; else the refusal. */
static json_t *vm_owe(struct vm *vm, struct control_later *later)
{
    if (vm->waiting.control)
        return control_json_refuse("another command is still at work; try again when it is done");
    vm->waiting = *later;
    later->control = NULL;
    return NULL;
}

static void vm_pause_done(void *context, int result)
{
    vm_answer_later(context, result == 0 ? json_pack("{s:b, s:s}", "ok", 1, "state", "paused")
                                         : control_json_refuse("the guest ended, or reset itself, meanwhile"));
}

static json_t *vm_pause(struct vm *vm, const json_t *command, struct control_later *later)
{
    (void)command;
    json_t *refusal = vm_owe(vm, later);
    if (refusal)
        return refusal;
    int r = vmm_pause(vm->machine, vm_pause_done, vm);
    if (r == -EALREADY)
        vm_answer_later(vm, json_pack("{s:b, s:s}", "ok", 1, "state", "paused"));
    else if (r < 0)
        vm_answer_later(vm, control_json_refuse("the machine is on its way to another state"));
    return NULL;
}

static json_t *vm_resume(struct vm *vm, const json_t *command, struct control_later *later)
{
    (void)command;
    (void)later;
    if (vmm_resume(vm->machine) < 0)
        return control_json_refuse("the guest is not paused");
    return json_pack("{s:b, s:s}", "ok", 1, "state", "running");
}

/* The guest stands still while its memory is written: the control loop has nothing better to do. */
static json_t *vm_snapshot(struct vm *vm, const json_t *command, struct control_later *later)
{
    char error[VMM_ERROR_BYTES], shown[OPTIONS_ERROR_BYTES];
    const char *path = json_string_value(json_object_get(command, "path"));
    (void)later;
    if (!path)
        return control_json_refuse("where to? Give path");
    if (vmm_state(vm->machine) != VMM_PAUSED)
        return control_json_refuse("the guest runs; pause it first");
    /* Beside its place, and moved there when it is whole: what is there now stays until then. */
    char *partial = malloc(strlen(path) + sizeof(".partial"));
    if (!partial)
        return NULL;
    sprintf(partial, "%s.partial", path);
    int handle = open(partial, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    int r = handle < 0 ? -errno : vmm_save(vm->machine, handle, error, sizeof(error));
    if (handle < 0)
        snprintf(error, sizeof(error), "%s", strerror(-r));
    if (handle >= 0 && close(handle) != 0 && r == 0) {
        r = -errno;
        snprintf(error, sizeof(error), "%s", strerror(-r));
    }
    if (r == 0 && rename(partial, path) != 0) {
        r = -errno;
        snprintf(error, sizeof(error), "%s", strerror(-r));
    }
    if (r < 0 && handle >= 0)
        unlink(partial);
    free(partial);
    if (r == 0)
        return json_pack("{s:b, s:s}", "ok", 1, "path", path);
    snprintf(shown, sizeof(shown), "cannot write %s: %.300s", SHORTENED(path), error);
    return control_json_refuse(shown);
}

/* ---- devices */

static json_t *vm_device_add_command(struct vm *vm, const json_t *command, struct control_later *later)
{
    char error[VMM_ERROR_BYTES];
    const char *type = json_string_value(json_object_get(command, "type"));
    const char *name = json_string_value(json_object_get(command, "name"));
    const char *file = json_string_value(json_object_get(command, "file"));
    const char *socket = json_string_value(json_object_get(command, "socket"));
    bool read_only = json_is_true(json_object_get(command, "read_only"));
    int r;
    (void)later;
    if (!type || !name)
        return control_json_refuse("give type and name; of a disk file, of a vhost-user device socket");
    if (socket)
        r = vm_add_vhost_user(vm, name, type, socket, VMM_TRANSPORT_SLOT, error, sizeof(error));
    else if (strcmp(type, "blk") == 0 && file)
        r = vm_add_disk(vm, name, file, read_only, VMM_TRANSPORT_SLOT, error, sizeof(error));
    else if (strcmp(type, "rng") == 0)
        r = vm_add_rng(vm, name, VMM_TRANSPORT_SLOT, error, sizeof(error));
    else
        return control_json_refuse("that type wants something else: blk a file, rng nothing, every other one a socket");
    if (r < 0)
        return control_json_refuse(error);
    char place[64];
    vmm_device_place(vmm_device_find(vm->machine, name), place, sizeof(place));
    return json_pack("{s:b, s:s, s:s}", "ok", 1, "name", name, "place", place);
}

static void vm_device_removed(void *context, int result)
{
    (void)result;
    vm_answer_later(context, json_pack("{s:b}", "ok", 1));
}

static json_t *vm_device_remove_command(struct vm *vm, const json_t *command, struct control_later *later)
{
    const char *name = json_string_value(json_object_get(command, "name"));
    struct vmm_device *device = name ? vmm_device_find(vm->machine, name) : NULL;
    if (!device)
        return control_json_refuse("there is no device of that name; status lists them");
    json_t *refusal = vm_owe(vm, later);
    if (refusal)
        return refusal;
    bool force = json_is_true(json_object_get(command, "force"));
    int r = vmm_device_remove(vm->machine, device, force, vm_device_removed, vm);
    if (r == -EINVAL)
        vm_answer_later(vm, control_json_refuse("it is not in a slot: it stays until the machine ends"));
    else if (r < 0)
        vm_answer_later(
            vm, control_json_refuse("the guest has been asked already, or does not run; force takes it out at once"));
    return NULL;
}

static json_t *vm_resize(struct vm *vm, const json_t *command, struct control_later *later)
{
    char error[VMM_ERROR_BYTES];
    uint64_t bytes;
    const char *name = json_string_value(json_object_get(command, "name"));
    (void)later;
    if (!name)
        return control_json_refuse("which disk? Give name");
    int r = vm_resize_disk(vm, name, json_is_true(json_object_get(command, "shrink")), &bytes, error, sizeof(error));
    if (r < 0)
        return control_json_refuse(error);
    return json_pack("{s:b, s:I, s:b}", "ok", 1, "size_bytes", (json_int_t)bytes, "changed", r > 0);
}

static json_t *vm_power_button(struct vm *vm, const json_t *command, struct control_later *later)
{
    (void)command;
    (void)later;
    if (vmm_power_button(vm->machine) < 0)
        return control_json_refuse("this machine has no power button");
    return json_pack("{s:b}", "ok", 1);
}

static json_t *vm_quit_command(struct vm *vm, const json_t *command, struct control_later *later)
{
    (void)command;
    (void)later;
    if (vm->started && !vm->ended)
        vmm_quit(vm->machine);
    return json_pack("{s:b}", "ok", 1);
}

static const struct {
    const char *name;
    json_t *(*serve)(struct vm *vm, const json_t *command, struct control_later *later);
} vm_commands[] = {
    {"status", vm_status},
    {"pause", vm_pause},
    {"resume", vm_resume},
    {"snapshot", vm_snapshot},
    {"device-add", vm_device_add_command},
    {"device-remove", vm_device_remove_command},
    {"resize", vm_resize},
    {"power-button", vm_power_button},
    {"quit", vm_quit_command},
};

char *vm_answer(void *context, struct control_later *later, const char *line, size_t length)
{
    struct vm *vm = context;
    json_t *refusal, *command = control_json_command(line, length, &refusal);
    if (!command)
        return control_json_line(refusal);
    const char *name = json_string_value(json_object_get(command, "command"));
    json_t *answer = NULL;
    size_t i = 0;
    while (i < ARRAY_SIZE(vm_commands) && (!name || strcmp(name, vm_commands[i].name) != 0))
        i++;
    if (i == ARRAY_SIZE(vm_commands))
        answer = control_json_refuse("unknown command; there are status, pause, resume, snapshot, device-add, "
                                     "device-remove, resize, power-button and quit");
    else
        answer = vm_commands[i].serve(vm, command, later);
    json_decref(command);
    return answer ? control_json_line(answer) : NULL;
}
