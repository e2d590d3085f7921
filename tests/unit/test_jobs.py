"""The jid ledger: how jobs end, who is late, twice or unexpected, and that the books always balance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salt_exporter.analysis import jobs
from salt_exporter.analysis.jobs import OTHER, SETTLE, FunctionCounters, JobLedger
from salt_exporter.master.events import JobNew, JobReturn

if TYPE_CHECKING:
    from collections.abc import Iterable

DEADLINE = 60.0
PING = "test.ping"


class Ledger(JobLedger):
    """A ledger that is told in few words; times are seconds since the first event."""

    def __init__(self, max_functions: int = 10, max_jobs: int = 100) -> None:
        super().__init__(DEADLINE, max_functions, max_jobs)

    def new(self, jid: str, *minions: str, at: float = 0.0, function: str = PING, stamp: float | None = None) -> None:
        """Publish a job, or more of it."""
        self.published(JobNew(jid, function, minions, ()), at if stamp is None else stamp, at)

    def ret(self, jid: str, minion: str, at: float = 1.0, function: str = PING, *, success: bool = True) -> None:
        """Let a minion return."""
        self.returned(JobReturn(jid, function, minion, success, scheduled=False, asks_for="", empty=False), at, at)

    def find(self, jid: str, minion: str, at: float, *, runs: bool) -> None:
        """Let a minion answer whether it runs a job."""
        answer = JobReturn(
            "find", "saltutil.find_job", minion, success=True, scheduled=False, asks_for=jid, empty=not runs
        )
        self.returned(answer, at, at)

    def of(self, function: str = PING) -> FunctionCounters:
        """Return the counters of a function."""
        return self.functions[function]

    def outcomes(self, function: str = PING) -> dict[str, int]:
        """Return how often jobs of a function ended in which way; only what happened."""
        return {outcome: number for outcome, number in self.of(function).closed.items() if number}


@pytest.fixture
def ledger() -> Ledger:
    """Return an empty ledger."""
    return Ledger()


# --- how jobs end ---


def test_job_is_complete_a_moment_after_the_last_return(ledger: Ledger) -> None:
    """When all have returned the job stays open for a moment, in case a batch goes on, and is then complete."""
    ledger.new("1", "a", "b")
    ledger.ret("1", "a", at=1.0)
    ledger.tick(30.0)
    assert (1, 1) == (ledger.in_flight, ledger.outstanding)

    ledger.ret("1", "b", at=31.0)
    ledger.tick(31.0 + SETTLE - 0.1)
    assert (1, 0) == (ledger.in_flight, ledger.outstanding)

    ledger.tick(31.0 + SETTLE)
    assert (0, 0) == (ledger.in_flight, ledger.outstanding)
    assert {"complete": 1} == ledger.outcomes()
    assert (1, 2, 2, 2) == (
        ledger.of().new,
        ledger.of().expected,
        ledger.of().closed_expected,
        ledger.of().closed_received,
    )


def test_job_is_incomplete_at_its_deadline(ledger: Ledger) -> None:
    """Whoever has not returned by then is missing."""
    ledger.new("1", "a", "b", "c", "d")
    ledger.ret("1", "a")
    ledger.tick(DEADLINE - 0.1)
    assert 3 == ledger.outstanding

    ledger.tick(DEADLINE)
    assert (0, 0) == (ledger.in_flight, ledger.outstanding)
    assert {"incomplete": 1} == ledger.outcomes()
    assert (4, 1) == (ledger.of().closed_expected, ledger.of().closed_received)


def test_job_that_is_complete_at_its_deadline_is_complete(ledger: Ledger) -> None:
    """The deadline does not make a job incomplete whose last minion has just returned."""
    ledger.new("1", "a")
    ledger.ret("1", "a", at=DEADLINE - 0.1)
    ledger.tick(DEADLINE)

    assert {"complete": 1} == ledger.outcomes()


def test_job_that_named_nobody_is_unknown(ledger: Ledger) -> None:
    """Where nobody knows who was to answer, returns make nothing complete, and none is unexpected."""
    ledger.new("1")
    ledger.ret("1", "a")
    ledger.tick(SETTLE + 2.0)
    assert 1 == ledger.in_flight

    ledger.tick(DEADLINE)
    assert {"unknown": 1} == ledger.outcomes()
    assert (0, 0, 0) == (ledger.of().closed_expected, ledger.of().closed_received, ledger.of().unexpected)
    assert 0 == sum(ledger.of().completion.value().counts)


def test_gap_makes_missing_returns_unknown(ledger: Ledger) -> None:
    """While the bus was not read returns may have passed: what lacks them afterwards is not called incomplete."""
    ledger.new("1", "a")
    ledger.new("2", "a")
    ledger.gap()
    ledger.new("3", "a", at=1.0)
    ledger.ret("2", "a", at=2.0)
    ledger.tick(DEADLINE + 1.0)

    assert {"unknown": 1, "complete": 1, "incomplete": 1} == ledger.outcomes()
    assert (2, 1) == (ledger.of().closed_expected, ledger.of().closed_received)


def test_completion_ratio_of_each_closed_job(ledger: Ledger) -> None:
    """One observation per closed job that anything is known about."""
    ledger.new("1", "a", "b")
    ledger.ret("1", "a")
    ledger.new("2", "a", "b", "c", "d")
    ledger.new("3", "a")
    ledger.ret("3", "a")
    ledger.new("4")
    ledger.tick(DEADLINE)

    value = ledger.of().completion.value()
    assert 1.5 == value.sum
    filled = {bound for bound, count in zip(value.bounds, value.counts, strict=False) if count}
    assert {0.0, 0.5, 1.0} == filled


# --- find_job ---


def test_minion_that_still_runs_the_job_prolongs_it(ledger: Ledger) -> None:
    """As long as somebody says that it runs there is no deadline but the next one."""
    ledger.new("1", "a", "b")
    ledger.find("1", "a", at=50.0, runs=True)
    ledger.tick(50.0 + DEADLINE - 0.1)
    assert 2 == ledger.outstanding

    ledger.tick(50.0 + DEADLINE)
    assert {"incomplete": 1} == ledger.outcomes()


@pytest.mark.parametrize(
    ("jid", "minion", "runs"),
    [("1", "a", False), ("1", "c", True), ("1", "done", True), ("2", "a", True), ("", "a", True)],
)
def test_other_answers_prolong_nothing(ledger: Ledger, jid: str, minion: str, runs: object) -> None:
    """An answer "not here", one of a minion that need not answer any more, or about another job, changes nothing."""
    ledger.new("1", "a", "done")
    ledger.ret("1", "done")
    ledger.find(jid, minion, at=50.0, runs=bool(runs))
    ledger.tick(DEADLINE)

    assert {"incomplete": 1} == ledger.outcomes()


def test_answer_never_shortens_a_deadline(ledger: Ledger) -> None:
    """Events that come out of order do not close a job early."""
    ledger.new("1", "a", at=10.0)
    ledger.find("1", "a", at=5.0, runs=True)
    ledger.tick(9.0 + DEADLINE)

    assert 1 == ledger.in_flight


def test_find_job_itself_is_no_job(ledger: Ledger) -> None:
    """Salt's own questions are neither jobs nor responses, whether answered or not."""
    ledger.new("find", "a", "b", function="saltutil.find_job")
    ledger.find("1", "a", at=1.0, runs=True)
    ledger.tick(DEADLINE)

    assert {} == ledger.functions
    assert 0 == ledger.in_flight


