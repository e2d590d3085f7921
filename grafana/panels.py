"""Grafana's panels as plain dictionaries: one function per type, and what all panels of ours have in common.

In expressions `MASTER` stands for the matchers of the dashboard's variables: `salt_keys{MASTER}`.
"""

from __future__ import annotations

import string
import zlib
from typing import TYPE_CHECKING, Any

from grafana.alarms import alarm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Json = dict[str, Any]

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
MASTER = 'job=~"$job",instance=~"$instance"'


def stat(
    title: str,
    description: str,
    expr: str,
    *,
    width: int,
    unit: str = "locale",
    words: Mapping[int, str] | None = None,
    alert: str = "",
    empty: str = "No data",
) -> Json:
    """Return one number; `words` replace values by a text, `alert` names the alert that watches it."""
    panel = _panel("stat", title, description, [_query(expr)], width=width, height=4, unit=unit, alert=alert)
    panel["fieldConfig"]["defaults"] |= {"mappings": mappings(words) if words else [], "noValue": empty}
    panel["options"] = {
        "colorMode": "background" if alert else "value",
        "graphMode": "none" if words else "area",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    return panel


def timeseries(
    title: str,
    description: str,
    lines: Mapping[str, str],
    *,
    width: int,
    unit: str,
    stack: bool = False,
    colours: Mapping[str, str] | None = None,
) -> Json:
    """Return a graph; `lines` maps legends to expressions. Stack only what are parts of a whole."""
    queries = [_query(expr, legend) for legend, expr in lines.items()]
    panel = _panel("timeseries", title, description, queries, width=width, height=8, unit=unit)
    panel["fieldConfig"]["defaults"] |= {
        "min": 0,
        "color": {"mode": "palette-classic"},
        "custom": {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 25 if stack else 10,
            "showPoints": "auto",
            "stacking": {"mode": "normal" if stack else "none", "group": "A"},
        },
    }
    panel["fieldConfig"]["overrides"] = [
        _override(name, color={"mode": "fixed", "fixedColor": colour}) for name, colour in (colours or {}).items()
    ]
    panel["options"] = {
        "legend": {
            "displayMode": "table",
            "placement": "bottom",
            "showLegend": True,
            "calcs": ["lastNotNull", "max"],
            "sortBy": "Last *",
            "sortDesc": True,
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel


def bargauge(title: str, description: str, legend: str, expr: str, *, width: int, unit: str, empty: str) -> Json:
    """Return one bar from 0 to 1 per series, red when empty and green when full."""
    queries = [_query(expr, legend, instant=True)]
    panel = _panel("bargauge", title, description, queries, width=width, height=8, unit=unit)
    panel["fieldConfig"]["defaults"] |= {
        "min": 0,
        "max": 1,
        "color": {"mode": "continuous-RdYlGr"},
        "noValue": empty,
    }
    panel["options"] = {
        "displayMode": "basic",
        "orientation": "horizontal",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    return panel


def table(
    title: str,
    description: str,
    labels: Mapping[str, str],
    values: Mapping[str, str],
    *,
    width: int,
    empty: str,
    sort: str,
    descending: bool = False,
    fields: Mapping[str, Json] | None = None,
) -> Json:
    """Return a table with one row per combination of labels.

    `labels` maps label names to column titles. `values` maps column titles to expressions that yield exactly
    these labels; an empty title hides the column. `fields` holds field settings by column title, `empty` is
    shown instead of no rows.
    """
    queries = [_query(expr, instant=True) | {"format": "table"} for expr in values.values()]
    panel = _panel("table", title, description, queries, width=width, height=8, unit="none")
    columns = dict(labels) | {f"Value #{ref}": name for ref, name in zip(string.ascii_uppercase, values, strict=False)}
    panel["fieldConfig"]["defaults"]["noValue"] = empty
    # Without a word of its own an empty cell would show what is said of the empty table.
    given = fields or {}
    panel["fieldConfig"]["overrides"] = [
        _override(name, **({"noValue": ""} | given.get(name, {}))) for name in values if name
    ]
    panel["options"] = {"showHeader": True, "sortBy": [{"displayName": sort, "desc": descending}]}
    panel["transformations"] = [
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {"Time": True} | {field: True for field, name in columns.items() if not name},
                "indexByName": {field: place for place, field in enumerate(columns)},
                "renameByName": {field: name for field, name in columns.items() if name},
            },
        },
    ]
    return panel


def _panel(
    kind: str,
    title: str,
    description: str,
    queries: Sequence[Json],
    *,
    width: int,
    height: int,
    unit: str,
    alert: str = "",
) -> Json:
    """Return what every panel has; its place on the grid comes later (dashboard.py)."""
    watched = alarm(alert) if alert else None
    return {
        "id": panel_id(title),
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "gridPos": {"w": width, "h": height, "x": 0, "y": 0},
        "targets": [{"refId": ref} | query for ref, query in zip(string.ascii_uppercase, queries, strict=False)],
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "color": {"mode": "thresholds"},
                "thresholds": {
                    "mode": "absolute",
                    "steps": watched.steps() if watched else [{"color": "text", "value": None}],
                },
            },
            "overrides": [],
        },
        "links": [link(f"Runbook: {watched.name}", watched.runbook_url)] if watched else [],
    }


def mappings(words: Mapping[int, str], colours: Mapping[int, str] | None = None) -> list[Json]:
    """Return the field setting that shows a word instead of a value, in a colour if one is given for it."""
    shown = {str(value): {"text": word} for value, word in words.items()}
    for value, colour in (colours or {}).items():
        shown[str(value)]["color"] = colour
    return [{"type": "value", "options": shown}]


def panel_id(title: str) -> int:
    """Return a number for links to a panel, which unlike its place in the list no new panel changes."""
    return zlib.crc32(title.encode()) & 0x7FFFFFFF


def link(title: str, url: str) -> Json:
    """Return a link to a page outside Grafana, with all the keys that Grafana's schema demands."""
    return {
        "title": title,
        "type": "link",
        "url": url,
        "icon": "doc",
        "tooltip": "",
        "tags": [],
        "asDropdown": False,
        "targetBlank": True,
        "includeVars": False,
        "keepTime": False,
    }


def _query(expr: str, legend: str = "__auto", *, instant: bool = False) -> Json:
    return {
        "datasource": DATASOURCE,
        "expr": expr.replace("MASTER", MASTER),
        "legendFormat": legend,
        "instant": instant,
        "range": not instant,
    }


def _override(name: str, **settings: object) -> Json:
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": key, "value": value} for key, value in settings.items()],
    }
