/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "platform/linux/host_probe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HUGE_PAGES_FOLDER "/sys/kernel/mm/hugepages"
/* Any of the files looked at here is shorter, or begins with what is looked for. */
#define FILE_BYTES_MAX 4096

static int open_below(const char *root, const char *path, int flags)
{
    char whole[PATH_MAX];
    int length = snprintf(whole, sizeof(whole), "%s%s", root, path);
    if (length < 0 || (size_t)length >= sizeof(whole))
        return -ENAMETOOLONG;
    int handle = open(whole, flags | O_CLOEXEC);
    return handle < 0 ? -errno : handle;
}

/* The beginning of a file, terminated, without the last line's end. */
static int read_text(const char *root, const char *path, char *text, size_t text_bytes)
{
    int handle = open_below(root, path, O_RDONLY);
    if (handle < 0)
        return handle;
    ssize_t count = read(handle, text, text_bytes - 1);
    int r = count < 0 ? -errno : 0;
    close(handle);
    if (r < 0)
        return r;
    while (count > 0 && text[count - 1] == '\n')
        count--;
    text[count] = '\0';
    return 0;
}

int host_probe_file(const char *root, const char *path)
{
    int handle = open_below(root, path, O_RDWR | O_NONBLOCK);
    if (handle >= 0)
        close(handle);
    return handle < 0 ? handle : 0;
}

int host_probe_io_uring(void)
{
    struct io_uring_params params = {0};
    long handle = syscall(SYS_io_uring_setup, 1, &params);
    if (handle < 0)
        return -errno;
    close((int)handle);
    return 0;
}

int host_probe_memfd(void)
{
    int handle = memfd_create("probe", MFD_CLOEXEC);
    if (handle < 0)
        return -errno;
    close(handle);
    return 0;
}

static uint64_t read_number(const char *root, const char *folder, const char *name)
{
    char path[PATH_MAX], text[32];
    snprintf(path, sizeof(path), HUGE_PAGES_FOLDER "/%.64s/%s", folder, name);
    return read_text(root, path, text, sizeof(text)) < 0 ? 0 : strtoull(text, NULL, 10);
}

static int by_size(const void *a, const void *b)
{
    const struct host_huge_pages *first = a, *second = b;
    return first->page_bytes < second->page_bytes ? -1 : first->page_bytes > second->page_bytes;
}

int host_probe_huge_pages(const char *root, struct host_huge_pages *pages)
{
    char path[PATH_MAX];
    int length = snprintf(path, sizeof(path), "%s%s", root, HUGE_PAGES_FOLDER);
    DIR *folder = length > 0 && (size_t)length < sizeof(path) ? opendir(path) : NULL;
    if (!folder)
        return 0;
    int count = 0;
    const struct dirent *entry;
    while (count < HOST_HUGE_PAGES_MAX && (entry = readdir(folder)) != NULL) {
        static const char prefix[] = "hugepages-"; /* then a number, and kB */
        if (strncmp(entry->d_name, prefix, sizeof(prefix) - 1) != 0)
            continue;
        char *end;
        uint64_t kibibytes = strtoull(entry->d_name + sizeof(prefix) - 1, &end, 10);
        if (strcmp(end, "kB") != 0)
            continue;
        pages[count++] = (struct host_huge_pages){
            .page_bytes = kibibytes << 10,
            .total = read_number(root, entry->d_name, "nr_hugepages"),
            .free = read_number(root, entry->d_name, "free_hugepages"),
        };
    }
    closedir(folder);
    qsort(pages, (size_t)count, sizeof(*pages), by_size);
    return count;
}

enum host_xen host_probe_xen(const char *root, char *version, size_t version_bytes)
{
    char text[FILE_BYTES_MAX], major[16] = "", minor[16] = "", extra[16] = "";
    if (read_text(root, "/sys/hypervisor/type", text, sizeof(text)) < 0 || strcmp(text, "xen") != 0)
        return HOST_XEN_ABSENT;
    read_text(root, "/sys/hypervisor/version/major", major, sizeof(major));
    read_text(root, "/sys/hypervisor/version/minor", minor, sizeof(minor));
    read_text(root, "/sys/hypervisor/version/extra", extra, sizeof(extra));
    snprintf(version, version_bytes, "%s.%s%s", major, minor, extra);
    if (read_text(root, "/proc/xen/capabilities", text, sizeof(text)) == 0 && strstr(text, "control_d"))
        return HOST_XEN_CONTROL;
    return HOST_XEN_GUEST;
}

int host_probe_virtual(const char *root)
{
    char text[FILE_BYTES_MAX];
    int r = read_text(root, "/proc/cpuinfo", text, sizeof(text));
    if (r < 0)
        return r;
    const char *flags = strstr(text, "\nflags"); /* x86; other architectures' are called otherwise, and do not tell */
    if (!flags)
        return -ENODATA;
    const char *end = strchr(flags + 1, '\n'), *found = strstr(flags, " hypervisor ");
    if (!found)
        return end ? 0 : -ENODATA;
    return !end || found < end;
}
