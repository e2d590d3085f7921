"""Runs the collectors: all or nothing each, in time, never twice at once. Only this file knows about their failures.

Each run has a daemon thread of its own, for a thread that hangs in the kernel cannot be ended and must not delay the
exporter's exit. Overlapping scrapes share a run. A run that nobody waits for any more is left behind: its answer is
thrown away, and its collector is not started again until it has returned.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from salt_exporter.collectors.exporter import COLLECTOR_DURATION, COLLECTOR_SUCCESS
from salt_exporter.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from salt_exporter.collectors import Collector
    from salt_exporter.metric import Metric, Sample

_T = TypeVar("_T")

_log = logging.getLogger(__name__)


class LateError(Exception):
    """There was no answer in time."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[_T]):
    """What a call gave, a value or an error, and how many seconds it took (so far, if it is late)."""

    value: _T | None
    error: BaseException | None
    seconds: float


@dataclass(slots=True)
class _Run(Generic[_T]):
    """One call under way, and how many wait for it."""

    started: float
    future: asyncio.Future[Answer[_T]]
    waiting: int = 0

    def late(self) -> Answer[_T]:
        return Answer(None, LateError("did not answer in time"), time.monotonic() - self.started)


class SingleFlight(Generic[_T]):
    """Calls a function that may raise or hang, in a daemon thread and never twice at once.

    Whoever asks while a call is under way shares it. All methods belong to one event loop.
    """

    def __init__(self, name: str, function: Callable[[], _T]) -> None:
        self._name = name
        self._function = function
        self._run: _Run[_T] | None = None

    async def ask(self, timeout: float) -> Answer[_T]:
        """Return the answer, within about `timeout` seconds."""
        run = self._run
        if run is None:
            run = self._start()
        elif not run.waiting:  # those who asked for it have given up
            return run.late()
        run.waiting += 1
        try:
            # Shielded: that one gives up must not cancel what another one waits for.
            return await asyncio.wait_for(asyncio.shield(run.future), timeout)
        except (TimeoutError, asyncio.TimeoutError):
            return run.late()
        finally:
            run.waiting -= 1

    def _start(self) -> _Run[_T]:
        loop = asyncio.get_running_loop()
        run = self._run = _Run(time.monotonic(), loop.create_future())

        def finish(answer: Answer[_T]) -> None:
            self._run = None
            run.future.set_result(answer)

        def call() -> None:
            value, error = None, None
            try:
                value = self._function()
            except BaseException as failure:  # noqa: BLE001 - told to those who wait
                error = failure
            with contextlib.suppress(RuntimeError):  # the exporter has ended meanwhile
                loop.call_soon_threadsafe(finish, Answer(value, error, time.monotonic() - run.started))

        try:
            threading.Thread(target=call, name=self._name, daemon=True).start()
        except RuntimeError as error:  # the system has no thread left for us
            finish(Answer(None, error, 0.0))
        return run


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one collector gave at one scrape; `samples` is None if it failed, then `problem` says how."""

    collector: str
    metrics: tuple[Metric, ...]
    samples: list[Sample] | None
    seconds: float
    problem: str = ""
    bug: BaseException | None = None  # what it failed with, unless the problem says it all


@dataclass(frozen=True, slots=True)
class Scrape:
    """What all collectors gave."""

    outcomes: tuple[Outcome, ...]

    def metrics(self) -> list[Metric]:
        """Return the declarations of the families to expose."""
        return [metric for outcome in self.outcomes if outcome.samples is not None for metric in outcome.metrics] + [
            metric
            for metric in (COLLECTOR_SUCCESS, COLLECTOR_DURATION)
            if not any(metric in outcome.metrics and outcome.samples is not None for outcome in self.outcomes)
        ]

    def samples(self) -> list[Sample]:
        """Return all samples, with success and duration of every collector."""
        found = [sample for outcome in self.outcomes for sample in outcome.samples or ()]
        for outcome in self.outcomes:
            found.append(COLLECTOR_SUCCESS(outcome.samples is not None, collector=outcome.collector))
            found.append(COLLECTOR_DURATION(outcome.seconds, collector=outcome.collector))
        return found


class Scraper:
    """Runs collectors on behalf of scrapes; all methods belong to one event loop."""

    def __init__(self, collectors: Sequence[Collector]) -> None:
        self._flights = [
            (collector, SingleFlight(f"collect-{collector.name}", partial(_collect, collector)))
            for collector in collectors
        ]
        self._problems: dict[str, str] = {}  # what was last said about each, "" if it works

    async def scrape(self, timeout: float) -> Scrape:
        """Ask every collector and return within about `timeout` seconds."""
        answers = await asyncio.gather(*(flight.ask(timeout) for _collector, flight in self._flights))
        outcomes = [
            _outcome(collector, answer) for (collector, _flight), answer in zip(self._flights, answers, strict=True)
        ]
        self._log_changes(outcomes)
        return Scrape(tuple(outcomes))

    def _log_changes(self, outcomes: Sequence[Outcome]) -> None:
        """Log a problem when it is new, not at each scrape, and once for all collectors that have it."""
        new: dict[str, list[Outcome]] = {}
        for outcome in outcomes:
            before = self._problems.get(outcome.collector, "")
            self._problems[outcome.collector] = outcome.problem
            if outcome.problem and outcome.problem != before:
                new.setdefault(outcome.problem, []).append(outcome)
            elif before and not outcome.problem:
                _log.info("collector %s works again", outcome.collector)
        for problem, failed in new.items():
            names = ", ".join(outcome.collector for outcome in failed)
            _log.warning("collector %s: %s", names, problem, exc_info=failed[0].bug)


def _collect(collector: Collector) -> list[Sample]:
    samples = list(collector.collect())
    declared = {metric.name for metric in collector.metrics}
    for sample in samples:
        if sample.metric.name not in declared:
            raise ValueError(f"{sample.metric.name} is none of its metrics")
    return samples


def _outcome(collector: Collector, answer: Answer[list[Sample]]) -> Outcome:
    error = answer.error
    if error is None:
        return Outcome(collector.name, collector.metrics, answer.value, answer.seconds)
    expected = isinstance(error, (SourceError, LateError))
    problem = str(error) if expected else f"failed with {type(error).__name__}: {error}"
    return Outcome(collector.name, collector.metrics, None, answer.seconds, problem, None if expected else error)
