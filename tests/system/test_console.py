#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A console, from the guest's queues to what a person sees.

  test_console.py PROGRAM
"""
import json
import os
import pty
import signal
import subprocess
import termios

from daemon import TIMEOUT_S, Case, Control, main, wait_for
from frontend import Guest


class Console(Case):
    """backplane console in each of its places."""

    def guest(self, queue):
        guest = Guest(self.path('socket'), queue)
        self.addCleanup(guest.leave)
        guest.start()
        return guest

    def read(self, path):
        with open(path, 'rb') as file:
            return file.read()

    def test_a_file_gets_what_the_guest_shows_behind_what_it_has(self):
        with open(self.path('log'), 'wb') as file:
            file.write(b'before ')
        daemon = self.start_listening('console', '--backend=file', '--console-path', self.path('log'),
                                      '--control-path', self.path('control'))
        guest = self.guest(1)
        guest.show(b'Linux ')
        guest.show(b'boots')
        wait_for(lambda: self.read(self.path('log')) == b'before Linux boots', 'the text')
        with Control(self.path('control')) as control:
            self.assertEqual(control.ask(command='stats')['console']['output_bytes'], 11)
        self.end(daemon)

    def test_a_pseudo_terminal_is_used_through_its_link(self):
        path = self.path('console')
        daemon = self.start_listening('console', '--backend=pty', '--console-path', path)
        terminal = os.open(path, os.O_RDWR | os.O_NOCTTY)
        guest = self.guest(1)
        guest.show(b'login: ')
        self.assertEqual(os.read(terminal, 7), b'login: ')
        os.close(terminal)  # its user goes, and comes back
        guest.show(b'still there')
        terminal = os.open(path, os.O_RDWR | os.O_NOCTTY)
        self.assertEqual(os.read(terminal, 11), b'still there')
        guest.socket.close()
        guest = self.guest(0)
        os.write(terminal, b'root\r\x01x')
        self.assertEqual(guest.typed(16), b'root\r\x01x')
        os.close(terminal)
        self.end(daemon)
        self.assertFalse(os.path.lexists(path))

    def test_on_a_terminal_the_escape_key_ends_it_and_the_mode_comes_back(self):
        master, slave = pty.openpty()
        before = termios.tcgetattr(slave)
        with subprocess.Popen([self.program, 'console', '--socket-path', self.path('socket')], stdin=slave,
                              stdout=slave) as daemon:
            wait_for(lambda: self.listens(self.path('socket')), 'the daemon to listen')
            guest = self.guest(1)
            guest.show(b'hello')
            self.assertEqual(os.read(master, 5), b'hello')
            self.assertFalse(termios.tcgetattr(slave)[3] & (termios.ICANON | termios.ECHO))
            os.write(master, b'\x01x')
            self.assertEqual(daemon.wait(TIMEOUT_S), 0)
        self.assertEqual(termios.tcgetattr(slave), before)
        os.close(master)
        os.close(slave)

    def test_a_signal_ends_it_in_order(self):
        daemon = self.start_listening('console')
        daemon.send_signal(signal.SIGTERM)
        self.ends(daemon)

    def test_what_is_wrong_is_said_in_a_line(self):
        socket_path = '--socket-path=' + self.path('socket')
        self.refused(2, ['--console-path=PATH'], 'console', socket_path, '--backend=file')
        self.refused(2, ['--backend=pty'], 'console', socket_path, '--console-path=/x')
        self.refused(2, ['--backend'], 'console', socket_path, '--backend=telegraph')
        self.refused(1, ['/nonexistent/log', 'No such file'], 'console', socket_path, '--backend=file',
                     '--console-path=/nonexistent/log')
        capabilities = self.run_program('console', '--print-capabilities')
        self.assertEqual(json.loads(capabilities.stdout)['type'], 'console')

    def test_a_link_that_is_there_already_is_left_alone(self):
        with open(self.path('console'), 'wb') as file:
            file.write(b'mine')
        done = self.run_program('console', '--socket-path', self.path('socket'), '--backend=pty', '--console-path',
                                self.path('console'))
        self.assertEqual(done.returncode, 1)
        self.assertIn('File exists', done.stderr)
        self.assertEqual(self.read(self.path('console')), b'mine')


if __name__ == '__main__':
    main(__name__)
