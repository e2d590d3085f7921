"""An HTTP server that bounds what one client and all clients together can cost it. Knows no routes.

Measured against half-open connections, header drips and clients that never read (docs/design.md): Tornado bounds the
time of a whole request header and the sizes; the number of connections, in all and by peer, and the time of a TLS
handshake are bounded here.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import socket
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from tornado.httpserver import HTTPServer
from tornado.iostream import SSLIOStream
from tornado.netutil import bind_sockets

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from tornado.iostream import IOStream
    from tornado.web import Application


HEADER_TIMEOUT: Final = 3.0  # seconds for a TLS handshake, for a whole request header, and for an idle connection
_LIMITS: Final[dict[str, Any]] = {
    "idle_connection_timeout": HEADER_TIMEOUT,
    "body_timeout": HEADER_TIMEOUT,
    "max_header_size": 8192,
    "max_body_size": 1024,
    "max_buffer_size": 65536,
}
_BACKLOG: Final = 128
_NO_DESCRIPTOR: Final = frozenset((errno.EMFILE, errno.ENFILE))
_BREATH: Final = 0.1  # seconds

_log = logging.getLogger(__name__)


class ListenError(Exception):
    """An address cannot be listened on; the message names it."""


def _is_ours(record: logging.LogRecord) -> bool:
    """Tell what went wrong on our side from what a client did wrong: who attacks us shall not fill the log."""
    return bool(record.exc_info) or logging.getLogger().isEnabledFor(logging.DEBUG)


def _within_descriptors(connections: int) -> int:
    """Leave half of the file descriptors for the rest: libzmq ends a process that has run out of them."""
    descriptors, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY or connections <= descriptors // 2:
        return connections
    _log.warning("at most %d HTTP connections: the limit of open files is %d", descriptors // 2, descriptors)
    return descriptors // 2


def _spare_descriptor() -> int:
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


class _Listener(socket.socket):
    """A listening socket that refuses connections while there is no file descriptor left for them.

    A connection that is not accepted would wake us up again at once, and for ever. So a descriptor is kept back to
    accept and close it with.
    """

    def __init__(self, listening: socket.socket) -> None:
        super().__init__(listening.family, listening.type, listening.proto, listening.detach())
        self._spare = _spare_descriptor()
        self._told = False

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection. Raises BlockingIOError where none waits any longer, or none can be had."""
        try:
            accepted = super().accept()
        except OSError as error:
            if error.errno not in _NO_DESCRIPTOR:
                raise
            self._refuse(error)
            raise BlockingIOError from error
        self._told = False
        return accepted

    def _refuse(self, error: OSError) -> None:
        if not self._told:
            self._told = True
            _log.error("refusing HTTP connections (%s): raise the limit of open files (LimitNOFILE=)", error.strerror)
        try:
            if self._spare < 0:
                self._spare = _spare_descriptor()
            os.close(self._spare)
            self._spare = -1
            refused, _address = super().accept()
            with refused:
                refused.shutdown(socket.SHUT_RDWR)
                self._spare = refused.detach()  # the next one to give up for a moment
        except OSError:  # another thread was quicker
            time.sleep(_BREATH)

    def close(self) -> None:
        """Give both descriptors back."""
        super().close()
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1


class BoundedServer(HTTPServer):
    """Refuses connections beyond `max_connections`, and of one peer beyond half of that."""

    def initialize(self, application: Application, max_connections: int) -> None:  # type: ignore[override] # fewer, on purpose
        """Set the limits; called by Tornado's constructor."""
        super().initialize(application, **_LIMITS)
        logging.getLogger("tornado.general").addFilter(_is_ours)
        self.refused = 0
        self._max_connections = _within_descriptors(max_connections)
        self._peers: Counter[str] = Counter()
        self._admits: Callable[[Mapping[str, Any] | None], bool] = lambda _certificate: True

    def use_tls(self, context: ssl.SSLContext | None, admits: Callable[[Mapping[str, Any] | None], bool]) -> None:
        """Serve connections from now on with TLS, or without; `admits` judges the client's verified certificate."""
        self.ssl_options = context
        self._admits = admits

    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> Awaitable[None] | None:  # type: ignore[override] # as in TCPServer
        """Serve or refuse one new connection."""
        peer = str(address[0])
        if self._peers.total() >= self._max_connections or self._peers[peer] >= self._max_connections // 2:
            if not self.refused:
                _log.warning("too many HTTP connections (%d): refusing %s", self._peers.total(), peer)
            self.refused += 1
            stream.close()
            return None
        self._peers[peer] += 1
        if isinstance(stream, SSLIOStream):
            return self._shake_hands(stream, address)
        super().handle_stream(stream, address)
        return None

    async def _shake_hands(self, stream: SSLIOStream, address: tuple[Any, ...]) -> None:
        """Serve who completes the handshake in time and may speak; the others are cut, in silence."""
        try:
            await asyncio.wait_for(stream.wait_for_handshake(), HEADER_TIMEOUT)
            admitted = self._admits(stream.socket.getpeercert())
        except (TimeoutError, asyncio.TimeoutError, OSError, ValueError) as error:  # OSError: also ssl.SSLError
            _log.debug("no TLS with %s: %s", address[0], repr(error))
            admitted = False
        if admitted:
            super().handle_stream(stream, address)
        else:
            stream.close()
            self._leave(str(address[0]))

    def on_close(self, server_conn: Any) -> None:  # noqa: ANN401 - Tornado types it as object
        """Forget a connection that has ended."""
        self._leave(str(server_conn.context.address[0]))
        super().on_close(server_conn)

    def _leave(self, peer: str) -> None:
        self._peers[peer] -= 1
        if not self._peers[peer]:
            del self._peers[peer]

    def listen_on(self, addresses: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
        """Listen on (host, port) pairs, an empty host meaning every interface; return where. Raises ListenError."""
        bound = []
        for host, port in addresses:
            try:
                sockets = [_Listener(item) for item in bind_sockets(port, host or None, backlog=_BACKLOG)]
            except (OSError, UnicodeError) as error:  # the latter: no name that DNS could have
                raise ListenError(f"cannot listen on {host}:{port}: {error}") from error
            self.add_sockets(sockets)
            bound += [item.getsockname()[:2] for item in sockets]
        return bound
