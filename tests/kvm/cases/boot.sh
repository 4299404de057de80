# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Case: Linux boots with nothing but a console, and powers off
# Beds: all
host() {
    vm --memory=128M
    vm_passed
}

guest() {
    expect 'a Linux of ours' grep -q backplane /proc/version
}
