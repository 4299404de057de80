/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A vmlinux: an ELF executable of 64 bits (System V ABI, chapters 4 and 5; AMD64 supplement). */
#include <errno.h>

#include "machine/boot_x86_private.h"

/* Offsets in the header, in a program header, in a note. */
enum {
    ELF_CLASS = 4,
    ELF_DATA = 5,
    ELF_TYPE = 16,
    ELF_MACHINE = 18,
    ELF_ENTRY = 24,
    ELF_PROGRAM_OFFSET = 32,
    ELF_PROGRAM_BYTES = 54,
    ELF_PROGRAM_COUNT = 56,
    ELF_HEADER_BYTES = 64,
    PROGRAM_TYPE = 0,
    PROGRAM_OFFSET = 8,
    PROGRAM_VIRTUAL = 16,
    PROGRAM_PHYSICAL = 24,
    PROGRAM_FILE_BYTES = 32,
    PROGRAM_MEMORY_BYTES = 40,
    PROGRAM_HEADER_BYTES = 56,
    NOTE_HEADER_BYTES = 12,
};
#define ELF_CLASS_64 2
#define ELF_LITTLE_ENDIAN 1
#define ELF_EXECUTABLE 2
#define ELF_SHARED 3
#define ELF_X86_64 62
#define PROGRAM_LOAD 1
#define PROGRAM_NOTE 4
#define NOTE_PHYS32_ENTRY 18 /* XEN_ELFNOTE_PHYS32_ENTRY, of "Xen" */

/* Linux has five or six; each costs a read. */
#define PROGRAM_HEADERS_MAX 64u
/* Notes of a kernel are some hundred bytes; more are not looked at. */
#define NOTES_BYTES_MAX 4096u

bool boot_x86_is_elf(struct boot_image *image)
{
    uint8_t magic[4];
    return boot_image_read(image, 0, magic, sizeof(magic)) == 0 && memcmp(magic, "\177ELF", 4) == 0;
}

static int boot_x86_elf_load(const struct boot_x86_request *request, const uint8_t *program,
                             struct boot_x86_kernel *kernel)
{
    uint64_t address = get_le64(program + PROGRAM_PHYSICAL), file_bytes = get_le64(program + PROGRAM_FILE_BYTES);
    uint64_t memory_bytes = get_le64(program + PROGRAM_MEMORY_BYTES), end;
    if (memory_bytes == 0)
        return 0;
    if (memory_bytes < file_bytes || add_overflows_u64(address, memory_bytes, &end))
        return -EBADMSG;
    /* What is handed over lies below, and nothing of a kernel does. */
    if (address < BOOT_X86_HIGH_BASE)
        return -EBADMSG;
    if (!boot_memory_is_there(request->memory, address, memory_bytes))
        return -EFAULT;
    int r = boot_image_load(request->kernel, get_le64(program + PROGRAM_OFFSET), file_bytes, request->memory, address);
    if (r == 0)
        r = boot_memory_clear(request->memory, address + file_bytes, memory_bytes - file_bytes);
    if (end > kernel->end)
        kernel->end = end;
    return r;
}

static void boot_x86_elf_notes(const struct boot_x86_request *request, const uint8_t *program,
                               struct boot_x86_kernel *kernel)
{
    uint8_t notes[NOTES_BYTES_MAX];
    uint64_t size = get_le64(program + PROGRAM_FILE_BYTES);
    if (size > sizeof(notes) ||
        boot_image_read(request->kernel, get_le64(program + PROGRAM_OFFSET), notes, (size_t)size) < 0)
        return;
    for (size_t at = 0; range_within(at, NOTE_HEADER_BYTES, size);) {
        uint64_t name_bytes = get_le32(notes + at), value_bytes = get_le32(notes + at + 4);
        uint32_t type = get_le32(notes + at + 8);
        uint64_t name = at + NOTE_HEADER_BYTES, value = name + align_up(name_bytes, 4);
        if (!range_within(value, value_bytes, size))
            return;
        if (type == NOTE_PHYS32_ENTRY && name_bytes == 4 && memcmp(notes + name, "Xen", 4) == 0 && value_bytes >= 4) {
            kernel->has_pvh = true;
            kernel->pvh_entry = get_le32(notes + value);
        }
        at = (size_t)(value + align_up(value_bytes, 4));
    }
}

int boot_x86_load_elf(const struct boot_x86_request *request, struct boot_x86_kernel *kernel, const char **ret_reason)
{
    uint8_t header[ELF_HEADER_BYTES], program[PROGRAM_HEADER_BYTES];
    *ret_reason = "it is no vmlinux of x86-64";
    int r = boot_image_read(request->kernel, 0, header, sizeof(header));
    if (r < 0)
        return r;
    uint16_t type = get_le16(header + ELF_TYPE), count = get_le16(header + ELF_PROGRAM_COUNT);
    if (header[ELF_CLASS] != ELF_CLASS_64 || header[ELF_DATA] != ELF_LITTLE_ENDIAN ||
        (type != ELF_EXECUTABLE && type != ELF_SHARED) || get_le16(header + ELF_MACHINE) != ELF_X86_64 ||
        get_le16(header + ELF_PROGRAM_BYTES) != PROGRAM_HEADER_BYTES || count > PROGRAM_HEADERS_MAX)
        return -EBADMSG;
    uint64_t offset = get_le64(header + ELF_PROGRAM_OFFSET);
    for (unsigned i = 0; i < count; i++) {
        *ret_reason = "this vmlinux is damaged: what it says of itself does not fit";
        if (!range_within(offset, (uint64_t)count * PROGRAM_HEADER_BYTES, request->kernel->size))
            return -EBADMSG;
        r = boot_image_read(request->kernel, offset + (uint64_t)i * PROGRAM_HEADER_BYTES, program, sizeof(program));
        if (r == 0 && get_le32(program + PROGRAM_TYPE) == PROGRAM_LOAD)
            r = boot_x86_elf_load(request, program, kernel);
        if (r == -EFAULT)
            *ret_reason = "the memory is too small for this kernel: give the guest more";
        if (r < 0)
            return r == -EFAULT ? -ENOSPC : r;
        if (get_le32(program + PROGRAM_TYPE) == PROGRAM_NOTE)
            boot_x86_elf_notes(request, program, kernel);
    }
    *ret_reason = "this vmlinux has nothing to load";
    kernel->entry = get_le64(header + ELF_ENTRY); /* of vmlinux a physical address */
    return kernel->end == 0 ? -EBADMSG : 0;
}
