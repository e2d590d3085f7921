"""The round trip of one event of our own over the master's event bus: in where workers fire theirs, out where all read.

It writes to the bus, where reactors and event returners see it too, hence it is off unless asked for. The tag is
`salt-exporter/probe/<random>`; the answer is that the exporter's own bus reader meets it.

The pulling side (`master_event_pull.ipc`) takes a 4-byte big-endian length and `{"head": {}, "body": <bin>}` in Salt
3006, 3007 and 3008 (salt/transport/frame.py, `frame_msg_ipc`).
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Final

import msgpack

from salt_exporter.errors import SourceError
from salt_exporter.master.events import TAG_END

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from salt_exporter.probes.results import Results

TAG: Final = b"salt-exporter/probe/"
INTERVAL: Final = 15.0  # seconds between events
TIMEOUT: Final = 5.0  # seconds


class EventBusProbe:
    """Fires from a thread of its own until stopped; whoever reads the bus calls `arrived` with each body.

    `path` gives the socket that events are written to; it may raise SourceError. Times in seconds.
    """

    def __init__(
        self, results: Results, path: Callable[[], Path], interval: float = INTERVAL, timeout: float = TIMEOUT
    ) -> None:
        self._results = results
        self._path = path
        self._interval = interval
        self._timeout = timeout
        self._lock = threading.Lock()  # of the two below
        self._fired: tuple[bytes, float] | None = None  # the tag that has not arrived, and when it was written
        self._in_time = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probe-event-bus", daemon=True)

    def start(self) -> None:
        """Begin to fire."""
        self._thread.start()

    def stop(self, timeout: float = 2.0) -> None:
        """Stop firing."""
        self._stop.set()
        self._in_time.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def arrived(self, body: bytes, now: float) -> None:
        """Take a body from the bus whose tag begins with TAG; other people's probes are let pass."""
        with self._lock:
            if not self._fired or not body.startswith(self._fired[0] + TAG_END):
                return
            seconds = now - self._fired[1]
            self._fired = None
        if seconds < self._timeout:
            self._results.succeeded(seconds)
            self._in_time.set()
        else:
            self._results.late(seconds)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._fire(self._path())
            except SourceError as error:
                self._results.unknown(str(error))
            except OSError as error:
                self._results.failed(f"cannot write to the event bus ({error})")
            else:
                if not self._stop.is_set() and not self._in_time.wait(self._timeout):
                    self._results.failed(
                        f"an event did not come back within {self._timeout:g} s: the event publisher is dead or busy"
                    )
            self._stop.wait(self._interval)

    def _fire(self, path: Path) -> None:
        tag = TAG + os.urandom(12).hex().encode()
        stamp = datetime.now(timezone.utc).replace(tzinfo=None).isoformat()  # as Salt stamps events
        frame = msgpack.packb({"head": {}, "body": tag + TAG_END + msgpack.packb({"_stamp": stamp})})
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
            connection.settimeout(self._timeout)
            connection.connect(str(path))
            with self._lock:
                self._in_time.clear()
                self._fired = (tag, time.monotonic())
            connection.sendall(struct.pack(">I", len(frame)) + frame)
