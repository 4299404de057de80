# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Where one request's cost goes: instructions, locks, lines of memory and system calls, counted, as Markdown.

Theory of operation. The back end runs under valgrind while the driver loads it, twice with callgrind for different
times: the difference of the two runs, divided by the difference of the requests that the device itself has counted, is
free of start and end. Callgrind says how often each instruction ran; the disassembly says which of them lock the bus or
wait for the store buffer. Lackey prints every access to memory; a function that runs once for each request cuts that
into requests, and the address tells whose memory it was. System calls are counted by strace, which slows only them.

Limits. Counts, no times: an instruction may cost a third of a cycle or wait for a hundred. Valgrind runs one thread at
a time, so queues that would overlap do not, and a burst may be larger or smaller than in free flight. What the kernel
does is in none of it but the calls.
"""
import collections
import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import threading

import backends
import drivers

SHORT_S, LONG_S, TRACE_S, CALLS_S = 0.3, 2.0, 8.0, 2.0
STOP_TIMEOUT_S = 120
LINE_BYTES = 64
# Requests whose lines are counted together: as many as are in flight.
WINDOW = 32
MAPS_S = 0.05
# In the name of a mapping: memory that a front end shares.
GUEST = '/memfd:'
# Of a trace: how many requests are looked at, after how many that warm up.
TRACED, TRACED_AFTER = 256, 64
# Functions of which exactly one call belongs to one request, the first that the program has.
ONCE_A_REQUEST = ('blk_request_start', 'virtqueue_pop')
# Of x86-64, then of arm64.
ATOMIC = (r'(?:lock|mfence|lfence|sfence)\b.*|xchg\b.*\(.*|'
          r'(?:dmb|dsb|ld[ax]*xr|st[lx]*xr|cas[al]*|swp[al]*|ld(?:add|clr|eor|set)[al]*)\b.*')
TOP = 24
# Rarer calls belong to something else.
CALLS_MIN = 0.0005
SUMMARY = ['', 'instructions', 'locked or fenced', 'reads and writes', 'lines of memory', 'system calls']


class Tool:
    """One run of the back end under a tool, driven for a while; .requests is what the device counted."""

    def __init__(self, session, command, options, seconds, folder):
        socket, control = os.path.join(folder, 'socket'), os.path.join(folder, 'control')
        polling = ['--polling=off'] if session.backplane.has('--polling') else []
        backend = backends.Running('backplane', [
            *command, session.programs.backplane, 'blk', f'--blk-null={backends.NULL_BYTES}', *polling,
            f'--socket-path={socket}', f'--control-path={control}'], socket, os.path.join(folder, 'log'))
        try:
            pid = backend.pid if not command or command[0] != 'strace' else _child_of(backend.pid)
            # The tool's own work is in the process' clock, which says nothing here.
            driver = session.driver.arguments({'socket-path': socket, 'pid': pid, 'disk-bytes': backends.NULL_BYTES,
                                               **options}, seconds)
            with _watched_maps(pid) as self.maps:
                self.answer = drivers.answer_of(driver, session.both, seconds + STOP_TIMEOUT_S)
            self.requests = self._stat(session, control, 'blk.reads')
            self._ctl(session, control, 'quit')
            backend.process.wait(STOP_TIMEOUT_S)
        finally:
            backend.stop()

    @staticmethod
    def _ctl(session, control, word):
        done = subprocess.run([session.programs.backplane, 'ctl', control, word], capture_output=True, text=True,
                              check=False)
        if done.returncode != 0:
            raise backends.Failed(f'ctl {word}: {done.stderr.strip()}')
        return done.stdout

    def _stat(self, session, control, key):
        return int(re.search(rf'^{re.escape(key)} (\d+)$', self._ctl(session, control, 'stats'), re.M).group(1))


def _child_of(pid):
    with open(f'/proc/{pid}/task/{pid}/children', encoding='ascii') as file:
        return int(file.read().split()[0])


@contextlib.contextmanager
def _watched_maps(pid):
    """The regions of @pid's memory while a guest's is among them, in a list that is filled by the end."""
    found, is_over = [], threading.Event()

    def watch():
        while not is_over.wait(MAPS_S):
            with contextlib.suppress(OSError):
                seen = regions(pid)
                if any(GUEST in name for *_, name in seen):
                    found[:] = seen

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        is_over.set()
        thread.join()


def more_requests(few, many):
    """How many requests the longer run had more; it must be a clear difference to divide by."""
    if many < 2 * few:
        raise backends.Failed(f'{few} requests in the shorter run, {many} in the longer one: the machine is too busy')
    return many - few


# ---- callgrind

class Profile:
    """What callgrind wrote with uncompressed names and positions: cost by (object, file, function) and by address."""

    def __init__(self, lines):
        self.own = collections.Counter()     # (object, file, function)
        self.calls = collections.Counter()   # function
        self.at = collections.Counter()      # (object, address)
        here = {'ob': '', 'fl': '', 'fn': ''}
        callee, is_call = '', False
        for line in lines:
            if line[:1] in '0123456789':
                if is_call:  # the cost of what was called belongs to it
                    is_call = False
                    continue
                fields = line.split()
                cost = int(fields[2])
                self.own[here['ob'], here['fl'], here['fn']] += cost
                self.at[here['ob'], int(fields[0], 16)] += cost
                continue
            key, _, value = line.rstrip('\n').partition('=')
            if key in ('fi', 'fe'):
                here['fl'] = value
            elif key in here:
                here[key] = value
            elif key == 'cfn':
                callee = value
            elif key == 'calls':
                self.calls[callee] += int(value.split()[0])
                is_call = True

    def minus(self, other):
        for mine, theirs in ((self.own, other.own), (self.calls, other.calls), (self.at, other.at)):
            mine.subtract(theirs)
        return self


def short_file(path, name):
    """Where a function's code stands, as people of this tree say it."""
    found = re.search(r'(?:^|/)src/(.*)$', path)
    return found.group(1) if found else f'({os.path.basename(name)})'


