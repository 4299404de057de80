/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Kernel vhost against a kernel that is played, and against the real one where there is one. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "platform/linux/vhost_ioctl.h"
#include "platform/linux/vhost_kernel.h"

#define GUEST_BASE UINT64_C(0x40000000)
#define MEMORY_BYTES 0x10000
#define RING(n) (GUEST_BASE + 0x1000 * (uint64_t)(n))

struct fake_queue {
    struct vhost_vring_state size, base;
    struct vhost_vring_addr address;
    int kick, call, error, tap;
};

/* A kernel: it judges what order things come in, as the real one does. */
struct fake {
    struct vhost_kernel_port port;
    char path[64];
    bool absent, owned, vsock_runs;
    uint64_t features, chosen, cid;
    unsigned long offloads;
    int header_bytes;
    short tap_flags;
    unsigned regions;
    struct vhost_memory_region region;
    struct fake_queue queues[3];
    unsigned long fails; /* this request, with: */
    int error;
};

static int fake_open(struct vhost_kernel_port *port, const char *path)
{
    struct fake *fake = container_of(port, struct fake, port);
    snprintf(fake->path, sizeof(fake->path), "%s", path);
    return fake->absent ? -ENOENT : eventfd(0, EFD_CLOEXEC);
}

static int fake_queue_control(struct fake *fake, unsigned long request, void *argument)
{
    struct vhost_vring_file *file = argument;
    struct vhost_vring_state *state = argument;
    assert_in_range(*(unsigned *)argument, 0, 1); /* all begin with the index */
    struct fake_queue *queue = &fake->queues[file->index];
    bool runs = queue->tap > 0 || fake->vsock_runs;
    switch (request) {
    case VHOST_SET_VRING_NUM:
        assert_false(runs);
        queue->size = *state;
        break;
    case VHOST_SET_VRING_BASE:
        assert_false(runs);
        queue->base = *state;
        break;
    case VHOST_GET_VRING_BASE:
        assert_false(runs);
        state->num = queue->base.num + 5;
        break;
    case VHOST_SET_VRING_ADDR:
        assert_true(fake->regions > 0);
        queue->address = *(struct vhost_vring_addr *)argument;
        break;
    case VHOST_SET_VRING_KICK:
        queue->kick = file->fd;
        break;
    case VHOST_SET_VRING_CALL:
        queue->call = file->fd;
        break;
    case VHOST_SET_VRING_ERR:
        queue->error = file->fd;
        break;
    case VHOST_NET_SET_BACKEND:
        assert_true(file->fd < 0 || queue->kick > 0);
        queue->tap = file->fd;
        break;
    default:
        fail_msg("an ioctl that vhost does not have: %lx", request);
    }
    return 0;
}

static int fake_control(struct vhost_kernel_port *port, int handle, unsigned long request, void *argument)
{
    struct fake *fake = container_of(port, struct fake, port);
    assert_true(handle >= 0);
    if (request == fake->fails)
        return fake->error;
    switch (request) {
    case TUNGETIFF:
        ((struct ifreq *)argument)->ifr_flags = fake->tap_flags;
        return 0;
    case TUNSETVNETHDRSZ:
        fake->header_bytes = *(int *)argument;
        return 0;
    case TUNSETOFFLOAD:
        fake->offloads = (uintptr_t)argument;
        return 0;
    case VHOST_SET_OWNER:
        assert_false(fake->owned);
        fake->owned = true;
        return 0;
    default:
        break;
    }
    assert_true(fake->owned);
    switch (request) {
    case VHOST_GET_FEATURES:
        *(uint64_t *)argument = fake->features;
        return 0;
    case VHOST_SET_FEATURES:
        if ((*(uint64_t *)argument & ~fake->features) != 0)
            return -EOPNOTSUPP;
        fake->chosen = *(uint64_t *)argument;
        return 0;
    case VHOST_SET_MEM_TABLE:
        fake->regions = ((struct vhost_memory *)argument)->nregions;
        if (fake->regions > 0)
            fake->region = ((struct vhost_memory *)argument)->regions[0];
        return 0;
    case VHOST_VSOCK_SET_GUEST_CID:
        fake->cid = *(uint64_t *)argument;
        return 0;
    case VHOST_VSOCK_SET_RUNNING:
        fake->vsock_runs = *(int *)argument != 0;
        if (fake->vsock_runs)
            assert_true(fake->queues[0].kick > 0 && fake->queues[1].kick > 0);
        return 0;
    default:
        return fake_queue_control(fake, request, argument);
    }
}

static const struct vhost_kernel_port_class fake_class = {.open = fake_open, .control = fake_control};

