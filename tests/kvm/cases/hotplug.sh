# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Case: a disk is plugged in while the guest runs, works, and is taken out again when the guest lets it go
# Beds: all
host() {
    vm --control-path="$work/control"
    vm_until '@waits'
    backplane ctl "$work/control" device-add type=blk name=hot file="$(disk hot 16)"
    vm_until '@works'
    backplane ctl "$work/control" device-remove name=hot
    vm_until '@gone'
    backplane ctl "$work/control" device-add type=rng name=hot
    vm_passed
}

guest() {
    expect 'no disk' test ! -e /dev/vda
    say '@waits'
    await test -b /dev/vda
    blk_keeps /dev/vda 4 plugged
    say '@works'
    await test ! -e /dev/vda
    say '@gone'
    await test -c /dev/hwrng
    await grep -q virtio /sys/class/misc/hw_random/rng_current
    rng_differs
}
