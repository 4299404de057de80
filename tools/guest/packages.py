# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Debian packages without installing them: fetched, unpacked into a cache, and checked each time they are used.

Theory of operation. apt runs with its own state and cache directories, so that nothing on the machine changes and no
privilege is needed; the sources are the machine's own, or, for another release of Debian, the machine's own mirror with
that release's name. apt checks what it downloads against the signed index. A set of packages is unpacked into
CACHE/KIND/NAME and gets a manifest with the SHA-256 of every file; a set whose files do not fit its manifest any more
is thrown away and fetched again. It appears by one rename, so that a reader sees all of it or nothing.

Limits. Sets are never updated by themselves: delete the cache to get newer ones. Maintainer scripts do not run.
"""

import contextlib
import errno
import fcntl
import glob
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile

MANIFEST = '.manifest'
# What nobody runs or links, and what would only cost room and time at each check.
PRUNED = ('usr/share/doc', 'usr/share/man', 'usr/share/locale', 'usr/share/info', 'usr/share/icons',
          'usr/share/lintian', 'usr/share/bash-completion', 'usr/share/zoneinfo', 'var', 'usr/lib/systemd')
KEYRINGS = ('/usr/share/keyrings/debian-archive-keyring.gpg', '/usr/share/keyrings/debian-archive-keyring.pgp')
# A mirror that says nothing for so long is not going to.
APT_TIMEOUT_S = 900
# Lists, packages and what is unpacked from them take some 300 MiB; with less than this, apt tries in vain for a minute.
ROOM_BYTES_MIN = 128 << 20


class Unavailable(Exception):
    """What was asked for cannot be had here; the text says what, why and what to do, in one line."""


def cache_root():
    base = os.environ.get('XDG_CACHE_HOME') or os.path.join(os.path.expanduser('~'), '.cache')
    return os.path.join(base, 'backplane')


@contextlib.contextmanager
def writing_cache():
    """What the system refuses of the cache is Unavailable, with what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR):
            raise
        raise _no_cache(error.strerror) from None


def _no_cache(why):
    return Unavailable(f'{cache_root()} cannot keep what has to be fetched: {why}; set XDG_CACHE_HOME to a folder of '
                       'yours with 400 MiB of room')


def say(text):
    """Progress, for a person: what takes long is announced."""
    print(text, file=sys.stderr, flush=True)


