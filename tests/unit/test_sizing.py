"""Advice on the master's queues: Salt's own reference configuration, its defaults and its limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salt_exporter.analysis.sizing import recommended
from salt_exporter.master.options import OPTION


@pytest.mark.parametrize(
    ("minions", "pub_hwm", "zmq_backlog", "worker_threads", "max_open_files"),
    [
        (0, 1000, 1000, 5, 100_000),  # Salt's defaults
        (125, 1000, 1000, 5, 100_000),
        (126, 1008, 1000, 5, 100_000),
        (1001, 8008, 1001, 6, 100_000),
        (8000, 64_000, 8000, 40, 100_000),  # the reference configuration: pub_hwm
        (25_001, 200_008, 25_001, 126, 100_004),  # more than a quarter of 100,000 keys
        (70_000, 560_000, 65_535, 350, 280_000),
    ],
)
def test_rules(minions: int, pub_hwm: int, zmq_backlog: int, worker_threads: int, max_open_files: int) -> None:
    """Each rule gives Salt's default for few minions and grows as its source says."""
    expected = {
        "pub_hwm": pub_hwm,
        "zmq_backlog": zmq_backlog,
        "worker_threads": worker_threads,
        "max_open_files": max_open_files,
    }

    assert expected == recommended(minions)


def test_advice_is_about_options_that_are_shown() -> None:
    """What is advised can be compared with a value: each is an option of the table, read by every line."""
    assert all(len(OPTION[name].read_by) == 3 for name in recommended(1))


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_more_minions_never_need_less(first: int, second: int) -> None:
    """Advice grows with the number of minions."""
    fewer, more = sorted((first, second))

    assert all(recommended(fewer)[name] <= value for name, value in recommended(more).items())
