# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Which files the checks look at: those that git knows, or all below a folder that is no checkout."""
import argparse
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent


def root_of(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('--root', type=pathlib.Path, default=ROOT)
    return parser.parse_args().root.resolve()


def tracked(root, *suffixes):
    """Paths relative to @root, sorted; only those that end in one of @suffixes if any are given."""
    if (root / '.git').exists():
        listing = subprocess.run(['git', '-C', str(root), '-c', 'safe.directory=*', 'ls-files', '-z', '--cached',
                                  '--others', '--exclude-standard'], check=True, capture_output=True).stdout
        names = [name for name in listing.decode().split('\0') if name and (root / name).is_file()]
    else:
        names = [path.relative_to(root).as_posix() for path in root.rglob('*')
                 if path.is_file() and not path.relative_to(root).parts[0].startswith('build')]
    return sorted(set(name for name in names if not suffixes or name.endswith(suffixes)))


def text_of(root, name):
    """The lines of a text file, or None for one that is none."""
    data = (root / name).read_bytes()
    if b'\0' in data:
        return None
    try:
        return data.decode('utf-8').splitlines()
    except UnicodeDecodeError:
        return None
