"""The rules that hold for every alert, whatever it watches."""

import re
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from promql_parser import parse, parse_duration

from tests.alerts.declarations import TARGET, catalogue
from tests.alerts.labels import labels_of
from tests.alerts.promql import is_condition, naked_counters, ranges, selectors
from tests.alerts.rules import RULES, Alert, Recording, load_alerts, load_recordings

ALERTS = load_alerts()
RECORDINGS = load_recordings()
EVERY_RULE: list[Alert | Recording] = [*ALERTS, *RECORDINGS]
DASHBOARDS = Path(__file__).parents[2] / "grafana"
# Alerts about all masters of a scrape job at once.
FLEET = {"SaltMinionGone", "SaltClusterMinionsNotPresent"}
every_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
every_recording = pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.name)
every_rule = pytest.mark.parametrize("rule", EVERY_RULE, ids=lambda rule: rule.name)


def test_names_are_unique() -> None:
    """No two rules share a name."""
    twice = [name for name, count in Counter(rule.name for rule in EVERY_RULE).items() if count > 1]

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
    assert set(alert.annotations) == {"summary", "description", "runbook_url", "dashboard_url"}
    assert re.fullmatch(r"[A-Z][^{}]+\.", alert.annotations["summary"])
    assert ("$labels.job" if alert.name in FLEET else "$labels.instance") in alert.annotations["description"]


@every_alert
def test_dashboard(alert: Alert) -> None:
    """The path leads to a dashboard of ours and selects the master."""
    master = "" if alert.name in FLEET else "&var-instance={{ $labels.instance | urlquery }}"
    match = re.match(r"/d/([a-z-]+)\?var-job={{ \$labels\.job \| urlquery }}", alert.annotations["dashboard_url"])

    assert match
    assert match[0] + master == alert.annotations["dashboard_url"]
    assert (DASHBOARDS / f"{match[1]}.json").is_file()


@every_alert
def test_the_expression_is_a_condition(alert: Alert) -> None:
    """The expression is filtered by a comparison: it can be silent."""
    assert is_condition(parse(alert.expr))


@every_rule
def test_counters_are_rated(rule: Alert | Recording) -> None:
    """No rule looks at the bare value of a counter."""
    assert naked_counters(parse(rule.expr)) == []


@every_rule
def test_ranges_hold_enough_samples(rule: Alert | Recording) -> None:
    """No rule looks back less than four scrapes a minute apart, or a failed one would make it blind."""
    assert all(length >= timedelta(minutes=4) for length in ranges(parse(rule.expr)))


@every_rule
def test_patterns_are_needed(rule: Alert | Recording) -> None:
    """A regular expression stands only where a pattern is meant: without one it hides a plain name."""
    matchers = [matcher for selector in selectors(parse(rule.expr)) for matcher in selector.matchers.matchers]

    assert not [one for one in matchers if "Re" in str(one.op) and not re.search(r"[.|*+\[(]", one.value)]


@every_recording
def test_recordings(recording: Recording) -> None:
    """A recording is called level:metric:operation, builds on metrics that exist, and has the labels of its level."""
    level, metric, operation = recording.name.split(":")
    labels = labels_of(parse(recording.expr), catalogue())

    assert re.fullmatch(r"[a-z_0-9]+", operation)
    assert metric.startswith("salt_")
    assert labels == {"job", *level.split("_")}


@every_recording
def test_recordings_are_used(recording: Recording) -> None:
    """Every recording is what an alert, or another recording, looks at."""
    used = {selector.name for rule in EVERY_RULE for selector in selectors(parse(rule.expr))}

    assert recording.name in used


@every_alert
def test_metrics_and_labels_exist(alert: Alert) -> None:
    """Every metric and label in an alert is one the exporter declares, in its annotations too."""
    labels = labels_of(parse(alert.expr), catalogue())

    assert labels >= alert.template_labels()
    for query in alert.queries():
        labels_of(parse(query), catalogue())


@every_alert
def test_the_target_survives(alert: Alert) -> None:
    """The labels job and instance are left for routing and inhibition; a whole fleet has a job alone."""
    assert labels_of(parse(alert.expr), catalogue()) & TARGET == ({"job"} if alert.name in FLEET else TARGET)


@every_alert
def test_the_threshold_is_a_number_in_the_expression(alert: Alert) -> None:
    """The dashboards take the first number that an expression compares with for the threshold."""
    assert re.search(r"(==|>=|<=|>|<) *-?[0-9.]+", alert.expr)


@every_rule
def test_the_rule_is_explained(rule: Alert | Recording) -> None:
    """A comment stands right above every rule and says why it is as it is."""
    lines = RULES.read_text(encoding="utf-8").splitlines()
    heads = (f"- alert: {rule.name}", f"- record: {rule.name}")
    place = next(number for number, line in enumerate(lines) if line.strip() in heads)

    assert lines[place - 1].strip().startswith("# ")
