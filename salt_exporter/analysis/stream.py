"""The stream of published messages as our own subscriber on 4505 has seen it: how many, how large, when.

A PUB socket sends every subscriber the same bytes, so a position in this stream, in bytes, is a place for every
connection. Messages are numbered from 0; a message starts where the one before it ends. On the wire one of n bytes
takes n + 2 bytes, or n + 9 above 255 (ZMTP 3.1, section 2.4, framing).
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from itertools import pairwise
from math import inf
from typing import Final

_KEPT: Final = 200_000  # messages remembered; older ones are only counted
_ENOUGH: Final = 5000  # messages to know what sizes are usual
_LONG: Final = 255


def wire_size(message: int) -> int:
    """Return the bytes that a single-frame message of this size takes on the wire."""
    return message + (2 if message <= _LONG else 9)


class Stream:
    """Written by the subscriber's thread, read by others; what is forgotten lies at the oldest place kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forgotten = 0  # messages before the oldest place kept
        self._ends: list[int] = [0]  # positions: the oldest place kept, then the end of each message
        self._times: list[float] = [-inf]

    def append(self, message: int, now: float) -> None:
        """Add a message of `message` bytes received at `now` (monotonic)."""
        with self._lock:
            self._ends.append(self._ends[-1] + wire_size(message))
            self._times.append(now)
            if len(self._ends) > _KEPT:
                self._forgotten += _KEPT // 2
                del self._ends[: _KEPT // 2]
                del self._times[: _KEPT // 2]

    @property
    def messages(self) -> int:
        """Messages so far, which is also the number that the next one will have."""
        with self._lock:
            return self._forgotten + len(self._ends) - 1

    @property
    def position(self) -> int:
        """Bytes so far."""
        return self._ends[-1]

    def position_at(self, time: float) -> int:
        """Return the bytes received up to a time (monotonic)."""
        with self._lock:
            return self._ends[max(0, bisect_right(self._times, time) - 1)]

    def messages_at(self, time: float) -> int:
        """Return the messages received up to a time (monotonic)."""
        with self._lock:
            return self._forgotten + max(0, bisect_right(self._times, time) - 1)

    def begun_before(self, position: int) -> int:
        """Return how many messages start before a position."""
        with self._lock:
            return self._forgotten + min(bisect_left(self._ends, position), len(self._ends) - 1)

    def nearest(self, position: int) -> int:
        """Return the number of the message that starts nearest to a position."""
        number = self.begun_before(position)
        before, after = self.start_of(number - 1), self.start_of(number)
        return number - 1 if position - before < after - position else number

    def start_of(self, number: int) -> int:
        """Return the position at which a message starts, the end of the stream for those to come."""
        with self._lock:
            return self._ends[min(max(0, number - self._forgotten), len(self._ends) - 1)]

    def number_at(self, time: float) -> int | None:
        """Return the number of the message received nearest to a time (monotonic), None if it may be forgotten."""
        with self._lock:
            after = bisect_left(self._times, time, lo=1)
            if after == 1 and (self._forgotten or len(self._times) == 1):
                return None
            nearest = min((after - 1, after), key=lambda index: abs(self._time(index) - time))
            return self._forgotten + nearest - 1

    def _time(self, index: int) -> float:
        return self._times[index] if 0 < index < len(self._times) else inf

    def run(self, least: int, most: int, starts: range, near: int) -> range | None:
        """Return the consecutive messages from one of `starts` on that together take `least` to `most` bytes.

        A queue that is full drops consecutive messages, so a loss whose size is known to the byte names them. Of
        several such runs the one that starts nearest to the message `near` is taken. None if there is none.
        """
        with self._lock:
            ends, forgotten = self._ends, self._forgotten
            first, stop = max(starts.start, forgotten), min(starts.stop, forgotten + len(ends) - 1)
            for start in sorted(range(first, stop), key=lambda start: abs(start - near)):
                begin = start - forgotten
                end = bisect_left(ends, ends[begin] + least, begin + 1)
                if end < len(ends) and ends[end] - ends[begin] <= most:
                    return range(start, end + forgotten)
        return None

    def messages_per_byte(self, first: int, stop: int) -> float:
        """Return how many messages more one byte more suggests, among the messages from `first` up to `stop`.

        That is 1 / mean where all have the same size. The more sizes differ, the less a sum of them tells how many
        there are: mean / (mean of squares) is the slope of the regression through the origin.
        """
        with self._lock:
            ends = self._ends[
                max(0, first - self._forgotten, stop - self._forgotten - _ENOUGH) : stop - self._forgotten + 1
            ]
        sizes = [end - start for start, end in pairwise(ends)]
        return sum(sizes) / sum(size * size for size in sizes) if sizes else 0.0
