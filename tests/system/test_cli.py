#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Everything a person can do wrong with the program, and its manners: messages, exit statuses, sockets, signals.

  test_cli.py PROGRAM
"""
import json
import os
import resource
import signal
import socket
import stat
import subprocess
import tempfile

from daemon import GET_FEATURES, Case, Control, main, wait_for


class WrongUse(Case):
    """Exit status 2, and a line that says what to do instead."""

    def test_no_command(self):
        self.refused(2, ['which command', 'blk', '--help'])

    def test_an_unknown_command(self):
        self.refused(2, ['unknown command blkk', 'blk'], 'blkk')

    def test_an_unknown_option(self):
        for argument in ('--frobnicate', '--frobnicate=1', '-x', '--', '---'):
            with self.subTest(argument):
                words = ['unknown option'] if argument != '--' else ['--socket-path']
                self.refused(2, words, 'rng', argument)

    def test_a_word_too_many(self):
        self.refused(2, ['"again" is not understood'], 'rng', '--socket-path=/x', 'again')

    def test_a_missing_value(self):
        for option in ('--socket-path', '--fd', '--source', '--rate-bytes-per-s', '--control-path', '--log-level'):
            with self.subTest(option):
                self.refused(2, [option, 'needs a value'], 'rng', option)

    def test_an_empty_value(self):
        for option in ('--socket-path', '--source', '--control-path'):
            with self.subTest(option):
                self.refused(2, [option, 'is empty'], 'rng', option + '=')

    def test_a_value_for_an_option_that_takes_none(self):
        self.refused(2, ['--read-only takes no value'], 'blk', '--read-only=yes')

    def test_numbers_that_are_none_or_out_of_range(self):
        wrong = ['--queues=0', '--queues=65', '--queues=four', '--queues=-1', '--queues=4x', '--queues=',
                 '--queues=18446744073709551617', '--queue-depth=0', '--queue-depth=1025', '--seg-max=0',
                 '--seg-max=1023', '--size-max=4095', '--limit-iops=0', '--limit-bytes-per-s=0', '--blk-null=0',
                 '--blk-null=1X', '--blk-null=99999999999T', '--blk-null=1KK', '--fd=-1', '--fd=x']
        for argument in wrong:
            with self.subTest(argument):
                self.refused(2, [argument, 'give a'], 'blk', argument)

    def test_choices_that_are_none(self):
        for argument in ('--engine=magic', '--direct=perhaps', '--block-size=1024', '--log-level=loud',
                         '--polling=sometimes'):
            with self.subTest(argument):
                self.refused(2, [argument, 'choose one of'], 'blk', argument)

    def test_an_option_that_is_given_twice(self):
        for option in ('--blk-file=/x', '--read-only', '--queues=2', '--engine=plain'):
            with self.subTest(option):
                self.refused(2, [option.split('=', maxsplit=1)[0], 'given twice'], 'blk', option, option)

    def test_a_path_of_thousands_of_characters_leaves_room_for_what_is_wrong(self):
        path = '/' + 5000 * 'x' + '/end'
        for words, arguments in (('107 bytes', ('rng', '--socket-path', path)),
                                 ('too long', ('blk', '--socket-path=/x', '--blk-file', path)),
                                 ('too long', ('rng', '--socket-path=/x', '--source', path)),
                                 ('107 bytes', ('ctl', path, 'stats'))):
            with self.subTest(arguments[0]):
                said = self.refused(1, ['/xxx', 'xxx/end', words], *arguments)
                self.assertLess(len(said), 512)

    def test_no_attachment(self):
        self.refused(2, ['--socket-path=PATH or --fd=N'], 'rng')
        self.refused(2, ['--socket-path=PATH or --fd=N'], 'blk', '--blk-null=1M')

    def test_two_attachments(self):
        self.refused(2, ['--socket-path and --fd'], 'rng', '--socket-path=/x', '--fd=3')

    def test_one_path_for_two_sockets(self):
        self.refused(2, ['--socket-path and --control-path'], 'rng', '--socket-path=/x', '--control-path=/x')

    def test_no_disk_or_two(self):
        self.refused(2, ['--blk-file=PATH'], 'blk', '--socket-path=/x')
        self.refused(2, ['--blk-file and --blk-null'], 'blk', '--socket-path=/x', '--blk-file=/x', '--blk-null=1M')

    def test_a_serial_number_that_is_too_long(self):
        self.refused(2, ['--serial', '20'], 'blk', '--socket-path=/x', '--blk-null=1M', '--serial=' + 21 * 'x')

    def test_a_size_max_that_is_no_multiple_of_a_sector(self):
        self.refused(2, ['--size-max', 'multiple of 512'], 'blk', '--socket-path=/x', '--blk-null=1M',
                     '--size-max=5000')

    def test_lists_of_processors_that_are_none(self):
        for text, words in (('x', 'give numbers'), ('1-', 'give numbers'), ('3-1', 'no range'), ('0,0', 'named twice'),
                            ('0-5000', 'below 1024')):
            with self.subTest(text):
                self.refused(2, ['--cpu-affinity=' + text, words], 'rng', '--socket-path=/x', '--cpu-affinity=' + text)
        self.refused(2, ['--cpu-affinity is empty'], 'rng', '--socket-path=/x', '--cpu-affinity=')

    def test_processors_that_are_not_there_or_not_allowed(self):
        self.refused(1, ['--cpu-affinity=1023', 'no processor 1023', 'this machine has'], 'rng', '--socket-path=/x',
                     '--cpu-affinity=1023')
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) > 1:
            self.refused(1, [f'processor {allowed[1]}', 'not allowed'], 'rng', '--socket-path=/x',
                         f'--cpu-affinity={allowed[1]}',
                         preexec_fn=lambda: os.sched_setaffinity(0, allowed[:1]))

    def test_ctl_without_a_path_or_a_command_or_with_an_unknown_one(self):
        self.refused(2, ['PATH stats|resize|quit'], 'ctl')
        self.refused(2, ['PATH stats|resize|quit'], 'ctl', '/x')
        self.refused(2, ['unknown command dance'], 'ctl', '/x', 'dance')
        self.refused(2, ['"more" is not understood'], 'ctl', '/x', 'stats', 'more')

    def test_probe_with_a_word_or_an_unknown_check(self):
        self.refused(2, ['"more" is not understood'], 'probe', 'more')
        self.refused(2, ['--check=xen', 'choose one of kvm'], 'probe', '--check=xen')


class Answers(Case):
    """What is asked for goes to standard output, with status 0."""

    def told(self, *arguments):
        done = self.run_program(*arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        return done.stdout

    def test_help_names_every_option(self):
        self.assertIn('blk', self.told('--help'))
        for command, options in (('blk', ('blk-file', 'read-only', 'serial', 'queues', 'queue-depth', 'blk-null',
                                          'limit-iops', 'limit-bytes-per-s', 'socket-path', 'fd', 'control-path')),
                                 ('rng', ('source', 'rate-bytes-per-s', 'socket-path', 'print-capabilities', 'polling',
                                          'cpu-affinity')),
                                 ('console', ('backend', 'console-path', 'socket-path')),
                                 ('ctl', ('json', 'shrink'))):
            text = self.told(command, '--help')
            for option in options:
                self.assertIn('--' + option, text)

    def test_help_comes_though_other_options_are_wrong(self):
        self.assertIn('usage', self.told('blk', '--frobnicate', '--help'))

    def test_version(self):
        self.assertRegex(self.told('--version'), r'^backplane \d+\.\d+\.\d+\n$')

    def test_capabilities_are_json_as_the_conventions_have_it(self):
        self.assertEqual(json.loads(self.told('blk', '--print-capabilities')),
                         {'type': 'block', 'features': ['read-only', 'blk-file']})
        self.assertEqual(json.loads(self.told('rng', '--print-capabilities'))['type'], 'rng')

    def test_capabilities_ignore_all_other_options(self):
        self.assertIn('block', self.told('blk', '--fd', '--blk-file=/nonexistent', '--what', '--print-capabilities'))

    def test_output_that_cannot_be_written_is_a_failure(self):
        for arguments in (('--help',), ('--version',), ('blk', '--print-capabilities')):
            with self.subTest(arguments), open('/dev/full', 'w', encoding='utf-8') as full:
                done = os.posix_spawn(self.program, [self.program, *arguments], os.environ,
                                      file_actions=[(os.POSIX_SPAWN_DUP2, full.fileno(), 1),
                                                    (os.POSIX_SPAWN_OPEN, 2, '/dev/null', os.O_WRONLY, 0)])
                self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(done, 0)[1]), 1)

    def test_probe_says_what_is_there_and_what_is_not(self):
        text = self.told('probe')
        for word in ('KVM', 'vhost-net', 'vhost-vsock', 'io_uring', 'memfd', 'huge pages', 'Xen'):
            self.assertRegex(text, rf'(?m)^{word} +\S')
        answer = json.loads(self.told('probe', '--json'))
        self.assertIn(answer['kvm']['state'], ('whole', 'not whole', 'no permission', 'absent'))
        self.assertEqual('reason' in answer['kvm'], answer['kvm']['state'] != 'whole')
        self.assertEqual('capabilities' in answer['kvm'], answer['kvm']['state'] in ('whole', 'not whole'))
        done = self.run_program('probe', '--check=kvm')
        self.assertEqual(done.returncode, 0 if answer['kvm']['state'] == 'whole' else 1)
        self.assertEqual(done.stdout.count('\n'), 1)

    def test_probe_tells_what_is_wrong_with_a_kvm_that_is_none(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'kvm')
            for make, state, words in ((lambda: None, 'absent', 'there is no ' + path),
                                       (lambda: os.symlink('/dev/null', path), 'not whole', 'another version')):
                make()
                answer = json.loads(self.told('probe', '--json', '--kvm-path', path))['kvm']
                self.assertEqual((answer['state'], answer['path']), (state, path))
                self.assertIn(words, answer['reason'])
                done = self.run_program('probe', '--check=kvm', '--kvm-path=' + path)
                self.assertEqual(done.returncode, 1)
                self.assertIn(words, done.stdout)


class Disks(Case):
    """Images that cannot be served: exit status 1."""

    def refuse(self, words, path, *arguments, **options):
        return self.refused(1, words, 'blk', '--socket-path', self.path('socket'), '--blk-file', path, *arguments,
                            **options)

    def test_a_missing_file(self):
        self.refuse(['/nonexistent/disk.img', 'No such file'], '/nonexistent/disk.img')

    def test_a_folder(self):
        self.refuse([self.folder], self.folder)

    def test_a_device_that_is_no_disk(self):
        self.refuse(['/dev/null'], '/dev/null')

    def test_an_empty_file(self):
        self.refuse(['disk.img'], self.image(size=0))

    def test_a_file_shorter_than_a_sector(self):
        self.refuse(['disk.img'], self.image(size=511))

    def test_past_the_page_cache_where_that_can_be(self):
        """What the statistics say; a file system that has no O_DIRECT is refused by name."""
        for engine in 'auto', 'plain':
            for mode in 'off', 'auto', 'on':
                image = self.image(f'{engine}-{mode}.img')
                control, path = self.path(f'{engine}-{mode}-control'), self.path(f'{engine}-{mode}')
                daemon = self.start('blk', '--blk-file', image, f'--direct={mode}', f'--engine={engine}',
                                    '--socket-path', path, '--control-path', control)
                wait_for(lambda: self.listens(path) or daemon.poll() is not None, 'the daemon to listen')
                if mode == 'on' and daemon.poll() is not None:
                    self.ends(daemon, 1, [image, 'past the page cache', 'there is no O_DIRECT', '--direct=on'])
                    continue
                with Control(control) as asked:
                    direct = asked.ask(command='stats')['blk']['direct']
                if mode != 'auto':
                    self.assertEqual(direct, mode == 'on')

    def test_a_qcow2_image_by_name_and_with_advice(self):
        path = self.image()
        with open(path, 'r+b') as file:
            file.write(b'QFI\xfb\x00\x00\x00\x03')
        self.refuse(['qcow2', 'qemu-img'], path)

    def test_a_file_without_permission(self):
        as_nobody = self.as_nobody()
        path = self.image()
        os.chmod(path, 0o600)
        os.chmod(self.folder, 0o777)
        self.refuse([path, 'Permission denied'], path, **as_nobody)

    def test_a_file_that_may_only_be_read_can_be_served_read_only(self):
        as_nobody = self.as_nobody()
        path = self.image()
        os.chmod(path, 0o644)
        os.chmod(self.folder, 0o777)
        self.refuse([path, 'Permission denied'], path, **as_nobody)
        daemon = self.start_listening('blk', '--read-only', '--blk-file', path, **as_nobody)
        daemon.terminate()
        self.ends(daemon)

    def test_an_image_that_another_daemon_writes(self):
        path = self.image()
        self.start_listening('blk', '--blk-file', path)
        for arguments in ((), ('--read-only',)):
            with self.subTest(arguments):
                self.refused(1, [path], 'blk', '--socket-path', self.path('second'), '--blk-file', path, *arguments)
        self.assertFalse(os.path.exists(self.path('second')))

    def test_two_readers_of_one_image_get_along(self):
        path = self.image()
        self.start_listening('blk', '--read-only', '--blk-file', path)
        self.start_listening('blk', '--read-only', '--blk-file', path, socket_name='second')

    def test_the_image_is_free_again_when_the_daemon_has_gone(self):
        path = self.image()
        daemon = self.start_listening('blk', '--blk-file', path)
        daemon.kill()
        daemon.wait()
        self.start_listening('blk', '--blk-file', path)

    def test_a_closed_standard_error_is_no_place_for_the_image(self):
        path = self.image()
        close_all = 'exec "$0" "$@" <&- >&- 2>&-'
        daemon = subprocess.Popen(['/bin/sh', '-c', close_all, self.program, 'blk', '--blk-file', path,
                                   '--socket-path', self.path('socket')])
        self.addCleanup(self.end, daemon)
        wait_for(lambda: self.listens(self.path('socket')), 'the daemon to listen')
        for number in range(3):
            self.assertEqual(os.readlink(f'/proc/{daemon.pid}/fd/{number}'), '/dev/null')


class Entropy(Case):
    """Sources that have none: exit status 1."""

    def test_sources_that_have_no_entropy(self):
        for path in ('/nonexistent', self.folder):
            with self.subTest(path):
                self.refused(1, [path, '/dev/urandom'], 'rng', '--socket-path', self.path('socket'), '--source', path)


class Sockets(Case):
    """Places to listen: stale ones are replaced, live ones respected."""

    def refuse(self, words, path, *arguments, **options):
        return self.refused(1, words, 'rng', '--socket-path', path, *arguments, **options)

    def test_a_path_that_does_not_fit_into_an_address(self):
        for option in ('--socket-path', '--control-path'):
            path = '/tmp/' + 103 * 'x'
            self.assertEqual(len(path), 108)
            with self.subTest(option):
                arguments = [option, path]
                if option == '--control-path':
                    arguments += ['--socket-path', self.path('socket')]
                self.refused(1, ['107 bytes', path], 'rng', *arguments)

    def test_the_longest_path_that_fits(self):
        name = (107 - len(self.folder) - 1) * 'x'
        self.start_listening('rng', socket_name=name)

    def test_a_folder_that_is_not_there(self):
        self.refuse(['/nonexistent/socket', 'No such file', 'create the folder'], '/nonexistent/socket')

    def test_a_folder_where_we_may_not_write(self):
        self.refuse(['Permission denied', 'run as', self.path('socket')], self.path('socket'), **self.as_nobody())

    def test_a_file_that_is_no_socket_is_left_alone(self):
        path = self.image('precious')
        said = self.refuse(['precious', 'no socket', 'choose another path'], path)
        self.assertNotIn('remove', said)
        self.assertEqual(os.path.getsize(path), 1 << 20)
        self.refuse(['no socket'], self.folder)

    def test_a_stale_socket_is_replaced(self):
        daemon = self.start_listening('rng')
        daemon.kill()
        daemon.wait()
        self.assertTrue(stat.S_ISSOCK(os.stat(self.path('socket')).st_mode))
        self.start_listening('rng')

    def test_a_live_socket_is_refused_and_stays_alive(self):
        first = self.start_listening('rng')
        self.refuse(['socket', 'another process serves'], self.path('socket'))
        self.assertTrue(self.listens(self.path('socket')))
        first.terminate()
        self.ends(first)

    def test_a_live_socket_with_a_full_backlog_is_refused(self):
        path = self.path('socket')
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as busy:
            busy.bind(path)
            busy.listen(0)
            clients = []
            for _ in range(4):
                client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                clients.append(client)
                client.connect_ex(path)
            self.refuse(['another process serves'], path)
            for client in clients:
                client.close()

    def test_a_live_control_socket_is_refused(self):
        self.start_listening('rng', '--control-path', self.path('control'))
        self.refused(1, ['control', 'another process serves'], 'rng', '--socket-path', self.path('second'),
                     '--control-path', self.path('control'))
        self.assertFalse(os.path.exists(self.path('second')))

    def test_sockets_are_removed_at_the_end(self):
        daemon = self.start_listening('rng', '--control-path', self.path('control'))
        daemon.terminate()
        self.ends(daemon)
        self.assertFalse(os.path.exists(self.path('socket')))
        self.assertFalse(os.path.exists(self.path('control')))

    def test_a_socket_that_is_another_s_by_now_is_not_removed(self):
        first = self.start_listening('rng')
        os.unlink(self.path('socket'))
        self.start_listening('rng')
        first.terminate()
        self.ends(first)
        self.assertTrue(self.listens(self.path('socket')))

    def test_the_control_socket_is_for_its_owner_alone(self):
        self.start_listening('rng', '--control-path', self.path('control'))
        self.assertEqual(stat.S_IMODE(os.stat(self.path('control')).st_mode), 0o600)

    def test_an_inherited_handle_that_is_no_socket(self):
        self.refused(1, ['--fd=0', 'socket'], 'rng', '--fd=0')
        self.refused(1, ['--fd=1000', 'Bad file'], 'rng', '--fd=1000')

    def test_an_inherited_socket_at_which_nobody_is_or_can_come(self):
        for name in (None, self.path('bound')):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lonely:
                if name:
                    lonely.bind(name)
                self.refused(1, [f'--fd={lonely.fileno()}', 'not connected', 'connected or listening'], 'rng',
                             f'--fd={lonely.fileno()}', pass_fds=[lonely.fileno()])

    def test_a_connected_handle_whose_front_end_has_gone_already_is_no_error(self):
        ours, theirs = socket.socketpair()
        with theirs:
            ours.close()
            daemon = self.start('rng', f'--fd={theirs.fileno()}', pass_fds=[theirs.fileno()])
        self.ends(daemon)

    def test_an_inherited_handle_that_is_not_there_is_not_mistaken_for_one_of_ours(self):
        for number in range(3, 12):
            self.refused(1, [f'--fd={number}', 'Bad file'], 'rng', f'--fd={number}', '--control-path',
                         self.path('control'))

    def test_a_connected_handle_is_served_until_its_front_end_goes(self):
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                daemon = self.start('rng', f'--fd={theirs.fileno()}', pass_fds=[theirs.fileno()])
            ours.sendall(GET_FEATURES)
            self.assertEqual(len(ours.recv(20, socket.MSG_WAITALL)), 20)
        self.ends(daemon)

    def test_a_listening_handle_is_served_for_one_front_end_after_the_other(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(self.path('socket'))
            listener.listen()
            daemon = self.start('rng', '--fd', str(listener.fileno()), pass_fds=[listener.fileno()])
        for _ in range(3):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.connect(self.path('socket'))
                client.sendall(GET_FEATURES)
                self.assertEqual(len(client.recv(20, socket.MSG_WAITALL)), 20)
        daemon.terminate()
        self.ends(daemon)
        self.assertTrue(os.path.exists(self.path('socket')))


class Signals(Case):
    """Orderly ends."""

    def test_term_int_and_hup_end_the_daemon_with_status_0(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            for command in (('rng',), ('blk', '--blk-null=1M'), ('blk', '--blk-file', self.image())):
                with self.subTest(number=number, command=command):
                    daemon = self.start_listening(*command)
                    daemon.send_signal(number)
                    self.ends(daemon)

    def test_a_hangup_that_is_ignored_by_who_starts_it_stays_so(self):
        daemon = self.start_listening('rng', '--control-path', self.path('control'),
                                      preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        daemon.send_signal(signal.SIGHUP)
        for _ in range(2):  # the second is asked after the turn of the loop in which a signal would have been seen
            with Control(self.path('control')) as control:
                self.assertTrue(control.ask(command='stats')['ok'])
        daemon.terminate()
        self.ends(daemon)

    def test_term_ends_the_daemon_under_a_front_end(self):
        daemon = self.start_listening('blk', '--blk-file', self.image())
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(self.path('socket'))
            client.sendall(GET_FEATURES)
            self.assertEqual(len(client.recv(20, socket.MSG_WAITALL)), 20)
            daemon.terminate()
            self.ends(daemon)
            self.assertEqual(client.recv(1), b'')


class Shortage(Case):
    """Too few descriptors: whichever one is missing, there is one line and status 1, or the device serves."""

    def test_any_number_of_descriptors_that_does_not_suffice_is_an_orderly_failure(self):
        commands = {
            'rng': ['rng'],
            'uring': ['blk', '--engine=uring', '--blk-file', self.image()],
            'auto': ['blk', '--engine=auto', '--blk-file', self.image()],
            'plain': ['blk', '--engine=plain', '--blk-file', self.image()],
        }
        for name, command in commands.items():
            with self.subTest(name):
                self.assertGreater(self.tries_until_served(command), 0)

    def tries_until_served(self, command):
        """How many limits were too low."""
        for limit in range(4, 64):
            socket_path, control_path = self.path(f'{limit}'), self.path(f'{limit}-control')
            daemon = self.start(*command, '--socket-path', socket_path, '--control-path', control_path,
                                preexec_fn=lambda limit=limit: resource.setrlimit(
                                    resource.RLIMIT_NOFILE, (limit, limit)))
            wait_for(lambda path=socket_path, daemon=daemon: daemon.poll() is not None or self.listens(path),
                     'the daemon to listen or to give up')
            if daemon.poll() is None:
                daemon.terminate()
                daemon.wait()
                return limit - 4
            self.assertEqual(daemon.returncode, 1, self.said(daemon))
            self.assertEqual(self.said(daemon).count('\n'), 1, self.said(daemon))
            self.assertTrue(self.said(daemon).startswith('backplane'), self.said(daemon))
            self.assertFalse(os.path.exists(socket_path))
            self.assertFalse(os.path.exists(control_path))
        raise AssertionError('64 descriptors do not suffice')


if __name__ == '__main__':
    main(__name__)
