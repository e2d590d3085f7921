"""Writes tables and the facts about the machine as Markdown, for the terminal and for docs/performance.md."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.measure import Row, Table

_HEAD = """\
<!-- Written by `python -m benchmarks`; do not edit. -->

# Performance

What the exporter's work costs, beside what people use now for the same work, measured in one run on one machine.
Numbers are medians, with the smallest and the largest in brackets. What is compared took turns, and each ratio is of
two measurements of the same round: believe the ratios. Times are this machine's, which had other work, too.

`.venv/bin/python -m benchmarks` from the repository's root measures again and writes this page;
`.venv/bin/python -m benchmarks PART…` measures some parts and only prints them: snapshot, sampling, presence, intake,
rendering, scrape. It needs Linux with `ss`, pyroute2 in the virtualenv (`pip install --group benchmark`) and Salt's own
programs beside it, takes about ten minutes, listens on loopback only and removes all it made. It fails if the lists
that it compares differ or an event is lost, and its exit status is 1 if a goal is missed.
"""


def document(salt: str, tables: Iterable[Table]) -> str:
    """Return the whole page; `salt` is the version of the master that was measured."""
    return "\n".join([_HEAD, _facts(salt), *(section(table) for table in tables)])


def section(table: Table) -> str:
    """Return one benchmark with its heading."""
    head = ("", table.ratio, table.unit, "goal")
    lines = [_line(head), _line(["---"] * len(head)), *(_line(_cells(row)) for row in table.rows)]
    return "\n".join([f"## {table.title}", "", table.how, "", *lines, ""])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: Row) -> list[str]:
    goal = f"{row.goal.text}: {'met' if row.goal.met else '**missed**'}" if row.goal else ""
    return [row.name, _spread(row.ratios), _spread(row.values), goal]


def _spread(numbers: Sequence[float]) -> str:
    if not numbers:
        return ""
    if len(numbers) == 1:
        return _short(numbers[0])
    return f"{_short(median(numbers))} ({_short(min(numbers))} to {_short(max(numbers))})"


def _short(number: float) -> str:
    """Write three digits, all of them where there are more before the point."""
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def _facts(salt: str) -> str:
    return "\n".join(
        [
            f"- CPU: {os.cpu_count()} cores, {_cpu()}, load average {os.getloadavg()[2]:.1f} over the last 15 minutes",
            f"- Linux {platform.release()}",
            f"- Python {platform.python_version()}",
            f"- Salt {salt}",
            "",
        ]
    )


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
