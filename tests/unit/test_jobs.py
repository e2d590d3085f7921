"""The jid ledger: how jobs end, who is late, twice or unexpected, and that the books always balance."""

from __future__ import annotations

import sys
import tracemalloc
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salt_exporter.analysis import jobs
from salt_exporter.analysis.causes import CAUSES, Cause
from salt_exporter.analysis.deadlines import Deadlines
from salt_exporter.analysis.jobs import OTHER, SETTLE, FunctionCounters, Job, JobLedger
from salt_exporter.master.events import JobNew, JobReturn, JobStart
from salt_exporter.metric import Exemplar

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

DEADLINE = 60.0
DAY = 86400.0
WALL = 1_800_000_000.0
PING = "test.ping"


class Ledger(JobLedger):
    """A ledger that is told in few words; times are seconds since the first event."""

    def __init__(self, max_functions: int = 10, max_jobs: int = 100) -> None:
        super().__init__(Deadlines(DEADLINE), max_functions, max_jobs)

    def tick(
        self, at: float, cached: Collection[str] | None = None, causes: Mapping[str, Cause] | None = None
    ) -> dict[str, Cause]:
        """Close what is due; return who is missing."""
        missing: dict[str, Cause] = {}
        for job in self.due(at):
            missing |= self.close(job, at, WALL + at, cached, causes or {}) or {}
        return missing

    def new(
        self,
        jid: str,
        *minions: str,
        at: float = 0.0,
        function: str = PING,
        stamp: float | None = None,
        missing: tuple[str, ...] = (),
    ) -> None:
        """Publish a job, or more of it."""
        self.published(JobNew(jid, function, minions, missing), at if stamp is None else stamp, at)

    def ret(
        self,
        jid: str,
        minion: str,
        at: float = 1.0,
        function: str = PING,
        *,
        success: bool = True,
        sent: float | None = None,
        relayed: bool = False,
    ) -> None:
        """Let a minion return."""
        event = JobReturn(jid, function, minion, success, False, "", False, sent, relayed)  # noqa: FBT003 - in order
        self.returned(event, at, at)

    def find(self, jid: str, minion: str, at: float, *, runs: bool) -> None:
        """Let a minion answer whether it runs a job."""
        answer = JobReturn(
            "find", "saltutil.find_job", minion, success=True, scheduled=False, asks_for=jid, empty=not runs
        )
        self.returned(answer, at, at)

    def of(self, function: str = PING) -> FunctionCounters:
        """Return the counters of a function."""
        return self.functions[function]

    def job(self, jid: str) -> Job:
        """Return a job in flight."""
        return self._open[jid]

    def missing(self, function: str = PING) -> dict[Cause, int]:
        """Return the missing responses by cause; only what happened."""
        return {cause: number for cause, number in self.of(function).missing.items() if number}

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


@pytest.mark.parametrize("runs", [True, False])
def test_answers_are_kept_while_their_minion_is_expected(ledger: Ledger, *, runs: bool) -> None:
    """The last answer of each kind is evidence; of minions that have returned, or are nobody's, none is kept."""
    ledger.new("1", "a", "done")
    ledger.ret("1", "done")
    for minion, at in (("a", 10.0), ("a", 20.0), ("done", 20.0), ("stranger", 20.0)):
        ledger.find("1", minion, at=at, runs=runs)

    job = ledger.job("1")
    assert ({"a": 20.0}, {}) == ((job.running, job.denied) if runs else (job.denied, job.running))


def test_job_is_not_followed_for_longer_than_a_day(ledger: Ledger) -> None:
    """Whoever goes on saying that it runs: a day after its publication the job is closed."""
    ledger.new("1", "a", at=5.0)
    at = 5.0
    while at < DAY + 2 * DEADLINE:
        at += DEADLINE / 2
        ledger.find("1", "a", at=at, runs=True)
        ledger.tick(at)
        assert (at < 5.0 + DAY) is bool(ledger.in_flight)

    assert {"incomplete": 1} == ledger.outcomes()


# --- start events ---


def test_start_event_prolongs_the_job(ledger: Ledger) -> None:
    """Who accepts a job has a whole deadline from then on, and that it has is remembered."""
    ledger.new("1", "a", "b")
    ledger.started(JobStart("1", "a"), 50.0)
    assert {"a": 50.0} == ledger.job("1").started

    ledger.tick(50.0 + DEADLINE - 0.1)
    assert 1 == ledger.in_flight
    ledger.tick(50.0 + DEADLINE)
    assert {"incomplete": 1} == ledger.outcomes()


