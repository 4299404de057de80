# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Backplane's daemons, QEMU, and the guest in it, as objects.

Theory of operation. Every process is started through a Stage, which owns a directory for sockets, logs and disks, and
ends, by their ids, what is left of its processes when it is left. The guest's serial port is a pair of pipes: its first
process says "@ready", then takes one command a line and answers with the output and "@end NUMBER STATUS"
(tests/guest/guest). Nothing here sleeps and hopes: it waits for a line, for the end of a process, or for a socket that
listens (as /proc/net/unix shows it), each with a limit on the host's clock.

Limits. One thread. The limits are for a machine that is busy with other things.
"""

import contextlib
import json
import os
import platform
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import image
import packages

BOOT_TIMEOUT_S = 180
COMMAND_TIMEOUT_S = 180
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 60
# Between two looks at /proc/net/unix, which nobody wakes us for.
POLL_S = 0.01

HERE = os.path.dirname(os.path.abspath(__file__))
TREE = os.path.realpath(os.path.join(HERE, '..', '..'))
PROGRAM = os.path.join(TREE, 'build', 'backplane')


class Failed(Exception):
    """What was expected of a process or a guest did not happen; one line, and where there is more, .detail."""

    def __init__(self, text, detail=''):
        super().__init__(text)
        self.detail = detail


# ---- what runs guests here

ACCELERATION = {}


def acceleration():
    """('kvm' or 'tcg', one line that says why)"""
    if not ACCELERATION:
        ACCELERATION['answer'] = _probe_kvm()
    return ACCELERATION['answer']


def _probe_kvm():
    if not os.path.exists('/dev/kvm'):
        return 'tcg', 'there is no /dev/kvm'
    try:
        result = subprocess.run([PROGRAM, 'probe', '--check=kvm'], capture_output=True, text=True,
                                timeout=START_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return 'tcg', f'/dev/kvm cannot be judged: {error}'
    return ('kvm' if result.returncode == 0 else 'tcg'), result.stdout.strip()


class Qemu:
    """One QEMU: how to run it, and what it is."""

    def __init__(self, command, environment=None):
        self.command = command
        self.environment = {**os.environ, **(environment or {})}
        text = subprocess.run([*command, '--version'], capture_output=True, text=True, check=True,
                              env=self.environment).stdout
        self.version = re.search(r'version (\d+(?:\.\d+)*)', text).group(1)
        self.major = int(self.version.split('.')[0])


def qemu_name():
    return {'aarch64': 'qemu-system-aarch64'}.get(platform.machine(), 'qemu-system-x86_64')


def qemu_installed():
    path = shutil.which(qemu_name())
    if path is None:
        raise packages.Unavailable(f'{qemu_name()} is not installed: apt-get install {qemu_package()}')
    return Qemu([path])


def qemu_package():
    return 'qemu-system-arm' if platform.machine() == 'aarch64' else 'qemu-system-x86'


def qemu_set(suite):
    """QEMU of another Debian release, with qemu-io and libblkio, unpacked: the set's directory."""
    names = [qemu_package(), 'qemu-utils', 'qemu-block-extra', 'libblkio-dev' if suite == 'trixie' else 'qemu-utils']
    return packages.package_set('qemu', list(dict.fromkeys(names)), suite)


def qemu_environment(root):
    directories = [path for path in packages.library_directories(root) if os.path.isdir(os.path.join(path, 'qemu'))]
    return {'QEMU_MODULE_DIR': os.path.join(directories[0], 'qemu')} if directories else {}


def qemu_of(suite):
    root = qemu_set(suite)
    data = [argument for name in ('qemu', 'seabios') for argument in ('-L', f'{root}/usr/share/{name}')]
    return Qemu([*packages.program(root, qemu_name()), *data], qemu_environment(root))


# ---- processes

def tail(path, count=30):
    with contextlib.suppress(OSError), open(path, encoding='utf-8', errors='replace') as file:
        return ''.join(file.readlines()[-count:])
    return ''


def is_listening(path):
    with open('/proc/net/unix', 'rb') as file:
        table = file.read()
    # Seven fields, then the path as it is: it may hold blanks, line ends and any other byte. The fourth field has bit
    # 16 set where somebody listens.
    rows = re.findall(rb'^\S+: \S+ \S+ (\S+) \S+ \S+ +\d+ ' + re.escape(os.fsencode(path)) + rb'$', table, re.M)
    return any(int(flags, 16) & 0x10000 for flags in rows)


