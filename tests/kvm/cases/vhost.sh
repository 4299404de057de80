# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Case: a disk in another process keeps what is written, though that process is killed and started again under load
# Beds: all
host() {
    disk data 16 >/dev/null
    serve
    vm --cpus=2 --vhost-user=blk,"$work/socket"
    vm_until '@works'
    for _ in 1 2 3; do
        kill -9 "$server"
        wait "$server" || true
        serve
    done
    vm_type 'enough'
    vm_passed
    kill "$server"
}

serve() {
    backplane blk --blk-file="$work/data.img" --socket-path="$work/socket" &
    server=$!
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
    answer
    touch /tmp/enough
    same 'how the disk ends' "$(cat /tmp/ends)" "done"
    blk_keeps /dev/vda 4 after
}
