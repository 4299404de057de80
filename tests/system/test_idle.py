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
from frontend import Guest

PRIVATE_KIB_MAX = 1024
WATCH_S = 10
# Enough for a queue to have learned how soon requests come.
LOAD = 500

SANITIZED = '--sanitized' in sys.argv


def switches(pid):
    """How often the threads of @pid have been switched away from: each wake ends in one."""
    total = 0
    for thread in os.listdir(f'/proc/{pid}/task'):
        with open(f'/proc/{pid}/task/{thread}/status', encoding='utf-8') as status:
            total += sum(int(count) for count in re.findall(r'ctxt_switches:\s*(\d+)', status.read()))
    return total


def all_wait(pid):
    """Each thread waits; one that has lost the processor does not."""
    for thread in os.listdir(f'/proc/{pid}/task'):
        with open(f'/proc/{pid}/task/{thread}/stat', encoding='utf-8') as status:
            if status.read().rpartition(')')[2].split()[0] != 'S':
                return False
    return True


def sleeps(pid):
    """All threads wait, and none has woken another while they were looked at: nothing is left to do."""
    before = switches(pid)
    return all_wait(pid) and all_wait(pid) and switches(pid) == before


class Idle(Case):
    """With no front end, and with one whose guest asks for nothing."""

    def setUp(self):
        super().setUp()
        if SANITIZED:
            self.skipTest('a sanitizer has memory and threads of its own')

    def idle(self, name, *command, asks=0, leaves=False):
        """A daemon that has done what there was to do: a guest has asked so many times, and stays or leaves."""
        daemon = self.start_listening(*command, '--control-path', self.path(name + '-control'), socket_name=name)
        if asks:
            guest = Guest(self.path(name))
            guest.start()
            for _ in range(asks):
                if command[0] == 'blk':
                    guest.read_sector()
                else:
                    self.assertNotEqual(guest.entropy(), bytes(16))
            if leaves:
                guest.leave()
            else:
                self.addCleanup(guest.leave)
        state = 'connected' if asks and not leaves else 'waiting'
        with Control(self.path(name + '-control')) as control:
            wait_for(lambda: control.ask(command='stats')['state'] == state, 'guests to have come and gone')
        wait_for(lambda: sleeps(daemon.pid), 'the daemon to have started')
        return daemon

    def test_idle_daemons_never_wake(self):
        daemons = {
            'rng': self.idle('rng', 'rng'),
            'rng with a rate limit': self.idle('slow', 'rng', '--rate-bytes-per-s=1000'),
            'rng with a guest': self.idle('guest', 'rng', asks=1),
            'rng with a guest and a rate limit': self.idle('both', 'rng', '--rate-bytes-per-s=1000', asks=1),
            'rng after a load': self.idle('load', 'rng', asks=LOAD),
            'rng after a load, event-driven': self.idle('off', 'rng', '--polling=off', asks=LOAD),
            'rng that always looks, and has no guest yet': self.idle('always', 'rng', '--polling=always'),
            'rng that always looks, and has no guest any more': self.idle('left', 'rng', '--polling=always', asks=LOAD,
                                                                          leaves=True),
            'disk': self.idle('disk', 'blk', '--blk-file', self.image()),
            'disk after a load': self.idle('disk2', 'blk', '--blk-file', self.image('two'), asks=LOAD),
            'disk after a load, event-driven': self.idle('disk3', 'blk', '--polling=off', '--blk-file',
                                                         self.image('three'), asks=LOAD),
            'null disk': self.idle('null', 'blk', '--blk-null=1M'),
            'null disk after a load': self.idle('null2', 'blk', '--blk-null=1M', asks=LOAD),
        }
        before = {name: switches(daemon.pid) for name, daemon in daemons.items()}
        time.sleep(WATCH_S)
        after = {name: switches(daemon.pid) for name, daemon in daemons.items()}
        self.assertEqual(after, before)

    def test_a_queue_that_always_looks_does_not_sleep(self):
        daemon = self.start_listening('rng', '--polling=always', '--control-path', self.path('control'))
        guest = Guest(self.path('socket'))
        self.addCleanup(guest.leave)
        guest.start()
        guest.entropy()
        with Control(self.path('control')) as control:
            first = control.ask(command='stats')['queues'][0]
            wait_for(lambda: control.ask(command='stats')['queues'][0]['looks'] > first['looks'] + 100, 'looks')
            self.assertEqual(control.ask(command='stats')['queues'][0]['sleeps'], first['sleeps'])
        guest.entropy()
        self.assertIsNone(daemon.poll())

    def has_little_memory(self, *command, **options):
        daemon = self.idle(f'daemon-{len(os.listdir(self.folder))}', *command, **options)
        with open(f'/proc/{daemon.pid}/smaps_rollup', encoding='utf-8') as rollup:
            private = sum(int(count) for count in re.findall(r'Private_(?:Clean|Dirty):\s*(\d+) kB', rollup.read()))
        print(f'# private memory: {private} KiB')
        self.assertGreater(private, 0)
        self.assertLess(private, PRIVATE_KIB_MAX)

    def test_an_idle_rng_has_less_than_a_mebibyte_of_its_own(self):
        self.has_little_memory('rng')

    def test_an_rng_with_a_guest_has_less_than_a_mebibyte_of_its_own(self):
        self.has_little_memory('rng', asks=1)

    def test_an_idle_disk_has_less_than_a_mebibyte_of_its_own_however_many_queues_it_has(self):
        for engine in 'auto', 'plain':
            for direct in 'off', 'auto':
                for queues in 16, 64:
                    # Several read the same image.
                    self.has_little_memory('blk', '--blk-file', self.image(), '--read-only', f'--queues={queues}',
                                           f'--engine={engine}', f'--direct={direct}')

    def test_an_idle_rng_has_one_thread(self):
        daemon = self.idle('rng', 'rng')
        self.assertEqual(len(os.listdir(f'/proc/{daemon.pid}/task')), 1)


if __name__ == '__main__':
    Case.program = sys.argv[1]
    tap.main(__name__)
