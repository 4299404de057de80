# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What is measured: each work is a list of tables, each table has variants, and in each variant subjects take turns.

Theory of operation. A Subject is a name and a function that measures once. A work knows which subjects a variant has;
the Session knows the machine, the programs and the peers, and lets them take turns. Where our driver asks, its ceiling
is measured first: the same driver against a bare copy loop, which is the most that any back end could show.

The back end is bound to the first processor and the driver to the second, unless the variant says otherwise. fio has no
back end: it is bound to the first, like a back end, and in a row of its own to both.
"""
import os
import tempfile

import backends
import drivers
import measure

MIB = 1 << 20
FILE_MIB = 1024
QUICK_FILE_MIB = 128
# Room that a file of a bench leaves behind it on the disk or in memory.
ROOM_MIB = 512
CEILING_ROUNDS = 3
# A loop that answers each request at once is not the fastest: lines of memory travel more often.
CEILING_BATCHES = (1, 4, 8, 16)
FIO_CHOICE_S = 0.25
KEYS = ('iops', 'cpu_ns', 'driver_cpu_ns', 'requests_per_kick', 'backend_wakes', *drivers.LATENCIES)
RINGS = ('split', 'packed')


class Subject:
    """One row: measure() answers one measurement, with its marks."""

    def __init__(self, name, kind, measure_once, ring=None):
        self.name, self.kind, self.measure, self.ring = name, kind, measure_once, ring


class Session:
    """The machine, the programs and the peers of one run."""

    def __init__(self, arguments, programs, qemus, say):
        self.arguments, self.programs, self.qemus, self.say = arguments, programs, qemus, say
        self.backplane = backends.Backplane(programs.backplane)
        self.driver = drivers.VhostBench(programs.vhost_bench)
        self.fio = None if arguments.no_peers else drivers.Fio.find()
        self.quiet = measure.Quiet()
        self.missing = []
        if self.fio is None and not arguments.no_peers:
            self.missing.append('fio: not installed')
        processors = sorted(os.sched_getaffinity(0))
        self.first = processors[0]
        self.second = processors[1] if len(processors) > 1 else processors[0]
        self.both = {self.first, self.second}
        if self.first == self.second:
            self.missing.append('a driver beside its back end: there is one processor, which both share in every row')

    # -- one measurement

    def watched(self, once, pid=None):
        with measure.Watch(sorted(self.both), pid) as watch:
            result = once()
        result.update(seen=watch.seen, marks=watch.marks)
        self.quiet.add(watch.seen, watch.marks)
        return result

    def with_backend(self, backend, once):
        """A function that starts @backend, measures it by once(running), and ends it."""
        def measure_once():
            with backend.running(self.first) as running:
                return self.watched(lambda: once(running), running.pid)
        return measure_once

    def driven(self, backend, options, ring='split', apart=True):
        processor = self.second if apart else self.first
        seconds = self.arguments.seconds
        return self.with_backend(backend, lambda running: self.driver.backend(
            running, {'ring': ring, 'disk-bytes': backends.NULL_BYTES, **options}, seconds, processor))

    # -- many

    def ceilings(self, options, rings, apart=True):
        """The driver's ceiling for each ring: the copy loop with the batch that is fastest."""
        found = {}
        if not apart:
            return found  # a ring that one processor turns has no other side
        for ring in rings:
            def once(batch, ring=ring):
                return self.watched(lambda: self.driver.ceiling(
                    {'ring': ring, 'ceiling-batch': batch, **options}, self.arguments.seconds, self.second, self.first))
            try:
                found[ring] = self._ceiling(once, [batch for batch in CEILING_BATCHES if batch <= options['depth']])
            except (backends.Failed, drivers.Lacks) as problem:
                self.missing.append(f'the driver\'s ceiling: {problem}')
                break
        return found

    def _ceiling(self, once, batches):
        """Each batch has a turn; the fastest has the others."""
        tried = {batch: once(batch) for batch in batches}
        best = max(tried, key=lambda batch: tried[batch]['iops'])
        rounds = [tried[best], *(once(best) for _ in range(1, min(CEILING_ROUNDS, self.arguments.rounds)))]
        return {**measure.summary(rounds, KEYS), 'batch': best}

    def take_turns(self, title, subjects):
        """Rows of all @subjects; one that lacks something or fails is a row that says so."""
        rounds = {subject.name: [] for subject in subjects}
        problems = {}
        for turn, subject in measure.in_turn(subjects, self.arguments.rounds):
            if subject.name in problems:
                continue
            self.say(f'{title}: round {turn + 1} of {self.arguments.rounds}: {subject.name}')
            try:
                rounds[subject.name].append(subject.measure())
            except drivers.Lacks as problem:
                problems[subject.name] = ('lacks', str(problem))
            except backends.Failed as problem:
                problems[subject.name] = ('failed', str(problem))
        return [self._row(subject, rounds[subject.name], problems.get(subject.name)) for subject in subjects]

    @staticmethod
    def _row(subject, rounds, problem):
        row = {'name': subject.name, 'kind': subject.kind, 'ring': subject.ring}
        if problem:
            row[problem[0]] = problem[1]
        elif rounds:
            row.update(measure.summary(rounds, KEYS), each=rounds)
        return row

    def variant(self, name, subjects, ceilings=None, note=None):
        return {'name': name, 'rows': self.take_turns(name, subjects), 'ceilings': ceilings or {}, 'note': note}

    # -- subjects

    def ours(self, backend, options, ring='split', apart=True):
        name = backend.name if ring == 'split' else f'{backend.name}, packed'
        return Subject(name, 'ours', self.driven(backend, options, ring, apart), ring)

    def peers(self, make, options, apart=True):
        return [Subject(backend.name, 'peer', self.driven(backend, options, apart=apart), 'split')
                for backend in make]

    def null_peers(self):
        return [qemu.null() for qemu in self.qemus]