@pytest.mark.parametrize(("jid", "minion"), [("1", "stranger"), ("1", "done"), ("2", "a"), ("", "")])
def test_other_start_events_mean_nothing(ledger: Ledger, jid: str, minion: str) -> None:
    """A start of a minion that need not answer (any more), or of another job, changes nothing."""
    ledger.new("1", "a", "done")
    ledger.ret("1", "done")
    ledger.started(JobStart(jid, minion), 50.0)
    assert {} == ledger.job("1").started

    ledger.tick(DEADLINE)
    assert {"incomplete": 1} == ledger.outcomes()


def test_start_event_of_a_closed_job_means_nothing(ledger: Ledger) -> None:
    """A job that has ended does not begin again."""
    ledger.new("1", "a")
    ledger.tick(DEADLINE)
    ledger.started(JobStart("1", "a"), 70.0)

    assert 0 == ledger.in_flight


# --- who is expected ---


def test_minions_without_a_key_are_expected_and_known_to_have_none(ledger: Ledger) -> None:
    """Those of a list target that the master calls missing will never return: they are responses to expect, too."""
    ledger.new("1", "a", missing=("nokey", "a"))
    assert ({"nokey", "a"}, 2) == (ledger.job("1").unknown, ledger.outstanding)

    ledger.ret("1", "a")
    assert {"nokey": Cause.UNKNOWN_MINION} == ledger.tick(DEADLINE, None, {"nokey": Cause.UNKNOWN_MINION})
    assert (2, 2, 1) == (ledger.of().expected, ledger.of().closed_expected, ledger.of().closed_received)


def test_syndics_are_not_expected(ledger: Ledger) -> None:
    """A master of masters names its syndics, which never return under their own name."""
    ledger.syndics = frozenset(("syndic1", "syndic2"))
    ledger.new("1", "syndic1", "a", missing=("syndic2",))
    assert (["a"], 1) == (ledger.job("1").responses.awaited(), ledger.of().expected)

    ledger.new("2", "syndic1")
    ledger.tick(DEADLINE)
    assert {"incomplete": 1, "unknown": 1} == ledger.outcomes()  # of the second nobody knows who is below


def test_job_of_this_master_has_returned_to_another_of_the_cluster(ledger: Ledger) -> None:
    """A return counts where its job was published; how long it was on its way is the other master's to tell."""
    ledger.new("1", "a", "b")
    ledger.ret("1", "a", relayed=True, sent=0.0)
    ledger.ret("1", "b", sent=0.0)

    assert {} == ledger.tick(1 + SETTLE)
    assert {"complete": 1} == ledger.outcomes()
    assert (2, 1) == (ledger.of().responses[True], sum(ledger.delivery._counts))


