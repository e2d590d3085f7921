"""What the exporter's own active checks have found."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from salt_exporter.errors import SourceError
from salt_exporter.metric import Metric, Sample, gauge, histogram

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salt_exporter.world import World

SUCCESS = gauge(
    "salt_probe_success",
    "Whether the newest attempt of an enabled probe succeeded: request is a harmless request through 4506, router, "
    "queue and a worker, publish the exporter's own subscription to 4505, event_bus an event's way over the bus; none "
    "where the probe cannot be made.",
    "probe",
)
DURATION = histogram(
    "salt_probe_duration_seconds",
    "Seconds from the exporter's request or event until its answer, answers that came after the timeout included; "
    "attempts without any answer do not count.",
    "probe",
)


class ProbeCollector:
    """Reports enabled probes; fails where none of them can be made."""

    name: ClassVar[str] = "probe"
    metrics: ClassVar[tuple[Metric, ...]] = (SUCCESS, DURATION)

    def __init__(self, world: World) -> None:
        self._world = world

    def collect(self) -> Iterator[Sample]:
        """Yield the samples of now."""
        known = False
        reasons = []
        if self._world.config.probe_publish and self._world.settings.current().transport == "zeromq":
            known = True
            yield SUCCESS(self._world.publisher.is_subscribed, probe="publish")
        for probe, results in self._world.prober.results.items():
            success, problem, durations = results.read()
            yield DURATION(durations, probe=probe)
            if success is not None:
                known = True
                yield SUCCESS(success, probe=probe)
            elif problem:
                reasons.append(problem)
        if reasons and not known:
            raise SourceError(reasons[0])
