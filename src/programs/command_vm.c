/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * The main thread runs the control loop: terminal, control socket, signals, vhost-user back ends, and the machine's
 * life. Processors and queues have threads of their own, under seccomp. SIGTERM and SIGINT pull the plug, once I/O in
 * flight is done; a second one does not wait.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "platform/linux/short_text.h"
#include "programs/command.h"
#include "programs/vm.h"

#define VM_MEMORY_DEFAULT (UINT64_C(512) << 20)
#define VM_SLOTS_DEFAULT 4
#define VM_CONTROL_MODE 0600

static const char *const vm_consoles[] = {"serial", "virtio", "off", NULL};
static const char *const vm_transports[] = {"pci", "mmio", NULL};
static const enum vmm_transport vm_transport_meanings[] = {VMM_TRANSPORT_PCI, VMM_TRANSPORT_MMIO};
static const char *const vm_on_resets[] = {"restart", "exit", NULL};
static const char *const vm_gics[] = {"auto", "2", "3", NULL};
static const unsigned vm_gic_meanings[] = {0, 2, 3};
static const char *const vm_ons[] = {"on", "off", NULL};

/* ---- the terminal, and the serial port */

static void vm_serial_output(void *context, const uint8_t *bytes, size_t count)
{
    struct vm *vm = context;
    if (vm->has_terminal && vm->options->console == VM_CONSOLE_SERIAL)
        terminal_output_or_drop(&vm->terminal, bytes, count);
}

static void vm_serial_room(void *context)
{
    struct vm *vm = context;
    loop_post(&vm->loop, &vm->serial_room);
}

/* Give the serial port what was typed, as far as it has room. */
static void vm_feed_serial(struct vm *vm)
{
    for (;;) {
        if (vm->input_count == 0)
            vm->input_count = terminal_input(&vm->terminal, vm->input, sizeof(vm->input));
        if (vm->input_count == 0)
            return;
        size_t taken = vmm_serial_input(vm->machine, vm->input, vm->input_count);
        vm->input_count -= taken;
        memmove(vm->input, vm->input + taken, vm->input_count);
        if (vm->input_count > 0)
            return; /* serial_room comes */
    }
}

static void vm_serial_room_came(struct loop_message *message)
{
    vm_feed_serial(container_of(message, struct vm, serial_room));
}

static void vm_input_ready(struct loop_watch *watch, unsigned events)
{
    struct vm *vm = container_of(watch, struct vm, input_watch);
    (void)events;
    if (vm->input_count > 0)
        terminal_input_rest(&vm->terminal);
    vm_feed_serial(vm);
}

static void vm_quit(struct vm *vm)
{
    if (vm->started && !vm->ended)
        vmm_quit(vm->machine);
}

static void vm_paused(void *context, int result)
{
    struct vm *vm = context;
    if (result == 0)
        log_line(&vm->log, LOG_LEVEL_INFO, "the guest is paused");
}

void vm_toggle_pause(struct vm *vm)
{
    if (vmm_state(vm->machine) == VMM_PAUSED)
        vmm_resume(vm->machine);
    else
        vmm_pause(vm->machine, vm_paused, vm);
}

static void vm_key(void *context, enum terminal_key key)
{
    struct vm *vm = context;
    switch (key) {
    case TERMINAL_QUIT:
        vm_quit(vm);
        break;
    case TERMINAL_PAUSE:
        vm_toggle_pause(vm);
        break;
    case TERMINAL_POWER:
        vmm_power_button(vm->machine);
        break;
    default:
        break;
    }
}

static void vm_resized(void *context, uint16_t cols, uint16_t rows)
{
    vm_console_resized(context, cols, rows);
}

