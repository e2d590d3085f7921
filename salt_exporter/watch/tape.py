"""What the bus's thread hands to the screen's: bounded, and never a reason to wait."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST: Final = 20_000  # events that may wait for the screen
MOST_BYTES: Final = 32 << 20


class Received(NamedTuple):
    """An event body as it came from the bus, or None where events are missing."""

    arrived: float  # Unix seconds
    body: bytes | None


class Tape:
    """A queue between two threads. Beyond its bounds the oldest events are thrown away and counted."""

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self.shed = 0
        self._most = most
        self._most_bytes = most_bytes
        self._lock = threading.Lock()  # of the two below, and of shed
        self._waiting: deque[Received] = deque()
        self._bytes = 0

    def put(self, bodies: Sequence[bytes]) -> None:
        """Take a batch of event bodies in the order received; an empty one says that events are missing here."""
        arrived = time.time()
        with self._lock:
            self._waiting.extend(Received(arrived, body) for body in bodies or (None,))
            self._bytes += sum(map(len, bodies))
            while len(self._waiting) > self._most or self._bytes > self._most_bytes:
                self.shed += self._next().body is not None

    def take(self, most: int) -> list[Received]:
        """Return the oldest `most` events that wait, at once."""
        with self._lock:
            return [self._next() for _ in range(min(most, len(self._waiting)))]

    def _next(self) -> Received:
        received = self._waiting.popleft()
        self._bytes -= len(received.body or b"")
        return received
