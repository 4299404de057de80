# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Back ends that can be measured: Backplane's and qemu-storage-daemon's, each started for one measurement and ended.

Theory of operation. A Backend is a recipe: a name, and how its command is made for a socket. Running one for each
measurement costs a tenth of a second and buys much: no idle neighbour takes time or holds the image's lock, and what
differs from start to start (where memory lies) is in the spread.
"""
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'tools', 'guest'))

import machine  # noqa: E402
import packages  # noqa: E402

NULL_BYTES = 1 << 30
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 60
LOOK_S = 0.002
OTHER_SUITE = {'bookworm': 'trixie', 'trixie': 'bookworm'}


class Failed(Exception):
    """A back end or a driver did not do what it should; one line."""


class Running:
    """A started back end."""

    def __init__(self, name, command, path, log, processor=None, environment=None):
        self.name, self.path, self.log = name, path, log
        with open(log, 'ab') as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment,
                preexec_fn=None if processor is None else lambda: os.sched_setaffinity(0, {processor}))
        deadline = time.monotonic() + START_TIMEOUT_S
        while not machine.is_listening(path):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise Failed(f'{name} does not listen: {machine.tail(log, 1).strip() or "it says nothing"}')
            time.sleep(LOOK_S)

    @property
    def pid(self):
        return self.process.pid

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


class Backend:
    """A recipe. command(path) is the argument list that serves at socket @path."""

    def __init__(self, name, command, environment=None, is_ours=False):
        self.name, self.command, self.environment, self.is_ours = name, command, environment, is_ours

    @contextlib.contextmanager
    def running(self, processor=None):
        with tempfile.TemporaryDirectory(prefix='backplane-bench-') as folder:
            path = os.path.join(folder, 'socket')
            one = Running(self.name, self.command(path), path, os.path.join(folder, 'log'), processor,
                          self.environment)
            try:
                yield one
            finally:
                one.stop()


class Backplane:
    """Our program, and which of its options it has."""

    def __init__(self, program):
        self.program = program
        try:
            done = subprocess.run([program, 'blk', '--help'], capture_output=True, text=True, check=False)
        except OSError as error:
            raise Failed(f'{program} does not run: {error.strerror}') from None
        if done.returncode != 0:
            raise Failed(f'{program} does not run: {done.stderr.strip()}')
        self.help = done.stdout

    def has(self, option):
        return re.search(rf'^\s+{re.escape(option)}\b', self.help, re.M) is not None

    def version(self):
        done = subprocess.run([self.program, '--version'], capture_output=True, text=True, check=False)
        return done.stdout.strip() or 'unknown'

    def _backend(self, name, *options):
        return Backend(name, lambda path: [self.program, 'blk', *options, f'--socket-path={path}'], is_ours=True)

    def null(self):
        return self._backend('backplane', f'--blk-null={NULL_BYTES}')

    def modes(self):
        """The default mode, and the others as rows of their own where the program has them."""
        found = [self.null()]
        if self.has('--polling'):
            found += [self._backend(f'backplane --polling={mode}', f'--blk-null={NULL_BYTES}', f'--polling={mode}')
                      for mode in ('off', 'always')]
        return found

    def file(self, path, direct):
        """A file past the page cache if @direct; else as the program opens it when it is not told how."""
        options = [f'--blk-file={path}']
        if direct and self.has('--direct'):
            options.append('--direct=on')
        return self._backend('backplane', *options)


class Qemu:
    """qemu-storage-daemon, of this machine or of another release of Debian."""

    def __init__(self, command, environment=None):
        self.command_line = command
        self.environment = {**os.environ, **environment} if environment else None
        done = subprocess.run([*command, '--version'], capture_output=True, text=True, check=False,
                              env=self.environment)
        found = re.search(r'version (\d+\.\d+)', done.stdout)
        if not found:
            raise packages.Unavailable(f'{command[-1]} does not run: {done.stderr.strip()}')
        self.version = found.group(1)
        self.version_line = done.stdout.splitlines()[0]
        self.name = f'qemu-storage-daemon {self.version}'

    def _backend(self, name, blockdev):
        def command(path):
            return [*self.command_line, '--blockdev', blockdev, '--export',
                    'vhost-user-blk,id=disk,node-name=disk,writable=on,num-queues=2,addr.type=unix,addr.path=' +
                    machine.option_value(path)]
        return Backend(name, command, self.environment)

    def null(self):
        return self._backend(self.name, f'null-co,node-name=disk,size={NULL_BYTES},read-zeroes=off')

    def file(self, path, direct, aio='io_uring'):
        cache = ',cache.direct=on' if direct else ''
        name = self.name if aio == 'io_uring' else f'{self.name}, aio={aio}'
        return self._backend(name, f'file,node-name=disk,filename={machine.option_value(path)},aio={aio}{cache}')


def other_release():
    """The unpacked set of the Debian release that this machine does not run."""
    suite = OTHER_SUITE.get(packages.release())
    if suite is None:
        raise packages.Unavailable(f'no other release is known beside {packages.release()}')
    names = ['qemu-utils', 'libblkio-dev'] if suite == 'trixie' else ['qemu-system-common']
    return packages.package_set('bench', names, suite=suite)


def libblkio():
    """A root with libblkio and its headers: the machine's own, or an unpacked one of Debian 13."""
    return packages.package_set('bench', ['qemu-utils', 'libblkio-dev'], suite='trixie')


def qemus(missing):
    """The daemons that can be had; what cannot is added to @missing as a sentence."""
    found = []
    path = shutil.which('qemu-storage-daemon')
    if path is None:
        missing.append('qemu-storage-daemon of this machine: not installed')
    try:
        if path is not None:
            found.append(Qemu([path]))
        root = other_release()
        found.append(Qemu(packages.program(root, 'qemu-storage-daemon'), machine.qemu_environment(root)))
    except packages.Unavailable as problem:
        missing.append(f'qemu-storage-daemon of another Debian release: {problem}')
    return found
