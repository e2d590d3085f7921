"""The model of one subscriber's queue, step by step: what it takes, what is read, what it drops.

Messages take 10,000 bytes each, one is published each second, message n in second n + 1. The connection's own scale
begins at `SHIFT`. tests/unit/test_ledger.py lets the model run against one of libzmq.
"""

from __future__ import annotations

import pytest

from salt_exporter.analysis.pipe import BATCH, Pipe
from salt_exporter.analysis.stream import Stream, wire_size

SIZE = 10_000
SHIFT = 50_000
AHEAD = BATCH // 2  # what the engine has read before it hands it over, on average


class Queue:
    """A pipe with its stream."""

    def __init__(self, hwm: int) -> None:
        self.stream = Stream()
        self.pipe = Pipe(hwm, time=0.0, handed=SHIFT, offset=-SHIFT, origin=0, next=0)

    def publish(self, messages: int) -> None:
        """Publish so many messages."""
        for _ in range(messages):
            self.stream.append(SIZE - 9, self.stream.messages + 1.0)
        assert wire_size(SIZE - 9) == SIZE

    def sample(self, handed: int, time: float | None = None, *, empty: bool = False) -> tuple[int, float, list[range]]:
        """Take a sample when all that is published is there, or at a time.

        `handed` in bytes of messages. Returns how many messages wait, how full the queue is, and what was dropped.
        """
        self.pipe.advance(self.stream, time or float(self.stream.messages), SHIFT + handed, empty=empty)
        return self.pipe.waiting(self.stream), round(self.pipe.fill(self.stream), 3), self.pipe.runs


def test_nothing_waits_at_the_beginning() -> None:
    """A queue that nothing was offered to is empty."""
    queue = Queue(4)
    assert (0, 0.0, []) == queue.sample(0)
    assert (0, 0) == queue.pipe.fitted(queue.stream, 5)


def test_who_stalls_at_once_fills_the_queue() -> None:
    """The engine holds one message, the queue four; a queue of four is full when three wait and one is not reported."""
    queue = Queue(4)
    queue.publish(3)
    assert (2, 0.667, []) == queue.sample(0)
    queue.publish(3)
    assert (3, 1.0, [range(4, 6)]) == queue.sample(0)
    assert (2, 20_000) == (queue.pipe.dropped, queue.pipe.dropped_bytes)


def test_reading_gives_room_half_a_queue_at_a_time() -> None:
    """Room is reported at the second message and at the fourth, when the pace of reading says that they were read."""
    queue = Queue(4)
    queue.publish(6)
    queue.sample(0)
    queue.publish(3)
    # Message 1 is read in second 6.6, message 3 in second 8.6: by then 6 and 7 have found room, and 8 after that.
    assert (3, 0.75, [range(4, 6)]) == queue.sample(30_000)
    assert 4 == queue.pipe.credit
    assert (0, 0.0, [range(4, 6)]) == queue.sample(70_000, 12.0, empty=True)
    assert (2, []) == (queue.pipe.origin, queue.pipe.gaps)
    assert -SHIFT + 20_000 == queue.pipe.offset
    queue.publish(3)
    assert (2, 0.5, [range(4, 6)]) == queue.sample(70_000, 13.0)  # the eighth that was taken is with the engine


def test_room_that_comes_late_helps_nobody() -> None:
    """What was published before the engine had read as much as makes room is dropped, though it has been read since."""
    queue = Queue(4)
    queue.publish(6)
    queue.sample(0)
    queue.publish(6)
    queue.sample(0)
    queue.publish(6)
    # Message 1 is read in second 13.8, when 13 have been published: two of the others find the room that it makes.
    assert (3, 1.0, [range(4, 13), range(15, 18)]) == queue.sample(20_000)


@pytest.mark.parametrize(("more", "credit"), [(0, 0), (1, 2)])
def test_message_is_read_when_the_engine_is_past_its_place(more: int, credit: int) -> None:
    """Half a batch before the message is handed over, not a byte earlier."""
    queue = Queue(4)
    queue.publish(3)
    queue.sample(0)
    queue.sample(SIZE - AHEAD + more, 4.0)
    assert credit == queue.pipe.credit


def test_engine_may_be_past_a_gap_that_was_not_handed_over() -> None:
    """What was dropped was never in the queue: it is neither read nor waiting."""
    queue = Queue(4)
    queue.publish(6)
    queue.sample(0)
    assert (0, 0.0, [range(4, 6)]) == queue.sample(37_000, 7.0)
    assert [range(4, 6)] == queue.pipe.gaps
    queue.publish(3)
    assert (3, 0.75, [range(4, 6)]) == queue.sample(37_000, 10.0)


def test_number_at_a_gap_is_the_one_behind_it() -> None:
    """Of a queue of five that is full the next one it takes is the first after those that were dropped."""
    queue = Queue(5)
    queue.publish(8)
    queue.sample(0)
    assert [range(5, 8)] == queue.pipe.gaps
    queue.publish(3)
    queue.sample(45_000)
    assert 3 == queue.pipe.credit  # the sixth message that it takes is message 8, which is not read yet
    queue.sample(56_000, 12.0)
    assert 6 == queue.pipe.credit


def test_of_many_runs_the_first_and_the_last_are_kept() -> None:
    """What lies in between is counted, and no place in memory is needed for it."""
    queue = Queue(2)
    handed = 0
    for _ in range(4):
        queue.publish(5)
        queue.sample(handed)
        handed += SIZE
    assert 2 == len(queue.pipe.runs)
    assert range(3, 7) == queue.pipe.runs[0]  # one is with the engine, two wait, and room comes in second 7.9
    assert queue.pipe.runs[1].stop == queue.stream.messages
    assert queue.pipe.dropped > sum(map(len, queue.pipe.runs))
    assert queue.pipe.dropped * SIZE == queue.pipe.dropped_bytes


@pytest.mark.parametrize(
    ("lost", "fitted"),
    [(0, (2, 20_000)), (30_000, (3, 30_000)), (44_000, (4, 40_000)), (46_000, (5, 50_000)), (70_000, (7, 70_000))],
)
def test_end_of_the_last_run_is_where_the_bytes_fit(lost: int, fitted: tuple[int, int]) -> None:
    """The first run is sure; how long the last one was, the bytes tell."""
    queue = Queue(4)
    queue.publish(20)
    queue.pipe.runs = [range(4, 6), range(10, 13)]
    queue.pipe.dropped, queue.pipe.dropped_bytes = 5, 50_000

    assert fitted == queue.pipe.fitted(queue.stream, lost)


def test_without_a_mark_nothing_is_dropped() -> None:
    """`pub_hwm: 0` is a queue without an end, which is never full."""
    queue = Queue(0)
    queue.publish(1000)
    assert (999, 0.0, []) == queue.sample(0)


def test_queue_that_was_empty_is_read_at_once() -> None:
    """Who keeps up has every message read as it comes, however many more than the queue holds come between samples."""
    queue = Queue(4)
    queue.publish(20)
    assert (0, 0.0, []) == queue.sample(20 * SIZE, empty=True)
