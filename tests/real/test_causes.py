"""Every cause of a missing response, provoked for real on a master with minions, and named rightly."""

from __future__ import annotations

import shutil
import time
from functools import partial
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.real.arena import FORKING
from tests.real.jobcache import have_returned, in_cache
from tests.real.processes import named, stopped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.real.arena import Arena
    from tests.real.conftest import SaltLine
    from tests.real.exporter import Metrics

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

# Sleeps like test.sleep and has more time, see exporter.py: where it matters what a minion answers when `salt` asks it
# after 2 seconds, which on a busy machine takes seconds more.
_SLEEP = ("test.cross_test", "test.sleep")


# What befalls each minion, all at once; the slow one just takes longer than its deadline.
_AWAY, _KILLED, _CUT = "able", "baker", "charlie"
_SUSPENDED, _LOST_JOB, _NO_WAY_BACK, _SLOW = "echo", FORKING, "golf", "hotel"


def _late(metrics: Metrics) -> float:
    return metrics.get("salt_jobs_late_responses_total", 0.0, function="test.sleep")


@pytest.fixture(scope="class")
def late_before(arena: Arena) -> float:
    """Return how many responses were late before anything happened."""
    return _late(arena.exporter.scrape())


@pytest.fixture(scope="class")
def jids(arena: Arena, late_before: float) -> Iterator[dict[str, str]]:  # noqa: ARG001 - is asked for first
    """Publish a job for each minion, let something happen to it, and yield the jobs by minion."""
    arena.start_more_minions()
    lab, network = arena.lab, arena.network
    jids = {_NO_WAY_BACK: arena.command(_NO_WAY_BACK, *_SLEEP, f"[{9 * arena.slowness:.0f}]")}
    began = time.monotonic()
    jids[_LOST_JOB] = arena.command(_LOST_JOB, *_SLEEP, "[60]")
    lab.stop(_AWAY)
    network.cut_link(_CUT)
    jids[_AWAY] = arena.job(f"{_AWAY},ghost,nokey,{_SLOW}", "test.ping", target_type="list")
    jids[_CUT] = arena.job(_CUT, "test.ping")
    jids[_SLOW] = arena.job(_SLOW, "test.sleep", arena.exporter.deadline + 4)
    jids[_KILLED] = arena.job(_KILLED, "test.sleep", 20)
    jids[_SUSPENDED] = arena.job(_SUSPENDED, "test.sleep", 4)
    time.sleep(2)  # all of them have got their jobs
    lab.kill(_KILLED)
    with stopped(lab.processes(_SUSPENDED)):
        psutil.Process(arena.process_of(jids[_LOST_JOB], _LOST_JOB)).kill()
        # It has answered `salt`, which asks after two seconds whether the job runs, and will return after nine.
        time.sleep(max(0.0, began + 7 * arena.slowness - time.monotonic()))
        network.block_port(_NO_WAY_BACK, 4506)
        yield jids
    network.unblock_ports(_NO_WAY_BACK)
    network.restore_link(_CUT)
    for minion in (_AWAY, _KILLED):
        lab.restart(minion)
    arena.wait_until_all_answer()


class TestOneMinion:
    """A fault of one minion leaves the causes of the others as they are: all of them have one at a time."""

    def test_stopped(self, arena: Arena, jids: dict[str, str]) -> None:
        """Without a connection when the job was published it was not connected; a name without a key is unknown."""
        assert "not_connected" == arena.cause(jids[_AWAY], _AWAY)
        assert {_AWAY: "not_connected", "ghost": "not_connected", "nokey": "unknown_minion"} == {
            minion: loss["cause"] for minion, loss in arena.losses(jids[_AWAY]).items()
        }

    def test_killed_while_it_works(self, arena: Arena, jids: dict[str, str]) -> None:
        """A connection that ends between publication and deadline is the cause."""
        assert "disconnected" == arena.cause(jids[_KILLED], _KILLED)

    def test_link_cut_before_publication(self, arena: Arena, jids: dict[str, str]) -> None:
        """The job stalls on the link."""
        assert "network_stall" == arena.cause(jids[_CUT], _CUT)

    def test_suspended_with_the_job(self, arena: Arena, jids: dict[str, str]) -> None:
        """Delivered, and nothing heard since: silent."""
        assert "minion_silent" == arena.cause(jids[_SUSPENDED], _SUSPENDED)

    def test_return_that_is_late(self, arena: Arena, late_before: float, jids: dict[str, str]) -> None:
        """A job that takes longer than its deadline loses a response, which is marked as recovered when it comes."""
        jid = jids[_SLOW]
        assert arena.cause(jid, _SLOW) in {"minion_no_return", "minion_silent"}
        arena.exporter.wait(lambda metrics: _late(metrics) == late_before + 1, 20, "the late return is counted")
        arena.lab.wait("exporter", lambda: arena.losses(jid)[_SLOW]["recovered"] is not None, 20)

    def test_lost_job(self, arena: Arena, jids: dict[str, str]) -> None:
        """It answers to `find_job` that it does not run the job, whose process was killed."""
        assert "minion_no_return" == arena.cause(jids[_LOST_JOB], _LOST_JOB)

    def test_return_that_is_cut_off(self, arena: Arena, jids: dict[str, str]) -> None:
        """It answered that it runs the job, then could not reach the request port."""
        assert "return_lost" == arena.cause(jids[_NO_WAY_BACK], _NO_WAY_BACK)


