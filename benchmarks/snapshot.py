"""Benchmark: one look at all connections of both channels."""

from __future__ import annotations

import socket
import sys
from contextlib import ExitStack, closing
from typing import Final

import psutil

from benchmarks.measure import Contender, Row, Table, at_most, ratios, take_turns
from benchmarks.processes import Child, output
from salt_exporter.kernel.inet_diag import NLMSG_DONE, dump_request
from salt_exporter.kernel.sock_diag import tcp_sockets

_PORTS: Final = (14910, 14911)
_PAIRS: Final = 4000  # connections held by one process, at two open files each
_ROUNDS: Final = 15

_FLOOR: Final = "the kernel's dump, thrown away unread"
_OURS: Final = "**`tcp_sockets`, each connection with its `tcp_info`**"
_SS: Final = "`ss -ti`, its text parsed"
_PSUTIL: Final = "`psutil.net_connections`, which has no `tcp_info`"
_NETLINK_SOCK_DIAG: Final = 4


def snapshot(connections: int) -> Table:
    """Compare ways to list this many established connections."""
    buffer = bytearray(1 << 16)
    with ExitStack() as stack:
        shares = [min(_PAIRS, connections - start) for start in range(0, connections, _PAIRS)]
        holders = [
            stack.enter_context(closing(Child(sys.executable, "pairs", which, share, *_PORTS)))
            for which, share in enumerate(shares)
        ]
        for holder in holders:
            holder.wait_ready()
        series = take_turns(
            _ROUNDS,
            {
                _FLOOR: Contender(lambda: _throw_away(buffer), 3),
                _OURS: Contender(lambda: len(tcp_sockets(_PORTS).connections), 3),
                _SS: Contender(lambda: len(_ss())),
                _PSUTIL: Contender(lambda: len(_psutil())),
            },
        )
    rows = []
    for name, one in series.items():
        if one.answer not in (connections, None):
            raise RuntimeError(f"{name} found {one.answer} connections, not {connections}")
        ratio = ratios(one.seconds, series[_FLOOR].seconds)
        rows.append(Row(name, ratio, [s * 1e3 for s in one.seconds], at_most(1.6, ratio) if name == _OURS else None))
    return Table(
        f"Snapshot of {connections:,} connections",
        "As many established loopback connections, from addresses of their own, half of them to each of two ports, "
        "held by other processes. The floor sends the same requests to the kernel and receives the answers, no more.",
        "times the floor",
        "ms",
        rows,
    )


def _throw_away(buffer: bytearray) -> None:
    """Do what `tcp_sockets` does, except reading the answer."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        for family in (socket.AF_INET, socket.AF_INET6):
            netlink.send(dump_request(family, _PORTS))
            buffer[4] = 0
            while buffer[4] != NLMSG_DONE:  # the low byte of the type; the end comes in a message of its own
                netlink.recv_into(buffer)


def _ss() -> list[tuple[str, str, dict[str, str]]]:
    """Return (state, peer, tcp_info) of the connections, asked of the usual program with its filter in the kernel."""
    ports = " or ".join(f"sport = :{port}" for port in _PORTS)
    found = []
    for line in output(["ss", "-tinHO", "state", "connected", f"( {ports} )"]).splitlines():
        state, _receive, _send, _local, peer, *rest = line.split()
        found.append((state, peer, dict(word.split(":", 1) for word in rest if ":" in word)))
    return found


def _psutil() -> list[tuple[str, str]]:
    """Return (state, peer) of the connections."""
    found = psutil.net_connections("tcp")
    return [(one.status, one.raddr.ip) for one in found if one.laddr and one.raddr and one.laddr.port in _PORTS]
