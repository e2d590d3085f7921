"""Our own subscriber on the publish port: sees every message the master publishes, counts and sizes them.

It cannot read them (they are encrypted) and does not try. It connects from 127.0.0.2, because Salt takes any client
from 127.0.0.1 for the local minion (salt/utils/minions.py, `connected_ids`), and its receive queue has no limit, so
that it is never the slow one. libzmq answers the master's heartbeats.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import zmq
from zmq.utils.monitor import recv_monitor_message

from salt_exporter.probes import SOURCE
from salt_exporter.probes.room import LATER, require_room

if TYPE_CHECKING:
    from collections.abc import Callable

    from salt_exporter.analysis.stream import Stream

_POLL_MS: Final = 100
_RETRY: Final = 2.0  # seconds until the address of the publisher is asked again
_AGAIN: Final = 0.5  # seconds between attempts to connect to it
_STANDS: Final = zmq.EVENT_CONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED
_EVENTS: Final = _STANDS | zmq.EVENT_CLOSED | zmq.EVENT_DISCONNECTED

_log = logging.getLogger(__name__)


class PublishProbe:
    """Feeds a `Stream` from a thread of its own.

    `address` gives host and port of the publisher, or None while there is nothing to subscribe to; `own` gets the
    address and port of our connection while it stands, so that nobody takes it for a minion's.
    """

    def __init__(
        self, stream: Stream, address: Callable[[], tuple[str, int] | None], own: set[tuple[bytes, int]]
    ) -> None:
        self.subscribed_since = float("inf")  # monotonic; from then on nothing has been missed
        self.drained = float("-inf")  # monotonic; everything that had arrived by then has been counted
        self._stream = stream
        self._address = address
        self._own = own
        self._name = (b"", 0)  # our end of the newest connection
        self._problem = ""  # what was last said about it
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probe-publish", daemon=True)

    def start(self) -> None:
        """Begin to subscribe."""
        self._thread.start()

    def stop(self, timeout: float = 2.0) -> None:
        """Close the subscription."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stop.is_set():
            address = self._address()
            if address is None:
                self._stop.wait(_RETRY)
                continue
            try:
                require_room()
                self._subscribe(address)
            except (zmq.ZMQError, OSError) as error:
                self._say("the publish probe cannot subscribe to {}:{}: {}".format(*address, error))
                self._stop.wait(_RETRY)
            else:
                self._stop.wait(_AGAIN)

    def _say(self, problem: str) -> None:
        """Log a problem when it is new, not at each attempt."""
        if problem != self._problem:
            self._problem = problem
            _log.warning("%s", problem)

    def _subscribe(self, address: tuple[str, int]) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._receive(context, address)
        finally:
            self._lost()
            context.destroy(linger=0)

    def _receive(self, context: zmq.Context[Any], address: tuple[str, int]) -> None:
        """Receive until stopped, the connection has ended or could not be made, or the publisher has moved."""
        host, port = address
        subscriber = context.socket(zmq.SUB)
        subscriber.setsockopt(zmq.RCVHWM, 0)
        subscriber.setsockopt(zmq.IPV6, ":" in host)
        subscriber.setsockopt(zmq.SUBSCRIBE, b"")
        subscriber.setsockopt(zmq.RECONNECT_IVL, LATER)  # that is for us to do, see room.py
        monitor = subscriber.get_monitor_socket(_EVENTS)
        source = "" if ":" in host else f"{SOURCE}:0;"
        subscriber.connect(f"tcp://{source}{f'[{host}]' if ':' in host else host}:{port}")
        poller = zmq.Poller()
        poller.register(subscriber, zmq.POLLIN)
        poller.register(monitor, zmq.POLLIN)
        ended = False
        while not ended and not self._stop.is_set() and self._address() in (address, None):
            ready = dict(poller.poll(_POLL_MS))
            if monitor in ready:
                ended = not self._note(recv_monitor_message(monitor))
            self._drain(subscriber)
        subscriber.disable_monitor()

    def _drain(self, subscriber: zmq.Socket[bytes]) -> None:
        while True:
            now = time.monotonic()
            try:
                frame = subscriber.recv(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                self.drained = now
                return
            self._stream.append(len(frame), now)

    def _note(self, event: dict[str, Any]) -> bool:
        """Take what has become of the connection; tell whether it can still be one."""
        if event["event"] == zmq.EVENT_CONNECTED:
            with socket.socket(fileno=os.dup(event["value"])) as connection:
                name = connection.getsockname()
            self._name = (socket.inet_pton(connection.family, name[0]), name[1])
            self._own.add(self._name)
        elif event["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.subscribed_since = time.monotonic()
            self._problem = ""
        return bool(event["event"] & _STANDS)

    def _lost(self) -> None:
        self.subscribed_since = float("inf")
        self._own.discard(self._name)
