#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""That count-instructions finds what it is for, and counts the same wherever it runs.

  count_instructions_test.py PROGRAM PROGRAM-WITH-PLANTED-WORK
"""
import contextlib
import importlib.machinery
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '../tests/system'))
import tap  # noqa: E402  pylint: disable=wrong-import-position

COUNT = os.path.join(HERE, 'count-instructions')
WORKLOAD = 'blk-split-1'
TIMEOUT_S = 600


def module():
    loader = importlib.machinery.SourceFileLoader('count_instructions', COUNT)
    made = importlib.util.module_from_spec(importlib.util.spec_from_loader('count_instructions', loader))
    loader.exec_module(made)
    return made


class Case(unittest.TestCase):
    """A folder of its own, and the count of one workload."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix='backplane-count-test-')
        self.addCleanup(shutil.rmtree, self.folder)
        self.file = None

    def run_count(self, *arguments, **options):
        return subprocess.run([COUNT, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              check=False, timeout=TIMEOUT_S, **options)

    def line(self, program, **options):
        """The line that the file should have."""
        done = self.run_count(program, f'--workload={WORKLOAD}', '--print', **options)
        self.assertEqual(done.returncode, 0, done)
        return done.stdout

    def compared(self, text, program=None, *options):
        """Exit status and output for a file of @text, which stays as self.file."""
        self.file = os.path.join(self.folder, 'counts.txt')
        with open(self.file, 'w', encoding='utf-8') as file:
            file.write(text)
        done = self.run_count(program or sys.argv[1], f'--file={self.file}', f'--workload={WORKLOAD}', *options)
        return done.returncode, done.stdout + done.stderr

    def text(self):
        with open(self.file, encoding='utf-8') as file:
            return file.read()

    def scaled(self, factor):
        """The line with another number."""
        return re.sub(r'[\d.]+$', lambda found: f'{float(found[0]) * factor:.2f}', self.line(sys.argv[1]).rstrip())


class Comparison(Case):
    """What the file says against what is so."""

    def test_the_same_count_passes_and_so_does_one_within_two_percent(self):
        for factor in (1, 1.015, 0.985):
            with self.subTest(factor):
                self.assertEqual(self.compared(self.scaled(factor) + ' # why\n')[0], 0)

    def test_planted_work_is_found(self):
        status, output = self.compared(self.line(sys.argv[1]), sys.argv[2])
        self.assertEqual(status, 1)
        self.assertIn('grown', output)

    def test_less_work_asks_for_a_lower_line(self):
        status, output = self.compared(self.scaled(1.03))
        self.assertEqual(status, 1)
        self.assertIn('fallen', output)

    def test_lines_are_lowered_and_added_but_never_raised(self):
        line = self.line(sys.argv[1])
        self.assertEqual(self.compared('# first\n' + self.scaled(1.03) + ' # why\n', None, '--lower')[0], 0)
        self.assertEqual(self.text(), '# first\n' + line.rstrip() + ' # why\n')
        self.assertEqual(self.compared('', None, '--lower')[0], 0)
        self.assertEqual(self.text(), line)
        less = self.scaled(0.95) + '\n'
        status, output = self.compared(less, None, '--lower')
        self.assertEqual((status, self.text()), (1, less))
        self.assertIn('grown', output)

    def test_a_workload_without_a_line_is_found(self):
        compiler = ' '.join(self.line(sys.argv[1]).split()[:2])
        status, output = self.compared(f'{compiler} another-workload 1.00\n')
        self.assertEqual(status, 1)
        self.assertIn('write it there', output)

    def test_a_line_without_a_workload_is_found(self):
        with contextlib.redirect_stdout(io.StringIO()) as output:
            self.assertEqual(module().compare({}, {'gone': 1.0}, 'file'), 1)
        self.assertIn('take it out', output.getvalue())

    def test_a_compiler_without_a_line_is_a_skip_with_a_reason(self):
        status, output = self.compared('cc-0 pdp11 blk-split-1 1.00\n')
        self.assertEqual(status, 77)
        self.assertIn('no counts for', output)

    def test_a_malformed_line_is_refused(self):
        for text in ('gcc-12 x86_64 blk-split-1\n', 'gcc-12 x86_64 blk-split-1 many\n', self.line(sys.argv[1]) * 2):
            with self.subTest(text):
                status, output = self.compared(text)
                self.assertEqual(status, 1)
                self.assertIn('counts.txt:', output)

    def test_a_count_that_depends_on_the_number_of_queues_is_found(self):
        uneven = module().uneven
        with contextlib.redirect_stdout(io.StringIO()):
            self.assertEqual(uneven({'blk-split-32': 100.0, 'blk-split-32-16-queues': 101.9}), 0)
            self.assertEqual(uneven({'blk-split-32': 100.0, 'blk-split-32-16-queues': 102.1}), 1)
            self.assertEqual(uneven({'blk-split-32': 100.0, 'blk-split-32-64-queues': 97.9}), 1)
            self.assertEqual(uneven({'bus-access': 100.0, 'bus-access-1000-devices': 102.1}), 1)


class Sameness(Case):
    """One program, one count."""

    def test_neither_place_nor_environment_change_a_count(self):
        here = self.line(sys.argv[1])
        far = os.path.join(self.folder, *['a-rather-long-name-of-a-folder'] * 20)
        os.makedirs(far)
        copy = shutil.copy(sys.argv[1], os.path.join(far, 'another-name'))
        environment = {**os.environ, **{f'VARIABLE_{i}': 'x' * 100 for i in range(100)}}
        self.assertEqual(self.line(copy, env=environment), here)
        environment = {**os.environ, 'GLIBC_TUNABLES': 'glibc.cpu.hwcaps=-AVX2_Usable,-AVX2,-ERMS,-SSSE3'}
        self.assertEqual(self.line(copy, env=environment), here)


if __name__ == '__main__':
    tap.main(__name__)
