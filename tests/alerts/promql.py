"""Questions about the shape of a PromQL expression."""

from __future__ import annotations

from typing import TYPE_CHECKING

from promql_parser import BinaryExpr, Call, Expr, MatrixSelector, ParenExpr, VectorSelector

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

SET_OPERATORS = {"and", "or", "unless"}
_COMPARISONS = {"==", "!=", ">", "<", ">=", "<="}
_COUNTER_FUNCTIONS = {"rate", "irate", "increase"}
_CHILDREN = ("lhs", "rhs", "expr", "args", "param", "vector_selector")


def walk(expression: Expr, *parents: Expr) -> Iterator[tuple[Expr, tuple[Expr, ...]]]:
    """Yield every node of `expression`, from the root down, with its parents, the nearest last."""
    yield expression, parents
    for name in _CHILDREN:
        children = getattr(expression, name, None)
        for child in children if isinstance(children, list) else [children]:
            if isinstance(child, Expr):
                yield from walk(child, *parents, expression)


def selectors(expression: Expr) -> list[VectorSelector]:
    """Return every selector in `expression`, those under a range included."""
    return [node for node, _ in walk(expression) if isinstance(node, VectorSelector)]


def naked_counters(expression: Expr) -> list[str]:
    """Return the counters used without rate, irate or increase: their value only tells of a restart."""
    return [
        node.name
        for node, parents in walk(expression)
        if isinstance(node, VectorSelector)
        and node.name is not None
        and node.name.endswith(("_total", "_bucket", "_sum", "_count"))
        and not any(isinstance(parent, Call) and parent.func.name in _COUNTER_FUNCTIONS for parent in parents)
    ]


def ranges(expression: Expr) -> list[timedelta]:
    """Return how far back the expression looks, for every place where it does."""
    return [node.range for node, _ in walk(expression) if isinstance(node, MatrixSelector)]


def is_condition(expression: Expr) -> bool:
    """Tell whether `expression` yields nothing while all is well, as an alert's must."""
    if isinstance(expression, ParenExpr):
        return is_condition(expression.expr)
    if not isinstance(expression, BinaryExpr):
        return False
    operator = str(expression.op)
    if operator in SET_OPERATORS:
        sides = is_condition(expression.lhs), is_condition(expression.rhs)
        return all(sides) if operator == "or" else any(sides)
    returns_bool = expression.modifier is not None and expression.modifier.return_bool
    return operator in _COMPARISONS and not returns_bool
