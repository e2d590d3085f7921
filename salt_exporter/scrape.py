"""Runs the collectors: all or nothing each, in time, never twice at once. Only this file knows about their failures.

Each run has a daemon thread of its own, for a thread that hangs in the kernel cannot be ended and must not delay the
exporter's exit. Overlapping scrapes share a run. A run that nobody waits for any more is left behind: its answer is
thrown away, and its collector is not started again until it has returned.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from salt_exporter.collectors.exporter import COLLECTOR_DURATION, COLLECTOR_SUCCESS
from salt_exporter.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from salt_exporter.collectors import Collector
    from salt_exporter.metric import Metric, Sample

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one collector gave at one scrape; `samples` is None if it failed, then `problem` says how."""

    collector: str
    metrics: tuple[Metric, ...]
    samples: list[Sample] | None
    seconds: float
    problem: str = ""


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


@dataclass(slots=True)
class _Run:
    """One run of one collector, and how many scrapes wait for it."""

    started: float
    future: asyncio.Future[tuple[list[Sample], float]]  # the samples, and the seconds they took
    waiting: int = 0


@dataclass(slots=True)
class _Guarded:
    """A collector with its run under way, if any, and what was last logged about it."""

    collector: Collector
    run: _Run | None = None
    problem: str = field(default="")


class Scraper:
    """Runs collectors on behalf of scrapes; all methods belong to one event loop."""

    def __init__(self, collectors: Sequence[Collector]) -> None:
        self._guarded = [_Guarded(collector) for collector in collectors]

    async def scrape(self, timeout: float) -> Scrape:
        """Ask every collector and return within about `timeout` seconds."""
        deadline = time.monotonic() + timeout
        return Scrape(tuple(await asyncio.gather(*(self._ask(guarded, deadline) for guarded in self._guarded))))

    async def _ask(self, guarded: _Guarded, deadline: float) -> Outcome:
        run = guarded.run
        if run is None:
            run = guarded.run = self._start(guarded)
        elif not run.waiting:
            return self._failed(guarded, run, "has not returned from an earlier scrape")
        run.waiting += 1
        try:
            # Shielded: that this scrape gives up must not cancel what another one waits for.
            samples, seconds = await asyncio.wait_for(asyncio.shield(run.future), max(0.0, deadline - time.monotonic()))
        except (TimeoutError, asyncio.TimeoutError):
            return self._failed(guarded, run, "did not answer before the scrape's deadline")
        except SourceError as error:
            return self._failed(guarded, run, str(error))
        except Exception as error:  # noqa: BLE001 - whatever a collector does, the others are served
            return self._failed(guarded, run, f"failed with {type(error).__name__}: {error}", error)
        finally:
            run.waiting -= 1
        if guarded.problem:
            _log.info("collector %s works again", guarded.collector.name)
            guarded.problem = ""
        return Outcome(guarded.collector.name, guarded.collector.metrics, samples, seconds)

    def _failed(self, guarded: _Guarded, run: _Run, problem: str, error: BaseException | None = None) -> Outcome:
        """Log a problem when it is new, not at each scrape."""
        if problem != guarded.problem:
            guarded.problem = problem
            _log.warning("collector %s: %s", guarded.collector.name, problem, exc_info=error)
        return Outcome(guarded.collector.name, guarded.collector.metrics, None, time.monotonic() - run.started, problem)

    def _start(self, guarded: _Guarded) -> _Run:
        loop = asyncio.get_running_loop()
        run = _Run(time.monotonic(), loop.create_future())

        def finish(result: Any, error: BaseException | None) -> None:  # noqa: ANN401 - of the future, or nothing
            guarded.run = None
            if error is None:
                run.future.set_result(result)
            else:
                run.future.set_exception(error)
                run.future.exception()  # nobody may be waiting any more: then it is no error of the loop

        def collect() -> None:
            result, failure = None, None
            try:
                result = list(guarded.collector.collect()), time.monotonic() - run.started
            except BaseException as error:  # noqa: BLE001 - told to the scrapes that wait
                failure = error
            try:
                loop.call_soon_threadsafe(finish, result, failure)
            except RuntimeError:  # the exporter has ended meanwhile
                _log.debug("collector %s returned after the end", guarded.collector.name)

        threading.Thread(target=collect, name=f"collect-{guarded.collector.name}", daemon=True).start()
        return run
