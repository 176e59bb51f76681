"""What failed beside other tests, once more and alone: `python -m tests.again EXIT_CODE`.

`make test` runs it after the tests that run beside each other, with the exit code of those. A test that
passes now is named: the machine may have been too busy for it. The run stays red if a test fails again or is
skipped now, if more than AT_MOST failed, and if pytest ended for another reason than a failed test.
"""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Final

import pytest

AT_MOST: Final = 10
"""If more have failed, the machine is not to blame."""
FAILED: Final = pathlib.Path(".pytest_cache/v/cache/lastfailed")
"""The run before this one must have begun with `--cache-clear`: pytest keeps older failures there, too."""


class Passing:
    """Notes the tests that passed."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self.names.add(report.nodeid)
        elif report.failed:  # also if its teardown fails
            self.names.discard(report.nodeid)


def again(code: int) -> int:
    """The exit code to end with, if pytest ended with `code`."""
    if code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):  # none: none was asked for
        return 0
    failed = sorted(json.loads(FAILED.read_text())) if FAILED.exists() else []
    if code != pytest.ExitCode.TESTS_FAILED or not 0 < len(failed) <= AT_MOST:
        return code
    passing = Passing()
    second = int(pytest.main(["--randomly-seed=last", *failed], plugins=[passing]))
    for name in failed:
        found = (
            "failed beside others, passed alone"
            if name in passing.names
            else "failed beside others, did not pass alone"
        )
        sys.stdout.write(f"{found}: {name}\n")
    return second or (0 if passing.names.issuperset(failed) else code)


if __name__ == "__main__":
    sys.exit(again(int(sys.argv[1])))
