"""Measures things side by side.

What is compared takes turns within each round, so that a machine that is busy with something else slows all of it down
alike: the ratio within a round is to be trusted, a time alone is not.
"""

from __future__ import annotations

import gc
import resource
import time
from dataclasses import dataclass
from operator import itemgetter
from statistics import median
from typing import TYPE_CHECKING, Any, TypeVar

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to do the work. Quick ones are called several times a round, of which the median counts."""

    call: Callable[[], Any]
    repeat: int = 1


@dataclass(frozen=True, slots=True)
class Series:
    """What one contender took in each round, in seconds, and its last answer."""

    seconds: list[float]
    answer: Any


def cpu_seconds() -> float:
    """Return the user and system CPU time of this process and of the children that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def take_turns(
    rounds: int, contenders: Mapping[str, Contender], clock: Callable[[], float] = time.perf_counter
) -> dict[str, Series]:
    """Run every contender in every round, in the order given; at least one round."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    answers: dict[str, Any] = {}
    for _ in range(rounds):
        for name, contender in contenders.items():
            gc.collect()  # what one leaves behind is not for the next to clear away
            times = []
            for _ in range(contender.repeat):
                start = clock()
                answers[name] = contender.call()
                times.append(clock() - start)
            seconds[name].append(median(times))
    return {name: Series(seconds[name], answers[name]) for name in contenders}


def quietest(rounds: int, measure: Callable[[], _T]) -> _T:
    """Return what was measured in the one of so many rounds in which this machine's host took the least from it.

    Steal time (proc(5), /proc/stat) tells that, which has nothing to do with what is measured.
    """
    found = []
    for _ in range(rounds):
        before = psutil.cpu_times().steal
        answer = measure()
        found.append((psutil.cpu_times().steal - before, answer))
    return min(found, key=itemgetter(0))[1]


def ratios(dividends: Sequence[float], divisors: Sequence[float]) -> list[float]:
    """Divide round by round."""
    return [dividend / divisor for dividend, divisor in zip(dividends, divisors, strict=True)]


@dataclass(frozen=True, slots=True)
class Goal:
    """What a row's median should be, in words, and whether it is."""

    text: str
    met: bool


def at_most(limit: float, measured: Sequence[float], unit: str = "") -> Goal:
    """Return the goal that the median is no larger than `limit`."""
    return Goal(f"≤ {limit:g}{unit}", median(measured) <= limit)


def at_least(limit: float, measured: Sequence[float], unit: str = "") -> Goal:
    """Return the goal that the median is no smaller than `limit`."""
    return Goal(f"≥ {limit:g}{unit}", median(measured) >= limit)


@dataclass(frozen=True, slots=True)
class Row:
    """One contender's line; `ratios` and `values` hold one number for each round."""

    name: str
    ratios: Sequence[float]
    values: Sequence[float]  # in the unit of the table
    goal: Goal | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """The result of one benchmark."""

    title: str
    how: str  # it was measured: Markdown
    ratio: str  # what the ratios mean: the head of their column
    unit: str  # of the values: the head of their column
    rows: Sequence[Row]

    @property
    def goals_met(self) -> bool:
        """Whether no row has missed its goal."""
        return all(row.goal.met for row in self.rows if row.goal)
