# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Beds: places with a whole /dev/kvm, in which cases run.

Theory of operation. A bed is a folder with all that a case needs (Content), and one of two places for it: this machine
(ThisHost), or a Linux in QEMU (EmulatedHost), whose emulated processor has hardware virtualization, so that the small
kernel in it has a true KVM. A case is the same there and here. The emulated one boots once for many cases; over a
virtio port it takes their names and gives back their output and status (host/init), while its kernel has the serial
line to itself. Time is limited here alone, on the host's clock. A case that exceeds it, or takes the emulated machine
down, costs that machine its life, and the next case gets a new one.

Limits. QEMU emulates AMD's virtualization on x86-64, not Intel's.
"""

import glob
import hashlib
import os
import platform
import re
import select
import shutil
import stat
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TREE = os.path.realpath(os.path.join(HERE, '..', '..'))
sys.path.insert(0, os.path.join(TREE, 'tools', 'guest'))

import image  # noqa: E402
import kernel  # noqa: E402
import machine  # noqa: E402
import packages  # noqa: E402
from machine import Failed  # noqa: E402

BOOT_TIMEOUT_S = 60
CASE_TIMEOUT_S = 120
STOP_TIMEOUT_S = 30
# However busy the machine is: who has waited so much longer than usual waits in vain.
LOAD_FACTOR_MAX = 6
MEMORY_MIB = 1024
PROCESSORS = 2
# Each bed's architecture. One that is called like it is on this machine where its KVM serves; the others never are.
BEDS = {'x86-64': 'x86-64', 'arm64': 'arm64', 'arm64-gicv2': 'arm64'}
DEBIAN_NAMES = {'x86-64': 'amd64', 'arm64': 'arm64'}
MACHINES = {'x86-64': 'x86_64', 'arm64': 'aarch64'}
CONSOLES = {'x86-64': 'ttyS0', 'arm64': 'ttyAMA0'}


def load_factor():
    """How much slower than an idle machine this one may be."""
    return min(max(1.0, os.getloadavg()[0] / os.cpu_count()), LOAD_FACTOR_MAX)


class Case:
    """cases/NAME.sh, as its first comments describe it."""

    def __init__(self, path):
        self.path = path
        self.name = os.path.basename(path).removesuffix('.sh')
        with open(path, encoding='utf-8') as file:
            text = file.read()
        self.sentence = self._comment(text, 'Case')
        self.beds = self._comment(text, 'Beds').split()

    def _comment(self, text, name):
        found = re.search(rf'^# {name}: (.+)$', text, re.M)
        if not found:
            raise ValueError(f'{self.path}: has no line "# {name}: …"')
        return found.group(1)

    def is_for(self, bed_name):
        return 'all' in self.beds or bed_name in self.beds


def cases():
    return [Case(path) for path in sorted(glob.glob(os.path.join(HERE, 'cases', '*.sh')))]


# ---- what is in a bed

def busybox(architecture):
    """The path of a static busybox; its shell runs its own programs, without a link for each."""
    if MACHINES[architecture] == platform.machine():
        root = image.root_packages()
    else:
        root = packages.package_set('root', ['busybox-static'], closed=False, foreign=DEBIAN_NAMES[architecture])
    for name in ('bin/busybox', 'usr/bin/busybox'):
        if os.path.isfile(os.path.join(root, name)):
            return os.path.join(root, name)
    raise packages.Unavailable(f'{root}: holds no busybox; delete the folder and try again')


def compiled(architecture, source, options=('-static',)):
    """The program that @source, a C file of the tree, is for @architecture; from the cache or compiled now."""
    recipe = kernel.RECIPES[architecture]
    name = os.path.basename(source).removesuffix('.c')
    with open(source, 'rb') as file:
        key = hashlib.sha256(file.read() + recipe.compiler().encode() + ' '.join(options).encode()).hexdigest()[:16]

    def make(directory):
        command = [recipe.prefix() + 'gcc', '-std=c17', '-D_GNU_SOURCE', '-O2', '-Wall', '-Wextra', *options, '-o',
                   os.path.join(directory, name), source]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise packages.Unavailable(f'{source}: {command[0]} fails: {result.stderr.strip()}')

    return os.path.join(packages.publish('bed-programs', f'{name}-{architecture}-{key}', make), name)


def libraries(program, directories):
    """The shared libraries that @program needs, with those that they need, and the loader: {path in a root: path}."""
    with open(program, 'rb') as file:
        if file.read(4) != b'\x7fELF':
            return {}
    found = {}
    interpreter = subprocess.run(['readelf', '-W', '-l', program], capture_output=True, text=True, check=True).stdout
    loader = re.search(r'interpreter: (/[^\]]+)\]', interpreter)
    todo = [program]
    wanted = {}
    if loader:
        wanted[os.path.basename(loader.group(1))] = loader.group(1).lstrip('/')
    while todo:
        text = subprocess.run(['readelf', '-W', '-d', todo.pop()], capture_output=True, text=True, check=True).stdout
        for name in re.findall(r'\(NEEDED\).*\[(.+)\]', text):
            wanted.setdefault(name, f'lib/{name}')
        for name, target in wanted.items():
            if target in found:
                continue
            path = next((path for path in (os.path.join(folder, name) for folder in directories)
                         if os.path.exists(path)), None)
            if path is None:
                raise packages.Unavailable(f'{program} needs {name}, which is not in {" ".join(directories)}')
            found[target] = path
            todo.append(path)
    return found


def library_directories(architecture, sysroot):
    """Where libraries of @architecture may be: in @sysroot, on this machine, and beside its cross compiler."""
    triplet = f'{MACHINES[architecture]}-linux-gnu'
    return [f'{root}/{folder}/{triplet}' for root in ([sysroot] if sysroot else []) + ['']
            for folder in ('lib', 'usr/lib')] + [f'/usr/{triplet}/lib']


class Content:
    """The folder of a bed: kernels, the guests' initramfs, programs with what they need, and the cases."""

    def __init__(self, stage, architecture, programs=(), sysroot=None):
        self.architecture = architecture
        self.directory = stage.path(f'bed-{architecture}')
        self.kernel = kernel.built(architecture)
        self.busybox = busybox(architecture)
        self.libraries = {}
        os.makedirs(os.path.join(self.directory, 'bin'))
        self._copy(self.kernel.image, 'kernel')
        if os.path.exists(self.kernel.vmlinux):
            self._copy(self.kernel.vmlinux, 'vmlinux')
        self._copy(self.busybox, 'bin/busybox')
        for path in programs:
            self._copy(path, os.path.join('bin', os.path.basename(path)))
            self.libraries.update(libraries(path, library_directories(architecture, sysroot)))
        for name in ('cases', 'host'):
            shutil.copytree(os.path.join(HERE, name), os.path.join(self.directory, name))
        with open(os.path.join(self.directory, 'guest.cpio'), 'wb') as file:
            file.write(self._guest())
        with open(os.path.join(self.directory, 'settings'), 'w', encoding='utf-8') as file:
            file.write(f'architecture={architecture}\nconsole={CONSOLES[architecture]}\n')

    def _copy(self, source, target):
        shutil.copy(source, os.path.join(self.directory, target))

    def command(self, text):
        """The emulated machine runs it instead of taking cases."""
        with open(os.path.join(self.directory, 'command'), 'w', encoding='utf-8') as file:
            file.write(text + '\n')

    def _guest(self):
        """The initramfs of guests: busybox, the test programs, and guest() of every case."""
        tree = Tree()
        for source in sorted(glob.glob(os.path.join(HERE, 'guest', '*.c'))):
            tree.file('bin/' + os.path.basename(source).removesuffix('.c'), compiled(self.architecture, source))
        tree.file('bin/busybox', self.busybox)
        tree.link('bin/sh', 'busybox')
        tree.file('init', os.path.join(HERE, 'guest', 'init'))
        tree.file('guest/case', os.path.join(HERE, 'guest', 'case'))
        for case in cases():
            tree.file(f'cases/{case.name}.sh', case.path)
        return tree.cpio()

    def host(self):
        """The initramfs of the emulated machine: this folder, libraries, and busybox."""
        tree = Tree()
        for directory, _, names in os.walk(self.directory):
            for name in names:
                path = os.path.join(directory, name)
                tree.file(os.path.join('bed', os.path.relpath(path, self.directory)), path)
        tree.link('bin/busybox', '/bed/bin/busybox')
        tree.link('bin/sh', 'busybox')
        tree.file('init', os.path.join(HERE, 'host', 'init'))
        for target, path in self.libraries.items():
            tree.file(target, path)
        return tree.cpio()


