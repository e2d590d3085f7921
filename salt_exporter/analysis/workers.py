"""What the master's workers say about themselves, where it runs with `master_stats: True`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from salt_exporter.master.events import WorkerStats

OTHER: Final = "other"
_COMMANDS: Final = 50  # with label values of their own; Salt has about thirty
_WORKERS: Final = 10_000
# A worker reports when a request arrives after its interval has passed (salt/master.py, `_post_stats`), so one that has
# not for so many of them has had nothing to do.
_INTERVALS: Final = 3.0


class Workers:
    """Takes `salt/stats/<worker>` events. Not thread-safe: its owner locks."""

    def __init__(self) -> None:
        self.runs: dict[str, int] = {}  # by command
        self.seconds: dict[str, float] = {}  # the same, that the handlers took
        self._newest: dict[str, tuple[float, float, float]] = {}  # worker → when (monotonic), seconds told about, busy

    def take(self, stats: WorkerStats, now: float) -> None:
        """Take the statistics of one worker; `now` is monotonic."""
        busy = 0.0
        for command, (runs, seconds) in stats.commands.items():
            name = command if command in self.runs or len(self.runs) < _COMMANDS else OTHER
            self.runs[name] = self.runs.get(name, 0) + runs
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
            busy += seconds
        if stats.worker in self._newest or len(self._newest) < _WORKERS:
            self._newest[stats.worker] = (now, stats.seconds, busy)

    def busy_ratio(self, now: float) -> float | None:
        """Return the share of their time that the workers were busy, by their newest reports; None without any.

        `now` is monotonic.
        """
        if not self._newest:
            return None
        busy = seconds = 0.0
        for when, length, worked in self._newest.values():
            seconds += length
            if now - when <= _INTERVALS * length:
                busy += min(worked, length)
        return busy / seconds