struct world {
    struct fake fake;
    struct vhost_kernel device;
    uint8_t *memory;
    struct vhost_kernel_region region;
    struct loop loop;
    struct virtio_listener listener;
    unsigned notified[3], broken;
    int locked;
};

static void told_notify(struct virtio_listener *listener, unsigned index)
{
    struct world *world = container_of(listener, struct world, listener);
    world->notified[index]++;
    loop_stop(&world->loop);
}

static void told_broken(struct virtio_listener *listener)
{
    struct world *world = container_of(listener, struct world, listener);
    assert_int_equal(world->locked, 1);
    world->broken++;
    loop_stop(&world->loop);
}

static const struct virtio_listener_class listener_class = {.queue_notify = told_notify, .broken = told_broken};

static void lock(void *argument)
{
    ((struct world *)argument)->locked++;
}

static void unlock(void *argument)
{
    ((struct world *)argument)->locked--;
}

static int set_up(void **state)
{
    struct world *world = test_calloc(1, sizeof(*world));
    world->memory = test_calloc(1, MEMORY_BYTES);
    world->region = (struct vhost_kernel_region){.guest_base = GUEST_BASE, .size = MEMORY_BYTES, .host = world->memory};
    world->listener.class = &listener_class;
    world->fake.port.class = &fake_class;
    /* What Linux 6.1 says of vhost-net, and bits that no driver is to see. */
    world->fake.features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_ACCESS_PLATFORM |
                           UINT64_C(1) << 15 | UINT64_C(1) << 24 | UINT64_C(1) << 26 | UINT64_C(1) << 27 |
                           UINT64_C(1) << 1;
    world->fake.tap_flags = IFF_TAP | IFF_VNET_HDR | IFF_NO_PI;
    assert_int_equal(loop_init(&world->loop), 0);
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;
    vhost_kernel_close(&world->device);
    loop_done(&world->loop);
    test_free(world->memory);
    test_free(world);
    return 0;
}

static int open_device(struct world *world, uint16_t device_id, struct vhost_kernel_port *port)
{
    const struct vhost_kernel_options options = {
        .device_id = device_id,
        .tap = device_id == VIRTIO_ID_NET ? eventfd(0, EFD_CLOEXEC) : -1,
        .mac = {0x52, 0x54, 0, 1, 2, 3},
        .mtu = 1400,
        .guest_cid = 77,
        .regions = &world->region,
        .region_count = 1,
        .loop = &world->loop,
        .lock = lock,
        .unlock = unlock,
        .lock_argument = world,
        .port = port,
    };
    int r = vhost_kernel_open(&world->device, &options);
    world->device.virtio.listener = &world->listener;
    return r;
}

static void open_fake(struct world *world, uint16_t device_id)
{
    assert_int_equal(open_device(world, device_id, &world->fake.port), 0);
}

static struct virtio_backend *virtio(struct world *world)
{
    return &world->device.virtio;
}

static int start(struct world *world, unsigned index, uint32_t base, int notify)
{
    const struct virtqueue_config config = {
        .size = 16,
        .desc_address = RING(index),
        .avail_address = RING(index) + 0x400,
        .used_address = RING(index) + 0x800,
        .base = base,
    };
    return virtio(world)->class->queue_start(virtio(world), index, &config, notify);
}

static void a_card_offers_what_kernel_and_tap_can(void **state)
{
    struct world *world = *state;
    open_fake(world, VIRTIO_ID_NET);
    assert_string_equal(world->fake.path, "/dev/vhost-net");
    uint64_t offered = virtio(world)->class->features(virtio(world));
    assert_true((offered & VIRTIO_F_VERSION_1) != 0);
    assert_true((offered & UINT64_C(1) << 15) != 0);
    assert_int_equal(offered & (VIRTIO_F_ACCESS_PLATFORM | UINT64_C(7) << 24 | UINT64_C(1) << 27), 0);
    assert_int_equal(world->fake.header_bytes, 12);
    assert_int_equal(virtio(world)->queue_count, 2);
    uint8_t config[16];
    virtio(world)->class->config_read(virtio(world), 0, config, sizeof(config));
    static const uint8_t expected[16] = {0x52, 0x54, 0, 1, 2, 3, 1, 0, 1, 0, 1400 & 0xff, 1400 >> 8};
    assert_memory_equal(config, expected, sizeof(config));
    assert_int_equal(virtio(world)->class->config_write(virtio(world), 0, config, 6), -EPERM);
}

static void a_tap_without_offloads_offers_none(void **state)
{
    struct world *world = *state;
    world->fake.fails = TUNSETOFFLOAD;
    world->fake.error = -EINVAL;
    open_fake(world, VIRTIO_ID_NET);
    assert_int_equal(virtio(world)->class->features(virtio(world)) & (UINT64_C(1) << 1 | UINT64_C(1) << 7), 0);
}

