"""A burst of returns over the real event bus."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.real.newest import NEWEST_INSTALLED

if TYPE_CHECKING:
    from tests.real.arena import Arena
    from tests.real.conftest import SaltLine

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

_JOBS, _MINIONS = 10, 5000
_FEWER_JOBS = 2  # on older lines: Salt takes a minute of processor time for the rest
_PROGRAM = Path(__file__).with_name("programs") / "return_storm.py"
_RESPONSES, _MEMORY = "salt_jobs_responses_total", "process_resident_memory_bytes"


def test_storm_of_returns(salt_line: SaltLine, arena: Arena) -> None:
    """50,000 returns in a burst (10,000 on older lines) are all counted, none is shed, and memory is given back."""
    jobs = _JOBS if salt_line.name == NEWEST_INSTALLED else _FEWER_JOBS
    before = arena.exporter.scrape()
    argv = [arena.lab.programs.python, str(_PROGRAM), str(arena.lab.config_dir), str(jobs), str(_MINIONS)]
    arena.lab.start("storm", argv, arena.network.prefix("arena"))
    deadline = time.monotonic() + 180
    while "fired" not in (said := arena.lab.log("storm").read_text()):
        assert arena.lab.is_running("storm"), said
        assert time.monotonic() < deadline, "Salt takes too long to fire them"
        time.sleep(0.1)
    fired = time.monotonic()
    metrics = arena.exporter.wait(
        lambda metrics: metrics.get(_RESPONSES, 0.0, function="test.storm", success="true") == jobs * _MINIONS,
        60,
        "all returns are counted",
    )
    print(f"all were counted {time.monotonic() - fired:.1f} s after the last was fired")  # noqa: T201 - for whoever looks
    assert 0 == metrics.get("salt_exporter_events_shed_total")
    assert before.get("salt_exporter_eventbus_decode_errors_total") == metrics.get(
        "salt_exporter_eventbus_decode_errors_total"
    )
    metrics = arena.exporter.wait(
        lambda metrics: metrics.get("salt_jobs_closed_total", 0.0, function="test.storm", outcome="complete") == jobs,
        20,
        "all jobs are complete",
    )
    assert 0 == metrics.by("salt_jobs_missing_responses_total", "function")[("test.storm",)]
    # The ids of closed jobs are remembered for a while, to know late and duplicate returns.
    assert metrics.get(_MEMORY) <= 1.2 * before.get(_MEMORY)
