"""Ask the kernel for the TCP sockets on some ports: NETLINK_SOCK_DIAG, no root and no capability needed.

It sees the network namespace it runs in, and only that one.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from salt_exporter.errors import SourceError
from salt_exporter.kernel.inet_diag import ALL_STATES, DiagError, Dump, Listener, Row, dump_request

if TYPE_CHECKING:
    from collections.abc import Collection

_NETLINK_SOCK_DIAG: Final = 4  # include/uapi/linux/netlink.h
_MSG_TRUNC: Final = int(socket.MSG_TRUNC)  # the enum costs more than the parsing of a chunk
_BUFFER: Final = 1 << 16  # the kernel fills at most 32 KiB per message block of a dump (af_netlink.c)
_TIMEOUT: Final = 5.0
_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class SocketTable:
    """The TCP sockets on the asked local ports."""

    connections: list[Row]
    listeners: list[Listener]
    interrupted: bool  # still changing under our eyes at the last attempt: sockets may be missing


def tcp_sockets(ports: Collection[int], *, states: int = ALL_STATES, info: bool = True) -> SocketTable:
    """Return all IPv4 and IPv6 sockets (v4-mapped included) in `states` whose local port is one of `ports`.

    A dump that the kernel marks as interrupted is repeated. Raises SourceError.
    """
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as netlink:
            netlink.settimeout(_TIMEOUT)
            dumps = [
                _dump_whole(netlink, family, ports, states, info=info) for family in (socket.AF_INET, socket.AF_INET6)
            ]
    except (OSError, DiagError) as error:
        raise SourceError(
            f"cannot read the TCP sockets from the kernel ({error}): the exporter needs Linux with tcp_diag "
            "(modprobe tcp_diag inet_diag) and leave to use AF_NETLINK (RestrictAddressFamilies= in its unit)"
        ) from error
    return SocketTable(
        connections=dumps[0].connections + dumps[1].connections,
        listeners=dumps[0].listeners + dumps[1].listeners,
        interrupted=any(dump.interrupted for dump in dumps),
    )


def _dump_whole(netlink: socket.socket, family: int, ports: Collection[int], states: int, *, info: bool) -> Dump:
    for _attempt in range(_ATTEMPTS):
        dump = _dump(netlink, family, ports, states, info=info)
        if not dump.interrupted:
            break
    return dump


def _dump(netlink: socket.socket, family: int, ports: Collection[int], states: int, *, info: bool) -> Dump:
    netlink.send(dump_request(family, ports, states, info=info))
    dump = Dump(family)
    buffer = bytearray(_BUFFER)
    view = memoryview(buffer)
    while not dump.done:
        size, _ancillary, flags, _sender = netlink.recvmsg_into([buffer])
        if flags & _MSG_TRUNC:
            raise DiagError(f"a netlink answer did not fit into {_BUFFER} bytes")
        dump.feed(view[:size])
    return dump