def profile(session, options, folder, seconds):
    path = os.path.join(folder, 'callgrind')
    run = Tool(session, ['valgrind', '--tool=callgrind', '--dump-instr=yes', '--dump-line=yes',
                         '--compress-strings=no', '--compress-pos=no', f'--callgrind-out-file={path}'], options,
               seconds, folder)
    with open(path, encoding='utf-8', errors='replace') as file:
        found = Profile(file)
    os.unlink(path)
    return found, run.requests


def atomics(program):
    """{address: text} of the instructions of @program that lock or fence."""
    done = subprocess.run(['objdump', '-d', '--no-show-raw-insn', '-w', program], capture_output=True, text=True,
                          check=True)
    pattern = re.compile(r'^\s*([0-9a-f]+):\s+(' + ATOMIC + r')$', re.M)
    return {int(address, 16): re.sub(r'\s+', ' ', text.strip()) for address, text in pattern.findall(done.stdout)}


# ---- lackey

def regions(pid):
    """[(first, last, permissions, name)] of the memory of @pid."""
    found = []
    with open(f'/proc/{pid}/maps', encoding='utf-8', errors='replace') as file:
        for line in file:
            fields = line.split(maxsplit=5)
            first, last = (int(part, 16) for part in fields[0].split('-'))
            found.append((first, last, fields[1], fields[5].strip() if len(fields) > 5 else ''))
    return found


def kind_of(address, mapped, program):
    """Whose memory an address is."""
    before = (0, 0, '', '')
    for region in mapped:
        first, last, _, name = region
        if first <= address < last:
            if GUEST in name:
                return 'guest memory'
            if name == program:
                return 'the program\'s constants'
            if '.so' in name:
                return 'libraries'
            # The C library puts a page that nobody may touch below the stack of each thread.
            is_stack = name == '[stack]' or (before[1] == first and before[2].startswith('---'))
            return 'stack' if is_stack else 'the device\'s state and arenas'
        before = region
    return 'unknown'


