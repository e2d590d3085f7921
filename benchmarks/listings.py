"""How people list connections now: each function returns what it tells of the connections to PORTS, parsed."""

from __future__ import annotations

import socket
from typing import Any, Final

import psutil
from pyroute2.netlink.diag import SS_CONN, DiagSocket

from benchmarks.connections import PORTS
from benchmarks.processes import output

SS: Final = "`ss -ti`, its text parsed"
PSUTIL: Final = "`psutil.net_connections`, which has no `tcp_info`"
PYROUTE2: Final = "pyroute2's `DiagSocket`, with `tcp_info`"

_INET_DIAG_INFO: Final = 2  # include/uapi/linux/inet_diag.h


def ss() -> list[tuple[str, str, dict[str, str]]]:
    """Return (state, peer, tcp_info), asked of the usual program with its filter in the kernel."""
    ports = " or ".join(f"sport = :{port}" for port in PORTS)
    found = []
    for line in output(["ss", "-tinHO", "state", "connected", f"( {ports} )"]).splitlines():
        state, _receive, _send, _local, peer, *rest = line.split()
        found.append((state, peer, dict(word.split(":", 1) for word in rest if ":" in word)))
    return found


def psutil_connections() -> list[tuple[str, str]]:
    """Return (state, peer)."""
    found = psutil.net_connections("tcp")
    return [(one.status, one.raddr.ip) for one in found if one.laddr and one.raddr and one.laddr.port in PORTS]


def pyroute2() -> list[Any]:
    """Return its messages; it can ask the kernel for one port at a time."""
    found: list[Any] = []
    with DiagSocket() as diag:
        diag.bind()
        for family in (socket.AF_INET, socket.AF_INET6):
            for port in PORTS:
                found += diag.get_sock_stats(
                    family=family, states=SS_CONN, extensions=1 << (_INET_DIAG_INFO - 1), sport=port
                )
    return found
