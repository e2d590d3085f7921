"""Benchmark: the memory of the daemon."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from benchmarks.measure import Goal, Row, Table, at_most
from benchmarks.processes import output

if TYPE_CHECKING:
    from benchmarks.exporter import Daemon

_SCRAPES: Final = 20
_MB: Final = 1e6
_LIMIT: Final = 45  # MB beside a small master
_LIBRARIES: Final = "asyncio, msgpack, prometheus_client, psutil, tornado.web, yaml"
_SALT: Final = "psutil, salt.config, salt.utils.event, salt.utils.minions"


def resident_bytes(daemon: Daemon) -> int:
    """Scrape as often as Prometheus does in some minutes, and return what the daemon occupies then."""
    for _ in range(_SCRAPES):
        daemon.scrape()
    return daemon.resident_bytes()


def memory(salt_python: str, daemons: dict[int, int]) -> Table:
    """Compare daemons with what they are made of; `daemons` are resident bytes by the number of minions."""
    libraries = _bare(sys.executable, _LIBRARIES)
    rows = [
        _row(f"Python with the daemon's libraries: {_LIBRARIES}", libraries, libraries),
        _row(f"Python with what asking Salt takes: {_SALT}", _bare(salt_python, _SALT), libraries),
    ]
    for minions, size in daemons.items():
        goal = at_most(_LIMIT, [size / _MB], " MB") if minions == min(daemons) else None
        rows.append(_row(f"**the daemon at {minions:,} minions**", size, libraries, goal))
    return Table(
        "Memory",
        f"Resident memory of the daemon after {_SCRAPES} scrapes beside a real master, and of Pythons that have only "
        "imported libraries.",
        "times its libraries alone",
        "MB",
        rows,
    )


def _row(name: str, size: int, libraries: int, goal: Goal | None = None) -> Row:
    return Row(name, [size / libraries], [size / _MB], goal)


def _bare(python: str, modules: str) -> int:
    """Return the resident bytes of a Python that has imported these modules, psutil among them, and nothing else."""
    return int(output([python, "-c", f"import {modules}; print(psutil.Process().memory_info().rss)"]))
