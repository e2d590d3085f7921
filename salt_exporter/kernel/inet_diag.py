"""The kernel's inet_diag format: requests to bytes, answers to rows. Pure, no sockets.

Sources (Linux 6.1; the layouts have only grown at their ends since 4.19):
include/uapi/linux/inet_diag.h (`inet_diag_req_v2`, `inet_diag_msg`, `inet_diag_bc_op`),
include/uapi/linux/tcp.h (`tcp_info`), include/net/tcp_states.h (states). Numbers are in host byte order except ports
and addresses.
"""

from __future__ import annotations

import socket
import struct
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from salt_exporter.kernel.netlink import ATTRIBUTE, NLMSGHDR, Answer, attributes, sock_diag_dump

# Whoever reads dumps needs these too.
from salt_exporter.kernel.netlink import NLM_F_DUMP_INTR as NLM_F_DUMP_INTR  # noqa: PLC0414 - exported again
from salt_exporter.kernel.netlink import NLM_F_MULTI as NLM_F_MULTI  # noqa: PLC0414 - exported again
from salt_exporter.kernel.netlink import NLMSG_DONE as NLMSG_DONE  # noqa: PLC0414 - exported again
from salt_exporter.kernel.netlink import NLMSG_ERROR as NLMSG_ERROR  # noqa: PLC0414 - exported again
from salt_exporter.kernel.netlink import SOCK_DIAG_BY_FAMILY as SOCK_DIAG_BY_FAMILY  # noqa: PLC0414 - exported again
from salt_exporter.kernel.netlink import DiagError as DiagError  # noqa: PLC0414 - exported again

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
# These and no more: since Linux 6.8 the next bit asks for sockets that are only bound, in one more table to walk.
ALL_STATES: Final = sum(1 << state for state in STATES)

_INET_DIAG_INFO: Final = 2
_INET_DIAG_REQ_BYTECODE: Final = 1
_BC_JMP, _BC_S_GE, _BC_S_LE = 1, 2, 3  # understood by every kernel that has inet_diag

_BC_OP = struct.Struct("=BBH")
_MSG_SIZE: Final = 72  # sizeof(struct inet_diag_msg)
_ATTRS: Final = NLMSGHDR.size + _MSG_SIZE
# State, timer, retransmissions, ports, peer, cookie, queues, inode: what precedes the attributes. The peer of an
# IPv4 socket is the first 4 of its 16 bytes.
_HEAD: Final[dict[int, str]] = {
    socket.AF_INET: "=16xxBBBHH16x4s12x4xQ4xII4xI",
    socket.AF_INET6: "=16xxBBBHH16x16s4xQ4xII4xI",
}
# The bytes of `tcp_info` up to and including tcpi_bytes_retrans (Linux 4.19).
_INFO = "52xI64xQQ72xQ"
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
    peer: bytes  # in network order: 4 bytes, of a v4-mapped peer too, or 16 for IPv6
    cookie: int  # the kernel's identity of the socket: never reused, as ports are
    receive_queue: int  # bytes received and not yet read by the process
    send_queue: int  # bytes written by the process and not yet acknowledged
    inode: int
    last_received_ms: int
    bytes_acked: int
    bytes_received: int
    bytes_retransmitted: int


# Indices into such a tuple.
STATE, TIMER, RETRANSMITS, LOCAL_PORT, PEER_PORT, PEER, COOKIE, RECEIVE_QUEUE, SEND_QUEUE, INODE = range(10)
LAST_RECEIVED_MS, BYTES_ACKED, BYTES_RECEIVED, BYTES_RETRANSMITTED = range(10, 14)

# A row of a dump, shaped like Connection.
Row = tuple[Any, ...]


class Listener(NamedTuple):
    """One listening TCP socket."""

    port: int
    accept_queue: int  # connections that wait to be accepted
    accept_limit: int  # the backlog the kernel holds: min(listen(), net.core.somaxconn)
    inode: int


