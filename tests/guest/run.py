#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""
Real front ends at our devices: Linux guests in QEMU with their root on our disk, and libblkio. TAP on standard output.

Theory of operation. A chapter is a life of the daemons; in it guests boot, and each boot serves many cases, since
booting is what takes long. A case is a sentence and a function; it fails by an exception. A chapter that cannot go on
(no boot, say) fails by name, and the next one begins. What a machine cannot have is skipped with the reason.
"""

import argparse
import contextlib
import hashlib
import os
import platform
import signal
import subprocess
import sys
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', '..', 'tools', 'guest'))

import image  # noqa: E402
import machine  # noqa: E402
import packages  # noqa: E402
from machine import Failed  # noqa: E402

MIB = 1 << 20
DATA_BYTES = 128 * MIB
RAW_BYTES = 64 * MIB
LOCKED_BYTES = 8 * MIB
SHORT_BYTES = 32 * MIB
# The host gives no room past this, as a full disk would.
SHORT_ROOM_BYTES = 16 * MIB
SERIAL = 'guest-test-0123456'
QUEUES = 4
# A multiple of the 128 MiB that x86-64 Linux plugs at a time.
HOTPLUG_MIB = 256


class Report:
    """TAP, case by case."""

    def __init__(self, only):
        self.count = 0
        self.failures = 0
        self.only = only
        self.chapter = ''

    def _line(self, verdict, sentence, directive=''):
        self.count += 1
        print(f'{verdict} {self.count} - {sentence.replace("#", "no.")}{directive}', flush=True)

    def passed(self, sentence):
        self._line('ok', f'{self.chapter}: {sentence}')

    def failed(self, sentence, error):
        self.failures += 1
        self._line('not ok', f'{self.chapter}: {sentence}')
        lines = [str(error)]
        if isinstance(error, Failed):
            lines += error.detail.splitlines()
        elif not isinstance(error, (AssertionError, packages.Unavailable)):
            lines += traceback.format_exc().splitlines()
        for line in lines:
            print(f'# {line}', flush=True)

    def skipped(self, sentence, reason):
        self._line('ok', f'{self.chapter}: {sentence}', f' # SKIP {reason}')

    @contextlib.contextmanager
    def case(self, sentence):
        try:
            yield
        except (Failed, AssertionError, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
            self.failed(sentence, error)
        else:
            self.passed(sentence)

    def run_chapter(self, name, function, *arguments):
        if self.only and self.only not in name:
            return
        self.chapter = name
        try:
            function(self, *arguments)
        except packages.Unavailable as error:
            self.skipped('runs here', error)
        except (Failed, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
            self.failed('runs to its end', error)

    def finish(self):
        print(f'1..{self.count}', flush=True)
        return 1 if self.failures else 0


def expect(is_so, text):
    if not is_so:
        raise AssertionError(text)


def allocated(path):
    return os.stat(path).st_blocks * 512


def digest(path):
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


class World:
    """Disk images, the daemons that serve them, and a QEMU to boot with."""

    def __init__(self, stage, qemu, program):
        self.stage = stage
        self.qemu = qemu
        self.program = program
        self.kernel = packages.kernel()
        self.processors = QUEUES if machine.emulates_processors(qemu, self.kernel) else 1
        self.daemons = {}
        image.copy_sparse(image.root_image(), self.path('root'))
        for name, size in (('data', DATA_BYTES), ('raw', RAW_BYTES), ('short', SHORT_BYTES)):
            image.create_sparse(self.path(name), size)
        with open(self.path('locked'), 'wb') as file:
            for number in range(LOCKED_BYTES // 4096):
                file.write(number.to_bytes(8, 'little') * 512)

    def path(self, name):
        return self.stage.path(f'{name}.img')

    def serve(self, engine):
        def disk(name, *options, **arguments):
            return machine.Disk(self.stage, self.path(name), name, self.program,
                                options=(f'--engine={engine}', *options), **arguments)

        self.daemons = {
            'root': disk('root'),
            'data': disk('data', f'--serial={SERIAL}', queues=QUEUES),
            'locked': disk('locked', '--read-only', '--serial=locked'),
            'raw': disk('raw', '--serial=raw'),
            'short': disk('short', '--serial=short', file_size_max=SHORT_ROOM_BYTES),
            'rng': machine.Entropy(self.stage, 'rng', self.program),
        }

    def serve_packed(self):
        def disk(name, *options):
            return machine.Disk(self.stage, self.path(name), name, self.program, queues=QUEUES, options=options)

        self.daemons = {
            'root': disk('root'),
            'data': disk('data'),
            'rng': machine.Entropy(self.stage, 'rng', self.program, options=['--packed-ring']),
        }

    def replace(self, name):
        """Kill the daemon of disk @name, and start another one."""
        self.daemons[name].kill()
        self.daemons[name] = machine.Disk(self.stage, self.path(name), name, self.program, queues=QUEUES)

    def disks(self):
        return [self.daemons[name] for name in ('root', 'data', 'locked', 'raw', 'short') if name in self.daemons]

    def boot(self, **options):
        return machine.Guest(self.stage, self.qemu, self.kernel, self.disks(), self.daemons['rng'], **options)

    def stop(self):
        for daemon in self.daemons.values():
            daemon.stop()
        self.daemons = {}

    def expect_alive(self):
        for name, daemon in self.daemons.items():
            expect(daemon.is_alive(), f'backplane {name} ended: {machine.tail(daemon.log)}')

    def expect_clean(self, name):
        result = subprocess.run([*image.host_program('e2fsck'), '-f', '-n', self.path(name)], capture_output=True,
                                text=True, check=False)
        expect(result.returncode == 0, f'e2fsck of {name}: {result.stdout}')


# ---- cases, each on a guest that has booted

def sees_its_devices(report, guest):
    with report.case('the root file system is on our disk'):
        expect('/dev/vda / ext4' in guest.run('cat /proc/mounts'), 'another root')
    with report.case('the disk has the size, the block size and the serial number that were given'):
        expect(guest.run('blockdev --getsize64 /dev/vdb') == str(DATA_BYTES), 'another size')
        expect(guest.run('cat /sys/block/vdb/queue/logical_block_size') == '512', 'another block size')
        expect(guest.run('cat /sys/block/vdb/serial') == SERIAL, 'another serial number')


def reads_entropy(report, guest):
    with report.case('two reads of entropy differ'):
        expect(guest.run('cat /sys/class/misc/hw_random/rng_current').startswith('virtio_rng'), 'another source')
        reads = [guest.run('entropy 32') for _ in range(2)]
        expect(all(len(read) == 64 for read in reads), f'short reads: {reads}')
        expect(reads[0] != reads[1] and '0' * 64 not in reads, f'equal or empty: {reads}')


def keeps_files(report, guest, name, count=6, kib=1500):
    with report.case('files written, synced and read back from the disk have their checksums'):
        guest.run(f'write_files /mnt/{name} {count} {kib}')
        expect(guest.run(f'check_files /mnt/{name}').split()[0] == str(count), 'files are missing')


def still_has_files(report, guest, names, occasion, replay_journal=False):
    with report.case(f'the file system is clean after {occasion}'):
        if replay_journal:  # 1: it has done so
            guest.run('e2fsck -p /dev/vdb; [ $? -le 1 ]')
        guest.run('e2fsck -f -n /dev/vdb')
    with report.case(f'the files have their checksums after {occasion}'):
        guest.run('mkdir -p /mnt && mount -t ext4 /dev/vdb /mnt')
        for name in names:
            guest.run(f'check_files /mnt/{name}')


def switches_its_cache(report, guest):
    with report.case('the guest turns the disk\'s write cache off and on again, and data arrives either way'):
        for kind in ('write through', 'write back'):
            guest.run(f'echo {kind} >/sys/block/vdb/cache_type')
            expect(guest.run('cat /sys/block/vdb/cache_type') == kind, f'the cache is not {kind}')
            guest.run('write_files /mnt/cache 2 500 && check_files /mnt/cache && rm -r /mnt/cache')


def uses_every_queue(report, guest, disk):
    sentence = 'four processors use four queues'
    if guest.run('nproc') != str(QUEUES):
        report.skipped(sentence, 'this QEMU does not emulate several processors well enough for this kernel')
        return
    with report.case(sentence):
        expect(guest.run('ls /sys/block/vdb/mq | wc -l') == str(QUEUES), 'fewer queues in the guest')

        def served():
            return {queue['index']: queue['popped'] for queue in disk.ctl('stats')['queues']}

        before = served()
        guest.run('traffic /dev/vdb 40')
        after = served()
        idle = [index for index in range(QUEUES) if after.get(index, 0) - before.get(index, 0) < 20]
        expect(not idle, f'queues with hardly a request: {idle}: {before}, then {after}')


def honours_read_only(report, guest, disk):
    with report.case('a read-only disk is one in the guest, refuses writes, and is read as it is'):
        before = digest(disk.image)
        expect(guest.run('blockdev --getro /dev/vdc') == '1', 'the guest takes it for writable')
        guest.refuses('dd if=/dev/zero of=/dev/vdc bs=4k count=1')
        guest.run('blockdev --setrw /dev/vdc 2>/dev/null || true')
        guest.refuses('dd if=/dev/zero of=/dev/vdc bs=4k count=1 oflag=direct')
        expect(guest.run('sha256sum </dev/vdc').split()[0] == before, 'the guest reads something else')
        expect(digest(disk.image) == before, 'the image has changed')


def discards_free_space(report, guest, disk):
    with report.case('discarding what a file system does not use shrinks the image'):
        guest.run('pattern 32768 >/mnt/big && sync')
        full = allocated(disk.image)
        guest.run('rm /mnt/big && sync && fstrim /mnt')
        freed = full - allocated(disk.image)
        expect(freed >= 24 * MIB, f'only {freed} bytes became free')


def writes_zeroes(report, guest, disk):
    with report.case('the device writes zeroes, and only where it should'):
        expect(int(guest.run('cat /sys/block/vdd/queue/write_zeroes_max_bytes')) > 0, 'the feature is missing')
        guest.run('write_raw /dev/vdd 0 4096 && blkdiscard -z -o 1M -l 2M /dev/vdd')
        with open(disk.image, 'rb') as file:
            content = file.read(4 * MIB)
        expect(content[MIB:3 * MIB] == bytes(2 * MIB), 'the range is not zeroes')
        kept = (b'backplane\n' * (4 * MIB // 10 + 1))[:4 * MIB]
        expect(content[:MIB] == kept[:MIB] and content[3 * MIB:] == kept[3 * MIB:], 'data beside it is lost')
        expect(guest.run('dd if=/dev/vdd bs=1M skip=1 count=2 iflag=direct 2>/dev/null | tr -d "\\0" | wc -c') == '0',
               'the guest reads something else')
    with report.case('discarding a range of a raw disk frees it in the image'):
        guest.run('write_raw /dev/vdd 8192 8192')
        full = allocated(disk.image)
        guest.run('blkdiscard -o 8M -l 8M /dev/vdd')
        freed = full - allocated(disk.image)
        expect(freed >= 7 * MIB, f'only {freed} bytes became free')


def grows_online(report, guest, disk):
    with report.case('a disk that grows is seen to grow, without a restart, and its new end holds data'):
        size = os.stat(disk.image).st_size + 16 * MIB
        os.truncate(disk.image, size)
        disk.ctl('resize')
        guest.wait_for('cat /sys/block/vdd/size', str(size // 512))
        guest.run(f'write_raw /dev/vdd {(size - MIB) >> 10} 1024')
        with open(disk.image, 'rb') as file:
            file.seek(size - MIB)
            expect(file.read(20) == b'backplane\nbackplane\n', 'the new end did not reach the image')


def survives_disk_errors(report, guest, disk):
    with report.case('a write for which the host has no room fails in the guest, which lives on and loses nothing'):
        guest.run('write_raw /dev/vde 4096 1024')
        output = guest.refuses(f'write_raw /dev/vde {SHORT_ROOM_BYTES >> 10} 1024; '
                               f'dd if=/dev/zero of=/dev/vde bs=64k count=1 seek={SHORT_ROOM_BYTES >> 16} oflag=direct')
        expect('Input/output error' in output, f'another error: {output}')
        guest.run('write_raw /dev/vde 8192 1024')
        expect(disk.is_alive(), 'the daemon ended')
        expect(guest.run('dd if=/dev/vde bs=1M skip=4 count=1 iflag=direct 2>/dev/null | head -c 10') == 'backplane',
               'what was written before is lost')


def changes_memory_at_run_time(report, guest):
    if platform.machine() == 'aarch64':
        guest.run('write_files /mnt/plugged 4 4000')
        report.skipped('memory is plugged in and unplugged at run time', 'QEMU plugs memory on arm64 only with UEFI')
        return
    with report.case('memory that is plugged in while the guest runs is used for I/O'):
        before = int(guest.run('memory_kib'))
        with guest.monitor() as monitor:
            monitor.command('object-add', **{'qom-type': 'memory-backend-memfd', 'id': 'more',
                                             'size': HOTPLUG_MIB * MIB, 'share': True})
            monitor.command('device_add', driver='pc-dimm', id='dimm', memdev='more')
        wanted = before + (HOTPLUG_MIB - 64) * 1024
        guest.wait_for(f'[ "$(memory_kib)" -ge {wanted} ] && echo more || memory_kib', 'more')
        # The new memory is in the zone for movable pages, which the page cache takes from first.
        guest.run('write_files /mnt/plugged 4 4000 && check_files /mnt/plugged')
    with report.case('memory that is unplugged under I/O is given back, and the disk goes on'):
        guest.run('busy /dev/vdb & busy=$!')
        with guest.monitor() as monitor:
            monitor.command('device_del', id='dimm')
            guest.wait_for(f'[ "$(memory_kib)" -lt {wanted} ] && echo less || memory_kib', 'less')
            monitor.wait_until(lambda: not monitor.command('query-memory-devices'), 'the memory does not go')
            monitor.command('object-del', id='more')
        guest.run('kill $busy; wait $busy; check_files /mnt/plugged')


def is_killed_under_load(report, guest, world):
    with report.case('QEMU is killed while the guest writes, and the daemons live on'):
        guest.send('while :; do dd if=/dev/zero of=/mnt/load bs=64k count=32 conv=fsync 2>/dev/null; echo wrote; done')
        guest.wait_for_lines('wrote', 3)
        guest.kill()
        world.expect_alive()


def has_packed_rings(report, guest, device, is_so):
    # One character a bit of the negotiated features.
    with report.case(f'{device}: the ring is {"packed" if is_so else "split"}'):
        expect(guest.run(f'cut -c35 {device}/features') == ('1' if is_so else '0'), 'it is not')


def goes_on_after_a_pause(report, guest):
    with report.case('a machine that pauses and goes on finds its rings where they were'):
        for _ in range(3):
            with guest.monitor() as monitor:
                monitor.command('stop')
                monitor.command('cont')
            guest.run('write_files /mnt/paused 2 300 && check_files /mnt/paused')
            guest.run('entropy 32')


def goes_on_with_a_new_daemon(report, guest, world, name):
    with report.case('a daemon that is killed while the guest writes is replaced, and the guest goes on'):
        for life in range(2):
            guest.send(f'write_files /mnt/killed{life} 8 1000 && echo written')
            world.replace(name)
            status, output = guest.result()
            expect(status == 0 and output == 'written', f'the guest could not write: {output}')
            expect(guest.run(f'check_files /mnt/killed{life}').split()[0] == '8', 'files are missing')


# ---- chapters

def guests(report, qemu, program, engines):
    """One set of images, served by one engine after the other."""
    lives = {'uring': first_life, 'plain': second_life}
    with machine.Stage() as stage:
        world = World(stage, qemu, program)
        for engine in engines:
            report.chapter = f'QEMU {qemu.version}, {engine}'
            world.serve(engine)
            lives[engine](report, world)


def first_life(report, world):
    data, locked, raw, short = (world.daemons[name] for name in ('data', 'locked', 'raw', 'short'))
    guest = world.boot(processors=world.processors, hotplug=True)
    sees_its_devices(report, guest)
    reads_entropy(report, guest)
    guest.run('make_filesystem /dev/vdb /mnt')
    keeps_files(report, guest, 'first')
    switches_its_cache(report, guest)
    uses_every_queue(report, guest, data)
    honours_read_only(report, guest, locked)
    discards_free_space(report, guest, data)
    writes_zeroes(report, guest, raw)
    grows_online(report, guest, raw)
    survives_disk_errors(report, guest, short)
    changes_memory_at_run_time(report, guest)
    guest.reboot()
    still_has_files(report, guest, ['first', 'plugged'], 'a reboot of the guest')
    reads_entropy(report, guest)
    guest.quit()

    guest = world.boot()
    still_has_files(report, guest, ['first', 'plugged'], 'a restart of QEMU')
    keeps_files(report, guest, 'second')
    is_killed_under_load(report, guest, world)

    guest = world.boot()
    still_has_files(report, guest, ['first', 'plugged', 'second'], 'QEMU was killed', replay_journal=True)
    guest.quit()
    with report.case('the daemons end in order, and the images are clean on the host'):
        world.stop()
        world.expect_clean('root')
        world.expect_clean('data')


def second_life(report, world):
    data, locked, raw, short = (world.daemons[name] for name in ('data', 'locked', 'raw', 'short'))
    guest = world.boot(processors=world.processors)
    still_has_files(report, guest, ['first', 'plugged', 'second'], 'a restart of the daemons')
    keeps_files(report, guest, 'third')
    uses_every_queue(report, guest, data)
    honours_read_only(report, guest, locked)
    discards_free_space(report, guest, data)
    writes_zeroes(report, guest, raw)
    grows_online(report, guest, raw)
    survives_disk_errors(report, guest, short)
    guest.quit()
    with report.case('the daemons end in order, and the images are clean on the host'):
        world.stop()
        world.expect_clean('root')
        world.expect_clean('data')


def packed_guests(report, qemu, program):
    """Packed rings: QEMU's option, and for the entropy ours."""
    with machine.Stage() as stage:
        world = World(stage, qemu, program)
        world.serve_packed()
        guest = world.boot(packed=True, reconnect=True)
        has_packed_rings(report, guest, '/sys/block/vda/device', True)
        has_packed_rings(report, guest, '/sys/block/vdb/device', True)
        has_packed_rings(report, guest, guest.run('echo /sys/bus/virtio/drivers/virtio_rng/virtio*'), True)
        reads_entropy(report, guest)
        guest.run('make_filesystem /dev/vdb /mnt')
        keeps_files(report, guest, 'first')
        goes_on_after_a_pause(report, guest)
        goes_on_with_a_new_daemon(report, guest, world, 'data')
        guest.reboot()
        still_has_files(report, guest, ['first', 'paused', 'killed0', 'killed1'], 'a reboot of the guest')
        reads_entropy(report, guest)
        guest.quit()
        with report.case('the daemons end in order, and the images are clean on the host'):
            world.stop()
            world.expect_clean('root')
            world.expect_clean('data')


