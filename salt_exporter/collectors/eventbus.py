"""The master's event bus as its consumer sees it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

from salt_exporter.analysis.consumers import ConsumerNames
from salt_exporter.errors import SourceError
from salt_exporter.master.consumers import BusConsumers
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
CONSUMERS = gauge(
    "salt_eventbus_consumers",
    "Clients connected to the master's event bus, the exporter among them, from the kernel's sockets.",
)
CONSUMER_QUEUE = gauge(
    "salt_eventbus_consumer_queue_bytes",
    "Bytes that the master has handed to the kernel and a consumer of the event bus has not read, by process name: the "
    "receive queue of the consumer's socket (with ipc_mode: tcp, the send queue of the master's as well). Of consumers "
    "with the same name the one furthest behind; salt-exporter is the exporter, unknown a process that it may not look "
    "at, other what comes after the first 20 names. A full unix socket holds 100 to 200 kB; what waits beyond that is "
    "in the master's memory and shows nowhere.",
    "process",
)


class EventBusCollector:
    """Reports what the bus reader has seen; fails while it is not connected."""

    name: ClassVar[str] = "eventbus"
    metrics: ClassVar[tuple[Metric, ...]] = (EVENTS, LAG, CONSUMERS, CONSUMER_QUEUE)

    def __init__(self, world: World) -> None:
        self._world = world
        self._consumers = BusConsumers()
        self._names = ConsumerNames()

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
        yield from self._queues()

    def _queues(self) -> Iterator[Sample]:
        try:
            consumers = self._consumers.look(self._world.settings.current().bus)
        except SourceError:  # the events are here all the same, and the collector `request` says why
            return
        yield CONSUMERS(len(consumers))
        for process, unread in self._names.largest(consumers).items():
            yield CONSUMER_QUEUE(unread, process=process)
