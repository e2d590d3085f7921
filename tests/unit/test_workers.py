"""What workers say about themselves: counts by command, bounded, and how busy they are by their own time windows."""

from __future__ import annotations

import pytest

from salt_exporter.analysis import workers as module
from salt_exporter.analysis.workers import OTHER, Workers
from salt_exporter.master.events import WorkerStats


def stats(worker: str = "MWorker-0", seconds: float = 60.0, **commands: tuple[int, float]) -> WorkerStats:
    """Return what one worker says about so many seconds: runs and seconds by command."""
    return WorkerStats(worker, seconds, commands)


@pytest.fixture
def workers() -> Workers:
    """Return workers that have not said anything."""
    return Workers()


def test_runs_and_seconds_add_up_by_command(workers: Workers) -> None:
    """All workers' reports are counted together, each command apart."""
    workers.take(stats(_return=(3, 1.5), _minion_event=(1, 0.25)), 0.0)
    workers.take(stats("MWorker-1", _return=(2, 0.5)), 1.0)
    workers.take(stats(_return=(1, 1.0)), 60.0)

    assert {"_return": 6, "_minion_event": 1} == workers.runs
    assert {"_return": 3.0, "_minion_event": 0.25} == workers.seconds


def test_commands_beyond_the_bound_are_other(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first commands have counts of their own for good, all later ones share one."""
    monkeypatch.setattr(module, "_COMMANDS", 2)
    workers.take(stats(a=(1, 1.0), b=(1, 1.0), c=(2, 2.0), d=(3, 3.0)), 0.0)
    workers.take(stats(d=(1, 1.0), a=(1, 1.0)), 1.0)

    assert {"a": 2, "b": 1, OTHER: 6} == workers.runs
    assert {"a": 2.0, "b": 1.0, OTHER: 6.0} == workers.seconds


def test_nothing_is_known_without_reports(workers: Workers) -> None:
    """A master without `master_stats` has no ratio, not one of 0."""
    assert workers.busy_ratio(100.0) is None


def test_busy_ratio_is_of_the_newest_reports(workers: Workers) -> None:
    """Each worker's newest report counts with the length of the time that it tells about."""
    workers.take(stats("MWorker-0", 60.0, _return=(600, 60.0)), 0.0)
    workers.take(stats("MWorker-0", 60.0, _return=(10, 20.0), _pillar=(1, 10.0)), 60.0)
    assert 0.5 == workers.busy_ratio(60.0)

    workers.take(stats("MWorker-1", 20.0, _return=(1, 0.0)), 60.0)
    assert 30.0 / 80.0 == workers.busy_ratio(60.0)


def test_worker_that_reports_nothing_more_has_nothing_to_do(workers: Workers) -> None:
    """A worker reports when a request comes: one that has not for three of its intervals is idle, and still counts."""
    workers.take(stats("MWorker-0", 60.0, _return=(1, 60.0)), 0.0)
    workers.take(stats("MWorker-1", 60.0, _return=(1, 30.0)), 100.0)

    assert 0.75 == workers.busy_ratio(180.0)
    assert 0.25 == workers.busy_ratio(180.1)
    assert 0.0 == workers.busy_ratio(280.1)


def test_worker_is_never_more_than_busy(workers: Workers) -> None:
    """Handlers run at the same time in one worker: their times may add up to more than there is."""
    workers.take(stats("MWorker-0", 10.0, _return=(5, 50.0)), 0.0)
    workers.take(stats("MWorker-1", 10.0), 0.0)

    assert 0.5 == workers.busy_ratio(0.0)


def test_workers_are_bounded(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound no new worker is remembered, while those that are known go on reporting."""
    monkeypatch.setattr(module, "_WORKERS", 1)
    workers.take(stats("MWorker-0", 10.0, _return=(1, 10.0)), 0.0)
    workers.take(stats("MWorker-1", 10.0, _return=(1, 0.0)), 0.0)
    assert 1.0 == workers.busy_ratio(0.0)

    workers.take(stats("MWorker-0", 10.0, _return=(1, 5.0)), 1.0)
    assert 0.5 == workers.busy_ratio(1.0)
    assert {"_return": 3} == workers.runs