static void the_drivers_offloads_are_the_taps(void **state)
{
    struct world *world = *state;
    open_fake(world, VIRTIO_ID_NET);
    uint64_t chosen = VIRTIO_F_VERSION_1 | UINT64_C(1) << 1 | UINT64_C(1) << 7 | UINT64_C(1) << 16;
    assert_int_equal(virtio(world)->class->set_features(virtio(world), chosen), 0);
    assert_int_equal(world->fake.offloads, TUN_F_CSUM | TUN_F_TSO4);
    /* To the kernel, only what is its own. */
    assert_int_equal(world->fake.chosen, (VIRTIO_F_VERSION_1 | UINT64_C(1) << 1) & world->fake.features);
    assert_int_equal(virtio(world)->class->set_features(virtio(world), UINT64_C(1) << 40), -EINVAL);
    assert_int_equal(virtio(world)->class->set_features(virtio(world), VIRTIO_F_EVENT_IDX), -EINVAL);
}

static void a_card_moves_data_while_its_queues_run(void **state)
{
    struct world *world = *state;
    open_fake(world, VIRTIO_ID_NET);
    assert_int_equal(virtio(world)->class->set_features(virtio(world), VIRTIO_F_VERSION_1), 0);
    assert_int_equal(start(world, 1, 7, 99), 0);
    const struct fake_queue *queue = &world->fake.queues[1];
    assert_int_equal(queue->tap, world->device.tap);
    assert_int_equal(queue->call, 99);
    assert_int_equal(queue->kick, virtio(world)->class->queue_kick_handle(virtio(world), 1));
    assert_int_equal(queue->address.used_user_addr, (uintptr_t)world->memory + 0x1800);
    assert_int_equal(queue->base.num, 7);
    assert_int_equal(world->fake.queues[0].kick, 0);
    assert_int_equal(virtio(world)->class->queue_stop(virtio(world), 1), 0);
    assert_int_equal(queue->tap, -1);
    assert_int_equal(virtio(world)->class->queue_base(virtio(world), 1), 12);
    assert_int_equal(virtio(world)->class->queue_stop(virtio(world), 1), 0);
    assert_int_equal(virtio(world)->class->reset(virtio(world)), 0);
}

static void a_socket_runs_when_both_queues_do(void **state)
{
    struct world *world = *state;
    open_fake(world, VIRTIO_ID_VSOCK);
    assert_string_equal(world->fake.path, "/dev/vhost-vsock");
    assert_int_equal(world->fake.cid, 77);
    assert_int_equal(virtio(world)->queue_count, 3);
    assert_int_equal(virtio(world)->class->set_features(virtio(world), VIRTIO_F_VERSION_1), 0);
    assert_int_equal(start(world, 0, 0, 99), 0);
    assert_false(world->fake.vsock_runs);
    assert_int_equal(start(world, 2, 3, 99), 0); /* events are not the kernel's */
    assert_false(world->fake.vsock_runs);
    assert_int_equal(start(world, 1, 0, 99), 0);
    assert_true(world->fake.vsock_runs);
    assert_int_equal(virtio(world)->class->queue_stop(virtio(world), 0), 0);
    assert_false(world->fake.vsock_runs);
    assert_int_equal(virtio(world)->class->queue_stop(virtio(world), 2), 0);
    assert_int_equal(virtio(world)->class->queue_base(virtio(world), 2), 3);
    assert_int_equal(virtio(world)->class->queue_stop(virtio(world), 1), 0);
}

static void rings_outside_of_memory_are_refused(void **state)
{
    struct world *world = *state;
    open_fake(world, VIRTIO_ID_NET);
    struct virtqueue_config config = {
        .size = 16, .desc_address = GUEST_BASE - 0x1000, .avail_address = RING(0), .used_address = RING(0) + 0x100};
    assert_int_equal(virtio(world)->class->queue_start(virtio(world), 0, &config, 5), -EFAULT);
    config.desc_address = RING(1) + 8;
    assert_int_equal(virtio(world)->class->queue_start(virtio(world), 0, &config, 5), -EINVAL);
    config.desc_address = RING(1);
    config.size = 24;
    assert_int_equal(virtio(world)->class->queue_start(virtio(world), 0, &config, 5), -EINVAL);
    assert_non_null(world->device.refused_reason);
    assert_int_equal(start(world, 0, 0x10000, 5), -EINVAL);
}

