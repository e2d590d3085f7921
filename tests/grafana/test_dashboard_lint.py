"""Every rule of the linter has been seen failing: a good dashboard is broken in one place at a time."""

import json
from typing import Any

import pytest

from grafana.dashboard import dashboard
from grafana.links import to_dashboard, to_exporter, to_losses
from grafana.panels import stat, timeseries
from grafana.parts import MASTER, panel_id
from grafana.tables import table, watched
from tests.grafana.expressions import Json
from tests.grafana.lint import DASHBOARD_RULES, lint
from tests.grafana.lint_links import LINK_RULES
from tests.grafana.lint_panels import PANEL_RULES
from tests.grafana.lint_queries import QUERY_RULES
from tests.grafana.schema import schema_errors

TARGET = frozenset({"job", "instance"})
CATALOGUE = {
    "salt_master_up": TARGET,
    "salt_keys": TARGET | {"state"},
    "salt_jobs_new_total": TARGET | {"function"},
    "salt_exporter_eventbus_reconnects_total": TARGET,
    "salt_exporter_config_last_reload_success_timestamp_seconds": TARGET,
    "salt_exporter_build_info": TARGET,
    "ALERTS": TARGET | {"alertname", "alertstate"},
}

Path = tuple[str | int, ...]

DATASOURCE, JOB, INSTANCE = (("templating", "list", number) for number in range(3))
STAT, GRAPH, TABLE = (("panels", number) for number in (1, 2, 3))
STAT_EXPR, GRAPH_EXPR, TABLE_EXPR = ((*panel, "targets", 0, "expr") for panel in (STAT, GRAPH, TABLE))

CELL_LINK = (*TABLE, "fieldConfig", "overrides", 0, "properties", 0, "value", 0)

