# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The least of a front end and driver: one queue, one request at a time, no protocol features."""
import os
import select
import socket
import struct

from daemon import TIMEOUT_S


class Guest:
    """A guest at the socket @path, with queue @queue."""
    SET_OWNER, SET_FEATURES, SET_MEM_TABLE, SET_VRING_NUM, SET_VRING_ADDR = 3, 2, 5, 8, 9
    SET_VRING_BASE, SET_VRING_KICK, SET_VRING_CALL = 10, 12, 13
    BYTES, SIZE, FRONT_END = 1 << 16, 8, 0x7f0000000000
    DESC, AVAIL, USED, BUFFER = 0, 0x1000, 0x2000, 0x3000
    NEXT, WRITE = 1, 2

    def __init__(self, path, queue=0):
        self.queue = queue
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.memory = os.memfd_create('guest')
        self.kick, self.call = os.eventfd(0), os.eventfd(0)
        self.index = 0
        os.ftruncate(self.memory, self.BYTES)

    def say(self, request, payload=b'', handles=()):
        header = struct.pack('=III', request, 1, len(payload))
        socket.send_fds(self.socket, [header + payload], list(handles))

    def start(self):
        self.say(self.SET_OWNER)
        self.say(self.SET_FEATURES, struct.pack('=Q', 1 << 32))
        self.say(self.SET_MEM_TABLE, struct.pack('=II4Q', 1, 0, 0, self.BYTES, self.FRONT_END, 0), [self.memory])
        self.say(self.SET_VRING_NUM, struct.pack('=II', self.queue, self.SIZE))
        self.say(self.SET_VRING_BASE, struct.pack('=II', self.queue, 0))
        self.say(self.SET_VRING_ADDR, struct.pack(
            '=II4Q', self.queue, 0, *(self.FRONT_END + at for at in (self.DESC, self.USED, self.AVAIL)), 0))
        self.say(self.SET_VRING_CALL, struct.pack('=Q', self.queue), [self.call])
        self.say(self.SET_VRING_KICK, struct.pack('=Q', self.queue), [self.kick])

    def request(self, pieces):
        """Offer a chain of (offset, length, writable), kick, and wait until it is back."""
        for i, (offset, length, writable) in enumerate(pieces):
            flags = (self.WRITE if writable else 0) | (self.NEXT if i < len(pieces) - 1 else 0)
            os.pwrite(self.memory, struct.pack('<QIHH', self.BUFFER + offset, length, flags, i + 1),
                      self.DESC + 16 * i)
        os.pwrite(self.memory, struct.pack('<H', 0), self.AVAIL + 4 + 2 * (self.index % self.SIZE))
        self.index = (self.index + 1) % (1 << 16)
        os.pwrite(self.memory, struct.pack('<HH', 0, self.index), self.AVAIL)
        os.eventfd_write(self.kick, 1)
        while struct.unpack('<H', os.pread(self.memory, 2, self.USED + 2))[0] != self.index:
            if not select.select([self.call], [], [], TIMEOUT_S)[0]:
                raise AssertionError('no answer from the device')
            os.eventfd_read(self.call)

    def entropy(self):
        """16 bytes of an rng."""
        self.request([(0, 16, True)])
        return os.pread(self.memory, 16, self.BUFFER)

    def show(self, text):
        """Write @text to a console (queue 1)."""
        os.pwrite(self.memory, text, self.BUFFER)
        self.request([(0, len(text), False)])

    def typed(self, most):
        """Up to @most bytes that were typed at a console (queue 0)."""
        self.request([(0, most, True)])
        length = struct.unpack('<I', os.pread(self.memory, 4, self.USED + 8 + 8 * ((self.index - 1) % self.SIZE)))[0]
        return os.pread(self.memory, length, self.BUFFER)

    def read_sector(self):
        """The first sector of a disk."""
        os.pwrite(self.memory, struct.pack('<IIQ', 0, 0, 0), self.BUFFER)
        self.request([(0, 16, False), (0x1000, 512, True), (0x2000, 1, True)])
        if os.pread(self.memory, 1, self.BUFFER + 0x2000) != b'\0':
            raise AssertionError('the disk failed')

    def leave(self):
        self.socket.close()
        for handle in (self.memory, self.kick, self.call):
            os.close(handle)
