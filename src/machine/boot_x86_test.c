/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "machine/boot_x86_test_rig.h"

#define RAM_BYTES (UINT64_C(4) << 20)

static uint8_t kernel_bytes[RIG_KERNEL_BYTES], initrd_bytes[70001];
static struct rig_image kernel, initrd;
static struct rig_ram ram;
static struct machine_plan plan;
static struct boot_x86_entry entry;
static const char *reason, *cmdline;

static int set_up(void **state)
{
    (void)state;
    rig_vmlinux(kernel_bytes);
    for (size_t i = 0; i < sizeof(initrd_bytes); i++)
        initrd_bytes[i] = (uint8_t)(i * 3 + (i >> 9));
    rig_image_init(&kernel, kernel_bytes, sizeof(kernel_bytes));
    rig_image_init(&initrd, initrd_bytes, sizeof(initrd_bytes));
    rig_ram_open(&ram, 0, RAM_BYTES);
    plan = (struct machine_plan){.ram_count = 2,
                                 .ram = {{.base = 0, .size = RAM_BYTES}, {.base = UINT64_C(1) << 32, .size = 1 << 30}},
                                 .pci = {.ecam = {.base = 0xe0000000, .size = 0x10000000}}};
    memset(&entry, 0xa5, sizeof(entry));
    reason = NULL;
    cmdline = "console=ttyS0";
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
    const struct boot_x86_request request = {.memory = &ram.memory,
                                             .plan = &plan,
                                             .kernel = &kernel.image,
                                             .initrd = with_initrd ? &initrd.image : NULL,
                                             .cmdline = cmdline,
                                             .acpi_root = 0xe0000};
    return boot_x86_load(&request, &entry, &reason);
}

static const uint8_t *memory_at(uint64_t address, size_t size)
{
    static uint8_t copy[sizeof(initrd_bytes)];
    assert_true(size <= sizeof(copy));
    assert_int_equal(guest_memory_read(&ram.memory, address, copy, size), 0);
    return copy;
}

/* A refusal leaves the result alone and says why. */
static void refused(int result, const char *word)
{
    struct boot_x86_entry untouched;
    memset(&untouched, 0xa5, sizeof(untouched));
    assert_int_equal(load(true), result);
    assert_memory_equal(&entry, &untouched, sizeof(entry));
    assert_non_null(reason);
    if (strstr(reason, word) == NULL)
        fail_msg("'%s' says nothing of '%s'", reason, word);
}

static void a_memory_map_is(const uint8_t *map, size_t stride, unsigned count)
{
    static const struct {
        uint64_t base, size;
        uint32_t type;
    } expected[] = {{0, 0x9fc00, 1},
                    {0x9fc00, 0x60400, 2},
                    {0x100000, RAM_BYTES - 0x100000, 1},
                    {UINT64_C(1) << 32, 1 << 30, 1},
                    {0xe0000000, 0x10000000, 2}};
    assert_int_equal(count, ARRAY_SIZE(expected));
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(get_le64(map + i * stride), expected[i].base);
        assert_int_equal(get_le64(map + i * stride + 8), expected[i].size);
        assert_int_equal(get_le32(map + i * stride + 16), expected[i].type);
    }
}

static void a_vmlinux_with_a_pvh_note_is_entered_there_in_32_bit_mode(void **state)
{
    (void)state;
    assert_int_equal(load(true), 0);
    assert_int_equal(entry.mode, BOOT_X86_PROTECTED_32);
    assert_int_equal(entry.rip, 0x100040);
    assert_int_equal(entry.cr0, 0x11);
    assert_int_equal(entry.cr4, 0);
    assert_int_equal(entry.efer, 0);
    assert_memory_equal(memory_at(0x100000, 4096), kernel_bytes + RIG_TEXT, 4096);
    uint8_t info[56], module[32];
    memcpy(info, memory_at(entry.rbx, sizeof(info)), sizeof(info));
    assert_int_equal(get_le32(info), 0x336ec578);
    assert_int_equal(get_le32(info + 4), 1);
    assert_int_equal(get_le32(info + 12), 1);
    assert_string_equal((const char *)memory_at(get_le64(info + 24), 64), cmdline);
    assert_int_equal(get_le64(info + 32), 0xe0000);
    a_memory_map_is(memory_at(get_le64(info + 40), 5 * 24), 24, get_le32(info + 48));
    memcpy(module, memory_at(get_le64(info + 16), sizeof(module)), sizeof(module));
    assert_int_equal(get_le64(module + 8), sizeof(initrd_bytes));
    assert_int_equal(get_le64(module), (RAM_BYTES - sizeof(initrd_bytes)) & ~UINT64_C(4095));
    assert_memory_equal(memory_at(get_le64(module), sizeof(initrd_bytes)), initrd_bytes, sizeof(initrd_bytes));
}

