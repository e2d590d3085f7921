"""The jid ledger: which jobs are in flight, who was expected, who has returned, in what time.

A job is closed when all expected minions have returned (and a moment has passed: batches of Salt 3008 publish their
next chunk under the same jid), or when its deadline has passed. An answer to `saltutil.find_job` that says "still
running" prolongs the deadline. `find_job` jobs themselves are Salt's own questions and not counted as jobs.

Outcomes: complete; incomplete; unknown, where nobody can tell (a master of masters names no minions, or the event bus
was not read for a while and returns may have passed unseen).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from salt_exporter.metric import Distribution

if TYPE_CHECKING:
    from collections.abc import Iterable

    from salt_exporter.master.events import JobNew, JobReturn

FIND_JOB: Final = "saltutil.find_job"
OTHER: Final = "other"
OUTCOMES: Final = ("complete", "incomplete", "unknown")
SETTLE: Final = 2.0  # seconds between the last expected return and closing
_KEPT_CLOSED: Final = 1000  # closed jobs remembered, to know late and duplicate returns
_KEPT_IDS: Final = 500_000  # and how many minion ids they may hold together
_MAX_IDS: Final = 5_000_000  # the same for jobs in flight
_RESPONSE_BOUNDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
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
    completion: Distribution = field(default_factory=lambda: Distribution(_RATIO_BOUNDS))
    seconds: Distribution = field(default_factory=lambda: Distribution(_RESPONSE_BOUNDS))


@dataclass(slots=True)
class Job:
    """One published job. Times: `published` in Unix seconds by the master, the others monotonic."""

    jid: str
    function: str
    published: float | None = None
    deadline: float = 0.0
    expected: int = 0  # minions named when it was published; 0 means unknown
    outstanding: dict[str, float | None] = field(default_factory=dict)  # those that have not returned → when named
    missed: dict[str, float | None] = field(default_factory=dict)  # the same, of those the job was closed without
    returned: set[str] = field(default_factory=set)  # whoever has
    settled: float | None = None  # when the last expected return came
    observed: bool = True  # the bus was read all the time

    @property
    def ids(self) -> int:
        """How many minion ids the job holds in memory."""
        return len(self.outstanding) + len(self.missed) + len(self.returned)

    def unnamed(self, minions: Iterable[str]) -> set[str]:
        """Return those of `minions` that the job does not know yet."""
        return set(minions) - self.outstanding.keys() - self.missed.keys() - self.returned

    @property
    def outcome(self) -> str:
        """How it ended, asked when it is closed."""
        if self.expected and not self.outstanding:
            return "complete"
        return "incomplete" if self.expected and self.observed else "unknown"


class JobLedger:
    """Follows every job from its publication to its end. Not thread-safe: its owner locks."""

    def __init__(self, deadline: float, max_functions: int, max_jobs: int) -> None:
        """`deadline`: seconds a job may take; `max_functions`: bound of the label; `max_jobs`: in flight at once."""
        self.functions: dict[str, FunctionCounters] = {}
        self._deadline = deadline
        self._max_functions = max_functions
        self._max_jobs = max_jobs
        self._open: OrderedDict[str, Job] = OrderedDict()
        self._closed: OrderedDict[str, Job] = OrderedDict()
        self._open_ids = 0  # see Job.ids
        self._closed_ids = 0

    @property
    def in_flight(self) -> int:
        """Jobs that are not closed yet."""
        return len(self._open)

    @property
    def outstanding(self) -> int:
        """Responses that jobs in flight still wait for."""
        return sum(len(job.outstanding) for job in self._open.values())

    def published(self, event: JobNew, stamp: float | None, now: float) -> None:
        """Take a job that was published at `stamp` (Unix seconds); `now` is monotonic."""
        if event.function == FIND_JOB:
            return
        # The next chunk of a batch, or another syndic's part, has the same jid: one job, the union of minions.
        job = self._open.get(event.jid) or self._closed.get(event.jid) or self._open_job(event, stamp)
        named = job.unnamed(event.minions)
        if job.jid in self._closed:
            if not named:
                return
            self._reopen(job)
        job.outstanding |= dict.fromkeys(named, stamp)
        job.expected += len(named)
        job.deadline = max(job.deadline, now + self._deadline)
        if named:
            job.settled = None
        self._open_ids += len(named)
        self._counters(job.function).expected += len(named)
        while len(self._open) > self._max_jobs or (self._open_ids > _MAX_IDS and len(self._open) > 1):
            self._give_up_oldest()

    def returned(self, event: JobReturn, stamp: float | None, now: float) -> None:
        """Take a return that reached the master at `stamp` (Unix seconds); `now` is monotonic."""
        if event.function == FIND_JOB:
            self._prolong(event, now)
            return
        counters = self._counters(event.function)
        counters.responses[event.success] += 1
        job = self._open.get(event.jid) or self._closed.get(event.jid)
        if job is None:  # scheduled on the minion, salt-call, or published before we listened
            return
        if event.minion in job.returned:
            counters.duplicate += 1
            return
        job.returned.add(event.minion)
        published = job.published
        if event.minion in job.outstanding:
            published = job.outstanding.pop(event.minion)
            if not job.outstanding:
                job.settled = now
        elif event.minion in job.missed:
            published = job.missed.pop(event.minion)
            counters.late += 1
        else:
            self._count_id(job)
            if job.expected:
                counters.unexpected += 1
        if published is not None and stamp is not None:
            counters.seconds.observe(max(0.0, stamp - published))

    def gap(self) -> None:
        """Events may have been missed: what is in flight now can no longer be called incomplete."""
        for job in self._open.values():
            job.observed = False

    def tick(self, now: float) -> None:
        """Close what is complete or past its deadline; `now` is monotonic."""
        for job in list(self._open.values()):
            if (job.settled is not None and now - job.settled >= SETTLE) or now >= job.deadline:
                self._close(job)

    def _open_job(self, event: JobNew, stamp: float | None) -> Job:
        job = self._open[event.jid] = Job(event.jid, event.function, stamp)
        self._counters(event.function).new += 1
        return job

    def _reopen(self, job: Job) -> None:
        """Go on with a job that was closed too early: what it was stays counted; what it names now counts anew."""
        self._closed_ids -= job.ids
        del self._closed[job.jid]
        self._open_ids += job.ids
        self._open[job.jid] = job
        job.expected, job.deadline, job.observed = 0, 0.0, True

    def _count_id(self, job: Job) -> None:
        if job.jid in self._open:
            self._open_ids += 1
        else:
            self._closed_ids += 1

    def _prolong(self, answer: JobReturn, now: float) -> None:
        job = self._open.get(answer.asks_for)
        if job is not None and not answer.empty and answer.minion in job.outstanding:
            job.deadline = max(job.deadline, now + self._deadline)

    def _close(self, job: Job) -> None:
        del self._open[job.jid]
        self._open_ids -= job.ids
        counters = self._counters(job.function)
        counters.closed[job.outcome] += 1
        if job.outcome != "unknown":
            received = job.expected - len(job.outstanding)
            counters.closed_expected += job.expected
            counters.closed_received += received
            counters.completion.observe(received / job.expected)
        job.missed |= job.outstanding
        job.outstanding.clear()
        self._closed[job.jid] = job
        self._closed_ids += job.ids
        while len(self._closed) > _KEPT_CLOSED or self._closed_ids > _KEPT_IDS:
            self._closed_ids -= self._closed.popitem(last=False)[1].ids

    def _give_up_oldest(self) -> None:
        """Bound the memory: the oldest job ends as unknown, for nobody will look any longer."""
        job = next(iter(self._open.values()))
        job.observed = False
        self._close(job)

    def _counters(self, function: str) -> FunctionCounters:
        """Return the counters of a function: its own for the first `max_functions`, then those of "other"."""
        counters = self.functions.get(function)
        if counters is None:
            if len(self.functions) >= self._max_functions:
                function = OTHER
            counters = self.functions.setdefault(function, FunctionCounters())
        return counters
