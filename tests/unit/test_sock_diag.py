"""Asking the kernel: the real one about sockets of our own, and one that gives the answers a test wants."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
import struct
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from salt_exporter.errors import SourceError
from salt_exporter.kernel.inet_diag import ALL_STATES, ESTABLISHED, LISTEN, STATES, TIME_WAIT, Connection
from salt_exporter.kernel.sock_diag import tcp_sockets
from tests.unit.tools import recorded_chunks, unprivileged, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

PORTS = range(15050, 15080)
CLOSING_PORTS = range(15080, 15100)  # where TIME_WAIT stays behind
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close without TIME_WAIT


class Server:
    """A listening socket on a free port of ours, and connections to it."""

    def __init__(self, host: str = "127.0.0.1", backlog: int = 5, ports: Iterable[int] = PORTS) -> None:
        self._stack = ExitStack()
        self.socket = self._stack.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
        if host == "::":
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        for self.port in ports:
            with suppress(OSError):
                self.socket.bind((host, self.port))
                break
        else:
            raise AssertionError("no free port")
        self.socket.listen(backlog)

    def connect(self, source: str = "127.0.0.1") -> tuple[socket.socket, socket.socket]:
        """Return both ends of a new connection: the client's, the server's."""
        client = self._stack.enter_context(socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET))
        client.bind((source, 0))
        client.connect(("::1" if ":" in source else "127.0.0.1", self.port))
        served = self._stack.enter_context(self.socket.accept()[0])
        for end in (client, served):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        return client, served

    def close(self) -> None:
        """Close everything."""
        self._stack.close()


@pytest.fixture
def server() -> Iterator[Server]:
    """Yield a listening server."""
    with closing(Server()) as server:
        yield server


def rows(server: Server, states: int = ALL_STATES) -> list[Connection]:
    """Return the connections of a server as the kernel shows them."""
    return [Connection._make(row) for row in tcp_sockets([server.port], states=states).connections]


def test_listening_socket_shows_its_accept_queue() -> None:
    """The backlog and what waits in it are those of the socket."""
    with closing(Server(backlog=9)) as server, socket.create_connection(("127.0.0.1", server.port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        wait_until(lambda: tcp_sockets([server.port]).listeners[0].accept_queue)
        table = tcp_sockets([server.port])

        assert [(server.port, 1, 9, os.fstat(server.socket.fileno()).st_ino)] == table.listeners
        assert not table.interrupted


@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.77", "::1"])
def test_connection_is_what_the_socket_itself_says(source: str) -> None:
    """Every field equals what the kernel tells the owner of the socket, by another way."""
    with closing(Server("::1" if source == "::1" else "127.0.0.1")) as server:
        client, served = server.connect(source)
        client.send(bytes(1000))
        served.recv(400)
        served.send(bytes(7000))
        client.recv(7000, socket.MSG_WAITALL)
        wait_until(lambda: rows(server)[0].bytes_acked == 7000)
        (row,) = rows(server)
        # include/uapi/linux/tcp.h, tcp_info
        own = served.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 216)

        assert (ESTABLISHED, 0, 0) == (row.state, row.timer, row.retransmits)
        assert client.getsockname()[:2] == (str(ipaddress.ip_address(row.peer)), socket.ntohs(row.peer_port))
        assert server.port == socket.ntohs(row.local_port)
        assert os.fstat(served.fileno()).st_ino == row.inode
        assert struct.unpack("Q", served.getsockopt(socket.SOL_SOCKET, 57, 8)) == (row.cookie,)  # SO_COOKIE
        assert (600, 0) == (row.receive_queue, row.send_queue)
        assert struct.unpack_from("=QQ", own, 120) == (row.bytes_acked, row.bytes_received)
        assert (7000, 1000) == (row.bytes_acked, row.bytes_received)
        assert struct.unpack_from("=Q", own, 208) == (row.bytes_retransmitted,)
        assert struct.unpack_from("=I", own, 52)[0] - row.last_received_ms in range(500)


def test_full_connection_shows_its_queue(server: Server) -> None:
    """What the server has written and the client not taken stands in the send queue."""
    _client, served = server.connect()
    served.setblocking(False)  # noqa: FBT003
    written = 0
    with suppress(BlockingIOError):
        while True:
            written += served.send(bytes(1 << 16))
    wait_until(lambda: rows(server)[0].bytes_acked)
    (row,) = rows(server)

    assert written == row.send_queue + row.bytes_acked
    assert row.send_queue


def test_ipv4_clients_of_a_socket_for_both_families() -> None:
    """IPv4 clients of a listener on `::` are found, with the address they have."""
    with closing(Server("::")) as server:
        server.connect("127.0.0.5")
        server.connect("::1")

        assert {"127.0.0.5", "::1"} == {str(ipaddress.ip_address(row.peer)) for row in rows(server)}


def test_closed_connection_is_remembered_in_time_wait() -> None:
    """The side that closes first leaves a TIME_WAIT behind, without inode and counters."""
    with closing(Server(ports=CLOSING_PORTS)) as server:
        client, served = server.connect()
        for end in (served, client):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
            end.close()
        wait_until(lambda: [TIME_WAIT] == [row.state for row in rows(server)])
        (row,) = rows(server)

    assert (3, 0, 0) == (row.timer, row.inode, row.bytes_acked)


def test_only_the_ports_asked_for(server: Server) -> None:
    """The kernel leaves out sockets on other local ports, also those whose peer has the port."""
    with closing(Server()) as other, closing(Server()) as third:
        for one in (server, other, third):
            one.connect()
        table = tcp_sockets([server.port, third.port])

        assert {server.port, third.port} == {listener.port for listener in table.listeners}
        assert {server.port, third.port} == {
            socket.ntohs(Connection._make(row).local_port) for row in table.connections
        }
        assert 2 == len(table.connections)


def test_states_are_chosen_by_the_kernel(server: Server) -> None:
    """Asked for one state it gives that one."""
    server.connect()

    assert [ESTABLISHED] == [row.state for row in rows(server, states=1 << ESTABLISHED)]
    assert [] == tcp_sockets([server.port], states=1 << ESTABLISHED).listeners
    assert 1 == len(tcp_sockets([server.port], states=1 << LISTEN).listeners)
    assert {ESTABLISHED, LISTEN} <= STATES.keys()


def test_without_tcp_info_its_fields_are_zero(server: Server) -> None:
    """What is not asked for is not there, the rest is."""
    client, served = server.connect()
    client.send(bytes(100))
    wait_until(lambda: rows(server)[0].receive_queue == 100)
    (row,) = (Connection._make(row) for row in tcp_sockets([server.port], info=False).connections)

    assert (0,) * 4 == row[10:]
    assert (100, os.fstat(served.fileno()).st_ino) == (row.receive_queue, row.inode)


def test_needs_no_rights(server: Server) -> None:
    """A user without any right or capability sees the sockets of everybody, with their tcp_info."""
    client, served = server.connect()
    served.send(bytes(10))
    client.recv(10)
    wait_until(lambda: rows(server)[0].bytes_acked == 10)
    with unprivileged():
        capabilities = re.search(r"^CapEff:\s*(\w+)", Path("/proc/thread-self/status").read_text(), re.MULTILINE)
        table = tcp_sockets([server.port])

    assert capabilities is not None
    assert 0 == int(capabilities[1], 16)
    assert 1 == len(table.listeners)
    assert [10] == [Connection._make(row).bytes_acked for row in table.connections]


class Kernel:
    """A netlink socket whose answers are given: for each request the chunks, an exception to raise among them."""

    def __init__(self, *answers: Sequence[bytes | Exception], truncated: bool = False) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self.closed = False
        self._chunks: list[bytes | Exception] = []
        self._flags = socket.MSG_TRUNC if truncated else 0

    def __enter__(self) -> Kernel:  # noqa: PYI034 - typing.Self is newer than Python 3.10
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True

    def settimeout(self, seconds: float) -> None:
        """Take note that nobody waits for ever."""
        assert 0 < seconds < 60

    def send(self, request: bytes) -> None:
        """Begin the next answer."""
        assert not self._chunks, "the answer before has not been read to its end"
        self.requests.append(request)
        self._chunks = list(self.answers.pop(0))

    def recvmsg_into(self, buffers: list[bytearray]) -> tuple[int, list[object], int, None]:
        """Give the next chunk."""
        chunk = self._chunks.pop(0)
        if isinstance(chunk, Exception):
            raise chunk
        buffers[0][: len(chunk)] = chunk
        return len(chunk), [], self._flags, None


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Kernel]]:
    """Let the last of the list that is yielded be the kernel."""
    kernels: list[Kernel] = []
    monkeypatch.setattr(socket, "socket", lambda *_: kernels[-1])
    yield kernels
    assert all(kernel.closed for kernel in kernels)


def interrupted(name: str) -> list[bytes]:
    """Return a recorded answer that the kernel has marked as interrupted."""
    first, *rest = recorded_chunks(name)
    return [first[:6] + struct.pack("=H", 2 | 0x10) + first[8:], *rest]


V4, V6 = recorded_chunks("inet-diag-ipv4"), recorded_chunks("inet-diag-ipv6")


def test_both_families_are_put_together(ask: list[Kernel]) -> None:
    """One table holds the sockets of IPv4 and of IPv6."""
    ask.append(Kernel(V4, V6))
    table = tcp_sockets([15040])

    assert [4, 4, 4, 4, 16, 16] == [len(Connection._make(row).peer) for row in table.connections]
    assert [15040, 15041] == [listener.port for listener in table.listeners]
    assert [2, 10] == [request[16] for request in ask[0].requests]


def test_interrupted_dump_is_repeated(ask: list[Kernel]) -> None:
    """A dump whose table changed under it is thrown away and asked for again; the good one counts, once."""
    ask.append(
        Kernel(interrupted("inet-diag-ipv4"), V4, interrupted("inet-diag-ipv6"), interrupted("inet-diag-ipv6"), V6)
    )
    table = tcp_sockets([15040])

    assert not table.interrupted
    assert (6, 2) == (len(table.connections), len(table.listeners))
    assert 5 == len(ask[0].requests)


@pytest.mark.parametrize("family", [0, 1])
def test_dump_that_is_always_interrupted_is_marked(ask: list[Kernel], family: int) -> None:
    """On a machine where the table never rests the newest answer is given, and said to be incomplete."""
    answers = [[V4], [V6]]
    answers[family] = [interrupted("inet-diag-ipv4" if family == 0 else "inet-diag-ipv6")] * 3
    ask.append(Kernel(*answers[0], *answers[1]))
    table = tcp_sockets([15040])

    assert table.interrupted
    assert (6, 2) == (len(table.connections), len(table.listeners))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([struct.pack("=IHHIIi", 20, 2, 2, 1, 0, -errno.ENOENT)], r"ENOENT: No such file or directory"),
        ([TimeoutError("timed out")], r"timed out"),
        ([PermissionError(errno.EPERM, "Operation not permitted")], r"Operation not permitted"),
        ([V4[0][:-3]], r"netlink message of \d+ bytes with"),
        ([b"odd"], r"3 bytes left over"),
    ],
)
def test_trouble_is_told_with_the_way_out(ask: list[Kernel], answer: Sequence[bytes | Exception], message: str) -> None:
    """Whatever the kernel answers instead of sockets, it is one sentence that names module and address family."""
    ask.append(Kernel(answer))

    with pytest.raises(SourceError, match=message + r".*modprobe tcp_diag.*AF_NETLINK"):
        tcp_sockets([15040])


def test_answer_that_did_not_fit_is_told(ask: list[Kernel]) -> None:
    """A chunk that the kernel had to cut is no whole answer."""
    ask.append(Kernel(V4, truncated=True))

    with pytest.raises(SourceError, match="did not fit into 65536 bytes"):
        tcp_sockets([15040])


def test_forbidden_netlink_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit or a container that forbids AF_NETLINK is a sentence that says so."""

    def forbidden(*_: object) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", forbidden)

    with pytest.raises(SourceError, match=r"cannot read the TCP sockets .*not supported.*RestrictAddressFamilies="):
        tcp_sockets([15040])
