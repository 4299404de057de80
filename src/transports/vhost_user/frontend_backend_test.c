/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Our two sides of vhost-user back to back, with nothing between them but lists of messages: every message that the
 * front end sends is one that the back end takes, and what both then think of rings, memory and log is the same.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "backend_rig.h"
#include "transports/vhost_user/frontend.h"

#define QUEUES 3
#define MESSAGES_MAX 256

static uint64_t layout;

struct pair {
    struct vhost_user_frontend_port port;
    struct virtio_listener listener;
    struct vhost_user_frontend frontend;
    struct rig *rig; /* the back end; its handles are the front end's too, each with a copy of its own */
    struct vhost_user_message messages[MESSAGES_MAX];
    unsigned message_count;
    int kicks[QUEUES], calls[QUEUES], error;
    unsigned kicked[QUEUES]; /* what is in the eventfd */
    unsigned stopped[QUEUES], resets, configs, broken, lost;
};

static struct pair *pair_of(struct vhost_user_frontend_port *port)
{
    return container_of(port, struct pair, port);
}

static int copy_of(struct pair *pair, int handle)
{
    return rig_handle(pair->rig, pair->rig->handle_object[handle]);
}

static void port_close(struct vhost_user_frontend_port *port, int handle)
{
    struct rig *rig = pair_of(port)->rig;
    rig->port.class->close(&rig->port, handle);
}

static void port_send(struct vhost_user_frontend_port *port, const struct vhost_user_message *message)
{
    struct pair *pair = pair_of(port);
    assert_true(pair->message_count < MESSAGES_MAX);
    struct vhost_user_message *kept = &pair->messages[pair->message_count++];
    *kept = *message;
    for (unsigned i = 0; i < message->handle_count; i++)
        kept->handles[i] = copy_of(pair, message->handles[i]);
}

static void port_answer(struct vhost_user_frontend_port *port, const struct vhost_user_message *message)
{
    (void)port;
    (void)message;
}

static int port_open_channel(struct vhost_user_frontend_port *port, int *ret_handle)
{
    *ret_handle = rig_line(pair_of(port)->rig);
    return 0;
}

static int port_map(struct vhost_user_frontend_port *port, int handle, uint64_t offset, uint64_t bytes,
                    struct vhost_user_mapping *ret_mapping)
{
    const struct rig *rig = pair_of(port)->rig;
    const struct rig_object *object = &rig->objects[rig->handle_object[handle]];
    if (object->bytes == NULL || !range_within(offset, bytes, object->size))
        return -ENXIO;
    *ret_mapping = (struct vhost_user_mapping){.base = object->bytes + offset, .bytes = bytes};
    return 0;
}

static void port_unmap(struct vhost_user_frontend_port *port, const struct vhost_user_mapping *mapping)
{
    (void)port;
    (void)mapping;
}

static int port_kick_handle(struct vhost_user_frontend_port *port, unsigned index)
{
    return pair_of(port)->kicks[index];
}

static int port_notify_handle(struct vhost_user_frontend_port *port, unsigned index)
{
    return pair_of(port)->calls[index];
}

static int port_error_handle(struct vhost_user_frontend_port *port)
{
    return pair_of(port)->error;
}

static void port_signal(struct vhost_user_frontend_port *port, int handle)
{
    struct pair *pair = pair_of(port);
    for (unsigned i = 0; i < QUEUES; i++)
        pair->kicked[i] += handle == pair->kicks[i] ? 1 : 0;
}

static void port_hang_up(struct vhost_user_frontend_port *port, const char *reason)
{
    struct pair *pair = pair_of(port);
    pair->lost++;
    assert_non_null(reason);
    for (unsigned i = 0; i < pair->message_count; i++)
        for (unsigned j = 0; j < pair->messages[i].handle_count; j++)
            port_close(port, pair->messages[i].handles[j]);
    pair->message_count = 0;
    rig_disconnect(pair->rig);
    pair->rig->reply_count = 0;
}

static void port_greeted(struct vhost_user_frontend_port *port)
{
    (void)port;
}

static const struct vhost_user_frontend_port_class port_class = {
    .send = port_send,
    .answer = port_answer,
    .open_channel = port_open_channel,
    .close = port_close,
    .map = port_map,
    .unmap = port_unmap,
    .kick_handle = port_kick_handle,
    .notify_handle = port_notify_handle,
    .error_handle = port_error_handle,
    .signal = port_signal,
    .hang_up = port_hang_up,
    .greeted = port_greeted,
};

