# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Case: a disk keeps what is written, past the page cache, and as a file system
# Beds: all
host() {
    vm --blk-file="$(disk data 64)"
    vm_passed
}

guest() {
    same 'its size' "$(blockdev --getsize64 /dev/vda)" $((64 << 20))
    blk_keeps /dev/vda 8 first
    blk_keeps /dev/vda 8 second
    mke2fs /dev/vda >/dev/null 2>&1
    mkdir /mnt
    mount -t ext4 /dev/vda /mnt
    pattern files 3000000 >/mnt/file
    sum=$(sha256sum </mnt/file)
    umount /mnt
    echo 3 >/proc/sys/vm/drop_caches
    mount -t ext4 -o ro /dev/vda /mnt
    same 'the file' "$(sha256sum </mnt/file)" "$sum"
    umount /mnt
}
