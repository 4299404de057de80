# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Case: a guest whose kernel panics ends the VMM with the status of a crash
# Beds: all
host() {
    vm
    vm_until '@passed'
    vm_ends 4
}

guest() {
    :
}
ending='exit 1' # the first process: the kernel cannot go on
