"""From bodies to counters: good ones are applied in order, bad ones are counted and seldom logged."""

from __future__ import annotations

import time
from pathlib import Path

import msgpack
import pytest

from salt_exporter.analysis.activity import Activity
from salt_exporter.analysis.deadlines import Deadlines
from salt_exporter.analysis.jobs import SETTLE, JobLedger
from salt_exporter.intake import Intake
from salt_exporter.master.wire import Framer
from salt_exporter.probes.event_bus import TAG

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def seen() -> Activity:
    """Return an activity that has seen nothing."""
    return Activity(JobLedger(Deadlines(60.0), max_functions=50, max_jobs=100))


@pytest.fixture
def intake(seen: Activity) -> Intake:
    """Return an intake that counts there."""
    return Intake(seen, lambda _body, _when: None, lambda _jobs, _now: None)


@pytest.mark.parametrize("line", ["3006", "3007", "3008"])
def test_recorded_master_is_counted(seen: Activity, intake: Intake, line: str) -> None:
    """What the commands of the recording did is what is counted."""
    intake.deliver(Framer().feed((DATA / f"bus-{line}.bin").read_bytes()))
    began = time.time()

    functions = seen.jobs.functions
    assert 0 == seen.undecodable
    assert (4, 5, {True: 4, False: 0}) == _counts(seen, "test.ping")
    assert (1, 1, {True: 0, False: 1}) == _counts(seen, "cmd.run")
    assert (2, 3, {True: 2, False: 0}) == _counts(seen, "test.arg")  # of one nobody has the key
    assert {"test.ping", "cmd.run", "test.sleep", "test.arg", "event.fire_master", "event.send"} == functions.keys()
    assert (10, 2) == (seen.jobs.in_flight, seen.jobs.outstanding)  # ghost's and nokey's
    assert ["web1"] == list(seen.last_seen())
    assert abs(seen.last_seen()["web1"] - began) < 10


def _counts(seen: Activity, function: str) -> tuple[int, int, dict[bool, int]]:
    counters = seen.jobs.functions[function]
    return counters.new, counters.expected, counters.responses


def test_bad_bodies_are_counted_and_skipped(seen: Activity, intake: Intake) -> None:
    """Between bodies that are no events the good ones count."""
    good = b"my/tag\n\n" + msgpack.packb({"cmd": "_minion_event", "id": "web1"})
    intake.deliver([b"bad", good, b"salt/job/1/new\n\n\x80", good, b""])

    assert 3 == seen.undecodable
    assert {"other": 2} == seen.kinds


