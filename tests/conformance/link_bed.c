/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "link_bed.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#define HEADER_BYTES 16
#define STATUS_OFFSET 0x800

static struct bed *bed_of(struct virtio_listener *listener)
{
    return container_of(listener, struct bed, listener);
}

static void ring(int handle)
{
    const uint64_t one = 1;
    assert_int_equal(write(handle, &one, sizeof(one)), sizeof(one));
}

static void told_notify(struct virtio_listener *listener, unsigned index)
{
    struct bed *bed = bed_of(listener);
    if (index < BED_QUEUES)
        ring(bed->notifies[index]);
}

static void told_stopped(struct virtio_listener *listener, unsigned index)
{
    bed_of(listener)->stopped[index]++;
    ring(bed_of(listener)->events);
}

static void told_broken(struct virtio_listener *listener)
{
    bed_of(listener)->broken++;
    ring(bed_of(listener)->events);
}

static void told_reset(struct virtio_listener *listener)
{
    bed_of(listener)->resets++;
    ring(bed_of(listener)->events);
}

static void told_config(struct virtio_listener *listener)
{
    bed_of(listener)->configs++;
    ring(bed_of(listener)->events);
}

static const struct virtio_listener_class listener_class = {
    .queue_notify = told_notify,
    .queue_stopped = told_stopped,
    .broken = told_broken,
    .reset_done = told_reset,
    .config_changed = told_config,
};