# --- returns that are not what was expected ---


def test_return_after_closing_is_late(ledger: Ledger) -> None:
    """It is counted as late and as a response, and changes nothing about how the job ended."""
    ledger.new("1", "a", "b")
    ledger.tick(DEADLINE)
    ledger.ret("1", "a", at=DEADLINE + 5.0)

    assert (1, 0, 0) == (ledger.of().late, ledger.of().duplicate, ledger.of().unexpected)
    assert {"incomplete": 1} == ledger.outcomes()
    assert 0 == ledger.of().closed_received
    assert {True: 1, False: 0} == ledger.of().responses


@pytest.mark.parametrize("at", [2.0, DEADLINE + 5.0])
def test_second_return_is_a_duplicate(ledger: Ledger, at: float) -> None:
    """A minion that the master did not answer in time returns again: before or after the end, that is a duplicate."""
    ledger.new("1", "a", "b")
    ledger.ret("1", "a")
    ledger.tick(at)
    ledger.ret("1", "a", at=at)
    ledger.ret("1", "a", at=at)

    assert (2, 0, 0) == (ledger.of().duplicate, ledger.of().late, ledger.of().unexpected)
    assert 3 == ledger.of().responses[True]
    assert 1 == sum(ledger.of().seconds.value().counts)


def test_duplicate_of_a_late_return_is_no_second_late_one(ledger: Ledger) -> None:
    """Each expected minion is late once at most."""
    ledger.new("1", "a")
    ledger.tick(DEADLINE)
    ledger.ret("1", "a", at=DEADLINE + 1.0)
    ledger.ret("1", "a", at=DEADLINE + 2.0)

    assert (1, 1) == (ledger.of().late, ledger.of().duplicate)


