"""The master as the view sees it: a world of its own, whose events are handed over, and whose path is asked for."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from salt_exporter.api import DEADLINE
from salt_exporter.collectors import ALL
from salt_exporter.errors import SourceError
from salt_exporter.journal import reader
from salt_exporter.scrape import Scraper, SingleFlight
from salt_exporter.status.gather import Situation
from salt_exporter.status.query import Query
from salt_exporter.status.view import view
from salt_exporter.watch.recent import HOUR, LastHour, Recent, better
from salt_exporter.watch.tape import Tape
from salt_exporter.world import World

if TYPE_CHECKING:
    from collections.abc import Mapping

    from salt_exporter.config import Config
    from salt_exporter.status.view import View
    from salt_exporter.watch.tape import Received


class Path(NamedTuple):
    """The message path, as the status page shows it."""

    view: View
    since: float | None  # the losses on it are counted, Unix seconds; None: whether there are any is not known
    taken: float  # Unix seconds


class Source(Protocol):
    """What the view asks."""

    @property
    def problem(self) -> str:
        """Why the event bus is not read: one sentence, "" when it is."""

    @property
    def shed(self) -> int:
        """Events that were thrown away because they came faster than they could be shown."""

    def take(self, most: int) -> list[Received]:
        """Return events that have come since, the oldest first."""

    async def path(self) -> Path:
        """Look at the whole path."""


class Master:
    """The master that runs here. `path` belongs to one event loop."""

    def __init__(self, config: Config) -> None:
        self._world = World(config)
        self._tape = Tape()
        self._world.intake.observers.append(self._tape.put)
        self._scraper = Scraper([make(self._world) for make in ALL if make.name in config.collectors])
        self._settings = SingleFlight("watch-master", self._world.settings.current)
        self._recent = SingleFlight("watch-recent", self._lost)
        self._last_hour = LastHour(time.time())

    def start(self) -> None:
        """Begin to watch. Raises SourceError where there is no master to watch, not even one that is down."""
        self._world.settings.current()
        self._world.start()

    def stop(self) -> None:
        """Stop watching."""
        self._world.stop()

    @property
    def problem(self) -> str:
        """Why the event bus is not read: one sentence, "" when it is."""
        return self._world.bus.problem

    @property
    def shed(self) -> int:
        """Events that were thrown away because they came faster than they could be decoded or shown."""
        return self._tape.shed + self._world.bus.counters.shed

    def take(self, most: int) -> list[Received]:
        """Return at most so many of the events that have come since, the oldest first."""
        return self._tape.take(most)

    async def path(self) -> Path:
        """Ask all that the path is drawn from; a source that fails or hangs leaves its part of it empty."""
        scrape, settings, recent = await asyncio.gather(
            self._scraper.scrape(DEADLINE - 1), self._settings.ask(DEADLINE), self._recent.ask(DEADLINE)
        )
        problems = {
            name: str(answer.error) or repr(answer.error)
            for name, answer in (("master", settings), ("recent", recent))
            if answer.error
        }
        now = time.time()
        counts = recent.value.counts if recent.value else None
        situation = Situation(now, master=settings.value, scrape=scrape, recent=counts, problems=problems)
        return Path(view(situation, Query()), recent.value.since if recent.value else None, now)

    def _lost(self) -> Recent:
        now = time.time()
        return better(self._last_hour.grown(self._totals(), now), self._journal(now))

    def _totals(self) -> Mapping[str, int]:
        """Return the missing responses that this view has seen itself, by cause."""
        activity = self._world.activity
        totals: dict[str, int] = {}
        with activity.lock:
            for counters in activity.jobs.functions.values():
                for cause, number in counters.missing.items():
                    totals[cause.value] = totals.get(cause.value, 0) + number
        return totals

    def _journal(self, now: float) -> Recent | None:
        """Return what the daemon's journal knows of the last hour, None if there is none that can be read."""
        try:
            with reader(self._world.config.state_directory) as journal:
                return Recent(now - HOUR, journal.counts(since=now - HOUR))
        except SourceError:
            return None
