"""The master itself: is it there, what is it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from salt_exporter.metric import Metric, Sample, gauge
from salt_exporter.sampler import CHANNELS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salt_exporter.world import World

UP = gauge("salt_master_up", "1 when the kernel holds listening sockets on both the publish and the request port.")
INFO = gauge(
    "salt_master_info",
    "1; the labels tell the master apart. source is master when the running master's own Python resolved the options, "
    "exporter when the Salt installed beside the exporter had to.",
    "version",
    "transport",
    "id",
    "source",
)
CLUSTER_INFO = gauge(
    "salt_master_cluster_info",
    "1 where the master is a member of a master cluster (cluster_id, Salt 3007 and later): all members accept the same "
    "minions, and each minion is connected to one of them. No series where it is not.",
    "cluster_id",
)
WORKER_THREADS = gauge(
    "salt_master_worker_threads",
    "Workers that answer requests, as configured (worker_threads, or worker_pools from Salt 3008 on).",
    "pool",
)


class MasterCollector:
    """Reads the listening sockets and the resolved options."""

    name: ClassVar[str] = "master"
    metrics: ClassVar[tuple[Metric, ...]] = (UP, INFO, CLUSTER_INFO, WORKER_THREADS)

    def __init__(self, world: World) -> None:
        self._world = world

    def collect(self) -> Iterator[Sample]:
        """Yield the samples of now."""
        settings = self._world.settings.current()
        listeners = self._world.sampler.snapshot().listeners
        yield UP(all(listeners[channel] for channel in CHANNELS))
        yield INFO(1, version=settings.version, transport=settings.transport, id=settings.id, source=settings.source)
        if settings.cluster_id:
            yield CLUSTER_INFO(1, cluster_id=settings.cluster_id)
        for pool, workers in settings.pools.items():
            yield WORKER_THREADS(workers, pool=pool)
