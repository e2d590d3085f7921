"""Unix sockets as the kernel lists them: recorded answers, broken answers, and the kernel of this machine."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from salt_exporter.errors import SourceError
from salt_exporter.kernel.descriptors import SocketOwners, sockets_of
from salt_exporter.kernel.netlink import NLM_F_DUMP_INTR, NLMSG_DONE, NLMSGHDR, SOCK_DIAG_BY_FAMILY, DiagError
from salt_exporter.kernel.sock_diag import unix_sockets
from salt_exporter.kernel.unix_diag import ESTABLISHED, LISTEN, UnixDump, UnixSocket, connections, listeners

if TYPE_CHECKING:
    from collections.abc import Iterator

_RECORDED = Path(__file__).parents[1] / "data/unix-diag.bin"
_HEAD = NLMSGHDR.size + 16  # of a message: where attributes begin


def _chunks() -> list[bytes]:
    data = _RECORDED.read_bytes()
    chunks = []
    while data:
        (length,) = struct.unpack_from("<I", data)
        chunks.append(data[4 : 4 + length])
        data = data[4 + length :]
    return chunks


def _recorded() -> UnixDump:
    dump = UnixDump()
    for chunk in _chunks():
        dump.feed(chunk)
    return dump


def _message(kind: int = SOCK_DIAG_BY_FAMILY, body: bytes = b"", flags: int = 2) -> bytes:
    return NLMSGHDR.pack(NLMSGHDR.size + len(body), kind, flags, 1, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _socket_message(*attributes: bytes, inode: int = 7, kind: int = socket.SOCK_STREAM) -> bytes:
    return _message(body=struct.pack("=BBBxI8x", socket.AF_UNIX, kind, ESTABLISHED, inode) + b"".join(attributes))


def test_recorded_answer_is_complete() -> None:
    """The recorded answer ends, and holds the 12 stream sockets that were open; the two datagram sockets are left out.

    Two listeners, four accepted connections and the clients' ends of three, one client that waits, an unnamed pair.
    """
    dump = _recorded()
    assert (True, False) == (dump.done, dump.interrupted)
    assert 2 == len([item for item in dump.sockets if item.state == LISTEN])
    assert 10 == len([item for item in dump.sockets if item.state == ESTABLISHED])


def test_recorded_listener() -> None:
    """A listener shows how many connections wait to be accepted, and its backlog."""
    (listener,) = listeners(_recorded().sockets, "bus.ipc")
    assert (1, 5) == (listener.receive_queue, listener.send_queue)


def test_recorded_abstract_name() -> None:
    """The name of an abstract socket keeps the NUL in front, so that it equals no path."""
    assert 1 == len(listeners(_recorded().sockets, "\0hidden"))
    assert [] == listeners(_recorded().sockets, "hidden")


def test_recorded_connections() -> None:
    """Of five connections three have both ends: one waits to be accepted, and of one the client has closed."""
    pairs = list(connections(_recorded().sockets, "bus.ipc"))
    assert [0, 0, 3000] == sorted(pair.client.receive_queue for pair in pairs)
    assert [0, 0, 70] == sorted(pair.accepted.receive_queue for pair in pairs)
    assert all(pair.client.peer == pair.accepted.inode and pair.client.inode == pair.accepted.peer for pair in pairs)


def test_unread_bytes_are_charged_to_the_sender() -> None:
    """The send queue is the memory that the other end's unread bytes take, so the two must not be added."""
    (pair,) = [pair for pair in connections(_recorded().sockets, "bus.ipc") if pair.client.receive_queue]
    assert pair.accepted.send_queue >= pair.client.receive_queue


@pytest.mark.parametrize("length", range(1, _HEAD))
def test_cut_off_message(length: int) -> None:
    """A message that does not end where its header says is an error, wherever it was cut."""
    with pytest.raises(DiagError):
        UnixDump().feed(_socket_message()[:length])


def test_message_without_a_socket() -> None:
    """A whole message that is too short for a socket is an error."""
    with pytest.raises(DiagError, match="unix_diag message of 31 bytes"):
        UnixDump().feed(_message(body=bytes(15)))


@pytest.mark.parametrize(
    "attribute",
    [
        struct.pack("=HH", 3, 0),  # shorter than its own header
        struct.pack("=HH", 64, 0) + b"bus.ipc\0",  # longer than the message
        _attribute(2, b"\1\2"),  # a peer is 4 bytes
        _attribute(4, bytes(4)),  # queues are 8
    ],
)
def test_broken_attribute(attribute: bytes) -> None:
    """An attribute of an impossible size is an error, not a wrong number."""
    with pytest.raises(DiagError):
        UnixDump().feed(_socket_message(attribute))


def test_unknown_attributes_and_messages() -> None:
    """What later kernels may add is passed over; attributes that are missing leave what they say empty."""
    dump = UnixDump()
    dump.feed(_message(kind=99) + _socket_message(_attribute(77, b"abc"), _attribute(0, b"a/b\0rest")))
    assert [UnixSocket(7, ESTABLISHED, "a/b", 0, 0, 0)] == dump.sockets


