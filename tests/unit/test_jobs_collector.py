"""Jobs, workers and the exporter itself as metrics: a small world, value by value."""

from __future__ import annotations

import platform
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from salt_exporter import __version__
from salt_exporter.analysis.activity import Activity
from salt_exporter.analysis.causes import CAUSES, Cause
from salt_exporter.analysis.deadlines import Deadlines
from salt_exporter.analysis.jobs import JobLedger
from salt_exporter.analysis.presence import NOT_PRESENT, Evidence, Presence, Verdict
from salt_exporter.analysis.workers import OTHER
from salt_exporter.collectors.exporter import ExporterCollector
from salt_exporter.collectors.jobs import JobsCollector
from salt_exporter.collectors.workers import WorkersCollector
from salt_exporter.log import counted
from salt_exporter.master.events import JobNew, JobReturn, WorkerStats
from salt_exporter.metric import Exemplar, HistogramValue

if TYPE_CHECKING:
    from salt_exporter.collectors import Collector
    from salt_exporter.metric import Sample
    from salt_exporter.world import World

WALL = 1_800_000_000.0
PING = "test.ping"
Series = dict[tuple[str, ...], Any]


@pytest.fixture
def activity() -> Activity:
    """Return an activity that has seen nothing."""
    return Activity(JobLedger(Deadlines(60.0), max_functions=10, max_jobs=10))


def collect(collector: type[Collector], **world: object) -> list[Sample]:
    """Return all samples of a collector."""
    return list(collector(cast("World", SimpleNamespace(**world))).collect())


def jobs(activity: Activity, cache_problem: str = "") -> tuple[Series, dict[tuple[str, ...], Exemplar]]:
    """Return values and exemplars of the jobs collector by name and labels."""
    samples = collect(JobsCollector, activity=activity, closer=SimpleNamespace(cache_problem=cache_problem))
    keys = [(sample.metric.name, *sample.labels) for sample in samples]
    assert len(keys) == len(set(keys))
    exemplars = {key: sample.exemplar for key, sample in zip(keys, samples, strict=True) if sample.exemplar}
    return {key: sample.value for key, sample in zip(keys, samples, strict=True)}, exemplars


def returned(jid: str, minion: str, *, success: bool = True, sent: float | None = None) -> JobReturn:
    """Return a minion's return."""
    return JobReturn(jid, PING, minion, success, scheduled=False, asks_for="", empty=False, sent=sent)


def test_nothing_has_happened(activity: Activity) -> None:
    """Before the first job there are the totals, at 0, and no function."""
    values, exemplars = jobs(activity)

    assert {
        ("salt_jobs_in_flight",): 0.0,
        ("salt_jobs_responses_outstanding",): 0.0,
        ("salt_jobs_bus_only_responses_total",): 0.0,
        ("salt_jobs_cache_only_responses_total",): 0.0,
        ("salt_jobs_cache_readable",): 1.0,
    } == {key: value for key, value in values.items() if not isinstance(value, HistogramValue)}
    assert [("salt_jobs_return_delivery_seconds",)] == [
        key for key, value in values.items() if isinstance(value, HistogramValue) and not sum(value.counts)
    ]
    assert {} == exemplars


