/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A snapshot is a file: a header, the state as records (base/state.h), and the guest's RAM from the next page on, range
 * behind range. Pages of zeros are not written, which leaves holes where the file system can.
 *
 *   0   magic, version u32, bytes of state u32, number of ranges u32, 0 u32
 *   24  for each range: guest base u64, size u64
 *       the state
 *       RAM, from the next multiple of 4 KiB
 *
 * The header is written last: a file that was cut short is none. Restoring needs a machine that was made with the same
 * options and devices, and says what differs where it can.
 *
 * Limits
 *
 * All of the RAM is read, and the machine stands still meanwhile. State of back ends in other processes is theirs.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/vmm_private.h"

#define SNAPSHOT_MAGIC UINT64_C(0x0a4d564e4c504b42) /* "BKPLNVM\n" */
#define SNAPSHOT_VERSION 1u
#define SNAPSHOT_PAGE_BYTES 4096u
#define SNAPSHOT_STATE_BYTES_MAX (64u << 20)
enum {
    HEADER_VERSION = 8,
    HEADER_STATE_BYTES = 12,
    HEADER_RANGES = 16,
    HEADER_BYTES = 24,
    RANGE_BYTES = 16,
    HEADER_BYTES_MAX = HEADER_BYTES + VMM_RAM_RANGES_MAX * RANGE_BYTES,
};

static int snapshot_write(int handle, const uint8_t *bytes, uint64_t size, uint64_t offset)
{
    for (uint64_t done = 0; done < size;) {
        ssize_t r = pwrite(handle, bytes + done, size - done, (off_t)(offset + done));
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return r < 0 ? -errno : -EIO;
        done += (uint64_t)r;
    }
    return 0;
}

static int snapshot_read(int handle, uint8_t *bytes, uint64_t size, uint64_t offset)
{
    for (uint64_t done = 0; done < size;) {
        ssize_t r = pread(handle, bytes + done, size - done, (off_t)(offset + done));
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -errno;
        if (r == 0)
            return -EBADMSG;
        done += (uint64_t)r;
    }
    return 0;
}

static bool snapshot_is_zero(const uint8_t *page)
{
    static const uint8_t zeros[SNAPSHOT_PAGE_BYTES];
    return memcmp(page, zeros, sizeof(zeros)) == 0;
}

/* Runs of pages that have something in them. */
static int snapshot_write_range(int handle, const struct vmm_ram_range *range, uint64_t offset)
{
    uint64_t from = 0, at = 0;
    int r = 0;
    for (; at < range->size && r == 0; at += SNAPSHOT_PAGE_BYTES) {
        if (!snapshot_is_zero(range->host + at))
            continue;
        r = snapshot_write(handle, range->host + from, at - from, offset + from);
        from = at + SNAPSHOT_PAGE_BYTES;
    }
    return r == 0 && from < at ? snapshot_write(handle, range->host + from, at - from, offset + from) : r;
}

static uint64_t snapshot_ram_offset(size_t state_bytes)
{
    return align_up(HEADER_BYTES_MAX + state_bytes, SNAPSHOT_PAGE_BYTES);
}

static int snapshot_write_ram(struct vmm *vmm, int handle, uint64_t offset)
{
    int r = ftruncate(handle, (off_t)(offset + vmm->memory.bytes)) == 0 ? 0 : -errno;
    for (unsigned i = 0; i < vmm->memory.range_count && r == 0; i++) {
        r = snapshot_write_range(handle, &vmm->memory.ranges[i], offset);
        offset += vmm->memory.ranges[i].size;
    }
    return r;
}

static int snapshot_write_header(const struct vmm *vmm, int handle, size_t state_bytes)
{
    uint8_t header[HEADER_BYTES_MAX] = {0};
    put_le64(header, SNAPSHOT_MAGIC);
    put_le32(header + HEADER_VERSION, SNAPSHOT_VERSION);
    put_le32(header + HEADER_STATE_BYTES, (uint32_t)state_bytes);
    put_le32(header + HEADER_RANGES, vmm->memory.range_count);
    for (unsigned i = 0; i < vmm->memory.range_count; i++) {
        put_le64(header + HEADER_BYTES + (size_t)i * RANGE_BYTES, vmm->memory.ranges[i].guest_base);
        put_le64(header + HEADER_BYTES + (size_t)i * RANGE_BYTES + 8, vmm->memory.ranges[i].size);
    }
    /* What the header speaks of is there before the header is. */
    if (fdatasync(handle) != 0 && errno != EINVAL && errno != EROFS)
        return -errno;
    return snapshot_write(handle, header, sizeof(header), 0);
}

/* Saving a GIC's tables writes to RAM: the state comes first. */
static int snapshot_save_state(struct vmm *vmm, struct state_writer *writer, const char **ret_what)
{
    *ret_what = "processors and chips";
    int r = vmm_board_save(vmm, writer);
    if (r < 0)
        return r;
    *ret_what = "devices";
    return vmm_devices_save(vmm, writer);
}

