# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Case: threads of processors and queues may make the system calls they need, and no others
# Beds: all
host() {
    vm --cpus=2 --blk-file="$(disk data 16)" --rng
    vm_until '@works'
    for thread in /proc/"$vm_process"/task/*; do
        name=$(cat "$thread/comm")
        case $name in
        vcpu-* | queue-*) expect "$name is confined" grep -q '^Seccomp:.*2' "$thread/status" ;;
        esac
        echo "$name" >>names
    done
    expect 'there are two processors' grep -q vcpu-1 names
    expect 'there are queues' grep -q queue- names
    vm_type 'enough'
    vm_passed
}

guest() {
    blk_keeps /dev/vda 1 before
    say '@works'
    answer
    blk_keeps /dev/vda 4 after
    rng_differs
}