static void what_a_segment_has_no_bytes_for_becomes_zeros(void **state)
{
    (void)state;
    static const uint8_t zeros[4096];
    assert_int_equal(guest_memory_write(&ram.memory, 0x101000, initrd_bytes + 100, 4096 + 1), 0);
    assert_int_equal(load(false), 0);
    assert_memory_equal(memory_at(0x101000, 4096), zeros, sizeof(zeros));
    assert_int_equal(*memory_at(0x102000, 1), initrd_bytes[100 + 4096]);
}

/* The tables that CR3 names, walked as a processor does (Intel SDM 3, 4.5.4). */
static void paging_maps_to_itself(uint64_t address)
{
    uint64_t at = entry.cr3;
    for (unsigned shift = 39; shift >= 21; shift -= 9) {
        uint64_t found = get_le64(memory_at(at + (address >> shift & 511) * 8, 8));
        assert_int_equal(found & 3, 3);
        assert_int_equal(found & 0x80, shift == 21 ? 0x80 : 0);
        at = found & ~UINT64_C(0xfff);
    }
    assert_int_equal(at, address & ~UINT64_C(0x1fffff));
}

static void entered_in_64_bit_mode(uint64_t rip)
{
    assert_int_equal(entry.mode, BOOT_X86_LONG_64);
    assert_int_equal(entry.rip, rip);
    assert_int_equal(entry.cr0, 0x80000011);
    assert_int_equal(entry.cr4, 0x20);
    assert_int_equal(entry.efer, 0x500);
    paging_maps_to_itself(0);
    paging_maps_to_itself(0x40000000);
    paging_maps_to_itself(0xffffffff);
    assert_int_equal(entry.code.selector, 0x10);
    assert_int_equal(entry.data.selector, 0x18);
    assert_true(entry.code.wide);
    assert_int_equal(get_le64(memory_at(entry.gdt_base + 0x10, 8)), UINT64_C(0x00af9b000000ffff));
    assert_int_equal(get_le64(memory_at(entry.gdt_base + 0x18, 8)), UINT64_C(0x00cf93000000ffff));
    assert_int_equal(get_le64(memory_at(entry.gdt_base + 0x20, 8)), UINT64_C(0x00008b0000000067));
    assert_int_equal(entry.gdt_limit, 0x2f);
}

static void the_zero_page_has_command_line_initrd_and_map(void)
{
    uint8_t page[4096];
    memcpy(page, memory_at(entry.rsi, sizeof(page)), sizeof(page));
    assert_int_equal(get_le64(page + 0x70), 0xe0000);
    assert_int_equal(get_le16(page + 0x1fe), 0xaa55);
    assert_memory_equal(page + 0x202, "HdrS", 4);
    assert_int_equal(page[0x210], 0xff);
    assert_int_equal(page[0x211] & 1, 1);
    assert_int_equal(get_le32(page + 0x21c), sizeof(initrd_bytes));
    assert_memory_equal(memory_at(get_le32(page + 0x218), sizeof(initrd_bytes)), initrd_bytes, sizeof(initrd_bytes));
    assert_string_equal((const char *)memory_at(get_le32(page + 0x228), 64), cmdline);
    a_memory_map_is(page + 0x2d0, 20, page[0x1e8]);
}

