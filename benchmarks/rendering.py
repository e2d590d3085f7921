"""Benchmark: samples to the text that Prometheus reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily

from benchmarks.measure import Contender, Row, Table, cpu_seconds, ratios, take_turns
from salt_exporter.collectors.presence import MINION_NOT_PRESENT
from salt_exporter.exposition import compress, render

if TYPE_CHECKING:
    from collections.abc import Iterable

_ROUNDS: Final = 7
_OPENMETRICS: Final = "application/openmetrics-text"

_FLOOR: Final = "prometheus_client alone, a custom collector"
_OURS: Final = "**the exporter's text format**"
_OPEN: Final = "**the exporter's OpenMetrics**"
_GZIP: Final = "**the exporter's text format, compressed**"


class _Custom:
    """What the documentation of prometheus_client advises for metrics of somebody else's."""

    def __init__(self, minions: Iterable[str]) -> None:
        self._minions = minions

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily(MINION_NOT_PRESENT.name, MINION_NOT_PRESENT.help, labels=["minion"])
        for minion in self._minions:
            family.add_metric([minion], 1.0)
        yield family


def rendering(series: int) -> Table:
    """Compare ways to render so many series."""
    minions = [f"minion-{number:05}" for number in range(series)]
    registry = CollectorRegistry()
    registry.register(_Custom(minions))

    def rendered(accept: str) -> bytes:
        samples = [MINION_NOT_PRESENT(1, minion=minion) for minion in minions]
        return render([MINION_NOT_PRESENT], samples, accept)[0]

    found = take_turns(
        _ROUNDS,
        {
            _FLOOR: Contender(lambda: generate_latest(registry), 3),
            _OURS: Contender(lambda: rendered(""), 3),
            _OPEN: Contender(lambda: rendered(_OPENMETRICS), 3),
            _GZIP: Contender(lambda: compress(rendered("")), 3),
        },
        cpu_seconds,
    )
    if not found[_OURS].answer.startswith(found[_FLOOR].answer):
        raise RuntimeError("the exporter renders another text than prometheus_client")
    return Table(
        f"Rendering {series:,} series",
        "CPU time from a list of minions to the text with one series for each, both texts being the same. The daemon "
        "renders no more than 1,000 minions by default, and its other series are some hundreds.",
        "times the floor",
        "ms of CPU",
        [
            Row(name, ratios(one.seconds, found[_FLOOR].seconds), [seconds * 1e3 for seconds in one.seconds])
            for name, one in found.items()
        ],
    )
