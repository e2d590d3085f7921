"""As many pings at once as there are workers: how many of these do not answer.

The router hands requests to the workers in strict turn (ZeroMQ's DEALER, salt/transport/zeromq.py of 3006, 3007 and
3008), so of W pings in a row each of W workers gets one, and those that remain unanswered are the workers that are
stuck. Where minions' requests come in between one worker may get two, another none.

A ping that a stuck worker does not answer stays in its queue, so this is done seldom: every 5 minutes, sooner when a
single ping has failed, and less often while there are stuck workers.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol

from salt_exporter.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable

_PAUSE: Final = 300.0  # seconds
_LONGEST_PAUSE: Final = 3600.0
_HURRY: Final = 20.0
_APART: Final = 1e-4  # seconds between the times that pings carry, to tell them apart


class _Connection(Protocol):
    def send(self, asked: float) -> None:
        """Send a ping that carries `asked`."""


class Burst:
    """Used by the thread of the request probe; `stuck` may be read from any. Times are monotonic seconds.

    `workers` gives how many answer pings, 0 where a burst would tell nothing; it may raise SourceError. An answer is
    late after `timeout`.
    """

    def __init__(self, workers: Callable[[], int], timeout: float) -> None:
        self._workers = workers
        self._timeout = timeout
        self._waiting: set[float] | None = None  # what the unanswered pings of the newest burst carry; None: no burst
        self._before: int | None = None  # stuck workers by the burst before
        self._sent = 0.0
        self._pause = 0.0

    @property
    def stuck(self) -> int | None:
        """How many pings of the newest burst have not been answered, or not yet; None if that is not known."""
        waiting = self._waiting
        if waiting and time.monotonic() < self._sent + self._timeout:
            return self._before
        return None if waiting is None else len(waiting)

    def send_if_due(self, connection: _Connection) -> None:
        """Send one if the last is long enough ago."""
        now = time.monotonic()
        if now < self._sent + self._pause:
            return
        self._before = self.stuck
        self._pause = min(2 * self._pause, _LONGEST_PAUSE) if self._before else _PAUSE
        self._sent = now
        try:
            workers = self._workers()
        except SourceError:
            workers = 0
        self._waiting = {now + number * _APART for number in range(workers)} if workers else None
        for asked in self._waiting or ():
            connection.send(asked)

    def hurry(self) -> None:
        """Send the next one soon, for a single ping has failed; not if workers are known to be stuck."""
        if not self.stuck:
            self._pause = min(self._pause, _HURRY)

    def take(self, asked: float) -> bool:
        """Take an answer, late or not; return whether it is one to the newest burst."""
        if self._waiting is None or asked not in self._waiting:
            return False
        self._waiting.discard(asked)
        return True

    def forget(self) -> None:
        """Know nothing any longer: the connection is lost, and with it the answers."""
        self._waiting, self._pause = None, 0.0
