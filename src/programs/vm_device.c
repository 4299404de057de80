/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Devices of `backplane vm`: each is a back end for the machine, with what is behind it. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "devices/rng/rng.h"
#include "platform/linux/console_terminal.h"
#include "platform/linux/disk_device.h"
#include "platform/linux/entropy_file.h"
#include "platform/linux/local_backend.h"
#include "platform/linux/sandbox.h"
#include "platform/linux/short_text.h"
#include "platform/linux/vhost_kernel.h"
#include "platform/linux/vhost_user_link.h"
#include "programs/vm.h"
#include "virtio/virtio_ids.h"
#include "vmm/vmm_memory.h"

/* A back end that is not there yet may be on its way. */
#define VM_BACKEND_WAIT_MS 10000

static const struct virtq_arena_shape vm_rng_shape = {.slots = 64, .medium_runs = 4, .long_runs = 2};
static const struct virtq_arena_shape vm_console_shape = {.slots = 64, .medium_runs = 8, .long_runs = 2};

/* 5.11.4: what a back end does not know of itself. */
#define VIRTIO_FS_TAG_BYTES 36
struct virtio_fs_config {
    char tag[VIRTIO_FS_TAG_BYTES]; /* without an end where it is that long */
    uint8_t request_queues[4];
};

struct vm_device {
    struct vm *vm;
    const char *type;
    char *path;                  /* owned; NULL: none */
    struct local_backend local;  /* of those in this process */
    struct device_queues queues; /* of rng and console */
    void (*close)(struct vm_device *device);
    union {
        struct disk_device disk;
        struct {
            struct entropy_file source;
            struct rng model;
        } rng;
        struct {
            struct console_terminal terminal;
            struct console model;
        } console;
        struct {
            struct vhost_user_link link;
            struct virtio_fs_config fs;
        } remote;
        struct vhost_kernel kernel;
    } with;
};

static void vm_disk_close(struct vm_device *device)
{
    local_backend_close(&device->local);
    disk_device_report_end(&device->with.disk);
    disk_device_close(&device->with.disk);
}

static void vm_device_close(void *context)
{
    struct vm_device *device = context;
    device->close(device);
    free(device->path);
    free(device);
}

static struct vm_device *vm_device_make(struct vm *vm, const char *type, const char *path, char *error,
                                        size_t error_bytes)
{
    struct vm_device *device = calloc(1, sizeof(*device));
    if (device && path)
        device->path = strdup(path);
    if (!device || (path && !device->path)) {
        free(device);
        snprintf(error, error_bytes, "out of memory");
        return NULL;
    }
    device->vm = vm;
    device->type = type;
    return device;
}

const char *vm_device_type(const struct vmm_device *device)
{
    return ((const struct vm_device *)vmm_device_context(device))->type;
}

/* Hand it to the machine, which closes it from now on; here it is closed when the machine does not take it. */
static int vm_device_plug(struct vm_device *device, const char *name, struct virtio_backend *backend,
                          enum vmm_transport transport, bool isolated, char *error, size_t error_bytes)
{
    struct vmm_device *plugged;
    const struct vmm_device_options options = {
        .name = name,
        .transport = transport,
        .backend = backend,
        .isolated = isolated,
        .close = vm_device_close,
        .context = device,
    };
    int r = vmm_device_add(device->vm->machine, &options, &plugged, error, error_bytes);
    if (r < 0)
        vm_device_close(device);
    return r;
}

/* ---- devices in this process */

static void vm_queue_thread_begins(void *context)
{
    const struct vm_device *device = context;
    const struct sandbox_calls *const lists[] = {
        &sandbox_thread_calls,
        &loop_system_calls,
        blk_backend_system_calls(device->close == vm_disk_close ? device->with.disk.backend.engine : BLK_ENGINE_NULL),
    };
    int r = sandbox_enter(lists, ARRAY_SIZE(lists));
    if (r < 0)
        log_line(&device->vm->log, LOG_LEVEL_ERROR, "a queue's thread cannot limit its system calls: %s", strerror(-r));
}

static void vm_lock(void *context)
{
    vmm_lock(((struct vm_device *)context)->vm->machine);
}

static void vm_unlock(void *context)
{
    vmm_unlock(((struct vm_device *)context)->vm->machine);
}

