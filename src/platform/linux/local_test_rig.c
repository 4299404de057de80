/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "platform/linux/local_test_rig.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* ---- devices ---- */

static int all_sevens(struct entropy_source *source, void *buffer, size_t size)
{
    (void)source;
    memset(buffer, 7, size);
    return (int)size;
}

static uint64_t no_time_ns(struct entropy_source *source)
{
    (void)source;
    return 0;
}

static const struct entropy_source_class source_class = {.read = all_sevens, .now_ns = no_time_ns};

static struct slow_disk *disk_of(struct blk_port *port)
{
    return container_of(port, struct slow_disk, port);
}

static unsigned slow_submit(struct blk_port *port, unsigned queue, const struct blk_io *ios, unsigned count)
{
    struct slow_disk *disk = disk_of(port);
    (void)queue;
    pthread_mutex_lock(&disk->lock);
    for (unsigned i = 0; i < count; i++)
        disk->tokens[disk->held++] = ios[i].token;
    pthread_mutex_unlock(&disk->lock);
    atomic_fetch_add(&disk->submitted, count);
    return count;
}

static unsigned slow_reap(struct blk_port *port, unsigned queue, struct blk_completion *completions, unsigned max)
{
    struct slow_disk *disk = disk_of(port);
    uint64_t count;
    (void)queue;
    ssize_t taken = read(disk->handle, &count, sizeof(count));
    (void)taken;
    pthread_mutex_lock(&disk->lock);
    unsigned given = disk->finished < max ? disk->finished : max;
    for (unsigned i = 0; i < given; i++)
        completions[i] = (struct blk_completion){.token = disk->tokens[i]};
    memmove(disk->tokens, disk->tokens + given, (disk->held - given) * sizeof(disk->tokens[0]));
    disk->held -= given;
    disk->finished -= given;
    pthread_mutex_unlock(&disk->lock);
    return given;
}

static void slow_cancel(struct blk_port *port, unsigned queue)
{
    (void)port;
    (void)queue; /* a disk ends in its own time */
}

static uint64_t slow_now_ns(struct blk_port *port)
{
    (void)port;
    return loop_now_ns();
}

static const struct blk_port_class slow_class = {
    .submit = slow_submit, .reap = slow_reap, .cancel = slow_cancel, .now_ns = slow_now_ns};

static int slow_handle(void *context, unsigned index)
{
    (void)index;
    return ((struct machine *)context)->disk.handle;
}

void finish_requests(struct machine *machine)
{
    struct slow_disk *disk = &machine->disk;
    uint64_t one = 1;
    pthread_mutex_lock(&disk->lock);
    disk->finished = disk->held;
    pthread_mutex_unlock(&disk->lock);
    assert_int_equal(write(disk->handle, &one, sizeof(one)), sizeof(one));
}

/* ---- the transport ---- */

static struct machine *machine_of(struct virtio_listener *listener)
{
    return container_of(listener, struct machine, listener);
}

static void heard_notify(struct virtio_listener *listener, unsigned index)
{
    uint64_t one = 1;
    assert_int_equal(index, 0);
    assert_int_equal(write(machine_of(listener)->notified, &one, sizeof(one)), sizeof(one));
}

static void heard_stopped(struct virtio_listener *listener, unsigned index)
{
    struct machine *machine = machine_of(listener);
    assert_int_equal(index, 0);
    machine->stopped++;
    pthread_cond_broadcast(&machine->told);
}

static void heard_broken(struct virtio_listener *listener)
{
    struct machine *machine = machine_of(listener);
    machine->broken++;
    pthread_cond_broadcast(&machine->told);
}

static void heard_change(struct virtio_listener *listener)
{
    machine_of(listener)->changed++;
}

static const struct virtio_listener_class listener_class = {
    .queue_notify = heard_notify,
    .queue_stopped = heard_stopped,
    .broken = heard_broken,
    .config_changed = heard_change,
};

/* ---- the machine ---- */

static void take_lock(void *context)
{
    pthread_mutex_lock(&((struct machine *)context)->lock);
}

