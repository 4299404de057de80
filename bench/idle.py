# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What a daemon costs that nobody asks: wakes after a load, and memory, of one and of a thousand.

Theory of operation. After a load the front end must still be there, and silent: the driver is stopped by a signal in
the middle of its work, which leaves its connection and its rings as they are. The back end finishes what it has, and
from then on each time one of its threads is switched away from is counted.

Limits. Memory is what smaps_rollup calls private: pages that no other process shares, program text not counted as long
as two run. What the kernel keeps for a process (page tables, stacks, sockets) is not in it.
"""
import contextlib
import os
import re
import signal
import statistics
import subprocess
import tempfile
import time

import backends
import measure

# Processor time that a back end has spent on a load before it falls silent, and how long it may take to get there.
LOADED_S = 0.1
LOAD_TIMEOUT_S = 60
# What the back end still had to do when the driver was stopped, and its last look for more, have passed by then.
SETTLE_S = 0.5
WATCH_S, QUICK_WATCH_S = 10, 3
DAEMONS, QUICK_DAEMONS = 1000, 50
BATCH = 25
MEMORY_SETTLE_S = 0.5


def switches(pid):
    """How often the threads of @pid have been switched away from: each wake ends in one."""
    total = 0
    for thread in os.listdir(f'/proc/{pid}/task'):
        with contextlib.suppress(FileNotFoundError), \
                open(f'/proc/{pid}/task/{thread}/status', encoding='ascii', errors='replace') as file:
            total += sum(int(count) for count in re.findall(r'ctxt_switches:\s*(\d+)', file.read()))
    return total


def private_kib(pid):
    with open(f'/proc/{pid}/smaps_rollup', encoding='ascii') as file:
        return sum(int(count) for count in re.findall(r'^Private_(?:Clean|Dirty):\s*(\d+) kB', file.read(), re.M))


def _until_it_has_worked(running, driver):
    """The processor time that the back end has spent since now, once that is a load."""
    idle_s, deadline = measure.process_clock_s(running.pid), time.monotonic() + LOAD_TIMEOUT_S
    while True:
        worked_s = measure.process_clock_s(running.pid) - idle_s
        if worked_s >= LOADED_S:
            return worked_s
        if driver.poll() is not None or time.monotonic() > deadline:
            raise backends.Failed(f'{running.name} was under no load: it worked {worked_s * 1e3:.1f} ms')
        time.sleep(backends.LOOK_S)


def after_load(session, backend, watch_s):
    """Wakes of @backend in @watch_s seconds, with a front end that has fallen silent in the middle of a load."""
    with backend.running(session.first) as running:
        command = session.driver.arguments({'socket-path': running.path, 'pid': running.pid, 'depth': 32,
                                            'wait': 'event'}, 3600)
        driver = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL,
                                  preexec_fn=lambda: os.sched_setaffinity(0, {session.second}))
        try:
            worked_s = _until_it_has_worked(running, driver)
            driver.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, driver.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            time.sleep(SETTLE_S)
            if driver.poll() is not None:
                raise backends.Failed(f'the driver of {backend.name} ended with status {driver.returncode}')
            before, began_s = switches(running.pid), measure.process_clock_s(running.pid)
            time.sleep(watch_s)
            return {'wakes': switches(running.pid) - before, 'seconds': watch_s, 'load_ms': worked_s * 1e3,
                    'cpu_ms': (measure.process_clock_s(running.pid) - began_s) * 1e3}
        finally:
            driver.kill()
            driver.wait()


KINDS = {'backplane rng': ['rng'], 'backplane blk': ['blk', f'--blk-null={backends.NULL_BYTES}']}


def alone(session):
    """Private memory of one idle daemon of each kind."""
    found = {}
    for name, options in KINDS.items():
        one = backends.Backend(name, lambda path, options=options: [session.programs.backplane, *options,
                                                                    f'--socket-path={path}'])
        with one.running() as running:
            time.sleep(MEMORY_SETTLE_S)
            found[name] = private_kib(running.pid)
    return found


def crowd(session, count):
    """Private memory for each daemon, of @count that run at once, half of each kind."""
    running, found = [], {name: [] for name in KINDS}
    with tempfile.TemporaryDirectory(prefix='backplane-bench-') as folder:
        try:
            for number in range(count):
                name = list(KINDS)[number % len(KINDS)]
                path = os.path.join(folder, str(number))
                process = subprocess.Popen([session.programs.backplane, *KINDS[name], f'--socket-path={path}'],
                                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                           stderr=subprocess.DEVNULL, preexec_fn=lambda: os.nice(10))
                running.append((name, path, process))
                if len(running) % BATCH == 0 or len(running) == count:
                    session.say(f'idle: {len(running)} of {count} daemons')
                    _until_all_listen(running[-BATCH:])
            time.sleep(MEMORY_SETTLE_S)
            for name, _, process in running:
                found[name].append(private_kib(process.pid))
        finally:
            for _, _, process in running:
                process.terminate()
            for _, _, process in running:
                process.wait()
    return {name: {'count': len(values), 'median': statistics.median(values), 'max': max(values)}
            for name, values in found.items() if values}


def _until_all_listen(some):
    deadline = time.monotonic() + backends.START_TIMEOUT_S
    for name, path, process in some:
        while not backends.machine.is_listening(path):
            if process.poll() is not None or time.monotonic() > deadline:
                raise backends.Failed(f'{name} does not listen, one of {len(some)} that were started together')
            time.sleep(backends.LOOK_S)


def idle(session):
    """wakes in 10 s after a load, and memory of an idle daemon, alone and with 1,000 of them"""
    quick = session.arguments.quick
    found = {'wakes': {}, 'alone_kib': {}, 'crowd': {}, 'daemons': QUICK_DAEMONS if quick else DAEMONS}
    some = session.null_peers() if not quick else []
    for backend in [session.backplane.null(), *some]:
        session.say(f'idle: {backend.name} after a load')
        try:
            found['wakes'][backend.name] = after_load(session, backend, QUICK_WATCH_S if quick else WATCH_S)
        except backends.Failed as problem:
            session.missing.append(f'idle after load: {problem}')
    try:
        found['alone_kib'] = alone(session)
        found['crowd'] = crowd(session, found['daemons'])
    except (backends.Failed, OSError) as problem:
        session.missing.append(f'memory of idle daemons: {problem}')
    return found