static void a_vmlinux_without_the_note_is_entered_in_64_bit_mode(void **state)
{
    (void)state;
    put_le32(kernel_bytes + RIG_NOTES + 24 + 8, 17);
    assert_int_equal(load(true), 0);
    entered_in_64_bit_mode(0x100080);
    the_zero_page_has_command_line_initrd_and_map();
}

static void a_bzimage_is_entered_512_bytes_behind_its_beginning(void **state)
{
    (void)state;
    rig_bzimage(kernel_bytes);
    assert_int_equal(load(true), 0);
    entered_in_64_bit_mode(0x200200);
    the_zero_page_has_command_line_initrd_and_map();
    assert_memory_equal(memory_at(0x200000, RIG_KERNEL_BYTES - 1024), kernel_bytes + 1024, RIG_KERNEL_BYTES - 1024);
    assert_int_equal(get_le32(memory_at(entry.rsi + 0x260, 4)), 0x10000); /* its own header */
}

static void a_kernel_may_lie_across_two_pieces_of_memory(void **state)
{
    (void)state;
    rig_bzimage(kernel_bytes);
    put_le64(kernel_bytes + 0x258, RAM_BYTES / 2 - 5000);
    assert_int_equal(load(false), 0);
    assert_memory_equal(memory_at(RAM_BYTES / 2 - 5000, RIG_KERNEL_BYTES - 1024), kernel_bytes + 1024,
                        RIG_KERNEL_BYTES - 1024);
}

static void the_initrd_stays_below_what_a_kernel_can_reach_and_below_the_bounce_range(void **state)
{
    (void)state;
    rig_bzimage(kernel_bytes);
    put_le32(kernel_bytes + 0x22c, 0x2fffff);
    assert_int_equal(load(true), 0);
    uint64_t at = get_le32(memory_at(entry.rsi + 0x218, 4));
    assert_int_equal(at, (0x300000 - sizeof(initrd_bytes)) & ~UINT64_C(4095));
    plan.bounce = (struct machine_range){.base = 0x280000, .size = 0x100000};
    assert_int_equal(load(true), 0);
    at = get_le32(memory_at(entry.rsi + 0x218, 4));
    assert_int_equal(at, (0x280000 - sizeof(initrd_bytes)) & ~UINT64_C(4095));
    memset(&entry, 0xa5, sizeof(entry));
    plan.bounce.base = 0x210000 + sizeof(initrd_bytes) - 1; /* the kernel's memory ends at 0x210000 */
    refused(-ENOSPC, "give the guest more");
    plan.bounce.base++;
    assert_int_equal(load(true), 0);
}

static void an_initrd_larger_than_memory_is_refused(void **state)
{
    (void)state;
    initrd.image.size = UINT64_MAX;
    refused(-ENOSPC, "give the guest more");
    initrd.image.size = RAM_BYTES + 1;
    refused(-ENOSPC, "give the guest more");
    assert_int_equal(initrd.reads, 0);
}

static void a_command_line_is_as_long_as_the_kernel_reads_and_no_longer(void **state)
{
    (void)state;
    char text[2049];
    memset(text, 'x', sizeof(text));
    text[2047] = '\0';
    cmdline = text;
    assert_int_equal(load(true), 0);
    text[2047] = 'x';
    text[2048] = '\0';
    memset(&entry, 0xa5, sizeof(entry));
    refused(-E2BIG, "shorten it");
    rig_bzimage(kernel_bytes);
    put_le32(kernel_bytes + 0x238, 255);
    text[256] = '\0';
    refused(-E2BIG, "shorten it");
    text[255] = '\0';
    assert_int_equal(load(true), 0);
    put_le32(kernel_bytes + 0x238, UINT32_MAX);
    text[255] = text[256] = 'x';
    memset(&entry, 0xa5, sizeof(entry));
    refused(-E2BIG, "shorten it");
}

