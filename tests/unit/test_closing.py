"""How jobs are closed: the job cache is asked, every loss has a cause and is written down once, over restarts too."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgpack
import pytest

from salt_exporter.analysis.activity import Activity
from salt_exporter.analysis.attribution import Facts
from salt_exporter.analysis.causes import Cause
from salt_exporter.analysis.deadlines import Deadlines
from salt_exporter.analysis.jobs import SETTLE, JobLedger
from salt_exporter.closing import Closer
from salt_exporter.errors import SourceError
from salt_exporter.journal import Journal, Loss
from salt_exporter.master.events import Event, JobNew, JobReturn, JobStart
from salt_exporter.master.settings import MasterSettings, _settings
from tests.unit.salts import RAW

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from salt_exporter.analysis.evidence import Scene
    from salt_exporter.analysis.jobs import FunctionCounters, Job

DEADLINE, SECOND_LOOK, BURST, BURST_SECONDS = 60.0, 10.0, 100, 60.0
WALL = 1_800_000_000.0  # Unix seconds at monotonic 0
PING = "test.ping"
GONE = Facts(connected=False)
ENDED = Facts(ended=3.0)
NOT_CONNECTED = (Cause.NOT_CONNECTED.value, "no connection to the publish port when the job was published")
GAP = (Cause.EXPORTER_GAP.value, "the event bus was not read all the time, and the job cache cannot tell")


class House:
    """A closer with its ledger, its journal and a job cache; times are monotonic seconds."""

    def __init__(self, folder: Path, journal: Journal | None, max_jobs: int = 100) -> None:
        self.activity = Activity(JobLedger(Deadlines(DEADLINE), 10, max_jobs))
        self.ledger = self.activity.jobs
        self.journal = journal
        self.options: dict[str, Any] = {"job_cache": True}
        self.facts: dict[str, Facts] = {}  # of minions that are not just silent
        self.asked: list[tuple[str, str, frozenset[str], bool]] = []  # jid, minion, absent, checked
        self.scenes = 0
        self.meanwhile: Callable[[], None] = lambda: None  # what happens while causes are looked for
        self.problem = ""  # why there is no scene
        self._folder = folder
        (folder / "cache" / "jobs").mkdir(parents=True, exist_ok=True)
        self.closer = Closer(self.activity, self._settings, self._scene, journal)

    def _settings(self) -> MasterSettings:
        options = RAW | {"cachedir": str(self._folder / "cache"), "hash_type": "sha256"} | self.options
        return _settings({"version": "3008.3", "files": [], "patterns": [], "options": options}, "m", Path("/x"), None)

    def _scene(self, now: float, wall: float) -> Scene:
        assert wall == WALL + now
        self.scenes += 1
        self.meanwhile()
        if self.problem:
            raise SourceError(self.problem)
        return cast("Scene", _Scene(self))

    def take(self, at: float, *details: JobNew | JobReturn | JobStart) -> None:
        """Take events of these kinds."""
        self.activity.take([Event("other", WALL + at, None, detail) for detail in details], 0, at, WALL + at)

    def new(self, jid: str, *minions: str, at: float = 0.0, missing: tuple[str, ...] = ()) -> None:
        """Publish a job."""
        self.take(at, JobNew(jid, PING, minions, missing))

    def trimmed(self, jid: str, at: float = 0.0) -> None:
        """Publish a job for so many that the event does not tell them."""
        self.take(at, JobNew(jid, PING, (), (), trimmed=True))

    def ret(self, jid: str, minion: str, at: float = 1.0) -> None:
        """Let a minion return."""
        self.take(at, JobReturn(jid, PING, minion, success=True, scheduled=False, asks_for="", empty=False))

    def tick(self, at: float, absent: Collection[str] = ()) -> None:
        """Look at what is due."""
        self.closer.tick(at, WALL + at, absent)

    def in_cache(self, jid: str) -> Path:
        """Return a job's directory in the job cache, made."""
        digest = hashlib.sha256(jid.encode()).hexdigest()
        folder = self._folder / "cache" / "jobs" / digest[:2] / digest[2:]
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def store(self, jid: str, *minions: str) -> None:
        """Put returns into the job cache."""
        for minion in minions:
            (self.in_cache(jid) / minion).mkdir()
            (self.in_cache(jid) / minion / "return.p").write_bytes(b"\x81")

    @property
    def counters(self) -> FunctionCounters:
        """What was counted for test.ping."""
        return self.ledger.functions[PING]

    @property
    def missing(self) -> dict[Cause, int]:
        """Missing responses by cause; only what happened."""
        return {cause: number for cause, number in self.counters.missing.items() if number}

    def losses(self) -> list[Loss]:
        """Return all losses of the journal, the oldest first."""
        assert self.journal is not None
        assert self.journal.flush(10)
        return sorted(self.journal.losses(), key=lambda loss: (loss.closed, loss.jid, loss.minion))

    def found(self) -> dict[str, tuple[str, str]]:
        """Return cause and evidence of every loss by minion."""
        return {loss.minion: (loss.cause, loss.evidence) for loss in self.losses()}


