# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Case: a guest moves the BARs of a disk while another one works, and the disk is where it was moved
# Beds: all
host() {
    vm --blk-file="$(disk one 16)" --blk-file="$(disk two 16)"
    vm_passed
}

guest() {
    # What a driver does not use can be moved without its knowing: the driver lets go, and takes it back at home.
    function=$(basename "$(readlink -f /sys/block/vdb/device/..)")
    echo "$function" >/sys/bus/pci/drivers/virtio-pci/unbind
    (while :; do blk_keeps /dev/vda 1 busy; done) &
    busy=$!
    index=$(memory_bar "$function")
    free=$(pcimove free "$function" "$index")
    pcimove flip "$function" "$index" "$free" 0 50
    expect 'the other disk still works' kill "$busy"
    echo "$function" >/sys/bus/pci/drivers/virtio-pci/bind
    await test -b /dev/vdb
    blk_keeps /dev/vdb 4 moved
}

# memory_bar FUNCTION: the index of its first memory BAR
memory_bar() {
    awk '{ if ($1 != "0x0000000000000000" && substr($3, length($3)) % 2 == 0 && NR <= 6) { print NR - 1; exit } }' \
        "/sys/bus/pci/devices/$1/resource"
}
