"""The kernel's inet_diag format: requests to bytes, answers to rows. Pure, no sockets.

Sources (Linux 6.1; the layouts have only grown at their ends since 4.19):
include/uapi/linux/inet_diag.h (`inet_diag_req_v2`, `inet_diag_msg`, `inet_diag_bc_op`),
include/uapi/linux/tcp.h (`tcp_info`), include/uapi/linux/netlink.h (`nlmsghdr`, `rtattr`),
include/net/tcp_states.h (states). Numbers are in host byte order except ports and addresses.
"""

from __future__ import annotations

import socket
import struct
from errno import errorcode
from functools import cache, lru_cache
from os import strerror
from sys import byteorder
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection

# include/net/tcp_states.h; names as `ss` prints them, with underscores.
STATES: Final = {
    1: "established",
    2: "syn_sent",
    3: "syn_recv",
    4: "fin_wait_1",
    5: "fin_wait_2",
    6: "time_wait",
    7: "close",
    8: "close_wait",
    9: "last_ack",
    10: "listen",
    11: "closing",
    12: "syn_recv",  # TCP_NEW_SYN_RECV: a request socket, the same thing to everybody outside the kernel
}
ESTABLISHED: Final = 1
TIME_WAIT: Final = 6
LISTEN: Final = 10
ALL_STATES: Final = 0xFFFFFFFF

SOCK_DIAG_BY_FAMILY: Final = 20
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLM_F_MULTI: Final = 0x2
NLM_F_DUMP_INTR: Final = 0x10
_NLM_F_REQUEST: Final = 0x1
_NLM_F_DUMP: Final = 0x300
_INET_DIAG_INFO: Final = 2
_INET_DIAG_REQ_BYTECODE: Final = 1
_BC_JMP, _BC_S_GE, _BC_S_LE = 1, 2, 3  # understood by every kernel that has inet_diag

_NLMSGHDR = struct.Struct("=IHHII")
_RTATTR = struct.Struct("=HH")
_BC_OP = struct.Struct("=BBH")
_MSG_SIZE: Final = 72  # sizeof(struct inet_diag_msg)
_ATTRS: Final = _NLMSGHDR.size + _MSG_SIZE
# State, timer, retransmissions, ports, peer, cookie, queues, inode: what precedes the attributes. The peer of an
# IPv4 socket is the first 4 of its 16 bytes.
_HEAD: Final[dict[int, str]] = {
    socket.AF_INET: "=16xxBBBHH16x4s12x4xQ4xII4xI",
    socket.AF_INET6: "=16xxBBBHH16x16s4xQ4xII4xI",
}
# The bytes of `tcp_info` up to and including tcpi_bytes_retrans (Linux 4.19).
_INFO = "52xI64xQQ8xI28xQ24xQ"
_INFO_SIZE: Final = struct.calcsize("=" + _INFO)
_MAPPED: Final = bytes(10) + b"\xff\xff"


class Connection(NamedTuple):
    """One TCP socket that is not listening. Sizes in bytes, times in the unit of their name.

    The decoder yields plain tuples of this shape (naming 40,000 of them costs more than the dump); read them by the
    indices below, or give one to `Connection._make`. Ports are in network byte order, as the kernel holds them.
    The fields from `last_received_ms` on come from `tcp_info` and are 0 where the kernel gives none.
    """

    state: int
    timer: int  # which timer runs: 0 none, 1 retransmission, 2 keepalive, 3 TIME_WAIT, 4 zero window probe
    retransmits: int  # how often that timer has gone off without an answer
    local_port: int
    peer_port: int
    peer: bytes  # 4 bytes or, for IPv6, 16; a v4-mapped peer still has 16, see `address`
    cookie: int  # the kernel's identity of the socket: never reused, as ports are
    receive_queue: int  # bytes received and not yet read by the process
    send_queue: int  # bytes written by the process and not yet acknowledged
    inode: int
    last_received_ms: int
    bytes_acked: int
    bytes_received: int
    notsent_bytes: int
    rwnd_limited_us: int
    bytes_retransmitted: int


