# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Case: vmlinux boots by its PVH entry
# Beds: x86-64
host() {
    kernel=$BED/vmlinux
    vm --memory=128M
    vm_passed
}

guest() {
    expect 'PVH is said in the log' sh -c 'dmesg | grep -q "Booting paravirtualized kernel"'
}