static struct pair *pair_of_listener(struct virtio_listener *listener)
{
    return container_of(listener, struct pair, listener);
}

static void told_stopped(struct virtio_listener *listener, unsigned index)
{
    pair_of_listener(listener)->stopped[index]++;
}

static void told_broken(struct virtio_listener *listener)
{
    pair_of_listener(listener)->broken++;
}

static void told_reset(struct virtio_listener *listener)
{
    pair_of_listener(listener)->resets++;
}

static void told_config(struct virtio_listener *listener)
{
    pair_of_listener(listener)->configs++;
}

static const struct virtio_listener_class listener_class = {
    .queue_stopped = told_stopped,
    .broken = told_broken,
    .reset_done = told_reset,
    .config_changed = told_config,
};

/* One message to the back end, or one answer back. False: nothing is on its way that can go. */
static bool step(struct pair *pair)
{
    struct rig *rig = pair->rig;
    struct rig_reply reply;
    if (rig_take(rig, &reply)) {
        if (reply.object >= 0) {
            reply.message.handle_count = 1;
            reply.message.handles[0] = rig_handle(rig, reply.object);
        }
        vhost_user_frontend_reply(&pair->frontend, &reply.message);
        return true;
    }
    if (pair->message_count == 0 || vhost_user_backend_busy(&rig->backend))
        return false;
    struct vhost_user_message message = pair->messages[0];
    pair->message_count--;
    memmove(pair->messages, pair->messages + 1, pair->message_count * sizeof(message));
    assert_int_equal(rig_send_handles(rig, message.header.request, message.header.flags & VHOST_USER_FLAG_NEED_REPLY,
                                      &message.payload, message.header.size, message.handles, message.handle_count),
                     0);
    return true;
}

/* Queues run when they have been kicked and have the line. */
static void run_queues(struct pair *pair)
{
    for (unsigned i = 0; i < QUEUES; i++)
        if (pair->kicked[i] > 0 && pair->rig->queues[i].lines[QUEUE_LINE_KICK] >= 0) {
            pair->kicked[i] = 0;
            rig_kick(pair->rig, i);
        }
    rig_run(pair->rig);
}

static void settle(struct pair *pair)
{
    do {
        while (step(pair))
            continue;
        run_queues(pair);
    } while (pair->message_count > 0 && !vhost_user_backend_busy(&pair->rig->backend));
}

static struct vhost_user_frontend_region region(struct pair *pair, unsigned object, int handle)
{
    return (struct vhost_user_frontend_region){
        .guest_base = object == 0 ? RIG_GUEST_0 : RIG_GUEST_1,
        .size = RIG_REGION_BYTES,
        .handle = handle,
        .host = pair->rig->objects[object].bytes,
    };
}

static int memory_handles[2];

static int set_up(void **state)
{
    struct pair *pair = test_calloc(1, sizeof(*pair));
    pair->rig = rig_open_rings(QUEUES, layout);
    pair->port.class = &port_class;
    pair->listener.class = &listener_class;
    for (unsigned i = 0; i < QUEUES; i++) {
        pair->kicks[i] = rig_line(pair->rig);
        pair->calls[i] = rig_line(pair->rig);
    }
    pair->error = rig_line(pair->rig);
    const struct vhost_user_frontend_config config = {
        .device_id = VIRTIO_ID_BLOCK, .queue_count = 8, .queue_size_max = 256, .config_bytes = RIG_CONFIG_BYTES};
    vhost_user_frontend_init(&pair->frontend, &pair->port, &config);
    pair->frontend.virtio.listener = &pair->listener;
    struct vhost_user_frontend_region regions[2];
    for (unsigned i = 0; i < 2; i++) {
        memory_handles[i] = rig_handle(pair->rig, (int)i);
        regions[i] = region(pair, i, memory_handles[i]);
    }
    assert_int_equal(vhost_user_frontend_set_memory(&pair->frontend, regions, 2), 0);
    *state = pair;
    return 0;
}

