#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Backplane beside its peers and beside what bounds both: one run, all side by side, taking turns.

Nothing here is a test: machines are shared and noisy, so what counts are ratios within one run, their spread over the
rounds, and whether the machine was quiet. Called by script/bench.
"""
import argparse
import json
import os
import platform
import re
import signal
import subprocess
import sys

import backends
import breakdown
import drivers
import idle
import plots
import tables
import verdicts
import works

HERE = os.path.dirname(os.path.abspath(__file__))
ALONE = {'virtqueue': works.virtqueue, 'idle': idle.idle}
QUICK_ROUNDS, QUICK_SECONDS = 2, 0.15
ROUNDS, SECONDS = 5, 0.4
COUNTED = {1: 'blk-split-32', 16: 'blk-split-32-16-queues', 64: 'blk-split-32-64-queues'}


def count_instructions(session):
    """instructions a request with 1, 16 and 64 queues, counted by callgrind"""
    counted = os.path.join(session.programs.build, 'bench', 'instructions')
    if not os.path.exists(counted):
        session.missing.append('instructions a request: bench/instructions is not built')
        return None
    counts = {}
    for queues, name in COUNTED.items():
        session.say(f'instructions: {name}')
        done = subprocess.run([os.path.join(HERE, 'count-instructions'), counted, '--print', f'--workload={name}'],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        count = instructions_in(done.stdout, name)
        if done.returncode != 0 or count is None:
            said = (done.stderr or done.stdout).strip().splitlines()
            session.missing.append(f'instructions a request, {name}: {said[-1] if said else "nothing was printed"}')
            continue
        counts[queues] = count
    return counts or None


def instructions_in(text, name):
    """The number behind @name on the line that has it as a word."""
    for line in text.splitlines():
        words = line.split()
        if name in words[:-1]:
            return float(words[words.index(name) + 1])
    return None


WORKS = {**works.TABLES, **ALONE, 'instructions': count_instructions, 'breakdown': breakdown.breakdown}
# Only when named: it takes its time, and nobody needs it twice a day.
ONLY_NAMED = ('breakdown',)
NOT_QUICK = ('burst', 'queues', 'libblkio')


class Say:
    """Progress for a person: one line of a terminal, written over; nothing elsewhere."""

    def __init__(self):
        self.is_shown = sys.stderr.isatty()

    def __call__(self, words):
        if self.is_shown:
            print(f'\r\033[K{words[:100]}', end='', file=sys.stderr, flush=True)

    def clear(self):
        self('')


def machine_of(session, fio):
    with open('/proc/cpuinfo', encoding='utf-8', errors='replace') as file:
        found = re.search(r'^model name\s*:\s*(.+)$', file.read(), re.M)
    return {'processor': found.group(1).strip() if found else platform.machine(), 'processors': os.cpu_count(),
            'kernel': f'{platform.system()} {platform.release()} {platform.machine()}',
            'versions': {'backplane': session.backplane.version(), 'fio': fio.version if fio else None,
                         **{qemu.name: qemu.version_line for qemu in session.qemus}}}


def parse(arguments):
    parser = argparse.ArgumentParser(prog='script/bench', description=__doc__.splitlines()[0])
    parser.add_argument('works', nargs='*', metavar='WORK', help='what to measure: all, unless some are named')
    parser.add_argument('--list', action='store_true', help='print the works, and exit')
    parser.add_argument('--rounds', type=int, help=f'turns that each subject has: {ROUNDS} unless given')
    parser.add_argument('--seconds', type=float, help=f'of each turn: {SECONDS} unless given')
    parser.add_argument('--quick', action='store_true', help='fewer works, rounds and peers: about a minute')
    parser.add_argument('--json', metavar='FILE', help='write every figure there')
    parser.add_argument('--plots', metavar='FOLDER', help='write plots there, as SVG')
    parser.add_argument('--curves', action='store_true', help='also sweep the pause between requests')
    parser.add_argument('--no-peers', action='store_true', help='measure Backplane alone')
    parser.add_argument('--tmpfs', metavar='FOLDER', default='/dev/shm', help='where the file on tmpfs goes')
    parser.add_argument('--disk', metavar='FOLDER', help='where the file on the local disk goes')
    parser.add_argument('--programs', metavar='FOLDER', required=True, help=argparse.SUPPRESS)
    parser.add_argument('--backplane', metavar='PROGRAM', help='measure this one')
    options = parser.parse_args(arguments)
    unknown = [name for name in options.works if name not in WORKS]
    if unknown:
        parser.error(f'no work is called {unknown[0]}; there are: {" ".join(WORKS)}')
    options.rounds = options.rounds if options.rounds is not None else QUICK_ROUNDS if options.quick else ROUNDS
    options.seconds = options.seconds if options.seconds is not None else QUICK_SECONDS if options.quick else SECONDS
    if options.rounds < 1 or not 0 < options.seconds <= 3600:
        parser.error('--rounds is at least 1, and --seconds more than 0')
    try:  # before ten minutes are spent
        if options.json:
            open(options.json, 'a', encoding='utf-8').close()
        if options.plots:
            os.makedirs(options.plots, exist_ok=True)
    except OSError as error:
        parser.error(f'cannot write {error.filename}: {error.strerror}')
    for folder in filter(None, (options.tmpfs, options.disk)):
        if not os.path.isdir(folder):
            parser.error(f'{folder} is no folder')
    options.disk = options.disk or options.programs
    options.is_whole = not options.works and not options.curves
    if options.is_whole:
        options.works = [name for name in WORKS if name not in ONLY_NAMED and
                         (not options.quick or name not in NOT_QUICK)]
    return options


def programs_of(options):
    def built(*path):
        return os.path.realpath(os.path.join(options.programs, *path))
    return argparse.Namespace(build=options.programs, vhost_bench=built('bench', 'vhost_bench'),
                              virtqueue_bench=built('bench', 'virtqueue_bench'),
                              backplane=os.path.realpath(options.backplane or built('src', 'programs', 'backplane')))


def show(say, lines):
    say.clear()
    print('\n'.join(lines), flush=True)


def measure_all(session, options, say):
    results = {'tables': []}
    for name in [name for name in WORKS if name in options.works]:
        if name in works.TABLES:
            found = works.TABLES[name](session)
            results['tables'] += found
            for one in found:
                show(say, tables.table(one))
            continue
        results[name] = WORKS[name](session)
        if results[name]:
            show(say, {'virtqueue': lambda rows: tables.virtqueue(rows, works.WORKLOADS), 'idle': tables.idle,
                       'instructions': tables.instructions, 'breakdown': list}[name](results[name]))
    if options.curves:
        results['curves'] = works.curves(session)
        show(say, tables.curves(results['curves']))
    return results


def finish(session, options, results, machine):
    """The end of the report, and the files."""
    results['summary'] = verdicts.all_lines(results, works.WORKLOADS)
    # Whoever named works knows what was left out.
    shown = [one for one in results['summary'] if options.is_whole or one['verdict'] != verdicts.NOT_MEASURED]
    lines = tables.summary(shown) if shown else []
    if session.missing:
        lines += ['', 'Not measured', *(f'  {problem}' for problem in dict.fromkeys(session.missing))]
    if session.quiet.measured:
        lines += ['', f'Medians of {options.rounds} rounds of {options.seconds:g} s; the spread is (largest - '
                  'smallest) / median.', session.quiet.sentence()]
    print('\n'.join(lines), flush=True)
    results.update(machine=machine, rounds=options.rounds, seconds=options.seconds, missing=session.missing,
                   quiet=session.quiet.as_json())
    if options.json:
        with open(options.json, 'w', encoding='utf-8') as file:
            json.dump(results, file, indent=1, sort_keys=True)
            file.write('\n')
        print(f'wrote {options.json}')
    if options.plots:
        for path in plots.write_all(results, options.plots, works.WORKLOADS):
            print(f'wrote {path}')


def main():
    if '--list' in sys.argv[1:]:
        for name, work in WORKS.items():
            print(f'{name:14}{work.__doc__}')
        return 0
    options = parse(sys.argv[1:])
    for number in (signal.SIGTERM, signal.SIGHUP):  # what was started is ended on the way out
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    missing, say = [], Say()
    qemus = [] if options.no_peers else backends.qemus(missing)
    if options.quick:
        qemus = qemus[:1]
    session = works.Session(options, programs_of(options), qemus, say)
    session.missing += missing
    machine = machine_of(session, session.fio)
    print(f'{machine["processor"]}, {machine["processors"]} processors, {machine["kernel"]}')
    print('; '.join(str(version) for version in machine['versions'].values() if version))
    try:
        results = measure_all(session, options, say)
    finally:
        say.clear()
    finish(session, options, results, machine)
    return 0


if __name__ == '__main__':
    try:
        sys.exit(main())
    except (backends.Failed, drivers.Lacks) as problem:
        print(f'script/bench: {problem}', file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
