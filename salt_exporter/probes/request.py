"""A harmless request through 4506, router, queue and a worker, and back: how long the whole request path takes.

The request is the clear `ping` (salt/master.py, `ClearFuncs.ping`; 3006, 3007, 3008): no key, no job, nothing on the
bus; the master sends its load back. One connection stays open for all of them.

A ping that was not answered in time cannot be taken back: it waits in the master, in a queue that stuck workers share
with the minions' requests. So there is never more than one that we wait for (but for a burst, see burst.py), and after
each one that failed the pause is twice as long. Should the answer come late after all, the master is asked again at
once.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

import zmq

from salt_exporter.errors import SourceError
from salt_exporter.probes.ping import PingConnection
from salt_exporter.probes.ping_tcp import TcpPingConnection

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from salt_exporter.probes.burst import Burst
    from salt_exporter.probes.message import Router
    from salt_exporter.probes.results import Results

    Connection: TypeAlias = PingConnection | TcpPingConnection

_POLL_MS: Final = 100  # between looks at the stop flag while an answer is waited for
_RETRY: Final = 2.0  # seconds until a master that could not be connected to is tried again
_LONGEST_PAUSE: Final = 120.0  # seconds


class RequestProbe:
    """Pings from a thread of its own until stopped.

    `router` gives where the request channel is; it may raise SourceError. `own` gets the address and port of
    our connection before it is made, so that nobody ever takes it for a minion's. Times in seconds.
    """

    def __init__(
        self,
        results: Results,
        router: Callable[[], Router],
        own: set[tuple[bytes, int]],
        interval: float,
        timeout: float,
        burst: Burst,
    ) -> None:
        self._results = results
        self._router = router
        self._own = own
        self._interval = interval
        self._timeout = timeout
        self._burst = burst
        self._connection: Connection | None = None
        self._connected_to: Router | None = None
        self._name = (b"", 0)  # of the newest connection; the kernel may still show it when it is closed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probe-request", daemon=True)

    def start(self) -> None:
        """Begin to ping."""
        self._thread.start()

    def stop(self, timeout: float = 2.0) -> None:
        """Stop and close the connection."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        pause = self._interval
        try:
            while not self._stop.is_set():
                try:
                    pause = self._turn(context, pause)
                except SourceError as error:  # whoever answers there does not understand us, nor will it soon
                    self._results.unknown(str(error))
                    self._stop.wait(_LONGEST_PAUSE)
        finally:
            self._disconnect()
            context.destroy(linger=0)
            self._own.discard(self._name)

    def _turn(self, context: zmq.Context[Any], pause: float) -> float:
        """Ask once and wait, `pause` seconds if there is no answer; return the next such pause."""
        connection = self._connect(context)
        if connection:
            self._burst.send_if_due(connection)
        if connection and self._ping(connection):
            self._listen(connection, self._interval)
        elif not connection or connection.is_lost():
            self._stop.wait(min(self._interval, _RETRY))
        else:
            self._burst.hurry()
            if not self._listen(connection, pause, for_answer=True):
                return min(2 * pause, _LONGEST_PAUSE)
        return self._interval

    def _connect(self, context: zmq.Context[Any]) -> Connection | None:
        """Return a connection to where the master is now, the one there is if it still stands; None without one."""
        try:
            router = self._router()
        except SourceError as error:
            self._results.unknown(str(error))
            return None
        if self._connection and (self._connected_to != router or self._connection.is_lost()):
            self._disconnect()
        if not self._connection:
            self._connection, self._connected_to = self._new_connection(context, router), router
        return self._connection

    def _new_connection(self, context: zmq.Context[Any], router: Router) -> Connection | None:
        address = router.host, router.port
        where = "{}:{}".format(*address)
        try:
            connection = TcpPingConnection(address) if router.transport == "tcp" else PingConnection(context, address)
            self._own.discard(self._name)
            self._name = connection.name
            self._own.add(self._name)
            connection.connect()
        except OSError as error:
            self._results.failed(f"cannot connect to {where} ({error})")
            return None
        deadline = time.monotonic() + self._timeout
        while connection.is_lost() and time.monotonic() < deadline and not self._stop.is_set():
            connection.wait_connected(_POLL_MS)
        if not connection.is_lost():
            return connection
        connection.close()
        if not self._stop.is_set():
            self._results.failed(f"no connection to {where} within {self._timeout:g} s: is the salt-master running?")
        return None

    def _disconnect(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None
            self._burst.forget()

    def _ping(self, connection: Connection) -> bool:
        """Ask once; return whether the answer came in time."""
        asked = time.monotonic()
        connection.send(asked)
        while time.monotonic() < asked + self._timeout and not self._stop.is_set() and not connection.is_lost():
            left = asked + self._timeout - time.monotonic()
            connection.wait_answer(max(1, min(_POLL_MS, round(left * 1000))))
            for sent, received in connection.answers():
                if sent == asked:
                    self._results.succeeded(received - sent)
                    return True
                self._late(sent, received)
        if connection.is_lost():
            self._results.failed("the master closed the connection without an answer: has it been restarted?")
        elif not self._stop.is_set():
            self._results.failed(
                f"no answer within {self._timeout:g} s: the workers are stopped, stuck or too busy, "
                "look at salt_request_worker_queue_bytes and the workers' CPU"
            )
        return False

    def _late(self, sent: float, received: float) -> None:
        """Take an answer that is not the one waited for; those of a burst tell no time, they wait for one another."""
        if not self._burst.take(sent):
            self._results.late(received - sent)

    def _listen(self, connection: Connection, seconds: float, *, for_answer: bool = False) -> bool:
        """Take late answers until the time is over or the connection lost.

        With `for_answer` return True as soon as one has come.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._stop.is_set() and not connection.is_lost():
            left = end - time.monotonic()
            connection.wait_answer(max(1, min(_POLL_MS, round(left * 1000))))
            answers = list(connection.answers())
            for sent, received in answers:
                self._late(sent, received)
            if answers and for_answer:
                return True
        return False
