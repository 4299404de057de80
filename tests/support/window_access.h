/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A guest whose memory cannot be reached unless it is mapped: the second implementation of struct guest_access, for
 * tests on Linux. Each page is without access until map() opens it, for reading or for writing, and is closed again by
 * the last unmap(): a model that touches a page outside its window, or writes where it said that it would read, dies by
 * SIGSEGV. Whatever is still mapped is counted, so that a test can prove that nothing leaks.
 *
 * The guest's own side (a fake driver) uses the same bytes through a second mapping that is always open.
 */
#ifndef TESTS_SUPPORT_WINDOW_ACCESS_H
#define TESTS_SUPPORT_WINDOW_ACCESS_H

#include <pthread.h>

#include "memory/guest_memory.h"

#define WINDOW_PAGE_SHIFT 12
#define WINDOW_PAGE_BYTES 4096

/* Where a guest's pages lie in this process. */
enum window_layout {
    WINDOW_SIDE_BY_SIDE, /* as in the guest, so that a ring of several pages is one piece */
    WINDOW_SCATTERED,    /* in reverse, so that no two pages that follow each other in the guest do so here */
};

struct window_mapping;

struct window_access {
    struct guest_access access; /* what guest_memory_init gets */
    uint64_t guest_base;
    uint64_t size;
    uint8_t *guest_side;  /* the guest's own view, always open: for the fake driver */
    uint8_t *device_side; /* pages in the layout's order, closed unless mapped */
    enum window_layout layout;
    pthread_mutex_t lock; /* for all that follows: any thread may map */
    struct window_mapping *mappings;
    size_t mapping_count;
    size_t mapping_room;
    int refusal;           /* what the next maps answer */
    unsigned refusals;     /* how many of them */
    size_t mapping_max;    /* -ENOMEM beyond; 0: no bound */
    uint64_t maps_total;   /* calls of map() that succeeded */
    uint64_t unmaps_total; /* calls of unmap() */
};

/*
 * Memory of @size zeroed bytes at @guest_base, both multiples of a page. A failure of the host ends the test.
 */
void window_access_open(struct window_access *window, uint64_t guest_base, uint64_t size, enum window_layout layout);

/* The memory goes. Nothing may be mapped. */
void window_access_close(struct window_access *window);

/* An empty @memory is made that has all of the window as its one region. */
void window_access_memory(struct window_access *window, struct guest_memory *memory);

/* The next @times calls of map() answer @error (-EAGAIN, -ENOMEM, -EFAULT) and map nothing. */
void window_access_refuse(struct window_access *window, int error, unsigned times);

/* The guest's view of @address. */
uint8_t *window_access_guest(const struct window_access *window, uint64_t address);

/* Pieces that are mapped now. */
size_t window_access_mapped(struct window_access *window);

/* Can the device's side touch the byte at @address now? Asks the kernel, so nothing dies. */
bool window_access_readable(const struct window_access *window, uint64_t address);
bool window_access_writable(const struct window_access *window, uint64_t address);

#endif
