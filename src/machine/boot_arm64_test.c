/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "machine/boot_arm64.h"
#include "machine/boot_test_rig.h"

#define RAM_BASE UINT64_C(0x40000000)
#define RAM_BYTES (UINT64_C(16) << 20)
#define MIB (UINT64_C(1) << 20)
#define FILE_BYTES 10000u

static uint8_t kernel_bytes[FILE_BYTES], initrd_bytes[70000];
static struct rig_image kernel, initrd;
static struct rig_ram ram;
static struct machine_plan plan;
static struct boot_arm64_entry entry;
static const char *reason;

static int set_up(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(kernel_bytes); i++)
        kernel_bytes[i] = (uint8_t)(i * 7 + (i >> 8));
    for (size_t i = 0; i < sizeof(initrd_bytes); i++)
        initrd_bytes[i] = (uint8_t)(i * 3 + (i >> 9));
    put_le64(kernel_bytes + 8, 0);
    put_le64(kernel_bytes + 16, MIB);
    put_le64(kernel_bytes + 24, 0xa); /* pages of 4 KiB, anywhere */
    memcpy(kernel_bytes + 56, "ARM\x64", 4);
    rig_image_init(&kernel, kernel_bytes, sizeof(kernel_bytes));
    rig_image_init(&initrd, initrd_bytes, sizeof(initrd_bytes));
    rig_ram_open(&ram, RAM_BASE, RAM_BYTES);
    plan = (struct machine_plan){.ram_count = 1, .ram = {{.base = RAM_BASE, .size = RAM_BYTES}}};
    memset(&entry, 0xa5, sizeof(entry));
    reason = NULL;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    rig_ram_close(&ram);
    return 0;
}

static int load(bool with_initrd)
{
    const struct boot_arm64_request request = {
        .memory = &ram.memory, .plan = &plan, .kernel = &kernel.image, .initrd = with_initrd ? &initrd.image : NULL};
    return boot_arm64_load(&request, &entry, &reason);
}

static void holds(uint64_t address, const uint8_t *bytes, size_t size)
{
    static uint8_t copy[sizeof(initrd_bytes)];
    assert_int_equal(guest_memory_read(&ram.memory, address, copy, size), 0);
    assert_memory_equal(copy, bytes, size);
}

/* A refusal leaves the result alone and says why. */
static void refused(int result, const char *word)
{
    struct boot_arm64_entry untouched;
    memset(&untouched, 0xa5, sizeof(untouched));
    assert_int_equal(load(true), result);
    assert_memory_equal(&entry, &untouched, sizeof(entry));
    assert_non_null(reason);
    if (strstr(reason, word) == NULL)
        fail_msg("'%s' says nothing of '%s'", reason, word);
}

static void kernel_tree_and_initrd_follow_each_other_from_the_bottom_of_ram(void **state)
{
    (void)state;
    assert_int_equal(load(true), 0);
    assert_int_equal(entry.pc, RAM_BASE);
    assert_int_equal(entry.x0, RAM_BASE + 2 * MIB);
    assert_int_equal(entry.pstate, 0x3c5);
    assert_int_equal(entry.initrd.base, RAM_BASE + 4 * MIB);
    assert_int_equal(entry.initrd.size, sizeof(initrd_bytes));
    holds(entry.pc, kernel_bytes, sizeof(kernel_bytes));
    holds(entry.initrd.base, initrd_bytes, sizeof(initrd_bytes));
}

static void a_text_offset_and_a_large_image_move_the_rest_up(void **state)
{
    (void)state;
    put_le64(kernel_bytes + 8, 0x80000);
    put_le64(kernel_bytes + 16, 4 * MIB - 0x80000 + 1);
    assert_int_equal(load(true), 0);
    assert_int_equal(entry.pc, RAM_BASE + 0x80000);
    assert_int_equal(entry.x0, RAM_BASE + 6 * MIB);
    assert_int_equal(entry.initrd.base, RAM_BASE + 8 * MIB);
    holds(entry.pc, kernel_bytes, sizeof(kernel_bytes));
    holds(entry.initrd.base, initrd_bytes, sizeof(initrd_bytes));
}

static void ram_that_begins_between_places_is_used_from_the_next_one(void **state)
{
    (void)state;
    plan.ram[0].base += 4096;
    plan.ram[0].size -= 4096;
    assert_int_equal(load(false), 0);
    assert_int_equal(entry.pc, RAM_BASE + 2 * MIB);
    assert_int_equal(entry.initrd.size, 0);
}

