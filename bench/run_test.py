#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""script/bench's runner from end to end, on null disks without peers: that it measures and reports, not how fast.

  run_test.py BUILD-FOLDER
"""
import json
import os
import subprocess
import sys
import tempfile
import unittest
from xml.etree import ElementTree

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'tests', 'system'))

import tap  # noqa: E402

TIMEOUT_S = 200
# All that a machine with too much else to do may keep from a row.
TOO_BUSY = 'no request came back in the measured time'


class Run(unittest.TestCase):
    def bench(self, *arguments):
        return subprocess.run([sys.executable, os.path.join(HERE, 'run.py'), f'--programs={sys.argv[1]}', *arguments],
                              capture_output=True, text=True, timeout=TIMEOUT_S, check=False)

    def test_a_run_leaves_tables_figures_and_plots(self):
        with tempfile.TemporaryDirectory(prefix='backplane-bench-') as folder:
            figures = os.path.join(folder, 'figures.json')
            done = self.bench('null', '--no-peers', '--quick', '--rounds=1', '--seconds=0.05', f'--json={figures}',
                              f'--plots={folder}/plots')
            self.assertEqual((done.returncode, done.stderr), (0, ''))
            with open(figures, encoding='utf-8') as file:
                results = json.load(file)
            self.assertEqual(ElementTree.parse(f'{folder}/plots/null.svg').getroot().tag.split('}')[1], 'svg')
        self.assertEqual(results['rounds'], 1)
        variants = results['tables'][0]['variants']
        self.assertGreaterEqual(len(variants), 1)
        rows = [row for variant in variants for row in variant['rows']]
        for row in rows:
            self.assertTrue('lacks' in row or row.get('iops', 0) > 0 or TOO_BUSY in row.get('failed', ''), row)
        self.assertTrue(any(row['name'] == 'backplane' and 'iops' in row for row in rows), rows)
        for variant in variants:
            self.assertIn(variant['name'], done.stdout)
        self.assertIn('null, depth 32, polled', done.stdout)
        self.assertRegex(done.stdout.splitlines()[-3], r'quiet in all|TOO BUSY in')
        for path in figures, f'{folder}/plots/null.svg':
            self.assertIn(f'wrote {path}', done.stdout.splitlines()[-2:])
        self.assertGreaterEqual(results['quiet']['measured'], sum(
            1 for variant in variants for row in (*variant['rows'], *variant['ceilings'].values()) if 'iops' in row))

    def test_the_works_are_listed_without_measuring(self):
        done = self.bench('--list')
        self.assertEqual(done.returncode, 0)
        for name in ('null', 'tmpfs', 'disk', 'virtqueue', 'idle', 'instructions'):
            self.assertRegex(done.stdout, rf'(?m)^{name} +\S')

    def test_a_program_that_is_not_there_is_one_line(self):
        done = self.bench('null', '--no-peers', '--backplane=/nonexistent')
        self.assertEqual(done.returncode, 1)
        self.assertEqual(len(done.stderr.splitlines()), 1)
        self.assertIn('/nonexistent', done.stderr)


if __name__ == '__main__':
    tap.main(__name__)
