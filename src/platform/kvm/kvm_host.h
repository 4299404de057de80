/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The host's KVM (Documentation/virt/kvm/api.rst of Linux): /dev/kvm, what it offers, and whether that is enough.
 *
 * This folder is a thin binding over that interface: one function for each thing KVM does, in units of bytes and
 * guest-physical addresses, with no policy. It allocates nothing: every structure is the caller's, and mappings are
 * made when a virtual processor is opened. Section numbers of api.rst ("4.35") are the reference of each function.
 *
 * Results are 0 or a count, or a negative errno value; ret_ arguments are untouched on failure. -ENOTSUP: this host's
 * KVM does not offer it.
 */
#ifndef PLATFORM_KVM_KVM_HOST_H
#define PLATFORM_KVM_KVM_HOST_H

#include "platform/kvm/kvm_system.h"

#define KVM_HOST_PATH "/dev/kvm"

struct kvm_host {
    const struct kvm_system *system; /* borrowed */
    int handle;                      /* of /dev/kvm, ours */
    uint32_t run_bytes;              /* what a virtual processor shares with us (4.5) */
    uint32_t page_bytes;             /* of the host */
};

/*
 * Open KVM at @path (4.1). @system is borrowed, NULL for the real one; the host is read-only afterwards and may be used
 * by any thread. -ENOENT, -EACCES, …: as open(2) has them; -EPROTO: it speaks another version of the interface, or
 * shares less than a processor's state.
 */
int kvm_host_open(struct kvm_host *host, const struct kvm_system *system, const char *path);
/* The same for a handle that was opened elsewhere, by a parent with more rights, say. It is taken over, also on
 * failure. */
int kvm_host_adopt(struct kvm_host *host, const struct kvm_system *system, int handle);
/* After its VMs. Also of a host that is all zeros or failed to open. */
void kvm_host_close(struct kvm_host *host);

/* What KVM says to KVM_CAP_@capability (4.4): 0 is no; more is yes, and often a number. An error counts as no. */
int kvm_host_check(const struct kvm_host *host, unsigned capability);

/* What is wanted of KVM, and what for. */
enum kvm_need {
    KVM_NEEDED, /* a machine is not possible without it */
    KVM_USED,   /* used where it is there */
};

struct kvm_capability {
    const char *name; /* without KVM_CAP_ */
    unsigned number;
    enum kvm_need need;
    const char *purpose; /* for people: what is lost without it */
};

/* The capabilities that matter on this architecture; constant. */
const struct kvm_capability *kvm_capabilities(size_t *ret_count);

/* The first capability that is needed and not there, or NULL. */
const struct kvm_capability *kvm_host_missing(const struct kvm_host *host);

#endif
