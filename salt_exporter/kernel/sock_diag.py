"""Ask the kernel for sockets: NETLINK_SOCK_DIAG, no root and no capability needed.

It sees the network namespace it runs in, and only that one.
"""

from __future__ import annotations

import socket
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from salt_exporter.errors import SourceError
from salt_exporter.kernel.inet_diag import ALL_STATES, Dump, Listener, Row, dump_request
from salt_exporter.kernel.netlink import Answer, DiagError
from salt_exporter.kernel.unix_diag import UnixDump, UnixSocket, unix_request

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

_A = TypeVar("_A", bound=Answer)

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
    with _netlink("TCP", "tcp_diag") as netlink:
        dumps = [
            _dump_whole(netlink, dump_request(family, ports, states, info=info), partial(Dump, family))
            for family in (socket.AF_INET, socket.AF_INET6)
        ]
    return SocketTable(
        connections=dumps[0].connections + dumps[1].connections,
        listeners=dumps[0].listeners + dumps[1].listeners,
        interrupted=any(dump.interrupted for dump in dumps),
    )


def unix_sockets() -> list[UnixSocket]:
    """Return all AF_UNIX stream sockets that listen or are connected. Raises SourceError."""
    with _netlink("unix", "unix_diag") as netlink:
        return _dump_whole(netlink, unix_request(), UnixDump).sockets


@contextmanager
def _netlink(kind: str, module: str) -> Iterator[socket.socket]:
    """Open a netlink socket for dumps; what goes wrong with them becomes a SourceError."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as netlink:
            netlink.settimeout(_TIMEOUT)
            yield netlink
    except (OSError, DiagError) as error:
        raise SourceError(
            f"cannot read the {kind} sockets from the kernel ({error}): the exporter needs Linux with "
            f"{module} (modprobe {module}) and leave to use AF_NETLINK "
            "(RestrictAddressFamilies= in its unit)"
        ) from error


def _dump_whole(netlink: socket.socket, request: bytes, new: Callable[[], _A]) -> _A:
    """Ask again while the kernel marks the answer as interrupted."""
    for _attempt in range(_ATTEMPTS):
        answer = _dump(netlink, request, new())
        if not answer.interrupted:
            break
    return answer


def _dump(netlink: socket.socket, request: bytes, answer: _A) -> _A:
    netlink.send(request)
    buffer = bytearray(_BUFFER)
    view = memoryview(buffer)
    while not answer.done:
        size, _ancillary, flags, _sender = netlink.recvmsg_into([buffer])
        if flags & _MSG_TRUNC:
            raise DiagError(f"a netlink answer did not fit into {_BUFFER} bytes")
        answer.feed(view[:size])
    return answer
