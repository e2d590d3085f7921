"""The master as a whole: its settings, its restart, and what the exporter says of itself meanwhile."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from salt_exporter.collectors import ALL
from salt_exporter.demo.cleaner import Cleaner
from salt_exporter.demo.lab import Lab
from tests.real.exporter import Exporter

if TYPE_CHECKING:
    from pathlib import Path

    from tests.real.conftest import SaltLine
    from tests.real.exporter import Metrics
    from tests.real.namespaces import Network

pytestmark = pytest.mark.real


def _failing(metrics: Metrics) -> set[str]:
    success = metrics.by("salt_exporter_collector_success", "collector")
    return {collector for (collector,), value in success.items() if not value}


def test_all_collectors_succeed(exporter: Exporter, salt_line: SaltLine) -> None:
    """Beside a healthy master every collector succeeds, and its own Python has resolved its options."""
    metrics = exporter.wait(lambda metrics: not _failing(metrics), 20, "all collectors succeed")
    assert len(ALL) == len(metrics.by("salt_exporter_collector_success", "collector"))
    assert metrics.get("salt_master_up") == 1
    (version,) = metrics.labels("salt_master_info", "version")
    assert salt_line.name == version.partition(".")[0]
    assert ["master"] == metrics.labels("salt_master_info", "source")


def test_a_changed_option_shows(exporter: Exporter, lab: Lab) -> None:
    """A new drop-in shows in the metrics without a restart of the exporter, and `check` says what is to be done."""
    drop_in = lab.config_dir / "master.d" / "sizes.conf"
    drop_in.parent.mkdir(exist_ok=True)
    drop_in.write_text("pub_hwm: 12345\nzmq_backlog: 17\nsalt_event_pub_hwm: 128000\n")
    try:
        metrics = exporter.wait(
            lambda metrics: metrics.get("salt_settings_value", option="pub_hwm") == 12345, 15, "the new pub_hwm"
        )
        assert metrics.get("salt_settings_value", option="salt_event_pub_hwm") == 128000
        assert metrics.get("salt_settings_effective", option="salt_event_pub_hwm") == 0
        assert metrics.get("salt_settings_effective", option="pub_hwm") == 1
        assert metrics.get("salt_settings_recommended", option="zmq_backlog") == 1000
        report = exporter.command("check")
        assert "zmq_backlog is 17: for 6 minions set 1000" in report
        assert "salt_event_pub_hwm is set but no part of Salt" in report
    finally:
        drop_in.unlink()
    exporter.wait(lambda metrics: metrics.get("salt_settings_value", option="pub_hwm") == 1000, 15, "the old pub_hwm")


def test_check_reports_as_json(exporter: Exporter) -> None:
    """`check --json` holds the same facts and findings for a program to read."""
    report = json.loads(exporter.command("check", "--json"))
    assert {} == report["blind"]
    assert (6, 5, 1) == tuple(report["facts"]["minions"][name] for name in ("accepted", "present", "not_present"))
    assert any("ghost is not present" in finding["says"] for finding in report["findings"])


def test_the_exporter_outlives_a_restart_of_the_master(exporter: Exporter, lab: Lab) -> None:
    """While the master is down that is what the metrics say; when it is back everything is, without a hand on it."""
    before = exporter.scrape()
    lab.stop("master")
    down = exporter.wait(
        lambda metrics: (
            metrics.get("salt_master_up") == 0
            and metrics.get("salt_exporter_eventbus_connected") == 0
            and "eventbus" in _failing(metrics)
        ),
        20,
        "the master is down",
    )
    assert not _failing(down) & {"keys", "connections", "jobs", "exporter"}
    lab.restart("master")
    lab.wait_master_ready()
    minions = ["web1", "web2", "dual", "six", "cut"]
    lab.wait_minions(minions)
    after = exporter.wait(
        lambda metrics: (
            metrics.get("salt_master_up") == 1
            and not _failing(metrics)
            and metrics.get("salt_presence_minions", state="present") == 5
        ),
        40,
        "everything is as before",
    )
    reconnects = "salt_exporter_eventbus_reconnects_total"
    assert after.get(reconnects) > before.get(reconnects)
    assert after.get("salt_exporter_eventbus_decode_errors_total") == 0
    returns = "salt_eventbus_events_total"
    lab.wait_minions(minions)
    exporter.wait(
        lambda metrics: metrics.get(returns, kind="job_return") > before.get(returns, kind="job_return"),
        20,
        "returns are seen again",
    )


def test_ipc_mode_tcp(salt_line: SaltLine, network: Network, tmp_path: Path) -> None:
    """A master with `ipc_mode: tcp` has its event bus on a port of the loopback: read all the same."""
    options = {"interface": "127.0.0.1", "ipc_mode": "tcp"}
    node = network.prefix("web1")  # where the ports of a second master are free
    with closing(Cleaner()) as cleaner:
        lab = Lab(cleaner, salt_line.programs, options=options, prefix=node)
        lab.start_master()
        exporter = Exporter(lab, node, tmp_path)
        exporter.wait(lambda metrics: metrics.get("salt_exporter_eventbus_connected") == 1, 40, "connected by TCP")
        lab.run("test.arg", "hello")
        metrics = exporter.wait(
            lambda metrics: metrics.get("salt_eventbus_events_total", 0, kind="run") >= 2, 20, "a runner's events"
        )
        assert metrics.get("salt_exporter_eventbus_decode_errors_total") == 0
        exporter.stop()