class Tree:
    """Files that become an initramfs."""

    def __init__(self):
        self.writer = image.Cpio()
        self.directories = set()
        for name in ('dev', 'proc', 'sys', 'tmp'):
            self._directory(name)
        self.writer.add('dev/console', 0o20600, device=(5, 1))

    def _directory(self, name):
        if name and name not in self.directories:
            self._directory(os.path.dirname(name))
            self.directories.add(name)
            self.writer.directory(name)

    def file(self, name, path):
        self._directory(os.path.dirname(name))
        with open(path, 'rb') as file:
            self.writer.file(name, file.read(), stat.S_IMODE(os.stat(path).st_mode) | 0o444)

    def link(self, name, target):
        self._directory(os.path.dirname(name))
        self.writer.add(name, 0o120777, target.encode())

    def cpio(self):
        return self.writer.finish()


# ---- where a bed is

class Lost(Failed):
    """The place is gone; a new one has to be made for the next case."""


class Place:
    """Runs cases in a process that answers on its output."""

    def __init__(self):
        self.number = 0
        self.pending = b''
        self.process = None

    def line(self, end):
        """The next line of output, before the moment @end."""
        output = self.process.stdout.fileno()
        while b'\n' not in self.pending:
            left = end - time.monotonic()
            if left <= 0 or not select.select([output], [], [], left)[0]:
                raise Lost('no answer within the time limit')
            chunk = os.read(output, 65536)
            if not chunk:
                raise Lost('it ended without an answer')
            self.pending += chunk
        line, self.pending = self.pending.split(b'\n', 1)
        return line.decode('utf-8', 'replace').rstrip('\r')

    def answer(self, number, transcript):
        """The status of case @number, whose output is added to @transcript."""
        end = time.monotonic() + CASE_TIMEOUT_S * load_factor()
        while True:
            line = self.line(end)
            found = re.fullmatch(rf'@end {number} (\d+)', line)
            if found:
                return int(found.group(1))
            transcript.append(line.removeprefix('| '))


