"""The truth about jobs and keys, from the publisher's side, and where the exporter's books differ from it.

Truth is what lies on the master's disk: the job cache (salt/returners/local_cache.py) holds for each job whom it was
published for and who has returned, `pki_dir` the keys. While a master restarts, events pass that nobody can have seen:
`Truth.blind` are those times. What was published in one is *hidden*: the exporter may or may not know it. What was
under way when one began, or of which a return was stored in one, however late, is *shaken*: its publication must be
known, its returns may have passed unseen. Everything else must be right to the last response.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack

from salt_exporter.master.keys import DIRECTORIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from tests.real.exporter import Metrics

_FIND_JOB = "saltutil.find_job"


class Job(NamedTuple):
    """One job of the job cache."""

    function: str
    stored: float  # Unix seconds, right after its publication
    expected: frozenset[str]
    returned: Mapping[str, float]  # minion → when that was stored, Unix seconds


class Books(NamedTuple):
    """What the exporter says."""

    metrics: Metrics
    jobs: Mapping[str, Mapping[str, Any]]  # by jid, as `/api/v1/jobs` has them
    losses: Mapping[str, list[Mapping[str, Any]]]  # by jid, as `/api/v1/losses` has them


@dataclass
class Audit:
    """What was compared over one stretch of time."""

    published: int = 0  # jobs, Salt's own find_job left out
    hidden: int = 0
    shaken: int = 0  # those hidden included
    returned: int = 0  # responses in the job cache
    lost: int = 0  # expected and not there
    differences: list[str] = field(default_factory=list)


@dataclass
class Truth:
    """The truth about one master, whose files are below a lab's `folder`."""

    folder: Path
    under_way: float  # seconds that a job may take until it is closed
    blind: list[tuple[float, float]] = field(default_factory=list)  # Unix seconds
    _known: set[Path] = field(default_factory=set)

    def begin(self) -> None:
        """Leave out what is there already."""
        self._known = set(self._folders())

    def keys(self) -> dict[str, int]:
        """Return the number of keys by state."""
        pki = self.folder / "pki"
        return {state: len(list((pki / name).glob("[!.]*"))) for state, name in DIRECTORIES.items()}

    def audit(self, before: Books, after: Books) -> Audit:
        """Compare what the exporter says with the truth since the last audit or `begin`; nothing may be in flight."""
        folders = set(self._folders()) - self._known
        self._known |= folders
        stored = dict(map(_job, folders))
        jobs = {jid: job for jid, job in stored.items() if job.function != _FIND_JOB}
        hidden = {jid for jid, job in jobs.items() if self._is_blind(job.stored)}
        shaken = hidden | {jid for jid, job in jobs.items() if self._is_shaken(job)}
        result = Audit(
            published=len(jobs),
            hidden=len(hidden),
            shaken=len(shaken),
            returned=sum(len(job.returned) for job in jobs.values()),
            lost=sum(len(job.expected - job.returned.keys()) for job in jobs.values()),
        )
        ours = {jid: after.jobs[jid] for jid in after.jobs if jid not in before.jobs}
        for jid in jobs.keys() - hidden:
            result.differences += _of_publication(jid, jobs[jid], ours.get(jid))
        for jid in jobs.keys() - shaken:
            if jid in ours:
                result.differences += _of_returns(jid, jobs[jid], ours[jid])
                result.differences += _of_losses(jid, jobs[jid], after.losses.get(jid, ()))
        grown = _Growth(before.metrics, after.metrics)
        losses = sum(len(found) for jid, found in after.losses.items() if jid in ours)
        result.differences += grown.differences(ours, losses)
        # What may have passed unseen: of hidden jobs everything, of shaken ones the returns.
        unseen = sum(len(jobs[jid].returned) for jid in shaken)
        seen = grown.of("salt_jobs_responses_total") - grown.of("salt_jobs_duplicate_responses_total")
        result.differences += _within("returns", seen, result.returned, unseen)
        frames = grown.of("salt_publish_messages_total")
        result.differences += _within("published frames", frames, len(stored), len(stored) - len(jobs) + len(hidden))
        return result

    def _folders(self) -> Iterable[Path]:
        return (self.folder / "cache" / "jobs").glob("*/*")

    def _is_shaken(self, job: Job) -> bool:
        return self._is_blind(job.stored, self.under_way) or any(map(self._is_blind, job.returned.values()))

    def _is_blind(self, time: float, before: float = 0.0) -> bool:
        return any(begin - before <= time <= end for begin, end in self.blind)


class _Growth:
    """By how much counters have grown."""

    def __init__(self, before: Metrics, after: Metrics) -> None:
        self._before, self._after = before, after

    def of(self, name: str) -> float:
        """Return the growth over all label values."""
        return sum(self._after.by(name).values()) - sum(self._before.by(name).values())

    def differences(self, ours: Mapping[str, Mapping[str, Any]], losses: int) -> list[str]:
        """Compare counters with the exporter's own list of jobs, which is compared with the truth job by job."""
        pairs = (
            ("salt_jobs_new_total", len(ours)),
            ("salt_jobs_expected_responses_total", sum(job["expected"] or 0 for job in ours.values())),
            ("salt_jobs_missing_responses_total", losses),
            ("salt_jobs_bus_only_responses_total", 0),
            ("salt_publish_dropped_messages_total", 0),
            ("salt_exporter_events_shed_total", 0),
            ("salt_exporter_eventbus_decode_errors_total", 0),
            ("salt_exporter_journal_errors_total", 0),
        )
        return [f"{name} grew by {self.of(name):g}, not {number}" for name, number in pairs if self.of(name) != number]


def _job(folder: Path) -> tuple[str, Job]:
    load = folder / ".load.p"
    stored = _unpack(load)
    expected = {minion for file in folder.glob(".minions*.p") for minion in _unpack(file)}
    returned = {file.parent.name: file.stat().st_mtime for file in folder.glob("*/return.p")}
    return stored["jid"], Job(stored["fun"], load.stat().st_mtime, frozenset(expected), returned)


def _unpack(file: Path) -> Any:  # noqa: ANN401 - msgpack
    return msgpack.unpackb(file.read_bytes(), strict_map_key=False)


def _of_publication(jid: str, job: Job, ours: Mapping[str, Any] | None) -> list[str]:
    if ours is None:
        return [f"{jid} {job.function} is not known"]
    if (job.function, len(job.expected)) != (ours["function"], ours["expected"]):
        return [f"{jid} {job.function} for {len(job.expected)} is known as {ours['function']} for {ours['expected']}"]
    return []


def _of_returns(jid: str, job: Job, ours: Mapping[str, Any]) -> list[str]:
    truth = len(job.returned), len(job.expected - job.returned.keys())
    said = ours["returned"], ours["missing"]
    return [f"{jid} {job.function}: returned and missing are {truth}, not {said}"] if truth != said else []


def _of_losses(jid: str, job: Job, losses: Iterable[Mapping[str, Any]]) -> list[str]:
    lost = {loss["minion"] for loss in losses if loss["recovered"] is None}
    missing = job.expected - job.returned.keys()
    return [f"{jid} {job.function}: lost are {sorted(missing)}, not {sorted(lost)}"] if lost != missing else []


def _within(what: str, ours: float, truth: int, unseen: int) -> list[str]:
    return [] if truth - unseen <= ours <= truth else [f"{ours:g} {what}, not {truth - unseen} to {truth}"]