def option_value(text):
    """@text inside one of QEMU's options, where a comma begins the next key."""
    return text.replace(',', ',,')


class Daemon:
    """A process that listens on a Unix socket."""

    def __init__(self, stage, name, arguments, socket_path, file_size_max=None):
        self.name = name
        self.arguments = arguments
        self.socket_path = socket_path
        self.log = os.path.join(stage.directory, f'{name}.log')

        def limit():
            # A write past the limit fails like one on a full disk; the signal that comes with it is not wanted.
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size_max, file_size_max))

        with open(self.log, 'ab') as log:
            self.process = stage.start(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       preexec_fn=limit if file_size_max else None, restore_signals=False,
                                       # away from our terminal: what ends us there must not end it before QEMU
                                       start_new_session=True)
        self._wait_until_it_listens()

    def _wait_until_it_listens(self):
        end = time.monotonic() + START_TIMEOUT_S
        while not is_listening(self.socket_path):
            if self.process.poll() is not None:
                raise Failed(f'{self.name} ended with status {self.process.returncode}: {tail(self.log, 1).strip()}',
                             tail(self.log))
            if time.monotonic() > end:
                raise Failed(f'{self.name} does not listen on {self.socket_path} after {START_TIMEOUT_S} s',
                             tail(self.log))
            time.sleep(POLL_S)

    def is_alive(self):
        return self.process.poll() is None

    def kill(self):
        """What a crash of it looks like."""
        self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)

    def stop(self):
        """Ask it to end, in order; its status has to be 0."""
        self.process.terminate()
        try:
            status = self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise Failed(f'{self.name} does not end {STOP_TIMEOUT_S} s after SIGTERM', tail(self.log)) from None
        if status != 0:
            raise Failed(f'{self.name} ended with status {status}', tail(self.log))


class Disk(Daemon):
    """`backplane blk` on an image file."""

    def __init__(self, stage, image_path, name, program=PROGRAM, queues=1, file_size_max=None, options=()):
        self.image = image_path
        self.queues = queues
        self.program = program
        self.control = os.path.join(stage.directory, f'{name}.control')
        path = os.path.join(stage.directory, f'{name}.sock')
        arguments = [program, 'blk', f'--socket-path={path}', f'--blk-file={image_path}',
                     f'--control-path={self.control}', f'--queues={queues}', *options]
        super().__init__(stage, name, arguments, path, file_size_max)

    def ctl(self, *command):
        """The answer of `backplane ctl`, as an object."""
        result = subprocess.run([self.program, 'ctl', self.control, *command, '--json'], capture_output=True, text=True,
                                timeout=COMMAND_TIMEOUT_S, check=False)
        if result.returncode != 0:
            raise Failed(f'backplane ctl {" ".join(command)} ended with status {result.returncode}: '
                         f'{result.stderr.strip()}', tail(self.log))
        return json.loads(result.stdout) if result.stdout.strip() else {}


class Entropy(Daemon):
    """`backplane rng`."""

    def __init__(self, stage, name='rng', program=PROGRAM, options=()):
        path = os.path.join(stage.directory, f'{name}.sock')
        super().__init__(stage, name, [program, 'rng', f'--socket-path={path}', *options], path)


class Stage:
    """A directory and the processes that play in it. Use as a context manager."""

    def __init__(self, prefix='backplane-'):
        # Short, since the path of a Unix socket has 108 bytes.
        self.directory = os.path.abspath(tempfile.mkdtemp(prefix=prefix, dir=os.environ.get('TMPDIR') or '/tmp'))
        self.processes = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # The last first: QEMU before the daemons, whose end it would complain of.
        for process in reversed(self.processes):
            if process.poll() is None:
                process.kill()
                process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.directory, name)

    def start(self, arguments, **options):
        try:
            process = subprocess.Popen(arguments, **options)  # pylint: disable=consider-using-with
        except OSError as error:
            raise Failed(f'{arguments[0]}: {error.strerror}; is it built? script/build') from None
        self.processes.append(process)
        return process


# ---- the guest

