#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""tools/new-device.sh, in a copy of the parts of the tree that it touches: new_device_test.py COMPILER..."""
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
COMPILER = []
SOURCE_SUFFIXES = {'.c', '.h'}


class NewDevice(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.tree = pathlib.Path(folder.name)
        for part in ('src/devices/template', 'fuzz/corpus/template'):
            shutil.copytree(ROOT / part, self.tree / part)
        for part in ('meson.build', 'tools/new-device.sh', '.clang-format'):
            (self.tree / part).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / part, self.tree / part)

    def begin(self, *arguments):
        return subprocess.run([self.tree / 'tools/new-device.sh', *arguments], capture_output=True, text=True,
                              check=False)

    def files(self):
        return sorted(path.relative_to(self.tree).as_posix() for path in self.tree.rglob('*') if path.is_file())

    def test_what_it_makes_compiles_without_a_warning(self):
        self.assertEqual(self.begin('watch_dog2').returncode, 0)
        sources = sorted((self.tree / 'src/devices/watch_dog2').glob('*.c'))
        self.assertEqual([source.name for source in sources],
                         ['watch_dog2.c', 'watch_dog2_fuzz.c', 'watch_dog2_test.c'])
        subprocess.run([*COMPILER, '-std=c17', '-fsyntax-only', '-Wall', '-Wextra', '-Werror', f'-I{self.tree}/src',
                        f'-I{ROOT}/src', f'-I{ROOT}/tests/support', *sources], check=True)

    def test_every_name_is_the_new_one(self):
        self.assertEqual(self.begin('watch_dog2').returncode, 0)
        folder = self.tree / 'src/devices/watch_dog2'
        self.assertEqual(len(list(folder.iterdir())), len(list((ROOT / 'src/devices/template').iterdir())))
        for path in folder.iterdir():
            self.assertNotIn('template', path.name)
            self.assertNotIn('template', path.read_text(encoding='utf-8').lower())
        self.assertIn('WATCH_DOG2_MESSAGE_BYTES_MAX', (folder / 'watch_dog2.h').read_text(encoding='utf-8'))

    def test_the_build_has_it_once_among_the_devices(self):
        self.assertEqual(self.begin('gadget').returncode, 0)
        lines = (self.tree / 'meson.build').read_text(encoding='utf-8').splitlines()
        self.assertEqual(lines.count("subdir('src/devices/gadget')"), 1)
        at = lines.index("subdir('src/devices/gadget')")
        self.assertTrue(lines[at - 1].startswith("subdir('src/devices/"))
        self.assertLess(at, lines.index("subdir('src/library')"))
        lines.remove("subdir('src/devices/gadget')")
        self.assertEqual(lines, (ROOT / 'meson.build').read_text(encoding='utf-8').splitlines())

    def test_it_gets_the_seeds(self):
        self.assertEqual(self.begin('gadget').returncode, 0)
        names = {path.name for path in (ROOT / 'fuzz/corpus/template').iterdir()}
        self.assertEqual({path.name for path in (self.tree / 'fuzz/corpus/gadget').iterdir()}, names)

    def test_a_wrong_name_changes_nothing(self):
        before = self.files()
        for arguments in ([], [''], ['Gadget'], ['9p'], ['a-b'], ['a b'], ['../x'], ['a/b'], ['_a'], ['a\n'], ['a.b'],
                          ['template'], ['a', 'b']):
            result = self.begin(*arguments)
            self.assertEqual(result.returncode, 2, arguments)
            self.assertEqual(len(result.stderr.splitlines()), 1 + ''.join(arguments).count('\n'))
        self.assertEqual(self.files(), before)

    def test_a_device_that_is_there_stays_as_it_is(self):
        self.assertEqual(self.begin('gadget').returncode, 0)
        mine = self.tree / 'src/devices/gadget/gadget.c'
        mine.write_text('mine', encoding='utf-8')
        self.assertEqual(self.begin('gadget').returncode, 1)
        self.assertEqual(mine.read_text(encoding='utf-8'), 'mine')


if __name__ == '__main__':
    COMPILER = sys.argv[1:] or ['cc']
    unittest.main(argv=sys.argv[:1])