int vmm_save(struct vmm *vmm, int handle, char *error, size_t error_bytes)
{
    if (vmm->state != VMM_PAUSED) {
        snprintf(error, error_bytes, "the machine is not paused");
        return -EINVAL;
    }
    for (unsigned i = 0; i < vmm->options.processors; i++) {
        if (!vmm->vcpus[i].incomplete)
            continue;
        snprintf(error, error_bytes, "processor %u stands inside an instruction; resume, and pause again", i);
        return -EAGAIN;
    }
    const char *what = "memory";
    struct state_writer writer = {.size = vmm_board_state_bytes(vmm) + vmm_devices_state_bytes(vmm)};
    writer.bytes = malloc(writer.size);
    int r = writer.bytes ? 0 : -ENOMEM;
    vmm_lock(vmm);
    if (r == 0)
        r = snapshot_save_state(vmm, &writer, &what);
    vmm_unlock(vmm);
    if (r == 0) {
        what = "memory";
        r = snapshot_write_ram(vmm, handle, snapshot_ram_offset(writer.used));
    }
    if (r == 0)
        r = snapshot_write(handle, writer.bytes, writer.used, HEADER_BYTES_MAX);
    if (r == 0)
        r = snapshot_write_header(vmm, handle, writer.used);
    free(writer.bytes);
    if (r < 0)
        snprintf(error, error_bytes, "cannot save its %s: %s", what, strerror(-r));
    return r;
}

static int snapshot_judge(const struct vmm *vmm, const uint8_t *header, const char **ret_reason)
{
    *ret_reason = "it is no snapshot of a machine, or was cut short";
    if (get_le64(header) != SNAPSHOT_MAGIC || get_le32(header + HEADER_STATE_BYTES) > SNAPSHOT_STATE_BYTES_MAX)
        return -EBADMSG;
    *ret_reason = "a newer version of this program wrote it";
    if (get_le32(header + HEADER_VERSION) != SNAPSHOT_VERSION)
        return -ENOTSUP;
    *ret_reason = "it is of a machine with another memory: give the same options as then";
    if (get_le32(header + HEADER_RANGES) != vmm->memory.range_count)
        return -EINVAL;
    for (unsigned i = 0; i < vmm->memory.range_count; i++) {
        const uint8_t *range = header + HEADER_BYTES + (size_t)i * RANGE_BYTES;
        if (get_le64(range) != vmm->memory.ranges[i].guest_base || get_le64(range + 8) != vmm->memory.ranges[i].size)
            return -EINVAL;
    }
    return 0;
}

/* Holes are left alone: fresh memory is zeros. */
static int snapshot_read_range(int handle, const struct vmm_ram_range *range, uint64_t offset)
{
    uint64_t at = 0;
    while (at < range->size) {
        off_t data = lseek(handle, (off_t)(offset + at), SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            return 0; /* a hole to the end */
        if (data < 0)
            return snapshot_read(handle, range->host + at, range->size - at, offset + at);
        at = align_down((uint64_t)data - offset, SNAPSHOT_PAGE_BYTES);
        if (at >= range->size)
            return 0;
        off_t hole = lseek(handle, (off_t)(offset + at), SEEK_HOLE);
        uint64_t end = hole < 0 ? range->size : align_up((uint64_t)hole - offset, SNAPSHOT_PAGE_BYTES);
        end = u64_min(end, range->size);
        int r = snapshot_read(handle, range->host + at, end - at, offset + at);
        if (r < 0)
            return r;
        at = end;
    }
    return 0;
}

static int snapshot_load(struct vmm *vmm, int handle, const uint8_t *header, const char **ret_reason)
{
    size_t bytes = get_le32(header + HEADER_STATE_BYTES);
    uint64_t offset = snapshot_ram_offset(bytes);
    uint8_t *state = malloc(bytes + 1);
    *ret_reason = "its memory cannot be read";
    int r = state ? snapshot_read(handle, state, bytes, HEADER_BYTES_MAX) : -ENOMEM;
    for (unsigned i = 0; i < vmm->memory.range_count && r == 0; i++) {
        r = snapshot_read_range(handle, &vmm->memory.ranges[i], offset);
        offset += vmm->memory.ranges[i].size;
    }
    struct state_reader board = {.bytes = state, .size = bytes}, devices = board;
    vmm_lock(vmm);
    if (r == 0) {
        *ret_reason = "its devices are not the ones given here, or were saved by another version";
        r = vmm_devices_load(vmm, &devices);
    }
    if (r == 0) {
        *ret_reason = "this host's processor, or the number of processors, is another one than then";
        r = vmm_board_restore(vmm, &board);
    }
    vmm_unlock(vmm);
    free(state);
    return r;
}

int vmm_restore(struct vmm *vmm, int handle, char *error, size_t error_bytes)
{
    uint8_t header[HEADER_BYTES_MAX];
    const char *reason = "it is no snapshot of a machine, or was cut short";
    ASSERT(vmm->state == VMM_CREATED);
    int r = snapshot_read(handle, header, sizeof(header), 0);
    if (r == 0)
        r = snapshot_judge(vmm, header, &reason);
    vmm_lock(vmm);
    if (r == 0)
        r = vmm_board_power_on(vmm);
    vmm_devices_pause(vmm); /* nothing of them runs: settled at once */
    vmm_unlock(vmm);
    if (r == 0)
        r = snapshot_load(vmm, handle, header, &reason);
    if (r == 0) {
        r = vmm_vcpus_start(vmm);
        reason = "threads for its processors cannot be started";
    }
    if (r < 0) {
        snprintf(error, error_bytes, "%s (%s)", reason, strerror(-r));
        return r;
    }
    vmm->state = VMM_PAUSED;
    return 0;
}