def other_packed_guests(report, suite, program):
    packed_guests(report, machine.qemu_of(suite), program)


def other_guests(report, suite, program, engines):
    """The same with the QEMU of another Debian release."""
    guests(report, machine.qemu_of(suite), program, engines)


def libblkio(report, program):
    """libblkio's own virtio driver, by our program and by QEMU's block layer on top of it."""
    root = machine.qemu_set('trixie')
    environment = {**os.environ, **machine.qemu_environment(root)}
    for engine in ('uring', 'plain'):
        with machine.Stage() as stage:
            path = stage.path('blkio.img')
            image.create_sparse(path, RAW_BYTES)
            disk = machine.Disk(stage, path, 'blkio', program, queues=QUEUES, options=[f'--engine={engine}'])
            with report.case(f'libblkio writes, reads, zeroes and discards over four queues, {engine}'):
                checker = compile_libblkio_check(stage, root)
                run_quietly([*packages.loader(root), checker, disk.socket_path], environment)
            with report.case(f'QEMU\'s block layer over libblkio writes, reads, zeroes and discards, {engine}'):
                options = f'driver=virtio-blk-vhost-user,path={disk.socket_path},cache.direct=on,discard=unmap'
                run_quietly([*packages.program(root, 'qemu-io'), '--image-opts', options,
                             '-c', 'write -P 0x5a 1M 2M', '-c', 'aio_write -P 0x21 8M 64k',
                             '-c', 'aio_write -P 0x22 9M 64k', '-c', 'aio_flush', '-c', 'flush',
                             '-c', 'read -P 0x5a 1M 2M', '-c', 'read -P 0x21 8M 64k', '-c', 'read -P 0x22 9M 64k',
                             '-c', 'write -z 1M 512k', '-c', 'read -P 0 1M 512k', '-c', 'read -P 0x5a 1536k 512k',
                             '-c', 'discard 2M 1M', '-c', 'read -P 0x5a 1536k 512k'], environment)
                with open(path, 'rb') as file:
                    file.seek(MIB)
                    content = file.read(MIB)
                expect(content == bytes(512 << 10) + b'\x5a' * (512 << 10), 'the image holds something else')
            disk.stop()