def test_longer_values_than_known() -> None:
    """Values that grow at their end, as kernel structures do, are read by their known beginning."""
    dump = UnixDump()
    dump.feed(_socket_message(_attribute(2, struct.pack("=II", 8, 1)), _attribute(4, struct.pack("=III", 5, 6, 7))))
    assert [UnixSocket(7, ESTABLISHED, "", 8, 5, 6)] == dump.sockets


def test_error_answer() -> None:
    """An error of the kernel is raised with its number."""
    with pytest.raises(DiagError, match="ENOENT") as raised:
        UnixDump().feed(_message(kind=2, body=struct.pack("=i", -2)))
    assert 2 == raised.value.errno


def test_interrupted_answer() -> None:
    """The kernel's mark that its table changed during the dump is noticed."""
    dump = UnixDump()
    dump.feed(_message(kind=NLMSG_DONE, body=bytes(4), flags=2 | NLM_F_DUMP_INTR))
    assert (True, True) == (dump.done, dump.interrupted)


class _Netlink:
    """A netlink socket that gives prepared answers to one request after the other."""

    def __init__(self, *answers: bytes) -> None:
        self.requests = 0
        self.flags = 0
        self._answers = answers

    def settimeout(self, _seconds: float) -> None:
        pass

    def send(self, _request: bytes) -> None:
        self.requests += 1

    def recvmsg_into(self, buffers: list[bytearray]) -> tuple[int, list[object], int, object]:
        answer = self._answers[min(self.requests, len(self._answers)) - 1]
        buffers[0][: len(answer)] = answer
        return len(answer), [], self.flags, None


def _answer(*, interrupted: bool, inode: int) -> bytes:
    done = _message(kind=NLMSG_DONE, body=bytes(4), flags=2 | (NLM_F_DUMP_INTR if interrupted else 0))
    return _socket_message(inode=inode) + done


def test_interrupted_dump_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dump that the kernel calls interrupted is asked for again, and what it gave is thrown away."""
    netlink = _Netlink(_answer(interrupted=True, inode=1), _answer(interrupted=False, inode=2))
    monkeypatch.setattr(socket, "socket", lambda *_arguments: nullcontext(netlink))
    assert [2] == [item.inode for item in unix_sockets()]
    assert 2 == netlink.requests


def test_dump_that_is_always_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """After three attempts what is there is taken: on a busy machine the table may never stand still."""
    netlink = _Netlink(_answer(interrupted=True, inode=1))
    monkeypatch.setattr(socket, "socket", lambda *_arguments: nullcontext(netlink))
    assert [1] == [item.inode for item in unix_sockets()]
    assert 3 == netlink.requests


def test_answer_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer cut off by our buffer is a SourceError that says what is needed, not half a table."""
    netlink = _Netlink(_answer(interrupted=False, inode=1))
    netlink.flags = int(socket.MSG_TRUNC)
    monkeypatch.setattr(socket, "socket", lambda *_arguments: nullcontext(netlink))
    with pytest.raises(SourceError, match=r"cannot read the unix sockets .* did not fit .* unix_diag"):
        unix_sockets()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[str, socket.socket, socket.socket]]:
    """Yield the path of a listening socket, and client's and server's end of a connection to it."""
    path = str(tmp_path / "bus.ipc")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        client.connect(path)
        server = listener.accept()[0]
        with server:
            yield path, client, server


def _inode(end: socket.socket) -> int:
    return os.fstat(end.fileno()).st_ino


def test_this_kernel(pair: tuple[str, socket.socket, socket.socket]) -> None:
    """The kernel of this machine tells inodes, and how many bytes each end has not read."""
    path, client, server = pair
    server.send(bytes(1234))
    (found,) = connections(unix_sockets(), path)
    assert (_inode(server), _inode(client)) == (found.accepted.inode, found.client.inode)
    assert (0, 1234) == (found.accepted.receive_queue, found.client.receive_queue)
    client.recv(1000)
    (found,) = connections(unix_sockets(), path)
    assert 234 == found.client.receive_queue


def test_owner_of_a_socket(pair: tuple[str, socket.socket, socket.socket]) -> None:
    """The process that holds a socket is found, also at a second look; after its end nobody is."""
    _path, client, _server = pair
    inode = _inode(client)
    owners = SocketOwners()
    assert {inode: os.getpid()} == owners.find({inode})
    assert {inode: os.getpid()} == owners.find({inode})
    assert inode in sockets_of(os.getpid())
    client.close()
    assert {} == owners.find({inode})


def test_owner_moves(pair: tuple[str, socket.socket, socket.socket]) -> None:
    """A descriptor that was given another number is found again."""
    _path, client, _server = pair
    inode = _inode(client)
    owners = SocketOwners()
    owners.find({inode})
    moved = os.dup(client.fileno())
    client.close()
    try:
        assert {inode: os.getpid()} == owners.find({inode})
    finally:
        os.close(moved)
