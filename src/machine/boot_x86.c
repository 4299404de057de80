/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * The kernel goes where it asks to, the initrd as high as it may below the hole for devices, and what is handed over
 * into the first megabyte. A vmlinux with a PVH entry is entered there, in 32-bit mode with start_info in EBX;
 * everything else in 64-bit mode with the zero page in RSI, the first 4 GiB mapped to themselves by pages of 2 MiB.
 *
 * Limits
 *
 * 64-bit kernels alone. No EFI, no kexec setup_data, one initrd.
 */
#include "machine/boot_x86.h"

#include <errno.h>

#include "machine/boot_x86_private.h"

#define PAGE_BYTES 4096u

/* ---- what both protocols need */

static unsigned boot_x86_map_add(struct boot_x86_memory *map, unsigned count, uint64_t base, uint64_t end,
                                 enum boot_x86_memory_type type)
{
    if (base >= end)
        return count;
    map[count] = (struct boot_x86_memory){.base = base, .size = end - base, .type = type};
    return count + 1;
}

unsigned boot_x86_memory_map(const struct machine_plan *plan, struct boot_x86_memory *map)
{
    unsigned count = 0;
    for (unsigned i = 0; i < plan->ram_count; i++) {
        const struct machine_range *ram = &plan->ram[i];
        uint64_t end = ram->base + ram->size;
        if (ram->base == 0) {
            count = boot_x86_map_add(map, count, 0, u64_min(end, BOOT_X86_LOW_END), BOOT_X86_RAM);
            count = boot_x86_map_add(map, count, BOOT_X86_LOW_END, u64_min(end, BOOT_X86_HIGH_BASE), BOOT_X86_RESERVED);
            count = boot_x86_map_add(map, count, BOOT_X86_HIGH_BASE, end, BOOT_X86_RAM);
        } else {
            count = boot_x86_map_add(map, count, ram->base, end, BOOT_X86_RAM);
        }
    }
    /* Linux uses ECAM only where this or ACPI says that nothing else is there. */
    const struct machine_range *ecam = &plan->pci.ecam;
    return boot_x86_map_add(map, count, ecam->base, ecam->base + ecam->size, BOOT_X86_RESERVED);
}

/* As high as it may lie: in the RAM that begins at 0, below the bounce range, behind the kernel. */
static int boot_x86_load_initrd(const struct boot_x86_request *request, const struct boot_x86_kernel *kernel,
                                uint64_t *ret_base, const char **ret_reason)
{
    const struct machine_range *ram = &request->plan->ram[0], *bounce = &request->plan->bounce;
    uint64_t size = request->initrd->size, end = u64_min(ram->size, kernel->initrd_max + 1);
    if (bounce->size > 0)
        end = u64_min(end, bounce->base);
    *ret_reason = "the memory is too small for kernel and initrd: give the guest more";
    if (size > end || align_down(end - size, PAGE_BYTES) < align_up(kernel->end, PAGE_BYTES))
        return -ENOSPC;
    *ret_base = align_down(end - size, PAGE_BYTES);
    int r = boot_image_load(request->initrd, 0, size, request->memory, *ret_base);
    if (r < 0)
        *ret_reason = "the initrd cannot be read";
    return r;
}

static int boot_x86_put_cmdline(const struct boot_x86_request *request, const struct boot_x86_kernel *kernel,
                                const char **ret_reason)
{
    size_t bytes = 0;
    while (bytes < kernel->cmdline_max && request->cmdline[bytes] != '\0')
        bytes++;
    *ret_reason = "the command line is longer than this kernel reads (see its COMMAND_LINE_SIZE): shorten it";
    if (bytes == kernel->cmdline_max)
        return -E2BIG;
    *ret_reason = "the guest's memory has no room for what a kernel is handed over: give it more";
    int r = guest_memory_write(request->memory, BOOT_X86_CMDLINE, request->cmdline, bytes + 1);
    return r == -EFAULT ? -ENOSPC : r;
}

/* ---- PVH */