static int vm_open_terminal(struct vm *vm)
{
    if (vm->options->console == VM_CONSOLE_OFF)
        return 0;
    const struct terminal_options options = {
        .loop = &vm->loop,
        .input = STDIN_FILENO,
        .output = STDOUT_FILENO,
        .escape = TERMINAL_ESCAPE_DEFAULT,
        .name = "backplane vm",
        .key = vm_key,
        .resized = vm_resized,
        .context = vm,
    };
    int r = terminal_open(&vm->terminal, &options);
    if (r < 0)
        return daemon_complain(r, "vm", "cannot use the terminal: %s", strerror(-r));
    vm->has_terminal = true;
    return 0;
}

/* ---- signals */

static void vm_signal_set(sigset_t *ret_signals)
{
    sigemptyset(ret_signals);
    sigaddset(ret_signals, SIGTERM);
    sigaddset(ret_signals, SIGINT);
    sigaddset(ret_signals, SIGHUP);
}

static void vm_signalled(struct loop_watch *watch, unsigned events)
{
    struct vm *vm = container_of(watch, struct vm, signal_watch);
    struct signalfd_siginfo information;
    (void)events;
    if (read(watch->handle, &information, sizeof(information)) != sizeof(information))
        return;
    if (vm->ended)
        return;
    if (vm->end == VMM_END_QUIT) {
        log_line(&vm->log, LOG_LEVEL_ERROR, "ended before all requests had finished");
        if (vm->has_terminal)
            terminal_close(&vm->terminal);
        _exit(EXIT_FAILED);
    }
    vm->end = VMM_END_QUIT;
    vm_quit(vm);
}

static int vm_watch_signals(struct vm *vm)
{
    sigset_t signals;
    vm_signal_set(&signals);
    int handle = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    int r = handle < 0 ? -errno : loop_watch(&vm->loop, &vm->signal_watch, handle, LOOP_READABLE, vm_signalled);
    if (r < 0)
        daemon_complain(0, "vm", "cannot wait for signals: %s", strerror(-r));
    return r;
}

static int vm_open_control(struct vm *vm)
{
    struct unix_listener listener;
    const char *path = vm->options->control_path;
    if (!path)
        return 0;
    int r = unix_listener_open(&listener, path, VM_CONTROL_MODE);
    if (r < 0)
        return daemon_complain(r, "vm", "cannot listen at %s: %s", SHORTENED(path), unix_listener_problem(r));
    vm->controlled = true;
    r = control_socket_open(&vm->control, &vm->loop, &listener, vm_answer, vm);
    return r < 0 ? daemon_complain(r, "vm", "cannot watch the control socket: %s", strerror(-r)) : 0;
}

/* ---- the machine */

static void vm_ended(void *context, enum vmm_end how, const char *text)
{
    struct vm *vm = context;
    vm->ended = true;
    vm->end = how;
    if (how == VMM_END_CRASH || how == VMM_END_FAILED)
        log_line(&vm->log, LOG_LEVEL_ERROR, "the guest %s: %s", how == VMM_END_CRASH ? "crashed" : "cannot go on",
                 text);
    else
        log_line(&vm->log, LOG_LEVEL_INFO, "the guest has ended: %s", text);
    loop_stop(&vm->loop);
}

static int vm_create(struct vm *vm)
{
    const struct vm_options *options = vm->options;
    char error[VMM_ERROR_BYTES];
    uint64_t huge_page_bytes = 0;
    int r;
    if (options->hugepages && options_parse_bytes(options->hugepages, &huge_page_bytes) < 0)
        return daemon_complain(-EINVAL, "vm", "--hugepages=%s: give a size, 2M or 1G", SHORTENED(options->hugepages));
    const struct vmm_options machine = {
        .loop = &vm->loop,
        .log = &vm->log,
        .kernel = options->kernel,
        .initrd = options->initrd,
        .cmdline = options->cmdline,
        .memory_bytes = options->memory_bytes,
        .huge_page_bytes = huge_page_bytes,
        .bounce_bytes = options->isolate_bytes,
        .processors = (unsigned)options->processors,
        .gic_version = vm_gic_meanings[options->gic],
        .pci_slots = options->transport == 0 ? (unsigned)options->slots : 0,
        .memory_prealloc = options->prealloc,
        .reset_ends = options->on_reset == 1,
        .sandbox = options->sandbox == 0,
        .serial_output = vm_serial_output,
        .serial_room = vm_serial_room,
        .ended = vm_ended,
        .context = vm,
    };
    vm->machine = vmm_create(&machine, &r, error, sizeof(error));
    return vm->machine ? 0 : daemon_complain(r, "vm", "%s", error);
}

