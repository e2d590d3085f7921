"""The stream of published messages: positions, numbers and runs."""

from __future__ import annotations

import pytest

from salt_exporter.analysis import stream as module
from salt_exporter.analysis.stream import Stream, wire_size


def _stream(*sizes: int) -> Stream:
    stream = Stream()
    for second, size in enumerate(sizes, 1):
        stream.append(size, float(second))
    return stream


@pytest.mark.parametrize(("size", "wire"), [(0, 2), (255, 257), (256, 265), (1_000_000, 1_000_009)])
def test_wire_size(size: int, wire: int) -> None:
    """A short message takes 2 bytes more on the wire, one above 255 bytes 9."""
    assert wire == wire_size(size)


def test_positions_and_numbers() -> None:
    """Positions count bytes, numbers count messages, both at a time and at a place."""
    stream = _stream(98, 198, 298)
    assert (3, 607) == (stream.messages, stream.position)
    assert [0, 100, 300, 607] == [stream.position_at(time) for time in (0.5, 1.0, 2.5, 9.0)]
    assert [0, 1, 2, 3] == [stream.messages_at(time) for time in (0.5, 1.0, 2.5, 9.0)]
    assert [0, 1, 1, 2, 3] == [stream.begun_before(position) for position in (0, 1, 100, 101, 9999)]
    assert [0, 100, 300, 607, 607] == [stream.start_of(number) for number in range(5)]
    assert [0, 1, 1, 2, 2, 3] == [stream.nearest(position) for position in (49, 51, 190, 210, 300, 700)]


def test_a_message_is_known_by_its_time() -> None:
    """The message nearest to a time is meant, whichever of both came first; before anything came there is none."""
    stream = _stream(98, 198, 298)
    assert [0, 0, 1, 2, 2] == [stream.number_at(time) for time in (0.1, 1.4, 1.6, 2.9, 9.0)]
    assert Stream().number_at(1.0) is None


def test_a_run_is_found_by_its_size() -> None:
    """Consecutive messages are found by the bytes they take, the start nearest to the expected one first."""
    stream = _stream(98, 198, 98, 198, 498)
    assert range(1, 3) == stream.run(300, 300, range(1, 5), near=1)
    assert range(2, 4) == stream.run(300, 300, range(5), near=2)
    assert range(3, 5) == stream.run(700, 710, range(5), near=0)
    assert range(2, 3) == stream.run(100, 100, range(5), near=2)
    assert stream.run(150, 190, range(5), near=0) is None


def test_equal_sizes_tell_the_number() -> None:
    """Where all messages have one size, so many bytes are so many messages; with mixed sizes they tell less."""
    assert _stream(98, 98, 98).messages_per_byte(0, 3) == pytest.approx(1 / 100)
    assert _stream(98, 98, 898).messages_per_byte(0, 2) == pytest.approx(1 / 100)
    assert _stream(98, 898).messages_per_byte(0, 2) < 1 / 500
    assert Stream().messages_per_byte(0, 0) == 0


def test_old_messages_are_only_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded: numbers and positions go on when the oldest messages are forgotten."""
    monkeypatch.setattr(module, "_KEPT", 10)
    stream = _stream(*[98] * 35)
    assert (35, 3500) == (stream.messages, stream.position)
    assert 10 >= len(stream._ends)
    assert 3400 == stream.start_of(34)
    assert 34 == stream.begun_before(3400)
    assert range(33, 35) == stream.run(200, 200, range(35), near=33)
    assert stream.number_at(20.0) is None
    assert 34 == stream.number_at(35.0)
