#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""An idle daemon costs next to nothing: little memory, and not one wake.

  test_idle.py PROGRAM [--sanitized]
"""
import os
import re
import select
import socket
import struct
import sys
import time

import tap
from daemon import Case, Control, TIMEOUT_S, wait_for

PRIVATE_KIB_MAX = 1024
WATCH_S = 5

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


class Guest:
    """The least of a front end and driver: one queue, one buffer of entropy, no protocol features."""
    SET_OWNER, SET_FEATURES, SET_MEM_TABLE, SET_VRING_NUM, SET_VRING_ADDR = 3, 2, 5, 8, 9
    SET_VRING_BASE, SET_VRING_KICK, SET_VRING_CALL, GET_FEATURES = 10, 12, 13, 1
    BYTES, SIZE, FRONT_END = 1 << 16, 8, 0x7f0000000000
    DESC, AVAIL, USED, BUFFER = 0, 0x1000, 0x2000, 0x3000

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.memory = os.memfd_create('guest')
        self.kick, self.call = os.eventfd(0), os.eventfd(0)
        os.ftruncate(self.memory, self.BYTES)

    def say(self, request, payload=b'', handles=()):
        header = struct.pack('=III', request, 1, len(payload))
        socket.send_fds(self.socket, [header + payload], list(handles))

    def start(self):
        self.say(self.SET_OWNER)
        self.say(self.SET_FEATURES, struct.pack('=Q', 1 << 32))
        self.say(self.SET_MEM_TABLE, struct.pack('=II4Q', 1, 0, 0, self.BYTES, self.FRONT_END, 0), [self.memory])
        self.say(self.SET_VRING_NUM, struct.pack('=II', 0, self.SIZE))
        self.say(self.SET_VRING_BASE, struct.pack('=II', 0, 0))
        self.say(self.SET_VRING_ADDR, struct.pack(
            '=II4Q', 0, 0, *(self.FRONT_END + at for at in (self.DESC, self.USED, self.AVAIL)), 0))
        self.say(self.SET_VRING_CALL, struct.pack('=Q', 0), [self.call])
        self.say(self.SET_VRING_KICK, struct.pack('=Q', 0), [self.kick])

    def ask(self):
        """Offer one writable buffer of 16 bytes, and wait until it is filled."""
        os.pwrite(self.memory, struct.pack('<QIHH', self.BUFFER, 16, 2, 0), self.DESC)
        os.pwrite(self.memory, struct.pack('<HHH', 0, 1, 0), self.AVAIL)
        os.eventfd_write(self.kick, 1)
        if not select.select([self.call], [], [], TIMEOUT_S)[0]:
            raise AssertionError('no answer from the device')
        return os.pread(self.memory, 16, self.BUFFER)

    def leave(self):
        self.socket.close()
        for handle in (self.memory, self.kick, self.call):
            os.close(handle)


class Idle(Case):
    """With no front end, and with one whose guest asks for nothing."""

    def setUp(self):
        super().setUp()
        if SANITIZED:
            self.skipTest('a sanitizer has memory and threads of its own')

    def idle(self, name, *command, guest=False):
        """A daemon that has done what there was to do."""
        daemon = self.start_listening(*command, '--control-path', self.path(name + '-control'), socket_name=name)
        if guest:
            self.serve_guest(self.path(name))
        with Control(self.path(name + '-control')) as control:
            self.assertTrue(control.ask(command='stats')['ok'])
        wait_for(lambda: sleeps(daemon.pid), 'the daemon to have started')
        return daemon

    def serve_guest(self, path):
        guest = Guest(path)
        self.addCleanup(guest.leave)
        guest.start()
        self.assertNotEqual(guest.ask(), bytes(16))

    def test_idle_daemons_never_wake(self):
        daemons = {
            'rng': self.idle('rng', 'rng'),
            'rng with a rate limit': self.idle('slow', 'rng', '--rate-bytes-per-s=1000'),
            'rng with a guest': self.idle('guest', 'rng', guest=True),
            'rng with a guest and a rate limit': self.idle('both', 'rng', '--rate-bytes-per-s=1000', guest=True),
            'disk': self.idle('disk', 'blk', '--blk-file', self.image()),
            'null disk': self.idle('null', 'blk', '--blk-null=1M'),
        }
        before = {name: switches(daemon.pid) for name, daemon in daemons.items()}
        time.sleep(WATCH_S)
        after = {name: switches(daemon.pid) for name, daemon in daemons.items()}
        self.assertEqual(after, before)

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
        self.has_little_memory('rng', guest=True)

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
