"""The committed dashboards are what the generator writes, and what Grafana understands."""

import json
from pathlib import Path

import pytest
import yaml

from grafana.generate import DASHBOARDS, generate
from tests.alerts.declarations import catalogue
from tests.alerts.rules import load_alerts
from tests.grafana.expressions import Json, panel_expressions, panels
from tests.grafana.lint import lint
from tests.grafana.schema import schema_errors

GRAFANA = Path(__file__).parent.parent.parent / "grafana"
every_dashboard = pytest.mark.parametrize("name", DASHBOARDS)


def test_generated_dashboards_are_committed(tmp_path: Path) -> None:
    """Running the generator changes no byte, adds no file and leaves none over."""
    generate(tmp_path)

    assert _contents(tmp_path) == _contents(GRAFANA), "run: python -m grafana.generate"


@every_dashboard
def test_grafana_knows_every_key(name: str) -> None:
    """Grafana's own schema has every key, type and id that the dashboard uses."""
    assert list(schema_errors(_load(name))) == []


@every_dashboard
def test_lint(name: str) -> None:
    """The dashboard breaks no rule of dashboard-linter and none of ours."""
    assert lint(_load(name), catalogue()) == []


@every_dashboard
def test_file_and_uid_agree(name: str) -> None:
    """The uid, which is part of every link to a dashboard, is stable and the name of its file."""
    assert f"{_load(name)['uid']}.json" == name


@every_dashboard
def test_variables_are_filled_in(name: str) -> None:
    """Every query is handed out ready to execute, with no variable left in it."""
    expressions = panel_expressions(_load(name))

    assert expressions != []
    assert [expr for _, expr in expressions if "$" in expr] == []


def test_every_alert_has_a_panel() -> None:
    """Whoever is woken by an alert finds a panel that watches the same and leads to the runbook."""
    linked = {link["url"] for name in DASHBOARDS for panel in panels(_load(name)) for link in panel.get("links", [])}

    assert {alert.annotations["runbook_url"] for alert in load_alerts()} <= linked


def test_provisioning_finds_what_the_dashboards_need() -> None:
    """The provisioned data source is a Prometheus, and the provider reads JSON from a folder."""
    (source,) = _provisioning("datasources")["datasources"]
    (provider,) = _provisioning("dashboards")["providers"]

    assert (source["type"], provider["type"]) == ("prometheus", "file")
    assert "timeInterval" in source["jsonData"]
    assert "path" in provider["options"]


def _load(name: str) -> Json:
    dashboard: Json = json.loads((GRAFANA / name).read_text(encoding="utf-8"))
    return dashboard


def _contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.glob("*.json")}


def _provisioning(name: str) -> Json:
    document: Json = yaml.safe_load((GRAFANA / "provisioning" / f"{name}.yml").read_text(encoding="utf-8"))
    return document
