/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Two queues on two threads, and a control thread that resizes the disk and switches its cache meanwhile: what they
 * share is atomic. The verdict is ThreadSanitizer's, and that no request is lost or counted twice.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>

#include "device_rig.h"
#include "devices/blk/blk.h"

#define QUEUES 2
#define ROUNDS 300
#define REQUESTS 40 /* a round */
#define SECTORS 64

/* Completes everything at once, without touching data. Each queue has its own room, so queues share nothing here. */
struct quick_port {
    struct blk_port port;
    struct {
        _Alignas(64) uint64_t tokens[BLK_BATCH_MAX];
        unsigned count;
    } queues[QUEUES];
    _Atomic uint64_t now_ns;
};

struct world {
    struct device_rig rig;
    struct quick_port port;
    struct blk blk;
};

struct queue_thread {
    struct world *world;
    unsigned index;
    uint64_t header, data, status;
    uint64_t done;
    pthread_t thread;
};

static unsigned quick_submit(struct blk_port *port, unsigned queue, const struct blk_io *ios, unsigned count)
{
    struct quick_port *quick = container_of(port, struct quick_port, port);

    for (unsigned i = 0; i < count; i++)
        quick->queues[queue].tokens[i] = ios[i].token;
    quick->queues[queue].count = count;
    return count;
}

static unsigned quick_reap(struct blk_port *port, unsigned queue, struct blk_completion *completions, unsigned max)
{
    struct quick_port *quick = container_of(port, struct quick_port, port);
    unsigned count = quick->queues[queue].count;

    assert_true(count <= max);
    for (unsigned i = 0; i < count; i++)
        completions[i] = (struct blk_completion){quick->queues[queue].tokens[i], 0};
    quick->queues[queue].count = 0;
    return count;
}

static void quick_cancel(struct blk_port *port, unsigned queue)
{
    (void)port;
    (void)queue;
}

static uint64_t quick_now_ns(struct blk_port *port)
{
    struct quick_port *quick = container_of(port, struct quick_port, port);

    return atomic_fetch_add_explicit(&quick->now_ns, 1000, memory_order_relaxed);
}

static const struct blk_port_class quick_class = {
    .submit = quick_submit,
    .reap = quick_reap,
    .cancel = quick_cancel,
    .now_ns = quick_now_ns,
};

static void *serve(void *argument)
{
    struct queue_thread *self = argument;
    struct world *world = self->world;
    struct fake_driver *driver = &world->rig.drivers[self->index];
    const struct fake_piece pieces[] = {
        {self->header, sizeof(struct virtio_blk_header), false}, {self->data, 512, true}, {self->status, 1, true}};
    uint32_t head, length;

    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < REQUESTS; i++)
            fake_driver_add(driver, pieces, ARRAY_SIZE(pieces));
        device_rig_run(&world->rig, self->index);
        /* The limit holds some back for a while, by a clock that each look moves on. */
        for (unsigned back = 0; back < REQUESTS;) {
            while (fake_driver_get(driver, &head, &length))
                back++;
            device_rig_wake(&world->rig, self->index);
        }
        self->done += REQUESTS;
    }
    return NULL;
}

static void queues_and_control_share_nothing_that_is_not_atomic(void **state)
{
    struct world *world = aligned_alloc(64, sizeof(*world));
    struct device_rig_shape shape = {.queues = QUEUES, .request_bytes = blk_request_bytes(), .event_idx = true};
    const struct blk_options options = {
        .size_bytes = SECTORS * 512, .block_bytes = 512, .write_cache = true, .limit_iops = 1 << 20};
    struct queue_thread threads[QUEUES];
    (void)state;

    assert_non_null(world);
    memset(world, 0, sizeof(*world));
    device_rig_init(&world->rig, &shape);
    world->port.port.class = &quick_class;
    atomic_init(&world->port.now_ns, 1);
    assert_int_equal(blk_init(&world->blk, world->rig.queues, QUEUES, &world->port.port, &options), 0);
    device_rig_attach(&world->rig, &world->blk.device, VIRTIO_BLK_F_FLUSH | VIRTIO_BLK_F_CONFIG_WCE | VIRTIO_BLK_F_MQ);
    for (unsigned i = 0; i < QUEUES; i++) {
        struct virtio_blk_header header = {.type = cpu_to_le32(VIRTIO_BLK_T_IN), .sector = cpu_to_le64(i)};
        threads[i] = (struct queue_thread){
            .world = world,
            .index = i,
            .header = device_rig_low(&world->rig, sizeof(header)),
            .data = device_rig_high(&world->rig, 512),
            .status = device_rig_low(&world->rig, 1),
        };
        memcpy(device_rig_host(&world->rig, threads[i].header), &header, sizeof(header));
    }
    for (unsigned i = 0; i < QUEUES; i++)
        assert_int_equal(pthread_create(&threads[i].thread, NULL, serve, &threads[i]), 0);
    for (unsigned i = 0; i < 200; i++) {
        uint8_t writeback = i % 2 == 0;
        struct virtio_blk_config config;
        blk_resize(&world->blk, (SECTORS + i % 3) * 512);
        virtio_device_config_write(&world->blk.device, 32, &writeback, 1);
        virtio_device_config_read(&world->blk.device, 0, &config, VIRTIO_BLK_CONFIG_BYTES);
        assert_int_equal(le64_to_cpu(config.capacity), SECTORS + i % 3);
    }
    for (unsigned i = 0; i < QUEUES; i++)
        assert_int_equal(pthread_join(threads[i].thread, NULL), 0);
    assert_int_equal(threads[0].done + threads[1].done, QUEUES * ROUNDS * REQUESTS);
    assert_int_equal(blk_count(&world->blk, BLK_COUNT_READS), QUEUES * ROUNDS * REQUESTS);
    assert_int_equal(blk_count(&world->blk, BLK_COUNT_READ_BYTES), QUEUES * ROUNDS * REQUESTS * 512);
    assert_int_equal(blk_count(&world->blk, BLK_COUNT_FAILED), 0);
    device_rig_done(&world->rig);
    free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(queues_and_control_share_nothing_that_is_not_atomic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
