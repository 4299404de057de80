/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>

#include "devices/blk/blk_test_rig.h"

static struct fake_disk *disk_of(struct blk_port *port)
{
    return container_of(port, struct fake_disk, port);
}

static void transfer(struct fake_disk *disk, const struct blk_io *io)
{
    uint8_t *at = disk->bytes + io->offset;
    uint64_t total = 0;

    for (unsigned i = 0; i < io->iov_count; i++) {
        if (io->iov[i].length == 0)
            continue;
        if (io->op == BLK_OP_READ)
            memcpy(io->iov[i].base, at + total, io->iov[i].length);
        else
            memcpy(at + total, io->iov[i].base, io->iov[i].length);
        total += io->iov[i].length;
    }
    assert_int_equal(total, io->length);
}

static void perform(struct fake_disk *disk, const struct blk_io *io)
{
    assert_true(range_within(io->offset, io->length, FAKE_DISK_BYTES));
    switch (io->op) {
    case BLK_OP_READ:
    case BLK_OP_WRITE:
        transfer(disk, io);
        break;
    case BLK_OP_WRITE_ZEROES:
        memset(disk->bytes + io->offset, 0, io->length);
        break;
    case BLK_OP_DISCARD:
    case BLK_OP_FLUSH:
        break;
    }
}

void finish_io(struct fake_disk *disk, unsigned index, int result)
{
    assert_true(index < disk->io_count);
    assert_true(disk->done_count < FAKE_DISK_IOS_MAX);
    if (result == 0)
        perform(disk, &disk->ios[index].io);
    disk->done[disk->done_count] = disk->ios[index];
    disk->done_results[disk->done_count++] = result;
    disk->io_count--;
    memmove(&disk->ios[index], &disk->ios[index + 1], (disk->io_count - index) * sizeof(disk->ios[0]));
}

static unsigned disk_submit(struct blk_port *port, unsigned queue, const struct blk_io *ios, unsigned count)
{
    struct fake_disk *disk = disk_of(port);
    unsigned taken = 0;

    assert_true(count > 0);
    disk->submits++;
    while (taken < count && taken < disk->take_max && disk->io_count < disk->room) {
        const struct blk_io *io = &ios[taken++];
        assert_int_equal(io->offset % 512, 0);
        assert_int_equal(io->length % 512, 0);
        assert_true(io->iov_count <= VIRTQ_LONG_RUN_PIECES);
        disk->ios[disk->io_count++] = (struct fake_io){*io, queue};
        if (disk->at_once)
            finish_io(disk, disk->io_count - 1, disk->result);
    }
    return taken;
}

static unsigned disk_reap(struct blk_port *port, unsigned queue, struct blk_completion *completions, unsigned max)
{
    struct fake_disk *disk = disk_of(port);
    unsigned given = 0;
    unsigned kept = 0;

    for (unsigned i = 0; i < disk->done_count; i++) {
        if (disk->done[i].queue == queue && given < max) {
            completions[given++] = (struct blk_completion){disk->done[i].io.token, disk->done_results[i]};
            continue;
        }
        disk->done[kept] = disk->done[i];
        disk->done_results[kept++] = disk->done_results[i];
    }
    disk->done_count = kept;
    return given;
}

static void disk_cancel(struct blk_port *port, unsigned queue)
{
    disk_of(port)->cancels++;
    disk_of(port)->cancelled_queue = queue;
}

static uint64_t disk_now_ns(struct blk_port *port)
{
    disk_of(port)->clock_reads++;
    return disk_of(port)->now_ns;
}

static const struct blk_port_class disk_class = {
    .submit = disk_submit,
    .reap = disk_reap,
    .cancel = disk_cancel,
    .now_ns = disk_now_ns,
};

struct blk_options blk_world_options(void)
{
    return (struct blk_options){
        .size_bytes = FAKE_DISK_BYTES,
        .block_bytes = 512,
        .discard = true,
        .write_zeroes = true,
        .write_cache = true,
        .serial = "a-serial",
    };
}

struct blk_world *blk_world_make(const struct blk_options *options, const struct device_rig_shape *shape,
                                 uint64_t features)
{
    struct blk_world *world = aligned_alloc(64, sizeof(*world));
    assert_non_null(world);
    memset(world, 0, sizeof(*world));
    struct device_rig_shape mine = *shape;

    mine.request_bytes = blk_request_bytes();
    device_rig_init(&world->rig, &mine);
    world->disk.port.class = &disk_class;
    world->disk.bytes = calloc(1, FAKE_DISK_BYTES);
    assert_non_null(world->disk.bytes);
    world->disk.take_max = FAKE_DISK_IOS_MAX;
    world->disk.room = FAKE_DISK_IOS_MAX;
    world->disk.now_ns = UINT64_C(5000000000);
    for (uint32_t i = 0; i < FAKE_DISK_BYTES; i++)
        world->disk.bytes[i] = (uint8_t)(i / 512 + i);
    assert_int_equal(blk_init(&world->blk, world->rig.queues, world->rig.shape.queues, &world->disk.port, options), 0);
    if (features == 0)
        features = world->blk.device.class->features(&world->blk.device);
    device_rig_attach(&world->rig, &world->blk.device, features);
    return world;
}

