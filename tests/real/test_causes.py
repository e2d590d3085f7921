"""Every cause of a missing response, provoked for real on a master with minions, and named rightly."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.real.arena import DEADLINE
from tests.real.processes import named, stopped

if TYPE_CHECKING:
    from tests.real.arena import Arena
    from tests.real.conftest import SaltLine

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

# Sleeps like test.sleep and has more time, see exporter.py: where it matters what a minion answers when `salt` asks it
# after 2 seconds, which on a busy machine takes seconds more.
_SLEEP = ("test.cross_test", "test.sleep")


def test_key_of_a_minion_that_is_stopped(arena: Arena) -> None:
    """Whoever had no connection when the job was published was not connected, and a name without a key is unknown."""
    arena.lab.stop("able")
    jid = arena.job("able,baker,ghost,nokey", "test.ping", target_type="list")

    assert "not_connected" == arena.cause(jid, "able")
    assert {"able": "not_connected", "ghost": "not_connected", "nokey": "unknown_minion"} == {
        minion: loss["cause"] for minion, loss in arena.losses(jid).items()
    }
    arena.lab.restart("able")
    arena.wait_until_all_answer()


def test_minion_that_is_killed_while_it_works(arena: Arena) -> None:
    """A connection that ends between publication and deadline is the cause."""
    jid = arena.job("baker", "test.sleep", 20)
    time.sleep(2)
    arena.lab.kill("baker")

    assert "disconnected" == arena.cause(jid, "baker")
    arena.lab.restart("baker")
    arena.wait_until_all_answer()


def test_link_that_is_cut(arena: Arena, salt_line: SaltLine) -> None:
    """A link cut before the publication stalls the job; one cut before the return, what the master sends then.

    Salt 3007 sends no heartbeats: there nothing is under way on the link that was cut later, its minion is just silent.
    """
    arena.network.cut_link("charlie")
    cut_before = arena.job("charlie", "test.ping")
    works = arena.job("delta", "test.sleep", 4)
    time.sleep(2)
    arena.network.cut_link("delta")
    try:
        assert "network_stall" == arena.cause(cut_before, "charlie")
        expected = "minion_silent" if salt_line.name == "3007" else "network_stall"
        assert expected == arena.cause(works, "delta")
    finally:
        arena.network.restore_link("charlie")
        arena.network.restore_link("delta")
        arena.wait_until_all_answer()


def test_minion_that_is_suspended_after_it_received_the_job(arena: Arena) -> None:
    """Delivered, and nothing heard since: silent."""
    jid = arena.job("able", "test.sleep", 4)
    time.sleep(2)
    with arena.frozen("able"):
        assert "minion_silent" == arena.cause(jid, "able")


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


def test_minion_that_lost_the_job(arena: Arena) -> None:
    """It answers to `find_job` that it does not run the job, whose process was killed."""
    jid = arena.command("charlie", *_SLEEP, "[60]")
    psutil.Process(arena.process_of(jid, "charlie")).kill()

    assert "minion_no_return" == arena.cause(jid, "charlie", timeout=60)


def test_return_that_is_cut_off(arena: Arena) -> None:
    """It said that it ran the job, then could not reach the request port."""
    jid = arena.command("delta", *_SLEEP, "[9]")
    time.sleep(7)
    arena.network.block_port("delta", 4506)
    try:
        assert "return_lost" == arena.cause(jid, "delta", timeout=60)
    finally:
        arena.network.unblock_ports("delta")
        arena.wait_until_all_answer()


def test_return_that_is_late(arena: Arena) -> None:
    """A job that takes longer than its deadline loses a response, which is marked as recovered when it comes."""
    before = arena.exporter.scrape()
    jid = arena.job("able", "test.sleep", DEADLINE + 4)

    assert arena.cause(jid, "able") in {"minion_no_return", "minion_silent"}
    arena.exporter.wait(
        lambda metrics: (
            metrics.get("salt_jobs_late_responses_total", function="test.sleep")
            == before.get("salt_jobs_late_responses_total", 0.0, function="test.sleep") + 1
        ),
        20,
        "the late return is counted",
    )
    time.sleep(2)
    assert arena.losses(jid)["able"]["recovered"] is not None


def test_exporter_that_was_stopped_meanwhile(arena: Arena) -> None:
    """Jobs that end while the exporter is down are decided by the job cache, and by nothing where it cannot tell."""
    returns = arena.job("able", "test.sleep", 4)
    cleaned = arena.job("baker", "test.sleep", 4)
    arena.network.cut_link("charlie")
    lost = arena.job("charlie", "test.sleep", 4)
    arena.exporter.wait(lambda metrics: metrics.get("salt_jobs_in_flight") == 3, 5, "all are in flight")
    time.sleep(1)  # they are in the journal
    arena.exporter.stop()
    deadline = time.monotonic() + 20
    while not all((arena.in_cache(jid) / minion).exists() for jid, minion in ((returns, "able"), (cleaned, "baker"))):
        assert time.monotonic() < deadline, "the minions have not returned"
        time.sleep(0.1)
    shutil.rmtree(arena.in_cache(cleaned))
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
