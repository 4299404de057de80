/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * From the bottom of RAM on: the kernel where its header wants it, room for a device tree, the initrd; each begins at
 * a multiple of 2 MiB, so that no block that Linux maps early holds two of them. That way the rules of booting.rst
 * hold without a look: the tree is within 512 MiB of the kernel's base (which Linux before 4.2 asks for, and where a
 * kernel is smaller than that), and the initrd within one window of 32 GiB with the kernel.
 *
 * Limits
 *
 * Little-endian kernels of Linux 3.17 and later, uncompressed. They may lie anywhere or want to be at the bottom: they
 * are put there either way.
 */
#include "machine/boot_arm64.h"

#include <errno.h>

/* The header (booting.rst, 3). */
enum {
    IMAGE_TEXT_OFFSET = 8,
    IMAGE_SIZE = 16,
    IMAGE_FLAGS = 24,
    IMAGE_MAGIC = 56,
    IMAGE_HEADER_BYTES = 64,
};
#define IMAGE_MAGIC_VALUE 0x644d5241u /* "ARM\x64" */
#define IMAGE_BIG_ENDIAN 1u
#define PLACE_BYTES (UINT64_C(2) << 20)
/* A kernel is no larger (booting.rst has no number; the early page tables of Linux span no more). */
#define IMAGE_BYTES_MAX (UINT64_C(1) << 30)
/* Initrd and kernel lie in one window of this size. */
#define WINDOW_BYTES (UINT64_C(32) << 30)

/* What else people have by the name of a kernel: what it begins with, and what to do. */
static const char *boot_arm64_stranger(const uint8_t *header)
{
    if (header[0] == 0x1f && header[1] == 0x8b)
        return "this kernel is compressed with gzip: unpack it (gzip -dc FILE > Image), and give that";
    if (memcmp(header, "MZ\0\0zimg", 8) == 0)
        return "this kernel is compressed, for EFI to unpack it: give arch/arm64/boot/Image instead";
    if (memcmp(header, "\177ELF", 4) == 0)
        return "this is an ELF file: give arch/arm64/boot/Image instead of vmlinux";
    return "it is no kernel for arm64: give a Linux Image (arch/arm64/boot/Image)";
}

struct boot_arm64_kernel {
    uint64_t text_offset; /* from a multiple of 2 MiB on */
    uint64_t bytes;       /* that it uses, more than the file has */
};

static int boot_arm64_parse(struct boot_image *image, struct boot_arm64_kernel *ret_kernel, const char **ret_reason)
{
    uint8_t header[IMAGE_HEADER_BYTES];
    *ret_reason = "it is too short for a kernel: give a Linux Image (arch/arm64/boot/Image)";
    int r = boot_image_read(image, 0, header, sizeof(header));
    if (r < 0) {
        if (r != -EBADMSG)
            *ret_reason = "the kernel cannot be read";
        return r;
    }
    if (get_le32(header + IMAGE_MAGIC) != IMAGE_MAGIC_VALUE) {
        *ret_reason = boot_arm64_stranger(header);
        return -EBADMSG;
    }
    uint64_t text_offset = get_le64(header + IMAGE_TEXT_OFFSET), bytes = get_le64(header + IMAGE_SIZE);
    *ret_reason = "this Image is older than Linux 3.17, which cannot say how much memory it needs: give a newer one";
    if (bytes == 0)
        return -EBADMSG;
    *ret_reason = "this Image is big-endian: give a little-endian kernel";
    if (get_le64(header + IMAGE_FLAGS) & IMAGE_BIG_ENDIAN)
        return -EBADMSG;
    *ret_reason = "this Image is damaged: what it says of itself does not fit";
    if (text_offset >= PLACE_BYTES || bytes > IMAGE_BYTES_MAX || bytes < image->size)
        return -EBADMSG;
    ret_kernel->text_offset = text_offset;
    ret_kernel->bytes = bytes;
    return 0;
}

/* Where RAM that may be used from @base on ends: the bounce range stays free. */
static uint64_t boot_arm64_ram_end(const struct machine_plan *plan)
{
    const struct machine_range *ram = &plan->ram[0], *bounce = &plan->bounce;
    uint64_t end = ram->base + ram->size;
    return bounce->size > 0 && bounce->base >= ram->base ? u64_min(end, bounce->base) : end;
}

int boot_arm64_load(const struct boot_arm64_request *request, struct boot_arm64_entry *ret_entry,
                    const char **ret_reason)
{
    struct boot_arm64_kernel kernel;
    int r = boot_arm64_parse(request->kernel, &kernel, ret_reason);
    if (r < 0)
        return r;
    /* Sums of our own numbers and of those that were judged above: none comes near 64 bits. */
    uint64_t base = align_up(request->plan->ram[0].base, PLACE_BYTES), end = boot_arm64_ram_end(request->plan);
    uint64_t text = base + kernel.text_offset, tree = align_up(text + kernel.bytes, PLACE_BYTES);
    uint64_t initrd = tree + BOOT_ARM64_DTB_BYTES_MAX, initrd_bytes = request->initrd ? request->initrd->size : 0;
    *ret_reason = "the memory is too small for kernel and initrd: give the guest more";
    if (initrd > end || initrd_bytes > u64_min(end, align_down(base, UINT64_C(1) << 30) + WINDOW_BYTES) - initrd)
        return -ENOSPC;
    r = boot_image_load(request->kernel, 0, request->kernel->size, request->memory, text);
    if (r < 0) {
        *ret_reason = "the kernel cannot be read";
        return r;
    }
    if (initrd_bytes > 0)
        r = boot_image_load(request->initrd, 0, initrd_bytes, request->memory, initrd);
    if (r < 0) {
        *ret_reason = "the initrd cannot be read";
        return r;
    }
    *ret_entry = (struct boot_arm64_entry){
        .pc = text,
        .x0 = tree,
        .pstate = BOOT_ARM64_PSTATE,
        .initrd = {.base = initrd_bytes > 0 ? initrd : 0, .size = initrd_bytes},
    };
    return 0;
}
