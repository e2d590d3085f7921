"""Asks everything that the page shows, each source in a thread of its own and with the API's deadline.

A source that fails or hangs leaves its part of the page empty and says why; viewers at the same time share the answers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from salt_exporter import api
from salt_exporter.commands import check
from salt_exporter.errors import SourceError
from salt_exporter.scrape import Answer, LateError, SingleFlight
from salt_exporter.status.query import ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from salt_exporter.analysis.presence import Presence
    from salt_exporter.commands.check import Report
    from salt_exporter.master.settings import MasterSettings
    from salt_exporter.scrape import Scrape
    from salt_exporter.status.query import Query
    from salt_exporter.world import World

RECENT: Final = 3600.0  # seconds whose losses are shown on the path
_JOBS: Final = 1000  # newest jobs, of which those that are incomplete are shown

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Situation:
    """What the sources have answered; None where one has not, then `problems` says why."""

    taken: float  # Unix seconds
    master: MasterSettings | None = None
    scrape: Scrape | None = None
    report: Report | None = None
    presence: Presence | None = None
    recent: Mapping[str, int] | None = None  # missing responses of the last RECENT seconds by cause
    jobs: Mapping[str, Any] | None = None  # as /api/v1/jobs has them
    losses: Mapping[str, Any] | None = None  # as /api/v1/losses has them, those that are asked for
    problems: Mapping[str, str] = field(default_factory=dict)  # name of one of the above → why it is None


class Gathering:
    """Asks the sources; all methods belong to one event loop."""

    def __init__(self, world: World, scrape: Callable[[], Scrape]) -> None:
        """`scrape` asks all collectors, from any thread."""
        served = api.endpoints(world, scrape)
        losses = served["losses"].function
        functions: dict[str, Callable[[], Any]] = {
            "master": world.settings.current,
            "scrape": scrape,
            "report": lambda: check.look(world, scrape()),
            "presence": world.presence,
            "recent": lambda: losses(since=RECENT, limit=1)["counts"],
            "jobs": lambda: served["jobs"].function(limit=_JOBS),
        }
        self._flights = {name: SingleFlight(f"status-{name}", function) for name, function in functions.items()}
        self._losses = api.Questions("status-losses", losses)

    async def ask(self, query: Query) -> Situation:
        """Return what all sources say, within about the deadline."""
        *given, found = await asyncio.gather(
            *(flight.ask(api.DEADLINE) for flight in self._flights.values()), self._ask_losses(query)
        )
        answers: dict[str, Answer[Any]] = {**dict(zip(self._flights, given, strict=True)), "losses": found}
        values = {name: answer.value for name, answer in answers.items() if answer.error is None}
        problems = {name: _problem(name, answer.error) for name, answer in answers.items() if answer.error is not None}
        return Situation(time.time(), problems=problems, **values)

    async def _ask_losses(self, query: Query) -> Answer[Any]:
        wanted = {"minion": query.minion, "jid": query.jid, "cause": query.cause}
        given = {name: value for name, value in wanted.items() if value}
        answer = await self._losses.ask({**given, "limit": query.losses * ROWS})
        return answer or Answer(None, SourceError("too many different questions at once: ask again"), 0.0)


def _problem(name: str, error: BaseException) -> str:
    if isinstance(error, (SourceError, LateError)):
        return str(error)
    _log.error("the status page cannot show its part %s", name, exc_info=error)
    return "failed; the exporter's log says how"
