"""One look at the kernel's sockets per interval, shared by everybody who asks."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

from salt_exporter.analysis.connections import Churn
from salt_exporter.analysis.presence import Peers
from salt_exporter.errors import SourceError
from salt_exporter.kernel.inet_diag import (
    ESTABLISHED,
    LAST_RECEIVED_MS,
    LOCAL_PORT,
    PEER,
    PEER_PORT,
    RETRANSMITS,
    SEND_QUEUE,
    STATE,
    STATES,
    TIMER,
)
from salt_exporter.probes import SOURCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from salt_exporter.kernel.inet_diag import Listener, Row
    from salt_exporter.kernel.sock_diag import SocketTable

PUBLISH: Final = "publish"
REQUEST: Final = "request"
CHANNELS: Final = (PUBLISH, REQUEST)

_log = logging.getLogger(__name__)
# With the shortest retransmission timeout of 200 ms, doubled each time: 25 s without any acknowledgement.
_LOST_AFTER: Final = 7
_RETRANSMISSION_TIMER: Final = 1
_OPENING: Final = frozenset(number for number, state in STATES.items() if state == "syn_recv")
# A sample that somebody is in a hurry for comes a second after the last one, or later: at most a twentieth of the time
# is spent on sampling.
_LEAST_PAUSE: Final = 1.0
_COSTS: Final = 20
# Intervals after which a snapshot is too old: the sampler's own thread may be a little late, and whoever asks just then
# should not have to look in its stead.
_GRACE: Final = 1.5
_PROBES: Final = socket.inet_aton(SOURCE)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The sockets of both channels at one moment; our own connections are left out."""

    taken: float  # monotonic seconds
    connections: dict[str, list[Row]]  # by channel
    listeners: dict[str, list[Listener]]  # by channel


class Sampler:
    """Takes snapshots, in a thread of its own once started, and counts what happens between them."""

    def __init__(
        self, read: Callable[[tuple[int, int]], SocketTable], ports: Callable[[], tuple[int, int]], interval: float
    ) -> None:
        """Take `read`, which dumps the sockets on two ports, and `ports`, which gives publish and request."""
        self.own: set[tuple[bytes, int]] = set()  # (address, port) of connections that the exporter itself opened
        self.churn = {channel: Churn() for channel in CHANNELS}
        self.observers: list[Callable[[Snapshot], None]] = []  # are shown every regular snapshot, one after another
        self._read = read
        self._ports = ports
        self._interval = interval
        self._lock = threading.Lock()
        self._newest: Snapshot | None = None
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._sample_forever, name="sampler", daemon=True)

    def start(self) -> None:
        """Begin to sample every interval."""
        self._thread.start()

    def stop(self) -> None:
        """Stop sampling."""
        self._stop.set()
        self._hurry.set()

    def look_soon(self) -> None:
        """Take the next regular snapshot as soon as may be: something has happened that it should show."""
        self._hurry.set()

    def snapshot(self) -> Snapshot:
        """Return the newest snapshot, a fresh one if the regular one is overdue. Raises SourceError.

        While the next regular one is being taken nobody waits for it.
        """
        newest = self._newest
        if newest is not None and not self._is_overdue(newest):
            return newest
        with self._lock:
            if self._newest is None or self._is_overdue(self._newest):
                self._newest = self._take()
            return self._newest

    def _is_overdue(self, snapshot: Snapshot) -> bool:
        return time.monotonic() - snapshot.taken > _GRACE * self._interval

    def _fresh(self) -> Snapshot:
        with self._lock:
            self._newest = self._take()
            return self._newest

    @property
    def age(self) -> float:
        """Seconds since the newest snapshot, infinite before the first."""
        return time.monotonic() - self._newest.taken if self._newest else float("inf")

    def _sample_forever(self) -> None:
        while not self._stop.is_set():
            spent = time.thread_time()
            self._hurry.clear()
            try:
                self._sample()
            except SourceError as error:  # whoever asks for a snapshot is told too
                _log.debug("%s", error)
            except Exception:  # noqa: BLE001 - whatever it is, the next sample may go well
                _log.exception("cannot sample the kernel's sockets")
            pause = min(self._interval, max(_LEAST_PAUSE, _COSTS * (time.thread_time() - spent)))
            if not self._stop.wait(pause):
                self._hurry.wait(self._interval - pause)

    def _sample(self) -> None:
        snapshot = self._fresh()
        for observer in self.observers:
            observer(snapshot)

    def _take(self) -> Snapshot:
        ports = self._ports()
        taken = time.monotonic()
        table = self._read(ports)
        channels = dict(zip(ports, CHANNELS, strict=True))
        # The kernel's tuples hold ports in network byte order.
        by_port = {socket.htons(port): channel for port, channel in channels.items()}
        connections: dict[str, list[Row]] = {channel: [] for channel in CHANNELS}
        own = {(peer, socket.htons(port)) for peer, port in self.own.copy()}
        for row in table.connections:
            if row[PEER] != _PROBES and (row[PEER], row[PEER_PORT]) not in own:
                connections[by_port[row[LOCAL_PORT]]].append(row)
        listeners: dict[str, list[Listener]] = {channel: [] for channel in CHANNELS}
        for listener in table.listeners:
            listeners[channels[listener.port]].append(listener)
        for channel in CHANNELS:
            self.churn[channel].observe(connections[channel])
        return Snapshot(taken, connections, listeners)


def publish_peers(snapshot: Snapshot, silent_after: float | None) -> Peers:
    """Return who is connected to the publish port.

    A connection is silent when nothing, not even a heartbeat, came for `silent_after` seconds (None: this Salt line
    sends none), or when what was sent has been repeated `_LOST_AFTER` times without an acknowledgement.
    """
    established = [row for row in snapshot.connections[PUBLISH] if row[STATE] == ESTABLISHED]
    peers = [row[PEER] for row in established]
    connections = Counter(peers)
    limit = _milliseconds(silent_after)
    silent = Counter(
        peer
        for peer, row in zip(peers, established, strict=True)
        if row[LAST_RECEIVED_MS] > limit or (row[RETRANSMITS] >= _LOST_AFTER and row[TIMER] == _RETRANSMISSION_TIMER)
    )
    return Peers(connections, frozenset(peer for peer, number in silent.items() if number == connections[peer]))


def reaching_peers(snapshot: Snapshot) -> frozenset[bytes]:
    """Return who is trying in vain to reach the request port: answers that nobody acknowledges.

    Those to a SYN (the connection stays in SYN_RECV), or data that has been sent again without an acknowledgement.
    """
    return frozenset(
        row[PEER]
        for row in snapshot.connections[REQUEST]
        if row[STATE] in _OPENING or (row[SEND_QUEUE] and _repeats(row) > 1)
    )


def _repeats(row: Row) -> int:
    return row[RETRANSMITS] if row[TIMER] == _RETRANSMISSION_TIMER else 0


def silent_subscribers(snapshot: Snapshot, silent_after: float | None) -> int:
    """Count the connections to the publish port that have sent nothing for `silent_after` seconds, as above."""
    limit = _milliseconds(silent_after)
    return sum(row[LAST_RECEIVED_MS] > limit and row[STATE] == ESTABLISHED for row in snapshot.connections[PUBLISH])


def _milliseconds(silent_after: float | None) -> float:
    return silent_after * 1000 if silent_after else inf
