#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What bench/breakdown.py reads out of callgrind, lackey and the disassembly, from planted texts."""
import os
import re
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, '..', 'tests', 'system'))

import breakdown  # noqa: E402
import tap  # noqa: E402

PROFILE = '''version: 1
positions: instr line
events: Ir
ob=/x/backplane
fl=/tree/src/devices/blk/blk.c
fn=serve
0x100 10 5
fi=/tree/src/base/base.h
0x104 3 7
fe=/tree/src/devices/blk/blk.c
0x108 12 5
cob=/lib/libc.so.6
cfi=/libc/write.c
cfn=write
calls=5 0x900
0x108 12 500
0x10c 13 5

ob=/lib/libc.so.6
fl=/libc/write.c
fn=write
0x900 1 500
'''
MAPPED = [(0x1000, 0x2000, 'r--p', '/x/backplane'), (0x4000, 0x5000, '---p', ''), (0x5000, 0x6000, 'rw-p', ''),
          (0x7000, 0x8000, 'rw-p', ''), (0x9000, 0xa000, 'rw-s', '/memfd:guest (deleted)'),
          (0xb000, 0xc000, 'r-xp', '/lib/libc.so.6')]


class Counts(unittest.TestCase):
    def test_what_a_callee_costs_is_its_own_and_not_the_caller_s(self):
        found = breakdown.Profile(PROFILE.splitlines(keepends=True))
        self.assertEqual(found.own['/x/backplane', '/tree/src/devices/blk/blk.c', 'serve'], 15)
        self.assertEqual(found.own['/x/backplane', '/tree/src/base/base.h', 'serve'], 7)
        self.assertEqual(found.own['/lib/libc.so.6', '/libc/write.c', 'write'], 500)
        self.assertEqual(found.calls['write'], 5)
        self.assertEqual(found.at['/x/backplane', 0x108], 5)

    def test_the_shorter_run_is_taken_off(self):
        twice = PROFILE.replace('0x100 10 5', '0x100 10 105')
        found = breakdown.Profile(twice.splitlines(True)).minus(breakdown.Profile(PROFILE.splitlines(True)))
        self.assertEqual({where: cost for where, cost in found.own.items() if cost},
                         {('/x/backplane', '/tree/src/devices/blk/blk.c', 'serve'): 100})

    def test_a_file_is_named_as_this_tree_names_it_and_others_by_their_library(self):
        self.assertEqual(breakdown.short_file('/a/b/../src/virtio/virtqueue.c', '/x/backplane'), 'virtio/virtqueue.c')
        self.assertEqual(breakdown.short_file('./nptl/write.c', '/lib/libc.so.6'), '(libc.so.6)')

    def test_locks_and_fences_are_known_and_plain_stores_are_not(self):
        pattern = re.compile(breakdown.ATOMIC)
        for text in ('lock add %rdx,0xc0(%rax)', 'mfence', 'xchg   %eax,(%rdi)', 'dmb    ish', 'ldaddal x0, x1, [x2]'):
            self.assertIsNotNone(pattern.fullmatch(text), text)
        for text in ('mov %rdx,(%rax)', 'xchg   %ax,%ax', 'block', 'ldr x0, [x1]', 'add %rdx,(%rax)'):
            self.assertIsNone(pattern.fullmatch(text), text)

    def test_a_difference_too_small_to_divide_by_is_refused(self):
        self.assertEqual(breakdown.more_requests(100, 200), 100)
        self.assertRaises(breakdown.backends.Failed, breakdown.more_requests, 100, 199)

    def test_calls_are_read_with_and_without_errors_and_not_their_sum(self):
        text = ('% time     seconds  usecs/call     calls    errors syscall\n------ ----------- ----------- --------- '
                '--------- ----------------\n 77.11    0.080000           2     40000           epoll_wait\n'
                '  0.00    0.000000           0         7         3 openat\n100.00    0.100000           2     40007'
                '         3 total\n')
        self.assertEqual(breakdown.counted_calls(text), {'epoll_wait': 40000, 'openat': 7})

    def test_an_address_belongs_to_guest_stack_program_library_or_the_device(self):
        kinds = {address: breakdown.kind_of(address, MAPPED, '/x/backplane')
                 for address in (0x1800, 0x5800, 0x7800, 0x9800, 0xb800, 0xd800)}
        self.assertEqual(list(kinds.values()), ['the program\'s constants', 'stack', 'the device\'s state and arenas',
                                                'guest memory', 'libraries', 'unknown'])


class Traces(unittest.TestCase):
    def trace(self, requests):
        """Each request runs its marker, reads one line of its own and the same common line, and writes across two."""
        lines = ['==1== lackey', 'I  00000f00,4', ' L 00007000,8']
        for number in range(requests):
            lines += ['I  00001100,4', f' L {0x100000 + number * 64:08x},8', ' L 00007000,4', ' S 0000703c,8']
        return breakdown.Trace(lines, 0x1100)

    def test_accesses_and_lines_are_counted_over_whole_requests_after_warming_up(self):
        found = self.trace(breakdown.TRACED_AFTER + breakdown.TRACED + 10)
        self.assertEqual(found.requests, breakdown.TRACED)
        self.assertEqual(len(found.windows), breakdown.TRACED // breakdown.WINDOW)
        self.assertEqual(found.accesses['read'], 2 * breakdown.TRACED)
        self.assertEqual(found.accesses['written'], breakdown.TRACED)
        lines = found.lines_a_request('data', lambda address: 'own' if address >= 0x100000 else 'common')
        self.assertEqual(lines, {'own': 1.0, 'common': 2 / breakdown.WINDOW})
        self.assertEqual(found.lines_a_request('written', lambda _: 'all'), {'all': 2 / breakdown.WINDOW})

    def test_a_short_trace_is_seen_to_be_short(self):
        self.assertLess(self.trace(breakdown.TRACED_AFTER + 5).requests, breakdown.TRACED)


if __name__ == '__main__':
    tap.main(__name__)
