"""The vocabulary: what a metric is, declared once and read by HELP, docs, tests, alerts and dashboards.

A collector declares its metrics at the top of its file, each name as one whole literal:

    KEYS = gauge("salt_keys", "Minion keys by state, counted in the master's pki_dir.", "state")

and reports by calling the declaration, which refuses wrong labels:

    yield KEYS(12, state="accepted")
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Literal
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Kind = Literal["gauge", "counter", "histogram"]

# Ids and tags come from the network: what does not fit a label is shortened, never a lost scrape.
MAX_LABEL_LENGTH = 256

_NAME = re.compile(r"salt_[a-z][a-z0-9_]*[a-z0-9]")


@dataclass(frozen=True, slots=True)
class Exemplar:
    """An example of what a counter counted, with labels outside of the series; OpenMetrics alone shows it."""

    labels: Mapping[str, str]
    value: float
    time: float  # Unix seconds


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one declared metric; `labels` in the order of the declaration."""

    metric: Metric
    labels: tuple[str, ...]
    value: float | HistogramValue
    exemplar: Exemplar | None = None


@dataclass(frozen=True, slots=True)
class HistogramValue:
    """What a histogram holds: counts per bucket (not cumulative, the last is +Inf) and the sum."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """Yield (upper bound, count of observations up to it), ending with +Inf."""
        yield from zip((*self.bounds, float("inf")), accumulate(self.counts), strict=True)


@dataclass(frozen=True, slots=True)
class Metric:
    """The declaration of one metric family.

    `help` is a full sentence that names its source. Label values are given by keyword when reporting.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse what Prometheus' naming rules or our own refuse."""
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"metric name {self.name!r} must be salt_… in lower case")
        if self.name.endswith("_total") is not (self.kind == "counter"):
            raise ValueError(f"{self.name}: counters, and only counters, end in _total")
        if not self.help.endswith("."):
            raise ValueError(f"{self.name}: HELP must be a full sentence with a full stop")

    def __call__(self, value: float | HistogramValue, exemplar: Exemplar | None = None, /, **labels: str) -> Sample:
        """Report `value` under these label values; every declared label, and no other, must be given."""
        if len(labels) != len(self.labels):
            raise ValueError(f"{self.name} takes the labels {self.labels}, not {tuple(labels)}")
        try:
            values = tuple(_clean(labels[name]) for name in self.labels)
        except KeyError as missing:
            raise ValueError(f"{self.name} takes the labels {self.labels}, not {tuple(labels)}") from missing
        if isinstance(value, HistogramValue) is not (self.kind == "histogram"):
            raise ValueError(f"{self.name} is a {self.kind}: it cannot take {value!r}")
        if exemplar is not None and self.kind != "counter":
            raise ValueError(f"{self.name} is a {self.kind}: only counters have exemplars")
        return Sample(self, values, value if isinstance(value, HistogramValue) else float(value), exemplar)


def gauge(name: str, help: str, *labels: str) -> Metric:  # noqa: A002 - Prometheus' own word
    """Declare a gauge."""
    return Metric(name, "gauge", help, labels)


def counter(name: str, help: str, *labels: str) -> Metric:  # noqa: A002 - Prometheus' own word
    """Declare a counter; its name ends in `_total`."""
    return Metric(name, "counter", help, labels)


def histogram(name: str, help: str, *labels: str) -> Metric:  # noqa: A002 - Prometheus' own word
    """Declare a classic histogram; its buckets come with the reported `HistogramValue`."""
    return Metric(name, "histogram", help, labels)


@dataclass(slots=True)
class Distribution:
    """A histogram being filled; `value()` is its snapshot. Not thread-safe: its owner locks."""

    bounds: Sequence[float]
    _counts: list[int] = field(init=False)
    _sum: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        """Start empty."""
        self.bounds = tuple(self.bounds)
        self._counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count one observation, in the unit of the bounds."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self._sum += value

    def value(self) -> HistogramValue:
        """Return an immutable snapshot."""
        return HistogramValue(tuple(self.bounds), tuple(self._counts), self._sum)


def _clean(value: str) -> str:
    """Make a label value that every text format can carry; values that differ stay different."""
    try:
        value.encode()
    except UnicodeEncodeError:
        value = value.encode("utf-8", "backslashreplace").decode()
    if len(value) > MAX_LABEL_LENGTH:
        end = f"…{crc32(value.encode()):08x}"
        value = value[: MAX_LABEL_LENGTH - len(end)] + end
    return value
