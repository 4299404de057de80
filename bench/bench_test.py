#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What script/bench makes of planted figures: statistics, load, verdicts, tables and plots. No timing."""
import contextlib
import io
import os
import sys
import unittest
from unittest import mock
from xml.etree import ElementTree

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, '..', 'tests', 'system'))

import backends  # noqa: E402
import drivers  # noqa: E402
import idle  # noqa: E402
import measure  # noqa: E402
import plots  # noqa: E402
import run  # noqa: E402
import svg  # noqa: E402
import tables  # noqa: E402
import tap  # noqa: E402
import verdicts  # noqa: E402
import works  # noqa: E402

QUIET = {'others': 0.01, 'steal': 0.0, 'spin': 0.01}


def row(name, kind, iops, cpu_ns=100.0, ring='split', **more):
    return {'name': name, 'kind': kind, 'ring': ring, 'iops': iops, 'cpu_ns': cpu_ns, 'rounds': 3, 'marked': 0, **more}


def results_with(key, name, rows, ceilings=None):
    variant = {'name': name, 'rows': rows, 'ceilings': ceilings or {}, 'note': None}
    return {'tables': [{'key': key, 'title': 'Title', 'variants': [variant]}]}


class Statistics(unittest.TestCase):
    def test_the_spread_is_the_range_as_a_part_of_the_median(self):
        self.assertEqual(measure.spread([8, 10, 14]), 0.6)
        self.assertEqual(measure.spread([5]), 0)
        self.assertEqual(measure.spread([0, 0, 0]), 0)

    def test_a_summary_has_medians_spreads_and_how_many_rounds_are_marked(self):
        rounds = [{'iops': 30, 'marks': []}, {'iops': 10, 'marks': ['steal']}, {'iops': 20, 'marks': []}]
        self.assertEqual(measure.summary(rounds, ['iops']), {'rounds': 3, 'marked': 1, 'iops': 20, 'iops_spread': 1.0})

    def test_a_figure_that_one_round_lacks_is_none_of_the_summary(self):
        rounds = [{'iops': 1, 'cpu_ns': 5, 'marks': []}, {'iops': 1, 'marks': []},
                  {'iops': 1, 'cpu_ns': None, 'marks': []}]
        self.assertNotIn('cpu_ns', measure.summary(rounds, ['iops', 'cpu_ns']))

    def test_subjects_take_turns_and_every_second_round_goes_backwards(self):
        self.assertEqual(list(measure.in_turn(['a', 'b', 'c'], 3)),
                         [(0, 'a'), (0, 'b'), (0, 'c'), (1, 'c'), (1, 'b'), (1, 'a'), (2, 'a'), (2, 'b'), (2, 'c')])

    def test_the_processor_time_of_fio_is_that_of_the_middle_of_its_run(self):
        # A second of setting up at full load, then 1 s at half a processor, then 0.1 s of ending at full load.
        samples = [(t / 100, t / 100) for t in range(101)]
        samples += [(1 + t / 100, 1 + t / 200) for t in range(1, 101)]
        samples += [(2 + t / 100, 1.5 + t / 100) for t in range(1, 11)]
        self.assertAlmostEqual(drivers.cpu_share(samples, 2.1, 1.0), 0.5, delta=0.01)

    def test_a_run_that_was_not_looked_at_has_no_processor_time(self):
        self.assertIsNone(drivers.cpu_share([], 2.0, 1.0))
        self.assertIsNone(drivers.cpu_share([(1.5, 0.2)], 2.0, 1.0))


