"""The master's event bus: connects, drains at once, reconnects. Threads of its own, so that nothing delays it.

A slow consumer harms the master (3006 buffers for it without limit, 3007 and 3008 cut it off), so one thread does
nothing but receive and cut frames; a second one hands the bodies on in batches. Should the second fall behind by
`BACKLOG` bytes, bodies are thrown away and counted: we shed our own work, never hold up the bus.
"""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from salt_exporter.errors import SourceError
from salt_exporter.master.wire import Framer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

BACKLOG: Final = 64 << 20  # bytes of bodies that may wait to be decoded
BATCH: Final = 500  # bodies handed on at once; bounds how long their lock is held
_RECEIVE: Final = 1 << 18
_POLL: Final = 1.0  # seconds between looks at the stop flag while nothing arrives
_BACKOFF: Final = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds; the last one repeats

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BusAddress:
    """Where the master publishes its events: a unix socket, or a TCP port of the loopback (`ipc_mode: tcp`)."""

    path: Path | None = None
    host: str = "127.0.0.1"
    port: int = 0

    def __str__(self) -> str:
        return str(self.path) if self.path else f"{self.host}:{self.port}"

    def connect(self) -> socket.socket:
        """Return a connected socket. Raises SourceError with the way out."""
        kind = socket.AF_UNIX if self.path else socket.AF_INET
        connection = socket.socket(kind, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        connection.settimeout(_POLL)
        try:
            connection.connect(str(self.path) if self.path else (self.host, self.port))
        except OSError as error:
            connection.close()
            raise SourceError(_advice(self, error)) from error
        return connection


def _advice(address: BusAddress, error: OSError) -> str:
    where = f"cannot connect to the event bus {address}"
    if isinstance(error, FileNotFoundError):
        return f"{where}: it does not exist; is the salt-master running, and is this its sock_dir (--salt.config-dir)?"
    if isinstance(error, PermissionError):
        return f"{where}: permission denied; run the exporter as the user the salt-master runs as"
    if isinstance(error, ConnectionRefusedError):
        return f"{where}: connection refused; no salt-master is listening there"
    return f"{where} ({error})"


@dataclass(slots=True)
class BusCounters:
    """What the reader counts about itself; each written by one thread only."""

    connected: bool = False
    reconnects: int = 0  # connections after the first
    decode_errors: int = 0  # stretches of bytes that were no frame
    shed: int = 0  # bodies thrown away because decoding fell behind
    received_bytes: int = 0


class BusReader:
    """Reads the bus until stopped and hands batches of event bodies to `deliver`.

    `address` is asked before each connection and may raise SourceError; `lost` is called whenever a connection
    ends: events may be missed from then until the next one stands.
    """

    def __init__(
        self,
        address: Callable[[], BusAddress],
        deliver: Callable[[Sequence[bytes]], None],
        lost: Callable[[], None],
    ) -> None:
        self.counters = BusCounters()
        self.problem = "not connected to the event bus yet"  # why not connected: one sentence, "" when it is
        self._address = address
        self._deliver = deliver
        self._lost = lost
        self._stop = threading.Event()
        self._bodies: deque[bytes] = deque()
        self._waiting = 0  # bytes in _bodies
        self._work = threading.Condition()
        self._threads = [
            threading.Thread(target=self._receive_forever, name="bus-receive", daemon=True),
            threading.Thread(target=self._deliver_forever, name="bus-deliver", daemon=True),
        ]

    def start(self) -> None:
        """Begin to read."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float = 3.0) -> None:
        """Stop reading, deliver what has arrived, and return within about `timeout` seconds."""
        self._stop.set()
        with self._work:
            self._work.notify()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _receive_forever(self) -> None:
        attempt = 0
        connections = 0
        while not self._stop.is_set():
            try:
                address = self._address()
                connection = address.connect()
            except SourceError as error:
                self._say(str(error))
                pause = _BACKOFF[min(attempt, len(_BACKOFF) - 1)]
                attempt += 1
                # Not all exporters of a fleet at once, and never later than the backoff says.
                self._stop.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
                continue
            attempt = 0
            connections += 1
            self.counters.reconnects = connections - 1
            self._connected(address)
            with connection:
                reason = self._drain(connection)
            self.counters.connected = False
            self._lost()
            if not self._stop.is_set():
                self._say(f"the event bus {address} {reason}; is the salt-master restarting?")

    def _connected(self, address: BusAddress) -> None:
        self.counters.connected = True
        self.problem = ""
        _log.info("connected to the event bus %s", address)

    def _say(self, problem: str) -> None:
        """Log a problem when it is new, not at each attempt."""
        if problem != self.problem:
            self.problem = problem
            _log.warning("%s", problem)

    def _drain(self, connection: socket.socket) -> str:
        """Receive until the connection ends; return how it did."""
        framer = Framer()
        counters = self.counters
        while not self._stop.is_set():
            try:
                data = connection.recv(_RECEIVE)
            except TimeoutError:
                continue
            except OSError as error:
                return f"broke off ({error})"
            if not data:
                return "was closed by the master"
            counters.received_bytes += len(data)
            errors = framer.errors
            bodies = framer.feed(data)
            if framer.errors != errors:
                counters.decode_errors += framer.errors - errors
                _log.warning("skipped bytes on the event bus that were no event")
            if bodies:
                self._enqueue(bodies)
        return "is no longer read: the exporter stops"

    def _enqueue(self, bodies: list[bytes]) -> None:
        size = sum(map(len, bodies))
        with self._work:
            if self._waiting + size > BACKLOG and self._bodies:
                if not self.counters.shed:
                    _log.warning("decoding events fell behind by %d bytes: throwing events away", self._waiting)
                self.counters.shed += len(bodies)
                return
            self._bodies.extend(bodies)
            self._waiting += size
            self._work.notify()

    def _deliver_forever(self) -> None:
        while True:
            with self._work:
                while not self._bodies and not self._stop.is_set():
                    self._work.wait()
                batch = [self._bodies.popleft() for _ in range(min(BATCH, len(self._bodies)))]
                self._waiting -= sum(map(len, batch))
            if batch:
                self._deliver(batch)
            elif not self._threads[0].is_alive() or self._stop.is_set():
                return
