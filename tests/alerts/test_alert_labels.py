"""Tests of the label checker that guards alerts and dashboards."""

import pytest
from promql_parser import parse

from tests.alerts.labels import LabelError, labels_of
from tests.alerts.promql import is_condition, naked_counters

CATALOGUE = {
    "minions": frozenset({"job", "instance", "state"}),
    "keys": frozenset({"job", "instance", "state"}),
    "jobs_total": frozenset({"job", "instance", "function"}),
    "seconds_bucket": frozenset({"job", "instance", "function", "le"}),
    "up": frozenset({"job", "instance"}),
}


@pytest.mark.parametrize(
    ("expression", "labels"),
    [
        ("1 + time()", ""),
        ("minions", "job instance state"),
        ("1 - minions", "job instance state"),
        ("-(minions > 2)", "job instance state"),
        ("sum(minions)", ""),
        ("sum by (state) (minions)", "state"),
        ("sum without (state) (minions)", "job instance"),
        ("rate(jobs_total[5m])", "job instance function"),
        ("max_over_time(minions[1h:5m])", "job instance state"),
        ("histogram_quantile(0.9, sum by (le, job) (rate(seconds_bucket[5m])))", "job"),
        ("minions / keys", "job instance state"),
        ("minions / ignoring (state) up", "job instance"),
        ("minions / on (instance) up", "instance"),
        ("up * on (job) group_right (instance) sum by (job) (minions)", "job instance"),
        ("up * on (job, instance) group_left (function) jobs_total", "job instance function"),
        ("minions and on (instance) up", "job instance state"),
        ("up or jobs_total", "job instance function"),
        ("scalar(up) + minions", "job instance state"),
        ("vector(1)", ""),
    ],
)
def test_labels_of_an_expression(expression: str, labels: str) -> None:
    """Every kind of expression yields the labels that Prometheus would give its series."""
    assert set(labels.split()) == labels_of(parse(expression), CATALOGUE)


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("minnions", "no metric is called minnions"),
        ('minions{sate="present"}', "no label \\['sate'\\]"),
        ('rate(jobs_total{state="x"}[5m])', "no label \\['state'\\]"),
        ("sum by (function) (minions)", "no label \\['function'\\]"),
        ("sum without (function) (minions)", "no label \\['function'\\]"),
        ("minions / up", "only one side has \\['state'\\]"),
        ("minions and up", "only one side has \\['state'\\]"),
        ("minions / on (state) up", "no label \\['state'\\]"),
        ("minions / ignoring (function) keys", "no label \\['function'\\]"),
        ("minions * on (instance) group_left (function) up", "no label \\['function'\\]"),
        ("histogram_quantile(0.9, sum by (function) (rate(seconds_bucket[5m])))", "no label \\['le'\\]"),
        ("absent(minions)", "absent\\(\\)"),
    ],
)
def test_a_name_that_cannot_be_is_an_error(expression: str, complaint: str) -> None:
    """A misspelt metric or label, and sides that can never match, are errors that name the culprit."""
    with pytest.raises(LabelError, match=complaint):
        labels_of(parse(expression), CATALOGUE)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("up == 0", True),
        ("(up == 0) and minions", True),
        ("up == 0 or minions > 5", True),
        ("up == bool 0", False),
        ("up == 0 or minions", False),
        ("minions", False),
        ("sum(minions > 3)", False),
    ],
)
def test_a_condition_can_be_silent(expression: str, expected: bool) -> None:  # noqa: FBT001 - a table of cases
    """Only an expression that a comparison filters can be silent, and so be an alert."""
    assert expected == is_condition(parse(expression))


def test_a_counter_needs_a_rate() -> None:
    """A counter is named unless rate, irate or increase stands above it."""
    naked = naked_counters(parse("sum(jobs_total) / sum(rate(jobs_total[5m]))"))

    assert naked == ["jobs_total"]
