# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Case: the guest hears of its power button
# Beds: x86-64
host() {
    vm --control-path="$work/control"
    vm_until '@waits'
    backplane ctl "$work/control" power-button
    vm_passed
}

guest() {
    await test -c /dev/input/event0
    exec 6</dev/input/event0
    say '@waits'
    same 'bytes of an event' "$(head -c 24 <&6 | wc -c)" 24
}
