"""The small parts that panels are made of: queries, overrides, value mappings, ids.

In expressions `MASTER` stands for the matchers of the dashboard's variables: `salt_keys{MASTER}`.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = dict[str, Any]

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
MASTER = 'job=~"$job",instance=~"$instance"'


def query(expr: str, legend: str = "__auto", *, instant: bool = False, exemplars: bool = False) -> Json:
    """Return a target; with `exemplars` its points carry the jid of one of the losses they stand for."""
    return {
        "datasource": DATASOURCE,
        "expr": expr.replace("MASTER", MASTER),
        "legendFormat": legend,
        "instant": instant,
        "range": not instant,
    } | ({"exemplar": True} if exemplars else {})


def override(name: str, **settings: object) -> Json:
    """Return field settings for the series or column of that name."""
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": key, "value": value} for key, value in settings.items()],
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