def compile_libblkio_check(stage, root):
    target = stage.path('libblkio_check')
    libraries = [f'-L{path}' for path in packages.library_directories(root)]
    # Its C library is newer than the one we compile with, and is there when it runs.
    run_quietly(['cc', '-std=c17', '-D_GNU_SOURCE', '-O1', '-Wall', '-Wextra', '-isystem', f'{root}/usr/include',
                 '-o', target, os.path.join(HERE, 'libblkio_check.c'), *libraries, '-lblkio',
                 '-Wl,--allow-shlib-undefined'], os.environ)
    return target


def run_quietly(command, environment):
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False,
                            timeout=machine.COMMAND_TIMEOUT_S)
    output = result.stdout + result.stderr
    if result.returncode != 0 or 'verification failed' in output:
        raise Failed(f'{" ".join(command[-4:])} ended with status {result.returncode}', output[-3000:])


def main():
    parser = argparse.ArgumentParser(description='Real guests at our devices; TAP on standard output.')
    parser.add_argument('--long', action='store_true', help='both engines with both QEMUs')
    parser.add_argument('--program', default=machine.PROGRAM, help='the backplane to test (default: build/backplane)')
    parser.add_argument('--only', default='', metavar='TEXT', help='only chapters whose name has TEXT')
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):  # what was started is ended on the way out
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    report = Report(options.only)
    print(f'# guests run by {" - ".join(machine.acceleration())}', flush=True)

    report.run_chapter('libblkio', libblkio, options.program)
    qemu = machine.qemu_installed()
    report.run_chapter(f'QEMU {qemu.version}', guests, qemu, options.program, ['uring', 'plain'])
    report.run_chapter(f'QEMU {qemu.version}, packed rings', packed_guests, qemu, options.program)
    suite = 'trixie' if qemu.major < 10 else 'bookworm'
    report.run_chapter(f'QEMU of Debian {suite}', other_guests, suite, options.program,
                       ['uring', 'plain'] if options.long else ['uring'])
    report.run_chapter(f'QEMU of Debian {suite}, packed rings', other_packed_guests, suite, options.program)
    return report.finish()


if __name__ == '__main__':
    try:
        sys.exit(main())
    except packages.Unavailable as problem:
        print(f'1..0 # SKIP {problem}')
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)