def dump_request(family: int, ports: Collection[int], states: int = ALL_STATES, *, info: bool = True) -> bytes:
    """Ask for all TCP sockets of `family` in `states` whose local port is one of `ports`.

    The kernel filters, so other sockets of the machine cost little. `ports` must not be empty.
    """
    extensions = 1 << (_INET_DIAG_INFO - 1) if info else 0
    filter_program = _port_filter(sorted(ports))
    request = struct.pack("=BBBxI48x", family, socket.IPPROTO_TCP, extensions, states)
    attribute = ATTRIBUTE.pack(ATTRIBUTE.size + len(filter_program), _INET_DIAG_REQ_BYTECODE) + filter_program
    return sock_diag_dump(request + attribute)


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


class Dump(Answer):
    """The answer to one `dump_request`, fed chunk by chunk until `done`."""

    def __init__(self, family: int) -> None:
        super().__init__()
        self.connections: list[Row] = []
        self.listeners: list[Listener] = []
        self._family = family

    def _take(self, view: memoryview) -> int:
        """Take one message or more from the start and return their bytes."""
        return self._take_run(view) or super()._take(view)

    def _take_run(self, view: memoryview) -> int:
        """Take the messages at the start that are all laid out like the first, without a Python step for each.

        Most are: the kernel sends the same attributes for each socket in the same state. Return the bytes taken, 0 if
        the first message must be looked at by itself.
        """
        if len(view) < _ATTRS or len(view) % 4:
            return 0
        length, kind, flags, _sequence, _port = NLMSGHDR.unpack_from(view)
        if kind != SOCK_DIAG_BY_FAMILY or flags != NLM_F_MULTI or not _ATTRS <= length <= len(view) or length % 4:
            return 0
        info = _info_offset(view[:length])
        if not info:
            return 0
        words = view.cast("I")
        count = len(view) // length
        for offset in (0, 4, info - ATTRIBUTE.size):  # length; type and flags; the attribute's header
            count = _alike(words[offset // 4 :: length // 4], count)
        states = view[NLMSGHDR.size + 1 : count * length : length].tobytes()
        if LISTEN in states:
            count = states.index(LISTEN)
        run = view[: count * length]
        rows = _row(self._family, length, info).iter_unpack(run)
        self.connections.extend(rows if self._family == socket.AF_INET else map(_unmapped, rows))
        return len(run)

    def _add(self, message: memoryview) -> None:
        if len(message) < _ATTRS:
            raise DiagError(f"inet_diag message of {len(message)} bytes, expected at least {_ATTRS}")
        info = _info_offset(message)
        if info:
            fields = _row(self._family, len(message), info).unpack(message)
        else:  # a socket without tcp_info (TIME_WAIT, SYN_RECV): what it lacks is 0
            fields = (*_head(self._family).unpack_from(message), 0, 0, 0, 0)
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
            self.connections.append(_unmapped(fields))


def _unmapped(row: Row) -> Row:
    """Return a row with the 4 bytes of a peer's IPv4 address where an IPv6 socket has it mapped."""
    peer = row[PEER]
    return (*row[:PEER], peer[12:], *row[PEER + 1 :]) if peer.startswith(_MAPPED) else row


def _info_offset(message: memoryview) -> int:
    """Return where the whole of `tcp_info` starts in a message, 0 if it has none (or a shorter one: before 4.19)."""
    for kind, start, end in attributes(message, _ATTRS):
        if kind == _INET_DIAG_INFO:
            return start if end - start >= _INFO_SIZE else 0
    return 0


def _alike(column: memoryview, count: int) -> int:
    """Return how many of the first `count` values of a column are the same as the first."""
    values = column[:count].tolist()
    if values.count(values[0]) == count:
        return count
    return next(position for position, value in enumerate(values) if value != values[0])


@cache
def _head(family: int) -> struct.Struct:
    return struct.Struct(_HEAD[family])


@lru_cache(maxsize=32)
def _row(family: int, length: int, info: int) -> struct.Struct:
    """Return the reader of one message of `length` bytes whose `tcp_info` starts at `info`."""
    gap = info - struct.calcsize(_HEAD[family])
    rest = length - info - _INFO_SIZE
    return struct.Struct(f"{_HEAD[family]}{gap}x{_INFO}{rest}x")
