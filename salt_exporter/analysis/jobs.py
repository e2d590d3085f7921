"""The jid ledger: which jobs are in flight, who was expected, who has returned, in what time, and who never has.

A job is due when all expected minions have returned (and a moment has passed: batches of Salt 3008 publish their next
chunk under the same jid), or when its deadline has passed. Who accepts it (`salt/job/<jid>/start/<id>`) and who answers
to `saltutil.find_job` that it still runs prolongs the deadline. `find_job` jobs themselves are Salt's own questions and
not counted as jobs. Its owner closes what is due, telling what the job cache holds and why the rest is missing.

In a master cluster every member sees the jobs and returns of all. A job is its publisher's, with all its returns, so
that jobs and returns of the members add up.

Outcomes: complete; incomplete; unknown, where nobody can tell (a master of masters names no minions, or the event bus
was not read for a while, returns may have passed unseen, and the job cache cannot tell either).
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, Final

from salt_exporter.analysis.causes import CAUSES, Cause
from salt_exporter.analysis.responses import Responses, State
from salt_exporter.metric import Distribution, Exemplar

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from salt_exporter.analysis.deadlines import Deadlines
    from salt_exporter.master.events import JobNew, JobReturn, JobStart

FIND_JOB: Final = "saltutil.find_job"
OTHER: Final = "other"
OUTCOMES: Final = ("complete", "incomplete", "unknown")
SETTLE: Final = 2.0  # seconds between the last expected return and closing
_KEPT_CLOSED: Final = 1000  # closed jobs remembered, to know late and duplicate returns
_KEPT_IDS: Final = 500_000  # and how many minion ids they may hold together
_KEPT_ELSEWHERE: Final = 10_000  # jobs of other masters of the cluster remembered, to know their returns
_MAX_IDS: Final = 5_000_000  # the same for jobs in flight
_LONGEST: Final = 86400.0  # seconds that a job is followed, whoever says that it still runs
_UNREAD: Final = 100_000  # openings and late returns remembered for an owner that does not ask
_RESPONSE_BOUNDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
_DELIVERY_BOUNDS: Final = (1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)
_RATIO_BOUNDS: Final = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)


@dataclass(slots=True)
class FunctionCounters:
    """What is counted for one function; see salt_exporter/collectors/jobs.py for what each means."""

    new: int = 0
    expected: int = 0
    responses: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    closed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    closed_expected: int = 0
    closed_received: int = 0
    late: int = 0
    duplicate: int = 0
    unexpected: int = 0
    missing: dict[Cause, int] = field(default_factory=lambda: dict.fromkeys(CAUSES, 0))
    exemplars: dict[Cause, Exemplar] = field(default_factory=dict)  # the newest loss of each cause
    completion: Distribution = field(default_factory=lambda: Distribution(_RATIO_BOUNDS))
    seconds: Distribution = field(default_factory=lambda: Distribution(_RESPONSE_BOUNDS))


@dataclass(slots=True)
class Job:
    """One published job. Times: `published` in Unix seconds by the master, the others monotonic."""

    jid: str
    function: str
    published: float | None = None
    opened: float = 0.0  # when its publication was seen
    deadline: float = 0.0
    expected: int = 0  # minions named when it was published; 0 means unknown
    responses: Responses = field(default_factory=Responses)
    unknown: set[str] = field(default_factory=set)  # named, without an accepted key
    started: dict[str, float] = field(default_factory=dict)  # outstanding ones that said so → when
    running: dict[str, float] = field(default_factory=dict)  # the same of their last answer that it still runs
    denied: dict[str, float] = field(default_factory=dict)  # and of their last answer that it does not
    settled: float | None = None  # when the last expected return came
    observed: bool = True  # the bus was read all the time
    trimmed: bool = False  # Salt has cut out who is expected; the job cache may know
    causes: Counter[Cause] = field(default_factory=Counter)  # of the missing, as they were when it was closed
    unverified: list[str] = field(default_factory=list)  # returned since that was last compared with the job cache

    def is_due(self, now: float) -> bool:
        """Tell whether it is to be closed."""
        return now >= self.deadline or (self.settled is not None and now - self.settled >= SETTLE)


class JobLedger:
    """Follows every job from its publication to its end. Not thread-safe: its owner locks."""

    def __init__(self, deadlines: Deadlines, max_functions: int, max_jobs: int) -> None:
        """`max_functions`: bound of the label; `max_jobs`: in flight at once."""
        self.functions: dict[str, FunctionCounters] = {}
        self.delivery = Distribution(_DELIVERY_BOUNDS)
        self.bus_only = 0  # returns seen on the bus that the job cache does not hold
        self.cache_only = 0  # and the other way round
        self.syndics: frozenset[str] = frozenset()  # ids that jobs name and that never return
        self.consecutive: dict[str, int] = {}  # minion → responses missing since its last return
        self.opened: deque[Job] = deque(maxlen=_UNREAD)  # jobs that named somebody, for the owner to take
        self.recovered: deque[tuple[str, str]] = deque(maxlen=_UNREAD)  # (jid, minion) of late returns, likewise
        self.given_up: deque[str] = deque(maxlen=_UNREAD)  # jids of jobs that were not followed to their end, likewise
        self._deadlines = deadlines
        self._max_functions = max_functions
        self._max_jobs = max_jobs
        self._open: OrderedDict[str, Job] = OrderedDict()
        self._closed: OrderedDict[str, Job] = OrderedDict()
        self._elsewhere: OrderedDict[str, None] = OrderedDict()  # jids of jobs that other masters of the cluster count
        self._open_ids = 0  # that they hold in memory
        self._closed_ids = 0
        self._shared: tuple[str, ...] = ()  # the ids that the newest job names: most jobs are for the same minions

    @property
    def in_flight(self) -> int:
        """Jobs that are not closed yet."""
        return len(self._open)

    @property
    def outstanding(self) -> int:
        """Responses that jobs in flight still wait for."""
        return sum(job.responses.outstanding for job in self._open.values())

    def published(self, event: JobNew, stamp: float | None, now: float) -> None:
        """Take a job that was published at `stamp` (Unix seconds); `now` is monotonic."""
        if event.function == FIND_JOB:
            return
        if event.relayed:
            self._elsewhere[event.jid] = None
            if len(self._elsewhere) > _KEPT_ELSEWHERE:
                self._elsewhere.popitem(last=False)
            return
        # The next chunk of a batch, or another syndic's part, has the same jid: one job, the union of minions.
        job = self._open.get(event.jid) or self._closed.get(event.jid) or self._open_job(event, stamp, now)
        job.trimmed |= event.trimmed
        job.unknown.update(event.missing)
        self._name(job, (*event.minions, *event.missing), stamp, now)

    def named(self, job: Job, minions: Iterable[str], now: float) -> None:
        """Take the expected minions of a job whose publication did not tell them."""
        if job.jid in self._open:
            job.trimmed = False
            early = 0 if job.expected else sum(map(job.responses.has, set(minions)))  # returned before that was told
            self._name(job, minions, job.published, now)
            job.expected += early
            self._counters(job.function).expected += early
            if not job.responses.outstanding:
                job.settled = now

    def restored(self, job: Job, minions: Iterable[str], now: float) -> None:
        """Follow a job of before the exporter's restart, whose returns may have passed unseen; `now` is monotonic.

        It has been counted as new, with whom it expects, then. One without a deadline gets a whole one from now.
        """
        if job.jid in self._open or job.jid in self._closed:
            return
        self._open[job.jid] = job
        job.responses.expect(set(minions), job.published)
        self._shared = job.responses.share(self._shared)
        job.expected, job.observed = job.responses.outstanding, False
        job.deadline = job.deadline or now + self._deadlines.of(job.function)
        self._open_ids += job.expected
        self._bound()

    def started(self, event: JobStart, now: float) -> None:
        """Take a minion's word that it has accepted a job; `now` is monotonic."""
        job = self._open.get(event.jid)
        if job is not None and job.responses.awaits(event.minion):
            job.started[event.minion] = now
            self._prolong(job, now)

    def returned(self, event: JobReturn, stamp: float | None, now: float) -> None:
        """Take a return that reached the master at `stamp` (Unix seconds); `now` is monotonic."""
        self._delivered(event, stamp)
        if event.function == FIND_JOB:
            self._answered(event, now)
            return
        self.consecutive.pop(event.minion, None)
        job = self._open.get(event.jid) or self._closed.get(event.jid)
        if job is None and (event.relayed or event.jid in self._elsewhere):
            return
        counters = self._counters(event.function)
        counters.responses[event.success] += 1
        if job is None:  # scheduled on the minion, salt-call, or published before we listened
            return
        before, published = job.responses.take(event.minion)
        if before is State.RETURNED:
            counters.duplicate += 1
            return
        job.unverified.append(event.minion)
        if before is State.OUTSTANDING:
            if not job.responses.outstanding:
                job.settled = now
        elif before is State.MISSED:
            counters.late += 1
            self.recovered.append((job.jid, event.minion))
        else:
            published = job.published
            self._count_id(job)
            if job.expected:
                counters.unexpected += 1
        if published is not None and stamp is not None:
            counters.seconds.observe(max(0.0, stamp - published))

    def gap(self) -> None:
        """Events may have been missed: what is in flight now can no longer be called incomplete."""
        for job in self._open.values():
            job.observed = False

    def due(self, now: float) -> list[Job]:
        """Return the jobs to close; `now` is monotonic."""
        return [job for job in self._open.values() if job.is_due(now)]

    def unnamed(self) -> list[Job]:
        """Return the jobs in flight whose expected minions only the job cache can tell."""
        return [job for job in self._open.values() if job.trimmed]

    def close(
        self, job: Job, now: float, wall: float, cached: Collection[str] | None, causes: Mapping[str, Cause]
    ) -> dict[str, Cause] | None:
        """Close a job and return who is missing, each with its cause; `now` is monotonic, `wall` Unix seconds.

        `cached` are those whose returns the job cache holds, None if it cannot be asked; `causes` those of the minions
        that were outstanding when it was asked. Whoever has returned since is not missing, and a job that has become
        longer since stays open: None.
        """
        if self._open.get(job.jid) is not job or not job.is_due(now):
            return None
        counters = self._counters(job.function)
        for minion in set(job.responses.awaited()).intersection(cached or ()):
            job.responses.take(minion)
            self.cache_only += 1
        missing = {minion: causes.get(minion, Cause.UNKNOWN) for minion in job.responses.awaited()}
        for minion, cause in missing.items():
            counters.missing[cause] += 1
            counters.exemplars[cause] = Exemplar({"jid": job.jid, "minion": minion}, 1.0, wall)
            if cause not in (Cause.EXPORTER_GAP, Cause.UNKNOWN_MINION):
                self.consecutive[minion] = self.consecutive.get(minion, 0) + 1
        job.causes.update(missing.values())
        self._close(job, decided=job.observed or cached is not None)
        return missing

    def newest(self, number: int) -> list[Job]:
        """Return the newest jobs, in flight or closed; the newest first."""
        return list(islice(chain(reversed(self._open.values()), reversed(self._closed.values())), number))

    def keep_only(self, minions: Collection[str]) -> None:
        """Forget the misses of everybody whose key is not accepted (any longer)."""
        for minion in self.consecutive.keys() - minions:
            del self.consecutive[minion]

    def _open_job(self, event: JobNew, stamp: float | None, now: float) -> Job:
        job = self._open[event.jid] = Job(event.jid, event.function, stamp, opened=now)
        self._counters(event.function).new += 1
        return job

    def _name(self, job: Job, minions: Iterable[str], stamp: float | None, now: float) -> None:
        """Expect these minions from now on, those that are known already left out."""
        named = job.responses.unknown(minions) - self.syndics
        if job.jid in self._closed:
            if not named:
                return
            self._reopen(job, now)
        job.expected += len(named)
        job.deadline = max(job.deadline, now + self._deadlines.of(job.function))
        if named:
            job.responses.expect(named, stamp)
            self._shared = job.responses.share(self._shared)
            job.settled = None
            self.opened.append(job)
        self._open_ids += len(named)
        self._counters(job.function).expected += len(named)
        self._bound()

    def _bound(self) -> None:
        while len(self._open) > self._max_jobs or (self._open_ids > _MAX_IDS and len(self._open) > 1):
            self._give_up_oldest()

    def _reopen(self, job: Job, now: float) -> None:
        """Go on with a job that was closed too early: what it was stays counted; what it names now counts anew."""
        self._closed_ids -= len(job.responses)
        del self._closed[job.jid]
        self._open_ids += len(job.responses)
        self._open[job.jid] = job
        job.expected, job.opened, job.deadline, job.observed = 0, now, 0.0, True

    def _count_id(self, job: Job) -> None:
        if job.jid in self._open:
            self._open_ids += 1
        else:
            self._closed_ids += 1

    def _delivered(self, event: JobReturn, stamp: float | None) -> None:
        """Note how long a return was on its way to this very master."""
        if stamp is not None and event.sent is not None and not event.relayed:
            self.delivery.observe(max(0.0, stamp - event.sent))

    def _answered(self, answer: JobReturn, now: float) -> None:
        """Take the answer to a `find_job`."""
        job = self._open.get(answer.asks_for)
        if job is None or not job.responses.awaits(answer.minion):
            return
        if answer.empty:
            job.denied[answer.minion] = now
        else:
            job.running[answer.minion] = now
            self._prolong(job, now)

    def _prolong(self, job: Job, now: float) -> None:
        deadline = min(now + self._deadlines.of(job.function), job.opened + _LONGEST)
        job.deadline = max(job.deadline, deadline)

    def _close(self, job: Job, *, decided: bool) -> None:
        """Book how a job ended; `decided` tells whether a return that is missing is known to be."""
        del self._open[job.jid]
        self._open_ids -= len(job.responses)
        counters = self._counters(job.function)
        outstanding = job.responses.outstanding
        received = job.expected - outstanding
        if not job.expected or (outstanding and not decided):
            counters.closed["unknown"] += 1
        else:
            counters.closed["incomplete" if outstanding else "complete"] += 1
            counters.closed_expected += job.expected
            counters.closed_received += received
            counters.completion.observe(received / job.expected)
        job.responses.give_up()
        for spent in (job.started, job.running, job.denied, job.unknown, job.unverified):
            spent.clear()
        self._closed[job.jid] = job
        self._closed_ids += len(job.responses)
        while len(self._closed) > _KEPT_CLOSED or self._closed_ids > _KEPT_IDS:
            self._closed_ids -= len(self._closed.popitem(last=False)[1].responses)

    def _give_up_oldest(self) -> None:
        """Bound the memory: the oldest job ends as unknown, for nobody will look any longer."""
        job = next(iter(self._open.values()))
        self._close(job, decided=False)
        self.given_up.append(job.jid)

    def _counters(self, function: str) -> FunctionCounters:
        """Return the counters of a function: its own for the first `max_functions`, then those of "other"."""
        counters = self.functions.get(function)
        if counters is None:
            if len(self.functions) >= self._max_functions:
                function = OTHER
            counters = self.functions.setdefault(function, FunctionCounters())
        return counters