class Load(unittest.TestCase):
    def test_a_quiet_machine_leaves_no_mark(self):
        self.assertEqual(measure.judge(QUIET), [])

    def test_others_the_hypervisor_and_a_changed_loop_each_leave_a_mark(self):
        for key, value, words in (('others', 0.2, 'others took 20%'), ('steal', 0.05, 'hypervisor took 5%'),
                                  ('spin', 0.4, '40%')):
            with self.subTest(key):
                marks = measure.judge({**QUIET, key: value})
                self.assertEqual(len(marks), 1)
                self.assertIn(words, marks[0])

    def test_busy_time_is_all_but_idle_and_steal_is_apart(self):
        tick = os.sysconf('SC_CLK_TCK')
        text = 'cpu  ' + ' '.join(str(count * tick) for count in (1, 2, 3, 1000, 1000, 4, 5, 6, 0, 0))
        self.assertEqual(measure.machine_times_s(text), (15, 6))

    def test_what_is_ours_is_no_load(self):
        before, after = {'wall': 10, 'busy': 100, 'steal': 5}, {'wall': 12, 'busy': 103, 'steal': 5.4}
        found = measure.shares(before, after, 2.6, 2)
        self.assertAlmostEqual(found['others'], 0.1)
        self.assertAlmostEqual(found['steal'], 0.1)

    def test_more_of_ours_than_the_ticks_show_is_no_negative_load(self):
        before, after = {'wall': 0, 'busy': 0, 'steal': 0}, {'wall': 1, 'busy': 1, 'steal': 0}
        self.assertEqual(measure.shares(before, after, 1.5, 2)['others'], 0)
        self.assertEqual(measure.shares(before, before, 0, 2), {'others': 0.0, 'steal': 0.0})

    def test_the_loop_counts_as_changed_in_either_direction_on_any_processor(self):
        self.assertAlmostEqual(measure.spin_change([1.0, 2.0], [1.0, 3.0]), 0.5)
        self.assertAlmostEqual(measure.spin_change([1.0, 3.0], [1.0, 2.0]), 0.5)
        self.assertEqual(measure.spin_change([1.0], [1.0]), 0)

    def test_a_measurement_on_a_busy_machine_is_marked_and_kept(self):
        looks = iter([{'wall': 0, 'busy': 0, 'steal': 0, 'ours': 0}, {'wall': 1, 'busy': 2, 'steal': 0, 'ours': 0.5}])
        with mock.patch.object(measure.Watch, '_look', lambda _: next(looks)), \
                mock.patch.object(measure, 'spins_s', lambda _: [1.0]), mock.patch.object(os, 'cpu_count', lambda: 2):
            with measure.Watch([0]) as watch:
                pass
        self.assertEqual(watch.seen['others'], 0.75)
        self.assertEqual(len(watch.marks), 1)

    def test_the_last_words_say_whether_to_believe_the_run(self):
        quiet = measure.Quiet()
        quiet.add(QUIET, [])
        self.assertIn('quiet in all 1 measurements', quiet.sentence())
        quiet.add({**QUIET, 'others': 0.5}, ['others took 50%'])
        self.assertIn('TOO BUSY in 1 of 2', quiet.sentence())
        self.assertIn('others took 50%', quiet.sentence())


