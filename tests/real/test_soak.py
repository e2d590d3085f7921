"""The soak for two minutes (soak.py runs it for an hour), and that its instruments notice what they are for."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgpack
import pytest

from tests.real.exporter import Metrics
from tests.real.newest import newest_salt
from tests.real.soak import soak
from tests.real.soak_report import BOUNDS, Sample, growing, slope
from tests.real.soak_truth import Books, Truth

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.real.namespaces import Network

_SECONDS = 75.0  # of which the master takes some to start
_FLAT = [Sample(at=10.0 * n, rss=50.0 + n % 2, fds=30, threads=14, series=560, cpu=0.1 * n) for n in range(40)]
_JID = "20260101000000000001"


@pytest.mark.real
@pytest.mark.timeout(400)
def test_two_minutes(network: Network) -> None:
    """While everything goes on that goes on at a master, the exporter neither grows nor drifts from the truth."""
    network.add("soak")
    outcome = soak(newest_salt(), network.prefix("soak"), _SECONDS, print)

    assert [] == outcome.failures()
    assert outcome.audits[0].published > 30
    assert outcome.audits[0].lost > 0  # the trouble reached the jobs
    assert outcome.audits[0].published > outcome.audits[0].shaken  # and not all of them
    assert 1 == outcome.done["masters stopped"]


def test_what_is_flat_is_called_so() -> None:
    """Noise, and growth while it warms up, are no growth."""
    warm_up = [replace(sample, rss=sample.rss - 10 + n) for n, sample in enumerate(_FLAT[:10])]

    assert [] == growing(warm_up + _FLAT[10:])


@pytest.mark.parametrize("name", BOUNDS)
def test_a_leak_is_noticed(name: str) -> None:
    """Slow growth of any of them is named, with its rate."""
    step = 4 * BOUNDS[name].allows(getattr(_FLAT[0], name)) / len(_FLAT)
    leaking = [replace(sample, **{name: getattr(sample, name) + n * step}) for n, sample in enumerate(_FLAT)]

    assert [True] == [line.startswith(BOUNDS[name].what) for line in growing(leaking)]
    assert pytest.approx(step * 360, rel=0.05) == slope(leaking, name)


def _store(folder: Path, returned: tuple[str, ...]) -> None:
    """Put a job for m1 and m2 into the job cache."""
    job = folder / "cache/jobs/ab/cd"
    job.mkdir(parents=True)
    (job / ".load.p").write_bytes(msgpack.packb({"jid": _JID, "fun": "test.ping"}))
    (job / ".minions.p").write_bytes(msgpack.packb(["m1", "m2"]))
    for minion in returned:
        (job / minion).mkdir()
        (job / minion / "return.p").touch()


_JOB = {"function": "test.ping", "expected": 2, "returned": 1, "missing": 1}
_LOSS = {"minion": "m2", "recovered": None}
_COUNTERS = {
    "salt_jobs_new_total": 1,
    "salt_jobs_expected_responses_total": 2,
    "salt_jobs_responses_total": 1,
    "salt_jobs_missing_responses_total": 1,
    "salt_publish_messages_total": 1,
}


def _books(
    job: Mapping[str, Any] | None = None,
    loss: Mapping[str, Any] | None = None,
    counters: Mapping[str, int] | None = None,
) -> Books:
    lines = [f"# TYPE {name} counter\n{name} {number}\n" for name, number in (counters or {}).items()]
    return Books(Metrics("".join(lines)), {_JID: job} if job else {}, {_JID: [loss]} if loss else {})


def test_right_books_have_no_differences(tmp_path: Path) -> None:
    """A job that one of two minions has returned, in the job list, the journal and the counters, is right."""
    truth = Truth(tmp_path, under_way=10.0)
    _store(tmp_path, ("m1",))
    audit = truth.audit(_books(), _books(_JOB, _LOSS, _COUNTERS))

    assert [] == audit.differences
    assert (1, 0, 0, 1, 1) == (audit.published, audit.hidden, audit.shaken, audit.returned, audit.lost)


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ({"job": None}, "is not known"),
        ({"job": _JOB | {"expected": 3}}, "is known as test.ping for 3"),
        ({"job": _JOB | {"function": "test.echo"}}, "is known as test.echo"),
        ({"job": _JOB | {"returned": 2, "missing": 0}}, r"returned and missing are \(1, 1\), not \(2, 0\)"),
        ({"loss": None}, r"lost are \['m2'\], not \[\]"),
        ({"loss": _LOSS | {"minion": "m1"}}, r"lost are \['m2'\], not \['m1'\]"),
        ({"loss": _LOSS | {"recovered": 1.0}}, r"lost are \['m2'\], not \[\]"),
        ({"counters": _COUNTERS | {"salt_jobs_new_total": 2}}, "salt_jobs_new_total grew by 2, not 1"),
        ({"counters": _COUNTERS | {"salt_jobs_responses_total": 0}}, "0 returns, not 1 to 1"),
        ({"counters": _COUNTERS | {"salt_publish_messages_total": 2}}, "2 published frames, not 1 to 1"),
        ({"counters": _COUNTERS | {"salt_publish_dropped_messages_total": 1}}, "dropped_messages_total grew by 1"),
    ],
)
def test_every_difference_is_found(tmp_path: Path, changed: dict[str, Any], difference: str) -> None:
    """Whatever the exporter says differently from the job cache is named."""
    truth = Truth(tmp_path, under_way=10.0)
    _store(tmp_path, ("m1",))
    right: dict[str, Any] = {"job": _JOB, "loss": _LOSS, "counters": _COUNTERS}
    differences = truth.audit(_books(), _books(**right | changed)).differences

    assert re.search(difference, "\n".join(differences))


def test_what_was_shaken_may_differ(tmp_path: Path) -> None:
    """Returns to a job that was under way when the master ended may have passed unseen; its publication may not."""
    truth = Truth(tmp_path, under_way=10.0)
    _store(tmp_path, ("m1", "m2"))
    stored = (tmp_path / "cache/jobs/ab/cd/.load.p").stat().st_mtime
    truth.blind.append((stored + 5, stored + 8))

    assert [] == truth.audit(_books(), _books(_JOB, _LOSS, _COUNTERS)).differences
    assert [] == truth.audit(_books(), _books()).differences  # and is audited once


def test_a_return_that_came_unseen_may_be_called_missing(tmp_path: Path) -> None:
    """However late it is: the loss stays one where nobody could see that it has been stored."""
    truth = Truth(tmp_path, under_way=10.0)
    _store(tmp_path, ("m1", "m2"))
    stored = (tmp_path / "cache/jobs/ab/cd/.load.p").stat().st_mtime
    late = stored + 100
    os.utime(tmp_path / "cache/jobs/ab/cd/m2/return.p", (late, late))
    truth.blind.append((late - 1, late + 1))

    assert [] == truth.audit(_books(), _books(_JOB, _LOSS, _COUNTERS)).differences