/* struct hvm_start_info, version 1 (Xen's public/arch-x86/hvm/start_info.h). */
enum {
    START_INFO_MAGIC = 0,
    START_INFO_VERSION = 4,
    START_INFO_FLAGS = 8,
    START_INFO_MODULE_COUNT = 12,
    START_INFO_MODULES = 16,
    START_INFO_CMDLINE = 24,
    START_INFO_RSDP = 32,
    START_INFO_MEMORY_MAP = 40,
    START_INFO_MEMORY_COUNT = 48,
    START_INFO_BYTES = 56,
};
#define START_INFO_MAGIC_VALUE 0x336ec578u
#define START_INFO_ENTRY_BYTES 24  /* base, size, type u32, reserved u32 */
#define START_INFO_MODULE_BYTES 32 /* base, size, command line, reserved */

static int boot_x86_put_start_info(const struct boot_x86_request *request, uint64_t initrd)
{
    uint8_t info[START_INFO_BYTES] = {0}, entries[BOOT_X86_MEMORY_MAX * START_INFO_ENTRY_BYTES] = {0};
    uint8_t module[START_INFO_MODULE_BYTES] = {0};
    struct boot_x86_memory map[BOOT_X86_MEMORY_MAX];
    unsigned count = boot_x86_memory_map(request->plan, map);
    for (unsigned i = 0; i < count; i++) {
        uint8_t *entry = entries + (size_t)i * START_INFO_ENTRY_BYTES;
        put_le64(entry, map[i].base);
        put_le64(entry + 8, map[i].size);
        put_le32(entry + 16, map[i].type);
    }
    put_le32(info + START_INFO_MAGIC, START_INFO_MAGIC_VALUE);
    put_le32(info + START_INFO_VERSION, 1);
    put_le64(info + START_INFO_CMDLINE, BOOT_X86_CMDLINE);
    put_le64(info + START_INFO_RSDP, request->acpi_root);
    put_le64(info + START_INFO_MEMORY_MAP, BOOT_X86_MEMORY_MAP);
    put_le32(info + START_INFO_MEMORY_COUNT, count);
    if (request->initrd) {
        put_le32(info + START_INFO_MODULE_COUNT, 1);
        put_le64(info + START_INFO_MODULES, BOOT_X86_MODULES);
        put_le64(module, initrd);
        put_le64(module + 8, request->initrd->size);
    }
    int r = guest_memory_write(request->memory, BOOT_X86_START_INFO, info, sizeof(info));
    if (r == 0)
        r = guest_memory_write(request->memory, BOOT_X86_MEMORY_MAP, entries, sizeof(entries));
    return r == 0 ? guest_memory_write(request->memory, BOOT_X86_MODULES, module, sizeof(module)) : r;
}

/* ---- the 64-bit boot protocol */

/* struct boot_params, the "zero page" (Documentation/arch/x86/zero-page.rst). */
enum {
    ZERO_PAGE_RSDP = 0x70,
    ZERO_PAGE_INITRD_HIGH = 0xc0,
    ZERO_PAGE_INITRD_SIZE_HIGH = 0xc4,
    ZERO_PAGE_MEMORY_COUNT = 0x1e8,
    ZERO_PAGE_SETUP = 0x1f1,
    ZERO_PAGE_BOOT_FLAG = 0x1fe,
    ZERO_PAGE_HEADER = 0x202,
    ZERO_PAGE_LOADER = 0x210,
    ZERO_PAGE_LOAD_FLAGS = 0x211,
    ZERO_PAGE_INITRD = 0x218,
    ZERO_PAGE_INITRD_SIZE = 0x21c,
    ZERO_PAGE_CMDLINE = 0x228,
    ZERO_PAGE_MEMORY_MAP = 0x2d0,
    ZERO_PAGE_BYTES = 4096,
};
#define ZERO_PAGE_ENTRY_BYTES 20
#define LOADER_UNDEFINED 0xff
#define LOADED_HIGH 0x01

