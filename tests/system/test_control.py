#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The control socket and its client: what is asked, what is answered, and who is let go.

  test_control.py PROGRAM
"""
import json
import os
import signal
import socket
import struct
import subprocess

from daemon import GET_FEATURES, Case, Control, main, wait_for


class ControlSocket(Case):
    """The control socket and its client."""

    def serve(self, *arguments):
        daemon = self.start_listening(*(arguments or ('rng',)), '--control-path', self.path('control'))
        return daemon

    def control(self):
        return Control(self.path('control'))

    def ctl(self, *arguments, status=0):
        done = self.run_program('ctl', self.path('control'), *arguments)
        self.assertEqual(done.returncode, status, done)
        return done

    def test_ctl_against_nothing(self):
        self.refused(1, ['/nonexistent', 'No such file', '--control-path'], 'ctl', '/nonexistent', 'stats')
        self.refused(1, [self.image()], 'ctl', self.path('disk.img'), 'stats')

    def test_ctl_against_a_stale_socket(self):
        daemon = self.serve()
        daemon.kill()
        daemon.wait()
        self.refused(1, ['nobody serves', 'control'], 'ctl', self.path('control'), 'stats')

    def test_ctl_against_a_server_that_hangs_up(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(self.path('control'))
            listener.listen()
            with self.background_ctl() as ctl:
                listener.accept()[0].close()
                self.assertEqual(ctl.wait(), 1)

    def test_ctl_against_the_socket_for_front_ends(self):
        self.start_listening('rng')
        self.refused(1, ['no answer', '--control-path'], 'ctl', self.path('socket'), 'stats')

    def background_ctl(self):
        return subprocess.Popen([self.program, 'ctl', self.path('control'), 'stats'], stderr=subprocess.DEVNULL)

    def test_stats_as_text_and_as_json(self):
        self.serve('blk', '--blk-null=1M', '--queues=3')
        text = self.ctl('stats').stdout
        self.assertIn('device blk\n', text)
        self.assertIn('state waiting\n', text)
        self.assertIn('blk.engine null\n', text)
        self.assertIn('blk.last_error -\n', text)
        answer = json.loads(self.ctl('stats', '--json').stdout)
        self.assertTrue(answer['ok'])
        self.assertEqual(answer['blk']['size_bytes'], 1 << 20)

    def test_stats_show_a_front_end(self):
        self.serve()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client, self.control() as control:
            client.connect(self.path('socket'))
            client.sendall(GET_FEATURES)
            client.recv(20, socket.MSG_WAITALL)
            self.assertEqual(control.ask(command='stats')['state'], 'connected')
            client.close()
            wait_for(lambda: control.ask(command='stats')['state'] == 'waiting', 'the front end to be gone')

    def test_stats_say_why_a_front_end_was_refused(self):
        self.serve()
        wrong = {'header: not version 1': [64 * b'x'],
                 'header: the payload is longer': [struct.pack('=III', 1, 1, 0x7fffffff)],
                 'header: a reply': [struct.pack('=III', 1, 5, 0)],
                 'in the middle of a message': [GET_FEATURES[:5]],
                 'more descriptors': [GET_FEATURES, 64 * [0]]}
        with self.control() as control:
            self.assertIsNone(control.ask(command='stats')['last_refused'])
            for refused, (reason, arguments) in enumerate(wrong.items(), 1):
                with self.subTest(reason), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                    client.connect(self.path('socket'))
                    socket.send_fds(client, arguments[:1], *(arguments[1:] or [[]]))
                    client.shutdown(socket.SHUT_WR)
                    wait_for(lambda count=refused: control.ask(command='stats')['front_ends_refused'] == count,
                             'the front end to be refused')
                    self.assertIn(reason, control.ask(command='stats')['last_refused'])

    def test_resize_takes_over_the_file_s_size(self):
        path = self.image()
        self.serve('blk', '--blk-file', path)
        with self.control() as control:
            self.assertEqual(control.ask(command='resize'),
                             {'ok': True, 'size_bytes': 1 << 20, 'changed': False, 'front_end_told': False})
            os.truncate(path, 3 << 20)
            self.assertEqual(control.ask(command='resize'),
                             {'ok': True, 'size_bytes': 3 << 20, 'changed': True, 'front_end_told': False})
            self.assertEqual(control.ask(command='stats')['blk']['size_bytes'], 3 << 20)

    def test_resize_shrinks_only_when_told_so(self):
        path = self.image()
        self.serve('blk', '--blk-file', path)
        os.truncate(path, 1 << 19)
        self.refused(1, ['shrunk', '--shrink'], 'ctl', self.path('control'), 'resize')
        self.assertIn('size_bytes 524288\n', self.ctl('resize', '--shrink').stdout)

    def test_resize_goes_by_whole_blocks(self):
        path = self.image(size=(1 << 20) + 512)
        self.serve('blk', '--blk-file', path, '--block-size=4096')
        with self.control() as control:
            self.assertEqual(control.ask(command='resize'),
                             {'ok': True, 'size_bytes': 1 << 20, 'changed': False, 'front_end_told': False})
            for size, shrink in ((512, True), (0, True), (0, False)):
                os.truncate(path, size)
                answer = control.ask(command='resize', shrink=shrink)
                self.assertFalse(answer['ok'])
                self.assertIn('shorter than one block', answer['error'])
                self.assertIn('make it larger', answer['error'])
            self.assertEqual(control.ask(command='stats')['blk']['size_bytes'], 1 << 20)

    def test_a_refusal_that_names_a_path_of_any_bytes_is_told(self):
        path = os.fsencode(self.folder) + b'/\xff.img'
        with open(path, 'wb') as file:
            file.truncate(1 << 20)
        self.serve('blk', '--blk-file', path)
        os.truncate(path, 1 << 19)
        self.refused(1, ['?.img has shrunk', '--shrink'], 'ctl', self.path('control'), 'resize')

    def test_resize_of_what_has_no_size_is_refused(self):
        self.serve('rng')
        self.refused(1, ['no size'], 'ctl', self.path('control'), 'resize')

    def test_resize_of_a_null_disk_is_refused(self):
        self.serve('blk', '--blk-null=1M')
        self.refused(1, ['no file'], 'ctl', self.path('control'), 'resize')

    def test_quit_ends_the_daemon(self):
        daemon = self.serve()
        self.ctl('quit')
        self.ends(daemon)

    def test_garbage_is_answered_with_an_error(self):
        self.serve()
        wrong = [b'', b'{}', b'[]', b'"stats"', b'null', b'{', b'}', b'stats', b'\x00\xff\xfe', b'{"command": 1}',
                 b'{"command": "dance"}', b'{"command": "stats"} x', 100 * b'[', b'{"command": null}',
                 b'{"a": 1, "a": 2}', b'{"command": "st\x00ats"}']
        with self.control() as control:
            for line in wrong:
                control.say(line + b'\n')
                answer = control.hear()
                self.assertFalse(answer['ok'], line)
                self.assertTrue(answer['error'])
            self.assertTrue(control.ask(command='stats')['ok'])

    def test_many_commands_at_once_are_all_answered(self):
        self.serve()
        with self.control() as control:
            control.say(100 * b'{"command": "stats"}\n')
            for _ in range(100):
                self.assertTrue(control.hear()['ok'])

    def test_a_command_in_pieces_is_understood(self):
        self.serve()
        with self.control() as control:
            for byte in b'{"command": "stats"}\n':
                control.say(bytes([byte]))
            self.assertTrue(control.hear()['ok'])

    def test_a_line_without_end_is_refused_and_its_client_let_go(self):
        self.serve()
        with self.control() as control:
            control.say(4096 * b' ')
            self.assertIn('too long', control.hear()['error'])
            try:
                self.assertIsNone(control.hear())
            except ConnectionResetError:
                pass
        with self.control() as control:
            self.assertTrue(control.ask(command='stats')['ok'])

    def test_a_client_that_never_listens_holds_up_nobody(self):
        daemon = self.serve()
        with self.control() as deaf, self.control() as other:
            deaf.socket.setblocking(False)
            try:
                for _ in range(1000000):
                    deaf.socket.send(100 * b'{"command": "stats"}\n')
            except BlockingIOError:
                pass
            self.assertTrue(other.ask(command='stats')['ok'])
        self.assertIsNone(daemon.poll())

    def test_more_clients_than_there_is_room_for_push_out_the_quietest(self):
        self.serve()
        clients = [self.control() for _ in range(8)]
        quiet = clients[3]
        for talking in (clients, [client for client in clients if client is not quiet]):
            for client in talking:
                self.assertTrue(client.ask(command='stats')['ok'])
        with self.control() as last:
            self.assertTrue(last.ask(command='stats')['ok'])
            self.assertIsNone(quiet.hear())
            self.assertTrue(clients[0].ask(command='stats')['ok'])
        for client in clients:
            client.__exit__()

    def test_a_command_counts_though_its_client_is_gone(self):
        daemon = self.serve()
        daemon.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, daemon.pid, os.WSTOPPED)  # so that it looks only when both has come, command and end
        with self.control() as control:
            control.say(b'{"command": "quit"}\n')
        daemon.send_signal(signal.SIGCONT)
        self.ends(daemon)

    def test_half_closed_clients_still_get_their_answer(self):
        self.serve()
        with self.control() as control:
            control.say(b'{"command": "stats"}\n')
            control.socket.shutdown(socket.SHUT_WR)
            self.assertTrue(control.hear()['ok'])
            self.assertIsNone(control.hear())


if __name__ == '__main__':
    main(__name__)
