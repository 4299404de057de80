#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What the demo and the guest tests meet on machines that are not as ours is: odd paths, full disks, no network."""
import collections
import os
import socket
import sys
import tempfile
import unittest
from unittest import mock

import image
import machine
import packages

LISTENER = ('import socket, sys, time; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); '
            'time.sleep(1000)')


class Paths(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix='backplane-')
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def test_a_socket_is_seen_to_listen_whatever_its_path(self):
        for name in ('plain', 'two words', ' blank at both ends ', 'comma,comma', 'line\nend', 'a.b*c[d]', '\udcff'):
            path = os.path.join(self.folder, name)
            with self.subTest(name), socket.socket(socket.AF_UNIX) as listener:
                self.assertFalse(machine.is_listening(path))
                listener.bind(os.fsencode(path))
                self.assertFalse(machine.is_listening(path))
                listener.listen()
                self.assertTrue(machine.is_listening(path))
                self.assertFalse(machine.is_listening(path[:-1]))
                self.assertFalse(machine.is_listening(path[1:]))

    def test_qemu_is_given_paths_with_each_comma_doubled(self):
        entropy = collections.namedtuple('Entropy', 'socket_path')('/a,b/rng')
        disk = collections.namedtuple('Disk', 'socket_path queues')('/a,b/disk', 1)
        qemu = collections.namedtuple('Qemu', 'command')(['qemu'])
        with mock.patch.object(machine, 'acceleration', lambda: ('tcg', '')), \
                mock.patch.object(image, 'initramfs', lambda _: '/initramfs'):
            arguments = machine.guest_arguments(qemu, ('/kernel', '/modules'), [disk], entropy)
        self.assertIn('socket,id=disk0,path=/a,,b/disk', arguments)
        self.assertIn('socket,id=rng,path=/a,,b/rng', arguments)

    def test_a_library_is_found_below_a_path_with_blanks(self):
        root = os.path.join(self.folder, 'two words')
        listing = (f'\tlinux-vdso.so.1 (0x1)\n\tlibx.so => {root}/lib/libx.so (0x2)\n'
                   '\tliby.so => /elsewhere/liby.so (0x4)\n\t/lib64/ld-linux-x86-64.so.2 (0x3)\n')
        os.makedirs(os.path.join(root, 'lib'))
        done = mock.Mock(stdout=listing)
        with mock.patch.object(packages, 'loader', lambda _: ['ld']), \
                mock.patch.object(image.subprocess, 'run', lambda *_, **__: done):
            self.assertEqual(image._libraries(root, 'program'), {f'{root}/lib/libx.so'})


class Shortage(unittest.TestCase):
    """Each of these is one line that says what, where and what to do."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix='backplane-')
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.cache_in(folder.name)

    def cache_in(self, path):
        patch = mock.patch.dict(os.environ, {'XDG_CACHE_HOME': path})
        patch.start()
        self.addCleanup(patch.stop)

    def refused(self, words, function, *arguments):
        with self.assertRaises(packages.Unavailable) as caught:
            function(*arguments)
        self.assertNotIn('\n', str(caught.exception))
        for word in words:
            self.assertIn(word, str(caught.exception))

    def test_a_disk_image_that_does_not_fit(self):
        self.refused(['/dev/full', 'No space left', 'TMPDIR'], image.copy_sparse, __file__, '/dev/full')

    def test_a_cache_that_cannot_be_written(self):
        self.cache_in('/dev/null')
        self.refused(['/dev/null/backplane', 'XDG_CACHE_HOME'], packages.publish, 'kind', 'name', None)
        self.refused(['/dev/null/backplane', 'XDG_CACHE_HOME'], packages.Apt().update)

    def test_a_cache_without_room_is_refused_before_apt_tries(self):
        usage = collections.namedtuple('usage', 'free')(2 << 20)
        with mock.patch.object(packages.shutil, 'disk_usage', lambda _: usage), \
                mock.patch.object(packages.Apt, '_run') as run:
            self.refused([self.folder, '2 MiB', 'XDG_CACHE_HOME'], packages.Apt().update)
            run.assert_not_called()

    def test_a_cached_kernel_that_is_damaged_and_cannot_be_fetched_again(self):
        path = os.path.join(self.folder, 'backplane/kernel', f'linux-image-x_1_{packages.architecture()}')
        os.makedirs(path)
        with mock.patch.object(packages.Apt, 'dependencies', side_effect=packages.Unavailable('no network')):
            self.refused(['damaged', path, 'no network'], packages.kernel)

    def test_a_cached_set_that_is_damaged_and_cannot_be_made_again(self):
        path = os.path.join(self.folder, 'backplane/kind/name')
        os.makedirs(path)
        self.refused(['damaged', path, 'no network'], packages.publish, 'kind', 'name',
                     mock.Mock(side_effect=packages.Unavailable('no network')))


class Ends(unittest.TestCase):
    def test_what_hangs_up_our_terminal_does_not_end_a_daemon_before_qemu(self):
        with machine.Stage() as stage:
            path = stage.path('socket')
            daemon = machine.Daemon(stage, 'listener', [sys.executable, '-c', LISTENER, path], path)
            self.assertNotEqual(os.getsid(daemon.process.pid), os.getsid(0))
        self.assertIsNotNone(daemon.process.returncode)

    def test_what_was_started_last_ends_first(self):
        killed = []
        with machine.Stage() as stage:
            for name in ('daemon', 'qemu'):
                process = mock.Mock()
                process.poll.return_value = None
                process.kill.side_effect = lambda name=name: killed.append(name)
                stage.processes.append(process)
        self.assertEqual(killed, ['qemu', 'daemon'])


if __name__ == '__main__':
    unittest.main()
