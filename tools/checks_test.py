#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The checks must find what they are for: each test plants an offence in a copy and wants it named. Prints TAP."""
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOOLS = ROOT / 'tools'
TESTS = []


def test(function):
    TESTS.append(function)
    return function


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def copy_of_tree(folder):
    for top in ('src', 'include', 'tests', 'fuzz', 'bench', 'examples'):
        shutil.copytree(ROOT / top, folder / top)
    return folder


def layers_with(path, text):
    """What check-layers says of a tree where @path has @text."""
    with tempfile.TemporaryDirectory() as folder:
        tree = copy_of_tree(pathlib.Path(folder))
        file = tree / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, 'a', encoding='utf-8') as to:
            to.write(text)
        return run(TOOLS / 'check-layers', '--root', tree)


def finds_layer_offence(path, text):
    status, output = layers_with(path, text)
    assert status == 1, f'exit {status}: {output}'
    assert path + ':' in output, output


@test
def the_tree_keeps_its_layers():
    status, output = run(TOOLS / 'check-layers')
    assert status == 0, output


@test
def a_model_that_includes_the_platform_is_found():
    with tempfile.TemporaryDirectory() as folder:
        tree = copy_of_tree(pathlib.Path(folder))
        header = tree / 'src/platform/linux/planted.h'
        header.parent.mkdir(parents=True, exist_ok=True)
        header.write_text('')
        (tree / 'src/devices/rng/planted.c').write_text('#include "platform/linux/planted.h"\n')
        status, output = run(TOOLS / 'check-layers', '--root', tree)
    assert status == 1 and 'src/devices/rng/planted.c:1:' in output, output


@test
def a_device_that_includes_another_is_found():
    finds_layer_offence('src/devices/rng/planted.c', '#include "devices/blk/blk.h"\n')


@test
def a_lower_layer_that_includes_a_higher_one_is_found():
    finds_layer_offence('src/memory/planted.c', '\n#include "virtio/virtqueue.h"\n')


@test
def a_relative_path_hides_nothing():
    finds_layer_offence('src/devices/rng/planted.c', '#include "../blk/blk.h"\n')


@test
def a_system_header_in_a_pure_layer_is_found():
    finds_layer_offence('src/virtio/planted.c', '#include <unistd.h>\n')


@test
def a_split_comment_hides_nothing():
    finds_layer_offence('src/virtio/planted.c', '/* */ #include <stdio.h>\n')


@test
def a_system_header_in_the_fake_driver_is_found():
    finds_layer_offence('tests/support/fake_driver.h', '#include <stdio.h>\n')


@test
def a_test_beside_a_pure_module_may_have_the_c_library():
    _, output = layers_with('src/virtio/planted_test.c', '#include <stdio.h>\n#include "fake_driver.h"\n')
    assert 'planted_test.c' not in output, output


@test
def a_module_that_includes_what_tests_share_is_found():
    finds_layer_offence('src/virtio/planted.c', '#include "virtio/virtq_test_rig.h"\n')


@test
def a_folder_without_a_layer_is_found():
    finds_layer_offence('src/extra/planted.c', '#include <stddef.h>\n')


@test
def an_example_that_looks_behind_the_installed_face_is_found():
    finds_layer_offence('examples/planted.c', '#include "virtio/virtqueue.h"\n')


def purity_of(source, *more):
    """What check-purity says of an archive made of @source, beside the archives @more made of sources."""
    with tempfile.TemporaryDirectory() as folder:
        place, archives = pathlib.Path(folder), []
        for number, text in enumerate((source,) + more):
            name = place / f'planted{number}.c'
            name.write_text(text)
            status, output = run('cc', '-O2', '-fPIC', '-c', name, '-o', name.with_suffix('.o'))
            assert status == 0, output
            archives.append(place / f'libplanted{number}.a')
            status, output = run('ar', 'rcs', archives[-1], name.with_suffix('.o'))
            assert status == 0, output
        return run(TOOLS / 'check-purity', *archives)


@test
def a_system_call_in_a_pure_archive_is_found():
    status, output = purity_of('int getpid(void);\nint planted(void) { return getpid(); }\n')
    assert status == 1 and 'planted0.o' in output and 'getpid' in output, output


@test
def an_allocation_in_a_pure_archive_is_found():
    status, output = purity_of('void *malloc(unsigned long);\nvoid *planted(void) { return malloc(9); }\n')
    assert status == 1 and 'malloc' in output, output


@test
def data_that_can_be_written_is_found():
    for text in ('static int count;\nint planted(void) { return count++; }\n', 'int count = 3;\n', 'int count;\n',
                 'int planted(void) { static int count = 1; return count++; }\n'):
        status, output = purity_of(text)
        assert status == 1 and 'count' in output and 'can be written' in output, output


@test
def constants_with_addresses_are_no_offence():
    status, output = purity_of('static const char *const names[] = {"a", "b"};\n'
                               'const char *planted(int index) { return names[index]; }\n')
    assert status == 0, output


