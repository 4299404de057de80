# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What script/demo does once everything is there: usage: demo.py shell|check

A guest with its root on one `backplane blk`, an empty disk on another, and entropy from `backplane rng`. As a shell for
a person, or as a self-test.
"""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import termios
import time

import image
import machine
import packages

DATA_MIB = 64
SERIAL = 'demo'
FILES = 4
FILE_KIB = 1000
ENDING = (signal.SIGTERM, signal.SIGHUP)
PROOF = 'Written by a guest, through a ring, into a file of the host.'


class Wrong(Exception):
    """The self-test found something that is not as it should be."""


def expect(is_so, text):
    if not is_so:
        raise Wrong(text)


class Demo:
    """The daemons, the disks and the guest."""

    def __init__(self, stage):
        self.stage = stage
        self.kernel = packages.kernel()
        self.qemu = machine.qemu_installed()
        image.copy_sparse(image.root_image(), stage.path('root.img'))
        image.create_sparse(stage.path('data.img'), DATA_MIB << 20)
        self.root = machine.Disk(stage, stage.path('root.img'), 'root')
        self.data = machine.Disk(stage, stage.path('data.img'), 'data', options=[f'--serial={SERIAL}'])
        self.rng = machine.Entropy(stage)
        self.disks = [self.root, self.data]

    def introduce(self):
        accelerator, reason = machine.acceleration()
        how = {'kvm': 'by KVM', 'tcg': 'by software emulation, which is slower'}[accelerator]
        print(f'Linux {self.kernel[2]} in QEMU {self.qemu.version}, {how} ({reason}).')
        print('Its two disks and its entropy come from these processes:')
        for daemon in (*self.disks, self.rng):
            print(' ', shlex.join([os.path.relpath(daemon.arguments[0]), *daemon.arguments[1:]]))
        sys.stdout.flush()


# ---- for a person

def shell(demo):
    """QEMU takes the terminal, until the person leaves."""
    size = shutil.get_terminal_size()
    control = shlex.quote(demo.data.control)
    print(f'Ask a disk how it is doing, from another terminal: build/backplane ctl {control} stats')
    print('Booting; a shell appears in a few seconds …\n', flush=True)
    arguments = machine.guest_arguments(
        demo.qemu, demo.kernel, demo.disks, demo.rng,
        append=f'panic=-1 backplane=shell backplane.rows={size.lines} backplane.columns={size.columns}')
    saved = termios.tcgetattr(sys.stdin)
    process = demo.stage.start([*arguments, '-no-reboot', '-serial', 'mon:stdio'], env=demo.qemu.environment)
    try:
        status = process.wait()
    finally:
        # Before the daemons it needs, and before the terminal is ours again, which may be gone.
        if process.poll() is None:
            process.kill()
            process.wait()
        with contextlib.suppress(termios.error):
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, saved)
    for daemon in (*demo.disks, demo.rng):
        daemon.stop()
    print('\nThe guest is gone, and its disks with it.')
    return 1 if status else 0


# ---- for a machine

def proved(text):
    print(f'ok: {text}', flush=True)


def check(demo):
    begin = time.monotonic()
    guest = machine.Guest(demo.stage, demo.qemu, demo.kernel, demo.disks, demo.rng)
    expect('/dev/vda / ext4' in guest.run('cat /proc/mounts'), 'the guest has another root')
    proved(f'Linux booted with its root on our disk, in {time.monotonic() - begin:.1f} s')

    expect(guest.run('blockdev --getsize64 /dev/vdb') == str(DATA_MIB << 20), 'the disk has another size')
    expect(guest.run('cat /sys/block/vdb/serial') == SERIAL, 'the disk has another serial number')
    proved(f'the second disk has {DATA_MIB} MiB and the serial number "{SERIAL}", as we said')

    guest.run('make_filesystem /dev/vdb /mnt')
    guest.run(f'write_files /mnt/files {FILES} {FILE_KIB}')
    guest.run('umount /mnt && e2fsck -f -n /dev/vdb >/tmp/fsck 2>&1 && mount /dev/vdb /mnt')
    expect(guest.run('check_files /mnt/files').split()[0] == str(FILES), 'files are missing')
    proved(f'mkfs, {FILES} files of {FILE_KIB} KiB written and synced, fsck clean, all read back with their checksums')

    expect(guest.run('cat /sys/class/misc/hw_random/rng_current').startswith('virtio_rng'), 'no entropy from us')
    reads = [guest.run('entropy 16') for _ in range(2)]
    expect(all(len(read) == 32 for read in reads) and reads[0] != reads[1], f'entropy is wrong: {reads}')
    proved(f'two reads of entropy differ: {reads[0]} and {reads[1]}')

    guest.run(f"echo '{PROOF}' >/mnt/proof && sync")
    guest.quit()
    for daemon in (*demo.disks, demo.rng):
        daemon.stop()
    for disk in demo.disks:
        result = subprocess.run([*image.host_program('e2fsck'), '-f', '-n', disk.image], capture_output=True, text=True,
                                check=False)
        expect(result.returncode == 0, f'on the host, the file system in {disk.name}.img is not clean: {result.stdout}')
    result = subprocess.run([*image.host_program('debugfs'), '-R', 'cat /proof', demo.data.image], capture_output=True,
                            text=True, check=False)
    expect(result.stdout == PROOF + '\n', 'on the host, the image does not hold what the guest has written')
    proved('after the guest, both images are clean on the host, and hold what it has written')
    return 0


def end(number, _):
    for other in ENDING:
        signal.signal(other, signal.SIG_IGN)  # the orderly end is on its way; a hangup can come twice
    sys.exit(128 + number)


def main():
    mode = sys.argv[1] if len(sys.argv) == 2 else ''
    if mode not in ('shell', 'check'):
        print('usage: demo.py shell|check', file=sys.stderr)
        return 2
    sys.stdout.reconfigure(errors='backslashreplace')
    for number in ENDING:
        signal.signal(number, end)
    begin = time.monotonic()
    with machine.Stage() as stage:
        demo = Demo(stage)
        demo.introduce()
        status = shell(demo) if mode == 'shell' else check(demo)
    if mode == 'check':
        print(f'passed in {time.monotonic() - begin:.1f} s')
    return status


if __name__ == '__main__':
    try:
        sys.exit(main())
    except (machine.Failed, packages.Unavailable, Wrong) as problem:
        print(f'demo: {problem}', file=sys.stderr)
        with contextlib.suppress(AttributeError):
            print(problem.detail, file=sys.stderr)
        sys.exit(1)
    except OSError as problem:
        print(f'demo: {problem.filename}: {problem.strerror}' if problem.filename else f'demo: {problem}',
              file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
