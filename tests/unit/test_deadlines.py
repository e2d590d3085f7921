"""How long jobs may take: patterns of functions, the first that matches, and the longest of several functions."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salt_exporter.analysis.deadlines import Deadlines
from salt_exporter.config import Config

DEFAULT = 60.0
PATTERNS = (("state.sls", 10.0), ("state.*", 3600.0), ("test.[!v]*", 5.0), ("test.*", 7.0))


@pytest.mark.parametrize(
    ("function", "seconds"),
    [
        ("state.sls", 10.0),  # the first of two that match
        ("state.highstate", 3600.0),
        ("state", DEFAULT),
        ("my.state.sls", DEFAULT),  # a pattern is for the whole name
        ("STATE.sls", DEFAULT),  # as Salt's own, patterns tell case apart
        ("test.ping", 5.0),
        ("test.version", 7.0),
        ("cmd.run", DEFAULT),
        ("", DEFAULT),
        ("test.ping,cmd.run", DEFAULT),  # several functions in one job
        ("cmd.run,state.highstate,test.ping", 3600.0),
        ("test.ping,test.version", 7.0),
        (",", DEFAULT),
    ],
)
def test_first_pattern_that_matches_decides(function: str, seconds: float) -> None:
    """A function has the deadline of its first pattern, else the default; several have that of the longest."""
    assert seconds == Deadlines(DEFAULT, PATTERNS).of(function)


def test_without_patterns_there_is_one_deadline() -> None:
    """Nothing but the default is needed."""
    assert DEFAULT == Deadlines(DEFAULT).of("state.highstate")


def test_defaults_give_long_jobs_their_time() -> None:
    """What is configured by default lets states run for an hour, and asks pings after half a minute."""
    config = Config()
    deadlines = Deadlines(config.jobs_deadline, config.jobs_deadlines)

    assert [3600.0, 600.0, 30.0, 60.0] == [
        deadlines.of(function) for function in ("state.highstate", "cmd.run", "test.ping", "grains.items")
    ]


@given(st.text(max_size=40), st.lists(st.tuples(st.text(max_size=6), st.floats(1.0, 1e6)), max_size=5))
@settings(deadline=None)
def test_any_function_has_a_deadline(function: str, patterns: list[tuple[str, float]]) -> None:
    """Whatever a minion calls its function: the answer is the default or that of a pattern."""
    assert Deadlines(DEFAULT, patterns).of(function) in {DEFAULT, *(seconds for _, seconds in patterns)}
