"""The demo with real Salt: what it shows, and that nothing of it stays, however it ends."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from salt_exporter.demo.cleaner import Cleaner, CleanerError
from salt_exporter.demo.lab import Lab, LabError
from salt_exporter.demo.salt_config import living_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.real.conftest import SaltLine

pytestmark = pytest.mark.real

_SHORT_DEMO = """
import sys
from salt_exporter.demo import DemoSettings, run_demo
sys.exit(run_demo(DemoSettings(minions=2, listen_address=sys.argv[1], absent_after=1, job_interval=0.5)))
"""


@contextmanager
def _started(*argv: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, *argv], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _read_until(process: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    """Return the first line the process prints that has the pattern in it."""
    assert process.stdout
    for line in process.stdout:
        if match := re.search(pattern, line):
            return match
    raise AssertionError(f"the demo ended without printing {pattern}")


def _read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - a URL that the demo has printed
        return str(response.read(), "utf-8")


def _eventually(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < end:
        time.sleep(0.1)
    return holds


def _descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def _mention(folder: Path) -> list[str]:
    """Return the command lines that name the folder; those of Salt's processes do, or of what starts them."""
    lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if str(folder) in line]


def test_shows_an_absent_minion_and_leaves_nothing_behind() -> None:
    """The demo tells where the exporter is, which reports the stopped minion; Ctrl-C removes all of it."""
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        _started("-c", _SHORT_DEMO, f"127.0.0.1:{other.getsockname()[1]}") as demo,
    ):
        folder = Path(_read_until(demo, r"in (/\S+):")[1])
        _read_until(demo, rf"127.0.0.1:{other.getsockname()[1]} is taken")
        url = _read_until(demo, r"http://\S+/metrics")[0]
        _read_until(demo, "web2 is stopped")
        absent = 'salt_presence_minion_not_present{minion="web2"} 1'
        assert _eventually(lambda: absent in _read(url), 20)
        processes = _descendants(demo.pid)
        demo.send_signal(signal.SIGINT)
        assert demo.wait(15) == 0
    assert not [process for process in processes if process.is_running()]
    assert not _mention(folder)
    assert not folder.exists()


def test_killed_while_it_starts_leaves_nothing_behind() -> None:
    """When the demo is killed half-way through its start, with a signal it cannot see, all of it is removed."""
    with _started("-m", "salt_exporter", "demo", "--config.file=/dev/null", "--minions=2") as demo:
        folder = Path(_read_until(demo, r"in (/\S+):")[1])
        assert _eventually((folder / "minions" / "web1" / "pki").exists, 60)
        processes = _descendants(demo.pid)
        demo.kill()
    assert _eventually(lambda: not any(process.is_running() for process in processes), 15)
    assert _eventually(lambda: not folder.exists(), 5)
    assert not _mention(folder)


def test_refuses_a_folder_with_something_in_it(tmp_path: Path) -> None:
    """A folder that may hold something of value is neither used nor removed."""
    (tmp_path / "mine").touch()
    with pytest.raises(CleanerError, match="not empty"):
        Cleaner(tmp_path)
    assert [tmp_path / "mine"] == list(tmp_path.iterdir())


def test_ends_processes_that_left_their_parent() -> None:
    """What made a session of its own, lost its parent and ignores SIGTERM is ended all the same."""
    with closing(Cleaner()) as cleaner:
        pid_file = cleaner.folder / "pid"
        stray = f"trap '' TERM; echo $$ >{pid_file}.new; mv {pid_file}.new {pid_file}; while :; do sleep 1; done"
        cleaner.spawn(["sh", "-c", 'setsid sh -c "$1" & exit', "sh", stray], {}, cleaner.folder / "log")
        assert _eventually(pid_file.exists, 10)
        process = psutil.Process(int(pid_file.read_text()))
        assert process.is_running()
    assert not process.is_running()


def test_a_master_that_does_not_start_says_why(salt_line: SaltLine) -> None:
    """The error of a start that fails ends with the last lines of the right log."""
    with closing(Cleaner()) as cleaner:
        lab = Lab(cleaner, salt_line.programs, (14561, 14562), {"user": "nobody-by-this-name"})
        lab.start_master()
        with pytest.raises(
            LabError, match=r"(?s)master has ended; the last lines of master\.log:.*nobody-by-this-name"
        ):
            lab.wait_master_ready()


def test_presence_by_address_is_right_for_salt_too(salt_line: SaltLine) -> None:
    """Minions that share the loopback interface are told apart by Salt's own manage.not_present."""
    with closing(Cleaner()) as cleaner:
        lab = Lab(cleaner, salt_line.programs, (14571, 14572))
        lab.start_master()
        lab.wait_master_ready()
        stays, goes = "web1", "web2"
        lab.start_minion(stays, living_at("127.77.0.1"))
        lab.start_minion(goes, living_at("127.77.0.2"))
        lab.wait_minions([stays, goes])
        lab.kill(goes)
        assert [goes] == lab.run("manage.not_present")
