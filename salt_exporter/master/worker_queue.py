"""What waits in the unix sockets between the request router and the workers. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from salt_exporter.kernel.unix_diag import LISTEN, connections

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from salt_exporter.kernel.unix_diag import UnixSocket

DEFAULT_POOL: Final = "default"


def worker_queues(sockets: Collection[UnixSocket], folder: Path, pools: Collection[str]) -> dict[str, int]:
    """Return the bytes that wait by pool, of those configured `pools` whose socket is listening in `folder` (sock_dir).

    3006, 3007 and 3008 without pools have `workers.ipc` (salt/transport/zeromq.py), 3008 has `workers-<pool>.ipc`, or
    `workers-<pool>-<n>.ipc` for each worker with the tcp transport (salt/channel/server.py). Counted are requests that
    the workers have not read and replies that the router has not.
    """
    queues: dict[str, int] = {}
    for name in {item.name for item in sockets if item.state == LISTEN and item.name.startswith(f"{folder}/workers")}:
        pool = _pool(name.removeprefix(f"{folder}/"), pools)
        if pool is not None:
            waiting = sum(
                pair.client.receive_queue + pair.accepted.receive_queue for pair in connections(sockets, name)
            )
            queues[pool] = queues.get(pool, 0) + waiting
    return queues


def _pool(name: str, pools: Collection[str]) -> str | None:
    if name == "workers.ipc":
        return DEFAULT_POOL
    for pool in pools:
        if re.fullmatch(rf"workers-{re.escape(pool)}(-\d+)?\.ipc", name):
            return pool
    return None