class ThisHost(Place):
    """This machine."""

    def __init__(self, stage, content):
        super().__init__()
        self.stage = stage
        self.content = content

    def run(self, case, transcript):
        self.number += 1
        shell = os.path.join(self.content.directory, 'bin', 'busybox')
        script = 'status=0; "$1" sh -eu "$2" "$3" "$4" </dev/null 2>&1 || status=$?; echo "@end $3 $status"'
        arguments = [shell, 'sh', '-c', script, 'case', shell, os.path.join(self.content.directory, 'host', 'case'),
                     str(self.number), case.name]
        self.process = self.stage.start(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        start_new_session=True,
                                        env={**os.environ, 'BED': self.content.directory,
                                             'TMPDIR': self.stage.directory})
        try:
            return self.answer(self.number, transcript)
        finally:
            self.pending = b''
            # What the case has started is in its session; the shell is not waited for yet, so its id is still its own.
            os.killpg(self.process.pid, 9)
            self.process.wait(STOP_TIMEOUT_S)
            self.process.stdout.close()

    def details(self):
        return ''

    def stop(self):
        pass


def gic_version(name):
    return '2' if name.endswith('gicv2') else '3'


def measured_tsc_khz():
    program = compiled('x86-64', os.path.join(TREE, 'tools', 'guest', 'tsc-khz.c'))
    return subprocess.run([program], capture_output=True, text=True, check=True).stdout.strip()


