"""What the master's workers do, as they report it themselves with `master_stats: True`; nothing without."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

from salt_exporter.metric import Metric, Sample, counter, gauge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salt_exporter.world import World

COMMANDS = counter(
    "salt_workers_commands_total",
    "Requests handled by the master's workers, from its salt/stats/<worker> events (master_stats: True).",
    "command",
)
COMMAND_SECONDS = counter(
    "salt_workers_command_seconds_total",
    "Time that the handlers of these requests took, from the same events; waiting for a worker is not in it.",
    "command",
)
BUSY = gauge(
    "salt_workers_busy_ratio",
    "Share of their time that the workers were busy, from the time that their newest salt/stats/<worker> events tell "
    "about; no series without such events.",
)


class WorkersCollector:
    """Reports the statistics of the workers."""

    name: ClassVar[str] = "workers"
    metrics: ClassVar[tuple[Metric, ...]] = (COMMANDS, COMMAND_SECONDS, BUSY)

    def __init__(self, world: World) -> None:
        self._world = world

    def collect(self) -> Iterator[Sample]:
        """Yield the samples of now."""
        activity = self._world.activity
        with activity.lock:
            workers = activity.workers
            for command, runs in workers.runs.items():
                yield COMMANDS(runs, command=command)
                yield COMMAND_SECONDS(workers.seconds[command], command=command)
            ratio = workers.busy_ratio(time.monotonic())
        if ratio is not None:
            yield BUSY(ratio)