class Verdicts(unittest.TestCase):
    EVENT, POLLS, ONE = 'depth 32, driver sleeps', 'depth 32, driver polls', 'depth 1, driver sleeps'

    def verdict(self, function, results, *arguments):
        return function(results, *arguments)['verdict']

    def test_nothing_measured_is_nothing_reached(self):
        for one in verdicts.all_lines({'tables': []}, works.WORKLOADS):
            with self.subTest(one['claim']):
                self.assertEqual(one['verdict'], verdicts.NOT_MEASURED)

    def test_a_quarter_of_the_peer_s_processor_time_is_enough_and_a_little_more_is_not(self):
        for cpu_ns, expected in ((25.0, verdicts.REACHED), (25.1, verdicts.NOT_REACHED)):
            rows = [row('backplane', 'ours', 1, cpu_ns), row('qemu', 'peer', 1, 100.0),
                    row('qemu old', 'peer', 9, 200.0)]
            self.assertEqual(self.verdict(verdicts.null_event, results_with('null', self.EVENT, rows)), expected)

    def test_event_driven_is_the_mode_without_polling_where_there_is_one(self):
        rows = [row('backplane', 'ours', 1, 90.0), row('backplane --polling=off', 'ours', 1, 20.0),
                row('qemu', 'peer', 1, 100.0)]
        self.assertEqual(self.verdict(verdicts.null_event, results_with('null', self.EVENT, rows)), verdicts.REACHED)

    def test_polled_is_reached_by_iops_or_by_a_part_of_the_ceiling(self):
        for iops, ceiling, expected in ((10e6, 50e6, verdicts.REACHED), (4.5e6, 5e6, verdicts.REACHED),
                                        (4.4e6, 5e6, verdicts.NOT_REACHED), (9e6, None, verdicts.NOT_REACHED)):
            with self.subTest(iops):
                ceilings = {'split': {'iops': ceiling}} if ceiling else {}
                results = results_with('null', self.POLLS, [row('backplane --polling=always', 'ours', iops)], ceilings)
                self.assertEqual(self.verdict(verdicts.null_polled, results), expected)

    def test_polled_is_judged_by_the_higher_ceiling_of_the_two_rings(self):
        rows = [row('backplane --polling=always, packed', 'ours', 4e6, ring='packed')]
        for split, packed, expected in ((4e6, 9e6, verdicts.NOT_REACHED), (9e6, 4e6, verdicts.NOT_REACHED),
                                        (4.4e6, 2e6, verdicts.REACHED)):
            results = results_with('null', self.POLLS, rows, {'split': {'iops': split}, 'packed': {'iops': packed}})
            self.assertEqual(self.verdict(verdicts.null_polled, results), expected)

    def test_depth_one_is_the_default_mode_against_the_fastest_peer(self):
        rows = [row('backplane', 'ours', 60), row('backplane --polling=always', 'ours', 600), row('slow', 'peer', 10),
                row('fast', 'peer', 21)]
        results = results_with('null', self.ONE, rows)
        self.assertEqual(self.verdict(verdicts.null_depth_1, results, 'sleeps'), verdicts.NOT_REACHED)
        rows[0]['iops'] = 63
        self.assertEqual(self.verdict(verdicts.null_depth_1, results, 'sleeps'), verdicts.REACHED)

    def test_a_file_is_judged_by_fio_of_that_name(self):
        rows = [row('backplane', 'ours', 95), row('fio', 'limit', 100), row('fio on both processors', 'limit', 110)]
        results = results_with('tmpfs', 'random reads', rows)
        for fio, expected in (('fio', verdicts.REACHED), ('fio on both processors', verdicts.NOT_REACHED)):
            self.assertEqual(self.verdict(verdicts.file_of, results, 'tmpfs', 'x', 0.95, 'random reads', fio), expected)

    def test_a_file_is_judged_by_the_split_ring_though_the_packed_one_is_faster(self):
        rows = [row('backplane', 'ours', 94), row('backplane, packed', 'ours', 99, ring='packed'),
                row('fio', 'limit', 100, ring=None)]
        for iops, expected in ((94, verdicts.NOT_REACHED), (95, verdicts.REACHED), (None, verdicts.NOT_MEASURED)):
            rows[0]['iops'] = iops
            results = results_with('tmpfs', 'random reads', rows)
            verdict = self.verdict(verdicts.file_of, results, 'tmpfs', 'x', 0.95, 'random reads', 'fio')
            self.assertEqual(verdict, expected)

    def test_the_virtqueue_is_judged_by_the_ring_that_the_peer_has(self):
        virtqueue = {'rust-vmm': {'used': 100}, 'backplane, split': {'used': 51}, 'backplane, packed': {'used': 20}}
        self.assertEqual(self.verdict(verdicts.virtqueue, {'virtqueue': virtqueue}, 'used', 'u'), verdicts.NOT_REACHED)
        virtqueue['backplane, split']['used'] = 50
        self.assertEqual(self.verdict(verdicts.virtqueue, {'virtqueue': virtqueue}, 'used', 'u'), verdicts.REACHED)

    def test_one_wake_is_too_many_and_a_short_watch_proves_nothing(self):
        for wakes, seconds, expected in ((0, 10, verdicts.REACHED), (1, 10, verdicts.NOT_REACHED),
                                         (0, 3, verdicts.NOT_MEASURED), (1, 3, verdicts.NOT_REACHED)):
            seen = {'wakes': {'backplane': {'wakes': wakes, 'seconds': seconds}}}
            self.assertEqual(self.verdict(verdicts.idle_wakes, {'idle': seen}), expected)

    def test_instructions_may_differ_by_two_per_cent(self):
        for counts, expected in (({1: 100, 16: 101, 64: 102}, verdicts.REACHED),
                                 ({1: 100, 16: 98, 64: 101}, verdicts.NOT_REACHED),
                                 ({1: 100, 16: 100}, verdicts.NOT_MEASURED)):
            self.assertEqual(self.verdict(verdicts.instructions, {'instructions': counts}), expected)

    def test_the_largest_daemon_counts_and_there_must_be_a_thousand(self):
        for largest, count, expected in ((1024, 500, verdicts.REACHED), (1025, 500, verdicts.NOT_REACHED),
                                         (100, 499, verdicts.NOT_MEASURED)):
            crowd = {name: {'count': count, 'median': 50, 'max': largest} for name in ('rng', 'blk')}
            self.assertEqual(self.verdict(verdicts.memory_crowd, {'idle': {'crowd': crowd}}), expected)
        self.assertEqual(self.verdict(verdicts.memory_alone, {'idle': {'alone_kib': {'rng': 10, 'blk': 1025}}}),
                         verdicts.NOT_REACHED)

    def test_a_verdict_from_a_busy_machine_says_so(self):
        rows = [row('backplane', 'ours', 100, marked=1), row('qemu', 'peer', 10)]
        line = verdicts.null_depth_1(results_with('null', self.ONE, rows), 'sleeps')
        self.assertTrue(line['marked'])
        ceiling = {'split': {'iops': 100, 'marked': 1}}
        polled = results_with('null', self.POLLS, [row('backplane', 'ours', 95)], ceiling)
        self.assertTrue(verdicts.null_polled(polled)['marked'])
        self.assertIn('reached !', '\n'.join(tables.summary([line])))


