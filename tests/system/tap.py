# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Runs unittest cases and reports them as TAP, which meson and script/test count one by one."""
import sys
import unittest


class Result(unittest.TestResult):
    """Prints a line for each test; why one failed goes to the lines before it."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def line(self, verdict, test, note=''):
        self.count += 1
        name = test.id().split('.')[-1].removeprefix('test_').replace('_', ' ')
        print(f'{verdict} {self.count} - {name}{note}', flush=True)

    def addSuccess(self, test):
        self.line('ok', test)

    def addSkip(self, test, reason):
        self.line('ok', test, f' # SKIP {reason}')

    def fail(self, test, err):
        for row in self._exc_info_to_string(err, test).splitlines():
            print('#', row)
        self.line('not ok', test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.fail(test, err)

    def addError(self, test, err):
        super().addError(test, err)
        self.fail(test, err)

    def addSubTest(self, test, subtest, err):
        if err is not None:
            super().addSubTest(test, subtest, err)
            print('# in', subtest)
            self.fail(test, err)


def main(module):
    """Run every case of @module; the exit status is for the shell."""
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[module])
    print(f'1..{suite.countTestCases()}', flush=True)
    result = Result()
    suite.run(result)
    sys.exit(0 if result.wasSuccessful() else 1)