class _Scene:
    """Tells the facts that a test has put there."""

    def __init__(self, house: House) -> None:
        self._house = house

    def facts(self, job: Job, minion: str, absent: Collection[str], *, checked: bool) -> Facts:
        self._house.asked.append((job.jid, minion, frozenset(absent), checked))
        default = Facts(observed=job.observed, checked=checked)
        return self._house.facts.get(minion, default)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., House]]:
    """Return a starter of houses, one after another, which share journal and job cache."""
    journals: list[Journal] = []

    def begin(at: float = 0.0, **values: int) -> House:
        for journal in journals:
            journal.close()
        journals.append(Journal(tmp_path / "state", max_age=1e12, max_rows=100_000, clock=lambda: WALL + at))
        return House(tmp_path, journals[-1], **values)

    yield begin
    for journal in journals:
        journal.close()


@pytest.fixture
def house(start: Callable[..., House]) -> House:
    """Return a house with a journal that is empty."""
    return start()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings so far, and forget them."""
    found = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    caplog.clear()
    return found


# --- losses ---


def test_loss_is_recorded_once_with_cause_and_evidence(house: House) -> None:
    """Each minion that has not returned is one row, whatever ticks follow."""
    house.facts = {"a": GONE, "b": ENDED}
    house.new("1", "a", "b", "c", at=5.0)
    house.ret("1", "c", at=6.0)
    for at in (6.0, 5.0 + DEADLINE - 0.1):
        house.tick(at)
    assert ({}, 0) == (house.missing, house.scenes)

    for at in (5.0 + DEADLINE, 70.0, 200.0):
        house.tick(at)
    shared = {"jid": "1", "function": PING, "published": WALL + 5.0, "closed": WALL + 5.0 + DEADLINE}
    assert [
        Loss(minion="a", cause=NOT_CONNECTED[0], evidence=NOT_CONNECTED[1], **shared),  # type: ignore[arg-type] # as above
        Loss(
            minion="b",
            cause="disconnected",
            evidence="its connection had ended 3.0 s after the job was published",
            **shared,  # type: ignore[arg-type] # as above
        ),
    ] == house.losses()
    assert {Cause.NOT_CONNECTED: 1, Cause.DISCONNECTED: 1} == house.missing
    assert {"incomplete": 1, "complete": 0, "unknown": 0} == house.counters.closed


def test_nobody_looks_for_causes_where_nothing_is_missing(house: House) -> None:
    """A job that is complete costs no look at keys, addresses and connections."""
    house.new("1", "a")
    house.ret("1", "a")
    house.new("2")
    house.tick(1.0 + SETTLE)
    house.tick(DEADLINE)

    assert (0, 0, []) == (house.scenes, house.ledger.in_flight, house.losses())


def test_all_that_is_due_is_explained_by_one_look(house: House) -> None:
    """However many jobs end at once: one scene, and each missing minion is asked about once."""
    for jid in "123":
        house.new(jid, "a", "b")
    house.ret("1", "a")
    house.tick(DEADLINE)

    assert 1 == house.scenes
    assert [("1", "b"), ("2", "a"), ("2", "b"), ("3", "a"), ("3", "b")] == sorted(item[:2] for item in house.asked)
    assert {(frozenset(), False)} == {item[2:] for item in house.asked}


def test_much_that_is_due_at_once_is_closed_bit_by_bit(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the time of a tick is up, what is left is closed by the next ones, and nothing twice."""
    monkeypatch.setattr("salt_exporter.closing._AT_A_TIME", -1.0)
    for jid in "123":
        house.new(jid, "a")
    left = []
    for second in range(4):
        house.tick(DEADLINE + second)
        left.append(house.ledger.in_flight)

    assert ([2, 1, 0, 0], 3) == (left, len(house.losses()))


