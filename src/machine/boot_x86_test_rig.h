/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Makes small kernel files for x86-64: a vmlinux and a bzImage. */
#ifndef MACHINE_BOOT_X86_TEST_RIG_H
#define MACHINE_BOOT_X86_TEST_RIG_H

#include "machine/boot_test_rig.h"
#include "machine/boot_x86.h"

#define RIG_KERNEL_BYTES 16384u
#define RIG_NOTES 0x400u /* where they are in the file, */
#define RIG_TEXT 0x1000u /* and where the first segment is */
#define RIG_PROGRAM(n) (64u + (n)*56u)

static inline void rig_program(uint8_t *file, unsigned index, uint32_t type, uint64_t offset, uint64_t address,
                               uint64_t file_bytes, uint64_t memory_bytes)
{
    uint8_t *program = file + RIG_PROGRAM(index);
    put_le32(program, type);
    put_le64(program + 8, offset);
    put_le64(program + 16, UINT64_C(0xffffffff80000000) + address);
    put_le64(program + 24, address);
    put_le64(program + 32, file_bytes);
    put_le64(program + 40, memory_bytes);
}

static inline void rig_note(uint8_t *notes, const char *name, uint32_t type, uint64_t value, unsigned value_bytes)
{
    put_le32(notes, 4);
    put_le32(notes + 4, value_bytes);
    put_le32(notes + 8, type);
    memcpy(notes + 12, name, 4);
    uint8_t bytes[8];
    put_le64(bytes, value);
    memcpy(notes + 16, bytes, value_bytes);
}

/* One segment of 4 KiB in the file and 8 in memory at 0x100000, and notes: some build's, then Xen's entry 0x100040. */
static inline void rig_vmlinux(uint8_t *file)
{
    memset(file, 0, RIG_KERNEL_BYTES);
    for (unsigned i = RIG_TEXT; i < RIG_KERNEL_BYTES; i++)
        file[i] = (uint8_t)(i * 5 + (i >> 8) + 1);
    memcpy(file, "\177ELF\2\1\1", 7);
    put_le16(file + 16, 2);
    put_le16(file + 18, 62);
    put_le32(file + 20, 1);
    put_le64(file + 24, 0x100080);
    put_le64(file + 32, 64);
    put_le16(file + 52, 64);
    put_le16(file + 54, 56);
    put_le16(file + 56, 2);
    rig_program(file, 0, 1, RIG_TEXT, 0x100000, 4096, 8192);
    rig_program(file, 1, 4, RIG_NOTES, 0x100f00, 48, 48);
    rig_note(file + RIG_NOTES, "GNU", 3, 0, 8);
    rig_note(file + RIG_NOTES + 24, "Xen", 18, 0x100040, 8);
}

/* Two sectors of set-up, the rest to 0x200000; it unpacks itself into 64 KiB. */
static inline void rig_bzimage(uint8_t *file)
{
    memset(file, 0, RIG_KERNEL_BYTES);
    for (unsigned i = 1024; i < RIG_KERNEL_BYTES; i++)
        file[i] = (uint8_t)(i * 5 + (i >> 8) + 1);
    file[0x1f1] = 1;
    put_le16(file + 0x1fe, 0xaa55);
    file[0x200] = 0xeb;
    file[0x201] = 0x6a;
    memcpy(file + 0x202, "HdrS", 4);
    put_le16(file + 0x206, 0x20f);
    put_le32(file + 0x22c, 0x7fffffff);
    put_le16(file + 0x236, 0x3f);
    put_le32(file + 0x238, 2047);
    put_le64(file + 0x258, 0x200000);
    put_le32(file + 0x260, 0x10000);
}

#endif