static void files_that_are_no_kernel_are_refused(void **state)
{
    (void)state;
    kernel_bytes[0] = 'M';
    refused(-EBADMSG, "neither");
    kernel.image.size = 0;
    refused(-EBADMSG, "neither");
    rig_vmlinux(kernel_bytes);
    kernel.image.size = 63;
    refused(-EBADMSG, "no vmlinux");
    kernel.image.size = RIG_KERNEL_BYTES;
    put_le16(kernel_bytes + 18, 183); /* of arm64 */
    refused(-EBADMSG, "no vmlinux");
    put_le16(kernel_bytes + 18, 62);
    kernel_bytes[4] = 1;
    refused(-EBADMSG, "no vmlinux");
    kernel_bytes[4] = 2;
    put_le16(kernel_bytes + 56, 65);
    refused(-EBADMSG, "no vmlinux");
    put_le16(kernel_bytes + 56, 0);
    refused(-EBADMSG, "nothing to load");
}

static void a_vmlinux_that_lies_is_refused(void **state)
{
    (void)state;
    static const struct {
        uint64_t offset, address, file_bytes, memory_bytes;
        int result;
    } lies[] = {
        {RIG_KERNEL_BYTES - 4095, 0x100000, 4096, 4096, -EBADMSG},
        {UINT64_MAX, 0x100000, 4096, 4096, -EBADMSG},
        {RIG_TEXT, 0x100000, UINT64_MAX, UINT64_MAX, -EBADMSG},
        {RIG_TEXT, 0x100000, 4097, 4096, -EBADMSG},
        {RIG_TEXT, 0xff000, 4096, 8192, -EBADMSG},
        {RIG_TEXT, 0, 4096, 4096, -EBADMSG},
        {RIG_TEXT, UINT64_MAX - 4095, 4096, 4097, -EBADMSG},
        {RIG_TEXT, RAM_BYTES - 4096, 4096, 4097, -ENOSPC},
        {RIG_TEXT, RAM_BYTES - 4095, 4096, 4096, -ENOSPC},
        {RIG_TEXT, UINT64_MAX - 4096, 4096, 4096, -ENOSPC},
        {RIG_TEXT, 0x100000, 4096, UINT64_C(1) << 62, -ENOSPC},
    };
    for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
        rig_program(kernel_bytes, 0, 1, lies[i].offset, lies[i].address, lies[i].file_bytes, lies[i].memory_bytes);
        refused(lies[i].result, lies[i].result == -ENOSPC ? "give the guest more" : "damaged");
    }
    rig_vmlinux(kernel_bytes);
    put_le64(kernel_bytes + 32, UINT64_MAX - 3);
    refused(-EBADMSG, "damaged");
    put_le64(kernel_bytes + 32, RIG_KERNEL_BYTES - 111);
    refused(-EBADMSG, "damaged");
}

static void notes_that_lie_are_no_entry(void **state)
{
    (void)state;
    static const struct {
        unsigned at;
        uint32_t value;
    } lies[] = {
        {24, 5},          /* the name is longer than Xen's */
        {24, UINT32_MAX}, /* than everything */
        {28, 3},          /* half an address */
        {28, 9},          /* the value goes past the notes */
        {28, UINT32_MAX}, {0, UINT32_MAX}, {4, UINT32_MAX}, {4, 0x80000000},
    };
    for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
        rig_vmlinux(kernel_bytes);
        put_le32(kernel_bytes + RIG_NOTES + lies[i].at, lies[i].value);
        assert_int_equal(load(true), 0);
        assert_int_equal(entry.mode, BOOT_X86_LONG_64);
    }
    rig_vmlinux(kernel_bytes);
    rig_program(kernel_bytes, 1, 4, RIG_NOTES, 0, 4097, 4097);
    assert_int_equal(load(true), 0);
    assert_int_equal(entry.mode, BOOT_X86_LONG_64);
    rig_program(kernel_bytes, 1, 4, UINT64_MAX - 8, 0, 48, 48);
    assert_int_equal(load(true), 0);
    assert_int_equal(entry.mode, BOOT_X86_LONG_64);
}

