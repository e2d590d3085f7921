"""The master's event bus as its consumer sees it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

from salt_exporter.errors import SourceError
from salt_exporter.master.events import KINDS
from salt_exporter.metric import Metric, Sample, counter, gauge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salt_exporter.world import World

EVENTS = counter(
    "salt_eventbus_events_total",
    "Events received from the master's event bus, by what their tag says they are.",
    "kind",
)
LAG = gauge(
    "salt_eventbus_lag_seconds",
    "Time since the master stamped (_stamp) the newest event received; it grows while a master has nothing to say.",
)


class EventBusCollector:
    """Reports what the bus reader has seen; fails while it is not connected."""

    name: ClassVar[str] = "eventbus"
    metrics: ClassVar[tuple[Metric, ...]] = (EVENTS, LAG)

    def __init__(self, world: World) -> None:
        self._world = world

    def collect(self) -> Iterator[Sample]:
        """Yield the samples of now."""
        if self._world.bus.problem:
            raise SourceError(self._world.bus.problem)
        activity = self._world.activity
        with activity.lock:
            kinds = activity.kinds.copy()
            stamp = activity.last_stamp
        for kind in KINDS:
            yield EVENTS(kinds[kind], kind=kind)
        if stamp is not None:
            yield LAG(max(0.0, time.time() - stamp))
