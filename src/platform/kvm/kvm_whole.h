/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Is this KVM a whole one, on which a stock Linux guest boots?
 *
 * Some hosts offer a KVM without hardware help, where exits and interrupts work but much code does not. Processor flags
 * do not tell, so a guest of a few instructions does what every Linux does in its first second: on x86-64 it adds two
 * vectors at privilege level 0, goes to level 3 by sysret and comes back by syscall; on arm64 it turns its MMU on at
 * exception level 1, goes to level 0 by eret, comes back by svc, and reports by an access to no memory.
 */
#ifndef PLATFORM_KVM_KVM_WHOLE_H
#define PLATFORM_KVM_KVM_WHOLE_H

#include "platform/kvm/kvm_host.h"

/* What is wrong, in words that fit behind "/dev/kvm is not whole: ". */
#define KVM_WHOLE_REASON_BYTES 160

/*
 * Try it: 1 when it is whole, 0 with @reason filled when it is not (-errno is no answer here: what fails is the
 * reason). Blocks while the guest runs, microseconds, and ten seconds when it hangs. SIGRTMAX is blocked and taken away
 * by this thread meanwhile; no handler is installed, and other threads see nothing of it.
 */
int kvm_whole_try(const struct kvm_host *host, char *reason, size_t reason_bytes);

/* The same of KVM at @path: the reason also says why it cannot be opened, and what to do about it. */
int kvm_whole_try_path(const char *path, char *reason, size_t reason_bytes);
/* Why kvm_host_open(@path) failed with @error, and what to do about it. */
void kvm_whole_open_reason(const char *path, int error, char *reason, size_t reason_bytes);

#endif
