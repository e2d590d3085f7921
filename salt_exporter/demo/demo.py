"""`salt-exporter demo`: a private master, real minions, the exporter beside them, and something to see.

Jobs are published all the time; after a while one minion is stopped, later it comes back, and so on, until
Ctrl-C ends everything and removes the folder. Needs no root and no Salt set-up.
"""

from __future__ import annotations

import http.client
import shutil
import signal
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from salt_exporter.demo.addresses import free_listen_address, free_salt_ports
from salt_exporter.demo.cleaner import Cleaner, CleanerError
from salt_exporter.demo.lab import Lab, LabError
from salt_exporter.demo.programs import NoSaltError, SaltPrograms
from salt_exporter.demo.salt_config import FolderNameError, living_at

if TYPE_CHECKING:
    from collections.abc import Sequence

# A job is closed soon after a minion did not return, so that one need not wait a minute to see it.
_JOBS_DEADLINE_SECONDS = 10


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """What the demo is asked for; times in seconds.

    `folder` must be empty or not exist yet; without it the demo makes a temporary one.
    """

    minions: int = 4
    listen_address: str = "127.0.0.1:4507"
    folder: Path | None = None
    absent_after: float = 60
    absent_for: float = 60
    job_interval: float = 2


def run_demo(settings: DemoSettings) -> int:
    """Run the demo until SIGINT or SIGTERM and return 0, or say what does not work and return 1."""
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, signal.default_int_handler)
    try:
        with closing(Cleaner(settings.folder)) as cleaner:
            _run(cleaner, settings)
    except (CleanerError, FolderNameError, LabError, NoSaltError, OSError, ValueError) as error:
        print(f"salt-exporter demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        _say("\nThe demo has ended; nothing of it stays.")
    return 0


def _run(cleaner: Cleaner, settings: DemoSettings) -> None:
    """Start everything, explain it, and go on until interrupted."""
    if settings.minions < 1:
        raise ValueError("there is nothing to see without minions")
    lab = Lab(cleaner, SaltPrograms.find(), free_salt_ports())
    minions = [f"web{number}" for number in range(1, settings.minions + 1)]
    host, port = free_listen_address(settings.listen_address)
    address = f"{_bracketed(host)}:{port}"

    _say(f"A private Salt master and {len(minions)} minions in {lab.folder}:")
    _start_salt(lab, minions)
    _start_exporter(lab, host, port)
    python, program = lab.programs.python, Path(__file__).with_name("publisher.py")
    lab.start("publisher", [python, str(program), str(lab.config_dir), str(settings.job_interval)])

    if address != settings.listen_address:
        _say(f"\n{settings.listen_address} is taken, so the exporter listens on {address}.")
    _explain(lab, f"http://{_bracketed(host or '127.0.0.1')}:{port}")
    _play(lab, minions, settings)


def _start_salt(lab: Lab, minions: Sequence[str]) -> None:
    with _Step("the master"):
        lab.start_master()
        lab.wait_master_ready()
    with _Step(f"the minions {', '.join(minions)}"):
        for number, minion in enumerate(minions, 1):
            lab.start_minion(minion, living_at(f"127.77.{number >> 8}.{number & 255}"))
        lab.wait_minions(minions)


def _start_exporter(lab: Lab, host: str, port: int) -> None:
    with _Step("the exporter"):
        lab.start(
            "exporter",
            [
                *(sys.executable, "-m", "salt_exporter", "serve"),
                "--config.file=/dev/null",
                f"--salt.config-dir={lab.config_dir}",
                f"--state.directory={lab.folder / 'state'}",
                f"--web.listen-address={_bracketed(host)}:{port}",
                f"--jobs.deadline={_JOBS_DEADLINE_SECONDS}s",
            ],
        )
        lab.wait("exporter", partial(_is_ready, host or "127.0.0.1", port), 30)


def _is_ready(host: str, port: int) -> bool:
    with closing(http.client.HTTPConnection(host, port, timeout=2)) as connection:
        try:
            connection.request("GET", "/-/ready")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False


def _explain(lab: Lab, url: str) -> None:
    us = "salt-exporter" if shutil.which("salt-exporter") else f"{sys.executable} -m salt_exporter"
    ours = f"--salt.config-dir={lab.config_dir} --state.directory={lab.folder / 'state'}"
    _say(f"""
Look at
  {url}/         the exporter's page
  {url}/metrics
  {us} minions --absent {ours}
  {us} check {ours}
  {lab.programs.runner} --config-dir={lab.config_dir} manage.not_present    (Salt's own answer)

Jobs are published to all minions all the time. When one is stopped, watch
  salt_presence_minions{{state="not_present"}}         becomes 1
  salt_presence_minion_not_present                   says which one it is
  salt_jobs_closed_total{{outcome="incomplete"}}       grows, {_JOBS_DEADLINE_SECONDS} s after each job
  salt_jobs_completion_ratio                         how much of each job came back

Ctrl-C ends everything and removes the folder.
""")


def _play(lab: Lab, minions: Sequence[str], settings: DemoSettings) -> None:
    """Stop the last minion and bring it back, again and again; LabError if something else ends."""
    *others, victim = minions
    others += ["master", "exporter", "publisher"]
    while True:
        _tell(f"all {len(minions)} minions are there; {victim} will be stopped in {settings.absent_after:.0f} s")
        _watch(lab, [*others, victim], settings.absent_after)
        lab.stop(victim, grace=1)
        _tell(f"{victim} is stopped: it is not present, and jobs are incomplete, for {settings.absent_for:.0f} s")
        _watch(lab, others, settings.absent_for)
        lab.restart(victim)
        lab.wait_minions([victim])


def _watch(lab: Lab, names: Sequence[str], seconds: float) -> None:
    """Let time pass as long as all these processes run."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        for name in names:
            lab.check(name)
        time.sleep(min(left, 1))


class _Step:
    """Tell what is being started and, when that is done, how long it took."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        print(f"  starting {self._what} … ", end="", flush=True)
        self._began = time.monotonic()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        print("" if kind else f"{time.monotonic() - self._began:.1f} s", flush=True)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _tell(event: str) -> None:
    _say(f"{time.strftime('%H:%M:%S')} {event}")


def _say(text: str) -> None:
    print(text, flush=True)
