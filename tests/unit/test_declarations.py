"""The declared metrics: those that were promised, each in the file its name says, none with an unbounded label."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import salt_exporter
from salt_exporter.collectors import ALL
from salt_exporter.metric import Metric

if TYPE_CHECKING:
    from types import ModuleType

PACKAGE = Path(salt_exporter.__file__).parent
METRICS = [metric for collector in ALL for metric in collector.metrics]
# The two families that are named like their collector alone.
BARE = {"salt_keys": "keys", "salt_connections": "connections"}

# What dashboards, alerts and checks rely on: kind and labels of every promised metric.
PROMISED: dict[str, tuple[str, tuple[str, ...]]] = {
    "salt_master_up": ("gauge", ()),
    "salt_master_info": ("gauge", ("version", "transport", "id", "source")),
    "salt_master_cluster_info": ("gauge", ("cluster_id",)),
    "salt_master_worker_threads": ("gauge", ("pool",)),
    "salt_keys": ("gauge", ("state",)),
    "salt_presence_minions": ("gauge", ("state",)),
    "salt_presence_minion_not_present": ("gauge", ("minion",)),
    "salt_presence_all_minions": ("gauge", ()),
    "salt_presence_not_present_series_omitted": ("gauge", ()),
    "salt_presence_minion_last_seen_timestamp_seconds": ("gauge", ("minion",)),
    "salt_presence_unknown_peers": ("gauge", ()),
    "salt_presence_shared_address_minions": ("gauge", ()),
    "salt_connections": ("gauge", ("channel", "state")),
    "salt_connections_peers": ("gauge", ("channel",)),
    "salt_connections_opened_total": ("counter", ("channel",)),
    "salt_connections_closed_total": ("counter", ("channel",)),
    "salt_connections_retransmitted_bytes_total": ("counter", ("channel",)),
    "salt_connections_listen_queue": ("gauge", ("channel",)),
    "salt_connections_listen_queue_limit": ("gauge", ("channel",)),
    "salt_connections_listen_overflows_total": ("counter", ()),
    "salt_connections_listen_drops_total": ("counter", ()),
    "salt_eventbus_events_total": ("counter", ("kind",)),
    "salt_eventbus_lag_seconds": ("gauge", ()),
    "salt_request_unanswered_connections": ("gauge", ()),
    "salt_request_oldest_unanswered_seconds": ("gauge", ()),
    "salt_probe_success": ("gauge", ("probe",)),
    "salt_probe_duration_seconds": ("histogram", ("probe",)),
    "salt_settings_value": ("gauge", ("option",)),
    "salt_settings_effective": ("gauge", ("option",)),
    "salt_settings_recommended": ("gauge", ("option",)),
    "salt_jobs_new_total": ("counter", ("function",)),
    "salt_jobs_in_flight": ("gauge", ()),
    "salt_jobs_responses_outstanding": ("gauge", ()),
    "salt_jobs_expected_responses_total": ("counter", ("function",)),
    "salt_jobs_responses_total": ("counter", ("function", "success")),
    "salt_jobs_closed_total": ("counter", ("function", "outcome")),
    "salt_jobs_closed_expected_responses_total": ("counter", ("function",)),
    "salt_jobs_closed_received_responses_total": ("counter", ("function",)),
    "salt_jobs_completion_ratio": ("histogram", ("function",)),
    "salt_jobs_late_responses_total": ("counter", ("function",)),
    "salt_jobs_duplicate_responses_total": ("counter", ("function",)),
    "salt_jobs_unexpected_responses_total": ("counter", ("function",)),
    "salt_jobs_response_seconds": ("histogram", ("function",)),
    "salt_eventbus_consumer_queue_bytes": ("gauge", ("process",)),
    "salt_eventbus_consumers": ("gauge", ()),
    "salt_jobs_bus_only_responses_total": ("counter", ()),
    "salt_jobs_cache_only_responses_total": ("counter", ()),
    "salt_jobs_missing_responses_total": ("counter", ("function", "cause")),
    "salt_jobs_return_delivery_seconds": ("histogram", ()),
    "salt_processes": ("gauge", ("role",)),
    "salt_processes_cpu_seconds_total": ("counter", ("role",)),
    "salt_processes_max_fds": ("gauge", ("role",)),
    "salt_processes_open_fds": ("gauge", ("role",)),
    "salt_processes_resident_memory_bytes": ("gauge", ("role",)),
    "salt_publish_bytes_total": ("counter", ()),
    "salt_publish_dropped_bytes_total": ("counter", ()),
    "salt_publish_dropped_messages_total": ("counter", ()),
    "salt_publish_frames_missing_total": ("counter", ()),
    "salt_publish_hwm_queue_messages_max": ("gauge", ()),
    "salt_publish_hwm_ratio": ("gauge", ()),
    "salt_publish_lost_on_close_bytes_total": ("counter", ()),
    "salt_publish_lost_on_close_messages_total": ("counter", ()),
    "salt_publish_messages_total": ("counter", ()),
    "salt_publish_minion_dropped_messages_total": ("counter", ("minion",)),
    "salt_publish_send_queue_bytes": ("gauge", ()),
    "salt_publish_send_queue_max_bytes": ("gauge", ()),
    "salt_publish_silent_subscribers": ("gauge", ()),
    "salt_publish_stalled_subscribers": ("gauge", ()),
    "salt_publish_subscribers_behind": ("gauge", ()),
    "salt_request_receive_queue_bytes": ("gauge", ()),
    "salt_request_worker_queue_bytes": ("gauge", ("pool",)),
    "salt_request_workers_stuck": ("gauge", ()),
    "salt_exporter_build_info": ("gauge", ("version", "python_version")),
    "salt_exporter_collector_success": ("gauge", ("collector",)),
    "salt_exporter_collector_duration_seconds": ("gauge", ("collector",)),
    "salt_exporter_eventbus_connected": ("gauge", ()),
    "salt_exporter_eventbus_reconnects_total": ("counter", ()),
    "salt_exporter_eventbus_decode_errors_total": ("counter", ()),
    "salt_exporter_events_shed_total": ("counter", ()),
    "salt_exporter_log_messages_total": ("counter", ("level",)),
    "salt_exporter_series_omitted": ("gauge", ("metric",)),
    "salt_exporter_sample_age_seconds": ("gauge", ("source",)),
    "salt_exporter_config_last_reload_successful": ("gauge", ()),
    "salt_exporter_config_last_reload_success_timestamp_seconds": ("gauge", ()),
    "salt_exporter_web_config_reload_successful": ("gauge", ()),
    "salt_exporter_web_config_reload_success_timestamp_seconds": ("gauge", ()),
}

# The metrics of Salt 3008's own OpenTelemetry module on the master (salt/utils/metrics.py), as it exports them.
SALTS_OWN = {
    "salt_master_requests_handled_total",
    "salt_jobs_completed_total",
    "salt_jobs_published_total",
    "salt_auth_attempts_total",
    "salt_events_fired_total",
    "salt_master_requests_duration_milliseconds",
    "salt_job_duration_milliseconds",
    "salt_master_connected_minions_count",
    "salt_master_workers_queue_depth",
    "salt_process_open_fds",
}

# Every label there is. A new one is thought about first: what bounds its values, whatever the network sends?
BOUNDED_LABELS = {
    "cause",  # 11 (analysis/causes.py)
    "channel",  # 2
    "cluster_id",  # 1
    "collector",  # as many as there are
    "command",  # 50, then "other" (analysis/workers.py)
    "function",  # jobs.max-functions
    "id",  # 1
    "kind",  # a closed set (master/events.py)
    "level",  # 2
    "metric",  # 1
    "minion",  # presence.max-series, or the accepted keys with presence.all-minions
    "option",  # a closed set (master/options.py)
    "outcome",  # 3
    "pool",  # the master's configuration
    "probe",  # 3
    "process",  # 20, then "other" (analysis/consumers.py)
    "role",  # a closed set (master/titles.py)
    "python_version",  # 1
    "source",  # closed sets
    "state",  # closed sets
    "success",  # 2
    "transport",  # 1
    "version",  # 1
}


def module_of(collector: type) -> ModuleType:
    """Return the module that a collector stands in."""
    return __import__(collector.__module__, fromlist=["_"])


def collector_of(name: str) -> str:
    """Return the collector that a metric's name promises."""
    return BARE.get(name) or name.split("_")[1]


