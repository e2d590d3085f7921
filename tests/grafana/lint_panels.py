"""Lint rules for a panel, whatever it queries."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from promql_parser import BinaryExpr, NumberLiteral, parse

from tests.alerts.promql import walk
from tests.alerts.rules import load_alerts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.grafana.expressions import Json

# Grafana shows what stands behind it after the number.
_OWN_UNIT = "suffix:"
# All that can also be drawn outside Grafana.
TYPES = {"stat", "timeseries", "table", "bargauge", "text"}
UNITS = set(json.loads((Path(__file__).parent / "ids.json").read_text(encoding="utf-8"))["units"])


def _type(panel: Json) -> Iterator[str]:
    if panel["type"] not in TYPES:
        yield f"type {panel['type']}"


def _title_and_description(panel: Json) -> Iterator[str]:
    if not panel.get("title") or not panel.get("description"):
        yield "no title or no description"


def _unit(panel: Json) -> Iterator[str]:
    settings = panel.get("fieldConfig", {"defaults": {}, "overrides": []})
    units = [settings["defaults"].get("unit")] + [
        item["value"] for override in settings["overrides"] for item in override["properties"] if item["id"] == "unit"
    ]
    if panel["type"] != "text" and (unknown := [unit for unit in units if not _is_unit(unit)]):
        yield f"Grafana has no unit {unknown}"


def _is_unit(unit: str | None) -> bool:
    return unit in UNITS or (unit or "").startswith(_OWN_UNIT)


def _datasource(panel: Json) -> Iterator[str]:
    for place in [panel, *panel.get("targets", [])]:
        if place.get("datasource") != {"type": "prometheus", "uid": "${datasource}"}:
            yield f"the data source is not the dashboard's: {place.get('datasource')}"


def _targets(panel: Json) -> Iterator[str]:
    if panel["type"] != "text" and not panel.get("targets"):
        yield "no query"


def _axis_from_zero(panel: Json) -> Iterator[str]:
    if panel["type"] == "timeseries" and panel["fieldConfig"]["defaults"].get("min") != 0:
        yield "the axis does not begin at 0, so small changes look large"


def _last_value(panel: Json) -> Iterator[str]:
    if panel["type"] in {"stat", "bargauge"} and panel["options"]["reduceOptions"]["calcs"] != ["lastNotNull"]:
        yield "does not show the last value"


def _legend(panel: Json) -> Iterator[str]:
    if panel["type"] != "timeseries":
        return
    legend = panel["options"]["legend"]
    if not (legend["showLegend"] and legend["displayMode"] == "table" and legend["calcs"]):
        yield "the legend is no table of values"


def _thresholds(panel: Json) -> Iterator[str]:
    """Hold every threshold to be that of an alert whose runbook the panel links."""
    shown = {step["value"] for step in _steps(panel) if step["value"] is not None}
    runbooks = {link["url"] for link in panel.get("links", [])}
    alerts = [name for name, url in _runbooks().items() if url in runbooks]
    if len(alerts) != len(runbooks):
        yield f"a link that leads to no alert's runbook: {runbooks}"
    allowed = {number for name in alerts for number in _thresholds_of(name)}
    if shown - allowed:
        yield f"thresholds {shown} are not those of {alerts}: {allowed}"


def _steps(panel: Json) -> Iterator[Json]:
    """Yield the threshold steps of a panel and of its columns."""
    config = panel.get("fieldConfig", {"defaults": {}, "overrides": []})
    yield from config["defaults"].get("thresholds", {}).get("steps", [])
    for override in config["overrides"]:
        for item in override["properties"]:
            if item["id"] == "thresholds":
                yield from item["value"]["steps"]


@cache
def _runbooks() -> dict[str, str]:
    return {alert.name: alert.annotations["runbook_url"] for alert in load_alerts()}


def _thresholds_of(name: str) -> set[float]:
    """Return the numbers that the alert compares with; of whole numbers those above 0 are those from 1 on."""
    expr = next(alert.expr for alert in load_alerts() if alert.name == name)
    compared = {
        node.rhs.val
        for node, _ in walk(parse(expr))
        if isinstance(node, BinaryExpr) and isinstance(node.rhs, NumberLiteral)
    }
    return {number or 1 for number in compared}


PANEL_RULES = {
    "panel-title-description-rule": _title_and_description,
    "panel-units-rule": _unit,
    "panel-datasource-rule": _datasource,
    "panel-no-targets-rule": _targets,
    # Ours:
    "panel-type": _type,
    "panel-axis": _axis_from_zero,
    "panel-last-value": _last_value,
    "panel-legend": _legend,
    "panel-threshold": _thresholds,
}
