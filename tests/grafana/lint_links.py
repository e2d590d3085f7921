"""Lint rules for data links: where a click on a number leads."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from grafana.generate import DASHBOARDS
from tests.alerts.rules import load_alerts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.grafana.expressions import Json

# Pages of the exporter, with the parameters that they know.
EXPORTER_PAGES = {"/": set[str](), "/api/v1/losses": {"since", "minion", "jid", "cause", "limit"}}
_KEPT = "${__url_time_range}"
_ALL_VARIABLES = "${__all_variables}"
_CELL = re.compile(r"\${__data\.fields\.(\w+)(?::\w+)?}")
_EXPORTER = re.compile(r"\${scheme}://\${__(?:data\.fields\.Master|field\.labels\.instance)}(/.*)")


def data_links(panel: Json) -> list[Json]:
    """Return the data links of a panel: of all its values, and of single columns."""
    config = panel.get("fieldConfig", {"defaults": {}, "overrides": []})
    links: list[Json] = [*config["defaults"].get("links", [])]
    for override in config["overrides"]:
        links += [one for item in override["properties"] if item["id"] == "links" for one in item["value"]]
    return links


def dashboard_of(link: Json) -> str:
    """Return the uid of the dashboard that a link leads to, nothing if it leads elsewhere."""
    found = re.match(r"/d/([\w-]+)\?", link["url"])
    return found[1] if found else ""


def exporter_page(link: Json) -> tuple[str, set[str]] | None:
    """Return path and parameters of the exporter's page that a link leads to, None if it leads elsewhere."""
    found = _EXPORTER.fullmatch(link["url"])
    if found is None:
        return None
    address = urlsplit(found[1])
    return address.path, set(parse_qs(address.query))


def destination(panel: Json) -> Iterator[str]:
    """Hold every link to lead to something that exists, and to keep what was chosen on the way."""
    for link in data_links(panel):
        if uid := dashboard_of(link):
            yield from _dashboard(uid, link["url"])
        elif page := exporter_page(link):
            path, parameters = page
            if parameters - EXPORTER_PAGES.get(path, set()) or path not in EXPORTER_PAGES:
                yield f"the exporter has no page {path} with {sorted(parameters)}"
        elif not _is_runbook_of_row(link["url"]):
            yield f"a link that leads nowhere: {link['url']}"


def columns(panel: Json) -> Iterator[str]:
    """Hold the cells that links speak of to be columns of the table."""
    named = {name for link in data_links(panel) for name in _CELL.findall(link["url"])}
    if unknown := named - _columns(panel):
        yield f"links need the columns {sorted(unknown)}"


def _dashboard(uid: str, url: str) -> Iterator[str]:
    if f"{uid}.json" not in DASHBOARDS:
        yield f"no dashboard {uid}"
    variables: tuple[str, ...] = (_ALL_VARIABLES,)
    if "var-instance=" in url:  # narrowed to one master
        variables = ("${datasource:queryparam}", "${job:queryparam}", "${scheme:queryparam}")
    if lost := [name for name in (_KEPT, *variables) if name not in url]:
        yield f"a link to {uid} loses {lost}"


def _is_runbook_of_row(url: str) -> bool:
    """Tell whether a link leads to a runbook whatever alert the row is about."""
    return {_CELL.sub(alert.name, url) for alert in load_alerts()} == {
        alert.annotations["runbook_url"] for alert in load_alerts()
    }


def _columns(panel: Json) -> set[str]:
    for step in panel.get("transformations", []):
        if step["id"] == "organize":
            return set(step["options"]["renameByName"].values())
    return set()


LINK_RULES = {"link-destination": destination, "link-columns": columns}