class Tables(unittest.TestCase):
    ROWS = [row('backplane', 'ours', 200000, 50.0), row('qemu', 'peer', 100000, 200.0, marked=2),
            row('fio', 'limit', 400000, 80.0, ring=None),
            {'name': 'packed', 'kind': 'ours', 'ring': 'packed', 'lacks': 'no packed rings'}]

    def text(self):
        one = results_with('null', 'here', self.ROWS, {'split': row('c', 'ceiling', 800000)})['tables'][0]
        return '\n'.join(tables.table(one))

    def test_a_row_has_its_ratios_to_peer_ceiling_and_fio(self):
        cells = next(line for line in self.text().splitlines() if 'backplane' in line).split()
        self.assertEqual(cells, ['backplane', '200.0', '2.00', '0.25', '0.50', '50.0', '0.25'])

    def test_what_was_not_measured_is_said_with_its_reason(self):
        self.assertIn('packed: no packed rings', self.text())

    def test_marked_rounds_are_shown_in_their_row_and_below_the_table(self):
        self.assertIn('! 2/3', self.text())
        self.assertIn('too busy in 2 of 12 measurements', self.text())

    def test_a_column_without_a_figure_is_left_out(self):
        self.assertNotIn('p50', self.text())
        self.assertIn('of ceiling', self.text())

    def test_no_row_at_all_is_a_table_all_the_same(self):
        one = results_with('null', 'here', [self.ROWS[3]])['tables'][0]
        self.assertIn('no packed rings', '\n'.join(tables.table(one)))