static int boot_x86_put_zero_page(const struct boot_x86_request *request, const struct boot_x86_kernel *kernel,
                                  uint64_t initrd)
{
    uint8_t page[ZERO_PAGE_BYTES] = {0};
    struct boot_x86_memory map[BOOT_X86_MEMORY_MAX];
    unsigned count = boot_x86_memory_map(request->plan, map);
    memcpy(page + ZERO_PAGE_SETUP, kernel->setup, kernel->setup_bytes);
    put_le16(page + ZERO_PAGE_BOOT_FLAG, 0xaa55);
    put_le32(page + ZERO_PAGE_HEADER, 0x53726448); /* "HdrS" */
    page[ZERO_PAGE_LOADER] = LOADER_UNDEFINED;
    page[ZERO_PAGE_LOAD_FLAGS] |= LOADED_HIGH;
    put_le32(page + ZERO_PAGE_CMDLINE, BOOT_X86_CMDLINE);
    put_le64(page + ZERO_PAGE_RSDP, request->acpi_root);
    if (request->initrd) {
        put_le32(page + ZERO_PAGE_INITRD, (uint32_t)initrd);
        put_le32(page + ZERO_PAGE_INITRD_HIGH, (uint32_t)(initrd >> 32));
        put_le32(page + ZERO_PAGE_INITRD_SIZE, (uint32_t)request->initrd->size);
        put_le32(page + ZERO_PAGE_INITRD_SIZE_HIGH, (uint32_t)(request->initrd->size >> 32));
    }
    page[ZERO_PAGE_MEMORY_COUNT] = (uint8_t)count;
    for (unsigned i = 0; i < count; i++) {
        uint8_t *entry = page + ZERO_PAGE_MEMORY_MAP + (size_t)i * ZERO_PAGE_ENTRY_BYTES;
        put_le64(entry, map[i].base);
        put_le64(entry + 8, map[i].size);
        put_le32(entry + 16, map[i].type);
    }
    return guest_memory_write(request->memory, BOOT_X86_ZERO_PAGE, page, sizeof(page));
}

#define PAGE_PRESENT 0x1u
#define PAGE_WRITABLE 0x2u
#define PAGE_LARGE 0x80u
#define LARGE_PAGE_BYTES (UINT64_C(2) << 20)
#define TABLE_ENTRIES 512u

/* One level 4 and one level 3 table, and four of level 2: 4 GiB. */
static int boot_x86_put_page_tables(const struct guest_memory *memory)
{
    uint8_t table[TABLE_ENTRIES * 8] = {0};
    uint64_t level_3 = BOOT_X86_PAGE_TABLES + PAGE_BYTES, level_2 = level_3 + PAGE_BYTES;
    put_le64(table, level_3 | PAGE_PRESENT | PAGE_WRITABLE);
    int r = guest_memory_write(memory, BOOT_X86_PAGE_TABLES, table, sizeof(table));
    for (unsigned i = 0; i < 4; i++)
        put_le64(table + (size_t)i * 8, (level_2 + (uint64_t)i * PAGE_BYTES) | PAGE_PRESENT | PAGE_WRITABLE);
    if (r == 0)
        r = guest_memory_write(memory, level_3, table, sizeof(table));
    for (unsigned i = 0; i < 4 && r == 0; i++) {
        for (unsigned j = 0; j < TABLE_ENTRIES; j++)
            put_le64(table + (size_t)j * 8,
                     (i * (uint64_t)TABLE_ENTRIES + j) * LARGE_PAGE_BYTES | PAGE_PRESENT | PAGE_WRITABLE | PAGE_LARGE);
        r = guest_memory_write(memory, level_2 + (uint64_t)i * PAGE_BYTES, table, sizeof(table));
    }
    return r;
}

/* ---- entry */

#define CR0_PROTECTED 0x1u
#define CR0_EXTENSION_TYPE 0x10u
#define CR0_PAGING 0x80000000u
#define CR4_PAE 0x20u
#define EFER_LONG_ENABLE 0x100u
#define EFER_LONG_ACTIVE 0x400u
/* Selectors that the boot protocol wants: __BOOT_CS and __BOOT_DS. */
#define SELECTOR_CODE 0x10
#define SELECTOR_DATA 0x18
#define SELECTOR_TASK 0x20
#define TYPE_CODE 0xb /* execute, read, accessed */
#define TYPE_DATA 0x3 /* read, write, accessed */
#define TYPE_TASK 0xb /* a busy one of 32 or 64 bits */
#define TASK_LIMIT 0x67

/* Intel SDM 3, 3.4.5: present, privilege 0. */
static uint64_t boot_x86_descriptor(const struct boot_x86_segment *segment)
{
    bool pages = segment->limit > 0xfffff;
    uint64_t limit = pages ? segment->limit >> 12 : segment->limit;
    return (limit & 0xffff) | (uint64_t)segment->type << 40 | (uint64_t)(segment->system ? 0 : 1) << 44 |
           UINT64_C(1) << 47 | (limit >> 16 & 0xf) << 48 | (uint64_t)(segment->wide ? 1 : 0) << 53 |
           (uint64_t)(segment->big ? 1 : 0) << 54 | (uint64_t)(pages ? 1 : 0) << 55;
}

