# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Case: four processors are online, and each takes work
# Beds: all
host() {
    vm --cpus=4
    vm_passed
}

guest() {
    same 'processors' "$(nproc)" 4
    for cpu in 0 1 2 3; do
        taskset -p $((1 << cpu)) $$ >/dev/null
        same "where it runs when bound to $cpu" "$(cut -d' ' -f39 /proc/self/stat)" "$cpu"
    done
}
