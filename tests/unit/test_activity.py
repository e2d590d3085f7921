"""What the event bus has shown: events by kind, signs of life, and jobs, taken in order and bounded."""

from __future__ import annotations

import pytest

from salt_exporter.analysis import activity
from salt_exporter.analysis.activity import Activity
from salt_exporter.analysis.deadlines import Deadlines
from salt_exporter.analysis.jobs import JobLedger
from salt_exporter.master.events import Event, JobNew, JobReturn, JobStart

DEADLINE = 60.0


@pytest.fixture
def seen() -> Activity:
    """Return an activity that has seen nothing."""
    return Activity(JobLedger(Deadlines(DEADLINE), max_functions=10, max_jobs=10))


def sign(minion: str, kind: str = "other", stamp: float | None = None) -> Event:
    """Return an event that proves a minion alive."""
    return Event(kind, stamp, minion, None)


def new(jid: str, *minions: str) -> Event:
    """Return the event of a published job."""
    return Event("job_new", 1000.0, None, JobNew(jid, "test.ping", minions, ()))


def close(seen: Activity, now: float) -> None:
    """Close the jobs that are due."""
    for job in seen.jobs.due(now):
        seen.jobs.close(job, now, now, None, {})


def answer(jid: str, minion: str) -> Event:
    """Return the event of a minion's return."""
    job = JobReturn(jid, "test.ping", minion, success=True, scheduled=False, asks_for="", empty=False)
    return Event("job_return", 1001.5, minion, job)


def test_events_are_counted_by_kind_and_bad_ones_apart(seen: Activity) -> None:
    """Each event counts under its kind; bodies that were none add up beside them."""
    seen.take([sign("web1"), sign("web2"), sign("web1", "auth")], 2, 0.0, 0.0)
    seen.take([sign("web1")], 1, 0.0, 0.0)

    assert {"other": 3, "auth": 1} == seen.kinds
    assert 3 == seen.undecodable


def test_a_syndic_is_known_by_its_word_or_by_the_master(seen: Activity) -> None:
    """Who says to be a syndic is expected to return nothing, as are those the master has stored, while it has a key."""
    seen.take([sign("low1", "syndic"), sign("web1"), new("1", "low1", "web1")], 0, 0.0, 0.0)
    assert 1 == seen.jobs.outstanding

    seen.know_syndics(["low2"])
    assert {"low1", "low2"} == seen.jobs.syndics
    seen.keep_only(["web1"])
    seen.know_syndics([])
    assert not seen.jobs.syndics


def test_last_sign_of_life_is_the_latest(seen: Activity) -> None:
    """Each minion was last seen when its newest event was taken; events of nobody are nobody's."""
    seen.take([sign("web1"), sign("web2")], 0, 1.0, 100.0)
    seen.take([sign("web1"), Event("stats", None, None, None)], 0, 2.0, 200.0)

    assert {"web1": 200.0, "web2": 100.0} == seen.last_seen()


def test_answers_are_copies(seen: Activity) -> None:
    """What somebody holds does not change under him."""
    seen.take([sign("web1")], 0, 1.0, 100.0)
    before = seen.last_seen()
    seen.take([sign("web2")], 0, 1.0, 100.0)

    assert {"web1": 100.0} == before


def test_last_stamp_is_that_of_the_newest_event_that_has_one(seen: Activity) -> None:
    """Events without a time stamp do not take it away."""
    assert seen.last_stamp is None
    seen.take([sign("web1", stamp=5.0), sign("web1", stamp=7.0), sign("web1")], 0, 1.0, 100.0)

    assert 7.0 == seen.last_stamp


def test_ids_that_the_network_sends_are_bounded(seen: Activity, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound no new id is remembered, while those that are known go on being seen."""
    monkeypatch.setattr(activity, "_MAX_SEEN", 3)
    seen.take([sign(f"web{number}") for number in range(5)], 0, 1.0, 100.0)
    seen.take([sign("web0"), sign("web9")], 0, 2.0, 200.0)

    assert {"web0": 200.0, "web1": 100.0, "web2": 100.0} == seen.last_seen()


def test_only_accepted_minions_are_kept(seen: Activity) -> None:
    """Whoever's key is gone is forgotten, and makes room; how often it was missed, too."""
    seen.take([sign("web1"), sign("web2"), new("1", "web1", "web2")], 0, 1.0, 100.0)
    close(seen, 1.0 + DEADLINE)
    seen.keep_only(frozenset(("web2", "web3")))

    assert {"web2": 100.0} == seen.last_seen()
    assert {"web2": 1} == seen.jobs.consecutive


def test_start_events_prolong_their_jobs(seen: Activity) -> None:
    """A minion that says that it has begun has a whole deadline from then on."""
    started = Event("job_start", 1001.0, "web1", JobStart("1", "web1"))
    seen.take([new("1", "web1")], 0, 0.0, 100.0)
    seen.take([started], 0, DEADLINE - 1, 100.0)

    assert [] == seen.jobs.due(2 * DEADLINE - 2)
    assert 1 == len(seen.jobs.due(2 * DEADLINE - 1))


def test_jobs_follow_their_events_in_order(seen: Activity) -> None:
    """A batch of events opens a job, answers it and closes it when its time has come."""
    seen.take([new("1", "web1", "web2"), answer("1", "web1"), answer("1", "web2")], 0, 10.0, 100.0)
    assert (1, 0) == (seen.jobs.in_flight, seen.jobs.outstanding)

    assert [] == seen.jobs.due(11.0)
    assert 1 == seen.jobs.in_flight
    close(seen, 12.0)

    counters = seen.jobs.functions["test.ping"]
    assert 0 == seen.jobs.in_flight
    assert (1, 2, {"complete": 1, "incomplete": 0, "unknown": 0}) == (counters.new, counters.expected, counters.closed)
    assert 3.0 == counters.seconds.value().sum  # twice from the stamp of the job to that of the return


def test_gap_reaches_the_jobs(seen: Activity) -> None:
    """A job during which the bus was lost does not end as incomplete."""
    seen.take([new("1", "web1")], 0, 10.0, 100.0)
    seen.gap()
    close(seen, 10.0 + DEADLINE)

    assert {"complete": 0, "incomplete": 0, "unknown": 1} == seen.jobs.functions["test.ping"].closed
