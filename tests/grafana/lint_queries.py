"""Lint rules for a query of a panel."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from promql_parser import AggregateExpr, Call, Expr, MatchOp, MatrixSelector, parse_duration

from tests.alerts.labels import LabelError, labels_of
from tests.alerts.promql import naked_counters, selectors, walk
from tests.grafana.expressions import RANGE, RATE_INTERVAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.alerts.labels import Catalogue
    from tests.grafana.expressions import Json


class Query(NamedTuple):
    """A query with its panel, its expression (variables filled in), and the metrics there are."""

    panel: Json
    target: Json
    expression: Expr
    catalogue: Catalogue


def _rate_interval(query: Query) -> Iterator[str]:
    """Hold rates to $__rate_interval; what adds up or averages may also span the whole time range."""
    for node, parents in walk(query.expression):
        if not isinstance(node, MatrixSelector) or not isinstance(parents[-1], Call):
            continue
        whole = parents[-1].func.name == "increase" or parents[-1].func.name.endswith("_over_time")
        allowed = [RATE_INTERVAL, RANGE] if whole else [RATE_INTERVAL]
        if node.range not in [parse_duration(duration) for duration in allowed]:
            yield f"{parents[-1].func.name} over a fixed range"


def _job(query: Query) -> Iterator[str]:
    yield from _matched_by_variable(query, "job")


def _instance(query: Query) -> Iterator[str]:
    yield from _matched_by_variable(query, "instance")


def _matched_by_variable(query: Query, label: str) -> Iterator[str]:
    for selector in selectors(query.expression):
        matchers = [matcher for matcher in selector.matchers.matchers if matcher.name == label]
        if (MatchOp.Re, ".+") not in [(matcher.op, matcher.value) for matcher in matchers]:
            yield f'{selector.name} is not matched by {label}=~"${label}"'


def _counters(query: Query) -> Iterator[str]:
    yield from (f"counter {name} without rate or increase" for name in naked_counters(query.expression))


def _topk(query: Query) -> Iterator[str]:
    for node, _ in walk(query.expression):
        if isinstance(node, AggregateExpr) and str(node.op) in {"topk", "bottomk"} and query.target["range"]:
            yield f"{node.op} in a graph chooses anew at every point, so it shows more series than asked for"


def _names(query: Query) -> Iterator[str]:
    try:
        labels_of(query.expression, query.catalogue)
    except LabelError as error:
        yield str(error)


def _legend(query: Query) -> Iterator[str]:
    named = set(re.findall(r"{{ *(\w+) *}}", query.target["legendFormat"]))
    if unknown := named - _labels(query):
        yield f"the legend names {sorted(unknown)}, which the series do not have"


def _columns(query: Query) -> Iterator[str]:
    """Hold the columns of a table to be the labels and the value of each of its queries."""
    if query.panel["type"] != "table":
        return
    organize = next(step for step in query.panel["transformations"] if step["id"] == "organize")
    columns = set(organize["options"]["indexByName"])
    value = f"Value #{query.target['refId']}" if len(query.panel["targets"]) > 1 else "Value"
    if value not in columns:
        yield f"no column for {value}"
    if (labels := {name for name in columns if not name.startswith("Value")}) != _labels(query):
        yield f"the columns are {sorted(labels)}, the labels {sorted(_labels(query))}"


def _link_labels(query: Query) -> Iterator[str]:
    """Hold the labels that links speak of to be labels of the series."""
    links = query.panel.get("fieldConfig", {}).get("defaults", {}).get("links", [])
    named = {name for link in links for name in re.findall(r"\${__field\.labels\.(\w+)}", link["url"])}
    if unknown := named - _labels(query):
        yield f"links need the labels {sorted(unknown)}, which the series do not have"


def _labels(query: Query) -> frozenset[str]:
    try:
        return labels_of(query.expression, query.catalogue)
    except LabelError:  # reported by one rule only
        return frozenset()


QUERY_RULES = {
    "target-rate-interval-rule": _rate_interval,
    "target-job-rule": _job,
    "target-instance-rule": _instance,
    "target-counter-agg-rule": _counters,
    # Ours:
    "query-topk": _topk,
    "query-names": _names,
    "query-legend": _legend,
    "query-columns": _columns,
    "query-link-labels": _link_labels,
}
