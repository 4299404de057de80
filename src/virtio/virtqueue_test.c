/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The queue as a device sees it: bursts, putting back, tokens, starving, stopping. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "virtio/virtq_test_rig.h"

static const struct fake_piece request[3] = {
    {.address = RIG_DATA, .length = 16},
    {.address = RIG_DATA + 0x1000, .length = 4096, .writable = true},
    {.address = RIG_DATA + 0x2000, .length = 1, .writable = true},
};

static void a_request_goes_round(void **state)
{
    (void)state;
    rig_build(&(struct rig_options){.size = 16});
    memcpy(rig_byte(RIG_DATA), "sixteen bytes ok", 16);
    uint16_t head = rig_offer(request, 3);

    struct virtq_chain *chain = rig_pop();
    assert_int_equal(chain->readable_count, 1);
    assert_int_equal(chain->writable_count, 2);
    assert_int_equal(chain->readable_bytes, 16);
    assert_int_equal(chain->writable_bytes, 4097);
    char header[20];
    assert_int_equal(virtq_chain_read(chain, header, sizeof(header)), 16);
    assert_memory_equal(header, "sixteen bytes ok", 16);
    assert_int_equal(virtq_chain_keep_tail(chain, 1), 0);
    assert_int_equal(virtq_chain_write(chain, "data", 4), 4);
    virtq_chain_write_tail(chain, "\x7f");
    assert_true(rig_push(chain));

    uint32_t used_head, length;
    assert_true(fake_driver_get(&rig.driver, &used_head, &length));
    assert_int_equal(used_head, head);
    assert_int_equal(length, 4); /* 2.7.8.2: up to the gap, so without the tail */
    assert_memory_equal(rig_byte(RIG_DATA + 0x1000), "data", 4);
    assert_int_equal(*rig_byte(RIG_DATA + 0x2000), 0x7f);
    assert_true(virtqueue_stop(&rig.queue));
    assert_int_equal(virtqueue_base(&rig.queue), 1);
}

static int teardown(void **state)
{
    (void)state;
    rig_done();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_request_goes_round, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
