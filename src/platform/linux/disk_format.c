/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "platform/linux/disk_format.h"

/* One magic number near the start of an image. */
struct magic {
    struct disk_format format;
    uint16_t offset;
    uint8_t bytes_count;
    const char *bytes;
};

static const struct magic magics[] = {
    {{"qcow2", "qcow2"}, 0, 8, "QFI\xfb\0\0\0\2"},
    {{"qcow2", "qcow2"}, 0, 8, "QFI\xfb\0\0\0\3"},
    {{"qcow", "qcow"}, 0, 8, "QFI\xfb\0\0\0\1"},
    {{"qcow2", "qcow2"}, 0, 4, "QFI\xfb"}, /* some version to come */
    {{"VHD", "vpc"}, 0, 8, "conectix"},    /* dynamic ones begin with a copy of the footer */
    {{"VHDX", "vhdx"}, 0, 8, "vhdxfile"},
    {{"VMDK", "vmdk"}, 0, 4, "KDMV"}, /* sparse extent */
    {{"VMDK", "vmdk"}, 0, 4, "COWD"}, /* ESX sparse extent */
    {{"VMDK", "vmdk"}, 0, 21, "# Disk DescriptorFile"},
    {{"VDI", "vdi"}, 64, 4, "\x7f\x10\xda\xbe"},
    {{"QED", "qed"}, 0, 4, "QED\0"},
    {{"Parallels", "parallels"}, 0, 16, "WithoutFreeSpace"},
    {{"Parallels", "parallels"}, 0, 16, "WithouFreSpacExt"},
};

static const struct disk_format fixed_vhd = {"VHD", "vpc"};

static uint64_t get_be(const uint8_t *bytes, size_t count)
{
    uint64_t value = 0;
    for (size_t i = 0; i < count; i++)
        value = value << 8 | bytes[i];
    return value;
}

/*
 * The footer of a fixed VHD (Virtual Hard Disk Image Format Specification, "Hard Disk Footer Format"). The last sector
 * of a raw disk is the guest's to write, so the magic number alone does not count: the checksum must be right as well.
 */
static bool is_fixed_vhd_footer(const uint8_t *tail, uint64_t size)
{
    enum { CHECKSUM_OFFSET = 64, CHECKSUM_BYTES = 4 };

    if (size < DISK_FORMAT_TAIL_BYTES || memcmp(tail, "conectix", 8) != 0)
        return false;
    uint32_t sum = 0;
    for (unsigned i = 0; i < DISK_FORMAT_TAIL_BYTES; i++)
        if (i < CHECKSUM_OFFSET || i >= CHECKSUM_OFFSET + CHECKSUM_BYTES)
            sum += tail[i];
    return get_be(tail + CHECKSUM_OFFSET, CHECKSUM_BYTES) == (uint32_t)~sum;
}

const struct disk_format *disk_format_detect(const uint8_t *head, size_t head_bytes, const uint8_t *tail,
                                             size_t tail_bytes, uint64_t size)
{
    for (size_t i = 0; i < ARRAY_SIZE(magics); i++) {
        const struct magic *magic = &magics[i];
        if (range_within(magic->offset, magic->bytes_count, head_bytes) &&
            memcmp(head + magic->offset, magic->bytes, magic->bytes_count) == 0)
            return &magic->format;
    }
    if (tail_bytes == DISK_FORMAT_TAIL_BYTES && is_fixed_vhd_footer(tail, size))
        return &fixed_vhd;
    return NULL;
}