@pytest.mark.parametrize("at", [2.0, DEADLINE + 5.0])
def test_return_of_a_minion_that_was_not_named_is_unexpected(ledger: Ledger, at: float) -> None:
    """It is counted, once, and completes nothing."""
    ledger.new("1", "a")
    ledger.tick(at)
    ledger.ret("1", "stranger", at=at)
    ledger.ret("1", "stranger", at=at)

    assert (1, 1, 0) == (ledger.of().unexpected, ledger.of().duplicate, ledger.of().late)
    ledger.tick(DEADLINE)
    assert {"incomplete": 1} == ledger.outcomes()


def test_return_of_an_unknown_job_is_a_response_and_no_more(ledger: Ledger) -> None:
    """Schedules on minions, salt-call, and jobs from before we listened return under jids nobody has published."""
    ledger.ret("unheard", "a", success=False)
    ledger.ret("unheard", "a")

    assert {True: 1, False: 1} == ledger.of().responses
    assert (0, 0, 0, 0) == (ledger.of().new, ledger.of().late, ledger.of().duplicate, ledger.of().unexpected)
    assert 0 == sum(ledger.of().seconds.value().counts)
    assert 0 == ledger.in_flight


# --- several publications of one job ---


def test_publications_of_one_jid_are_one_job(ledger: Ledger) -> None:
    """What the parts name is united: a minion named twice is expected once."""
    ledger.new("1", "a", "b", at=0.0)
    ledger.new("1", "b", "c", at=1.0)
    assert (1, 3) == (ledger.in_flight, ledger.outstanding)
    assert (1, 3) == (ledger.of().new, ledger.of().expected)

    for minion in "abc":
        ledger.ret("1", minion, at=2.0)
    ledger.tick(2.0 + SETTLE)
    assert {"complete": 1} == ledger.outcomes()
    assert (3, 3) == (ledger.of().closed_expected, ledger.of().closed_received)


def test_later_publication_prolongs_the_job(ledger: Ledger) -> None:
    """The minions of the next chunk of a batch have their time, too."""
    ledger.new("1", "a")
    ledger.new("1", "b", at=50.0)
    ledger.tick(50.0 + DEADLINE - 0.1)

    assert 1 == ledger.in_flight


def test_next_chunk_comes_before_the_job_has_settled(ledger: Ledger) -> None:
    """A batch whose chunks follow each other closely is one job, complete at its end."""
    for number, minion in enumerate("abc"):
        ledger.new("1", minion, at=number * SETTLE)
        ledger.ret("1", minion, at=number * SETTLE + 1.0)
        ledger.tick((number + 1) * SETTLE)
    assert 1 == ledger.in_flight

    ledger.tick(4 * SETTLE)
    assert {"complete": 1} == ledger.outcomes()
    assert (1, 3, 3) == (ledger.of().new, ledger.of().expected, ledger.of().closed_received)


