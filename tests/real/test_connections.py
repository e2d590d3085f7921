"""Counts on 4505 and 4506, against `ss` in the master's network namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.real.newest import newest_line_only

if TYPE_CHECKING:
    from salt_exporter.demo.lab import Lab
    from tests.real.exporter import Exporter

pytestmark = pytest.mark.real

_PORTS = {"publish": 4505, "request": 4506}


def _ss(exporter: Exporter, *arguments: str) -> list[list[str]]:
    return [line.split() for line in exporter.run_beside("ss", "-Htn", *arguments).splitlines()]


def _established(exporter: Exporter, port: int) -> list[str]:
    """Return the peers of established connections, sorted, without the exporter's own."""
    rows = _ss(exporter, "state", "established", f"( sport = :{port} )")
    peers = sorted(row[3].rpartition(":")[0].removeprefix("[::ffff:").strip("[]") for row in rows)
    return [peer for peer in peers if peer != "127.0.0.2"]


@pytest.mark.parametrize("channel", _PORTS)
def test_counts_equal_ss(exporter: Exporter, channel: str) -> None:
    """Connections and distinct peers are those that ss lists, IPv4-mapped addresses counted as IPv4."""
    port = _PORTS[channel]
    for _attempt in range(20):  # connections come and go: compare a scrape that nothing happened around
        before = _established(exporter, port)
        exporter.run_beside("sleep", "0.6")  # longer than the sampler's interval
        metrics = exporter.scrape()
        if before == _established(exporter, port):
            break
    else:
        pytest.fail("no quiet moment")
    assert before
    assert len(before) == metrics.get("salt_connections", channel=channel, state="established")
    assert len(set(before)) == metrics.get("salt_connections_peers", channel=channel)


@pytest.mark.parametrize("channel", _PORTS)
def test_accept_queue_limit_equals_ss(exporter: Exporter, channel: str) -> None:
    """The limit of the accept queue is what the kernel really holds."""
    rows = _ss(exporter, "-l", f"( sport = :{_PORTS[channel]} )")
    limits = [float(row[2]) for row in rows]
    assert limits == [exporter.scrape().get("salt_connections_listen_queue_limit", channel=channel)]


@newest_line_only("connections are the kernel's")
def test_churn_is_counted(exporter: Exporter, lab: Lab) -> None:
    """A minion that stops and starts closes and opens a connection to the publish port."""
    opened, closed = "salt_connections_opened_total", "salt_connections_closed_total"
    before = exporter.scrape()
    lab.restart("web2")
    lab.wait_minions(["web2"])
    exporter.wait(
        lambda metrics: all(
            metrics.get(name, channel="publish") > before.get(name, channel="publish") for name in (opened, closed)
        ),
        10,
        "one connection more opened and closed",
    )
