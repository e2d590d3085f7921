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
    from salt_exporter.analysis.stream import Stream

BATCH: Final = 8192  # bytes; options_t::out_batch_size
_NEVER: Final = 1 << 62


@dataclass(slots=True)
class Pipe:
    """Follows one queue from a sample at which nothing had been dropped that is not accounted for.

    Between two samples the bytes handed to the kernel are taken to have risen evenly: what is exact at a sample is an
    estimate in between. `handed` is on the connection's own scale: `handed + offset` is the place in the stream.
    """

    hwm: int
    time: float  # monotonic
    handed: int
    offset: int
    origin: int  # the number that its first message has in the stream, or would have had nothing been dropped since
    next: int  # the number of the next message to be offered
    credit: int = 0
    gaps: list[range] = field(default_factory=list)  # what was dropped behind messages that are still queued
    runs: list[range] = field(default_factory=list)  # the first two runs of dropped messages
    dropped: int = 0
    dropped_bytes: int = 0

    @property
    def lwm(self) -> int:
        """Messages read from one report of the reader to the next."""
        return (self.hwm + 1) // 2 if self.hwm else _NEVER

    def advance(self, stream: Stream, time: float, handed: int) -> None:
        """Take a new sample: offer what was published meanwhile, credit what was read meanwhile."""
        published = stream.messages_at(time)
        rate = (time - self.time) / (handed - self.handed) if handed > self.handed else 0.0
        while True:
            number = self._numbered(self.credit + self.lwm - 1)
            begins = self._begins(stream, number)
            if number >= published or begins >= handed:
                break
            moment = self.time + max(0, begins - self.handed) * rate
            self._offer(stream, min(published, max(number + 1, stream.messages_at(moment))))
            self.credit += self.lwm
        self._offer(stream, published)
        self.time, self.handed = time, handed
        self._forget_passed_gaps(stream)

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
                elif runs is self.gaps or len(runs) < 2:
                    runs.append(lost)

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
