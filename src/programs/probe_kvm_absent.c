/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* On an architecture for which there is no machine here. */
#include "programs/probe_kvm.h"

json_t *probe_kvm(const char *path)
{
    return json_pack("{s:s, s:s, s:s}", "path", path, "state", PROBE_ABSENT, "reason",
                     "this program was built for an architecture that it has no machine for");
}
