"""Healthy traffic of every kind loses nothing, and no cause is ever given."""

from __future__ import annotations

import os
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from salt_exporter.demo.cleaner import Cleaner
from salt_exporter.demo.lab import Lab
from salt_exporter.demo.salt_config import living_at
from tests.real.exporter import Exporter

if TYPE_CHECKING:
    from pathlib import Path

    from tests.real.conftest import SaltLine
    from tests.real.namespaces import Network

_SECONDS = float(os.environ.get("SALT_EXPORTER_TEST_HEALTHY_SECONDS", "20"))

pytestmark = [pytest.mark.real, pytest.mark.timeout(200 + 2 * _SECONDS)]

_DEADLINE = 12  # seconds for what has no deadline of its own: less than a state run takes
_MINIONS = ("m1", "m2", "m3")
_STATE = "sleep {}:\n  cmd.run\n"


def test_healthy_traffic_loses_nothing(salt_line: SaltLine, network: Network, tmp_path: Path) -> None:
    """Pings, commands, long state runs, batches and `--async`: every job is complete, nothing is called missing."""
    (tmp_path / "long.sls").write_text(_STATE.format(_DEADLINE + 3))
    (tmp_path / "short.sls").write_text(_STATE.format(1))
    node = network.prefix("web1")  # where the ports of another master are free
    options = {"interface": "127.0.0.1", "file_roots": {"base": [str(tmp_path)]}}
    with closing(Cleaner()) as cleaner:
        lab = Lab(cleaner, salt_line.programs, options=options, prefix=node)
        lab.start_master()
        lab.wait_master_ready()
        for number, minion in enumerate(_MINIONS, 1):
            lab.start_minion(minion, living_at(f"127.7.0.{number}"), node)
        lab.wait_minions(_MINIONS)
        exporter = Exporter(lab, node, tmp_path / "state", settings=[f"--jobs.deadline={_DEADLINE}s"])
        exporter.wait(lambda metrics: metrics.get("salt_exporter_eventbus_connected") == 1, 20, "connected to the bus")
        end = time.monotonic() + _SECONDS
        jobs = 0
        while True:
            lab.salt("--async", "*", "state.apply", "long")
            for arguments in (
                ("*", "test.ping"),
                ("m1", "state.apply", "short"),
                ("*", "cmd.run", "echo x"),
                ("-b", "1", "*", "test.arg", "x" * 3000),
                ("-L", "m1,m3", "test.fib", "5"),
                ("m2", "state.apply", "long"),
            ):
                lab.salt(*arguments)
            jobs += 7
            if time.monotonic() > end:
                break
        metrics = exporter.wait(lambda metrics: metrics.get("salt_jobs_in_flight") == 0, 60, "no job in flight")
        assert {} == {
            key: number for key, number in metrics.by("salt_jobs_missing_responses_total", "cause").items() if number
        }
        outcomes = metrics.by("salt_jobs_closed_total", "outcome")
        assert (0, 0) == (outcomes["incomplete",], outcomes["unknown",])
        assert outcomes["complete",] >= jobs
        late = metrics.by("salt_jobs_late_responses_total", "function")
        assert 0 == sum(late.values())
        print(outcomes)  # noqa: T201 - for whoever looks
        exporter.stop()