def test_small_world_of_jobs(activity: Activity) -> None:
    """A job that lost responses, a complete one and one in flight: each number is where its metric says."""
    ledger = activity.jobs
    ledger.published(JobNew("1", PING, ("a", "b", "c", "d"), ()), 100.0, 0.0)
    ledger.returned(returned("1", "a", sent=100.0), 101.5, 1.5)
    ledger.returned(returned("1", "a"), 102.0, 2.0)
    ledger.returned(returned("1", "stranger", success=False), 103.0, 3.0)
    (job,) = ledger.due(60.0)
    ledger.close(job, 60.0, WALL, frozenset("b"), {"c": Cause.NOT_CONNECTED, "d": Cause.NOT_CONNECTED})
    ledger.returned(returned("1", "d"), 170.0, 70.0)
    ledger.published(JobNew("2", PING, ("a",), ()), 200.0, 100.0)
    ledger.returned(returned("2", "a"), 200.5, 100.5)
    (job,) = ledger.due(110.0)
    ledger.close(job, 110.0, WALL, None, {})
    ledger.published(JobNew("3", PING, ("a", "b"), ()), 300.0, 200.0)
    ledger.bus_only += 7
    values, exemplars = jobs(activity, "it is off")

    missing = {("salt_jobs_missing_responses_total", PING, cause.value): 0.0 for cause in CAUSES}
    plain = {key: value for key, value in values.items() if not isinstance(value, HistogramValue)}
    assert plain == missing | {
        ("salt_jobs_new_total", PING): 3.0,
        ("salt_jobs_in_flight",): 1.0,
        ("salt_jobs_responses_outstanding",): 2.0,
        ("salt_jobs_expected_responses_total", PING): 7.0,
        ("salt_jobs_responses_total", PING, "true"): 4.0,
        ("salt_jobs_responses_total", PING, "false"): 1.0,
        ("salt_jobs_closed_total", PING, "complete"): 1.0,
        ("salt_jobs_closed_total", PING, "incomplete"): 1.0,
        ("salt_jobs_closed_total", PING, "unknown"): 0.0,
        ("salt_jobs_closed_expected_responses_total", PING): 5.0,
        ("salt_jobs_closed_received_responses_total", PING): 3.0,
        ("salt_jobs_late_responses_total", PING): 1.0,
        ("salt_jobs_duplicate_responses_total", PING): 1.0,
        ("salt_jobs_unexpected_responses_total", PING): 1.0,
        ("salt_jobs_missing_responses_total", PING, "not_connected"): 2.0,
        ("salt_jobs_bus_only_responses_total",): 7.0,
        ("salt_jobs_cache_only_responses_total",): 1.0,
        ("salt_jobs_cache_readable",): 0.0,
        ("salt_jobs_minion_consecutive_misses", "c"): 1.0,
    }
    ((key, exemplar),) = exemplars.items()
    assert ("salt_jobs_missing_responses_total", PING, "not_connected") == key
    assert exemplar in [Exemplar({"jid": "1", "minion": minion}, 1.0, WALL) for minion in "cd"]
    histograms = {key: (value.sum, sum(value.counts)) for key, value in values.items() if key not in plain}
    assert histograms == {
        ("salt_jobs_completion_ratio", PING): (1.5, 2),
        ("salt_jobs_response_seconds", PING): (1.5 + 3.0 + 70.0 + 0.5, 4),
        ("salt_jobs_return_delivery_seconds",): (1.5, 1),
    }


def test_only_the_worst_minions_have_series(activity: Activity) -> None:
    """Whatever thousands miss: twenty are named, those with the most misses."""
    activity.jobs.consecutive = {f"web{number}": number for number in range(1, 101)}
    values, _ = jobs(activity)

    named = {key[1]: value for key, value in values.items() if key[0] == "salt_jobs_minion_consecutive_misses"}
    assert {f"web{number}": float(number) for number in range(81, 101)} == named


def workers(activity: Activity) -> Series:
    """Return what the workers collector says."""
    return {
        (sample.metric.name, *sample.labels): sample.value for sample in collect(WorkersCollector, activity=activity)
    }


def test_workers_without_statistics_are_silent(activity: Activity) -> None:
    """A master that sends none has no series, not zeros."""
    assert {} == workers(activity)


