# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Who asks: our driver, libblkio, fio, and the virtqueue benches. Each is one process for one measurement.

Every function answers a dictionary with at least `iops` and `cpu_ns`, the processor time of the side that does the
work for one request (the back end's; for fio, which has no back end, its own).
"""
import json
import os
import shutil
import subprocess
import tempfile
import time

import measure
import packages
from backends import Failed

HERE = os.path.dirname(os.path.abspath(__file__))
# vhost_bench's word for: the back end does not have what was asked for.
EXIT_LACKS = 3
# And a script's, for: this machine cannot have it.
EXIT_SKIP = 77
SLACK_S = 60
LATENCIES = ('latency_ns_p50', 'latency_ns_p99', 'latency_ns_p999')
# fio answers in the order of its requests; this one is long enough that starting and ending it do not count.
FIO_SAMPLE_S = 0.01
FIO_HEAD, FIO_TAIL = 0.85, 0.10
FIO_BASE = ['--ioengine=io_uring', '--bs=4k', '--iodepth=32', '--time_based', '--norandommap', '--randrepeat=1',
            '--gtod_reduce=1', '--thread', '--invalidate=0', '--output-format=json']
FIO_BATCH = ['--iodepth_batch_submit=16', '--iodepth_batch_complete_min=16', '--iodepth_batch_complete_max=32']
# What fio can do to be fast. Submission by a kernel thread is left out: it takes a processor more than anybody else
# here has. So is polled completion, which needs a disk that is set up for it.
FIO_VARIANTS = {
    'registered files': ['--registerfiles'],
    'registered files and buffers': ['--registerfiles', '--fixedbufs'],
    'registered files, batches of 16': ['--registerfiles', *FIO_BATCH],
    'registered files and buffers, batches of 16': ['--registerfiles', '--fixedbufs', *FIO_BATCH],
}


class Lacks(Exception):
    """The back end does not have what was asked for; one line."""


def _run(command, processors, seconds, environment=None):
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                              timeout=seconds + SLACK_S, env=environment,
                              preexec_fn=lambda: os.sched_setaffinity(0, processors))
    except subprocess.TimeoutExpired:
        raise Failed(f'{os.path.basename(command[0])} does not come to an end') from None
    if done.returncode == EXIT_LACKS:
        raise Lacks(_last(done.stderr))
    if done.returncode != 0:
        raise Failed(f'{os.path.basename(command[0])} ended with status {done.returncode}: {_last(done.stderr)}')
    return done.stdout


def _last(text):
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else 'it says nothing'


def _json(text, what):
    try:
        return json.loads(text[text.index('{'):])
    except ValueError:
        raise Failed(f'{what} answered what is no JSON: {text.strip()[:80]}') from None


def answer_of(command, processors, seconds):
    """The JSON that a command prints."""
    return _json(_run(command, processors, seconds), os.path.basename(command[0]))


# ---- our own driver

class VhostBench:
    """vhost_bench: one measurement of a back end, or of a bare copy loop in its place."""

    def __init__(self, program):
        self.program = program

    def arguments(self, options, seconds):
        return [self.program, *(f'--{key}={value}' for key, value in options.items()), f'--seconds={seconds:g}']

    def _answer(self, text):
        found = _json(text, 'vhost_bench')
        result = {'iops': found['iops'], 'cpu_ns': found['backend_cpu_ns_per_request'],
                  'driver_cpu_ns': found['driver_cpu_ns_per_request'], 'requests': found['requests'],
                  'requests_per_kick': found['requests_per_kick']}
        for key in (*LATENCIES, 'backend_wakes'):
            if found.get(key) is not None:
                result[key] = found[key]
        return result

    def backend(self, running, options, seconds, processor):
        """One measurement of a back end that runs, with the driver bound to @processor."""
        command = self.arguments({'socket-path': running.path, 'pid': running.pid, **options}, seconds)
        return self._answer(_run(command, {processor}, seconds))

    def ceiling(self, options, seconds, processor, other):
        """The same against a bare copy loop on processor @other."""
        command = self.arguments(options, seconds)
        command[1:1] = ['--ceiling', f'--ceiling-processor={other}']
        # The copy loop is a thread of the driver, which therefore must be let onto both.
        return self._answer(_run([*command, f'--processors={processor}'], {processor, other}, seconds))


# ---- libblkio as the driver

class Blkio:
    """Our small bench on libblkio's virtio driver, compiled against Debian 13's packages: they ship no bench."""

    def __init__(self, root, folder):
        self.program = os.path.join(folder, 'blkio_bench')
        self.loader = packages.loader(root)
        libraries = [f'-L{path}' for path in packages.library_directories(root)]
        # Its C library is newer than the one we compile with, and is there when it runs.
        done = subprocess.run(['cc', '-std=c17', '-D_GNU_SOURCE', '-O2', '-Wall', '-Wextra', '-isystem',
                               f'{root}/usr/include', '-o', self.program, os.path.join(HERE, 'blkio_bench.c'),
                               *libraries, '-lblkio', '-Wl,--allow-shlib-undefined'], capture_output=True, text=True,
                              check=False)
        if done.returncode != 0:
            raise Failed(f'blkio_bench cannot be compiled: {_last(done.stderr)}')

    def backend(self, running, depth, seconds, processor):
        command = [*self.loader, self.program, running.path, str(running.pid), str(depth), f'{seconds:g}']
        found = _json(_run(command, {processor}, seconds), 'blkio_bench')
        return {'iops': found['iops'], 'cpu_ns': found['backend_cpu_ns_per_request'],
                'driver_cpu_ns': found['driver_cpu_ns_per_request'], 'requests': found['requests']}


# ---- fio, which asks the kernel itself

class Fio:
    def __init__(self, program):
        self.program = program
        done = subprocess.run([program, '--version'], capture_output=True, text=True, check=False)
        self.version = done.stdout.strip()
        self.variant = {}  # (operation, direct): the name of the fastest

    @staticmethod
    def find():
        path = shutil.which('fio')
        return Fio(path) if path else None

    def _measure(self, path, operation, direct, variant, seconds, processors):
        """
        Its JSON leaves out the kernel's workers that io_uring hands what would block (all of tmpfs, for one), so the
        processor time is read from its clock, over the middle of the run.
        """
        size = os.stat(path).st_size
        command = [self.program, '--name=bench', f'--filename={path}', f'--rw={operation}', f'--size={size}',
                   f'--runtime={max(1, round(seconds * 1000))}ms', f'--direct={int(direct)}', *FIO_BASE,
                   *FIO_VARIANTS[variant]]
        samples = []
        with (tempfile.TemporaryFile('w+') as output, tempfile.TemporaryFile('w+') as complaints):
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=complaints,
                                       cwd=tempfile.gettempdir(),
                                       preexec_fn=lambda: os.sched_setaffinity(0, processors))
            deadline = time.monotonic() + seconds + SLACK_S
            while process.poll() is None:
                if time.monotonic() > deadline:
                    process.kill()
                    process.wait()
                    raise Failed('fio does not come to an end')
                samples.append((time.monotonic(), measure.process_clock_s(process.pid)))
                time.sleep(FIO_SAMPLE_S)
            ended = time.monotonic()
            output.seek(0)
            complaints.seek(0)
            text, complaint = output.read(), complaints.read()
        if process.returncode != 0:
            raise Failed(f'fio ended with status {process.returncode}: {_last(complaint + text)}')
        side = _json(text, 'fio')['jobs'][0]['read' if 'read' in operation else 'write']
        share = cpu_share(samples, ended, seconds)
        result = {'iops': side['iops'], 'requests': side['total_ios']}
        if share is not None and side['iops'] > 0:
            result['cpu_ns'] = share * 1e9 / side['iops']
        return result

    def choose(self, path, operation, direct, seconds, processors):
        """The fastest of what it can do, found once by a short run of each."""
        if (operation, direct) not in self.variant:
            tried = {name: self._measure(path, operation, direct, name, seconds, processors)['iops']
                     for name in FIO_VARIANTS}
            self.variant[operation, direct] = max(tried, key=tried.get)
        return self.variant[operation, direct]

    def file(self, path, operation, direct, seconds, processors):
        return self._measure(path, operation, direct, self.variant[operation, direct], seconds, processors)


def cpu_share(samples, ended, seconds):
    """Processor time per second over the middle of a run of @seconds that ended at @ended, or None if it was missed."""
    inside = [one for one in samples if ended - FIO_HEAD * seconds <= one[0] <= ended - FIO_TAIL * seconds]
    if len(inside) < 2 or inside[-1][0] <= inside[0][0]:
        return None
    return (inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0])


# ---- the virtqueue alone

def rust_vmm(missing):
    """The program that measures rust-vmm's virtqueue, or None with a sentence in @missing."""
    build = os.path.join(HERE, 'rust_vmm', 'build')
    if not os.path.exists(build):
        missing.append('rust-vmm virtio-queue: bench/rust_vmm/build is not in this tree')
        return None
    done = subprocess.run([build], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return done.stdout.strip().splitlines()[-1]
    if done.returncode == EXIT_SKIP:
        missing.append(f'rust-vmm virtio-queue: {_last(done.stderr or done.stdout)}')
        return None
    raise Failed(f'bench/rust_vmm/build ended with status {done.returncode}: {_last(done.stderr)}')


def virtqueue(program, options, processor):
    """{workload: ns for 128} of one program that measures a virtqueue."""
    found = _json(_run([program, *options, '--json'], {processor}, SLACK_S), os.path.basename(program))
    return {name: figures['ns'] for name, figures in found['workloads'].items()}
