"""The frame of a dashboard: variables, annotations, links, and the places of its panels on the grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana.links import RUNBOOKS, link
from grafana.parts import DATASOURCE, MASTER, Json, panel_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

GRID_WIDTH = 24
TAG = "salt"


def dashboard(uid: str, title: str, description: str, rows: Mapping[str, Sequence[Json]]) -> Json:
    """Return a dashboard in Grafana's classic model; `rows` maps the titles of the rows to their panels.

    schemaVersion 39 is Grafana 10.4's: newer ones migrate it upwards, none migrates a newer one down.
    """
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": [TAG],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "1m",
        "links": [
            link("Salt dashboards", "")
            | {"type": "dashboards", "tags": [TAG], "icon": "external link", "targetBlank": False}
            | {"asDropdown": True, "includeVars": True, "keepTime": True},
            link("Runbooks", RUNBOOKS.replace("/blob/", "/tree/")),
        ],
        "annotations": {"list": [_FIRING, _MASTER_RESTARTS, _EXPORTER_RESTARTS]},
        "templating": {"list": [_DATASOURCE, _JOB, _INSTANCE, _SCHEME]},
        "panels": list(_placed(rows)),
    }


def _placed(rows: Mapping[str, Sequence[Json]]) -> Iterator[Json]:
    """Yield each row and its panels with their places: each panel as high up as it fits, then as far left."""
    y = 0
    for title, panels in rows.items():
        yield _row(title, y)
        bottoms = [y + 1] * GRID_WIDTH  # of what stands in each column so far
        for panel in panels:
            width, height = panel["gridPos"]["w"], panel["gridPos"]["h"]
            top, x = min((max(bottoms[left : left + width]), left) for left in range(GRID_WIDTH - width + 1))
            bottoms[x : x + width] = [top + height] * width
            yield panel | {"gridPos": panel["gridPos"] | {"x": x, "y": top}}
        y = max(bottoms)


def _row(title: str, y: int) -> Json:
    return {
        "id": panel_id(f"row {title}"),
        "type": "row",
        "title": title,
        "collapsed": False,
        "gridPos": {"w": GRID_WIDTH, "h": 1, "x": 0, "y": y},
        "panels": [],
    }


def _variable(label: str, series: str) -> Json:
    """Return a variable over the values that a target label has in `series`, as dashboard-linter demands it."""
    return {
        "name": label,
        "label": label.title(),
        "type": "query",
        "datasource": DATASOURCE,
        "query": f"label_values({series}, {label})",
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
    }


def _annotation(name: str, colour: str, expr: str, title: str) -> Json:
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": colour,
        "expr": expr,
        "titleFormat": title,
        "textFormat": "{{instance}}",
    }


# Every exporter that runs has its build info, whatever may have become of its master.
_JOB = _variable("job", "salt_exporter_build_info")
_INSTANCE = _variable("instance", 'salt_exporter_build_info{job=~"$job"}')
_DATASOURCE = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
# For the links to the exporter's own pages: Prometheus knows its address, not whether TLS is on.
_SCHEME = {
    "name": "scheme",
    "label": "Exporter pages",
    "type": "custom",
    "query": "http,https",
    "current": {"text": "http", "value": "http"},
}

_FIRING = _annotation(
    "Firing alerts",
    "red",
    # One mark per alert and master, not one per absent minion.
    f'max by (alertname, instance) (ALERTS{{{MASTER},alertname=~"Salt.*",alertstate="firing"}})',
    "{{alertname}}",
)
_MASTER_RESTARTS = _annotation(
    "Master restarts",
    "blue",
    # A master that restarts closes its event bus, so the exporter has to connect anew.
    f"increase(salt_exporter_eventbus_reconnects_total{{{MASTER}}}[$__rate_interval]) > 0",
    "The master restarted, or its event bus",
)
_EXPORTER_RESTARTS = _annotation(
    "Exporter restarts",
    "purple",
    f"changes(salt_exporter_config_last_reload_success_timestamp_seconds{{{MASTER}}}[$__rate_interval]) > 0",
    "The exporter restarted, or its configuration was reloaded",
)