@pytest.mark.parametrize("name", PROMISED)
def test_promised_metric_is_declared(name: str) -> None:
    """Every name that dashboards and alerts rely on exists with its kind and labels."""
    assert PROMISED[name] == next(((metric.kind, metric.labels) for metric in METRICS if metric.name == name), None)


def test_names_are_unique() -> None:
    """No two declarations share a name."""
    assert len(METRICS) == len({metric.name for metric in METRICS})


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_one_hop_from_name_to_file(metric: Metric) -> None:
    """A metric's name leads to the one file it is declared in, where it stands as one whole literal."""
    declaration = re.compile(rf'^\w+ = (?:gauge|counter|histogram)\(\s*"{metric.name}",', re.MULTILINE)
    files = [path for path in PACKAGE.rglob("*.py") if declaration.search(path.read_text())]

    assert files == [PACKAGE / "collectors" / f"{collector_of(metric.name)}.py"]


def test_nobody_declares_metrics_elsewhere() -> None:
    """Outside the vocabulary itself, only collectors make metrics, each those it reports."""
    makers = {"Metric", "gauge", "counter", "histogram"}
    found = {
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in makers
    }

    assert found == {"collectors", "metric.py"}


@pytest.mark.parametrize("collector", ALL, ids=lambda collector: collector.name)
def test_collector_lists_all_metrics_of_its_file(collector: type) -> None:
    """What a collector's file declares, the collector announces, in the same order; its name is the file's."""
    module = module_of(collector)
    declared = [value for value in vars(module).values() if isinstance(value, Metric)]

    assert declared == list(vars(collector)["metrics"])
    assert vars(collector)["name"] == module.__name__.rpartition(".")[2]


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_help_is_a_sentence(metric: Metric) -> None:
    """HELP is one line of a few words that begins like a sentence and ends with a full stop."""
    assert re.fullmatch(r"[A-Z1][^\n]*\S\.", metric.help)
    assert len(metric.help.split()) >= 5
    assert "  " not in metric.help


def test_labels_are_bounded() -> None:
    """Nothing that the network can make up without end is a label: no job, no user, no tag."""
    used = {label for metric in METRICS for label in metric.labels}

    assert used == BOUNDED_LABELS
    assert not used & {"jid", "user", "tag", "type", "le", "quantile", "job", "instance", "cluster", "env", "service"}


def test_names_keep_to_prometheus_conventions() -> None:
    """Units are base units and stand last; instants end in `_timestamp_seconds`, text in `_info`, parts in `_ratio`."""
    for metric in METRICS:
        words = metric.name.split("_")
        assert not {"milliseconds", "minutes", "hours", "kilobytes", "percent", "count", "bucket", "sum"} & {*words}
        last = words[-2] if metric.kind == "counter" else words[-1]
        assert {"seconds", "bytes", "ratio", "info"} & {*words} <= {last}
        assert ("timestamp" in words) is metric.help.startswith("Unix time")


def test_names_of_salt_itself_are_left_alone() -> None:
    """None of our names is one that Salt gives another meaning."""
    assert not SALTS_OWN & {metric.name for metric in METRICS}
