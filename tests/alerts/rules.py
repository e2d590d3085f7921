"""The rules as data, and the expressions in them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

ALERTS = Path(__file__).parent.parent.parent / "alerts"
RULES = ALERTS / "salt.rules.yml"

# printf "…" $labels.a $labels.b | query: how a template of ours asks Prometheus for a second number.
_QUERY = re.compile(r'printf ("(?:[^"\\]|\\.)*")[^|}]*\| *query')


@dataclass(frozen=True, slots=True)
class Alert:
    """One alerting rule; `hold` is its `for`, such as "5m"."""

    name: str
    group: str
    expr: str
    hold: str
    labels: dict[str, str]
    annotations: dict[str, str]

    def queries(self) -> list[str]:
        """Return the queries in the annotations, with "x" for every label value they are given."""
        texts = self.annotations.values()
        found = [json.loads(quoted) for text in texts for quoted in _QUERY.findall(text)]
        return [query.replace("%q", '"x"') for query in found]

    def template_labels(self) -> set[str]:
        """Return the labels that the annotations speak of."""
        return set(re.findall(r"\$labels\.(\w+)", " ".join(self.annotations.values())))


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording rule: a series that Prometheus makes of others."""

    name: str
    expr: str


@cache
def load_alerts() -> tuple[Alert, ...]:
    """Return every alert in the order of the rule file."""
    return tuple(_alert(group, rule) for group, rule in _rules(RULES) if "alert" in rule)


@cache
def load_recordings(path: Path = RULES) -> tuple[Recording, ...]:
    """Return every recording rule in the order of a rule file; one may build on those before it."""
    return tuple(Recording(rule["record"], rule["expr"]) for _, rule in _rules(path) if "record" in rule)


def alert_expressions() -> list[tuple[str, str]]:
    """Return (alert name, expression) for everything an alert asks Prometheus, annotations included."""
    return [(alert.name, expr) for alert in load_alerts() for expr in (alert.expr, *alert.queries())]


def _rules(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of the group and the rule."""
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            yield group["name"], rule


def _alert(group: str, rule: dict[str, Any]) -> Alert:
    return Alert(rule["alert"], group, rule["expr"], rule["for"], rule["labels"], rule["annotations"])
