#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""One small Linux kernel per architecture, for every test bed: usage: kernel.py [--jobs=N] x86-64|arm64...

Theory of operation. Debian's linux-source is fetched without being installed, and built with nothing but the options of
kernel-config/, on top of allnoconfig. Linux drops an option silently when something that it depends on is missing; so
each line of the fragments is looked for in the configuration before anything is compiled. What was built is kept in the
cache, under a name made of the source's version and of all else that decides about it: the options and the compiler. A
sound kernel in the cache is taken without asking the network. Prints the directory of each kernel.

Limits. Both architectures come from the source of one release of Debian, whichever the machine runs, so that a bed
finds the same kernel everywhere. Everything is built in: there are no modules.
"""

import argparse
import contextlib
import glob
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import packages

HERE = os.path.dirname(os.path.abspath(__file__))
FRAGMENTS = os.path.join(HERE, 'kernel-config')
SUITE = 'bookworm'
SOURCE = 'linux-source-6.1'
# To be raised when a kernel is made in another way from the same source and options: those in the cache are old then.
FORM = 1
# The unpacked source takes 1.5 GiB, and what is compiled 150 MiB.
ROOM_BYTES_MIN = 2 << 30
FAILURE_LINES = 40
# Compiled anywhere at any time, the same source gives the same image.
FIXED = {'KBUILD_BUILD_TIMESTAMP': '2020-01-01', 'KBUILD_BUILD_USER': 'backplane', 'KBUILD_BUILD_HOST': 'backplane',
         'LC_ALL': 'C.UTF-8'}


class Recipe:
    """How one architecture's kernel is made."""

    def __init__(self, name, linux_name, machine, fragments, outputs):
        self.name = name
        self.linux_name = linux_name  # what Linux calls it
        self.machine = machine  # what uname calls it
        self.fragments = fragments
        self.outputs = outputs  # {name in the cache: path in the build folder}

    def prefix(self):
        """The compiler's prefix, empty for this machine's own architecture."""
        return '' if os.uname().machine == self.machine else f'{self.machine}-linux-gnu-'

    def compiler(self):
        """The compiler's version, in one line."""
        name = self.prefix() + 'gcc'
        try:
            text = subprocess.run([name, '--version'], capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            package = f'gcc-{self.machine.replace("_", "-")}-linux-gnu' if self.prefix() else 'gcc'
            raise packages.Unavailable(f'{name} does not run: apt-get install {package}') from None
        return text.splitlines()[0]


RECIPES = {recipe.name: recipe for recipe in (
    Recipe('x86-64', 'x86', 'x86_64', ('common', 'x86-64', 'xen', 'xen-x86-64'),
           {'vmlinux': 'vmlinux', 'image': 'arch/x86/boot/bzImage'}),
    Recipe('arm64', 'arm64', 'aarch64', ('common', 'arm64', 'xen'), {'image': 'arch/arm64/boot/Image'}),
)}


class Kernel:
    """A kernel that was built: .image is bzImage or Image, .vmlinux, on x86-64 alone, the ELF file with a PVH entry."""

    def __init__(self, directory):
        self.directory = directory
        self.image = os.path.join(directory, 'image')
        self.vmlinux = os.path.join(directory, 'vmlinux')
        self.configuration = os.path.join(directory, 'config')


def lines_of(recipe):
    """The fragments' lines that say something: CONFIG_X=y, and "# CONFIG_X is not set"."""
    found = []
    for name in recipe.fragments:
        with open(os.path.join(FRAGMENTS, f'{name}.config'), encoding='utf-8') as file:
            found += re.findall(r'^(?:CONFIG_\w+=.*|# CONFIG_\w+ is not set)$', file.read(), re.M)
    return found


def not_granted(wanted, configuration):
    """The lines of @wanted that the text @configuration does not fulfil."""
    have = set(configuration.splitlines())
    names = {line.split('=', 1)[0] for line in have if line.startswith('CONFIG_')}

    def is_fulfilled(line):
        if line.startswith('#'):  # not there at all is as good
            return line.split()[1] not in names
        return line in have

    return [line for line in wanted if not is_fulfilled(line)]


def key(recipe):
    """What the image depends on, but for the source's version."""
    parts = [str(FORM), recipe.compiler(), *lines_of(recipe)]
    return hashlib.sha256('\n'.join(parts).encode()).hexdigest()[:16]


def built(name, jobs=None):
    """The Kernel of architecture @name, from the cache or built now."""
    recipe = RECIPES[name]
    suffix = f'{recipe.name}_{key(recipe)}'
    base = os.path.join(packages.cache_root(), 'small-kernel')
    for path in sorted(glob.glob(os.path.join(base, f'*_{suffix}')), key=packages.version_key, reverse=True):
        if packages.is_sound(path):
            return Kernel(path)
    apt = packages.Apt(None if packages.release() == SUITE else SUITE)
    version = apt.version(SOURCE)
    source = packages.publish('linux-source', f'{SOURCE}_{version}', lambda directory: fetch(apt, directory))
    return Kernel(packages.publish('small-kernel', f'{version}_{suffix}',
                                   lambda directory: make(recipe, version, source, directory, jobs)))


def fetch(apt, directory):
    packages.say(f'fetching {SOURCE} of Debian {SUITE}, once, into {packages.cache_root()}')
    packages.unpack(apt, [SOURCE], directory, closed=False)


def make(recipe, version, source, directory, jobs):
    """Build into @directory, which is in the cache. The source is unpacked beside it, and goes afterwards."""
    base = os.path.dirname(directory)
    if shutil.disk_usage(base).free < ROOM_BYTES_MIN:
        raise packages.Unavailable(f'{base}: building Linux takes {ROOM_BYTES_MIN >> 30} GiB of room; set '
                                   'XDG_CACHE_HOME to a folder that has it')
    # What a build has left that could not even clean up. Nobody builds now but us: publish holds the lock.
    for path in glob.glob(os.path.join(base, '.building-*')):
        shutil.rmtree(path, ignore_errors=True)
    packages.say(f'building Linux {version} for {recipe.name}, once; that takes some minutes')
    with tempfile.TemporaryDirectory(prefix='.building-', dir=base) as work:
        log = Log(os.path.join(base, f'{recipe.name}.log'))
        tree, objects = os.path.join(work, 'source'), os.path.join(work, 'objects')
        for path in (tree, objects):
            os.mkdir(path)
        archive = os.path.join(source, 'usr', 'src', f'{SOURCE}.tar.xz')
        log.run('unpacking', ['tar', '-xf', archive, '-C', tree, '--strip-components=1'])
        build(recipe, log, tree, objects, jobs or os.cpu_count())
        for name, path in {**recipe.outputs, 'config': '.config'}.items():
            shutil.copy(os.path.join(objects, path), os.path.join(directory, name))
        if 'vmlinux' in recipe.outputs:
            # Its symbols stay, for those who look where a guest hangs.
            log.run('stripping', [f'{recipe.prefix()}objcopy', '--strip-debug', os.path.join(directory, 'vmlinux')])
        log.end()


def build(recipe, log, tree, objects, jobs):
    wanted = lines_of(recipe)
    fragment = os.path.join(objects, 'wanted.config')
    with open(fragment, 'w', encoding='utf-8') as file:
        file.write('\n'.join(wanted) + '\n')
    command = ['make', '-C', tree, f'O={objects}', f'ARCH={recipe.linux_name}', f'CROSS_COMPILE={recipe.prefix()}']
    log.run('configuring', [*command, f'KCONFIG_ALLCONFIG={fragment}', 'allnoconfig'])
    with open(os.path.join(objects, '.config'), encoding='utf-8') as file:
        refused = not_granted(wanted, file.read())
    if refused:
        raise packages.Unavailable(f'Linux for {recipe.name} does not take these lines of {FRAGMENTS}: '
                                   f'{", ".join(refused)}; what do they depend on?')
    log.run('compiling', [*command, f'-j{jobs}', *(os.path.basename(path) for path in recipe.outputs.values())])


class Log:
    """Runs programs; their output goes to a file, and to a terminal only that it goes on."""

    def __init__(self, path):
        self.path = path
        self.begin = time.monotonic()
        self.is_shown = sys.stderr.isatty()
        with open(path, 'wb'):
            pass

    def run(self, what, command):
        with open(self.path, 'a', buffering=1, encoding='utf-8', errors='replace') as log:
            try:
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                           stderr=subprocess.STDOUT, text=True, errors='replace',
                                           env={**os.environ, **FIXED}, start_new_session=True)
            except OSError as error:
                raise packages.Unavailable(f'{command[0]} does not run: {error.strerror}') from None
            with process:
                try:
                    for count, line in enumerate(process.stdout):
                        log.write(line)
                        self.show(f'{what}, {count} steps')
                except BaseException:  # interrupted: nothing goes on compiling without us
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGTERM)
                    raise
        if process.returncode != 0:
            self.end()
            with open(self.path, encoding='utf-8', errors='replace') as log:
                packages.say(''.join(log.readlines()[-FAILURE_LINES:]))
            raise packages.Unavailable(f'{what} Linux fails, see above and {self.path}')

    def show(self, text):
        if self.is_shown:
            print(f'\r{text}, {time.monotonic() - self.begin:.0f} s \033[K', end='', file=sys.stderr, flush=True)

    def end(self):
        if self.is_shown:
            print('\r\033[K', end='', file=sys.stderr, flush=True)
            self.is_shown = False


def main():
    parser = argparse.ArgumentParser(description='Builds the small kernels that are not in the cache yet.')
    parser.add_argument('--jobs', type=int, help='at a time; as many as there are processors')
    parser.add_argument('architecture', nargs='+', choices=sorted(RECIPES))
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):  # the compiler is ended on the way out
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    for name in arguments.architecture:
        print(built(name, arguments.jobs).directory, flush=True)


if __name__ == '__main__':
    try:
        main()
    except packages.Unavailable as problem:
        print(f'kernel: {problem}', file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
