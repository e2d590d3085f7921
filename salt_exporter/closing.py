"""Closes jobs: asks the job cache, finds a cause for every missing response, and has it written down.

What comes late, or stands on only one of event bus and job cache, is told apart here as well.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass
from functools import cache as once
from typing import TYPE_CHECKING, Final, TypeVar

from salt_exporter.analysis.attribution import Attribution, Facts, attribute
from salt_exporter.analysis.causes import Cause
from salt_exporter.analysis.jobs import Job
from salt_exporter.errors import SourceError
from salt_exporter.journal import InFlight, Loss
from salt_exporter.master.jobcache import JobCache, NotKept

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from salt_exporter.analysis.activity import Activity
    from salt_exporter.analysis.evidence import Scene
    from salt_exporter.journal import Journal
    from salt_exporter.master.settings import MasterSettings

# The master fires a return first and stores it then (salt/utils/job.py, store_job); its disk may be slow.
_SECOND_LOOK: Final = 10.0  # seconds
_SECOND_LOOKS: Final = 10_000  # jobs that wait for one
_BURST, _BURST_SECONDS = 100, 60.0  # losses logged at most in so many seconds
# Seconds of one tick in which jobs are closed; of thousands of missing minions one takes a second. What is left is due
# at the next tick, and whoever calls has other things to do in between.
_AT_A_TIME: Final = 1.0

_T = TypeVar("_T")

_log = logging.getLogger(__name__)
_UNEXPLAINED: Final = Attribution(Cause.UNKNOWN, "the exporter could not look at keys, addresses and connections")
_GAP: Final = Attribution(
    Cause.EXPORTER_GAP, "the event bus was not read all the time, and neither job cache nor connections can tell"
)


@dataclass(frozen=True, slots=True)
class _Due:
    """A job to close, as it stands when that is asked."""

    job: Job
    outstanding: frozenset[str]
    unverified: frozenset[str]  # returned on the bus; the job cache should hold them


class Closer:
    """Called about once a second, by one thread."""

    def __init__(
        self,
        activity: Activity,
        settings: Callable[[], MasterSettings],
        scene: Callable[[float, float], Scene],
        journal: Journal | None,
    ) -> None:
        """Take `scene`, which gives all that is known at a moment (monotonic, Unix seconds) or raises SourceError."""
        self.cache_problem = ""  # why the job cache cannot be asked, "" if it can
        self._activity = activity
        self._settings = settings
        self._scene = scene
        self._journal = journal
        self._absent: dict[str, frozenset[str]] = {}  # jid → who was not connected, of jobs of before a restart
        self._second_looks: deque[tuple[float, str, frozenset[str]]] = deque(maxlen=_SECOND_LOOKS)
        self._limit = _LogLimit()

    def restore(self, now: float, wall: float) -> None:
        """Go on with the jobs that were in flight when the exporter ended."""
        if self._journal is None:
            return
        try:
            jobs = self._journal.in_flight()
            self._activity.remember(self._journal.last_seen())
        except SourceError as error:
            _log.warning("jobs of before the restart are not followed: %s", error)
            return
        alive_until = self._journal.alive_until or 0.0
        with self._activity.lock:
            for known in jobs:
                age = max(0.0, wall - known.published) if known.published is not None else 0.0
                job = Job(known.jid, known.function, known.published, opened=now - age)
                # What was past its deadline, and still followed, had been prolonged: nobody knows until when.
                if known.deadline > alive_until:
                    job.deadline = now + max(0.0, known.deadline - wall)
                self._absent[known.jid] = known.absent
                self._activity.jobs.restored(job, known.expected, now)
        if jobs:
            _log.info("following %d jobs that were in flight before the restart", len(jobs))

    def tick(self, now: float, wall: float, absent: Collection[str]) -> None:
        """Close what is due; `absent` are the minions that are not connected, as far as that is known."""
        cache = self._cache()
        with self._activity.lock:
            ledger = self._activity.jobs
            for jid in _drain(ledger.given_up):
                self._forget(jid)
            opened = {job.jid: job for job in _drain(ledger.opened) if job.responses.outstanding}
            for job in opened.values():
                self._note(job, now, wall, absent)
            for jid, minion in _drain(ledger.recovered):
                self._tell_recovered(jid, minion, wall)
            trimmed = ledger.unnamed()
            due = ledger.due(now)
        for job in trimmed:
            self._name(job, cache, now)
        if due:
            self._close(due, cache, now, wall)
        self._look_again(cache, now)
        self._limit.tell(wall)

    # --- jobs that open ---

    def _note(self, job: Job, now: float, wall: float, absent: Collection[str]) -> None:
        if self._journal is not None:
            expected = tuple(job.responses.awaited())
            away = frozenset(absent).intersection(expected)
            deadline = wall + job.deadline - now
            self._journal.opened(InFlight(job.jid, job.function, job.published, deadline, expected, away))

    def _name(self, job: Job, cache: JobCache | None, now: float) -> None:
        """Read who is expected where the event was too large to tell.

        The master fires the event first and stores the list then (salt/master.py, `_prep_pub`): what is not there yet
        may be at the next tick.
        """
        try:
            minions = cache.expected(job.jid) if cache else frozenset()
        except SourceError as error:
            _log.debug("who is expected to answer %s is not known: %s", job.jid, error)
            return
        if minions:
            with self._activity.lock:
                self._activity.jobs.named(job, minions, now)

    # --- jobs that end ---

    def _close(self, due: Iterable[Job], cache: JobCache | None, now: float, wall: float) -> None:
        look = once(lambda: self._look(now, wall))  # at most once, and only if somebody is missing
        until = time.monotonic() + _AT_A_TIME
        for job in due:
            with self._activity.lock:
                one = _Due(job, frozenset(job.responses.awaited()), frozenset(job.unverified))
            try:
                self._close_one(one, cache, now, wall, look)
            except Exception:  # noqa: BLE001 - whatever it is, the others are to be closed, and this one not for ever
                _log.exception("cannot tell why responses to job %s are missing", job.jid)
                with self._activity.lock:
                    self._activity.jobs.close(job, now, wall, None, {})
                self._forget(job.jid)
            if time.monotonic() > until:
                break

    def _close_one(
        self, one: _Due, cache: JobCache | None, now: float, wall: float, look: Callable[[], Scene | None]
    ) -> None:
        cached = self._returned(cache, one.job.jid)
        missing = one.outstanding - (cached or frozenset())
        scene = look() if missing else None
        found = {minion: self._explain(scene, one.job, minion, cached) for minion in missing}
        with self._activity.lock:
            lost = self._activity.jobs.close(
                one.job, now, wall, cached, {minion: item.cause for minion, item in found.items()}
            )
        if lost is None:
            return
        self._report(one.job, {minion: found[minion] for minion in lost}, wall)
        self._forget(one.job.jid)
        if cached is not None and (absent_there := one.unverified - cached):
            self._second_looks.append((now + _SECOND_LOOK, one.job.jid, absent_there))

    def _forget(self, jid: str) -> None:
        self._absent.pop(jid, None)
        if self._journal is not None:
            self._journal.closed(jid)

    def _look(self, now: float, wall: float) -> Scene | None:
        try:
            return self._scene(now, wall)
        except SourceError as error:
            _log.debug("responses are missing, and why cannot be told: %s", error)
            return None

    def _explain(self, scene: Scene | None, job: Job, minion: str, cached: Collection[str] | None) -> Attribution:
        if minion in job.unknown:
            return attribute(Facts(accepted=False))
        if scene is None:
            return _GAP if not job.observed and cached is None else _UNEXPLAINED
        absent = self._absent.get(job.jid, frozenset())
        return attribute(scene.facts(job, minion, absent, checked=cached is not None))

    def _report(self, job: Job, lost: dict[str, Attribution], wall: float) -> None:
        if not lost:
            return
        if self._journal is not None:
            self._journal.record(
                Loss(job.jid, minion, job.function, item.cause.value, item.evidence, job.published, wall)
                for minion, item in lost.items()
            )
        for minion, item in lost.items():
            if self._limit.allows(wall):
                fields = {"jid": job.jid, "minion": minion, "function": job.function, "cause": item.cause.value}
                _log.warning("a response is missing: %s", item.evidence, extra={"fields": fields})

    def _tell_recovered(self, jid: str, minion: str, wall: float) -> None:
        if self._journal is not None:
            self._journal.recovered(jid, minion, wall)

    # --- the job cache ---

    def _cache(self) -> JobCache | None:
        """Return the job cache, None if it cannot be asked; why is logged when it changes."""
        try:
            cache = JobCache.of(self._settings())
            cache.check()
        except SourceError as error:
            if str(error) != self.cache_problem:
                _log.warning("returns are not compared with the job cache: %s", error)
            self.cache_problem = str(error)
            return None
        self.cache_problem = ""
        return cache

    def _returned(self, cache: JobCache | None, jid: str) -> frozenset[str] | None:
        try:
            return cache.returned(jid) if cache else None
        except NotKept:
            return None
        except SourceError as error:
            _log.warning("the returns of job %s are not compared with the job cache: %s", jid, error)
            return None

    def _look_again(self, cache: JobCache | None, now: float) -> None:
        """Count what the job cache still lacks when a slow disk cannot be the reason any more."""
        while self._second_looks and self._second_looks[0][0] <= now:
            _, jid, returned = self._second_looks.popleft()
            cached = self._returned(cache, jid)
            if cached is not None:
                with self._activity.lock:
                    self._activity.jobs.bus_only += len(returned - cached)


class _LogLimit:
    """Lets so many losses into the log, and says how many it kept back."""

    def __init__(self) -> None:
        self._until = 0.0
        self._logged = 0
        self._kept_back = 0

    def allows(self, wall: float) -> bool:
        """Tell whether one more may be logged now (Unix seconds)."""
        self.tell(wall)
        if not self._logged:
            self._until = wall + _BURST_SECONDS
        if self._logged < _BURST:
            self._logged += 1
            return True
        self._kept_back += 1
        return False

    def tell(self, wall: float) -> None:
        """Say how many were kept back, once their time is over (a clock that was set back ends it, too)."""
        if self._until - _BURST_SECONDS <= wall < self._until:
            return
        if self._kept_back:
            _log.warning("%d more missing responses were not logged, see `salt-exporter losses`", self._kept_back)
        self._logged = self._kept_back = 0


def _drain(items: deque[_T]) -> Iterable[_T]:
    while items:
        yield items.popleft()
