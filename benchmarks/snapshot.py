"""Benchmark: one look at all connections of both channels."""

from __future__ import annotations

import socket
from typing import Final

from benchmarks.connections import PORTS, connections
from benchmarks.listings import PSUTIL, PYROUTE2, SS, psutil_connections, pyroute2, ss
from benchmarks.measure import Contender, Row, Table, at_most, cpu_seconds, ratios, take_turns
from salt_exporter.kernel.inet_diag import NLMSG_DONE, dump_request
from salt_exporter.kernel.sock_diag import tcp_sockets

_ROUNDS: Final = 5

_FLOOR: Final = "the kernel's dump, thrown away unread"
_OURS: Final = "**`tcp_sockets`, each connection with its `tcp_info`**"
_NETLINK_SOCK_DIAG: Final = 4


def snapshot(number: int) -> Table:
    """Compare ways to list this many established connections."""
    buffer = bytearray(1 << 16)
    with connections(number):
        series = take_turns(
            _ROUNDS,
            {
                _FLOOR: Contender(lambda: _throw_away(buffer), 3),
                _OURS: Contender(lambda: len(tcp_sockets(PORTS).connections), 3),
                SS: Contender(lambda: len(ss())),
                PSUTIL: Contender(lambda: len(psutil_connections())),
                PYROUTE2: Contender(lambda: len(pyroute2())),
            },
            cpu_seconds,
        )
    rows = []
    for name, one in series.items():
        if one.answer not in (number, None):
            raise RuntimeError(f"{name} found {one.answer} connections, not {number}")
        ratio = ratios(one.seconds, series[_FLOOR].seconds)
        rows.append(Row(name, ratio, [s * 1e3 for s in one.seconds], at_most(1.6, ratio) if name == _OURS else None))
    return Table(
        f"Snapshot of {number:,} connections",
        "As many established loopback connections, from addresses of their own, half of them to each of two ports, "
        "held by other processes. CPU time, the kernel's included: what a core that is free takes. The floor sends the "
        "same requests to the kernel and receives the answers, no more.",
        "times the floor",
        "ms of CPU",
        rows,
    )


def _throw_away(buffer: bytearray) -> None:
    """Do what `tcp_sockets` does, except reading the answer."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        for family in (socket.AF_INET, socket.AF_INET6):
            netlink.send(dump_request(family, PORTS))
            buffer[4] = 0
            while buffer[4] != NLMSG_DONE:  # the low byte of the type; the end comes in a message of its own
                netlink.recv_into(buffer)