static int vm_add_list(struct vm *vm, const struct option_list *list, bool read_only)
{
    char error[VMM_ERROR_BYTES], name[32];
    enum vmm_transport transport = vm_transport_meanings[vm->options->transport];
    for (unsigned i = 0; i < list->count; i++) {
        snprintf(name, sizeof(name), "%s%u", read_only ? "rodisk" : "disk", i);
        int r = vm_add_disk(vm, name, list->values[i], read_only, transport, error, sizeof(error));
        if (r < 0)
            return daemon_complain(r, "vm", "%s", error);
    }
    return 0;
}

/* --vhost-user=DEVICE,PATH */
static int vm_add_vhost_users(struct vm *vm)
{
    char error[VMM_ERROR_BYTES], name[32], type[32];
    const struct option_list *list = &vm->options->vhost_users;
    for (unsigned i = 0; i < list->count; i++) {
        const char *comma = strchr(list->values[i], ',');
        if (!comma || comma == list->values[i] || (size_t)(comma - list->values[i]) >= sizeof(type) || !comma[1])
            return daemon_complain(-EINVAL, "vm", "--vhost-user=%s: give it as DEVICE,PATH, like blk,/run/disk.sock",
                                   SHORTENED(list->values[i]));
        memcpy(type, list->values[i], (size_t)(comma - list->values[i]));
        type[comma - list->values[i]] = '\0';
        snprintf(name, sizeof(name), "vhost-user%u", i);
        int r = vm_add_vhost_user(vm, name, type, comma + 1, vm_transport_meanings[vm->options->transport], error,
                                  sizeof(error));
        if (r < 0)
            return daemon_complain(r, "vm", "%s", error);
    }
    return 0;
}

static int vm_add_kernel_devices(struct vm *vm)
{
    char error[VMM_ERROR_BYTES], name[32];
    enum vmm_transport transport = vm_transport_meanings[vm->options->transport];
    const struct option_list *taps = &vm->options->taps;
    int r = 0;
    for (unsigned i = 0; i < taps->count && r == 0; i++) {
        snprintf(name, sizeof(name), "net%u", i);
        r = vm_add_tap(vm, name, taps->values[i], transport, error, sizeof(error));
    }
    if (r == 0 && vm->options->vsock_cid != 0)
        r = vm_add_vsock(vm, "vsock", vm->options->vsock_cid, transport, error, sizeof(error));
    return r < 0 ? daemon_complain(r, "vm", "%s", error) : 0;
}

static int vm_add_devices(struct vm *vm)
{
    char error[VMM_ERROR_BYTES];
    int r = vm_add_list(vm, &vm->options->disks, false);
    if (r == 0)
        r = vm_add_list(vm, &vm->options->read_only_disks, true);
    if (r == 0)
        r = vm_add_vhost_users(vm);
    if (r == 0 && vm->options->rng) {
        r = vm_add_rng(vm, "rng", vm_transport_meanings[vm->options->transport], error, sizeof(error));
        if (r < 0)
            daemon_complain(0, "vm", "%s", error);
    }
    if (r == 0)
        r = vm_add_kernel_devices(vm);
    if (r == 0 && vm->options->console == VM_CONSOLE_VIRTIO) {
        r = vm_add_console(vm, vm_transport_meanings[vm->options->transport], error, sizeof(error));
        if (r < 0)
            daemon_complain(0, "vm", "%s", error);
    }
    return r;
}

