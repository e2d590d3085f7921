"""The lives of the connections to the publish port: who was connected when, and in what state a connection ended.

A job may be closed an hour after it was published, so what was connected then is remembered: a connection that is still
there by its newest row, one that is gone by what matters of its last.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

from salt_exporter.kernel.inet_diag import (
    COOKIE,
    ESTABLISHED,
    LAST_RECEIVED_MS,
    PEER,
    RETRANSMITS,
    SEND_QUEUE,
    STATE,
    TIMER,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from salt_exporter.kernel.inet_diag import Row

_KEPT_SECONDS: Final = 7200.0
_KEPT: Final = 50_000  # connections that ended
_RETRANSMISSION_TIMER: Final = 1
# A connection that the first sample after a publication lacks, taken so soon, had ended before: a minion that is
# stopped seldom is so in just that moment.
_AT_ONCE: Final = 1.5


@dataclass(frozen=True, slots=True)
class Life:
    """One connection. Times are monotonic seconds."""

    cookie: int
    opened: float  # when it was first seen; -inf for those that were there before us
    seen: float  # the newest sample that has it
    gone: float  # the first sample that lacks it; inf while it is there
    received: float  # when the other end had last sent anything, as of `seen`
    unsent: int  # bytes in the kernel's send queue, as of `seen`
    repeats: int  # how often they had been sent again without an acknowledgement

    def covers(self, time: float) -> bool:
        """Tell whether the connection was there at a time."""
        return self.opened <= time <= self.seen or (self.opened <= time < self.gone - _AT_ONCE)


class Subscriptions:
    """Takes one sample after another, and remembers what ended for two hours. May be asked from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.began = inf  # monotonic seconds of the first sample: nothing is known of before
        self.newest = -inf  # and of the newest
        self._live: dict[int, Row] = {}
        self._opened: dict[int, float] = {}
        self._ended: deque[tuple[bytes, Life]] = deque()
        self._ended_by_peer: dict[bytes, deque[Life]] = {}
        self._live_by_peer: dict[bytes, list[Row]] | None = None  # of the newest sample, made when asked for

    def observe(self, rows: Iterable[Row], taken: float) -> None:
        """Take the connections of a sample at `taken` (monotonic)."""
        live = {row[COOKIE]: row for row in rows if row[STATE] == ESTABLISHED}
        with self._lock:
            self._take(live, taken)

    def _take(self, live: dict[int, Row], taken: float) -> None:
        if live.keys() != self._live.keys():
            self._compare(live, taken)
        self.began = min(self.began, taken)
        self._live, self._live_by_peer, self.newest = live, None, taken
        self._forget(taken)

    def _compare(self, live: dict[int, Row], taken: float) -> None:
        if self.began < inf:
            for cookie in live.keys() - self._live.keys():
                self._opened[cookie] = taken
        for cookie in self._live.keys() - live.keys():
            row = self._live[cookie]
            self._end(row[PEER], self._life(row, gone=taken))
            self._opened.pop(cookie, None)

    def at(self, addresses: Collection[bytes], time: float) -> list[Life]:
        """Return the connections from these addresses that were there at a time, those that still are first."""
        with self._lock:
            live = [self._life(row) for peer in addresses for row in self._by_peer().get(peer, ())]
            ended = [life for peer in addresses for life in self._ended_by_peer.get(peer, ())]
        return [life for life in (*live, *ended) if life.covers(time)]

    def is_connected(self, addresses: Collection[bytes]) -> bool:
        """Tell whether there is a connection from any of these addresses now."""
        with self._lock:
            return any(peer in self._by_peer() for peer in addresses)

    def _life(self, row: Row, gone: float = inf) -> Life:
        return Life(
            cookie=row[COOKIE],
            opened=self._opened.get(row[COOKIE], -inf),
            seen=self.newest,
            gone=gone,
            received=self.newest - row[LAST_RECEIVED_MS] / 1000,
            unsent=row[SEND_QUEUE],
            repeats=row[RETRANSMITS] if row[TIMER] == _RETRANSMISSION_TIMER else 0,
        )

    def _by_peer(self) -> dict[bytes, list[Row]]:
        if self._live_by_peer is None:
            self._live_by_peer = {}
            for row in self._live.values():
                self._live_by_peer.setdefault(row[PEER], []).append(row)
        return self._live_by_peer

    def _end(self, peer: bytes, life: Life) -> None:
        self._ended.append((peer, life))
        self._ended_by_peer.setdefault(peer, deque()).append(life)

    def _forget(self, now: float) -> None:
        while self._ended and (len(self._ended) > _KEPT or self._ended[0][1].gone < now - _KEPT_SECONDS):
            peer, _ = self._ended.popleft()
            of_peer = self._ended_by_peer[peer]
            of_peer.popleft()
            if not of_peer:
                del self._ended_by_peer[peer]
