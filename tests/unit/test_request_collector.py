"""Queues of the request channel: the worker queue by pool, and the receive queues of 4506."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from salt_exporter.analysis.requests import Unanswered
from salt_exporter.collectors import request
from salt_exporter.collectors.request import RequestCollector
from salt_exporter.kernel.unix_diag import ESTABLISHED, LISTEN, UnixSocket
from salt_exporter.master.bus import BusAddress
from salt_exporter.master.worker_queue import worker_queues

if TYPE_CHECKING:
    from collections.abc import Sequence

    from salt_exporter.world import World

_FOLDER = Path("/var/run/salt/master")


def _listener(inode: int, name: str) -> UnixSocket:
    return UnixSocket(inode, LISTEN, f"{_FOLDER}/{name}", 0, 3, 100)


def _connection(inode: int, name: str, requests: int, replies: int = 0) -> list[UnixSocket]:
    """Return both ends of a worker's connection: `requests` not read by the worker, `replies` not by the router."""
    return [
        UnixSocket(inode, ESTABLISHED, f"{_FOLDER}/{name}", inode + 1, replies, 2 * requests),
        UnixSocket(inode + 1, ESTABLISHED, "", inode, requests, 2 * replies),
    ]


def test_one_pool() -> None:
    """`workers.ipc` is the pool default; requests and replies of all its workers are added up."""
    sockets = [
        _listener(1, "workers.ipc"),
        *_connection(10, "workers.ipc", requests=100),
        *_connection(20, "workers.ipc", requests=50, replies=7),
        *_connection(30, "master_event_pub.ipc", requests=1000),
    ]
    assert {"default": 157} == worker_queues(sockets, _FOLDER, ["default"])


def test_pools_of_3008() -> None:
    """3008 has a socket for each pool, with the tcp transport one for each worker of a pool."""
    sockets = [
        _listener(1, "workers-default.ipc"),
        *_connection(10, "workers-default.ipc", requests=1),
        _listener(2, "workers-fast-2.ipc"),
        *_connection(20, "workers-fast-2.ipc", requests=20),
        _listener(3, "workers-fast-2-0.ipc"),
        *_connection(30, "workers-fast-2-0.ipc", requests=300),
    ]
    assert {"default": 1, "fast-2": 320} == worker_queues(sockets, _FOLDER, ["default", "fast-2"])


def test_pools_nobody_configured() -> None:
    """The label takes configured pools only, whatever sockets there are; without its socket a pool has no value."""
    sockets = [
        _listener(1, "workers-strange.ipc"),
        *_connection(10, "workers-strange.ipc", requests=1),
        UnixSocket(2, LISTEN, "/other/master/workers-default.ipc", 0, 0, 100),
    ]
    assert {} == worker_queues(sockets, _FOLDER, ["default"])


def _collect(
    bus: BusAddress, queues: Sequence[int], unanswered: Unanswered | None, stuck: int | None = None
) -> dict[tuple[str, ...], object]:
    settings = SimpleNamespace(bus=bus, pools={"default": 5})
    rows = [(1, 0, 0, 0, 0, b"", number, queue, 99, 0) for number, queue in enumerate(queues)]
    world = SimpleNamespace(
        settings=SimpleNamespace(current=lambda: settings),
        requests=SimpleNamespace(unanswered=unanswered),
        prober=SimpleNamespace(stuck_workers=stuck),
        sampler=SimpleNamespace(snapshot=lambda: SimpleNamespace(connections={"request": rows, "publish": rows * 2})),
    )
    samples = RequestCollector(cast("World", world)).collect()
    return {(sample.metric.name, *sample.labels): sample.value for sample in samples}


def test_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """The receive queues of the request channel are added up; an idle pool is 0, not missing."""
    monkeypatch.setattr(request, "unix_sockets", lambda: [_listener(1, "workers.ipc")])
    assert {
        ("salt_request_unanswered_connections",): 3.0,
        ("salt_request_oldest_unanswered_seconds",): 7.5,
        ("salt_request_receive_queue_bytes",): 205.0,
        ("salt_request_worker_queue_bytes", "default"): 0.0,
        ("salt_request_workers_stuck",): 2.0,
    } == _collect(BusAddress(path=_FOLDER / "master_event_pub.ipc"), [200, 0, 5], Unanswered(3, 7.5), 2)


def test_collector_with_tcp_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `ipc_mode: tcp` there is no worker queue to look at; what is not known yet has no series."""
    monkeypatch.setattr(request, "unix_sockets", lambda: pytest.fail("looked at unix sockets"))
    assert {("salt_request_receive_queue_bytes",): 1.0} == _collect(BusAddress(port=4510), [1], None)
