"""The exporter itself, as an operator runs it: the daemon beside the lab's master, and its commands."""

from __future__ import annotations

import http.client
import sys
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from benchmarks.processes import output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salt_exporter.demo.lab import Lab

_PORT: Final = 14902
_PROGRAM: Final = str(Path(sys.executable).with_name("salt-exporter"))


class Daemon:
    """A running `salt-exporter serve`."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def scrape(self) -> str:
        """Return the metrics, over a connection of its own."""
        with closing(http.client.HTTPConnection("127.0.0.1", _PORT, timeout=30)) as connection:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()

    def is_ready(self) -> bool:
        """Tell whether it has looked at the master."""
        with closing(http.client.HTTPConnection("127.0.0.1", _PORT, timeout=2)) as connection:
            try:
                connection.request("GET", "/-/ready")
                return connection.getresponse().status == http.HTTPStatus.OK
            except (OSError, http.client.HTTPException):
                return False

    def resident_bytes(self) -> int:
        """Return how much memory it occupies."""
        return int(psutil.Process(self._lab.pid("exporter")).memory_info().rss)


@contextmanager
def daemon(lab: Lab) -> Iterator[Daemon]:
    """Run the daemon, ready to be scraped, while the block lasts."""
    argv = [_PROGRAM, "serve", f"--web.listen-address=127.0.0.1:{_PORT}", *_flags(lab, lab.folder / "daemon-state")]
    running = Daemon(lab)
    lab.start("exporter", argv)
    try:
        lab.wait("exporter", running.is_ready, 60)
        yield running
    finally:
        lab.stop("exporter")


def absent_minions(lab: Lab, state: Path) -> str:
    """Run `salt-exporter minions --absent` and return its JSON; `state` is where it remembers the master's settings."""
    return output([_PROGRAM, "minions", "--absent", "--json", *_flags(lab, state)])


def _flags(lab: Lab, state: Path) -> list[str]:
    return ["--config.file=/dev/null", f"--salt.config-dir={lab.config_dir}", f"--state.directory={state}"]
