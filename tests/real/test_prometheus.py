"""A real Prometheus beside the exporter: what it scrapes, and whether panels and alerts get data from it."""

from __future__ import annotations

import json
import shutil
import time
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from grafana.generate import DASHBOARDS
from tests.alerts.rules import RULES, alert_expressions
from tests.grafana.expressions import annotation_expressions, may_be_empty, panel_expressions, panels
from tests.real.newest import newest_line_only

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salt_exporter.demo.lab import Lab
    from tests.real.exporter import Exporter
    from tests.real.namespaces import Network

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus on the PATH"),
]

_with_newest = newest_line_only("what becomes of metrics is the same for all")

_URL = "http://127.0.0.1:9090"
_GRAFANA = Path(__file__).parents[2] / "grafana"

_CONFIG = """\
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: ["%s"]
scrape_configs:
  - job_name: salt
    static_configs: [{targets: ["127.0.0.1:4507"]}]
"""


class Prometheus:
    """Prometheus in the master's network namespace."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the result of an instant query; AssertionError if Prometheus refuses it."""
        answer = self.api("query", query=expression)
        found: list[dict[str, Any]] = answer["result"]
        return found

    def api(self, path: str, **parameters: str) -> Any:  # noqa: ANN401 - JSON
        """Return the data of an API call."""
        answer = json.loads(self._exporter.get(f"/api/v1/{path}?{urllib.parse.urlencode(parameters)}", _URL))
        assert answer["status"] == "success"
        return answer["data"]


@pytest.fixture(scope="module")
def prometheus(
    exporter: Exporter, lab: Lab, network: Network, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """Yield a Prometheus that has scraped the exporter for some seconds, while jobs ran."""
    folder = tmp_path_factory.mktemp("prometheus")
    config = folder / "prometheus.yml"
    config.write_text(_CONFIG % RULES)
    argv = [
        shutil.which("prometheus") or "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={folder}/tsdb",
        "--web.listen-address=127.0.0.1:9090",
        "--enable-feature=exemplar-storage",
    ]
    lab.start("prometheus", argv, network.prefix("master"))
    prometheus = Prometheus(exporter)
    lab.wait("prometheus", lambda: _has_samples(prometheus), 40)
    lab.salt("*", "test.ping")
    exporter.wait(lambda metrics: metrics.get("salt_jobs_in_flight") == 0, 20, "the job is closed")
    lab.wait("prometheus", lambda: bool(prometheus.query("rate(salt_jobs_closed_total[10s]) > 0")), 20)
    yield prometheus
    lab.stop("prometheus")


def _has_samples(prometheus: Prometheus) -> bool:
    try:
        return bool(prometheus.query("salt_master_up"))
    except Exception:  # noqa: BLE001 - not listening yet
        return False


@_with_newest
def test_prometheus_scrapes_the_exporter(prometheus: Prometheus) -> None:
    """The target is up, and Prometheus drops no sample of it."""
    (target,) = prometheus.api("targets")["activeTargets"]
    assert ("up", "") == (target["health"], target["lastError"])
    (sample,) = prometheus.query('salt_presence_minion_not_present{minion="ghost"}')
    assert "1" == sample["value"][1]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool on the PATH")
def test_promtool_has_nothing_to_say(exporter: Exporter) -> None:
    """`promtool check metrics` finds no fault with a live scrape."""
    assert "" == exporter.run_beside("promtool", "check", "metrics", stdin=exporter.scrape().text)


@_with_newest
def test_a_loss_is_named_by_its_exemplar(prometheus: Prometheus) -> None:
    """The counter of missing responses leads from a cause to a job and a minion."""
    now = time.time()
    name = "salt_jobs_missing_responses_total"
    found = prometheus.api("query_exemplars", query=name, start=str(now - 3600), end=str(now))
    named = [exemplar["labels"] for series in found for exemplar in series["exemplars"]]
    assert "ghost" in {labels["minion"] for labels in named}
    assert all(len(labels["jid"]) == 20 for labels in named)


@_with_newest
@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_panel_has_data(prometheus: Prometheus, name: str) -> None:
    """Every query of a dashboard is valid, and every panel has data of the live exporter, or words for having none.

    One query of a panel is enough: a minion that never spoke has no time at which it was last seen.
    """
    dashboard = json.loads((_GRAFANA / name).read_text())
    filled: dict[str, bool] = {
        panel["title"]: True for panel in panels(dashboard) if "targets" in panel and may_be_empty(panel)
    }
    for title, expression in panel_expressions(dashboard):
        filled[title] = bool(prometheus.query(expression)) or filled.get(title, False)
    assert [] == [title for title, has_data in filled.items() if not has_data]
    for _name, expression in annotation_expressions(dashboard):
        prometheus.query(expression)


@_with_newest
def test_every_alert_can_be_evaluated(prometheus: Prometheus) -> None:
    """Prometheus loads the rule file and evaluates every expression and query of every alert without a fault."""
    rules = [rule for group in prometheus.api("rules")["groups"] for rule in group["rules"]]
    assert rules
    assert {"ok"} == {rule["health"] for rule in rules}
    for _name, expression in alert_expressions():
        prometheus.query(expression)