class Plots(unittest.TestCase):
    def parsed(self, content):
        return ElementTree.fromstring(content)

    def rects(self, content):
        return self.parsed(content).findall('{http://www.w3.org/2000/svg}rect')

    def texts(self, content):
        return [node.text for node in self.parsed(content).iter('{http://www.w3.org/2000/svg}text')]

    def test_steps_of_an_axis_are_round_numbers(self):
        self.assertEqual([svg.nice_step(top) for top in (4, 7, 19, 100, 0.4)], [1, 2, 5, 50, 0.1])

    def test_numbers_are_short(self):
        self.assertEqual([svg.number(value) for value in (0, 0.1, 999, 1000, 45678, 11.4e6)],
                         ['0', '0.1', '999', '1 k', '45.7 k', '11.4 M'])

    def test_bars_are_as_long_as_their_values(self):
        panel = {'name': 'p', 'bars': [svg.Bar('a', (50,), 'blue'), svg.Bar('b', (100,), 'orange')]}
        widths = {rect.get('fill'): float(rect.get('width')) for rect in self.rects(svg.bars('t', ('x',), [panel]))}
        self.assertAlmostEqual(widths[svg.COLOURS['orange']], 2 * widths[svg.COLOURS['blue']], delta=0.2)
        self.assertLessEqual(widths[svg.COLOURS['orange']], svg.PLOT_WIDTH)

    def test_names_are_escaped_and_a_missing_value_is_no_bar(self):
        panel = {'name': '<&>', 'bars': [svg.Bar('a & b', (None,), 'blue')]}
        content = svg.bars('t', ('x',), [panel])
        self.assertIn('a & b', self.texts(content))
        self.assertEqual(len(self.rects(content)), 1)  # the paper

    def test_everything_drawn_lies_on_the_paper(self):
        panel = {'name': 'p', 'bars': [svg.Bar('a rather long name of a back end', (1e6,), 'blue', ((9e5, 9e6),))]}
        for content in (svg.bars('t', ('x',), [panel]),
                        svg.lines('t', 'x', 'y', [svg.Line('l', [(0, 3), (1, 5), (10000, 80)], 'blue')])):
            root = self.parsed(content)
            width, height = float(root.get('width')), float(root.get('height'))
            for node in root.iter():
                for key, limit in (('x1', width), ('x2', width), ('y1', height), ('y2', height), ('x', width),
                                   ('y', height), ('cx', width), ('cy', height)):
                    if node.get(key) is not None:
                        self.assertTrue(0 <= float(node.get(key)) <= limit, f'{node.tag} {key}={node.get(key)}')

    def test_a_decade_is_as_wide_as_the_next(self):
        content = svg.lines('t', 'x', 'y', [svg.Line('l', [(1, 1), (10, 10), (100, 100)], 'blue')])
        dots = [float(dot.get('cx')) for dot in self.parsed(content).iter('{http://www.w3.org/2000/svg}circle')][:3]
        self.assertAlmostEqual(dots[1] - dots[0], dots[2] - dots[1], delta=0.2)

    def test_no_pause_is_drawn_left_of_the_shortest(self):
        content = svg.lines('t', 'x', 'y', [svg.Line('l', [(0, 1), (1, 10)], 'blue')], 'none')
        dots = [float(dot.get('cx')) for dot in self.parsed(content).iter('{http://www.w3.org/2000/svg}circle')]
        self.assertLess(dots[0], dots[1])
        self.assertIn('none', self.texts(content))

    def test_a_plot_without_a_point_is_refused(self):
        self.assertRaises(ValueError, svg.lines, 't', 'x', 'y', [svg.Line('l', [], 'blue')])

    def test_each_table_is_a_plot_with_a_bar_for_each_row_and_ceiling(self):
        results = results_with('null', 'here', Tables.ROWS, {'split': row('c', 'ceiling', 800000)})
        content = plots.table(results['tables'][0])
        for name in ('ceiling, split', 'backplane', 'qemu', 'fio', 'here'):
            self.assertIn(name, self.texts(content))
        self.assertIsNone(plots.table(results_with('null', 'here', [Tables.ROWS[3]])['tables'][0]))

    def test_a_peer_has_one_colour_whatever_its_options(self):
        peers = plots.peers_of([{'rows': [row('qemu 7', 'peer', 1), row('qemu 9', 'peer', 1),
                                          row('qemu 9, aio=native', 'peer', 1)]}])
        self.assertEqual(peers, ['qemu 7', 'qemu 9'])
        self.assertEqual(plots.colour('qemu 9, aio=native', 'peer', peers), plots.colour('qemu 9', 'peer', peers))
        self.assertNotEqual(plots.colour('qemu 7', 'peer', peers), plots.colour('qemu 9', 'peer', peers))

    def test_a_plot_of_marked_rows_warns_and_one_of_a_quiet_machine_does_not(self):
        for marked in (0, 1):
            rows = [row('backplane', 'ours', 5, marked=marked, latency_ns_p50=3)]
            one = results_with('null', 'here', rows)['tables'][0]
            self.assertEqual(plots.BUSY in self.texts(plots.table(one)), bool(marked))
            one['variants'][0]['gap_ns'] = 1000
            curves = plots.curves(one['variants'])
            self.assertEqual(plots.BUSY in self.texts(curves['polling-latency.svg']), bool(marked))

    def test_curves_have_a_line_for_each_mode(self):
        variants = [{'name': str(gap), 'gap_ns': gap, 'ceilings': {}, 'rows': [
            row(name, 'ours', 1000, 2000.0, latency_ns_p50=gap + 500) for name in
            ('backplane', 'backplane --polling=off', 'backplane --polling=always')]} for gap in (0, 1000, 10000)]
        found = plots.curves(variants)
        self.assertEqual(set(found), {'polling-latency.svg', 'polling-cpu.svg', 'polling-share.svg'})
        for name in ('backplane (adaptive)', 'backplane --polling=off', 'backplane --polling=always'):
            self.assertIn(name, self.texts(found['polling-latency.svg']))


