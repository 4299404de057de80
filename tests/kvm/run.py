#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""
Linux guests of `backplane vm`, by a whole KVM: this machine's, or that of an emulated one. TAP on standard output, one
result for each case (cases/*.sh) in each bed. --shell and --command are for a person who looks into an emulated bed.
"""

import argparse
import os
import signal
import sys
import time

import bed  # first: it knows where the next ones are
import machine
import packages

LOGS = os.path.join(machine.TREE, 'build-test', 'logs')


class Report:
    """TAP, case by case."""

    def __init__(self):
        self.count = 0
        self.failures = 0

    def line(self, verdict, sentence, directive=''):
        self.count += 1
        print(f'{verdict} {self.count} - {sentence.replace("#", "no.")}{directive}', flush=True)

    def passed(self, sentence, seconds):
        self.line('ok', sentence)
        print(f'# {seconds:.1f} s', flush=True)

    def failed(self, sentence, reason, lines=()):
        self.failures += 1
        self.line('not ok', sentence)
        for text in (reason, *lines):
            print(f'# {text}', flush=True)

    def finish(self):
        print(f'1..{self.count}', flush=True)
        return 1 if self.failures else 0


def keep(name, transcript, details):
    """What a failed case printed, whole, in a file; its path."""
    os.makedirs(LOGS, exist_ok=True)
    path = os.path.join(LOGS, f'kvm-{name}.txt')
    with open(path, 'w', encoding='utf-8') as file:
        file.write('\n'.join(transcript) + '\n' + details)
    return path


def programs_for(architecture, options):
    return [path for name, path in options.program if name == architecture]


def run_case(report, place, name, case):
    sentence = f'{name}: {case.sentence}'
    transcript = []
    begin = time.monotonic()
    try:
        status = place.run(case, transcript)
    except (machine.Failed, OSError) as error:
        details = getattr(error, 'detail', '')
        path = keep(f'{name}-{case.name}', transcript, details)
        report.failed(sentence, f'{error}; whole output: {path}', [*transcript[-30:], *details.splitlines()])
        return
    if status == 0:
        report.passed(sentence, time.monotonic() - begin)
    else:
        path = keep(f'{name}-{case.name}', transcript, place.details())
        report.failed(sentence, f'status {status}; whole output: {path}', transcript[-40:])


def run_bed(report, name, options):
    """All chosen cases in bed @name."""
    chosen = [case for case in bed.cases() if case.is_for(name) and options.only in case.name]
    if not chosen:
        return
    architecture = bed.BEDS[name]
    begin = time.monotonic()
    with machine.Stage() as stage:
        content = bed.Content(stage, architecture, programs_for(architecture, options), options.sysroot)
        place, where = bed.place(stage, name, content)
        print(f'# {name}: {where}', flush=True)
        for case in chosen:
            run_case(report, place, name, case)
        try:
            place.stop()
        except machine.Failed as error:
            report.failed(f'{name}: the emulated machine powers off', error, error.detail.splitlines())
        booted = f', {place.boot_s:.1f} s of them its boot' if getattr(place, 'boot_s', None) else ''
        print(f'# {name}: {time.monotonic() - begin:.1f} s{booted}', flush=True)


def person(name, options):
    """The emulated bed on this terminal, with a shell or with one command; QEMU's exit status."""
    architecture = bed.BEDS[name]
    with machine.Stage() as stage:
        content = bed.Content(stage, architecture, programs_for(architecture, options), options.sysroot)
        if options.command:
            content.command(options.command)
        host = bed.EmulatedHost(stage, name, content)
        process = stage.start([*bed.qemu_arguments(name, content, host.initramfs), '-serial', 'mon:stdio'])
        return process.wait()


def program(text):
    architecture, _, path = text.partition('=')
    if architecture not in bed.MACHINES or not path:
        raise argparse.ArgumentTypeError(f'{text}: not ARCHITECTURE=PATH')
    return architecture, path


def main():
    parser = argparse.ArgumentParser(description='Linux guests of `backplane vm`; TAP on standard output.')
    parser.add_argument('--bed', action='append', choices=sorted(bed.BEDS), help='may be repeated; all, by default')
    parser.add_argument('--program', action='append', type=program, default=[], metavar='ARCHITECTURE=PATH',
                        help='backplane, and what else a case runs; it goes into the PATH, libraries with it')
    parser.add_argument('--sysroot', help='where the libraries of another architecture\'s program are')
    parser.add_argument('--only', default='', metavar='TEXT', help='only cases whose name has TEXT')
    parser.add_argument('--shell', action='store_true', help='no cases: a shell in the emulated machine')
    parser.add_argument('--command', metavar='COMMAND', help='no cases: one shell command in the emulated machine')
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):  # what was started is ended on the way out
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    names = options.bed or list(bed.BEDS)
    if options.shell or options.command:
        return person(names[0], options)
    report = Report()
    for name in names:
        try:
            run_bed(report, name, options)
        except (packages.Unavailable, OSError) as error:
            # Everything a bed needs can be had where the project builds: its lack is no skip.
            report.failed(f'{name}: can be set up', error)
    return report.finish()


if __name__ == '__main__':
    try:
        sys.exit(main())
    except packages.Unavailable as problem:
        print(f'kvm: {problem}', file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
