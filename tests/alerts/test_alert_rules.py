"""The rules that hold for every alert, whatever it watches."""

import re
from collections import Counter

import pytest
from promql_parser import parse, parse_duration

from tests.alerts.declarations import TARGET, catalogue
from tests.alerts.labels import labels_of
from tests.alerts.promql import is_condition, naked_counters
from tests.alerts.rules import RULES, Alert, load_alerts

ALERTS = load_alerts()
every_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)


def test_names_are_unique() -> None:
    """No two alerts share a name."""
    twice = [name for name, count in Counter(alert.name for alert in ALERTS).items() if count > 1]

    assert twice == []


@every_alert
def test_names(alert: Alert) -> None:
    """An alert is called SaltSomething, in a group called salt-something."""
    assert re.fullmatch(r"Salt([A-Z][a-z]+)+", alert.name)
    assert re.fullmatch(r"salt-[a-z-]+", alert.group)


@every_alert
def test_severity_is_the_only_label_added(alert: Alert) -> None:
    """Routing relies on severity; a label that changes with the value would restart `for` each time."""
    assert set(alert.labels) == {"severity"}
    assert alert.labels["severity"] in {"critical", "warning", "info"}


@every_alert
def test_it_waits(alert: Alert) -> None:
    """No alert fires on a single evaluation, at evaluation intervals up to a minute."""
    assert parse_duration(alert.hold) >= parse_duration("2m")


@every_alert
def test_annotations(alert: Alert) -> None:
    """The summary suits a whole group of alerts, the description names the master, and there is no more."""
    assert set(alert.annotations) == {"summary", "description", "runbook_url"}
    assert re.fullmatch(r"[A-Z][^{}]+\.", alert.annotations["summary"])
    assert "$labels.instance" in alert.annotations["description"]


@every_alert
def test_the_expression_is_a_condition(alert: Alert) -> None:
    """The expression is filtered by a comparison: it can be silent."""
    assert is_condition(parse(alert.expr))


@every_alert
def test_counters_are_rated(alert: Alert) -> None:
    """No alert looks at the bare value of a counter."""
    assert naked_counters(parse(alert.expr)) == []


@every_alert
def test_metrics_and_labels_exist(alert: Alert) -> None:
    """Every metric and label in an alert is one the exporter declares, in its annotations too."""
    labels = labels_of(parse(alert.expr), catalogue())

    assert labels >= alert.template_labels()
    for query in alert.queries():
        labels_of(parse(query), catalogue())


@every_alert
def test_the_target_survives(alert: Alert) -> None:
    """The labels job and instance are left for routing and inhibition."""
    assert labels_of(parse(alert.expr), catalogue()) >= TARGET


@every_alert
def test_the_threshold_is_explained(alert: Alert) -> None:
    """A comment stands right above every alert and says why it is as it is."""
    lines = RULES.read_text(encoding="utf-8").splitlines()
    place = next(number for number, line in enumerate(lines) if line.strip() == f"- alert: {alert.name}")

    assert lines[place - 1].strip().startswith("# ")