def test_job_of_another_master_of_the_cluster(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the other master's, and so are its returns, wherever they come in; only the newest such jobs are known."""
    monkeypatch.setattr(jobs, "_KEPT_ELSEWHERE", 2)
    for jid in ("1", "2", "3"):
        ledger.published(JobNew(jid, PING, ("a", "b"), (), relayed=True), 0.0, 0.0)
    ledger.ret("2", "a", relayed=True)
    ledger.ret("2", "b", sent=0.0)
    ledger.ret("scheduled there", "a", relayed=True)
    assert (0, {}, 1) == (ledger.in_flight, ledger.functions, sum(ledger.delivery._counts))

    ledger.ret("1", "b")
    assert 1 == ledger.of().responses[True]


def test_trimmed_list_is_told_later(ledger: Ledger) -> None:
    """Whom Salt has cut out of the event is named when the job cache tells; the deadline runs from then."""
    ledger.published(JobNew("1", PING, (), (), trimmed=True), 0.0, 0.0)
    ledger.new("2", "a")
    (job,) = ledger.unnamed()
    assert (True, 0) == (job.trimmed, job.expected)

    ledger.named(job, ("a", "b"), 2.0)
    assert [] == ledger.unnamed()
    assert ["2", "1"] == [opened.jid for opened in ledger.opened]
    ledger.ret("1", "a", at=3.0)
    ledger.ret("1", "b", at=4.0)
    assert 3.0 + 4.0 == ledger.of().seconds.value().sum  # from the publication
    ledger.tick(DEADLINE)
    assert {"complete": 1, "incomplete": 1} == ledger.outcomes()
    assert (3, 3, 2) == (ledger.of().expected, ledger.of().closed_expected, ledger.of().closed_received)


def test_return_before_the_trimmed_list_is_told_is_an_expected_one(ledger: Ledger) -> None:
    """Some have returned before anybody knew that they were to: they count as expected and received."""
    ledger.published(JobNew("1", PING, (), (), trimmed=True), 0.0, 0.0)
    ledger.ret("1", "a", at=0.5)
    ledger.ret("1", "stranger", at=0.6)
    (job,) = ledger.unnamed()
    ledger.named(job, ("a", "b"), 1.0)
    assert (2, 1) == (ledger.of().expected, ledger.outstanding)

    ledger.tick(1.0 + DEADLINE)
    assert (2, 1, 0) == (ledger.of().closed_expected, ledger.of().closed_received, ledger.of().unexpected)


def test_trimmed_list_of_which_all_have_returned_is_complete(ledger: Ledger) -> None:
    """A job that was over before anybody knew who was expected ends after the usual moment."""
    ledger.published(JobNew("1", PING, (), (), trimmed=True), 0.0, 0.0)
    ledger.ret("1", "a", at=0.5)
    (job,) = ledger.unnamed()
    ledger.named(job, ("a",), 1.0)
    ledger.tick(1.0 + SETTLE)

    assert {"complete": 1} == ledger.outcomes()


def test_closed_job_is_named_no_more(ledger: Ledger) -> None:
    """A list that is told when the job has ended comes too late."""
    ledger.published(JobNew("1", PING, (), (), trimmed=True), 0.0, 0.0)
    (job,) = ledger.unnamed()
    ledger.tick(DEADLINE)
    ledger.named(job, ("a",), 70.0)

    assert ({"unknown": 1}, 0, 0) == (ledger.outcomes(), ledger.in_flight, ledger.of().expected)


# --- causes ---


def test_missing_responses_are_counted_by_cause(ledger: Ledger) -> None:
    """Each missing response counts once under its cause, one that nobody explained as unknown."""
    ledger.new("1", "a", "b", "c", "d")
    ledger.ret("1", "d")
    causes = {"a": Cause.NOT_CONNECTED, "b": Cause.PUBLISHER_DROP, "d": Cause.DISCONNECTED, "x": Cause.DISCONNECTED}

    expected = {"a": Cause.NOT_CONNECTED, "b": Cause.PUBLISHER_DROP, "c": Cause.UNKNOWN}
    assert expected == ledger.tick(DEADLINE, frozenset(), causes)
    assert dict.fromkeys(expected.values(), 1) == ledger.missing()


def test_every_cause_is_counted_from_the_start(ledger: Ledger) -> None:
    """A function that is known has a count of 0 for each cause, so that the first loss is a rise."""
    ledger.new("1", "a")

    assert dict.fromkeys(CAUSES, 0) == ledger.of().missing


def test_exemplar_is_the_newest_loss_of_each_cause(ledger: Ledger) -> None:
    """It names job and minion, with the time of the closing."""
    for jid, minion, cause in (("1", "a", Cause.UNKNOWN), ("2", "b", Cause.UNKNOWN), ("3", "c", Cause.DISCONNECTED)):
        ledger.new(jid, minion)
        ledger.tick(DEADLINE + int(jid), None, {minion: cause})

    assert {
        Cause.UNKNOWN: Exemplar({"jid": "2", "minion": "b"}, 1.0, WALL + DEADLINE + 2),
        Cause.DISCONNECTED: Exemplar({"jid": "3", "minion": "c"}, 1.0, WALL + DEADLINE + 3),
    } == ledger.of().exemplars


def test_cause_belongs_to_the_function_of_the_job(ledger: Ledger) -> None:
    """Losses are counted where the job is."""
    ledger.new("1", "a", function="state.apply")
    ledger.tick(DEADLINE, None, {"a": Cause.DISCONNECTED})
    ledger.new("2", "a", at=70.0)

    assert ({Cause.DISCONNECTED: 1}, {}) == (ledger.missing("state.apply"), ledger.missing())


# --- the job cache ---


def test_return_in_the_job_cache_is_not_missing(ledger: Ledger) -> None:
    """It is counted apart, as received, and completes the job; others in the cache change nothing."""
    ledger.new("1", "a", "b", "c")
    ledger.ret("1", "a")

    assert {"c": Cause.UNKNOWN} == ledger.tick(DEADLINE, {"a", "b", "stranger"})
    assert (1, 0) == (ledger.cache_only, ledger.bus_only)
    assert (3, 2) == (ledger.of().closed_expected, ledger.of().closed_received)

    ledger.new("2", "a")
    assert {} == ledger.tick(DEADLINE, {"a"})
    assert {"incomplete": 1, "complete": 1} == ledger.outcomes()


def test_return_of_the_job_cache_that_comes_on_the_bus_after_all_is_a_duplicate(ledger: Ledger) -> None:
    """It has been counted as received, and is neither late nor a recovery."""
    ledger.new("1", "a")
    ledger.tick(DEADLINE, {"a"})
    ledger.ret("1", "a", at=70.0)

    assert (0, 1) == (ledger.of().late, ledger.of().duplicate)
    assert not ledger.recovered


@pytest.mark.parametrize(("cached", "outcome"), [(None, "unknown"), (frozenset(), "incomplete")])
def test_job_cache_decides_what_the_bus_cannot(ledger: Ledger, cached: Collection[str] | None, outcome: str) -> None:
    """After a gap a job without a return is unknown, unless the job cache knows that there is none."""
    ledger.new("1", "a")
    ledger.gap()
    ledger.tick(DEADLINE, cached)

    assert {outcome: 1} == ledger.outcomes()


def test_returns_are_verified_once(ledger: Ledger) -> None:
    """Who has returned on the bus is compared with the job cache when the job is closed, and not again after that."""
    ledger.new("1", "a", "b", "c")
    ledger.ret("1", "b")
    ledger.ret("1", "a")
    job = ledger.job("1")
    assert ["b", "a"] == job.unverified

    ledger.tick(DEADLINE, {"c"})
    assert [] == job.unverified
    ledger.new("1", "d", at=70.0)
    ledger.ret("1", "d", at=71.0)
    assert ["d"] == job.unverified


# --- closing takes a while, and the bus does not wait ---


def test_job_that_was_answered_meanwhile_is_complete(ledger: Ledger) -> None:
    """Between the question for causes and the closing the last one returns: nobody is missing."""
    ledger.new("1", "a", "b")
    ledger.ret("1", "a", at=30.0)
    (job,) = ledger.due(DEADLINE)
    ledger.ret("1", "b", at=DEADLINE + 0.5)

    assert {} == ledger.close(job, DEADLINE, WALL, frozenset(), {"b": Cause.DISCONNECTED})
    assert ({"complete": 1}, {}) == (ledger.outcomes(), ledger.missing())


def test_job_that_got_longer_meanwhile_stays_open(ledger: Ledger) -> None:
    """A start event, an answer or another chunk between question and closing: it is not closed, nothing is counted."""
    for jid in "123":
        ledger.new(jid, "a", "b")
    first, second, third = ledger.due(DEADLINE)
    ledger.started(JobStart("1", "a"), DEADLINE + 0.5)
    ledger.find("2", "a", at=DEADLINE + 0.5, runs=True)
    ledger.new("3", "c", at=DEADLINE + 0.5)

    causes = dict.fromkeys("ab", Cause.DISCONNECTED)
    assert [None] * 3 == [ledger.close(job, DEADLINE, WALL, {"a"}, causes) for job in (first, second, third)]
    assert (3, 7, 0, {}) == (ledger.in_flight, ledger.outstanding, ledger.cache_only, ledger.missing())
    assert {"a", "b"} == ledger.tick(DEADLINE * 3).keys() - {"c"}


def test_job_that_was_given_up_meanwhile_is_not_closed_again(ledger: Ledger) -> None:
    """What is not in flight any more cannot be closed, nor a job whose jid another one has taken."""
    ledger = Ledger(max_jobs=1)
    ledger.new("1", "a")
    (job,) = ledger.due(DEADLINE)
    ledger.new("2", "a", at=50.0)

    assert ledger.close(job, DEADLINE, WALL, None, {}) is None
    assert ({"unknown": 1}, {}) == (ledger.outcomes(), ledger.missing())
    assert ["1"] == list(ledger.given_up)


# --- consecutive misses ---


def test_misses_of_a_minion_add_up_until_it_returns(ledger: Ledger) -> None:
    """Any return, late or of a job nobody knows, proves that responses come again; a find_job answer does not."""
    for number in range(3):
        ledger.new(f"{number}", "a", "b", at=number * 100.0)
        ledger.tick(number * 100.0 + DEADLINE)
    assert {"a": 3, "b": 3} == ledger.consecutive

    ledger.find("9", "b", at=300.0, runs=True)
    ledger.ret("1", "a", at=300.0)
    assert {"b": 3} == ledger.consecutive
    ledger.ret("unheard", "b", at=300.0)
    assert {} == ledger.consecutive


@pytest.mark.parametrize("cause", CAUSES)
def test_only_what_the_minion_missed_counts_as_a_miss(ledger: Ledger, cause: Cause) -> None:
    """A gap of the exporter and a name without a key are no misses of a minion."""
    ledger.new("1", "a")
    ledger.tick(DEADLINE, None, {"a": cause})

    counted = cause not in {Cause.EXPORTER_GAP, Cause.UNKNOWN_MINION}
    assert ({"a": 1} if counted else {}) == ledger.consecutive
    assert {cause: 1} == ledger.missing()


def test_misses_of_deleted_keys_are_forgotten(ledger: Ledger) -> None:
    """Whose key is gone has no misses any more."""
    ledger.new("1", "a", "b")
    ledger.tick(DEADLINE)
    ledger.keep_only({"b", "c"})

    assert {"b": 1} == ledger.consecutive


# --- jobs of before a restart ---


def restored(ledger: Ledger, *minions: str, deadline: float = 40.0) -> Job:
    """Let the ledger go on with a job of before a restart; return it."""
    job = Job("1", PING, published=-30.0, opened=-30.0, deadline=deadline)
    ledger.restored(job, minions, 0.0)
    return job


def test_job_of_before_a_restart_goes_on(ledger: Ledger) -> None:
    """It is followed to its deadline, and was counted as new and expected before the restart."""
    restored(ledger, "a", "b")
    assert (1, 2) == (ledger.in_flight, ledger.outstanding)
    ledger.ret("1", "a", at=5.0)
    assert 35.0 == ledger.of().seconds.value().sum

    assert {} == ledger.tick(39.9)
    assert {"b": Cause.DISCONNECTED} == ledger.tick(40.0, frozenset("a"), {"b": Cause.DISCONNECTED})
    assert (0, 0, 2, 1) == (
        ledger.of().new,
        ledger.of().expected,
        ledger.of().closed_expected,
        ledger.of().closed_received,
    )


def test_job_of_before_a_restart_was_not_observed(ledger: Ledger) -> None:
    """Its returns may have passed: without the job cache it ends as unknown."""
    restored(ledger, "a")
    ledger.tick(40.0)

    assert {"unknown": 1} == ledger.outcomes()


def test_job_without_a_deadline_gets_a_whole_one(ledger: Ledger) -> None:
    """Where nobody knows how long a job had been prolonged it has its function's time from now."""
    restored(ledger, "a", deadline=0.0)
    ledger.tick(DEADLINE - 0.1)
    assert 1 == ledger.in_flight

    ledger.tick(DEADLINE)
    assert 0 == ledger.in_flight


def test_job_that_is_known_is_not_restored(ledger: Ledger) -> None:
    """Events of a job may come before it is restored: what they said holds."""
    ledger.new("1", "a", "b")
    restored(ledger, "a", "b", "c")
    assert 2 == ledger.outstanding

    ledger.tick(DEADLINE)
    restored(ledger, "a")
    assert 0 == ledger.in_flight


def test_restored_jobs_are_bounded() -> None:
    """A journal full of jobs is followed up to the bound, the newest."""
    ledger = Ledger(max_jobs=2)
    for number in range(4):
        ledger.restored(Job(f"{number}", PING, deadline=40.0), ("a",), 0.0)

    assert ["2", "3"] == list(ledger._open)
    assert ["0", "1"] == list(ledger.given_up)
    assert 2 == ledger._open_ids


def test_what_opens_and_recovers_is_told_once(ledger: Ledger) -> None:
    """The owner is told of each job that names somebody, also of each further chunk, and of each late return."""
    ledger.new("1", "a")
    ledger.new("1", "a")
    ledger.new("1", "b", at=1.0)
    ledger.new("2")
    restored(ledger, "a")
    assert ["1", "1"] == [job.jid for job in ledger.opened]

    ledger.tick(2 * DEADLINE)
    ledger.ret("1", "b", at=130.0)
    ledger.ret("1", "b", at=131.0)
    assert [("1", "b")] == list(ledger.recovered)


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


@pytest.mark.parametrize(
    ("stamp", "sent", "sum_and_count"),
    [(1005.5, 1004.0, (1.5, 1)), (1005.5, 1006.0, (0.0, 1)), (1005.5, None, (0.0, 0)), (None, 1004.0, (0.0, 0))],
)
def test_delivery_is_from_the_minions_clock_to_the_masters(
    ledger: Ledger, stamp: float | None, sent: float | None, sum_and_count: tuple[float, int]
) -> None:
    """How long a return travelled and waited, where both times are known; clocks may differ, time is not negative."""
    event = JobReturn("1", PING, "a", success=True, scheduled=False, asks_for="", empty=False, sent=sent)
    ledger.returned(event, stamp, 1.0)

    assert sum_and_count == (ledger.delivery.value().sum, sum(ledger.delivery.value().counts))


def test_delivery_of_answers_to_find_job_counts(ledger: Ledger) -> None:
    """They travel and wait like all returns."""
    event = JobReturn("f", jobs.FIND_JOB, "a", success=True, scheduled=False, asks_for="1", empty=True, sent=7.0)
    ledger.returned(event, 9.0, 1.0)

    assert 2.0 == ledger.delivery.value().sum


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


@pytest.mark.parametrize("returns", [True, False])
def test_containers_of_a_large_job_are_released_when_it_is_closed(ledger: Ledger, *, returns: bool) -> None:
    """What was needed to wait for 50,000 minions is given back: only who returned and who never did stays known."""
    minions = [f"minion-{number:05}.example.com" for number in range(50_000)]
    ledger.new("1", *minions, missing=tuple(minions[:10]))
    job = ledger.job("1")
    for minion in minions:
        ledger.started(JobStart("1", minion), 1.0)
        ledger.find("1", minion, at=1.0, runs=True)
        ledger.find("1", minion, at=1.0, runs=False)
    working = (job.started, job.running, job.denied, job.unknown)
    assert 50_000 == job.responses.outstanding == len(job.started) == len(job.running) == len(job.denied)
    assert sum(map(sys.getsizeof, working)) > 4_000_000  # bytes

    for minion in minions if returns else ():
        ledger.ret("1", minion, at=2.0)
    missing = ledger.tick(3 * DEADLINE)
    assert (0 if returns else 50_000) == len(missing)
    assert sum(map(sys.getsizeof, working)) < 2000
    assert (0, 50_000) == (ledger._open_ids, ledger._closed_ids)


def test_memory_of_large_jobs_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many large jobs have been closed, only as many ids as are allowed stay in memory."""
    monkeypatch.setattr(jobs, "_KEPT_IDS", 20_000)
    ledger = Ledger()
    minions = [f"minion-{number:05}.example.com" for number in range(10_000)]

    def run(number: int) -> int:
        ledger.new(f"{number}", *minions)
        ledger.tick(DEADLINE, None, dict.fromkeys(minions, Cause.NOT_CONNECTED))
        ledger.opened.clear()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        used = [run(number) for number in range(8)]
    finally:
        tracemalloc.stop()

    assert 20_000 == ledger._closed_ids
    assert used[-1] <= used[3] * 1.05


# --- books ---

_jids, _minions = st.sampled_from("12"), st.sampled_from("abcd")
_waits = st.sampled_from((1.0, SETTLE, DEADLINE / 2, DEADLINE))
_operations = st.one_of(
    st.tuples(st.just("new"), _jids, st.sets(_minions)),
    st.tuples(st.just("new"), _jids, st.sets(_minions)),
    st.tuples(st.just("ret"), _jids, _minions),
    st.tuples(st.just("ret"), _jids, _minions),
    st.tuples(st.just("ret"), _jids, _minions),
    st.tuples(st.just("find"), _jids, _minions),
    st.tuples(st.just("start"), _jids, _minions),
    st.tuples(st.just("gap"), st.none(), st.none()),
    st.tuples(st.just("wait"), _waits, st.none() | st.sets(_minions)),  # and who is in the job cache then
)
_causes = st.dictionaries(_minions, st.sampled_from(CAUSES))


class Books:
    """What happened to a ledger, counted in sets of (jid, minion)."""

    def __init__(self, max_jobs: int, causes: Mapping[str, Cause]) -> None:
        self.ledger = Ledger(max_jobs=max_jobs)
        self.counters = self.ledger._counters(PING)
        self.named: set[tuple[str, str]] = set()
        self.returned: set[tuple[str, str]] = set()  # on the event bus
        self.cached: set[tuple[str, str]] = set()  # found in the job cache alone
        self.lost: list[str] = []  # minions, each as often as it was called missing
        self.published: set[str] = set()
        self.now = 0.0
        self._causes = causes

    def do(self, operation: tuple[str, object, object]) -> None:
        """Do one operation."""
        name, first, second = operation
        if name == "new" and isinstance(second, set):
            self.published.add(str(first))
            self.named |= {(str(first), minion) for minion in second} - self.returned - self.cached
            self.ledger.new(str(first), *second, at=self.now)
        elif name == "ret":
            if first in self.published:
                self.returned.add((str(first), str(second)))
            self.ledger.ret(str(first), str(second), at=self.now)
        elif name == "find":
            self.ledger.find(str(first), str(second), at=self.now, runs=True)
        elif name == "start":
            self.ledger.started(JobStart(str(first), str(second)), self.now)
        elif name == "gap":
            self.ledger.gap()
        elif isinstance(first, float):
            self.now += first
            self.tick(second if isinstance(second, set) else None)

    def tick(self, cached: set[str] | None) -> None:
        """Close what is due, where the job cache holds these."""
        for job in self.ledger.due(self.now):
            self.cached |= {(job.jid, minion) for minion in set(job.responses.awaited()) & (cached or set())}
            lost = self.ledger.close(job, self.now, WALL, cached, self._causes)
            assert lost is not None
            self.lost += lost

    def numbers(self) -> list[int]:
        """Return all counters, in an order of their own."""
        counters = self.counters
        plain = (counters.new, counters.expected, counters.closed_expected, counters.closed_received)
        odd = (counters.late, counters.duplicate, counters.unexpected, self.ledger.cache_only)
        by_label = (*counters.responses.values(), *counters.closed.values(), *counters.missing.values())
        return [*plain, *odd, *by_label]


@given(st.lists(_operations, max_size=30), st.integers(1, 3), _causes)
@settings(deadline=None)
def test_books_balance_at_all_times(
    operations: list[tuple[str, object, object]], max_jobs: int, causes: Mapping[str, Cause]
) -> None:
    """Whatever happens in which order: each expected response has come, is outstanding, or is missing for one cause."""
    books = Books(max_jobs, causes)
    ledger, counters, before = books.ledger, books.counters, books.numbers()
    for operation in operations:
        books.do(operation)

        came = books.named & (books.returned | books.cached)
        missing = sum(job.responses.missed for job in (*ledger._open.values(), *ledger._closed.values()))
        assert len(books.named) == counters.expected == len(came) + ledger.outstanding + missing
        if not ledger.given_up:  # nobody looks for a cause there
            lost = sum(counters.missing.values())
            assert counters.expected == len(came) - counters.late + lost + ledger.outstanding
            assert missing == lost - counters.late == lost - len(ledger.recovered)
        assert len(books.cached) == ledger.cache_only
        assert Counter(causes.get(minion, Cause.UNKNOWN) for minion in books.lost) == Counter(ledger.missing())
        assert len(books.published) == counters.new
        after = books.numbers()
        assert all(0 <= old <= new for old, new in zip(before, after, strict=True))
        before = after
        assert counters.closed_received <= counters.closed_expected <= counters.expected
        assert counters.late <= len(books.named & books.returned)
        assert counters.unexpected <= len(books.returned - books.named)
        assert ledger.in_flight <= max_jobs
        assert sum(len(job.responses) for job in ledger._open.values()) == ledger._open_ids
        assert sum(len(job.responses) for job in ledger._closed.values()) == ledger._closed_ids

    books.now += DAY + DEADLINE
    books.tick(None)
    assert (0, 0) == (ledger.in_flight, ledger.outstanding)
    assert counters.new <= sum(counters.closed.values())
    assert sum(counters.completion.value().counts) == counters.closed["complete"] + counters.closed["incomplete"]