static int tear_down(void **state)
{
    struct pair *pair = *state;
    pair->rig->hold = false;
    vhost_user_frontend_lost(&pair->frontend, "the test is over");
    vhost_user_frontend_done(&pair->frontend);
    for (unsigned i = 0; i < QUEUES; i++) {
        port_close(&pair->port, pair->kicks[i]);
        port_close(&pair->port, pair->calls[i]);
    }
    port_close(&pair->port, pair->error);
    for (unsigned i = 0; i < 2; i++)
        port_close(&pair->port, memory_handles[i]);
    rig_close(pair->rig); /* asserts that no handle and no mapping is left */
    test_free(pair);
    return 0;
}

static struct virtio_backend *device(struct pair *pair)
{
    return &pair->frontend.virtio;
}

static void choose(struct pair *pair)
{
    uint64_t offered = device(pair)->class->features(device(pair));
    uint64_t not_ours = RIG_FEATURE_RIVAL | ((VIRTIO_F_RING_PACKED | VIRTIO_F_IN_ORDER) & ~layout);
    assert_int_equal(device(pair)->class->set_features(device(pair), offered & ~not_ours), 0);
}

static void start(struct pair *pair, unsigned index, uint32_t base)
{
    struct virtqueue_config config = fake_driver_config(&pair->rig->queues[index].driver, pair->frontend.features);
    config.base = base;
    assert_int_equal(device(pair)->class->queue_start(device(pair), index, &config, -1), 0);
}

static void begin(struct pair *pair)
{
    vhost_user_frontend_connected(&pair->frontend);
    settle(pair);
    assert_int_equal(device(pair)->queue_count, QUEUES);
    choose(pair);
    for (unsigned i = 0; i < QUEUES; i++) {
        rig_lay_ring(pair->rig, i);
        start(pair, i, virtqueue_base_initial(pair->frontend.features));
    }
    settle(pair);
    for (unsigned i = 0; i < QUEUES; i++)
        assert_true(rig_running(pair->rig, i));
    assert_int_equal(pair->rig->backend.refused_total, 0);
}

static void offer_and_kick(struct pair *pair, unsigned index)
{
    rig_offer(pair->rig, index, RIG_DATA_0 + index * 0x1000);
    device(pair)->class->queue_kick(device(pair), index);
}

static void both_sides_agree_from_the_first_message_on(void **state)
{
    struct pair *pair = *state;
    begin(pair);
    for (unsigned i = 0; i < QUEUES; i++)
        offer_and_kick(pair, i);
    settle(pair);
    for (unsigned i = 0; i < QUEUES; i++)
        assert_int_equal(rig_used(pair->rig, i), 1);
    assert_int_equal(pair->rig->backend.refused_total, 0);
    assert_int_equal(pair->lost + pair->broken, 0);
}

static void a_stop_waits_for_what_is_in_flight(void **state)
{
    struct pair *pair = *state;
    begin(pair);
    pair->rig->hold = true;
    offer_and_kick(pair, 1);
    settle(pair);
    assert_int_equal(device(pair)->class->queue_stop(device(pair), 1), -EINPROGRESS);
    settle(pair);
    assert_int_equal(pair->stopped[1], 0);
    rig_complete(pair->rig, 1, 1);
    settle(pair);
    assert_int_equal(pair->stopped[1], 1);
    assert_int_equal(device(pair)->class->queue_base(device(pair), 1), rig_base_after(pair->rig, 1));
    pair->rig->hold = false;
    start(pair, 1, device(pair)->class->queue_base(device(pair), 1));
    offer_and_kick(pair, 1);
    settle(pair);
    assert_int_equal(rig_used(pair->rig, 1), 2);
}

static void memory_is_exchanged_with_requests_in_flight(void **state)
{
    struct pair *pair = *state;
    begin(pair);
    pair->rig->hold = true;
    offer_and_kick(pair, 0);
    settle(pair);
    const struct vhost_user_frontend_region first = region(pair, 0, memory_handles[0]);
    assert_int_equal(vhost_user_frontend_set_memory(&pair->frontend, &first, 1), 0);
    settle(pair);
    assert_true(vhost_user_frontend_waits(&pair->frontend));
    rig_complete(pair->rig, 0, 1);
    settle(pair);
    assert_false(vhost_user_frontend_waits(&pair->frontend));
    assert_int_equal(pair->rig->backend.maps[pair->rig->backend.current_map].region_count, 1);
    assert_true(rig_running(pair->rig, 0));
    assert_int_equal(pair->rig->backend.refused_total, 0);
}

