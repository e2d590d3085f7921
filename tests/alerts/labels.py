"""The labels of the series an expression yields, worked out from the metrics' declarations.

To Prometheus a misspelt metric or label is no error: the alert is silent, the panel empty. Here it is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from promql_parser import (
    AggModifierType,
    AggregateExpr,
    BinaryExpr,
    BinModifier,
    Call,
    Expr,
    LabelModifierType,
    MatrixSelector,
    NumberLiteral,
    ParenExpr,
    StringLiteral,
    SubqueryExpr,
    UnaryExpr,
    ValueType,
    VectorMatchCardinality,
    VectorSelector,
)

from tests.alerts.promql import SET_OPERATORS

Labels: TypeAlias = frozenset[str]
Catalogue: TypeAlias = Mapping[str, Labels]
"""Name of a series, such as salt_keys or salt_jobs_response_seconds_bucket -> the labels it carries."""

# The labels of their results cannot be told from those of their arguments.
_UNSUPPORTED = {"absent", "absent_over_time", "info", "label_join", "label_replace"}


class LabelError(ValueError):
    """A name that no series has, or a match of series that can never match."""


def labels_of(expression: Expr, catalogue: Catalogue) -> Labels:
    """Return the labels of the series that `expression` yields; none for a scalar.

    Raises LabelError for a metric or label that is not in the catalogue at the place where it is used.
    """
    match expression:
        case NumberLiteral() | StringLiteral():
            labels = frozenset[str]()
        case VectorSelector():
            labels = _of_selector(expression, catalogue)
        case MatrixSelector():
            labels = _of_selector(expression.vector_selector, catalogue)
        case ParenExpr() | UnaryExpr() | SubqueryExpr():
            labels = labels_of(expression.expr, catalogue)
        case Call():
            labels = _of_call(expression, catalogue)
        case AggregateExpr():
            labels = _of_aggregation(expression, catalogue)
        case BinaryExpr():
            labels = _of_operation(expression, catalogue)
        case _:
            raise TypeError(f"not an expression: {expression!r}")
    return labels


def _of_selector(selector: VectorSelector, catalogue: Catalogue) -> Labels:
    if selector.name is None or selector.name not in catalogue:
        raise LabelError(f"no metric is called {selector.name}")
    labels = catalogue[selector.name]
    _demand({matcher.name for matcher in selector.matchers.matchers}, labels, str(selector))
    return labels


def _of_call(call: Call, catalogue: Catalogue) -> Labels:
    name = call.func.name
    if name in _UNSUPPORTED:
        raise LabelError(f"the labels of {name}() cannot be told")
    arguments = [labels_of(argument, catalogue) for argument in call.args]
    if call.func.return_type == ValueType.Scalar or name == "vector":
        return frozenset()
    labels = frozenset[str]().union(*arguments)
    if name == "histogram_quantile":
        _demand({"le"}, labels, call.prettify())
        return labels - {"le"}
    return labels


def _of_aggregation(aggregation: AggregateExpr, catalogue: Catalogue) -> Labels:
    labels = labels_of(aggregation.expr, catalogue)
    modifier = aggregation.modifier
    if modifier is None:
        return frozenset()
    named = _demand(set(modifier.labels), labels, aggregation.prettify())
    return named if modifier.type == AggModifierType.By else labels - named


def _of_operation(operation: BinaryExpr, catalogue: Catalogue) -> Labels:
    if _is_scalar(operation.lhs) or _is_scalar(operation.rhs):
        return labels_of(operation.lhs, catalogue) | labels_of(operation.rhs, catalogue)
    left, right = labels_of(operation.lhs, catalogue), labels_of(operation.rhs, catalogue)
    matched = _matched(operation, left, right)
    if str(operation.op) in SET_OPERATORS:
        return left | right if str(operation.op) == "or" else left
    modifier = operation.modifier
    if modifier is None or modifier.card == VectorMatchCardinality.OneToOne:
        return matched
    many, one = (left, right) if modifier.card == VectorMatchCardinality.ManyToOne else (right, left)
    return many | _demand(set(modifier.group_labels or ()), one, operation.prettify())


def _matched(operation: BinaryExpr, left: Labels, right: Labels) -> Labels:
    """Return the labels that both sides are matched by."""
    modifier: BinModifier | None = operation.modifier
    matching = modifier.matching if modifier is not None else None
    if matching is not None and matching.type == LabelModifierType.Include:
        return _demand(set(matching.labels), left & right, operation.prettify())
    ignored = _demand(set(matching.labels if matching else ()), left | right, operation.prettify())
    if left - ignored != right - ignored and str(operation.op) != "or":
        differing = sorted((left ^ right) - ignored)
        raise LabelError(f"only one side has {differing}, so nothing ever matches: {operation.prettify()}")
    return left - ignored


def _is_scalar(expression: Expr) -> bool:
    if isinstance(expression, ParenExpr | UnaryExpr):
        return _is_scalar(expression.expr)
    if isinstance(expression, Call):
        return bool(expression.func.return_type == ValueType.Scalar)
    return isinstance(expression, NumberLiteral)


def _demand(names: set[str], labels: Labels, where: str) -> Labels:
    """Return `names` if all of them are in `labels`."""
    if unknown := names - labels:
        raise LabelError(f"no label {sorted(unknown)} among {sorted(labels)} in: {where}")
    return frozenset(names)