static int vm_device_open_local(struct vm_device *device, struct virtio_device *model, struct device_queues *queues,
                                const struct server_queue_port *port, char *error, size_t error_bytes)
{
    struct vm *vm = device->vm;
    const struct local_backend_options options = {
        .device = model,
        .queues = queues,
        .log = &vm->log,
        .polling = (enum server_polling)vm->options->polling,
        .queue_port = *port,
        .threads_at_once = true,
        .thread_begins = vm->options->sandbox == 0 ? vm_queue_thread_begins : NULL,
        .control = &vm->loop,
        .lock = vm_lock,
        .unlock = vm_unlock,
        .context = device,
        .memory = vmm_guest_memory(vm->machine),
    };
    int r = local_backend_open(&device->local, &options);
    if (r < 0)
        snprintf(error, error_bytes, "cannot make threads for its queues: %s", strerror(-r));
    return r;
}

int vm_add_disk(struct vm *vm, const char *name, const char *path, bool read_only, enum vmm_transport transport,
                char *error, size_t error_bytes)
{
    struct server_queue_port port;
    struct vm_device *device = vm_device_make(vm, "blk", path, error, error_bytes);
    if (!device)
        return -ENOMEM;
    const struct disk_device_options options = {
        .path = device->path,
        .queues = (unsigned)u64_min(vm->options->processors, BLK_QUEUES_MAX),
        .depth = DISK_DEPTH_DEFAULT,
        .read_only = read_only,
    };
    int r = disk_device_open(&device->with.disk, &options, error, error_bytes);
    if (r < 0) {
        free(device->path);
        free(device);
        return r;
    }
    device->close = vm_disk_close;
    disk_device_queue_port(&device->with.disk, &port);
    disk_device_report_begin(&device->with.disk, &vm->loop, &vm->log);
    r = vm_device_open_local(device, &device->with.disk.blk.device, &device->with.disk.queues, &port, error,
                             error_bytes);
    if (r < 0) {
        vm_device_close(device);
        return r;
    }
    return vm_device_plug(device, name, &device->local.backend, transport, false, error, error_bytes);
}

int vm_resize_disk(struct vm *vm, const char *name, bool may_shrink, uint64_t *ret_bytes, char *error,
                   size_t error_bytes)
{
    struct vmm_device *found = vmm_device_find(vm->machine, name);
    struct vm_device *device = found ? vmm_device_context(found) : NULL;
    if (!device || strcmp(device->type, "blk") != 0 || device->close != vm_disk_close) {
        snprintf(error, error_bytes, "there is no disk of that name here");
        return -ENOENT;
    }
    int r = disk_device_resize(&device->with.disk, may_shrink, ret_bytes, error, error_bytes);
    if (r > 0) {
        vmm_lock(vm->machine);
        local_backend_config_changed(&device->local);
        vmm_unlock(vm->machine);
    }
    return r;
}

static int vm_rng_handle(void *context, unsigned index)
{
    const struct vm_device *device = context;
    (void)index;
    return entropy_file_handle(&device->with.rng.source);
}

static void vm_rng_close(struct vm_device *device)
{
    local_backend_close(&device->local);
    device_queues_close(&device->queues);
    entropy_file_close(&device->with.rng.source);
}

int vm_add_rng(struct vm *vm, const char *name, enum vmm_transport transport, char *error, size_t error_bytes)
{
    struct vm_device *device = vm_device_make(vm, "rng", NULL, error, error_bytes);
    if (!device)
        return -ENOMEM;
    struct virtq_arena_shape shape = vm_rng_shape;
    shape.request_bytes = rng_request_bytes();
    device->close = vm_rng_close;
    device->with.rng.source.fd = -1;
    int r = entropy_file_open(&device->with.rng.source, ENTROPY_FILE_DEFAULT, error, error_bytes);
    if (r == 0) {
        r = device_queues_open(&device->queues, 1, &shape);
        if (r < 0)
            snprintf(error, error_bytes, "out of memory");
    }
    if (r == 0) {
        const struct server_queue_port port = {.handle = vm_rng_handle, .handle_changes = true, .context = device};
        rng_init(&device->with.rng.model, device->queues.queues, &device->with.rng.source.source, 0);
        r = vm_device_open_local(device, &device->with.rng.model.device, &device->queues, &port, error, error_bytes);
    }
    if (r < 0) {
        vm_device_close(device);
        return r;
    }
    return vm_device_plug(device, name, &device->local.backend, transport, false, error, error_bytes);
}

/* ---- the console */

