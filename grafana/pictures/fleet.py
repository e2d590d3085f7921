"""The fleet that the pictures show: a real master with real minions, the exporter beside them, and real faults.

What happens is told by `FAULTS`: who opens a picture sees a minion that is stopped, one that is frozen while big jobs
are published (the master drops messages at its small `pub_hwm`), workers that are stopped, and a program that does not
read the event bus.
"""

from __future__ import annotations

import shutil
import sys
import time
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from salt_exporter import demo
from salt_exporter.demo.addresses import free_salt_ports
from salt_exporter.demo.lab import Lab
from salt_exporter.demo.programs import SaltPrograms
from salt_exporter.demo.salt_config import living_at

if TYPE_CHECKING:
    from collections.abc import Callable

    import psutil

    from salt_exporter.demo.cleaner import Cleaner

MINIONS = tuple(f"web{number}" for number in range(1, 7))
STOPPED, FROZEN, TARGET = "web6", "web5", "web1"
EXPORTER = "127.0.0.1:24507"
_PUB_HWM = 20  # messages; the default of 1000 would take minutes to fill
_JOB_INTERVAL = 3  # seconds
_BURST = ("75", "200000")  # jobs, bytes: the kernel buffers up to 10 MB of them before ZeroMQ has to


class Fleet:
    """The processes, by the names they have in the lab; they end with the cleaner."""

    def __init__(self, cleaner: Cleaner) -> None:
        options = {"pub_hwm": _PUB_HWM, "worker_threads": 5, "master_stats": True, "master_stats_event_iter": 10}
        self.lab = Lab(cleaner, SaltPrograms.find(), free_salt_ports(), options)

    def start(self) -> None:
        """Return when the master, the minions and the exporter are there and jobs are being published."""
        self.lab.start_master()
        self.lab.wait_master_ready()
        for number, minion in enumerate(MINIONS, 1):
            self.lab.start_minion(minion, living_at(f"127.78.0.{number}"))
        self.lab.wait_minions(MINIONS, timeout=120)
        self._leave_a_key_pending("web7")
        self.lab.start("exporter", self._exporter())
        self.lab.wait("exporter", partial(_answers, f"http://{EXPORTER}/-/ready"), 60)
        self.lab.start("bus reader", [self.lab.programs.runner, f"--config-dir={self.lab.config_dir}", "state.event"])
        self._run_in_salt("jobs", Path(demo.__file__).with_name("publisher.py"), str(_JOB_INTERVAL))

    def stop_minion(self) -> None:
        """Stop a minion as its service manager would."""
        self.lab.stop(STOPPED)

    def start_minion(self) -> None:
        """Start it again."""
        self.lab.restart(STOPPED)

    def freeze_minion(self) -> None:
        """Freeze a minion, and publish more than fits between it and the master."""
        self._each(FROZEN, lambda process: process.suspend())
        self._run_in_salt("burst", Path(__file__).with_name("burst.py"), TARGET, *_BURST)

    def thaw_minion(self) -> None:
        """Let the frozen minion go on."""
        self._each(FROZEN, lambda process: process.resume())

    def stop_workers(self) -> None:
        """Freeze all workers: requests are accepted, queue up and are not answered."""
        for worker in self._workers():
            worker.suspend()

    def continue_workers(self) -> None:
        """Let the workers go on."""
        for worker in self._workers():
            worker.resume()

    def stop_bus_reader(self) -> None:
        """Freeze a program that reads the event bus."""
        self._each("bus reader", lambda process: process.suspend())

    def continue_bus_reader(self) -> None:
        """Let the program go on."""
        self._each("bus reader", lambda process: process.resume())

    def play(self) -> None:
        """Let every fault happen and pass."""
        for seconds, tell, fault in FAULTS:
            print(f"{time.strftime('%H:%M:%S')} {tell}", flush=True)
            fault(self)
            time.sleep(seconds)

    def _exporter(self) -> list[str]:
        return [
            *(sys.executable, "-m", "salt_exporter", "serve", "--config.file=/dev/null"),
            f"--salt.config-dir={self.lab.config_dir}",
            f"--state.directory={self.lab.folder / 'state'}",
            f"--web.listen-address={EXPORTER}",
            "--jobs.deadline=15s",
            "--probe.request-interval=5s",
        ]

    def _leave_a_key_pending(self, minion: str) -> None:
        """Put a key where the master keeps those that nobody has accepted yet."""
        keys = self.lab.folder / "pki"
        shutil.copy(keys / "minions" / TARGET, keys / "minions_pre" / minion)

    def _run_in_salt(self, name: str, program: Path, *arguments: str) -> None:
        self.lab.start(name, [self.lab.programs.python, str(program), str(self.lab.config_dir), *arguments])

    def _each(self, name: str, do: Callable[[psutil.Process], None]) -> None:
        for process in self.lab.processes(name):
            do(process)

    def _workers(self) -> list[psutil.Process]:
        return [process for process in self.lab.processes("master") if "MWorker-" in " ".join(process.cmdline())]


# How long each state lasts (seconds), what is told about it, and how it comes about.
FAULTS: tuple[tuple[float, str, Callable[[Fleet], None]], ...] = (
    (90, "all is well", lambda _: None),
    (50, f"{STOPPED} is stopped", Fleet.stop_minion),
    (40, f"{FROZEN} is frozen, and big jobs are published", Fleet.freeze_minion),
    (50, f"{FROZEN} goes on", Fleet.thaw_minion),
    (45, "a program stops reading the event bus", Fleet.stop_bus_reader),
    (40, "all workers are stopped", Fleet.stop_workers),
    (50, "the workers go on", Fleet.continue_workers),
    (30, "the program reads on", Fleet.continue_bus_reader),
    (50, f"{FROZEN} is frozen again", Fleet.freeze_minion),
)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own address
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
