"""Check a dashboard against Grafana's own description of it.

dashboard.schema.json, panel_schemas/ and ids.json come from Grafana's packages; ATTRIBUTION.md says from which and how.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from jsonschema import Draft7Validator

from tests.grafana.expressions import panels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.grafana.expressions import Json

HERE = Path(__file__).parent

# The schema knows no Prometheus annotations; Grafana's Prometheus data source reads these keys of theirs.
_ANNOTATION_KEYS = {"expr", "titleFormat", "textFormat"}


def schema_errors(dashboard: Json) -> Iterator[str]:
    """Yield what in `dashboard` Grafana does not know.

    Panels are checked one by one: as a member of `panels` each may be one of several kinds, and the messages
    would not say what is wrong with it.
    """
    frame = dashboard | {"panels": [], "annotations": {"list": _plain_annotations(dashboard)}}
    yield from _errors("Dashboard", frame, "dashboard")
    for panel in panels(dashboard):
        kind = "RowPanel" if panel["type"] == "row" else "Panel"
        yield from _errors(kind, panel, panel["title"])
        if kind == "Panel":
            yield from _panel_errors(panel)
        yield from _unknown_ids(panel)


def _panel_errors(panel: Json) -> Iterator[str]:
    """Yield what the type of the panel does not know: the dashboard's schema leaves its settings open."""
    title, kind = panel["title"], panel["type"]
    if not (HERE / "panel_schemas" / f"{kind}.json").is_file():
        yield f"{title}: no schema of panels of type {kind}"
        return
    yield from _complaints(_panel_validator(kind, "Options"), panel["options"], f"{title}: options")
    for custom in _custom_settings(panel):
        yield from _complaints(_panel_validator(kind, "FieldConfig"), custom, f"{title}: custom")


def _custom_settings(panel: Json) -> Iterator[Json]:
    """Yield the field settings that only this type of panel has, those of all fields and of single ones."""
    yield panel["fieldConfig"]["defaults"].get("custom", {})
    for override in panel["fieldConfig"]["overrides"]:
        for item in override["properties"]:
            if item["id"].startswith("custom."):
                yield {item["id"].removeprefix("custom."): item["value"]}


def _plain_annotations(dashboard: Json) -> list[Json]:
    queries = dashboard["annotations"]["list"]
    return [{key: value for key, value in query.items() if key not in _ANNOTATION_KEYS} for query in queries]


def _errors(definition: str, instance: Json, where: str) -> Iterator[str]:
    yield from _complaints(_validator("dashboard.schema.json", definition), instance, where)


def _complaints(validator: Draft7Validator, instance: Json, where: str) -> Iterator[str]:
    for error in validator.iter_errors(instance):
        yield f"{where}: {error.json_path}: {error.message}"


def _panel_validator(kind: str, definition: str) -> Draft7Validator:
    file = f"panel_schemas/{kind}.json"
    if definition not in json.loads((HERE / file).read_text(encoding="utf-8"))["definitions"]:
        return Draft7Validator({"additionalProperties": False})  # this type has no such settings
    return _validator(file, definition)


@cache
def _validator(file: str, definition: str) -> Draft7Validator:
    schema = json.loads((HERE / file).read_text(encoding="utf-8"))
    return Draft7Validator(schema | {"$ref": f"#/definitions/{definition}"})


def _unknown_ids(panel: Json) -> Iterator[str]:
    """Yield what the schema leaves as free text: the ids of transformations and of reductions."""
    known = json.loads((HERE / "ids.json").read_text(encoding="utf-8"))
    for step in panel.get("transformations", []):
        if step["id"] not in known["transformers"]:
            yield f"{panel['title']}: no transformation {step['id']}"
    options = panel.get("options", {})
    for name in (
        *options.get("reduceOptions", {}).get("calcs", []),
        *options.get("legend", {}).get("calcs", []),
    ):
        if name not in known["reducers"]:
            yield f"{panel['title']}: no reduction {name}"
