"""What the journal is told, gathered until it is written, and bounded. Pure: no I/O, no locks."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_IDS_PER_NOTE: Final = 100  # of a job's minion ids: so many take the memory of one note


@dataclass(frozen=True, slots=True)
class Loss:
    """One missing response. Times are Unix seconds."""

    jid: str
    minion: str
    function: str
    cause: str
    evidence: str  # one sentence
    published: float | None  # None: unknown
    closed: float  # when it was called missing
    recovered: float | None = None  # when it came all the same


@dataclass(frozen=True, slots=True)
class Recovery:
    """A response that came after it had been called missing."""

    jid: str
    minion: str
    when: float  # Unix seconds


@dataclass(frozen=True, slots=True)
class InFlight:
    """A job that was published and is not closed yet. Times are Unix seconds."""

    jid: str
    function: str
    published: float | None  # None: unknown
    deadline: float
    expected: tuple[str, ...]
    absent: frozenset[str]  # those without a connection when it was published


@dataclass(slots=True)
class Notes:
    """What is to be written in one transaction; of several things told of a job or a minion, the last one."""

    losses: list[Loss | Recovery] = field(default_factory=list)  # in the order in which they were told
    jobs: dict[str, InFlight | None] = field(default_factory=dict)  # None: closed
    forgotten: set[str] = field(default_factory=set)  # minions; to be forgotten before `seen` is written
    seen: dict[str, float] = field(default_factory=dict)
    _ids: int = 0  # of all jobs

    def __len__(self) -> int:
        return len(self.losses) + len(self.jobs) + len(self.forgotten) + len(self.seen) + self._ids // _IDS_PER_NOTE

    def put_job(self, jid: str, job: InFlight | None) -> None:
        """Take a job in flight, or None when it is not any more."""
        self._ids += _ids(job) - _ids(self.jobs.pop(jid, None))
        self.jobs[jid] = job

    def see(self, times: Mapping[str, float]) -> None:
        """Take last-seen times; the latest of a minion counts."""
        for minion, at in times.items():
            self.seen[minion] = max(at, self.seen.get(minion, at))

    def forget(self, minions: Iterable[str]) -> None:
        """Take minions whose last-seen time is to be forgotten."""
        for minion in minions:
            self.seen.pop(minion, None)
            self.forgotten.add(minion)

    def shed(self, bound: int) -> int:
        """Drop what is beyond the bound, and return how much: the oldest last-seen times first, then the oldest jobs.

        Losses are dropped when there is nothing else.
        """
        if len(self) <= bound:
            return 0
        before = self._count
        for minion, _at in sorted(self.seen.items(), key=itemgetter(1))[: len(self) - bound]:
            del self.seen[minion]
        while len(self) > bound and self.forgotten:
            self.forgotten.pop()
        while len(self) > bound and self.jobs:
            self._ids -= _ids(self.jobs.pop(next(iter(self.jobs))))
        del self.losses[: max(0, len(self) - bound)]
        return before - self._count

    @property
    def _count(self) -> int:
        return len(self) - self._ids // _IDS_PER_NOTE


def _ids(job: InFlight | None) -> int:
    return len(job.expected) + len(job.absent) if job else 0


def plain(loss: Loss) -> dict[str, Any]:
    """Return a loss as JSON has it; times are Unix seconds."""
    return {name: getattr(loss, name) for name in Loss.__slots__}