static void leave_lock(void *context)
{
    pthread_mutex_unlock(&((struct machine *)context)->lock);
}

static void thread_begins(void *context)
{
    atomic_fetch_add(&((struct machine *)context)->begun, 1);
}

static uint8_t *guest_bytes(uint64_t bytes)
{
    uint8_t *memory = aligned_alloc(4096, bytes);
    assert_non_null(memory);
    memset(memory, 0, bytes);
    return memory;
}

static int event_handle(void)
{
    int handle = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_true(handle >= 0);
    return handle;
}

void lay_ring(struct machine *machine)
{
    const struct fake_memory memory = {GUEST_BASE, GUEST_BYTES, machine->bytes};
    fake_driver_init(&machine->driver, &memory, GUEST_BASE, RING_SIZE, VIRTIO_F_VERSION_1);
}

static struct machine *make_machine(size_t request_bytes)
{
    struct machine *machine = calloc(1, sizeof(*machine));
    assert_non_null(machine);
    const struct virtq_arena_shape shape = {
        .slots = 16, .medium_runs = 1, .long_runs = 1, .request_bytes = request_bytes};
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&machine->told, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&machine->lock, NULL);
    pthread_mutex_init(&machine->disk.lock, NULL);
    machine->bytes = guest_bytes(GUEST_BYTES);
    machine->more_bytes = guest_bytes(MORE_BYTES);
    const struct guest_region region = {.guest_base = GUEST_BASE, .size = GUEST_BYTES, .host = machine->bytes};
    guest_memory_init(&machine->maps[0], NULL);
    guest_memory_init(&machine->maps[1], NULL);
    assert_int_equal(guest_memory_add(&machine->maps[0], &region), 0);
    lay_ring(machine);
    assert_int_equal(device_queues_open(&machine->queues, 1, &shape), 0);
    assert_int_equal(loop_init(&machine->control), 0);
    machine->call = event_handle();
    machine->notified = event_handle();
    machine->disk.handle = event_handle();
    machine->listener.class = &listener_class;
    machine->options = (struct local_backend_options){
        .queues = &machine->queues,
        .thread_begins = thread_begins,
        .control = &machine->control,
        .lock = take_lock,
        .unlock = leave_lock,
        .context = machine,
        .memory = &machine->maps[0],
    };
    return machine;
}

struct machine *given_rng(void)
{
    struct machine *machine = make_machine(rng_request_bytes());
    machine->source.class = &source_class;
    rng_init(&machine->rng, machine->queues.queues, &machine->source, 0);
    machine->options.device = &machine->rng.device;
    return machine;
}

struct machine *given_disk(void)
{
    struct machine *machine = make_machine(blk_request_bytes());
    const struct blk_options options = {.size_bytes = 1 << 20, .block_bytes = 512, .physical_bytes = 512};
    machine->disk.port.class = &slow_class;
    assert_int_equal(blk_init(&machine->disk.blk, machine->queues.queues, 1, &machine->disk.port, &options), 0);
    machine->options.device = &machine->disk.blk.device;
    machine->options.queue_port = (struct server_queue_port){.handle = slow_handle, .context = machine};
    return machine;
}

struct machine *plug(struct machine *machine)
{
    assert_int_equal(local_backend_open(&machine->local, &machine->options), 0);
    machine->backend = &machine->local.backend;
    machine->backend->listener = &machine->listener;
    assert_int_equal(loop_start_thread(&machine->control, "control"), 0);
    return machine;
}

static void unplug(void *argument)
{
    struct machine *machine = argument;
    pthread_mutex_lock(&machine->lock);
    local_backend_close(&machine->local);
    pthread_mutex_unlock(&machine->lock);
}

void finish(struct machine *machine)
{
    if (machine->local.queues) {
        assert_int_equal(stop(machine), 0);
        loop_call(&machine->control, unplug, machine);
    }
    loop_done(&machine->control);
    device_queues_close(&machine->queues);
    close(machine->call);
    close(machine->notified);
    close(machine->disk.handle);
    pthread_cond_destroy(&machine->told);
    pthread_mutex_destroy(&machine->lock);
    pthread_mutex_destroy(&machine->disk.lock);
    free(machine->bytes);
    free(machine->more_bytes);
    free(machine);
}