def test_small_world_of_workers(activity: Activity) -> None:
    """Runs and seconds by command, and how busy they are now."""
    activity.workers.take(WorkerStats("w0", 60.0, {"_return": (4, 15.0), OTHER: (1, 30.0)}), time.monotonic())
    activity.workers.take(WorkerStats("w1", 60.0, {"_return": (1, 15.0)}), time.monotonic())

    assert {
        ("salt_workers_commands_total", "_return"): 5.0,
        ("salt_workers_command_seconds_total", "_return"): 30.0,
        ("salt_workers_commands_total", OTHER): 1.0,
        ("salt_workers_command_seconds_total", OTHER): 30.0,
        ("salt_workers_busy_ratio",): 0.5,
    } == workers(activity)


def exporter(activity: Activity, **changed: object) -> Series:
    """Return what the exporter says about itself."""
    verdicts = {f"web{number}": Verdict(NOT_PRESENT, Evidence.LEFT, b"", None) for number in range(5)}
    world: dict[str, object] = {
        "activity": activity,
        "bus": SimpleNamespace(counters=SimpleNamespace(connected=True, reconnects=2, decode_errors=3, shed=4)),
        "index": SimpleNamespace(errors=5),
        "sampler": SimpleNamespace(age=1.5),
        "age": 2.5,
        "journal": SimpleNamespace(persistent=True, rows=6, errors=7),
        "reload": SimpleNamespace(successful=True, time=8.0),
        "web_reload": SimpleNamespace(successful=False, time=9.0),
        "newest_presence": Presence(verdicts, 0, 0),
        "config": SimpleNamespace(presence_max_series=2, presence_all_minions=False),
    }
    samples = collect(ExporterCollector, **(world | changed))
    return {(sample.metric.name, *sample.labels): sample.value for sample in samples}


def test_small_world_of_the_exporter(activity: Activity, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own counters, what it could not decode from both its sources, and what was left out."""
    monkeypatch.setattr(counted, "counts", counted.counts.__class__(warning=10, error=11))
    activity.undecodable = 30

    assert {
        ("salt_exporter_build_info", __version__, platform.python_version()): 1.0,
        ("salt_exporter_eventbus_connected",): 1.0,
        ("salt_exporter_eventbus_reconnects_total",): 2.0,
        ("salt_exporter_eventbus_decode_errors_total",): 33.0,
        ("salt_exporter_events_shed_total",): 4.0,
        ("salt_exporter_grains_cache_errors_total",): 5.0,
        ("salt_exporter_log_messages_total", "warning"): 10.0,
        ("salt_exporter_log_messages_total", "error"): 11.0,
        ("salt_exporter_series_omitted", "salt_presence_minion_not_present"): 3.0,
        ("salt_exporter_sample_age_seconds", "sockets"): 1.5,
        ("salt_exporter_sample_age_seconds", "refresh"): 2.5,
        ("salt_exporter_journal_persistent",): 1.0,
        ("salt_exporter_journal_losses",): 6.0,
        ("salt_exporter_journal_errors_total",): 7.0,
        ("salt_exporter_config_last_reload_successful",): 1.0,
        ("salt_exporter_config_last_reload_success_timestamp_seconds",): 8.0,
        ("salt_exporter_web_config_reload_successful",): 0.0,
        ("salt_exporter_web_config_reload_success_timestamp_seconds",): 9.0,
    } == exporter(activity)


def test_exporter_without_a_journal_says_nothing_of_one(activity: Activity) -> None:
    """A command that looks once keeps none."""
    with_journal, without = exporter(activity), exporter(activity, journal=None, newest_presence=None)

    assert {name for (name, *_) in with_journal if "journal" in name} == {
        name for (name, *_) in with_journal.keys() - without.keys()
    }
    assert 0.0 == without["salt_exporter_series_omitted", "salt_presence_minion_not_present"]


def test_exporter_leaves_out_nobody_where_all_minions_have_series(activity: Activity) -> None:
    """With a series for every accepted minion the bound does not apply, so nothing is said to be left out."""
    config = SimpleNamespace(presence_max_series=2, presence_all_minions=True)

    assert 0.0 == exporter(activity, config=config)["salt_exporter_series_omitted", "salt_presence_minion_not_present"]