static void a_log_is_written_while_it_is_on(void **state)
{
    struct pair *pair = *state;
    begin(pair);
    int object = rig_object(pair->rig, 0x10000), handle = rig_handle(pair->rig, object);
    const uint8_t *bits = pair->rig->objects[object].bytes;
    const struct vhost_user_frontend_log log = {.handle = handle, .bytes = 0x10000}, none = {.handle = -1};
    assert_int_equal(vhost_user_frontend_set_log(&pair->frontend, &log), 0);
    settle(pair);
    offer_and_kick(pair, 0);
    settle(pair);
    unsigned page = RIG_DATA_0 / 4096;
    assert_true((bits[page / 8] >> page % 8 & 1) != 0);
    assert_int_equal(vhost_user_frontend_set_log(&pair->frontend, &none), 0);
    settle(pair);
    memset(pair->rig->objects[object].bytes, 0, 0x10000);
    offer_and_kick(pair, 0);
    settle(pair);
    assert_int_equal(bits[page / 8], 0);
    assert_int_equal(pair->rig->backend.refused_total, 0);
    port_close(&pair->port, handle);
}

static void a_reset_reaches_the_model(void **state)
{
    struct pair *pair = *state;
    begin(pair);
    for (unsigned i = 0; i < QUEUES; i++)
        assert_int_equal(device(pair)->class->queue_stop(device(pair), i), -EINPROGRESS);
    settle(pair);
    unsigned resets = pair->rig->device_resets;
    assert_int_equal(device(pair)->class->reset(device(pair)), -EINPROGRESS);
    settle(pair);
    assert_int_equal(pair->resets, 1);
    assert_int_equal(pair->rig->device_resets, resets + 1);
    choose(pair);
    rig_lay_ring(pair->rig, 0);
    start(pair, 0, virtqueue_base_initial(pair->frontend.features));
    offer_and_kick(pair, 0);
    settle(pair);
    assert_int_equal(rig_used(pair->rig, 0), 1);
}

static void a_changed_configuration_comes_across(void **state)
{
    struct pair *pair = *state;
    begin(pair);
    pair->rig->config[0] = 0x11;
    assert_true(vhost_user_backend_config_changed(&pair->rig->backend));
    vhost_user_frontend_request(&pair->frontend, &pair->rig->last_request);
    settle(pair);
    uint8_t byte;
    device(pair)->class->config_read(device(pair), 0, &byte, 1);
    assert_int_equal(byte, 0x11);
    assert_int_equal(pair->configs, 1);
    byte = 0x77;
    assert_int_equal(device(pair)->class->config_write(device(pair), RIG_CONFIG_WRITABLE, &byte, 1), 0);
    settle(pair);
    assert_int_equal(pair->rig->config[RIG_CONFIG_WRITABLE], 0x77);
}

/* The connection is lost after @steps of the whole conversation, and made again: requests before and after are served.
 */
static bool lose_after(struct pair *pair, unsigned steps)
{
    bool reached = true;
    vhost_user_frontend_connected(&pair->frontend);
    for (unsigned i = 0; i < steps && reached; i++)
        reached = step(pair);
    vhost_user_frontend_lost(&pair->frontend, "the connection ends");
    assert_int_equal(pair->broken, 0);
    return reached;
}

static void a_connection_may_end_after_every_message(void **state)
{
    struct pair *pair = *state;
    begin(pair);
    vhost_user_frontend_lost(&pair->frontend, "the connection ends");
    unsigned steps = 0, served = 0;
    while (lose_after(pair, steps++)) {
        if (steps % 8 != 0)
            continue;
        vhost_user_frontend_connected(&pair->frontend);
        offer_and_kick(pair, 0);
        settle(pair);
        served++;
        assert_int_equal(rig_used(pair->rig, 0), 1);
        vhost_user_frontend_lost(&pair->frontend, "the connection ends");
    }
    assert_true(steps > 40 && served > 4);
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        TEST(both_sides_agree_from_the_first_message_on),
        TEST(a_stop_waits_for_what_is_in_flight),
        TEST(memory_is_exchanged_with_requests_in_flight),
        TEST(a_log_is_written_while_it_is_on),
        TEST(a_reset_reaches_the_model),
        TEST(a_changed_configuration_comes_across),
        TEST(a_connection_may_end_after_every_message),
    };
    layout = rig_layout(argc, argv);
    return cmocka_run_group_tests_name("vhost_user_frontend_backend", tests, NULL, NULL);
}
