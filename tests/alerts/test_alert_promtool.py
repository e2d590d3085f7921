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
from tests.alerts.rules import ALERTS, Alert, load_alerts, load_recordings

ROOT = ALERTS.parent
# Prometheus 2, as Debian has it, and Prometheus 3, which `./setup test` unpacks beside it: they differ in ranges.
PROMTOOLS = {"2": shutil.which("promtool"), "3": shutil.which(str(ROOT / ".tools/3/usr/bin/promtool"))}
UNIT_TESTS = sorted((ALERTS / "tests").glob("*.yml"))
# What the unit tests hold beside one file for each alert.
RESTART = ALERTS / "tests" / "exporter-restart.yml"
OTHERS = {"compat", RESTART.stem}
every_alert = pytest.mark.parametrize("alert", load_alerts(), ids=lambda alert: alert.name)


@pytest.fixture(scope="module", params=PROMTOOLS)
def promtool(request: pytest.FixtureRequest) -> str:
    """Return the path of each promtool in turn."""
    path = PROMTOOLS[request.param]
    return path or pytest.skip(f"no promtool of Prometheus {request.param}: not on the PATH, not in .tools/3")


def test_the_promtools_are_what_they_are_taken_for() -> None:
    """What is on the PATH and what `./setup test` unpacks are of different major versions."""
    if None in PROMTOOLS.values():
        pytest.skip("a promtool is missing")
    versions = {
        name: subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout.split()[2][0]
        for name, path in PROMTOOLS.items()
        if path
    }
    assert versions == {"2": "2", "3": "3"}


@pytest.mark.parametrize("name", ["salt.rules.yml", "compat.rules.yml"])
def test_the_rules_are_valid(promtool: str, name: str) -> None:
    """Promtool finds nothing wrong with the rule files, not even a matter of taste."""
    _succeed(promtool, "check", "rules", "--lint=all", "--lint-fatal", str(ALERTS / name))


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_the_alerts_fire_and_stay_silent(promtool: str, path: Path) -> None:
    """The alerts fire, and stay silent, when their unit tests say so."""
    _succeed(promtool, "test", "rules", str(path))


def test_every_alert_has_its_file_of_unit_tests() -> None:
    """alerts/tests has one file per alert, called like it; promtool ignores alerts that do not exist."""
    assert {path.stem for path in UNIT_TESTS} == {alert.name for alert in load_alerts()} | OTHERS


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


def test_no_alert_fires_because_the_exporter_restarts() -> None:
    """The case of a restart looks at every alert before, between and after, and gives each the series it needs."""
    (case,) = yaml.safe_load(RESTART.read_text(encoding="utf-8"))["tests"]
    looks = [(check["alertname"], check["eval_time"]) for check in case["alert_rule_test"]]
    times = {time for _, time in looks}

    assert len(times) >= 5
    assert set(looks) == {(alert.name, time) for alert in load_alerts() for time in times}
    assert len(looks) == len(set(looks))
    assert {check["exp_alerts"] == [] for check in case["alert_rule_test"]} == {True}
    assert [alert.name for alert in load_alerts() if not _has_series(case, alert)] == []


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
    given = {re.split(r"[{ ]", series["series"])[0] for series in case["input_series"]}
    return _sources(alert.expr) <= given


def _sources(expression: str) -> set[str]:
    """Return the scraped series that an expression builds on, through recordings."""
    recorded = {recording.name: recording.expr for recording in load_recordings()}
    names = {selector.name or "" for selector in selectors(parse(expression))}
    return {source for name in names for source in (_sources(recorded[name]) if name in recorded else {name})}
