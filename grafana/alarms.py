"""What a panel takes from the alert that watches it: threshold, colour and runbook, from the alert file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

RULES = Path(__file__).parent.parent / "alerts" / "salt.rules.yml"

_COMPARISON = re.compile(r"(==|>=|<=|>|<) *(-?[0-9.]+)")
_COLOURS = {"critical": "red", "warning": "orange", "info": "blue"}
_SILENT = "green"


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alert as a panel sees it: `threshold` is the first number its expression compares with."""

    name: str
    runbook_url: str
    colour: str
    operator: str
    threshold: float

    @property
    def fires_below(self) -> bool:
        """Whether small values are the bad ones."""
        return self.operator in {"<", "<="} or (self.operator, self.threshold) == ("==", 0)

    @property
    def step(self) -> float:
        """Where the colour changes.

        A step of Grafana's colours the values from its own upwards. What alerts on `== 0` watch is 0 or 1, so the
        average of several masters is below 1 as soon as one of them fires. What alerts on `> 0` watch are numbers of
        things, the first of which is 1.
        """
        return self.threshold or 1


def alarm(name: str) -> Alarm:
    """Return the alert called `name`; KeyError if the alert file has none."""
    return _alarms()[name]


def steps(names: Sequence[str]) -> list[dict[str, Any]]:
    """Return Grafana's threshold steps for a value that these alerts watch: green where all are silent.

    Where several watch the same value, all have to fire on the same side of it.
    """
    watching = sorted((alarm(name) for name in names), key=lambda one: one.step)
    if not watching:
        return [{"color": "text", "value": None}]
    if {one.fires_below for one in watching} == {True}:
        colours = [one.colour for one in watching] + [_SILENT]
    elif {one.fires_below for one in watching} == {False}:
        colours = [_SILENT] + [one.colour for one in watching]
    else:
        raise ValueError(f"{', '.join(names)} fire on different sides")
    values = [None, *(one.step for one in watching)]
    return [{"color": colour, "value": value} for colour, value in zip(colours, values, strict=True)]


@cache
def _alarms() -> dict[str, Alarm]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    return {rule["alert"]: _parse(rule) for rule in rules if "alert" in rule}


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
