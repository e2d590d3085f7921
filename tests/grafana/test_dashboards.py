"""The committed dashboards are what the generator writes, and what Grafana understands."""

import json
import re
from pathlib import Path

import pytest
import yaml

from grafana.generate import DASHBOARDS, generate
from grafana.losses import COLOURS
from salt_exporter.analysis.causes import CAUSES
from tests.alerts.rules import Alert, load_alerts
from tests.grafana.expressions import Json, panel_expressions, panels
from tests.grafana.lint import lint
from tests.grafana.lint_links import dashboard_of, data_links, exporter_page
from tests.grafana.schema import schema_errors
from tests.grafana.series import known_series

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
    assert lint(_load(name), known_series()) == []


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


@pytest.mark.parametrize("alert", load_alerts(), ids=lambda alert: alert.name)
def test_an_alert_leads_to_a_dashboard_that_knows_it(alert: Alert) -> None:
    """The dashboard that an alert names exists, and a panel of it leads to the alert's runbook."""
    uid = alert.annotations["dashboard_url"].removeprefix("/d/").partition("?")[0]
    links = [link["url"] for panel in panels(_load(f"{uid}.json")) for link in panel.get("links", [])]

    assert alert.annotations["runbook_url"] in links


@pytest.mark.parametrize("parameter", ["cause", "minion"])
def test_from_the_overview_to_jids_in_three_clicks(parameter: str) -> None:
    """From "is anything being lost?" two clicks lead to the losses of a cause or minion, with their jids."""
    reached = [link for panel in panels(_load("salt-overview.json")) for link in data_links(panel)]
    for clicks in (1, 2, 3):
        pages = [page for page in map(exporter_page, reached) if page]
        if ("/api/v1/losses", {parameter}) in pages:
            assert clicks <= 3
            return
        uids = {uid for uid in map(dashboard_of, reached) if uid}
        reached = [link for uid in uids for panel in panels(_load(f"{uid}.json")) for link in data_links(panel)]
    pytest.fail(f"no losses by {parameter} within three clicks")


def test_exemplars_name_jids() -> None:
    """Graphs of missing responses ask for exemplars, and the data source leads from one to the losses of its jid."""
    asking = [
        target["expr"]
        for name in DASHBOARDS
        for panel in panels(_load(name))
        for target in panel.get("targets", [])
        if target.get("exemplar")
    ]
    (source,) = _provisioning("datasources")["datasources"]
    (jids,) = source["jsonData"]["exemplarTraceIdDestinations"]

    assert asking != []
    assert [expr for expr in asking if "salt_jobs_missing_responses_total" not in expr] == []
    assert jids["name"] == "jid"
    assert jids["url"].endswith("/api/v1/losses?jid=$${__value.raw}")


def test_every_cause_has_a_colour() -> None:
    """Each cause of a missing response has its own colour, the same on every dashboard."""
    assert set(COLOURS) == {cause.value for cause in CAUSES}
    assert len(set(COLOURS.values())) == len(COLOURS)


def test_every_dashboard_is_explained_and_pictured() -> None:
    """docs/dashboards.md has a chapter with a picture for each dashboard, and no picture is left over."""
    document = (GRAFANA.parent / "docs" / "dashboards.md").read_text(encoding="utf-8")
    titles = {_load(name)["title"].removeprefix("Salt / ") for name in DASHBOARDS}
    pictures = {path.name for path in (GRAFANA.parent / "docs" / "pictures").glob("salt-*.png")}

    assert titles <= set(re.findall(r"^## (.+)$", document, re.MULTILINE))
    assert pictures == set(re.findall(r"\(pictures/([\w-]+\.png)\)", document))
    assert pictures == {name.replace(".json", ".png") for name in DASHBOARDS}


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