static int boot_x86_put_gdt(const struct guest_memory *memory, struct boot_x86_entry *entry)
{
    bool wide = entry->mode == BOOT_X86_LONG_64;
    uint8_t gdt[SELECTOR_TASK + 16] = {0};
    entry->code = (struct boot_x86_segment){
        .selector = SELECTOR_CODE, .type = TYPE_CODE, .big = !wide, .wide = wide, .limit = UINT32_MAX};
    entry->data =
        (struct boot_x86_segment){.selector = SELECTOR_DATA, .type = TYPE_DATA, .big = true, .limit = UINT32_MAX};
    entry->task =
        (struct boot_x86_segment){.selector = SELECTOR_TASK, .type = TYPE_TASK, .system = true, .limit = TASK_LIMIT};
    put_le64(gdt + SELECTOR_CODE, boot_x86_descriptor(&entry->code));
    put_le64(gdt + SELECTOR_DATA, boot_x86_descriptor(&entry->data));
    put_le64(gdt + SELECTOR_TASK, boot_x86_descriptor(&entry->task));
    entry->gdt_base = BOOT_X86_GDT;
    entry->gdt_limit = sizeof(gdt) - 1;
    entry->cr0 = CR0_PROTECTED | CR0_EXTENSION_TYPE;
    if (wide) {
        entry->cr0 |= CR0_PAGING;
        entry->cr3 = BOOT_X86_PAGE_TABLES;
        entry->cr4 = CR4_PAE;
        entry->efer = EFER_LONG_ENABLE | EFER_LONG_ACTIVE;
    }
    return guest_memory_write(memory, BOOT_X86_GDT, gdt, sizeof(gdt));
}

static int boot_x86_load_kernel(const struct boot_x86_request *request, struct boot_x86_kernel *ret_kernel,
                                const char **ret_reason)
{
    uint8_t first;
    int r = boot_image_read(request->kernel, 0, &first, 1);
    if (r == 0 && boot_x86_is_elf(request->kernel)) {
        r = boot_x86_load_elf(request, ret_kernel, ret_reason);
    } else if (r == 0 && boot_x86_is_bzimage(request->kernel)) {
        r = boot_x86_load_bzimage(request, ret_kernel, ret_reason);
    } else if (r == 0 || r == -EBADMSG) {
        *ret_reason = "it is neither a vmlinux (ELF) nor a bzImage: give a Linux kernel for x86-64";
        return -EBADMSG;
    }
    if (r < 0 && r != -EBADMSG && r != -ENOSPC)
        *ret_reason = "the kernel cannot be read";
    return r;
}

int boot_x86_load(const struct boot_x86_request *request, struct boot_x86_entry *ret_entry, const char **ret_reason)
{
    struct boot_x86_kernel kernel = {.initrd_max = UINT32_MAX, .cmdline_max = BOOT_X86_CMDLINE_BYTES_MAX};
    struct boot_x86_entry entry = {0};
    uint64_t initrd = 0;
    int r = boot_x86_load_kernel(request, &kernel, ret_reason);
    if (r == 0 && request->initrd)
        r = boot_x86_load_initrd(request, &kernel, &initrd, ret_reason);
    if (r == 0)
        r = boot_x86_put_cmdline(request, &kernel, ret_reason);
    if (r < 0)
        return r;
    if (kernel.has_pvh) {
        entry.mode = BOOT_X86_PROTECTED_32;
        entry.rip = kernel.pvh_entry;
        entry.rbx = BOOT_X86_START_INFO;
        r = boot_x86_put_start_info(request, initrd);
    } else {
        entry.mode = BOOT_X86_LONG_64;
        entry.rip = kernel.entry;
        entry.rsi = BOOT_X86_ZERO_PAGE;
        r = boot_x86_put_zero_page(request, &kernel, initrd);
        if (r == 0)
            r = boot_x86_put_page_tables(request->memory);
    }
    if (r == 0)
        r = boot_x86_put_gdt(request->memory, &entry);
    if (r < 0)
        return r == -EFAULT ? -ENOSPC : r;
    *ret_entry = entry;
    return 0;
}