static void a_bzimage_that_lies_or_is_too_old_is_refused(void **state)
{
    (void)state;
    rig_bzimage(kernel_bytes);
    put_le16(kernel_bytes + 0x206, 0x20b);
    refused(-EBADMSG, "newer");
    rig_bzimage(kernel_bytes);
    put_le16(kernel_bytes + 0x236, 0x3e);
    refused(-EBADMSG, "64-bit");
    rig_bzimage(kernel_bytes);
    kernel_bytes[0x201] = 0x65; /* a header that ends too early */
    refused(-EBADMSG, "damaged");
    kernel_bytes[0x201] = 0x8f; /* and one that has no place in the zero page */
    refused(-EBADMSG, "damaged");
    kernel_bytes[0x201] = 0x8e;
    assert_int_equal(load(true), 0);
    memset(&entry, 0xa5, sizeof(entry));
    kernel_bytes[0x1f1] = 31; /* as many sectors as the file has */
    refused(-EBADMSG, "damaged");
    kernel_bytes[0x1f1] = 0; /* 4 of them */
    assert_int_equal(load(true), 0);
    assert_memory_equal(memory_at(0x200000, 512), kernel_bytes + 2560, 512);
    memset(&entry, 0xa5, sizeof(entry));
    put_le32(kernel_bytes + 0x260, 100); /* smaller than what is to be loaded */
    refused(-EBADMSG, "damaged");
    put_le32(kernel_bytes + 0x260, UINT32_MAX);
    refused(-ENOSPC, "give the guest more");
    put_le64(kernel_bytes + 0x258, UINT64_MAX);
    refused(-EBADMSG, "damaged");
    put_le64(kernel_bytes + 0x258, 0x1000);
    refused(-EBADMSG, "damaged");
}

static void a_file_that_cannot_be_read_is_told_by_its_name(void **state)
{
    (void)state;
    static const uint64_t places[] = {0, 63, RIG_PROGRAM(1), RIG_TEXT + 4095};
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        kernel.breaks_at = places[i];
        refused(-EIO, "kernel cannot be read");
    }
    rig_bzimage(kernel_bytes);
    kernel.breaks_at = RIG_KERNEL_BYTES - 1;
    refused(-EIO, "kernel cannot be read");
    kernel.breaks_at = UINT64_MAX;
    initrd.breaks_at = sizeof(initrd_bytes) - 1;
    refused(-EIO, "initrd cannot be read");
}

static void too_little_memory_for_what_is_handed_over_is_told(void **state)
{
    (void)state;
    struct rig_ram whole = ram;
    guest_memory_init(&ram.memory, NULL);
    const struct guest_region high = {.guest_base = 0x100000, .size = 0x100000, .host = whole.pieces[0]};
    assert_int_equal(guest_memory_add(&ram.memory, &high), 0);
    plan.ram[0] = (struct machine_range){.base = 0, .size = 0x200000};
    refused(-ENOSPC, "handed over");
    ram = whole;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_vmlinux_with_a_pvh_note_is_entered_there_in_32_bit_mode),
        TEST(what_a_segment_has_no_bytes_for_becomes_zeros),
        TEST(a_vmlinux_without_the_note_is_entered_in_64_bit_mode),
        TEST(a_bzimage_is_entered_512_bytes_behind_its_beginning),
        TEST(a_kernel_may_lie_across_two_pieces_of_memory),
        TEST(the_initrd_stays_below_what_a_kernel_can_reach_and_below_the_bounce_range),
        TEST(an_initrd_larger_than_memory_is_refused),
        TEST(a_command_line_is_as_long_as_the_kernel_reads_and_no_longer),
        TEST(files_that_are_no_kernel_are_refused),
        TEST(a_vmlinux_that_lies_is_refused),
        TEST(notes_that_lie_are_no_entry),
        TEST(a_bzimage_that_lies_or_is_too_old_is_refused),
        TEST(a_file_that_cannot_be_read_is_told_by_its_name),
        TEST(too_little_memory_for_what_is_handed_over_is_told),
    };
    return cmocka_run_group_tests_name("boot_x86", tests, NULL, NULL);
}
