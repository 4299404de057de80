# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Case: /dev/kvm is a whole one
# Beds: all
host() {
    backplane probe --check=kvm
}