void bed_open(struct bed *bed)
{
    memset(bed, 0, sizeof(*bed));
    assert_int_equal(loop_init(&bed->loop), 0);
    assert_int_equal(pthread_mutex_init(&bed->lock, NULL), 0);
    bed->listener.class = &listener_class;
    bed->events = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_true(bed->events >= 0);
    for (unsigned i = 0; i < BED_QUEUES; i++) {
        bed->notifies[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        assert_true(bed->notifies[i] >= 0);
    }
    bed->memory_handle = memfd_create("guest", MFD_CLOEXEC);
    assert_true(bed->memory_handle >= 0);
    assert_int_equal(ftruncate(bed->memory_handle, (off_t)BED_MEMORY_BYTES), 0);
    uint8_t *host = mmap(NULL, BED_MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, bed->memory_handle, 0);
    assert_true(host != MAP_FAILED);
    bed->memory = (struct fake_memory){.guest_base = BED_GUEST_BASE, .size = BED_MEMORY_BYTES, .host = host};
    bed->region = (struct vhost_user_frontend_region){
        .guest_base = BED_GUEST_BASE, .size = BED_MEMORY_BYTES, .handle = bed->memory_handle, .host = host};
    assert_int_equal(loop_start_thread(&bed->loop, "bed"), 0);
}

static void unlink_on_loop(void *argument)
{
    struct bed *bed = argument;
    vhost_user_link_close(&bed->link);
}

void bed_unlink(struct bed *bed)
{
    loop_call(&bed->loop, unlink_on_loop, bed);
}

void bed_close(struct bed *bed)
{
    bed_unlink(bed);
    loop_done(&bed->loop);
    pthread_mutex_destroy(&bed->lock);
    munmap(bed->memory.host, BED_MEMORY_BYTES);
    close(bed->memory_handle);
    close(bed->events);
    for (unsigned i = 0; i < BED_QUEUES; i++)
        close(bed->notifies[i]);
}

static void lock(void *argument)
{
    bed_lock(argument);
}

static void unlock(void *argument)
{
    bed_unlock(argument);
}

struct vhost_user_link_options bed_options(struct bed *bed, const char *path)
{
    return (struct vhost_user_link_options){
        .path = path,
        .name = "vhost-user blk",
        .device_id = VIRTIO_ID_BLOCK,
        .regions = &bed->region,
        .region_count = 1,
        .loop = &bed->loop,
        .lock = lock,
        .unlock = unlock,
        .lock_argument = bed,
        .start_timeout_ms = BED_TIMEOUT_MS,
    };
}

struct opening {
    struct bed *bed;
    const struct vhost_user_link_options *options;
    int result;
};

static void link_on_loop(void *argument)
{
    struct opening *opening = argument;
    struct bed *bed = opening->bed;
    opening->result = vhost_user_link_open(&bed->link, opening->options, bed->problem);
    if (opening->result == 0)
        bed->link.frontend.virtio.listener = &bed->listener;
}

int bed_link(struct bed *bed, const struct vhost_user_link_options *options)
{
    struct opening opening = {.bed = bed, .options = options};
    loop_call(&bed->loop, link_on_loop, &opening);
    return opening.result;
}

void bed_lock(struct bed *bed)
{
    assert_int_equal(pthread_mutex_lock(&bed->lock), 0);
}

void bed_unlock(struct bed *bed)
{
    assert_int_equal(pthread_mutex_unlock(&bed->lock), 0);
}

struct virtio_backend *bed_device(struct bed *bed)
{
    return &bed->link.frontend.virtio;
}

static void wait_for(int handle)
{
    struct pollfd look = {.fd = handle, .events = POLLIN};
    uint64_t count;
    if (poll(&look, 1, BED_TIMEOUT_MS) != 1)
        fail_msg("nothing comes");
    assert_int_equal(read(handle, &count, sizeof(count)), sizeof(count));
}

void bed_wait_notify(struct bed *bed, unsigned index)
{
    wait_for(bed->notifies[index]);
}

void bed_wait(struct bed *bed, bool (*condition)(const struct bed *bed, unsigned argument), unsigned argument)
{
    for (;;) {
        bed_lock(bed);
        bool holds = condition(bed, argument);
        bed_unlock(bed);
        if (holds)
            return;
        wait_for(bed->events);
    }
}

void bed_choose(struct bed *bed, uint64_t features)
{
    struct virtio_backend *device = bed_device(bed);
    bed_lock(bed);
    bed->features = device->class->features(device) & features;
    assert_int_equal(device->class->set_features(device, bed->features), 0);
    device->class->status_changed(device, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK |
                                              VIRTIO_STATUS_DRIVER_OK);
    bed_unlock(bed);
}

void bed_resume(struct bed *bed, unsigned index, uint32_t base)
{
    struct virtio_backend *device = bed_device(bed);
    struct virtqueue_config config = fake_driver_config(&bed->drivers[index], bed->features);
    config.base = base;
    bed_lock(bed);
    int r = device->class->queue_start(device, index, &config, bed->by_listener[index] ? -1 : bed->notifies[index]);
    bed_unlock(bed);
    assert_int_equal(r, 0);
}

void bed_start(struct bed *bed, unsigned index)
{
    fake_driver_init(&bed->drivers[index], &bed->memory, BED_RING(index), BED_RING_SIZE, bed->features);
    memset(bed->slot_busy[index], 0, sizeof(bed->slot_busy[index]));
    bed_resume(bed, index, virtqueue_base_initial(bed->features));
}

static bool has_stopped(const struct bed *bed, unsigned index)
{
    return bed->stopped[index] > 0;
}

uint32_t bed_stop(struct bed *bed, unsigned index)
{
    struct virtio_backend *device = bed_device(bed);
    bed_lock(bed);
    bed->stopped[index] = 0;
    int r = device->class->queue_stop(device, index);
    bed_unlock(bed);
    assert_true(r == 0 || r == -EINPROGRESS);
    if (r == -EINPROGRESS)
        bed_wait(bed, has_stopped, index);
    bed_lock(bed);
    uint32_t base = device->class->queue_base(device, index);
    bed_unlock(bed);
    return base;
}

static uint8_t byte_of(uint8_t seed, uint64_t sector, uint32_t at)
{
    return (uint8_t)(seed + sector * 3 + at * 7 + (at >> 8));
}

void bed_offer(struct bed *bed, unsigned index, uint32_t type, uint64_t sector, uint8_t seed)
{
    unsigned slot = 0;
    while (slot < BED_SLOTS && bed->slot_busy[index][slot])
        slot++;
    assert_true(slot < BED_SLOTS);
    uint64_t at = BED_SLOT(index, slot);
    uint8_t *host = bed->memory.host + (at - BED_GUEST_BASE);
    put_le32(host, type);
    put_le32(host + 4, 0);
    put_le64(host + 8, sector);
    host[STATUS_OFFSET] = 0xff;
    for (uint32_t i = 0; i < BED_DATA_BYTES; i++)
        host[BED_DATA_OFFSET + i] = type == VIRTIO_BLK_T_OUT ? byte_of(seed, sector, i) : 0;
    const struct fake_piece pieces[] = {
        {at, HEADER_BYTES, false},
        {at + BED_DATA_OFFSET, BED_DATA_BYTES, type == VIRTIO_BLK_T_IN},
        {at + STATUS_OFFSET, 1, true},
    };
    int head = fake_driver_add(&bed->drivers[index], pieces, ARRAY_SIZE(pieces));
    assert_true(head >= 0);
    bed->slot_busy[index][slot] = true;
    bed->slot_of_head[index][head] = (uint8_t)slot;
    if (!fake_driver_show(&bed->drivers[index]))
        return;
    struct virtio_backend *device = bed_device(bed);
    bed_lock(bed);
    device->class->queue_kick(device, index);
    bed_unlock(bed);
}

unsigned bed_take(struct bed *bed, unsigned index, uint8_t seed)
{
    unsigned count = 0;
    uint32_t head, length;
    for (; fake_driver_get(&bed->drivers[index], &head, &length); count++) {
        unsigned slot = bed->slot_of_head[index][head];
        assert_true(bed->slot_busy[index][slot]); /* each comes back once */
        bed->slot_busy[index][slot] = false;
        const uint8_t *host = bed->memory.host + (BED_SLOT(index, slot) - BED_GUEST_BASE);
        assert_int_equal(host[STATUS_OFFSET], VIRTIO_BLK_S_OK);
        if (get_le32(host) != VIRTIO_BLK_T_IN)
            continue;
        uint64_t sector = get_le64(host + 8);
        for (uint32_t i = 0; i < BED_DATA_BYTES; i++)
            assert_int_equal(host[BED_DATA_OFFSET + i], byte_of(seed, sector, i));
    }
    return count;
}

void bed_take_all(struct bed *bed, unsigned index, unsigned count, uint8_t seed)
{
    unsigned taken = 0;
    for (;;) {
        taken += bed_take(bed, index, seed);
        if (taken >= count)
            break;
        if (!fake_driver_interrupts_on(&bed->drivers[index]))
            bed_wait_notify(bed, index);
    }
    assert_int_equal(taken, count);
}

void bed_write_then_read(struct bed *bed, unsigned index, uint64_t sector, uint8_t seed)
{
    bed_offer(bed, index, VIRTIO_BLK_T_OUT, sector, seed);
    bed_take_all(bed, index, 1, seed);
    bed_offer(bed, index, VIRTIO_BLK_T_IN, sector, seed);
    bed_take_all(bed, index, 1, seed);
}
