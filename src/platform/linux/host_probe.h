/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What this host offers to machines, besides KVM: found out by trying where that changes nothing, else by what the
 * kernel says in /sys and /proc. Nothing blocks, allocates or is left open. @root stands before every path: "" for this
 * host.
 */
#ifndef PLATFORM_LINUX_HOST_PROBE_H
#define PLATFORM_LINUX_HOST_PROBE_H

#include "base/base.h"

/* 0: @path can be opened to read and write. -ENOENT, -EACCES, …: why not. */
int host_probe_file(const char *root, const char *path);
/* 0: a ring can be made. -ENOSYS: built without; -EPERM: not allowed here. */
int host_probe_io_uring(void);
/* 0: memory can be had as a file. */
int host_probe_memfd(void);

/* Architectures have at most four sizes; more than these are not looked at. */
#define HOST_HUGE_PAGES_MAX 8
struct host_huge_pages {
    uint64_t page_bytes;
    uint64_t total, free; /* pages that are set aside */
};
/* The sizes of huge pages, smallest first; their number, 0 where there are none. */
int host_probe_huge_pages(const char *root, struct host_huge_pages *pages);

enum host_xen {
    HOST_XEN_ABSENT,
    HOST_XEN_GUEST,   /* this is a domain */
    HOST_XEN_CONTROL, /* this is a domain that may control others: dom0 */
};
/* Are we on Xen? @version: "4.17.1", filled when we are. */
enum host_xen host_probe_xen(const char *root, char *version, size_t version_bytes);

/* Is this machine virtual itself? 1 or 0; -ENODATA: nothing here tells (arm64). */
int host_probe_virtual(const char *root);

#endif