static int vm_restore(struct vm *vm)
{
    char error[VMM_ERROR_BYTES];
    const char *path = vm->options->restore;
    int handle = open(path, O_RDONLY | O_CLOEXEC);
    int r = handle < 0 ? -errno : 0;
    if (r < 0)
        return daemon_complain(r, "vm", "cannot open %s: %s", SHORTENED(path), strerror(-r));
    r = vmm_restore(vm->machine, handle, error, sizeof(error));
    close(handle);
    if (r < 0)
        return daemon_complain(r, "vm", "cannot restore %s: %s", SHORTENED(path), error);
    return vm->options->paused ? 0 : vmm_resume(vm->machine);
}

static int vm_begin(struct vm *vm)
{
    char error[VMM_ERROR_BYTES];
    int r = vm->options->restore ? vm_restore(vm) : vmm_start(vm->machine, error, sizeof(error));
    if (r < 0 && !vm->options->restore)
        daemon_complain(0, "vm", "%s", error);
    vm->started = r == 0;
    if (r == 0 && vm->options->paused && !vm->options->restore)
        r = vmm_pause(vm->machine, vm_paused, vm);
    if (r == 0 && vm->has_terminal && vm->options->console == VM_CONSOLE_SERIAL)
        r = loop_watch(&vm->loop, &vm->input_watch, terminal_input_handle(&vm->terminal), LOOP_READABLE,
                       vm_input_ready);
    if (r == 0 && vm->input_watch.handle >= 0)
        vm_feed_serial(vm);
    return r;
}

static int vm_exit_status(const struct vm *vm)
{
    switch (vm->end) {
    case VMM_END_POWER_OFF:
    case VMM_END_QUIT:
        return EXIT_DONE;
    case VMM_END_RESET:
        return EXIT_GUEST_RESET;
    case VMM_END_CRASH:
        return EXIT_GUEST_CRASHED;
    default:
        return EXIT_FAILED;
    }
}

/* With the loop, from here on. */
static int vm_run(struct vm *vm)
{
    int r = vm_watch_signals(vm);
    if (r == 0)
        r = vm_open_terminal(vm);
    if (r == 0)
        r = vm_create(vm);
    if (r == 0)
        r = vm_add_devices(vm);
    if (r == 0)
        r = vm_open_control(vm);
    if (r == 0)
        r = vm_begin(vm);
    if (r == 0) {
        r = loop_run(&vm->loop);
        if (r < 0)
            daemon_complain(0, "vm", "cannot wait for events: %s", strerror(-r));
    }
    if (vm->started && !vm->ended) {
        /* The loop is what ends a machine in order; without it there is only this. */
        if (vm->has_terminal)
            terminal_close(&vm->terminal);
        _exit(EXIT_FAILED);
    }
    if (vm->controlled)
        control_socket_close(&vm->control);
    loop_unwatch(&vm->loop, &vm->input_watch);
    vmm_destroy(vm->machine);
    loop_unpost(&vm->loop, &vm->serial_room);
    if (vm->has_terminal)
        terminal_close(&vm->terminal);
    loop_unwatch(&vm->loop, &vm->signal_watch);
    return r < 0 ? (r == -EINVAL ? EXIT_WRONG_USE : EXIT_FAILED) : vm_exit_status(vm);
}

static void vm_take_signals(void)
{
    sigset_t signals;
    vm_signal_set(&signals);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    terminal_take_signals();
}

