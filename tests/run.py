"""Runs the tests as `./setup test` does; a test with real Salt that fails gets a second try.

    python -m tests.run [ARGUMENT OF PYTEST]...

A real master on a busy machine may fail a test that is right. So the tests of tests/real that failed run once more,
alone, when all the others are done; those that pass then are listed by name. More than `_MOST` failures, or one
anywhere else, fail the run at once.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST: Final = 3
_REAL: Final = "tests/real/"


class Failures:
    """A plugin of pytest that collects the tests that failed, in their order."""

    def __init__(self) -> None:
        self.found: dict[str, None] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember a test whose set-up, call or teardown failed."""
        if report.failed:
            self.found[report.nodeid] = None


def deserve_second_try(status: int, failed: Sequence[str]) -> bool:
    """Return whether a run that ended with this status is decided by running the failed tests again."""
    only_real = all(name.startswith(_REAL) for name in failed)
    return status == pytest.ExitCode.TESTS_FAILED and 0 < len(failed) <= _MOST and only_real


def main(arguments: Sequence[str]) -> int:
    """Run pytest, twice if that decides, and return the exit status."""
    failures = Failures()
    # As many masters at a time as there are processors, and one process for tests without (tests/conftest.py).
    processes = len(os.sched_getaffinity(0)) + 1
    side_by_side = [f"--numprocesses={processes}", "--dist=loadscope", "--no-loadscope-reorder"]
    status = int(pytest.main([*side_by_side, *arguments], [failures]))
    failed = list(failures.found)
    if not deserve_second_try(status, failed):
        return status
    _list("second try", failed)
    # In a process of its own, for pytest is not made to run twice in one.
    status = subprocess.run([sys.executable, "-m", "pytest", *failed], check=False).returncode
    if status == pytest.ExitCode.OK:
        _list("passed at the second try", failed)
    return status


def _list(what: str, names: Sequence[str]) -> None:
    for name in names:
        print(f"tests: {what}: {name}", flush=True)  # noqa: T201 - the outcome, for people and CI


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
