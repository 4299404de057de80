# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Case: a disk and entropy without PCI, by virtio-mmio
# Beds: all
host() {
    vm --transport=mmio --rng --cpus=2 --blk-file="$(disk data 16)"
    vm_passed
}

guest() {
    same 'functions of PCI' "$(pci_functions 1af4:1042)" ''
    blk_keeps /dev/vda 4 pattern
    rng_differs
}