# Indices into such a tuple.
STATE, TIMER, RETRANSMITS, LOCAL_PORT, PEER_PORT, PEER, COOKIE, RECEIVE_QUEUE, SEND_QUEUE, INODE = range(10)
LAST_RECEIVED_MS, BYTES_ACKED, BYTES_RECEIVED, NOTSENT_BYTES, RWND_LIMITED_US, BYTES_RETRANSMITTED = range(10, 16)

# A row of a dump, shaped like Connection.
Row = tuple[Any, ...]


class Listener(NamedTuple):
    """One listening TCP socket."""

    port: int
    accept_queue: int  # connections that wait to be accepted
    accept_limit: int  # the backlog the kernel holds: min(listen(), net.core.somaxconn)
    inode: int


class DiagError(ValueError):
    """The kernel's answer cannot be read, or is an error (then `errno` is set)."""

    def __init__(self, message: str, errno: int = 0) -> None:
        super().__init__(message)
        self.errno = errno


def address(peer: bytes) -> bytes:
    """Return a peer's address in network order, 4 or 16 bytes, a v4-mapped one as the 4 of IPv4."""
    return peer[12:] if len(peer) == 16 and peer.startswith(_MAPPED) else peer


def dump_request(family: int, ports: Collection[int], states: int = ALL_STATES, *, info: bool = True) -> bytes:
    """Ask for all TCP sockets of `family` in `states` whose local port is one of `ports`.

    The kernel filters, so other sockets of the machine cost little. `ports` must not be empty.
    """
    extensions = 1 << (_INET_DIAG_INFO - 1) if info else 0
    filter_program = _port_filter(sorted(ports))
    request = struct.pack("=BBBxI48x", family, socket.IPPROTO_TCP, extensions, states)
    attribute = _RTATTR.pack(_RTATTR.size + len(filter_program), _INET_DIAG_REQ_BYTECODE) + filter_program
    size = _NLMSGHDR.size + len(request) + len(attribute)
    header = _NLMSGHDR.pack(size, SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST | _NLM_F_DUMP, 1, 0)
    return header + request + attribute


def _port_filter(ports: list[int]) -> bytes:
    """Compile "local port is one of `ports`" for the kernel's filter machine (net/ipv4/inet_diag.c).

    Each port takes two comparisons of two operations (operator, then the port in the `no` field of a second one)
    and, except the last, a jump to the end, which accepts. A comparison that fails skips to the next port; the last
    one skips to 4 bytes behind the program, which refuses.
    """
    block = 5 * _BC_OP.size
    total = block * len(ports) - _BC_OP.size
    program = b""
    for port in ports:
        last = total - len(program) < block
        operand = _BC_OP.pack(0, 0, port)
        program += _BC_OP.pack(_BC_S_GE, 8, block) + operand + _BC_OP.pack(_BC_S_LE, 8, block - 8) + operand
        if not last:
            program += _BC_OP.pack(_BC_JMP, 4, total - len(program))
    return program