# ---- null disks: the ring, the protocol and the event loop, and nothing else

NULL_VARIANTS = [  # name, driver's options, driver on a processor of its own, in a quick run
    ('depth 32, driver sleeps', {'depth': 32, 'wait': 'event'}, True, True),
    ('depth 32, driver polls', {'depth': 32, 'wait': 'poll'}, True, True),
    ('depth 1, driver sleeps', {'depth': 1, 'wait': 'event'}, True, True),
    ('depth 1, driver polls', {'depth': 1, 'wait': 'poll'}, True, True),
    ('depth 32, driver sleeps, on the same processor', {'depth': 32, 'wait': 'event'}, False, False),
]


def null(session):
    """null disk: depth 32 and 1, driver sleeping and polling, split and packed"""
    variants = []
    for name, options, apart, is_quick in NULL_VARIANTS:
        if (session.arguments.quick and not is_quick) or (apart and session.first == session.second):
            continue
        ceilings = session.ceilings(options, RINGS, apart)
        default, *modes = session.backplane.modes()
        subjects = [session.ours(default, options, ring, apart) for ring in RINGS]
        subjects += [session.ours(mode, options, ring, apart) for mode in modes
                     for ring in (RINGS if 'always' in mode.name and options['wait'] == 'poll' else ('split',))]
        subjects += session.peers(session.null_peers(), options, apart)
        variants.append(session.variant(name, subjects, ceilings))
    return [{'key': 'null', 'title': 'Null disk, reads of 4 KiB', 'variants': variants}]


def burst(session):
    """null disk, depth 32: requests shown to the device 1, 4 and 32 at a time"""
    variants = []
    for count in (1, 4, 32):
        options = {'depth': 32, 'wait': 'poll', 'burst': count}
        ceilings = session.ceilings(options, RINGS)
        subjects = [session.ours(session.backplane.null(), options, ring) for ring in RINGS]
        subjects += session.peers(session.null_peers(), options)
        variants.append(session.variant(f'{count} at a time' if count > 1 else 'one at a time', subjects, ceilings))
    return [{'key': 'burst', 'title': 'Null disk, depth 32, driver polls, requests shown in bursts',
             'variants': variants}]