int command_vm(int count, char **arguments)
{
    char error[OPTIONS_ERROR_BYTES];
    struct vm_options options = {
        .memory_bytes = VM_MEMORY_DEFAULT, .processors = 1, .slots = VM_SLOTS_DEFAULT, .log_level = LOG_LEVEL_ERROR};
    struct option table[] = {
        option_text("kernel", &options.kernel, "PATH", "vmlinux or bzImage; on arm64 Image"),
        option_text("initrd", &options.initrd, "PATH", "its initial RAM disk"),
        option_text("cmdline", &options.cmdline, "TEXT", "its command line: the console alone unless given"),
        option_bytes("memory", &options.memory_bytes, 1 << 20, INT64_MAX, "the guest's memory: 512M unless given"),
        option_number("cpus", &options.processors, 1, VMM_PROCESSORS_MAX, "virtual processors: 1 unless given"),
        option_texts("blk-file", &options.disks, "PATH", "a disk: raw image or block device; may be repeated"),
        option_texts("blk-file-ro", &options.read_only_disks, "PATH", "one that nobody writes to; may be repeated"),
        option_flag("rng", &options.rng, "give the guest entropy"),
        option_texts("vhost-user", &options.vhost_users, "DEVICE,PATH",
                     "a device whose back end listens at PATH; may be repeated"),
        option_texts("tap", &options.taps, "NAME", "a network card on this tap, served by the kernel; may be repeated"),
        option_number("vsock-cid", &options.vsock_cid, 3, UINT32_MAX - 1,
                      "sockets between host and guest, served by the kernel"),
        option_choice("console", &options.console, vm_consoles, "KIND",
                      "what is on the terminal: serial (the default), virtio or off"),
        option_choice("transport", &options.transport, vm_transports, "KIND", "of devices: pci (the default) or mmio"),
        option_number("slots", &options.slots, 0, 16, "for devices plugged in at run time: 4 unless given"),
        option_bytes("isolate", &options.isolate_bytes, 1 << 20, INT64_MAX,
                     "back ends reach so much of the memory, and no more"),
        option_choice("on-reset", &options.on_reset, vm_on_resets, "WHAT",
                      "a guest that resets itself: restart (the default) or exit"),
        option_text("control-path", &options.control_path, "PATH", "listen there for `backplane ctl`"),
        option_text("restore", &options.restore, "PATH", "go on from this snapshot; other options as they were then"),
        option_flag("paused", &options.paused, "begin paused"),
        option_text("hugepages", &options.hugepages, "BYTES", "memory from huge pages of this size: 2M or 1G"),
        option_flag("prealloc", &options.prealloc, "take the memory now, not as it is used"),
        option_choice("gic", &options.gic, vm_gics, "VERSION", "arm64: auto (the default), 2 or 3"),
        option_choice("polling", &options.polling, daemon_pollings, "MODE",
                      "adaptive (the default), off or always: look on before sleeping"),
        option_choice("sandbox", &options.sandbox, vm_ons, "MODE", "on (the default) or off: seccomp for its threads"),
        option_choice("log-level", &options.log_level, daemon_log_levels, "LEVEL",
                      "error (the default), info or debug, on standard error"),
        option_flag("help", &options.help, "print this text and exit"),
    };
    if (options_ask(arguments, count, "help")) {
        puts("usage: backplane vm --kernel=PATH [options]\n\n"
             "Run a virtual machine on KVM. Ctrl-A x ends it, Ctrl-A h lists keys.\n");
        options_print(table, ARRAY_SIZE(table));
        return EXIT_DONE;
    }
    if (options_parse(table, ARRAY_SIZE(table), arguments, count, NULL, 0, error, sizeof(error)) < 0)
        return daemon_complain(EXIT_WRONG_USE, "vm", "%s", error);
    if (!options.kernel)
        return daemon_complain(EXIT_WRONG_USE, "vm", "which kernel? Give --kernel=PATH");
    vm_take_signals();
    struct vm *vm = calloc(1, sizeof(*vm));
    if (!vm)
        return daemon_complain(EXIT_FAILED, "vm", "out of memory");
    vm->options = &options;
    vm->log = (struct log){.name = "backplane vm", .level = (enum log_level)options.log_level};
    vm->signal_watch = (struct loop_watch)LOOP_WATCH_NONE;
    vm->input_watch = (struct loop_watch)LOOP_WATCH_NONE;
    vm->serial_room.deliver = vm_serial_room_came;
    vm->end = VMM_END_FAILED;
    int status = EXIT_FAILED, r = loop_init(&vm->loop);
    if (r < 0)
        daemon_complain(0, "vm", "cannot make an event loop: %s", strerror(-r));
    else
        status = vm_run(vm);
    if (r == 0)
        loop_done(&vm->loop);
    free(vm);
    return status;
}