class Dump:
    """The answer to one `dump_request`, fed chunk by chunk until `done`."""

    def __init__(self, family: int) -> None:
        self.connections: list[Row] = []
        self.listeners: list[Listener] = []
        self.done = False
        self.interrupted = False  # the kernel says its table changed in a way that may have hidden sockets
        self._family = family

    def feed(self, chunk: bytes | memoryview) -> None:
        """Take what one `recv` returned: whole netlink messages. Raises DiagError."""
        view = memoryview(chunk)
        if not self._feed_uniform(view):
            self._feed_each(view)

    def _feed_uniform(self, view: memoryview) -> bool:
        """Take a chunk whose messages are all laid out like its first one, without a Python step per message.

        Nearly every chunk is: the kernel sends the same attributes for each socket in the same state.
        Return False, having taken nothing, if this one is not.
        """
        if len(view) < _ATTRS:
            return False
        length, kind, flags, _sequence, _port = _NLMSGHDR.unpack_from(view)
        if kind != SOCK_DIAG_BY_FAMILY or flags != NLM_F_MULTI or length < _ATTRS or length % 4:
            return False
        info = _info_offset(view[:length])
        if not info or len(view) % length:
            return False
        words = view.cast("I")
        count = len(view) // length
        for offset in (0, 4, info - _RTATTR.size):  # length; type and flags; the attribute's header
            if words[offset // 4 :: length // 4].tolist().count(words[offset // 4]) != count:
                return False
        states = view[_NLMSGHDR.size + 1 :: length].tobytes()
        if LISTEN in states:
            return False
        self.connections.extend(_row(self._family, length, info).iter_unpack(view))
        return True

    def _feed_each(self, view: memoryview) -> None:
        offset = 0
        while offset < len(view) and not self.done:
            if len(view) - offset < _NLMSGHDR.size:
                raise DiagError(f"{len(view) - offset} bytes left over where a netlink message should begin")
            length, kind, flags, _sequence, _port = _NLMSGHDR.unpack_from(view, offset)
            if not _NLMSGHDR.size <= length <= len(view) - offset:
                raise DiagError(f"netlink message of {length} bytes with {len(view) - offset} bytes left")
            self._feed_one(kind, view[offset : offset + length])
            self.interrupted |= bool(flags & NLM_F_DUMP_INTR)
            offset += (length + 3) & ~3

    def _feed_one(self, kind: int, message: memoryview) -> None:
        if kind in (NLMSG_ERROR, NLMSG_DONE):
            self._end(kind, message)
        elif kind == SOCK_DIAG_BY_FAMILY:
            if len(message) < _ATTRS:
                raise DiagError(f"inet_diag message of {len(message)} bytes, expected at least {_ATTRS}")
            self._add(message)
        # NLMSG_NOOP and kinds that future kernels add carry no socket.

    def _end(self, kind: int, message: memoryview) -> None:
        body = message[_NLMSGHDR.size :]
        code = int.from_bytes(body[:4], byteorder, signed=True) if len(body) >= 4 else 0
        if code < 0:
            raise DiagError(f"the kernel answers {errorcode.get(-code, -code)}: {strerror(-code)}", -code)
        self.done = kind == NLMSG_DONE

    def _add(self, message: memoryview) -> None:
        info = _info_offset(message)
        if info:
            fields = _row(self._family, len(message), info).unpack(message)
        else:  # a socket without tcp_info (TIME_WAIT, SYN_RECV): what it lacks is 0
            fields = (*_head(self._family).unpack_from(message), 0, 0, 0, 0, 0, 0)
        if fields[0] == LISTEN:
            connection = Connection._make(fields)
            self.listeners.append(
                Listener(
                    port=socket.ntohs(connection.local_port),
                    accept_queue=connection.receive_queue,
                    accept_limit=connection.send_queue,
                    inode=connection.inode,
                )
            )
        else:
            self.connections.append(fields)


def _info_offset(message: memoryview) -> int:
    """Return where the whole of `tcp_info` starts in a message, 0 if it has none (or a shorter one: before 4.19)."""
    offset = _ATTRS
    while offset + _RTATTR.size <= len(message):
        length, kind = _RTATTR.unpack_from(message, offset)
        if length < _RTATTR.size or offset + length > len(message):
            raise DiagError(f"netlink attribute of {length} bytes at {offset} in a message of {len(message)}")
        if kind == _INET_DIAG_INFO:
            return offset + _RTATTR.size if length - _RTATTR.size >= _INFO_SIZE else 0
        offset += (length + 3) & ~3
    return 0


@cache
def _head(family: int) -> struct.Struct:
    return struct.Struct(_HEAD[family])


@lru_cache(maxsize=32)
def _row(family: int, length: int, info: int) -> struct.Struct:
    """Return the reader of one message of `length` bytes whose `tcp_info` starts at `info`."""
    gap = info - struct.calcsize(_HEAD[family])
    rest = length - info - _INFO_SIZE
    return struct.Struct(f"{_HEAD[family]}{gap}x{_INFO}{rest}x")