def test_loss_is_one_structured_line(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever reads the log may select by job, minion, function and cause."""
    house.facts = {"a": GONE}
    house.in_cache("1")
    house.new("1", "a")
    house.tick(DEADLINE)

    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert f"a response is missing: {NOT_CONNECTED[1]}" == record.getMessage()
    assert {"jid": "1", "minion": "a", "function": PING, "cause": "not_connected"} == record.fields  # type: ignore[attr-defined] # given as `extra`


def test_late_return_is_marked_recovered(house: House) -> None:
    """The loss stays, with the time at which it came; another return of the same changes nothing."""
    house.new("1", "a", "b")
    house.tick(DEADLINE)
    house.ret("1", "a", at=70.0)
    house.tick(71.0)
    house.ret("1", "a", at=80.0)
    house.tick(81.0)

    assert [("a", WALL + 71.0), ("b", None)] == [(loss.minion, loss.recovered) for loss in house.losses()]
    assert (1, 1) == (house.counters.late, house.counters.duplicate)


def test_late_return_in_the_same_moment_comes_after_its_loss(house: House) -> None:
    """What returns between the closing and the next tick is recovered, not lost for good."""
    house.new("1", "a")
    house.new("2", "a")
    house.tick(DEADLINE)
    house.ret("2", "a", at=DEADLINE)
    house.tick(DEADLINE + 1.0)

    assert [("1", None), ("2", WALL + DEADLINE + 1.0)] == [(loss.jid, loss.recovered) for loss in house.losses()]


# --- while causes are looked for, the bus does not wait ---


def test_return_that_comes_meanwhile_is_no_loss(house: House) -> None:
    """Who returns while causes are looked for is neither missing nor written down."""
    house.new("1", "a", "b")
    house.meanwhile = lambda: house.ret("1", "a", at=DEADLINE)
    house.tick(DEADLINE)

    assert ["b"] == [loss.minion for loss in house.losses()]
    assert (1, 2) == (house.counters.closed_received, house.counters.closed_expected)


def test_job_that_gets_longer_meanwhile_is_closed_later(start: Callable[..., House]) -> None:
    """Who says that it works on the job while causes are looked for has its time; nothing is booked twice."""
    house = start()
    house.store("1", "c")
    house.new("1", "a", "b", "c", "d")
    house.ret("1", "b")
    house.tick(2.0)
    house.meanwhile = lambda: house.take(DEADLINE, JobStart("1", "a"))
    house.tick(DEADLINE)
    assert (1, 3, {}) == (house.ledger.in_flight, house.ledger.outstanding, house.missing)
    assert [] == house.losses()

    house.meanwhile = lambda: None
    house.tick(2 * DEADLINE)
    house.tick(2 * DEADLINE + SECOND_LOOK)
    assert {"a", "d"} == {loss.minion for loss in house.losses()}
    assert (1, 1) == (house.ledger.cache_only, house.ledger.bus_only)


def test_job_that_gets_longer_stays_in_the_journal(start: Callable[..., House]) -> None:
    """It is in flight, and would be after a restart."""
    house = start()
    house.new("1", "a")
    house.tick(1.0)
    house.meanwhile = lambda: house.take(DEADLINE, JobStart("1", "a"))
    house.tick(DEADLINE)

    again = start(at=DEADLINE + 1.0)
    again.closer.restore(DEADLINE + 1.0, WALL + DEADLINE + 1.0)
    assert 1 == again.ledger.in_flight


# --- the job cache ---


def test_return_in_the_job_cache_is_no_loss(house: House) -> None:
    """It is counted as cache-only, and nobody looks for a cause."""
    house.store("1", "a")
    house.new("1", "a", "b")
    house.tick(DEADLINE)

    assert {"b"} == house.found().keys()
    assert [("1", "b", frozenset(), True)] == house.asked
    assert (1, 0) == (house.ledger.cache_only, house.ledger.bus_only)
    house.store("2", "a")
    house.new("2", "a", at=70.0)
    house.tick(70.0 + DEADLINE)
    assert (2, 1, 1) == (house.ledger.cache_only, house.scenes, house.counters.closed["complete"])


def test_return_that_the_job_cache_lacks_is_looked_for_again(house: House) -> None:
    """The master stores a return after it has told of it: only what is not there 10 seconds later is bus-only."""
    house.in_cache("1")
    house.new("1", "a", "b", "c")
    for minion in "abc":
        house.ret("1", minion)
    house.store("1", "a")
    end = 1.0 + SETTLE
    house.tick(end)
    house.store("1", "b")
    house.tick(end + SECOND_LOOK - 0.1)
    assert 0 == house.ledger.bus_only

    for at in (end + SECOND_LOOK, end + 2 * SECOND_LOOK, end + 100.0):
        house.tick(at)
    assert (1, 0, {}) == (house.ledger.bus_only, house.ledger.cache_only, house.missing)


def test_second_look_that_cannot_be_taken_counts_nothing(house: House) -> None:
    """A job that was cleaned away meanwhile, or a cache that is off now, says nothing about its returns."""
    for jid in "12":
        house.in_cache(jid)
        house.new(jid, "a")
        house.ret(jid, "a")
    house.tick(1.0 + SETTLE)
    house.in_cache("1").rmdir()
    house.tick(1.0 + SETTLE + SECOND_LOOK)
    assert 1 == house.ledger.bus_only

    house.new("2", "b", at=20.0)
    house.ret("2", "b", at=21.0)
    house.tick(30.0)
    house.options["job_cache"] = False
    house.tick(50.0)
    assert 1 == house.ledger.bus_only


def test_job_whose_returns_are_not_kept_is_not_checked(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """`nocache`, and a job that is not there, are nothing to complain about."""
    (house.in_cache("1") / "nocache").touch()
    house.facts = {"a": GONE}
    house.new("1", "a")
    house.new("2", "a")
    house.tick(DEADLINE)

    assert {("1", False), ("2", False)} == {(jid, checked) for jid, _, _, checked in house.asked}
    assert ["a response is missing: " + NOT_CONNECTED[1]] * 2 == said(caplog)
    assert "" == house.closer.cache_problem


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"job_cache": False}, "job_cache: False"),
        ({"master_job_cache": "mysql"}, "master_job_cache: mysql"),
        ({"ext_job_cache": "redis"}, "ext_job_cache: redis"),
        ({"cachedir": "/nowhere"}, "/nowhere/jobs"),
    ],
)
def test_cache_that_cannot_be_asked_is_told_once(
    house: House, caplog: pytest.LogCaptureFixture, options: dict[str, Any], why: str
) -> None:
    """Off, elsewhere or unreadable: jobs are closed without it, and why is in the log once and visible."""
    before = dict(house.options)
    house.options |= options
    house.new("1", "a")
    for at in (1.0, 2.0, DEADLINE):
        house.tick(at)
    assert why in house.closer.cache_problem
    complaint, loss = said(caplog)
    assert f"returns are not compared with the job cache: {house.closer.cache_problem}" == complaint
    assert loss.startswith("a response is missing")
    assert [("1", "a", frozenset(), False)] == house.asked

    house.options = before
    house.tick(70.0)
    assert ("", []) == (house.closer.cache_problem, said(caplog))
    house.options = before | options
    house.tick(71.0)
    house.options = before | {"master_job_cache": "other"}
    house.tick(72.0)
    assert 2 == len(said(caplog))


def test_job_that_the_cache_cannot_read_is_told(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """One job whose directory is none is closed without the cache; others are compared."""
    folder = house.in_cache("1")
    folder.rmdir()
    folder.touch()
    house.store("2", "a")
    house.new("1", "a")
    house.new("2", "a")
    house.tick(DEADLINE)

    assert [("1", "a", frozenset(), False)] == house.asked
    assert "the returns of job 1 are not compared with the job cache" in said(caplog)[0]
    assert 1 == house.ledger.cache_only


def test_settings_that_are_not_known_are_a_problem_of_the_cache(house: House) -> None:
    """While the master cannot be asked for its options jobs are closed all the same."""
    closer = Closer(house.activity, lambda: _raise("no master"), house._scene, None)
    house.new("1", "a")
    closer.tick(DEADLINE, WALL + DEADLINE, ())

    assert ("no master", 0) == (closer.cache_problem, house.ledger.in_flight)


def _raise(text: str) -> MasterSettings:
    raise SourceError(text)


# --- lists that Salt has cut out ---


def test_trimmed_list_is_read_from_the_cache(house: House) -> None:
    """Who is expected stands there, those below syndics too."""
    house.trimmed("1")
    (house.in_cache("1") / ".minions.p").write_bytes(msgpack.packb(["a", "b"]))
    (house.in_cache("1") / ".minions.syndic1.p").write_bytes(msgpack.packb(["c"]))
    house.tick(1.0)
    assert (3, 3) == (house.counters.expected, house.ledger.outstanding)

    house.ret("1", "a", at=2.0)
    house.tick(1.0 + DEADLINE)
    assert {"b", "c"} == house.found().keys()


@pytest.mark.parametrize("half", [None, b"", b"\x92\xa1a", b"\x90"])
def test_trimmed_list_that_is_not_there_yet_is_looked_for_again(house: House, half: bytes | None) -> None:
    """The master fires the event first and stores the list then, not in one step."""
    house.trimmed("1")
    if half is not None:
        (house.in_cache("1") / ".minions.p").write_bytes(half)
    house.tick(1.0)
    assert 0 == house.counters.expected

    (house.in_cache("1") / ".minions.p").write_bytes(msgpack.packb(["a", "b"]))
    house.tick(2.0)
    assert 2 == house.counters.expected
    house.tick(3.0)
    assert 2 == house.counters.expected


def test_trimmed_list_that_nobody_can_tell_is_unknown(house: House) -> None:
    """Without the job cache the job ends at its deadline, and nobody is called missing."""
    house.options["job_cache"] = False
    house.trimmed("1")
    house.ret("1", "a")
    for at in (1.0, 30.0, DEADLINE):
        house.tick(at)

    assert (0, 1, []) == (house.ledger.in_flight, house.counters.closed["unknown"], house.losses())


# --- restarts ---


def restart(start: Callable[..., House], at: float) -> House:
    """Start again at a time, with what the journal knows."""
    house = start(at=at)
    house.closer.restore(at, WALL + at)
    return house


def test_jobs_in_flight_go_on_after_a_restart(start: Callable[..., House], caplog: pytest.LogCaptureFixture) -> None:
    """They keep their deadline; who is in the job cache has returned, who is not gets a cause."""
    house = start()
    house.new("1", "a", "b", "c", at=10.0)
    house.tick(10.5, absent=("b", "c", "elsewhere"))
    house.ret("1", "c", at=11.0)
    house.store("1", "a", "c")

    caplog.set_level(logging.INFO)
    again = restart(start, 50.0)
    assert "following 1 jobs that were in flight before the restart" in caplog.text
    assert (1, 3) == (again.ledger.in_flight, again.ledger.outstanding)
    again.tick(10.0 + DEADLINE - 0.1)
    assert 1 == again.ledger.in_flight

    again.tick(10.0 + DEADLINE)
    assert [("1", "b", frozenset("bc"), True)] == again.asked
    assert (2, ["b"]) == (again.ledger.cache_only, list(again.found()))
    assert {"incomplete": 1, "complete": 0, "unknown": 0} == again.counters.closed


def test_times_of_a_job_of_before_a_restart_are_from_its_publication(start: Callable[..., House]) -> None:
    """Evidence says when something happened to the job, not to the exporter."""
    house = start()
    house.new("1", "a", at=10.0)
    house.tick(10.5)
    (job,) = restart(start, 50.0).ledger._open.values()
    assert (10.0, 10.0 + DEADLINE, WALL + 10.0) == (job.opened, job.deadline, job.published)


def test_gap_is_the_cause_only_where_the_cache_cannot_tell(start: Callable[..., House]) -> None:
    """Of a job that ended while nobody listened the cache knows more than the bus; without it nobody does."""
    house = start()
    house.new("1", "a")
    house.new("2", "a")
    house.tick(1.0)
    house.in_cache("1")

    again = restart(start, 500.0)
    again.tick(500.0)
    assert {("1", "minion_silent"), ("2", GAP[0])} == {(loss.jid, loss.cause) for loss in again.losses()}
    assert {"incomplete": 1, "complete": 0, "unknown": 1} == again.counters.closed
    assert {"a": 1} == again.ledger.consecutive


def test_closed_jobs_are_not_restored(start: Callable[..., House]) -> None:
    """What has ended, with losses, complete, or given up, does not come back."""
    house = start(max_jobs=2)
    house.new("given up", "a")
    house.tick(1.0)
    house.new("complete", "a", at=1.0)
    house.ret("complete", "a")
    house.new("incomplete", "a", at=1.0)
    for at in (2.0, 1.0 + SETTLE, 1.0 + DEADLINE):
        house.tick(at)
    house.new("given up at once", "a", at=100.0)
    for jid in ("last", "late"):
        house.new(jid, "a", at=100.0)
    house.tick(100.5)

    assert {"last", "late"} == restart(start, 101.0).ledger._open.keys()


def test_job_that_had_been_prolonged_gets_time(start: Callable[..., House]) -> None:
    """Followed beyond its first deadline because a minion said that it runs: a restart must not invent a loss."""
    house = start()
    house.new("1", "a")
    house.tick(1.0)
    house.take(50.0, JobStart("1", "a"))
    assert house.journal is not None
    house.journal._clock = lambda: WALL + 90.0  # the last time that the journal was written
    house.tick(90.0)

    again = restart(start, 100.0)
    again.tick(100.0 + DEADLINE - 0.1)
    assert 1 == again.ledger.in_flight
    again.tick(100.0 + DEADLINE)
    assert ["a"] == [loss.minion for loss in again.losses()]


def test_minions_seen_before_a_restart_are_remembered(start: Callable[..., House]) -> None:
    """What the journal knows of signs of life, less what was seen since."""
    house = start()
    assert house.journal is not None
    house.journal.seen({"a": WALL - 100.0, "b": WALL - 200.0})
    house.journal.close()
    again = start()
    again.activity.take([Event("other", None, "b", None)], 0, 0.0, WALL)
    again.closer.restore(1.0, WALL + 1.0)

    assert {"a": WALL - 100.0, "b": WALL} == again.activity.last_seen()


def test_late_return_after_a_restart_is_not_recovered_twice(start: Callable[..., House]) -> None:
    """A job that was restored and closed knows its late returns like any other."""
    house = start()
    house.new("1", "a")
    house.tick(1.0)
    again = restart(start, 50.0)
    again.tick(DEADLINE)
    again.ret("1", "a", at=70.0)
    again.tick(71.0)

    assert [WALL + 71.0] == [loss.recovered for loss in again.losses()]


def test_journal_that_cannot_be_asked_is_told(
    house: House, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the exporter begins anew."""
    monkeypatch.setattr(house.journal, "in_flight", lambda: _raise("it is locked"))
    house.closer.restore(0.0, WALL)

    assert ["jobs of before the restart are not followed: it is locked"] == said(caplog)
    assert 0 == house.ledger.in_flight


def test_nothing_to_follow_is_not_told(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """A first start has nothing to say."""
    caplog.set_level(logging.INFO)
    house.closer.restore(0.0, WALL)

    assert [] == caplog.records


# --- where something is missing in the house itself ---


def test_without_a_journal_all_else_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Losses are counted and logged, late returns are counted."""
    house = House(tmp_path, None)
    house.closer.restore(0.0, WALL)
    house.facts = {"a": GONE}
    house.new("1", "a", "b")
    house.ret("1", "b")
    house.tick(1.0)
    house.tick(DEADLINE)
    house.ret("1", "a", at=70.0)
    house.tick(71.0)

    assert ({Cause.NOT_CONNECTED: 1}, 1) == (house.missing, house.counters.late)
    assert ["a response is missing: " + NOT_CONNECTED[1]] == said(caplog)


@pytest.mark.parametrize("observed", [True, False])
@pytest.mark.parametrize("checked", [True, False])
def test_without_a_scene_little_can_be_told(house: House, *, observed: bool, checked: bool) -> None:
    """Keys or grains cannot be read: a gap is a gap, a name without a key is none, all else is unknown."""
    house.problem = "no keys"
    if checked:
        house.in_cache("1")
    house.new("1", "a", missing=("nokey",))
    if not observed:
        house.activity.gap()
    house.tick(DEADLINE)

    cause, evidence = house.found()["a"]
    if observed or checked:
        assert ("unknown", "the exporter could not look at keys, addresses and connections") == (cause, evidence)
    else:
        assert "exporter_gap" == cause
    assert ("unknown_minion", "there is no accepted key of this name") == house.found()["nokey"]
    assert 1 == house.scenes


def test_scene_that_fails_is_asked_once_a_tick(house: House) -> None:
    """Trouble with keys or grains is not met again for every job."""
    house.problem = "no keys"
    for jid in "123":
        house.new(jid, "a")
    house.tick(DEADLINE)

    assert (1, {Cause.UNKNOWN: 3}) == (house.scenes, house.missing)


def test_surprise_at_one_job_holds_up_no_other(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """What nobody has thought of is logged with its traceback; that job is closed without causes, the others with."""
    failures = [ZeroDivisionError("unheard of")]

    def fail_once() -> None:
        if failures:
            raise failures.pop()

    house.meanwhile = fail_once
    house.facts["b"] = GONE
    house.new("1", "a")
    house.new("2", "b")
    house.tick(DEADLINE)

    assert {Cause.UNKNOWN: 1, Cause.NOT_CONNECTED: 1} == house.missing
    assert 0 == house.ledger.in_flight
    (record,) = [record for record in caplog.records if record.exc_info]
    assert "job 1" in record.getMessage()


# --- storms ---


def test_storm_of_losses_is_a_few_lines_and_their_number(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """All are in the journal; a minute has a hundred lines, and its end says how many there were more."""
    house.new("1", *(f"web{number}" for number in range(BURST + 150)))
    house.tick(DEADLINE)
    assert BURST == len(said(caplog))
    assert BURST + 150 == len(house.losses())

    house.new("2", "a", at=61.0)
    house.new("3", "b", at=62.0)
    house.tick(DEADLINE + BURST_SECONDS - 0.1)
    assert [] == said(caplog)
    house.tick(DEADLINE + BURST_SECONDS)
    assert ["150 more missing responses were not logged, see `salt-exporter losses`"] == said(caplog)
    house.tick(DEADLINE + BURST_SECONDS + 2.0)
    assert 2 == len(said(caplog))


def test_number_of_what_was_kept_back_comes_before_the_next_loss(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """Where a loss is the first to come after the minute, it has lines again, after the number."""
    house.new("1", *(f"web{number}" for number in range(BURST + 1)))
    house.tick(DEADLINE)
    said(caplog)
    house.new("2", "a", at=100.0)
    house.tick(100.0 + DEADLINE)

    number, line = said(caplog)
    assert number.startswith("1 more missing responses")
    assert line.startswith("a response is missing")


def test_exactly_as_many_losses_as_lines_are_all_told(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing was kept back, and nothing is said about it."""
    house.new("1", *(f"web{number}" for number in range(BURST)))
    house.tick(DEADLINE)
    house.tick(DEADLINE + BURST_SECONDS)

    assert BURST == len(said(caplog))


def test_minute_begins_with_the_first_loss_and_ends_when_the_clock_is_set_back(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """A clock that was wrong for a while does not silence the log for so long."""
    house.new("1", *(f"web{number}" for number in range(BURST + 1)))
    house.tick(DEADLINE)
    said(caplog)
    limit = house.closer._limit

    assert not limit.allows(WALL + DEADLINE + 59.0)
    assert limit.allows(WALL - 1000.0)
    assert ["2 more missing responses were not logged, see `salt-exporter losses`"] == said(caplog)
