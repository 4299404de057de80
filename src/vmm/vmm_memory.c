/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "vmm/vmm_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

/* RAM is given in steps that every page size of a guest and of huge pages divides sensibly. */
#define RAM_STEP_BYTES (UINT64_C(1) << 20)

static int vmm_memory_complain(int result, char *error, size_t error_bytes, const char *text)
{
    snprintf(error, error_bytes, "%s", text);
    return result;
}

/* A file of @bytes, mapped. */
static int vmm_memory_map(const char *name, uint64_t bytes, const struct vmm_memory_options *options, int *ret_handle,
                          uint8_t **ret_host)
{
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    if (options->page_bytes != 0)
        flags |= MFD_HUGETLB | (unsigned)__builtin_ctzll(options->page_bytes) << MFD_HUGE_SHIFT;
    int r, handle = memfd_create(name, flags);
    if (handle < 0)
        return -errno;
    /* Its length is promised to whoever maps it: without the seal a back end could cut it off under the guest. */
    void *host = MAP_FAILED;
    if (ftruncate(handle, (off_t)bytes) == 0 &&
        fcntl(handle, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        host =
            mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | (options->prealloc ? MAP_POPULATE : 0), handle, 0);
    if (host == MAP_FAILED) {
        r = -errno;
        close(handle);
        return r;
    }
    /* A core dump of ours is not to carry the guest's secrets to disk, and no child of ours shares its memory. */
    madvise(host, bytes, MADV_DONTDUMP);
    madvise(host, bytes, MADV_DONTFORK);
    *ret_handle = handle;
    *ret_host = host;
    return 0;
}

static void vmm_memory_add(struct vmm_memory *memory, uint64_t guest_base, uint64_t size, uint64_t offset, bool bounce)
{
    uint8_t *host = bounce ? memory->bounce_host : memory->host;
    struct vmm_ram_range *range = &memory->ranges[memory->range_count++];
    *range = (struct vmm_ram_range){
        .guest_base = guest_base,
        .size = size,
        .offset = offset,
        .handle = bounce ? memory->bounce_handle : memory->handle,
        .host = host + offset,
        .bounce = bounce,
    };
    const struct guest_region region = {.guest_base = guest_base, .size = size, .host = range->host};
    int r = guest_memory_add(&memory->map, &region);
    ASSERT(r == 0); /* the layout was judged */
}

static int vmm_memory_judge(const struct vmm_ram_layout *layout, const struct vmm_memory_options *options, char *error,
                            size_t error_bytes)
{
    uint64_t step = options->page_bytes > RAM_STEP_BYTES ? options->page_bytes : RAM_STEP_BYTES;
    uint64_t below = layout->hole_base - layout->base;
    uint64_t room = below + (layout->limit > layout->hole_end ? layout->limit - layout->hole_end : 0);
    if (options->bytes == 0 || options->bytes % step != 0 || options->bounce_bytes % step != 0) {
        snprintf(error, error_bytes, "memory is given in steps of %llu MiB; say a multiple of that",
                 (unsigned long long)(step >> 20));
        return -EINVAL;
    }
    if (options->bytes > room) {
        snprintf(error, error_bytes,
                 "%llu MiB of memory are more than this machine has addresses for; it can have %llu",
                 (unsigned long long)(options->bytes >> 20), (unsigned long long)(room >> 20));
        return -EINVAL;
    }
    if (options->bounce_bytes >= u64_min(options->bytes, below))
        return vmm_memory_complain(
            -EINVAL, error, error_bytes,
            "the bounce range takes all memory below 4 GiB; make it smaller, or the memory larger");
    return 0;
}

int vmm_memory_open(struct vmm_memory *memory, const struct vmm_ram_layout *layout,
                    const struct vmm_memory_options *options, char *error, size_t error_bytes)
{
    *memory = (struct vmm_memory){.bytes = options->bytes, .handle = -1, .bounce_handle = -1};
    guest_memory_init(&memory->map, NULL);
    int r = vmm_memory_judge(layout, options, error, error_bytes);
    if (r < 0)
        return r;
    memory->host_bytes = options->bytes - options->bounce_bytes;
    r = vmm_memory_map("guest-ram", memory->host_bytes, options, &memory->handle, &memory->host);
    if (r == 0 && options->bounce_bytes > 0) {
        memory->bounce_bytes = options->bounce_bytes;
        r = vmm_memory_map("guest-bounce", options->bounce_bytes, options, &memory->bounce_handle,
                           &memory->bounce_host);
    }
    if (r < 0) {
        vmm_memory_close(memory);
        return vmm_memory_complain(r, error, error_bytes,
                                   options->page_bytes != 0
                                       ? "no such huge pages are free; reserve some (vm.nr_hugepages) or leave that out"
                                   : r == -ENOMEM ? "so much memory cannot be had here; ask for less"
                                                  : strerror(-r));
    }
    /* Below the hole, the bounce range at its end; then above. */
    uint64_t below = u64_min(options->bytes, layout->hole_base - layout->base);
    vmm_memory_add(memory, layout->base, below - options->bounce_bytes, 0, false);
    if (options->bounce_bytes > 0)
        vmm_memory_add(memory, layout->base + below - options->bounce_bytes, options->bounce_bytes, 0, true);
    if (options->bytes > below)
        vmm_memory_add(memory, layout->hole_end, options->bytes - below, below - options->bounce_bytes, false);
    return 0;
}

void vmm_memory_close(struct vmm_memory *memory)
{
    if (memory->host)
        munmap(memory->host, memory->host_bytes);
    if (memory->bounce_host)
        munmap(memory->bounce_host, memory->bounce_bytes);
    if (memory->handle >= 0)
        close(memory->handle);
    if (memory->bounce_handle >= 0)
        close(memory->bounce_handle);
    memory->host = memory->bounce_host = NULL;
    memory->handle = memory->bounce_handle = -1;
    memory->range_count = 0;
}

static int vmm_memory_punch(int handle, uint64_t bytes)
{
    if (handle < 0 || fallocate(handle, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)bytes) == 0)
        return 0;
    return -errno;
}

int vmm_memory_clear(struct vmm_memory *memory)
{
    int r = vmm_memory_punch(memory->handle, memory->host_bytes);
    return r < 0 ? r : vmm_memory_punch(memory->bounce_handle, memory->bounce_bytes);
}

/* Ranges that go on from one to the next are one to a guest. */
void vmm_memory_plan(const struct vmm_memory *memory, struct machine_plan *plan)
{
    plan->ram_count = 0;
    for (unsigned i = 0; i < memory->range_count; i++) {
        const struct vmm_ram_range *range = &memory->ranges[i];
        struct machine_range *last = plan->ram_count > 0 ? &plan->ram[plan->ram_count - 1] : NULL;
        if (last && last->base + last->size == range->guest_base)
            last->size += range->size;
        else
            plan->ram[plan->ram_count++] = (struct machine_range){.base = range->guest_base, .size = range->size};
        if (range->bounce)
            plan->bounce = (struct machine_range){.base = range->guest_base, .size = range->size};
    }
}
