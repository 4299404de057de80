/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Theory of operation
 *
 * A load or store to a page that its file no longer has raises SIGBUS on the thread that made it. The handler finds the
 * mapping in a table, puts a page of zeros over the lost one, signals the mapping's eventfd, and returns; the access is
 * made again and succeeds. The owner of the eventfd then gets rid of the front end. Pages beside it keep what they
 * have. System calls that meet such a page answer EFAULT by themselves.
 *
 * The handler uses mmap and write, which are plain system calls, and atomics; it takes no lock. The table is the one
 * global of the platform, as the disposition of a signal is one, so servers on different threads meet here: a mutex is
 * between those who open and close. A slot's base is stored last when it is made and cleared first when it is closed;
 * no thread touches the memory before the one or after the other.
 *
 * A SIGBUS elsewhere gets the default disposition again, so the access that is repeated ends the process with the
 * signal and a core: that is an error of ours.
 *
 * Limits
 *
 * One page at a time is replaced, each costing a kernel mapping, until the front end is gone. If the kernel refuses the
 * page, the process ends.
 */
#include "platform/linux/shared_mapping.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define HUGETLBFS_MAGIC 0x958458f6

struct shared_mapping_slot {
    _Atomic uintptr_t base; /* of the whole mapping, aligned; 0: free */
    size_t bytes;
    size_t page_bytes;
    int fault_handle;
};

static struct shared_mapping_slot slots[SHARED_MAPPINGS_MAX];
static unsigned slots_used; /* all at and above this are free */
static pthread_mutex_t slots_lock = PTHREAD_MUTEX_INITIALIZER;

static bool shared_mapping_mend(uintptr_t address)
{
    for (unsigned i = 0; i < SHARED_MAPPINGS_MAX; i++) {
        struct shared_mapping_slot *slot = &slots[i];
        uintptr_t base = atomic_load_explicit(&slot->base, memory_order_acquire);
        if (base == 0 || address < base || address - base >= slot->bytes)
            continue;
        uintptr_t page = address - (address - base) % slot->page_bytes;
        if (mmap((void *)page, slot->page_bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
            return false;
        uint64_t one = 1;
        ssize_t written = write(slot->fault_handle, &one, sizeof(one));
        (void)written;
        return true;
    }
    return false;
}

static void shared_mapping_fault(int number, siginfo_t *information, void *context)
{
    (void)context;
    int saved = errno;
    /* SI_USER and the like, or memory that failed elsewhere: no access of ours is behind it. */
    bool ours = information->si_code == BUS_ADRERR || information->si_code == BUS_MCEERR_AR;
    if (information->si_code != BUS_MCEERR_AO && !(ours && shared_mapping_mend((uintptr_t)information->si_addr)))
        signal(number, SIG_DFL);
    errno = saved;
}

static void shared_mapping_catch(void)
{
    struct sigaction action = {.sa_sigaction = shared_mapping_fault, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
}

/* The unit in which the file can be mapped; the file's size is checked too. */
static int shared_mapping_page_bytes(int handle, uint64_t offset, uint64_t bytes, uint64_t *ret_page_bytes)
{
    struct stat status;
    struct statfs system;
    if (fstat(handle, &status) < 0 || fstatfs(handle, &system) < 0)
        return -errno;
    /* Devices (DAX) have no size to check: mmap itself refuses what is not there. */
    if (S_ISREG(status.st_mode) && !range_within(offset, bytes, (uint64_t)status.st_size))
        return -ENXIO;
    uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    if ((uint64_t)system.f_type == HUGETLBFS_MAGIC && is_power_of_two((uint64_t)system.f_bsize) &&
        (uint64_t)system.f_bsize > page_bytes)
        page_bytes = (uint64_t)system.f_bsize;
    *ret_page_bytes = page_bytes;
    return 0;
}

/* Put a mapping at @base into the table: the slot it has now, or -ENOMEM. */
static int shared_mapping_enter(const struct shared_mapping_slot *from, uintptr_t base)
{
    unsigned index = 0;
    pthread_mutex_lock(&slots_lock);
    while (index < slots_used && atomic_load(&slots[index].base) != 0)
        index++;
    if (index < SHARED_MAPPINGS_MAX) {
        if (index == slots_used)
            slots_used++;
        slots[index].bytes = from->bytes;
        slots[index].page_bytes = from->page_bytes;
        slots[index].fault_handle = from->fault_handle;
        atomic_store_explicit(&slots[index].base, base, memory_order_release);
    }
    pthread_mutex_unlock(&slots_lock);
    return index < SHARED_MAPPINGS_MAX ? (int)index : -ENOMEM;
}

int shared_mapping_open(int handle, uint64_t offset, uint64_t bytes, int fault_handle,
                        struct shared_mapping *ret_mapping)
{
    uint64_t end, page_bytes = 0;
    if (bytes == 0 || add_overflows_u64(offset, bytes, &end) || end > INT64_MAX)
        return -EINVAL;
    int r = shared_mapping_page_bytes(handle, offset, bytes, &page_bytes);
    if (r < 0)
        return r;

    uint64_t start = align_down(offset, page_bytes);
    uint64_t whole = align_up(end - start, page_bytes);
    if (whole < bytes || whole > SIZE_MAX)
        return -EINVAL;
    uint8_t *base = mmap(NULL, (size_t)whole, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, handle, (off_t)start);
    if (base == MAP_FAILED)
        return -errno;
    madvise(base, (size_t)whole, MADV_DONTDUMP); /* a core of ours holds none of the guest's secrets */
    shared_mapping_catch(); /* each time: others in the process set handlers too, and mappings are rare */
    const struct shared_mapping_slot slot = {
        .bytes = (size_t)whole, .page_bytes = (size_t)page_bytes, .fault_handle = fault_handle};
    r = shared_mapping_enter(&slot, (uintptr_t)base);
    if (r < 0) {
        munmap(base, (size_t)whole);
        return r;
    }
    *ret_mapping = (struct shared_mapping){.base = base + (offset - start), .owner = (uint64_t)r};
    return 0;
}

void shared_mapping_close(uint64_t owner)
{
    ASSERT(owner < SHARED_MAPPINGS_MAX);
    struct shared_mapping_slot *slot = &slots[owner];
    pthread_mutex_lock(&slots_lock);
    uintptr_t base = atomic_exchange(&slot->base, 0);
    size_t bytes = slot->bytes;
    pthread_mutex_unlock(&slots_lock);
    ASSERT(base != 0);
    munmap((void *)base, bytes);
}