void blk_world_free(struct blk_world *world)
{
    device_rig_done(&world->rig);
    free(world->disk.bytes);
    free(world);
}

int blk_world_setup(void **state)
{
    struct blk_options options = blk_world_options();
    struct device_rig_shape shape = {0};

    *state = blk_world_make(&options, &shape, 0);
    return 0;
}

int blk_world_teardown(void **state)
{
    blk_world_free(*state);
    return 0;
}

uint64_t put_header(struct blk_world *world, uint32_t type, uint64_t sector)
{
    uint64_t address = device_rig_low(&world->rig, sizeof(struct virtio_blk_header));
    struct virtio_blk_header header = {.type = cpu_to_le32(type), .sector = cpu_to_le64(sector)};

    memcpy(device_rig_host(&world->rig, address), &header, sizeof(header));
    return address;
}

static bool device_reads_data(uint32_t type)
{
    return type == VIRTIO_BLK_T_OUT || type == VIRTIO_BLK_T_DISCARD || type == VIRTIO_BLK_T_WRITE_ZEROES;
}

struct fake_request offer_on(struct blk_world *world, unsigned queue, uint32_t type, uint64_t sector, uint32_t length)
{
    bool reads = device_reads_data(type);
    struct fake_request request = {
        .queue = queue,
        .header = put_header(world, type, sector),
        .data = device_rig_high(&world->rig, length + 1),
        .length = length,
        .status = device_rig_low(&world->rig, 1),
    };
    struct fake_piece pieces[3] = {{request.header, sizeof(struct virtio_blk_header), false}};
    unsigned count = 1;

    if (length > 0)
        pieces[count++] = (struct fake_piece){request.data, length, !reads};
    pieces[count++] = (struct fake_piece){request.status, 1, true};
    if (!reads)
        memset(data_of(world, &request), UNWRITTEN, length);
    *(uint8_t *)device_rig_host(&world->rig, request.status) = UNWRITTEN;
    request.head = fake_driver_add(&world->rig.drivers[queue], pieces, count);
    assert_true(request.head >= 0);
    return request;
}

struct fake_request offer(struct blk_world *world, uint32_t type, uint64_t sector, uint32_t length)
{
    return offer_on(world, 0, type, sector, length);
}

struct fake_request offer_ranges(struct blk_world *world, uint32_t type, const struct virtio_blk_range *ranges,
                                 unsigned count)
{
    struct fake_request request = offer(world, type, 0, count * (uint32_t)sizeof(*ranges));
    struct virtio_blk_range *wire = (void *)data_of(world, &request);

    for (unsigned i = 0; i < count; i++)
        wire[i] = (struct virtio_blk_range){cpu_to_le64(ranges[i].sector), cpu_to_le32(ranges[i].num_sectors),
                                            cpu_to_le32(ranges[i].flags)};
    return request;
}

unsigned run(struct blk_world *world)
{
    return device_rig_run(&world->rig, 0);
}

unsigned wake(struct blk_world *world)
{
    return device_rig_wake(&world->rig, 0);
}

unsigned complete(struct blk_world *world, unsigned index, int result)
{
    unsigned queue = world->disk.ios[index].queue;

    finish_io(&world->disk, index, result);
    return device_rig_wake(&world->rig, queue);
}

void complete_all(struct blk_world *world)
{
    while (world->disk.io_count > 0)
        complete(world, 0, 0);
}

uint8_t *data_of(struct blk_world *world, const struct fake_request *request)
{
    return device_rig_host(&world->rig, request->data);
}

uint8_t status_of(struct blk_world *world, const struct fake_request *request)
{
    return *(const uint8_t *)device_rig_host(&world->rig, request->status);
}

void assert_used(struct blk_world *world, const struct fake_request *request, uint8_t status, uint32_t length)
{
    uint32_t used_head, used_length;

    assert_true(fake_driver_get(&world->rig.drivers[request->queue], &used_head, &used_length));
    assert_int_equal(used_head, request->head);
    assert_int_equal(status_of(world, request), status);
    assert_int_equal(used_length, length);
}

void assert_nothing_used(struct blk_world *world)
{
    uint32_t head, length;

    for (unsigned i = 0; i < world->rig.shape.queues; i++)
        assert_false(fake_driver_get(&world->rig.drivers[i], &head, &length));
}
