# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Case: entropy comes from our device, and does not repeat
# Beds: all
host() {
    vm --rng
    vm_passed
}

guest() {
    rng_differs
}