def test_next_chunk_may_take_longer_than_the_settling(ledger: Ledger) -> None:
    """Once the next chunk is published the job waits for it, however long ago the last return of the one before was."""
    ledger.new("1", "a")
    ledger.ret("1", "a", at=1.0)
    ledger.new("1", "b", at=2.0)
    ledger.tick(30.0)

    assert (1, 1) == (ledger.in_flight, ledger.outstanding)


def test_chunk_after_closing_opens_the_job_again(ledger: Ledger) -> None:
    """What the job was stays counted, only the new minions count anew, and it is no new job."""
    ledger.new("1", "a")
    ledger.ret("1", "a")
    ledger.tick(1.0 + SETTLE)
    ledger.new("1", "a", "b", at=20.0)
    assert (1, 1) == (ledger.in_flight, ledger.outstanding)
    assert (2, 0) == (ledger._open_ids, ledger._closed_ids)

    ledger.tick(20.0 + DEADLINE)
    assert (0, 2) == (ledger._open_ids, ledger._closed_ids)
    assert (1, 2) == (ledger.of().new, ledger.of().expected)
    assert {"complete": 1, "incomplete": 1} == ledger.outcomes()
    assert (2, 1) == (ledger.of().closed_expected, ledger.of().closed_received)


def test_return_to_an_earlier_chunk_is_late(ledger: Ledger) -> None:
    """Whoever was missing when the job was closed is late, also while the job is open again for others."""
    ledger.new("1", "a")
    ledger.tick(DEADLINE)
    ledger.new("1", "a", "b", at=70.0)
    assert 1 == ledger.outstanding

    ledger.ret("1", "a", at=71.0)
    ledger.ret("1", "b", at=72.0)
    assert (1, 0) == (ledger.of().late, ledger.of().unexpected)

    ledger.tick(72.0 + SETTLE)
    assert {"incomplete": 1, "complete": 1} == ledger.outcomes()
    assert (2, 1) == (ledger.of().closed_expected, ledger.of().closed_received)


def test_return_of_an_earlier_chunk_again_is_a_duplicate(ledger: Ledger) -> None:
    """Who has returned before the job was opened again has returned."""
    ledger.new("1", "a")
    ledger.ret("1", "a")
    ledger.tick(1.0 + SETTLE)
    ledger.new("1", "b", at=20.0)
    ledger.ret("1", "a", at=21.0)

    assert (1, 0) == (ledger.of().duplicate, ledger.of().unexpected)


@pytest.mark.parametrize("minions", [("a", "b"), ("a",), ()])
def test_publication_that_names_nobody_new_opens_nothing(ledger: Ledger, minions: Iterable[str]) -> None:
    """A closed job that is merely published again, as by another syndic, has ended all the same."""
    ledger.new("1", "a", "b")
    ledger.ret("1", "a")
    ledger.tick(DEADLINE)
    ledger.new("1", *minions, at=70.0)

    assert 0 == ledger.in_flight
    assert (1, 2) == (ledger.of().new, ledger.of().expected)


def test_gap_before_the_next_chunk_does_not_count_for_it(ledger: Ledger) -> None:
    """A job that is opened again is observed from then on."""
    ledger.new("1", "a")
    ledger.gap()
    ledger.tick(DEADLINE)
    ledger.new("1", "b", at=70.0)
    ledger.tick(70.0 + DEADLINE)

    assert {"unknown": 1, "incomplete": 1} == ledger.outcomes()


# --- response times ---


def test_response_time_is_the_masters_own(ledger: Ledger) -> None:
    """From the stamp of the publication to the stamp of the return, whenever we took them."""
    ledger.new("1", "a", "b", stamp=1000.0)
    for minion, stamp in (("a", 1000.25), ("b", 1004.0), ("stranger", 1010.0)):
        event = JobReturn("1", PING, minion, success=True, scheduled=False, asks_for="", empty=False)
        ledger.returned(event, stamp, 99.0)

    value = ledger.of().seconds.value()
    assert 14.25 == value.sum
    assert 3 == sum(value.counts)


