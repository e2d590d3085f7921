"""The PromQL in a dashboard, with the dashboard's variables filled in as Grafana would."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]

# Odd on purpose: nobody writes these by hand, so a variable can be told from a literal after substitution.
RATE_INTERVAL = "4m1s"
RANGE = "3h1s"

_BUILT_IN = {"__rate_interval": RATE_INTERVAL, "__interval": "1m1s", "__range": RANGE}
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def panels(dashboard: Json) -> Iterator[Json]:
    """Yield every panel and row, those inside collapsed rows included."""
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def substitute(expr: str) -> str:
    """Return `expr` with every variable filled in: those of the dashboard match everything."""
    return _VARIABLE.sub(lambda match: _BUILT_IN.get(match[1] or match[2], ".+"), expr)


def panel_expressions(dashboard: Json) -> list[tuple[str, str]]:
    """Return (panel title, expression ready to execute) for every query of every panel."""
    return [
        (panel["title"], substitute(target["expr"]))
        for panel in panels(dashboard)
        for target in panel.get("targets", [])
    ]


def may_be_empty(panel: Json) -> bool:
    """Tell whether a panel may rightly have no data: then it says why, in words of its own."""
    return "noValue" in panel["fieldConfig"]["defaults"]


def annotation_expressions(dashboard: Json) -> list[tuple[str, str]]:
    """Return (annotation name, expression ready to execute) for every annotation."""
    return [(query["name"], substitute(query["expr"])) for query in dashboard["annotations"]["list"]]
