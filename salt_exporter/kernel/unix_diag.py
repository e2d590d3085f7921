"""The kernel's unix_diag format: a request to bytes, answers to sockets. Pure, no sockets.

Sources (Linux 6.1): include/uapi/linux/unix_diag.h (`unix_diag_req`, `unix_diag_msg`, `unix_diag_rqlen`),
net/unix/diag.c (what the numbers mean), include/net/tcp_states.h (states, which unix sockets share).
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from salt_exporter.kernel.netlink import NLMSGHDR, Answer, DiagError, attributes, sock_diag_dump

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ESTABLISHED: Final = 1
LISTEN: Final = 10
_STATES: Final = 1 << ESTABLISHED | 1 << LISTEN

_SHOW_NAME: Final = 0x01
_SHOW_PEER: Final = 0x04
_SHOW_RQLEN: Final = 0x10
_REQUEST: Final = struct.Struct("=BBxxIIIII")

_UNIX_DIAG_NAME: Final = 0
_UNIX_DIAG_PEER: Final = 2
_UNIX_DIAG_RQLEN: Final = 4
_MSG: Final = struct.Struct("=BBBxI8x")  # family, type, state, inode, cookie
_ATTRS: Final = NLMSGHDR.size + _MSG.size
_PEER: Final = struct.Struct("=I")
_RQLEN: Final = struct.Struct("=II")


class UnixSocket(NamedTuple):
    """One AF_UNIX stream socket.

    Both ends of a connection are in a dump; a client's end usually has no name, the accepted one has the listener's.
    """

    inode: int  # 0 while it waits to be accepted
    state: int
    name: str  # as it was bound: a path, or a NUL and an abstract name; "" if it was not
    peer: int  # inode of the other end; 0 if that is closed, or waits to be accepted
    receive_queue: int  # bytes not read yet; of a listener the connections that wait to be accepted
    send_queue: int  # memory, not bytes sent, that the peer's receive queue holds; of a listener its backlog


class Pair(NamedTuple):
    """One connection to a listening socket."""

    accepted: UnixSocket
    client: UnixSocket


def unix_request() -> bytes:
    """Ask for all stream sockets that listen or are connected; the kernel cannot filter by name."""
    show = _SHOW_NAME | _SHOW_PEER | _SHOW_RQLEN
    return sock_diag_dump(_REQUEST.pack(socket.AF_UNIX, 0, _STATES, 0, show, 0xFFFFFFFF, 0xFFFFFFFF))


class UnixDump(Answer):
    """The answer to `unix_request`."""

    def __init__(self) -> None:
        super().__init__()
        self.sockets: list[UnixSocket] = []

    def _add(self, message: memoryview) -> None:
        if len(message) < _ATTRS:
            raise DiagError(f"unix_diag message of {len(message)} bytes, expected at least {_ATTRS}")
        _family, kind, state, inode = _MSG.unpack_from(message, NLMSGHDR.size)
        if kind != socket.SOCK_STREAM:
            return
        name = ""
        peer = receive_queue = send_queue = 0
        for attribute, start, end in attributes(message, _ATTRS):
            if attribute == _UNIX_DIAG_NAME:
                name = _name(message[start:end].tobytes())
            elif attribute == _UNIX_DIAG_PEER:
                (peer,) = _numbers(_PEER, message[start:end])
            elif attribute == _UNIX_DIAG_RQLEN:
                receive_queue, send_queue = _numbers(_RQLEN, message[start:end])
        self.sockets.append(UnixSocket(inode, state, name, peer, receive_queue, send_queue))


def _name(raw: bytes) -> str:
    """Decode `sun_path`: a path ends at its first NUL, an abstract name begins with one."""
    return os.fsdecode(raw if raw.startswith(b"\0") else raw.partition(b"\0")[0])


def _numbers(layout: struct.Struct, value: memoryview) -> tuple[int, ...]:
    if len(value) < layout.size:
        raise DiagError(f"unix_diag attribute of {len(value)} bytes, expected {layout.size}")
    return layout.unpack_from(value)


def listeners(sockets: Iterable[UnixSocket], name: str) -> list[UnixSocket]:
    """Return the sockets that listen at `name`."""
    return [item for item in sockets if item.state == LISTEN and item.name == name]


def connections(sockets: Iterable[UnixSocket], name: str) -> Iterator[Pair]:
    """Yield the connections to the socket that listens at `name`, as long as both ends are open.

    A connection that waits to be accepted, whose one end has no inode yet, is none.
    """
    by_inode = {item.inode: item for item in sockets if item.inode}
    for item in by_inode.values():
        if item.state == ESTABLISHED and item.name == name and item.peer in by_inode:
            yield Pair(item, by_inode[item.peer])
