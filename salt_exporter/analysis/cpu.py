"""CPU seconds by role, as a counter that outlives the processes it counts."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from salt_exporter.master.processes import Process


class CpuByRole:
    """Adds up what processes use from one look to the next.

    Those of the first look count from then on, younger ones from their start. What a process uses after the last look
    at it is not seen.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._seen: dict[tuple[int, float], float] | None = None  # (pid, start) → CPU seconds; None before the first

    def observe(self, processes: Iterable[tuple[Process, str]]) -> None:
        """Take all processes of now, each with its role."""
        seen = {}
        for process, role in processes:
            key = process.pid, process.started
            seen[key] = process.cpu_seconds
            before = process.cpu_seconds if self._seen is None else self._seen.get(key, 0.0)
            self.seconds[role] += max(0.0, process.cpu_seconds - before)
        self._seen = seen
