"""Lint a dashboard: the rules of Grafana's dashboard-linter by their names there, and ours.

A rule takes what it looks at and yields one message per fault. dashboard-linter itself is a Go program and in
no package registry that this project uses, so its rules are written anew.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from promql_parser import parse

from tests.alerts.labels import labels_of
from tests.grafana.expressions import annotation_expressions, panels, substitute
from tests.grafana.lint_links import LINK_RULES
from tests.grafana.lint_panels import PANEL_RULES
from tests.grafana.lint_queries import QUERY_RULES, Query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.alerts.labels import Catalogue
    from tests.grafana.expressions import Json

GRID_WIDTH = 24


class Finding(NamedTuple):
    """A fault: the rule it breaks and what is wrong where."""

    rule: str
    message: str


def lint(dashboard: Json, catalogue: Catalogue) -> list[Finding]:
    """Return the faults of `dashboard`; `catalogue` says which metrics and labels there are."""
    return list(_lint(dashboard, catalogue))


def _lint(dashboard: Json, catalogue: Catalogue) -> Iterator[Finding]:
    for name, dashboard_rule in DASHBOARD_RULES.items():
        yield from (Finding(name, message) for message in dashboard_rule(dashboard, catalogue))
    for panel in panels(dashboard):
        if panel["type"] != "row":
            yield from _lint_panel(panel, catalogue)


def _lint_panel(panel: Json, catalogue: Catalogue) -> Iterator[Finding]:
    title = panel.get("title", "")
    for name, panel_rule in (PANEL_RULES | LINK_RULES).items():
        yield from (Finding(name, f"{title}: {message}") for message in panel_rule(panel))
    for target in panel.get("targets", []):
        try:
            query = Query(panel, target, parse(substitute(target["expr"])), catalogue)
        except ValueError as error:
            yield Finding("target-promql-rule", f"{title}: {error}: {target['expr']}")
            continue
        for name, query_rule in QUERY_RULES.items():
            yield from (Finding(name, f"{title}: {message}") for message in query_rule(query))


def _datasource_variable(dashboard: Json, _: Catalogue) -> Iterator[str]:
    found = [variable for variable in _variables(dashboard) if variable["type"] == "datasource"]
    names = [(variable["name"], variable["label"], variable["query"]) for variable in found]
    if names != [("datasource", "Data source", "prometheus")]:
        yield f"not exactly one variable for the data source: {names}"


def _job_variable(dashboard: Json, _: Catalogue) -> Iterator[str]:
    yield from _target_variable(dashboard, "job")


def _instance_variable(dashboard: Json, _: Catalogue) -> Iterator[str]:
    yield from _target_variable(dashboard, "instance")


def _target_variable(dashboard: Json, name: str) -> Iterator[str]:
    variable = next((variable for variable in _variables(dashboard) if variable["name"] == name), {})
    wanted = {
        "type": "query",
        "label": name.title(),
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
    }
    if faults := {key: value for key, value in wanted.items() if variable.get(key) != value}:
        yield f"variable {name} lacks {faults}"


def _variable_queries(dashboard: Json, catalogue: Catalogue) -> Iterator[str]:
    for variable in _query_variables(dashboard):
        query = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
        if query is None:
            yield f"variable {variable['name']} is no label_values(metric, label)"
        elif fault := _fault(f"sum by ({query[2]}) ({substitute(query[1])})", catalogue):
            yield f"variable {variable['name']}: {fault}"


def _variable_reload(dashboard: Json, _: Catalogue) -> Iterator[str]:
    for variable in _query_variables(dashboard):
        if variable.get("refresh") != 2:
            yield f"variable {variable['name']} is not refreshed when the time range changes"


def _uneditable(dashboard: Json, _: Catalogue) -> Iterator[str]:
    if dashboard.get("editable", True):
        yield "edits in the browser would be lost with the next version"


def _panel_ids(dashboard: Json, _: Catalogue) -> Iterator[str]:
    counts = Counter(panel["id"] for panel in panels(dashboard))
    yield from (f"id {number} is used {count} times" for number, count in counts.items() if count > 1)


def _grid(dashboard: Json, _: Catalogue) -> Iterator[str]:
    cells = Counter(cell for panel in dashboard["panels"] for cell in _cells(panel))
    if overlaps := [cell for cell, count in cells.items() if count > 1]:
        yield f"panels overlap at {overlaps[0]}"
    if outside := [cell for cell in cells if cell[0] >= GRID_WIDTH]:
        yield f"a panel reaches beyond the right edge at {outside[0]}"
    height = 1 + max(y for _, y in cells)
    if gaps := set(product(range(GRID_WIDTH), range(height))) - set(cells):
        yield f"a gap at {min(gaps)}"


def _annotations(dashboard: Json, catalogue: Catalogue) -> Iterator[str]:
    for name, expr in annotation_expressions(dashboard):
        if fault := _fault(expr, catalogue):
            yield f"annotation {name}: {fault}"


def _fault(expr: str, catalogue: Catalogue) -> str:
    """Return what is wrong with an expression, nothing if all is well."""
    try:
        labels_of(parse(expr), catalogue)
    except ValueError as error:
        return str(error)
    return ""


def _variables(dashboard: Json) -> list[Json]:
    variables: list[Json] = dashboard["templating"]["list"]
    return variables


def _query_variables(dashboard: Json) -> Iterator[Json]:
    return (variable for variable in _variables(dashboard) if variable["type"] == "query")


def _cells(panel: Json) -> Iterator[tuple[int, int]]:
    place = panel["gridPos"]
    return product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"]))


DASHBOARD_RULES = {
    "template-datasource-rule": _datasource_variable,
    "template-job-rule": _job_variable,
    "template-instance-rule": _instance_variable,
    "template-label-promql-rule": _variable_queries,
    "template-on-time-change-reload-rule": _variable_reload,
    "uneditable-dashboard": _uneditable,
    # Ours:
    "panel-id": _panel_ids,
    "grid": _grid,
    "annotation-promql": _annotations,
}
