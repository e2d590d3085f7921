"""`./setup test`: tests with real Salt that fail get a second try, and nothing else does; who runs what."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import _unit

if TYPE_CHECKING:
    from collections.abc import Callable

_RUN = Path(__file__).parents[1] / "run.py"
_PASSES = "def test_passes():\n    pass\n"
# Fails whenever the number of times that it has run, which a file holds, is not above a limit.
_FLAKY = """\
from pathlib import Path

def test_flaky():
    file = Path(__file__).with_suffix(".runs")
    runs = len(file.read_text()) + 1 if file.exists() else 1
    file.write_text("x" * runs)
    assert runs > {failures}
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[[dict[str, str]], tuple[int, str]]:
    """Return what runs tests, given by file below `tests`, and gives the exit status and what was printed."""

    def main(files: dict[str, str]) -> tuple[int, str]:
        for name, source in files.items():
            path = tmp_path / "tests" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        command = [sys.executable, str(_RUN), "--numprocesses=0", "-p", "no:cacheprovider"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    return main


def test_a_real_test_that_passes_at_the_second_try_is_named(run: Callable[[dict[str, str]], tuple[int, str]]) -> None:
    """It runs again alone; the run is green, and says which test it was."""
    flaky = _FLAKY.format(failures=1)
    status, said = run({"real/test_a.py": flaky, "real/test_b.py": _PASSES, "unit/test_c.py": _PASSES})

    assert status == 0, said
    assert "tests: passed at the second try: tests/real/test_a.py::test_flaky\n" in said
    assert "1 failed, 2 passed" in said
    assert "1 passed" in said.rpartition("second try: tests/real/test_a.py::test_flaky\n=")[2]


def test_a_test_that_fails_twice_fails_the_run(run: Callable[[dict[str, str]], tuple[int, str]]) -> None:
    """A second failure is one."""
    status, said = run({"real/test_a.py": _FLAKY.format(failures=2), "real/test_b.py": _FLAKY.format(failures=1)})

    assert status == 1, said
    assert "passed at the second try" not in said


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"unit/test_a.py": _FLAKY.format(failures=1)}, id="a unit test"),
        pytest.param(
            {"unit/test_a.py": _FLAKY.format(failures=1), "real/test_b.py": _FLAKY.format(failures=1)}, id="one of each"
        ),
        pytest.param({f"real/test_{n}.py": _FLAKY.format(failures=1) for n in range(4)}, id="four real tests"),
        pytest.param({"real/test_a.py": "import nothing_like_that"}, id="a file that cannot be imported"),
    ],
)
def test_no_second_try(run: Callable[[dict[str, str]], tuple[int, str]], files: dict[str, str]) -> None:
    """Whatever else fails, or more than three tests, fails the run at once."""
    status, said = run(files)

    assert status in {1, 2}, said
    assert "second try" not in said


@pytest.mark.parametrize(
    ("test", "unit"),
    [
        ("tests/unit/test_wire.py::test_frames[3008-large]", "tests/unit/test_wire.py"),
        ("tests/real/test_causes.py::TestOneMinion::test_stopped[3006]", "3006 arena"),
        ("tests/real/test_return_storm.py::test_storm_of_returns[3006]", "3006 arena"),
        ("tests/real/test_queues.py::test_worker_pools[3008]", "3008 lab"),
        ("tests/real/test_drops.py::test_drops_are_counted[3007-mixed-10]", "3007 drops"),
        ("tests/real/test_faults_host.py::test_clock_steps[forward]", "tests/real/test_faults_host.py"),
    ],
)
def test_what_shares_a_master_is_run_by_one_process(test: str, unit: str) -> None:
    """The tests of one line that use the same fixture stay together, and so do those of any other file."""
    assert unit == _unit(test)