def test_link_cut_before_the_return(arena: Arena, salt_line: SaltLine) -> None:
    """What the master sends after the link was cut stalls.

    Salt 3007 sends no heartbeats: there nothing is under way on the link, and its minion is just silent.
    """
    jid = arena.job("delta", "test.sleep", 4)
    time.sleep(2)
    arena.network.cut_link("delta")
    try:
        expected = "minion_silent" if salt_line.name == "3007" else "network_stall"
        assert expected == arena.cause(jid, "delta")
    finally:
        arena.network.restore_link("delta")
        arena.wait_until_all_answer()


def test_queue_and_drop(arena: Arena) -> None:
    """What waits in the publisher's queue at the deadline is queued; what came when that was full was dropped."""
    queued, dropped_total = "salt_publish_hwm_queue_messages_max", "salt_publish_dropped_messages_total"
    with arena.frozen("baker"):
        with arena.large_jobs():
            arena.exporter.wait(lambda metrics: metrics.get(queued) >= 2, 20, "messages wait")
        in_queue = arena.job("baker", "test.ping")
        with arena.large_jobs():
            arena.exporter.wait(lambda metrics: metrics.get(dropped_total) > 0, 20, "messages are dropped")
            dropped = arena.job("baker", "test.ping")
        assert "publisher_queue" == arena.cause(in_queue, "baker")
        assert "publisher_drop" == arena.cause(dropped, "baker")


def test_publisher_that_stands_still(arena: Arena) -> None:
    """What nobody has got is no minion's fault: it waits in the publisher, and its frame is counted as missing."""
    missing = "salt_publish_frames_missing_total"
    before = arena.exporter.scrape().get(missing)
    with stopped(named(arena.lab, r"\S+\._publish_daemon")):
        jid = arena.job("able", "test.ping")
        assert "publisher_queue" == arena.cause(jid, "able")
        arena.exporter.wait(lambda metrics: metrics.get(missing) == before + 1, 10, "the frame is missing")
    arena.wait_until_all_answer()


def test_exporter_that_was_stopped_meanwhile(arena: Arena) -> None:
    """Jobs that end while the exporter is down are decided by the job cache, and by nothing where it cannot tell."""
    returns = arena.job("able", "test.sleep", 4)
    cleaned = arena.job("baker", "test.sleep", 4)
    arena.network.cut_link("charlie")
    lost = arena.job("charlie", "test.sleep", 4)
    arena.exporter.wait(lambda metrics: metrics.get("salt_jobs_in_flight") == 3, 5, "all are in flight")
    time.sleep(1)  # they are in the journal
    arena.exporter.stop()
    for jid, minion in ((returns, "able"), (cleaned, "baker")):
        arena.lab.wait("master", partial(have_returned, arena.lab, jid, [minion]), 60)
    shutil.rmtree(in_cache(arena.lab, cleaned))
    arena.restart_exporter()
    try:
        assert "exporter_gap" == arena.cause(cleaned, "baker")
        assert arena.cause(lost, "charlie") not in {"exporter_gap", ""}
        metrics = arena.exporter.wait(lambda metrics: metrics.get("salt_jobs_in_flight") == 0, 10, "all are closed")
        assert {} == arena.losses(returns)
        assert 1 == metrics.get("salt_jobs_cache_only_responses_total")
    finally:
        arena.network.restore_link("charlie")
        arena.wait_until_all_answer()


def test_books_balance(arena: Arena) -> None:
    """Over all that was done to the minions: expected responses are those received and those missing, each once."""
    metrics = arena.exporter.wait(lambda metrics: metrics.get("salt_jobs_in_flight") == 0, 20, "no job in flight")
    late = sum(metrics.by("salt_jobs_late_responses_total", "function").values())
    missing = sum(metrics.by("salt_jobs_missing_responses_total", "function").values())
    expected = sum(metrics.by("salt_jobs_closed_expected_responses_total", "function").values())
    received = sum(metrics.by("salt_jobs_closed_received_responses_total", "function").values())
    gap = metrics.by("salt_jobs_missing_responses_total", "cause").get(("exporter_gap",), 0.0)  # of jobs left unknown
    assert expected - received == missing - gap
    assert late <= missing
