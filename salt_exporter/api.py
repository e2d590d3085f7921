"""`/api/v1/…`: what the commands print as JSON, asked of the running daemon.

An endpoint is a function that returns a plain value, and its parameters, each with what reads it. It is run in a
thread, has a deadline, may hang, and is asked the same question by several clients at the price of one. To add one
takes one line in `endpoints`.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from salt_exporter.analysis.causes import CAUSES
from salt_exporter.analysis.presence import STATES
from salt_exporter.commands import check, minions
from salt_exporter.config import duration
from salt_exporter.errors import SourceError
from salt_exporter.exposition import compress
from salt_exporter.journal import plain
from salt_exporter.scrape import LateError, SingleFlight
from salt_exporter.web import Handler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from salt_exporter.analysis.jobs import Job
    from salt_exporter.scrape import Answer, Scrape
    from salt_exporter.world import World

DEADLINE: Final = 10.0  # seconds
_AT_ONCE: Final = 4  # different questions to one endpoint under way; each is a thread
_MOST: Final = 100_000  # rows of an answer
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`function` takes the parameters that were given by keyword; each parser raises ValueError for nonsense."""

    function: Callable[..., Any]
    parameters: Mapping[str, Callable[[str], Any]] = field(default_factory=dict)


def endpoints(world: World, scrape: Callable[[], Scrape]) -> dict[str, Endpoint]:
    """Return the endpoints by name; `scrape` asks all collectors, from any thread."""
    return {
        "minions": Endpoint(partial(_minions, world), {"state": one_of(*STATES), "limit": count}),
        "losses": Endpoint(
            partial(_losses, world),
            {"since": duration, "minion": str, "jid": str, "cause": one_of(*CAUSES), "limit": count},
        ),
        "jobs": Endpoint(partial(_jobs, world), {"limit": count}),
        "path": Endpoint(lambda: asdict(check.look(world, scrape()))),
    }


def _minions(world: World, state: str = "", limit: int = 1000) -> dict[str, Any]:
    presence = world.presence()
    chosen = presence.minions(*((state,) if state else STATES))
    return {
        "counts": presence.counts(),
        "minions": minions.plain(presence, chosen[:limit], time.time()),
        "omitted": max(0, len(chosen) - limit),
    }


def _losses(world: World, since: float | None = None, limit: int = 1000, **wanted: str) -> dict[str, Any]:
    """Return the newest missing responses of the journal; `since` in seconds ago."""
    if world.journal is None:
        raise SourceError("this exporter keeps no loss journal")
    after = None if since is None else time.time() - since
    counts = world.journal.counts(since=after, **wanted)
    found = world.journal.losses(since=after, limit=limit, **wanted)
    return {
        "counts": counts,
        "losses": [plain(loss) for loss in found],
        "omitted": max(0, sum(counts.values()) - len(found)),
    }


def _jobs(world: World, limit: int = 1000) -> dict[str, Any]:
    """Return the newest jobs that the exporter remembers, those in flight first."""
    activity = world.activity
    with activity.lock:
        return {"in_flight": activity.jobs.in_flight, "jobs": [_job(job) for job in activity.jobs.newest(limit)]}


def _job(job: Job) -> dict[str, Any]:
    return {
        "jid": job.jid,
        "function": job.function,
        "published": job.published,
        "expected": job.expected or None,
        "outstanding": job.responses.outstanding,
        "missing": job.responses.missed,
        "returned": job.responses.returned,
        "causes": {cause.value: number for cause, number in job.causes.items()},
    }


def one_of(*allowed: str) -> Callable[[str], str]:
    """Return a parser of a parameter that has a few values."""

    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"expected one of {', '.join(allowed)}")
        return text

    return parse


def count(text: str) -> int:
    """Read how many rows are wanted."""
    if not text.isascii() or not text.isdigit() or len(text) > 6 or not 1 <= int(text) <= _MOST:
        raise ValueError(f"expected a whole number from 1 to {_MOST}")
    return int(text)


def routes(served: Mapping[str, Endpoint]) -> list[tuple[str, type[Handler], dict[str, Any]]]:
    """Return the routes of the endpoints, for `web.application`."""
    return [
        (f"/api/v1/{name}", _Api, {"endpoint": endpoint, "questions": Questions(f"api-{name}", _in_json(endpoint))})
        for name, endpoint in served.items()
    ]


class Questions(Generic[_T]):
    """What one function is being asked, each question in a thread; all methods belong to one event loop."""

    def __init__(self, name: str, function: Callable[..., _T]) -> None:
        self._name = name
        self._function = function
        self._under_way: dict[tuple[tuple[str, Any], ...], SingleFlight[_T]] = {}

    async def ask(self, given: Mapping[str, Any]) -> Answer[_T] | None:
        """Return the answer, within the deadline; None if too many other questions are under way."""
        key = tuple(sorted(given.items()))
        flight = self._under_way.get(key)
        if flight is None:
            if len(self._under_way) >= _AT_ONCE:
                return None
            flight = self._under_way[key] = SingleFlight(self._name, partial(self._answer, key))
        return await flight.ask(DEADLINE)

    def _answer(self, key: tuple[tuple[str, Any], ...]) -> _T:
        try:
            return self._function(**dict(key))
        finally:  # not where it is waited for: those may have given up
            self._under_way.pop(key, None)


def _in_json(endpoint: Endpoint) -> Callable[..., bytes]:
    """Return the endpoint's function with its answers written down, which takes its time too."""
    return lambda **given: _json(endpoint.function(**given))


def _json(value: object) -> bytes:
    return json.dumps(value, allow_nan=False).encode()


class _Api(Handler):
    def initialize(self, endpoint: Endpoint, questions: Questions[bytes]) -> None:
        self._endpoint = endpoint
        self._questions = questions

    async def get(self) -> None:
        try:
            given = self._given()
        except ValueError as error:
            self._refuse(400, str(error))
            return
        answer = await self._questions.ask(given)
        if answer is None:
            self._refuse(503, "too many questions at once")
        elif isinstance(answer.error, (SourceError, LateError)):
            self._refuse(503, str(answer.error))
        elif answer.error is not None:
            raise answer.error
        else:
            body, squeezed = answer.value or b"", self.takes_gzip
            if squeezed:
                body = await asyncio.to_thread(compress, body)
            self.set_header("Vary", "Accept-Encoding")
            await self.send(body, "application/json", squeezed=squeezed)

    def _given(self) -> dict[str, Any]:
        """Return the parameters of the request. Raises ValueError that names the one that makes no sense."""
        known = self._endpoint.parameters
        given = {}
        for name, values in self.request.query_arguments.items():
            if name not in known:
                raise ValueError(f"there is no parameter {name!r}; there are: {', '.join(known) or 'none'}")
            if len(values) != 1:
                raise ValueError(f"{name} is given more than once")
            try:
                given[name] = known[name](values[0].decode())
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        return given

    def _refuse(self, status: int, why: str) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.write(_json({"error": why}))