class Trace:
    """The accesses of lackey, cut into requests by the address of a function that runs once in each."""

    def __init__(self, lines, marker):
        self.requests, self.accesses = 0, collections.Counter()
        self.windows = []  # for each WINDOW requests: {kind: set of lines}
        hits, window = 0, None
        for line in lines:
            kind = line[:2]
            if kind not in ('I ', ' L', ' S', ' M'):
                continue
            address, _, size = line[3:].partition(',')
            address, size = int(address, 16), int(size)
            if kind == 'I ' and address == marker:
                if hits == TRACED_AFTER + TRACED:
                    break
                if hits >= TRACED_AFTER:
                    if (hits - TRACED_AFTER) % WINDOW == 0:
                        window = {'read': set(), 'written': set(), 'code': set()}
                        self.windows.append(window)
                    self.requests += 1
                hits += 1
            if window is None:
                continue
            which = {'I ': 'code', ' L': 'read'}.get(kind, 'written')
            self.accesses[which] += 1
            for number in range(address // LINE_BYTES, (address + size - 1) // LINE_BYTES + 1):
                window[which].add(number)

    def lines_a_request(self, which, judge):
        """{kind: lines of it that WINDOW requests touch, divided by as many}"""
        found = collections.Counter()
        for window in self.windows:
            touched = window['read'] | window['written'] if which == 'data' else window[which]
            found.update(judge(number * LINE_BYTES) for number in touched)
        count = WINDOW * max(1, len(self.windows))
        return {kind: total / count for kind, total in found.most_common()}


def symbol(program, names):
    done = subprocess.run(['nm', program], capture_output=True, text=True, check=True)
    for name in names:
        found = re.search(rf'^([0-9a-f]+) [tT] {name}$', done.stdout, re.M)
        if found:
            return int(found.group(1), 16)
    raise backends.Failed(f'none of {", ".join(names)} is a function of {program}')


def trace(session, options, folder):
    program = session.programs.backplane
    offset = symbol(program, ONCE_A_REQUEST)
    path = os.path.join(folder, 'lackey')
    run = Tool(session, ['valgrind', '--tool=lackey', '--trace-mem=yes', f'--log-file={path}'], options, TRACE_S,
               folder)
    base = min(first for first, *_, mapped in run.maps if mapped == program)
    with open(path, encoding='ascii', errors='replace') as file:
        found = Trace(file, base + offset)
    os.unlink(path)
    if found.requests < TRACED:
        raise backends.Failed(f'only {run.requests} requests were traced: too few')
    return found, run.maps


# ---- system calls

def counted_calls(text):
    """{name: calls} of the table that strace -c prints."""
    rows = re.findall(r'^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$', text, re.M)
    return collections.Counter({name: int(count) for count, name in rows if name != 'total'})


def system_calls(session, options, folder):
    """{name: calls a request}, and requests for each kick in the longer of two runs."""
    path, calls, requests = os.path.join(folder, 'strace'), collections.Counter(), []
    for seconds, sign in ((SHORT_S, -1), (CALLS_S, 1)):
        run = Tool(session, ['strace', '-f', '-c', '-o', path], options, seconds, folder)
        with open(path, encoding='utf-8') as file:
            counted = counted_calls(file.read())
        for name, count in counted.items():
            calls[name] += sign * count
        requests.append(run.requests)
    more = more_requests(*requests)
    return {name: count / more for name, count in calls.items() if count > 0}, run.answer


# ---- the page

def table(head, rows):
    return ['| ' + ' | '.join(head) + ' |', '|' + '---|' * len(head),
            *('| ' + ' | '.join(row) + ' |' for row in rows), '']


def instruction_tables(found, requests, program):
    files, functions = collections.Counter(), collections.Counter()
    for (name, file, function), cost in found.own.items():
        where = short_file(file, name)
        files[where] += cost
        functions[function.partition("'")[0], os.path.basename(name)] += cost
    total = sum(files.values())
    lines = [f'{total / requests:.0f} instructions a request, by the file that the code stands in:', '']
    lines += table(['file', 'instructions', 'part'], [[f'`{where}`', f'{cost / requests:.1f}', f'{cost / total:.1%}']
                                                      for where, cost in files.most_common(TOP) if cost > total / 500])
    lines += ['By function, with all that the compiler has put into it:', '']
    lines += table(['function', 'instructions', 'part'],
                   [[f'`{function}`' + ('' if name == os.path.basename(program) else f' ({name})'),
                     f'{cost / requests:.1f}', f'{cost / total:.1%}']
                    for (function, name), cost in functions.most_common(TOP) if cost > total / 500])
    return lines


def atomic_counts(found, program):
    """[(count, address, text)] of the locks and fences of our own code that ran, the most frequent first."""
    known, ours = atomics(program), os.path.basename(program)
    return sorted(((count, address, known[address]) for (name, address), count in found.at.items()
                   if count > 0 and os.path.basename(name) == ours and address in known), reverse=True)


def atomic_table(counts, requests, program):
    total = sum(count for count, *_ in counts)
    lines = [f'{total / requests:.3f} locked instructions and fences a request in our own code:', '']
    return lines + table(['instruction', 'a request'], [[f'`{text}` at {_where(program, address)}',
                                                         f'{count / requests:.4f}']
                                                        for count, address, text in counts if count > requests / 1000])


def _where(program, address):
    done = subprocess.run(['addr2line', '-f', '-e', program, hex(address)], capture_output=True, text=True, check=False)
    function, _, place = done.stdout.strip().partition('\n')
    return f'`{function}` ({re.sub(r"^.*/src/", "", place.split(" ")[0])})'


def memory_table(found, mapped, program):
    def judge(address):
        return kind_of(address, mapped, program)
    data, written = found.lines_a_request('data', judge), found.lines_a_request('written', judge)
    code = sum(len(window['code']) for window in found.windows) / len(found.windows)
    reads, writes = (found.accesses[which] / found.requests for which in ('read', 'written'))
    lines = [f'{reads:.0f} reads and {writes:.0f} writes of memory a request. Lines of {LINE_BYTES} bytes that '
             f'{WINDOW} requests touch, divided by {WINDOW}:', '']
    rows = [[kind, f'{count:.2f}', f'{written.get(kind, 0):.2f}'] for kind, count in data.items()]
    rows.append(['all data', f'{sum(data.values()):.2f}', f'{sum(written.values()):.2f}'])
    lines += table(['whose', 'lines', 'of them written'], rows)
    return lines + [f'Code: {code:.0f} lines in all, {code * LINE_BYTES / 1024:.1f} KiB.', '']


# Shown all at once, so that each run has the same bursts.
CASES = [  # title, driver's options, memory as well
    ('split ring, depth 32', {'ring': 'split', 'depth': 32, 'burst': 32, 'wait': 'event'}, True),
    ('packed ring, depth 32', {'ring': 'packed', 'depth': 32, 'burst': 32, 'wait': 'event'}, True),
    ('split ring, depth 1', {'ring': 'split', 'depth': 1, 'wait': 'event'}, False),
    ('packed ring, depth 1', {'ring': 'packed', 'depth': 1, 'wait': 'event'}, False),
]


def one_case(session, title, options, has_memory, folder):
    """The lines of one case, and its row of the summary."""
    program = session.programs.backplane
    session.say(f'breakdown: {title}: callgrind')
    short, few = profile(session, options, folder, SHORT_S)
    found, many = profile(session, options, folder, LONG_S)
    found, requests = found.minus(short), more_requests(few, many)
    lines = ['', f'### {title[0].upper()}{title[1:]}', '']
    atomic = atomic_counts(found, program)
    lines += instruction_tables(found, requests, program) + atomic_table(atomic, requests, program)
    row = [title, f'{sum(found.own.values()) / requests:.0f}',
           f'{sum(count for count, *_ in atomic) / requests:.2f}']
    if has_memory:
        session.say(f'breakdown: {title}: lackey')
        traced, mapped = trace(session, options, folder)
        lines += memory_table(traced, mapped, program)
        accesses = (traced.accesses['read'] + traced.accesses['written']) / traced.requests
        touched = traced.lines_a_request('data', lambda _: 'all')['all']
        row += [f'{accesses:.0f}', f'{touched:.1f}']
    else:
        row += ['–', '–']
    session.say(f'breakdown: {title}: strace')
    calls, answer = system_calls(session, options, folder)
    lines += [f'System calls, {answer["requests_per_kick"]:.1f} requests a kick:', '']
    lines += table(['call', 'a request'], [[name, f'{count:.4f}'] for name, count in
                                           sorted(calls.items(), key=lambda one: -one[1]) if count >= CALLS_MIN])
    return lines, [*row, f'{sum(calls.values()):.3f}']


def breakdown(session):
    """where one request's cost goes, by valgrind and strace; only when named"""
    for tool in ('valgrind', 'strace', 'objdump', 'addr2line'):
        if shutil.which(tool) is None:
            session.missing.append(f'breakdown: {tool} is not installed')
            return None
    lines, rows = [], []
    for title, options, has_memory in CASES:
        with tempfile.TemporaryDirectory(prefix='backplane-bench-') as folder:
            try:
                more, row = one_case(session, title, options, has_memory, folder)
                lines += more
                rows.append(row)
            except (backends.Failed, drivers.Lacks) as problem:
                session.missing.append(f'breakdown, {title}: {problem}')
    return ['', 'Null disk, reads of 4 KiB, driver sleeps; for one request:', '', *table(SUMMARY, rows), *lines]
