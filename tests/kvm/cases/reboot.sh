# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Case: a guest that reboots starts anew, and ends with the status that docs/man gives for it where that was asked for
# Beds: all
host() {
    vm
    vm_until '@passed'
    vm_until '@passed'
    kill "$vm_process"
    vm_ends 0
    vm --on-reset=exit
    vm_until '@passed'
    vm_ends 3
}

guest() {
    :
}
ending='reboot -f'