int start(struct machine *machine, uint32_t base, int notify)
{
    struct virtqueue_config config = fake_driver_config(&machine->driver, VIRTIO_F_VERSION_1);
    config.base = base;
    pthread_mutex_lock(&machine->lock);
    int r = machine->backend->class->queue_start(machine->backend, 0, &config, notify);
    pthread_mutex_unlock(&machine->lock);
    return r;
}

int stop(struct machine *machine)
{
    pthread_mutex_lock(&machine->lock);
    int r = machine->backend->class->queue_stop(machine->backend, 0);
    pthread_mutex_unlock(&machine->lock);
    return r;
}

int reset(struct machine *machine)
{
    pthread_mutex_lock(&machine->lock);
    int r = machine->backend->class->reset(machine->backend);
    pthread_mutex_unlock(&machine->lock);
    return r;
}

static void wait_for(struct machine *machine, const unsigned *count, unsigned times)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += TIMEOUT_MS / 1000;
    pthread_mutex_lock(&machine->lock);
    while (*count < times)
        assert_int_equal(pthread_cond_timedwait(&machine->told, &machine->lock, &until), 0);
    assert_int_equal(*count, times);
    pthread_mutex_unlock(&machine->lock);
}

void expect_stopped(struct machine *machine, unsigned times)
{
    wait_for(machine, &machine->stopped, times);
}

void expect_broken(struct machine *machine, unsigned times)
{
    wait_for(machine, &machine->broken, times);
}

static void do_nothing(void *argument)
{
    (void)argument;
}

void settle(struct machine *machine)
{
    loop_call(&machine->control, do_nothing, NULL);
}

/* ---- the driver ---- */

void offer_buffer(struct machine *machine, uint64_t address)
{
    const struct fake_piece piece = {.address = address, .length = 16, .writable = true};
    assert_true(fake_driver_add(&machine->driver, &piece, 1) >= 0);
    fake_driver_show(&machine->driver);
}

void offer_read(struct machine *machine)
{
    const struct virtio_blk_header header = {.type = VIRTIO_BLK_T_IN};
    const struct fake_piece pieces[] = {
        {HEADER_ADDRESS, sizeof(header), false}, {BUFFER_ADDRESS, 512, true}, {STATUS_ADDRESS, 1, true}};
    memcpy(machine->bytes + (HEADER_ADDRESS - GUEST_BASE), &header, sizeof(header));
    assert_true(fake_driver_add(&machine->driver, pieces, ARRAY_SIZE(pieces)) >= 0);
    fake_driver_show(&machine->driver);
}

void offer_a_lie(struct machine *machine)
{
    fake_driver_set_avail_index(&machine->driver, (uint16_t)(machine->driver.shown_avail + RING_SIZE + 1));
}

void kick(struct machine *machine)
{
    uint64_t one = 1;
    int handle = machine->backend->class->queue_kick_handle(machine->backend, 0);
    assert_int_equal(write(handle, &one, sizeof(one)), sizeof(one));
}

void expect_signal(int handle)
{
    struct pollfd look = {.fd = handle, .events = POLLIN};
    uint64_t count;
    assert_int_equal(poll(&look, 1, TIMEOUT_MS), 1);
    assert_int_equal(read(handle, &count, sizeof(count)), sizeof(count));
}

bool is_signalled(int handle)
{
    struct pollfd look = {.fd = handle, .events = POLLIN};
    return poll(&look, 1, 0) == 1;
}

void expect_used(struct machine *machine, uint32_t length)
{
    uint32_t head, used;
    assert_true(fake_driver_get(&machine->driver, &head, &used));
    assert_int_equal(used, length);
}

void expect_service(struct machine *machine, int handle)
{
    offer_buffer(machine, BUFFER_ADDRESS);
    kick(machine);
    expect_signal(handle);
    expect_used(machine, 16);
}
