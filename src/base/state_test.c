/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "base/state.h"

static void records_come_back_as_they_were_put(void **state)
{
    (void)state;
    uint8_t bytes[64];
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};
    assert_int_equal(state_put(&writer, 0x11223344, 5, "payload", 7), 0);
    assert_int_equal(state_put(&writer, 2, 1, NULL, 0), 0);
    assert_int_equal(writer.used, 2 * STATE_RECORD_HEADER_BYTES + 7);

    struct state_reader reader = {.bytes = bytes, .size = writer.used};
    struct state_record record;
    assert_int_equal(state_next(&reader, &record), 1);
    assert_int_equal(record.tag, 0x11223344);
    assert_int_equal(record.version, 5);
    assert_int_equal(record.length, 7);
    assert_memory_equal(record.payload, "payload", 7);
    assert_int_equal(state_next(&reader, &record), 1);
    assert_int_equal(record.tag, 2);
    assert_int_equal(record.length, 0);
    assert_int_equal(state_next(&reader, &record), 0);
    assert_int_equal(state_next(&reader, &record), 0);
}

static void records_are_little_endian_on_every_machine(void **state)
{
    (void)state;
    uint8_t bytes[13];
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};
    assert_int_equal(state_put(&writer, 0x04030201, 0x0605, "\x0d", 1), 0);
    static const uint8_t expected[13] = {1, 2, 3, 4, 5, 6, 0, 0, 1, 0, 0, 0, 13};
    assert_memory_equal(bytes, expected, sizeof(expected));
}

static void a_record_that_does_not_fit_leaves_nothing_behind(void **state)
{
    (void)state;
    uint8_t bytes[20] = {0};
    static const uint8_t untouched[20] = {0};
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};
    assert_int_equal(state_put(&writer, 1, 1, "123456789", 9), -ENOSPC);
    assert_int_equal(writer.used, 0);
    assert_memory_equal(bytes, untouched, sizeof(bytes));
    assert_int_equal(state_put(&writer, 1, 1, "12345678", 8), 0);
    assert_int_equal(state_put(&writer, 1, 1, NULL, 0), -ENOSPC);
    assert_int_equal(writer.used, 20);
    struct state_writer exact = {.bytes = bytes, .size = STATE_RECORD_HEADER_BYTES};
    assert_int_equal(state_put(&exact, 1, 1, NULL, 0), 0);
}

static void bytes_that_are_no_records_are_refused(void **state)
{
    (void)state;
    static const uint8_t sound[14] = {1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 'a', 'b'};
    struct state_record record = {.tag = 77};
    for (size_t size = 1; size < sizeof(sound); size++) {
        struct state_reader reader = {.bytes = sound, .size = size};
        assert_int_equal(state_next(&reader, &record), -EBADMSG);
        assert_int_equal(reader.used, 0);
    }
    static const struct {
        size_t at;
        uint8_t value;
    } lies[] = {{6, 1}, {7, 1}, {8, 3}, {9, 1}, {10, 0x11}, {11, 0xff}};
    for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
        uint8_t bytes[sizeof(sound)];
        memcpy(bytes, sound, sizeof(bytes));
        bytes[lies[i].at] = lies[i].value;
        struct state_reader reader = {.bytes = bytes, .size = sizeof(bytes)};
        assert_int_equal(state_next(&reader, &record), -EBADMSG);
    }
    assert_int_equal(record.tag, 77); /* untouched by every failure */
    struct state_reader reader = {.bytes = sound, .size = sizeof(sound)};
    assert_int_equal(state_next(&reader, &record), 1);
}

static void a_record_may_hold_records_and_pieces(void **state)
{
    (void)state;
    uint8_t bytes[64];
    size_t outer, inner;
    struct state_writer writer = {.bytes = bytes, .size = sizeof(bytes)};
    assert_int_equal(state_begin(&writer, 1, 7, &outer), 0);
    assert_int_equal(state_append(&writer, "ab", 2), 0);
    assert_int_equal(state_append(&writer, NULL, 0), 0);
    assert_int_equal(state_begin(&writer, 2, 8, &inner), 0);
    assert_int_equal(state_append(&writer, "c", 1), 0);
    assert_int_equal(state_end(&writer, inner, 0), 0);
    assert_int_equal(state_end(&writer, outer, 0), 0);
    struct state_reader reader = {.bytes = bytes, .size = writer.used};
    struct state_record record;
    assert_int_equal(state_next(&reader, &record), 1);
    assert_int_equal(record.tag, 1);
    assert_int_equal(record.version, 7);
    assert_int_equal(record.length, 2 + STATE_RECORD_HEADER_BYTES + 1);
    assert_memory_equal(record.payload, "ab", 2);
    struct state_reader inside = {.bytes = record.payload + 2, .size = record.length - 2};
    assert_int_equal(state_next(&inside, &record), 1);
    assert_int_equal(record.tag, 2);
    assert_memory_equal(record.payload, "c", 1);
    assert_int_equal(state_next(&reader, &record), 0);
}

static void a_record_of_pieces_that_fails_leaves_nothing_behind(void **state)
{
    (void)state;
    static uint8_t bytes[STATE_RECORD_BYTES_MAX + 100], piece[STATE_RECORD_BYTES_MAX + 1];
    size_t mark = 77;
    struct state_writer writer = {.bytes = bytes, .size = STATE_RECORD_HEADER_BYTES + 1};
    assert_int_equal(state_begin(&writer, 1, 1, &mark), 0);
    assert_int_equal(state_append(&writer, "ab", 2), -ENOSPC);
    assert_int_equal(state_end(&writer, mark, -EIO), -EIO);
    assert_int_equal(writer.used, 0);
    writer.size = STATE_RECORD_HEADER_BYTES - 1;
    assert_int_equal(state_begin(&writer, 1, 1, &mark), -ENOSPC);
    writer.size = sizeof(bytes);
    assert_int_equal(state_begin(&writer, 1, 1, &mark), 0);
    assert_int_equal(state_append(&writer, piece, sizeof(piece)), 0);
    assert_int_equal(state_end(&writer, mark, 0), -ENOSPC); /* no reader would take it */
    assert_int_equal(writer.used, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_back_as_they_were_put),
        cmocka_unit_test(records_are_little_endian_on_every_machine),
        cmocka_unit_test(a_record_that_does_not_fit_leaves_nothing_behind),
        cmocka_unit_test(bytes_that_are_no_records_are_refused),
        cmocka_unit_test(a_record_may_hold_records_and_pieces),
        cmocka_unit_test(a_record_of_pieces_that_fails_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
