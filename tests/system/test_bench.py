#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The bench's programs: what they refuse, that the driver drives our disk and its own copy loop, that the virtqueue is
timed, and what they say about that. No test here depends on a speed.

  test_bench.py PROGRAM VHOST_BENCH VIRTQUEUE_BENCH
"""
import json
import os
import subprocess
import sys

from daemon import TIMEOUT_S, Case, main

SHORT = ['--seconds=0.1', '--warm-up-seconds=0.01']
ALWAYS = ('requests', 'seconds', 'iops', 'driver_cpu_ns_per_request')


class BenchCase(Case):
    """A test of the driver, or of another bench, which the command line names after the program."""
    place = 2

    def bench(self, *arguments):
        return subprocess.run([sys.argv[self.place], *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=TIMEOUT_S, check=False)

    def refuses(self, status, words, *arguments):
        done = self.bench(*arguments)
        self.assertEqual((done.returncode, done.stdout), (status, ''), done)
        for word in words:
            self.assertIn(word, done.stderr)

    def measures(self, *arguments):
        """The figures of a run, which must make sense."""
        done = self.bench(*arguments, *SHORT)
        self.assertEqual((done.returncode, done.stderr), (0, ''), done)
        self.assertEqual(done.stdout.count('\n'), 1)
        figures = json.loads(done.stdout)
        for name in ALWAYS:
            self.assertGreater(figures[name], 0, name)
        percentiles = [figures[f'latency_ns_{name}'] for name in ('p50', 'p99', 'p999')]
        if figures['latency_samples'] > 0:
            self.assertEqual(percentiles, sorted(percentiles))
        else:
            self.assertEqual(percentiles, [None] * 3)
        return figures

    def disk(self, *options):
        """How to drive a null disk of ours that has just been started."""
        daemon = self.start_listening('blk', '--blk-null=1G', *options)
        return [f'--socket-path={self.path("socket")}', f'--pid={daemon.pid}']


class WrongUse(BenchCase):
    """Exit status 2, and what is wrong."""

    def test_nothing_to_drive(self):
        for arguments in ([], ['--socket-path=/x'], ['--pid=1']):
            with self.subTest(arguments):
                self.refuses(2, ['usage: vhost_bench'], *arguments)

    def test_both_a_back_end_and_the_copy_loop(self):
        self.refuses(2, ['exclude each other'], '--ceiling', '--socket-path=/x')

    def test_an_unknown_option(self):
        self.refuses(2, ['frobnicate'], '--ceiling', '--frobnicate')

    def test_a_word_too_many(self):
        self.refuses(2, ['again: not an option'], '--ceiling', 'again')

    def test_numbers_that_are_none_or_out_of_range(self):
        for argument in ('--depth=0', '--depth=257', '--depth=', '--depth=-1', '--depth=1x', '--queues=0',
                         '--queues=65', '--ceiling-batch=0', '--request-bytes=511', '--request-bytes=1048577',
                         '--gap-ns=-1',
                         '--disk-bytes=18446744073709551616', '--seconds=0', '--seconds=nan', '--seconds=1s',
                         '--pid=0', '--ceiling-processor=-1', '--processors=0,x'):
            with self.subTest(argument):
                self.refuses(2, [argument.split('=', maxsplit=1)[0], 'not a number'], '--ceiling', argument)

    def test_choices_that_are_none(self):
        for argument in ('--ring=round', '--wait=long', '--op=trim'):
            with self.subTest(argument):
                self.refuses(2, [argument, 'no such choice'], '--ceiling', argument)

    def test_numbers_that_do_not_go_together(self):
        self.refuses(2, ['multiple of 512'], '--ceiling', '--request-bytes=513')
        self.refuses(2, ['more than the depth'], '--ceiling', '--depth=4', '--burst=5')
        self.refuses(2, ['more than the depth'], '--ceiling', '--depth=4', '--ceiling-batch=5')
        self.refuses(2, ['less than one request'], '--ceiling', '--queues=2', '--disk-bytes=4096')


class Failures(BenchCase):
    """Exit status 1 or 3, and why."""

    def test_a_processor_that_is_not_there(self):
        self.refuses(1, ['copy loop'], '--ceiling', '--ceiling-processor=1023', *SHORT)
        self.refuses(1, ['processor for the driver'], '--ceiling', '--processors=1023', *SHORT)

    def test_a_disk_that_may_not_be_written(self):
        image = self.image()
        daemon = self.start_listening('blk', f'--blk-file={image}', '--read-only')
        self.refuses(3, ['read-only'], f'--socket-path={self.path("socket")}', f'--pid={daemon.pid}', '--op=write',
                     '--disk-bytes=1048576', *SHORT)

    def test_more_queues_than_the_back_end_has(self):
        self.refuses(3, ['fewer queues'], *self.disk('--queues=2'), '--queues=3', *SHORT)

    def test_requests_past_the_end_of_the_disk(self):
        daemon = self.start_listening('blk', f'--blk-file={self.image(size=4096)}')
        self.refuses(1, ['without success'], f'--socket-path={self.path("socket")}', f'--pid={daemon.pid}', *SHORT)

    def test_a_process_that_is_not_there(self):
        socket_path = self.disk()[0]
        self.refuses(1, ['--pid', 'No such process'], socket_path, f'--pid={2 ** 31 - 1}', *SHORT)


class Ceiling(BenchCase):
    """The driver against its own copy loop."""

    def test_the_copy_loop_serves_a_driver_that_polls_and_one_that_sleeps(self):
        for ring in ('split', 'packed'):
            for wait in ('poll', 'event'):
                with self.subTest(f'{ring} {wait}'):
                    figures = self.measures('--ceiling', f'--ring={ring}', f'--wait={wait}')
                    self.assertEqual((figures['target'], figures['ring'], figures['wait']), ('ceiling', ring, wait))
                    self.assertEqual(figures['backend_wakes'], 0)

    def test_a_copy_loop_that_waits_for_a_batch_does_not_wait_for_ever(self):
        for ring in ('split', 'packed'):
            for more in ([], ['--burst=4', '--gap-ns=1000'], ['--wait=poll', '--burst=5']):
                with self.subTest(f'{ring} {more}'):
                    self.measures('--ceiling', f'--ring={ring}', '--depth=8', '--ceiling-batch=8', *more)

    def test_the_copy_loop_serves_several_queues(self):
        for ring in ('split', 'packed'):
            with self.subTest(ring):
                self.assertEqual(self.measures('--ceiling', f'--ring={ring}', '--queues=3')['queues'], 3)


class Disk(BenchCase):
    """The driver against a null disk of ours."""

    def test_every_operation_is_driven(self):
        target = self.disk()
        for op in ('read', 'write', 'randread', 'randwrite'):
            with self.subTest(op):
                figures = self.measures(*target, f'--op={op}')
                self.assertEqual((figures['target'], figures['op']), ('backend', op))
                self.assertGreater(figures['backend_cpu_ns_per_request'], 0)

    def test_depths_and_bursts_are_driven(self):
        target = self.disk()
        for depth, burst in ((1, 1), (8, 8), (256, 64)):
            for wait in ('poll', 'event'):
                with self.subTest(f'{depth} {burst} {wait}'):
                    figures = self.measures(*target, f'--depth={depth}', f'--burst={burst}', f'--wait={wait}')
                    self.assertEqual((figures['depth'], figures['burst']), (depth, burst))

    def test_queues_are_driven_side_by_side(self):
        figures = self.measures(*self.disk('--queues=2'), '--queues=2',
                                f'--processors={min(os.sched_getaffinity(0))}')
        self.assertEqual(figures['queues'], 2)

    def test_a_gap_keeps_requests_apart(self):
        for wait in ('poll', 'event'):
            with self.subTest(wait):
                gap_ns = 1000000
                figures = self.measures(*self.disk(), '--depth=2', f'--gap-ns={gap_ns}', f'--wait={wait}')
                # Each of the two places takes a new request once in a gap at most.
                self.assertLessEqual(figures['requests'], 2 * (figures['seconds'] * 1e9 / gap_ns + 1))
                self.assertEqual(figures['latency_samples'], figures['requests'])


class Virtqueue(BenchCase):
    """The virtqueue alone."""
    place = 3

    def test_what_is_no_option_of_the_virtqueue_bench(self):
        for argument in ('--ring=round', '--rounds=0', '--rounds=1001', '--rounds=1x', '--rounds=', 'again', '--what'):
            with self.subTest(argument):
                self.refuses(2, ['usage: virtqueue_bench'], argument)

    def test_four_workloads_are_timed_on_either_ring(self):
        for ring in ('split', 'packed'):
            with self.subTest(ring):
                done = self.bench(f'--ring={ring}', '--rounds=2', '--json')
                self.assertEqual((done.returncode, done.stderr), (0, ''), done)
                figures = json.loads(done.stdout)
                self.assertEqual((figures['ring'], figures['per'], figures['rounds']), (ring, 128, 2))
                self.assertEqual(sorted(figures['workloads']), ['chains', 'indirect', 'one_chain', 'used'])
                for figure in figures['workloads'].values():
                    self.assertLessEqual(figure['min'], figure['ns'])
                    self.assertLessEqual(figure['ns'], figure['max'])


if __name__ == '__main__':
    main(__name__)
