"""What ZeroMQ does with the messages for one subscriber that does not keep up: the queue, and what it drops.

libzmq 4.3 (src/pipe.cpp, pipe_t): the queue is full when `written - credit` reaches the high-water mark. `credit` is
not how many messages have been read from it: the reader reports that only every `lwm = (hwm + 1) / 2` messages
(compute_lwm). So a queue holds between half and all of `hwm` messages when it starts to drop. When it has been full,
messages are dropped until half of it has been read; then as many get in as the new credit allows, and so on.

The connection's engine (src/stream_engine_base.cpp) reads a message when it begins to hand it to the kernel, small ones
up to a batch of 8 KiB ahead of that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from salt_exporter.analysis.stream import Stream

BATCH: Final = 8192  # bytes; options_t::out_batch_size
_NEVER: Final = 1 << 62


@dataclass(slots=True)
class Pipe:
    """Follows one queue from a sample at which nothing had been dropped that is not accounted for.

    What is exact at a sample is an estimate in between, see `_moments`. `handed` is on the connection's own scale:
    `handed + offset` is the place in the stream.
    """

    hwm: int
    time: float  # monotonic
    handed: int
    offset: int
    origin: int  # the number that its first message has in the stream, or would have had nothing been dropped since
    next: int  # the number of the next message to be offered
    credit: int = 0
    gaps: list[range] = field(default_factory=list)  # what was dropped behind messages that are still queued
    runs: list[range] = field(default_factory=list)  # the first and the last run of dropped messages
    dropped: int = 0
    dropped_bytes: int = 0

    @property
    def lwm(self) -> int:
        """Messages read from one report of the reader to the next."""
        return (self.hwm + 1) // 2 if self.hwm else _NEVER

    def advance(self, stream: Stream, time: float, handed: int, *, empty: bool) -> None:
        """Take a new sample: offer what was published meanwhile, credit what was read meanwhile.

        `empty` tells that the kernel's queue is empty now.
        """
        published = stream.messages_at(time)
        moments = self._moments(stream, time, handed, empty=empty)
        while True:
            number = self._numbered(self.credit + self.lwm - 1)
            begins = self._begins(stream, number)
            if number >= published or begins >= handed:
                break
            self._offer(stream, min(published, max(number + 1, stream.messages_at(moments(begins)))))
            self.credit += self.lwm
        self._offer(stream, published)
        self.time, self.handed = time, handed
        self._forget_passed_gaps(stream)

    def _moments(self, stream: Stream, time: float, handed: int, *, empty: bool) -> Callable[[int], float]:
        """Return what tells when, since the last sample, so many bytes had been handed."""
        start, before = self.time, self.handed
        if not self.waiting(stream):
            return lambda _: start  # a queue that was empty is read as soon as anything comes, until the kernel is full
        if empty:
            return lambda _: time  # who has caught up was stalled until it did: that goes fast
        return lambda begins: start + (time - start) * max(0, begins - before) / max(1, handed - before)

    def waiting(self, stream: Stream) -> int:
        """Return how many messages are in the queue."""
        return max(0, self._written() - self._read(stream))

    def fill(self, stream: Stream) -> float:
        """Return how full the queue is: at 1 the next message is dropped."""
        if not self.hwm:
            return 0.0
        room = self.hwm - (self._written() - self.credit)
        waiting = self.waiting(stream)
        return waiting / (waiting + room) if waiting else 0.0

    def fitted(self, stream: Stream, lost: int) -> tuple[int, int]:
        """Return the messages and bytes dropped, with the end of the last run put where `lost` bytes fit best."""
        if not self.runs:
            return 0, 0
        last = self.runs[-1]
        earlier, known = self.dropped - len(last), self.dropped_bytes - _bytes(stream, last)
        end = stream.nearest(stream.start_of(last.start) + lost - known)
        return earlier + max(0, end - last.start), known + max(0, stream.start_of(end) - stream.start_of(last.start))

    def _offer(self, stream: Stream, until: int) -> None:
        """Let the messages before `until` in as long as there is room, drop the rest."""
        if until <= self.next:
            return
        full = self.next + self.hwm - (self._written() - self.credit) if self.hwm else _NEVER
        self.next = until
        if until > full:
            lost = range(full, until)
            self.dropped += len(lost)
            self.dropped_bytes += stream.start_of(until) - stream.start_of(full)
            for runs in (self.gaps, self.runs):
                if runs and runs[-1].stop == full:
                    runs[-1] = range(runs[-1].start, until)
                else:
                    runs.append(lost)
            del self.runs[1:-1]

    def _written(self) -> int:
        return self.next - self.origin - sum(map(len, self.gaps))

    def _read(self, stream: Stream) -> int:
        begun = min(self.next, stream.begun_before(self.handed + self.offset + BATCH // 2))
        dropped = sum(min(gap.stop, begun) - gap.start for gap in self.gaps if gap.start < begun)
        return begun - self.origin - dropped

    def _numbered(self, index: int) -> int:
        """Return the number in the stream of a message that the queue has taken or would take next, counted from 0."""
        number = self.origin + index
        for gap in self.gaps:
            if number >= gap.start:
                number += len(gap)
        return number

    def _begins(self, stream: Stream, number: int) -> int:
        """Return how much has been handed when the engine reads this message."""
        passed = sum(_bytes(stream, gap) for gap in self.gaps if gap.start < number)
        return stream.start_of(number) - passed - self.offset - BATCH // 2

    def _forget_passed_gaps(self, stream: Stream) -> None:
        """Drop the gaps that have been handed over, by moving the places of all that follows."""
        while self.gaps and self.handed + self.offset >= stream.start_of(self.gaps[0].start):
            gap = self.gaps.pop(0)
            self.offset += _bytes(stream, gap)
            self.origin += len(gap)


def _bytes(stream: Stream, messages: range) -> int:
    return stream.start_of(messages.stop) - stream.start_of(messages.start)
