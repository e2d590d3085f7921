"""What Prometheus holds of us: the exporter's declarations, and what Prometheus itself adds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from salt_exporter.collectors import ALL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salt_exporter.metric import Metric
    from tests.alerts.labels import Catalogue, Labels

TARGET = frozenset({"job", "instance"})
"""The labels that every scraped series has."""


def catalogue() -> Catalogue:
    """Return every series name with its labels."""
    declared = {name: labels | TARGET for metric in _metrics() for name, labels in _series(metric)}
    alerts = TARGET | {"alertname", "alertstate", "severity"}
    return declared | {"up": TARGET, "ALERTS": alerts}


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