def test_response_time_of_a_later_chunk_begins_with_it(ledger: Ledger) -> None:
    """A minion is not slow because its part of a batch was published late; also not if it answers after the end."""
    ledger.new("1", "a", at=0.0)
    ledger.new("1", "b", "c", at=50.0)
    ledger.ret("1", "b", at=51.0)
    ledger.ret("1", "a", at=52.0)
    assert 53.0 == ledger.of().seconds.value().sum

    ledger.tick(50.0 + DEADLINE)
    ledger.ret("1", "c", at=150.0)
    assert 153.0 == ledger.of().seconds.value().sum


def test_response_time_is_never_negative(ledger: Ledger) -> None:
    """Stamps of neighbouring events may run backwards."""
    ledger.new("1", "a", at=5.0)
    ledger.ret("1", "a", at=4.9)

    assert 0.0 == ledger.of().seconds.value().sum
    assert 1 == sum(ledger.of().seconds.value().counts)


def test_without_stamps_there_is_no_response_time(ledger: Ledger) -> None:
    """An event whose stamp cannot be read counts all the same."""
    ledger.published(JobNew("1", PING, ("a",), ()), None, 0.0)
    ledger.ret("1", "a")
    ledger.new("2", "a")
    ledger.returned(JobReturn("2", PING, "a", success=True, scheduled=False, asks_for="", empty=False), None, 1.0)

    assert 0 == sum(ledger.of().seconds.value().counts)
    assert 2 == ledger.of().responses[True]


# --- bounds ---


def test_functions_beyond_the_bound_are_other() -> None:
    """The first functions have counters of their own, all later ones share those of `other`."""
    ledger = Ledger(max_functions=2)
    for number in range(5):
        ledger.new(str(number), "a", function=f"mod.f{number}")
        ledger.ret(str(number), "a", function=f"mod.f{number}")
    ledger.tick(DEADLINE)

    assert ["mod.f0", "mod.f1", OTHER] == list(ledger.functions)
    assert (1, 3) == (ledger.of("mod.f0").new, ledger.of(OTHER).new)
    assert {"complete": 3} == ledger.outcomes(OTHER)
    assert 3 == ledger.of(OTHER).responses[True]


def test_oldest_job_is_given_up_beyond_the_bound() -> None:
    """More jobs at once than are followed end as unknown, the oldest first, unless they are complete."""
    ledger = Ledger(max_jobs=2)
    ledger.new("1", "a")
    ledger.new("2", "a")
    ledger.ret("2", "a")
    for jid in ("3", "4"):
        ledger.new(jid, "a")

    assert 2 == ledger.in_flight
    assert {"unknown": 1, "complete": 1} == ledger.outcomes()
    ledger.tick(DEADLINE)
    assert {"unknown": 1, "complete": 1, "incomplete": 2} == ledger.outcomes()


def test_no_job_at_all_can_be_followed() -> None:
    """With a bound of 0 everything is counted, and ends at once."""
    ledger = Ledger(max_jobs=0)
    ledger.new("1", "a")

    assert 0 == ledger.in_flight
    assert {"unknown": 1} == ledger.outcomes()


def test_ids_of_jobs_in_flight_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few jobs with very many minions are bounded like many jobs, but the newest is always followed."""
    monkeypatch.setattr(jobs, "_MAX_IDS", 10)
    ledger = Ledger()
    for jid in ("1", "2", "3"):
        ledger.new(jid, *(f"{number}" for number in range(5)))
    assert 2 == ledger.in_flight
    assert {"unknown": 1} == ledger.outcomes()

    ledger.new("4", *(f"{number}" for number in range(100)))
    assert (1, 100) == (ledger.in_flight, ledger.outstanding)


def test_closed_jobs_are_remembered_up_to_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """The latest jobs are known to tell late returns; of older ones a return is one of an unknown job."""
    monkeypatch.setattr(jobs, "_KEPT_CLOSED", 2)
    ledger = Ledger()
    for jid in ("1", "2", "3"):
        ledger.new(jid, "a")
        ledger.tick(DEADLINE)
    for jid in ("1", "2", "3"):
        ledger.ret(jid, "a", at=70.0)

    assert 2 == ledger.of().late
    assert 3 == ledger.of().responses[True]


def test_ids_of_closed_jobs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However large jobs are, what is remembered of closed ones is not."""
    monkeypatch.setattr(jobs, "_KEPT_IDS", 10)
    ledger = Ledger()
    for jid in ("1", "2", "3"):
        ledger.new(jid, *(f"{number}" for number in range(4)))
        ledger.tick(DEADLINE)
    assert ["2", "3"] == list(ledger._closed)

    for number in range(100, 103):  # strangers count as well
        ledger.ret("3", f"{number}", at=70.0)
    ledger.new("4", "a", at=70.0)
    ledger.tick(70.0 + DEADLINE)
    assert ["3", "4"] == list(ledger._closed)


