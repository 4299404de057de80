/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Moves a PCI function's BAR behind the back of its driver, as firmware, another kernel or setpci would:
 *
 *   pcimove bar FUNCTION INDEX                       prints address and size of a BAR, as the device has it
 *   pcimove free FUNCTION INDEX                      prints an address in the same bus's window where it would fit
 *   pcimove move FUNCTION INDEX ADDRESS              writes the BAR, both halves of a 64-bit one, with decoding on
 *   pcimove peek ADDRESS                             prints 32 bits of physical memory
 *   pcimove flip FUNCTION INDEX ADDRESS OFFSET COUNT moves it there and back so many times; each time the 32 bits at
 *                                                    OFFSET must be where the BAR is, and nothing where it was
 *
 * Theory of operation. Configuration space is the file that sysfs has for each function; physical memory is /dev/mem.
 * Sizes come from sysfs, so that nothing is written to find them out. Numbers are hexadecimal on output; on input as C
 * writes them. Exit status 1 and a line say what is wrong.
 *
 * Limits. Memory BARs alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BAR_OFFSET 0x10
#define BAR_COUNT 6
#define BAR_IO 1u
#define BAR_TYPE_64 4u
#define BAR_FLAGS 0xfull
#define NOTHING 0xffffffffu /* what a read finds where no device answers */
#define WINDOWS_MAX 256     /* lines of /proc/iomem that lie in one window */

struct bar {
    int config;
    unsigned index;
    bool is_64;
    uint64_t address, bytes;
};

struct range {
    uint64_t first, last;
};

__attribute__((noreturn, format(printf, 1, 2))) static void wrong(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("pcimove: ");
    vprintf(format, arguments);
    printf("\n");
    exit(1);
}

static uint32_t config_read(const struct bar *bar, unsigned offset)
{
    uint32_t value;
    if (pread(bar->config, &value, sizeof(value), offset) != (ssize_t)sizeof(value))
        wrong("configuration space at %#x cannot be read: %s", offset, strerror(errno));
    return value;
}

static void config_write(const struct bar *bar, unsigned offset, uint32_t value)
{
    if (pwrite(bar->config, &value, sizeof(value), offset) != (ssize_t)sizeof(value))
        wrong("configuration space at %#x cannot be written: %s", offset, strerror(errno));
}

static uint64_t bar_address(const struct bar *bar)
{
    unsigned offset = BAR_OFFSET + bar->index * 4;
    uint64_t value = config_read(bar, offset);
    if (bar->is_64)
        value |= (uint64_t)config_read(bar, offset + 4) << 32;
    return value & ~BAR_FLAGS;
}

static void bar_move(const struct bar *bar, uint64_t address)
{
    unsigned offset = BAR_OFFSET + bar->index * 4;
    config_write(bar, offset, (uint32_t)address);
    if (bar->is_64)
        config_write(bar, offset + 4, (uint32_t)(address >> 32));
    if (bar_address(bar) != address)
        wrong("BAR %u is at %#" PRIx64 " after it was moved to %#" PRIx64, bar->index, bar_address(bar), address);
}

/* Line @index of the function's file "resource" says where Linux thinks that the BAR is: its length is what we want. */
static uint64_t bar_bytes(const char *function, unsigned index)
{
    char path[256];
    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource", function);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        wrong("%s: %s", path, strerror(errno));
    uint64_t first = 0, last = 0;
    for (unsigned i = 0; i <= index; i++) {
        if (fscanf(file, "%" SCNx64 " %" SCNx64 " %*x", &first, &last) != 2)
            wrong("%s ends early", path);
    }
    fclose(file);
    if (last == 0)
        wrong("%s has no BAR %u", function, index);
    return last - first + 1;
}

static struct bar bar_open(const char *function, const char *index_text)
{
    char path[256];
    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/config", function);
    struct bar bar = {.config = open(path, O_RDWR | O_CLOEXEC), .index = (unsigned)strtoul(index_text, NULL, 0)};
    if (bar.config < 0)
        wrong("%s: %s", path, strerror(errno));
    if (bar.index >= BAR_COUNT)
        wrong("%s: there are BARs 0 to %d", index_text, BAR_COUNT - 1);
    uint32_t low = config_read(&bar, BAR_OFFSET + bar.index * 4);
    if ((low & BAR_IO) != 0)
        wrong("BAR %u of %s is one of ports", bar.index, function);
    bar.is_64 = (low & BAR_TYPE_64) != 0;
    bar.bytes = bar_bytes(function, bar.index);
    bar.address = bar_address(&bar);
    return bar;
}

