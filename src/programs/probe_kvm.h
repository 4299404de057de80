/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What backplane probe says of KVM. */
#ifndef PROGRAMS_PROBE_KVM_H
#define PROGRAMS_PROBE_KVM_H

#include <jansson.h>

#include "base/base.h"

/* Words of "state". */
#define PROBE_WHOLE "whole"
#define PROBE_NOT_WHOLE "not whole"
#define PROBE_ABSENT "absent"
#define PROBE_NO_PERMISSION "no permission"

/*
 * Look at KVM at @path and run a guest of a few instructions: a new object with path, state, reason where it is not
 * whole, and capabilities; NULL: no memory. Blocks up to ten seconds when that guest hangs.
 */
json_t *probe_kvm(const char *path);

#endif
