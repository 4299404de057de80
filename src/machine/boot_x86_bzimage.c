/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A bzImage (Documentation/arch/x86/boot.rst of Linux, "The Real-Mode Kernel Header", "64-bit Boot Protocol"). */
#include <errno.h>

#include "machine/boot_x86_private.h"

enum {
    SETUP_BASE = 0x1f1, /* its first byte says how many sectors of real-mode code there are */
    SETUP_BOOT_FLAG = 0x1fe,
    SETUP_JUMP = 0x201, /* how long the header is, from 0x202 on */
    SETUP_MAGIC = 0x202,
    SETUP_VERSION = 0x206,
    SETUP_INITRD_MAX = 0x22c,
    SETUP_RELOCATABLE = 0x234,
    SETUP_LOAD_FLAGS_64 = 0x236,
    SETUP_CMDLINE_SIZE = 0x238,
    SETUP_PREFERRED = 0x258,
    SETUP_INIT_SIZE = 0x260,
    SETUP_END = 0x268, /* of the fields that are looked at */
};
#define SETUP_VERSION_MIN 0x20c /* Linux 3.8: a 64-bit entry */
#define SETUP_KERNEL_64 0x1
#define SECTOR_BYTES 512u
#define SETUP_SECTORS_DEFAULT 4u /* a 0 means this */
#define ENTRY_64 0x200u

bool boot_x86_is_bzimage(struct boot_image *image)
{
    uint8_t flag[2], magic[4];
    return boot_image_read(image, SETUP_BOOT_FLAG, flag, sizeof(flag)) == 0 && get_le16(flag) == 0xaa55 &&
           boot_image_read(image, SETUP_MAGIC, magic, sizeof(magic)) == 0 && memcmp(magic, "HdrS", 4) == 0;
}

int boot_x86_load_bzimage(const struct boot_x86_request *request, struct boot_x86_kernel *kernel,
                          const char **ret_reason)
{
    uint8_t header[SETUP_BASE + sizeof(kernel->setup)];
    *ret_reason = "this bzImage is damaged, or shorter than it says";
    int r = boot_image_read(request->kernel, 0, header, SETUP_END);
    if (r < 0)
        return r;
    unsigned end = SETUP_MAGIC + header[SETUP_JUMP];
    if (end < SETUP_END || end > sizeof(header))
        return -EBADMSG;
    r = boot_image_read(request->kernel, SETUP_END, header + SETUP_END, end - SETUP_END);
    if (r < 0)
        return r;
    *ret_reason = "this bzImage is no 64-bit kernel, or older than Linux 3.8: give a newer one";
    if (get_le16(header + SETUP_VERSION) < SETUP_VERSION_MIN ||
        !(get_le16(header + SETUP_LOAD_FLAGS_64) & SETUP_KERNEL_64))
        return -EBADMSG;
    uint64_t sectors = header[SETUP_BASE] == 0 ? SETUP_SECTORS_DEFAULT : header[SETUP_BASE];
    uint64_t offset = (sectors + 1) * SECTOR_BYTES, base = get_le64(header + SETUP_PREFERRED);
    uint64_t bytes = get_le32(header + SETUP_INIT_SIZE);
    *ret_reason = "this bzImage is damaged, or shorter than it says";
    if (offset >= request->kernel->size || base < BOOT_X86_HIGH_BASE || add_overflows_u64(base, bytes, &kernel->end) ||
        bytes < request->kernel->size - offset)
        return -EBADMSG;
    /* It unpacks itself into all of that. */
    *ret_reason = "the memory is too small for this kernel: give the guest more";
    if (!boot_memory_is_there(request->memory, base, bytes))
        return -ENOSPC;
    r = boot_image_load(request->kernel, offset, request->kernel->size - offset, request->memory, base);
    if (r < 0)
        return r;
    kernel->entry = base + ENTRY_64;
    kernel->setup_bytes = end - SETUP_BASE;
    memcpy(kernel->setup, header + SETUP_BASE, kernel->setup_bytes);
    kernel->initrd_max = u64_min(get_le32(header + SETUP_INITRD_MAX), UINT32_MAX);
    kernel->cmdline_max = u32_min(get_le32(header + SETUP_CMDLINE_SIZE), BOOT_X86_CMDLINE_BYTES_MAX - 1) + 1;
    return 0;
}
