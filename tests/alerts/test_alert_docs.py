"""The operators' table of alerts, docs/alerts.md, against the rules."""

import re
from pathlib import Path

import pytest

from tests.alerts.rules import Alert, load_alerts

_TABLE = Path(__file__).parents[2] / "docs" / "alerts.md"
_ROW = re.compile(r"\| \[(\w+)\]\(\.\./alerts/runbooks/(\w+)\.md\) \| (\w+) \| ([^|]+) \| ([^|]+) \|")
_ROWS = {row[1]: row for row in map(_ROW.fullmatch, _TABLE.read_text(encoding="utf-8").splitlines()) if row}
every_alert = pytest.mark.parametrize("alert", load_alerts(), ids=lambda alert: alert.name)


def test_all_alerts_are_listed() -> None:
    """The table has one row for each alert, in the order of the rule file."""
    assert [alert.name for alert in load_alerts()] == list(_ROWS)


@every_alert
def test_a_row_says_what_the_rule_says(alert: Alert) -> None:
    """Runbook, severity, summary and waiting time are those of the rule, and its threshold is among the numbers."""
    _, runbook, severity, what, when = _ROWS[alert.name].groups()
    comparison = re.search(r"(?:==|>=|<=|>|<) *([0-9.]+)", alert.expr)
    assert comparison
    threshold = float(comparison[1])

    assert (alert.name, alert.labels["severity"]) == (runbook, severity)
    assert alert.annotations["summary"] == f"{what}."
    assert when.endswith(f"; for {alert.hold}")
    shares = {float(number) / 100 for number in re.findall(r"(\d+) %", when)}
    numbers = {float(number) for number in re.findall(r"\d+", when.rpartition(";")[0])}
    assert threshold in shares | numbers