static void vm_console_close(struct vm_device *device)
{
    local_backend_close(&device->local);
    device_queues_close(&device->queues);
    device->vm->console = NULL;
}

int vm_add_console(struct vm *vm, enum vmm_transport transport, char *error, size_t error_bytes)
{
    struct vm_device *device = vm_device_make(vm, "console", NULL, error, error_bytes);
    if (!device)
        return -ENOMEM;
    struct virtq_arena_shape shape = vm_console_shape;
    struct console_options options = {.has_size = false};
    shape.request_bytes = console_request_bytes();
    device->close = vm_console_close;
    options.has_size = terminal_size(&vm->terminal, &options.cols, &options.rows);
    int r = device_queues_open(&device->queues, CONSOLE_QUEUES, &shape);
    if (r < 0) {
        snprintf(error, error_bytes, "out of memory");
    } else {
        struct server_queue_port port;
        console_terminal_init(&device->with.console.terminal, &vm->terminal);
        console_terminal_queue_port(&device->with.console.terminal, &port);
        console_init(&device->with.console.model, device->queues.queues, &device->with.console.terminal.port, &options);
        r = vm_device_open_local(device, &device->with.console.model.device, &device->queues, &port, error,
                                 error_bytes);
    }
    if (r < 0) {
        vm_device_close(device);
        return r;
    }
    r = vm_device_plug(device, "console", &device->local.backend, transport, false, error, error_bytes);
    if (r == 0)
        vm->console = device;
    return r;
}

void vm_console_resized(struct vm *vm, uint16_t cols, uint16_t rows)
{
    struct vm_device *device = vm->console;
    if (!device || !console_resize(&device->with.console.model, cols, rows))
        return;
    vmm_lock(vm->machine);
    local_backend_config_changed(&device->local);
    vmm_unlock(vm->machine);
}

/* ---- devices in other processes */

static const struct {
    const char *name;
    uint16_t id;
} vm_types[] = {
    {"net", VIRTIO_ID_NET},   {"blk", VIRTIO_ID_BLOCK},   {"console", VIRTIO_ID_CONSOLE}, {"rng", VIRTIO_ID_ENTROPY},
    {"scsi", VIRTIO_ID_SCSI}, {"vsock", VIRTIO_ID_VSOCK}, {"fs", VIRTIO_ID_FS},           {"i2c", VIRTIO_ID_I2C},
    {"gpio", VIRTIO_ID_GPIO}, {"input", VIRTIO_ID_INPUT}, {"gpu", VIRTIO_ID_GPU},         {"sound", VIRTIO_ID_SOUND},
};

static void vm_link_close(struct vm_device *device)
{
    vhost_user_link_close(&device->with.remote.link);
}

int vm_add_vhost_user(struct vm *vm, const char *name, const char *type, const char *path, enum vmm_transport transport,
                      char *error, size_t error_bytes)
{
    char problem[VHOST_USER_LINK_PROBLEM_BYTES], title[64];
    struct vmm_memory_range ranges[VMM_RAM_RANGES_MAX];
    struct vhost_user_frontend_region regions[VMM_RAM_RANGES_MAX];
    size_t which = 0;
    while (which < ARRAY_SIZE(vm_types) && strcmp(vm_types[which].name, type) != 0)
        which++;
    if (which == ARRAY_SIZE(vm_types)) {
        snprintf(error, error_bytes,
                 "there is no device %s; there are net, blk, console, rng, scsi, vsock, fs, i2c, gpio, input, gpu and "
                 "sound",
                 SHORTENED(type));
        return -EINVAL;
    }
    struct vm_device *device = vm_device_make(vm, vm_types[which].name, path, error, error_bytes);
    if (!device)
        return -ENOMEM;
    device->close = vm_link_close;
    unsigned count = vmm_shared_ranges(vm->machine, ranges);
    for (unsigned i = 0; i < count; i++)
        regions[i] = (struct vhost_user_frontend_region){
            .guest_base = ranges[i].guest_base,
            .size = ranges[i].size,
            .handle = ranges[i].handle,
            .offset = ranges[i].offset,
            .host = ranges[i].host,
        };
    snprintf(title, sizeof(title), "vhost-user %s", type);
    bool is_fs = vm_types[which].id == VIRTIO_ID_FS;
    size_t tag_bytes = size_min(strlen(name), VIRTIO_FS_TAG_BYTES);
    memcpy(device->with.remote.fs.tag, name, tag_bytes);
    put_le32(device->with.remote.fs.request_queues, 1);
    const struct vhost_user_link_options options = {
        .path = device->path,
        .socket = -1,
        .name = vm_types[which].name,
        .device_id = vm_types[which].id,
        .config_space = is_fs ? &device->with.remote.fs : NULL,
        .config_bytes = is_fs ? sizeof(device->with.remote.fs) : 0,
        .regions = regions,
        .region_count = count,
        .loop = &vm->loop,
        .lock = vmm_lock,
        .unlock = vmm_unlock,
        .lock_argument = vm->machine,
        .isolated = vm->options->isolate_bytes > 0,
        .start_timeout_ms = VM_BACKEND_WAIT_MS,
        .log = &vm->log,
    };
    int r = vhost_user_link_open(&device->with.remote.link, &options, problem);
    if (r < 0) {
        snprintf(error, error_bytes, "%s at %s: %s", title, SHORTENED(path), problem);
        vm_device_close(device);
        return r;
    }
    return vm_device_plug(device, name, &device->with.remote.link.frontend.virtio, transport,
                          vm->options->isolate_bytes > 0, error, error_bytes);
}

