/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A back end that lies: it is hung up on, and the device waits for the next one as if it had died. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "frontend_rig.h"

#define FEATURES (FRIG_FEATURE | VIRTIO_F_VERSION_1)

/* Let the back end answer until message @request is the next one that it would. */
static void serve_until(struct frig *rig, uint32_t request)
{
    for (;;) {
        unsigned next = rig->message_next;
        while (next < rig->message_count && !vhost_user_has_reply(rig->messages[next].header.request) &&
               (rig->messages[next].header.flags & VHOST_USER_FLAG_NEED_REPLY) == 0)
            next++;
        assert_true(next < rig->message_count);
        if (rig->messages[next].header.request == request)
            return;
        assert_true(frig_serve_one(rig));
    }
}

struct lie {
    const char *about;
    uint32_t instead_of; /* this answer comes: */
    uint32_t request, size;
    unsigned handle_count;
    union vhost_user_payload payload;
    bool at_work; /* with a queue at work, else in the greeting */
};

static const struct lie lies[] = {
    {.about = "features: none", .instead_of = VHOST_USER_GET_FEATURES, .request = VHOST_USER_GET_FEATURES, .size = 0},
    {.about = "features: half", .instead_of = VHOST_USER_GET_FEATURES, .request = VHOST_USER_GET_FEATURES, .size = 4},
    {.about = "features: too long",
     .instead_of = VHOST_USER_GET_FEATURES,
     .request = VHOST_USER_GET_FEATURES,
     .size = 16},
    {.about = "features with a descriptor",
     .instead_of = VHOST_USER_GET_FEATURES,
     .request = VHOST_USER_GET_FEATURES,
     .size = 8,
     .handle_count = 1},
    {.about = "an answer to what was not asked",
     .instead_of = VHOST_USER_GET_FEATURES,
     .request = VHOST_USER_GET_QUEUE_NUM,
     .size = 8},
    {.about = "a type that does not exist", .instead_of = VHOST_USER_GET_FEATURES, .request = 0xffffff, .size = 8},
    {.about = "no queues", .instead_of = VHOST_USER_GET_QUEUE_NUM, .request = VHOST_USER_GET_QUEUE_NUM, .size = 8},
    {.about = "no memory slots",
     .instead_of = VHOST_USER_GET_MAX_MEM_SLOTS,
     .request = VHOST_USER_GET_MAX_MEM_SLOTS,
     .size = 8},
    {.about = "no configuration", .instead_of = VHOST_USER_GET_CONFIG, .request = VHOST_USER_GET_CONFIG, .size = 0},
    {.about = "a head of a configuration",
     .instead_of = VHOST_USER_GET_CONFIG,
     .request = VHOST_USER_GET_CONFIG,
     .size = 12,
     .payload.config = {.size = FRIG_CONFIG_BYTES}},
    {.about = "a longer configuration",
     .instead_of = VHOST_USER_GET_CONFIG,
     .request = VHOST_USER_GET_CONFIG,
     .size = 12 + 32,
     .payload.config = {.size = 32}},
    {.about = "a configuration that is shorter than it says",
     .instead_of = VHOST_USER_GET_CONFIG,
     .request = VHOST_USER_GET_CONFIG,
     .size = 12 + 8,
     .payload.config = {.size = FRIG_CONFIG_BYTES}},
    {.about = "a configuration from elsewhere",
     .instead_of = VHOST_USER_GET_CONFIG,
     .request = VHOST_USER_GET_CONFIG,
     .size = 12 + FRIG_CONFIG_BYTES,
     .payload.config = {.offset = 4, .size = FRIG_CONFIG_BYTES}},
    {.about = "an acknowledgement without a number",
     .instead_of = VHOST_USER_SET_OWNER,
     .request = VHOST_USER_SET_OWNER,
     .size = 0},
    {.about = "an acknowledgement with a descriptor",
     .instead_of = VHOST_USER_SET_OWNER,
     .request = VHOST_USER_SET_OWNER,
     .size = 8,
     .handle_count = 2},
    {.about = "an acknowledgement of another message",
     .instead_of = VHOST_USER_SET_VRING_NUM,
     .request = VHOST_USER_SET_VRING_BASE,
     .size = 8,
     .at_work = true},
    {.about = "a base of another queue",
     .instead_of = VHOST_USER_GET_VRING_BASE,
     .request = VHOST_USER_GET_VRING_BASE,
     .size = 8,
     .payload.state = {.index = 1},
     .at_work = true},
    {.about = "a base of 17 bits",
     .instead_of = VHOST_USER_GET_VRING_BASE,
     .request = VHOST_USER_GET_VRING_BASE,
     .size = 8,
     .payload.state = {.num = 0x10000},
     .at_work = true},
    {.about = "a record without a descriptor",
     .instead_of = VHOST_USER_GET_INFLIGHT_FD,
     .request = VHOST_USER_GET_INFLIGHT_FD,
     .size = 24,
     .payload.inflight = {.mmap_size = 4096},
     .at_work = true},
    {.about = "a record of no bytes with a descriptor",
     .instead_of = VHOST_USER_GET_INFLIGHT_FD,
     .request = VHOST_USER_GET_INFLIGHT_FD,
     .size = 24,
     .handle_count = 1,
     .at_work = true},
    {.about = "a record of two descriptors",
     .instead_of = VHOST_USER_GET_INFLIGHT_FD,
     .request = VHOST_USER_GET_INFLIGHT_FD,
     .size = 24,
     .handle_count = 2,
     .payload.inflight = {.mmap_size = 4096},
     .at_work = true},
    {.about = "a record as large as all memory",
     .instead_of = VHOST_USER_GET_INFLIGHT_FD,
     .request = VHOST_USER_GET_INFLIGHT_FD,
     .size = 24,
     .handle_count = 1,
     .payload.inflight = {.mmap_size = UINT64_MAX},
     .at_work = true},
    {.about = "a record whose end wraps",
     .instead_of = VHOST_USER_GET_INFLIGHT_FD,
     .request = VHOST_USER_GET_INFLIGHT_FD,
     .size = 24,
     .handle_count = 1,
     .payload.inflight = {.mmap_size = 4096, .mmap_offset = UINT64_MAX - 5},
     .at_work = true},
    {.about = "a record past the end of its file",
     .instead_of = VHOST_USER_GET_INFLIGHT_FD,
     .request = VHOST_USER_GET_INFLIGHT_FD,
     .size = 24,
     .handle_count = 1,
     .payload.inflight = {.mmap_size = 4096, .mmap_offset = FRIG_RECORD_BYTES},
     .at_work = true},
    {.about = "half a record",
     .instead_of = VHOST_USER_GET_INFLIGHT_FD,
     .request = VHOST_USER_GET_INFLIGHT_FD,
     .size = 16,
     .handle_count = 1,
     .at_work = true},
};

