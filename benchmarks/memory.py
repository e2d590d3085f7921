"""The memory of the daemon, beside what it is made of."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from benchmarks.measure import Row, Table, at_most
from benchmarks.processes import output

if TYPE_CHECKING:
    from collections.abc import Mapping

_MB: Final = 1e6
_GOALS: Final = {1000: 45}  # MB, by minions
_GOALS_WITH_JOBS: Final = {20_000: 120}
_LIBRARIES: Final = "asyncio, msgpack, prometheus_client, psutil, ssl, tornado.web, yaml, zmq"
_SALT: Final = f"{_LIBRARIES}, salt.config, salt.utils.event, salt.utils.minions"


def memory(salt_python: str, scraped: Mapping[int, int], with_jobs: Mapping[int, int], jobs: int) -> Table:
    """Compare daemons with what they are made of: resident bytes by the number of minions, without and with jobs."""
    libraries = _bare(sys.executable, _LIBRARIES)
    rows = [
        _row(f"Python with the daemon's libraries: {_LIBRARIES}", libraries, libraries),
        _row(
            "Python with the same and Salt's configuration, events and presence", _bare(salt_python, _SALT), libraries
        ),
    ]
    for minions in scraped:
        rows.append(_row(f"**the daemon at {minions:,} minions**", scraped[minions], libraries, _GOALS.get(minions)))
        name = f"**the same with {jobs} jobs in flight, each for every minion**"
        rows.append(_row(name, with_jobs[minions], libraries, _GOALS_WITH_JOBS.get(minions)))
    return Table(
        "Memory",
        "Resident memory of the daemon after the scrapes above, and of Pythons that have only imported libraries.",
        "times its libraries alone",
        "MB",
        rows,
    )


def _row(name: str, size: int, libraries: int, limit: float | None = None) -> Row:
    goal = at_most(limit, [size / _MB], " MB") if limit else None
    return Row(name, [size / libraries], [size / _MB], goal)


def _bare(python: str, modules: str) -> int:
    """Return the resident bytes of a Python that has imported these modules, psutil among them, and nothing else."""
    return int(output([python, "-c", f"import {modules}; print(psutil.Process().memory_info().rss)"]))