class Monitor:
    """QEMU's control socket (QMP)."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(COMMAND_TIMEOUT_S)
        self.socket.connect(path)
        self.file = self.socket.makefile('r', encoding='utf-8')
        self._read()
        self.command('qmp_capabilities')

    def _read(self):
        line = self.file.readline()
        if not line:
            raise Failed('QEMU closed its control socket')
        return json.loads(line)

    def command(self, name, **arguments):
        self.socket.sendall(json.dumps({'execute': name, 'arguments': arguments}).encode() + b'\n')
        while True:
            answer = self._read()
            if 'error' in answer:
                raise Failed(f'QEMU refuses {name}: {answer["error"].get("desc")}')
            if 'return' in answer:
                return answer['return']

    def wait_until(self, is_so, complaint):
        end = time.monotonic() + COMMAND_TIMEOUT_S
        while not is_so():
            if time.monotonic() > end:
                raise Failed(f'{complaint} within {COMMAND_TIMEOUT_S} s')
            time.sleep(POLL_S)

    def close(self):
        self.file.close()
        self.socket.close()


def emulates_processors(qemu, kernel):
    """
    Can several processors be had? Emulated by QEMU 7.2, Linux 6.12 panics on four of them in one boot of six, with
    QEMU's own devices too; Linux 6.1 has not been seen to, nor QEMU 10 with either.
    """
    version = tuple(int(part) for part in re.findall(r'\d+', kernel[2])[:2])
    return acceleration()[0] == 'kvm' or qemu.major >= 10 or version < (6, 12)


def guest_arguments(qemu, kernel, disks, entropy, memory_mib=256, processors=1, append='', hotplug=False,
                    packed=False, reconnect=False):
    """
    QEMU's command line, but for its serial port. @disks are in the order of vda, vdb, … @packed: the guest may take
    packed rings. @reconnect: disks' daemons may be started anew.
    """
    ring = ',packed=on' if packed else ''
    again = ''
    if reconnect:
        again = ',reconnect-ms=1000' if qemu.major >= 10 else ',reconnect=1'
    accelerator = acceleration()[0]
    arm = platform.machine() == 'aarch64'
    # Emulated, pointer authentication takes most of an arm64 guest's time; the quick kind of it does not.
    emulated = 'max,pauth-impdef=on' if arm else 'max'
    machine = 'virt,gic-version=max' if arm else 'pc'
    console = 'ttyAMA0' if arm else 'ttyS0'
    slots = ',slots=2,maxmem=2G' if hotplug else ''
    arguments = [
        *qemu.command, '-machine', f'{machine},memory-backend=ram', '-object',
        f'memory-backend-memfd,id=ram,size={memory_mib}M,share=on', '-m', f'{memory_mib}M{slots}',
        '-accel', 'kvm' if accelerator == 'kvm' else 'tcg,thread=multi', '-cpu',
        'host' if accelerator == 'kvm' else emulated, '-smp', str(processors), '-nodefaults', '-no-user-config',
        '-display', 'none', '-kernel', kernel[0], '-initrd', image.initramfs(kernel[1]), '-append',
        f'console={console} quiet loglevel=1 nowatchdog rcupdate.rcu_cpu_stall_suppress=1 '
        f'memhp_default_state=online_movable {append}',
    ]
    for number, disk in enumerate(disks):
        arguments += ['-chardev', f'socket,id=disk{number},path={option_value(disk.socket_path)}{again}',
                      '-device',
                      f'vhost-user-blk-pci,chardev=disk{number},num-queues={disk.queues},addr={16 + number:#x},'
                      f'disable-legacy=on{ring}']
    if entropy is not None:
        arguments += ['-chardev', f'socket,id=rng,path={option_value(entropy.socket_path)}', '-device',
                      f'vhost-user-rng-pci,chardev=rng,addr=0xf{ring}']
    return arguments


class Guest:
    """A running guest whose root is on its first disk."""

    def __init__(self, stage, qemu, kernel, disks, entropy=None, **options):
        self.disks = disks
        self.number = 0
        self.is_lost = False  # it will never answer again
        self.pending = b''
        self.transcript = []
        monitor_path = stage.path(f'monitor{len(stage.processes)}')
        self.log = stage.path(f'qemu{len(stage.processes)}.log')
        arguments = guest_arguments(qemu, kernel, disks, entropy, **options)
        arguments += ['-chardev', 'stdio,id=console,signal=off', '-serial', 'chardev:console',
                      '-chardev', f'socket,id=monitor,path={option_value(monitor_path)},server=on,wait=off',
                      '-mon', 'chardev=monitor,mode=control']
        with open(self.log, 'wb') as log:
            self.process = stage.start(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                                       env=qemu.environment)
        self.monitor_path = monitor_path
        self.wait_until_ready()

    # -- its serial port

    def _detail(self):
        return '\n'.join(self.transcript[-40:]) + '\n' + tail(self.log) + ''.join(
            f'-- {disk.name}: {tail(disk.log, 5)}\n' for disk in self.disks if tail(disk.log, 5))

    def _line(self, end):
        if self.is_lost:
            raise Failed('the guest was lost before')
        output = self.process.stdout.fileno()
        while b'\n' not in self.pending:
            left = end - time.monotonic()
            if left <= 0:
                self.is_lost = True
                raise Failed('the guest says nothing more within the time limit', self._detail())
            if not select.select([output], [], [], left)[0]:
                continue
            chunk = os.read(output, 65536)
            if not chunk:
                self.is_lost = True
                raise Failed('QEMU ended', self._detail())
            self.pending += chunk
        line, self.pending = self.pending.split(b'\n', 1)
        text = line.decode('utf-8', 'replace').rstrip('\r')
        self.transcript.append(text)
        if 'Kernel panic' in text or text.startswith('@failed'):
            self.is_lost = True
            raise Failed(f'the guest gave up: {text}', self._detail())
        return text

    def wait_until_ready(self):
        end = time.monotonic() + BOOT_TIMEOUT_S
        while not self._line(end).endswith('@ready'):
            pass

    def wait_for_lines(self, text, count):
        """@count more lines that are @text, from a command that goes on."""
        end = time.monotonic() + COMMAND_TIMEOUT_S
        while count > 0:
            count -= self._line(end) == text

    def send(self, command):
        self.number += 1
        self.process.stdin.write(f'{self.number} {command}\n'.encode())
        self.process.stdin.flush()

    def result(self, timeout_s=COMMAND_TIMEOUT_S):
        """(status, output) of the command that was sent last."""
        end = time.monotonic() + timeout_s
        lines = []
        while True:
            line = self._line(end)
            found = re.match(rf'@end {self.number} (\d+)$', line)
            if found:
                return int(found.group(1)), '\n'.join(lines).rstrip('\n')
            lines.append(line)

    def run(self, command, timeout_s=COMMAND_TIMEOUT_S):
        """The output of @command, which has to succeed."""
        self.send(command)
        status, output = self.result(timeout_s)
        if status != 0:
            raise Failed(f'in the guest: {command}: status {status}: {output[-300:]}', self._detail())
        return output

    def wait_for(self, command, expected, timeout_s=COMMAND_TIMEOUT_S):
        """Ask again and again until @command prints @expected."""
        end = time.monotonic() + timeout_s
        while (output := self.run(command)) != expected:
            if time.monotonic() > end:
                raise Failed(f'in the guest: {command}: still {output!r} after {timeout_s} s, not {expected!r}')

    def refuses(self, command):
        """@command has to fail; its output."""
        self.send(command)
        status, output = self.result()
        if status == 0:
            raise Failed(f'in the guest: {command}: succeeded, though it must not', self._detail())
        return output

    # -- its life

    def monitor(self):
        return contextlib.closing(Monitor(self.monitor_path))

    def reboot(self):
        """Restart the guest in order; QEMU lives on."""
        self.send('leave')
        self.wait_until_ready()

    def quit(self):
        """End the guest in order, then QEMU."""
        self.run('sync; for d in $(cut -d" " -f2 /proc/mounts | grep ^/mnt); do umount $d; done; mount -o remount,ro /')
        with self.monitor() as monitor:
            monitor.command('quit')
        self._ended()

    def kill(self):
        """What a crash of QEMU looks like."""
        self.process.kill()
        self._ended()

    def _ended(self):
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise Failed(f'QEMU does not end within {STOP_TIMEOUT_S} s', self._detail()) from None
        self.process.stdin.close()
        self.process.stdout.close()
