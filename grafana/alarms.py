"""What a panel takes from the alert that watches it: threshold, colour and runbook, from the alert file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

RULES = Path(__file__).parent.parent / "alerts" / "salt.rules.yml"

_COMPARISON = re.compile(r"(==|>=|<=|>|<) *(-?[0-9.]+)")
_COLOURS = {"critical": "red", "warning": "orange", "info": "blue"}


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alert as a panel sees it: `threshold` is the first number its expression compares with."""

    name: str
    runbook_url: str
    colour: str
    operator: str
    threshold: float

    def steps(self) -> list[dict[str, Any]]:
        """Return Grafana's threshold steps: green where the alert is silent, its colour where it fires.

        A step colours the values from its own upwards. Alerts on `== 0` watch gauges that are 0 or 1, so the
        average of several masters is below 1 as soon as one of them fires.
        """
        if self.operator == "==" and self.threshold == 0:
            return [{"color": self.colour, "value": None}, {"color": "green", "value": 1}]
        if self.operator in {"<", "<="}:
            return [{"color": self.colour, "value": None}, {"color": "green", "value": self.threshold}]
        return [{"color": "green", "value": None}, {"color": self.colour, "value": self.threshold}]


def alarm(name: str) -> Alarm:
    """Return the alert called `name`; KeyError if the alert file has none."""
    return _alarms()[name]


@cache
def _alarms() -> dict[str, Alarm]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: _parse(rule) for group in groups for rule in group["rules"]}


def _parse(rule: dict[str, Any]) -> Alarm:
    comparison = _COMPARISON.search(rule["expr"])
    if comparison is None:
        raise ValueError(f"{rule['alert']} compares with no number: {rule['expr']}")
    return Alarm(
        name=rule["alert"],
        runbook_url=rule["annotations"]["runbook_url"],
        colour=_COLOURS[rule["labels"]["severity"]],
        operator=comparison[1],
        threshold=float(comparison[2]),
    )
