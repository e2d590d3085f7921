"""The master's event bus: connects, drains at once, reconnects. Threads of its own, so that nothing delays it.

A slow consumer harms the master (3006 buffers for it without limit, 3007 and 3008 cut it off), so one thread does
nothing but receive and cut frames; a second one hands the bodies on in batches. Should the second fall behind by
`BACKLOG` bytes, bodies are thrown away and counted: we shed our own work, never hold up the bus. Where events are
missing, the second thread is told so in its turn, between what came before and what came after.
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
_RECEIVE: Final = 1 << 16  # bytes; room for more would be taken from the system and given back for each chunk
_POLL: Final = 1.0  # seconds between looks at the stop flag while nothing arrives
_BACKOFF: Final = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds; the last one repeats
_STABLE: Final = 10.0  # a connection that lasted for so many seconds is followed by the next one at once

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
        connection = None
        try:
            connection = socket.socket(kind, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            connection.settimeout(_POLL)
            connection.connect(str(self.path) if self.path else (self.host, self.port))
        except OSError as error:  # of the first, too: there may be no file descriptor left
            if connection:
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

    `address` is asked before each connection and may raise SourceError. `lost` is called, by the thread that calls
    `deliver`, wherever events are missing: a connection ended, bytes made no sense, or bodies were thrown away.
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
        self._connections = 0
        self._stop = threading.Event()
        self._work = threading.Condition()  # of the three below
        self._bodies: deque[bytes | None] = deque()  # None where events are missing
        self._waiting = 0  # bytes in _bodies
        self._ended = False  # nothing more will come into _bodies
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
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _receive_forever(self) -> None:
        try:
            attempt = 0
            while not self._stop.is_set():
                if self._receive() >= _STABLE:
                    attempt = 0
                    continue
                pause = _BACKOFF[min(attempt, len(_BACKOFF) - 1)]
                attempt += 1
                # Not all exporters of a fleet at once, and never later than the backoff says.
                self._stop.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
        finally:
            with self._work:
                self._ended = True
                self._work.notify()

    def _receive(self) -> float:
        """Connect and receive until that ends; return for how many seconds it lasted."""
        try:
            address = self._address()
            connection = address.connect()
        except SourceError as error:
            self._say(str(error))
            return 0.0
        began = time.monotonic()
        self._connected(address)
        with connection:
            try:
                reason = self._drain(connection)
            except MemoryError:
                reason = "is no longer read: there is no memory left"
        if not self._stop.is_set():
            self._say(f"the event bus {address} {reason}; is the salt-master restarting?")
        self.counters.connected = False
        self._missing()
        return time.monotonic() - began

    def _connected(self, address: BusAddress) -> None:
        self._connections += 1
        self.counters.reconnects = self._connections - 1
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
            if bodies:
                self._enqueue(bodies)
            if framer.errors != errors:
                counters.decode_errors += framer.errors - errors
                self._missing()
                _log.warning("skipped bytes on the event bus that were no event")
        return "is no longer read: the exporter stops"

    def _enqueue(self, bodies: list[bytes]) -> None:
        size = sum(map(len, bodies))
        with self._work:
            behind = self._waiting
            if not behind or behind + size <= BACKLOG:
                self._bodies.extend(bodies)
                self._waiting += size
                self._work.notify()
                return
        if not self.counters.shed:
            _log.warning("decoding events fell behind by %d bytes: throwing events away", behind)
        self.counters.shed += len(bodies)
        self._missing()

    def _missing(self) -> None:
        """Mark the place in the queue: events that should be here are not."""
        with self._work:
            if not self._bodies or self._bodies[-1] is not None:
                self._bodies.append(None)
                self._work.notify()

    def _deliver_forever(self) -> None:
        """Hand on what comes; a batch that cannot be digested must not end that."""
        while True:
            with self._work:
                while not self._bodies and not self._ended:
                    self._work.wait()
                if not self._bodies:
                    return
                batch = self._next_batch()
            if not batch:
                self._lost()
                continue
            try:
                self._deliver(batch)
            except Exception:  # noqa: BLE001 - whatever it is, it is logged, and what follows is handed on
                _log.exception("lost a batch of %d events", len(batch))
                self._lost()

    def _next_batch(self) -> list[bytes]:
        """Take the bodies up to the next place where some are missing; none if the queue starts with that."""
        batch: list[bytes] = []
        while self._bodies and len(batch) < BATCH:
            body = self._bodies.popleft()
            if body is None:
                if batch:
                    self._bodies.appendleft(None)
                break
            batch.append(body)
        self._waiting -= sum(map(len, batch))
        return batch
