"""Whether a process is flat over time, and the page that says what a soak has found. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields
from statistics import linear_regression, median
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.real.soak_truth import Audit

_QUARTERS = 4


@dataclass(frozen=True, slots=True)
class Sample:
    """The exporter at one moment."""

    at: float  # monotonic seconds
    rss: float  # MB, resident
    fds: float
    threads: float
    series: float
    cpu: float  # seconds since its start

    def __sub__(self, other: Sample) -> float:
        """Return the share of a processor that was used since the other one."""
        return (self.cpu - other.cpu) / (self.at - other.at)


class Bound(NamedTuple):
    """By how much the last quarter's median may exceed the most of the second one.

    Not its median: while the master restarts there are fewer series, and that may take a good part of a short quarter.
    """

    what: str
    absolute: float
    relative: float = 0.0

    def allows(self, before: float) -> float:
        """Return how much more is allowed."""
        return max(self.absolute, self.relative * before)


# Memory is handed out in arenas; a connection or a thread may be open at the moment; a minion that is away has series:
# a leak would be one per job.
BOUNDS = {
    "rss": Bound("resident memory, MB", 3.0, 0.05),
    "fds": Bound("open file descriptors", 3.0),
    "threads": Bound("threads", 2.0),
    "series": Bound("series", 25.0, 0.01),
}


def quarters(samples: Sequence[Sample], name: str) -> list[list[float]]:
    """Return the values of a field in the four quarters of the time."""
    size = len(samples) / _QUARTERS
    values = [getattr(sample, name) for sample in samples]
    return [values[round(size * number) : round(size * (number + 1))] for number in range(_QUARTERS)]


def growing(samples: Sequence[Sample]) -> list[str]:
    """Return what is not flat: the first quarter is the warm-up, the last one is compared with the second."""
    found = []
    for name, bound in BOUNDS.items():
        _warm_up, second, _third, last = quarters(samples, name)
        before, after = max(second), median(last)
        if after - before > bound.allows(before):
            found.append(f"{bound.what}: up to {before:.1f} in the second quarter, {after:.1f} in the last")
    return found


def slope(samples: Sequence[Sample], name: str) -> float:
    """Return by how much a field grows in an hour, fitted over all but the first quarter."""
    rest = samples[len(samples) // _QUARTERS :]
    hours = [sample.at / 3600 for sample in rest]
    return linear_regression(hours, [getattr(sample, name) for sample in rest]).slope


def page(
    facts: Mapping[str, object], done: Mapping[str, int], samples: Sequence[Sample], audits: Sequence[Audit]
) -> str:
    """Return the report as Markdown: what the machine was, what was done, what was found."""
    lines = [*(f"- {name}: {value}" for name, value in facts.items()), "", "## What was done", ""]
    lines += _table(("what", "times"), [(name, str(number)) for name, number in done.items()])
    lines += [
        "",
        "## Is it flat?",
        "",
        *_flatness(samples),
        "",
        "## Does it drift from the truth?",
        "",
        *_drift(audits),
    ]
    return "\n".join(lines) + "\n"


def _flatness(samples: Sequence[Sample]) -> list[str]:
    headings = ("", "1st quarter", "2nd", "3rd", "4th", "least", "most", "slope per hour", "allowed")
    rows = []
    for name, bound in BOUNDS.items():
        parts = quarters(samples, name)
        values = [value for part in parts for value in part]
        medians = [f"{median(part):,.1f}" for part in parts]
        allowed = f"{max(parts[1]) + bound.allows(max(parts[1])):,.1f}"
        least, most = f"{min(values):,.1f}", f"{max(values):,.1f}"
        rows.append((bound.what, *medians, least, most, f"{slope(samples, name):+,.2f}", allowed))
    cpu = samples[-1] - samples[0]
    verdict = "; ".join(growing(samples)) or "Flat: in the last quarter nothing is beyond what the second one allows."
    return [*_table(headings, rows), "", f"Processor: {cpu:.2%} of a core, all scrapes included.", "", verdict]


def _drift(audits: Sequence[Audit]) -> list[str]:
    names = [item.name for item in fields(audits[0])][:-1]
    rows = [
        (str(number), *(f"{getattr(audit, name):,}" for name in names), f"{len(audit.differences)}")
        for number, audit in enumerate(audits, 1)
    ]
    total = [f"{sum(getattr(audit, name) for audit in audits):,}" for name in names]
    rows.append(("all", *total, str(sum(len(audit.differences) for audit in audits))))
    return _table(("stretch", *names, "**differences**"), rows)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---", *("---:" for _ in headings[1:])]
    return [f"| {' | '.join(row)} |" for row in (headings, rule, *rows)]