# rule, place that is broken, value that breaks it
BREAKS: list[tuple[str, Path, object]] = [
    ("template-datasource-rule", (*DATASOURCE, "name"), "source"),
    ("template-datasource-rule", (*DATASOURCE, "label"), "Datasource"),
    ("template-datasource-rule", (*DATASOURCE, "query"), "loki"),
    ("template-job-rule", (*JOB, "label"), "job"),
    ("template-job-rule", (*JOB, "multi"), False),
    ("template-job-rule", (*JOB, "name"), "jobs"),
    ("template-instance-rule", (*INSTANCE, "allValue"), ".*"),
    ("template-instance-rule", (*INSTANCE, "datasource", "uid"), "prometheus"),
    ("template-label-promql-rule", (*JOB, "query"), "metrics(salt_.+)"),
    ("template-label-promql-rule", (*JOB, "query"), "label_values(salt_master_up{, job)"),
    ("template-label-promql-rule", (*JOB, "query"), "label_values(salt_master_down, job)"),
    ("template-label-promql-rule", (*JOB, "query"), "label_values(salt_master_up, state)"),
    ("template-on-time-change-reload-rule", (*JOB, "refresh"), 1),
    ("uneditable-dashboard", ("editable",), True),
    ("panel-id", (*STAT, "id"), panel_id("Jobs")),
    ("grid", (*STAT, "gridPos", "h"), 5),
    ("grid", (*STAT, "gridPos", "w"), 23),
    ("grid", (*STAT, "gridPos", "w"), 25),
    ("annotation-promql", ("annotations", "list", 0, "expr"), "ALERTS{"),
    ("annotation-promql", ("annotations", "list", 0, "expr"), "ALARMS"),
    ("panel-title-description-rule", (*GRAPH, "title"), ""),
    ("panel-title-description-rule", (*GRAPH, "description"), ""),
    ("panel-units-rule", (*GRAPH, "fieldConfig", "defaults", "unit"), "count"),
    ("panel-units-rule", (*TABLE, "fieldConfig", "overrides", 1, "properties", 3, "value"), "ago"),
    ("panel-datasource-rule", (*GRAPH, "datasource"), None),
    ("panel-datasource-rule", (*GRAPH, "targets", 0, "datasource", "uid"), "prometheus"),
    ("panel-no-targets-rule", (*GRAPH, "targets"), []),
    ("panel-type", (*GRAPH, "type"), "piechart"),
    ("panel-axis", (*GRAPH, "fieldConfig", "defaults", "min"), None),
    ("panel-last-value", (*STAT, "options", "reduceOptions", "calcs"), []),
    ("panel-legend", (*GRAPH, "options", "legend", "calcs"), []),
    ("panel-threshold", (*STAT, "fieldConfig", "defaults", "thresholds", "steps", 1, "value"), 2),
    ("panel-threshold", (*TABLE, "fieldConfig", "overrides", 1, "properties", 1, "value", "steps", 1, "value"), 2),
    ("panel-threshold", (*STAT, "links"), []),
    ("panel-threshold", (*STAT, "links", 0, "url"), "https://example.org/SaltMasterDown"),
    ("target-promql-rule", GRAPH_EXPR, "rate(salt_jobs_new_total"),
    (
        "target-rate-interval-rule",
        GRAPH_EXPR,
        f"sum by (function, instance) (rate(salt_jobs_new_total{{{MASTER}}}[5m]))",
    ),
    (
        "target-rate-interval-rule",
        GRAPH_EXPR,
        f"sum by (function, instance) (rate(salt_jobs_new_total{{{MASTER}}}[$__range]))",
    ),
    ("target-job-rule", STAT_EXPR, 'avg(salt_master_up{instance=~"$instance"})'),
    ("target-job-rule", STAT_EXPR, 'avg(salt_master_up{job="$job",instance=~"$instance"})'),
    ("target-instance-rule", STAT_EXPR, 'avg(salt_master_up{job=~"$job"})'),
    ("target-counter-agg-rule", GRAPH_EXPR, f"sum by (function, instance) (salt_jobs_new_total{{{MASTER}}})"),
    ("query-topk", STAT_EXPR, f"topk(3, salt_master_up{{{MASTER}}})"),
    ("query-names", STAT_EXPR, f"avg(salt_masters_up{{{MASTER}}})"),
    ("query-names", STAT_EXPR, f"avg by (state) (salt_master_up{{{MASTER}}})"),
    ("query-legend", (*GRAPH, "targets", 0, "legendFormat"), "{{fun}}"),
    ("query-columns", TABLE_EXPR, f"max by (instance, state) (salt_keys{{{MASTER}}})"),
    ("query-columns", (*TABLE, "transformations", 1, "options", "indexByName"), {"instance": 0}),
    (
        "query-link-labels",
        GRAPH_EXPR,
        f"sum by (function) (rate(salt_jobs_new_total{{{MASTER}}}[$__rate_interval]))",
    ),
    ("link-destination", (*STAT, "fieldConfig", "defaults", "links", 0, "url"), "/d/salt-job?${__url_time_range}"),
    ("link-destination", (*STAT, "fieldConfig", "defaults", "links", 0, "url"), "/d/salt-jobs?${__all_variables}"),
    ("link-destination", (*STAT, "fieldConfig", "defaults", "links", 0, "url"), "https://example.org/"),
    ("link-destination", (*CELL_LINK, "url"), "${scheme}://${__data.fields.Master}/api/v1/loss"),
    ("link-destination", (*CELL_LINK, "url"), "${scheme}://${__data.fields.Master}/api/v1/losses?user=x"),
    (
        "link-columns",
        (*CELL_LINK, "url"),
        "${scheme}://${__data.fields.Master}/api/v1/losses?cause=${__data.fields.Why}",
    ),
]