static void what_ends_exactly_where_ram_does_fits_and_a_byte_more_does_not(void **state)
{
    (void)state;
    plan.ram[0].size = 4 * MIB + sizeof(initrd_bytes);
    assert_int_equal(load(true), 0);
    plan.ram[0].size--;
    memset(&entry, 0xa5, sizeof(entry));
    refused(-ENOSPC, "give the guest more");
    plan.ram[0].size = 4 * MIB;
    assert_int_equal(load(false), 0);
    plan.ram[0].size = 4 * MIB - 1;
    assert_int_equal(load(false), -ENOSPC);
}

static void the_bounce_range_stays_free(void **state)
{
    (void)state;
    plan.bounce = (struct machine_range){.base = RAM_BASE + 4 * MIB + sizeof(initrd_bytes) - 1, .size = 12 * MIB};
    refused(-ENOSPC, "give the guest more");
    plan.bounce.base++;
    assert_int_equal(load(true), 0);
}

static void an_initrd_of_no_bytes_is_none(void **state)
{
    (void)state;
    initrd.image.size = 0;
    assert_int_equal(load(true), 0);
    assert_int_equal(entry.initrd.base, 0);
    assert_int_equal(initrd.reads, 0);
}

static void other_files_are_refused_with_what_to_do(void **state)
{
    (void)state;
    kernel_bytes[56] ^= 1;
    refused(-EBADMSG, "give a Linux Image");
    memcpy(kernel_bytes, "\x1f\x8b\x08", 3);
    refused(-EBADMSG, "gzip -dc");
    memcpy(kernel_bytes, "MZ\0\0zimg", 8);
    refused(-EBADMSG, "EFI");
    memcpy(kernel_bytes, "\177ELF", 4);
    refused(-EBADMSG, "vmlinux");
    kernel.image.size = 63;
    refused(-EBADMSG, "too short");
    kernel.image.size = 0;
    refused(-EBADMSG, "too short");
}

static void images_that_lie_or_cannot_run_are_refused(void **state)
{
    (void)state;
    put_le64(kernel_bytes + 16, 0);
    refused(-EBADMSG, "3.17");
    put_le64(kernel_bytes + 16, FILE_BYTES - 1);
    refused(-EBADMSG, "damaged");
    put_le64(kernel_bytes + 16, UINT64_MAX);
    refused(-EBADMSG, "damaged");
    put_le64(kernel_bytes + 16, UINT64_MAX - RAM_BASE + 1);
    refused(-EBADMSG, "damaged");
    put_le64(kernel_bytes + 16, UINT64_C(1) << 30);
    refused(-ENOSPC, "give the guest more");
    put_le64(kernel_bytes + 16, MIB);
    put_le64(kernel_bytes + 8, 2 * MIB);
    refused(-EBADMSG, "damaged");
    put_le64(kernel_bytes + 8, UINT64_MAX);
    refused(-EBADMSG, "damaged");
    put_le64(kernel_bytes + 8, 0);
    put_le64(kernel_bytes + 24, 1);
    refused(-EBADMSG, "big-endian");
}

static void a_file_that_cannot_be_read_is_told_by_its_name(void **state)
{
    (void)state;
    kernel.breaks_at = 0;
    refused(-EIO, "kernel cannot be read");
    kernel.breaks_at = FILE_BYTES - 1;
    refused(-EIO, "kernel cannot be read");
    kernel.breaks_at = UINT64_MAX;
    initrd.breaks_at = 5;
    refused(-EIO, "initrd cannot be read");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(kernel_tree_and_initrd_follow_each_other_from_the_bottom_of_ram),
        TEST(a_text_offset_and_a_large_image_move_the_rest_up),
        TEST(ram_that_begins_between_places_is_used_from_the_next_one),
        TEST(what_ends_exactly_where_ram_does_fits_and_a_byte_more_does_not),
        TEST(the_bounce_range_stays_free),
        TEST(an_initrd_of_no_bytes_is_none),
        TEST(other_files_are_refused_with_what_to_do),
        TEST(images_that_lie_or_cannot_run_are_refused),
        TEST(a_file_that_cannot_be_read_is_told_by_its_name),
    };
    return cmocka_run_group_tests_name("boot_arm64", tests, NULL, NULL);
}
