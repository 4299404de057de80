# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Rounds, what the machine did meanwhile, and what a row of numbers amounts to.

Theory of operation. Subjects take turns: one measurement of each is a round, and every second round goes backwards, so
that what drifts (heat, a neighbour, a cache) falls on all of them. Around each measurement a Watch looks at the
machine: which part of its processors' time went to processes that are not ours, which part the hypervisor took, and
how long a fixed loop takes before and after. Where one of these is past its limit the round is marked. It is never
repeated: a figure that was measured again until it fitted is none.

Limits. The kernel counts a processor's time in ticks (4 or 10 ms), so very short measurements are judged roughly. Work
that the kernel does for us in threads of its own (writing back, interrupts of a disk) counts as others'.
"""
import os
import resource
import statistics
import time

# Others with more of the machine than this leave figures that differ from run to run by as much.
OTHERS_MAX = 0.10
# What a hypervisor takes comes in slices of milliseconds, each as long as thousands of requests.
STEAL_MAX = 0.02
# The fixed loop repeats within 3 % on a quiet machine; past this the processor had another speed, or a busy sibling.
SPIN_MAX = 0.15
SPIN_LOOPS = 40000
SPIN_TRIES = 3


def spread(values):
    """How far the rounds lie apart, as a part of their median."""
    middle = statistics.median(values)
    return (max(values) - min(values)) / middle if middle > 0 else 0.0


def summary(rounds, keys):
    """Median and spread of each of @keys that every round has as a number, and how many rounds are marked."""
    row = {'rounds': len(rounds), 'marked': sum(1 for one in rounds if one['marks'])}
    for key in keys:
        values = [one.get(key) for one in rounds]
        if values and all(value is not None for value in values):
            row[key] = statistics.median(values)
            row[f'{key}_spread'] = spread(values)
    return row


def in_turn(subjects, rounds):
    """(round, subject) in the order of measurement."""
    for turn in range(rounds):
        for subject in subjects if turn % 2 == 0 else subjects[::-1]:
            yield turn, subject


def process_clock_s(pid):
    """Processor time of all threads of @pid, the kernel's workers for its io_uring among them."""
    return time.clock_gettime(~pid << 3 | 2)  # as clock_getcpuclockid(3) makes it


def machine_times_s(text=None):
    """Processor seconds that the machine has spent on anything, and those that the hypervisor took, from /proc/stat."""
    if text is None:
        with open('/proc/stat', encoding='ascii') as file:
            text = file.readline()
    user, nice, system, _idle, _iowait, irq, softirq, steal = [int(field) for field in text.split()[1:9]]
    tick = os.sysconf('SC_CLK_TCK')
    return (user + nice + system + irq + softirq) / tick, steal / tick


def children_s():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime + own.ru_utime + own.ru_stime


def spin_s():
    """How long a fixed loop takes: the best of a few, for one interrupt is no slow machine."""
    best = None
    for _ in range(SPIN_TRIES):
        began = time.perf_counter()
        for _ in range(SPIN_LOOPS):
            pass
        took = time.perf_counter() - began
        best = took if best is None else min(best, took)
    return best


def spins_s(processors):
    """The fixed loop on each of @processors, in turn."""
    allowed = os.sched_getaffinity(0)
    took = []
    try:
        for processor in processors:
            os.sched_setaffinity(0, {processor})
            took.append(spin_s())
    finally:
        os.sched_setaffinity(0, allowed)
    return took


def judge(seen):
    """Why a round is marked: a list of reasons, empty for a quiet machine."""
    marks = []
    if seen['others'] > OTHERS_MAX:
        marks.append(f'others took {seen["others"]:.0%}')
    if seen['steal'] > STEAL_MAX:
        marks.append(f'the hypervisor took {seen["steal"]:.0%}')
    if seen['spin'] > SPIN_MAX:
        marks.append(f'a fixed loop took {seen["spin"]:.0%} longer or shorter afterwards')
    return marks


def shares(before, after, ours_s, processors):
    """Parts of the machine's time between two looks that others had and that the hypervisor took."""
    room = (after['wall'] - before['wall']) * processors
    if room <= 0:
        return {'others': 0.0, 'steal': 0.0}
    busy, steal = after['busy'] - before['busy'], after['steal'] - before['steal']
    return {'others': max(0.0, busy - ours_s) / room, 'steal': max(0.0, steal) / room}


def spin_change(before, after):
    """The largest change of the fixed loop on any processor, as a part of the shorter time."""
    return max((max(pair) / min(pair) - 1 for pair in zip(before, after) if min(pair) > 0), default=0.0)


class Watch:
    """Looks at the machine around one measurement; .seen says what it saw, .marks what is wrong with it."""

    def __init__(self, processors, pid=None):
        self.processors = processors
        self.pid = pid  # a process that lives on past the measurement, and whose time is ours
        self.seen, self.marks = {}, []

    def _look(self):
        busy, steal = machine_times_s()
        ours = children_s() + (process_clock_s(self.pid) if self.pid else 0.0)
        return {'wall': time.monotonic(), 'busy': busy, 'steal': steal, 'ours': ours}

    def __enter__(self):
        self.spins = spins_s(self.processors)
        self.before = self._look()
        return self

    def __exit__(self, *error):
        if error[0] is not None:
            return
        after = self._look()
        self.seen = shares(self.before, after, after['ours'] - self.before['ours'], os.cpu_count())
        self.seen['spin'] = spin_change(self.spins, spins_s(self.processors))
        self.marks = judge(self.seen)


class Quiet:
    """What all measurements together say of the machine."""

    def __init__(self):
        self.measured, self.marked, self.worst = 0, 0, {'others': 0.0, 'steal': 0.0, 'spin': 0.0}

    def add(self, seen, marks):
        self.measured += 1
        self.marked += 1 if marks else 0
        self.worst = {key: max(value, seen.get(key, 0.0)) for key, value in self.worst.items()}

    def sentence(self):
        worst = (f'at worst others took {self.worst["others"]:.0%} of the machine, the hypervisor '
                 f'{self.worst["steal"]:.0%}, and a fixed loop changed by {self.worst["spin"]:.0%}')
        if self.marked == 0:
            return f'the machine was quiet in all {self.measured} measurements; {worst}'
        return (f'THE MACHINE WAS TOO BUSY in {self.marked} of {self.measured} measurements: do not believe the rows '
                f'that are marked with !, and run this again on a quieter one; {worst}')

    def as_json(self):
        return {'measured': self.measured, 'marked': self.marked, 'worst': self.worst}