def small_dashboard() -> Json:
    """Return a faultless dashboard: a row of a stat, a graph and a table, one above the other."""
    jobs = "sum by (function, instance) (rate(salt_jobs_new_total{MASTER}[$__rate_interval]))"
    keys = {"Keys": "max by (instance) (salt_keys{MASTER})"}
    losses = to_losses("Losses", minion="Master")
    settings = {"Master": {"links": [losses]}, "Keys": watched("SaltMasterDown", unit="locale")}
    panels = [
        stat(
            "Up",
            "Is it?",
            "avg(salt_master_up{MASTER})",
            width=24,
            to=[to_dashboard("salt-jobs", "Jobs")],
            alerts=["SaltMasterDown"],
        ),
        timeseries("Jobs", "How many?", {"{{function}}": jobs}, width=24, unit="suffix:/s", to=[to_exporter("Page")]),
        table(
            "Keys",
            "Which?",
            {"instance": "Master"},
            keys,
            width=24,
            empty="-",
            sort="Keys",
            fields=settings,
            alerts=["SaltMasterDown"],
        ),
    ]
    return dashboard("small", "Small", "One panel of each kind.", {"Row": panels})


def broken(path: Path, value: object) -> Json:
    """Return the small dashboard with another value at `path`."""
    board: Json = json.loads(json.dumps(small_dashboard()))  # shares nothing
    place: Any = board
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return board


def test_a_good_dashboard_passes() -> None:
    """Where nothing is wrong, neither the linter nor the schema has anything to say."""
    assert lint(small_dashboard(), CATALOGUE) == []
    assert list(schema_errors(small_dashboard())) == []


@pytest.mark.parametrize(("rule", "path", "value"), BREAKS)
def test_a_broken_dashboard_fails(rule: str, path: Path, value: object) -> None:
    """A dashboard that is broken in one place breaks the rule that forbids it, and no other."""
    assert {rule} == {finding.rule for finding in lint(broken(path, value), CATALOGUE)}


def test_every_rule_has_been_seen_failing() -> None:
    """No rule is without a dashboard that it stops."""
    rules = {*DASHBOARD_RULES, *PANEL_RULES, *LINK_RULES, *QUERY_RULES, "target-promql-rule"}

    assert rules == {rule for rule, _, _ in BREAKS}


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (("refresh",), 5, "dashboard: $.refresh: 5 is not of type 'string'"),
        (("schemaVersions",), 39, "'schemaVersions' was unexpected"),
        ((*JOB, "refresh"), 3, "$.templating.list[1].refresh: 3 is not one of [0, 1, 2]"),
        ((*STAT, "gridPos", "width"), 3, "Up: $.gridPos: Additional properties are not allowed"),
        ((*STAT, "repat"), "x", "'repat' was unexpected"),
        ((*STAT, "links", 0, "icon"), None, "Up: $.links[0].icon: None is not of type 'string'"),
        (("panels", 0, "collapsed"), "no", "Row: $.collapsed: 'no' is not of type 'boolean'"),
        ((*TABLE, "transformations", 0, "id"), "merged", "Keys: no transformation merged"),
        ((*STAT, "options", "reduceOptions", "calcs", 0), "newest", "Up: no reduction newest"),
        ((*GRAPH, "options", "legend", "calcs", 0), "newest", "Jobs: no reduction newest"),
        ((*STAT, "options", "colourMode"), "value", "Up: options: $: Additional properties are not allowed"),
        ((*GRAPH, "options", "legend", "displayMode"), "tabel", "Jobs: options: $.legend.displayMode: 'tabel'"),
        ((*GRAPH, "fieldConfig", "defaults", "custom", "drawStyle"), "lines", "Jobs: custom: $.drawStyle: 'lines'"),
        ((*STAT, "fieldConfig", "defaults", "custom"), {"width": 2}, "Up: custom: $: Additional properties"),
        (
            (*TABLE, "fieldConfig", "overrides", 1, "properties", 2, "id"),
            "custom.cellStyle",
            "'cellStyle' was unexpected",
        ),
        ((*STAT, "type"), "gauge", "Up: no schema of panels of type gauge"),
        (("annotations", "list", 0, "colour"), "red", "'colour' was unexpected"),
    ],
)
def test_what_grafana_does_not_know_is_an_error(path: Path, value: object, complaint: str) -> None:
    """A misspelt key, a wrong type and an unknown id are errors that say where they are."""
    errors = list(schema_errors(broken(path, value)))

    assert len(errors) == 1
    assert complaint in errors[0]
