# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The program under test: run to its end, or running beside the test."""
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

import tap

# A machine under load is given this long before something counts as hung. Nothing waits for it when all is well.
TIMEOUT_S = 60

NOBODY = 65534
GET_FEATURES = struct.pack('=III', 1, 1, 0)


def wait_for(condition, what):
    """Wait until condition() holds."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f'waited in vain for {what}')
        time.sleep(0.005)


class Case(unittest.TestCase):
    """A test with a folder of its own, whose daemons end with it."""
    program = ''  # set by the script

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix='backplane-')
        self.addCleanup(shutil.rmtree, self.folder)
        os.chmod(self.folder, 0o755)

    def path(self, name):
        return os.path.join(self.folder, name)

    def image(self, name='disk.img', size=1 << 20):
        path = self.path(name)
        with open(path, 'wb') as file:
            file.truncate(size)
        return path

    def run_program(self, *arguments, **options):
        return subprocess.run([self.program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=TIMEOUT_S, check=False, **options)

    def as_nobody(self):
        """Options that run a program as a user who may nothing; skips the test for who cannot do that."""
        if os.getuid() != 0:
            self.skipTest('needs root, to be somebody else')
        # A build that measures coverage would complain that it may not write its counts where it was built.
        return {'user': NOBODY, 'group': NOBODY, 'extra_groups': [], 'env': {**os.environ, 'GCOV_PREFIX': '/tmp'}}

    def refused(self, status, words, *arguments, **options):
        """The program ends with @status and one line on standard error that has all of @words, and says no more."""
        done = self.run_program(*arguments, **options)
        self.assertEqual(done.returncode, status, done)
        self.assertEqual(done.stdout, '')
        self.assertEqual(done.stderr.count('\n'), 1, done.stderr)
        self.assertTrue(done.stderr.startswith('backplane'), done.stderr)
        self.assertTrue(done.stderr.endswith('\n'), done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)
        return done.stderr

    def start(self, *arguments, **options):
        """A daemon that runs; its standard error is in a file."""
        with open(self.path(f'stderr-{len(os.listdir(self.folder))}'), 'w+', encoding='utf-8') as errors:
            daemon = subprocess.Popen([self.program, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                      stderr=errors, **options)
        daemon.errors = errors.name
        self.addCleanup(self.end, daemon)
        return daemon

    def end(self, daemon):
        """Whatever the test has done to it, a daemon that still runs ends in order."""
        if daemon.poll() is None:
            daemon.terminate()
            try:
                self.assertEqual(daemon.wait(TIMEOUT_S), 0)
            finally:
                if daemon.poll() is None:
                    daemon.kill()
                    daemon.wait()

    def said(self, daemon):
        with open(daemon.errors, encoding='utf-8') as errors:
            return errors.read()

    def start_listening(self, *arguments, socket_name='socket', **options):
        """The same at --socket-path, when it has begun to listen."""
        path = self.path(socket_name)
        daemon = self.start(*arguments, '--socket-path', path, **options)
        wait_for(lambda: self.listens(path) or daemon.poll() is not None, 'the daemon to listen')
        self.assertIsNone(daemon.poll(), self.said(daemon))
        return daemon

    @staticmethod
    def listens(path):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(path)
            except OSError:
                return False
        return True

    def ends(self, daemon, status=0, words=()):
        """The daemon ends by itself with @status; it has said @words, or nothing."""
        self.assertEqual(daemon.wait(TIMEOUT_S), status, self.said(daemon))
        if not words:
            self.assertEqual(self.said(daemon), '')
        for word in words:
            self.assertIn(word, self.said(daemon))


class Control:
    """A client of a control socket."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(TIMEOUT_S)
        self.socket.connect(path)
        self.file = self.socket.makefile('rb')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def say(self, data):
        self.socket.sendall(data)

    def hear(self):
        line = self.file.readline()
        return json.loads(line) if line else None

    def ask(self, **command):
        self.say(json.dumps(command).encode() + b'\n')
        return self.hear()


def main(module):
    """Run every case of @module on the program that the command line names."""
    # Somebody else must be able to run it, so it is taken out of folders that only we may enter.
    with tempfile.TemporaryDirectory(prefix='backplane-program-') as place:
        os.chmod(place, 0o755)
        Case.program = shutil.copy(sys.argv[1], os.path.join(place, 'backplane'))
        tap.main(module)
