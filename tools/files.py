#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Which files the checks look at: those that git knows or would, and where there is no git, all but build folders.

As a program: files.py [ENDING...] prints them, those that end so, each with a NUL behind it.
"""
import argparse
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def root_of(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('--root', type=pathlib.Path, default=ROOT)
    return parser.parse_args().root.resolve()


def known_to_git(root):
    if not (root / '.git').exists():
        return None
    try:
        done = subprocess.run(['git', '-C', str(root), '-c', 'safe.directory=*', 'ls-files', '-z', '--cached',
                               '--others', '--exclude-standard'], capture_output=True)
    except FileNotFoundError:
        return None
    if done.returncode != 0:
        return None
    return [name for name in done.stdout.decode().split('\0') if name and (root / name).is_file()]


def below(root):
    names = []
    for folder, folders, here in os.walk(root):
        top = pathlib.Path(folder) == root
        folders[:] = [name for name in folders if name not in ('.git', '__pycache__') and
                      not (top and name.startswith('build'))]
        names += [(pathlib.Path(folder) / name).relative_to(root).as_posix() for name in here]
    return names


def tracked(root, *endings):
    """Paths relative to @root, sorted; only those that end in one of @endings if any are given."""
    names = known_to_git(root)
    if names is None:
        names = below(root)
    return sorted(set(name for name in names if not endings or name.endswith(endings)))


def text_of(root, name):
    """The lines of a text file, or None for one that is none."""
    data = (root / name).read_bytes()
    if b'\0' in data:
        return None
    try:
        return data.decode('utf-8').splitlines()
    except UnicodeDecodeError:
        return None


if __name__ == '__main__':
    for each in tracked(ROOT, *sys.argv[1:]):
        sys.stdout.write(each + '\0')
