/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* On an architecture for which there is no machine here. */
#include "programs/command.h"
#include "programs/daemon.h"

int command_vm(int count, char **arguments)
{
    (void)count;
    (void)arguments;
    return daemon_complain(EXIT_FAILED, "vm", "this program was built for an architecture that it has no machine for");
}
