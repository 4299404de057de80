# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What a guest boots: an initramfs with the drivers it needs, and an ext4 root for a disk.

Theory of operation. The initramfs holds busybox, tests/guest/init and the kernel's modules for the devices in question,
each with what it depends on (read from the modules themselves: an unpacked kernel package has no modules.dep). init
loads them in order, mounts /dev/vda and goes on there. The root is busybox, e2fsprogs and util-linux with the libraries
they need, and tests/guest/guest as its first process. Both are made from unpacked packages, without privilege: cpio is
written here, ext4 by mke2fs -d. They are cached by the content of all that went into them.
"""

import glob
import hashlib
import lzma
import os
import re
import shutil
import subprocess
import sys
import tempfile

import packages

HERE = os.path.dirname(os.path.abspath(__file__))
GUEST_SIDE = os.path.join(HERE, '..', '..', 'tests', 'guest')

# A name here may be built into the kernel, or missing where the guest can do without.
MODULES = ('virtio_pci', 'virtio_blk', 'virtio_rng', 'crc32c_generic', 'ext4')
ROOT_PACKAGES = ['busybox-static', 'e2fsprogs', 'util-linux']
# Ours: tests/guest/NAME, and where it goes.
ROOT_FILES = {'guest': 'sbin', 'profile': 'etc', 'welcome': 'etc'}
# busybox has its own of most; these are the ones that know more.
ROOT_PROGRAMS = ('mke2fs', 'e2fsck', 'blkdiscard', 'fstrim')
# Room for the programs (some 10 MB) and for what tests write.
ROOT_BYTES = 64 << 20


def root_packages():
    return packages.package_set('root', ROOT_PACKAGES)


def host_program(name):
    """A program of the guest's root, to be run on the host: mke2fs, e2fsck, debugfs."""
    return packages.program(root_packages(), name)


def _module_bytes(path):
    with open(path, 'rb') as file:
        content = file.read()
    return lzma.decompress(content) if path.endswith('.xz') else content


def _module_name(path):
    return re.sub(r'\.ko(\.xz)?$', '', os.path.basename(path)).replace('-', '_')


def modules_in_order(directory):
    """[(name, content)] of MODULES and what they depend on, each after its own dependencies."""
    paths = {_module_name(path): path for pattern in ('**/*.ko', '**/*.ko.xz')
             for path in glob.glob(os.path.join(directory, pattern), recursive=True)}
    ordered = {}

    def add(name):
        if name in ordered or name not in paths:
            return
        content = _module_bytes(paths[name])
        # .modinfo: strings of the form key=value, each ended by a zero byte
        found = re.search(rb'\0depends=([^\0]*)\0', content)
        soft = re.findall(rb'\0softdep=pre: ([^\0]*)\0', content)
        for text in [found.group(1) if found else b''] + soft:
            for needed in re.split(r'[ ,]+', text.decode()):
                add(needed.replace('-', '_'))
        ordered[name] = content

    for name in MODULES:
        add(name)
    return list(ordered.items())


class Cpio:
    """A writer of the "newc" format, as far as an initramfs needs it."""

    def __init__(self):
        self.content = bytearray()
        self.count = 0

    def add(self, name, mode, data=b'', device=(0, 0)):
        self.count += 1
        encoded = name.encode() + b'\0'
        fields = (self.count, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0)
        self.content += b'070701' + b''.join(b'%08X' % field for field in fields)
        for part in (encoded, data):
            self.content += part
            self.content += bytes(-len(self.content) % 4)

    def directory(self, name):
        self.add(name, 0o40755)

    def file(self, name, data, mode=0o644):
        self.add(name, 0o100000 | mode, data)

    def finish(self):
        self.add('TRAILER!!!', 0)
        return bytes(self.content)


def _read(path):
    with open(path, 'rb') as file:
        return file.read()


def _busybox():
    root = root_packages()
    for name in ('bin/busybox', 'usr/bin/busybox'):
        if os.path.isfile(os.path.join(root, name)):
            return os.path.join(root, name)
    raise packages.Unavailable(f'{root}: holds no busybox; delete the folder and try again')


def _key(*parts):
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:16]


