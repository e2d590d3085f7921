"""One connection to the master's request port over which pings are sent and answered, with Salt's tcp transport.

A message is one msgpack map, `{"head": {"mid": <number>}, "body": <what ZeroMQ would carry>}`, and the answer has the
same head; nothing separates one from the next (salt/transport/frame.py, `frame_msg`, and salt/transport/tcp.py,
`SaltMessageServer`; 3006, 3007, 3008). In 3006 and 3007 a connection belongs to the worker that accepted it, in 3008 to
the router.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from itertools import count
from typing import TYPE_CHECKING, Final

import msgpack

from salt_exporter.errors import SourceError
from salt_exporter.probes import SOURCE
from salt_exporter.probes.message import asked_of, message

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK: Final = 65536  # bytes
_LARGEST: Final = 1 << 20  # bytes of an answer


class TcpPingConnection:
    """A connection as `PingConnection` is one. Raises OSError."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._connecting = True
        self._lost = False
        self._understood = False  # a ping on this connection
        self._numbers = count(1)
        self._answers = msgpack.Unpacker(strict_map_key=False, max_buffer_size=_LARGEST)
        is_ipv6 = ":" in address[0]
        source = address[0] if is_ipv6 else SOURCE
        version = socket.AF_INET6 if is_ipv6 else socket.AF_INET
        self._socket = socket.socket(version, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.bind((source, 0))
        except OSError:
            self._socket.close()
            raise
        self.name: tuple[bytes, int] = (socket.inet_pton(version, source), self._socket.getsockname()[1])

    def connect(self) -> None:
        """Begin to connect; done when it is not lost any longer. If it raises, it has closed."""
        failed = self._socket.connect_ex(self._address)
        if failed not in (0, errno.EINPROGRESS):
            self.close()
            raise OSError(failed, os.strerror(failed))

    def is_lost(self) -> bool:
        """Tell whether it does not stand: not yet, or no longer."""
        return self._connecting or self._lost

    def wait_connected(self, milliseconds: int) -> None:
        """Wait until it stands, at most so long."""
        if self._lost:
            time.sleep(milliseconds / 1000)
        elif self._poll(select.POLLOUT, milliseconds):
            self._connecting = False
            self._lost = bool(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def wait_answer(self, milliseconds: int) -> None:
        """Wait until something has come, at most so long."""
        self._poll(select.POLLIN, milliseconds)

    def send(self, asked: float) -> None:
        """Send a ping that carries `asked`, which the answer brings back, unless the connection is lost."""
        frame = msgpack.packb({"head": {"mid": next(self._numbers)}, "body": message(asked)})
        try:
            self._lost = self._socket.send(frame) < len(frame)
        except OSError:
            self._lost = True

    def answers(self) -> Iterator[tuple[float, float]]:
        """Yield what the pings carried whose answers have come, and when these came (monotonic seconds).

        Raises SourceError where the other side has never understood a ping.
        """
        self._receive()
        for answer in self._answers:
            self._understood = True
            if isinstance(answer, dict) and (asked := asked_of(answer.get("body"))) is not None:
                yield asked, time.monotonic()
        if self._lost and not self._understood:
            raise SourceError(
                "the master closes the connection at a ping over plain TCP: has it `ssl`? TLS is not tried"
            )

    def _receive(self) -> None:
        try:
            while data := self._socket.recv(_CHUNK):
                self._answers.feed(data)
            self._lost = True
        except BlockingIOError:
            pass
        except (OSError, msgpack.BufferFull):
            self._lost = True

    def close(self) -> None:
        """Leave nothing behind."""
        self._socket.close()

    def _poll(self, event: int, milliseconds: int) -> bool:
        poll = select.poll()
        poll.register(self._socket, event)
        return bool(poll.poll(milliseconds))