static uint32_t peek(uint64_t address)
{
    int memory = open("/dev/mem", O_RDWR | O_SYNC | O_CLOEXEC);
    if (memory < 0)
        wrong("/dev/mem: %s", strerror(errno));
    uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE), within = address % page_bytes;
    uint8_t *page = mmap(NULL, page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory, (off_t)(address - within));
    if (page == MAP_FAILED)
        wrong("/dev/mem at %#" PRIx64 ": %s", address, strerror(errno));
    uint32_t value = *(volatile uint32_t *)(page + within);
    munmap(page, page_bytes);
    close(memory);
    return value;
}

static bool overlaps(const struct range *taken, unsigned count, uint64_t first, uint64_t last)
{
    for (unsigned i = 0; i < count; i++) {
        if (first <= taken[i].last && last >= taken[i].first)
            return true;
    }
    return false;
}

/* The highest place in @window that is aligned to its size and taken by nobody. */
static uint64_t place_in(struct range window, const struct range *taken, unsigned count, uint64_t bytes)
{
    uint64_t first = (window.last + 1 - bytes) & ~(bytes - 1);
    while (first >= window.first) {
        if (!overlaps(taken, count, first, first + bytes - 1))
            return first;
        if (first < bytes)
            break;
        first -= bytes;
    }
    wrong("no room for %#" PRIx64 " bytes in the window at %#" PRIx64, bytes, window.first);
}

/* /proc/iomem indents what lies within the line before: a bus's window is the outermost line with the BAR in it. */
static uint64_t find_free(const struct bar *bar)
{
    FILE *file = fopen("/proc/iomem", "r");
    if (file == NULL)
        wrong("/proc/iomem: %s", strerror(errno));
    char line[256];
    struct range window = {0}, taken[WINDOWS_MAX];
    unsigned count = 0;
    bool is_inside = false;
    while (fgets(line, sizeof(line), file) != NULL) {
        struct range range;
        if (sscanf(line, "%" SCNx64 "-%" SCNx64, &range.first, &range.last) != 2)
            continue;
        if (line[0] != ' ') {
            is_inside = range.first <= bar->address && bar->address <= range.last;
            if (is_inside)
                window = range;
        } else if (is_inside) {
            if (count == WINDOWS_MAX)
                wrong("more than %d lines of /proc/iomem in one window", WINDOWS_MAX);
            taken[count++] = range;
        }
    }
    fclose(file);
    if (window.last == 0)
        wrong("/proc/iomem has no window around %#" PRIx64, bar->address);
    return place_in(window, taken, count, bar->bytes);
}

static void flip(struct bar *bar, uint64_t other, uint64_t offset, unsigned long count)
{
    const uint64_t home = bar->address;
    const uint32_t there = peek(home + offset);
    if (there == NOTHING)
        wrong("nothing to see at offset %#" PRIx64, offset);
    for (unsigned long i = 0; i < count * 2; i++) {
        uint64_t to = i % 2 == 0 ? other : home, from = i % 2 == 0 ? home : other;
        bar_move(bar, to);
        if (peek(to + offset) != there)
            wrong("move %lu: %#x is at %#" PRIx64 ", not %#x", i, peek(to + offset), to + offset, there);
        if (peek(from + offset) != NOTHING)
            wrong("move %lu: %#x is still at %#" PRIx64, i, peek(from + offset), from + offset);
    }
}

static uint64_t number(const char *text)
{
    char *end;
    uint64_t value = strtoull(text, &end, 0);
    if (*text == '\0' || *end != '\0')
        wrong("'%s' is no number", text);
    return value;
}

int main(int count, char **arguments)
{
    const char *verb = count > 1 ? arguments[1] : "";
    if (count == 3 && strcmp(verb, "peek") == 0) {
        printf("%08" PRIx32 "\n", peek(number(arguments[2])));
        return 0;
    }
    if (count < 4)
        wrong("bar, free, move, peek or flip, with what they need");
    struct bar bar = bar_open(arguments[2], arguments[3]);
    if (count == 4 && strcmp(verb, "bar") == 0)
        printf("%#" PRIx64 " %#" PRIx64 "\n", bar.address, bar.bytes);
    else if (count == 4 && strcmp(verb, "free") == 0)
        printf("%#" PRIx64 "\n", find_free(&bar));
    else if (count == 5 && strcmp(verb, "move") == 0)
        bar_move(&bar, number(arguments[4]));
    else if (count == 7 && strcmp(verb, "flip") == 0)
        flip(&bar, number(arguments[4]), number(arguments[5]), number(arguments[6]));
    else
        wrong("%s: wrong arguments", verb);
    return 0;
}
