# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Case: a machine is saved while its disk and its entropy are at work, and goes on from there in another process
# Beds: all
host() {
    disk data 16 >/dev/null
    start
    vm_until '@works'
    backplane ctl "$work/control" pause
    backplane ctl "$work/control" snapshot path="$work/snapshot"
    backplane ctl "$work/control" quit
    vm_ends 0
    start --restore="$work/snapshot"
    vm_type 'go on'
    vm_passed
}

start() {
    vm --cpus=2 --memory=128M --rng --control-path="$work/control" --blk-file="$work/data.img" "$@"
}

guest() {
    mkfifo /tmp/ends
    (
        round=0
        while [ ! -e /tmp/enough ]; do
            blk_keeps /dev/vda 2 "round $round"
            round=$((round + 1))
            [ "$round" != 2 ] || say '@works'
        done
        echo "done" >/tmp/ends
    ) &
    (while :; do head -c 4096 /dev/hwrng >/dev/null; done) &
    entropy=$!
    answer
    same 'what is typed after that' "$line" 'go on'
    touch /tmp/enough
    same 'how the disk ends' "$(cat /tmp/ends)" "done"
    expect 'entropy is still read' kill "$entropy"
    rng_differs
    blk_keeps /dev/vda 4 after
}
