/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "platform/kvm/kvm_host.h"

#include <errno.h>
#include <linux/kvm.h>
#include <unistd.h>

int kvm_host_adopt(struct kvm_host *host, const struct kvm_system *system, int handle)
{
    *host = (struct kvm_host){.system = system ? system : &kvm_system_linux, .handle = handle};
    int version = kvm_ioctl_number(host->system, handle, KVM_GET_API_VERSION, 0);
    int run_bytes = version == KVM_API_VERSION ? kvm_ioctl_number(host->system, handle, KVM_GET_VCPU_MMAP_SIZE, 0) : 0;
    int r = version < 0 ? version : run_bytes < 0 ? run_bytes : 0;
    if (r == 0 && (version != KVM_API_VERSION || (size_t)run_bytes < sizeof(struct kvm_run)))
        r = -EPROTO;
    if (r < 0) {
        kvm_host_close(host);
        return r;
    }
    host->run_bytes = (uint32_t)run_bytes;
    host->page_bytes = (uint32_t)sysconf(_SC_PAGESIZE);
    return 0;
}

int kvm_host_open(struct kvm_host *host, const struct kvm_system *system, const char *path)
{
    *host = (struct kvm_host){0};
    if (!system)
        system = &kvm_system_linux;
    int handle = system->open(system, path);
    return handle < 0 ? handle : kvm_host_adopt(host, system, handle);
}

void kvm_host_close(struct kvm_host *host)
{
    if (host->system)
        host->system->close(host->system, host->handle);
    *host = (struct kvm_host){0};
}

int kvm_host_check(const struct kvm_host *host, unsigned capability)
{
    int r = kvm_ioctl_number(host->system, host->handle, KVM_CHECK_EXTENSION, capability);
    return r < 0 ? 0 : r;
}

const struct kvm_capability *kvm_host_missing(const struct kvm_host *host)
{
    size_t count;
    const struct kvm_capability *capabilities = kvm_capabilities(&count);
    for (size_t i = 0; i < count; i++) {
        if (capabilities[i].need == KVM_NEEDED && kvm_host_check(host, capabilities[i].number) == 0)
            return &capabilities[i];
    }
    return NULL;
}