def initramfs(module_directory):
    """The path of an initramfs for the kernel whose modules are in @module_directory."""
    init = _read(os.path.join(GUEST_SIDE, 'init'))
    key = _key(_read(__file__), init, module_directory.encode())

    def make(directory):
        modules = modules_in_order(module_directory)
        cpio = Cpio()
        for name in ('bin', 'dev', 'modules', 'proc', 'root', 'sys'):
            cpio.directory(name)
        cpio.add('dev/console', 0o20600, device=(5, 1))
        cpio.file('bin/busybox', _read(_busybox()), 0o755)
        cpio.file('init', init, 0o755)
        for number, (name, content) in enumerate(modules):
            cpio.file(f'modules/{number:02}-{name}.ko', content)
        with open(os.path.join(directory, 'initramfs'), 'wb') as file:
            file.write(cpio.finish())

    return os.path.join(packages.publish('initramfs', key, make), 'initramfs')


def _libraries(root, path):
    """The shared libraries that @path needs, with the loader, as paths inside @root."""
    listing = subprocess.run([*packages.loader(root)[:1], '--list', *packages.loader(root)[1:], path],
                             capture_output=True, text=True, check=True).stdout
    found = set()
    for candidate in re.findall(r' => (/.+) \(0x', listing):  # the loader has no arrow
        real = os.path.realpath(candidate)
        if real.startswith(os.path.realpath(root) + '/'):
            found.add(candidate)
    return found


def _interpreter(path):
    """The path under which program @path wants its loader: the PT_INTERP string."""
    found = re.search(rb'/lib[0-9a-z]*/ld-linux[-0-9a-z_]*\.so\.\d', _read(path)[:4096])
    if not found:
        raise packages.Unavailable(f'{path}: names no loader')
    return found.group(0).decode()


def _fill_root(target):
    root = root_packages()
    for name in ('bin', 'lib', 'dev', 'proc', 'sys', 'tmp', 'mnt', 'root', 'etc', 'sbin'):
        os.makedirs(os.path.join(target, name))
    shutil.copy(_busybox(), os.path.join(target, 'bin/busybox'))
    libraries = set()
    for name in ROOT_PROGRAMS:
        path = packages.program(root, name)[-1]
        shutil.copy(path, os.path.join(target, 'sbin', name))
        libraries |= _libraries(root, path)
        interpreter = os.path.join(target, _interpreter(path).lstrip('/'))
        os.makedirs(os.path.dirname(interpreter), exist_ok=True)
        shutil.copy(packages.loader(root)[0], interpreter)
    for path in libraries:
        shutil.copy(path, os.path.join(target, 'lib', os.path.basename(path)))  # follows the link to the library
    os.symlink('mke2fs', os.path.join(target, 'sbin/mkfs.ext4'))
    for name, place in ROOT_FILES.items():
        shutil.copy(os.path.join(GUEST_SIDE, name), os.path.join(target, place, name))
    os.chmod(os.path.join(target, 'sbin/guest'), 0o755)


def root_image():
    """The path of an ext4 image, to be copied: a small Linux whose first process is tests/guest/guest."""
    sides = [_read(os.path.join(GUEST_SIDE, name)) for name in ROOT_FILES]
    key = _key(_read(__file__), *sides, root_packages().encode())

    def make(directory):
        with tempfile.TemporaryDirectory(prefix='.tree-', dir=os.path.dirname(directory)) as tree:
            _fill_root(tree)
            image = os.path.join(directory, 'root.img')
            result = subprocess.run([*host_program('mke2fs'), '-q', '-t', 'ext4', '-L', 'backplane-root', '-E',
                                     'root_owner=0:0', '-d', tree, image, f'{ROOT_BYTES >> 10}k'],
                                    capture_output=True, text=True, check=False)
            if result.returncode != 0:
                raise packages.Unavailable(f'mke2fs cannot make the guest\'s root: {result.stderr.strip()}')

    return os.path.join(packages.publish('disk', key, make), 'root.img')


def copy_sparse(source, target):
    result = subprocess.run(['cp', '--sparse=always', source, target], capture_output=True, text=True, check=False,
                            env={**os.environ, 'LC_ALL': 'C.UTF-8'})
    if result.returncode != 0:
        reason = result.stderr.strip().rsplit(': ', 1)[-1]
        raise packages.Unavailable(f'{target} cannot be written: {reason}; set TMPDIR to a folder with more room')


def create_sparse(path, size):
    with open(path, 'xb') as file:
        file.truncate(size)


if __name__ == '__main__':
    print(initramfs(packages.kernel()[1]))
    print(root_image())
    sys.exit(0)
