/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A stranger's file as a kernel for x86-64. The first five bytes choose RAM, initrd and command line, the rest is the
 * file. Held against it: no byte outside the guest's memory is touched (the image and the RAM are blocks of exactly
 * their size); the initrd lies above the kernel and is what the file has; what is handed over is in the first megabyte;
 * the work is bounded; a refusal says why.
 */
#include "fuzz_input.h"
#include "machine/boot_test_rig.h"
#include "machine/boot_x86.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RAM_BYTES (UINT64_C(3) << 20)

static uint8_t initrd_bytes[65536], copy[65536];
/* Made once, since an address sanitizer takes its time for megabytes. No loader reads it. */
static struct rig_ram ram;

static void prepare(void)
{
    rig_ram_open(&ram, 0, RAM_BYTES);
    for (size_t i = 0; i < sizeof(initrd_bytes); i++)
        initrd_bytes[i] = (uint8_t)(i * 11 + (i >> 8) + 1);
}

/* Where the entry's own structure says that the initrd is. */
static void check(const struct boot_x86_entry *entry, uint64_t end, uint64_t initrd_size)
{
    uint8_t info[56], page[4096], module[32];
    uint64_t base, size;
    int r;
    if (entry->mode == BOOT_X86_PROTECTED_32) {
        r = guest_memory_read(&ram.memory, entry->rbx, info, sizeof(info));
        ASSERT(r == 0 && get_le32(info) == 0x336ec578 && entry->rip <= UINT32_MAX);
        r = guest_memory_read(&ram.memory, get_le64(info + 16), module, sizeof(module));
        ASSERT(r == 0);
        base = get_le64(module);
        size = get_le64(module + 8);
    } else {
        r = guest_memory_read(&ram.memory, entry->rsi, page, sizeof(page));
        ASSERT(r == 0 && get_le16(page + 0x1fe) == 0xaa55 && page[0x1e8] > 0);
        base = get_le32(page + 0x218) | (uint64_t)get_le32(page + 0xc0) << 32;
        size = get_le32(page + 0x21c);
    }
    ASSERT(entry->gdt_base + entry->gdt_limit < BOOT_X86_LOW_END);
    ASSERT(size == initrd_size && base >= BOOT_X86_HIGH_BASE && range_within(base, size, end));
    r = guest_memory_read(&ram.memory, base, copy, size);
    ASSERT(r == 0 && memcmp(copy, initrd_bytes, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.bytes = data, .left = size};
    uint16_t initrd_size = fuzz_u16(&input);
    uint8_t ram_cut = fuzz_u8(&input), bounce_at = fuzz_u8(&input), cmdline_bytes = fuzz_u8(&input);
    struct machine_plan plan = {.ram_count = 1, .ram = {{.base = 0, .size = RAM_BYTES - ram_cut * 0x1000u}}};
    if (bounce_at > 0)
        plan.bounce = (struct machine_range){.base = bounce_at * 0x4000u, .size = 0x4000};
    char cmdline[256];
    memset(cmdline, 'x', sizeof(cmdline));
    cmdline[cmdline_bytes] = '\0';
    if (!ram.pieces[0])
        prepare();
    struct rig_image kernel, initrd;
    rig_image_init(&kernel, input.bytes, input.left);
    rig_image_init(&initrd, initrd_bytes, initrd_size);
    const struct boot_x86_request request = {
        .memory = &ram.memory, .plan = &plan, .kernel = &kernel.image, .initrd = &initrd.image, .cmdline = cmdline};
    struct boot_x86_entry entry;
    const char *reason = NULL;
    int r = boot_x86_load(&request, &entry, &reason);
    ASSERT(r == 0 || r == -EBADMSG || r == -ENOSPC || r == -E2BIG);
    ASSERT(kernel.reads <= 200); /* 64 program headers, each with a segment or notes, and some */
    if (r == 0)
        check(&entry, plan.ram[0].size, initrd_size);
    else
        ASSERT(reason);
    return 0;
}
