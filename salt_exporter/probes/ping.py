"""One connection to the master's request router over which pings are sent and answered, with ZeroMQ."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING, Any

import msgpack
import zmq

from salt_exporter.probes import SOURCE
from salt_exporter.probes.message import asked_of, message
from salt_exporter.probes.room import LATER, require_room

if TYPE_CHECKING:
    from collections.abc import Iterator


class PingConnection:
    """A DEALER that connects once and does not reconnect; libzmq answers the heartbeats of 3008's router.

    `address` is host and port of the router, `name` our own address (in network byte order) and port, known before
    anything is sent. Raises OSError.
    """

    def __init__(self, context: zmq.Context[Any], address: tuple[str, int]) -> None:
        require_room()
        self._address = address
        is_ipv6 = ":" in address[0]
        version = socket.AF_INET6 if is_ipv6 else socket.AF_INET
        self._source = address[0] if is_ipv6 else SOURCE
        # Holds the port until libzmq connects from it.
        self._reservation = socket.socket(version, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as libzmq does
            self._reservation.bind((self._source, 0))
        except OSError:
            self._reservation.close()
            raise
        self.name: tuple[bytes, int] = (
            socket.inet_pton(version, self._source),
            self._reservation.getsockname()[1],
        )
        self._dealer = context.socket(zmq.DEALER)
        # The router hands the replies for an identity to whoever claimed it last.
        self._dealer.setsockopt(zmq.IDENTITY, b"salt-exporter/" + os.urandom(12).hex().encode())
        self._dealer.setsockopt(zmq.IPV6, is_ipv6)
        self._dealer.setsockopt(zmq.LINGER, 0)
        self._dealer.setsockopt(zmq.IMMEDIATE, 1)  # writable only while connected
        self._dealer.setsockopt(zmq.RECONNECT_IVL, LATER)

    def connect(self) -> None:
        """Begin to connect; done when it is not lost any longer. If it raises, it has closed."""
        source = _endpoint(self._source, self.name[1])
        try:
            self._dealer.connect(f"tcp://{source};{_endpoint(*self._address)}")
        except zmq.ZMQError as error:  # an address that is none
            self.close()
            raise OSError(error.errno, error.strerror) from error

    def is_lost(self) -> bool:
        """Tell whether it does not stand: not yet, or no longer."""
        return not self._dealer.getsockopt(zmq.EVENTS) & zmq.POLLOUT

    def wait_connected(self, milliseconds: int) -> None:
        """Wait until it stands, at most so long."""
        self._dealer.poll(milliseconds, zmq.POLLOUT)

    def wait_answer(self, milliseconds: int) -> None:
        """Wait until something has come, at most so long."""
        self._dealer.poll(milliseconds, zmq.POLLIN)

    def send(self, asked: float) -> None:
        """Send a ping that carries `asked`, which the answer brings back, unless the connection is lost."""
        with contextlib.suppress(zmq.Again):
            self._dealer.send_multipart([b"", msgpack.packb(message(asked))], zmq.NOBLOCK)

    def answers(self) -> Iterator[tuple[float, float]]:
        """Yield what the pings carried whose answers have come, and when these came (monotonic seconds)."""
        while True:
            try:
                frames = self._dealer.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            asked = asked_of(_unpacked(frames[-1]))
            if asked is not None:
                yield asked, time.monotonic()

    def close(self) -> None:
        """Leave nothing behind."""
        self._dealer.close(linger=0)
        self._reservation.close()


def _endpoint(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _unpacked(answer: bytes) -> object:
    try:
        return msgpack.unpackb(answer)
    except (ValueError, msgpack.UnpackException):
        return answer
