"""One file per metric family: `salt_<collector>_…` is declared in `<collector>.py`.

A collector reads the world and yields samples of the metrics declared at the top of its file. It may raise, hang or be
slow: salt_exporter/scrape.py alone deals with that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from salt_exporter.collectors.connections import ConnectionsCollector
from salt_exporter.collectors.eventbus import EventBusCollector
from salt_exporter.collectors.exporter import ExporterCollector
from salt_exporter.collectors.jobs import JobsCollector
from salt_exporter.collectors.keys import KeysCollector
from salt_exporter.collectors.master import MasterCollector
from salt_exporter.collectors.presence import PresenceCollector
from salt_exporter.collectors.probe import ProbeCollector
from salt_exporter.collectors.processes import ProcessesCollector
from salt_exporter.collectors.publish import PublishCollector
from salt_exporter.collectors.request import RequestCollector
from salt_exporter.collectors.settings import SettingsCollector
from salt_exporter.collectors.workers import WorkersCollector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salt_exporter.metric import Metric, Sample
    from salt_exporter.world import World


class Collector(Protocol):
    """What every collector is."""

    name: ClassVar[str]
    metrics: ClassVar[tuple[Metric, ...]]

    def __init__(self, world: World) -> None: ...

    def collect(self) -> Iterator[Sample]:
        """Yield the samples of now. Raises SourceError when the question cannot be asked."""
        ...


ALL: Final[tuple[type[Collector], ...]] = (
    MasterCollector,
    KeysCollector,
    PresenceCollector,
    ConnectionsCollector,
    PublishCollector,
    RequestCollector,
    SettingsCollector,
    JobsCollector,
    EventBusCollector,
    ProcessesCollector,
    WorkersCollector,
    ProbeCollector,
    ExporterCollector,
)
