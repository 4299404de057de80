#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""An idle daemon costs next to nothing: little memory, and not one wake.

  test_idle.py PROGRAM [--sanitized]
"""
import os
import re
import sys
import time

import tap
from daemon import Case, Control, wait_for

PRIVATE_KIB_MAX = 2048
WATCH_S = 5

SANITIZED = '--sanitized' in sys.argv


def switches(pid):
    """How often the threads of @pid have been switched away from: each wake ends in one."""
    total = 0
    for thread in os.listdir(f'/proc/{pid}/task'):
        with open(f'/proc/{pid}/task/{thread}/status', encoding='utf-8') as status:
            total += sum(int(count) for count in re.findall(r'ctxt_switches:\s*(\d+)', status.read()))
    return total


class Idle(Case):
    """With no front end, and what it takes to ask it how it is."""

    def idle(self, *command):
        daemon = self.start_listening(*command, '--control-path', self.path('control'))
        with Control(self.path('control')) as control:
            self.assertTrue(control.ask(command='stats')['ok'])
        seen = [switches(daemon.pid)]

        def quiet():
            time.sleep(0.1)
            seen.append(switches(daemon.pid))
            return seen[-1] == seen[-2]

        wait_for(quiet, 'the daemon to have started')
        return daemon

    def never_wakes(self, *command):
        if SANITIZED:
            self.skipTest('a sanitizer has threads of its own')
        daemon = self.idle(*command)
        before = switches(daemon.pid)
        time.sleep(WATCH_S)
        self.assertEqual(switches(daemon.pid), before)

    def test_an_idle_rng_never_wakes(self):
        self.never_wakes('rng')

    def test_an_idle_rng_with_a_rate_limit_never_wakes(self):
        self.never_wakes('rng', '--rate-bytes-per-s=1000')

    def test_an_idle_disk_never_wakes(self):
        self.never_wakes('blk', '--blk-file', self.image())

    def test_an_idle_rng_has_less_than_two_mebibytes_of_its_own(self):
        if SANITIZED:
            self.skipTest('a sanitizer has memory of its own')
        daemon = self.idle('rng')
        with open(f'/proc/{daemon.pid}/smaps_rollup', encoding='utf-8') as rollup:
            private = sum(int(count) for count in re.findall(r'Private_(?:Clean|Dirty):\s*(\d+) kB', rollup.read()))
        print(f'# private memory: {private} KiB')
        self.assertGreater(private, 0)
        self.assertLess(private, PRIVATE_KIB_MAX)

    def test_an_idle_rng_has_one_thread(self):
        if SANITIZED:
            self.skipTest('a sanitizer has threads of its own')
        daemon = self.idle('rng')
        self.assertEqual(len(os.listdir(f'/proc/{daemon.pid}/task')), 1)


if __name__ == '__main__':
    Case.program = sys.argv[1]
    tap.main(__name__)
