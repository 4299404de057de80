/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "programs/probe_kvm.h"

#include <errno.h>

#include "platform/kvm/kvm_whole.h"

static json_t *probe_capabilities(const struct kvm_host *host)
{
    json_t *answer = json_object();
    size_t count;
    const struct kvm_capability *capabilities = kvm_capabilities(&count);
    for (size_t i = 0; i < count; i++)
        json_object_set_new(answer, capabilities[i].name, json_integer(kvm_host_check(host, capabilities[i].number)));
    return answer;
}

json_t *probe_kvm(const char *path)
{
    struct kvm_host host;
    char reason[KVM_WHOLE_REASON_BYTES] = "";
    const char *state;
    json_t *capabilities = NULL;
    int r = kvm_host_open(&host, NULL, path);
    if (r < 0) {
        state = r == -EACCES || r == -EPERM ? PROBE_NO_PERMISSION : r == -ENOENT ? PROBE_ABSENT : PROBE_NOT_WHOLE;
        kvm_whole_open_reason(path, r, reason, sizeof(reason));
    } else {
        state = kvm_whole_try(&host, reason, sizeof(reason)) == 1 ? PROBE_WHOLE : PROBE_NOT_WHOLE;
        capabilities = probe_capabilities(&host);
        kvm_host_close(&host);
    }
    json_t *answer = json_pack("{s:s, s:s}", "path", path, "state", state);
    if (answer && reason[0] != '\0')
        json_object_set_new(answer, "reason", json_string(reason));
    if (answer && capabilities)
        json_object_set(answer, "capabilities", capabilities);
    json_decref(capabilities);
    return answer;
}
