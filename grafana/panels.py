"""Grafana's panels as plain dictionaries: one function per type, and what all panels of ours have in common.

`alerts` names the alerts that watch a panel: it takes their thresholds and links their runbooks. `runbooks` names
alerts that watch the same thing in another unit: their runbooks are linked, no more. `empty` is shown instead of data
and says why there may be none; a panel without one always has data.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

from grafana.alarms import alarm, steps
from grafana.links import link
from grafana.parts import DATASOURCE, Json, mappings, override, panel_id, query

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LAST = {"calcs": ["lastNotNull"], "fields": "", "values": False}


def stat(
    title: str,
    description: str,
    expr: str,
    *,
    width: int,
    height: int = 4,
    unit: str = "locale",
    decimals: int | None = None,
    words: Mapping[int, str] | None = None,
    colours: Mapping[int, str] | None = None,
    alerts: Sequence[str] = (),
    empty: str = "",
    to: Sequence[Json] = (),
) -> Json:
    """Return one number; `words` replace values by a text in one of `colours`, `to` is where a click leads."""
    result = panel("stat", title, description, [query(expr)], width=width, height=height, unit=unit, alerts=alerts)
    defaults = result["fieldConfig"]["defaults"]
    defaults |= {"min": 0, "mappings": mappings(words, colours) if words else [], "links": list(to)}
    if decimals is not None:
        defaults["decimals"] = decimals
    if empty:
        defaults["noValue"] = empty
    result["options"] = {
        "colorMode": "background" if alerts or colours else "value",
        "graphMode": "none" if words or height < 4 else "area",  # or it would stand in front of the number
        "reduceOptions": _LAST,
    }
    return result


def timeseries(
    title: str,
    description: str,
    lines: Mapping[str, str],
    *,
    width: int,
    unit: str,
    height: int = 8,
    stack: bool = False,
    full: float | None = None,
    limit: str = "",
    colours: Mapping[str, str] | None = None,
    legend: str = "bottom",
    alerts: Sequence[str] = (),
    runbooks: Sequence[str] = (),
    empty: str = "",
    exemplars: bool = False,
    to: Sequence[Json] = (),
) -> Json:
    """Return a graph; `lines` maps legends to expressions. Stack only what are parts of a whole.

    `full` is the value that the axis reaches at least, `limit` the legend of the line that the others should stay
    below. Thresholds of alerts are dashed lines.
    """
    queries = [query(expr, name, exemplars=exemplars) for name, expr in lines.items()]
    result = panel(
        "timeseries",
        title,
        description,
        queries,
        width=width,
        height=height,
        unit=unit,
        alerts=alerts,
        runbooks=runbooks,
    )
    result["fieldConfig"]["defaults"] |= {
        "min": 0,
        "color": {"mode": "palette-classic"},
        "links": list(to),
        "custom": {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 40 if stack else 10,
            "showPoints": "auto",
            "stacking": {"mode": "normal" if stack else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if alerts else "off"},
        }
        | ({} if full is None else {"axisSoftMax": full}),
    }
    if empty:
        result["fieldConfig"]["defaults"]["noValue"] = empty
    fixed = {name: override(name, color=_fixed(colour)) for name, colour in (colours or {}).items()}
    if limit:
        fixed[limit] = override(limit, **_LIMIT)
    result["fieldConfig"]["overrides"] = list(fixed.values())
    result["options"] = {
        "legend": {
            "displayMode": "table",
            "placement": legend,
            "showLegend": True,
            "calcs": ["lastNotNull", "max"],
            "sortBy": "Max",
            "sortDesc": True,
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return result


def bargauge(
    title: str,
    description: str,
    bars: Mapping[str, str],
    *,
    width: int,
    height: int = 8,
    unit: str = "percentunit",
    alerts: Sequence[str] = (),
    empty: str = "",
    to: Sequence[Json] = (),
) -> Json:
    """Return one bar from 0 to 1 per series; `bars` maps their names to expressions."""
    queries = [query(expr, name, instant=True) for name, expr in bars.items()]
    result = panel("bargauge", title, description, queries, width=width, height=height, unit=unit, alerts=alerts)
    result["fieldConfig"]["defaults"] |= {"min": 0, "max": 1, "decimals": 1, "links": list(to)}
    if empty:
        result["fieldConfig"]["defaults"]["noValue"] = empty
    result["options"] = {
        "displayMode": "basic",
        "orientation": "horizontal",
        "reduceOptions": _LAST,
        "showUnfilled": True,
        "valueMode": "text",
        "namePlacement": "left",
    }
    return result


def text(title: str, description: str, markdown: str, *, width: int, height: int) -> Json:
    """Return words, in Markdown."""
    result = panel("text", title, description, [], width=width, height=height, unit="none")
    return result | {"options": {"mode": "markdown", "content": markdown}}


def panel(
    kind: str,
    title: str,
    description: str,
    queries: Sequence[Json],
    *,
    width: int,
    height: int,
    unit: str,
    alerts: Sequence[str] = (),
    runbooks: Sequence[str] = (),
) -> Json:
    """Return what every panel has; its place on the grid comes later (dashboard.py)."""
    return {
        "id": panel_id(title),
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "gridPos": {"w": width, "h": height, "x": 0, "y": 0},
        "targets": [{"refId": ref} | one for ref, one in zip(string.ascii_uppercase, queries, strict=False)],
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "color": {"mode": "thresholds"},
                "thresholds": {"mode": "absolute", "steps": steps(alerts)},
            },
            "overrides": [],
        },
        "links": runbook_links((*alerts, *runbooks)),
    }


def runbook_links(alerts: Sequence[str]) -> list[Json]:
    """Return the links of a panel to the runbooks of these alerts."""
    return [link(f"Runbook: {name}", alarm(name).runbook_url) for name in alerts]


def _fixed(colour: str) -> Json:
    return {"mode": "fixed", "fixedColor": colour}


_LIMIT: Json = {
    "color": _fixed("red"),
    "custom.lineStyle": {"fill": "dash", "dash": [10, 10]},
    "custom.fillOpacity": 0,
    "custom.stacking": {"mode": "none", "group": "limit"},
}