static void tell(const struct lie *lie)
{
    struct frig *rig = frig_open_usual();
    struct virtio_backend *virtio = &rig->frontend.virtio;
    if (lie->at_work) {
        frig_connect(rig);
        frig_choose(rig, FEATURES);
        assert_int_equal(frig_start(rig, 0, 0), 0);
        if (lie->instead_of == VHOST_USER_GET_VRING_BASE) {
            frig_serve(rig);
            assert_int_equal(virtio->class->queue_stop(virtio, 0), -EINPROGRESS);
        }
    } else {
        vhost_user_frontend_connected(&rig->frontend);
    }
    serve_until(rig, lie->instead_of);
    frig_reply(rig, lie->request, &lie->payload, lie->size, lie->handle_count);
    frig_serve(rig);
    if (rig->hang_ups != 1)
        fail_msg("not hung up on: %s", lie->about);
    assert_int_equal(rig->broken_told, 0);
    assert_int_equal(rig->frontend.phase, VHOST_USER_FRONTEND_AWAY);
    if (lie->instead_of == VHOST_USER_GET_VRING_BASE)
        assert_int_equal(rig->stopped[0], 1);

    /* The next one is honest. */
    frig_connect(rig);
    assert_int_equal(rig->hang_ups, 1);
    assert_int_equal(rig->frontend.phase, VHOST_USER_FRONTEND_PRESENT);
    if (lie->at_work && lie->instead_of != VHOST_USER_GET_VRING_BASE)
        assert_true(rig->frontend.queues[0].told);
    frig_close(rig);
}

static void every_lie_ends_the_connection_and_nothing_else(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(lies); i++)
        tell(&lies[i]);
}

static void an_answer_to_nothing_ends_the_connection(void **state)
{
    (void)state;
    struct frig *rig = frig_open_usual();
    frig_connect(rig);
    frig_reply_u64(rig, VHOST_USER_GET_FEATURES, 0);
    assert_int_equal(rig->hang_ups, 1);
    /* And one that comes when the connection is gone already is nothing. */
    frig_reply_u64(rig, VHOST_USER_GET_FEATURES, 0);
    assert_int_equal(rig->hang_ups, 1);
    frig_close(rig);
}

static void requests_with_descriptors_are_refused_and_closed(void **state)
{
    (void)state;
    struct frig *rig = frig_open_usual();
    frig_connect(rig);
    struct vhost_user_message message = {
        .header = {.request = VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
                   .flags = VHOST_USER_VERSION | VHOST_USER_FLAG_NEED_REPLY},
        .handle_count = 1,
    };
    rig->made_open[rig->made_count] = true;
    message.handles[0] = FRIG_MADE + rig->made_count++;
    vhost_user_frontend_request(&rig->frontend, &message);
    assert_int_not_equal(rig->last_answer.payload.u64, 0);
    assert_int_equal(rig->hang_ups, 0);
    frig_close(rig); /* nothing is left open */
}

static void headers_of_answers_are_judged(void **state)
{
    (void)state;
    struct vhost_user_header header = {.request = 1, .flags = VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY, .size = 8};
    assert_int_equal(vhost_user_reply_header_check(&header), 8);
    header.flags = VHOST_USER_VERSION;
    assert_true(vhost_user_reply_header_check(&header) < 0);
    header.flags = VHOST_USER_FLAG_REPLY | 2;
    assert_true(vhost_user_reply_header_check(&header) < 0);
    header.flags = VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY;
    header.size = VHOST_USER_PAYLOAD_BYTES_MAX + 1;
    assert_true(vhost_user_reply_header_check(&header) < 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_lie_ends_the_connection_and_nothing_else),
        cmocka_unit_test(an_answer_to_nothing_ends_the_connection),
        cmocka_unit_test(requests_with_descriptors_are_refused_and_closed),
        cmocka_unit_test(headers_of_answers_are_judged),
    };
    return cmocka_run_group_tests_name("vhost_user_frontend_lies", tests, NULL, NULL);
}