class Programs(unittest.TestCase):
    def test_an_option_is_found_only_as_the_help_has_it(self):
        ours = backends.Backplane.__new__(backends.Backplane)
        ours.program = 'backplane'
        ours.help = '  --direct=on|off|auto  past the cache\n  --polling-x=N  unlike --polling\n'
        self.assertTrue(ours.has('--direct'))
        self.assertFalse(ours.has('--pol'))
        self.assertEqual(ours.file('/f', True).command('/s'),
                         ['backplane', 'blk', '--blk-file=/f', '--direct=on', '--socket-path=/s'])
        self.assertEqual(ours.file('/f', False).command('/s'),
                         ['backplane', 'blk', '--blk-file=/f', '--socket-path=/s'])

    def test_modes_are_rows_where_the_program_has_them(self):
        ours = backends.Backplane.__new__(backends.Backplane)
        ours.program, ours.help = 'backplane', '  --polling=MODE  off, adaptive or always\n'
        self.assertEqual([mode.name for mode in ours.modes()],
                         ['backplane', 'backplane --polling=off', 'backplane --polling=always'])
        ours.help = ''
        self.assertEqual(len(ours.modes()), 1)

    def test_an_exit_for_what_is_lacking_is_told_apart_from_a_failure(self):
        for status, error in ((3, drivers.Lacks), (1, backends.Failed)):
            with self.assertRaisesRegex(error, 'the reason'):
                drivers._run(['sh', '-c', f'echo noise >&2; echo the reason >&2; exit {status}'],
                             os.sched_getaffinity(0), 1)

    def test_a_subject_that_lacks_something_is_a_row_and_the_others_go_on(self):
        session = works.Session.__new__(works.Session)
        session.arguments, session.say = mock.Mock(rounds=2), lambda _: None

        def lacks():
            raise drivers.Lacks('no packed rings')
        rows = session.take_turns('t', [works.Subject('a', 'ours', lacks, 'packed'),
                                        works.Subject('b', 'peer', lambda: {'iops': 5, 'marks': []}, 'split')])
        self.assertEqual((rows[0]['lacks'], rows[1]['iops'], rows[1]['rounds']), ('no packed rings', 5, 2))

    def test_a_process_s_clock_and_memory_are_its_own(self):
        before = measure.process_clock_s(os.getpid())
        self.assertGreater(before, 0)
        self.assertLess(before, sum(os.times()[:2]) + 1)
        self.assertGreater(idle.private_kib(os.getpid()), 1000)
        self.assertGreater(idle.switches(os.getpid()), 0)

    def test_counts_of_instructions_are_read_by_the_name_of_their_workload(self):
        text = 'gcc-12 x86_64 blk-split-32-16-queues 813.00\ngcc-12 x86_64 blk-split-32 812.50 # why\n'
        self.assertEqual(run.instructions_in(text, 'blk-split-32'), 812.5)
        self.assertEqual(run.instructions_in(text, 'blk-split-32-16-queues'), 813)
        self.assertIsNone(run.instructions_in(text, 'blk-split'))

    def test_the_ceiling_is_that_of_the_fastest_batch_which_has_the_other_turns(self):
        session = works.Session.__new__(works.Session)
        session.arguments, asked = mock.Mock(rounds=5), []

        def once(batch):
            asked.append(batch)
            return {'iops': {1: 10, 4: 30, 8: 20}[batch], 'marks': []}
        row = session._ceiling(once, [1, 4, 8])
        self.assertEqual((row['iops'], row['batch'], row['rounds']), (30, 4, works.CEILING_ROUNDS))
        self.assertEqual(asked, [1, 4, 8, 4, 4])

    def test_wrong_use_is_refused_with_what_there_is(self):
        for wrong, words in ((['nul'], 'there are: null'), (['--rounds=0'], 'at least 1'),
                             (['--seconds=0'], 'more than')):
            with self.subTest(wrong), contextlib.redirect_stderr(io.StringIO()) as said:
                self.assertRaises(SystemExit, run.parse, ['--programs=x', *wrong])
                self.assertIn(words, said.getvalue())


if __name__ == '__main__':
    tap.main(__name__)