def queues(session):
    """null disk, depth 32 for each queue: one queue and two"""
    variants = []
    for count in (1, 2):
        options = {'depth': 32, 'wait': 'poll', 'queues': count}
        ceilings = session.ceilings(options, ('split',))
        subjects = [session.ours(session.backplane.null(), options)]
        subjects += session.peers(session.null_peers(), options)
        variants.append(session.variant(f'{count} queue' + ('s' if count > 1 else ''), subjects, ceilings))
    return [{'key': 'queues', 'variants': variants,
             'title': 'Null disk, depth 32 on each queue, all queues of a back end on the same processor'}]


# ---- files: beside fio, which asks the kernel without a ring in between

class Image:
    """A file of random bytes, all of them written, in @folder."""

    def __init__(self, folder, mib):
        free = os.statvfs(folder)
        if free.f_bavail * free.f_frsize < (mib + ROOM_MIB) * MIB:
            raise backends.Failed(f'{folder} has no room for a file of {mib} MiB')
        handle, self.path = tempfile.mkstemp(prefix='backplane-bench-', suffix='.img', dir=folder)
        self.bytes = mib * MIB
        try:
            block = os.urandom(MIB)
            with open(handle, 'wb') as file:
                for number in range(mib):
                    file.write(number.to_bytes(8, 'little') + block[8:])
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            os.unlink(self.path)
            raise backends.Failed(f'{folder}: {error.strerror}') from None
        except BaseException:  # ended by a signal: the file is as large as a machine's memory
            os.unlink(self.path)
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.unlink(self.path)


def fio_subjects(session, image, operation, direct):
    """fio beside a back end, on its processor; and on both, the driver's too."""
    fio = session.fio
    if fio is None:
        return [], None
    fio.choose(image.path, operation, direct, min(FIO_CHOICE_S, session.arguments.seconds), {session.first})
    found = []
    for name, processors in (('fio', {session.first}), ('fio on both processors', session.both)):
        def once(processors=processors):
            return session.watched(lambda: fio.file(image.path, operation, direct, session.arguments.seconds,
                                                    processors))
        found.append(Subject(name, 'limit', once))
    return found, f'fio: io_uring, {fio.variant[operation, direct]}'


def file_variant(session, image, name, operation, wait, direct):
    options = {'depth': 32, 'wait': wait, 'op': operation, 'disk-bytes': image.bytes}
    ceilings = session.ceilings(options, ('split',))
    ours = session.backplane.file(image.path, direct)
    subjects = [session.ours(ours, options)]
    if not session.arguments.quick:
        subjects.append(session.ours(ours, options, 'packed'))
    peers = [qemu.file(image.path, direct) for qemu in session.qemus]
    if direct:
        peers += [qemu.file(image.path, direct, 'native') for qemu in session.qemus]
    subjects += session.peers(peers, options)
    limits, note = fio_subjects(session, image, operation, direct)
    return session.variant(name, subjects + limits, ceilings, note)


TMPFS_VARIANTS = [  # name, operation, driver's wait, in a quick run
    ('random reads', 'randread', 'poll', True),
    ('random reads, driver sleeps', 'randread', 'event', False),
    ('sequential reads', 'read', 'poll', False),
    ('random writes', 'randwrite', 'poll', False),
    ('sequential writes', 'write', 'poll', False),
]


def files_of(session, key, title, folder, direct, variants):
    try:
        with Image(folder, QUICK_FILE_MIB if session.arguments.quick else FILE_MIB) as image:
            done = [file_variant(session, image, name, operation, wait, direct)
                    for name, operation, wait, is_quick in variants if is_quick or not session.arguments.quick]
    except backends.Failed as problem:
        session.missing.append(f'{title}: {problem}')
        return []
    return [{'key': key, 'title': title, 'variants': done}]


def tmpfs(session):
    """a file on tmpfs, depth 32: random and sequential reads and writes, beside fio"""
    return files_of(session, 'tmpfs', 'File on tmpfs, 4 KiB, depth 32', session.arguments.tmpfs, False,
                    TMPFS_VARIANTS)