def architecture():
    try:
        return subprocess.run(['dpkg', '--print-architecture'], check=True, capture_output=True,
                              text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        raise Unavailable('this is no Debian system (dpkg does not run); packages cannot be fetched') from None


def release():
    """The name of this machine's Debian release: bookworm, trixie, …"""
    with contextlib.suppress(OSError), open('/etc/os-release', encoding='utf-8') as file:
        for line in file:
            if line.startswith('VERSION_CODENAME='):
                return line.split('=', 1)[1].strip().strip('"')
    return 'unknown'


class Apt:
    """
    apt with a state of its own. suite None: the machine's own sources; foreign: an architecture, if not the machine's.
    """

    def __init__(self, suite=None, foreign=None):
        self.suite = suite
        self.foreign = foreign
        self.root = os.path.join(cache_root(), 'apt', '-'.join(filter(None, (suite or 'host', foreign))))
        self.updated = False
        self.problem = ''  # what the last update complained of

    def _options(self):
        options = {
            'Dir::State': f'{self.root}/state', 'Dir::State::status': f'{self.root}/status',
            'Dir::Cache': f'{self.root}/cache', 'Acquire::Languages': 'none', 'APT::Sandbox::User': '',
            'APT::Install-Recommends': 'false', 'Acquire::Retries': '3', 'Dir::Log': self.root,
            'Acquire::http::Timeout': '60',
        }
        if self.foreign:
            options['APT::Architecture'] = self.foreign
            options['APT::Architectures'] = self.foreign
        if self.suite:
            options['Dir::Etc::SourceList'] = f'{self.root}/sources.list'
            options['Dir::Etc::SourceParts'] = f'{self.root}/parts'
        return [argument for key, value in options.items() for argument in ('-o', f'{key}={value}')]

    def _run(self, *arguments, cwd=None):
        try:
            return subprocess.run([arguments[0], *self._options(), *arguments[1:]], capture_output=True, text=True,
                                  cwd=cwd, stdin=subprocess.DEVNULL, timeout=APT_TIMEOUT_S, check=False,
                                  env={**os.environ, 'LC_ALL': 'C.UTF-8', 'DEBIAN_FRONTEND': 'noninteractive'})
        except OSError as error:
            raise Unavailable(f'{arguments[0]} does not run: {error.strerror}; packages cannot be fetched') from None
        except subprocess.TimeoutExpired:
            raise Unavailable(f'{arguments[0]} got no answer for {APT_TIMEOUT_S} s; is the mirror reachable?') from None

    def _write_sources(self):
        """Another release, from the mirrors that this machine uses for its own."""
        targets = Apt()
        targets.update()
        text = targets._run('apt-get', 'indextargets', '--format', '$(ORIGIN)|$(LABEL)|$(REPO_URI)',
                            'Created-By: Packages').stdout
        mirrors = {}
        for line in text.splitlines():
            origin, label, uri = line.split('|', 2)
            if origin == 'Debian':
                mirrors.setdefault('security' if 'Security' in label else 'main', uri)
        if 'main' not in mirrors:
            raise Unavailable(f'Debian {self.suite}: no Debian mirror among this machine\'s apt sources')
        keyring = next((path for path in KEYRINGS if os.path.exists(path)), None)
        signed = f'[signed-by={keyring}] ' if keyring else ''
        lines = [f'deb {signed}{mirrors["main"]} {self.suite} main']
        if 'security' in mirrors:
            lines.append(f'deb {signed}{mirrors["security"]} {self.suite}-security main')
        with open(f'{self.root}/sources.list', 'w', encoding='utf-8') as file:
            file.write('\n'.join(lines) + '\n')

    def update(self):
        if not self.updated:
            with writing_cache():
                self._update()

    def _update(self):
        for name in ('state/lists/partial', 'cache/archives/partial', 'parts'):
            os.makedirs(os.path.join(self.root, name), exist_ok=True)
        with open(f'{self.root}/status', 'w', encoding='utf-8'):
            pass  # nothing is installed: every dependency is part of the set
        if self.suite:
            self._write_sources()
        free = shutil.disk_usage(self.root).free
        if free < ROOM_BYTES_MIN:
            raise _no_cache(f'{free >> 20} MiB are free')
        say(f'fetching the package lists of Debian {self.suite or release()} into {cache_root()}')
        # A strange repository that fails must not stop Debian's: what is missing is found out below.
        result = self._run('apt-get', 'update')
        self.problem = _last_line(result.stderr)
        self.updated = True

    def lacks(self, package):
        where = f'Debian {self.suite}' if self.suite else 'this machine\'s apt sources'
        why = f'; apt-get update says: {self.problem}' if self.problem else ''
        return Unavailable(f'cannot fetch {package}: not in {where}{why}')

    def dependencies(self, package):
        self.update()
        text = self._run('apt-cache', 'depends', '--no-recommends', '--no-suggests', package).stdout
        return re.findall(r'^\s*(?:Pre)?Depends: ([^<\s]+)$', text, re.M)

    def version(self, package):
        self.update()
        text = self._run('apt-cache', 'policy', package).stdout
        found = re.search(r'Candidate: (\S+)', text)
        if not found or found.group(1) == '(none)':
            raise self.lacks(package)
        return found.group(1)

    def download(self, packages, directory, closed):
        """Get @packages, with all they depend on where @closed, as .deb files in @directory."""
        self.update()
        if closed:
            result = self._run('apt-get', '-y', '-d', '-o', f'Dir::Cache::archives={directory}', '-o',
                               'Debug::NoLocking=1', 'install', *packages)
        else:
            result = self._run('apt-get', 'download', *packages, cwd=directory)
        if result.returncode != 0:
            raise Unavailable(f'{" ".join(packages)}: download failed: {_last_line(result.stderr)}')


def _last_line(text):
    """The line of a program's complaints that says most: the last error, or else the cause of a warning."""
    lines = text.splitlines()
    best = ([line for line in lines if line.startswith(('E:', 'Err'))] or
            [line for line in lines if line.startswith('W: Failed')] or lines)
    return best[-1].strip() if best else ''


def _files(root):
    for directory, names, files in os.walk(root):
        names.sort()
        for name in sorted(files):
            path = os.path.join(directory, name)
            if not os.path.islink(path) and os.path.isfile(path):
                yield path


def _digest(path):
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def write_manifest(root):
    with open(os.path.join(root, MANIFEST), 'w', encoding='utf-8') as manifest:
        for path in _files(root):
            if os.path.basename(path) != MANIFEST:
                manifest.write(f'{_digest(path)}  {os.path.relpath(path, root)}\n')
        manifest.write('end\n')


def is_sound(root):
    """Does every file of the manifest have the content it had when the set was made?"""
    try:
        with open(os.path.join(root, MANIFEST), encoding='utf-8') as manifest:
            lines = manifest.read().splitlines()
        if not lines or lines[-1] != 'end':
            return False
        return all(_digest(os.path.join(root, line[66:])) == line[:64] for line in lines[:-1])
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def locked(path):
    """One maker at a time; the others wait, and then find the set there."""
    with writing_cache():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w', encoding='utf-8') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def publish(kind, name, make):
    """CACHE/KIND/NAME, made by @make(directory) unless a sound one is there."""
    base = os.path.join(cache_root(), kind)
    target = os.path.join(base, name)
    with locked(os.path.join(base, '.lock')):
        if is_sound(target):
            return target
        was_damaged = os.path.isdir(target)
        shutil.rmtree(target, ignore_errors=True)
        scratch = tempfile.mkdtemp(prefix='.making-', dir=base)
        try:
            make(scratch)
            write_manifest(scratch)
            os.chmod(scratch, 0o755)
            os.rename(scratch, target)
        except Unavailable as problem:
            raise _after_damage(target, problem) if was_damaged else problem from None
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return target


def _after_damage(path, problem):
    return Unavailable(f'what was cached in {path} was damaged and has to be fetched again, which fails: {problem}')


def unpack(apt, packages, directory, closed):
    """Unpack @packages, with all they depend on where @closed, into @directory, which is inside the cache."""
    # apt's own state is shared by the kinds of sets, so it has a lock of its own.
    with (locked(os.path.join(cache_root(), 'apt', '.lock')),
          tempfile.TemporaryDirectory(prefix='.debs-', dir=os.path.dirname(directory)) as debs):
        os.makedirs(os.path.join(debs, 'partial'))
        apt.download(packages, debs, closed)
        for deb in sorted(glob.glob(os.path.join(debs, '*.deb'))):
            result = subprocess.run(['dpkg-deb', '-x', deb, directory], capture_output=True, text=True, check=False)
            if result.returncode != 0:
                raise Unavailable(f'{os.path.basename(deb)}: cannot be unpacked: {_last_line(result.stderr)}')
    for name in PRUNED:
        shutil.rmtree(os.path.join(directory, name), ignore_errors=True)


def package_set(kind, packages, suite=None, closed=True, foreign=None):
    """The directory in which @packages are unpacked. A sound one in the cache is taken without asking the network."""
    digest = hashlib.sha256(' '.join(packages).encode()).hexdigest()[:12]
    key = f'{suite or release()}-{foreign or architecture()}-{digest}'

    def make(directory):
        say(f'fetching {" ".join(packages)} of Debian {suite or release()}, once, into {cache_root()}')
        unpack(Apt(None if suite == release() else suite, foreign), packages, directory, closed)

    return publish(kind, key, make)


def version_key(name):
    return [int(part) if part.isdigit() else part for part in re.split(r'(\d+)', name)]


def kernel():
    """
    Debian's kernel for virtual machines: (image, directory of its modules, version). The newest sound one in the cache,
    or else the one that the machine's apt sources have.
    """
    base = os.path.join(cache_root(), 'kernel')
    found = glob.glob(os.path.join(base, f'*_{architecture()}'))
    for path in sorted(found, key=version_key, reverse=True):
        if is_sound(path):
            return _kernel_in(path)

    with locked(os.path.join(base, '.lock')):
        for path in found:
            if not is_sound(path):
                shutil.rmtree(path, ignore_errors=True)
    try:
        return _kernel_in(_fetch_kernel())
    except Unavailable as problem:
        raise _after_damage(found[0], problem) if found else problem from None


def _fetch_kernel():
    apt = Apt()
    meta = f'linux-image-cloud-{architecture()}'
    real = next((name for name in apt.dependencies(meta) if name.startswith('linux-image-')), None)
    if real is None:
        raise apt.lacks(meta)

    def make(directory):
        say(f'fetching {real}, once, into {cache_root()}')
        unpack(apt, [real], directory, closed=False)

    return publish('kernel', f'{real}_{apt.version(real)}_{architecture()}', make)


def _kernel_in(path):
    images = glob.glob(os.path.join(path, 'boot', 'vmlinu[xz]-*'))
    modules = glob.glob(os.path.join(path, 'lib/modules/*')) + glob.glob(os.path.join(path, 'usr/lib/modules/*'))
    if len(images) != 1 or len(modules) != 1:
        raise Unavailable(f'{path}: not one kernel with its modules; delete the folder and try again')
    return images[0], modules[0], os.path.basename(modules[0])


def loader(root):
    """How to run a program of the unpacked set @root with the set's own libraries: the arguments before its path."""
    triplets = [os.path.basename(os.path.dirname(path)) for path in glob.glob(f'{root}/usr/lib/*-linux-gnu*/libc.so.6')
                + glob.glob(f'{root}/lib/*-linux-gnu*/libc.so.6')]
    linkers = [path for pattern in ('usr/lib/*-linux-gnu*', 'lib/*-linux-gnu*', 'usr/lib64', 'lib64')
               for path in glob.glob(f'{root}/{pattern}/ld-linux-*.so.*') if os.path.isfile(path)]
    if not triplets or not linkers:
        raise Unavailable(f'{root}: holds no C library; delete the folder and try again')
    return [os.path.realpath(linkers[0]), '--library-path', ':'.join(library_directories(root))]


def library_directories(root):
    found = glob.glob(f'{root}/lib/*-linux-gnu*') + glob.glob(f'{root}/usr/lib/*-linux-gnu*')
    # Some libraries sit one level deeper and are found by ld.so.conf on an installed system.
    deeper = {os.path.dirname(path) for directory in found for path in glob.glob(f'{directory}/*/lib*.so.*')
              if 'qemu' not in path}
    return found + sorted(deeper)


def program(root, name):
    """The arguments that run program @name of the unpacked set @root."""
    for directory in ('usr/bin', 'usr/sbin', 'bin', 'sbin'):
        path = os.path.join(root, directory, name)
        if os.path.isfile(path):
            return [*loader(root), path]
    raise Unavailable(f'{name}: not in {root}')
