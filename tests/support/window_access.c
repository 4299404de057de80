/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * One memfd is mapped twice. The guest's side is open for good. The device's side starts without access; map() and
 * unmap() keep a list of what is mapped and give each page the least access that the list asks for. A ring is mapped
 * for its queue's life like anything else: one map() of all its pages, which lie side by side in the first layout. In
 * the scattered layout such a ring is not one piece and must be refused.
 *
 * Limits
 *
 * The hardware guards pages, so an access that strays inside a mapped page is not seen. The list is searched from end
 * to end: fine for a test, slow beyond some thousands. unmap() may say "not written" of what had been mapped for
 * writing; when one range is mapped both ways, the mapping for reading is then the one that goes.
 */
#define _GNU_SOURCE
#include "window_access.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct window_mapping {
    uint64_t address;
    uint64_t length;
    bool write;
};

static void check_host(bool good, const char *what)
{
    if (good)
        return;
    perror(what);
    abort();
}

static uint64_t device_offset(const struct window_access *window, uint64_t address)
{
    uint64_t offset = address - window->guest_base;
    ASSERT(offset < window->size);
    if (window->layout == WINDOW_SIDE_BY_SIDE)
        return offset;
    uint64_t page = align_down(offset, WINDOW_PAGE_BYTES);
    return window->size - WINDOW_PAGE_BYTES - page + (offset - page);
}

static uint8_t *device_address(const struct window_access *window, uint64_t address)
{
    return window->device_side + device_offset(window, address);
}

/* Give the page of @address what the mappings ask for. */
static void protect_page(const struct window_access *window, uint64_t address)
{
    uint64_t page = align_down(address, WINDOW_PAGE_BYTES);
    int protection = PROT_NONE;
    for (size_t i = 0; i < window->mapping_count; i++) {
        if (align_down(window->mappings[i].address, WINDOW_PAGE_BYTES) != page)
            continue;
        protection |= PROT_READ;
        if (window->mappings[i].write)
            protection |= PROT_WRITE;
    }
    check_host(mprotect(device_address(window, page), WINDOW_PAGE_BYTES, protection) == 0, "mprotect");
}

/* Does the piece lie in the window? It never crosses a chunk: whoever cut it keeps to chunk_shift. */
static bool piece_inside(const struct window_access *window, uint64_t address, uint64_t length)
{
    ASSERT(length > 0);
    ASSERT(length <= WINDOW_PAGE_BYTES - (address & (WINDOW_PAGE_BYTES - 1)));
    return address >= window->guest_base && range_within(address - window->guest_base, length, window->size);
}

static int refuse_map(struct window_access *window, const uint64_t *addresses, const struct guest_iovec *iov,
                      unsigned count)
{
    if (window->refusals > 0) {
        window->refusals--;
        return window->refusal;
    }
    for (unsigned i = 0; i < count; i++) {
        if (!piece_inside(window, addresses[i], iov[i].length))
            return -EFAULT;
    }
    if (window->mapping_max > 0 && !range_within(window->mapping_count, count, window->mapping_max))
        return -ENOMEM;
    return 0;
}

static int window_map(struct guest_access *access, const uint64_t *addresses, struct guest_iovec *iov, unsigned count,
                      bool write)
{
    struct window_access *window = container_of(access, struct window_access, access);
    ASSERT(count > 0);
    check_host(pthread_mutex_lock(&window->lock) == 0, "pthread_mutex_lock");
    int r = refuse_map(window, addresses, iov, count);
    if (r == 0 && window->mapping_count + count > window->mapping_room) {
        window->mapping_room = 2 * window->mapping_room + count;
        window->mappings = realloc(window->mappings, window->mapping_room * sizeof(*window->mappings));
        check_host(window->mappings != NULL, "realloc");
    }
    for (unsigned i = 0; i < count && r == 0; i++) {
        window->mappings[window->mapping_count++] =
            (struct window_mapping){.address = addresses[i], .length = iov[i].length, .write = write};
        protect_page(window, addresses[i]);
        iov[i].base = device_address(window, addresses[i]);
    }
    if (r == 0)
        window->maps_total++;
    check_host(pthread_mutex_unlock(&window->lock) == 0, "pthread_mutex_unlock");
    return r;
}

/* Which mapping goes when @address and @length are given back; there must be one. */
static size_t find_mapping(const struct window_access *window, uint64_t address, uint64_t length, bool written)
{
    size_t found = window->mapping_count;
    for (size_t i = 0; i < window->mapping_count; i++) {
        const struct window_mapping *mapping = &window->mappings[i];
        if (mapping->address != address || mapping->length != length)
            continue;
        if (mapping->write == written)
            return i;
        if (!written)
            found = i;
    }
    ASSERT(found < window->mapping_count); /* what was never mapped, or not for writing, is given back */
    return found;
}

