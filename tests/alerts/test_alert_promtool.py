"""promtool's own judgement of the rules, and a check that its unit tests leave nothing out."""

import re
import shutil
import subprocess
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import yaml
from promql_parser import parse

from tests.alerts.promql import selectors
from tests.alerts.rules import ALERTS, RULES, Alert, load_alerts

UNIT_TESTS = sorted((ALERTS / "tests").glob("*.yml"))
every_alert = pytest.mark.parametrize("alert", load_alerts(), ids=lambda alert: alert.name)


@pytest.fixture(scope="module")
def promtool() -> str:
    """Return promtool's path."""
    return shutil.which("promtool") or pytest.skip("promtool, of the package prometheus, is not on the PATH")


def test_the_rules_are_valid(promtool: str) -> None:
    """Promtool finds nothing wrong with the rule file, not even a matter of taste."""
    _succeed(promtool, "check", "rules", "--lint=all", "--lint-fatal", str(RULES))


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_the_alerts_fire_and_stay_silent(promtool: str, path: Path) -> None:
    """The alerts fire, and stay silent, when their unit tests say so."""
    _succeed(promtool, "test", "rules", str(path))


def test_every_alert_has_its_file_of_unit_tests() -> None:
    """alerts/tests has one file per alert, called like it; promtool ignores alerts that do not exist."""
    assert {path.stem for path in UNIT_TESTS} == {alert.name for alert in load_alerts()}


@every_alert
def test_unit_tests_name_their_alert(alert: Alert) -> None:
    """A misspelt alertname with no alerts expected would pass in promtool."""
    named = {check["alertname"] for case in _cases(alert) for check in case["alert_rule_test"]}

    assert named == {alert.name}


@every_alert
def test_each_alert_recovers(alert: Alert) -> None:
    """In one case each alert is silent, fires, and is silent again once the cause is gone."""
    assert any("silent fires silent" in _course(case) for case in _cases(alert))


@every_alert
def test_each_alert_stays_silent(alert: Alert) -> None:
    """In one case each alert has its series and stays silent throughout: just below its threshold."""
    assert any("fires" not in _course(case) and _has_series(case, alert) for case in _cases(alert))


@every_alert
def test_each_alert_survives_missing_series(alert: Alert) -> None:
    """In one case the series of the alert are missing, and it stays silent."""
    assert any("fires" not in _course(case) and not _has_series(case, alert) for case in _cases(alert))


def _succeed(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def _cases(alert: Alert) -> list[dict[str, Any]]:
    document = yaml.safe_load((ALERTS / "tests" / f"{alert.name}.yml").read_text(encoding="utf-8"))
    cases: list[dict[str, Any]] = document["tests"]
    return cases


def _course(case: dict[str, Any]) -> str:
    """Return what a case expects in turn, such as "silent fires silent"."""
    expected = ["fires" if check["exp_alerts"] else "silent" for check in case["alert_rule_test"]]
    return " ".join(word for word, _ in groupby(expected))


def _has_series(case: dict[str, Any], alert: Alert) -> bool:
    wanted = {selector.name for selector in selectors(parse(alert.expr))}
    given = {re.split(r"[{ ]", series["series"])[0] for series in case["input_series"]}
    return wanted <= given
