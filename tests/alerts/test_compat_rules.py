"""The recording rules for those who come from kpetremann/salt-exporter."""

import pytest
from promql_parser import parse

from salt_exporter.collectors import ALL
from tests.alerts.declarations import TARGET, catalogue
from tests.alerts.labels import labels_of
from tests.alerts.rules import ALERTS, Recording, load_recordings

# Name and labels of its metrics, version 0.12 (internal/metrics/registry.go). `state` we cannot tell, and of
# salt_responses_total not the minion.
THEIRS = {
    "salt_new_job_total": {"function"},
    "salt_expected_responses_total": {"function"},
    "salt_function_responses_total": {"function", "success"},
    "salt_responses_total": {"success"},
    "salt_health_last_heartbeat": {"minion"},
    "salt_responses_last_received_response": {"minion"},
    "salt_health_minions_total": set[str](),
}
RECORDINGS = load_recordings(ALERTS / "compat.rules.yml")


def test_each_metric_is_recorded_once() -> None:
    """All of the other exporter's metrics that can be told from ours are recorded, and nothing else."""
    assert sorted(THEIRS) == sorted(recording.name for recording in RECORDINGS)


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.name)
def test_labels(recording: Recording) -> None:
    """A recording builds on metrics that we have, with the other exporter's labels."""
    assert THEIRS[recording.name] | TARGET == labels_of(parse(recording.expr), catalogue())


def test_none_of_these_names_is_ours() -> None:
    """A recording never mixes with a metric of our own."""
    assert not THEIRS.keys() & {metric.name for collector in ALL for metric in collector.metrics}