def disk(session):
    """a file on the local disk, O_DIRECT, depth 32: random reads, beside fio"""
    return files_of(session, 'disk', 'File on the local disk, O_DIRECT, 4 KiB, depth 32', session.arguments.disk, True,
                    TMPFS_VARIANTS[:1])


# ---- a second driver

def libblkio(session):
    """null disk with libblkio as the driver, depth 32 and 1"""
    try:
        root = backends.libblkio()
    except backends.packages.Unavailable as problem:
        session.missing.append(f'libblkio of Debian 13: {problem}')
        return []
    with tempfile.TemporaryDirectory(prefix='backplane-bench-') as folder:
        try:
            second = drivers.Blkio(root, folder)
        except backends.Failed as problem:
            session.missing.append(f'libblkio of Debian 13: {problem}')
            return []
        variants = []
        for depth in (32, 1):
            def subject(backend, kind, depth=depth):
                return Subject(backend.name, kind, session.with_backend(backend, lambda running: second.backend(
                    running, depth, session.arguments.seconds, session.second)), 'split')
            subjects = [subject(session.backplane.null(), 'ours')]
            subjects += [subject(backend, 'peer') for backend in session.null_peers()]
            variants.append(session.variant(f'libblkio, depth {depth}', subjects))
    return [{'key': 'libblkio', 'title': 'Null disk, reads of 4 KiB, with libblkio as the driver',
             'variants': variants}]


# ---- the virtqueue alone

WORKLOADS = {'one_chain': 'one chain of 128', 'chains': '128 chains', 'indirect': '128 indirect chains',
             'used': '128 used'}


def virtqueue(session):
    """the virtqueue alone, beside rust-vmm's: a chain of 128, 128 chains, 128 indirect chains, 128 used"""
    program = session.programs.virtqueue_bench
    if not os.path.exists(program):
        session.missing.append('the virtqueue alone: virtqueue_bench is not built')
        return None
    subjects = {f'backplane, {ring}': (program, [f'--ring={ring}']) for ring in RINGS}
    try:
        peer = drivers.rust_vmm(session.missing)
    except backends.Failed as problem:
        session.missing.append(f'rust-vmm virtio-queue: {problem}')
        peer = None
    if peer:
        subjects['rust-vmm'] = (peer, [])
    rounds = {name: [] for name in subjects}
    for turn, name in measure.in_turn(list(subjects), session.arguments.rounds):
        session.say(f'virtqueue alone: round {turn + 1} of {session.arguments.rounds}: {name}')
        command, options = subjects[name]

        def once(command=command, options=options):
            return drivers.virtqueue(command, options, session.first)
        try:
            rounds[name].append(session.watched(once))
        except drivers.Lacks as problem:
            session.missing.append(f'the virtqueue alone, {name}: {problem}')
    return {name: measure.summary(found, WORKLOADS) for name, found in rounds.items() if found}


# ---- how adaptive polling pays, over the pause between two requests

CURVE_GAPS_NS = [0, *(step * 10 ** power for power in range(3, 7) for step in (1, 2, 5)), 10_000_000]
QUICK_GAPS_NS = [0, 10_000, 1_000_000]


def curves(session):
    """latency and processor time over the pause between two requests, depth 1: each mode of polling, and the peer"""
    gaps = QUICK_GAPS_NS if session.arguments.quick else CURVE_GAPS_NS
    variants = []
    for gap in gaps:
        options = {'depth': 1, 'wait': 'poll', 'gap-ns': gap}
        subjects = [session.ours(mode, options) for mode in session.backplane.modes()]
        subjects += session.peers(session.null_peers()[-1:], options)
        variant = session.variant(f'{gap / 1000:g} us between requests', subjects)
        variant['gap_ns'] = gap
        variants.append(variant)
    return variants


TABLES = {'null': null, 'burst': burst, 'queues': queues, 'tmpfs': tmpfs, 'disk': disk, 'libblkio': libblkio}
