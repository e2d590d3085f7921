"""Publications that never came out of the publish port: jobs on the event bus matched with frames of the stream.

A worker tells the bus of a job and then hands it to the publisher, so each job is followed by a frame within
milliseconds. Frames are encrypted, only their order and time can be matched; a job takes the first frame that is left.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from salt_exporter.analysis.stream import Stream

# Seconds between a job and its frame, either way: the publisher may be busy, and so may our reader of the bus.
PATIENCE: Final = 10.0
_WAITING: Final = 100_000  # jobs; of more nothing is said


class Frames:
    """Counts the jobs that have no frame. Times are monotonic seconds."""

    def __init__(self, stream: Stream) -> None:
        self.missing = 0
        self._stream = stream
        self._next = 0  # the first message of the stream that is not some job's yet
        self._waiting: deque[float] = deque(maxlen=_WAITING)
        self._lost: deque[float] = deque(maxlen=_WAITING)

    def publish(self, jobs: int, now: float) -> None:
        """Expect frames for jobs that the bus has told of."""
        self._waiting.extend([now] * jobs)

    def restart(self) -> None:
        """Expect nothing of before: the stream was interrupted, and may have missed it."""
        self._waiting.clear()
        self._lost.clear()
        self._next = self._stream.messages

    def has_none(self, published: float) -> bool:
        """Tell whether the job of this moment has no frame, as far as it is settled."""
        return published in self._waiting or published in self._lost

    def settle(self, now: float) -> None:
        """Match what can be matched, and count what has waited too long; the stream is complete up to `now`."""
        while self._waiting:
            published = self._waiting[0]
            first = max(self._next, self._stream.messages_at(published - PATIENCE))
            if first < self._stream.messages:
                self._next = first + 1
            elif now - published > PATIENCE:
                self.missing += 1
                self._lost.append(published)
            else:
                return
            self._waiting.popleft()
