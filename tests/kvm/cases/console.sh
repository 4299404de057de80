# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Case: what is typed on the console arrives, every byte, in order
# Beds: all
host() {
    vm
    vm_until 'who is there?'
    vm_type 'a host, and 0123456789 ~!@#%^&*()'
    vm_until 'hello, a host, and 0123456789 ~!@#%^&*()'
    vm_passed
}

guest() {
    say 'who is there?'
    answer
    say "hello, $line"
}
