# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Case: what is typed on a virtio console arrives, and what is written there is shown
# Beds: all
host() {
    console=hvc0
    vm --console=virtio
    vm_until '@waits'
    vm_type 'abc 123'
    vm_passed
}

guest() {
    same 'the console' "$(cat /sys/class/tty/console/active)" hvc0
    say '@waits'
    answer
    same 'what was typed' "$line" 'abc 123'
}