def test_storm_of_bad_bodies_is_one_log_line_a_minute(
    intake: Intake, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minion can fire what is no event as often as it likes: that does not fill the master's disk."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for _ in range(10):
        intake.deliver([b"bad"] * 10)
    assert 1 == len(caplog.records)

    now += 60.0
    intake.deliver([b"bad"] * 10)
    assert 2 == len(caplog.records)


def test_log_shows_the_tag_and_nothing_behind_it(intake: Intake, caplog: pytest.LogCaptureFixture) -> None:
    """Arguments and returns of jobs are secrets: they do not get into a log by being damaged."""
    intake.deliver([b"salt/job/1/ret/web1\n\n\x81\xa8password\xc1hunter2"])

    assert "salt/job/1/ret/web1" in caplog.text
    assert "hunter2" not in caplog.text
    assert "password" not in caplog.text


def test_own_probe_events_are_shown_to_the_probe(seen: Activity) -> None:
    """The exporter's own events are passed on with the time they came, and count as the events they are."""
    arrived = []
    body = TAG + b"1234\n\n\x80"
    before = time.monotonic()
    Intake(seen, lambda *what: arrived.append(what), lambda _jobs, _now: None).deliver([b"my/tag\n\n\x80", body])

    ((what, when),) = arrived
    assert body == what
    assert before <= when <= time.monotonic()
    assert {"other": 2} == seen.kinds


# --- storms ---

STORM = 50_000


def a_return(jid: str, minion: str) -> bytes:
    """Return the body of a minion's return."""
    data = {"cmd": "_return", "id": minion, "jid": jid, "fun": "test.ping", "return": True, "success": True}
    packed: bytes = msgpack.packb(data | {"retcode": 0, "_stamp": "2026-11-22T10:15:01"})
    return f"salt/job/{jid}/ret/{minion}\n\n".encode() + packed


def test_storm_of_returns_is_counted_to_the_last(seen: Activity, intake: Intake) -> None:
    """50,000 returns of one job in one burst are counted and complete it; what it took to wait for them is freed."""
    minions = [f"minion-{number:05}" for number in range(STORM)]
    data = {"jid": "1", "fun": "test.ping", "minions": minions, "_stamp": "2026-11-22T10:15:00"}
    intake.deliver([b"salt/job/1/new\n\n" + msgpack.packb(data)])
    (job,) = seen.jobs._open.values()
    assert STORM == seen.jobs.outstanding

    intake.deliver([a_return("1", minion) for minion in minions])
    assert {"job_new": 1, "job_return": STORM} == seen.kinds
    assert (1, STORM, {True: STORM, False: 0}) == _counts(seen, "test.ping")
    counters = seen.jobs.functions["test.ping"]
    assert (0, 0, 0) == (counters.duplicate, counters.late, counters.unexpected)
    assert STORM == sum(counters.seconds.value().counts) == counters.seconds.value().sum

    assert [job] == seen.jobs.due(time.monotonic() + SETTLE)
    assert {} == seen.jobs.close(job, time.monotonic() + SETTLE, time.time(), None, {})
    seen.keep_only(frozenset(minions[:10]))
    assert (0, 0, 10) == (seen.jobs.in_flight, seen.jobs._open_ids, len(seen.last_seen()))
    assert (0, 0, STORM) == (job.responses.outstanding, job.responses.missed, job.responses.returned)
    assert STORM == seen.jobs._closed_ids == len(job.responses)


def test_storm_of_returns_that_belong_to_no_job_leaves_nothing(seen: Activity, intake: Intake) -> None:
    """Schedules of 50,000 minions that return in the same moment are counted, and nothing of them is kept."""
    intake.deliver([a_return(f"{number}", f"minion-{number}") for number in range(STORM)])
    assert {True: STORM, False: 0} == seen.jobs.functions["test.ping"].responses

    seen.keep_only(frozenset())
    ledger = seen.jobs
    kept = (ledger._open, ledger._closed, ledger.opened, ledger.recovered, ledger.given_up, ledger.consecutive)
    assert [0] * 6 == [len(container) for container in kept]
    assert {} == seen.last_seen()


def test_publication_is_told_once_a_batch(seen: Activity) -> None:
    """Whoever looks at connections when jobs are published is told, after the events have been taken, and only then."""
    told: list[tuple[int, int]] = []
    intake = Intake(seen, lambda _body, _when: None, lambda jobs, _now: told.append((jobs, seen.jobs.in_flight)))
    new = [f"salt/job/{jid}/new\n\n".encode() + msgpack.packb({"jid": jid, "fun": "test.ping"}) for jid in "123"]
    intake.deliver([a_return("1", "web1"), b"bad"])
    assert [] == told

    intake.deliver([new[0], a_return("1", "web1"), new[1]])
    intake.deliver(new[2:])
    intake.deliver([])
    assert [(2, 2), (1, 3)] == told


def test_observers_see_every_batch_and_where_events_are_missing(seen: Activity, intake: Intake) -> None:
    """Whoever else wants the bodies gets them as they came, bad ones too, and an empty batch for a gap."""
    shown: list[list[bytes]] = []
    intake.observers.append(lambda bodies: shown.append(list(bodies)))

    intake.deliver([b"bad", b"my/tag\n\n\x80"])
    intake.missing()

    assert [[b"bad", b"my/tag\n\n\x80"], []] == shown
    assert 1 == seen.undecodable
