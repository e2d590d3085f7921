"""What the event bus has shown so far: events by kind, the last sign of life of every minion, the jobs."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Final

from salt_exporter.analysis.workers import Workers
from salt_exporter.master.events import JobNew, JobReturn, JobStart, WorkerStats

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from salt_exporter.analysis.jobs import JobLedger
    from salt_exporter.master.events import Event

_MAX_SEEN: Final = 200_000  # ids remembered between two calls of keep_only: what the network sends is bounded


class Activity:
    """Takes decoded events from one thread, answers questions of others; hold `lock` to read several things at once."""

    def __init__(self, jobs: JobLedger) -> None:
        self.lock = threading.RLock()
        self.jobs = jobs
        self.workers = Workers()
        self.kinds: Counter[str] = Counter()
        self.undecodable = 0  # bodies that were no event
        self.last_stamp: float | None = None  # when the master fired the newest event, Unix seconds
        self._seen: dict[str, float] = {}
        self._syndics: set[str] = set()  # ids that have said to be one

    def take(self, events: Iterable[Event], undecodable: int, now: float, wall: float) -> None:
        """Apply events in the order received; `now` is monotonic, `wall` Unix seconds."""
        with self.lock:
            self.undecodable += undecodable
            for kind, stamp, minion, detail in events:
                self.kinds[kind] += 1
                if stamp is not None:
                    self.last_stamp = stamp
                if minion is not None and (minion in self._seen or len(self._seen) < _MAX_SEEN):
                    self._seen[minion] = wall
                    if kind == "syndic":
                        self._syndics.add(minion)
                        self.jobs.syndics |= {minion}
                if isinstance(detail, JobReturn):
                    self.jobs.returned(detail, stamp, now)
                elif isinstance(detail, JobNew):
                    self.jobs.published(detail, stamp, now)
                elif isinstance(detail, JobStart):
                    self.jobs.started(detail, now)
                elif isinstance(detail, WorkerStats):
                    self.workers.take(detail, now)

    def last_seen(self) -> dict[str, float]:
        """Return the last sign of life of each minion, Unix seconds."""
        with self.lock:
            return self._seen.copy()

    def know_syndics(self, stored: Collection[str]) -> None:
        """Take the ids of the syndics that the master has stored; one that has said to be a syndic is, too.

        The master stores an id with the first return from below it: until then its start event alone tells.
        """
        with self.lock:
            self.jobs.syndics = frozenset(stored) | self._syndics

    def remember(self, seen: Mapping[str, float]) -> None:
        """Take signs of life of before the exporter's restart, Unix seconds."""
        with self.lock:
            self._seen = {**seen, **self._seen}

    def keep_only(self, minions: Collection[str]) -> None:
        """Forget everybody whose key is not accepted (any longer)."""
        with self.lock:
            for minion in self._seen.keys() - minions:
                del self._seen[minion]
            self._syndics.intersection_update(minions)
            self.jobs.keep_only(minions)

    def gap(self) -> None:
        """Note that the bus was lost: events may be missed."""
        with self.lock:
            self.jobs.gap()
