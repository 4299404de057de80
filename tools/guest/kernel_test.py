#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What is asked of the small kernels, and how the lack of it is noticed; nothing is compiled here."""
import os
import sys
import tempfile
import unittest
from unittest import mock

import kernel
import packages

CONFIGURATION = 'CONFIG_PCI=y\n# CONFIG_VT is not set\nCONFIG_NR_CPUS=64\nCONFIG_LOCALVERSION="-backplane"\n'


class Options(unittest.TestCase):
    def test_an_option_that_linux_dropped_is_named(self):
        wanted = ['CONFIG_PCI=y', 'CONFIG_PCI_MSI=y']
        self.assertEqual(kernel.not_granted(wanted, CONFIGURATION), ['CONFIG_PCI_MSI=y'])

    def test_an_option_with_another_value_is_named(self):
        self.assertEqual(kernel.not_granted(['CONFIG_NR_CPUS=6'], CONFIGURATION), ['CONFIG_NR_CPUS=6'])

    def test_an_option_that_came_back_is_named(self):
        line = '# CONFIG_PCI is not set'
        self.assertEqual(kernel.not_granted([line], CONFIGURATION), [line])

    def test_an_option_that_does_not_exist_is_not_set(self):
        wanted = ['# CONFIG_VT is not set', '# CONFIG_NOWHERE is not set', 'CONFIG_LOCALVERSION="-backplane"']
        self.assertEqual(kernel.not_granted(wanted, CONFIGURATION), [])

    def test_every_line_of_the_fragments_is_a_comment_or_an_option_that_is_asked_for_once(self):
        for recipe in kernel.RECIPES.values():
            with self.subTest(recipe.name):
                names = [line.lstrip('# ').split()[0].split('=')[0] for line in kernel.lines_of(recipe)]
                self.assertEqual(sorted(set(names)), sorted(names))
        for name in os.listdir(kernel.FRAGMENTS):
            with open(os.path.join(kernel.FRAGMENTS, name), encoding='utf-8') as file:
                for line in file.read().splitlines():
                    self.assertRegex(line, r'^$|^# |^CONFIG_\w+=(y|\d+|".*")$', name)


class Compiler(unittest.TestCase):
    def test_one_that_is_missing_is_named_with_its_package(self):
        recipe = kernel.Recipe('other', 'other', 'no_such', (), {})
        with self.assertRaisesRegex(packages.Unavailable, 'apt-get install gcc-no-such-linux-gnu'):
            recipe.compiler()


class Cache(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix='backplane-')
        self.addCleanup(folder.cleanup)
        self.base = os.path.join(folder.name, 'backplane', 'small-kernel')
        for patch in (mock.patch.dict(os.environ, {'XDG_CACHE_HOME': folder.name}),
                      mock.patch.object(kernel.Recipe, 'compiler', lambda _: 'gcc 1')):
            patch.start()
            self.addCleanup(patch.stop)

    def put(self, version):
        path = os.path.join(self.base, f'{version}_arm64_{kernel.key(kernel.RECIPES["arm64"])}')
        os.makedirs(path)
        with open(os.path.join(path, 'image'), 'w', encoding='utf-8') as file:
            file.write(version)
        packages.write_manifest(path)
        return path

    def test_the_newest_kernel_in_the_cache_is_taken_without_the_network(self):
        self.put('6.1.9-1')
        newest = self.put('6.1.10-1')
        with mock.patch.object(packages.Apt, '_run', side_effect=AssertionError):
            self.assertEqual(kernel.built('arm64').directory, newest)

    def test_a_damaged_kernel_is_not_taken(self):
        older, newest = self.put('6.1.9-1'), self.put('6.1.10-1')
        with open(os.path.join(newest, 'image'), 'a', encoding='utf-8') as file:
            file.write('damage')
        self.assertEqual(kernel.built('arm64').directory, older)

    def test_another_option_or_another_compiler_is_another_kernel(self):
        recipe = kernel.RECIPES['arm64']
        before = kernel.key(recipe)
        with mock.patch.object(kernel.Recipe, 'compiler', lambda _: 'gcc 2'):
            self.assertNotEqual(kernel.key(recipe), before)
        with mock.patch.object(kernel, 'lines_of', lambda _: ['CONFIG_PCI=y']):
            self.assertNotEqual(kernel.key(recipe), before)
        self.assertEqual(kernel.key(recipe), before)

    def test_a_dropped_option_ends_the_build_before_anything_is_compiled(self):
        steps = []

        def run(what, command):
            steps.append(what)
            objects = next(word for word in command if word.startswith('O='))[2:]
            with open(os.path.join(objects, '.config'), 'w', encoding='utf-8') as file:
                file.write('CONFIG_SMP=y\n')

        with tempfile.TemporaryDirectory() as objects, self.assertRaisesRegex(packages.Unavailable, 'CONFIG_KVM=y'):
            kernel.build(kernel.RECIPES['arm64'], mock.Mock(run=run), 'tree', objects, 1)
        self.assertEqual(steps, ['configuring'])


if __name__ == '__main__':
    sys.exit(unittest.main())