static void window_unmap(struct guest_access *access, const uint64_t *addresses, const struct guest_iovec *iov,
                         unsigned count, bool written)
{
    struct window_access *window = container_of(access, struct window_access, access);
    check_host(pthread_mutex_lock(&window->lock) == 0, "pthread_mutex_lock");
    for (unsigned i = 0; i < count; i++) {
        size_t at = find_mapping(window, addresses[i], iov[i].length, written);
        ASSERT(iov[i].base == device_address(window, addresses[i]));
        window->mappings[at] = window->mappings[--window->mapping_count];
        protect_page(window, addresses[i]);
    }
    window->unmaps_total++;
    check_host(pthread_mutex_unlock(&window->lock) == 0, "pthread_mutex_unlock");
}

static const struct guest_access_class window_class = {
    .name = "window",
    .chunk_shift = WINDOW_PAGE_SHIFT,
    .map = window_map,
    .unmap = window_unmap,
};

void window_access_open(struct window_access *window, uint64_t guest_base, uint64_t size, enum window_layout layout)
{
    ASSERT(size > 0 && is_aligned(guest_base | size, WINDOW_PAGE_BYTES));
    check_host(sysconf(_SC_PAGESIZE) == WINDOW_PAGE_BYTES, "pages of 4 KiB");
    *window = (struct window_access){
        .access.class = &window_class,
        .guest_base = guest_base,
        .size = size,
        .layout = layout,
    };
    check_host(pthread_mutex_init(&window->lock, NULL) == 0, "pthread_mutex_init");

    int fd = memfd_create("window", MFD_CLOEXEC);
    check_host(fd >= 0, "memfd_create");
    check_host(ftruncate(fd, (off_t)size) == 0, "ftruncate");
    window->guest_side = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    check_host(window->guest_side != MAP_FAILED, "mmap");
    window->device_side = mmap(NULL, size, PROT_NONE, MAP_SHARED, fd, 0);
    check_host(window->device_side != MAP_FAILED, "mmap");
    for (uint64_t page = 0; page < size && layout == WINDOW_SCATTERED; page += WINDOW_PAGE_BYTES) {
        void *at = device_address(window, guest_base + page);
        void *mapped = mmap(at, WINDOW_PAGE_BYTES, PROT_NONE, MAP_SHARED | MAP_FIXED, fd, (off_t)page);
        check_host(mapped == at, "mmap");
    }
    check_host(close(fd) == 0, "close");
}

void window_access_close(struct window_access *window)
{
    ASSERT(window->mapping_count == 0);
    check_host(munmap(window->guest_side, window->size) == 0, "munmap");
    check_host(munmap(window->device_side, window->size) == 0, "munmap");
    check_host(pthread_mutex_destroy(&window->lock) == 0, "pthread_mutex_destroy");
    free(window->mappings);
    *window = (struct window_access){0};
}

void window_access_memory(struct window_access *window, struct guest_memory *memory)
{
    const struct guest_region region = {.guest_base = window->guest_base, .size = window->size};
    guest_memory_init(memory, &window->access);
    int r = guest_memory_add(memory, &region);
    ASSERT(r == 0);
}

void window_access_refuse(struct window_access *window, int error, unsigned times)
{
    check_host(pthread_mutex_lock(&window->lock) == 0, "pthread_mutex_lock");
    window->refusal = error;
    window->refusals = times;
    check_host(pthread_mutex_unlock(&window->lock) == 0, "pthread_mutex_unlock");
}

uint8_t *window_access_guest(const struct window_access *window, uint64_t address)
{
    ASSERT(address - window->guest_base < window->size);
    return window->guest_side + (address - window->guest_base);
}

size_t window_access_mapped(struct window_access *window)
{
    check_host(pthread_mutex_lock(&window->lock) == 0, "pthread_mutex_lock");
    size_t count = window->mapping_count;
    check_host(pthread_mutex_unlock(&window->lock) == 0, "pthread_mutex_unlock");
    return count;
}

bool window_access_readable(const struct window_access *window, uint64_t address)
{
    int ends[2];
    check_host(pipe(ends) == 0, "pipe");
    ssize_t count = write(ends[1], device_address(window, address), 1);
    check_host(count == 1 || errno == EFAULT, "write");
    check_host(close(ends[0]) == 0 && close(ends[1]) == 0, "close");
    return count == 1;
}

bool window_access_writable(const struct window_access *window, uint64_t address)
{
    int ends[2];
    check_host(pipe(ends) == 0, "pipe");
    /* The byte is overwritten with what it is. */
    check_host(write(ends[1], window_access_guest(window, address), 1) == 1, "write");
    ssize_t count = read(ends[0], device_address(window, address), 1);
    check_host(count == 1 || errno == EFAULT, "read");
    check_host(close(ends[0]) == 0 && close(ends[1]) == 0, "close");
    return count == 1;
}
