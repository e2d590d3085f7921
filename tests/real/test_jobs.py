"""Job counters, against the truth in the master's own job cache."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgpack
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from salt_exporter.demo.lab import Lab
    from tests.real.exporter import Exporter, Metrics

pytestmark = pytest.mark.real


@dataclass
class Truth:
    """What the job cache holds, by function (salt/returners/local_cache.py)."""

    jobs: Counter[str] = field(default_factory=Counter)
    expected: Counter[str] = field(default_factory=Counter)
    returned: Counter[tuple[str, str]] = field(default_factory=Counter)  # by function and success
    complete: Counter[str] = field(default_factory=Counter)


def _truth(jobs: Path, known: set[Path]) -> Truth:
    """Read all jobs but the known ones, without Salt's own find_job questions."""
    truth = Truth()
    for job in set(jobs.glob("*/*")) - known:
        function = _unpack(job / ".load.p")["fun"]
        if function == "saltutil.find_job":
            continue
        expected = {minion for file in job.glob(".minions*.p") for minion in _unpack(file)}
        returns = {file.parent.name: _unpack(file) for file in job.glob("*/return.p")}
        truth.jobs[function] += 1
        truth.expected[function] += len(expected)
        truth.complete[function] += expected <= returns.keys()
        for value in returns.values():
            good = value["success"] and not value["retcode"]
            truth.returned[function, str(good).lower()] += 1
    return truth


def _unpack(file: Path) -> Any:  # noqa: ANN401 - msgpack
    return msgpack.unpackb(file.read_bytes(), strict_map_key=False)


def _growth(before: Metrics, after: Metrics, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    """Return by how much the series of a counter have grown, those that have not left out."""
    old = before.by(name, *labels)
    grown = {key: value - old.get(key, 0.0) for key, value in after.by(name, *labels).items()}
    return {key: value for key, value in grown.items() if value}


def test_counters_equal_the_job_cache(exporter: Exporter, lab: Lab) -> None:
    """After a set of jobs that succeed, fail, miss minions and outlast find_job, every counter equals the truth."""
    exporter.wait(lambda metrics: metrics.get("salt_jobs_in_flight") == 0, 20, "no job in flight")
    jobs = lab.folder / "cache" / "jobs"
    known = set(jobs.glob("*/*"))
    before = exporter.scrape()

    for _ in range(3):
        lab.salt("web*", "test.ping")
    lab.salt("*", "test.ping")  # ghost is expected and does not return
    lab.salt("six", "cmd.run", "exit 3")
    lab.salt("-L", "web1,dual,nokey", "test.arg", "x" * 3000)  # nokey has no key: it never returns
    lab.salt("web1", "test.sleep", str(exporter.deadline + 3))  # past its deadline, but find_job says that it runs
    lab.salt("-b", "1", "web*", "test.fib", "3")

    after = exporter.wait(lambda metrics: metrics.get("salt_jobs_in_flight") == 0, 30, "all jobs are closed")
    truth = _truth(jobs, known)
    assert truth.jobs["test.sleep"] == truth.complete["test.sleep"] == 1
    # The job cache does not hold who was named without a key; the exporter expects it all the same.
    truth.expected["test.arg"] += 1
    truth.complete["test.arg"] -= 1
    missing = _growth(before, after, "salt_jobs_missing_responses_total", "function", "cause")
    assert {("test.ping", "not_connected"): 1.0, ("test.arg", "unknown_minion"): 1.0} == missing

    function = ("function",)
    expected = {(name,): float(number) for name, number in truth.expected.items()}
    assert expected == _growth(before, after, "salt_jobs_expected_responses_total", *function)
    assert expected == _growth(before, after, "salt_jobs_closed_expected_responses_total", *function)
    returned = {key: float(number) for key, number in truth.returned.items()}
    assert returned == _growth(before, after, "salt_jobs_responses_total", "function", "success")
    received: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for (name, _success), number in returned.items():
        received[name,] += number
    assert received == _growth(before, after, "salt_jobs_closed_received_responses_total", *function)
    assert received == _growth(before, after, "salt_jobs_response_seconds_count", *function)
    assert {(name,): float(number) for name, number in truth.jobs.items()} == _growth(
        before, after, "salt_jobs_new_total", *function
    )
    outcomes = _growth(before, after, "salt_jobs_closed_total", "function", "outcome")
    assert {("test.ping", "incomplete"): 1.0, ("test.arg", "incomplete"): 1.0} == {
        key: value for key, value in outcomes.items() if key[1] != "complete"
    }
    assert {(name, "complete"): float(number) for name, number in truth.complete.items() if number} == {
        key: value for key, value in outcomes.items() if key[1] == "complete"
    }


def test_a_minion_cannot_forge_a_return(exporter: Exporter, lab: Lab) -> None:
    """An event that a minion fires under the tag of another one's return counts as no return."""
    lab.salt("web1", "test.ping")
    before = exporter.scrape()
    lab.salt("web1", "event.fire_master", "{x: 1}", "salt/job/20990101000000000000/ret/ghost")
    after = exporter.wait(
        lambda metrics: (
            metrics.get("salt_eventbus_events_total", kind="other")
            > before.get("salt_eventbus_events_total", kind="other")
        ),
        10,
        "the forged event has come",
    )
    returned = _growth(before, after, "salt_jobs_responses_total", "function", "success")
    assert {("event.fire_master", "true"): 1.0} == returned
    assert "ghost" not in after.labels("salt_presence_minion_last_seen_timestamp_seconds", "minion")
