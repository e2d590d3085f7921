"""Where panels lead: to another dashboard, to the exporter's own pages, to runbooks.

A jid is never a label (there are too many), so from a number to the jids behind it the way is the exporter's page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from grafana.parts import Json

RUNBOOKS = "https://github.com/salt-exporter/salt-exporter/blob/main/alerts/runbooks"
# Time range and every variable of the dashboard that one comes from.
_KEPT = "${__url_time_range}&${__all_variables}"
_EXPORTER = "${scheme}://"


def link(title: str, url: str) -> Json:
    """Return a link of a dashboard or panel, with all the keys that Grafana's schema demands."""
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


def to_dashboard(uid: str, title: str) -> Json:
    """Return a data link to one of our dashboards that keeps time range and variables."""
    return {"title": title, "url": f"/d/{uid}?{_KEPT}", "targetBlank": False}


def to_dashboard_of_master(uid: str, title: str, column: str = "Master") -> Json:
    """Return a data link for a table that narrows the other dashboard to the master of the row."""
    kept = "${__url_time_range}&${datasource:queryparam}&${job:queryparam}&${scheme:queryparam}"
    return {"title": title, "url": f"/d/{uid}?{kept}&var-instance={_cell(column)}", "targetBlank": False}


def to_losses(title: str, **filters: str) -> Json:
    """Return a data link for a table to the losses in the exporter's journal, each with its jid, minion and cause.

    `filters` maps parameters of /api/v1/losses to the column whose cell they are to have.
    """
    wanted = "&".join(f"{name}={_cell(column)}" for name, column in filters.items())
    return {
        "title": title,
        "url": f"{_EXPORTER}{_cell('Master', raw=True)}/api/v1/losses?{wanted}",
        "targetBlank": True,
    }


def to_exporter(title: str, path: str = "/") -> Json:
    """Return a data link for a series that carries the label `instance` to a page of that exporter."""
    return {"title": title, "url": f"{_EXPORTER}${{__field.labels.instance}}{path}", "targetBlank": True}


def to_exporter_of_row(title: str, path: str = "/") -> Json:
    """Return a data link for a table to a page of the exporter beside the master of the row."""
    return {"title": title, "url": f"{_EXPORTER}{_cell('Master', raw=True)}{path}", "targetBlank": True}


def to_runbook_of_row(title: str, column: str) -> Json:
    """Return a data link for a table of alerts: runbooks are called like them."""
    return {"title": title, "url": f"{RUNBOOKS}/{_cell(column, raw=True)}.md", "targetBlank": True}


def _cell(column: str, *, raw: bool = False) -> str:
    """Return the placeholder for another cell of the row; a value within a query string is escaped."""
    assert quote(column) == column, f"{column!r} would need quotes"  # noqa: S101 - a mistake of ours
    return f"${{__data.fields.{column}{'' if raw else ':percentencode'}}}"