/* ---- devices in the kernel */

static void vm_kernel_close(struct vm_device *device)
{
    vhost_kernel_close(&device->with.kernel);
}

static int vm_add_kernel(struct vm *vm, const char *name, struct vhost_kernel_options *options, const char *what,
                         enum vmm_transport transport, char *error, size_t error_bytes)
{
    struct vmm_memory_range ranges[VMM_RAM_RANGES_MAX];
    struct vhost_kernel_region regions[VMM_RAM_RANGES_MAX];
    struct vm_device *device =
        vm_device_make(vm, options->device_id == VIRTIO_ID_NET ? "net" : "vsock", NULL, error, error_bytes);
    if (!device)
        return -ENOMEM;
    unsigned count = vmm_shared_ranges(vm->machine, ranges);
    for (unsigned i = 0; i < count; i++)
        regions[i] = (struct vhost_kernel_region){
            .guest_base = ranges[i].guest_base, .size = ranges[i].size, .host = ranges[i].host};
    options->regions = regions;
    options->region_count = count;
    options->loop = &vm->loop;
    options->lock = vmm_lock;
    options->unlock = vmm_unlock;
    options->lock_argument = vm->machine;
    device->close = vm_kernel_close;
    int r = vhost_kernel_open(&device->with.kernel, options);
    if (r < 0) {
        snprintf(error, error_bytes, "cannot use the kernel's %s: %s; `backplane probe` says what this host has", what,
                 r == -EADDRINUSE ? "another guest has this number" : strerror(-r));
        vm_device_close(device);
        return r;
    }
    return vm_device_plug(device, name, &device->with.kernel.virtio, transport, vm->options->isolate_bytes > 0, error,
                          error_bytes);
}

int vm_add_vsock(struct vm *vm, const char *name, uint64_t cid, enum vmm_transport transport, char *error,
                 size_t error_bytes)
{
    struct vhost_kernel_options options = {.device_id = VIRTIO_ID_VSOCK, .tap = -1, .guest_cid = cid};
    return vm_add_kernel(vm, name, &options, "/dev/vhost-vsock", transport, error, error_bytes);
}

/* Attach to the tap, or make it where that is allowed. */
static int vm_open_tap(const char *tap)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    if (strlen(tap) >= sizeof(request.ifr_name))
        return -EINVAL;
    memcpy(request.ifr_name, tap, strlen(tap));
    int handle = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (handle < 0)
        return -errno;
    if (ioctl(handle, TUNSETIFF, &request) == 0)
        return handle;
    int r = -errno;
    close(handle);
    return r;
}

int vm_add_tap(struct vm *vm, const char *name, const char *tap, enum vmm_transport transport, char *error,
               size_t error_bytes)
{
    int handle = vm_open_tap(tap);
    if (handle < 0) {
        snprintf(error, error_bytes, "cannot open the tap %s: %s; make it with `ip tuntap add`", SHORTENED(tap),
                 strerror(-handle));
        return handle;
    }
    struct vhost_kernel_options options = {.device_id = VIRTIO_ID_NET, .tap = handle};
    return vm_add_kernel(vm, name, &options, "/dev/vhost-net", transport, error, error_bytes);
}
