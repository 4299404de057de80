/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/base.h"

static const size_t sizes[] = {1, 2, 3, 64, 509, 1024, 32768, SIZE_MAX / 2};

static void keeps_an_index_that_is_inside_the_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        const size_t inside[] = {0, sizes[i] / 2, sizes[i] - 1};
        for (size_t j = 0; j < ARRAY_SIZE(inside); j++) {
            assert_int_equal(index_mask(inside[j], sizes[i]), inside[j]);
            assert_int_equal(index_mask_portable(inside[j], sizes[i]), inside[j]);
        }
    }
}

static void turns_an_index_outside_the_table_into_zero(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        const size_t outside[] = {sizes[i], sizes[i] + 1, SIZE_MAX / 2 + 1, SIZE_MAX / 2 + 2, SIZE_MAX - 1, SIZE_MAX};
        for (size_t j = 0; j < ARRAY_SIZE(outside); j++) {
            assert_int_equal(index_mask(outside[j], sizes[i]), 0);
            assert_int_equal(index_mask_portable(outside[j], sizes[i]), 0);
        }
    }
}

static void a_range_is_judged_without_a_sum_that_wraps(void **state)
{
    (void)state;
    assert_true(range_within(0, 10, 10));
    assert_true(range_within(10, 0, 10));
    assert_true(range_within(9, 1, 10));
    assert_false(range_within(9, 2, 10));
    assert_false(range_within(11, 0, 10));
    assert_false(range_within(5, UINT64_MAX, 10));
    assert_false(range_within(UINT64_MAX, 5, 10));
    assert_false(range_within(UINT64_MAX - 1, 5, UINT64_MAX));
    assert_true(range_within(UINT64_MAX - 5, 5, UINT64_MAX));
    assert_true(range_within(0, UINT64_MAX, UINT64_MAX));
}

static void tells_when_a_result_does_not_fit(void **state)
{
    (void)state;
    uint64_t result = 0;
    assert_false(add_overflows_u64(UINT64_MAX - 1, 1, &result));
    assert_true(result == UINT64_MAX);
    assert_true(add_overflows_u64(UINT64_MAX, 1, &result));
    assert_false(mul_overflows_u64(UINT64_C(1) << 32, (UINT64_C(1) << 32) - 1, &result));
    assert_true(result == UINT64_C(0xffffffff00000000));
    assert_true(mul_overflows_u64(UINT64_C(1) << 32, UINT64_C(1) << 32, &result));
}

static void aligns_to_powers_of_two(void **state)
{
    (void)state;
    assert_false(is_power_of_two(0));
    assert_true(is_power_of_two(1));
    assert_true(is_power_of_two(UINT64_C(1) << 63));
    assert_false(is_power_of_two(UINT64_MAX));
    assert_int_equal(align_down(4095, 4096), 0);
    assert_int_equal(align_down(8191, 4096), 4096);
    assert_int_equal(align_up(1, 4096), 4096);
    assert_int_equal(align_up(4096, 4096), 4096);
    assert_int_equal(align_up(UINT64_MAX, 4096), 0);
    assert_true(is_aligned(8192, 4096));
    assert_false(is_aligned(8193, 4096));
}

static void writes_and_reads_little_endian_at_any_alignment(void **state)
{
    (void)state;
    const uint8_t expected[] = {0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01};
    uint8_t bytes[9 + 8];
    for (size_t at = 0; at < 8; at++) {
        memset(bytes, 0xee, sizeof(bytes));
        put_le64(bytes + at, UINT64_C(0x0102030405060708));
        assert_memory_equal(bytes + at, expected, 8);
        assert_true(get_le64(bytes + at) == UINT64_C(0x0102030405060708));
        assert_int_equal(get_le32(bytes + at), 0x05060708);
        assert_int_equal(get_le16(bytes + at), 0x0708);
        put_le32(bytes + at, 0xa1b2c3d4);
        assert_int_equal(bytes[at], 0xd4);
        assert_int_equal(bytes[at + 3], 0xa1);
        assert_int_equal(bytes[at + 4], 0x04);
        put_le16(bytes + at, 0xe5f6);
        assert_int_equal(bytes[at], 0xf6);
        assert_int_equal(bytes[at + 1], 0xe5);
        assert_int_equal(bytes[at + 2], 0xb2);
    }
}

static void shared_memory_is_little_endian_too(void **state)
{
    (void)state;
    uint64_t word = 0;
    uint8_t *bytes = (uint8_t *)&word;
    shared_store_le16(&bytes[2], 0x1234);
    assert_int_equal(bytes[2], 0x34);
    assert_int_equal(bytes[3], 0x12);
    shared_store_le16_release(&bytes[4], 0x5678);
    assert_int_equal(bytes[4], 0x78);
    assert_int_equal(shared_load_le16(&bytes[2]), 0x1234);
    assert_int_equal(shared_load_le16_acquire(&bytes[4]), 0x5678);
    assert_true(shared_load_le64(bytes) == UINT64_C(0x0000567812340000));
    uint32_t copy = 0;
    shared_copy_in(&copy, &bytes[2], sizeof(copy));
    assert_int_equal(le32_to_cpu(copy), 0x56781234);
}

static void finds_the_structure_around_a_field(void **state)
{
    (void)state;
    struct outer {
        char before[5];
        uint32_t field;
    } outer = {.field = 7};
    uint32_t *field = &outer.field;
    assert_ptr_equal(container_of(field, struct outer, field), &outer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_an_index_that_is_inside_the_table),
        cmocka_unit_test(turns_an_index_outside_the_table_into_zero),
        cmocka_unit_test(a_range_is_judged_without_a_sum_that_wraps),
        cmocka_unit_test(tells_when_a_result_does_not_fit),
        cmocka_unit_test(aligns_to_powers_of_two),
        cmocka_unit_test(writes_and_reads_little_endian_at_any_alignment),
        cmocka_unit_test(shared_memory_is_little_endian_too),
        cmocka_unit_test(finds_the_structure_around_a_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
