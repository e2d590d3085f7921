"""What Prometheus holds of us: the exporter's declarations, what Prometheus itself adds, and what our rules record."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

from promql_parser import parse

from salt_exporter.collectors import ALL
from tests.alerts.labels import LabelError, labels_of
from tests.alerts.rules import load_recordings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salt_exporter.metric import Metric
    from tests.alerts.labels import Catalogue, Labels

TARGET = frozenset({"job", "instance"})
"""The labels that every scraped series has."""


@cache
def catalogue() -> Catalogue:
    """Return every series name with its labels."""
    declared = {name: labels | TARGET for metric in _metrics() for name, labels in _series(metric)}
    alerts = TARGET | {"alertname", "alertstate", "severity"}
    return _with_recordings(declared | {"up": TARGET, "ALERTS": alerts})


def _with_recordings(series: dict[str, Labels]) -> Catalogue:
    """Add what the rules record. A recording that cannot be is missing here; its own test says why it cannot."""
    for recording in load_recordings():
        with suppress(LabelError):
            series[recording.name] = labels_of(parse(recording.expr), series)
    return series


def _metrics() -> Iterator[Metric]:
    for collector in ALL:
        yield from collector.metrics


def _series(metric: Metric) -> Iterator[tuple[str, Labels]]:
    """Yield what a metric looks like in Prometheus; a histogram is three kinds of series."""
    labels = frozenset(metric.labels)
    if metric.kind != "histogram":
        yield metric.name, labels
        return
    yield f"{metric.name}_bucket", labels | {"le"}
    yield f"{metric.name}_sum", labels
    yield f"{metric.name}_count", labels
