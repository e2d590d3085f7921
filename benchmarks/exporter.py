"""The exporter itself, as an operator runs it: the daemon beside the lab's master, and its commands."""

from __future__ import annotations

import http.client
import shutil
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from benchmarks.processes import output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from salt_exporter.demo.lab import Lab

_PROGRAM: Final = str(Path(sys.executable).with_name("salt-exporter"))


class Daemon:
    """A running `salt-exporter serve`."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.port = lab.ports[1] + 1  # next to the master's, as by default

    def scrape(self) -> str:
        """Return the metrics, over a connection of its own."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()

    def is_ready(self) -> bool:
        """Tell whether it has looked at the master."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)) as connection:
            try:
                connection.request("GET", "/-/ready")
                return connection.getresponse().status == http.HTTPStatus.OK
            except (OSError, http.client.HTTPException):
                return False

    def value(self, series: str) -> float:
        """Return the value of one series."""
        return next(float(line.split()[-1]) for line in self.scrape().splitlines() if line.startswith(f"{series} "))

    @contextmanager
    def kept_alive(self) -> Iterator[Callable[[], float]]:
        """Yield what asks for its health, always over the same connection, and returns how many seconds that took."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:

            def ask() -> float:
                started = time.monotonic()
                connection.request("GET", "/-/healthy")
                connection.getresponse().read()
                return time.monotonic() - started

            yield ask

    def resident_bytes(self) -> int:
        """Return how much memory it occupies."""
        return int(self._process().memory_info().rss)

    def cpu_seconds(self, action: Callable[[], object]) -> float:
        """Return how much CPU time it uses while something is done."""
        before = self._process().cpu_times()
        action()
        after = self._process().cpu_times()
        return float(after.user + after.system - before.user - before.system)

    def cpu_percent(self, action: Callable[[], object]) -> float:
        """Return how much of a core it uses while something is done."""
        started = time.monotonic()
        return 100 * self.cpu_seconds(action) / (time.monotonic() - started)

    def _process(self) -> psutil.Process:
        return psutil.Process(self._lab.pid("exporter"))


@contextmanager
def daemon(lab: Lab, *settings: str) -> Iterator[Daemon]:
    """Run the daemon, ready to be scraped, while the block lasts; it remembers nothing of the last time.

    `settings` are flags beside the usual ones.
    """
    state = lab.folder / "daemon-state"
    running = Daemon(lab)
    listen = f"--web.listen-address=127.0.0.1:{running.port}"
    argv = [_PROGRAM, "serve", listen, *_flags(lab, state), *settings]
    lab.start("exporter", argv)
    try:
        lab.wait("exporter", running.is_ready, 120)
        yield running
    finally:
        lab.stop("exporter")
        shutil.rmtree(state, ignore_errors=True)


def absent_minions(lab: Lab, state: Path) -> str:
    """Run `salt-exporter minions --absent` and return its JSON; `state` is where it remembers the master's settings."""
    return output([_PROGRAM, "minions", "--absent", "--json", *_flags(lab, state)])


def _flags(lab: Lab, state: Path) -> list[str]:
    return [f"--salt.config-dir={lab.config_dir}", f"--state.directory={state}"]
