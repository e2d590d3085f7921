"""A connection storm against a master with a small backlog."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from salt_exporter.demo.cleaner import Cleaner
from salt_exporter.demo.lab import Lab
from tests.real.exporter import Exporter
from tests.real.newest import newest_line_only
from tests.real.processes import stopped

if TYPE_CHECKING:
    from tests.real.conftest import SaltLine
    from tests.real.namespaces import Network

pytestmark = pytest.mark.real

_STORM = Path(__file__).with_name("programs") / "storm.py"
_BACKLOG = 8
_QUEUE, _LIMIT = "salt_connections_listen_queue", "salt_connections_listen_queue_limit"
_OVERFLOWS, _DROPS = "salt_connections_listen_overflows_total", "salt_connections_listen_drops_total"


@newest_line_only("the accept queue is the kernel's")
def test_listen_overflow_shows(salt_line: SaltLine, network: Network, tmp_path: Path) -> None:
    """A full accept queue shows against its limit, with the kernel's overflows and drops; it empties when served."""
    options = {"interface": "127.0.0.1", "zmq_backlog": _BACKLOG}
    node = network.prefix("web1")  # where the ports of a second master are free
    with closing(Cleaner()) as cleaner:
        lab = Lab(cleaner, salt_line.programs, options=options, prefix=node)
        lab.start_master()
        lab.wait_master_ready()
        exporter = Exporter(lab, node, tmp_path)
        before = exporter.wait(
            lambda metrics: (
                metrics.get(_LIMIT, channel="publish") == _BACKLOG and metrics.get(_QUEUE, channel="publish") == 0
            ),
            20,
            "the limit is known and the exporter's own connection is accepted",
        )
        with stopped(lab.processes("master")):
            lab.start("storm", [sys.executable, str(_STORM), "4505", str(5 * _BACKLOG), "30"], node)
            full = exporter.wait(
                lambda metrics: (
                    metrics.get(_QUEUE, channel="publish") > _BACKLOG
                    and metrics.get(_OVERFLOWS) > before.get(_OVERFLOWS)
                    and metrics.get(_DROPS) > before.get(_DROPS)
                ),
                20,
                "the queue is full and connections are dropped",
            )
            # The kernel lets one more in than the backlog says.
            assert full.get(_QUEUE, channel="publish") == _BACKLOG + 1
            assert "the accept queue of the publish port holds 9 of 8: raise zmq_backlog" in exporter.command("check")
        exporter.wait(lambda metrics: metrics.get(_QUEUE, channel="publish") == 0, 20, "it is served")
        lab.stop("storm")
        exporter.stop()
