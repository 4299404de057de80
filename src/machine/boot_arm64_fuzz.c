/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A stranger's file as a kernel for arm64. The first four bytes choose RAM and initrd, the rest is the file. Held
 * against it: no byte outside the guest's memory is touched (the image and the RAM are blocks of exactly their size);
 * what was loaded lies apart and is what the files have; a refusal says why.
 */
#include "fuzz_input.h"
#include "machine/boot_arm64.h"
#include "machine/boot_test_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RAM_BASE UINT64_C(0x40000000)
#define RAM_BYTES (UINT64_C(8) << 20)

static uint8_t initrd_bytes[65536], copy[65536];
/* Made once, since an address sanitizer takes its time for megabytes. No loader reads it. */
static struct rig_ram ram;

static void prepare(void)
{
    rig_ram_open(&ram, RAM_BASE, RAM_BYTES);
    for (size_t i = 0; i < sizeof(initrd_bytes); i++)
        initrd_bytes[i] = (uint8_t)(i * 11 + (i >> 8) + 1);
}

static void check(const struct boot_arm64_entry *entry, const struct machine_plan *plan, uint64_t kernel_bytes,
                  uint64_t initrd_size)
{
    uint64_t end = plan->bounce.size > 0 ? plan->bounce.base : RAM_BASE + plan->ram[0].size;
    ASSERT(entry->pc >= plan->ram[0].base && entry->pc + kernel_bytes <= entry->x0);
    ASSERT(is_aligned(entry->x0, 8) && entry->x0 + BOOT_ARM64_DTB_BYTES_MAX <= end);
    ASSERT(entry->initrd.size == initrd_size);
    if (initrd_size == 0)
        return;
    ASSERT(entry->initrd.base >= entry->x0 + BOOT_ARM64_DTB_BYTES_MAX && entry->initrd.base + initrd_size <= end);
    int r = guest_memory_read(&ram.memory, entry->initrd.base, copy, initrd_size);
    ASSERT(r == 0 && memcmp(copy, initrd_bytes, initrd_size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.bytes = data, .left = size};
    uint16_t initrd_size = fuzz_u16(&input);
    uint8_t ram_cut = fuzz_u8(&input), bounce_at = fuzz_u8(&input);
    struct machine_plan plan = {.ram_count = 1, .ram = {{.base = RAM_BASE, .size = RAM_BYTES - ram_cut * 0x1000u}}};
    if (bounce_at > 0)
        plan.bounce = (struct machine_range){.base = RAM_BASE + plan.ram[0].size / 256 * bounce_at, .size = 4096};
    if (!ram.pieces[0])
        prepare();
    struct rig_image kernel, initrd;
    rig_image_init(&kernel, input.bytes, input.left);
    rig_image_init(&initrd, initrd_bytes, initrd_size);
    const struct boot_arm64_request request = {
        .memory = &ram.memory, .plan = &plan, .kernel = &kernel.image, .initrd = &initrd.image};
    struct boot_arm64_entry entry;
    const char *reason = NULL;
    int r = boot_arm64_load(&request, &entry, &reason);
    ASSERT(r == 0 || r == -EBADMSG || r == -ENOSPC);
    if (r == 0)
        check(&entry, &plan, kernel.image.size, initrd_size);
    else
        ASSERT(reason);
    return 0;
}
