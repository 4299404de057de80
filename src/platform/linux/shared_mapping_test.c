/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "platform/linux/shared_mapping.h"

#define PAGE_BYTES 4096
#define THREADS 4
#define ROUNDS 500
#define HELD 8 /* mappings of one thread at a time */

static int make_file(uint64_t bytes)
{
    int handle = memfd_create("shared", MFD_CLOEXEC);
    assert_true(handle >= 0);
    assert_int_equal(ftruncate(handle, (off_t)bytes), 0);
    return handle;
}

struct opener {
    pthread_t thread;
    int handle;
    uint8_t letter;
    unsigned wrong;
};

/* Open and close mappings of a file of one's own, in which nobody else writes. */
static void *open_and_close(void *argument)
{
    struct opener *opener = argument;
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct shared_mapping mappings[HELD];
        for (unsigned i = 0; i < HELD; i++) {
            if (shared_mapping_open(opener->handle, i * PAGE_BYTES, PAGE_BYTES, -1, &mappings[i]) < 0) {
                opener->wrong++;
                return NULL;
            }
            mappings[i].base[0] = opener->letter;
        }
        for (unsigned i = 0; i < HELD; i++) {
            opener->wrong += mappings[i].base[0] != opener->letter;
            shared_mapping_close(mappings[i].owner);
        }
    }
    return NULL;
}

/* A library serves several devices, each on a thread of its own; the table of mappings is the process's. */
static void threads_open_and_close_at_the_same_time(void **state)
{
    struct opener openers[THREADS];
    (void)state;
    for (unsigned i = 0; i < THREADS; i++) {
        openers[i] = (struct opener){.handle = make_file(HELD * PAGE_BYTES), .letter = (uint8_t)('a' + i)};
        assert_int_equal(pthread_create(&openers[i].thread, NULL, open_and_close, &openers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(openers[i].thread, NULL), 0);
        assert_int_equal(openers[i].wrong, 0);
        close(openers[i].handle);
    }
}

static void no_more_mappings_than_there_is_room_for_and_none_left_over(void **state)
{
    static struct shared_mapping mappings[SHARED_MAPPINGS_MAX];
    struct shared_mapping more = {.owner = 4711};
    int handle = make_file(PAGE_BYTES);
    (void)state;
    for (unsigned turn = 0; turn < 2; turn++) {
        for (unsigned i = 0; i < SHARED_MAPPINGS_MAX; i++)
            assert_int_equal(shared_mapping_open(handle, 0, PAGE_BYTES, -1, &mappings[i]), 0);
        assert_int_equal(shared_mapping_open(handle, 0, PAGE_BYTES, -1, &more), -ENOMEM);
        assert_int_equal(more.owner, 4711);
        shared_mapping_close(mappings[3].owner);
        assert_int_equal(shared_mapping_open(handle, 0, PAGE_BYTES, -1, &mappings[3]), 0);
        for (unsigned i = 0; i < SHARED_MAPPINGS_MAX; i++)
            shared_mapping_close(mappings[i].owner);
    }
    close(handle);
}

static void a_page_that_its_file_has_lost_reads_as_zeros_and_is_told(void **state)
{
    struct shared_mapping mapping;
    uint64_t count, page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    int handle = make_file(2 * page_bytes), fault = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    (void)state;
    assert_int_equal(shared_mapping_open(handle, 0, 2 * page_bytes, fault, &mapping), 0);
    volatile uint8_t *bytes = mapping.base; /* volatile: the compiler does not know that they change */
    bytes[0] = 1;
    bytes[page_bytes] = 2;
    assert_int_equal(ftruncate(handle, (off_t)page_bytes), 0);
    assert_int_equal(read(fault, &count, sizeof(count)), -1);
    assert_int_equal(bytes[page_bytes], 0);
    assert_int_equal(bytes[0], 1);
    assert_int_equal(read(fault, &count, sizeof(count)), sizeof(count));
    assert_int_equal(count, 1);
    shared_mapping_close(mapping.owner);
    close(fault);
    close(handle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_open_and_close_at_the_same_time),
        cmocka_unit_test(no_more_mappings_than_there_is_room_for_and_none_left_over),
        cmocka_unit_test(a_page_that_its_file_has_lost_reads_as_zeros_and_is_told),
    };
    return cmocka_run_group_tests_name("shared_mapping", tests, NULL, NULL);
}
