"""Tables: one row per combination of labels, one column per expression."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

from grafana.alarms import steps
from grafana.panels import panel, runbook_links
from grafana.parts import Json, mappings, override, query

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def table(
    title: str,
    description: str,
    labels: Mapping[str, str],
    values: Mapping[str, str],
    *,
    width: int,
    sort: str,
    height: int = 8,
    descending: bool = False,
    empty: str = "",
    fields: Mapping[str, Json] | None = None,
    alerts: Sequence[str] = (),
) -> Json:
    """Return a table.

    `labels` maps label names to column titles. `values` maps column titles to expressions that yield exactly these
    labels; an empty title hides the column. `fields` holds field settings by column title, `empty` is shown instead of
    no rows, `alerts` are those whose thresholds `fields` has and whose runbooks are linked.
    """
    queries = [query(expr, instant=True) | {"format": "table"} for expr in values.values()]
    result = panel("table", title, description, queries, width=width, height=height, unit="none")
    columns = dict(labels) | {f"Value #{ref}": name for ref, name in zip(string.ascii_uppercase, values, strict=False)}
    if len(values) == 1:  # then Grafana calls the column of the value so
        columns["Value"] = columns["Value #A"]
    if empty:
        result["fieldConfig"]["defaults"]["noValue"] = empty
    # Without a word of its own an empty cell would show what is said of the empty table.
    given = fields or {}
    own = {name: {"noValue": ""} for name in values if name}
    result["fieldConfig"]["overrides"] = [
        override(name, **(own.get(name, {}) | given.get(name, {})))
        for name in dict.fromkeys(columns.values())
        if name in own or name in given
    ]
    result["options"] = {
        "showHeader": True,
        "cellHeight": "sm",
        "sortBy": [{"displayName": sort, "desc": descending}],
    }
    result["links"] = runbook_links(alerts)
    result["transformations"] = [
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
    return result


def watched(alert: str, **settings: object) -> Json:
    """Return the settings of a column that is coloured where the alert would fire."""
    return {
        "thresholds": {"mode": "absolute", "steps": steps([alert])},
        "custom.cellOptions": {"type": "color-text"},
    } | settings


def yes_or_no(bad: int | None = None) -> Json:
    """Return the settings of a column of 0 and 1; `bad` is the one that stands out."""
    colours = None if bad is None else {bad: "orange"}
    return {"mappings": mappings({0: "no", 1: "yes"}, colours), "custom.cellOptions": {"type": "color-text"}}
