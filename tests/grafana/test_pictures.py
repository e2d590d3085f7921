"""What stands behind the pictures of the dashboards: the shipped rules, and the versions that the page is made of."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from grafana.pictures.page import SOURCES
from grafana.pictures.prometheus import RULES, impatient


def test_only_the_waiting_of_alerts_is_changed() -> None:
    """The rules behind the pictures are the shipped ones but for how long alerts wait."""
    shipped = RULES.read_text(encoding="utf-8")
    used = yaml.safe_load(impatient(shipped))

    assert used != yaml.safe_load(shipped)
    assert _without_waiting(used) == _without_waiting(yaml.safe_load(shipped))


def test_versions_are_exact() -> None:
    """Every package that draws the pictures is named with one version, so that they stay as they are."""
    packages = json.loads((SOURCES / "package.json").read_text(encoding="utf-8"))["dependencies"]

    assert [name for name, version in packages.items() if not re.fullmatch(r"\d+\.\d+\.\d+", version)] == []


def _without_waiting(rules: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in rule.items() if key != "for"}
        for group in rules["groups"]
        for rule in group["rules"]
    ]