@test
def the_four_memory_functions_and_the_assertion_are_no_offence():
    status, output = purity_of('#include <string.h>\n_Noreturn void backplane_assert_failed(void);\n'
                               'void planted(void *to, const void *from, unsigned long size) {\n'
                               'if (memcmp(to, from, size)) backplane_assert_failed();\n'
                               'memmove(to, from, size); memset(to, 0, size); memcpy(to, from, size); }\n')
    assert status == 0, output


@test
def what_another_pure_archive_defines_is_no_offence():
    status, output = purity_of('int other(void);\nint planted(void) { return other(); }\n',
                               'int other(void) { return 1; }\n')
    assert status == 0, output


@test
def an_archive_without_symbols_is_found():
    status, output = purity_of('/* nothing */\n')
    assert status == 1, output


def words_with(name, text):
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder)
        (tree / name).write_text(text)
        return run(TOOLS / 'check-words', '--root', tree)


@test
def a_note_to_do_later_is_found():
    status, output = words_with('planted.c', '/* TO' + 'DO: later */\n')
    assert status == 1 and 'planted.c:1:' in output, output


@test
def a_path_of_one_machine_is_found():
    status, output = words_with('planted.md', 'See /ho' + 'me/somebody/backplane.\n')
    assert status == 1 and 'planted.md:1:' in output, output


@test
def a_missing_licence_line_is_found():
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / 'planted.c').write_text('int x;\n')
        status, output = run(TOOLS / 'check-spdx', '--root', folder)
    assert status == 1 and 'planted.c' in output, output


@test
def a_link_to_nowhere_is_found():
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / 'planted.md').write_text('# A\n[x](missing.md) [y](#a)\n[z](#gone)\n')
        status, output = run(TOOLS / 'check-links', '--root', folder)
    assert status == 1 and 'planted.md:2:' in output and 'planted.md:3:' in output, output
    assert output.count('planted.md:') == 2, output


def coverage_says(percent, floor):
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        (place / 'summary.json').write_text('{"line_percent": %s, "line_covered": 1, "line_total": 2}' % percent)
        (place / 'floor').write_text(floor)
        return run(TOOLS / 'check-coverage', place / 'summary.json', place / 'floor')


@test
def coverage_below_its_floor_is_found():
    status, output = coverage_says('79.9', '80.0\n')
    assert status == 1 and '79.9' in output, output


@test
def coverage_well_above_its_floor_asks_to_raise_it():
    status, output = coverage_says('91.2', '80.0\n')
    assert status == 0 and 'raise' in output, output
    status, output = coverage_says('80.5', '80.0\n')
    assert status == 0 and 'raise' not in output, output


def results_of(text, *more):
    """The sum that test-results makes of one TAP output."""
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        (place / 'tap').write_text(text)
        run(TOOLS / 'test-results', 'tap', 'planted', place / 'tap', place / 'list')
        status, output = run(TOOLS / 'test-results', 'sum', place / 'list')
        return status, output.strip().splitlines()


@test
def the_sum_counts_each_result_once():
    status, lines = results_of('1..3\nok 1 - one\nok 2 - two # SKIP no such machine\nok 3 - three\n')
    assert status == 0 and lines[-1] == '2 passed, 0 failed, 1 skipped', lines
    assert 'skipped: planted: two: no such machine' in lines, lines


@test
def a_skip_of_cmocka_has_the_reason_that_was_printed_before_it():
    status, lines = results_of('1..2\nskipped: no such kernel\nnot ok 1 # SKIP one\nok 2 - two\n')
    assert status == 0 and lines[-1] == '1 passed, 0 failed, 1 skipped', lines
    assert 'skipped: planted: one: no such kernel' in lines, lines


@test
def the_sum_says_nothing_of_skips_when_there_are_none():
    status, lines = results_of('1..1\nok 1 - one\n')
    assert status == 0 and lines[-1] == '1 passed, 0 failed', lines


@test
def a_program_that_ends_before_its_plan_is_a_failure():
    status, lines = results_of('1..2\nok 1 - one\n')
    assert status == 1 and lines[-1] == '1 passed, 1 failed', lines


@test
def a_program_that_prints_nothing_is_a_failure():
    status, lines = results_of('')
    assert status == 1 and lines[-1] == '0 passed, 1 failed', lines


@test
def a_failure_fails_the_sum():
    status, lines = results_of('1..1\nnot ok 1 - one\n')
    assert status == 1 and lines[-1] == '0 passed, 1 failed', lines


def main():
    print(f'1..{len(TESTS)}')
    failed = 0
    for number, function in enumerate(TESTS, 1):
        try:
            function()
            print(f'ok {number} - {function.__name__}')
        except AssertionError as error:
            failed += 1
            for line in str(error).splitlines():
                print(f'# {line}')
            print(f'not ok {number} - {function.__name__}')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