# --- books ---

_jids, _minions = st.sampled_from("12"), st.sampled_from("abcd")
_operations = st.one_of(
    st.tuples(st.just("new"), _jids, st.sets(_minions)),
    st.tuples(st.just("new"), _jids, st.sets(_minions)),
    st.tuples(st.just("ret"), _jids, _minions),
    st.tuples(st.just("ret"), _jids, _minions),
    st.tuples(st.just("ret"), _jids, _minions),
    st.tuples(st.just("find"), _jids, _minions),
    st.tuples(st.just("gap"), st.none(), st.none()),
    st.tuples(st.just("wait"), st.sampled_from((1.0, SETTLE, DEADLINE / 2, DEADLINE)), st.none()),
)


def _apply(ledger: Ledger, operation: tuple[str, object, object], now: float) -> float:
    """Do one operation; return the time after it."""
    name, first, second = operation
    if name == "new" and isinstance(second, set):
        ledger.new(str(first), *second, at=now)
    elif name == "ret":
        ledger.ret(str(first), str(second), at=now)
    elif name == "find":
        ledger.find(str(first), str(second), at=now, runs=True)
    elif name == "gap":
        ledger.gap()
    elif isinstance(first, float):
        now += first
        ledger.tick(now)
    return now


def _numbers(counters: FunctionCounters) -> list[int]:
    """Return all counters, in an order of their own."""
    plain = (counters.new, counters.expected, counters.closed_expected, counters.closed_received)
    odd = (counters.late, counters.duplicate, counters.unexpected)
    return [*plain, *odd, *counters.responses.values(), *counters.closed.values()]


@given(st.lists(_operations, max_size=30), st.integers(1, 3))
@settings(deadline=None)
def test_books_balance_at_all_times(operations: list[tuple[str, object, object]], max_jobs: int) -> None:
    """Whatever happens in which order: each expected response has come, is outstanding, or is missing."""
    ledger = Ledger(max_jobs=max_jobs)
    counters = ledger._counters(PING)
    named: set[tuple[str, str]] = set()
    returned: set[tuple[str, str]] = set()
    published: set[str] = set()
    now, before = 0.0, _numbers(counters)
    for operation in operations:
        name, jid, what = operation
        if name == "new" and isinstance(what, set):
            published.add(str(jid))
            named |= {(str(jid), minion) for minion in what} - returned
        elif name == "ret" and jid in published:
            returned.add((str(jid), str(what)))
        now = _apply(ledger, operation, now)

        missing = sum(len(job.missed) for job in (*ledger._open.values(), *ledger._closed.values()))
        assert len(named) == counters.expected == len(named & returned) + ledger.outstanding + missing
        assert len(published) == counters.new
        after = _numbers(counters)
        assert all(0 <= old <= new for old, new in zip(before, after, strict=True))
        before = after
        assert counters.closed_received <= counters.closed_expected <= counters.expected
        assert counters.late <= len(named & returned)
        assert counters.unexpected <= len(returned - named)
        assert ledger.in_flight <= max_jobs
        assert sum(job.ids for job in ledger._open.values()) == ledger._open_ids
        assert sum(job.ids for job in ledger._closed.values()) == ledger._closed_ids

    ledger.tick(now + 2 * DEADLINE)
    assert (0, 0) == (ledger.in_flight, ledger.outstanding)
    assert counters.new <= sum(counters.closed.values())
    assert sum(counters.completion.value().counts) == counters.closed["complete"] + counters.closed["incomplete"]