def qemu_arguments(name, content, initramfs):
    """QEMU with a processor that has hardware virtualization; the bed's kernel and @initramfs in it."""
    architecture = content.architecture
    command = f'qemu-system-{MACHINES[architecture]}'
    if shutil.which(command) is None:
        package = {'x86-64': 'qemu-system-x86', 'arm64': 'qemu-system-arm'}[architecture]
        raise packages.Unavailable(f'{command} is not installed: apt-get install {package}')
    # No time limit of the kernel's own: on a busy host each of them is exceeded.
    append = f'console={CONSOLES[architecture]} quiet panic=-1 nowatchdog rcupdate.rcu_cpu_stall_suppress=1'
    if architecture == 'x86-64':
        kind = ['-machine', 'q35', '-cpu', 'EPYC,+svm,+npt']
        image_path = content.kernel.vmlinux
        if platform.machine() == 'x86_64':
            append += f' tsc_early_khz={measured_tsc_khz()}'
    else:
        kind = ['-machine', f'virt,virtualization=on,gic-version={gic_version(name)}', '-cpu', 'cortex-a72']
        image_path = content.kernel.image
    return [command, *kind, '-accel', 'tcg,thread=multi', '-m', str(MEMORY_MIB), '-smp', str(PROCESSORS),
            '-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-kernel', image_path,
            '-initrd', initramfs, '-append', append]


class EmulatedHost(Place):
    """A Linux in QEMU, which has a KVM of its own."""

    def __init__(self, stage, name, content):
        super().__init__()
        self.stage = stage
        self.name = name
        self.content = content
        self.initramfs = stage.path(f'{name}.cpio')
        self.serial = stage.path(f'{name}.serial')
        self.errors = stage.path(f'{name}.errors')
        self.boot_s = None
        with open(self.initramfs, 'wb') as file:
            file.write(content.host())

    def _boot(self):
        arguments = [*qemu_arguments(self.name, self.content, self.initramfs),
                     '-serial', f'file:{machine.option_value(self.serial)}',
                     '-chardev', 'stdio,id=port,signal=off', '-device', 'virtio-serial-pci',
                     '-device', 'virtserialport,chardev=port']
        begin = time.monotonic()
        with open(self.errors, 'wb') as errors:
            self.process = self.stage.start(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        self.pending = b''
        end = begin + BOOT_TIMEOUT_S * load_factor()
        while not self.line(end).startswith('@ready'):
            pass
        self.boot_s = time.monotonic() - begin

    def run(self, case, transcript):
        try:
            if self.process is None:
                self._boot()
            self.number += 1
            self.process.stdin.write(f'{self.number} {case.name}\n'.encode())
            self.process.stdin.flush()
            return self.answer(self.number, transcript)
        except (Lost, BrokenPipeError) as error:
            self._end()
            raise Failed(f'the emulated machine: {error}', self.details()) from None

    def _end(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait(STOP_TIMEOUT_S)
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None

    def details(self):
        """What its kernel and QEMU have to say."""
        return ''.join(f'-- {what}:\n{text}' for what, text in (
            ('serial line of the emulated machine', machine.tail(self.serial)),
            ('QEMU', machine.tail(self.errors))) if text)

    def stop(self):
        """Shut it down in order."""
        if self.process is None:
            return
        self.process.stdin.close()
        try:
            self.process.wait(STOP_TIMEOUT_S * load_factor())
        except subprocess.TimeoutExpired:
            raise Failed('the emulated machine does not power off', self.details()) from None
        self.process.stdout.close()
        self.process = None


def has_whole_kvm(architecture):
    """(does this machine's /dev/kvm run Linux of @architecture?, one line that says why)"""
    if MACHINES[architecture] != platform.machine():
        return False, f'this machine is {platform.machine()}'
    accelerator, reason = machine.acceleration()
    return accelerator == 'kvm', reason


def place(stage, name, content):
    """(where the cases of bed @name run, a line that says so)"""
    is_whole, reason = has_whole_kvm(content.architecture)
    if is_whole and name == content.architecture:
        return ThisHost(stage, content), f'on this machine: {reason}'
    return EmulatedHost(stage, name, content), f'in an emulated machine: {reason}'