static void memory_that_a_queue_needs_stays(void **state)
{
    struct world *world = *state;
    open_fake(world, VIRTIO_ID_NET);
    assert_int_equal(virtio(world)->class->set_features(virtio(world), VIRTIO_F_VERSION_1), 0);
    assert_int_equal(start(world, 0, 0, 9), 0);
    assert_int_equal(vhost_kernel_set_memory(&world->device, NULL, 0), -EBUSY);
    const struct vhost_kernel_region regions[2] = {world->region,
                                                   {.guest_base = 0, .size = 0x1000, .host = world->memory}};
    assert_int_equal(vhost_kernel_set_memory(&world->device, regions, 2), 0);
    assert_int_equal(world->fake.regions, 2);
    world->fake.fails = VHOST_SET_MEM_TABLE;
    world->fake.error = -E2BIG;
    assert_int_equal(vhost_kernel_set_memory(&world->device, regions, 1), -ENOSPC);
    assert_int_equal(world->device.region_count, 2);
}

static void without_a_handle_the_listener_is_told(void **state)
{
    struct world *world = *state;
    open_fake(world, VIRTIO_ID_NET);
    assert_int_equal(virtio(world)->class->set_features(virtio(world), VIRTIO_F_VERSION_1), 0);
    assert_int_equal(start(world, 0, 0, -1), 0);
    assert_int_equal(eventfd_write(world->fake.queues[0].call, 1), 0);
    assert_int_equal(loop_run(&world->loop), 0);
    assert_int_equal(world->notified[0], 1);
    int handle = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_int_equal(virtio(world)->class->queue_notify_by(virtio(world), 0, handle), 0);
    assert_int_equal(world->fake.queues[0].call, handle);
    eventfd_t count;
    assert_int_equal(eventfd_read(handle, &count), 0); /* nothing is lost on the way */
    close(handle);
}

static void a_broken_ring_is_told_under_the_lock(void **state)
{
    struct world *world = *state;
    open_fake(world, VIRTIO_ID_NET);
    assert_int_equal(virtio(world)->class->set_features(virtio(world), VIRTIO_F_VERSION_1), 0);
    assert_int_equal(start(world, 0, 0, 9), 0);
    assert_int_equal(eventfd_write(world->fake.queues[0].error, 1), 0);
    assert_int_equal(loop_run(&world->loop), 0);
    assert_int_equal(world->broken, 1);
    assert_int_equal(world->locked, 0);
}

static void what_cannot_be_opened_leaves_nothing(void **state)
{
    struct world *world = *state;
    world->fake.absent = true;
    assert_int_equal(open_device(world, VIRTIO_ID_NET, &world->fake.port), -ENOENT);
    world->fake.absent = false;
    world->fake.tap_flags = IFF_TAP | IFF_NO_PI;
    assert_int_equal(open_device(world, VIRTIO_ID_NET, &world->fake.port), -EINVAL);
    assert_non_null(strstr(world->device.refused_reason, "IFF_VNET_HDR"));
    world->fake.owned = false;
    world->fake.fails = VHOST_VSOCK_SET_GUEST_CID;
    world->fake.error = -EADDRINUSE;
    assert_int_equal(open_device(world, VIRTIO_ID_VSOCK, &world->fake.port), -EADDRINUSE);
    assert_int_equal(world->device.handle, 0); /* zeroed: close does nothing */
    world->fake.owned = false;
    world->fake.fails = 0;
    world->fake.features = 0;
    assert_int_equal(open_device(world, VIRTIO_ID_VSOCK, &world->fake.port), -ENOTSUP);
}

static void the_real_kernel_takes_a_sockets_rings(void **state)
{
    struct world *world = *state;
    int r = open_device(world, VIRTIO_ID_VSOCK, NULL);
    if (r == -ENOENT || r == -EACCES || r == -EPERM || r == -ENODEV) {
        print_message("skipped: no /dev/vhost-vsock for us: %s\n", strerror(-r));
        skip();
    }
    assert_int_equal(r, 0);
    assert_int_equal(virtio(world)->class->set_features(virtio(world), VIRTIO_F_VERSION_1), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(start(world, i, 0, -1), 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(virtio(world)->class->queue_stop(virtio(world), i), 0);
        assert_int_equal(virtio(world)->class->queue_base(virtio(world), i), 0);
    }
    assert_int_equal(start(world, 0, 0, -1), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        TEST(a_card_offers_what_kernel_and_tap_can), TEST(a_tap_without_offloads_offers_none),
        TEST(the_drivers_offloads_are_the_taps),     TEST(a_card_moves_data_while_its_queues_run),
        TEST(a_socket_runs_when_both_queues_do),     TEST(rings_outside_of_memory_are_refused),
        TEST(memory_that_a_queue_needs_stays),       TEST(without_a_handle_the_listener_is_told),
        TEST(a_broken_ring_is_told_under_the_lock),  TEST(what_cannot_be_opened_leaves_nothing),
        TEST(the_real_kernel_takes_a_sockets_rings),
    };
    return cmocka_run_group_tests_name("vhost_kernel", tests, NULL, NULL);
}
